//! News between the nodes of a PostgreSQL database: something was taken in. A hint and no more: it may be lost, and the
//! poll finds all the same.

use super::{Store, StoreError};
use sqlx::postgres::PgListener;

/// Every schema has a channel of its own; the names of channels may have 63 bytes.
const CHANNEL: &str = "SELECT 'allclear_' || md5(current_schema())";
const TELL: &str = "SELECT pg_notify('allclear_' || md5(current_schema()), $1)";

/// What other nodes tell.
#[derive(Debug)]
pub struct News {
    listener: PgListener,
    own: String,
}

impl News {
    /// Waits until another node has told something.
    ///
    /// # Errors
    /// When the connection is lost: what was told meanwhile is not heard.
    pub async fn next(&mut self) -> Result<(), StoreError> {
        loop {
            let heard = self.listener.recv().await.map_err(|e| StoreError::failed("hear news", e))?;
            if heard.payload() != self.own {
                return Ok(());
            }
        }
    }
}

impl Store {
    /// Hears what other nodes tell, but not what `own` does. Nothing on SQLite, which has one dispatching process.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn listen(&self, own: &str) -> Result<Option<News>, StoreError> {
        let Some(pool) = self.postgres() else { return Ok(None) };
        let failed = |e| StoreError::failed("listen for news", e);
        let channel: String = sqlx::query_scalar(CHANNEL).fetch_one(pool).await.map_err(failed)?;
        let mut listener = PgListener::connect_with(pool).await.map_err(failed)?;
        listener.listen(&channel).await.map_err(failed)?;
        Ok(Some(News { listener, own: own.to_owned() }))
    }

    /// Tells the other nodes that something was taken in.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn tell(&self, own: &str) -> Result<(), StoreError> {
        let Some(pool) = self.postgres() else { return Ok(()) };
        let told = sqlx::query(TELL).bind(own).execute(pool).await;
        told.map(drop).map_err(|e| StoreError::failed("tell news", e))
    }
}
