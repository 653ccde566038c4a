//! Corrections, ends and all-clears that meet newer news on their way: nothing that leaves is untrue, nothing owed is
//! forgotten.

use super::by_hand::{arm, record, taken};
use super::table::{assert_table, plain, until};
use crate::on_both;
use crate::support::{On, World, t};
use allclear::domain::class::Class;
use allclear::domain::time::Span;
use allclear::flow::sweep::sweep;
use allclear::flow::worker::plan_all;
use allclear::mail::sink::{Act, Answer, Phase, Script};
use serde_json::json;

on_both! {
    a_correction_names_what_broke_again_before_it_left;
    a_correction_does_not_name_what_its_mail_never_said;
    a_newer_mail_of_the_thread_replaces_the_correction;
    a_correction_names_what_a_newer_mail_took_out_of_it;
    a_correction_of_several_mails_speaks_of_all;
    the_receipt_of_a_newer_mail_replaces_the_correction_at_once;
    a_correction_written_after_the_newer_mail_is_replaced_too;
    a_correction_that_may_have_arrived_takes_back_no_more_than_it_did;
    who_broke_again_before_the_first_mail_was_withdrawn_is_asked;
    who_reconnects_before_a_covering_recovery_is_swept_knows;
    an_end_waits_while_a_component_it_names_is_down_again;
    a_problem_mail_nobody_can_know_about_gets_its_end;
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

async fn a_correction_names_what_broke_again_before_it_left(on: On) {
    let mut w = world(on, Script::default()).await;
    w.broken("a1").await;
    w.broken("a2").await;
    until(&mut w, "2025-06-02T08:10:00Z").await;
    w.sink.set_down(true);
    w.recovered("a1", "automatic").await;
    w.recovered("a2", "automatic").await;
    until(&mut w, "2025-06-02T08:20:00Z").await;
    w.broken("a2").await;
    until(&mut w, "2025-06-02T08:22:00Z").await;
    w.sink.set_down(false);
    until(&mut w, "2025-06-02T08:40:00Z").await;
    w.recovered("a2", "automatic").await;
    until(&mut w, "2025-06-02T09:00:00Z").await;
    assert_table(
        w.all(),
        "UTC",
        "
        Mon 2 Jun 08:05 ann please reconnect: Inbox a1, Inbox a2
        Mon 2 Jun 08:22 ann no action needed: Inbox a1; still: Inbox a2
        Mon 2 Jun 08:25 ann please reconnect: Inbox a2
        Mon 2 Jun 08:40 ann no action needed: Inbox a2
        ",
    );
}

async fn a_correction_does_not_name_what_its_mail_never_said(on: On) {
    let mut w = world(on, Script::default()).await;
    w.broken("a1").await;
    w.broken("a2").await;
    until(&mut w, "2025-06-02T08:05:00Z").await;
    let mail = arm(&w, Class::ActionRequired, "node", "first@status.example.com").await;
    // Swept while the mail is armed; the last look then takes a2 out of it, and it leaves about a1 alone.
    w.recovered("a2", "automatic").await;
    while sweep(&w.store, &w.shared.setting).await.unwrap() {}
    w.execute(
        "UPDATE delivery_item SET dropped = 'recovered'
         WHERE connection_id = (SELECT id FROM connection WHERE key = 'a2') AND corrects_id IS NULL",
    )
    .await;
    record(&w, "node", taken(mail)).await;
    w.recovered("a1", "automatic").await;
    while sweep(&w.store, &w.shared.setting).await.unwrap() {}
    w.clock.set(t("2025-06-02T08:06:00Z"));
    w.broken("a2").await;
    w.move_to(t("2025-06-02T08:07:00Z")).await;
    w.recovered("a2", "automatic").await;
    until(&mut w, "2025-06-02T09:00:00Z").await;
    // Had it said that a2 is not back yet, nobody would ever have taken that back.
    assert_table(w.all(), "UTC", "Mon 2 Jun 08:07 ann no action needed: Inbox a1");
}

async fn the_receipt_of_a_newer_mail_replaces_the_correction_at_once(on: On) {
    let mut w = world(on, Script::default()).await;
    w.broken("a1").await;
    until(&mut w, "2025-06-02T08:10:00Z").await;
    w.recovered("a1", "automatic").await;
    while sweep(&w.store, &w.shared.setting).await.unwrap() {}
    w.clock.set(t("2025-06-02T08:11:00Z"));
    w.broken("a1").await;
    plan_all(&w.shared).await.unwrap();
    w.clock.set(t("2025-06-02T08:20:00Z"));
    let newer = arm(&w, Class::ActionRequired, "node", "newer@status.example.com").await;
    record(&w, "node", taken(newer)).await;
    let mut all = w.deliveries().await;
    all.sort();
    let folded = "correction folded replaced_by_newer";
    assert_eq!(all, ["action_required accepted", "action_required accepted", folded]);
}

async fn a_correction_written_after_the_newer_mail_is_replaced_too(on: On) {
    let mut w = world(on, Script::default()).await;
    w.broken("a1").await;
    until(&mut w, "2025-06-02T08:10:00Z").await;
    // The sweep is late: by then the customer has been asked again.
    w.recovered("a1", "automatic").await;
    w.clock.set(t("2025-06-02T08:11:00Z"));
    w.broken("a1").await;
    w.clock.set(t("2025-06-02T08:20:00Z"));
    w.worker.settle_without_recovery().await.unwrap();
    assert_eq!(w.sink.count(), 2);
    until(&mut w, "2025-06-02T08:30:00Z").await;
    let all = ["action_required accepted", "action_required accepted", "correction folded replaced_by_newer"];
    assert_eq!(w.deliveries().await, all);
}

async fn who_broke_again_before_the_first_mail_was_withdrawn_is_asked(on: On) {
    let mut w = world(on, Script::default()).await;
    w.broken("a1").await;
    w.settle().await;
    w.clock.set(t("2025-06-02T08:01:00Z"));
    w.recovered("a1", "automatic").await;
    w.clock.set(t("2025-06-02T08:02:00Z"));
    w.broken("a1").await;
    until(&mut w, "2025-06-02T08:20:00Z").await;
    assert_table(w.all(), "UTC", "Mon 2 Jun 08:07 ann please reconnect: Inbox a1");
}

async fn a_newer_mail_of_the_thread_replaces_the_correction(on: On) {
    let mut w = world(on, Script::default()).await;
    w.broken("a1").await;
    until(&mut w, "2025-06-02T08:10:00Z").await;
    w.sink.set_down(true);
    w.recovered("a1", "automatic").await;
    until(&mut w, "2025-06-02T08:12:00Z").await;
    w.broken("a1").await;
    until(&mut w, "2025-06-02T08:20:00Z").await;
    w.sink.set_down(false);
    until(&mut w, "2025-06-02T08:30:00Z").await;
    w.recovered("a1", "automatic").await;
    until(&mut w, "2025-06-02T09:00:00Z").await;
    assert_table(
        w.all(),
        "UTC",
        "
        Mon 2 Jun 08:05 ann please reconnect: Inbox a1
        Mon 2 Jun 08:20 ann please reconnect: Inbox a1
        Mon 2 Jun 08:30 ann no action needed: Inbox a1
        ",
    );
    let corrections: Vec<_> = w.deliveries().await.into_iter().filter(|d| d.starts_with("correction")).collect();
    assert_eq!(corrections, ["correction folded replaced_by_newer", "correction accepted"]);
}

async fn a_correction_names_what_a_newer_mail_took_out_of_it(on: On) {
    let later = |at, nth| (at == Phase::Rcpt && nth == 2).then(|| Answer::reply(at, "451 4.7.1 later"));
    let mut w = world(on, Script::default().answering(move |at, _, nth| later(at, nth))).await;
    w.broken("a1").await;
    w.broken("a2").await;
    until(&mut w, "2025-06-02T08:10:00Z").await;
    w.recovered("a1", "automatic").await;
    w.recovered("a2", "automatic").await;
    w.at("2025-06-02T08:10:00Z").await;
    // Within the second before the correction is tried again.
    w.move_to(w.now() + Span(1)).await;
    w.broken("a1").await;
    w.move_to(w.now() + Span(1)).await;
    w.signal(json!({"connection": "a1", "what": "recovery_failed"})).await;
    w.settle().await;
    w.pass(5).await;
    w.recovered("a1", "automatic").await;
    w.pass(5).await;
    assert_table(
        w.all(),
        "UTC",
        "
        Mon 2 Jun 08:05 ann please reconnect: Inbox a1, Inbox a2
        Mon 2 Jun 08:10 ann please reconnect: Inbox a1
        Mon 2 Jun 08:11 ann no action needed: Inbox a2; still: Inbox a1
        Mon 2 Jun 08:16 ann no action needed: Inbox a1
        ",
    );
}

async fn a_correction_of_several_mails_speaks_of_all(on: On) {
    for uncertain in [false, true] {
        let silent = move |at, nth| uncertain && at == Phase::Dot && (nth == 2 || nth == 3);
        let answer = move |at, nth| silent(at, nth).then_some(Answer { at, act: Act::TakeAndClose });
        let mut w = world(on, Script::default().answering(move |at, _, nth| answer(at, nth))).await;
        w.broken("a1").await;
        until(&mut w, "2025-06-02T08:06:00Z").await;
        w.broken("a2").await;
        until(&mut w, "2025-06-02T09:00:00Z").await;
        let asked = w.all().len();
        let covering =
            json!({"component": "outlook", "what": "recovered", "connections": "all", "since": "2025-06-02T07:00:00Z"});
        w.signal(covering).await;
        w.pass(5).await;
        let [correction] = &w.all()[asked..] else { panic!("{:?}", w.deliveries().await) };
        let text = plain(correction).replace('\n', " ");
        let told = if uncertain { "You may have received mails" } else { "We asked you to act" };
        let told = format!("{told} between Mon 2 Jun 2025, 10:05 (UTC+02:00) / 08:05 UTC and Mon 2 Jun 2025, 10:");
        assert!(text.contains(&told) && text.contains("Please disregard those mails: "), "{text}");
    }
}

/// Its repeat goes under the same Message-ID: a mailbox that has the first copy may hide the second, and with it
/// whatever it said besides.
async fn a_correction_that_may_have_arrived_takes_back_no_more_than_it_did(on: On) {
    let silent = |at, nth| (at == Phase::Dot && nth == 2).then_some(Answer { at, act: Act::TakeAndClose });
    let mut w = world(on, Script::default().answering(move |at, _, nth| silent(at, nth))).await;
    w.broken("a1").await;
    w.broken("a2").await;
    until(&mut w, "2025-06-02T08:10:00Z").await;
    w.recovered("a1", "automatic").await;
    until(&mut w, "2025-06-02T08:20:00Z").await;
    w.sink.set_down(true);
    // It waits to be repeated, and the other inbox recovers as well.
    until(&mut w, "2025-06-02T08:30:00Z").await;
    w.recovered("a2", "automatic").await;
    until(&mut w, "2025-06-02T08:32:00Z").await;
    w.sink.set_down(false);
    until(&mut w, "2025-06-02T09:00:00Z").await;
    assert_table(
        w.all(),
        "UTC",
        "
        Mon 2 Jun 08:05 ann please reconnect: Inbox a1, Inbox a2
        Mon 2 Jun 08:10 ann no action needed: Inbox a1; still: Inbox a2
        Mon 2 Jun 08:32 ann no action needed: Inbox a1
        Mon 2 Jun 08:32 ann no action needed: Inbox a2
        ",
    );
    let ids: Vec<_> = w.all().iter().map(|mail| mail.header("Message-ID")).collect();
    assert!(ids[1] == ids[2] && ids[2] != ids[3], "{ids:?}");
}

async fn incident(w: &World, phase: &str, status: &str) {
    w.notice(json!({"kind": "incident", "incident": "o-1", "title": "Slow", "phase": phase, "body": "It is slow.",
        "components": [{"key": "outlook", "status": status}]}))
        .await;
}

async fn who_reconnects_before_a_covering_recovery_is_swept_knows(on: On) {
    let mut w = world(on, Script::default()).await;
    w.broken("a1").await;
    w.broken("a2").await;
    until(&mut w, "2025-06-02T08:10:00Z").await;
    w.signal(
        json!({"component": "outlook", "what": "recovered", "connections": "all", "since": "2025-06-02T07:00:00Z"}),
    )
    .await;
    w.recovered("a1", "customer").await;
    until(&mut w, "2025-06-02T08:20:00Z").await;
    // After the sweep: it was told already.
    w.recovered("a2", "customer").await;
    until(&mut w, "2025-06-02T16:00:00Z").await;
    assert_table(
        w.all(),
        "UTC",
        "
        Mon 2 Jun 08:05 ann please reconnect: Inbox a1, Inbox a2
        Mon 2 Jun 08:10 ann no action needed: Inbox a2
        ",
    );
}

async fn an_end_waits_while_a_component_it_names_is_down_again(on: On) {
    let mut w = world(on, Script::default()).await;
    incident(&w, "investigating", "major_outage").await;
    until(&mut w, "2025-06-02T08:20:00Z").await;
    w.sink.set_down(true);
    until(&mut w, "2025-06-02T08:30:00Z").await;
    incident(&w, "resolved", "operational").await;
    until(&mut w, "2025-06-02T08:31:00Z").await;
    w.down("outlook").await;
    until(&mut w, "2025-06-02T08:35:00Z").await;
    w.sink.set_down(false);
    until(&mut w, "2025-06-02T08:50:00Z").await;
    assert_eq!(w.all().len(), 1);
    w.up("outlook").await;
    until(&mut w, "2025-06-02T09:30:00Z").await;
    assert_table(
        w.all(),
        "UTC",
        "
        Mon 2 Jun 08:01 ann Investigating: Outlook has a major outage.
        Mon 2 Jun 08:50 ann Resolved: Outlook works normally again.
        ",
    );
}

async fn a_problem_mail_nobody_can_know_about_gets_its_end(on: On) {
    let silent = |at, nth| (at == Phase::Dot && nth == 1).then_some(Answer { at, act: Act::TakeAndClose });
    let mut w = world(on, Script::default().answering(move |at, _, nth| silent(at, nth))).await;
    incident(&w, "investigating", "major_outage").await;
    until(&mut w, "2025-06-02T08:10:00Z").await;
    incident(&w, "resolved", "operational").await;
    until(&mut w, "2025-06-02T09:30:00Z").await;
    assert_table(
        w.all(),
        "UTC",
        "
        Mon 2 Jun 08:01 ann Investigating: Outlook has a major outage.
        Mon 2 Jun 08:16 ann Resolved: Outlook works normally again.
        ",
    );
    assert_eq!(w.deliveries().await, ["incident_update unknown ambiguous", "incident_end accepted"]);
}
