//! `doctor`, what `serve` refuses, completions and manual pages, all with the real binary.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

#[cfg(unix)]
#[path = "../support/cluster.rs"]
mod cluster;
mod pages;
#[cfg(unix)]
mod postgres;
mod refusals;
mod report;
mod shell;
