//! Random sequences of what can happen, in driven time, against references that know nothing of the product's tables.
//! More of each: `tests/run --deep flapping`, `tests/run --deep properties`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/amount.rs"]
mod amount;
#[path = "../support/mod.rs"]
mod support;
#[allow(dead_code)]
#[path = "../flow/table.rs"]
mod table;

mod flapping;
mod parsers;
mod properties;
mod surge;
