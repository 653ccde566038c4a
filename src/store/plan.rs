//! Planning: the work left by ingest, who is concerned, and the deliveries it makes.

use super::ingest::{ids, json};
use super::rows::{self, Cell};
use super::{StoreError, Tx, lanes};
use crate::domain::class::Class;
use crate::domain::delivery::{Reason, Rule, State};
use crate::domain::id::{
    ComponentId, ConnectionId, DeliveryId, IncidentId, LaneId, NoticeId, PlanId, SignalId, SubscriberId, ThreadId,
};
use crate::domain::incident::{ComponentStatus, Impact, Phase};
use crate::domain::time::Timestamp;
use serde::Serialize;
use std::collections::HashSet;
use uuid::Uuid;
use uuid::fmt::Simple;

statements! {
    // Of one matter the oldest goes first: an end is never planned before the update it ends. The database's time
    // says which: ids carry the time of the node that made them, and clocks differ.
    NEXT = locking!(
        "SELECT p.id, p.kind, p.matter_id, p.notice_id, p.component_id, p.cursor_list, p.cursor_id, p.created_at FROM plan p
         WHERE p.kind <> 'failure' AND p.done_at IS NULL AND NOT EXISTS (SELECT 1 FROM plan q
            WHERE q.matter_id = p.matter_id AND q.done_at IS NULL AND q.kind <> 'failure' AND (q.created_at, q.id) < (p.created_at, p.id))
         ORDER BY p.id LIMIT 1",
        "FOR NO KEY UPDATE SKIP LOCKED"
    );
    ANYTHING_TO_PLAN = super::Sql::same(
        "SELECT CAST(CASE WHEN EXISTS (SELECT 1 FROM plan WHERE kind = 'failure' AND done_at IS NULL)
            OR EXISTS (SELECT 1 FROM plan WHERE kind <> 'failure' AND done_at IS NULL) THEN 1 ELSE 0 END AS BIGINT)",
    );
    MOVE_CURSOR = super::Sql::same("UPDATE plan SET cursor_list = $2, cursor_id = $3 WHERE id = $1");
    FINISH = over_few_rows!(
        "UPDATE plan SET done_at = j.at, outcome = j.outcome FROM", [id uuid, at bigint, outcome text],
        "WHERE plan.id = j.id AND plan.done_at IS NULL"
    );
    NOTICE = super::Sql::same(
        "SELECT n.id, n.kind, n.class, n.incident_id, n.revision, n.payload, i.key AS incident_key, i.title,
                i.phase, i.impact, i.created_at AS heard_at, i.resolved_at
         FROM notice n LEFT JOIN incident i ON i.id = n.incident_id WHERE n.id = $1",
    );
    HAS_DELIVERY = super::Sql::same("SELECT COUNT(*) FROM (SELECT 1 FROM delivery WHERE cause_id = $1 LIMIT 1) AS one");
    FIRST_TITLE = super::Sql::same(
        "SELECT subject FROM thread WHERE matter_id = $1 LIMIT 1",
    );
    THREADS_OF_MATTER = super::Sql::same(
        "SELECT id, matter_id, subscriber_id, ordinal, told_at, last_mailed_at, ended_at, last_phase FROM thread
         WHERE matter_id = $1 AND subscriber_id > $2 ORDER BY subscriber_id LIMIT $3",
    );
    THREADS = over_rows!(
        "SELECT t.id, t.matter_id, t.subscriber_id, t.ordinal, t.told_at, t.last_mailed_at, t.ended_at, t.last_phase FROM",
        [matter_id uuid, subscriber_id uuid],
        "JOIN thread t ON t.matter_id = j.matter_id AND t.subscriber_id = j.subscriber_id ORDER BY t.ordinal"
    );
    ADD_THREADS = over_rows!(
        "INSERT INTO thread (id, matter_kind, matter_id, subscriber_id, ordinal, root, subject, sender, created_at)
         SELECT j.id, j.matter_kind, j.matter_id, j.subscriber_id, j.ordinal, j.root, j.subject, j.sender, j.created_at FROM",
        [id uuid, matter_kind text, matter_id uuid, subscriber_id uuid, ordinal bigint, root text, subject text, sender text,
         created_at bigint],
        "WHERE TRUE"
    );
    // Undecided or possibly mailed deliveries of threads: what an end, a fold or a join must know.
    SIBLINGS = over_rows!(
        "SELECT d.id, d.thread_id, d.class, d.state, d.lane_id, d.maybe_mailed FROM", [id uuid],
        "JOIN delivery d ON d.thread_id = j.id WHERE d.state IN ('queued', 'sending') OR d.maybe_mailed ORDER BY d.id"
    );
    // What fails while one of these waits can join it; one that may have left is sent again as it was.
    WAITING_MAILS = super::Sql::differs(
        over_rows!(
            "SELECT d.id, d.thread_id, d.lane_id FROM", [id uuid],
            "JOIN delivery d ON d.thread_id = j.id AND d.state = 'queued'
             WHERE d.class = 'action_required' AND NOT d.maybe_mailed ORDER BY d.id"
        ).sqlite,
        // As LOCK_QUEUED.
        "SELECT w.id, w.thread_id, w.lane_id FROM json_to_recordset($1::json) AS j(id uuid)
         CROSS JOIN LATERAL (SELECT d.id, d.thread_id, d.lane_id FROM delivery d WHERE d.thread_id = j.id AND d.state = 'queued'
            AND d.class = 'action_required' AND NOT d.maybe_mailed OFFSET 0) AS w ORDER BY w.id",
    );
    NAMED_BY_WAITING = over_rows!(
        "SELECT d.id, i.connection_id FROM", [thread_id uuid, connection_id uuid],
        "JOIN delivery d ON d.thread_id = j.thread_id AND d.state = 'queued'
         JOIN delivery_item i ON i.delivery_id = d.id AND i.subject_id = j.connection_id AND i.connection_id IS NOT NULL
            AND i.corrects_id IS NULL"
    );
    // A join adds items: the row must not be claimed meanwhile. Thread by thread: where a million corrections have been
    // queued since the last ANALYZE, planners take the queue for empty and go through all of it.
    LOCK_QUEUED = super::Sql::differs(
        "SELECT 1 WHERE $1 IS NULL",
        "SELECT 1 FROM delivery WHERE id = ANY(ARRAY(SELECT w.id FROM json_to_recordset($1::json) AS j(id uuid)
                CROSS JOIN LATERAL (SELECT d.id FROM delivery d WHERE d.thread_id = j.id AND d.state = 'queued' OFFSET 0) AS w))
            AND state = 'queued' ORDER BY id FOR NO KEY UPDATE",
    );
    PLANNED_ALREADY = over_rows!(
        "SELECT d.subscriber_id FROM", [cause_id uuid, subscriber_id uuid],
        "JOIN delivery d ON d.cause_id = j.cause_id AND d.subscriber_id = j.subscriber_id AND d.resend_no = 0"
    );
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
    // What waits for its component, and is joined by what does not, leaves with it; the look parts them.
    JOIN = over_rows!(
        "UPDATE delivery SET due_at = j.due_at, reason = 'dwell' FROM", [id uuid, due_at bigint],
        "WHERE delivery.id = j.id AND delivery.state = 'queued' AND delivery.due_at > j.due_at
            AND delivery.reason IN ('component_down', 'awaiting_reconnection')"
    );
    FOLD = over_rows!(
        "UPDATE delivery SET state = 'folded', reason = 'replaced_by_newer', folded_into = j.into_id, decided_at = j.at FROM",
        [id uuid, into_id uuid, at bigint],
        "WHERE delivery.id = j.id AND delivery.state = 'queued'"
    );
    RENEW = over_rows!(
        "UPDATE delivery SET notice_id = j.notice_id, revision = j.revision FROM", [id uuid, notice_id uuid, revision bigint],
        "WHERE delivery.id = j.id AND delivery.state = 'queued'"
    );
    // What was folded into a mail that waits for news is itself the news.
    HASTEN = over_rows!(
        "UPDATE delivery SET due_at = j.at, rule = COALESCE(f.rule, delivery.rule) FROM", [id uuid, into_id uuid, at bigint],
        "JOIN delivery f ON f.id = j.id AND f.rule <> 'nothing_new'
         WHERE delivery.id = j.into_id AND delivery.state = 'queued' AND delivery.rule = 'nothing_new'"
    );
    WITHDRAW = over_rows!(
        "UPDATE delivery SET state = 'withdrawn', reason = j.reason, decided_at = j.at FROM",
        [id uuid, reason text, at bigint],
        "WHERE delivery.id = j.id AND delivery.state = 'queued'"
    );
    FIND_LANE = locking!(
        "SELECT id, closed_at IS NOT NULL FROM lane WHERE class = $1 AND fence_kind = $2 AND fence_id = $3",
        "FOR NO KEY UPDATE"
    );
    ADD_LANE = super::Sql::same(
        "INSERT INTO lane (id, class, fence_kind, fence_id, created_at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
    );
    FAILURES = locking!(
        "SELECT p.id, p.notice_id, p.signal_id, p.component_id, p.connection_id, p.episode, p.component_episode, p.failed_at, p.created_at,
                k.name AS component_name, c.cleared, c.own_fault_episode, c.episode AS newest,
                EXISTS (SELECT 1 FROM episode e WHERE e.component_id = p.component_id AND e.n >= p.component_episode
                    AND e.covers_from <= p.failed_at AND e.covers_until >= p.failed_at) AS covered
         FROM plan p JOIN connection c ON c.id = p.connection_id JOIN component k ON k.id = p.component_id
         WHERE p.kind = 'failure' AND p.done_at IS NULL AND p.id > $1 ORDER BY p.id LIMIT $2",
        "FOR NO KEY UPDATE OF p SKIP LOCKED"
    );
    CONCERNED = over_rows!(
        "SELECT j.id, s.subscriber_id FROM", [id uuid, connection_id uuid],
        "JOIN connection_subscriber s ON s.connection_id = j.connection_id"
    );
    // Where a connection's outage is already named, for whom: an old thread counts too. Its outages before, of which
    // there may be hundreds, are not read.
    NAMED = super::Sql::differs(
        over_rows!(
            "SELECT i.delivery_id, d.subscriber_id, i.connection_id, i.episode, d.state, d.lane_id, d.maybe_mailed FROM",
            [connection_id uuid, episode bigint],
            "JOIN delivery_item i ON i.connection_id = j.connection_id AND i.episode = j.episode AND i.corrects_id IS NULL
             JOIN delivery d ON d.id = i.delivery_id
             WHERE i.dropped IS NULL AND d.class = 'action_required' AND d.state IN ('queued', 'sending', 'accepted', 'unknown')"
        ).sqlite,
        // Outage by outage: a table that has grown since its last ANALYZE is taken for empty, and compared as a whole.
        "SELECT i.delivery_id, d.subscriber_id, i.connection_id, i.episode, d.state, d.lane_id, d.maybe_mailed
         FROM json_to_recordset($1::json) AS j(connection_id uuid, episode bigint)
         CROSS JOIN LATERAL (SELECT x.delivery_id, x.connection_id, x.episode FROM delivery_item x
            WHERE x.connection_id = j.connection_id AND x.episode = j.episode AND x.corrects_id IS NULL AND x.dropped IS NULL OFFSET 0) AS i
         CROSS JOIN LATERAL (SELECT x.subscriber_id, x.state, x.lane_id, x.maybe_mailed FROM delivery x WHERE x.id = i.delivery_id
            AND x.class = 'action_required' AND x.state IN ('queued', 'sending', 'accepted', 'unknown') OFFSET 0) AS d",
    );
    // What fails next must not leave with what is left of a mail: it would have no time to heal.
    WITHDRAW_EMPTIED = over_rows!(
        "UPDATE delivery SET state = 'withdrawn', reason = 'items_moved', decided_at = j.at FROM", [delivery_id uuid, at bigint],
        "WHERE delivery.id = j.delivery_id AND delivery.state = 'queued'
            AND NOT EXISTS (SELECT 1 FROM delivery_item i WHERE i.delivery_id = delivery.id AND i.dropped IS NULL)"
    );
    OPEN_INCIDENTS_OF = super::Sql::same(
        "SELECT i.id, i.revision, (SELECT n.id FROM notice n WHERE n.incident_id = i.id
                AND n.outcome NOT IN ('repeated', 'stale_at_birth') ORDER BY n.revision DESC LIMIT 1) AS notice_id
         FROM incident_component ic JOIN incident i ON i.id = ic.incident_id
         WHERE ic.component_id = $1 AND i.resolved_at IS NULL AND i.phase NOT IN ('scheduled', 'in_progress', 'verifying')
         ORDER BY i.id",
    );
}

