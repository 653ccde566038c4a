//! Say it once: what is mailed of an incident's updates to whom, and by which rule.

use super::table::{assert_table, plain, until};
use crate::on_both;
use crate::support::{On, World};
use allclear::domain::time::Span;
use allclear::mail::sink::{Act, Answer, Phase, Script};
use serde_json::{Value, json};

on_both! {
    the_same_again_an_edit_and_a_late_one_mail_nobody;
    old_words_that_report_a_component_down_again_are_news;
    what_changes_nothing_is_folded_and_leaves_after_two_hours_of_silence;
    a_turn_for_the_worse_does_not_wait_for_the_least_distance;
    who_follows_several_components_gets_one_mail_with_all_that_is_wrong;
    an_update_that_names_nothing_concerns_all_named_so_far;
    an_incident_that_names_nothing_reaches_only_subscribers_of_everything;
    the_end_comes_once_and_then_only_a_relapse;
    an_update_after_resolved_reopens_nothing_unless_a_component_is_down;
    an_update_that_reopens_does_not_say_that_it_is_over;
    of_one_moment_another_component_is_no_edit;
    an_update_does_not_tell_what_the_next_one_names;
    an_update_s_id_with_another_phase_is_another_update;
    an_all_clear_tells_the_true_time_and_what_still_needs_its_reader;
    an_end_that_comes_late_ends_unless_something_newer_is_down;
    an_end_reaches_those_told_though_its_update_notifies_nobody;
    what_is_backdated_or_notifies_nobody_is_recorded;
    two_sources_say_the_same_once_and_the_second_is_told_when_it_outlives_the_first;
    a_cascade_is_told_under_its_cause_and_alone_when_it_outlives_it;
    preferences_choose_and_what_was_withheld_says_why;
    what_else_breaks_is_a_beginning_too;
    what_failed_to_leave_is_said_by_the_next;
    what_waited_a_day_is_parked_but_ends_are_sent;
    trouble_that_went_away_silently_is_not_told;
    trouble_that_went_away_unsaid_is_not_told;
    a_maintenance_is_told_from_its_announcement_to_its_end;
    no_all_clear_while_anything_else_they_follow_is_in_trouble;
    an_end_waits_while_another_incident_has_the_component_down;
    a_cascade_worse_than_its_cause_is_told;
    what_was_folded_under_a_mail_that_never_leaves_is_told;
    resolved_though_not_well_ends_at_once;
    an_end_that_perhaps_left_is_repeated_once;
    what_was_said_first_is_planned_first_whatever_a_nodes_clock_said;
}

async fn world(on: On, who: &[(&str, &[&str])]) -> World {
    let w = World::new(on, "2025-06-02T08:00:00Z").await;
    for (key, name) in [("a", "Alpha"), ("b", "Beta"), ("c", "Gamma")] {
        w.component(key, name).await;
    }
    for (subscriber, follows) in who {
        w.subscriber(subscriber).await;
        for component in *follows {
            match *component {
                "*" => w.subscribe_to_everything(subscriber).await,
                component => w.subscribe(subscriber, component).await,
            }
        }
    }
    w
}

fn said(phase: &str, components: &[(&str, &str)], more: Value) -> Value {
    let components: Vec<_> = components.iter().map(|(key, status)| json!({"key": key, "status": status})).collect();
    let mut said = json!({"kind": "incident", "incident": "inc-1", "title": "Something is wrong", "phase": phase,
        "body": format!("Now {phase}."), "components": components});
    said.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    said
}

fn reason(answer: &allclear::flow::ingest::Answer) -> String {
    format!("{} {}", answer.outcome, answer.reason.map_or("-", |r| r.as_str()))
}

/// Class, state, reason and rule of the deliveries, oldest first.
async fn rules(w: &World) -> Vec<String> {
    let rows = w
        .query("SELECT class || ' ' || state || ' ' || COALESCE(reason, '-') || ' ' || COALESCE(rule, '-') FROM delivery ORDER BY id")
        .await;
    rows.into_iter().map(|row| row[0].clone().unwrap()).collect()
}

