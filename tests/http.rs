//! The HTTP face on an SQLite file: what is taken in, what is refused, and with which words.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use allclear::config::Config;
use allclear::domain::key::Scope;
use allclear::domain::time::{Span, Timestamp};
use allclear::flow::setting::Setting;
use allclear::http::{Api, Problem, router};
use allclear::store::{Clock, Store, StoreError, keys};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::IntoResponse;
use serde_json::{Value, json};
use std::sync::Arc;
use tower::ServiceExt;

struct Face {
    router: Router,
    token: String,
    store: Store,
    url: String,
    _dir: tempfile::TempDir,
}

struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Reply {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn fields(&self) -> Vec<&str> {
        let errors = self.body["errors"].as_array().map_or(&[][..], Vec::as_slice);
        errors.iter().map(|e| e["field"].as_str().unwrap()).collect()
    }
}

impl Face {
    async fn new(scopes: &[Scope]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", dir.path().join("http.db").display());
        let clock = Clock::driven(Timestamp::parse("2026-04-30T18:00:00Z").unwrap());
        let store = Store::open(&url, Default::default(), clock).await.unwrap();
        let mut tx = store.begin().await.unwrap();
        let token = keys::create(&mut tx, "statuspage", scopes).await.unwrap();
        tx.commit().await.unwrap();
        let setting = Arc::new(Setting::of(&Config::load(None, std::iter::empty()).unwrap()));
        let router = router(Api { store: store.clone(), setting, max_body_bytes: 1_000_000 });
        Self { router, token, store, url, _dir: dir }
    }

    /// With a component, a subscriber and a connection.
    async fn furnished() -> Self {
        let face = Self::new(Scope::ALL).await;
        for (path, body) in [
            ("/v1/components/imap", json!({"name": "Mail sync"})),
            (
                "/v1/subscribers/jo",
                json!({"address": "jo@Example.com", "zone": "europe/vienna", "attributes": {"plan": ["pro"]}}),
            ),
            ("/v1/connections/inbox-1", json!({"component": "imap", "name": "jo@example.com", "subscribers": ["jo"]})),
            ("/v1/subscriptions", json!({"subscriber": "jo", "component": "imap"})),
        ] {
            let reply = face.send("PUT", path, &body.to_string(), &[]).await;
            assert_eq!(reply.status, StatusCode::OK, "{path}: {}", reply.body);
        }
        face
    }

    async fn raw(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, 1 << 20).await.unwrap();
        let body =
            serde_json::from_slice(&bytes).unwrap_or(Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Reply { status: parts.status, headers: parts.headers, body }
    }

    async fn send(&self, method: &str, path: &str, body: &str, more: &[(&str, &str)]) -> Reply {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json; charset=utf-8");
        for (name, value) in more {
            request = request.header(*name, *value);
        }
        self.raw(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, &body.to_string(), &[]).await
    }
}

