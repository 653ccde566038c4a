//! `allclear search` and `allclear status`.

use super::failure::Failure;
use super::{Context, sight};
use crate::flow::search::{self, SearchError};
use crate::flow::setting::Setting;
use crate::flow::status;

/// `allclear search`
#[derive(clap::Args, Debug)]
#[command(
    arg_required_else_help = true,
    after_help = "All that is given must fit. A time is 2026-04-30T12:30:00Z.\n\nExamples:\n  \
    allclear search --address jo@example.com\n  allclear search --state parked\n  \
    allclear search --incident 2026-04-30 --class incident_end --limit 5\n  \
    allclear search --message-id '<0198c0de….0198c0df…@status.example.com>'\n  \
    allclear search --reply 'mailbox full' --from 2026-04-30T00:00:00Z"
)]
pub(super) struct Args {
    /// The address it went to, or would go to now
    #[arg(long)]
    address: Option<String>,
    /// Its subscriber: key, id or address
    #[arg(long, value_name = "KEY")]
    subscriber: Option<String>,
    /// A connection that it names: key or id
    #[arg(long, value_name = "KEY")]
    connection: Option<String>,
    /// Its incident: key or id
    #[arg(long, value_name = "KEY")]
    incident: Option<String>,
    /// The notice that it tells of
    #[arg(long, value_name = "ID")]
    notice: Option<String>,
    /// Its Message-ID, with or without < >
    #[arg(long, value_name = "ID")]
    message_id: Option<String>,
    /// What the relay said: up to four whole words, a code (550, 5.1.1), or the relay's own id of the mail; of mails that
    /// it took only that id is found
    #[arg(long, value_name = "WORDS")]
    reply: Option<String>,
    /// Where it stands: parked, failed, queued, accepted …
    #[arg(long)]
    state: Option<String>,
    /// What it is for: action_required, incident_update, correction …
    #[arg(long)]
    class: Option<String>,
    /// Planned at this time or later
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Planned before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// At most so many, 1 to 200 [default: 50]
    #[arg(long)]
    limit: Option<String>,
    /// Go on with older ones (the `next` of the page before)
    #[arg(long, value_name = "NEXT")]
    cursor: Option<String>,
}

pub(super) async fn run(context: &Context, args: &Args) -> Result<u8, Failure> {
    let given = [
        ("address", &args.address),
        ("subscriber", &args.subscriber),
        ("connection", &args.connection),
        ("incident", &args.incident),
        ("notice", &args.notice),
        ("message_id", &args.message_id),
        ("reply", &args.reply),
        ("state", &args.state),
        ("class", &args.class),
        ("from", &args.from),
        ("until", &args.until),
        ("limit", &args.limit),
        ("cursor", &args.cursor),
    ];
    let given = given.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
    let store = context.store().await?;
    let mut tx = store.read().await?;
    let mut query = search::read(&mut tx, given).await?;
    let setting = Setting::of(&context.config);
    let mut page = search::run(&mut tx, &setting, &query).await?;
    // A person looks for the mails, not for the end of a page.
    while let (true, Some(next)) = (page.deliveries.is_empty(), page.next) {
        query.after = next;
        page = search::run(&mut tx, &setting, &query).await?;
    }
    context.answer(&page, || sight::found(&page))?;
    Ok(0)
}

/// `allclear status`
pub(super) async fn status(context: &Context) -> Result<u8, Failure> {
    let store = context.store().await?;
    let status = status::status(&mut store.read().await?, &Setting::of(&context.config)).await?;
    context.answer(&status, || sight::status(&status))?;
    Ok(0)
}

impl From<SearchError> for Failure {
    fn from(error: SearchError) -> Self {
        match error {
            SearchError::Store(error) => error.into(),
            SearchError::Field(error) => {
                let what = format!("--{} {}", error.field.replace('_', "-"), error.what);
                Self::new(super::failure::USAGE, what, "see `allclear search --help`")
            }
        }
    }
}
