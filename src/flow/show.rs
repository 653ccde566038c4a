//! What support sees of a person, a connection, an incident, a notice, a component or a delivery: the same for the CLI
//! and the API.

use super::compose;
use super::ingest::Became;
use super::look;
use super::setting::Setting;
use super::story::{Step, recovered, steps, words};
use crate::domain::address::parse_address;
use crate::domain::delivery::{Reason, State};
use crate::domain::id::{
    ComponentId, ConnectionId, DeliveryId, IncidentId, NoticeId, RecoveryId, SignalId, SubscriberId, SurgeId,
};
use crate::domain::time::Timestamp;
use crate::store::archive::{self, Document};
use crate::store::browse::{self, Delivery};
use crate::store::evidence::{self, Evidence};
use crate::store::recover::{self, Progress};
use crate::store::search::{self, Cursor, Filter};
use crate::store::subjects::{
    self, Affected, Component, Connection, Count, Episode, Incident, Name, Notice, Recovery, Signal, Subscriber,
    Subscription,
};
use crate::store::suppressions::{self, Suppression};
use crate::store::surge::{self, Surge};
use crate::store::{StoreError, Tx, relays};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::HashSet;

/// The most rows of a page.
pub const MOST: usize = 200;

/// What was found.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the fields are documented by their types")]
pub enum Sight {
    /// Those who have a key, an id or an address, or had it.
    Customer { customers: Vec<Customer> },
    /// A connection.
    Connection { connection: History, timeline: Vec<Step>, deliveries: Vec<Told>, next: Option<Cursor> },
    /// An incident.
    Incident {
        incident: Incident,
        components: Vec<Affected>,
        updates: Vec<Said>,
        mails: Vec<Count>,
        deliveries: Vec<Told>,
        next: Option<Cursor>,
    },
    /// A component.
    Component { component: Component, outages: Vec<Episode>, surges: Vec<Surge>, signals: Vec<Signal> },
    /// A delivery.
    Delivery { delivery: Box<Told> },
    /// A notice.
    Notice { notice: Said, mails: Vec<Count>, deliveries: Vec<Told>, next: Option<Cursor> },
    /// A signal.
    Signal { signal: Signal },
    /// A recovery.
    Recovery { id: RecoveryId, progress: Progress },
    /// A surge.
    Surge { surge: Surge },
}

/// One subscriber with all that concerns them.
#[derive(Debug, Serialize)]
pub struct Customer {
    /// The subscriber.
    pub subscriber: Subscriber,
    /// What they follow, everything and groups first, and what they did.
    pub subscriptions: Vec<Subscription>,
    /// How many more there are.
    pub more_subscriptions: i64,
    /// Since when and why their address gets no mail.
    pub suppressed: Option<Suppression>,
    /// Their connections, broken ones first.
    pub connections: Vec<History>,
    /// How many more they have.
    pub more_connections: i64,
    /// All that happened, oldest first.
    pub timeline: Vec<Step>,
    /// Their mails, newest first.
    pub deliveries: Vec<Told>,
    /// Where the next page of mails begins.
    pub next: Option<Cursor>,
}

/// A connection with what was said about it, newest first.
#[derive(Debug, Serialize)]
pub struct History {
    /// The connection.
    #[serde(flatten)]
    pub now: Connection,
    /// What was said about it.
    pub signals: Vec<browse::Signal>,
    /// Its recoveries.
    pub recoveries: Vec<Recovery>,
}

/// A delivery in words.
#[derive(Debug, Serialize, Deserialize)]
pub struct Told {
    /// The delivery.
    #[serde(flatten)]
    pub row: Delivery,
    /// Where it stands and why.
    pub explained: String,
    /// What happened to it, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// Since when it is archived: it says what was known of it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived_at: Option<Timestamp>,
}

/// A notice, and why it mailed nobody.
#[derive(Debug, Serialize)]
pub struct Said {
    /// The notice.
    #[serde(flatten)]
    pub row: Notice,
    /// Its reason in words.
    pub explained: Option<&'static str>,
}

