//! The queue: lanes, what is due in them, and the claim.

use super::parameter::json;
use super::streams::Probe;
use super::{StoreError, Tx};
use crate::domain::class::Class;
use crate::domain::delivery::Reason;
use crate::domain::id::{ComponentId, DeliveryId, LaneId, PauseId};
use crate::domain::incident::ComponentStatus;
use crate::domain::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;
use uuid::fmt::Simple;

/// The most that can be asked to be due at once; [`DUE`] has it in its text.
pub const MOST_DUE: usize = 100;

/// A thread with a mail on the wire or in quarantine waits for it; the unique index is the guard, this the filter. A limit
/// that is a parameter PostgreSQL takes for a tenth of what there is, and plans anew each time rather than believe it; of
/// the fixed one inside, a tenth is about a round. Only rows that pass both limits are locked.
macro_rules! due {
    ($held:literal) => {
        super::Sql::differs(
            concat!(due!(@ $held), " LIMIT $3"),
            concat!("SELECT * FROM (", due!(@ $held), " LIMIT 100 FOR NO KEY UPDATE OF d SKIP LOCKED) AS few LIMIT $3"),
        )
    };
    (@ $held:literal) => {
        concat!("SELECT d.id, d.thread_id, d.reaps FROM delivery d WHERE d.lane_id = $1 AND d.state = 'queued' ", $held, "
            AND d.due_at >= $4 AND d.due_at <= $2
            AND NOT EXISTS (SELECT 1 FROM delivery b WHERE b.thread_id = d.thread_id
                AND (b.state = 'sending' OR (b.state = 'unknown' AND b.quarantine_until IS NOT NULL)))
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
                    AND d.reason IN ('awaiting_reconnection', 'component_down', 'daily_cap')) AS next_held
         FROM lane l LEFT JOIN component k ON l.fence_kind = 'component' AND k.id = l.fence_id
         LEFT JOIN stream_pause p ON p.stream = $3 AND p.ended_at IS NULL
         WHERE l.closed_at IS NULL AND $1 IS NOT NULL"),
        concat!("SELECT l.id, l.class, l.fence_kind, l.fence_id, k.down_since, p.id AS pause_id, p.probe_at, ",
            holds_in_force!(postgres "$2", "l.fence_id"), ",
                (SELECT MIN(d.due_at) FROM delivery d WHERE d.lane_id = l.id AND d.state = 'queued'
                    AND d.due_at >= COALESCE(j.floor, 0)) AS next_due,
                (SELECT MIN(d.due_at) FROM delivery d WHERE d.lane_id = l.id AND d.state = 'queued'
                    AND d.reason IN ('awaiting_reconnection', 'component_down', 'daily_cap')
                    AND d.due_at >= COALESCE(j.floor, 0)) AS next_held
         FROM lane l LEFT JOIN component k ON l.fence_kind = 'component' AND k.id = l.fence_id
         LEFT JOIN stream_pause p ON p.stream = $3 AND p.ended_at IS NULL
         LEFT JOIN json_to_recordset($1::json) AS j(id uuid, floor bigint) ON j.id = l.id WHERE l.closed_at IS NULL"),
    );
    DUE = due!("");
    // What was put off to the end of its own longest hold.
    DUE_HELD = due!("AND d.reason IN ('awaiting_reconnection', 'component_down', 'daily_cap')");
    ARM = over_few_rows!(
        "UPDATE delivery SET state = 'sending', token = delivery.token + 1, owner = j.owner, lease_until = j.lease_until,
            claimed_at = j.at, message_id = j.message_id, template_set = j.template_set, address = j.address, context = j.context,
            reason = NULL FROM",
        [id uuid, owner text, lease_until bigint, at bigint, message_id text, template_set text, address text, context text],
        "WHERE delivery.id = j.id AND delivery.state = 'queued'"
    );
    PUT_OFF = over_few_rows!(
        "UPDATE delivery SET due_at = j.due_at, reason = j.reason FROM", [id uuid, due_at bigint, reason text],
        "WHERE delivery.id = j.id AND delivery.state = 'queued'"
    );
    RESTATE = over_few_rows!(
        "UPDATE delivery_item SET status = j.status FROM", [delivery_id uuid, component_id uuid, status text],
        "WHERE delivery_item.delivery_id = j.delivery_id AND delivery_item.subject_id = j.component_id"
    );
    DECIDE = over_few_rows!(
        "UPDATE delivery SET state = j.state, reason = j.reason, decided_at = j.at FROM",
        [id uuid, state text, reason text, at bigint],
        "WHERE delivery.id = j.id AND delivery.state = 'queued'"
    );
    DROP_ITEMS = over_few_rows!(
        "UPDATE delivery_item SET dropped = j.reason FROM", [delivery_id uuid, subject_id uuid, episode bigint, reason text],
        "WHERE delivery_item.delivery_id = j.delivery_id AND delivery_item.subject_id = j.subject_id
            AND delivery_item.episode = j.episode"
    );
    SPLIT_DELIVERY = super::Sql::same(
        "INSERT INTO delivery (id, class, stream, lane_id, cause_id, notice_id, subscriber_id, thread_id, resend_no, rule, state, due_at,
            reason, created_at, incident_id)
         SELECT $2, d.class, d.stream, d.lane_id, $2, d.notice_id, d.subscriber_id, d.thread_id, 0, d.rule, 'queued', $3, $4, d.created_at,
            d.incident_id
         FROM delivery d WHERE d.id = $1",
    );
    MOVE_SPLIT = over_rows!(
        "UPDATE delivery_item SET delivery_id = j.into_id FROM",
        [delivery_id uuid, subject_id uuid, episode bigint, into_id uuid],
        "WHERE delivery_item.delivery_id = j.delivery_id AND delivery_item.subject_id = j.subject_id
            AND delivery_item.episode = j.episode"
    );
    COPY_SPLIT = over_rows!(
        "INSERT INTO delivery_item (delivery_id, subject_id, component_id, connection_id, episode, component_episode, failed_at, status)
         SELECT j.into_id, i.subject_id, i.component_id, i.connection_id, i.episode, i.component_episode, i.failed_at, i.status FROM",
        [delivery_id uuid, subject_id uuid, episode bigint, into_id uuid],
        "JOIN delivery_item i ON i.delivery_id = j.delivery_id AND i.subject_id = j.subject_id AND i.episode = j.episode
         WHERE i.dropped IS NULL AND i.corrects_id IS NULL"
    );
    REFREEZE = super::Sql::same(
        "UPDATE delivery SET context = $3 WHERE id = $1 AND token = $2 AND state = 'sending'",
    );
    WAKE = over_rows!(
        "UPDATE delivery SET due_at = $2 WHERE state = 'queued' AND due_at > $2 AND class = 'correction' AND id IN
            (SELECT i.delivery_id FROM", [id uuid],
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
    /// The same of what was put off to the end of its own longest hold.
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

    /// What was put off to the end of its own longest hold is due at that time, whatever the lane's own delay.
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
    pub thread_id: crate::domain::id::ThreadId,
    /// How often its lease ran out.
    pub reaps: i64,
}

/// What the claim freezes.
#[derive(Clone, Debug)]
pub struct Armed {
    /// The delivery.
    pub id: DeliveryId,
    /// Its Message-ID, the same for every try.
    pub message_id: String,
    /// The content address of the templates.
    pub template_set: String,
    /// Where it goes.
    pub address: String,
    /// All that rendering needs, as JSON.
    pub context: String,
}

/// The open lanes, and what keeps mail of a stream. Workers keep them for a moment: reading them scans nothing but the
/// lanes. Nothing is seen of a lane that is due before its floor.
///
/// # Errors
/// When the database fails.
pub async fn open(tx: &mut Tx, floors: &HashMap<LaneId, Timestamp>, stream: &str) -> Result<Open, StoreError> {
    #[derive(Serialize)]
    struct Floor {
        id: Simple,
        floor: i64,
    }
    #[derive(sqlx::FromRow)]
    struct Row {
        #[sqlx(flatten)]
        lane: Lane,
        holds: String,
        pause_id: Option<PauseId>,
        probe_at: Option<Timestamp>,
    }
    let list: Vec<_> = floors.iter().map(|(id, floor)| Floor { id: id.0.simple(), floor: floor.0 }).collect();
    let now = tx.now();
    let found = rows!(tx, Row, LANES, json(&list), now, stream)?;
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

/// Marks deliveries as being sent.
///
/// # Errors
/// When the database fails, or another node has the thread ([`StoreError::is_conflict`]).
pub async fn arm(tx: &mut Tx, owner: &str, lease_until: Timestamp, of: &[Armed]) -> Result<(), StoreError> {
    #[derive(Serialize)]
    struct Row<'a> {
        id: Simple,
        owner: &'a str,
        lease_until: i64,
        at: i64,
        message_id: &'a str,
        template_set: &'a str,
        address: &'a str,
        context: &'a str,
    }
    let at = tx.now().0;
    let list: Vec<_> = of
        .iter()
        .map(|a| Row {
            id: a.id.0.simple(),
            owner,
            lease_until: lease_until.0,
            at,
            message_id: &a.message_id,
            template_set: &a.template_set,
            address: &a.address,
            context: &a.context,
        })
        .collect();
    exec!(tx, ARM, json(&list)).map(drop)
}

/// Gives queued deliveries a later due time and the reason.
///
/// # Errors
/// When the database fails.
pub async fn put_off(tx: &mut Tx, of: &[(DeliveryId, Timestamp, Reason)]) -> Result<(), StoreError> {
    #[derive(Serialize)]
    struct Row {
        id: Simple,
        due_at: i64,
        reason: &'static str,
    }
    let list: Vec<_> =
        of.iter().map(|(id, at, why)| Row { id: id.0.simple(), due_at: at.0, reason: why.as_str() }).collect();
    exec!(tx, PUT_OFF, json(&list)).map(drop)
}

/// Mails tell the present state of components, and the threads remember that.
///
/// # Errors
/// When the database fails.
pub async fn restate(tx: &mut Tx, of: &[(DeliveryId, ComponentId, ComponentStatus)]) -> Result<(), StoreError> {
    #[derive(Serialize)]
    struct Row {
        delivery_id: Simple,
        component_id: Simple,
        status: ComponentStatus,
    }
    let list: Vec<_> = of
        .iter()
        .map(|(d, c, status)| Row { delivery_id: d.0.simple(), component_id: c.0.simple(), status: *status })
        .collect();
    exec!(tx, RESTATE, json(&list)).map(drop)
}

/// Decides queued deliveries that will not be sent.
///
/// # Errors
/// When the database fails.
pub async fn decide(
    tx: &mut Tx,
    of: &[(DeliveryId, crate::domain::delivery::State, Reason)],
) -> Result<(), StoreError> {
    #[derive(Serialize)]
    struct Row {
        id: Simple,
        state: &'static str,
        reason: &'static str,
        at: i64,
    }
    let at = tx.now().0;
    let list: Vec<_> = of
        .iter()
        .map(|(id, state, why)| Row { id: id.0.simple(), state: state.as_str(), reason: why.as_str(), at })
        .collect();
    exec!(tx, DECIDE, json(&list)).map(drop)
}

/// An item of a delivery, by what identifies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemKey {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The connection or component.
    pub subject: Uuid,
    /// The outage.
    pub episode: i64,
}

/// Notes that items are no longer true and leave their mails.
///
/// # Errors
/// When the database fails.
pub async fn drop_items(tx: &mut Tx, of: &[(ItemKey, Reason)]) -> Result<(), StoreError> {
    #[derive(Serialize)]
    struct Row {
        delivery_id: Simple,
        subject_id: Simple,
        episode: i64,
        reason: &'static str,
    }
    let list: Vec<_> = of
        .iter()
        .map(|(key, why)| Row {
            delivery_id: key.delivery.0.simple(),
            subject_id: key.subject.simple(),
            episode: key.episode,
            reason: why.as_str(),
        })
        .collect();
    if list.is_empty() {
        return Ok(());
    }
    exec!(tx, DROP_ITEMS, json(&list)).map(drop)
}

/// Moves items that must wait to a delivery of their own, so that the others can leave.
///
/// # Errors
/// When the database fails.
pub async fn split(
    tx: &mut Tx,
    from: DeliveryId,
    of: &[ItemKey],
    due_at: Timestamp,
    why: Reason,
) -> Result<(), StoreError> {
    if of.is_empty() {
        return Ok(());
    }
    let list = split_off(tx, from, of, due_at, why).await?;
    exec!(tx, MOVE_SPLIT, list).map(drop)
}

/// Names items in a delivery of their own, too: the old one keeps them, for it may have said so.
///
/// # Errors
/// When the database fails.
pub async fn copy(
    tx: &mut Tx,
    from: DeliveryId,
    of: &[ItemKey],
    due_at: Timestamp,
    why: Reason,
) -> Result<(), StoreError> {
    let list = split_off(tx, from, of, due_at, why).await?;
    exec!(tx, COPY_SPLIT, list).map(drop)
}

async fn split_off(
    tx: &mut Tx,
    from: DeliveryId,
    of: &[ItemKey],
    due_at: Timestamp,
    why: Reason,
) -> Result<String, StoreError> {
    #[derive(Serialize)]
    struct Row {
        delivery_id: Simple,
        subject_id: Simple,
        episode: i64,
        into_id: Simple,
    }
    let into = DeliveryId::new();
    exec!(tx, SPLIT_DELIVERY, from, into, due_at, why.as_str())?;
    let list: Vec<_> = of
        .iter()
        .map(|key| Row {
            delivery_id: from.0.simple(),
            subject_id: key.subject.simple(),
            episode: key.episode,
            into_id: into.0.simple(),
        })
        .collect();
    Ok(json(&list))
}

/// Stores a smaller context of a claimed delivery; `false` when it is no longer this claim's.
///
/// # Errors
/// When the database fails.
pub async fn refreeze(tx: &mut Tx, id: DeliveryId, token: i64, context: &str) -> Result<bool, StoreError> {
    Ok(exec!(tx, REFREEZE, id, token, context)? == 1)
}

/// Brings the waiting corrections of connections back: they have been heard of.
///
/// # Errors
/// When the database fails.
pub async fn wake_corrections(tx: &mut Tx, of: &[crate::domain::id::ConnectionId]) -> Result<(), StoreError> {
    let now = tx.now();
    if of.is_empty() { Ok(()) } else { exec!(tx, WAKE, super::parameter::ids(of), now).map(drop) }
}

/// How many deliveries there are in each state.
///
/// # Errors
/// When the database fails.
pub async fn counts(tx: &mut Tx) -> Result<Vec<(crate::domain::delivery::State, i64)>, StoreError> {
    rows!(tx, (crate::domain::delivery::State, i64), COUNTS)
}
