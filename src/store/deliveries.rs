//! Deliveries as they are made, folded, renewed and withdrawn by planning.

use super::rows::{self, Cell, json};
use super::{StoreError, Tx};
use crate::domain::class::Class;
use crate::domain::delivery::{Reason, Rule, State};
use crate::domain::id::{ComponentId, ConnectionId, DeliveryId, LaneId, NoticeId, SubscriberId, ThreadId};
use crate::domain::incident::{ComponentStatus, Phase};
use crate::domain::time::Timestamp;
use std::collections::HashSet;
use uuid::Uuid;

statements! {
    ADD_DELIVERIES = over_rows!(
        "INSERT INTO delivery (id, class, stream, lane_id, cause_id, notice_id, subscriber_id, thread_id, rule, revision, phase, state,
            due_at, reason, folded_into, created_at, decided_at, incident_id)
         SELECT j.id, j.class, j.stream, j.lane_id, j.cause_id, j.notice_id, j.subscriber_id, j.thread_id, j.rule, j.revision, j.phase,
            j.state, j.due_at, j.reason, j.folded_into, j.created_at, j.decided_at,
            (SELECT h.matter_id FROM thread h WHERE h.id = j.thread_id AND h.matter_kind = 'incident') FROM",
        [id uuid, class text, stream text, lane_id uuid, cause_id uuid, notice_id uuid, subscriber_id uuid, thread_id uuid,
         rule text, revision bigint, phase text, state text, due_at bigint, reason text, folded_into uuid, created_at bigint,
         decided_at bigint],
        "WHERE TRUE"
    );
    ADD_ITEMS = over_rows!(
        "INSERT INTO delivery_item (delivery_id, subject_id, component_id, connection_id, episode, component_episode, failed_at,
            status, corrects_id)
         SELECT j.delivery_id, j.subject_id, j.component_id, j.connection_id, j.episode, j.component_episode, j.failed_at,
            j.status, j.corrects_id FROM",
        [delivery_id uuid, subject_id uuid, component_id uuid, connection_id uuid, episode bigint, component_episode bigint,
         failed_at bigint, status text, corrects_id uuid],
        "WHERE TRUE ON CONFLICT DO NOTHING"
    );
    FOLD = over_rows!(
        "UPDATE delivery SET state = 'folded', reason = 'replaced_by_newer', folded_into = j.into_id, decided_at = j.at FROM",
        [id uuid, into_id uuid, at bigint],
        concat!("WHERE delivery.id = j.id AND ", waits!("delivery"))
    );
    RENEW = over_rows!(
        "UPDATE delivery SET notice_id = j.notice_id, revision = j.revision FROM", [id uuid, notice_id uuid, revision bigint],
        concat!("WHERE delivery.id = j.id AND ", waits!("delivery"))
    );
    // What was folded into a mail that waits for news is itself the news.
    HASTEN = over_rows!(
        "UPDATE delivery SET due_at = j.at, rule = COALESCE(f.rule, delivery.rule) FROM", [id uuid, into_id uuid, at bigint],
        concat!("JOIN delivery f ON f.id = j.id AND f.rule <> 'nothing_new'
         WHERE delivery.id = j.into_id AND delivery.rule = 'nothing_new' AND ", waits!("delivery"))
    );
    WITHDRAW = over_rows!(
        "UPDATE delivery SET state = 'withdrawn', reason = j.reason, decided_at = j.at FROM",
        [id uuid, reason text, at bigint],
        concat!("WHERE delivery.id = j.id AND ", waits!("delivery"))
    );
}

/// A delivery to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDelivery {
    /// Its id.
    pub id: DeliveryId,
    /// What it is for.
    pub class: Class,
    /// Its lane.
    pub lane: LaneId,
    /// What caused it; with the subscriber it makes it unique.
    pub cause: Uuid,
    /// The notice that gives its text.
    pub notice: Option<NoticeId>,
    /// Who gets it.
    pub subscriber: SubscriberId,
    /// Its thread.
    pub thread: ThreadId,
    /// Why it is made.
    pub rule: Rule,
    /// Of an incident: the revision and the phase it tells.
    pub tells: Option<(i64, Option<Phase>)>,
    /// When it may leave at the earliest.
    pub due_at: Timestamp,
    /// Queued, or why it is not.
    pub state: State,
    /// Why it waits, or why it is not mailed.
    pub reason: Option<Reason>,
    /// The mail of another thread it is folded under.
    pub folded_into: Option<DeliveryId>,
    /// When what it says was accepted; its age counts from then.
    pub created_at: Timestamp,
}

/// What a delivery names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewItem {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The component.
    pub component: ComponentId,
    /// The connection and the claim about it.
    pub connection: Option<(ConnectionId, i64, i64, Timestamp)>,
    /// How the component was doing.
    pub status: Option<ComponentStatus>,
    /// The mail it takes back.
    pub corrects: Option<DeliveryId>,
}

