//! `allclear streams`: what each stream carries, and whether it is paused.

use super::failure::{CONFLICT, Failure, NOT_FOUND};
use super::hold::reason;
use super::output::{Table, or_dash, printable};
use super::{Context, who};
use crate::flow::relation::hint;
use crate::store::relays::{self, Unreached};
use crate::store::streams::{self, Pause};
use serde::Serialize;

/// `allclear streams`
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(subcommand)]
    act: Option<Act>,
}

#[derive(clap::Subcommand, Debug)]
enum Act {
    /// Try one mail of a paused stream now, once what the relay refused is mended; the others follow it
    Resume {
        /// The stream's name
        stream: String,
        /// Why; goes to the journal
        #[arg(long)]
        reason: String,
    },
}

/// A stream as it is listed.
#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    from: String,
    relay: &'a str,
    slots: u32,
    mails_per_minute: Option<u32>,
    classes: Vec<&'static str>,
    paused: Option<&'a Pause>,
    what_to_do: Option<&'static str>,
    unreached: Vec<&'a Unreached>,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<u8, Failure> {
    let store = context.store().await?;
    if let Some(Act::Resume { stream, reason: why }) = args.act {
        let why = reason(&why)?;
        let mut tx = store.begin().await?;
        if !context.config.streams.contains_key(&stream) {
            if !streams::forget(&mut tx, &stream, &who(), why).await? {
                let known: Vec<_> = context.config.streams.keys().map(String::as_str).collect();
                let what = format!("there is no stream `{}`", printable(&stream));
                return Err(Failure::new(NOT_FOUND, what, format!("known streams: {}", known.join(", "))));
            }
            tx.commit().await?;
            let text = || format!("stream {} is not configured any more; its pause is over\n", printable(&stream));
            context.answer(&serde_json::json!({ "stream": stream, "trying": false }), text)?;
            return Ok(0);
        }
        if !streams::resume(&mut tx, &stream, &who(), why).await? {
            return Err(Failure::new(CONFLICT, format!("stream {stream} is not paused"), "nothing to do"));
        }
        tx.commit().await?;
        let text = || format!("stream {stream} tries one mail now; when it is taken the others follow\n");
        context.answer(&serde_json::json!({ "stream": stream, "trying": true }), text)?;
        return Ok(0);
    }
    let mut tx = store.read().await?;
    let (pauses, unreached) = (streams::pauses(&mut tx).await?, relays::unreached(&mut tx).await?);
    let listed: Vec<_> = context
        .config
        .streams
        .iter()
        .map(|(name, stream)| {
            let paused = pauses.iter().find(|pause| pause.stream == *name);
            Listed {
                name,
                from: stream.from.to_string(),
                relay: &stream.relay,
                slots: stream.slots,
                mails_per_minute: stream.mails_per_minute,
                classes: stream.classes.iter().map(|class| class.as_str()).collect(),
                paused,
                what_to_do: paused.map(|pause| hint(pause.kind)),
                unreached: unreached.iter().filter(|away| away.relay == stream.relay).collect(),
            }
        })
        .collect();
    context.answer(&listed, || text(&listed))?;
    Ok(0)
}

fn text(listed: &[Listed<'_>]) -> String {
    let mut table = Table::new(&["stream", "state", "from", "relay", "slots", "a minute", "classes"]);
    for s in listed {
        table.row([
            s.name.to_owned(),
            match (s.paused, s.unreached.is_empty()) {
                (Some(_), _) => "paused",
                (None, true) => "sending",
                (None, false) => "relay away",
            }
            .to_owned(),
            s.from.clone(),
            s.relay.to_owned(),
            s.slots.to_string(),
            or_dash(s.mails_per_minute),
            s.classes.join(" "),
        ]);
    }
    let mut out = table.to_string();
    for (name, pause, todo) in listed.iter().filter_map(|s| Some((s.name, s.paused?, s.what_to_do?))) {
        out += &format!(
            "\n{name} is paused since {}, because the relay refuses us ({}):\n  {}\n  {todo};\n  then `allclear streams \
             resume {name} --reason ...`. One mail finds out at {}; {} did so far.\n",
            pause.since,
            pause.kind,
            printable(&pause.words),
            pause.probe_at,
            pause.probes
        );
    }
    for (name, away) in listed.iter().flat_map(|s| s.unreached.iter().map(|away| (s.name, away))) {
        out += &format!(
            "\n{name} cannot reach its relay since {} (from node {}):\n  {}\n  It is tried again every half minute, and \
             nothing is lost; `allclear doctor` looks closer.\n",
            away.since,
            printable(&away.node),
            printable(&away.words)
        );
    }
    out
}
