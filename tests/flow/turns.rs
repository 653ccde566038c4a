//! Turns under the cap of a recipient domain: nobody waits behind mail that will not leave, nor is put off again and again.

use super::surge::{asked, fill, flood, told};
use crate::on_both;
use crate::support::{On, World};
use allclear::domain::surge::Rules;
use allclear::domain::time::{Span, Timestamp};
use allclear::flow::pace::Rate;
use allclear::flow::status::status;
use allclear::mail::sink::Script;
use serde_json::json;

on_both! {
    corrections_have_every_other_turn_of_a_capped_domain;
    corrections_have_their_turns_however_those_of_others_lie;
    turns_of_what_is_withdrawn_keep_nobody_waiting;
    those_who_lost_their_turns_get_turns_of_their_own;
    no_turn_is_further_ahead_than_an_hour;
    a_clock_that_was_set_back_keeps_nobody_waiting;
    an_end_waits_behind_no_other_incident_s;
    operators_are_told_before_everybody_has_their_news;
    what_waits_for_its_turn_is_left_to_send;
}

const START: &str = "2025-06-02T08:00:00Z";

/// So many subscribers, each with a connection, at one domain that takes so many mails a minute.
async fn world(on: On, readers: usize, cap: u32) -> World {
    let w = World::with(on, START, Script::default(), |s| {
        s.streams.iter_mut().for_each(|stream| stream.caps.domain = Some(Rate::per_minute(cap)));
    })
    .await;
    w.component("outlook", "Outlook").await;
    for n in 0..readers {
        let key = format!("r{n}");
        w.subscriber(&key).await;
        w.connection(&key, "outlook", &key).await;
        w.subscribe(&key, "outlook").await;
    }
    w
}

/// Lets time pass second by second.
async fn seconds(w: &mut World, n: usize) {
    for _ in 0..n {
        w.move_to(w.now() + Span::seconds(1)).await;
    }
}

/// The same in steps that are shorter than the time between two turns.
async fn tenths(w: &mut World, n: usize) {
    for _ in 0..n {
        w.move_to(w.now() + Span::millis(100)).await;
    }
}

async fn update(w: &World, id: &str, phase: &str, impact: &str, status: &str) {
    w.notice(json!({"kind": "incident", "incident": id, "title": id, "phase": phase, "impact": impact, "body": phase,
        "components": [{"key": "outlook", "status": status}]}))
        .await;
}

async fn free(w: &World, readers: usize) {
    let recipients: Vec<_> = (0..readers).map(|n| format!("r{n}")).collect();
    w.notice(json!({"kind": "free", "subject": "News", "body": "Something.", "recipients": recipients})).await;
}

/// When those that were put off have their turns, in seconds from now.
async fn turns(w: &World) -> Vec<i64> {
    let found = w.query("SELECT CAST(due_at AS TEXT) FROM delivery WHERE state = 'queued' AND reason = 'paced'").await;
    found.iter().map(|row| (Timestamp(row[0].clone().unwrap().parse().unwrap()) - w.now()).as_seconds()).collect()
}

async fn corrections_have_every_other_turn_of_a_capped_domain(on: On) {
    let mut w = world(on, 150, 60).await;
    for n in 0..6 {
        w.broken(&format!("r{n}")).await;
    }
    w.pass(6).await;
    seconds(&mut w, 10).await;
    assert_eq!(asked(&w).len(), 6);
    for n in 6..150 {
        w.broken(&format!("r{n}")).await;
    }
    w.pass(5).await;
    seconds(&mut w, 20).await;
    for n in 0..6 {
        w.recovered(&format!("r{n}"), "automatic").await;
    }
    let before = asked(&w).len();
    seconds(&mut w, 30).await;
    let since = asked(&w).split_off(before);
    let corrected = since.iter().filter(|to| (0..6).any(|n| **to == format!("r{n}"))).count();
    assert_eq!(corrected, 6, "{since:?}");
    assert!(since.len() > 12, "and the others have turns, too: {since:?}");
}

async fn corrections_have_their_turns_however_those_of_others_lie(on: On) {
    for cap in [60, 120] {
        let readers = cap as usize + 10;
        let mut w = world(on, readers, cap).await;
        for n in 0..10 {
            w.broken(&format!("r{n}")).await;
        }
        w.pass(6).await;
        seconds(&mut w, 10).await;
        for n in 10..readers {
            w.broken(&format!("r{n}")).await;
        }
        w.pass(5).await;
        tenths(&mut w, 30).await;
        for n in 0..10 {
            w.recovered(&format!("r{n}"), "automatic").await;
        }
        let before = asked(&w).len();
        tenths(&mut w, 200).await;
        let since = asked(&w).split_off(before);
        let corrected = since.iter().take(15).filter(|to| (0..10).any(|n| **to == format!("r{n}"))).count();
        assert_eq!(corrected, 10, "{cap}: {since:?}");
        assert!(since.len() > readers / 5, "and the others have turns, too: {since:?}");
    }
}

