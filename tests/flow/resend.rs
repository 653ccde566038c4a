//! Resends: what is true leaves again as a mail of its own, what is not is refused with the reason, and force sends
//! something true instead.

use super::table::{assert_table, until};
use crate::on_both;
use crate::support::{On, World};
use allclear::domain::class::Class;
use allclear::domain::delivery::State;
use allclear::domain::hold::{HoldCause, HoldScope};
use allclear::domain::id::DeliveryId;
use allclear::flow::ingest::Keyed;
use allclear::flow::register;
use allclear::flow::resend::ask::{Answer, Answered, FilterIn, ResendsIn, ask};
use allclear::mail::sink::{Act, Answer as Says, Phase, Script};
use allclear::store::browse::{self, Delivery};
use allclear::store::search::{self, Cursor, Filter};
use allclear::store::{holds, journal, setup, suppressions};
use serde_json::json;
use std::collections::HashSet;

on_both! {
    a_true_mail_leaves_again_and_each_copy_is_taken_back;
    a_stale_mail_is_never_sent_and_force_sends_what_is_true;
    force_offers_the_correction_to_whom_none_was_sent;
    a_resend_that_becomes_stale_on_its_way_is_withdrawn;
    nobody_is_asked_again_about_what_is_anothers_now;
    neither_suppression_nor_stop_is_overridden;
    whoever_follows_nothing_of_it_any_more_is_mailed_by_force_alone;
    whoever_follows_again_is_mailed_again;
    how_bad_it_was_is_no_reason_not_to_send_it_again;
    what_is_too_old_needs_force_and_a_parked_mail_leaves_as_a_new_one;
    a_mail_of_an_incident_is_replaced_by_its_newest_update;
    an_update_that_was_to_others_alone_goes_to_nobody_else;
    whoever_asked_not_to_hear_of_it_is_not_offered_it_as_news;
    the_newest_update_goes_once_instead_of_all_that_failed;
    ends_corrections_post_mortems_and_free_notices_can_be_sent_again;
    a_dry_run_counts_what_a_batch_does_and_a_batch_does_it_once;
    two_who_ask_at_the_same_time_make_one_mail;
    every_resend_and_every_forced_attempt_is_in_the_journal;
}

async fn world(on: On, script: Script) -> World {
    let w = World::with(on, "2025-06-02T08:00:00Z", script, |_| {}).await;
    w.component("outlook", "Outlook").await;
    w.subscriber("ann").await;
    w.subscribe("ann", "outlook").await;
    w.connection("a1", "outlook", "ann").await;
    w.connection("a2", "outlook", "ann").await;
    w
}

/// The deliveries to a subscriber, oldest first.
async fn mails(w: &World, key: &str) -> Vec<Delivery> {
    let mut tx = w.store.read().await.unwrap();
    let subscriber = setup::subscriber_id(&mut tx, key).await.unwrap().unwrap();
    let filter = Filter { subscriber: Some(subscriber), ..Filter::default() };
    let ids = search::deliveries(&mut tx, &filter, Cursor::NEWEST, 100).await.unwrap().ids;
    let mut found = browse::deliveries(&mut tx, &ids).await.unwrap();
    found.sort_by_key(|d| d.id.0);
    found
}

async fn of_class(w: &World, class: Class) -> Delivery {
    mails(w, "ann").await.into_iter().rfind(|d| d.class == class).unwrap()
}

async fn answer(w: &World, said: &ResendsIn) -> Answer {
    let keyed = Keyed { key: None, body: &[] };
    match ask(&w.store, &w.shared.setting, ("t", "cli:t"), said, keyed, &mut HashSet::new()).await.unwrap() {
        Answered::Now(answer) => answer,
        Answered::Before(_) => panic!("no key was given"),
    }
}

