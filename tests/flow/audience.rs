//! Whom notices reach: components, groups, everything, recipients and filters, read in pages of two, on both
//! databases; and what each subscriber asked for.

use crate::on_both;
use crate::support::{On, World};
use allclear::domain::id::{ComponentId, SubscriberId};
use allclear::domain::incident::Impact;
use allclear::domain::subscription::Events;
use allclear::flow::audience::{self, Reach, Wants};
use allclear::flow::ingest::Answer;
use allclear::flow::intake::{self, NoticeIn};
use allclear::flow::{reading, register};
use allclear::store::setup;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

on_both! {
    followers_of_components_groups_and_everything_are_reached;
    a_filter_asks_for_every_name_and_any_of_its_values;
    a_filter_is_resolved_when_it_is_planned;
    recipients_and_filter_stick_until_everyone_is_meant;
    a_late_update_changes_nothing_about_who_is_reached;
    free_notices_reach_what_they_name_and_their_filter_lets_through;
    the_most_news_and_the_least_impact_of_the_matching_subscriptions_count;
    a_put_replaces_and_a_new_beginning_is_one;
    what_is_empty_or_unknown_is_an_error_with_its_field;
    a_filter_that_nobody_matches_is_taken_and_said;
}

/// Alpha and Beta in the group `eu`, Gamma in none.
async fn world(on: On) -> World {
    let w = World::new(on, "2026-04-30T10:00:00Z").await;
    for (key, group) in [("a", Some("eu")), ("b", Some("eu")), ("c", None)] {
        let said = json!({"name": format!("Component {key}"), "group": group});
        register::component(&w.store, key, &serde_json::from_value(said).unwrap()).await.unwrap();
    }
    w
}

async fn person(w: &World, key: &str, attributes: Value) {
    let said = json!({"address": format!("{key}@example.net"), "attributes": attributes});
    register::subscriber(&w.store, key, &serde_json::from_value(said).unwrap()).await.unwrap();
}

/// Seven followers of Alpha, on some apps in some regions.
async fn on_apps(w: &World) {
    for (key, attributes) in [
        ("ann", json!({"app": ["x"], "region": ["eu"]})),
        ("bob", json!({"app": ["y", "q"], "region": ["eu"]})),
        ("cem", json!({"app": ["x"], "region": ["us"]})),
        ("dan", json!({"app": ["z"], "region": ["eu"]})),
        ("eve", json!({})),
        ("fay", json!({"app": ["x", "y"], "region": ["us", "eu"]})),
        ("gus", json!({"region": ["x"], "app": ["eu"]})),
    ] {
        person(w, key, attributes).await;
        w.subscribe(key, "a").await;
    }
}

fn update(more: Value) -> Value {
    let mut said = json!({"kind": "incident", "incident": "i", "title": "T", "phase": "update", "body": "B"});
    said.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    said
}

fn free(more: Value) -> Value {
    let mut said = json!({"kind": "free", "subject": "S", "body": "B"});
    said.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    said
}

async fn ids(w: &World, components: &[&str]) -> Vec<ComponentId> {
    let mut tx = w.store.read().await.unwrap();
    let mut ids = Vec::new();
    for key in components {
        ids.push(setup::component_id(&mut tx, key).await.unwrap().unwrap());
    }
    ids
}

/// The reach of a notice as planning would see it now.
async fn reach(w: &World, said: &Value, answer: &Answer, concerned: &[ComponentId]) -> Reach {
    let mut tx = w.store.read().await.unwrap();
    let notice = answer.id.parse().unwrap();
    match intake::read::<NoticeIn>(said.to_string().as_bytes()).unwrap() {
        NoticeIn::Incident(n) => {
            let incident = answer.incident_id.as_ref().unwrap().parse().unwrap();
            audience::of_incident(&mut tx, incident, notice, &n, concerned).await.unwrap()
        }
        NoticeIn::Free(n) => audience::of_free(&mut tx, notice, &n).await.unwrap(),
        NoticeIn::ActionRequired(_) => unreachable!(),
    }
}

