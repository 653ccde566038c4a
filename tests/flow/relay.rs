//! What the relay does to a mail: away, "later", "no", silence after the dot, and one address among many.

use super::table::{plain, what};
use crate::on_both;
use crate::support::{Got, On, World};
use allclear::domain::delivery::{Reason, State};
use allclear::domain::time::Span;
use allclear::flow::{show, status};
use allclear::mail::sink::{Act, Answer, Phase, Script};
use allclear::store::search::{self, Cursor, Filter};
use serde_json::json;

on_both! {
    a_relay_that_is_down_for_an_hour_loses_nothing;
    a_relay_that_says_later_gets_the_same_mail_later;
    a_relay_that_puts_off_the_mail_itself_gets_the_same_mail_later;
    a_mail_the_relay_refuses_has_failed_with_the_relays_words;
    one_bad_address_does_not_disturb_the_others;
    silence_after_the_dot_is_repeated_once_with_the_same_bytes;
    silence_after_every_dot_ends_after_one_repeat_and_is_listed;
    a_correction_nobody_can_know_about_is_sent_again;
    a_recovery_during_the_quarantine_ends_in_one_correction;
    both_customers_of_a_connection_are_corrected;
}

const START: &str = "2025-06-02T08:00:00Z";

async fn world(on: On, script: Script, customers: &[&str]) -> World {
    let w = World::with(on, START, script, |_| {}).await;
    w.component("outlook", "Outlook").await;
    for key in customers {
        w.subscriber(key).await;
        w.connection(key, "outlook", key).await;
    }
    w
}

async fn free(w: &World, recipients: &[&str]) {
    w.notice(json!({"kind": "free", "subject": "News", "body": "Something.", "recipients": recipients})).await;
}

fn hang_up(when: impl Fn(&str, u32) -> bool + Send + Sync + 'static) -> Script {
    Script::default().answering(move |at, envelope, nth| {
        (at == Phase::Dot && when(&envelope.to, nth)).then_some(Answer { at, act: Act::TakeAndClose })
    })
}

async fn texts(w: &World, sql: &'static str) -> Vec<String> {
    w.query(sql)
        .await
        .into_iter()
        .map(|row| row.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>().join(" "))
        .collect()
}

fn whats(mails: &[Got]) -> Vec<String> {
    mails.iter().map(what).collect()
}

async fn a_relay_that_is_down_for_an_hour_loses_nothing(on: On) {
    let mut w = world(on, Script::default(), &["ann", "bob", "eve"]).await;
    free(&w, &["ann"]).await;
    assert_eq!(w.settle().await.len(), 1);
    w.sink.set_down(true);
    free(&w, &["ann", "bob", "eve"]).await;
    w.broken("bob").await;
    // A session that was idle may be found dead only in use: what was claimed for it goes back unmarked.
    assert!(w.pass(6).await.is_empty());
    const WAITING: &str =
        "SELECT state, CAST(token AS TEXT), CAST(tries AS TEXT) FROM delivery WHERE state <> 'accepted'";
    let waiting = texts(&w, WAITING).await;
    assert!(
        waiting.len() == 4 && waiting.iter().all(|row| row.starts_with("queued ") && row.ends_with(" 0")),
        "{waiting:?}"
    );
    assert!(w.pass(54).await.is_empty());
    assert_eq!(texts(&w, WAITING).await, waiting, "nothing is claimed while nothing could take it");
    let (since, why) = away(&w).await;
    let expected = (vec!["2025-06-02T08:01:00Z".to_owned()], vec![Some(Reason::RelayAway); 4]);
    assert_eq!((since, why), expected);
    w.sink.set_down(false);
    assert_eq!(w.pass(1).await.len(), 4, "{:?}", w.deliveries().await);
    assert_eq!(away(&w).await.0, [""; 0]);
    assert_eq!(w.deliveries().await.iter().filter(|d| d.ends_with(" accepted")).count(), 5);
    let taken = texts(&w, "SELECT outcome FROM attempt WHERE outcome <> 'not_handed_over'").await;
    assert_eq!(taken, ["accepted"; 5]);
}