fn import(path: &str, content_type: &str, token: &str, body: Body) -> Request<Body> {
    let request = Request::builder().method("POST").uri(path).header("content-type", content_type);
    request.header("authorization", format!("Bearer {token}")).body(body).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_are_imported_and_the_refused_ones_answered() {
    let face = Face::furnished().await;
    // Far more than the largest body of the other paths, and many refused lines.
    let long = "x".repeat(150);
    let good: String = (0..9_000).map(|n| format!("k{n},k{n}@example.com,{long}\n")).collect();
    let bad: String = (0..150).map(|n| format!("b{n},b{n},\n")).collect();
    let csv = format!("key,address,name\n{bad}{good}jo,jo@example.com,Jo\n");
    assert!(csv.len() > 1_000_000);
    let post = |path: &str, body: Body| import(path, "text/csv; charset=utf-8", &face.token, body);
    let dry = face.raw(post("/v1/import/subscribers?dry_run=true", csv.clone().into())).await;
    assert_eq!(
        (dry.status, &dry.body["inserted"], &dry.body["dry_run"]),
        (StatusCode::OK, &json!(9_000), &json!(true))
    );
    let done = face.raw(post("/v1/import/subscribers", csv.clone().into())).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.body);
    let counts =
        ["lines", "inserted", "updated", "unchanged", "refused_total"].map(|name| done.body[name].as_u64().unwrap());
    assert_eq!(counts, [9_151, 9_000, 1, 0, 150]);
    assert_eq!(done.body["refused"].as_array().unwrap().len(), 150);
    assert_eq!(
        done.body["refused"][0],
        json!({"line": 2, "field": "address", "reason": "the address needs exactly one @"})
    );
    let again = face.raw(post("/v1/import/subscribers", csv.into())).await;
    assert_eq!(again.body["unchanged"], 9_001);
    let lines = "{\"subscriber\":\"k1\",\"component\":\"imap\"}\n";
    let done = face.raw(import("/v1/import/subscriptions", "application/x-ndjson", &face.token, lines.into())).await;
    assert_eq!((done.status, &done.body["inserted"]), (StatusCode::OK, &json!(1)), "{}", done.body);
    // Each wrong line is named, whatever is wrong with those before it; where no other is there the answer is no success.
    let nobody: Vec<_> = (0..100).map(|n| format!("nobody-{n}")).collect();
    let first = json!({"key": "c1", "component": "imap", "name": "One", "subscribers": nobody});
    let wrong = format!("{first}\n{}\n", json!({"key": "c2", "component": "power", "name": "Two"}));
    let right = json!({"key": "c3", "component": "imap", "name": "Three"});
    let post = |lines: String| import("/v1/import/connections", "application/x-ndjson", &face.token, lines.into());
    let done = face.raw(post(format!("{wrong}{right}\n"))).await;
    assert_eq!((done.status, &done.body["refused_total"]), (StatusCode::OK, &json!(2)), "{}", done.body);
    let last = done.body["refused"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["line"], &last["field"]), (&json!(2), &json!("component")));
    let done = face.raw(post(wrong)).await;
    assert_eq!((done.status, done.fields().pop()), (StatusCode::UNPROCESSABLE_ENTITY, Some("line 2: component")));
    // An end is answered with what ended, or without content.
    for (who, status) in [("k1", StatusCode::OK), ("k2", StatusCode::NO_CONTENT)] {
        let end = json!({"subscriber": who, "component": "imap", "active": false}).to_string();
        assert_eq!(face.send("PUT", "/v1/subscriptions", &end, &[]).await.status, status, "{who}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_cannot_begin_or_breaks_off_says_why() {
    let face = Face::furnished().await;
    let csv = "key,address\na,a@example.com\n";
    for (path, content_type, body, status, detail) in [
        ("/v1/import/people", "text/csv", csv, 404, "`people` is none of components"),
        ("/v1/import/subscribers", "application/json", csv, 415, "`text/csv` or `application/x-ndjson`"),
        ("/v1/import/subscribers", "text/csv", "key,mail\n", 400, "the first line names the unknown column `mail`"),
        ("/v1/import/subscribers?dry_run=maybe", "text/csv", csv, 400, "dry_run is neither true nor false"),
        ("/v1/import/subscribers?dryrun=true", "text/csv", csv, 400, "dryrun is no parameter here; there is `dry_run`"),
    ] {
        let reply = face.raw(import(path, content_type, &face.token, body.into())).await;
        assert_eq!(reply.status, status, "{path}: {}", reply.body);
        assert_eq!(reply.header("content-type"), "application/problem+json");
        assert!(reply.body["detail"].as_str().unwrap().contains(detail), "{}", reply.body);
    }
    let broken = [Ok("key,address\na,a@example.com\n"), Err(std::io::Error::other("gone"))];
    let broken = Body::from_stream(futures_util::stream::iter(broken));
    let reply = face.raw(import("/v1/import/subscribers", "text/csv", &face.token, broken)).await;
    assert_eq!((reply.status, &reply.body["title"]), (StatusCode::BAD_REQUEST, &json!("body cut")), "{}", reply.body);
    let unknown = face.raw(import("/v1/import/subscribers", "text/csv", "ack_x", csv.into())).await;
    assert_eq!(unknown.status, StatusCode::UNAUTHORIZED);
    let reader = Face::new(&[Scope::Read]).await;
    let reply = reader.raw(import("/v1/import/subscribers", "text/csv", &reader.token, csv.into())).await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_in_lines_are_taken_in_whatever_their_number_and_the_wrong_ones_answered() {
    let face = Face::furnished().await;
    let post = |body: Body| import("/v1/signals", "application/x-ndjson", &face.token, body);
    // More than a body of the other paths may have; the same connection fails and recovers again and again.
    let signal = |n: u64| {
        let (what, more) = [("recovered", ""), ("failed", "\"fault\":\"permanent\",")][usize::from(n % 2 == 1)];
        format!(
            "{{\"connection\":\"inbox-1\",\"what\":\"{what}\",{more}\"sequence\":{n},\"observed_at\":\"2026-04-30T17:00:00Z\"}}\n"
        )
    };
    let many: String = (1..=12_000).map(signal).collect();
    assert!(many.len() > 1_000_000);
    let lines = format!("{many}\n{{\"connection\":\"x\",\"what\":\"recovered\"}}\nnonsense\n{}\n", "y".repeat(20_000));
    let done = face.raw(post(lines.clone().into())).await;
    assert_eq!(done.status, StatusCode::ACCEPTED, "{}", done.body);
    assert_eq!((&done.body["lines"], &done.body["refused_total"]), (&json!(12_004), &json!(3)));
    let refused: Vec<_> = done.body["refused"].as_array().unwrap().iter().map(|r| (&r["line"], &r["field"])).collect();
    assert_eq!(
        refused,
        [(&json!(12_002), &json!("connection")), (&json!(12_003), &json!("body")), (&json!(12_004), &json!("line"))]
    );
    let again = face.raw(post(lines.into())).await;
    let outcomes = again.body["outcomes"].as_object().unwrap();
    assert!(outcomes.keys().all(|outcome| outcome == "repeated" || outcome == "stale_at_birth"), "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_of_signals_that_break_off_or_are_all_wrong_say_how_far_they_came() {
    let face = Face::furnished().await;
    let post = |token: &str, body: Body| import("/v1/signals", "application/jsonl", token, body);
    let failed = "{\"connection\":\"inbox-1\",\"what\":\"failed\",\"fault\":\"permanent\"}\n";
    let broken = Body::from_stream(futures_util::stream::iter([Ok(failed), Err(std::io::Error::other("gone"))]));
    let reply = face.raw(post(&face.token, broken)).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    assert!(reply.body["detail"].as_str().unwrap().contains("after line 1"), "{}", reply.body);
    let again =
        face.post("/v1/signals", &json!({"connection": "inbox-1", "what": "failed", "fault": "permanent"})).await;
    assert_eq!(again.body["outcome"], "repeated", "what came before the end was taken in: {}", again.body);
    let wrong = face.raw(post(&face.token, "{}\n".repeat(5_000).into())).await;
    assert_eq!((wrong.status, wrong.fields().len()), (StatusCode::UNPROCESSABLE_ENTITY, 5_000));
    assert!(wrong.fields()[4_999].starts_with("line 5000: "), "{}", wrong.fields()[4_999]);
    // What is right among them is taken in, wherever it stands; of more than are named the rest is counted.
    let recovered = "{\"connection\":\"inbox-1\",\"what\":\"recovered\"}\n";
    let among = face.raw(post(&face.token, format!("{}{recovered}", "{}\n".repeat(12_000)).into())).await;
    assert_eq!((among.status, &among.body["refused_total"]), (StatusCode::ACCEPTED, &json!(12_000)));
    assert_eq!(among.body["refused"].as_array().unwrap().len(), 10_000);
    assert_eq!(among.body["outcomes"], json!({"recovering": 1}));
    let mut keyed = post(&face.token, failed.into());
    keyed.headers_mut().insert("idempotency-key", "k".parse().unwrap());
    assert_eq!(face.raw(keyed).await.fields(), ["Idempotency-Key"]);
    // A key that may not declare connections well, and one that may say nothing.
    let signaller = Face::new(&[Scope::Signal]).await;
    let covering = "{\"component\":\"imap\",\"what\":\"recovered\",\"connections\":\"all\"}\n";
    let reply = signaller.raw(post(&signaller.token, covering.into())).await;
    assert_eq!(reply.fields(), ["line 1: connections"], "{}", reply.body);
    let reader = Face::new(&[Scope::Read]).await;
    assert_eq!(reader.raw(post(&reader.token, failed.into())).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_after_which_the_database_fails_name_those_that_were_refused() {
    let face = Face::furnished().await;
    let mut conn = <sqlx::SqliteConnection as sqlx::Connection>::connect(&face.url).await.unwrap();
    let second = "CREATE TRIGGER second BEFORE INSERT ON signal WHEN EXISTS (SELECT 1 FROM signal)
        BEGIN SELECT RAISE(ABORT, 'no'); END";
    sqlx::query(second).execute(&mut conn).await.unwrap();
    // As many as are taken in together, and one.
    let failed = "{\"connection\":\"inbox-1\",\"what\":\"failed\",\"fault\":\"permanent\"}\n";
    let lines = format!("{}{failed}{failed}", "{}\n".repeat(1_999));
    let reply = face.raw(import("/v1/signals", "application/jsonl", &face.token, lines.into())).await;
    assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR, "{}", reply.body);
    let detail = "the database refused a statement; lines 1 to 2000 were dealt with, 1999 of them refused";
    assert_eq!(reply.body["detail"], detail);
    assert!(reply.body["hint"].as_str().unwrap().starts_with("send all from line 2001 on"), "{}", reply.body);
    assert_eq!((&reply.body["lines"], &reply.body["outcomes"]), (&json!(2_000), &json!({"waiting": 1})));
    let refused = reply.body["refused"].as_array().unwrap();
    assert_eq!((refused.len(), &refused[1_998]["line"]), (1_999, &json!(1_999)));
}

fn incident() -> Value {
    json!({
        "kind": "incident", "incident": "2026-04-30", "title": "Mail is late", "phase": "investigating",
        "components": [{"key": "imap", "status": "partial_outage"}], "body": "We are looking.",
        "started_at": "2026-04-30T12:30:00+02:00"
    })
}

#[tokio::test]
async fn a_notice_is_accepted_and_can_be_read_back() {
    let face = Face::furnished().await;
    let reply = face.post("/v1/notices", &incident()).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.body);
    assert_eq!(reply.body["outcome"], "planned");
    let place = reply.header("location").to_owned();
    assert_eq!(place, format!("/v1/notices/{}", reply.body["id"].as_str().unwrap()));
    let read = face.send("GET", &place, "", &[]).await;
    assert_eq!((read.status, &read.body["notice"]["phase"]), (StatusCode::OK, &json!("investigating")));
}

#[tokio::test]
async fn a_failure_waits_and_a_covering_recovery_is_followed() {
    let face = Face::furnished().await;
    let failed = json!({"connection": "inbox-1", "what": "failed", "fault": "permanent"});
    let reply = face.post("/v1/signals", &failed).await;
    assert_eq!((reply.status, &reply.body["outcome"]), (StatusCode::ACCEPTED, &json!("waiting")), "{}", reply.body);
    assert_eq!((&reply.body["reason"], &reply.body["until"]), (&json!("dwell"), &json!("2026-04-30T18:05:00Z")));
    let since = "2026-04-30T17:00:00Z";
    let recovered = json!({"component": "imap", "what": "recovered", "connections": "all", "since": since});
    let reply = face.post("/v1/signals", &recovered).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.body);
    assert_eq!((&reply.body["drained"], &reply.body["in_flight"]), (&json!(true), &json!(0)));
    let place = reply.header("location").to_owned();
    assert!(place.starts_with("/v1/recoveries/rec_"), "{place}");
    let read = face.send("GET", &format!("{place}?wait=2"), "", &[]).await;
    assert_eq!((read.status, &read.body["drained"]), (StatusCode::OK, &json!(true)), "{}", read.body);
    let read = face.send("GET", &format!("{place}?wait=soon"), "", &[]).await;
    assert_eq!((read.status, read.fields()), (StatusCode::BAD_REQUEST, vec!["wait"]));
}

#[tokio::test]
async fn the_same_request_is_answered_the_same_and_another_is_refused() {
    let face = Face::furnished().await;
    let body = incident().to_string();
    let key = [("idempotency-key", "\"april\"")];
    let first = face.send("POST", "/v1/notices", &body, &key).await;
    assert_eq!((first.status, first.header("idempotency-replayed")), (StatusCode::ACCEPTED, ""));
    let again = face.send("POST", "/v1/notices", &body, &[("idempotency-key", "april")]).await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (StatusCode::OK, "true"));
    assert_eq!((&again.body["id"], again.header("location")), (&first.body["id"], first.header("location")));
    let other = face.send("POST", "/v1/notices", &body.replace("late", "lost"), &key).await;
    assert_eq!(other.status, StatusCode::CONFLICT);
    assert_eq!(other.header("content-type"), "application/problem+json");
    assert_eq!(other.body["type"], "urn:allclear:problem:idempotency_key_reused");
    let long = "k".repeat(201);
    let refused = face.send("POST", "/v1/notices", &body, &[("idempotency-key", &long)]).await;
    assert_eq!((refused.status, refused.fields()), (StatusCode::BAD_REQUEST, vec!["Idempotency-Key"]));
}

#[tokio::test]
async fn a_wrong_notice_is_refused_with_its_field() {
    let face = Face::furnished().await;
    let with = |name: &str, value: Value| {
        let mut body = incident();
        body[name] = value;
        body
    };
    for (body, field) in [
        (with("colour", json!("red")), "colour"),
        (with("components", json!([{"key": "imap"}, {"key": "nowhere"}])), "components[1].key"),
        (with("components", json!([{"key": "imap", "status": "fine"}])), "components[0].status"),
        (
            with(
                "components",
                json!([{"key": "imap", "status": "major_outage"}, {"key": "imap", "status": "operational"}]),
            ),
            "components[1].status",
        ),
        (with("title", json!("late\r\nBcc: all@example.com")), "title"),
        (with("incident", json!("2026-04-30 ")), "incident"),
        (with("incident", json!(" ")), "incident"),
        (with("title", json!("x".repeat(201))), "title"),
        (with("body", json!("a\u{0}b")), "body"),
        (with("started_at", json!("2126-01-01T00:00:00Z")), "started_at"),
        (with("started_at", json!("2026-05-01T00:00:00Z")), "started_at"),
        (with("observed_at", json!("2026-05-01T00:00:00Z")), "observed_at"),
        (with("observed_at", json!("1970-01-01T00:00:00Z")), "observed_at"),
        (with("recipients", json!(["nobody"])), "recipients[0]"),
        (with("groups", json!(["nowhere"])), "groups[0]"),
        (with("filter", json!({})), "filter"),
        (with("filter", Value::Null), "filter"),
        (with("filter", json!({"region": "eu"})), "filter.region"),
        (with("filter", json!({"region": []})), "filter.region"),
        (with("link", json!("javascript:alert(1)")), "link"),
        (with("kind", json!("rumour")), "kind"),
    ] {
        let reply = face.post("/v1/notices", &body).await;
        assert_eq!((reply.status, reply.fields()), (StatusCode::UNPROCESSABLE_ENTITY, vec![field]), "{}", reply.body);
        assert_eq!(reply.header("content-type"), "application/problem+json");
        assert!(!reply.body["hint"].as_str().unwrap().is_empty());
    }
    let reply = face.send("POST", "/v1/notices", "{\"kind\": \"incident\", ", &[]).await;
    assert_eq!((reply.status, reply.fields()), (StatusCode::BAD_REQUEST, vec!["body"]));
    // Nothing of all that was recorded: the first update is the first revision.
    let reply = face.post("/v1/notices", &incident()).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED);
    let mut tx = face.store.read().await.unwrap();
    let name = allclear::store::subjects::Name::Key("2026-04-30");
    let incident = allclear::store::subjects::incident(&mut tx, name).await.unwrap().unwrap();
    assert_eq!(incident.revision, 1);
}