/// Planning work of a notice, or of a component that came back.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Job {
    /// Its id.
    pub id: PlanId,
    /// `notice` or `component_up`.
    pub kind: String,
    /// What orders it.
    pub matter_id: Uuid,
    /// The notice to plan.
    pub notice_id: Option<NoticeId>,
    /// The component that came back.
    pub component_id: Option<ComponentId>,
    /// Which list of subscribers is being read.
    pub cursor_list: i64,
    /// Up to whom it was read.
    pub cursor_id: Option<Uuid>,
    /// When it was left.
    pub created_at: Timestamp,
}

/// A notice as planning needs it.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Notice {
    /// Its id.
    pub id: NoticeId,
    /// `incident`, `action_required` or `free`.
    pub kind: String,
    /// The class of its mails.
    pub class: Class,
    /// Its incident.
    pub incident_id: Option<IncidentId>,
    /// Which update of it, counted from 1.
    pub revision: Option<i64>,
    /// Where the incident stands now.
    pub phase: Option<Phase>,
    /// How bad the incident is.
    pub impact: Option<Impact>,
    /// When the incident was first heard of.
    pub heard_at: Option<Timestamp>,
    /// What was said, as JSON.
    pub payload: String,
    /// The incident's key.
    pub incident_key: Option<String>,
    /// The incident's title.
    pub title: Option<String>,
    /// When the incident was resolved, as known now.
    pub resolved_at: Option<Timestamp>,
}