/// Since when relays cannot be reached, and why mails that have not left wait, as people are told.
async fn away(w: &World) -> (Vec<String>, Vec<Option<Reason>>) {
    let mut tx = w.store.read().await.unwrap();
    let status = status::status(&mut tx, &w.shared.setting).await.unwrap();
    let filter = Filter { state: Some(State::Queued), ..Filter::default() };
    let found = search::deliveries(&mut tx, &filter, Cursor::NEWEST, 9).await.unwrap().ids;
    let told = show::told(&mut tx, &w.shared.setting, &found, false).await.unwrap();
    (status.unreached.iter().map(|away| away.since.to_string()).collect(), told.iter().map(|t| t.row.reason).collect())
}

async fn later(on: On, at: Phase) {
    let script = Script::default()
        .answering(move |phase, _, nth| (phase == at && nth == 1).then(|| Answer::reply(at, "451 4.3.0 not now")));
    let mut w = world(on, script, &["ann"]).await;
    w.broken("ann").await;
    assert!(w.pass(5).await.is_empty());
    const ROW: &str =
        "SELECT state, reason, CAST(due_at AS TEXT), CAST(tries AS TEXT), message_id, context FROM delivery";
    let put_off = w.query(ROW).await.remove(0);
    assert_eq!(put_off[..2], [Some("queued".to_owned()), Some("retry".to_owned())]);
    let due: i64 = put_off[2].as_deref().unwrap().parse().unwrap();
    assert!(due > w.now().0 && due <= (w.now() + Span::seconds(30)).0, "within the first interval: {due}");
    assert_eq!(put_off[3].as_deref(), Some("1"));
    assert_eq!(texts(&w, "SELECT CAST(code AS TEXT), enhanced, reply FROM attempt").await.len(), 1);
    // A worker that starts afresh knows the due time, and nothing leaves before it.
    w.restart();
    assert!(w.move_to(allclear::domain::time::Timestamp(due - 1)).await.is_empty());
    let got = w.move_to(allclear::domain::time::Timestamp(due)).await;
    assert_eq!(whats(&got), ["please reconnect: Inbox ann"]);
    let sent = w.query(ROW).await.remove(0);
    assert_eq!(sent[0].as_deref(), Some("accepted"));
    assert_eq!(sent[4..], put_off[4..], "the same Message-ID, and all that the bytes are made of");
    assert_eq!(got[0].header("Date").as_deref(), Some("Mon, 02 Jun 2025 08:05:00 +0000"));
    assert!(w.pass(60).await.is_empty());
}

async fn a_relay_that_says_later_gets_the_same_mail_later(on: On) {
    later(on, Phase::Rcpt).await;
}

async fn a_relay_that_puts_off_the_mail_itself_gets_the_same_mail_later(on: On) {
    later(on, Phase::Dot).await;
}

async fn a_mail_the_relay_refuses_has_failed_with_the_relays_words(on: On) {
    let script = Script::default().always(Answer::reply(Phase::Dot, "554 5.7.1 we do not like this"));
    let mut w = world(on, script, &["ann"]).await;
    w.broken("ann").await;
    assert!(w.pass(90).await.is_empty());
    assert_eq!(w.deliveries().await, ["action_required failed refused"]);
    let attempts = texts(&w, "SELECT outcome, CAST(code AS TEXT), enhanced, reply FROM attempt").await;
    assert_eq!(attempts.len(), 1, "{attempts:?}");
    assert!(
        attempts[0].starts_with("refused 554 5.7.1") && attempts[0].contains("we do not like this"),
        "{attempts:?}"
    );
    // Nothing left, so nothing is taken back.
    w.recovered("ann", "automatic").await;
    assert!(w.pass(30).await.is_empty());
}

async fn one_bad_address_does_not_disturb_the_others(on: On) {
    let script = Script::default().answering(|at, envelope, _| {
        let bad = at == Phase::Rcpt && envelope.to.starts_with("bad");
        bad.then(|| Answer::reply(at, "550 5.1.1 no such user"))
    });
    let keys = ["a1", "a2", "a3", "bad", "b1", "b2", "b3", "b4", "b5"];
    let mut w = world(on, script, &keys).await;
    for key in keys {
        w.broken(key).await;
    }
    let got = w.pass(6).await;
    let mut to: Vec<_> = got.iter().map(|m| m.to.trim_end_matches("@example.net")).collect();
    to.sort_unstable();
    assert_eq!(to, ["a1", "a2", "a3", "b1", "b2", "b3", "b4", "b5"]);
    let states = w.deliveries().await;
    assert_eq!(states.iter().filter(|s| *s == "action_required failed address_dead").count(), 1, "{states:?}");
    assert_eq!(states.iter().filter(|s| *s == "action_required accepted").count(), 8, "{states:?}");
}

