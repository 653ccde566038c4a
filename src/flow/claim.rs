//! The claim: takes what is due for sessions that are open and idle, or will be by the time it is ready, asks the gate, freezes
//! what may leave.

use super::caught;
use super::compose::{self, Frozen};
use super::daily::Daily;
use super::gate::{Split, Verdict, View, gate, is_urgent, stays_whole};
use super::lanes::Lanes;
use super::look::{Seen, views};
use super::owners;
use super::paces::{Behind, Paces};
use super::setting::{Setting, Stream};
use super::words::Words;
use crate::domain::class::Class;
use crate::domain::delivery::{Reason, State};
use crate::domain::id::{DeliveryId, ThreadId};
use crate::domain::time::{Span, Timestamp};
use crate::failpoint;
use crate::store::claims::{self, Armed};
use crate::store::parting::{self, ItemKey};
use crate::store::queue::{Due, MOST_DUE};
use crate::store::view::ItemView;
use crate::store::{StoreError, Tx, deliveries, queue, record, told};
use std::collections::HashSet;

/// A lease ran out twice with this mail: it is claimed alone, in case it is what ends its workers.
const CLAIMED_ALONE: i64 = 2;

/// A delivery that was armed.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// Its id.
    pub id: DeliveryId,
    /// The claim.
    pub token: i64,
    /// How often a relay had answered "later".
    pub tries: i64,
    /// What was frozen.
    pub frozen: Frozen,
    /// When it was claimed.
    pub at: Timestamp,
}

/// Asks the gate; a dispatcher without a gate (only in the demonstration) sends whatever is due.
#[must_use]
pub fn decide(view: &View, setting: &Setting, now: Timestamp) -> Verdict {
    if setting.gate {
        gate(view, &setting.limits(view.class), now)
    } else {
        Verdict::Send(Split { keep: (0..view.items.len()).collect(), ..Split::default() })
    }
}

/// What a claim took, and when a rate cap that is reached lets the next mail go.
#[derive(Debug, Default)]
pub struct Taken {
    /// The deliveries, armed.
    pub claimed: Vec<Claimed>,
    /// Not before this time is there another.
    pub turn_at: Option<Timestamp>,
}

/// Behind which turns of a capped domain a mail stands: who was told of trouble is told of its end, whatever else is to be told.
fn behind(one: &Seen, split: &Split) -> Behind {
    match one.row.class {
        Class::Correction => Behind::TheUrgent,
        _ if one.gate.is_own_fault() => Behind::TheUrgent,
        Class::IncidentEnd | Class::AllClear => Behind::TheOwed,
        _ if is_urgent(&one.gate, split, one.row.impact) => Behind::TheOwed,
        _ if one.row.reason == Some(Reason::Paced) => Behind::TheLate,
        _ => Behind::TheNew,
    }
}

/// Claims up to `most` deliveries from these lanes. Nothing is on the wire before the caller has committed.
///
/// # Errors
/// When the database fails, or another node was first ([`StoreError::is_conflict`]).
pub async fn claim(
    tx: &mut Tx,
    setting: &Setting,
    stream: &Stream,
    owner: &str,
    template_set: &str,
    lanes: &mut Lanes,
    most: usize,
) -> Result<Taken, StoreError> {
    let mut paces = Paces::open(tx, stream).await?;
    let most = paces.allowed(most).min(MOST_DUE);
    if most == 0 {
        lanes.open.clear();
        return Ok(Taken { claimed: Vec::new(), turn_at: Some(paces.next_turn()) });
    }
    let mut page = most;
    loop {
        let due = fair_share(tx, lanes, page).await?;
        if due.is_empty() {
            paces.store(tx).await?;
            return Ok(Taken::default());
        }
        let claimed = sort_and_arm(tx, setting, owner, template_set, &due, most, &mut paces).await?;
        if !claimed.is_empty() || page >= MOST_DUE {
            paces.store(tx).await?;
            return Ok(Taken { claimed, turn_at: None });
        }
        // All that was due must wait or is untrue. There may be thousands more of the kind, and a transaction for
        // each slot's worth of them would take long.
        page = (page * 8).min(MOST_DUE);
    }
}