/// A thread as planning needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Thread {
    /// Its id.
    pub id: ThreadId,
    /// The incident, component or notice.
    pub matter_id: Uuid,
    /// Whose it is.
    pub subscriber_id: SubscriberId,
    /// Its number among the threads of this matter and subscriber.
    pub ordinal: i64,
    /// When the subscriber was first told, or perhaps told.
    pub told_at: Option<Timestamp>,
    /// When the last mail left.
    pub last_mailed_at: Option<Timestamp>,
    /// When it had its end.
    pub ended_at: Option<Timestamp>,
    /// The phase last told.
    pub last_phase: Option<Phase>,
}

/// A thread to be made.
#[derive(Clone, Debug)]
pub struct NewThread {
    /// Its id.
    pub id: ThreadId,
    /// `incident`, `connections` or `notice`.
    pub matter_kind: &'static str,
    /// The incident, component or notice.
    pub matter_id: Uuid,
    /// Whose it is.
    pub subscriber: SubscriberId,
    /// Its number among the threads of this matter and subscriber.
    pub ordinal: i64,
    /// The id that all its mails refer to.
    pub root: String,
    /// The subject of all its mails.
    pub subject: String,
    /// From whom they come.
    pub sender: String,
}

/// A delivery that planning must know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Sibling {
    /// Its id.
    pub id: DeliveryId,
    /// Its thread.
    pub thread_id: ThreadId,
    /// What it is for.
    pub class: Class,
    /// Where it stands.
    pub state: State,
    /// Its lane.
    pub lane_id: LaneId,
    /// It left, or may have left.
    pub maybe_mailed: bool,
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

