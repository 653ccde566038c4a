//! Mail that a relay takes lies in its Maildir as it was sent: every octet, over TLS, with a login, nobody left out.

use crate::proxy::Proxy;
use crate::relays::Relays;
use crate::support::On;
use crate::{on_both, rows, subscribers, to, world, write_to};
use allclear::mail::{Outcome, Relay, Session, Transport};
use serde_json::json;
use std::time::Instant;

on_both! {
    the_relay_keeps_what_went_over_the_wire_and_commands_go_in_one_write;
    a_local_part_outside_ascii_arrives;
    an_incident_for_three_hundred_arrives_complete;
}

const FROM: &str = "bounce@example.com";

/// What a relay could be tempted to change: dots, spaces at line ends, a line of the greatest length, "From ".
fn odd(to: &str) -> String {
    let long = "x".repeat(998);
    format!(
        "From: <{FROM}>\r\nTo: <{to}>\r\nMessage-ID: <1.{to}>\r\nDate: Mon, 02 Jun 2025 08:00:00 +0000\r\n\
         Subject: folded\r\n  twice\r\n\tover\r\nX-Empty:\r\n\r\n.\r\n..\r\n.dot\r\nFrom here on  \r\n\t\r\n\r\n{long}\r\n\r\n"
    )
}

async fn open(relay: Relay) -> Session {
    Session::open(&Transport::Smtp(relay)).await.unwrap()
}

async fn hand_over(session: &mut Session, to: &str) -> Outcome {
    match session.envelope(FROM, to).await {
        Ok(()) => session.data(odd(to).as_bytes()).await,
        Err(outcome) => outcome,
    }
}

#[tokio::test]
async fn every_octet_arrives_over_tls_and_with_a_login() {
    let mut relays = Relays::get();
    let services = ["exim", "exim-implicit", "implicit", "starttls"];
    for service in services {
        let mut session = open(relays.relay(service)).await;
        assert!(session.pipelines(), "{service}");
        let outcome = hand_over(&mut session, &relays.address(service)).await;
        assert!(matches!(outcome, Outcome::Accepted(_)), "{service}: {outcome:?}");
        session.close().await;
    }
    let arrived = relays.arrive(4).await;
    assert_eq!(arrived.len(), 4);
    for service in services {
        let address = relays.address(service);
        let mail = arrived.iter().find(|mail| mail.to == address).unwrap();
        assert_eq!(mail.mail, odd(&address), "{service}");
        // RFC 3848: S says that TLS was used, A that somebody had logged in.
        let above = mail.above.to_lowercase();
        assert!(above.contains("with esmtpsa") && above.contains("tls"), "{above}");
    }
}

/// The mails in what we wrote, dots undone.
fn mails_on_the_wire(heard: &str) -> Vec<String> {
    let bodies = heard.split("\r\nDATA\r\n").skip(1).map(|rest| rest.split_once("\r\n.\r\n").unwrap().0);
    bodies.map(|mail| format!("{}\r\n", mail.replace("\r\n..", "\r\n."))).collect()
}

async fn the_relay_keeps_what_went_over_the_wire_and_commands_go_in_one_write(on: On) {
    let mut relays = Relays::get();
    let proxy = Proxy::before(relays.port("plain"), |said| said).await;
    let mut w = world(on, &Relay::local(proxy.port), 1).await;
    let names = ["ann", "bob", "eve"];
    subscribers(&w, &relays, &names).await;
    write_to(&w, &relays, &names).await;
    w.settle().await;

    let mut kept: Vec<_> = relays.arrive(3).await.into_iter().map(|mail| mail.mail).collect();
    let heard = proxy.heard();
    let mut sent = mails_on_the_wire(&heard.concat());
    kept.sort();
    sent.sort();
    assert_eq!(kept, sent);
    assert!(kept[0].contains("\r\n.a line") && heard.concat().contains("\r\n..a line"), "{kept:#?}");
    // RFC 2920: the relay's answer to MAIL is not waited for.
    let begun: Vec<_> = heard.iter().filter(|part| part.starts_with("MAIL FROM:")).collect();
    assert_eq!(begun.len(), 3, "{heard:#?}");
    for part in begun {
        let commands: Vec<_> = part.lines().map(|line| line.split([':', '\r']).next().unwrap()).collect();
        assert_eq!(commands, ["MAIL FROM", "RCPT TO", "DATA"]);
    }
}

