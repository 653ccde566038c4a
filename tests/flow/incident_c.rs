//! Incident C, the partial interruption of 30 April 2026 (`seeds/C-partial-interruption.txt`, all times CEST).
//!
//! Only customers on one branded app are concerned: the status system names them. Ada reads in Berlin, Bea in New
//! York; Rob follows the same component, but his app is another one. The update at 19:59 keeps the least distance of
//! five minutes to the first mail.

use super::table::{assert_table, plain, until};
use crate::on_both;
use crate::support::{On, World};
use allclear::flow::register;
use serde_json::{Value, json};

on_both! {
    those_on_one_app_are_told_and_weeks_later_why;
    an_update_replaced_within_the_least_distance_is_not_mailed;
    those_named_only_later_are_told_from_then_on;
    those_on_one_app_are_found_by_a_filter;
}

const TITLE: &str = "Service interruption affecting Member platform";
const INVESTIGATING: &str = "We are currently investigating a service interruption affecting the Member platform. \
    Customers using a specific branded app infrastructure are currently unable to establish a connection.";

const TABLE: &str = "
    Thu 30 Apr 19:56  ada  Investigating: Member platform has degraded performance.
    Thu 30 Apr 19:56  bea  Investigating: Member platform has degraded performance.
    Thu 30 Apr 21:03  ada  Resolved: Member platform works normally again.
    Thu 30 Apr 21:03  bea  Resolved: Member platform works normally again.
    Mon 18 May 10:05  ada  Post-mortem: what happened to Member platform, and why.
    Mon 18 May 10:05  bea  Post-mortem: what happened to Member platform, and why.
";

async fn world(on: On) -> World {
    let w = World::new(on, "2026-04-30T17:50:00Z").await;
    w.component("member", "Member platform").await;
    for (who, zone) in [("ada", "Europe/Berlin"), ("bea", "America/New_York"), ("rob", "Europe/Berlin")] {
        w.subscriber_in(who, zone).await;
        w.subscribe(who, "member").await;
    }
    w
}

async fn post(w: &World, phase: &str, body: &str, more: Value) {
    let mut said = json!({"kind": "incident", "incident": "member-1", "title": TITLE, "phase": phase, "body": body,
        "impact": "minor", "components": [{"key": "member"}], "recipients": ["ada", "bea"]});
    said.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    w.notice(said).await;
}

async fn those_on_one_app_are_told_and_weeks_later_why(on: On) {
    let mut w = world(on).await;
    until(&mut w, "2026-04-30T17:56:00Z").await;
    let more = json!({"not_affected": "Existing active connections", "support_link": "https://example.com/ticket"});
    post(&w, "investigating", INVESTIGATING, more).await;
    until(&mut w, "2026-04-30T17:59:00Z").await;
    post(&w, "update", "We've identified the issue and are currently working on a fix.", json!({})).await;
    until(&mut w, "2026-04-30T19:03:00Z").await;
    let times = json!({"started_at": "2026-04-30T12:30:00+02:00", "ended_at": "2026-04-30T21:03:00+02:00",
        "not_affected": "Existing connections", "support_link": "https://example.com/ticket"});
    post(&w, "resolved", "The incident has been resolved.", times).await;
    until(&mut w, "2026-04-30T20:00:00Z").await;
    w.at("2026-05-18T08:00:00Z").await;
    until(&mut w, "2026-05-18T08:05:00Z").await;
    let said = json!({"kind": "incident", "incident": "member-1", "title": "Post-mortem of 30 April", "phase": "postmortem",
        "body": "A full rollback was the most effective way to restore service."});
    w.notice(said).await;
    until(&mut w, "2026-05-18T09:00:00Z").await;
    w.at("2026-05-20T08:00:00Z").await;
    assert_table(w.all(), "Europe/Berlin", TABLE);

    let to = |who: &str| w.all().iter().filter(|m| m.to.starts_with(who)).cloned().collect::<Vec<_>>();
    for (who, lines) in [
        ("ada", ["12:30 (UTC+02:00) / 10:30 UTC", "21:03 (UTC+02:00) / 19:03 UTC"]),
        ("bea", ["06:30 (UTC-04:00) / 10:30 UTC", "15:03 (UTC-04:00) / 19:03 UTC"]),
    ] {
        let mails = to(who);
        let first = plain(&mails[0]);
        assert!(first.contains("Not affected: Existing active connections"), "{first}");
        assert!(first.contains("Need help? https://example.com/ticket"), "{first}");
        for told in [plain(&mails[1]), plain(&mails[2])] {
            assert!(told.contains("Lasted: 8 hours 33 minutes"), "{told}");
            assert!(lines.iter().all(|line| told.contains(line)), "{lines:?} in {told}");
        }
        let root = mails[0].header("References").unwrap();
        let references: Vec<_> = mails.iter().map(|m| m.header("References").unwrap()).collect();
        assert!(references.iter().all(|r| r.starts_with(&root)), "{references:?}");
        let ids: Vec<_> = mails.iter().map(|m| m.header("Message-ID")).collect();
        let answers: Vec<_> = mails[1..].iter().map(|m| m.header("In-Reply-To")).collect();
        assert_eq!(answers, ids[..2]);
        assert!(
            mails.iter().all(|m| m.subject == mails[0].subject && m.subject.contains("Member platform")),
            "{mails:?}"
        );
    }
}

