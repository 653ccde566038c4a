//! Mails that wait for a component, and the few of them that a surge sends ahead.

use super::{StoreError, Tx};
use crate::domain::id::{ComponentId, LaneId, SurgeId};
use crate::domain::surge::WAVE;
use crate::domain::time::{Span, Timestamp};

/// What waits for the component in `$1`, with what else it must be.
macro_rules! waits_for {
    ($head:literal, $rest:literal) => {
        concat!(
            $head,
            " WHERE state = 'queued' AND lane_id =
                (SELECT id FROM lane WHERE class = 'action_required' AND fence_kind = 'component' AND fence_id = $1) ",
            $rest
        )
    };
}

/// The next of a canary: of those that are so and were planned by `$6` or since `$7`, the first `$5`, in the order in which their
/// time comes.
macro_rules! send_ahead {
    ($so:literal) => {
        super::Sql::differs(send_ahead!(@ $so, ""), send_ahead!(@ $so, " FOR NO KEY UPDATE SKIP LOCKED"))
    };
    (@ $so:literal, $lock:literal) => {
        concat!("UPDATE delivery SET lane_id = $2, canary_id = $3, due_at = $4, reason = NULL WHERE id IN (",
            waits_for!("SELECT id FROM delivery", ""), $so, " AND (created_at + 0 <= $6 OR created_at + 0 >= $7) ORDER BY due_at, id LIMIT $5", $lock, ")")
    };
}

statements! {
    OLDEST_PUT_OFF = super::Sql::same(waits_for!("SELECT MIN(created_at) FROM delivery", "AND reason <> 'dwell' AND due_at <= $2"));
    OLDEST_NOT_BACK = super::Sql::same(waits_for!(
        "SELECT MIN(created_at) FROM delivery",
        "AND reason <> 'dwell' AND reason IN ('awaiting_reconnection', 'component_down') AND due_at <= $2"
    ));
    FIRST_DUE_FOR = super::Sql::same(waits_for!("SELECT MIN(due_at) FROM delivery", ""));
    // What was planned after a release began is due later than the dwell after it; what a cap put off has a later turn, and so,
    // for a while, has what the relay did. Who may still come back, or has had enough mails, does not leave with it.
    LEAVES_OF = super::Sql::same(waits_for!(
        "SELECT COUNT(*) FROM (SELECT 1 FROM delivery",
        "AND (due_at <= $2 OR (reason = 'paced' AND created_at <= $3) OR (created_at <= $4
            AND reason NOT IN ('dwell', 'awaiting_reconnection', 'component_down', 'daily_cap'))) LIMIT 1) AS w"
    ));
    // `+ 0`: what waits is found by its lane; by its time would be nearly all there ever was.
    WAITING_OF = super::Sql::same(waits_for!(
        "SELECT COUNT(*) FROM delivery",
        "AND (created_at + 0 <= $2 OR created_at + 0 >= $3) AND (COALESCE(reason, '') <> 'awaiting_reconnection' OR due_at + 0 <= $4)"
    ));
    RIPE = super::Sql::same(waits_for!(
        "SELECT COUNT(*) FROM (SELECT 1 FROM delivery",
        "AND (due_at <= $2 OR reason = 'paced') AND created_at + 0 <= $3 LIMIT 1) AS w"
    ));
    // What has waited longest, and nobody is deciding about at this moment: it was put off to the end of the longest hold.
    // Who waits to come back after an earlier outage was not kept by this one, and is asked when his own time has come.
    SEND_AHEAD_HELD = send_ahead!("AND reason IN ('awaiting_reconnection', 'component_down', 'daily_cap')
        AND (reason <> 'awaiting_reconnection' OR created_at + 0 <= $8)");
    SEND_AHEAD = send_ahead!("AND due_at <= $4");
    // What is left of a mail whose other connections came back does not leave: it waits after an earlier outage.
    CANARIES = super::Sql::same(
        "SELECT COUNT(CASE WHEN state IN ('queued', 'sending') AND COALESCE(reason, '') <> 'awaiting_reconnection' THEN 1 END),
            COUNT(CASE WHEN state NOT IN ('queued', 'sending') AND COALESCE(decided_at, $2) >= $2 THEN 1 END)
         FROM delivery WHERE canary_id = $1",
    );
    ASKED_AHEAD = super::Sql::same(
        "SELECT COUNT(*) FROM delivery d JOIN delivery_item i ON i.delivery_id = d.id
         WHERE d.canary_id = $1 AND d.maybe_mailed AND i.connection_id IS NOT NULL AND i.dropped IS NULL",
    );
    // Each has waited for its own time, and is found by that while the component is down.
    CALL_BACK = super::Sql::same(
        "UPDATE delivery SET canary_id = NULL,
            reason = CASE reason WHEN 'awaiting_reconnection' THEN reason ELSE 'component_down' END, lane_id =
            (SELECT id FROM lane WHERE class = 'action_required' AND fence_kind = 'component' AND fence_id = $2)
         WHERE canary_id = $1 AND state = 'queued'",
    );
    HASTEN_HELD = super::Sql::same(waits_for!(
        "UPDATE delivery SET due_at = $2", "AND reason IN ('awaiting_reconnection', 'component_down') AND due_at > $2"
    ));
    // Of a flood that was retried in an outage there may be a million. Down once more it would put them off again.
    HASTEN_BACK = super::Sql::same(concat!(
        "UPDATE delivery SET due_at = $2 WHERE ", waits!("delivery"), " AND id IN (",
        waits_for!("SELECT id FROM delivery", "AND reason <> 'dwell' AND reason = 'component_down' AND due_at > $2
            AND (SELECT down_since FROM component WHERE id = $1) IS NULL LIMIT $3"), ")"
    ));
}

