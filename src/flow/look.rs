//! Looking: what the store read becomes what the gate may know.

use super::gate::{Holds, Item, Verdict, View, gate};
use super::setting::Setting;
use crate::domain::class::Class;
use crate::domain::delivery::Reason;
use crate::domain::id::DeliveryId;
use crate::store::queue::Hold;
use crate::store::view::{DeliveryView, ItemView};
use crate::store::{StoreError, Tx, queue, view};
use std::collections::HashMap;

/// A delivery as it is seen now.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The row with its thread, subscriber and incident.
    pub row: DeliveryView,
    /// What it names.
    pub items: Vec<ItemView>,
    /// What the gate may know.
    pub gate: View,
}

/// Reads deliveries, in statements whose snapshots begin now.
///
/// # Errors
/// When the database fails: then nobody knows, and nothing may leave.
pub async fn views(tx: &mut Tx, of: &[DeliveryId]) -> Result<HashMap<DeliveryId, Seen>, StoreError> {
    let rows = view::deliveries(tx, of).await?;
    let mut items: HashMap<DeliveryId, Vec<ItemView>> = HashMap::new();
    for item in view::items(tx, of).await? {
        items.entry(item.delivery_id).or_default().push(item);
    }
    let holds = queue::holds(tx).await?;
    let seen = rows.into_iter().map(|row| {
        let items = items.remove(&row.id).unwrap_or_default();
        let gate = gate_view(&row, &items, &holds);
        (row.id, Seen { row, items, gate })
    });
    Ok(seen.collect())
}

/// Why queued deliveries cannot leave at this moment, for those the gate would not let go.
///
/// # Errors
/// When the database fails.
pub async fn why_waiting(
    tx: &mut Tx,
    setting: &Setting,
    of: &[DeliveryId],
) -> Result<HashMap<DeliveryId, Reason>, StoreError> {
    let now = tx.now();
    let seen = views(tx, of).await?;
    let waiting =
        seen.into_iter().filter_map(|(id, seen)| match gate(&seen.gate, &setting.limits(seen.row.class), now) {
            Verdict::Wait(_, reason) => Some((id, reason)),
            _ => None,
        });
    Ok(waiting.collect())
}

fn gate_view(row: &DeliveryView, items: &[ItemView], holds: &[Hold]) -> View {
    View {
        class: row.class,
        created_at: row.created_at,
        holds: holds_on(row.class, items, holds),
        suppressed: row.suppressed,
        told: row.told_at.is_some(),
        last_mailed_at: row.last_mailed_at,
        ended: row.ended_at.is_some(),
        resolved: row.incident_key.as_ref().map(|_| row.resolved_at.is_some()),
        worse: row.worse,
        items: items.iter().filter_map(item).collect(),
    }
}

fn item(seen: &ItemView) -> Option<Item> {
    match (seen.claim(), seen.original()) {
        (Some(claim), Some(original)) => Some(Item::Correction(claim, original)),
        (Some(claim), None) => Some(Item::Connection(claim)),
        (None, _) if seen.connection_id.is_none() => {
            Some(Item::Component { down: seen.component_down(), up_since: seen.component_up_since() })
        }
        (None, _) => None,
    }
}

fn holds_on(class: Class, items: &[ItemView], holds: &[Hold]) -> Holds {
    let mut on = Holds::default();
    for hold in holds {
        let touches = match hold.scope.as_str() {
            "everything" => true,
            "class" => hold.class == Some(class),
            _ => items.iter().any(|i| Some(i.component_id) == hold.component_id),
        };
        match hold.cause.as_str() {
            _ if !touches => {}
            "stop" => on.stopped = true,
            "surge" => on.surge |= class == Class::ActionRequired,
            _ => on.operator = true,
        }
    }
    on
}
