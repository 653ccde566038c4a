//! Opening and ending sessions.

use crate::*;
use allclear::domain::time::Span;
use allclear::mail::{Login, OpenError, OpenPhase, Secret, Tls};

#[tokio::test]
async fn an_address_outside_ascii_needs_smtputf8() {
    for (utf8, expected) in [(true, 250), (false, 553)] {
        let sink = Sink::start(Script { utf8, ..Script::default() }).await.unwrap();
        let mut session = open(&sink).await;
        let outcome = send(&mut session, "用户@c.example").await;
        assert_eq!(code(&outcome), expected);
        if let Outcome::Refused(reply) = outcome {
            assert_eq!(reply.enhanced.as_deref(), Some("5.6.7"));
            assert!(reply.text.contains("allclear"));
        }
        assert!(usable(&session));
    }
}

#[tokio::test]
async fn a_session_ends_by_count_and_by_age() {
    let sink = Sink::start(Script::default()).await.unwrap();
    let limits = Relay { messages_per_session: 2, session_age: Span::seconds(60), ..relay(&sink) };
    let mut session = Session::open(&Transport::Smtp(limits)).await.unwrap();
    assert!(!session.usable(Instant::now() + Duration::from_secs(61)));
    send(&mut session, "a@c.example").await;
    assert!(usable(&session));
    send(&mut session, "b@c.example").await;
    assert!(!usable(&session));
}

#[tokio::test]
async fn a_login_is_given_when_wanted_and_a_wrong_one_says_so() {
    let login = Some(("user".to_owned(), "pässword".to_owned()));
    let sink = Sink::start(Script { login, ..Script::default() }).await.unwrap();
    let with = |password: &str| {
        let login = Login { user: "user".to_owned(), password: Secret::new(password) };
        Transport::Smtp(Relay { login: Some(login), ..relay(&sink) })
    };
    let mut session = Session::open(&with("pässword")).await.unwrap();
    assert_eq!(code(&send(&mut session, "x@c.example").await), 250);
    let error = Session::open(&with("hunter2")).await.unwrap_err();
    assert_eq!((error.phase, error.reply.as_ref().unwrap().code), (OpenPhase::Login, 535));
    assert!(error.hint().contains("password") && !format!("{error} {error:?}").contains("hunter2"));
    let mut stranger = open(&sink).await;
    assert_eq!(code(&send(&mut stranger, "x@c.example").await), 530);
}

async fn refused(relay: Relay) -> OpenError {
    Session::open(&Transport::Smtp(relay)).await.unwrap_err()
}

#[tokio::test]
async fn plaintext_leaves_this_machine_under_no_circumstances() {
    // 192.0.2.1 is reserved for documentation: an attempt to connect would hang, not fail at once.
    let error = refused(Relay { host: "192.0.2.1".to_owned(), ..Relay::local(25) }).await;
    assert_eq!(error.phase, OpenPhase::Plaintext);
    assert!(error.to_string().contains("only to this machine"), "{error}");
    assert!(error.hint().contains("starttls"));
}

#[tokio::test]
async fn a_relay_without_starttls_a_closed_port_and_a_bad_name_are_named() {
    let sink = Sink::start(Script::default()).await.unwrap();
    let error = refused(Relay { tls: Tls::StartTls, ..relay(&sink) }).await;
    assert_eq!(error.phase, OpenPhase::StartTls);
    assert!(error.to_string().contains("does not offer STARTTLS"), "{error}");
    assert_eq!(sink.count(), 0);
    let error = refused(Relay { hello_name: "a\r\nMAIL".to_owned(), ..relay(&sink) }).await;
    assert_eq!(error.phase, OpenPhase::Settings);
    let closed = Relay::local(sink.port());
    sink.set_down(true);
    assert_eq!(refused(closed.clone()).await.phase, OpenPhase::Greeting);
    sink.set_down(false);
    assert!(Session::open(&Transport::Smtp(closed)).await.is_ok());
}

#[tokio::test]
async fn going_down_ends_open_sessions() {
    let sink = Sink::start(Script::default()).await.unwrap();
    let mut session = open(&sink).await;
    assert_eq!(code(&send(&mut session, "a@c.example").await), 250);
    sink.set_down(true);
    assert_eq!(code(&send(&mut session, "b@c.example").await), 1);
    assert_eq!(sink.count(), 1);
}
