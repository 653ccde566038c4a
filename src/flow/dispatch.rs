//! The dispatcher of one stream: carries out what the sender machine commands. It decides nothing about a mail.
//!
//! One loop owns a group of slots. Each round is one transaction (outcomes recorded, new work claimed), a batch of
//! renders, one look for the batch, and the relay dialogues, which run beside the next rounds.

mod outcomes;
mod way;

use super::archive::Archive;
use super::claim::{Claimed, claim, open_lanes};
use super::copies::Copies;
use super::floors::Floors;
use super::relation::{self, PROBE_PAUSED, PROBE_SOON};
use super::sender::{Command, Record, Step};
use super::sessions::{Seat, Sessions};
use super::setting::{Setting, Stream};
use super::spill::Spill;
use super::surge::Watch;
use crate::domain::delivery::{HandOver, Outcome};
use crate::domain::id::DeliveryId;
use crate::domain::time::Timestamp;
use crate::failpoint;
use crate::mail::{self, Session, Transport};
use crate::store::queue::Lane;
use crate::store::streams::{self, Pause};
use crate::store::{Store, StoreError, Tx};
use crate::template::Templates;
use outcomes::{AtFault, is_accepted};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::{JoinError, JoinSet};
use way::{Finished, Job, hand_over, sender};

/// So many sessions lost in a row are trouble with the relay, not with a session.
const LOST_IN_A_ROW: u32 = 3;
/// A session nobody needs is given back after this.
const IDLE: Duration = Duration::from_secs(30);
/// A busy stream gives a session to one that has waited for it so long.
const PATIENCE: Duration = Duration::from_secs(2);
/// After a session that could not be opened beside others, no more are asked for.
const GROW: Duration = Duration::from_secs(30);
/// So many mails are remembered with which a session was lost.
const MOST_LOSSES: usize = 1_000;
/// How long outcomes wait for others to share their transaction. Until it is durable their slots take nothing new, so
/// it is little beside a dialogue with a relay that is far away.
const GATHER: Duration = Duration::from_millis(8);
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
    idle: Vec<Seated>,
    opening: usize,
    dialogues: usize,
    grow_at: Option<Instant>,
    /// Outcomes that could neither be recorded nor spilled: the disk of both may be full.
    unrecorded: Vec<(Job, Record)>,
    /// How often a session was lost with a mail, of those lost lately.
    losses: HashMap<DeliveryId, u32>,
    trouble: Option<StoreError>,
    pause: Option<Pause>,
    /// When the rate cap lets the next mail go.
    turn_at: Option<Timestamp>,
    lanes: (Option<Instant>, Vec<Lane>),
    floors: Floors,
    hungry: bool,
    lost: u32,
}

/// What ended beside the rounds.
enum Ended {
    Dialogue(Box<Finished>),
    Opening(Result<Seated, mail::OpenError>),
    Closing,
}

/// A session, and the right to it.
struct Seated {
    session: Session,
    seat: Seat,
}

