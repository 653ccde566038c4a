//! Many subscribers and attributes at once, as `import` does it with what they belong to.

use super::import::{Change, grouped, keys, replaced};
use super::rows::{self, Row, json};
use super::{Sql, StoreError, Tx};
use crate::domain::id::SubscriberId;
use crate::domain::time::Timestamp;
use std::collections::{BTreeSet, HashMap};

statements! {
    // Keys as they are: objects with keys would be parsed one by one, and this is asked for every line.
    SUBSCRIBERS_NOW = Sql::differs(
        "SELECT s.key, s.address, s.name, s.locale, s.zone FROM json_each($1) j JOIN subscriber s ON s.key = j.value",
        "SELECT s.key, s.address, s.name, s.locale, s.zone FROM json_array_elements_text($1::json) j (value)
         JOIN subscriber s ON s.key = j.value"
    );
    SUBSCRIBER_ATTRIBUTES_NOW = over_rows!(
        "SELECT s.key, a.name, a.value FROM", [key text],
        "JOIN subscriber s ON s.key = j.key JOIN subscriber_attribute a ON a.subscriber_id = s.id"
    );
    // Without ON CONFLICT: the caller has looked.
    IMPORT_SUBSCRIBERS = over_rows!(
        "INSERT INTO subscriber (id, key, address, name, locale, zone, created_at)
         SELECT j.id, j.key, j.address, j.name, j.locale, j.zone, j.created_at FROM",
        [id uuid, key text, address text, name text, locale text, zone text, created_at bigint], "WHERE TRUE"
    );
    CHANGE_SUBSCRIBERS = over_rows!(
        "UPDATE subscriber SET address = j.address, name = j.name, locale = j.locale, zone = j.zone FROM",
        [key text, address text, name text, locale text, zone text], "WHERE subscriber.key = j.key"
    );
    FORGET_SUBSCRIBER_ATTRIBUTES = over_rows!(
        "DELETE FROM subscriber_attribute WHERE subscriber_id IN (SELECT s.id FROM", [key text],
        "JOIN subscriber s ON s.key = j.key)"
    );
    IMPORT_ATTRIBUTES = over_rows!(
        "INSERT INTO subscriber_attribute (subscriber_id, name, value) SELECT s.id, j.name, j.value FROM",
        [owner text, name text, value text],
        "JOIN subscriber s ON s.key = j.owner WHERE TRUE ON CONFLICT DO NOTHING"
    );
    ATTRIBUTES_NOW = over_rows!(
        "SELECT s.key, a.name, a.value FROM", [subscriber text, name text],
        "JOIN subscriber s ON s.key = j.subscriber
         JOIN subscriber_attribute a ON a.subscriber_id = s.id AND a.name = j.name"
    );
    FORGET_ATTRIBUTES = over_rows!(
        "DELETE FROM subscriber_attribute WHERE (subscriber_id, name) IN (SELECT s.id, j.name FROM",
        [subscriber text, name text],
        "JOIN subscriber s ON s.key = j.subscriber)"
    );
}

/// A subscriber.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subscriber {
    /// The caller's key.
    pub key: String,
    /// A checked address.
    pub address: String,
    /// What to call the person.
    pub name: Option<String>,
    /// A BCP 47 language tag.
    pub locale: String,
    /// An IANA time zone.
    pub zone: String,
    /// Names and values; none: they stay as they are.
    pub attributes: Option<BTreeSet<(String, String)>>,
}

/// All values that a subscriber has under one name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attribute {
    /// The subscriber, by key.
    pub subscriber: String,
    /// The attribute's name.
    pub name: String,
    /// Its values.
    pub values: BTreeSet<String>,
}

