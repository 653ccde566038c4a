//! What the stages need to know of the configuration.

use super::pace::{Caps, Rate};
use super::retry::Schedule;
use crate::config::{self, Config, Operators, Unconfirmed};
use crate::domain::class::{Class, Limits};
use crate::domain::surge::Rules;
use crate::domain::time::Span;
use crate::mail::{Login, PhaseTimeouts, Relay, Secret, Tls, Transport};
use crate::store::relays::Unreached;
use std::collections::BTreeMap;

/// A stream: the From of some classes and the sessions that carry them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Its name.
    pub name: String,
    /// The From of its mails.
    pub from: String,
    /// Where answers go.
    pub reply_to: Option<String>,
    /// The name of the relay that takes them.
    pub relay: String,
    /// How many sessions it keeps with it.
    pub slots: usize,
    /// How many mails may leave in a minute.
    pub caps: Caps,
    /// The classes it carries.
    pub classes: Vec<Class>,
}

/// Settings of the stages.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The right side of Message-IDs.
    pub domain: String,
    /// The streams; each class is in exactly one.
    pub streams: Vec<Stream>,
    /// The limits of each class.
    pub limits: BTreeMap<Class, Limits>,
    /// When a mail that was put off is tried again.
    pub retry: Schedule,
    /// How long a claim lasts.
    pub lease: Span,
    /// How long a mail that nobody knows about is left alone.
    pub quarantine: Span,
    /// How many subscribers are planned at a time.
    pub page: i64,
    /// What becomes of connections that did not confirm a covering recovery: asked (`true`) or only listed.
    pub ask_unconfirmed: bool,
    /// How long connections have to confirm, unless the recovery says.
    pub confirm_within: Span,
    /// Where the customer can act, unless the connection or the notice says.
    pub public_url: Option<String>,
    /// Where to ask for help, unless the notice says.
    pub support_url: Option<String>,
    /// Who is told of surges.
    pub operators: Operators,
    /// The rules by which a flood of failures is taken for its provider's outage; `None`: nobody looks for one.
    pub surge: Option<Rules>,
    /// After so long a failure that was to heal by itself is taken for permanent; `None`: never.
    pub patience: Option<Span>,
    /// `false` sends everything at once, true or not: only `demo` does this, to show the difference.
    pub gate: bool,
}

impl Setting {
    /// What a configuration says.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let streams = config.streams.iter().map(|(name, stream)| Stream {
            name: name.clone(),
            from: stream.from.to_string(),
            reply_to: stream.reply_to.as_ref().map(ToString::to_string),
            relay: stream.relay.clone(),
            slots: usize::try_from(stream.slots).unwrap_or(1),
            caps: caps(config, stream),
            classes: stream.classes.clone(),
        });
        Self {
            domain: config.mail.domain.clone(),
            streams: streams.collect(),
            limits: config.limits.clone(),
            retry: Schedule { first: config.dispatch.retry_first, cap: config.dispatch.retry_cap },
            lease: config.dispatch.lease,
            quarantine: config.dispatch.quarantine,
            page: i64::from(config.plan.page_size),
            ask_unconfirmed: config.recovery.unconfirmed == Unconfirmed::Ask,
            confirm_within: config.recovery.confirm_within,
            public_url: Some(config.page.public_url.clone()),
            support_url: config.page.support_url.clone(),
            operators: config.operators.clone(),
            surge: config.surge,
            patience: config.recovery.patience,
            gate: true,
        }
    }

    /// Whether the relay that takes the mails of a class is one of these.
    #[must_use]
    pub fn is_unreached(&self, class: Class, of: &[Unreached]) -> bool {
        self.stream(class).is_some_and(|stream| of.iter().any(|away| away.relay == stream.relay))
    }

    /// The limits of a class.
    #[must_use]
    pub fn limits(&self, class: Class) -> Limits {
        self.limits.get(&class).copied().unwrap_or_else(|| Limits::of(class))
    }

    /// The stream of a class.
    #[must_use]
    pub fn stream(&self, class: Class) -> Option<&Stream> {
        self.streams.iter().find(|s| s.classes.contains(&class))
    }

    /// The name of the stream of a class.
    #[must_use]
    pub fn stream_name(&self, class: Class) -> String {
        self.stream(class).map(|s| s.name.clone()).unwrap_or_default()
    }

    /// What ingest needs.
    #[must_use]
    pub fn ingest(&self) -> super::ingest::Settings {
        // Also where nobody looks for floods: an operator may have opened one.
        let rules = self.surge.unwrap_or_default();
        super::ingest::Settings {
            dwell: self.limits(Class::ActionRequired).dwell,
            confirm_within: self.confirm_within,
            backdated: self.limits(Class::IncidentUpdate).greatest_age,
            windows: super::ingest::Windows {
                failed: Span::minutes(rules.flood.minutes),
                failed_slow: Span::minutes(rules.slow.minutes),
                recovered: Span::minutes(rules.recoveries.minutes),
            },
        }
    }
}

fn caps(config: &Config, stream: &config::Stream) -> Caps {
    let relay = match config.relays.get(&stream.relay) {
        Some(config::Relay::Smtp(smtp)) => smtp.mails_per_minute,
        _ => None,
    };
    Caps {
        relay: relay.map(|most| (stream.relay.clone(), Rate::per_minute(most))),
        overall: stream.mails_per_minute.map(Rate::per_minute),
        domain: stream.domain_mails_per_minute.map(Rate::per_minute),
        domains: stream.domains.iter().map(|(name, most)| (name.clone(), Rate::per_minute(*most))).collect(),
    }
}

/// The transport of each stream, by the stream's name.
#[must_use]
pub fn transports(config: &Config) -> BTreeMap<String, Transport> {
    let of = |stream: &config::Stream| config.relays.get(&stream.relay).map(transport);
    config.streams.iter().filter_map(|(name, stream)| Some((name.clone(), of(stream)?))).collect()
}

fn transport(relay: &config::Relay) -> Transport {
    let smtp = match relay {
        config::Relay::Maildir(path) => return Transport::Maildir(path.clone()),
        config::Relay::Smtp(smtp) => smtp,
    };
    let tls = match smtp.tls {
        config::Tls::Starttls => Tls::StartTls,
        config::Tls::Implicit => Tls::Implicit,
        config::Tls::None => Tls::None,
    };
    let login = smtp
        .login
        .as_ref()
        .map(|l| Login { user: l.user.clone(), password: Secret::new(l.password.expose().to_owned()) });
    let phases = &smtp.phases;
    Transport::Smtp(Relay {
        host: smtp.host.clone(),
        port: smtp.port,
        tls,
        login,
        hello_name: smtp.hello_name.clone(),
        ca_file: smtp.ca_file.clone(),
        timeouts: PhaseTimeouts {
            connect: phases.connect.to_std(),
            greeting: phases.greeting.to_std(),
            command: phases.command.to_std(),
            data_start: phases.data.to_std(),
            data_block: phases.block.to_std(),
            data_done: phases.end.to_std(),
        },
        sessions: smtp.sessions.and_then(|most| usize::try_from(most).ok()),
        messages_per_session: smtp.messages_per_session,
        session_age: smtp.session_age,
    })
}
