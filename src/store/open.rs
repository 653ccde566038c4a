//! Opening a database: its settings, its migrations, its clock.

use super::StoreError;
use super::seam::{Inner, Tx};
use crate::domain::time::Timestamp;
use sqlx::migrate::{Migrate, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, PgPool, Row, SqliteConnection, SqlitePool};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

static SQLITE_MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES_MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// Where the time comes from.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The database's own.
    #[default]
    Database,
    /// One that a test or a replay drives.
    Driven(Arc<AtomicI64>),
}

impl Clock {
    /// A driven clock that stands at a time.
    #[must_use]
    pub fn driven(at: Timestamp) -> Self {
        Self::Driven(Arc::new(AtomicI64::new(at.0)))
    }

    /// Moves a driven clock; the database's own cannot be moved.
    pub fn set(&self, at: Timestamp) {
        if let Self::Driven(micros) = self {
            micros.store(at.0, Ordering::SeqCst);
        }
    }
}

#[derive(Clone, Debug)]
enum Pool {
    /// SQLite has one writer; a second connection that writes would only wait for the first.
    Sqlite {
        writer: SqlitePool,
        readers: SqlitePool,
        file: PathBuf,
    },
    Postgres(PgPool),
}

/// A database.
#[derive(Clone, Debug)]
pub struct Store {
    pool: Pool,
    clock: Clock,
}

/// How many connections to open.
#[derive(Clone, Copy, Debug)]
pub struct Connections {
    /// SQLite: connections that only read.
    pub sqlite_readers: u32,
    /// PostgreSQL: all connections.
    pub postgres: u32,
}

impl Default for Connections {
    fn default() -> Self {
        Self { sqlite_readers: 4, postgres: 12 }
    }
}

impl Store {
    /// Opens a database by its URL (`sqlite://file` or `postgres://…`) and brings its schema up to date.
    ///
    /// # Errors
    /// When it cannot be reached, cannot be migrated, or does not keep what it says it has committed.
    pub async fn open(url: &str, connections: Connections, clock: Clock) -> Result<Self, StoreError> {
        let pool = if url.starts_with("sqlite:") {
            open_sqlite(url, connections.sqlite_readers).await?
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            open_postgres(url, connections.postgres).await?
        } else {
            return Err(unfit(
                "database.url is neither sqlite: nor postgres:",
                "write sqlite://allclear.db or postgres://user@host/database",
            ));
        };
        Ok(Self { pool, clock })
    }

    /// Which database this is, for people.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self.pool {
            Pool::Sqlite { .. } => "SQLite",
            Pool::Postgres(_) => "PostgreSQL",
        }
    }

    /// The settings that make a commit durable, as the database itself says on the connection that writes.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn durability(&self) -> Result<Vec<(&'static str, String)>, StoreError> {
        let failed = |source| StoreError::failed("read the settings", source);
        let mut said = Vec::new();
        match &self.pool {
            Pool::Sqlite { writer, .. } => {
                for (name, sql) in [("journal_mode", "PRAGMA journal_mode"), ("synchronous", "PRAGMA synchronous")] {
                    let row = sqlx::query(sql).fetch_one(writer).await.map_err(failed)?;
                    let text = row.try_get_unchecked::<String, _>(0).map_err(failed)?;
                    said.push((name, text));
                }
            }
            Pool::Postgres(pool) => {
                for name in ["fsync", "synchronous_commit", "full_page_writes"] {
                    let value = sqlx::query_scalar("SELECT current_setting($1)").bind(name).fetch_one(pool).await;
                    said.push((name, value.map_err(failed)?));
                }
            }
        }
        Ok(said)
    }

    /// The clock; tests drive it.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Begins a transaction that writes.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        let failed = |source| StoreError::failed("begin", source);
        let inner = match &self.pool {
            // A transaction that reads first and is not IMMEDIATE fails at once when another writes.
            Pool::Sqlite { writer, .. } => Inner::SqliteTx(writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?),
            Pool::Postgres(pool) => Inner::PostgresTx(pool.begin().await.map_err(failed)?),
        };
        self.with_time(inner).await
    }

    /// A connection for reading; every statement on it has a snapshot of its own.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn read(&self) -> Result<Tx, StoreError> {
        let failed = |source| StoreError::failed("connect", source);
        let inner = match &self.pool {
            Pool::Sqlite { readers, .. } => Inner::SqliteConn(readers.acquire().await.map_err(failed)?),
            Pool::Postgres(pool) => Inner::PostgresConn(pool.acquire().await.map_err(failed)?),
        };
        self.with_time(inner).await
    }

    /// The file of an SQLite database.
    pub(super) fn file(&self) -> Option<&Path> {
        match &self.pool {
            Pool::Sqlite { file, .. } => Some(file),
            Pool::Postgres(_) => None,
        }
    }

    /// A connection of PostgreSQL kept out of the pool, for a lock that lives as long as it.
    pub(super) async fn detached(&self) -> Result<Option<sqlx::PgConnection>, StoreError> {
        match &self.pool {
            Pool::Sqlite { .. } => Ok(None),
            Pool::Postgres(pool) => {
                let conn = pool.acquire().await.map_err(|e| StoreError::failed("connect", e))?;
                Ok(Some(conn.detach()))
            }
        }
    }

    async fn with_time(&self, inner: Inner) -> Result<Tx, StoreError> {
        let mut tx = Tx { inner, now: Timestamp(0) };
        tx.now = match (&self.clock, &tx.inner) {
            (Clock::Driven(micros), _) => Timestamp(micros.load(Ordering::SeqCst)),
            (Clock::Database, Inner::SqliteTx(_) | Inner::SqliteConn(_)) => system_time(),
            (Clock::Database, _) => value!(tx, Timestamp, super::setup::DATABASE_TIME)?,
        };
        Ok(tx)
    }
}

