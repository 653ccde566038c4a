//! Ingest: what was said becomes durable in one transaction, and only then is answered.
//! HTTP, CLI and demo come through here.

use super::anew::anew;
use super::intake::{FieldError, NoticeIn, SignalIn};
use super::{free, incident, signals};
use crate::domain::delivery::Reason;
use crate::domain::id::RecoveryId;
use crate::domain::time::{Span, Timestamp};
use crate::failpoint;
use crate::store::{Store, StoreError, notices};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What an input may not be taken for.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// Fields are wrong.
    #[error("{}", list(.0))]
    Invalid(Vec<FieldError>),
    /// The caller may not say this.
    #[error("this key has not the scope `{0}`")]
    Forbidden(&'static str),
    /// The idempotency key was used with another body.
    #[error("the idempotency key `{0}` was used with another body")]
    Conflict(String),
    /// The database failed: nothing was taken in.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl IngestError {
    /// Whether another was first ([`StoreError::is_conflict`]): the same may work at once.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_conflict())
    }
}

fn list(errors: &[FieldError]) -> String {
    errors.iter().map(|e| format!("{}: {}", e.field, e.what)).collect::<Vec<_>>().join("; ")
}

impl From<FieldError> for IngestError {
    fn from(error: FieldError) -> Self {
        Self::Invalid(vec![error])
    }
}

impl From<Vec<FieldError>> for IngestError {
    fn from(errors: Vec<FieldError>) -> Self {
        Self::Invalid(errors)
    }
}

crate::names!(
    /// What became of an input.
    Became {
        /// Mail is being planned.
        Planned = "planned",
        /// Mail will be planned and waits, for the reason given.
        Waiting = "waiting",
        /// Recorded; newer news was here first, so nothing follows.
        StaleAtBirth = "stale_at_birth",
        /// Said before.
        Repeated = "repeated",
        /// Recorded; nobody is mailed about it.
        Recorded = "recorded",
        /// A recovery: what is no longer true stops, what left is corrected.
        Recovering = "recovering",
    }
);

/// The answer to one input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The id of what was recorded (`ntc_…` or `sig_…`).
    pub id: String,
    /// What became of it.
    pub outcome: Became,
    /// Why it waits or is stale.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<Reason>,
    /// Until when it waits at least.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub until: Option<Timestamp>,
    /// What the caller may want to look at, though it is no error.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub note: Option<String>,
    /// The incident.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub incident_id: Option<String>,
    /// The recovery, to be followed under `/v1/recoveries/{id}`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub recovery_id: Option<String>,
    /// Mails about it that are on the wire at this moment.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub in_flight: Option<i64>,
    /// No stale mail about it can leave any more.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub drained: Option<bool>,
    /// One answer for each connection of an action-required notice.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub connections: Vec<Answer>,
    /// The same key and body were sent before; this is the answer given then.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub replayed: bool,
}

impl Answer {
    /// An answer that says no more than what became of it.
    #[must_use]
    pub fn new(id: String, outcome: Became) -> Self {
        Self {
            id,
            outcome,
            reason: None,
            until: None,
            note: None,
            incident_id: None,
            recovery_id: None,
            in_flight: None,
            drained: None,
            connections: Vec::new(),
            replayed: false,
        }
    }
}

/// Who speaks, and with what settings it is taken in.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The source's name: of its API key, or `cli`.
    pub source: String,
    /// It may declare a component's connections well.
    pub may_cover: bool,
}

/// Settings of ingest.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long an action-required mail waits at least.
    pub dwell: Span,
    /// How long connections have to confirm a covering recovery, unless it says.
    pub confirm_within: Span,
    /// An update about a time as long ago as this mails nobody.
    pub backdated: Option<Span>,
    /// In these a connection counts once as evidence of a surge.
    pub windows: Windows,
}

/// How long one connection counts once.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    /// As failed, in the shorter window.
    pub failed: Span,
    /// As failed, in the longer one.
    pub failed_slow: Span,
    /// As recovered.
    pub recovered: Span,
}

/// The latest time a source may claim to have observed something: its clock may be a little ahead.
const AHEAD: Span = Span::minutes(10);

/// `observed_at = min(observed, received)`; a time far ahead is an error, not a clock.
pub(super) fn observed(at: Option<Timestamp>, now: Timestamp) -> Result<Timestamp, FieldError> {
    match at {
        Some(at) if at > now + AHEAD => {
            Err(FieldError::new("observed_at", format!("{at} is in the future (it is {now})")))
        }
        at => Ok(at.unwrap_or(now).min(now)),
    }
}

/// An input with its idempotency key.
#[derive(Clone, Copy, Debug)]
pub struct Keyed<'a> {
    /// The key, if the caller gave one.
    pub key: Option<&'a str>,
    /// The body as received.
    pub body: &'a [u8],
}

