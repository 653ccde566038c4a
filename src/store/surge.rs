//! Surges: what failed and recovered in each minute, what is decided about floods of it, and the mails that wait for it.

use super::ingest::json;
use super::{StoreError, Tx};
use crate::domain::id::{ComponentId, HoldId, LaneId, SurgeId};
use crate::domain::surge::{Kind, MINUTE, Stage, Why};
use crate::domain::time::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use uuid::fmt::Simple;

statements! {
    ADD_TALLIES = over_rows!(
        "INSERT INTO failure_tally (component_id, minute, failed, failed_slow, recovered, first_at)
         SELECT j.component_id, j.minute, j.failed, j.failed_slow, j.recovered, j.first_at FROM",
        [component_id uuid, minute bigint, failed bigint, failed_slow bigint, recovered bigint, first_at bigint],
        "WHERE TRUE ON CONFLICT (component_id, minute) DO UPDATE SET failed = failure_tally.failed + excluded.failed,
            failed_slow = failure_tally.failed_slow + excluded.failed_slow,
            recovered = failure_tally.recovered + excluded.recovered,
            first_at = CASE WHEN failure_tally.first_at <= excluded.first_at OR excluded.first_at IS NULL
                THEN failure_tally.first_at ELSE excluded.first_at END"
    );
    // Components not known to be down, with so many failures in one of the two windows that the rules look at them.
    SUSPECTS = super::Sql::same(
        "SELECT k.id, k.key, k.name, k.created_at FROM component k JOIN (SELECT component_id FROM failure_tally WHERE minute > $2
            GROUP BY component_id HAVING SUM(CASE WHEN minute > $1 THEN failed ELSE 0 END) >= $3 OR SUM(failed_slow) >= $4) AS t
            ON t.component_id = k.id WHERE k.down_since IS NULL ORDER BY k.id",
    );
    COUNTS_SINCE = super::Sql::same(
        "SELECT minute, failed, failed_slow, recovered, first_at FROM failure_tally WHERE component_id = $1 AND minute > $2 ORDER BY minute",
    );
    ALL_COUNTS_SINCE = super::Sql::same(
        "SELECT minute, CAST(SUM(failed) AS BIGINT) AS failed, CAST(SUM(failed_slow) AS BIGINT) AS failed_slow,
            CAST(SUM(recovered) AS BIGINT) AS recovered, MIN(first_at) AS first_at
         FROM failure_tally WHERE minute > $1 GROUP BY minute ORDER BY minute",
    );
    COUNTING_SINCE = super::Sql::same("SELECT MIN(minute) FROM failure_tally");
    // What came before the component was back is no evidence of a new outage.
    QUIET_SINCE = super::Sql::same(
        "SELECT MAX(x.at) FROM (SELECT up_since AS at FROM component WHERE id = $1
            UNION ALL SELECT MAX(committed_at) FROM recovery WHERE component_id = $1 AND connection_id IS NULL
            UNION ALL SELECT MAX(ended_at) FROM surge WHERE component_id = $1 AND kind <> 'slow') AS x",
    );
    // Outages, surges and holds: the baseline must not learn them. `$2` the first time that is of interest.
    SUSPECT_SPANS = super::Sql::same(
        "SELECT since, ended_at AS until FROM episode WHERE component_id = $1 AND (ended_at IS NULL OR ended_at >= $2)
         UNION ALL SELECT since, ended_at FROM surge WHERE (component_id = $1 OR component_id IS NULL) AND (ended_at IS NULL OR ended_at >= $2)
         UNION ALL SELECT since, CASE WHEN released_at < until OR until IS NULL THEN released_at ELSE until END FROM hold
            WHERE (component_id = $1 OR (component_id IS NULL AND (class IS NULL OR class = 'action_required')))
                AND (released_at IS NULL OR released_at >= $2)",
    );
    TOTALS = super::Sql::differs(
        "SELECT COALESCE(SUM(failed), 0) AS failed, COALESCE(SUM(failed_slow), 0) AS failed_slow, COALESCE(SUM(recovered), 0) AS recovered
         FROM failure_tally t WHERE component_id = $1 AND minute >= $2 AND minute < $3 AND NOT EXISTS (SELECT 1 FROM
            (SELECT value->>'a' AS a, value->>'b' AS b FROM json_each($4)) AS j WHERE t.minute BETWEEN j.a AND j.b)",
        "SELECT CAST(COALESCE(SUM(failed), 0) AS BIGINT) AS failed, CAST(COALESCE(SUM(failed_slow), 0) AS BIGINT) AS failed_slow,
            CAST(COALESCE(SUM(recovered), 0) AS BIGINT) AS recovered
         FROM failure_tally t WHERE component_id = $1 AND minute >= $2 AND minute < $3 AND NOT EXISTS (SELECT 1 FROM
            json_to_recordset($4::json) AS j(a bigint, b bigint) WHERE t.minute BETWEEN j.a AND j.b)",
    );
    FORGET_TALLIES = super::Sql::same("DELETE FROM failure_tally WHERE minute < $1");
    OPEN_SURGES = super::Sql::same(
        "SELECT s.id, s.kind, s.component_id, k.key AS component, k.name, s.opened_at, s.opened_by, s.because, s.since, s.counted, s.normal,
            s.minutes, s.normal_recovered, s.connections, s.episode, s.hold_id, s.stage, s.stage_at, s.why, s.until, s.flooding, s.ended_at
         FROM surge s LEFT JOIN component k ON k.id = s.component_id
         WHERE s.ended_at IS NULL ORDER BY s.opened_at, s.id",
    );
    SURGE = locking!(
        "SELECT s.id, s.kind, s.component_id, k.key AS component, k.name, s.opened_at, s.opened_by, s.because, s.since, s.counted, s.normal,
            s.minutes, s.normal_recovered, s.connections, s.episode, s.hold_id, s.stage, s.stage_at, s.why, s.until, s.flooding, s.ended_at
         FROM surge s LEFT JOIN component k ON k.id = s.component_id WHERE s.id = $1",
        "FOR NO KEY UPDATE OF s"
    );
    SURGES = super::Sql::same(
        "SELECT s.id, s.kind, s.component_id, k.key AS component, k.name, s.opened_at, s.opened_by, s.because, s.since, s.counted, s.normal,
            s.minutes, s.normal_recovered, s.connections, s.episode, s.hold_id, s.stage, s.stage_at, s.why, s.until, s.flooding, s.ended_at
         FROM surge s LEFT JOIN component k ON k.id = s.component_id
         WHERE s.opened_at < $1 AND (CAST($2 AS UUID) IS NULL OR s.component_id = $2) ORDER BY s.opened_at DESC, s.id DESC LIMIT $3",
    );
    REPORTER_SUSPECT_SINCE = super::Sql::same(
        "SELECT COUNT(*) FROM surge WHERE component_id IS NULL AND (ended_at IS NULL OR ended_at >= $1)",
    );
    SAVE_SURGE = super::Sql::same(
        "INSERT INTO surge (id, kind, component_id, opened_at, opened_by, because, since, counted, normal, minutes, normal_recovered,
            connections, episode, hold_id, stage, stage_at, why, until, flooding, ended_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)
         ON CONFLICT (id) DO UPDATE SET episode = excluded.episode, hold_id = excluded.hold_id, stage = excluded.stage,
            stage_at = excluded.stage_at, why = excluded.why, until = excluded.until, flooding = excluded.flooding,
            ended_at = excluded.ended_at",
    );
    ALL_CONNECTIONS = super::Sql::same("SELECT COUNT(*) FROM connection");
    CONNECTIONS_OF = super::Sql::same("SELECT COUNT(*) FROM connection WHERE component_id = $1");
    BROKEN_SINCE = super::Sql::same(
        "SELECT COUNT(*) FROM connection WHERE component_id = $1 AND failed_at >= $2 AND cleared < episode",
    );
    WAITING_FOR = super::Sql::same(
        "SELECT COUNT(*) FROM delivery WHERE state = 'queued' AND lane_id =
            (SELECT id FROM lane WHERE class = 'action_required' AND fence_kind = 'component' AND fence_id = $1)",
    );
    FIRST_DUE_FOR = super::Sql::same(
        "SELECT MIN(due_at) FROM delivery WHERE state = 'queued' AND lane_id =
            (SELECT id FROM lane WHERE class = 'action_required' AND fence_kind = 'component' AND fence_id = $1)",
    );
    // What has waited longest, and nobody is deciding about at this moment.
    SEND_AHEAD = super::Sql::differs(
        "UPDATE delivery SET lane_id = $2, canary_id = $3, due_at = $4, reason = NULL WHERE id IN (SELECT id FROM delivery
            WHERE state = 'queued' AND lane_id =
                (SELECT id FROM lane WHERE class = 'action_required' AND fence_kind = 'component' AND fence_id = $1)
            ORDER BY due_at, id LIMIT $5)",
        "UPDATE delivery SET lane_id = $2, canary_id = $3, due_at = $4, reason = NULL WHERE id IN (SELECT id FROM delivery
            WHERE state = 'queued' AND lane_id =
                (SELECT id FROM lane WHERE class = 'action_required' AND fence_kind = 'component' AND fence_id = $1)
            ORDER BY due_at, id LIMIT $5 FOR NO KEY UPDATE SKIP LOCKED)",
    );
    CANARIES_LEFT = super::Sql::same("SELECT COUNT(*) FROM delivery WHERE canary_id = $1 AND state IN ('queued', 'sending')");
    CALL_BACK = super::Sql::same(
        "UPDATE delivery SET canary_id = NULL, lane_id =
            (SELECT id FROM lane WHERE class = 'action_required' AND fence_kind = 'component' AND fence_id = $2)
         WHERE canary_id = $1 AND state = 'queued'",
    );
    HASTEN_HELD = super::Sql::same(
        "UPDATE delivery SET due_at = $2 WHERE state = 'queued' AND reason IN ('awaiting_reconnection', 'component_down') AND due_at > $2
            AND lane_id = (SELECT id FROM lane WHERE class = 'action_required' AND fence_kind = 'component' AND fence_id = $1)",
    );
    IS_DOWN = super::Sql::same("SELECT COUNT(*) FROM component WHERE id = $1 AND down_since IS NOT NULL");
    ENDED_ELSEHOW = super::Sql::same("SELECT COUNT(*) FROM component WHERE id = $1 AND (episode > $2 OR down_since IS NULL)");
    RELEASE_EPISODE = super::Sql::same(
        "UPDATE episode SET ended_at = $3, released_at = $3 WHERE component_id = $1 AND n = $2 AND ended_at IS NULL",
    );
    PATIENCE_ENDED = super::Sql::same(
        "SELECT key FROM connection WHERE fault = 'recoverable' AND cleared < episode AND asked_episode < episode AND failed_at <= $1
         ORDER BY failed_at LIMIT $2",
    );
}