impl From<Notice> for Said {
    fn from(row: Notice) -> Self {
        Self { explained: row.reason.map(Reason::explained), row }
    }
}

/// Who looks, and which page of the mails.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The configuration: it says why mails wait.
    pub setting: &'a Setting,
    /// The place in the list of mails.
    pub after: Cursor,
    /// At most so many mails, signals and updates.
    pub limit: usize,
}

impl Asked<'_> {
    fn rows(&self) -> i64 {
        i64::try_from(self.limit).unwrap_or(i64::MAX)
    }
}

type Seen = Result<Option<Sight>, StoreError>;

/// Guesses what is meant: an id, an address, a Message-ID, or a key.
///
/// # Errors
/// When the database fails.
pub async fn anything(tx: &mut Tx, asked: Asked<'_>, what: &str) -> Seen {
    if let Some(found) = by_id(tx, asked, what).await? {
        return Ok(Some(found));
    }
    if let Some(found) = subscriber(tx, asked, what).await? {
        return Ok(Some(found));
    }
    if let Some(found) = connection(tx, asked, what).await? {
        return Ok(Some(found));
    }
    if let Some(found) = incident(tx, asked, what).await? {
        return Ok(Some(found));
    }
    if let Some(found) = component(tx, asked, what).await? {
        return Ok(Some(found));
    }
    match compose::named_by(what) {
        Some(id) => delivery(tx, asked, id).await,
        None => Ok(None),
    }
}

/// What else has this key, each with its id, where keys of two kinds are the same: [`anything`] shows the first.
///
/// # Errors
/// When the database fails.
pub async fn others(tx: &mut Tx, what: &str, found: &Sight) -> Result<Vec<(&'static str, String)>, StoreError> {
    let by_key = |sight: &Sight| match sight {
        Sight::Customer { .. } => 0,
        Sight::Connection { connection, .. } if connection.now.key == what => 1,
        Sight::Incident { incident, .. } if incident.key == what => 2,
        _ => 3,
    };
    let shown = by_key(found);
    let connection = subjects::connection(tx, Name::Key(what)).await?.map(|it| it.id.to_string());
    let incident = subjects::incident(tx, Name::Key(what)).await?.map(|it| it.id.to_string());
    let component = subjects::component(tx, Name::Key(what)).await?.map(|it| it.id.to_string());
    let all = [(1, "connection", connection), (2, "incident", incident), (3, "component", component)];
    Ok(all.into_iter().filter(|(order, ..)| *order > shown).filter_map(|(_, kind, id)| Some((kind, id?))).collect())
}

/// The prefix of an id says what it is; a key may look like one, so an id that is unknown is tried as a key.
async fn by_id(tx: &mut Tx, asked: Asked<'_>, what: &str) -> Seen {
    if let Ok(id) = what.parse() {
        return delivery(tx, asked, id).await;
    }
    if let Ok(id) = what.parse() {
        return notice(tx, asked, id).await;
    }
    if let Ok(id) = what.parse() {
        return signal(tx, id).await;
    }
    if let Ok(id) = what.parse::<SurgeId>() {
        return Ok(surge::surge(tx, id).await?.map(|surge| Sight::Surge { surge }));
    }
    match what.parse::<RecoveryId>() {
        Ok(id) => Ok(recover::progress(tx, id).await?.map(|progress| Sight::Recovery { id, progress })),
        Err(_) => Ok(None),
    }
}

/// A delivery with its steps.
///
/// # Errors
/// When the database fails.
pub async fn delivery(tx: &mut Tx, asked: Asked<'_>, id: DeliveryId) -> Seen {
    let found = told(tx, asked.setting, &[id], true).await?.pop();
    Ok(found.map(|delivery| Sight::Delivery { delivery: Box::new(delivery) }))
}

