//! Putting subscriptions, with the checks at the door. A put is all there is to say of a subscription: what it leaves
//! out is as by default, whatever was put before.

use super::addressing::no_group;
use super::anew::anew;
use super::ingest::IngestError;
use super::intake::{Check, FieldError};
use super::register::{Put, component_id, subscriber_id, yes};
use crate::domain::incident::Impact;
use crate::domain::subscription::Events;
use crate::store::setup::{self, SubscriptionRow};
use crate::store::{Store, StoreError, Tx, audience, told, unsubscribed};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A subscription as it is put: to a component, to a group of components, or without either to everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubscriptionIn {
    /// The subscriber, by key.
    pub subscriber: String,
    /// The component, by key.
    #[serde(default)]
    pub component: Option<String>,
    /// The group: every component that is in it at the time.
    #[serde(default)]
    pub group: Option<String>,
    /// Which news it asks for: every change, begin and end only, or nothing for now.
    #[serde(default = "every")]
    pub events: Events,
    /// Incidents below this impact are not asked for; planned work counts like `minor`.
    #[serde(default = "any")]
    pub least_impact: Impact,
    /// `false` ends it; begun again it counts from then on.
    #[serde(default = "yes")]
    pub active: bool,
}

const fn every() -> Events {
    Events::All
}

const fn any() -> Impact {
    Impact::None
}

/// Puts or ends a subscription; nothing when there is none to end.
///
/// # Errors
/// When a field is wrong, the subscriber, component or group is unknown, or the database fails; nothing is written
/// then.
pub async fn put(store: &Store, said: &SubscriptionIn) -> Result<Option<Put>, IngestError> {
    check(said)?;
    anew!(IngestError, async {
        let mut tx = store.begin().await?;
        let subscriber = subscriber_id(&mut tx, "subscriber", &said.subscriber).await?;
        let component = match &said.component {
            Some(key) => Some(component_id(&mut tx, "component", key).await?),
            None => None,
        };
        if let Some(group) = said.group.as_ref().filter(|_| said.active)
            && audience::members(&mut tx, std::slice::from_ref(group)).await?.is_empty()
        {
            return Err(no_group("group", group).into());
        }
        let row = SubscriptionRow {
            subscriber,
            component,
            group: said.group.clone(),
            events: said.events,
            least_impact: said.least_impact,
            active: said.active,
        };
        let id = setup::put_subscription(&mut tx, &row).await?;
        if !said.active || said.events == Events::None {
            ended(&mut tx, &BTreeSet::from([said.subscriber.as_str()])).await?;
        }
        tx.commit().await?;
        Ok(id.map(|id| Put { id: id.to_string(), key: None }))
    })
}

/// After a subscription of each of these subscribers, by key, has ended or asks for nothing. What waits for them and no other
/// asks for is withdrawn; what was folded under that is told after all. The end of what they were told stays owed.
///
/// # Errors
/// When the database fails.
pub(super) async fn ended(tx: &mut Tx, of: &BTreeSet<&str>) -> Result<(), StoreError> {
    let lost = unsubscribed::withdraw(tx, of).await?;
    let now = tx.now();
    told::release(tx, &lost, now).await
}

/// Checks what serde cannot.
pub(super) fn check(said: &SubscriptionIn) -> Result<(), Vec<FieldError>> {
    let mut check = Check::default();
    if let Some(group) = &said.group {
        check.line("group", group, 200);
        if said.component.is_some() {
            check.refuse("group", "stands beside a component: each needs a subscription of its own");
        }
    }
    if said.least_impact == Impact::Maintenance {
        check.refuse("least_impact", "is none of none, minor, major, critical; planned work counts like minor");
    }
    check.done()
}
