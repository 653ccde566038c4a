//! The dispatcher of one stream: carries out what the sender machine commands. It decides nothing about a mail.
//!
//! One loop owns a group of slots. Each round is one transaction (outcomes recorded, new work claimed). What follows its
//! commit runs beside the next rounds: batches of renders, one look for each batch, and the relay dialogues.

mod outcomes;
pub(super) mod refusals;
mod round;
mod seats;
mod way;

use super::archive::Archive;
use super::caught;
use super::copies::Copies;
use super::lanes::Lanes;
use super::sender::{Command, Record};
use super::sessions::Sessions;
use super::setting::{Setting, Stream};
use super::spill::Spill;
use super::surge::Watch;
use super::trouble::Trouble;
use crate::domain::delivery::{HandOver, Outcome};
use crate::domain::id::DeliveryId;
use crate::domain::time::{Span, Timestamp};
use crate::mail::{self, Transport};
use crate::store::streams::Probe;
use crate::store::{Store, StoreError};
use crate::template::Templates;
use outcomes::is_accepted;
use refusals::Refusals;
use seats::Seated;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};
use tokio::task::{JoinError, JoinSet};
use way::{Finished, Job, go};

/// So many sessions lost in a row are trouble with the relay, not with a session.
const LOST_IN_A_ROW: u32 = 3;
/// So many mails are remembered with which a session was lost.
const MOST_LOSSES: usize = 1_000;
/// How long outcomes wait for others to share their transaction. Until it is durable their slots take nothing new: where
/// dialogues take longer than this, slots are what there is too little of, and nothing waits.
const GATHER: Duration = Duration::from_millis(8);
/// Nor do they wait for the last ones: so many outcomes for each dialogue that still runs are enough.
const ENOUGH: usize = 10;
/// So many mails are rendered and looked at together.
const BATCH: usize = 16;
/// How long the list of lanes is trusted.
const LANES_AGE: Duration = Duration::from_millis(100);
/// No cap has anybody wait longer for the next mail: the clock was set back.
const LONGEST_TURN: Span = Span::minutes(3);

/// What all dispatchers of a process share.
#[derive(Clone)]
pub struct Shared {
    /// The database.
    pub store: Store,
    /// The settings.
    pub setting: Arc<Setting>,
    /// The templates.
    pub templates: Arc<Templates>,
    /// Keeps the mails as they were sent.
    pub copies: Arc<Copies>,
    /// Who claims: this process.
    pub owner: String,
    /// Where outcomes go while the database is away.
    pub spill: Spill,
    /// The longest a dialogue may take.
    pub dialogue: Duration,
    /// When this process last looked for surges.
    pub watch: Watch,
    /// Puts away what is long over.
    pub archive: Arc<Archive>,
}

/// The dispatcher of a group of slots of one stream.
pub struct Dispatcher {
    shared: Shared,
    stream: Stream,
    transport: Transport,
    slots: usize,
    number: usize,
    sessions: Arc<Sessions>,
    bell: Arc<Notify>,
    idle: Vec<Seated>,
    opening: usize,
    dialogues: usize,
    grow_at: Option<Instant>,
    /// Outcomes that could neither be recorded nor spilled: the disk of both may be full.
    unrecorded: Vec<(Job, Record)>,
    unspilled: Trouble,
    /// How often a session was lost with a mail, of those lost lately.
    losses: HashMap<DeliveryId, u32>,
    /// What the relay refused lately, of all that those who share the stream offered it.
    pub(super) refusals: Arc<Mutex<Refusals>>,
    trouble: Option<StoreError>,
    pause: Option<Probe>,
    /// When the rate cap lets the next mail go.
    turn_at: Option<Timestamp>,
    lanes_at: Option<Instant>,
    lanes: Lanes,
    hungry: bool,
    lost: u32,
    /// How long a dialogue takes, on the average of the last dozen or so.
    usual: Duration,
}

/// What ended beside the rounds.
enum Ended {
    /// And how long it took, if it was held at all.
    Dialogue(Box<Finished>, Option<Duration>),
    Opening(Result<Seated, mail::OpenError>),
    /// Nothing that a round waits for.
    Aside,
}

impl Dispatcher {
    /// A dispatcher with so many slots; it opens sessions when there is work for them, of those that the relay has for
    /// all that use it. `number` tells them apart. Whoever has more than it can take rings the `bell` for
    /// those that share it.
    #[must_use]
    pub fn new(
        shared: Shared,
        stream: Stream,
        transport: Transport,
        slots: usize,
        sessions: Arc<Sessions>,
        bell: Arc<Notify>,
        number: usize,
    ) -> Self {
        Self {
            shared,
            stream,
            transport,
            slots: slots.max(1),
            number,
            sessions,
            bell,
            idle: Vec::new(),
            opening: 0,
            dialogues: 0,
            grow_at: None,
            unrecorded: Vec::new(),
            unspilled: Trouble::default(),
            losses: HashMap::new(),
            refusals: Arc::default(),
            trouble: None,
            pause: None,
            turn_at: None,
            lanes_at: None,
            lanes: Lanes::default(),
            hungry: false,
            lost: 0,
            usual: Duration::ZERO,
        }
    }

