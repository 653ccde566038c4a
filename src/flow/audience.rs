//! Audiences: whom a notice reaches, resolved when it is planned, and what each of them asked for.

use super::intake::{FreeIn, IncidentIn};
use crate::domain::id::{ComponentId, IncidentId, NoticeId, SubscriberId};
use crate::domain::incident::Impact;
use crate::domain::subscription::Events;
use crate::domain::time::Timestamp;
use crate::store::audience::{self as db, Audience};
use crate::store::{StoreError, Tx};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// Whom a notice reaches: the lists its subscribers are read from, one after the other, a page at a time.
#[derive(Clone, Debug)]
pub struct Reach {
    /// The lists; a subscriber may be on several.
    pub lists: Vec<Audience>,
    /// It goes to explicit recipients, whatever they follow.
    pub explicit: bool,
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

/// Whom an update of an incident reaches, given the components it concerns.
///
/// # Errors
/// When the database fails.
pub async fn of_incident(
    _tx: &mut Tx,
    _incident: IncidentId,
    notice: NoticeId,
    said: &IncidentIn,
    concerned: &[ComponentId],
) -> Result<Reach, StoreError> {
    if !said.recipients.is_empty() {
        return Ok(Reach { lists: vec![Audience::Recipients(notice)], explicit: true });
    }
    let components = concerned.iter().map(|c| Audience::Component(*c));
    Ok(Reach { lists: components.chain(std::iter::once(Audience::Everything)).collect(), explicit: false })
}

/// Whom a free notice reaches.
///
/// # Errors
/// When the database fails.
pub async fn of_free(tx: &mut Tx, notice: NoticeId, said: &FreeIn) -> Result<Reach, StoreError> {
    let mut lists = vec![Audience::Recipients(notice)];
    for key in &said.components {
        lists.extend(crate::store::setup::component_id(tx, key).await?.map(Audience::Component));
    }
    Ok(Reach { lists, explicit: false })
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
    match reach.lists.get(list) {
        Some(of) => db::page(tx, *of, after, most).await,
        None => Ok(Vec::new()),
    }
}

/// What some subscribers asked for, of these components. Who is not in the answer follows none of them any more.
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
        let all = Wants {
            follows: components.iter().copied().collect(),
            everything: true,
            events: Events::All,
            least_impact: Impact::None,
            since: Timestamp(i64::MIN),
        };
        return Ok(of.iter().map(|s| (*s, all.clone())).collect());
    }
    for s in db::subscriptions(tx, of).await? {
        let matching: HashSet<_> = match s.component_id {
            Some(component) => components.iter().copied().filter(|c| *c == component).collect(),
            None => components.iter().copied().collect(),
        };
        let everything = s.component_id.is_none();
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
