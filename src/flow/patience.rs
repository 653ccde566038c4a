//! Patience: a failure that was to heal by itself and has not, for long, is taken for permanent. Its customer is asked
//! like any other: after the dwell, and not while the component is down.

use super::setting::Setting;
use crate::store::ingest::PlanRow;
use crate::store::tallies::{self, Tally};
use crate::store::{Store, StoreError, ingest, patience};
use std::collections::BTreeMap;

/// Takes a page of such failures for permanent; `false` when there was none.
///
/// # Errors
/// When the database fails.
pub async fn end(store: &Store, setting: &Setting) -> Result<bool, StoreError> {
    let Some(longest) = setting.patience else { return Ok(false) };
    let mut tx = store.read().await?;
    let since = tx.now() - longest;
    let keys = patience::not_healed(&mut tx, since, setting.page).await?;
    drop(tx);
    if keys.is_empty() {
        return Ok(false);
    }
    let mut tx = store.begin().await?;
    let now = tx.now();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    // Components first, then connections, as everywhere.
    let of = ingest::components_of(&mut tx, &keys).await?;
    let of: Vec<&str> = of.iter().map(String::as_str).collect();
    let mut components = BTreeMap::new();
    for component in ingest::components(&mut tx, &of, false).await? {
        let coverings = ingest::coverings(&mut tx, component.id).await?;
        components.insert(component.id, (component.domain().episode, coverings));
    }
    let (mut changed, mut plans) = (Vec::new(), Vec::new());
    let mut counted: BTreeMap<_, Tally> = BTreeMap::new();
    for found in ingest::connections(&mut tx, &keys, "").await? {
        let Some((episode, coverings)) = components.get(&found.component_id) else { continue };
        let mut state = found.domain();
        // It may have healed, or been heard of, since it was found.
        if state.failed_at.is_none_or(|at| at > since) {
            continue;
        }
        let ask = state.lose_patience(coverings);
        changed.push((found.id, state));
        if !ask {
            continue;
        }
        // To its component it is a failure of this moment: many at once are no less a surge for having been patient.
        counted.entry(found.component_id).or_default().fail(now, true, true);
        plans.push(PlanRow::failure(&found, &state, Some(*episode)));
    }
    ingest::save_connections(&mut tx, &changed).await?;
    if !plans.is_empty() {
        ingest::add_plans(&mut tx, &plans).await?;
    }
    tallies::count(&mut tx, &counted).await?;
    tx.commit().await?;
    Ok(!changed.is_empty())
}
