//! Updates of incidents: how they stand to those before them, and what they record.

mod components;

use super::addressing;
use super::ingest::{Answer, Became, Caller, IngestError, Settings, observed};
use super::intake::{FieldError, IncidentIn};
use crate::domain::class::Class;
use crate::domain::delivery::Reason;
use crate::domain::id::{IncidentId, NoticeId};
use crate::domain::incident::{ComponentStatus, Impact, Phase};
use crate::domain::time::{Span, Timestamp};
use crate::store::incidents::IncidentNow;
use crate::store::ingest::{ComponentNow, PlanRow};
use crate::store::notices::{NoticeRow, SaidBefore, Same};
use crate::store::{Tx, incidents, ingest as db, notices};
use components::move_components;
use sha2::{Digest, Sha256};
use std::collections::HashSet;

/// The class of mail a phase makes.
#[must_use]
pub fn class_of(phase: Phase) -> Class {
    match phase {
        Phase::Resolved | Phase::Completed => Class::IncidentEnd,
        Phase::Postmortem => Class::PostMortem,
        _ => Class::IncidentUpdate,
    }
}

/// How long the same words without a time of their own are taken for the same update.
const SAME_WORDS: Span = Span::hours(1);

/// Takes an update of an incident into an open transaction.
pub(super) async fn update(
    tx: &mut Tx,
    settings: &Settings,
    caller: &Caller,
    said: &IncidentIn,
) -> Result<Answer, IngestError> {
    let observed_at = observed(said.observed_at, tx.now())?;
    for (field, at) in [("started_at", said.started_at), ("ended_at", said.ended_at)] {
        observed(at, tx.now()).map_err(|e| FieldError::new(field, e.what))?;
    }
    let said = &addressing::with_groups(tx, said).await?;
    let known = incidents::find(tx, &said.incident).await?;
    // What is said without a time is said after what it had to wait for.
    let waited_for = known.as_ref().filter(|_| said.observed_at.is_none()).map(|known| known.updated_at);
    let observed_at = waited_for.map_or(observed_at, |before| before.max(observed_at));
    let components = components(tx, known.as_ref(), said).await?;
    let payload = serde_json::to_string(said).unwrap_or_default();
    let hash = Sha256::digest(&payload);
    let mut same = Same { update_key: said.update.as_deref(), content_hash: Some(hash.as_slice()), repeats: None };
    let before = match &known {
        Some(incident) => said_before(tx, incident, said, same).await?,
        None => None,
    };
    same.repeats = before.as_ref().map(|(before, _)| before.id);
    let mut standing = Standing::of(known.as_ref(), said, observed_at, before.is_some());
    if let (Standing::Late, Some(known)) = (standing, &known)
        && ends_all_the_same(tx, known, said, observed_at).await?
    {
        standing = Standing::LateEnd;
    }
    let reason = withheld(known.as_ref(), said, standing, tx.now() - observed_at, settings);
    let began = match &known {
        Some(known) if standing == Standing::Late => began_by(tx, known, said, observed_at).await?,
        _ => None,
    };
    let was = known.as_ref().map(|known| known.phase);
    let mut incident = next_revision(known, said, before, hash.as_slice(), observed_at, standing);
    incident.started_at = began.unwrap_or(incident.started_at);
    incidents::save(tx, &said.incident, &incident).await?;
    if standing != Standing::Repeated {
        move_components(tx, (&incident, was), said, components, observed_at, standing).await?;
    }
    let outcome = match (standing, reason) {
        (Standing::Repeated, _) => Became::Repeated,
        (Standing::Late, _) => Became::StaleAtBirth,
        (Standing::Newest | Standing::LateEnd, None) => Became::Planned,
        (Standing::Newest | Standing::LateEnd, Some(_)) => Became::Recorded,
    };
    let id = NoticeId::new();
    let row = NoticeRow {
        id,
        kind: "incident",
        class: class_of(said.phase),
        source: &caller.source,
        observed_at: observed_at.min(tx.now()),
        incident: Some((incident.id, incident.revision, said.phase)),
        deliver: reason.is_none(),
        payload: &payload,
        outcome: outcome.as_str(),
        reason,
        same,
    };
    notices::add(tx, &row).await?;
    add_recipients(tx, id, &said.recipients).await?;
    if standing == Standing::Newest {
        addressing::remember(tx, incident.id, id, said).await?;
    }
    if reason.is_none() {
        db::add_plans(tx, &[plan_notice(id, incident.id.0)]).await?;
    }
    let note = addressing::note(tx, said.filter.as_ref()).await?;
    Ok(Answer { incident_id: Some(incident.id.to_string()), reason, note, ..Answer::new(id.to_string(), outcome) })
}

