//! The dispatcher of one stream: carries out what the sender machine commands. It decides nothing about a mail.
//!
//! One loop owns a group of slots. Each round is one transaction (outcomes recorded, new work claimed), a batch of
//! renders, one look for the batch, and the relay dialogues, which run beside the next rounds.

use super::claim::{Claimed, claim, decide, open_lanes, part};
use super::compose::{self, ComposeError};
use super::copies::Copies;
use super::look::{look, views};
use super::retry;
use super::sender::{After, Command, Event, LOOK_AGE, Record, Step, after};
use super::setting::{Setting, Stream};
use super::spill::Spill;
use crate::domain::delivery::{HandOver, Outcome, Reason, State};
use crate::domain::id::DeliveryId;
use crate::domain::time::{Span, Timestamp};
use crate::mail::{self, Session, Transport};
use crate::store::copies::MailCopy;
use crate::store::queue::Lane;
use crate::store::record::Settled;
use crate::store::{Store, StoreError, Tx, queue, record, view};
use crate::template::Templates;
use crate::template::context::Mail;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::{JoinError, JoinSet};

/// Between two probes of a relay that cannot be reached.
const PROBE: Span = Span::seconds(30);
/// So many sessions lost in a row are trouble with the relay, not with a session.
const LOST_IN_A_ROW: u32 = 3;
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
    idle: Vec<Session>,
    lanes: (Option<Instant>, Vec<Lane>),
    hungry: bool,
    lost: u32,
    probe_at: Option<Timestamp>,
}

struct Job {
    claimed: Claimed,
    step: Step,
    bytes: Vec<u8>,
    copy: Option<MailCopy>,
    looked: Instant,
    phase: Option<crate::domain::incident::Phase>,
}

struct Finished {
    session: Option<Session>,
    job: Option<(Job, Record)>,
}

impl Dispatcher {
    /// A dispatcher with so many slots; it opens sessions when there is work for them.
    #[must_use]
    pub fn new(shared: Shared, stream: Stream, transport: Transport, slots: usize) -> Self {
        let (idle, lanes) = (Vec::new(), (None, Vec::new()));
        Self { shared, stream, transport, slots: slots.max(1), idle, lanes, hungry: false, lost: 0, probe_at: None }
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
                        Some(session) => {
                            busy.spawn(hand_over(self.shared.clone(), session, self.sender(&job), job));
                        }
                        None => results.push((job, Record::PutBack)),
                    },
                    Command::Record(record) => results.push((job, record)),
                    _ => {}
                }
            }
            if busy.is_empty() && results.is_empty() && (!taking || self.lanes.1.is_empty()) {
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
        if self.lanes.0.is_none_or(|read| read.elapsed() > LANES_AGE) {
            let Ok(mut tx) = self.shared.store.read().await else { return false };
            match open_lanes(&mut tx, &self.shared.setting, &self.stream).await {
                Ok(lanes) => self.lanes = (Some(Instant::now()), lanes),
                Err(e) => {
                    tracing::warn!(error = %e, "the lanes cannot be read: {e}");
                    return false;
                }
            }
        }
        !self.lanes.1.is_empty()
    }

    /// Makes sure that a session is open and idle if a slot is free. Trouble with the relay is probed by one session
    /// every now and then, and claims nothing: what is not claimed is not lost.
    async fn open_session(&mut self, busy: usize) -> Result<bool, StoreError> {
        let now = Instant::now();
        let mut kept = Vec::new();
        for mut session in self.idle.drain(..) {
            if session.usable(now) && session.alive().await {
                kept.push(session);
            } else {
                session.close().await;
            }
        }
        self.idle = kept;
        let open = busy + self.idle.len();
        if open == 0 {
            return self.probe().await;
        }
        if self.hungry && open < self.slots {
            // Work is plenty: as many sessions again as there are. One mail needs one session.
            let more = open.min(self.slots - open);
            let opening: FuturesUnordered<_> = (0..more).map(|_| Session::open(&self.transport)).collect();
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
        match Session::open(&self.transport).await {
            Ok(session) => {
                self.probe_at = None;
                self.idle.push(session);
                Ok(true)
            }
            Err(e) => {
                tracing::warn!(stream = self.stream.name, "{e}; {}", e.hint());
                self.probe_at = Some(time + PROBE);
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
            let job = Job { claimed, step: Step::Armed, bytes: Vec::new(), copy: None, looked: Instant::now(), phase };
            (job, Command::Render)
        });
        Ok(self.shared.advance(jobs.collect()).await)
    }

    async fn record_and_claim(&mut self, results: &[(Job, Record)], taking: bool) -> Result<Vec<Claimed>, StoreError> {
        let shared = &self.shared;
        let mut tx = shared.store.begin().await?;
        let noted = if results.is_empty() { None } else { shared.write(&mut tx, results).await? };
        let claimed = if taking {
            let set = shared.templates.set_hash();
            claim(&mut tx, &shared.setting, &shared.owner, set, &mut self.lanes.1, self.idle.len()).await?
        } else {
            Vec::new()
        };
        tx.commit().await?;
        shared.copies.noted(noted);
        self.hungry = claimed.len() == self.idle.len();
        Ok(claimed)
    }

    /// A shared commit failed: each outcome for itself, and into the spill file what still cannot be recorded.
    async fn record_one_by_one(&self, results: &[(Job, Record)]) {
        for one in results {
            let one = std::slice::from_ref(one);
            if let Err(e) = self.shared.record(one).await {
                tracing::error!(error = %e, "an outcome cannot be recorded; it goes to the spill file");
                let settled = self.shared.settled(one, one[0].0.claimed.frozen.date);
                if let Err(e) = self.shared.spill.append(&settled) {
                    tracing::error!(error = %e, "the spill file cannot be written; the lease will tell");
                }
            }
        }
    }
}

