//! Incident A, the mass disconnection of 1–3 March 2025 (`seeds/A-mass-disconnection.txt`, all times UTC).
//!
//! At 20:40 every sync with the provider begins to fail with what looks like a permanent error. Thirty-six inboxes,
//! `i01` to `i36`: every seventh from `i01` on fails at 20:40 sharp, so that its customer is asked before the
//! status feed reports the outage (20:46); the others fail later. The provider is back at 21:45, but says nothing
//! of the inboxes: they are reconnected one by one from 01:40 to 06:22.

use super::table::{assert_table, until};
use crate::on_both;
use crate::support::{On, World};
use serde_json::json;

on_both! {
    only_those_asked_before_the_outage_was_known_are_corrected_and_the_truly_broken_are_told;
}

const TABLE: &str = "
    Thu 30 Jan 09:05  old     please reconnect: Inbox old
    Sat 1 Mar 20:45   byhand  please reconnect: Inbox byhand
    Sat 1 Mar 20:45   i01     please reconnect: Inbox i01
    Sat 1 Mar 20:45   i08     please reconnect: Inbox i08
    Sat 1 Mar 20:45   i15     please reconnect: Inbox i15
    Sat 1 Mar 20:45   i22     please reconnect: Inbox i22
    Sat 1 Mar 20:45   i29     please reconnect: Inbox i29
    Sat 1 Mar 20:45   i36     please reconnect: Inbox i36
    Sat 1 Mar 20:45   revoked please reconnect: Inbox revoked
    Sat 1 Mar 20:45   two     please reconnect: Inbox two-a, Inbox two-b
    Sun 2 Mar 01:12   reader  Identified: Outlook has degraded performance; the cause is known.
    Sun 2 Mar 01:45   i01     no action needed: Inbox i01
    Sun 2 Mar 02:00   two     no action needed: Inbox two-a; still: Inbox two-b
    Sun 2 Mar 02:05   during  please reconnect: Inbox during
    Sun 2 Mar 02:40   i08     no action needed: Inbox i08
    Sun 2 Mar 03:10   refused please reconnect: Inbox refused
    Sun 2 Mar 03:35   i15     no action needed: Inbox i15
    Sun 2 Mar 04:00   two     no action needed: Inbox two-b
    Sun 2 Mar 04:31   i22     no action needed: Inbox i22
    Sun 2 Mar 05:26   i29     no action needed: Inbox i29
    Sun 2 Mar 06:22   i36     no action needed: Inbox i36
    Sun 2 Mar 06:22   reader  Resolved: Outlook works normally again.
";

/// The inboxes that heal: their number, and the minute after 20:40 at which each fails.
fn inboxes() -> impl Iterator<Item = (i64, i64)> {
    (1..=36).map(|n| (n, if n % 7 == 1 { 0 } else { 1 + n % 40 }))
}

/// The minute after 01:40 at which an inbox is reconnected: from 01:45 on, the last at 06:22.
fn reconnected(n: i64) -> i64 {
    5 + (n - 1) * 277 / 35
}

fn key(n: i64) -> String {
    format!("i{n:02}")
}

async fn world(on: On) -> World {
    let w = World::with(on, "2025-01-30T09:00:00Z", allclear::mail::sink::Script::default(), |s| s.page = 10).await;
    w.component("outlook", "Outlook").await;
    for one in inboxes().map(|(n, _)| key(n)).chain(["old", "during", "byhand", "refused", "revoked"].map(String::from))
    {
        w.subscriber(&one).await;
        w.connection(&one, "outlook", &one).await;
    }
    w.subscriber("two").await;
    w.connection("two-a", "outlook", "two").await;
    w.connection("two-b", "outlook", "two").await;
    w.subscriber("reader").await;
    w.subscribe("reader", "outlook").await;
    w
}

