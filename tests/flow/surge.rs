//! Surges: a flood of permanent failures is its provider's outage. Nobody is asked, the operators are told once, what
//! heals is never mailed, and those truly broken are told all the same.

use super::by_hand::{arm, record, taken};
use super::table::until;
use crate::on_both;
use crate::support::{On, World, t};
use allclear::config::{Secret, Webhook};
use allclear::domain::class::Class;
use allclear::domain::delivery::{Reason, State};
use allclear::domain::hold::{HoldCause, HoldScope};
use allclear::domain::surge::Rules;
use allclear::domain::time::{Span, Timestamp};
use allclear::flow::pace::{Caps, Rate};
use allclear::flow::show;
use allclear::flow::surge::{self, Act, Acted, Asked};
use allclear::mail::sink::{Answer, Envelope, Phase, Script};
use allclear::store::holds::{self, HoldRow};
use allclear::store::record::Settled;
use allclear::store::search::{self, Cursor, Filter};
use allclear::store::surge as rows;
use serde_json::json;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

on_both! {
    a_flood_opens_an_outage_dated_back_and_nobody_is_asked_but_the_operators_are_told_once;
    a_recovery_that_covers_all_ends_it_and_who_does_not_confirm_is_asked;
    a_plain_recovery_ends_it_and_those_not_reconnected_wait_for_the_longest_hold;
    who_cannot_be_recovered_is_told_within_a_surge;
    after_a_calm_time_a_few_are_asked_and_then_the_rest;
    a_release_that_was_wrong_stops_itself_and_corrections_leave_at_once;
    who_cannot_be_recovered_is_told_also_where_a_release_is_stopped;
    a_canary_that_waits_is_told_what_is_proven_of_itself;
    a_canary_that_was_on_the_wire_when_its_surge_ended_waits_like_the_others;
    what_a_source_reports_in_the_moment_in_which_a_surge_begins_is_not_the_surge_s_own;
    what_a_source_reports_while_a_release_runs_is_not_given_up_with_it;
    a_source_that_reports_late_is_heard_after_a_release;
    a_canary_is_of_those_whose_time_has_come;
    of_a_second_canary_most_must_have_left_too;
    a_cap_of_a_domain_keeps_a_release_watched_and_no_correction_waiting;
    when_most_are_broken_only_the_longest_hold_asks;
    one_mailbox_that_is_full_keeps_nobody_waiting;
    what_a_source_says_is_down_as_well_is_not_released_because_it_is_calm;
    the_last_incident_that_reports_a_flood_s_outage_ends_it;
    of_an_outage_that_lasts_a_few_are_asked_first;
    of_a_second_dip_too_a_few_are_asked_first;
    who_joins_another_waits_no_longer_for_it_than_the_longest_hold;
    whom_a_relay_put_off_before_an_outage_waits_no_longer_than_the_longest_hold;
    asking_during_an_outage_stops_when_connections_recover;
    a_second_dip_is_a_new_outage;
    a_dip_in_the_minute_of_the_recovery_is_seen_too;
    what_an_operator_stops_is_ended_by_its_component_s_recovery;
    a_covering_recovery_after_a_second_dip_is_of_the_first_too;
    after_a_second_dip_those_of_the_first_wait_to_come_back_too;
    what_recovered_between_two_dips_does_not_end_the_second;
    a_dip_during_the_release_stops_it;
    when_our_own_reports_are_suspect_nobody_is_asked_and_incidents_are_still_told;
    suspicion_of_our_reports_ends_though_others_fail_as_they_always_do;
    a_slow_surge_spares_nobody_the_canary_of_an_outage_that_lasts;
    what_is_normal_for_a_component_without_a_past_is_learnt_from_the_hold;
    a_slow_burn_is_told_and_held_nowhere;
    two_nodes_open_it_once;
    one_that_fails_again_and_again_is_no_flood;
    the_baseline_is_of_the_last_week_and_learns_no_outage;
    operators_hold_extend_and_release;
    who_releases_is_told_what_else_keeps_the_mails;
    the_operators_system_follows_a_surge_to_its_end;
    what_the_operators_system_did_not_take_at_first_comes_before_what_follows;
    what_the_operators_system_refuses_does_not_keep_back_what_follows;
    patience_with_what_was_to_heal_by_itself_ends;
    without_the_detector_everybody_is_asked;
    the_operators_system_is_told_once_signed_and_until_it_takes_it;
}

pub const START: &str = "2025-06-02T08:00:00Z";
pub const ONCALL: &str = "oncall@example.net";

/// A world in which `outlook` has so many connections, `k0` and so on, each with a customer of its own.
pub async fn world(on: On, connections: usize) -> World {
    world_with(on, connections, Some(Rules::default())).await
}

pub async fn world_with(on: On, connections: usize, rules: Option<Rules>) -> World {
    world_said(on, connections, rules, Script::default()).await
}

async fn world_said(on: On, connections: usize, rules: Option<Rules>, script: Script) -> World {
    let w = World::with(on, START, script, |s| {
        s.surge = rules;
        s.operators.address = Some(ONCALL.to_owned());
        s.patience = Some(Span::hours(1));
    })
    .await;
    fill(&w, "outlook", "k", connections).await;
    w
}

pub async fn fill(w: &World, component: &str, prefix: &str, connections: usize) {
    w.component(component, "Outlook").await;
    for n in 0..connections {
        let key = format!("{prefix}{n}");
        w.subscriber(&key).await;
        w.connection(&key, component, &key).await;
    }
}

pub async fn fail(w: &World, prefix: &str, which: Range<usize>) {
    for n in which {
        w.broken(&format!("{prefix}{n}")).await;
    }
}

pub async fn recover(w: &World, which: Range<usize>) {
    for n in which {
        w.recovered(&format!("k{n}"), "automatic").await;
    }
}

/// To whom mails went, without the operators.
pub fn asked(w: &World) -> Vec<String> {
    w.all().iter().filter(|got| got.to != ONCALL).map(|got| got.to.split('@').next().unwrap().to_owned()).collect()
}

pub fn told(w: &World) -> Vec<String> {
    w.all().iter().filter(|got| got.to == ONCALL).map(|got| got.text()).collect()
}

pub async fn surges(w: &World) -> Vec<String> {
    let found = w.query("SELECT kind || ' ' || stage || ' ' || why FROM surge ORDER BY opened_at, id").await;
    found.into_iter().map(|row| row[0].clone().unwrap()).collect()
}

pub async fn open(w: &World) -> rows::Surge {
    rows::open(&mut w.store.read().await.unwrap()).await.unwrap().pop().unwrap()
}

/// 25 of the connections fail within two minutes.
pub async fn flood(w: &mut World) {
    fail(w, "k", 0..10).await;
    until(w, "2025-06-02T08:01:00Z").await;
    fail(w, "k", 10..25).await;
}

