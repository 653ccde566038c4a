//! What operators' own systems are told: rows that wait until they were taken.

use super::{StoreError, Tx};
use crate::domain::id::{AlertId, SurgeId};
use crate::domain::time::Timestamp;

statements! {
    ADD_ALERT = super::Sql::same("INSERT INTO alert (id, surge_id, body, created_at, due_at) VALUES ($1, $2, $3, $4, $4)");
    // Of a surge none before those that are older: whoever reads them last would take a stage of before for now's.
    NEXT_ALERT = locking!(
        "SELECT a.id, a.body, a.created_at, a.tries FROM alert a WHERE a.done_at IS NULL AND a.due_at <= $1
            AND NOT EXISTS (SELECT 1 FROM alert o WHERE o.surge_id = a.surge_id AND o.done_at IS NULL
                AND (o.created_at, o.id) < (a.created_at, a.id))
         ORDER BY a.due_at LIMIT 1",
        "FOR NO KEY UPDATE SKIP LOCKED"
    );
    TRY_ALERT = super::Sql::same("UPDATE alert SET due_at = $2, tries = tries + 1 WHERE id = $1");
    PUT_ALERT_OFF = super::Sql::same("UPDATE alert SET due_at = $2, said = $3 WHERE id = $1 AND done_at IS NULL");
    // It is the oldest of its surge that waits.
    NEXT_OF_SURGE = super::Sql::same(
        "SELECT id FROM alert WHERE surge_id = (SELECT surge_id FROM alert WHERE id = $1) AND done_at IS NULL AND id <> $1 LIMIT 1"
    );
    REFUSED_ALERT = super::Sql::same(
        "SELECT created_at, tries, said FROM alert WHERE done_at IS NULL AND said IS NOT NULL ORDER BY due_at LIMIT 1"
    );
    END_ALERT = super::Sql::same("UPDATE alert SET done_at = $2, said = $3 WHERE id = $1");
}

/// Something to be told.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Alert {
    /// Its id: the same in every try.
    pub id: AlertId,
    /// What is said.
    pub body: String,
    /// Since when it is to be told.
    pub created_at: Timestamp,
    /// How often it was tried.
    pub tries: i64,
}

/// Something that was not taken, and is tried again.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Refused {
    /// Since when it is to be told.
    pub created_at: Timestamp,
    /// How often it was tried.
    pub tries: i64,
    /// What came of the last try.
    pub said: String,
}

/// Leaves something to be told.
///
/// # Errors
/// When the database fails.
pub async fn add(tx: &mut Tx, id: AlertId, of: SurgeId, body: &str) -> Result<(), StoreError> {
    let now = tx.now();
    exec!(tx, ADD_ALERT, id, of, body, now).map(drop)
}

/// Takes what is due, so that nobody else does before a time.
///
/// # Errors
/// When the database fails.
pub async fn take(tx: &mut Tx, until: Timestamp) -> Result<Option<Alert>, StoreError> {
    let now = tx.now();
    let found = first!(tx, Alert, NEXT_ALERT, now)?;
    if let Some(alert) = &found {
        exec!(tx, TRY_ALERT, alert.id, until)?;
    }
    Ok(found)
}

/// It was not taken: it is tried again at this time.
///
/// # Errors
/// When the database fails.
pub async fn put_off(tx: &mut Tx, id: AlertId, until: Timestamp, said: &str) -> Result<(), StoreError> {
    exec!(tx, PUT_ALERT_OFF, id, until, said).map(drop)
}

/// Whether something newer of the same surge waits behind it.
///
/// # Errors
/// When the database fails.
pub async fn is_followed(tx: &mut Tx, id: AlertId) -> Result<bool, StoreError> {
    Ok(first!(tx, (AlertId,), NEXT_OF_SURGE, id)?.is_some())
}

/// What was not taken and is tried next.
///
/// # Errors
/// When the database fails.
pub async fn refused(tx: &mut Tx) -> Result<Option<Refused>, StoreError> {
    first!(tx, Refused, REFUSED_ALERT)
}

/// It was taken, or is given up.
///
/// # Errors
/// When the database fails.
pub async fn end(tx: &mut Tx, id: AlertId, said: &str) -> Result<(), StoreError> {
    let now = tx.now();
    exec!(tx, END_ALERT, id, now, said).map(drop)
}
