//! A fresh database for a run.

use super::Fallible;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use std::path::PathBuf;

/// A database; dropping it removes it.
pub struct Place {
    pub url: String,
    folder: Option<PathBuf>,
}

impl Place {
    /// On `sqlite` or `postgres`, named after a bench.
    pub fn new(bench: &str, database: &str) -> Fallible<Self> {
        let name = format!("{bench}_{}", uuid::Uuid::now_v7().simple());
        if database == "sqlite" {
            let folder = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&folder)?;
            return Ok(Self { url: format!("sqlite://{}", folder.join("bench.db").display()), folder: Some(folder) });
        }
        let base = std::env::var("ALLCLEAR_TEST_POSTGRES").map_err(|_| "ALLCLEAR_TEST_POSTGRES names no server")?;
        blocking(on(&base, format!("CREATE SCHEMA {name}")))?;
        let sign = if base.contains('?') { '&' } else { '?' };
        Ok(Self { url: format!("{base}{sign}options[search_path]={name}"), folder: None })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let gone = match (&self.folder, self.url.rsplit_once("search_path]=")) {
            (Some(folder), _) => std::fs::remove_dir_all(folder).map_err(Into::into),
            (None, Some((base, schema))) => {
                let base = base.trim_end_matches("options[").trim_end_matches(['?', '&']);
                blocking(on(base, format!("DROP SCHEMA {schema} CASCADE")))
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
    let sql = sqlx::raw_sql(AssertSqlSafe(sql));
    match url.starts_with("sqlite") {
        true => sql.execute(&mut SqliteConnection::connect(url).await?).await.map(drop)?,
        false => sql.execute(&mut PgConnection::connect(url).await?).await.map(drop)?,
    }
    Ok(())
}

pub fn blocking<T>(work: impl Future<Output = Fallible<T>>) -> Fallible<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
