//! `allclear enqueue`

use super::failure::Failure;
use super::{Context, caller, input, tell};
use crate::flow::ingest::{self, Answer, Keyed};
use crate::flow::reading;
use std::path::PathBuf;

/// `allclear enqueue`
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  allclear enqueue <<'JSON'\n  {\"kind\": \"incident\", \"incident\": \"2026-04\", \
    \"title\": \"Mail is late\", \"phase\": \"investigating\", \"components\": [{\"key\": \"imap\"}], \"body\": \"We are looking.\"}\n  JSON")]
pub(super) struct Args {
    /// The notice; - is standard input
    #[arg(long, value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// The same key with the same content is taken in once
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

pub(super) async fn run(context: &Context, args: &Args) -> Result<u8, Failure> {
    let body = input(&args.file, context.config.http.max_body_bytes)?;
    let said = reading::notice(&body)?;
    let store = context.store_or_new().await?;
    let keyed = Keyed { key: args.idempotency_key.as_deref(), body: &body };
    let answer = ingest::notice(&store, &context.settings(), &caller(), &said, keyed).await?;
    tell(&store).await;
    context.answer(&answer, || line(&answer))?;
    Ok(0)
}

/// What became of an input, for people.
pub(super) fn line(answer: &Answer) -> String {
    let mut line = format!("{} {}", answer.id, answer.outcome);
    if let Some(reason) = answer.reason {
        line += &format!(" ({reason})");
    }
    if let Some(until) = answer.until {
        line += &format!(", at least until {until}");
    }
    if let Some(note) = &answer.note {
        line += &format!(", {note}");
    }
    if let Some(recovery) = &answer.recovery_id {
        line += &format!(", {recovery}");
    }
    if let Some(in_flight) = answer.in_flight {
        line += &format!(", {in_flight} on the wire");
    }
    if answer.replayed {
        line += ", said before";
    }
    for one in &answer.connections {
        line += &format!("\n  {}", self::line(one).trim_end());
    }
    line + "\n"
}
