//! Incidents as they stand, and what they say of components.

use super::rows::json;
use super::{StoreError, Tx};
use crate::domain::id::{ComponentId, IncidentId};
use crate::domain::incident::{ComponentStatus, Impact, Phase};
use crate::domain::time::Timestamp;

statements! {
    // Of a new incident there is no row to wait for.
    LOCK_INCIDENT = super::Sql::differs(
        "SELECT 1 WHERE $1 IS NULL",
        "SELECT pg_advisory_xact_lock(hashtextextended('incident ' || $1, 0))",
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
        "SELECT c.id, c.key, c.name, ic.status, ic.since_revision FROM incident_component ic JOIN component c ON c.id = ic.component_id
         WHERE ic.incident_id = $1 ORDER BY c.id",
    );
    SAVE_INCIDENT_COMPONENT = super::Sql::same(
        "INSERT INTO incident_component (incident_id, component_id, status, changed_at, since_revision) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (incident_id, component_id) DO UPDATE SET status = excluded.status,
            changed_at = CASE WHEN incident_component.status = excluded.status THEN incident_component.changed_at ELSE excluded.changed_at END",
    );
    COMPONENT_WORKS = super::Sql::same(
        "UPDATE incident_component SET status = 'operational', changed_at = $2 WHERE component_id = $1 AND status <> 'operational' AND incident_id IN
            (SELECT id FROM incident WHERE resolved_at IS NULL)",
    );
    OPENED_BY = super::Sql::same(
        "SELECT c.key FROM component c CROSS JOIN episode e
         WHERE e.component_id = c.id AND e.n = c.episode AND e.incident_id = $1 AND e.ended_at IS NULL ORDER BY c.id",
    );
    // What nobody reported, or only an incident that is over, is whose incident reports it: that one ends it.
    TAKE_OVER = super::Sql::same(
        "UPDATE episode SET incident_id = $3 WHERE component_id = $1 AND n = $2 AND ended_at IS NULL
            AND ((incident_id IS NULL AND EXISTS (SELECT 1 FROM surge s WHERE s.component_id = $1 AND s.ended_at IS NULL
                    AND s.episode = $2 AND NOT s.reported))
                OR (SELECT i.resolved_at IS NOT NULL FROM incident i WHERE i.id = episode.incident_id))",
    );
    // Whoever opened an outage ends it, naming nothing; whoever still reports it is to end it then.
    HAND_OVER = super::Sql::same(
        "UPDATE episode SET incident_id = (SELECT ic.incident_id FROM incident_component ic JOIN incident i ON i.id = ic.incident_id
            WHERE ic.component_id = $1 AND ic.incident_id <> $2 AND ic.status IN ('partial_outage', 'major_outage')
                AND i.resolved_at IS NULL AND i.phase <> 'scheduled' ORDER BY ic.incident_id LIMIT 1)
         WHERE component_id = $1 AND incident_id = $2 AND ended_at IS NULL",
    );
    DOWN_ELSEWHERE = over_rows!(
        "SELECT DISTINCT ic.component_id FROM", [id uuid, incident_id uuid],
        "JOIN incident_component ic ON ic.component_id = j.id AND ic.incident_id <> j.incident_id
            AND ic.status IN ('partial_outage', 'major_outage')
         JOIN incident i ON i.id = ic.incident_id AND i.resolved_at IS NULL AND i.phase <> 'scheduled'"
    );
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
    /// The update that named it first.
    pub since_revision: i64,
}

/// An incident by its key, locked against change, and against being made by others when there is none. It is locked before
/// its components.
///
/// # Errors
/// When the database fails.
pub async fn find(tx: &mut Tx, key: &str) -> Result<Option<IncidentNow>, StoreError> {
    lock!(tx, LOCK_INCIDENT, key)?;
    first!(tx, IncidentNow, INCIDENT, key)
}

/// Stores an incident.
///
/// # Errors
/// When the database fails.
pub async fn save(tx: &mut Tx, key: &str, i: &IncidentNow) -> Result<(), StoreError> {
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
pub async fn components(tx: &mut Tx, id: IncidentId) -> Result<Vec<IncidentComponent>, StoreError> {
    rows!(tx, IncidentComponent, INCIDENT_COMPONENTS, id)
}

/// Stores how a component of an incident is doing, as its newest update says.
///
/// # Errors
/// When the database fails.
pub async fn save_component(
    tx: &mut Tx,
    incident: &IncidentNow,
    component: ComponentId,
    status: ComponentStatus,
) -> Result<(), StoreError> {
    let now = tx.now();
    exec!(tx, SAVE_INCIDENT_COMPONENT, incident.id, component, status, now, incident.revision).map(drop)
}

/// Open incidents show a component as working: a signal said so.
///
/// # Errors
/// When the database fails.
pub async fn component_works(tx: &mut Tx, component: ComponentId) -> Result<(), StoreError> {
    let now = tx.now();
    exec!(tx, COMPONENT_WORKS, component, now).map(drop)
}

/// The keys of the components whose open outage is this incident's.
///
/// # Errors
/// When the database fails.
pub async fn opened_by(tx: &mut Tx, incident: IncidentId) -> Result<Vec<String>, StoreError> {
    Ok(rows!(tx, (String,), OPENED_BY, incident)?.into_iter().map(|row| row.0).collect())
}

/// An open outage that a surge opened and no source has reported before, or that an incident left when it was resolved, is
/// this one's, which reports it.
///
/// # Errors
/// When the database fails.
pub async fn take_over(tx: &mut Tx, component: ComponentId, n: i64, by: IncidentId) -> Result<(), StoreError> {
    exec!(tx, TAKE_OVER, component, n, by).map(drop)
}

/// The open outage that an incident opened is another's, which reports its component down, too.
///
/// # Errors
/// When the database fails.
pub async fn hand_over(tx: &mut Tx, component: ComponentId, from: IncidentId) -> Result<(), StoreError> {
    exec!(tx, HAND_OVER, component, from).map(drop)
}

/// Those of some components that another open incident, which has begun, reports down.
///
/// # Errors
/// When the database fails.
pub async fn down_elsewhere(tx: &mut Tx, of: &[ComponentId], than: IncidentId) -> Result<Vec<ComponentId>, StoreError> {
    let list = of.iter().map(|c| columns! { id: c.0, incident_id: than.0 });
    Ok(rows!(tx, (ComponentId,), DOWN_ELSEWHERE, json(list))?.into_iter().map(|row| row.0).collect())
}
