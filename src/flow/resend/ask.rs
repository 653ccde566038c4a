//! Asking for resends: one, several, or a failed batch, a page at a time. What was sent again is left out of a
//! batch, so one that broke off is simply asked for once more.

use super::{Outcome, Tally, Wish, page};
use crate::domain::class::Class;
use crate::domain::delivery::{Reason, State};
use crate::domain::id::DeliveryId;
use crate::domain::time::Timestamp;
use crate::flow::ingest::{IngestError, Keyed};
use crate::flow::intake::FieldError;
use crate::flow::setting::Setting;
use crate::store::resend::{self as db, Filter, Key};
use crate::store::subjects::{self, Name};
use crate::store::{Store, StoreError, Tx, archive, journal, notices};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use uuid::Uuid;

/// The most deliveries of one page.
pub const MOST: i64 = 1_000;

/// How many outcomes of a batch are told one by one.
const SAMPLE: usize = 5;

const LONGEST_REASON: usize = 500;

/// The states a batch is picked from.
const UNDELIVERED: [State; 4] = [State::Failed, State::Suppressed, State::Parked, State::Unknown];

/// How a mail is to be sent again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResendIn {
    /// Send what is true instead of what no longer is, and mind neither age nor a mail that just left nor what the
    /// recipient follows or asked for.
    pub force: bool,
    /// Why.
    pub reason: Option<String>,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// Which mails are to be sent again: `ids`, or what `filter` picks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResendsIn {
    /// As in [`ResendIn`].
    pub force: bool,
    /// As in [`ResendIn`].
    pub reason: Option<String>,
    /// As in [`ResendIn`].
    pub dry_run: bool,
    /// These deliveries.
    pub ids: Vec<DeliveryId>,
    /// Undelivered mails, oldest first.
    pub filter: Option<FilterIn>,
    /// The `next` of the page before.
    pub next: Option<Next>,
    /// How many at a time.
    pub limit: Option<i64>,
}

/// Undelivered mails (failed, suppressed, parked or unknown) of which all this is true.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FilterIn {
    /// Where they stand.
    pub state: Option<State>,
    /// What they are for.
    pub class: Option<Class>,
    /// Their stream.
    pub stream: Option<String>,
    /// Their incident, by key.
    pub incident: Option<String>,
    /// Why they were not delivered.
    pub reason: Option<Reason>,
    /// Planned at or after this time.
    pub from: Option<Timestamp>,
    /// Planned before this time.
    pub until: Option<Timestamp>,
}

/// Where the next page begins, and where the batch ends: what is made meanwhile is no part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Next {
    /// The last delivery of the page before.
    pub after: DeliveryId,
    /// The last delivery of the batch.
    pub upto: DeliveryId,
}

/// The answer to a page.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// How many of what.
    #[serde(flatten)]
    pub tally: Tally,
    /// What became of each; of a filter's page the first five.
    pub outcomes: Vec<Outcome>,
    /// The next page, if there is one.
    pub next: Option<Next>,
}

/// An answer, new or as it was given to the same request before.
#[derive(Clone, Debug)]
pub enum Answered {
    /// Just now.
    Now(Answer),
    /// Before.
    Before(Value),
}