async fn the_same_again_an_edit_and_a_late_one_mail_nobody(on: On) {
    let mut w = world(on, &[("ann", &["a"])]).await;
    let first = said("investigating", &[("a", "major_outage")], json!({"observed_at": "2025-06-02T08:00:00Z"}));
    assert_eq!(reason(&w.notice(first.clone()).await), "planned -");
    w.pass(10).await;
    assert_eq!(reason(&w.notice(first.clone()).await), "repeated said_before");
    // An edit: the same time and phase, other words.
    let mut edited = first.clone();
    edited["body"] = json!("Now investigating, and sorry.");
    assert_eq!(reason(&w.notice(edited).await), "repeated said_before");
    let named = |id: &str, body: &str| said("identified", &[], json!({"update": id, "body": body}));
    assert_eq!(reason(&w.notice(named("u-2", "Found.")).await), "planned -");
    w.pass(10).await;
    assert_eq!(reason(&w.notice(named("u-2", "Found it.")).await), "repeated said_before");
    let late = said("identified", &[], json!({"observed_at": "2025-06-02T08:05:00Z", "body": "We look."}));
    assert_eq!(reason(&w.notice(late).await), "stale_at_birth late");
    // The very words of the newest update, without id and time.
    let plain_words = said("monitoring", &[], json!({}));
    assert_eq!(reason(&w.notice(plain_words.clone()).await), "planned -");
    w.pass(10).await;
    assert_eq!(reason(&w.notice(plain_words).await), "repeated said_before");
    w.pass(300).await;
    assert_eq!(w.all().len(), 3);
    let repeats = w.query("SELECT COUNT(*) || '' FROM notice WHERE repeats_id IS NOT NULL").await;
    assert_eq!(repeats[0][0].as_deref(), Some("4"));
}

async fn old_words_that_report_a_component_down_again_are_news(on: On) {
    let mut w = world(on, &[("ann", &["a"])]).await;
    w.notice(said("investigating", &[("a", "major_outage")], json!({}))).await;
    w.pass(20).await;
    w.notice(said("monitoring", &[("a", "operational")], json!({}))).await;
    w.pass(20).await;
    let again = w.notice(said("investigating", &[("a", "major_outage")], json!({}))).await;
    assert_eq!(reason(&again), "planned -");
    w.pass(2).await;
    assert!(plain(w.all().last().unwrap()).contains("Alpha has a major outage"));
}

async fn what_changes_nothing_is_folded_and_leaves_after_two_hours_of_silence(on: On) {
    let mut w = world(on, &[("ann", &["a"])]).await;
    w.notice(said("investigating", &[("a", "degraded_performance")], json!({}))).await;
    w.pass(30).await;
    for minutes in [30, 30] {
        w.notice(said("investigating", &[], json!({"body": format!("Still at it, {minutes} on {}.", w.now())}))).await;
        w.pass(minutes).await;
    }
    assert_eq!(w.all().len(), 1);
    w.pass(31).await;
    assert_eq!(w.all().len(), 2, "two hours after the first");
    let text = plain(&w.all()[1]);
    assert!(text.contains("2025-06-02T08:59:00Z") || text.contains("2025-06-02T09:00:00Z"), "the newest text: {text}");
    assert!(!text.contains(" late."), "{text}");
    w.notice(said("investigating", &[], json!({"body": "Nothing yet."}))).await;
    w.pass(5).await;
    w.notice(said("identified", &[], json!({"body": "Found."}))).await;
    w.pass(10).await;
    assert_eq!(w.all().len(), 3);
    assert_eq!(
        rules(&w).await,
        [
            "incident_update accepted - first",
            "incident_update folded replaced_by_newer nothing_new",
            "incident_update accepted - nothing_new",
            "incident_update folded replaced_by_newer nothing_new",
            "incident_update accepted - phase_change",
        ]
    );
}

async fn a_turn_for_the_worse_does_not_wait_for_the_least_distance(on: On) {
    let mut w = world(on, &[("ann", &["a"])]).await;
    w.notice(said("investigating", &[("a", "degraded_performance")], json!({}))).await;
    w.pass(1).await;
    w.notice(said("identified", &[], json!({}))).await;
    w.pass(1).await;
    assert_eq!(w.all().len(), 1, "a change of phase keeps its distance");
    w.notice(said("identified", &[("a", "major_outage")], json!({}))).await;
    w.pass(1).await;
    assert_eq!(w.all().len(), 2);
    w.notice(said("monitoring", &[("a", "partial_outage")], json!({}))).await;
    w.pass(1).await;
    w.notice(said("resolved", &[], json!({}))).await;
    w.pass(1).await;
    assert_table(
        w.all(),
        "UTC",
        "
        Mon 2 Jun 08:01  ann  Investigating: Alpha has degraded performance.
        Mon 2 Jun 08:03  ann  Identified: Alpha has a major outage; the cause is known.
        Mon 2 Jun 08:05  ann  Resolved: Alpha works normally again.
        ",
    );
}

async fn who_follows_several_components_gets_one_mail_with_all_that_is_wrong(on: On) {
    let mut w = world(on, &[("ann", &["a", "b"]), ("bob", &["b"]), ("cy", &["c"])]).await;
    w.notice(said("investigating", &[("a", "major_outage")], json!({}))).await;
    w.pass(10).await;
    w.notice(said("investigating", &[("b", "degraded_performance")], json!({}))).await;
    w.pass(10).await;
    assert_table(
        w.all(),
        "UTC",
        "
        Mon 2 Jun 08:01  ann  Investigating: Alpha has a major outage.
        Mon 2 Jun 08:11  ann  Investigating: Alpha has a major outage; Beta has degraded performance.
        Mon 2 Jun 08:11  bob  Investigating: Beta has degraded performance.
        ",
    );
}

