//! The dispatcher of one stream: carries out what the sender machine commands. It decides nothing about a mail.
//!
//! One loop owns a group of slots. Each round is one transaction (outcomes recorded, new work claimed), a batch of
//! renders, one look for the batch, and the relay dialogues, which run beside the next rounds.

mod outcomes;
mod way;

use super::claim::{Claimed, claim, open_lanes};
use super::copies::Copies;
use super::relation::{self, PROBE_PAUSED};
use super::sender::{Command, Record, Step};
use super::sessions::{Seat, Sessions};
use super::setting::{Setting, Stream};
use super::spill::Spill;
use crate::domain::delivery::{HandOver, Outcome};
use crate::domain::time::{Span, Timestamp};
use crate::mail::{self, Session, Transport};
use crate::store::queue::Lane;
use crate::store::streams::{self, Pause};
use crate::store::{Store, StoreError, Tx};
use crate::template::Templates;
use crate::template::context::Mail;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use outcomes::is_accepted;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::{JoinError, JoinSet};
use way::{Finished, Job, hand_over};

/// Between two probes of a relay that cannot be reached.
const PROBE: Span = Span::seconds(30);
/// So many sessions lost in a row are trouble with the relay, not with a session.
const LOST_IN_A_ROW: u32 = 3;
/// A session nobody needs is given back after this.
const IDLE: Duration = Duration::from_secs(30);
/// How long the list of lanes is trusted.
const LANES_AGE: Duration = Duration::from_millis(100);

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
}

/// The dispatcher of a group of slots of one stream.
pub struct Dispatcher {
    shared: Shared,
    stream: Stream,
    transport: Transport,
    slots: usize,
    number: usize,
    sessions: Arc<Sessions>,
    idle: Vec<Seated>,
    pause: Option<Pause>,
    lanes: (Option<Instant>, Vec<Lane>),
    hungry: bool,
    lost: u32,
    probe_at: Option<Timestamp>,
}

/// A session, and the right to it.
struct Seated {
    session: Session,
    seat: Seat,
}

impl Dispatcher {
    /// A dispatcher with so many slots; it opens sessions when there is work for them, of those that the relay has for
    /// all that use it. `number` tells them apart.
    #[must_use]
    pub fn new(
        shared: Shared,
        stream: Stream,
        transport: Transport,
        slots: usize,
        sessions: Arc<Sessions>,
        number: usize,
    ) -> Self {
        Self {
            shared,
            stream,
            transport,
            slots: slots.max(1),
            number,
            sessions,
            idle: Vec::new(),
            pause: None,
            lanes: (None, Vec::new()),
            hungry: false,
            lost: 0,
            probe_at: None,
        }
    }

    /// Sends until nothing is due and no dialogue runs; how many mails the relay took. `stop` ends the taking of new
    /// work: what is past DATA is finished and recorded.
    ///
    /// # Errors
    /// When the database fails and nothing is on the wire.
    pub async fn drain(&mut self, stop: impl Fn() -> bool) -> Result<usize, StoreError> {
        self.shared.spill.merge(&self.shared.store, &self.shared.owner).await?;
        self.lanes.0 = None;
        // Tasks of their own: a dialogue goes on while a round waits for the database, so that many outcomes are
        // there when it ends and share the next transaction.
        let mut busy = JoinSet::new();
        let mut results: Vec<(Job, Record)> = Vec::new();
        let mut accepted = 0;
        loop {
            accepted += results.iter().filter(|(_, r)| is_accepted(r)).count();
            let taking = !stop() && self.has_work().await && self.open_session(busy.len()).await?;
            let round = self.round(std::mem::take(&mut results), taking).await;
            let jobs = match round {
                Ok(jobs) => jobs,
                Err(e) if busy.is_empty() => return Err(e),
                Err(e) => {
                    tracing::warn!(error = %e, "the database is away; what is on the wire is finished");
                    Vec::new()
                }
            };
            for (job, command) in jobs {
                match command {
                    Command::HandOver => match self.idle.pop() {
                        Some(seated) => {
                            busy.spawn(hand_over(self.shared.clone(), seated, self.sender(&job), job));
                        }
                        None => results.push((job, Record::PutBack)),
                    },
                    Command::Record(record) => results.push((job, record)),
                    _ => {}
                }
            }
            if busy.is_empty() && results.is_empty() && (!taking || self.lanes.1.is_empty()) {
                self.rest().await;
                return Ok(accepted);
            }
            if results.is_empty() {
                let Some(first) = busy.join_next().await else { continue };
                self.finish(first, &mut results);
            }
            while let Some(more) = busy.try_join_next() {
                self.finish(more, &mut results);
            }
        }
    }

