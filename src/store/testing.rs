//! Helpers of the tests inside the store.

use super::{Clock, Store, Tx, seam::Handle};
use crate::domain::time::Timestamp;

/// The time at which the tests' clock stands.
pub const NOW: Timestamp = Timestamp(1_740_861_600_000_000);

/// An SQLite database of its own, with its driven clock.
pub async fn store() -> (tempfile::TempDir, Store, Clock) {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", dir.path().join("test.db").display());
    let clock = Clock::driven(NOW);
    let store = Store::open(&url, Default::default(), clock.clone()).await.unwrap();
    (dir, store, clock)
}

/// Runs statements as they are.
pub async fn sql(tx: &mut Tx, text: &'static str) {
    match tx.handle() {
        Handle::Sqlite(conn) => drop(sqlx::raw_sql(text).execute(conn).await.unwrap()),
        Handle::Postgres(conn) => drop(sqlx::raw_sql(text).execute(conn).await.unwrap()),
    }
}
