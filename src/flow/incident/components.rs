//! What an update of an incident moves: the states of the components it names, and their outages.

use super::super::ingest::IngestError;
use super::super::intake::IncidentIn;
use super::super::signals::component_up;
use super::{Standing, class_of};
use crate::domain::class::Class;
use crate::domain::component::{Effect, Said};
use crate::domain::connection::{By, What};
use crate::domain::id::{IncidentId, RecoveryId};
use crate::domain::incident::{ComponentStatus, Phase};
use crate::domain::time::Timestamp;
use crate::store::incidents::IncidentNow;
use crate::store::ingest::{ComponentNow, RecoveryRow};
use crate::store::{Tx, incidents, ingest as db, surge, tallies};

/// The state of a component that is named without one: as bad as the phase says. Trouble that is looked into is trouble,
/// also with what had come back.
fn implied(phase: Phase, known: Option<ComponentStatus>) -> ComponentStatus {
    match (phase, known) {
        (Phase::Resolved | Phase::Completed, _) => ComponentStatus::Operational,
        (Phase::InProgress | Phase::Verifying, _) => ComponentStatus::UnderMaintenance,
        (Phase::Scheduled | Phase::Postmortem, known) => known.unwrap_or(ComponentStatus::Operational),
        (Phase::Investigating | Phase::Identified, Some(ComponentStatus::Operational)) | (_, None) => {
            ComponentStatus::DegradedPerformance
        }
        (_, Some(known)) => known,
    }
}

/// Moves the components an update names. The incident is as it stands after it, beside its phase before.
pub(super) async fn move_components(
    tx: &mut Tx,
    (incident, was): (&IncidentNow, Option<Phase>),
    said: &IncidentIn,
    found: Vec<ComponentNow>,
    observed_at: Timestamp,
    standing: Standing,
) -> Result<(), IngestError> {
    let over = class_of(said.phase) == Class::IncidentEnd;
    let before = incidents::components(tx, incident.id).await?;
    let ids: Vec<_> = found.iter().map(|c| c.id).collect();
    let down_elsewhere = incidents::down_elsewhere(tx, &ids, incident.id).await?;
    for component in &found {
        let known = before.iter().find(|b| b.id == component.id).map(|b| b.status);
        // A late update still says which components are concerned, where no newer one has named them.
        let closed = known.is_some() || over || incident.resolved_at.is_some();
        if standing == Standing::Late && closed {
            continue;
        }
        let named = said.components.iter().find(|c| c.key == component.key);
        let reported = named.and_then(|c| c.status);
        // What comes late of a component that no newer update names is as the newest phase has it.
        let phase = if standing == Standing::Late { incident.phase } else { said.phase };
        let status = reported.unwrap_or_else(|| implied(phase, known));
        incidents::save_component(tx, incident, component.id, status).await?;
        // What is to come, and what is long over, says nothing of the present unless it does so expressly.
        if reported.is_none() && matches!(said.phase, Phase::Scheduled | Phase::Postmortem) {
            continue;
        }
        let works = status == ComponentStatus::Operational;
        let what = match status {
            // Another open incident says that it is down: it is not back before that one says so.
            _ if (works || over) && down_elsewhere.contains(&component.id) => {
                incidents::hand_over(tx, component.id, incident.id).await?;
                continue;
            }
            // Over, though not well: that is said in the end, and is no new outage. What is to come is none yet.
            _ if status.is_down() && (over || said.phase == Phase::Scheduled) => continue,
            _ if status.is_down() => What::Failed,
            ComponentStatus::Operational => What::Recovered,
            _ => continue,
        };
        let back = hear(tx, incident.id, component, what, said, observed_at).await?;
        // Back from a trouble that was no outage: whoever was told of it is told that it is over, too.
        if back || (!over && what == What::Recovered && known.is_some_and(|k| k != ComponentStatus::Operational)) {
            db::add_plans(tx, &[component_up(component.id)]).await?;
        }
    }
    // Whoever names none speaks of all that were named so far.
    let of_the_others = match said.phase {
        _ if standing == Standing::Late => None,
        _ if over => Some(ComponentStatus::Operational),
        // What was announced begins.
        Phase::InProgress | Phase::Verifying if said.components.is_empty() && was == Some(Phase::Scheduled) => {
            Some(ComponentStatus::UnderMaintenance)
        }
        _ => None,
    };
    for component in before.iter().filter(|b| !found.iter().any(|f| f.id == b.id)) {
        if let Some(status) = of_the_others.filter(|status| status.is_worse_than(component.status) || over) {
            incidents::save_component(tx, incident, component.id, status).await?;
        }
    }
    Ok(())
}

/// Moves a component itself; whether that ended an outage.
async fn hear(
    tx: &mut Tx,
    incident: IncidentId,
    component: &ComponentNow,
    what: What,
    said: &IncidentIn,
    observed_at: Timestamp,
) -> Result<bool, IngestError> {
    let mut state = component.domain();
    // The first report tells since when; what was down before it was known belongs to the outage.
    let started = said.started_at.filter(|at| state.down_since.is_none() && state.up_since.is_none_or(|up| *at > up));
    // What is said without a time is said after what it had to wait for.
    let observed_at = if said.observed_at.is_none() { state.said_now(observed_at) } else { observed_at };
    let since = started.filter(|_| what == What::Failed);
    let heard = Said { what, observed_at, covers: false, since, newest_in_sequence: false, out_of_sequence: false };
    let mut ended = false;
    let effect = state.hear(heard);
    if !state.overruled && component.domain().overruled {
        surge::unreported(tx, component.id).await?;
    }
    match effect {
        Effect::Opened { since } => {
            db::save_episode(tx, component.id, state.episode, since, None, None, Some(incident)).await?;
            surge::reported(tx, component.id, &state).await?;
        }
        Effect::Ended { n, since, at, .. } => {
            tallies::begin_anew(tx, component.id).await?;
            db::save_episode(tx, component.id, n, since, Some(at), None, None).await?;
            // Nobody asks how far it is: its sweep wakes whom the outage alone kept.
            let recovery = RecoveryRow {
                id: RecoveryId::new(),
                component: component.id,
                connection: None,
                episode: n,
                by: By::Unknown,
                covering: None,
                confirm_by: None,
            };
            db::add_recoveries(tx, &[recovery]).await?;
            ended = true;
        }
        Effect::Repeated if what == What::Failed => {
            incidents::take_over(tx, component.id, state.episode, incident).await?;
            surge::reported(tx, component.id, &state).await?;
        }
        _ => {}
    }
    db::save_component(tx, component.id, &state).await?;
    Ok(ended)
}
