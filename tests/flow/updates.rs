//! What updates of incidents mean for components and times, also where they name little or come in an odd order.

use super::table::plain;
use crate::on_both;
use crate::support::{On, World};
use allclear::domain::time::{Span, Timestamp};
use serde_json::{Value, json};

on_both! {
    the_end_of_a_relapse_in_the_words_of_the_first_end_counts;
    whoever_reports_an_outage_last_ends_it;
    an_end_that_is_not_well_leaves_the_outage_to_whoever_still_reports_it;
    what_is_announced_keeps_nothing_down;
    trouble_with_what_had_come_back_is_trouble_though_no_state_is_named;
    what_is_to_come_and_what_is_long_over_ends_no_outage;
    a_summary_after_the_end_does_not_move_it;
    what_came_late_tells_since_when;
    a_maintenance_under_way_concerns_all_that_was_announced;
    what_a_maintenance_is_done_with_stays_so_when_a_text_names_nothing;
    nobody_hears_of_trouble_in_an_incident_that_is_none_of_his;
    an_all_clear_waits_for_the_end_of_trouble_elsewhere;
    an_all_clear_names_all_that_its_thread_told_of;
    what_is_announced_is_no_outage_yet;
    what_is_said_without_a_time_is_never_late;
    an_update_tells_its_own_phase_whatever_was_said_before_it_was_planned;
    what_has_not_left_has_the_words_and_times_of_an_edit;
    an_edit_of_the_newest_update_corrects_the_title;
    an_edit_that_says_otherwise_of_a_component_is_an_update;
}

async fn world(on: On) -> World {
    let w = World::new(on, "2025-06-02T08:00:00Z").await;
    for (key, name) in [("a", "Alpha"), ("b", "Beta")] {
        w.component(key, name).await;
    }
    w.subscriber("ann").await;
    w.subscribe_to_everything("ann").await;
    w
}

/// An update without a time of its own; components as `key` or `key=status`.
fn said(incident: &str, phase: &str, components: &[&str]) -> Value {
    let component = |named: &&str| match named.split_once('=') {
        Some((key, status)) => json!({"key": key, "status": status}),
        None => json!({"key": named}),
    };
    let components: Vec<_> = components.iter().map(component).collect();
    json!({"incident": incident, "kind": "incident", "title": "Trouble", "phase": phase, "components": components,
        "body": format!("Now {phase} of {incident}.")})
}

fn with(mut said: Value, more: Value) -> Value {
    said.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    said
}

async fn down(w: &World) -> Vec<String> {
    let rows = w.query("SELECT key FROM component WHERE down_since IS NOT NULL ORDER BY key").await;
    rows.into_iter().map(|row| row[0].clone().unwrap()).collect()
}

/// Up to the colon, of each mail.
fn leads(w: &World) -> Vec<String> {
    w.all().iter().map(|mail| plain(mail).split(':').next().unwrap().to_owned()).collect()
}

async fn the_end_of_a_relapse_in_the_words_of_the_first_end_counts(on: On) {
    let mut w = world(on).await;
    for _ in 0..2 {
        w.notice(said("i", "investigating", &["a=major_outage"])).await;
        w.pass(5).await;
        let end = w.notice(said("i", "resolved", &["a=operational"])).await;
        assert_eq!(end.outcome.as_str(), "planned");
        w.pass(5).await;
        assert_eq!(w.notice(said("i", "resolved", &["a=operational"])).await.outcome.as_str(), "repeated");
    }
    assert_eq!(down(&w).await, [""; 0]);
    assert_eq!(leads(&w), ["Investigating", "Resolved", "Investigating", "Resolved"]);
}

async fn whoever_reports_an_outage_last_ends_it(on: On) {
    let mut w = world(on).await;
    w.connection("c", "a", "ann").await;
    for incident in ["first", "second"] {
        w.notice(said(incident, "investigating", &["a=major_outage"])).await;
        w.pass(40).await;
    }
    w.notice(said("first", "resolved", &[])).await;
    w.pass(10).await;
    assert_eq!(down(&w).await, ["a"]);
    w.notice(said("second", "resolved", &[])).await;
    w.pass(30).await;
    assert_eq!(down(&w).await, [""; 0]);
    let ends = leads(&w).into_iter().filter(|lead| lead == "Resolved").count();
    assert_eq!(ends, 2);
    w.broken("c").await;
    w.pass(10).await;
    assert!(plain(w.all().last().unwrap()).contains("Inbox c"), "who is truly broken is asked");
}

