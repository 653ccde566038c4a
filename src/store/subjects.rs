//! Who and what deliveries are about, as people read it: subscribers, connections, incidents, notices,
//! signals and recoveries.

use super::browse::row;
use super::{StoreError, Tx};
use crate::domain::class::Class;
use crate::domain::connection::{By, Fault, What};
use crate::domain::delivery::{Reason, State};
use crate::domain::id::{
    ComponentId, ConnectionId, IncidentId, NoticeId, RecoveryId, SignalId, SubscriberId, SubscriptionId,
};
use crate::domain::incident::{ComponentStatus, Impact, Phase};
use crate::domain::subscription::Events;
use crate::domain::time::Timestamp;
use serde::Serialize;
use uuid::Uuid;

macro_rules! connections {
    ($which:literal) => {
        super::Sql::same(concat!(
            "SELECT c.id, c.key, c.name, k.key AS component, k.down_since AS component_down_since, c.fault, c.episode,
                c.cleared, c.own_fault_episode, c.failed_at, c.broken_since, c.well_as_of, c.cleared_by, c.recovering,
                CASE WHEN c.cleared < c.episode AND (c.own_fault_episode >= c.episode OR NOT EXISTS (
                    SELECT 1 FROM episode e WHERE e.component_id = c.component_id AND e.covers_connections
                    AND c.failed_at BETWEEN e.covers_from AND e.covers_until)) THEN TRUE ELSE FALSE END AS broken
             FROM connection c JOIN component k ON k.id = c.component_id ",
            $which
        ))
    };
}

statements! {
    SUBSCRIBERS = super::Sql::same(
        "SELECT id, key, address, name, locale, zone, created_at FROM subscriber
         WHERE id = $1 OR key = $2 OR lower(address) = lower($3) ORDER BY id",
    );
    // Who had an address before.
    FORMERLY = super::Sql::same(
        "SELECT id, key, address, name, locale, zone, created_at FROM subscriber
         WHERE id IN (SELECT subscriber_id FROM former_address WHERE lower(address) = lower($1)) ORDER BY id",
    );
    // What is in force comes first, and of that what is widest.
    SUBSCRIPTIONS_OF = super::Sql::same(
        "SELECT s.id, c.key AS component, s.group_key, s.events, s.least_impact, s.created_at, s.ended_at
         FROM subscription s LEFT JOIN component c ON c.id = s.component_id WHERE s.subscriber_id = $1
         ORDER BY s.ended_at IS NOT NULL, c.key IS NOT NULL, s.group_key IS NOT NULL, c.key, s.group_key LIMIT $2",
    );
    // SQLite and PostgreSQL both answer three index look-ups here, not a scan.
    CONNECTION = connections!("WHERE c.id = $1 OR c.key = $2 ORDER BY c.id <> $1");
    CONNECTIONS_OF = connections!(
        "JOIN connection_subscriber s ON s.connection_id = c.id WHERE s.subscriber_id = $1 ORDER BY broken DESC, c.key LIMIT $2"
    );
    HELD_BY = super::Sql::same(
        "SELECT (SELECT COUNT(*) FROM connection_subscriber WHERE subscriber_id = $1),
            (SELECT COUNT(*) FROM subscription WHERE subscriber_id = $1)",
    );
    // The connection's own, and the component's: a component may have had a million of its connections recover.
    RECOVERIES = super::Sql::same(
        "SELECT r.id, k.key AS component, r.connection_id, r.episode, r.recovered_by, r.covers_from, r.covers_until,
            r.committed_at, r.confirm_by, r.confirmed_at, r.swept_at
         FROM (SELECT id FROM (SELECT id FROM recovery WHERE connection_id = $1 ORDER BY id DESC LIMIT $2) AS own
            UNION ALL SELECT id FROM (SELECT id FROM recovery WHERE connection_id IS NULL
                AND component_id = (SELECT c.component_id FROM connection c WHERE c.id = $1) ORDER BY id DESC LIMIT $2) AS shared) AS j
         JOIN recovery r ON r.id = j.id JOIN component k ON k.id = r.component_id ORDER BY r.id DESC LIMIT $2",
    );
    COMPONENT = super::Sql::same(
        "SELECT id, key, name, episode, down_since, up_since FROM component WHERE id = $1 OR key = $2 ORDER BY id <> $1",
    );
    INCIDENT = super::Sql::same(
        "SELECT id, key, title, phase, impact, revision, started_at, updated_at, resolved_at
         FROM incident WHERE id = $1 OR key = $2 ORDER BY id <> $1",
    );
    INCIDENT_NOTICES = super::Sql::same(
        "SELECT id, kind, class, source, received_at, observed_at, incident_id, phase, deliver, outcome, reason, repeats_id, payload
         FROM notice WHERE incident_id = $1 ORDER BY revision DESC LIMIT $2",
    );
    INCIDENT_MAILS = super::Sql::same(
        "SELECT class, state, COUNT(*) AS mails FROM (SELECT class, state FROM delivery WHERE incident_id = $1
            UNION ALL SELECT class, state FROM archived_delivery WHERE incident_id = $1) AS d GROUP BY class, state ORDER BY class, state",
    );
    NOTICE_MAILS = super::Sql::same(
        "SELECT class, state, COUNT(*) AS mails FROM (SELECT class, state FROM delivery WHERE notice_id = $1
            UNION ALL SELECT class, state FROM archived_delivery WHERE notice_id = $1) AS d GROUP BY class, state ORDER BY class, state",
    );
    COMPONENTS_OF = super::Sql::same(
        "SELECT k.key, k.name, i.status, i.changed_at FROM incident_component i JOIN component k ON k.id = i.component_id
         WHERE i.incident_id = $1 ORDER BY k.key",
    );
    EPISODES = super::Sql::same(
        "SELECT e.n, e.since, e.ended_at, e.covers_connections, e.covers_from, e.covers_until, i.key AS incident
         FROM episode e LEFT JOIN incident i ON i.id = e.incident_id WHERE e.component_id = $1 ORDER BY e.n DESC LIMIT $2",
    );
    SIGNALS_OF_COMPONENT = super::Sql::same(
        "SELECT s.id, k.key AS component, CAST(NULL AS TEXT) AS connection, s.what, s.fault, s.recovered_by, s.source, s.sequence,
            s.observed_at, s.received_at, s.notice_id, s.outcome
         FROM signal s JOIN component k ON k.id = s.component_id
         WHERE s.component_id = $1 AND s.connection_id IS NULL ORDER BY s.id DESC LIMIT $2",
    );
    NOTICE = super::Sql::same(
        "SELECT id, kind, class, source, received_at, observed_at, incident_id, phase, deliver, outcome, reason, repeats_id, payload
         FROM notice WHERE id = $1",
    );
    SIGNAL = super::Sql::same(
        "SELECT s.id, k.key AS component, c.key AS connection, s.what, s.fault, s.recovered_by, s.source, s.sequence,
            s.observed_at, s.received_at, s.notice_id, s.outcome
         FROM signal s JOIN component k ON k.id = s.component_id LEFT JOIN connection c ON c.id = s.connection_id
         WHERE s.id = $1",
    );
}

