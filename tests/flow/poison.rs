//! A mail that cannot be sent for hours and days: how often it is tried, what becomes of it, and that nobody else waits.

use crate::on_both;
use crate::support::{On, World};
use allclear::domain::class::Class;
use allclear::domain::time::Span;
use allclear::mail::sink::{Act, Answer, Phase, Script};
use serde_json::json;
use std::sync::atomic::{AtomicU32, Ordering};

on_both! {
    who_is_always_refused_is_tried_five_times_at_most_and_nobody_waits_for_it;
    a_relay_that_ends_sessions_because_of_our_rate_parks_nobody;
}

/// Before it knows of a recipient: that says nothing of the mail.
async fn a_relay_that_ends_sessions_because_of_our_rate_parks_nobody(on: On) {
    let offered = AtomicU32::new(0);
    let script = Script::default().answering(move |at, _, _| {
        let over = at == Phase::Mail && !offered.fetch_add(1, Ordering::Relaxed).is_multiple_of(6);
        let words = "421 4.4.2 Message submission rate for this client has exceeded the configured limit";
        over.then(|| Answer { at, act: Act::CloseAfterReply(words.to_owned()) })
    });
    let mut w = World::with(on, "2025-06-02T08:00:00Z", script, |_| {}).await;
    let keys: Vec<_> = (0..12).map(|n| format!("n{n}")).collect();
    for key in &keys {
        w.subscriber(key).await;
    }
    w.notice(json!({"kind": "free", "subject": "News", "body": "Something.", "recipients": keys})).await;
    for _ in 0..60 {
        w.pass(1).await;
        if w.sink.count() == 12 {
            break;
        }
    }
    assert_eq!(w.deliveries().await, ["free accepted"; 12]);
}

async fn who_is_always_refused_is_tried_five_times_at_most_and_nobody_waits_for_it(on: On) {
    let script = Script::default().answering(|at, to, _| {
        let act = match to.to.split('@').next()? {
            "dead" if at == Phase::Rcpt => Act::Reply("550 5.1.1 no such user".to_owned()),
            "full" if at == Phase::Rcpt => Act::Reply("552 5.2.2 mailbox full".to_owned()),
            "slow" if at == Phase::Dot => Act::Reply("550 5.7.0 too many messages, slow down".to_owned()),
            "lost" if at == Phase::Rcpt => Act::Close,
            "later" if at == Phase::Rcpt => Act::Reply("451 4.3.0 not now".to_owned()),
            _ => return None,
        };
        Some(Answer { at, act })
    });
    let at_once = |setting: &mut allclear::flow::setting::Setting| {
        let limits = setting.limits.get_mut(&Class::ActionRequired).unwrap();
        limits.dwell = Span::ZERO;
    };
    let mut w = World::with(on, "2025-06-02T08:00:00Z", script, at_once).await;
    w.component("outlook", "Outlook").await;
    for key in ["dead", "full", "slow", "lost", "later"] {
        w.subscriber(key).await;
        w.connection(key, "outlook", key).await;
        w.broken(key).await;
    }
    for n in 0..75 {
        let key = format!("n{n}");
        w.subscriber(&key).await;
        w.connection(&key, "outlook", &key).await;
        w.broken(&key).await;
        let got = w.move_to(w.now() + Span::minutes(2)).await;
        assert_eq!(got.iter().map(|mail| mail.to.clone()).collect::<Vec<_>>(), [format!("{key}@example.net")]);
    }
    const FATES: &str = "SELECT d.address, d.state, d.reason, CAST(COUNT(a.id) AS TEXT) FROM delivery d
        JOIN attempt a ON a.delivery_id = d.id WHERE d.state <> 'accepted' GROUP BY d.id, d.address, d.state, d.reason
        ORDER BY d.address";
    let fates = async |w: &World| -> Vec<String> {
        let rows = w.query(FATES).await.into_iter();
        rows.map(|row| row.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>().join(" ")).collect()
    };
    let found = fates(&w).await;
    println!("always refused: {found:?}");
    assert_eq!(found[0], "dead@example.net failed address_dead 1");
    assert_eq!(found[1], "full@example.net failed gave_up 5");
    assert!(found[2].starts_with("later@example.net queued retry "), "{}", found[2]);
    assert_eq!(found[3], "lost@example.net parked sessions_lost 5");
    assert_eq!(found[4], "slow@example.net failed gave_up 5");
    // Who is told "later" is tried for days, as RFC 5321 asks, and then set aside for a person.
    for _ in 0..75 {
        assert!(w.move_to(w.now() + Span::hours(1)).await.is_empty());
    }
    let found = fates(&w).await;
    println!("always put off: {}", found[2]);
    assert!(found[2].starts_with("later@example.net parked too_old "), "{}", found[2]);
}
