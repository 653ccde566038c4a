//! Opening SQLite: one writer with a write-ahead log, on a disk of this machine.

use super::{Pool, SQLITE_MIGRATIONS, migrate, refuse_foreign, unfit};
use crate::store::doctor::FOREIGN_TABLE;
use crate::store::error::{StoreError, hint_of};
use crate::store::mount::network_file_system;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, SqliteConnection};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

/// Says which kind of log is kept then; the file remembers it.
const KEEP_LOG: &str = "PRAGMA journal_mode = WAL";

pub(super) fn options(url: &str) -> Result<SqliteConnectOptions, StoreError> {
    Ok(SqliteConnectOptions::from_str(url)
        .map_err(|e| unfit(format!("database.url cannot be read: {e}"), "write sqlite://path/to/file.db"))?
        .foreign_keys(true)
        // NORMAL may lose commits on power loss, and a 202 has been given for each.
        .synchronous(SqliteSynchronous::Full)
        // 8 MiB: what is written lies together, since ids grow with time.
        .pragma("cache_size", "-8192")
        .busy_timeout(Duration::from_secs(10)))
}

pub(super) async fn open(url: &str, readers: u32) -> Result<Pool, StoreError> {
    let options = options(url)?.create_if_missing(true);
    check_place(options.get_filename())?;
    let unopened = |e: sqlx::Error| {
        let hint = hint_of(&e).unwrap_or("check that its folder exists, and that this user may write in it");
        unfit(format!("the SQLite file {} cannot be opened: {e}", options.get_filename().display()), hint)
    };
    let mut first = SqliteConnection::connect_with(&options).await.map_err(unopened)?;
    refuse_foreign(sqlx::query_scalar(FOREIGN_TABLE.sqlite).fetch_one(&mut first).await.map_err(unopened)?)?;
    check_log(&sqlx::query_scalar::<_, String>(KEEP_LOG).fetch_one(&mut first).await.map_err(unopened)?)?;
    // On one connection, before any other is open: a pool's idle ones would keep the old schema.
    if migrate(&SQLITE_MIGRATIONS, &mut first).await.is_err() {
        // Somebody else may be at it: once they are done, or there is nobody, it is seen what is missing. On another connection,
        // for on this one its transaction may be open.
        let failed = |e| StoreError::failed("migrate", e);
        first = SqliteConnection::connect_with(&options).await.map_err(unopened)?;
        let mut alone = first.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        migrate(&SQLITE_MIGRATIONS, &mut *alone).await?;
        alone.commit().await.map_err(failed)?;
    }
    forget_empty(&mut first).await.map_err(|e| StoreError::failed("forget statistics", e))?;
    first.close().await.map_err(|e| StoreError::failed("close", e))?;
    Ok(pools(options.journal_mode(SqliteJournalMode::Wal), readers))
}

/// What can be opened although its file is not there has none, and is refused.
pub(super) async fn check_missing(options: SqliteConnectOptions) -> Result<(), StoreError> {
    let Ok(mut conn) = SqliteConnection::connect_with(&options.create_if_missing(false)).await else { return Ok(()) };
    let journal = sqlx::query_scalar::<_, String>(KEEP_LOG).fetch_one(&mut conn).await;
    check_log(&journal.map_err(|e| StoreError::failed("keep a log", e))?)
}

fn check_log(journal: &str) -> Result<(), StoreError> {
    match journal {
        "wal" => Ok(()),
        _ => Err(unfit(
            format!("SQLite cannot keep a write-ahead log here: journal_mode is {journal}"),
            "let database.url name a file on a local disk",
        )),
    }
}

/// Nobody renews statistics on SQLite. Those that an ANALYZE made while a table was empty would let it be read as a whole
/// for ever.
async fn forget_empty(conn: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let analysed: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM sqlite_master WHERE name = 'sqlite_stat1'")
        .fetch_one(&mut *conn)
        .await?;
    if analysed > 0 {
        sqlx::query("DELETE FROM sqlite_stat1 WHERE stat = '0' OR stat LIKE '0 %'").execute(conn).await?;
    }
    Ok(())
}

pub(super) fn pools(options: SqliteConnectOptions, readers: u32) -> Pool {
    // A file does not go away like a server: nothing is asked before a connection is used.
    let pool = || SqlitePoolOptions::new().idle_timeout(None).max_lifetime(None).test_before_acquire(false);
    let writer = pool().max_connections(1);
    // A commit that finds the disk full is rolled back by SQLite itself; sqlx then rolls back nothing, fails, and takes
    // the transaction for open for ever.
    let writer = writer.before_acquire(|conn, _| Box::pin(async move { Ok(!conn.is_in_transaction()) }));
    let readers = pool().max_connections(readers.max(1));
    Pool::Sqlite {
        // A checkpoint at 40 MiB of log: an import touches most pages of an index in every transaction, and would copy them
        // to the file several times for each.
        writer: writer.connect_lazy_with(options.clone().pragma("wal_autocheckpoint", "10000")),
        file: options.get_filename().to_owned(),
        // They begin anew after every commit: what they keep serves one statement.
        readers: readers.connect_lazy_with(options.pragma("cache_size", "-1024")),
    }
}

pub(in crate::store) fn check_place(file: &Path) -> Result<(), StoreError> {
    match network_file_system(file) {
        None => Ok(()),
        Some((kind, place)) => Err(unfit(
            format!(
                "the SQLite file {} lies on a network file system ({kind} at {}), where its locks do not hold",
                file.display(),
                place.display()
            ),
            "put it on a local disk, or use PostgreSQL",
        )),
    }
}