row!(/** A person who gets mail. */ Subscriber {
    /** The id. */ id: SubscriberId,
    /** The caller's key. */ key: String,
    /** The address. */ address: String,
    /** The person's name. */ name: Option<String>,
    /** The language. */ locale: String,
    /** The time zone. */ zone: String,
    /** Since when it is known. */ created_at: Timestamp,
});

row!(/** What a subscriber follows: a component, a group, or everything. */ Subscription {
    /** The id. */ id: SubscriptionId,
    /** The component's key. */ component: Option<String>,
    /** The group. */ #[serde(rename = "group")] group_key: Option<String>,
    /** Which news it asks for. */ events: Events,
    /** Incidents below this impact are not asked for. */ least_impact: Impact,
    /** Since when it is in force. */ created_at: Timestamp,
    /** When it was ended. */ ended_at: Option<Timestamp>,
});

row!(/** A connection as it stands. */ Connection {
    /** The id. */ id: ConnectionId,
    /** The caller's key. */ key: String,
    /** The name for people. */ name: String,
    /** Its component's key. */ component: String,
    /** Since when the component is down. */ component_down_since: Option<Timestamp>,
    /** The kind of fault. */ fault: Fault,
    /** How often it broke. */ episode: i64,
    /** Up to which outage it is recorded as recovered. */ cleared: i64,
    /** The newest outage proven to be its own fault. */ own_fault_episode: i64,
    /** When the newest outage was observed. */ failed_at: Option<Timestamp>,
    /** Since when it was truly broken in it. */ broken_since: Option<Timestamp>,
    /** When it was last seen well. */ well_as_of: Option<Timestamp>,
    /** Who cleared the newest cleared outage. */ cleared_by: Option<By>,
    /** It is being brought back. */ recovering: bool,
    /** It is broken now, as far as we know. */ broken: bool,
});

row!(/** A recovery that touched a connection. */ Recovery {
    /** The id. */ id: RecoveryId,
    /** The component's key. */ component: String,
    /** The connection; none for a component's recovery. */ connection_id: Option<ConnectionId>,
    /** The outage that ended. */ episode: i64,
    /** Who did it. */ recovered_by: By,
    /** The first failure covered. */ covers_from: Option<Timestamp>,
    /** The last failure covered. */ covers_until: Option<Timestamp>,
    /** When it took effect. */ committed_at: Timestamp,
    /** When the connections must have confirmed. */ confirm_by: Option<Timestamp>,
    /** When those that had not were dealt with. */ confirmed_at: Option<Timestamp>,
    /** When every mail about it was dealt with. */ swept_at: Option<Timestamp>,
});

