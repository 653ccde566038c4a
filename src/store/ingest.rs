//! Signals, and what they move: components and their outages, connections, plans, recoveries.

use super::parameter::keys;
use super::rows::{self, json};
use super::{StoreError, Tx};
use crate::domain::component::Component;
use crate::domain::connection::{By, Connection, Covering, Fault, What};
use crate::domain::id::{ComponentId, ConnectionId, IncidentId, NoticeId, PlanId, RecoveryId, SignalId};
use crate::domain::time::Timestamp;

statements! {
    COMPONENTS = over_rows!(
        "SELECT c.id, c.key, c.name, c.episode, c.down_since, c.failing_as_of, c.up_since, c.well_as_of, e.since AS last_since,
                COALESCE(e.covers_connections, FALSE) AS last_covered, c.overruled
         FROM", [key text],
        "JOIN component c ON c.key = j.key
         LEFT JOIN episode e ON e.component_id = c.id AND e.n = c.episode ORDER BY c.id"
    );
    // Whoever reads pins locks the component, so that opening and recovering are ordered against it.
    SHARE_COMPONENTS = super::Sql::differs(
        "SELECT 1 WHERE $1 IS NULL",
        "SELECT 1 FROM component WHERE key IN (SELECT j.key FROM json_to_recordset($1::json) AS j(key text)) ORDER BY id FOR SHARE",
    );
    LOCK_COMPONENTS = super::Sql::differs(
        "SELECT 1 WHERE $1 IS NULL",
        "SELECT 1 FROM component WHERE key IN (SELECT j.key FROM json_to_recordset($1::json) AS j(key text)) ORDER BY id FOR NO KEY UPDATE",
    );
    COMPONENT_KEYS = over_rows!(
        "SELECT DISTINCT k.key FROM", [key text],
        "JOIN connection c ON c.key = j.key JOIN component k ON k.id = c.component_id"
    );
    LOCK_CONNECTIONS = super::Sql::differs(
        "SELECT 1 WHERE $1 IS NULL",
        "SELECT 1 FROM connection WHERE key IN (SELECT j.key FROM json_to_recordset($1::json) AS j(key text)) ORDER BY id FOR NO KEY UPDATE",
    );
    CONNECTIONS = over_rows!(
        "SELECT c.id, c.key, k.key AS component_key, c.component_id, c.episode, c.cleared, c.own_fault_episode, c.asked_episode,
                c.fault, c.failed_at, c.broken_since, c.failing_as_of, c.well_as_of, c.cleared_by, c.recovering, q.latest
         FROM", [key text, source text],
        "JOIN connection c ON c.key = j.key JOIN component k ON k.id = c.component_id
         LEFT JOIN signal_sequence q ON q.source = j.source AND q.subject_id = c.id"
    );
    COVERINGS = super::Sql::same(
        "SELECT covers_from, covers_until FROM episode WHERE component_id = $1 AND covers_connections",
    );
    SAVE_CONNECTIONS = over_rows!(
        "UPDATE connection SET episode = j.episode, cleared = j.cleared, own_fault_episode = j.own_fault,
            asked_episode = j.asked, fault = j.fault, failed_at = j.failed_at, broken_since = j.broken_since,
            failing_as_of = j.failing_as_of, well_as_of = j.well_as_of, cleared_by = j.cleared_by, recovering = j.recovering FROM",
        [id uuid, episode bigint, cleared bigint, own_fault bigint, asked bigint, fault text, failed_at bigint,
         broken_since bigint, failing_as_of bigint, well_as_of bigint, cleared_by text, recovering boolean],
        "WHERE connection.id = j.id"
    );
    ADD_SIGNALS = over_rows!(
        "INSERT INTO signal (id, source, sequence, received_at, observed_at, component_id, connection_id, what, fault,
            recovered_by, notice_id, outcome)
         SELECT j.id, j.source, j.sequence, j.received_at, j.observed_at, j.component_id, j.connection_id, j.what, j.fault,
            j.recovered_by, j.notice_id, j.outcome FROM",
        [id uuid, source text, sequence bigint, received_at bigint, observed_at bigint, component_id uuid,
         connection_id uuid, what text, fault text, recovered_by text, notice_id uuid, outcome text],
        "WHERE TRUE"
    );
    SAVE_SEQUENCES = over_rows!(
        "INSERT INTO signal_sequence (source, subject_id, latest) SELECT j.source, j.subject_id, j.latest FROM",
        [source text, subject_id uuid, latest bigint],
        "WHERE TRUE ON CONFLICT (source, subject_id) DO UPDATE SET latest = excluded.latest"
    );
    SEQUENCE = super::Sql::same("SELECT latest FROM signal_sequence WHERE source = $1 AND subject_id = $2");
    ADD_PLANS = over_rows!(
        "INSERT INTO plan (id, kind, matter_id, notice_id, signal_id, component_id, connection_id, episode,
            component_episode, failed_at, created_at)
         SELECT j.id, j.kind, j.matter_id, j.notice_id, j.signal_id, j.component_id, j.connection_id, j.episode,
            j.component_episode, j.failed_at, j.created_at FROM",
        [id uuid, kind text, matter_id uuid, notice_id uuid, signal_id uuid, component_id uuid, connection_id uuid,
         episode bigint, component_episode bigint, failed_at bigint, created_at bigint],
        "WHERE TRUE"
    );
    ADD_RECOVERIES = over_rows!(
        "INSERT INTO recovery (id, component_id, connection_id, episode, recovered_by, covers_from, covers_until,
            committed_at, confirm_by)
         SELECT j.id, j.component_id, j.connection_id, j.episode, j.recovered_by, j.covers_from, j.covers_until,
            j.committed_at, j.confirm_by FROM",
        [id uuid, component_id uuid, connection_id uuid, episode bigint, recovered_by text, covers_from bigint,
         covers_until bigint, committed_at bigint, confirm_by bigint],
        "WHERE TRUE"
    );
    SAVE_COMPONENT = super::Sql::same(
        "UPDATE component SET episode = $2, down_since = $3, failing_as_of = $4, up_since = $5, well_as_of = $6, overruled = $7
         WHERE id = $1",
    );
    SAVE_EPISODE = super::Sql::same(
        "INSERT INTO episode (component_id, n, since, ended_at, covers_connections, covers_from, covers_until, incident_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (component_id, n) DO UPDATE SET ended_at = COALESCE(episode.ended_at, excluded.ended_at),
            covers_connections = excluded.covers_connections,
            covers_from = excluded.covers_from, covers_until = excluded.covers_until",
    );
}

