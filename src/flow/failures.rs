//! Planning failures: one action-required mail per subscriber and component, listing its connections. What fails
//! while a mail still waits joins it.

use super::plan::{as_thread, new_thread, render_subject};
use super::setting::Setting;
use crate::domain::class::{Class, Limits};
use crate::domain::delivery::{Reason, Rule, State};
use crate::domain::id::{ComponentId, ConnectionId, DeliveryId, LaneId, NoticeId, PlanId, SubscriberId, ThreadId};
use crate::domain::time::{Span, Timestamp};
use crate::domain::truth::over;
use crate::failpoint;
use crate::store::deliveries::{NewDelivery, NewItem};
use crate::store::failures::{Failure, Named, Waiting};
use crate::store::lanes::Fence;
use crate::store::parting::ItemKey;
use crate::store::threads::{NewThread, Thread};
use crate::store::{Store, StoreError, Tx, deliveries, failures, lanes, parting, plan as db, threads};
use crate::template::{Matter, Templates};
use std::collections::{BTreeSet, HashMap, HashSet};
use uuid::Uuid;

/// A thread about connections is continued for this long; mail programs do not group for longer.
const CONTINUED: Span = Span::hours(7 * 24);

/// Plans a page of failures after a cursor: the new cursor, and how many were decided (one whose mail is on the wire
/// is left for later). `None` when there was nothing left.
///
/// # Errors
/// When the database or a template fails; what was not committed is planned again.
pub async fn failures(
    store: &Store,
    setting: &Setting,
    templates: &Templates,
    after: Uuid,
) -> Result<Option<(Uuid, usize)>, StoreError> {
    let mut tx = store.begin().await?;
    let page = failures::next(&mut tx, after, setting.page).await?;
    let Some(last) = page.last().map(|f| f.id.0) else { return Ok(None) };
    let known = Known::load(&mut tx, setting, templates, &page).await?;
    let planned = plan(&page, &known, &setting.limits(Class::ActionRequired), tx.now());
    deliveries::add(&mut tx, &planned.deliveries, |class| setting.stream_name(class)).await?;
    parting::drop_items(&mut tx, &planned.moved).await?;
    deliveries::add_items(&mut tx, &planned.items, &planned.deliveries).await?;
    let moved: Vec<_> = planned.moved.iter().map(|(key, _)| key.delivery).collect();
    failures::withdraw_emptied(&mut tx, &moved, Reason::ItemsMoved).await?;
    failures::join(&mut tx, &planned.joins.into_iter().collect::<Vec<_>>()).await?;
    failures::give_words(&mut tx, &planned.words).await?;
    failures::hasten(&mut tx, &planned.hastened, known.own_fault_lane).await?;
    db::finish(&mut tx, &planned.outcomes).await?;
    failpoint::pass("planning");
    tx.commit().await?;
    failpoint::pass("planned");
    Ok(Some((last, planned.outcomes.len())))
}

/// What the store knows about a page of failures.
struct Known {
    lanes: HashMap<ComponentId, LaneId>,
    own_fault_lane: LaneId,
    concerned: HashMap<PlanId, Vec<SubscriberId>>,
    threads: HashMap<(ComponentId, SubscriberId), Thread>,
    /// The mail that waits in each thread and lane, and takes what fails meanwhile.
    waiting: HashMap<(ThreadId, LaneId), Waiting>,
    named_by_waiting: HashSet<(DeliveryId, ConnectionId)>,
    named: HashMap<(ConnectionId, i64, SubscriberId), Named>,
}

