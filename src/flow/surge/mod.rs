//! Watching for surges: now and then the counts of the last minutes are judged, floods open an outage of their component,
//! and what is open goes on by one step. The rules are in `domain::surge`; here their decisions are carried out.

mod detect;
mod operate;
mod overdue;
mod release;
mod step;

pub use operate::{Act, Acted, Asked, Refused, act, hold};
pub use overdue::unconfirmed;

use super::dispatch::Shared;
use super::patience;
use crate::domain::surge::minute;
use crate::domain::time::{Span, Timestamp};
use crate::store::{StoreError, surge as db, tallies};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Who opens and ends surges that nobody asked for.
pub(super) const WHO: &str = "surge";

/// How often the counts are judged: it must be far below the dwell.
const EVERY: Span = Span::seconds(5);

/// When this process last looked, and in which minute it last looked at what is costly to know.
#[derive(Clone, Debug, Default)]
pub struct Watch(Arc<AtomicI64>, Arc<AtomicI64>);

impl Watch {
    /// Whether it is time to look again; notes that it is looked at.
    fn is_due(&self, now: Timestamp) -> bool {
        let last = Timestamp(self.0.load(Ordering::Relaxed));
        let due = now < last || now - last >= EVERY;
        if due {
            self.0.store(now.0, Ordering::Relaxed);
        }
        due
    }

    /// Whether a minute has begun since it was last asked.
    fn is_new_minute(&self, now: Timestamp) -> bool {
        self.1.swap(minute(now), Ordering::Relaxed) != minute(now)
    }
}

/// Looks after surges and after failures that were to heal by themselves, when it is time; whether anything came of it.
/// Several nodes may look at once: each change is made by one of them.
///
/// # Errors
/// When the database fails; what was not committed is done again.
pub async fn watch(shared: &Shared) -> Result<bool, StoreError> {
    let (store, setting) = (&shared.store, &*shared.setting);
    let mut tx = store.read().await?;
    let now = tx.now();
    if !shared.watch.is_due(now) {
        return Ok(false);
    }
    let new_minute = shared.watch.is_new_minute(now);
    let (mut progress, mut found, mut reporter) = (false, Vec::new(), None);
    let open = db::open(&mut tx).await?;
    if let Some(rules) = &setting.surge {
        found = detect::look(&mut tx, rules, &open).await?;
        if new_minute {
            reporter = detect::reporter(&mut tx, rules, &open, &found).await?;
        }
    }
    drop(tx);
    for flood in &found {
        progress |= detect::open(store, setting, flood).await?;
    }
    if let Some(suspicion) = reporter {
        progress |= detect::suspect_reporter(store, setting, &suspicion).await?;
    }
    // An operator may have opened one where nobody looks for floods.
    let rules = setting.surge.unwrap_or_default();
    if new_minute {
        progress |= overdue::look(store, setting, &rules).await?;
    }
    for surge in &open {
        progress |= step::step(store, setting, &rules, surge, new_minute).await?;
    }
    while patience::end(store, setting).await? {
        progress = true;
    }
    if minute(now) % 60 == 0 {
        let mut tx = store.begin().await?;
        tallies::forget(&mut tx, minute(now - rules.baseline)).await?;
        tx.commit().await?;
    }
    Ok(progress)
}
