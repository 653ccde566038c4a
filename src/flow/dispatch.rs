//! The dispatcher of one stream: carries out what the sender machine commands. It decides nothing about a mail.
//!
//! One loop owns a group of slots. Each round is one transaction (outcomes recorded, new work claimed). What follows its
//! commit runs beside the next rounds: batches of renders, one look for each batch, and the relay dialogues.

mod ends;
mod outcomes;
mod pool;
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
use crate::domain::id::DeliveryId;
use crate::domain::time::{Span, Timestamp};
use crate::mail::Transport;
use crate::store::streams::Probe;
use crate::store::{Store, StoreError};
use crate::template::Templates;
use ends::Ended;
use outcomes::is_accepted;
use pool::Pool;
use refusals::Refusals;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use way::{Job, go};

/// So many sessions lost in a row are trouble with the relay, not with a session.
const LOST_IN_A_ROW: u32 = 3;
/// How long outcomes wait for others to share their transaction. Until it is durable their slots take nothing new. Where dialogues
/// take longer than this, slots are what there is too little of: mails are claimed ahead for them, or nothing waits.
const GATHER: Duration = Duration::from_millis(8);
/// So many mails are rendered and looked at together.
const BATCH: usize = 16;
/// How long the list of lanes is trusted.
const LANES_AGE: Duration = Duration::from_millis(100);
/// A busy stream gives a session to one that has waited for it so long.
const PATIENCE: Duration = Duration::from_secs(2);
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
    pool: Arc<Pool>,
    /// As often as it has a session.
    open: Arc<()>,
    /// As often as a claimed mail has no session yet.
    ahead: Arc<()>,
    opening: usize,
    /// Claimed mails whose end is not known.
    under_way: usize,
    /// So many mails were claimed for which there was no session then, and so many fewer were done since.
    starved: usize,
    /// Such a mail is put back by the next round.
    put_back: bool,
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
    /// How long a dialogue takes, on the average.
    usual: Duration,
    /// And a round.
    round: Duration,
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
            pool: Arc::new(Pool::new(number, Arc::clone(&sessions), PATIENCE)),
            sessions,
            bell,
            open: Arc::default(),
            ahead: Arc::default(),
            opening: 0,
            under_way: 0,
            starved: 0,
            put_back: false,
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
            round: Duration::ZERO,
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
            merged = self.shared.spill.merge(&self.shared.store, &self.shared.setting, &self.shared.owner) => drop(merged?),
            () = until(&stop) => {}
        }
        self.lanes_at = None;
        // Tasks of their own: a dialogue goes on while a round waits for the database, so that many outcomes are
        // there when it ends and share the next transaction. Sessions are opened beside them: a relay that is slow to
        // greet keeps nobody from the sessions there are.
        let mut busy = JoinSet::new();
        // A drain that was dropped half-way took its tasks with it.
        (self.under_way, self.opening) = (0, 0);
        let mut results = std::mem::take(&mut self.unrecorded);
        let mut accepted = 0;
        loop {
            accepted += results.iter().filter(|(_, r)| is_accepted(r)).count();
            let stopping = stop();
            if stopping {
                self.pool.turn_away();
            }
            for seated in self.pool.parting() {
                busy.spawn(seated.close());
            }
            let work = if stopping { Ok(false) } else { StoreError::in_time("read the lanes", self.has_work()).await };
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
            let (begun, some) = (Instant::now(), taking || !results.is_empty());
            let round = self.round(std::mem::take(&mut results), taking).await;
            if some {
                self.round = average(self.round, begun.elapsed());
            }
            let jobs = match round {
                Ok(jobs) => jobs,
                Err(e) if busy.is_empty() => return Err(e),
                Err(e) => {
                    tracing::warn!(error = %e, "the database is away; what is on the wire is finished");
                    Vec::new()
                }
            };
            self.send(jobs, &mut busy);
            let once_more = std::mem::take(&mut self.put_back) && !stopping;
            if once_more {
                // What was put back is due, and the lanes were read before it was.
                self.lanes_at = None;
            }
            if busy.is_empty() && results.is_empty() && (!taking || self.lanes.open.is_empty()) && !once_more {
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

    /// Sends claimed mails on their way. Some prepare together, beside others and beside the next round.
    fn send(&mut self, jobs: Vec<Job>, busy: &mut JoinSet<Ended>) {
        let mut jobs = jobs.into_iter();
        while jobs.len() > 0 {
            let (mut batch, mut told) = (Vec::new(), Vec::new());
            for job in jobs.by_ref().take(BATCH) {
                let (tell, ready) = oneshot::channel();
                let (shared, pool, ahead) = (self.shared.clone(), Arc::clone(&self.pool), Arc::clone(&self.ahead));
                busy.spawn(async move {
                    let (finished, took) = go(shared, &pool, ahead, ready).await;
                    Ended::Dialogue(Box::new(finished), took)
                });
                self.under_way += 1;
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

    /// How many mails to claim: for each idle session one, and of a relay far away as many more as sessions will be done
    /// before the next round has new ones ready. Not where anything is in trouble: what is not claimed is not lost.
    fn wanted(&self) -> usize {
        let open = count(&self.open);
        let calm = self.pause.is_none() && self.lost == 0 && self.starved == 0;
        let ahead = match self.usual {
            // Twice: they are not done evenly, and a mail has to be prepared.
            usual if usual > GATHER && calm => {
                ((self.round + GATHER) * 2).as_micros() * open as u128 / usual.as_micros()
            }
            _ => 0,
        };
        let ahead = usize::try_from(ahead).unwrap_or(open).min(open);
        (self.pool.idle() + ahead).saturating_sub(count(&self.ahead))
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
        let without = count(&self.open) + self.opening == 0;
        if self.lost >= LOST_IN_A_ROW && without {
            // It takes sessions and drops them: hammering it would help nobody.
            self.lost = 0;
            self.sessions.unreachable(now);
        }
        self.lanes.open.clear();
        if !(later || without && self.sessions.let_be(now)) {
            let before = self.pause;
            self.pause = self.lanes.read(&mut tx, &self.shared.setting, &self.stream).await?;
            if before.is_none() && self.pause.is_some() {
                self.pool.turn_away();
            }
        }
        let paused = self.pause.is_some_and(|pause| now < pause.at);
        if paused || (without && !self.lanes.open.is_empty() && !self.sessions.may_try(now)) {
            self.lanes.open.clear();
        }
        self.lanes_at = Some(Instant::now());
        Ok(())
    }
}

/// The average of the last dozen or so.
fn average(of: Duration, latest: Duration) -> Duration {
    (of * 7 + latest) / 8
}

/// How many others have it.
fn count(of: &Arc<()>) -> usize {
    Arc::strong_count(of) - 1
}

async fn until(stop: impl Fn() -> bool) {
    while !stop() {
        tokio::time::sleep(LANES_AGE).await;
    }
}
