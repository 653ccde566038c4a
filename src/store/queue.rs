//! The queue: its lanes, what holds them back, and what is due in them.

use super::parameter::ids;
use super::rows::json;
use super::streams::Probe;
use super::{StoreError, Tx};
use crate::domain::class::Class;
use crate::domain::delivery::State;
use crate::domain::id::{ComponentId, ConnectionId, DeliveryId, LaneId, PauseId, ThreadId};
use crate::domain::time::{Span, Timestamp};
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// The most that can be asked to be due at once; the statement has it in its text.
pub const MOST_DUE: usize = 100;

/// A thread with a mail on the wire or in quarantine waits for it; the unique index is the guard, this the filter. PostgreSQL
/// takes those mails for next to none and would compare each with each: `OFFSET 0` has it look a thread up. A limit
/// that is a parameter it takes for a tenth of what there is, and plans anew each time rather than believe it; of
/// the fixed one inside, a tenth is about a round. Only rows that pass both limits are locked.
macro_rules! due {
    ($held:literal) => {
        super::Sql::differs(
            concat!(due!(@ $held, ""), " LIMIT $3"),
            concat!("SELECT * FROM (", due!(@ $held, " OFFSET 0"), " LIMIT 100 FOR NO KEY UPDATE OF d SKIP LOCKED) AS few LIMIT $3"),
        )
    };
    (@ $held:literal, $apart:literal) => {
        concat!("SELECT d.id, d.thread_id, d.reaps FROM delivery d WHERE d.lane_id = $1 AND d.state = 'queued' ", $held, "
            AND d.due_at >= $4 AND d.due_at <= $2
            AND NOT EXISTS (SELECT 1 FROM delivery b WHERE b.thread_id = d.thread_id
                AND (b.state = 'sending' OR (b.state = 'unknown' AND b.quarantine_until IS NOT NULL))", $apart, ")
         ORDER BY d.due_at, d.id")
    };
}

statements! {
    // Each dispatcher reads them at every wake-up, with what else keeps its mail: one statement, for it is on the way of a
    // mail that finds nobody at work.
    // On PostgreSQL what has left stays at the head of the index until a vacuum; the floor is beyond it. SQLite needs none,
    // but is told the index: without statistics it would walk through the whole lane for what is held.
    LANES = super::Sql::differs(
        concat!("SELECT l.id, l.class, l.fence_kind, l.fence_id, k.down_since, p.id AS pause_id, p.probe_at, ",
            holds_in_force!(sqlite "$2", "l.fence_id"), ",
                (SELECT MIN(d.due_at) FROM delivery d WHERE d.lane_id = l.id AND d.state = 'queued') AS next_due,
                (SELECT MIN(d.due_at) FROM delivery d INDEXED BY delivery_held WHERE d.lane_id = l.id AND d.state = 'queued'
                    AND d.reason <> 'dwell') AS next_held
         FROM lane l LEFT JOIN component k ON l.fence_kind = 'component' AND k.id = l.fence_id
         LEFT JOIN stream_pause p ON p.stream = $3 AND p.ended_at IS NULL
         WHERE l.closed_at IS NULL AND $1 IS NOT NULL"),
        concat!("SELECT l.id, l.class, l.fence_kind, l.fence_id, k.down_since, p.id AS pause_id, p.probe_at, ",
            holds_in_force!(postgres "$2", "l.fence_id"), ",
                (SELECT MIN(d.due_at) FROM delivery d WHERE d.lane_id = l.id AND d.state = 'queued'
                    AND d.due_at >= COALESCE(j.floor, 0)) AS next_due,
                (SELECT MIN(d.due_at) FROM delivery d WHERE d.lane_id = l.id AND d.state = 'queued'
                    AND d.reason <> 'dwell'
                    AND d.due_at >= COALESCE(j.floor, 0)) AS next_held
         FROM lane l LEFT JOIN component k ON l.fence_kind = 'component' AND k.id = l.fence_id
         LEFT JOIN stream_pause p ON p.stream = $3 AND p.ended_at IS NULL
         LEFT JOIN json_to_recordset($1::json) AS j(id uuid, floor bigint) ON j.id = l.id WHERE l.closed_at IS NULL"),
    );
    DUE = due!("");
    // What was put off, and has its own time.
    DUE_HELD = due!("AND d.reason <> 'dwell'");
    WAKE = over_rows!(
        concat!("UPDATE delivery SET due_at = $2 WHERE ", waits!("delivery"), " AND due_at > $2 AND class = 'correction' AND id IN
            (SELECT i.delivery_id FROM"), [id uuid],
        "JOIN delivery_item i ON i.connection_id = j.id AND i.corrects_id IS NOT NULL)"
    );
    COUNTS = super::Sql::same("SELECT state, COUNT(*) FROM delivery GROUP BY state ORDER BY state");
}

/// A lane, and when something in it is due.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Lane {
    /// Its id.
    pub id: LaneId,
    /// The class of its deliveries.
    pub class: Class,
    /// `none`, `component` or `incident`.
    pub fence_kind: String,
    /// The component or incident.
    pub fence_id: Uuid,
    /// Since when its component is down.
    pub down_since: Option<Timestamp>,
    /// The earliest time something in it is due.
    pub next_due: Option<Timestamp>,
    /// The same of what was put off, and has its own time.
    pub next_held: Option<Timestamp>,
    /// How long something in it must have been due to be taken.
    #[sqlx(skip)]
    pub overdue: Span,
}

impl Lane {
    /// Whether something in it is to be taken now.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.next_due.is_some_and(|due| due <= now - self.overdue) || self.has_held(now)
    }

    /// What was put off is due at its own time, whatever the lane's own delay.
    fn has_held(&self, now: Timestamp) -> bool {
        self.overdue > Span::ZERO && self.overdue < Span(i64::MAX) && self.next_held.is_some_and(|due| due <= now)
    }
}

/// A hold in force.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Hold {
    /// The class it holds.
    pub class: Option<Class>,
    /// The component it holds.
    pub component_id: Option<ComponentId>,
    /// `surge`, `operator` or `stop`.
    pub cause: String,
    /// `everything`, `class` or `component`.
    pub scope: String,
}

/// The lanes, and what else a dispatcher asks before it takes mail.
#[derive(Debug, Default)]
pub struct Open {
    /// The open lanes.
    pub lanes: Vec<Lane>,
    /// The holds in force.
    pub holds: Vec<Hold>,
    /// The stream's pause, if it is paused.
    pub pause: Option<Probe>,
}

/// A delivery that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Due {
    /// Its id.
    pub id: DeliveryId,
    /// Its thread.
    pub thread_id: ThreadId,
    /// How often its lease ran out.
    pub reaps: i64,
}

/// The open lanes, and what keeps mail of a stream. Workers keep them for a moment: reading them scans nothing but the
/// lanes. Nothing is seen of a lane that is due before its floor.
///
/// # Errors
/// When the database fails.
pub async fn open(tx: &mut Tx, floors: &HashMap<LaneId, Timestamp>, stream: &str) -> Result<Open, StoreError> {
    #[derive(sqlx::FromRow)]
    struct Row {
        #[sqlx(flatten)]
        lane: Lane,
        holds: String,
        pause_id: Option<PauseId>,
        probe_at: Option<Timestamp>,
    }
    let list = floors.iter().map(|(id, floor)| columns! { id: id.0, floor: floor.0 });
    let now = tx.now();
    let found = rows!(tx, Row, LANES, json(list), now, stream)?;
    let Some(first) = found.first() else { return Ok(Open::default()) };
    let pause = first.pause_id.zip(first.probe_at).map(|(id, at)| Probe { id, at });
    let holds = holds(found.iter().map(|row| &row.holds))?;
    Ok(Open { holds, pause, lanes: found.into_iter().map(|row| row.lane).collect() })
}

/// The open lanes alone.
///
/// # Errors
/// When the database fails.
pub async fn lanes(tx: &mut Tx, floors: &HashMap<LaneId, Timestamp>) -> Result<Vec<Lane>, StoreError> {
    Ok(open(tx, floors, "").await?.lanes)
}

/// The holds in force that touch any of some rows, of the column in which a statement read them; each once.
pub(super) fn holds<'a>(columns: impl Iterator<Item = &'a String>) -> Result<Vec<Hold>, StoreError> {
    let mut all = Vec::new();
    for column in columns.collect::<HashSet<_>>() {
        let holds: Vec<Hold> = serde_json::from_str(column)
            .map_err(|e| StoreError::failed("read the holds", sqlx::Error::Decode(e.into())))?;
        for hold in holds {
            if !all.contains(&hold) {
                all.push(hold);
            }
        }
    }
    Ok(all)
}