/// By when mails were planned, or since when.
pub type Planned = (Timestamp, Timestamp);

/// How many mails wait for a component: those planned then, or all but those that wait for connections to come back after an
/// earlier outage, and are due later.
///
/// # Errors
/// When the database fails.
pub async fn count(tx: &mut Tx, of: ComponentId, planned: Option<Planned>) -> Result<i64, StoreError> {
    let (by, since) = planned.unwrap_or((Timestamp::END, Timestamp::END));
    let back_by = planned.map_or(tx.now() + WAVE, |_| Timestamp::END);
    value!(tx, i64, WAITING_OF, of, by, since, back_by)
}

/// When the first mail that waits for a component is or was due.
///
/// # Errors
/// When the database fails.
pub async fn first_due(tx: &mut Tx, of: ComponentId) -> Result<Option<Timestamp>, StoreError> {
    value!(tx, Option<Timestamp>, FIRST_DUE_FOR, of)
}

/// When the oldest of those mails was planned that wait for a component, were put off, and are due by a time. While it is
/// down for whatever reason; else until their connections come back.
///
/// # Errors
/// When the database fails.
pub async fn oldest_put_off(
    tx: &mut Tx,
    of: ComponentId,
    due_by: Timestamp,
    is_down: bool,
) -> Result<Option<Timestamp>, StoreError> {
    let sql = if is_down { OLDEST_PUT_OFF } else { OLDEST_NOT_BACK };
    value!(tx, Option<Timestamp>, sql, of, due_by)
}

/// Whether some that waited for a component when its release began, at this time, have not left: their dwell ended by then,
/// or a cap gave them a later turn, or, within an hour, the relay: some mailbox refuses for days.
///
/// # Errors
/// When the database fails.
pub async fn leaves_of(tx: &mut Tx, of: ComponentId, began: Timestamp, dwell: Span) -> Result<bool, StoreError> {
    let retried = if tx.now() - began < WAVE { began } else { Timestamp(0) };
    Ok(value!(tx, i64, LEAVES_OF, of, began + dwell, began, retried)? > 0)
}

/// Whether some that wait for a component are due by a time and were planned by another.
///
/// # Errors
/// When the database fails.
pub async fn is_ripe(tx: &mut Tx, of: ComponentId, due_by: Timestamp, by: Timestamp) -> Result<bool, StoreError> {
    Ok(value!(tx, i64, RIPE, of, due_by, by)? > 0)
}

/// Moves mails that have waited longest for a component into a lane that nothing holds, as the canary of a surge. None
/// leaves before its dwell has ended. What was planned after `ripe` and waits for connections that may come back after an
/// earlier outage stays, unless it is among those `planned`.
///
/// # Errors
/// When the database fails.
pub async fn send_ahead(
    tx: &mut Tx,
    of: ComponentId,
    to: LaneId,
    surge: SurgeId,
    most: i64,
    planned: Option<Planned>,
    ripe: Timestamp,
) -> Result<(), StoreError> {
    let now = tx.now();
    let (by, since) = planned.unwrap_or((Timestamp::END, Timestamp::END));
    let back_by = planned.map_or(ripe, |_| Timestamp::END);
    let held = exec!(tx, SEND_AHEAD_HELD, of, to, surge, now, most, by, since, back_by)?;
    let rest = most - i64::try_from(held).unwrap_or(most);
    exec!(tx, SEND_AHEAD, of, to, surge, now, rest, by, since).map(drop)
}

/// How many of a surge's canaries have not left, and how many have or need not any more since it began to send them.
///
/// # Errors
/// When the database fails.
pub async fn canaries(tx: &mut Tx, surge: SurgeId, since: Timestamp) -> Result<(i64, i64), StoreError> {
    on_db!(tx, CANARIES, query_as::<(i64, i64)>, fetch_one, surge, since)
}

/// About how many connections customers were asked ahead of the others, in all of a surge.
///
/// # Errors
/// When the database fails.
pub async fn asked_ahead(tx: &mut Tx, surge: SurgeId) -> Result<i64, StoreError> {
    value!(tx, i64, ASKED_AHEAD, surge)
}

/// Moves the canaries that have not left back to the others.
///
/// # Errors
/// When the database fails.
pub async fn call_back(tx: &mut Tx, surge: SurgeId, of: ComponentId) -> Result<(), StoreError> {
    exec!(tx, CALL_BACK, surge, of).map(drop)
}

/// What was put off to its own longest hold is due now.
///
/// # Errors
/// When the database fails.
pub async fn hasten(tx: &mut Tx, of: ComponentId) -> Result<(), StoreError> {
    let now = tx.now();
    exec!(tx, HASTEN_HELD, of, now).map(drop)
}

/// What was put off while a component was down is due now that it is back: up to `most`; whether there was any. Of those chosen
/// some may have been withdrawn meanwhile, so that fewer are no sign of the end.
///
/// # Errors
/// When the database fails.
pub async fn hasten_back(tx: &mut Tx, of: ComponentId, most: i64) -> Result<bool, StoreError> {
    let now = tx.now();
    Ok(exec!(tx, HASTEN_BACK, of, now, most)? > 0)
}