async fn a_flood_opens_an_outage_dated_back_and_nobody_is_asked_but_the_operators_are_told_once(on: On) {
    let mut w = world(on, 60).await;
    flood(&mut w).await;
    until(&mut w, "2025-06-02T08:30:00Z").await;
    assert_eq!(asked(&w), [""; 0]);
    assert_eq!(surges(&w).await, ["flood holding mostly_broken"]);
    let surge = open(&w).await;
    assert_eq!((surge.since, surge.opened_at), (t(START), t("2025-06-02T08:01:00Z")));
    assert_eq!(surge.because, "normal is none in 10 minutes, we saw 25");
    let down = w.query("SELECT CAST(down_since AS TEXT) FROM component").await;
    assert_eq!(down[0][0], Some(t(START).0.to_string()));
    let told_of = told(&w);
    assert_eq!(told_of.len(), 1);
    assert!(told_of[0].contains("normal is none in 10 minutes, we saw 25"), "{}", told_of[0]);
    assert!(told_of[0].contains("[Example] Surge: connections of Outlook fail in floods"), "{}", told_of[0]);
    // What is to be pasted stands on a line of its own.
    let raw = w.all().iter().find(|got| got.to == ONCALL).unwrap().raw.replace("=\r\n", "");
    for command in ["surge release ID --reason '...'", "surge hold ID --until TIME --reason '...'", "show ID"] {
        let line = format!("allclear {}", command.replace("ID", &surge.id.to_string()));
        assert!(raw.lines().any(|of| of == line), "{line}: {raw}");
    }

    recover(&w, 0..25).await;
    until(&mut w, "2025-06-02T09:30:00Z").await;
    assert_eq!(asked(&w), [""; 0]);
    assert_eq!(surges(&w).await, ["flood over nobody_waits"]);
    assert_eq!(told(&w).len(), 1);
    let held = w.query("SELECT CAST(COUNT(*) AS TEXT) FROM hold WHERE released_at IS NULL").await;
    assert_eq!(held[0][0].as_deref(), Some("0"));
}

async fn a_recovery_that_covers_all_ends_it_and_who_does_not_confirm_is_asked(on: On) {
    let mut w = world(on, 60).await;
    flood(&mut w).await;
    until(&mut w, "2025-06-02T08:20:00Z").await;
    w.signal(json!({"component": "outlook", "what": "recovered", "connections": "all"})).await;
    w.pass(2).await;
    assert_eq!(surges(&w).await, ["flood over component_recovered"]);
    let left = w
        .query("SELECT state || ' ' || reason FROM delivery WHERE class = 'action_required' GROUP BY state, reason")
        .await;
    assert_eq!(left, [[Some("withdrawn covered_by_recovery".to_owned())]]);
    recover(&w, 0..24).await;
    until(&mut w, "2025-06-02T14:19:00Z").await;
    assert_eq!(asked(&w), [""; 0]);
    until(&mut w, "2025-06-02T14:40:00Z").await;
    assert_eq!(asked(&w), ["k24"]);
}

async fn a_plain_recovery_ends_it_and_those_not_reconnected_wait_for_the_longest_hold(on: On) {
    let mut w = world(on, 60).await;
    flood(&mut w).await;
    until(&mut w, "2025-06-02T08:20:00Z").await;
    w.up("outlook").await;
    w.pass(2).await;
    assert_eq!(surges(&w).await, ["flood over component_recovered"]);
    recover(&w, 1..25).await;
    until(&mut w, "2025-06-02T19:59:00Z").await;
    assert_eq!(asked(&w), [""; 0]);
    until(&mut w, "2025-06-02T20:02:00Z").await;
    assert_eq!(asked(&w), ["k0"]);
}

async fn who_cannot_be_recovered_is_told_within_a_surge(on: On) {
    let mut w = world(on, 60).await;
    flood(&mut w).await;
    until(&mut w, "2025-06-02T08:10:00Z").await;
    w.signal(json!({"connection": "k3", "what": "recovery_failed"})).await;
    w.pass(1).await;
    assert_eq!(asked(&w), ["k3"]);
    // Only the stories of those that are held name the hold.
    let mut tx = w.store.read().await.unwrap();
    let ids = search::deliveries(&mut tx, &Filter::default(), Cursor::NEWEST, 100).await.unwrap().ids;
    for mail in show::told(&mut tx, &w.shared.setting, &ids, true).await.unwrap() {
        let is_held = mail.steps.iter().any(|s| s.step == "held");
        assert_eq!(is_held, mail.row.state != State::Accepted, "{mail:#?}");
    }
}

async fn after_a_calm_time_a_few_are_asked_and_then_the_rest(on: On) {
    let mut w = world(on, 100).await;
    flood(&mut w).await;
    until(&mut w, "2025-06-02T08:25:00Z").await;
    assert_eq!(asked(&w), [""; 0]);
    until(&mut w, "2025-06-02T08:29:00Z").await;
    assert_eq!(asked(&w).len(), 20);
    assert_eq!(surges(&w).await, ["flood canary calm"]);
    let surge = open(&w).await;
    until(&mut w, "2025-06-02T08:40:00Z").await;
    // Why these left while the others were held, their story says.
    let mut tx = w.store.read().await.unwrap();
    let ids = search::deliveries(&mut tx, &Filter::default(), Cursor::NEWEST, 100).await.unwrap().ids;
    let mails = show::told(&mut tx, &w.shared.setting, &ids, true).await.unwrap();
    drop(tx);
    let ahead: Vec<_> = mails.iter().filter(|d| d.steps.iter().any(|s| s.step == "ahead")).collect();
    // With the two to the operators.
    assert_eq!((mails.len(), ahead.len()), (27, 20));
    let steps: Vec<_> = ahead[0].steps.iter().map(|s| &*s.step).collect();
    assert_eq!(steps, ["noticed", "planned", "held", "ahead", "tried"]);
    assert_eq!(ahead[0].steps[3].evidence, Some(surge.id.to_string()));
    let mut all = asked(&w);
    all.sort();
    all.dedup();
    assert_eq!((all.len(), asked(&w).len()), (25, 25));
    assert_eq!(surges(&w).await, ["flood over nobody_waits"]);
    // Once that nobody is asked, once that some are.
    assert_eq!(told(&w).len(), 2);
    // What fails after that is asked as ever.
    w.broken("k50").await;
    w.pass(6).await;
    assert_eq!(asked(&w).last().unwrap(), "k50");
}