    /// Sends until nothing is due and no dialogue runs; how many mails the relay took. `stop` ends the taking of new
    /// work: what is past DATA is finished and recorded.
    ///
    /// # Errors
    /// When the database fails and nothing is on the wire.
    pub async fn drain(&mut self, stop: impl Fn() -> bool) -> Result<usize, StoreError> {
        // What is in the file is safe there, however long a database that hangs takes.
        tokio::select! {
            biased;
            merged = self.shared.spill.merge(&self.shared.store, &self.shared.owner) => drop(merged?),
            () = until(&stop) => {}
        }
        self.lanes_at = None;
        // Tasks of their own: a dialogue goes on while a round waits for the database, so that many outcomes are
        // there when it ends and share the next transaction. Sessions are opened beside them: a relay that is slow to
        // greet keeps nobody from the sessions there are.
        let mut busy = JoinSet::new();
        // A drain that was dropped half-way took its tasks with it.
        (self.dialogues, self.opening) = (0, 0);
        let mut results = std::mem::take(&mut self.unrecorded);
        let mut accepted = 0;
        loop {
            accepted += results.iter().filter(|(_, r)| is_accepted(r)).count();
            let work = if stop() { Ok(false) } else { StoreError::in_time("read the lanes", self.has_work()).await };
            let has_work = match work {
                Ok(has_work) => has_work,
                Err(e) => {
                    if e.is_away() {
                        // It was waited for once: outcomes that wait again may outlast their lease, and its quarantine.
                        self.unrecorded = self.record_one_by_one(std::mem::take(&mut results), false).await;
                    }
                    self.trouble = Some(e);
                    false
                }
            };
            let taking = has_work && self.provide_sessions(&mut busy).await;
            let round = self.round(std::mem::take(&mut results), taking).await;
            let jobs = match round {
                Ok(jobs) => jobs,
                Err(e) if busy.is_empty() => return Err(e),
                Err(e) => {
                    tracing::warn!(error = %e, "the database is away; what is on the wire is finished");
                    Vec::new()
                }
            };
            self.send(jobs, &mut busy, &mut results);
            if busy.is_empty() && results.is_empty() && (!taking || self.lanes.open.is_empty()) {
                self.rest().await;
                return match self.trouble.take() {
                    Some(e) => Err(e),
                    None => Ok(accepted),
                };
            }
            if results.is_empty() {
                self.gather(&mut busy, &mut results).await;
            }
            while let Some(more) = busy.try_join_next() {
                self.ended(more, &mut results).await;
            }
            results.append(&mut self.unrecorded);
        }
    }

    /// Sends claimed mails on their way, each with a session that was idle. Some prepare together, beside others and
    /// beside the next round.
    fn send(&mut self, jobs: Vec<Job>, busy: &mut JoinSet<Ended>, results: &mut Vec<(Job, Record)>) {
        let mut jobs = jobs.into_iter();
        while jobs.len() > 0 {
            let (mut batch, mut told) = (Vec::new(), Vec::new());
            for job in jobs.by_ref().take(BATCH) {
                let Some(seated) = self.idle.pop() else {
                    self.lanes.floors.forget();
                    results.push((job, Record::PutBack));
                    continue;
                };
                let (tell, ready) = oneshot::channel();
                let shared = self.shared.clone();
                busy.spawn(async {
                    let (finished, took) = go(shared, seated, ready).await;
                    Ended::Dialogue(Box::new(finished), took)
                });
                self.dialogues += 1;
                batch.push((job, Command::Render));
                told.push(tell);
            }
            let shared = self.shared.clone();
            busy.spawn(async move {
                match caught::round(shared.advance(batch)).await {
                    Ok(prepared) => prepared.into_iter().zip(told).for_each(|(one, tell)| drop(tell.send(one))),
                    Err(why) => tracing::error!("a fault of the program while mails were prepared: {why}"),
                }
                Ended::Aside
            });
        }
    }

    /// What is due is looked for from the beginning: it can be due before what was seen.
    pub fn look_anew(&mut self) {
        self.lanes_at = None;
        self.lanes.floors.forget();
    }

    /// Wakes it, or one of those that share the bell.
    #[must_use]
    pub const fn bell(&self) -> &Arc<Notify> {
        &self.bell
    }

    /// Whether it would have taken work, had the relay had a session left for it.
    #[must_use]
    pub fn waits_for_session(&self) -> bool {
        self.sessions.waits(self.number)
    }

