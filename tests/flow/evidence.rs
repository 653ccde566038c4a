//! What is evidence of an outage and what is not, and who belongs to an outage that was seen: told in lines, late, or in part.

use super::surge::{START, asked, fail, flood, recover, surges, world};
use super::table::until;
use crate::on_both;
use crate::support::{On, World, t};
use allclear::domain::time::Span;
use allclear::flow::bulk;
use allclear::flow::surge::{self, Act, Asked};
use allclear::store::surge as rows;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncWriteExt, BufReader};

on_both! {
    what_was_over_before_it_was_told_is_no_flood;
    a_connection_that_failed_often_is_one;
    what_a_recovery_ends_in_the_same_lines_opens_nothing;
    what_a_recovery_speaks_for_in_the_same_lines_opens_nothing;
    what_failed_before_its_component_was_back_opens_nothing;
    a_down_that_comes_after_the_up_that_ended_it_opens_nothing;
    what_is_said_in_one_moment_is_taken_in_its_order;
    who_is_left_out_of_a_recovery_waits_to_reconnect;
    what_is_told_after_an_outage_and_was_before_it_is_none_of_it;
    many_that_are_told_after_an_outage_and_were_before_it_are_a_flood;
    who_fails_after_an_outage_does_not_wait_for_who_has_not_come_back;
    connections_that_come_and_go_are_a_flood_too;
    those_whose_patience_ended_belong_to_the_outage_they_make;
    those_who_were_to_heal_and_do_not_belong_to_it_too;
    those_who_were_reported_late_belong_to_it_too;
    what_is_released_at_once_stays_released;
    a_line_is_answered_before_the_next_is_said;
}

/// Says all of this in lines, as one batch.
async fn lines(w: &World, said: impl IntoIterator<Item = Value>) {
    let text: String = said.into_iter().map(|line| format!("{line}\n")).collect();
    let setting = w.shared.setting.ingest();
    let hear = |line: bulk::Line| line.answer.map(|_| true).unwrap();
    bulk::run(&w.store, &setting, &w.caller(), BufReader::new(text.as_bytes()), hear).await.unwrap();
}

fn failed(key: &str, at: &str) -> Value {
    json!({"connection": key, "what": "failed", "fault": "permanent", "observed_at": at})
}

fn healed(key: &str, at: &str) -> Value {
    json!({"connection": key, "what": "recovered", "by": "automatic", "observed_at": at})
}

/// Its component was down for twenty minutes from the beginning, and is back.
async fn after_an_outage(on: On) -> World {
    let mut w = world(on, 60).await;
    w.down("outlook").await;
    until(&mut w, "2025-06-02T08:20:00Z").await;
    w.up("outlook").await;
    w.pass(5).await;
    w
}

async fn is_down(w: &World) -> bool {
    !w.query("SELECT key FROM component WHERE down_since IS NOT NULL").await.is_empty()
}

async fn what_was_over_before_it_was_told_is_no_flood(on: On) {
    let mut w = world(on, 60).await;
    let keys: Vec<_> = (0..30).map(|n| format!("k{n}")).collect();
    let past = keys.iter().map(|key| failed(key, "2025-06-01T08:00:00Z"));
    lines(&w, past.chain(keys.iter().map(|key| healed(key, "2025-06-01T08:10:00Z")))).await;
    w.pass(10).await;
    assert_eq!((surges(&w).await, asked(&w)), (vec![], vec![]));
    // And no more is learnt of it than that nothing failed: a flood of now is seen.
    fail(&w, "k", 0..30).await;
    w.pass(2).await;
    assert_eq!(surges(&w).await, ["flood holding opened"]);
}

async fn a_connection_that_failed_often_is_one(on: On) {
    let mut w = world(on, 3).await;
    let hour = |n: i64| (t("2025-06-01T08:00:00Z") + Span::minutes(20 * n)).to_string();
    let past = (0..20).flat_map(|n| [failed("k0", &hour(2 * n)), healed("k0", &hour(2 * n + 1))]);
    lines(&w, past.chain([failed("k0", START)])).await;
    w.pass(10).await;
    assert_eq!((surges(&w).await, asked(&w)), (vec![], vec!["k0".to_owned()]));
}

async fn what_a_recovery_ends_in_the_same_lines_opens_nothing(on: On) {
    let mut w = world(on, 60).await;
    let component = |what: &str, at: &str| json!({"component": "outlook", "what": what, "observed_at": at});
    let down = [component("failed", "2025-06-02T07:30:00Z")];
    let failures = (0..30).map(|n| failed(&format!("k{n}"), "2025-06-02T07:40:00Z"));
    lines(&w, down.into_iter().chain(failures).chain([component("recovered", "2025-06-02T07:50:00Z")])).await;
    w.pass(20).await;
    assert_eq!((surges(&w).await, asked(&w), is_down(&w).await), (vec![], vec![], false));
}

