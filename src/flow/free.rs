//! Free notices: what they record.

use super::addressing;
use super::incident::{add_recipients, plan_notice, unknown_component};
use super::ingest::{Answer, Became, Caller, IngestError, observed};
use super::intake::FreeIn;
use crate::domain::class::Class;
use crate::domain::id::NoticeId;
use crate::store::notices::NoticeRow;
use crate::store::{Tx, ingest as db, notices};

/// Takes a free notice into an open transaction.
pub(super) async fn free(tx: &mut Tx, caller: &Caller, said: &FreeIn) -> Result<Answer, IngestError> {
    let observed_at = observed(said.observed_at, tx.now())?;
    let keys: Vec<&str> = said.components.iter().map(String::as_str).collect();
    let found = db::components(tx, &keys, false).await?;
    for (position, key) in keys.iter().enumerate() {
        if !found.iter().any(|c| c.key == *key) {
            return Err(unknown_component(&format!("components[{position}]"), key).into());
        }
    }
    addressing::members(tx, &said.groups).await?;
    let id = NoticeId::new();
    let payload = serde_json::to_string(said).unwrap_or_default();
    let row = NoticeRow {
        id,
        kind: "free",
        class: Class::Free,
        source: &caller.source,
        observed_at,
        incident: None,
        deliver: true,
        payload: &payload,
        outcome: Became::Planned.as_str(),
        reason: None,
        same: notices::Same::default(),
    };
    notices::add(tx, &row).await?;
    add_recipients(tx, id, &said.recipients).await?;
    db::add_plans(tx, &[plan_notice(id, id.0)]).await?;
    let note = addressing::note(tx, said.filter.as_ref()).await?;
    Ok(Answer { note, ..Answer::new(id.to_string(), Became::Planned) })
}