/// Everybody on a reach's lists, once, read in pages of two.
async fn listed(w: &World, reach: &Reach) -> Vec<SubscriberId> {
    let mut tx = w.store.read().await.unwrap();
    let mut found = BTreeSet::new();
    for list in 0..reach.lists.len() {
        let mut after = Uuid::nil();
        loop {
            let page = audience::page(&mut tx, reach, list, after, 2).await.unwrap();
            assert!(page.iter().all(|s| s.0 > after) && page.is_sorted_by_key(|s| s.0));
            found.extend(page.iter().map(|s| s.0));
            match page.last() {
                Some(last) if page.len() == 2 => after = last.0,
                _ => break,
            }
        }
    }
    found.into_iter().map(SubscriberId).collect()
}

async fn keys(w: &World, of: &[SubscriberId]) -> String {
    let mut tx = w.store.read().await.unwrap();
    let mut keys = Vec::new();
    for key in ["ann", "bob", "cem", "dan", "eve", "fay", "gus", "hal", "ida"] {
        let id = setup::subscriber_id(&mut tx, key).await.unwrap();
        keys.extend(id.filter(|id| of.contains(id)).map(|_| key));
    }
    keys.join(" ")
}

/// Says it; who is on its lists. For an incident `wants` agrees, asked about every subscriber.
async fn reached(w: &World, said: Value, concerned: &[&str]) -> String {
    let answer = w.notice(said.clone()).await;
    reached_by(w, &said, &answer, concerned).await
}

async fn reached_by(w: &World, said: &Value, answer: &Answer, concerned: &[&str]) -> String {
    let concerned = ids(w, concerned).await;
    let reach = reach(w, said, answer, &concerned).await;
    let listed = listed(w, &reach).await;
    if answer.incident_id.is_some() && !reach.explicit {
        let wants = wants(w, &reach, &concerned).await;
        assert_eq!(wants.into_keys().map(|s| s.0).collect::<BTreeSet<_>>(), listed.iter().map(|s| s.0).collect());
    }
    keys(w, &listed).await
}

async fn wants(w: &World, reach: &Reach, concerned: &[ComponentId]) -> BTreeMap<SubscriberId, Wants> {
    let everybody = Reach { lists: vec![allclear::store::audience::Audience::Everyone], explicit: false, filter: None };
    let everybody = listed(w, &everybody).await;
    let mut tx = w.store.read().await.unwrap();
    audience::wants(&mut tx, reach, &everybody, concerned).await.unwrap().into_iter().collect()
}

async fn followers_of_components_groups_and_everything_are_reached(on: On) {
    let w = world(on).await;
    for (who, said) in [
        ("ann", json!({"group": "eu"})),
        ("bob", json!({"component": "b"})),
        ("cem", json!({})),
        ("dan", json!({"component": "c"})),
        ("eve", json!({"group": "eu", "events": "none"})),
        ("fay", json!({"component": "a"})),
        ("fay", json!({"component": "a", "active": false})),
    ] {
        person(&w, who, json!({})).await;
        let mut said = said;
        said["subscriber"] = json!(who);
        w.subscription(said).await;
    }
    let named = update(json!({"phase": "investigating", "groups": ["eu"]}));
    assert_eq!(reached(&w, named, &["a", "b"]).await, "ann bob cem");
    let components = w.query(
        "SELECT c.key, i.status FROM incident_component i JOIN component c ON c.id = i.component_id ORDER BY c.key",
    );
    let degraded = |key: &str| vec![Some(key.to_owned()), Some("degraded_performance".to_owned())];
    assert_eq!(components.await, [degraded("a"), degraded("b")]);
    assert_eq!(reached(&w, update(json!({"components": [{"key": "a"}]})), &["a"]).await, "ann cem");
    assert_eq!(reached(&w, update(json!({"components": [{"key": "c"}]})), &["c"]).await, "cem dan");
    // An incident that names no component reaches only subscribers of everything.
    assert_eq!(reached(&w, update(json!({"incident": "j"})), &[]).await, "cem");
    // A state that is said goes before the group's silence.
    let down =
        update(json!({"incident": "k", "groups": ["eu"], "components": [{"key": "b", "status": "major_outage"}]}));
    let answer = w.notice(down).await;
    let states = w.query("SELECT i.status FROM incident_component i JOIN incident x ON x.id = i.incident_id AND x.key = 'k' ORDER BY i.status").await;
    assert_eq!(states.concat(), [Some("degraded_performance".to_owned()), Some("major_outage".to_owned())]);
    // Who follows the group follows each of its components.
    let concerned = ids(&w, &["a", "b", "c"]).await;
    let reach = reach(&w, &update(json!({})), &answer, &concerned).await;
    let follows: Vec<_> =
        wants(&w, &reach, &concerned).await.into_values().map(|w| (w.follows.len(), w.everything)).collect();
    assert_eq!(follows, [(2, false), (1, false), (3, true), (1, false)]);
}

