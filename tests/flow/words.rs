//! What mails say: each connection with the words and the page that are its own, and nothing that is not true of it.

use crate::on_both;
use crate::support::{Got, On, World};
use allclear::domain::time::Span;
use allclear::mail::sink::{Answer, Phase, Script};
use allclear::store::setup;
use serde_json::{Value, json};

on_both! {
    what_was_said_of_one_connection_stands_beside_no_other;
    each_text_stands_beside_the_connections_it_is_about;
    the_same_words_of_several_notices_are_said_once;
    each_connection_has_its_own_page;
    connections_of_one_name_are_told_apart;
    an_end_names_what_still_needs_its_reader;
    a_correction_says_since_when_it_is_true;
    whoever_was_addressed_need_not_follow_anything;
    whoever_was_told_as_a_follower_was_not_addressed;
    who_follows_it_no_more_is_not_said_to_follow_it;
    nothing_works_while_another_open_incident_has_it_in_trouble;
    an_end_that_waited_for_a_day_calls_nothing_well_that_is_down;
    an_all_clear_says_since_when_it_is_true;
    not_all_is_clear_while_another_incident_lasts;
    not_all_is_clear_at_the_second_try_when_another_incident_came;
    an_all_clear_says_when_what_it_names_broke;
}

async fn world(on: On) -> World {
    world_of(on, Script::default()).await
}

async fn world_of(on: On, script: Script) -> World {
    let w = World::with(on, "2025-06-02T08:00:00Z", script, |_| {}).await;
    w.component("a", "Alpha").await;
    for key in ["ann", "bob"] {
        w.subscriber(key).await;
    }
    for key in ["s1", "s2", "s3"] {
        w.connection(key, "a", "ann").await;
    }
    w
}

/// Names a connection anew, and its page.
async fn call(w: &World, key: &str, name: &str, link: Option<&str>) {
    let mut tx = w.store.begin().await.unwrap();
    let component = setup::component_id(&mut tx, "a").await.unwrap().unwrap();
    let ann = setup::subscriber_id(&mut tx, "ann").await.unwrap().unwrap();
    let link = link.map(str::to_owned);
    let row = setup::ConnectionRow { key: key.into(), component, name: name.into(), link, subscribers: vec![ann] };
    setup::put_connection(&mut tx, &row).await.unwrap();
    tx.commit().await.unwrap();
}

fn asks(connection: &str, more: Value) -> Value {
    let mut said = json!({"kind": "action_required", "connections": [connection],
        "what_happened": format!("The key of {connection} has changed."), "what_to_do": format!("Enter the key of {connection}."),
        "link": format!("https://app.example/{connection}")});
    said.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    said
}

/// An update of an incident about Alpha.
fn said(incident: &str, phase: &str, status: Option<&str>, more: Value) -> Value {
    let components: Vec<_> = status.iter().map(|status| json!({"key": "a", "status": status})).collect();
    let mut said = json!({"kind": "incident", "incident": incident, "title": "Slow", "phase": phase,
        "body": format!("Now {phase}."), "components": components});
    said.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    said
}

/// The text part, with its line ends as spaces.
fn plain(mail: &Got) -> String {
    let text = mail.text();
    text.split("text/html").next().unwrap().to_owned()
}

async fn what_was_said_of_one_connection_stands_beside_no_other(on: On) {
    let mut w = world(on).await;
    w.notice(asks("s1", json!({}))).await;
    w.pass(1).await;
    w.broken("s3").await;
    w.pass(1).await;
    w.recovered("s1", "automatic").await;
    let got = w.pass(10).await;
    assert_eq!(got.len(), 1);
    let text = plain(&got[0]);
    assert!(text.contains("- Inbox s3, since"), "{text}");
    assert!(!text.contains("s1"), "{text}");
}

