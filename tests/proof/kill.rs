//! `kill -9` from outside, at random moments and at every named point, under load. Nothing accepted is lost, and a
//! second copy is only where nobody can know.

use crate::amount::{self, amount};
use crate::load::{self, Running};
use crate::site::{Node, Site, until};
use crate::support::On;
use crate::verdict::judge;
use allclear::failpoint::POINTS;
use allclear::mail::sink::{Script, Sink};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a point may take to be reached: some need a lease to run out first.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sqlite() {
    killed(On::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres() {
    killed(On::Postgres).await;
}

async fn killed(on: On) {
    let mut random = amount::random();
    let sink = Sink::start(Script::default()).await.unwrap();
    let site = Arc::new(Site::new(on, sink.port(), load::SETTINGS).await);
    let running = Running::start(&site, amount(80, 4_000), &mut random).await;
    let begun = Instant::now();
    let mut hits: BTreeMap<String, u64> = BTreeMap::new();
    let stops = stops(amount(20, 500), &mut random);
    for stop in &stops {
        let took = end_at(&site, &running, stop, &mut random).await;
        println!("{:?}: {took}, {} accepted", begun.elapsed(), running.load.accepted.load(Ordering::SeqCst));
        *hits.entry(took).or_default() += 1;
    }
    let node = site.node("one").await;
    running.load.open(&node.address);
    let enough = amount(0, 100_000);
    until(async || running.load.accepted.load(Ordering::SeqCst) >= enough).await;
    let ledger = running.end().await;
    let counts = judge(&site, &node, &sink, &ledger).await;
    assert!(counts.copies <= stops.len() as u64 * load::SLOTS, "{counts}");
    // Each of them was on the wire at two kills.
    assert!(counts.given_up as u64 <= stops.len() as u64 * load::SLOTS / 2, "{counts}");
    let missed: Vec<_> = points().filter(|point| !hits.contains_key(*point)).collect();
    assert!(missed.is_empty(), "never killed at {missed:?}: {hits:?}");
    println!("{on:?}: {} kills {hits:?}: {counts}", stops.len());
}

/// Every point that a mail passes while its database answers.
fn points() -> impl Iterator<Item = &'static str> {
    POINTS.iter().copied().filter(|point| *point != "spilled")
}

/// Where to end the program: each point in turn, and once a round at any moment. What is reaped must have been
/// left behind, so those two come after others that leave something.
fn stops(kills: u64, random: &mut StdRng) -> Vec<Option<&'static str>> {
    let mut stops = Vec::new();
    while (stops.len() as u64) < kills {
        let mut round: Vec<_> = points().filter(|point| !point.starts_with("reap")).map(Some).collect();
        round.shuffle(random);
        for reap in ["reaped", "reaping"] {
            let place = random.random_range(1..=round.len());
            round.splice(place..place, [Some("armed"), Some(reap)]);
        }
        round.insert(random.random_range(0..=round.len()), None);
        stops.extend(round);
    }
    stops
}

/// Starts a node, ends it where it is told to, and says where it was ended.
async fn end_at(site: &Arc<Site>, running: &Running, stop: &Option<&'static str>, random: &mut StdRng) -> String {
    let mut command = site.command("one");
    command.arg("serve");
    if let Some(point) = stop {
        // Late enough for what the kill before left to be decided: what is lost again and again is given up. In a deep
        // run later still: much is accepted between two kills.
        let most = amount(4, 48);
        let nth = match *point {
            "reaping" | "reaped" => 1,
            "correcting" | "recovering" | "recovered" | "sweeping" | "swept" => random.random_range(1..=most),
            _ => random.random_range(4..=4 * most),
        };
        command.env("ALLCLEAR_TEST_FAILPOINT", format!("{point}:{nth}"));
    }
    let Some(node) = Node::start(command).await else { return stop.expect("it ended by itself").to_owned() };
    running.load.open(&node.address);
    let Some(point) = stop else {
        tokio::time::sleep(Duration::from_millis(random.random_range(0..400))).await;
        node.kill();
        return "random".to_owned();
    };
    let begun = Instant::now();
    until(async || node.is_frozen() || begun.elapsed() > PATIENCE).await;
    let frozen = node.is_frozen();
    node.kill();
    if frozen { (*point).to_owned() } else { format!("random, for {point} was not reached") }
}