async fn an_update_that_names_nothing_concerns_all_named_so_far(on: On) {
    let mut w = world(on, &[("ann", &["a"])]).await;
    w.notice(said("investigating", &[("a", "major_outage"), ("b", "major_outage")], json!({}))).await;
    w.pass(10).await;
    w.subscriber("bob").await;
    w.subscribe("bob", "b").await;
    w.notice(said("identified", &[], json!({}))).await;
    w.pass(10).await;
    let mut to: Vec<_> = w.all().iter().map(|m| m.to.clone()).collect();
    to.sort();
    assert_eq!(to, ["ann@example.net", "ann@example.net", "bob@example.net"]);
}

async fn an_incident_that_names_nothing_reaches_only_subscribers_of_everything(on: On) {
    let mut w = world(on, &[("all", &["*"]), ("ann", &["a"])]).await;
    for phase in ["investigating", "identified", "resolved"] {
        w.notice(said(phase, &[], json!({}))).await;
        w.pass(10).await;
    }
    assert_eq!(w.all().len(), 3);
    assert!(w.all().iter().all(|m| m.to == "all@example.net"));
}

async fn the_end_comes_once_and_then_only_a_relapse(on: On) {
    let mut w = world(on, &[("ann", &["a"]), ("all", &["*"])]).await;
    let trouble = [("a", "degraded_performance"), ("b", "major_outage")];
    w.notice(said("investigating", &trouble, json!({}))).await;
    w.pass(20).await;
    w.notice(said("identified", &[("a", "operational")], json!({}))).await;
    w.pass(20).await;
    // Alpha is well, which is all of Ann's: the change of phase is not hers any more.
    w.notice(said("monitoring", &[], json!({}))).await;
    w.pass(20).await;
    w.notice(said("monitoring", &[("a", "partial_outage")], json!({"body": "Again."}))).await;
    w.pass(20).await;
    w.notice(said("resolved", &[], json!({}))).await;
    w.pass(20).await;
    w.notice(said("resolved", &[], json!({"body": "Truly."}))).await;
    w.pass(20).await;
    let ann: Vec<_> = w.all().iter().filter(|m| m.to.starts_with("ann")).cloned().collect();
    assert_table(
        &ann,
        "UTC",
        "
        Mon 2 Jun 08:01  ann  Investigating: Alpha has degraded performance.
        Mon 2 Jun 08:21  ann  Identified: Alpha works normally; the cause is known.
        Mon 2 Jun 08:30  ann  All clear: Alpha works normally again.
        Mon 2 Jun 09:01  ann  Monitoring: Alpha has a partial outage; a fix is in place and we are watching it.
        Mon 2 Jun 09:21  ann  Resolved: Alpha works normally again.
        ",
    );
    let threads = w.query("SELECT COUNT(*) || '' FROM thread").await;
    assert_eq!(threads[0][0].as_deref(), Some("2"), "a relapse goes on in the same thread");
    let withheld = rules(&w).await;
    assert!(withheld.iter().any(|r| r == "incident_update withdrawn ended_already nothing_new"), "{withheld:#?}");
    assert!(withheld.iter().any(|r| r == "incident_update accepted - relapse"), "{withheld:#?}");
}

async fn an_update_after_resolved_reopens_nothing_unless_a_component_is_down(on: On) {
    let mut w = world(on, &[("ann", &["a"])]).await;
    w.notice(said("investigating", &[("a", "major_outage")], json!({}))).await;
    w.pass(10).await;
    w.notice(said("resolved", &[], json!({}))).await;
    w.pass(10).await;
    w.notice(said("update", &[("a", "degraded_performance")], json!({"body": "A summary."}))).await;
    w.pass(10).await;
    assert_eq!(w.all().len(), 2);
    w.notice(said("investigating", &[("a", "major_outage")], json!({"body": "It is back."}))).await;
    w.pass(10).await;
    assert_eq!(w.all().len(), 3);
    w.notice(said("resolved", &[], json!({"body": "Over."}))).await;
    w.pass(10).await;
    assert!(plain(w.all().last().unwrap()).starts_with("Resolved"));
    assert_eq!(w.all().len(), 4);
}

async fn an_update_that_reopens_does_not_say_that_it_is_over(on: On) {
    let mut w = world(on, &[("ann", &["a"])]).await;
    w.notice(said("investigating", &[("a", "major_outage")], json!({}))).await;
    w.pass(10).await;
    w.notice(said("resolved", &[], json!({}))).await;
    w.pass(10).await;
    w.notice(said("update", &[("a", "major_outage")], json!({"body": "It is back."}))).await;
    w.pass(10).await;
    let last = plain(w.all().last().unwrap());
    assert!(last.starts_with("Investigating: Alpha has a major outage."), "{last}");
}