async fn a_release_that_was_wrong_stops_itself_and_corrections_leave_at_once(on: On) {
    let mut w = world(on, 110).await;
    flood(&mut w).await;
    fail(&w, "k", 25..30).await;
    until(&mut w, "2025-06-02T08:28:00Z").await;
    let canaries = asked(&w);
    assert_eq!(canaries.len(), 20);
    let others: Vec<String> = (0..30).map(|n| format!("k{n}")).filter(|key| !canaries.contains(key)).collect();
    for key in canaries[..2].iter().chain(&others[..5]) {
        w.recovered(key, "automatic").await;
    }
    w.pass(1).await;
    assert_eq!(surges(&w).await, ["flood holding recoveries_rise"]);
    // Two were asked in vain, and are told so though all else is held.
    assert_eq!(asked(&w).len(), 22);
    until(&mut w, "2025-06-02T08:43:00Z").await;
    assert_eq!(asked(&w).len(), 22);
    // No more recover: those left are truly broken.
    until(&mut w, "2025-06-02T09:00:00Z").await;
    let mut late = asked(&w)[22..].to_vec();
    late.sort();
    let mut expected = others[5..].to_vec();
    expected.sort();
    assert_eq!(late, expected);
}

/// A relay that puts off those to one mailbox while it is full.
fn full_for(mailbox: &'static str, full: &Arc<AtomicBool>) -> Script {
    let full = Arc::clone(full);
    let refused =
        move |at, to: &Envelope| at == Phase::Rcpt && to.to.starts_with(mailbox) && full.load(Ordering::Relaxed);
    Script::default().answering(move |at, to, _| refused(at, to).then(|| Answer::reply(at, "452 4.2.2 full")))
}

