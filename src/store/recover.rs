//! Recoveries: how far their sweep has come, what they withdraw and correct, and who has not confirmed.

use super::parameter::ids;
use super::rows::json;
use super::{StoreError, Tx};
use crate::domain::connection::By;
use crate::domain::delivery::State;
use crate::domain::id::{ComponentId, ConnectionId, DeliveryId, RecoveryId, SubscriberId, ThreadId};
use crate::domain::time::Timestamp;
use serde::Serialize;
use std::collections::HashMap;
use uuid::Uuid;

statements! {
    // One look says whether there is anything to take back, to settle or to ask: mostly there is not.
    ANYTHING = super::Sql::same(
        "SELECT CAST(CASE WHEN EXISTS (SELECT 1 FROM recovery WHERE swept_at IS NULL)
                OR EXISTS (SELECT 1 FROM delivery WHERE state = 'sending' AND lease_until <= $1)
                OR EXISTS (SELECT 1 FROM delivery WHERE quarantine_until IS NOT NULL AND quarantine_until <= $1)
                OR EXISTS (SELECT 1 FROM recovery WHERE confirm_by IS NOT NULL AND confirmed_at IS NULL AND confirm_by <= $1)
            THEN 1 ELSE 0 END AS BIGINT)",
    );
    NEXT = locking!(
        "SELECT id, component_id, connection_id, episode, recovered_by, covers_from, covers_until, confirm_by, cursor_at, cursor_id
         FROM recovery WHERE swept_at IS NULL ORDER BY id LIMIT $1",
        "FOR NO KEY UPDATE SKIP LOCKED"
    );
    // What the recovery of an outage before has swept and corrected is not read again: there may be hundreds. Ids may be out
    // of order, for clocks differ; that bounds less, never more. Nor is what its customer has ended: who reconnected by hand
    // is not told afterwards that it was not needed.
    OF_CONNECTIONS = row_by_row!(
        over_rows, "SELECT j.recovery_id, i.delivery_id, i.component_id, i.connection_id, i.episode, i.component_episode,
            i.failed_at, d.state, d.maybe_mailed, d.thread_id, d.subscriber_id FROM",
        [recovery_id uuid, connection_id uuid, episode bigint],
        ["delivery_item" "i" on "i.connection_id = j.connection_id AND i.episode <= j.episode
            AND i.episode > COALESCE((SELECT r.episode FROM recovery r WHERE r.connection_id = j.connection_id AND r.id < j.recovery_id
                AND r.episode < j.episode AND r.recovered_by <> 'customer' AND r.swept_at IS NOT NULL ORDER BY r.id DESC LIMIT 1), 0)
            AND i.corrects_id IS NULL AND i.dropped IS NULL";
         "delivery" "d" on "d.id = i.delivery_id AND d.class = 'action_required'
            AND (d.state IN ('queued', 'sending', 'accepted', 'unknown') OR d.maybe_mailed)"],
        "WHERE COALESCE((SELECT r.recovered_by FROM recovery r WHERE r.connection_id = j.connection_id AND r.episode >= i.episode
                AND r.episode < j.episode ORDER BY r.episode, r.id LIMIT 1), '') <> 'customer'"
    );
    OF_COMPONENT = super::Sql::same(
        "SELECT i.delivery_id, i.component_id, i.connection_id, i.episode, i.component_episode, i.failed_at, d.state, d.maybe_mailed,
                d.thread_id, d.subscriber_id
         FROM delivery_item i JOIN delivery d ON d.id = i.delivery_id JOIN connection c ON c.id = i.connection_id
         WHERE i.component_id = $1 AND i.connection_id IS NOT NULL AND i.corrects_id IS NULL AND i.failed_at <= $2
            AND (i.failed_at, i.delivery_id) >= ($3, $4) AND i.dropped IS NULL AND d.class = 'action_required'
            AND c.own_fault_episode <> i.episode AND c.cleared < i.episode
         ORDER BY i.failed_at, i.delivery_id LIMIT $5",
    );
    WITHDRAW_STALE = over_rows!(
        "UPDATE delivery SET state = 'withdrawn', reason = j.reason, decided_at = j.at FROM",
        [id uuid, reason text, at bigint],
        concat!("WHERE delivery.id = j.id AND ", waits!("delivery"), " AND delivery.class = 'action_required' AND NOT EXISTS (
            SELECT 1 FROM delivery_item i JOIN connection c ON c.id = i.connection_id
            WHERE i.delivery_id = delivery.id AND i.dropped IS NULL AND c.cleared < i.episode
                AND (c.own_fault_episode = i.episode OR NOT EXISTS (SELECT 1 FROM episode e WHERE e.component_id = i.component_id
                    AND e.n >= i.component_episode AND e.covers_from <= i.failed_at AND e.covers_until >= i.failed_at)))
         RETURNING delivery.id")
    );
    CORRECTED_ALREADY = over_rows!(
        "SELECT i.corrects_id, i.subject_id, i.episode FROM", [id uuid], "JOIN delivery_item i ON i.corrects_id = j.id"
    );
    // Locked once more on PostgreSQL: see WAITING_MAILS.
    QUEUED_CORRECTIONS = row_by_row!(
        over_rows, "SELECT d.thread_id, d.id FROM", [id uuid],
        ["delivery" "d" on "d.thread_id = j.id AND d.state = 'queued' AND d.class = 'correction' AND NOT d.maybe_mailed",
            lock "FOR NO KEY UPDATE"],
        ""
    );
    SWEPT = over_rows!(
        "UPDATE recovery SET swept_at = j.at, withdrawn = recovery.withdrawn + j.withdrawn, corrected = recovery.corrected + j.corrected FROM",
        [id uuid, at bigint, withdrawn bigint, corrected bigint],
        "WHERE recovery.id = j.id"
    );
    PAGED = super::Sql::same(
        "UPDATE recovery SET cursor_at = $2, cursor_id = $3, withdrawn = withdrawn + $4, corrected = corrected + $5 WHERE id = $1",
    );
    PROGRESS = super::Sql::same(
        "SELECT id, component_id, connection_id, episode, recovered_by, covers_from, covers_until, committed_at, confirm_by,
                confirmed_at, unconfirmed, withdrawn, corrected, swept_at FROM recovery WHERE id = $1",
    );
    // Of several recoveries the first that reached the outage ended it.
    ENDED_BY = over_rows!(
        "SELECT j.connection_id, j.episode, (SELECT r.recovered_by FROM recovery r WHERE r.connection_id = j.connection_id
            AND r.episode >= j.episode ORDER BY r.episode, r.id LIMIT 1) AS recovered_by FROM",
        [connection_id uuid, episode bigint], ""
    );
    IN_FLIGHT_CONNECTION = super::Sql::same(
        "SELECT COUNT(DISTINCT d.id) FROM delivery_item i JOIN delivery d ON d.id = i.delivery_id
         WHERE i.connection_id = $1 AND i.episode <= $2 AND i.corrects_id IS NULL AND d.class = 'action_required'
            AND (d.state = 'sending' OR (d.state = 'unknown' AND d.quarantine_until IS NOT NULL))",
    );
    // Counted so that SQLite begins with what is on the wire, also where that was nothing when statistics were made: of a
    // join it would read all items.
    IN_FLIGHT_COVERED = super::Sql::same(
        "SELECT COUNT(*) FROM delivery d
         WHERE (d.state = 'sending' OR (d.state = 'unknown' AND d.quarantine_until IS NOT NULL)) AND d.class = 'action_required'
            AND EXISTS (SELECT 1 FROM delivery_item i WHERE i.delivery_id = d.id AND i.component_id = $1 AND i.failed_at >= $2
                AND i.failed_at <= $3 AND i.corrects_id IS NULL)",
    );
}