/// `sends`, then why it waits; or `refused`, with what force would send.
async fn resend(w: &World, id: DeliveryId, force: bool) -> String {
    let reason = force.then(|| "asked by phone".to_owned());
    let mut said = ResendsIn { force, reason, dry_run: true, ids: vec![id], ..ResendsIn::default() };
    let told = answer(w, &said).await;
    said.dry_run = false;
    let done = answer(w, &said).await;
    assert_eq!((&told.tally.sends, &told.tally.refused), (&done.tally.sends, &done.tally.refused));
    let one = done.outcomes[0];
    assert_eq!(one.id.is_some(), one.sends.is_some(), "{one:?}");
    match (one.sends, one.refused) {
        (Some(what), _) => format!("{what} {}", one.waits.map_or("", |r| r.as_str())).trim_end().to_owned(),
        (None, why) => {
            format!("no: {}, {}", why.unwrap().as_str(), one.offer.map_or("nothing else", |o| o.as_str()))
        }
    }
}

async fn incident(w: &World, phase: &str, status: &str) {
    w.notice(json!({"kind": "incident", "incident": "o-1", "title": "Slow", "phase": phase, "body": format!("It is {phase}."),
        "components": [{"key": "outlook", "status": status}]}))
        .await;
}

async fn a_true_mail_leaves_again_and_each_copy_is_taken_back(on: On) {
    let mut w = world(on, Script::default()).await;
    w.broken("a1").await;
    until(&mut w, "2025-06-02T08:10:00Z").await;
    let first = mails(&w, "ann").await.remove(0);
    assert_eq!(resend(&w, first.id, false).await, "no: left_minutes_ago, nothing else");
    until(&mut w, "2025-06-02T08:20:00Z").await;
    assert_eq!(resend(&w, first.id, false).await, "as_it_was");
    assert_eq!(resend(&w, first.id, true).await, "no: on_its_way, nothing else");
    until(&mut w, "2025-06-02T08:30:00Z").await;
    let second = mails(&w, "ann").await.remove(1);
    assert_eq!((second.state, second.resend_of), (State::Accepted, Some(first.id)));
    assert_ne!(second.message_id, first.message_id);
    let got = w.all().to_vec();
    assert_eq!((got[0].subject.clone(), got[0].header("From")), (got[1].subject.clone(), got[1].header("From")));
    let root = |n: usize| got[n].header("References").unwrap().split_whitespace().next().unwrap().to_owned();
    assert_eq!(root(0), root(1));
    // A copy of the copy counts as one more of the same mail; force only helps it past the ten minutes.
    assert_eq!(resend(&w, second.id, true).await, "as_it_was");
    until(&mut w, "2025-06-02T08:50:00Z").await;
    assert_eq!(resend(&w, first.id, false).await, "as_it_was");
    until(&mut w, "2025-06-02T09:10:00Z").await;
    assert_eq!(resend(&w, first.id, true).await, "no: too_often, nothing else");
    w.recovered("a1", "automatic").await;
    until(&mut w, "2025-06-02T09:30:00Z").await;
    assert_table(
        w.all(),
        "UTC",
        "
        Mon 2 Jun 08:05 ann please reconnect: Inbox a1
        Mon 2 Jun 08:20 ann please reconnect: Inbox a1
        Mon 2 Jun 08:30 ann please reconnect: Inbox a1
        Mon 2 Jun 08:50 ann please reconnect: Inbox a1
        Mon 2 Jun 09:10 ann no action needed: Inbox a1
        ",
    );
    let taken_back = w.query("SELECT CAST(COUNT(DISTINCT corrects_id) AS TEXT) FROM delivery_item").await;
    assert_eq!(taken_back[0][0].as_deref(), Some("4"), "each copy is taken back, in one mail");
}