async fn a_filter_asks_for_every_name_and_any_of_its_values(on: On) {
    let w = world(on).await;
    on_apps(&w).await;
    person(&w, "hal", json!({"app": ["x"], "region": ["eu"]})).await;
    person(&w, "ida", json!({"app": ["x"], "region": ["eu"]})).await;
    w.subscribe_to_everything("ida").await;
    for (filter, expected) in [
        (json!({"app": ["x", "y"], "region": ["eu"]}), "ann bob fay ida"),
        (json!({"app": ["x"]}), "ann cem fay ida"),
        (json!({"app": ["x", "x", "y"], "region": ["us", "eu"]}), "ann bob cem fay ida"),
        (json!({"region": ["eu"], "app": ["z", "none"]}), "dan"),
        (json!({"app": ["x"], "region": ["eu"], "plan": ["pro"]}), ""),
        (json!({"app": ["' OR 1=1 --"]}), ""),
    ] {
        let said = update(json!({"components": [{"key": "a"}], "filter": filter}));
        assert_eq!(reached(&w, said, &["a"]).await, expected, "{filter}");
    }
}

async fn a_filter_is_resolved_when_it_is_planned(on: On) {
    let w = world(on).await;
    on_apps(&w).await;
    let said = update(json!({"components": [{"key": "a"}], "filter": {"app": ["z"]}}));
    let answer = w.notice(said.clone()).await;
    assert_eq!(reached_by(&w, &said, &answer, &["a"]).await, "dan");
    person(&w, "dan", json!({"app": ["x"]})).await;
    person(&w, "eve", json!({"app": ["z"]})).await;
    assert_eq!(reached_by(&w, &said, &answer, &["a"]).await, "eve");
}

async fn recipients_and_filter_stick_until_everyone_is_meant(on: On) {
    let w = world(on).await;
    on_apps(&w).await;
    let a = |more: Value| {
        let mut said = update(json!({"components": [{"key": "a"}]}));
        said.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        said
    };
    assert_eq!(reached(&w, a(json!({})), &["a"]).await, "ann bob cem dan eve fay gus");
    assert_eq!(reached(&w, a(json!({"filter": {"app": ["z"]}})), &["a"]).await, "dan");
    assert_eq!(reached(&w, update(json!({})), &["a"]).await, "dan");
    assert_eq!(reached(&w, a(json!({"recipients": ["eve", "gus"]})), &["a"]).await, "eve gus");
    assert_eq!(reached(&w, a(json!({"deliver": false})), &["a"]).await, "eve gus");
    assert_eq!(reached(&w, update(json!({"phase": "postmortem"})), &["a"]).await, "eve gus");
    assert_eq!(reached(&w, a(json!({"filter": {"region": ["us"]}})), &["a"]).await, "cem fay");
    assert_eq!(reached(&w, a(json!({"everyone": true})), &["a"]).await, "ann bob cem dan eve fay gus");
    assert_eq!(reached(&w, a(json!({})), &["a"]).await, "ann bob cem dan eve fay gus");
    // Another incident is not touched by any of this.
    assert_eq!(reached(&w, a(json!({"incident": "j"})), &["a"]).await, "ann bob cem dan eve fay gus");
}

async fn a_late_update_changes_nothing_about_who_is_reached(on: On) {
    let w = world(on).await;
    on_apps(&w).await;
    let said = |more: Value| {
        let mut said = update(json!({"components": [{"key": "a"}]}));
        said.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        said
    };
    w.notice(said(json!({"filter": {"app": ["z"]}}))).await;
    let late = w.notice(said(json!({"everyone": true, "observed_at": "2026-04-30T09:00:00Z"}))).await;
    assert_eq!(late.outcome.as_str(), "stale_at_birth");
    w.notice(said(json!({"recipients": ["gus"], "observed_at": "2026-04-30T09:00:00Z"}))).await;
    assert_eq!(reached(&w, said(json!({})), &["a"]).await, "dan");
}