    fn sender(&self, job: &Job) -> String {
        let from = &job.claimed.frozen.from;
        from.rsplit_once('<').map_or(from.as_str(), |(_, address)| address.trim_end_matches('>')).to_owned()
    }

    fn finish(&mut self, finished: Result<Finished, JoinError>, results: &mut Vec<(Job, Record)>) {
        let finished = match finished {
            Ok(finished) => finished,
            Err(e) => {
                tracing::error!(error = %e, "a dialogue ended by a fault of the program; its lease will tell: {e}");
                return;
            }
        };
        match &finished.job {
            Some((_, Record::Attempt(Outcome { hand_over: HandOver::NotHandedOver, words, .. }))) => {
                tracing::warn!(
                    stream = self.stream.name,
                    "a session was lost before anything was handed over: {words}"
                );
                self.lost += 1;
                // Its mail is due again at once.
                self.lanes.0 = None;
            }
            Some((_, Record::Attempt(_))) => self.lost = 0,
            _ => {}
        }
        results.extend(finished.job);
        self.idle.extend(finished.session);
    }

    /// Whether something may be due. The lanes are read once and then after a moment: what waits for a sibling on the
    /// wire would else be asked for again and again.
    async fn has_work(&mut self) -> bool {
        let old = self.lanes.0.is_none_or(|read| read.elapsed() > LANES_AGE);
        if old && let Err(e) = self.read_lanes().await {
            tracing::warn!(error = %e, "the lanes cannot be read: {e}");
            return false;
        }
        !self.lanes.1.is_empty()
    }

    async fn read_lanes(&mut self) -> Result<(), StoreError> {
        let mut tx = self.shared.store.read().await?;
        self.pause = streams::pauses(&mut tx).await?.into_iter().find(|pause| pause.stream == self.stream.name);
        let paused = self.pause.as_ref().is_some_and(|pause| tx.now() < pause.probe_at);
        let lanes = match paused {
            true => Vec::new(),
            false => open_lanes(&mut tx, &self.shared.setting, &self.stream).await?,
        };
        self.lanes = (Some(Instant::now()), lanes);
        Ok(())
    }

    /// Nothing to do: what others can use is given back.
    async fn rest(&mut self) {
        if self.lanes.1.is_empty() {
            self.sessions.content(self.number);
        }
        let all = self.sessions.capped();
        for Seated { session, seat } in self.idle.extract_if(.., |s| all || s.session.idle_for() > IDLE) {
            session.close().await;
            drop(seat);
        }
    }

    /// Makes sure that a session is open and idle if a slot is free. Trouble with the relay is probed by one session
    /// every now and then, and claims nothing: what is not claimed is not lost.
    async fn open_session(&mut self, busy: usize) -> Result<bool, StoreError> {
        let now = Instant::now();
        let mut kept = Vec::new();
        for mut seated in self.idle.drain(..) {
            if seated.session.usable(now) && seated.session.alive().await {
                kept.push(seated);
            } else {
                seated.session.close().await;
            }
        }
        self.idle = kept;
        if self.sessions.others_wait(self.number)
            && let Some(Seated { session, seat }) = self.idle.pop()
        {
            session.close().await;
            drop(seat);
            return Ok(!self.idle.is_empty());
        }
        let open = busy + self.idle.len();
        if open == 0 {
            return self.probe().await;
        }
        if self.hungry && open < self.slots {
            // Work is plenty: as many sessions again as there are. One mail needs one session.
            let seats = (0..open.min(self.slots - open)).map_while(|_| self.sessions.take(self.number, open));
            let opening: FuturesUnordered<_> = seats.map(|seat| open_seated(&self.transport, seat)).collect();
            let opened: Vec<_> = opening.collect().await;
            self.idle.extend(opened.into_iter().filter_map(Result::ok));
        }
        Ok(!self.idle.is_empty())
    }

