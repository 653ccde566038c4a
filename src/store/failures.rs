//! Failures of connections to be planned: who is concerned, and which mails name them already.

use super::parameter::ids;
use super::rows::json;
use super::{StoreError, Tx, threads};
use crate::domain::delivery::{Reason, State};
use crate::domain::id::{ComponentId, ConnectionId, DeliveryId, LaneId, NoticeId, PlanId, SubscriberId, ThreadId};
use crate::domain::time::Timestamp;
use uuid::Uuid;

/// The page first, and then what is known of each: a flood comes faster than statistics, and of two failures that it expects
/// PostgreSQL would read and sort all there are, for each page.
macro_rules! failures {
    ($lock:literal) => {
        concat!(
            "SELECT p.id, p.notice_id, p.component_id, p.connection_id, p.episode, p.component_episode, p.failed_at, p.created_at,
                k.name AS component_name, c.cleared, c.own_fault_episode,
                EXISTS (SELECT 1 FROM episode e WHERE e.component_id = p.component_id AND e.n >= p.component_episode
                    AND e.covers_from <= p.failed_at AND e.covers_until >= p.failed_at) AS covered
             FROM (SELECT * FROM plan WHERE kind = 'failure' AND done_at IS NULL AND id > $1 ORDER BY id LIMIT $2", $lock, ") AS p
             JOIN connection c ON c.id = p.connection_id JOIN component k ON k.id = p.component_id ORDER BY p.id"
        )
    };
}

