//! The statements of the audit. Each returns the id of what is wrong, and how.

use crate::store::Sql;

/// What a statement is given, after the most rows it may return.
pub(super) enum Given {
    /// No more.
    Nothing,
    /// `$2`: what should have been done by then is late.
    Late,
    /// `$1`: for each class the time of its oldest mail allowed (then `$2` is the most rows).
    OldestByClass,
}

/// One check.
pub(super) struct Check {
    /// The name of the promise.
    pub name: &'static str,
    /// The prefix of the subject's id.
    pub subject: &'static str,
    /// The statement.
    pub sql: Sql,
    /// What it is given.
    pub given: Given,
}

const fn check(name: &'static str, subject: &'static str, sql: Sql, given: Given) -> Check {
    Check { name, subject, sql, given }
}

/// Every check, in the order of a mail's life.
pub(super) const LIST: &[Check] = &[
    check("undecided", "pln", PLAN_LEFT, Given::Late),
    check("undecided", "dlv", QUEUED_TOO_LONG, Given::OldestByClass),
    check("undecided", "sig", SIGNAL_UNPLANNED, Given::Nothing),
    check("undecided", "ntc", NOTICE_UNPLANNED, Given::Nothing),
    check("undecided", "pln", PLANNED_NOBODY, Given::Nothing),
    check("stale_sending", "dlv", STALE_SENDING, Given::Late),
    check("copies", "dlv", COPIES, Given::Nothing),
    check("uncorrected", "dlv", UNCORRECTED, Given::Nothing),
    check("corrected_never_mailed", "dlv", CORRECTED_NEVER_MAILED, Given::Nothing),
    check("unconfirmed", "rec", UNCONFIRMED, Given::Late),
    check("unconfirmed", "rec", NEITHER_ASKED_NOR_LISTED, Given::Nothing),
    check("last_mail", "dlv", LAST_ASKS_THE_WELL, Given::Nothing),
    check("last_mail", "dlv", LAST_CALMS_THE_BROKEN, Given::Nothing),
    check("last_mail", "thr", END_NOT_TOLD, Given::Nothing),
];

/// `stale`: every connection that a mail asked about, or may have, and that healed other than by the customer's
/// own hand. A correction is owed for each, as soon as the recoveries of its component are swept.
/// Of several recoveries the first that reached the outage ended it; a covering recovery counts only if its sweep was
/// over before the customer reconnected by hand, and not for a fault proven to be the connection's own. The sweep
/// leaves alone what it finds ended by hand; a minute, for its time is when its transaction began.
macro_rules! with_stale {
    ($($rest:expr),+) => {
        crate::store::Sql::same(concat!(
            "WITH covering AS MATERIALIZED (
                SELECT component_id, covers_from, covers_until, swept_at FROM recovery
                WHERE covers_from IS NOT NULL AND connection_id IS NULL
            ), unswept AS MATERIALIZED (
                SELECT DISTINCT component_id FROM recovery WHERE swept_at IS NULL
            ), asked AS (
                SELECT d.id, d.subscriber_id, d.thread_id, i.subject_id, i.connection_id, i.component_id, i.episode, i.failed_at,
                    MIN(r.episode) AS ended_by
                FROM delivery d JOIN delivery_item i ON i.delivery_id = d.id
                LEFT JOIN recovery r ON r.connection_id = i.connection_id AND r.episode >= i.episode
                WHERE d.class = 'action_required' AND d.maybe_mailed AND i.connection_id IS NOT NULL
                    AND i.corrects_id IS NULL AND i.dropped IS NULL
                GROUP BY d.id, d.subscriber_id, d.thread_id, i.subject_id, i.connection_id, i.component_id, i.episode, i.failed_at
            ), stale AS (
                SELECT a.*, c.key FROM asked a JOIN connection c ON c.id = a.connection_id
                LEFT JOIN recovery own ON own.connection_id = a.connection_id AND own.episode = a.ended_by
                WHERE a.component_id NOT IN (SELECT component_id FROM unswept) AND (
                    (c.cleared >= a.episode AND COALESCE(own.recovered_by, c.cleared_by, 'unknown') <> 'customer')
                    OR (c.own_fault_episode < a.episode AND EXISTS (
                        SELECT 1 FROM covering v WHERE v.component_id = a.component_id
                        AND a.failed_at BETWEEN v.covers_from AND v.covers_until
                        AND (own.id IS NULL OR v.swept_at < own.committed_at - 60000000))))
            ) ",
            $($rest),+
        ))
    };
}

/// `last`: of each thread about connections in which nothing is under way, the last mail naming each connection.
macro_rules! last_mails {
    () => {
        "last AS (
            SELECT * FROM (
                SELECT d.id, d.class, d.subscriber_id, i.connection_id, i.component_id, i.episode,
                    ROW_NUMBER() OVER (PARTITION BY d.thread_id, i.connection_id
                        ORDER BY COALESCE(d.claimed_at, d.created_at) DESC, d.id DESC, i.episode DESC) AS place
                FROM thread t JOIN delivery d ON d.thread_id = t.id JOIN delivery_item i ON i.delivery_id = d.id
                WHERE t.matter_kind = 'connections' AND d.maybe_mailed AND i.connection_id IS NOT NULL AND i.dropped IS NULL
                    AND NOT EXISTS (SELECT 1 FROM delivery q WHERE q.thread_id = t.id
                        AND (q.state IN ('queued', 'sending') OR q.quarantine_until IS NOT NULL))
            ) AS mails WHERE place = 1
        ) "
    };
}