/// What came in about a component within a minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Connections newly failed for good that had not failed within the short window.
    pub failed: i64,
    /// The same within the long one.
    pub failed_slow: i64,
    /// Connections that recovered by themselves.
    pub recovered: i64,
    /// When the first of them failed.
    pub first_at: Option<Timestamp>,
}

impl Tally {
    /// Counts a failure at a time, if it counts in the short and in the long window.
    pub fn fail(&mut self, at: Timestamp, counts: bool, counts_slow: bool) {
        self.failed += i64::from(counts);
        self.failed_slow += i64::from(counts_slow);
        if counts {
            self.first_at = Some(self.first_at.map_or(at, |first| first.min(at)));
        }
    }
}

/// A component whose failures are to be judged.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Suspect {
    /// Its id.
    pub id: ComponentId,
    /// Its key.
    pub key: String,
    /// Its name.
    pub name: String,
    /// Since when it is known.
    pub created_at: Timestamp,
}

/// The counts of a minute.
#[derive(Clone, Copy, Debug, sqlx::FromRow)]
pub struct Counts {
    /// The minute.
    pub minute: i64,
    /// As in [`Tally`].
    pub failed: i64,
    /// As in [`Tally`].
    pub failed_slow: i64,
    /// As in [`Tally`].
    pub recovered: i64,
    /// As in [`Tally`].
    pub first_at: Option<Timestamp>,
}

