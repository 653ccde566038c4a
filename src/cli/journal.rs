//! `allclear journal`: who did what and why.

use super::Context;
use super::failure::{FOUND_PROBLEMS, Failure};
use super::output::{Table, printable};
use crate::store::journal;

/// `allclear journal`
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    /// Only lines before this number (the last of the page before)
    #[arg(long, value_name = "N")]
    before: Option<i64>,
    /// At most so many, 1 to 1000
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=1_000))]
    limit: i64,
    #[command(subcommand)]
    act: Option<Act>,
}

#[derive(clap::Subcommand, Debug)]
enum Act {
    /// Read it from the first line on; exits 6 when a line was changed, removed or put in
    Verify {
        /// A line's number and hash as told earlier: finds, too, that the end was cut off or all was written anew
        #[arg(long, value_name = "N:HASH", value_parser = expected)]
        expect: Option<(i64, String)>,
    },
}

fn expected(text: &str) -> Result<(i64, String), String> {
    let parts = text.split_once(':').and_then(|(n, hash)| Some((n.parse().ok()?, hash.to_owned())));
    let fits = |(_, hash): &(i64, String)| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
    parts.filter(fits).ok_or_else(|| "is not N:HASH as `allclear journal verify` tells it".to_owned())
}

pub(super) async fn run(context: &Context, args: Args) -> Result<u8, Failure> {
    let store = context.store().await?;
    let mut tx = store.read().await?;
    if let Some(Act::Verify { expect }) = args.act {
        let found = journal::verify(&mut tx, expect.as_ref().map(|(n, hash)| (*n, hash.as_str()))).await?;
        context.answer(&found, || match found.broken {
            Some(n) => format!("line {n} does not follow from the one before it; {} good lines\n", found.lines),
            None if found.expected == Some(false) => {
                "the expected line is not there: cut off, or written anew\n".into()
            }
            None => format!("{} good lines; keep this elsewhere, for --expect: {0}:{}\n", found.lines, found.hash),
        })?;
        let good = found.broken.is_none() && found.expected != Some(false);
        return Ok(if good { 0 } else { FOUND_PROBLEMS });
    }
    let lines = journal::newest(&mut tx, args.before, args.limit).await?;
    context.answer(&lines, || {
        let mut table = Table::new(&["n", "at", "who", "action", "subject", "detail"]);
        for l in &lines {
            table.row([
                l.n.to_string(),
                l.at.to_string(),
                printable(&l.who),
                l.action.clone(),
                l.subject.clone(),
                l.detail.clone(),
            ]);
        }
        table.to_string()
    })?;
    Ok(0)
}