/// A signal.
///
/// # Errors
/// When the database fails.
pub async fn signal(tx: &mut Tx, id: SignalId) -> Seen {
    Ok(subjects::signal(tx, id).await?.map(|signal| Sight::Signal { signal }))
}

/// A notice with its mails.
///
/// # Errors
/// When the database fails.
pub async fn notice(tx: &mut Tx, asked: Asked<'_>, id: NoticeId) -> Seen {
    let Some(notice) = subjects::notice(tx, id).await? else { return Ok(None) };
    let (deliveries, next) = page(tx, asked, &Filter { notice: Some(id), ..Filter::default() }).await?;
    Ok(Some(Sight::Notice { notice: notice.into(), mails: subjects::notice_mails(tx, id).await?, deliveries, next }))
}

/// Those who have an id, a key or an address, or had it.
///
/// # Errors
/// When the database fails.
pub async fn subscriber(tx: &mut Tx, asked: Asked<'_>, what: &str) -> Seen {
    let (mut customers, mut once) = (Vec::new(), HashSet::new());
    for subscriber in people(tx, what).await?.into_iter().flatten().filter(|found| once.insert(found.id)) {
        let filter = Filter { subscriber: Some(subscriber.id), ..Filter::default() };
        let (mut deliveries, next) = page(tx, asked, &filter).await?;
        let mut connections = Vec::new();
        for connection in subjects::connections_of(tx, subscriber.id, asked.rows()).await? {
            connections.push(history(tx, connection, asked.rows()).await?);
        }
        let suppressed = suppressions::of_address(tx, &subscriber.address).await?;
        let timeline = timeline(&connections, suppressed.as_ref(), &mut deliveries);
        let subscriptions = subjects::subscriptions_of(tx, subscriber.id, asked.rows()).await?;
        let held = subjects::held_by(tx, subscriber.id).await?;
        let beyond = |all: i64, shown: usize| all.saturating_sub(i64::try_from(shown).unwrap_or(i64::MAX));
        customers.push(Customer {
            subscriber,
            more_subscriptions: beyond(held.1, subscriptions.len()),
            subscriptions,
            suppressed,
            more_connections: beyond(held.0, connections.len()),
            connections,
            timeline,
            deliveries,
            next,
        });
    }
    Ok((!customers.is_empty()).then_some(Sight::Customer { customers }))
}

/// Subscribers by id or key, by address, whatever its case, and by one they had before, each way for itself: a key may be
/// another's address, and several may share one or have it after each other.
///
/// # Errors
/// When the database fails.
pub async fn people(tx: &mut Tx, what: &str) -> Result<[Vec<Subscriber>; 3], StoreError> {
    let mut named = match what.parse::<SubscriberId>() {
        Ok(id) => subjects::subscribers(tx, Name::Id(id.0)).await?,
        Err(_) => Vec::new(),
    };
    if named.is_empty() {
        named = subjects::subscribers(tx, Name::Key(what)).await?;
    }
    let Ok(address) = parse_address(what) else { return Ok([named, Vec::new(), Vec::new()]) };
    let now = subjects::subscribers(tx, Name::Address(address.as_str())).await?;
    Ok([named, now, subjects::formerly(tx, address.as_str()).await?])
}

/// A connection with what was said about it and its mails.
///
/// # Errors
/// When the database fails.
pub async fn connection(tx: &mut Tx, asked: Asked<'_>, what: &str) -> Seen {
    let name = what.parse::<ConnectionId>().map_or(Name::Key(what), |id| Name::Either(id.0, what));
    let Some(now) = subjects::connection(tx, name).await? else { return Ok(None) };
    let (mut deliveries, next) = page(tx, asked, &Filter { connection: Some(now.id), ..Filter::default() }).await?;
    let connection = history(tx, now, asked.rows()).await?;
    let timeline = timeline(std::slice::from_ref(&connection), None, &mut deliveries);
    Ok(Some(Sight::Connection { connection, timeline, deliveries, next }))
}

