//! On the wire: how long after a recovery a mail may still begin. The relay's clock counts; "begins" is DATA.

use crate::amount::{amount, random};
use crate::ledger::compare;
use crate::on_both;
use crate::race::{RACER, assert_true};
use crate::site::{Site, until};
use crate::storm::{Size, Storm};
use crate::support::{On, World};
use allclear::domain::id::RecoveryId;
use allclear::domain::time::Span;
use allclear::flow::ingest::Answer;
use allclear::flow::sender::LOOK_AGE;
use allclear::mail::sink::{Phase, Script, Sink};
use allclear::store::recover;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

on_both! {
    a_recovery_after_the_look_is_seen_by_another_look_before_data;
    a_mail_that_had_begun_is_in_flight_until_it_ends_and_is_taken_back;
}

/// A relay that is slow to answer the first time.
#[derive(Default)]
struct Slow {
    reached: AtomicBool,
    go_on: AtomicBool,
}

impl Slow {
    fn script(self: &Arc<Self>, at: Phase) -> Script {
        let slow = self.clone();
        let script = Script { pipelining: false, ..Script::default() };
        script.answering(move |phase, _, _| {
            if phase == at && !slow.reached.swap(true, Ordering::SeqCst) {
                let go_on = || {
                    while !slow.go_on.load(Ordering::SeqCst) {
                        std::thread::yield_now()
                    }
                };
                tokio::task::block_in_place(go_on);
            }
            None
        })
    }
}

async fn in_flight(w: &World, of: &Answer) -> i64 {
    let id: RecoveryId = of.recovery_id.as_deref().unwrap().parse().unwrap();
    let mut tx = w.store.read().await.unwrap();
    recover::progress(&mut tx, id).await.unwrap().unwrap().in_flight
}

/// The connection recovers while the relay keeps the mail waiting at this point, and the look is old when it goes on.
async fn recovered_at(on: On, at: Phase) -> World {
    let slow = Arc::new(Slow::default());
    let w = World::with(on, "2025-03-01T20:40:00Z", slow.script(at), |_| {}).await;
    w.component("outlook", "Outlook").await;
    w.subscriber("ann").await;
    w.connection("ann-1", "outlook", "ann").await;
    w.broken("ann-1").await;
    w.clock.set(w.now() + Span::minutes(5));
    let mut node = w.another("node");
    let sending = tokio::spawn(async move { node.settle().await.unwrap() });
    until(async || slow.reached.load(Ordering::SeqCst)).await;
    let looked_before = Instant::now();
    let recovered = w.recovered("ann-1", "automatic").await;
    assert_eq!(in_flight(&w, &recovered).await, 1, "it is on the wire, so nothing is drained");
    until(async || looked_before.elapsed() > LOOK_AGE).await;
    assert_eq!(in_flight(&w, &recovered).await, 1);
    slow.go_on.store(true, Ordering::SeqCst);
    sending.await.unwrap();
    assert_eq!(in_flight(&w, &recovered).await, 0);
    w
}

async fn a_recovery_after_the_look_is_seen_by_another_look_before_data(on: On) {
    let w = recovered_at(on, Phase::Rcpt).await;
    assert_eq!(w.sink.count(), 0, "stale, and its DATA had not been written");
    assert_eq!(w.deliveries().await, ["action_required withdrawn recovered"]);
}

async fn a_mail_that_had_begun_is_in_flight_until_it_ends_and_is_taken_back(on: On) {
    let w = recovered_at(on, Phase::Data).await;
    assert_eq!(w.sink.count(), 2);
    assert_eq!(w.deliveries().await, ["action_required accepted", "correction accepted"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_mail_begins_once_a_recovery_is_drained() {
    let mut random = random();
    let size = Size { groups: 8, crowd: amount(8, 40), recoveries: amount(80, 600), mails: 0, drained: true };
    let sink = Sink::start(Script::default()).await.unwrap();
    let mut storm = Storm::new(Site::new(On::Postgres, sink.port(), "").await, size).await;
    storm.start("one", &RACER).await;
    storm.start("two", &RACER).await;
    storm.rage(&sink, &mut random, async {}).await;
    let found = compare(&storm.ears.heard(), &storm.connections, &HashSet::new());
    println!(
        "wire: {} recoveries, {} mails, {} after `drained: true`; {}",
        size.recoveries,
        found.asked,
        found.after_drained.len(),
        found.after_recovery(),
    );
    assert_true(&found);
    // How long only an unladen machine can say.
    if amount(0, 1) == 1 {
        assert!(found.since_answer(99) <= Duration::from_millis(50), "{}", found.after_recovery());
        assert!(found.since_answer(100) <= Duration::from_millis(250), "{}", found.after_recovery());
    }
    storm.site.audit().await;
}
