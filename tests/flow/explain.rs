//! What support sees: every step with its time, rule and evidence, alike over HTTP and on the command line; searches
//! that find what they should and nothing else; and how our own queue does.

use crate::on_both;
use crate::support::{On, World};
use allclear::domain::class::Class;
use allclear::domain::hold::{HoldCause, HoldScope};
use allclear::domain::key::Scope;
use allclear::domain::time::Span;
use allclear::flow::worker;
use allclear::http::{Api, router};
use allclear::mail::sink::{Answer, Envelope, Phase, Script};
use allclear::store::{holds, keys, setup};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Command;
use tower::ServiceExt;

on_both! {
    a_mail_that_was_taken_back_tells_its_story;
    what_was_heard_in_one_moment_is_told_in_its_order;
    a_hold_and_what_ended_it_are_told;
    what_is_let_go_is_not_said_to_be_held;
    a_refusal_is_told_in_the_relays_words_and_found_by_them;
    who_gets_no_mail_any_more_does_not_wait_for_a_turn;
    whoever_is_named_in_any_way_is_found;
    a_key_of_two_kinds_is_shown_as_both;
    a_key_that_looks_like_an_id_is_found;
    whoever_has_a_key_or_an_address_or_had_it_is_shown;
    of_many_connections_the_broken_ones_are_shown_and_the_others_counted;
    of_many_subscriptions_those_in_force_are_shown_and_the_others_counted;
    an_incident_shows_its_updates_and_its_mails;
    a_search_finds_what_fits_all_that_is_asked;
    mail_is_found_by_the_address_it_went_to_whoever_has_it_now;
    pages_follow_one_another_without_gap_or_repetition;
    what_cannot_be_asked_is_refused_by_name;
    the_queue_says_what_waits_and_why;
    what_is_due_waits_for_nothing_but_its_turn;
}

const START: &str = "2025-06-02T08:00:00Z";

struct Face {
    router: Router,
    token: String,
}

struct Reply {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Face {
    async fn of(w: &World, scopes: &[Scope]) -> Self {
        let mut tx = w.store.begin().await.unwrap();
        let token = keys::create(&mut tx, scopes[0].as_str(), scopes).await.unwrap();
        tx.commit().await.unwrap();
        let setting = w.shared.setting.clone();
        let api = Api { store: w.store.clone(), setting, max_body_bytes: 1_000_000 };
        Self { router: router(api), token }
    }

