//! Looking: what the store read becomes what the gate may know.

use super::gate::{Holds, Item, Verdict, View, gate};
use super::setting::Setting;
use crate::domain::class::Class;
use crate::domain::delivery::{Reason, State};
use crate::domain::id::DeliveryId;
use crate::domain::incident::ComponentStatus;
use crate::store::parting::ItemKey;
use crate::store::queue::Hold;
use crate::store::view::{DeliveryView, ItemTruth, ItemView, Truth};
use crate::store::{StoreError, Tx, streams, view};
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

/// Reads deliveries, in a statement whose snapshot begins now.
///
/// # Errors
/// When the database fails: then nobody knows, and nothing may leave.
pub async fn views(tx: &mut Tx, of: &[DeliveryId]) -> Result<HashMap<DeliveryId, Seen>, StoreError> {
    let found = view::view(tx, of).await?;
    let seen = found.deliveries.into_iter().map(|(row, items)| {
        let gate = gate_view(&row, items.iter().map(|item| &item.truth), &found.holds);
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
    let pauses = streams::pauses(tx).await?;
    let paused = |class| setting.stream(class).is_some_and(|s| pauses.iter().any(|pause| pause.stream == s.name));
    let waiting =
        seen.into_iter().filter_map(|(id, seen)| match gate(&seen.gate, &setting.limits(seen.row.class), now) {
            Verdict::Wait(_, reason) => Some((id, reason)),
            // It is decided when its turn comes, and while its component is down no turn does.
            Verdict::Suppress => Some((id, Reason::Suppressed)),
            Verdict::Send(_) if paused(seen.row.class) => Some((id, Reason::StreamPaused)),
            _ => None,
        });
    Ok(waiting.collect())
}

/// What the last look sees: the claim's token and state, and what the gate may know.
#[derive(Clone, Debug)]
pub struct Looked {
    /// How often it was claimed.
    pub token: i64,
    /// Where it stands.
    pub state: State,
    /// It left, or may have left.
    pub maybe_mailed: bool,
    /// What the gate may know.
    pub gate: View,
}

/// Reads only what the gate asks for, in a statement whose snapshot begins now; without the connections in `but`.
///
/// # Errors
/// When the database fails: then nobody knows, and nothing may leave.
pub async fn look(tx: &mut Tx, of: &[DeliveryId], but: &[ItemKey]) -> Result<HashMap<DeliveryId, Looked>, StoreError> {
    let found = view::look(tx, of).await?;
    let is_in = |item: &ItemTruth| {
        let subject = item.connection_id.map(|id| id.0);
        but.iter().any(|k| (k.delivery, Some(k.subject), k.episode) == (item.delivery_id, subject, item.episode))
    };
    let seen = found.deliveries.into_iter().map(|(row, mut items)| {
        items.retain(|item| !is_in(item));
        let gate = gate_view(&row, items.iter(), &found.holds);
        (row.id, Looked { token: row.token, state: row.state, maybe_mailed: row.maybe_mailed, gate })
    });
    Ok(seen.collect())
}

fn gate_view<'a>(row: &Truth, items: impl Iterator<Item = &'a ItemTruth> + Clone, holds: &[Hold]) -> View {
    View {
        class: row.class,
        created_at: row.created_at,
        resend: row.resend,
        canary: row.canary,
        holds: holds_on(row.class, items.clone(), holds),
        suppressed: row.suppressed,
        told: row.told_at.is_some(),
        last_mailed_at: row.last_mailed_at,
        // A mail of which nobody knows whether it left does not end the thread against itself.
        ended: row.ended_at.is_some() && !row.own_last,
        trouble: row.trouble == Some(true),
        troubled_elsewhere: row.troubled_elsewhere == Some(true),
        resolved: row.has_incident.then(|| row.resolved_at.is_some()),
        rule: row.rule,
        newer: row.newer,
        items: items.filter_map(|seen| item(row.class, seen)).collect(),
    }
}

fn item(class: Class, seen: &ItemTruth) -> Option<Item> {
    match (seen.claim(), seen.original()) {
        (Some(claim), Some(original)) => Some(Item::Correction(claim, original)),
        (Some(claim), None) => Some(Item::Connection(claim)),
        (None, _) if seen.connection_id.is_none() => {
            let works = |status| status == ComponentStatus::Operational;
            Some(Item::Component {
                // An end may say that the incident is over though a component is not well; an all-clear may not.
                down: match class {
                    Class::IncidentEnd => seen.component_down() && seen.status_now.is_none_or(works),
                    Class::IncidentUpdate => seen.status_now.is_some_and(|now| !works(now)),
                    _ => seen.component_down() || seen.status_now.is_some_and(|now| !works(now)),
                },
                up_since: seen.component_up_since(),
                back: seen.status.is_some_and(|then| !works(then)) && seen.status_now.is_some_and(works),
            })
        }
        (None, _) => None,
    }
}

fn holds_on<'a>(class: Class, items: impl Iterator<Item = &'a ItemTruth> + Clone, holds: &[Hold]) -> Holds {
    let mut on = Holds::default();
    for hold in holds {
        let touches = match hold.scope.as_str() {
            "everything" => true,
            "class" => hold.class == Some(class),
            _ => items.clone().any(|i| Some(i.component_id) == hold.component_id),
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
