//! Outages that a source reported, and that last: whoever has waited for the longest hold is to be asked all the same, but
//! a few first, as in a surge.

use super::WHO;
use super::detect::{Flood, baseline, make_way, row};
use crate::domain::class::Class;
use crate::domain::hold::{HoldCause, HoldScope};
use crate::domain::surge::{Kind, Rules, Why, minute, normal};
use crate::domain::time::{Span, Timestamp};
use crate::flow::setting::Setting;
use crate::store::surge::Surge;
use crate::store::tallies::{self, Suspect};
use crate::store::{Store, StoreError, Tx, holds, ingest, journal, surge as db};

/// So often this is looked at.
const EVERY: Span = Span::minutes(1);

/// Opens a surge for every outage whose first customers have waited for the longest hold, less the canary's own time;
/// whether there was any. So few that all would be the canary need none.
pub(super) async fn look(store: &Store, setting: &Setting, rules: &Rules) -> Result<bool, StoreError> {
    let limits = setting.limits(Class::ActionRequired);
    let Some(longest) = limits.longest_hold else { return Ok(false) };
    let mut tx = store.read().await?;
    let now = tx.now();
    let due_by = now + rules.canary_wait + EVERY;
    let before = due_by - longest;
    let mut overdue = Vec::new();
    for component in tallies::down(&mut tx).await? {
        // Those of an outage before this one wait, too, each until its own longest hold has ended.
        let first = db::first_due(&mut tx, component.id).await?.map(|due| due - limits.dwell);
        let put_off = db::oldest_put_off(&mut tx, component.id, due_by).await?;
        if let Some(since) = first.into_iter().chain(put_off).min().filter(|first| *first <= before) {
            let waiting = db::waiting(&mut tx, component.id).await?;
            if waiting > rules.canary_least {
                overdue.push((flood(&mut tx, rules, component, since).await?, waiting));
            }
        }
    }
    drop(tx);
    let mut progress = false;
    for (flood, waiting) in overdue {
        progress |= begin(store, &flood, waiting).await?;
    }
    Ok(progress)
}

async fn flood(tx: &mut Tx, rules: &Rules, component: Suspect, since: Timestamp) -> Result<Flood, StoreError> {
    let (totals, seen) = baseline(tx, rules, &component, minute(tx.now())).await?;
    Ok(Flood {
        kind: Kind::Flood,
        evidence: rules.flood.evidence(0, normal(totals.failed, seen, rules.flood.minutes)),
        normal_recovered: normal(totals.recovered, seen, rules.recoveries.minutes),
        since,
        connections: db::connections(tx, Some(component.id)).await?,
        component,
    })
}

/// What it holds would leave in a moment: the canary is told to operators, not this.
async fn begin(store: &Store, flood: &Flood, waiting: i64) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    let found = ingest::components(&mut tx, &[&flood.component.key], true).await?.pop();
    journal::lock(&mut tx).await?;
    let Some(component) = found.map(|found| found.domain()).filter(|c| c.down_since.is_some()) else {
        return Ok(false);
    };
    if !make_way(&mut tx, flood).await? {
        return Ok(false);
    }
    let because =
        format!("it is still reported to be down, and the first of {waiting} mails has waited for the longest hold");
    let hold =
        holds::put(&mut tx, HoldScope::Component(flood.component.id), HoldCause::Surge, &because, None, WHO).await?;
    let surge = Surge {
        reported: true,
        episode: Some(component.episode),
        hold_id: Some(hold),
        why: Why::LongestHold,
        stage_at: flood.since,
        ..row(flood, tx.now(), WHO, because)
    };
    db::save(&mut tx, &surge).await?;
    tx.commit().await?;
    Ok(true)
}
