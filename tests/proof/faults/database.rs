//! A PostgreSQL server that dies and comes back, and backends that are ended, under load.

use super::{Ground, QUARANTINE};
use crate::amount;
use crate::cluster::Cluster;
use crate::site::{Node, until};
use allclear::store::record::Settled;
use rand::RngExt;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::block_in_place;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_at_once_and_started_again() {
    let mut random = amount::random();
    let cluster = Cluster::start();
    let mut ground = Ground::on(cluster.url(), &[], &mut random).await;
    let stops = amount::amount(5, 50);
    for n in 0..stops {
        ground.goes_on(20).await;
        block_in_place(|| cluster.stop_at_once());
        // One in five longer than a lease, and than anybody waits for a connection.
        let away = if n % 5 == 2 { 12_000 } else { random.random_range(500..2_500) };
        tokio::time::sleep(Duration::from_millis(away)).await;
        assert!(block_in_place(|| cluster.start_again()));
        ground.is_back().await;
    }
    let refusals = ground.load().refusals();
    let (counts, slowest) = ground.judged().await;
    assert!(refusals.keys().all(|said| said.starts_with("503 ")), "{refusals:?}");
    println!("{stops} stops: sending again after {slowest:?} at most; {refusals:?}; {counts}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backends_are_ended() {
    let mut random = amount::random();
    let cluster = Cluster::start();
    let mut ground = Ground::on(cluster.url(), &[], &mut random).await;
    let times = amount::amount(20, 500);
    for _ in 0..times {
        tokio::time::sleep(Duration::from_millis(random.random_range(0..500))).await;
        cluster
            .run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
            )
            .await;
        ground.is_back().await;
    }
    // The node's name is still its own: nobody may take what it holds for left behind.
    let locks = "SELECT COUNT(*) FROM pg_locks WHERE locktype = 'advisory'";
    until(async || ground.site.count(locks).await == 1).await;
    let mut second = ground.site.command("one");
    second.arg("serve");
    assert!(Node::start(second).await.is_none(), "two processes dispatch under one name");
    let refusals = ground.load().refusals();
    let (counts, slowest) = ground.judged().await;
    println!("all backends ended {times} times: sending again after {slowest:?} at most; {refusals:?}; {counts}");
}

/// Killed with the relay's answer in the spill file alone: the next process finds it there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_spilled_outlives_the_process() {
    let mut random = amount::random();
    let cluster = Cluster::start();
    let ground = Ground::on(cluster.url(), &[("ALLCLEAR_TEST_FAILPOINT", "spilled:1")], &mut random).await;
    ground.goes_on(20).await;
    block_in_place(|| cluster.stop_at_once());
    until(async || ground.node.is_frozen()).await;
    // The sweep may have begun to merge it before the process stood still.
    let home = ground.site.home("one");
    let files = ["allclear.merging", "allclear.spill"].map(|name| std::fs::read_to_string(home.join(name)));
    let spilled: String = files.into_iter().flatten().collect();
    let mut lines = spilled.lines().map(|line| serde_json::from_str::<Settled>(line).unwrap());
    let spilled = lines.find(|one| one.outcome.is_some()).unwrap();
    let Ground { site, sink, node, running, .. } = ground;
    node.kill();
    assert!(block_in_place(|| cluster.start_again()));
    let node = site.node_with("one", &[QUARANTINE]).await;
    running.load.open(&node.address);
    let before = running.load.accepted.load(Ordering::SeqCst);
    until(async || running.load.accepted.load(Ordering::SeqCst) > before).await;
    let ledger = running.end().await;
    let counts = crate::verdict::judge(&site, &node, &sink, &ledger).await;
    let header = format!("X-Allclear-Notice: {}", spilled.id);
    let copies = sink.mails().iter().filter(|mail| String::from_utf8_lossy(&mail.body).contains(&header)).count();
    let outcome = spilled.outcome.unwrap().hand_over.as_str();
    assert!(outcome != "accepted" || copies == 1, "{copies} copies of a mail whose acceptance was spilled");
    println!("killed with `{outcome}` in the spill file alone: {copies} copy of that mail; {counts}");
}