#[tokio::test]
async fn wrong_people_and_things_are_refused_with_their_field() {
    let face = Face::furnished().await;
    face.send("PUT", "/v1/components/other", &json!({"name": "Other"}).to_string(), &[]).await;
    let long = format!("{}@example.com", "a".repeat(250));
    for (path, body, fields) in [
        ("/v1/subscribers/jo", json!({"address": "jo@example.com", "zone": "Mars/Base"}), vec!["zone"]),
        ("/v1/subscribers/jo", json!({"address": "jo@example.com", "locale": "en_US"}), vec!["locale"]),
        ("/v1/subscribers/jo", json!({"address": long}), vec!["address"]),
        ("/v1/subscribers/jo", json!({"address": "Jo <jo@example.com>", "name": "a\nb"}), vec!["name", "address"]),
        ("/v1/subscribers/jo%0A", json!({"address": "jo@example.com"}), vec!["key"]),
        ("/v1/subscribers/jo%20", json!({"address": "jo@example.com"}), vec!["key"]),
        ("/v1/components/imap", json!({"name": "Mail", "group": "\u{a0}eu"}), vec!["group"]),
        ("/v1/subscribers/jo", json!({"name": "Jo"}), vec!["address"]),
        ("/v1/components/imap", json!({"name": "Mail", "depends_on": ["power"]}), vec!["depends_on[0]"]),
        ("/v1/components/imap", json!({"name": "Mail", "depends_on": ["imap"]}), vec!["depends_on"]),
        ("/v1/connections/inbox-1", json!({"component": "other", "name": "x"}), vec!["component"]),
        (
            "/v1/connections/inbox-2",
            json!({"component": "imap", "name": "x", "subscribers": ["al"]}),
            vec!["subscribers[0]"],
        ),
        ("/v1/subscriptions", json!({"subscriber": "al"}), vec!["subscriber"]),
        ("/v1/subscriptions", json!({"subscriber": "jo", "activ": true}), vec!["activ"]),
        ("/v1/subscriptions", json!({"subscriber": "jo", "group": "eu"}), vec!["group"]),
        ("/v1/subscriptions", json!({"subscriber": "jo", "group": "eu", "component": "imap"}), vec!["group"]),
        ("/v1/subscriptions", json!({"subscriber": "jo", "events": "some"}), vec!["events"]),
        ("/v1/subscriptions", json!({"subscriber": "jo", "least_impact": "maintenance"}), vec!["least_impact"]),
    ] {
        let reply = face.send("PUT", path, &body.to_string(), &[]).await;
        assert_eq!((reply.status, reply.fields()), (StatusCode::UNPROCESSABLE_ENTITY, fields), "{path} {}", reply.body);
    }
}

