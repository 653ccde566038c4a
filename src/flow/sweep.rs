//! Recovery, sweep and reap. After T (the commit of a recovery) the sweep withdraws what is queued and untrue and
//! writes a correction for what left or may have left. The reaper takes back what a vanished worker held, and
//! writes the correction itself when it is already owed: the sweep may have passed while the row was on its way.

use super::gate::View;
use super::recovery::{Sweep, SweepCommand, SweepEvent, after_quarantine, is_by_hand, owes_correction};
use super::setting::Setting;
use crate::domain::class::Class;
use crate::domain::delivery::{Reason, Rule, State};
use crate::domain::id::{ConnectionId, DeliveryId, LaneId, ThreadId};
use crate::domain::time::Timestamp;
use crate::failpoint;
use crate::store::ingest::PlanRow;
use crate::store::plan::{Fence, NewDelivery, NewItem};
use crate::store::recover::{Recovery, Touched};
use crate::store::{Store, StoreError, Tx, ingest, plan, queue, record, recover, view};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// Recoveries of connections that are swept in one transaction.
const AT_ONCE: i64 = 50;

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
    let mut touched = Vec::new();
    for one in &found {
        touched.push(match one.connection_id {
            Some(connection) => recover::of_connection(&mut tx, connection, one).await?,
            None => Vec::new(),
        });
    }
    if touched.iter().any(|of| !of.is_empty()) {
        lock(&mut tx, &threads(touched.iter().flatten())).await?;
    }
    for (one, touched) in found.iter().zip(touched) {
        sweep_one(&mut tx, setting, one, touched).await?;
    }
    if !found.is_empty() {
        failpoint::pass("sweeping");
    }
    tx.commit().await?;
    if !found.is_empty() {
        failpoint::pass("swept");
    }
    Ok(!found.is_empty())
}

/// Takes all that a transaction will change before it changes any of it, in the order in which others take it: two of
/// which each has what the other wants would have to begin anew.
async fn lock(tx: &mut Tx, threads: &[ThreadId]) -> Result<LaneId, StoreError> {
    // The lane first, so that two never write the same correction.
    let lane = plan::lane(tx, Class::Correction, Fence::None).await?;
    plan::lock_queued(tx, threads).await?;
    Ok(lane)
}

async fn sweep_one(
    tx: &mut Tx,
    setting: &Setting,
    one: &Recovery,
    mut touched: Vec<Touched>,
) -> Result<(), StoreError> {
    let page = setting.page.max(2);
    let mut machine = Sweep::new(one.connection_id.is_some(), one.covers_from.is_some(), page);
    let mut command = machine.start();
    let (mut withdrawn, mut corrected) = (0, 0);
    loop {
        let event = match command {
            SweepCommand::ReadConnection => {
                let connection = one.connection_id.unwrap_or(ConnectionId(Uuid::nil()));
                queue::wake_corrections(tx, connection).await?;
                SweepEvent::Whole
            }
            SweepCommand::ReadPage { limit } => {
                let start = one.covers_from.unwrap_or_default();
                let from = (one.cursor_at.unwrap_or(start), one.cursor_id.unwrap_or_default());
                let until = one.covers_until.unwrap_or_default();
                touched = recover::of_component(tx, one.component_id, until, from, limit).await?;
                let last = touched.last().map(|t| (t.failed_at, t.delivery_id.0));
                SweepEvent::Page { full: touched.len() as i64 == limit, moved: last.is_some_and(|l| l != from) }
            }
            SweepCommand::Remember => return Ok(()),
            SweepCommand::Finish => return recover::swept(tx, one.id, withdrawn, corrected).await,
        };
        let (gone, taken_back) = take_back(tx, setting, one, &touched).await?;
        withdrawn += gone;
        corrected += taken_back;
        command = machine.on(event);
        if command == SweepCommand::Remember {
            let last = touched.last().map_or((Timestamp(0), Uuid::nil()), |t| (t.failed_at, t.delivery_id.0));
            recover::paged(tx, one.id, last, withdrawn, corrected).await?;
        }
    }
}

async fn take_back(
    tx: &mut Tx,
    setting: &Setting,
    of: &Recovery,
    touched: &[Touched],
) -> Result<(i64, i64), StoreError> {
    if of.connection_id.is_none() && !touched.is_empty() {
        lock(tx, &threads(touched.iter())).await?;
    }
    let queued: Vec<DeliveryId> = touched.iter().filter(|t| t.state == State::Queued).map(|t| t.delivery_id).collect();
    let reason = if of.connection_id.is_some() { Reason::Recovered } else { Reason::CoveredByRecovery };
    let withdrawn = recover::withdraw_stale(tx, &queued, reason).await?;
    if is_by_hand(of.connection_id.is_some(), Some(of.recovered_by)) {
        return Ok((i64::try_from(withdrawn).unwrap_or(i64::MAX), 0));
    }
    let left: Vec<Touched> = touched.iter().filter(|t| owes_correction(t.state, t.maybe_mailed)).copied().collect();
    let corrected = correct(tx, setting, &left).await?;
    Ok((i64::try_from(withdrawn).unwrap_or(i64::MAX), corrected))
}

