//! A connection is given to others while it is broken: mails that wait no longer ask who has it no longer, and who has it
//! now is asked about the outage that lasts.

use crate::domain::delivery::Reason;
use crate::domain::id::DeliveryId;
use crate::store::{StoreError, Tx, failures, owners, parting};

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
    let mails: Vec<DeliveryId> = lost.iter().map(|key| key.delivery).collect();
    let lost: Vec<_> = lost.into_iter().map(|key| (key, Reason::ItemsMoved)).collect();
    parting::drop_items(tx, &lost).await?;
    failures::withdraw_emptied(tx, &mails).await?;
    owners::ask_anew(tx, connections).await
}
