//! `allclear signal`

use super::failure::{Failure, PARTIAL, USAGE};
use super::{Context, caller, enqueue, input, output};
use crate::domain::connection::{By, Fault, What};
use crate::domain::time::Timestamp;
use crate::flow::ingest::{self, Answer, Keyed};
use crate::flow::intake::{Covers, FieldError, SignalIn};
use crate::flow::reading;
use crate::store::Store;
use serde::Serialize;
use std::path::PathBuf;

/// Signals taken in together: enough to be fast, few enough not to keep others out for long.
const BATCH: usize = 500;

/// `allclear signal`
#[derive(clap::Args, Debug)]
#[command(group = clap::ArgGroup::new("subject").required(true).args(["connection", "component", "file"]))]
pub(super) struct Args {
    /// The connection, by key
    #[arg(long, value_name = "KEY", requires = "what")]
    connection: Option<String>,
    /// The component, by key
    #[arg(long, value_name = "KEY", requires = "what")]
    component: Option<String>,
    /// Signals as JSON, one a line; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["what", "fault", "by", "connections", "since", "confirm_within",
        "observed_at", "sequence", "idempotency_key"])]
    file: Option<PathBuf>,
    /// failed, recovering, recovered or recovery_failed
    #[arg(long)]
    what: Option<What>,
    /// Of a failed connection: recoverable or permanent
    #[arg(long)]
    fault: Option<Fault>,
    /// Of a recovery: automatic, customer or unknown
    #[arg(long)]
    by: Option<By>,
    /// Of a component's recovery: `all` declares its connections well, `none` says nothing about them
    #[arg(long, value_parser = covers)]
    connections: Option<Covers>,
    /// Of a covering recovery: it covers failures from this time on
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
    since: Option<Timestamp>,
    /// Of a covering recovery: how long the connections have to confirm, like 6h
    #[arg(long, value_name = "SPAN")]
    confirm_within: Option<String>,
    /// When it was observed [default: now]
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
    observed_at: Option<Timestamp>,
    /// The source's running number for the subject
    #[arg(long)]
    sequence: Option<i64>,
    /// The same key with the same content is taken in once
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

fn covers(text: &str) -> Result<Covers, String> {
    match text {
        "all" => Ok(Covers::All),
        "none" => Ok(Covers::None),
        _ => Err("is neither `all` nor `none`".to_owned()),
    }
}

pub(super) async fn run(context: &Context, args: Args) -> Result<u8, Failure> {
    if let Some(file) = &args.file {
        let body = input(file, context.config.http.max_body_bytes)?;
        return many(context, &body).await;
    }
    let what = args.what.ok_or_else(|| Failure::new(USAGE, "--what is missing", "say what happened"))?;
    let said = SignalIn {
        connection: args.connection,
        component: args.component,
        what,
        fault: args.fault,
        by: args.by,
        connections: args.connections,
        since: args.since,
        confirm_within: args.confirm_within,
        observed_at: args.observed_at,
        sequence: args.sequence,
    };
    let body = serde_json::to_vec(&said).unwrap_or_default();
    let keyed = Keyed { key: args.idempotency_key.as_deref(), body: &body };
    let store = context.store().await?;
    let mut answer = ingest::signal(&store, &context.settings(), &caller(), &said, keyed).await?;
    ingest::drain_state(&store, &mut answer).await?;
    context.answer(&answer, || enqueue::line(&answer))?;
    Ok(0)
}

/// What became of one line.
#[derive(Serialize)]
struct Line {
    line: usize,
    #[serde(flatten)]
    answer: Option<Answer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<FieldError>,
}

async fn many(context: &Context, body: &[u8]) -> Result<u8, Failure> {
    let store = context.store().await?;
    let mut done = Vec::new();
    let mut batch: Vec<(usize, SignalIn)> = Vec::new();
    for (number, line) in body.split(|byte| *byte == b'\n').enumerate() {
        let number = number + 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let read = reading::input::<SignalIn>(line).map_err(reading::Unreadable::into_field);
        match read.and_then(|said| said.check().map(|()| said)) {
            Ok(said) => batch.push((number, said)),
            Err(error) => done.push(Line { line: number, answer: None, error: Some(error) }),
        }
        if batch.len() == BATCH {
            take(context, &store, &mut batch, &mut done).await?;
        }
    }
    take(context, &store, &mut batch, &mut done).await?;
    done.sort_by_key(|line| line.line);
    for line in &done {
        if let Some(error) = &line.error {
            eprintln!("error: line {}: {}: {}", line.line, error.field, output::printable(&error.what));
        }
    }
    let wrong = done.iter().filter(|line| line.error.is_some()).count();
    if wrong > 0 {
        eprintln!(
            "hint: correct the {wrong} lines and send them alone; the other {} were taken in",
            done.len() - wrong
        );
    }
    context.answer(&done, || done.iter().filter_map(|line| line.answer.as_ref()).map(enqueue::line).collect())?;
    Ok(match wrong {
        0 => 0,
        _ if wrong == done.len() => USAGE,
        _ => PARTIAL,
    })
}

async fn take(
    context: &Context,
    store: &Store,
    batch: &mut Vec<(usize, SignalIn)>,
    done: &mut Vec<Line>,
) -> Result<(), Failure> {
    let (numbers, said): (Vec<usize>, Vec<SignalIn>) = std::mem::take(batch).into_iter().unzip();
    if said.is_empty() {
        return Ok(());
    }
    let answers = ingest::many_signals(store, &context.settings(), &caller(), &said).await?;
    done.extend(numbers.into_iter().zip(answers).map(|(line, answer)| match answer {
        Ok(answer) => Line { line, answer: Some(answer), error: None },
        Err(error) => Line { line, answer: None, error: Some(error) },
    }));
    Ok(())
}
