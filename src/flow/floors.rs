//! How far back in each lane a dispatcher looks for what is due. On PostgreSQL what has left lies at the head of the
//! lane's index until a vacuum: whoever begins there again walks over a million dead entries for the next mail.

use crate::domain::id::LaneId;
use crate::domain::time::{Span, Timestamp};
use crate::store::queue::Lane;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// So often everything is looked at all the same: what another node puts back is due before what was seen.
const WHOLE_EVERY: Duration = Duration::from_secs(2);

/// Where that takes long, it is done for a fiftieth of the time at most, and once in a minute at least.
const SHARE: u32 = 50;
const WHOLE_AT_LEAST: Duration = Duration::from_secs(60);

/// What becomes due now may have been written by a transaction that began a moment ago.
const MARGIN: Span = Span::seconds(5);

/// What is known to be behind.
#[derive(Debug, Default)]
pub struct Floors {
    /// When the last whole reading began, and, once it has ended, when the next is due.
    whole_at: Option<Instant>,
    next_whole: Option<Instant>,
    of: HashMap<LaneId, Timestamp>,
}

impl Floors {
    /// The next reading is whole.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// The floors for a reading; none when it is time for a whole one.
    pub fn to_read_from(&mut self) -> &HashMap<LaneId, Timestamp> {
        let now = Instant::now();
        if self.next_whole.is_none_or(|at| now >= at) {
            *self = Self { whole_at: Some(now), ..Self::default() };
        }
        &self.of
    }

    /// What a reading has shown.
    pub fn learn(&mut self, lanes: &[Lane], now: Timestamp) {
        if let Some(began) = self.whole_at.take() {
            let took = began.elapsed();
            self.next_whole = Some(Instant::now() + (took * SHARE).clamp(WHOLE_EVERY, WHOLE_AT_LEAST));
        }
        self.of = lanes.iter().map(|lane| (lane.id, lane.next_due.unwrap_or(now).min(now - MARGIN))).collect();
    }
}
