//! Opening PostgreSQL: the primary itself, durable, in sessions of our own.

use super::{POSTGRES_MIGRATIONS, Pool, migrate, unfit};
use crate::store::error::StoreError;
use crate::store::fitness::{SESSION, Server, check_session};
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use std::str::FromStr;
use std::time::Duration;

pub(super) async fn open(url: &str, connections: u32) -> Result<Pool, StoreError> {
    let pool = connect(url, connections).await?;
    check_session(&pool).await?;
    if let Some(refusal) = Server::ask(&pool).await?.refusals().into_iter().next() {
        return Err(refusal);
    }
    let mut conn = pool.acquire().await.map_err(|e| StoreError::failed("connect", e))?;
    migrate(&POSTGRES_MIGRATIONS, &mut *conn).await?;
    drop(conn);
    Ok(Pool::Postgres(pool))
}

pub(super) async fn connect(url: &str, connections: u32) -> Result<PgPool, StoreError> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|e| unfit(format!("database.url cannot be read: {e}"), "write postgres://user@host/database"))?
        // PgBouncer refuses it unless told otherwise, and no float is read.
        .extra_float_digits(None);
    PgPoolOptions::new()
        .max_connections(connections.max(2))
        .acquire_timeout(Duration::from_secs(10))
        .after_connect(|conn, _| Box::pin(async move { sqlx::raw_sql(SESSION).execute(conn).await.map(drop) }))
        .connect_with(options.clone())
        .await
        .map_err(|e| {
            unfit(
                format!("PostgreSQL at {}:{} cannot be reached: {e}", options.get_host(), options.get_port()),
                "check database.url, that the server runs, and that this host may log in",
            )
        })
}
