//! What an operator does about a surge holds, whatever sources go on saying, and hides nothing that begins afterwards.

use super::surge::{ONCALL, START, act, asked, fail, fill, flood, open, surges, told, world, world_with};
use super::table::until;
use crate::on_both;
use crate::support::{On, World};
use allclear::domain::class::Class;
use allclear::domain::surge::Rules;
use allclear::domain::time::Span;
use allclear::flow::pace::Rate;
use allclear::flow::setting::Setting;
use allclear::flow::show;
use allclear::flow::surge::{self, Act, Asked};
use allclear::mail::sink::{Answer, Phase, Script};
use allclear::store::search::Cursor;
use allclear::store::surge as rows;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

on_both! {
    a_flood_after_the_one_that_was_released_by_hand_is_a_new_one;
    what_floods_when_those_of_before_have_had_their_time_has_one_of_its_own;
    what_is_held_by_hand_is_watched_where_nobody_looks_for_floods;
    who_releases_at_once_has_a_few_asked_first;
    a_release_lasts_while_the_relay_puts_off;
    the_few_are_asked_whatever_mail_they_had_today;
    a_source_that_repeats_itself_does_not_stop_a_release;
    a_source_that_says_it_anew_does;
    a_source_that_repeats_itself_when_all_were_asked_opens_nothing;
    what_operators_hold_is_no_reason_to_suspect_our_reports;
    what_is_released_while_our_reports_are_suspect_stays_released;
    what_only_watches_stays_ended;
    a_mail_whose_turn_has_not_come_does_not_wait_for_its_dwell;
}

async fn changed(on: On, connections: usize, script: Script, change: impl FnOnce(&mut Setting)) -> World {
    let w = World::with(on, START, script, |s| {
        s.surge = Some(Rules::default());
        s.operators.address = Some(ONCALL.to_owned());
        change(s);
    })
    .await;
    fill(&w, "outlook", "k", connections).await;
    w
}

/// A stream that takes two mails a minute.
async fn slow(on: On, connections: usize) -> World {
    changed(on, connections, Script::default(), |s| s.streams[0].caps.overall = Some(Rate::per_minute(2))).await
}

async fn a_flood_after_the_one_that_was_released_by_hand_is_a_new_one(on: On) {
    let mut w = slow(on, 200).await;
    fail(&w, "k", 0..80).await;
    w.pass(2).await;
    act(&w, &open(&w).await, Act::ReleaseRest).await.unwrap();
    until(&mut w, "2025-06-02T08:30:00Z").await;
    assert_eq!(surges(&w).await, ["flood releasing by_hand"]);
    fail(&w, "k", 100..160).await;
    w.pass(1).await;
    assert_eq!((surges(&w).await, told(&w).len()), (vec!["flood holding surge_returns".to_owned()], 2));
    let before = asked(&w).len();
    w.pass(30).await;
    assert_eq!(asked(&w).len(), before);
}

async fn what_floods_when_those_of_before_have_had_their_time_has_one_of_its_own(on: On) {
    let mut w = changed(on, 300, Script::default(), |s| {
        s.streams[0].caps.overall = Some(Rate::per_minute(2));
        s.limits.get_mut(&Class::ActionRequired).unwrap().longest_hold = Some(Span::hours(2));
    })
    .await;
    fail(&w, "k", 0..120).await;
    until(&mut w, "2025-06-02T09:40:00Z").await;
    act(&w, &open(&w).await, Act::ReleaseRest).await.unwrap();
    until(&mut w, "2025-06-02T10:20:00Z").await;
    assert_eq!(surges(&w).await, ["flood releasing by_hand"]);
    fail(&w, "k", 150..290).await;
    w.pass(2).await;
    assert_eq!(surges(&w).await, ["flood holding surge_returns"]);
    let before = asked(&w).len();
    w.pass(100).await;
    assert_eq!(asked(&w).len(), before, "{:?}", surges(&w).await);
}

async fn what_is_held_by_hand_is_watched_where_nobody_looks_for_floods(on: On) {
    let mut w = world_with(on, 400, None).await;
    let why = Asked { who: "jo", reason: "their page is red" };
    surge::hold(&w.store, &w.shared.setting, "outlook", None, why).await.unwrap();
    for n in 0..30 {
        fail(&w, "k", 4 * n..4 * n + 4).await;
        w.pass(1).await;
    }
    assert_eq!((surges(&w).await, asked(&w)), (vec!["flood holding still_failing".to_owned()], vec![]));
}

