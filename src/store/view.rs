//! What the gate may know of deliveries, read in one go: by the claim inside its transaction, and by the last
//! look in a statement of its own after the claim's commit.

use super::parameter::ids;
use super::queue::{self, Hold};
use super::{StoreError, Tx};
use crate::domain::delivery::State;
use crate::domain::id::{ComponentId, ConnectionId, DeliveryId, NoticeId};
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};
use std::collections::HashMap;

mod rows;
pub use rows::{DeliveryView, ItemTruth, ItemView, Truth};

/// What other incidents, open and not still to come, say of a component in trouble, where a subscriber is told of them, or is
/// about to be: the others are none of his business, and he would not hear of their end.
macro_rules! elsewhere {
    ($component:literal, $incident:literal, $subscriber:literal) => {
        concat!("incident_component x WHERE x.component_id = ", $component, " AND x.incident_id <> ", $incident,
            " AND x.status <> 'operational' AND (SELECT y.resolved_at IS NULL AND y.phase <> 'scheduled' FROM incident y
                WHERE y.id = x.incident_id)
            AND (SELECT (y.told_at IS NOT NULL AND y.ended_at IS NULL) OR (SELECT TRUE FROM delivery z WHERE z.thread_id = y.id
                    AND z.state IN ('queued', 'sending') LIMIT 1)
                FROM thread y WHERE y.matter_id = x.incident_id AND y.subscriber_id = ", $subscriber, " LIMIT 1)")
    };
}

