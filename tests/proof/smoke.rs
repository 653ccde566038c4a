//! The harness itself: a node that stops at a failpoint is found stopped there, and what it held is not lost. And that
//! nodes of one database tell each other what comes in.

use crate::site::{Site, until};
use crate::support::On;
use allclear::mail::sink::{Script, Sink};
use serde_json::json;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_killed_where_it_stopped_leaves_its_mail_to_the_next() {
    let sink = Sink::start(Script::default()).await.unwrap();
    let site = Site::new(On::Sqlite, sink.port(), "").await;
    site.customers(1).await;
    let node = site.node_stopping_at("one", "armed:1").await;
    let signal = json!({"connection": "c1", "what": "failed", "fault": "permanent"});
    let (status, _) = node.post(&site, "/v1/signals", &signal, Some("k1")).await.unwrap();
    assert_eq!(status, 202);
    until(async || node.is_frozen()).await;
    assert_eq!(sink.count(), 0);
    node.kill();
    let _node = site.node("one").await;
    sink.wait_for(1).await;
    site.settled().await;
    site.audit().await;
    assert_eq!(sink.count(), 1);
}

const WAITS: &str = "SELECT COUNT(*) FROM delivery WHERE class = 'correction' AND reason = 'connection_open_again'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_settled_while_a_correction_that_waited_is_still_to_leave() {
    let sink = Sink::start(Script::default()).await.unwrap();
    let site = Site::new(On::Sqlite, sink.port(), "").await;
    site.customers(1).await;
    let tell = |said: &[&str]| assert!(site.command("two").args(said).output().unwrap().status.success(), "{said:?}");
    let failed = ["signal", "--connection", "c1", "--what", "failed", "--fault", "permanent"];
    let recovered = ["signal", "--connection", "c1", "--what", "recovered"];
    tell(&failed);
    let node = site.node("one").await;
    sink.wait_for(1).await;
    site.settled().await;
    node.kill();
    tell(&recovered);
    let node = site.node_stopping_at("one", "arming:1").await;
    until(async || node.is_frozen()).await;
    node.kill();
    // What takes the first mail back must wait, for the connection is broken again.
    tell(&failed);
    tell(&["hold", "--everything", "--reason", "the second mail comes later"]);
    let node = site.node("one").await;
    until(async || site.count(WAITS).await == 1).await;
    node.kill();
    // Then it takes the second back, too, of which nobody can know whether it arrived.
    tell(&["release", "--everything", "--reason", "now"]);
    let node = site.node_stopping_at("one", "body_written:1").await;
    until(async || node.is_frozen()).await;
    node.kill();
    tell(&recovered);
    let node = site.node_stopping_at("one", "arming:1").await;
    until(async || node.is_frozen()).await;
    assert!(!site.is_settled().await, "the correction has not left");
    node.kill();
    let _node = site.node("one").await;
    site.settled().await;
    site.audit().await;
    let last = String::from_utf8_lossy(&sink.mails().last().unwrap().body).replace("=\r\n", "");
    assert!(last.contains("disregard that mail"), "{last}");
}

const LISTENING: &str =
    "SELECT COUNT(*) FROM pg_stat_activity WHERE query = 'LISTEN \"allclear_' || md5(current_schema()) || '\"'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_process_takes_in_wakes_a_node_before_its_poll() {
    let sink = Sink::start(Script::default()).await.unwrap();
    let site = Site::new(On::Postgres, sink.port(), "").await;
    site.customers(1).await;
    let _node = site.node_with("one", &[("ALLCLEAR_DISPATCH__POLL_MILLISECONDS", "60000")]).await;
    until(async || site.count(LISTENING).await == 1).await;
    let mut signal = site.command("two");
    signal.args(["signal", "--connection", "c1", "--what", "failed", "--fault", "permanent"]);
    assert!(signal.status().unwrap().success());
    // Half of the poll: nothing else would have found it yet.
    tokio::time::timeout(Duration::from_secs(30), sink.wait_for(1)).await.expect("the node was not woken");
}