const fn is_accepted(record: &Record) -> bool {
    matches!(record, Record::Attempt(Outcome { hand_over: HandOver::Accepted, .. }))
}

impl Shared {
    async fn record(&self, results: &[(Job, Record)]) -> Result<(), StoreError> {
        let mut tx = self.store.begin().await?;
        let noted = self.write(&mut tx, results).await?;
        tx.commit().await?;
        self.copies.noted(noted);
        Ok(())
    }

    /// Writes outcomes; what it answers is for [`Copies::noted`], after the commit.
    async fn write(&self, tx: &mut Tx, results: &[(Job, Record)]) -> Result<Option<Timestamp>, StoreError> {
        let noted = self.copies.note(tx).await?;
        let settled = self.settled(results, tx.now());
        record::outcomes(tx, &self.owner, &settled).await?;
        Ok(noted)
    }

    fn settled(&self, results: &[(Job, Record)], now: Timestamp) -> Vec<Settled> {
        results.iter().map(|(job, record)| settle(job, record, &self.setting, now)).collect()
    }

    /// Carries out commands until each job is to be handed over, recorded or dropped.
    async fn advance(&self, mut jobs: Vec<(Job, Command)>) -> Vec<(Job, Command)> {
        loop {
            for (job, command) in &mut jobs {
                if matches!(command, Command::Render) {
                    let event = render(job, &self.templates);
                    *command = job.on(event);
                }
            }
            for (job, command) in &mut jobs {
                if let Command::Refreeze(split) = command {
                    let event = self.refreeze(job, split).await;
                    *command = job.on(event);
                }
            }
            self.look(&mut jobs).await;
            if jobs.iter().all(|(_, c)| matches!(c, Command::HandOver | Command::Record(_) | Command::Drop)) {
                return jobs;
            }
        }
    }

