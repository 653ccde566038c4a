//! The steps that are measured, each with the product's own loops.

use super::common::place::on;
use super::common::product::{durability, shared};
use super::common::{Fallible, peak};
use super::measure::number;
use super::people::in_all;
use super::{Done, recover};
use allclear::domain::surge::Rules;
use allclear::flow::bulk;
use allclear::flow::dispatch::Shared;
use allclear::flow::ingest::Caller;
use allclear::flow::worker;
use std::io::Write;
use std::time::Instant;
use tokio::io::BufReader;

/// Slots of the one stream.
pub const SLOTS: usize = 32;

pub async fn run(step: &str, url: &str, connections: usize) -> Fallible<Done> {
    // What comes in is counted as evidence; that the flood is seen and held is not what is measured here.
    let shared = shared(url, SLOTS, (step == "signals").then(Rules::default)).await?;
    let mut notes = Vec::new();
    let (rows, seconds) = match step {
        "signals" => signals(&shared, in_all(connections), "failed").await?,
        "plan" => plan(&shared, url, connections).await?,
        "recover" => recover::queued(&shared, url, connections, &mut notes).await?,
        "confirm" => confirm(&shared, connections, &mut notes).await?,
        _ => {
            signals(&shared, connections, "failed").await?;
            worker::plan_all(&shared).await?;
            on(url, MAILED.to_owned()).await?;
            recover::mailed(&shared, url, &mut notes).await?
        }
    };
    Ok(Done { rows, seconds, peak_kib: peak()?, settings: durability(&shared.store).await?, notes })
}

/// Lines into the database, with those that are wrong counted: none may be.
async fn signals(shared: &Shared, n: usize, what: &str) -> Fallible<(u64, f64)> {
    let path = std::env::temp_dir().join(format!("surge-{}.jsonl", std::process::id()));
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path)?);
    let rest = if what == "failed" { r#""fault":"permanent""# } else { r#""by":"automatic""# };
    for i in 0..n {
        writeln!(file, r#"{{"connection":"c{i}","what":"{what}",{rest}}}"#)?;
    }
    file.flush()?;
    let caller = Caller { source: "bench".to_owned(), may_cover: false };
    let input = BufReader::new(tokio::fs::File::open(&path).await?);
    let (mut taken, mut wrong) = (0_u64, None);
    let began = Instant::now();
    bulk::run(&shared.store, &shared.setting.ingest(), &caller, input, |line| {
        match line.answer {
            Ok(_) => taken += 1,
            Err(e) => wrong = Some(format!("line {}: {}: {}", line.number, e.field, e.what)),
        }
        true
    })
    .await?;
    let seconds = began.elapsed().as_secs_f64();
    std::fs::remove_file(&path)?;
    match wrong {
        Some(wrong) => Err(wrong.into()),
        None if taken != n as u64 => Err(format!("{taken} of {n} were taken in").into()),
        None => Ok((taken, seconds)),
    }
}

async fn plan(shared: &Shared, url: &str, connections: usize) -> Fallible<(u64, f64)> {
    let began = Instant::now();
    worker::plan_all(shared).await?;
    let seconds = began.elapsed().as_secs_f64();
    let rows = number(url, "SELECT COUNT(*) FROM delivery WHERE state = 'queued'").await?;
    if rows != in_all(connections) as u64 {
        return Err(format!("{rows} deliveries were planned for {} connections", in_all(connections)).into());
    }
    on(url, "ANALYZE".to_owned()).await?;
    Ok((rows, seconds))
}

/// Every connection of the covered component confirms by its own signal.
async fn confirm(shared: &Shared, connections: usize, notes: &mut Vec<String>) -> Fallible<(u64, f64)> {
    let (rows, seconds) = signals(shared, connections, "recovered").await?;
    let began = Instant::now();
    worker::recover_all(shared).await?;
    let sweeping = began.elapsed().as_secs_f64();
    notes.push(format!("swept in {sweeping:.1} s: {:.0} recoveries/s", rows as f64 / sweeping));
    Ok((rows, seconds))
}

/// What the relay has taken, without the minutes of sending it.
const MAILED: &str = "UPDATE delivery SET state = 'accepted', reason = NULL, decided_at = due_at, claimed_at = due_at, maybe_mailed = TRUE,
        message_id = 'mailed-' || due_at || '@bench.example.com', token = 1;
    UPDATE thread SET last_mailed_at = created_at, told_at = created_at, last_class = 'action_required',
        last_message_id = (SELECT d.message_id FROM delivery d WHERE d.thread_id = thread.id);
    ANALYZE";