async fn an_end_that_is_not_well_leaves_the_outage_to_whoever_still_reports_it(on: On) {
    for left in ["a=partial_outage", "a=degraded_performance"] {
        let mut w = world(on).await;
        for incident in ["first", "second"] {
            w.notice(said(incident, "investigating", &["a=major_outage"])).await;
            w.pass(10).await;
        }
        w.notice(said("first", "resolved", &[left])).await;
        w.pass(10).await;
        assert_eq!(down(&w).await, ["a"], "{left}");
        w.notice(said("second", "resolved", &[])).await;
        w.pass(10).await;
        assert_eq!(down(&w).await, [""; 0], "{left}");
    }
    // One that begins only then reports it, too.
    let mut w = world(on).await;
    w.notice(said("first", "investigating", &["a=major_outage"])).await;
    w.notice(said("first", "resolved", &["a=partial_outage"])).await;
    w.notice(said("second", "investigating", &["a=partial_outage"])).await;
    w.pass(10).await;
    w.notice(said("second", "resolved", &[])).await;
    w.pass(10).await;
    assert_eq!(down(&w).await, [""; 0]);
}

async fn what_is_announced_keeps_nothing_down(on: On) {
    let mut w = world(on).await;
    w.notice(said("i", "investigating", &["a=major_outage"])).await;
    let announced = json!({"impact": "maintenance", "title": "New disks"});
    w.notice(with(said("m", "scheduled", &["a=partial_outage"]), announced)).await;
    w.pass(10).await;
    w.notice(said("i", "resolved", &["a=operational"])).await;
    w.pass(10).await;
    assert_eq!(down(&w).await, [""; 0]);
}

async fn trouble_with_what_had_come_back_is_trouble_though_no_state_is_named(on: On) {
    let mut w = world(on).await;
    w.notice(said("i", "investigating", &["b"])).await;
    w.pass(20).await;
    w.notice(said("i", "monitoring", &["b=operational"])).await;
    w.pass(30).await;
    let before = w.all().len();
    w.notice(with(said("i", "investigating", &["b"]), json!({"body": "B is slow again."}))).await;
    w.pass(60).await;
    let after: Vec<_> = w.all()[before..].iter().map(plain).collect();
    assert!(!after.is_empty() && after.iter().all(|text| !text.contains("works normally")), "{after:#?}");
}

async fn what_is_to_come_and_what_is_long_over_ends_no_outage(on: On) {
    let mut w = world(on).await;
    w.notice(said("old", "investigating", &["b=degraded_performance"])).await;
    w.pass(10).await;
    w.notice(said("old", "resolved", &[])).await;
    w.pass(10).await;
    w.down("a").await;
    let maintenance = json!({"impact": "maintenance", "title": "New disks"});
    w.notice(with(said("next", "scheduled", &["a"]), maintenance)).await;
    w.notice(said("old", "postmortem", &["a", "b"])).await;
    w.pass(10).await;
    assert_eq!(down(&w).await, ["a"]);
}

const BEGAN: &str = "SELECT CAST(started_at AS TEXT) FROM incident";
const ENDED: &str = "SELECT CAST(resolved_at AS TEXT) FROM incident";

async fn time(w: &World, of: &'static str) -> Timestamp {
    Timestamp(w.query(of).await[0][0].as_deref().unwrap().parse().unwrap())
}

async fn a_summary_after_the_end_does_not_move_it(on: On) {
    let mut w = world(on).await;
    w.notice(said("i", "investigating", &["a=major_outage"])).await;
    w.pass(60).await;
    let end = w.now();
    w.notice(said("i", "resolved", &[])).await;
    w.pass(4 * 60).await;
    w.notice(with(said("i", "resolved", &[]), json!({"body": "Summary: a disk was full."}))).await;
    assert_eq!(time(&w, ENDED).await, end);
    let ended_at = "2025-06-02T08:55:00Z";
    w.notice(with(said("i", "resolved", &[]), json!({"body": "It was over earlier.", "ended_at": ended_at}))).await;
    assert_eq!(time(&w, ENDED).await.to_string(), ended_at);
}

