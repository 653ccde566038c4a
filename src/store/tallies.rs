//! The evidence of surges: what failed and recovered in each minute, and what of it is no evidence.

use super::rows::json;
use super::{StoreError, Tx};
use crate::domain::id::ComponentId;
use crate::domain::surge::minute;
use crate::domain::time::Timestamp;
use std::collections::BTreeMap;

/// Components that are so, and of which nobody is deciding when to ask.
macro_rules! undecided {
    ($so:literal) => {
        concat!(
            "SELECT k.id, k.key, k.name, k.created_at FROM component k WHERE NOT EXISTS (SELECT 1 FROM surge s
                WHERE s.component_id = k.id AND s.kind <> 'slow' AND s.ended_at IS NULL) AND ",
            $so,
            " ORDER BY k.id"
        )
    };
}

statements! {
    ADD_TALLIES = over_rows!(
        "INSERT INTO failure_tally (component_id, minute, failed, failed_slow, recovered, recovered_unknown, first_at)
         SELECT j.component_id, j.minute, j.failed, j.failed_slow, j.recovered, j.recovered_unknown, j.first_at FROM",
        [component_id uuid, minute bigint, failed bigint, failed_slow bigint, recovered bigint, recovered_unknown bigint,
            first_at bigint],
        "WHERE TRUE ON CONFLICT (component_id, minute) DO UPDATE SET failed = failure_tally.failed + excluded.failed,
            failed_slow = failure_tally.failed_slow + excluded.failed_slow,
            recovered = failure_tally.recovered + excluded.recovered,
            recovered_unknown = failure_tally.recovered_unknown + excluded.recovered_unknown,
            first_at = CASE WHEN failure_tally.first_at <= excluded.first_at OR excluded.first_at IS NULL
                THEN failure_tally.first_at ELSE excluded.first_at END"
    );
    // Components not known to be down, with so many failures in one of the two windows that the rules look at them.
    SUSPECTS = super::Sql::same(
        "SELECT k.id, k.key, k.name, k.created_at FROM component k JOIN (SELECT component_id FROM failure_tally WHERE minute > $2
            GROUP BY component_id HAVING SUM(CASE WHEN minute > $1 THEN failed ELSE 0 END) >= $3 OR SUM(failed_slow) >= $4) AS t
            ON t.component_id = k.id WHERE k.down_since IS NULL ORDER BY k.id",
    );
    SUSPECT = super::Sql::same("SELECT id, key, name, created_at FROM component WHERE key = $1");
    SUSPECT_OF = super::Sql::same("SELECT id, key, name, created_at FROM component WHERE id = $1");
    DOWN = super::Sql::same(undecided!("k.down_since IS NOT NULL"));
    BACK = super::Sql::same(undecided!(
        "k.down_since IS NULL AND EXISTS (SELECT 1 FROM lane l JOIN delivery d ON d.lane_id = l.id WHERE l.class = 'action_required'
            AND l.fence_kind = 'component' AND l.fence_id = k.id AND d.state = 'queued' AND d.reason <> 'dwell'
            AND d.reason IN ('awaiting_reconnection', 'component_down') AND d.due_at <= $1)"
    ));
    COUNTS_SINCE = super::Sql::same(
        "SELECT minute, failed, failed_slow, recovered, recovered_unknown, first_at FROM failure_tally
         WHERE component_id = $1 AND minute > $2 ORDER BY minute",
    );
    ALL_COUNTS_SINCE = super::Sql::same(
        "SELECT minute, CAST(SUM(failed) AS BIGINT) AS failed, CAST(SUM(failed_slow) AS BIGINT) AS failed_slow,
            CAST(SUM(recovered) AS BIGINT) AS recovered, CAST(SUM(recovered_unknown) AS BIGINT) AS recovered_unknown,
            MIN(first_at) AS first_at
         FROM failure_tally WHERE minute > $1 GROUP BY minute ORDER BY minute",
    );
    COUNTING_SINCE = super::Sql::same("SELECT MIN(minute) FROM failure_tally");
    // What came before the component was back is no evidence of a new outage.
    QUIET_SINCE = super::Sql::same(
        "SELECT MAX(x.at) FROM (SELECT up_since AS at FROM component WHERE id = $1
            UNION ALL SELECT MAX(committed_at) FROM recovery WHERE component_id = $1 AND connection_id IS NULL
            UNION ALL SELECT MAX(ended_at) FROM surge WHERE component_id = $1 AND kind <> 'slow'
                AND occasion NOT IN ('not_back', 'unconfirmed')) AS x",
    );
    // Outages, surges and holds: the baseline must not learn them. But a surge that was given up while as many failed as ever,
    // with the outage and the hold that were its own, has shown what is normal. `$2` the first time that is of interest.
    SUSPECT_SPANS = super::Sql::same(
        "SELECT since, ended_at AS until FROM episode WHERE component_id = $1 AND released_at IS NULL
            AND (ended_at IS NULL OR ended_at >= $2)
         UNION ALL SELECT since, ended_at FROM surge WHERE (component_id = $1 OR component_id IS NULL)
            AND (ended_at IS NULL OR (ended_at >= $2 AND NOT flooding)) AND occasion NOT IN ('not_back', 'unconfirmed')
         UNION ALL SELECT since, CASE WHEN released_at < until OR until IS NULL THEN released_at ELSE until END FROM hold
            WHERE (component_id = $1 OR (component_id IS NULL AND (class IS NULL OR class = 'action_required'))) AND cause <> 'surge'
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
    BEGIN_ANEW = super::Sql::same(
        "UPDATE failure_tally SET failed = 0, failed_slow = 0, first_at = NULL WHERE component_id = $1 AND minute = $2",
    );
    FORGET_TALLIES = super::Sql::same("DELETE FROM failure_tally WHERE minute < $1");
}

