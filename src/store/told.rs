//! What threads were told of an incident's components, and what other threads of the same subscribers say of them.

use super::parameter::ids;
use super::rows::json;
use super::{StoreError, Tx};
use crate::domain::id::{ComponentId, DeliveryId, IncidentId, SubscriberId, ThreadId};
use crate::domain::incident::{ComponentStatus, Phase};
use crate::domain::time::Timestamp;

statements! {
    TOLD = over_rows!(
        "SELECT c.thread_id, c.component_id, c.status, c.was_down FROM", [id uuid],
        "JOIN thread_component c ON c.thread_id = j.id"
    );
    // What is on the wire at this moment counts as told: if it fails, the next mail says it.
    BEING_TOLD = over_rows!(
        "SELECT d.thread_id, d.phase, i.component_id, i.status FROM", [id uuid],
        "JOIN delivery d ON d.thread_id = j.id AND d.state = 'sending' AND d.revision IS NOT NULL
         LEFT JOIN delivery_item i ON i.delivery_id = d.id AND i.dropped IS NULL"
    );
    OTHER_INCIDENTS = over_rows!(
        "SELECT DISTINCT i.id FROM", [id uuid, incident_id uuid],
        "JOIN incident_component ic ON ic.component_id = j.id AND ic.status <> 'operational' AND ic.incident_id <> j.incident_id
         JOIN incident i ON i.id = ic.incident_id AND i.resolved_at IS NULL AND i.phase <> 'scheduled'"
    );
    ELSEWHERE = over_rows!(
        "SELECT t.subscriber_id, i.component_id, i.status, COALESCE(d.claimed_at, d.created_at) AS at, d.id AS delivery_id FROM",
        [matter_id uuid, subscriber_id uuid],
        "JOIN thread t ON t.matter_id = j.matter_id AND t.subscriber_id = j.subscriber_id AND t.ended_at IS NULL
         JOIN delivery d ON d.thread_id = t.id AND d.class = 'incident_update'
            AND (d.state IN ('queued', 'sending') OR d.maybe_mailed)
         JOIN delivery_item i ON i.delivery_id = d.id AND i.dropped IS NULL AND i.status IS NOT NULL ORDER BY d.revision, d.id"
    );
    CAUSES = over_rows!(
        "WITH RECURSIVE up (component_id, cause_id) AS (SELECT d.component_id, d.depends_on FROM", [id uuid],
        "JOIN component_dependency d ON d.component_id = j.id
         UNION SELECT up.component_id, d.depends_on FROM up JOIN component_dependency d ON d.component_id = up.cause_id)
         SELECT component_id, cause_id FROM up WHERE cause_id <> component_id"
    );
    THREADS_OF = over_rows!("SELECT d.thread_id FROM", [id uuid], "JOIN delivery d ON d.id = j.id AND d.class = 'incident_update'
            AND d.state NOT IN ('queued', 'sending', 'accepted', 'unknown')");
    // Of each thread the newest; what was folded says the present state when it leaves.
    RELEASE = over_rows!(
        "UPDATE delivery SET state = 'queued', reason = 'outlived', folded_into = NULL, decided_at = NULL, due_at = j.due_at,
            created_at = j.at FROM",
        [id uuid, due_at bigint, at bigint],
        "JOIN delivery a ON a.thread_id = j.id
         JOIN delivery f ON f.folded_into = a.id AND f.state = 'folded' AND f.reason IN ('under_cause', 'told_elsewhere')
         JOIN thread t ON t.id = f.thread_id AND t.told_at IS NULL
         JOIN incident i ON i.id = t.matter_id AND i.resolved_at IS NULL
         WHERE delivery.id = f.id AND NOT EXISTS (SELECT 1 FROM delivery n WHERE n.thread_id = f.thread_id
            AND n.revision > f.revision)"
    );
}

