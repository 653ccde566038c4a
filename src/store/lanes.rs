//! Lanes are closed when their incident is long over: a page has thousands of incidents in a year, and workers ask every
//! open lane what is due, many times a second. Whoever plans for a closed lane opens it ([`lane`]).

use super::parameter::ids;
use super::rows::json;
use super::{StoreError, Tx};
use crate::domain::class::Class;
use crate::domain::id::{ComponentId, IncidentId, LaneId};
use crate::domain::time::Span;
use uuid::Uuid;

/// So long after its incident was resolved a lane is closed.
const OVER: Span = Span::hours(24);

statements! {
    FIND_LANE = locking!(
        "SELECT id, closed_at IS NOT NULL FROM lane WHERE class = $1 AND fence_kind = $2 AND fence_id = $3",
        "FOR NO KEY UPDATE"
    );
    LANE = super::Sql::same("SELECT id FROM lane WHERE class = $1 AND fence_kind = $2 AND fence_id = $3");
    ADD_LANE = super::Sql::same(
        "INSERT INTO lane (id, class, fence_kind, fence_id, created_at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
    );
    // Locked before anybody looks into them: who plans for a lane holds it.
    LONG_OVER = locking!(
        "SELECT l.id FROM lane l JOIN incident i ON i.id = l.fence_id
         WHERE l.closed_at IS NULL AND l.fence_kind = 'incident' AND i.resolved_at <= $1 LIMIT $2",
        "FOR NO KEY UPDATE OF l SKIP LOCKED"
    );
    CLOSE = over_rows!(
        "UPDATE lane SET closed_at = j.at FROM", [id uuid, at bigint],
        "WHERE lane.id = j.id AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.lane_id = j.id AND d.state = 'queued')
            AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.lane_id = j.id
                AND (d.state = 'sending' OR (d.state = 'unknown' AND d.quarantine_until IS NOT NULL)))"
    );
    // Nothing queues in a closed lane without opening it; should anything ever, it must not wait for ever.
    OPEN_AGAIN = super::Sql::same(
        "UPDATE lane SET closed_at = NULL WHERE closed_at IS NOT NULL
            AND EXISTS (SELECT 1 FROM delivery d WHERE d.lane_id = lane.id AND d.state = 'queued')",
    );
    OPEN = over_rows!(
        "UPDATE lane SET closed_at = NULL FROM", [id uuid], "WHERE lane.id = j.id AND lane.closed_at IS NOT NULL"
    );
}

/// Closes up to `most` lanes whose incident is long over and in which nothing is under way; how many were looked at.
///
/// # Errors
/// When the database fails.
pub async fn close(tx: &mut Tx, most: i64) -> Result<usize, StoreError> {
    let now = tx.now();
    exec!(tx, OPEN_AGAIN)?;
    let over = rows!(tx, (LaneId,), LONG_OVER, now - OVER, most)?;
    let list: Vec<_> = over.iter().map(|row| columns! { id: row.0, at: now.0 }).collect();
    if !list.is_empty() {
        exec!(tx, CLOSE, json(list))?;
    }
    Ok(over.len())
}

/// Opens lanes: something is queued in them.
///
/// # Errors
/// When the database fails.
pub async fn open(tx: &mut Tx, of: &[LaneId]) -> Result<(), StoreError> {
    exec!(tx, OPEN, ids(of)).map(drop)
}

/// What a lane's deliveries have in common besides the class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fence {
    /// Nothing.
    None,
    /// A component.
    Component(ComponentId),
    /// An incident.
    Incident(IncidentId),
    /// Nothing but its readers: what operators are told waits behind nobody's mail.
    Operators,
}

/// What stands for the operators where others have the id of their component or incident.
const OPERATORS: Uuid = Uuid::from_u128(1);

impl Fence {
    const fn named(self) -> (&'static str, Uuid) {
        match self {
            Self::None => ("none", Uuid::nil()),
            Self::Component(id) => ("component", id.0),
            Self::Incident(id) => ("incident", id.0),
            Self::Operators => ("none", OPERATORS),
        }
    }
}

/// The lane of the action-required mails behind a fence, made if need be: it is never closed, and not locked.
///
/// # Errors
/// When the database fails.
pub async fn of_asking(tx: &mut Tx, fence: Fence) -> Result<LaneId, StoreError> {
    let (kind, id) = fence.named();
    match first!(tx, (LaneId,), LANE, Class::ActionRequired, kind, id)? {
        Some((lane,)) => Ok(lane),
        None => lane(tx, Class::ActionRequired, fence).await,
    }
}

/// The lane of a class and fence, made if need be, and locked: of one lane only one page is planned at a time,
/// so two updates never make two mails.
///
/// # Errors
/// When the database fails.
pub async fn lane(tx: &mut Tx, class: Class, fence: Fence) -> Result<LaneId, StoreError> {
    let (kind, id) = fence.named();
    if let Some((lane, closed)) = first!(tx, (LaneId, bool), FIND_LANE, class, kind, id)? {
        if closed {
            open(tx, &[lane]).await?;
        }
        return Ok(lane);
    }
    let now = tx.now();
    exec!(tx, ADD_LANE, LaneId::new(), class, kind, id, now)?;
    value!(tx, LaneId, FIND_LANE, class, kind, id)
}