async fn of_one_moment_another_component_is_no_edit(on: On) {
    let mut w = world(on, &[("ann", &["a"]), ("bob", &["b"])]).await;
    for component in ["a", "b"] {
        let of = json!({"observed_at": "2025-06-02T08:00:00Z", "body": format!("It is {component}.")});
        let answer = w.notice(said("investigating", &[(component, "major_outage")], of)).await;
        assert_eq!(reason(&answer), "planned -", "{component}");
        w.pass(2).await;
    }
    let to: Vec<_> = w.all().iter().map(|m| m.to.as_str()).collect();
    assert_eq!(to, ["ann@example.net", "bob@example.net"]);
}

/// Both came in before the first was planned.
async fn an_update_does_not_tell_what_the_next_one_names(on: On) {
    let mut w = world(on, &[("ann", &["a"]), ("bob", &["b"])]).await;
    w.notice(said("investigating", &[("a", "major_outage")], json!({"body": "It is Alpha."}))).await;
    w.notice(said("identified", &[("b", "major_outage")], json!({"body": "And Beta."}))).await;
    w.pass(20).await;
    let planned = "SELECT DISTINCT s.key || ' ' || CAST(n.revision AS TEXT) AS said FROM delivery d
        JOIN subscriber s ON s.id = d.subscriber_id JOIN notice n ON n.id = d.notice_id WHERE n.revision = 1 ORDER BY said";
    assert_eq!(w.query(planned).await, [[Some("ann 1".to_owned())]]);
    let bob: Vec<_> = w.all().iter().filter(|m| m.to.starts_with("bob")).map(|m| m.text()).collect();
    assert!(bob.len() == 1 && bob[0].contains("And Beta."), "{bob:#?}");
}

async fn an_update_s_id_with_another_phase_is_another_update(on: On) {
    let mut w = world(on, &[("ann", &["a"])]).await;
    w.notice(said("investigating", &[("a", "major_outage")], json!({"update": "inc-1"}))).await;
    w.pass(20).await;
    assert_eq!(reason(&w.notice(said("resolved", &[], json!({"update": "inc-1"}))).await), "planned -");
    w.pass(20).await;
    assert!(plain(w.all().last().unwrap()).starts_with("Resolved: Alpha works normally again."));
}

async fn an_all_clear_tells_the_true_time_and_what_still_needs_its_reader(on: On) {
    let mut w = world(on, &[("ann", &["a"]), ("bob", &["a"])]).await;
    w.connection("box", "a", "ann").await;
    w.broken("box").await;
    w.pass(10).await;
    w.notice(said("investigating", &[("a", "major_outage")], json!({}))).await;
    w.pass(60).await;
    let late = json!({"component": "a", "what": "recovered", "observed_at": "2025-06-02T08:40:00Z"});
    w.signal(late).await;
    let got = w.pass(40).await;
    for mail in &got {
        let text = mail.text();
        assert!(
            text.contains("All clear: Alpha works normally again.") && text.contains("Lasted: 30 minutes"),
            "{text}"
        );
        let is_asked = mail.to.starts_with("ann");
        assert_eq!(text.contains("still needs you: - Inbox box"), is_asked, "{text}");
        assert_eq!(text.contains("You do not need to do anything."), !is_asked, "{text}");
    }
    assert_eq!(got.len(), 2);
}

async fn an_end_that_comes_late_ends_unless_something_newer_is_down(on: On) {
    for (status, mails) in [("degraded_performance", 2), ("major_outage", 1)] {
        let mut w = world(on, &[("ann", &["a"])]).await;
        w.notice(said("investigating", &[("a", status)], json!({"observed_at": "2025-06-02T08:00:00Z"}))).await;
        w.pass(10).await;
        let newer = json!({"observed_at": "2025-06-02T08:09:00Z", "body": "Looking on."});
        w.notice(said("update", &[("a", status)], newer)).await;
        w.notice(said("resolved", &[], json!({"observed_at": "2025-06-02T08:05:00Z"}))).await;
        w.pass(10).await;
        assert_eq!(w.all().len(), mails, "{status}");
    }
}

async fn an_end_reaches_those_told_though_its_update_notifies_nobody(on: On) {
    let mut w = world(on, &[("ann", &["a"])]).await;
    w.notice(said("investigating", &[("a", "major_outage")], json!({}))).await;
    w.pass(10).await;
    w.subscriber("bob").await;
    w.subscribe("bob", "a").await;
    w.notice(said("resolved", &[], json!({"deliver": false}))).await;
    w.pass(10).await;
    let to: Vec<_> = w.all().iter().map(|m| m.to.clone()).collect();
    assert_eq!(to, ["ann@example.net", "ann@example.net"]);
}

