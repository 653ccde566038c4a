//! How fast a full queue drains through real SMTP sessions: claim, render, last look, dialogue, record.
//!
//! ```text
//! cargo bench --bench drain
//! cargo bench --bench drain -- --databases sqlite --mails 20000 --slots 16,64 --groups 2
//! ```
//!
//! PostgreSQL is measured when `ALLCLEAR_TEST_POSTGRES` names a server. Every run is a process of its own on a
//! fresh database, and so is the relay, which only counts: CPU and memory of each can be told apart. The mails are
//! made through ingest and plan, and both durable settings and the number of mails are read back.

use allclear::domain::class::{Class, Limits};
use allclear::domain::connection::{Fault, What};
use allclear::domain::delivery::State;
use allclear::domain::time::Span;
use allclear::flow::copies::Copies;
use allclear::flow::dispatch::Shared;
use allclear::flow::ingest::{self, Caller};
use allclear::flow::intake::SignalIn;
use allclear::flow::retry::Schedule;
use allclear::flow::setting::{Setting, Stream};
use allclear::flow::spill::Spill;
use allclear::flow::worker;
use allclear::mail::sink::{Script, Sink};
use allclear::mail::{Relay, Transport};
use allclear::store::open::Connections;
use allclear::store::{Clock, Store, queue};
use allclear::template::{Page, Templates};
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Ticks of /proc/*/stat a second; Linux has said 100 for decades.
const TICKS: f64 = 100.0;
const SIGNALS: usize = 1_000;

fn main() -> Fallible<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let at = |n: usize| args.get(n).cloned().unwrap_or_default();
    match at(0).as_str() {
        "sink" => runtime.block_on(sink()),
        "fill" => runtime.block_on(fill(&at(1), at(2).parse()?)),
        "run" => runtime.block_on(run(&at(1), at(2).parse()?, at(3).parse()?, at(4).parse()?)),
        _ => all(&Options::read(&args)?),
    }
}

struct Options {
    databases: Vec<String>,
    mails: usize,
    slots: Vec<usize>,
    groups: usize,
    repeat: usize,
}

impl Options {
    fn read(args: &[String]) -> Fallible<Self> {
        let given =
            |name: &str| args.iter().position(|a| a == name).and_then(|at| args.get(at + 1)).map(String::as_str);
        let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        let databases = match (given("--databases"), std::env::var("ALLCLEAR_TEST_POSTGRES")) {
            (Some(given), _) => list(given),
            (None, Ok(_)) => list("sqlite,postgres"),
            (None, Err(_)) => {
                println!("PostgreSQL is left out: ALLCLEAR_TEST_POSTGRES names no server");
                list("sqlite")
            }
        };
        Ok(Self {
            databases,
            mails: given("--mails").unwrap_or("20000").parse()?,
            slots: list(given("--slots").unwrap_or("16,64")).iter().map(|s| s.parse()).collect::<Result<_, _>>()?,
            groups: given("--groups").unwrap_or("3").parse()?,
            repeat: given("--repeat").unwrap_or("1").parse()?,
        })
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

fn all(options: &Options) -> Fallible<()> {
    let mut rates: Vec<(String, usize, f64)> = Vec::new();
    let mut told: Option<String> = None;
    let head = ["database", "slots", "mails", "mails/s", "CPU s/1k", "server", "sink", "MiB", "MB out"];
    println!(
        "{:<11}{:>6}{:>8}{:>9}{:>10}{:>8}{:>8}{:>7}{:>8}",
        head[0], head[1], head[2], head[3], head[4], head[5], head[6], head[7], head[8]
    );
    for database in &options.databases {
        let most = options.slots.iter().copied().max().unwrap_or(64);
        let cases = options.slots.iter().map(|slots| (*slots, options.mails)).chain([(most, options.mails * 2)]);
        for (slots, mails) in cases.flat_map(|case| std::iter::repeat_n(case, options.repeat)) {
            let place = Place::new(database)?;
            let mut relay = Relaying::start()?;
            child(&["fill", &place.url, &mails.to_string()])?;
            let port = relay.port.to_string();
            let said = child(&["run", &place.url, &port, &slots.to_string(), &options.groups.to_string()])?;
            let m: Measured = serde_json::from_str(said.trim())?;
            let (count, bytes, sink) = relay.counts()?;
            if count != mails as u64 {
                return Err(format!("{count} mails arrived, not {mails}").into());
            }
            if told.as_ref() != Some(&m.settings) {
                println!("{database}: {}", m.settings);
                told = Some(m.settings.clone());
            }
            let thousands = mails as f64 / 1000.0;
            let server = m.server.map_or("-".to_owned(), |s| format!("{:.3}", s / thousands));
            let rate = mails as f64 / m.seconds;
            println!(
                "{database:<11}{slots:>6}{mails:>8}{rate:>9.0}{:>10.3}{server:>8}{:>8.3}{:>7.1}{:>8.1}",
                m.own / thousands,
                sink / thousands,
                m.peak_kib as f64 / 1024.0,
                bytes as f64 / 1e6,
            );
            if mails == options.mails {
                rates.push((database.clone(), slots, rate));
            }
        }
    }
    ratios(options, &rates);
    Ok(())
}

fn ratios(options: &Options, rates: &[(String, usize, f64)]) {
    let best = |database: &str, slots: usize| {
        rates.iter().filter(|r| r.0 == database && r.1 == slots).map(|r| r.2).fold(0.0, f64::max)
    };
    let (Some(few), Some(many)) = (options.slots.iter().min(), options.slots.iter().max()) else { return };
    for database in &options.databases {
        println!("{database}: {many} slots against {few}: {:.2}", best(database, *many) / best(database, *few));
    }
    if best("postgres", *many) > 0.0 && best("sqlite", *many) > 0.0 {
        println!("postgres against sqlite, {many} slots: {:.2}", best("postgres", *many) / best("sqlite", *many));
    }
}

/// A fresh database; dropping it removes it.
struct Place {
    url: String,
    folder: Option<PathBuf>,
}

impl Place {
    fn new(database: &str) -> Fallible<Self> {
        let name = format!("drain_{}", uuid::Uuid::now_v7().simple());
        if database == "sqlite" {
            let folder = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&folder)?;
            return Ok(Self { url: format!("sqlite://{}", folder.join("drain.db").display()), folder: Some(folder) });
        }
        let base = std::env::var("ALLCLEAR_TEST_POSTGRES").map_err(|_| "ALLCLEAR_TEST_POSTGRES names no server")?;
        blocking(on_server(&base, format!("CREATE SCHEMA {name}")))?;
        let sign = if base.contains('?') { '&' } else { '?' };
        Ok(Self { url: format!("{base}{sign}options[search_path]={name}"), folder: None })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let gone = match (&self.folder, self.url.rsplit_once("search_path]=")) {
            (Some(folder), _) => std::fs::remove_dir_all(folder).map_err(Into::into),
            (None, Some((base, schema))) => {
                let base = base.trim_end_matches("options[").trim_end_matches(['?', '&']);
                blocking(on_server(base, format!("DROP SCHEMA {schema} CASCADE")))
            }
            (None, None) => Ok(()),
        };
        if let Err(e) = gone {
            eprintln!("{} is left behind: {e}", self.url);
        }
    }
}

fn blocking<T>(work: impl Future<Output = Fallible<T>>) -> Fallible<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

async fn on_server(url: &str, sql: String) -> Fallible<()> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut PgConnection::connect(url).await?).await?;
    Ok(())
}

fn myself() -> Fallible<Command> {
    Ok(Command::new(std::env::current_exe()?))
}

fn child(args: &[&str]) -> Fallible<String> {
    let done = myself()?.args(args).stderr(Stdio::inherit()).output()?;
    if !done.status.success() {
        return Err(format!("{} failed: {}", args.join(" "), done.status).into());
    }
    Ok(String::from_utf8(done.stdout)?)
}

/// The relay's process.
struct Relaying {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    port: u16,
}

impl Relaying {
    fn start() -> Fallible<Self> {
        let mut child = myself()?.arg("sink").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(ask), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("the relay cannot be talked to".into());
        };
        let mut relay = Self { child, ask, answers: BufReader::new(answers), port: 0 };
        relay.port = relay.line()?.trim().parse()?;
        Ok(relay)
    }

    fn line(&mut self) -> Fallible<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line)
    }

    /// Mails, bytes, seconds of CPU.
    fn counts(&mut self) -> Fallible<(u64, u64, f64)> {
        self.ask.write_all(b"counts\n")?;
        Ok(serde_json::from_str(&self.line()?)?)
    }
}

impl Drop for Relaying {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn sink() -> Fallible<()> {
    let sink = Sink::start(Script::counting()).await?;
    println!("{}", sink.port());
    let asked = tokio::task::spawn_blocking(move || {
        for line in std::io::stdin().lock().lines() {
            if line.is_err() {
                break;
            }
            println!("[{},{},{}]", sink.count(), sink.bytes(), cpu("self").unwrap_or_default());
        }
    });
    Ok(asked.await?)
}

fn setting(slots: usize) -> Setting {
    let limits = |class: &Class| match class {
        Class::ActionRequired => Limits { dwell: Span::ZERO, ..Limits::of(*class) },
        _ => Limits::of(*class),
    };
    Setting {
        domain: "bench.example.com".to_owned(),
        streams: vec![Stream {
            caps: allclear::flow::pace::Caps::default(),
            name: "all".to_owned(),
            from: "Example <account@example.com>".to_owned(),
            reply_to: None,
            slots,
            classes: Class::ALL.to_vec(),
        }],
        limits: Class::ALL.iter().map(|c| (*c, limits(c))).collect(),
        retry: Schedule::default(),
        lease: Span::minutes(13),
        quarantine: Span::minutes(15),
        page: 1_000,
        ask_unconfirmed: true,
        confirm_within: Span::hours(6),
        public_url: Some("https://example.com/connections".to_owned()),
        support_url: Some("https://example.com/support".to_owned()),
        gate: true,
    }
}

async fn shared(url: &str, slots: usize) -> Fallible<Shared> {
    let page = Page { name: "Example".to_owned(), support_url: None, public_url: None };
    let (setting, templates) = (setting(slots), Templates::embedded(&page)?);
    Ok(Shared {
        store: Store::open(url, Connections::default(), Clock::Database).await?,
        copies: Arc::new(Copies::new(&setting, &templates, Span::hours(45 * 24))),
        setting: Arc::new(setting),
        templates: Arc::new(templates),
        owner: "bench".to_owned(),
        spill: Spill::new(std::env::temp_dir().join(format!("drain-spill-{}", std::process::id()))),
        dialogue: Duration::from_secs(60),
    })
}

/// People and connections straight into the tables, since only what follows is the product's work; then one
/// failure each through ingest, and plan.
async fn fill(url: &str, mails: usize) -> Fallible<()> {
    let shared = shared(url, 1).await?;
    people(url, mails).await?;
    let caller = Caller { source: "bench".to_owned(), may_cover: false };
    for from in (0..mails).step_by(SIGNALS) {
        let broken: Vec<SignalIn> = (from..mails.min(from + SIGNALS)).map(broken).collect();
        for answer in ingest::many_signals(&shared.store, &shared.setting.ingest(), &caller, &broken).await? {
            answer.map_err(|e| e.what)?;
        }
    }
    worker::plan_all(&shared).await?;
    if url.starts_with("postgres") {
        // What autovacuum does a minute later anyway.
        on_server(url, "ANALYZE".to_owned()).await?;
    }
    Ok(())
}

fn broken(n: usize) -> SignalIn {
    SignalIn {
        connection: Some(format!("c{n}")),
        component: None,
        what: What::Failed,
        fault: Some(Fault::Permanent),
        by: None,
        connections: None,
        since: None,
        confirm_within: None,
        observed_at: None,
        sequence: None,
    }
}

async fn people(url: &str, n: usize) -> Fallible<()> {
    let sqlite = url.starts_with("sqlite");
    let (from, id) = if sqlite {
        (
            format!(
                "(WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {n}) SELECT i FROM n) AS n"
            ),
            "randomblob(16)",
        )
    } else {
        (format!("generate_series(0, {n} - 1) AS n(i)"), "gen_random_uuid()")
    };
    let sql = format!(
        "INSERT INTO component (id, key, name, created_at) VALUES ({id}, 'mail', 'Mail sync', 0);
         INSERT INTO subscriber (id, key, address, locale, zone, created_at)
            SELECT {id}, 's' || i, 'person-' || i || '@customer.example', 'en', 'Europe/Berlin', 0 FROM {from};
         INSERT INTO connection (id, key, component_id, name, created_at)
            SELECT {id}, 'c' || i, k.id, 'person-' || i || '@customer.example', 0 FROM {from} CROSS JOIN component k;
         INSERT INTO connection_subscriber (connection_id, subscriber_id)
            SELECT c.id, s.id FROM connection c JOIN subscriber s ON s.key = 's' || substr(c.key, 2);"
    );
    if sqlite {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut SqliteConnection::connect(url).await?).await?;
        return Ok(());
    }
    on_server(url, sql).await
}

async fn run(url: &str, port: u16, slots: usize, groups: usize) -> Fallible<()> {
    let shared = shared(url, slots).await?;
    let transports = BTreeMap::from([("all".to_owned(), Transport::Smtp(Relay::local(port)))]);
    let settings: Vec<_> = shared.store.durability().await?.iter().map(|(name, is)| format!("{name}={is}")).collect();
    let settings = settings.join(", ");
    let postmaster = postmaster(url).await?;
    let before = (cpu("self")?, postmaster.and_then(server));
    let began = Instant::now();
    let draining: Vec<_> = worker::dispatchers(&shared, &transports, groups)
        .into_iter()
        // One whose neighbours hold all that is due ends; it looks again until nothing is left for it.
        .map(|mut dispatcher| {
            tokio::spawn(async move {
                while dispatcher.drain(|| false).await? > 0 {}
                Ok::<_, allclear::store::StoreError>(())
            })
        })
        .collect();
    for one in draining {
        one.await??;
    }
    let seconds = began.elapsed().as_secs_f64();
    let server = postmaster.and_then(server).zip(before.1).map(|(after, before)| after - before);
    let own = cpu("self")? - before.0;
    let counts = queue::counts(&mut shared.store.read().await?).await?;
    if counts.iter().any(|(state, _)| *state != State::Accepted) {
        return Err(format!("not everything was taken: {counts:?}").into());
    }
    println!("{}", serde_json::to_string(&Measured { seconds, own, server, peak_kib: peak()?, settings })?);
    Ok(())
}

/// The pid of the PostgreSQL server that serves a URL, when it runs on this machine.
async fn postmaster(url: &str) -> Fallible<Option<u32>> {
    if url.starts_with("sqlite") {
        return Ok(None);
    }
    let mut conn = PgConnection::connect(url).await?;
    let backend: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut conn).await?;
    Ok(stat(Path::new(&format!("/proc/{backend}/stat"))).and_then(|s| u32::try_from(s.parent).ok()))
}

struct Stat {
    parent: i64,
    /// Ticks in user and system mode.
    ticks: f64,
    /// The same of children that have ended.
    ended: f64,
}

/// The fields after the command's name, which may hold anything but ends with the last bracket.
fn stat(path: &Path) -> Option<Stat> {
    let text = std::fs::read_to_string(path).ok()?;
    let fields: Vec<i64> =
        text.rsplit_once(')')?.1.split_whitespace().skip(1).map(|f| f.parse().unwrap_or_default()).collect();
    let sum = |a: usize, b: usize| Some((fields.get(a)? + fields.get(b)?) as f64);
    Some(Stat { parent: *fields.first()?, ticks: sum(10, 11)?, ended: sum(12, 13)? })
}

fn cpu(pid: &str) -> Fallible<f64> {
    Ok(stat(Path::new(&format!("/proc/{pid}/stat"))).ok_or("/proc cannot be read")?.ticks / TICKS)
}

/// Seconds of CPU of a postmaster and all its processes.
fn server(postmaster: u32) -> Option<f64> {
    let own = stat(Path::new(&format!("/proc/{postmaster}/stat")))?;
    let children = std::fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| stat(&entry.path().join("stat")));
    let theirs: f64 = children.filter(|s| s.parent == i64::from(postmaster)).map(|s| s.ticks).sum();
    Some((own.ticks + own.ended + theirs) / TICKS)
}

fn peak() -> Fallible<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).ok_or("no VmHWM in /proc/self/status")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
