//! Holds keep true mail back: on a component, on a class, on everything. Corrections pass an operator's hold, and
//! nothing passes the stop. What stops being true meanwhile never leaves.

use super::table::{assert_table, until};
use crate::on_both;
use crate::support::{On, World};
use allclear::domain::class::Class;
use allclear::domain::hold::{HoldCause, HoldScope};
use allclear::domain::time::{Span, Timestamp};
use allclear::store::{holds, setup};
use serde_json::json;

on_both! {
    a_hold_on_a_component_keeps_its_mail_and_no_other;
    a_hold_on_a_class_keeps_that_class_and_no_other;
    a_hold_ends_by_itself_at_its_time;
    what_heals_under_a_hold_is_never_mailed;
    corrections_pass_an_operators_hold;
    nothing_passes_the_stop_and_all_that_is_true_follows_the_resume;
    a_hold_put_between_two_tries_keeps_the_second;
    after_the_longest_wait_for_a_component_the_customer_is_asked;
    the_longest_wait_is_each_mails_own;
    whom_an_outage_alone_kept_is_asked_when_it_ends;
}

async fn world(on: On) -> World {
    let w = World::new(on, "2025-06-02T08:00:00Z").await;
    for (key, name) in [("outlook", "Outlook"), ("imap", "IMAP")] {
        w.component(key, name).await;
    }
    for (key, component) in [("ann", "outlook"), ("bob", "outlook"), ("kim", "imap")] {
        w.subscriber(key).await;
        w.subscribe(key, component).await;
        w.connection(key, component, key).await;
    }
    w
}

async fn hold(w: &World, scope: HoldScope, cause: HoldCause, until: Option<Timestamp>) {
    let mut tx = w.store.begin().await.unwrap();
    holds::put(&mut tx, scope, cause, "looking into it", until, "jo").await.unwrap();
    tx.commit().await.unwrap();
}

async fn hold_component(w: &World, key: &str, until: Option<Timestamp>) {
    let id = setup::component_id(&mut w.store.read().await.unwrap(), key).await.unwrap().unwrap();
    hold(w, HoldScope::Component(id), HoldCause::Operator, until).await;
}

async fn release(w: &World) {
    let mut tx = w.store.begin().await.unwrap();
    assert_eq!(holds::release(&mut tx, |_| true, "done", "jo").await.unwrap().len(), 1);
    tx.commit().await.unwrap();
}

async fn incident(w: &World, phase: &str, component: &str) {
    w.notice(json!({"kind": "incident", "incident": format!("{component}-1"), "title": "Slow", "phase": phase,
        "body": "It is slow.", "components": [{"key": component}]}))
        .await;
}

async fn a_hold_on_a_component_keeps_its_mail_and_no_other(on: On) {
    let mut w = world(on).await;
    hold_component(&w, "outlook", None).await;
    w.broken("ann").await;
    w.broken("kim").await;
    incident(&w, "investigating", "outlook").await;
    incident(&w, "investigating", "imap").await;
    until(&mut w, "2025-06-02T09:00:00Z").await;
    assert_eq!(w.deliveries().await.iter().filter(|d| d.contains(" queued")).count(), 3, "{:?}", w.deliveries().await);
    release(&w).await;
    w.pass(2).await;
    assert_table(
        w.all(),
        "UTC",
        "
        Mon 2 Jun 08:01 kim Investigating: IMAP has degraded performance.
        Mon 2 Jun 08:05 kim please reconnect: Inbox kim
        Mon 2 Jun 09:00 ann Investigating: Outlook has degraded performance.
        Mon 2 Jun 09:00 ann please reconnect: Inbox ann
        Mon 2 Jun 09:00 bob Investigating: Outlook has degraded performance.
        ",
    );
}

