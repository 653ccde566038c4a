//! Connections that break and recover: who is asked, who is not, who is told that it is over.

use crate::on_both;
use crate::support::{On, World};
use allclear::domain::id::RecoveryId;
use allclear::domain::time::Span;
use allclear::flow::bulk;
use allclear::flow::ingest::Answer;
use allclear::flow::setting::Setting;
use allclear::flow::sweep::sweep;
use allclear::mail::sink::{self, Phase, Script};
use allclear::store::recover;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWriteExt, BufReader};

on_both! {
    a_broken_connection_is_mailed_after_the_dwell;
    a_recovery_within_the_dwell_mails_nobody;
    a_recovery_after_the_mail_corrects_exactly_those_mailed;
    who_reconnected_by_hand_gets_no_correction;
    connections_that_fail_within_the_dwell_make_one_mail;
    what_joins_a_mail_has_its_time_to_heal_too;
    who_blinks_does_not_keep_the_others_waiting;
    what_fails_while_a_mail_is_tried_again_has_tries_of_its_own;
    beside_a_mail_that_waits_for_its_component_what_fails_makes_one_mail_too;
    while_the_component_is_down_nobody_is_asked;
    what_was_to_heal_long_after_its_outage_waits_no_more_for_its_component;
    a_failed_recovery_is_told_at_once_while_the_others_wait;
    a_covering_recovery_is_one_row_and_corrects_and_must_be_confirmed;
    who_is_heard_of_only_after_a_covering_recovery_must_confirm_too;
    a_confirmation_that_comes_after_the_deadline_counts;
    a_covering_recovery_is_swept_a_page_at_a_time_and_counts_what_it_took_back;
    a_recovery_of_one_connection_counts_what_it_took_back;
    a_late_failure_is_stale_at_birth;
    a_late_recovery_from_between_two_failures_ends_nothing;
    breaking_again_before_the_correction_left_folds_it;
    breaking_again_while_its_mail_waits_for_another_is_asked;
    what_breaks_again_while_its_mail_waits_is_told_and_does_not_wait_with_it;
    a_proven_own_fault_is_told_beside_a_mail_that_named_its_outage_before;
    a_correction_does_not_list_an_outage_that_its_mail_did_not_speak_of;
    a_correction_lists_what_another_mail_asked_about;
    only_what_was_corrected_has_broken_again;
    to_whom_it_was_not_corrected_nothing_has_broken_again;
    a_text_that_comes_after_the_failure_is_used_while_its_mail_waits;
    a_text_that_comes_before_its_mail_has_left_is_what_it_says;
    a_text_about_several_is_answered_by_what_is_new_of_them;
    after_a_proven_own_fault_the_next_outage_has_its_time_to_heal;
    of_lines_without_times_the_later_is_newer;
    a_failure_said_after_a_covering_recovery_is_none_of_what_it_covers;
    what_is_said_now_and_then_is_taken_in_before_the_input_ends;
    a_line_that_no_database_could_keep_is_refused_alone;
}

async fn world(on: On) -> World {
    let w = World::new(on, "2025-03-01T20:40:00Z").await;
    w.component("outlook", "Outlook").await;
    for key in ["ann", "bob"] {
        w.subscriber(key).await;
        w.connection(&format!("{key}-1"), "outlook", key).await;
        w.connection(&format!("{key}-2"), "outlook", key).await;
    }
    w
}

async fn a_broken_connection_is_mailed_after_the_dwell(on: On) {
    let mut w = world(on).await;
    let answer = w.broken("ann-1").await;
    assert_eq!(answer.reason.map(|r| r.as_str()), Some("dwell"));
    assert!(w.at("2025-03-01T20:44:59Z").await.is_empty());
    let got = w.at("2025-03-01T20:45:00Z").await;
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].to, "ann@example.net");
    assert!(got[0].text().contains("Inbox ann-1"), "{}", got[0].raw);
    assert_eq!(got[0].header("Auto-Submitted").as_deref(), Some("auto-generated"));
    assert!(w.pass(60).await.is_empty());
    assert_eq!(w.deliveries().await, ["action_required accepted"]);
}

async fn a_recovery_within_the_dwell_mails_nobody(on: On) {
    let mut w = world(on).await;
    w.broken("ann-1").await;
    w.at("2025-03-01T20:42:00Z").await;
    w.recovered("ann-1", "automatic").await;
    assert!(w.pass(60).await.is_empty());
    assert_eq!(w.deliveries().await, ["action_required withdrawn recovered"]);
}

