//! How what is over is put away: a bounded part at a time, whatever a connection went through; and what is then still said of
//! it to those who look for its mail, want it sent again, or are to decide about it.

use super::explain::cli;
use crate::on_both;
use crate::support::{On, World, t};
use allclear::domain::class::Class;
use allclear::domain::delivery::State;
use allclear::domain::hold::{HoldCause, HoldScope};
use allclear::domain::id::DeliveryId;
use allclear::domain::time::Span;
use allclear::flow::archive::AT_ONCE;
use allclear::flow::copies::{self, MailError};
use allclear::flow::ingest::Keyed;
use allclear::flow::resend::ask::{Answered, FilterIn, ResendsIn, ask};
use allclear::flow::show;
use allclear::mail::sink::{Answer, Phase, Script};
use allclear::store::search::{self, Cursor, Filter};
use allclear::store::{evidence, holds, status};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};

on_both! {
    whoever_blinked_for_long_is_put_away_part_by_part;
    whoever_blinks_without_end_is_put_away_all_the_same;
    what_fails_while_a_mail_waits_for_long_joins_it_while_both_can_leave_in_time;
    of_a_mail_that_was_put_away_the_same_is_said_as_before;
    a_batch_tells_of_what_was_put_away;
    a_parked_mail_somebody_sent_again_is_decided;
}

const START: &str = "2025-06-02T08:00:00Z";

async fn world(on: On, script: Script) -> World {
    let w = World::with(on, START, script, |_| {}).await;
    w.component("outlook", "Outlook").await;
    for who in ["ann", "bob"] {
        w.subscriber(who).await;
        w.subscribe(who, "outlook").await;
        for n in 1..=2 {
            w.connection(&format!("{who}-{n}"), "outlook", who).await;
        }
    }
    w
}

async fn free(w: &World, recipients: &[&str]) {
    w.notice(json!({"kind": "free", "subject": "News", "body": "Something.", "recipients": recipients})).await;
}

async fn count(w: &World, sql: &'static str) -> i64 {
    w.query(sql).await[0][0].as_ref().unwrap().parse().unwrap()
}

async fn live(w: &World) -> i64 {
    count(w, "SELECT CAST(COUNT(*) AS TEXT) FROM delivery").await
}

async fn ids(w: &World) -> Vec<DeliveryId> {
    search::deliveries(&mut w.store.read().await.unwrap(), &Filter::default(), Cursor::NEWEST, 200).await.unwrap().ids
}

/// What is shown of each, but for the note that it is archived.
async fn told(w: &World, of: &[DeliveryId]) -> BTreeMap<DeliveryId, Value> {
    let told = show::told(&mut w.store.read().await.unwrap(), &w.shared.setting, of, true).await.unwrap();
    let without_note = |told: show::Told| {
        let mut value = serde_json::to_value(&told).unwrap();
        value.as_object_mut().unwrap().remove("archived_at");
        (told.row.id, value)
    };
    told.into_iter().map(without_note).collect()
}

async fn whoever_blinked_for_long_is_put_away_part_by_part(on: On) {
    let mut w = world(on, Script::default()).await;
    for n in 0..70 {
        w.broken("ann-1").await;
        // Now and then it does not heal in time: a mail, and its correction.
        w.pass(if n % 20 == 10 { 6 } else { 1 }).await;
        w.recovered("ann-1", "automatic").await;
        w.pass(1).await;
    }
    let ids = ids(&w).await;
    let mailed = w.deliveries().await.iter().filter(|d| d.ends_with("accepted")).count();
    assert_eq!((ids.len(), mailed), (73, 6));
    assert_eq!(count(&w, "SELECT CAST(COUNT(DISTINCT thread_id) AS TEXT) FROM delivery").await, 1);
    let rests = evidence::of(&mut w.store.read().await.unwrap(), &ids, (t(START), w.now())).await.unwrap();
    let recoveries: Vec<_> = rests.about.values().map(|about| about.recoveries.len()).collect();
    assert_eq!((recoveries.len(), recoveries.iter().max()), (73, Some(&1)), "each outage had its own end");
    let before = told(&w, &ids).await;

    // The copies go first; then part by part.
    w.at("2025-08-01T08:00:00Z").await;
    assert_eq!(live(&w).await, 73);
    w.clock.set(t("2025-09-20T08:00:00Z"));
    let mut left = 73;
    while w.shared.archive.page(&w.store, &w.shared.setting).await {
        let now = live(&w).await;
        // With the pair of the last of a part.
        assert!(left - now <= AT_ONCE + 1, "{left} became {now}");
        left = now;
    }
    assert_eq!(left, 0);
    assert_eq!(told(&w, &ids).await, before);
}

