//! A subscription is over while mails wait: what no other asks for never leaves; the end of what was told does.

use super::table::until;
use crate::on_both;
use crate::support::{Got, On, World};
use allclear::domain::hold::{HoldCause, HoldScope};
use allclear::domain::kind::Kind;
use allclear::flow::import::{self, Format, Job};
use allclear::flow::register;
use allclear::mail::sink::{Answer, Phase, Script};
use allclear::store::holds;
use serde_json::{Value, json};
use std::io::Cursor;
use tokio_util::sync::CancellationToken;

on_both! {
    whoever_has_unsubscribed_gets_nothing_that_waited;
    what_another_subscription_asks_for_leaves;
    an_update_that_names_nothing_of_theirs_is_of_all_they_follow;
    recipients_are_told_whatever_they_follow;
    the_end_is_owed_to_those_told_and_what_waits_for_the_gap_or_for_news_is_not;
    a_mailbox_that_was_full_is_not_tried_again;
    free_notices_and_post_mortems_need_a_subscription_too;
    a_post_mortem_that_names_recipients_goes_to_nobody_who_has_left;
    what_was_folded_under_a_mail_that_is_withdrawn_is_told;
    what_was_folded_under_trouble_that_went_away_unsaid_is_told;
    what_else_broke_is_a_beginning_and_leaves;
}

/// Alpha in the group `eu`, Beta, which cannot work without it, and Gamma.
async fn world(on: On, script: Script, who: &[(&str, &[Value])]) -> World {
    let w = World::with(on, "2025-06-02T08:00:00Z", script, |_| {}).await;
    for (key, more) in [("a", json!({"group": "eu"})), ("b", json!({"depends_on": ["a"]})), ("c", json!({}))] {
        let said = with(json!({"name": format!("Component {key}")}), &more);
        register::component(&w.store, key, &serde_json::from_value(said).unwrap()).await.unwrap();
    }
    for (key, follows) in who {
        w.subscriber(key).await;
        for follows in *follows {
            w.subscription(with(json!({"subscriber": key}), follows)).await;
        }
    }
    w
}

fn with(mut said: Value, more: &Value) -> Value {
    said.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    said
}

/// Everybody's subscription to this ends.
async fn end(w: &World, who: &[&str], of: &Value) {
    for key in who {
        w.subscription(with(json!({"subscriber": key, "active": false}), of)).await;
    }
}

async fn hold(w: &World) {
    let mut tx = w.store.begin().await.unwrap();
    holds::put(&mut tx, HoldScope::Everything, HoldCause::Operator, "looking into it", None, "jo").await.unwrap();
    tx.commit().await.unwrap();
}

async fn release(w: &mut World) {
    let mut tx = w.store.begin().await.unwrap();
    holds::release(&mut tx, |_| true, "done", "jo").await.unwrap();
    tx.commit().await.unwrap();
    w.pass(10).await;
}

async fn say(w: &World, incident: &str, phase: &str, components: &[&str], more: Value) {
    let components: Vec<_> = components.iter().map(|key| json!({"key": key})).collect();
    let said = json!({"kind": "incident", "incident": incident, "title": format!("About {incident}"), "phase": phase,
        "body": "It is slow.", "components": components});
    w.notice(with(said, &more)).await;
}

/// To whom and about which incident, or with which subject, in alphabetical order.
fn got(w: &World) -> Vec<String> {
    let about = |m: &Got| m.header("X-Allclear-Incident").unwrap_or(m.subject.clone());
    let mut got: Vec<_> = w.all().iter().map(|m| format!("{} {}", m.to.split('@').next().unwrap(), about(m))).collect();
    got.sort();
    got
}

async fn withdrawn(w: &World) -> Vec<String> {
    let sql = "SELECT s.key FROM delivery d JOIN subscriber s ON s.id = d.subscriber_id
        WHERE d.state = 'withdrawn' AND d.reason = 'unsubscribed' ORDER BY s.key";
    w.query(sql).await.into_iter().map(|row| row[0].clone().unwrap()).collect()
}