/// What the gate asks of a delivery: the columns of a [`Truth`]. The claim and the last look ask for the same.
macro_rules! truth {
    () => {
        concat!("d.id, d.class, d.state, d.token, d.maybe_mailed, d.created_at, d.resend_no > 0 AS resend,
                EXISTS (SELECT 1 FROM surge g WHERE g.id = d.canary_id AND g.stage IN ('canary', 'releasing')) AS canary, t.last_mailed_at, t.told_at, t.ended_at, d.rule,
                CASE WHEN d.class = 'incident_update' THEN (SELECT x.id FROM delivery x WHERE x.thread_id = d.thread_id
                    AND x.revision > d.revision AND x.class IN ('incident_update', 'incident_end')
                    AND (x.state IN ('queued', 'sending') OR x.maybe_mailed) ORDER BY x.revision DESC LIMIT 1) END AS newer,
                CASE WHEN d.class = 'all_clear' THEN EXISTS (SELECT 1 FROM incident_component x WHERE x.incident_id = i.id
                    AND x.status <> 'operational' AND (EXISTS (SELECT 1 FROM thread_component c WHERE c.thread_id = t.id
                            AND c.component_id = x.component_id)
                        OR EXISTS (SELECT 1 FROM subscription u WHERE u.subscriber_id = d.subscriber_id AND u.ended_at IS NULL
                            AND u.events <> 'none' AND (u.component_id = x.component_id
                                OR (u.component_id IS NULL AND u.group_key IS NULL)
                                OR u.group_key = (SELECT k.group_key FROM component k WHERE k.id = x.component_id))))) END AS trouble,
                CASE WHEN d.class = 'all_clear' THEN EXISTS (SELECT 1 FROM thread_component w WHERE w.thread_id = t.id
                        AND EXISTS (SELECT 1 FROM ", elsewhere!("w.component_id", "i.id", "d.subscriber_id"), ")) END AS troubled_elsewhere,
                COALESCE(t.last_message_id = d.message_id, FALSE) AS own_last, i.id IS NOT NULL AS has_incident, i.resolved_at,
                EXISTS (SELECT 1 FROM suppression x WHERE lower(x.address) = lower(s.address) AND x.class = d.class) AS suppressed")
    };
}

/// What the gate asks of something a delivery names: the columns of an [`ItemTruth`]. Of an outage are also those whose failure is
/// older and was heard of in it, or was to heal until then: they may well come back with the others.
macro_rules! item_truth {
    () => {
        "i.delivery_id, i.component_id, i.connection_id, i.episode, i.failed_at, i.status, k.down_since, k.up_since,
                s.status AS status_now, s.changed_at AS status_since, c.episode AS newest, c.cleared, c.own_fault_episode,
                EXISTS (SELECT 1 FROM episode e WHERE e.component_id = i.component_id AND e.n >= i.component_episode
                    AND e.covers_from <= i.failed_at AND e.covers_until >= i.failed_at) AS covered,
                EXISTS (SELECT 1 FROM episode e WHERE e.component_id = i.component_id
                    AND e.covers_from <= c.failed_at AND e.covers_until >= c.failed_at) AS newest_covered,
                (SELECT MAX(e.ended_at) FROM episode e WHERE e.component_id = i.component_id AND e.n >= i.component_episode
                    AND e.released_at IS NULL AND ((e.since <= i.failed_at AND e.ended_at >= i.failed_at)
                        OR (e.ended_at >= i.failed_at AND e.since <= v.created_at AND e.ended_at >= v.created_at))) AS awaiting,
                o.state AS original_state, o.maybe_mailed AND EXISTS (SELECT 1 FROM delivery_item x WHERE x.delivery_id = i.corrects_id
                    AND x.subject_id = i.subject_id AND x.episode = i.episode AND x.dropped IS NULL) AS original_mailed,
                o.quarantine_until AS original_quarantine"
    };
}

/// Deliveries, each beside all that it names, and the holds in force: one statement, so that all of it is of one moment.
macro_rules! with_items {
    ($delivery:expr, $joins:expr, $item:expr) => {
        super::Sql::differs(
            with_items!(@ $delivery, $joins, $item, holds_in_force!(sqlite "$2", "i.component_id")).sqlite,
            with_items!(@ $delivery, $joins, $item, holds_in_force!(postgres "$2", "i.component_id")).postgres,
        )
    };
    (@ $delivery:expr, $joins:expr, $item:expr, $holds:expr) => {
        over_few_rows!(
            concat!("WITH v AS MATERIALIZED (SELECT ", $delivery, ", t.matter_id FROM"), [id uuid],
            concat!("JOIN delivery d ON d.id = j.id JOIN thread t ON t.id = d.thread_id JOIN subscriber s ON s.id = d.subscriber_id
                LEFT JOIN incident i ON t.matter_kind = 'incident' AND i.id = t.matter_id ", $joins, ")
             SELECT v.*, ", $item, ", ", $holds, "
             FROM v LEFT JOIN delivery_item i ON i.delivery_id = v.id AND i.dropped IS NULL
             LEFT JOIN component k ON k.id = i.component_id
             LEFT JOIN incident_component s ON s.incident_id = v.matter_id AND s.component_id = i.component_id
             LEFT JOIN connection c ON c.id = i.connection_id LEFT JOIN delivery o ON o.id = i.corrects_id
             ORDER BY v.id, i.subject_id, i.episode")
        )
    };
}

statements! {
    VIEW = with_items!(
        concat!(truth!(), ", d.lane_id, d.notice_id, d.subscriber_id, d.thread_id, d.tries, d.repeats, d.reaps, d.reason,
                d.message_id, t.root, t.subject, t.sender,
                t.last_message_id, t.last_class, t.last_phase, d.phase, s.address, s.name, s.locale, s.zone, n.observed_at,
                i.key AS incident_key, i.title, i.impact, i.started_at,
                CASE WHEN i.id IS NOT NULL THEN EXISTS (SELECT 1 FROM notice_recipient x WHERE x.notice_id IN (d.notice_id, i.audience_id)
                    AND x.subscriber_id = d.subscriber_id) ELSE FALSE END AS addressed,
                CASE WHEN d.class IN ('incident_end', 'all_clear', 'post_mortem') THEN EXISTS (SELECT 1 FROM subscription u
                    WHERE u.subscriber_id = d.subscriber_id AND u.ended_at IS NULL AND u.events <> 'none'
                        AND ((u.component_id IS NULL AND u.group_key IS NULL) OR EXISTS (SELECT 1 FROM delivery_item y
                            JOIN component k ON k.id = y.component_id WHERE y.delivery_id = d.id
                                AND (k.id = u.component_id OR k.group_key = u.group_key)))) ELSE TRUE END AS follows,
                CASE WHEN d.class = 'all_clear' THEN EXISTS (SELECT 1 FROM thread x WHERE x.subscriber_id = d.subscriber_id AND x.id <> t.id
                    AND x.matter_kind = 'incident' AND x.told_at IS NOT NULL AND x.ended_at IS NULL
                    AND (SELECT y.resolved_at IS NULL AND y.phase <> 'scheduled' FROM incident y WHERE y.id = x.matter_id)
                    AND EXISTS (SELECT 1 FROM incident_component y WHERE y.incident_id = x.matter_id AND y.status <> 'operational'
                        AND (SELECT TRUE FROM thread_component z WHERE z.thread_id = x.id AND z.component_id = y.component_id)))
                    ELSE FALSE END AS trouble_elsewhere,
                CASE WHEN d.class = 'all_clear' THEN (SELECT n.observed_at FROM delivery x JOIN notice n ON n.id = x.notice_id
                    WHERE x.thread_id = t.id AND x.rule = 'relapse' AND x.maybe_mailed ORDER BY x.revision DESC LIMIT 1) END AS relapsed_at"),
        "LEFT JOIN notice n ON n.id = d.notice_id",
        concat!(item_truth!(), ", i.component_episode, i.corrects_id, k.key AS component_key, k.name AS component_name,
                c.key AS connection_key, c.name AS connection_name, c.link, c.broken_since, c.well_as_of, o.claimed_at AS original_claimed_at,
                CASE WHEN v.has_incident THEN (SELECT x.status FROM ", elsewhere!("i.component_id", "v.matter_id", "v.subscriber_id"), " ORDER BY CASE x.status
                    WHEN 'major_outage' THEN 1 WHEN 'partial_outage' THEN 2 WHEN 'degraded_performance' THEN 3 ELSE 4 END LIMIT 1) END AS elsewhere,
                CASE WHEN v.class = 'all_clear' THEN (SELECT n.observed_at FROM notice n WHERE n.incident_id = v.matter_id
                    AND n.received_at = s.changed_at ORDER BY n.revision DESC LIMIT 1) END AS changed_as_of,
                CASE WHEN v.class = 'all_clear' THEN (SELECT n.observed_at FROM notice n WHERE n.incident_id = v.matter_id
                    AND n.revision = s.since_revision AND n.repeats_id IS NULL AND s.since_revision > (SELECT MIN(x.since_revision)
                        FROM incident_component x WHERE x.incident_id = v.matter_id) LIMIT 1) END AS joined_at,
                CASE WHEN v.last_class = 'correction' THEN EXISTS (SELECT 1 FROM delivery_item y JOIN delivery z ON z.id = y.delivery_id
                    WHERE y.connection_id = i.connection_id AND y.episode < i.episode AND y.corrects_id IS NOT NULL
                        AND y.dropped IS NULL AND z.maybe_mailed AND z.thread_id = v.thread_id) ELSE FALSE END AS corrected_before")
    );
    // The last look: only what the gate asks for. It is read for every mail, and each column costs.
    LOOK = with_items!(truth!(), "", item_truth!());
    // Other connections to what a correction, an all-clear or an end speaks of, about which its subscriber was asked: those still
    // broken must be named, or it would call them well by its silence.
    STILL_OPEN = over_few_rows!(
        "SELECT DISTINCT j.id AS delivery_id, c.id AS connection_id, c.key, c.name FROM", [id uuid],
        "JOIN delivery x ON x.id = j.id JOIN connection_subscriber s ON s.subscriber_id = x.subscriber_id
         JOIN connection c ON c.id = s.connection_id AND c.cleared < c.episode
         JOIN delivery_item i ON i.connection_id = c.id AND i.episode > c.cleared AND i.corrects_id IS NULL AND i.dropped IS NULL
         JOIN delivery d ON d.id = i.delivery_id AND d.class = 'action_required' AND d.maybe_mailed AND d.subscriber_id = x.subscriber_id
         WHERE c.component_id IN (SELECT y.component_id FROM delivery_item y WHERE y.delivery_id = j.id)
            AND (c.own_fault_episode = i.episode OR NOT EXISTS (SELECT 1 FROM episode e WHERE e.component_id = i.component_id
                AND e.covers_from <= i.failed_at AND e.covers_until >= i.failed_at))
            AND NOT EXISTS (SELECT 1 FROM delivery_item y WHERE y.delivery_id = j.id AND y.connection_id = c.id AND y.dropped IS NULL)
         ORDER BY c.name"
    );
    // The notice that reported each outage that a mail names, where one did.
    TEXTS = row_by_row!(
        over_few_rows, "SELECT i.delivery_id, i.connection_id, p.notice_id FROM", [id uuid],
        ["delivery_item" "i" on "i.delivery_id = j.id AND i.connection_id IS NOT NULL AND i.dropped IS NULL";
         "plan" "p" on "p.connection_id = i.connection_id AND p.episode = i.episode AND p.notice_id IS NOT NULL"],
        "ORDER BY p.id"
    );
    // Not a column of VIEW: it names all items, and would stand beside each.
    CONTEXTS = over_few_rows!("SELECT d.id, d.context FROM", [id uuid], "JOIN delivery d ON d.id = j.id");
    // In the newest words: what was edited since repeats it. The first words said again, late, take no edit back.
    PAYLOADS = over_few_rows!(
        "SELECT n.id, COALESCE((SELECT r.payload FROM notice r WHERE r.incident_id = n.incident_id AND r.repeats_id = n.id
            AND r.content_hash <> n.content_hash
            ORDER BY r.revision DESC, r.received_at DESC, r.id DESC LIMIT 1), n.payload) FROM",
        [id uuid],
        "JOIN notice n ON n.id = j.id"
    );
}

/// Deliveries with what they name, and the holds in force, as of one moment.
#[derive(Clone, Debug)]
pub struct Found<D, I> {
    /// Each with what it names, in a lasting order.
    pub deliveries: Vec<(D, Vec<I>)>,
    /// The holds in force.
    pub holds: Vec<Hold>,
}

/// A row: a delivery beside one of the things it names, if it names any.
struct Beside<D, I> {
    delivery: D,
    item: Option<I>,
    holds: String,
}

impl<'r, R: Row, D: FromRow<'r, R>, I: FromRow<'r, R>> FromRow<'r, R> for Beside<D, I>
where
    &'static str: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    Option<ComponentId>: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> sqlx::Result<Self> {
        let named: Option<ComponentId> = row.try_get("component_id")?;
        let item = named.map(|_| I::from_row(row)).transpose()?;
        Ok(Self { delivery: D::from_row(row)?, item, holds: row.try_get("holds")? })
    }
}

