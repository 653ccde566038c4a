//! Whether day 400 is as fast as day 1: what a reading of the lanes and a claim's first statement take on PostgreSQL when
//! rows have left the queue and nothing has been vacuumed, and how long it takes to plan and to sweep the next outage of
//! a connection that has had hundreds.
//!
//! ```text
//! ALLCLEAR_TEST_POSTGRES=postgres://… cargo bench --bench age
//! cargo bench --bench age -- --finished 0,100000,1000000 --outages 10,300
//! ```
//!
//! `cap` is the question of the daily cap for a subscriber who has all of these mails.
//!
//! Each is run in a schema of its own, which is dropped at the end. `from the start` is what every claim did before it had
//! a floor.
//!
//! Measured (the two statements by EXPLAIN (ANALYZE, BUFFERS) on PostgreSQL 15, 27 November 2026; 2 cores busy with other
//! work, so that the pages tell more than the times):
//!
//! | left, not vacuumed | lanes from the start | floor | claim of 64 from the start | floor |
//! |---|---|---|---|---|
//! | 0 | 0.03 ms, 5 pages | 0.02 ms, 5 | 0.08 ms, 134 | 0.07 ms, 134 |
//! | 100,000 | 116 ms, 3,463 | 0.07 ms, 6 | 1.4 to 92 ms, 945 to 4,402 | 0.09 ms, 119 |
//! | 1,000,000 | 1,693 ms, 31,954 | 0.08 ms, 6 | 161 to 1,421 ms, 8,391 to 39,513 | 0.10 ms, 127 |
//! | the same, vacuumed in 10 s | 0.05 ms, 5 | 0.02 ms, 5 | 0.10 ms, 135 | 0.10 ms, 135 |
//!
//! Day 400, extrapolated: with a floor a claim reads as many pages as on day 1, but for one more level of an index that has
//! grown a hundredfold. What grows is the whole reading of the lanes that is made besides: it walks over what has died
//! since the last vacuum, a hundredth of the table, and so is made for a fiftieth of the time at most. Lanes do not grow:
//! those of incidents that have been over for a day are closed. Nor does the table for ever: what is over is moved to the archive after
//! `retention.archive_after_days`.

use allclear::config::Config;
use allclear::domain::class::Class;
use allclear::domain::connection::{By, Fault, What};
use allclear::domain::id::{LaneId, SubscriberId};
use allclear::domain::time::Timestamp;
use allclear::flow::floors::Floors;
use allclear::flow::ingest::{self, Caller};
use allclear::flow::intake::SignalIn;
use allclear::flow::setting::Setting;
use allclear::flow::{failures, sweep};
use allclear::store::daily::{self, Asked};
use allclear::store::open::Connections;
use allclear::store::queue::{self, Lane};
use allclear::store::{Clock, Store};
use allclear::template::{Page, Templates};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::collections::HashMap;
use std::error::Error;
use std::time::{Duration, Instant};

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Left to be claimed, whatever has left before.
const WAITING: u32 = 20_000;
const CLAIM: i64 = 64;
const REPEATS: usize = 41;

fn main() -> Fallible<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let given = |name: &str, default: &str| {
        let at = args.iter().position(|a| a == name).and_then(|at| args.get(at + 1)).cloned();
        at.unwrap_or_else(|| default.to_owned()).split(',').map(str::parse).collect::<Result<Vec<u32>, _>>()
    };
    let Ok(server) = std::env::var("ALLCLEAR_TEST_POSTGRES") else {
        return Err("ALLCLEAR_TEST_POSTGRES names no server".into());
    };
    let (finished, outages) = (given("--finished", "0,100000,1000000")?, given("--outages", "10,300")?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        println!("{:>10} {:>22} {:>33} {:>11}", "", "lanes, ms", "claim of 64, ms", "cap, ms");
        let head = ["left", "from start", "floor", "from start", "floor", "vacuumed", "one reader"];
        println!(
            "{:>10} {:>11}{:>11} {:>11}{:>11}{:>11} {:>11}",
            head[0], head[1], head[2], head[3], head[4], head[5], head[6]
        );
        for finished in finished {
            claims(&server, finished).await?;
        }
        println!("\n{:>10} {:>12} {:>12}", "outages", "plan, ms", "sweep, ms");
        for outages in outages {
            history(&server, outages).await?;
        }
        Ok(())
    })
}

/// A schema of its own.
struct Place {
    server: String,
    name: String,
    store: Store,
    conn: PgConnection,
}

