//! What was said: notices and signals, and what they move.

use super::{StoreError, Tx, rows};
use crate::domain::class::Class;
use crate::domain::component::Component;
use crate::domain::connection::{By, Connection, Covering, Fault, What};
use crate::domain::delivery::Reason;
use crate::domain::id::{ComponentId, ConnectionId, IncidentId, NoticeId, PlanId, RecoveryId, SignalId};
use crate::domain::incident::{ComponentStatus, Impact, Phase};
use crate::domain::time::Timestamp;
use serde::Serialize;
use uuid::fmt::Simple;

statements! {
    COMPONENTS = over_rows!(
        "SELECT c.id, c.key, c.name, c.episode, c.down_since, c.up_since, e.since AS last_since,
                COALESCE(e.covers_connections, FALSE) AS last_covered
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
                c.fault, c.failed_at, c.broken_since, c.well_as_of, c.cleared_by, c.recovering, q.latest
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
            well_as_of = j.well_as_of, cleared_by = j.cleared_by, recovering = j.recovering FROM",
        [id uuid, episode bigint, cleared bigint, own_fault bigint, asked bigint, fault text, failed_at bigint,
         broken_since bigint, well_as_of bigint, cleared_by text, recovering boolean],
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
        "UPDATE component SET episode = $2, down_since = $3, up_since = $4 WHERE id = $1",
    );
    SAVE_EPISODE = super::Sql::same(
        "INSERT INTO episode (component_id, n, since, ended_at, covers_connections, covers_from, covers_until, incident_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (component_id, n) DO UPDATE SET ended_at = COALESCE(episode.ended_at, excluded.ended_at),
            covers_connections = excluded.covers_connections,
            covers_from = excluded.covers_from, covers_until = excluded.covers_until",
    );
    INCIDENT = locking!(
        "SELECT id, title, phase, impact, revision, started_at, updated_at, resolved_at FROM incident WHERE key = $1",
        "FOR NO KEY UPDATE"
    );
    SAVE_INCIDENT = super::Sql::same(
        "INSERT INTO incident (id, key, title, phase, impact, revision, started_at, updated_at, resolved_at, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         ON CONFLICT (key) DO UPDATE SET title = excluded.title, phase = excluded.phase, impact = excluded.impact,
            revision = excluded.revision, started_at = excluded.started_at, updated_at = excluded.updated_at,
            resolved_at = excluded.resolved_at",
    );
    INCIDENT_COMPONENTS = super::Sql::same(
        "SELECT c.id, c.key, c.name, ic.status FROM incident_component ic JOIN component c ON c.id = ic.component_id
         WHERE ic.incident_id = $1 ORDER BY c.id",
    );
    SAVE_INCIDENT_COMPONENT = super::Sql::same(
        "INSERT INTO incident_component (incident_id, component_id, status, changed_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (incident_id, component_id) DO UPDATE SET status = excluded.status,
            changed_at = CASE WHEN incident_component.status = excluded.status THEN incident_component.changed_at ELSE excluded.changed_at END",
    );
    COMPONENT_WORKS = super::Sql::same(
        "UPDATE incident_component SET status = 'operational', changed_at = $2 WHERE component_id = $1 AND status <> 'operational' AND incident_id IN
            (SELECT id FROM incident WHERE resolved_at IS NULL)",
    );
    OPENED_BY = super::Sql::same(
        "SELECT c.key FROM episode e JOIN component c ON c.id = e.component_id AND c.episode = e.n
         WHERE e.incident_id = $1 AND e.ended_at IS NULL ORDER BY c.id",
    );
    ADD_NOTICE = super::Sql::same(
        "INSERT INTO notice (id, kind, class, source, received_at, observed_at, incident_id, revision, phase, deliver, payload, outcome, reason,
            update_key, content_hash, repeats_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
    );
    DOWN_ELSEWHERE = over_rows!(
        "SELECT DISTINCT ic.component_id FROM", [id uuid, incident_id uuid],
        "JOIN incident_component ic ON ic.component_id = j.id AND ic.incident_id <> j.incident_id
            AND ic.status IN ('partial_outage', 'major_outage')
         JOIN incident i ON i.id = ic.incident_id AND i.resolved_at IS NULL"
    );
    PAYLOADS_AFTER = super::Sql::same(
        "SELECT payload FROM notice WHERE incident_id = $1 AND observed_at > $2 AND repeats_id IS NULL ORDER BY revision",
    );
    // The same update again: by the source's id of it; without one by its words, or by its time and phase (an edit).
    SAID_BEFORE = super::Sql::same(
        "SELECT id, revision, received_at, content_hash FROM notice WHERE incident_id = $1 AND repeats_id IS NULL AND (update_key = $2
            OR ($2 IS NULL AND update_key IS NULL AND (content_hash = $3 OR (observed_at = $4 AND phase = $5))))
         ORDER BY revision DESC LIMIT 1",
    );
    ADD_RECIPIENTS = over_rows!(
        "INSERT INTO notice_recipient (notice_id, subscriber_id) SELECT j.notice_id, s.id FROM",
        [notice_id uuid, key text],
        "JOIN subscriber s ON s.key = j.key WHERE TRUE ON CONFLICT DO NOTHING"
    );
    UNKNOWN_SUBSCRIBERS = over_rows!(
        "SELECT j.key FROM", [key text],
        "WHERE NOT EXISTS (SELECT 1 FROM subscriber s WHERE s.key = j.key)"
    );
    REMEMBERED = super::Sql::same("SELECT body_hash, answer FROM idempotency WHERE source = $1 AND key = $2");
    REMEMBER = super::Sql::same(
        "INSERT INTO idempotency (source, key, body_hash, answer, created_at) VALUES ($1, $2, $3, $4, $5)",
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
    up_since: Option<Timestamp>,
    last_since: Option<Timestamp>,
    last_covered: bool,
}