/// A recovery to be swept.
#[derive(Clone, Copy, Debug, sqlx::FromRow)]
pub struct Recovery {
    /// Its id.
    pub id: RecoveryId,
    /// The component.
    pub component_id: ComponentId,
    /// The connection; `None` for a component's.
    pub connection_id: Option<ConnectionId>,
    /// The outage that ended.
    pub episode: i64,
    /// Who did it.
    pub recovered_by: By,
    /// The first failure it covers.
    pub covers_from: Option<Timestamp>,
    /// The last failure it covers.
    pub covers_until: Option<Timestamp>,
    /// When its connections must have confirmed.
    pub confirm_by: Option<Timestamp>,
    /// How far the sweep has come.
    pub cursor_at: Option<Timestamp>,
    /// How far the sweep has come.
    pub cursor_id: Option<Uuid>,
}

/// What a mail said of a connection whose claim a recovery makes stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Touched {
    /// The mail.
    pub delivery_id: DeliveryId,
    /// The component.
    pub component_id: ComponentId,
    /// The connection.
    pub connection_id: ConnectionId,
    /// The outage of the connection.
    pub episode: i64,
    /// The component's newest outage when it was accepted.
    pub component_episode: i64,
    /// When the outage was observed.
    pub failed_at: Timestamp,
    /// Where the mail stands.
    pub state: State,
    /// It left, or may have left.
    pub maybe_mailed: bool,
    /// Its thread.
    pub thread_id: ThreadId,
    /// Who got it.
    pub subscriber_id: SubscriberId,
}

