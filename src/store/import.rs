//! Many components, connections, subscribers, subscriptions and attributes at once: what there is of a batch, and
//! the writing of what differs. Rows name each other by key, since that is what a file knows.

use super::ingest::json;
use super::{StoreError, Tx};
use crate::domain::id::{ComponentId, ConnectionId, SubscriberId, SubscriptionId};
use serde::Serialize;
use std::collections::{BTreeSet, HashMap, HashSet};
use uuid::fmt::Simple;

statements! {
    KNOWN_COMPONENTS = over_rows!("SELECT j.key FROM", [key text], "JOIN component c ON c.key = j.key");
    KNOWN_SUBSCRIBERS = over_rows!("SELECT j.key FROM", [key text], "JOIN subscriber s ON s.key = j.key");
    COMPONENTS_NOW = over_rows!(
        "SELECT c.key, c.name, c.group_key FROM", [key text], "JOIN component c ON c.key = j.key"
    );
    DEPENDENCIES_NOW = over_rows!(
        "SELECT c.key, d.key FROM", [key text],
        "JOIN component c ON c.key = j.key JOIN component_dependency x ON x.component_id = c.id
         JOIN component d ON d.id = x.depends_on"
    );
    IMPORT_COMPONENTS = over_rows!(
        "INSERT INTO component (id, key, name, group_key, created_at)
         SELECT j.id, j.key, j.name, j.group_key, CAST($2 AS BIGINT) FROM",
        [id uuid, key text, name text, group_key text],
        "WHERE TRUE ON CONFLICT (key) DO UPDATE SET name = excluded.name, group_key = excluded.group_key"
    );
    FORGET_DEPENDENCIES = over_rows!(
        "DELETE FROM component_dependency WHERE component_id IN (SELECT c.id FROM", [key text],
        "JOIN component c ON c.key = j.key)"
    );
    IMPORT_DEPENDENCIES = over_rows!(
        "INSERT INTO component_dependency (component_id, depends_on) SELECT c.id, d.id FROM", [owner text, member text],
        "JOIN component c ON c.key = j.owner JOIN component d ON d.key = j.member WHERE TRUE ON CONFLICT DO NOTHING"
    );
    CONNECTIONS_NOW = over_rows!(
        "SELECT x.key, c.key, x.name, x.link FROM", [key text],
        "JOIN connection x ON x.key = j.key JOIN component c ON c.id = x.component_id"
    );
    CONNECTION_SUBSCRIBERS_NOW = over_rows!(
        "SELECT x.key, s.key FROM", [key text],
        "JOIN connection x ON x.key = j.key JOIN connection_subscriber o ON o.connection_id = x.id
         JOIN subscriber s ON s.id = o.subscriber_id"
    );
    IMPORT_CONNECTIONS = over_rows!(
        "INSERT INTO connection (id, key, component_id, name, link, created_at)
         SELECT j.id, j.key, c.id, j.name, j.link, CAST($2 AS BIGINT) FROM",
        [id uuid, key text, component text, name text, link text],
        "JOIN component c ON c.key = j.component WHERE TRUE
         ON CONFLICT (key) DO UPDATE SET name = excluded.name, link = excluded.link"
    );
    FORGET_CONNECTION_SUBSCRIBERS = over_rows!(
        "DELETE FROM connection_subscriber WHERE connection_id IN (SELECT x.id FROM", [key text],
        "JOIN connection x ON x.key = j.key)"
    );
    IMPORT_CONNECTION_SUBSCRIBERS = over_rows!(
        "INSERT INTO connection_subscriber (connection_id, subscriber_id) SELECT x.id, s.id FROM",
        [owner text, member text],
        "JOIN connection x ON x.key = j.owner JOIN subscriber s ON s.key = j.member WHERE TRUE ON CONFLICT DO NOTHING"
    );
    SUBSCRIBERS_NOW = over_rows!(
        "SELECT s.key, s.address, s.name, s.locale, s.zone FROM", [key text], "JOIN subscriber s ON s.key = j.key"
    );
    SUBSCRIBER_ATTRIBUTES_NOW = over_rows!(
        "SELECT s.key, a.name, a.value FROM", [key text],
        "JOIN subscriber s ON s.key = j.key JOIN subscriber_attribute a ON a.subscriber_id = s.id"
    );
    IMPORT_SUBSCRIBERS = over_rows!(
        "INSERT INTO subscriber (id, key, address, name, locale, zone, created_at)
         SELECT j.id, j.key, j.address, j.name, j.locale, j.zone, CAST($2 AS BIGINT) FROM",
        [id uuid, key text, address text, name text, locale text, zone text],
        "WHERE TRUE ON CONFLICT (key) DO UPDATE SET address = excluded.address, name = excluded.name,
             locale = excluded.locale, zone = excluded.zone"
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
    SUBSCRIPTIONS_NOW = over_rows!(
        "SELECT j.subscriber, j.component, x.ended_at IS NULL FROM", [subscriber text, component text],
        "JOIN subscriber s ON s.key = j.subscriber LEFT JOIN component c ON c.key = j.component
         JOIN subscription x ON x.subscriber_id = s.id
             AND (x.component_id = c.id OR (x.component_id IS NULL AND j.component IS NULL))"
    );
    IMPORT_SUBSCRIPTIONS = over_rows!(
        "INSERT INTO subscription (id, subscriber_id, component_id, created_at, ended_at)
         SELECT j.id, s.id, c.id, CAST($2 AS BIGINT), j.ended_at FROM",
        [id uuid, subscriber text, component text, ended_at bigint],
        "JOIN subscriber s ON s.key = j.subscriber LEFT JOIN component c ON c.key = j.component
         WHERE TRUE ON CONFLICT DO NOTHING"
    );
    CHANGE_SUBSCRIPTIONS = over_rows!(
        "UPDATE subscription SET ended_at = j.ended_at FROM", [subscriber text, component text, ended_at bigint],
        "JOIN subscriber s ON s.key = j.subscriber LEFT JOIN component c ON c.key = j.component
         WHERE subscription.subscriber_id = s.id
             AND (subscription.component_id = c.id OR (subscription.component_id IS NULL AND j.component IS NULL))"
    );
}

/// A row to write, and whether there was none by its key.
#[derive(Clone, Debug)]
pub struct Change<R> {
    /// The row.
    pub row: R,
    /// It was not there before.
    pub new: bool,
}

/// A component.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Component {
    /// The caller's key.
    pub key: String,
    /// Its name for people.
    pub name: String,
    /// The group it belongs to.
    pub group: Option<String>,
    /// The components it cannot work without, by key.
    pub depends_on: BTreeSet<String>,
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Connection {
    /// The caller's key.
    pub key: String,
    /// Its component, by key; cannot change later.
    pub component: String,
    /// Its name for people.
    pub name: String,
    /// Where the customer can act on it.
    pub link: Option<String>,
    /// Who is told about it, by key.
    pub subscribers: BTreeSet<String>,
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

/// A subscription.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subscription {
    /// The subscriber, by key.
    pub subscriber: String,
    /// The component, by key; none: everything.
    pub component: Option<String>,
    /// Whether it is in force.
    pub active: bool,
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

#[derive(Serialize)]
struct Key<'a> {
    key: &'a str,
}

#[derive(Serialize)]
struct Member<'a> {
    owner: &'a str,
    member: &'a str,
}

