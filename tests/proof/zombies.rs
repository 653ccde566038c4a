//! Zombies and clocks: nodes frozen for longer than their lease while others go on, and nodes whose clocks are
//! wrong. The end is that of the race.

use crate::amount::{amount, random};
use crate::ledger::{Heard, Kind, compare};
use crate::race::{RACER, assert_true};
use crate::site::{Node, Site, until};
use crate::storm::{Size, Storm};
use crate::support::On;
use allclear::mail::sink::{Script, Sink};
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const ZOMBIE: [(&str, &str); 5] = [
    ("ALLCLEAR_STREAMS__ACCOUNT__SLOTS", "24"),
    ("ALLCLEAR_DISPATCH__DIALOGUE_SECONDS", "2"),
    ("ALLCLEAR_DISPATCH__LEASE_SECONDS", "3"),
    ("ALLCLEAR_DISPATCH__QUARANTINE_SECONDS", "3"),
    ("ALLCLEAR_LOG", "warn,allclear::app=info"),
];
const LEASE: Duration = Duration::from_secs(3);

/// A quarantine is there to outlast the relay's patience with a session that hangs.
fn relay() -> Script {
    Script { patience: Some(Duration::from_secs(1)), ..Script::default() }
}

const EXPIRED: &str = "SELECT COUNT(*) FROM delivery WHERE state = 'sending'
    AND lease_until < CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)";

/// The subscribers whose last mail about a connection is listed as ambiguous, or waits for a person.
async fn set_aside(site: &Site) -> HashSet<(String, String)> {
    let sql =
        "SELECT address, key FROM (SELECT DISTINCT ON (s.address, c.key) s.address, c.key, d.state FROM delivery d
            JOIN subscriber s ON s.id = d.subscriber_id JOIN delivery_item i ON i.delivery_id = d.id
            JOIN connection c ON c.id = i.connection_id WHERE d.maybe_mailed OR d.state = 'parked'
            ORDER BY s.address, c.key, d.created_at DESC, d.id DESC) AS newest
        WHERE state IN ('unknown', 'parked')";
    let mut conn = PgConnection::connect(&site.url).await.unwrap();
    sqlx::query_as(sql).fetch_all(&mut conn).await.unwrap().into_iter().collect()
}

/// What the database says of each mail and what it names, for a failure's message.
const KNOWN: &str = "SELECT s.address || ' ' || c.key || ' ' || i.episode || COALESCE(' dropped ' || i.dropped, '') || ' '
        || d.class || ' ' || d.state || ' ' || COALESCE(d.reason, '') || ' repeats ' || d.repeats || ' reaps ' || d.reaps
        || ' ' || COALESCE(d.message_id, '') || COALESCE(' corrects ' || o.message_id, '')
    FROM delivery d JOIN subscriber s ON s.id = d.subscriber_id JOIN delivery_item i ON i.delivery_id = d.id
    JOIN connection c ON c.id = i.connection_id LEFT JOIN delivery o ON o.id = i.corrects_id
    ORDER BY s.address, d.created_at, d.id";

