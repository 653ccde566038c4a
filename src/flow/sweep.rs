//! Recovery, sweep and reap. After T (the commit of a recovery) the sweep withdraws what is queued and untrue and
//! writes a correction for what left or may have left. The reaper takes back what a vanished worker held, and
//! writes the correction itself when it is already owed: the sweep may have passed while the row was on its way.

use super::gate::View;
use super::recovery::{Sweep, SweepCommand, SweepEvent, after_quarantine, is_by_hand, owes_correction};
use super::setting::Setting;
use crate::domain::class::Class;
use crate::domain::delivery::{Reason, Rule, State};
use crate::domain::id::{DeliveryId, LaneId, RecoveryId, ThreadId};
use crate::domain::time::{Span, Timestamp};
use crate::failpoint;
use crate::store::deliveries::{NewDelivery, NewItem};
use crate::store::lanes::Fence;
use crate::store::leases::Overdue;
use crate::store::recover::{Recovery, Touched};
use crate::store::view::ItemView;
use crate::store::{Store, StoreError, Tx, deliveries, lanes, leases, queue, recover, threads, view, waiting};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// Recoveries of connections that are swept in one transaction.
const AT_ONCE: i64 = 500;

/// Mails that a covering recovery takes back in one transaction. On SQLite nobody else writes meanwhile, and of a million
/// mails there are many pages: a claim waits for one of them.
const PAGE: i64 = 300;

/// Sweeps some recoveries, one page each; `false` when there was nothing to do.
///
/// # Errors
/// When the database fails; what was not committed is done again.
pub async fn sweep(store: &Store, setting: &Setting) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    let mut found = recover::next(&mut tx, AT_ONCE).await?;
    // Those of connections go together; a covering one has a transaction for each of its pages.
    if let Some(first) = found.iter().position(|one| one.connection_id.is_none()) {
        found.truncate(first.max(1));
    }
    let Some(first) = found.first() else { return Ok(false) };
    let machine = Sweep::new(first.connection_id.is_some(), first.covers_from.is_some(), setting.page.clamp(2, PAGE));
    drive(&mut tx, setting, machine, &found).await?;
    failpoint::pass("sweeping");
    tx.commit().await?;
    failpoint::pass("swept");
    Ok(true)
}

/// Takes all that a transaction will change before it changes any of it, in the order in which others take it: two of
/// which each has what the other wants would have to begin anew.
async fn lock(tx: &mut Tx, threads: &[ThreadId]) -> Result<LaneId, StoreError> {
    // The lane first, so that two never write the same correction.
    let lane = lanes::lane(tx, Class::Correction, Fence::None).await?;
    threads::lock_queued(tx, threads).await?;
    Ok(lane)
}

/// Carries out what the machine commands, for a covering recovery or for several of connections.
async fn drive(tx: &mut Tx, setting: &Setting, mut machine: Sweep, of: &[Recovery]) -> Result<(), StoreError> {
    let Some(first) = of.first() else { return Ok(()) };
    let mut counts: HashMap<RecoveryId, (i64, i64)> = HashMap::new();
    let mut command = machine.start();
    loop {
        let (event, touched): (_, Vec<(RecoveryId, Touched)>) = match command {
            SweepCommand::ReadConnection => (SweepEvent::Whole, recover::of_connections(tx, of).await?),
            SweepCommand::ReadPage { limit } => {
                let start = first.covers_from.unwrap_or_default();
                let from = (first.cursor_at.unwrap_or(start), first.cursor_id.unwrap_or_default());
                let until = first.covers_until.unwrap_or_default();
                let page = recover::of_component(tx, first.component_id, until, from, limit).await?;
                let last = page.last().map(|t| (t.failed_at, t.delivery_id.0));
                let event =
                    SweepEvent::Page { full: page.len() as i64 == limit, moved: last.is_some_and(|l| l != from) };
                (event, page.into_iter().map(|t| (first.id, t)).collect())
            }
            SweepCommand::Remember => return Ok(()),
            SweepCommand::Finish => {
                // Who failed before the outage was not to come back with the others, and waited only for its end.
                let is_back = first.connection_id.is_none();
                if is_back && waiting::hasten_back(tx, first.component_id, PAGE).await? {
                    return Ok(());
                }
                let count = |id| counts.get(&id).copied().unwrap_or_default();
                let swept: Vec<_> = of.iter().map(|one| (one.id, count(one.id).0, count(one.id).1)).collect();
                return recover::swept(tx, &swept).await;
            }
        };
        if !touched.is_empty() {
            let lane = lock(tx, &threads(touched.iter().map(|(_, t)| t))).await?;
            take_back(tx, setting, lane, of, &touched, &mut counts).await?;
        }
        let connections: Vec<_> = of.iter().filter_map(|one| one.connection_id).collect();
        queue::wake_corrections(tx, &connections).await?;
        command = machine.on(event);
        if command == SweepCommand::Remember {
            let last = touched.last().map_or((Timestamp(0), Uuid::nil()), |(_, t)| (t.failed_at, t.delivery_id.0));
            let (withdrawn, corrected) = counts.get(&first.id).copied().unwrap_or_default();
            recover::paged(tx, first.id, last, withdrawn, corrected).await?;
        }
    }
}

