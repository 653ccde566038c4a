//! What `doctor` asks a database. Nothing here writes, and every question is cheap.

use super::fitness::{self, Server};
use super::open::sqlite::check_place;
use super::open::{POSTGRES_MIGRATIONS, SQLITE_MIGRATIONS, refuse_foreign, system_time};
use super::{Sql, Store, StoreError};
use crate::domain::time::{Span, Timestamp};
use sqlx::migrate::Migrator;
use sqlx::{Connection, SqliteConnection};
use std::collections::BTreeMap;

statements! {
    VERSION = Sql::differs("SELECT sqlite_version()", "SELECT current_setting('server_version')");
    HAS_MIGRATIONS = Sql::differs(
        "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations'",
        "SELECT COUNT(*) FROM pg_class WHERE oid = to_regclass('_sqlx_migrations')",
    );
    // Whose database it is: before its first table our first migration makes the list of migrations. What an extension of
    // PostgreSQL brings along is nobody's.
    FOREIGN_TABLE = Sql::differs(
        "SELECT MIN(name) FROM sqlite_master WHERE type = 'table' AND name NOT GLOB 'sqlite_*'
            AND NOT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations')",
        "SELECT MIN(c.relname::text) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') AND to_regclass('_sqlx_migrations') IS NULL
            AND NOT EXISTS (SELECT 1 FROM pg_depend d
                WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')",
    );
    APPLIED = Sql::same("SELECT version, checksum FROM _sqlx_migrations WHERE success ORDER BY version");
    // PostgreSQL keeps an index that could not be built to the end, and does not use it.
    INDEXES = Sql::differs(
        "SELECT name, 1 FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL",
        "SELECT c.relname::text, (i.indisvalid AND i.indisready)::int::bigint
         FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = current_schema()",
    );
}

/// Where a database stands with its migrations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Migrations {
    /// How many of this program's are applied unchanged.
    pub applied: usize,
    /// This program's that are not applied.
    pub pending: Vec<i64>,
    /// Applied ones this program does not know: those of a newer one.
    pub unknown: Vec<i64>,
    /// Applied ones whose text was another.
    pub changed: Vec<i64>,
}

/// Where a database stands with its indexes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexes {
    /// How many are as they should be.
    pub present: usize,
    /// Those that are not there, with the statements that make them.
    pub missing: Vec<(String, String)>,
    /// Those that are there and not used.
    pub invalid: Vec<String>,
}

/// Its version, for people.
///
/// # Errors
/// When the database fails.
pub async fn version(store: &Store) -> Result<String, StoreError> {
    value!(store.read().await?, String, VERSION)
}

/// What PostgreSQL says about itself; nothing on SQLite.
///
/// # Errors
/// When the database fails.
pub async fn server(store: &Store) -> Result<Option<Server>, StoreError> {
    match store.postgres() {
        Some(pool) => Server::ask(pool).await.map(Some),
        None => Ok(None),
    }
}

/// Refuses a place or a session that [`Store::open`] refuses.
///
/// # Errors
/// SQLite on a network file system; PostgreSQL behind a pooler that splits sessions; or when the database fails.
pub async fn check_access(store: &Store) -> Result<(), StoreError> {
    match (store.postgres(), store.file()) {
        (Some(pool), _) => fitness::check_session(pool).await,
        (None, file) => file.map_or(Ok(()), check_place),
    }
}

/// Compares the migrations of the database with this program's.
///
/// # Errors
/// When it is another program's, or fails.
pub async fn migrations(store: &Store) -> Result<Migrations, StoreError> {
    let mut tx = store.read().await?;
    refuse_foreign(value!(tx, Option<String>, FOREIGN_TABLE)?)?;
    let there = value!(tx, i64, HAS_MIGRATIONS)? > 0;
    let applied: Vec<(i64, Vec<u8>)> = if there { rows!(tx, (i64, Vec<u8>), APPLIED)? } else { Vec::new() };
    let ours = if store.postgres().is_some() { &POSTGRES_MIGRATIONS } else { &SQLITE_MIGRATIONS };
    Ok(compare(ours, &applied.into_iter().collect()))
}

