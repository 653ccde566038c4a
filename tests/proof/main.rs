//! The promise against the real program: killed, frozen, cut off and raced from outside, with the mails and the
//! answers counted outside too. `tests/README.md` says what each shows. More of each: `tests/run --deep`.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/amount.rs"]
mod amount;
#[path = "../support/mod.rs"]
mod support;

mod ledger;
mod race;
mod cut;
mod poison;
mod relay_faults;
mod site;
mod smoke;
mod storm;
mod wire;
mod zombies;