/// Up to `most` of what is due in a lane, no more than [`MOST_DUE`], locked; nothing that is due before what was the first when
/// the lane was read.
///
/// # Errors
/// When the database fails.
pub async fn due(tx: &mut Tx, lane: &Lane, most: i64) -> Result<Vec<Due>, StoreError> {
    let now = tx.now();
    let mut due: Vec<Due> = Vec::new();
    if lane.has_held(now) {
        due = rows!(tx, Due, DUE_HELD, lane.id, now, most, lane.next_held)?;
    }
    let by = now - lane.overdue;
    let rest = most - i64::try_from(due.len()).unwrap_or(most);
    let others = rows!(tx, Due, DUE, lane.id, by, rest, lane.next_due)?;
    due.extend(others.into_iter().filter(|one| !due.iter().any(|other| other.id == one.id)).collect::<Vec<_>>());
    Ok(due)
}

/// Brings the waiting corrections of connections back: they have been heard of.
///
/// # Errors
/// When the database fails.
pub async fn wake_corrections(tx: &mut Tx, of: &[ConnectionId]) -> Result<(), StoreError> {
    let now = tx.now();
    if of.is_empty() { Ok(()) } else { exec!(tx, WAKE, ids(of), now).map(drop) }
}

/// How many deliveries there are in each state.
///
/// # Errors
/// When the database fails.
pub async fn counts(tx: &mut Tx) -> Result<Vec<(State, i64)>, StoreError> {
    rows!(tx, (State, i64), COUNTS)
}