async fn whoever_has_unsubscribed_gets_nothing_that_waited(on: On) {
    let a = [json!({"component": "a"})];
    let who = ["ann", "bob", "cem", "dan"].map(|key| (key, a.as_slice()));
    let mut w = world(on, Script::default(), &who).await;
    hold(&w).await;
    say(&w, "x", "investigating", &["a"], json!({})).await;
    w.pass(2).await;
    end(&w, &["ann"], &a[0]).await;
    w.subscription(json!({"subscriber": "bob", "component": "a", "events": "none"})).await;
    let job = Job { kind: Kind::Subscriptions, format: Format::Csv { delimiter: None }, dry_run: false };
    let lines = Cursor::new(b"subscriber,component,active\ncem,a,false\n".to_vec());
    import::run(&w.store, job, lines, &CancellationToken::new(), &mut |_| {}).await.unwrap();
    assert_eq!(withdrawn(&w).await, ["ann", "bob", "cem"]);
    // Begun again it counts from then on.
    w.subscribe("ann", "a").await;
    release(&mut w).await;
    assert_eq!(got(&w), ["dan x"]);
}

async fn what_another_subscription_asks_for_leaves(on: On) {
    let a = json!({"component": "a"});
    let both = |other: Value| [a.clone(), other];
    let asked = [
        ("group", both(json!({"group": "eu"}))),
        ("all", both(json!({}))),
        ("beta", both(json!({"component": "b"}))),
        ("brief", both(json!({"group": "eu", "events": "begin_and_end", "least_impact": "minor"}))),
        ("gamma", both(json!({"component": "c"}))),
        ("calm", both(json!({"least_impact": "major"}))),
        ("silent", both(json!({"group": "eu", "events": "none"}))),
    ];
    let who: Vec<_> = asked.iter().map(|(key, follows)| (*key, follows.as_slice())).collect();
    let mut w = world(on, Script::default(), &who).await;
    hold(&w).await;
    say(&w, "x", "investigating", &["a", "b"], json!({})).await;
    w.pass(2).await;
    end(&w, &["group", "all", "beta", "brief", "gamma", "calm", "silent"], &a).await;
    assert_eq!(withdrawn(&w).await, ["calm", "gamma", "silent"]);
    release(&mut w).await;
    assert_eq!(got(&w), ["all x", "beta x", "brief x", "group x"]);
    // What is no beginning any more is not asked for by who wants begin and end only.
    w.subscription(json!({"subscriber": "brief", "component": "a"})).await;
    hold(&w).await;
    say(&w, "x", "identified", &["a"], json!({})).await;
    w.pass(2).await;
    end(&w, &["brief"], &a).await;
    assert_eq!(withdrawn(&w).await, ["brief", "calm", "gamma", "silent"]);
    end(&w, &["group"], &json!({"group": "eu"})).await;
    assert_eq!(withdrawn(&w).await, ["brief", "calm", "gamma", "group", "silent"]);
    release(&mut w).await;
    assert_eq!(got(&w).len(), 6, "{:?}", got(&w));
}

async fn an_update_that_names_nothing_of_theirs_is_of_all_they_follow(on: On) {
    let (b, c) = (json!({"component": "b"}), json!({"component": "c"}));
    let mut w = world(on, Script::default(), &[("ann", &[b.clone(), c.clone()])]).await;
    say(&w, "x", "investigating", &[], json!({"components": [{"key": "c", "status": "operational"}, {"key": "a"}]}))
        .await;
    w.pass(1).await;
    assert_eq!(got(&w), ["ann x"]);
    say(&w, "x", "identified", &["a"], json!({})).await;
    w.settle().await;
    let names = "SELECT d.state FROM delivery_item i JOIN delivery d ON d.id = i.delivery_id AND d.state = 'queued'";
    assert!(w.query(names).await.is_empty());
    end(&w, &["ann"], &b).await;
    assert!(withdrawn(&w).await.is_empty());
    end(&w, &["ann"], &c).await;
    assert_eq!(withdrawn(&w).await, ["ann"]);
}

