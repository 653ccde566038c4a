//! What became of mails is made durable, with what follows from it for addresses and for what was folded under them: at
//! once, or out of the spill file.

use super::setting::Setting;
use crate::domain::class::Class;
use crate::domain::delivery::State;
use crate::store::record::{self, Settled};
use crate::store::{StoreError, Tx, suppressions, told};

/// Records outcomes and what follows from them.
///
/// # Errors
/// When the database fails, or another node took the thread of a repeat just now ([`StoreError::is_conflict`]).
pub async fn settle(tx: &mut Tx, setting: &Setting, owner: &str, of: &[Settled]) -> Result<(), StoreError> {
    record::outcomes(tx, owner, of).await?;
    let dead: Vec<_> = of
        .iter()
        .filter_map(|one| {
            let said = one.outcome.as_ref().map(|o| format!("{} {}", o.code.unwrap_or_default(), o.words));
            Some((one.dead.as_deref()?, format!("{} ({})", said.unwrap_or_default(), one.id)))
        })
        .collect();
    if !dead.is_empty() {
        suppressions::suppress(tx, &dead, "address_dead", owner).await?;
    }
    let gone = |s: &&Settled| s.tells && !matches!(s.state, State::Queued | State::Accepted | State::Unknown);
    let gone: Vec<_> = of.iter().filter(gone).map(|s| s.id).collect();
    if !gone.is_empty() {
        // What was folded under them would be silenced with them.
        told::release_refused(tx, &gone, tx.now() + setting.limits(Class::AllClear).stable_for).await?;
    }
    Ok(())
}
