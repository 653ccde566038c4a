//! `allclear suppressions`: addresses that get no mail, and why.

use super::failure::{Failure, NOT_FOUND};
use super::hold::reason;
use super::output::{Table, or_dash, printable};
use super::{Context, who};
use crate::store::suppressions;

/// `allclear suppressions`
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    /// Only this address
    address: Option<String>,
    /// Only addresses after this one (the last of the page before)
    #[arg(long, value_name = "ADDRESS", default_value = "")]
    after: String,
    /// At most so many, 1 to 1000
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=1_000))]
    limit: i64,
    #[command(subcommand)]
    act: Option<Act>,
}

#[derive(clap::Subcommand, Debug)]
enum Act {
    /// Let mail go to an address again, once its owner says that it works
    Lift {
        /// The address
        address: String,
        /// Why; goes to the journal
        #[arg(long)]
        reason: String,
    },
}

pub(super) async fn run(context: &Context, args: Args) -> Result<u8, Failure> {
    let store = context.store().await?;
    if let Some(Act::Lift { address, reason: why }) = args.act {
        let why = reason(&why)?;
        let mut tx = store.begin().await?;
        if !suppressions::lift(&mut tx, &address, &who(), why).await? {
            let what = format!("{} is not suppressed", printable(&address));
            return Err(Failure::new(NOT_FOUND, what, "see `allclear suppressions`"));
        }
        tx.commit().await?;
        let text = || format!("{} gets mail again; what was not sent meanwhile stays unsent\n", printable(&address));
        context.answer(&serde_json::json!({ "address": address, "suppressed": false }), text)?;
        return Ok(0);
    }
    let mut tx = store.read().await?;
    let found = match &args.address {
        Some(address) => suppressions::of_address(&mut tx, address).await?.into_iter().collect(),
        None => suppressions::page(&mut tx, &args.after, args.limit).await?,
    };
    context.answer(&found, || {
        let mut table = Table::new(&["address", "reason", "since", "by", "evidence"]);
        for s in &found {
            table.row([
                s.address.clone(),
                s.reason.clone(),
                s.created_at.to_string(),
                s.created_by.clone(),
                or_dash(s.evidence.as_deref()),
            ]);
        }
        table.to_string()
    })?;
    Ok(0)
}