    async fn ask(&self, path: &str) -> Reply {
        let request = Request::builder().uri(path).header("authorization", format!("Bearer {}", self.token));
        let response = self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = serde_json::from_slice(&to_bytes(body, 1 << 22).await.unwrap()).unwrap();
        Reply { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    async fn get(&self, path: &str) -> Value {
        let reply = self.ask(path).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        reply.body
    }

    async fn found(&self, query: &str) -> BTreeSet<String> {
        let body = self.get(&format!("/v1/deliveries?{query}")).await;
        body["deliveries"].as_array().unwrap().iter().map(|d| d["id"].as_str().unwrap().to_owned()).collect()
    }
}

/// The command line on the same database.
pub fn cli(w: &World, args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_allclear"));
    let done = command.env_clear().env("ALLCLEAR_DATABASE__URL", &w.url).args(args).output().unwrap();
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

fn same_on_the_command_line(w: &World, args: &[&str], body: &Value) {
    let said: Value = serde_json::from_str(&cli(w, &[args, &["--json"]].concat())).unwrap();
    assert_eq!(&said, body, "{args:?}");
}

/// `step reason-or-rule` of each step.
fn steps(of: &Value) -> Vec<String> {
    let step = |s: &Value| {
        let name = s["reason"].as_str().or(s["rule"].as_str()).unwrap_or_default();
        format!("{} {name}", s["step"].as_str().unwrap()).trim_end().to_owned()
    };
    of.as_array().unwrap().iter().map(step).collect()
}

fn text_of<'a>(of: &'a Value, step: &str) -> &'a str {
    let found = of.as_array().unwrap().iter().find(|s| s["step"] == step);
    found.unwrap_or_else(|| panic!("no {step} in {of:#}"))["text"].as_str().unwrap()
}

async fn ids(w: &World) -> Vec<String> {
    let rows = if w.url.starts_with("sqlite") {
        w.query("SELECT lower(hex(id)) FROM delivery ORDER BY created_at, id").await
    } else {
        w.query("SELECT replace(CAST(id AS TEXT), '-', '') FROM delivery ORDER BY created_at, id").await
    };
    rows.into_iter().map(|r| format!("dlv_{}", r[0].clone().unwrap())).collect()
}

async fn furnished(on: On, script: Script) -> World {
    let w = World::with(on, START, script, |_| {}).await;
    w.component("outlook", "Outlook").await;
    w.component("imap", "IMAP").await;
    for key in ["ann", "bob"] {
        w.subscriber(key).await;
        w.subscribe(key, "outlook").await;
        w.connection(&format!("{key}-1"), "outlook", key).await;
    }
    w
}

async fn incident(w: &World, incident: &str, phase: &str) {
    let status = if phase == "resolved" { "operational" } else { "major_outage" };
    w.notice(json!({"kind": "incident", "incident": incident, "title": "Slow", "phase": phase, "body": "It is slow.",
        "impact": "major", "components": [{"key": "outlook", "status": status}]}))
        .await;
}

async fn a_mail_that_was_taken_back_tells_its_story(on: On) {
    let mut w = furnished(on, Script::default()).await;
    let failed = w.broken("ann-1").await;
    w.pass(6).await;
    w.recovered("ann-1", "automatic").await;
    w.pass(1).await;
    assert_eq!(w.deliveries().await, ["action_required accepted", "correction accepted"]);
    let face = Face::of(&w, &[Scope::Read]).await;
    let ids = ids(&w).await;

    let mail = face.get(&format!("/v1/deliveries/{}", ids[0])).await;
    same_on_the_command_line(&w, &["show", &ids[0]], &mail);
    let d = &mail["delivery"];
    let told: Vec<_> = steps(&d["steps"]).into_iter().map(|s| s.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(told, ["noticed", "planned", "tried", "recovered", "corrected"]);
    assert_eq!(d["steps"][0]["evidence"], failed.id, "the signal shows it");
    assert_eq!(d["steps"][4]["evidence"], ids[1].as_str());
    assert!(text_of(&d["steps"], "tried").contains("250"), "{d:#}");
    assert!(d["explained"].as_str().unwrap().starts_with("The mail server took it"));

    let correction = face.get(&format!("/v1/deliveries/{}", ids[1])).await;
    let steps_of = &correction["delivery"]["steps"];
    assert!(steps_of.as_array().unwrap().iter().any(|s| s["step"] == "corrects" && s["evidence"] == ids[0].as_str()));
    assert!(text_of(steps_of, "recovered").contains("ann-1 recovered by itself"), "{steps_of:#}");

    // The person's and the connection's page tell it once, in the order of time.
    for (path, what) in [("/v1/subscribers/ann", "ann"), ("/v1/connections/ann-1", "ann-1")] {
        let body = face.get(path).await;
        same_on_the_command_line(&w, &["show", what], &body);
        let timeline = if what == "ann" { &body["customers"][0]["timeline"] } else { &body["timeline"] };
        let at: Vec<_> = timeline.as_array().unwrap().iter().map(|s| s["at"].as_str().unwrap()).collect();
        assert!(at.is_sorted(), "{at:?}");
        assert_eq!(steps(timeline).iter().filter(|s| *s == "recovered").count(), 1, "{timeline:#}");
        assert_eq!(steps(timeline).iter().filter(|s| *s == "signal").count(), 2, "{timeline:#}");
    }
    w.broken("ann-1").await;
    w.recovered("ann-1", "customer").await;
    w.broken("ann-1").await;
    w.recovered("ann-1", "unknown").await;
    let said = cli(&w, &["show", "ann-1"]);
    for end in ["ann-1 recovered by itself <-", "ann-1 was reconnected by its customer <-", "ann-1 recovered <-"] {
        assert!(said.contains(end), "{end}: {said}");
    }
    assert!(!said.contains("recovering"), "{said}");
    let said = cli(&w, &["show", &ids[0]]);
    assert!(
        said.contains("What happened, oldest first:") && said.contains("test reported that ann-1 failed"),
        "{said}"
    );
}

async fn what_was_heard_in_one_moment_is_told_in_its_order(on: On) {
    let w = furnished(on, Script::default()).await;
    w.broken("ann-1").await;
    w.recovered("ann-1", "automatic").await;
    let face = Face::of(&w, &[Scope::Read]).await;
    let timeline = face.get("/v1/connections/ann-1").await["timeline"].clone();
    let signals = timeline.as_array().unwrap().iter().filter(|s| s["step"] == "signal");
    let texts: Vec<_> = signals.map(|s| s["text"].as_str().unwrap()).collect();
    assert!(texts[0].contains("ann-1 failed") && texts[1].contains("ann-1 recovered"), "{texts:#?}");
}

async fn a_hold_and_what_ended_it_are_told(on: On) {
    let mut w = furnished(on, Script::default()).await;
    let mut tx = w.store.begin().await.unwrap();
    holds::put(&mut tx, HoldScope::Class(Class::ActionRequired), HoldCause::Operator, "looking into it", None, "jo")
        .await
        .unwrap();
    tx.commit().await.unwrap();
    w.broken("ann-1").await;
    w.pass(6).await;
    let face = Face::of(&w, &[Scope::Read]).await;
    let id = ids(&w).await.remove(0);
    let held = face.get(&format!("/v1/deliveries/{id}")).await;
    let d = &held["delivery"];
    assert_eq!((d["state"].as_str(), d["reason"].as_str()), (Some("queued"), Some("held")), "{d:#}");
    assert_eq!(text_of(&d["steps"], "held"), "mail held back by jo: looking into it");
    assert!(
        text_of(&d["steps"], "waits").contains("mail of this kind, or about its component, is being held back"),
        "{d:#}"
    );

    w.recovered("ann-1", "customer").await;
    w.pass(1).await;
    let withdrawn = face.get(&format!("/v1/deliveries/{id}")).await;
    let d = &withdrawn["delivery"];
    assert_eq!((d["state"].as_str(), d["reason"].as_str()), (Some("withdrawn"), Some("recovered")));
    assert!(d["explained"].as_str().unwrap().ends_with("first: the connection works again."), "{d:#}");
    let order: Vec<_> =
        steps(&d["steps"]).into_iter().filter(|s| !s.starts_with("planned") && !s.starts_with("noticed")).collect();
    assert_eq!(order, ["held held", "recovered", "withdrawn recovered"], "{d:#}");
    assert!(
        d["steps"]
            .as_array()
            .unwrap()
            .iter()
            .any(|s| s["step"] == "held" && s["evidence"].as_str().unwrap().starts_with("hld_"))
    );
}

async fn what_is_let_go_is_not_said_to_be_held(on: On) {
    let mut w = furnished(on, Script::default()).await;
    let mut tx = w.store.begin().await.unwrap();
    let scope = HoldScope::Component(setup::component_id(&mut tx, "outlook").await.unwrap().unwrap());
    holds::put(&mut tx, scope, HoldCause::Operator, "looking into it", None, "jo").await.unwrap();
    tx.commit().await.unwrap();
    incident(&w, "slow", "investigating").await;
    w.pass(5).await;
    let face = Face::of(&w, &[Scope::Read]).await;
    let id = ids(&w).await.remove(0);
    let shown = async || face.get(&format!("/v1/deliveries/{id}")).await["delivery"].clone();
    let d = shown().await;
    assert_eq!(d["reason"], "held", "{d:#}");
    assert!(
        text_of(&d["steps"], "waits").starts_with("it waits: mail of this kind"),
        "for how long nobody knows: {d:#}"
    );
    let mut tx = w.store.begin().await.unwrap();
    holds::release(&mut tx, |_| true, "done", "jo").await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(
        w.query("SELECT reason FROM delivery").await[0][0].as_deref(),
        Some("held"),
        "it was not looked at since"
    );
    let d = shown().await;
    let waits = Some("It has not been sent yet and waits.");
    assert_eq!((&d["reason"], d["explained"].as_str()), (&Value::Null, waits), "{d:#}");
}

async fn a_refusal_is_told_in_the_relays_words_and_found_by_them(on: On) {
    let script = Script::default().answering(|phase, to, _| {
        (phase == Phase::Dot && to.to.starts_with("ann")).then(|| Answer::reply(phase, "550 5.1.1 no such user here"))
    });
    let mut w = furnished(on, script).await;
    w.notice(json!({"kind": "free", "subject": "News", "body": "Something.", "recipients": ["ann", "bob"]})).await;
    w.settle().await;
    w.notice(json!({"kind": "free", "subject": "More", "body": "Else.", "recipients": ["ann"]})).await;
    w.settle().await;
    let face = Face::of(&w, &[Scope::Read]).await;
    let refused = face.found("reply=such%20user&state=failed").await;
    assert_eq!(refused.len(), 1);
    let id = refused.first().unwrap();
    for query in ["reply=550", "reply=5.1.1", "reply=USER", "state=failed", "reply=user&address=ann@example.net"] {
        assert_eq!(face.found(query).await, refused, "{query}");
    }
    for query in ["reply=mailbox", "reply=such%20mailbox", "reply=550&address=bob@example.net"] {
        assert!(face.found(query).await.is_empty(), "{query}");
    }
    let d = face.get(&format!("/v1/deliveries/{id}")).await;
    assert!(text_of(&d["delivery"]["steps"], "tried").contains("550 5.1.1 no such user here"), "{d:#}");
    assert!(text_of(&d["delivery"]["steps"], "failed").contains("the address does not exist"), "{d:#}");
    // The next mail was not even tried: with the evidence.
    let silenced =
        face.get("/v1/deliveries?state=suppressed").await["deliveries"][0]["id"].as_str().unwrap().to_owned();
    let d = face.get(&format!("/v1/deliveries/{silenced}")).await;
    assert!(text_of(&d["delivery"]["steps"], "suppressed").contains("no such user here"), "{d:#}");
    assert!(!cli(&w, &["show", &silenced]).contains("--mail"), "it was never handed over");
    let bobs = face.found("address=bob@example.net").await;
    assert!(cli(&w, &["show", bobs.first().unwrap()]).contains("--mail"));
    // Whose address is let go again has not got what was not sent, and why is still said.
    cli(&w, &["suppressions", "lift", "ann@example.net", "--reason", "it works again"]);
    let d = face.get(&format!("/v1/deliveries/{silenced}")).await;
    let then = "suppressed: the address was on the list of those that get no such mail";
    assert_eq!(text_of(&d["delivery"]["steps"], "suppressed"), then);
}

async fn who_gets_no_mail_any_more_does_not_wait_for_a_turn(on: On) {
    let dead = |phase, _: &Envelope, _| (phase == Phase::Rcpt).then(|| Answer::reply(phase, "550 5.1.1 no such user"));
    let mut w = furnished(on, Script::default().answering(dead)).await;
    w.notice(json!({"kind": "free", "subject": "News", "body": "Something.", "recipients": ["ann"]})).await;
    w.settle().await;
    w.down("outlook").await;
    w.broken("ann-1").await;
    w.pass(10).await;
    let told = Face::of(&w, &[Scope::Read]).await.get("/v1/connections/ann-1").await;
    assert_eq!(
        (&told["deliveries"][0]["state"], &told["deliveries"][0]["reason"]),
        (&json!("queued"), &json!("suppressed"))
    );
    let waits = text_of(&told["timeline"], "waits");
    assert!(waits.contains("the address is on the list of those that get no such mail"), "{waits}");
}

async fn a_key_of_two_kinds_is_shown_as_both(on: On) {
    let mut w = furnished(on, Script::default()).await;
    w.connection("ann", "outlook", "bob").await;
    w.broken("ann").await;
    w.settle().await;
    let show = |what: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_allclear"));
        let done = command.env_clear().env("ALLCLEAR_DATABASE__URL", &w.url).args(["show", what]).output().unwrap();
        (String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap())
    };
    let (ann, hint) = show("ann");
    assert!(ann.contains("ann@example.net") && !ann.contains("bob@example.net"), "{ann}");
    let (_, id) = hint.split_once("`ann` is the key of a connection, too: `allclear show ").unwrap();
    let (connection, nothing_else) = show(id.split_once('`').unwrap().0);
    assert!(connection.contains("bob@example.net") && nothing_else.is_empty(), "{connection}{nothing_else}");
    assert_eq!(show("bob").1, "");
}

async fn a_key_that_looks_like_an_id_is_found(on: On) {
    let mut w = furnished(on, Script::default()).await;
    let [component, connection, incident] =
        ["cmp", "con", "inc"].map(|kind| format!("{kind}_0123456789abcdef0123456789abcdef"));
    w.component(&component, "Calendar").await;
    w.subscribe("ann", &component).await;
    w.connection(&connection, &component, "ann").await;
    w.broken(&connection).await;
    w.notice(json!({"kind": "incident", "incident": incident, "title": "Slow", "phase": "investigating",
        "body": "It is slow.", "components": [{"key": "outlook", "status": "degraded_performance"}]}))
        .await;
    w.pass(10).await;
    let face = Face::of(&w, &[Scope::Read]).await;
    for (kind, key) in [("component", &component), ("connection", &connection), ("incident", &incident)] {
        let seen = face.get(&format!("/v1/{kind}s/{key}")).await;
        assert_eq!(seen[kind]["key"], key.as_str());
        same_on_the_command_line(&w, &["show", key], &seen);
        let by_id = face.get(&format!("/v1/{kind}s/{}", seen[kind]["id"].as_str().unwrap())).await;
        assert_eq!(by_id, seen);
    }
    assert_eq!(face.found(&format!("connection={connection}")).await.len(), 1);
    assert_eq!(face.found(&format!("incident={incident}")).await.len(), 2);
    // Who has the id is meant, whoever has it as a key.
    let id = face.get("/v1/connections/ann-1").await["connection"]["id"].as_str().unwrap().to_owned();
    w.connection(&id, "imap", "bob").await;
    assert_eq!(face.get(&format!("/v1/connections/{id}")).await["connection"]["key"], "ann-1");
}

async fn whoever_is_named_in_any_way_is_found(on: On) {
    let mut w = furnished(on, Script::default()).await;
    w.notice(json!({"kind": "free", "subject": "News", "body": "Something.", "recipients": ["ann"]})).await;
    let got = w.settle().await.remove(0);
    let face = Face::of(&w, &[Scope::Read]).await;
    let ann = face.get("/v1/subscribers/ann").await;
    let id = ann["customers"][0]["subscriber"]["id"].as_str().unwrap();
    for name in [id, "ann@example.net", "ann@EXAMPLE.net", "Ann@Example.NET"] {
        assert_eq!(face.get(&format!("/v1/subscribers/{name}")).await, ann, "{name}");
    }
    let people = face.get("/v1/subscribers?address=ann@Example.net").await;
    assert_eq!(people["subscribers"].as_array().unwrap().len(), 1);
    assert_eq!(people["subscribers"][0]["key"], "ann");
    // By an address of before, too, which nobody has now.
    cli(&w, &["put", "subscriber", "ann", "--address", "ann.new@example.net"]);
    let formerly = face.get("/v1/subscribers/ANN@example.net").await;
    assert_eq!(formerly["customers"][0]["subscriber"]["key"], "ann");
    let message_id = got.header("message-id").unwrap();
    let bare = message_id.trim_matches(['<', '>']).to_owned();
    for id in [message_id.replace('<', "%3C").replace('>', "%3E"), bare.clone()] {
        assert_eq!(face.found(&format!("message_id={id}")).await.len(), 1);
    }
    for foreign in ["1@example.net", "a.b@example.net", &format!("{}.1@example.net", "0".repeat(32)), &bare[1..]] {
        assert_eq!(face.found(&format!("message_id={foreign}")).await.len(), 0, "{foreign}");
    }
    assert!(cli(&w, &["show", &message_id]).contains(&bare));
    for path in
        ["subscribers/nobody", "connections/none", "incidents/none", "components/none", "deliveries/dlv_1", "notices/x"]
    {
        let reply = face.ask(&format!("/v1/{path}")).await;
        assert_eq!((reply.status, reply.body["title"].as_str()), (404, Some("not found")), "{path}");
    }
    let other = Face::of(&w, &[Scope::Manage]).await;
    for path in ["subscribers/ann", "subscribers?address=ann@example.net", "deliveries", "queue", "components/imap"] {
        assert_eq!(other.ask(&format!("/v1/{path}")).await.status, 403, "{path}");
    }
}

async fn whoever_has_a_key_or_an_address_or_had_it_is_shown(on: On) {
    let mut w = furnished(on, Script::default()).await;
    w.notice(json!({"kind": "free", "subject": "News", "body": "Something.", "recipients": ["ann"]})).await;
    w.settle().await;
    // A key that is another's address.
    cli(&w, &["put", "subscriber", "ann@example.net", "--address", "carol@example.net"]);
    let face = Face::of(&w, &[Scope::Read]).await;
    let shown = async || {
        let seen = face.get("/v1/subscribers/ann@example.net").await;
        same_on_the_command_line(&w, &["show", "ann@example.net"], &seen);
        let customers = seen["customers"].as_array().unwrap();
        let one = |c: &Value| {
            (c["subscriber"]["key"].as_str().unwrap().to_owned(), c["deliveries"].as_array().unwrap().len())
        };
        customers.iter().map(one).collect::<Vec<_>>()
    };
    let expected = |of: &[(&str, usize)]| of.iter().map(|(key, mails)| ((*key).to_owned(), *mails)).collect::<Vec<_>>();
    assert_eq!(shown().await, expected(&[("ann@example.net", 0), ("ann", 1)]));
    assert_eq!(face.found("subscriber=ann@example.net").await.len(), 0, "the key comes first");
    assert_eq!(face.found("subscriber=ann").await.len(), 1);
    // The address passes to somebody else.
    cli(&w, &["put", "subscriber", "ann", "--address", "ann-2@example.net"]);
    cli(&w, &["put", "subscriber", "bob", "--address", "ann@example.net"]);
    assert_eq!(shown().await, expected(&[("ann@example.net", 0), ("bob", 0), ("ann", 1)]));
    let now = face.get("/v1/subscribers?address=ann@example.net").await;
    assert_eq!((now["subscribers"].as_array().unwrap().len(), &now["subscribers"][0]["key"]), (1, &json!("bob")));
    assert_eq!(face.found("subscriber=bob@example.net").await.len(), 0, "a former address, of bob alone");
}

async fn mail_is_found_by_the_address_it_went_to_whoever_has_it_now(on: On) {
    let mut w = furnished(on, Script::default()).await;
    let csv = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&csv, "key,address\nann,ann-3@example.net\n").unwrap();
    let moves: [&[&str]; 4] = [
        &["put", "subscriber", "ann", "--address", "ann-2@example.net"],
        &["import", "subscribers", csv.path().to_str().unwrap(), "--format", "csv"],
        &["put", "subscriber", "bob", "--address", "ann@example.net"],
        &["put", "subscriber", "ann", "--address", "bob@example.net"],
    ];
    for (to, then) in ["ann", "ann", "ann", "bob"].iter().zip(moves) {
        w.notice(json!({"kind": "free", "subject": "News", "body": "Text.", "recipients": [to]})).await;
        w.settle().await;
        cli(&w, then);
    }
    w.notice(json!({"kind": "free", "subject": "News", "body": "Text.", "recipients": ["ann"]})).await;
    worker::plan_all(&w.shared).await.unwrap();
    let face = Face::of(&w, &[Scope::Read]).await;
    let all = ids(&w).await;
    for (address, mails) in [
        ("ann@example.net", &[0, 3][..]),
        ("ann-2@example.net", &[1]),
        ("ANN-3@example.net", &[2]),
        // Not sent yet: it goes to whom the address belongs now.
        ("bob@example.net", &[4]),
    ] {
        let expected: BTreeSet<_> = mails.iter().map(|n| all[*n].clone()).collect();
        assert_eq!(face.found(&format!("address={address}")).await, expected, "{address}");
    }
}

async fn of_many_connections_the_broken_ones_are_shown_and_the_others_counted(on: On) {
    let w = World::new(on, START).await;
    w.component("imap", "Mail sync").await;
    w.subscriber("ann").await;
    for key in ["a", "b", "c", "d"] {
        w.connection(key, "imap", "ann").await;
    }
    w.broken("d").await;
    let face = Face::of(&w, &[Scope::Read]).await;
    let seen = face.get("/v1/subscribers/ann?limit=2").await;
    let ann = &seen["customers"][0];
    let shown: Vec<_> = ann["connections"].as_array().unwrap().iter().map(|c| c["key"].as_str().unwrap()).collect();
    assert_eq!((shown, &ann["more_connections"]), (vec!["d", "a"], &json!(2)));
    let said = cli(&w, &["show", "ann", "--limit", "2"]);
    assert!(said.contains("and 2 more connections"), "{said}");
}

async fn of_many_subscriptions_those_in_force_are_shown_and_the_others_counted(on: On) {
    let w = World::new(on, START).await;
    w.subscriber("ann").await;
    for key in ["a", "b", "c"] {
        w.component(key, key).await;
        w.subscribe("ann", key).await;
    }
    w.subscription(json!({"subscriber": "ann", "component": "a", "active": false})).await;
    w.subscribe_to_everything("ann").await;
    let face = Face::of(&w, &[Scope::Read]).await;
    let seen = face.get("/v1/subscribers/ann?limit=2").await;
    let ann = &seen["customers"][0];
    let shown: Vec<_> = ann["subscriptions"].as_array().unwrap().iter().map(|s| s["component"].as_str()).collect();
    assert_eq!((shown, &ann["more_subscriptions"]), (vec![None, Some("b")], &json!(2)));
    let said = cli(&w, &["show", "ann", "--limit", "2"]);
    assert!(said.contains("follows everything") && said.contains("and 2 more subscriptions"), "{said}");
}

async fn an_incident_shows_its_updates_and_its_mails(on: On) {
    let mut w = furnished(on, Script::default()).await;
    incident(&w, "slow", "investigating").await;
    w.pass(20).await;
    incident(&w, "slow", "resolved").await;
    w.pass(30).await;
    let face = Face::of(&w, &[Scope::Read]).await;
    let shown = face.get("/v1/incidents/slow").await;
    same_on_the_command_line(&w, &["show", "slow"], &shown);
    assert_eq!(shown["updates"].as_array().unwrap().len(), 2);
    assert_eq!(shown["components"][0]["key"], "outlook");
    let counted: i64 = shown["mails"].as_array().unwrap().iter().map(|c| c["mails"].as_i64().unwrap()).sum();
    let listed = shown["deliveries"].as_array().unwrap();
    assert_eq!((counted, listed.len()), (w.deliveries().await.len() as i64, w.deliveries().await.len()));
    let notice = shown["updates"][1]["id"].as_str().unwrap();
    let of_notice = face.get(&format!("/v1/notices/{notice}")).await;
    assert_eq!(of_notice["deliveries"].as_array().unwrap().len(), 2, "{of_notice:#}");
    same_on_the_command_line(&w, &["show", notice], &of_notice);
    let component = face.get("/v1/components/outlook").await;
    same_on_the_command_line(&w, &["show", "outlook"], &component);
    w.query("UPDATE notice SET reason = 'said_before' WHERE revision = 1").await;
    let said = face.get(&format!("/v1/notices/{notice}")).await;
    assert_eq!(said["notice"]["explained"], "the same update was here before");
}

async fn a_search_finds_what_fits_all_that_is_asked(on: On) {
    let mut w = furnished(on, Script::default()).await;
    w.broken("ann-1").await;
    w.pass(6).await;
    incident(&w, "slow", "investigating").await;
    w.pass(1).await;
    w.broken("bob-1").await;
    w.pass(1).await;
    let face = Face::of(&w, &[Scope::Read]).await;
    let all = face.get("/v1/deliveries").await;
    let all = all["deliveries"].as_array().unwrap();
    assert_eq!(all.len(), 4);
    for (query, fits) in [
        ("subscriber=ann", Box::new(|d: &Value| d["subscriber"] == "ann") as Box<dyn Fn(&Value) -> bool>),
        ("address=ann@example.net", Box::new(|d| d["subscriber"] == "ann")),
        ("connection=bob-1", Box::new(|d| d["class"] == "action_required" && d["subscriber"] == "bob")),
        ("incident=slow", Box::new(|d| d["incident"] == "slow")),
        ("incident=slow&subscriber=bob", Box::new(|d| d["incident"] == "slow" && d["subscriber"] == "bob")),
        ("state=queued", Box::new(|d| d["state"] == "queued")),
        (
            "class=action_required&state=accepted",
            Box::new(|d| d["class"] == "action_required" && d["state"] == "accepted"),
        ),
        (
            "address=bob@example.net&class=incident_update",
            Box::new(|d| d["class"] == "incident_update" && d["subscriber"] == "bob"),
        ),
        ("from=2025-06-02T08:06:00Z", Box::new(|d| d["created_at"].as_str().unwrap() >= "2025-06-02T08:06:00Z")),
        ("until=2025-06-02T08:06:00Z", Box::new(|d| d["created_at"].as_str().unwrap() < "2025-06-02T08:06:00Z")),
        ("state=parked", Box::new(|_| false)),
        ("state=sending", Box::new(|_| false)),
        ("incident=slow&state=folded", Box::new(|_| false)),
    ] {
        let expected: BTreeSet<_> =
            all.iter().filter(|d| fits(d)).map(|d| d["id"].as_str().unwrap().to_owned()).collect();
        assert!(!expected.is_empty() || query.contains("state"), "{query} tests nothing");
        assert_eq!(face.found(query).await, expected, "{query}");
    }
    let body = face.get("/v1/deliveries?incident=slow").await;
    same_on_the_command_line(&w, &["search", "--incident", "slow"], &body);
}

async fn pages_follow_one_another_without_gap_or_repetition(on: On) {
    let mut w = furnished(on, Script::default()).await;
    for n in 0..5 {
        w.notice(
            json!({"kind": "free", "subject": format!("News {n}"), "body": "Something.", "recipients": ["ann", "bob"]}),
        )
        .await;
    }
    w.settle().await;
    let face = Face::of(&w, &[Scope::Read]).await;
    for query in ["class=free&limit=3", "subscriber=ann&limit=2", "limit=4", "state=accepted&limit=1"] {
        let whole: Vec<Value> = face
            .get(
                &format!("/v1/deliveries?{}&limit=200", query.rsplit_once("limit").unwrap().0.trim_end_matches('&'))
                    .replace("?&", "?"),
            )
            .await["deliveries"]
            .as_array()
            .unwrap()
            .clone();
        let (mut path, mut seen) = (format!("/v1/deliveries?{query}"), Vec::new());
        loop {
            let reply = face.ask(&path).await;
            seen.extend(reply.body["deliveries"].as_array().unwrap().clone());
            let Some(link) = reply.headers.get("link") else {
                assert!(reply.body["next"].is_null());
                break;
            };
            let link = link.to_str().unwrap();
            assert!(link.contains(reply.body["next"].as_str().unwrap()) && link.ends_with("; rel=\"next\""), "{link}");
            path = link.trim_start_matches('<').split_once('>').unwrap().0.to_owned();
        }
        assert_eq!(seen, whole, "{query}");
    }
    let first = face.get("/v1/subscribers/ann?limit=2").await;
    let next = first["customers"][0]["next"].as_str().unwrap();
    let second = face.get(&format!("/v1/subscribers/ann?limit=3&cursor={next}")).await;
    assert_eq!(second["customers"][0]["deliveries"].as_array().unwrap().len(), 3);
    assert!(second["customers"][0]["next"].is_null());
    assert!(cli(&w, &["search", "--class", "free", "--limit", "3"]).contains("the same command with --cursor "));
}

async fn what_cannot_be_asked_is_refused_by_name(on: On) {
    let w = furnished(on, Script::default()).await;
    let face = Face::of(&w, &[Scope::Read]).await;
    for (query, field) in [
        ("adress=ann@example.net", "adress"),
        ("state=lost", "state"),
        ("class=news", "class"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("cursor=abc", "cursor"),
        ("from=yesterday", "from"),
        ("subscriber=nobody", "subscriber"),
        ("incident=none", "incident"),
        ("connection=none", "connection"),
        ("notice=ntc_1", "notice"),
        ("address=ann", "address"),
        ("address=", "address"),
        ("reply=a%20%20b", "reply"),
        ("reply=one%20two%20three%20four%20five", "reply"),
        ("state=queued&state=parked", "state"),
    ] {
        let reply = face.ask(&format!("/v1/deliveries?{query}")).await;
        assert_eq!(
            (reply.status, reply.body["errors"][0]["field"].as_str()),
            (400, Some(field)),
            "{query}: {}",
            reply.body
        );
    }
    for (path, field) in
        [("subscribers/ann?state=queued", "state"), ("subscribers?name=ann", "name"), ("subscribers", "address")]
    {
        let reply = face.ask(&format!("/v1/{path}")).await;
        assert_eq!((reply.status, reply.body["errors"][0]["field"].as_str()), (400, Some(field)), "{path}");
    }
}

async fn what_is_due_waits_for_nothing_but_its_turn(on: On) {
    let mut w = furnished(on, Script::default()).await;
    let face = Face::of(&w, &[Scope::Read]).await;
    w.broken("ann-1").await;
    w.pass(2).await;
    let lines =
        |status: &Value| status["depth"].as_array().unwrap().iter().map(|l| l["reason"].clone()).collect::<Vec<_>>();
    assert_eq!(lines(&face.get("/v1/queue").await), ["dwell"]);
    w.clock.set(w.now() + Span::minutes(6));
    assert_eq!(lines(&face.get("/v1/queue").await), [Value::Null]);
    // Its component keeps it no longer than any hold.
    w.down("outlook").await;
    assert_eq!(lines(&face.get("/v1/queue").await), ["component_down"]);
    w.clock.set(w.now() + Span::hours(13));
    let after = face.get("/v1/queue").await;
    assert_eq!((lines(&after), &after["held_back"], &after["due"]), (vec![Value::Null], &json!(0), &json!(1)));
    assert!(after["oldest_due_seconds"].as_i64() > Some(3_600), "{after:#}");
}

async fn the_queue_says_what_waits_and_why(on: On) {
    let mut w = furnished(on, Script::default()).await;
    let face = Face::of(&w, &[Scope::Read]).await;
    let empty = face.get("/v1/queue").await;
    assert_eq!(
        (&empty["waiting"], &empty["drained_in_seconds"], &empty["oldest_due_seconds"]),
        (&json!(0), &json!(0), &Value::Null)
    );
    w.notice(json!({"kind": "free", "subject": "News", "body": "Something.", "recipients": ["ann", "bob"]})).await;
    w.settle().await;
    let mut tx = w.store.begin().await.unwrap();
    holds::put(&mut tx, HoldScope::Class(Class::Free), HoldCause::Operator, "wrong text", None, "jo").await.unwrap();
    tx.commit().await.unwrap();
    w.notice(json!({"kind": "free", "subject": "More", "body": "Else.", "recipients": ["ann"]})).await;
    w.broken("ann-1").await;
    w.down("outlook").await;
    w.pass(2).await;
    let status = face.get("/v1/queue").await;
    assert_eq!(
        (&status["waiting"], &status["held_back"], &status["due"]),
        (&json!(2), &json!(2), &json!(0)),
        "{status:#}"
    );
    let lines: BTreeSet<_> =
        status["depth"].as_array().unwrap().iter().map(|l| (l["class"].as_str(), l["reason"].as_str())).collect();
    assert_eq!(
        lines,
        BTreeSet::from([(Some("free"), Some("held")), (Some("action_required"), Some("component_down"))])
    );
    assert_eq!(
        (&status["in_per_minute"], &status["out_per_minute"]),
        (&json!(0.8), &json!(0.4)),
        "4 came and 2 left in five minutes"
    );
    assert_eq!(status["holds"][0]["created_by"], "jo");
    w.query("UPDATE delivery SET state = 'parked', reason = 'too_old', decided_at = 1 WHERE class = 'action_required'")
        .await;
    let status = face.get("/v1/queue").await;
    assert_eq!((&status["parked"][0]["mails"], &status["parked"][0]["reason"]), (&json!(1), &json!("too_old")));
    let said = cli(&w, &["status"]);
    assert!(said.starts_with("1 mail waits; leaving now: 0, kept back: 1") && said.contains("wrong text"), "{said}");
    assert!(said.contains("too_old"), "{said}");
}