async fn what_came_late_tells_since_when(on: On) {
    let mut w = world(on).await;
    let at = |time: &str| json!({"observed_at": format!("2025-06-02T{time}:00Z")});
    w.notice(with(said("i", "identified", &["a=major_outage"]), at("07:00"))).await;
    let late = with(said("i", "investigating", &["a=major_outage"]), at("06:00"));
    w.notice(with(late, json!({"started_at": "2025-06-02T05:00:00Z"}))).await;
    assert_eq!(time(&w, BEGAN).await.to_string(), "2025-06-02T05:00:00Z");
    let newest = json!({"observed_at": "2025-06-02T07:30:00Z", "started_at": "2025-06-02T05:10:00Z"});
    w.notice(with(said("i", "monitoring", &[]), newest)).await;
    w.notice(with(said("i", "update", &["a"]), at("04:00"))).await;
    assert_eq!(time(&w, BEGAN).await.to_string(), "2025-06-02T05:10:00Z", "a newer one has said it");
    w.pass(1).await;
}

async fn a_maintenance_under_way_concerns_all_that_was_announced(on: On) {
    let mut w = world(on).await;
    let maintenance = |phase, named: &[&str]| with(said("m", phase, named), json!({"impact": "maintenance"}));
    w.notice(maintenance("scheduled", &["a", "b"])).await;
    w.pass(60).await;
    for phase in ["in_progress", "verifying"] {
        w.notice(maintenance(phase, &[])).await;
        w.pass(60).await;
    }
    let mails: Vec<_> = w.all().iter().skip(1).map(plain).collect();
    assert!(!mails.is_empty() && mails.iter().all(|text| !text.contains("work normally")), "{mails:#?}");
    w.notice(maintenance("completed", &[])).await;
    w.pass(60).await;
    let states = w.query("SELECT DISTINCT status FROM incident_component").await;
    assert_eq!(states, [[Some("operational".to_owned())]]);
}

async fn nobody_hears_of_trouble_in_an_incident_that_is_none_of_his(on: On) {
    for private in [json!({"recipients": ["bob"]}), json!({"deliver": false})] {
        let mut w = world(on).await;
        w.subscriber("bob").await;
        w.notice(with(said("other", "investigating", &["a=degraded_performance"]), private)).await;
        w.pass(10).await;
        for (phase, component) in
            [("identified", "a=major_outage"), ("monitoring", "a=operational"), ("resolved", "a=operational")]
        {
            w.notice(said("i", phase, &[component])).await;
            w.pass(40).await;
        }
        let texts: Vec<_> = w.all().iter().filter(|mail| mail.to.starts_with("ann")).map(plain).collect();
        let leads: Vec<_> = texts.iter().map(|text| text.split(':').next().unwrap()).collect();
        assert_eq!(leads, ["Identified", "Monitoring", "All clear"]);
        assert!(texts.iter().all(|text| !text.contains("degraded")), "{texts:#?}");
    }
}

async fn an_all_clear_waits_for_the_end_of_trouble_elsewhere(on: On) {
    for (begins, trouble, ends) in
        [("investigating", "a=degraded_performance", "resolved"), ("in_progress", "a=under_maintenance", "completed")]
    {
        let mut w = world(on).await;
        w.notice(said("i", "identified", &["a=major_outage"])).await;
        w.pass(10).await;
        w.notice(said("other", begins, &[trouble])).await;
        w.pass(30).await;
        w.notice(said("i", "monitoring", &["a=operational"])).await;
        w.pass(60).await;
        let all_clears = |w: &World| leads(w).into_iter().filter(|lead| lead == "All clear").count();
        assert_eq!(all_clears(&w), 0, "{begins}");
        w.notice(said("other", ends, &["a=operational"])).await;
        w.pass(30).await;
        assert_eq!(all_clears(&w), 1, "{begins}");
    }
}