async fn recipients_are_told_whatever_they_follow(on: On) {
    let a = [json!({"component": "a"})];
    let mut w = world(on, Script::default(), &[("ann", &a), ("bob", &a)]).await;
    hold(&w).await;
    say(&w, "x", "investigating", &["a"], json!({"recipients": ["ann"]})).await;
    w.pass(1).await;
    // Later updates keep to them.
    say(&w, "x", "identified", &["a"], json!({})).await;
    w.pass(1).await;
    end(&w, &["ann", "bob"], &a[0]).await;
    assert!(withdrawn(&w).await.is_empty());
    release(&mut w).await;
    assert_eq!(got(&w), ["ann x"]);
}

async fn the_end_is_owed_to_those_told_and_what_waits_for_the_gap_or_for_news_is_not(on: On) {
    let a = [json!({"component": "a"})];
    let mut w = world(on, Script::default(), &[("ann", &a), ("bob", &a), ("cem", &a)]).await;
    say(&w, "x", "investigating", &["a"], json!({})).await;
    w.pass(2).await;
    assert_eq!(got(&w).len(), 3);
    say(&w, "x", "identified", &["a"], json!({})).await;
    w.pass(1).await;
    end(&w, &["ann"], &a[0]).await;
    assert_eq!(withdrawn(&w).await, ["ann"], "it waited for the gap");
    w.pass(10).await;
    say(&w, "x", "identified", &["a"], json!({"body": "It is slow still."})).await;
    w.pass(10).await;
    end(&w, &["bob"], &a[0]).await;
    assert_eq!(withdrawn(&w).await, ["ann", "bob"], "it waited for news");
    until(&mut w, "2025-06-02T11:00:00Z").await;
    w.settle().await;
    say(&w, "x", "resolved", &["a"], json!({})).await;
    w.pass(10).await;
    let of = |who: &str| w.all().iter().filter(|m| m.to.starts_with(who)).count();
    assert_eq!((of("ann"), of("bob"), of("cem")), (2, 3, 4));
    assert!(w.all()[6..].iter().all(|m| m.text().contains("Resolved")), "{:?}", got(&w));
}

async fn a_mailbox_that_was_full_is_not_tried_again(on: On) {
    let full = Script::default()
        .answering(|at, _, _| (at == Phase::Rcpt).then(|| Answer::reply(at, "452 4.2.2 mailbox full")));
    let a = [json!({"component": "a"})];
    let mut w = world(on, full, &[("ann", &a)]).await;
    say(&w, "x", "investigating", &["a"], json!({})).await;
    w.pass(1).await;
    assert_eq!(w.deliveries().await, ["incident_update queued mailbox_full"]);
    end(&w, &["ann"], &a[0]).await;
    w.pass(120).await;
    assert_eq!(w.query("SELECT outcome FROM attempt").await.len(), 1);
    assert_eq!(withdrawn(&w).await, ["ann"]);
}

async fn free_notices_and_post_mortems_need_a_subscription_too(on: On) {
    let (a, eu) = (json!({"component": "a"}), json!({"group": "eu"}));
    let follows = [a.clone(), eu.clone(), json!({})];
    let mut w = world(on, Script::default(), &[("ann", &follows[..2]), ("bob", &follows)]).await;
    say(&w, "x", "investigating", &["a"], json!({})).await;
    w.pass(10).await;
    say(&w, "x", "resolved", &["a"], json!({})).await;
    w.pass(10).await;
    assert_eq!(got(&w).len(), 4);
    hold(&w).await;
    say(&w, "x", "postmortem", &[], json!({})).await;
    for (subject, to) in [
        ("of Alpha", json!({"components": ["a"]})),
        ("of the group", json!({"groups": ["eu"], "recipients": ["bob"]})),
        ("to all", json!({"everyone": true})),
    ] {
        w.notice(with(json!({"kind": "free", "subject": subject, "body": "Something."}), &to)).await;
    }
    w.pass(10).await;
    end(&w, &["ann", "bob"], &a).await;
    assert!(withdrawn(&w).await.is_empty(), "who follows the group follows Alpha");
    end(&w, &["ann", "bob"], &eu).await;
    release(&mut w).await;
    // Who follows everything has a post-mortem of all, and no notice to the followers of one component.
    assert_eq!(withdrawn(&w).await, ["ann", "ann", "ann", "bob"]);
    let expected = ["ann to all", "ann x", "ann x", "bob of the group", "bob to all", "bob x", "bob x", "bob x"];
    assert_eq!(got(&w), expected);
}

