//! A relay that is away for an hour, in driven time: probed now and then, and drained at the cap when it is back. A database
//! that hangs when the relay has taken a mail.

use crate::cut::{Cut, Fault};
use crate::on_both;
use crate::support::{On, World};
use allclear::domain::class::Class;
use allclear::domain::time::Span;
use allclear::flow::pace::Rate;
use allclear::flow::setting::Setting;
use allclear::flow::spill::Spill;
use allclear::flow::worker;
use allclear::mail::sink::{Answer, Phase, Script};
use allclear::store::StoreError;
use serde_json::json;
use sqlx::{Connection, PgConnection};
use std::collections::BTreeMap;

on_both! {
    a_relay_away_for_an_hour_is_probed_and_drained_at_the_cap;
    all_who_are_told_later_at_once_come_back_apart;
}

const START: &str = "2025-06-02T08:00:00Z";
const CAP: usize = 30;
const ASKED: usize = 90;
const TOLD: usize = 30;

fn at_once(setting: &mut Setting) {
    setting.limits.get_mut(&Class::ActionRequired).unwrap().dwell = Span::ZERO;
}

/// So many customers whose inbox broke.
async fn broken(w: &World, count: usize) {
    w.component("outlook", "Outlook").await;
    for n in 0..count {
        let key = format!("p{n}");
        w.subscriber(&key).await;
        w.connection(&key, "outlook", &key).await;
        w.broken(&key).await;
    }
}

async fn a_relay_away_for_an_hour_is_probed_and_drained_at_the_cap(on: On) {
    let cut = Cut::before(0, |_| Fault::None).await;
    let capped = |setting: &mut Setting| {
        at_once(setting);
        setting.streams[0].caps.overall = Some(Rate::per_minute(CAP as u32));
    };
    let mut w = World::with_relay(on, START, Script::default(), capped, |relay| {
        cut.lead_to(relay.port);
        relay.port = cut.port;
    })
    .await;
    cut.set_down(true);
    broken(&w, ASKED).await;
    let everybody: Vec<_> = (0..TOLD).map(|n| format!("p{n}")).collect();
    w.notice(json!({"kind": "free", "subject": "News", "body": "Something.", "recipients": everybody})).await;
    let mut other = w.another("other");
    // When each node tried to reach the relay, in seconds.
    let mut probes = [Vec::new(), Vec::new()];
    const EACH: i64 = 10;
    for step in 0..3_600 / EACH {
        let before = cut.taken().len();
        assert!(w.move_to(w.now() + Span::seconds(EACH)).await.is_empty());
        let between = cut.taken().len();
        other.settle().await.unwrap();
        for (node, tries) in [(0, between - before), (1, cut.taken().len() - between)] {
            probes[node].extend(std::iter::repeat_n(step * EACH, tries));
        }
    }
    for of_one in &probes {
        assert!(of_one.windows(2).all(|pair| pair[1] - pair[0] >= 30), "closer than 30 s: {of_one:?}");
        assert!((100..=121).contains(&of_one.len()), "{} probes in an hour", of_one.len());
    }
    assert_eq!(w.query("SELECT outcome FROM attempt").await.len(), 0, "nothing is claimed that nobody could take");
    cut.set_down(false);
    // When each mail arrived, in seconds since the return.
    let mut arrived: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    let (back, mut seen) = (w.now(), 0);
    while seen < ASKED + TOLD {
        w.move_to(w.now() + Span::seconds(1)).await;
        other.settle().await.unwrap();
        let mails = w.sink.mails();
        for mail in &mails[seen..] {
            let stream = if mail.from.starts_with("account") { "account" } else { "incidents" };
            arrived.entry(stream).or_default().push((w.now() - back).as_seconds());
        }
        seen = mails.len();
        assert!((w.now() - back).as_seconds() < 600, "{arrived:?}; {:?}", w.deliveries().await);
    }
    let first = arrived.values().map(|times| times[0]).min().unwrap();
    let account = &arrived["account"];
    let most = account.iter().map(|from| account.iter().filter(|at| (*from..*from + 60).contains(at)).count()).max();
    println!(
        "relay away for an hour: {} and {} probes by two nodes, first mail {first} s after its return, at most {} a \
         minute under a cap of {CAP}, {seen} of {seen} mailed once",
        probes[0].len(),
        probes[1].len(),
        most.unwrap(),
    );
    assert!(first <= 60, "{first}");
    assert!(most.unwrap() <= CAP, "{account:?}");
    assert!(*account.last().unwrap() <= 60 * (ASKED / CAP) as i64 * 3 / 2, "slower than the cap asks: {account:?}");
    w.pass(30).await;
    other.settle().await.unwrap();
    assert_eq!(w.sink.mails().len(), ASKED + TOLD);
    assert!(w.deliveries().await.iter().all(|d| d.ends_with(" accepted")), "{:?}", w.deliveries().await);
    assert_eq!(w.query("SELECT outcome FROM attempt").await.len(), ASKED + TOLD);
}