/// Withdraws what is queued and untrue, and corrects what left; counts both for the recovery that did it.
async fn take_back(
    tx: &mut Tx,
    setting: &Setting,
    lane: LaneId,
    of: &[Recovery],
    touched: &[(RecoveryId, Touched)],
    counts: &mut HashMap<RecoveryId, (i64, i64)>,
) -> Result<(), StoreError> {
    let (mut of_mail, mut queued) = (HashMap::new(), Vec::new());
    for (recovery, t) in touched.iter().filter(|(_, t)| t.state == State::Queued) {
        of_mail.entry(t.delivery_id).or_insert_with(|| {
            queued.push(t.delivery_id);
            *recovery
        });
    }
    let of_connections = of.iter().all(|one| one.connection_id.is_some());
    let reason = if of_connections { Reason::Recovered } else { Reason::CoveredByRecovery };
    for mail in recover::withdraw_stale(tx, &queued, reason).await? {
        if let Some(recovery) = of_mail.get(&mail) {
            counts.entry(*recovery).or_default().0 += 1;
        }
    }
    let by_hand = |one: &&Recovery| is_by_hand(one.connection_id.is_some(), Some(one.recovered_by));
    let by_hand: HashSet<RecoveryId> = of.iter().filter(by_hand).map(|one| one.id).collect();
    let mut owed: HashMap<_, RecoveryId> = HashMap::new();
    let mut left: Vec<Touched> = Vec::new();
    for (recovery, t) in touched {
        if owes_correction(t.state, t.maybe_mailed) && !by_hand.contains(recovery) {
            // Two recoveries of one connection take the same mail back once.
            owed.entry((t.delivery_id, t.connection_id, t.episode)).or_insert_with(|| {
                left.push(*t);
                *recovery
            });
        }
    }
    for t in write_corrections(tx, setting, lane, &left).await? {
        if let Some(recovery) = owed.get(&(t.delivery_id, t.connection_id, t.episode)) {
            counts.entry(*recovery).or_default().1 += 1;
        }
    }
    Ok(())
}

/// Writes the corrections of mails that left or may have left: one mail per thread, joined while it waits.
pub(super) async fn correct(tx: &mut Tx, setting: &Setting, of: &[Touched]) -> Result<(), StoreError> {
    if of.is_empty() {
        return Ok(());
    }
    let lane = lock(tx, &threads(of.iter())).await?;
    write_corrections(tx, setting, lane, of).await.map(drop)
}

/// The same when all is locked already; returns those for which there was none yet.
async fn write_corrections(
    tx: &mut Tx,
    setting: &Setting,
    lane: LaneId,
    of: &[Touched],
) -> Result<Vec<Touched>, StoreError> {
    if of.is_empty() {
        return Ok(Vec::new());
    }
    let threads = threads(of.iter());
    let originals: Vec<DeliveryId> = of.iter().map(|t| t.delivery_id).collect();
    let done: HashSet<_> = recover::corrected_already(tx, &originals).await?.into_iter().collect();
    let mut waiting: HashMap<ThreadId, DeliveryId> =
        recover::queued_corrections(tx, &threads).await?.into_iter().collect();
    let now = tx.now();
    let (mut deliveries, mut items) = (Vec::new(), Vec::new());
    let is_new = |t: &&Touched| !done.contains(&(t.delivery_id, t.connection_id.0, t.episode));
    let new: Vec<Touched> = of.iter().filter(is_new).copied().collect();
    for t in &new {
        let delivery = *waiting.entry(t.thread_id).or_insert_with(|| {
            let id = DeliveryId::new();
            deliveries.push(NewDelivery {
                id,
                class: Class::Correction,
                lane,
                cause: id.0,
                notice: None,
                subscriber: t.subscriber_id,
                thread: t.thread_id,
                rule: Rule::Correction,
                tells: None,
                due_at: now,
                state: State::Queued,
                reason: None,
                folded_into: None,
                created_at: now,
            });
            id
        });
        items.push(NewItem {
            delivery,
            component: t.component_id,
            connection: Some((t.connection_id, t.episode, t.component_episode, t.failed_at)),
            status: None,
            corrects: Some(t.delivery_id),
        });
    }
    deliveries::add(tx, &deliveries, |class| setting.stream_name(class)).await?;
    deliveries::add_items(tx, &items, &deliveries).await?;
    failpoint::pass("correcting");
    Ok(new)
}

