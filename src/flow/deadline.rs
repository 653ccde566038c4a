//! The deadline of a covering recovery: whose connections have not confirmed by then is asked anew, or listed.

use super::setting::Setting;
use super::surge;
use crate::domain::connection::Covering;
use crate::store::ingest::PlanRow;
use crate::store::{Store, StoreError, Tx, deadlines, ingest};

/// Looks after a covering recovery whose deadline has passed: connections that have not confirmed are asked anew
/// or listed, never forgotten. One page at a time.
///
/// # Errors
/// When the database fails.
pub async fn confirm(store: &Store, setting: &Setting) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    let Some((id, component, from, until)) = deadlines::past(&mut tx).await? else { return Ok(false) };
    if setting.ask_unconfirmed {
        let keys = deadlines::unconfirmed(&mut tx, component, (from, until), setting.page).await?;
        // It is committed before any of them is planned.
        if surge::unconfirmed(&mut tx, setting, component, keys.len()).await? {
            tx.commit().await?;
            return Ok(true);
        }
        if !keys.is_empty() {
            let asked = ask_anew(&mut tx, &keys, Covering { from, until }).await?;
            deadlines::add_unconfirmed(&mut tx, id, i64::try_from(asked).unwrap_or(i64::MAX)).await?;
            tx.commit().await?;
            return Ok(true);
        }
    }
    // Whoever is heard of in this moment is seen here, or sees that the deadline was checked.
    deadlines::lock(&mut tx, component).await?;
    let is_over = match setting.ask_unconfirmed {
        true => deadlines::unconfirmed(&mut tx, component, (from, until), 1).await?.is_empty(),
        false => deadlines::list_unconfirmed(&mut tx, id, component, (from, until)).await.map(|()| true)?,
    };
    if is_over {
        deadlines::confirmed(&mut tx, id).await?;
    }
    tx.commit().await?;
    Ok(true)
}

/// How many were: one may have confirmed between being found and being locked.
async fn ask_anew(tx: &mut Tx, keys: &[String], covering: Covering) -> Result<usize, StoreError> {
    let now = tx.now();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let component_keys = ingest::components_of(tx, &keys).await?;
    let of: Vec<&str> = component_keys.iter().map(String::as_str).collect();
    let components = ingest::components(tx, &of, false).await?;
    let (mut changed, mut plans) = (Vec::new(), Vec::new());
    for found in ingest::connections(tx, &keys, "").await? {
        let mut state = found.domain();
        if !state.left_unconfirmed(covering, now) {
            continue;
        }
        changed.push((found.id, state));
        let component = components.iter().find(|c| c.id == found.component_id);
        plans.push(PlanRow::failure(&found, &state, component.map(|c| c.domain().episode)));
    }
    ingest::save_connections(tx, &changed).await?;
    ingest::add_plans(tx, &plans).await?;
    Ok(changed.len())
}
