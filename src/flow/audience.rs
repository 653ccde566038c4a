//! Audiences: whom a notice reaches, resolved when it is planned, and what each of them asked for.

use super::intake::{FreeIn, IncidentIn};
use crate::domain::id::{ComponentId, IncidentId, NoticeId, SubscriberId};
use crate::domain::incident::Impact;
use crate::domain::subscription::{Events, Filter};
use crate::domain::time::Timestamp;
use crate::store::audience::{self as db, Audience};
use crate::store::{StoreError, Tx};
use std::collections::{BTreeSet, HashMap, HashSet};
use uuid::Uuid;

/// Whom a notice reaches: the lists its subscribers are read from, one after the other, a page at a time.
#[derive(Clone, Debug)]
pub struct Reach {
    /// The lists; a subscriber may be on several. With a filter each stands here once for every value of the
    /// filter's leading name.
    pub lists: Vec<Audience>,
    /// It goes to explicit recipients, whatever they follow.
    pub explicit: bool,
    /// Only those who pass it.
    pub filter: Option<Filter>,
}

/// What one subscriber asked for, of some components.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wants {
    /// Those of the components that the subscriber follows; all of them for explicit recipients.
    pub follows: HashSet<ComponentId>,
    /// Follows everything (or is an explicit recipient): is told of an incident that names no component, too.
    pub everything: bool,
    /// The most news that one of the matching subscriptions asks for.
    pub events: Events,
    /// The lowest impact that one of them asks for.
    pub least_impact: Impact,
    /// Since when the oldest of them is in force.
    pub since: Timestamp,
}

impl Wants {
    /// What is sent to those whom a notice names: all of it.
    #[must_use]
    pub fn named(components: &[ComponentId]) -> Self {
        Self {
            follows: components.iter().copied().collect(),
            everything: true,
            events: Events::All,
            least_impact: Impact::None,
            since: Timestamp(i64::MIN),
        }
    }
}

impl Reach {
    /// Explicit recipients, whatever they follow.
    #[must_use]
    pub fn recipients(of: NoticeId) -> Self {
        Self { lists: vec![Audience::Recipients(of)], explicit: true, filter: None }
    }

    fn followers(lists: Vec<Audience>, filter: Option<Filter>) -> Self {
        let values = filter.as_ref().map_or(1, |filter| filter.leading().1.len());
        let lists = lists.into_iter().flat_map(|list| std::iter::repeat_n(list, values)).collect();
        Self { lists, explicit: false, filter }
    }
}

/// Whom an update of an incident reaches, given the components it concerns: the recipients or the filter it names,
/// or those of the newest update that named some.
///
/// # Errors
/// When the database fails.
pub async fn of_incident(
    tx: &mut Tx,
    incident: IncidentId,
    notice: NoticeId,
    said: &IncidentIn,
    concerned: &[ComponentId],
) -> Result<Reach, StoreError> {
    let filter = match restriction(tx, incident, notice, said).await? {
        Some((notice, None)) => return Ok(Reach::recipients(notice)),
        Some((_, filter)) => filter,
        None => None,
    };
    let mut lists: Vec<_> = concerned.iter().copied().map(Audience::Component).collect();
    lists.extend(groups_of(tx, concerned).await?);
    lists.push(Audience::Everything);
    Ok(Reach::followers(lists, filter))
}

/// The notice that restricts an update, with its filter; without one it names recipients.
async fn restriction(
    tx: &mut Tx,
    incident: IncidentId,
    notice: NoticeId,
    said: &IncidentIn,
) -> Result<Option<(NoticeId, Option<Filter>)>, StoreError> {
    if said.everyone {
        return Ok(None);
    }
    if said.names_its_audience() {
        return Ok(Some((notice, said.filter.clone())));
    }
    let Some((notice, payload)) = db::restricted_by(tx, incident).await? else { return Ok(None) };
    let said: IncidentIn = serde_json::from_str(&payload).map_err(|e| StoreError::Corrupt {
        table: "notice",
        column: "payload",
        row: notice.to_string(),
        what: e.to_string(),
    })?;
    Ok(Some((notice, said.filter)))
}