async fn what_a_recovery_speaks_for_in_the_same_lines_opens_nothing(on: On) {
    let mut w = world(on, 60).await;
    let failures = (0..30).map(|n| failed(&format!("k{n}"), "2025-06-02T07:55:00Z"));
    let down = json!({"component": "outlook", "what": "failed", "observed_at": "2025-06-02T07:58:00Z"});
    let back =
        json!({"component": "outlook", "what": "recovered", "connections": "all", "since": "2025-06-02T07:50:00Z"});
    lines(&w, failures.chain([down, back])).await;
    w.pass(20).await;
    assert_eq!((surges(&w).await, asked(&w), is_down(&w).await), (vec![], vec![], false));
}

async fn what_failed_before_its_component_was_back_opens_nothing(on: On) {
    let mut w = after_an_outage(on).await;
    for n in 0..30 {
        w.signal(failed(&format!("k{n}"), "2025-06-02T08:10:00Z")).await;
    }
    w.pass(20).await;
    assert_eq!((surges(&w).await, asked(&w), is_down(&w).await), (vec![], vec![], false));
}

/// A source without sequences that says again what got no answer: what ended it was said meanwhile.
async fn a_down_that_comes_after_the_up_that_ended_it_opens_nothing(on: On) {
    let w = after_an_outage(on).await;
    assert_eq!(w.up("outlook").await.outcome.as_str(), "repeated");
    let late = json!({"component": "outlook", "what": "failed", "observed_at": "2025-06-02T08:22:00Z"});
    assert_eq!(w.signal(late).await.outcome.as_str(), "stale_at_birth");
    assert!(!is_down(&w).await);
    w.down("outlook").await;
    assert!(is_down(&w).await);
}

async fn what_is_said_in_one_moment_is_taken_in_its_order(on: On) {
    let w = world(on, 1).await;
    let say = |what: &str| json!({"component": "outlook", "what": what});
    lines(&w, [say("failed"), say("recovered"), say("failed")]).await;
    assert!(is_down(&w).await);
    lines(&w, [say("recovered"), say("failed"), say("recovered")]).await;
    assert!(!is_down(&w).await);
}

async fn who_is_left_out_of_a_recovery_waits_to_reconnect(on: On) {
    let mut w = world(on, 60).await;
    flood(&mut w).await;
    until(&mut w, "2025-06-02T08:20:00Z").await;
    let since = "2025-06-02T08:00:30Z";
    w.signal(json!({"component": "outlook", "what": "recovered", "connections": "all", "since": since})).await;
    until(&mut w, "2025-06-02T09:00:00Z").await;
    // The first ten failed before that: nobody has spoken for them, and they may come back as the others do.
    assert_eq!(asked(&w), [""; 0]);
    let waiting = w.query("SELECT reason FROM delivery WHERE state = 'queued'").await;
    assert_eq!(waiting, vec![[Some("awaiting_reconnection".to_owned())]; 10]);
    recover(&w, 0..9).await;
    recover(&w, 10..25).await;
    until(&mut w, "2025-06-02T20:10:00Z").await;
    assert_eq!(asked(&w), ["k9"]);
}

async fn what_is_told_after_an_outage_and_was_before_it_is_none_of_it(on: On) {
    let mut w = after_an_outage(on).await;
    w.signal(failed("k0", "2025-06-02T07:00:00Z")).await;
    w.pass(10).await;
    assert_eq!(asked(&w), ["k0"]);
}

async fn many_that_are_told_after_an_outage_and_were_before_it_are_a_flood(on: On) {
    let mut w = after_an_outage(on).await;
    for n in 0..30 {
        w.signal(failed(&format!("k{n}"), "2025-06-02T07:50:00Z")).await;
    }
    w.pass(10).await;
    assert_eq!((asked(&w), surges(&w).await), (vec![], vec!["flood holding opened".to_owned()]));
}

async fn who_fails_after_an_outage_does_not_wait_for_who_has_not_come_back(on: On) {
    let mut w = world(on, 1).await;
    w.connection("second", "outlook", "k0").await;
    w.down("outlook").await;
    w.broken("k0").await;
    until(&mut w, "2025-06-02T09:00:00Z").await;
    w.up("outlook").await;
    until(&mut w, "2025-06-02T12:00:00Z").await;
    w.broken("second").await;
    w.pass(7).await;
    assert_eq!(asked(&w), ["k0"]);
    let mail = w.all()[0].text();
    assert!(mail.contains("Inbox second") && !mail.contains("Inbox k0"), "{mail}");
}

