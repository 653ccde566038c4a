//! What is changed about a surge, by the rules or by hand: each change in one transaction, with its line in the journal.

use super::WHO;
use super::detect::{BACK, open_episode};
use crate::domain::class::Class;
use crate::domain::hold::{HoldCause, HoldScope};
use crate::domain::id::ComponentId;
use crate::domain::surge::{Next, Occasion, Rules, Stage, WAVE, Why, minute, ripe};
use crate::domain::time::{Span, Timestamp};
use crate::flow::alert;
use crate::flow::setting::Setting;
use crate::store::lanes::Fence;
use crate::store::surge::Surge;
use crate::store::{StoreError, Tx, holds, ingest, journal, lanes, surge as db, tallies, waiting};

/// An open surge as it is now, locked against change: its component first, as everywhere.
pub(super) async fn locked(tx: &mut Tx, seen: &Surge) -> Result<Option<Surge>, StoreError> {
    if let Some(key) = &seen.component {
        ingest::components(tx, &[key], true).await?;
    }
    Ok(db::surge(tx, seen.id).await?.filter(|surge| surge.ended_at.is_none()))
}

/// Carries a step out. `reason` is an operator's, and stands in the journal.
#[expect(clippy::too_many_arguments, reason = "what it changes, how, why and for whom")]
pub(super) async fn carry_out(
    tx: &mut Tx,
    setting: &Setting,
    rules: &Rules,
    surge: &mut Surge,
    next: Next,
    flooding: bool,
    who: &str,
    reason: Option<&str>,
) -> Result<(), StoreError> {
    let now = tx.now();
    let (stage, why) = match next {
        Next::Stay(why) => {
            // What a release was begun for stays written on it.
            if surge.stage == Stage::Holding {
                surge.why = why;
            }
            return db::save(tx, surge).await;
        }
        Next::Canary(why) => (Stage::Canary, why),
        Next::Release(why) => (Stage::Releasing, why),
        Next::Stop(why) => (Stage::Holding, why),
        Next::End(why) => (Stage::Over, why),
    };
    // A canary in which nobody could be asked yet is tried anew: nobody need hear of it again.
    let is_repeated = who == WHO && (surge.stage, surge.why) == (stage, why);
    let reason = reason.unwrap_or_else(|| why.explained());
    if let (Some(component), Some(key)) = (surge.component_id, surge.component.clone()) {
        // What has not left of the few that were asked before waits with the others.
        waiting::call_back(tx, surge.id, component).await?;
        match next {
            Next::Stay(_) => {}
            Next::Canary(_) => {
                (surge.flooding, surge.ceased) = (flooding, false);
                let lane = lanes::lane(tx, Class::ActionRequired, Fence::None).await?;
                let longest = setting.limits(Class::ActionRequired).longest_hold;
                for planned in surge.canaries_of(why, now, longest) {
                    let most = rules.canaries(waiting::count(tx, component, planned).await?);
                    waiting::send_ahead(tx, component, lane, surge.id, most, planned, ripe(now, longest)).await?;
                }
            }
            Next::Release(why) => {
                // What failed before it was released at once is no flood that returns.
                if surge.stage == Stage::Holding {
                    (surge.flooding, surge.ceased) = (flooding, false);
                }
                if !surge.asks_each_in_time(why) && end_episode(tx, surge, &key).await? {
                    waiting::hasten(tx, component).await?;
                }
            }
            Next::Stop(why) => {
                if surge.hold_id.is_none() {
                    let scope = HoldScope::Component(component);
                    surge.hold_id = Some(holds::put(tx, scope, HoldCause::Surge, why.explained(), None, who).await?);
                }
                if why == Why::ComponentRecovered {
                    (surge.episode, surge.reported) = (None, false);
                    if surge.occasion != Occasion::Unconfirmed {
                        surge.occasion = Occasion::NotBack;
                    }
                }
                // What was given up goes on: then its component's recovery ends it. Where nothing failed newly, nothing was.
                let failing_as_of = match why {
                    _ if surge.occasion.nothing_failed() => None,
                    Why::SurgeReturns => {
                        let first = first_failure(tx, rules, component).await?;
                        // Where those of before have had their time, those of now have one of their own; once, for those of
                        // before wait with them.
                        let longest = setting.limits(Class::ActionRequired).longest_hold;
                        let is_first = surge.waits_since.is_none() && !surge.asks_each_in_time(surge.why);
                        if is_first && longest.is_some_and(|longest| now - surge.since >= Span(longest.0 - WAVE.0)) {
                            surge.waits_since = Some(first);
                        }
                        Some(first)
                    }
                    Why::RecoveriesRise | Why::ReporterSuspect | Why::ByHand => Some(surge.since),
                    _ => None,
                };
                if let Some(as_of) = failing_as_of.filter(|_| surge.episode.is_none()) {
                    surge.episode = open_episode(tx, &key, surge.since, as_of).await?.map(|(n, _)| n);
                }
            }
            Next::End(_) if surge.occasion.nothing_failed() => {}
            Next::End(_) => tallies::begin_anew(tx, component).await?,
        }
    }
    let before = surge.stage;
    let holds_on = matches!(stage, Stage::Holding | Stage::Canary);
    if let Some(hold) = surge.hold_id.filter(|_| !holds_on) {
        holds::release(tx, |h| h.id == hold, reason, who).await?;
        surge.hold_id = None;
    }
    (surge.stage, surge.stage_at, surge.why) = (stage, now, why);
    surge.ended_at = (stage == Stage::Over).then_some(now);
    db::save(tx, surge).await?;
    if let (Some(id), Some(key), Next::Stop(Why::ComponentRecovered)) = (surge.component_id, &surge.component, next)
        && let Some(component) = ingest::components(tx, &[key], true).await?.pop()
    {
        // It may be down once more by now.
        db::reported(tx, id, &component.domain()).await?;
    }
    if is_repeated {
        return Ok(());
    }
    let action = format!("surge {stage}");
    journal::append(tx, who, &action, &surge.subject(), &format!("{why}: {reason}")).await?;
    // Of what the rules do about asking customers, operators are sent a mail; of what they do themselves they know. Their
    // system follows all of it.
    let is_news = match next {
        Next::Canary(_) => true,
        Next::Stop(_) => before != Stage::Holding,
        _ => false,
    };
    if is_news && who == WHO {
        alert::mail(tx, setting, surge, why).await?;
    }
    alert::post_later(tx, setting, surge, why).await
}