async fn history(tx: &mut Tx, now: Connection, limit: i64) -> Result<History, StoreError> {
    let signals = browse::signals(tx, now.id, limit).await?;
    let recoveries = subjects::recoveries(tx, now.id, limit).await?;
    Ok(History { now, signals, recoveries })
}

/// An incident with its updates, the counts of its mails and the newest of them.
///
/// # Errors
/// When the database fails.
pub async fn incident(tx: &mut Tx, asked: Asked<'_>, what: &str) -> Seen {
    let name = what.parse::<IncidentId>().map_or(Name::Key(what), |id| Name::Either(id.0, what));
    let Some(incident) = subjects::incident(tx, name).await? else { return Ok(None) };
    let components = subjects::components_of(tx, incident.id).await?;
    let updates = subjects::incident_notices(tx, incident.id, asked.rows()).await?.into_iter().map(Said::from);
    let updates = updates.collect();
    let mails = subjects::incident_mails(tx, incident.id).await?;
    let (deliveries, next) = page(tx, asked, &Filter { incident: Some(incident.id), ..Filter::default() }).await?;
    Ok(Some(Sight::Incident { incident, components, updates, mails, deliveries, next }))
}

/// A component with its outages and what was said about it.
///
/// # Errors
/// When the database fails.
pub async fn component(tx: &mut Tx, asked: Asked<'_>, what: &str) -> Seen {
    let name = what.parse::<ComponentId>().map_or(Name::Key(what), |id| Name::Either(id.0, what));
    let Some(component) = subjects::component(tx, name).await? else { return Ok(None) };
    let outages = subjects::episodes(tx, component.id, asked.rows()).await?;
    let surges = surge::list(tx, Some(component.id), Timestamp::END, asked.rows()).await?;
    let signals = subjects::signals_of_component(tx, component.id, asked.rows()).await?;
    Ok(Some(Sight::Component { component, outages, surges, signals }))
}

async fn page(tx: &mut Tx, asked: Asked<'_>, of: &Filter) -> Result<(Vec<Told>, Option<Cursor>), StoreError> {
    let found = search::deliveries(tx, of, asked.after, asked.limit).await?;
    Ok((told(tx, asked.setting, &found.ids, true).await?, found.next))
}

/// Deliveries in words. A waiting one bears the reason of this moment: a hold or an outage holds a lane without
/// touching its rows.
///
/// # Errors
/// When the database fails.
pub async fn told(
    tx: &mut Tx,
    setting: &Setting,
    of: &[DeliveryId],
    with_steps: bool,
) -> Result<Vec<Told>, StoreError> {
    let now = tx.now();
    let mut rows = browse::deliveries(tx, of).await?;
    let waiting: Vec<_> = rows.iter().filter(|d| d.state == State::Queued).map(|d| d.id).collect();
    if !waiting.is_empty() {
        let (reasons, away) = (look::why_waiting(tx, setting, &waiting).await?, relays::unreached(tx).await?);
        for row in &mut rows {
            // Its dwell may be over, and so may what held it when it was last looked at, and its turn not come.
            let own = row.reason.filter(|reason| match reason {
                Reason::Dwell => row.due_at > now,
                Reason::Held | Reason::Stopped | Reason::StreamPaused | Reason::ComponentDown => false,
                _ => true,
            });
            let away = row.due_at <= now && setting.is_unreached(row.class, &away);
            // What is due waits for the relay alone, whatever kept it before.
            row.reason = reasons.get(&row.id).copied().or(away.then_some(Reason::RelayAway)).or(own);
        }
    }
    let (first, last) =
        (rows.iter().map(|d| d.created_at).min(), rows.iter().map(|d| d.decided_at.unwrap_or(now)).max());
    let evidence = match first.zip(last) {
        Some(time) if with_steps => evidence::of(tx, of, time).await?,
        _ => Evidence::default(),
    };
    let told = rows.into_iter().map(|row| Told {
        explained: explained(row.state, row.reason),
        steps: if with_steps { steps(&row, &evidence, now) } else { Vec::new() },
        row,
        archived_at: None,
    });
    let mut told: Vec<_> = told.collect();
    let live: HashSet<_> = told.iter().map(|told| told.row.id).collect();
    let gone: Vec<_> = of.iter().filter(|id| !live.contains(*id)).copied().collect();
    if !gone.is_empty() {
        told.extend(put_away(tx, &gone, with_steps).await?);
        told.sort_unstable_by_key(|told| Reverse((told.row.created_at, told.row.id)));
    }
    Ok(told)
}