async fn each_text_stands_beside_the_connections_it_is_about(on: On) {
    let mut w = world(on).await;
    w.broken("s3").await;
    w.pass(1).await;
    w.notice(asks("s1", json!({"what_we_did": "We paused s1."}))).await;
    w.notice(asks("s2", json!({}))).await;
    let got = w.pass(10).await;
    assert_eq!(got.len(), 1, "one mail of one component");
    let text = plain(&got[0]);
    assert!(text.contains("Action needed: 3 of your connections to Alpha do not work."), "{text}");
    // One after the other, each with its own words.
    let place = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what} is not in {text}"));
    let (own, s1, s2) = (place("- Inbox s3,"), place("- Inbox s1,"), place("- Inbox s2,"));
    let between = |from: usize| text[from..].split("* * *").next().unwrap().to_owned();
    let (own, s1, s2) = (between(own), between(s1), between(s2));
    assert!(
        own.contains("has stopped working") && own.contains("We waited") && !own.contains("Enter the key"),
        "{own}"
    );
    assert!(s1.contains("Enter the key of s1.") && s1.contains("https://app.example/s1"), "{s1}");
    assert!(s1.contains("We paused s1."), "{s1}");
    assert!(s2.contains("Enter the key of s2.") && !s2.contains("What we did"), "{s2}");
    for (part, other) in [(&own, "app.example"), (&s1, "s2"), (&s2, "app.example/s1")] {
        assert!(!part.contains(other), "{other} in {part}");
    }
}

async fn the_same_words_of_several_notices_are_said_once(on: On) {
    let mut w = world(on).await;
    for key in ["s1", "s2", "s3"] {
        let same = json!({"what_happened": "The password has changed.", "what_to_do": "Sign in again.",
            "link": "https://app.example/all"});
        w.notice(asks(key, same)).await;
    }
    let text = plain(&w.pass(10).await[0]);
    assert_eq!(text.matches("Sign in again.").count(), 1, "{text}");
    assert!(text.contains("Fix these connections: https://app.example/all"), "{text}");
    assert!(["s1", "s2", "s3"].iter().all(|key| text.contains(&format!("- Inbox {key}, since"))), "{text}");
}

async fn each_connection_has_its_own_page(on: On) {
    let mut w = world(on).await;
    call(&w, "s1", "Front desk", Some("https://app.example/1")).await;
    call(&w, "s2", "Back office", Some("https://app.example/2")).await;
    w.broken("s1").await;
    w.broken("s2").await;
    let text = plain(&w.pass(10).await[0]);
    for (name, page) in [("Front desk", "https://app.example/1"), ("Back office", "https://app.example/2")] {
        let line = text.split(&format!("- {name}, since")).nth(1).unwrap_or_else(|| panic!("{text}"));
        assert!(line.split("- ").next().unwrap().contains(page), "{text}");
    }
    assert!(!text.contains("Fix these connections"), "{text}");
    // Of one page for both it is said once.
    call(&w, "s2", "Back office", Some("https://app.example/1")).await;
    w.recovered("s1", "customer").await;
    w.recovered("s2", "customer").await;
    w.pass(30).await;
    w.broken("s1").await;
    w.broken("s2").await;
    let text = plain(&w.pass(10).await[0]);
    assert_eq!(text.matches("https://app.example/1").count(), 1, "{text}");
    assert!(text.contains("Fix these connections: https://app.example/1"), "{text}");
}

async fn connections_of_one_name_are_told_apart(on: On) {
    let mut w = world(on).await;
    for key in ["s1", "s2", "s3"] {
        call(&w, key, "Gmail", None).await;
        w.broken(key).await;
    }
    let text = plain(&w.pass(10).await[0]);
    assert!(["s1", "s2", "s3"].iter().all(|key| text.contains(&format!("- Gmail ({key}), since"))), "{text}");
    w.recovered("s1", "automatic").await;
    let text = plain(&w.pass(10).await[0]);
    assert!(text.contains("No action needed for Gmail (s1). 2 other connections to Alpha are not back yet."), "{text}");
    assert!(text.contains("- Gmail (s2) - Gmail (s3)"), "{text}");
    w.recovered("s2", "automatic").await;
    w.recovered("s3", "automatic").await;
    let text = plain(&w.pass(10).await[0]);
    assert!(text.contains("Your 2 connections to Alpha work again."), "{text}");
}

