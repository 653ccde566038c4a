//! Resends: a person wants a mail sent again. What leaves is a new delivery, linked to the old, with a Message-ID of
//! its own, in the same thread; it enters the queue after plan and is claimed, looked at and corrected like any other.
//!
//! One page is one transaction. Two people who ask for the same at the same time write the journal one after the
//! other, and the second sees that a copy is on its way.

pub mod ask;
pub mod decide;

use super::gate::View;
use super::setting::Setting;
use super::{look, sweep};
use crate::domain::class::Class;
use crate::domain::delivery::Reason;
use crate::domain::id::{DeliveryId, LaneId};
use crate::store::deliveries::NewItem;
use crate::store::lanes::Fence;
use crate::store::recover::{self, Touched};
use crate::store::resend::{self as db, Copies, Key, Known, NewResend, Newest, Present};
use crate::store::{StoreError, Tx, archive, deliveries, journal, lanes, owners, unsubscribed};
use decide::{Asked, Decision, Instead, Refusal, What, decide};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Who asks, and how.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// Who, for the journal.
    pub who: &'a str,
    /// Why; needed to force.
    pub reason: Option<&'a str>,
    /// What is no longer true is replaced by what is; age, a mail that just left and what the recipient follows or asked
    /// for do not matter.
    pub force: bool,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// What became of one delivery.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Outcome {
    /// The delivery that was to be sent again.
    pub delivery: DeliveryId,
    /// What is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sends: Option<What>,
    /// The new delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<DeliveryId>,
    /// Why it does not leave at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits: Option<Reason>,
    /// Why nothing is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refusal>,
    /// What force would send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offer: Option<What>,
}

/// Sends some deliveries again, or says what would be. `sent` remembers, over pages, what is sent to whom: one mail may be
/// asked for, and be the newest that goes instead of an older one; once is enough.
///
/// # Errors
/// When the database fails; nothing is sent then.
pub async fn page(
    tx: &mut Tx,
    setting: &Setting,
    wish: &Wish<'_>,
    of: &[DeliveryId],
    sent: &mut HashSet<Key>,
) -> Result<Vec<Outcome>, StoreError> {
    if !wish.dry_run {
        journal::lock(tx).await?;
        db::lock(tx, of).await?;
    }
    let facts = Facts::load(tx, setting, of).await?;
    let now = tx.now();
    let mut made = Made::default();
    let mut outcomes = Vec::new();
    for id in of {
        let Some((known, asked)) = facts.asked.get(id) else {
            let archived = archive::state(tx, *id).await?.is_some();
            outcomes.push(refused(*id, if archived { Refusal::Archived } else { Refusal::Unknown }, None));
            continue;
        };
        let outcome = match decide(asked, &setting.limits(known.class), wish.force, now) {
            Decision::Refuse(why, offer) => refused(*id, why, offer),
            Decision::Send(what, waits) => {
                if !sent.insert(facts.key_of(what, known)) {
                    refused(*id, Refusal::OnItsWay, None)
                } else {
                    let new = made.add(what, known, &facts);
                    let id = (!wish.dry_run).then_some(new).flatten();
                    Outcome { delivery: known.id, sends: Some(what), id, waits, refused: None, offer: None }
                }
            }
        };
        outcomes.push(outcome);
    }
    if !wish.dry_run {
        made.store(tx, setting, &facts, &mut outcomes).await?;
        record(tx, wish, &outcomes).await?;
    }
    Ok(outcomes)
}

const fn refused(delivery: DeliveryId, why: Refusal, offer: Option<What>) -> Outcome {
    Outcome { delivery, sends: None, id: None, waits: None, refused: Some(why), offer }
}

/// A line for every resend, and for every attempt to force one.
async fn record(tx: &mut Tx, wish: &Wish<'_>, outcomes: &[Outcome]) -> Result<(), StoreError> {
    let why = wish.reason.unwrap_or("no reason given");
    let how = if wish.force { "forced" } else { "asked" };
    let lines = outcomes.iter().filter(|o| wish.force || o.refused.is_none()).map(|o| {
        let subject = o.delivery.to_string();
        match (o.refused, o.id) {
            (Some(refused), _) => ("refuse_resend", subject, format!("{how}, refused: {}; {why}", refused.as_str())),
            (None, new) => {
                let (what, new) = (o.sends.map_or("", What::as_str), new.map(|id| id.to_string()).unwrap_or_default());
                ("resend", subject, format!("{how}, {what} as {new}; {why}"))
            }
        }
    });
    journal::append_all(tx, wish.who, &lines.collect::<Vec<_>>()).await
}

/// What is known of a page of deliveries, and of what could go instead of those no longer true.
struct Facts {
    asked: HashMap<DeliveryId, (Known, Asked)>,
    present: HashMap<DeliveryId, Vec<Present>>,
    uncorrected: HashMap<DeliveryId, Vec<Touched>>,
    newest: HashMap<DeliveryId, (Newest, Copies)>,
}

