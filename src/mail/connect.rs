//! Opening a session: find the host, connect, protect, greet, log in. Each failure names its phase
//! and what to check.

use super::dialogue::Dialogue;
use super::relay::{Login, Relay, Tls};
use super::reply::Reply;
use super::wire::{Lines, Replies, Secured};
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Ehlo, Starttls};
use lettre::transport::smtp::extension::ClientId;
use std::error::Error as _;
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

crate::names!(
    /// How far opening a session got.
    OpenPhase {
        /// The configuration, before anything is tried.
        Settings = "settings",
        /// Finding the host's addresses.
        Resolve = "resolve",
        /// The TCP connection.
        Connect = "connect",
        /// The rule that plaintext stays on this machine.
        Plaintext = "plaintext",
        /// The TLS handshake, certificate included.
        Handshake = "tls",
        /// The relay's greeting and its first reply to `EHLO`.
        Greeting = "greeting",
        /// `STARTTLS`.
        StartTls = "starttls",
        /// `EHLO` once the connection is as it will stay.
        Ehlo = "ehlo",
        /// `AUTH`.
        Login = "login",
        /// Making the Maildir's folders.
        Maildir = "maildir",
    }
);

/// A session could not be opened; nothing was sent.
#[derive(Clone, Debug, thiserror::Error)]
#[error("no session with {relay}: {phase}: {what}")]
pub struct OpenError {
    /// The relay as `host:port`, or the Maildir's path.
    pub relay: String,
    /// How far it got.
    pub phase: OpenPhase,
    /// What happened.
    pub what: String,
    /// What the relay said, if it said no.
    pub reply: Option<Reply>,
}

impl OpenError {
    /// What to check.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self.phase {
            OpenPhase::Settings => "correct the relay's settings",
            OpenPhase::Resolve => "check the relay's host name, and DNS on this machine",
            OpenPhase::Connect => "check host and port, that the relay runs, and the firewalls between",
            OpenPhase::Plaintext => {
                "set tls to starttls (port 587) or implicit (port 465), or use a relay on this machine"
            }
            OpenPhase::Handshake => {
                "check that the port speaks TLS from the first byte, that the certificate carries the host's name, and ca_file if the CA is your own"
            }
            OpenPhase::Greeting => {
                "check that an SMTP relay listens on this port, and that it takes connections from this address"
            }
            OpenPhase::StartTls => {
                "check that the relay offers STARTTLS, that nothing between strips it, and its certificate; or set tls to implicit (port 465)"
            }
            OpenPhase::Ehlo => "check hello_name: the relay may want a name that exists in DNS",
            OpenPhase::Login => "check user and password, and that the relay offers AUTH PLAIN or LOGIN",
            OpenPhase::Maildir => "check that the path can be written by this user",
        }
    }
}

/// Opens a session with a relay.
pub(super) async fn open(relay: &Relay) -> Result<Dialogue, OpenError> {
    let opening = Opening { relay };
    if !fit_for_ehlo(&relay.hello_name) {
        return Err(
            opening.failed(OpenPhase::Settings, "hello_name must be a host name without spaces or control characters")
        );
    }
    let tls = opening.tls_parameters().await?;
    let addresses = opening.resolve().await?;
    let connect = relay.timeouts.connect;
    let tcp = opening.connect(&addresses).await?;
    // Else Nagle and delayed ACKs cost 40 ms for each mail.
    tcp.set_nodelay(true).map_err(|e| opening.failed(OpenPhase::Connect, e))?;
    let (mut wire, certificate) = match (relay.tls, tls) {
        (Tls::StartTls, Some(tls)) => {
            let stream = opening.start_tls(tcp, tls).await?;
            let certificate = stream.certificate();
            (opening.greet(Replies::greeted(stream)).await?, certificate)
        }
        (_, Some(tls)) => {
            let handshake = Secured::handshake(tcp, tls);
            let stream = opening.within_smtp(OpenPhase::Handshake, connect, handshake).await?;
            let certificate = stream.certificate();
            (opening.greet(Replies::new(stream)).await?, certificate)
        }
        (_, None) => (opening.greet(Replies::new(tcp)).await?, None),
    };
    // lettre keeps only the capabilities it uses itself, and PIPELINING is not among them.
    let ehlo = wire.command(Ehlo::new(opening.client_id()));
    let ehlo = opening.within_smtp(OpenPhase::Ehlo, relay.timeouts.command, ehlo).await?;
    if !ehlo.has_code(250) {
        return Err(opening.failed(OpenPhase::Ehlo, format!("unexpected reply: {}", Reply::of(&ehlo))));
    }
    let said: Vec<String> = ehlo.message().map(str::to_owned).collect();
    let (pipelining, utf8) = (offered(&said, "PIPELINING").is_some(), offered(&said, "SMTPUTF8").is_some());
    if let Some(login) = &relay.login {
        opening.log_in(&mut wire, login).await?;
    }
    Ok(Dialogue { wire, timeouts: relay.timeouts, pipelining, utf8, said, certificate, ends: None })
}