async fn what_is_backdated_or_notifies_nobody_is_recorded(on: On) {
    let mut w = world(on, &[("ann", &["a"])]).await;
    let silent = said("investigating", &[("a", "major_outage")], json!({"deliver": false}));
    assert_eq!(reason(&w.notice(silent).await), "recorded notifications_off");
    let old = json!({"incident": "inc-0", "observed_at": "2025-05-30T08:00:00Z"});
    let old = w.notice(said("investigating", &[("a", "major_outage")], old)).await;
    assert_eq!(reason(&old), "recorded backdated");
    let over = w.notice(said("resolved", &[], json!({"incident": "inc-9"}))).await;
    assert_eq!(reason(&over), "recorded first_heard_over");
    w.pass(200).await;
    assert!(w.all().is_empty());
}

async fn two_sources_say_the_same_once_and_the_second_is_told_when_it_outlives_the_first(on: On) {
    let mut w = world(on, &[("ann", &["a"]), ("bob", &["a"])]).await;
    w.notice(said("investigating", &[("a", "major_outage")], json!({}))).await;
    w.pass(5).await;
    let other = |phase: &str, status: &str| {
        said(phase, &[("a", status)], json!({"incident": "alert-7", "title": "Alpha alert", "body": "Probe."}))
    };
    w.notice(other("investigating", "major_outage")).await;
    w.pass(20).await;
    assert_eq!(w.all().len(), 2, "one mail each");
    let folded = w
        .query("SELECT d.reason || ' ' || n.phase FROM delivery d JOIN delivery f ON f.id = d.folded_into JOIN notice n ON n.id = f.notice_id")
        .await;
    assert_eq!(folded, vec![vec![Some("told_elsewhere investigating".to_owned())]; 2]);
    w.notice(said("resolved", &[], json!({}))).await;
    w.pass(5).await;
    assert_eq!(w.all().len(), 2, "the probe still sees it: nobody is told that it works");
    w.pass(10).await;
    // Said alone, after the time a recovery needs to be believed.
    assert_eq!(w.all().len(), 4);
    assert!(w.all()[2..].iter().all(|m| m.subject.contains("Alpha alert")));
    w.notice(other("resolved", "operational")).await;
    w.pass(10).await;
    assert_eq!(w.all().len(), 8);
    assert!(w.all()[4..].iter().all(|m| plain(m).starts_with("Resolved")));
}

async fn a_cascade_is_told_under_its_cause_and_alone_when_it_outlives_it(on: On) {
    use allclear::store::setup;
    let mut w = world(on, &[("both", &["a", "b"]), ("ben", &["b"])]).await;
    let mut tx = w.store.begin().await.unwrap();
    let cause = setup::component_id(&mut tx, "a").await.unwrap().unwrap();
    let row = setup::ComponentRow { key: "b".into(), name: "Beta".into(), group: None, depends_on: vec![cause] };
    setup::put_component(&mut tx, &row).await.unwrap();
    tx.commit().await.unwrap();
    w.notice(said("investigating", &[("a", "major_outage")], json!({}))).await;
    w.pass(10).await;
    let cascade = |phase: &str, status: &str| {
        said(phase, &[("b", status)], json!({"incident": "inc-b", "title": "Beta is slow"}))
    };
    w.notice(cascade("investigating", "degraded_performance")).await;
    w.pass(10).await;
    let to: Vec<_> = w.all().iter().map(|m| m.to.clone()).collect();
    assert_eq!(to, ["both@example.net", "ben@example.net"], "who knows the cause is not told of what follows from it");
    w.notice(said("resolved", &[], json!({}))).await;
    w.pass(5).await;
    assert_eq!(w.all().len(), 3);
    w.pass(10).await;
    assert_eq!(w.all().len(), 4);
    assert!(w.all()[3].to.starts_with("both") && w.all()[3].subject.contains("Beta is slow"));
    w.notice(cascade("resolved", "operational")).await;
    w.pass(10).await;
    assert_eq!(w.all().len(), 6);
    // A cascade that ends with its cause is never mailed.
    let again = json!({"incident": "inc-2", "title": "Alpha again"});
    w.notice(said("investigating", &[("a", "major_outage")], again.clone())).await;
    w.notice(said("investigating", &[("b", "major_outage")], json!({"incident": "inc-b2"}))).await;
    w.pass(10).await;
    w.notice(said("resolved", &[("a", "operational")], again)).await;
    w.notice(said("resolved", &[("b", "operational")], json!({"incident": "inc-b2"}))).await;
    w.pass(60).await;
    let both = w.all()[6..].iter().filter(|m| m.to.starts_with("both")).count();
    assert_eq!(both, 2, "the cause and its end");
}

