//! A mail nobody knows about: its worker vanished while it was armed, or it waits again after its quarantine.
//! Nothing is repeated or taken back before the quarantine is over, and then once.

use super::by_hand::{arm, record, taken};
use super::table::{assert_table, plain, until};
use crate::on_both;
use crate::support::{Got, On, World, t};
use allclear::domain::class::Class;
use allclear::domain::id::DeliveryId;
use allclear::flow::sweep::reap_left_behind;
use allclear::flow::worker::plan_all;
use allclear::mail::sink::{Act, Answer, Phase, Script};
use serde_json::json;

on_both! {
    what_a_vanished_worker_held_is_sent_once_after_lease_and_quarantine;
    what_recovered_meanwhile_is_corrected_and_not_sent;
    what_a_sweep_passed_while_it_was_being_armed_is_corrected;
    what_recovered_while_it_was_on_the_wire_is_corrected_once_the_relay_took_it;
    what_the_customer_reconnected_meanwhile_is_neither_sent_nor_corrected;
    what_recovers_in_the_quarantine_is_corrected_once;
    what_a_vanished_worker_may_have_told_of_a_component_is_remembered;
    the_late_word_of_a_vanished_worker_spares_a_second_copy;
    a_word_later_than_the_quarantine_spares_the_repeat_that_waits;
    what_waits_again_after_its_quarantine_may_have_arrived_all_the_same;
    what_waits_again_is_told_at_once_when_it_is_proven_to_be_the_customers_own;
    what_waits_again_with_another_fault_is_told_at_once_and_the_other_waits;
    what_waits_again_keeps_nobody_from_hearing_what_is_over;
    who_starts_takes_back_what_all_before_it_left_and_of_others_nothing;
    who_reconnected_before_the_reap_is_not_corrected_whatever_came_after;
}

/// Ann's inbox broke at 08:00; at 08:05 a worker armed the mail, and was never heard of again.
async fn world(on: On) -> (World, DeliveryId) {
    let mut w = World::new(on, "2025-06-02T08:00:00Z").await;
    w.component("outlook", "Outlook").await;
    w.subscriber("ann").await;
    w.connection("ann", "outlook", "ann").await;
    w.broken("ann").await;
    w.pass(4).await;
    w.clock.set(t("2025-06-02T08:05:00Z"));
    let id = arm(&w, Class::ActionRequired, "vanished", "held@status.example.com").await;
    (w, id)
}

async fn what_a_vanished_worker_held_is_sent_once_after_lease_and_quarantine(on: On) {
    let (mut w, _) = world(on).await;
    until(&mut w, "2025-06-02T12:00:00Z").await;
    // 13 minutes of lease, 15 of quarantine.
    assert_table(w.all(), "UTC", "Mon 2 Jun 08:33 ann please reconnect: Inbox ann");
    assert_eq!(w.all()[0].header("Message-ID").as_deref(), Some("<held@status.example.com>"));
    assert_eq!(w.deliveries().await, ["action_required accepted"]);
    // It waited anew from the end of its quarantine.
    let due = w.query("SELECT CAST(due_at AS TEXT) FROM delivery").await;
    assert_eq!(due[0][0], Some(t("2025-06-02T08:33:00Z").0.to_string()));
}

async fn what_recovered_meanwhile_is_corrected_and_not_sent(on: On) {
    let (mut w, _) = world(on).await;
    until(&mut w, "2025-06-02T08:10:00Z").await;
    let mut answer = w.recovered("ann", "automatic").await;
    allclear::flow::ingest::drain_state(&w.store, &mut answer).await.unwrap();
    assert_eq!((answer.in_flight, answer.drained), (Some(1), Some(false)));
    until(&mut w, "2025-06-02T12:00:00Z").await;
    assert_table(w.all(), "UTC", "Mon 2 Jun 08:33 ann no action needed: Inbox ann");
    assert!(plain(&w.all()[0]).contains("You may have received a mail of"), "{}", plain(&w.all()[0]));
    allclear::flow::ingest::drain_state(&w.store, &mut answer).await.unwrap();
    assert_eq!((answer.in_flight, answer.drained), (Some(0), Some(true)));
}

