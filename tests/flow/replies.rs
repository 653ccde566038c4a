//! What follows from each kind of "no", for the mail, the address and the stream; and real replies, where they lie.

use crate::on_both;
use crate::support::{On, World};
use allclear::domain::time::Timestamp;
use allclear::mail::sink::{Answer, Phase, Script};
use allclear::store::{streams, suppressions};
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

on_both! {
    a_dead_address_is_suppressed_and_nobody_else;
    a_lifted_suppression_lets_mail_go_again;
    a_dead_address_is_dead_whatever_its_case;
    a_full_mailbox_is_tried_again_whatever_the_first_digit;
    greylisting_is_given_its_five_minutes;
    what_we_have_used_up_for_the_day_is_waited_for;
    what_is_said_of_our_sender_silences_no_recipient;
    a_421_about_a_mail_puts_off_that_mail_alone;
    real_replies_lead_to_the_right_state_retry_and_suppression;
}

const START: &str = "2025-06-02T08:00:00Z";
const ROW: &str = "SELECT state, reason, CAST(due_at AS TEXT), CAST(tries AS TEXT) FROM delivery ORDER BY id";

/// A world in which `ann` meets a reply at a point, and `bob` meets none.
async fn world(on: On, at: Phase, line: &'static str) -> World {
    let script = Script::default()
        .answering(move |phase, to, _| (phase == at && to.to.starts_with("ann")).then(|| Answer::reply(at, line)));
    let w = World::with(on, START, script, |_| {}).await;
    w.subscriber("ann").await;
    w.subscriber("bob").await;
    w
}

async fn free(w: &World, recipients: &[&str]) {
    w.notice(json!({"kind": "free", "subject": "News", "body": "Something.", "recipients": recipients})).await;
}

async fn row(w: &World) -> (String, String, Timestamp, String) {
    let row = w.query(ROW).await.remove(0);
    let text = |i: usize| row[i].clone().unwrap_or_default();
    (text(0), text(1), Timestamp(text(2).parse().unwrap()), text(3))
}

async fn suppressed(w: &World, key: &str) -> bool {
    let mut tx = w.store.read().await.unwrap();
    suppressions::of_address(&mut tx, &format!("{key}@example.net")).await.unwrap().is_some()
}

async fn a_dead_address_is_suppressed_and_nobody_else(on: On) {
    for at in [Phase::Rcpt, Phase::Dot] {
        let mut w = world(on, at, "550 5.1.1 no such user here").await;
        free(&w, &["ann", "bob"]).await;
        assert_eq!(w.settle().await.len(), 1);
        let mut states = w.deliveries().await;
        states.sort();
        assert_eq!(states, ["free accepted", "free failed address_dead"]);
        assert!(suppressed(&w, "ann").await && !suppressed(&w, "bob").await);
        let mut tx = w.store.read().await.unwrap();
        let found = suppressions::of_address(&mut tx, "ann@example.net").await.unwrap().unwrap();
        assert!(found.evidence.unwrap().contains("550 5.1.1 no such user here"), "the relay's words are kept");
        drop(tx);
        // The next mail to it is not even tried.
        free(&w, &["ann"]).await;
        assert!(w.settle().await.is_empty());
        assert_eq!(w.deliveries().await[2], "free suppressed suppressed");
        assert_eq!(w.query("SELECT kind FROM attempt WHERE kind IS NOT NULL").await.len(), 1);
    }
}

async fn a_lifted_suppression_lets_mail_go_again(on: On) {
    let script = Script::default()
        .answering(|at, _, nth| (at == Phase::Rcpt && nth == 1).then(|| Answer::reply(at, "550 5.1.1 unknown")));
    let mut w = World::with(on, START, script, |_| {}).await;
    w.subscriber("ann").await;
    free(&w, &["ann"]).await;
    assert!(w.settle().await.is_empty());
    let mut tx = w.store.begin().await.unwrap();
    assert!(suppressions::lift(&mut tx, "ann@example.net", "jo", "called us").await.unwrap());
    assert!(!suppressions::lift(&mut tx, "ann@example.net", "jo", "called us").await.unwrap());
    tx.commit().await.unwrap();
    free(&w, &["ann"]).await;
    assert_eq!(w.settle().await.len(), 1);
    assert_eq!(w.query("SELECT detail FROM journal WHERE action = 'lift_suppression'").await.len(), 1);
}