/// What another incident still reports is not over for those who were told of both, whatever the first says of it.
async fn an_all_clear_names_all_that_its_thread_told_of(on: On) {
    let mut w = world(on).await;
    w.notice(said("i", "investigating", &["a=major_outage"])).await;
    w.pass(10).await;
    w.notice(said("i", "identified", &["a=operational"])).await;
    w.pass(1).await;
    w.notice(said("i", "identified", &["b=major_outage"])).await;
    w.notice(said("other", "investigating", &["b=major_outage"])).await;
    w.pass(1).await;
    w.notice(said("i", "monitoring", &["b=operational"])).await;
    w.pass(60).await;
    let all_clears = |w: &World| leads(w).into_iter().filter(|lead| lead == "All clear").count();
    assert_eq!(all_clears(&w), 0);
    w.notice(said("other", "resolved", &["b=operational"])).await;
    w.pass(60).await;
    assert_eq!(all_clears(&w), 1, "{:?}", leads(&w));
}

async fn what_is_announced_is_no_outage_yet(on: On) {
    let mut w = world(on).await;
    w.notice(with(said("m", "scheduled", &["a=major_outage"]), json!({"impact": "maintenance"}))).await;
    w.pass(1).await;
    assert!(down(&w).await.is_empty());
    w.notice(said("i", "investigating", &["a=major_outage"])).await;
    w.pass(60).await;
    assert!(leads(&w).iter().any(|lead| lead.starts_with("Investigating")), "{:?}", leads(&w));
    w.notice(said("i", "resolved", &[])).await;
    w.pass(60).await;
    assert!(down(&w).await.is_empty());
}

/// Whoever waits for another's transaction on PostgreSQL has begun before it.
async fn what_is_said_without_a_time_is_never_late(on: On) {
    let mut w = world(on).await;
    w.notice(said("i", "investigating", &["a=major_outage"])).await;
    w.clock.set(w.now() - Span::seconds(1));
    assert_eq!(w.notice(said("i", "identified", &["b=major_outage"])).await.outcome.as_str(), "planned");
    assert_eq!(down(&w).await, ["a", "b"]);
    w.pass(1).await;
}

async fn what_a_maintenance_is_done_with_stays_so_when_a_text_names_nothing(on: On) {
    let mut w = world(on).await;
    for (phase, components) in
        [("in_progress", &["a", "b"][..]), ("in_progress", &["a=operational"]), ("verifying", &[])]
    {
        w.notice(with(said("m", phase, components), json!({"impact": "maintenance"}))).await;
        w.pass(60).await;
    }
    let states = w.query(
        "SELECT c.key, s.status FROM incident_component s JOIN component c ON c.id = s.component_id ORDER BY c.key",
    );
    let states: Vec<_> = states.await.into_iter().map(|row| row.into_iter().flatten().collect::<Vec<_>>()).collect();
    assert_eq!(states, [["a", "operational"], ["b", "under_maintenance"]]);
}

async fn an_update_tells_its_own_phase_whatever_was_said_before_it_was_planned(on: On) {
    let mut w = world(on).await;
    w.notice(said("i", "investigating", &["a=major_outage"])).await;
    w.clock.set(w.now() + Span::seconds(1));
    w.notice(said("i", "identified", &["a=major_outage"])).await;
    // The first leaves before the second is planned.
    let later = "UPDATE plan SET done_at = 1, outcome = 'later' WHERE created_at = (SELECT MAX(created_at) FROM plan)";
    w.execute(later).await;
    w.pass(1).await;
    w.execute("UPDATE plan SET done_at = NULL, outcome = NULL WHERE outcome = 'later'").await;
    w.pass(60).await;
    assert_eq!(leads(&w), ["Investigating", "Identified"]);
}

