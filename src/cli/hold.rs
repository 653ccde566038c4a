//! `allclear hold`, `release`, `stop`, `resume`

use super::failure::{CONFLICT, Failure, NOT_FOUND, USAGE};
use super::output::{Table, or_dash, printable};
use super::surge::kept;
use super::{Context, who};
use crate::domain::class::Class;
use crate::domain::hold::{HoldCause, HoldScope};
use crate::domain::id::HoldId;
use crate::domain::time::Timestamp;
use crate::store::holds::{self, HoldRow};
use crate::store::{Tx, setup};

/// What a hold is on.
#[derive(clap::Args, Debug)]
#[group(multiple = false)]
struct On {
    /// All mail but corrections
    #[arg(long)]
    everything: bool,
    /// The mail of one class, like action_required
    #[arg(long)]
    class: Option<Class>,
    /// The mail that names one component, by key
    #[arg(long, value_name = "KEY")]
    component: Option<String>,
}

impl On {
    async fn scope(&self, tx: &mut Tx) -> Result<Option<HoldScope>, Failure> {
        Ok(match (self.class, &self.component) {
            (Some(Class::Correction), _) => {
                let hint = "`allclear stop` stops them with all other mail";
                return Err(Failure::new(USAGE, "--class correction: corrections are never held", hint));
            }
            (Some(class), _) => Some(HoldScope::Class(class)),
            (None, Some(key)) => {
                let id = setup::component_id(tx, key).await?;
                let unknown = || Failure::new(NOT_FOUND, format!("no component has the key `{key}`"), "check the key");
                Some(HoldScope::Component(id.ok_or_else(unknown)?))
            }
            (None, None) => self.everything.then_some(HoldScope::Everything),
        })
    }
}

/// `allclear hold`
#[derive(clap::Args, Debug)]
pub(super) struct HoldArgs {
    #[command(flatten)]
    on: On,
    /// Why; goes to the journal
    #[arg(long)]
    reason: Option<String>,
    /// Until when at most
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
    until: Option<Timestamp>,
}

/// `allclear release`
#[derive(clap::Args, Debug)]
pub(super) struct ReleaseArgs {
    /// The hold, by id
    #[arg(conflicts_with_all = ["everything", "class", "component"])]
    id: Option<HoldId>,
    #[command(flatten)]
    on: On,
    /// Why; goes to the journal
    #[arg(long)]
    reason: String,
}

/// `allclear stop`, `allclear resume`
#[derive(clap::Args, Debug)]
pub(super) struct Why {
    /// Why; goes to the journal
    #[arg(long)]
    reason: String,
}

pub(super) fn reason(text: &str) -> Result<&str, Failure> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > 500 || text.chars().any(char::is_control) {
        let hint = "say why in one line of at most 500 characters: --reason 'provider outage'";
        return Err(Failure::new(USAGE, "the reason is empty, too long, or has control characters", hint));
    }
    Ok(text)
}

pub(super) async fn hold(context: &Context, args: HoldArgs) -> Result<u8, Failure> {
    let store = context.store().await?;
    let names_something = args.on.everything || args.on.class.is_some() || args.on.component.is_some();
    let mut tx = if names_something { store.begin().await? } else { store.read().await? };
    let Some(scope) = args.on.scope(&mut tx).await? else {
        if args.reason.is_some() || args.until.is_some() {
            let hint = "add --everything, --class CLASS or --component KEY";
            return Err(Failure::new(USAGE, "it is not said what to hold", hint));
        }
        return list(context, &holds::in_force(&mut tx).await?);
    };
    let Some(why) = args.reason else {
        return Err(Failure::new(USAGE, "--reason is missing", "say why: --reason 'provider outage'"));
    };
    if args.until.is_some_and(|until| until <= tx.now()) {
        return Err(Failure::new(USAGE, "--until is in the past", "name a later time, or leave it out"));
    }
    let others = over(holds::in_force(&mut tx).await?, |hold| hold.scope() == scope);
    let id = holds::put(&mut tx, scope, HoldCause::Operator, reason(&why)?, args.until, &who()).await?;
    tx.commit().await?;
    context.answer(&serde_json::json!({ "id": id }), || format!("held {id}\n") + &kept(&others))?;
    Ok(0)
}