async fn a_recovery_after_the_mail_corrects_exactly_those_mailed(on: On) {
    let mut w = world(on).await;
    w.broken("ann-1").await;
    w.at("2025-03-01T20:42:00Z").await;
    w.broken("bob-1").await;
    assert_eq!(w.at("2025-03-01T20:46:00Z").await.len(), 1);
    let answer = w.recovered("ann-1", "automatic").await;
    assert!(answer.recovery_id.is_some());
    w.recovered("bob-1", "automatic").await;
    let got = w.pass(30).await;
    assert_eq!(got.len(), 1, "{got:?}");
    assert_eq!(got[0].to, "ann@example.net");
    assert!(got[0].text().contains("No action needed"), "{}", got[0].raw);
    let first = &w.all()[0];
    assert_eq!(first.subject, got[0].subject);
    let root = first.header("References").unwrap();
    assert!(got[0].header("References").unwrap().starts_with(&root));
    assert_eq!(got[0].header("In-Reply-To"), first.header("Message-ID"));
}

async fn who_reconnected_by_hand_gets_no_correction(on: On) {
    let mut w = world(on).await;
    w.broken("ann-1").await;
    assert_eq!(w.pass(6).await.len(), 1);
    w.recovered("ann-1", "customer").await;
    assert!(w.pass(60).await.is_empty());
}

async fn connections_that_fail_within_the_dwell_make_one_mail(on: On) {
    let mut w = world(on).await;
    w.broken("ann-1").await;
    w.pass(2).await;
    w.broken("ann-2").await;
    let got = w.pass(10).await;
    assert_eq!(got.len(), 1);
    assert!(got[0].text().contains("Inbox ann-1") && got[0].text().contains("Inbox ann-2"));
    w.recovered("ann-2", "automatic").await;
    let got = w.pass(5).await;
    assert_eq!(got.len(), 1);
    assert!(got[0].text().contains("Inbox ann-1"), "what still needs the customer is named: {}", got[0].raw);
    w.recovered("ann-1", "automatic").await;
    let got = w.pass(5).await;
    assert_eq!(got.len(), 1, "each connection is taken back once");
    assert!(w.pass(30).await.is_empty());
}

async fn what_joins_a_mail_has_its_time_to_heal_too(on: On) {
    let mut w = world(on).await;
    w.broken("ann-1").await;
    assert!(w.at("2025-03-01T20:44:50Z").await.is_empty());
    w.broken("ann-2").await;
    w.settle().await;
    assert!(w.at("2025-03-01T20:49:49Z").await.is_empty(), "the second has failed for less than five minutes");
    let got = w.at("2025-03-01T20:49:50Z").await;
    assert_eq!(got.len(), 1);
    assert!(got[0].text().contains("Inbox ann-1") && got[0].text().contains("Inbox ann-2"));
    assert!(w.pass(60).await.is_empty());
}

async fn who_blinks_does_not_keep_the_others_waiting(on: On) {
    let mut w = world(on).await;
    for key in ["ann-3", "ann-4"] {
        w.connection(key, "outlook", "ann").await;
    }
    w.broken("ann-1").await;
    w.settle().await;
    for (at, key) in [("20:44:00", "ann-2"), ("20:48:00", "ann-3"), ("20:48:30", "ann-4")] {
        assert!(w.at(&format!("2025-03-01T{at}Z")).await.is_empty());
        w.broken(key).await;
        w.settle().await;
    }
    let got = w.at("2025-03-01T20:49:00Z").await;
    assert_eq!(got.len(), 1);
    let text = got[0].text();
    assert!(["ann-1", "ann-2"].iter().all(|key| text.contains(&format!("Inbox {key}"))), "{text}");
    assert!(w.at("2025-03-01T20:53:29Z").await.is_empty(), "those that would keep it for more than twice the dwell");
    let got = w.at("2025-03-01T20:53:30Z").await;
    assert_eq!(got.len(), 1, "have one of their own");
    let text = got[0].text();
    assert!(["ann-3", "ann-4"].iter().all(|key| text.contains(&format!("Inbox {key}"))), "{text}");
    assert!(w.pass(60).await.is_empty());
}