async fn groups_of(tx: &mut Tx, components: &[ComponentId]) -> Result<Vec<Audience>, StoreError> {
    let keys: BTreeSet<_> = db::groups(tx, components).await?.into_iter().map(|(_, key)| key).collect();
    Ok(keys.into_iter().map(Audience::Group).collect())
}

/// Whom a free notice reaches: all that it names, and of those only who pass its filter.
///
/// # Errors
/// When the database fails.
pub async fn of_free(tx: &mut Tx, notice: NoticeId, said: &FreeIn) -> Result<Reach, StoreError> {
    if said.everyone {
        return Ok(Reach::followers(vec![Audience::Everyone], said.filter.clone()));
    }
    let mut components = Vec::new();
    for key in &said.components {
        components.extend(crate::store::setup::component_id(tx, key).await?);
    }
    components.extend(db::members(tx, &said.groups).await?.into_iter().map(|(.., id)| id));
    let mut lists = vec![Audience::Recipients(notice)];
    lists.extend(groups_of(tx, &components).await?);
    lists.extend(components.into_iter().map(Audience::Component));
    Ok(Reach::followers(lists, said.filter.clone()))
}

/// A page of the subscribers of one list, after a cursor.
///
/// # Errors
/// When the database fails.
pub async fn page(
    tx: &mut Tx,
    reach: &Reach,
    list: usize,
    after: Uuid,
    most: i64,
) -> Result<Vec<SubscriberId>, StoreError> {
    let Some(of) = reach.lists.get(list) else { return Ok(Vec::new()) };
    let filter = reach.filter.as_ref().and_then(|filter| {
        let values = filter.leading().1;
        values.get(list % values.len().max(1)).map(|value| (filter, value.as_str()))
    });
    match (&reach.filter, filter) {
        // A filter without values lets nobody through.
        (Some(_), None) => Ok(Vec::new()),
        _ => db::page(tx, of, filter, after, most).await,
    }
}

/// What some subscribers asked for, of these components. Who is not in the answer follows none of them any more, or
/// does not pass the filter at this time.
///
/// # Errors
/// When the database fails.
pub async fn wants(
    tx: &mut Tx,
    reach: &Reach,
    of: &[SubscriberId],
    components: &[ComponentId],
) -> Result<HashMap<SubscriberId, Wants>, StoreError> {
    let mut wants: HashMap<SubscriberId, Wants> = HashMap::new();
    if reach.explicit {
        return Ok(of.iter().map(|s| (*s, Wants::named(components))).collect());
    }
    let passing = match &reach.filter {
        Some(filter) => db::matching(tx, of, filter).await?,
        None => of.to_vec(),
    };
    let groups = db::groups(tx, components).await?;
    for s in db::subscriptions(tx, &passing).await? {
        let everything = s.component_id.is_none() && s.group_key.is_none();
        let in_group = |c: ComponentId| groups.iter().any(|(id, key)| *id == c && s.group_key.as_ref() == Some(key));
        let covers = |c: &ComponentId| everything || s.component_id == Some(*c) || in_group(*c);
        let matching: HashSet<_> = components.iter().copied().filter(covers).collect();
        if matching.is_empty() && !everything {
            continue;
        }
        let one = wants.entry(s.subscriber_id).or_insert_with(|| Wants {
            follows: HashSet::new(),
            everything: false,
            events: s.events,
            least_impact: s.least_impact,
            since: s.created_at,
        });
        one.follows.extend(matching);
        one.everything |= everything;
        one.events = one.events.min(s.events);
        one.least_impact = one.least_impact.min(s.least_impact);
        one.since = one.since.min(s.created_at);
    }
    Ok(wants)
}
