//! What operators are told of surges: a mail through the queue like any other, and a post to their own systems. Both are
//! written in the transaction of what they tell, so that neither is lost or said twice.

use super::dispatch::Shared;
use super::incident::plan_notice;
use super::ingest::Became;
use super::intake::FreeIn;
use super::setting::Setting;
use super::surge::WHO;
use super::{retry, webhook};
use crate::domain::class::Class;
use crate::domain::id::{AlertId, NoticeId};
use crate::domain::number::thousands;
use crate::domain::surge::{Why, minute};
use crate::domain::time::{Span, Timestamp};
use crate::store::notices::{NoticeRow, Same};
use crate::store::surge::Surge;
use crate::store::{StoreError, Tx, alerts, ingest, notices, setup, tallies};
use crate::template::context::SurgeMail;
use serde::{Deserialize, Serialize};

/// While a post is tried no other node tries it.
const TAKEN: Span = Span::minutes(1);
/// What is said of the last minutes is of so many.
const LATELY: i64 = 10;
/// After so long nobody reads it any more.
const GIVE_UP: Span = Span::hours(72);

/// The subscriber that operators are.
pub const OPERATORS: &str = "operators@allclear";

/// What a notice of the class `free` says.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Own {
    /// Of a surge, to operators.
    Surge(SurgeMail),
    /// In the team's own words.
    Free(Box<FreeIn>),
}

/// Has their own system told of a surge that has just begun, or of what was decided about it.
///
/// # Errors
/// When the database fails.
pub async fn post_later(tx: &mut Tx, setting: &Setting, surge: &Surge, reason: Why) -> Result<(), StoreError> {
    if setting.operators.webhook.is_some() {
        let id = AlertId::new();
        let said = Posted { id, at: tx.now(), reason, explained: reason.explained(), surge };
        alerts::add(tx, id, surge.id, &serde_json::to_string(&said).unwrap_or_default()).await?;
    }
    Ok(())
}

/// The body of a post.
#[derive(Serialize)]
struct Posted<'a> {
    id: AlertId,
    at: Timestamp,
    reason: Why,
    explained: &'static str,
    surge: &'a Surge,
}

/// Posts what is due to the operators' system; whether there was anything. A node that dies meanwhile leaves it to
/// another, so that it may come twice, with the same id.
///
/// # Errors
/// When the database fails.
pub async fn post(shared: &Shared) -> Result<bool, StoreError> {
    let Some(webhook) = &shared.setting.operators.webhook else { return Ok(false) };
    let mut tx = shared.store.begin().await?;
    let now = tx.now();
    let Some(alert) = alerts::take(&mut tx, now + TAKEN).await? else { return Ok(false) };
    tx.commit().await?;
    let signature = webhook::signature(webhook.secret.expose(), now.0.div_euclid(1_000_000), &alert.body);
    let posted = webhook::post(&webhook.url, &alert.id.to_string(), &signature, &alert.body).await;
    let mut tx = shared.store.begin().await?;
    match posted {
        Ok(()) => alerts::end(&mut tx, alert.id, "taken").await?,
        Err(e) if now - alert.created_at >= GIVE_UP => {
            tracing::error!(alert = %alert.id, "the operators' webhook is given up after three days: {e}");
            alerts::end(&mut tx, alert.id, &format!("given up: {e}")).await?;
        }
        // Each tells all of its surge, so that the newer one tells what this one would have.
        Err(e) if e.for_content() && alerts::is_followed(&mut tx, alert.id).await? => {
            tracing::warn!(alert = %alert.id, "the operators' webhook refuses a post, and is told the next of its surge: {e}");
            alerts::end(&mut tx, alert.id, &format!("given up for the next: {e}")).await?;
        }
        Err(e) => {
            tracing::warn!(alert = %alert.id, "the operators' webhook does not take a post, which is tried again: {e}");
            let until = now + retry::interval(shared.setting.retry, alert.tries + 1);
            alerts::put_off(&mut tx, alert.id, until, &e.to_string()).await?;
        }
    }
    tx.commit().await?;
    Ok(true)
}

/// What came in about the component of a surge lately.
async fn lately(tx: &mut Tx, surge: &Surge) -> Result<Option<String>, StoreError> {
    let Some(component) = surge.component_id else { return Ok(None) };
    let after = minute(tx.now()) - LATELY;
    let counts = tallies::counts(tx, Some(component), after).await?;
    let (failed, recovered) = counts.iter().fold((0, 0), |(f, r), c| (f + c.failed, r + c.recovered));
    let (failed, recovered) = (thousands(failed), thousands(recovered));
    Ok(Some(format!("{failed} newly failed and {recovered} came back in the last {LATELY} minutes")))
}

/// Mails operators what [`post_later`] says.
///
/// # Errors
/// When the database fails.
pub async fn mail(tx: &mut Tx, setting: &Setting, surge: &Surge, reason: Why) -> Result<(), StoreError> {
    let Some(address) = &setting.operators.address else { return Ok(()) };
    let row = setup::SubscriberRow {
        key: OPERATORS.to_owned(),
        address: address.to_owned(),
        name: None,
        locale: "en".to_owned(),
        zone: "UTC".to_owned(),
        attributes: Vec::new(),
    };
    setup::put_subscriber(tx, &row).await?;
    let by_hand =
        (surge.opened_by != WHO).then(|| format!("{}: {}", surge.opened_by, surge.because.trim_end_matches('.')));
    let seen = by_hand.as_ref().map_or_else(|| surge.because.clone(), |_| surge.evidence().to_string());
    let lately = if reason == Why::Opened { None } else { lately(tx, surge).await? };
    let because = lately.map_or(seen.clone(), |lately| format!("{lately}; when it was seen, {seen}"));
    let said = SurgeMail {
        surge: surge.id.to_string(),
        kind: surge.kind,
        component: surge.name.clone(),
        because,
        reported: surge.reported,
        not_back: surge.occasion.nothing_failed(),
        by_hand,
        since: surge.since,
        opened_at: surge.opened_at,
        connections: surge.connections,
        stage: surge.stage,
        reason,
    };
    let id = NoticeId::new();
    let payload = serde_json::to_string(&said).unwrap_or_default();
    let notice = NoticeRow {
        id,
        kind: "free",
        class: Class::Free,
        source: "surge",
        observed_at: tx.now(),
        incident: None,
        deliver: true,
        payload: &payload,
        outcome: Became::Planned.as_str(),
        reason: None,
        same: Same::default(),
    };
    notices::add(tx, &notice).await?;
    notices::add_recipients(tx, id, &[OPERATORS.to_owned()]).await?;
    ingest::add_plans(tx, &[plan_notice(id, surge.id.0)]).await
}