async fn a_stale_mail_is_never_sent_and_force_sends_what_is_true(on: On) {
    let mut w = world(on, Script::default()).await;
    w.broken("a1").await;
    w.broken("a2").await;
    until(&mut w, "2025-06-02T08:10:00Z").await;
    w.recovered("a1", "automatic").await;
    until(&mut w, "2025-06-02T08:30:00Z").await;
    let first = mails(&w, "ann").await.remove(0).id;
    assert_eq!(resend(&w, first, false).await, "as_it_was", "without what has recovered");
    until(&mut w, "2025-06-02T08:40:00Z").await;
    w.recovered("a2", "automatic").await;
    until(&mut w, "2025-06-02T08:50:00Z").await;
    assert_eq!(resend(&w, first, false).await, "no: recovered, nothing else", "both were taken back");
    assert_eq!(resend(&w, first, true).await, "no: recovered, nothing else");
    w.broken("a2").await;
    assert_eq!(resend(&w, first, false).await, "no: recovered, present_state");
    until(&mut w, "2025-06-02T08:53:00Z").await;
    assert_eq!(resend(&w, first, true).await, "no: on_its_way, nothing else", "it waits to be asked about anyway");
    until(&mut w, "2025-06-02T09:00:00Z").await;
    assert_eq!(resend(&w, first, true).await, "no: left_minutes_ago, nothing else");
    until(&mut w, "2025-06-02T09:10:00Z").await;
    assert_eq!(resend(&w, first, true).await, "present_state");
    until(&mut w, "2025-06-02T09:20:00Z").await;
    // The component is down, and so nobody is asked; its recovery covers the connections.
    w.down("outlook").await;
    let last = mails(&w, "ann").await.pop().unwrap().id;
    w.up("outlook").await;
    w.recovered("a2", "automatic").await;
    until(&mut w, "2025-06-02T09:40:00Z").await;
    assert_eq!(resend(&w, last, true).await, "no: recovered, nothing else");
    assert_table(
        w.all(),
        "UTC",
        "
        Mon 2 Jun 08:05 ann please reconnect: Inbox a1, Inbox a2
        Mon 2 Jun 08:10 ann no action needed: Inbox a1; still: Inbox a2
        Mon 2 Jun 08:30 ann please reconnect: Inbox a2
        Mon 2 Jun 08:40 ann no action needed: Inbox a2
        Mon 2 Jun 08:55 ann please reconnect after all: Inbox a2
        Mon 2 Jun 09:10 ann please reconnect: Inbox a2
        Mon 2 Jun 09:20 ann no action needed: Inbox a2
        ",
    );
}

async fn force_offers_the_correction_to_whom_none_was_sent(on: On) {
    let mut w = world(on, Script::default()).await;
    w.broken("a1").await;
    until(&mut w, "2025-06-02T08:10:00Z").await;
    w.recovered("a1", "customer").await;
    until(&mut w, "2025-06-02T08:20:00Z").await;
    let first = mails(&w, "ann").await.remove(0).id;
    assert_eq!(resend(&w, first, false).await, "no: recovered, correction");
    assert_eq!(resend(&w, first, true).await, "correction");
    until(&mut w, "2025-06-02T08:40:00Z").await;
    assert_eq!(resend(&w, first, true).await, "no: recovered, nothing else");
    let correction = of_class(&w, Class::Correction).await.id;
    assert_eq!(resend(&w, correction, false).await, "as_it_was");
    until(&mut w, "2025-06-02T08:50:00Z").await;
    w.broken("a1").await;
    assert_eq!(resend(&w, correction, true).await, "no: connection_open_again, nothing else");
    w.recovered("a1", "customer").await;
    until(&mut w, "2025-06-02T09:00:00Z").await;
    assert_table(
        w.all(),
        "UTC",
        "
        Mon 2 Jun 08:05 ann please reconnect: Inbox a1
        Mon 2 Jun 08:20 ann no action needed: Inbox a1
        Mon 2 Jun 08:40 ann no action needed: Inbox a1
        ",
    );
}

async fn stop(w: &World) {
    let mut tx = w.store.begin().await.unwrap();
    holds::put(&mut tx, HoldScope::Everything, HoldCause::Stop, "alarm", None, "t").await.unwrap();
    tx.commit().await.unwrap();
}

async fn go_on(w: &World) {
    let mut tx = w.store.begin().await.unwrap();
    holds::release(&mut tx, |_| true, "over", "t").await.unwrap();
    tx.commit().await.unwrap();
}

