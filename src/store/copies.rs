//! The mails as they were sent, the dictionaries they are compressed against, and the sets of templates. All of it goes
//! by age.

use super::parameter::ids;
use super::rows::{Row, json};
use super::{StoreError, Tx};
use crate::domain::delivery::{HandOver, State};
use crate::domain::id::DeliveryId;
use crate::domain::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Sets and dictionaries stay this much longer than any copy made with them: a process notes its use of them only
/// now and then, and an outcome can wait in a spill file.
const GRACE: Span = Span::hours(30 * 24);

/// Keeps mails that were handed over, or may have been (`$3`, see [`rows`]). A repeat is the same bytes. Should they
/// differ, those stay that the relay most probably has.
pub(super) const KEEP: super::Sql = over_few_rows!(
    "$3",
    "INSERT INTO mail_copy (delivery_id, dictionary, bytes, sha256, outcome, stored_at)
     SELECT j.id, j.dictionary, j.bytes, j.sha256, j.outcome, j.at FROM",
    [id uuid, dictionary bytea, bytes bytea, sha256 bytea, outcome text, at bigint],
    "JOIN mail_dictionary k ON k.hash = j.dictionary WHERE TRUE ON CONFLICT (delivery_id) DO UPDATE SET
        dictionary = excluded.dictionary, bytes = excluded.bytes, sha256 = excluded.sha256,
        outcome = excluded.outcome, stored_at = excluded.stored_at
     WHERE excluded.outcome = 'accepted' OR (mail_copy.outcome <> 'accepted'
        AND (excluded.outcome = 'unknown' OR mail_copy.outcome <> 'unknown'))"
);

statements! {
    USE_SET = super::Sql::same(
        "INSERT INTO template_set (hash, sources, first_used_at, used_at) VALUES ($1, $2, $3, $3)
         ON CONFLICT (hash) DO UPDATE SET used_at = excluded.used_at",
    );
    USE_DICTIONARY = super::Sql::same(
        "INSERT INTO mail_dictionary (hash, bytes, used_at) VALUES ($1, $2, $3)
         ON CONFLICT (hash) DO UPDATE SET used_at = excluded.used_at",
    );
    // What no copy was made of has an empty text there once it is forgotten.
    COPY = super::Sql::same(
        "SELECT d.state, d.maybe_mailed, d.claimed_at IS NOT NULL AND d.context IS NULL AS removed, c.bytes, c.sha256, c.outcome, c.stored_at,
            k.bytes AS dictionary
         FROM delivery d LEFT JOIN mail_copy c ON c.delivery_id = d.id LEFT JOIN mail_dictionary k ON k.hash = c.dictionary
         WHERE d.id = $1",
    );
    REMOVED = over_rows!(
        "SELECT d.id FROM", [id uuid], "JOIN delivery d ON d.id = j.id WHERE d.claimed_at IS NOT NULL AND d.context IS NULL"
    );
    CONTEXT = super::Sql::same("SELECT NULLIF(context, '') FROM delivery WHERE id = $1");
    SOURCES = super::Sql::same("SELECT sources FROM template_set WHERE hash = $1");
    OLD = locking!(
        "SELECT delivery_id FROM mail_copy WHERE stored_at <= $1 ORDER BY stored_at LIMIT $2",
        "FOR NO KEY UPDATE SKIP LOCKED"
    );
    REMOVE = over_rows!(
        "DELETE FROM mail_copy WHERE delivery_id IN (SELECT j.id FROM", [id uuid], "WHERE TRUE)"
    );
    // What the mail was made of goes with it, unless the delivery is still to be sent.
    FORGET = over_rows!(
        "UPDATE delivery SET context = NULL FROM", [id uuid],
        "WHERE delivery.id = j.id AND delivery.decided_at IS NOT NULL AND delivery.quarantine_until IS NULL"
    );
    // In the order of ids, which is that of time: an index by age would cost every mail.
    PASS = super::Sql::same(
        "SELECT d.id, d.created_at, COALESCE(d.decided_at <= $3 AND d.quarantine_until IS NULL AND d.context <> ''
            AND NOT EXISTS (SELECT 1 FROM mail_copy c WHERE c.delivery_id = d.id), FALSE) AS uncopied
         FROM delivery d WHERE d.id > $1 ORDER BY d.id LIMIT $2",
    );
    FORGET_UNCOPIED = over_rows!(
        "UPDATE delivery SET context = '' FROM", [id uuid],
        "WHERE delivery.id = j.id AND delivery.decided_at IS NOT NULL AND delivery.quarantine_until IS NULL
            AND delivery.context <> '' AND NOT EXISTS (SELECT 1 FROM mail_copy c WHERE c.delivery_id = delivery.id)"
    );
    OLD_DICTIONARIES = super::Sql::same("DELETE FROM mail_dictionary WHERE used_at <= $1");
    OLD_SETS = super::Sql::same("DELETE FROM template_set WHERE used_at <= $1");
}

/// A mail's bytes, compressed. All are hexadecimal, so that the copy can wait in a spill file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailCopy {
    /// The content address of the dictionary.
    pub dictionary: String,
    /// SHA-256 of the mail.
    pub sha256: String,
    /// The compressed mail.
    pub bytes: String,
}