/// Freezes two nodes of three, until what they held is taken back, and longer.
async fn freeze_some(storm: &Storm, random: &mut impl RngExt) -> u64 {
    let first = random.random_range(0..3);
    let frozen = &[first, (first + random.random_range(1..3)) % 3];
    for n in frozen {
        storm.awake[*n].store(false, Ordering::Relaxed);
        storm.nodes[*n].freeze();
    }
    let began = Instant::now();
    let longer = LEASE + Duration::from_millis(random.random_range(500..4_000));
    until(async || began.elapsed() > longer && storm.site.count(EXPIRED).await == 0).await;
    for n in frozen {
        storm.nodes[*n].thaw();
        storm.awake[*n].store(true, Ordering::Relaxed);
    }
    // Awake again, they claim again.
    let heard = storm.ears.count();
    until(async || storm.ears.count() > heard + 5).await;
    frozen.len() as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen_beyond_its_lease_a_node_does_no_harm_when_it_wakes() {
    let mut random = random();
    let (size, wanted) =
        (Size { groups: amount(4, 40), crowd: 8, recoveries: u64::MAX, mails: 0, drained: false }, amount(10, 200));
    let sink = Sink::start(relay()).await.unwrap();
    let mut storm = Storm::new(Site::new(On::Postgres, sink.port(), "").await, size).await;
    for name in ["one", "two", "three"] {
        storm.start(name, &ZOMBIE).await;
    }
    let freezes = AtomicU64::new(0);
    let mut driver = StdRng::seed_from_u64(random.random());
    let recoveries = AtomicU64::new(0);
    let freezing = async {
        while freezes.load(Ordering::Relaxed) < wanted {
            freezes.fetch_add(freeze_some(&storm, &mut driver).await, Ordering::Relaxed);
        }
        recoveries.store(storm.end(), Ordering::Relaxed);
    };
    storm.rage(&sink, &mut random, freezing).await;
    let set_aside = set_aside(&storm.site).await;
    let found = compare(&storm.ears.heard(), &storm.connections, &set_aside);
    println!(
        "zombies: {} freezes, {recoveries:?} recoveries, {} mails, {} corrections, {} wrong, {} came twice, {} set aside",
        freezes.load(Ordering::Relaxed),
        found.asked,
        found.corrected,
        found.wrong.len(),
        found.copies.len(),
        set_aside.len(),
    );
    if let Some(first) = found.wrong.first() {
        let of = first.split(' ').next().unwrap_or_default();
        let known = storm.site.texts(KNOWN).await;
        let known: Vec<_> = known.iter().filter(|line| line.starts_with(of)).collect();
        panic!("{} of {}: {:#?}\nand the database knows {known:#?}", found.wrong.len(), found.asked, found.wrong);
    }
    assert!(found.after_drained.is_empty(), "{:#?}", found.after_drained);
    // A request is repeated once. What takes one back is repeated while it may be lost, until its lease has run out
    // three times and a person must look.
    let most = |kind: Kind| if kind == Kind::Asks { 2 } else { 3 };
    let more: Vec<_> = found.copies.iter().filter(|(_, n, kind)| *n > most(*kind)).collect();
    assert!(more.is_empty(), "came too often: {more:?}");
    assert!(found.copies.len() as u64 <= 24 * freezes.load(Ordering::Relaxed), "{} copies", found.copies.len());
    // Every copy is listed: the audit counts the attempts against the ambiguous ones.
    storm.site.audit().await;
}

/// Where a node holds locks that others need.
const WITHIN: [&str; 4] = ["planning:1", "arming:1", "recovering:1", "sweeping:1"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen_within_a_transaction_a_node_holds_nobody_up() {
    join_all(WITHIN.map(held_up)).await;
}

async fn held_up(at: &str) {
    let sink = Sink::start(relay()).await.unwrap();
    let site = Site::new(On::Postgres, sink.port(), "").await;
    site.customers(1).await;
    let zombie = site.node_stopping_at("zombie", at).await;
    let failed = json!({"connection": "c1", "what": "failed", "fault": "permanent"});
    let recovered = json!({"connection": "c1", "what": "recovered", "by": "automatic"});
    zombie.post(&site, "/v1/signals", &failed, Some("k1")).await.unwrap();
    if at.starts_with("recovering") || at.starts_with("sweeping") {
        sink.wait_for(1).await;
        // Frozen, it may not answer.
        let posted = zombie.post(&site, "/v1/signals", &recovered, Some("k2"));
        tokio::select! { _ = posted => {}, () = until(async || zombie.is_frozen()) => {} }
    }
    until(async || zombie.is_frozen()).await;
    let node = site.node("awake").await;
    let (status, answer) = node.post(&site, "/v1/signals", &recovered, Some("k2")).await.unwrap();
    assert!(matches!(status, 200 | 202), "{at}: {status} {answer}");
    site.settled().await;
    zombie.thaw();
    site.settled().await;
    site.audit().await;
    let heard: Vec<_> = sink.mails().iter().map(Heard::of).collect();
    // One that nobody knew about is repeated before the recovery is known: the same mail, taken back once.
    let count = |kind| {
        let ids = heard.iter().filter(|mail| mail.kind == kind).map(|mail| &mail.message_id);
        ids.collect::<HashSet<_>>().len()
    };
    let (asked, certain) = (count(Kind::Asks), count(Kind::TakesBack));
    let all = certain + count(Kind::MayTakeBack);
    assert!(certain <= asked && asked <= all, "{at}: each mail that left is taken back: {heard:?}");
    println!("zombies: frozen at {at}, the other node went on");
}

/// What the node believes the time is, by its answers' Date.
async fn clock(node: &Node) -> i64 {
    let mut stream = tokio::net::TcpStream::connect(&node.address).await.unwrap();
    let request = "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let date = answer.lines().find_map(|line| line.strip_prefix("date: ")).unwrap();
    jiff::fmt::rfc2822::parse(date).unwrap().timestamp().as_second()
}

fn now() -> i64 {
    allclear::store::open::system_time().0 / 1_000_000
}

const HOUR: i64 = 3_600;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_are_wrong_change_nothing() {
    let mut random = random();
    let size = Size { groups: 8, crowd: 8, recoveries: amount(100, 2_000), mails: 0, drained: true };
    let sink = Sink::start(Script::default()).await.unwrap();
    let mut storm = Storm::new(Site::new(On::Postgres, sink.port(), "").await, size).await;
    let folder = tempfile::tempdir().unwrap();
    let (offset, next) = (folder.path().join("offset"), folder.path().join("next"));
    std::fs::write(&offset, "+0").unwrap();
    let library = ("LD_PRELOAD", "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1");
    let library = [library, ("FAKETIME_DONT_FAKE_MONOTONIC", "1"), ("DONT_FAKE_MONOTONIC", "1")];
    let steps = [("FAKETIME_TIMESTAMP_FILE", offset.to_str().unwrap()), ("FAKETIME_NO_CACHE", "1")];
    storm.start("fast", &[&RACER[..], &library, &[("FAKETIME", "+1h")]].concat()).await;
    storm.start("slow", &[&RACER[..], &library, &[("FAKETIME", "-1h")]].concat()).await;
    storm.start("steps", &[&RACER[..], &library, &steps].concat()).await;
    let off = async |n: usize, hours: i64| (clock(&storm.nodes[n]).await - now() - hours * HOUR).abs() < 60;
    assert!(off(0, 1).await && off(1, -1).await && off(2, 0).await, "libfaketime does not work here");
    let stepping = async {
        until(async || storm.ears.count() > 20).await;
        std::fs::write(&next, "-1h").unwrap();
        std::fs::rename(&next, &offset).unwrap();
        // The Date of answers is not asked: the server makes it anew only when a second has passed.
        let mut date = std::process::Command::new("date");
        let said = date.arg("+%s").envs(library).envs(steps).output().unwrap();
        let said: i64 = String::from_utf8(said.stdout).unwrap().trim().parse().unwrap();
        assert!((said - now() + HOUR).abs() < 60, "the clock has not stepped back");
    };
    storm.rage(&sink, &mut random, stepping).await;
    let found = compare(&storm.ears.heard(), &storm.connections, &HashSet::new());
    println!(
        "clocks: an hour fast, slow, and stepping back: {} recoveries, {} mails, {} wrong, {} copies; {}",
        size.recoveries,
        found.asked,
        found.wrong.len(),
        found.copies.len(),
        found.after_recovery(),
    );
    assert_true(&found);
    assert!(found.copies.is_empty(), "nobody died, and mails came twice: {:?}", found.copies);
    storm.site.audit().await;
}