async fn an_end_names_what_still_needs_its_reader(on: On) {
    let mut w = world(on).await;
    w.subscribe("ann", "a").await;
    w.subscribe("bob", "a").await;
    w.broken("s1").await;
    w.pass(10).await;
    let said = |phase: &str, status: &str| {
        json!({"kind": "incident", "incident": "i-1", "title": "Slow", "phase": phase, "body": "It is so.",
            "components": [{"key": "a", "status": status}]})
    };
    w.notice(said("investigating", "partial_outage")).await;
    w.pass(30).await;
    w.notice(said("resolved", "operational")).await;
    let ends = w.pass(10).await;
    for end in &ends {
        let text = plain(end);
        assert!(text.contains("Resolved: Alpha works normally again."), "{text}");
        let is_asked = end.to.starts_with("ann");
        assert_eq!(text.contains("Not back yet, of what we asked you about: - Inbox s1"), is_asked, "{text}");
    }
    assert_eq!(ends.len(), 2);
}

async fn a_correction_says_since_when_it_is_true(on: On) {
    let mut w = world(on).await;
    w.broken("s1").await;
    w.recovered("s1", "automatic").await;
    w.down("a").await;
    w.pass(5).await;
    w.up("a").await;
    // Weeks later nothing of that says since when it works.
    w.at("2025-06-20T08:00:00Z").await;
    w.broken("s1").await;
    assert_eq!(w.pass(10).await.len(), 1);
    let covering =
        json!({"component": "a", "what": "recovered", "connections": "all", "since": "2025-06-20T07:00:00Z"});
    w.signal(covering).await;
    let text = plain(&w.pass(10).await[0]);
    assert!(text.contains("- Inbox s1, working again since Fri 20 Jun 2025"), "{text}");
}

async fn whoever_was_addressed_need_not_follow_anything(on: On) {
    let mut w = world(on).await;
    w.subscribe("ann", "a").await;
    let said = |phase: &str, more: Value| {
        let mut said = json!({"kind": "incident", "incident": "i-1", "title": "Slow", "phase": phase, "body": "It is so.",
            "components": [{"key": "a", "status": "partial_outage"}]});
        said.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        said
    };
    w.notice(said("investigating", json!({"recipients": ["bob"]}))).await;
    w.pass(10).await;
    // Later updates keep to those the first has named.
    w.notice(said("identified", json!({}))).await;
    w.pass(30).await;
    w.notice(json!({"kind": "free", "subject": "Hello", "body": "To you.", "recipients": ["bob"]})).await;
    w.notice(json!({"kind": "free", "subject": "News", "body": "To followers.", "components": ["a"]})).await;
    w.notice(json!({"kind": "free", "subject": "More", "body": "To all.", "everyone": true})).await;
    w.pass(10).await;
    for mail in w.all() {
        let text = plain(mail);
        let addressed = text.contains("You get this because it was addressed to you.");
        assert_eq!(addressed, mail.to.starts_with("bob") || text.contains("To all."), "{text}");
    }
    assert_eq!(w.all().len(), 6, "{:?}", w.all().iter().map(plain).collect::<Vec<_>>());
}

async fn whoever_was_told_as_a_follower_was_not_addressed(on: On) {
    let mut w = world(on).await;
    w.subscribe("ann", "a").await;
    w.subscribe("bob", "a").await;
    w.notice(said("i-1", "investigating", Some("major_outage"), json!({}))).await;
    assert_eq!(w.pass(10).await.len(), 2);
    w.notice(said("i-1", "identified", None, json!({"recipients": ["ann"]}))).await;
    assert_eq!(w.pass(10).await.len(), 1);
    // The end goes to all who were told.
    w.notice(said("i-1", "resolved", None, json!({}))).await;
    let ends = w.pass(10).await;
    assert_eq!(ends.len(), 2);
    for end in &ends {
        let text = plain(end);
        assert_eq!(text.contains("because it was addressed to you."), end.to.starts_with("ann"), "{text}");
        assert_eq!(text.contains("because you follow Alpha."), end.to.starts_with("bob"), "{text}");
    }
}

