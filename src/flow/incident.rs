//! Updates of incidents, and free notices: what they record and move.

use super::addressing;
use super::ingest::{Answer, Became, Caller, IngestError, observed};
use super::intake::{FieldError, FreeIn, IncidentIn};
use super::signals::component_up;
use crate::domain::class::Class;
use crate::domain::component::{Effect, Said};
use crate::domain::connection::What;
use crate::domain::delivery::Reason;
use crate::domain::id::{ComponentId, IncidentId, NoticeId};
use crate::domain::incident::{ComponentStatus, Impact, Phase};
use crate::domain::time::Timestamp;
use crate::store::ingest::{ComponentNow, IncidentNow, NoticeRow, PlanRow};
use crate::store::{Tx, ingest as db};

/// The class of mail a phase makes.
#[must_use]
pub fn class_of(phase: Phase) -> Class {
    match phase {
        Phase::Resolved | Phase::Completed => Class::IncidentEnd,
        Phase::Postmortem => Class::PostMortem,
        _ => Class::IncidentUpdate,
    }
}

/// Takes an update of an incident into an open transaction.
pub(super) async fn update(tx: &mut Tx, caller: &Caller, said: &IncidentIn) -> Result<Answer, IngestError> {
    let observed_at = observed(said.observed_at, tx.now())?;
    for (field, at) in [("started_at", said.started_at), ("ended_at", said.ended_at)] {
        observed(at, tx.now()).map_err(|e| FieldError::new(field, e.what))?;
    }
    let said = &addressing::with_groups(tx, said).await?;
    let components = components(tx, said).await?;
    check_recipients(tx, &said.recipients).await?;
    let known = db::incident(tx, &said.incident).await?;
    let late = known.as_ref().is_some_and(|i| observed_at < i.updated_at) && said.phase != Phase::Postmortem;
    let class = class_of(said.phase);
    let first_heard_over = known.is_none() && class != Class::IncidentUpdate;
    let incident = next_revision(known, said, observed_at, late);
    let impact = said.impact.unwrap_or(Impact::Minor);
    db::save_incident(tx, &said.incident, &incident, impact).await?;
    let worse = !late && move_components(tx, &incident, said, components, observed_at).await?;
    let id = NoticeId::new();
    // An end is owed to those told, whatever its own update says about mailing.
    let deliver = (said.deliver != Some(false) || class == Class::IncidentEnd) && !late && !first_heard_over;
    let outcome = match (late, deliver) {
        (true, _) => Became::StaleAtBirth,
        (false, true) => Became::Planned,
        (false, false) => Became::Recorded,
    };
    let payload = serde_json::to_string(said).unwrap_or_default();
    let row = NoticeRow {
        id,
        kind: "incident",
        class,
        source: &caller.source,
        observed_at,
        incident: Some((incident.id, incident.revision, said.phase)),
        deliver,
        worse,
        payload: &payload,
        outcome: outcome.as_str(),
    };
    db::add_notice(tx, &row).await?;
    db::add_recipients(tx, id, &said.recipients).await?;
    if !late {
        addressing::remember(tx, incident.id, id, said).await?;
    }
    if deliver {
        db::add_plans(tx, &[plan_notice(id, incident.id.0)]).await?;
    }
    let reason = late.then_some(Reason::ReplacedByNewer);
    let note = addressing::note(tx, said.filter.as_ref()).await?;
    Ok(Answer { incident_id: Some(incident.id.to_string()), reason, note, ..Answer::new(id.to_string(), outcome) })
}

/// Takes a free notice into an open transaction.
pub(super) async fn free(tx: &mut Tx, caller: &Caller, said: &FreeIn) -> Result<Answer, IngestError> {
    let observed_at = observed(said.observed_at, tx.now())?;
    check_recipients(tx, &said.recipients).await?;
    let keys: Vec<&str> = said.components.iter().map(String::as_str).collect();
    let found = db::components(tx, &keys, false).await?;
    for (position, key) in keys.iter().enumerate() {
        if !found.iter().any(|c| c.key == *key) {
            return Err(unknown_component(&format!("components[{position}]"), key).into());
        }
    }
    addressing::members(tx, &said.groups).await?;
    let id = NoticeId::new();
    let payload = serde_json::to_string(said).unwrap_or_default();
    let row = NoticeRow {
        id,
        kind: "free",
        class: Class::Free,
        source: &caller.source,
        observed_at,
        incident: None,
        deliver: true,
        worse: false,
        payload: &payload,
        outcome: Became::Planned.as_str(),
    };
    db::add_notice(tx, &row).await?;
    db::add_recipients(tx, id, &said.recipients).await?;
    db::add_plans(tx, &[plan_notice(id, id.0)]).await?;
    let note = addressing::note(tx, said.filter.as_ref()).await?;
    Ok(Answer { note, ..Answer::new(id.to_string(), Became::Planned) })
}