/// What the gate asks for.
///
/// # Errors
/// When the database fails.
pub async fn look(tx: &mut Tx, of: &[DeliveryId]) -> Result<Found<Truth, ItemTruth>, StoreError> {
    let now = tx.now();
    found(rows!(tx, Beside<Truth, ItemTruth>, LOOK, ids(of), now)?, |truth| truth.id)
}

/// All that is known of deliveries.
///
/// # Errors
/// When the database fails.
pub async fn view(tx: &mut Tx, of: &[DeliveryId]) -> Result<Found<DeliveryView, ItemView>, StoreError> {
    let now = tx.now();
    let mut found = found(rows!(tx, Beside<DeliveryView, ItemView>, VIEW, ids(of), now)?, |row| row.id)?;
    let seen_by_relay = |d: &DeliveryView| d.state == State::Queued && (d.tries > 0 || d.maybe_mailed);
    let again: Vec<_> = found.deliveries.iter().filter(|(d, _)| seen_by_relay(d)).map(|(d, _)| d.id).collect();
    if !again.is_empty() {
        let mut contexts: HashMap<DeliveryId, Option<String>> =
            rows!(tx, (DeliveryId, Option<String>), CONTEXTS, ids(&again))?.into_iter().collect();
        for (d, _) in &mut found.deliveries {
            d.context = contexts.remove(&d.id).flatten();
        }
    }
    Ok(found)
}

