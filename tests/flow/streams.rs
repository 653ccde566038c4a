//! Streams: pauses when the relay refuses us, rate caps over all nodes, sessions over all streams.

use crate::on_both;
use crate::support::{On, World};
use allclear::domain::delivery::Reason;
use allclear::domain::id::DeliveryId;
use allclear::domain::time::{Span, Timestamp};
use allclear::flow::pace::Rate;
use allclear::flow::setting::Setting;
use allclear::flow::status::status;
use allclear::flow::worker;
use allclear::mail::sink::{Answer, Phase, Script};
use allclear::store::streams;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

on_both! {
    a_refusal_of_us_pauses_its_stream_and_no_other;
    a_mail_finds_out_that_the_pause_is_over;
    somebody_ends_the_pause_and_what_waited_leaves;
    who_says_mended_too_early_costs_one_try;
    a_mail_refused_alone_fails_and_pauses_nothing_again;
    a_refusal_of_us_that_returns_pauses_the_stream_again;
    who_found_out_about_a_pause_has_not_failed_alone;
    a_mail_that_was_put_off_often_does_not_fail_at_its_first_refusal;
    what_the_relay_refuses_is_no_outflow_and_is_told_with_its_words;
    a_relay_that_refuses_our_sender_pauses_the_stream;
    a_mail_whose_size_is_refused_with_its_sender_fails_alone;
    a_server_that_blocks_us_alone_pauses_the_stream_once;
    a_mail_no_relay_could_take_is_set_aside;
    one_slow_reply_keeps_no_other_mail_waiting;
    two_streams_keep_the_cap_of_their_relay_together;
    a_wrong_password_is_tried_once_a_quarter_of_an_hour;
    no_minute_sees_more_mails_than_the_cap_over_two_nodes;
    where_mails_leave_one_at_a_time_each_lane_has_its_turn;
    a_capped_domain_waits_and_the_others_do_not;
    a_relay_that_takes_three_sessions_is_never_given_more;
    one_session_is_enough_for_two_streams;
    where_sessions_are_few_each_dispatcher_has_a_bell_of_its_own;
    one_dead_recipient_among_many_costs_no_reconnect;
}

const START: &str = "2025-06-02T08:00:00Z";

async fn free(w: &World, recipients: &[&str]) {
    w.notice(json!({"kind": "free", "subject": "News", "body": "Something.", "recipients": recipients})).await;
}

/// Refuses mails from `status@` as long as the switch is on.
fn refusing(line: &'static str) -> (Script, Arc<AtomicBool>) {
    let refuses = Arc::new(AtomicBool::new(true));
    let switch = Arc::clone(&refuses);
    let script = Script::default().answering(move |at, to, _| {
        let refused = switch.load(Ordering::Relaxed) && to.from.starts_with("status@");
        (at == Phase::Rcpt && refused).then(|| Answer::reply(at, line))
    });
    (script, refuses)
}

async fn paused(on: On) -> (World, Arc<AtomicBool>) {
    let (script, refuses) = refusing("550 5.7.26 this mail is unauthenticated: SPF did not pass");
    let mut w = World::with(on, START, script, |_| {}).await;
    for key in ["ann", "bob", "eve"] {
        w.subscriber(key).await;
    }
    free(&w, &["ann", "bob", "eve"]).await;
    assert!(w.settle().await.is_empty());
    (w, refuses)
}

async fn pauses(w: &World) -> Vec<String> {
    let mut tx = w.store.read().await.unwrap();
    streams::pauses(&mut tx).await.unwrap().into_iter().map(|p| format!("{} {}", p.stream, p.kind)).collect()
}

async fn attempts(w: &World) -> usize {
    w.query("SELECT kind FROM attempt").await.len()
}

