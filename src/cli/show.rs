//! `allclear show`: guesses what is meant, and finds it.

use super::failure::{FOUND_PROBLEMS, Failure, NOT_FOUND, USAGE};
use super::sight::{self, Sight};
use super::{Context, output};
use crate::domain::delivery::State;
use crate::domain::id::{
    BadId, ComponentId, ConnectionId, DeliveryId, IncidentId, NoticeId, RecoveryId, SignalId, SubscriberId,
};
use crate::flow::copies::{self, MailError};
use crate::flow::look;
use crate::flow::setting::Setting;
use crate::store::browse::{self, Of, Page};
use crate::store::subjects::{self, Name};
use crate::store::{StoreError, Tx, recover, suppressions};

const MOST: i64 = 200;

/// `allclear show`
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  allclear show jo@example.com\n  allclear show inbox-1 --limit 5\n  \
    allclear show dlv_0198c0de… --json\n  allclear show dlv_0198c0de… --mail > as-sent.eml")]
pub(super) struct Args {
    /// An address, a key (of a subscriber, connection, incident or component), or an id
    what: String,
    /// At most so many deliveries and signals, 1 to 200
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=MOST))]
    limit: i64,
    /// Only deliveries older than this one (the `next` of the page before)
    #[arg(long, value_name = "DELIVERY")]
    before: Option<DeliveryId>,
    /// Write the mail of a delivery, byte for byte as it was handed to the relay
    #[arg(long, conflicts_with_all = ["limit", "before"])]
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
    let mut page = Page::first(args.limit);
    page.before = args.before.map_or(page.before, |id| id.0);
    let Some(mut sight) = find(&mut tx, what, page).await? else {
        let hint =
            "name an address, the key of a subscriber, connection, incident or component, or an id with its prefix";
        return Err(Failure::new(NOT_FOUND, format!("nothing is known by `{}`", super::output::printable(what)), hint));
    };
    say_why_they_wait(&mut tx, context, &mut sight).await?;
    context.answer(&sight, || sight::text(&sight))?;
    Ok(0)
}

/// What the gate says of waiting mails at this moment: a hold or an outage holds a lane without touching its rows.
async fn say_why_they_wait(tx: &mut Tx, context: &Context, sight: &mut Sight) -> Result<(), StoreError> {
    let mut waiting: Vec<_> = sight.deliveries_mut().into_iter().filter(|d| d.state == State::Queued).collect();
    let ids: Vec<_> = waiting.iter().map(|d| d.id).collect();
    let reasons = look::why_waiting(tx, &Setting::of(&context.config), &ids).await?;
    for delivery in &mut waiting {
        delivery.reason = reasons.get(&delivery.id).copied().or(delivery.reason);
    }
    Ok(())
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

async fn find(tx: &mut Tx, what: &str, page: Page) -> Result<Option<Sight>, StoreError> {
    if let Some(found) = by_id(tx, what, page).await? {
        return Ok(Some(found));
    }
    if what.contains('@')
        && let Some(found) = customer(tx, Name::Address(what), page).await?
    {
        return Ok(Some(found));
    }
    let key = Name::Key(what);
    if let Some(found) = customer(tx, key, page).await? {
        return Ok(Some(found));
    }
    if let Some(found) = connection(tx, key, page).await? {
        return Ok(Some(found));
    }
    if let Some(found) = incident(tx, key, page).await? {
        return Ok(Some(found));
    }
    component(tx, key).await
}

/// The prefix of an id says what it is; a key may look like one, so an id that is unknown is tried as a key.
async fn by_id(tx: &mut Tx, what: &str, page: Page) -> Result<Option<Sight>, StoreError> {
    if let Ok(id) = what.parse::<DeliveryId>() {
        let found = browse::deliveries(tx, Of::Delivery(id), Page::first(1)).await?.pop();
        return Ok(found.map(|delivery| Sight::Delivery { delivery: Box::new(delivery) }));
    }
    if let Ok(id) = what.parse::<NoticeId>() {
        let Some(notice) = subjects::notice(tx, id).await? else { return Ok(None) };
        let deliveries = browse::deliveries(tx, Of::Notice(id), page).await?;
        return Ok(Some(Sight::Notice { next: sight::next(&deliveries, page), notice, deliveries }));
    }
    if let Ok(id) = what.parse::<SignalId>() {
        return Ok(subjects::signal(tx, id).await?.map(|signal| Sight::Signal { signal }));
    }
    if let Ok(id) = what.parse::<RecoveryId>() {
        return Ok(recover::progress(tx, id).await?.map(|progress| Sight::Recovery { id, progress }));
    }
    if let Ok(id) = what.parse::<SubscriberId>() {
        return customer(tx, Name::Id(id.0), page).await;
    }
    if let Ok(id) = what.parse::<ConnectionId>() {
        return connection(tx, Name::Id(id.0), page).await;
    }
    if let Ok(id) = what.parse::<IncidentId>() {
        return incident(tx, Name::Id(id.0), page).await;
    }
    match what.parse::<ComponentId>() {
        Ok(id) => component(tx, Name::Id(id.0)).await,
        Err(_) => Ok(None),
    }
}

async fn customer(tx: &mut Tx, name: Name<'_>, page: Page) -> Result<Option<Sight>, StoreError> {
    let mut customers = Vec::new();
    for subscriber in subjects::subscribers(tx, name).await? {
        let deliveries = browse::deliveries(tx, Of::Subscriber(subscriber.id), page).await?;
        let mut connections = Vec::new();
        for connection in subjects::connections_of(tx, subscriber.id, MOST).await? {
            connections.push(history(tx, connection, page.limit).await?);
        }
        let subscriptions = subjects::subscriptions_of(tx, subscriber.id, MOST).await?;
        let suppressed = suppressions::of_address(tx, &subscriber.address).await?;
        let next = sight::next(&deliveries, page);
        customers.push(sight::Customer { next, subscriber, subscriptions, suppressed, connections, deliveries });
    }
    Ok((!customers.is_empty()).then_some(Sight::Customer { customers }))
}

async fn history(tx: &mut Tx, now: subjects::Connection, limit: i64) -> Result<sight::History, StoreError> {
    let signals = browse::signals(tx, now.id, Page::first(limit)).await?;
    let recoveries = subjects::recoveries(tx, now.id, limit).await?;
    Ok(sight::History { now, signals, recoveries })
}

async fn connection(tx: &mut Tx, name: Name<'_>, page: Page) -> Result<Option<Sight>, StoreError> {
    let Some(now) = subjects::connection(tx, name).await? else { return Ok(None) };
    let deliveries = browse::deliveries(tx, Of::Connection(now.id), page).await?;
    let connection = history(tx, now, page.limit).await?;
    Ok(Some(Sight::Connection { next: sight::next(&deliveries, page), connection, deliveries }))
}

async fn incident(tx: &mut Tx, name: Name<'_>, page: Page) -> Result<Option<Sight>, StoreError> {
    let Some(incident) = subjects::incident(tx, name).await? else { return Ok(None) };
    let updates = subjects::incident_notices(tx, incident.id, page.limit).await?;
    let mails = subjects::incident_mails(tx, incident.id).await?;
    Ok(Some(Sight::Incident { incident, updates, mails }))
}

async fn component(tx: &mut Tx, name: Name<'_>) -> Result<Option<Sight>, StoreError> {
    Ok(subjects::component(tx, name).await?.map(|component| Sight::Component { component }))
}
