//! Disks that are full, under load: what cannot be kept is not accepted, and all goes on by itself once there is room.

use super::Ground;
use crate::amount;
use crate::cluster::{Cluster, fill, small_disk, unprivileged_user};
use crate::site::until;
use std::collections::BTreeMap;
use tokio::task::block_in_place;

/// Refused so often, the disk is known to be full.
const REFUSED: u64 = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_and_its_disk_is_full() {
    sqlite("faults::disk::sqlite_and_its_disk_is_full", false).await;
}

/// As by default: then outcomes can neither be recorded nor spilled, and are kept until they can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_and_the_disk_of_its_spill_file_is_full_too() {
    sqlite("faults::disk::sqlite_and_the_disk_of_its_spill_file_is_full_too", true).await;
}

async fn sqlite(test: &str, spill_too: bool) {
    let Some(disk) = small_disk(test, 128) else { return };
    let mut random = amount::random();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", disk.join("allclear.db").display());
    let spill = if spill_too { &disk } else { folder.path() }.join("spill");
    let env = [("ALLCLEAR_DISPATCH__SPILL_FILE", spill.to_str().unwrap())];
    let mut ground = Ground::on(url, &env, &mut random).await;
    let times = amount::amount(2, 20);
    for _ in 0..times {
        ground.goes_on(20).await;
        let filled = fill(&disk);
        refused(&ground).await;
        std::fs::remove_file(filled).unwrap();
        ground.is_back().await;
    }
    let refusals = ground.load().refusals();
    let (counts, slowest) = ground.judged().await;
    check(&refusals);
    until(async || !spill.exists()).await;
    println!(
        "SQLite, its spill file on the same disk {spill_too}, full {times} times: sending again after {slowest:?} at most; {refusals:?}; {counts}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_and_its_disk_is_full() {
    if unprivileged_user().is_none() {
        println!("not checked: PostgreSQL on a disk of its own needs root here, and a user to run it as");
        return;
    }
    let Some(disk) = small_disk("faults::disk::postgres_and_its_disk_is_full", 256) else { return };
    let mut random = amount::random();
    let cluster = Cluster::start_in(&disk);
    cluster.set("max_wal_size", Some("'64MB'")).await;
    let mut ground = Ground::on(cluster.url(), &[], &mut random).await;
    let times = amount::amount(2, 20);
    for _ in 0..times {
        ground.goes_on(20).await;
        println!("{} mails, now the disk is filled", ground.sink.count());
        let filled = fill(&disk);
        refused(&ground).await;
        println!("refused: {:?}", ground.load().refusals());
        std::fs::remove_file(filled).unwrap();
        // A server that could not write its log has ended itself, and its operator starts it again.
        while ground.site.try_count("SELECT CAST(1 AS BIGINT)").await.is_err() {
            block_in_place(|| cluster.start_again());
        }
        ground.is_back().await;
    }
    let refusals = ground.load().refusals();
    let (counts, slowest) = ground.judged().await;
    check(&refusals);
    println!("PostgreSQL, full {times} times: sending again after {slowest:?} at most; {refusals:?}; {counts}");
}

/// Waits until callers are told that nothing can be taken now.
async fn refused(ground: &Ground) {
    let so_far = |ground: &Ground| ground.load().refusals().values().sum::<u64>();
    let before = so_far(ground);
    until(async || so_far(ground) >= before + REFUSED).await;
    // What was on the wire comes back meanwhile, and finds no room.
    loop {
        let (heard, before) = (ground.sink.count(), so_far(ground));
        until(async || so_far(ground) >= before + REFUSED).await;
        if ground.sink.count() == heard {
            break;
        }
    }
}

fn check(refusals: &BTreeMap<String, u64>) {
    assert!(refusals.keys().all(|said| said.starts_with("503 ")), "{refusals:?}");
}