async fn what_fails_while_a_mail_is_tried_again_has_tries_of_its_own(on: On) {
    let script = Script::default().answering(|at, _, nth| {
        (at == Phase::Rcpt && nth == 1).then(|| sink::Answer::reply(at, "452 4.2.2 mailbox full"))
    });
    let mut w = World::with(on, "2025-03-01T20:40:00Z", script, |_| {}).await;
    w.component("outlook", "Outlook").await;
    w.subscriber("ann").await;
    w.connection("ann-1", "outlook", "ann").await;
    w.connection("ann-2", "outlook", "ann").await;
    w.broken("ann-1").await;
    assert!(w.pass(5).await.is_empty());
    w.broken("ann-2").await;
    let got = w.pass(5).await;
    assert!(got.len() == 1 && !got[0].text().contains("Inbox ann-1"), "{got:?}");
    assert_eq!(w.deliveries().await, ["action_required queued mailbox_full", "action_required accepted"]);
}

async fn beside_a_mail_that_waits_for_its_component_what_fails_makes_one_mail_too(on: On) {
    let mut w = world(on).await;
    w.connection("ann-3", "outlook", "ann").await;
    w.down("outlook").await;
    w.broken("ann-1").await;
    w.pass(5).await;
    w.up("outlook").await;
    w.pass(30).await;
    for key in ["ann-2", "ann-3"] {
        w.broken(key).await;
        assert!(w.pass(2).await.is_empty());
    }
    let got = w.pass(60).await;
    assert_eq!(got.len(), 1);
    let text = got[0].text();
    assert!(["ann-2", "ann-3"].iter().all(|key| text.contains(&format!("Inbox {key}"))), "{text}");
    assert!(!text.contains("Inbox ann-1"), "{text}");
}

async fn while_the_component_is_down_nobody_is_asked(on: On) {
    let mut w = world(on).await;
    w.broken("ann-1").await;
    w.pass(1).await;
    w.down("outlook").await;
    w.broken("bob-1").await;
    assert!(w.pass(120).await.is_empty());
    w.up("outlook").await;
    // A failure from before the outage is the customer's own; one inside it waits to be reconnected.
    let got = w.pass(30).await;
    assert_eq!(got.iter().map(|g| g.to.as_str()).collect::<Vec<_>>(), ["ann@example.net"]);
    w.recovered("bob-1", "automatic").await;
    assert!(w.pass(30).await.is_empty());
}

async fn what_was_to_heal_long_after_its_outage_waits_no_more_for_its_component(on: On) {
    let patient = |s: &mut Setting| s.patience = Some(Span::hours(24));
    let mut w = World::with(on, "2025-03-01T20:40:00Z", Script::default(), patient).await;
    w.component("outlook", "Outlook").await;
    w.subscriber("ann").await;
    w.connection("ann-1", "outlook", "ann").await;
    w.down("outlook").await;
    w.pass(1).await;
    w.signal(json!({"connection": "ann-1", "what": "failed", "fault": "recoverable"})).await;
    w.pass(10).await;
    w.up("outlook").await;
    assert!(w.at("2025-03-02T20:40:00Z").await.is_empty());
    assert!(w.pass(5).await.is_empty(), "it has its dwell");
    assert_eq!(w.pass(2).await.len(), 1);
}

async fn a_failed_recovery_is_told_at_once_while_the_others_wait(on: On) {
    let mut w = world(on).await;
    w.down("outlook").await;
    w.pass(1).await;
    w.broken("ann-1").await;
    w.broken("ann-2").await;
    w.pass(60).await;
    w.signal(json!({"connection": "ann-2", "what": "recovery_failed"})).await;
    let got = w.pass(1).await;
    assert_eq!(got.len(), 1);
    assert!(got[0].text().contains("Inbox ann-2") && !got[0].text().contains("Inbox ann-1"));
    w.signal(json!({"component": "outlook", "what": "recovered", "by": "automatic", "connections": "all"})).await;
    w.recovered("ann-1", "automatic").await;
    assert!(w.pass(60 * 8).await.is_empty(), "{:?}", w.deliveries().await);
}

