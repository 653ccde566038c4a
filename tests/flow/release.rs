//! Releases that no flood opened: those who did not come back with their component, or did not confirm that they had, are
//! asked like those of a surge, a few first.

use super::surge::{START, asked, fail, fill, flood, recover, surges, told, world, world_with};
use super::table::until;
use crate::on_both;
use crate::support::{On, World, t};
use allclear::domain::surge::Rules;
use allclear::domain::time::Span;
use allclear::flow::surge::{self, Act, Asked};
use allclear::mail::sink::Script;
use allclear::store::surge as rows;
use serde_json::json;

on_both! {
    of_those_who_did_not_come_back_a_few_are_asked_first;
    asking_them_stops_when_they_come_back_after_all;
    a_new_flood_takes_the_place_of_asking_them;
    an_hour_of_failures_is_asked_about_once;
    those_left_of_an_outage_that_lasted_are_no_crowd_when_it_ends;
    those_held_by_hand_are_no_crowd_when_it_ends_either;
    what_is_held_by_hand_stays_so_when_its_component_is_back;
    nobody_is_asked_for_others_whose_time_is_over;
    each_wave_has_a_canary_of_its_own;
    each_wave_has_one_while_its_outage_lasts_too;
    what_an_operator_keeps_is_kept_in_a_new_flood;
    a_few_need_no_canary_after_a_recovery_either;
    customers_who_reconnect_stop_nothing_though_their_source_cannot_tell;
    so_do_those_who_have_several_connections;
    more_than_were_asked_stop_it;
    of_those_who_did_not_confirm_a_few_are_asked_first;
    nobody_else_is_asked_to_confirm_when_the_first_few_recover;
    small_pages_are_no_few;
    an_outage_at_the_deadline_keeps_those_who_did_not_confirm;
    an_outage_after_the_deadline_does_not_let_them_go_when_it_ends;
    a_release_that_runs_does_not_take_them_along;
    those_are_asked_first_who_did_not_confirm_and_not_who_waits;
    where_nobody_looks_for_floods_they_are_asked_at_once;
    a_flood_asks_nobody_who_waits_to_come_back_after_an_outage_before_it;
    nor_does_it_last_for_them_when_its_own_have_all_come_back;
    nor_is_their_customer_asked_about_them_when_another_connection_fails_in_it;
    nor_does_it_wait_for_them_when_all_such_others_have_come_back;
}