async fn sort_and_arm(
    tx: &mut Tx,
    setting: &Setting,
    owner: &str,
    template_set: &str,
    due: &[Due],
    most: usize,
    paces: &mut Paces<'_>,
) -> Result<Vec<Claimed>, StoreError> {
    let mut ids: Vec<DeliveryId> = due.iter().map(|d| d.id).collect();
    let seen = views(tx, &ids).await?;
    let back = |one: &&Seen| one.row.class == Class::ActionRequired && one.row.token > 0 && !one.row.maybe_mailed;
    let back: Vec<_> = seen.values().filter(back).map(|one| one.row.id).collect();
    // What has changed is seen anew by the next claim.
    let changed = owners::changed_on_the_wire(tx, &back).await?;
    ids.retain(|id| !changed.contains(id));
    paces.learn(tx, seen.values().map(|one| one.row.address.as_str())).await?;
    let mut daily = Daily::learn(tx, setting, seen.values()).await?;
    let said = Words::learn(tx, seen.values()).await?;
    let now = tx.now();
    let mut sorted = Sorted::default();
    for id in ids {
        let Some(one) = seen.get(&id) else { continue };
        match decide(&one.gate, setting, now) {
            // More was read than there are slots: it stays where it is.
            Verdict::Send(_) if sorted.send.len() >= most => {}
            Verdict::Send(split) if stays_whole(one.row.class, one.row.maybe_mailed) && !split.is_whole() => {
                sorted.parted.push((one, split));
            }
            Verdict::Send(split) => {
                if let Some(until) = daily.full_until(one, &split, setting, now) {
                    sorted.put_off.push((id, until, Reason::DailyCap));
                    continue;
                }
                let freeze = || {
                    failpoint::pass_with("composing", &one.row.address);
                    compose::freeze(one, &split.keep, &said, setting, now)
                };
                let frozen = caught::about_a_mail(freeze);
                match frozen.map(|frozen| (frozen, paces.draw(&one.row.address, behind(one, &split)))) {
                    Ok((frozen, Ok(()))) => sorted.send.push((one, split, frozen)),
                    Ok((_, Err(turn))) => sorted.put_off.push((id, turn, Reason::Paced)),
                    Err(e) => {
                        tracing::error!(delivery = %id, "delivery {id} cannot be composed: {e}");
                        sorted.decided.push((id, State::Parked, Reason::TemplateFault));
                    }
                }
            }
            Verdict::Fold(into) => sorted.folded.push((id, into)),
            Verdict::Wait(until, reason) => sorted.put_off.push((id, until, reason)),
            Verdict::Withdraw(reason) => sorted.decided.push((id, State::Withdrawn, reason)),
            Verdict::Suppress => sorted.decided.push((id, State::Suppressed, Reason::Suppressed)),
            Verdict::Cancel(reason) => sorted.decided.push((id, State::Cancelled, reason)),
            Verdict::Park(reason) => sorted.decided.push((id, State::Parked, reason)),
        }
    }
    let lost = |d: &&(DeliveryId, State, Reason)| seen.get(&d.0).filter(|one| one.row.class == Class::IncidentUpdate);
    sorted.lost = sorted.decided.iter().filter_map(|d| lost(&d)).map(|one| one.row.thread_id).collect();
    sorted.store(tx, setting, owner, template_set).await
}

/// Takes a fair share of each lane, once around; lanes with nothing more to give are forgotten.
async fn fair_share(tx: &mut Tx, lanes: &mut Lanes, most: usize) -> Result<Vec<Due>, StoreError> {
    let mut taken: Vec<Due> = Vec::new();
    let mut threads = HashSet::new();
    let (mut served, mut more) = (Vec::new(), Vec::new());
    let open = &mut lanes.open;
    while !open.is_empty() && taken.len() < most {
        let lane = open.remove(0);
        let share = (most - taken.len()).div_ceil(open.len() + 1);
        let found = queue::due(tx, &lane, i64::try_from(share).unwrap_or(i64::MAX)).await?;
        served.push(lane.id);
        if found.len() == share {
            more.push(lane);
        }
        if let Some(suspect) = found.iter().find(|d| d.reaps >= CLAIMED_ALONE) {
            taken = vec![*suspect];
            break;
        }
        taken.extend(found.into_iter().filter(|d| threads.insert(d.thread_id)));
    }
    lanes.gave(&served, more);
    Ok(taken)
}

