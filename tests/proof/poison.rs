//! One mail that cannot be sent, whatever is tried: it is set aside soon and listed with its reason, its neighbours are
//! unaffected, and the process stays up. What takes hours of retries is in `tests/flow/poison.rs`.

use crate::site::{Node, Site, until};
use crate::support::On;
use allclear::mail::sink::{Act, Answer, Phase, Script, Sink};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};

/// A node's name of this test alone: PostgreSQL keeps them apart for the whole database.
pub fn named(name: &str) -> String {
    format!("{name}-{}", uuid::Uuid::now_v7().simple())
}

pub async fn broken(site: &Site, node: &Node, n: u64) {
    let signal = json!({"connection": format!("c{n}"), "what": "failed", "fault": "permanent"});
    let (status, answer) = node.post(site, "/v1/signals", &signal, None).await.unwrap();
    assert_eq!(status, 202, "{answer}");
}

/// What a command prints.
fn run(site: &Site, node: &str, args: &[&str]) -> String {
    let done = site.command(node).args(args).output().unwrap();
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// The mails in a state, by search: recipient and reason.
fn listed(site: &Site, node: &str, state: &str) -> BTreeSet<String> {
    let found: Value = serde_json::from_str(&run(site, node, &["search", "--state", state, "--json"])).unwrap();
    let text = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    let rows = found["deliveries"].as_array().unwrap_or_else(|| panic!("no deliveries in {found}"));
    rows.iter().map(|row| format!("{} {}", text(row, "address"), text(row, "reason"))).collect()
}

async fn a_panic_at(on: On, point: &str) {
    let sink = Sink::start(Script::default()).await.unwrap();
    let site = Site::new(on, sink.port(), "").await;
    site.customers(6).await;
    let name = named("one");
    let node = site.node_stopping_at(&name, &format!("panic@{point}=p3@example.net:1")).await;
    for n in 1..=6 {
        broken(&site, &node, n).await;
    }
    sink.wait_for(5).await;
    site.settled().await;
    let got: BTreeSet<_> = sink.mails().into_iter().map(|mail| mail.to).collect();
    assert_eq!(got, [1, 2, 4, 5, 6].map(|n| format!("p{n}@example.net")).into());
    assert_eq!(site.count("SELECT COUNT(*) FROM attempt").await, 5, "the relay was never asked about it");
    assert_eq!(listed(&site, &name, "parked"), ["p3@example.net template_fault".to_owned()].into());
    let shown = run(&site, &name, &["show", "p3@example.net"]);
    assert!(shown.contains("parked") && shown.contains("template"), "{shown}");
    let status = run(&site, &name, &["status"]);
    assert!(status.contains("parked"), "{status}");
    let log = node.log();
    assert!(log.contains(&format!("told to panic at {point}")) && !log.contains("is tried again"), "{log}");
    // And it goes on.
    let (status, _) =
        node.post(&site, "/v1/signals", &json!({"connection": "c1", "what": "recovered"}), None).await.unwrap();
    assert_eq!(status, 202);
    sink.wait_for(6).await;
    site.settled().await;
    site.audit().await;
    println!("a panic at {point}: 1 mail set aside unasked, 5 of 5 neighbours mailed, the process up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_whose_rendering_panics_is_set_aside() {
    a_panic_at(On::Sqlite, "rendering").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_whose_composing_panics_is_set_aside() {
    a_panic_at(On::Postgres, "composing").await;
}

/// Else nothing behind it would ever be planned.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subject_whose_rendering_panics_is_mailed_in_bare_words() {
    let sink = Sink::start(Script::default()).await.unwrap();
    let site = Site::new(On::Sqlite, sink.port(), "").await;
    site.customers(2).await;
    let node = site.node_stopping_at("one", "panic@titling=Boom:1").await;
    for (n, subject) in [(1, "Boom"), (2, "News")] {
        let notice = json!({"kind": "free", "subject": subject, "body": "Something.", "recipients": [format!("p{n}")]});
        assert_eq!(node.post(&site, "/v1/notices", &notice, None).await.unwrap().0, 202);
    }
    sink.wait_for(2).await;
    let subjects: BTreeSet<_> = sink.mails().into_iter().map(|mail| mail.subject).collect();
    assert_eq!(subjects, ["Boom", "News"].map(str::to_owned).into());
    assert!(node.log().contains("told to panic at titling"), "{}", node.log());
    site.settled().await;
    site.audit().await;
}

/// Each round of the loop panics once it has done its work: the next must come all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_that_panics_goes_on_and_says_so() {
    for (point, what) in [("planned", "planning"), ("swept", "the sweep"), ("recorded", "dispatching")] {
        let sink = Sink::start(Script::default()).await.unwrap();
        let site = Site::new(On::Sqlite, sink.port(), "").await;
        site.customers(2).await;
        let node = site.node_stopping_at("one", &format!("panic@{point}:1")).await;
        if point == "planned" {
            // Failures are planned elsewhere.
            for n in 1..=2 {
                let notice =
                    json!({"kind": "free", "subject": "News", "body": "News.", "recipients": [format!("p{n}")]});
                assert_eq!(node.post(&site, "/v1/notices", &notice, None).await.unwrap().0, 202);
                sink.wait_for(n).await;
            }
        } else {
            for n in 1..=2 {
                broken(&site, &node, n).await;
                sink.wait_for(2 * n - 1).await;
                until(async || site.count("SELECT COUNT(*) FROM delivery WHERE state = 'sending'").await == 0).await;
                let signal = json!({"connection": format!("c{n}"), "what": "recovered", "by": "automatic"});
                assert_eq!(node.post(&site, "/v1/signals", &signal, None).await.unwrap().0, 202);
                sink.wait_for(2 * n).await;
            }
        }
        site.settled().await;
        site.audit().await;
        let told = format!("{what} met a fault of the program");
        assert!(node.log().matches(&told).count() >= 2, "{}", node.log());
        println!("{what}: panicked after every round, every mail left");
    }
}

/// The head and body of a request whose body may be cut off by the answer.
fn post(address: &str, key: &str, path: &str, kind: &str, body: &[u8]) -> (u16, String) {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
    (status, answer)
}

/// The most memory a process has had, in MiB.
fn most_memory(node: &Node) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() / 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_of_10_mb_is_refused_by_name_and_costs_nobody_anything() {
    let sink = Sink::start(Script::default()).await.unwrap();
    let site = Site::new(On::Sqlite, sink.port(), "").await;
    site.customers(12).await;
    let node = site.node_with("one", &[("ALLCLEAR_HTTP__MAX_BODY_BYTES", "33554432")]).await;
    broken(&site, &node, 1).await;
    sink.wait_for(1).await;
    let before = most_memory(&node);
    let long = "x".repeat(10 * 1024 * 1024);
    let cases = [
        ("/v1/notices", "subject", json!({"kind": "free", "subject": &long, "body": "b", "recipients": ["p2"]})),
        ("/v1/notices", "body", json!({"kind": "free", "subject": "s", "body": &long, "recipients": ["p2"]})),
        ("/v1/notices", "recipients", json!({"kind": "free", "subject": "s", "body": "b", "recipients": [&long]})),
        (
            "/v1/notices",
            "title",
            json!({"kind": "incident", "incident": "i", "title": &long, "phase": "investigating",
            "body": "b"}),
        ),
        (
            "/v1/notices",
            "what_to_do",
            json!({"kind": "action_required", "connections": ["c2"], "what_happened": "x",
            "what_to_do": &long}),
        ),
        ("/v1/signals", "connection", json!({"connection": &long, "what": "failed", "fault": "permanent"})),
    ];
    for (n, (path, field, body)) in (2..).zip(&cases) {
        let (status, answer) = post(&node.address, &site.key, path, "application/json", body.to_string().as_bytes());
        assert_eq!(status, 422, "{field}: {answer:.400}");
        assert!(answer.contains(field) && answer.len() < 10_000, "{field}: {} bytes: {answer:.400}", answer.len());
        broken(&site, &node, n).await;
        sink.wait_for(n).await;
    }
    // A line of a file; what is around it is taken.
    let person = |key: &str, name: &str| json!({"key": key, "address": format!("{key}@example.net"), "name": name});
    let lines = format!("{}\n{}\n{}\n", person("a", "A"), person("b", &long), person("c", "C"));
    let (status, answer) =
        post(&node.address, &site.key, "/v1/import/subscribers", "application/x-ndjson", lines.as_bytes());
    let counts = |said: &str| answer.contains(said);
    assert!(status == 200 && counts("\"inserted\":2") && counts("longer than"), "{answer:.600}");
    let after = most_memory(&node);
    println!("10 MB fields: {} refused by name, a line refused alone; memory {before} -> {after} MiB", cases.len());
    assert!(after < before + 400, "{before} -> {after} MiB");
    site.settled().await;
    assert_eq!(sink.count(), 1 + cases.len() as u64);
    // As configured by default it does not even come in.
    drop(node);
    let node = site.node("one").await;
    let body = cases[1].2.to_string();
    let (status, answer) = post(&node.address, &site.key, "/v1/notices", "application/json", body.as_bytes());
    // The answer may be lost behind what was still being sent.
    assert!(matches!(status, 413 | 0), "{answer:.400}");
    assert!(status == 0 || answer.contains("http.max_body_bytes"), "{answer:.400}");
    broken(&site, &node, 12).await;
    sink.wait_for(2 + cases.len() as u64).await;
    site.settled().await;
    site.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_always_refused_or_ends_its_session_is_set_aside_while_its_neighbours_are_mailed() {
    let script = Script::default().answering(|at, to, _| {
        let act = match to.to.split('@').next()? {
            "p1" if at == Phase::Rcpt => Act::Reply("550 5.1.1 no such user".to_owned()),
            "p2" if at == Phase::Dot => Act::Reply("554 5.6.0 malformed".to_owned()),
            "p3" if at == Phase::Rcpt => Act::Close,
            "p4" if at == Phase::Rcpt => Act::Reply("451 4.3.0 later".to_owned()),
            _ => return None,
        };
        Some(Answer { at, act })
    });
    let sink = Sink::start(script).await.unwrap();
    let site = Site::new(On::Sqlite, sink.port(), "").await;
    const ALL: u64 = 400;
    site.customers(ALL).await;
    let node = site.node("one").await;
    for n in 1..=4 {
        broken(&site, &node, n).await;
    }
    const DECIDED: &str = "SELECT COUNT(*) FROM delivery WHERE state IN ('parked', 'failed')";
    const TRIED: &str = "SELECT COUNT(*) FROM attempt WHERE outcome <> 'accepted'";
    // A neighbour comes after each try of the poison, and is mailed while it is worked on.
    let mut mailed = 0;
    for n in 5..=ALL {
        broken(&site, &node, n).await;
        mailed += 1;
        sink.wait_for(mailed).await;
        let tried = site.count(TRIED).await;
        until(async || site.count(TRIED).await > tried || site.count(DECIDED).await == 3).await;
        if site.count(DECIDED).await == 3 {
            break;
        }
    }
    assert_eq!(listed(&site, "one", "parked"), ["p3@example.net sessions_lost".to_owned()].into());
    let failed = ["p1@example.net address_dead", "p2@example.net message_at_fault"].map(str::to_owned);
    assert_eq!(listed(&site, "one", "failed"), failed.into());
    assert_eq!(listed(&site, "one", "queued"), ["p4@example.net retry".to_owned()].into());
    let shown = run(&site, "one", &["show", "p3@example.net"]);
    assert!(shown.contains("broke each time"), "{shown}");
    const MOST: &str = "SELECT MAX(n) FROM (SELECT COUNT(*) AS n FROM attempt a JOIN delivery d ON d.id = a.delivery_id
        WHERE d.state IN ('parked', 'failed') GROUP BY d.id) AS x";
    let most = site.count(MOST).await;
    println!("poison: 3 of 3 set aside after at most {most} tries, {mailed} neighbours mailed meanwhile");
    // Five where others get through between them, which driven time sees to in `tests/flow/poison.rs`.
    assert!(most <= 7, "{most} tries");
}
