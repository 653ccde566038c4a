//! The operators: whether what they are to be told reaches them.

use super::finding::{Finding, fail, warn};
use crate::config::Config;
use crate::store::{Store, StoreError, alerts, suppressions};

/// Who is told in vain. Where the database cannot be asked, that is a finding of its own.
pub(super) async fn look(config: &Config) -> Vec<Finding> {
    match Store::look(config.database.url.expose()).await {
        Ok(Some(store)) => in_vain(&store, config).await.unwrap_or_default(),
        _ => Vec::new(),
    }
}

async fn in_vain(store: &Store, config: &Config) -> Result<Vec<Finding>, StoreError> {
    let mut tx = store.read().await?;
    let mut found = Vec::new();
    if let Some(address) = &config.operators.address
        && let Some(dead) = suppressions::of_address(&mut tx, address).await?
    {
        let said = dead.evidence.unwrap_or(dead.reason);
        found.push(fail(
            format!("operators get no mail: {address} is suppressed since {}: {said}", dead.created_at),
            format!("when it takes mail again: `allclear suppressions lift {address} --reason ...`"),
        ));
    }
    if config.operators.webhook.is_some()
        && let Some(refused) = alerts::refused(&mut tx).await?
    {
        found.push(warn(
            format!(
                "the operators' webhook has not taken a post of {} (tries: {}): {}",
                refused.created_at, refused.tries, refused.said
            ),
            "see what answers at operators.webhook_url: whatever is no 2xx is tried again for three days",
        ));
    }
    Ok(found)
}
