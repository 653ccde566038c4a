//! Flapping: whatever goes down, comes up, comes up in part, and takes a worker with it, the last mail of every
//! thread is true when it is over. Many subjects, each with a sequence of its own, share one world and its minutes.
//! Two kinds of subjects: a provider with connections, and an incident with components.

mod incident;
mod provider;
mod relay;

use crate::amount::{amount, seed};
use crate::support::{Got, On, World, audited, t};
use allclear::domain::time::{Span, Timestamp};
use allclear::flow::ingest;
use allclear::flow::intake::SignalIn;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use relay::Relay;
use serde_json::Value;
use std::collections::HashMap;

/// Subjects that share a world: many share what each step costs, but PostgreSQL has no time to learn of so many rows.
const fn together(on: On) -> u64 {
    match on {
        On::Sqlite => 625,
        On::Postgres => 125,
    }
}

/// How long things happen.
const MINUTES: i64 = 40;

/// What a sequence says in one minute.
pub enum Said {
    Signal(Value),
    Notice(Value),
}

/// What may happen to a subject, what is then true of it, and what its mails must say.
trait Subject {
    /// Makes what it consists of.
    async fn set_up(&self, w: &World);
    /// Perhaps something happens.
    fn step(&mut self, random: &mut StdRng, now: Timestamp) -> Option<Said>;
    /// What brings it to rest, one word a minute.
    fn calm(&mut self, random: &mut StdRng, now: Timestamp) -> Option<Said>;
    /// Time has come to `now`, and nothing was said.
    fn pass(&mut self, now: Timestamp);
    /// Whether these mails of one of its subscribers were true when they came, and the last is true at rest.
    fn judge(&self, subscriber: &str, mails: &[Got]) -> Result<(), String>;
    fn subscribers(&self) -> Vec<String>;
    /// All that happened, short enough to read.
    fn sequence(&self) -> String;
}

enum Any {
    Provider(Box<provider::Provider>),
    Incident(incident::Incident),
}

macro_rules! each {
    ($any:expr, $one:ident => $do:expr) => {
        match $any {
            Any::Provider($one) => $do,
            Any::Incident($one) => $do,
        }
    };
}

#[derive(Default)]
struct Counts {
    sequences: u64,
    events: u64,
    crashes: usize,
    unanswered: usize,
    mails: usize,
}

/// One world full of subjects, from the beginning to rest.
async fn batch(on: On, number: u64, random: &mut StdRng, counts: &mut Counts) {
    let relay = Relay::default();
    let start = t("2025-06-02T08:00:00Z");
    let mut w = World::with(on, "2025-06-02T08:00:00Z", relay.script(), |setting| {
        (setting.lease, setting.quarantine) = (Span::minutes(3), Span::minutes(4));
        setting.streams.iter_mut().for_each(|stream| stream.slots = 8);
        // A day's changes in an hour are all to be told: what waits for the cap is judged in tests/flow/daily.rs.
        setting.limits.values_mut().for_each(|limits| limits.daily_mails = None);
    })
    .await;
    let mut subjects: Vec<Any> = (0..together(on))
        .map(|i| match random.random_range(0..2) {
            0 => Any::Provider(Box::new(provider::Provider::new(i, random))),
            _ => Any::Incident(incident::Incident::new(i, random)),
        })
        .collect();
    for subject in &subjects {
        each!(subject, one => one.set_up(&w).await);
    }
    let addresses: Vec<String> = subjects.iter().flat_map(|s| each!(s, one => one.subscribers())).collect();
    for minute in 1..=MINUTES + 8 {
        let now = start + Span::minutes(minute);
        w.clock.set(now);
        let mut said = Vec::new();
        for subject in &mut subjects {
            let one = match minute <= MINUTES {
                true => each!(subject, one => one.step(random, now)),
                false => each!(subject, one => one.calm(random, now)),
            };
            said.extend(one);
            each!(subject, one => one.pass(now));
        }
        counts.events += said.len() as u64;
        say(&w, said).await;
        if minute <= MINUTES {
            counts.crashes += relay.crash(&mut w, random).await;
            relay.be_silent_to(&addresses, random);
        }
        w.move_to(now).await;
        relay.answer_all();
    }
    rest(&mut w, &mut subjects).await;
    counts.sequences += together(on);
    counts.mails += w.all().len();
    counts.unanswered += relay.unanswered();
    let mut mails: HashMap<String, Vec<Got>> = HashMap::new();
    for got in w.all() {
        mails.entry(got.to.clone()).or_default().push(got.clone());
    }
    for subject in &subjects {
        for subscriber in each!(subject, one => one.subscribers()) {
            let of = mails.remove(&format!("{subscriber}@example.net")).unwrap_or_default();
            if let Err(what) = each!(subject, one => one.judge(&subscriber, &of)) {
                let told: Vec<_> =
                    of.iter().map(|got| format!("{}: {}", clock(got.at), crate::table::what(got))).collect();
                let sequence = each!(subject, one => one.sequence());
                let rows = rows(&w, &subscriber).await;
                panic!("batch {number}, {subscriber}: {what}\n{sequence}\nits mails:\n{}\n{rows}", told.join("\n"));
            }
        }
    }
    assert!(mails.is_empty(), "mails to strangers: {:?}", mails.keys());
}