fn found<D, I>(rows: Vec<Beside<D, I>>, id: impl Fn(&D) -> DeliveryId) -> Result<Found<D, I>, StoreError> {
    let holds = queue::holds(rows.iter().map(|row| &row.holds))?;
    let mut deliveries: Vec<(D, Vec<I>)> = Vec::new();
    for row in rows {
        match deliveries.last_mut() {
            Some((last, items)) if id(last) == id(&row.delivery) => items.extend(row.item),
            _ => deliveries.push((row.delivery, row.item.into_iter().collect())),
        }
    }
    Ok(Found { deliveries, holds })
}

/// A connection that is still broken as a mail said.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct StillOpen {
    /// The mail that would call it well by its silence.
    pub delivery_id: DeliveryId,
    /// The connection.
    pub connection_id: ConnectionId,
    /// Its key.
    pub key: String,
    /// Its name.
    pub name: String,
}

/// Connections to what some corrections, all-clears and ends speak of, about which their customers were asked, that are
/// still broken as they were told, and that these mails do not name. An outage after that is another matter.
///
/// # Errors
/// When the database fails.
pub async fn still_open(tx: &mut Tx, of: &[DeliveryId]) -> Result<Vec<StillOpen>, StoreError> {
    rows!(tx, StillOpen, STILL_OPEN, ids(of))
}

/// The notices that give the outages in some mails their texts, by mail and connection.
///
/// # Errors
/// When the database fails.
pub async fn texts(
    tx: &mut Tx,
    of: &[DeliveryId],
) -> Result<HashMap<(DeliveryId, ConnectionId), NoticeId>, StoreError> {
    let found = rows!(tx, (DeliveryId, ConnectionId, NoticeId), TEXTS, ids(of))?;
    // The first that was taken in stays.
    Ok(found.into_iter().rev().map(|(mail, connection, notice)| ((mail, connection), notice)).collect())
}

/// What some notices say, edited or not, as JSON.
///
/// # Errors
/// When the database fails.
pub async fn payloads(tx: &mut Tx, of: &[NoticeId]) -> Result<Vec<(NoticeId, String)>, StoreError> {
    rows!(tx, (NoticeId, String), PAYLOADS, ids(of))
}
