//! Resends: what is known of a delivery that a person wants sent again, what could go instead of it, and the new
//! delivery.

use super::parameter::ids;
use super::recover::Touched;
use super::rows::json;
use super::{StoreError, Tx, lanes};
use crate::domain::class::Class;
use crate::domain::delivery::{Reason, State};
use crate::domain::id::{ComponentId, ConnectionId, DeliveryId, IncidentId, LaneId, NoticeId, SubscriberId, ThreadId};
use crate::domain::time::Timestamp;
use uuid::Uuid;

/// A cause and a subscriber: a delivery and its resends have them in common.
pub type Key = (Uuid, SubscriberId);

statements! {
    // Who plans an update of an incident has its lane: it folds what it sees queued, and must see the resend.
    LOCK_LANES = super::Sql::differs(
        "SELECT 1 WHERE $1 IS NULL",
        "SELECT 1 FROM lane WHERE class = 'incident_update' AND id IN (SELECT d.lane_id
            FROM json_to_recordset($1::json) AS j(id uuid) JOIN delivery d ON d.id = j.id) ORDER BY id FOR NO KEY UPDATE",
    );
    KNOWN = over_rows!(
        "SELECT d.id, d.class, d.state, d.reason, d.cause_id, d.subscriber_id, d.thread_id, d.notice_id, d.lane_id,
            CASE WHEN t.matter_kind = 'incident' THEN t.matter_id END AS incident_id,
            COALESCE(r.created_at, d.created_at) AS said_at,
            d.class IN ('incident_update', 'incident_end', 'all_clear', 'post_mortem') AND EXISTS (
                SELECT 1 FROM delivery n WHERE n.thread_id = d.thread_id AND n.resend_no = 0
                    AND (n.state IN ('queued', 'sending', 'failed', 'suppressed', 'parked') OR n.maybe_mailed)
                    AND (n.created_at, n.id) > (COALESCE(r.created_at, d.created_at), COALESCE(r.id, d.id))
                    AND CASE WHEN d.class = 'post_mortem' THEN n.class = 'post_mortem'
                        ELSE n.class IN ('incident_update', 'incident_end', 'all_clear') END) AS newer
         FROM", [id uuid],
        "JOIN delivery d ON d.id = j.id JOIN thread t ON t.id = d.thread_id
         LEFT JOIN delivery r ON r.cause_id = d.cause_id AND r.subscriber_id = d.subscriber_id AND r.resend_no = 0"
    );
    COPIES_SENT = over_rows!(
        "SELECT f.cause_id, f.subscriber_id, MAX(f.resend_no) AS resends,
            MAX(CASE WHEN f.maybe_mailed THEN COALESCE(f.claimed_at, f.decided_at) END) AS left_at,
            MAX(CASE WHEN f.state IN ('queued', 'sending') OR f.quarantine_until IS NOT NULL THEN 1 ELSE 0 END) > 0 AS on_its_way
         FROM", [cause_id uuid, subscriber_id uuid],
        "JOIN delivery f ON f.cause_id = j.cause_id AND f.subscriber_id = j.subscriber_id
         GROUP BY f.cause_id, f.subscriber_id"
    );
    SUPPRESSED = over_rows!(
        "SELECT j.id, x.class FROM", [id uuid],
        "JOIN delivery d ON d.id = j.id JOIN subscriber s ON s.id = d.subscriber_id JOIN suppression x ON lower(x.address) = lower(s.address)"
    );
    // Connections of an action-required mail that are broken again, or still: what is true of them now.
    PRESENT = over_rows!(
        "SELECT j.id, c.id AS connection_id, c.component_id, c.episode, c.failed_at,
            k.episode AS component_episode, c.own_fault_episode >= c.episode AS own_fault,
            (SELECT MAX(COALESCE(m.claimed_at, m.created_at)) FROM delivery_item x JOIN delivery m ON m.id = x.delivery_id
                WHERE x.connection_id = c.id AND x.episode = c.episode AND x.corrects_id IS NULL AND x.dropped IS NULL
                AND m.subscriber_id = d.subscriber_id AND m.maybe_mailed) AS left_at,
            EXISTS (SELECT 1 FROM delivery_item x JOIN delivery m ON m.id = x.delivery_id
                WHERE x.connection_id = c.id AND x.episode = c.episode AND x.corrects_id IS NULL AND x.dropped IS NULL
                AND m.subscriber_id = d.subscriber_id AND m.state IN ('queued', 'sending')) AS on_its_way
         FROM", [id uuid],
        "JOIN delivery d ON d.id = j.id AND d.class = 'action_required'
         JOIN delivery_item i ON i.delivery_id = d.id AND i.dropped IS NULL AND i.corrects_id IS NULL
         JOIN connection c ON c.id = i.connection_id AND c.cleared < c.episode AND c.fault = 'permanent'
         JOIN component k ON k.id = c.component_id
         JOIN connection_subscriber s ON s.connection_id = c.id AND s.subscriber_id = d.subscriber_id
         WHERE c.own_fault_episode >= c.episode OR NOT EXISTS (SELECT 1 FROM episode e WHERE e.component_id = c.component_id
            AND e.covers_from <= c.failed_at AND e.covers_until >= c.failed_at) ORDER BY j.id, c.id"
    );
    // What copies of an action-required mail that left said, and no correction has taken back.
    NOT_TAKEN_BACK = over_rows!(
        "SELECT j.id, i.delivery_id, i.component_id, i.connection_id, i.episode, i.component_episode, i.failed_at, f.state,
            f.maybe_mailed, f.thread_id, f.subscriber_id FROM", [id uuid],
        "JOIN delivery d ON d.id = j.id AND d.class = 'action_required'
         JOIN delivery f ON f.cause_id = d.cause_id AND f.subscriber_id = d.subscriber_id AND f.maybe_mailed
         JOIN delivery_item i ON i.delivery_id = f.id AND i.connection_id IS NOT NULL AND i.corrects_id IS NULL AND i.dropped IS NULL
         WHERE NOT EXISTS (SELECT 1 FROM delivery_item k
            WHERE k.corrects_id = i.delivery_id AND k.subject_id = i.subject_id AND k.episode = i.episode)"
    );
    // Of those that went to the reader, or were to go: another may be to others alone. An end goes to all who were told.
    NEWEST_UPDATE = over_rows!(
        "SELECT j.id, n.id AS notice_id, n.class, (SELECT x.id FROM delivery x WHERE x.cause_id = n.id
            AND x.subscriber_id = d.subscriber_id AND EXISTS (SELECT 1 FROM delivery_item y WHERE y.delivery_id = x.id
                AND y.dropped IS NULL) ORDER BY x.resend_no DESC LIMIT 1) AS own FROM", [id uuid],
        "JOIN delivery d ON d.id = j.id JOIN thread t ON t.id = d.thread_id AND t.matter_kind = 'incident'
         JOIN notice n ON n.id = (SELECT m.id FROM notice m WHERE m.incident_id = t.matter_id AND m.deliver AND m.reason IS NULL
            AND (m.class = 'incident_end' OR EXISTS (SELECT 1 FROM delivery x WHERE x.cause_id = m.id
                AND x.subscriber_id = d.subscriber_id))
            ORDER BY m.revision DESC LIMIT 1)"
    );
    ADD_RESENDS = over_rows!(
        "INSERT INTO delivery (id, class, stream, lane_id, cause_id, notice_id, subscriber_id, thread_id, resend_no, resend_of,
            state, due_at, rule, revision, phase, created_at, incident_id)
         SELECT j.id, j.class, j.stream, j.lane_id, j.cause_id, j.notice_id, d.subscriber_id, d.thread_id, j.resend_no, d.id,
            'queued', j.at, 'resend', COALESCE((SELECT n.revision FROM notice n WHERE n.id = j.notice_id), d.revision),
            CASE WHEN j.notice_id = d.notice_id THEN d.phase ELSE COALESCE((SELECT x.phase FROM delivery x WHERE x.cause_id = j.cause_id
                AND x.subscriber_id = d.subscriber_id AND x.resend_no = 0), (SELECT i.phase FROM thread t
                JOIN incident i ON i.id = t.matter_id WHERE t.id = d.thread_id)) END, j.at, d.incident_id FROM",
        [id uuid, resend_of uuid, class text, stream text, lane_id uuid, cause_id uuid, notice_id uuid, resend_no bigint, at bigint],
        "JOIN delivery d ON d.id = j.resend_of"
    );
    // Nobody is asked again about a connection that is another's now. A mail is taken back once; a copy of the correction says
    // so again, under a number of its own.
    COPY_ITEMS = over_rows!(
        "INSERT INTO delivery_item (delivery_id, subject_id, component_id, connection_id, episode, component_episode, failed_at,
            status, corrects_id, resend_no)
         SELECT j.id, i.subject_id, i.component_id, i.connection_id, i.episode, i.component_episode, i.failed_at,
            CASE WHEN j.as_now = 1 THEN COALESCE(c.status, i.status) ELSE i.status END, i.corrects_id,
            COALESCE((SELECT MAX(x.resend_no) + 1 FROM delivery_item x WHERE x.corrects_id = i.corrects_id
                AND x.subject_id = i.subject_id AND x.episode = i.episode), 0) FROM",
        [id uuid, resend_of uuid, as_now bigint],
        "JOIN delivery_item i ON i.delivery_id = j.resend_of AND i.dropped IS NULL
         JOIN delivery d ON d.id = j.resend_of JOIN thread t ON t.id = d.thread_id
         LEFT JOIN incident_component c ON c.incident_id = t.matter_id AND c.component_id = i.component_id
         WHERE i.connection_id IS NULL OR i.corrects_id IS NOT NULL OR EXISTS (SELECT 1 FROM connection_subscriber s
            WHERE s.connection_id = i.connection_id AND s.subscriber_id = d.subscriber_id)"
    );
    // Of a mail and its copies only the newest, and nothing that another mail was sent for.
    NEWEST_OF_ALL = super::Sql::same("SELECT id FROM delivery ORDER BY id DESC LIMIT 1");
    UNDELIVERED = super::Sql::same(
        "SELECT d.id FROM delivery d WHERE d.state IN ('failed', 'suppressed', 'parked', 'unknown') AND d.id > $1 AND d.id <= $2
            AND (d.state = $3 OR $3 IS NULL) AND (d.class = $4 OR $4 IS NULL) AND (d.stream = $5 OR $5 IS NULL)
            AND (d.reason = $6 OR $6 IS NULL) AND d.created_at >= $7 AND d.created_at < $8
            AND (EXISTS (SELECT 1 FROM thread t WHERE t.id = d.thread_id AND t.matter_id = $9) OR $9 IS NULL)
            AND NOT EXISTS (SELECT 1 FROM delivery f WHERE f.cause_id = d.cause_id AND f.subscriber_id = d.subscriber_id
                AND f.resend_no > d.resend_no)
            AND NOT EXISTS (SELECT 1 FROM delivery r WHERE r.resend_of = d.id)
         ORDER BY d.id LIMIT $10",
    );
}