fn plan_notice(id: NoticeId, matter: uuid::Uuid) -> PlanRow {
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

fn unknown_component(field: &str, key: &str) -> FieldError {
    FieldError::new(field, format!("no component has the key `{key}`"))
}

async fn check_recipients(tx: &mut Tx, recipients: &[String]) -> Result<(), IngestError> {
    if recipients.is_empty() {
        return Ok(());
    }
    let unknown = db::unknown_subscribers(tx, recipients).await?;
    let at = |key: &String| recipients.iter().position(|r| r == key).unwrap_or_default();
    let errors: Vec<_> = unknown
        .iter()
        .map(|key| FieldError::new(format!("recipients[{}]", at(key)), format!("no subscriber has the key `{key}`")))
        .collect();
    if errors.is_empty() { Ok(()) } else { Err(errors.into()) }
}

async fn components(tx: &mut Tx, said: &IncidentIn) -> Result<Vec<ComponentNow>, IngestError> {
    let mut keys: Vec<&str> = said.components.iter().map(|c| c.key.as_str()).collect();
    // A resolved incident also closes what it opened, so those are locked in the same order.
    let opened = match db::incident(tx, &said.incident).await? {
        Some(i) if class_of(said.phase) == Class::IncidentEnd => db::opened_by(tx, i.id).await?,
        _ => Vec::new(),
    };
    keys.extend(opened.iter().map(String::as_str));
    let found = db::components(tx, &keys, true).await?;
    let errors: Vec<_> = said
        .components
        .iter()
        .enumerate()
        .filter(|(_, c)| !found.iter().any(|f| f.key == c.key))
        .map(|(i, c)| unknown_component(&format!("components[{i}].key"), &c.key))
        .collect();
    if errors.is_empty() { Ok(found) } else { Err(errors.into()) }
}

fn next_revision(known: Option<IncidentNow>, said: &IncidentIn, observed_at: Timestamp, late: bool) -> IncidentNow {
    let over = class_of(said.phase) == Class::IncidentEnd;
    match known {
        // A late update is counted, and changes nothing that newer ones have said.
        Some(i) if late => IncidentNow { revision: i.revision + 1, ..i },
        Some(i) => IncidentNow {
            title: said.title.clone(),
            phase: if said.phase == Phase::Update { i.phase } else { said.phase },
            revision: i.revision + 1,
            started_at: said.started_at.unwrap_or(i.started_at),
            updated_at: observed_at.max(i.updated_at),
            resolved_at: match said.phase {
                Phase::Postmortem => i.resolved_at,
                _ if over => Some(said.ended_at.unwrap_or(observed_at)),
                _ if reopens(said) => None,
                _ => i.resolved_at,
            },
            id: i.id,
        },
        None => IncidentNow {
            id: IncidentId::new(),
            title: said.title.clone(),
            phase: said.phase,
            revision: 1,
            started_at: said.started_at.unwrap_or(observed_at),
            updated_at: observed_at,
            resolved_at: over.then(|| said.ended_at.unwrap_or(observed_at)),
        },
    }
}

/// An update after *resolved* reopens nothing unless it reports a component down.
fn reopens(said: &IncidentIn) -> bool {
    said.components.iter().any(|c| c.status.is_some_and(is_down))
}

/// Down enough that a customer could not act.
fn is_down(status: ComponentStatus) -> bool {
    matches!(status, ComponentStatus::PartialOutage | ComponentStatus::MajorOutage)
}

/// Moves the components an update names; whether one of them is worse than before.
async fn move_components(
    tx: &mut Tx,
    incident: &IncidentNow,
    said: &IncidentIn,
    found: Vec<ComponentNow>,
    observed_at: Timestamp,
) -> Result<bool, IngestError> {
    let over = class_of(said.phase) == Class::IncidentEnd;
    let before = db::incident_components(tx, incident.id).await?;
    let mut worse = false;
    for component in &found {
        let named = said.components.iter().find(|c| c.key == component.key);
        let known = before.iter().find(|b| b.id == component.id).map(|b| b.status);
        // Named without a state: as bad as the phase says.
        let status = match (named.and_then(|c| c.status), over) {
            (Some(status), _) => status,
            (None, true) => ComponentStatus::Operational,
            (None, false) => known.unwrap_or(ComponentStatus::DegradedPerformance),
        };
        worse |= is_down(status) && known.is_none_or(|known| known < status);
        db::save_incident_component(tx, incident.id, component.id, status).await?;
        let what = match status {
            _ if is_down(status) => What::Failed,
            ComponentStatus::Operational => What::Recovered,
            _ => continue,
        };
        hear(tx, incident.id, component, what, said, observed_at).await?;
    }
    if over {
        for component in before.iter().filter(|b| !found.iter().any(|f| f.id == b.id)) {
            db::save_incident_component(tx, incident.id, component.id, ComponentStatus::Operational).await?;
        }
    }
    Ok(worse)
}

async fn hear(
    tx: &mut Tx,
    incident: IncidentId,
    component: &ComponentNow,
    what: What,
    said: &IncidentIn,
    observed_at: Timestamp,
) -> Result<(), IngestError> {
    let mut state = component.domain();
    // The first report tells since when; what was down before it was known belongs to the outage.
    let since = said.started_at.filter(|at| state.up_since.is_none_or(|up| *at > up)).unwrap_or(observed_at);
    let at = if what == What::Failed { since.min(observed_at) } else { observed_at };
    let heard =
        Said { what, observed_at: at, covers: false, since: None, newest_in_sequence: false, out_of_sequence: false };
    match state.hear(heard) {
        Effect::Opened { since } => {
            db::save_episode(tx, component.id, state.episode, since, None, None, Some(incident)).await?;
        }
        Effect::Ended { n, since, at, .. } => {
            db::save_episode(tx, component.id, n, since, Some(at), None, None).await?;
            up(tx, component.id).await?;
        }
        _ => return Ok(()),
    }
    db::save_component(tx, component.id, &state).await?;
    Ok(())
}

async fn up(tx: &mut Tx, component: ComponentId) -> Result<(), IngestError> {
    Ok(db::add_plans(tx, &[component_up(component)]).await?)
}