/// How far a recovery has come.
#[derive(Clone, Debug, Serialize)]
pub struct Progress {
    /// The recovery.
    pub id: RecoveryId,
    /// When it was committed: no look after that lets a stale mail leave.
    pub committed_at: Timestamp,
    /// No mail about it is on the wire or in quarantine.
    pub drained: bool,
    /// Mails about it on the wire or in quarantine.
    pub in_flight: i64,
    /// Queued mails withdrawn so far by the sweep.
    pub withdrawn: i64,
    /// Mails taken back so far: each gets a correction unless it turns out never to have left.
    pub corrected: i64,
    /// When the sweep was done.
    pub swept_at: Option<Timestamp>,
    /// When the connections must have confirmed.
    pub confirm_by: Option<Timestamp>,
    /// When that was checked.
    pub confirmed_at: Option<Timestamp>,
    /// Connections that had not confirmed by then.
    pub unconfirmed: Option<i64>,
}

#[derive(sqlx::FromRow)]
struct ProgressRow {
    id: RecoveryId,
    component_id: ComponentId,
    connection_id: Option<ConnectionId>,
    episode: i64,
    covers_from: Option<Timestamp>,
    covers_until: Option<Timestamp>,
    committed_at: Timestamp,
    confirm_by: Option<Timestamp>,
    confirmed_at: Option<Timestamp>,
    unconfirmed: Option<i64>,
    withdrawn: i64,
    corrected: i64,
    swept_at: Option<Timestamp>,
}

/// Recoveries to be swept, oldest first, locked.
///
/// # Errors
/// When the database fails.
pub async fn next(tx: &mut Tx, most: i64) -> Result<Vec<Recovery>, StoreError> {
    rows!(tx, Recovery, NEXT, most)
}

/// The action-required mails that name the outages which recoveries of connections ended, or older ones that none had ended.
///
/// # Errors
/// When the database fails.
pub async fn of_connections(tx: &mut Tx, of: &[Recovery]) -> Result<Vec<(RecoveryId, Touched)>, StoreError> {
    #[derive(sqlx::FromRow)]
    struct Row {
        recovery_id: RecoveryId,
        #[sqlx(flatten)]
        touched: Touched,
    }
    let row = |r: &Recovery| {
        columns! {
            recovery_id: r.id,
            connection_id: r.connection_id,
            episode: r.episode,
        }
    };
    let found = rows!(tx, Row, OF_CONNECTIONS, json(of.iter().map(row)))?;
    Ok(found.into_iter().map(|row| (row.recovery_id, row.touched)).collect())
}

/// A page of the action-required mails that a covering recovery makes stale, from a cursor on.
///
/// # Errors
/// When the database fails.
pub async fn of_component(
    tx: &mut Tx,
    component: ComponentId,
    until: Timestamp,
    from: (Timestamp, Uuid),
    page: i64,
) -> Result<Vec<Touched>, StoreError> {
    rows!(tx, Touched, OF_COMPONENT, component, until, from.0, from.1, page)
}