async fn what_a_sweep_passed_while_it_was_being_armed_is_corrected(on: On) {
    let (mut w, _) = world(on).await;
    w.recovered("ann", "automatic").await;
    // As on PostgreSQL, when the sweep reads before the arming transaction commits: it finds nothing.
    w.execute("UPDATE recovery SET swept_at = committed_at").await;
    until(&mut w, "2025-06-02T12:00:00Z").await;
    assert_table(w.all(), "UTC", "Mon 2 Jun 08:33 ann no action needed: Inbox ann");
}

async fn what_recovered_while_it_was_on_the_wire_is_corrected_once_the_relay_took_it(on: On) {
    let (mut w, id) = world(on).await;
    w.recovered("ann", "automatic").await;
    // Swept while the mail is on the wire: its correction waits. Then the relay's 250 is recorded.
    w.settle().await;
    record(&w, "vanished", taken(id)).await;
    until(&mut w, "2025-06-02T12:00:00Z").await;
    assert_eq!(w.all().len(), 1, "{:?}", w.deliveries().await);
    assert!(plain(&w.all()[0]).contains("No action needed"));
    assert_eq!(w.deliveries().await, ["action_required accepted", "correction accepted"]);
}

async fn what_the_customer_reconnected_meanwhile_is_neither_sent_nor_corrected(on: On) {
    let (mut w, _) = world(on).await;
    until(&mut w, "2025-06-02T08:10:00Z").await;
    w.recovered("ann", "customer").await;
    until(&mut w, "2025-06-02T12:00:00Z").await;
    assert!(w.all().is_empty(), "{:?}", w.all());
    assert_eq!(w.deliveries().await, ["action_required unknown ambiguous"]);
}

async fn what_recovers_in_the_quarantine_is_corrected_once(on: On) {
    let (mut w, _) = world(on).await;
    until(&mut w, "2025-06-02T08:25:00Z").await;
    w.recovered("ann", "automatic").await;
    until(&mut w, "2025-06-02T12:00:00Z").await;
    assert_table(w.all(), "UTC", "Mon 2 Jun 08:33 ann no action needed: Inbox ann");
}

async fn what_a_vanished_worker_may_have_told_of_a_component_is_remembered(on: On) {
    let mut w = World::new(on, "2025-06-02T08:00:00Z").await;
    w.component("outlook", "Outlook").await;
    w.subscriber("ann").await;
    w.subscribe("ann", "outlook").await;
    w.notice(json!({"kind": "incident", "incident": "INC-1", "title": "Mail is slow", "phase": "investigating",
        "impact": "minor", "components": [{"key": "outlook", "status": "degraded_performance"}], "body": "We look."}))
        .await;
    plan_all(&w.shared).await.unwrap();
    arm(&w, Class::IncidentUpdate, "vanished", "held@status.example.com").await;
    until(&mut w, "2025-06-02T08:14:00Z").await;
    assert_eq!(w.deliveries().await, ["incident_update unknown ambiguous"]);
    let told = w.query("SELECT status FROM thread_component").await;
    assert_eq!(told, [[Some("degraded_performance".to_owned())]]);
}

async fn the_late_word_of_a_vanished_worker_spares_a_second_copy(on: On) {
    let (mut w, id) = world(on).await;
    until(&mut w, "2025-06-02T08:25:00Z").await;
    let late = taken(id);
    // Twice: nobody knew whether the first commit had been made.
    for _ in 0..2 {
        w.shared.spill.append(std::slice::from_ref(&late)).unwrap();
        assert_eq!(w.shared.spill.merge(&w.store, &w.shared.setting, "vanished").await.unwrap(), 1);
        assert_eq!(w.deliveries().await, ["action_required accepted"]);
    }
    let attempts = w.query("SELECT outcome, owner FROM attempt").await;
    assert_eq!(attempts, [[Some("accepted".to_owned()), Some("vanished".to_owned())]]);
    until(&mut w, "2025-06-02T12:00:00Z").await;
    assert_eq!((w.all().len(), w.deliveries().await), (0, vec!["action_required accepted".to_owned()]));
}

