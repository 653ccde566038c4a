//! The way a notice goes, one stage a file:
//!
//! ```text
//! ingest -> plan -> claim -> render -> look -> send -> record
//!   intake, signals, incident: what was said      compose: what the claim freezes
//!   failures: connections that broke              sweep, recovery: withdraw, correct, reap
//!                                                 deadline: who has not confirmed
//!   surge: floods of them                         alert: what operators are told
//! ```
//!
//! `gate`, `retry`, `sender`, `recovery` and the deciding parts of `plan` and `failures` are pure: they take data
//! and a time. The rest carries their decisions out.

mod addressing;
pub mod alert;
mod anew;
pub mod archive;
pub mod audience;
pub mod bulk;
pub mod caught;
pub mod claim;
pub mod compose;
pub mod copies;
mod daily;
pub mod deadline;
pub mod dispatch;
pub mod failures;
pub mod floors;
mod free;
pub mod gate;
pub mod import;
pub mod incident;
pub mod ingest;
pub mod intake;
pub mod lanes;
pub mod look;
pub mod owners;
pub mod pace;
pub mod paces;
pub mod patience;
pub mod plan;
pub mod reading;
pub mod recovery;
pub mod register;
pub mod relation;
pub mod resend;
pub mod retry;
pub mod search;
pub mod sender;
pub mod sessions;
pub mod setting;
pub mod settled;
pub mod show;
pub mod signals;
pub mod specimen;
pub mod spill;
pub mod status;
pub mod story;
pub mod subscription;
pub mod surge;
pub mod sweep;
pub mod trouble;
pub mod webhook;
pub mod words;
pub mod worker;
