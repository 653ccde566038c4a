//! Deadlines of covering recoveries: which has passed, and whose connections have not confirmed.

use super::rows::json;
use super::{StoreError, Tx};
use crate::domain::id::{ComponentId, RecoveryId};
use crate::domain::time::Timestamp;

statements! {
    UNCONFIRMED_RECOVERIES = locking!(
        "SELECT id, component_id, covers_from, covers_until FROM recovery
         WHERE confirm_by IS NOT NULL AND confirmed_at IS NULL AND confirm_by <= $1 ORDER BY confirm_by LIMIT 1",
        "FOR NO KEY UPDATE SKIP LOCKED"
    );
    UNCONFIRMED_KEYS = super::Sql::same(
        "SELECT key FROM connection WHERE component_id = $1 AND failed_at >= $2 AND failed_at <= $3 AND cleared < episode
            AND own_fault_episode < episode ORDER BY failed_at LIMIT $4",
    );
    COUNT_UNCONFIRMED = super::Sql::same(
        "SELECT COUNT(*) FROM connection WHERE component_id = $1 AND failed_at >= $2 AND failed_at <= $3 AND cleared < episode
            AND own_fault_episode < episode",
    );
    ADD_UNCONFIRMED = super::Sql::same("UPDATE recovery SET unconfirmed = COALESCE(unconfirmed, 0) + $2 WHERE id = $1");
    LIST_UNCONFIRMED = super::Sql::same(
        "UPDATE recovery SET unconfirmed = CASE WHEN unconfirmed > $2 THEN unconfirmed ELSE $2 END WHERE id = $1",
    );
    LOCK_COMPONENT = locking!("SELECT 1 FROM component WHERE id = $1", "FOR NO KEY UPDATE");
    CONFIRMED = super::Sql::same("UPDATE recovery SET confirmed_at = $2, unconfirmed = COALESCE(unconfirmed, 0) WHERE id = $1");
    LOOK_AGAIN = over_rows!(
        "UPDATE recovery SET confirmed_at = NULL FROM", [component_id uuid, at bigint],
        "WHERE recovery.component_id = j.component_id AND recovery.connection_id IS NULL AND recovery.confirmed_at IS NOT NULL
            AND recovery.covers_from <= j.at AND recovery.covers_until >= j.at"
    );
}

/// A covering recovery whose deadline has passed, locked: its id, component and what it covers.
///
/// # Errors
/// When the database fails.
pub async fn past(tx: &mut Tx) -> Result<Option<(RecoveryId, ComponentId, Timestamp, Timestamp)>, StoreError> {
    let now = tx.now();
    first!(tx, (RecoveryId, ComponentId, Timestamp, Timestamp), UNCONFIRMED_RECOVERIES, now)
}

/// A page of the keys of connections that have not confirmed.
///
/// # Errors
/// When the database fails.
pub async fn unconfirmed(
    tx: &mut Tx,
    component: ComponentId,
    covers: (Timestamp, Timestamp),
    page: i64,
) -> Result<Vec<String>, StoreError> {
    let found = rows!(tx, (String,), UNCONFIRMED_KEYS, component, covers.0, covers.1, page)?;
    Ok(found.into_iter().map(|row| row.0).collect())
}

/// Waits for whoever takes in signals of a component, and has those wait that come.
///
/// # Errors
/// When the database fails.
pub async fn lock(tx: &mut Tx, component: ComponentId) -> Result<(), StoreError> {
    lock!(tx, LOCK_COMPONENT, component)
}

/// Lists the connections that have not confirmed: notes how many there are.
///
/// # Errors
/// When the database fails.
pub async fn list_unconfirmed(
    tx: &mut Tx,
    id: RecoveryId,
    component: ComponentId,
    covers: (Timestamp, Timestamp),
) -> Result<(), StoreError> {
    let n = value!(tx, i64, COUNT_UNCONFIRMED, component, covers.0, covers.1)?;
    exec!(tx, LIST_UNCONFIRMED, id, n).map(drop)
}

/// Adds to the number of connections that had not confirmed.
///
/// # Errors
/// When the database fails.
pub async fn add_unconfirmed(tx: &mut Tx, id: RecoveryId, n: i64) -> Result<(), StoreError> {
    exec!(tx, ADD_UNCONFIRMED, id, n).map(drop)
}

/// Notes that the deadline of a covering recovery was checked.
///
/// # Errors
/// When the database fails.
pub async fn confirmed(tx: &mut Tx, id: RecoveryId) -> Result<(), StoreError> {
    let now = tx.now();
    exec!(tx, CONFIRMED, id, now).map(drop)
}

/// Failures that covering recoveries spoke for were heard of only now: where a deadline was checked already, it is once more.
///
/// # Errors
/// When the database fails.
pub async fn look_again(tx: &mut Tx, of: &[(ComponentId, Timestamp)]) -> Result<(), StoreError> {
    let row = |(component, at): &(ComponentId, Timestamp)| columns! { component_id: component.0, at: at.0 };
    if of.is_empty() { Ok(()) } else { exec!(tx, LOOK_AGAIN, json(of.iter().map(row))).map(drop) }
}