/// What came in about a component within a minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Connections newly failed for good that had not failed within the short window.
    pub failed: i64,
    /// The same within the long one.
    pub failed_slow: i64,
    /// Connections that recovered, and not by their customers.
    pub recovered: i64,
    /// Of these, those of which nobody said how.
    pub recovered_unknown: i64,
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
    pub recovered_unknown: i64,
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

/// Adds what came in about components in this minute. The last thing a transaction does, in the order of the
/// components: whoever counts beside it waits for its commit and for nothing else.
///
/// # Errors
/// When the database fails.
pub async fn count(tx: &mut Tx, of: &BTreeMap<ComponentId, Tally>) -> Result<(), StoreError> {
    let this = minute(tx.now());
    let counted = of.iter().filter(|(_, t)| **t != Tally::default()).map(|(id, t)| {
        columns! {
            component_id: id.0,
            minute: this,
            failed: t.failed,
            failed_slow: t.failed_slow,
            recovered: t.recovered,
            recovered_unknown: t.recovered_unknown,
            first_at: t.first_at.map(|at| at.0),
        }
    });
    let rows: Vec<_> = counted.collect();
    if rows.is_empty() { Ok(()) } else { exec!(tx, ADD_TALLIES, json(rows)).map(drop) }
}

/// Components that are down, and of which nobody is deciding when to ask.
///
/// # Errors
/// When the database fails.
pub async fn down(tx: &mut Tx) -> Result<Vec<Suspect>, StoreError> {
    rows!(tx, Suspect, DOWN)
}

/// Components that are not known to be down, for which mails wait whose time comes by then after they were put off, and of which
/// nobody is deciding when to ask.
///
/// # Errors
/// When the database fails.
pub async fn back(tx: &mut Tx, due_by: Timestamp) -> Result<Vec<Suspect>, StoreError> {
    rows!(tx, Suspect, BACK, due_by)
}

/// Components not known to be down with at least so many failures after these minutes (short and long window).
///
/// # Errors
/// When the database fails.
pub async fn suspects(tx: &mut Tx, after: (i64, i64), least: (i64, i64)) -> Result<Vec<Suspect>, StoreError> {
    rows!(tx, Suspect, SUSPECTS, after.0, after.1, least.0, least.1)
}

/// A component, by key.
///
/// # Errors
/// When the database fails.
pub async fn suspect(tx: &mut Tx, key: &str) -> Result<Option<Suspect>, StoreError> {
    first!(tx, Suspect, SUSPECT, key)
}

/// A component, by id.
///
/// # Errors
/// When the database fails.
pub async fn suspect_of(tx: &mut Tx, id: ComponentId) -> Result<Option<Suspect>, StoreError> {
    first!(tx, Suspect, SUSPECT_OF, id)
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

/// A component's outage is over: what failed in this minute is no evidence of another, what fails in the rest of it is.
///
/// # Errors
/// When the database fails.
pub async fn begin_anew(tx: &mut Tx, of: ComponentId) -> Result<(), StoreError> {
    let this = minute(tx.now());
    exec!(tx, BEGIN_ANEW, of, this).map(drop)
}

/// The minutes from and up to which something was wrong with a component or its mail, since a time.
///
/// # Errors
/// When the database fails.
pub async fn suspect_spans(tx: &mut Tx, of: ComponentId, since: Timestamp) -> Result<Vec<(i64, i64)>, StoreError> {
    let found = rows!(tx, (Timestamp, Option<Timestamp>), SUSPECT_SPANS, of, since)?;
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
    let spans = without.iter().map(|(a, b)| columns! { a: *a, b: *b });
    first!(tx, Totals, TOTALS, of, from, until, json(spans))
        .map(|found| found.unwrap_or(Totals { failed: 0, failed_slow: 0, recovered: 0 }))
}

/// Removes the counts before a minute.
///
/// # Errors
/// When the database fails.
pub async fn forget(tx: &mut Tx, before: i64) -> Result<u64, StoreError> {
    exec!(tx, FORGET_TALLIES, before)
}
