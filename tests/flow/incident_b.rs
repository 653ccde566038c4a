//! Incident B, the power outage of 23 February 2026, 15:05 CET (`seeds/B-power-outage.txt`; its texts give no other
//! time, so the later ones are chosen here).
//!
//! Nine components fail at once. Anna follows four of them, Ben the meetings, Cleo the statistics, Dora everything,
//! Emil something that is not concerned. Recovery comes per component; a restart disturbs the meetings once more,
//! six minutes after they were back; the statistics need longest.

use super::table::{assert_table, plain, until};
use crate::on_both;
use crate::support::{On, World};
use serde_json::{Value, json};

on_both! {
    one_mail_names_what_each_follows_and_a_second_dip_puts_off_the_all_clear;
}

const TABLE: &str = "
    Mon 23 Feb 15:05  anna  Investigating: API, Mail delivery and 2 more have a major outage.
    Mon 23 Feb 15:05  ben   Investigating: Meetings has a major outage.
    Mon 23 Feb 15:05  cleo  Investigating: Statistics has a major outage.
    Mon 23 Feb 15:05  dora  Investigating: Account, API and 7 more have a major outage.
    Mon 23 Feb 15:20  anna  Identified: API, Mail delivery and 2 more have a major outage; the cause is known.
    Mon 23 Feb 15:20  ben   Identified: Meetings has a major outage; the cause is known.
    Mon 23 Feb 15:20  cleo  Identified: Statistics has a major outage; the cause is known.
    Mon 23 Feb 15:20  dora  Identified: Account, API and 7 more have a major outage; the cause is known.
    Mon 23 Feb 16:22  ben   All clear: Meetings works normally again.
    Mon 23 Feb 16:50  anna  All clear: API, Mail delivery and 2 more work normally again.
    Mon 23 Feb 17:00  cleo  Monitoring: Statistics has degraded performance; a fix is in place and we are watching it.
    Mon 23 Feb 17:00  dora  Monitoring: Statistics has degraded performance; a fix is in place and we are watching it.
    Mon 23 Feb 18:30  cleo  Resolved: Statistics works normally again.
    Mon 23 Feb 18:30  dora  Resolved: Account, API and 7 more work normally again.
";

const COMPONENTS: [(&str, &str); 9] = [
    ("account", "Account"),
    ("api", "API"),
    ("mail", "Mail delivery"),
    ("tracking", "Tracking links"),
    ("workflows", "Workflows"),
    ("contacts", "Contacts"),
    ("meetings", "Meetings"),
    ("notifications", "Notifications"),
    ("statistics", "Statistics"),
];

async fn world(on: On) -> World {
    let w = World::new(on, "2026-02-23T14:00:00Z").await;
    for (key, name) in COMPONENTS {
        w.component(key, name).await;
    }
    w.component("chat", "Chat").await;
    for (who, follows) in [
        ("anna", &["mail", "tracking", "api", "workflows"][..]),
        ("ben", &["meetings"]),
        ("cleo", &["statistics"]),
        ("emil", &["chat"]),
    ] {
        w.subscriber(who).await;
        for component in follows {
            w.subscribe(who, component).await;
        }
    }
    w.subscriber("dora").await;
    w.subscribe_to_everything("dora").await;
    w
}

fn these(keys: &[&str], status: &str) -> Value {
    keys.iter().map(|key| json!({"key": key, "status": status})).collect()
}

async fn post(w: &World, phase: &str, components: Value, deliver: bool) {
    let said = json!({"kind": "incident", "incident": "power-1", "title": "Power outage at a hosting provider",
        "phase": phase, "impact": "critical", "body": "A hosting provider lost power.", "components": components,
        "deliver": deliver});
    w.notice(said).await;
}

async fn one_mail_names_what_each_follows_and_a_second_dip_puts_off_the_all_clear(on: On) {
    let mut w = world(on).await;
    let all: Vec<&str> = COMPONENTS.iter().map(|c| c.0).collect();
    until(&mut w, "2026-02-23T14:05:00Z").await;
    post(&w, "investigating", these(&all, "major_outage"), true).await;
    until(&mut w, "2026-02-23T14:20:00Z").await;
    post(&w, "identified", json!([]), true).await;
    // The page's components are moved without a post.
    until(&mut w, "2026-02-23T15:00:00Z").await;
    post(&w, "update", these(&["meetings", "account", "contacts"], "operational"), false).await;
    until(&mut w, "2026-02-23T15:06:00Z").await;
    w.down("meetings").await;
    until(&mut w, "2026-02-23T15:12:00Z").await;
    w.up("meetings").await;
    // Of Anna's four the last is back at 16:40.
    until(&mut w, "2026-02-23T15:30:00Z").await;
    post(&w, "update", these(&["mail", "tracking", "api", "notifications"], "operational"), false).await;
    until(&mut w, "2026-02-23T15:40:00Z").await;
    post(&w, "update", these(&["workflows"], "operational"), false).await;
    until(&mut w, "2026-02-23T16:00:00Z").await;
    post(&w, "monitoring", these(&["statistics"], "degraded_performance"), true).await;
    until(&mut w, "2026-02-23T17:30:00Z").await;
    post(&w, "resolved", json!([]), true).await;
    until(&mut w, "2026-02-23T17:31:00Z").await;
    post(&w, "resolved", json!([]), true).await;
    until(&mut w, "2026-02-23T18:30:00Z").await;
    w.at("2026-02-25T09:00:00Z").await;
    assert_table(w.all(), "Europe/Berlin", TABLE);

    let anna = plain(w.all().iter().find(|m| m.to == "anna@example.net").unwrap());
    for (key, name) in COMPONENTS {
        let follows = ["mail", "tracking", "api", "workflows"].contains(&key);
        assert_eq!(anna.contains(&format!("- {name}: Major outage")), follows, "{name} in {anna}");
    }
    assert!(anna.contains("15:05 (UTC+01:00) / 14:05 UTC"), "{anna}");
}
