//! Failures that were to heal by themselves, and have not.

use super::{StoreError, Tx};
use crate::domain::time::Timestamp;

statements! {
    PATIENCE_ENDED = super::Sql::same(
        "SELECT key FROM connection WHERE fault = 'recoverable' AND cleared < episode AND asked_episode < episode AND failed_at <= $1
         ORDER BY failed_at LIMIT $2",
    );
}

/// The keys of connections that were to heal by themselves and have not by a time, a page of them.
///
/// # Errors
/// When the database fails.
pub async fn not_healed(tx: &mut Tx, since: Timestamp, page: i64) -> Result<Vec<String>, StoreError> {
    Ok(rows!(tx, (String,), PATIENCE_ENDED, since, page)?.into_iter().map(|row| row.0).collect())
}