async fn a_dead_address_is_dead_whatever_its_case(on: On) {
    let mut w = world(on, Phase::Rcpt, "550 5.1.1 unknown").await;
    free(&w, &["ann"]).await;
    w.settle().await;
    w.subscriber("Ann").await;
    free(&w, &["Ann"]).await;
    assert!(w.settle().await.is_empty());
    assert_eq!(w.deliveries().await, ["free failed address_dead", "free suppressed suppressed"]);
    let mut tx = w.store.begin().await.unwrap();
    assert!(suppressions::lift(&mut tx, "ANN@example.net", "jo", "called us").await.unwrap());
    tx.commit().await.unwrap();
    free(&w, &["Ann"]).await;
    assert_eq!(w.settle().await.len(), 1);
}

async fn a_full_mailbox_is_tried_again_whatever_the_first_digit(on: On) {
    for line in ["552 5.2.2 mailbox full", "452 4.2.2 mailbox full"] {
        let mut w = world(on, Phase::Rcpt, line).await;
        free(&w, &["ann"]).await;
        w.settle().await;
        let (state, reason, due, tries) = row(&w).await;
        assert_eq!((&*state, &*reason, &*tries), ("queued", "mailbox_full", "1"), "{line}");
        assert!((due - w.now()).as_seconds() >= 1_800);
        assert!(!suppressed(&w, "ann").await);
    }
}

async fn greylisting_is_given_its_five_minutes(on: On) {
    let script = Script::default().answering(|at, _, nth| {
        (at == Phase::Rcpt && nth == 1).then(|| Answer::reply(at, "450 4.2.0 Greylisted, try again in 5 minutes"))
    });
    let mut w = World::with(on, START, script, |_| {}).await;
    w.subscriber("ann").await;
    free(&w, &["ann"]).await;
    assert!(w.pass(4).await.is_empty());
    assert_eq!(row(&w).await.1, "greylisted");
    assert_eq!(w.pass(2).await.len(), 1);
}

async fn what_we_have_used_up_for_the_day_is_waited_for(on: On) {
    for line in [
        "550 5.4.5 Daily SMTP relay limit exceeded for user",
        "550 Account exceeded the max emails per hour (150/150)",
        "550 Domain example.com has exceeded the max defers and failures per hour (5/5 (100%)) allowed. Message discarded.",
    ] {
        let is_used_up = Arc::new(AtomicBool::new(true));
        let switch = Arc::clone(&is_used_up);
        let script = Script::default().answering(move |at, _, _| {
            (at == Phase::Rcpt && switch.load(Ordering::Relaxed)).then(|| Answer::reply(at, line))
        });
        let mut w = World::with(on, START, script, |_| {}).await;
        w.subscriber("ann").await;
        free(&w, &["ann"]).await;
        assert!(w.pass(16 * 60).await.is_empty());
        assert_eq!(w.deliveries().await, ["free queued slow_down"], "{line}");
        let tries = w.query("SELECT kind FROM attempt").await.len();
        assert!((16..=32).contains(&tries), "{tries} tries, {line}");
        is_used_up.store(false, Ordering::Relaxed);
        assert_eq!(w.pass(61).await.len(), 1, "{line}");
    }
}

async fn what_is_said_of_our_sender_silences_no_recipient(on: On) {
    for line in [
        "550 Sender <status@example.com> not found",
        "550 5.1.1 <status@example.com>: no such user",
        "550 发件人地址不存在",
    ] {
        let mut w = world(on, Phase::Rcpt, line).await;
        free(&w, &["ann"]).await;
        assert!(w.settle().await.is_empty());
        assert_eq!(w.deliveries().await, ["free failed refused"], "{line}");
        assert!(!suppressed(&w, "ann").await, "{line}");
    }
}

async fn a_421_about_a_mail_puts_off_that_mail_alone(on: On) {
    for at in [Phase::Rcpt, Phase::Data, Phase::Dot] {
        let mut w = world(on, at, "421 4.3.2 shutting down").await;
        free(&w, &["ann", "bob"]).await;
        assert_eq!(w.settle().await.len(), 1, "{at:?}");
        let mut states = w.deliveries().await;
        states.sort();
        assert!(states[1].starts_with("free queued"), "{states:?}");
        let mut tx = w.store.read().await.unwrap();
        assert!(streams::pauses(&mut tx).await.unwrap().is_empty());
    }
}