statements! {
    // What fails while one of these waits can join it; one that may have left is sent again as it was, a canary may be
    // called back, and one that was tried would bring its tries.
    // As LOCK_QUEUED; what came back from the wire since then is locked here, or it would leave without what joins it.
    WAITING_MAILS = row_by_row!(
        over_rows, "SELECT d.id, d.thread_id, d.lane_id, d.created_at, d.due_at, d.reason FROM", [id uuid],
        ["delivery" "d" on "d.thread_id = j.id AND d.state = 'queued' AND d.class = 'action_required' AND NOT d.maybe_mailed
            AND d.canary_id IS NULL AND d.tries = 0", lock "FOR NO KEY UPDATE"],
        "ORDER BY d.id"
    );
    NAMED_BY_WAITING = over_rows!(
        "SELECT i.delivery_id, i.connection_id FROM", [id uuid, connection_id uuid],
        "JOIN delivery_item i ON i.delivery_id = j.id AND i.subject_id = j.connection_id AND i.connection_id IS NOT NULL
            AND i.corrects_id IS NULL"
    );
    // The reason stays: by that what waits for its component is found at its own time, while that is down.
    JOIN = over_rows!(
        "UPDATE delivery SET due_at = j.due_at FROM", [id uuid, due_at bigint],
        concat!("WHERE delivery.id = j.id AND ", waits!("delivery"))
    );
    // What may have left is sent again as it was, and at once. Nothing holds it any more, unless it names others that wait for
    // their component: the claim parts those from it.
    HASTEN_OWN_FAULTS = over_rows!(
        "UPDATE delivery SET due_at = CASE WHEN delivery.due_at > j.at
                AND delivery.reason IN ('component_down', 'awaiting_reconnection', 'daily_cap') THEN j.at ELSE delivery.due_at END,
            lane_id = CASE WHEN EXISTS (SELECT 1 FROM delivery_item i JOIN connection c ON c.id = i.connection_id
                WHERE i.delivery_id = delivery.id AND i.dropped IS NULL AND c.own_fault_episode <> i.episode)
                THEN delivery.lane_id ELSE j.lane_id END FROM",
        [id uuid, lane_id uuid, at bigint],
        concat!("WHERE delivery.id = j.id AND ", waits!("delivery"), " AND delivery.maybe_mailed")
    );
    FAILURES = super::Sql::differs(failures!(""), failures!(" FOR NO KEY UPDATE SKIP LOCKED"));
    CONCERNED = over_rows!(
        "SELECT j.id, s.subscriber_id FROM", [id uuid, connection_id uuid],
        "JOIN connection_subscriber s ON s.connection_id = j.connection_id"
    );
    // One at a time plans for a subscriber, so two connections of one customer never make two mails. In the order in which an
    // import changes them.
    LOCK_SUBSCRIBERS = super::Sql::differs(
        "SELECT 1 WHERE $1 IS NULL",
        "SELECT 1 FROM subscriber WHERE id IN (SELECT j.id FROM json_to_recordset($1::json) AS j(id uuid))
            ORDER BY key COLLATE \"C\" FOR NO KEY UPDATE",
    );
    // Where a connection's outage is already named, for whom: an old thread counts too. Its outages before, of which
    // there may be hundreds, are not read. What is in quarantine may come back as what was on the wire does.
    NAMED = row_by_row!(
        over_rows, "SELECT i.delivery_id, d.subscriber_id, i.connection_id, i.episode,
            CASE WHEN d.quarantine_until IS NOT NULL THEN 'sending' ELSE d.state END AS state, d.lane_id, d.maybe_mailed,
            d.canary_id IS NOT NULL AS canary FROM",
        [connection_id uuid, episode bigint],
        ["delivery_item" "i" on "i.connection_id = j.connection_id AND i.episode = j.episode AND i.corrects_id IS NULL
            AND i.dropped IS NULL";
         "delivery" "d" on "d.id = i.delivery_id AND d.class = 'action_required'
            AND d.state IN ('queued', 'sending', 'accepted', 'unknown', 'failed', 'parked', 'suppressed', 'cancelled')"],
        ""
    );
    // What joins a mail that no notice began brings its words.
    GIVE_WORDS = over_rows!(
        "UPDATE delivery SET notice_id = j.notice_id FROM", [id uuid, notice_id uuid],
        concat!("WHERE delivery.id = j.id AND delivery.notice_id IS NULL AND ", waits!("delivery"))
    );
    // What fails next must not leave with what is left of a mail: it would have no time to heal.
    WITHDRAW_EMPTIED = over_rows!(
        "UPDATE delivery SET state = 'withdrawn', reason = j.reason, decided_at = j.at FROM",
        [delivery_id uuid, reason text, at bigint],
        concat!("WHERE delivery.id = j.delivery_id AND ", waits!("delivery"), "
            AND NOT EXISTS (SELECT 1 FROM delivery_item i WHERE i.delivery_id = delivery.id AND i.dropped IS NULL)")
    );
}

/// A failure to be planned, with what is known of its connection now.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Failure {
    /// The planning work's id.
    pub id: PlanId,
    /// The notice that gives its text.
    pub notice_id: Option<NoticeId>,
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
    /// Where the delivery stands; in quarantine as on the wire.
    pub state: State,
    /// Its lane.
    pub lane_id: LaneId,
    /// It left, or may have left.
    pub maybe_mailed: bool,
    /// It is one of a surge's canaries.
    pub canary: bool,
}

/// A mail that waits, and may take what fails meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Waiting {
    /// The delivery.
    pub id: DeliveryId,
    /// Its thread.
    pub thread_id: ThreadId,
    /// Its lane.
    pub lane_id: LaneId,
    /// When the first that it names was accepted.
    pub created_at: Timestamp,
    /// When its turn comes.
    pub due_at: Timestamp,
    /// Why it waits.
    pub reason: Option<Reason>,
}

impl Named {
    /// Its customer was told, or is to be.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        matches!(self.state, State::Queued | State::Sending | State::Accepted | State::Unknown)
    }
}

/// A page of failures to plan after a cursor, locked.
///
/// # Errors
/// When the database fails.
pub async fn next(tx: &mut Tx, after: Uuid, page: i64) -> Result<Vec<Failure>, StoreError> {
    rows!(tx, Failure, FAILURES, after, page)
}

