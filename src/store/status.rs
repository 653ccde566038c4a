//! How our own queue does. Nothing here reads a finished row: what waits is counted in the index of what waits, by lane
//! and reason; what came and went is counted in indexes by time, over the last minutes and a bounded number of rows.

use super::{Sql, StoreError, Tx};
use crate::domain::class::Class;
use crate::domain::delivery::{Reason, State};
use crate::domain::time::{Span, Timestamp};
use serde::Serialize;
use uuid::Uuid;

/// What "per minute" looks back to, and at most so many rows.
const WINDOW: Span = Span::minutes(5);
const MOST_ROWS: i64 = 10_000;

statements! {
    // Lane by lane, so that no estimate turns it into a reading of the table. SQLite has no lateral joins, and needs none. What
    // is due waits for nothing but its turn, whatever it was put off for. While its component is down a lane gives what is ripe.
    DEPTH = Sql::differs(
        "SELECT l.class, q.reason, l.fence_kind, l.fence_id, k.key AS component, k.down_since, q.mails, q.due, q.oldest_due_at, q.ripe
         FROM (SELECT lane_id, CASE WHEN due_at > $1 THEN reason END AS reason, COUNT(*) AS mails, SUM(CASE WHEN due_at <= $1 THEN 1 ELSE 0 END) AS due, MIN(due_at) AS oldest_due_at,
                CASE WHEN due_at <= $2 OR reason = 'paced' OR (due_at <= $1 AND COALESCE(reason, '') <> 'dwell') THEN TRUE ELSE FALSE END AS ripe
            FROM delivery WHERE state = 'queued' GROUP BY 1, 2, 6) AS q
         JOIN lane l ON l.id = q.lane_id LEFT JOIN component k ON l.fence_kind = 'component' AND k.id = l.fence_id",
        "SELECT l.class, q.reason, l.fence_kind, l.fence_id, k.key AS component, k.down_since, q.mails, q.due, q.oldest_due_at, q.ripe
         FROM lane l CROSS JOIN LATERAL (SELECT CASE WHEN due_at > $1 THEN reason END AS reason, COUNT(*) AS mails,
                SUM(CASE WHEN due_at <= $1 THEN 1 ELSE 0 END) AS due, MIN(due_at) AS oldest_due_at,
                CASE WHEN due_at <= $2 OR reason = 'paced' OR (due_at <= $1 AND COALESCE(reason, '') <> 'dwell') THEN TRUE ELSE FALSE END AS ripe
            FROM delivery WHERE lane_id = l.id AND state = 'queued' GROUP BY 1, 5) AS q
         LEFT JOIN component k ON l.fence_kind = 'component' AND k.id = l.fence_id",
    );
    // Who sent one again has decided.
    SET_ASIDE = Sql::same(
        "SELECT d.state, d.reason, COUNT(*) AS mails, MIN(d.created_at) AS oldest FROM delivery d
         WHERE d.state = $1 AND d.state NOT IN ('queued', 'sending', 'accepted')
            AND NOT (d.state = 'parked' AND EXISTS (SELECT 1 FROM delivery r WHERE r.resend_of = d.id))
         GROUP BY d.state, d.reason ORDER BY d.state, d.reason",
    );
    ON_THE_WIRE_NOW = Sql::same("SELECT COUNT(*) FROM delivery WHERE state = 'sending'");
    IN_QUARANTINE = Sql::same("SELECT COUNT(*) FROM delivery WHERE quarantine_until IS NOT NULL");
    PLANNED_LATELY = Sql::same(
        "SELECT COUNT(*) AS rows, MIN(created_at) AS since FROM (SELECT created_at FROM delivery WHERE lower(class) = $1 AND created_at > $2
            ORDER BY created_at DESC LIMIT $3) AS r",
    );
    // What the relays took has left the queue, and what they refused as such; what is put off has not, and an address that is
    // dead says nothing of the relay.
    HANDED_OVER_LATELY = Sql::same(
        "SELECT COUNT(*) AS rows, MIN(ended_at) AS since, COUNT(CASE WHEN outcome = 'accepted' THEN 1 END) AS accepted,
            COUNT(CASE WHEN outcome = 'refused' AND kind IN ('message_at_fault', 'unknown') THEN 1 END) AS refused,
            MAX(CASE WHEN outcome = 'refused' AND kind IN ('message_at_fault', 'unknown') THEN CAST(code AS TEXT) || ' ' || reply END)
                AS refusal
         FROM (SELECT ended_at, outcome, kind, code, reply FROM attempt WHERE ended_at > $1
            AND outcome IN ('accepted', 'refused') ORDER BY ended_at DESC LIMIT $2) AS r",
    );
}

