//! Plan: compares what a thread was last told with what is owed now, and makes deliveries, a page at a time. A page
//! that is planned twice changes nothing: the cause and the subscriber make a delivery unique.

mod ends;
mod post_mortem;
mod told;
mod update;

use super::alert::Own;
use super::audience::{self, Reach};
use super::caught;
use super::compose::ComposeError;
use super::setting::Setting;
use crate::domain::class::Class;
use crate::domain::delivery::{Reason, Rule, State};
use crate::domain::id::{ComponentId, DeliveryId, IncidentId, LaneId, SubscriberId, SurgeId, ThreadId};
use crate::domain::incident::ComponentStatus;
use crate::failpoint;
use crate::store::deliveries::{NewDelivery, NewItem};
use crate::store::lanes::Fence;
use crate::store::plan::{Job, Next, Notice};
use crate::store::threads::{NewThread, Thread};
use crate::store::{Store, StoreError, Tx, deliveries, lanes, plan as db, threads};
use crate::template::{Matter, Templates};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// Plans one page of one notice, or of one component that came back; `false` when there was nothing to do.
///
/// # Errors
/// When the database or a template fails; what was not committed is planned again.
pub async fn notices(store: &Store, setting: &Setting, templates: &Templates) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    let Some(Next { job, notice }) = db::next(&mut tx).await? else { return Ok(false) };
    let mut page = Page { tx: &mut tx, setting, templates, job: &job };
    match (&notice, job.component_id) {
        (Some(notice), _) => page.notice(notice).await?,
        (None, Some(component)) => page.component_up(component).await?,
        (None, None) => page.done("nothing to plan").await?,
    }
    failpoint::pass("planning");
    tx.commit().await?;
    failpoint::pass("planned");
    Ok(true)
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
            return db::finish_lists(self.tx, self.job.id).await;
        }
        db::move_cursor(self.tx, self.job.id, next, None).await
    }

    async fn advance(&mut self, page: usize, last: Option<Uuid>, lists: usize) -> Result<(), StoreError> {
        if i64::try_from(page).unwrap_or(i64::MAX) < self.setting.page {
            return self.next_list(lists).await;
        }
        db::move_cursor(self.tx, self.job.id, self.job.cursor_list, last).await
    }

    async fn notice(&mut self, notice: &Notice) -> Result<(), StoreError> {
        match (notice.class, notice.incident_id) {
            (Class::IncidentUpdate, Some(_)) if notice.resolved_at.is_some() => {
                // Resolved before this page was planned: nobody else is told of a problem that is over.
                self.done(Reason::IncidentResolved.as_str()).await
            }
            (Class::IncidentUpdate, Some(incident)) => self.update(notice, incident).await,
            (Class::IncidentEnd, Some(incident)) => self.end(notice, incident).await,
            (Class::PostMortem, Some(incident)) => self.post_mortem(notice, incident).await,
            _ => self.free(notice).await,
        }
    }

    async fn free(&mut self, notice: &Notice) -> Result<(), StoreError> {
        let (reach, matter, subject, rule, fence) = match read_back(notice)? {
            Own::Free(said) => {
                let reach = audience::of_free(self.tx, notice.id, &said).await?;
                (reach, notice.id.0, Matter::Notice { subject: said.subject }, Rule::Notice, Fence::None)
            }
            // All that is said of a surge is one thread.
            Own::Surge(mail) => {
                let matter = mail.surge.parse::<SurgeId>().map_or(notice.id.0, |id| id.0);
                let occasion = mail.occasion();
                let subject = Matter::Surge { kind: mail.kind, component: mail.component, occasion };
                (Reach::recipients(notice.id), matter, subject, Rule::Surge, Fence::Operators)
            }
        };
        let page = self.page_of(&reach, 0).await?;
        let fresh = self.fresh(notice.id.0, &page).await?;
        let threads = self.threads("notice", matter, &fresh, Class::Free, &subject).await?;
        let lane = lanes::lane(self.tx, Class::Free, fence).await?;
        let own = |s: &SubscriberId| threads.get(s).map(|t| self.delivery(Class::Free, lane, notice, t, rule));
        let deliveries: Vec<_> = fresh.iter().filter_map(own).collect();
        self.store(&deliveries, &[], &[]).await?;
        self.advance(page.len(), page.last().map(|s| s.0), reach.lists.len()).await
    }

    /// A page of the list at the cursor; the first `before` lists are not of this reach.
    async fn page_of(&mut self, reach: &Reach, before: usize) -> Result<Vec<SubscriberId>, StoreError> {
        let list = usize::try_from(self.job.cursor_list).unwrap_or(usize::MAX);
        let after = self.job.cursor_id.unwrap_or_default();
        audience::page(self.tx, reach, list.saturating_sub(before), after, self.setting.page).await
    }

    /// A page of the threads of an incident at the cursor.
    async fn threads_of(&mut self, incident: IncidentId) -> Result<Vec<Thread>, StoreError> {
        let after = self.job.cursor_id.unwrap_or_default();
        threads::of_matter(self.tx, incident.0, after, self.setting.page).await
    }

    /// Whether nothing has been made of its notice yet: what a page makes is committed with the cursor.
    fn is_first(&self) -> bool {
        self.job.cursor_list == 0 && self.job.cursor_id.is_none()
    }

    /// Those for whom this cause has not made a delivery yet: they may be on several lists.
    async fn fresh(&mut self, cause: Uuid, of: &[SubscriberId]) -> Result<Vec<SubscriberId>, StoreError> {
        if self.is_first() {
            return Ok(of.to_vec());
        }
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
        // A notice's own matter begins with its first page.
        let is_new = self.is_first() && self.job.notice_id.is_some_and(|id| id.0 == matter);
        let mut threads = HashMap::new();
        if !is_new {
            let pairs: Vec<_> = of.iter().map(|s| (matter, *s)).collect();
            threads.extend(threads::find(self.tx, &pairs).await?.into_iter().map(|t| (t.subscriber_id, t)));
        }
        let missing: Vec<_> = of.iter().filter(|s| !threads.contains_key(s)).copied().collect();
        if missing.is_empty() {
            return Ok(threads);
        }
        // A title edited later changes nothing: the subject of a thread stays.
        let known = if is_new { None } else { db::subject_of(self.tx, matter).await? };
        let subject = known.unwrap_or_else(|| render_subject(self.templates, subject));
        let new: Vec<_> =
            missing.iter().map(|s| new_thread(self.setting, kind, matter, *s, 0, class, &subject)).collect();
        threads::add(self.tx, &new).await?;
        threads.extend(new.iter().map(|t| (t.subscriber, as_thread(t))));
        Ok(threads)
    }

    fn delivery(&self, class: Class, lane: LaneId, notice: &Notice, thread: &Thread, rule: Rule) -> NewDelivery {
        NewDelivery {
            id: DeliveryId::new(),
            class,
            lane,
            cause: notice.id.0,
            notice: Some(notice.id),
            subscriber: thread.subscriber_id,
            thread: thread.id,
            rule,
            tells: notice.revision.map(|revision| (revision, notice.phase)),
            due_at: self.job.created_at + self.setting.limits(class).dwell,
            state: State::Queued,
            reason: None,
            folded_into: None,
            created_at: self.job.created_at,
        }
    }

    async fn store(
        &mut self,
        deliveries: &[NewDelivery],
        items: &[NewItem],
        folds: &[(DeliveryId, DeliveryId)],
    ) -> Result<(), StoreError> {
        deliveries::add(self.tx, deliveries, |class| self.setting.stream_name(class)).await?;
        deliveries::add_items(self.tx, items, deliveries).await?;
        deliveries::fold(self.tx, folds).await
    }
}