async fn a_resend_that_becomes_stale_on_its_way_is_withdrawn(on: On) {
    let mut w = world(on, Script::default()).await;
    w.broken("a1").await;
    until(&mut w, "2025-06-02T08:20:00Z").await;
    w.down("outlook").await;
    let first = mails(&w, "ann").await.remove(0).id;
    assert_eq!(resend(&w, first, false).await, "as_it_was component_down");
    until(&mut w, "2025-06-02T08:40:00Z").await;
    w.recovered("a1", "automatic").await;
    w.up("outlook").await;
    until(&mut w, "2025-06-02T09:00:00Z").await;
    assert_eq!(
        w.deliveries().await,
        ["action_required accepted", "action_required withdrawn recovered", "correction accepted"]
    );
}

async fn give(w: &World, key: &str, to: &[&str]) {
    let said = json!({"component": "outlook", "name": format!("Inbox {key}"), "subscribers": to});
    register::connection(&w.store, key, &serde_json::from_value(said).unwrap()).await.unwrap();
}

async fn nobody_is_asked_again_about_what_is_anothers_now(on: On) {
    let script = Script::default().answering(|at, of, nth| {
        (at == Phase::Rcpt && nth == 1 && of.to.contains("ann")).then(|| Says::reply(at, "554 5.7.1 not wanted here"))
    });
    let mut w = world(on, script).await;
    w.subscriber("bob").await;
    w.broken("a1").await;
    w.broken("a2").await;
    until(&mut w, "2025-06-02T08:10:00Z").await;
    let first = mails(&w, "ann").await.remove(0);
    assert_eq!((first.state, first.names.len()), (State::Failed, 2));
    give(&w, "a1", &["bob"]).await;
    until(&mut w, "2025-06-02T08:30:00Z").await;
    assert_eq!(resend(&w, first.id, false).await, "as_it_was", "without what is another's");
    w.settle().await;
    let text = w.all().last().unwrap().text();
    assert!(text.contains("Inbox a2") && !text.contains("Inbox a1"), "{text}");
    give(&w, "a2", &[]).await;
    until(&mut w, "2025-06-02T08:50:00Z").await;
    assert_eq!(resend(&w, first.id, false).await, "no: not_theirs, nothing else");
    assert_eq!(resend(&w, first.id, true).await, "no: not_theirs, nothing else");
}

async fn neither_suppression_nor_stop_is_overridden(on: On) {
    let refuse = |at, nth| {
        (at == Phase::Rcpt && nth == 1).then(|| Says { at, act: Act::Reply("550 5.1.1 no such user".to_owned()) })
    };
    let mut w = world(on, Script::default().answering(move |at, _, nth| refuse(at, nth))).await;
    w.broken("a1").await;
    until(&mut w, "2025-06-02T08:20:00Z").await;
    let first = mails(&w, "ann").await.remove(0);
    assert_eq!(first.state, State::Failed);
    assert_eq!(resend(&w, first.id, true).await, "no: suppressed, nothing else");
    let mut tx = w.store.begin().await.unwrap();
    assert!(suppressions::lift(&mut tx, "ann@example.net", "t", "it works again").await.unwrap());
    tx.commit().await.unwrap();
    stop(&w).await;
    assert_eq!(resend(&w, first.id, true).await, "as_it_was stopped");
    until(&mut w, "2025-06-02T08:40:00Z").await;
    assert_eq!(w.all().len(), 0);
    go_on(&w).await;
    until(&mut w, "2025-06-02T08:50:00Z").await;
    assert_eq!(w.deliveries().await, ["action_required failed address_dead", "action_required accepted"]);
}

async fn whoever_follows_again_is_mailed_again(on: On) {
    let mut w = world(on, Script::default()).await;
    stop(&w).await;
    incident(&w, "investigating", "major_outage").await;
    w.pass(1).await;
    w.subscription(json!({"subscriber": "ann", "component": "outlook", "active": false})).await;
    go_on(&w).await;
    let withdrawn = of_class(&w, Class::IncidentUpdate).await;
    assert_eq!(withdrawn.state, State::Withdrawn);
    w.subscribe("ann", "outlook").await;
    assert_eq!(resend(&w, withdrawn.id, false).await, "as_it_was");
}

