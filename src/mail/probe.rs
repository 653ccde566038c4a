//! A look at a relay: the session that a mail would take, without the mail.

use super::connect::{self, OpenError, offered};
use super::der;
use super::relay::{PhaseTimeouts, Relay, Transport};
use super::session::Session;
use crate::domain::time::Timestamp;
use std::time::Duration;

/// A person waits for the answer; a relay may still hold back its greeting to see who talks first.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a relay says of itself, once protected and logged in as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The name it gives.
    pub name: String,
    /// When its certificate ends; nothing without TLS.
    pub certificate_until: Option<Timestamp>,
    /// What it offers, a line each, such as `SIZE 10240000`.
    pub offers: Vec<String>,
}

impl Report {
    /// What follows a keyword that the relay offers; nothing when it does not offer it.
    #[must_use]
    pub fn offered(&self, keyword: &str) -> Option<&str> {
        offered(&self.offers, keyword)
    }
}

/// Opens a session as a mail would, waiting at most 30 s for each reply, and ends it.
///
/// # Errors
/// As [`Session::open`].
pub async fn probe(relay: &Relay) -> Result<Report, OpenError> {
    let mut dialogue = connect::open(&patient(relay)).await?;
    dialogue.quit().await;
    let name = dialogue.said.first().and_then(|line| line.split(' ').next()).unwrap_or_default().to_owned();
    Ok(Report {
        name,
        certificate_until: dialogue.certificate.as_deref().and_then(der::not_after),
        offers: dialogue.said,
    })
}

/// Opens a session for one mail under the same patience.
///
/// # Errors
/// As [`Session::open`].
pub async fn open(transport: &Transport) -> Result<Session, OpenError> {
    match transport {
        Transport::Smtp(relay) => Session::open(&Transport::Smtp(patient(relay))).await,
        maildir => Session::open(maildir).await,
    }
}

fn patient(relay: &Relay) -> Relay {
    let t = &relay.timeouts;
    let timeouts = PhaseTimeouts {
        connect: t.connect.min(PATIENCE),
        greeting: t.greeting.min(PATIENCE),
        command: t.command.min(PATIENCE),
        data_start: t.data_start.min(PATIENCE),
        data_block: t.data_block.min(PATIENCE),
        data_done: t.data_done.min(PATIENCE),
    };
    Relay { timeouts, ..relay.clone() }
}