impl Facts {
    async fn load(tx: &mut Tx, setting: &Setting, of: &[DeliveryId]) -> Result<Self, StoreError> {
        let now = tx.now();
        let known = db::known(tx, of).await?;
        let keys: Vec<Key> = known.iter().map(|k| (k.cause_id, k.subscriber_id)).collect();
        let copies: HashMap<Key, Copies> = db::copies(tx, &keys).await?.into_iter().collect();
        let lost = owners::not_theirs(tx, of).await?;
        let unfollowed = unsubscribed::unfollowed(tx, of).await?;
        let mut looked = look::look(tx, of, &lost).await?;
        let mut facts = Self {
            asked: HashMap::new(),
            present: HashMap::new(),
            uncorrected: HashMap::new(),
            newest: HashMap::new(),
        };
        let mut stale = Vec::new();
        for known in known {
            let Some(looked) = looked.remove(&known.id) else { continue };
            let unasked = unfollowed.contains(&known.id).then_some(Reason::Unsubscribed);
            let is_lost = lost.iter().any(|key| key.delivery == known.id);
            let asked = Asked {
                view: View { created_at: now, resend: true, ..looked.gate },
                state: known.state,
                said_at: known.said_at,
                reason: match known.reason {
                    _ if is_lost => Some(Reason::NotTheirs),
                    // Who unsubscribed may have subscribed again.
                    Some(Reason::Unsubscribed) | None => unasked,
                    other => unasked.or(other),
                },
                newer: known.newer,
                copies: copies.get(&(known.cause_id, known.subscriber_id)).copied().unwrap_or_default(),
                instead: None,
                corrected: false,
            };
            // Instead of asking about what is another's nothing is owed.
            if decide::stale(&asked, &setting.limits(known.class), now).is_some_and(|why| why != Reason::NotTheirs) {
                stale.push(known.id);
            }
            facts.asked.insert(known.id, (known, asked));
        }
        if !stale.is_empty() {
            facts.load_instead(tx, setting, &stale).await?;
        }
        Ok(facts)
    }

    async fn load_instead(&mut self, tx: &mut Tx, setting: &Setting, of: &[DeliveryId]) -> Result<(), StoreError> {
        for present in db::present(tx, of).await? {
            self.present.entry(present.id).or_default().push(present);
        }
        for (id, touched) in db::uncorrected(tx, of).await? {
            self.uncorrected.entry(id).or_default().push(touched);
        }
        let newest = db::newest(tx, of).await?;
        let targets: Vec<Key> =
            newest.iter().filter_map(|n| Some((n.notice_id.0, self.asked.get(&n.id)?.0.subscriber_id))).collect();
        let copies: HashMap<Key, Copies> = db::copies(tx, &targets).await?.into_iter().collect();
        for (newest, target) in newest.into_iter().zip(targets) {
            self.newest.insert(newest.id, (newest, copies.get(&target).copied().unwrap_or_default()));
        }
        let suppressed: HashSet<_> = db::suppressed(tx, of).await?.into_iter().collect();
        for id in of {
            let instead = self.instead(*id, setting, &suppressed);
            let left = self.uncorrected.get(id).is_none_or(Vec::is_empty);
            if let Some((known, asked)) = self.asked.get_mut(id) {
                asked.corrected = known.class == Class::ActionRequired && left && asked.copies.left_at.is_some();
                asked.instead = instead;
            }
        }
        Ok(())
    }

    /// For an action-required mail what is broken now, or else its correction; for a mail of an incident the newest
    /// update, unless that is the mail itself.
    fn instead(&self, id: DeliveryId, setting: &Setting, suppressed: &HashSet<(DeliveryId, Class)>) -> Option<Instead> {
        let (known, asked) = self.asked.get(&id)?;
        let of =
            |what, class, copies| Instead { what, suppressed: suppressed.contains(&(id, class)), copies, view: None };
        if let Some(present) = self.present.get(&id) {
            let copies = Copies {
                resends: asked.copies.resends,
                left_at: present.iter().filter_map(|p| p.left_at).max(),
                on_its_way: present.iter().any(|p| p.on_its_way),
            };
            return Some(of(What::PresentState, Class::ActionRequired, copies));
        }
        if self.uncorrected.contains_key(&id) {
            return Some(of(What::Correction, Class::Correction, Copies::default()));
        }
        let (newest, copies) = self.newest.get(&id)?;
        if known.class == Class::Free || known.notice_id == Some(newest.notice_id) {
            return None;
        }
        let instead = of(What::NewestUpdate, newest.class, *copies);
        let view = View { class: newest.class, suppressed: instead.suppressed, ..asked.view.clone() };
        Some(Instead { view: Some((view, setting.limits(newest.class))), ..instead })
    }

    /// What is sent to whom.
    fn key_of(&self, what: What, known: &Known) -> Key {
        let sent = match what {
            What::PresentState => known.thread_id.0,
            What::NewestUpdate => self.newest.get(&known.id).map_or(known.cause_id, |(n, _)| n.notice_id.0),
            What::AsItWas | What::Correction => known.cause_id,
        };
        (sent, known.subscriber_id)
    }
}

/// The lane of a resend.
#[derive(Clone, Copy)]
enum Place {
    Old(LaneId),
    Of(Class, Fence),
}