/// Takes a notice in.
///
/// # Errors
/// When a field is wrong, the key was used otherwise, or the database fails; nothing is recorded then.
pub async fn notice(
    store: &Store,
    settings: &Settings,
    caller: &Caller,
    said: &NoticeIn,
    keyed: Keyed<'_>,
) -> Result<Answer, IngestError> {
    said.check()?;
    anew!(IngestError, async {
        let mut tx = store.begin().await?;
        if let Some(answer) = remembered(&mut tx, caller, keyed).await? {
            return Ok(answer);
        }
        let answer = match said {
            NoticeIn::Incident(n) => incident::update(&mut tx, settings, caller, n).await?,
            NoticeIn::ActionRequired(n) => signals::action_required(&mut tx, settings, caller, n).await?,
            NoticeIn::Free(n) => free::free(&mut tx, caller, n).await?,
        };
        finish(tx, caller, keyed, answer).await
    })
}

/// Takes a signal in.
///
/// # Errors
/// When a field is wrong, the caller may not say it, the key was used otherwise, or the database fails.
pub async fn signal(
    store: &Store,
    settings: &Settings,
    caller: &Caller,
    said: &SignalIn,
    keyed: Keyed<'_>,
) -> Result<Answer, IngestError> {
    allow(caller, said)?;
    anew!(IngestError, async {
        let mut tx = store.begin().await?;
        if let Some(answer) = remembered(&mut tx, caller, keyed).await? {
            return Ok(answer);
        }
        let mut answers = signals::take(&mut tx, settings, caller, std::slice::from_ref(said)).await?;
        let answer = answers.pop().ok_or_else(|| FieldError::new("body", "is empty"))??;
        finish(tx, caller, keyed, answer).await
    })
}

/// Takes many signals in, in one transaction; those with errors are answered with them and the others kept.
///
/// # Errors
/// When the database fails; nothing is recorded then.
pub async fn many_signals(
    store: &Store,
    settings: &Settings,
    caller: &Caller,
    said: &[SignalIn],
) -> Result<Vec<Result<Answer, FieldError>>, IngestError> {
    for one in said {
        allow(caller, one)?;
    }
    anew!(IngestError, async {
        let mut tx = store.begin().await?;
        let answers = signals::take(&mut tx, settings, caller, said).await?;
        tx.commit().await?;
        Ok(answers)
    })
}

fn allow(caller: &Caller, said: &SignalIn) -> Result<(), IngestError> {
    said.check()?;
    if said.is_covering() && !caller.may_cover {
        return Err(IngestError::Forbidden("recover_covering"));
    }
    Ok(())
}

async fn remembered(
    tx: &mut crate::store::Tx,
    caller: &Caller,
    keyed: Keyed<'_>,
) -> Result<Option<Answer>, IngestError> {
    let Some(key) = keyed.key else { return Ok(None) };
    let Some((hash, answer)) = notices::remembered(tx, &caller.source, key).await? else { return Ok(None) };
    if hash != Sha256::digest(keyed.body).as_slice() {
        return Err(IngestError::Conflict(key.to_owned()));
    }
    let mut answer: Answer = serde_json::from_str(&answer).map_err(|e| StoreError::Corrupt {
        table: "idempotency",
        column: "answer",
        row: key.to_owned(),
        what: e.to_string(),
    })?;
    answer.replayed = true;
    Ok(Some(answer))
}

async fn finish(
    mut tx: crate::store::Tx,
    caller: &Caller,
    keyed: Keyed<'_>,
    answer: Answer,
) -> Result<Answer, IngestError> {
    if let Some(key) = keyed.key {
        let text = serde_json::to_string(&answer).unwrap_or_default();
        let hash = Sha256::digest(keyed.body);
        // Where the same request came in beside this one and was first, its answer is found anew.
        notices::remember(&mut tx, &caller.source, key, &hash, &text).await?;
    }
    if answer.recovery_id.is_some() {
        failpoint::pass("recovering");
    }
    tx.commit().await?;
    failpoint::pass(if answer.recovery_id.is_some() { "recovered" } else { "accepted" });
    Ok(answer)
}

/// Fills in what is on the wire about a recovery. To be asked after the commit: that commit is T.
///
/// # Errors
/// When the database fails.
pub async fn drain_state(store: &Store, answer: &mut Answer) -> Result<(), StoreError> {
    let Some(id) = answer.recovery_id.as_deref().and_then(|id| id.parse::<RecoveryId>().ok()) else { return Ok(()) };
    let mut tx = store.read().await?;
    if let Some(progress) = crate::store::recover::progress(&mut tx, id).await? {
        answer.in_flight = Some(progress.in_flight);
        answer.drained = Some(progress.in_flight == 0);
    }
    Ok(())
}