impl Known {
    async fn load(tx: &mut Tx, setting: &Setting, templates: &Templates, page: &[Failure]) -> Result<Self, StoreError> {
        let own_fault_lane = lanes::of_asking(tx, Fence::None).await?;
        let mut lanes = HashMap::new();
        for component in page.iter().map(|f| f.component_id).collect::<BTreeSet<_>>() {
            lanes.insert(component, lanes::of_asking(tx, Fence::Component(component)).await?);
        }
        let mut concerned: HashMap<PlanId, Vec<SubscriberId>> = HashMap::new();
        for (plan, subscriber) in failures::concerned(tx, page).await? {
            concerned.entry(plan).or_default().push(subscriber);
        }
        let (threads, new) = threads(tx, setting, templates, page, &concerned).await?;
        // In a flood most threads are new, and nothing waits in them.
        let old: Vec<ThreadId> = threads.values().map(|t| t.id).filter(|id| !new.contains(id)).collect();
        let waiting: HashMap<_, _> =
            failures::waiting(tx, &old).await?.into_iter().map(|mail| ((mail.thread_id, mail.lane_id), mail)).collect();
        // Of two that wait in one thread and lane, the newer takes what fails: it alone is asked what it names.
        let mails = |f: &Failure, s: &SubscriberId| {
            let thread = threads.get(&(f.component_id, *s)).map(|t| t.id);
            let lanes = [lanes.get(&f.component_id), Some(&own_fault_lane)].into_iter().flatten();
            let mails = lanes.filter_map(|lane| waiting.get(&(thread?, *lane)));
            mails.map(|mail| (mail.id, f.connection_id)).collect::<Vec<_>>()
        };
        let pairs = page.iter().flat_map(|f| concerned.get(&f.id).into_iter().flatten().flat_map(move |s| mails(f, s)));
        let named_by_waiting = failures::named_by_waiting(tx, &pairs.collect::<Vec<_>>()).await?.into_iter().collect();
        let named = failures::named(tx, page).await?;
        // The first found stays, and what is live before what has ended.
        let (live, ended): (Vec<_>, Vec<_>) = named.into_iter().partition(Named::is_live);
        let named = ended
            .into_iter()
            .chain(live.into_iter().rev())
            .map(|n| ((n.connection_id, n.episode, n.subscriber_id), n))
            .collect();
        Ok(Self { lanes, own_fault_lane, concerned, threads, waiting, named_by_waiting, named })
    }

    fn named(&self, failure: &Failure, subscriber: SubscriberId) -> Option<&Named> {
        self.named.get(&(failure.connection_id, failure.episode, subscriber))
    }
}

/// The thread of each subscriber about each component, and which of them were made for it.
async fn threads(
    tx: &mut Tx,
    setting: &Setting,
    templates: &Templates,
    page: &[Failure],
    concerned: &HashMap<PlanId, Vec<SubscriberId>>,
) -> Result<(HashMap<(ComponentId, SubscriberId), Thread>, HashSet<ThreadId>), StoreError> {
    let now = tx.now();
    let names: HashMap<ComponentId, &str> = page.iter().map(|f| (f.component_id, f.component_name.as_str())).collect();
    let pairs: BTreeSet<(ComponentId, SubscriberId)> =
        page.iter().flat_map(|f| concerned.get(&f.id).into_iter().flatten().map(|s| (f.component_id, *s))).collect();
    let matters: Vec<_> = pairs.iter().map(|(c, s)| (c.0, *s)).collect();
    // In the order of their numbers: the newest is what stays.
    let newest: HashMap<_, _> = threads::find(tx, &matters)
        .await?
        .into_iter()
        .map(|t| ((ComponentId(t.matter_id), t.subscriber_id), t))
        .collect();
    let never_mailed: Vec<_> = newest.values().filter(|t| t.last_mailed_at.is_none()).map(|t| t.id).collect();
    let idle: HashSet<_> = match never_mailed.is_empty() {
        true => HashSet::new(),
        false => threads::idle(tx, &never_mailed, now - CONTINUED).await?.into_iter().collect(),
    };
    let mut threads = HashMap::new();
    let mut new: Vec<NewThread> = Vec::new();
    for pair in pairs {
        let old = newest.get(&pair);
        if let Some(thread) = old.filter(|t| is_continued(t, &idle, now)) {
            threads.insert(pair, *thread);
            continue;
        }
        let component = names.get(&pair.0).copied().unwrap_or_default().to_owned();
        let subject = render_subject(templates, &Matter::Connections { component });
        let ordinal = old.map_or(0, |t| t.ordinal + 1);
        let thread = new_thread(setting, "connections", pair.0.0, pair.1, ordinal, Class::ActionRequired, &subject);
        threads.insert(pair, as_thread(&thread));
        new.push(thread);
    }
    threads::add(tx, &new).await?;
    Ok((threads, new.iter().map(|t| t.id).collect()))
}

/// Where nobody was ever mailed there is nothing to continue, and whoever blinks without end would keep it from the archive.
fn is_continued(thread: &Thread, idle: &HashSet<ThreadId>, now: Timestamp) -> bool {
    thread.last_mailed_at.map_or_else(|| !idle.contains(&thread.id), |last| now - last <= CONTINUED)
}