/// Mails of one lane that wait for one reason.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Depth {
    /// What they are for.
    pub class: Class,
    /// Why they were put off, when they were looked at; nothing of those that are due.
    pub reason: Option<Reason>,
    /// `none`, `component` or `incident`.
    pub fence_kind: String,
    /// The component or incident.
    pub fence_id: Uuid,
    /// The component's key.
    pub component: Option<String>,
    /// Since when the component is down.
    pub down_since: Option<Timestamp>,
    /// How many.
    pub mails: i64,
    /// How many of them are due.
    pub due: i64,
    /// When the first was due.
    pub oldest_due_at: Timestamp,
    /// They leave though their component is down.
    pub ripe: bool,
}

/// Mails that left the queue and are not at rest.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
pub struct Aside {
    /// Where they stand.
    pub state: State,
    /// Why.
    pub reason: Reason,
    /// How many.
    pub mails: i64,
    /// When the oldest was planned.
    pub oldest: Timestamp,
}

/// What waits, by lane and reason. Whose component is down has waited for the longest hold when it has been due for
/// `overdue`.
///
/// # Errors
/// When the database fails.
pub async fn depth(tx: &mut Tx, overdue: Option<Span>) -> Result<Vec<Depth>, StoreError> {
    let now = tx.now();
    // Where no hold is the longest, what was put off is looked at again and again.
    let due_by = overdue.map_or(Timestamp(0), |overdue| now - overdue);
    rows!(tx, Depth, DEPTH, now, due_by)
}

/// What is parked, or unknown.
///
/// # Errors
/// When the database fails.
pub async fn aside(tx: &mut Tx, state: State) -> Result<Vec<Aside>, StoreError> {
    rows!(tx, Aside, SET_ASIDE, state)
}

/// How many are on the wire, and how many are left alone because nobody knows whether they left.
///
/// # Errors
/// When the database fails.
pub async fn on_the_way(tx: &mut Tx) -> Result<(i64, i64), StoreError> {
    Ok((value!(tx, i64, ON_THE_WIRE_NOW)?, value!(tx, i64, IN_QUARANTINE)?))
}

/// What comes and goes in a minute.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    /// Mails planned.
    pub planned: f64,
    /// Mails that relays took.
    pub accepted: f64,
    /// Mails that relays refused for good.
    pub refused: f64,
    /// What a relay said of one of these.
    pub refusal: Option<String>,
}

/// What came and went lately.
///
/// # Errors
/// When the database fails.
pub async fn rates(tx: &mut Tx) -> Result<Rates, StoreError> {
    let (now, mut planned) = (tx.now(), 0.0);
    for class in Class::ALL {
        let lately = first!(tx, (i64, Option<Timestamp>), PLANNED_LATELY, *class, now - WINDOW, MOST_ROWS)?;
        planned += lately.map_or(0.0, |(rows, since)| per_minute(rows, rows, since, now));
    }
    let handed_over = on_db!(
        tx,
        HANDED_OVER_LATELY,
        query_as::<(i64, Option<Timestamp>, i64, i64, Option<String>)>,
        fetch_one,
        now - WINDOW,
        MOST_ROWS
    )?;
    let (rows, since, accepted, refused, refusal) = handed_over;
    let of = |count| per_minute(count, rows, since, now);
    Ok(Rates { planned, accepted: of(accepted), refused: of(refused), refusal })
}

/// Where there are more rows than were counted, the time of the counted ones is shorter.
#[expect(clippy::cast_precision_loss, reason = "counts and spans of minutes are far below 2^52")]
fn per_minute(count: i64, rows: i64, since: Option<Timestamp>, now: Timestamp) -> f64 {
    let span = since.filter(|_| rows >= MOST_ROWS).map_or(WINDOW, |since| now - since);
    let minutes = span.0.max(1_000_000) as f64 / 60_000_000.0;
    (count as f64 / minutes * 10.0).round() / 10.0
}