/// A delivery that somebody wants sent again.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Known {
    /// Its id.
    pub id: DeliveryId,
    /// What it was for.
    pub class: Class,
    /// Where it stands.
    pub state: State,
    /// Why it waits, or was not mailed.
    pub reason: Option<Reason>,
    /// What caused it.
    pub cause_id: Uuid,
    /// Who got it, or should have.
    pub subscriber_id: SubscriberId,
    /// Its thread.
    pub thread_id: ThreadId,
    /// The notice that gives its text.
    pub notice_id: Option<NoticeId>,
    /// Its lane.
    pub lane_id: LaneId,
    /// The incident it tells of.
    pub incident_id: Option<IncidentId>,
    /// When the first of its copies was accepted.
    pub said_at: Timestamp,
    /// A newer mail of its thread says what is owed since.
    pub newer: bool,
}

/// A mail and its resends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Copies {
    /// How often it was sent again.
    pub resends: i64,
    /// When the last of them left, or may have.
    pub left_at: Option<Timestamp>,
    /// One is queued, on the wire or in quarantine.
    pub on_its_way: bool,
}

/// A connection of an action-required mail that is broken now, as it would be told now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Present {
    /// The mail.
    pub id: DeliveryId,
    /// The connection.
    pub connection_id: ConnectionId,
    /// Its component.
    pub component_id: ComponentId,
    /// Its newest outage.
    pub episode: i64,
    /// When that was observed.
    pub failed_at: Timestamp,
    /// The component's newest outage.
    pub component_episode: i64,
    /// The fault is proven to be its own.
    pub own_fault: bool,
    /// When the subscriber was last mailed about this outage.
    pub left_at: Option<Timestamp>,
    /// A mail to the subscriber about it is queued or on the wire.
    pub on_its_way: bool,
}

