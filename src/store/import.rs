//! Many components and connections at once: what there is of a batch, and the writing of what differs. Rows name
//! each other by key, since that is what a file knows. People are in `import_people`.

use super::rows::{Row, json};
use super::{StoreError, Tx};
use crate::domain::id::{ComponentId, ConnectionId};
use std::collections::{BTreeSet, HashMap, HashSet};

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

/// Each key once, in order.
pub(super) fn keys<'a>(keys: impl Iterator<Item = &'a str>) -> String {
    json(keys.collect::<BTreeSet<_>>().into_iter().map(|key| columns! { key }))
}

pub(super) fn grouped<T: Ord>(pairs: impl IntoIterator<Item = (String, T)>) -> HashMap<String, BTreeSet<T>> {
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
    let list = of.iter().map(|Change { row: c, .. }| {
        columns! {
            id: ComponentId::new().0,
            key: &c.key,
            name: &c.name,
            group_key: c.group.as_deref(),
        }
    });
    let now = tx.now();
    exec!(tx, IMPORT_COMPONENTS, json(list), now)?;
    exec!(tx, FORGET_DEPENDENCIES, keys(replaced(of).map(|c| c.key.as_str())))?;
    let members = of.iter().flat_map(|c| members(&c.row.key, &c.row.depends_on));
    exec!(tx, IMPORT_DEPENDENCIES, json(members)).map(drop)
}

pub(super) fn replaced<R>(of: &[Change<R>]) -> impl Iterator<Item = &R> {
    of.iter().filter(|change| !change.new).map(|change| &change.row)
}

fn members<'a>(owner: &'a str, of: &'a BTreeSet<String>) -> impl Iterator<Item = Row<'a, 2>> {
    of.iter().map(move |member| columns! { owner, member })
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
    let list = of.iter().map(|Change { row: c, .. }| {
        columns! {
            id: ConnectionId::new().0,
            key: &c.key,
            component: &c.component,
            name: &c.name,
            link: c.link.as_deref(),
        }
    });
    let now = tx.now();
    let there = keys(replaced(of).map(|c| c.key.as_str()));
    super::ingest::lock_connections(tx, &there).await?;
    exec!(tx, IMPORT_CONNECTIONS, json(list), now)?;
    exec!(tx, FORGET_CONNECTION_SUBSCRIBERS, &there)?;
    let members = of.iter().flat_map(|c| members(&c.row.key, &c.row.subscribers));
    exec!(tx, IMPORT_CONNECTION_SUBSCRIBERS, json(members)).map(drop)
}
