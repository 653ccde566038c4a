//! A covering recovery while all slots are busy: how long its call takes, whether anything stale begins after it, what
//! it costs the other lanes, and how soon all is swept.

use super::common::Fallible;
use super::measure::{Times, number};
use super::people::SMALL;
use super::steps::SLOTS;
use allclear::domain::connection::{By, What};
use allclear::domain::id::RecoveryId;
use allclear::flow::claim::claim;
use allclear::flow::dispatch::Shared;
use allclear::flow::ingest::{self, Caller, Keyed};
use allclear::flow::intake::{Covers, SignalIn};
use allclear::flow::lanes::Lanes;
use allclear::flow::worker;
use allclear::mail::sink::{Received, Script, Sink};
use allclear::mail::{Relay, Transport};
use allclear::store::recover::progress;
use allclear::store::{StoreError, setup};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const POLL: Duration = Duration::from_millis(50);
/// Between two claims that are measured; each takes this many.
const BETWEEN_CLAIMS: Duration = Duration::from_millis(40);
const OF_A_CLAIM: usize = 8;
const LONGEST: Duration = Duration::from_secs(600);

/// Everything is queued; returns how many were withdrawn, and in how many seconds after T.
pub async fn queued(shared: &Shared, url: &str, connections: usize, notes: &mut Vec<String>) -> Fallible<(u64, f64)> {
    let mut running = Running::start(shared).await?;
    running.sink.wait_for(20 * SLOTS as u64).await;
    let mut calls = Times::default();
    for n in 0..SMALL / 2 {
        calls.add(recovers(shared, &format!("small{n}")).await?.0);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut before = claims(shared, &mut running, Until::Count(50)).await?;
    running.mails();
    let (call, recovery) = recovers(shared, "mail").await?;
    let t = Instant::now();
    calls.add(call);
    let (claiming, small) = tokio::join!(claims(shared, &mut running, Until::Swept(t, recovery)), async {
        let mut calls = Vec::new();
        for n in SMALL / 2..SMALL {
            calls.push(recovers(shared, &format!("small{n}")).await?.0);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Fallible::Ok(calls)
    });
    let (mut meanwhile, swept) = (claiming?, running.swept.ok_or("it was never swept")?);
    small?.into_iter().for_each(|call| calls.add(call));
    running.stop().await;
    let stale = Stale::of(&running.late, t, connections);
    notes.push(format!("the call of the large one took {:.1} ms", call.as_secs_f64() * 1000.0));
    notes.push(calls.told("calls of covering recoveries"));
    notes.push(before.told("claims of other lanes before"));
    notes.push(meanwhile.told("claims of other lanes meanwhile"));
    notes.push(format!(
        "stale DATA after T: {}, the last {:.0} ms after it, {} later than 250 ms; {} others were mailed meanwhile",
        stale.after, stale.last_ms, stale.late, stale.others
    ));
    let withdrawn = number(
        url,
        "SELECT CAST(SUM(withdrawn) AS BIGINT) FROM recovery r JOIN component k ON k.id = r.component_id WHERE k.key = 'mail'",
    );
    Ok((withdrawn.await?, swept.as_secs_f64()))
}

/// All was mailed before; returns how many corrections were written and in how many seconds after T.
pub async fn mailed(shared: &Shared, url: &str, notes: &mut Vec<String>) -> Fallible<(u64, f64)> {
    let mut running = Running::start(shared).await?;
    let (_, recovery) = recovers(shared, "mail").await?;
    let t = Instant::now();
    while running.sink.count() == 0 {
        running.goes_on()?;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    notes.push(format!("the first correction left after {:.2} s", t.elapsed().as_secs_f64()));
    while t.elapsed() < LONGEST && !is_swept(shared, recovery).await? {
        tokio::time::sleep(POLL).await;
        running.mails();
    }
    let seconds = t.elapsed().as_secs_f64();
    notes.push(format!("{} were mailed by then", running.sink.count()));
    running.stop().await;
    Ok((number(url, "SELECT CAST(SUM(corrected) AS BIGINT) FROM recovery").await?, seconds))
}

async fn is_swept(shared: &Shared, recovery: RecoveryId) -> Fallible<bool> {
    let progress = progress(&mut shared.store.read().await?, recovery).await?;
    Ok(progress.is_some_and(|progress| progress.swept_at.is_some()))
}

/// The call alone: its commit is T.
async fn recovers(shared: &Shared, component: &str) -> Fallible<(Duration, RecoveryId)> {
    let said = SignalIn {
        connection: None,
        component: Some(component.to_owned()),
        what: What::Recovered,
        fault: None,
        by: Some(By::Automatic),
        connections: Some(Covers::All),
        since: Some(allclear::domain::time::Timestamp(1)),
        confirm_within: None,
        observed_at: None,
        sequence: None,
    };
    let caller = Caller { source: "bench".to_owned(), may_cover: true };
    let began = Instant::now();
    let keyed = Keyed { key: None, body: &[] };
    let answer = ingest::signal(&shared.store, &shared.setting.ingest(), &caller, &said, keyed).await?;
    let took = began.elapsed();
    Ok((took, answer.recovery_id.ok_or("it is no recovery")?.parse()?))
}

/// The loops of `serve`, and a relay that tells when each mail began.
struct Running {
    sink: Sink,
    loops: JoinSet<Result<(), StoreError>>,
    late: Vec<(Instant, String)>,
    swept: Option<Duration>,
}

impl Running {
    async fn start(shared: &Shared) -> Fallible<Self> {
        let sink = Sink::start(Script::default()).await?;
        let transports = BTreeMap::from([("all".to_owned(), Transport::Smtp(Relay::local(sink.port())))]);
        let mut loops = JoinSet::new();
        for mut dispatcher in worker::dispatchers(shared, &transports, 2) {
            loops.spawn(async move {
                loop {
                    dispatcher.drain(|| false).await?;
                    tokio::time::sleep(POLL).await;
                }
            });
        }
        let shared = shared.clone();
        loops.spawn(async move {
            loop {
                worker::recover_all(&shared).await?;
                tokio::time::sleep(POLL).await;
            }
        });
        Ok(Self { sink, loops, late: Vec::new(), swept: None })
    }

    /// Takes from the relay what it has, and keeps when each began and for whom.
    fn mails(&mut self) {
        let asks = |mail: &Received| {
            let body = String::from_utf8_lossy(&mail.body).replace("=\r\n", "");
            !body.contains("asked you to act") && !body.contains("You may have received")
        };
        // What takes back a mail is true.
        let asking = self.sink.take_mails().into_iter().filter(asks);
        self.late.extend(asking.map(|Received { begun, to, .. }| (begun, to)));
    }

    /// A loop of `serve` ends only by a fault.
    fn goes_on(&mut self) -> Fallible<()> {
        match self.loops.try_join_next() {
            Some(ended) => Err(format!("a loop ended: {:?}", ended?).into()),
            None => Ok(()),
        }
    }

    async fn stop(&mut self) {
        self.loops.shutdown().await;
        self.mails();
    }
}

enum Until {
    Count(usize),
    Swept(Instant, RecoveryId),
}

/// Claims a few of the other component's mails again and again, as one more dispatcher would, beside the others.
async fn claims(shared: &Shared, running: &mut Running, until: Until) -> Fallible<Times> {
    let stream = shared.setting.streams.first().ok_or("no stream")?;
    let (mut times, set) = (Times::default(), shared.templates.set_hash());
    for n in 0.. {
        match until {
            Until::Count(most) if n >= most => break,
            Until::Swept(t, _) if running.swept.is_some() || t.elapsed() > LONGEST => break,
            _ => {}
        }
        let mut tx = shared.store.read().await?;
        let mut lanes = Lanes::default();
        lanes.read(&mut tx, &shared.setting, stream).await?;
        let other = setup::component_id(&mut tx, "other").await?.ok_or("no component `other`")?;
        drop(tx);
        lanes.open.retain(|lane| lane.fence_id == other.0);
        let began = Instant::now();
        let mut tx = shared.store.begin().await?;
        claim(&mut tx, &shared.setting, stream, "measured", set, &mut lanes, OF_A_CLAIM).await?;
        tx.commit().await?;
        times.add(began.elapsed());
        if let Until::Swept(t, recovery) = until
            && is_swept(shared, recovery).await?
        {
            running.swept = Some(t.elapsed());
        }
        running.mails();
        tokio::time::sleep(BETWEEN_CLAIMS).await;
    }
    Ok(times)
}

struct Stale {
    after: usize,
    late: usize,
    last_ms: f64,
    others: usize,
}

impl Stale {
    fn of(mails: &[(Instant, String)], t: Instant, connections: usize) -> Self {
        let is_stale = |to: &str| {
            let number = to.strip_prefix("person-").and_then(|rest| rest.split_once('@'));
            number.and_then(|(n, _)| n.parse::<usize>().ok()).is_some_and(|n| n < connections)
        };
        let after: Vec<_> = mails.iter().filter(|(begun, _)| *begun > t).collect();
        let stale: Vec<_> = after.iter().filter(|(_, to)| is_stale(to)).map(|(begun, _)| *begun - t).collect();
        Self {
            after: stale.len(),
            late: stale.iter().filter(|late| **late > Duration::from_millis(250)).count(),
            last_ms: stale.iter().max().map_or(0.0, |last| last.as_secs_f64() * 1000.0),
            others: after.len() - stale.len(),
        }
    }
}