async fn free_notices_reach_what_they_name_and_their_filter_lets_through(on: On) {
    let w = world(on).await;
    on_apps(&w).await;
    person(&w, "hal", json!({"app": ["x"]})).await;
    person(&w, "ida", json!({})).await;
    w.subscription(json!({"subscriber": "hal", "group": "eu"})).await;
    w.subscription(json!({"subscriber": "gus", "component": "a", "events": "none"})).await;
    for (said, expected) in [
        (json!({"recipients": ["ida", "gus"]}), "gus ida"),
        (json!({"groups": ["eu"]}), "ann bob cem dan eve fay hal"),
        (json!({"components": ["a"], "recipients": ["ida"]}), "ann bob cem dan eve fay hal ida"),
        (json!({"components": ["b", "c"]}), "hal"),
        (json!({"groups": ["eu"], "recipients": ["ida", "ann"], "filter": {"app": ["x"]}}), "ann cem fay hal"),
        (json!({"everyone": true}), "ann bob cem dan eve fay gus hal ida"),
        (json!({"everyone": true, "filter": {"app": ["x"], "region": ["us"]}}), "cem fay"),
    ] {
        assert_eq!(reached(&w, free(said.clone()), &[]).await, expected, "{said}");
    }
}

async fn the_most_news_and_the_least_impact_of_the_matching_subscriptions_count(on: On) {
    let mut w = world(on).await;
    person(&w, "ann", json!({})).await;
    let subscribed = |more: Value| {
        let mut said = json!({"subscriber": "ann"});
        said.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        said
    };
    w.subscription(subscribed(json!({"component": "a", "events": "begin_and_end", "least_impact": "major"}))).await;
    let since = w.now();
    w.pass(10).await;
    w.subscription(subscribed(json!({"group": "eu", "events": "all", "least_impact": "critical"}))).await;
    w.subscription(subscribed(json!({"events": "none", "least_impact": "none"}))).await;
    let answer = w.notice(update(json!({"components": [{"key": "a"}]}))).await;
    for (components, expected) in [
        (vec!["a"], Some((Events::All, Impact::Major, since))),
        (vec!["b"], Some((Events::All, Impact::Critical, w.now()))),
        (vec!["c"], None),
        (vec![], None),
    ] {
        let concerned = ids(&w, &components).await;
        let reach = reach(&w, &update(json!({})), &answer, &concerned).await;
        let all = wants(&w, &reach, &concerned).await;
        let of = all.into_values().next().map(|w| (w.events, w.least_impact, w.since));
        assert_eq!(of, expected, "{components:?}");
    }
}

/// What is followed, with preferences, begin and end in minutes since ten.
async fn subscriptions(w: &World) -> String {
    let rows = w.query(
        "SELECT COALESCE(c.key, s.group_key, 'everything'), s.events, s.least_impact,
            CAST((s.created_at - 1777543200000000) / 60000000 AS TEXT),
            CAST((s.ended_at - 1777543200000000) / 60000000 AS TEXT)
         FROM subscription s LEFT JOIN component c ON c.id = s.component_id ORDER BY 1",
    );
    rows.await.concat().into_iter().map(|cell| cell.unwrap_or("-".to_owned())).collect::<Vec<_>>().join(" ")
}

async fn a_put_replaces_and_a_new_beginning_is_one(on: On) {
    let mut w = world(on).await;
    person(&w, "ann", json!({})).await;
    let put = |more: Value| {
        let mut said = json!({"subscriber": "ann", "group": "eu"});
        said.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        said
    };
    w.subscription(put(json!({"events": "begin_and_end", "least_impact": "major"}))).await;
    assert_eq!(subscriptions(&w).await, "eu begin_and_end major 0 -");
    w.pass(1).await;
    w.subscription(put(json!({}))).await;
    assert_eq!(subscriptions(&w).await, "eu all none 0 -", "what is left out is as by default");
    w.subscription(put(json!({"active": false}))).await;
    w.pass(1).await;
    w.subscription(put(json!({"active": false}))).await;
    assert_eq!(subscriptions(&w).await, "eu all none 0 1", "it ended when it was ended first");
    w.pass(1).await;
    w.subscription(put(json!({}))).await;
    assert_eq!(subscriptions(&w).await, "eu all none 3 -", "begun again it counts from then on");
    w.subscription(put(json!({"events": "none"}))).await;
    w.pass(1).await;
    w.subscription(put(json!({"events": "begin_and_end"}))).await;
    assert_eq!(subscriptions(&w).await, "eu begin_and_end none 4 -", "asking for nothing is as not being subscribed");
    w.subscription(json!({"subscriber": "ann", "component": "a"})).await;
    w.subscription(json!({"subscriber": "ann"})).await;
    let all = "a all none 4 - eu begin_and_end none 4 - everything all none 4 -";
    assert_eq!(subscriptions(&w).await, all);
    w.subscription(json!({"subscriber": "ann", "component": "b", "active": false})).await;
    assert_eq!(subscriptions(&w).await, all, "what there is not is not ended");
}