async fn a_word_later_than_the_quarantine_spares_the_repeat_that_waits(on: On) {
    let (mut w, id) = world(on).await;
    until(&mut w, "2025-06-02T08:20:00Z").await;
    w.down("outlook").await;
    // The quarantine ends at 08:33, but nobody is asked while the component is down.
    until(&mut w, "2025-06-02T08:40:00Z").await;
    assert!(w.deliveries().await[0].starts_with("action_required queued"), "{:?}", w.deliveries().await);
    record(&w, "vanished", taken(id)).await;
    assert_eq!(w.deliveries().await, ["action_required accepted"]);
    let repeats = w.query("SELECT CAST(repeats AS TEXT) FROM delivery").await;
    assert_eq!(repeats, [[Some("0".to_owned())]], "it never left again");
    w.up("outlook").await;
    until(&mut w, "2025-06-02T12:00:00Z").await;
    assert_eq!((w.all().len(), w.deliveries().await), (0, vec!["action_required accepted".to_owned()]));
}

/// The relay takes Ann's mail about these at 08:05 and says nothing; at 08:10 Outlook goes down, and the mail waits again.
async fn taken_in_silence(on: On, connections: &[&str]) -> World {
    let silent = |at, nth| (at == Phase::Dot && nth == 1).then_some(Answer { at, act: Act::TakeAndClose });
    let script = Script::default().answering(move |at, _, nth| silent(at, nth));
    let mut w = World::with(on, "2025-06-02T08:00:00Z", script, |_| {}).await;
    w.component("outlook", "Outlook").await;
    w.subscriber("ann").await;
    for key in connections {
        w.connection(key, "outlook", "ann").await;
        w.broken(key).await;
    }
    until(&mut w, "2025-06-02T08:10:00Z").await;
    w.down("outlook").await;
    // The quarantine ends at 08:20, but nobody is asked while the component is down.
    until(&mut w, "2025-06-02T08:40:00Z").await;
    assert!(w.deliveries().await[0].starts_with("action_required queued"));
    w
}

async fn what_waits_again_after_its_quarantine_may_have_arrived_all_the_same(on: On) {
    let mut w = taken_in_silence(on, &["ann"]).await;
    w.signal(json!({"connection": "ann", "what": "recovered", "by": "automatic"})).await;
    until(&mut w, "2025-06-02T12:00:00Z").await;
    assert_table(
        w.all(),
        "UTC",
        "
        Mon 2 Jun 08:05 ann please reconnect: Inbox ann
        Mon 2 Jun 08:40 ann no action needed: Inbox ann
        ",
    );
    assert!(plain(&w.all()[1]).contains("You may have received a mail of"), "{}", plain(&w.all()[1]));
    assert_eq!(w.deliveries().await, ["action_required withdrawn recovered", "correction accepted"]);
}

async fn what_waits_again_is_told_at_once_when_it_is_proven_to_be_the_customers_own(on: On) {
    let mut w = taken_in_silence(on, &["ann"]).await;
    w.signal(json!({"connection": "ann", "what": "recovery_failed"})).await;
    until(&mut w, "2025-06-02T12:00:00Z").await;
    assert_table(
        w.all(),
        "UTC",
        "
        Mon 2 Jun 08:05 ann please reconnect: Inbox ann
        Mon 2 Jun 08:40 ann please reconnect: Inbox ann
        ",
    );
    let id = |got: &Got| got.header("Message-ID");
    assert_eq!(id(&w.all()[0]), id(&w.all()[1]));
    assert_eq!(w.deliveries().await, ["action_required accepted"]);
    // As any own fault: no surge of its component would have held it.
    let lane = w.query("SELECT l.fence_kind FROM delivery d JOIN lane l ON l.id = d.lane_id").await;
    assert_eq!(lane, [[Some("none".to_owned())]]);
}