#[derive(Default)]
struct Sorted<'a> {
    send: Vec<(&'a Seen, Split, Frozen)>,
    put_off: Vec<(DeliveryId, Timestamp, Reason)>,
    decided: Vec<(DeliveryId, State, Reason)>,
    folded: Vec<(DeliveryId, DeliveryId)>,
    /// Mails that may have left and are true only in part.
    parted: Vec<(&'a Seen, Split)>,
    /// Threads of which a problem mail will not leave.
    lost: Vec<ThreadId>,
}

impl Sorted<'_> {
    async fn store(
        self,
        tx: &mut Tx,
        setting: &Setting,
        owner: &str,
        template_set: &str,
    ) -> Result<Vec<Claimed>, StoreError> {
        let now = tx.now();
        if !self.put_off.is_empty() {
            claims::put_off(tx, &self.put_off).await?;
            let open = self.put_off.iter().filter(|(_, _, reason)| *reason == Reason::ConnectionOpenAgain);
            let open: Vec<_> = open.map(|(id, ..)| *id).collect();
            if !open.is_empty() {
                record::replace_late_corrections(tx, &open).await?;
            }
        }
        for (seen, split) in &self.parted {
            let true_still: Vec<_> = split.keep.iter().chain(&split.later).filter_map(|i| key(seen, *i)).collect();
            parting::copy(tx, seen.row.id, &true_still, now, Reason::ItemsMoved).await?;
            claims::decide(tx, &[(seen.row.id, State::Withdrawn, Reason::ItemsMoved)]).await?;
        }
        if !self.decided.is_empty() {
            claims::decide(tx, &self.decided).await?;
            // What was folded under them would be silenced with them.
            told::release(tx, &self.lost, now + setting.limits(Class::AllClear).stable_for).await?;
        }
        if !self.folded.is_empty() {
            deliveries::fold(tx, &self.folded).await?;
            deliveries::hasten(tx, &self.folded).await?;
        }
        let (mut armed, mut claimed, mut restated) = (Vec::new(), Vec::new(), Vec::new());
        self.tell_of_longest_holds();
        for (seen, split, frozen) in self.send {
            part(tx, seen, &split, now).await?;
            restated.extend(seen.items.iter().filter_map(|item| {
                let now = item.status_now.filter(|now| item.status.is_some_and(|then| then != *now))?;
                Some((item.delivery_id, item.component_id, now))
            }));
            armed.push(Armed {
                id: seen.row.id,
                message_id: frozen.message_id.clone(),
                template_set: template_set.to_owned(),
                address: frozen.to.clone(),
                context: serde_json::to_string(&frozen).unwrap_or_default(),
            });
            claimed.push(Claimed {
                id: seen.row.id,
                token: seen.row.token + 1,
                tries: seen.row.tries,
                frozen,
                at: now,
            });
        }
        if !restated.is_empty() {
            claims::restate(tx, &restated).await?;
        }
        if !armed.is_empty() {
            claims::arm(tx, owner, now + setting.lease, &armed).await?;
        }
        Ok(claimed)
    }

    /// The operator is told when customers are asked although their component has not been heard of.
    fn tell_of_longest_holds(&self) {
        let held = |item: &ItemView| item.claim().is_some_and(|claim| claim.waits().is_some());
        let asked = self.send.iter().filter(|(seen, split, _)| {
            seen.row.class == Class::ActionRequired
                && !seen.row.canary
                && split.keep.iter().any(|i| seen.items.get(*i).is_some_and(held))
        });
        let asked = asked.count();
        if asked > 0 {
            tracing::error!(
                deliveries = asked,
                "{asked} customers are asked to reconnect because the longest hold is over and nothing was heard of \
                 their component; `allclear hold` keeps the rest"
            );
        }
    }
}

/// Parts a mail's items: what is untrue leaves it, what must wait gets a delivery of its own.
///
/// # Errors
/// When the database fails.
pub async fn part(tx: &mut Tx, seen: &Seen, split: &Split, now: Timestamp) -> Result<(), StoreError> {
    let dropped: Vec<_> = split.dropped.iter().filter_map(|(i, why)| key(seen, *i).map(|k| (k, *why))).collect();
    parting::drop_items(tx, &dropped).await?;
    let later: Vec<_> = split.later.iter().filter_map(|i| key(seen, *i)).collect();
    parting::split(tx, seen.row.id, &later, now + Span::seconds(1), Reason::ItemsMoved).await
}

fn key(seen: &Seen, position: usize) -> Option<ItemKey> {
    seen.items.get(position).map(|item| ItemKey {
        delivery: item.delivery_id,
        subject: item.connection_id.map_or(item.component_id.0, |c| c.0),
        episode: item.episode,
    })
}
