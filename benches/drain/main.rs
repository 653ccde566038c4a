//! How fast a full queue drains through real SMTP sessions: claim, render, last look, dialogue, record.
//!
//! ```text
//! cargo bench --bench drain
//! cargo bench --bench drain -- --databases sqlite --mails 20000 --slots 16,64 --groups 2
//! cargo bench --bench drain -- --rtt 20 --slots 32 --mails 5000
//! cargo bench --bench drain -- --backlog 1700000 --seconds 5
//! cargo bench --bench drain -- --idle 500
//! ```
//!
//! PostgreSQL is measured when `ALLCLEAR_TEST_POSTGRES` names a server. Every run is a process of its own on a
//! fresh database, and so is the relay, which only counts: CPU and memory of each can be told apart. The mails are
//! made through ingest and plan, and both durable settings and the number of mails are read back.
//!
//! - `--rtt` milliseconds pass before each answer of the relay, as if it were that far away.
//! - `--backlog` so many mails wait beside those counted with `--mails`: after so many `--seconds` of draining a queue of
//!   each size it is seen how far each came. Making a backlog takes longer than draining from it.
//! - `--groups` loops share the slots; `serve` has two.
//! - `--idle` so many notices of one mail each, one after the other, with `serve` and nothing else to do: the time from
//!   the request to the relay's having the mail. Nothing else is measured then.

#[path = "../common/mod.rs"]
mod common;
mod fill;
mod idle;
mod process;
mod relay;

use allclear::domain::delivery::State;
use allclear::flow::worker;
use allclear::mail::{Relay, Transport};
use allclear::store::queue;
use common::place::Place;
use common::product::{durability, shared};
use common::{Fallible, databases, given, list, peak};
use fill::fill;
use process::{cpu, postmaster, server};
use relay::{Relaying, child, sink};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

fn main() -> Fallible<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let at = |n: usize| args.get(n).cloned().unwrap_or_default();
    match at(0).as_str() {
        "sink" => runtime.block_on(sink(Duration::from_millis(at(1).parse()?))),
        "fill" => runtime.block_on(fill(&at(1), at(2).parse()?)),
        "run" => runtime.block_on(run(&at(1), at(2).parse()?, at(3).parse()?, at(4).parse()?, at(5).parse()?)),
        _ => {
            let options = Options::read(&args)?;
            match options.idle {
                Some(count) => idle(&options, count),
                None => all(&options),
            }
        }
    }
}

struct Options {
    databases: Vec<String>,
    mails: usize,
    backlog: Option<usize>,
    slots: Vec<usize>,
    groups: usize,
    repeat: usize,
    rtt: u64,
    seconds: f64,
    idle: Option<u64>,
}

impl Options {
    fn read(args: &[String]) -> Fallible<Self> {
        let given = |name: &str| given(args, name);
        Ok(Self {
            databases: databases(args),
            mails: given("--mails").unwrap_or("20000").parse()?,
            backlog: given("--backlog").map(str::parse).transpose()?,
            slots: list(given("--slots").unwrap_or("32,64")).iter().map(|s| s.parse()).collect::<Result<_, _>>()?,
            groups: given("--groups").unwrap_or("2").parse()?,
            repeat: given("--repeat").unwrap_or("1").parse()?,
            rtt: given("--rtt").unwrap_or("0").parse()?,
            seconds: given("--seconds").unwrap_or("0").parse()?,
            idle: given("--idle").map(str::parse).transpose()?,
        })
    }

    /// Slots and mails of each run: of all slots, and with the most of them a longer queue.
    fn cases(&self) -> Vec<(usize, usize)> {
        let most = self.slots.iter().copied().max().unwrap_or(64);
        let longer = self.backlog.unwrap_or(self.mails * 2);
        self.slots.iter().map(|slots| (*slots, self.mails)).chain([(most, longer)]).collect()
    }
}

/// What one run measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Measured {
    seconds: f64,
    /// Seconds of CPU of the dispatching process.
    own: f64,
    /// Of the PostgreSQL server's processes, where they can be seen.
    server: Option<f64>,
    /// The most memory the process ever had, in KiB.
    peak_kib: u64,
    settings: String,
}

