//! Opening PostgreSQL: the primary itself, durable, in sessions of our own.

use super::{LOOKING, POSTGRES_MIGRATIONS, Pool, migrate, refuse_foreign, system_time, unfit};
use crate::domain::time::{Span, Timestamp};
use crate::store::doctor::FOREIGN_TABLE;
use crate::store::error::{StoreError, hint_of};
use crate::store::fitness::{SESSION, Server, check_session};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// How long a server may take to answer, or to start: after a power cut it may come up later than we do.
const STARTING: Duration = Duration::from_secs(10);
/// A connection that has rested for as long as this may have died meanwhile: it is asked before it is used. To ask each
/// time would cost every transaction an exchange.
const RESTED: Duration = Duration::from_secs(1);

pub(super) async fn open(url: &str, connections: u32) -> Result<Pool, StoreError> {
    let (pool, doubt) = connect(url, connections, STARTING).await?;
    check_session(&pool).await?;
    if let Some(refusal) = Server::ask(&pool).await?.refusals().into_iter().next() {
        return Err(refusal);
    }
    let mut conn = pool.acquire().await.map_err(|e| StoreError::failed("connect", e))?;
    let foreign = sqlx::query_scalar(FOREIGN_TABLE.postgres).fetch_one(&mut *conn).await;
    refuse_foreign(foreign.map_err(|e| StoreError::failed("look for tables", e))?)?;
    migrate(&POSTGRES_MIGRATIONS, &mut *conn).await?;
    drop(conn);
    Ok(Pool::Postgres(pool, doubt))
}

/// For as long after one that takes no writes every session is asked: all that have not been used since have rested.
const DOUBTED: Span = Span::seconds(10);
/// A server that was set read-only and back, or that followed another, leaves sessions behind that take no writes for as long
/// as they live.
const TAKES_WRITES: &str = "SELECT current_setting('transaction_read_only') = 'off'";

/// When a session last was seen that takes no writes.
#[derive(Clone, Debug, Default)]
pub(super) struct Doubt(Arc<AtomicI64>);

impl Doubt {
    pub fn begin(&self) {
        self.0.store(system_time().0, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        system_time() - Timestamp(self.0.load(Ordering::Relaxed)) > DOUBTED
    }
}

pub(super) async fn connect(url: &str, connections: u32, patience: Duration) -> Result<(PgPool, Doubt), StoreError> {
    let doubt = Doubt::default();
    let seen = doubt.clone();
    let options = PgConnectOptions::from_str(url)
        .map_err(|e| unfit(format!("database.url cannot be read: {e}"), "write postgres://user@host/database"))?
        // PgBouncer refuses it unless told otherwise, and no float is read.
        .extra_float_digits(None);
    let pool = PgPoolOptions::new()
        .max_connections(connections.max(2))
        .acquire_timeout(patience)
        .test_before_acquire(false)
        .before_acquire(move |conn, of| {
            // A new one is as good as any: while the server takes no writes, to replace each would be a storm of logins.
            let is_trusted = of.age < RESTED || (of.idle_for < RESTED && seen.is_over());
            Box::pin(async move {
                if is_trusted { Ok(true) } else { sqlx::query_scalar(TAKES_WRITES).fetch_one(conn).await }
            })
        })
        .after_connect(|conn, _| Box::pin(async move { sqlx::raw_sql(SESSION).execute(conn).await.map(drop) }))
        .connect_with(options.clone())
        .await;
    let error = match pool {
        Ok(pool) => return Ok((pool, doubt)),
        Err(sqlx::Error::PoolTimedOut) => reason(&options).await,
        Err(e) => e,
    };
    let at = format!("{}:{}", options.get_host(), options.get_port());
    let (what, hint) = match &error {
        sqlx::Error::Database(no) => (
            format!("PostgreSQL at {at} refuses the connection: {}", no.message()),
            hint_of(&error).unwrap_or("check database.url, and what the server's log says"),
        ),
        e => (
            format!("PostgreSQL at {at} cannot be reached: {e}"),
            "check database.url, that the server runs, and that this host may log in",
        ),
    };
    let hint = hint.to_owned();
    let is_away = StoreError::failed("connect", error).is_away();
    Err(if is_away { StoreError::Away { what, hint } } else { StoreError::Unfit { what, hint } })
}

/// A connection beside the pool's.
pub(super) async fn session(pool: &PgPool) -> Result<PgConnection, StoreError> {
    let failed = |e| StoreError::failed("connect", e);
    let options = pool.connect_options();
    let connected = tokio::time::timeout(STARTING, PgConnection::connect_with(&options)).await;
    let mut conn = connected.unwrap_or(Err(sqlx::Error::PoolTimedOut)).map_err(failed)?;
    sqlx::raw_sql(SESSION).execute(&mut conn).await.map_err(failed)?;
    Ok(conn)
}

/// The pool tries again while a server may be starting, and then tells only that it gave up.
async fn reason(options: &PgConnectOptions) -> sqlx::Error {
    match tokio::time::timeout(Duration::from_secs(1), PgConnection::connect_with(options)).await {
        Ok(Err(error)) => error,
        Ok(Ok(_)) | Err(_) => sqlx::Error::PoolTimedOut,
    }
}

pub(super) async fn make_schema(url: &str, name: &str) -> Result<String, StoreError> {
    let (pool, _) = connect(url, 1, LOOKING).await?;
    let sql = format!("CREATE SCHEMA \"{}\"", name.replace('"', "\"\""));
    sqlx::query(AssertSqlSafe(sql)).execute(&pool).await.map_err(|e| StoreError::failed("create a schema", e))?;
    pool.close().await;
    let sign = if url.contains('?') { '&' } else { '?' };
    Ok(format!("{url}{sign}options[search_path]={name}"))
}
