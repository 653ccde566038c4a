//! Patience: a failure that was to heal by itself and has not, for long, is taken for permanent. Its customer is asked
//! like any other: after the dwell, and not while the component is down.

use super::setting::Setting;
use crate::store::ingest::PlanRow;
use crate::store::surge::{self, Tally};
use crate::store::{Store, StoreError, ingest};
use std::collections::BTreeMap;

/// Takes a page of such failures for permanent; `false` when there was none.
///
/// # Errors
/// When the database fails.
pub async fn end(store: &Store, setting: &Setting) -> Result<bool, StoreError> {
    let Some(patience) = setting.patience else { return Ok(false) };
    let mut tx = store.read().await?;
    let since = tx.now() - patience;
    let keys = surge::not_healed(&mut tx, since, setting.page).await?;
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
    let mut tallies: BTreeMap<_, Tally> = BTreeMap::new();
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
        tallies.entry(found.component_id).or_default().fail(now, true, true);
        plans.push(PlanRow {
            kind: "failure",
            matter: found.component_id.0,
            notice: None,
            signal: None,
            component: Some(found.component_id),
            connection: Some(found.id),
            episode: Some(state.episode),
            component_episode: Some(*episode),
            failed_at: state.failed_at,
        });
    }
    ingest::save_connections(&mut tx, &changed).await?;
    if !plans.is_empty() {
        ingest::add_plans(&mut tx, &plans).await?;
    }
    if setting.surge.is_some() {
        surge::count(&mut tx, &tallies).await?;
    }
    tx.commit().await?;
    Ok(!changed.is_empty())
}
