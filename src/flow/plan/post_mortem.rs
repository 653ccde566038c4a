//! The post-mortem: to those who were told, and to those who subscribed since; not to those who left.

use super::super::audience::{self, Reach, Wants};
use super::super::intake::IncidentIn;
use super::told::memories;
use super::{Page, component_item, components_of, read_back};
use crate::domain::class::Class;
use crate::domain::delivery::{Reason, Rule, State};
use crate::domain::id::{ComponentId, IncidentId, SubscriberId, ThreadId};
use crate::domain::incident::Impact;
use crate::domain::subscription::{Events, reaches};
use crate::store::lanes::Fence;
use crate::store::plan::Notice;
use crate::store::{StoreError, audience as db, lanes};
use crate::template::Matter;

impl Page<'_> {
    pub(super) async fn post_mortem(&mut self, notice: &Notice, incident: IncidentId) -> Result<(), StoreError> {
        let said: IncidentIn = read_back(notice)?;
        let components = components_of(self.tx, incident, None).await?;
        let ids: Vec<ComponentId> = components.iter().map(|c| c.0).collect();
        let reach = audience::of_incident(self.tx, incident, notice.id, &said, &ids).await?;
        // The first list is of those told, by their threads.
        let of_threads = self.job.cursor_list == 0;
        let (page, told) = match of_threads {
            true => self.those_told(incident).await?,
            false => (self.page_of(&reach, 1).await?, Vec::new()),
        };
        let fresh = self.fresh(notice.id.0, if of_threads { &told } else { &page }).await?;
        // Who was told is told why, whatever the filter or the recipients say of them by now, unless he has left.
        let told_too = Reach { filter: None, explicit: false, ..reach.clone() };
        let mut wants = audience::wants(self.tx, if of_threads { &told_too } else { &reach }, &fresh, &ids).await?;
        if of_threads {
            // Who was named follows nothing, and has not left.
            for named in db::named_by(self.tx, incident, &fresh).await? {
                // Where it goes to recipients, whatever they follow.
                if reach.explicit || !wants.contains_key(&named) {
                    wants.insert(named, Wants::named(&ids));
                }
            }
        }
        // A maintenance or an incident that names nothing concerns only those who follow everything.
        let follows = |wants: &&Wants| !wants.follows.is_empty() || wants.everything;
        let since = |wants: &&Wants| of_threads || notice.heard_at.is_none_or(|heard| wants.since > heard);
        let owed: Vec<(SubscriberId, &Wants)> =
            fresh.iter().filter_map(|s| Some((*s, wants.get(s).filter(follows).filter(since)?))).collect();
        let subject = Matter::Incident {
            title: notice.title.clone().unwrap_or_default(),
            reference: notice.incident_key.clone().unwrap_or_default(),
        };
        let subscribers: Vec<_> = owed.iter().map(|o| o.0).collect();
        let threads = self.threads("incident", incident.0, &subscribers, Class::PostMortem, &subject).await?;
        let lane = lanes::lane(self.tx, Class::PostMortem, Fence::Incident(incident)).await?;
        let (mut deliveries, mut items) = (Vec::new(), Vec::new());
        for (subscriber, wants) in owed {
            let Some(thread) = threads.get(&subscriber) else { continue };
            let mut delivery = self.delivery(Class::PostMortem, lane, notice, thread, Rule::PostMortem);
            let below = !of_threads && !reaches(notice.impact.unwrap_or(Impact::Minor), wants.least_impact);
            let withheld = match wants.events {
                Events::BeginAndEnd => Some(Reason::BeginAndEndOnly),
                _ => below.then_some(Reason::BelowLeastImpact),
            };
            if withheld.is_some() {
                (delivery.state, delivery.reason) = (State::Suppressed, withheld);
            }
            let names = ids.iter().filter(|c| wants.follows.contains(c));
            items.extend(names.map(|c| component_item(delivery.id, *c, &components)));
            deliveries.push(delivery);
        }
        self.store(&deliveries, &items, &[]).await?;
        self.advance(page.len(), page.last().map(|s| s.0), reach.lists.len() + 1).await
    }

    /// A page of those with a thread, and those of them who were told.
    async fn those_told(&mut self, incident: IncidentId) -> Result<(Vec<SubscriberId>, Vec<SubscriberId>), StoreError> {
        let threads = self.threads_of(incident).await?;
        let ids: Vec<ThreadId> = threads.iter().map(|t| t.id).collect();
        let memories = memories(self.tx, &ids).await?;
        let told = threads.iter().filter(|t| memories.get(&t.id).is_some_and(|m| m.is_told(t)));
        Ok((threads.iter().map(|t| t.subscriber_id).collect(), told.map(|t| t.subscriber_id).collect()))
    }
}