/// What is known of a delivery's mail.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Stored {
    /// Where the delivery stands.
    pub state: State,
    /// It left, or may have left.
    pub maybe_mailed: bool,
    /// What its mail was made of has been removed by age, and with it the copy.
    pub removed: bool,
    /// The compressed mail.
    pub bytes: Option<Vec<u8>>,
    /// SHA-256 of the mail.
    pub sha256: Option<Vec<u8>>,
    /// How the try ended in which it was handed over.
    pub outcome: Option<HandOver>,
    /// When that was.
    pub stored_at: Option<Timestamp>,
    /// What it is compressed against.
    pub dictionary: Option<Vec<u8>>,
}

/// The rows of [`KEEP`].
pub(super) fn rows<'a>(at: Timestamp, of: impl Iterator<Item = (DeliveryId, HandOver, &'a MailCopy)>) -> String {
    let hex = |text: &str| format!("\\x{text}");
    // One row for each delivery, the surest: a spill file may hold two tries of one.
    let mut rows: BTreeMap<DeliveryId, (u8, Row<'_, 6>)> = BTreeMap::new();
    for (id, outcome, copy) in of {
        let sure = match outcome {
            HandOver::Accepted => 2,
            HandOver::Unknown => 1,
            _ => 0,
        };
        if rows.get(&id).is_none_or(|(other, _)| sure >= *other) {
            let (dictionary, bytes, sha256) = (hex(&copy.dictionary), hex(&copy.bytes), hex(&copy.sha256));
            let row = columns! { id, dictionary, bytes, sha256, outcome, at };
            rows.insert(id, (sure, row));
        }
    }
    json(rows.into_values().map(|(_, row)| row))
}

/// Notes that a set of templates and its dictionaries are in use, and stores those that are new.
///
/// # Errors
/// When the database fails.
pub async fn in_use<'a>(
    tx: &mut Tx,
    set: (&str, &str),
    dictionaries: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<(), StoreError> {
    let now = tx.now();
    exec!(tx, USE_SET, set.0, set.1, now)?;
    for (hash, bytes) in dictionaries {
        exec!(tx, USE_DICTIONARY, hash, bytes, now)?;
    }
    Ok(())
}

/// What is known of a delivery's mail; `None` when there is no such delivery.
///
/// # Errors
/// When the database fails.
pub async fn stored(tx: &mut Tx, id: DeliveryId) -> Result<Option<Stored>, StoreError> {
    first!(tx, Stored, COPY, id)
}

/// What the claim froze of a delivery, as JSON: nothing before it is claimed, nor after its copy was removed.
///
/// # Errors
/// When the database fails.
pub async fn context(tx: &mut Tx, id: DeliveryId) -> Result<Option<String>, StoreError> {
    Ok(first!(tx, (Option<String>,), CONTEXT, id)?.and_then(|row| row.0))
}

/// The sources of a set of templates by its content address, as JSON.
///
/// # Errors
/// When the database fails.
pub async fn sources(tx: &mut Tx, hash: &str) -> Result<Option<String>, StoreError> {
    Ok(first!(tx, (String,), SOURCES, hash)?.map(|row| row.0))
}

/// Removes up to `most` copies that were stored by `until`, and what their mails were made of; how many.
///
/// # Errors
/// When the database fails.
pub async fn remove(tx: &mut Tx, until: Timestamp, most: i64) -> Result<usize, StoreError> {
    let old = rows!(tx, (DeliveryId,), OLD, until, most)?;
    if !old.is_empty() {
        let list = json(old.iter().map(|row| columns! { id: row.0 }));
        exec!(tx, REMOVE, &list)?;
        exec!(tx, FORGET, &list)?;
    }
    Ok(old.len())
}

/// Of these deliveries those whose copies have been removed by age.
///
/// # Errors
/// When the database fails.
pub async fn removed(tx: &mut Tx, of: &[DeliveryId]) -> Result<Vec<DeliveryId>, StoreError> {
    Ok(rows!(tx, (DeliveryId,), REMOVED, ids(of))?.into_iter().map(|row| row.0).collect())
}

/// A delivery that is gone by on the way through all of them.
#[derive(Clone, Copy, Debug, sqlx::FromRow)]
pub struct Passed {
    /// Its id.
    pub id: DeliveryId,
    /// When it was planned.
    pub created_at: Timestamp,
    /// It is decided, no copy of its mail is there, and what it was made of still is.
    pub uncopied: bool,
}

/// The oldest deliveries after one, and which of them were decided by `until` without a copy to be removed.
///
/// # Errors
/// When the database fails.
pub async fn pass(tx: &mut Tx, after: DeliveryId, until: Timestamp, most: i64) -> Result<Vec<Passed>, StoreError> {
    rows!(tx, Passed, PASS, after, most, until)
}

/// Removes what those of these mails were made of that are decided and have no copy.
///
/// # Errors
/// When the database fails.
pub async fn forget(tx: &mut Tx, of: &[DeliveryId]) -> Result<(), StoreError> {
    exec!(tx, FORGET_UNCOPIED, ids(of)).map(drop)
}

/// Removes the sets and dictionaries that no copy younger than `until` can need.
///
/// # Errors
/// When the database fails.
pub async fn remove_sets(tx: &mut Tx, until: Timestamp) -> Result<(), StoreError> {
    let until = until - GRACE;
    exec!(tx, OLD_DICTIONARIES, until)?;
    exec!(tx, OLD_SETS, until).map(drop)
}