fn threads<'a>(of: impl Iterator<Item = &'a Touched>) -> Vec<ThreadId> {
    of.map(|t| t.thread_id).collect::<HashSet<_>>().into_iter().collect()
}

/// Takes back what vanished workers held: unknown, in quarantine, with its correction if already stale.
///
/// # Errors
/// When the database fails.
pub async fn reap(store: &Store, setting: &Setting) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    let found = leases::expired(&mut tx, setting.page).await?;
    take_from_workers(tx, setting, &found, setting.quarantine).await
}

/// The same of what those held who had this owner's name before it. Their connections were closed with them, so nothing need
/// be waited for. All of them: a start that was interrupted may have left what the one before it was to take back.
///
/// # Errors
/// When the database fails.
pub async fn reap_left_behind(store: &Store, setting: &Setting, owner: &str) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    let found = leases::left_behind(&mut tx, owner, setting.page).await?;
    take_from_workers(tx, setting, &found, Span::ZERO).await
}

async fn take_from_workers(
    mut tx: Tx,
    setting: &Setting,
    found: &[Overdue],
    quarantine: Span,
) -> Result<bool, StoreError> {
    if found.is_empty() {
        return Ok(false);
    }
    let ids: Vec<DeliveryId> = found.iter().map(|o| o.id).collect();
    let until = tx.now() + quarantine;
    leases::reap(&mut tx, found, until).await?;
    let stale = stale_items(&mut tx, &ids).await?;
    correct(&mut tx, setting, &stale).await?;
    failpoint::pass("reaping");
    tx.commit().await?;
    failpoint::pass("reaped");
    tracing::warn!(deliveries = ids.len(), "took back {} deliveries whose worker vanished", ids.len());
    Ok(true)
}

async fn stale_items(tx: &mut Tx, ids: &[DeliveryId]) -> Result<Vec<Touched>, StoreError> {
    let found = view::view(tx, ids).await?.deliveries;
    let outage = |item: &ItemView| item.connection_id.map(|connection| (connection, item.episode));
    let outages: Vec<_> = found.iter().flat_map(|(_, items)| items.iter().filter_map(outage)).collect();
    let ended_by = recover::ended_by(tx, &outages).await?;
    let mut stale = Vec::new();
    for (d, item) in found.iter().flat_map(|(d, items)| items.iter().map(move |item| (d, item))) {
        let (Some(claim), Some(connection)) = (item.claim(), item.connection_id) else { continue };
        let by = ended_by.get(&(connection, item.episode)).copied();
        let by_hand = is_by_hand(claim.stale() == Some(Reason::Recovered), by);
        if d.class != Class::ActionRequired || claim.stale().is_none() || by_hand {
            continue;
        }
        stale.push(Touched {
            delivery_id: d.id,
            component_id: item.component_id,
            connection_id: connection,
            episode: item.episode,
            component_episode: item.component_episode,
            failed_at: claim.failed_at,
            state: d.state,
            maybe_mailed: true,
            thread_id: d.thread_id,
            subscriber_id: d.subscriber_id,
        });
    }
    Ok(stale)
}

/// Decides deliveries whose quarantine is over.
///
/// # Errors
/// When the database fails.
pub async fn settle(store: &Store, setting: &Setting) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    let found = leases::quarantined(&mut tx, setting.page).await?;
    if found.is_empty() {
        return Ok(false);
    }
    let ids: Vec<DeliveryId> = found.iter().map(|o| o.id).collect();
    let views = super::look::views(&mut tx, &ids).await?;
    let now = tx.now();
    let decided: Vec<_> = found
        .iter()
        .map(|o| {
            let gate: Option<&View> = views.get(&o.id).map(|seen| &seen.gate);
            let (state, reason) = after_quarantine(o.class, o.repeats, o.reaps, gate, &setting.limits(o.class), now);
            (o.id, state, reason, (state == State::Queued).then_some(now))
        })
        .collect();
    leases::settle(&mut tx, &decided).await?;
    tx.commit().await?;
    Ok(true)
}