/// The components of an incident as they are doing now: those that were named by an update, or all.
async fn components_of(
    tx: &mut Tx,
    incident: IncidentId,
    by: Option<i64>,
) -> Result<Vec<(ComponentId, ComponentStatus)>, StoreError> {
    let found = crate::store::incidents::components(tx, incident).await?;
    let named = found.into_iter().filter(|c| by.is_none_or(|by| c.since_revision <= by));
    Ok(named.map(|c| (c.id, c.status)).collect())
}

fn read_back<T: serde::de::DeserializeOwned>(notice: &Notice) -> Result<T, StoreError> {
    serde_json::from_str(&notice.payload).map_err(|e| StoreError::Corrupt {
        table: "notice",
        column: "payload",
        row: notice.id.to_string(),
        what: e.to_string(),
    })
}

/// A thread's subject. Where its template fails the bare words do: nobody's news may wait for another's subject.
pub(super) fn render_subject(templates: &Templates, matter: &Matter) -> String {
    let rendered = caught::about_a_mail(|| {
        failpoint::pass_with("titling", &matter.words());
        templates.subject(matter).map_err(|e| ComposeError(e.to_string()))
    });
    rendered.unwrap_or_else(|e| {
        tracing::error!("a subject cannot be rendered and is mailed without its template: {e}");
        matter.words()
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
        ended_at: None,
        last_phase: None,
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
