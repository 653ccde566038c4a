//! The claim, the look and the sweep find their rows by index: on 100,000 analysed deliveries of 100,000 threads
//! in 20 lanes, as the planners choose without any switch.

use crate::on_both;
use crate::support::{self, On};
use allclear::store::open::Connections;
use allclear::store::{Clock, Sql, Store, statements};
use sqlx::{Connection, PgConnection, Row, SqliteConnection};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

on_both! {
    claim_look_and_sweep_use_their_indexes;
    audiences_are_read_by_index;
}

const COMPONENT: u32 = 1;
const SUBSCRIBER: u32 = 2;
const CONNECTION: u32 = 3;
const THREAD: u32 = 4;
const LANE: u32 = 5;
const DELIVERY: u32 = 6;
const INCIDENT: u32 = 7;
const NOTICE: u32 = 8;

/// The id of the i-th row of a table, here and in the database's own words.
fn id(table: u32, i: u32) -> Uuid {
    Uuid::from_u128(u128::from(table * 1_000_000 + i))
}

fn filled(on: On, sql: &str) -> String {
    let generator = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)";
    let made = sql.replace("{n}", generator);
    made.split('{')
        .enumerate()
        .map(|(n, piece)| {
            let Some((inside, after)) = piece.split_once('}').filter(|_| n > 0) else { return piece.to_owned() };
            let (table, i) = inside.split_once(' ').unwrap();
            let number = format!("{table}000000 + {i}");
            match on {
                On::Sqlite => format!("unhex(printf('%032x', {number})){after}"),
                On::Postgres => format!("CAST(lpad(to_hex({number}), 32, '0') AS uuid){after}"),
            }
        })
        .collect()
}

/// `{6 i}` is the id of the i-th row of table 6.
const FILL: &[&str] = &[
    "{n} INSERT INTO component (id, key, name, created_at) SELECT {1 i}, 'k' || i, 'K', 1 FROM n WHERE i <= 20",
    "{n} INSERT INTO subscriber (id, key, address, locale, zone, created_at) SELECT {2 i}, 's' || i, 'a@example.net', 'en', 'UTC', 1 FROM n WHERE i <= 1000",
    "{n} INSERT INTO connection (id, key, component_id, name, fault, episode, failed_at, created_at)
     SELECT {3 i}, 'c' || i, {1 i % 20 + 1}, 'C', 'permanent', 1, i, 1 FROM n WHERE i <= 50000",
    "{n} INSERT INTO thread (id, matter_kind, matter_id, subscriber_id, ordinal, root, subject, sender, created_at)
     SELECT {4 i}, 'connections', {1 i % 20 + 1}, {2 i % 1000 + 1}, i, 'r', 's', 'f', 1 FROM n",
    "{n} INSERT INTO lane (id, class, fence_kind, fence_id, created_at) SELECT {5 i}, 'action_required', 'component', {1 i}, 1 FROM n WHERE i <= 20",
    "{n} INSERT INTO incident (id, key, title, phase, impact, revision, started_at, updated_at, created_at)
     SELECT {7 i}, 'i' || i, 'I', 'identified', 'major', 1, 1, 1, 1 FROM n WHERE i <= 50",
    "{n} INSERT INTO notice (id, kind, class, source, received_at, observed_at, incident_id, revision, phase, payload, outcome)
     SELECT {8 i}, 'incident', 'incident_update', 's', 1, 1, {7 i % 50 + 1}, i, 'identified', '[]', 'planned' FROM n WHERE i <= 200",
    // Every second delivery tells of an incident; one in fifty went to an address of its own.
    "{n} INSERT INTO delivery (id, class, stream, lane_id, cause_id, subscriber_id, thread_id, state, due_at, reason, owner, lease_until,
        quarantine_until, maybe_mailed, message_id, context, created_at, claimed_at, decided_at, resend_of, incident_id, notice_id, address)
     SELECT {6 i}, 'action_required', 'account', {5 i % 20 + 1}, {6 i}, {2 i % 1000 + 1}, {4 i}, s.state, i, s.reason,
        CASE WHEN s.state = 'sending' THEN 'x' END, CASE WHEN s.state = 'sending' THEN i END,
        CASE WHEN s.state = 'unknown' THEN i END, s.state IN ('accepted', 'unknown'), 'm' || i, 'c', i, 1,
        CASE WHEN s.state NOT IN ('queued', 'sending') THEN 1 END, CASE WHEN i % 100 = 3 THEN {6 i - 1} END,
        CASE WHEN i % 2 = 0 THEN {7 i % 50 + 1} END, CASE WHEN i % 2 = 0 THEN {8 i % 200 + 1} END,
        CASE WHEN i % 50 = 0 THEN 'a' || i || '@example.net' END
     FROM (SELECT i, CASE WHEN i % 1000 = 7 THEN 'sending' WHEN i % 1000 = 8 THEN 'unknown' WHEN i % 10 < 5 THEN 'queued'
            WHEN i % 10 < 9 THEN 'accepted' ELSE 'withdrawn' END AS state, 'recovered' AS reason FROM n) s",
    "{n} INSERT INTO former_address (address, subscriber_id) SELECT 'a' || i || '@example.net', {2 i % 1000 + 1} FROM n WHERE i % 50 = 0",
    // The last tenth takes back the first.
    "{n} INSERT INTO delivery_item (delivery_id, subject_id, component_id, connection_id, episode, failed_at, corrects_id)
     SELECT {6 i}, {3 i % 50000 + 1}, {1 i % 20 + 1}, {3 i % 50000 + 1}, 1, i, CASE WHEN i > 90000 THEN {6 i - 90000} END FROM n",
    "{n} INSERT INTO attempt (id, delivery_id, token, owner, ended_at, outcome, guarded) SELECT {9 i}, {6 i}, 1, 'x', i, 'accepted', TRUE FROM n",
    "{n} INSERT INTO reply_word (word, created_at, delivery_id) SELECT 'w' || (i % 1000), i, {6 i} FROM n",
    // Of planning work one in a thousand is left.
    "{n} INSERT INTO plan (id, kind, matter_id, connection_id, episode, component_id, component_episode, failed_at, created_at, done_at, outcome)
     SELECT {9 i}, CASE WHEN i % 3 = 0 THEN 'failure' ELSE 'notice' END, {7 i % 50 + 1}, {3 i % 50000 + 1}, i, {1 i % 20 + 1}, 1, 1, i,
        CASE WHEN i % 1000 > 0 THEN 1 END, CASE WHEN i % 1000 > 0 THEN 'planned' END FROM n",
    "INSERT INTO archived_delivery (id, created_at, subscriber_id, notice_id, incident_id, class, state, address, document,
        archived_at)
     SELECT id, created_at, subscriber_id, notice_id, incident_id, class, state, COALESCE(address, 'a' || created_at || '@example.net'),
        '[]', 1 FROM delivery",
    "INSERT INTO archived_item (connection_id, episode, delivery_id) SELECT connection_id, episode, delivery_id FROM delivery_item",
    "ANALYZE",
];