#[derive(Default)]
struct Planned {
    deliveries: Vec<NewDelivery>,
    items: Vec<NewItem>,
    /// Items of mails that wait for the component, now named by one that does not.
    moved: Vec<(ItemKey, Reason)>,
    /// Mails that are joined, and due at another time for it.
    joins: HashMap<DeliveryId, Timestamp>,
    /// Mails that are joined by what a notice reported.
    words: Vec<(DeliveryId, NoticeId)>,
    /// Mails that may have left and wait for the component, though they name a fault now proven to be a connection's own.
    hastened: Vec<DeliveryId>,
    outcomes: Vec<(PlanId, &'static str)>,
}

fn plan(page: &[Failure], known: &Known, limits: &Limits, now: Timestamp) -> Planned {
    let mut planned = Planned::default();
    let mut waiting = known.waiting.clone();
    for failure in page {
        if let Some(reason) = over(failure.episode, failure.cleared, failure.own_fault_episode, failure.covered) {
            planned.outcomes.push((failure.id, reason.as_str()));
            continue;
        }
        let own_fault = failure.own_fault_episode == failure.episode;
        let subscribers = known.concerned.get(&failure.id).map_or(&[][..], Vec::as_slice);
        let stands = |subscriber: &SubscriberId| {
            // Whoever was told in vain is not told again because others are; of their own fault they are.
            let named = known.named(failure, *subscriber).filter(|n| n.is_live() || !own_fault);
            // A canary that waits may be called back to the others.
            let waits = |n: &Named| (n.lane_id != known.own_fault_lane || n.canary) && !n.maybe_mailed;
            let place = place(named.map(|n| (n.state, waits(n))), own_fault);
            (*subscriber, place, named)
        };
        let places: Vec<_> = subscribers.iter().map(stands).collect();
        if places.iter().any(|(_, place, _)| *place == Place::OnTheWire) {
            // Decided when it comes back: left for the next round.
            continue;
        }
        for (subscriber, place, named) in places {
            if let (Place::Told, true, Some(waits)) = (place, own_fault, named.filter(|n| waits_to_repeat(n))) {
                planned.hastened.push(waits.delivery_id);
            }
            let Some(thread) = known.threads.get(&(failure.component_id, subscriber)) else { continue };
            let lane =
                if own_fault { Some(known.own_fault_lane) } else { known.lanes.get(&failure.component_id).copied() };
            let Some(lane) = lane else { continue };
            if place == Place::Told {
                continue;
            }
            let at = (thread.id, lane);
            let due_at = failure.created_at + if own_fault { Span::ZERO } else { limits.dwell };
            // A mail names a connection once: what broke again while one waits about its outage before gets its own.
            let takes = |mail: &&mut Waiting| !known.named_by_waiting.contains(&(mail.id, failure.connection_id));
            let joined = waiting.get_mut(&at).filter(takes);
            let joined = joined.and_then(|mail| due_with(mail, due_at, limits, now).map(|due_at| (mail, due_at)));
            let delivery = match joined {
                Some((mail, due_at)) => {
                    if mail.due_at != due_at {
                        mail.due_at = due_at;
                        planned.joins.insert(mail.id, due_at);
                    }
                    planned.words.extend(failure.notice_id.map(|notice| (mail.id, notice)));
                    mail.id
                }
                None => {
                    let new = delivery(failure, subscriber, thread.id, lane, due_at, own_fault);
                    let id = new.id;
                    waiting.insert(at, as_waiting(&new));
                    planned.deliveries.push(new);
                    id
                }
            };
            if let (Place::Waits, Some(old)) = (place, named) {
                let (subject, episode) = (failure.connection_id.0, failure.episode);
                planned.moved.push((ItemKey { delivery: old.delivery_id, subject, episode }, Reason::ItemsMoved));
            }
            planned.items.push(item(failure, delivery));
        }
        planned.outcomes.push((failure.id, if subscribers.is_empty() { "nobody" } else { "planned" }));
    }
    planned
}

/// When a mail that waits is due once it names a failure that by itself would be due at `due_at`; `None`: that gets a
/// mail of its own.
///
/// What joins a mail in its dwell has one of its own, for which the mail waits, but no longer than twice the dwell in all.
/// One that is kept by something else, a hold, a cap or those before it, takes what fails until it leaves, or until it could be
/// too old before that has had the longest hold of its own.
#[must_use]
pub fn due_with(mail: &Waiting, due_at: Timestamp, limits: &Limits, now: Timestamp) -> Option<Timestamp> {
    let held_until = due_at + limits.longest_hold.unwrap_or(Span::ZERO);
    match mail.reason {
        _ if limits.greatest_age.is_some_and(|age| mail.created_at + age < held_until) => None,
        // It leaves with what does not wait for the component; the look parts them.
        Some(Reason::ComponentDown | Reason::AwaitingReconnection) => Some(mail.due_at.min(due_at.max(now))),
        Some(Reason::Dwell) if mail.due_at > now && mail.due_at < due_at => {
            (due_at <= mail.created_at + limits.dwell + limits.dwell).then_some(due_at)
        }
        _ => Some(mail.due_at),
    }
}

/// It may have left, and is sent again as it was: nothing can be taken out of it.
fn waits_to_repeat(named: &Named) -> bool {
    named.state == State::Queued && named.maybe_mailed
}

/// Where a connection's outage already stands for a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In no mail.
    Nowhere,
    /// In one that needs no other beside it.
    Told,
    /// In one on the wire: what follows is decided when that comes back.
    OnTheWire,
    /// In one that waits for the component, though the fault is now known to be the connection's own.
    Waits,
}

