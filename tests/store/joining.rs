//! A mail gets another item while somebody decides that it has none left that is true. PostgreSQL reads before it
//! waits: whoever looks first and is then kept waiting for the row has looked too early.

use crate::support::{On, World};
use allclear::domain::delivery::State;
use allclear::domain::id::{DeliveryId, ThreadId};
use allclear::domain::time::Span;
use allclear::flow::setting::Setting;
use allclear::flow::{deadline, failures, sweep, worker};
use allclear::store::claims::{Armed, arm};
use allclear::store::record::{self, Settled};
use allclear::store::recover;
use serde_json::json;
use sqlx::{Connection, PgConnection};
use std::future::Future;
use tokio::task::JoinHandle;
use uuid::Uuid;

async fn world() -> World {
    let w = World::new(On::Postgres, "2025-03-01T20:40:00Z").await;
    w.component("outlook", "Outlook").await;
    w.subscriber("ann").await;
    w.connection("ann-1", "outlook", "ann").await;
    w.connection("ann-2", "outlook", "ann").await;
    w
}

fn later(w: &World, seconds: i64) {
    w.clock.set(w.now() + Span::seconds(seconds));
}

async fn plan(w: &World) {
    worker::plan_all(&w.shared).await.unwrap();
}

async fn sweep_all(w: &World) {
    while sweep::sweep(&w.store, &w.shared.setting).await.unwrap() {}
}

async fn the_queued(w: &World, class: &'static str) -> Option<DeliveryId> {
    let mut conn = PgConnection::connect(&w.url).await.unwrap();
    let sql = "SELECT id FROM delivery WHERE class = $1 AND state = 'queued'";
    sqlx::query_scalar::<_, Uuid>(sql).bind(class).fetch_optional(&mut conn).await.unwrap().map(DeliveryId)
}

/// The relay has the mail; to be recorded.
async fn armed(w: &World) -> Settled {
    let id = the_queued(w, "action_required").await.unwrap();
    let mut tx = w.store.begin().await.unwrap();
    let frozen = Armed {
        id,
        message_id: id.to_string(),
        template_set: String::new(),
        address: "ann@example.net".to_owned(),
        context: "{}".to_owned(),
    };
    let lease = tx.now() + Span::minutes(13);
    arm(&mut tx, "test", lease, &[frozen]).await.unwrap();
    tx.commit().await.unwrap();
    Settled {
        id,
        token: 1,
        outcome: None,
        state: State::Accepted,
        reason: None,
        due_at: None,
        quarantine_until: None,
        counts: true,
        tells: false,
        copy: None,
        dead: None,
    }
}

async fn accepted(w: &World, mail: Settled) {
    let mut tx = w.store.begin().await.unwrap();
    record::outcomes(&mut tx, "test", &[mail]).await.unwrap();
    tx.commit().await.unwrap();
}

/// Runs one until it is kept from naming the connection, then the other until it waits for the first; then lets both
/// go on.
async fn one_in_the_middle_of_the_other<A, B>(w: &World, first: A, second: B)
where
    A: Future<Output = ()> + Send + 'static,
    B: Future<Output = ()> + Send + 'static,
{
    let mut conn = PgConnection::connect(&w.url).await.unwrap();
    let mut held = conn.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM connection FOR UPDATE").execute(&mut *held).await.unwrap();
    let first = tokio::spawn(first);
    waiting(w, 1, &first).await;
    let second = tokio::spawn(second);
    waiting(w, 2, &second).await;
    held.commit().await.unwrap();
    first.await.unwrap();
    second.await.unwrap();
}