/// 100,000 people on 50 apps in two regions; all follow one of 21 components, some a group, some everything.
const PEOPLE: &[&str] = &[
    "{n} INSERT INTO component (id, key, name, group_key, created_at) SELECT {1 i}, 'k' || i, 'K', 'g' || (i % 4), 1 FROM n WHERE i <= 21",
    "{n} INSERT INTO subscriber (id, key, address, locale, zone, created_at) SELECT {2 i}, 's' || i, 'a@example.net', 'en', 'UTC', 1 FROM n",
    "{n} INSERT INTO subscriber_attribute (subscriber_id, name, value) SELECT {2 i}, 'app', 'x' || (i % 50) FROM n",
    "{n} INSERT INTO subscriber_attribute (subscriber_id, name, value) SELECT {2 i}, 'region', CASE WHEN i % 3 = 0 THEN 'eu' ELSE 'us' END FROM n",
    "{n} INSERT INTO subscription (id, subscriber_id, component_id, created_at) SELECT {7 i}, {2 i}, {1 CASE WHEN i % 500 = 0 THEN 21 ELSE i % 20 + 1 END}, 1 FROM n",
    "{n} INSERT INTO subscription (id, subscriber_id, group_key, created_at) SELECT {8 i}, {2 i}, 'g' || (i % 4), 1 FROM n WHERE i % 7 = 0",
    "{n} INSERT INTO subscription (id, subscriber_id, created_at) SELECT {9 i}, {2 i}, 1 FROM n WHERE i % 100 = 0",
    "ANALYZE",
];

/// A parameter of a statement.
enum Value {
    Id(Uuid),
    Number(i64),
    Text(String),
    NoId,
    NoText,
}

/// The parameters of a search by one thing alone: the newest page.
fn search(by: Value) -> Vec<Value> {
    use Value::{Id, NoId, NoText, Number};
    let page = vec![by, Number(i64::MAX), Id(Uuid::max()), Number(0), Number(51)];
    page.into_iter().chain([NoId, NoText, NoText, NoId, NoId, NoId, NoText, NoText, NoText, NoText, NoText]).collect()
}

/// The parameters of a count of what was put away, undelivered.
fn archived_undelivered(incident: Value) -> Vec<Value> {
    let texts = ["failed", "action_required", "account", "recovered"].map(|text| Value::Text(text.to_owned()));
    texts.into_iter().chain([Value::Number(0), Value::Number(90_000), incident]).collect()
}

/// Ten rows as the statement's JSON parameter: it takes from them what it needs.
fn rows(table: u32) -> Value {
    Value::Text(made_up(table))
}

