//! `allclear replay`: the counting against mails made by hand, small histories of both forms in every mode on both
//! databases, and the recorded histories of real status pages.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod count;
mod reading;
mod real;
mod simulate;
mod small;
#[path = "../support/mod.rs"]
mod support;

use allclear::cli::replay::history::History;

/// The history of a text.
fn history(text: &str) -> History {
    let mut all = allclear::cli::replay::reading::read(text.as_bytes()).unwrap();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

/// Two incidents of an hour each, ten hours apart, as Statuspage has them: the newest first.
const STATUSPAGE: &str = r#"{"page": {"id": "p", "name": "Acme"}, "incidents": [
    {"id": "two", "name": "Search is slow", "impact": "minor", "started_at": "2025-03-01T18:00:00.000Z", "incident_updates": [
        {"id": "t2", "status": "resolved", "body": "Over.", "created_at": "2025-03-01T19:00:00.000Z",
         "display_at": "2025-03-01T19:00:00.000Z", "deliver_notifications": true, "affected_components": null},
        {"id": "t1", "status": "investigating", "body": "Slow.", "created_at": "2025-03-01T18:00:00.000Z",
         "display_at": "2025-03-01T18:00:00.000Z", "deliver_notifications": true, "affected_components": [
            {"code": "search", "name": "Search", "old_status": "operational", "new_status": "degraded_performance"}]}]},
    {"id": "one", "name": "Mail &amp; search fail", "impact": "major", "started_at": "2025-03-01T08:00:00.000Z", "incident_updates": [
        {"id": "o3", "status": "resolved", "body": "<p>Over.</p>", "created_at": "2025-03-01T09:00:00.000Z",
         "display_at": "2025-03-01T09:00:00.000Z", "deliver_notifications": true, "affected_components": [
            {"code": "mail", "name": "Mail", "old_status": "major_outage", "new_status": "operational"},
            {"code": "search", "name": "Search", "old_status": "partial_outage", "new_status": "operational"}]},
        {"id": "o2", "status": "identified", "body": "Found.", "created_at": "2025-03-01T08:30:00.000Z",
         "display_at": "2025-03-01T08:30:00.000Z", "deliver_notifications": true, "affected_components": [
            {"code": "mail", "name": "Mail", "old_status": "partial_outage", "new_status": "major_outage"},
            {"code": "search", "name": "Search", "old_status": "partial_outage", "new_status": "partial_outage"}]},
        {"id": "o1", "status": "investigating", "body": "Down.", "created_at": "2025-03-01T08:00:00.000Z",
         "display_at": "2025-03-01T08:00:00.000Z", "deliver_notifications": true, "affected_components": [
            {"code": "mail", "name": "Mail", "old_status": "operational", "new_status": "partial_outage"},
            {"code": "search", "name": "Search", "old_status": "operational", "new_status": "partial_outage"}]}]}]}"#;

/// A maintenance, and an incident that never ends.
const TIMELINE: &str = r#"
{"page":"acme","id":"m1","name":"Moving house","impact":"maintenance","components":["Web API"],"started_at":"2025-04-01T10:00:00+02:00","resolved_at":null,"updates":[{"at":"2025-04-01T10:00:00+02:00","status":"In progress","body":"We begin."},{"at":"2025-04-01T11:00:00+02:00","status":"Completed","body":"Done."}]}

{"page":"acme","id":"i1","name":"Odd errors","impact":"minor","components":[],"started_at":null,"resolved_at":null,"updates":[{"at":"2025-04-02T10:00:00Z","status":"Update","body":"Errors seen."}]}
"#;
