//! Who is planned for: page by page, once each, through restarts; what is folded, stale, ended or withdrawn.

use super::table::{assert_table, until};
use crate::on_both;
use crate::support::{On, World};
use allclear::flow::plan;
use allclear::mail::sink::Script;
use serde_json::{Value, json};

on_both! {
    followers_of_several_components_get_one_mail_each_through_pages;
    a_restart_in_the_middle_of_the_pages_repeats_nothing;
    an_older_unsent_update_is_folded_into_the_newer;
    an_update_that_arrives_late_is_stale;
    only_the_explicit_recipients_are_told;
    a_free_notice_goes_to_recipients_and_followers_once;
    an_incident_first_heard_of_as_over_mails_nobody;
    the_end_goes_only_to_those_told;
    who_was_told_by_name_is_told_why_whoever_is_told_since;
    a_problem_still_queued_when_it_ends_is_withdrawn_without_an_end;
}

const SEVEN: [&str; 7] = ["s1", "s2", "s3", "s4", "s5", "s6", "s7"];

/// Seven followers of three components, two a page; everybody follows two or three of them, and `s7` everything too.
async fn seven(on: On) -> World {
    let w = World::with(on, "2025-06-02T08:00:00Z", Script::default(), |s| s.page = 2).await;
    for (key, name) in [("a", "Alpha"), ("b", "Beta"), ("c", "Gamma")] {
        w.component(key, name).await;
    }
    for (n, key) in SEVEN.into_iter().enumerate() {
        w.subscriber(key).await;
        w.subscribe(key, "a").await;
        w.subscribe(key, if n % 2 == 0 { "b" } else { "c" }).await;
    }
    w.subscribe("s1", "c").await;
    w.subscribe_to_everything("s7").await;
    w
}

async fn one(on: On, subscribers: &[&str]) -> World {
    let w = World::new(on, "2025-06-02T08:00:00Z").await;
    w.component("a", "Alpha").await;
    for key in subscribers {
        w.subscriber(key).await;
        w.subscribe(key, "a").await;
    }
    w
}

fn said(phase: &str, components: &[&str], more: Value) -> Value {
    let components: Vec<_> = components.iter().map(|key| json!({"key": key})).collect();
    let mut said = json!({"kind": "incident", "incident": "i-1", "title": "Slow", "phase": phase,
        "body": format!("It is {phase}."), "components": components});
    said.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    said
}

fn to(w: &World) -> Vec<String> {
    let mut to: Vec<_> = w.all().iter().map(|m| m.to.trim_end_matches("@example.net").to_owned()).collect();
    to.sort();
    to
}

async fn followers_of_several_components_get_one_mail_each_through_pages(on: On) {
    let mut w = seven(on).await;
    w.notice(said("investigating", &["a", "b", "c"], json!({}))).await;
    w.settle().await;
    assert_eq!(to(&w), SEVEN);
    w.pass(30).await;
    w.notice(said("resolved", &[], json!({}))).await;
    w.pass(30).await;
    assert_eq!(w.all().len(), 14, "{:?}", to(&w));
    assert!(w.all()[7..].iter().all(|m| super::table::what(m).starts_with("Resolved: ")));
}

async fn a_restart_in_the_middle_of_the_pages_repeats_nothing(on: On) {
    let mut w = seven(on).await;
    w.notice(said("investigating", &["a", "b", "c"], json!({}))).await;
    let mut steps = 0;
    while plan::notices(&w.store, &w.shared.setting, &w.shared.templates).await.unwrap() {
        steps += 1;
        w.restart();
        if steps == 3 {
            // Said again in the middle of it, and planned after it.
            w.notice(said("identified", &["a", "b", "c"], json!({}))).await;
        }
    }
    assert!(steps > 8, "{steps} pages");
    w.settle().await;
    assert_eq!(to(&w), SEVEN, "the newer is all that is owed");
    let states = w.deliveries().await;
    assert_eq!(states.iter().filter(|s| *s == "incident_update folded replaced_by_newer").count(), 7);
    assert_eq!(states.len(), 14);
}

async fn an_older_unsent_update_is_folded_into_the_newer(on: On) {
    let mut w = one(on, &["ann"]).await;
    w.sink.set_down(true);
    w.notice(said("investigating", &["a"], json!({}))).await;
    w.pass(10).await;
    w.notice(said("identified", &["a"], json!({}))).await;
    w.pass(10).await;
    w.sink.set_down(false);
    w.pass(10).await;
    assert_table(w.all(), "UTC", "Mon 2 Jun 08:21 ann Identified: Alpha has degraded performance; the cause is known.");
    let folded = w
        .query("SELECT n.phase FROM delivery d JOIN delivery f ON f.id = d.folded_into JOIN notice n ON n.id = f.notice_id")
        .await;
    assert_eq!(folded, [[Some("identified".to_owned())]]);
}