/// Totals over many minutes.
#[derive(Clone, Copy, Debug, sqlx::FromRow)]
pub struct Totals {
    /// As in [`Tally`].
    pub failed: i64,
    /// As in [`Tally`].
    pub failed_slow: i64,
    /// As in [`Tally`].
    pub recovered: i64,
}

/// A surge.
#[derive(Clone, Debug, PartialEq, Serialize, sqlx::FromRow)]
pub struct Surge {
    /// Its id.
    pub id: SurgeId,
    /// What it is.
    pub kind: Kind,
    /// Its component; none when the reports are suspect.
    pub component_id: Option<ComponentId>,
    /// That component's key.
    pub component: Option<String>,
    /// That component's name.
    #[serde(skip)]
    pub name: Option<String>,
    /// When it was seen.
    pub opened_at: Timestamp,
    /// Who saw it: `surge`, or an operator.
    pub opened_by: String,
    /// Why, in words.
    pub because: String,
    /// When its first connection failed.
    pub since: Timestamp,
    /// How many were counted when it was seen.
    pub counted: i64,
    /// How many are normal, in thousandths.
    #[serde(rename = "normal_thousandths")]
    pub normal: i64,
    /// In a window of so many minutes.
    pub minutes: i64,
    /// How many recoveries are normal in their window, in thousandths.
    #[serde(skip)]
    pub normal_recovered: i64,
    /// How many connections the component had.
    pub connections: i64,
    /// The outage that it opened and that nobody has ended.
    #[serde(skip)]
    pub episode: Option<i64>,
    /// The hold in force for it.
    pub hold_id: Option<HoldId>,
    /// How far it has come.
    pub stage: Stage,
    /// Since when.
    pub stage_at: Timestamp,
    /// Why it came there.
    pub why: Why,
    /// An operator wants it held until then.
    pub until: Option<Timestamp>,
    /// Connections failed in floods when the release began.
    #[serde(skip)]
    pub flooding: bool,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
}

