//! Mails are parted: what is no longer true leaves them, and what must wait gets a delivery of its own.

use super::rows::json;
use super::{StoreError, Tx};
use crate::domain::delivery::Reason;
use crate::domain::id::DeliveryId;
use crate::domain::time::Timestamp;
use uuid::Uuid;

statements! {
    DROP_ITEMS = over_few_rows!(
        "UPDATE delivery_item SET dropped = j.reason FROM", [delivery_id uuid, subject_id uuid, episode bigint, reason text],
        "WHERE delivery_item.delivery_id = j.delivery_id AND delivery_item.subject_id = j.subject_id
            AND delivery_item.episode = j.episode"
    );
    // What does not leave with a canary waits with the others.
    SPLIT_DELIVERY = super::Sql::same(
        "INSERT INTO delivery (id, class, stream, lane_id, cause_id, notice_id, subscriber_id, thread_id, resend_no, rule, state, due_at,
            reason, created_at, incident_id)
         SELECT $2, d.class, d.stream, COALESCE((SELECT l.id FROM surge s JOIN lane l ON l.class = d.class
                AND l.fence_kind = 'component' AND l.fence_id = s.component_id WHERE s.id = d.canary_id), d.lane_id), $2, d.notice_id, d.subscriber_id, d.thread_id, 0, d.rule, 'queued', $3, $4, d.created_at,
            d.incident_id
         FROM delivery d WHERE d.id = $1",
    );
    MOVE_SPLIT = over_rows!(
        "UPDATE delivery_item SET delivery_id = j.into_id FROM",
        [delivery_id uuid, subject_id uuid, episode bigint, into_id uuid],
        "WHERE delivery_item.delivery_id = j.delivery_id AND delivery_item.subject_id = j.subject_id
            AND delivery_item.episode = j.episode"
    );
    // Who has a connection no longer is not asked about it again.
    COPY_SPLIT = over_rows!(
        "INSERT INTO delivery_item (delivery_id, subject_id, component_id, connection_id, episode, component_episode, failed_at, status)
         SELECT j.into_id, i.subject_id, i.component_id, i.connection_id, i.episode, i.component_episode, i.failed_at, i.status FROM",
        [delivery_id uuid, subject_id uuid, episode bigint, into_id uuid],
        "JOIN delivery_item i ON i.delivery_id = j.delivery_id AND i.subject_id = j.subject_id AND i.episode = j.episode
         JOIN delivery d ON d.id = i.delivery_id
         JOIN connection_subscriber s ON s.connection_id = i.connection_id AND s.subscriber_id = d.subscriber_id
         WHERE i.dropped IS NULL AND i.corrects_id IS NULL"
    );
}

/// An item of a delivery, by what identifies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemKey {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The connection or component.
    pub subject: Uuid,
    /// The outage.
    pub episode: i64,
}

/// Notes that items are no longer true and leave their mails.
///
/// # Errors
/// When the database fails.
pub async fn drop_items(tx: &mut Tx, of: &[(ItemKey, Reason)]) -> Result<(), StoreError> {
    let list: Vec<_> = of
        .iter()
        .map(|(key, why)| {
            columns! {
                delivery_id: key.delivery,
                subject_id: key.subject,
                episode: key.episode,
                reason: why.as_str(),
            }
        })
        .collect();
    if list.is_empty() {
        return Ok(());
    }
    exec!(tx, DROP_ITEMS, json(list)).map(drop)
}

/// Moves items that must wait to a delivery of their own, so that the others can leave.
///
/// # Errors
/// When the database fails.
pub async fn split(
    tx: &mut Tx,
    from: DeliveryId,
    of: &[ItemKey],
    due_at: Timestamp,
    why: Reason,
) -> Result<(), StoreError> {
    if of.is_empty() {
        return Ok(());
    }
    let list = split_off(tx, from, of, due_at, why).await?;
    exec!(tx, MOVE_SPLIT, list).map(drop)
}

/// Names items in a delivery of their own, too, as far as they are its subscriber's: the old one keeps them, for it may have
/// said so.
///
/// # Errors
/// When the database fails.
pub async fn copy(
    tx: &mut Tx,
    from: DeliveryId,
    of: &[ItemKey],
    due_at: Timestamp,
    why: Reason,
) -> Result<(), StoreError> {
    let list = split_off(tx, from, of, due_at, why).await?;
    exec!(tx, COPY_SPLIT, list).map(drop)
}

async fn split_off(
    tx: &mut Tx,
    from: DeliveryId,
    of: &[ItemKey],
    due_at: Timestamp,
    why: Reason,
) -> Result<String, StoreError> {
    let into = DeliveryId::new();
    exec!(tx, SPLIT_DELIVERY, from, into, due_at, why.as_str())?;
    let list = of.iter().map(|key| {
        columns! {
            delivery_id: from.0,
            subject_id: key.subject,
            episode: key.episode,
            into_id: into.0,
        }
    });
    Ok(json(list))
}