/// The newest update of an incident that was for a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Newest {
    /// A mail of the incident.
    pub id: DeliveryId,
    /// The update.
    pub notice_id: NoticeId,
    /// The class of its mails.
    pub class: Class,
    /// The reader's own mail of it, which names what they are to hear of.
    pub own: Option<DeliveryId>,
}

/// A resend to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewResend {
    /// Its id.
    pub id: DeliveryId,
    /// What is sent again.
    pub resend_of: DeliveryId,
    /// What it is for.
    pub class: Class,
    /// Its lane.
    pub lane: LaneId,
    /// What caused it.
    pub cause: Uuid,
    /// The notice that gives its text.
    pub notice: Option<NoticeId>,
    /// Its number.
    pub resend_no: i64,
}

/// Which undelivered mails; what is not given is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Where they stand.
    pub state: Option<State>,
    /// What they are for.
    pub class: Option<Class>,
    /// Their stream.
    pub stream: Option<String>,
    /// Why they were not delivered.
    pub reason: Option<Reason>,
    /// Their incident.
    pub incident: Option<IncidentId>,
    /// Planned at or after this time.
    pub from: Option<Timestamp>,
    /// Planned before this time.
    pub until: Option<Timestamp>,
}

/// Keeps planning from these deliveries' incidents until the end of the transaction.
///
/// # Errors
/// When the database fails.
pub async fn lock(tx: &mut Tx, of: &[DeliveryId]) -> Result<(), StoreError> {
    lock!(tx, LOCK_LANES, ids(of))
}

