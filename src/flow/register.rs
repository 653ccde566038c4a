//! Putting components, connections and subscribers, with the checks at the door. A put replaces all there is; `import`
//! is for callers who say a part.

use super::anew::anew;
use super::ingest::IngestError;
use super::intake::{Check, FieldError};
use super::owners;
use super::reading;
use crate::domain::address::parse_address;
use crate::domain::id::{ComponentId, SubscriberId};
use crate::store::setup::{self, ComponentRow, ConnectionRow, SubscriberRow};
use crate::store::{Store, Tx};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const NAME: usize = 200;
/// More people than this behind one connection is a mistake of the caller's, and a mail bomb.
const SUBSCRIBERS: usize = 100;

/// A component as it is put; its key stands beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComponentIn {
    /// The name for people.
    pub name: String,
    /// The group it belongs to.
    #[serde(default)]
    pub group: Option<String>,
    /// The components it cannot work without, by key.
    #[serde(default)]
    pub depends_on: Vec<String>,
}

/// A connection as it is put; its key stands beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionIn {
    /// The component, by key; cannot change later.
    pub component: String,
    /// The name for people.
    pub name: String,
    /// Where the customer can act on it.
    #[serde(default)]
    pub link: Option<String>,
    /// Who is told about it, by key.
    #[serde(default)]
    pub subscribers: Vec<String>,
}

/// A subscriber as it is put; the key stands beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubscriberIn {
    /// The address.
    pub address: String,
    /// What to call the person.
    #[serde(default)]
    pub name: Option<String>,
    /// A BCP 47 language tag.
    #[serde(default = "english")]
    pub locale: String,
    /// An IANA time zone.
    #[serde(default = "utc")]
    pub zone: String,
    /// Attributes; a name may have several values.
    #[serde(default, deserialize_with = "reading::once::map")]
    pub attributes: BTreeMap<String, Vec<String>>,
}

/// What was put.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Put {
    /// Its id.
    pub id: String,
    /// Its key; a subscription has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

fn english() -> String {
    "en".to_owned()
}

fn utc() -> String {
    "UTC".to_owned()
}

pub(super) const fn yes() -> bool {
    true
}

/// Puts a component.
///
/// # Errors
/// When a field is wrong, a dependency is unknown, or the database fails; nothing is written then.
pub async fn component(store: &Store, key: &str, said: &ComponentIn) -> Result<Put, IngestError> {
    check_component(key, said)?;
    anew!(IngestError, async {
        let mut tx = store.begin().await?;
        let mut depends_on = Vec::with_capacity(said.depends_on.len());
        for (position, other) in said.depends_on.iter().enumerate() {
            depends_on.push(component_id(&mut tx, &format!("depends_on[{position}]"), other).await?);
        }
        let row = ComponentRow { key: key.to_owned(), name: said.name.clone(), group: said.group.clone(), depends_on };
        let id = setup::put_component(&mut tx, &row).await?;
        tx.commit().await?;
        Ok(Put { id: id.to_string(), key: Some(key.to_owned()) })
    })
}

/// Puts a connection with the people who are told about it.
///
/// # Errors
/// When a field is wrong, its component or a subscriber is unknown, the component would change, or the database
/// fails; nothing is written then.
pub async fn connection(store: &Store, key: &str, said: &ConnectionIn) -> Result<Put, IngestError> {
    check_connection(key, said)?;
    anew!(IngestError, async {
        let mut tx = store.begin().await?;
        let component = component_id(&mut tx, "component", &said.component).await?;
        if setup::connection_id(&mut tx, key).await?.is_some_and(|(_, of)| of != component) {
            return Err(fixed_component().into());
        }
        let mut subscribers = Vec::with_capacity(said.subscribers.len());
        for (position, subscriber) in said.subscribers.iter().enumerate() {
            subscribers.push(subscriber_id(&mut tx, &format!("subscribers[{position}]"), subscriber).await?);
        }
        let row = ConnectionRow {
            key: key.to_owned(),
            component,
            name: said.name.clone(),
            link: said.link.clone(),
            subscribers,
        };
        let id = setup::put_connection(&mut tx, &row).await?;
        owners::changed(&mut tx, &[key]).await?;
        tx.commit().await?;
        Ok(Put { id: id.to_string(), key: Some(key.to_owned()) })
    })
}

/// Puts a subscriber.
///
/// # Errors
/// When a field is wrong, or the database fails; nothing is written then.
pub async fn subscriber(store: &Store, key: &str, said: &SubscriberIn) -> Result<Put, IngestError> {
    let row = subscriber_row(key, said)?;
    anew!(IngestError, async {
        let mut tx = store.begin().await?;
        let id = setup::put_subscriber(&mut tx, &row).await?;
        tx.commit().await?;
        Ok(Put { id: id.to_string(), key: Some(key.to_owned()) })
    })
}