/// A surge whose canary has left but for the mail to `k3`, which its relay has put off and would take now.
async fn one_canary_put_off(on: On) -> World {
    let full = Arc::new(AtomicBool::new(true));
    let mut w = world_said(on, 100, Some(Rules::default()), full_for("k3@", &full)).await;
    flood(&mut w).await;
    until(&mut w, "2025-06-02T08:29:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await), (19, vec!["flood canary calm".to_owned()]));
    full.store(false, Ordering::Relaxed);
    w
}

/// A mail of the canary that its relay has put off is called back without what is proven meanwhile.
async fn who_cannot_be_recovered_is_told_also_where_a_release_is_stopped(on: On) {
    let mut w = one_canary_put_off(on).await;
    w.connection("second", "outlook", "k3").await;
    w.signal(json!({"connection": "second", "what": "recovery_failed"})).await;
    recover(&w, 18..25).await;
    w.pass(1).await;
    assert_eq!(surges(&w).await, ["flood holding recoveries_rise"]);
    until(&mut w, "2025-06-02T08:42:00Z").await;
    let told: Vec<_> = w.all().iter().filter(|got| got.to == "k3@example.net").map(|got| got.text()).collect();
    assert_eq!(told.len(), 1, "{:?}", w.deliveries().await);
    assert!(told[0].contains("Inbox second") && !told[0].contains("Inbox k3"), "{}", told[0]);
}

async fn a_canary_that_waits_is_told_what_is_proven_of_itself(on: On) {
    let mut w = one_canary_put_off(on).await;
    w.signal(json!({"connection": "k3", "what": "recovery_failed"})).await;
    recover(&w, 18..25).await;
    w.pass(1).await;
    assert_eq!(surges(&w).await, ["flood holding recoveries_rise"]);
    until(&mut w, "2025-06-02T08:42:00Z").await;
    assert_eq!(asked(&w).iter().filter(|to| *to == "k3").count(), 1, "{:?}", w.deliveries().await);
}

async fn a_canary_that_was_on_the_wire_when_its_surge_ended_waits_like_the_others(on: On) {
    let mut w = one_canary_put_off(on).await;
    w.clock.set(t("2025-06-02T09:00:00Z"));
    let mail = arm(&w, Class::ActionRequired, "other", "canary@status.example.com").await;
    w.up("outlook").await;
    until(&mut w, "2025-06-02T09:02:00Z").await;
    assert_eq!(surges(&w).await, ["flood over component_recovered"]);
    let due_at = Some(t("2025-06-02T09:10:00Z"));
    let put_off =
        Settled { token: 2, outcome: None, state: State::Queued, due_at, reason: Some(Reason::Retry), ..taken(mail) };
    record(&w, "other", put_off).await;
    until(&mut w, "2025-06-02T19:55:00Z").await;
    assert_eq!(asked(&w).len(), 19, "{:?}", w.deliveries().await);
    until(&mut w, "2025-06-02T20:10:00Z").await;
    assert!(asked(&w)[19..].contains(&"k3".to_owned()), "{:?}", w.deliveries().await);
}

async fn what_a_source_reports_in_the_moment_in_which_a_surge_begins_is_not_the_surge_s_own(on: On) {
    let mut w = world(on, 100).await;
    flood(&mut w).await;
    w.settle().await;
    w.down("outlook").await;
    // As on PostgreSQL, when the source's transaction began before the surge's was committed, and its outage is opened after both.
    w.execute("UPDATE surge SET reported = FALSE, episode = NULL").await;
    until(&mut w, "2025-06-02T12:00:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await), (0, vec!["flood holding component_down".to_owned()]));
}

/// What waits takes its time to leave.
async fn slow_world(on: On, connections: usize, cap: impl FnOnce(&mut Caps, Rate)) -> World {
    let w = World::with(on, START, Script::default(), |s| {
        s.surge = Some(Rules::default());
        s.operators.address = Some(ONCALL.to_owned());
        cap(&mut s.streams[0].caps, Rate::per_minute(4));
    })
    .await;
    fill(&w, "outlook", "k", connections).await;
    w
}

async fn what_a_source_reports_while_a_release_runs_is_not_given_up_with_it(on: On) {
    let mut w = slow_world(on, 250, |caps, rate| caps.overall = Some(rate)).await;
    flood(&mut w).await;
    fail(&w, "k", 25..60).await;
    until(&mut w, "2025-06-02T08:40:00Z").await;
    assert_eq!(surges(&w).await, ["flood releasing canary_well"]);
    w.down("outlook").await;
    fail(&w, "k", 60..90).await;
    w.pass(1).await;
    assert_eq!(surges(&w).await, ["flood holding surge_returns"]);
    let before = asked(&w).len();
    assert!(before < 60, "{before}");
    until(&mut w, "2025-06-02T10:00:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await), (before, vec!["flood holding component_down".to_owned()]));
    let down = w.query("SELECT key FROM component WHERE down_since IS NOT NULL").await;
    assert_eq!(down, [[Some("outlook".to_owned())]]);
}

async fn a_source_that_reports_late_is_heard_after_a_release(on: On) {
    let mut w = world(on, 100).await;
    flood(&mut w).await;
    until(&mut w, "2025-06-02T08:40:00Z").await;
    assert_eq!(surges(&w).await, ["flood over nobody_waits"]);
    let late = json!({"component": "outlook", "what": "failed", "observed_at": "2025-06-02T08:30:00Z"});
    assert_eq!(w.signal(late).await.outcome.as_str(), "recorded");
    w.broken("k50").await;
    let before = asked(&w).len();
    until(&mut w, "2025-06-02T10:00:00Z").await;
    assert_eq!(asked(&w).len(), before);
}

async fn a_canary_is_of_those_whose_time_has_come(on: On) {
    let mut w = world(on, 100).await;
    flood(&mut w).await;
    recover(&w, 0..10).await;
    until(&mut w, "2025-06-02T08:25:00Z").await;
    w.broken("k90").await;
    until(&mut w, "2025-06-02T08:28:00Z").await;
    assert_eq!(surges(&w).await, ["flood canary calm"]);
    assert!(asked(&w).len() == 15 && !asked(&w).contains(&"k90".to_owned()), "{:?}", asked(&w));
}

async fn of_a_second_canary_most_must_have_left_too(on: On) {
    let full = Arc::new(AtomicBool::new(false));
    let mut w = world_said(on, 250, Some(Rules::default()), full_for("k", &full)).await;
    flood(&mut w).await;
    fail(&w, "k", 25..60).await;
    until(&mut w, "2025-06-02T08:28:00Z").await;
    // Which of those that are equally old is not promised.
    let first = asked(&w);
    assert_eq!(first.len(), 20);
    for n in (0..60).filter(|n| !first.contains(&format!("k{n}"))).take(7) {
        recover(&w, n..n + 1).await;
    }
    w.pass(1).await;
    assert_eq!(surges(&w).await, ["flood holding recoveries_rise"]);
    full.store(true, Ordering::Relaxed);
    until(&mut w, "2025-06-02T09:10:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await), (20, vec!["flood canary calm".to_owned()]));
}

async fn a_cap_of_a_domain_keeps_a_release_watched_and_no_correction_waiting(on: On) {
    let mut w = slow_world(on, 250, |caps, rate| caps.domain = Some(rate)).await;
    flood(&mut w).await;
    fail(&w, "k", 25..60).await;
    until(&mut w, "2025-06-02T08:40:00Z").await;
    assert_eq!(surges(&w).await, ["flood releasing canary_well"]);
    let before = asked(&w);
    recover(&w, 0..60).await;
    w.pass(1).await;
    assert_eq!(surges(&w).await, ["flood holding recoveries_rise"]);
    until(&mut w, "2025-06-02T08:44:00Z").await;
    let corrected = asked(&w).len() - before.len();
    // The clock leaps from minute to minute.
    assert!(corrected >= 4, "{corrected}");
}

async fn when_most_are_broken_only_the_longest_hold_asks(on: On) {
    let mut w = world(on, 30).await;
    flood(&mut w).await;
    until(&mut w, "2025-06-02T12:00:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await), (0, vec!["flood holding mostly_broken".to_owned()]));
    until(&mut w, "2025-06-02T19:55:00Z").await;
    assert_eq!(asked(&w).len(), 0);
    until(&mut w, "2025-06-02T19:58:00Z").await;
    assert_eq!(asked(&w).len(), 20);
    until(&mut w, "2025-06-02T20:02:00Z").await;
    assert_eq!(asked(&w).len(), 25);
}

/// 25 connections fail while a source says that their component is down.
async fn one_mailbox_that_is_full_keeps_nobody_waiting(on: On) {
    let full = Arc::new(AtomicBool::new(true));
    let mut w = world_said(on, 100, Some(Rules::default()), full_for("k3@", &full)).await;
    flood(&mut w).await;
    until(&mut w, "2025-06-02T08:30:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await), (19, vec!["flood canary calm".to_owned()]));
    until(&mut w, "2025-06-02T08:45:00Z").await;
    assert_eq!(asked(&w).len(), 24);
}

async fn what_a_source_says_is_down_as_well_is_not_released_because_it_is_calm(on: On) {
    for by_incident in [false, true] {
        let mut w = world(on, 100).await;
        flood(&mut w).await;
        until(&mut w, "2025-06-02T08:05:00Z").await;
        if by_incident {
            w.notice(json!({"kind": "incident", "incident": "i-1", "title": "Down", "phase": "identified", "body": "It is down.",
                "components": [{"key": "outlook", "status": "major_outage"}]}))
                .await;
        } else {
            w.down("outlook").await;
        }
        until(&mut w, "2025-06-02T19:53:00Z").await;
        assert_eq!((asked(&w).len(), surges(&w).await), (0, vec!["flood holding component_down".to_owned()]));
        until(&mut w, "2025-06-02T19:58:00Z").await;
        assert_eq!((asked(&w).len(), surges(&w).await), (20, vec!["flood canary longest_hold".to_owned()]));
        until(&mut w, "2025-06-02T20:10:00Z").await;
        let down = w.query("SELECT key FROM component WHERE down_since IS NOT NULL").await;
        assert_eq!((asked(&w).len(), down), (25, vec![vec![Some("outlook".to_owned())]]));
    }
}

async fn the_last_incident_that_reports_a_flood_s_outage_ends_it(on: On) {
    let mut w = world(on, 100).await;
    flood(&mut w).await;
    until(&mut w, "2025-06-02T08:05:00Z").await;
    let said = |incident: &str, phase: &str, components| {
        json!({"kind": "incident", "incident": incident, "title": "Down", "phase": phase, "body": "As it is.",
            "components": components})
    };
    for incident in ["first", "second"] {
        w.notice(said(incident, "identified", json!([{"key": "outlook", "status": "major_outage"}]))).await;
        w.pass(2).await;
    }
    w.notice(said("first", "resolved", json!([]))).await;
    w.pass(2).await;
    assert_eq!(open(&w).await.stage.as_str(), "holding", "the second still reports it");
    w.notice(said("second", "resolved", json!([]))).await;
    w.pass(2).await;
    assert_eq!(surges(&w).await, ["flood over component_recovered"]);
    // As after every recovery that says nothing of connections.
    recover(&w, 1..25).await;
    until(&mut w, "2025-06-02T19:59:00Z").await;
    assert_eq!(asked(&w), [""; 0]);
    until(&mut w, "2025-06-02T20:02:00Z").await;
    assert_eq!(asked(&w), ["k0"]);
}

async fn of_a_second_dip_too_a_few_are_asked_first(on: On) {
    let mut w = world(on, 60).await;
    w.down("outlook").await;
    fail(&w, "k", 0..25).await;
    until(&mut w, "2025-06-02T11:00:00Z").await;
    w.up("outlook").await;
    w.pass(10).await;
    w.down("outlook").await;
    until(&mut w, "2025-06-02T19:53:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await.len()), (0, 0));
    until(&mut w, "2025-06-02T19:58:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await), (20, vec!["flood canary longest_hold".to_owned()]));
    until(&mut w, "2025-06-02T20:02:00Z").await;
    assert_eq!(asked(&w).len(), 25);
}

async fn who_joins_another_waits_no_longer_for_it_than_the_longest_hold(on: On) {
    let mut w = world_with(on, 1, None).await;
    w.connection("second", "outlook", "k0").await;
    w.down("outlook").await;
    w.broken("k0").await;
    until(&mut w, "2025-06-02T11:00:00Z").await;
    w.up("outlook").await;
    until(&mut w, "2025-06-02T19:00:00Z").await;
    w.down("outlook").await;
    w.broken("second").await;
    until(&mut w, "2025-06-02T19:59:00Z").await;
    assert_eq!(asked(&w), [""; 0]);
    until(&mut w, "2025-06-02T20:01:00Z").await;
    assert_eq!(asked(&w), ["k0"]);
}

async fn whom_a_relay_put_off_before_an_outage_waits_no_longer_than_the_longest_hold(on: On) {
    let later = |at, nth| (at == Phase::Rcpt && nth <= 4).then(|| Answer::reply(at, "451 4.3.0 later"));
    let mut w = world_said(on, 1, None, Script::default().answering(move |at, _, nth| later(at, nth))).await;
    w.broken("k0").await;
    let tries = "SELECT CAST(MAX(tries) AS TEXT) FROM delivery";
    while w.query(tries).await != [[Some("4".to_owned())]] {
        w.pass(1).await;
    }
    w.down("outlook").await;
    until(&mut w, "2025-06-02T19:59:00Z").await;
    assert_eq!(asked(&w), [""; 0]);
    until(&mut w, "2025-06-02T20:01:00Z").await;
    assert_eq!(asked(&w), ["k0"]);
}

async fn reported(on: On) -> World {
    let mut w = world(on, 60).await;
    w.down("outlook").await;
    fail(&w, "k", 0..25).await;
    until(&mut w, "2025-06-02T19:53:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await.len(), told(&w).len()), (0, 0, 0));
    w
}

async fn of_an_outage_that_lasts_a_few_are_asked_first(on: On) {
    let mut w = reported(on).await;
    until(&mut w, "2025-06-02T19:58:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await), (20, vec!["flood canary longest_hold".to_owned()]));
    assert_eq!(told(&w).len(), 1);
    let words = "it is still reported to be down, and the first of 25 mails has waited for the longest hold";
    assert!(told(&w)[0].contains(words), "{}", told(&w)[0]);
    assert!(told(&w)[0].contains("[Example] Outlook has been down for long"), "{}", told(&w)[0]);
    until(&mut w, "2025-06-02T20:02:00Z").await;
    assert_eq!(asked(&w).len(), 25);
    until(&mut w, "2025-06-02T20:10:00Z").await;
    assert_eq!(surges(&w).await, ["flood over nobody_waits"]);
    // The source's word stands: who fails now waits for the component, and one alone is asked without a canary.
    w.broken("k50").await;
    until(&mut w, "2025-06-03T08:00:00Z").await;
    assert_eq!((asked(&w).len(), told(&w).len()), (25, 1));
    until(&mut w, "2025-06-03T08:12:00Z").await;
    assert_eq!((asked(&w).len(), told(&w).len()), (26, 1));
}

async fn asking_during_an_outage_stops_when_connections_recover(on: On) {
    let mut w = reported(on).await;
    until(&mut w, "2025-06-02T19:58:00Z").await;
    let canaries = asked(&w);
    recover(&w, 0..25).await;
    w.pass(1).await;
    assert_eq!(surges(&w).await, ["flood holding recoveries_rise"]);
    until(&mut w, "2025-06-02T20:30:00Z").await;
    // Those asked are told that nothing is needed; nobody else heard anything.
    let mut heard = asked(&w);
    assert_eq!(heard.len(), 2 * canaries.len());
    heard.sort();
    heard.dedup();
    assert_eq!(heard.len(), canaries.len());
    assert_eq!(surges(&w).await, ["flood over nobody_waits"]);
}

async fn a_second_dip_is_a_new_outage(on: On) {
    let mut w = world(on, 120).await;
    flood(&mut w).await;
    until(&mut w, "2025-06-02T08:10:00Z").await;
    w.signal(json!({"component": "outlook", "what": "recovered", "connections": "all"})).await;
    w.pass(2).await;
    recover(&w, 0..25).await;
    until(&mut w, "2025-06-02T08:14:00Z").await;
    // Those of the first dip are no evidence of a second.
    assert_eq!(surges(&w).await, ["flood over component_recovered"]);
    fail(&w, "k", 30..60).await;
    until(&mut w, "2025-06-02T09:00:00Z").await;
    assert_eq!(surges(&w).await.len(), 2);
    let down = w.query("SELECT CAST(n AS TEXT) || ' ' || CAST(since AS TEXT) FROM episode ORDER BY n").await;
    assert_eq!(down.len(), 2);
    assert_eq!(down[1][0], Some(format!("2 {}", t("2025-06-02T08:14:00Z").0)));
    // Both openings, and the canary of the second.
    assert_eq!((asked(&w).len(), told(&w).len()), (30, 3));
}

async fn a_dip_in_the_minute_of_the_recovery_is_seen_too(on: On) {
    let mut w = world(on, 120).await;
    flood(&mut w).await;
    until(&mut w, "2025-06-02T08:10:00Z").await;
    w.signal(json!({"component": "outlook", "what": "recovered", "connections": "all"})).await;
    w.move_to(t("2025-06-02T08:10:10Z")).await;
    fail(&w, "k", 30..60).await;
    until(&mut w, "2025-06-02T08:30:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await.len()), (0, 2));
}

async fn what_an_operator_stops_is_ended_by_its_component_s_recovery(on: On) {
    let mut w = slow_world(on, 250, |caps, rate| caps.overall = Some(rate)).await;
    flood(&mut w).await;
    fail(&w, "k", 25..60).await;
    until(&mut w, "2025-06-02T08:40:00Z").await;
    let surge = open(&w).await;
    assert_eq!(surge.stage.as_str(), "releasing");
    act(&w, &surge, Act::Hold(None)).await.unwrap();
    w.signal(json!({"component": "outlook", "what": "recovered", "connections": "all"})).await;
    w.pass(1).await;
    assert_eq!(surges(&w).await, ["flood over component_recovered"]);
    let waits = w
        .query("SELECT CAST(COUNT(*) AS TEXT) FROM delivery WHERE class = 'action_required' AND state = 'queued'")
        .await;
    assert_eq!(waits, [[Some("0".to_owned())]]);
}

/// Connections fail in floods once more while those of the first are being asked; so many were.
async fn second_dip(on: On) -> (World, usize) {
    let mut w = slow_world(on, 250, |caps, rate| caps.overall = Some(rate)).await;
    flood(&mut w).await;
    fail(&w, "k", 25..60).await;
    until(&mut w, "2025-06-02T08:40:00Z").await;
    assert_eq!(surges(&w).await, ["flood releasing canary_well"]);
    fail(&w, "k", 100..130).await;
    w.pass(1).await;
    assert_eq!(surges(&w).await, ["flood holding surge_returns"]);
    let asked = to_act(&w);
    assert!((10..60).contains(&asked), "{asked}");
    (w, asked)
}

fn to_act(w: &World) -> usize {
    w.all().iter().filter(|got| got.text().contains("Action needed")).count()
}

async fn a_covering_recovery_after_a_second_dip_is_of_the_first_too(on: On) {
    let (mut w, asked) = second_dip(on).await;
    w.signal(json!({"component": "outlook", "what": "recovered", "connections": "all"})).await;
    w.pass(1).await;
    assert_eq!(surges(&w).await, ["flood over component_recovered"]);
    let waits = "SELECT key FROM subscriber s JOIN delivery d ON d.subscriber_id = s.id
        WHERE d.class = 'action_required' AND d.state = 'queued'";
    assert_eq!(w.query(waits).await.len(), 0);
    w.pass(30).await;
    assert_eq!(to_act(&w), asked);
}

async fn after_a_second_dip_those_of_the_first_wait_to_come_back_too(on: On) {
    let (mut w, asked) = second_dip(on).await;
    w.up("outlook").await;
    until(&mut w, "2025-06-02T19:50:00Z").await;
    assert_eq!((to_act(&w), surges(&w).await), (asked, vec!["flood over component_recovered".to_owned()]));
}

async fn what_recovered_between_two_dips_does_not_end_the_second(on: On) {
    let (mut w, _) = second_dip(on).await;
    let between = json!({"component": "outlook", "what": "recovered", "observed_at": "2025-06-02T08:35:00Z"});
    assert_eq!(w.signal(between).await.outcome.as_str(), "stale_at_birth");
    w.pass(1).await;
    assert_eq!(surges(&w).await, ["flood holding surge_returns"]);
}

async fn a_dip_during_the_release_stops_it(on: On) {
    let mut w = world(on, 120).await;
    flood(&mut w).await;
    fail(&w, "k", 25..30).await;
    until(&mut w, "2025-06-02T08:28:00Z").await;
    assert_eq!(asked(&w).len(), 20);
    fail(&w, "k", 40..65).await;
    w.pass(1).await;
    assert_eq!(surges(&w).await, ["flood holding surge_returns"]);
    until(&mut w, "2025-06-02T08:50:00Z").await;
    assert_eq!(asked(&w).len(), 20);
}

async fn when_our_own_reports_are_suspect_nobody_is_asked_and_incidents_are_still_told(on: On) {
    let mut w = world(on, 60).await;
    for (component, prefix) in [("gmail", "g"), ("imap", "i")] {
        fill(&w, component, prefix, 60).await;
    }
    fill(&w, "crm", "c", 2).await;
    w.subscriber("reader").await;
    w.subscribe("reader", "crm").await;
    for prefix in ["k", "g", "i"] {
        fail(&w, prefix, 0..20).await;
    }
    until(&mut w, "2025-06-02T08:02:00Z").await;
    w.broken("c0").await;
    w.notice(json!({"kind": "incident", "incident": "I-1", "title": "Slow", "phase": "investigating", "body": "Slow.",
        "components": [{"key": "crm"}]}))
        .await;
    until(&mut w, "2025-06-02T08:12:00Z").await;
    assert_eq!(asked(&w), ["reader"]);
    let found = surges(&w).await;
    assert_eq!(found.iter().filter(|s| s.starts_with("reporter holding")).count(), 1, "{found:?}");
    assert_eq!(told(&w).len(), 4);
    assert!(told(&w).iter().any(|text| text.contains("our own reports are suspect")));
    let reporter = w.query("SELECT CAST(counted AS TEXT) FROM surge WHERE kind = 'reporter'").await;
    assert_eq!(reporter[0][0].as_deref(), Some("60"));
    let all = rows::open(&mut w.store.read().await.unwrap()).await.unwrap();
    let suspicion = all.into_iter().find(|s| s.component_id.is_none()).unwrap();
    act(&w, &suspicion, Act::Release).await.unwrap();
    w.pass(2).await;
    assert_eq!(asked(&w), ["reader", "c0"]);
}

async fn suspicion_of_our_reports_ends_though_others_fail_as_they_always_do(on: On) {
    let mut w = world(on, 60).await;
    for (component, prefix) in [("gmail", "g"), ("yahoo", "y"), ("busy", "b")] {
        fill(&w, component, prefix, 60).await;
    }
    for prefix in ["k", "g", "y"] {
        fail(&w, prefix, 0..25).await;
    }
    until(&mut w, "2025-06-02T08:02:00Z").await;
    assert!(surges(&w).await.contains(&"reporter holding opened".to_owned()), "{:?}", surges(&w).await);
    // Of another component fifteen fail in ten minutes, and nobody calls that a flood.
    for n in 0..20 {
        fail(&w, "b", 3 * n..3 * n + 3).await;
        w.pass(2).await;
    }
    assert!(surges(&w).await.contains(&"reporter over calm".to_owned()), "{:?}", surges(&w).await);
}

async fn a_slow_surge_spares_nobody_the_canary_of_an_outage_that_lasts(on: On) {
    let mut w = world(on, 410).await;
    for n in 0..50 {
        w.broken(&format!("k{n}")).await;
        w.pass(2).await;
    }
    assert_eq!(surges(&w).await, ["slow holding still_failing"]);
    w.down("outlook").await;
    let before = asked(&w).len();
    for n in 50..406 {
        w.broken(&format!("k{n}")).await;
        w.pass(2).await;
    }
    let newly = asked(&w).len() - before;
    assert_eq!((newly, surges(&w).await.last().unwrap().as_str()), (20, "flood canary longest_hold"));
}

/// Nothing is known of it, and thirty connections fail in every ten minutes, as they always have.
async fn what_is_normal_for_a_component_without_a_past_is_learnt_from_the_hold(on: On) {
    let mut w = World::with(on, START, Script::default(), |s| {
        s.surge = Some(Rules::default());
        s.operators.address = Some(ONCALL.to_owned());
        s.limits.get_mut(&Class::ActionRequired).unwrap().longest_hold = Some(Span::hours(1));
    })
    .await;
    fill(&w, "outlook", "k", 400).await;
    for n in 0..130 {
        fail(&w, "k", 3 * n..3 * n + 3).await;
        w.pass(1).await;
    }
    let floods: Vec<_> = surges(&w).await.into_iter().filter(|surge| surge.starts_with("flood")).collect();
    assert_eq!(floods, ["flood over nobody_waits"]);
}

async fn a_slow_burn_is_told_and_held_nowhere(on: On) {
    let mut w = world(on, 60).await;
    for n in 0..50 {
        w.broken(&format!("k{n}")).await;
        w.pass(2).await;
    }
    assert_eq!(surges(&w).await, ["slow holding still_failing"]);
    assert_eq!(told(&w).len(), 1);
    w.pass(10).await;
    assert_eq!(asked(&w).len(), 50);
    w.pass(150).await;
    assert_eq!(surges(&w).await, ["slow over calm"]);
}

async fn two_nodes_open_it_once(on: On) {
    let mut w = world(on, 60).await;
    let mut other = w.another("other");
    w.settle().await;
    w.clock.set(t("2025-06-02T08:01:00Z"));
    fail(&w, "k", 0..25).await;
    let (one, two) = tokio::join!(w.worker.settle(), other.settle());
    one.unwrap();
    two.unwrap();
    assert_eq!(surges(&w).await, ["flood holding opened"]);
    let rows =
        w.query("SELECT CAST((SELECT COUNT(*) FROM episode) AS TEXT), CAST((SELECT COUNT(*) FROM hold) AS TEXT)").await;
    assert_eq!(rows, [[Some("1".to_owned()), Some("1".to_owned())]]);
    w.pass(10).await;
    assert_eq!((asked(&w).len(), told(&w).len()), (0, 1));
}

async fn one_that_fails_again_and_again_is_no_flood(on: On) {
    let mut w = world(on, 2).await;
    for _ in 0..12 {
        for key in ["k0", "k1"] {
            w.broken(key).await;
            w.recovered(key, "automatic").await;
            w.clock.set(w.clock_now() + Span::seconds(5));
        }
    }
    w.move_to(w.clock_now()).await;
    w.pass(3).await;
    assert_eq!(surges(&w).await, [""; 0]);
    let counted = w.query("SELECT CAST(SUM(failed) AS TEXT), CAST(SUM(recovered) AS TEXT) FROM failure_tally").await;
    assert_eq!(counted, [[Some("2".to_owned()), Some("2".to_owned())]]);
}

async fn the_baseline_is_of_the_last_week_and_learns_no_outage(on: On) {
    let mut w = world(on, 60).await;
    // Three a minute for two days, up to 08:00.
    w.execute("UPDATE component SET created_at = 0").await;
    w.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2880)
         INSERT INTO failure_tally (component_id, minute, failed, failed_slow, recovered) SELECT k.id, 29147520 - 20 - i, 3, 3, 0 FROM n, component k",
    )
    .await;
    fail(&w, "k", 0..25).await;
    w.pass(2).await;
    assert_eq!(surges(&w).await, [""; 0]);
    // Now it turns out that those two days were an outage.
    w.execute(
        "INSERT INTO episode (component_id, n, since, ended_at, covers_connections)
         SELECT id, -1, (29147520 - 3000) * CAST(60000000 AS BIGINT), (29147520 - 15) * CAST(60000000 AS BIGINT), FALSE FROM component",
    )
    .await;
    w.pass(1).await;
    assert_eq!(surges(&w).await, ["flood holding opened"]);
    assert_eq!(open(&w).await.normal, 0);
}

pub async fn act(w: &World, surge: &rows::Surge, act: Act) -> Result<Acted, surge::Refused> {
    let asked = Asked { who: "jo", reason: "the provider said so" };
    surge::act(&w.store, &w.shared.setting, surge.id, act, asked).await
}

async fn operators_hold_extend_and_release(on: On) {
    let mut w = world(on, 100).await;
    let why = Asked { who: "jo", reason: "their page is red" };
    w.broken("k0").await;
    let setting = w.shared.setting.clone();
    let held = surge::hold(&w.store, &setting, "outlook", None, why).await.unwrap();
    assert!(surge::hold(&w.store, &setting, "outlook", None, why).await.is_err());
    w.pass(1).await;
    let mail = &told(&w)[0];
    for words in ["Surge of Outlook, opened by hand", "Opened by jo: their page is red.", "10 minutes, we saw 1."] {
        assert!(mail.contains(words), "{mail}");
    }
    assert!(surge::hold(&w.store, &setting, "none", None, why).await.is_err());
    let later = Some(t("2025-06-02T22:00:00Z"));
    assert!(matches!(surge::hold(&w.store, &setting, "outlook", later, why).await, Err(surge::Refused::Future)));
    assert!(act(&w, &held, Act::Hold(Some(Timestamp(5)))).await.is_err());
    let acted = act(&w, &held, Act::Hold(Some(t("2025-06-02T22:00:00Z")))).await.unwrap();
    assert!(acted.held_by.is_empty(), "its own hold is no other: {:?}", acted.held_by);
    until(&mut w, "2025-06-02T21:59:00Z").await;
    assert_eq!(asked(&w), [""; 0]);
    // One waits: it is the canary, and the whole rest.
    act(&w, &held, Act::Release).await.unwrap();
    w.pass(1).await;
    assert_eq!(asked(&w), ["k0"]);
    // Said twice, or by two: the few are asked all the same before the rest.
    assert!(matches!(act(&w, &held, Act::Release).await, Err(surge::Refused::Asking)));
    let released = act(&w, &held, Act::ReleaseRest).await.unwrap();
    assert_eq!((released.surge.stage.as_str(), released.held_by.len()), ("releasing", 0));
    w.pass(2).await;
    assert!(matches!(act(&w, &held, Act::Release).await, Err(surge::Refused::Over)));
    let journal = w.query("SELECT who || ' ' || action FROM journal WHERE action LIKE 'surge%' ORDER BY n").await;
    let journal: Vec<_> = journal.iter().map(|row| row[0].clone().unwrap()).collect();
    assert_eq!(journal, ["jo surge hold", "jo surge canary", "jo surge releasing", "surge surge over"]);
}

async fn who_releases_is_told_what_else_keeps_the_mails(on: On) {
    let mut w = world(on, 100).await;
    flood(&mut w).await;
    w.pass(1).await;
    let mut tx = w.store.begin().await.unwrap();
    let class = |class| HoldScope::Class(class);
    let suspect = open(&w).await.component_id.map(HoldScope::Component).unwrap();
    for scope in [suspect, class(Class::ActionRequired), class(Class::IncidentUpdate)] {
        holds::put(&mut tx, scope, HoldCause::Operator, "wait for me", None, "jo").await.unwrap();
    }
    tx.commit().await.unwrap();
    let acted = act(&w, &open(&w).await, Act::ReleaseRest).await.unwrap();
    let kept: Vec<_> = acted.held_by.iter().map(HoldRow::scope).collect();
    assert_eq!(kept, [suspect, class(Class::ActionRequired)]);
    until(&mut w, "2025-06-02T08:20:00Z").await;
    assert_eq!(asked(&w), [""; 0]);
}

async fn the_operators_system_follows_a_surge_to_its_end(on: On) {
    let (mut w, mut got) = watched(on, &["204 No Content"; 5]).await;
    until(&mut w, "2025-06-02T08:03:00Z").await;
    act(&w, &open(&w).await, Act::Release).await.unwrap();
    w.pass(1).await;
    act(&w, &open(&w).await, Act::Hold(None)).await.unwrap();
    w.pass(1).await;
    act(&w, &open(&w).await, Act::ReleaseRest).await.unwrap();
    until(&mut w, "2025-06-02T08:20:00Z").await;
    let all = ["holding opened", "canary by_hand", "holding by_hand", "releasing by_hand", "over nobody_waits"];
    assert_eq!(steps(&mut got), all);
}

/// The requests that came.
type Posts = tokio::sync::mpsc::UnboundedReceiver<String>;

/// Stage and reason of each post that came.
fn steps(got: &mut Posts) -> Vec<String> {
    let mut steps = Vec::new();
    while let Ok(request) = got.try_recv() {
        let said: serde_json::Value = serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
        steps.push(format!("{} {}", said["surge"]["stage"].as_str().unwrap(), said["reason"].as_str().unwrap()));
    }
    steps
}

async fn what_the_operators_system_did_not_take_at_first_comes_before_what_follows(on: On) {
    let (mut w, mut got) = watched(on, &["503 Busy", "204 No Content", "204 No Content", "204 No Content"]).await;
    w.pass(1).await;
    // Due at once, and the first post in half a minute.
    act(&w, &open(&w).await, Act::Release).await.unwrap();
    w.settle().await;
    assert_eq!(steps(&mut got), ["holding opened"]);
    w.pass(1).await;
    act(&w, &open(&w).await, Act::Hold(None)).await.unwrap();
    w.pass(1).await;
    assert_eq!(steps(&mut got), ["holding opened", "canary by_hand", "holding by_hand"]);
}

async fn what_the_operators_system_refuses_does_not_keep_back_what_follows(on: On) {
    let (mut w, mut got) = watched(on, &["422 No", "422 No", "204 No Content", "415 No", "204 No Content"]).await;
    w.pass(1).await;
    act(&w, &open(&w).await, Act::Release).await.unwrap();
    w.pass(1).await;
    assert_eq!(steps(&mut got), ["holding opened", "holding opened", "canary by_hand"]);
    // What nothing newer follows is tried again.
    act(&w, &open(&w).await, Act::Hold(None)).await.unwrap();
    w.pass(2).await;
    assert_eq!(steps(&mut got), ["holding by_hand", "holding by_hand"]);
    let left = w.query("SELECT said FROM alert ORDER BY created_at, id").await;
    let left: Vec<_> = left.into_iter().map(|row| row[0].clone().unwrap()).collect();
    assert_eq!(left, ["given up for the next: it answered 422", "taken", "taken"]);
}

async fn patience_with_what_was_to_heal_by_itself_ends(on: On) {
    let mut w = world(on, 60).await;
    let soft = |key: &str| json!({"connection": key, "what": "failed", "fault": "recoverable"});
    for n in 0..3 {
        w.signal(soft(&format!("k{n}"))).await;
    }
    until(&mut w, "2025-06-02T08:30:00Z").await;
    w.recovered("k1", "automatic").await;
    until(&mut w, "2025-06-02T09:04:00Z").await;
    assert_eq!(asked(&w), [""; 0]);
    until(&mut w, "2025-06-02T09:08:00Z").await;
    let mut late = asked(&w);
    late.sort();
    assert_eq!(late, ["k0", "k2"]);
    // Many at once are a surge, however patient we were.
    for n in 20..45 {
        w.signal(soft(&format!("k{n}"))).await;
    }
    until(&mut w, "2025-06-02T10:20:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await), (2, vec!["flood holding opened".to_owned()]));
}

async fn without_the_detector_everybody_is_asked(on: On) {
    let mut w = world_with(on, 30, None).await;
    flood(&mut w).await;
    until(&mut w, "2025-06-02T08:08:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await.len()), (25, 0));
}

/// A flood in a world whose operators have a system of their own, which answers so.
async fn watched(on: On, answers: &'static [&'static str]) -> (World, Posts) {
    let (url, got) = listener(answers).await;
    let mut w = World::with(on, START, Script::default(), |s| {
        s.surge = Some(Rules::default());
        s.operators.webhook = Some(Webhook { url, secret: Secret::new("s3cret") });
    })
    .await;
    fill(&w, "outlook", "k", 100).await;
    flood(&mut w).await;
    (w, got)
}

/// Listens on this machine; answers each request with the next of these statuses and hands it over.
async fn listener(answers: &'static [&'static str]) -> (String, Posts) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook?from=allclear", socket.local_addr().unwrap());
    let (hand_over, got) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = socket.accept().await.unwrap();
            let mut text = String::new();
            let mut bytes = [0; 4096];
            // The body ends with the brace of its outermost object.
            while !text.contains("\r\n\r\n") || !text.ends_with("}}") {
                let n = stream.read(&mut bytes).await.unwrap();
                text += std::str::from_utf8(&bytes[..n]).unwrap();
            }
            hand_over.send(text).unwrap();
            stream.write_all(format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n").as_bytes()).await.unwrap();
        }
    });
    (url, got)
}

async fn the_operators_system_is_told_once_signed_and_until_it_takes_it(on: On) {
    let (mut w, mut got) =
        watched(on, &["302 Found\r\nLocation: http://192.0.2.1/", "503 Busy", "204 No Content"]).await;
    w.pass(15).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let request = got.recv().await.unwrap();
        let header = |name: &str| {
            request.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap_or_default().to_owned()
        };
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST /hook?from=allclear HTTP/1.1\r\nHost: 127.0.0.1:"), "{head}");
        let signature = header("Allclear-Signature");
        let at: i64 = signature.strip_prefix("t=").unwrap().split(',').next().unwrap().parse().unwrap();
        assert_eq!(signature, allclear::flow::webhook::signature("s3cret", at, body));
        let said: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(said["surge"]["component"], "outlook");
        assert_eq!((&said["surge"]["counted"], &said["reason"]), (&json!(25), &json!("opened")));
        assert_eq!(said["id"].as_str().unwrap(), header("Allclear-Id"));
        ids.push(header("Allclear-Id"));
    }
    // The same each time, and never again once it was taken.
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    w.pass(5).await;
    assert!(got.try_recv().is_err());
    let left = w.query("SELECT said, CAST(tries AS TEXT) FROM alert").await;
    assert_eq!(left, [[Some("taken".to_owned()), Some("3".to_owned())]]);
}