/// How an update stands to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It is the newest word.
    Newest,
    /// It was said before.
    Repeated,
    /// A newer one was here first.
    Late,
    /// An end that came late, and that no newer one has undone.
    LateEnd,
}

impl Standing {
    fn of(known: Option<&IncidentNow>, said: &IncidentIn, observed_at: Timestamp, said_before: bool) -> Self {
        let Some(known) = known else { return Self::Newest };
        if said_before {
            return Self::Repeated;
        }
        if said.phase == Phase::Postmortem || observed_at > known.updated_at {
            return Self::Newest;
        }
        // Of two updates of one moment the one that is further on is the newer, or the one that reports states.
        let further = match (said.phase.progress(), known.phase.progress()) {
            (Some(said), Some(known)) => said.cmp(&known),
            (said, known) => said.is_some().cmp(&known.is_some()),
        };
        let reports = said.components.iter().any(|c| c.status.is_some());
        let newer = said.observed_at.is_none() || further.is_gt() || (further.is_eq() && reports);
        if observed_at == known.updated_at && newer { Self::Newest } else { Self::Late }
    }
}

/// Why an update mails nobody, if it does not.
fn withheld(
    known: Option<&IncidentNow>,
    said: &IncidentIn,
    standing: Standing,
    age: Span,
    settings: &Settings,
) -> Option<Reason> {
    let class = class_of(said.phase);
    match standing {
        Standing::Repeated => Some(Reason::SaidBefore),
        Standing::Late => Some(Reason::Late),
        Standing::Newest if known.is_none() && class != Class::IncidentUpdate => Some(Reason::FirstHeardOver),
        // An end is owed to those told, whatever its own update says about mailing.
        Standing::Newest | Standing::LateEnd if class == Class::IncidentEnd => None,
        Standing::Newest if said.deliver == Some(false) => Some(Reason::NotificationsOff),
        Standing::Newest if class == Class::IncidentUpdate && settings.backdated.is_some_and(|most| age >= most) => {
            Some(Reason::Backdated)
        }
        Standing::Newest | Standing::LateEnd => None,
    }
}

/// The notice that an update repeats, and what it said: by the source's id of it; without one by its words or its own time.
async fn said_before(
    tx: &mut Tx,
    incident: &IncidentNow,
    said: &IncidentIn,
    same: Same<'_>,
) -> Result<Option<(SaidBefore, IncidentIn)>, IngestError> {
    let Some(before) = notices::said_before(tx, incident.id, same, said.observed_at, said.phase).await? else {
        return Ok(None);
    };
    let is_newest = before.revision == incident.revision;
    let is_recent = is_newest || tx.now() - before.received_at < SAME_WORDS;
    let mut was: IncidentIn = serde_json::from_str(&before.payload).unwrap_or_else(|_| said.clone());
    let ends = class_of(said.phase) == Class::IncidentEnd;
    if !ends || newer_than(tx, incident, before.observed_at).await?.iter().any(reopens) {
        // The end that stands is another's.
        was.ended_at = said.ended_at;
    }
    let is_same = match said.observed_at {
        // The newest word is taken back: its components are not as it said.
        _ if is_newest && was.components != said.components && changes(tx, incident, said).await? => false,
        _ if said.update.is_some() => true,
        // Of one moment and phase, and yet of a component that was not named: no edit.
        Some(_) => before.content_hash.as_deref() == same.content_hash || !names_more(tx, incident, said).await?,
        None => is_recent && !changes(tx, incident, said).await?,
    };
    Ok(is_same.then_some((before, was)))
}

