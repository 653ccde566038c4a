//! CPU and memory of processes, from /proc.

use crate::common::Fallible;
use sqlx::{Connection, PgConnection};
use std::path::Path;

/// Ticks of /proc/*/stat a second; Linux has said 100 for decades.
const TICKS: f64 = 100.0;

/// The pid of the PostgreSQL server that serves a URL, when it runs on this machine.
pub async fn postmaster(url: &str) -> Fallible<Option<u32>> {
    if url.starts_with("sqlite") {
        return Ok(None);
    }
    let mut conn = PgConnection::connect(url).await?;
    let backend: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut conn).await?;
    Ok(stat(Path::new(&format!("/proc/{backend}/stat"))).and_then(|s| u32::try_from(s.parent).ok()))
}

struct Stat {
    parent: i64,
    /// Ticks in user and system mode.
    ticks: f64,
    /// The same of children that have ended.
    ended: f64,
}

/// The fields after the command's name, which may hold anything but ends with the last bracket.
fn stat(path: &Path) -> Option<Stat> {
    let text = std::fs::read_to_string(path).ok()?;
    let fields: Vec<i64> =
        text.rsplit_once(')')?.1.split_whitespace().skip(1).map(|f| f.parse().unwrap_or_default()).collect();
    let sum = |a: usize, b: usize| Some((fields.get(a)? + fields.get(b)?) as f64);
    Some(Stat { parent: *fields.first()?, ticks: sum(10, 11)?, ended: sum(12, 13)? })
}

pub fn cpu(pid: &str) -> Fallible<f64> {
    Ok(stat(Path::new(&format!("/proc/{pid}/stat"))).ok_or("/proc cannot be read")?.ticks / TICKS)
}

/// Seconds of CPU of a postmaster and all its processes.
pub fn server(postmaster: u32) -> Option<f64> {
    let own = stat(Path::new(&format!("/proc/{postmaster}/stat")))?;
    let children = std::fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| stat(&entry.path().join("stat")));
    let theirs: f64 = children.filter(|s| s.parent == i64::from(postmaster)).map(|s| s.ticks).sum();
    Some((own.ticks + own.ended + theirs) / TICKS)
}
