//! Leases and quarantines that are over, and what dead workers left behind.

use super::record::TOLD;
use super::rows::json;
use super::{StoreError, Tx};
use crate::domain::class::Class;
use crate::domain::delivery::{Reason, State};
use crate::domain::id::DeliveryId;
use crate::domain::time::Timestamp;

statements! {
    EXPIRED = locking!(
        "SELECT id, class, token, repeats, reaps FROM delivery WHERE state = 'sending' AND lease_until <= $1 ORDER BY lease_until LIMIT $2",
        "FOR NO KEY UPDATE SKIP LOCKED"
    );
    // What was on the wire of a name's bearers before `$1`: an owner is a name, a slash and 32 digits of its incarnation. SQLite
    // has one dispatching process: all others are dead.
    LEFT_BEHIND = super::Sql::differs(
        "SELECT id, class, token, repeats, reaps FROM delivery WHERE state = 'sending' AND owner <> $1 ORDER BY lease_until LIMIT $2",
        "SELECT id, class, token, repeats, reaps FROM delivery WHERE state = 'sending' AND owner <> $1
            AND left(owner, -32) = left($1, -32) ORDER BY lease_until LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED",
    );
    REAP = over_rows!(
        "UPDATE delivery SET state = 'unknown', reason = 'ambiguous', token = delivery.token + 1, maybe_mailed = TRUE,
            owner = NULL, lease_until = NULL, quarantine_until = j.until, reaps = delivery.reaps + 1, decided_at = j.at FROM",
        [id uuid, until bigint, at bigint],
        "WHERE delivery.id = j.id AND delivery.state = 'sending'"
    );
    REAPED_THREADS = over_rows!(
        "UPDATE thread SET last_message_id = COALESCE(d.message_id, thread.last_message_id), last_class = d.class,
            last_phase = COALESCE(d.phase, thread.last_phase), told_revision = COALESCE(d.revision, thread.told_revision),
            last_mailed_at = d.claimed_at, told_at = COALESCE(thread.told_at, d.claimed_at) FROM", [id uuid],
        "JOIN delivery d ON d.id = j.id AND d.state = 'unknown' WHERE thread.id = d.thread_id"
    );
    QUARANTINED = locking!(
        "SELECT id, class, token, repeats, reaps FROM delivery WHERE quarantine_until IS NOT NULL AND quarantine_until <= $1
         ORDER BY quarantine_until LIMIT $2",
        "FOR NO KEY UPDATE SKIP LOCKED"
    );
    SETTLE = over_rows!(
        "UPDATE delivery SET quarantine_until = NULL, state = j.state, reason = j.reason,
            due_at = COALESCE(j.due_at, delivery.due_at),
            decided_at = CASE WHEN j.state = 'queued' THEN NULL ELSE delivery.decided_at END,
            repeats = delivery.repeats + j.again FROM",
        [id uuid, state text, reason text, due_at bigint, again bigint],
        "WHERE delivery.id = j.id AND delivery.state = 'unknown'"
    );
}

/// A delivery whose lease or quarantine is over, or whose worker is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Overdue {
    /// Its id.
    pub id: DeliveryId,
    /// What it is for.
    pub class: Class,
    /// The claim that ran out, or the number after it.
    pub token: i64,
    /// How often it was sent again because nobody could know.
    pub repeats: i64,
    /// How often its lease ran out.
    pub reaps: i64,
}

/// Deliveries whose lease is over; locked.
///
/// # Errors
/// When the database fails.
pub async fn expired(tx: &mut Tx, most: i64) -> Result<Vec<Overdue>, StoreError> {
    let now = tx.now();
    rows!(tx, Overdue, EXPIRED, now, most)
}

/// Deliveries that the bearers of an owner's name before it held, whatever their leases; locked. Whoever has the name's lock
/// knows that they are dead.
///
/// # Errors
/// When the database fails.
pub async fn left_behind(tx: &mut Tx, owner: &str, most: i64) -> Result<Vec<Overdue>, StoreError> {
    rows!(tx, Overdue, LEFT_BEHIND, owner, most)
}

/// Marks deliveries whose worker vanished as unknown, in quarantine until a time.
///
/// # Errors
/// When the database fails.
pub async fn reap(tx: &mut Tx, of: &[Overdue], until: Timestamp) -> Result<(), StoreError> {
    let at = tx.now().0;
    let row = |o: &Overdue| columns! { id: o.id, token: o.token + 1, until: until.0, at };
    let list = json(of.iter().map(row));
    exec!(tx, REAP, &list)?;
    exec!(tx, REAPED_THREADS, &list)?;
    exec!(tx, TOLD, &list).map(drop)
}

/// Deliveries whose quarantine is over; locked.
///
/// # Errors
/// When the database fails.
pub async fn quarantined(tx: &mut Tx, most: i64) -> Result<Vec<Overdue>, StoreError> {
    let now = tx.now();
    rows!(tx, Overdue, QUARANTINED, now, most)
}

/// Ends quarantines: a state, a reason, and a due time for those that are sent again.
///
/// # Errors
/// When the database fails.
pub async fn settle(tx: &mut Tx, of: &[(DeliveryId, State, Reason, Option<Timestamp>)]) -> Result<(), StoreError> {
    let list = of.iter().map(|(id, state, why, due)| {
        columns! {
            id: id.0,
            state: state.as_str(),
            reason: why.as_str(),
            due_at: *due,
            again: i64::from(*state == State::Queued),
        }
    });
    exec!(tx, SETTLE, json(list)).map(drop)
}
