//! The configuration: one TOML file, environment variables over it, secrets from files.
//!
//! A key `lease_seconds` of section `[dispatch]` is set by `ALLCLEAR_DISPATCH__LEASE_SECONDS` as well.
//! Paths in the file are relative to the file, those in variables to the working directory.
//! Everything has a default that works for a first run on one machine.

mod check;
mod dispatch;
mod error;
mod limits;
mod mailbox;
mod raw;
mod relays;
mod secret;
mod source;
mod streams;
mod surge;
mod target;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use error::ConfigError;
pub use mailbox::Mailbox;
pub use secret::Secret;
pub use source::DEFAULT_FILE;
pub use target::Target;

use crate::domain::class::{Class, Limits};
use crate::domain::surge::Rules;
use crate::domain::time::Span;

/// The whole configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file that was read, if there was one.
    pub file: Option<PathBuf>,
    /// The files that secrets were read from.
    pub secret_files: Vec<PathBuf>,
    /// The database.
    pub database: Database,
    /// The HTTP server.
    pub http: Http,
    /// What recipients see of the status page.
    pub page: Page,
    /// What all mail shares.
    pub mail: Mail,
    /// The relays by name; never empty.
    pub relays: BTreeMap<String, Relay>,
    /// The streams by name; each class is in exactly one, and each `relay` exists.
    pub streams: BTreeMap<String, Stream>,
    /// The limits of every class.
    pub limits: BTreeMap<Class, Limits>,
    /// Dispatching.
    pub dispatch: Dispatch,
    /// Planning.
    pub plan: Plan,
    /// Recoveries.
    pub recovery: Recovery,
    /// Templates.
    pub templates: Templates,
    /// How long things are kept.
    pub retention: Retention,
    /// When a flood of failures is taken for its provider's outage; `None`: never.
    pub surge: Option<Rules>,
    /// Who is told of it.
    pub operators: Operators,
}

impl Config {
    /// Reads and checks the configuration. Without a path, [`DEFAULT_FILE`] is read if it is there.
    ///
    /// # Errors
    /// When something cannot be read or does not fit; the error names the key and where it was set.
    pub fn load(path: Option<&Path>, env: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let default = Path::new(DEFAULT_FILE);
        check::load(path.or_else(|| default.exists().then_some(default)), env)
    }

    /// Reads and checks the configuration, with the variables of this process. Others' are theirs, whatever is in them.
    ///
    /// # Errors
    /// As [`Config::load`], and when one of ours is not UTF-8.
    pub fn load_with_environment(path: Option<&Path>) -> Result<Self, ConfigError> {
        Self::load(path, source::environment(std::env::vars_os())?.into_iter())
    }

    /// The limits of a class.
    #[must_use]
    pub fn limits(&self, class: Class) -> Limits {
        self.limits.get(&class).copied().unwrap_or(Limits::of(class))
    }

    /// The stream of a class, with its name.
    #[must_use]
    pub fn stream(&self, class: Class) -> Option<(&str, &Stream)> {
        self.streams.iter().find(|(_, stream)| stream.classes.contains(&class)).map(|(name, stream)| (&**name, stream))
    }
}

/// `[database]`
#[derive(Clone, Debug)]
pub struct Database {
    /// `sqlite:…`, or `postgres://…`, which may hold a password.
    pub url: Secret,
    /// Reading connections on SQLite.
    pub readers: u32,
    /// Connections on PostgreSQL.
    pub connections: u32,
}

/// `[http]`
#[derive(Clone, Debug)]
pub struct Http {
    /// Where the server listens.
    pub listen: SocketAddr,
    /// The largest request body.
    pub max_body_bytes: usize,
}

/// `[page]`
#[derive(Clone, Debug)]
pub struct Page {
    /// The name recipients know, as in "Acme Status".
    pub name: String,
    /// Where recipients reach the pages, without a slash at the end.
    pub public_url: String,
    /// Where recipients reach people.
    pub support_url: Option<String>,
}

/// `[mail]`
#[derive(Clone, Debug)]
pub struct Mail {
    /// The right side of Message-IDs.
    pub domain: String,
}

/// `[relays.<name>]`
#[derive(Clone, Debug)]
pub enum Relay {
    /// Mail leaves over SMTP.
    Smtp(Smtp),
    /// Mail becomes files in this folder.
    Maildir(PathBuf),
}