/// A component as a thread was last told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct ToldComponent {
    /// The thread.
    pub thread_id: ThreadId,
    /// The component.
    pub component_id: ComponentId,
    /// How it was doing.
    pub status: ComponentStatus,
    /// The thread was told of trouble with it at some time.
    pub was_down: bool,
}

/// What a mail on the wire tells: one row for each component, or one without any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct OnTheWire {
    /// The thread.
    pub thread_id: ThreadId,
    /// The incident's phase.
    pub phase: Option<Phase>,
    /// The component.
    pub component_id: Option<ComponentId>,
    /// How it is doing.
    pub status: Option<ComponentStatus>,
}

/// What a subscriber is told of a component in another incident's thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct ElsewhereRow {
    /// The subscriber.
    pub subscriber_id: SubscriberId,
    /// The component.
    pub component_id: ComponentId,
    /// How it is doing there.
    pub status: ComponentStatus,
    /// When that was planned or left.
    pub at: Timestamp,
    /// The mail that says so.
    pub delivery_id: DeliveryId,
}

/// What threads were told of components.
///
/// # Errors
/// When the database fails.
pub async fn components(tx: &mut Tx, of: &[ThreadId]) -> Result<Vec<ToldComponent>, StoreError> {
    rows!(tx, ToldComponent, TOLD, ids(of))
}

/// What mails of threads on the wire tell.
///
/// # Errors
/// When the database fails.
pub async fn on_the_wire(tx: &mut Tx, of: &[ThreadId]) -> Result<Vec<OnTheWire>, StoreError> {
    rows!(tx, OnTheWire, BEING_TOLD, ids(of))
}

/// Other unresolved incidents in which one of these components is in trouble.
///
/// # Errors
/// When the database fails.
pub async fn other_incidents(
    tx: &mut Tx,
    components: &[ComponentId],
    than: IncidentId,
) -> Result<Vec<IncidentId>, StoreError> {
    let list = components.iter().map(|c| columns! { id: c.0, incident_id: than.0 });
    Ok(rows!(tx, (IncidentId,), OTHER_INCIDENTS, json(list))?.into_iter().map(|row| row.0).collect())
}

/// What these subscribers are told in the unended threads of these incidents, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn elsewhere(
    tx: &mut Tx,
    incidents: &[IncidentId],
    of: &[SubscriberId],
) -> Result<Vec<ElsewhereRow>, StoreError> {
    let pairs = incidents.iter().flat_map(|i| of.iter().map(move |s| (i, s)));
    let list = pairs.map(|(i, s)| columns! { matter_id: i.0, subscriber_id: s.0 });
    rows!(tx, ElsewhereRow, ELSEWHERE, json(list))
}

/// Pairs of a component and one it cannot work without, directly or through others.
///
/// # Errors
/// When the database fails.
pub async fn causes(tx: &mut Tx, of: &[ComponentId]) -> Result<Vec<(ComponentId, ComponentId)>, StoreError> {
    rows!(tx, (ComponentId, ComponentId), CAUSES, ids(of))
}

/// The same for the threads of deliveries that the relay refused.
///
/// # Errors
/// When the database fails.
pub async fn release_refused(tx: &mut Tx, of: &[DeliveryId], due: Timestamp) -> Result<(), StoreError> {
    let threads = rows!(tx, (ThreadId,), THREADS_OF, ids(of))?;
    release(tx, &threads.into_iter().map(|row| row.0).collect::<Vec<_>>(), due).await
}

/// What was folded under mails of these threads, and is still going on, is queued again.
///
/// # Errors
/// When the database fails.
pub async fn release(tx: &mut Tx, of: &[ThreadId], due: Timestamp) -> Result<(), StoreError> {
    let at = tx.now().0;
    let list: Vec<_> = of.iter().map(|t| columns! { id: t.0, due_at: due.0, at }).collect();
    if list.is_empty() { Ok(()) } else { exec!(tx, RELEASE, json(list)).map(drop) }
}