async fn whoever_blinks_without_end_is_put_away_all_the_same(on: On) {
    let mut w = world(on, Script::default()).await;
    let mut blinks = 0;
    while w.now() < t("2025-10-30T08:00:00Z") {
        w.broken("ann-1").await;
        w.pass(1).await;
        w.recovered("ann-1", "automatic").await;
        w.pass(1).await;
        blinks += 1;
        w.move_to(w.now() + Span::hours(3 * 24)).await;
    }
    assert!(w.all().is_empty() && blinks > 45);
    // Of the last 90 days, and of the week in which they were begun.
    let kept = live(&w).await;
    assert!((28..=33).contains(&kept), "{kept} of {blinks}");
    assert_eq!(ids(&w).await.len(), blinks, "the others are in the archive");
}

async fn what_fails_while_a_mail_waits_for_long_joins_it_while_both_can_leave_in_time(on: On) {
    let mut w = world(on, Script::default()).await;
    w.connection("ann-3", "outlook", "ann").await;
    let mut tx = w.store.begin().await.unwrap();
    let scope = HoldScope::Class(Class::ActionRequired);
    let hold = holds::put(&mut tx, scope, HoldCause::Operator, "wait", None, "jo").await.unwrap();
    tx.commit().await.unwrap();
    w.broken("ann-1").await;
    w.at("2025-06-03T08:00:00Z").await;
    w.broken("ann-2").await;
    w.pass(1).await;
    assert_eq!(w.deliveries().await, ["action_required queued dwell"], "it joins the mail that waits");
    w.at("2025-06-11T08:00:00Z").await;
    w.broken("ann-3").await;
    w.pass(1).await;
    assert_eq!(w.deliveries().await.len(), 2, "that would be parked with it");
    let mut tx = w.store.begin().await.unwrap();
    holds::release(&mut tx, |h| h.id == hold, "over", "jo").await.unwrap();
    tx.commit().await.unwrap();
    w.pass(6).await;
    assert_eq!(w.deliveries().await, ["action_required parked too_old", "action_required accepted"]);
    assert_eq!(count(&w, "SELECT CAST(COUNT(*) AS TEXT) FROM thread").await, 1);
}

async fn of_a_mail_that_was_put_away_the_same_is_said_as_before(on: On) {
    let script = Script::default().answering(|at, envelope, _| {
        let no = if envelope.to.starts_with("ann") { Phase::Dot } else { Phase::Rcpt };
        (at == no).then(|| Answer::reply(at, "550 5.7.1 no"))
    });
    let mut w = world(on, script).await;
    free(&w, &["ann", "bob"]).await;
    w.settle().await;
    let ids = ids(&w).await;
    let mail =
        async |w: &World, id| copies::mail(&mut w.store.read().await.unwrap(), id).await.unwrap_err().to_string();
    let all = async |w: &World| [mail(w, ids[0]).await, mail(w, ids[1]).await];
    let offered =
        |w: &World| ids.iter().filter(|id| cli(w, &["show", &id.to_string()]).contains("The exact mail:")).count();
    assert_eq!(offered(&w), 1, "the one that was handed over");
    w.at("2025-07-20T08:00:00Z").await;
    let mut before = all(&w).await;
    assert_eq!(offered(&w), 0, "its copy is gone");
    w.at("2025-09-20T08:00:00Z").await;
    assert_eq!(live(&w).await, 0);
    assert_eq!(all(&w).await, before);
    before.sort();
    let seen = MailError::Removed.to_string();
    assert_eq!(before, [MailError::NotSent(State::Failed).to_string(), seen], "one of them was handed over");
    assert_eq!(offered(&w), 0);
}

