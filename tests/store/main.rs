//! The contract of the store: what must hold on both databases, and what only PostgreSQL can show.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

mod at_once;
mod checks;
mod indexes;
mod joining;
mod journal;
mod nodes;
mod race;
mod read_only;
mod schema;
mod statements;
