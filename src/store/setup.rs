//! Components, connections, subscribers and subscriptions, one by one.

use super::{StoreError, Tx};
use crate::domain::id::{ComponentId, ConnectionId, SubscriberId, SubscriptionId};
use crate::domain::incident::Impact;
use crate::domain::subscription::Events;

statements! {
    /// Microseconds by PostgreSQL's clock; SQLite is never asked (its time is this machine's).
    DATABASE_TIME = super::Sql::differs(
        "SELECT CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
        "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
    );
    /// The same, and whether the session takes writes.
    SESSION = super::Sql::differs(
        joined!(DATABASE_TIME.sqlite, ", 1"),
        joined!(DATABASE_TIME.postgres, ", current_setting('transaction_read_only') = 'off'"),
    );
    PUT_COMPONENT = super::Sql::same(
        "INSERT INTO component (id, key, name, group_key, created_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (key) DO UPDATE SET name = excluded.name, group_key = excluded.group_key",
    );
    CLEAR_DEPENDENCIES = super::Sql::same("DELETE FROM component_dependency WHERE component_id = $1");
    ADD_DEPENDENCY = super::Sql::same(
        "INSERT INTO component_dependency (component_id, depends_on) VALUES ($1, $2) ON CONFLICT DO NOTHING",
    );
    COMPONENT_ID = super::Sql::same("SELECT id FROM component WHERE key = $1");
    PUT_CONNECTION = super::Sql::same(
        "INSERT INTO connection (id, key, component_id, name, link, created_at) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (key) DO UPDATE SET name = excluded.name, link = excluded.link",
    );
    CONNECTION_ID = super::Sql::same("SELECT id, component_id FROM connection WHERE key = $1");
    CLEAR_CONNECTION_SUBSCRIBERS = super::Sql::same("DELETE FROM connection_subscriber WHERE connection_id = $1");
    ADD_CONNECTION_SUBSCRIBER = super::Sql::same(
        "INSERT INTO connection_subscriber (connection_id, subscriber_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
    );
    PUT_SUBSCRIBER = super::Sql::same(
        "INSERT INTO subscriber (id, key, address, name, locale, zone, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (key) DO UPDATE SET address = excluded.address, name = excluded.name,
             locale = excluded.locale, zone = excluded.zone",
    );
    SUBSCRIBER_ID = super::Sql::same("SELECT id FROM subscriber WHERE key = $1");
    CLEAR_ATTRIBUTES = super::Sql::same("DELETE FROM subscriber_attribute WHERE subscriber_id = $1");
    ADD_ATTRIBUTE = super::Sql::same(
        "INSERT INTO subscriber_attribute (subscriber_id, name, value) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    );
    SUBSCRIPTION = super::Sql::same(
        "SELECT id FROM subscription WHERE subscriber_id = $1 AND component_id IS NOT DISTINCT FROM $2
            AND group_key IS NOT DISTINCT FROM $3",
    );
    ADD_SUBSCRIPTION = super::Sql::same(
        "INSERT INTO subscription (id, subscriber_id, component_id, group_key, events, least_impact, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    );
    // One that was not in force, or asked for nothing, counts as subscribed anew.
    CHANGE_SUBSCRIPTION = super::Sql::same(
        "UPDATE subscription SET events = $2, least_impact = $3,
            created_at = CASE WHEN (ended_at IS NOT NULL OR events = 'none') AND CAST($4 AS BIGINT) IS NULL AND $2 <> 'none'
                THEN $5 ELSE created_at END,
            ended_at = CASE WHEN $4 IS NULL THEN NULL ELSE COALESCE(ended_at, $4) END
         WHERE id = $1",
    );
}

/// A component as it is put.
#[derive(Clone, Debug)]
pub struct ComponentRow {
    /// The caller's key.
    pub key: String,
    /// Its name for people.
    pub name: String,
    /// The group it belongs to.
    pub group: Option<String>,
    /// The components it cannot work without.
    pub depends_on: Vec<ComponentId>,
}

/// A connection as it is put.
#[derive(Clone, Debug)]
pub struct ConnectionRow {
    /// The caller's key.
    pub key: String,
    /// Its component; cannot change later.
    pub component: ComponentId,
    /// Its name for people.
    pub name: String,
    /// Where the customer can act on it.
    pub link: Option<String>,
    /// Who is told about it.
    pub subscribers: Vec<SubscriberId>,
}

/// A subscriber as it is put.
#[derive(Clone, Debug)]
pub struct SubscriberRow {
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
    /// Attributes, a name may have several values.
    pub attributes: Vec<(String, String)>,
}

/// A subscription as it is put: to a component, to a group, or to everything.
#[derive(Clone, Debug)]
pub struct SubscriptionRow {
    /// Whose it is.
    pub subscriber: SubscriberId,
    /// The component.
    pub component: Option<ComponentId>,
    /// Or the group of components.
    pub group: Option<String>,
    /// Which news it asks for.
    pub events: Events,
    /// Incidents below this impact are not asked for.
    pub least_impact: Impact,
    /// Whether it is in force.
    pub active: bool,
}

/// The identifier of a component by its key.
///
/// # Errors
/// When the database fails.
pub async fn component_id(tx: &mut Tx, key: &str) -> Result<Option<ComponentId>, StoreError> {
    Ok(first!(tx, (ComponentId,), COMPONENT_ID, key)?.map(|row| row.0))
}

/// The identifiers of a connection and its component by the connection's key.
///
/// # Errors
/// When the database fails.
pub async fn connection_id(tx: &mut Tx, key: &str) -> Result<Option<(ConnectionId, ComponentId)>, StoreError> {
    first!(tx, (ConnectionId, ComponentId), CONNECTION_ID, key)
}

/// The identifier of a subscriber by its key.
///
/// # Errors
/// When the database fails.
pub async fn subscriber_id(tx: &mut Tx, key: &str) -> Result<Option<SubscriberId>, StoreError> {
    Ok(first!(tx, (SubscriberId,), SUBSCRIBER_ID, key)?.map(|row| row.0))
}

/// Puts a component.
///
/// # Errors
/// When the database fails.
pub async fn put_component(tx: &mut Tx, row: &ComponentRow) -> Result<ComponentId, StoreError> {
    let now = tx.now();
    exec!(tx, PUT_COMPONENT, ComponentId::new(), &row.key, &row.name, row.group.as_deref(), now)?;
    let id = value!(tx, ComponentId, COMPONENT_ID, &row.key)?;
    exec!(tx, CLEAR_DEPENDENCIES, id)?;
    for depends_on in &row.depends_on {
        exec!(tx, ADD_DEPENDENCY, id, *depends_on)?;
    }
    Ok(id)
}

/// Puts a connection with the people who are told about it.
///
/// # Errors
/// When the database fails.
pub async fn put_connection(tx: &mut Tx, row: &ConnectionRow) -> Result<ConnectionId, StoreError> {
    let now = tx.now();
    exec!(tx, PUT_CONNECTION, ConnectionId::new(), &row.key, row.component, &row.name, row.link.as_deref(), now)?;
    let (id, _) = on_db!(tx, CONNECTION_ID, query_as::<(ConnectionId, ComponentId)>, fetch_one, &row.key)?;
    exec!(tx, CLEAR_CONNECTION_SUBSCRIBERS, id)?;
    for subscriber in &row.subscribers {
        exec!(tx, ADD_CONNECTION_SUBSCRIBER, id, *subscriber)?;
    }
    Ok(id)
}

/// Puts a subscriber with attributes.
///
/// # Errors
/// When the database fails.
pub async fn put_subscriber(tx: &mut Tx, row: &SubscriberRow) -> Result<SubscriberId, StoreError> {
    let now = tx.now();
    exec!(
        tx,
        PUT_SUBSCRIBER,
        SubscriberId::new(),
        &row.key,
        &row.address,
        row.name.as_deref(),
        &row.locale,
        &row.zone,
        now
    )?;
    let id = value!(tx, SubscriberId, SUBSCRIBER_ID, &row.key)?;
    exec!(tx, CLEAR_ATTRIBUTES, id)?;
    for (name, value) in &row.attributes {
        exec!(tx, ADD_ATTRIBUTE, id, name, value)?;
    }
    Ok(id)
}

/// Puts or ends a subscription; nothing when there is none to end.
///
/// # Errors
/// When the database fails.
pub async fn put_subscription(tx: &mut Tx, row: &SubscriptionRow) -> Result<Option<SubscriptionId>, StoreError> {
    let now = tx.now();
    let ended = (!row.active).then_some(now);
    let group = row.group.as_deref();
    let Some((id,)) = first!(tx, (SubscriptionId,), SUBSCRIPTION, row.subscriber, row.component, group)? else {
        if !row.active {
            return Ok(None);
        }
        let id = SubscriptionId::new();
        exec!(tx, ADD_SUBSCRIPTION, id, row.subscriber, row.component, group, row.events, row.least_impact, now)?;
        return Ok(Some(id));
    };
    exec!(tx, CHANGE_SUBSCRIPTION, id, row.events, row.least_impact, ended, now)?;
    Ok(Some(id))
}