async fn what_waits_again_with_another_fault_is_told_at_once_and_the_other_waits(on: On) {
    let mut w = taken_in_silence(on, &["ann", "other"]).await;
    w.signal(json!({"connection": "ann", "what": "recovery_failed"})).await;
    until(&mut w, "2025-06-02T10:00:00Z").await;
    w.recovered("other", "automatic").await;
    until(&mut w, "2025-06-02T12:00:00Z").await;
    assert_table(
        w.all(),
        "UTC",
        "
        Mon 2 Jun 08:05 ann please reconnect: Inbox ann, Inbox other
        Mon 2 Jun 08:40 ann please reconnect: Inbox ann
        Mon 2 Jun 10:00 ann no action needed: Inbox other; still: Inbox ann
        ",
    );
}

async fn what_waits_again_keeps_nobody_from_hearing_what_is_over(on: On) {
    let mut w = taken_in_silence(on, &["ann", "other"]).await;
    w.recovered("ann", "automatic").await;
    until(&mut w, "2025-06-02T09:00:00Z").await;
    // Nor does the repeat name it once more, though it breaks again.
    w.broken("ann").await;
    until(&mut w, "2025-06-02T10:00:00Z").await;
    w.up("outlook").await;
    until(&mut w, "2025-06-02T12:00:00Z").await;
    assert_table(
        w.all(),
        "UTC",
        "
        Mon 2 Jun 08:05 ann please reconnect: Inbox ann, Inbox other
        Mon 2 Jun 08:40 ann no action needed: Inbox ann; still: Inbox other
        Mon 2 Jun 10:00 ann please reconnect: Inbox other
        ",
    );
}

async fn who_starts_takes_back_what_all_before_it_left_and_of_others_nothing(on: On) {
    let (mut w, _) = world(on).await;
    let hour =
        "UPDATE delivery SET owner = 'one/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', lease_until = lease_until + 3600000000";
    w.execute(hour).await;
    w.subscriber("bob").await;
    w.connection("bob", "outlook", "bob").await;
    w.broken("bob").await;
    plan_all(&w.shared).await.unwrap();
    w.clock.set(t("2025-06-02T08:10:00Z"));
    arm(&w, Class::ActionRequired, "one-2/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "other@status.example.com").await;
    // Bob's lease is over. Whoever was to take back Ann's mail was ended before it did.
    w.clock.set(t("2025-06-02T08:30:00Z"));
    let own = "one/cccccccccccccccccccccccccccccccc";
    while reap_left_behind(&w.store, &w.shared.setting, own).await.unwrap() {}
    w.at("2025-06-02T08:30:00Z").await;
    until(&mut w, "2025-06-02T12:00:00Z").await;
    // An SQLite file has one process that dispatches: whatever the others were called, they are dead.
    let bob = if on == On::Sqlite { "08:30" } else { "08:45" };
    let expected = format!(
        "Mon 2 Jun 08:30 ann please reconnect: Inbox ann
         Mon 2 Jun {bob} bob please reconnect: Inbox bob"
    );
    assert_table(w.all(), "UTC", &expected);
}

async fn who_reconnected_before_the_reap_is_not_corrected_whatever_came_after(on: On) {
    let (mut w, _) = world(on).await;
    until(&mut w, "2025-06-02T08:10:00Z").await;
    w.recovered("ann", "customer").await;
    until(&mut w, "2025-06-02T08:12:00Z").await;
    w.broken("ann").await;
    until(&mut w, "2025-06-02T08:14:00Z").await;
    w.recovered("ann", "automatic").await;
    until(&mut w, "2025-06-02T12:00:00Z").await;
    assert!(w.all().is_empty(), "{:?}", w.all());
    assert_eq!(w.deliveries().await, ["action_required unknown ambiguous", "action_required withdrawn recovered"]);
}