/// Withdraws those of some queued mails that name nothing true any more; which. Their threads are locked before: a
/// plan that joins one of them holds its row, and only what is read after waiting for it is the truth.
///
/// # Errors
/// When the database fails.
pub async fn withdraw_stale(
    tx: &mut Tx,
    of: &[DeliveryId],
    reason: crate::domain::delivery::Reason,
) -> Result<Vec<DeliveryId>, StoreError> {
    if of.is_empty() {
        return Ok(Vec::new());
    }
    let at = tx.now().0;
    let list = of.iter().map(|id| columns! { id: id.0, reason: reason.as_str(), at });
    Ok(rows!(tx, (DeliveryId,), WITHDRAW_STALE, json(list))?.into_iter().map(|row| row.0).collect())
}

/// What of some mails has been taken back already: mail, connection, outage.
///
/// # Errors
/// When the database fails.
pub async fn corrected_already(tx: &mut Tx, of: &[DeliveryId]) -> Result<Vec<(DeliveryId, Uuid, i64)>, StoreError> {
    rows!(tx, (DeliveryId, Uuid, i64), CORRECTED_ALREADY, ids(of))
}

/// Who ended some outages of connections, where a recovery of the connection did.
///
/// # Errors
/// When the database fails.
pub async fn ended_by(tx: &mut Tx, of: &[(ConnectionId, i64)]) -> Result<HashMap<(ConnectionId, i64), By>, StoreError> {
    let list = of.iter().map(|(connection, episode)| columns! { connection_id: connection.0, episode: *episode });
    let found = rows!(tx, (ConnectionId, i64, Option<By>), ENDED_BY, json(list))?;
    Ok(found.into_iter().filter_map(|(connection, episode, by)| Some(((connection, episode), by?))).collect())
}

/// The corrections that wait in some threads and can take back more. What may have left says the same again: a mailbox
/// may hide the repeat, and with it whatever it said besides.
///
/// # Errors
/// When the database fails.
pub async fn queued_corrections(tx: &mut Tx, of: &[ThreadId]) -> Result<Vec<(ThreadId, DeliveryId)>, StoreError> {
    rows!(tx, (ThreadId, DeliveryId), QUEUED_CORRECTIONS, ids(of))
}

/// Remembers how far a sweep has come.
///
/// # Errors
/// When the database fails.
pub async fn paged(
    tx: &mut Tx,
    id: RecoveryId,
    cursor: (Timestamp, Uuid),
    withdrawn: i64,
    corrected: i64,
) -> Result<(), StoreError> {
    exec!(tx, PAGED, id, cursor.0, cursor.1, withdrawn, corrected).map(drop)
}

/// Ends sweeps: each with the mails withdrawn and taken back since they were last counted.
///
/// # Errors
/// When the database fails.
pub async fn swept(tx: &mut Tx, of: &[(RecoveryId, i64, i64)]) -> Result<(), StoreError> {
    let at = tx.now().0;
    let row = |(id, withdrawn, corrected): &(RecoveryId, i64, i64)| {
        columns! { id: id.0, at: at, withdrawn: (*withdrawn), corrected: (*corrected) }
    };
    exec!(tx, SWEPT, json(of.iter().map(row))).map(drop)
}

/// How far a recovery has come.
///
/// # Errors
/// When the database fails.
pub async fn progress(tx: &mut Tx, id: RecoveryId) -> Result<Option<Progress>, StoreError> {
    let Some(row) = first!(tx, ProgressRow, PROGRESS, id)? else { return Ok(None) };
    let in_flight = match (row.connection_id, row.covers_from, row.covers_until) {
        (Some(connection), ..) => value!(tx, i64, IN_FLIGHT_CONNECTION, connection, row.episode)?,
        (None, Some(from), Some(until)) => value!(tx, i64, IN_FLIGHT_COVERED, row.component_id, from, until)?,
        _ => 0,
    };
    Ok(Some(Progress {
        id: row.id,
        committed_at: row.committed_at,
        drained: in_flight == 0,
        in_flight,
        withdrawn: row.withdrawn,
        corrected: row.corrected,
        swept_at: row.swept_at,
        confirm_by: row.confirm_by,
        confirmed_at: row.confirmed_at,
        unconfirmed: row.unconfirmed,
    }))
}

/// Whether anything is to be swept, reaped, settled or asked anew.
///
/// # Errors
/// When the database fails.
pub async fn anything(tx: &mut Tx) -> Result<bool, StoreError> {
    let now = tx.now();
    Ok(value!(tx, i64, ANYTHING, now)? > 0)
}