async fn turns_of_what_is_withdrawn_keep_nobody_waiting(on: On) {
    let mut w = world(on, 200, 60).await;
    update(&w, "one", "investigating", "minor", "partial_outage").await;
    seconds(&mut w, 20).await;
    let told = w.all().len();
    assert!((15..40).contains(&told), "{told}");
    update(&w, "one", "resolved", "minor", "operational").await;
    seconds(&mut w, 60).await;
    assert_eq!(w.all().len(), 2 * told, "who was told is told of the end");
    update(&w, "two", "investigating", "critical", "major_outage").await;
    seconds(&mut w, 60).await;
    assert!(w.all().len() > 2 * told + 40, "{} after {told}", w.all().len() - 2 * told);
}

async fn those_who_lost_their_turns_get_turns_of_their_own(on: On) {
    // More than one claim reads.
    let mut w = world(on, 250, 60).await;
    free(&w, 250).await;
    seconds(&mut w, 2).await;
    // Nothing ran for long: all their turns have passed.
    w.move_to(w.now() + Span::minutes(20)).await;
    let mut turns = turns(&w).await;
    let put_off = turns.len();
    turns.sort_unstable();
    turns.dedup();
    assert!(put_off > 200 && turns.len() * 10 > put_off * 9, "{} turns for {put_off}", turns.len());
}

async fn no_turn_is_further_ahead_than_an_hour(on: On) {
    let mut w = world(on, 150, 1).await;
    free(&w, 150).await;
    seconds(&mut w, 2).await;
    let turns = turns(&w).await;
    assert!(turns.len() > 100 && turns.iter().all(|turn| *turn <= 3_600), "{turns:?}");
}

async fn a_clock_that_was_set_back_keeps_nobody_waiting(on: On) {
    let mut w = world(on, 20, 60).await;
    free(&w, 20).await;
    seconds(&mut w, 40).await;
    assert_eq!(w.all().len(), 20);
    w.execute("UPDATE rate_bucket SET at = at + 3600000000, level = 0").await;
    free(&w, 10).await;
    seconds(&mut w, 30).await;
    assert_eq!(w.all().len(), 30);
}

/// As `world`, with this cap for all mails of a stream.
async fn paced(on: On, readers: usize, cap: u32) -> World {
    let w = World::with(on, START, Script::default(), |s| {
        s.streams.iter_mut().for_each(|stream| stream.caps.overall = Some(Rate::per_minute(cap)));
        s.surge = Some(Rules::default());
        s.operators.address = Some("oncall@example.net".to_owned());
    })
    .await;
    fill(&w, "outlook", "k", readers).await;
    w
}

async fn an_end_waits_behind_no_other_incident_s(on: On) {
    let mut w = paced(on, 60, 60).await;
    for n in 0..60 {
        w.subscribe(&format!("k{n}"), "outlook").await;
    }
    w.component("imap", "IMAP").await;
    w.subscriber("ann").await;
    w.subscribe("ann", "imap").await;
    let said = |id: &str, phase: &str, key: &str, status: &str| {
        json!({"kind": "incident", "incident": id, "title": id, "phase": phase, "body": phase,
            "components": [{"key": key, "status": status}]})
    };
    w.notice(said("large", "investigating", "outlook", "partial_outage")).await;
    w.notice(said("small", "investigating", "imap", "partial_outage")).await;
    seconds(&mut w, 70).await;
    assert_eq!(w.all().len(), 61);
    w.notice(said("large", "resolved", "outlook", "operational")).await;
    seconds(&mut w, 2).await;
    w.notice(said("small", "resolved", "imap", "operational")).await;
    seconds(&mut w, 8).await;
    let ends = asked(&w).split_off(61);
    assert!(ends.len() < 20 && ends.contains(&"ann".to_owned()), "{ends:?}");
}

async fn operators_are_told_before_everybody_has_their_news(on: On) {
    let mut w = paced(on, 60, 20).await;
    let recipients: Vec<_> = (0..60).map(|n| format!("k{n}")).collect();
    w.notice(json!({"kind": "free", "subject": "News", "body": "Something.", "recipients": recipients})).await;
    flood(&mut w).await;
    w.pass(1).await;
    seconds(&mut w, 10).await;
    assert!(asked(&w).len() < 40, "{:?}", asked(&w));
    assert_eq!(told(&w).len(), 1, "{:?}", w.deliveries().await);
}

async fn what_waits_for_its_turn_is_left_to_send(on: On) {
    let mut w = world(on, 20, 10).await;
    free(&w, 20).await;
    w.settle().await;
    assert_eq!(due_and_drained(&w).await, (0, None), "more came than leaves");
    w.pass(6).await;
    let (due, drained) = due_and_drained(&w).await;
    assert!(due == 0 && drained.is_some_and(|seconds| seconds > 0), "{due} {drained:?}");
    seconds(&mut w, 150).await;
    assert_eq!((w.all().len(), due_and_drained(&w).await), (20, (0, Some(0))));
}

async fn due_and_drained(w: &World) -> (i64, Option<i64>) {
    let said = status(&mut w.store.read().await.unwrap(), &w.shared.setting).await.unwrap();
    (said.due, said.drained_in_seconds)
}