async fn preferences_choose_and_what_was_withheld_says_why(on: On) {
    let mut w = world(on, &[("brief", &["a"]), ("calm", &["a"]), ("none", &["a"])]).await;
    w.prefer("brief", "begin_and_end", "none").await;
    w.prefer("calm", "all", "major").await;
    w.prefer("none", "none", "none").await;
    w.notice(said("investigating", &[("a", "degraded_performance")], json!({"impact": "minor"}))).await;
    w.pass(10).await;
    w.notice(said("identified", &[], json!({}))).await;
    w.pass(10).await;
    w.notice(said("identified", &[("a", "major_outage")], json!({"impact": "major"}))).await;
    w.pass(10).await;
    w.notice(said("resolved", &[], json!({}))).await;
    w.pass(10).await;
    assert_table(
        w.all(),
        "UTC",
        "
        Mon 2 Jun 08:01  brief  Investigating: Alpha has degraded performance.
        Mon 2 Jun 08:21  calm   Identified: Alpha has a major outage; the cause is known.
        Mon 2 Jun 08:31  brief  Resolved: Alpha works normally again.
        Mon 2 Jun 08:31  calm   Resolved: Alpha works normally again.
        ",
    );
    let why: Vec<_> = rules(&w).await.into_iter().filter(|r| r.contains("suppressed")).collect();
    assert_eq!(why.iter().filter(|r| r.contains("begin_and_end_only")).count(), 2, "{why:#?}");
    assert_eq!(why.iter().filter(|r| r.contains("below_least_impact")).count(), 2, "{why:#?}");
}

async fn what_else_breaks_is_a_beginning_too(on: On) {
    let mut w = world(on, &[("brief", &["a", "b"])]).await;
    w.prefer("brief", "begin_and_end", "none").await;
    for (phase, status) in [
        ("investigating", ("a", "degraded_performance")),
        ("identified", ("a", "major_outage")),
        ("identified", ("b", "major_outage")),
        ("monitoring", ("a", "operational")),
        ("resolved", ("b", "operational")),
    ] {
        w.notice(said(phase, &[status], json!({"body": format!("{} is {}.", status.0, status.1)}))).await;
        w.pass(10).await;
    }
    assert_table(
        w.all(),
        "UTC",
        "
        Mon 2 Jun 08:01  brief  Investigating: Alpha has degraded performance.
        Mon 2 Jun 08:21  brief  Identified: Alpha and Beta have a major outage; the cause is known.
        Mon 2 Jun 08:41  brief  Resolved: Alpha and Beta work normally again.
        ",
    );
}

async fn what_failed_to_leave_is_said_by_the_next(on: On) {
    let mut w = world(on, &[("ann", &["a"])]).await;
    w.sink.set_down(true);
    w.notice(said("investigating", &[("a", "major_outage")], json!({}))).await;
    w.pass(5).await;
    w.notice(said("investigating", &[], json!({"body": "Still."}))).await;
    w.sink.set_down(false);
    w.pass(30).await;
    assert_eq!(w.all().len(), 1);
    assert!(plain(&w.all()[0]).contains("Still."));
}

async fn what_waited_a_day_is_parked_but_ends_are_sent(on: On) {
    let mut w = world(on, &[("ann", &["a"]), ("bob", &["b"])]).await;
    w.notice(said("investigating", &[("a", "major_outage")], json!({}))).await;
    w.pass(10).await;
    w.sink.set_down(true);
    w.notice(said("investigating", &[("b", "major_outage")], json!({"incident": "inc-2"}))).await;
    w.notice(said("resolved", &[], json!({}))).await;
    w.pass(10).await;
    // Two days of darkness, of a crash or of a backup put back.
    w.sink.set_down(false);
    w.restart();
    w.at("2025-06-04T09:00:00Z").await;
    w.pass(5).await;
    let rules = rules(&w).await;
    assert!(rules.contains(&"incident_update parked too_old first".to_owned()), "{rules:#?}");
    assert!(rules.contains(&"incident_end accepted - end".to_owned()), "{rules:#?}");
    assert_eq!(w.all().len(), 2);
    assert!(plain(&w.all()[1]).contains(" late."), "{}", plain(&w.all()[1]));
}

async fn trouble_that_went_away_silently_is_not_told(on: On) {
    let mut w = world(on, &[("ann", &["a"])]).await;
    w.sink.set_down(true);
    w.notice(said("investigating", &[("a", "major_outage")], json!({}))).await;
    w.pass(5).await;
    w.up("a").await;
    w.sink.set_down(false);
    w.pass(30).await;
    w.notice(said("resolved", &[], json!({}))).await;
    w.pass(30).await;
    assert!(w.all().is_empty());
    assert_eq!(rules(&w).await, ["incident_update withdrawn recovered first"]);
}