row!(/** A component as it stands. */ Component {
    /** The id. */ id: ComponentId,
    /** The caller's key. */ key: String,
    /** The name for people. */ name: String,
    /** How many outages it had. */ episode: i64,
    /** Since when it is down. */ down_since: Option<Timestamp>,
    /** When its newest ended outage ended. */ up_since: Option<Timestamp>,
});

row!(/** An incident as it stands. */ Incident {
    /** The id. */ id: IncidentId,
    /** The caller's key. */ key: String,
    /** The title. */ title: String,
    /** Where it stands. */ phase: Phase,
    /** How bad it is. */ impact: Impact,
    /** How many updates it had. */ revision: i64,
    /** When it truly began. */ started_at: Timestamp,
    /** When its newest update was posted. */ updated_at: Timestamp,
    /** When it was resolved. */ resolved_at: Option<Timestamp>,
});

row!(/** What was said in a notice, and what became of it. */ Notice {
    /** The id. */ id: NoticeId,
    /** `incident`, `action_required` or `free`. */ kind: String,
    /** The class of its mails. */ class: Class,
    /** Who said it. */ source: String,
    /** When it came in. */ received_at: Timestamp,
    /** When it was observed. */ observed_at: Timestamp,
    /** The incident. */ incident_id: Option<IncidentId>,
    /** The incident's phase. */ phase: Option<Phase>,
    /** Whether it mails anybody. */ deliver: bool,
    /** What became of it. */ outcome: String,
    /** Why it mailed nobody, or why its mails wait. */ reason: Option<Reason>,
    /** The notice that said the same before. */ repeats_id: Option<NoticeId>,
    /** What was said, as JSON. */ #[serde(serialize_with = "as_json")] payload: String,
});

row!(/** A signal, and what became of it. */ Signal {
    /** The id. */ id: SignalId,
    /** The component's key. */ component: String,
    /** The connection's key. */ connection: Option<String>,
    /** What happened. */ what: What,
    /** Of a failure: its kind. */ fault: Option<Fault>,
    /** Of a recovery: who did it. */ recovered_by: Option<By>,
    /** Who said it. */ source: String,
    /** The source's running number. */ sequence: Option<i64>,
    /** When it was observed. */ observed_at: Timestamp,
    /** When it came in. */ received_at: Timestamp,
    /** The notice that supplied its text. */ notice_id: Option<NoticeId>,
    /** What became of it. */ outcome: String,
});

row!(/** A component of an incident. */ Affected {
    /** The component's key. */ key: String,
    /** Its name for people. */ name: String,
    /** How it is doing. */ status: ComponentStatus,
    /** Since when. */ changed_at: Timestamp,
});

row!(/** An outage of a component. */ Episode {
    /** Its number. */ n: i64,
    /** Since when. */ since: Timestamp,
    /** Until when. */ ended_at: Option<Timestamp>,
    /** Its recovery said that the connections are well too. */ covers_connections: bool,
    /** The first failure covered. */ covers_from: Option<Timestamp>,
    /** The last failure covered. */ covers_until: Option<Timestamp>,
    /** The key of the incident that reported it. */ incident: Option<String>,
});

row!(/** How many mails of a class stand in a state. */ Count {
    /** The class. */ class: Class,
    /** The state. */ state: State,
    /** How many. */ mails: i64,
});

fn as_json<S: serde::Serializer>(text: &str, s: S) -> Result<S::Ok, S::Error> {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(value) => value.serialize(s),
        Err(_) => s.serialize_str(text),
    }
}