    /// The last look: new statements after the claim's commit.
    async fn look(&self, jobs: &mut [(Job, Command)]) {
        let ids: Vec<DeliveryId> =
            jobs.iter().filter(|(_, c)| *c == Command::Look).map(|(job, _)| job.claimed.id).collect();
        if ids.is_empty() {
            return;
        }
        let looked = Instant::now();
        let seen = async {
            let mut tx = self.store.read().await?;
            Ok::<_, StoreError>((look(&mut tx, &ids).await?, tx.now()))
        };
        let seen = seen.await;
        for (job, command) in jobs.iter_mut().filter(|(_, c)| *c == Command::Look) {
            job.looked = looked;
            let event = match &seen {
                Err(_) => Event::Blind,
                Ok((seen, now)) => Event::Looked(
                    seen.get(&job.claimed.id)
                        .filter(|s| s.token == job.claimed.token && s.state == State::Sending)
                        .map(|s| decide(&s.gate, &self.setting, *now)),
                ),
            };
            *command = job.on(event);
        }
        if let Err(e) = seen {
            tracing::warn!(error = %e, "the last look failed; nothing is sent: {e}");
        }
    }

    async fn refreeze(&self, job: &mut Job, split: &super::gate::Split) -> Event {
        match self.try_refreeze(job, split).await {
            Ok(ours) => Event::Refrozen(ours),
            Err(e) => {
                tracing::warn!(error = %e, "a smaller mail cannot be stored; nothing is sent: {e}");
                Event::Blind
            }
        }
    }

    async fn try_refreeze(&self, job: &mut Job, split: &super::gate::Split) -> Result<bool, StoreError> {
        let mut tx = self.store.begin().await?;
        let now = tx.now();
        let seen = views(&mut tx, &[job.claimed.id]).await?;
        let Some(seen) = seen.get(&job.claimed.id) else { return Ok(false) };
        let notices: Vec<_> = seen.row.notice_id.into_iter().collect();
        let payloads = view::payloads(&mut tx, &notices).await?.into_iter().collect();
        let open: Vec<String> =
            view::still_open(&mut tx, &[job.claimed.id]).await?.into_iter().map(|row| row.1).collect();
        let frozen = compose::freeze(seen, &split.keep, &open, &payloads, &self.setting, now);
        let Ok(frozen) = frozen else { return Ok(false) };
        part(&mut tx, seen, split, now).await?;
        let context = serde_json::to_string(&frozen).unwrap_or_default();
        let ours = queue::refreeze(&mut tx, job.claimed.id, job.claimed.token, &context).await?;
        if ours {
            tx.commit().await?;
            job.claimed.frozen = frozen;
        }
        Ok(ours)
    }
}

impl Job {
    fn on(&mut self, event: Event) -> Command {
        let (step, command) = self.step.on(event);
        self.step = step;
        command
    }
}

fn render(job: &mut Job, templates: &Templates) -> Event {
    match compose::bytes(&job.claimed.frozen, templates) {
        Ok(bytes) => {
            job.bytes = bytes;
            Event::Rendered
        }
        Err(ComposeError(why)) => Event::RenderFailed(why),
    }
}

/// The dialogue with the relay. The look must be fresh when DATA is written.
async fn hand_over(shared: Shared, mut session: Session, from: String, mut job: Job) -> Finished {
    let to = job.claimed.frozen.to.clone();
    if let Err(outcome) = session.envelope(&from, &to).await {
        let _ = job.on(Event::HandedOver(of(outcome.clone())));
        return Finished { session: Some(session), job: Some((job, Record::Attempt(of(outcome)))) };
    }
    while job.looked.elapsed() > LOOK_AGE {
        let command = job.on(Event::Late);
        let (again, command) = match shared.advance(vec![(job, command)]).await.pop() {
            Some(advanced) => advanced,
            None => return Finished { session: None, job: None },
        };
        job = again;
        match command {
            Command::HandOver => {}
            Command::Record(record) => {
                session.reset().await;
                return Finished { session: Some(session), job: Some((job, record)) };
            }
            _ => {
                session.reset().await;
                return Finished { session: Some(session), job: None };
            }
        }
    }
    let outcome = match tokio::time::timeout(shared.dialogue, session.data(&job.bytes)).await {
        Ok(outcome) => of(outcome),
        Err(_) => of(mail::Outcome::Unknown { why: "the dialogue took longer than allowed".to_owned() }),
    };
    if session.wrote_mail() {
        job.copy = shared.copies.of(job.claimed.frozen.mail.kind(), &job.bytes);
    }
    let session = session.usable(Instant::now()).then_some(session);
    match job.on(Event::HandedOver(outcome)) {
        Command::Record(record) => Finished { session, job: Some((job, record)) },
        _ => Finished { session, job: None },
    }
}