/// Writes the corrections of mails that left or may have left: one mail per thread, joined while it waits.
pub(super) async fn correct(tx: &mut Tx, setting: &Setting, of: &[Touched]) -> Result<i64, StoreError> {
    if of.is_empty() {
        return Ok(0);
    }
    let threads = threads(of.iter());
    let lane = lock(tx, &threads).await?;
    let originals: Vec<DeliveryId> = of.iter().map(|t| t.delivery_id).collect();
    let done: HashSet<_> = recover::corrected_already(tx, &originals).await?.into_iter().collect();
    let mut waiting: HashMap<ThreadId, DeliveryId> =
        recover::queued_corrections(tx, &threads).await?.into_iter().collect();
    let now = tx.now();
    let (mut deliveries, mut items) = (Vec::new(), Vec::new());
    for t in of.iter().filter(|t| !done.contains(&(t.delivery_id, t.connection_id.0, t.episode))) {
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
    plan::add_deliveries(tx, &deliveries, |class| setting.stream_name(class)).await?;
    plan::add_items(tx, &items).await?;
    failpoint::pass("correcting");
    Ok(i64::try_from(items.len()).unwrap_or(i64::MAX))
}

fn threads<'a>(of: impl Iterator<Item = &'a Touched>) -> Vec<ThreadId> {
    of.map(|t| t.thread_id).collect::<HashSet<_>>().into_iter().collect()
}

/// Takes back what vanished workers held: unknown, in quarantine, with its correction if already stale.
/// `dead_owner` is an incarnation known to be dead: its connections were closed with it, so nothing need be waited for.
///
/// # Errors
/// When the database fails.
pub async fn reap(store: &Store, setting: &Setting, dead_owner: Option<&str>) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    let found = record::expired(&mut tx, dead_owner, setting.page).await?;
    if found.is_empty() {
        return Ok(false);
    }
    let ids: Vec<DeliveryId> = found.iter().map(|o| o.id).collect();
    let quarantine = if dead_owner.is_some() { crate::domain::time::Span::ZERO } else { setting.quarantine };
    let until = tx.now() + quarantine;
    record::reap(&mut tx, &found, until).await?;
    let stale = stale_items(&mut tx, &ids).await?;
    correct(&mut tx, setting, &stale).await?;
    failpoint::pass("reaping");
    tx.commit().await?;
    failpoint::pass("reaped");
    tracing::warn!(deliveries = ids.len(), "took back {} deliveries whose worker vanished", ids.len());
    Ok(true)
}

async fn stale_items(tx: &mut Tx, ids: &[DeliveryId]) -> Result<Vec<Touched>, StoreError> {
    let deliveries: HashMap<_, _> = view::deliveries(tx, ids).await?.into_iter().map(|d| (d.id, d)).collect();
    let items = view::items(tx, ids).await?;
    let mut stale = Vec::new();
    for item in &items {
        let (Some(d), Some(claim), Some(connection)) =
            (deliveries.get(&item.delivery_id), item.claim(), item.connection_id)
        else {
            continue;
        };
        let by_hand = is_by_hand(claim.stale() == Some(Reason::Recovered), item.cleared_by);
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
    let found = record::quarantined(&mut tx, setting.page).await?;
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
    record::settle(&mut tx, &decided).await?;
    tx.commit().await?;
    Ok(true)
}

/// Looks after a covering recovery whose deadline has passed: connections that have not confirmed are asked anew
/// or listed, never forgotten. One page at a time.
///
/// # Errors
/// When the database fails.
pub async fn confirm(store: &Store, setting: &Setting) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    let Some((id, component, from, until)) = recover::past_deadline(&mut tx).await? else { return Ok(false) };
    if !setting.ask_unconfirmed {
        let n = recover::count_unconfirmed(&mut tx, component, (from, until)).await?;
        recover::add_unconfirmed(&mut tx, id, n).await?;
        recover::confirmed(&mut tx, id).await?;
        tx.commit().await?;
        return Ok(true);
    }
    let keys = recover::unconfirmed(&mut tx, component, (from, until), setting.page).await?;
    if keys.is_empty() {
        recover::confirmed(&mut tx, id).await?;
    } else {
        ask_anew(&mut tx, &keys).await?;
        recover::add_unconfirmed(&mut tx, id, i64::try_from(keys.len()).unwrap_or(i64::MAX)).await?;
    }
    tx.commit().await?;
    Ok(true)
}

async fn ask_anew(tx: &mut Tx, keys: &[String]) -> Result<(), StoreError> {
    let now = tx.now();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let component_keys = ingest::components_of(tx, &keys).await?;
    let of: Vec<&str> = component_keys.iter().map(String::as_str).collect();
    let components = ingest::components(tx, &of, false).await?;
    let (mut changed, mut plans) = (Vec::new(), Vec::new());
    for found in ingest::connections(tx, &keys, "").await? {
        let mut state = found.domain();
        state.left_unconfirmed(now);
        changed.push((found.id, state));
        plans.push(PlanRow {
            kind: "failure",
            matter: found.component_id.0,
            notice: None,
            signal: None,
            component: Some(found.component_id),
            connection: Some(found.id),
            episode: Some(state.episode),
            component_episode: components.iter().find(|c| c.id == found.component_id).map(|c| c.domain().episode),
            failed_at: state.failed_at,
        });
    }
    ingest::save_connections(tx, &changed).await?;
    ingest::add_plans(tx, &plans).await
}
