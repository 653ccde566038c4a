//! `allclear` mails incident updates and "please reconnect" messages from a durable queue,
//! and checks at the last moment that each is still true.
//!
//! Layers, held by `tests/architecture.rs`:
//! `domain, config` < `store | mail | template` (never each other) < `flow` < `http, cli` < `app, main`.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod app;
pub mod cli;
pub mod config;
pub mod domain;
pub mod failpoint;
pub mod flow;
pub mod http;
pub mod mail;
pub mod store;
pub mod telemetry;
pub mod template;

/// Rendering, SQLite and the rows between them allocate all the time: measured with glibc's, a fifth of the mails a second
/// are lost.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
