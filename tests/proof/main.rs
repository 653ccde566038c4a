//! The promise against the real program: killed, frozen, cut off and raced from outside, with the mails and the
//! answers counted outside too. `tests/README.md` says what each shows. More of each: `tests/run --deep`.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/amount.rs"]
mod amount;
#[path = "../support/cluster.rs"]
mod cluster;
#[path = "../support/mod.rs"]
mod support;

mod cut;
mod faults;
mod kill;
mod ledger;
mod load;
mod network;
mod poison;
mod race;
mod relay_faults;
mod site;
mod smoke;
mod storm;
mod verdict;
mod wire;
mod zombies;