/// A failure to be planned, with what is known of its connection now.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Failure {
    /// The planning work's id.
    pub id: PlanId,
    /// The notice that gives its text.
    pub notice_id: Option<NoticeId>,
    /// The signal that reported it.
    pub signal_id: Option<SignalId>,
    /// The component.
    pub component_id: ComponentId,
    /// The connection.
    pub connection_id: ConnectionId,
    /// Its outage.
    pub episode: i64,
    /// The component's newest outage when it was reported.
    pub component_episode: i64,
    /// When it was observed.
    pub failed_at: Timestamp,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// The component's name.
    pub component_name: String,
    /// Up to which outage the connection is recorded as recovered.
    pub cleared: i64,
    /// The newest outage proven to be its own fault.
    pub own_fault_episode: i64,
    /// The newest outage.
    pub newest: i64,
    /// A covering recovery covers it.
    pub covered: bool,
}

/// Where a connection's outage is already named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Named {
    /// The delivery.
    pub delivery_id: DeliveryId,
    /// Who gets it.
    pub subscriber_id: SubscriberId,
    /// The connection.
    pub connection_id: ConnectionId,
    /// The outage.
    pub episode: i64,
    /// Where the delivery stands.
    pub state: State,
    /// Its lane.
    pub lane_id: LaneId,
    /// It left, or may have left.
    pub maybe_mailed: bool,
}