async fn a_covering_recovery_is_one_row_and_corrects_and_must_be_confirmed(on: On) {
    let mut w = world(on).await;
    w.broken("ann-1").await;
    w.broken("bob-1").await;
    assert_eq!(w.pass(6).await.len(), 2);
    w.broken("ann-2").await;
    let answer = w
        .signal(json!({"component": "outlook", "what": "recovered", "by": "automatic", "connections": "all",
            "since": "2025-03-01T20:40:00Z", "confirm_within": "1h"}))
        .await;
    assert!(answer.recovery_id.is_some());
    let got = w.pass(20).await;
    assert_eq!(got.len(), 2, "{got:?}");
    assert!(got.iter().all(|g| g.text().contains("No action needed")));
    w.recovered("ann-1", "automatic").await;
    w.recovered("ann-2", "automatic").await;
    // Bob's connection is silent: after the deadline he is asked anew, since silence is as bad as a stale alarm.
    let got = w.pass(90).await;
    assert_eq!(
        got.iter().map(|g| g.to.as_str()).collect::<Vec<_>>(),
        ["bob@example.net"],
        "{:?}",
        w.deliveries().await
    );
}

/// A reporter that lags: the failures were in the outage that is over, and nobody has seen those connections well since.
async fn who_is_heard_of_only_after_a_covering_recovery_must_confirm_too(on: On) {
    let mut w = world(on).await;
    w.down("outlook").await;
    w.pass(10).await;
    w.signal(json!({"component": "outlook", "what": "recovered", "connections": "all", "confirm_within": "1h"})).await;
    w.pass(1).await;
    let late = async |w: &World, key: &str| {
        let failed =
            json!({"connection": key, "what": "failed", "fault": "permanent", "observed_at": "2025-03-01T20:45:00Z"});
        assert_eq!(w.signal(failed).await.reason.map(|reason| reason.as_str()), Some("covered_by_recovery"));
    };
    late(&w, "ann-1").await;
    late(&w, "bob-1").await;
    assert!(w.pass(20).await.is_empty());
    w.recovered("ann-1", "automatic").await;
    let got = w.pass(90).await;
    let to: Vec<_> = got.iter().map(|got| got.to.as_str()).collect();
    assert_eq!(to, ["bob@example.net"], "{:?}", w.deliveries().await);
    // Even later, those who have not confirmed were asked already.
    late(&w, "ann-2").await;
    assert!(w.pass(4).await.is_empty());
    let got = w.pass(4).await;
    assert!(got.len() == 1 && got[0].text().contains("Inbox ann-2"), "{:?}", w.deliveries().await);
}

/// A reporter that lags: it saw them well before the deadline, and says so after it.
async fn a_confirmation_that_comes_after_the_deadline_counts(on: On) {
    let mut w = world(on).await;
    w.down("outlook").await;
    for key in ["ann-1", "bob-1"] {
        w.broken(key).await;
    }
    w.pass(10).await;
    w.signal(json!({"component": "outlook", "what": "recovered", "connections": "all", "confirm_within": "1h"})).await;
    assert!(w.pass(62).await.is_empty());
    let seen_well = async |w: &World, key: &str| {
        w.signal(
            json!({"connection": key, "what": "recovered", "by": "automatic", "observed_at": "2025-03-01T21:49:00Z"}),
        )
        .await
    };
    assert_eq!(seen_well(&w, "ann-1").await.outcome.as_str(), "recovering");
    let got = w.pass(10).await;
    let to: Vec<_> = got.iter().map(|got| got.to.as_str()).collect();
    assert_eq!(to, ["bob@example.net"], "{:?}", w.deliveries().await);
    seen_well(&w, "bob-1").await;
    let got = w.pass(1).await;
    assert!(got.len() == 1 && got[0].to == "bob@example.net", "{:?}", w.deliveries().await);
    assert_eq!(w.deliveries().await[4..], ["correction accepted"]);
}

async fn taken_back(w: &World, by: &Answer) -> (i64, i64, bool) {
    let id: RecoveryId = by.recovery_id.as_deref().unwrap().parse().unwrap();
    let told = recover::progress(&mut w.store.read().await.unwrap(), id).await.unwrap().unwrap();
    (told.withdrawn, told.corrected, told.swept_at.is_some())
}

async fn a_covering_recovery_is_swept_a_page_at_a_time_and_counts_what_it_took_back(on: On) {
    let mut w = World::with(on, "2025-03-01T20:40:00Z", Script::default(), |s| s.page = 2).await;
    w.component("outlook", "Outlook").await;
    for n in 1..=5 {
        let key = format!("c{n}");
        w.subscriber(&key).await;
        w.connection(&key, "outlook", &key).await;
        w.broken(&key).await;
        assert_eq!(w.pass(2).await.len(), usize::from(n >= 3), "the first ones are asked by then");
    }
    let all = json!({"component": "outlook", "what": "recovered", "by": "automatic", "connections": "all",
        "since": "2025-03-01T20:40:00Z"});
    let recovery = w.signal(all).await;
    let mut seen = Vec::new();
    while sweep(&w.store, &w.shared.setting).await.unwrap() {
        seen.push(taken_back(&w, &recovery).await);
    }
    // A page begins with the last row of the one before it.
    assert_eq!(seen, [(0, 2, false), (0, 3, false), (1, 3, false), (2, 3, false), (2, 3, true)]);
    assert_eq!(w.pass(1).await.len(), 3);
}

