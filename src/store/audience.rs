//! Audiences: whom a notice concerns, resolved when it is planned.

use super::ingest::json;
use super::{StoreError, Tx};
use crate::domain::id::{ComponentId, NoticeId, SubscriberId};
use crate::domain::incident::Impact;
use crate::domain::subscription::Events;
use crate::domain::time::Timestamp;
use serde::Serialize;
use uuid::Uuid;
use uuid::fmt::Simple;

statements! {
    SUBSCRIBERS_OF_COMPONENT = super::Sql::same(
        "SELECT subscriber_id FROM subscription WHERE component_id = $1 AND ended_at IS NULL AND subscriber_id > $2
         ORDER BY subscriber_id LIMIT $3",
    );
    SUBSCRIBERS_OF_EVERYTHING = super::Sql::same(
        "SELECT subscriber_id FROM subscription WHERE component_id IS NULL AND group_key IS NULL AND ended_at IS NULL
            AND subscriber_id > $1 ORDER BY subscriber_id LIMIT $2",
    );
    RECIPIENTS = super::Sql::same(
        "SELECT subscriber_id FROM notice_recipient WHERE notice_id = $1 AND subscriber_id > $2 ORDER BY subscriber_id LIMIT $3",
    );
    FOLLOWED = over_rows!(
        "SELECT s.subscriber_id, s.component_id, s.group_key, s.events, s.least_impact, s.created_at FROM", [id uuid],
        "JOIN subscription s ON s.subscriber_id = j.id WHERE s.ended_at IS NULL"
    );
}

/// Whom a page of subscribers is read from.
#[derive(Clone, Copy, Debug)]
pub enum Audience {
    /// A notice's explicit recipients.
    Recipients(NoticeId),
    /// The subscribers of a component.
    Component(ComponentId),
    /// Those who want to hear about everything.
    Everything,
}

/// A subscription in force.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Subscription {
    /// Whose it is.
    pub subscriber_id: SubscriberId,
    /// To this component.
    pub component_id: Option<ComponentId>,
    /// To every component of this group; without group and component: to everything.
    pub group_key: Option<String>,
    /// Which news it asks for.
    pub events: Events,
    /// Incidents below this impact are not asked for.
    pub least_impact: Impact,
    /// Since when.
    pub created_at: Timestamp,
}

/// A page of subscribers after a cursor.
///
/// # Errors
/// When the database fails.
pub async fn page(tx: &mut Tx, of: Audience, after: Uuid, page: i64) -> Result<Vec<SubscriberId>, StoreError> {
    let found = match of {
        Audience::Recipients(notice) => rows!(tx, (SubscriberId,), RECIPIENTS, notice, after, page)?,
        Audience::Component(component) => rows!(tx, (SubscriberId,), SUBSCRIBERS_OF_COMPONENT, component, after, page)?,
        Audience::Everything => rows!(tx, (SubscriberId,), SUBSCRIBERS_OF_EVERYTHING, after, page)?,
    };
    Ok(found.into_iter().map(|row| row.0).collect())
}

/// The subscriptions of some subscribers.
///
/// # Errors
/// When the database fails.
pub async fn subscriptions(tx: &mut Tx, of: &[SubscriberId]) -> Result<Vec<Subscription>, StoreError> {
    #[derive(Serialize)]
    struct Id {
        id: Simple,
    }
    let list: Vec<_> = of.iter().map(|s| Id { id: s.0.simple() }).collect();
    rows!(tx, Subscription, FOLLOWED, json(&list))
}
