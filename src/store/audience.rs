//! Audiences: whom a notice concerns, resolved when it is planned.

use super::parameter::ids;
use super::rows::json;
use super::{StoreError, Tx};
use crate::domain::id::{ComponentId, IncidentId, NoticeId, SubscriberId};
use crate::domain::incident::Impact;
use crate::domain::subscription::{Events, Filter};
use crate::domain::time::Timestamp;
use uuid::Uuid;

/// A page of a list, `$1` the cursor, `$2` the length, `$3` whose list it is.
macro_rules! listed {
    ($table:literal, $which:literal $(, $of:literal)?) => {
        super::Sql::same(concat!(
            "SELECT s.subscriber_id FROM ", $table, " s WHERE ", $which, $(" AND ", $of, " = $3",)?
            " AND s.subscriber_id > $1 ORDER BY s.subscriber_id LIMIT $2"
        ))
    };
}

/// Whether a subscriber has, under each of so many names, one of the values in a JSON parameter. (The plus keeps SQLite
/// from seeking every value in turn: a subscriber has few attributes, a filter may have many.)
macro_rules! has_all {
    (sqlite $subscriber:literal, $pairs:literal, $names:literal) => {
        has_all!(@ $subscriber, "(+o.name, +o.value) IN (SELECT value->>'name', value->>'value' FROM json_each(", $pairs, ")", $names)
    };
    (postgres $subscriber:literal, $pairs:literal, $names:literal) => {
        has_all!(@ $subscriber, "(o.name, o.value) IN (SELECT p.name, p.value FROM json_to_recordset(", $pairs, "::json) AS p(name text, value text)", $names)
    };
    (@ $subscriber:literal, $from:literal, $pairs:literal, $to:literal, $names:literal) => {
        concat!(
            "(SELECT COUNT(DISTINCT o.name) FROM subscriber_attribute o WHERE o.subscriber_id = ", $subscriber,
            " AND ", $from, $pairs, $to, ")) = ", $names
        )
    };
}

/// The part of a list's page that has the value `$4` of the attribute `$3` and passes the whole filter (`$5`, `$6`);
/// `$7` whose list it is. The value is read in the order of its index: nothing is sorted, and all the pages of a list
/// together read it once. Where it is the filter's only name, it is the whole filter.
macro_rules! matching {
    ($table:literal, $which:literal $(, $of:literal)?) => {
        super::Sql::differs(matching!(@ sqlite $table, $which $(, $of)?), matching!(@ postgres $table, $which $(, $of)?))
    };
    (@ $on:ident $table:literal, $which:literal $(, $of:literal)?) => {
        concat!(
            "SELECT a.subscriber_id FROM subscriber_attribute a JOIN ", $table, " s ON s.subscriber_id = a.subscriber_id
             WHERE a.name = $3 AND a.value = $4 AND a.subscriber_id > $1 AND ", $which, $(" AND ", $of, " = $7",)?
            " AND (CAST($6 AS BIGINT) = 1 OR ", has_all!($on "a.subscriber_id", "$5", "$6"), ") ORDER BY a.subscriber_id LIMIT $2"
        )
    };
}

