//! The two schemas say the same: tables, columns, nullability, types, indexes, and the text of the migrations.

use crate::support::{self, On};
use allclear::store::open::Connections;
use allclear::store::{Clock, Store};
use sqlx::{Connection, PgConnection, SqliteConnection};
use std::collections::BTreeSet;
use std::path::Path;

type Facts = BTreeSet<String>;

const SQLITE_COLUMNS: &str = "SELECT m.name || '.' || p.name || ' ' || lower(p.type) || CASE WHEN p.\"notnull\" = 1 THEN ' not null' ELSE '' END
    FROM sqlite_master m JOIN pragma_table_info(m.name) p WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%' AND m.name NOT LIKE '\\_sqlx%' ESCAPE '\\'";
const POSTGRES_COLUMNS: &str = "SELECT table_name || '.' || column_name || ' ' || data_type || CASE WHEN is_nullable = 'NO' THEN ' not null' ELSE '' END
    FROM information_schema.columns WHERE table_schema = current_schema() AND table_name NOT LIKE '\\_sqlx%'";
const SQLITE_INDEXES: &str = "SELECT name || CASE WHEN sql LIKE 'CREATE UNIQUE%' THEN ' unique' ELSE '' END
        || CASE WHEN sql LIKE '%WHERE%' THEN ' partial' ELSE '' END
    FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL";
const POSTGRES_INDEXES: &str = "SELECT c.relname || CASE WHEN i.indisunique THEN ' unique' ELSE '' END
        || CASE WHEN i.indpred IS NOT NULL THEN ' partial' ELSE '' END
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = current_schema() AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = i.indexrelid)";

async fn facts(on: On, sqlite: &'static str, postgres: &'static str) -> Facts {
    let (_store, _folder, url) = support::store(on, Clock::Database).await;
    let found: Vec<String> = match on {
        On::Sqlite => {
            let mut conn = SqliteConnection::connect(&url).await.unwrap();
            sqlx::query_scalar(sqlite).fetch_all(&mut conn).await.unwrap()
        }
        On::Postgres => {
            let mut conn = PgConnection::connect(&url).await.unwrap();
            sqlx::query_scalar(postgres).fetch_all(&mut conn).await.unwrap()
        }
    };
    // Identifiers and hashes are 16 and 32 bytes on SQLite.
    found.into_iter().map(|fact| fact.replace(" uuid", " blob").replace(" bytea", " blob")).collect()
}

fn assert_same(sqlite: &Facts, postgres: &Facts, at_least: usize) {
    let only_sqlite: Vec<_> = sqlite.difference(postgres).collect();
    let only_postgres: Vec<_> = postgres.difference(sqlite).collect();
    assert!(
        only_sqlite.is_empty() && only_postgres.is_empty(),
        "only SQLite: {only_sqlite:#?}, only PostgreSQL: {only_postgres:#?}"
    );
    assert!(sqlite.len() >= at_least, "{} found: does the query still see them?", sqlite.len());
}

#[tokio::test]
async fn tables_columns_types_and_nullability_are_the_same() {
    let sqlite = facts(On::Sqlite, SQLITE_COLUMNS, POSTGRES_COLUMNS).await;
    assert_same(&sqlite, &facts(On::Postgres, SQLITE_COLUMNS, POSTGRES_COLUMNS).await, 150);
}

#[tokio::test]
async fn indexes_are_the_same() {
    let sqlite = facts(On::Sqlite, SQLITE_INDEXES, POSTGRES_INDEXES).await;
    assert_same(&sqlite, &facts(On::Postgres, SQLITE_INDEXES, POSTGRES_INDEXES).await, 25);
}

#[test]
fn the_migrations_differ_only_in_the_types_of_identifiers_and_in_triggers() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let files = |kind: &str| {
        let mut files: Vec<_> = std::fs::read_dir(folder.join(kind)).unwrap().map(|e| e.unwrap().file_name()).collect();
        files.sort();
        files
    };
    assert_eq!(files("sqlite"), files("postgres"));
    for file in files("sqlite") {
        let text = |kind: &str| {
            let whole = std::fs::read_to_string(folder.join(kind).join(&file)).unwrap();
            let mut parts: Vec<_> = whole.split("\n\n").collect();
            for part in &mut parts {
                // Each has a language of its own for them.
                *part = part
                    .split_once("CREATE FUNCTION")
                    .or(part.split_once("CREATE TRIGGER"))
                    .map_or(*part, |split| split.0);
            }
            parts.join("\n\n")
        };
        let postgres = text("postgres").replace(" UUID", " BLOB").replace(" BYTEA", " BLOB");
        for (n, (a, b)) in
            text("sqlite").lines().zip(postgres.lines()).enumerate().filter(|(_, (a, _))| !a.starts_with("--"))
        {
            assert_eq!(a, b, "{file:?}, line {}", n + 1);
        }
        assert_eq!(text("sqlite").lines().count(), postgres.lines().count());
    }
}

#[test]
fn several_may_open_a_new_file_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("new.db").display());
    let open = || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let opened = runtime.block_on(Store::open(&url, Connections::default(), Clock::Database));
        opened.map(drop).map_err(|e| e.to_string())
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..6).map(|_| scope.spawn(open)).collect();
        for one in all {
            assert_eq!(one.join().unwrap(), Ok(()));
        }
    });
}