fn idle(options: &Options, count: u64) -> Fallible<()> {
    for database in &options.databases {
        let times = idle::notices(database, count.max(1))?;
        let at =
            |part: usize| times.get((times.len() * part).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default();
        println!("{database}: {count} notices, p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms", at(50), at(99), at(100));
    }
    Ok(())
}

fn all(options: &Options) -> Fallible<()> {
    let mut rates: Vec<(String, usize, usize, f64)> = Vec::new();
    let mut told: Option<String> = None;
    let head = ["database", "slots", "queued", "mails", "mails/s", "CPU s/1k", "server", "sink", "MiB", "MB out"];
    println!(
        "{:<11}{:>6}{:>8}{:>8}{:>9}{:>10}{:>8}{:>8}{:>7}{:>8}",
        head[0], head[1], head[2], head[3], head[4], head[5], head[6], head[7], head[8], head[9]
    );
    for database in &options.databases {
        for (slots, queued) in options.cases().into_iter().flat_map(|case| std::iter::repeat_n(case, options.repeat)) {
            let place = Place::new("drain", database)?;
            let mut relay = Relaying::start(options.rtt)?;
            child(&["fill", &place.url, &queued.to_string()])?;
            let numbers = [slots.to_string(), options.groups.to_string(), options.seconds.to_string()];
            let said = child(&["run", &place.url, &relay.port.to_string(), &numbers[0], &numbers[1], &numbers[2]])?;
            let m: Measured = serde_json::from_str(said.trim())?;
            let (count, bytes, sink) = relay.counts()?;
            if count != queued as u64 && options.seconds == 0.0 {
                return Err(format!("{count} mails arrived, not {queued}").into());
            }
            if told.as_ref() != Some(&m.settings) {
                println!("{database}: {}", m.settings);
                told = Some(m.settings.clone());
            }
            let thousands = count as f64 / 1000.0;
            let server = m.server.map_or("-".to_owned(), |s| format!("{:.3}", s / thousands));
            let rate = count as f64 / m.seconds;
            println!(
                "{database:<11}{slots:>6}{queued:>8}{count:>8}{rate:>9.0}{:>10.3}{server:>8}{:>8.3}{:>7.1}{:>8.1}",
                m.own / thousands,
                sink / thousands,
                m.peak_kib as f64 / 1024.0,
                bytes as f64 / 1e6,
            );
            rates.push((database.clone(), slots, queued, rate));
        }
    }
    ratios(options, &rates);
    Ok(())
}

fn ratios(options: &Options, rates: &[(String, usize, usize, f64)]) {
    let best = |database: &str, (slots, queued): (usize, usize)| {
        rates.iter().filter(|r| r.0 == database && (r.1, r.2) == (slots, queued)).map(|r| r.3).fold(0.0, f64::max)
    };
    let cases = options.cases();
    let [few, .., many, longer] = cases[..] else { return };
    for database in &options.databases {
        println!("{database}: {} slots against {}: {:.2}", many.0, few.0, best(database, many) / best(database, few));
        let ratio = best(database, longer) / best(database, many);
        println!("{database}: {} queued against {}: {ratio:.2}", longer.1, many.1);
    }
    if best("postgres", many) > 0.0 && best("sqlite", many) > 0.0 {
        let ratio = best("postgres", many) / best("sqlite", many);
        println!("postgres against sqlite, {} slots: {ratio:.2}", many.0);
    }
}

/// Drains until the queue is empty, or for so many seconds when those are not 0.
async fn run(url: &str, port: u16, slots: usize, groups: usize, seconds: f64) -> Fallible<()> {
    let shared = shared(url, slots, None).await?;
    let transports = BTreeMap::from([("all".to_owned(), Transport::Smtp(Relay::local(port)))]);
    let settings = durability(&shared.store).await?;
    let postmaster = postmaster(url).await?;
    let before = (cpu("self")?, postmaster.and_then(server));
    let began = Instant::now();
    let over = move || seconds > 0.0 && began.elapsed().as_secs_f64() >= seconds;
    let draining: Vec<_> = worker::dispatchers(&shared, &transports, groups)
        .into_iter()
        // One whose neighbours hold all that is due ends; it looks again until nothing is left for it.
        .map(|mut dispatcher| {
            tokio::spawn(async move {
                while dispatcher.drain(over).await? > 0 {}
                Ok::<_, allclear::store::StoreError>(())
            })
        })
        .collect();
    for one in draining {
        one.await??;
    }
    let took = began.elapsed().as_secs_f64();
    let server = postmaster.and_then(server).zip(before.1).map(|(after, before)| after - before);
    let own = cpu("self")? - before.0;
    let counts = queue::counts(&mut shared.store.read().await?).await?;
    let others = |state: &State| *state != State::Accepted && (*state != State::Queued || seconds == 0.0);
    if counts.iter().any(|(state, _)| others(state)) {
        return Err(format!("not everything was taken: {counts:?}").into());
    }
    println!("{}", serde_json::to_string(&Measured { seconds: took, own, server, peak_kib: peak()?, settings })?);
    Ok(())
}