/// A component as read for a signal.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct ComponentNow {
    /// Its id.
    pub id: ComponentId,
    /// Its key.
    pub key: String,
    /// Its name.
    pub name: String,
    episode: i64,
    down_since: Option<Timestamp>,
    failing_as_of: Option<Timestamp>,
    up_since: Option<Timestamp>,
    well_as_of: Option<Timestamp>,
    last_since: Option<Timestamp>,
    last_covered: bool,
    overruled: bool,
}

impl ComponentNow {
    /// The domain's view of it.
    #[must_use]
    pub const fn domain(&self) -> Component {
        Component {
            episode: self.episode,
            down_since: self.down_since,
            failing_as_of: self.failing_as_of,
            up_since: self.up_since,
            well_as_of: self.well_as_of,
            last_since: self.last_since,
            last_covered: self.last_covered,
            overruled: self.overruled,
        }
    }
}

/// A connection as read for a signal.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct ConnectionNow {
    /// Its id.
    pub id: ConnectionId,
    /// Its key.
    pub key: String,
    /// Its component's key.
    pub component_key: String,
    /// Its component.
    pub component_id: ComponentId,
    episode: i64,
    cleared: i64,
    own_fault_episode: i64,
    asked_episode: i64,
    fault: Fault,
    failed_at: Option<Timestamp>,
    broken_since: Option<Timestamp>,
    failing_as_of: Option<Timestamp>,
    well_as_of: Option<Timestamp>,
    cleared_by: Option<By>,
    recovering: bool,
    /// The newest sequence number of this source.
    pub latest: Option<i64>,
}

impl ConnectionNow {
    /// The domain's view of it.
    #[must_use]
    pub const fn domain(&self) -> Connection {
        Connection {
            episode: self.episode,
            cleared: self.cleared,
            own_fault: self.own_fault_episode,
            asked: self.asked_episode,
            fault: self.fault,
            failed_at: self.failed_at,
            broken_since: self.broken_since,
            failing_as_of: self.failing_as_of,
            well_as_of: self.well_as_of,
            cleared_by: self.cleared_by,
            recovering: self.recovering,
        }
    }
}