#[derive(Serialize)]
struct Value<'a> {
    owner: &'a str,
    name: &'a str,
    value: &'a str,
}

#[derive(Serialize)]
struct Named<'a> {
    subscriber: &'a str,
    name: &'a str,
}

#[derive(Serialize)]
struct Wish<'a> {
    id: Simple,
    subscriber: &'a str,
    component: Option<&'a str>,
    ended_at: Option<i64>,
}

/// Each key once, in order.
fn keys<'a>(keys: impl Iterator<Item = &'a str>) -> String {
    json(&keys.collect::<BTreeSet<_>>().into_iter().map(|key| Key { key }).collect::<Vec<_>>())
}

fn grouped<T: Ord>(pairs: impl IntoIterator<Item = (String, T)>) -> HashMap<String, BTreeSet<T>> {
    let mut groups = HashMap::<String, BTreeSet<T>>::new();
    for (owner, member) in pairs {
        groups.entry(owner).or_default().insert(member);
    }
    groups
}

/// Those of some component keys that there are.
///
/// # Errors
/// When the database fails.
pub async fn known_components(tx: &mut Tx, of: &HashSet<&str>) -> Result<Vec<String>, StoreError> {
    Ok(rows!(tx, (String,), KNOWN_COMPONENTS, keys(of.iter().copied()))?.into_iter().map(|row| row.0).collect())
}