/// What waited for the relay, and what was folded under another incident of the same.
async fn trouble_that_went_away_unsaid_is_not_told(on: On) {
    let mut w = world(on, &[("ann", &["a"]), ("bob", &["b"])]).await;
    w.notice(said("investigating", &[("b", "major_outage")], json!({"incident": "inc-2"}))).await;
    w.pass(5).await;
    w.notice(said("investigating", &[("b", "major_outage")], json!({}))).await;
    w.sink.set_down(true);
    w.notice(said("investigating", &[("a", "major_outage")], json!({}))).await;
    w.pass(5).await;
    w.notice(said("monitoring", &[("a", "operational"), ("b", "operational")], json!({}))).await;
    w.pass(1).await;
    w.sink.set_down(false);
    w.pass(20).await;
    w.notice(said("resolved", &[], json!({}))).await;
    w.pass(20).await;
    assert_table(w.all(), "UTC", "Mon 2 Jun 08:01  bob  Investigating: Beta has a major outage.");
    let withheld = rules(&w).await.into_iter().filter(|r| r == "incident_update withdrawn recovered first").count();
    assert_eq!(withheld, 3, "{:#?}", rules(&w).await);
}

async fn a_maintenance_is_told_from_its_announcement_to_its_end(on: On) {
    let mut w = world(on, &[("ann", &["a"])]).await;
    let named = |phase: &str| {
        json!({"kind": "incident", "incident": "m-1", "title": "New disks", "phase": phase, "impact": "maintenance",
            "body": format!("Now {phase}."), "components": [{"key": "a"}]})
    };
    w.notice(named("scheduled")).await;
    w.pass(30).await;
    // Something else comes and goes: no end of the maintenance.
    w.down("a").await;
    w.pass(5).await;
    w.up("a").await;
    w.pass(60).await;
    w.notice(named("in_progress")).await;
    w.pass(30).await;
    w.notice(named("completed")).await;
    w.pass(30).await;
    until(&mut w, "2025-06-02T12:00:00Z").await;
    let leads: Vec<_> = w.all().iter().map(|m| plain(m).split(':').next().unwrap().to_owned()).collect();
    assert_eq!(leads, ["Scheduled maintenance", "Maintenance in progress", "Maintenance completed"]);
}

async fn no_all_clear_while_anything_else_they_follow_is_in_trouble(on: On) {
    for (silent, brief) in [(false, false), (true, false), (false, true)] {
        let mut w = world(on, &[("ann", &["a", "b"])]).await;
        if brief {
            w.prefer("ann", "begin_and_end", "none").await;
        }
        w.notice(said("investigating", &[("a", "major_outage")], json!({}))).await;
        w.pass(20).await;
        let turned = [("a", "operational"), ("b", "major_outage")];
        w.notice(said("identified", &turned, json!({"deliver": !silent}))).await;
        w.pass(60).await;
        assert!(w.all().iter().all(|m| !plain(m).contains("All clear")), "silent {silent}, brief {brief}");
        w.notice(said("resolved", &[], json!({}))).await;
        w.pass(10).await;
        assert!(plain(w.all().last().unwrap()).starts_with("Resolved"), "silent {silent}, brief {brief}");
    }
    // What breaks while the all-clear waits to be believed.
    let mut w = world(on, &[("ann", &["a", "b"])]).await;
    w.notice(said("investigating", &[("a", "major_outage")], json!({}))).await;
    w.pass(20).await;
    w.notice(said("investigating", &[("a", "operational")], json!({"body": "Back."}))).await;
    w.pass(5).await;
    w.notice(said("investigating", &[("b", "major_outage")], json!({"body": "Now the other."}))).await;
    w.pass(30).await;
    assert!(w.all().iter().all(|m| !plain(m).contains("All clear")));
    w.notice(said("monitoring", &[("b", "operational")], json!({}))).await;
    w.pass(20).await;
    assert!(
        plain(w.all().last().unwrap()).starts_with("All clear: Alpha and Beta"),
        "{}",
        plain(w.all().last().unwrap())
    );
}

async fn an_end_waits_while_another_incident_has_the_component_down(on: On) {
    let mut w = world(on, &[("ann", &["a"])]).await;
    w.notice(said("investigating", &[("a", "major_outage")], json!({}))).await;
    w.pass(40).await;
    let other = json!({"incident": "inc-2", "title": "Another cause"});
    w.notice(said("investigating", &[("a", "major_outage")], other.clone())).await;
    w.pass(10).await;
    assert_eq!(w.all().len(), 2);
    w.notice(said("resolved", &[("a", "operational")], json!({}))).await;
    w.pass(60).await;
    assert_eq!(w.all().len(), 2, "Alpha does not work again");
    let down = w.query("SELECT COUNT(*) || '' FROM component WHERE down_since IS NOT NULL").await;
    assert_eq!(down[0][0].as_deref(), Some("1"));
    w.notice(said("resolved", &[("a", "operational")], other)).await;
    w.pass(10).await;
    assert_eq!(w.all().len(), 4);
    assert!(w.all()[2..].iter().all(|m| plain(m).starts_with("Resolved: Alpha works normally again")));
}