const LISTED: &str = "SELECT d.state, COALESCE(d.reason, ''), CAST(d.repeats AS TEXT), a.outcome FROM delivery d
    JOIN attempt a ON a.delivery_id = d.id ORDER BY d.id, a.id";

async fn silence_after_the_dot_is_repeated_once_with_the_same_bytes(on: On) {
    let mut w = world(on, hang_up(|_, nth| nth == 2), &["ann"]).await;
    // A mail of the thread before this one, so that there is something to refer to.
    w.broken("ann").await;
    assert_eq!(w.pass(5).await.len(), 1);
    w.recovered("ann", "customer").await;
    w.pass(5).await;
    w.broken("ann").await;
    let first = w.pass(5).await;
    assert_eq!(first.len(), 1, "the relay took it and said nothing");
    assert_eq!(texts(&w, LISTED).await[1], "unknown ambiguous 0 unknown");
    assert!(w.pass(14).await.is_empty(), "quarantined");
    let second = w.pass(2).await;
    assert_eq!(second.len(), 1);
    assert_eq!(first[0].raw, second[0].raw);
    assert_eq!(texts(&w, LISTED).await[1..], ["accepted  1 unknown", "accepted  1 accepted"]);
    assert!(w.pass(60).await.is_empty());
}

async fn silence_after_every_dot_ends_after_one_repeat_and_is_listed(on: On) {
    let mut w = world(on, hang_up(|_, _| true), &["ann"]).await;
    free(&w, &["ann"]).await;
    let got = w.pass(120).await;
    assert_eq!(got.len(), 2, "a copy, and at most one more");
    assert_eq!(got[0].raw, got[1].raw);
    assert_eq!(texts(&w, LISTED).await, ["unknown ambiguous 1 unknown"; 2]);
    assert_eq!(texts(&w, "SELECT state FROM delivery WHERE quarantine_until IS NOT NULL").await, [""; 0]);
}

async fn a_correction_nobody_can_know_about_is_sent_again(on: On) {
    let mut w = world(on, hang_up(|_, nth| nth == 2 || nth == 3), &["ann"]).await;
    w.broken("ann").await;
    assert_eq!(w.pass(5).await.len(), 1);
    w.recovered("ann", "automatic").await;
    let got = w.pass(60).await;
    assert_eq!(whats(&got), ["no action needed: Inbox ann"; 3]);
    assert!(got.iter().all(|m| m.raw == got[0].raw), "{got:?}");
    let correction = texts(&w, "SELECT state, CAST(repeats AS TEXT) FROM delivery WHERE class = 'correction'").await;
    assert_eq!(correction, ["accepted 2"]);
}

async fn a_recovery_during_the_quarantine_ends_in_one_correction(on: On) {
    let mut w = world(on, hang_up(|_, nth| nth == 1), &["ann"]).await;
    w.broken("ann").await;
    assert_eq!(w.pass(5).await.len(), 1);
    w.pass(5).await;
    let answer = w.recovered("ann", "automatic").await;
    assert!(answer.recovery_id.is_some());
    assert!(w.pass(9).await.is_empty(), "while a copy may still be under way, nothing overtakes it");
    let got = w.pass(60).await;
    assert_eq!(whats(&got), ["no action needed: Inbox ann"]);
    assert!(plain(&got[0]).contains("You may have received a mail of"), "{}", plain(&got[0]));
    let states = w.deliveries().await;
    assert_eq!(states, ["action_required unknown ambiguous", "correction accepted"]);
}

async fn both_customers_of_a_connection_are_corrected(on: On) {
    let mut w = world(on, Script::default(), &["ann", "bob"]).await;
    w.connection_of("shared", "outlook", &["ann", "bob"]).await;
    w.broken("shared").await;
    assert_eq!(w.pass(5).await.len(), 2);
    w.recovered("shared", "automatic").await;
    let got = w.pass(30).await;
    assert_eq!(whats(&got), ["no action needed: Inbox shared"; 2]);
    let mut to: Vec<_> = got.iter().map(|m| m.to.as_str()).collect();
    to.sort_unstable();
    assert_eq!(to, ["ann@example.net", "bob@example.net"]);
}