/// What is known of some deliveries.
///
/// # Errors
/// When the database fails.
pub async fn known(tx: &mut Tx, of: &[DeliveryId]) -> Result<Vec<Known>, StoreError> {
    rows!(tx, Known, KNOWN, ids(of))
}

/// What is known of the copies of some mails.
///
/// # Errors
/// When the database fails.
pub async fn copies(tx: &mut Tx, of: &[Key]) -> Result<Vec<(Key, Copies)>, StoreError> {
    #[derive(sqlx::FromRow)]
    struct Found {
        cause_id: Uuid,
        subscriber_id: SubscriberId,
        #[sqlx(flatten)]
        copies: Copies,
    }
    let list = of.iter().map(|k| columns! { cause_id: k.0, subscriber_id: k.1 });
    let found = rows!(tx, Found, COPIES_SENT, json(list))?;
    Ok(found.into_iter().map(|f| ((f.cause_id, f.subscriber_id), f.copies)).collect())
}

/// The classes that the addresses of some deliveries take no mail of.
///
/// # Errors
/// When the database fails.
pub async fn suppressed(tx: &mut Tx, of: &[DeliveryId]) -> Result<Vec<(DeliveryId, Class)>, StoreError> {
    rows!(tx, (DeliveryId, Class), SUPPRESSED, ids(of))
}

