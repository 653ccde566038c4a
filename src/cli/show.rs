//! `allclear show`: guesses what is meant, and finds it.

use super::failure::{FOUND_PROBLEMS, Failure, NOT_FOUND, USAGE};
use super::{Context, output, sight};
use crate::domain::id::{BadId, DeliveryId};
use crate::flow::copies::{self, MailError};
use crate::flow::setting::Setting;
use crate::flow::show::{self, Asked, Sight};
use crate::store::Tx;
use crate::store::search::Cursor;

/// `allclear show`
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  allclear show jo@example.com\n  allclear show inbox-1 --limit 5\n  \
    allclear show dlv_0198c0de… --json\n  allclear show dlv_0198c0de… --mail > as-sent.eml")]
pub(super) struct Args {
    /// An address, a key (of a subscriber, connection, incident or component), an id, or a Message-ID
    what: String,
    /// At most so many mails, signals and updates, 1 to 200
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=200))]
    limit: u16,
    /// Go on with older mails (the `next` of the page before)
    #[arg(long, value_name = "NEXT")]
    cursor: Option<Cursor>,
    /// Write the mail of a delivery, byte for byte as it was handed to the relay
    #[arg(long, conflicts_with_all = ["limit", "cursor"])]
    mail: bool,
}

pub(super) async fn run(context: &Context, args: &Args) -> Result<u8, Failure> {
    let what = args.what.trim();
    if what.is_empty() {
        return Err(Failure::new(USAGE, "it is not said what to show", "name an address, a key or an id"));
    }
    let store = context.store().await?;
    let mut tx = store.read().await?;
    if args.mail {
        return mail(&mut tx, context, what).await;
    }
    let setting = Setting::of(&context.config);
    let asked = Asked { setting: &setting, after: args.cursor.unwrap_or(Cursor::NEWEST), limit: args.limit.into() };
    let Some(sight) = show::anything(&mut tx, asked, what).await? else {
        let hint = "name an address, the key of a subscriber, connection, incident or component, an id with its prefix, or a Message-ID";
        return Err(Failure::new(NOT_FOUND, format!("nothing is known by `{}`", output::printable(what)), hint));
    };
    context.answer(&sight, || sight::text(&sight))?;
    if let Sight::Customer { customers } = &sight
        && let several @ 2.. = customers.len()
    {
        eprintln!("hint: {several} subscribers have `{}` as key or address, or had it", output::printable(what));
    }
    for (kind, id) in show::others(&mut tx, what, &sight).await? {
        eprintln!("hint: `{}` is the key of a {kind}, too: `allclear show {id}` shows it", output::printable(what));
    }
    Ok(0)
}

async fn mail(tx: &mut Tx, context: &Context, what: &str) -> Result<u8, Failure> {
    let id: DeliveryId = what.parse().map_err(|e: BadId| {
        Failure::new(USAGE, e.to_string(), "--mail takes a delivery; `allclear show` lists their ids")
    })?;
    let exact = copies::mail(tx, id).await.map_err(|e| match e {
        MailError::Store(e) => e.into(),
        MailError::Damaged(_) => Failure::new(FOUND_PROBLEMS, e.to_string(), e.hint()),
        _ => Failure::new(NOT_FOUND, format!("{id}: {e}"), e.hint()),
    })?;
    if !context.json {
        return output::bytes(&exact.bytes).map(|()| 0);
    }
    // Whatever was sent is UTF-8: a session takes nothing else.
    let mail = String::from_utf8_lossy(&exact.bytes);
    output::json(
        &serde_json::json!({ "id": id, "sha256": exact.sha256, "outcome": exact.outcome, "at": exact.at, "mail": mail }),
    )?;
    Ok(0)
}