/// Checks what serde cannot.
pub(super) fn check_component(key: &str, said: &ComponentIn) -> Result<(), Vec<FieldError>> {
    let mut check = Check::default();
    check.key("key", key);
    check.line("name", &said.name, NAME);
    if let Some(group) = &said.group {
        check.key("group", group);
    }
    if said.depends_on.iter().any(|other| other == key) {
        check.refuse("depends_on", "names the component itself");
    }
    check.done()
}

/// Checks what serde cannot.
pub(super) fn check_connection(key: &str, said: &ConnectionIn) -> Result<(), Vec<FieldError>> {
    let mut check = Check::default();
    check.key("key", key);
    check.line("name", &said.name, NAME);
    check.link("link", said.link.as_deref());
    if said.subscribers.len() > SUBSCRIBERS {
        check.refuse("subscribers", format!("are more than {SUBSCRIBERS}"));
    }
    check.done()
}

/// Why a connection is not moved to another component.
pub(super) fn fixed_component() -> FieldError {
    FieldError::new("component", "cannot change: what was said about the connection belongs to the other")
}

/// Checks what serde cannot, and makes the row that is stored.
pub(super) fn subscriber_row(key: &str, said: &SubscriberIn) -> Result<SubscriberRow, Vec<FieldError>> {
    let mut check = Check::default();
    check.key("key", key);
    if let Some(name) = &said.name {
        check.line("name", name, NAME);
    }
    if !is_locale(&said.locale) {
        check.refuse("locale", "is not a language tag like `en`, `de-AT` or `zh-Hant-TW`");
    }
    // `get` also takes names in the wrong case; mail shows the zone, so it is kept as the database spells it.
    let zone = jiff::tz::TimeZone::get(&said.zone).ok().and_then(|zone| zone.iana_name().map(str::to_owned));
    if zone.is_none() {
        check.refuse("zone", "is not an IANA time zone like `Europe/Vienna`");
    }
    for (name, values) in &said.attributes {
        check.line("attributes", name, 100);
        check_values(&mut check, &format!("attributes.{name}"), values);
    }
    let address = match parse_address(&said.address) {
        Ok(address) => address.as_str().to_owned(),
        Err(fault) => {
            check.refuse("address", fault.to_string());
            String::new()
        }
    };
    check.done()?;
    let attributes = said.attributes.iter().flat_map(|(name, values)| values.iter().map(|v| (name.clone(), v.clone())));
    Ok(SubscriberRow {
        key: key.to_owned(),
        address,
        name: said.name.clone(),
        locale: said.locale.clone(),
        zone: zone.unwrap_or_else(utc),
        attributes: attributes.collect(),
    })
}

/// Checks the values of one attribute.
pub(super) fn check_values(check: &mut Check, field: &str, values: &[String]) {
    for (position, value) in values.iter().enumerate() {
        check.line(&format!("{field}[{position}]"), value, 500);
    }
}

pub(super) async fn component_id(tx: &mut Tx, field: &str, key: &str) -> Result<ComponentId, IngestError> {
    let found = setup::component_id(tx, key).await?;
    found.ok_or_else(|| no_component(field, key).into())
}

pub(super) async fn subscriber_id(tx: &mut Tx, field: &str, key: &str) -> Result<SubscriberId, IngestError> {
    let found = setup::subscriber_id(tx, key).await?;
    found.ok_or_else(|| no_subscriber(field, key).into())
}

/// An unknown component is named.
pub(super) fn no_component(field: &str, key: &str) -> FieldError {
    FieldError::new(field, format!("no component has the key `{}`", shown(key)))
}

/// An unknown subscriber is named.
pub(super) fn no_subscriber(field: &str, key: &str) -> FieldError {
    FieldError::new(field, format!("no subscriber has the key `{}`", shown(key)))
}

/// A text from outside as it may stand in an error.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(100).collect()
}

/// The shape of RFC 5646 tags as software writes them: a language, then script, region and variants.
fn is_locale(tag: &str) -> bool {
    let mut parts = tag.split('-');
    let language = parts.next().unwrap_or_default();
    (2..=3).contains(&language.len())
        && language.bytes().all(|b| b.is_ascii_alphabetic())
        && tag.len() <= 35
        && parts.all(|part| (2..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locales_are_told_from_other_texts() {
        for tag in ["en", "de-AT", "zh-Hant-TW", "es-419", "sl-rozaj"] {
            assert!(is_locale(tag), "{tag}");
        }
        for tag in ["", "e", "english", "en_US", "en-", "de-A", "1n", "en-US\n", "../../etc"] {
            assert!(!is_locale(tag), "{tag}");
        }
    }
}
