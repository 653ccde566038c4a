//! Finished mails leave the tables that dispatchers work in. What people read of each goes into a document, so that it
//! says the same for as long as it is kept, whatever else is removed or rewritten; beside it stands what it is looked
//! for by.

use super::parameter::ids;
use super::resend::Filter;
use super::rows::json;
use super::{StoreError, Tx};
use crate::domain::delivery::State;
use crate::domain::id::{DeliveryId, ThreadId};
use crate::domain::time::Timestamp;
use std::collections::BTreeSet;

macro_rules! undelivered {
    ($which:literal) => {
        super::Sql::differs(undelivered!(@ $which, "a.document"), undelivered!(@ $which, "a.document::json"))
    };
    (@ $which:literal, $document:literal) => {
        concat!("SELECT COUNT(*) FROM archived_delivery a WHERE ", $which, " AND (a.state || '' = $1 OR $1 IS NULL)
            AND (a.class = $2 OR $2 IS NULL) AND (", $document, "->>'stream' = $3 OR $3 IS NULL)
            AND (", $document, "->>'reason' = $4 OR $4 IS NULL) AND a.created_at >= $5 AND a.created_at < $6
            AND a.document NOT LIKE '%\"step\":\"resent\"%'")
    };
}

// SQLite begins with the first of tables that are joined so, whatever its statistics say of the others.
macro_rules! link {
    ($by:literal, $which:literal) => {
        super::Sql::differs(link!(@ "CROSS JOIN", $by, $which).sqlite, link!(@ "JOIN", $by, $which).postgres)
    };
    (@ $join:literal, $by:literal, $which:literal) => {
        over_rows!(
            "SELECT o.id FROM",
            [id uuid],
            concat!($join, " delivery d ON d.id = j.id ", $by, " ", $join, " delivery o ON ", $which, " WHERE o.thread_id = d.thread_id")
        )
    };
}

statements! {
    // A correction may still be owed for what such a recovery has not been compared with.
    UNDER_WAY = super::Sql::same(
        "SELECT CAST(CASE WHEN EXISTS (SELECT 1 FROM recovery WHERE swept_at IS NULL) THEN 1 ELSE 0 END AS BIGINT)",
    );
    OLDEST = super::Sql::same(
        "SELECT id, thread_id, created_at, decided_at FROM delivery WHERE id > $1 ORDER BY id LIMIT $2",
    );
    // Nothing may still be owed in the thread, no copy kept of its mails, nobody have to decide about one, and no other row point
    // at them. A connection that is still broken may be owed a correction however late it recovers.
    OVER = over_rows!(
        "SELECT t.id FROM", [id uuid, before bigint],
        "JOIN thread t ON t.id = j.id
         LEFT JOIN incident n ON t.matter_kind = 'incident' AND n.id = t.matter_id
         WHERE (t.matter_kind <> 'incident' OR n.resolved_at < j.before)
            AND NOT EXISTS (SELECT 1 FROM delivery x WHERE x.thread_id = t.id AND (x.decided_at IS NULL OR x.decided_at >= j.before
                OR x.quarantine_until IS NOT NULL
                OR (x.state = 'parked' AND NOT EXISTS (SELECT 1 FROM delivery a WHERE a.resend_of = x.id))
                OR EXISTS (SELECT 1 FROM mail_copy c WHERE c.delivery_id = x.id)
                OR EXISTS (SELECT 1 FROM stream_pause p WHERE p.delivery_id = x.id)
                OR EXISTS (SELECT 1 FROM delivery f WHERE f.folded_into = x.id AND f.thread_id <> x.thread_id)
                OR EXISTS (SELECT 1 FROM delivery r WHERE r.resend_of = x.id AND r.thread_id <> x.thread_id)
                OR EXISTS (SELECT 1 FROM delivery_item i JOIN connection c ON c.id = i.connection_id
                    WHERE i.delivery_id = x.id AND c.cleared < i.episode)))"
    );
    FIRST_OF = over_rows!(
        "SELECT d.id, d.thread_id FROM", [id uuid], "JOIN delivery d ON d.thread_id = j.id ORDER BY d.thread_id, d.id LIMIT $2"
    );
    // What corrects, replaces or repeats what, either way: a document tells of it, and rows point at it.
    LINKED = super::Sql::differs(
        joined!(LINKS[0].sqlite, " UNION ", LINKS[1].sqlite, " UNION ", LINKS[2].sqlite, " UNION ", LINKS[3].sqlite, " UNION ",
            LINKS[4].sqlite, " UNION ", LINKS[5].sqlite),
        joined!(LINKS[0].postgres, " UNION ", LINKS[1].postgres, " UNION ", LINKS[2].postgres, " UNION ", LINKS[3].postgres, " UNION ",
            LINKS[4].postgres, " UNION ", LINKS[5].postgres),
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
    // What a batch of resends would pick, were it not put away: a document says the rest, and whether it was sent again.
    UNDELIVERED_IN_STATE = undelivered!("a.state IN ('failed', 'suppressed', 'parked', 'unknown') AND CAST($7 AS UUID) IS NULL");
    UNDELIVERED_OF_INCIDENT = undelivered!("a.incident_id = $7 AND a.state || '' IN ('failed', 'suppressed', 'parked', 'unknown')");
}

/// The links of given mails to others of their threads, a kind each.
const LINKS: [super::Sql; 6] = [
    link!("", "o.id = d.folded_into"),
    link!("", "o.id = d.resend_of"),
    link!("JOIN delivery_item i ON i.delivery_id = d.id", "o.id = i.corrects_id"),
    link!("", "o.folded_into = d.id"),
    link!("", "o.resend_of = d.id"),
    link!("JOIN delivery_item i ON i.corrects_id = d.id", "o.id = i.delivery_id"),
];

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

/// Those of these threads in which everything ended before a time.
///
/// # Errors
/// When the database fails.
pub async fn over(tx: &mut Tx, threads: &[ThreadId], before: Timestamp) -> Result<Vec<ThreadId>, StoreError> {
    let list = threads.iter().map(|t| columns! { id: t.0, before: before.0 });
    Ok(rows!(tx, (ThreadId,), OVER, json(list))?.into_iter().map(|row| row.0).collect())
}

/// Deliveries that can be put away alone, and their threads.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// The deliveries.
    pub deliveries: Vec<DeliveryId>,
    /// The threads.
    pub threads: Vec<ThreadId>,
}

/// About so many deliveries of threads that are over, thread by thread, with whatever corrects, replaces or repeats them.
///
/// # Errors
/// When the database fails.
pub async fn first_of(tx: &mut Tx, threads: &[ThreadId], most: i64) -> Result<Part, StoreError> {
    let first = rows!(tx, (DeliveryId, ThreadId), FIRST_OF, ids(threads), most)?;
    let threads: BTreeSet<_> = first.iter().map(|row| row.1).collect();
    let mut new: Vec<_> = first.into_iter().map(|row| row.0).collect();
    let mut all: BTreeSet<_> = new.iter().copied().collect();
    while !new.is_empty() {
        new = rows!(tx, (DeliveryId,), LINKED, ids(&new))?.into_iter().map(|row| row.0).collect();
        new.retain(|id| all.insert(*id));
    }
    Ok(Part { deliveries: all.into_iter().collect(), threads: threads.into_iter().collect() })
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

/// How many undelivered mails were put away and not sent again.
///
/// # Errors
/// When the database fails.
pub async fn undelivered(tx: &mut Tx, of: &Filter) -> Result<u64, StoreError> {
    let (from, until) = (of.from.unwrap_or(Timestamp(i64::MIN)), of.until.unwrap_or(Timestamp(i64::MAX)));
    let sql = if of.incident.is_some() { UNDELIVERED_OF_INCIDENT } else { UNDELIVERED_IN_STATE };
    let (class, stream) = (of.class, of.stream.as_deref());
    let found = value!(tx, i64, sql, of.state, class, stream, of.reason, from, until, of.incident)?;
    Ok(u64::try_from(found).unwrap_or(0))
}