/// The next notice or returned component to plan, locked.
///
/// # Errors
/// When the database fails.
pub async fn next(tx: &mut Tx) -> Result<Option<Job>, StoreError> {
    first!(tx, Job, NEXT)
}

/// Whether anything is to be planned.
///
/// # Errors
/// When the database fails.
pub async fn anything(tx: &mut Tx) -> Result<bool, StoreError> {
    Ok(value!(tx, i64, ANYTHING_TO_PLAN)? > 0)
}

/// A notice.
///
/// # Errors
/// When the database fails.
pub async fn notice(tx: &mut Tx, id: NoticeId) -> Result<Notice, StoreError> {
    on_db!(tx, NOTICE, query_as::<Notice>, fetch_one, id)
}

/// Whether a cause has made any delivery.
///
/// # Errors
/// When the database fails.
pub async fn has_delivery(tx: &mut Tx, cause: Uuid) -> Result<bool, StoreError> {
    Ok(value!(tx, i64, HAS_DELIVERY, cause)? > 0)
}

/// The subject that the matter's threads already have.
///
/// # Errors
/// When the database fails.
pub async fn subject_of(tx: &mut Tx, matter: Uuid) -> Result<Option<String>, StoreError> {
    Ok(first!(tx, (String,), FIRST_TITLE, matter)?.map(|row| row.0))
}

/// Remembers how far a piece of work has come.
///
/// # Errors
/// When the database fails.
pub async fn move_cursor(tx: &mut Tx, id: PlanId, list: i64, at: Option<Uuid>) -> Result<(), StoreError> {
    exec!(tx, MOVE_CURSOR, id, list, at).map(drop)
}

/// Ends pieces of work with what became of them.
///
/// # Errors
/// When the database fails.
pub async fn finish(tx: &mut Tx, of: &[(PlanId, &str)]) -> Result<(), StoreError> {
    #[derive(Serialize)]
    struct Row<'a> {
        id: Simple,
        at: i64,
        outcome: &'a str,
    }
    let at = tx.now().0;
    let list: Vec<_> = of.iter().map(|(id, outcome)| Row { id: id.0.simple(), at, outcome }).collect();
    exec!(tx, FINISH, json(&list)).map(drop)
}

/// A page of a matter's threads after a cursor.
///
/// # Errors
/// When the database fails.
pub async fn threads_of_matter(tx: &mut Tx, matter: Uuid, after: Uuid, page: i64) -> Result<Vec<Thread>, StoreError> {
    rows!(tx, Thread, THREADS_OF_MATTER, matter, after, page)
}

/// The threads of some matters and subscribers, in the order of their numbers.
///
/// # Errors
/// When the database fails.
pub async fn threads(tx: &mut Tx, of: &[(Uuid, SubscriberId)]) -> Result<Vec<Thread>, StoreError> {
    #[derive(Serialize)]
    struct Row {
        matter_id: Simple,
        subscriber_id: Simple,
    }
    let list: Vec<_> = of.iter().map(|(m, s)| Row { matter_id: m.simple(), subscriber_id: s.0.simple() }).collect();
    rows!(tx, Thread, THREADS, json(&list))
}