/// Checks what was asked for.
///
/// # Errors
/// When a field is wrong.
pub fn check(said: &ResendsIn) -> Result<(), Vec<FieldError>> {
    let mut wrong = Vec::new();
    let mut say = |field: &str, what: String| wrong.push(FieldError::new(field, what));
    match said.reason.as_deref().map(str::trim) {
        None if said.force => say("reason", "is missing: say why it is forced".to_owned()),
        Some(text)
            if text.is_empty() || text.chars().count() > LONGEST_REASON || text.chars().any(char::is_control) =>
        {
            say("reason", format!("is not one line of 1 to {LONGEST_REASON} characters"));
        }
        _ => {}
    }
    match (&said.filter, said.ids.len()) {
        (Some(_), n) if n > 0 => say("ids", "cannot be given together with a filter".to_owned()),
        (None, 0) => say("ids", "is empty: name deliveries, or give a filter".to_owned()),
        (_, n) if n > MOST as usize => say("ids", format!("has more than {MOST}")),
        (Some(filter), _) if *filter == FilterIn::default() => {
            say(
                "filter",
                "is empty, and would pick every undelivered mail: name a state, class, incident or time".to_owned(),
            );
        }
        (Some(FilterIn { state: Some(state), .. }), _) if !UNDELIVERED.contains(state) => {
            say("filter.state", format!("{state} is none of failed, suppressed, parked, unknown"));
        }
        _ => {}
    }
    if said.filter.is_none() {
        // All that are named are sent: one must not think that only some are.
        for (field, given) in [("limit", said.limit.is_some()), ("next", said.next.is_some())] {
            if given {
                say(field, "is for a filter: name fewer ids".to_owned());
            }
        }
    }
    if said.limit.is_some_and(|limit| !(1..=MOST).contains(&limit)) {
        say("limit", format!("is not 1 to {MOST}"));
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// One page of what was asked for, in one transaction.
///
/// # Errors
/// When a field is wrong, the key was used otherwise, or the database fails; nothing is sent then.
pub async fn ask(
    store: &Store,
    setting: &Setting,
    (source, who): (&str, &str),
    said: &ResendsIn,
    keyed: Keyed<'_>,
    sent: &mut HashSet<Key>,
) -> Result<Answered, IngestError> {
    check(said)?;
    // Told with the first page, and counted before anything is locked.
    let archived = match &said.filter {
        Some(filter) if said.next.is_none() => {
            let mut tx = store.read().await?;
            let filter = read(&mut tx, filter).await?;
            archive::undelivered(&mut tx, &filter).await?
        }
        _ => 0,
    };
    let mut tx = if said.dry_run { store.read().await? } else { store.begin().await? };
    if let Some(before) = remembered(&mut tx, source, keyed).await? {
        return Ok(Answered::Before(before));
    }
    // Before picking: a batch beside this one may be about to send the same.
    if !said.dry_run {
        journal::lock(&mut tx).await?;
    }
    let filter = match &said.filter {
        None => None,
        Some(filter) => Some(read(&mut tx, filter).await?),
    };
    let (ids, next) = match &filter {
        None => (said.ids.clone(), None),
        Some(filter) => pick(&mut tx, said, filter).await?,
    };
    if ids.is_empty() && archived == 0 && said.next.is_none() {
        known_stream(setting, filter.as_ref().and_then(|filter| filter.stream.as_deref()))?;
    }
    let reason = said.reason.as_deref().map(str::trim);
    let wish = Wish { who, reason, force: said.force, dry_run: said.dry_run };
    let mut outcomes = page(&mut tx, setting, &wish, &ids, sent).await?;
    let mut tally = Tally { dry_run: said.dry_run, ..Tally::default() };
    tally.count(&outcomes);
    tally.count_archived(archived);
    if said.filter.is_some() {
        outcomes.truncate(SAMPLE);
    }
    let answer = Answer { tally, outcomes, next };
    if said.dry_run {
        return Ok(Answered::Now(answer));
    }
    // What sent nothing may be asked again under the same key: by then it may be allowed.
    if let Some(key) = keyed.key.filter(|_| answer.tally.sent > 0) {
        let text = serde_json::to_string(&answer).unwrap_or_default();
        match notices::remember(&mut tx, source, key, &Sha256::digest(keyed.body), &text).await {
            // The same request came in beside this one and was first: its answer is the answer.
            Err(e) if e.is_conflict() => {
                drop(tx);
                let before = remembered(&mut store.read().await?, source, keyed).await?;
                return before.map(Answered::Before).ok_or_else(|| IngestError::Conflict(key.to_owned()));
            }
            other => other?,
        }
    }
    tx.commit().await?;
    Ok(Answered::Now(answer))
}

async fn remembered(tx: &mut Tx, source: &str, keyed: Keyed<'_>) -> Result<Option<Value>, IngestError> {
    let Some(key) = keyed.key else { return Ok(None) };
    let Some((hash, answer)) = notices::remembered(tx, source, key).await? else { return Ok(None) };
    if hash != Sha256::digest(keyed.body).as_slice() {
        return Err(IngestError::Conflict(key.to_owned()));
    }
    let corrupt = |e: serde_json::Error| StoreError::Corrupt {
        table: "idempotency",
        column: "answer",
        row: key.to_owned(),
        what: e.to_string(),
    };
    Ok(Some(serde_json::from_str(&answer).map_err(corrupt)?))
}

/// A filter with its incident found.
async fn read(tx: &mut Tx, filter: &FilterIn) -> Result<Filter, IngestError> {
    let incident = match &filter.incident {
        None => None,
        Some(key) => {
            let found = subjects::incident(tx, Name::Key(key)).await?;
            Some(found.ok_or_else(|| FieldError::new("filter.incident", "is not known"))?.id)
        }
    };
    Ok(Filter {
        state: filter.state,
        class: filter.class,
        stream: filter.stream.clone(),
        reason: filter.reason,
        incident,
        from: filter.from,
        until: filter.until,
    })
}

/// Mails keep the name of a stream that is no more, so this is asked only where no mail has it.
fn known_stream(setting: &Setting, named: Option<&str>) -> Result<(), FieldError> {
    let known: Vec<_> = setting.streams.iter().map(|stream| stream.name.as_str()).collect();
    match named {
        Some(name) if !known.contains(&name) => {
            Err(FieldError::new("filter.stream", format!("is not known; known streams: {}", known.join(", "))))
        }
        _ => Ok(()),
    }
}

async fn pick(tx: &mut Tx, said: &ResendsIn, of: &Filter) -> Result<(Vec<DeliveryId>, Option<Next>), IngestError> {
    let none = DeliveryId(Uuid::nil());
    let from = match said.next {
        Some(next) => next,
        // Of what there is, whatever the clocks say by which it was numbered.
        None => Next { after: none, upto: db::newest_of_all(tx).await?.unwrap_or(none) },
    };
    let limit = said.limit.unwrap_or(MOST);
    let ids = db::undelivered(tx, of, from.after, from.upto, limit).await?;
    let full = i64::try_from(ids.len()).is_ok_and(|n| n == limit);
    let next = ids.last().filter(|_| full).map(|last| Next { after: *last, ..from });
    Ok((ids, next))
}

impl Answer {
    /// Adds the next page of the same batch.
    pub fn add(&mut self, page: Self) {
        self.tally.add(&page.tally);
        self.outcomes.extend(page.outcomes);
        self.outcomes.truncate(SAMPLE);
        self.next = page.next;
    }
}