impl ComponentNow {
    /// The domain's view of it.
    #[must_use]
    pub const fn domain(&self) -> Component {
        Component {
            episode: self.episode,
            down_since: self.down_since,
            up_since: self.up_since,
            last_since: self.last_since,
            last_covered: self.last_covered,
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
            well_as_of: self.well_as_of,
            cleared_by: self.cleared_by,
            recovering: self.recovering,
        }
    }
}

/// An incident as read for an update.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct IncidentNow {
    /// Its id.
    pub id: IncidentId,
    /// Its title.
    pub title: String,
    /// Where it stands.
    pub phase: Phase,
    /// How bad it is.
    pub impact: Impact,
    /// How many updates it had.
    pub revision: i64,
    /// When it truly began.
    pub started_at: Timestamp,
    /// When its newest update was posted.
    pub updated_at: Timestamp,
    /// When it was resolved.
    pub resolved_at: Option<Timestamp>,
}

/// A component of an incident.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct IncidentComponent {
    /// Its id.
    pub id: ComponentId,
    /// Its key.
    pub key: String,
    /// Its name.
    pub name: String,
    /// How it is doing.
    pub status: ComponentStatus,
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

/// A notice to be recorded.
#[derive(Clone, Debug)]
pub struct NoticeRow<'a> {
    /// Its id.
    pub id: NoticeId,
    /// `incident`, `action_required` or `free`.
    pub kind: &'static str,
    /// The class of its mails.
    pub class: Class,
    /// Who said it.
    pub source: &'a str,
    /// When it was observed.
    pub observed_at: Timestamp,
    /// The incident, with its revision and phase.
    pub incident: Option<(IncidentId, i64, Phase)>,
    /// `false` records without mailing.
    pub deliver: bool,
    /// What was said, as JSON.
    pub payload: &'a str,
    /// What became of it.
    pub outcome: &'a str,
    /// Why nobody is mailed about it, if so.
    pub reason: Option<Reason>,
    /// What makes it the same update as another.
    pub same: Same<'a>,
}

/// What makes two updates of an incident the same one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Same<'a> {
    /// The source's id of the update.
    pub update_key: Option<&'a str>,
    /// A hash of what it says.
    pub content_hash: Option<&'a [u8]>,
    /// The notice it repeats.
    pub repeats: Option<NoticeId>,
}

