//! Finished mails leave the tables that dispatchers work in. What people read of each goes into a document, so that it
//! says the same for as long as it is kept, whatever else is removed or rewritten; beside it stands what it is looked
//! for by.

use super::parameter::ids;
use super::rows::json;
use super::{StoreError, Tx};
use crate::domain::delivery::State;
use crate::domain::id::{DeliveryId, ThreadId};
use crate::domain::time::Timestamp;

statements! {
    // A correction may still be owed for what such a recovery has not been compared with.
    UNDER_WAY = super::Sql::same(
        "SELECT CAST(CASE WHEN EXISTS (SELECT 1 FROM recovery WHERE swept_at IS NULL) THEN 1 ELSE 0 END AS BIGINT)",
    );
    OLDEST = super::Sql::same(
        "SELECT id, thread_id, created_at, decided_at FROM delivery WHERE id > $1 ORDER BY id LIMIT $2",
    );
    // Nothing may still be owed in the thread, no copy kept of its mails, and no other row point at them. A connection that
    // is still broken may be owed a correction however late it recovers.
    OVER = over_rows!(
        "SELECT d.id FROM", [id uuid, before bigint],
        "JOIN thread t ON t.id = j.id JOIN delivery d ON d.thread_id = t.id
         LEFT JOIN incident n ON t.matter_kind = 'incident' AND n.id = t.matter_id
         WHERE (t.matter_kind <> 'incident' OR n.resolved_at < j.before)
            AND NOT EXISTS (SELECT 1 FROM delivery x WHERE x.thread_id = t.id AND (x.decided_at IS NULL OR x.decided_at >= j.before
                OR x.quarantine_until IS NOT NULL OR x.state = 'parked'
                OR EXISTS (SELECT 1 FROM mail_copy c WHERE c.delivery_id = x.id)
                OR EXISTS (SELECT 1 FROM stream_pause p WHERE p.delivery_id = x.id)
                OR EXISTS (SELECT 1 FROM delivery f WHERE f.folded_into = x.id AND f.thread_id <> x.thread_id)
                OR EXISTS (SELECT 1 FROM delivery r WHERE r.resend_of = x.id AND r.thread_id <> x.thread_id)
                OR EXISTS (SELECT 1 FROM delivery_item i JOIN connection c ON c.id = i.connection_id
                    WHERE i.delivery_id = x.id AND c.cleared < i.episode)))"
    );
    KEEP = over_rows!(
        "INSERT INTO archived_delivery (id, created_at, subscriber_id, notice_id, incident_id, class, state, address, document,
            archived_at)
         SELECT d.id, d.created_at, d.subscriber_id, d.notice_id, d.incident_id, d.class, d.state, COALESCE(d.address, s.address),
            j.document, j.at FROM", [id uuid, document text, at bigint],
        "JOIN delivery d ON d.id = j.id JOIN subscriber s ON s.id = d.subscriber_id"
    );
    KEEP_ITEMS = over_rows!(
        "INSERT INTO archived_item (connection_id, episode, delivery_id)
         SELECT DISTINCT i.connection_id, i.episode, i.delivery_id FROM", [id uuid],
        "JOIN delivery_item i ON i.delivery_id = j.id WHERE i.connection_id IS NOT NULL"
    );
    REMOVE_ATTEMPTS = over_rows!("DELETE FROM attempt WHERE delivery_id IN (SELECT j.id FROM", [id uuid], "WHERE TRUE)");
    REMOVE_ITEMS = over_rows!("DELETE FROM delivery_item WHERE delivery_id IN (SELECT j.id FROM", [id uuid], "WHERE TRUE)");
    REMOVE_DELIVERIES = over_rows!("DELETE FROM delivery WHERE id IN (SELECT j.id FROM", [id uuid], "WHERE TRUE)");
    DOCUMENTS = over_rows!(
        "SELECT a.id, a.document, a.archived_at FROM", [id uuid], "JOIN archived_delivery a ON a.id = j.id"
    );
    STATE = super::Sql::same("SELECT state FROM archived_delivery WHERE id = $1");
}

/// A delivery that may be old enough.
#[derive(Clone, Copy, Debug, sqlx::FromRow)]
pub struct Old {
    /// Its id.
    pub id: DeliveryId,
    /// Its thread.
    pub thread_id: ThreadId,
    /// When it was planned.
    pub created_at: Timestamp,
    /// When its end was known.
    pub decided_at: Option<Timestamp>,
}

/// What is kept of a delivery.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Document {
    /// The delivery.
    pub id: DeliveryId,
    /// What people read of it, as JSON.
    pub document: String,
    /// Since when it is kept so.
    pub archived_at: Timestamp,
}

/// Whether recoveries are still being carried out: nothing is moved meanwhile.
///
/// # Errors
/// When the database fails.
pub async fn under_way(tx: &mut Tx) -> Result<bool, StoreError> {
    Ok(value!(tx, i64, UNDER_WAY)? != 0)
}

/// The oldest deliveries after this one.
///
/// # Errors
/// When the database fails.
pub async fn oldest(tx: &mut Tx, after: DeliveryId, most: i64) -> Result<Vec<Old>, StoreError> {
    rows!(tx, Old, OLDEST, after, most)
}

/// The deliveries of those of these threads in which everything ended before a time.
///
/// # Errors
/// When the database fails.
pub async fn over(tx: &mut Tx, threads: &[ThreadId], before: Timestamp) -> Result<Vec<DeliveryId>, StoreError> {
    let list = threads.iter().map(|t| columns! { id: t.0, before: before.0 });
    Ok(rows!(tx, (DeliveryId,), OVER, json(list))?.into_iter().map(|row| row.0).collect())
}

/// Puts deliveries away, each with its document.
///
/// # Errors
/// When the database fails.
pub async fn put_away(tx: &mut Tx, of: &[(DeliveryId, String)]) -> Result<(), StoreError> {
    let at = tx.now().0;
    let list = of.iter().map(|(id, document)| columns! { id: id.0, document, at });
    let these = ids(&of.iter().map(|(id, _)| *id).collect::<Vec<_>>());
    exec!(tx, KEEP, json(list))?;
    exec!(tx, KEEP_ITEMS, &these)?;
    exec!(tx, REMOVE_ATTEMPTS, &these)?;
    exec!(tx, REMOVE_ITEMS, &these)?;
    exec!(tx, REMOVE_DELIVERIES, &these).map(drop)
}

/// What is kept of those of these deliveries that were put away.
///
/// # Errors
/// When the database fails.
pub async fn documents(tx: &mut Tx, of: &[DeliveryId]) -> Result<Vec<Document>, StoreError> {
    rows!(tx, Document, DOCUMENTS, ids(of))
}

/// How a delivery ended that was put away.
///
/// # Errors
/// When the database fails.
pub async fn state(tx: &mut Tx, of: DeliveryId) -> Result<Option<State>, StoreError> {
    Ok(first!(tx, (State,), STATE, of)?.map(|row| row.0))
}