/// What the product knows of a subscriber's mails, for whoever looks for the reason of a failure.
async fn rows(w: &World, subscriber: &str) -> String {
    let all = w
        .query(
            "SELECT s.key, CAST(d.created_at AS TEXT), d.class || ' ' || d.state || ' ' || COALESCE(d.reason, '-'),
                 CAST(d.due_at AS TEXT), COALESCE(c.key || ' ' || CAST(i.episode AS TEXT), p.key || ' ' || COALESCE(i.status, '-'))
             FROM delivery d JOIN subscriber s ON s.id = d.subscriber_id
             LEFT JOIN delivery_item i ON i.delivery_id = d.id LEFT JOIN connection c ON c.id = i.connection_id
             LEFT JOIN component p ON p.id = i.component_id ORDER BY d.id",
        )
        .await;
    let minute = |text: &Option<String>| text.as_ref().map(|at| clock(Timestamp(at.parse().unwrap())));
    let of = all.iter().filter(|row| row[0].as_deref() == Some(subscriber));
    let lines = of.map(|r| format!("{:?} {:?} due {:?} {:?}", minute(&r[1]), r[2], minute(&r[3]), r[4]));
    lines.collect::<Vec<_>>().join("\n")
}

async fn say(w: &World, said: Vec<Said>) {
    let mut signals: Vec<SignalIn> = Vec::new();
    for one in said {
        match one {
            Said::Signal(json) => signals.push(serde_json::from_value(json).unwrap()),
            Said::Notice(json) => drop(w.notice(json).await),
        }
    }
    let answers = ingest::many_signals(&w.store, &w.shared.setting.ingest(), &w.caller(), &signals).await.unwrap();
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
}

/// Time passes until nothing waits any more: dwell, quarantine, stability, silence, confirmation, the longest hold.
async fn rest(w: &mut World, subjects: &mut [Any]) {
    // The longest hold is 12 hours.
    for step in [(30, 1), (24, 10), (16, 60)] {
        for _ in 0..step.0 {
            let now = w.now() + Span::minutes(step.1);
            subjects.iter_mut().for_each(|subject| each!(subject, one => one.pass(now)));
            w.move_to(now).await;
        }
    }
}

/// A time on the clock of the sequences, whose minutes count from their beginning.
pub fn clock(at: Timestamp) -> String {
    format!("m{}", (at - t("2025-06-02T08:00:00Z")).0 / Span::minutes(1).0)
}

async fn many(on: On, part: u64, sequences: u64) {
    let seed = seed();
    println!("replay with ALLCLEAR_TEST_SEED={seed}");
    let mut counts = Counts::default();
    for number in 0..sequences.div_ceil(together(on)) {
        // Each batch has numbers of its own: what fails in one needs no other to be seen again.
        let mut random = StdRng::seed_from_u64(seed ^ (part << 48) ^ (number << 32));
        audited(batch(on, number, &mut random, &mut counts)).await;
    }
    let Counts { sequences, events, crashes, unanswered, mails } = counts;
    println!(
        "flapping, {on:?}: {sequences} sequences, {events} events, {crashes} mails in a crash, {unanswered} without \
         an answer, {mails} mails; the last of every thread is true"
    );
}

macro_rules! parts {
    ($($name:ident $on:ident $part:literal $normal:literal;)+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            many(On::$on, $part, amount($normal, $normal * 10)).await;
        }
    )+};
}

// Ten thousand in all, in parts: both cores have something to do, and none takes long.
parts! {
    on_sqlite_01 Sqlite 1 625;
    on_sqlite_02 Sqlite 2 625;
    on_sqlite_03 Sqlite 3 625;
    on_sqlite_04 Sqlite 4 625;
    on_sqlite_05 Sqlite 5 625;
    on_sqlite_06 Sqlite 6 625;
    on_sqlite_07 Sqlite 7 625;
    on_sqlite_08 Sqlite 8 625;
    on_sqlite_09 Sqlite 9 625;
    on_sqlite_10 Sqlite 10 625;
    on_sqlite_11 Sqlite 11 625;
    on_sqlite_12 Sqlite 12 625;
    on_sqlite_13 Sqlite 13 625;
    on_sqlite_14 Sqlite 14 625;
    on_sqlite_15 Sqlite 15 625;
    on_postgres_1 Postgres 16 125;
    on_postgres_2 Postgres 17 125;
    on_postgres_3 Postgres 18 125;
    on_postgres_4 Postgres 19 125;
    on_postgres_5 Postgres 20 125;
}
