//! Lanes are closed when their incident is long over: a page has thousands of incidents in a year, and workers ask every
//! open lane what is due, many times a second. Whoever plans for a closed lane opens it ([`super::plan::lane`]).

use super::ingest::ids;
use super::{StoreError, Tx};
use crate::domain::id::LaneId;
use crate::domain::time::Span;

/// So long after its incident was resolved a lane is closed.
const OVER: Span = Span::hours(24);

statements! {
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
    #[derive(serde::Serialize)]
    struct Row {
        id: uuid::fmt::Simple,
        at: i64,
    }
    let now = tx.now();
    exec!(tx, OPEN_AGAIN)?;
    let over = rows!(tx, (LaneId,), LONG_OVER, now - OVER, most)?;
    let list: Vec<_> = over.iter().map(|row| Row { id: row.0.0.simple(), at: now.0 }).collect();
    if !list.is_empty() {
        exec!(tx, CLOSE, super::ingest::json(&list))?;
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
