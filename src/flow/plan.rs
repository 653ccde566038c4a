//! Plan: compares what a thread was last told with what is owed now, and makes deliveries, a page at a time. A page
//! that is planned twice changes nothing: the cause and the subscriber make a delivery unique.

use super::audience::{self, Reach};
use super::intake::{FreeIn, IncidentIn};
use super::setting::Setting;
use crate::domain::class::Class;
use crate::domain::delivery::{Reason, State};
use crate::domain::id::{ComponentId, DeliveryId, IncidentId, SubscriberId, ThreadId};
use crate::domain::incident::ComponentStatus;
use crate::domain::time::Timestamp;
use crate::store::plan::{Fence, Job, NewDelivery, NewItem, NewThread, Notice, Sibling, Thread};
use crate::store::{Store, StoreError, Tx, plan as db};
use crate::template::{Matter, Templates};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// Plans one page of one notice, or of one component that came back; `false` when there was nothing to do.
///
/// # Errors
/// When the database or a template fails; what was not committed is planned again.
pub async fn notices(store: &Store, setting: &Setting, templates: &Templates) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    let Some(job) = db::next(&mut tx).await? else { return Ok(false) };
    let mut page = Page { tx: &mut tx, setting, templates, job: &job };
    match (job.notice_id, job.component_id) {
        (Some(id), _) => page.notice(id).await?,
        (None, Some(component)) => page.component_up(component).await?,
        (None, None) => page.done("nothing to plan").await?,
    }
    tx.commit().await?;
    Ok(true)
}

/// What a thread is owed when its incident ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owed {
    /// An end: the subscriber was told, or may be told at this moment.
    End,
    /// Nothing.
    Nothing,
}

/// Whether a thread is owed an end. `siblings` are its undecided or possibly mailed deliveries.
pub(super) fn end_owed(thread: &Thread, siblings: &[&Sibling]) -> Owed {
    let may_be_told = siblings.iter().any(|s| s.state == State::Sending || s.maybe_mailed);
    if thread.ended_at.is_none() && (thread.told_at.is_some() || may_be_told) { Owed::End } else { Owed::Nothing }
}

struct Page<'a> {
    tx: &'a mut Tx,
    setting: &'a Setting,
    templates: &'a Templates,
    job: &'a Job,
}