statements! {
    FOLLOWERS_OF_COMPONENT = listed!("subscription", "s.ended_at IS NULL AND s.events <> 'none'", "s.component_id");
    MATCHING_OF_COMPONENT = matching!("subscription", "s.ended_at IS NULL AND s.events <> 'none'", "s.component_id");
    FOLLOWERS_OF_GROUP = listed!("subscription", "s.ended_at IS NULL AND s.events <> 'none'", "s.group_key");
    MATCHING_OF_GROUP = matching!("subscription", "s.ended_at IS NULL AND s.events <> 'none'", "s.group_key");
    FOLLOWERS_OF_EVERYTHING = listed!(
        "subscription", "s.ended_at IS NULL AND s.events <> 'none' AND s.component_id IS NULL AND s.group_key IS NULL"
    );
    MATCHING_OF_EVERYTHING = matching!(
        "subscription", "s.ended_at IS NULL AND s.events <> 'none' AND s.component_id IS NULL AND s.group_key IS NULL"
    );
    RECIPIENTS = listed!("notice_recipient", "TRUE", "s.notice_id");
    MATCHING_RECIPIENTS = matching!("notice_recipient", "TRUE", "s.notice_id");
    // The operators are none of the customers.
    EVERYONE = listed!("(SELECT id AS subscriber_id FROM subscriber WHERE key <> 'operators@allclear')", "TRUE");
    MATCHING_EVERYONE = matching!("(SELECT id AS subscriber_id FROM subscriber)", "TRUE");
    MATCHING_AMONG = super::Sql::differs(
        concat!(
            "SELECT j.id FROM (SELECT unhex(value->>'id') AS id FROM json_each($1)) j WHERE ",
            has_all!(sqlite "j.id", "$2", "$3")
        ),
        concat!(
            "SELECT j.id FROM json_to_recordset($1::json) AS j(id uuid) WHERE ", has_all!(postgres "j.id", "$2", "$3")
        ),
    );
    NAMES_HELD = over_rows!(
        "SELECT DISTINCT j.name FROM", [name text, value text],
        "WHERE EXISTS (SELECT 1 FROM subscriber_attribute a WHERE a.name = j.name AND a.value = j.value)"
    );
    FOLLOWED = over_rows!(
        "SELECT s.subscriber_id, s.component_id, s.group_key, s.events, s.least_impact, s.created_at FROM", [id uuid],
        "JOIN subscription s ON s.subscriber_id = j.id WHERE s.ended_at IS NULL AND s.events <> 'none'"
    );
    GROUPS = over_rows!(
        "SELECT c.id, c.group_key FROM", [id uuid], "JOIN component c ON c.id = j.id WHERE c.group_key IS NOT NULL"
    );
    MEMBERS = over_rows!(
        "SELECT c.group_key, c.key, c.id FROM", [key text], "JOIN component c ON c.group_key = j.key ORDER BY c.id"
    );
    NAMED_BY_INCIDENT = over_rows!(
        "SELECT DISTINCT r.subscriber_id FROM", [id uuid, incident_id uuid],
        "JOIN notice n ON n.incident_id = j.incident_id JOIN notice_recipient r ON r.notice_id = n.id AND r.subscriber_id = j.id"
    );
    RESTRICT = super::Sql::same("UPDATE incident SET audience_id = $2 WHERE id = $1");
    RESTRICTED_BY = super::Sql::same(
        "SELECT n.id, n.payload FROM incident i JOIN notice n ON n.id = i.audience_id WHERE i.id = $1",
    );
}

/// Whom a page of subscribers is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// A notice's explicit recipients.
    Recipients(NoticeId),
    /// The subscribers of a component.
    Component(ComponentId),
    /// The subscribers of a group of components.
    Group(String),
    /// Those who want to hear about everything.
    Everything,
    /// Every subscriber, whatever they follow.
    Everyone,
}

/// A subscription in force that asks for news.
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

/// The filter as the statements take it: its names and values, and how many names there are.
fn pairs(of: &Filter) -> (String, i64) {
    let list = of.pairs().map(|(name, value)| columns! { name, value });
    (json(list), i64::try_from(of.0.len()).unwrap_or(i64::MAX))
}

