//! Where mail goes and under which limits: plain data, filled by the configuration.

use crate::domain::time::Span;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

crate::names!(
    /// How the connection to the relay is protected.
    Tls {
        /// Plaintext; taken only when the host is this machine.
        None = "none",
        /// Plaintext first, then `STARTTLS`; refused when the relay does not offer it.
        StartTls = "starttls",
        /// TLS from the first byte (port 465).
        Implicit = "implicit",
    }
);

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself; the name makes each use visible in a review.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Who we are to the relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The user name.
    pub user: String,
    /// The password.
    pub password: Secret,
}

/// The longest wait of each phase; the defaults are RFC 5321 4.5.3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhaseTimeouts {
    /// Finding the host, connecting, and the TLS handshake: 30 s (the RFC names none).
    pub connect: Duration,
    /// From the connection to the relay's greeting: 5 min.
    pub greeting: Duration,
    /// Each command and its reply, except as below: 5 min.
    pub command: Duration,
    /// From `DATA` to its 354: 2 min.
    pub data_start: Duration,
    /// Writing the mail: 3 min. Mail and final dot leave in one write, so one wait of
    /// `data_block + data_done` covers both.
    pub data_block: Duration,
    /// From the final dot to its reply: 10 min. Shorter means duplicates, not speed.
    pub data_done: Duration,
}

impl Default for PhaseTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            greeting: Duration::from_secs(300),
            command: Duration::from_secs(300),
            data_start: Duration::from_secs(120),
            data_block: Duration::from_secs(180),
            data_done: Duration::from_secs(600),
        }
    }
}

/// An SMTP relay and how we deal with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    /// Its name, also the name its certificate must carry; or an IP address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: Tls,
    /// Who we are to it, if it asks.
    pub login: Option<Login>,
    /// What we call ourselves in `EHLO`.
    pub hello_name: String,
    /// A PEM file of certificates trusted besides the machine's own.
    pub ca_file: Option<PathBuf>,
    /// The longest wait of each phase.
    pub timeouts: PhaseTimeouts,
    /// At most so many sessions at once from this machine, whatever streams use it; `None`: as many as they have
    /// slots.
    pub sessions: Option<usize>,
    /// A session ends after this many messages; 0 counts as 1.
    pub messages_per_session: u32,
    /// A session ends when it is this old.
    pub session_age: Span,
}

impl Relay {
    /// A relay on this machine without TLS or login, with the default limits.
    #[must_use]
    pub fn local(port: u16) -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port,
            tls: Tls::None,
            login: None,
            hello_name: "localhost".to_owned(),
            ca_file: None,
            timeouts: PhaseTimeouts::default(),
            sessions: None,
            messages_per_session: 500,
            session_age: Span::minutes(10),
        }
    }

    /// `host:port`, for messages to people.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// Where mail goes.
#[allow(clippy::large_enum_variant, reason = "there is one in a process")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// To a relay.
    Smtp(Relay),
    /// Into a Maildir, for trying things out.
    Maildir(PathBuf),
}

impl Transport {
    /// At most so many sessions at once.
    #[must_use]
    pub const fn sessions(&self) -> Option<usize> {
        match self {
            Self::Smtp(relay) => relay.sessions,
            Self::Maildir(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_printed() {
        let login = Login { user: "u".into(), password: Secret::new("hunter2") };
        assert!(!format!("{login:?}").contains("hunter2"));
    }
}