/// How something is named from outside: by its id, or by its key (of a subscriber also by the address).
#[derive(Clone, Copy, Debug)]
pub enum Name<'a> {
    /// By id.
    Id(Uuid),
    /// By id, or else by key: a key may look like an id.
    Either(Uuid, &'a str),
    /// By key.
    Key(&'a str),
    /// By address.
    Address(&'a str),
}

impl<'a> Name<'a> {
    /// Empty texts are nobody's key or address, and the nil id is nobody's: what is not asked for finds nothing.
    const fn parts(self) -> (Uuid, &'a str, &'a str) {
        match self {
            Self::Id(id) => (id, "", ""),
            Self::Either(id, key) => (id, key, ""),
            Self::Key(key) => (Uuid::nil(), key, ""),
            Self::Address(address) => (Uuid::nil(), "", address),
        }
    }
}

/// Subscribers by name; several may share an address.
///
/// # Errors
/// When the database fails.
pub async fn subscribers(tx: &mut Tx, name: Name<'_>) -> Result<Vec<Subscriber>, StoreError> {
    let (id, key, address) = name.parts();
    rows!(tx, Subscriber, SUBSCRIBERS, id, key, address)
}

/// Subscribers who once had an address.
///
/// # Errors
/// When the database fails.
pub async fn formerly(tx: &mut Tx, address: &str) -> Result<Vec<Subscriber>, StoreError> {
    rows!(tx, Subscriber, FORMERLY, address)
}

/// A connection by name.
///
/// # Errors
/// When the database fails.
pub async fn connection(tx: &mut Tx, name: Name<'_>) -> Result<Option<Connection>, StoreError> {
    let (id, key, _) = name.parts();
    first!(tx, Connection, CONNECTION, id, key)
}

/// The connections of a subscriber, broken ones first, then by key.
///
/// # Errors
/// When the database fails.
pub async fn connections_of(tx: &mut Tx, of: SubscriberId, limit: i64) -> Result<Vec<Connection>, StoreError> {
    rows!(tx, Connection, CONNECTIONS_OF, of, limit)
}

/// How many connections and how many subscriptions, ended ones too, a subscriber has.
///
/// # Errors
/// When the database fails.
pub async fn held_by(tx: &mut Tx, of: SubscriberId) -> Result<(i64, i64), StoreError> {
    Ok(first!(tx, (i64, i64), HELD_BY, of)?.unwrap_or_default())
}

/// What a subscriber follows, everything and groups first, and what they did.
///
/// # Errors
/// When the database fails.
pub async fn subscriptions_of(tx: &mut Tx, of: SubscriberId, limit: i64) -> Result<Vec<Subscription>, StoreError> {
    rows!(tx, Subscription, SUBSCRIPTIONS_OF, of, limit)
}

/// The recoveries of a connection and of its component, newest first.
///
/// # Errors
/// When the database fails.
pub async fn recoveries(tx: &mut Tx, of: ConnectionId, limit: i64) -> Result<Vec<Recovery>, StoreError> {
    rows!(tx, Recovery, RECOVERIES, of, limit)
}

/// A component by name.
///
/// # Errors
/// When the database fails.
pub async fn component(tx: &mut Tx, name: Name<'_>) -> Result<Option<Component>, StoreError> {
    let (id, key, _) = name.parts();
    first!(tx, Component, COMPONENT, id, key)
}

/// An incident by name.
///
/// # Errors
/// When the database fails.
pub async fn incident(tx: &mut Tx, name: Name<'_>) -> Result<Option<Incident>, StoreError> {
    let (id, key, _) = name.parts();
    first!(tx, Incident, INCIDENT, id, key)
}

/// The updates of an incident, newest first.
///
/// # Errors
/// When the database fails.
pub async fn incident_notices(tx: &mut Tx, of: IncidentId, limit: i64) -> Result<Vec<Notice>, StoreError> {
    rows!(tx, Notice, INCIDENT_NOTICES, of, limit)
}

/// How the mails of an incident stand.
///
/// # Errors
/// When the database fails.
pub async fn incident_mails(tx: &mut Tx, of: IncidentId) -> Result<Vec<Count>, StoreError> {
    rows!(tx, Count, INCIDENT_MAILS, of)
}

/// How the mails of a notice stand.
///
/// # Errors
/// When the database fails.
pub async fn notice_mails(tx: &mut Tx, of: NoticeId) -> Result<Vec<Count>, StoreError> {
    rows!(tx, Count, NOTICE_MAILS, of)
}

/// What an incident affects, by key.
///
/// # Errors
/// When the database fails.
pub async fn components_of(tx: &mut Tx, of: IncidentId) -> Result<Vec<Affected>, StoreError> {
    rows!(tx, Affected, COMPONENTS_OF, of)
}

/// The outages of a component, newest first.
///
/// # Errors
/// When the database fails.
pub async fn episodes(tx: &mut Tx, of: ComponentId, limit: i64) -> Result<Vec<Episode>, StoreError> {
    rows!(tx, Episode, EPISODES, of, limit)
}

/// What was said about a component itself, newest first.
///
/// # Errors
/// When the database fails.
pub async fn signals_of_component(tx: &mut Tx, of: ComponentId, limit: i64) -> Result<Vec<Signal>, StoreError> {
    rows!(tx, Signal, SIGNALS_OF_COMPONENT, of, limit)
}

/// A notice.
///
/// # Errors
/// When the database fails.
pub async fn notice(tx: &mut Tx, id: NoticeId) -> Result<Option<Notice>, StoreError> {
    first!(tx, Notice, NOTICE, id)
}

/// A signal.
///
/// # Errors
/// When the database fails.
pub async fn signal(tx: &mut Tx, id: SignalId) -> Result<Option<Signal>, StoreError> {
    first!(tx, Signal, SIGNAL, id)
}