async fn a_recovery_of_one_connection_counts_what_it_took_back(on: On) {
    let mut w = world(on).await;
    w.broken("ann-1").await;
    assert_eq!(w.pass(6).await.len(), 1);
    w.broken("bob-1").await;
    w.pass(1).await;
    let (told, spared) = (w.recovered("ann-1", "automatic").await, w.recovered("bob-1", "automatic").await);
    w.pass(1).await;
    assert_eq!(taken_back(&w, &told).await, (0, 1, true));
    assert_eq!(taken_back(&w, &spared).await, (1, 0, true));
}

async fn a_late_failure_is_stale_at_birth(on: On) {
    let mut w = world(on).await;
    w.pass(10).await;
    w.recovered("ann-1", "automatic").await;
    let answer = w
        .signal(json!({"connection": "ann-1", "what": "failed", "fault": "permanent", "observed_at": "2025-03-01T20:45:00Z"}))
        .await;
    assert_eq!(answer.outcome.as_str(), "stale_at_birth");
    assert!(w.pass(30).await.is_empty());
}

/// A queue between the source and us that mixes up the order: who failed last is broken.
async fn a_late_recovery_from_between_two_failures_ends_nothing(on: On) {
    for subject in ["connection", "component"] {
        let mut w = world(on).await;
        let key = if subject == "component" { "outlook" } else { "ann-1" };
        let mut answers = Vec::new();
        for (what, minute) in [("failed", 30), ("failed", 38), ("recovered", 35)] {
            let mut said = json!({subject: key, "what": what, "observed_at": format!("2025-03-01T20:{minute}:00Z")});
            if subject == "connection" && what == "failed" {
                said["fault"] = json!("permanent");
            }
            answers.push(w.signal(said).await.outcome.to_string());
        }
        assert_eq!(answers[1..], ["repeated", "stale_at_birth"], "{subject}");
        w.broken("ann-1").await;
        // The connection's customer is asked, and the component's is not: it is down.
        assert_eq!(w.pass(10).await.len(), usize::from(subject == "connection"));
        let end = json!({subject: key, "what": "recovered", "by": "automatic", "observed_at": "2025-03-01T20:41:00Z"});
        assert_eq!(w.signal(end).await.outcome.as_str(), "recovering", "{subject}");
        assert_eq!(w.pass(1).await.len(), usize::from(subject == "connection"));
    }
}

async fn breaking_again_before_the_correction_left_folds_it(on: On) {
    let mut w = world(on).await;
    w.broken("ann-1").await;
    assert_eq!(w.pass(6).await.len(), 1);
    w.recovered("ann-1", "automatic").await;
    w.move_to(w.now() + allclear::domain::time::Span(1)).await;
    let corrected = w.all().len();
    assert_eq!(corrected, 2, "the correction left at once");
    w.pass(1).await;
    w.broken("ann-1").await;
    let got = w.pass(10).await;
    assert_eq!(got.len(), 1);
    w.recovered("ann-1", "automatic").await;
    assert_eq!(w.pass(10).await.len(), 1);
}

/// Two connections in one mail that still waits; one recovers and breaks again: the mail must name that outage.
async fn breaking_again_while_its_mail_waits_for_another_is_asked(on: On) {
    let mut w = world(on).await;
    w.broken("ann-1").await;
    w.broken("ann-2").await;
    assert!(w.at("2025-03-01T20:41:00Z").await.is_empty());
    w.recovered("ann-1", "automatic").await;
    assert!(w.at("2025-03-01T20:42:00Z").await.is_empty());
    w.broken("ann-1").await;
    let got = w.at("2025-03-01T20:50:00Z").await;
    let asked: String = got.iter().map(crate::support::Got::text).collect();
    assert!(asked.contains("Inbox ann-1") && asked.contains("Inbox ann-2"), "{asked}");
}