fn made_up(table: u32) -> String {
    let rows: Vec<_> = (1..=10)
        .map(|i| {
            let id = id(table, i * 9_000).simple().to_string();
            serde_json::json!({"id": id, "at": 1, "reason": "recovered", "token": 0, "state": "accepted", "counts": 0,
                "mailed": 1, "due_at": 1, "until": 1, "owner": "x", "lease_until": 1, "message_id": "m", "context": "{}",
                "template_set": "t", "address": "a", "cause_id": id, "subscriber_id": id, "lane_id": id, "resend_of": id, "decided_at": 1, "again": 0,
                "thread_id": id, "connection_id": id, "episode": 1, "class": "action_required", "born": 1, "since": 0, "floor": 1,
                "recovery_id": id, "delivery_id": id, "word": "w", "into_id": id, "notice_id": null, "revision": 1, "outcome": "accepted", "bytes": "\\x00", "sha256": "\\x00",
                "dictionary": "\\x00"})
        })
        .collect();
    serde_json::to_string(&rows).unwrap()
}

fn cases() -> Vec<(&'static str, Vec<Value>, Option<&'static str>)> {
    use Value::{Id, Number, Text};
    vec![
        ("LANES", vec![rows(LANE), Number(1), Text("account".into())], Some("delivery_due")),
        ("DUE", vec![Id(id(LANE, 4)), Number(90_000), Number(64), Number(1)], Some("delivery_due")),
        ("DUE_HELD", vec![Id(id(LANE, 4)), Number(90_000), Number(64), Number(1)], Some("delivery_held")),
        ("ARM", vec![rows(DELIVERY)], None),
        ("PUT_OFF", vec![rows(DELIVERY)], None),
        ("DECIDE", vec![Text(made_up(DELIVERY).replace("accepted", "withdrawn"))], None),
        ("FOLD", vec![rows(DELIVERY)], None),
        ("RENEW", vec![rows(DELIVERY)], None),
        ("HASTEN", vec![rows(DELIVERY)], None),
        ("WITHDRAW", vec![rows(DELIVERY)], None),
        (
            "WITHDRAW_UNSUBSCRIBED",
            vec![Text(r#"[{"subscriber": "s7", "at": 1}]"#.to_owned())],
            Some("delivery_by_subscriber"),
        ),
        ("UNFOLLOWED", vec![rows(DELIVERY)], None),
        ("JOIN", vec![rows(DELIVERY)], None),
        ("HASTEN_OWN_FAULTS", vec![rows(DELIVERY)], None),
        ("WITHDRAW_EMPTIED", vec![rows(DELIVERY)], None),
        ("REPLACE_CORRECTED", vec![rows(DELIVERY)], Some("delivery_waiting")),
        ("FOLD_EMPTY", vec![rows(DELIVERY)], Some("delivery_waiting")),
        ("VIEW", vec![rows(DELIVERY), Number(1)], Some("delivery_item_once")),
        ("LOOK", vec![rows(DELIVERY), Number(1)], Some("delivery_item_once")),
        ("RECORD", vec![rows(DELIVERY), rows(DELIVERY), rows(DELIVERY), rows(DELIVERY)], Some("delivery_waiting")),
        ("CLAIM_AGAIN", vec![rows(DELIVERY)], None),
        ("LOCK", vec![rows(DELIVERY)], None),
        ("LOCK_QUEUED", vec![rows(THREAD)], None),
        ("SIBLINGS", vec![rows(THREAD)], Some("delivery_by_thread")),
        (
            "OF_CONNECTIONS",
            vec![Text(made_up(CONNECTION).replace("\"episode\":1,", "\"episode\":100000,"))],
            Some("delivery_item_by_connection"),
        ),
        ("NAMED", vec![rows(DELIVERY)], Some("delivery_item_by_connection")),
        ("WAITING_MAILS", vec![rows(THREAD)], Some("delivery_waiting")),
        ("NAMED_BY_WAITING", vec![rows(DELIVERY)], Some("delivery_item_once")),
        ("MAILED_LATELY", vec![rows(SUBSCRIBER)], Some("delivery_by_subscriber")),
        (
            "OF_COMPONENT",
            vec![Id(id(COMPONENT, 4)), Number(90_000), Number(50_000), Id(Uuid::nil()), Number(50)],
            Some("delivery_item_by_failure"),
        ),
        ("WITHDRAW_STALE", vec![rows(DELIVERY)], None),
        ("CORRECTED_ALREADY", vec![rows(DELIVERY)], Some("delivery_item_correction")),
        ("QUEUED_CORRECTIONS", vec![rows(THREAD)], Some("delivery_waiting")),
        ("WAKE", vec![rows(CONNECTION), Number(1)], None),
        ("IN_FLIGHT_CONNECTION", vec![Id(id(CONNECTION, 77)), Number(1)], None),
        ("IN_FLIGHT_COVERED", vec![Id(id(COMPONENT, 4)), Number(1), Number(90_000)], Some("delivery_busy")),
        ("EXPIRED", vec![Number(90_000), Number(50)], None),
        ("LEFT_BEHIND", vec![Text("x".to_owned()), Number(50)], None),
        ("ENDED_BY", vec![rows(CONNECTION)], None),
        ("QUARANTINED", vec![Number(90_000), Number(50)], Some("delivery_quarantined")),
        ("WAKE_PAUSED", vec![Text("account".to_owned()), Number(1)], Some("delivery_stream_paused")),
        ("REFUSED_ALONE", vec![rows(DELIVERY)], Some("attempt_by_time")),
        ("REFUSALS", vec![rows(DELIVERY)], Some("attempt_by_claim")),
        ("LOSSES", vec![rows(DELIVERY)], Some("attempt_by_time")),
        ("SUPPRESSIONS", vec![Text("a@example.net".to_owned())], None),
        ("FORGET", vec![rows(DELIVERY)], None),
        ("KNOWN", vec![rows(DELIVERY)], Some("delivery_by_thread")),
        ("COPIES_SENT", vec![rows(DELIVERY)], None),
        ("PRESENT", vec![rows(DELIVERY)], None),
        ("NOT_TAKEN_BACK", vec![rows(DELIVERY)], Some("delivery_item_correction")),
        ("NEWEST_UPDATE", vec![rows(DELIVERY)], None),
        (
            "UNDELIVERED",
            vec![
                Id(id(DELIVERY, 400)),
                Id(id(DELIVERY, 90_000)),
                Text("unknown".to_owned()),
                Text("action_required".to_owned()),
                Text("account".to_owned()),
                Text("recovered".to_owned()),
                Number(0),
                Number(90_000),
                Id(id(COMPONENT, 4)),
                Number(50),
            ],
            None,
        ),
        ("COPY_ITEMS", vec![rows(DELIVERY)], None),
        ("BY_ID", search(Id(id(DELIVERY, 77))), None),
        ("BY_ADDRESS", search(Text("a500@example.net".to_owned())), Some("delivery_by_subscriber")),
        ("BY_CONNECTION", search(Id(id(CONNECTION, 77))), Some("delivery_item_by_connection")),
        ("BY_SUBSCRIBER", search(Id(id(SUBSCRIBER, 77))), Some("delivery_by_subscriber")),
        ("BY_WORD", search(Text("w77".to_owned())), Some("reply_word")),
        ("BY_NOTICE", search(Id(id(NOTICE, 77))), Some("delivery_by_notice")),
        ("BY_INCIDENT", search(Id(id(INCIDENT, 7))), Some("delivery_by_incident")),
        ("BY_STATE", search(Text("withdrawn".to_owned())), Some("delivery_not_sent")),
        ("ON_THE_WIRE", search(Text("sending".to_owned())), None),
        ("WAITING", search(Text("queued".to_owned())), Some("delivery_due")),
        ("BY_CLASS", search(Text("action_required".to_owned())), Some("delivery_by_class")),
        ("ARCHIVED_BY_ID", search(Id(id(DELIVERY, 77))), None),
        ("ARCHIVED_BY_ADDRESS", search(Text("a500@example.net".to_owned())), Some("archived_by_address")),
        ("ARCHIVED_BY_CONNECTION", search(Id(id(CONNECTION, 77))), Some("archived_item")),
        ("ARCHIVED_BY_SUBSCRIBER", search(Id(id(SUBSCRIBER, 77))), Some("archived_by_subscriber")),
        ("ARCHIVED_BY_WORD", search(Text("w77".to_owned())), Some("reply_word")),
        ("ARCHIVED_BY_NOTICE", search(Id(id(NOTICE, 77))), Some("archived_by_notice")),
        ("ARCHIVED_BY_INCIDENT", search(Id(id(INCIDENT, 7))), Some("archived_by_incident")),
        ("ARCHIVED_BY_STATE", search(Text("withdrawn".to_owned())), Some("archived_by_state")),
        ("ARCHIVED_BY_CLASS", search(Text("action_required".to_owned())), Some("archived_by_class")),
        ("NEXT matter_id", vec![], Some("plan_others")),
        ("FAILURES connection_id", vec![Id(Uuid::nil()), Number(500)], Some("plan_failures")),
        ("DOCUMENTS", vec![rows(DELIVERY)], None),
        ("OLDEST", vec![Id(id(DELIVERY, 77)), Number(200)], None),
        ("OVER", vec![rows(THREAD)], Some("delivery_by_thread")),
        ("FIRST_OF", vec![rows(THREAD), Number(32)], Some("delivery_by_thread")),
        ("LINKED", vec![rows(DELIVERY)], Some("delivery_by_original")),
        ("UNDELIVERED_IN_STATE", archived_undelivered(Value::NoId), Some("archived_by_state")),
        ("UNDELIVERED_OF_INCIDENT", archived_undelivered(Id(id(INCIDENT, 7))), Some("archived_by_incident")),
        ("REMOVED", vec![rows(DELIVERY)], None),
        ("PASS", vec![Id(id(DELIVERY, 77)), Number(500), Number(90_000)], None),
        ("FORGET_UNCOPIED", vec![rows(DELIVERY)], None),
        ("IDLE", vec![rows(THREAD)], None),
        ("RECOVERIES_OF", vec![rows(DELIVERY)], None),
        ("ASKED_AHEAD_OF", vec![rows(DELIVERY)], None),
        ("REMOVE_ATTEMPTS", vec![rows(DELIVERY)], None),
        ("REMOVE_ITEMS", vec![rows(DELIVERY)], None),
        ("REMOVE_DELIVERIES", vec![rows(DELIVERY)], None),
        ("QUEUE_UP_TO", vec![Number(5_000)], Some("delivery_due")),
        ("INCIDENT_MAILS", vec![Id(id(INCIDENT, 7))], Some("delivery_by_incident")),
        ("NOTICE_MAILS", vec![Id(id(NOTICE, 7))], Some("delivery_by_notice")),
        ("DELIVERIES_SHOWN", vec![rows(DELIVERY)], None),
        ("CORRECTIONS_OF", vec![rows(DELIVERY)], Some("delivery_item_correction")),
        ("RESENDS_OF", vec![rows(DELIVERY)], Some("delivery_by_original")),
        ("DEPTH", vec![Number(90_000), Number(80_000)], Some("delivery_due")),
        ("SET_ASIDE", vec![Text("parked".to_owned())], Some("delivery_not_sent")),
        ("IN_QUARANTINE", vec![], Some("delivery_quarantined")),
        ("ON_THE_WIRE_NOW", vec![], Some("delivery_leased delivery_busy")),
        ("PLANNED_LATELY", vec![Text("correction".to_owned()), Number(1), Number(10_000)], Some("delivery_by_class")),
        ("FIRST_DUE_FOR", vec![Id(id(COMPONENT, 4))], Some("delivery_due")),
        ("OLDEST_PUT_OFF", vec![Id(id(COMPONENT, 4)), Number(100)], Some("delivery_held")),
        ("OLDEST_NOT_BACK", vec![Id(id(COMPONENT, 4)), Number(100)], Some("delivery_due delivery_held")),
        ("ASKED_AHEAD", vec![Id(id(NOTICE, 1))], Some("delivery_canary")),
        ("RIPE", vec![Id(id(COMPONENT, 4)), Number(1), Number(1)], Some("delivery_due")),
        ("WAITING_OF", vec![Id(id(COMPONENT, 4)), Number(1), Number(9), Number(1)], Some("delivery_due")),
        (
            "SEND_AHEAD",
            vec![Id(id(COMPONENT, 4)), Id(id(LANE, 5)), Id(id(NOTICE, 1)), Number(1), Number(20), Number(1), Number(9)],
            Some("delivery_due"),
        ),
        ("CANARIES", vec![Id(id(NOTICE, 1)), Number(1)], Some("delivery_canary")),
        ("GIVE_TEXT", vec![rows(CONNECTION)], Some("delivery_item_by_connection")),
        ("LEAVES_OF", vec![Id(id(COMPONENT, 4)), Number(1), Number(1), Number(1)], Some("delivery_due")),
        (
            "SEND_AHEAD_HELD",
            vec![
                Id(id(COMPONENT, 4)),
                Id(id(LANE, 5)),
                Id(id(NOTICE, 1)),
                Number(1),
                Number(20),
                Number(1),
                Number(9),
                Number(1),
            ],
            Some("delivery_held delivery_due"),
        ),
        ("HASTEN_HELD", vec![Id(id(COMPONENT, 4)), Number(90_000)], None),
        ("HASTEN_BACK", vec![Id(id(COMPONENT, 4)), Number(90_000), Number(300)], Some("delivery_due delivery_held")),
        ("BROKEN_SINCE", vec![Id(id(COMPONENT, 4)), Number(49_000)], Some("connection_open")),
        ("PATIENCE_ENDED", vec![Number(90_000), Number(50)], Some("connection_recoverable")),
        ("HANDED_OVER_LATELY", vec![Number(99_000), Number(10_000)], Some("attempt_by_time")),
    ]
}

/// People ask for the depth of the queue, which all of it is; the others are not made for rows that were made up.
const NOT_IN_A_FLOOD: &[&str] = &["DEPTH", "COPY_ITEMS", "SEND_AHEAD"];

macro_rules! explain {
    ($conn:expr, $sql:expr, $values:expr, $column:expr) => {{
        let mut query = sqlx::query(sqlx::AssertSqlSafe($sql));
        for value in $values {
            query = match value {
                Value::Id(id) => query.bind(id),
                Value::Number(number) => query.bind(number),
                Value::Text(text) => query.bind(text),
                Value::NoId => query.bind(None::<Uuid>),
                Value::NoText => query.bind(None::<String>),
            };
        }
        let lines = query.fetch_all($conn).await.unwrap();
        lines.iter().map(|line| line.get::<String, _>($column)).collect::<Vec<_>>()
    }};
}

async fn claim_look_and_sweep_use_their_indexes(on: On) {
    let (_store, _folder, url) = support::store(on, Clock::Database).await;
    let mut wrong = Vec::new();
    for (name, values, index) in cases() {
        let fill = if name == "LANES" { FILL } else { &[] };
        let plan = plan(on, &url, name, values, fill).await;
        let whole = match on {
            On::Sqlite => reads_all(&plan),
            On::Postgres => plan.iter().any(|line| line.contains("Seq Scan on delivery")),
        };
        // Of two small partial indexes that serve alike, statistics choose.
        let one_of = |indexes: &str| indexes.split(' ').any(|index| plan.iter().any(|line| line.contains(index)));
        if whole || index.is_some_and(|index| !one_of(index)) {
            wrong.push(format!("{name}:\n{}", plan.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// A flood comes faster than PostgreSQL's statistics of it: planners know of no mail that waits or is on the wire, and of
/// no failure to plan, where there are ten thousands.
#[tokio::test]
async fn a_page_costs_a_page_where_statistics_are_old() {
    let (_store, _folder, url) = support::store(On::Postgres, Clock::Database).await;
    let mut conn = PgConnection::connect(&url).await.unwrap();
    let made = FILL.iter().map(|sql| filled(On::Postgres, sql));
    let flood = [
        "ALTER TABLE plan SET (autovacuum_enabled = off)",
        "ALTER TABLE delivery SET (autovacuum_enabled = off)",
        "CREATE TEMPORARY TABLE waiting AS SELECT id FROM delivery WHERE state = 'queued'",
        "UPDATE delivery SET state = 'accepted', maybe_mailed = TRUE, owner = NULL, lease_until = NULL, quarantine_until = NULL, decided_at = 1",
        "VACUUM ANALYZE plan, delivery",
        "UPDATE plan SET done_at = NULL, outcome = NULL WHERE kind = 'failure'",
        "UPDATE delivery SET state = 'sending', owner = 'x', lease_until = 1, decided_at = NULL, reason = NULL
         WHERE id IN (SELECT id FROM delivery WHERE id NOT IN (SELECT id FROM waiting) ORDER BY id LIMIT 2000)",
        "UPDATE delivery SET state = 'queued', reason = 'dwell', maybe_mailed = FALSE, decided_at = NULL WHERE id IN (SELECT id FROM waiting)",
    ];
    for sql in made.chain(flood.map(str::to_owned)) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut conn).await.unwrap();
    }
    let wrong = reading_more_than(5_001, NOT_IN_A_FLOOD, &mut conn).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Whoever breaks again and again has a history, and it is not read anew with each mail: ten threads of 5,000 mails that
/// are over, about five connections with 20,000 outages each.
#[tokio::test]
async fn what_went_before_costs_nothing() {
    let (_store, _folder, url) = support::store(On::Postgres, Clock::Database).await;
    let mut conn = PgConnection::connect(&url).await.unwrap();
    let history = [
        "UPDATE delivery SET thread_id = {4 (created_at % 10 + 1) * 9000} WHERE state IN ('accepted', 'withdrawn')",
        "UPDATE delivery_item SET connection_id = {3 (failed_at % 5 + 1) * 9000}, subject_id = {3 (failed_at % 5 + 1) * 9000},
            episode = failed_at",
        "INSERT INTO recovery (id, component_id, connection_id, episode, recovered_by, committed_at, swept_at)
         SELECT {2 failed_at}, component_id, connection_id, episode, 'automatic', 1, 1 FROM delivery_item WHERE failed_at <= 99900",
        "VACUUM ANALYZE delivery, delivery_item, recovery",
    ];
    for sql in FILL.iter().chain(&history).map(|sql| filled(On::Postgres, sql)) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut conn).await.unwrap();
    }
    // An incident's thread is not one of thousands; the archive asks of a whole thread whether it is over, and of what it
    // consists.
    let but: Vec<_> = NOT_IN_A_FLOOD.iter().copied().chain(["SIBLINGS", "OVER", "FIRST_OF"]).collect();
    let wrong = reading_more_than(5_001, &but, &mut conn).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// The cases that read more rows than that on PostgreSQL, or throw away more of the queue, each with its plan.
async fn reading_more_than(most: usize, but: &[&str], conn: &mut PgConnection) -> Vec<String> {
    let mut wrong = Vec::new();
    for (case, values, _) in cases().into_iter().filter(|(case, ..)| !but.contains(case)) {
        let sql = statement(case).postgres;
        let mut tx = conn.begin().await.unwrap();
        let plan = explain!(&mut *tx, format!("EXPLAIN (ANALYZE, TIMING OFF) {sql}"), values, 0);
        tx.rollback().await.unwrap();
        let number = |line: &str, before: &str| {
            let digits = line.split_once(before)?.1.split(|c: char| !c.is_ascii_digit()).next()?;
            digits.parse::<usize>().ok()
        };
        // Of each node and of what it compares.
        let cost = |line: &String| {
            let did = line.split_once("(actual ").map(|(_, did)| did);
            let found = did.and_then(|did| Some(number(did, "rows=")? * number(did, "loops=")?));
            found.into_iter().chain(number(line, "Rows Removed by Join Filter: ")).max()
        };
        // And of what it reads of the queue and throws away.
        let of_queue =
            |line: &str| ["delivery_due", "delivery_waiting", "delivery_held"].iter().any(|i| line.contains(i));
        let scans: Vec<_> =
            plan.iter().map(String::as_str).filter(|l| l.contains("Scan") || l.contains("Removed by")).collect();
        let thrown = scans
            .windows(2)
            .filter(|pair| of_queue(pair[0]))
            .filter_map(|pair| number(pair[1], "Rows Removed by Filter: "));
        let read = plan.iter().filter_map(cost).chain(thrown).max().unwrap();
        if read > most {
            wrong.push(format!("{case} reads {read} rows:\n{}", plan.join("\n")));
        }
    }
    wrong
}

/// An ANALYZE of an empty database must not let its tables be read as a whole once they are full.
#[tokio::test]
async fn statistics_of_empty_tables_are_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("a.db").display());
    let open = async || Store::open(&url, Connections::default(), Clock::Database).await.unwrap();
    open().await;
    let mut conn = SqliteConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("ANALYZE").execute(&mut conn).await.unwrap();
    const EMPTY: &str = "SELECT COUNT(*) FROM sqlite_stat1 WHERE stat LIKE '0%'";
    assert_ne!(sqlx::query_scalar::<_, i64>(EMPTY).fetch_one(&mut conn).await.unwrap(), 0);
    open().await;
    assert_eq!(sqlx::query_scalar::<_, i64>(EMPTY).fetch_one(&mut conn).await.unwrap(), 0);
}

/// Cursor and length of a page, and the filter `app: x7, region: eu` with `app` leading.
fn page_of(filtered: bool) -> Vec<Value> {
    let page = vec![Value::Id(id(2, 40_000)), Value::Number(500)];
    let pairs = r#"[{"name":"app","value":"x7"},{"name":"region","value":"eu"}]"#;
    let text = |text: &str| Value::Text(text.to_owned());
    let filter = vec![text("app"), text("x7"), text(pairs), Value::Number(2)];
    page.into_iter().chain(filter.into_iter().filter(|_| filtered)).collect()
}

async fn audiences_are_read_by_index(on: On) {
    use Value::{Id, Number, Text};
    let (_store, _folder, url) = support::store(on, Clock::Database).await;
    let with = |filtered: bool, of: Value| page_of(filtered).into_iter().chain([of]).collect::<Vec<_>>();
    let pairs = r#"[{"name":"app","value":"x7"},{"name":"region","value":"eu"}]"#;
    let by_value = Some("subscriber_attribute_by_value");
    let mut wrong = Vec::new();
    for (position, (name, values, index)) in [
        ("FOLLOWERS_OF_COMPONENT", with(false, Id(id(COMPONENT, 21))), Some("subscription_of_component")),
        ("FOLLOWERS_OF_GROUP", with(false, Text("g1".to_owned())), Some("subscription_of_group")),
        ("FOLLOWERS_OF_EVERYTHING", page_of(false), Some("subscription_of_everything")),
        ("EVERYONE", page_of(false), None),
        ("MATCHING_OF_COMPONENT", with(true, Id(id(COMPONENT, 4))), by_value),
        ("MATCHING_OF_GROUP", with(true, Text("g1".to_owned())), by_value),
        ("MATCHING_OF_EVERYTHING", page_of(true), None),
        ("MATCHING_RECIPIENTS", with(true, Id(id(COMPONENT, 4))), None),
        ("MATCHING_EVERYONE", page_of(true), by_value),
        ("MATCHING_AMONG", vec![rows(2), Text(pairs.to_owned()), Number(2)], None),
        ("NAMES_HELD", vec![Text(pairs.to_owned())], by_value),
        ("FOLLOWED", vec![rows(2)], Some("subscription_by_subscriber")),
    ]
    .into_iter()
    .enumerate()
    {
        let plan = plan(on, &url, name, values, if position == 0 { PEOPLE } else { &[] }).await;
        let whole = plan.iter().any(|line| match on {
            On::Sqlite => {
                line.starts_with("SCAN ") && !line.starts_with("SCAN json_each") && !line.starts_with("SCAN jsonb_each")
            }
            On::Postgres => line.contains("Seq Scan on subscri"),
        });
        if whole || index.is_some_and(|index| !plan.iter().any(|line| line.contains(index))) {
            wrong.push(format!("{name}:\n{}", plan.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// The statement of a case. Where two files use a name, a word of the text tells them apart.
fn statement(case: &str) -> Sql {
    let (name, word) = case.split_once(' ').unwrap_or((case, ""));
    let mut named = statements().into_iter().filter(|sql| sql.name == name && sql.sqlite.contains(word));
    let first = named.next().unwrap();
    assert!(named.next().is_none(), "{name}");
    first
}

async fn plan(on: On, url: &str, case: &str, values: Vec<Value>, fill: &[&str]) -> Vec<String> {
    let statement = statement(case);
    match on {
        On::Sqlite => {
            let mut conn = SqliteConnection::connect(url).await.unwrap();
            for sql in fill {
                sqlx::raw_sql(sqlx::AssertSqlSafe(filled(on, sql))).execute(&mut conn).await.unwrap();
            }
            let each = statement.sqlite.replace("; ", "; EXPLAIN QUERY PLAN ");
            explain!(&mut conn, format!("EXPLAIN QUERY PLAN {each}"), values, "detail")
        }
        On::Postgres => {
            let mut conn = PgConnection::connect(url).await.unwrap();
            for sql in fill {
                sqlx::raw_sql(sqlx::AssertSqlSafe(filled(on, sql))).execute(&mut conn).await.unwrap();
            }
            explain!(&mut conn, format!("EXPLAIN {}", statement.postgres), values, 0)
        }
    }
}

/// What is read as a whole and is none of a table that grows: the parameter, the lanes, what is under way, and what waits
/// where that is asked for.
const SMALL: &[&str] = &[
    "json_each",
    "jsonb_each",
    "j VIRTUAL TABLE",
    "CONSTANT ROW",
    "l",
    "lane",
    "delivery USING INDEX delivery_leased",
    "delivery USING COVERING INDEX delivery_leased",
    "delivery USING COVERING INDEX delivery_quarantined",
    "delivery USING COVERING INDEX delivery_due",
    "d USING INDEX delivery_leased",
    "d USING INDEX delivery_busy",
    "delivery USING INDEX delivery_due",
    "h USING INDEX hold_in_force",
    "p USING INDEX plan_others",
    "plan USING INDEX plan_others",
    "plan USING INDEX plan_failures",
    "recovery USING INDEX recovery_unswept",
    "alert USING INDEX alert_due",
    "stream_pause USING INDEX stream_pause_open",
    "incident USING INDEX incident_open",
    "incident USING COVERING INDEX incident_open",
];

/// Whether SQLite's plan reads all of a table that grows.
fn reads_all(plan: &[String]) -> bool {
    let begins =
        |of: &str, with: &str| of.strip_prefix(with).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
    // What a subquery has found.
    let found = |of: &str| {
        let made =
            plan.iter().filter_map(|line| line.split_once(' ').filter(|l| matches!(l.0, "CO-ROUTINE" | "MATERIALIZE")));
        of.starts_with("(subquery") || made.map(|line| line.1).any(|name| begins(of, name))
    };
    let mut scanned = plan.iter().filter_map(|line| line.strip_prefix("SCAN "));
    scanned.any(|of| !found(of) && !SMALL.iter().any(|small| begins(of, small)))
}

/// Statements that read a whole table, or an index of all its rows, and may.
const READ_ALL: &[(&str, &[&str])] = &[
    (
        "the audit",
        &[
            "PLAN_LEFT",
            "QUEUED_TOO_LONG",
            "SIGNAL_UNPLANNED",
            "NOTICE_UNPLANNED",
            "PLANNED_NOBODY",
            "STALE_SENDING",
            "COPIES",
            "UNCORRECTED",
            "CORRECTED_NEVER_MAILED",
            "NEITHER_ASKED_NOR_LISTED",
            "LAST_ASKS_THE_WELL",
            "LAST_CALMS_THE_BROKEN",
            "END_NOT_TOLD",
        ],
    ),
    (
        "what refers to a new row, only while a foreign key is broken",
        &["IMPORT_COMPONENTS", "IMPORT_SUBSCRIBERS", "PUT_SUBSCRIBER", "ADD_SIGNALS"],
    ),
    ("lists and counts of all, for people", &["COUNTS", "KEYS"]),
    ("once a surge", &["ALL_CONNECTIONS", "CONNECTIONS_OF"]),
    (
        "tables that stay small",
        &[
            "OLD_DICTIONARIES",
            "OLD_SETS",
            "OPENED_BY",
            "OPEN_SURGES",
            "SUSPECTS",
            "SUSPECT_SPANS",
            "UNREACHED_RELAYS",
            "FORGET_REACHED",
            "DOWN",
            "BACK",
            "HAS_MIGRATIONS",
            "FOREIGN_TABLE",
            "APPLIED",
            "INDEXES",
        ],
    ),
    ("the first of an order", &["NEWEST_LINE", "NEWEST_OF_ALL"]),
];

/// The cases above were chosen by hand, and one was forgotten that read all of a million items.
#[tokio::test]
async fn whoever_reads_a_whole_table_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("a.db").display());
    let _store = Store::open(&url, Connections::default(), Clock::Database).await.unwrap();
    let mut conn = SqliteConnection::connect(&url).await.unwrap();
    let mut found = BTreeMap::new();
    for sql in statements() {
        let parts = if sql.name == "RECORD" { sql.sqlite.split("; ").collect() } else { vec![sql.sqlite] };
        for part in parts {
            let explained =
                sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {part}"))).fetch_all(&mut conn).await;
            let plan: Vec<String> = explained.unwrap().iter().map(|row| row.get("detail")).collect();
            if reads_all(&plan) {
                found.insert(sql.name, plan);
            }
        }
    }
    let known: BTreeSet<_> = READ_ALL.iter().flat_map(|(_, names)| *names).copied().collect();
    let unknown: Vec<_> = found.iter().filter(|(name, _)| !known.contains(*name)).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
    let no_more: Vec<_> = known.iter().filter(|name| !found.contains_key(*name)).collect();
    assert!(no_more.is_empty(), "these read no whole table: {no_more:?}");
}