/// An update after *resolved* reopens nothing unless it reports a component down, in whatever order the two come in.
async fn ends_all_the_same(
    tx: &mut Tx,
    known: &IncidentNow,
    said: &IncidentIn,
    observed_at: Timestamp,
) -> Result<bool, IngestError> {
    if class_of(said.phase) != Class::IncidentEnd || known.resolved_at.is_some() {
        return Ok(false);
    }
    Ok(!newer_than(tx, known, observed_at).await?.iter().any(reopens))
}

/// Since when the incident is known to last by an update that came late, unless a newer one has said when it began.
async fn began_by(
    tx: &mut Tx,
    known: &IncidentNow,
    said: &IncidentIn,
    observed_at: Timestamp,
) -> Result<Option<Timestamp>, IngestError> {
    let told = newer_than(tx, known, observed_at).await?.iter().any(|newer| newer.started_at.is_some());
    Ok((!told).then(|| said.started_at.unwrap_or(observed_at).min(known.started_at)))
}

async fn newer_than(tx: &mut Tx, known: &IncidentNow, than: Timestamp) -> Result<Vec<IncidentIn>, IngestError> {
    let newer = notices::payloads_after(tx, known.id, than).await?;
    Ok(newer.iter().filter_map(|payload| serde_json::from_str(payload).ok()).collect())
}

/// It reports a component that is in no update so far.
async fn names_more(tx: &mut Tx, incident: &IncidentNow, said: &IncidentIn) -> Result<bool, IngestError> {
    let known = incidents::components(tx, incident.id).await?;
    Ok(said.components.iter().any(|c| known.iter().all(|known| known.key != c.key)))
}

/// It says in old words what is so no longer: that a component is down which works again, that one works which is down
/// again, that it is over. That is a relapse or its end, no repeat.
async fn changes(tx: &mut Tx, incident: &IncidentNow, said: &IncidentIn) -> Result<bool, IngestError> {
    let known = incidents::components(tx, incident.id).await?;
    let is_so = |status, key: &str| known.iter().any(|known| known.key == key && known.status == status);
    let ends = class_of(said.phase) == Class::IncidentEnd && incident.resolved_at.is_none();
    Ok(ends || said.components.iter().any(|c| c.status.is_some_and(|status| !is_so(status, &c.key))))
}

pub(super) fn plan_notice(id: NoticeId, matter: uuid::Uuid) -> PlanRow {
    PlanRow {
        kind: "notice",
        matter,
        notice: Some(id),
        signal: None,
        component: None,
        connection: None,
        episode: None,
        component_episode: None,
        failed_at: None,
    }
}

pub(super) fn unknown_component(field: &str, key: &str) -> FieldError {
    FieldError::new(field, format!("no component has the key `{key}`"))
}

/// Those a notice names; the transaction ends with it when one is unknown.
pub(super) async fn add_recipients(tx: &mut Tx, id: NoticeId, recipients: &[String]) -> Result<(), IngestError> {
    let named = recipients.iter().collect::<HashSet<_>>().len();
    if named == 0 || notices::add_recipients(tx, id, recipients).await? == named as u64 {
        return Ok(());
    }
    let unknown = notices::unknown_subscribers(tx, recipients).await?;
    let at = |key: &String| recipients.iter().position(|r| r == key).unwrap_or_default();
    let errors: Vec<_> = unknown
        .iter()
        .map(|key| FieldError::new(format!("recipients[{}]", at(key)), format!("no subscriber has the key `{key}`")))
        .collect();
    if errors.is_empty() {
        // Whoever was missing has just been put.
        notices::add_recipients(tx, id, recipients).await?;
        return Ok(());
    }
    Err(errors.into())
}