async fn what_breaks_again_while_its_mail_waits_is_told_and_does_not_wait_with_it(on: On) {
    let mut w = world(on).await;
    w.down("outlook").await;
    w.pass(1).await;
    w.broken("ann-1").await;
    w.broken("ann-2").await;
    w.pass(10).await;
    w.up("outlook").await;
    w.pass(10).await;
    // Both wait to be reconnected. One is, and breaks by itself.
    w.recovered("ann-2", "automatic").await;
    w.pass(1).await;
    w.broken("ann-2").await;
    let got = w.pass(10).await;
    assert_eq!(got.len(), 1, "{:?}", w.deliveries().await);
    assert!(got[0].text().contains("Inbox ann-2") && !got[0].text().contains("Inbox ann-1"), "{}", got[0].raw);
    // Nothing is heard of the other until the longest hold is over.
    assert_eq!(w.pass(60 * 12).await.len(), 1);
}

async fn a_proven_own_fault_is_told_beside_a_mail_that_named_its_outage_before(on: On) {
    let later = |at, nth| (at == Phase::Rcpt && nth == 1).then(|| sink::Answer::reply(at, "451 4.7.1 later"));
    let script = Script::default().answering(move |at, _, nth| later(at, nth));
    let mut w = World::with(on, "2025-03-01T20:40:00Z", script, |setting| {
        let second = allclear::domain::time::Span::minutes(120);
        (setting.retry.first, setting.retry.cap) = (second, second);
    })
    .await;
    w.component("outlook", "Outlook").await;
    w.subscriber("ann").await;
    for key in ["ann-1", "ann-2"] {
        w.connection(key, "outlook", "ann").await;
        w.signal(json!({"connection": key, "what": "recovery_failed"})).await;
    }
    assert!(w.settle().await.is_empty(), "the relay wants it later");
    w.recovered("ann-1", "automatic").await;
    w.move_to(w.now() + allclear::domain::time::Span(1)).await;
    w.broken("ann-1").await;
    w.settle().await;
    w.signal(json!({"connection": "ann-1", "what": "recovery_failed"})).await;
    let got = w.pass(125).await;
    let named = |key: &str| got.iter().filter(|mail| mail.text().contains(&format!("Inbox {key}"))).count();
    assert_eq!((got.len(), named("ann-1"), named("ann-2")), (2, 1, 1), "{:?}", w.deliveries().await);
}

async fn a_correction_does_not_list_an_outage_that_its_mail_did_not_speak_of(on: On) {
    let mut w = world(on).await;
    w.broken("ann-1").await;
    w.broken("ann-2").await;
    assert_eq!(w.pass(6).await.len(), 1);
    w.recovered("ann-1", "automatic").await;
    assert_eq!(w.pass(1).await.len(), 1);
    // Nobody is asked about this one while the component is down: "that mail still applies" would be the first word of
    // it, and nothing would take that back.
    w.down("outlook").await;
    w.pass(1).await;
    w.broken("ann-1").await;
    w.pass(1).await;
    w.recovered("ann-2", "automatic").await;
    let got = w.pass(1).await;
    assert_eq!(got.len(), 1);
    assert!(!got[0].text().contains("Inbox ann-1"), "{}", got[0].raw);
}

/// Both are asked about in mails of their own, in one thread: "it works again" would be taken for both.
async fn a_correction_lists_what_another_mail_asked_about(on: On) {
    let mut w = world(on).await;
    for key in ["ann-1", "ann-2"] {
        w.broken(key).await;
        assert_eq!(w.pass(6).await.len(), 1);
    }
    w.recovered("ann-2", "automatic").await;
    let got = w.pass(1).await;
    let text = got[0].text();
    assert!(
        text.contains("No action needed for Inbox ann-2. One other connection to Outlook is not back yet."),
        "{text}"
    );
    assert!(text.contains("Not back yet: - Inbox ann-1"), "{text}");
}

async fn only_what_was_corrected_has_broken_again(on: On) {
    let mut w = world(on).await;
    let mut asked = Vec::new();
    for key in ["ann-1", "ann-2", "ann-2"] {
        w.broken(key).await;
        asked.push(w.pass(6).await[0].text());
        w.recovered(key, "automatic").await;
        assert_eq!(w.pass(1).await.len(), 1);
    }
    let again: Vec<_> = asked.iter().map(|text| text.contains("broke again after we wrote")).collect();
    assert_eq!(again, [false, false, true], "{asked:#?}");
}