/// Ends a surge in whose place another begins.
pub(super) async fn give_way(tx: &mut Tx, setting: &Setting, mut surge: Surge) -> Result<(), StoreError> {
    let (now, why) = (tx.now(), Why::SurgeReturns);
    if let Some(component) = surge.component_id {
        waiting::call_back(tx, surge.id, component).await?;
    }
    if let Some(hold) = surge.hold_id.take() {
        holds::release(tx, |h| h.id == hold, why.explained(), WHO).await?;
    }
    (surge.stage, surge.stage_at, surge.why, surge.ended_at) = (Stage::Over, now, why, Some(now));
    db::save(tx, &surge).await?;
    journal::append(tx, WHO, "surge over", &surge.subject(), why.explained()).await?;
    alert::post_later(tx, setting, &surge, why).await
}

/// Ends the outage that a surge opened, if nobody else has: it is given up, not known to be over. Whether there was one.
async fn end_episode(tx: &mut Tx, surge: &mut Surge, key: &str) -> Result<bool, StoreError> {
    let (Some(n), Some(component)) = (surge.episode.take(), ingest::components(tx, &[key], true).await?.pop()) else {
        return Ok(false);
    };
    let mut state = component.domain();
    let lasts = state.episode == n && state.down_since.is_some();
    if lasts {
        db::release_episode(tx, component.id, n).await?;
        state.down_since = None;
        state.overruled = surge.reported;
        ingest::save_component(tx, component.id, &state).await?;
    }
    Ok(lasts)
}

async fn first_failure(tx: &mut Tx, rules: &Rules, component: ComponentId) -> Result<Timestamp, StoreError> {
    let after = minute(tx.now()) - rules.flood.minutes;
    let counts = tallies::counts(tx, Some(component), after).await?;
    Ok(counts.iter().filter_map(|c| c.first_at).min().unwrap_or(tx.now()).max(tx.now() - BACK))
}
