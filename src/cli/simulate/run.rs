//! One course of the incident: time is driven from minute to minute, and each step is timed.

use super::course::{BROKEN, COMPONENT, LAST, MONDAY, RECONNECTING, START, address, key, minute, signals};
use super::ledger::Ledger;
use super::report::{Outcome, Step};
use super::{Course, WHO};
use crate::cli::drill::{self, Drill, DrillError};
use crate::domain::connection::{By, What};
use crate::domain::delivery::State;
use crate::domain::hold::{HoldCause, HoldScope};
use crate::domain::id::{ComponentId, RecoveryId};
use crate::domain::kind::Kind;
use crate::domain::surge::Rules;
use crate::flow::bulk::{self, BulkError};
use crate::flow::dispatch::Shared;
use crate::flow::import::{self, Event, Format, Job};
use crate::flow::ingest::{self, Caller, Keyed};
use crate::flow::intake::{Covers, SignalIn};
use crate::flow::setting::Setting;
use crate::flow::worker;
use crate::store::{Store, StoreError, audit, holds, queue, recover, setup};
use std::cell::Cell;
use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Between two looks into the relay's book.
const LOOK: Duration = Duration::from_millis(10);
/// The operator's hold comes when this share of all has been mailed: 200,000 of 1.7 million.
const LATE: (usize, usize) = (200_000, 1_700_000);
/// Slots of the one stream.
const SLOTS: usize = 32;
/// Minutes between two rounds while inboxes are reconnected.
const ROUND: usize = 6;

/// A course under way.
pub(super) struct Run {
    drill: Drill,
    course: Course,
    inboxes: usize,
    component: ComponentId,
    ledger: Ledger,
    steps: Vec<Step>,
    held_at: Option<Instant>,
    /// All that was said until this minute has been taken in.
    heard: i64,
}

impl Run {
    /// A world with everybody in it, before anything has happened.
    pub async fn new(url: &str, folder: &Path, course: Course, inboxes: usize) -> Result<Self, DrillError> {
        let drill = Drill::open(url, folder, START, "Example", setting(course)).await?;
        let began = Instant::now();
        people(&drill.store, inboxes).await?;
        let component = setup::component_id(&mut drill.store.read().await?, COMPONENT).await?;
        let component = component.ok_or(DrillError::Simulation("the component is not there".to_owned()))?;
        let ledger = Ledger::new(inboxes);
        let steps = vec![Step::new("people in", START, began.elapsed())];
        Ok(Self { drill, course, inboxes, component, ledger, steps, held_at: None, heard: 0 })
    }

    /// Goes through the course to its end; `told` hears of every step.
    pub async fn play(mut self, mut told: impl FnMut(&Step)) -> Result<Outcome, DrillError> {
        let (mut hearing, mut planning, mut mailing) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        let mut detected = None;
        for now in (1..=BROKEN + 20).chain((BROKEN + 25..RECONNECTING).step_by(10)) {
            self.drill.clock.set(minute(now));
            hearing += self.hear(now).await?;
            let began = Instant::now();
            worker::plan_all(&self.drill.shared).await?;
            planning += began.elapsed();
            let began = Instant::now();
            self.settle().await?;
            mailing += began.elapsed();
            if detected.is_none() && self.is_down().await? {
                detected = Some(minute(now));
            }
        }
        self.step(Step::new("signals in", minute(BROKEN), hearing), &mut told);
        self.step(Step::new("planned", minute(BROKEN), planning), &mut told);
        self.step(Step::new("mailed and put off", minute(RECONNECTING - 1), mailing), &mut told);
        if let Some(at) = detected {
            self.step(Step::new("outage detected", at, Duration::ZERO), &mut told);
        }
        let late = self.held_at.zip(self.ledger.last_request).map(|(held, last)| last.saturating_duration_since(held));
        if let Some(late) = late {
            self.step(Step::new("last request after the hold", minute(RECONNECTING - 1), late), &mut told);
        }
        let (held, mailed) = (self.count(State::Queued).await?, self.ledger.asked);
        let recovery = self.recover(&mut told).await?;
        let (mut hearing, mut settling) = (Duration::ZERO, Duration::ZERO);
        for now in (RECONNECTING..LAST).step_by(ROUND) {
            let until = (now + ROUND as i64).min(LAST);
            self.drill.clock.set(minute(until));
            hearing += self.hear(until).await?;
            let began = Instant::now();
            self.settle().await?;
            settling += began.elapsed();
        }
        self.step(Step::new("confirmations in", minute(LAST), hearing), &mut told);
        self.step(Step::new("confirmations swept, the broken told", minute(LAST), settling), &mut told);
        for now in (LAST + 60..MONDAY).step_by(240).chain([MONDAY]) {
            self.drill.clock.set(minute(now));
            self.settle().await?;
        }
        self.end(held, mailed, recovery).await
    }

