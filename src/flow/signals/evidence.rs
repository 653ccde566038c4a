//! Which of the signals of a batch are evidence of a flood of failures or of recoveries.

use crate::domain::connection::{By, Connection, Covering, Effect, Said};
use crate::domain::id::ComponentId;
use crate::domain::time::Timestamp;
use crate::flow::ingest::Windows;
use crate::store::tallies::Tally;
use std::collections::{BTreeMap, HashMap};

/// What was heard in a batch, and is to be counted at its end.
pub(super) struct Evidence {
    now: Timestamp,
    windows: Windows,
    failed: HashMap<String, Failed>,
    recovered: BTreeMap<ComponentId, Tally>,
}

/// What a connection's failures in a batch are as evidence.
#[derive(Default)]
struct Failed {
    is_new: bool,
    is_new_slow: bool,
    is_recent: bool,
}

impl Evidence {
    pub(super) fn new(now: Timestamp, windows: Windows) -> Self {
        Self { now, windows, failed: HashMap::new(), recovered: BTreeMap::new() }
    }

    /// Takes in what a signal did to a connection. One that fails or recovers again and again counts once in each window.
    pub(super) fn hear(
        &mut self,
        key: &str,
        of: ComponentId,
        said: Said,
        effect: Effect,
        (before, coverings): (Connection, &[Covering]),
        after: &Connection,
    ) {
        let windows = self.windows;
        match (effect, after.failed_at) {
            (Effect::Broke { ask: true }, Some(at)) => {
                let last = before.failed_at.filter(|_| before.is_well(coverings));
                let is_new = |window| last.is_none_or(|last| at - last > window);
                let failed = self.failed.entry(key.to_owned()).or_default();
                failed.is_new |= is_new(windows.failed);
                failed.is_new_slow |= is_new(windows.failed_slow);
                failed.is_recent |= self.now - at <= windows.failed;
            }
            (Effect::Cleared, _)
                if said.by != By::Customer
                    && before.well_as_of.is_none_or(|last| said.observed_at - last > windows.recovered) =>
            {
                let tally = self.recovered.entry(of).or_default();
                tally.recovered += 1;
                tally.recovered_unknown += i64::from(said.by == By::Unknown);
            }
            _ => {}
        }
    }

    /// Forgets the failures of these connections: their component is back.
    pub(super) fn forget(&mut self, is_of: impl Fn(&str) -> bool) {
        self.failed.retain(|key, _| !is_of(key));
    }

    /// Counts who is broken at the end of the batch, or was a moment ago: what a file tells of the past is no evidence.
    /// `broken` says of a connection its component, when it failed and whether it is well; `None` of one that failed in an
    /// outage that is over: it waits to come back.
    pub(super) fn count(
        self,
        broken: impl Fn(&str) -> Option<(ComponentId, Timestamp, bool)>,
    ) -> BTreeMap<ComponentId, Tally> {
        let mut tallies = self.recovered;
        for (key, failed) in &self.failed {
            match broken(key) {
                Some((component, at, is_well)) if failed.is_recent || !is_well => {
                    tallies.entry(component).or_default().fail(at, failed.is_new, failed.is_new_slow);
                }
                _ => {}
            }
        }
        tallies
    }
}