/// Those of some subscriber keys that there are.
///
/// # Errors
/// When the database fails.
pub async fn known_subscribers(tx: &mut Tx, of: &HashSet<&str>) -> Result<Vec<String>, StoreError> {
    Ok(rows!(tx, (String,), KNOWN_SUBSCRIBERS, keys(of.iter().copied()))?.into_iter().map(|row| row.0).collect())
}

/// The components that have the keys of some.
///
/// # Errors
/// When the database fails.
pub async fn components(tx: &mut Tx, of: &[&Component]) -> Result<Vec<Component>, StoreError> {
    let keys = keys(of.iter().map(|row| row.key.as_str()));
    let mut depends_on = grouped(rows!(tx, (String, String), DEPENDENCIES_NOW, &keys)?);
    let found = rows!(tx, (String, String, Option<String>), COMPONENTS_NOW, &keys)?;
    let row = |(key, name, group)| {
        let depends_on = depends_on.remove(&key).unwrap_or_default();
        Component { key, name, group, depends_on }
    };
    Ok(found.into_iter().map(row).collect())
}

/// Writes components. A component may depend on one written with it.
///
/// # Errors
/// When the database fails.
pub async fn put_components(tx: &mut Tx, of: &[Change<Component>]) -> Result<(), StoreError> {
    #[derive(Serialize)]
    struct Row<'a> {
        id: Simple,
        key: &'a str,
        name: &'a str,
        group_key: Option<&'a str>,
    }
    let list: Vec<_> = of
        .iter()
        .map(|Change { row: c, .. }| Row {
            id: ComponentId::new().0.simple(),
            key: &c.key,
            name: &c.name,
            group_key: c.group.as_deref(),
        })
        .collect();
    let now = tx.now();
    exec!(tx, IMPORT_COMPONENTS, json(&list), now)?;
    exec!(tx, FORGET_DEPENDENCIES, keys(replaced(of).map(|c| c.key.as_str())))?;
    let members = of.iter().flat_map(|c| members(&c.row.key, &c.row.depends_on));
    exec!(tx, IMPORT_DEPENDENCIES, json(&members.collect::<Vec<_>>())).map(drop)
}

fn replaced<R>(of: &[Change<R>]) -> impl Iterator<Item = &R> {
    of.iter().filter(|change| !change.new).map(|change| &change.row)
}

fn members<'a>(owner: &'a str, of: &'a BTreeSet<String>) -> impl Iterator<Item = Member<'a>> {
    of.iter().map(move |member| Member { owner, member })
}

/// The connections that have the keys of some.
///
/// # Errors
/// When the database fails.
pub async fn connections(tx: &mut Tx, of: &[&Connection]) -> Result<Vec<Connection>, StoreError> {
    let keys = keys(of.iter().map(|row| row.key.as_str()));
    let mut subscribers = grouped(rows!(tx, (String, String), CONNECTION_SUBSCRIBERS_NOW, &keys)?);
    let found = rows!(tx, (String, String, String, Option<String>), CONNECTIONS_NOW, &keys)?;
    let row = |(key, component, name, link)| {
        let subscribers = subscribers.remove(&key).unwrap_or_default();
        Connection { key, component, name, link, subscribers }
    };
    Ok(found.into_iter().map(row).collect())
}

/// Writes connections; the component of one that there was stays.
///
/// # Errors
/// When the database fails.
pub async fn put_connections(tx: &mut Tx, of: &[Change<Connection>]) -> Result<(), StoreError> {
    #[derive(Serialize)]
    struct Row<'a> {
        id: Simple,
        key: &'a str,
        component: &'a str,
        name: &'a str,
        link: Option<&'a str>,
    }
    let list: Vec<_> = of
        .iter()
        .map(|Change { row: c, .. }| Row {
            id: ConnectionId::new().0.simple(),
            key: &c.key,
            component: &c.component,
            name: &c.name,
            link: c.link.as_deref(),
        })
        .collect();
    let now = tx.now();
    exec!(tx, IMPORT_CONNECTIONS, json(&list), now)?;
    exec!(tx, FORGET_CONNECTION_SUBSCRIBERS, keys(replaced(of).map(|c| c.key.as_str())))?;
    let members = of.iter().flat_map(|c| members(&c.row.key, &c.row.subscribers));
    exec!(tx, IMPORT_CONNECTION_SUBSCRIBERS, json(&members.collect::<Vec<_>>())).map(drop)
}

