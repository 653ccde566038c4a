//! Sessions against the scripted relay: every reply, cut and silence ends in the right outcome.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod addresses;
mod dialogue;
mod mad;
mod misbehaving;
mod opening;
mod replies;
mod tls;

use allclear::mail::sink::{Act, Answer, Phase, Script, Sink};
use allclear::mail::{Outcome, PhaseTimeouts, Relay, Session, Transport};
use std::time::{Duration, Instant};

pub const FROM: &str = "bounce@acme.example";
pub const MAIL: &[u8] = b"Message-ID: <1@acme.example>\r\nSubject: one\r\n two\r\n\r\n.dot\r\n..\r\nend\r\n";

pub fn relay(sink: &Sink) -> Relay {
    Relay::local(sink.port())
}

pub fn hasty(sink: &Sink) -> Transport {
    // Long enough for EHLO on a busy machine.
    let soon = Duration::from_millis(250);
    let timeouts = PhaseTimeouts {
        connect: Duration::from_secs(30),
        greeting: soon,
        command: soon,
        data_start: soon,
        data_block: soon,
        data_done: soon,
    };
    Transport::Smtp(Relay { timeouts, ..relay(sink) })
}

pub async fn open(sink: &Sink) -> Session {
    Session::open(&Transport::Smtp(relay(sink))).await.unwrap()
}

pub async fn send(session: &mut Session, to: &str) -> Outcome {
    match session.envelope(FROM, to).await {
        Ok(()) => session.data(MAIL).await,
        Err(outcome) => outcome,
    }
}

/// Both ways of talking, with the same script otherwise.
pub fn both() -> [Script; 2] {
    [Script::default(), Script { pipelining: false, ..Script::default() }]
}

pub fn at(phase: Phase, act: Act) -> Answer {
    Answer { at: phase, act }
}

pub fn usable(session: &Session) -> bool {
    session.usable(Instant::now())
}

pub fn code(outcome: &Outcome) -> u16 {
    match outcome {
        Outcome::Accepted(reply) | Outcome::Deferred(reply) | Outcome::Refused(reply) => reply.code,
        Outcome::NotHandedOver { .. } => 1,
        Outcome::Unknown { .. } => 2,
    }
}