/// Makes threads.
///
/// # Errors
/// When the database fails.
pub async fn add_threads(tx: &mut Tx, of: &[NewThread]) -> Result<(), StoreError> {
    let now = tx.now().0;
    let list = of.iter().map(|t| {
        [
            ("id", t.id.0.into()),
            ("matter_kind", t.matter_kind.into()),
            ("matter_id", t.matter_id.into()),
            ("subscriber_id", t.subscriber.0.into()),
            ("ordinal", t.ordinal.into()),
            ("root", t.root.as_str().into()),
            ("subject", t.subject.as_str().into()),
            ("sender", t.sender.as_str().into()),
            ("created_at", now.into()),
        ]
    });
    rows::add(tx, "thread", ADD_THREADS, list).await
}

/// Locks what is queued in threads, always in the same order.
///
/// # Errors
/// When the database fails.
pub async fn lock_queued(tx: &mut Tx, of: &[ThreadId]) -> Result<(), StoreError> {
    exec!(tx, LOCK_QUEUED, ids(of)).map(drop)
}

/// The undecided or possibly mailed deliveries of threads; queued ones are locked.
///
/// # Errors
/// When the database fails.
pub async fn siblings(tx: &mut Tx, of: &[ThreadId]) -> Result<Vec<Sibling>, StoreError> {
    let list = ids(of);
    exec!(tx, LOCK_QUEUED, &list)?;
    rows!(tx, Sibling, SIBLINGS, &list)
}

/// Those of some subscribers for whom a cause has made a delivery already.
///
/// # Errors
/// When the database fails.
pub async fn planned_already(tx: &mut Tx, cause: Uuid, of: &[SubscriberId]) -> Result<Vec<SubscriberId>, StoreError> {
    #[derive(Serialize)]
    struct Row {
        cause_id: Simple,
        subscriber_id: Simple,
    }
    let list: Vec<_> = of.iter().map(|s| Row { cause_id: cause.simple(), subscriber_id: s.0.simple() }).collect();
    Ok(rows!(tx, (SubscriberId,), PLANNED_ALREADY, json(&list))?.into_iter().map(|row| row.0).collect())
}

