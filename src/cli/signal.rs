//! `allclear signal`

use super::failure::{FAILURE, Failure, PARTIAL, TRY_AGAIN, USAGE};
use super::{Context, caller, enqueue, output, tell};
use crate::domain::connection::{By, Fault, What};
use crate::domain::time::Timestamp;
use crate::flow::bulk;
use crate::flow::ingest::{self, Answer, Keyed};
use crate::flow::intake::{Covers, FieldError, SignalIn};
use serde::Serialize;
use std::path::{Path, PathBuf};
use tokio::fs::File;
use tokio::io::BufReader;

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
        return many(context, file).await;
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
    let store = context.store_or_new().await?;
    let mut answer = ingest::signal(&store, &context.settings(), &caller(), &said, keyed).await?;
    tell(&store).await;
    // It is committed: that nobody can say now what is on the wire must not look like a refusal.
    if let Err(error) = ingest::drain_state(&store, &mut answer).await {
        eprintln!("hint: it is taken in, but what is still on the wire cannot be read: {error}");
    }
    context.answer(&answer, || enqueue::line(&answer))?;
    Ok(0)
}

/// What became of one line.
#[derive(Serialize)]
struct Line<'a> {
    line: u64,
    #[serde(flatten)]
    answer: Option<&'a Answer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a FieldError>,
}

/// Tells of each line when it is taken in: nothing of a long file is kept.
struct Told {
    json: bool,
    lines: u64,
    wrong: u64,
    failed: Option<Failure>,
}

impl Told {
    fn line(&mut self, of: &bulk::Line) -> bool {
        self.lines += 1;
        if let Err(error) = &of.answer {
            self.wrong += 1;
            eprintln!("error: line {}: {}: {}", of.number, error.field, output::printable(&error.what));
        }
        let text = match (&of.answer, self.json) {
            (answer, true) => {
                let line = Line { line: of.number, answer: answer.as_ref().ok(), error: answer.as_ref().err() };
                let before = if self.lines == 1 { "[" } else { ",\n" };
                format!("{before}{}", serde_json::to_string(&line).unwrap_or_default())
            }
            (Ok(answer), false) => enqueue::line(answer),
            (Err(_), false) => return true,
        };
        self.failed = output::text(&text).err();
        self.failed.is_none()
    }

    fn end(&self) -> Result<(), Failure> {
        match (self.json, self.lines) {
            (true, 0) => output::text("[]\n"),
            (true, _) => output::text("]\n"),
            (false, _) => Ok(()),
        }
    }
}

#[cfg(unix)]
fn standard_input() -> std::io::Result<std::os::fd::OwnedFd> {
    std::os::fd::AsFd::as_fd(&std::io::stdin()).try_clone_to_owned()
}

#[cfg(windows)]
fn standard_input() -> std::io::Result<std::os::windows::io::OwnedHandle> {
    std::os::windows::io::AsHandle::as_handle(&std::io::stdin()).try_clone_to_owned()
}

async fn many(context: &Context, file: &Path) -> Result<u8, Failure> {
    let unreadable = |e: std::io::Error| {
        let what = format!("{} cannot be read: {e}", file.display());
        Failure::new(USAGE, what, "name a file this program may read, or - for standard input")
    };
    let input = match file.to_str() {
        Some("-") => standard_input().map(std::fs::File::from),
        _ => super::open(file),
    };
    let mut told = Told { json: context.json, lines: 0, wrong: 0, failed: None };
    let input = BufReader::new(File::from_std(input.map_err(unreadable)?));
    let store = context.store_or_new().await?;
    let done = bulk::run(&store, &context.settings(), &caller(), input, |line| told.line(&line)).await;
    tell(&store).await;
    if let Some(failure) = told.failed.take() {
        return Err(failure);
    }
    told.end()?;
    done.map_err(|error| {
        let code = if error.is_away() { TRY_AGAIN } else { FAILURE };
        Failure::new(code, error.to_string(), "run it again with the whole file: what was taken in changes nothing")
    })?;
    let Told { lines, wrong, .. } = told;
    if wrong > 0 {
        eprintln!("hint: correct the {wrong} lines and send them alone; the other {} were taken in", lines - wrong);
    }
    Ok(match wrong {
        0 => 0,
        _ if wrong == lines => USAGE,
        _ => PARTIAL,
    })
}