#[tokio::test]
async fn what_is_too_large_or_not_json_is_refused_and_the_face_stays_up() {
    let face = Face::furnished().await;
    let large = format!("{{\"kind\":\"{}\"}}", "x".repeat(10 << 20));
    let reply = face.send("POST", "/v1/notices", &large, &[]).await;
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
    let cut =
        Body::from_stream(futures_util::stream::iter([Ok("{\"connection\":"), Err(std::io::Error::other("gone"))]));
    let reply = face.raw(import("/v1/signals", "application/json", &face.token, cut)).await;
    assert_eq!((reply.status, &reply.body["title"]), (StatusCode::BAD_REQUEST, &json!("body cut")), "{}", reply.body);
    let twice = "{\"connection\":\"inbox-1\",\"what\":\"recovered\",\"what\":\"failed\"}";
    let reply = face.send("POST", "/v1/signals", twice, &[]).await;
    assert_eq!((reply.status, reply.fields()), (StatusCode::UNPROCESSABLE_ENTITY, vec!["what"]), "{}", reply.body);
    let twice = "{\"address\":\"q@example.com\",\"attributes\":{\"app\":[\"x\"],\"app\":[\"y\"]}}";
    let reply = face.send("PUT", "/v1/subscribers/q", twice, &[]).await;
    let expected = (StatusCode::UNPROCESSABLE_ENTITY, vec!["attributes.app"]);
    assert_eq!((reply.status, reply.fields()), expected, "{}", reply.body);
    let request = Request::post("/v1/notices").header("authorization", format!("Bearer {}", face.token));
    let reply = face.raw(request.body(Body::from("{}")).unwrap()).await;
    assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let gzip = [("content-encoding", "gzip")];
    let reply = face.send("POST", "/v1/signals", "\u{1f}", &gzip).await;
    assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(reply.body["detail"], "the body is compressed");
    let deep = "[".repeat(100_000);
    assert_eq!(face.send("POST", "/v1/signals", &deep, &[]).await.status, StatusCode::BAD_REQUEST);
    // A byte order mark is no part of what is said.
    let reply = face.send("POST", "/v1/signals", "\u{feff}{}", &[]).await;
    assert_eq!((reply.status, reply.fields()), (StatusCode::UNPROCESSABLE_ENTITY, vec!["what"]), "{}", reply.body);
    for path in ["/livez", "/readyz"] {
        let reply = face.raw(Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!((reply.status, &reply.body), (StatusCode::OK, &json!("ok\n")), "{path}");
    }
    let reply = face.raw(Request::get("/readyz?verbose").body(Body::empty()).unwrap()).await;
    assert_eq!(reply.body["database"], json!({"kind": "SQLite", "ok": true}));
}

#[tokio::test]
async fn a_disk_that_is_full_is_called_so() {
    use sqlx::{Connection, Executor};
    let mut file = sqlx::SqliteConnection::connect("sqlite::memory:").await.unwrap();
    file.execute("CREATE TABLE t (n); PRAGMA max_page_count = 2").await.unwrap();
    let source = file.execute("INSERT INTO t VALUES (zeroblob(100000))").await.unwrap_err();
    let response = Problem::from(StoreError::Failed { doing: "write", source }).into_response();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let body: Value = serde_json::from_slice(&to_bytes(response.into_body(), 1 << 20).await.unwrap()).unwrap();
    assert_eq!(body["detail"], "the disk of the database is full");
}

#[tokio::test]
async fn a_key_opens_only_what_its_scopes_say() {
    let face = Face::new(&[Scope::Signal]).await;
    let covering = json!({"component": "imap", "what": "recovered", "connections": "all"}).to_string();
    for (method, path, scope) in [
        ("POST", "/v1/notices", "enqueue"),
        ("PUT", "/v1/components/imap", "manage"),
        ("GET", "/v1/recoveries/rec_1", "read"),
        ("POST", "/v1/signals", "recover_covering"),
    ] {
        let reply = face.send(method, path, &covering, &[]).await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN, "{path}");
        assert!(reply.body["detail"].as_str().unwrap().contains(scope), "{}", reply.body);
    }
    for wrong in ["", "Bearer ", "Bearer ack_wrong", "Basic am86"] {
        let request = Request::post("/v1/signals").header("authorization", wrong);
        let reply = face.raw(request.body(Body::from("{}")).unwrap()).await;
        assert_eq!((reply.status, reply.header("www-authenticate")), (StatusCode::UNAUTHORIZED, "Bearer"), "{wrong}");
    }
    let mut tx = face.store.begin().await.unwrap();
    keys::revoke(&mut tx, "statuspage").await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(face.send("POST", "/v1/signals", &covering, &[]).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn what_is_not_there_is_said_to_be_not_there() {
    let face = Face::furnished().await;
    for (method, path, status) in [
        ("GET", "/v1/recoveries/rec_00000000000000000000000000000001", 404),
        ("GET", "/v1/recoveries/../../etc/passwd", 404),
        ("GET", "/v1/notices/ntc_1", 404),
        ("GET", "/v2", 404),
        ("PUT", "/v1/components/%ff", 404),
        ("DELETE", "/v1/notices", 405),
    ] {
        let reply = face.send(method, path, "", &[]).await;
        assert_eq!(reply.status.as_u16(), status, "{path}");
        assert_eq!(reply.header("content-type"), "application/problem+json", "{path}");
    }
}

#[tokio::test]
async fn a_filter_that_there_is_not_is_refused_and_not_ignored() {
    let face = Face::furnished().await;
    for path in ["surges", "surges/srg_1", "pauses", "queue", "suppressions/jo@example.com", "deliveries/dlv_1/mail"] {
        let reply = face.send("GET", &format!("/v1/{path}?open=true"), "", &[]).await;
        assert_eq!((reply.status, reply.fields()), (StatusCode::BAD_REQUEST, vec!["open"]), "{path} {}", reply.body);
    }
}

#[tokio::test]
async fn a_parameter_that_no_database_could_keep_is_refused_by_its_name() {
    let face = Face::furnished().await;
    for (path, name) in [
        ("deliveries?limit=1&incident=%00", "incident"),
        ("deliveries?subscriber=jo%00", "subscriber"),
        ("deliveries?connection=%00a", "connection"),
        ("suppressions?after=%00", "after"),
        ("subscribers?address=a%00@example.com", "address"),
        ("subscribers/jo?cursor=%00", "cursor"),
        ("queue?%00", "%00"),
    ] {
        let reply = face.send("GET", &format!("/v1/{path}"), "", &[]).await;
        assert_eq!((reply.status, reply.fields()), (StatusCode::BAD_REQUEST, vec![name]), "{path} {}", reply.body);
    }
    let percent = face.send("GET", "/v1/suppressions?after=%2500", "", &[]).await;
    assert_eq!(percent.status, StatusCode::OK, "{}", percent.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wish_that_stands_beside_the_body_is_refused_and_nothing_done() {
    let face = Face::furnished().await;
    let [mail, _] = undelivered(&face).await;
    let why = json!({"reason": "x"});
    let resend = format!("/v1/deliveries/{mail}/resend");
    let signal = json!({"connection": "inbox-1", "what": "failed", "fault": "permanent"});
    for (method, path, body) in [
        ("POST", "/v1/notices", incident()),
        ("POST", "/v1/signals", signal.clone()),
        ("PUT", "/v1/components/new", json!({"name": "New"})),
        ("PUT", "/v1/connections/new", json!({"component": "imap", "name": "New"})),
        ("PUT", "/v1/subscribers/new", json!({"address": "new@example.com"})),
        ("PUT", "/v1/subscriptions", json!({"subscriber": "jo"})),
        ("POST", &resend, json!({"force": true, "reason": "x"})),
        ("POST", "/v1/resends", json!({"ids": [mail]})),
        ("POST", "/v1/streams/incidents/resume", why.clone()),
        ("POST", "/v1/suppressions/jo@example.com/lift", why.clone()),
        ("POST", "/v1/surges", json!({"component": "imap", "reason": "x"})),
        ("POST", "/v1/surges/srg_1/release", why.clone()),
        ("POST", "/v1/surges/srg_1/hold", why.clone()),
    ] {
        let reply = face.send(method, &format!("{path}?dry_run=true"), &body.to_string(), &[]).await;
        let expected = (StatusCode::BAD_REQUEST, vec!["dry_run"]);
        assert_eq!((reply.status, reply.fields()), expected, "{path} {}", reply.body);
        assert!(reply.body["detail"].as_str().unwrap().contains("in the body"), "{}", reply.body);
    }
    let lines = import("/v1/signals?dry_run=true", "application/x-ndjson", &face.token, signal.to_string().into());
    assert_eq!(face.raw(lines).await.fields(), ["dry_run"]);
    for path in ["incidents/2026-04-30", "components/new", "connections/new", "subscribers/new"] {
        let reply = face.send("GET", &format!("/v1/{path}"), "", &[]).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(face.send("GET", "/v1/journal", "", &[]).await.body["lines"], json!([]));
    assert_eq!(face.send("GET", "/v1/surges", "", &[]).await.body, json!([]));
    assert_eq!(face.send("GET", "/v1/connections/inbox-1", "", &[]).await.body["connection"]["signals"], json!([]));
}

#[tokio::test]
async fn pauses_and_suppressions_are_listed_and_ended_with_a_reason() {
    use allclear::domain::reply::ReplyKind;
    use allclear::store::{streams, suppressions};
    let face = Face::furnished().await;
    let mut tx = face.store.begin().await.unwrap();
    let now = tx.now();
    let words = "550 5.7.26 SPF did not pass";
    let refusal = streams::Refusal { stream: "incidents", kind: ReplyKind::OurAuthentication, words, delivery: None };
    assert!(streams::pause(&mut tx, refusal, now + Span::hours(1), "test").await.unwrap());
    let dead = [("jo@example.com", "550 5.1.1 unknown".to_owned())];
    suppressions::suppress(&mut tx, &dead, "address_dead", "test").await.unwrap();
    tx.commit().await.unwrap();

    let listed = face.send("GET", "/v1/pauses", "", &[]).await;
    assert_eq!(listed.body[0]["kind"], "our_authentication");
    assert!(listed.body[0]["what_to_do"].as_str().unwrap().contains("SPF"), "{}", listed.body);
    let reply = face.send("POST", "/v1/streams/incidents/resume", "{}", &[]).await;
    assert_eq!((reply.status, reply.fields()), (StatusCode::UNPROCESSABLE_ENTITY, vec!["reason"]));
    let why = json!({"reason": "SPF is mended"}).to_string();
    let resumed = face.send("POST", "/v1/streams/incidents/resume", &why, &[]).await;
    assert_eq!(resumed.status, StatusCode::NO_CONTENT);
    // One mail finds out whether it is mended; until then the pause stands.
    assert_eq!(face.send("GET", "/v1/pauses", "", &[]).await.body.as_array().unwrap().len(), 1);
    let mut tx = face.store.begin().await.unwrap();
    assert!(streams::end(&mut tx, "incidents", "test").await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(face.send("GET", "/v1/pauses", "", &[]).await.body, json!([]));
    let again = face.send("POST", "/v1/streams/incidents/resume", &why, &[]).await;
    assert_eq!(again.status, StatusCode::NOT_FOUND);
    // No mail of a stream that is configured no more finds out.
    let mut tx = face.store.begin().await.unwrap();
    let gone = streams::Refusal { stream: "gone", ..refusal };
    assert!(streams::pause(&mut tx, gone, now + Span::hours(1), "test").await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(face.send("POST", "/v1/streams/gone/resume", &why, &[]).await.status, StatusCode::NO_CONTENT);
    assert_eq!(face.send("GET", "/v1/pauses", "", &[]).await.body, json!([]));

    let mistyped = face.send("GET", "/v1/suppressions?afer=jo", "", &[]).await;
    assert_eq!((mistyped.status, mistyped.fields()), (StatusCode::BAD_REQUEST, vec!["afer"]), "{}", mistyped.body);
    let listed = face.send("GET", "/v1/suppressions", "", &[]).await;
    assert_eq!(listed.body[0]["address"], "jo@example.com");
    assert_eq!(listed.body.as_array().unwrap().len(), 1, "one line an address: {}", listed.body);
    let one = face.send("GET", "/v1/suppressions/jo@example.com", "", &[]).await;
    assert_eq!(one.body["evidence"], "550 5.1.1 unknown");
    let lifted = face.send("POST", "/v1/suppressions/jo@example.com/lift", &why, &[]).await;
    assert_eq!(lifted.status, StatusCode::NO_CONTENT);
    assert_eq!(face.send("GET", "/v1/suppressions/jo@example.com", "", &[]).await.status, StatusCode::NOT_FOUND);

    // An international address as it is stored and as it is written.
    let mut tx = face.store.begin().await.unwrap();
    let dead = [("ann@xn--bcher-kva.example", "550 5.1.1 unknown".to_owned())];
    suppressions::suppress(&mut tx, &dead, "address_dead", "test").await.unwrap();
    tx.commit().await.unwrap();
    for written in ["ann@xn--bcher-kva.example", "ann@b%C3%BCcher.example", "Ann@B%C3%9Ccher.example"] {
        let one = face.send("GET", &format!("/v1/suppressions/{written}"), "", &[]).await;
        assert_eq!(one.body["address"], "ann@xn--bcher-kva.example", "{written}: {}", one.body);
    }
    let lifted = face.send("POST", "/v1/suppressions/ann@b%C3%BCcher.example/lift", &why, &[]).await;
    assert_eq!(lifted.status, StatusCode::NO_CONTENT);
}

/// A failed mail about a broken connection, and one whose connection has recovered.
async fn undelivered(face: &Face) -> [String; 2] {
    let id = uuid::Uuid::from_u128;
    let mut conn = <sqlx::SqliteConnection as sqlx::Connection>::connect(&face.url).await.unwrap();
    for (n, cleared) in [(1, 0), (2, 1)] {
        for sql in [
            "INSERT INTO connection (id, key, component_id, name, fault, episode, cleared, failed_at, created_at)
             SELECT ?1, ?2, id, 'C', 'permanent', 1, ?3, 1, 1 FROM component",
            "INSERT INTO connection_subscriber (connection_id, subscriber_id) SELECT ?1, id FROM subscriber WHERE ?2 || ?3 <> ''",
            "INSERT INTO thread (id, matter_kind, matter_id, subscriber_id, ordinal, root, subject, sender, created_at)
             SELECT ?1, 'connections', ?1, id, 0, ?2, 's', ?3, 1 FROM subscriber",
            "INSERT OR IGNORE INTO lane (id, class, fence_kind, fence_id, created_at) VALUES (?1, 'action_required', ?2, ?1, ?3)",
            "INSERT INTO delivery (id, class, stream, lane_id, cause_id, subscriber_id, thread_id, state, due_at, reason, created_at, decided_at)
             SELECT ?1, 'action_required', 'account', ?1, ?1, id, ?1, 'failed', 1, 'gave_up', 1777572000000000, ?2 || ?3 FROM subscriber",
            "INSERT INTO delivery_item (delivery_id, subject_id, component_id, connection_id, episode, failed_at)
             SELECT ?1, ?1, component_id, ?1, 1, ?3 FROM connection WHERE id = ?1 AND ?2 <> ''",
        ] {
            let word = if sql.contains("INTO lane") { "component".to_owned() } else { n.to_string() };
            sqlx::query(sql).bind(id(n)).bind(word).bind(cleared).execute(&mut conn).await.unwrap();
        }
    }
    [1, 2].map(|n| format!("dlv_{}", id(n).simple()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_is_resent_once_for_a_key_and_refused_by_name() {
    let face = Face::furnished().await;
    let [good, stale] = undelivered(&face).await;
    let path = format!("/v1/deliveries/{good}/resend");
    let dry = face.post(&path, &json!({"dry_run": true})).await;
    assert_eq!((dry.status, dry.body["sends"].as_str()), (StatusCode::OK, Some("as_it_was")), "{}", dry.body);
    let key = [("idempotency-key", "k1")];
    let first = face.send("POST", &path, "{}", &key).await;
    assert_eq!(first.status, StatusCode::ACCEPTED, "{}", first.body);
    let again = face.send("POST", &path, "{}", &key).await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (StatusCode::OK, "true"));
    assert_eq!(again.body, first.body);
    let other = face.send("POST", &format!("/v1/deliveries/{stale}/resend"), "{}", &key).await;
    assert_eq!((other.status, other.body["title"].as_str()), (StatusCode::CONFLICT, Some("idempotency key reused")));
    let busy = face.post(&path, &json!({})).await;
    assert_eq!((busy.status, busy.body["errors"][0]["what"].as_str()), (StatusCode::CONFLICT, Some("on_its_way")));
    let refused = face.post(&format!("/v1/deliveries/{stale}/resend"), &json!({})).await;
    assert_eq!(refused.body["detail"], "the resend is refused: recovered");
    assert_eq!(face.post(&path, &json!({"force": true})).await.fields(), ["reason"]);
    let unknown = face.post(&path.replace("01", "09"), &json!({})).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    let journal = face.send("GET", "/v1/journal", "", &[]).await;
    assert_eq!(journal.body["lines"].as_array().unwrap().len(), 1);
    assert_eq!((&journal.body["lines"][0]["who"], &journal.body["next"]), (&json!("api:statuspage"), &Value::Null));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_batch_is_resent_in_pages() {
    let face = Face::furnished().await;
    undelivered(&face).await;
    for (body, field) in [
        (json!({"filter": {}}), "filter"),
        (json!({}), "ids"),
        (json!({"filter": {"state": "accepted"}}), "filter.state"),
        (json!({"filter": {"incident": "nope"}}), "filter.incident"),
        (json!({"filter": {"stream": "nope"}}), "filter.stream"),
        (json!({"filter": {"state": "failed"}, "limit": 0}), "limit"),
        (json!({"ids": ["dlv_0198c0de000070008000000000000001"], "limit": 1}), "limit"),
        (json!({"filter": {"colour": "red"}}), "filter.colour"),
    ] {
        let reply = face.post("/v1/resends", &body).await;
        assert_eq!((reply.status, reply.fields()), (StatusCode::UNPROCESSABLE_ENTITY, vec![field]), "{}", reply.body);
    }
    let mut body = json!({"filter": {"state": "failed", "reason": "gave_up"}, "limit": 1});
    let (mut sent, mut refused, mut pages) = (0, 0, 0);
    loop {
        let reply = face.post("/v1/resends", &body).await;
        assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.body);
        sent += reply.body["sent"].as_u64().unwrap();
        refused += reply.body["refused"]["recovered"].as_u64().unwrap_or_default();
        pages += 1;
        body["next"] = reply.body["next"].clone();
        if body["next"].is_null() {
            break;
        }
    }
    assert_eq!((sent, refused, pages), (1, 1, 3));
    let reader = Face::new(&[Scope::Read, Scope::Enqueue, Scope::Manage]).await;
    for (method, path) in [("POST", "/v1/resends"), ("GET", "/v1/journal")] {
        assert_eq!(reader.send(method, path, "{}", &[]).await.status, StatusCode::FORBIDDEN, "{path}");
    }
}

#[tokio::test]
async fn a_surge_is_opened_held_and_released_by_hand() {
    let face = Face::furnished().await;
    let why = json!({"component": "imap", "reason": "their page is red"});
    let opened = face.post("/v1/surges", &why).await;
    assert_eq!((opened.status, &opened.body["stage"]), (StatusCode::CREATED, &json!("holding")), "{}", opened.body);
    assert_eq!(opened.body["opened_by"], "api:statuspage");
    let again = face.post("/v1/surges", &why).await;
    assert_eq!(again.status, StatusCode::CONFLICT);
    let unknown = face.post("/v1/surges", &json!({"component": "imep", "reason": "their page is red"})).await;
    assert_eq!((unknown.status, unknown.fields()), (StatusCode::UNPROCESSABLE_ENTITY, vec!["component"]));
    assert!(again.body["detail"].as_str().unwrap().contains("its own customers are not asked"), "{}", again.body);
    let path = format!("/v1/surges/{}", opened.body["id"].as_str().unwrap());
    let extended = json!({"reason": "they say 20:00", "until": "2026-04-30T20:00:00Z"});
    let held = face.post(&format!("{path}/hold"), &extended).await;
    assert_eq!((held.status, &held.body["until"]), (StatusCode::OK, &json!("2026-04-30T20:00:00Z")));
    let held = face.post(&format!("{path}/hold"), &json!({"reason": "until I say so"})).await;
    let said = (held.status, &held.body["until"], &held.body["why"]);
    assert_eq!(said, (StatusCode::OK, &Value::Null, &json!("held_until")));
    for (wrong, field) in
        [(json!({"reason": " "}), "reason"), (json!({"reason": "x", "until": "2026-04-30T17:00:00Z"}), "until")]
    {
        let refused = face.post(&format!("{path}/hold"), &wrong).await;
        assert_eq!((refused.status, refused.fields()), (StatusCode::UNPROCESSABLE_ENTITY, vec![field]));
    }
    let released = face.post(&format!("{path}/release"), &json!({"reason": "it works"})).await;
    assert_eq!((released.status, &released.body["stage"]), (StatusCode::OK, &json!("canary")));
    let list = face.send("GET", "/v1/surges", "", &[]).await;
    assert_eq!((list.body[0]["id"].as_str(), &list.body[0]["why"]), (opened.body["id"].as_str(), &json!("by_hand")));
    assert_eq!(face.send("GET", &path, "", &[]).await.body["stage"], "canary");
    let component = face.send("GET", "/v1/components/imap", "", &[]).await;
    assert_eq!(component.body["surges"][0]["id"], opened.body["id"]);
    assert_eq!(face.send("GET", "/v1/queue", "", &[]).await.body["surges"][0]["stage"], "canary");
    for path in ["/v1/surges/srg_x", "/v1/surges/srg_0198c0de000070008000000000000001"] {
        assert_eq!(face.send("GET", path, "", &[]).await.status, StatusCode::NOT_FOUND);
    }
    let reader = Face::new(&[Scope::Read]).await;
    assert_eq!(reader.post("/v1/surges", &why).await.status, StatusCode::FORBIDDEN);
}