async fn how_bad_it_was_is_no_reason_not_to_send_it_again(on: On) {
    let script = Script::default()
        .answering(|at, _, nth| (at == Phase::Dot && nth == 1).then(|| Says::reply(at, "554 5.6.0 not like this")));
    let mut w = world(on, script).await;
    w.prefer("ann", "all", "critical").await;
    let said = |impact: &str| {
        json!({"kind": "incident", "incident": "o-1", "update": "1", "title": "Slow", "phase": "investigating",
            "impact": impact, "body": format!("It is {impact}."), "components": [{"key": "outlook", "status": "major_outage"}]})
    };
    w.notice(said("critical")).await;
    until(&mut w, "2025-06-02T08:20:00Z").await;
    let failed = of_class(&w, Class::IncidentUpdate).await;
    assert_eq!(failed.state, State::Failed);
    w.notice(said("minor")).await;
    assert_eq!(resend(&w, failed.id, false).await, "as_it_was");
}

async fn whoever_follows_nothing_of_it_any_more_is_mailed_by_force_alone(on: On) {
    let script = Script::default()
        .answering(|at, _, nth| (at == Phase::Dot && nth == 1).then(|| Says::reply(at, "554 5.6.0 not like this")));
    let mut w = world(on, script).await;
    w.subscriber("bob").await;
    w.subscribe("bob", "outlook").await;
    incident(&w, "investigating", "major_outage").await;
    until(&mut w, "2025-06-02T08:20:00Z").await;
    stop(&w).await;
    w.notice(json!({"kind": "free", "subject": "Hello", "body": "News.", "components": ["outlook"]})).await;
    w.pass(1).await;
    w.subscription(json!({"subscriber": "ann", "component": "outlook", "active": false})).await;
    go_on(&w).await;
    w.settle().await;
    let of_ann = mails(&w, "ann").await;
    assert_eq!(of_ann.iter().map(|d| d.state).collect::<Vec<_>>(), [State::Failed, State::Withdrawn]);
    for mail in &of_ann {
        assert_eq!(resend(&w, mail.id, false).await, "no: unsubscribed, nothing else");
    }
    let filter = FilterIn { state: Some(State::Failed), ..FilterIn::default() };
    let tally = answer(&w, &ResendsIn { filter: Some(filter), ..ResendsIn::default() }).await.tally;
    assert_eq!((tally.sent, tally.refused.get("unsubscribed")), (1, Some(&1)), "bob's leaves");
    for mail in &of_ann {
        assert_eq!(resend(&w, mail.id, true).await, "as_it_was");
    }
    w.settle().await;
    assert_eq!(w.all().iter().filter(|mail| mail.to.starts_with("ann")).count(), 2);
}

async fn what_is_too_old_needs_force_and_a_parked_mail_leaves_as_a_new_one(on: On) {
    let mut w = world(on, Script::default()).await;
    w.notice(json!({"kind": "free", "subject": "Hello", "body": "News.", "recipients": ["ann"]})).await;
    w.sink.set_down(true);
    until(&mut w, "2025-06-02T08:01:00Z").await;
    w.move_to(allclear::domain::time::Timestamp(w.now().0 + 8 * 86_400_000_000)).await;
    w.sink.set_down(false);
    w.pass(60).await;
    let parked = mails(&w, "ann").await.remove(0);
    assert_eq!((parked.state, w.all().len()), (State::Parked, 0));
    assert_eq!(resend(&w, parked.id, false).await, "no: too_old, nothing else");
    assert_eq!(resend(&w, parked.id, true).await, "as_it_was");
    w.settle().await;
    assert_eq!(w.deliveries().await, ["free parked too_old", "free accepted"]);
}