/// Refuses, before anything is sent, a relay that would get mail without TLS beyond this machine. A host whose
/// addresses cannot be found now is let through: every session asks again.
///
/// # Errors
/// When an address of the host is known and is not this machine's.
pub async fn check_plaintext(relay: &Relay) -> Result<(), OpenError> {
    match (Opening { relay }).resolve().await {
        Err(refused) if refused.phase == OpenPhase::Plaintext => Err(refused),
        _ => Ok(()),
    }
}

/// What follows a keyword in the reply to EHLO, whose first line is the relay's name.
pub(super) fn offered<'a>(said: &'a [String], keyword: &str) -> Option<&'a str> {
    said.iter().skip(1).find_map(|line| {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        word.trim().eq_ignore_ascii_case(keyword).then_some(rest.trim())
    })
}

struct Opening<'a> {
    relay: &'a Relay,
}

impl Opening<'_> {
    fn failed(&self, phase: OpenPhase, what: impl Display) -> OpenError {
        OpenError { relay: self.relay.name(), phase, what: what.to_string(), reply: None }
    }

    /// To the first address that answers. One that is silent leaves the others their share of the time, and is what is told.
    async fn connect(&self, addresses: &[SocketAddr]) -> Result<TcpStream, OpenError> {
        let count = u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        let (share, mut failed) = (self.relay.timeouts.connect / count, Vec::new());
        for address in addresses {
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(tcp)) => return Ok(tcp),
                Ok(Err(e)) => failed.push(format!("{}: {e}", address.ip())),
                Err(_) => failed.push(format!("{}: no answer within {share:?}", address.ip())),
            }
        }
        Err(self.failed(OpenPhase::Connect, failed.join("; ")))
    }

    async fn within<T, E: Display>(
        &self,
        phase: OpenPhase,
        limit: Duration,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, OpenError> {
        match timeout(limit, work).await {
            Ok(done) => done.map_err(|e| self.failed(phase, e)),
            Err(_) => Err(self.failed(phase, format!("no answer within {limit:?}"))),
        }
    }

    /// As `within`, keeping the relay's reply.
    async fn within_smtp<T>(
        &self,
        phase: OpenPhase,
        limit: Duration,
        work: impl Future<Output = Result<T, SmtpError>>,
    ) -> Result<T, OpenError> {
        match timeout(limit, work).await {
            Ok(done) => done.map_err(|e| OpenError { reply: negative(&e), ..self.failed(phase, e) }),
            Err(_) => Err(self.failed(phase, format!("no answer within {limit:?}"))),
        }
    }

    fn client_id(&self) -> ClientId {
        ClientId::Domain(self.relay.hello_name.clone())
    }

    async fn resolve(&self) -> Result<Vec<SocketAddr>, OpenError> {
        let lookup = tokio::net::lookup_host((self.relay.host.as_str(), self.relay.port));
        let found = self.within(OpenPhase::Resolve, self.relay.timeouts.connect, lookup).await?;
        let addresses: Vec<_> = found.collect();
        if addresses.is_empty() {
            return Err(self.failed(OpenPhase::Resolve, "the host has no address"));
        }
        let outside = addresses.iter().find(|a| !a.ip().to_canonical().is_loopback());
        if let (Tls::None, Some(outside)) = (self.relay.tls, outside) {
            let rule =
                format!("mail goes without TLS only to this machine (a loopback address), and {} is not", outside.ip());
            return Err(self.failed(OpenPhase::Plaintext, rule));
        }
        Ok(addresses)
    }

    async fn greet<S: AsyncTokioStream + 'static>(&self, stream: S) -> Result<AsyncSmtpConnection, OpenError> {
        let limit = self.relay.timeouts.greeting + self.relay.timeouts.command;
        let hello = self.client_id();
        self.within_smtp(
            OpenPhase::Greeting,
            limit,
            AsyncSmtpConnection::connect_with_transport(Box::new(stream), &hello),
        )
        .await
    }

    async fn start_tls(&self, tcp: TcpStream, tls: TlsParameters) -> Result<Secured, OpenError> {
        let tcp = Arc::new(tcp);
        let mut wire = self.greet(Lines(Arc::clone(&tcp))).await?;
        if !wire.can_starttls() {
            return Err(
                self.failed(OpenPhase::StartTls, "the relay does not offer STARTTLS, and mail does not go without TLS")
            );
        }
        let limit = self.relay.timeouts.command;
        let go = self.within_smtp(OpenPhase::StartTls, limit, wire.command(Starttls)).await?;
        drop(wire);
        let tcp = Arc::into_inner(tcp).filter(|_| go.has_code(220));
        let tcp =
            tcp.ok_or_else(|| self.failed(OpenPhase::StartTls, format!("unexpected reply: {}", Reply::of(&go))))?;
        let handshake = Secured::handshake(tcp, tls);
        self.within_smtp(OpenPhase::StartTls, self.relay.timeouts.connect, handshake).await
    }

    /// The machine's own verifier, plus `ca_file`; nothing exactly when the relay is used without TLS.
    async fn tls_parameters(&self) -> Result<Option<TlsParameters>, OpenError> {
        if self.relay.tls == Tls::None {
            return Ok(None);
        }
        let mut builder = TlsParameters::builder(self.relay.host.clone());
        if let Some(path) = &self.relay.ca_file {
            let unreadable =
                |e: &dyn Display| self.failed(OpenPhase::Settings, format!("ca_file {}: {e}", path.display()));
            let pem = tokio::fs::read(path).await.map_err(|e| unreadable(&e))?;
            if !pem.windows(22).any(|part| part == b"-----BEGIN CERTIFICATE") {
                return Err(unreadable(&"no PEM certificate in it"));
            }
            builder = builder.add_root_certificate(Certificate::from_pem(&pem).map_err(|e| unreadable(&e))?);
        }
        // Reads the machine's certificates from disk.
        match tokio::task::spawn_blocking(|| builder.build()).await {
            Ok(built) => built.map(Some).map_err(|e| self.failed(OpenPhase::Settings, e)),
            Err(e) => Err(self.failed(OpenPhase::Settings, e)),
        }
    }

    /// Only reached over TLS or to this machine: `resolve` has refused everything else.
    async fn log_in(&self, wire: &mut AsyncSmtpConnection, login: &Login) -> Result<(), OpenError> {
        let credentials = Credentials::new(login.user.clone(), login.password.reveal().to_owned());
        let auth = async { wire.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await };
        let reply = self.within_smtp(OpenPhase::Login, self.relay.timeouts.command, auth).await?;
        if reply.has_code(235) {
            return Ok(());
        }
        Err(self.failed(OpenPhase::Login, format!("unexpected reply: {}", Reply::of(&reply))))
    }
}