    fn step(&mut self, step: Step, told: &mut impl FnMut(&Step)) {
        told(&step);
        self.steps.push(step);
    }

    /// Takes in what was said since until a minute, in bulk.
    async fn hear(&mut self, until: i64) -> Result<Duration, DrillError> {
        let (lines, count) = signals(self.inboxes, self.heard, until);
        self.heard = until;
        let began = Instant::now();
        let (mut taken, mut wrong) = (0, None);
        let caller = Caller { source: WHO.to_owned(), may_cover: false };
        let settings = self.drill.setting.ingest();
        let done = bulk::run(&self.drill.store, &settings, &caller, lines.as_slice(), |line| {
            match line.answer {
                Ok(_) => taken += 1,
                Err(e) => wrong = Some(e),
            }
            true
        });
        done.await.map_err(|e| match e {
            BulkError::Ingest { source, .. } => source.into(),
            BulkError::Input { .. } => DrillError::Simulation(e.to_string()),
        })?;
        match wrong {
            Some(wrong) => Err(wrong.into()),
            None if taken != count => Err(DrillError::Simulation(format!("{taken} of {count} signals were taken in"))),
            None => Ok(began.elapsed()),
        }
    }

    /// Lets the dispatcher do what is to be done now, and keeps the relay's book meanwhile. In the late course the
    /// operator's hold comes in between.
    async fn settle(&mut self) -> Result<(), DrillError> {
        let threshold = (self.inboxes * LATE.0 / LATE.1).max(1) as u64;
        let Self { drill, ledger, held_at, course, component, .. } = self;
        let done = Cell::new(false);
        let working = async {
            let settled = drill.worker.settle().await;
            done.set(true);
            settled
        };
        let watching = async {
            loop {
                ledger.take(&drill.sink);
                if *course == Course::Late && held_at.is_none() && ledger.asked >= threshold {
                    hold(&drill.store, *component).await?;
                    *held_at = Some(Instant::now());
                }
                if done.get() {
                    ledger.take(&drill.sink);
                    return Ok::<_, StoreError>(());
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        let (settled, watched) = tokio::join!(working, watching);
        settled?;
        Ok(watched?)
    }

    /// The component's recovery, declared to cover its connections; the sweep runs beside the dispatcher, as it does
    /// where it serves.
    async fn recover(&mut self, told: &mut impl FnMut(&Step)) -> Result<RecoveryId, DrillError> {
        let at = minute(RECONNECTING);
        self.drill.clock.set(at);
        self.hear(RECONNECTING).await?;
        self.settle().await?;
        let said = SignalIn {
            connection: None,
            component: Some(COMPONENT.to_owned()),
            what: What::Recovered,
            fault: None,
            by: Some(By::Automatic),
            connections: Some(Covers::All),
            since: Some(START),
            confirm_within: None,
            observed_at: Some(at),
            sequence: None,
        };
        let caller = Caller { source: WHO.to_owned(), may_cover: true };
        let keyed = Keyed { key: None, body: &[] };
        let began = Instant::now();
        let answer = ingest::signal(&self.drill.store, &self.drill.setting.ingest(), &caller, &said, keyed).await?;
        let t = Instant::now();
        let recovery = answer.recovery_id.and_then(|id| id.parse().ok());
        let recovery = recovery.ok_or(DrillError::Simulation("the recovery was not taken for one".to_owned()))?;
        self.step(Step::new("recovery (T)", at, t - began), told);
        let shared = self.drill.shared.clone();
        let swept = Cell::new(None);
        let sweeping = async {
            let done = sweep(&shared, recovery).await;
            swept.set(Some(t.elapsed()));
            done
        };
        let mailing = async {
            while swept.get().is_none() {
                self.settle().await?;
                tokio::time::sleep(LOOK).await;
            }
            self.settle().await
        };
        let (done, mailed) = tokio::join!(sweeping, mailing);
        done?;
        mailed?;
        self.step(Step::new("swept", at, swept.get().unwrap_or_default()), told);
        for (name, when) in
            [("first correction", self.ledger.first_correction), ("last correction", self.ledger.last_correction)]
        {
            if let Some(when) = when {
                self.step(Step::new(name, at, when.saturating_duration_since(t)), told);
            }
        }
        if self.held_at.is_some() {
            let mut tx = self.drill.store.begin().await?;
            holds::release(&mut tx, |_| true, "the provider is back", WHO).await?;
            tx.commit().await?;
        }
        Ok(recovery)
    }

    async fn is_down(&self) -> Result<bool, StoreError> {
        let lanes = queue::lanes(&mut self.drill.store.read().await?, &HashMap::new()).await?;
        Ok(lanes.iter().any(|lane| lane.fence_id == self.component.0 && lane.down_since.is_some()))
    }

    async fn count(&self, of: State) -> Result<i64, StoreError> {
        let counts = queue::counts(&mut self.drill.store.read().await?).await?;
        Ok(counts.iter().find(|(state, _)| *state == of).map_or(0, |(_, count)| *count))
    }

    async fn end(mut self, held: i64, mailed: u64, recovery: RecoveryId) -> Result<Outcome, DrillError> {
        // Some are known only when others have been told.
        self.steps.sort_by_key(|step| step.at);
        let mut undecided = 0;
        for state in [State::Queued, State::Sending, State::Unknown, State::Parked] {
            undecided += self.count(state).await?;
        }
        let (accepted, withdrawn) = (self.count(State::Accepted).await?, self.count(State::Withdrawn).await?);
        let mut tx = self.drill.store.read().await?;
        let swept = recover::progress(&mut tx, recovery).await?;
        Ok(Outcome {
            course: self.course,
            mailed,
            held,
            withdrawn,
            asked: self.ledger.asked,
            corrected: self.ledger.corrected,
            strays: self.ledger.strays,
            promises: self.ledger.promises(),
            accepted,
            undecided,
            corrected_by_recovery: swept.map_or(0, |progress| progress.corrected),
            findings: audit::run(&mut tx).await?,
            steps: self.steps,
        })
    }
}

/// The defaults, in one stream.
fn setting(course: Course) -> Setting {
    let mut setting = drill::setting("Example <account@example.com>");
    for stream in &mut setting.streams {
        stream.slots = SLOTS;
    }
    setting.page = 2_000;
    setting.surge = (course == Course::Detected).then(Rules::default);
    setting.public_url = Some("https://app.example.com/inboxes".to_owned());
    setting.support_url = Some("https://example.com/support".to_owned());
    setting
}

async fn hold(store: &Store, component: ComponentId) -> Result<(), StoreError> {
    let mut tx = store.begin().await?;
    let scope = HoldScope::Component(component);
    holds::put(&mut tx, scope, HoldCause::Operator, "a flood of disconnected inboxes", None, WHO).await?;
    tx.commit().await
}

/// One customer for each inbox, the way they come in everywhere: by import.
async fn people(store: &Store, inboxes: usize) -> Result<(), DrillError> {
    let component = format!("key,name\n{COMPONENT},Outlook\n");
    import(store, Kind::Components, std::iter::once(component.into_bytes())).await?;
    let customer = |n: usize| format!("{},{},en,UTC\n", key(n), address(n)).into_bytes();
    let head = std::iter::once(b"key,address,locale,zone\n".to_vec());
    import(store, Kind::Subscribers, head.chain((0..inboxes).map(customer))).await?;
    let inbox = |n: usize| format!("{},{COMPONENT},{},{}\n", key(n), address(n), key(n)).into_bytes();
    let head = std::iter::once(b"key,component,name,subscribers\n".to_vec());
    import(store, Kind::Connections, head.chain((0..inboxes).map(inbox))).await
}

/// Sweeps until it is done, whoever does it: the dispatcher's own worker takes pages of it, too.
async fn sweep(shared: &Shared, recovery: RecoveryId) -> Result<(), StoreError> {
    loop {
        worker::recover_all(shared).await?;
        let told = recover::progress(&mut shared.store.read().await?, recovery).await?;
        if told.is_none_or(|told| told.swept_at.is_some()) {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn import(
    store: &Store,
    kind: Kind,
    lines: impl Iterator<Item = Vec<u8>> + Send + 'static,
) -> Result<(), DrillError> {
    let job = Job { kind, format: Format::Csv { delimiter: None }, dry_run: false };
    let mut refused = None;
    let input = Lines { lines, line: Vec::new(), read: 0 };
    let mut hear = |event| {
        if let Event::Refused(refusal) = event {
            refused.get_or_insert(format!("{refusal:?}"));
        }
    };
    let done = import::run(store, job, input, &CancellationToken::new(), &mut hear).await;
    done.map_err(|e| DrillError::Simulation(e.to_string()))?;
    refused.map_or(Ok(()), |refused| Err(DrillError::Simulation(refused)))
}

/// A file that is written while it is read.
struct Lines<I> {
    lines: I,
    line: Vec<u8>,
    read: usize,
}

impl<I: Iterator<Item = Vec<u8>>> Read for Lines<I> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.read == self.line.len() {
            self.line = self.lines.next().unwrap_or_default();
            self.read = 0;
        }
        let count = into.len().min(self.line.len() - self.read);
        into[..count].copy_from_slice(&self.line[self.read..self.read + count]);
        self.read += count;
        Ok(count)
    }
}
