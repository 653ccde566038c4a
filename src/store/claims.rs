//! What a claim makes of what is due: it is armed, put off, or decided.

use super::rows::json;
use super::{StoreError, Tx};
use crate::domain::delivery::{Reason, State};
use crate::domain::id::{ComponentId, DeliveryId};
use crate::domain::incident::ComponentStatus;
use crate::domain::time::Timestamp;

statements! {
    ARM = over_few_rows!(
        "UPDATE delivery SET state = 'sending', token = delivery.token + 1, owner = j.owner, lease_until = j.lease_until,
            claimed_at = j.at, message_id = j.message_id, template_set = j.template_set, address = j.address, context = j.context,
            reason = NULL FROM",
        [id uuid, owner text, lease_until bigint, at bigint, message_id text, template_set text, address text, context text],
        concat!("WHERE delivery.id = j.id AND ", waits!("delivery"))
    );
    PUT_OFF = over_few_rows!(
        "UPDATE delivery SET due_at = j.due_at, reason = j.reason FROM", [id uuid, due_at bigint, reason text],
        concat!("WHERE delivery.id = j.id AND ", waits!("delivery"))
    );
    RESTATE = over_few_rows!(
        "UPDATE delivery_item SET status = j.status FROM", [delivery_id uuid, component_id uuid, status text],
        "WHERE delivery_item.delivery_id = j.delivery_id AND delivery_item.subject_id = j.component_id"
    );
    DECIDE = over_few_rows!(
        "UPDATE delivery SET state = j.state, reason = j.reason, decided_at = j.at FROM",
        [id uuid, state text, reason text, at bigint],
        concat!("WHERE delivery.id = j.id AND ", waits!("delivery"))
    );
    REFREEZE = super::Sql::same(
        "UPDATE delivery SET context = $3 WHERE id = $1 AND token = $2 AND state = 'sending'",
    );
}

/// What the claim freezes.
#[derive(Clone, Debug)]
pub struct Armed {
    /// The delivery.
    pub id: DeliveryId,
    /// Its Message-ID, the same for every try.
    pub message_id: String,
    /// The content address of the templates.
    pub template_set: String,
    /// Where it goes.
    pub address: String,
    /// All that rendering needs, as JSON.
    pub context: String,
}

/// Marks deliveries as being sent.
///
/// # Errors
/// When the database fails, or another node has the thread ([`StoreError::is_conflict`]).
pub async fn arm(tx: &mut Tx, owner: &str, lease_until: Timestamp, of: &[Armed]) -> Result<(), StoreError> {
    let at = tx.now().0;
    let list = of.iter().map(|a| {
        columns! {
            id: a.id,
            owner,
            lease_until: lease_until.0,
            at,
            message_id: &a.message_id,
            template_set: &a.template_set,
            address: &a.address,
            context: &a.context,
        }
    });
    exec!(tx, ARM, json(list)).map(drop)
}

/// Gives queued deliveries a later due time and the reason.
///
/// # Errors
/// When the database fails.
pub async fn put_off(tx: &mut Tx, of: &[(DeliveryId, Timestamp, Reason)]) -> Result<(), StoreError> {
    let list = of.iter().map(|(id, at, why)| columns! { id: id.0, due_at: at.0, reason: why.as_str() });
    exec!(tx, PUT_OFF, json(list)).map(drop)
}

/// Mails tell the present state of components, and the threads remember that.
///
/// # Errors
/// When the database fails.
pub async fn restate(tx: &mut Tx, of: &[(DeliveryId, ComponentId, ComponentStatus)]) -> Result<(), StoreError> {
    let list = of.iter().map(|(d, c, status)| columns! { delivery_id: d.0, component_id: c.0, status: *status });
    exec!(tx, RESTATE, json(list)).map(drop)
}

/// Decides queued deliveries that will not be sent.
///
/// # Errors
/// When the database fails.
pub async fn decide(tx: &mut Tx, of: &[(DeliveryId, State, Reason)]) -> Result<(), StoreError> {
    let at = tx.now().0;
    let list = of.iter().map(|(id, state, why)| columns! { id: id.0, state: state.as_str(), reason: why.as_str(), at });
    exec!(tx, DECIDE, json(list)).map(drop)
}

/// Stores a smaller context of a claimed delivery; `false` when it is no longer this claim's.
///
/// # Errors
/// When the database fails.
pub async fn refreeze(tx: &mut Tx, id: DeliveryId, token: i64, context: &str) -> Result<bool, StoreError> {
    Ok(exec!(tx, REFREEZE, id, token, context)? == 1)
}
