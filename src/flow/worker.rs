//! The worker: all stages of a process. `serve` runs them as loops that wake each other; a test or a replay steps
//! them until nothing is left to do at the clock's time.

use super::dispatch::{Dispatcher, Shared};
use super::sessions::Sessions;
use super::{alert, deadline, failures, plan, surge, sweep};
use crate::mail::Transport;
use crate::store::{StoreError, recover};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Notify;
use uuid::Uuid;

/// So many pages of notices are planned before failures have their turn.
const IN_TURN: usize = 20;

/// All stages, to be stepped.
pub struct Worker {
    shared: Shared,
    dispatchers: Vec<Dispatcher>,
}

impl Worker {
    /// A worker whose streams go to these transports.
    #[must_use]
    pub fn new(shared: Shared, transports: &BTreeMap<String, Transport>) -> Self {
        let dispatchers = dispatchers(&shared, transports, 1);
        Self { shared, dispatchers }
    }

    /// Runs every stage until nothing is left to do at this time; how many mails the relays took.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn settle(&mut self) -> Result<usize, StoreError> {
        let mut accepted = 0;
        loop {
            let mut progress = plan_all(&self.shared).await?;
            progress |= recover_all(&self.shared).await?;
            while alert::post(&self.shared).await? {}
            let mut sent = 0;
            for dispatcher in &mut self.dispatchers {
                // A driven clock leaps, and nobody looks again in a moment.
                dispatcher.look_anew();
                sent += dispatcher.drain(|| false).await?;
            }
            accepted += sent;
            // Whoever had nothing to do has just given back what another waits for.
            let waiting = self.dispatchers.iter().any(Dispatcher::waits_for_session);
            if !progress && sent == 0 && !waiting {
                return Ok(accepted);
            }
        }
    }

    /// Plans and sends, but recovers nothing: the dispatcher without a conscience that `demo` compares with.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn settle_without_recovery(&mut self) -> Result<usize, StoreError> {
        let mut sent = 0;
        plan_all(&self.shared).await?;
        for dispatcher in &mut self.dispatchers {
            dispatcher.look_anew();
            sent += dispatcher.drain(|| false).await?;
        }
        Ok(sent)
    }
}

/// The dispatchers of all streams; a stream's slots are shared out over `groups` loops, so that the rounds of one go on beside
/// those of another where the database has several writers.
#[must_use]
pub fn dispatchers(shared: &Shared, transports: &BTreeMap<String, Transport>, groups: usize) -> Vec<Dispatcher> {
    let mut all = Vec::new();
    // Streams with the same relay share its sessions.
    let mut relays: Vec<(&Transport, Arc<Sessions>)> = Vec::new();
    for stream in &shared.setting.streams {
        let Some(transport) = transports.get(&stream.name) else { continue };
        let known = relays.iter().find(|(other, _)| *other == transport).map(|(_, sessions)| Arc::clone(sessions));
        let sessions = known.unwrap_or_else(|| {
            let sessions = Sessions::at_most(transport.sessions());
            relays.push((transport, Arc::clone(&sessions)));
            sessions
        });
        // Two loops of one stream must not take each other's sessions away.
        let most = transport.sessions().unwrap_or(usize::MAX).div_ceil(shared.setting.streams.len().max(1));
        let groups = groups.clamp(1, stream.slots.min(most).max(1));
        let shared_bell = Arc::new(Notify::new());
        let refusals = Arc::default();
        for group in 0..groups {
            let slots = (stream.slots + groups - 1 - group) / groups;
            let (stream, transport) = (stream.clone(), transport.clone());
            let sessions = Arc::clone(&sessions);
            // Where the relay has few sessions nobody knows who of them has one: each is woken.
            let bell = if transport.sessions().is_some() { Arc::default() } else { Arc::clone(&shared_bell) };
            let mut one = Dispatcher::new(shared.clone(), stream, transport, slots, sessions, bell, all.len());
            one.refusals = Arc::clone(&refusals);
            all.push(one);
        }
    }
    all
}

/// Plans whatever there is; whether there was anything.
///
/// # Errors
/// When the database or a template fails.
pub async fn plan_all(shared: &Shared) -> Result<bool, StoreError> {
    let mut progress = false;
    while plan_some(shared, false).await? {
        progress = true;
    }
    Ok(progress)
}

/// Plans some of what there is; whether there was anything. What it made can leave while more is planned. Where a notice is
/// there for `sure`, nobody asks for it first.
///
/// # Errors
/// When the database or a template fails.
pub async fn plan_some(shared: &Shared, sure: bool) -> Result<bool, StoreError> {
    let (store, setting, templates) = (&shared.store, &*shared.setting, &*shared.templates);
    if sure && plan::notices(store, setting, templates).await? {
        return Ok(true);
    }
    let (notices, failures) = crate::store::plan::anything(&mut store.read().await?).await?;
    let mut progress = false;
    // In turns: a flood of notices keeps nobody from being asked, and the other way round.
    for _ in 0..if notices { IN_TURN } else { 0 } {
        if !plan::notices(store, setting, templates).await? {
            break;
        }
        progress = true;
        if !failures {
            return Ok(true);
        }
    }
    Ok(progress | (failures && plan_failures(shared).await?))
}

/// Plans all failures there are. Where transactions get on beside each other there are two at work: of one the database
/// waits for what we make of its page, or we for the database.
async fn plan_failures(shared: &Shared) -> Result<bool, StoreError> {
    if !shared.store.has_several_writers() {
        return pages_of_failures(shared).await;
    }
    let (one, other) = tokio::join!(pages_of_failures(shared), pages_of_failures(shared));
    Ok(one? | other?)
}

async fn pages_of_failures(shared: &Shared) -> Result<bool, StoreError> {
    let (mut after, mut progress) = (Uuid::nil(), false);
    while let Some((next, decided)) =
        failures::failures(&shared.store, &shared.setting, &shared.templates, after).await?
    {
        after = next;
        progress |= decided > 0;
    }
    Ok(progress)
}

/// Looks after surges, sweeps recoveries, takes back what vanished workers held, ends quarantines, looks after deadlines, removes old
/// copies, puts away what is over; whether there was anything.
///
/// # Errors
/// When the database fails.
pub async fn recover_all(shared: &Shared) -> Result<bool, StoreError> {
    let (store, setting) = (&shared.store, &*shared.setting);
    // Where it fails, corrections are owed all the same.
    let watched = surge::watch(shared).await;
    let mut progress = matches!(watched, Ok(true));
    // A loop that always has something to send never begins anew: what it spilled must not be taken for lost meanwhile.
    // Where it cannot be recorded, leases are left alone, and corrections are owed all the same.
    let merged = shared.spill.merge(store, &shared.setting, &shared.owner).await;
    progress |= matches!(merged, Ok(lines) if lines > 0);
    while shared.copies.sweep(store).await? {
        progress = true;
    }
    if recover::anything(&mut store.read().await?).await? {
        while sweep::sweep(store, setting).await? {
            progress = true;
        }
        while merged.is_ok() && sweep::reap(store, setting).await? {
            progress = true;
        }
        while merged.is_ok() && sweep::settle(store, setting).await? {
            progress = true;
        }
        while merged.is_ok() && deadline::confirm(store, setting).await? {
            progress = true;
        }
    }
    progress |= shared.archive.page(store, setting).await;
    // Nobody waits for it, and nobody is woken by it.
    if let Err(e) = shared.copies.forget(store).await {
        tracing::warn!(error = %e, "what old mails were made of is not removed, and tried again: {e}");
    }
    watched.and(merged).map(|_| progress)
}
