//! Pauses of streams, and the token buckets of their rate caps: rows, so that all nodes see the same.

use super::rows::json;
use super::{StoreError, Tx, journal};
use crate::domain::id::{DeliveryId, PauseId};
use crate::domain::reply::ReplyKind;
use crate::domain::time::Timestamp;
use serde::Serialize;
use std::collections::HashMap;

/// An attempt that was refused as if all were.
macro_rules! of_us {
    ($attempt:literal) => {
        concat!($attempt, ".kind IN ('our_authentication', 'our_reputation', 'credentials')")
    };
}

statements! {
    PAUSE = super::Sql::same(
        "INSERT INTO stream_pause (id, stream, kind, words, delivery_id, domain, since, probe_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT DO NOTHING",
    );
    PROBE_LATER = super::Sql::same(
        "UPDATE stream_pause SET probe_at = $2, words = $3 WHERE stream = $1 AND ended_at IS NULL",
    );
    PAUSES = super::Sql::same(
        "SELECT id, stream, kind, words, delivery_id, since, probe_at, probes FROM stream_pause WHERE ended_at IS NULL ORDER BY stream",
    );
    TAKE_PROBE = super::Sql::same(
        "UPDATE stream_pause SET probe_at = $3, probes = probes + 1 WHERE id = $1 AND probe_at = $2 AND ended_at IS NULL",
    );
    PROBE_AT = super::Sql::same("UPDATE stream_pause SET probe_at = $2 WHERE stream = $1 AND ended_at IS NULL");
    PROBE_NOW = super::Sql::same("UPDATE stream_pause SET probe_at = $1 WHERE ended_at IS NULL AND probe_at > $1");
    END_PAUSE = super::Sql::same(
        "UPDATE stream_pause SET ended_at = $2, ended_by = $3 WHERE stream = $1 AND ended_at IS NULL",
    );
    // What was put off because of the pause need not wait for its own time.
    WAKE_PAUSED = super::Sql::same(
        "UPDATE delivery SET due_at = $2 WHERE stream = $1 AND state = 'queued' AND reason = 'stream_paused' AND due_at > $2",
    );
    // It, or another to the same domain, was refused like that before, a mail of the stream was taken since its own first
    // refusal, and it is refused again: the fault is this mail's or its recipient's, whatever the words say. And how often
    // it was since the last pause. (Other streams may have sent a million since.)
    REFUSED_ALONE = over_rows!(
        concat!("SELECT x.id, (SELECT COUNT(*) FROM attempt r WHERE r.delivery_id = x.id AND r.ended_at > x.ended_at AND ", of_us!("r"), ")
         FROM (SELECT j.id, d.stream, MAX(p.ended_at) AS ended_at,
            MAX(CASE WHEN p.domain = j.domain AND p.kind = j.kind THEN 1 ELSE 0 END) AS known,
            (SELECT MIN(f.ended_at) FROM attempt f WHERE f.delivery_id = j.id AND ", of_us!("f"), ") AS own
         FROM"),
        [id uuid, domain text, kind text, since bigint],
        "JOIN delivery d ON d.id = j.id
         JOIN stream_pause p ON p.stream = d.stream AND p.ended_by = 'probe' AND p.ended_at >= j.since
         WHERE NOT EXISTS (SELECT 1 FROM stream_pause o WHERE o.stream = d.stream AND o.ended_at IS NULL)
         GROUP BY j.id, d.stream) AS x
         WHERE CASE WHEN x.own IS NULL THEN x.known = 1 ELSE x.ended_at >= x.own OR EXISTS (SELECT 1 FROM (SELECT o.delivery_id FROM attempt o
            WHERE o.outcome = 'accepted' AND o.ended_at >= x.own ORDER BY o.ended_at LIMIT 1000) AS o
            JOIN delivery od ON od.id = o.delivery_id WHERE od.stream = x.stream) END"
    );
    REFUSALS = over_rows!(
        "SELECT j.id, COUNT(*) FROM", [id uuid],
        "JOIN attempt a ON a.delivery_id = j.id AND a.outcome = 'refused'
            AND a.kind IN ('mailbox_full', 'slow_down', 'greylisted') GROUP BY j.id"
    );
    // Sessions lost with a mail and nothing heard of it since; and after how many of them the relay took another mail of
    // the stream before the next was lost. The order, and the stream asked for row by row, leave planners only the index
    // by time.
    LOSSES = over_rows!(
        "SELECT j.id, COUNT(*) AS losses, SUM(CASE WHEN (SELECT 1 FROM attempt o
            WHERE o.outcome = 'accepted' AND (SELECT od.stream FROM delivery od WHERE od.id = o.delivery_id) = d.stream
                AND o.ended_at >= a.ended_at AND o.ended_at <= COALESCE((SELECT MIN(b.ended_at)
                FROM attempt b WHERE b.delivery_id = j.id AND b.ended_at > a.ended_at), o.ended_at)
            ORDER BY o.ended_at LIMIT 1) IS NULL THEN 0 ELSE 1 END) AS others
         FROM",
        [id uuid],
        "JOIN delivery d ON d.id = j.id
         JOIN attempt a ON a.delivery_id = j.id AND a.outcome = 'not_handed_over' AND a.code IS NULL
         WHERE NOT EXISTS (SELECT 1 FROM attempt h WHERE h.delivery_id = j.id AND h.outcome <> 'not_handed_over'
            AND h.ended_at > a.ended_at)
         GROUP BY j.id"
    );
    NEW_BUCKETS = over_rows!(
        "INSERT INTO rate_bucket (name, level, at, booked_until) SELECT j.name, j.level, j.at, j.booked_until FROM",
        [name text, level bigint, at bigint, booked_until bigint], "WHERE TRUE ON CONFLICT DO NOTHING"
    );
    // Always in the order of the names: two nodes that lock several cannot wait for each other.
    BUCKETS = super::Sql::differs(
        "SELECT b.name, b.level, b.at, b.booked_until FROM (SELECT value->>'name' AS name FROM json_each($1)) AS j
         JOIN rate_bucket b ON b.name = j.name ORDER BY b.name",
        "SELECT b.name, b.level, b.at, b.booked_until FROM json_to_recordset($1::json) AS j(name text)
         JOIN rate_bucket b ON b.name = j.name ORDER BY b.name FOR NO KEY UPDATE OF b",
    );
    SET_BUCKETS = over_rows!(
        "UPDATE rate_bucket SET level = j.level, at = j.at, booked_until = j.booked_until FROM",
        [name text, level bigint, at bigint, booked_until bigint],
        "WHERE rate_bucket.name = j.name"
    );
}

