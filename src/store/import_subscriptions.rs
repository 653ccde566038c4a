//! Many subscriptions at once.

use super::import::{Change, replaced};
use super::rows::json;
use super::{StoreError, Tx};
use crate::domain::id::SubscriptionId;
use crate::domain::incident::Impact;
use crate::domain::subscription::Events;
use std::collections::HashSet;

statements! {
    KNOWN_GROUPS = over_rows!("SELECT DISTINCT j.key FROM", [key text], "JOIN component c ON c.group_key = j.key");
    SUBSCRIPTIONS_NOW = over_rows!(
        "SELECT j.subscriber, j.component, j.group_key, x.events, x.least_impact, x.ended_at IS NULL AS active FROM",
        [subscriber text, component text, group_key text],
        "JOIN subscriber s ON s.key = j.subscriber LEFT JOIN component c ON c.key = j.component
         JOIN subscription x ON x.subscriber_id = s.id AND (x.component_id = c.id
            OR (x.component_id IS NULL AND j.component IS NULL AND x.group_key IS NOT DISTINCT FROM j.group_key))"
    );
    IMPORT_SUBSCRIPTIONS = over_rows!(
        "INSERT INTO subscription (id, subscriber_id, component_id, group_key, events, least_impact, created_at, ended_at)
         SELECT j.id, s.id, c.id, j.group_key, j.events, j.least_impact, CAST($2 AS BIGINT), j.ended FROM",
        [id uuid, subscriber text, component text, group_key text, events text, least_impact text, ended bigint],
        "JOIN subscriber s ON s.key = j.subscriber LEFT JOIN component c ON c.key = j.component
         WHERE TRUE ON CONFLICT DO NOTHING"
    );
    // As CHANGE_SUBSCRIPTION does it.
    CHANGE_SUBSCRIPTIONS = over_rows!(
        "UPDATE subscription SET events = j.events, least_impact = j.least_impact,
            created_at = CASE WHEN (subscription.ended_at IS NOT NULL OR subscription.events = 'none')
                AND j.ended IS NULL AND j.events <> 'none' THEN $2 ELSE subscription.created_at END,
            ended_at = CASE WHEN j.ended IS NULL THEN NULL ELSE COALESCE(subscription.ended_at, j.ended) END FROM",
        [subscriber text, component text, group_key text, events text, least_impact text, ended bigint],
        "JOIN subscriber s ON s.key = j.subscriber LEFT JOIN component c ON c.key = j.component
         WHERE subscription.subscriber_id = s.id AND (subscription.component_id = c.id
            OR (subscription.component_id IS NULL AND j.component IS NULL
                AND subscription.group_key IS NOT DISTINCT FROM j.group_key))"
    );
}

/// A subscription.
#[derive(Clone, Debug, PartialEq, Eq, Hash, sqlx::FromRow)]
pub struct Subscription {
    /// The subscriber, by key.
    pub subscriber: String,
    /// The component, by key.
    pub component: Option<String>,
    /// Or the group; neither: everything.
    #[sqlx(rename = "group_key")]
    pub group: Option<String>,
    /// Which news it asks for.
    pub events: Events,
    /// Incidents below this impact are not asked for.
    pub least_impact: Impact,
    /// Whether it is in force.
    pub active: bool,
}

/// Those of some groups that have a component.
///
/// # Errors
/// When the database fails.
pub async fn known_groups(tx: &mut Tx, of: &HashSet<&str>) -> Result<Vec<String>, StoreError> {
    let list = of.iter().map(|key| columns! { key });
    Ok(rows!(tx, (String,), KNOWN_GROUPS, json(list))?.into_iter().map(|row| row.0).collect())
}

/// The subscriptions that there are of some.
///
/// # Errors
/// When the database fails.
pub async fn subscriptions(tx: &mut Tx, of: &[&Subscription]) -> Result<Vec<Subscription>, StoreError> {
    rows!(tx, Subscription, SUBSCRIPTIONS_NOW, wishes(of.iter().copied(), 0))
}

/// Writes subscriptions.
///
/// # Errors
/// When the database fails.
pub async fn put_subscriptions(tx: &mut Tx, of: &[Change<Subscription>]) -> Result<(), StoreError> {
    let now = tx.now();
    let new = of.iter().filter(|change| change.new).map(|change| &change.row);
    exec!(tx, IMPORT_SUBSCRIPTIONS, wishes(new, now.0), now)?;
    exec!(tx, CHANGE_SUBSCRIPTIONS, wishes(replaced(of), now.0), now).map(drop)
}

fn wishes<'a>(of: impl Iterator<Item = &'a Subscription>, now: i64) -> String {
    let wish = |s: &'a Subscription| {
        columns! {
            id: SubscriptionId::new().0,
            subscriber: &s.subscriber,
            component: s.component.as_deref(),
            group_key: s.group.as_deref(),
            events: s.events,
            least_impact: s.least_impact,
            ended: (!s.active).then_some(now),
        }
    };
    json(of.map(wish))
}