fn compare(ours: &Migrator, applied: &BTreeMap<i64, Vec<u8>>) -> Migrations {
    let mut found = Migrations {
        unknown: applied.keys().copied().filter(|version| !ours.version_exists(*version)).collect(),
        ..Migrations::default()
    };
    for migration in ours.iter() {
        match applied.get(&migration.version) {
            None => found.pending.push(migration.version),
            Some(checksum) if checksum[..] == *migration.checksum => found.applied += 1,
            Some(_) => found.changed.push(migration.version),
        }
    }
    found
}

/// Compares the indexes with those that this program's migrations make. The migrations are run in memory to know
/// them: both databases have the same indexes by the same names.
///
/// # Errors
/// When the database fails.
pub async fn indexes(store: &Store) -> Result<Indexes, StoreError> {
    let failed = |e| StoreError::failed("make the schema in memory", e);
    let mut fresh = SqliteConnection::connect("sqlite::memory:").await.map_err(failed)?;
    SQLITE_MIGRATIONS.run(&mut fresh).await.map_err(|e| failed(e.into()))?;
    let wanted: Vec<(String, String)> =
        sqlx::query_as("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL ORDER BY name")
            .fetch_all(&mut fresh)
            .await
            .map_err(failed)?;
    let mut tx = store.read().await?;
    let there: BTreeMap<String, i64> = rows!(tx, (String, i64), INDEXES)?.into_iter().collect();
    let mut found = Indexes::default();
    for (name, sql) in wanted {
        match there.get(&name) {
            None => found.missing.push((name, sql.split_whitespace().collect::<Vec<_>>().join(" "))),
            Some(0) => found.invalid.push(name),
            Some(_) => found.present += 1,
        }
    }
    Ok(found)
}

/// How far the database's clock is ahead of this machine's; negative when behind.
///
/// # Errors
/// When the database fails.
pub async fn clock_ahead(store: &Store) -> Result<Span, StoreError> {
    let mut tx = store.read().await?;
    let before = system_time();
    let there = value!(tx, Timestamp, super::setup::DATABASE_TIME)?;
    // Half of the way there and back belongs to neither clock.
    Ok(there - (before + Span((system_time() - before).0 / 2)))
}

/// Connections of PostgreSQL: how many it gives to users in all, and how many are free; nothing on SQLite.
///
/// # Errors
/// When the database fails.
pub async fn seats(store: &Store) -> Result<Option<(i64, i64)>, StoreError> {
    let Some(pool) = store.postgres() else { return Ok(None) };
    let asked = sqlx::query_as(
        "SELECT most.seats, most.seats - (SELECT COUNT(*) FROM pg_stat_activity WHERE datid IS NOT NULL
                AND usesysid IS NOT NULL AND COALESCE(backend_type, 'client backend') = 'client backend')
         FROM (SELECT current_setting('max_connections')::bigint
                - current_setting('superuser_reserved_connections')::bigint AS seats) AS most",
    );
    asked.fetch_one(pool).await.map(Some).map_err(|e| StoreError::failed("count the connections", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pending_changed_and_unknown_migrations_are_told_apart() {
        let ours = &SQLITE_MIGRATIONS;
        let first = ours.iter().next().unwrap();
        let all: BTreeMap<_, _> = ours.iter().map(|m| (m.version, m.checksum.to_vec())).collect();
        assert_eq!(compare(ours, &all), Migrations { applied: all.len(), ..Migrations::default() });
        assert_eq!(compare(ours, &BTreeMap::new()).pending.len(), all.len());
        let mut other = all.clone();
        other.insert(first.version, vec![0; 48]);
        other.insert(9_999, vec![]);
        let found = compare(ours, &other);
        assert_eq!((found.changed, found.unknown), (vec![first.version], vec![9_999]));
    }
}
