//! `allclear resend`

use super::failure::{CONFLICT, Failure, NOT_FOUND, PARTIAL};
use super::output::{Table, or_dash};
use super::{Context, who};
use crate::domain::class::Class;
use crate::domain::delivery::{Reason, State};
use crate::domain::id::DeliveryId;
use crate::domain::time::Timestamp;
use crate::flow::ingest::Keyed;
use crate::flow::resend::ask::{Answer, Answered, FilterIn, ResendsIn, ask};
use crate::flow::resend::decide::Refusal;
use crate::flow::resend::{Outcome, Tally};
use crate::flow::setting::Setting;
use std::collections::HashSet;
use std::fmt::Write;

/// `allclear resend`
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  allclear resend dlv_0198c0de…\n  \
    allclear resend dlv_0198c0de… --force --reason 'asked for it by phone'\n  \
    allclear resend --state failed --incident 2026-04-30-app --dry-run\n\n\
    A batch that broke off is asked for again: what was sent again is left out of it.")]
pub(super) struct Args {
    /// The deliveries, by id
    #[arg(conflicts_with_all = ["state", "class", "stream", "incident", "because", "from", "until"])]
    delivery: Vec<DeliveryId>,
    /// Mails that are failed, suppressed, parked or unknown
    #[arg(long)]
    state: Option<State>,
    /// Undelivered mails of this class
    #[arg(long)]
    class: Option<Class>,
    /// Undelivered mails of this stream
    #[arg(long)]
    stream: Option<String>,
    /// Undelivered mails of this incident, by key
    #[arg(long, value_name = "KEY")]
    incident: Option<String>,
    /// Mails undelivered for this reason, like gave_up
    #[arg(long, value_name = "REASON")]
    because: Option<Reason>,
    /// Undelivered mails planned at or after this time
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
    from: Option<Timestamp>,
    /// Undelivered mails planned before this time
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
    until: Option<Timestamp>,
    /// Send what is true now instead of what no longer is; mind neither age nor a mail that just left nor what its reader
    /// follows or asked for
    #[arg(long, requires = "reason")]
    force: bool,
    /// Why; goes to the journal
    #[arg(long)]
    reason: Option<String>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<u8, Failure> {
    let filter = FilterIn {
        state: args.state,
        class: args.class,
        stream: args.stream,
        incident: args.incident,
        reason: args.because,
        from: args.from,
        until: args.until,
    };
    let filter = (filter != FilterIn::default()).then_some(filter);
    let (force, reason, dry_run) = (args.force, args.reason, args.dry_run);
    let mut said = ResendsIn { force, reason, dry_run, ids: args.delivery, filter, ..ResendsIn::default() };
    let store = context.store().await?;
    let (setting, who) = (Setting::of(&context.config), who());
    let (mut whole, mut sent) = (None::<Answer>, HashSet::new());
    let keyed = Keyed { key: None, body: &[] };
    loop {
        let Answered::Now(page) = ask(&store, &setting, ("cli", &who), &said, keyed, &mut sent).await? else {
            break;
        };
        said.next = page.next;
        match &mut whole {
            Some(whole) => whole.add(page),
            None => whole = Some(page),
        }
        if said.next.is_none() {
            break;
        }
    }
    let whole = whole.unwrap_or_else(|| Answer { tally: Tally::default(), outcomes: Vec::new(), next: None });
    context.answer(&whole, || text(&whole))?;
    code(&whole)
}

fn code(whole: &Answer) -> Result<u8, Failure> {
    let tally = &whole.tally;
    if tally.sent > 0 {
        // What was put away nobody can send any more.
        let all_that_could = tally.refused.keys().all(|why| *why == Refusal::Archived.as_str());
        return Ok(if all_that_could { 0 } else { PARTIAL });
    }
    // Of a batch they are only counted.
    let archived = tally.refused.contains_key(Refusal::Archived.as_str()).then_some(Refusal::Archived.hint(None));
    let Some((why, _)) = tally.refused.first_key_value() else {
        return Err(Failure::new(NOT_FOUND, "no undelivered mail is picked", "see `allclear show`, or ask for less"));
    };
    let code = if tally.refused.len() == 1 && *why == "unknown" { NOT_FOUND } else { CONFLICT };
    let hint =
        whole.outcomes.iter().find_map(|o| o.refused.map(|why| why.hint(o.offer))).or(archived).unwrap_or_default();
    Err(Failure::new(code, "nothing is sent again", hint))
}

fn text(whole: &Answer) -> String {
    let mut table = Table::new(&["delivery", "sends", "as", "waits for", "refused", "with force"]);
    for Outcome { delivery, sends, id, waits, refused, offer } in &whole.outcomes {
        table.row([
            delivery.to_string(),
            or_dash(*sends),
            or_dash(*id),
            or_dash(*waits),
            or_dash(refused.map(|why| why.as_str())),
            or_dash(*offer),
        ]);
    }
    let mut out = if whole.outcomes.is_empty() { String::new() } else { format!("{table}\n") };
    let tally = &whole.tally;
    let done = if tally.dry_run { "would be sent again" } else { "queued to be sent again" };
    let _ = writeln!(out, "{} {done}", tally.sent);
    let counts = |of: &std::collections::BTreeMap<&str, u64>| {
        of.iter().map(|(what, n)| format!("{what} {n}")).collect::<Vec<_>>().join(", ")
    };
    if !tally.sends.is_empty() {
        let _ = writeln!(out, "  {}", counts(&tally.sends));
    }
    if !tally.refused.is_empty() {
        let _ = writeln!(out, "{} refused\n  {}", tally.refused.values().sum::<u64>(), counts(&tally.refused));
    }
    out
}
