//! A connection that is given to others while it is broken: nobody is asked about what is not theirs, and whoever has it
//! now is asked.

use super::by_hand::{arm, record, taken};
use crate::on_both;
use crate::support::{On, World, t};
use allclear::domain::class::Class;
use allclear::domain::delivery::{Reason, State};
use allclear::flow::register;
use allclear::flow::show::{self, Asked, Sight};
use allclear::mail::sink::{Act, Answer, Phase, Script};
use allclear::store::record::Settled;
use allclear::store::search::Cursor;
use serde_json::json;

on_both! {
    whose_connection_it_is_no_longer_is_not_asked_and_whose_it_is_now_is;
    what_was_planned_again_is_shown_once;
    what_failed_before_anybody_had_it_is_told_whoever_gets_it;
    putting_the_same_again_asks_nobody_twice;
    a_mail_about_others_too_leaves_without_what_was_given_away;
    what_was_given_away_while_its_mail_was_on_the_wire_is_not_asked_about_later;
    what_was_given_away_before_its_session_was_lost_is_not_asked_about_later;
    who_was_perhaps_told_is_not_asked_again_about_what_was_given_away;
    whoever_was_told_in_vain_is_not_told_again_because_others_are;
    the_words_of_a_notice_stay_with_its_connection;
}

async fn world(on: On) -> World {
    with(on, Script::default()).await
}

async fn with(on: On, script: Script) -> World {
    let w = World::with(on, "2025-06-02T08:00:00Z", script, |_| {}).await;
    w.component("a", "Alpha").await;
    for key in ["ann", "bob"] {
        w.subscriber(key).await;
    }
    for key in ["s1", "s2"] {
        give(&w, key, &["ann"]).await;
    }
    w
}

/// Puts a connection as the API does.
async fn give(w: &World, key: &str, to: &[&str]) {
    let said = json!({"component": "a", "name": format!("Inbox {key}"), "subscribers": to});
    register::connection(&w.store, key, &serde_json::from_value(said).unwrap()).await.unwrap();
}

fn to(w: &World) -> Vec<&str> {
    w.all().iter().map(|mail| mail.to.split('@').next().unwrap()).collect()
}

async fn whose_connection_it_is_no_longer_is_not_asked_and_whose_it_is_now_is(on: On) {
    let mut w = world(on).await;
    w.broken("s1").await;
    w.pass(1).await;
    give(&w, "s1", &["bob"]).await;
    w.pass(10).await;
    assert_eq!(to(&w), ["bob"]);
    assert!(w.deliveries().await.contains(&"action_required withdrawn not_theirs".to_owned()));
    // After its mail has left, who had it is told when it is back, and who has it now is asked.
    give(&w, "s1", &["ann"]).await;
    w.pass(10).await;
    assert_eq!(to(&w), ["bob", "ann"]);
    w.recovered("s1", "automatic").await;
    w.pass(10).await;
    let mut corrected = to(&w).split_off(2);
    corrected.sort_unstable();
    assert_eq!(corrected, ["ann", "bob"]);
}

async fn what_was_planned_again_is_shown_once(on: On) {
    let mut w = world(on).await;
    give(&w, "s1", &[]).await;
    w.broken("s1").await;
    w.pass(10).await;
    let signals = async |w: &World| {
        let mut tx = w.store.read().await.unwrap();
        let asked = Asked { setting: &w.shared.setting, after: Cursor::NEWEST, limit: 50 };
        let Some(Sight::Connection { timeline, .. }) = show::connection(&mut tx, asked, "s1").await.unwrap() else {
            panic!("s1 is not known");
        };
        timeline.into_iter().filter(|step| step.step == "signal").map(|step| step.text).collect::<Vec<_>>()
    };
    let before = signals(&w).await;
    assert!(before.len() == 1 && before[0].ends_with("concerns nobody"), "{before:?}");
    give(&w, "s1", &["bob"]).await;
    w.pass(10).await;
    let after = signals(&w).await;
    assert!(after.len() == 1 && !after[0].contains("concerns nobody"), "{after:?}");
}

async fn what_failed_before_anybody_had_it_is_told_whoever_gets_it(on: On) {
    let mut w = world(on).await;
    give(&w, "new", &[]).await;
    w.broken("new").await;
    w.pass(10).await;
    assert_eq!(to(&w).len(), 0);
    give(&w, "new", &["bob"]).await;
    w.pass(10).await;
    assert_eq!(to(&w), ["bob"]);
    // What is well again is nobody's to be asked about.
    w.recovered("new", "automatic").await;
    w.pass(10).await;
    give(&w, "new", &["ann", "bob"]).await;
    w.pass(10).await;
    assert_eq!(to(&w), ["bob", "bob"]);
}