async fn a_refusal_of_us_pauses_its_stream_and_no_other(on: On) {
    let (mut w, _) = paused(on).await;
    assert_eq!(pauses(&w).await, ["incidents our_authentication"]);
    assert!(w.deliveries().await.iter().all(|d| d.starts_with("free queued")), "{:?}", w.deliveries().await);
    assert!(w.query("SELECT address FROM suppression").await.is_empty());
    let tried = attempts(&w).await;
    free(&w, &["ann"]).await;
    assert!(w.settle().await.is_empty());
    let newest = newest(&w).await;
    let mut tx = w.store.read().await.unwrap();
    let why = allclear::flow::look::why_waiting(&mut tx, &w.shared.setting, &[newest]).await.unwrap();
    assert_eq!(why.get(&newest), Some(&Reason::StreamPaused), "and whoever asks is told why");
    drop(tx);
    w.component("imap", "Mail sync").await;
    w.connection("inbox", "imap", "ann").await;
    w.broken("inbox").await;
    let got = w.pass(10).await;
    assert_eq!(got.len(), 1, "the other stream goes on");
    assert_eq!(attempts(&w).await, tried + 1, "nothing of the paused stream is tried");
    // Told once, however often it is found again.
    assert!(w.pass(120).await.is_empty());
    assert_eq!(w.query("SELECT detail FROM journal WHERE action = 'pause_stream'").await.len(), 1);
    let probes: i64 =
        w.query("SELECT CAST(probes AS TEXT) FROM stream_pause").await[0][0].clone().unwrap().parse().unwrap();
    assert!((7..=9).contains(&probes), "one mail a quarter of an hour: {probes}");
}

async fn newest(w: &World) -> DeliveryId {
    let hex = if w.url.starts_with("sqlite") {
        w.query("SELECT hex(id) FROM delivery ORDER BY id DESC LIMIT 1").await
    } else {
        w.query("SELECT CAST(id AS TEXT) FROM delivery ORDER BY id DESC LIMIT 1").await
    };
    DeliveryId(hex[0][0].clone().unwrap().parse().unwrap())
}

async fn a_mail_finds_out_that_the_pause_is_over(on: On) {
    let (mut w, refuses) = paused(on).await;
    refuses.store(false, Ordering::Relaxed);
    assert!(w.pass(14).await.is_empty());
    let got = w.pass(1).await;
    assert_eq!(got.len(), 3, "the first finds out, the others follow");
    assert!(pauses(&w).await.is_empty());
    assert_eq!(w.deliveries().await, ["free accepted"; 3]);
}