/// A reply as a server would say it, and what others make of it.
struct Real {
    line: String,
    retry: String,
    suppress: String,
}

fn real_replies() -> Option<Vec<Real>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/smtp-replies/replies.csv");
    if !path.exists() {
        println!("no real replies at {}: only our own were tried", path.display());
        return None;
    }
    let mut reader = csv::Reader::from_path(path).unwrap();
    let rows: Vec<HashMap<String, String>> = reader.deserialize().map(Result::unwrap).collect();
    let real = rows.into_iter().filter(|row| row["code"].parse::<u16>().is_ok_and(|code| code >= 400)).map(|row| {
        let said: String = row["reply"].chars().map(|c| if c.is_ascii_graphic() { c } else { ' ' }).collect();
        let line = match said.starts_with(&row["code"]) {
            true => said.replacen(&format!("{}:", row["code"]), &format!("{} ", row["code"]), 1),
            false => format!("{} {} {said}", row["code"], row["enhanced"]),
        };
        Real { line: line.chars().take(480).collect(), retry: row["retry"].clone(), suppress: row["suppress"].clone() }
    });
    let mut real: Vec<Real> = real.collect();
    // Where the same words are judged both ways, neither judgement can be right or wrong.
    let judged = |wanted: &str| -> HashSet<String> {
        real.iter().filter(|r| r.suppress == wanted).map(|r| r.line.to_lowercase()).collect()
    };
    let (yes, no) = (judged("yes"), judged("no"));
    real.retain(|r| !(yes.contains(&r.line.to_lowercase()) && no.contains(&r.line.to_lowercase())));
    Some(real)
}

async fn real_replies_lead_to_the_right_state_retry_and_suppression(on: On) {
    let Some(real) = real_replies() else { return };
    let lines: Vec<String> = real.iter().map(|r| r.line.clone()).collect();
    let script = Script::default().answering(move |phase, to, _| {
        let (at, n) = to.to.split_once('@')?.0.split_once('-')?;
        let wanted = if at == "rcpt" { Phase::Rcpt } else { Phase::Dot };
        (phase == wanted).then(|| Answer::reply(phase, &lines[n.parse::<usize>().unwrap()]))
    });
    let mut w = World::with(on, START, script, |_| {}).await;
    let (mut wrong, mut live_suppressed, mut all) = (Vec::new(), Vec::new(), 0);
    for (n, reply) in real.iter().enumerate() {
        for at in ["rcpt", "dot"] {
            all += 1;
            let key = format!("{at}-{n}");
            w.subscriber(&key).await;
            free(&w, &[&key]).await;
            assert!(w.settle().await.is_empty(), "{} was taken", reply.line);
            let last = w.query("SELECT d.state, d.reason FROM delivery d ORDER BY d.id DESC LIMIT 1").await.remove(0);
            let (state, reason) = (last[0].clone().unwrap(), last[1].clone().unwrap_or_default());
            let is_suppressed = suppressed(&w, &key).await;
            let retried = state == "queued" && reason != "stream_paused";
            // Of a full mailbox the sources say both; a paused stream waits for us to change, not for the relay.
            let retry_is_right = match reply.retry.as_str() {
                "retry" => retried,
                "permanent" => !retried || reason == "mailbox_full",
                _ => true,
            };
            let suppress_is_right = reply.suppress == "unstated" || (reply.suppress == "yes") == is_suppressed;
            if is_suppressed && reply.suppress == "no" {
                live_suppressed.push(format!("{at} {}", reply.line));
            }
            if !retry_is_right || !suppress_is_right {
                wrong.push(format!("{at} {} {} -> {state} {reason} | {}", reply.retry, reply.suppress, reply.line));
            }
            let mut tx = w.store.begin().await.unwrap();
            let paused = streams::end(&mut tx, "incidents", "jo").await.unwrap();
            assert_eq!(paused, reason == "stream_paused", "{}", reply.line);
            tx.commit().await.unwrap();
            // What waits now must not be asked about together with the next.
            w.query("DELETE FROM stream_pause").await;
            w.query("UPDATE delivery SET state = 'cancelled', decided_at = created_at WHERE state = 'queued'").await;
        }
    }
    println!("{} of {all} as others judge them; not so:\n{}", all - wrong.len(), wrong.join("\n"));
    println!("suppressed although a source says no:\n{}", live_suppressed.join("\n"));
    assert!(wrong.len() * 20 <= all, "{} of {all} wrong", wrong.len());
}
