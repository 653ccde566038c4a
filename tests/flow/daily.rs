//! The daily cap: what goes beyond what a subscriber gets in a day waits for room, is replaced by what is newer, and is
//! never lost. What is urgent, corrections and ends do not wait.

use super::table::{assert_table, until};
use crate::on_both;
use crate::support::{On, World};
use allclear::domain::class::Class;
use allclear::domain::time::Span;
use allclear::flow::setting::Setting;
use allclear::flow::show::{self, Asked};
use allclear::mail::sink::Script;
use allclear::store::search::Cursor;
use serde_json::json;

on_both! {
    the_fifth_mail_of_a_day_leaves_when_the_first_is_a_day_old;
    what_waits_for_the_cap_is_replaced_by_what_is_newer;
    what_waits_for_the_cap_and_heals_is_never_mailed;
    a_fault_of_its_own_a_correction_and_an_end_do_not_wait;
    what_gets_worse_does_not_wait_and_takes_what_waited_with_it;
    nobody_waits_for_the_cap_longer_than_the_longest_hold;
    nothing_waits_for_the_cap_until_it_is_too_old;
    two_mails_of_one_claim_do_not_go_beyond_the_cap_together;
    whoever_takes_the_cap_away_gets_every_mail;
}

const START: &str = "2025-06-02T08:00:00Z";

async fn world(on: On, caps: &'static [(Class, u32)]) -> World {
    let change = move |setting: &mut Setting| {
        for (class, cap) in caps {
            setting.limits.get_mut(class).unwrap().daily_mails = Some(*cap).filter(|cap| *cap > 0);
        }
    };
    let w = World::with(on, START, Script::default(), change).await;
    for key in ["outlook", "imap"] {
        w.component(key, key).await;
    }
    for key in ["ann", "bob"] {
        w.subscriber(key).await;
        w.subscribe(key, "imap").await;
    }
    w.connection("inbox", "imap", "ann").await;
    w.connection("second", "outlook", "ann").await;
    w
}

async fn free(w: &World, subject: &str, recipients: &[&str]) {
    w.notice(json!({"kind": "free", "subject": subject, "body": "Something.", "recipients": recipients})).await;
}

async fn incident(w: &World, id: &str, phase: &str, impact: &str, status: &str) {
    w.notice(json!({"kind": "incident", "incident": id, "title": id, "phase": phase, "impact": impact,
        "body": phase, "components": [{"key": "imap", "status": status}]}))
        .await;
}

fn subjects(w: &World) -> Vec<&str> {
    w.all().iter().map(|got| got.subject.as_str()).collect()
}

async fn the_fifth_mail_of_a_day_leaves_when_the_first_is_a_day_old(on: On) {
    let mut w = world(on, &[]).await;
    for n in 1..=5 {
        free(&w, &format!("News {n}"), &["ann"]).await;
        w.pass(10).await;
    }
    free(&w, "For bob", &["bob"]).await;
    w.pass(1).await;
    assert_eq!(subjects(&w), ["News 1", "News 2", "News 3", "News 4", "For bob"]);
    assert_eq!(w.deliveries().await[4], "free queued daily_cap");
    let asked = Asked { setting: &w.shared.setting, after: Cursor::NEWEST, limit: 10 };
    let shown = show::anything(&mut w.store.read().await.unwrap(), asked, "ann").await.unwrap();
    let told = serde_json::to_string(&shown).unwrap();
    assert!(told.contains("as many mails of this kind in the last 24 hours"), "{told}");
    until(&mut w, "2025-06-03T08:00:00Z").await;
    assert_eq!(w.all().len(), 5, "not before there is room");
    w.pass(2).await;
    assert_eq!(subjects(&w)[5], "News 5");
}

async fn what_waits_for_the_cap_is_replaced_by_what_is_newer(on: On) {
    let mut w = world(on, &[(Class::IncidentUpdate, 1)]).await;
    for phase in ["investigating", "identified", "monitoring"] {
        incident(&w, "INC-1", phase, "minor", "degraded_performance").await;
        w.pass(30).await;
    }
    assert_eq!(
        w.deliveries().await.iter().filter(|d| d.contains("folded replaced_by_newer")).count(),
        2,
        "the newest waits: {:?}",
        w.deliveries().await
    );
    until(&mut w, "2025-06-03T09:00:00Z").await;
    assert_table(
        w.all(),
        "UTC",
        "Mon 2 Jun 08:01 ann Investigating: imap has degraded performance.
         Mon 2 Jun 08:01 bob Investigating: imap has degraded performance.
         Tue 3 Jun 08:01 ann Monitoring: imap has degraded performance; a fix is in place and we are watching it.
         Tue 3 Jun 08:01 bob Monitoring: imap has degraded performance; a fix is in place and we are watching it.",
    );
}

