//! Whoever has waited for long for a component that nobody has spoken well of is to be asked all the same, but a few first, as
//! in a surge: of an outage that lasts, of those that did not come back after one, and at the deadline of a covering recovery.

use super::WHO;
use super::detect::{Flood, baseline, make_way, record, row};
use super::release::{carry_out, locked};
use crate::domain::class::Class;
use crate::domain::id::ComponentId;
use crate::domain::surge::{Kind, Next, Occasion, Rules, Stage, Why, minute, normal, ripe};
use crate::domain::time::{Span, Timestamp};
use crate::flow::setting::Setting;
use crate::store::surge::Surge;
use crate::store::tallies::{self, Suspect};
use crate::store::{Store, StoreError, Tx, ingest, journal, surge as db, waiting};

/// So often this is looked at.
const EVERY: Span = Span::minutes(1);

/// Opens a surge for every component whose first customers have waited for the longest hold, less the canary's own time;
/// whether there was any. So few that all would be the canary need none.
pub(super) async fn look(store: &Store, setting: &Setting, rules: &Rules) -> Result<bool, StoreError> {
    let limits = setting.limits(Class::ActionRequired);
    let Some(longest) = limits.longest_hold else { return Ok(false) };
    let mut tx = store.read().await?;
    let due_by = tx.now() + rules.canary_wait + EVERY;
    let before = due_by - longest;
    let down = tallies::down(&mut tx).await?.into_iter().map(|component| (component, Occasion::Lasting));
    // Where nobody looks for floods nobody would see that the few come back by themselves.
    let back = if setting.surge.is_some() { tallies::back(&mut tx, due_by).await? } else { Vec::new() };
    let mut overdue = Vec::new();
    for (component, occasion) in down.chain(back.into_iter().map(|component| (component, Occasion::NotBack))) {
        // Those of an outage before this one wait, too, each until its own longest hold has ended.
        let is_down = occasion == Occasion::Lasting;
        let put_off = waiting::oldest_put_off(&mut tx, component.id, due_by, is_down).await?;
        let first = if is_down { waiting::first_due(&mut tx, component.id).await? } else { None };
        let first = first.map(|due| due - limits.dwell);
        let Some(since) = first.into_iter().chain(put_off).min().filter(|first| *first <= before) else { continue };
        let over = (ripe(tx.now(), Some(longest)), Timestamp::END);
        let mails = waiting::count(&mut tx, component.id, Some(over)).await?;
        if mails > rules.canary_least {
            overdue.push((flood(&mut tx, rules, component, occasion, since).await?, mails));
        }
    }
    drop(tx);
    let mut progress = false;
    for (flood, mails) in &overdue {
        let how = match flood.occasion {
            Occasion::Lasting => "it is still reported to be down",
            _ => "not all have come back with it",
        };
        let because = format!("{how}, and the first of {mails} mails has waited for the longest hold");
        // What it holds would leave in a moment: the canary is told to operators, not this.
        let mut tx = store.begin().await?;
        let surge = Surge { why: Why::LongestHold, stage_at: flood.since, ..row(flood, tx.now(), WHO, because) };
        progress |= begin(&mut tx, setting, flood, surge).await?;
        tx.commit().await?;
    }
    Ok(progress)
}

/// With no failures counted: what came in during an outage is no evidence, and any flood from now on is news.
async fn flood(
    tx: &mut Tx,
    rules: &Rules,
    component: Suspect,
    occasion: Occasion,
    since: Timestamp,
) -> Result<Flood, StoreError> {
    let (totals, seen) = baseline(tx, rules, &component, minute(tx.now())).await?;
    Ok(Flood {
        kind: Kind::Flood,
        occasion,
        evidence: rules.flood.evidence(0, normal(totals.failed, seen, rules.flood.minutes)),
        normal_recovered: normal(totals.recovered, seen, rules.recoveries.minutes),
        since,
        connections: db::connections(tx, Some(component.id)).await?,
        component,
    })
}

/// Records one for those who wait, unless its component went down or came back meanwhile, or has one; whether it did.
async fn begin(tx: &mut Tx, setting: &Setting, flood: &Flood, surge: Surge) -> Result<bool, StoreError> {
    let found = ingest::components(tx, &[&flood.component.key], true).await?.pop();
    let Some(component) = found.map(|found| found.domain()) else { return Ok(false) };
    journal::lock(tx).await?;
    let lasts = flood.occasion == Occasion::Lasting;
    if component.down_since.is_some() != lasts {
        return Ok(false);
    }
    let surge = Surge { reported: lasts, episode: lasts.then_some(component.episode), ..surge };
    let Some(surge) = make_way(tx, setting, flood, surge).await? else { return Ok(false) };
    let surge = record(tx, setting, surge).await?;
    tracing::warn!(surge = %surge.id, "component {}: {}; `allclear surge` shows it", flood.component.key, surge.because);
    Ok(true)
}

/// Holds those back of whom a few are to be asked first: `unconfirmed` connections, or more, have let the deadline of a
/// covering recovery pass. Whether anything was to be done; nothing is where they are held already, or few.
///
/// # Errors
/// When the database fails.
pub async fn unconfirmed(
    tx: &mut Tx,
    setting: &Setting,
    component: ComponentId,
    unconfirmed: usize,
) -> Result<bool, StoreError> {
    let Some(rules) = setting.surge else { return Ok(false) };
    // A full page is of more than it shows.
    let few = i64::try_from(unconfirmed).is_ok_and(|n| n <= rules.canary_least && n < setting.page);
    if few || db::is_down(tx, component).await? {
        return Ok(false);
    }
    let open = db::open(tx).await?.into_iter().find(|s| s.component_id == Some(component) && s.kind == Kind::Flood);
    match open.filter(|s| s.occasion != Occasion::NotBack) {
        None => {
            let Some(component) = tallies::suspect_of(tx, component).await? else { return Ok(false) };
            let flood = flood(tx, &rules, component, Occasion::Unconfirmed, tx.now()).await?;
            let because = "many connections have not confirmed the recovery that spoke for them".to_owned();
            let surge = Surge { why: Why::Unconfirmed, ..row(&flood, tx.now(), WHO, because) };
            begin(tx, setting, &flood, surge).await
        }
        // It would let these go with those whose canary was well. What an operator lets go stays so.
        Some(seen) if lets_go(&seen) => {
            let Some(mut surge) = locked(tx, &seen).await?.filter(lets_go) else { return Ok(true) };
            let next = Next::Stop(Why::Unconfirmed);
            carry_out(tx, setting, &rules, &mut surge, next, false, WHO, None).await?;
            Ok(true)
        }
        Some(_) => Ok(false),
    }
}

fn lets_go(surge: &Surge) -> bool {
    surge.stage == Stage::Releasing && surge.why != Why::ByHand
}