impl Page<'_> {
    async fn done(&mut self, outcome: &str) -> Result<(), StoreError> {
        db::finish(self.tx, &[(self.job.id, outcome)]).await
    }

    /// Goes on with the next list of subscribers, or ends.
    async fn next_list(&mut self, lists: usize) -> Result<(), StoreError> {
        let next = self.job.cursor_list + 1;
        if usize::try_from(next).unwrap_or(usize::MAX) >= lists {
            let planned = match self.job.notice_id {
                Some(notice) => db::has_delivery(self.tx, notice.0).await?,
                None => false,
            };
            return self.done(if planned { "planned" } else { "nobody" }).await;
        }
        db::move_cursor(self.tx, self.job.id, next, None).await
    }

    async fn advance<T>(&mut self, page: &[T], last: Option<Uuid>, lists: usize) -> Result<(), StoreError> {
        if i64::try_from(page.len()).unwrap_or(i64::MAX) < self.setting.page {
            return self.next_list(lists).await;
        }
        db::move_cursor(self.tx, self.job.id, self.job.cursor_list, last).await
    }

    async fn notice(&mut self, id: crate::domain::id::NoticeId) -> Result<(), StoreError> {
        let notice = db::notice(self.tx, id).await?;
        match (notice.class, notice.incident_id) {
            (Class::IncidentUpdate, Some(_)) if notice.resolved_at.is_some() => {
                // Resolved before this page was planned: nobody else is told of a problem that is over.
                self.done(Reason::IncidentResolved.as_str()).await
            }
            (Class::IncidentUpdate, Some(incident)) => self.update(&notice, incident).await,
            (Class::IncidentEnd | Class::PostMortem, Some(incident)) => self.tell_those_told(&notice, incident).await,
            _ => self.free(&notice).await,
        }
    }

    async fn update(&mut self, notice: &Notice, incident: IncidentId) -> Result<(), StoreError> {
        let said: IncidentIn = read_back(notice)?;
        let components = components_of(self.tx, incident).await?;
        let mentioned = self.mentioned(&said, &components).await?;
        let reach = audience::of_incident(self.tx, incident, notice.id, &said, &mentioned).await?;
        let subscribers = self.page_of(&reach).await?;
        let last = subscribers.last().map(|s| s.0);
        let fresh = self.fresh(notice.id.0, &subscribers).await?;
        let wants = audience::wants(self.tx, &reach, &fresh, &mentioned).await?;
        let subject = Matter::Incident {
            title: notice.title.clone().unwrap_or_default(),
            reference: notice.incident_key.clone().unwrap_or_default(),
        };
        let threads = self.threads("incident", incident.0, &fresh, Class::IncidentUpdate, &subject).await?;
        let lane = db::lane(self.tx, Class::IncidentUpdate, Fence::Incident(incident)).await?;
        let siblings = db::siblings(self.tx, &threads.values().map(|t| t.id).collect::<Vec<_>>()).await?;
        let (mut deliveries, mut items, mut folds) = (Vec::new(), Vec::new(), Vec::new());
        for subscriber in &fresh {
            let Some(thread) = threads.get(subscriber) else { continue };
            let delivery = self.delivery(Class::IncidentUpdate, lane, notice, *subscriber, thread.id);
            let follows = |c: &&ComponentId| wants.get(subscriber).is_some_and(|w| w.follows.contains(*c));
            items.extend(mentioned.iter().filter(follows).map(|c| component_item(delivery.id, *c, &components)));
            let older = siblings
                .iter()
                .filter(|s| s.thread_id == thread.id && s.state == State::Queued && s.class == Class::IncidentUpdate);
            folds.extend(older.map(|s| (s.id, delivery.id)));
            deliveries.push(delivery);
        }
        self.store(&deliveries, &items, &folds).await?;
        self.advance(&subscribers, last, reach.lists.len()).await
    }

    /// The components an update concerns: those it names, or all the incident has named so far.
    async fn mentioned(
        &mut self,
        said: &IncidentIn,
        components: &[(ComponentId, ComponentStatus)],
    ) -> Result<Vec<ComponentId>, StoreError> {
        if said.components.is_empty() {
            return Ok(components.iter().map(|c| c.0).collect());
        }
        let mut named = Vec::new();
        for component in &said.components {
            named.extend(crate::store::setup::component_id(self.tx, &component.key).await?);
        }
        Ok(named)
    }

    async fn tell_those_told(&mut self, notice: &Notice, incident: IncidentId) -> Result<(), StoreError> {
        let after = self.job.cursor_id.unwrap_or_default();
        let page = db::threads_of_matter(self.tx, incident.0, after, self.setting.page).await?;
        let last = page.last().map(|t| t.subscriber_id.0);
        let siblings = db::siblings(self.tx, &page.iter().map(|t| t.id).collect::<Vec<_>>()).await?;
        let components = components_of(self.tx, incident).await?;
        let ids: Vec<ThreadId> = page.iter().map(|t| t.id).collect();
        let named = db::named_components(self.tx, &ids).await?;
        let lane = db::lane(self.tx, notice.class, Fence::None).await?;
        let already: HashSet<_> = {
            let subscribers: Vec<_> = page.iter().map(|t| t.subscriber_id).collect();
            db::planned_already(self.tx, notice.id.0, &subscribers).await?.into_iter().collect()
        };
        let (mut deliveries, mut items, mut folds, mut withdrawn) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for thread in &page {
            let own: Vec<&Sibling> = siblings.iter().filter(|s| s.thread_id == thread.id).collect();
            let queued = |class: Class| own.iter().filter(move |s| s.state == State::Queued && s.class == class);
            let is_end = notice.class == Class::IncidentEnd;
            if is_end {
                withdrawn.extend(queued(Class::IncidentUpdate).map(|s| s.id));
            }
            let owed = if is_end { end_owed(thread, &own) == Owed::End } else { thread.told_at.is_some() };
            if !owed || already.contains(&thread.subscriber_id) {
                continue;
            }
            let delivery = self.delivery(notice.class, lane, notice, thread.subscriber_id, thread.id);
            if is_end {
                folds.extend(queued(Class::AllClear).chain(queued(Class::IncidentEnd)).map(|s| (s.id, delivery.id)));
            }
            let told = named.iter().filter(|n| n.thread_id == thread.id).map(|n| n.component_id);
            items.extend(told.map(|component| component_item(delivery.id, component, &components)));
            deliveries.push(delivery);
        }
        db::withdraw(self.tx, &withdrawn, Reason::IncidentResolved).await?;
        self.store(&deliveries, &items, &folds).await?;
        self.advance(&page, last, 1).await
    }

    async fn free(&mut self, notice: &Notice) -> Result<(), StoreError> {
        let said: FreeIn = read_back(notice)?;
        let reach = audience::of_free(self.tx, notice.id, &said).await?;
        let subscribers = self.page_of(&reach).await?;
        let last = subscribers.last().map(|s| s.0);
        let fresh = self.fresh(notice.id.0, &subscribers).await?;
        let subject = Matter::Notice { subject: said.subject };
        let threads = self.threads("notice", notice.id.0, &fresh, Class::Free, &subject).await?;
        let lane = db::lane(self.tx, Class::Free, Fence::None).await?;
        let deliveries: Vec<_> = fresh
            .iter()
            .filter_map(|s| threads.get(s).map(|t| self.delivery(Class::Free, lane, notice, *s, t.id)))
            .collect();
        self.store(&deliveries, &[], &[]).await?;
        self.advance(&subscribers, last, reach.lists.len()).await
    }

    /// A component works again: those told of it whose every component works again are told so, after it has been
    /// stable for a while.
    async fn component_up(&mut self, component: ComponentId) -> Result<(), StoreError> {
        let incidents = db::open_incidents_of(self.tx, component).await?;
        let list = usize::try_from(self.job.cursor_list).unwrap_or(usize::MAX);
        let Some((incident, _)) = incidents.get(list) else { return self.done("nobody").await };
        let after = self.job.cursor_id.unwrap_or_default();
        let page = db::threads_of_matter(self.tx, incident.0, after, self.setting.page).await?;
        let last = page.last().map(|t| t.subscriber_id.0);
        let ids: Vec<ThreadId> = page.iter().map(|t| t.id).collect();
        let siblings = db::siblings(self.tx, &ids).await?;
        let named = db::named_components(self.tx, &ids).await?;
        let lane = db::lane(self.tx, Class::AllClear, Fence::None).await?;
        let limits = self.setting.limits(Class::AllClear);
        let (mut deliveries, mut items) = (Vec::new(), Vec::new());
        for thread in &page {
            let own: Vec<&Sibling> = siblings.iter().filter(|s| s.thread_id == thread.id).collect();
            let told: Vec<_> = named.iter().filter(|n| n.thread_id == thread.id).collect();
            let all_up = !told.is_empty()
                && told.iter().all(|n| n.down_since.is_none() && n.status == ComponentStatus::Operational);
            let waits = own.iter().any(|s| s.class == Class::AllClear && s.state == State::Queued);
            if end_owed(thread, &own) == Owed::Nothing || !all_up || waits {
                continue;
            }
            let id = DeliveryId::new();
            deliveries.push(NewDelivery {
                id,
                class: Class::AllClear,
                lane,
                cause: id.0,
                notice: None,
                subscriber: thread.subscriber_id,
                thread: thread.id,
                due_at: self.job.created_at + limits.stable_for,
                reason: Some(Reason::StableFor.as_str()),
                created_at: self.job.created_at,
            });
            items.extend(told.iter().map(|n| NewItem {
                delivery: id,
                component: n.component_id,
                connection: None,
                status: Some(n.status),
                corrects: None,
            }));
        }
        self.store(&deliveries, &items, &[]).await?;
        self.advance(&page, last, incidents.len()).await
    }

    async fn page_of(&mut self, reach: &Reach) -> Result<Vec<SubscriberId>, StoreError> {
        let list = usize::try_from(self.job.cursor_list).unwrap_or(usize::MAX);
        audience::page(self.tx, reach, list, self.job.cursor_id.unwrap_or_default(), self.setting.page).await
    }

    /// Those for whom this cause has not made a delivery yet: they may be on several lists.
    async fn fresh(&mut self, cause: Uuid, of: &[SubscriberId]) -> Result<Vec<SubscriberId>, StoreError> {
        let already: HashSet<_> = db::planned_already(self.tx, cause, of).await?.into_iter().collect();
        Ok(of.iter().copied().filter(|s| !already.contains(s)).collect())
    }

    /// The thread of each subscriber about a matter, made where there is none.
    async fn threads(
        &mut self,
        kind: &'static str,
        matter: Uuid,
        of: &[SubscriberId],
        class: Class,
        subject: &Matter,
    ) -> Result<HashMap<SubscriberId, Thread>, StoreError> {
        let pairs: Vec<_> = of.iter().map(|s| (matter, *s)).collect();
        let mut threads: HashMap<_, _> =
            db::threads(self.tx, &pairs).await?.into_iter().map(|t| (t.subscriber_id, t)).collect();
        let missing: Vec<_> = of.iter().filter(|s| !threads.contains_key(s)).copied().collect();
        if missing.is_empty() {
            return Ok(threads);
        }
        // A title edited later changes nothing: the subject of a thread stays.
        let subject = match db::subject_of(self.tx, matter).await? {
            Some(subject) => subject,
            None => render_subject(self.templates, subject)?,
        };
        let new: Vec<_> =
            missing.iter().map(|s| new_thread(self.setting, kind, matter, *s, 0, class, &subject)).collect();
        db::add_threads(self.tx, &new).await?;
        threads.extend(new.iter().map(|t| (t.subscriber, as_thread(t))));
        Ok(threads)
    }

    fn delivery(
        &self,
        class: Class,
        lane: crate::domain::id::LaneId,
        notice: &Notice,
        subscriber: SubscriberId,
        thread: ThreadId,
    ) -> NewDelivery {
        NewDelivery {
            id: DeliveryId::new(),
            class,
            lane,
            cause: notice.id.0,
            notice: Some(notice.id),
            subscriber,
            thread,
            due_at: self.job.created_at + self.setting.limits(class).dwell,
            reason: None,
            created_at: self.job.created_at,
        }
    }

    async fn store(
        &mut self,
        deliveries: &[NewDelivery],
        items: &[NewItem],
        folds: &[(DeliveryId, DeliveryId)],
    ) -> Result<(), StoreError> {
        db::add_deliveries(self.tx, deliveries, |class| self.setting.stream_name(class)).await?;
        db::add_items(self.tx, items).await?;
        db::fold(self.tx, folds).await
    }
}