async fn an_update_that_arrives_late_is_stale(on: On) {
    let mut w = one(on, &["ann"]).await;
    w.pass(30).await;
    w.notice(said("monitoring", &["a"], json!({}))).await;
    w.pass(10).await;
    let late = w.notice(said("identified", &["a"], json!({"observed_at": "2025-06-02T08:20:00Z"}))).await;
    assert_eq!(late.outcome.as_str(), "stale_at_birth");
    assert_eq!(late.reason.map(|r| r.as_str()), Some("late"));
    w.pass(30).await;
    assert_eq!(w.all().len(), 1);
    let incident = w.query("SELECT phase, CAST(revision AS TEXT) FROM incident").await;
    assert_eq!(incident, [[Some("monitoring".to_owned()), Some("2".to_owned())]]);
}

async fn only_the_explicit_recipients_are_told(on: On) {
    let mut w = one(on, &["ann", "bob", "eve"]).await;
    w.notice(said("investigating", &["a"], json!({"recipients": ["bob"]}))).await;
    w.pass(10).await;
    w.notice(said("resolved", &[], json!({}))).await;
    w.pass(10).await;
    assert_eq!(to(&w), ["bob", "bob"]);
    let nobody = w.try_notice(said("investigating", &["a"], json!({"recipients": ["bob", "zoe"]}))).await.unwrap_err();
    assert!(nobody.to_string().contains("recipients[1]"), "{nobody}");
}

async fn a_free_notice_goes_to_recipients_and_followers_once(on: On) {
    let mut w = one(on, &["ann", "bob"]).await;
    w.subscriber("eve").await;
    w.subscriber("kim").await;
    w.notice(json!({"kind": "free", "subject": "News of June", "body": "Something.", "recipients": ["ann", "eve"],
        "components": ["a"]}))
        .await;
    w.pass(10).await;
    assert_eq!(to(&w), ["ann", "bob", "eve"]);
    assert!(w.all().iter().all(|m| m.subject == "News of June"));
}

async fn an_incident_first_heard_of_as_over_mails_nobody(on: On) {
    let mut w = one(on, &["ann"]).await;
    let answer = w.notice(said("resolved", &["a"], json!({}))).await;
    assert_eq!(answer.outcome.as_str(), "recorded");
    w.pass(30).await;
    assert!(w.all().is_empty());
    w.notice(said("postmortem", &[], json!({}))).await;
    w.pass(30).await;
    assert!(w.all().is_empty(), "who was never told needs no explanation");
}

async fn the_end_goes_only_to_those_told(on: On) {
    let mut w = one(on, &["ann", "bob"]).await;
    w.notice(said("investigating", &["a"], json!({}))).await;
    w.pass(10).await;
    w.subscriber("new").await;
    w.subscribe("new", "a").await;
    w.notice(said("resolved", &[], json!({}))).await;
    w.pass(10).await;
    w.notice(said("postmortem", &[], json!({}))).await;
    w.pass(10).await;
    // Who subscribed since is told why, too, but was never told that it began.
    assert_eq!(to(&w), ["ann", "ann", "ann", "bob", "bob", "bob", "new"]);
    assert!(w.all().iter().rfind(|m| m.to.starts_with("new")).unwrap().text().contains("Post-mortem"));
}

async fn who_was_told_by_name_is_told_why_whoever_is_told_since(on: On) {
    let mut w = one(on, &["ann", "bob"]).await;
    w.subscriber("rec").await;
    w.notice(said("investigating", &["a"], json!({"recipients": ["rec"]}))).await;
    w.pass(10).await;
    w.notice(said("identified", &["a"], json!({"everyone": true}))).await;
    w.pass(10).await;
    w.subscription(json!({"subscriber": "bob", "component": "a", "active": false})).await;
    for phase in ["resolved", "postmortem"] {
        w.notice(said(phase, &[], json!({}))).await;
        w.pass(10).await;
    }
    // Bob has left.
    assert_eq!(to(&w), ["ann", "ann", "ann", "bob", "bob", "rec", "rec", "rec"]);
}

async fn a_problem_still_queued_when_it_ends_is_withdrawn_without_an_end(on: On) {
    let mut w = one(on, &["ann"]).await;
    w.notice(said("investigating", &["a"], json!({}))).await;
    w.settle().await;
    w.pass(10).await;
    w.subscriber("bob").await;
    w.subscribe("bob", "a").await;
    w.sink.set_down(true);
    w.notice(said("identified", &["a"], json!({"everyone": true}))).await;
    w.pass(10).await;
    w.notice(said("resolved", &[], json!({}))).await;
    w.pass(5).await;
    w.sink.set_down(false);
    until(&mut w, "2025-06-02T09:00:00Z").await;
    assert_table(
        w.all(),
        "UTC",
        "
        Mon 2 Jun 08:00 ann Investigating: Alpha has degraded performance.
        Mon 2 Jun 08:26 ann Resolved: Alpha works normally again.
        ",
    );
    let mut states = w.deliveries().await;
    states.sort();
    assert_eq!(
        states,
        [
            "incident_end accepted",
            "incident_update accepted",
            "incident_update folded replaced_by_newer",
            "incident_update withdrawn incident_resolved",
        ]
    );
}