/// An update that was here before.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct SaidBefore {
    /// Its notice.
    pub id: NoticeId,
    /// Which update of the incident it was.
    pub revision: i64,
    /// When it came in.
    pub received_at: Timestamp,
    /// A hash of what it said.
    pub content_hash: Option<Vec<u8>>,
}

pub(super) fn json<T: Serialize>(rows: &[T]) -> String {
    // The rows are plain structs of numbers and texts: serde_json has no reason to refuse them.
    serde_json::to_string(rows).unwrap_or_default()
}

/// Ids as the rows of a statement.
pub(super) fn ids<T: Copy + Into<uuid::Uuid>>(of: &[T]) -> String {
    #[derive(Serialize)]
    struct Id {
        id: Simple,
    }
    json(&of.iter().map(|id| Id { id: (*id).into().simple() }).collect::<Vec<_>>())
}

#[derive(Serialize)]
struct Key<'a> {
    key: &'a str,
    source: &'a str,
}

fn keys<'a>(keys: impl Iterator<Item = &'a str>, source: &'a str) -> String {
    let mut rows: Vec<_> = keys.map(|key| Key { key, source }).collect();
    rows.sort_by_key(|row| row.key);
    rows.dedup_by_key(|row| row.key);
    json(&rows)
}

/// Components by key, locked against change (`exclusive`: by anybody else).
///
/// # Errors
/// When the database fails.
pub async fn components(tx: &mut Tx, of: &[&str], exclusive: bool) -> Result<Vec<ComponentNow>, StoreError> {
    let keys = keys(of.iter().copied(), "");
    exec!(tx, if exclusive { LOCK_COMPONENTS } else { SHARE_COMPONENTS }, &keys)?;
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
    exec!(tx, LOCK_CONNECTIONS, &keys)?;
    rows!(tx, ConnectionNow, CONNECTIONS, &keys)
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
    #[derive(Serialize)]
    struct Row {
        id: Simple,
        episode: i64,
        cleared: i64,
        own_fault: i64,
        asked: i64,
        fault: Fault,
        failed_at: Option<i64>,
        broken_since: Option<i64>,
        well_as_of: Option<i64>,
        cleared_by: Option<By>,
        recovering: bool,
    }
    let list: Vec<_> = of
        .iter()
        .map(|(id, c)| Row {
            id: id.0.simple(),
            episode: c.episode,
            cleared: c.cleared,
            own_fault: c.own_fault,
            asked: c.asked,
            fault: c.fault,
            failed_at: c.failed_at.map(|t| t.0),
            broken_since: c.broken_since.map(|t| t.0),
            well_as_of: c.well_as_of.map(|t| t.0),
            cleared_by: c.cleared_by,
            recovering: c.recovering,
        })
        .collect();
    exec!(tx, SAVE_CONNECTIONS, json(&list)).map(drop)
}

/// Records signals.
///
/// # Errors
/// When the database fails.
pub async fn add_signals(tx: &mut Tx, of: &[SignalRow]) -> Result<(), StoreError> {
    let now = tx.now().0;
    let list = of.iter().map(|s| {
        [
            ("id", s.id.0.into()),
            ("source", s.source.as_str().into()),
            ("sequence", s.sequence.into()),
            ("received_at", now.into()),
            ("observed_at", s.observed_at.0.into()),
            ("component_id", s.component.0.into()),
            ("connection_id", s.connection.map(|c| c.0).into()),
            ("what", s.what.as_str().into()),
            ("fault", s.fault.map(Fault::as_str).into()),
            ("recovered_by", s.by.map(By::as_str).into()),
            ("notice_id", s.notice.map(|n| n.0).into()),
            ("outcome", s.outcome.as_str().into()),
        ]
    });
    rows::add(tx, "signal", ADD_SIGNALS, list).await
}

