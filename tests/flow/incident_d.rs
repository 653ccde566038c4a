//! Incident D, the queue backlog of 14 December 2025 (`seeds/D-queue-backlog.txt`, all times UTC; the page gives no
//! time for *investigating*, taken as 18:40).
//!
//! Seven posts in three and a half hours, of which four change nothing: they are one mail, after two hours of silence.
//! With our own relay down from 19:20 to 21:55, what could not be sent is replaced by what is newer, and what then
//! leaves says how late it is.

use super::table::{assert_table, plain, until};
use crate::on_both;
use crate::support::{On, World};
use serde_json::json;

on_both! {
    while_the_relay_is_down_newer_updates_replace_those_not_sent;
    with_the_relay_up_posts_that_change_nothing_are_one_mail;
}

const POSTS: [(&str, &str, &str); 7] = [
    ("18:40", "investigating", "Real-time trigger campaigns are currently not triggering as expected."),
    ("18:58", "identified", "We have identified the root cause of the delay."),
    ("19:28", "monitoring", "A fix has been successfully rolled out."),
    ("20:02", "update", "The fix remains in place, and server-side processing queues continue to reduce."),
    ("20:52", "update", "Events processing queues continue to reduce."),
    ("21:59", "update", "Server-side processing queues are almost back to normal levels."),
    ("22:12", "update", "No data loss was identified during this incident."),
];

async fn course(w: &mut World, relay_fails: bool) {
    for (at, phase, body) in POSTS {
        until(w, &format!("2025-12-14T{at}:00Z")).await;
        let said = json!({"kind": "incident", "incident": "events-1", "title": "Delays in server-side event processing",
            "phase": phase, "body": body, "components": [{"key": "events"}]});
        w.notice(said).await;
        if relay_fails && at == "18:58" {
            until(w, "2025-12-14T19:20:00Z").await;
            w.sink.set_down(true);
        }
        if relay_fails && at == "20:52" {
            until(w, "2025-12-14T21:55:00Z").await;
            w.sink.set_down(false);
        }
    }
    until(w, "2025-12-15T00:30:00Z").await;
}

async fn world(on: On) -> World {
    let w = World::new(on, "2025-12-14T18:30:00Z").await;
    w.component("events", "Event processing").await;
    w.subscriber("tess").await;
    w.subscribe("tess", "events").await;
    w
}

async fn while_the_relay_is_down_newer_updates_replace_those_not_sent(on: On) {
    let mut w = world(on).await;
    course(&mut w, true).await;
    assert_table(
        w.all(),
        "UTC",
        "
        Sun 14 Dec 18:40  tess  Investigating: Event processing has degraded performance.
        Sun 14 Dec 18:58  tess  Identified: Event processing has degraded performance; the cause is known.
        Sun 14 Dec 21:55  tess  Monitoring: Event processing has degraded performance; a fix is in place and we are watching it.
        Sun 14 Dec 23:55  tess  Update: Event processing has degraded performance.
        ",
    );
    let said: Vec<_> = w.all().iter().map(plain).collect();
    // The post of 20:52 leaves at 21:55, and with it the change of phase that had not been told.
    assert!(said[2].contains("This mail reaches you 1 hour 3 minutes late."), "{}", said[2]);
    assert!(said.iter().enumerate().all(|(i, text)| (i == 2) == text.contains(" late.")), "{said:#?}");
    for (mail, (_, _, body)) in said.iter().zip([POSTS[0], POSTS[1], POSTS[4], POSTS[6]]) {
        assert!(mail.contains(body), "{body} in {mail}");
    }
    assert_eq!(
        w.deliveries().await,
        [
            "incident_update accepted",
            "incident_update accepted",
            "incident_update folded replaced_by_newer",
            "incident_update folded replaced_by_newer",
            "incident_update accepted",
            "incident_update folded replaced_by_newer",
            "incident_update accepted",
        ]
    );
    everything_is_decided(&w).await;
}

async fn with_the_relay_up_posts_that_change_nothing_are_one_mail(on: On) {
    let mut w = world(on).await;
    course(&mut w, false).await;
    assert_table(
        w.all(),
        "UTC",
        "
        Sun 14 Dec 18:40  tess  Investigating: Event processing has degraded performance.
        Sun 14 Dec 18:58  tess  Identified: Event processing has degraded performance; the cause is known.
        Sun 14 Dec 19:28  tess  Monitoring: Event processing has degraded performance; a fix is in place and we are watching it.
        Sun 14 Dec 21:28  tess  Update: Event processing has degraded performance.
        Sun 14 Dec 23:28  tess  Update: Event processing has degraded performance.
        ",
    );
    let bodies: Vec<_> = w.all().iter().map(plain).collect();
    assert!(bodies[3].contains(POSTS[4].2) && bodies[4].contains(POSTS[6].2), "the newest text: {bodies:#?}");
    assert!(w.all().iter().all(|m| !plain(m).contains(" late.")));
    everything_is_decided(&w).await;
}

/// Each of the seven posts was planned, and each of its mails has an end.
async fn everything_is_decided(w: &World) {
    let planned = w.query("SELECT outcome FROM plan WHERE done_at IS NOT NULL").await;
    assert_eq!(planned, vec![vec![Some("planned".to_owned())]; POSTS.len()]);
    let open = w.query("SELECT state FROM delivery WHERE state IN ('queued', 'sending')").await;
    assert!(open.is_empty(), "{open:?}");
    let lost = w
        .query("SELECT n.outcome FROM notice n WHERE NOT EXISTS (SELECT 1 FROM delivery d WHERE d.notice_id = n.id)")
        .await;
    assert!(lost.is_empty(), "{lost:?}");
}