/// A signal to be recorded.
#[derive(Clone, Debug)]
pub struct SignalRow {
    /// Its id.
    pub id: SignalId,
    /// Who said it.
    pub source: String,
    /// The source's running number.
    pub sequence: Option<i64>,
    /// When it was observed.
    pub observed_at: Timestamp,
    /// The component.
    pub component: ComponentId,
    /// The connection.
    pub connection: Option<ConnectionId>,
    /// What happened.
    pub what: What,
    /// Of a failure: its kind.
    pub fault: Option<Fault>,
    /// Of a recovery: who did it.
    pub by: Option<By>,
    /// The notice that supplied its text.
    pub notice: Option<NoticeId>,
    /// What became of it.
    pub outcome: String,
}

/// Planning work to be done.
#[derive(Clone, Debug)]
pub struct PlanRow {
    /// `notice`, `failure` or `component_up`.
    pub kind: &'static str,
    /// What orders it: of one matter the oldest goes first.
    pub matter: uuid::Uuid,
    /// The notice to plan.
    pub notice: Option<NoticeId>,
    /// The signal that caused it.
    pub signal: Option<SignalId>,
    /// The component.
    pub component: Option<ComponentId>,
    /// The broken connection.
    pub connection: Option<ConnectionId>,
    /// Its outage.
    pub episode: Option<i64>,
    /// Its component's newest outage at the time.
    pub component_episode: Option<i64>,
    /// When it was observed.
    pub failed_at: Option<Timestamp>,
}

impl PlanRow {
    /// A connection's customers are to be asked about its newest outage, as it is now.
    #[must_use]
    pub fn failure(of: &ConnectionNow, state: &Connection, component_episode: Option<i64>) -> Self {
        Self {
            kind: "failure",
            matter: of.component_id.0,
            notice: None,
            signal: None,
            component: Some(of.component_id),
            connection: Some(of.id),
            episode: Some(state.episode),
            component_episode,
            failed_at: state.failed_at,
        }
    }
}

/// A recovery to be swept.
#[derive(Clone, Debug)]
pub struct RecoveryRow {
    /// Its id.
    pub id: RecoveryId,
    /// The component.
    pub component: ComponentId,
    /// The connection; `None` for a component's.
    pub connection: Option<ConnectionId>,
    /// The outage that ended.
    pub episode: i64,
    /// Who did it.
    pub by: By,
    /// The failures it covers.
    pub covering: Option<Covering>,
    /// When the connections must have confirmed.
    pub confirm_by: Option<Timestamp>,
}

/// Components by key, locked against change (`exclusive`: by anybody else).
///
/// # Errors
/// When the database fails.
pub async fn components(tx: &mut Tx, of: &[&str], exclusive: bool) -> Result<Vec<ComponentNow>, StoreError> {
    if of.is_empty() {
        return Ok(Vec::new());
    }
    let keys = keys(of.iter().copied(), "");
    lock!(tx, if exclusive { LOCK_COMPONENTS } else { SHARE_COMPONENTS }, &keys)?;
    rows!(tx, ComponentNow, COMPONENTS, &keys)
}

/// The keys of the components of some connections.
///
/// # Errors
/// When the database fails.
pub async fn components_of(tx: &mut Tx, connections: &[&str]) -> Result<Vec<String>, StoreError> {
    let keys = keys(connections.iter().copied(), "");
    Ok(rows!(tx, (String,), COMPONENT_KEYS, &keys)?.into_iter().map(|row| row.0).collect())
}

/// Connections by key, locked against change.
///
/// # Errors
/// When the database fails.
pub async fn connections(tx: &mut Tx, of: &[&str], source: &str) -> Result<Vec<ConnectionNow>, StoreError> {
    let keys = keys(of.iter().copied(), source);
    lock_connections(tx, &keys).await?;
    rows!(tx, ConnectionNow, CONNECTIONS, &keys)
}

/// Locks connections, by key, in the order in which all do.
pub(super) async fn lock_connections(tx: &mut Tx, keys: &str) -> Result<(), StoreError> {
    lock!(tx, LOCK_CONNECTIONS, keys)
}

/// The covering recoveries of a component.
///
/// # Errors
/// When the database fails.
pub async fn coverings(tx: &mut Tx, component: ComponentId) -> Result<Vec<Covering>, StoreError> {
    let found = rows!(tx, (Timestamp, Timestamp), COVERINGS, component)?;
    Ok(found.into_iter().map(|(from, until)| Covering { from, until }).collect())
}

/// The newest sequence number of a source for a component.
///
/// # Errors
/// When the database fails.
pub async fn sequence(tx: &mut Tx, source: &str, subject: uuid::Uuid) -> Result<Option<i64>, StoreError> {
    Ok(first!(tx, (i64,), SEQUENCE, source, subject)?.map(|row| row.0))
}

