//! What is changed about a surge, by the rules or by hand: each change in one transaction, with its line in the journal.

use super::WHO;
use super::detect::open_episode;
use crate::domain::class::Class;
use crate::domain::hold::{HoldCause, HoldScope};
use crate::domain::id::ComponentId;
use crate::domain::surge::{Rules, Stage, Why, minute};
use crate::domain::time::Timestamp;
use crate::flow::alert;
use crate::flow::setting::Setting;
use crate::store::lanes::Fence;
use crate::store::surge::Surge;
use crate::store::{StoreError, Tx, holds, ingest, journal, lanes, surge as db, tallies};

/// A change, with the name of its reason.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    /// A few are asked.
    Canary(Why),
    /// All that are still broken are asked.
    Release(Why),
    /// Nobody is asked again.
    Stop(Why),
    /// It is over.
    End(Why),
}

/// An open surge as it is now, locked against change: its component first, as everywhere.
pub(super) async fn locked(tx: &mut Tx, seen: &Surge) -> Result<Option<Surge>, StoreError> {
    if let Some(key) = &seen.component {
        ingest::components(tx, &[key], true).await?;
    }
    Ok(db::surge(tx, seen.id).await?.filter(|surge| surge.ended_at.is_none()))
}

/// Carries a change out. `reason` is an operator's, and stands in the journal.
#[expect(clippy::too_many_arguments, reason = "what it changes, how, why and for whom")]
pub(super) async fn carry_out(
    tx: &mut Tx,
    setting: &Setting,
    rules: &Rules,
    surge: &mut Surge,
    change: Change,
    flooding: bool,
    who: &str,
    reason: Option<&str>,
) -> Result<(), StoreError> {
    let now = tx.now();
    let (stage, why) = match change {
        Change::Canary(why) => (Stage::Canary, why),
        Change::Release(why) => (Stage::Releasing, why),
        Change::Stop(why) => (Stage::Holding, why),
        Change::End(why) => (Stage::Over, why),
    };
    let reason = reason.unwrap_or_else(|| why.explained());
    if let (Some(component), Some(key)) = (surge.component_id, surge.component.clone()) {
        // What has not left of the few that were asked before waits with the others.
        db::call_back(tx, surge.id, component).await?;
        match change {
            Change::Canary(_) => {
                surge.flooding = flooding;
                let lane = lanes::lane(tx, Class::ActionRequired, Fence::None).await?;
                let most = rules.canaries(db::waiting(tx, component).await?);
                db::send_ahead(tx, component, lane, surge.id, most).await?;
            }
            Change::Release(why) => {
                if !surge.reported || why == Why::ByHand {
                    end_episode(tx, surge, &key).await?;
                }
                db::hasten(tx, component).await?;
            }
            Change::Stop(why) => {
                if surge.hold_id.is_none() {
                    let scope = HoldScope::Component(component);
                    surge.hold_id = Some(holds::put(tx, scope, HoldCause::Surge, why.explained(), None, who).await?);
                }
                // What was given up goes on: then its component's recovery ends it.
                let since = match why {
                    Why::SurgeReturns => Some(first_failure(tx, rules, component).await?),
                    Why::RecoveriesRise | Why::ByHand => Some(surge.since),
                    _ => None,
                };
                if let Some(since) = since.filter(|_| surge.episode.is_none()) {
                    surge.episode = open_episode(tx, &key, since).await?;
                }
            }
            Change::End(_) => tallies::begin_anew(tx, component).await?,
        }
    }
    let holds_on = matches!(stage, Stage::Holding | Stage::Canary);
    if let Some(hold) = surge.hold_id.filter(|_| !holds_on) {
        holds::release(tx, |h| h.id == hold, reason, who).await?;
        surge.hold_id = None;
    }
    (surge.stage, surge.stage_at, surge.why) = (stage, now, why);
    surge.ended_at = (stage == Stage::Over).then_some(now);
    db::save(tx, surge).await?;
    let action = format!("surge {stage}");
    journal::append(tx, who, &action, &surge.id.to_string(), &format!("{why}: {reason}")).await?;
    // Of what the rules do about asking customers, operators hear; of what they do themselves they know.
    if matches!(change, Change::Canary(_) | Change::Stop(_)) && who == WHO {
        alert::tell(tx, setting, surge, Some(why)).await?;
    }
    Ok(())
}

/// Ends the outage that a surge opened, if nobody else has: it is given up, not known to be over.
async fn end_episode(tx: &mut Tx, surge: &mut Surge, key: &str) -> Result<(), StoreError> {
    let (Some(n), Some(component)) = (surge.episode.take(), ingest::components(tx, &[key], true).await?.pop()) else {
        return Ok(());
    };
    let mut state = component.domain();
    if state.episode == n && state.down_since.is_some() {
        db::release_episode(tx, component.id, n).await?;
        state.down_since = None;
        ingest::save_component(tx, component.id, &state).await?;
    }
    Ok(())
}

async fn first_failure(tx: &mut Tx, rules: &Rules, component: ComponentId) -> Result<Timestamp, StoreError> {
    let after = minute(tx.now()) - rules.flood.minutes;
    let counts = tallies::counts(tx, Some(component), after).await?;
    Ok(counts.iter().filter_map(|c| c.first_at).min().unwrap_or(tx.now()))
}