/// Adds what came in about components in this minute. The last thing a transaction does, in the order of the
/// components: whoever counts beside it waits for its commit and for nothing else.
///
/// # Errors
/// When the database fails.
pub async fn count(tx: &mut Tx, of: &BTreeMap<ComponentId, Tally>) -> Result<(), StoreError> {
    #[derive(Serialize)]
    struct Row {
        component_id: Simple,
        minute: i64,
        failed: i64,
        failed_slow: i64,
        recovered: i64,
        first_at: Option<i64>,
    }
    let minute = crate::domain::surge::minute(tx.now());
    let counted = of.iter().filter(|(_, t)| **t != Tally::default()).map(|(id, t)| Row {
        component_id: id.0.simple(),
        minute,
        failed: t.failed,
        failed_slow: t.failed_slow,
        recovered: t.recovered,
        first_at: t.first_at.map(|at| at.0),
    });
    let rows: Vec<_> = counted.collect();
    if rows.is_empty() { Ok(()) } else { exec!(tx, ADD_TALLIES, json(&rows)).map(drop) }
}

/// Components not known to be down with at least so many failures after these minutes (short and long window).
///
/// # Errors
/// When the database fails.
pub async fn suspects(tx: &mut Tx, after: (i64, i64), least: (i64, i64)) -> Result<Vec<Suspect>, StoreError> {
    rows!(tx, Suspect, SUSPECTS, after.0, after.1, least.0, least.1)
}

