//! The configuration as written: every key optional, unknown ones refused.

use std::collections::BTreeMap;
use std::fmt;

use figment::value::magic::RelativePathBuf;
use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};

use super::{Tls, Unconfirmed};

/// A section of the file, or the file itself.
pub(super) trait Section {
    /// The keys it may have.
    const KEYS: &'static [&'static str];
}

/// Defines a section whose keys may all be left out.
macro_rules! section {
    ($name:ident { $($key:ident: $type:ty),+ $(,)? }) => {
        #[derive(Default, Deserialize)]
        #[serde(deny_unknown_fields, default, expecting = "a section")]
        pub(super) struct $name {
            $(pub(super) $key: $type),+
        }

        impl Section for $name {
            const KEYS: &'static [&'static str] = &[$(stringify!($key)),+];
        }
    };
}

section!(Raw {
    database: Database,
    http: Http,
    page: Page,
    mail: Mail,
    relays: BTreeMap<String, Relay>,
    streams: BTreeMap<String, Stream>,
    limits: BTreeMap<String, Limits>,
    dispatch: Dispatch,
    plan: Plan,
    recovery: Recovery,
    templates: Templates,
    retention: Retention,
    surge: Surge,
    operators: Operators,
});

section!(Database {
    url: Option<String>,
    url_file: Option<RelativePathBuf>,
    readers: Option<Whole>,
    connections: Option<Whole>,
});

section!(Http { listen: Option<String>, max_body_bytes: Option<Whole> });

section!(Page { name: Option<String>, public_url: Option<String>, support_url: Option<String> });

section!(Mail { domain: Option<String> });

section!(Relay {
    transport: Option<Transport>,
    path: Option<RelativePathBuf>,
    host: Option<String>,
    port: Option<Whole>,
    tls: Option<Tls>,
    user: Option<String>,
    password_file: Option<RelativePathBuf>,
    ca_file: Option<RelativePathBuf>,
    hello_name: Option<String>,
    sessions: Option<Whole>,
    mails_per_minute: Option<Whole>,
    messages_per_session: Option<Whole>,
    session_age_seconds: Option<Whole>,
    connect_seconds: Option<Whole>,
    greeting_seconds: Option<Whole>,
    command_seconds: Option<Whole>,
    data_seconds: Option<Whole>,
    block_seconds: Option<Whole>,
    end_seconds: Option<Whole>,
});

section!(Stream {
    from: Option<String>,
    reply_to: Option<String>,
    relay: Option<String>,
    slots: Option<Whole>,
    mails_per_minute: Option<Whole>,
    domain_mails_per_minute: Option<Whole>,
    domains: BTreeMap<String, Whole>,
    classes: Option<List>,
});

section!(Limits {
    dwell_seconds: Option<Whole>,
    stable_for_seconds: Option<Whole>,
    gap_seconds: Option<Whole>,
    longest_hold_seconds: Option<Whole>,
    greatest_age_seconds: Option<Whole>,
    longest_silence_seconds: Option<Whole>,
    told_elsewhere_seconds: Option<Whole>,
    daily_mails: Option<Whole>,
});

section!(Dispatch {
    lease_seconds: Option<Whole>,
    dialogue_seconds: Option<Whole>,
    quarantine_seconds: Option<Whole>,
    poll_milliseconds: Option<Whole>,
    retry_first_seconds: Option<Whole>,
    retry_cap_seconds: Option<Whole>,
    spill_file: Option<RelativePathBuf>,
    node: Option<String>,
});

section!(Plan { page_size: Option<Whole> });

section!(Recovery {
    unconfirmed: Option<Unconfirmed>,
    confirm_within_seconds: Option<Whole>,
    patience_seconds: Option<Whole>,
});

section!(Surge {
    enabled: Option<Switch>,
    window_minutes: Option<Whole>,
    least: Option<Whole>,
    times: Option<Whole>,
    deviations: Option<Whole>,
    slow_window_minutes: Option<Whole>,
    slow_least: Option<Whole>,
    slow_times: Option<Whole>,
    slow_deviations: Option<Whole>,
    baseline_days: Option<Whole>,
    calm_minutes: Option<Whole>,
    canary_least: Option<Whole>,
    canary_percent: Option<Whole>,
    canary_wait_seconds: Option<Whole>,
    recoveries_least: Option<Whole>,
    reporter_components: Option<Whole>,
    reporter_percent: Option<Whole>,
    exhausted_percent: Option<Whole>,
});

section!(Operators {
    address: Option<String>,
    webhook_url: Option<String>,
    webhook_secret_file: Option<RelativePathBuf>,
});

section!(Templates { folder: Option<RelativePathBuf> });

section!(Retention { mail_copies_days: Option<Whole>, archive_after_days: Option<Whole> });

crate::names!(
    /// How a relay takes mail.
    Transport {
        /// Over SMTP.
        Smtp = "smtp",
        /// As files in a folder.
        Maildir = "maildir",
    }
);

/// A whole number, also from the text of an environment variable.
#[derive(Clone, Copy)]
pub(super) struct Whole(pub(super) u64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Whole;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number that is not negative")
            }

            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Whole, E> {
                Ok(Whole(n))
            }

            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Whole, E> {
                u64::try_from(n).map(Whole).map_err(|_| E::invalid_value(de::Unexpected::Signed(n), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Whole, E> {
                text.parse().map(Whole).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// On or off, also from the text of an environment variable.
#[derive(Clone, Copy)]
pub(super) struct Switch(pub(super) bool);

impl<'de> Deserialize<'de> for Switch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Switch;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true or false")
            }

            fn visit_bool<E: de::Error>(self, on: bool) -> Result<Switch, E> {
                Ok(Switch(on))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Switch, E> {
                text.parse().map(Switch).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// A list of names, also from `a, b` in an environment variable.
pub(super) struct List(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = List;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of names")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<List, E> {
                let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
                Ok(List(names.map(str::to_owned).collect()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<List, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = items.next_element()? {
                    names.push(name);
                }
                Ok(List(names))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}
