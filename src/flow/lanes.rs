//! The lanes in which a dispatcher finds what is due, and whose turn it is.

use super::floors::Floors;
use super::setting::{Setting, Stream};
use crate::domain::class::Class;
use crate::domain::id::LaneId;
use crate::domain::time::Span;
use crate::store::queue::{self, Hold, Lane};
use crate::store::streams::Probe;
use crate::store::{StoreError, Tx};
use std::collections::HashMap;

/// The lanes of a stream.
#[derive(Debug, Default)]
pub struct Lanes {
    /// Those in which something may leave now: first whoever has had no turn for longest, of these urgent classes first.
    pub open: Vec<Lane>,
    /// What is known to be behind in each.
    pub floors: Floors,
    /// So often a lane was taken from.
    turn: u64,
    /// When each lane was last taken from: where there are fewer slots than lanes, each has its turn.
    last: HashMap<LaneId, u64>,
}

impl Lanes {
    /// Reads in which lanes something may leave now, and the stream's pause.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn read(&mut self, tx: &mut Tx, setting: &Setting, stream: &Stream) -> Result<Option<Probe>, StoreError> {
        let now = tx.now();
        let queue::Open { mut lanes, holds, pause } = queue::open(tx, self.floors.to_read_from(), &stream.name).await?;
        self.floors.learn(&lanes, now);
        self.last.retain(|id, _| lanes.iter().any(|lane| lane.id == *id));
        lanes.retain_mut(|lane| {
            if setting.gate {
                lane.overdue = overdue(lane, setting);
            }
            stream.classes.contains(&lane.class) && lane.is_due(now) && (!setting.gate || is_open(lane, &holds))
        });
        self.open = lanes;
        self.sort();
        Ok(pause)
    }

    /// Something was taken from these, in this order, and some have more. Where not all of it may leave, as under a cap, the
    /// first had the best chance: it comes last the next time.
    pub fn gave(&mut self, served: &[LaneId], more: Vec<Lane>) {
        for id in served.iter().skip(1).chain(served.first()) {
            self.turn += 1;
            self.last.insert(*id, self.turn);
        }
        self.open.extend(more);
        self.sort();
    }

    fn sort(&mut self) {
        let last = &self.last;
        self.open.sort_by_key(|lane| (last.get(&lane.id).copied(), lane.class, lane.next_due));
    }
}

/// A held lane is skipped as a whole, so that what waits in it costs nothing; the look still asks for every mail.
fn is_open(lane: &Lane, holds: &[Hold]) -> bool {
    !holds.iter().any(|hold| match (hold.scope.as_str(), hold.cause.as_str()) {
        (_, "stop") => true,
        _ if lane.class == Class::Correction => false,
        // Own faults and canaries pass it; the gate knows them.
        (_, "surge") if lane.class != Class::ActionRequired || lane.fence_kind == "none" => false,
        ("everything", _) => true,
        ("class", _) => hold.class == Some(lane.class),
        _ => lane.fence_kind == "component" && hold.component_id.is_some_and(|c| c.0 == lane.fence_id),
    })
}

/// While its component is down a lane gives only what has been held for the longest hold. What has not is not even
/// met: a lane of a million would be put off row by row. Those already put off have their own time.
fn overdue(lane: &Lane, setting: &Setting) -> Span {
    let limits = setting.limits(lane.class);
    match limits.longest_hold {
        _ if lane.down_since.is_none() || lane.class != Class::ActionRequired => Span::ZERO,
        Some(longest) => Span(longest.0 - limits.dwell.0),
        None => Span(i64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;
    use uuid::Uuid;

    #[test]
    fn each_lane_is_the_first_in_its_turn() {
        let lane = |class| Lane {
            id: LaneId::new(),
            class,
            fence_kind: "none".to_owned(),
            fence_id: Uuid::nil(),
            down_since: None,
            next_due: Some(Timestamp(0)),
            next_held: None,
            overdue: Span::ZERO,
        };
        let all = [Class::ActionRequired, Class::Correction, Class::Free].map(lane);
        let mut lanes = Lanes { open: all.to_vec(), ..Lanes::default() };
        lanes.sort();
        let mut first = Vec::new();
        for _ in 0..6 {
            let open = std::mem::take(&mut lanes.open);
            first.push(open[0].class);
            lanes.gave(&open.iter().map(|lane| lane.id).collect::<Vec<_>>(), open);
        }
        let round = [Class::ActionRequired, Class::Correction, Class::Free];
        assert_eq!(first, [round, round].concat());
    }
}