/// The counts after a minute, oldest first, of a component or of all.
///
/// # Errors
/// When the database fails.
pub async fn counts(tx: &mut Tx, of: Option<ComponentId>, after: i64) -> Result<Vec<Counts>, StoreError> {
    match of {
        Some(component) => rows!(tx, Counts, COUNTS_SINCE, component, after),
        None => rows!(tx, Counts, ALL_COUNTS_SINCE, after),
    }
}

/// The first minute that was counted.
///
/// # Errors
/// When the database fails.
pub async fn counting_since(tx: &mut Tx) -> Result<Option<i64>, StoreError> {
    value!(tx, Option<i64>, COUNTING_SINCE)
}

/// When the component's newest outage was over, as we know.
///
/// # Errors
/// When the database fails.
pub async fn quiet_since(tx: &mut Tx, of: ComponentId) -> Result<Option<Timestamp>, StoreError> {
    value!(tx, Option<Timestamp>, QUIET_SINCE, of)
}

/// The minutes from and up to which something was wrong with a component or its mail, since a time.
///
/// # Errors
/// When the database fails.
pub async fn suspect_spans(tx: &mut Tx, of: ComponentId, since: Timestamp) -> Result<Vec<(i64, i64)>, StoreError> {
    let found = rows!(tx, (Timestamp, Option<Timestamp>), SUSPECT_SPANS, of, since)?;
    let minute = |at: Timestamp| at.0.div_euclid(MINUTE);
    Ok(found.into_iter().map(|(a, b)| (minute(a), b.map_or(i64::MAX, minute))).collect())
}

/// What a component's counts amount to from one minute on to before another, without these spans.
///
/// # Errors
/// When the database fails.
pub async fn totals(
    tx: &mut Tx,
    of: ComponentId,
    (from, until): (i64, i64),
    without: &[(i64, i64)],
) -> Result<Totals, StoreError> {
    #[derive(Serialize)]
    struct Row {
        a: i64,
        b: i64,
    }
    let spans: Vec<_> = without.iter().map(|(a, b)| Row { a: *a, b: *b }).collect();
    first!(tx, Totals, TOTALS, of, from, until, json(&spans))
        .map(|found| found.unwrap_or(Totals { failed: 0, failed_slow: 0, recovered: 0 }))
}

/// Removes the counts before a minute.
///
/// # Errors
/// When the database fails.
pub async fn forget(tx: &mut Tx, before: i64) -> Result<u64, StoreError> {
    exec!(tx, FORGET_TALLIES, before)
}

/// The open surges, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn open(tx: &mut Tx) -> Result<Vec<Surge>, StoreError> {
    rows!(tx, Surge, OPEN_SURGES)
}

/// A surge, locked against change.
///
/// # Errors
/// When the database fails.
pub async fn surge(tx: &mut Tx, id: SurgeId) -> Result<Option<Surge>, StoreError> {
    first!(tx, Surge, SURGE, id)
}

/// Surges opened before a time, newest first: of a component or all.
///
/// # Errors
/// When the database fails.
pub async fn list(
    tx: &mut Tx,
    of: Option<ComponentId>,
    before: Timestamp,
    most: i64,
) -> Result<Vec<Surge>, StoreError> {
    rows!(tx, Surge, SURGES, before, of, most)
}

/// Whether our own reports are suspect, or were at a time.
///
/// # Errors
/// When the database fails.
pub async fn reporter_suspect_since(tx: &mut Tx, at: Timestamp) -> Result<bool, StoreError> {
    Ok(value!(tx, i64, REPORTER_SUSPECT_SINCE, at)? > 0)
}

/// Stores a surge: a new one as a whole, of a known one how far it has come.
///
/// # Errors
/// When the database fails, or its component has an open one ([`StoreError::is_conflict`]).
pub async fn save(tx: &mut Tx, s: &Surge) -> Result<(), StoreError> {
    exec!(
        tx,
        SAVE_SURGE,
        s.id,
        s.kind,
        s.component_id,
        s.opened_at,
        &s.opened_by,
        &s.because,
        s.since,
        s.counted,
        s.normal,
        s.minutes,
        s.normal_recovered,
        s.connections,
        s.episode,
        s.hold_id,
        s.stage,
        s.stage_at,
        s.why,
        s.until,
        s.flooding,
        s.ended_at
    )
    .map(drop)
}

