//! The harness itself: a node that stops at a failpoint is found stopped there, and what it held is not lost.

use crate::site::{Site, until};
use crate::support::On;
use allclear::mail::sink::{Script, Sink};
use serde_json::json;

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