/// A relay that speaks SMTP.
#[derive(Clone, Debug)]
pub struct Smtp {
    /// Its host name or address.
    pub host: String,
    /// Its port; by default the usual one of `tls`.
    pub port: u16,
    /// How the connection is protected.
    pub tls: Tls,
    /// User and password, both or neither.
    pub login: Option<Login>,
    /// Certificates trusted besides the system's, PEM.
    pub ca_file: Option<PathBuf>,
    /// The name given in EHLO.
    pub hello_name: String,
    /// Sessions at once from this instance, over all streams that use it.
    pub sessions: Option<u32>,
    /// The most mails in any minute, over all streams and instances.
    pub mails_per_minute: Option<u32>,
    /// Messages after which a session is closed.
    pub messages_per_session: u32,
    /// Age after which a session is closed.
    pub session_age: Span,
    /// The timeout of each phase.
    pub phases: Phases,
}

crate::names!(
    /// How a connection to a relay is protected.
    Tls {
        /// Plain at first, then STARTTLS, which must succeed.
        Starttls = "starttls",
        /// TLS from the first byte.
        Implicit = "implicit",
        /// Not at all.
        None = "none",
    }
);

/// What a relay wants to know before it takes mail.
#[derive(Clone, Debug)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The password, read from `password_file`.
    pub password: Secret,
}

/// The timeouts of an SMTP dialogue; the defaults are RFC 5321 section 4.5.3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phases {
    /// Until the connection stands, TLS included.
    pub connect: Span,
    /// Until the greeting.
    pub greeting: Span,
    /// Until the reply to EHLO, AUTH, MAIL and RCPT.
    pub command: Span,
    /// Until the 354 after DATA.
    pub data: Span,
    /// For each write of the body.
    pub block: Span,
    /// Until the reply to the final dot; a short one makes duplicates.
    pub end: Span,
}

/// `[streams.<name>]`
#[derive(Clone, Debug)]
pub struct Stream {
    /// The sender.
    pub from: Mailbox,
    /// Where replies go, if not to the sender.
    pub reply_to: Option<Mailbox>,
    /// The name of its relay.
    pub relay: String,
    /// Sessions at once.
    pub slots: u32,
    /// The most mails in any minute, over all instances.
    pub mails_per_minute: Option<u32>,
    /// The most mails in any minute to one recipient domain.
    pub domain_mails_per_minute: Option<u32>,
    /// The same for domains by name.
    pub domains: BTreeMap<String, u32>,
    /// The classes it carries; never empty.
    pub classes: Vec<Class>,
}

/// `[dispatch]`
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// How long a claimed mail belongs to its slot; longer than `dialogue`.
    pub lease: Span,
    /// The longest a dialogue about one mail may last.
    pub dialogue: Span,
    /// How long an unknown outcome rests before it is looked at again.
    pub quarantine: Span,
    /// The pause of an idle worker.
    pub poll: Span,
    /// The first interval of retries.
    pub retry_first: Span,
    /// The longest interval of retries.
    pub retry_cap: Span,
    /// Keeps outcomes while the database is away.
    pub spill_file: PathBuf,
    /// The name of this instance, if it was given one: two that share a database need two names.
    pub node: Option<String>,
    /// The name of this host, after which an instance is called that was given none.
    pub host: String,
}

/// `[plan]`
#[derive(Clone, Debug)]
pub struct Plan {
    /// Subscribers planned in one transaction.
    pub page_size: u32,
}

/// `[templates]`
#[derive(Clone, Debug)]
pub struct Templates {
    /// Files that are laid over the built-in ones, by name.
    pub folder: Option<PathBuf>,
}

/// `[retention]`
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// How long mails are kept as they were sent; zero keeps none.
    pub mail_copies: Span,
    /// So long after its end a mail is moved out of the dispatchers' tables; `None`: never.
    pub archive_after: Option<Span>,
}

/// `[recovery]`
#[derive(Clone, Debug)]
pub struct Recovery {
    /// What happens to connections that do not confirm in time.
    pub unconfirmed: Unconfirmed,
    /// How long connections have to confirm a recovery that covers them.
    pub confirm_within: Span,
    /// After so long a failure that was to heal by itself is taken for permanent; `None`: never.
    pub patience: Option<Span>,
}

/// `[operators]`
#[derive(Clone, Debug, Default)]
pub struct Operators {
    /// The address that surges are mailed to, as it is stored.
    pub address: Option<String>,
    /// Where surges are posted to.
    pub webhook: Option<Webhook>,
}

/// Where operators' own systems take news.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// The URL: `https`, or `http` to this machine.
    pub url: String,
    /// What each post is signed with.
    pub secret: Secret,
}

crate::names!(
    /// What happens to connections that did not confirm a recovery in time.
    Unconfirmed {
        /// Their customers are asked after all.
        Ask = "ask",
        /// They are listed for the operator.
        List = "list",
    }
);