impl Place {
    async fn new(server: &str) -> Fallible<Self> {
        let name = format!("age_{}", uuid::Uuid::now_v7().simple());
        let url = Store::make_schema(server, &name).await?;
        let store = Store::open(&url, Connections::default(), Clock::Database).await?;
        Ok(Self { server: server.to_owned(), name, store, conn: PgConnection::connect(&url).await? })
    }

    /// Runs statements, each by itself: a vacuum can be in no transaction.
    async fn run(&mut self, sql: &str) -> Fallible<()> {
        for sql in sql.split(';') {
            sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut self.conn).await?;
        }
        Ok(())
    }

    async fn remove(self) -> Fallible<()> {
        let mut conn = PgConnection::connect(&self.server).await?;
        sqlx::raw_sql(AssertSqlSafe(format!("DROP SCHEMA {} CASCADE", self.name))).execute(&mut conn).await?;
        Ok(())
    }
}

/// The median of some runs, in milliseconds.
async fn median(mut work: impl AsyncFnMut() -> Fallible<()>) -> Fallible<f64> {
    let mut all = Vec::new();
    for _ in 0..REPEATS {
        let began = Instant::now();
        work().await?;
        all.push(began.elapsed());
    }
    all.sort();
    Ok(all.get(REPEATS / 2).copied().unwrap_or(Duration::ZERO).as_secs_f64() * 1_000.0)
}

async fn read(store: &Store, floors: &HashMap<LaneId, Timestamp>) -> Fallible<Vec<Lane>> {
    Ok(queue::lanes(&mut store.read().await?, floors).await?)
}

/// The claim's first statement; nothing is changed by it.
async fn due(store: &Store, lanes: &[Lane], from_the_start: bool) -> Fallible<()> {
    let mut tx = store.begin().await?;
    for lane in lanes {
        let lane =
            Lane { next_due: lane.next_due.map(|due| if from_the_start { Timestamp(0) } else { due }), ..lane.clone() };
        let found = queue::due(&mut tx, &lane, CLAIM).await?;
        if found.len() as i64 != CLAIM {
            return Err(format!("{} of {CLAIM} were found", found.len()).into());
        }
    }
    Ok(())
}

async fn claims(server: &str, finished: u32) -> Fallible<()> {
    let mut place = Place::new(server).await?;
    let all = finished + WAITING;
    place
        .run(&format!(
            "ALTER TABLE delivery SET (autovacuum_enabled = off);
             INSERT INTO component (id, key, name, created_at) VALUES (gen_random_uuid(), 'mail', 'Mail sync', 0);
             INSERT INTO subscriber (id, key, address, locale, zone, created_at)
                VALUES (gen_random_uuid(), 'ann', 'ann@example.net', 'en', 'UTC', 0);
             INSERT INTO lane (id, class, fence_kind, fence_id, created_at)
                SELECT gen_random_uuid(), 'action_required', 'component', id, 0 FROM component;
             INSERT INTO thread (id, matter_kind, matter_id, subscriber_id, ordinal, root, subject, sender, created_at)
                SELECT gen_random_uuid(), 'connections', k.id, s.id, i, 'r', 's', 'f', 0
                FROM component k CROSS JOIN subscriber s CROSS JOIN generate_series(1, {all}) AS n(i);
             INSERT INTO delivery (id, class, stream, lane_id, cause_id, subscriber_id, thread_id, state, due_at, created_at)
                SELECT t.id, 'action_required', 'account', l.id, t.id, t.subscriber_id, t.id, 'queued', t.ordinal, t.ordinal
                FROM thread t CROSS JOIN lane l ORDER BY t.ordinal;
             VACUUM ANALYZE delivery; VACUUM ANALYZE thread"
        ))
        .await?;
    // What has left: its entries lie at the head of the queue's index.
    let left = format!(
        "UPDATE delivery SET state = 'accepted', maybe_mailed = TRUE, decided_at = 1, claimed_at = 1 WHERE due_at <= {finished}"
    );
    place.run(&left).await?;
    let (store, whole) = (place.store.clone(), HashMap::new());
    let mut floors = Floors::default();
    let lanes = read(&store, floors.to_read_from()).await?;
    floors.learn(&lanes, store.read().await?.now());
    let floors: HashMap<_, _> = floors.to_read_from().clone();
    let lanes_whole = median(async || read(&store, &whole).await.map(drop)).await?;
    let lanes_floor = median(async || read(&store, &floors).await.map(drop)).await?;
    let claim_whole = median(async || due(&store, &lanes, true).await).await?;
    let claim_floor = median(async || due(&store, &lanes, false).await).await?;
    let of_one = Asked {
        subscriber: sqlx::query_scalar("SELECT id FROM subscriber")
            .fetch_one(&mut place.conn)
            .await
            .map(SubscriberId)?,
        class: Class::ActionRequired,
        born: Timestamp(i64::from(all)),
        since: Timestamp(0),
    };
    let cap = median(async || {
        let mailed = daily::mailed(&mut store.read().await?, &[of_one]).await?;
        if mailed.is_empty() { Ok(()) } else { Err("the newest has been mailed".into()) }
    })
    .await?;
    place.run("VACUUM delivery").await?;
    let vacuumed = median(async || due(&store, &lanes, true).await).await?;
    println!(
        "{finished:>10} {lanes_whole:>11.2}{lanes_floor:>11.2} {claim_whole:>11.2}{claim_floor:>11.2}{vacuumed:>11.2} {cap:>11.2}"
    );
    place.remove().await
}

