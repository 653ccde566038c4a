//! Whom a notice names, checked at the door: nothing that is empty or unknown ever comes to mean everybody.

use super::ingest::IngestError;
use super::intake::{Check, ComponentIn, FieldError, FreeIn, IncidentIn};
use super::register::check_values;
use crate::domain::id::{IncidentId, NoticeId};
use crate::domain::subscription::Filter;
use crate::store::{Tx, audience as db};

/// Each value of the leading name is read as a list of its own.
const VALUES: usize = 100;
const NAMES: usize = 20;

impl IncidentIn {
    /// Whether it says itself who is reached, so that later updates keep to it.
    pub(super) fn names_its_audience(&self) -> bool {
        self.filter.is_some() || !self.recipients.is_empty()
    }

    pub(super) fn check_audience(&self, check: &mut Check) {
        check_groups(check, &self.groups);
        check_filter(check, self.filter.as_ref());
        if self.filter.is_some() && !self.recipients.is_empty() {
            check.refuse("filter", "stands beside recipients: an incident reaches those named or those who match");
        }
        if self.everyone && self.names_its_audience() {
            check.refuse("everyone", "lifts recipients and filter, so it cannot stand beside them");
        }
    }
}

impl FreeIn {
    pub(super) fn check_audience(&self, check: &mut Check) {
        check_groups(check, &self.groups);
        check_filter(check, self.filter.as_ref());
        let named = !(self.recipients.is_empty() && self.components.is_empty() && self.groups.is_empty());
        match (named, self.everyone, &self.filter) {
            (true, true, _) => {
                check.refuse("everyone", "is everybody: leave recipients, components and groups away, or it");
            }
            (false, false, Some(_)) => check.refuse(
                "filter",
                "restricts those named: name recipients, components or groups, or say `everyone: true`",
            ),
            (false, false, None) => check.refuse(
                "recipients",
                "name recipients, components or groups, or say `everyone: true`: a notice to nobody is a mistake",
            ),
            _ => {}
        }
    }
}

fn check_groups(check: &mut Check, groups: &[String]) {
    for (i, group) in groups.iter().enumerate() {
        check.line(&format!("groups[{i}]"), group, 200);
    }
}

fn check_filter(check: &mut Check, filter: Option<&Filter>) {
    let Some(Filter(names)) = filter else { return };
    if names.is_empty() || names.len() > NAMES {
        check.refuse("filter", format!("needs 1 to {NAMES} attributes, each with its values"));
    }
    for (name, values) in names {
        check.line("filter", name, 100);
        let field = format!("filter.{name}");
        check_values(check, &field, values);
        if values.is_empty() || values.len() > VALUES {
            check.refuse(field, format!("needs 1 to {VALUES} values"));
        }
    }
}

/// The update with the components of its groups named, each without a state.
pub(super) async fn with_groups(tx: &mut Tx, said: &IncidentIn) -> Result<IncidentIn, IngestError> {
    let mut said = said.clone();
    for (_, key, _) in members(tx, &said.groups).await? {
        if !said.components.iter().any(|c| c.key == key) {
            said.components.push(ComponentIn { key, status: None });
        }
    }
    Ok(said)
}

/// The components of some groups: group, key and id.
pub(super) async fn members(
    tx: &mut Tx,
    groups: &[String],
) -> Result<Vec<(String, String, crate::domain::id::ComponentId)>, IngestError> {
    if groups.is_empty() {
        return Ok(Vec::new());
    }
    let found = db::members(tx, groups).await?;
    let unknown = groups.iter().enumerate().filter(|(_, group)| !found.iter().any(|(of, ..)| of == *group));
    let errors: Vec<_> = unknown.map(|(i, group)| no_group(&format!("groups[{i}]"), group)).collect();
    if errors.is_empty() { Ok(found) } else { Err(errors.into()) }
}

/// An unknown group is named.
pub(super) fn no_group(field: &str, key: &str) -> FieldError {
    FieldError::new(field, format!("no component is in the group `{key}`"))
}

/// Later updates of the incident keep to the recipients or the filter of this one, until one says `everyone: true`.
pub(super) async fn remember(
    tx: &mut Tx,
    incident: IncidentId,
    notice: NoticeId,
    said: &IncidentIn,
) -> Result<(), IngestError> {
    match said.names_its_audience() {
        true => db::restrict(tx, incident, Some(notice)).await?,
        false if said.everyone => db::restrict(tx, incident, None).await?,
        false => {}
    }
    Ok(())
}

/// What a filter leaves to say: it is no mistake that nobody has an attribute yet, but it may be one.
pub(super) async fn note(tx: &mut Tx, filter: Option<&Filter>) -> Result<Option<String>, IngestError> {
    let Some(filter) = filter else { return Ok(None) };
    let held = db::names_held(tx, filter).await?;
    let missing: Vec<_> = filter.0.keys().filter(|name| !held.contains(name)).map(|n| format!("`{n}`")).collect();
    let note = || format!("it reaches nobody now: no subscriber has a value given for {}", missing.join(", "));
    Ok((!missing.is_empty()).then(note))
}