async fn components_of(tx: &mut Tx, incident: IncidentId) -> Result<Vec<(ComponentId, ComponentStatus)>, StoreError> {
    let found = crate::store::ingest::incident_components(tx, incident).await?;
    Ok(found.into_iter().map(|c| (c.id, c.status)).collect())
}

fn read_back<T: serde::de::DeserializeOwned>(notice: &Notice) -> Result<T, StoreError> {
    serde_json::from_str(&notice.payload).map_err(|e| StoreError::Corrupt {
        table: "notice",
        column: "payload",
        row: notice.id.to_string(),
        what: e.to_string(),
    })
}

/// A thread's subject; a template that fails leaves the work undone, and says so.
pub(super) fn render_subject(templates: &Templates, matter: &Matter) -> Result<String, StoreError> {
    templates.subject(matter).map_err(|e| StoreError::Unfit {
        what: format!("the subject cannot be rendered: {e}"),
        hint: "mend the template and start again".to_owned(),
    })
}

pub(super) fn new_thread(
    setting: &Setting,
    kind: &'static str,
    matter: Uuid,
    subscriber: SubscriberId,
    ordinal: i64,
    class: Class,
    subject: &str,
) -> NewThread {
    let id = ThreadId::new();
    NewThread {
        id,
        matter_kind: kind,
        matter_id: matter,
        subscriber,
        ordinal,
        // No mail carries this id: clients make an empty parent of it and group by it.
        root: format!("{}@{}", id.0.simple(), setting.domain),
        subject: subject.to_owned(),
        sender: setting.stream(class).map(|s| s.from.clone()).unwrap_or_default(),
    }
}

pub(super) fn as_thread(new: &NewThread) -> Thread {
    Thread {
        id: new.id,
        matter_id: new.matter_id,
        subscriber_id: new.subscriber,
        ordinal: new.ordinal,
        told_at: None,
        last_mailed_at: None,
        ended_at: None::<Timestamp>,
    }
}

fn component_item(
    delivery: DeliveryId,
    component: ComponentId,
    components: &[(ComponentId, ComponentStatus)],
) -> NewItem {
    let status = components.iter().find(|c| c.0 == component).map(|c| c.1);
    NewItem { delivery, component, connection: None, status, corrects: None }
}