async fn all_who_are_told_later_at_once_come_back_apart(on: On) {
    let script = Script::default().always(Answer::reply(Phase::Rcpt, "451 4.3.0 not now"));
    let mut w = World::with(on, START, script, at_once).await;
    const MAILS: usize = 200;
    broken(&w, MAILS).await;
    assert!(w.settle().await.is_empty());
    let dues = w.query("SELECT CAST(due_at AS TEXT) FROM delivery WHERE tries = 1").await;
    assert_eq!(dues.len(), MAILS);
    let mut spread = [0; 10];
    for due in dues {
        let wait = due[0].as_deref().unwrap().parse::<i64>().unwrap() - w.now().0;
        assert!((1_000_000..=30_000_000).contains(&wait), "{wait}");
        spread[usize::try_from((wait - 1) / 3_000_000).unwrap()] += 1;
    }
    println!("{MAILS} mails told \"later\" at once come back in 30 s, of which each tenth sees {spread:?}");
    assert!(spread.iter().all(|n| (4..=45).contains(n)), "{spread:?}");
}

#[tokio::test]
async fn what_the_relay_took_is_on_disk_soon_though_the_database_hangs() {
    let mut w = World::new(On::Postgres, START).await;
    w.subscriber("ann").await;
    w.notice(json!({"kind": "free", "subject": "News", "body": "Something.", "recipients": ["ann"]})).await;
    worker::plan_all(&w.shared).await.unwrap();
    let mut other = PgConnection::connect(&w.url).await.unwrap();
    let mut hangs = other.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE attempt IN ACCESS EXCLUSIVE MODE").execute(&mut *hangs).await.unwrap();
    let mut failed = Vec::new();
    for mut one in worker::dispatchers(&w.shared, &w.transports, 1) {
        failed.extend(one.drain(|| false).await.err());
    }
    assert!(failed.iter().all(StoreError::is_away), "{failed:?}");
    assert_eq!((w.sink.count(), w.deliveries().await), (1, vec!["free sending".to_owned()]));
    // Whoever stops does not wait for it.
    let mut stopped = worker::dispatchers(&w.shared, &w.transports, 1);
    assert_eq!(stopped[0].drain(|| true).await.unwrap(), 0);
    hangs.rollback().await.unwrap();
    assert_eq!(w.shared.spill.merge(&w.store, &w.shared.setting, "test").await.unwrap(), 1);
    w.pass(60).await;
    assert_eq!((w.sink.count(), w.deliveries().await), (1, vec!["free accepted".to_owned()]));
}

#[tokio::test]
async fn of_what_was_spilled_follows_what_follows_from_any_other() {
    let script = Script::default().answering(|at, to, _| {
        let dead = at == Phase::Rcpt && to.to.starts_with("gus");
        dead.then(|| Answer::reply(at, "550 5.1.1 user unknown"))
    });
    let mut w = World::with(On::Postgres, START, script, |_| {}).await;
    for key in ["ann", "gus"] {
        w.subscriber(key).await;
    }
    w.notice(json!({"kind": "free", "subject": "News", "body": "Something.", "recipients": ["ann", "gus"]})).await;
    worker::plan_all(&w.shared).await.unwrap();
    let mut other = PgConnection::connect(&w.url).await.unwrap();
    let mut hangs = other.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE attempt IN ACCESS EXCLUSIVE MODE").execute(&mut *hangs).await.unwrap();
    for mut one in worker::dispatchers(&w.shared, &w.transports, 1) {
        let _ = one.drain(|| false).await;
    }
    hangs.rollback().await.unwrap();
    assert!(w.shared.spill.merge(&w.store, &w.shared.setting, "test").await.unwrap() > 0);
    w.pass(30).await;
    let dead = w.query("SELECT DISTINCT address || ' ' || reason FROM suppression").await;
    assert_eq!(dead, [[Some("gus@example.net address_dead".to_owned())]]);
}

#[tokio::test]
async fn what_can_neither_be_recorded_nor_spilled_is_known_to_who_stops_and_recorded_when_it_can() {
    let mut w = World::new(On::Sqlite, START).await;
    let folder = tempfile::tempdir().unwrap();
    w.shared.spill = Spill::new(folder.path().join("nowhere").join("spill"));
    w.subscriber("ann").await;
    w.notice(json!({"kind": "free", "subject": "News", "body": "Something.", "recipients": ["ann"]})).await;
    worker::plan_all(&w.shared).await.unwrap();
    w.execute("CREATE TRIGGER full BEFORE INSERT ON attempt BEGIN SELECT RAISE(ABORT, 'full'); END").await;
    let mut all = worker::dispatchers(&w.shared, &w.transports, 1);
    let mut failed = 0;
    for one in &mut all {
        failed += usize::from(one.drain(|| false).await.is_err());
    }
    assert_eq!((failed, w.sink.count()), (1, 1));
    assert_eq!(all.iter().map(|one| one.unrecorded().count()).sum::<usize>(), 1);
    w.execute("DROP TRIGGER full").await;
    for one in &mut all {
        one.drain(|| true).await.unwrap();
        assert_eq!(one.unrecorded().count(), 0);
    }
    assert_eq!((w.sink.count(), w.deliveries().await), (1, vec!["free accepted".to_owned()]));
}
