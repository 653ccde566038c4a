//! What is long over leaves the dispatchers' tables, whole threads at a time, and is found and read as before; what may
//! still be owed something stays.

use super::table::{assert_table, until};
use crate::on_both;
use crate::support::{On, World};
use allclear::domain::class::Class;
use allclear::domain::delivery::State;
use allclear::domain::id::{ConnectionId, DeliveryId, IncidentId, SubscriberId};
use allclear::domain::time::Span;
use allclear::flow::archive::Archive;
use allclear::flow::compose;
use allclear::flow::copies::{self, MailError};
use allclear::flow::ingest::Keyed;
use allclear::flow::resend::ask::{Answered, ResendsIn, ask};
use allclear::flow::show::{self, Asked, Sight};
use allclear::mail::sink::{Answer, Phase, Script};
use allclear::store::search::{self, Cursor, Filter};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

on_both! {
    what_is_over_is_found_and_read_as_before;
    pages_go_on_from_the_tables_into_the_archive;
    what_may_still_be_owed_a_correction_stays;
    a_post_mortem_finds_who_was_told_of_what_was_put_away;
    what_was_put_away_is_not_sent_again;
    nothing_is_put_away_before_its_time;
    an_archive_that_fails_keeps_no_correction_waiting;
    an_end_that_bounced_is_known_after_it_is_put_away;
}

const LATER: &str = "2025-09-02T08:00:00Z";

async fn world(on: On, script: Script) -> World {
    let w = World::with(on, "2025-06-02T08:00:00Z", script, |_| {}).await;
    w.component("outlook", "Outlook").await;
    for who in ["ann", "bob", "refused"] {
        w.subscriber(who).await;
        w.subscribe(who, "outlook").await;
        w.connection(&format!("{who}-1"), "outlook", who).await;
    }
    w
}

fn refusing() -> Script {
    Script::default().answering(|at, to, _| {
        (at == Phase::Rcpt && to.to.starts_with("refused")).then(|| Answer::reply(at, "550 5.1.1 quince unknown"))
    })
}

async fn incident(w: &World, phase: &str, status: &str) {
    w.notice(json!({"kind": "incident", "incident": "o-1", "title": "Slow", "phase": phase, "body": format!("It is {phase}."),
        "components": [{"key": "outlook", "status": status}]}))
        .await;
}

/// A mail that is corrected, an incident from its beginning to its end, a free notice and a refusal.
async fn history(w: &mut World) {
    w.broken("ann-1").await;
    until(w, "2025-06-02T08:20:00Z").await;
    w.recovered("ann-1", "automatic").await;
    until(w, "2025-06-02T08:30:00Z").await;
    incident(w, "investigating", "major_outage").await;
    until(w, "2025-06-02T09:30:00Z").await;
    incident(w, "resolved", "operational").await;
    w.notice(json!({"kind": "free", "subject": "News", "body": "Something.", "recipients": ["bob"]})).await;
    w.at("2025-06-03T08:00:00Z").await;
}

/// Whose mailbox is gone by the time of the end was told all that could be: the audit, at the end of every story, says so.
async fn an_end_that_bounced_is_known_after_it_is_put_away(on: On) {
    let gone = Arc::new(AtomicBool::new(false));
    let is_gone = Arc::clone(&gone);
    let script = Script::default().answering(move |at, to, _| {
        let refuses = at == Phase::Rcpt && to.to.starts_with("bob") && is_gone.load(Ordering::Relaxed);
        refuses.then(|| Answer::reply(at, "550 5.1.1 bob unknown"))
    });
    let mut w = world(on, script).await;
    incident(&w, "investigating", "major_outage").await;
    until(&mut w, "2025-06-02T09:30:00Z").await;
    gone.store(true, Ordering::Relaxed);
    incident(&w, "resolved", "operational").await;
    w.at("2025-06-03T08:00:00Z").await;
    assert!(
        w.deliveries().await.contains(&"incident_end failed address_dead".to_owned()),
        "{:?}",
        w.deliveries().await
    );
    w.at(LATER).await;
    assert_eq!(live(&w).await, "0");
}

async fn live(w: &World) -> String {
    w.query("SELECT CAST(COUNT(*) AS TEXT) FROM delivery").await.remove(0).remove(0).unwrap()
}

async fn seen(w: &World, what: &str) -> Option<Sight> {
    let asked = Asked { setting: &w.shared.setting, after: Cursor::NEWEST, limit: 200 };
    show::anything(&mut w.store.read().await.unwrap(), asked, what).await.unwrap()
}