/// Where an outage stands that a mail in this state names already; the mail `can_lose` it when it waits for the
/// component and has never left.
#[must_use]
pub const fn place(named: Option<(State, bool)>, own_fault: bool) -> Place {
    match named {
        None => Place::Nowhere,
        Some((State::Sending, _)) if own_fault => Place::OnTheWire,
        Some((State::Queued, can_lose)) if own_fault && can_lose => Place::Waits,
        Some(_) => Place::Told,
    }
}

fn delivery(
    failure: &Failure,
    subscriber: SubscriberId,
    thread: ThreadId,
    lane: LaneId,
    due_at: Timestamp,
    own_fault: bool,
) -> NewDelivery {
    NewDelivery {
        id: DeliveryId::new(),
        class: Class::ActionRequired,
        lane,
        cause: failure.id.0,
        notice: failure.notice_id,
        subscriber,
        thread,
        rule: Rule::Failure,
        tells: None,
        due_at,
        state: State::Queued,
        reason: (!own_fault).then_some(Reason::Dwell),
        folded_into: None,
        created_at: failure.created_at,
    }
}

fn as_waiting(new: &NewDelivery) -> Waiting {
    Waiting {
        id: new.id,
        thread_id: new.thread,
        lane_id: new.lane,
        created_at: new.created_at,
        due_at: new.due_at,
        reason: new.reason,
    }
}

fn item(failure: &Failure, delivery: DeliveryId) -> NewItem {
    NewItem {
        delivery,
        component: failure.component_id,
        connection: Some((failure.connection_id, failure.episode, failure.component_episode, failure.failed_at)),
        status: None,
        corrects: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_joins_a_mail_waits_for_its_own_dwell_or_with_the_mail() {
        let at = |minute: i64| Timestamp(0) + Span::minutes(minute);
        let with = |reason, mail_due, failure_due| {
            let (id, thread_id, lane_id) = (DeliveryId::new(), ThreadId::new(), LaneId::new());
            let mail = Waiting { id, thread_id, lane_id, created_at: at(0), due_at: at(mail_due), reason };
            due_with(&mail, at(failure_due), &Limits::of(Class::ActionRequired), at(4))
                .map(|due| (due - at(0)).0 / Span::minutes(1).0)
        };
        let dwell = Some(Reason::Dwell);
        for (reason, mail_due, failure_due, due) in [
            (dwell, 5, 9, Some(9)),
            (dwell, 9, 10, Some(10)),
            (dwell, 9, 11, None),
            (dwell, 3, 9, Some(3)),
            (dwell, 3, 600, Some(3)),
            (Some(Reason::AwaitingReconnection), 720, 9, Some(9)),
            (Some(Reason::ComponentDown), 9, 11, Some(9)),
            (Some(Reason::DailyCap), 600, 9, Some(600)),
            (Some(Reason::DailyCap), 5, 9, Some(5)),
            (Some(Reason::Held), 5, 3600, Some(5)),
            (Some(Reason::Held), 5, 3601, None),
            (None, 2, 4, Some(2)),
        ] {
            assert_eq!(with(reason, mail_due, failure_due), due, "{reason:?} {mail_due} {failure_due}");
        }
    }
}