/// Makes deliveries, on the stream of their class. None is due before now: nobody may be looking that far back.
///
/// # Errors
/// When the database fails.
pub async fn add(tx: &mut Tx, of: &[NewDelivery], stream: impl Fn(Class) -> String) -> Result<(), StoreError> {
    let now = tx.now().0;
    // Only the statement looks up the incident of a mail; these have none.
    let have_no_incident = of.iter().all(|d| matches!(d.class, Class::ActionRequired | Class::Correction));
    let list = of.iter().map(|d| {
        columns! {
            id: d.id,
            class: d.class.as_str(),
            stream: stream(d.class),
            lane_id: d.lane,
            cause_id: d.cause,
            notice_id: d.notice,
            subscriber_id: d.subscriber,
            thread_id: d.thread,
            rule: d.rule.as_str(),
            revision: d.tells.map(|t| t.0),
            phase: d.tells.and_then(|t| t.1).map(Phase::as_str),
            state: d.state.as_str(),
            due_at: d.due_at.0.max(now),
            reason: d.reason.map(Reason::as_str),
            folded_into: d.folded_into,
            created_at: d.created_at,
            decided_at: (d.state != State::Queued).then_some(now),
        }
    });
    match have_no_incident {
        true => rows::add(tx, "delivery", ADD_DELIVERIES, list).await,
        false => rows::add_as_json(tx, ADD_DELIVERIES, list).await,
    }
}

/// Makes items; one that is there already stays as it is. Those of deliveries that this transaction has made are not
/// looked for.
///
/// # Errors
/// When the database fails.
pub async fn add_items(tx: &mut Tx, of: &[NewItem], made: &[NewDelivery]) -> Result<(), StoreError> {
    let made: HashSet<DeliveryId> = made.iter().map(|d| d.id).collect();
    let mut once = HashSet::new();
    let known = |i: &&NewItem| (i.delivery, i.connection.map_or(i.component.0, |c| c.0.0), i.corrects);
    let (new, old): (Vec<_>, Vec<_>) =
        of.iter().filter(|i| once.insert(known(i))).partition(|i| made.contains(&i.delivery));
    rows::add(tx, "delivery_item", ADD_ITEMS, new.into_iter().map(item)).await?;
    rows::add_as_json(tx, ADD_ITEMS, old.into_iter().map(item)).await
}

fn item(i: &NewItem) -> [(&'static str, Cell<'_>); 9] {
    columns! {
        delivery_id: i.delivery,
        subject_id: i.connection.map_or(i.component.0, |c| c.0.0),
        component_id: i.component,
        connection_id: i.connection.map(|c| c.0.0),
        episode: i.connection.map_or(0, |c| c.1),
        component_episode: i.connection.map_or(0, |c| c.2),
        failed_at: i.connection.map(|c| c.3.0),
        status: i.status.map(ComponentStatus::as_str),
        corrects_id: i.corrects,
    }
}

/// Folds queued deliveries into newer ones.
///
/// # Errors
/// When the database fails.
pub async fn fold(tx: &mut Tx, of: &[(DeliveryId, DeliveryId)]) -> Result<(), StoreError> {
    let now = tx.now();
    if of.is_empty() { Ok(()) } else { exec!(tx, FOLD, pairs(of, now)).map(drop) }
}

/// Queued deliveries stand for a newer update.
///
/// # Errors
/// When the database fails.
pub async fn renew(tx: &mut Tx, of: &[(DeliveryId, NoticeId, i64)]) -> Result<(), StoreError> {
    let row = |(id, notice, revision): &(DeliveryId, NoticeId, i64)| {
        columns! {
            id: id.0,
            notice_id: notice.0,
            revision: *revision,
        }
    };
    let list: Vec<_> = of.iter().map(row).collect();
    if list.is_empty() { Ok(()) } else { exec!(tx, RENEW, json(list)).map(drop) }
}

/// Queued deliveries that were to wait for news leave now: what was folded into them is news that was not told.
///
/// # Errors
/// When the database fails.
pub async fn hasten(tx: &mut Tx, of: &[(DeliveryId, DeliveryId)]) -> Result<(), StoreError> {
    let now = tx.now();
    exec!(tx, HASTEN, pairs(of, now)).map(drop)
}

/// What is folded, and into what, as the rows of a statement.
fn pairs(of: &[(DeliveryId, DeliveryId)], at: Timestamp) -> String {
    let list = of.iter().map(|(id, into)| columns! { id: id.0, into_id: into.0, at: at.0 });
    json(list)
}

/// Withdraws queued deliveries; how many were still queued.
///
/// # Errors
/// When the database fails.
pub async fn withdraw(tx: &mut Tx, of: &[DeliveryId], reason: Reason) -> Result<u64, StoreError> {
    let at = tx.now().0;
    let list: Vec<_> = of.iter().map(|id| columns! { id: id.0, reason: reason.as_str(), at }).collect();
    if list.is_empty() {
        return Ok(0);
    }
    exec!(tx, WITHDRAW, json(list))
}