/// The subscribers that have the keys of some, with attributes when one of these has them.
///
/// # Errors
/// When the database fails.
pub async fn subscribers(tx: &mut Tx, of: &[&Subscriber]) -> Result<Vec<Subscriber>, StoreError> {
    let mut attributes = match of.iter().any(|row| row.attributes.is_some()) {
        true => {
            let keys = keys(of.iter().map(|row| row.key.as_str()));
            let found = rows!(tx, (String, String, String), SUBSCRIBER_ATTRIBUTES_NOW, &keys)?;
            Some(grouped(found.into_iter().map(|(key, name, value)| (key, (name, value)))))
        }
        false => None,
    };
    let keys: BTreeSet<_> = of.iter().map(|row| row.key.as_str()).collect();
    let keys = serde_json::to_string(&keys).unwrap_or_default();
    let found = rows!(tx, (String, String, Option<String>, String, String), SUBSCRIBERS_NOW, keys)?;
    let row = |(key, address, name, locale, zone)| {
        let attributes = attributes.as_mut().map(|all| all.remove(&key).unwrap_or_default());
        Subscriber { key, address, name, locale, zone, attributes }
    };
    Ok(found.into_iter().map(row).collect())
}

/// Writes subscribers; attributes that are not given stay.
///
/// # Errors
/// When the database fails, or another was first with a new one ([`StoreError::is_conflict`]).
pub async fn put_subscribers(tx: &mut Tx, of: &[Change<Subscriber>]) -> Result<(), StoreError> {
    let now = tx.now();
    let new: Vec<_> = of.iter().filter(|change| change.new).map(|change| &change.row).collect();
    rows::add(tx, "subscriber", IMPORT_SUBSCRIBERS, new.into_iter().map(|s| subscriber(s, now))).await?;
    let changed = people(replaced(of));
    if !changed.is_empty() {
        exec!(tx, CHANGE_SUBSCRIBERS, json(changed))?;
    }
    let given = |s: &&Subscriber| s.attributes.is_some();
    let replaced: Vec<_> = replaced(of).filter(given).map(|s| columns! { key: &s.key }).collect();
    if !replaced.is_empty() {
        exec!(tx, FORGET_SUBSCRIBER_ATTRIBUTES, json(replaced))?;
    }
    let values = of.iter().flat_map(|Change { row: s, .. }| {
        let all = s.attributes.iter().flatten();
        all.map(|(name, value)| columns! { owner: &s.key, name, value })
    });
    put_values(tx, values.collect()).await
}

fn subscriber(s: &Subscriber, now: Timestamp) -> Row<'_, 7> {
    columns! {
        id: SubscriberId::new(),
        key: &s.key,
        address: &s.address,
        name: s.name.as_deref(),
        locale: &s.locale,
        zone: &s.zone,
        created_at: now,
    }
}

fn people<'a>(of: impl Iterator<Item = &'a Subscriber>) -> Vec<Row<'a, 5>> {
    of.map(|s| columns! { key: &s.key, address: &s.address, name: s.name.as_deref(), locale: &s.locale, zone: &s.zone })
        .collect()
}

async fn put_values(tx: &mut Tx, values: Vec<Row<'_, 3>>) -> Result<(), StoreError> {
    if values.is_empty() {
        return Ok(());
    }
    exec!(tx, IMPORT_ATTRIBUTES, json(values)).map(drop)
}

/// What the subscribers of some attributes have under their names.
///
/// # Errors
/// When the database fails.
pub async fn attributes(tx: &mut Tx, of: &[&Attribute]) -> Result<Vec<Attribute>, StoreError> {
    let found = rows!(tx, (String, String, String), ATTRIBUTES_NOW, names(of.iter().copied()))?;
    let mut groups = HashMap::<(String, String), BTreeSet<String>>::new();
    for (subscriber, name, value) in found {
        groups.entry((subscriber, name)).or_default().insert(value);
    }
    Ok(groups.into_iter().map(|((subscriber, name), values)| Attribute { subscriber, name, values }).collect())
}

/// Writes attributes: the values given are all there are under the name.
///
/// # Errors
/// When the database fails.
pub async fn put_attributes(tx: &mut Tx, of: &[Change<Attribute>]) -> Result<(), StoreError> {
    exec!(tx, FORGET_ATTRIBUTES, names(replaced(of)))?;
    let values = of.iter().flat_map(|Change { row: a, .. }| {
        a.values.iter().map(|value| columns! { owner: &a.subscriber, name: &a.name, value })
    });
    put_values(tx, values.collect()).await
}

fn names<'a>(of: impl Iterator<Item = &'a Attribute>) -> String {
    json(of.map(|a| columns! { subscriber: &a.subscriber, name: &a.name }))
}