async fn a_mail_of_an_incident_is_replaced_by_its_newest_update(on: On) {
    let mut w = world(on, Script::default()).await;
    incident(&w, "investigating", "major_outage").await;
    until(&mut w, "2025-06-02T08:20:00Z").await;
    incident(&w, "identified", "partial_outage").await;
    until(&mut w, "2025-06-02T08:40:00Z").await;
    let (first, second) = (mails(&w, "ann").await[0].id, mails(&w, "ann").await[1].id);
    assert_eq!(resend(&w, first, false).await, "no: replaced_by_newer, newest_update");
    assert_eq!(resend(&w, first, true).await, "newest_update");
    assert_eq!(resend(&w, second, false).await, "no: on_its_way, nothing else");
    until(&mut w, "2025-06-02T09:00:00Z").await;
    incident(&w, "resolved", "operational").await;
    until(&mut w, "2025-06-02T09:20:00Z").await;
    assert_eq!(resend(&w, second, false).await, "no: incident_resolved, newest_update");
    assert_eq!(resend(&w, second, true).await, "newest_update");
    until(&mut w, "2025-06-02T09:40:00Z").await;
    let said: Vec<_> = w.all().iter().map(|got| (got.at, super::table::what(got))).collect();
    let words: Vec<_> = said.iter().map(|(_, what)| what.split(':').next().unwrap()).collect();
    assert_eq!(words, ["Investigating", "Identified", "Identified", "Resolved", "Resolved"], "{said:#?}");
    assert_eq!(mails(&w, "ann").await[4].resend_of, Some(second));
}

async fn an_update_that_was_to_others_alone_goes_to_nobody_else(on: On) {
    let mut w = world(on, Script::default()).await;
    w.subscriber("ivy").await;
    incident(&w, "investigating", "major_outage").await;
    until(&mut w, "2025-06-02T08:20:00Z").await;
    incident(&w, "identified", "partial_outage").await;
    until(&mut w, "2025-06-02T08:40:00Z").await;
    w.notice(
        json!({"kind": "incident", "incident": "o-1", "title": "Slow", "phase": "monitoring", "body": "Between us.",
        "components": [{"key": "outlook", "status": "partial_outage"}], "recipients": ["ivy"]}),
    )
    .await;
    until(&mut w, "2025-06-02T09:00:00Z").await;
    let (first, second) = (mails(&w, "ann").await[0].id, mails(&w, "ann").await[1].id);
    assert_eq!(resend(&w, second, false).await, "as_it_was");
    until(&mut w, "2025-06-02T09:20:00Z").await;
    assert_eq!(resend(&w, first, false).await, "no: replaced_by_newer, newest_update");
    assert_eq!(resend(&w, first, true).await, "newest_update");
    until(&mut w, "2025-06-02T09:40:00Z").await;
    w.notice(
        json!({"kind": "incident", "incident": "o-1", "title": "Slow", "phase": "monitoring", "body": "It is for all.",
        "components": [{"key": "outlook", "status": "partial_outage"}], "everyone": true}),
    )
    .await;
    until(&mut w, "2025-06-02T10:00:00Z").await;
    let of =
        |who: &str| w.all().iter().filter(|mail| mail.to.starts_with(who)).map(super::table::plain).collect::<Vec<_>>();
    assert!(of("ivy").iter().any(|text| text.contains("Between us.")), "{:?}", of("ivy"));
    let first_words: Vec<_> = of("ann").iter().map(|text| text.split(':').next().unwrap().to_owned()).collect();
    assert_eq!(first_words, ["Investigating", "Identified", "Identified", "Identified", "Monitoring"]);
    assert!(!of("ann").concat().contains("Between us."));
}

async fn whoever_asked_not_to_hear_of_it_is_not_offered_it_as_news(on: On) {
    let mut w = world(on, Script::default()).await;
    w.subscription(json!({"subscriber": "ann", "component": "outlook", "least_impact": "critical"})).await;
    incident(&w, "investigating", "degraded_performance").await;
    until(&mut w, "2025-06-02T08:20:00Z").await;
    incident(&w, "identified", "degraded_performance").await;
    until(&mut w, "2025-06-02T08:40:00Z").await;
    let (first, second) = (mails(&w, "ann").await[0].id, mails(&w, "ann").await[1].id);
    assert_eq!(resend(&w, first, false).await, "no: below_least_impact, newest_update");
    assert_eq!(resend(&w, second, false).await, "no: below_least_impact, nothing else");
    assert_eq!(resend(&w, first, true).await, "newest_update");
    w.settle().await;
    assert_eq!(w.all().len(), 1);
}