fn signal(what: What) -> SignalIn {
    SignalIn {
        connection: Some("inbox".to_owned()),
        component: None,
        what,
        fault: (what == What::Failed).then_some(Fault::Permanent),
        by: (what == What::Recovered).then_some(By::Automatic),
        connections: None,
        since: None,
        confirm_within: None,
        observed_at: None,
        sequence: None,
    }
}

/// How many of the last outages are timed.
const TIMED: usize = 15;

/// One connection fails and recovers again and again; each time its customer is mailed, and told that it is over.
async fn history(server: &str, outages: u32) -> Fallible<()> {
    let mut place = Place::new(server).await?;
    place
        .run(
            "INSERT INTO component (id, key, name, created_at) VALUES (gen_random_uuid(), 'mail', 'Mail sync', 0);
             INSERT INTO subscriber (id, key, address, locale, zone, created_at)
                VALUES (gen_random_uuid(), 'ann', 'ann@example.net', 'en', 'UTC', 0);
             INSERT INTO connection (id, key, component_id, name, created_at)
                SELECT gen_random_uuid(), 'inbox', id, 'Inbox', 0 FROM component;
             INSERT INTO connection_subscriber (connection_id, subscriber_id)
                SELECT c.id, s.id FROM connection c CROSS JOIN subscriber s",
        )
        .await?;
    let setting = Setting::of(&Config::load(None, std::iter::empty())?);
    let templates = Templates::embedded(&Page { name: "Example".to_owned(), support_url: None, public_url: None })?;
    let caller = Caller { source: "bench".to_owned(), may_cover: false };
    let (mut plans, mut sweeps) = (Vec::new(), Vec::new());
    // What the relay would have taken.
    let mailed =
        "UPDATE delivery SET state = 'accepted', maybe_mailed = TRUE, claimed_at = created_at, decided_at = created_at
        WHERE state = 'queued'";
    for _ in 0..outages {
        ingest::many_signals(&place.store, &setting.ingest(), &caller, &[signal(What::Failed)]).await?;
        let began = Instant::now();
        let planned = failures::failures(&place.store, &setting, &templates, uuid::Uuid::nil()).await?;
        plans.push(began.elapsed());
        if planned.is_none_or(|(_, decided)| decided != 1) {
            return Err("the failure was not planned".into());
        }
        place.run(mailed).await?;
        ingest::many_signals(&place.store, &setting.ingest(), &caller, &[signal(What::Recovered)]).await?;
        let began = Instant::now();
        if !sweep::sweep(&place.store, &setting).await? {
            return Err("there was no recovery to sweep".into());
        }
        sweeps.push(began.elapsed());
        place.run(mailed).await?;
    }
    let middle = |all: &[Duration]| {
        let mut last = all.get(all.len().saturating_sub(TIMED)..).unwrap_or_default().to_vec();
        last.sort();
        last.get(last.len() / 2).copied().unwrap_or_default().as_secs_f64() * 1_000.0
    };
    let corrections: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM delivery WHERE class = 'correction'")
        .fetch_one(&mut place.conn)
        .await?;
    if corrections != i64::from(outages) {
        return Err(format!("{corrections} corrections of {outages} outages").into());
    }
    println!("{outages:>10} {:>12.2} {:>12.2}", middle(&plans), middle(&sweeps));
    place.remove().await
}
