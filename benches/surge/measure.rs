//! Times in order, and what a query counts.

use super::common::Fallible;
use sqlx::{Connection, PgConnection, SqliteConnection};
use std::time::Duration;

/// Times that were measured.
#[derive(Default)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn add(&mut self, one: Duration) {
        self.0.push(one);
    }

    /// How many there are, and their p50, p99 and greatest in milliseconds.
    pub fn told(&mut self, what: &str) -> String {
        self.0.sort();
        let at = |share: usize| self.0.get((self.0.len() * share / 100).min(self.0.len().saturating_sub(1)));
        let ms = |time: Option<&Duration>| time.map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0);
        let (p50, p99, most) = (ms(at(50)), ms(at(99)), ms(self.0.last()));
        format!("{what}: {} of them, p50 {p50:.1} ms, p99 {p99:.1} ms, at most {most:.1} ms", self.0.len())
    }
}

/// The one number that a query gives.
pub async fn number(url: &str, sql: &'static str) -> Fallible<u64> {
    let n: i64 = match url.starts_with("sqlite") {
        true => sqlx::query_scalar(sql).fetch_one(&mut SqliteConnection::connect(url).await?).await?,
        false => sqlx::query_scalar(sql).fetch_one(&mut PgConnection::connect(url).await?).await?,
    };
    Ok(u64::try_from(n)?)
}