async fn what_waits_for_the_cap_and_heals_is_never_mailed(on: On) {
    let mut w = world(on, &[(Class::ActionRequired, 1)]).await;
    w.broken("inbox").await;
    w.pass(10).await;
    w.broken("second").await;
    w.pass(60).await;
    assert_eq!(w.deliveries().await, ["action_required accepted", "action_required queued daily_cap"]);
    w.recovered("second", "automatic").await;
    until(&mut w, "2025-06-04T08:00:00Z").await;
    assert_table(w.all(), "UTC", "Mon 2 Jun 08:05 ann please reconnect: Inbox inbox");
    assert_eq!(w.deliveries().await, ["action_required accepted", "action_required withdrawn recovered"]);
}

async fn a_fault_of_its_own_a_correction_and_an_end_do_not_wait(on: On) {
    let caps = &[(Class::ActionRequired, 1), (Class::IncidentUpdate, 1)];
    let mut w = world(on, caps).await;
    incident(&w, "INC-1", "investigating", "minor", "degraded_performance").await;
    w.broken("inbox").await;
    w.pass(10).await;
    w.signal(json!({"connection": "second", "what": "failed", "fault": "permanent"})).await;
    w.signal(json!({"connection": "second", "what": "recovery_failed"})).await;
    w.recovered("inbox", "automatic").await;
    incident(&w, "INC-1", "resolved", "minor", "operational").await;
    w.pass(10).await;
    assert_table(
        w.all(),
        "UTC",
        "Mon 2 Jun 08:01 ann Investigating: imap has degraded performance.
         Mon 2 Jun 08:01 bob Investigating: imap has degraded performance.
         Mon 2 Jun 08:05 ann please reconnect: Inbox inbox
         Mon 2 Jun 08:11 ann Resolved: imap works normally again.
         Mon 2 Jun 08:11 ann no action needed: Inbox inbox
         Mon 2 Jun 08:11 ann please reconnect: Inbox second
         Mon 2 Jun 08:11 bob Resolved: imap works normally again.",
    );
}

async fn what_gets_worse_does_not_wait_and_takes_what_waited_with_it(on: On) {
    let mut w = world(on, &[(Class::IncidentUpdate, 1)]).await;
    incident(&w, "INC-1", "investigating", "minor", "degraded_performance").await;
    w.pass(10).await;
    incident(&w, "INC-1", "identified", "minor", "degraded_performance").await;
    w.pass(10).await;
    assert_eq!(w.all().len(), 2);
    incident(&w, "INC-1", "identified", "major", "major_outage").await;
    w.pass(1).await;
    assert_eq!(w.all().len(), 4, "{:?}", w.deliveries().await);
    // The first word of another incident waits, unless it is of a major one.
    incident(&w, "INC-2", "investigating", "minor", "degraded_performance").await;
    w.pass(31).await;
    assert_eq!(w.all().len(), 4, "{:?}", w.deliveries().await);
}

async fn nobody_waits_for_the_cap_longer_than_the_longest_hold(on: On) {
    let mut w = world(on, &[(Class::ActionRequired, 1)]).await;
    w.broken("inbox").await;
    w.pass(10).await;
    w.broken("second").await;
    // Its component goes down while it waits: the longest hold is over all the same twelve hours after its failure.
    until(&mut w, "2025-06-02T12:00:00Z").await;
    w.down("outlook").await;
    until(&mut w, "2025-06-03T12:00:00Z").await;
    assert_table(
        w.all(),
        "UTC",
        "Mon 2 Jun 08:05 ann please reconnect: Inbox inbox
         Mon 2 Jun 20:10 ann please reconnect: Inbox second",
    );
}

async fn nothing_waits_for_the_cap_until_it_is_too_old(on: On) {
    let mut w = world(on, &[(Class::IncidentUpdate, 1)]).await;
    incident(&w, "one", "investigating", "minor", "degraded_performance").await;
    incident(&w, "two", "investigating", "minor", "partial_outage").await;
    w.pass(10).await;
    assert_eq!(w.all().len(), 2, "one for each subscriber: {:?}", subjects(&w));
    until(&mut w, "2025-06-03T09:00:00Z").await;
    assert_eq!(w.all().len(), 4, "{:?}", w.deliveries().await);
}

async fn two_mails_of_one_claim_do_not_go_beyond_the_cap_together(on: On) {
    let mut w = world(on, &[(Class::Free, 2)]).await;
    for n in 1..=3 {
        free(&w, &format!("News {n}"), &["ann", "bob"]).await;
    }
    w.pass(1).await;
    assert_eq!(w.all().len(), 4, "{:?}", subjects(&w));
    w.move_to(w.now() + Span::hours(24)).await;
    assert_eq!(w.all().len(), 6);
}

async fn whoever_takes_the_cap_away_gets_every_mail(on: On) {
    let mut w = world(on, &[(Class::Free, 0)]).await;
    for n in 1..=20 {
        free(&w, &format!("News {n}"), &["ann"]).await;
    }
    w.pass(1).await;
    assert_eq!(w.all().len(), 20);
}
