//! Opening a database: its settings, its migrations, its clock.

mod postgres;
pub(super) mod sqlite;

use super::error::{StoreError, hint_of};
use super::seam::{Inner, Tx};
use crate::domain::time::Timestamp;
use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::{PgPool, Row, SqlitePool};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

pub(super) static SQLITE_MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");
pub(super) static POSTGRES_MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// How long somebody who looks at a database waits for a server to answer.
const LOOKING: Duration = Duration::from_secs(3);

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
    Postgres(PgPool, postgres::Doubt),
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
    /// When it cannot be reached, is another program's, cannot be migrated, or does not keep what it says it has committed.
    pub async fn open(url: &str, connections: Connections, clock: Clock) -> Result<Self, StoreError> {
        let pool = if url.starts_with("sqlite:") {
            sqlite::open(url, connections.sqlite_readers).await?
        } else {
            check_postgres(url)?;
            postgres::open(url, connections.postgres).await?
        };
        Ok(Self { pool, clock })
    }

    /// Opens a database as it is, for looking: its schema is left alone, and it may be one that [`Store::open`]
    /// refuses. Nothing when the file of an SQLite database is not there yet.
    ///
    /// # Errors
    /// When it cannot be reached, or the URL of an SQLite database names no file.
    pub async fn look(url: &str) -> Result<Option<Self>, StoreError> {
        let pool = if url.starts_with("sqlite:") {
            let options = sqlite::options(url)?;
            if !options.get_filename().exists() {
                return sqlite::check_missing(options).await.map(|()| None);
            }
            sqlite::pools(options, 1)
        } else {
            let (pool, doubt) = postgres::connect(url, 2, LOOKING).await?;
            Pool::Postgres(pool, doubt)
        };
        Ok(Some(Self { pool, clock: Clock::Database }))
    }

    /// Makes a schema in a PostgreSQL database; the URL that leads to it.
    ///
    /// # Errors
    /// When the database cannot be reached, or does not allow it.
    pub async fn make_schema(url: &str, name: &str) -> Result<String, StoreError> {
        check_postgres(url)?;
        postgres::make_schema(url, name).await
    }

    /// The file that the URL of an SQLite database names; nothing for PostgreSQL.
    #[must_use]
    pub fn file_of(url: &str) -> Option<PathBuf> {
        url.starts_with("sqlite:").then(|| sqlite::options(url).ok().map(|o| o.get_filename().to_owned())).flatten()
    }

    /// Which database this is, for people.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self.pool {
            Pool::Sqlite { .. } => "SQLite",
            Pool::Postgres(..) => "PostgreSQL",
        }
    }

    /// Whether two transactions that write get on beside each other.
    #[must_use]
    pub const fn has_several_writers(&self) -> bool {
        matches!(self.pool, Pool::Postgres(..))
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
            Pool::Postgres(pool, _) => {
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
            Pool::Postgres(pool, _) => Inner::PostgresTx(pool.begin().await.map_err(failed)?),
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
            Pool::Postgres(pool, _) => Inner::PostgresConn(pool.acquire().await.map_err(failed)?),
        };
        self.with_time(inner).await
    }

    /// The pool of PostgreSQL.
    pub(super) const fn postgres(&self) -> Option<&PgPool> {
        match &self.pool {
            Pool::Sqlite { .. } => None,
            Pool::Postgres(pool, _) => Some(pool),
        }
    }

    /// The file of an SQLite database.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match &self.pool {
            Pool::Sqlite { file, .. } => Some(file),
            Pool::Postgres(..) => None,
        }
    }

    /// A new connection of PostgreSQL, none of the pool's, for a lock that lives as long as it.
    pub(super) async fn session(&self) -> Result<Option<sqlx::PgConnection>, StoreError> {
        match &self.pool {
            Pool::Sqlite { .. } => Ok(None),
            Pool::Postgres(pool, _) => postgres::session(pool).await.map(Some),
        }
    }

    async fn with_time(&self, inner: Inner) -> Result<Tx, StoreError> {
        let mut tx = Tx { inner, now: Timestamp(0), takes_writes: true };
        match (&self.clock, &self.pool) {
            (Clock::Driven(micros), _) => tx.now = Timestamp(micros.load(Ordering::SeqCst)),
            (Clock::Database, Pool::Sqlite { .. }) => tx.now = system_time(),
            (Clock::Database, Pool::Postgres(_, doubt)) => {
                let asked = on_db!(tx, super::setup::SESSION, query_as::<(Timestamp, bool)>, fetch_one)?;
                (tx.now, tx.takes_writes) = asked;
                if !tx.takes_writes {
                    doubt.begin();
                }
            }
        }
        Ok(tx)
    }
}

/// SQLite's own time is this machine's: asking it would cost a statement and say the same.
#[allow(clippy::disallowed_methods)]
#[must_use]
pub fn system_time() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

fn check_postgres(url: &str) -> Result<(), StoreError> {
    if url.starts_with("postgres:") || url.starts_with("postgresql:") {
        return Ok(());
    }
    Err(unfit(
        "database.url is neither sqlite: nor postgres:",
        "write sqlite://allclear.db or postgres://user@host/database",
    ))
}

pub(super) fn unfit(what: impl Into<String>, hint: impl Into<String>) -> StoreError {
    StoreError::Unfit { what: what.into(), hint: hint.into() }
}

/// Refuses a database with this table, and none of ours, before anything is written into it.
pub(super) fn refuse_foreign(table: Option<String>) -> Result<(), StoreError> {
    match table {
        None => Ok(()),
        Some(table) => Err(unfit(
            format!("this is the database of another program: it has a table `{table}` and no migrations of allclear"),
            "let database.url name a database, or a schema, of allclear's own",
        )),
    }
}

async fn migrate<'c, C>(migrator: &Migrator, conn: &'c mut C) -> Result<(), StoreError>
where
    C: Migrate,
    &'c mut C: sqlx::Acquire<'c>,
    <<&'c mut C as sqlx::Acquire<'c>>::Connection as std::ops::Deref>::Target: Migrate,
{
    migrator.run(conn).await.map_err(|e| {
        let elsewise = "check that the database may be written and has space";
        let hint = match &e {
            MigrateError::VersionMissing(_) => "a newer allclear made it: use that one, or a database of its own",
            MigrateError::VersionMismatch(_) | MigrateError::Dirty(_) => {
                "another build of allclear made it, or somebody changed it by hand: use that build, or restore a backup"
            }
            MigrateError::Execute(e) | MigrateError::ExecuteMigration(e, _) => hint_of(e).unwrap_or(elsewise),
            _ => elsewise,
        };
        unfit(format!("the schema cannot be brought up to date: {e}"), hint)
    })
}
