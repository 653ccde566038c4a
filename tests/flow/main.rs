//! The way of a notice, end to end through SMTP to a scripted relay, on both databases, in driven time.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

mod connections;