/// The relay's negative reply inside lettre's error, if it is one.
pub(super) fn negative(error: &SmtpError) -> Option<Reply> {
    let code = error.status()?;
    Some(Reply::new(code.into(), error.source().map(ToString::to_string).unwrap_or_default()))
}

fn fit_for_ehlo(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpSocket};

    #[tokio::test]
    async fn one_silent_address_leaves_the_next_its_time() {
        let silent = TcpSocket::new_v4().unwrap();
        silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let silent = silent.listen(1).unwrap();
        let full = silent.local_addr().unwrap();
        let mut held = Vec::new();
        while let Ok(Ok(tcp)) = timeout(Duration::from_millis(300), TcpStream::connect(full)).await {
            held.push(tcp);
        }
        let there = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut relay = Relay::local(25);
        relay.timeouts.connect = Duration::from_secs(2);
        let addresses = [full, there.local_addr().unwrap()];
        let opening = Opening { relay: &relay };
        let tcp = opening.connect(&addresses).await.unwrap();
        assert_eq!(tcp.peer_addr().unwrap(), addresses[1]);
        drop(there);
        let e = opening.connect(&addresses).await.unwrap_err();
        assert!(e.what.contains("127.0.0.1: no answer within 1s; 127.0.0.1: "), "{}", e.what);
    }
}