async fn somebody_ends_the_pause_and_what_waited_leaves(on: On) {
    let (mut w, refuses) = paused(on).await;
    refuses.store(false, Ordering::Relaxed);
    let mut tx = w.store.begin().await.unwrap();
    assert!(streams::resume(&mut tx, "incidents", "jo", "SPF is mended").await.unwrap());
    assert!(!streams::resume(&mut tx, "account", "jo", "not paused").await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(w.settle().await.len(), 3);
    assert!(pauses(&w).await.is_empty());
}

async fn who_says_mended_too_early_costs_one_try(on: On) {
    let (mut w, _) = paused(on).await;
    let tried = attempts(&w).await;
    let mut tx = w.store.begin().await.unwrap();
    assert!(streams::resume(&mut tx, "incidents", "jo", "I think so").await.unwrap());
    tx.commit().await.unwrap();
    assert!(w.settle().await.is_empty());
    assert_eq!(attempts(&w).await, tried + 1);
    assert_eq!(pauses(&w).await, ["incidents our_authentication"]);
    assert!(w.deliveries().await.iter().all(|d| d.starts_with("free queued")), "{:?}", w.deliveries().await);
}

async fn a_mail_refused_alone_fails_and_pauses_nothing_again(on: On) {
    let script = Script::default().answering(|at, to, _| {
        let refused = at == Phase::Rcpt && to.to.starts_with("odd");
        refused.then(|| Answer::reply(at, "550 5.7.1 your IP is on the block list bl.example"))
    });
    let mut w = World::with(on, START, script, |_| {}).await;
    for key in ["odd", "ann"] {
        w.subscriber(key).await;
    }
    free(&w, &["odd"]).await;
    assert!(w.settle().await.is_empty());
    assert_eq!(pauses(&w).await, ["incidents our_reputation"]);
    free(&w, &["ann"]).await;
    let got = w.pass(60).await;
    assert_eq!(got.len(), 1);
    assert!(pauses(&w).await.is_empty());
    assert_eq!(w.deliveries().await, ["free failed refused", "free accepted"]);
    assert_eq!(w.query("SELECT stream FROM stream_pause").await.len(), 1);
}

async fn a_refusal_of_us_that_returns_pauses_the_stream_again(on: On) {
    let (mut w, refuses) = paused(on).await;
    refuses.store(false, Ordering::Relaxed);
    assert_eq!(w.pass(35).await.len(), 3);
    assert!(pauses(&w).await.is_empty());
    // All are of one domain, which was refused before: nobody gets through, so nobody has failed alone.
    refuses.store(true, Ordering::Relaxed);
    free(&w, &["bob", "eve"]).await;
    assert!(w.pass(120).await.is_empty());
    assert_eq!(pauses(&w).await, ["incidents our_authentication"]);
    assert_eq!(w.deliveries().await.iter().filter(|d| d.starts_with("free queued")).count(), 2);
    refuses.store(false, Ordering::Relaxed);
    assert_eq!(w.pass(45).await.len(), 2);
}

/// One of a relay's servers does not know yet that all is mended.
async fn who_found_out_about_a_pause_has_not_failed_alone(on: On) {
    let refuses = Arc::new(AtomicBool::new(true));
    let switch = Arc::clone(&refuses);
    let script = Script::default().answering(move |at, to, nth| {
        let late = to.to.starts_with("bob") && nth < 5;
        let refused = at == Phase::Rcpt && (switch.load(Ordering::Relaxed) || late);
        refused.then(|| Answer::reply(at, "550 5.7.26 this mail is unauthenticated: SPF did not pass"))
    });
    let mut w = World::with(on, START, script, |_| {}).await;
    for key in ["ann", "bob"] {
        w.subscriber(key).await;
    }
    free(&w, &["bob"]).await;
    assert!(w.pass(65).await.is_empty());
    let tried = w.query("SELECT CAST(COUNT(*) AS TEXT) FROM attempt").await;
    assert_eq!(tried, [[Some("3".to_owned())]]);
    free(&w, &["ann"]).await;
    refuses.store(false, Ordering::Relaxed);
    w.pass(120).await;
    assert_eq!(w.deliveries().await, ["free accepted", "free accepted"]);
}

async fn a_mail_that_was_put_off_often_does_not_fail_at_its_first_refusal(on: On) {
    let script = Script::default().answering(|at, _, nth| {
        let line = if nth < 5 { "451 4.3.0 try again later" } else { "552 5.2.2 mailbox full" };
        (at == Phase::Rcpt && nth < 6).then(|| Answer::reply(at, line))
    });
    let mut w = World::with(on, START, script, |_| {}).await;
    w.subscriber("ann").await;
    free(&w, &["ann"]).await;
    w.pass(120).await;
    assert_eq!(w.deliveries().await, ["free accepted"]);
}

/// Said to `MAIL`, or of the sender at `RCPT`: nobody of the stream gets through, so nobody's mail fails.
async fn what_the_relay_refuses_is_no_outflow_and_is_told_with_its_words(on: On) {
    let (script, _) = refusing("550 Administrative prohibition");
    let mut w = World::with(on, START, script, |_| {}).await;
    let keys: Vec<_> = (0..12).map(|n| format!("p{n}")).collect();
    for key in &keys {
        w.subscriber(key).await;
    }
    free(&w, &keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert!(w.settle().await.is_empty());
    assert!(w.deliveries().await.iter().all(|d| d.starts_with("free failed")), "{:?}", w.deliveries().await);
    let seen = status(&mut w.store.read().await.unwrap(), &w.shared.setting).await.unwrap();
    let rates = json!([seen.in_per_minute, seen.out_per_minute, seen.refused_per_minute]);
    assert_eq!(rates, json!([2.4, 0.0, 2.4]), "twelve in five minutes");
    assert!(seen.is_mostly_refused());
    assert_eq!(seen.refusal.as_deref(), Some("550 Administrative prohibition"));
    w.pass(6).await;
    let later = status(&mut w.store.read().await.unwrap(), &w.shared.setting).await.unwrap();
    assert!(!later.is_mostly_refused() && later.refusal.is_none());
}

async fn a_relay_that_refuses_our_sender_pauses_the_stream(on: On) {
    for (point, line) in [
        (Phase::Mail, "550 5.7.1 Sender <status@example.com> not allowed"),
        (Phase::Mail, "501 mail from address must be same as authorization user"),
        (Phase::Mail, "550 5.7.1 Too many messages from your account, slow down"),
        (Phase::Mail, "503 AUTH first (#5.5.1)"),
        (Phase::Mail, "550 5.1.1 no such user"),
        (Phase::Rcpt, "553 5.7.1 <status@example.com>: Sender address rejected: not logged in"),
        (Phase::Dot, "550 Please turn on SMTP Authentication in your mail client"),
    ] {
        let refuses = Arc::new(AtomicBool::new(true));
        let switch = Arc::clone(&refuses);
        let script = Script::default().answering(move |at, _, _| {
            (at == point && switch.load(Ordering::Relaxed)).then(|| Answer::reply(at, line))
        });
        let mut w = World::with(on, START, script, |_| {}).await;
        for key in ["ann", "bob", "eve"] {
            w.subscriber(key).await;
        }
        free(&w, &["ann", "bob", "eve"]).await;
        assert!(w.pass(60).await.is_empty(), "{line}");
        assert_eq!(pauses(&w).await, ["incidents credentials"], "{line}");
        assert!(
            w.deliveries().await.iter().all(|d| d.starts_with("free queued")),
            "{line}: {:?}",
            w.deliveries().await
        );
        assert!(w.query("SELECT address FROM suppression").await.is_empty(), "{line}");
        refuses.store(false, Ordering::Relaxed);
        assert_eq!(w.pass(60).await.len(), 3, "{line}");
    }
}

async fn a_mail_whose_size_is_refused_with_its_sender_fails_alone(on: On) {
    let script = Script::default().answering(|at, _, nth| {
        (at == Phase::Mail && nth == 1).then(|| Answer::reply(at, "552 5.3.4 Message size exceeds fixed limit"))
    });
    let mut w = World::with(on, START, script, |_| {}).await;
    w.subscriber("ann").await;
    free(&w, &["ann"]).await;
    assert!(w.pass(5).await.is_empty());
    assert!(pauses(&w).await.is_empty());
    assert_eq!(w.deliveries().await, ["free failed message_at_fault"]);
}

async fn a_wrong_password_is_tried_once_a_quarter_of_an_hour(on: On) {
    use allclear::mail::{Login, Secret};
    let script = Script { login: Some(("user".into(), "right".into())), ..Script::default() };
    let wrong = |relay: &mut allclear::mail::Relay| {
        relay.login = Some(Login { user: "user".into(), password: Secret::new("wrong") });
    };
    let mut w = World::with_relay(on, START, script, |_| {}, wrong).await;
    w.subscriber("ann").await;
    free(&w, &["ann"]).await;
    assert!(w.settle().await.is_empty());
    assert_eq!(pauses(&w).await, ["incidents credentials"]);
    assert!(w.pass(59).await.is_empty());
    assert!(w.sink.sessions() <= 5, "{} logins in an hour", w.sink.sessions());
    let rows = w.query("SELECT state, CAST(tries AS TEXT) FROM delivery").await;
    assert_eq!(rows, [[Some("queued".to_owned()), Some("0".to_owned())]], "no mail was at fault");
}

/// A subscriber at a domain of their own.
async fn subscriber_at(w: &World, key: &str, domain: &str) {
    let mut tx = w.store.begin().await.unwrap();
    let row = allclear::store::setup::SubscriberRow {
        key: key.into(),
        address: format!("{key}@{domain}"),
        name: None,
        locale: "en".into(),
        zone: "UTC".into(),
        attributes: vec![],
    };
    allclear::store::setup::put_subscriber(&mut tx, &row).await.unwrap();
    tx.commit().await.unwrap();
}

async fn a_server_that_blocks_us_alone_pauses_the_stream_once(on: On) {
    let script = Script::default().answering(|at, to, _| {
        let refused = at == Phase::Rcpt && to.to.ends_with("@strict.example.org");
        refused.then(|| Answer::reply(at, "550 5.7.1 blocked using bl.example, your IP is listed"))
    });
    let mut w = World::with(on, START, script, |_| {}).await;
    let mut keys = Vec::new();
    for n in 0..12 {
        let key = format!("r{n}");
        subscriber_at(&w, &key, if n % 3 == 0 { "strict.example.org" } else { "example.net" }).await;
        keys.push(key);
    }
    free(&w, &keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let got = w.pass(90).await;
    assert_eq!(got.len(), 8, "{:?}", w.deliveries().await);
    w.pass(300).await;
    assert_eq!(w.all().len(), 8);
    assert_eq!(w.query("SELECT stream FROM stream_pause").await.len(), 1);
    assert_eq!(w.deliveries().await.iter().filter(|d| *d == "free failed refused").count(), 4);
}

async fn a_mail_no_relay_could_take_is_set_aside(on: On) {
    let wrong = |setting: &mut Setting| {
        setting.streams.iter_mut().for_each(|stream| stream.reply_to = Some("müller@example.com".to_owned()));
    };
    let mut w = World::with(on, START, Script::default(), wrong).await;
    w.subscriber("ann").await;
    free(&w, &["ann"]).await;
    assert!(w.pass(10).await.is_empty());
    assert_eq!(w.deliveries().await, ["free parked template_fault"]);
    assert_eq!(attempts(&w).await, 0);
}

async fn one_slow_reply_keeps_no_other_mail_waiting(on: On) {
    use allclear::mail::sink::Act;
    let script = Script::default().answering(|at, to, _| {
        (at == Phase::Dot && to.to.starts_with("slow")).then_some(Answer { at, act: Act::Stall })
    });
    let mut w = World::with(on, START, script, |_| {}).await;
    let mut keys = vec!["slow1".to_owned(), "slow2".to_owned()];
    keys.extend((0..18).map(|n| format!("r{n}")));
    for key in &keys {
        w.subscriber(key).await;
    }
    free(&w, &keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
    // The two hang for as long as a dialogue may; nobody else waits for them.
    let quick = tokio::time::timeout(Duration::from_secs(15), w.sink.wait_for(18));
    tokio::select! {
        done = quick => done.unwrap(),
        settled = w.worker.settle() => panic!("the slow ones were waited for: {settled:?}"),
    }
    w.settle().await;
}

async fn two_streams_keep_the_cap_of_their_relay_together(on: On) {
    let shared = |setting: &mut Setting| {
        let cap = Some(("main".to_owned(), Rate::per_minute(30)));
        setting.streams.iter_mut().for_each(|stream| stream.caps.relay.clone_from(&cap));
    };
    let three = |relay: &mut allclear::mail::Relay| relay.sessions = Some(3);
    let mut w = World::with_relay(on, START, Script::default(), shared, three).await;
    let keys: Vec<String> = (0..25).map(|n| format!("r{n}")).collect();
    w.component("imap", "Mail sync").await;
    for key in &keys {
        w.subscriber(key).await;
        w.connection(key, "imap", key).await;
        w.broken(key).await;
    }
    w.clock.set(w.now() + Span::minutes(6));
    free(&w, &keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut times = Vec::new();
    let mut at = w.now() + Span::minutes(6);
    let end = at + Span::minutes(3);
    while at < end {
        times.extend(w.move_to(at).await.iter().map(|got| got.at));
        at = at + Span::seconds(1);
    }
    assert_eq!(times.len(), 50);
    assert!(most_a_minute(&times) <= 30, "{}", most_a_minute(&times));
    assert!(w.sink.most_open() <= 3 && w.sink.sessions() <= 12, "{} sessions", w.sink.sessions());
}

fn capped(overall: Option<u32>, domain: Option<u32>) -> impl FnOnce(&mut Setting) {
    move |setting| {
        for stream in &mut setting.streams {
            stream.caps.overall = overall.map(Rate::per_minute);
            stream.caps.domain = domain.map(Rate::per_minute);
        }
    }
}

/// The most mails within any minute.
fn most_a_minute(times: &[Timestamp]) -> usize {
    let within =
        |first: &Timestamp| times.iter().filter(|t| **t >= *first && (**t - *first) < Span::minutes(1)).count();
    times.iter().map(within).max().unwrap_or_default()
}

async fn no_minute_sees_more_mails_than_the_cap_over_two_nodes(on: On) {
    let mut w = World::with(on, START, Script::default(), capped(Some(30), None)).await;
    let keys: Vec<String> = (0..100).map(|n| format!("r{n}")).collect();
    for key in &keys {
        w.subscriber(key).await;
    }
    free(&w, &keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut other = w.another("other");
    let (mut times, mut seen) = (Vec::new(), 0);
    let end = w.now() + Span::minutes(5);
    while w.now() < end {
        let at = w.now() + Span::seconds(1);
        if at.0 / 1_000_000 % 2 == 0 {
            w.clock.set(at);
            other.settle().await.unwrap();
        }
        w.move_to(at).await;
        times.extend(std::iter::repeat_n(at, w.all().len() - seen));
        seen = w.all().len();
    }
    assert_eq!(times.len(), 100, "all of them leave");
    assert!(most_a_minute(&times) <= 30, "{}", most_a_minute(&times));
    let took = (*times.last().unwrap() - times[0]).as_seconds();
    assert!(took < 230, "and no slower than the cap wants: {took} s");
}

async fn where_mails_leave_one_at_a_time_each_lane_has_its_turn(on: On) {
    let mut w = World::with(on, START, Script::default(), capped(Some(60), None)).await;
    w.component("outlook", "Outlook").await;
    for n in 0..41 {
        let key = format!("r{n}");
        w.subscriber(&key).await;
        w.connection(&key, "outlook", &key).await;
    }
    w.broken("r0").await;
    w.pass(6).await;
    for n in 1..41 {
        w.broken(&format!("r{n}")).await;
    }
    w.pass(5).await;
    assert!((2..12).contains(&w.all().len()), "they have begun to leave: {}", w.all().len());
    w.recovered("r0", "automatic").await;
    let before = w.all().len();
    for _ in 0..60 {
        let at = w.now() + Span::seconds(1);
        w.move_to(at).await;
    }
    let first = w.all()[before..].iter().position(|m| m.to == "r0@example.net");
    assert!(first.is_some_and(|place| place < 4), "{first:?} of {}", w.all().len() - before);
    assert_eq!(w.all().len(), 42);
}

async fn a_capped_domain_waits_and_the_others_do_not(on: On) {
    let mut w = World::with(on, START, Script::default(), capped(None, Some(10))).await;
    let mut keys: Vec<String> = (0..40).map(|n| format!("r{n}")).collect();
    for key in &keys {
        w.subscriber(key).await;
    }
    subscriber_at(&w, "other", "example.org").await;
    keys.push("other".into());
    free(&w, &keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let first = w.settle().await;
    assert!(first.iter().any(|m| m.to == "other@example.org"), "last in the queue, first to leave");
    assert!(first.len() < 5);
    let waiting =
        w.query("SELECT reason, CAST(COUNT(*) AS TEXT) FROM delivery WHERE state = 'queued' GROUP BY reason").await;
    assert_eq!(waiting[0][0].as_deref(), Some("paced"), "{waiting:?}");
    let mut per_time: BTreeMap<Timestamp, usize> = BTreeMap::new();
    for _ in 0..360 {
        let at = w.now() + Span::seconds(1);
        *per_time.entry(at).or_default() += w.move_to(at).await.len();
    }
    let mut times = vec![t0(); first.len() - 1];
    times.extend(per_time.iter().flat_map(|(at, n)| std::iter::repeat_n(*at, *n)));
    assert_eq!(w.all().len(), 41, "{:?}", w.deliveries().await);
    assert!(most_a_minute(&times) <= 10, "{}", most_a_minute(&times));
}

fn t0() -> Timestamp {
    crate::support::t(START)
}

async fn a_relay_that_takes_three_sessions_is_never_given_more(on: On) {
    let many = |setting: &mut Setting| setting.streams.iter_mut().for_each(|stream| stream.slots = 8);
    let mut w = World::with_relay(on, START, Script::default(), many, |relay| relay.sessions = Some(3)).await;
    let keys: Vec<String> = (0..60).map(|n| format!("r{n}")).collect();
    w.component("imap", "Mail sync").await;
    for key in &keys {
        w.subscriber(key).await;
        w.connection(key, "imap", key).await;
        w.broken(key).await;
    }
    w.clock.set(w.now() + Span::minutes(6));
    free(&w, &keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(w.move_to(w.now() + Span::minutes(6)).await.len(), 120);
    assert!(w.sink.most_open() <= 3, "{} at once", w.sink.most_open());
}

async fn one_session_is_enough_for_two_streams(on: On) {
    let w = World::with_relay(on, START, Script::default(), |_| {}, |relay| relay.sessions = Some(1)).await;
    let keys: Vec<String> = (0..40).map(|n| format!("r{n}")).collect();
    w.component("imap", "Mail sync").await;
    for key in &keys {
        w.subscriber(key).await;
        w.connection(key, "imap", key).await;
        w.broken(key).await;
    }
    w.clock.set(w.now() + Span::minutes(6));
    free(&w, &keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
    // Both streams at once, as `serve` runs them: neither shuts the other out.
    worker::plan_all(&w.shared).await.unwrap();
    let mut loops = tokio::task::JoinSet::new();
    for mut dispatcher in worker::dispatchers(&w.shared, &w.transports, 1) {
        let bell = Arc::clone(dispatcher.bell());
        loops.spawn(async move {
            loop {
                dispatcher.drain(|| false).await.unwrap();
                // Who waits for the session must not take the processor from who has it.
                let _ = tokio::time::timeout(Duration::from_millis(10), bell.notified()).await;
            }
        });
    }
    tokio::time::timeout(Duration::from_secs(60), w.sink.wait_for(80)).await.unwrap();
    loops.shutdown().await;
    assert_eq!(w.sink.most_open(), 1);
    assert!(w.sink.sessions() <= 10, "{} sessions", w.sink.sessions());
}

/// One is woken for a mail; but where the relay has few sessions, that one may have none.
async fn where_sessions_are_few_each_dispatcher_has_a_bell_of_its_own(on: On) {
    for (sessions, is_shared) in [(None, true), (Some(8), false)] {
        let w = World::with_relay(on, START, Script::default(), |_| {}, |relay| relay.sessions = sessions).await;
        let all = worker::dispatchers(&w.shared, &w.transports, 2);
        let [one, sibling, other, _] = all.as_slice() else { panic!("{} dispatchers of two streams", all.len()) };
        assert_eq!(Arc::ptr_eq(one.bell(), sibling.bell()), is_shared);
        assert!(!Arc::ptr_eq(sibling.bell(), other.bell()), "of another stream");
    }
}

async fn one_dead_recipient_among_many_costs_no_reconnect(on: On) {
    let script = Script::default().answering(|at, to, _| {
        (at == Phase::Rcpt && to.to.starts_with("dead")).then(|| Answer::reply(at, "550 5.1.1 no such user"))
    });
    let one = |setting: &mut Setting| setting.streams.iter_mut().for_each(|stream| stream.slots = 1);
    let mut w = World::with(on, START, script, one).await;
    let mut keys: Vec<String> = (0..200).map(|n| format!("r{n}")).collect();
    keys.insert(100, "dead".into());
    for key in &keys {
        w.subscriber(key).await;
    }
    free(&w, &keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(w.settle().await.len(), 200);
    assert_eq!(w.sink.sessions(), 1);
}
