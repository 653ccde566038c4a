//! Reading recorded histories: Statuspage's `incidents.json`, and timelines of one incident a line. Which of the two a
//! file is, its content says.

use super::history::{Component, History, Incident, Update, is_end};
use super::plain;
use crate::domain::incident::{ComponentStatus, Impact, Phase};
use crate::domain::time::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::HashSet;

/// What is wrong with a file: where, and what.
pub type Wrong = String;

#[derive(Deserialize)]
struct Statuspage {
    #[serde(default)]
    page: Page,
    incidents: Vec<StatuspageIncident>,
}

#[derive(Deserialize, Default)]
struct Page {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct StatuspageIncident {
    id: String,
    name: String,
    impact: Option<Impact>,
    started_at: Option<Timestamp>,
    incident_updates: Vec<StatuspageUpdate>,
}

#[derive(Deserialize)]
struct StatuspageUpdate {
    id: String,
    status: String,
    body: Option<String>,
    created_at: Timestamp,
    display_at: Option<Timestamp>,
    deliver_notifications: Option<bool>,
    affected_components: Option<Vec<Affected>>,
}

#[derive(Deserialize)]
struct Affected {
    code: String,
    name: String,
    new_status: Option<ComponentStatus>,
}

#[derive(Deserialize)]
struct Timeline {
    #[serde(default)]
    page: String,
    id: String,
    name: String,
    impact: Option<Impact>,
    started_at: Option<Timestamp>,
    components: Option<Vec<String>>,
    updates: Vec<TimelineUpdate>,
}

#[derive(Deserialize)]
struct TimelineUpdate {
    at: String,
    status: String,
    body: Option<String>,
}

/// Reads a file; a timeline of several pages is several histories.
///
/// # Errors
/// When it is neither form, or something in it cannot be read; with the line or the incident, and the field.
pub fn read(content: &[u8]) -> Result<Vec<History>, Wrong> {
    let text = std::str::from_utf8(content).map_err(|e| format!("is no UTF-8 text after byte {}", e.valid_up_to()))?;
    let text = text.trim_start_matches('\u{feff}');
    #[derive(Deserialize)]
    struct Kind {
        incidents: Option<serde::de::IgnoredAny>,
    }
    let neither = "it is neither an incidents.json nor a timeline of one incident a line";
    // The whole of a timeline is one document only when it has one line; else each line is one.
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let histories = match (serde_json::from_str(text), serde_json::from_str::<Kind>(first)) {
        (Ok(Kind { incidents: Some(_) }), _) => vec![statuspage(text)?],
        (_, Ok(_)) => timelines(text)?,
        (Ok(_), Err(_)) => return Err(neither.to_owned()),
        (Err(e), Err(_)) => return Err(format!("line {}: {e}; {neither}", e.line().max(1))),
    };
    for history in &histories {
        let mut known = HashSet::new();
        if let Some(twice) = history.incidents.iter().find(|i| !known.insert(&i.key)) {
            return Err(format!("incident {}: is there twice", twice.key));
        }
    }
    Ok(histories)
}

fn parsed<T: DeserializeOwned>(text: &str) -> Result<T, Wrong> {
    let mut json = serde_json::Deserializer::from_str(text);
    // What is no JSON has no path.
    serde_path_to_error::deserialize(&mut json).map_err(|e| match e.inner().is_data() {
        true => format!("{}: {}", e.path(), e.inner()),
        false => e.into_inner().to_string(),
    })
}

fn statuspage(text: &str) -> Result<History, Wrong> {
    let file: Statuspage = parsed(text)?;
    let incidents = file.incidents.into_iter().map(|incident| {
        let StatuspageIncident { id, name, impact, started_at, incident_updates } = incident;
        let of = |e: Wrong| format!("incident {id}: {e}");
        let updates = incident_updates.into_iter().enumerate().map(|(n, update)| {
            let phase = phase(&update.status).map_err(|e| of(format!("incident_updates[{n}].status: {e}")))?;
            let components = update.affected_components.unwrap_or_default();
            Ok(Update {
                key: line(&update.id),
                arrives: update.created_at,
                observed_at: update.display_at.unwrap_or(update.created_at).min(update.created_at),
                phase,
                components: components.into_iter().map(|c| component(&c.code, &c.name, c.new_status)).collect(),
                body: plain::text(&update.body.unwrap_or_default()),
                deliver: update.deliver_notifications.unwrap_or(true),
            })
        });
        let updates = updates.collect::<Result<Vec<_>, Wrong>>()?;
        incident_of(&id, &name, impact, started_at, updates).map_err(of)
    });
    Ok(History { page: line(&file.page.name), incidents: incidents.collect::<Result<_, Wrong>>()? })
}

fn timelines(text: &str) -> Result<Vec<History>, Wrong> {
    let mut histories: Vec<History> = Vec::new();
    for (number, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
        let at = |e: Wrong| format!("line {number}: {e}");
        let said: Timeline = parsed(text).map_err(at)?;
        let components: Vec<_> = said.components.iter().flatten().map(|name| component(name, name, None)).collect();
        let updates = said.updates.into_iter().enumerate().map(|(n, update)| {
            let field = |name: &str, e: Wrong| at(format!("updates[{n}].{name}: {e}"));
            let arrives = Timestamp::parse(&update.at).map_err(|e| field("at", e.to_string()))?;
            Ok(Update {
                key: line(&update.at),
                arrives,
                observed_at: arrives,
                phase: phase(&update.status).map_err(|e| field("status", e))?,
                components: components.clone(),
                body: update.body.unwrap_or_default(),
                deliver: true,
            })
        });
        let updates = updates.collect::<Result<Vec<_>, Wrong>>()?;
        let incident = incident_of(&said.id, &said.name, said.impact, said.started_at, updates).map_err(at)?;
        let page = line(&said.page);
        match histories.iter_mut().find(|history| history.page == page) {
            Some(history) => history.incidents.push(incident),
            None => histories.push(History { page, incidents: vec![incident] }),
        }
    }
    Ok(histories)
}

/// Puts an incident's updates in order, and makes of each what can be taken in.
fn incident_of(
    key: &str,
    name: &str,
    impact: Option<Impact>,
    started_at: Option<Timestamp>,
    mut updates: Vec<Update>,
) -> Result<Incident, Wrong> {
    let (key, title) = (line(key), line(name));
    if key.is_empty() {
        return Err("id: is empty".to_owned());
    }
    // The newest often comes first; two of the same time keep their order.
    if updates.first().map(|u| u.arrives) > updates.last().map(|u| u.arrives) {
        updates.reverse();
    }
    updates.sort_by_key(|u| (u.arrives, is_end(u.phase)));
    let mut known = HashSet::new();
    for (n, update) in updates.iter_mut().enumerate() {
        if update.key.is_empty() || update.components.iter().any(|c| c.key.is_empty() || c.name.is_empty()) {
            return Err(format!("update {}: an id, or a component's key or name, is empty", n + 1));
        }
        let (id, mut nth) = (update.key.clone(), 2);
        while !known.insert(update.key.clone()) {
            update.key = format!("{id}#{nth}");
            nth += 1;
        }
        let mut named = HashSet::new();
        update.components.retain(|c| named.insert(c.key.clone()));
        update.body =
            update.body.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).take(50_000).collect();
        if update.body.trim().is_empty() {
            update.body.clone_from(&title);
        }
    }
    // Some pages give an incident's beginning as its end, or later.
    let started_at = started_at.filter(|at| updates.iter().all(|u| *at <= u.observed_at));
    let title = if title.is_empty() { key.clone() } else { title };
    Ok(Incident { key, title, impact, started_at, updates })
}

fn component(key: &str, name: &str, status: Option<ComponentStatus>) -> Component {
    Component { key: line(key), name: line(name), status }
}

/// `In progress` is `in_progress`.
fn phase(word: &str) -> Result<Phase, Wrong> {
    word.trim().to_lowercase().replace([' ', '-'], "_").replace("post_mortem", "postmortem").parse()
}

/// A text of one line that a field of ours takes.
fn line(text: &str) -> String {
    text.trim().chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