impl Seated {
    /// Says good-bye, which a relay may leave unanswered; the right ends with it.
    async fn close(self) {
        self.session.close().await;
        drop(self.seat);
    }
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
            opening: 0,
            dialogues: 0,
            grow_at: None,
            unrecorded: Vec::new(),
            losses: HashMap::new(),
            trouble: None,
            pause: None,
            turn_at: None,
            lanes: (None, Vec::new()),
            floors: Floors::default(),
            hungry: false,
            lost: 0,
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
        // there when it ends and share the next transaction. Sessions are opened beside them: a relay that is slow to
        // greet keeps nobody from the sessions there are.
        let mut busy = JoinSet::new();
        // A drain that was dropped half-way took its tasks with it.
        (self.dialogues, self.opening) = (0, 0);
        let mut results = std::mem::take(&mut self.unrecorded);
        let mut accepted = 0;
        loop {
            accepted += results.iter().filter(|(_, r)| is_accepted(r)).count();
            let taking = !stop() && self.has_work().await && self.provide_sessions(&mut busy).await;
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
                            let (shared, from) = (self.shared.clone(), sender(&job.claimed.frozen.from).to_owned());
                            self.dialogues += 1;
                            busy.spawn(async { Ended::Dialogue(Box::new(hand_over(shared, seated, from, job).await)) });
                        }
                        None => {
                            self.floors.forget();
                            results.push((job, Record::PutBack));
                        }
                    },
                    Command::Record(record) => results.push((job, record)),
                    _ => {}
                }
            }
            if busy.is_empty() && results.is_empty() && (!taking || self.lanes.1.is_empty()) {
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

    /// What is due is looked for from the beginning: it can be due before what was seen.
    pub fn look_anew(&mut self) {
        self.lanes.0 = None;
        self.floors.forget();
    }

    /// Whether it would have taken work, had the relay had a session left for it.
    #[must_use]
    pub fn waits_for_session(&self) -> bool {
        self.sessions.waits(self.number)
    }

    /// Waits for what ends, and a little longer for more of it: a round costs much the same for one as for fifty.
    async fn gather(&mut self, busy: &mut JoinSet<Ended>, results: &mut Vec<(Job, Record)>) {
        // One slow reply must not keep the other slots from new work: now and then the round is made without.
        let Ok(Some(first)) = tokio::time::timeout(LANES_AGE, busy.join_next()).await else { return };
        self.ended(first, results).await;
        let end = tokio::time::Instant::now() + GATHER;
        while results.len() < self.dialogues * 4
            && let Ok(Some(more)) = tokio::time::timeout_at(end, busy.join_next()).await
        {
            self.ended(more, results).await;
        }
    }

    async fn ended(&mut self, ended: Result<Ended, JoinError>, results: &mut Vec<(Job, Record)>) {
        match ended {
            Ok(Ended::Dialogue(finished)) => self.finish(*finished, results),
            Ok(Ended::Opening(Ok(seated))) => {
                self.opening -= 1;
                self.sessions.reached();
                self.idle.push(seated);
            }
            Ok(Ended::Opening(Err(e))) => {
                self.opening -= 1;
                self.not_opened(&e).await;
            }
            Ok(Ended::Closing) => {}
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

    async fn not_opened(&mut self, e: &mail::OpenError) {
        tracing::warn!(stream = self.stream.name, "{e}; {}", e.hint());
        // What others are open takes the mail; asking for more again and again would only be refused.
        self.grow_at = Some(Instant::now() + GROW);
        if self.dialogues + self.idle.len() > 0 {
            return;
        }
        let told = async {
            self.sessions.unreachable(self.shared.store.read().await?.now());
            relation::not_let_in(&self.shared.store, &self.stream, e, &self.shared.owner).await
        };
        self.trouble = told.await.err();
        self.lanes = (None, Vec::new());
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
        let now = tx.now();
        self.pause = streams::pauses(&mut tx).await?.into_iter().find(|pause| pause.stream == self.stream.name);
        let paused = self.pause.as_ref().is_some_and(|pause| now < pause.probe_at);
        // A cap that is reached, and a relay that cannot be reached, need no sessions yet.
        let later = self.turn_at.is_some_and(|at| now < at);
        let without = self.dialogues + self.opening + self.idle.len() == 0;
        if self.lost >= LOST_IN_A_ROW && without {
            // It takes sessions and drops them: hammering it would help nobody.
            self.lost = 0;
            self.sessions.unreachable(now);
        }
        let mut lanes = match paused || later || (without && self.sessions.let_be(now)) {
            true => Vec::new(),
            false => open_lanes(&mut tx, &self.shared.setting, &self.stream, &mut self.floors).await?,
        };
        if without && !lanes.is_empty() && !self.sessions.may_try(now) {
            lanes.clear();
        }
        self.lanes = (Some(Instant::now()), lanes);
        Ok(())
    }

    /// Nothing to do: what others wait for, or nobody has needed for a while, is given back.
    async fn rest(&mut self) {
        if self.lanes.1.is_empty() {
            self.sessions.content(self.number);
        }
        let all = self.sessions.others_wait(self.number, Duration::ZERO);
        for seated in self.idle.extract_if(.., |s| all || s.session.idle_for() > IDLE) {
            // New work does not wait for it.
            tokio::spawn(seated.close());
        }
    }

    /// Whether a session is open and idle; opens some if there is more work than that. Trouble with the relay is
    /// probed by one session every now and then, and claims nothing: what is not claimed is not lost.
    async fn provide_sessions(&mut self, busy: &mut JoinSet<Ended>) -> bool {
        let now = Instant::now();
        let mut kept = Vec::new();
        for mut seated in self.idle.drain(..) {
            if seated.session.usable(now) && seated.session.alive().await {
                kept.push(seated);
            } else {
                busy.spawn(closing(seated));
            }
        }
        self.idle = kept;
        if self.sessions.others_wait(self.number, PATIENCE)
            && let Some(seated) = self.idle.pop()
        {
            busy.spawn(closing(seated));
            return !self.idle.is_empty();
        }
        let open = self.dialogues + self.opening + self.idle.len();
        // One mail needs one session; where work is plenty, as many again as there are.
        let more = match open {
            0 => 1,
            _ if self.hungry && self.grow_at.is_none_or(|at| now >= at) => open.min(self.slots.saturating_sub(open)),
            _ => 0,
        };
        for _ in 0..more {
            let Some(seat) = self.sessions.take(self.number, open) else { break };
            let transport = self.transport.clone();
            self.opening += 1;
            busy.spawn(async move { Ended::Opening(open_seated(&transport, seat).await) });
        }
        !self.idle.is_empty()
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
                // Of a database that is away, each would only wait for it again.
                let alone = e.is_conflict() || !e.is_away();
                self.unrecorded = self.record_one_by_one(results, alone).await;
                self.lanes.1.clear();
                // Another node had the thread: nothing is wrong, the next round sees it.
                return if e.is_conflict() { Ok(Vec::new()) } else { Err(e) };
            }
        };
        let lost = &self.losses;
        let jobs = claimed.into_iter().map(|claimed| {
            let job = Job {
                lost_before: lost.contains_key(&claimed.id),
                claimed,
                probe: self.pause.is_some(),
                step: Step::Armed,
                bytes: Vec::new(),
                copy: None,
                looked: Instant::now(),
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
        if !results.is_empty() {
            failpoint::pass("recording");
        }
        if !claimed.is_empty() {
            failpoint::pass("arming");
        }
        tx.commit().await?;
        if !results.is_empty() {
            failpoint::pass("recorded");
        }
        if !claimed.is_empty() {
            failpoint::pass("armed");
        }
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
        let taken = claim(tx, &shared.setting, &self.stream, &shared.owner, set, &mut self.lanes.1, most).await?;
        self.turn_at = taken.turn_at;
        if let Some(pause) = &self.pause {
            self.lanes.1.clear();
            if taken.claimed.is_empty() {
                // Nothing was there to find out with: the next that is due does.
                streams::probe_later(tx, &pause.stream, tx.now() + PROBE_SOON).await?;
            }
        }
        Ok(taken.claimed)
    }

    /// A shared commit failed: each outcome for itself, if that may help, and into the spill file what still cannot be
    /// recorded. What cannot even be spilled is kept, and comes again with the next round.
    async fn record_one_by_one(&self, results: Vec<(Job, Record)>, alone: bool) -> Vec<(Job, Record)> {
        let mut left = Vec::new();
        for one in results {
            let recorded = alone && self.shared.record_alone(&self.stream, std::slice::from_ref(&one)).await.is_ok();
            if !recorded && let Err(e) = self.spill(&one) {
                tracing::error!(error = %e, "an outcome can neither be recorded nor spilled; it is kept in memory: {e}");
                left.push(one);
            }
        }
        left
    }

    fn spill(&self, one: &(Job, Record)) -> std::io::Result<()> {
        tracing::error!("an outcome cannot be recorded; it goes to the spill file");
        let of = std::slice::from_ref(one);
        let settled = self.shared.settled(of, &AtFault::default(), one.0.claimed.frozen.date);
        self.shared.spill.append(&settled)?;
        // What was taken back at the last look is spilled, too: the point is that of a relay's answer.
        if settled.iter().any(|one| one.outcome.is_some()) {
            failpoint::pass("spilled");
        }
        Ok(())
    }
}

async fn closing(seated: Seated) -> Ended {
    seated.close().await;
    Ended::Closing
}

async fn open_seated(transport: &Transport, seat: Seat) -> Result<Seated, mail::OpenError> {
    Ok(Seated { session: Session::open(transport).await?, seat })
}