/// Who is told about each of some failures; nobody else plans failures for them meanwhile.
///
/// # Errors
/// When the database fails.
pub async fn concerned(tx: &mut Tx, of: &[Failure]) -> Result<Vec<(PlanId, SubscriberId)>, StoreError> {
    let list = of.iter().map(|f| columns! { id: f.id, connection_id: f.connection_id });
    let found = rows!(tx, (PlanId, SubscriberId), CONCERNED, json(list))?;
    lock!(tx, LOCK_SUBSCRIBERS, json(found.iter().map(|(_, subscriber)| columns! { id: subscriber.0 })))?;
    Ok(found)
}

/// Where the outages of some failures are already named in action-required mails.
///
/// # Errors
/// When the database fails.
pub async fn named(tx: &mut Tx, of: &[Failure]) -> Result<Vec<Named>, StoreError> {
    let row = |f: &Failure| columns! { connection_id: f.connection_id, episode: f.episode };
    rows!(tx, Named, NAMED, json(of.iter().map(row)))
}

/// The action-required mails that wait in threads and were never tried, in the order they were made; locked.
///
/// # Errors
/// When the database fails.
pub async fn waiting(tx: &mut Tx, of: &[ThreadId]) -> Result<Vec<Waiting>, StoreError> {
    if of.is_empty() {
        return Ok(Vec::new());
    }
    threads::lock_queued(tx, of).await?;
    rows!(tx, Waiting, WAITING_MAILS, ids(of))
}

/// Which of some connections are named in some mails, in whatever outage.
///
/// # Errors
/// When the database fails.
pub async fn named_by_waiting(
    tx: &mut Tx,
    of: &[(DeliveryId, ConnectionId)],
) -> Result<Vec<(DeliveryId, ConnectionId)>, StoreError> {
    if of.is_empty() {
        return Ok(Vec::new());
    }
    let row = |(d, c): &(DeliveryId, ConnectionId)| columns! { id: d.0, connection_id: c.0 };
    rows!(tx, (DeliveryId, ConnectionId), NAMED_BY_WAITING, json(of.iter().map(row)))
}

/// Withdraws mails that have nothing left to say, and says why.
///
/// # Errors
/// When the database fails.
pub async fn withdraw_emptied(tx: &mut Tx, of: &[DeliveryId], why: Reason) -> Result<(), StoreError> {
    let at = tx.now().0;
    let list: Vec<_> = of.iter().map(|id| columns! { delivery_id: id.0, reason: why.as_str(), at }).collect();
    if list.is_empty() { Ok(()) } else { exec!(tx, WITHDRAW_EMPTIED, json(list)).map(drop) }
}

/// Mails that are joined by failures are due at another time.
///
/// # Errors
/// When the database fails.
pub async fn join(tx: &mut Tx, of: &[(DeliveryId, Timestamp)]) -> Result<(), StoreError> {
    let list: Vec<_> = of.iter().map(|(id, due_at)| columns! { id: id.0, due_at: due_at.0 }).collect();
    if list.is_empty() { Ok(()) } else { exec!(tx, JOIN, json(list)).map(drop) }
}

/// Mails that no notice began take the words of what joined them.
///
/// # Errors
/// When the database fails.
pub async fn give_words(tx: &mut Tx, of: &[(DeliveryId, NoticeId)]) -> Result<(), StoreError> {
    let list: Vec<_> = of.iter().map(|(id, notice)| columns! { id: id.0, notice_id: notice.0 }).collect();
    if list.is_empty() { Ok(()) } else { exec!(tx, GIVE_WORDS, json(list)).map(drop) }
}

/// Mails that may have left, and name faults proven to be the connections' own, wait for their component no more.
///
/// # Errors
/// When the database fails.
pub async fn hasten(tx: &mut Tx, of: &[DeliveryId], own_fault_lane: LaneId) -> Result<(), StoreError> {
    let at = tx.now().0;
    let list: Vec<_> = of.iter().map(|id| columns! { id: id.0, lane_id: own_fault_lane.0, at }).collect();
    if list.is_empty() { Ok(()) } else { exec!(tx, HASTEN_OWN_FAULTS, json(list)).map(drop) }
}