/// 25 failed in an outage that is over, and none has come back.
async fn not_back(on: On) -> World {
    let mut w = world(on, 60).await;
    w.down("outlook").await;
    fail(&w, "k", 0..25).await;
    until(&mut w, "2025-06-02T11:00:00Z").await;
    w.up("outlook").await;
    until(&mut w, "2025-06-02T19:53:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await.len(), told(&w).len()), (0, 0, 0));
    until(&mut w, "2025-06-02T19:58:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await), (20, vec!["flood canary longest_hold".to_owned()]));
    w
}

async fn down(w: &World) -> Vec<String> {
    let found = w.query("SELECT key FROM component WHERE down_since IS NOT NULL").await;
    found.into_iter().map(|row| row[0].clone().unwrap()).collect()
}

async fn of_those_who_did_not_come_back_a_few_are_asked_first(on: On) {
    let mut w = not_back(on).await;
    let words = "not all have come back with it, and the first of 25 mails has waited for the longest hold";
    assert!(told(&w)[0].contains(words), "{}", told(&w)[0]);
    assert!(told(&w)[0].contains("[Example] Many connections of Outlook have not come back"), "{}", told(&w)[0]);
    until(&mut w, "2025-06-02T20:10:00Z").await;
    assert_eq!((asked(&w).len(), told(&w).len()), (25, 1));
    assert_eq!(surges(&w).await, ["flood over nobody_waits"]);
    assert_eq!(down(&w).await, [""; 0], "the source's word stands");
    // What fails after that is asked as ever.
    w.broken("k50").await;
    w.pass(6).await;
    assert_eq!(asked(&w).last().unwrap(), "k50");
}

async fn asking_them_stops_when_they_come_back_after_all(on: On) {
    let mut w = not_back(on).await;
    recover(&w, 0..25).await;
    w.pass(1).await;
    assert_eq!(surges(&w).await, ["flood holding recoveries_rise"]);
    assert_eq!(down(&w).await, [""; 0], "the source's word stands");
    until(&mut w, "2025-06-02T20:40:00Z").await;
    // Those asked are told that nothing is needed; nobody else heard anything.
    let mut heard = asked(&w);
    assert_eq!(heard.len(), 40);
    heard.sort();
    heard.dedup();
    assert_eq!((heard.len(), surges(&w).await), (20, vec!["flood over nobody_waits".to_owned()]));
}

async fn a_new_flood_takes_the_place_of_asking_them(on: On) {
    let mut w = not_back(on).await;
    fail(&w, "k", 25..55).await;
    until(&mut w, "2025-06-02T20:00:00Z").await;
    assert_eq!(surges(&w).await, ["flood over surge_returns", "flood holding opened"]);
    assert_eq!(down(&w).await, ["outlook"]);
    // Neither those five nor the new ones are asked while it floods, and the new ones come back.
    until(&mut w, "2025-06-02T20:12:00Z").await;
    recover(&w, 25..55).await;
    until(&mut w, "2025-06-02T20:20:00Z").await;
    assert_eq!(asked(&w).len(), 20);
    until(&mut w, "2025-06-02T21:00:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await[1].as_str()), (25, "flood over nobody_waits"));
}

/// An outage in which one fails each minute, and none comes back with it.
async fn an_hour_of_failures(w: &mut World) {
    w.down("outlook").await;
    for n in 0..60 {
        fail(w, "k", n..n + 1).await;
        w.pass(1).await;
    }
    w.up("outlook").await;
}

async fn an_hour_of_failures_is_asked_about_once(on: On) {
    let mut w = world(on, 60).await;
    an_hour_of_failures(&mut w).await;
    until(&mut w, "2025-06-02T19:58:00Z").await;
    assert_eq!(asked(&w).len(), 20);
    until(&mut w, "2025-06-02T20:40:00Z").await;
    assert!((35..=42).contains(&asked(&w).len()), "each when his own time has come: {}", asked(&w).len());
    until(&mut w, "2025-06-02T21:05:00Z").await;
    assert_eq!((asked(&w).len(), told(&w).len()), (60, 1));
    assert_eq!(surges(&w).await, ["flood over nobody_waits"]);
}

async fn those_left_of_an_outage_that_lasted_are_no_crowd_when_it_ends(on: On) {
    let mut w = world(on, 60).await;
    w.down("outlook").await;
    fail(&w, "k", 0..50).await;
    until(&mut w, "2025-06-02T19:57:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await), (20, vec!["flood canary longest_hold".to_owned()]));
    w.up("outlook").await;
    w.pass(1).await;
    assert_eq!(surges(&w).await, ["flood holding component_recovered"]);
    until(&mut w, "2025-06-02T20:12:00Z").await;
    assert_eq!(asked(&w).len(), 20);
    until(&mut w, "2025-06-02T20:16:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await), (40, vec!["flood canary longest_hold".to_owned()]));
    until(&mut w, "2025-06-02T20:30:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await), (50, vec!["flood over nobody_waits".to_owned()]));
}

async fn those_held_by_hand_are_no_crowd_when_it_ends_either(on: On) {
    let mut w = world(on, 60).await;
    flood(&mut w).await;
    until(&mut w, "2025-06-02T08:10:00Z").await;
    keep(&w).await;
    until(&mut w, "2025-06-02T20:30:10Z").await;
    w.up("outlook").await;
    w.pass(30).await;
    assert_eq!((asked(&w).len(), surges(&w).await), (0, vec!["flood holding held_until".to_owned()]));
    assert_eq!(down(&w).await, [""; 0]);
}

async fn what_is_held_by_hand_stays_so_when_its_component_is_back(on: On) {
    let mut w = world(on, 60).await;
    flood(&mut w).await;
    until(&mut w, "2025-06-02T08:10:00Z").await;
    keep(&w).await;
    until(&mut w, "2025-06-02T08:30:00Z").await;
    w.up("outlook").await;
    until(&mut w, "2025-06-02T21:00:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await), (0, vec!["flood holding held_until".to_owned()]));
    assert_eq!(down(&w).await, [""; 0]);
    // Nobody is left to keep.
    let all = json!({"component": "outlook", "what": "recovered", "connections": "all"});
    w.signal(all.clone()).await;
    let again = w.signal(all).await;
    assert!(again.outcome.as_str() == "repeated" && again.note.is_some_and(|note| note.contains("`since`")));
    w.pass(20).await;
    let ended = surges(&w).await;
    assert!(asked(&w).is_empty() && ended[0].starts_with("flood over"), "{ended:?}");
}

/// An operator wants it held until he says otherwise.
async fn keep(w: &World) {
    let open = rows::open(&mut w.store.read().await.unwrap()).await.unwrap().pop().unwrap();
    let asked = Asked { who: "jo", reason: "the provider said so" };
    surge::act(&w.store, &w.shared.setting, open.id, Act::Hold(None), asked).await.unwrap();
}

async fn nobody_is_asked_for_others_whose_time_is_over(on: On) {
    let mut w = world(on, 90).await;
    w.down("outlook").await;
    fail(&w, "k", 0..21).await;
    until(&mut w, "2025-06-02T12:00:00Z").await;
    fail(&w, "k", 21..90).await;
    w.pass(1).await;
    w.up("outlook").await;
    until(&mut w, "2025-06-02T20:30:00Z").await;
    let mut heard = asked(&w);
    heard.sort();
    let mut first: Vec<_> = (0..21).map(|n| format!("k{n}")).collect();
    first.sort();
    assert_eq!(heard, first);
    until(&mut w, "2025-06-02T23:50:00Z").await;
    assert_eq!(asked(&w).len(), 21);
}

async fn each_wave_has_a_canary_of_its_own(on: On) {
    let mut w = world(on, 90).await;
    w.down("outlook").await;
    fail(&w, "k", 0..30).await;
    until(&mut w, "2025-06-02T12:00:00Z").await;
    fail(&w, "k", 30..90).await;
    w.pass(1).await;
    w.up("outlook").await;
    until(&mut w, "2025-06-02T20:30:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await), (30, vec!["flood over nobody_waits".to_owned()]));
    until(&mut w, "2025-06-02T23:58:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await.len()), (50, 2));
    until(&mut w, "2025-06-03T00:10:00Z").await;
    assert_eq!((asked(&w).len(), told(&w).len()), (90, 2));
}

async fn each_wave_has_one_while_its_outage_lasts_too(on: On) {
    let mut w = world(on, 90).await;
    w.down("outlook").await;
    fail(&w, "k", 0..30).await;
    until(&mut w, "2025-06-02T12:00:00Z").await;
    fail(&w, "k", 30..90).await;
    until(&mut w, "2025-06-02T20:30:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await), (30, vec!["flood over nobody_waits".to_owned()]));
    until(&mut w, "2025-06-02T23:58:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await.len()), (50, 2));
    until(&mut w, "2025-06-03T00:10:00Z").await;
    assert_eq!((asked(&w).len(), told(&w).len()), (90, 2));
}

async fn what_an_operator_keeps_is_kept_in_a_new_flood(on: On) {
    let mut w = not_back(on).await;
    keep(&w).await;
    fail(&w, "k", 25..55).await;
    until(&mut w, "2025-06-02T21:00:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await.len()), (20, 2));
    assert_eq!(surges(&w).await[1], "flood holding held_until");
}

async fn a_few_need_no_canary_after_a_recovery_either(on: On) {
    let mut w = world(on, 30).await;
    w.down("outlook").await;
    fail(&w, "k", 0..20).await;
    w.up("outlook").await;
    until(&mut w, "2025-06-02T19:59:00Z").await;
    assert_eq!(asked(&w).len(), 0);
    until(&mut w, "2025-06-02T20:01:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await.len()), (20, 0));
}

/// 55 failed in a flood that is over, and 20 were asked.
async fn calm(on: On) -> World {
    let mut w = world(on, 200).await;
    fail(&w, "k", 0..55).await;
    until(&mut w, "2025-06-02T08:27:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await), (20, vec!["flood canary calm".to_owned()]));
    w
}

/// Whoever was asked, or so many of those who were not: nobody says how.
async fn reconnect(w: &World, asked: &[String], others: usize) {
    let of = |n: &usize| !asked.contains(&format!("k{n}"));
    let others = (0..55).filter(of).take(others).map(|n| format!("k{n}"));
    for key in asked.iter().cloned().chain(others).collect::<Vec<_>>() {
        w.signal(json!({"connection": key, "what": "recovered"})).await;
    }
}

async fn customers_who_reconnect_stop_nothing_though_their_source_cannot_tell(on: On) {
    let mut w = calm(on).await;
    let first = asked(&w);
    reconnect(&w, &first, 0).await;
    until(&mut w, "2025-06-02T08:40:00Z").await;
    let mut heard = asked(&w);
    heard.sort();
    heard.dedup();
    assert_eq!((heard.len(), surges(&w).await), (55, vec!["flood over nobody_waits".to_owned()]));
}

async fn so_do_those_who_have_several_connections(on: On) {
    let mut w = world(on, 400).await;
    for n in 0..40 {
        w.connection(&format!("m{n}"), "outlook", &format!("k{n}")).await;
    }
    fail(&w, "m", 0..40).await;
    fail(&w, "k", 0..40).await;
    until(&mut w, "2025-06-02T08:27:00Z").await;
    let first = asked(&w);
    assert_eq!((first.len(), surges(&w).await), (20, vec!["flood canary calm".to_owned()]));
    for customer in first {
        for key in [customer.clone(), customer.replace('k', "m")] {
            w.signal(json!({"connection": key, "what": "recovered"})).await;
        }
    }
    w.pass(1).await;
    assert_eq!(surges(&w).await, ["flood canary calm"]);
    until(&mut w, "2025-06-02T08:40:00Z").await;
    assert_eq!(surges(&w).await, ["flood over nobody_waits"]);
}

async fn more_than_were_asked_stop_it(on: On) {
    let mut w = calm(on).await;
    let first = asked(&w);
    reconnect(&w, &first, 5).await;
    w.pass(1).await;
    assert_eq!(surges(&w).await, ["flood holding recoveries_rise"]);
}

/// 25 failed in a flood that a recovery covers, and none confirms it until its deadline.
async fn unconfirmed(on: On) -> World {
    deadline_of(world(on, 60).await).await
}

async fn deadline_of(mut w: World) -> World {
    flood(&mut w).await;
    until(&mut w, "2025-06-02T08:20:00Z").await;
    w.signal(json!({"component": "outlook", "what": "recovered", "connections": "all"})).await;
    until(&mut w, "2025-06-02T14:22:00Z").await;
    assert_eq!(surges(&w).await, ["flood over component_recovered", "flood holding unconfirmed"]);
    w
}

async fn of_those_who_did_not_confirm_a_few_are_asked_first(on: On) {
    let mut w = unconfirmed(on).await;
    until(&mut w, "2025-06-02T14:34:00Z").await;
    assert_eq!((asked(&w).len(), told(&w).len()), (0, 1));
    until(&mut w, "2025-06-02T14:37:00Z").await;
    assert_eq!((asked(&w).len(), told(&w).len()), (20, 2));
    let words = "many connections have not confirmed the recovery that spoke for them";
    assert!(told(&w)[1].contains(words), "{}", told(&w)[1]);
    until(&mut w, "2025-06-02T14:50:00Z").await;
    assert_eq!(asked(&w).len(), 25);
    assert_eq!(surges(&w).await, ["flood over component_recovered", "flood over nobody_waits"]);
}

async fn nobody_else_is_asked_to_confirm_when_the_first_few_recover(on: On) {
    let mut w = unconfirmed(on).await;
    until(&mut w, "2025-06-02T14:37:00Z").await;
    assert_eq!(asked(&w).len(), 20);
    recover(&w, 0..25).await;
    until(&mut w, "2025-06-02T15:30:00Z").await;
    let mut heard = asked(&w);
    assert_eq!(heard.len(), 40);
    heard.sort();
    heard.dedup();
    assert_eq!(heard.len(), 20);
}

async fn small_pages_are_no_few(on: On) {
    let w = World::with(on, START, Script::default(), |s| {
        s.surge = Some(Rules::default());
        s.page = 10;
    })
    .await;
    fill(&w, "outlook", "k", 60).await;
    let mut w = deadline_of(w).await;
    until(&mut w, "2025-06-02T14:37:00Z").await;
    assert_eq!(asked(&w).len(), 20);
}

async fn an_outage_at_the_deadline_keeps_those_who_did_not_confirm(on: On) {
    let mut w = world(on, 60).await;
    flood(&mut w).await;
    until(&mut w, "2025-06-02T08:20:00Z").await;
    w.signal(json!({"component": "outlook", "what": "recovered", "connections": "all"})).await;
    until(&mut w, "2025-06-02T14:00:00Z").await;
    w.down("outlook").await;
    until(&mut w, "2025-06-02T20:00:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await), (0, vec!["flood over component_recovered".to_owned()]));
}

async fn an_outage_after_the_deadline_does_not_let_them_go_when_it_ends(on: On) {
    let mut w = unconfirmed(on).await;
    until(&mut w, "2025-06-02T14:24:00Z").await;
    w.down("outlook").await;
    until(&mut w, "2025-06-02T15:00:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await[1].as_str()), (0, "flood holding component_down"));
    w.up("outlook").await;
    until(&mut w, "2025-06-02T15:12:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await[1].as_str()), (0, "flood holding component_recovered"));
    until(&mut w, "2025-06-02T15:18:00Z").await;
    assert_eq!(asked(&w).len(), 20);
    until(&mut w, "2025-06-02T15:30:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await[1].as_str()), (25, "flood over nobody_waits"));
}

async fn a_release_that_runs_does_not_take_them_along(on: On) {
    let mut w = world(on, 90).await;
    // An outage of twelve hours ago is being asked about, each in his time.
    an_hour_of_failures(&mut w).await;
    until(&mut w, "2025-06-02T14:10:00Z").await;
    let since = t("2025-06-02T14:05:00Z");
    fail(&w, "k", 60..85).await;
    let confirm =
        json!({"component": "outlook", "what": "recovered", "connections": "all", "since": since.to_string()});
    until(&mut w, "2025-06-02T14:15:00Z").await;
    w.signal(confirm).await;
    until(&mut w, "2025-06-02T20:13:00Z").await;
    assert_eq!(surges(&w).await.last().unwrap(), "flood releasing canary_well");
    let before = asked(&w).len();
    until(&mut w, "2025-06-02T20:18:00Z").await;
    assert_eq!(surges(&w).await.last().unwrap(), "flood holding unconfirmed");
    until(&mut w, "2025-06-02T20:28:00Z").await;
    assert!(asked(&w).len() <= before + 4, "{} after {before}", asked(&w).len());
    until(&mut w, "2025-06-02T20:33:00Z").await;
    let unconfirmed = |w: &World| asked(w).iter().filter(|to| (60..85).any(|n| **to == format!("k{n}"))).count();
    assert_eq!(unconfirmed(&w), 20, "a canary of their own");
    until(&mut w, "2025-06-02T21:10:00Z").await;
    assert_eq!(asked(&w).len(), 85);
}

async fn those_are_asked_first_who_did_not_confirm_and_not_who_waits(on: On) {
    let mut w = world(on, 120).await;
    flood(&mut w).await;
    until(&mut w, "2025-06-02T08:20:00Z").await;
    w.signal(json!({"component": "outlook", "what": "recovered", "connections": "all"})).await;
    until(&mut w, "2025-06-02T12:00:00Z").await;
    w.down("outlook").await;
    fail(&w, "k", 25..120).await;
    w.pass(1).await;
    w.up("outlook").await;
    until(&mut w, "2025-06-02T15:00:00Z").await;
    let mut heard = asked(&w);
    heard.sort();
    let mut unconfirmed: Vec<_> = (0..25).map(|n| format!("k{n}")).collect();
    unconfirmed.sort();
    assert_eq!(heard, unconfirmed);
}

async fn where_nobody_looks_for_floods_they_are_asked_at_once(on: On) {
    let mut w = world_with(on, 60, None).await;
    w.down("outlook").await;
    fail(&w, "k", 0..25).await;
    until(&mut w, "2025-06-02T08:20:00Z").await;
    w.signal(json!({"component": "outlook", "what": "recovered", "connections": "all"})).await;
    until(&mut w, "2025-06-02T14:19:00Z").await;
    assert_eq!(asked(&w).len(), 0);
    w.clock.set(w.now() + Span::minutes(2));
    w.pass(7).await;
    assert_eq!((asked(&w).len(), surges(&w).await.len()), (25, 0));
}

/// 25 failed in an outage that was over at 08:20, and none has come back; it is 10:00.
async fn before(on: On) -> World {
    let mut w = world(on, 120).await;
    w.down("outlook").await;
    fail(&w, "k", 0..25).await;
    until(&mut w, "2025-06-02T08:20:00Z").await;
    w.up("outlook").await;
    until(&mut w, "2025-06-02T10:00:00Z").await;
    w
}

async fn a_flood_asks_nobody_who_waits_to_come_back_after_an_outage_before_it(on: On) {
    let mut w = before(on).await;
    fail(&w, "k", 30..60).await;
    until(&mut w, "2025-06-02T10:28:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await), (20, vec!["flood canary calm".to_owned()]));
    let of_before = |w: &World| asked(w).iter().filter(|key| key[1..].parse::<u32>().unwrap() < 25).count();
    assert_eq!(of_before(&w), 0, "{:?}", asked(&w));
    until(&mut w, "2025-06-02T19:50:00Z").await;
    assert_eq!((of_before(&w), asked(&w).len()), (0, 30), "{:?}", asked(&w));
    until(&mut w, "2025-06-02T20:40:00Z").await;
    assert_eq!((of_before(&w), asked(&w).len()), (25, 55), "{:?}", asked(&w));
}

async fn nor_does_it_last_for_them_when_its_own_have_all_come_back(on: On) {
    let mut w = before(on).await;
    fail(&w, "k", 30..60).await;
    until(&mut w, "2025-06-02T10:12:00Z").await;
    recover(&w, 30..60).await;
    until(&mut w, "2025-06-02T10:40:00Z").await;
    assert_eq!((asked(&w), surges(&w).await), (vec![], vec!["flood over nobody_waits".to_owned()]));
    assert_eq!(down(&w).await, [""; 0]);
}

async fn nor_is_their_customer_asked_about_them_when_another_connection_fails_in_it(on: On) {
    let mut w = before(on).await;
    w.connection("m0", "outlook", "k0").await;
    w.broken("m0").await;
    until(&mut w, "2025-06-02T10:01:00Z").await;
    fail(&w, "k", 30..60).await;
    until(&mut w, "2025-06-02T10:29:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await), (20, vec!["flood canary calm".to_owned()]));
    let named = |w: &World| {
        let texts: Vec<_> = w.all().iter().filter(|got| got.to.starts_with("k0@")).map(|got| got.text()).collect();
        ["Inbox m0", "Inbox k0"].map(|name| texts.iter().filter(|text| text.contains(name)).count())
    };
    assert_eq!(named(&w), [1, 0]);
    until(&mut w, "2025-06-02T10:50:00Z").await;
    assert_eq!((asked(&w).len(), surges(&w).await), (31, vec!["flood over nobody_waits".to_owned()]));
    until(&mut w, "2025-06-02T19:50:00Z").await;
    assert_eq!((asked(&w).len(), named(&w)), (31, [1, 0]));
    until(&mut w, "2025-06-02T20:40:00Z").await;
    assert_eq!((asked(&w).len(), named(&w)), (56, [1, 1]));
}

async fn nor_does_it_wait_for_them_when_all_such_others_have_come_back(on: On) {
    let mut w = before(on).await;
    for n in 0..25 {
        w.connection(&format!("m{n}"), "outlook", &format!("k{n}")).await;
    }
    fail(&w, "m", 0..25).await;
    fail(&w, "k", 30..36).await;
    until(&mut w, "2025-06-02T10:12:00Z").await;
    for n in 0..25 {
        w.recovered(&format!("m{n}"), "automatic").await;
    }
    until(&mut w, "2025-06-02T10:50:00Z").await;
    let mut heard = asked(&w);
    heard.sort();
    assert_eq!(
        (heard.join(" "), surges(&w).await),
        ("k30 k31 k32 k33 k34 k35".to_owned(), vec!["flood over nobody_waits".to_owned()])
    );
    until(&mut w, "2025-06-02T20:40:00Z").await;
    assert_eq!(asked(&w).len(), 31);
}