/// A page of subscribers after a cursor. With a filter: those who pass it and have this value of its leading name.
///
/// # Errors
/// When the database fails.
pub async fn page(
    tx: &mut Tx,
    of: &Audience,
    filter: Option<(&Filter, &str)>,
    after: Uuid,
    page: i64,
) -> Result<Vec<SubscriberId>, StoreError> {
    macro_rules! read {
        ($all:ident, $matching:ident $(, $of:expr)?) => {
            match filter {
                None => rows!(tx, (SubscriberId,), $all, after, page $(, $of)?)?,
                Some((filter, value)) => {
                    let (pairs, names) = pairs(filter);
                    let leading = filter.leading().0;
                    rows!(tx, (SubscriberId,), $matching, after, page, leading, value, &pairs, names $(, $of)?)?
                }
            }
        };
    }
    let found = match of {
        Audience::Recipients(notice) => read!(RECIPIENTS, MATCHING_RECIPIENTS, *notice),
        Audience::Component(component) => read!(FOLLOWERS_OF_COMPONENT, MATCHING_OF_COMPONENT, *component),
        Audience::Group(key) => read!(FOLLOWERS_OF_GROUP, MATCHING_OF_GROUP, key),
        Audience::Everything => read!(FOLLOWERS_OF_EVERYTHING, MATCHING_OF_EVERYTHING),
        Audience::Everyone => read!(EVERYONE, MATCHING_EVERYONE),
    };
    Ok(found.into_iter().map(|row| row.0).collect())
}

/// Those of some subscribers who pass a filter.
///
/// # Errors
/// When the database fails.
pub async fn matching(tx: &mut Tx, of: &[SubscriberId], filter: &Filter) -> Result<Vec<SubscriberId>, StoreError> {
    let (pairs, names) = pairs(filter);
    let found = rows!(tx, (SubscriberId,), MATCHING_AMONG, ids(of), &pairs, names)?;
    Ok(found.into_iter().map(|row| row.0).collect())
}

/// Those of a filter's names under which any subscriber has one of the values.
///
/// # Errors
/// When the database fails.
pub async fn names_held(tx: &mut Tx, filter: &Filter) -> Result<Vec<String>, StoreError> {
    Ok(rows!(tx, (String,), NAMES_HELD, pairs(filter).0)?.into_iter().map(|row| row.0).collect())
}

/// The subscriptions in force of some subscribers, less those that ask for no news.
///
/// # Errors
/// When the database fails.
pub async fn subscriptions(tx: &mut Tx, of: &[SubscriberId]) -> Result<Vec<Subscription>, StoreError> {
    rows!(tx, Subscription, FOLLOWED, ids(of))
}

/// The groups of some components; those in none are left out.
///
/// # Errors
/// When the database fails.
pub async fn groups(tx: &mut Tx, of: &[ComponentId]) -> Result<Vec<(ComponentId, String)>, StoreError> {
    if of.is_empty() { Ok(Vec::new()) } else { rows!(tx, (ComponentId, String), GROUPS, ids(of)) }
}

/// The components of some groups: group, key and id of each.
///
/// # Errors
/// When the database fails.
pub async fn members(tx: &mut Tx, of: &[String]) -> Result<Vec<(String, String, ComponentId)>, StoreError> {
    if of.is_empty() {
        return Ok(Vec::new());
    }
    let list = of.iter().map(|key| columns! { key });
    rows!(tx, (String, String, ComponentId), MEMBERS, json(list))
}

/// From now on an incident's updates keep to the recipients or the filter of this notice; `None`: to nobody's.
///
/// # Errors
/// When the database fails.
pub async fn restrict(tx: &mut Tx, incident: IncidentId, to: Option<NoticeId>) -> Result<(), StoreError> {
    exec!(tx, RESTRICT, incident, to).map(drop)
}

/// The notice whose recipients or filter an incident keeps to, with what it said.
///
/// # Errors
/// When the database fails.
pub async fn restricted_by(tx: &mut Tx, incident: IncidentId) -> Result<Option<(NoticeId, String)>, StoreError> {
    first!(tx, (NoticeId, String), RESTRICTED_BY, incident)
}

/// Those of some subscribers whom an update of an incident has named.
///
/// # Errors
/// When the database fails.
pub async fn named_by(tx: &mut Tx, incident: IncidentId, of: &[SubscriberId]) -> Result<Vec<SubscriberId>, StoreError> {
    let list = of.iter().map(|s| columns! { id: s.0, incident_id: incident.0 });
    Ok(rows!(tx, (SubscriberId,), NAMED_BY_INCIDENT, json(list))?.into_iter().map(|row| row.0).collect())
}