async fn a_cascade_worse_than_its_cause_is_told(on: On) {
    use allclear::store::setup;
    let mut w = world(on, &[("ann", &["a", "b"])]).await;
    let mut tx = w.store.begin().await.unwrap();
    let cause = setup::component_id(&mut tx, "a").await.unwrap().unwrap();
    let row = setup::ComponentRow { key: "b".into(), name: "Beta".into(), group: None, depends_on: vec![cause] };
    setup::put_component(&mut tx, &row).await.unwrap();
    tx.commit().await.unwrap();
    w.notice(said("investigating", &[("a", "partial_outage")], json!({}))).await;
    w.pass(10).await;
    let beta = |status: &str| said("investigating", &[("b", status)], json!({"incident": "inc-b", "body": status}));
    w.notice(beta("degraded_performance")).await;
    w.pass(10).await;
    assert_eq!(w.all().len(), 1);
    w.notice(beta("major_outage")).await;
    w.pass(10).await;
    assert_eq!(w.all().len(), 2);
    assert!(plain(&w.all()[1]).contains("Beta has a major outage"));
}

async fn what_was_folded_under_a_mail_that_never_leaves_is_told(on: On) {
    let mut w = world(on, &[("ann", &["a", "b"])]).await;
    w.sink.set_down(true);
    let both = [("a", "major_outage"), ("b", "operational")];
    w.notice(said("investigating", &both, json!({}))).await;
    w.notice(said("investigating", &[("a", "major_outage")], json!({"incident": "inc-2"}))).await;
    w.pass(5).await;
    // The first says silently that it is over, so its mail is never sent; the second does not.
    w.notice(said("monitoring", &[("a", "operational")], json!({"deliver": false}))).await;
    w.sink.set_down(false);
    w.pass(60).await;
    assert_eq!(w.all().len(), 1);
    assert!(plain(&w.all()[0]).contains("Alpha has a major outage"), "{}", plain(&w.all()[0]));
}

async fn resolved_though_not_well_ends_at_once(on: On) {
    let mut w = world(on, &[("ann", &["a"])]).await;
    w.notice(said("investigating", &[("a", "major_outage")], json!({}))).await;
    w.pass(10).await;
    w.notice(said("resolved", &[("a", "partial_outage")], json!({}))).await;
    w.pass(10).await;
    assert_eq!(w.all().len(), 2);
    assert!(
        plain(&w.all()[1]).contains("the incident is over, but Alpha has a partial outage"),
        "{}",
        plain(&w.all()[1])
    );
}

async fn an_end_that_perhaps_left_is_repeated_once(on: On) {
    let dots = std::sync::atomic::AtomicUsize::new(0);
    // The relay takes the second mail and dies before it can say so.
    let script = Script::default().answering(move |at, _, _| {
        let second = at == Phase::Dot && dots.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 1;
        second.then(|| Answer { act: Act::TakeAndClose, ..Answer::reply(at, "250 2.0.0 Ok") })
    });
    let mut w = World::with(on, "2025-06-02T08:00:00Z", script, |_| {}).await;
    w.component("a", "Alpha").await;
    w.subscriber("ann").await;
    w.subscribe("ann", "a").await;
    w.notice(said("investigating", &[("a", "major_outage")], json!({}))).await;
    w.pass(10).await;
    w.notice(said("resolved", &[], json!({}))).await;
    w.pass(5).await;
    assert_eq!(rules(&w).await[1], "incident_end unknown ambiguous end");
    w.pass(30).await;
    assert_eq!(rules(&w).await[1], "incident_end accepted - end");
    let ids: Vec<_> = w.all().iter().map(|m| m.header("Message-ID")).collect();
    assert_eq!(ids.len(), 3);
    assert_eq!(ids[1], ids[2], "the same mail");
}

/// Ids carry the time of the node that made them, and nodes' clocks differ.
async fn what_was_said_first_is_planned_first_whatever_a_nodes_clock_said(on: On) {
    let mut w = world(on, &[("ann", &["a"])]).await;
    w.notice(said("investigating", &[("a", "major_outage")], json!({}))).await;
    w.clock.set(w.now() + Span::seconds(1));
    w.notice(said("identified", &[("a", "major_outage")], json!({}))).await;
    let slow = "UPDATE plan SET id = (SELECT id FROM component WHERE key = 'a')
        WHERE created_at = (SELECT MAX(created_at) FROM plan)";
    w.execute(slow).await;
    until(&mut w, "2025-06-02T08:05:00Z").await;
    let phases: Vec<_> = w.all().iter().map(|mail| mail.header("X-Allclear-Phase").unwrap()).collect();
    println!("{phases:?} {:?}", w.deliveries().await);
    assert_eq!(phases, ["identified"]);
}