async fn the_newest_update_goes_once_instead_of_all_that_failed(on: On) {
    let script = Script::default()
        .answering(|at, _, nth| (at == Phase::Dot && nth <= 2).then(|| Says::reply(at, "554 5.6.0 not like this")));
    let mut w = world(on, script).await;
    w.component("imap", "Mail sync").await;
    w.subscribe("ann", "imap").await;
    incident(&w, "investigating", "major_outage").await;
    until(&mut w, "2025-06-02T08:20:00Z").await;
    let both = ["outlook", "imap"].map(|key| json!({"key": key, "status": "partial_outage"}));
    w.notice(json!({"kind": "incident", "incident": "o-1", "title": "Slow", "phase": "identified", "body": "It is identified.",
        "components": both}))
        .await;
    until(&mut w, "2025-06-02T08:40:00Z").await;
    let states: Vec<_> = mails(&w, "ann").await.iter().map(|d| d.state).collect();
    assert_eq!(states, [State::Failed, State::Failed]);
    assert_eq!(resend(&w, mails(&w, "ann").await[0].id, false).await, "no: replaced_by_newer, newest_update");
    let filter = FilterIn { state: Some(State::Failed), ..FilterIn::default() };
    let reason = Some("it was our fault".to_owned());
    let mut said = ResendsIn { filter: Some(filter), force: true, reason, dry_run: true, ..ResendsIn::default() };
    for dry_run in [true, false] {
        said.dry_run = dry_run;
        let tally = answer(&w, &said).await.tally;
        assert_eq!(
            (tally.sent, tally.sends.get("newest_update"), tally.refused.get("on_its_way")),
            (1, Some(&1), Some(&1))
        );
    }
    w.settle().await;
    assert_eq!(w.all().len(), 1);
    // It names what the newest names to this reader, not what the oldest did.
    let text = super::table::plain(&w.all()[0]);
    assert!(text.starts_with("Identified") && text.contains("Mail sync"), "{text}");
    assert_eq!(answer(&w, &said).await.tally.sent, 0);
}

async fn ends_corrections_post_mortems_and_free_notices_can_be_sent_again(on: On) {
    let mut w = world(on, Script::default()).await;
    w.notice(json!({"kind": "free", "subject": "Hello", "body": "News.", "recipients": ["ann"]})).await;
    incident(&w, "investigating", "major_outage").await;
    until(&mut w, "2025-06-02T08:20:00Z").await;
    incident(&w, "resolved", "operational").await;
    until(&mut w, "2025-06-02T08:40:00Z").await;
    incident(&w, "postmortem", "operational").await;
    until(&mut w, "2025-06-02T09:00:00Z").await;
    for class in [Class::Free, Class::IncidentEnd, Class::PostMortem] {
        let before = w.all().len();
        assert_eq!(resend(&w, of_class(&w, class).await.id, false).await, "as_it_was", "{class}");
        w.pass(1).await;
        assert_eq!(w.all().len(), before + 1, "{class}: {:?}", w.deliveries().await);
    }
    incident(&w, "investigating", "major_outage").await;
    w.down("outlook").await;
    w.pass(15).await;
    let end = mails(&w, "ann").await.into_iter().find(|d| d.class == Class::IncidentEnd).unwrap().id;
    assert!(resend(&w, end, false).await.starts_with("no: "), "it is not over any more");
    w.up("outlook").await;
    incident(&w, "resolved", "operational").await;
    w.pass(30).await;
}

