//! TLS to a relay: both ways in, what is refused, and replies slipped in before the handshake.
//! The certificates under `tests/data/tls` are for `localhost` only; their CA's key was thrown away.

use allclear::mail::{Login, OpenPhase, Outcome, Relay, Secret, Session, Tls, Transport};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls").join(name)
}

fn server() -> rustls::ServerConnection {
    let chain = vec![CertificateDer::from_pem_file(file("localhost.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(file("localhost.key")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    rustls::ServerConnection::new(Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap())).unwrap()
}

/// Answers like a relay until the client hangs up; returns what it was told.
fn talk(stream: impl Read + Write, greet: bool) -> Vec<String> {
    let mut stream = BufReader::new(stream);
    let mut heard = Vec::new();
    let mut in_mail = false;
    if greet {
        let _ = stream.get_mut().write_all(b"220 localhost\r\n");
    }
    let mut line = String::new();
    while stream.read_line(&mut line).is_ok_and(|read| read > 0) {
        let reply: &[u8] = match line.split([' ', '\r']).next().unwrap() {
            "." => b"250 2.0.0 taken\r\n",
            _ if in_mail => b"",
            "EHLO" => b"250-localhost\r\n250-PIPELINING\r\n250 AUTH LOGIN PLAIN\r\n",
            "AUTH" => b"235 2.7.0 welcome\r\n",
            "DATA" => b"354 go\r\n",
            _ => b"250 2.0.0 ok\r\n",
        };
        in_mail = !line.starts_with('.') && (in_mail || line.starts_with("DATA"));
        let _ = stream.get_mut().write_all(reply);
        heard.push(std::mem::take(&mut line).trim_end().to_owned());
    }
    heard
}

fn tls(tcp: TcpStream) -> rustls::StreamOwned<rustls::ServerConnection, TcpStream> {
    rustls::StreamOwned::new(server(), tcp)
}

/// Plaintext until STARTTLS, whose reply is given by the caller.
fn until_starttls(tcp: &TcpStream, reply: &[u8]) {
    let mut writer = tcp;
    writer.write_all(b"220 localhost\r\n").unwrap();
    let mut reader = BufReader::new(tcp);
    let mut line = String::new();
    while reader.read_line(&mut line).unwrap() > 0 {
        if line.starts_with("STARTTLS") {
            writer.write_all(reply).unwrap();
            return;
        }
        // AUTH is offered in the clear too: the client must not take it up there.
        writer.write_all(b"250-localhost\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n").unwrap();
        line.clear();
    }
}

fn listen<T: Send + 'static>(serve: impl FnOnce(TcpStream) -> T + Send + 'static) -> (u16, std::thread::JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (port, std::thread::spawn(move || serve(listener.accept().unwrap().0)))
}

fn relay(port: u16, tls: Tls) -> Relay {
    let login = Login { user: "user".to_owned(), password: Secret::new("password") };
    Relay { host: "localhost".to_owned(), tls, login: Some(login), ca_file: Some(file("ca.pem")), ..Relay::local(port) }
}

async fn send(relay: Relay) {
    let mut session = Session::open(&Transport::Smtp(relay)).await.unwrap();
    assert!(session.pipelines());
    session.envelope("a@acme.example", "b@c.example").await.unwrap();
    assert!(matches!(session.data(b"Subject: x\r\n\r\ny\r\n").await, Outcome::Accepted(_)));
}

#[tokio::test]
async fn implicit_tls_protects_everything_from_the_greeting_on() {
    let (port, heard) = listen(|tcp| talk(tls(tcp), true));
    send(relay(port, Tls::Implicit)).await;
    let heard = heard.join().unwrap();
    assert!(heard.iter().any(|line| line == "AUTH PLAIN AHVzZXIAcGFzc3dvcmQ="), "{heard:?}");
}

#[tokio::test]
async fn starttls_comes_before_the_login_and_capabilities_are_read_again() {
    let (port, heard) = listen(|tcp| {
        until_starttls(&tcp, b"220 go\r\n");
        talk(tls(tcp), false)
    });
    send(relay(port, Tls::StartTls)).await;
    let heard = heard.join().unwrap();
    assert!(heard[0].starts_with("EHLO") && heard.iter().any(|line| line.starts_with("AUTH PLAIN")), "{heard:?}");
}

#[tokio::test]
async fn a_look_at_a_relay_sees_its_certificate_and_what_it_offers() {
    for mode in [Tls::Implicit, Tls::StartTls] {
        let (port, heard) = listen(move |tcp| {
            if mode == Tls::StartTls {
                until_starttls(&tcp, b"220 go\r\n");
            }
            talk(tls(tcp), mode == Tls::Implicit)
        });
        let report = allclear::mail::probe::probe(&relay(port, mode)).await.unwrap();
        assert_eq!(report.name, "localhost");
        assert_eq!(report.certificate_until.unwrap().to_string(), "2126-10-29T13:28:25Z");
        assert_eq!((report.offered("auth"), report.offered("SMTPUTF8")), (Some("LOGIN PLAIN"), None));
        let heard = heard.join().unwrap();
        assert!(heard.last().unwrap() == "QUIT" && !heard.iter().any(|line| line.starts_with("MAIL")), "{heard:?}");
    }
}

#[tokio::test]
async fn replies_slipped_in_behind_starttls_end_the_session() {
    let (port, server) = listen(|tcp| {
        until_starttls(&tcp, b"220 go\r\n250-evil\r\n250 AUTH PLAIN\r\n");
        talk(tls(tcp), false)
    });
    let error = Session::open(&Transport::Smtp(relay(port, Tls::StartTls))).await.unwrap_err();
    assert_eq!(error.phase, OpenPhase::StartTls, "{error}");
    assert_eq!(server.join().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_certificate_nobody_vouches_for_is_refused() {
    for (tls_mode, phase) in [(Tls::Implicit, OpenPhase::Handshake), (Tls::StartTls, OpenPhase::StartTls)] {
        let (port, heard) = listen(move |tcp| {
            if tls_mode == Tls::StartTls {
                until_starttls(&tcp, b"220 go\r\n");
            }
            talk(tls(tcp), tls_mode == Tls::Implicit)
        });
        let relay = Relay { ca_file: None, ..relay(port, tls_mode) };
        let error = Session::open(&Transport::Smtp(relay)).await.unwrap_err();
        assert_eq!(error.phase, phase, "{error}");
        assert!(error.hint().contains("certificate"));
        assert_eq!(heard.join().unwrap(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let (port, heard) = listen(|tcp| talk(tls(tcp), true));
    let relay = Relay { host: "127.0.0.1".to_owned(), ..relay(port, Tls::Implicit) };
    let error = Session::open(&Transport::Smtp(relay)).await.unwrap_err();
    assert_eq!(error.phase, OpenPhase::Handshake, "{error}");
    assert_eq!(heard.join().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_ca_file_that_is_missing_or_no_pem_is_named() {
    let (port, _server) = listen(drop);
    for name in ["nowhere.pem", "../../mail/tls.rs"] {
        let relay = Relay { ca_file: Some(file(name)), ..relay(port, Tls::Implicit) };
        let error = Session::open(&Transport::Smtp(relay)).await.unwrap_err();
        assert_eq!(error.phase, OpenPhase::Settings);
        assert!(error.to_string().contains("ca_file"), "{error}");
    }
}