async fn an_update_replaced_within_the_least_distance_is_not_mailed(on: On) {
    let mut w = world(on).await;
    until(&mut w, "2026-04-30T17:56:00Z").await;
    post(&w, "investigating", INVESTIGATING, json!({})).await;
    until(&mut w, "2026-04-30T17:59:00Z").await;
    post(&w, "update", "We've identified the issue.", json!({})).await;
    until(&mut w, "2026-04-30T18:00:00Z").await;
    post(&w, "monitoring", "A fix is in place.", json!({})).await;
    until(&mut w, "2026-04-30T18:30:00Z").await;
    assert_table(
        w.all(),
        "Europe/Berlin",
        "
        Thu 30 Apr 19:56  ada  Investigating: Member platform has degraded performance.
        Thu 30 Apr 19:56  bea  Investigating: Member platform has degraded performance.
        Thu 30 Apr 20:01  ada  Monitoring: Member platform has degraded performance; a fix is in place and we are watching it.
        Thu 30 Apr 20:01  bea  Monitoring: Member platform has degraded performance; a fix is in place and we are watching it.
        ",
    );
    let replaced = w.deliveries().await.into_iter().filter(|d| d == "incident_update folded replaced_by_newer");
    assert_eq!(replaced.count(), 2);
}

async fn those_named_only_later_are_told_from_then_on(on: On) {
    let mut w = world(on).await;
    until(&mut w, "2026-04-30T17:56:00Z").await;
    post(&w, "investigating", INVESTIGATING, json!({})).await;
    until(&mut w, "2026-04-30T18:10:00Z").await;
    post(&w, "update", "A second app is concerned too.", json!({"recipients": ["rob"]})).await;
    until(&mut w, "2026-04-30T19:03:00Z").await;
    post(&w, "resolved", "The incident has been resolved.", json!({"recipients": []})).await;
    until(&mut w, "2026-04-30T20:00:00Z").await;
    assert_table(
        w.all(),
        "Europe/Berlin",
        "
        Thu 30 Apr 19:56  ada  Investigating: Member platform has degraded performance.
        Thu 30 Apr 19:56  bea  Investigating: Member platform has degraded performance.
        Thu 30 Apr 20:10  rob  Investigating: Member platform has degraded performance.
        Thu 30 Apr 21:03  ada  Resolved: Member platform works normally again.
        Thu 30 Apr 21:03  bea  Resolved: Member platform works normally again.
        Thu 30 Apr 21:03  rob  Resolved: Member platform works normally again.
        ",
    );
}

/// The same without names: only the first post says on which app, and the later ones keep to it.
async fn those_on_one_app_are_found_by_a_filter(on: On) {
    let mut w = World::new(on, "2026-04-30T17:50:00Z").await;
    w.component("member", "Member platform").await;
    for (who, app, region) in
        [("ada", "x", "eu"), ("bea", "y", "us"), ("cy", "y", "asia"), ("rob", "z", "eu"), ("nil", "", "")]
    {
        let attributes = if app.is_empty() { json!({}) } else { json!({"app": [app, "base"], "region": [region]}) };
        let said = json!({"address": format!("{who}@example.net"), "attributes": attributes});
        register::subscriber(&w.store, who, &serde_json::from_value(said).unwrap()).await.unwrap();
    }
    // On the app, but follows nothing: is not told.
    let said = json!({"address": "out@example.net", "attributes": {"app": ["x"], "region": ["eu"]}});
    register::subscriber(&w.store, "out", &serde_json::from_value(said).unwrap()).await.unwrap();
    for who in ["ada", "cy", "rob", "nil"] {
        w.subscribe(who, "member").await;
    }
    w.subscribe_to_everything("bea").await;
    let post = |phase: &str, body: &str, more: Value| {
        let mut said = json!({"kind": "incident", "incident": "member-1", "title": TITLE, "phase": phase, "body": body,
            "impact": "minor", "components": [{"key": "member"}]});
        said.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        said
    };
    until(&mut w, "2026-04-30T17:56:00Z").await;
    let filter = json!({"filter": {"app": ["x", "y"], "region": ["eu", "us"]}});
    w.notice(post("investigating", INVESTIGATING, filter)).await;
    until(&mut w, "2026-04-30T18:10:00Z").await;
    w.notice(post("identified", "We've identified the issue.", json!({}))).await;
    until(&mut w, "2026-04-30T19:03:00Z").await;
    w.notice(post("resolved", "The incident has been resolved.", json!({}))).await;
    until(&mut w, "2026-04-30T20:00:00Z").await;
    w.at("2026-05-18T08:00:00Z").await;
    w.notice(post("postmortem", "A full rollback was the most effective way.", json!({}))).await;
    until(&mut w, "2026-05-18T09:00:00Z").await;
    let mails = |who: &str| w.all().iter().filter(|m| m.to.starts_with(who)).count();
    assert_eq!(["ada", "bea", "cy", "rob", "nil", "out"].map(mails), [4, 4, 0, 0, 0, 0]);
}