pub(super) async fn release(context: &Context, args: &ReleaseArgs) -> Result<u8, Failure> {
    let why = reason(&args.reason)?;
    let store = context.store().await?;
    let mut tx = store.begin().await?;
    let scope = args.on.scope(&mut tx).await?;
    if args.id.is_none() && scope.is_none() {
        let hint = "name a hold's id (see `allclear hold`), --everything, --class CLASS or --component KEY";
        return Err(Failure::new(USAGE, "it is not said what to release", hint));
    }
    // The stop and surges have words of their own, so that nobody ends them while clearing up holds.
    let picked = |h: &HoldRow| h.cause == HoldCause::Operator && (args.id == Some(h.id) || scope == Some(h.scope()));
    let released = holds::release(&mut tx, picked, why, &who()).await?;
    let left = holds::in_force(&mut tx).await?;
    tx.commit().await?;
    if released.is_empty() {
        let hint = "see `allclear hold`; a stop is ended with `allclear resume --reason …`, a surge with `allclear surge release`";
        return Err(Failure::new(NOT_FOUND, "no such hold is in force", hint));
    }
    ended(context, &released, left)
}

pub(super) async fn stop(context: &Context, why: &Why) -> Result<u8, Failure> {
    let why = reason(&why.reason)?;
    let store = context.store().await?;
    let mut tx = store.begin().await?;
    if let Some(stop) = holds::in_force(&mut tx).await?.iter().find(|h| h.cause == HoldCause::Stop) {
        let what =
            format!("everything is stopped already, since {} by {}: {}", stop.since, stop.created_by, stop.reason);
        return Err(Failure::new(CONFLICT, what, "nothing to do; `allclear resume --reason …` ends it"));
    }
    let id = holds::put(&mut tx, HoldScope::Everything, HoldCause::Stop, why, None, &who()).await?;
    tx.commit().await?;
    let text =
        || format!("stopped {id}: nothing leaves but what is on the wire now, until `allclear resume --reason …`\n");
    context.answer(&serde_json::json!({ "id": id }), text)?;
    Ok(0)
}

pub(super) async fn resume(context: &Context, why: &Why) -> Result<u8, Failure> {
    let why = reason(&why.reason)?;
    let store = context.store().await?;
    let mut tx = store.begin().await?;
    let released = holds::release(&mut tx, |h| h.cause == HoldCause::Stop, why, &who()).await?;
    let left = holds::in_force(&mut tx).await?;
    tx.commit().await?;
    if released.is_empty() {
        return Err(Failure::new(CONFLICT, "nothing is stopped", "nothing to do; see `allclear hold` for holds"));
    }
    ended(context, &released, left)
}

/// What is over, and what still keeps some of its mail.
fn ended(context: &Context, released: &[HoldRow], left: Vec<HoldRow>) -> Result<u8, Failure> {
    let left = over(left, |hold| released.iter().any(|one| overlap(one.scope(), hold)));
    context.answer(&released, || {
        let line =
            |h: &HoldRow| format!("released {} ({}): {}, by {}\n", h.id, on(h), printable(&h.reason), h.created_by);
        released.iter().map(line).collect::<String>() + &kept(&left)
    })?;
    Ok(0)
}

fn over(mut holds: Vec<HoldRow>, keep: impl Fn(&HoldRow) -> bool) -> Vec<HoldRow> {
    holds.retain(keep);
    holds
}

/// Whether what was under a hold may still be kept by another: a surge keeps requests to reconnect alone, no hold keeps
/// corrections, and a text of one's own is about no component.
fn overlap(was: HoldScope, left: &HoldRow) -> bool {
    match (was, left.scope()) {
        _ if left.cause == HoldCause::Stop => true,
        (HoldScope::Class(Class::Correction), _) => false,
        (HoldScope::Class(class), _) if left.cause == HoldCause::Surge => class == Class::ActionRequired,
        (HoldScope::Class(was), HoldScope::Class(left)) => was == left,
        (HoldScope::Component(was), HoldScope::Component(left)) => was == left,
        (HoldScope::Class(Class::Free), HoldScope::Component(_)) => false,
        _ => true,
    }
}

fn on(hold: &HoldRow) -> String {
    hold.class.map(|c| c.to_string()).or_else(|| hold.component.clone()).unwrap_or_else(|| hold.scope.clone())
}

fn list(context: &Context, holds: &[HoldRow]) -> Result<u8, Failure> {
    context.answer(&holds, || {
        let mut table = Table::new(&["id", "on", "cause", "since", "until", "by", "reason"]);
        for h in holds {
            let until = or_dash(h.until);
            table.row([
                h.id.to_string(),
                on(h),
                h.cause.to_string(),
                h.since.to_string(),
                until,
                h.created_by.clone(),
                h.reason.clone(),
            ]);
        }
        table.to_string()
    })?;
    Ok(0)
}