#[tokio::test]
async fn a_relay_without_pipelining_and_smtputf8_is_asked_step_by_step_and_spared_what_it_cannot_take() {
    let mut relays = Relays::get();
    let proxy = Proxy::before(relays.port("old"), |said| said).await;
    let mut session = open(Relay::local(proxy.port)).await;
    assert!(!session.pipelines());
    let (ann, foreign, bob) = (relays.address("ann"), relays.address("grüße"), relays.address("bob"));
    assert!(matches!(hand_over(&mut session, &ann).await, Outcome::Accepted(_)));
    let Outcome::Refused(reply) = hand_over(&mut session, &foreign).await else { panic!("not refused") };
    assert_eq!(reply.enhanced.as_deref(), Some("5.6.7"), "{reply}");
    assert!(session.usable(Instant::now()));
    assert!(matches!(hand_over(&mut session, &bob).await, Outcome::Accepted(_)));
    let arrived = relays.arrive(2).await;
    assert_eq!(arrived.iter().map(|mail| mail.mail.clone()).collect::<Vec<_>>(), [odd(&ann), odd(&bob)]);
    let heard = proxy.heard();
    assert!(heard.iter().any(|part| *part == format!("RCPT TO:<{ann}>\r\n")), "{heard:#?}");
    assert!(!heard.concat().contains("grüße"), "{heard:#?}");
}

async fn a_local_part_outside_ascii_arrives(on: On) {
    let mut relays = Relays::get();
    let mut w = world(on, &relays.relay("starttls"), 1).await;
    for (service, name) in [("starttls", "grüße"), ("exim", "用户")] {
        to(&mut w, &relays.relay(service));
        subscribers(&w, &relays, &[name]).await;
        write_to(&w, &relays, &[name]).await;
        w.settle().await;
    }
    let arrived = relays.arrive(2).await;
    let mut to: Vec<_> = arrived.iter().map(|mail| mail.to.clone()).collect();
    to.sort();
    assert_eq!(to, [relays.address("grüße"), relays.address("用户")]);
    for mail in arrived {
        assert!(mail.header("To").contains(&mail.to), "{mail:#?}");
        // RFC 6531: UTF8 says that SMTPUTF8 was asked for.
        assert!(
            mail.above.to_lowercase().contains("with utf8smtpsa") || mail.above.contains("utf8esmtpsa"),
            "{mail:#?}"
        );
    }
}

async fn an_incident_for_three_hundred_arrives_complete(on: On) {
    let mut relays = Relays::get();
    let mut w = world(on, &relays.relay("starttls"), 4).await;
    w.component("imap", "Mail sync").await;
    let keys: Vec<_> = (0..300).map(|n| relays.key(&format!("c{n:03}"))).collect();
    for key in &keys {
        w.subscriber(key).await;
        w.subscribe(key, "imap").await;
    }
    w.notice(json!({"kind": "incident", "incident": "i-1", "title": "Mail is late", "phase": "investigating",
        "body": "We are looking.", "components": [{"key": "imap"}]}))
        .await;
    w.settle().await;

    let arrived = relays.arrive(300).await;
    let to: Vec<_> = arrived.iter().map(|mail| mail.to.as_str()).collect();
    let expected: Vec<_> = keys.iter().map(|key| format!("{key}@example.net")).collect();
    assert_eq!(to, expected, "everybody, once");
    let known = rows(&w, "SELECT message_id FROM delivery WHERE state = 'accepted' ORDER BY message_id").await;
    let mut ids: Vec<_> = arrived.iter().map(|mail| mail.header("Message-ID")).collect();
    ids.sort_unstable();
    assert_eq!(ids.len(), known.len());
    for (id, known) in ids.iter().zip(&known) {
        assert!(id.contains(known.trim_matches(['<', '>'])), "{id} {known}");
    }
    assert_eq!(rows(&w, "SELECT DISTINCT outcome FROM attempt").await, ["accepted"]);
    let sessions = relays.sessions(&arrived).await;
    assert!((1..=4).contains(&sessions.len()), "four slots, and no session opened twice: {sessions:?}");
}