async fn a_hold_on_a_class_keeps_that_class_and_no_other(on: On) {
    let mut w = world(on).await;
    hold(&w, HoldScope::Class(Class::IncidentUpdate), HoldCause::Operator, None).await;
    w.broken("ann").await;
    incident(&w, "investigating", "imap").await;
    until(&mut w, "2025-06-02T08:30:00Z").await;
    incident(&w, "identified", "imap").await;
    until(&mut w, "2025-06-02T09:00:00Z").await;
    release(&w).await;
    w.pass(2).await;
    assert_table(
        w.all(),
        "UTC",
        "
        Mon 2 Jun 08:05 ann please reconnect: Inbox ann
        Mon 2 Jun 09:00 kim Identified: IMAP has degraded performance; the cause is known.
        ",
    );
}

async fn a_hold_ends_by_itself_at_its_time(on: On) {
    let mut w = world(on).await;
    hold_component(&w, "outlook", Some(w.now() + Span::minutes(20))).await;
    w.broken("ann").await;
    until(&mut w, "2025-06-02T09:00:00Z").await;
    assert_table(w.all(), "UTC", "Mon 2 Jun 08:20 ann please reconnect: Inbox ann");
}

async fn what_heals_under_a_hold_is_never_mailed(on: On) {
    let mut w = world(on).await;
    hold_component(&w, "outlook", None).await;
    w.broken("ann").await;
    w.broken("bob").await;
    until(&mut w, "2025-06-02T08:30:00Z").await;
    w.recovered("ann", "automatic").await;
    until(&mut w, "2025-06-02T09:00:00Z").await;
    release(&w).await;
    w.pass(30).await;
    assert_table(w.all(), "UTC", "Mon 2 Jun 09:00 bob please reconnect: Inbox bob");
    assert_eq!(w.deliveries().await, ["action_required withdrawn recovered", "action_required accepted"]);
}

async fn corrections_pass_an_operators_hold(on: On) {
    let mut w = world(on).await;
    w.broken("ann").await;
    w.broken("bob").await;
    until(&mut w, "2025-06-02T08:10:00Z").await;
    hold_component(&w, "outlook", None).await;
    until(&mut w, "2025-06-02T08:20:00Z").await;
    w.recovered("ann", "automatic").await;
    until(&mut w, "2025-06-02T08:30:00Z").await;
    release(&w).await;
    hold(&w, HoldScope::Everything, HoldCause::Operator, None).await;
    w.recovered("bob", "automatic").await;
    w.pass(30).await;
    assert_table(
        w.all(),
        "UTC",
        "
        Mon 2 Jun 08:05 ann please reconnect: Inbox ann
        Mon 2 Jun 08:05 bob please reconnect: Inbox bob
        Mon 2 Jun 08:20 ann no action needed: Inbox ann
        Mon 2 Jun 08:30 bob no action needed: Inbox bob
        ",
    );
}

async fn nothing_passes_the_stop_and_all_that_is_true_follows_the_resume(on: On) {
    let mut w = world(on).await;
    w.broken("ann").await;
    until(&mut w, "2025-06-02T08:10:00Z").await;
    hold(&w, HoldScope::Everything, HoldCause::Stop, None).await;
    w.recovered("ann", "automatic").await;
    w.broken("bob").await;
    w.broken("kim").await;
    incident(&w, "investigating", "imap").await;
    w.notice(json!({"kind": "free", "subject": "News", "body": "Something.", "recipients": ["ann"]})).await;
    until(&mut w, "2025-06-02T08:40:00Z").await;
    // Under the stop too, what is no longer true is withdrawn.
    w.recovered("kim", "automatic").await;
    until(&mut w, "2025-06-02T09:00:00Z").await;
    assert_eq!(w.deliveries().await.iter().filter(|d| d.contains(" queued")).count(), 4, "{:?}", w.deliveries().await);
    release(&w).await;
    w.pass(30).await;
    assert_table(
        w.all(),
        "UTC",
        "
        Mon 2 Jun 08:05 ann please reconnect: Inbox ann
        Mon 2 Jun 09:00 ann News
        Mon 2 Jun 09:00 ann no action needed: Inbox ann
        Mon 2 Jun 09:00 bob please reconnect: Inbox bob
        Mon 2 Jun 09:00 kim Investigating: IMAP has degraded performance.
        ",
    );
    let journal = w.query("SELECT action FROM journal ORDER BY n").await;
    assert_eq!(journal, [[Some("stop".to_owned())], [Some("resume".to_owned())]]);
}