async fn who_follows_it_no_more_is_not_said_to_follow_it(on: On) {
    for resolved in [true, false] {
        let mut w = world(on).await;
        w.subscriber("cem").await;
        for key in ["ann", "bob", "cem"] {
            w.subscribe(key, "a").await;
        }
        w.notice(said("i-1", "investigating", Some("major_outage"), json!({}))).await;
        w.pass(10).await;
        w.subscription(json!({"subscriber": "bob", "component": "a", "active": false})).await;
        w.subscription(json!({"subscriber": "cem", "component": "a", "events": "none"})).await;
        match resolved {
            true => w.notice(said("i-1", "resolved", None, json!({}))).await,
            false => w.up("a").await,
        };
        let ends = w.pass(20).await;
        assert_eq!(ends.len(), 3);
        for end in &ends {
            let text = plain(end);
            let follows = end.to.starts_with("ann");
            assert_eq!(text.contains("because you follow Alpha."), follows, "{text}");
            assert_eq!(text.contains("because we told you of it before."), !follows, "{text}");
        }
    }
}

async fn nothing_works_while_another_open_incident_has_it_in_trouble(on: On) {
    for (status, does) in
        [("degraded_performance", "has degraded performance"), ("partial_outage", "has a partial outage")]
    {
        let mut w = world(on).await;
        w.subscribe("ann", "a").await;
        w.notice(said("i-2", "investigating", Some(status), json!({}))).await;
        w.pass(10).await;
        w.notice(said("i-1", "investigating", Some("major_outage"), json!({}))).await;
        w.pass(10).await;
        w.notice(said("i-1", "monitoring", Some("operational"), json!({}))).await;
        let got: Vec<_> = w.pass(40).await.iter().map(plain).collect();
        let watched = format!("Monitoring: Alpha {does}; a fix is in place and we are watching it.");
        assert!(got.len() == 1 && got[0].contains(&watched), "{got:#?}");
        assert!(!got[0].contains("Operational"), "{got:#?}");
        // What is to come says nothing of the present.
        w.notice(said("i-3", "scheduled", Some("under_maintenance"), json!({"started_at": "2025-06-02T08:00:00Z"})))
            .await;
        w.pass(10).await;
        w.notice(said("i-2", "resolved", None, json!({}))).await;
        w.notice(said("i-1", "resolved", None, json!({}))).await;
        let got: Vec<_> = w.pass(10).await.iter().map(plain).collect();
        let well = |text: &String| text.contains("Resolved: Alpha works normally again.");
        assert!(got.len() == 2 && got.iter().all(well), "{got:#?}");
    }
}

async fn an_end_that_waited_for_a_day_calls_nothing_well_that_is_down(on: On) {
    for elsewhere in [true, false] {
        let mut w = world(on).await;
        w.subscribe("ann", "a").await;
        w.notice(said("i-1", "investigating", Some("major_outage"), json!({}))).await;
        w.pass(10).await;
        if elsewhere {
            w.notice(said("i-2", "investigating", Some("partial_outage"), json!({}))).await;
            w.pass(10).await;
        }
        w.notice(said("i-1", "resolved", None, json!({}))).await;
        if !elsewhere {
            w.down("a").await;
        }
        let resolved =
            |got: Vec<Got>| got.iter().map(plain).filter(|text| text.contains("Resolved")).collect::<Vec<_>>();
        assert_eq!(resolved(w.pass(30).await), [""; 0], "elsewhere {elsewhere}");
        w.at("2025-06-03T10:00:00Z").await;
        w.pass(10).await;
        let ends = resolved(w.all().to_vec());
        assert!(
            ends.len() == 1 && ends[0].contains("Resolved: the incident is over, but Alpha has a partial outage."),
            "elsewhere {elsewhere}: {ends:#?}"
        );
    }
}

async fn an_all_clear_says_since_when_it_is_true(on: On) {
    let mut w = world(on).await;
    w.subscribe("ann", "a").await;
    w.at("2025-06-02T12:00:00Z").await;
    let at = |at: &str| json!({"observed_at": at});
    w.notice(said("i-1", "identified", Some("degraded_performance"), at("2025-06-02T07:00:00Z"))).await;
    w.pass(10).await;
    w.notice(said("i-1", "update", Some("operational"), at("2025-06-02T09:00:00Z"))).await;
    let heard = w.now();
    w.pass(20).await;
    let last = w.all().last().unwrap();
    let text = plain(last);
    assert!(text.contains("All clear: Alpha works normally again.") && text.contains("Lasted: 2 hours"), "{text}");
    assert!(text.contains("Working again since: Mon 2 Jun 2025, 11:00"), "{text}");
    assert!(last.at - heard >= Span::minutes(10), "believed once it has lasted since it was heard of");
}