/// A pause in force.
#[derive(Clone, Debug, Serialize, PartialEq, Eq, sqlx::FromRow)]
pub struct Pause {
    /// Its id.
    pub id: PauseId,
    /// The stream's name.
    pub stream: String,
    /// What the relay's no is about.
    pub kind: ReplyKind,
    /// The relay's words.
    pub words: String,
    /// The mail it was said about, if it was about one.
    pub delivery_id: Option<DeliveryId>,
    /// Since when.
    pub since: Timestamp,
    /// When one mail finds out whether it is over.
    pub probe_at: Timestamp,
    /// How many have tried to.
    pub probes: i64,
}

/// What a dispatcher knows of a pause: which it is, and when one mail finds out whether it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The pause's id.
    pub id: PauseId,
    /// When.
    pub at: Timestamp,
}

/// A refusal of us.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    /// The stream's name.
    pub stream: &'a str,
    /// What it is about.
    pub kind: ReplyKind,
    /// The relay's words.
    pub words: &'a str,
    /// The mail it was said about, and its recipient's domain, if it was about one.
    pub delivery: Option<(DeliveryId, &'a str)>,
}

/// Pauses a stream until somebody or a probe ends it; whether it was not paused yet, so that it is told once.
///
/// # Errors
/// When the database fails.
pub async fn pause(tx: &mut Tx, of: Refusal<'_>, probe_at: Timestamp, who: &str) -> Result<bool, StoreError> {
    let now = tx.now();
    let words: String = of.words.chars().take(1_000).collect();
    let (delivery, domain) = of.delivery.unzip();
    if exec!(tx, PAUSE, PauseId::new(), of.stream, of.kind, words.as_str(), delivery, domain, now, probe_at)? == 0 {
        exec!(tx, PROBE_LATER, of.stream, probe_at, words)?;
        return Ok(false);
    }
    journal::append(tx, who, "pause_stream", of.stream, &format!("{}: {words}", of.kind)).await?;
    Ok(true)
}

/// The pauses in force, by stream.
///
/// # Errors
/// When the database fails.
pub async fn pauses(tx: &mut Tx) -> Result<Vec<Pause>, StoreError> {
    rows!(tx, Pause, PAUSES)
}

/// Takes the right to send the one mail that finds out; another node may have been first.
///
/// # Errors
/// When the database fails.
pub async fn take_probe(tx: &mut Tx, of: Probe, next: Timestamp) -> Result<bool, StoreError> {
    Ok(exec!(tx, TAKE_PROBE, of.id, of.at, next)? == 1)
}

/// Lets one mail of each paused stream find out now: whoever starts a process may have mended what was refused.
///
/// # Errors
/// When the database fails.
pub async fn probe_now(tx: &mut Tx) -> Result<(), StoreError> {
    let now = tx.now();
    exec!(tx, PROBE_NOW, now).map(drop)
}

/// Sets when the next mail of a paused stream finds out.
///
/// # Errors
/// When the database fails.
pub async fn probe_later(tx: &mut Tx, stream: &str, at: Timestamp) -> Result<(), StoreError> {
    exec!(tx, PROBE_AT, stream, at).map(drop)
}

