//! A fresh database with everybody in it, before anything has happened.

use super::Fallible;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use std::path::PathBuf;

/// Small components, each to recover once, to measure a recovery's call many times.
pub const SMALL: usize = 100;
/// Connections of each of these.
const OF_SMALL: usize = 10;

/// A database; dropping it removes it.
pub struct Place {
    pub url: String,
    folder: Option<PathBuf>,
}

/// How many connections of another component keep the slots busy during the recovery.
pub fn others(connections: usize) -> usize {
    (connections / 4).max(20_000)
}

/// How many connections there are in all.
pub fn in_all(connections: usize) -> usize {
    connections + others(connections) + SMALL * OF_SMALL
}

impl Place {
    pub fn new(database: &str) -> Fallible<Self> {
        let name = format!("surge_{}", uuid::Uuid::now_v7().simple());
        if database == "sqlite" {
            let folder = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&folder)?;
            return Ok(Self { url: format!("sqlite://{}", folder.join("surge.db").display()), folder: Some(folder) });
        }
        let base = std::env::var("ALLCLEAR_TEST_POSTGRES").map_err(|_| "ALLCLEAR_TEST_POSTGRES names no server")?;
        blocking(on_server(&base, format!("CREATE SCHEMA {name}")))?;
        let sign = if base.contains('?') { '&' } else { '?' };
        Ok(Self { url: format!("{base}{sign}options[search_path]={name}"), folder: None })
    }

    /// The component `mail` with so many connections (`c0`, …), then `other`, then the small ones; each connection has
    /// a customer of its own.
    pub fn fill(&self, connections: usize) -> Fallible<()> {
        blocking(async {
            super::steps::open(&self.url).await?;
            on(&self.url, people(self.url.starts_with("sqlite"), connections)).await
        })
    }
}

fn people(sqlite: bool, connections: usize) -> String {
    let (others, all) = (connections + others(connections), in_all(connections));
    // Ids in the order of time, as the product makes them.
    let (from, id) = if sqlite {
        (
            format!(
                "(WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {all}) SELECT i FROM n)"
            ),
            "unhex(printf('%016x', 1700000000000 * 65536 + i) || hex(randomblob(8)))",
        )
    } else {
        (
            format!("(SELECT i FROM generate_series(0, {all} - 1) AS g(i))"),
            "CAST(lpad(to_hex(1700000000000 * 65536 + i), 16, '0') || substr(md5(CAST(random() AS TEXT)), 1, 16) AS UUID)",
        )
    };
    format!(
        "INSERT INTO component (id, key, name, created_at)
            SELECT {id}, CASE i WHEN 0 THEN 'mail' WHEN 1 THEN 'other' ELSE 'small' || (i - 2) END, 'Mail sync', 0
            FROM {from} AS n WHERE i < 2 + {SMALL};
         INSERT INTO subscriber (id, key, address, locale, zone, created_at)
            SELECT {id}, 's' || i, 'person-' || i || '@customer.example', 'en', 'Europe/Berlin', 0 FROM {from} AS n;
         INSERT INTO connection (id, key, component_id, name, created_at)
            SELECT {id}, 'c' || i, (SELECT k.id FROM component k WHERE k.key = CASE WHEN i < {connections} THEN 'mail'
                WHEN i < {others} THEN 'other' ELSE 'small' || ((i - {others}) % {SMALL}) END), 'person-' || i || '@customer.example', 0
            FROM {from} AS n;
         INSERT INTO connection_subscriber (connection_id, subscriber_id)
            SELECT c.id, s.id FROM connection c JOIN subscriber s ON s.key = 's' || substr(c.key, 2);
         ANALYZE;"
    )
}

impl Drop for Place {
    fn drop(&mut self) {
        let gone = match (&self.folder, self.url.rsplit_once("search_path]=")) {
            (Some(folder), _) => std::fs::remove_dir_all(folder).map_err(Into::into),
            (None, Some((base, schema))) => {
                let base = base.trim_end_matches("options[").trim_end_matches(['?', '&']);
                blocking(on_server(base, format!("DROP SCHEMA {schema} CASCADE")))
            }
            (None, None) => Ok(()),
        };
        if let Err(e) = gone {
            eprintln!("{} is left behind: {e}", self.url);
        }
    }
}

/// Runs statements on a database.
pub async fn on(url: &str, sql: String) -> Fallible<()> {
    if url.starts_with("sqlite") {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut SqliteConnection::connect(url).await?).await?;
        return Ok(());
    }
    on_server(url, sql).await
}

async fn on_server(url: &str, sql: String) -> Fallible<()> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut PgConnection::connect(url).await?).await?;
    Ok(())
}

/// The one number that a query gives.
pub async fn number(url: &str, sql: &'static str) -> Fallible<u64> {
    let n: i64 = match url.starts_with("sqlite") {
        true => sqlx::query_scalar(sql).fetch_one(&mut SqliteConnection::connect(url).await?).await?,
        false => sqlx::query_scalar(sql).fetch_one(&mut PgConnection::connect(url).await?).await?,
    };
    Ok(u64::try_from(n)?)
}

fn blocking<T>(work: impl Future<Output = Fallible<T>>) -> Fallible<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