async fn to_whom_it_was_not_corrected_nothing_has_broken_again(on: On) {
    let mut w = world(on).await;
    for (key, of) in [("ann-1", ["ann", "bob"]), ("bob-1", ["bob", "ann"])] {
        w.broken(key).await;
        assert_eq!(w.pass(6).await.len(), 1);
        w.recovered(key, "automatic").await;
        assert_eq!(w.pass(1).await.len(), 1);
        w.connection_of(key, "outlook", &of).await;
    }
    w.broken("ann-1").await;
    let got = w.pass(6).await;
    let mut again: Vec<_> = got.iter().map(|mail| (&*mail.to, mail.text().contains("broke again after we"))).collect();
    again.sort_unstable();
    assert_eq!(again, [("ann@example.net", true), ("bob@example.net", false)]);
}

async fn a_text_that_comes_after_the_failure_is_used_while_its_mail_waits(on: On) {
    let mut w = world(on).await;
    let text = |connections: &[&str]| {
        json!({"kind": "action_required", "connections": connections, "what_happened": "Its licence ended.",
            "what_to_do": "Buy one."})
    };
    w.broken("ann-1").await;
    assert_eq!(w.notice(text(&["ann-1"])).await.note, None);
    w.pass(1).await;
    w.broken("bob-1").await;
    w.broken("bob-2").await;
    w.pass(1).await;
    assert_eq!(w.notice(text(&["ann-1"])).await.note, None);
    // It waits to be asked about another connection, too.
    assert!(w.notice(text(&["bob-1"])).await.note.unwrap().starts_with("the text is not used"));
    let got = w.pass(10).await;
    let used: Vec<_> = got.iter().map(|mail| (mail.to.as_str(), mail.text().contains("Its licence ended."))).collect();
    assert_eq!(used, [("ann@example.net", true), ("bob@example.net", false)]);
    assert!(w.notice(text(&["ann-1"])).await.note.is_some(), "she was asked");
}

async fn a_text_that_comes_before_its_mail_has_left_is_what_it_says(on: On) {
    for put_off in [false, true] {
        let is_put_off = move |at, nth| put_off && at == Phase::Rcpt && nth == 1;
        let later = move |at, nth| is_put_off(at, nth).then(|| sink::Answer::reply(at, "451 4.7.1 later"));
        let script = Script::default().answering(move |at, _, nth| later(at, nth));
        let mut w = World::with(on, "2025-03-01T20:40:00Z", script, |_| {}).await;
        w.component("outlook", "Outlook").await;
        w.subscriber("ann").await;
        w.connection("ann-1", "outlook", "ann").await;
        w.broken("ann-1").await;
        assert!(w.pass(if put_off { 5 } else { 1 }).await.is_empty());
        assert_eq!(
            w.deliveries().await,
            [format!("action_required queued {}", if put_off { "retry" } else { "dwell" })]
        );
        for what in ["Its licence ended.", "Its licence was given back."] {
            let said = json!({"kind": "action_required", "connections": ["ann-1"], "what_happened": what,
                "what_to_do": "Buy one.", "link": "https://app.example/buy"});
            assert_eq!(w.notice(said).await.note, None);
        }
        let got = w.pass(6).await;
        assert_eq!(got.len(), 1);
        let text = got[0].text();
        assert!(text.contains("Its licence was given back.") && text.contains("https://app.example/buy"), "{text}");
        assert!(!text.contains("has stopped working") && !text.contains("Its licence ended."), "{text}");
    }
}

async fn a_text_about_several_is_answered_by_what_is_new_of_them(on: On) {
    let mut w = world(on).await;
    w.broken("bob-1").await;
    assert_eq!(w.pass(6).await.len(), 1);
    let said = json!({"kind": "action_required", "connections": ["bob-1", "bob-2"], "what_happened": "Its licence ended.",
        "what_to_do": "Buy one."});
    let answer = w.notice(said.clone()).await;
    assert_eq!((answer.outcome.as_str(), answer.note), ("waiting", None));
    let got = w.pass(6).await;
    assert_eq!(got.len(), 1);
    assert!(got[0].text().contains("Its licence ended."), "{}", got[0].text());
    let again = w.notice(said).await;
    assert_eq!((again.outcome.as_str(), again.note.is_some()), ("repeated", true));
    let kept = w.query("SELECT outcome FROM notice ORDER BY received_at").await;
    assert_eq!(kept.concat(), ["waiting", "repeated"].map(|outcome| Some(outcome.to_owned())));
}

