//! The way of a notice, end to end through SMTP to a scripted relay, on both databases, in driven time.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;
mod table;

mod connections;
mod corrections;
mod holds;
mod import;
mod incident_a;
mod incident_b;
mod incident_c;
mod incident_d;
mod planning;
mod relay;
mod vanished;
