//! A relay far away: mails are claimed and prepared while those before them are on the wire, and are held back, put back and
//! counted all the same.

use crate::on_both;
use crate::support::{On, World};
use allclear::domain::time::Span;
use allclear::flow::worker;
use allclear::mail::sink::{Act, Answer, Phase, Script};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

on_both! {
    a_mail_is_ready_for_each_session_that_is_done;
    what_is_ready_is_held_back_when_its_component_recovers;
    a_stop_puts_back_what_is_ready;
    while_its_sessions_hang_nothing_is_kept_ready;
}

const START: &str = "2025-06-02T08:00:00Z";
const SLOTS: usize = 4;
/// Between two looks at the database.
const PAUSE: Duration = Duration::from_millis(2);

/// A relay that is 30 ms away, four sessions, and 120 customers with a connection each.
async fn world(on: On, script: Script) -> (World, Vec<String>) {
    let script = Script { latency: Duration::from_millis(30), ..script };
    let few = |s: &mut allclear::flow::setting::Setting| s.streams.iter_mut().for_each(|stream| stream.slots = SLOTS);
    let w = World::with(on, START, script, few).await;
    w.component("imap", "Mail sync").await;
    let keys: Vec<String> = (0..120).map(|n| format!("r{n}")).collect();
    for key in &keys {
        w.subscriber(key).await;
        w.connection(key, "imap", key).await;
    }
    (w, keys)
}

async fn free(w: &World, keys: &[String]) {
    w.notice(json!({"kind": "free", "subject": "News", "body": "Something.", "recipients": keys})).await;
    worker::plan_all(&w.shared).await.unwrap();
}

/// All dispatchers at work until there is nothing left to do, or they are to stop.
fn draining(w: &World, stop: &Arc<AtomicBool>) -> Vec<JoinHandle<()>> {
    let all = worker::dispatchers(&w.shared, &w.transports, 1).into_iter();
    all.map(|mut dispatcher| {
        let stop = Arc::clone(stop);
        tokio::spawn(async move {
            dispatcher.drain(|| stop.load(Ordering::SeqCst)).await.unwrap();
        })
    })
    .collect()
}

async fn all(running: Vec<JoinHandle<()>>) {
    for one in running {
        one.await.unwrap();
    }
}

/// How many are claimed and not decided.
async fn under_way(w: &World) -> usize {
    number(w, "SELECT CAST(COUNT(*) AS TEXT) FROM delivery WHERE state = 'sending'").await
}

async fn number(w: &World, sql: &'static str) -> usize {
    w.query(sql).await[0][0].as_deref().unwrap().parse().unwrap()
}

async fn until(what: impl AsyncFn() -> bool) {
    let seen = async {
        while !what().await {
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), seen).await.unwrap();
}

async fn a_mail_is_ready_for_each_session_that_is_done(on: On) {
    let (w, keys) = world(on, Script::default()).await;
    free(&w, &keys).await;
    let running = draining(&w, &Arc::default());
    let mut most = 0;
    while running.iter().any(|one| !one.is_finished()) {
        most = most.max(under_way(&w).await);
        tokio::time::sleep(PAUSE).await;
    }
    all(running).await;
    // One on the wire and one ready for each session, and those that are done and not recorded.
    assert!((SLOTS + 1..=4 * SLOTS).contains(&most), "{most} at once");
    assert_eq!((w.sink.count(), w.sink.most_open()), (120, SLOTS as u64));
    assert_eq!(number(&w, "SELECT CAST(COUNT(*) AS TEXT) FROM attempt").await, 120, "one try each");
}

async fn what_is_ready_is_held_back_when_its_component_recovers(on: On) {
    let (mut w, keys) = world(on, Script::default()).await;
    for key in &keys {
        w.broken(key).await;
    }
    worker::plan_all(&w.shared).await.unwrap();
    w.clock.set(w.now() + Span::minutes(10));
    let running = draining(&w, &Arc::default());
    until(async || w.sink.count() >= 40).await;
    let all_well = json!({"component": "imap", "what": "recovered", "connections": "all", "since": START});
    w.signal(all_well).await;
    let asked = w.sink.count();
    all(running).await;
    let late = w.sink.count() - asked;
    assert!(late <= 3 * SLOTS as u64, "{late} left after the recovery: no more than were looked at before it");
    w.move_to(w.clock_now() + Span::minutes(10)).await;
    let end = w.sink.count();
    assert_eq!(end, (asked + late) * 2, "who was asked is told that it is over");
    let withdrawn = number(&w, "SELECT CAST(COUNT(*) AS TEXT) FROM delivery WHERE state = 'withdrawn'").await;
    assert_eq!(withdrawn as u64, 120 - asked - late, "{:?}", w.deliveries().await);
}

async fn a_stop_puts_back_what_is_ready(on: On) {
    let (mut w, keys) = world(on, Script::default()).await;
    free(&w, &keys).await;
    let stop = Arc::new(AtomicBool::new(false));
    let running = draining(&w, &stop);
    until(async || under_way(&w).await > SLOTS).await;
    stop.store(true, Ordering::SeqCst);
    all(running).await;
    assert_eq!(under_way(&w).await, 0);
    let taken = w.sink.count();
    assert!(taken < 120, "{taken}");
    let accepted = number(&w, "SELECT CAST(COUNT(*) AS TEXT) FROM delivery WHERE state = 'accepted'").await;
    assert_eq!(accepted as u64, taken, "what was on the wire is recorded");
    w.settle().await;
    assert_eq!(w.sink.count(), 120, "and the others leave at the next start");
}

async fn while_its_sessions_hang_nothing_is_kept_ready(on: On) {
    let stalls = Arc::new(AtomicBool::new(false));
    let stalled = Arc::new(AtomicUsize::new(0));
    let (flag, count) = (Arc::clone(&stalls), Arc::clone(&stalled));
    let script = Script::default().answering(move |at, _, _| {
        (at == Phase::Dot && flag.load(Ordering::SeqCst)).then(|| {
            count.fetch_add(1, Ordering::SeqCst);
            Answer { at, act: Act::Stall }
        })
    });
    let (w, keys) = world(on, script).await;
    free(&w, &keys).await;
    let running = draining(&w, &Arc::default());
    until(async || under_way(&w).await > SLOTS).await;
    stalls.store(true, Ordering::SeqCst);
    // What is put back is claimed anew for a session that is done, and for no other.
    const CLAIMS: &str = "SELECT CAST(SUM(token) AS TEXT) FROM delivery";
    until(async || {
        let claims = number(&w, CLAIMS).await;
        tokio::time::sleep(Duration::from_millis(600)).await;
        let at_rest = (stalled.load(Ordering::SeqCst), under_way(&w).await) == (SLOTS, SLOTS);
        at_rest && number(&w, CLAIMS).await == claims
    })
    .await;
    running.iter().for_each(JoinHandle::abort);
}
