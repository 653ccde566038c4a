//! Handing mail over: what a mail is made of ([`message`]), where it goes ([`relay`]), the dialogue
//! with the relay ([`session`]) and what came of it ([`reply`]). Nothing here knows the database or
//! decides whether a mail is still true.

mod about;
mod classify;
mod connect;
mod der;
mod dialogue;
mod encode;
mod maildir;
pub mod message;
pub mod probe;
pub mod relay;
pub mod reply;
pub mod session;
pub mod sink;
mod wire;

pub use about::About;
pub use classify::{Rule, classify, classify_between, ruling};
pub use connect::{OpenError, OpenPhase, check_plaintext};
pub(crate) use dialogue::in_time;
pub use message::{BuildError, Letter, build};
pub use relay::{Login, PhaseTimeouts, Relay, Secret, Tls, Transport};
pub use reply::{Outcome, Reply};
pub use session::{Session, check};
#[doc(hidden)]
pub use wire::reply_lines;