/// Remembers the newest sequence numbers.
///
/// # Errors
/// When the database fails.
pub async fn save_sequences(tx: &mut Tx, source: &str, of: &[(uuid::Uuid, i64)]) -> Result<(), StoreError> {
    #[derive(Serialize)]
    struct Row<'a> {
        source: &'a str,
        subject_id: Simple,
        latest: i64,
    }
    let list: Vec<_> = of.iter().map(|(id, latest)| Row { source, subject_id: id.simple(), latest: *latest }).collect();
    exec!(tx, SAVE_SEQUENCES, json(&list)).map(drop)
}

/// Leaves planning work.
///
/// # Errors
/// When the database fails.
pub async fn add_plans(tx: &mut Tx, of: &[PlanRow]) -> Result<(), StoreError> {
    let now = tx.now().0;
    let list = of.iter().map(|p| {
        [
            ("id", PlanId::new().0.into()),
            ("kind", p.kind.into()),
            ("matter_id", p.matter.into()),
            ("notice_id", p.notice.map(|n| n.0).into()),
            ("signal_id", p.signal.map(|s| s.0).into()),
            ("component_id", p.component.map(|c| c.0).into()),
            ("connection_id", p.connection.map(|c| c.0).into()),
            ("episode", p.episode.into()),
            ("component_episode", p.component_episode.into()),
            ("failed_at", p.failed_at.map(|t| t.0).into()),
            ("created_at", now.into()),
        ]
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
        [
            ("id", r.id.0.into()),
            ("component_id", r.component.0.into()),
            ("connection_id", r.connection.map(|c| c.0).into()),
            ("episode", r.episode.into()),
            ("recovered_by", r.by.as_str().into()),
            ("covers_from", r.covering.map(|c| c.from.0).into()),
            ("covers_until", r.covering.map(|c| c.until.0).into()),
            ("committed_at", now.into()),
            ("confirm_by", r.confirm_by.map(|t| t.0).into()),
        ]
    });
    rows::add(tx, "recovery", ADD_RECOVERIES, list).await
}