async fn after_a_proven_own_fault_the_next_outage_has_its_time_to_heal(on: On) {
    let mut w = world(on).await;
    w.down("outlook").await;
    w.pass(1).await;
    w.broken("ann-1").await;
    w.pass(1).await;
    w.signal(json!({"connection": "ann-1", "what": "recovery_failed"})).await;
    assert_eq!(w.pass(4).await.len(), 1);
    w.recovered("ann-1", "customer").await;
    w.up("outlook").await;
    w.clock.set(w.now() + allclear::domain::time::Span::seconds(1));
    w.broken("ann-1").await;
    assert!(w.pass(4).await.is_empty(), "{:?}", w.deliveries().await);
    assert_eq!(w.pass(2).await.len(), 1);
}

/// What became of each line.
async fn lines(w: &World, input: impl AsyncRead + Unpin) -> Vec<String> {
    let mut heard = Vec::new();
    let settings = w.shared.setting.ingest();
    bulk::run(&w.store, &settings, &w.caller(), BufReader::new(input), |line| {
        heard.push(line.answer.map_or_else(|e| format!("{}: {}", e.field, e.what), |a| a.outcome.as_str().to_owned()));
        true
    })
    .await
    .unwrap();
    heard
}

const FAILED: &str = "{\"connection\":\"ann-1\",\"what\":\"failed\",\"fault\":\"permanent\"}\n";

async fn of_lines_without_times_the_later_is_newer(on: On) {
    let mut w = world(on).await;
    let recovered = FAILED.replace("failed\",\"fault\":\"permanent", "recovered\",\"by\":\"automatic");
    let said = format!("\u{feff}{FAILED}{recovered}{FAILED}{recovered}{FAILED}");
    assert_eq!(lines(&w, said.as_bytes()).await, ["waiting", "recovering", "waiting", "recovering", "waiting"]);
    w.pass(10).await;
    assert_eq!(w.all().len(), 1);
    assert!(w.all()[0].text().contains("Inbox ann-1"));
}

async fn a_failure_said_after_a_covering_recovery_is_none_of_what_it_covers(on: On) {
    let all = "{\"component\":\"outlook\",\"what\":\"recovered\",\"connections\":\"all\"}\n";
    for (said, outcomes, asked) in [
        (format!("{all}{FAILED}"), ["recovering", "waiting"], 1),
        (format!("{FAILED}{all}"), ["waiting", "recovering"], 0),
    ] {
        let mut w = world(on).await;
        w.down("outlook").await;
        w.pass(1).await;
        assert_eq!(lines(&w, said.as_bytes()).await, outcomes);
        assert_eq!(w.pass(10).await.len(), asked, "{said}");
    }
}

async fn what_is_said_now_and_then_is_taken_in_before_the_input_ends(on: On) {
    let w = world(on).await;
    let (mut source, input) = tokio::io::duplex(1_000);
    let said = async {
        // A part of the next line has come, too.
        source.write_all(format!("{FAILED}{{\"connection\":").as_bytes()).await.unwrap();
        while w.query("SELECT key FROM connection WHERE cleared < episode").await.is_empty() {
            tokio::task::yield_now().await;
        }
        source.write_all(b"\"bob-1\",\"what\":\"failed\",\"fault\":\"permanent\"}\n").await.unwrap();
        drop(source);
    };
    let (heard, ()) = tokio::join!(lines(&w, input), said);
    assert_eq!(heard, ["waiting", "waiting"]);
}

async fn a_line_that_no_database_could_keep_is_refused_alone(on: On) {
    let w = world(on).await;
    let nul = FAILED.replace("ann-1", "ann\\u0000");
    let array = "[\"ann-2\",null,\"failed\",\"permanent\",null,null,null,null,null,null]\n";
    let heard = lines(&w, format!("{nul}{array}{FAILED}").as_bytes()).await;
    let array = "body: is an array: a line holds one signal, as an object";
    assert_eq!(heard, ["connection: has a NUL character", array, "waiting"]);
    let notice = json!({"kind": "free", "subject": "x", "body": "y", "components": ["out\u{0}look"]});
    let refused = allclear::flow::reading::notice(notice.to_string().as_bytes()).unwrap_err().into_field();
    assert_eq!((refused.field.as_str(), refused.what.as_str()), ("components[0]", "has a NUL character"));
}
