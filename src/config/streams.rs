//! `[streams.<name>]`: sender, relay and slots of groups of classes; each class is in exactly one.

use std::collections::BTreeMap;

use super::check::Check;
use super::raw;
use super::relays::DEFAULT;
use super::{ConfigError, Mail, Mailbox, Page, Relay, Stream};
use crate::domain::address::parse_address;
use crate::domain::class::Class;

/// A million a minute is no cap any more.
pub(super) const MOST_PER_MINUTE: u64 = 1_000_000;

const ACCOUNT: [Class; 2] = [Class::ActionRequired, Class::Correction];

pub(super) fn check(
    check: &Check,
    mut raw: BTreeMap<String, raw::Stream>,
    relays: &BTreeMap<String, Relay>,
    page: &Page,
    mail: &Mail,
) -> Result<BTreeMap<String, Stream>, ConfigError> {
    raw.entry("account".to_owned()).or_default();
    raw.entry("incidents".to_owned()).or_default();

    let mut listed = BTreeMap::new();
    let mut owner: BTreeMap<Class, &str> = BTreeMap::new();
    for (name, stream) in &raw {
        let Some(list) = &stream.classes else { continue };
        let key = format!("streams.{name}.classes");
        for text in &list.0 {
            let hint = "Name classes such as incident_update or post_mortem.";
            let class: Class = text.parse().map_err(|what: String| check.error(&key, what, hint))?;
            if let Some(other) = owner.insert(class, name) {
                let what = match other == name {
                    true => format!("`{class}` is listed twice"),
                    false => format!("`{class}` is in stream `{other}` and in stream `{name}`"),
                };
                return Err(check.error(&key, what, "Leave each class in exactly one stream."));
            }
            listed.entry(name.clone()).or_insert_with(Vec::new).push(class);
        }
    }

    let mut streams = BTreeMap::new();
    let unlisted: Vec<Class> = Class::ALL.iter().copied().filter(|class| !owner.contains_key(class)).collect();
    for (name, stream) in raw {
        let classes = match (&stream.classes, name.as_str()) {
            (Some(_), _) => listed.remove(&name).unwrap_or_default(),
            (None, "account") => unlisted.iter().copied().filter(|c| ACCOUNT.contains(c)).collect(),
            (None, "incidents") => unlisted.iter().copied().filter(|c| !ACCOUNT.contains(c)).collect(),
            (None, _) => Vec::new(),
        };
        if classes.is_empty() && !touched(&stream) {
            continue;
        }
        if classes.is_empty() {
            let hint = "List the classes it carries, or take the stream out.";
            return Err(check.error(&format!("streams.{name}.classes"), "this stream carries nothing", hint));
        }
        let built = build(check, &name, stream, classes, relays, page, mail)?;
        streams.insert(name, built);
    }
    let carried = |class: &Class| streams.values().any(|stream: &Stream| stream.classes.contains(class));
    match unlisted.iter().find(|class| !carried(class)) {
        None => Ok(streams),
        Some(class) => {
            let hint = "Add it to the classes of one stream, or leave `classes` out of `account` and `incidents`, \
                        which then take what no other stream lists.";
            Err(check.error("streams", format!("`{class}` is in no stream"), hint))
        }
    }
}

fn touched(raw: &raw::Stream) -> bool {
    let texts = raw.from.is_some() || raw.reply_to.is_some() || raw.relay.is_some() || raw.classes.is_some();
    let caps = raw.mails_per_minute.is_some() || raw.domain_mails_per_minute.is_some() || !raw.domains.is_empty();
    texts || caps || raw.slots.is_some()
}

fn build(
    check: &Check,
    name: &str,
    raw: raw::Stream,
    classes: Vec<Class>,
    relays: &BTreeMap<String, Relay>,
    page: &Page,
    mail: &Mail,
) -> Result<Stream, ConfigError> {
    let key = |key: &str| format!("streams.{name}.{key}");
    let mailbox = |k: &str, text: String| {
        text.parse::<Mailbox>().map_err(|what| {
            check.error(&key(k), what, "Write \"Acme Status <status@acme.example>\" or status@acme.example.")
        })
    };
    let from = match raw.from {
        Some(text) => mailbox("from", text)?,
        None => Mailbox::new(&page.name, &format!("status@{}", mail.domain))
            .map_err(|what| check.error("page.name", what, format!("Write a shorter one, or set {}.", key("from"))))?,
    };
    let cap = |k: &str, given: Option<raw::Whole>| check.cap(&key(k), given, MOST_PER_MINUTE);
    let mut domains = BTreeMap::new();
    for (domain, most) in raw.domains {
        let named = format!("domains.{domain}");
        // As addresses are stored: in lower case, in A-labels.
        let stored = parse_address(&format!("x@{domain}")).map_err(|what| {
            let hint = "Name recipient domains, like [streams.incidents.domains] \"gmail.com\" = 600.";
            check.error(&key(&named), what.to_string(), hint)
        })?;
        let most = cap(&named, Some(most))?.map(|most| (stored.domain().to_owned(), most));
        if most.and_then(|(domain, most)| domains.insert(domain, most)).is_some() {
            let what = format!("`{}` is named twice, in different letters", stored.domain());
            return Err(check.error(&key(&named), what, "Leave one of the two."));
        }
    }
    Ok(Stream {
        mails_per_minute: cap("mails_per_minute", raw.mails_per_minute)?,
        domain_mails_per_minute: cap("domain_mails_per_minute", raw.domain_mails_per_minute)?,
        domains,
        from,
        reply_to: raw.reply_to.map(|text| mailbox("reply_to", text)).transpose()?,
        relay: relay(check, &key("relay"), raw.relay, relays)?,
        slots: check.number(&key("slots"), raw.slots, 8, 1..=1_000)?,
        classes,
    })
}

/// Without a name: the only relay, or the one named `default`.
fn relay(
    check: &Check,
    key: &str,
    given: Option<String>,
    relays: &BTreeMap<String, Relay>,
) -> Result<String, ConfigError> {
    let known: Vec<&str> = relays.keys().map(String::as_str).collect();
    match (given, known.as_slice()) {
        (Some(name), _) if relays.contains_key(&name) => Ok(name),
        (Some(name), _) => {
            let what = format!("there is no relay `{name}`");
            Err(check.error(key, what, format!("Known relays: {}.", known.join(", "))))
        }
        (None, [only]) => Ok((*only).to_owned()),
        (None, _) if relays.contains_key(DEFAULT) => Ok(DEFAULT.to_owned()),
        (None, _) => {
            let hint = format!("Name one of {}, or call one relay `{DEFAULT}`.", known.join(", "));
            Err(check.error(key, "is missing, and there are several relays", hint))
        }
    }
}
