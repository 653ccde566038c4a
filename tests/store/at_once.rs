//! Updates of an incident that come at once: only PostgreSQL takes them in beside each other.

use crate::support::{On, World};
use serde_json::json;
use sqlx::{Connection, PgConnection};

/// Returns when two transactions wait for others.
async fn two_wait(w: &World) {
    let mut conn = PgConnection::connect(&w.url).await.unwrap();
    let sql = "SELECT COUNT(DISTINCT l.pid) FROM pg_locks l JOIN pg_locks h ON h.pid = ANY (pg_blocking_pids(l.pid))
        JOIN pg_class c ON c.oid = h.relation WHERE NOT l.granted AND c.relnamespace = current_schema()::regnamespace";
    while sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut conn).await.unwrap() < 2 {
        tokio::task::yield_now().await;
    }
}

/// Both, begun before either can go on: all components are locked until both wait.
async fn at_once<T>(w: &World, one: impl Future<Output = T>, two: impl Future<Output = T>) -> (T, T) {
    let mut conn = PgConnection::connect(&w.url).await.unwrap();
    let mut held = conn.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM component FOR UPDATE").execute(&mut *held).await.unwrap();
    let let_go = async {
        two_wait(w).await;
        held.commit().await.unwrap();
    };
    let (one, two, ()) = tokio::join!(one, two, let_go);
    (one, two)
}

#[tokio::test]
async fn two_incidents_that_end_at_once_leave_nothing_down() {
    let w = World::new(On::Postgres, "2025-06-02T08:00:00Z").await;
    w.component("a", "a").await;
    let said = |incident: &str, phase: &str, components: serde_json::Value| {
        w.notice(json!({"kind": "incident", "incident": incident, "title": "Trouble", "phase": phase, "body": phase,
            "components": components}))
    };
    for incident in ["i", "j"] {
        said(incident, "investigating", json!([{"key": "a", "status": "major_outage"}])).await;
    }
    at_once(&w, said("j", "resolved", json!([])), said("i", "resolved", json!([]))).await;
    assert!(w.query("SELECT key FROM component WHERE down_since IS NOT NULL").await.is_empty());
}

#[tokio::test]
async fn the_first_two_updates_of_an_incident_are_of_one_incident() {
    for [first, second] in [["a", "b"], ["ab", "bc"]] {
        let w = World::new(On::Postgres, "2025-06-02T08:00:00Z").await;
        for key in ["a", "b", "c"] {
            w.component(key, key).await;
        }
        let said = |keys: &str| {
            let component = |key: char| json!({"key": key.to_string(), "status": "major_outage"});
            let components: Vec<_> = keys.chars().map(component).collect();
            w.notice(json!({"kind": "incident", "incident": "i", "title": "Trouble", "phase": "investigating",
                "body": format!("Now {keys}."), "components": components}))
        };
        let (one, two) = at_once(&w, said(first), said(second)).await;
        assert_eq!((one.outcome.as_str(), two.outcome.as_str()), ("planned", "planned"));
        assert_eq!(one.incident_id, two.incident_id);
        let named = w.query("SELECT DISTINCT CAST(component_id AS TEXT) FROM incident_component").await;
        assert_eq!(named.len(), if first == "a" { 2 } else { 3 });
    }
}