/// Makes deliveries, on the stream of their class. None is due before now: nobody may be looking that far back.
///
/// # Errors
/// When the database fails.
pub async fn add_deliveries(
    tx: &mut Tx,
    of: &[NewDelivery],
    stream: impl Fn(Class) -> String,
) -> Result<(), StoreError> {
    let now = tx.now().0;
    // Only the statement looks up the incident of a mail; these have none.
    let have_no_incident = of.iter().all(|d| matches!(d.class, Class::ActionRequired | Class::Correction));
    let list = of.iter().map(|d| {
        [
            ("id", d.id.0.into()),
            ("class", d.class.as_str().into()),
            ("stream", stream(d.class).into()),
            ("lane_id", d.lane.0.into()),
            ("cause_id", d.cause.into()),
            ("notice_id", d.notice.map(|n| n.0).into()),
            ("subscriber_id", d.subscriber.0.into()),
            ("thread_id", d.thread.0.into()),
            ("rule", d.rule.as_str().into()),
            ("revision", d.tells.map(|t| t.0).into()),
            ("phase", d.tells.and_then(|t| t.1).map(Phase::as_str).into()),
            ("state", d.state.as_str().into()),
            ("due_at", d.due_at.0.max(now).into()),
            ("reason", d.reason.map(Reason::as_str).into()),
            ("folded_into", d.folded_into.map(|d| d.0).into()),
            ("created_at", d.created_at.0.into()),
            ("decided_at", (d.state != State::Queued).then_some(now).into()),
        ]
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
    [
        ("delivery_id", i.delivery.0.into()),
        ("subject_id", i.connection.map_or(i.component.0, |c| c.0.0).into()),
        ("component_id", i.component.0.into()),
        ("connection_id", i.connection.map(|c| c.0.0).into()),
        ("episode", i.connection.map_or(0, |c| c.1).into()),
        ("component_episode", i.connection.map_or(0, |c| c.2).into()),
        ("failed_at", i.connection.map(|c| c.3.0).into()),
        ("status", i.status.map(ComponentStatus::as_str).into()),
        ("corrects_id", i.corrects.map(|d| d.0).into()),
    ]
}

/// Folds queued deliveries into newer ones.
///
/// # Errors
/// When the database fails.
pub async fn fold(tx: &mut Tx, of: &[(DeliveryId, DeliveryId)]) -> Result<(), StoreError> {
    #[derive(Serialize)]
    struct Row {
        id: Simple,
        into_id: Simple,
        at: i64,
    }
    let at = tx.now().0;
    let list: Vec<_> = of.iter().map(|(id, into)| Row { id: id.0.simple(), into_id: into.0.simple(), at }).collect();
    if list.is_empty() {
        return Ok(());
    }
    exec!(tx, FOLD, json(&list)).map(drop)
}

/// Queued deliveries stand for a newer update.
///
/// # Errors
/// When the database fails.
pub async fn renew(tx: &mut Tx, of: &[(DeliveryId, NoticeId, i64)]) -> Result<(), StoreError> {
    #[derive(Serialize)]
    struct Row {
        id: Simple,
        notice_id: Simple,
        revision: i64,
    }
    let row = |(id, notice, revision): &(DeliveryId, NoticeId, i64)| Row {
        id: id.0.simple(),
        notice_id: notice.0.simple(),
        revision: *revision,
    };
    let list: Vec<_> = of.iter().map(row).collect();
    if list.is_empty() { Ok(()) } else { exec!(tx, RENEW, json(&list)).map(drop) }
}

/// Queued deliveries that were to wait for news leave now: what was folded into them is news that was not told.
///
/// # Errors
/// When the database fails.
pub async fn hasten(tx: &mut Tx, of: &[(DeliveryId, DeliveryId)]) -> Result<(), StoreError> {
    #[derive(Serialize)]
    struct Row {
        id: Simple,
        into_id: Simple,
        at: i64,
    }
    let at = tx.now().0;
    let list: Vec<_> = of.iter().map(|(id, into)| Row { id: id.0.simple(), into_id: into.0.simple(), at }).collect();
    exec!(tx, HASTEN, json(&list)).map(drop)
}

/// Withdraws queued deliveries; how many were still queued.
///
/// # Errors
/// When the database fails.
pub async fn withdraw(tx: &mut Tx, of: &[DeliveryId], reason: Reason) -> Result<u64, StoreError> {
    #[derive(Serialize)]
    struct Row {
        id: Simple,
        reason: &'static str,
        at: i64,
    }
    let at = tx.now().0;
    let list: Vec<_> = of.iter().map(|id| Row { id: id.0.simple(), reason: reason.as_str(), at }).collect();
    if list.is_empty() {
        return Ok(0);
    }
    exec!(tx, WITHDRAW, json(&list))
}

/// What a lane's deliveries have in common besides the class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fence {
    /// Nothing.
    None,
    /// A component.
    Component(ComponentId),
    /// An incident.
    Incident(IncidentId),
}

/// The lane of a class and fence, made if need be, and locked: of one lane only one page is planned at a time,
/// so two connections of one customer never make two mails.
///
/// # Errors
/// When the database fails.
pub async fn lane(tx: &mut Tx, class: Class, fence: Fence) -> Result<LaneId, StoreError> {
    let (kind, id) = match fence {
        Fence::None => ("none", Uuid::nil()),
        Fence::Component(id) => ("component", id.0),
        Fence::Incident(id) => ("incident", id.0),
    };
    if let Some((lane, closed)) = first!(tx, (LaneId, bool), FIND_LANE, class, kind, id)? {
        if closed {
            lanes::open(tx, &[lane]).await?;
        }
        return Ok(lane);
    }
    let now = tx.now();
    exec!(tx, ADD_LANE, LaneId::new(), class, kind, id, now)?;
    value!(tx, LaneId, FIND_LANE, class, kind, id)
}

/// A page of failures to plan after a cursor, locked.
///
/// # Errors
/// When the database fails.
pub async fn failures(tx: &mut Tx, after: Uuid, page: i64) -> Result<Vec<Failure>, StoreError> {
    rows!(tx, Failure, FAILURES, after, page)
}

/// Who is told about each of some failures.
///
/// # Errors
/// When the database fails.
pub async fn concerned(tx: &mut Tx, of: &[Failure]) -> Result<Vec<(PlanId, SubscriberId)>, StoreError> {
    #[derive(Serialize)]
    struct Row {
        id: Simple,
        connection_id: Simple,
    }
    let list: Vec<_> =
        of.iter().map(|f| Row { id: f.id.0.simple(), connection_id: f.connection_id.0.simple() }).collect();
    rows!(tx, (PlanId, SubscriberId), CONCERNED, json(&list))
}

/// Where the outages of some failures are already named in action-required mails.
///
/// # Errors
/// When the database fails.
pub async fn named(tx: &mut Tx, of: &[Failure]) -> Result<Vec<Named>, StoreError> {
    #[derive(Serialize)]
    struct Row {
        connection_id: Simple,
        episode: i64,
    }
    let row = |f: &Failure| Row { connection_id: f.connection_id.0.simple(), episode: f.episode };
    rows!(tx, Named, NAMED, json(&of.iter().map(row).collect::<Vec<_>>()))
}

/// The action-required mails that wait in threads and have never left, each with its thread and lane; locked.
///
/// # Errors
/// When the database fails.
pub async fn waiting(tx: &mut Tx, of: &[ThreadId]) -> Result<Vec<(DeliveryId, ThreadId, LaneId)>, StoreError> {
    let list = ids(of);
    exec!(tx, LOCK_QUEUED, &list)?;
    rows!(tx, (DeliveryId, ThreadId, LaneId), WAITING_MAILS, &list)
}

/// Which of some connections the mails that wait in some threads name, in whatever outage.
///
/// # Errors
/// When the database fails.
pub async fn named_by_waiting(
    tx: &mut Tx,
    of: &[(ThreadId, ConnectionId)],
) -> Result<Vec<(DeliveryId, ConnectionId)>, StoreError> {
    #[derive(Serialize)]
    struct Row {
        thread_id: Simple,
        connection_id: Simple,
    }
    let row = |(t, c): &(ThreadId, ConnectionId)| Row { thread_id: t.0.simple(), connection_id: c.0.simple() };
    rows!(tx, (DeliveryId, ConnectionId), NAMED_BY_WAITING, json(&of.iter().map(row).collect::<Vec<_>>()))
}

/// Withdraws mails that have nothing left to say.
///
/// # Errors
/// When the database fails.
pub async fn withdraw_emptied(tx: &mut Tx, of: &[DeliveryId]) -> Result<(), StoreError> {
    #[derive(Serialize)]
    struct Row {
        delivery_id: Simple,
        at: i64,
    }
    let at = tx.now().0;
    let list: Vec<_> = of.iter().map(|id| Row { delivery_id: id.0.simple(), at }).collect();
    if list.is_empty() { Ok(()) } else { exec!(tx, WITHDRAW_EMPTIED, json(&list)).map(drop) }
}

/// Mails that wait for their component are joined by failures that are due by then.
///
/// # Errors
/// When the database fails.
pub async fn join(tx: &mut Tx, of: &[(DeliveryId, Timestamp)]) -> Result<(), StoreError> {
    #[derive(Serialize)]
    struct Row {
        id: Simple,
        due_at: i64,
    }
    let now = tx.now().0;
    let list: Vec<_> = of.iter().map(|(id, due_at)| Row { id: id.0.simple(), due_at: due_at.0.max(now) }).collect();
    if list.is_empty() {
        return Ok(());
    }
    exec!(tx, JOIN, json(&list)).map(drop)
}

/// The unresolved incidents, maintenances apart, that have named a component: each with its revision and its newest update.
///
/// # Errors
/// When the database fails.
pub async fn open_incidents_of(
    tx: &mut Tx,
    component: ComponentId,
) -> Result<Vec<(IncidentId, i64, Option<NoticeId>)>, StoreError> {
    rows!(tx, (IncidentId, i64, Option<NoticeId>), OPEN_INCIDENTS_OF, component)
}