async fn what_is_empty_or_unknown_is_an_error_with_its_field(on: On) {
    let w = world(on).await;
    on_apps(&w).await;
    let (a, everyone) = (json!([{"key": "a"}]), json!(true));
    for (said, field) in [
        (update(json!({"components": a, "filter": {}})), "filter"),
        (update(json!({"components": a, "filter": {"app": []}})), "filter.app"),
        (update(json!({"components": a, "filter": {"app": ["x"], "region": []}})), "filter.region"),
        (update(json!({"components": a, "filter": {"app": ["x", ""]}})), "filter.app[1]"),
        (update(json!({"components": a, "filter": {" ": ["x"]}})), "filter"),
        (update(json!({"components": a, "filter": {"app": vec!["x"; 101]}})), "filter.app"),
        (update(json!({"groups": ["us"]})), "groups[0]"),
        (update(json!({"groups": ["eu", ""]})), "groups[1]"),
        (update(json!({"components": [{"key": "a"}, {"key": "z"}]})), "components[1].key"),
        (update(json!({"recipients": ["ann"], "filter": {"app": ["x"]}})), "filter"),
        (update(json!({"recipients": ["ann"], "everyone": everyone})), "everyone"),
        (update(json!({"filter": {"app": ["x"]}, "everyone": everyone})), "everyone"),
        (free(json!({})), "recipients"),
        (free(json!({"recipients": [], "components": [], "groups": [], "everyone": false})), "recipients"),
        (free(json!({"filter": {"app": ["x"]}})), "filter"),
        (free(json!({"everyone": everyone, "filter": {}})), "filter"),
        (free(json!({"everyone": everyone, "recipients": ["ann"]})), "everyone"),
        (free(json!({"groups": ["eu", "us"]})), "groups[1]"),
        (free(json!({"components": ["z"]})), "components[0]"),
    ] {
        let error = w.try_notice(said.clone()).await.unwrap_err().to_string();
        assert!(error.contains(&format!(": {field}: ")) || error.starts_with(&format!("{field}: ")), "{said}: {error}");
    }
    for (said, field) in [
        (update(json!({"filter": null})), "filter"),
        (update(json!({"filter": ["app", "x"]})), "filter"),
        (update(json!({"filter": "app=x"})), "filter"),
        (update(json!({"filter": {"app": "x"}})), "filter.app"),
        (update(json!({"filter": {"app": [1]}})), "filter.app[0]"),
        (update(json!({"groups": "eu"})), "groups"),
        (update(json!({"everyone": "yes"})), "everyone"),
        (free(json!({"everyone": everyone, "filter": null})), "filter"),
        (free(json!({"everyone": everyone, "filter": {"app": {"x": 1}}})), "filter.app"),
    ] {
        let error = reading::notice(said.to_string().as_bytes()).unwrap_err().into_field();
        assert_eq!(error.field, field, "{said}: {error:?}");
    }
    assert!(w.query("SELECT id FROM notice").await.is_empty(), "nothing of it was recorded");
}

async fn a_filter_that_nobody_matches_is_taken_and_said(on: On) {
    let w = world(on).await;
    on_apps(&w).await;
    let filter = json!({"app": ["x"], "plan": ["pro"], "region": ["mars"]});
    let answer = w.notice(update(json!({"components": [{"key": "a"}], "filter": filter}))).await;
    assert_eq!(answer.outcome.as_str(), "planned");
    let note = "it reaches nobody now: no subscriber has a value given for `plan`, `region`";
    assert_eq!(answer.note.as_deref(), Some(note));
    let answer = w.notice(free(json!({"everyone": true, "filter": {"app": ["x"]}}))).await;
    assert_eq!(answer.note, None);
}