    async fn probe(&mut self) -> Result<bool, StoreError> {
        let time = self.shared.store.read().await?.now();
        if self.lost >= LOST_IN_A_ROW {
            // It takes sessions and drops them: hammering it would help nobody.
            self.lost = 0;
            self.probe_at = Some(time + PROBE);
        }
        if self.probe_at.is_some_and(|at| time < at) {
            return Ok(false);
        }
        let Some(seat) = self.sessions.take(self.number, 0) else { return Ok(false) };
        match open_seated(&self.transport, seat).await {
            Ok(seated) => {
                self.probe_at = None;
                self.idle.push(seated);
                Ok(true)
            }
            Err(e) => {
                tracing::warn!(stream = self.stream.name, "{e}; {}", e.hint());
                self.probe_at = Some(time + PROBE);
                relation::not_let_in(&self.shared.store, &self.stream, &e, &self.shared.owner).await?;
                Ok(false)
            }
        }
    }

    /// One transaction records what ended and claims for idle slots; after its commit the batch is rendered and
    /// looked at.
    async fn round(&mut self, results: Vec<(Job, Record)>, taking: bool) -> Result<Vec<(Job, Command)>, StoreError> {
        if results.is_empty() && !taking {
            return Ok(Vec::new());
        }
        let claimed = match self.record_and_claim(&results, taking).await {
            Ok(claimed) => claimed,
            Err(e) => {
                self.record_one_by_one(&results).await;
                self.lanes.1.clear();
                // Another node had the thread: nothing is wrong, the next round sees it.
                return if e.is_conflict() { Ok(Vec::new()) } else { Err(e) };
            }
        };
        let jobs = claimed.into_iter().map(|claimed| {
            let phase = match &claimed.frozen.mail {
                Mail::Incident(mail) => Some(mail.phase),
                _ => None,
            };
            let job = Job {
                claimed,
                probe: self.pause.is_some(),
                step: Step::Armed,
                bytes: Vec::new(),
                copy: None,
                looked: Instant::now(),
                phase,
            };
            (job, Command::Render)
        });
        Ok(self.shared.advance(jobs.collect()).await)
    }

    async fn record_and_claim(&mut self, results: &[(Job, Record)], taking: bool) -> Result<Vec<Claimed>, StoreError> {
        let mut tx = self.shared.store.begin().await?;
        let noted = if results.is_empty() { None } else { self.shared.copies.note(&mut tx).await? };
        let turned = self.shared.record(&mut tx, &self.stream, results).await?;
        let claimed = if taking && !turned { self.claim(&mut tx).await? } else { Vec::new() };
        tx.commit().await?;
        self.shared.copies.noted(noted);
        if turned {
            self.lanes = (None, Vec::new());
        }
        self.hungry = claimed.len() == self.idle.len();
        Ok(claimed)
    }

    /// Claims for the idle slots; of a paused stream one mail, if no other node sends it.
    async fn claim(&mut self, tx: &mut Tx) -> Result<Vec<Claimed>, StoreError> {
        let (shared, mut most) = (&self.shared, self.idle.len());
        if let Some(pause) = &self.pause {
            most = 1;
            if !streams::take_probe(tx, pause, tx.now() + PROBE_PAUSED).await? {
                self.lanes.1.clear();
            }
        }
        let set = shared.templates.set_hash();
        let claimed = claim(tx, &shared.setting, &self.stream, &shared.owner, set, &mut self.lanes.1, most).await?;
        if self.pause.is_some() {
            self.lanes.1.clear();
        }
        Ok(claimed)
    }

    /// A shared commit failed: each outcome for itself, and into the spill file what still cannot be recorded.
    async fn record_one_by_one(&self, results: &[(Job, Record)]) {
        for one in results {
            let one = std::slice::from_ref(one);
            if let Err(e) = self.shared.record_alone(&self.stream, one).await {
                tracing::error!(error = %e, "an outcome cannot be recorded; it goes to the spill file");
                let settled = self.shared.settled(one, &[], one[0].0.claimed.frozen.date);
                if let Err(e) = self.shared.spill.append(&settled) {
                    tracing::error!(error = %e, "the spill file cannot be written; the lease will tell");
                }
            }
        }
    }
}

async fn open_seated(transport: &Transport, seat: Seat) -> Result<Seated, mail::OpenError> {
    Ok(Seated { session: Session::open(transport).await?, seat })
}
