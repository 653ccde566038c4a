//! Relays that do not prove who they are, or do not know us, get neither a password nor a mail.

use crate::proxy::Proxy;
use crate::relays::Relays;
use crate::support::On;
use crate::{on_both, rows, subscribers, to, world, write_to};
use allclear::mail::{Login, OpenError, OpenPhase, Relay, Secret, Session, Transport};
use allclear::store::streams;

on_both! { nothing_goes_to_a_relay_in_doubt_and_everything_to_the_right_one; }

async fn refused(relay: &Relay) -> OpenError {
    Session::open(&Transport::Smtp(relay.clone())).await.unwrap_err()
}

fn wrong_password(relays: &Relays, service: &str) -> Relay {
    let login = Login { user: "relay-user".to_owned(), password: Secret::new("hunter2") };
    Relay { login: Some(login), ..relays.relay(service) }
}

fn without_starttls(said: String) -> String {
    said.replace("250-STARTTLS\r\n", "")
}

fn starttls_denied(said: String) -> String {
    if said.starts_with("220 ") && said.to_lowercase().contains("tls") {
        "454 4.7.0 not now\r\n".to_owned()
    } else {
        said
    }
}

/// A relay with somebody before it who changes what it says.
async fn behind(proxy: &Proxy, relay: Relay) -> Relay {
    Relay { port: proxy.port, ..relay }
}

#[tokio::test]
async fn a_wrong_password_is_said_so_at_the_login() {
    let relays = Relays::get();
    for service in ["starttls", "implicit", "exim", "exim-implicit"] {
        let error = refused(&wrong_password(&relays, service)).await;
        assert_eq!((error.phase, error.reply.as_ref().map(|r| r.code)), (OpenPhase::Login, Some(535)), "{error}");
        assert!(error.to_string().starts_with(&format!("no session with localhost:{}: login: ", relays.port(service))));
        assert!(error.hint().contains("check user and password") && !format!("{error:?}").contains("hunter2"));
    }
}

#[tokio::test]
async fn a_certificate_of_another_ca_for_another_host_or_out_of_date_is_refused() {
    let relays = Relays::get();
    for (service, why) in [("stranger", "UnknownIssuer"), ("other-host", "relay.invalid"), ("expired", "expired")] {
        let error = refused(&relays.relay(service)).await;
        assert_eq!(error.phase, OpenPhase::StartTls, "{error}");
        assert!(error.to_string().contains(why), "{service}: {error}");
    }
    // Nobody vouches for the right relay either when its CA is not named.
    let error = refused(&Relay { ca_file: None, ..relays.relay("implicit") }).await;
    assert_eq!(error.phase, OpenPhase::Handshake, "{error}");
}

#[tokio::test]
async fn a_relay_whose_starttls_is_stripped_or_denied_hears_neither_login_nor_mail() {
    let relays = Relays::get();
    for service in ["starttls", "exim"] {
        for change in [without_starttls as fn(String) -> String, starttls_denied] {
            let proxy = Proxy::before(relays.port(service), change).await;
            let error = refused(&behind(&proxy, relays.relay(service)).await).await;
            assert_eq!(error.phase, OpenPhase::StartTls, "{error}");
            let heard = proxy.heard();
            let harmless = |part: &String| ["EHLO ", "STARTTLS\r\n", "QUIT\r\n"].iter().any(|c| part.starts_with(c));
            assert!(!heard.is_empty() && heard.iter().all(harmless), "{heard:#?}");
        }
    }
}

async fn nothing_goes_to_a_relay_in_doubt_and_everything_to_the_right_one(on: On) {
    let mut relays = Relays::get();
    let proxy = Proxy::before(relays.port("starttls"), without_starttls).await;
    let mut w = world(on, &wrong_password(&relays, "starttls"), 4).await;
    let names = ["ann", "bob", "eve"];
    subscribers(&w, &relays, &names).await;
    write_to(&w, &relays, &names).await;
    w.pass(3).await;
    // One login was enough: the stream waits until somebody says that it is mended.
    let mut tx = w.store.begin().await.unwrap();
    assert!(streams::end(&mut tx, "incidents", "jo").await.unwrap());
    tx.commit().await.unwrap();
    for service in ["stranger", "other-host", "expired"] {
        to(&mut w, &relays.relay(service));
        w.pass(3).await;
    }
    to(&mut w, &behind(&proxy, relays.relay("starttls")).await);
    w.pass(3).await;
    assert!(!proxy.heard().is_empty(), "it was tried");
    // Not even claimed: what nobody could take is no try of the mail.
    const UNTOUCHED: &str = "SELECT state, CAST(token AS TEXT), CAST(tries AS TEXT) FROM delivery";
    assert_eq!(rows(&w, UNTOUCHED).await, ["queued 0 0"; 3]);
    assert_eq!(rows(&w, "SELECT outcome FROM attempt").await, [""; 0]);
    assert!(relays.arrived().is_empty());

    to(&mut w, &relays.relay("starttls"));
    w.pass(1).await;
    let arrived = relays.arrive(3).await;
    assert_eq!(arrived.iter().map(|mail| mail.to.clone()).collect::<Vec<_>>(), names.map(|name| relays.address(name)));
}