async fn waiting(w: &World, wanted: i64, task: &JoinHandle<()>) {
    let mut conn = PgConnection::connect(&w.url).await.unwrap();
    let sql = "SELECT COUNT(DISTINCT l.pid) FROM pg_locks l JOIN pg_locks h ON h.pid = ANY (pg_blocking_pids(l.pid))
        JOIN pg_class c ON c.oid = h.relation WHERE NOT l.granted AND c.relnamespace = current_schema()::regnamespace";
    while sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut conn).await.unwrap() < wanted {
        assert!(!task.is_finished(), "it was to wait");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_correction_that_takes_back_one_more_mail_is_not_folded_as_empty() {
    let w = world().await;
    w.broken("ann-1").await;
    plan(&w).await;
    let first = armed(&w).await;
    accepted(&w, first).await;
    later(&w, 1);
    w.recovered("ann-1", "automatic").await;
    sweep_all(&w).await;
    let correction = the_queued(&w, "correction").await;
    assert!(correction.is_some());
    later(&w, 2);
    w.broken("ann-1").await;
    plan(&w).await;
    let again = armed(&w).await;
    later(&w, 3);
    w.recovered("ann-1", "automatic").await;
    let (store, setting, shared) = (w.store.clone(), w.shared.setting.clone(), w.store.clone());
    let sweeping = async move { while sweep::sweep(&store, &setting).await.unwrap() {} };
    let recording = async move {
        let mut tx = shared.begin().await.unwrap();
        record::outcomes(&mut tx, "test", &[again]).await.unwrap();
        tx.commit().await.unwrap();
    };
    one_in_the_middle_of_the_other(&w, sweeping, recording).await;
    assert_eq!(the_queued(&w, "correction").await, correction, "it takes back the second mail");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_that_one_more_connection_joins_is_not_withdrawn_as_untrue() {
    let w = world().await;
    w.broken("ann-1").await;
    plan(&w).await;
    let mail = the_queued(&w, "action_required").await;
    assert!(mail.is_some());
    later(&w, 1);
    w.recovered("ann-1", "automatic").await;
    w.broken("ann-2").await;
    let (shared, store, setting) = (w.shared.clone(), w.store.clone(), w.shared.setting.clone());
    let planning = async move { worker::plan_all(&shared).await.map(drop).unwrap() };
    let sweeping = async move { while sweep::sweep(&store, &setting).await.unwrap() {} };
    one_in_the_middle_of_the_other(&w, planning, sweeping).await;
    assert_eq!(the_queued(&w, "action_required").await, mail, "it asks about the other connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_plan_at_once_make_one_mail_for_a_customer() {
    let w = world().await;
    w.broken("ann-1").await;
    w.broken("ann-2").await;
    let page = |w: &World| {
        let (store, templates) = (w.store.clone(), w.shared.templates.clone());
        let setting = Setting { page: 1, ..(*w.shared.setting).clone() };
        async move {
            let planned = failures::failures(&store, &setting, &templates, Uuid::nil()).await.unwrap();
            assert_eq!(planned.map(|(_, decided)| decided), Some(1));
        }
    };
    one_in_the_middle_of_the_other(&w, page(&w), page(&w)).await;
    assert!(the_queued(&w, "action_required").await.is_some());
    assert_eq!(w.query("SELECT CAST(COUNT(*) AS TEXT) FROM delivery").await, [[Some("1".to_owned())]]);
    assert_eq!(w.query("SELECT CAST(COUNT(*) AS TEXT) FROM delivery_item").await, [[Some("2".to_owned())]]);
}

#[tokio::test]
async fn who_confirms_while_the_deadline_is_looked_after_is_not_asked_anew() {
    let w = world().await;
    for key in ["ann-1", "ann-2"] {
        w.broken(key).await;
    }
    later(&w, 60);
    w.signal(
        json!({"component": "outlook", "what": "recovered", "connections": "all", "since": "2025-03-01T20:00:00Z"}),
    )
    .await;
    later(&w, 7 * 3600);
    let mut conn = PgConnection::connect(&w.url).await.unwrap();
    let mut held = conn.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM connection WHERE key = 'ann-1' FOR UPDATE").execute(&mut *held).await.unwrap();
    let (store, setting) = (w.store.clone(), w.shared.setting.clone());
    let confirming = tokio::spawn(async move { while deadline::confirm(&store, &setting).await.unwrap() {} });
    waiting(&w, 1, &confirming).await;
    sqlx::query("UPDATE connection SET cleared = episode WHERE key = 'ann-1'").execute(&mut *held).await.unwrap();
    held.commit().await.unwrap();
    confirming.await.unwrap();
    let outages = w.query("SELECT key || ' ' || CAST(episode AS TEXT) FROM connection ORDER BY key").await;
    assert_eq!(outages, ["ann-1 1", "ann-2 2"].map(|one| [Some(one.to_owned())]));
    let unconfirmed = w.query("SELECT CAST(unconfirmed AS TEXT) FROM recovery WHERE connection_id IS NULL").await;
    assert_eq!(unconfirmed, [[Some("1".to_owned())]]);
}

#[tokio::test]
async fn what_is_to_be_joined_is_locked() {
    let w = world().await;
    w.broken("ann-1").await;
    plan(&w).await;
    later(&w, 6 * 60);
    let mail = armed(&w).await;
    accepted(&w, mail).await;
    w.recovered("ann-1", "automatic").await;
    sweep_all(&w).await;
    let mut conn = PgConnection::connect(&w.url).await.unwrap();
    let thread: Uuid = sqlx::query_scalar("SELECT id FROM thread").fetch_one(&mut conn).await.unwrap();
    let mut tx = w.store.begin().await.unwrap();
    assert_eq!(recover::queued_corrections(&mut tx, &[ThreadId(thread)]).await.unwrap().len(), 1);
    let free = "SELECT id FROM delivery WHERE class = 'correction' FOR NO KEY UPDATE SKIP LOCKED";
    assert_eq!(sqlx::query(free).fetch_all(&mut conn).await.unwrap().len(), 0);
    drop(tx);
}