async fn a_hold_put_between_two_tries_keeps_the_second(on: On) {
    use allclear::mail::sink::{Answer, Phase, Script};
    let script = Script::default()
        .answering(|at, _, nth| (at == Phase::Rcpt && nth == 1).then(|| Answer::reply(at, "451 4.7.1 come back")));
    let mut w = World::with(on, "2025-06-02T08:00:00Z", script, |_| {}).await;
    w.subscriber("ann").await;
    w.notice(json!({"kind": "free", "subject": "News", "body": "Something.", "recipients": ["ann"]})).await;
    w.settle().await;
    assert_eq!(w.deliveries().await, ["free queued retry"]);
    hold(&w, HoldScope::Class(Class::Free), HoldCause::Operator, None).await;
    until(&mut w, "2025-06-02T09:00:00Z").await;
    assert!(w.all().is_empty());
    release(&w).await;
    w.pass(1).await;
    assert_table(w.all(), "UTC", "Mon 2 Jun 09:00 ann News");
}

async fn after_the_longest_wait_for_a_component_the_customer_is_asked(on: On) {
    let mut w = world(on).await;
    w.down("outlook").await;
    until(&mut w, "2025-06-02T08:01:00Z").await;
    w.broken("ann").await;
    until(&mut w, "2025-06-02T20:30:00Z").await;
    assert_table(w.all(), "UTC", "Mon 2 Jun 20:01 ann please reconnect: Inbox ann");
}

/// The first that is asked must not put the wait of the others off to twice as long.
async fn the_longest_wait_is_each_mails_own(on: On) {
    let mut w = world(on).await;
    w.down("outlook").await;
    until(&mut w, "2025-06-02T08:01:00Z").await;
    w.broken("ann").await;
    until(&mut w, "2025-06-02T09:01:00Z").await;
    w.broken("bob").await;
    until(&mut w, "2025-06-02T22:00:00Z").await;
    assert_table(
        w.all(),
        "UTC",
        "Mon 2 Jun 20:01 ann please reconnect: Inbox ann
         Mon 2 Jun 21:01 bob please reconnect: Inbox bob",
    );
}

/// What failed before an outage was none of it, and waits no longer than it lasts, whoever says that it is over.
async fn whom_an_outage_alone_kept_is_asked_when_it_ends(on: On) {
    use allclear::mail::sink::{Answer, Phase, Script};
    let of_incident = |phase: &str, status: &str| {
        json!({"kind": "incident", "incident": "o-1", "title": "Slow", "phase": phase, "body": "It is slow.",
            "components": [{"key": "outlook", "status": status}]})
    };
    for end in ["plain", "covering", "incident"] {
        let script = Script::default()
            .answering(|at, _, nth| (at == Phase::Rcpt && nth == 1).then(|| Answer::reply(at, "451 4.3.0 later")));
        let mut w = World::with(on, "2025-06-02T08:00:00Z", script, |_| {}).await;
        w.component("outlook", "Outlook").await;
        w.subscriber("ann").await;
        w.connection("ann", "outlook", "ann").await;
        w.broken("ann").await;
        w.pass(5).await;
        match end {
            "incident" => drop(w.notice(of_incident("identified", "major_outage")).await),
            _ => drop(w.down("outlook").await),
        }
        until(&mut w, "2025-06-02T08:30:00Z").await;
        assert_eq!(w.deliveries().await, ["action_required queued component_down"], "{end}");
        match end {
            "incident" => drop(w.notice(of_incident("resolved", "operational")).await),
            "covering" => {
                drop(w.signal(json!({"component": "outlook", "what": "recovered", "connections": "all"})).await);
            }
            _ => drop(w.up("outlook").await),
        }
        w.pass(1).await;
        assert_table(w.all(), "UTC", "Mon 2 Jun 08:30 ann please reconnect: Inbox ann");
    }
}
