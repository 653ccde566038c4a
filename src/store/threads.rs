//! What each subscriber was told about a matter, and the mails that are in it.

use super::parameter::ids;
use super::rows::{self, json};
use super::{StoreError, Tx};
use crate::domain::class::Class;
use crate::domain::delivery::State;
use crate::domain::id::{DeliveryId, LaneId, SubscriberId, ThreadId};
use crate::domain::incident::Phase;
use crate::domain::time::Timestamp;
use uuid::Uuid;

statements! {
    THREADS_OF_MATTER = super::Sql::same(
        "SELECT id, matter_id, subscriber_id, ordinal, told_at, last_mailed_at, ended_at, last_phase FROM thread
         WHERE matter_id = $1 AND subscriber_id > $2 ORDER BY subscriber_id LIMIT $3",
    );
    THREADS = over_rows!(
        "SELECT t.id, t.matter_id, t.subscriber_id, t.ordinal, t.told_at, t.last_mailed_at, t.ended_at, t.last_phase FROM",
        [matter_id uuid, subscriber_id uuid],
        "JOIN thread t ON t.matter_id = j.matter_id AND t.subscriber_id = j.subscriber_id ORDER BY t.ordinal"
    );
    IDLE = over_rows!(
        "SELECT t.id FROM", [id uuid, before bigint],
        "JOIN thread t ON t.id = j.id WHERE t.last_mailed_at IS NULL AND t.created_at < j.before
            AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.thread_id = t.id AND d.decided_at IS NULL)"
    );
    ADD_THREADS = over_rows!(
        "INSERT INTO thread (id, matter_kind, matter_id, subscriber_id, ordinal, root, subject, sender, created_at)
         SELECT j.id, j.matter_kind, j.matter_id, j.subscriber_id, j.ordinal, j.root, j.subject, j.sender, j.created_at FROM",
        [id uuid, matter_kind text, matter_id uuid, subscriber_id uuid, ordinal bigint, root text, subject text, sender text,
         created_at bigint],
        "WHERE TRUE"
    );
    // Deliveries of threads that are undecided, left perhaps, or may come back: what an end or a fold must know.
    SIBLINGS = over_rows!(
        "SELECT d.id, d.thread_id, d.class, d.state, d.lane_id, d.maybe_mailed,
            CASE WHEN d.class = 'incident_update' AND NOT d.maybe_mailed THEN EXISTS (SELECT 1 FROM delivery_item i
                WHERE i.delivery_id = d.id AND i.status <> 'operational') ELSE FALSE END AS unsaid FROM",
        [id uuid],
        "JOIN delivery d ON d.thread_id = j.id WHERE d.state IN ('queued', 'sending') OR d.maybe_mailed
            OR (d.state = 'folded' AND d.reason IN ('under_cause', 'told_elsewhere')) ORDER BY d.id"
    );
    // A join adds items: the row must not be claimed meanwhile. Thread by thread: where a million corrections have been
    // queued since the last ANALYZE, planners take the queue for empty and go through all of it.
    LOCK_QUEUED = super::Sql::differs(
        "SELECT 1 WHERE $1 IS NULL",
        concat!("SELECT 1 FROM delivery WHERE id = ANY(ARRAY(SELECT w.id FROM json_to_recordset($1::json) AS j(id uuid)
                CROSS JOIN LATERAL (SELECT d.id FROM delivery d WHERE d.thread_id = j.id AND d.state = 'queued' OFFSET 0) AS w))
            AND ", waits!("delivery"), " ORDER BY id FOR NO KEY UPDATE"),
    );
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
    /// It tells of trouble with a component, and has not left.
    pub unsaid: bool,
}

/// A page of a matter's threads after a cursor.
///
/// # Errors
/// When the database fails.
pub async fn of_matter(tx: &mut Tx, matter: Uuid, after: Uuid, page: i64) -> Result<Vec<Thread>, StoreError> {
    rows!(tx, Thread, THREADS_OF_MATTER, matter, after, page)
}

/// The threads of some matters and subscribers, in the order of their numbers.
///
/// # Errors
/// When the database fails.
pub async fn find(tx: &mut Tx, of: &[(Uuid, SubscriberId)]) -> Result<Vec<Thread>, StoreError> {
    let list = of.iter().map(|(m, s)| columns! { matter_id: m, subscriber_id: s.0 });
    rows!(tx, Thread, THREADS, json(list))
}

/// Those of these threads that were made before a time, never mailed anybody, and in which nothing waits.
///
/// # Errors
/// When the database fails.
pub async fn idle(tx: &mut Tx, of: &[ThreadId], before: Timestamp) -> Result<Vec<ThreadId>, StoreError> {
    let list = of.iter().map(|id| columns! { id: id.0, before: before.0 });
    Ok(rows!(tx, (ThreadId,), IDLE, json(list))?.into_iter().map(|row| row.0).collect())
}

/// Makes threads.
///
/// # Errors
/// When the database fails.
pub async fn add(tx: &mut Tx, of: &[NewThread]) -> Result<(), StoreError> {
    let now = tx.now().0;
    let list = of.iter().map(|t| {
        columns! {
            id: t.id,
            matter_kind: t.matter_kind,
            matter_id: t.matter_id,
            subscriber_id: t.subscriber,
            ordinal: t.ordinal,
            root: t.root.as_str(),
            subject: t.subject.as_str(),
            sender: t.sender.as_str(),
            created_at: now,
        }
    });
    rows::add(tx, "thread", ADD_THREADS, list).await
}

/// Locks what is queued in threads, always in the same order.
///
/// # Errors
/// When the database fails.
pub async fn lock_queued(tx: &mut Tx, of: &[ThreadId]) -> Result<(), StoreError> {
    lock!(tx, LOCK_QUEUED, ids(of))
}

/// The deliveries of threads that are undecided, left perhaps, or were folded under others'; queued ones are locked.
///
/// # Errors
/// When the database fails.
pub async fn siblings(tx: &mut Tx, of: &[ThreadId]) -> Result<Vec<Sibling>, StoreError> {
    let list = ids(of);
    lock!(tx, LOCK_QUEUED, &list)?;
    rows!(tx, Sibling, SIBLINGS, &list)
}
