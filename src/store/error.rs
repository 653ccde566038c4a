//! What can go wrong with the database.

use std::time::Duration;

/// A server that takes connections and answers nothing is away after so long, like one that has no connection left.
const PATIENCE: Duration = Duration::from_secs(10);
/// A commit that is not waited for may have been made all the same, and nobody would know what it claimed.
const COMMITTING: Duration = Duration::from_secs(60);

/// A database operation failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A statement failed.
    #[error("the database failed at {doing}: {source}")]
    Failed {
        /// The statement's name, or the step.
        doing: &'static str,
        /// What the database said.
        source: sqlx::Error,
    },
    /// The database cannot be opened or is not fit to use.
    #[error("{what}")]
    Unfit {
        /// What is wrong.
        what: String,
        /// What to do.
        hint: String,
    },
    /// The server cannot be reached, or has no room.
    #[error("{what}")]
    Away {
        /// What it answers, if it does.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A stored value cannot be read back.
    #[error("{table}.{column} of {row} cannot be read: {what}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row.
        row: String,
        /// What is wrong with it.
        what: String,
    },
}

impl StoreError {
    pub(super) const fn failed(doing: &'static str, source: sqlx::Error) -> Self {
        Self::Failed { doing, source }
    }

    /// Waits for work with the database, but not for ever. A transaction that the work had begun is rolled back before anybody
    /// else gets its connection.
    ///
    /// # Errors
    /// As the work, or when it is not done in time ([`StoreError::is_away`]).
    pub async fn in_time<T>(doing: &'static str, work: impl Future<Output = Result<T, Self>>) -> Result<T, Self> {
        Self::within(PATIENCE, doing, work).await
    }

    /// Waits for a commit, and longer.
    ///
    /// # Errors
    /// As the commit, or when it is not done in time: then it may be made all the same.
    pub async fn committed<T>(commit: impl Future<Output = Result<T, Self>>) -> Result<T, Self> {
        Self::within(COMMITTING, "commit", commit).await
    }

    async fn within<T>(
        patience: Duration,
        doing: &'static str,
        work: impl Future<Output = Result<T, Self>>,
    ) -> Result<T, Self> {
        let silent = |_| Err(Self::failed(doing, sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())));
        tokio::time::timeout(patience, work).await.unwrap_or_else(silent)
    }

    /// Whether a unique index refused a row: another was first.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        let Self::Failed { source: sqlx::Error::Database(e), .. } = self else { return false };
        e.is_unique_violation() || self.is_turned_back()
    }

    /// Whether the database let another transaction go first (PostgreSQL: serialization failure, deadlock): the same will
    /// work at once.
    #[must_use]
    pub fn is_turned_back(&self) -> bool {
        let Self::Failed { source: sqlx::Error::Database(e), .. } = self else { return false };
        matches!(e.code().as_deref(), Some("40001" | "40P01"))
    }

    /// Whether the database takes no writes for now: PostgreSQL was set so, or follows another server; or this user may not
    /// write SQLite's file.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        let Self::Failed { source: sqlx::Error::Database(e), .. } = self else { return false };
        let code = e.code().unwrap_or_default();
        code == "25006" || (code.len() < 5 && code.parse::<u32>().is_ok_and(|code| code & 0xff == 8))
    }

    /// Whether the database's disk is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let Self::Failed { source: sqlx::Error::Database(e), .. } = self else { return false };
        matches!(e.code().as_deref(), Some("13" | "53100"))
    }

    /// Whether the database is away or busy, so that the same may work a little later.
    #[must_use]
    pub fn is_away(&self) -> bool {
        match self {
            Self::Failed { source: sqlx::Error::Database(e), .. } => {
                let code = e.code().unwrap_or_default();
                // PostgreSQL: connection, resources, shutdown, serialization, read-only, idle too long in a transaction. SQLite: busy, locked, read-only, I/O, full, cannot open.
                ["08", "53", "57", "40", "25006", "25P03", "25P04"]
                    .iter()
                    .any(|class| code.len() == 5 && code.starts_with(class))
                    || code
                        .parse::<u32>()
                        .is_ok_and(|code| code < 10_000 && matches!(code & 0xff, 5 | 6 | 8 | 10 | 13 | 14))
            }
            Self::Failed { source, .. } => matches!(
                source,
                sqlx::Error::Io(_)
                    | sqlx::Error::Tls(_)
                    | sqlx::Error::PoolTimedOut
                    | sqlx::Error::PoolClosed
                    | sqlx::Error::WorkerCrashed
            ),
            Self::Away { .. } => true,
            Self::Unfit { .. } | Self::Corrupt { .. } => false,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Unfit { hint, .. } | Self::Away { hint, .. } => hint.clone(),
            Self::Failed { source, .. } => {
                hint_of(source).unwrap_or("check that the database is reachable, writable and has space").to_owned()
            }
            Self::Corrupt { .. } => "the row was changed by hand or by a newer version; restore it".to_owned(),
        }
    }
}

/// What to do when a database says no, by its own codes: numbers on SQLite, five characters on PostgreSQL.
pub(super) fn hint_of(error: &sqlx::Error) -> Option<&'static str> {
    let code = error.as_database_error()?.code()?;
    match (code.as_ref(), code.parse::<u32>().map(|number| number & 0xff)) {
        ("28000" | "28P01", _) => {
            Some("check the user and the password in database.url, and pg_hba.conf of the server")
        }
        ("3D000", _) => Some("create the database first (createdb), or name another one in database.url"),
        ("3F000" | "42501", _) => Some("let this user create tables: GRANT CREATE, USAGE ON SCHEMA public TO it"),
        ("40001" | "40P01", _) => Some("others were changing the same at the same time: do it again"),
        ("25006", _) => Some(
            "let the server take writes (default_transaction_read_only = off), or point database.url at the primary",
        ),
        ("53300", _) => Some("raise max_connections of the server, or lower database.connections of who uses it"),
        _ if code.len() == 5 => None,
        (_, Ok(5 | 6)) => Some("another program has the database open and does not let go: stop that one"),
        (_, Ok(8)) => Some("let this user write the database file and its folder"),
        (_, Ok(11 | 26)) => Some("the file is damaged, or no SQLite database: restore it, or name another one"),
        (_, Ok(13)) => Some("the disk is full: free some space"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::{Connection, Executor, SqliteConnection};

    #[tokio::test]
    async fn a_file_that_may_not_be_written_takes_no_writes_for_now() {
        let mut file = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        file.execute("CREATE TABLE t (n)").await.unwrap();
        file.execute("PRAGMA query_only = ON").await.unwrap();
        let told = StoreError::failed("write", file.execute("INSERT INTO t VALUES (1)").await.unwrap_err());
        assert!(told.is_read_only() && told.is_away(), "{told}");
        assert!(told.hint().contains("write the database file"), "{}", told.hint());
    }
}