/// How many connections there are, of a component or in all. It reads them all, and is asked once a surge.
///
/// # Errors
/// When the database fails.
pub async fn connections(tx: &mut Tx, of: Option<ComponentId>) -> Result<i64, StoreError> {
    match of {
        Some(component) => value!(tx, i64, CONNECTIONS_OF, component),
        None => value!(tx, i64, ALL_CONNECTIONS),
    }
}

/// How many of a component's connections failed at a time or later, and are broken.
///
/// # Errors
/// When the database fails.
pub async fn broken_since(tx: &mut Tx, of: ComponentId, at: Timestamp) -> Result<i64, StoreError> {
    value!(tx, i64, BROKEN_SINCE, of, at)
}

/// How many mails wait for a component.
///
/// # Errors
/// When the database fails.
pub async fn waiting(tx: &mut Tx, of: ComponentId) -> Result<i64, StoreError> {
    value!(tx, i64, WAITING_FOR, of)
}

/// When the first mail that waits for a component is or was due.
///
/// # Errors
/// When the database fails.
pub async fn first_due(tx: &mut Tx, of: ComponentId) -> Result<Option<Timestamp>, StoreError> {
    value!(tx, Option<Timestamp>, FIRST_DUE_FOR, of)
}

/// Moves mails that have waited longest for a component into a lane that nothing holds, as the canary of a surge; how
/// many.
///
/// # Errors
/// When the database fails.
pub async fn send_ahead(
    tx: &mut Tx,
    of: ComponentId,
    to: LaneId,
    surge: SurgeId,
    most: i64,
) -> Result<u64, StoreError> {
    let now = tx.now();
    exec!(tx, SEND_AHEAD, of, to, surge, now, most)
}

/// How many of a surge's canaries have not left.
///
/// # Errors
/// When the database fails.
pub async fn canaries_left(tx: &mut Tx, surge: SurgeId) -> Result<i64, StoreError> {
    value!(tx, i64, CANARIES_LEFT, surge)
}

/// Moves the canaries that have not left back to the others.
///
/// # Errors
/// When the database fails.
pub async fn call_back(tx: &mut Tx, surge: SurgeId, of: ComponentId) -> Result<(), StoreError> {
    exec!(tx, CALL_BACK, surge, of).map(drop)
}

/// What was put off to its own longest hold is due now.
///
/// # Errors
/// When the database fails.
pub async fn hasten(tx: &mut Tx, of: ComponentId) -> Result<(), StoreError> {
    let now = tx.now();
    exec!(tx, HASTEN_HELD, of, now).map(drop)
}

/// Whether a component is known to be down.
///
/// # Errors
/// When the database fails.
pub async fn is_down(tx: &mut Tx, of: ComponentId) -> Result<bool, StoreError> {
    Ok(value!(tx, i64, IS_DOWN, of)? > 0)
}

/// Whether an outage was ended by a source.
///
/// # Errors
/// When the database fails.
pub async fn ended_elsehow(tx: &mut Tx, of: ComponentId, n: i64) -> Result<bool, StoreError> {
    Ok(value!(tx, i64, ENDED_ELSEHOW, of, n)? > 0)
}

/// Ends an outage without anybody having said that it is over: those who failed in it no longer wait for it.
///
/// # Errors
/// When the database fails.
pub async fn release_episode(tx: &mut Tx, of: ComponentId, n: i64) -> Result<(), StoreError> {
    let now = tx.now();
    exec!(tx, RELEASE_EPISODE, of, n, now).map(drop)
}

/// The keys of connections that were to heal by themselves and have not by a time, a page of them.
///
/// # Errors
/// When the database fails.
pub async fn not_healed(tx: &mut Tx, since: Timestamp, page: i64) -> Result<Vec<String>, StoreError> {
    Ok(rows!(tx, (String,), PATIENCE_ENDED, since, page)?.into_iter().map(|row| row.0).collect())
}