/// Stores what a signal or an incident did to a component.
///
/// # Errors
/// When the database fails.
pub async fn save_component(tx: &mut Tx, id: ComponentId, c: &Component) -> Result<(), StoreError> {
    exec!(tx, SAVE_COMPONENT, id, c.episode, c.down_since, c.up_since).map(drop)
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

/// An incident by its key, locked against change.
///
/// # Errors
/// When the database fails.
pub async fn incident(tx: &mut Tx, key: &str) -> Result<Option<IncidentNow>, StoreError> {
    first!(tx, IncidentNow, INCIDENT, key)
}

/// Stores an incident.
///
/// # Errors
/// When the database fails.
pub async fn save_incident(tx: &mut Tx, key: &str, i: &IncidentNow) -> Result<(), StoreError> {
    let now = tx.now();
    exec!(
        tx,
        SAVE_INCIDENT,
        i.id,
        key,
        &i.title,
        i.phase,
        i.impact,
        i.revision,
        i.started_at,
        i.updated_at,
        i.resolved_at,
        now
    )
    .map(drop)
}

/// The components an incident has named so far.
///
/// # Errors
/// When the database fails.
pub async fn incident_components(tx: &mut Tx, id: IncidentId) -> Result<Vec<IncidentComponent>, StoreError> {
    rows!(tx, IncidentComponent, INCIDENT_COMPONENTS, id)
}

/// Stores how a component of an incident is doing.
///
/// # Errors
/// When the database fails.
pub async fn save_incident_component(
    tx: &mut Tx,
    incident: IncidentId,
    component: ComponentId,
    status: ComponentStatus,
) -> Result<(), StoreError> {
    let now = tx.now();
    exec!(tx, SAVE_INCIDENT_COMPONENT, incident, component, status, now).map(drop)
}

/// Open incidents show a component as working: a signal said so.
///
/// # Errors
/// When the database fails.
pub async fn component_works(tx: &mut Tx, component: ComponentId) -> Result<(), StoreError> {
    let now = tx.now();
    exec!(tx, COMPONENT_WORKS, component, now).map(drop)
}

/// The keys of the components whose open outage this incident opened.
///
/// # Errors
/// When the database fails.
pub async fn opened_by(tx: &mut Tx, incident: IncidentId) -> Result<Vec<String>, StoreError> {
    Ok(rows!(tx, (String,), OPENED_BY, incident)?.into_iter().map(|row| row.0).collect())
}

/// Records a notice.
///
/// # Errors
/// When the database fails.
pub async fn add_notice(tx: &mut Tx, n: &NoticeRow<'_>) -> Result<(), StoreError> {
    let now = tx.now();
    let (incident, revision, phase) = match n.incident {
        Some((id, revision, phase)) => (Some(id), Some(revision), Some(phase)),
        None => (None, None, None),
    };
    exec!(
        tx,
        ADD_NOTICE,
        n.id,
        n.kind,
        n.class,
        n.source,
        now,
        n.observed_at,
        incident,
        revision,
        phase,
        n.deliver,
        n.payload,
        n.outcome,
        n.reason,
        n.same.update_key,
        n.same.content_hash,
        n.same.repeats
    )
    .map(drop)
}

/// Those of some components that another open incident reports down.
///
/// # Errors
/// When the database fails.
pub async fn down_elsewhere(tx: &mut Tx, of: &[ComponentId], than: IncidentId) -> Result<Vec<ComponentId>, StoreError> {
    #[derive(Serialize)]
    struct Row {
        id: Simple,
        incident_id: Simple,
    }
    let list: Vec<_> = of.iter().map(|c| Row { id: c.0.simple(), incident_id: than.0.simple() }).collect();
    Ok(rows!(tx, (ComponentId,), DOWN_ELSEWHERE, json(&list))?.into_iter().map(|row| row.0).collect())
}

/// What later updates of an incident said, as JSON.
///
/// # Errors
/// When the database fails.
pub async fn payloads_after(tx: &mut Tx, incident: IncidentId, at: Timestamp) -> Result<Vec<String>, StoreError> {
    Ok(rows!(tx, (String,), PAYLOADS_AFTER, incident, at)?.into_iter().map(|row| row.0).collect())
}

/// An earlier update of an incident that is the same as one that says this; `at`: its own time, if it gave one.
///
/// # Errors
/// When the database fails.
pub async fn said_before(
    tx: &mut Tx,
    incident: IncidentId,
    same: Same<'_>,
    at: Option<Timestamp>,
    phase: Phase,
) -> Result<Option<SaidBefore>, StoreError> {
    first!(tx, SaidBefore, SAID_BEFORE, incident, same.update_key, same.content_hash, at, phase)
}

/// Records a notice's explicit recipients.
///
/// # Errors
/// When the database fails.
pub async fn add_recipients(tx: &mut Tx, notice: NoticeId, of: &[String]) -> Result<(), StoreError> {
    #[derive(Serialize)]
    struct Row<'a> {
        notice_id: Simple,
        key: &'a str,
    }
    let list: Vec<_> = of.iter().map(|key| Row { notice_id: notice.0.simple(), key }).collect();
    exec!(tx, ADD_RECIPIENTS, json(&list)).map(drop)
}

/// Those of some subscriber keys that nobody has.
///
/// # Errors
/// When the database fails.
pub async fn unknown_subscribers(tx: &mut Tx, of: &[String]) -> Result<Vec<String>, StoreError> {
    let keys = keys(of.iter().map(String::as_str), "");
    Ok(rows!(tx, (String,), UNKNOWN_SUBSCRIBERS, &keys)?.into_iter().map(|row| row.0).collect())
}

/// What a source was answered for an idempotency key: the body's hash and the answer.
///
/// # Errors
/// When the database fails.
pub async fn remembered(tx: &mut Tx, source: &str, key: &str) -> Result<Option<(Vec<u8>, String)>, StoreError> {
    first!(tx, (Vec<u8>, String), REMEMBERED, source, key)
}

/// Remembers an answer for an idempotency key.
///
/// # Errors
/// When the database fails, or another was first ([`StoreError::is_conflict`]).
pub async fn remember(tx: &mut Tx, source: &str, key: &str, hash: &[u8], answer: &str) -> Result<(), StoreError> {
    let now = tx.now();
    exec!(tx, REMEMBER, source, key, hash, answer, now).map(drop)
}
