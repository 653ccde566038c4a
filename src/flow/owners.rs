//! A connection is given to others while it is broken: mails that wait no longer ask who has it no longer, and who has it
//! now is asked about the outage that lasts.

use crate::domain::delivery::Reason;
use crate::domain::id::DeliveryId;
use crate::store::parting::{self, ItemKey};
use crate::store::{StoreError, Tx, failures, owners};

/// After the subscribers of some connections, by key, may have changed.
///
/// # Errors
/// When the database fails.
pub async fn changed(tx: &mut Tx, connections: &[&str]) -> Result<(), StoreError> {
    if connections.is_empty() {
        return Ok(());
    }
    owners::lock_plans(tx, connections).await?;
    let lost = owners::asked_of_others(tx, connections).await?;
    let_go(tx, lost).await?;
    owners::ask_anew(tx, connections).await
}

/// Of mails that were on the wire when their connections may have been given away, and have not left: which have changed.
///
/// # Errors
/// When the database fails.
pub async fn changed_on_the_wire(tx: &mut Tx, mails: &[DeliveryId]) -> Result<Vec<DeliveryId>, StoreError> {
    if mails.is_empty() {
        return Ok(Vec::new());
    }
    let lost = owners::not_theirs(tx, mails).await?;
    let_go(tx, lost).await
}

async fn let_go(tx: &mut Tx, lost: Vec<ItemKey>) -> Result<Vec<DeliveryId>, StoreError> {
    let mails: Vec<DeliveryId> = lost.iter().map(|key| key.delivery).collect();
    let lost: Vec<_> = lost.into_iter().map(|key| (key, Reason::NotTheirs)).collect();
    parting::drop_items(tx, &lost).await?;
    failures::withdraw_emptied(tx, &mails, Reason::NotTheirs).await?;
    Ok(mails)
}