async fn what_has_not_left_has_the_words_and_times_of_an_edit(on: On) {
    let mut w = world(on).await;
    w.notice(with(said("i", "investigating", &["a=major_outage"]), json!({"update": "1"}))).await;
    w.pass(10).await;
    let still = |body: &str| with(said("i", "investigating", &[]), json!({"update": "2", "body": body}));
    assert_eq!(w.notice(still("WRONG words")).await.outcome.as_str(), "planned");
    w.pass(10).await;
    // The first words again, late, take no edit back.
    for body in ["RIGHT words", "WRONG words"] {
        assert_eq!(w.notice(still(body)).await.outcome.as_str(), "repeated");
    }
    w.pass(120).await;
    let text = plain(w.all().last().unwrap());
    assert!(w.all().len() == 2 && text.contains("RIGHT words") && !text.contains("WRONG"), "{text}");
    let end = with(said("i", "resolved", &[]), json!({"update": "3", "ended_at": "2025-06-02T10:00:00Z"}));
    w.notice(end.clone()).await;
    w.pass(5).await;
    let times = json!({"started_at": "2025-06-02T07:30:00Z", "ended_at": "2025-06-02T09:30:00Z"});
    // Said again in the old words, it corrects nothing.
    for again in [with(end.clone(), times), end] {
        assert_eq!(w.notice(again).await.outcome.as_str(), "repeated");
        assert_eq!(time(&w, BEGAN).await.to_string(), "2025-06-02T07:30:00Z");
        assert_eq!(time(&w, ENDED).await.to_string(), "2025-06-02T09:30:00Z");
    }
    w.pass(5).await;
    assert_eq!(w.all().len(), 3, "an edit mails nobody");
    w.notice(said("i", "postmortem", &[])).await;
    w.pass(5).await;
    let text = plain(w.all().last().unwrap());
    assert!(text.starts_with("Post-mortem") && text.contains("Lasted: 2 hours\n"), "{text}");
}

async fn an_edit_of_the_newest_update_corrects_the_title(on: On) {
    let mut w = world(on).await;
    let titled = |update: &str, title: &str, impact: &str| {
        let more = json!({"update": update, "title": title, "impact": impact, "body": format!("{title}.")});
        with(said("i", "investigating", &["a=major_outage"]), more)
    };
    let stands = async |w: &World| w.query("SELECT title, impact FROM incident").await.concat();
    let is = |title: &str, impact: &str| [title, impact].map(|text| Some(text.to_owned()));
    w.sink.set_down(true);
    w.notice(titled("1", "EU is down", "minor")).await;
    w.pass(1).await;
    // The first words again, late, take no edit back.
    for (title, impact) in [("UK is down", "none"), ("US is down", "major"), ("EU is down", "minor")] {
        assert_eq!(w.notice(titled("1", title, impact)).await.outcome.as_str(), "repeated");
        w.pass(1).await;
    }
    assert_eq!(stands(&w).await, is("US is down", "major"));
    w.sink.set_down(false);
    w.pass(5).await;
    let text = plain(&w.all()[0]);
    assert!(text.contains("Incident: US is down") && text.contains("Impact: Major"), "{text}");
    assert!(!text.contains("EU"), "{text}");
    // What was said since stays.
    w.notice(titled("2", "All is down", "critical")).await;
    w.pass(10).await;
    assert_eq!(w.notice(titled("1", "UK is down", "none")).await.outcome.as_str(), "repeated");
    assert_eq!(stands(&w).await, is("All is down", "critical"));
    // Nor does an edit of what came late say anything of now.
    for (title, outcome) in [("IE is down", "stale_at_birth"), ("IT is down", "repeated")] {
        let late = with(titled("0", title, "none"), json!({"observed_at": "2025-06-02T08:00:30Z"}));
        assert_eq!(w.notice(late).await.outcome.as_str(), outcome);
        assert_eq!(stands(&w).await, is("All is down", "critical"));
    }
    w.notice(titled("2", "Most is down", "major")).await;
    assert_eq!(stands(&w).await, is("Most is down", "major"));
}

async fn an_edit_that_says_otherwise_of_a_component_is_an_update(on: On) {
    let mut w = world(on).await;
    let one = |named: &[&str]| with(said("i", "investigating", named), json!({"update": "1"}));
    w.notice(one(&["a=major_outage", "b=major_outage"])).await;
    w.pass(6).await;
    let edit = one(&["a=operational", "b=major_outage"]);
    for outcome in ["planned", "repeated"] {
        assert_eq!(w.notice(edit.clone()).await.outcome.as_str(), outcome);
    }
    assert_eq!(down(&w).await, ["b"]);
    w.pass(10).await;
    let text = plain(w.all().last().unwrap());
    assert!(w.all().len() == 2 && text.starts_with("Investigating: Beta has a major outage."), "{text}");
    // Other words alone say nothing new of a component, whatever has been heard of it since.
    w.up("b").await;
    let words = with(edit, json!({"body": "Other words."}));
    assert_eq!(w.notice(words).await.outcome.as_str(), "repeated");
    assert_eq!(down(&w).await, [""; 0]);
    w.pass(1).await;
}