/// The subscribers that have the keys of some, with attributes when one of these has them.
///
/// # Errors
/// When the database fails.
pub async fn subscribers(tx: &mut Tx, of: &[&Subscriber]) -> Result<Vec<Subscriber>, StoreError> {
    let keys = keys(of.iter().map(|row| row.key.as_str()));
    let mut attributes = match of.iter().any(|row| row.attributes.is_some()) {
        true => {
            let found = rows!(tx, (String, String, String), SUBSCRIBER_ATTRIBUTES_NOW, &keys)?;
            Some(grouped(found.into_iter().map(|(key, name, value)| (key, (name, value)))))
        }
        false => None,
    };
    let found = rows!(tx, (String, String, Option<String>, String, String), SUBSCRIBERS_NOW, &keys)?;
    let row = |(key, address, name, locale, zone)| {
        let attributes = attributes.as_mut().map(|all| all.remove(&key).unwrap_or_default());
        Subscriber { key, address, name, locale, zone, attributes }
    };
    Ok(found.into_iter().map(row).collect())
}

/// Writes subscribers; attributes that are not given stay.
///
/// # Errors
/// When the database fails.
pub async fn put_subscribers(tx: &mut Tx, of: &[Change<Subscriber>]) -> Result<(), StoreError> {
    #[derive(Serialize)]
    struct Row<'a> {
        id: Simple,
        key: &'a str,
        address: &'a str,
        name: Option<&'a str>,
        locale: &'a str,
        zone: &'a str,
    }
    let list: Vec<_> = of
        .iter()
        .map(|Change { row: s, .. }| Row {
            id: SubscriberId::new().0.simple(),
            key: &s.key,
            address: &s.address,
            name: s.name.as_deref(),
            locale: &s.locale,
            zone: &s.zone,
        })
        .collect();
    let now = tx.now();
    exec!(tx, IMPORT_SUBSCRIBERS, json(&list), now)?;
    let given = |s: &&Subscriber| s.attributes.is_some();
    let replaced: Vec<_> = replaced(of).filter(given).map(|s| Key { key: &s.key }).collect();
    if !replaced.is_empty() {
        exec!(tx, FORGET_SUBSCRIBER_ATTRIBUTES, json(&replaced))?;
    }
    let values = of.iter().flat_map(|Change { row: s, .. }| {
        let all = s.attributes.iter().flatten();
        all.map(|(name, value)| Value { owner: &s.key, name, value })
    });
    put_values(tx, values.collect()).await
}

async fn put_values(tx: &mut Tx, values: Vec<Value<'_>>) -> Result<(), StoreError> {
    if values.is_empty() {
        return Ok(());
    }
    exec!(tx, IMPORT_ATTRIBUTES, json(&values)).map(drop)
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
        a.values.iter().map(|value| Value { owner: &a.subscriber, name: &a.name, value })
    });
    put_values(tx, values.collect()).await
}

fn names<'a>(of: impl Iterator<Item = &'a Attribute>) -> String {
    json(&of.map(|a| Named { subscriber: &a.subscriber, name: &a.name }).collect::<Vec<_>>())
}

/// The subscriptions that there are of some.
///
/// # Errors
/// When the database fails.
pub async fn subscriptions(tx: &mut Tx, of: &[&Subscription]) -> Result<Vec<Subscription>, StoreError> {
    let found = rows!(tx, (String, Option<String>, bool), SUBSCRIPTIONS_NOW, wishes(of.iter().copied(), 0))?;
    let row = |(subscriber, component, active)| Subscription { subscriber, component, active };
    Ok(found.into_iter().map(row).collect())
}

/// Writes subscriptions.
///
/// # Errors
/// When the database fails.
pub async fn put_subscriptions(tx: &mut Tx, of: &[Change<Subscription>]) -> Result<(), StoreError> {
    let now = tx.now();
    let new = of.iter().filter(|change| change.new).map(|change| &change.row);
    exec!(tx, IMPORT_SUBSCRIPTIONS, wishes(new, now.0), now)?;
    exec!(tx, CHANGE_SUBSCRIPTIONS, wishes(replaced(of), now.0)).map(drop)
}

fn wishes<'a>(of: impl Iterator<Item = &'a Subscription>, now: i64) -> String {
    let wish = |s: &'a Subscription| Wish {
        id: SubscriptionId::new().0.simple(),
        subscriber: &s.subscriber,
        component: s.component.as_deref(),
        ended_at: (!s.active).then_some(now),
    };
    json(&of.map(wish).collect::<Vec<_>>())
}