/// Stores what signals did to connections.
///
/// # Errors
/// When the database fails.
pub async fn save_connections(tx: &mut Tx, of: &[(ConnectionId, Connection)]) -> Result<(), StoreError> {
    let list = of.iter().map(|(id, c)| {
        columns! {
            id: id.0,
            episode: c.episode,
            cleared: c.cleared,
            own_fault: c.own_fault,
            asked: c.asked,
            fault: c.fault,
            failed_at: c.failed_at,
            broken_since: c.broken_since,
            failing_as_of: c.failing_as_of,
            well_as_of: c.well_as_of,
            cleared_by: c.cleared_by,
            recovering: c.recovering,
        }
    });
    exec!(tx, SAVE_CONNECTIONS, json(list)).map(drop)
}

/// Records signals.
///
/// # Errors
/// When the database fails.
pub async fn add_signals(tx: &mut Tx, of: &[SignalRow]) -> Result<(), StoreError> {
    let now = tx.now().0;
    let list = of.iter().map(|s| {
        columns! {
            id: s.id,
            source: s.source.as_str(),
            sequence: s.sequence,
            received_at: now,
            observed_at: s.observed_at,
            component_id: s.component,
            connection_id: s.connection,
            what: s.what.as_str(),
            fault: s.fault.map(Fault::as_str),
            recovered_by: s.by.map(By::as_str),
            notice_id: s.notice,
            outcome: s.outcome.as_str(),
        }
    });
    rows::add(tx, "signal", ADD_SIGNALS, list).await
}

/// Remembers the newest sequence numbers.
///
/// # Errors
/// When the database fails.
pub async fn save_sequences(tx: &mut Tx, source: &str, of: &[(uuid::Uuid, i64)]) -> Result<(), StoreError> {
    let list = of.iter().map(|(id, latest)| columns! { source, subject_id: id, latest: *latest });
    exec!(tx, SAVE_SEQUENCES, json(list)).map(drop)
}

/// Leaves planning work.
///
/// # Errors
/// When the database fails.
pub async fn add_plans(tx: &mut Tx, of: &[PlanRow]) -> Result<(), StoreError> {
    let now = tx.now().0;
    let list = of.iter().map(|p| {
        columns! {
            id: PlanId::new().0,
            kind: p.kind,
            matter_id: p.matter,
            notice_id: p.notice,
            signal_id: p.signal,
            component_id: p.component,
            connection_id: p.connection,
            episode: p.episode,
            component_episode: p.component_episode,
            failed_at: p.failed_at,
            created_at: now,
        }
    });
    rows::add(tx, "plan", ADD_PLANS, list).await
}

/// Records recoveries; their commit is T.
///
/// # Errors
/// When the database fails.
pub async fn add_recoveries(tx: &mut Tx, of: &[RecoveryRow]) -> Result<(), StoreError> {
    let now = tx.now().0;
    let list = of.iter().map(|r| {
        columns! {
            id: r.id,
            component_id: r.component,
            connection_id: r.connection,
            episode: r.episode,
            recovered_by: r.by.as_str(),
            covers_from: r.covering.map(|c| c.from.0),
            covers_until: r.covering.map(|c| c.until.0),
            committed_at: now,
            confirm_by: r.confirm_by,
        }
    });
    rows::add(tx, "recovery", ADD_RECOVERIES, list).await
}

/// Stores what a signal or an incident did to a component.
///
/// # Errors
/// When the database fails.
pub async fn save_component(tx: &mut Tx, id: ComponentId, c: &Component) -> Result<(), StoreError> {
    exec!(tx, SAVE_COMPONENT, id, c.episode, c.down_since, c.failing_as_of, c.up_since, c.well_as_of, c.overruled)
        .map(drop)
}

/// Stores an outage of a component.
///
/// # Errors
/// When the database fails.
pub async fn save_episode(
    tx: &mut Tx,
    id: ComponentId,
    n: i64,
    since: Timestamp,
    ended_at: Option<Timestamp>,
    covering: Option<Covering>,
    incident: Option<IncidentId>,
) -> Result<(), StoreError> {
    let (from, until) = (covering.map(|c| c.from), covering.map(|c| c.until));
    exec!(tx, SAVE_EPISODE, id, n, since, ended_at, covering.is_some(), from, until, incident).map(drop)
}