async fn a_batch_tells_of_what_was_put_away(on: On) {
    let script = Script::default().answering(|at, _, _| (at == Phase::Rcpt).then(|| Answer::reply(at, "550 5.7.1 no")));
    let mut w = world(on, script).await;
    let incident = async |w: &World, phase: &str, status: &str| {
        w.notice(json!({"kind": "incident", "incident": "o-1", "title": "Slow", "phase": phase, "body": "It is.",
            "components": [{"key": "outlook", "status": status}]}))
            .await
    };
    incident(&w, "investigating", "major_outage").await;
    free(&w, &["bob"]).await;
    w.pass(5).await;
    // One of them is sent again, in vain.
    let mut said = ResendsIn { ids: vec![ids(&w).await[0]], ..ResendsIn::default() };
    let batch = async |w: &World, said: &ResendsIn| {
        let keyed = Keyed { key: None, body: &[] };
        let asked = ask(&w.store, &w.shared.setting, ("t", "cli:t"), said, keyed, &mut HashSet::new()).await.unwrap();
        let Answered::Now(answer) = asked else { panic!("no key was given") };
        (answer.tally.sent, answer.tally.refused)
    };
    w.pass(15).await;
    batch(&w, &said).await;
    w.pass(5).await;
    incident(&w, "resolved", "operational").await;
    w.pass(30).await;
    let live_ones = count(&w, "SELECT CAST(COUNT(*) AS TEXT) FROM delivery WHERE state = 'failed'").await;
    w.at("2025-09-20T08:00:00Z").await;
    assert_eq!(live(&w).await, 0);
    free(&w, &["ann"]).await;
    w.pass(5).await;
    said.ids.clear();
    let archived = |n: u64| if n == 0 { BTreeMap::new() } else { BTreeMap::from([("archived", n)]) };
    let failed = FilterIn { state: Some(State::Failed), ..FilterIn::default() };
    let of = |filter: FilterIn| ResendsIn { dry_run: true, filter: Some(filter), ..ResendsIn::default() };
    // What was sent again is no part of a batch.
    let put_away = u64::try_from(live_ones).unwrap() - 1;
    assert!(put_away >= 2, "{put_away}");
    assert_eq!(batch(&w, &of(failed.clone())).await, (1, archived(put_away)));
    let of_incident = FilterIn { incident: Some("o-1".to_owned()), ..failed.clone() };
    let (sent, refused) = batch(&w, &of(of_incident.clone())).await;
    assert_eq!((sent, refused.len()), (0, 1), "{refused:?}");
    for (n, filter) in [
        (0, FilterIn { stream: Some("account".to_owned()), ..of_incident.clone() }),
        (0, FilterIn { state: Some(State::Parked), ..failed.clone() }),
        (0, FilterIn { class: Some(Class::Correction), ..failed.clone() }),
        (0, FilterIn { until: Some(t(START)), ..failed.clone() }),
        (refused["archived"], FilterIn { stream: Some("incidents".to_owned()), from: Some(t(START)), ..of_incident }),
    ] {
        assert_eq!(batch(&w, &of(filter.clone())).await, (0, archived(n)), "{filter:?}");
    }
}

async fn a_parked_mail_somebody_sent_again_is_decided(on: On) {
    let mut w = world(on, Script::default()).await;
    w.sink.set_down(true);
    free(&w, &["ann", "bob"]).await;
    w.settle().await;
    w.execute("UPDATE delivery SET state = 'parked', reason = 'too_old', decided_at = created_at").await;
    w.sink.set_down(false);
    let parked = async |w: &World| {
        let aside = status::aside(&mut w.store.read().await.unwrap(), State::Parked).await.unwrap();
        aside.iter().map(|a| a.mails).sum::<i64>()
    };
    assert_eq!(parked(&w).await, 2);
    let id = ids(&w).await[0];
    let said = ResendsIn { force: true, reason: Some("asked".to_owned()), ids: vec![id], ..ResendsIn::default() };
    let keyed = Keyed { key: None, body: &[] };
    ask(&w.store, &w.shared.setting, ("t", "cli:t"), &said, keyed, &mut HashSet::new()).await.unwrap();
    w.pass(15).await;
    assert_eq!(parked(&w).await, 1);
    assert_eq!(w.all().len(), 1);
    w.at("2025-09-20T08:00:00Z").await;
    assert_eq!(w.deliveries().await, ["free parked too_old"], "the other still waits for somebody");
}