/// The same of those that were put away.
async fn put_away(tx: &mut Tx, of: &[DeliveryId], with_steps: bool) -> Result<Vec<Told>, StoreError> {
    let read = |kept: Document| {
        let told: Told = serde_json::from_str(&kept.document).map_err(|e| StoreError::Corrupt {
            table: "archived_delivery",
            column: "document",
            row: kept.id.to_string(),
            what: e.to_string(),
        })?;
        let steps = if with_steps { told.steps } else { Vec::new() };
        Ok(Told { archived_at: Some(kept.archived_at), steps, ..told })
    };
    archive::documents(tx, of).await?.into_iter().map(read).collect()
}

fn explained(state: State, reason: Option<Reason>) -> String {
    match reason.filter(|_| state != State::Sending && state != State::Accepted) {
        Some(reason) => format!("{}: {}.", state.explained().trim_end_matches('.'), words(state, reason)),
        None => state.explained().to_owned(),
    }
}

/// What happened to connections and mails in one list, oldest first; the steps move there from the mails.
fn timeline(connections: &[History], suppressed: Option<&Suppression>, deliveries: &mut [Told]) -> Vec<Step> {
    let mut steps = Vec::new();
    if let Some(x) = suppressed {
        let said = x.evidence.as_deref().map(|words| format!(" ({words})")).unwrap_or_default();
        let text = format!("{} gets no mail any more, by {}: {}{said}", x.address, x.created_by, x.reason);
        steps.push(Step::new(x.created_at, "suppressed", text));
    }
    for History { now, signals, recoveries } in connections {
        // They come newest first; of what was heard in one moment the order stays.
        for s in signals.iter().rev() {
            let fault = s.fault.map(|fault| format!(" {fault}")).unwrap_or_default();
            let became = became(s).map(|became| format!("; {became}")).unwrap_or_default();
            let text = format!("{} reported at {}: {} {}{fault}{became}", s.source, s.observed_at, now.key, s.what);
            steps.push(Step::new(s.received_at, "signal", text).shown_by(s.id));
        }
        for r in recoveries {
            let what = if r.connection_id.is_some() { &now.key } else { &r.component };
            let covers = if r.covers_from.is_some() { ", and its connections with it" } else { "" };
            let text = format!("{}{covers}", recovered(what, r.recovered_by));
            steps.push(Step::new(r.committed_at, "recovered", text).shown_by(r.id));
        }
    }
    steps.extend(deliveries.iter_mut().flat_map(|told| std::mem::take(&mut told.steps)));
    // A signal, a recovery or a hold is one event, however many mails it touched.
    let mut once = HashSet::new();
    let shared = ["signal", "noticed", "recovered", "held", "paused"];
    steps.retain(|step| !shared.contains(&&*step.step) || once.insert(step.evidence.clone()));
    steps.sort_by_key(|step| step.at);
    steps
}

/// What was answered, and what planning made of it where that says more; nothing where a recovery is taken for one.
fn became(signal: &browse::Signal) -> Option<String> {
    match signal.planned.as_deref() {
        Some("planned") | None if signal.outcome == Became::Recovering.as_str() => None,
        Some("planned") | None => Some(signal.outcome.clone()),
        Some("nobody") => Some(format!("{}, concerns nobody", signal.outcome)),
        Some(why) => {
            let words = why.parse::<Reason>().map_or(why, |reason| reason.explained());
            Some(format!("{}, not mailed: {words}", signal.outcome))
        }
    }
}