/// What is shown of something, but for the note that it is archived.
async fn read(w: &World, what: &str) -> Value {
    fn without_note(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.remove("archived_at");
                map.values_mut().for_each(without_note);
            }
            Value::Array(list) => list.iter_mut().for_each(without_note),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(seen(w, what).await.unwrap_or_else(|| panic!("{what} is not found"))).unwrap();
    without_note(&mut value);
    value
}

async fn found(w: &World, of: &Filter) -> Vec<DeliveryId> {
    search::deliveries(&mut w.store.read().await.unwrap(), of, Cursor::NEWEST, 100).await.unwrap().ids
}

/// Filters of every kind, each with what it finds now.
async fn searches(w: &World) -> Vec<(Filter, Vec<DeliveryId>)> {
    let id = async |table: &str, key: &str| {
        let hex = if w.url.starts_with("sqlite") { "lower(hex(id))" } else { "replace(CAST(id AS TEXT), '-', '')" };
        let sql: &'static str = format!("SELECT {hex} FROM {table} WHERE key = '{key}'").leak();
        w.query(sql).await.remove(0).remove(0).unwrap().parse::<uuid::Uuid>().unwrap()
    };
    let none = Filter::default;
    let filters = [
        none(),
        Filter { address: Some("ann@example.net".to_owned()), ..none() },
        Filter { id: w.all()[0].header("Message-ID").as_deref().and_then(compose::named_by), ..none() },
        Filter { subscriber: Some(SubscriberId(id("subscriber", "bob").await)), ..none() },
        Filter { connection: Some(ConnectionId(id("connection", "ann-1").await)), ..none() },
        Filter { incident: Some(IncidentId(id("incident", "o-1").await)), ..none() },
        Filter { words: vec!["quince".to_owned()], ..none() },
        Filter { class: Some(Class::Correction), ..none() },
        Filter { state: Some(State::Failed), ..none() },
        Filter { state: Some(State::Accepted), class: Some(Class::IncidentEnd), ..none() },
    ];
    let mut all = Vec::new();
    for filter in filters {
        let ids = found(w, &filter).await;
        all.push((filter, ids));
    }
    all
}

async fn what_is_over_is_found_and_read_as_before(on: On) {
    let mut w = world(on, refusing()).await;
    history(&mut w).await;
    let before = searches(&w).await;
    for (filter, ids) in &before {
        assert!(!ids.is_empty(), "{filter:?} finds nothing to begin with");
    }
    let ids = &before[0].1;
    let mut names: Vec<String> = ids.iter().map(ToString::to_string).collect();
    names.extend(["ann", "bob", "refused", "ann-1", "o-1"].map(str::to_owned));
    let mut told = Vec::new();
    for name in &names {
        told.push(read(&w, name).await);
    }

    w.at(LATER).await;
    assert_eq!(live(&w).await, "0");
    for (filter, ids) in before {
        assert_eq!(found(&w, &filter).await, ids, "{filter:?}");
    }
    for (name, before) in names.iter().zip(told) {
        assert_eq!(read(&w, name).await, before, "{name}");
    }
    let Some(Sight::Delivery { delivery }) = seen(&w, &names[0]).await else { panic!("no delivery") };
    assert!(delivery.archived_at.is_some());
    let mut tx = w.store.read().await.unwrap();
    assert!(matches!(copies::mail(&mut tx, delivery.row.id).await, Err(MailError::Removed)));
}

async fn pages_go_on_from_the_tables_into_the_archive(on: On) {
    let mut w = world(on, Script::default()).await;
    history(&mut w).await;
    w.at(LATER).await;
    w.broken("bob-1").await;
    until(&mut w, "2025-09-02T08:20:00Z").await;
    let all = found(&w, &Filter::default()).await;
    assert_eq!((live(&w).await.as_str(), all.len()), ("1", 10));
    let (mut paged, mut place) = (Vec::new(), Some(Cursor::NEWEST));
    while let Some(after) = place {
        let page = search::deliveries(&mut w.store.read().await.unwrap(), &Filter::default(), after, 2).await.unwrap();
        paged.extend(page.ids);
        place = page.next;
    }
    assert_eq!(paged, all);
}