async fn components(
    tx: &mut Tx,
    known: Option<&IncidentNow>,
    said: &IncidentIn,
) -> Result<Vec<ComponentNow>, IngestError> {
    let mut keys: Vec<&str> = said.components.iter().map(|c| c.key.as_str()).collect();
    let ends = known.filter(|_| class_of(said.phase) == Class::IncidentEnd);
    // An end also closes outages that are its own. Which these are is the truth only once nobody else can end and hand over.
    let named = match ends {
        Some(incident) => incidents::components(tx, incident.id).await?,
        None => Vec::new(),
    };
    keys.extend(named.iter().map(|c| c.key.as_str()));
    let mut found = db::components(tx, &keys, true).await?;
    if let Some(incident) = ends {
        let own = incidents::opened_by(tx, incident.id).await?;
        found.retain(|f| said.components.iter().any(|c| c.key == f.key) || own.contains(&f.key));
    }
    let errors: Vec<_> = said
        .components
        .iter()
        .enumerate()
        .filter(|(_, c)| !found.iter().any(|f| f.key == c.key))
        .map(|(i, c)| unknown_component(&format!("components[{i}].key"), &c.key))
        .collect();
    if errors.is_empty() { Ok(found) } else { Err(errors.into()) }
}

fn next_revision(
    known: Option<IncidentNow>,
    said: &IncidentIn,
    repeats: Option<(SaidBefore, IncidentIn)>,
    hash: &[u8],
    observed_at: Timestamp,
    standing: Standing,
) -> IncidentNow {
    let over = class_of(said.phase) == Class::IncidentEnd;
    match (known, repeats) {
        // An edit corrects when it began or ended where it says otherwise than before, and one of the newest words the rest.
        (Some(i), Some((before, was))) => {
            // What came late has the newest number, and said nothing of now.
            let is_newest = before.observed_at >= i.updated_at && before.content_hash.as_deref() != Some(hash);
            IncidentNow {
                title: if is_newest { said.title.clone() } else { i.title },
                impact: said.impact.filter(|_| is_newest).unwrap_or(i.impact),
                started_at: said.started_at.filter(|at| was.started_at != Some(*at)).unwrap_or(i.started_at),
                resolved_at: i.resolved_at.map(|at| said.ended_at.filter(|to| was.ended_at != Some(*to)).unwrap_or(at)),
                ..i
            }
        }
        // A late update is counted, and changes nothing that newer ones have said.
        (Some(i), _) if standing == Standing::Late => IncidentNow { revision: i.revision + 1, ..i },
        (Some(i), _) => IncidentNow {
            title: if standing == Standing::Newest { said.title.clone() } else { i.title },
            phase: match said.phase {
                // What is open again is not over, though nobody says where it stands.
                Phase::Update if i.phase.is_over() && reopens(said) => Phase::Investigating,
                Phase::Update => i.phase,
                phase => phase,
            },
            impact: said.impact.unwrap_or(i.impact),
            revision: i.revision + 1,
            started_at: said.started_at.unwrap_or(i.started_at),
            updated_at: observed_at.max(i.updated_at),
            resolved_at: match said.phase {
                Phase::Postmortem => i.resolved_at,
                // What is said of an end afterwards, a summary, is no later end.
                _ if over => Some(said.ended_at.or(i.resolved_at).unwrap_or(observed_at)),
                _ if reopens(said) => None,
                _ => i.resolved_at,
            },
            id: i.id,
        },
        (None, _) => IncidentNow {
            id: IncidentId::new(),
            title: said.title.clone(),
            phase: said.phase,
            impact: said.impact.unwrap_or(Impact::Minor),
            revision: 1,
            started_at: said.started_at.unwrap_or(observed_at),
            updated_at: observed_at,
            resolved_at: over.then(|| said.ended_at.unwrap_or(observed_at)),
        },
    }
}

/// An update after *resolved* reopens nothing unless it reports a component down.
fn reopens(said: &IncidentIn) -> bool {
    said.components.iter().any(|c| c.status.is_some_and(ComponentStatus::is_down))
}
