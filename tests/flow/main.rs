//! The way of a notice, end to end through SMTP to a scripted relay, on both databases, in driven time.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../proof/cut.rs"]
mod cut;
#[path = "../support/mod.rs"]
mod support;
mod table;

mod age;
mod archive;
mod audience;
mod away;
mod by_hand;
mod connections;
mod copies;
mod corrections;
mod daily;
mod evidence;
mod explain;
mod far;
mod holds;
mod hostile;
mod import;
mod incident_a;
mod incident_b;
mod incident_c;
mod incident_d;
mod mime;
mod once;
mod operators;
mod owners;
mod planning;
mod poison;
mod put_away;
mod relay;
mod release;
mod replies;
mod resend;
mod streams;
mod surge;
mod turns;
mod unsubscribed;
mod updates;
mod vanished;
mod words;