async fn a_dry_run_counts_what_a_batch_does_and_a_batch_does_it_once(on: On) {
    let refuse = |at, nth: u32| {
        (at == Phase::Dot && nth == 1).then(|| Says { at, act: Act::Reply("554 5.6.0 not like this".to_owned()) })
    };
    let mut w = world(on, Script::default().answering(move |at, _, nth| refuse(at, nth))).await;
    for n in 0..12 {
        let key = format!("c{n:02}");
        w.subscriber(&key).await;
        w.connection(&key, "outlook", &key).await;
        w.broken(&key).await;
    }
    until(&mut w, "2025-06-02T08:30:00Z").await;
    assert_eq!(w.all().len(), 0, "{:?}", w.deliveries().await);
    for n in 0..5 {
        w.recovered(&format!("c{n:02}"), "automatic").await;
    }
    w.settle().await;
    let filter = FilterIn { state: Some(State::Failed), class: Some(Class::ActionRequired), ..FilterIn::default() };
    let mut said = ResendsIn { filter: Some(filter), dry_run: true, limit: Some(4), ..ResendsIn::default() };
    let mut counts = Vec::new();
    for dry_run in [true, false, false] {
        (said.dry_run, said.next) = (dry_run, None);
        let mut whole: Option<Answer> = None;
        loop {
            let page = answer(&w, &said).await;
            said.next = page.next;
            match &mut whole {
                Some(whole) => whole.add(page),
                None => whole = Some(page),
            }
            if said.next.is_none() {
                break;
            }
        }
        let tally = whole.unwrap().tally;
        counts.push((tally.sent, tally.refused.get("recovered").copied().unwrap_or_default()));
    }
    assert_eq!(counts, [(7, 5), (7, 5), (0, 5)]);
    w.pass(20).await;
    assert_eq!(w.all().len(), 7);
    said.next = None;
    assert_eq!(answer(&w, &said).await.tally.sent, 0, "what was sent again is left out, as long as it takes");
    let empty = ResendsIn { filter: Some(FilterIn::default()), ..ResendsIn::default() };
    assert_eq!(allclear::flow::resend::ask::check(&empty).unwrap_err()[0].field, "filter");
}

async fn two_who_ask_at_the_same_time_make_one_mail(on: On) {
    let mut w = world(on, Script::default()).await;
    w.broken("a1").await;
    until(&mut w, "2025-06-02T08:30:00Z").await;
    let ids = vec![mails(&w, "ann").await[0].id];
    let said = ResendsIn { force: true, reason: Some("again".to_owned()), ids, ..ResendsIn::default() };
    let both = futures_of(&w, &said, 4).await;
    assert_eq!(both.iter().map(|a| a.tally.sent).sum::<u64>(), 1);
    assert!(both.iter().all(|a| a.tally.sent == 1 || a.tally.refused.contains_key("on_its_way")));
    w.settle().await;
    assert_eq!(w.all().len(), 2);
}

async fn futures_of(w: &World, said: &ResendsIn, n: usize) -> Vec<Answer> {
    let tasks: Vec<_> = (0..n)
        .map(|_| {
            let (store, setting, said) = (w.store.clone(), w.shared.setting.clone(), said.clone());
            tokio::spawn(async move {
                let keyed = Keyed { key: None, body: &[] };
                match ask(&store, &setting, ("t", "cli:t"), &said, keyed, &mut HashSet::new()).await.unwrap() {
                    Answered::Now(answer) => answer,
                    Answered::Before(_) => panic!("no key was given"),
                }
            })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    answers
}

async fn every_resend_and_every_forced_attempt_is_in_the_journal(on: On) {
    let mut w = world(on, Script::default()).await;
    w.broken("a1").await;
    until(&mut w, "2025-06-02T08:30:00Z").await;
    let first = mails(&w, "ann").await.remove(0).id;
    resend(&w, first, false).await;
    w.settle().await;
    resend(&w, first, false).await;
    w.recovered("a1", "automatic").await;
    w.settle().await;
    resend(&w, first, true).await;
    let mut tx = w.store.begin().await.unwrap();
    let lines = journal::lines(&mut tx, 0).await.unwrap();
    let said: Vec<_> = lines.iter().map(|l| (l.who.as_str(), l.action.as_str(), l.subject.clone())).collect();
    assert_eq!(said, [("cli:t", "resend", first.to_string()), ("cli:t", "refuse_resend", first.to_string())]);
    assert!(lines[0].detail.starts_with("asked, as_it_was as dlv_"), "{}", lines[0].detail);
    assert_eq!(lines[1].detail, "forced, refused: recovered; asked by phone");
}