    /// Whose outcomes could neither be recorded nor spilled, as of the last drain.
    pub fn unrecorded(&self) -> impl Iterator<Item = DeliveryId> {
        self.unrecorded.iter().map(|(job, _)| job.claimed.id)
    }

    /// Waits for what ends, and a little longer for more of it: a round costs much the same for one as for fifty.
    async fn gather(&mut self, busy: &mut JoinSet<Ended>, results: &mut Vec<(Job, Record)>) {
        // One slow reply must not keep the other slots from new work: now and then the round is made without.
        let mut end = tokio::time::Instant::now() + LANES_AGE;
        while let Ok(Some(more)) = tokio::time::timeout_at(end, busy.join_next()).await {
            if matches!(more, Ok(Ended::Aside)) {
                continue;
            }
            let first = results.is_empty();
            self.ended(more, results).await;
            if results.len() >= self.dialogues * ENOUGH {
                break;
            }
            if first && !results.is_empty() {
                // A timer of no time at all would still take a millisecond.
                if self.usual > GATHER {
                    break;
                }
                end = tokio::time::Instant::now() + GATHER;
            }
        }
    }

    async fn ended(&mut self, ended: Result<Ended, JoinError>, results: &mut Vec<(Job, Record)>) {
        match ended {
            Ok(Ended::Dialogue(finished, took)) => {
                self.usual = took.map_or(self.usual, |took| (self.usual * 7 + took) / 8);
                self.finish(*finished, results);
            }
            Ok(Ended::Opening(Ok(seated))) => {
                self.opening -= 1;
                self.idle.push(seated);
                self.opened().await;
            }
            Ok(Ended::Opening(Err(e))) => {
                self.opening -= 1;
                self.not_opened(&e).await;
            }
            Ok(Ended::Aside) => {}
            Err(e) => {
                tracing::error!(error = %e, "a dialogue ended by a fault of the program; its lease will tell: {e}");
                self.dialogues = self.dialogues.saturating_sub(1);
            }
        }
    }

    fn finish(&mut self, finished: Finished, results: &mut Vec<(Job, Record)>) {
        self.dialogues = self.dialogues.saturating_sub(1);
        match &finished.job {
            Some((job, Record::Attempt(Outcome { hand_over: HandOver::NotHandedOver, words, .. }))) => {
                tracing::warn!(
                    stream = self.stream.name,
                    "a session was lost before anything was handed over: {words}"
                );
                self.lost += 1;
                if self.losses.len() >= MOST_LOSSES {
                    self.losses.clear();
                }
                *self.losses.entry(job.claimed.id).or_default() += 1;
                // Its mail is due again at once.
                self.look_anew();
            }
            Some((job, Record::Attempt(_))) => {
                self.lost = 0;
                self.losses.remove(&job.claimed.id);
            }
            _ => {}
        }
        results.extend(finished.job);
        self.idle.extend(finished.session);
    }

    /// Whether something may wait for a turn under a cap: it has to look again soon.
    #[must_use]
    pub fn is_paced(&self) -> bool {
        self.turn_at.is_some() || self.stream.caps.by_domain()
    }

    /// Whether something may be due. The lanes are read once and then after a moment: what waits for a sibling on the
    /// wire would else be asked for again and again.
    async fn has_work(&mut self) -> Result<bool, StoreError> {
        if self.lanes_at.is_none_or(|read| read.elapsed() > LANES_AGE) {
            self.read_lanes().await?;
        }
        Ok(!self.lanes.open.is_empty())
    }

    async fn read_lanes(&mut self) -> Result<(), StoreError> {
        let mut tx = self.shared.store.read().await?;
        let now = tx.now();
        // A cap that is reached, and a relay that cannot be reached, need no sessions yet.
        let later = self.turn_at.is_some_and(|at| now < at && at - now <= LONGEST_TURN);
        self.turn_at = self.turn_at.filter(|_| later);
        let without = self.dialogues + self.opening + self.idle.len() == 0;
        if self.lost >= LOST_IN_A_ROW && without {
            // It takes sessions and drops them: hammering it would help nobody.
            self.lost = 0;
            self.sessions.unreachable(now);
        }
        self.lanes.open.clear();
        if !(later || without && self.sessions.let_be(now)) {
            self.pause = self.lanes.read(&mut tx, &self.shared.setting, &self.stream).await?;
        }
        let paused = self.pause.is_some_and(|pause| now < pause.at);
        if paused || (without && !self.lanes.open.is_empty() && !self.sessions.may_try(now)) {
            self.lanes.open.clear();
        }
        self.lanes_at = Some(Instant::now());
        Ok(())
    }
}

async fn until(stop: impl Fn() -> bool) {
    while !stop() {
        tokio::time::sleep(LANES_AGE).await;
    }
}