async fn a_post_mortem_that_names_recipients_goes_to_nobody_who_has_left(on: On) {
    let a: &[Value] = &[json!({"component": "a"})];
    let brief: &[Value] = &[json!({"component": "a", "events": "begin_and_end"})];
    let named = json!({"recipients": ["ann", "cem"]});
    // Later updates keep to them.
    for (update, last) in [(json!({}), &named), (named.clone(), &json!({}))] {
        let who = [("ann", a), ("bob", a), ("cem", brief), ("dan", a)];
        let mut w = world(on, Script::default(), &who).await;
        say(&w, "x", "investigating", &["a"], json!({})).await;
        w.pass(10).await;
        say(&w, "x", "identified", &["a"], update).await;
        w.pass(10).await;
        say(&w, "x", "resolved", &["a"], json!({})).await;
        w.pass(10).await;
        end(&w, &["bob"], &a[0]).await;
        let told = w.all().len();
        say(&w, "x", "postmortem", &[], last.clone()).await;
        w.pass(10).await;
        let mut to: Vec<_> = w.all()[told..].iter().map(|m| m.to.split('@').next().unwrap()).collect();
        to.sort_unstable();
        assert_eq!(to, ["ann", "cem", "dan"]);
    }
}

async fn what_was_folded_under_a_mail_that_is_withdrawn_is_told(on: On) {
    let both = [json!({"component": "a"}), json!({"component": "b"})];
    let mut w = world(on, Script::default(), &[("ann", &both), ("bob", &both)]).await;
    hold(&w).await;
    say(&w, "x", "investigating", &["a"], json!({})).await;
    w.pass(1).await;
    say(&w, "y", "investigating", &["b"], json!({})).await;
    w.pass(1).await;
    let folded = w.query("SELECT state FROM delivery WHERE state = 'folded' AND reason = 'under_cause'").await;
    assert_eq!(folded.len(), 2);
    end(&w, &["ann"], &both[0]).await;
    end(&w, &["bob"], &both[1]).await;
    assert_eq!(withdrawn(&w).await, ["ann", "bob"]);
    release(&mut w).await;
    assert_eq!(got(&w), ["ann y", "bob x"]);
    // What bob no longer follows is not told when it outlives its cause.
    say(&w, "x", "resolved", &["a"], json!({})).await;
    w.pass(60).await;
    assert_eq!(got(&w), ["ann y", "bob x", "bob x"]);
}

async fn what_was_folded_under_trouble_that_went_away_unsaid_is_told(on: On) {
    let mut w = world(on, Script::default(), &[("ann", &[json!({"component": "a"}), json!({"component": "b"})])]).await;
    hold(&w).await;
    say(&w, "x", "investigating", &["a"], json!({})).await;
    w.pass(1).await;
    say(&w, "y", "investigating", &["b"], json!({})).await;
    w.pass(1).await;
    let works = json!({"components": [{"key": "a", "status": "operational"}]});
    say(&w, "x", "monitoring", &[], works).await;
    w.pass(1).await;
    release(&mut w).await;
    assert_eq!(got(&w), ["ann y"]);
}

async fn what_else_broke_is_a_beginning_and_leaves(on: On) {
    let brief = |key| json!({"component": key, "events": "begin_and_end"});
    let follows = [brief("a"), brief("c"), json!({"component": "b"})];
    let mut w = world(on, Script::default(), &[("ann", &follows)]).await;
    say(&w, "x", "investigating", &["a"], json!({})).await;
    w.pass(10).await;
    hold(&w).await;
    say(&w, "x", "investigating", &["c"], json!({})).await;
    w.pass(2).await;
    end(&w, &["ann"], &follows[2]).await;
    assert_eq!(withdrawn(&w).await, [""; 0]);
    release(&mut w).await;
    assert_eq!(got(&w), ["ann x", "ann x"]);
}