async fn what_may_still_be_owed_a_correction_stays(on: On) {
    let mut w = world(on, Script::default()).await;
    w.broken("ann-1").await;
    w.broken("bob-1").await;
    until(&mut w, "2025-06-02T08:20:00Z").await;
    w.recovered("ann-1", "automatic").await;
    w.at("2025-06-02T08:20:00Z").await;
    w.at("2025-06-03T08:00:00Z").await;
    w.at(LATER).await;
    assert_eq!(w.deliveries().await, ["action_required accepted"], "bob's inbox is still broken");
    w.recovered("bob-1", "automatic").await;
    w.settle().await;
    assert_table(
        w.all(),
        "UTC",
        "
        Mon 2 Jun 08:05 ann please reconnect: Inbox ann-1
        Mon 2 Jun 08:05 bob please reconnect: Inbox bob-1
        Mon 2 Jun 08:20 ann no action needed: Inbox ann-1
        Tue 2 Sep 08:00 bob no action needed: Inbox bob-1
        ",
    );
    w.at("2026-01-02T08:00:00Z").await;
    assert_eq!(live(&w).await, "0");
}

async fn a_post_mortem_finds_who_was_told_of_what_was_put_away(on: On) {
    let mut w = world(on, Script::default()).await;
    history(&mut w).await;
    w.at(LATER).await;
    assert_eq!(live(&w).await, "0");
    let told: Vec<_> = w.all().iter().filter(|m| m.to.starts_with("bob") && m.subject != "News").cloned().collect();
    let before = w.all().len();
    incident(&w, "postmortem", "operational").await;
    until(&mut w, "2025-09-02T08:30:00Z").await;
    let came: Vec<_> = w.all()[before..].to_vec();
    let to: HashSet<_> = came.iter().map(|m| m.to.clone()).collect();
    assert_eq!((came.len(), to.len()), (3, 3));
    let late = came.iter().find(|m| m.to.starts_with("bob")).unwrap();
    assert_eq!(late.header("In-Reply-To"), told.last().unwrap().header("Message-ID"));
    assert_eq!(late.subject, told[0].subject);
}

async fn what_was_put_away_is_not_sent_again(on: On) {
    let mut w = world(on, Script::default()).await;
    history(&mut w).await;
    let ids = found(&w, &Filter::default()).await;
    w.at(LATER).await;
    let said = ResendsIn { force: true, reason: Some("asked".to_owned()), ids: ids.clone(), ..ResendsIn::default() };
    let keyed = Keyed { key: None, body: &[] };
    let answered = ask(&w.store, &w.shared.setting, ("t", "cli:t"), &said, keyed, &mut HashSet::new()).await.unwrap();
    let Answered::Now(answer) = answered else { panic!("no key was given") };
    let why: HashSet<_> = answer.outcomes.iter().map(|o| o.refused.map(|why| why.as_str())).collect();
    assert_eq!((answer.outcomes.len(), why), (ids.len(), HashSet::from([Some("archived")])));
    assert_eq!(live(&w).await, "0");
}

async fn nothing_is_put_away_before_its_time(on: On) {
    let mut w = world(on, Script::default()).await;
    // Earlier than copies are kept: a mail waits for its own.
    w.shared.archive = Arc::new(Archive::new(Some(Span::hours(10 * 24))));
    w.restart();
    history(&mut w).await;
    let all = live(&w).await;
    w.at("2025-06-20T08:00:00Z").await;
    assert_eq!(live(&w).await, all);
    // By then the first mails' copies are gone, but not those of the last of the thread.
    w.at("2025-07-17T08:10:00Z").await;
    assert_eq!(live(&w).await, all);
    w.at("2025-07-20T08:00:00Z").await;
    assert_eq!(live(&w).await, "0");
    let mut never = world(on, Script::default()).await;
    never.shared.archive = Arc::new(Archive::new(None));
    never.restart();
    history(&mut never).await;
    never.at("2030-06-02T08:00:00Z").await;
    assert_eq!(live(&never).await, all);
}

async fn an_archive_that_fails_keeps_no_correction_waiting(on: On) {
    let mut w = world(on, Script::default()).await;
    history(&mut w).await;
    let all = live(&w).await;
    w.execute("ALTER TABLE archived_item RENAME TO elsewhere").await;
    w.broken("bob-1").await;
    until(&mut w, "2025-06-03T08:20:00Z").await;
    w.at(LATER).await;
    assert_eq!(live(&w).await, (all.parse::<i64>().unwrap() + 1).to_string());
    w.recovered("bob-1", "automatic").await;
    let came = w.settle().await;
    assert_eq!(came.iter().map(|mail| &*mail.to).collect::<Vec<_>>(), ["bob@example.net"]);
    w.execute("ALTER TABLE elsewhere RENAME TO archived_item").await;
    w.at("2025-09-02T09:10:00Z").await;
    assert_eq!(live(&w).await, "2", "what was not put away then is now");
}