async fn who_releases_at_once_has_a_few_asked_first(on: On) {
    let mut w = world(on, 200).await;
    fail(&w, "k", 0..60).await;
    w.pass(1).await;
    // All are still in their dwell.
    act(&w, &open(&w).await, Act::Release).await.unwrap();
    until(&mut w, "2025-06-02T08:10:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await), (20, vec!["flood canary by_hand".to_owned()]));
    assert_eq!(told(&w).len(), 1, "whoever released it knows");
    until(&mut w, "2025-06-02T08:20:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await), (60, vec!["flood over nobody_waits".to_owned()]));
    // That nobody could be asked yet, and the few were chosen anew, is not told again and again.
    let journal = w.query("SELECT action FROM journal WHERE action LIKE 'surge%' ORDER BY n").await;
    let journal: Vec<_> = journal.iter().map(|row| row[0].clone().unwrap()).collect();
    assert_eq!(journal, ["surge canary", "surge releasing", "surge over"]);
}

async fn a_release_lasts_while_the_relay_puts_off(on: On) {
    let grey = Arc::new(AtomicBool::new(false));
    let puts_off = Arc::clone(&grey);
    let script = Script::default().answering(move |at, _, _| {
        (at == Phase::Rcpt && puts_off.load(Ordering::Relaxed)).then(|| Answer::reply(at, "451 4.7.1 come back later"))
    });
    let mut w = changed(on, 300, script, |_| {}).await;
    fail(&w, "k", 0..60).await;
    until(&mut w, "2025-06-02T08:28:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await), (20, vec!["flood canary calm".to_owned()]));
    grey.store(true, Ordering::Relaxed);
    until(&mut w, "2025-06-02T08:35:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await), (20, vec!["flood releasing canary_well".to_owned()]));
    let spared = (0..60).map(|n| format!("k{n}")).filter(|key| !asked(&w).contains(key)).take(12);
    for key in spared.collect::<Vec<_>>() {
        w.recovered(&key, "automatic").await;
    }
    w.pass(1).await;
    assert_eq!(surges(&w).await, ["flood holding recoveries_rise"]);
    grey.store(false, Ordering::Relaxed);
    w.pass(10).await;
    assert_eq!(asked(&w).len(), 20);
}

async fn the_few_are_asked_whatever_mail_they_had_today(on: On) {
    let once = |s: &mut Setting| s.limits.get_mut(&Class::ActionRequired).unwrap().daily_mails = Some(1);
    let mut w = changed(on, 200, Script::default(), once).await;
    for n in 0..5 {
        fail(&w, "k", 3 * n..3 * n + 3).await;
        w.pass(20).await;
    }
    assert_eq!(asked(&w).len(), 15);
    for n in 0..15 {
        w.recovered(&format!("k{n}"), "customer").await;
    }
    until(&mut w, "2025-06-02T12:00:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await), (15, vec![]));
    fail(&w, "k", 0..60).await;
    until(&mut w, "2025-06-02T12:40:00Z").await;
    assert_eq!(surges(&w).await, ["flood over nobody_waits"]);
    assert!(asked(&w).len() >= 15 + 20 + 25, "{}", asked(&w).len());
}

/// Released by hand while a source says that the component is down; few have been asked yet.
async fn overruled(on: On) -> World {
    let mut w = slow(on, 200).await;
    fail(&w, "k", 0..60).await;
    w.pass(2).await;
    w.down("outlook").await;
    act(&w, &open(&w).await, Act::ReleaseRest).await.unwrap();
    w.pass(8).await;
    w
}

async fn a_source_that_repeats_itself_does_not_stop_a_release(on: On) {
    let mut w = overruled(on).await;
    assert!(asked(&w).len() < 20);
    // Nor does news that is older than what it said.
    let old = json!({"component": "outlook", "what": "recovered", "observed_at": START});
    assert_eq!(w.signal(old).await.outcome.as_str(), "stale_at_birth");
    w.down("outlook").await;
    w.pass(60).await;
    assert_eq!((asked(&w).len(), surges(&w).await), (60, vec!["flood over nobody_waits".to_owned()]));
}

async fn a_source_that_says_it_anew_does(on: On) {
    let mut w = overruled(on).await;
    w.up("outlook").await;
    w.pass(1).await;
    w.down("outlook").await;
    w.pass(1).await;
    let before = asked(&w).len();
    assert_eq!((surges(&w).await, told(&w).len()), (vec!["flood holding component_down".to_owned()], 2));
    w.pass(60).await;
    assert_eq!(asked(&w).len(), before);
    // And may be overruled once more.
    act(&w, &open(&w).await, Act::ReleaseRest).await.unwrap();
    w.pass(60).await;
    assert_eq!((asked(&w).len(), surges(&w).await), (60, vec!["flood over nobody_waits".to_owned()]));
}

async fn a_source_that_repeats_itself_when_all_were_asked_opens_nothing(on: On) {
    let mut w = overruled(on).await;
    w.pass(60).await;
    assert_eq!((asked(&w).len(), surges(&w).await), (60, vec!["flood over nobody_waits".to_owned()]));
    let down = "SELECT key FROM component WHERE down_since IS NOT NULL";
    assert_eq!(w.down("outlook").await.outcome.as_str(), "repeated");
    assert!(w.query(down).await.is_empty());
    w.broken("k100").await;
    w.pass(7).await;
    assert_eq!(asked(&w).last().map(String::as_str), Some("k100"));
    // Once it has said that it is back, what it says is news.
    w.up("outlook").await;
    assert_eq!(w.down("outlook").await.outcome.as_str(), "recorded");
    assert_eq!(w.query(down).await.len(), 1);
}

async fn what_operators_hold_is_no_reason_to_suspect_our_reports(on: On) {
    let mut w = world(on, 5).await;
    fill(&w, "other", "o", 5).await;
    let why = Asked { who: "jo", reason: "their data centre is being moved" };
    for component in ["a", "b", "c"] {
        fill(&w, component, component, 3).await;
        surge::hold(&w.store, &w.shared.setting, component, None, why).await.unwrap();
    }
    w.broken("a0").await;
    w.broken("o0").await;
    w.pass(8).await;
    assert_eq!((surges(&w).await.len(), asked(&w)), (3, vec!["o0".to_owned()]));
}

async fn what_is_released_while_our_reports_are_suspect_stays_released(on: On) {
    let mut w = world(on, 60).await;
    for (component, prefix) in [("gmail", "g"), ("imap", "i")] {
        fill(&w, component, prefix, 60).await;
    }
    for prefix in ["k", "g", "i"] {
        fail(&w, prefix, 0..20).await;
    }
    w.pass(2).await;
    let all = rows::open(&mut w.store.read().await.unwrap()).await.unwrap();
    let of = |key: Option<&str>| all.iter().find(|s| s.component.as_deref() == key).unwrap();
    act(&w, of(Some("outlook")), Act::ReleaseRest).await.unwrap();
    w.pass(2).await;
    assert_eq!(asked(&w), [""; 0], "everybody's mail is held");
    act(&w, of(None), Act::Release).await.unwrap();
    w.pass(5).await;
    let mut got = asked(&w);
    got.sort();
    got.dedup();
    assert!(got.len() == 20 && got.iter().all(|key| key.starts_with('k')), "{got:?}");
}

async fn what_only_watches_stays_ended(on: On) {
    let mut w = world(on, 120).await;
    for n in 0..50 {
        w.broken(&format!("k{n}")).await;
        w.pass(2).await;
    }
    assert_eq!(surges(&w).await, ["slow holding still_failing"]);
    act(&w, &open(&w).await, Act::Release).await.unwrap();
    w.pass(10).await;
    assert_eq!((surges(&w).await, told(&w).len()), (vec!["slow over by_hand".to_owned()], 1));
    // As many again are news.
    for n in 50..110 {
        w.broken(&format!("k{n}")).await;
        w.pass(2).await;
    }
    assert_eq!(surges(&w).await.len(), 2);
}

async fn a_mail_whose_turn_has_not_come_does_not_wait_for_its_dwell(on: On) {
    let mut w = slow(on, 200).await;
    flood(&mut w).await;
    w.pass(1).await;
    act(&w, &open(&w).await, Act::ReleaseRest).await.unwrap();
    w.pass(8).await;
    let asked = show::Asked { setting: &w.shared.setting, after: Cursor::NEWEST, limit: 10 };
    let shown = show::anything(&mut w.store.read().await.unwrap(), asked, "k24").await.unwrap();
    let told = serde_json::to_string(&shown).unwrap();
    assert!(told.contains("\"state\":\"queued\"") && !told.contains("heals by itself"), "{told}");
}