async fn putting_the_same_again_asks_nobody_twice(on: On) {
    let mut w = world(on).await;
    w.broken("s1").await;
    for _ in 0..4 {
        give(&w, "s1", &["ann"]).await;
        w.pass(10).await;
    }
    assert_eq!(to(&w), ["ann"]);
    give(&w, "s1", &["ann", "bob"]).await;
    w.pass(10).await;
    assert_eq!(to(&w), ["ann", "bob"]);
    assert_eq!(w.query("SELECT outcome FROM plan").await.len(), 2, "one for each who had to be asked");
}

async fn a_mail_about_others_too_leaves_without_what_was_given_away(on: On) {
    let mut w = world(on).await;
    w.broken("s1").await;
    w.broken("s2").await;
    w.pass(1).await;
    give(&w, "s1", &["bob"]).await;
    w.pass(10).await;
    assert_eq!(to(&w), ["ann", "bob"]);
    let names = |n: usize, key: &str| w.all()[n].text().contains(&format!("Inbox {key}"));
    assert!(names(0, "s2") && !names(0, "s1") && names(1, "s1") && !names(1, "s2"));
}

/// Refuses whatever goes to Ann so.
fn refusing(how: &'static str) -> Script {
    Script::default()
        .answering(move |at, of, _| (at == Phase::Rcpt && of.to.contains("ann")).then(|| Answer::reply(at, how)))
}

async fn what_was_given_away_while_its_mail_was_on_the_wire_is_not_asked_about_later(on: On) {
    let mut w = with(on, refusing("451 4.7.1 Greylisted, come back later")).await;
    w.broken("s1").await;
    w.pass(6).await;
    let tried = "SELECT CAST(tries AS TEXT) FROM delivery WHERE state = 'queued'";
    assert_eq!(w.query(tried).await, [[Some("1".to_owned())]]);
    // As if it had been on the wire just then: nothing is taken out of it.
    w.execute("DELETE FROM connection_subscriber").await;
    w.pass(60).await;
    assert_eq!(w.deliveries().await, ["action_required withdrawn not_theirs"]);
}

async fn what_was_given_away_before_its_session_was_lost_is_not_asked_about_later(on: On) {
    let mut w = world(on).await;
    w.broken("s1").await;
    w.pass(4).await;
    w.clock.set(t("2025-06-02T08:05:00Z"));
    let mail = arm(&w, Class::ActionRequired, "node", "lost@status.example.com").await;
    give(&w, "s1", &["bob"]).await;
    // Nothing of it was handed over, which is no try.
    let (due_at, reason) = (Some(w.clock_now()), Some(Reason::Retry));
    record(&w, "node", Settled { outcome: None, state: State::Queued, due_at, reason, ..taken(mail) }).await;
    w.pass(10).await;
    assert_eq!(to(&w), ["bob"]);
}

async fn who_was_perhaps_told_is_not_asked_again_about_what_was_given_away(on: On) {
    let script = Script::default().answering(|at, envelope, nth| {
        let silent = at == Phase::Dot && nth == 1 && envelope.to.starts_with("ann");
        silent.then_some(Answer { at, act: Act::TakeAndClose })
    });
    let mut w = with(on, script).await;
    w.broken("s1").await;
    w.broken("s2").await;
    w.pass(10).await;
    give(&w, "s1", &["bob"]).await;
    // What is left of the mail, and waits to be repeated, is about what is Bob's.
    w.recovered("s2", "automatic").await;
    w.pass(60).await;
    assert_eq!(to(&w), ["ann", "bob", "ann"]);
    let last = w.all()[2].text();
    assert!(last.contains("No action needed") && !last.contains("Inbox s1"), "{last}");
}

async fn whoever_was_told_in_vain_is_not_told_again_because_others_are(on: On) {
    let mut w = with(on, refusing("554 5.7.1 not wanted here")).await;
    w.broken("s1").await;
    w.pass(10).await;
    assert_eq!(w.deliveries().await, ["action_required failed refused"]);
    give(&w, "s1", &["ann", "bob"]).await;
    w.pass(10).await;
    assert_eq!(w.deliveries().await.len(), 2, "{:?}", w.deliveries().await);
    assert_eq!(to(&w), ["bob"]);
}

async fn the_words_of_a_notice_stay_with_its_connection(on: On) {
    let mut w = world(on).await;
    w.broken("s1").await;
    w.pass(1).await;
    w.notice(json!({"kind": "action_required", "connections": ["s2"], "what_happened": "Its licence ended.",
        "what_to_do": "Renew the licence."}))
        .await;
    w.pass(1).await;
    give(&w, "s1", &["bob"]).await;
    w.pass(10).await;
    let text = w.all().iter().find(|mail| mail.to.starts_with("ann")).unwrap().text();
    assert!(text.contains("Inbox s2") && text.contains("Renew the licence."), "{text}");
}