statements! {
    PLAN_LEFT = crate::store::Sql::same(
        "SELECT id, 'planning work of kind ' || kind || ' is not done' FROM plan
         WHERE done_at IS NULL AND created_at < $2 ORDER BY id LIMIT $1",
    );
    QUEUED_TOO_LONG = over_rows!(
        "SELECT d.id, d.class || ' is queued for longer than its class allows, without a reason' FROM", [class text, oldest bigint],
        "JOIN delivery d ON d.class = j.class WHERE d.state = 'queued' AND d.reason IS NULL AND d.created_at < j.oldest
         ORDER BY d.id LIMIT $2"
    );
    SIGNAL_UNPLANNED = crate::store::Sql::same(
        "SELECT s.id, s.what || ' of connection ' || c.key || ' was accepted as ' || s.outcome || ' and left no planning work'
         FROM signal s JOIN connection c ON c.id = s.connection_id
         WHERE s.what IN ('failed', 'recovery_failed') AND s.outcome IN ('waiting', 'planned')
            AND NOT EXISTS (SELECT 1 FROM plan p WHERE p.connection_id = s.connection_id AND p.signal_id = s.id)
         ORDER BY s.id LIMIT $1",
    );
    // An action-required notice is planned with the failures it reports. Joined, not EXISTS: plan has no index
    // by notice, and a join can be hashed.
    NOTICE_UNPLANNED = crate::store::Sql::same(
        "SELECT n.id, 'a notice of kind ' || n.kind || ' was accepted as planned and left no planning work'
         FROM notice n LEFT JOIN plan p ON p.notice_id = n.id
         WHERE n.outcome = 'planned' AND n.kind <> 'action_required' AND p.id IS NULL ORDER BY n.id LIMIT $1",
    );
    PLANNED_NOBODY = crate::store::Sql::same(
        "SELECT p.id, 'planning work of kind ' || p.kind || ' ended as planned, and no delivery tells of it'
         FROM plan p LEFT JOIN (SELECT notice_id FROM delivery WHERE notice_id IS NOT NULL
            UNION SELECT notice_id FROM archived_delivery WHERE notice_id IS NOT NULL) n ON n.notice_id = p.notice_id
         WHERE p.outcome = 'planned' AND CASE p.kind
            WHEN 'notice' THEN n.notice_id IS NULL
            WHEN 'failure' THEN NOT EXISTS (SELECT 1 FROM delivery_item i
                WHERE i.connection_id = p.connection_id AND i.episode = p.episode AND i.corrects_id IS NULL)
                AND NOT EXISTS (SELECT 1 FROM archived_item a WHERE a.connection_id = p.connection_id AND a.episode = p.episode)
            ELSE NOT EXISTS (SELECT 1 FROM delivery d JOIN delivery_item i ON i.delivery_id = d.id
                WHERE d.class = 'all_clear' AND i.component_id = p.component_id AND d.created_at >= p.created_at)
                AND NOT EXISTS (SELECT 1 FROM archived_delivery a WHERE lower(a.class) = 'all_clear' AND a.created_at >= p.created_at) END
         ORDER BY p.id LIMIT $1",
    );
    STALE_SENDING = crate::store::Sql::same(
        "SELECT id, 'is still being sent by ' || owner || ', and its lease is over' FROM delivery
         WHERE state = 'sending' AND lease_until < $2 ORDER BY id LIMIT $1",
    );
    COPIES = crate::store::Sql::same(
        "SELECT d.id, 'accepted by the relay ' || CAST(a.accepted AS TEXT) || ' times, with ' || CAST(a.unknown + d.reaps AS TEXT)
            || ' unknown outcomes'
         FROM (SELECT delivery_id, SUM(CASE outcome WHEN 'accepted' THEN 1 ELSE 0 END) AS accepted,
                SUM(CASE outcome WHEN 'unknown' THEN 1 ELSE 0 END) AS unknown FROM attempt GROUP BY delivery_id) a
         JOIN delivery d ON d.id = a.delivery_id
         WHERE a.accepted > 1 + a.unknown + d.reaps ORDER BY d.id LIMIT $1",
    );
    UNCORRECTED = with_stale!(
        "SELECT s.id, 'asked about connection ' || s.key || ', which healed without the customer, and there is no correction'
         FROM stale s WHERE NOT EXISTS (SELECT 1 FROM delivery_item k
            WHERE k.corrects_id = s.id AND k.subject_id = s.subject_id AND k.connection_id = s.connection_id)
         ORDER BY s.id LIMIT $1"
    );
    CORRECTED_NEVER_MAILED = crate::store::Sql::same(
        "SELECT k.id, 'takes back a mail about connection ' || c.key || ' that never left'
         FROM delivery k JOIN delivery_item i ON i.delivery_id = k.id JOIN delivery o ON o.id = i.corrects_id
         JOIN connection c ON c.id = i.connection_id
         WHERE k.class = 'correction' AND k.state IN ('accepted', 'unknown') AND i.dropped IS NULL AND NOT o.maybe_mailed
         ORDER BY k.id LIMIT $1",
    );
    UNCONFIRMED = crate::store::Sql::same(
        "SELECT r.id, 'the time to confirm the recovery of ' || c.key || ' is over, and nobody looked who had not'
         FROM recovery r JOIN component c ON c.id = r.component_id
         WHERE r.connection_id IS NULL AND r.covers_from IS NOT NULL AND r.confirmed_at IS NULL AND r.confirm_by < $2
         ORDER BY r.id LIMIT $1",
    );
    NEITHER_ASKED_NOR_LISTED = crate::store::Sql::same(
        "SELECT r.id, CAST(COUNT(*) AS TEXT) || ' connections did not confirm and are not asked about; listed are '
            || CAST(COALESCE(r.unconfirmed, 0) AS TEXT)
         FROM recovery r JOIN connection c ON c.component_id = r.component_id
            AND c.failed_at BETWEEN r.covers_from AND r.covers_until
         WHERE r.connection_id IS NULL AND r.confirmed_at IS NOT NULL AND c.cleared < c.episode AND c.own_fault_episode < c.episode
         GROUP BY r.id, r.unconfirmed HAVING COUNT(*) > COALESCE(r.unconfirmed, 0) ORDER BY r.id LIMIT $1",
    );
    // A correction that a person or the relay must decide about has said so in its state: that is no silence.
    LAST_ASKS_THE_WELL = with_stale!(
        ", ",
        last_mails!(),
        "SELECT l.id, 'is the last mail about connection ' || s.key || ' and asks for what is no longer needed'
         FROM last l JOIN stale s ON s.id = l.id AND s.connection_id = l.connection_id
         WHERE l.class = 'action_required' AND NOT EXISTS (SELECT 1 FROM delivery_item k JOIN delivery d ON d.id = k.delivery_id
            WHERE k.corrects_id = s.id AND k.connection_id = s.connection_id AND d.state IN ('suppressed', 'failed', 'parked'))
         ORDER BY l.id LIMIT $1"
    );
    // Nothing is owed for a fault that heals by itself, for one being planned, for one told in another thread of
    // the same subscriber (or that a person must decide about), and to somebody who is no longer told about it.
    LAST_CALMS_THE_BROKEN = crate::store::Sql::same(concat!(
        "WITH ", last_mails!(),
        "SELECT l.id, 'is the last mail about connection ' || c.key || ' and says all is well, and it is broken'
         FROM last l JOIN connection c ON c.id = l.connection_id
         WHERE l.class = 'correction' AND c.cleared < c.episode AND c.fault = 'permanent'
            AND (c.own_fault_episode >= c.episode OR NOT EXISTS (SELECT 1 FROM episode e WHERE e.component_id = c.component_id
                AND e.covers_connections AND c.failed_at BETWEEN e.covers_from AND e.covers_until))
            AND NOT EXISTS (SELECT 1 FROM plan p WHERE p.connection_id = c.id AND p.done_at IS NULL)
            AND EXISTS (SELECT 1 FROM connection_subscriber s WHERE s.connection_id = c.id AND s.subscriber_id = l.subscriber_id)
            AND NOT EXISTS (SELECT 1 FROM delivery_item i JOIN delivery d ON d.id = i.delivery_id
                WHERE i.connection_id = c.id AND i.episode = c.episode AND i.dropped IS NULL AND i.corrects_id IS NULL
                AND d.subscriber_id = l.subscriber_id AND d.state NOT IN ('withdrawn', 'cancelled'))
         ORDER BY l.id LIMIT $1"
    ));
    END_NOT_TOLD = crate::store::Sql::same(
        "SELECT t.id, 'was told of incident ' || n.key || ' and not of its end' FROM thread t JOIN incident n ON n.id = t.matter_id
         WHERE t.matter_kind = 'incident' AND t.told_at IS NOT NULL AND t.ended_at IS NULL AND n.resolved_at IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM plan p WHERE p.matter_id = n.id AND p.done_at IS NULL)
            AND NOT EXISTS (SELECT 1 FROM delivery q WHERE q.thread_id = t.id
                AND (q.state IN ('queued', 'sending') OR q.quarantine_until IS NOT NULL
                    OR (q.class = 'incident_end' AND q.state IN ('suppressed', 'failed', 'parked', 'unknown'))))
            AND NOT EXISTS (SELECT 1 FROM archived_delivery a WHERE a.subscriber_id = t.subscriber_id AND a.incident_id = n.id
                AND lower(a.class) = 'incident_end' AND a.state IN ('suppressed', 'failed', 'parked', 'unknown'))
         ORDER BY t.id LIMIT $1",
    );
}