fn of(outcome: mail::Outcome) -> Outcome {
    let reply = |hand_over, reply: mail::Reply| Outcome {
        hand_over,
        code: Some(reply.code),
        enhanced: reply.enhanced,
        words: reply.text,
    };
    let cut = |hand_over, words| Outcome { hand_over, code: None, enhanced: None, words };
    match outcome {
        mail::Outcome::Accepted(r) => reply(HandOver::Accepted, r),
        mail::Outcome::Deferred(r) => reply(HandOver::Deferred, r),
        mail::Outcome::Refused(r) => reply(HandOver::Refused, r),
        mail::Outcome::NotHandedOver { why } => cut(HandOver::NotHandedOver, why),
        mail::Outcome::Unknown { why } => cut(HandOver::Unknown, why),
    }
}

fn settle(job: &Job, record: &Record, setting: &Setting, now: Timestamp) -> Settled {
    let blank = Settled {
        id: job.claimed.id,
        token: job.claimed.token,
        outcome: None,
        state: State::Queued,
        reason: None,
        due_at: None,
        quarantine_until: None,
        counts: false,
        phase: job.phase,
        copy: job.copy.clone(),
    };
    match record {
        Record::Attempt(outcome) => {
            let wait = retry::wait(setting.retry, job.claimed.tries + 1, rand::random());
            let outcome = Some(outcome.clone());
            match after(outcome.as_ref().map_or(HandOver::Unknown, |o| o.hand_over), now, wait, setting.quarantine) {
                After::Accepted => Settled { outcome, state: State::Accepted, ..blank },
                After::Queued { due_at, counts } => {
                    Settled { outcome, due_at: Some(due_at), reason: Some(Reason::Retry), counts, ..blank }
                }
                After::Failed(reason) => Settled { outcome, state: State::Failed, reason: Some(reason), ..blank },
                After::Unknown { until } => Settled {
                    outcome,
                    state: State::Unknown,
                    reason: Some(Reason::Ambiguous),
                    quarantine_until: Some(until),
                    ..blank
                },
            }
        }
        Record::Gated(verdict) => {
            use super::gate::Verdict;
            let (state, reason, due_at) = match verdict {
                Verdict::Wait(until, reason) => (State::Queued, *reason, Some(*until)),
                Verdict::Withdraw(reason) => (State::Withdrawn, *reason, None),
                Verdict::Suppress => (State::Suppressed, Reason::Suppressed, None),
                Verdict::Cancel(reason) => (State::Cancelled, *reason, None),
                Verdict::Park(reason) => (State::Parked, *reason, None),
                Verdict::Send(_) => (State::Queued, Reason::Retry, Some(now)),
            };
            Settled { state, reason: Some(reason), due_at, ..blank }
        }
        Record::Broken(why) => {
            tracing::error!(delivery = %job.claimed.id, "delivery {} cannot be rendered: {why}", job.claimed.id);
            Settled { state: State::Parked, reason: Some(Reason::TemplateFault), ..blank }
        }
        Record::PutBack => Settled { reason: Some(Reason::Retry), due_at: Some(now), ..blank },
    }
}