/// What is broken now of what some action-required mails named.
///
/// # Errors
/// When the database fails.
pub async fn present(tx: &mut Tx, of: &[DeliveryId]) -> Result<Vec<Present>, StoreError> {
    rows!(tx, Present, PRESENT, ids(of))
}

/// What some action-required mails and their copies said to somebody and no correction has taken back.
///
/// # Errors
/// When the database fails.
pub async fn uncorrected(tx: &mut Tx, of: &[DeliveryId]) -> Result<Vec<(DeliveryId, Touched)>, StoreError> {
    #[derive(sqlx::FromRow)]
    struct Found {
        id: DeliveryId,
        #[sqlx(flatten)]
        touched: Touched,
    }
    Ok(rows!(tx, Found, NOT_TAKEN_BACK, ids(of))?.into_iter().map(|f| (f.id, f.touched)).collect())
}

/// The newest updates of the incidents of some deliveries that were for their readers.
///
/// # Errors
/// When the database fails.
pub async fn newest(tx: &mut Tx, of: &[DeliveryId]) -> Result<Vec<Newest>, StoreError> {
    rows!(tx, Newest, NEWEST_UPDATE, ids(of))
}

/// Makes resends.
///
/// # Errors
/// When the database fails.
pub async fn add(tx: &mut Tx, of: &[NewResend], stream: impl Fn(Class) -> String) -> Result<(), StoreError> {
    lanes::open(tx, &of.iter().map(|r| r.lane).collect::<Vec<_>>()).await?;
    let at = tx.now().0;
    let list = of.iter().map(|r| {
        columns! {
            id: r.id,
            resend_of: r.resend_of,
            class: r.class,
            stream: stream(r.class),
            lane_id: r.lane,
            cause_id: r.cause,
            notice_id: r.notice,
            resend_no: r.resend_no,
            at,
        }
    });
    exec!(tx, ADD_RESENDS, json(list)).map(drop)
}

/// Lets resends name what the mails they repeat named; `as_now` with the states of today.
///
/// # Errors
/// When the database fails.
pub async fn copy_items(tx: &mut Tx, of: &[(DeliveryId, DeliveryId, bool)]) -> Result<(), StoreError> {
    let list = of.iter().map(|(id, old, as_now)| {
        columns! {
            id: id.0,
            resend_of: old.0,
            as_now: i64::from(*as_now),
        }
    });
    exec!(tx, COPY_ITEMS, json(list)).map(drop)
}

/// The newest delivery.
///
/// # Errors
/// When the database fails.
pub async fn newest_of_all(tx: &mut Tx) -> Result<Option<DeliveryId>, StoreError> {
    Ok(first!(tx, (DeliveryId,), NEWEST_OF_ALL)?.map(|row| row.0))
}

/// A page of undelivered mails after one and up to another, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn undelivered(
    tx: &mut Tx,
    of: &Filter,
    after: DeliveryId,
    upto: DeliveryId,
    page: i64,
) -> Result<Vec<DeliveryId>, StoreError> {
    let (from, until) = (of.from.unwrap_or(Timestamp(i64::MIN)), of.until.unwrap_or(Timestamp(i64::MAX)));
    let found = rows!(
        tx,
        (DeliveryId,),
        UNDELIVERED,
        after,
        upto,
        of.state,
        of.class,
        of.stream.as_deref(),
        of.reason,
        from,
        until,
        of.incident,
        page
    )?;
    Ok(found.into_iter().map(|row| row.0).collect())
}