async fn only_those_asked_before_the_outage_was_known_are_corrected_and_the_truly_broken_are_told(on: On) {
    let mut w = world(on).await;
    // 30 days before the outage: a password changed, and its customer told then.
    w.broken("old").await;
    until(&mut w, "2025-01-30T10:00:00Z").await;
    w.at("2025-03-01T20:39:00Z").await;

    outage(&mut w).await;
    until(&mut w, "2025-03-01T21:45:00Z").await;
    w.up("outlook").await;
    until(&mut w, "2025-03-01T21:47:00Z").await;
    let waiting = w
        .query(
            "SELECT CAST(COUNT(*) AS TEXT) FROM delivery WHERE state = 'queued' AND reason = 'awaiting_reconnection'",
        )
        .await;
    // 30 of the 36, `during` and `refused`.
    assert_eq!(waiting[0][0].as_deref(), Some("32"));
    until(&mut w, "2025-03-01T22:10:00Z").await;
    w.recovered("byhand", "customer").await;
    until(&mut w, "2025-03-02T01:12:00Z").await;
    page(&w, "identified", "degraded_performance", json!({"started_at": "2025-03-01T20:40:00Z"})).await;

    reconnection(&mut w).await;
    page(&w, "resolved", "operational", json!({"ended_at": "2025-03-02T06:22:00Z"})).await;
    second_dip(&mut w).await;
    // Monday, when the mails are read: whoever was asked in vain has been told so, and nothing else came.
    w.at("2025-03-03T09:00:00Z").await;
    assert_table(w.all(), "UTC", TABLE);
    let left = w.query("SELECT state FROM delivery WHERE state NOT IN ('accepted', 'withdrawn')").await;
    assert!(left.is_empty(), "{left:?}");
}

/// 20:40 to 21:45: everything fails; at 20:46 the status feed says that it is the provider, since 20:40.
async fn outage(w: &mut World) {
    for minute in 0..=44 {
        until(w, &format!("2025-03-01T{}Z", clock(20, 40 + minute))).await;
        if minute == 0 {
            for one in ["byhand", "revoked", "two-a", "two-b"] {
                w.broken(one).await;
            }
        }
        if minute == 2 {
            // Its password was changed at this time; nobody can tell it from the outage. And `old` fails again.
            w.broken("during").await;
            w.broken("old").await;
        }
        if minute == 6 {
            let said = json!({"component": "outlook", "what": "failed", "observed_at": "2025-03-01T20:40:00Z"});
            w.signal(said).await;
        }
        if minute == 10 {
            w.broken("refused").await;
        }
        for (n, _) in inboxes().filter(|(_, fails)| *fails == minute) {
            w.broken(&key(n)).await;
        }
    }
}

/// 01:40 to 06:22: inbox after inbox is reconnected; some refuse.
async fn reconnection(w: &mut World) {
    until(w, "2025-03-02T01:40:00Z").await;
    w.signal(json!({"component": "outlook", "what": "recovering"})).await;
    for minute in 1..=282 {
        until(w, &format!("2025-03-02T{}Z", clock(1, 40 + minute))).await;
        for (n, _) in inboxes().filter(|(n, _)| reconnected(*n) == minute) {
            w.recovered(&key(n), "automatic").await;
        }
        let refuses = |key: &str| json!({"connection": key, "what": "recovery_failed"});
        match minute {
            20 => drop(w.recovered("two-a", "automatic").await),
            25 => drop(w.signal(refuses("during")).await),
            50 => drop(w.signal(refuses("old")).await),
            90 => drop(w.signal(refuses("refused")).await),
            // Asked at 20:45, and rightly so, as it turns out: nothing to take back, nothing to say twice.
            92 => drop(w.signal(refuses("revoked")).await),
            140 => drop(w.recovered("two-b", "automatic").await),
            _ => {}
        }
    }
}

/// After the recovery the provider fails once more, and new failures heal by themselves.
async fn second_dip(w: &mut World) {
    until(w, "2025-03-02T06:40:00Z").await;
    w.down("outlook").await;
    until(w, "2025-03-02T06:42:00Z").await;
    w.broken("i02").await;
    w.broken("i36").await;
    until(w, "2025-03-02T06:50:00Z").await;
    w.up("outlook").await;
    until(w, "2025-03-02T06:58:00Z").await;
    w.recovered("i02", "automatic").await;
    w.recovered("i36", "automatic").await;
    until(w, "2025-03-02T07:30:00Z").await;
}

async fn page(w: &World, phase: &str, status: &str, more: serde_json::Value) {
    let mut said = json!({"kind": "incident", "incident": "outlook-1", "title": "Outlook inboxes disconnected",
        "phase": phase, "body": "We reconnect all inboxes ourselves.",
        "components": [{"key": "outlook", "status": status}]});
    said.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    w.notice(said).await;
}

fn clock(hour: i64, minute: i64) -> String {
    format!("{:02}:{:02}:00", hour + minute / 60, minute % 60)
}