/// What a page makes.
#[derive(Default)]
struct Made {
    resends: Vec<(NewResend, Place)>,
    copied: Vec<(DeliveryId, DeliveryId, bool)>,
    named: Vec<NewItem>,
    corrected: Vec<DeliveryId>,
}

impl Made {
    fn add(&mut self, what: What, known: &Known, facts: &Facts) -> Option<DeliveryId> {
        let id = DeliveryId::new();
        let copies = facts.asked.get(&known.id).map(|(_, asked)| asked.copies).unwrap_or_default();
        let mut new = NewResend {
            id,
            resend_of: known.id,
            class: known.class,
            lane: known.lane_id,
            cause: known.cause_id,
            notice: known.notice_id,
            resend_no: copies.resends + 1,
        };
        let mut place = Place::Old(known.lane_id);
        match what {
            What::AsItWas => self.copied.push((id, known.id, false)),
            What::Correction => {
                self.corrected.push(known.id);
                return None;
            }
            What::PresentState => {
                let present = facts.present.get(&known.id).map_or(&[][..], Vec::as_slice);
                let own_fault = present.iter().all(|p| p.own_fault);
                let fence =
                    present.first().filter(|_| !own_fault).map_or(Fence::None, |p| Fence::Component(p.component_id));
                place = Place::Of(Class::ActionRequired, fence);
                self.named.extend(present.iter().map(|p| NewItem {
                    delivery: id,
                    component: p.component_id,
                    connection: Some((p.connection_id, p.episode, p.component_episode, p.failed_at)),
                    status: None,
                    corrects: None,
                }));
            }
            What::NewestUpdate => {
                let (newest, copies) = facts.newest.get(&known.id)?;
                new.class = newest.class;
                new.cause = newest.notice_id.0;
                new.notice = Some(newest.notice_id);
                new.resend_no = copies.resends + 1;
                place = Place::Of(newest.class, known.incident_id.map_or(Fence::None, Fence::Incident));
                self.copied.push((id, newest.own.unwrap_or(known.id), true));
            }
        }
        self.resends.push((new, place));
        Some(id)
    }

    async fn store(
        self,
        tx: &mut Tx,
        setting: &Setting,
        facts: &Facts,
        outcomes: &mut [Outcome],
    ) -> Result<(), StoreError> {
        let mut lanes: HashMap<(Class, Fence), LaneId> = HashMap::new();
        let mut resends = Vec::new();
        for (mut new, place) in self.resends {
            new.lane = match place {
                Place::Old(lane) => lane,
                Place::Of(class, fence) => match lanes.get(&(class, fence)) {
                    Some(lane) => *lane,
                    None => *lanes.entry((class, fence)).or_insert(lanes::lane(tx, class, fence).await?),
                },
            };
            resends.push(new);
        }
        if !resends.is_empty() {
            db::add(tx, &resends, |class| setting.stream_name(class)).await?;
            db::copy_items(tx, &self.copied).await?;
            deliveries::add_items(tx, &self.named, &[]).await?;
        }
        let touched: Vec<Touched> =
            self.corrected.iter().filter_map(|id| facts.uncorrected.get(id)).flatten().copied().collect();
        if touched.is_empty() {
            return Ok(());
        }
        sweep::correct(tx, setting, &touched).await?;
        let threads: Vec<_> = touched.iter().map(|t| t.thread_id).collect();
        let corrections: HashMap<_, _> = recover::queued_corrections(tx, &threads).await?.into_iter().collect();
        for outcome in outcomes.iter_mut().filter(|o| o.sends == Some(What::Correction)) {
            let thread = facts.asked.get(&outcome.delivery).map(|(known, _)| known.thread_id);
            outcome.id = thread.and_then(|thread| corrections.get(&thread).copied());
        }
        Ok(())
    }
}

/// How a number of resends went.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tally {
    /// Nothing was done: this is what would be.
    pub dry_run: bool,
    /// How many are sent.
    pub sent: u64,
    /// What is sent, with how many of each.
    pub sends: BTreeMap<&'static str, u64>,
    /// Why some are not sent, with how many of each.
    pub refused: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// Counts outcomes.
    pub fn count(&mut self, of: &[Outcome]) {
        for outcome in of {
            match outcome.refused {
                Some(why) => *self.refused.entry(why.as_str()).or_default() += 1,
                None => {
                    self.sent += 1;
                    *self.sends.entry(outcome.sends.map_or("", What::as_str)).or_default() += 1;
                }
            }
        }
    }

    /// Counts so many that were put away: none of them is sent again.
    pub fn count_archived(&mut self, mails: u64) {
        if mails > 0 {
            *self.refused.entry(Refusal::Archived.as_str()).or_default() += mails;
        }
    }

    /// Adds the counts of another page.
    pub fn add(&mut self, page: &Self) {
        self.sent += page.sent;
        page.sends.iter().for_each(|(what, n)| *self.sends.entry(what).or_default() += n);
        page.refused.iter().for_each(|(why, n)| *self.refused.entry(why).or_default() += n);
    }
}