async fn not_all_is_clear_while_another_incident_lasts(on: On) {
    for lasts in [true, false] {
        let mut w = world(on).await;
        w.component("b", "Beta").await;
        w.subscribe("ann", "a").await;
        w.subscribe("ann", "b").await;
        w.notice(said("i-1", "investigating", Some("major_outage"), json!({}))).await;
        let beta = json!({"components": [{"key": "b", "status": "major_outage"}]});
        w.notice(said("i-2", "investigating", None, beta)).await;
        assert_eq!(w.pass(10).await.len(), 2);
        if !lasts {
            w.notice(said("i-2", "resolved", None, json!({}))).await;
            w.pass(10).await;
        }
        w.up("a").await;
        let got: Vec<_> = w.pass(20).await.iter().map(plain).collect();
        assert!(got.len() == 1 && got[0].contains("Alpha works normally again."), "{got:#?}");
        assert_eq!(got[0].contains("All clear"), !lasts, "{got:#?}");
    }
}

async fn not_all_is_clear_at_the_second_try_when_another_incident_came(on: On) {
    let later = |at, nth| (at == Phase::Rcpt && nth == 2).then(|| Answer::reply(at, "451 4.7.1 later"));
    let mut w = world_of(on, Script::default().answering(move |at, _, nth| later(at, nth))).await;
    w.component("b", "Beta").await;
    w.subscribe("ann", "a").await;
    w.subscribe("ann", "b").await;
    w.notice(said("i-1", "investigating", Some("major_outage"), json!({}))).await;
    assert_eq!(w.pass(1).await.len(), 1);
    w.up("a").await;
    let put_off = "all_clear queued retry".to_owned();
    for _ in 0..20 {
        if !w.deliveries().await.contains(&put_off) {
            w.pass(1).await;
        }
    }
    assert!(w.deliveries().await.contains(&put_off), "{:?}", w.deliveries().await);
    // It is told within the second before the all-clear is tried again.
    w.notice(said("i-2", "investigating", None, json!({"components": [{"key": "b", "status": "major_outage"}]}))).await;
    assert_eq!(w.settle().await.len(), 1);
    let got: Vec<_> = w.pass(1).await.iter().map(plain).collect();
    assert!(got.len() == 1 && got[0].contains("Alpha works normally again."), "{got:#?}");
    assert!(!got[0].contains("All clear"), "{got:#?}");
}

async fn an_all_clear_says_when_what_it_names_broke(on: On) {
    let mut w = world(on).await;
    w.component("b", "Beta").await;
    w.subscribe("ann", "a").await;
    w.subscribe("bob", "b").await;
    w.notice(said("i-1", "investigating", Some("degraded_performance"), json!({}))).await;
    w.pass(60).await;
    let beta =
        |status: &str| json!({"components": [{"key": "b", "status": status}], "body": format!("Beta: {status}.")});
    for (begins, told) in [("11:00", "Lasted: 20 minutes"), ("11:50", "Lasted: 10 minutes")] {
        w.notice(said("i-1", "identified", None, beta("partial_outage"))).await;
        w.pass(if begins == "11:00" { 20 } else { 10 }).await;
        w.notice(said("i-1", "identified", None, beta("operational"))).await;
        w.pass(30).await;
        let text = plain(w.all().last().unwrap());
        assert!(text.contains("All clear: Beta works normally again.") && text.contains(told), "{text}");
        assert!(text.contains(&format!("Began: Mon 2 Jun 2025, {begins}")), "{text}");
    }
    w.notice(said("i-1", "identified", Some("operational"), json!({}))).await;
    let text = plain(w.pass(20).await.last().unwrap());
    assert!(text.contains("All clear: Alpha works") && text.contains("Began: Mon 2 Jun 2025, 10:00"), "{text}");
}
