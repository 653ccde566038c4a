//! Ends: of an incident, for those told; and of the trouble of one subscriber's components, before that.

use super::told::{Memory, memories};
use super::{Page, component_item, components_of};
use crate::domain::class::Class;
use crate::domain::delivery::{Reason, Rule, State};
use crate::domain::id::{ComponentId, DeliveryId, IncidentId, ThreadId};
use crate::domain::incident::ComponentStatus;
use crate::store::deliveries::{NewDelivery, NewItem};
use crate::store::lanes::Fence;
use crate::store::plan::Notice;
use crate::store::threads::Thread;
use crate::store::{StoreError, deliveries, lanes, plan as db, told};
use std::collections::HashSet;

impl Page<'_> {
    /// An incident is over: who was told of it gets its end; what was still to be told is not told any more.
    pub(super) async fn end(&mut self, notice: &Notice, incident: IncidentId) -> Result<(), StoreError> {
        let page = self.threads_of(incident).await?;
        let ids: Vec<ThreadId> = page.iter().map(|t| t.id).collect();
        let memories = memories(self.tx, &ids).await?;
        let components = components_of(self.tx, incident, None).await?;
        let lane = lanes::lane(self.tx, notice.class, Fence::Incident(incident)).await?;
        let subscribers: Vec<_> = page.iter().map(|t| t.subscriber_id).collect();
        let fresh: HashSet<_> = self.fresh(notice.id.0, &subscribers).await?.into_iter().collect();
        let (mut deliveries, mut items, mut folds, mut withdrawn) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for thread in &page {
            let Some(memory) = memories.get(&thread.id) else { continue };
            let queued = |class: Class| memory.queued().filter(move |s| s.class == class).map(|s| s.id);
            if !memory.is_owed_an_end(thread) || !fresh.contains(&thread.subscriber_id) {
                withdrawn.extend(queued(Class::IncidentUpdate));
                continue;
            }
            let delivery = self.delivery(notice.class, lane, notice, thread, Rule::End);
            for class in [Class::IncidentUpdate, Class::AllClear, Class::IncidentEnd] {
                folds.extend(queued(class).map(|id| (id, delivery.id)));
            }
            items.extend(memory.components.keys().map(|c| component_item(delivery.id, *c, &components)));
            deliveries.push(delivery);
        }
        deliveries::withdraw(self.tx, &withdrawn, Reason::IncidentResolved).await?;
        self.store(&deliveries, &items, &folds).await?;
        self.release(&ids).await?;
        self.advance(page.len(), page.last().map(|t| t.subscriber_id.0), 1).await
    }

    /// A component works again: those told of trouble, of whose components every one works again, are told so after
    /// it has been stable for a while.
    pub(super) async fn component_up(&mut self, component: ComponentId) -> Result<(), StoreError> {
        let incidents = db::open_incidents_of(self.tx, component).await?;
        let list = usize::try_from(self.job.cursor_list).unwrap_or(usize::MAX);
        let Some((incident, revision, notice)) = incidents.get(list) else { return self.done("nobody").await };
        let page = self.threads_of(*incident).await?;
        let ids: Vec<ThreadId> = page.iter().map(|t| t.id).collect();
        let memories = memories(self.tx, &ids).await?;
        let works: HashSet<ComponentId> = components_of(self.tx, *incident, None)
            .await?
            .into_iter()
            .filter_map(|(c, status)| (status == ComponentStatus::Operational).then_some(c))
            .collect();
        let lane = lanes::lane(self.tx, Class::AllClear, Fence::Incident(*incident)).await?;
        let (mut deliveries, mut items, mut folds) = (Vec::new(), Vec::new(), Vec::new());
        for thread in &page {
            let Some(memory) = memories.get(&thread.id) else { continue };
            if !memory.is_owed_an_end(thread) || !is_all_back(memory, &works) {
                continue;
            }
            let delivery = self.all_clear(lane, thread, (*revision, *notice));
            folds.extend(memory.queued().filter(|s| s.class == Class::AllClear).map(|s| (s.id, delivery.id)));
            items.extend(memory.components.keys().map(|c| NewItem {
                delivery: delivery.id,
                component: *c,
                connection: None,
                status: Some(ComponentStatus::Operational),
                corrects: None,
            }));
            deliveries.push(delivery);
        }
        self.store(&deliveries, &items, &folds).await?;
        let cleared: Vec<_> = deliveries.iter().map(|d| d.thread).collect();
        self.release(&cleared).await?;
        self.advance(page.len(), page.last().map(|t| t.subscriber_id.0), incidents.len()).await
    }

    fn all_clear(
        &self,
        lane: crate::domain::id::LaneId,
        thread: &Thread,
        (revision, notice): (i64, Option<crate::domain::id::NoticeId>),
    ) -> NewDelivery {
        let id = DeliveryId::new();
        NewDelivery {
            id,
            class: Class::AllClear,
            lane,
            cause: id.0,
            notice,
            subscriber: thread.subscriber_id,
            thread: thread.id,
            rule: Rule::AllBack,
            tells: Some((revision, None)),
            due_at: self.job.created_at + self.setting.limits(Class::AllClear).stable_for,
            state: State::Queued,
            reason: Some(Reason::StableFor),
            folded_into: None,
            created_at: self.job.created_at,
        }
    }

    /// What was folded under mails of these threads, and outlives them, is told alone; not before it had the time to
    /// come back, too.
    pub(super) async fn release(&mut self, of: &[ThreadId]) -> Result<(), StoreError> {
        let due = self.tx.now() + self.setting.limits(Class::AllClear).stable_for;
        told::release(self.tx, of, due).await
    }
}

/// Every component the thread was told of works again, and it was told of trouble with one.
fn is_all_back(memory: &Memory, works: &HashSet<ComponentId>) -> bool {
    memory.components.values().any(|told| told.1) && memory.components.keys().all(|c| works.contains(c))
}
