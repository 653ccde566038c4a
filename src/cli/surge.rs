//! `allclear surge`: floods of failures, and what operators do about them.

use super::failure::{CONFLICT, FAILURE, Failure, NOT_FOUND, USAGE};
use super::hold::reason;
use super::output::{Table, or_dash, printable};
use super::{Context, who};
use crate::domain::id::SurgeId;
use crate::domain::surge::{Kind, Stage};
use crate::domain::time::Timestamp;
use crate::flow::setting::Setting;
use crate::flow::surge::{self, Act, Asked, Refused};
use crate::store::holds::HoldRow;
use crate::store::surge::{self as rows, Surge};
use std::fmt::Write as _;

const LISTED: i64 = 50;

/// `allclear surge`
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  allclear surge                                     those that are open\n  \
    allclear surge release srg_0198c0de… --reason 'password policy, not an outage'\n  \
    allclear surge hold srg_0198c0de… --until 2026-11-27T18:00:00Z --reason 'provider says 18:00'\n  \
    allclear surge hold --component outlook --reason 'their status page is red'")]
pub(super) struct Args {
    #[command(subcommand)]
    act: Option<Command>,
    /// Those that are over, too
    #[arg(long)]
    all: bool,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Ask a few customers, and five minutes later the rest of those still broken
    Release {
        /// The surge, by id
        id: SurgeId,
        /// Ask all at once, or those that are left, without waiting for what comes of the first few
        #[arg(long)]
        rest: bool,
        /// Why; goes to the journal
        #[arg(long)]
        reason: String,
    },
    /// Ask nobody, whatever the rules say; of a release that runs, nobody else
    #[command(group = clap::ArgGroup::new("which").required(true).args(["id", "component"]))]
    Hold {
        /// The surge, by id
        id: Option<SurgeId>,
        /// Open one, of this component; the rules release it like any other, unless it is held by its id
        #[arg(long, value_name = "KEY")]
        component: Option<String>,
        /// Of a new one: since when its connections fail
        #[arg(long, value_name = "TIME", value_parser = Timestamp::parse, conflicts_with = "id")]
        since: Option<Timestamp>,
        /// At least until then; else until it is released
        #[arg(long, value_name = "TIME", value_parser = Timestamp::parse, conflicts_with = "component")]
        until: Option<Timestamp>,
        /// Why; goes to the journal
        #[arg(long)]
        reason: String,
    },
}

pub(super) async fn run(context: &Context, args: Args) -> Result<u8, Failure> {
    let (store, setting) = (context.store().await?, Setting::of(&context.config));
    let by = who();
    let (id, act, why) = match args.act {
        None => {
            let mut tx = store.read().await?;
            let found = match args.all {
                true => rows::list(&mut tx, None, Timestamp::END, LISTED).await?,
                false => rows::open(&mut tx).await?,
            };
            context.answer(&found, || text(&found))?;
            return Ok(0);
        }
        Some(Command::Release { id, rest, reason }) => (id, if rest { Act::ReleaseRest } else { Act::Release }, reason),
        Some(Command::Hold { id: Some(id), until, reason, .. }) => (id, Act::Hold(until), reason),
        Some(Command::Hold { component, since, reason: why, .. }) => {
            let asked = Asked { who: &by, reason: reason(&why)? };
            let surge = surge::hold(&store, &setting, &component.unwrap_or_default(), since, asked).await?;
            context.answer(&surge, || text(std::slice::from_ref(&surge)))?;
            return Ok(0);
        }
    };
    let acted = surge::act(&store, &setting, id, act, Asked { who: &by, reason: reason(&why)? }).await?;
    context.answer(&acted, || text(std::slice::from_ref(&acted.surge)) + &kept(&acted.held_by))?;
    Ok(0)
}

/// What a release does not let go.
pub(super) fn kept(holds: &[HoldRow]) -> String {
    let line = |hold: &HoldRow| {
        let (reason, by) = (printable(&hold.reason), printable(&hold.created_by));
        format!("{}, put by {by}, keeps these mails all the same: {reason}\n", hold.id)
    };
    holds.iter().map(line).collect()
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let code = match &refused {
            Refused::Unknown | Refused::NoComponent(_) => NOT_FOUND,
            Refused::Past | Refused::Future => USAGE,
            Refused::Store(_) => FAILURE,
            _ => CONFLICT,
        };
        match refused {
            Refused::Store(e) => e.into(),
            other => Self::new(code, other.to_string(), other.hint()),
        }
    }
}

/// One that only tells holds nothing.
pub(super) fn stage(surge: &Surge) -> &'static str {
    match (surge.kind, surge.stage) {
        (Kind::Slow, Stage::Holding) => "watched",
        (_, stage) => stage.as_str(),
    }
}

pub(super) fn text(surges: &[Surge]) -> String {
    let mut table = Table::new(&["surge", "kind", "component", "since", "stage", "since then", "why", "until"]);
    for s in surges {
        table.row([
            s.id.to_string(),
            s.kind.to_string(),
            or_dash(s.component.as_deref()),
            s.since.to_string(),
            stage(s).to_owned(),
            s.stage_at.to_string(),
            s.why.to_string(),
            match s.until {
                Some(Timestamp::END) => "it is released".to_owned(),
                until => or_dash(until),
            },
        ]);
    }
    let mut out = table.to_string();
    for s in surges {
        let because = printable(s.because.trim_end_matches('.'));
        let _ = writeln!(out, "{}: {because} (by {}); {}", s.id, s.opened_by, s.why.explained());
    }
    out
}