/// Somebody says that it is mended: one mail finds out at once, and the others follow it. Whether there was a pause.
///
/// # Errors
/// When the database fails.
pub async fn resume(tx: &mut Tx, stream: &str, who: &str, why: &str) -> Result<bool, StoreError> {
    let now = tx.now();
    if exec!(tx, PROBE_AT, stream, now)? == 0 {
        return Ok(false);
    }
    exec!(tx, WAKE_PAUSED, stream, now)?;
    journal::append(tx, who, "resume_stream", stream, why).await?;
    Ok(true)
}

/// Ends the pause of a stream: a mail was taken again. Whether there was one.
///
/// # Errors
/// When the database fails.
pub async fn end(tx: &mut Tx, stream: &str, who: &str) -> Result<bool, StoreError> {
    end_by(tx, stream, "probe", who, "a mail was taken again").await
}

/// Ends the pause of a stream that is configured no more: no mail of it will find out. Whether there was one.
///
/// # Errors
/// When the database fails.
pub async fn forget(tx: &mut Tx, stream: &str, who: &str, why: &str) -> Result<bool, StoreError> {
    end_by(tx, stream, "operator", who, why).await
}

async fn end_by(tx: &mut Tx, stream: &str, by: &str, who: &str, why: &str) -> Result<bool, StoreError> {
    let now = tx.now();
    if exec!(tx, END_PAUSE, stream, now, by)? == 0 {
        return Ok(false);
    }
    exec!(tx, WAKE_PAUSED, stream, now)?;
    journal::append(tx, who, "end_pause", stream, why).await?;
    Ok(true)
}

/// A mail that was refused as if all were.
#[derive(Clone, Copy, Debug)]
pub struct Refused<'a> {
    /// The delivery.
    pub id: DeliveryId,
    /// Its recipient's domain.
    pub domain: &'a str,
    /// What it is about.
    pub kind: ReplyKind,
}

/// Which of these deliveries are refused alone, while others of their stream are taken, and how often each was so since
/// the stream's last pause; pauses that ended before `since` are forgotten.
///
/// # Errors
/// When the database fails.
pub async fn refused_alone(
    tx: &mut Tx,
    of: &[Refused<'_>],
    since: Timestamp,
) -> Result<HashMap<DeliveryId, i64>, StoreError> {
    let row = of.iter().map(|r| columns! { id: r.id, domain: r.domain, kind: r.kind.as_str(), since: since.0 });
    Ok(rows!(tx, (DeliveryId, i64), REFUSED_ALONE, json(row))?.into_iter().collect())
}

/// How often each of these deliveries was refused with a 5xx that need not last, of those that were.
///
/// # Errors
/// When the database fails.
pub async fn refusals(tx: &mut Tx, of: &[DeliveryId]) -> Result<HashMap<DeliveryId, i64>, StoreError> {
    let of = of.iter().map(|id| columns! { id: id.0 });
    Ok(rows!(tx, (DeliveryId, i64), REFUSALS, json(of))?.into_iter().collect())
}

/// How often a session was lost with each of these deliveries since anything was heard of it, and after how many of
/// those the relay took another mail of its stream before the next was lost.
///
/// # Errors
/// When the database fails.
pub async fn losses(tx: &mut Tx, of: &[DeliveryId]) -> Result<Vec<(DeliveryId, i64, i64)>, StoreError> {
    let of = of.iter().map(|id| columns! { id: id.0 });
    rows!(tx, (DeliveryId, i64, i64), LOSSES, json(of))
}

/// A token bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Bucket {
    /// What it caps.
    pub name: String,
    /// How much is in it.
    pub level: i64,
    /// As of when.
    pub at: Timestamp,
    /// Until when mails that found it empty were told to come back.
    pub booked_until: Timestamp,
}

/// The buckets of these names, locked; those that are not there yet begin as they are given.
///
/// # Errors
/// When the database fails.
pub async fn buckets(tx: &mut Tx, of: &[Bucket]) -> Result<Vec<Bucket>, StoreError> {
    let names = bucket_rows(of);
    let found = rows!(tx, Bucket, BUCKETS, &names)?;
    if found.len() == of.len() {
        return Ok(found);
    }
    exec!(tx, NEW_BUCKETS, &names)?;
    rows!(tx, Bucket, BUCKETS, names)
}

/// Writes what is left in buckets.
///
/// # Errors
/// When the database fails.
pub async fn set_buckets(tx: &mut Tx, of: &[Bucket]) -> Result<(), StoreError> {
    exec!(tx, SET_BUCKETS, bucket_rows(of)).map(drop)
}

fn bucket_rows(of: &[Bucket]) -> String {
    let rows = of.iter().map(|b| columns! { name: &b.name, level: b.level, at: b.at, booked_until: b.booked_until });
    json(rows)
}