/// SQLite's own time is this machine's: asking it would cost a statement and say the same.
#[allow(clippy::disallowed_methods)]
fn system_time() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

fn unfit(what: impl Into<String>, hint: impl Into<String>) -> StoreError {
    StoreError::Unfit { what: what.into(), hint: hint.into() }
}

async fn open_sqlite(url: &str, readers: u32) -> Result<Pool, StoreError> {
    let options = SqliteConnectOptions::from_str(url)
        .map_err(|e| unfit(format!("database.url cannot be read: {e}"), "write sqlite://path/to/file.db"))?
        .create_if_missing(true)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        // NORMAL may lose commits on power loss, and a 202 has been given for each.
        .synchronous(SqliteSynchronous::Full)
        // 16 MiB: what is written lies together, since ids grow with time.
        .pragma("cache_size", "-16384")
        .busy_timeout(Duration::from_secs(10));
    let file = options.get_filename().display().to_string();
    let mut first = SqliteConnection::connect_with(&options).await.map_err(|e| {
        unfit(format!("the SQLite file {file} cannot be opened: {e}"), "check that its folder exists and is writable")
    })?;
    // On one connection, before any other is open: a pool's idle ones would keep the old schema.
    migrate(&SQLITE_MIGRATIONS, &mut first).await?;
    first.close().await.map_err(|e| StoreError::failed("close", e))?;
    let writer = SqlitePoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
    let readers = SqlitePoolOptions::new().max_connections(readers.max(1)).idle_timeout(None).max_lifetime(None);
    Ok(Pool::Sqlite {
        writer: writer.connect_lazy_with(options.clone()),
        file: options.get_filename().to_owned(),
        readers: readers.connect_lazy_with(options.pragma("cache_size", "-4096")),
    })
}

async fn open_postgres(url: &str, connections: u32) -> Result<Pool, StoreError> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|e| unfit(format!("database.url cannot be read: {e}"), "write postgres://user@host/database"))?
        .options([
            ("default_transaction_isolation", "read committed"),
            ("synchronous_commit", "on"),
            // The default is a spinning disk's: it makes the server read whole tables where a few rows are asked for.
            ("random_page_cost", "1.1"),
        ]);
    let pool = PgPoolOptions::new()
        .max_connections(connections.max(2))
        .acquire_timeout(Duration::from_secs(10))
        .connect_with(options.clone())
        .await
        .map_err(|e| {
            unfit(
                format!("PostgreSQL at {}:{} cannot be reached: {e}", options.get_host(), options.get_port()),
                "check database.url, that the server runs, and that this host may log in",
            )
        })?;
    check_durability(&pool).await?;
    let mut conn = pool.acquire().await.map_err(|e| StoreError::failed("connect", e))?;
    migrate(&POSTGRES_MIGRATIONS, &mut *conn).await?;
    drop(conn);
    Ok(Pool::Postgres(pool))
}

/// A server that may forget what it has committed makes every promise of ours void: refused, not warned about.
async fn check_durability(pool: &PgPool) -> Result<(), StoreError> {
    let failed = |e| StoreError::failed("read the server's settings", e);
    for setting in ["fsync", "full_page_writes", "synchronous_commit"] {
        let value: String =
            sqlx::query_scalar("SELECT current_setting($1)").bind(setting).fetch_one(pool).await.map_err(failed)?;
        if value != "on" && !(setting == "synchronous_commit" && value.starts_with("remote")) {
            return Err(unfit(
                format!("PostgreSQL runs with {setting} = {value}: it may forget what it has committed"),
                format!("set {setting} = on"),
            ));
        }
    }
    let standby: bool = sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(pool).await.map_err(failed)?;
    if standby {
        return Err(unfit("PostgreSQL is a standby here", "point database.url at the primary"));
    }
    Ok(())
}

async fn migrate<'c, C>(migrator: &Migrator, conn: &'c mut C) -> Result<(), StoreError>
where
    C: Migrate,
    &'c mut C: sqlx::Acquire<'c>,
    <<&'c mut C as sqlx::Acquire<'c>>::Connection as std::ops::Deref>::Target: Migrate,
{
    migrator.run(conn).await.map_err(|e| {
        unfit(
            format!("the schema cannot be brought up to date: {e}"),
            "is the database of a newer version, or changed by hand?",
        )
    })
}