async fn connections_that_come_and_go_are_a_flood_too(on: On) {
    let mut w = world(on, 60).await;
    let keys: Vec<_> = (0..30).map(|n| format!("k{n}")).collect();
    let flap = keys.iter().map(|key| failed(key, "2025-06-02T07:59:00Z"));
    lines(&w, flap.chain(keys.iter().map(|key| healed(key, "2025-06-02T07:59:20Z")))).await;
    w.pass(1).await;
    lines(&w, keys.iter().map(|key| failed(key, START))).await;
    w.pass(10).await;
    assert_eq!((asked(&w).len(), surges(&w).await.len()), (0, 1));
}

/// So many that were to heal by themselves are taken for permanent, and their component is then said to be well.
async fn declared_well(mut w: World) -> World {
    until(&mut w, "2025-06-02T11:10:00Z").await;
    assert_eq!((asked(&w), surges(&w).await), (vec![], vec!["flood holding opened".to_owned()]));
    w.signal(json!({"component": "outlook", "what": "recovered", "connections": "all"})).await;
    until(&mut w, "2025-06-02T16:00:00Z").await;
    w
}

fn soft(n: usize) -> Value {
    json!({"connection": format!("k{n}"), "what": "failed", "fault": "recoverable"})
}

async fn those_whose_patience_ended_belong_to_the_outage_they_make(on: On) {
    let mut w = world(on, 60).await;
    until(&mut w, "2025-06-02T10:00:00Z").await;
    for n in 0..25 {
        w.signal(soft(n)).await;
    }
    let w = declared_well(w).await;
    assert_eq!(asked(&w), [""; 0]);
}

async fn those_who_were_to_heal_and_do_not_belong_to_it_too(on: On) {
    let mut w = world(on, 60).await;
    for n in 0..25 {
        w.signal(soft(n)).await;
    }
    // Less than the patience ago, and longer than a surge is dated back.
    w.execute("UPDATE connection SET failed_at = failed_at - 14400000000, broken_since = broken_since - 14400000000")
        .await;
    fail(&w, "k", 0..25).await;
    until(&mut w, "2025-06-02T08:10:00Z").await;
    w.signal(json!({"component": "outlook", "what": "recovered", "connections": "all"})).await;
    until(&mut w, "2025-06-02T13:00:00Z").await;
    assert_eq!(asked(&w), [""; 0]);
}

async fn those_who_were_reported_late_belong_to_it_too(on: On) {
    let mut w = world(on, 60).await;
    for n in 0..25 {
        w.signal(failed(&format!("k{n}"), "2025-06-02T05:00:00Z")).await;
    }
    until(&mut w, "2025-06-02T08:10:00Z").await;
    assert_eq!(surges(&w).await, ["flood holding opened"]);
    w.up("outlook").await;
    until(&mut w, "2025-06-02T13:00:00Z").await;
    assert_eq!(asked(&w), [""; 0]);
}

async fn what_is_released_at_once_stays_released(on: On) {
    let mut w = world(on, 100).await;
    flood(&mut w).await;
    until(&mut w, "2025-06-02T08:03:00Z").await;
    let open = rows::open(&mut w.store.read().await.unwrap()).await.unwrap().pop().unwrap();
    let why = Asked { who: "jo", reason: "these are truly broken" };
    surge::act(&w.store, &w.shared.setting, open.id, Act::ReleaseRest, why).await.unwrap();
    w.pass(1).await;
    assert_eq!(surges(&w).await, ["flood releasing by_hand"]);
    until(&mut w, "2025-06-02T08:15:00Z").await;
    assert_eq!(asked(&w).len(), 25);
}

async fn a_line_is_answered_before_the_next_is_said(on: On) {
    let w = world(on, 2).await;
    let (mut said, input) = tokio::io::duplex(4096);
    let (heard, mut answers) = tokio::sync::mpsc::unbounded_channel();
    let setting = w.shared.setting.ingest();
    let caller = w.caller();
    let hear = |line: bulk::Line| heard.send(line.number).is_ok();
    let running = bulk::run(&w.store, &setting, &caller, BufReader::new(input), hear);
    let saying = async {
        for n in 1..=2 {
            said.write_all(format!("{}\n", soft(n - 1)).as_bytes()).await.unwrap();
            let answer = tokio::time::timeout(Duration::from_secs(30), answers.recv()).await;
            assert_eq!(answer.unwrap(), Some(n as u64), "its line is answered while the input is open");
        }
        drop(said);
    };
    assert_eq!(tokio::join!(running, saying).0.unwrap(), 2);
}
