//! "Later" and "no", as real relays say them.

use crate::relays::Relays;
use crate::support::{On, World};
use crate::{on_both, rows, subscribers, to, world, write_to};
use allclear::mail::Relay;
use std::time::Instant;

on_both! {
    later_at_the_recipient_is_tried_again_and_then_delivered;
    later_after_the_dot_is_tried_again_and_then_delivered;
    a_greylisted_mail_arrives_once_when_the_greylist_lets_it_pass;
    one_unknown_recipient_among_many_fails_alone_and_costs_no_session;
    a_refusal_after_the_dot_ends_that_mail_and_not_the_session;
    the_second_relay_says_later_and_no;
}

const REPLIES: &str = "SELECT outcome, CAST(code AS TEXT), enhanced FROM attempt ORDER BY id";
const FAILED: &str = "SELECT a.reply FROM delivery d JOIN attempt a ON a.delivery_id = d.id WHERE d.state = 'failed'";
const IDS: &str = "SELECT message_id FROM delivery";

async fn ann(on: On, relays: &Relays, relay: &Relay) -> World {
    let w = world(on, relay, 1).await;
    subscribers(&w, relays, &["ann"]).await;
    write_to(&w, relays, &["ann"]).await;
    w
}

/// Put off now, taken later, delivered once, and the same mail each time.
async fn later(mut w: World, relays: &mut Relays, reply: &str, reason: &str) {
    w.settle().await;
    assert_eq!(rows(&w, REPLIES).await, [format!("deferred {reply}")]);
    assert_eq!(w.deliveries().await, [format!("free queued {reason}")]);
    let id = rows(&w, IDS).await;
    relays.take("ann");
    // A full mailbox is given half an hour.
    w.pass(31).await;
    assert_eq!(rows(&w, REPLIES).await[1], "accepted 250 2.0.0");
    let arrived = relays.arrive(1).await;
    assert!(arrived[0].header("Message-ID").contains(id[0].trim_matches(['<', '>'])), "{id:?} {arrived:?}");
    w.pass(60).await;
    assert_eq!(rows(&w, REPLIES).await.len(), 2);
    assert_eq!(rows(&w, IDS).await, id);
}

async fn later_at_the_recipient_is_tried_again_and_then_delivered(on: On) {
    let mut relays = Relays::get();
    relays.answer("ann", "452 4.2.2 the mailbox is full");
    let w = ann(on, &relays, &relays.relay("starttls")).await;
    later(w, &mut relays, "452 4.2.2", "mailbox_full").await;
}

async fn later_after_the_dot_is_tried_again_and_then_delivered(on: On) {
    let mut relays = Relays::get();
    relays.answer_after_the_dot("ann", "451 4.3.0 the scanner is busy");
    let w = ann(on, &relays, &relays.relay("implicit")).await;
    later(w, &mut relays, "451 4.3.0", "retry").await;
}

async fn a_greylisted_mail_arrives_once_when_the_greylist_lets_it_pass(on: On) {
    let mut relays = Relays::get();
    let mut w = ann(on, &relays, &relays.relay("greylisting")).await;
    w.settle().await;
    let id = rows(&w, IDS).await;
    // postgrey counts real seconds and we driven ones: each try is a real one, and some come too early.
    let begin = Instant::now();
    while w.deliveries().await == ["free queued greylisted"] {
        assert!(begin.elapsed().as_secs() < 60, "{}", relays.log());
        w.pass(1).await;
    }
    let replies = rows(&w, REPLIES).await;
    let (last, before) = replies.split_last().unwrap();
    assert_eq!(last, "accepted 250 2.0.0");
    assert!(!before.is_empty() && before.iter().all(|reply| reply == "deferred 450 4.2.0"), "{replies:?}");
    w.pass(60).await;
    assert_eq!(rows(&w, REPLIES).await, replies);
    let arrived = relays.arrive(1).await;
    assert_eq!(arrived.len(), 1);
    assert!(arrived[0].header("Message-ID").contains(id[0].trim_matches(['<', '>'])), "{id:?} {arrived:?}");
    assert_eq!(rows(&w, IDS).await, id);
}

async fn one_unknown_recipient_among_many_fails_alone_and_costs_no_session(on: On) {
    let mut relays = Relays::get();
    let mut w = world(on, &relays.relay("starttls"), 1).await;
    let mut names: Vec<String> = (0..30).map(|n| format!("c{n:02}")).collect();
    names.insert(10, "gone".to_owned());
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    subscribers(&w, &relays, &names).await;
    write_to(&w, &relays, &names).await;
    w.settle().await;
    let arrived = relays.arrive(30).await;
    assert_eq!(arrived.len(), 30);
    let failed = rows(&w, FAILED).await;
    assert!(failed.len() == 1 && failed[0].contains("User unknown"), "{failed:?}");
    let accepted = w.deliveries().await.iter().filter(|delivery| *delivery == "free accepted").count();
    assert_eq!(accepted, 30);
    let sessions = relays.sessions(&arrived).await;
    assert_eq!(sessions.len(), 1, "one session took and refused them all: {sessions:?}");
}

async fn a_refusal_after_the_dot_ends_that_mail_and_not_the_session(on: On) {
    let mut relays = Relays::get();
    relays.answer_after_the_dot("bob", "554 5.7.1 this looks like spam");
    let mut w = world(on, &relays.relay("starttls"), 1).await;
    let names = ["ann", "bob", "eve"];
    subscribers(&w, &relays, &names).await;
    write_to(&w, &relays, &names).await;
    w.settle().await;
    let arrived = relays.arrive(2).await;
    assert_eq!(
        arrived.iter().map(|mail| mail.to.clone()).collect::<Vec<_>>(),
        ["ann", "eve"].map(|n| relays.address(n))
    );
    let failed = rows(&w, FAILED).await;
    assert!(failed.len() == 1 && failed[0].contains("this looks like spam"), "{failed:?}");
    assert_eq!(relays.sessions(&arrived).await.len(), 1);
}

async fn the_second_relay_says_later_and_no(on: On) {
    let mut relays = Relays::get();
    relays.answer("ann", "later");
    let mut w = world(on, &relays.relay("exim"), 1).await;
    let names = ["ann", "bob", "gone"];
    subscribers(&w, &relays, &names).await;
    write_to(&w, &relays, &names).await;
    w.settle().await;
    assert_eq!(relays.arrive(1).await[0].to, relays.address("bob"));
    let mut states = w.deliveries().await;
    states.sort();
    assert_eq!(states, ["free accepted", "free failed address_dead", "free queued slow_down"]);
    let failed = rows(&w, FAILED).await;
    assert!(failed.len() == 1 && failed[0].contains("no such user"), "{failed:?}");
    relays.take("ann");
    to(&mut w, &relays.relay("exim-implicit"));
    w.pass(1).await;
    let arrived = relays.arrive(2).await;
    assert_eq!(
        arrived.iter().map(|mail| mail.to.clone()).collect::<Vec<_>>(),
        ["ann", "bob"].map(|n| relays.address(n))
    );
}
