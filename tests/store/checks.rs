//! The schema refuses what the types cannot say: no hand-made update stores it either.

use crate::on_both;
use crate::support::{On, World};
use sqlx::{Connection, PgConnection, SqliteConnection};

on_both! {
    rows_that_contradict_themselves_are_refused;
    a_thread_has_one_mail_on_the_wire_and_a_mail_one_correction_for_each_connection;
}

async fn world(on: On) -> World {
    let mut w = World::new(on, "2025-06-02T08:00:00Z").await;
    w.component("outlook", "Outlook").await;
    w.subscriber("ann").await;
    w.connection("ann-1", "outlook", "ann").await;
    w.connection("ann-2", "outlook", "ann").await;
    w.broken("ann-1").await;
    w.pass(5).await;
    w.recovered("ann-1", "automatic").await;
    w.pass(1).await;
    w.broken("ann-2").await;
    w.pass(1).await;
    assert_eq!(
        w.deliveries().await,
        ["action_required accepted", "correction accepted", "action_required queued dwell"]
    );
    w
}

/// What the database says to a statement: `check`, `unique`, another error, or that it was taken.
async fn said(w: &World, sql: &'static str) -> String {
    let result = if w.url.starts_with("sqlite") {
        let mut conn = SqliteConnection::connect(&w.url).await.unwrap();
        sqlx::query(sql).execute(&mut conn).await.map(|done| done.rows_affected())
    } else {
        let mut conn = PgConnection::connect(&w.url).await.unwrap();
        sqlx::query(sql).execute(&mut conn).await.map(|done| done.rows_affected())
    };
    match result {
        Ok(rows) => format!("taken, {rows} rows"),
        Err(e) if e.as_database_error().is_some_and(|e| e.is_check_violation()) => "check".to_owned(),
        Err(e) if e.as_database_error().is_some_and(|e| e.is_unique_violation()) => "unique".to_owned(),
        Err(e) => e.to_string(),
    }
}

async fn rows_that_contradict_themselves_are_refused(on: On) {
    let w = world(on).await;
    for bad in [
        "UPDATE delivery SET state = 'sent' WHERE state = 'queued'",
        "UPDATE delivery SET state = 'sending' WHERE state = 'queued'",
        "UPDATE delivery SET state = 'accepted', decided_at = 1 WHERE state = 'queued'",
        "UPDATE delivery SET state = 'withdrawn', decided_at = 1, reason = NULL WHERE state = 'queued'",
        "UPDATE delivery SET state = 'withdrawn', reason = 'recovered' WHERE state = 'queued'",
        "UPDATE delivery SET state = 'folded', decided_at = 1, reason = 'replaced_by_newer' WHERE state = 'queued'",
        "UPDATE delivery SET quarantine_until = 1 WHERE state = 'queued'",
        "UPDATE delivery SET maybe_mailed = FALSE WHERE state = 'accepted'",
        "UPDATE delivery_item SET failed_at = NULL",
        "UPDATE connection SET cleared = episode + 1",
        "UPDATE connection SET failed_at = NULL",
        "UPDATE connection SET fault = 'odd'",
        "UPDATE thread SET last_mailed_at = NULL",
        "UPDATE plan SET outcome = NULL",
        "UPDATE plan SET connection_id = NULL",
        "UPDATE recovery SET covers_from = 1",
        "UPDATE recovery SET connection_id = NULL, covers_from = 1, covers_until = 2",
        "UPDATE signal SET recovered_by = NULL",
        "UPDATE signal SET observed_at = received_at + 1",
        "UPDATE attempt SET outcome = 'maybe'",
        "INSERT INTO hold (id, scope, cause, reason, since, created_by) SELECT id, 'class', 'operator', '', 1, '' FROM component",
        "INSERT INTO hold (id, scope, class, cause, reason, since, created_by) SELECT id, 'class', 'free', 'stop', '', 1, '' FROM component",
        "INSERT INTO hold (id, scope, cause, reason, since, created_by, released_at) SELECT id, 'everything', 'stop', '', 1, '', 1 FROM component",
        "INSERT INTO episode (component_id, n, since, covers_connections) SELECT id, 1, 1, TRUE FROM component",
        "INSERT INTO api_key_scope (key_id, scope) SELECT id, 'all' FROM component",
    ] {
        assert_eq!(said(&w, bad).await, "check", "{bad}");
    }
    let taken = said(
        &w,
        "UPDATE delivery SET state = 'withdrawn', reason = 'recovered', decided_at = 1 WHERE state = 'queued'",
    )
    .await;
    assert_eq!(taken, "taken, 1 rows");
}

const WIRE: &str = "UPDATE delivery SET state = 'sending', owner = 'x', lease_until = 1, claimed_at = 1, message_id = 'x', context = '{}',
    decided_at = NULL WHERE state IN ('queued', 'accepted')";
const AGAIN: &str =
    "INSERT INTO delivery_item (delivery_id, subject_id, component_id, connection_id, episode, failed_at, corrects_id)
    SELECT d.id, i.subject_id, i.component_id, i.connection_id, i.episode, i.failed_at, i.corrects_id
    FROM delivery_item i JOIN delivery d ON d.state = 'queued' WHERE i.corrects_id IS NOT NULL";
const TWICE: &str = "INSERT INTO delivery_item (delivery_id, subject_id, component_id, connection_id, episode, failed_at)
    SELECT delivery_id, subject_id, component_id, connection_id, episode + 1, failed_at FROM delivery_item WHERE corrects_id IS NULL";
const COPY: &str = "INSERT INTO delivery (id, class, stream, lane_id, cause_id, subscriber_id, thread_id, state, due_at, created_at)
    SELECT thread_id, class, stream, lane_id, cause_id, subscriber_id, thread_id, 'queued', 1, 1 FROM delivery WHERE state = 'queued'";

async fn a_thread_has_one_mail_on_the_wire_and_a_mail_one_correction_for_each_connection(on: On) {
    let w = world(on).await;
    for bad in [WIRE, AGAIN, TWICE, COPY] {
        assert_eq!(said(&w, bad).await, "unique", "{bad}");
    }
    assert_eq!(w.deliveries().await.len(), 3);
}
