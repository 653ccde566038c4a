//! Composing: what the claim freezes of a mail, so that a repeat is the same bytes whatever has changed since.

use super::alert::Own;
use super::intake::{ActionIn, IncidentIn};
use super::look::Seen;
use super::setting::Setting;
use crate::domain::class::Class;
use crate::domain::delivery::Rule;
use crate::domain::id::{DeliveryId, NoticeId};
use crate::domain::incident::{ComponentStatus, Impact, Phase};
use crate::domain::time::{Span, Timestamp};
use crate::mail::{About, Letter};
use crate::store::view::{DeliveryView, ItemView};
use crate::template::context::{
    ActionRequiredMail, AllClearMail, ComponentLine, ConnectionLine, CorrectedLine, CorrectionMail, FreeMail,
    IncidentMail, Mail, PostMortemMail,
};
use crate::template::{Reader, Templates};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use uuid::Uuid;

/// From then on a mail says that it is late.
const LATE: Span = Span::minutes(30);

/// All that rendering and building a mail needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frozen {
    /// Its content.
    pub mail: Mail,
    /// For whom it is written.
    pub name: Option<String>,
    /// The language of the reader.
    pub locale: String,
    /// The time zone of the reader.
    pub zone: String,
    /// The Date header.
    pub date: Timestamp,
    /// The From header.
    pub from: String,
    /// The Reply-To header.
    pub reply_to: Option<String>,
    /// The address.
    pub to: String,
    /// The thread's subject.
    pub subject: String,
    /// The Message-ID, without angle brackets.
    pub message_id: String,
    /// The thread's root and its last mail.
    pub references: Vec<String>,
    /// An opaque id that support can search by.
    pub reference: String,
    /// The incident it tells of.
    #[serde(default)]
    pub about: Option<About>,
    /// When it loses its value (RFC 10080).
    pub expires: Option<Timestamp>,
}

/// A mail cannot be composed, rendered or built.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ComposeError(pub String);

/// What notices said, by id, as JSON.
pub type Payloads = HashMap<NoticeId, String>;

/// Composes the mail of a delivery, with the items at these positions.
///
/// # Errors
/// When a notice cannot be read back, or something that the class needs is missing.
pub fn freeze(
    seen: &Seen,
    keep: &[usize],
    still_open: &[String],
    payloads: &Payloads,
    setting: &Setting,
    now: Timestamp,
) -> Result<Frozen, ComposeError> {
    let row = &seen.row;
    let mail = content(seen, keep, still_open, payloads, setting, now)?;
    let about = about(seen, &mail, payloads);
    let stream = setting.stream(row.class).ok_or_else(|| ComposeError(format!("no stream carries {}", row.class)))?;
    let message_id = row
        .message_id
        .clone()
        .unwrap_or_else(|| format!("{}.{}@{}", row.id.0.simple(), row.thread_id.0.simple(), setting.domain));
    let last = row.last_message_id.clone().filter(|last| *last != message_id);
    let expires = (row.class == Class::ActionRequired).then(|| now + Span::hours(72));
    let fresh = Frozen {
        mail,
        name: row.name.clone(),
        locale: row.locale.clone(),
        zone: row.zone.clone(),
        date: Timestamp(now.0 - now.0.rem_euclid(1_000_000)),
        from: row.sender.clone(),
        reply_to: stream.reply_to.clone(),
        to: row.address.clone(),
        subject: row.subject.clone(),
        references: std::iter::once(row.root.clone()).chain(last).collect(),
        message_id,
        reference: row.id.to_string(),
        about,
        expires,
    };
    Ok(earlier(row, &fresh).unwrap_or(fresh))
}

/// The delivery that a Message-ID of ours begins with, in angle brackets or without; what follows the id is not compared.
#[must_use]
pub fn named_by(message_id: &str) -> Option<DeliveryId> {
    let (id, _) = message_id.trim_start_matches('<').split_once('.').filter(|(_, rest)| rest.contains('@'))?;
    Uuid::try_parse(id).ok().filter(|_| id.len() == 32).map(DeliveryId)
}

/// What was frozen for an earlier try that the relay saw: a repeat is the same bytes, unless they would say something
/// else than is to be said now.
fn earlier(row: &DeliveryView, fresh: &Frozen) -> Option<Frozen> {
    let earlier: Frozen = serde_json::from_str(row.context.as_deref()?).ok()?;
    let says_the_same = match (&earlier.mail, &fresh.mail) {
        (Mail::ActionRequired(a), Mail::ActionRequired(b)) => a.connections == b.connections,
        (Mail::Correction(a), Mail::Correction(b)) => {
            a.maybe == b.maybe
                && a.still_open == b.still_open
                && a.connections.iter().map(|c| &c.name).eq(b.connections.iter().map(|c| &c.name))
        }
        // What has surely not arrived can still say how late it is.
        (Mail::Incident(a), Mail::Incident(b)) => row.maybe_mailed || a.late_by == b.late_by,
        _ => true,
    };
    (says_the_same && earlier.to == fresh.to).then_some(earlier)
}

/// Renders and builds the bytes of a frozen mail.
///
/// # Errors
/// When a template or the builder refuses it.
pub fn bytes(frozen: &Frozen, templates: &Templates) -> Result<Vec<u8>, ComposeError> {
    let reader = Reader { name: frozen.name.clone(), locale: frozen.locale.clone(), zone: frozen.zone.clone() };
    let rendered = templates.render(&frozen.mail, &reader).map_err(|e| ComposeError(e.to_string()))?;
    let letter = Letter {
        message_id: frozen.message_id.clone(),
        date: frozen.date,
        from: frozen.from.clone(),
        reply_to: frozen.reply_to.clone(),
        to: frozen.to.clone(),
        subject: frozen.subject.clone(),
        in_reply_to: frozen.references.last().cloned(),
        references: frozen.references.clone(),
        // The built-in texts are English; `locale` is what the reader asked for.
        language: "en".to_owned(),
        reference: frozen.reference.clone(),
        about: frozen.about.clone(),
        expires: frozen.expires,
        text: rendered.text,
        html: rendered.html,
    };
    crate::mail::build(&letter).map_err(|e| ComposeError(e.to_string()))
}

/// The incident that a mail tells of, for its headers.
fn about(seen: &Seen, mail: &Mail, payloads: &Payloads) -> Option<About> {
    #[derive(Deserialize)]
    struct Said {
        update: Option<String>,
        phase: Phase,
    }
    let row = &seen.row;
    let payload = row.notice_id.and_then(|id| payloads.get(&id));
    let said: Option<Said> = payload.and_then(|text| serde_json::from_str(text).ok());
    Some(About {
        incident: row.incident_key.clone()?,
        // For this subscriber an all-clear is the end, whatever the incident's phase.
        phase: match mail {
            Mail::AllClear(_) => Phase::Resolved,
            Mail::Incident(mail) => mail.phase,
            _ => said.as_ref()?.phase,
        },
        update: said.and_then(|said| said.update),
        components: seen.items.iter().map(|item| item.component_key.clone()).collect(),
    })
}

fn content(
    seen: &Seen,
    keep: &[usize],
    still_open: &[String],
    payloads: &Payloads,
    setting: &Setting,
    now: Timestamp,
) -> Result<Mail, ComposeError> {
    let payload = seen.row.notice_id.and_then(|id| payloads.get(&id)).map(String::as_str);
    match seen.row.class {
        Class::ActionRequired => Ok(Mail::ActionRequired(action_required(seen, keep, read_some(payload)?, setting))),
        Class::Correction => Ok(Mail::Correction(correction(seen, keep, still_open, setting))),
        Class::IncidentUpdate | Class::IncidentEnd => Ok(Mail::Incident(incident(seen, read(payload)?, setting, now)?)),
        Class::PostMortem => Ok(Mail::PostMortem(post_mortem(seen, read(payload)?, setting)?)),
        Class::AllClear => Ok(Mail::AllClear(all_clear(seen, still_open, setting)?)),
        Class::Free => Ok(match read(payload)? {
            Own::Surge(mail) => Mail::Surge(mail),
            Own::Free(said) => Mail::Free(FreeMail {
                subject: said.subject,
                body: said.body,
                link: said.link,
                support_link: said.support_link.or_else(|| setting.support_url.clone()),
            }),
        }),
    }
}

fn read<T: serde::de::DeserializeOwned>(payload: Option<&str>) -> Result<T, ComposeError> {
    read_some(payload)?.ok_or_else(|| ComposeError("its notice is missing".to_owned()))
}

fn read_some<T: serde::de::DeserializeOwned>(payload: Option<&str>) -> Result<Option<T>, ComposeError> {
    payload
        .map(|text| {
            serde_json::from_str(text).map_err(|e| ComposeError(format!("its notice cannot be read back: {e}")))
        })
        .transpose()
}

fn kept<'a>(seen: &'a Seen, keep: &'a [usize]) -> impl Iterator<Item = &'a crate::store::view::ItemView> {
    keep.iter().filter_map(|position| seen.items.get(*position))
}

fn action_required(seen: &Seen, keep: &[usize], said: Option<ActionIn>, setting: &Setting) -> ActionRequiredMail {
    let component = seen.items.first().map(|i| i.component_name.clone()).unwrap_or_default();
    let connections: Vec<_> = kept(seen, keep)
        .map(|item| ConnectionLine {
            name: item.name.clone().unwrap_or_default(),
            failed_at: item.broken_since.or(item.failed_at).unwrap_or_default(),
        })
        .collect();
    let link = kept(seen, keep).find_map(|item| item.link.clone());
    let said_link = said.as_ref().and_then(|s| s.link.clone());
    let support = said.as_ref().and_then(|s| s.support_link.clone()).or_else(|| setting.support_url.clone());
    let (happened, did, todo) = match said {
        Some(s) => (Some(s.what_happened), s.what_we_did, Some(s.what_to_do)),
        None => (None, None, None),
    };
    ActionRequiredMail {
        again: !keep.is_empty() && kept(seen, keep).all(|item| item.corrected_before),
        what_happened: happened.unwrap_or_else(|| {
            format!("{component} no longer accepts the saved sign-in, so nothing is being synchronised.")
        }),
        what_we_did: did.unwrap_or_else(|| "We tried to reconnect automatically; that needs you now.".to_owned()),
        what_to_do: todo.unwrap_or_else(|| "Reconnect by signing in again.".to_owned()),
        link: said_link.or(link).or_else(|| setting.public_url.clone()),
        support_link: support,
        connections,
        component,
    }
}

fn correction(seen: &Seen, keep: &[usize], still_open: &[String], setting: &Setting) -> CorrectionMail {
    let mut connections: Vec<CorrectedLine> = Vec::new();
    for item in kept(seen, keep) {
        let name = item.name.clone().unwrap_or_default();
        // Two mails about one connection are taken back in one line.
        if connections.iter().all(|line| line.name != name) {
            let recovered_at = item.well_as_of.or(item.component_up_since()).unwrap_or(seen.row.created_at);
            connections.push(CorrectedLine { name, recovered_at });
        }
    }
    // What broke again waits in a mail of its own, and must not be called well by this one's silence. Of what its mail
    // never said, it need say nothing; nobody would take that back.
    let waits = |item: &ItemView| {
        item.original().is_some_and(|original| original.maybe_mailed)
            && item.claim().is_some_and(|claim| claim.open_now())
    };
    let waiting = seen.items.iter().enumerate().filter(|(position, item)| !keep.contains(position) && waits(item));
    let mut open = still_open.to_vec();
    open.extend(waiting.filter_map(|(_, item)| item.name.clone()));
    open.sort();
    open.dedup();
    CorrectionMail {
        component: seen.items.first().map(|i| i.component_name.clone()).unwrap_or_default(),
        connections,
        asked_at: kept(seen, keep).filter_map(|i| i.original_claimed_at).max().unwrap_or(seen.row.created_at),
        maybe: kept(seen, keep).any(|item| item.is_original_uncertain()),
        still_open: open,
        link: setting.public_url.clone(),
        support_link: setting.support_url.clone(),
    }
}

fn needed<T>(value: Option<T>, what: &str) -> Result<T, ComposeError> {
    value.ok_or_else(|| ComposeError(format!("its incident has no {what}")))
}

fn component_lines(seen: &Seen) -> Vec<ComponentLine> {
    seen.items
        .iter()
        .map(|item| ComponentLine {
            name: item.component_name.clone(),
            // The present state: the mail may have waited.
            status: item.status_now.or(item.status).unwrap_or(ComponentStatus::Operational),
        })
        .collect()
}

fn incident(seen: &Seen, said: IncidentIn, setting: &Setting, now: Timestamp) -> Result<IncidentMail, ComposeError> {
    let row = &seen.row;
    let posted_at = needed(row.observed_at, "time")?;
    let late = now - due(row, posted_at, setting);
    // An update without a phase of its own that replaces a change of phase tells it.
    let untold = row.phase.filter(|phase| said.phase == Phase::Update && row.last_phase != Some(*phase));
    Ok(IncidentMail {
        title: needed(row.title.clone(), "title")?,
        reference: needed(row.incident_key.clone(), "key")?,
        phase: untold.unwrap_or(said.phase),
        impact: said.impact.or(row.impact).unwrap_or(Impact::Minor),
        body: said.body,
        components: component_lines(seen),
        started_at: needed(row.started_at, "beginning")?,
        ended_at: row.resolved_at.filter(|_| row.class == Class::IncidentEnd),
        posted_at,
        late_by: (late >= LATE).then(|| late.as_seconds()),
        consequences: said.consequences,
        not_affected: said.not_affected,
        // A mail that waited promises nothing that is past.
        next_update_at: said.next_update_at.filter(|at| *at > now),
        link: said.link,
        support_link: said.support_link.or_else(|| setting.support_url.clone()),
    })
}

/// When a post was to be mailed: at once, or when the thread had been silent for long with nothing new to say.
fn due(row: &DeliveryView, posted_at: Timestamp, setting: &Setting) -> Timestamp {
    let silence = setting.limits(row.class).longest_silence.filter(|_| row.rule == Some(Rule::NothingNew));
    let spoken = silence.and_then(|silence| row.last_mailed_at.map(|last| last + silence));
    spoken.map_or(posted_at, |spoken| spoken.max(posted_at))
}

fn post_mortem(seen: &Seen, said: IncidentIn, setting: &Setting) -> Result<PostMortemMail, ComposeError> {
    Ok(PostMortemMail {
        title: needed(seen.row.title.clone(), "title")?,
        reference: needed(seen.row.incident_key.clone(), "key")?,
        body: said.body,
        components: component_lines(seen),
        started_at: needed(seen.row.started_at, "beginning")?,
        ended_at: seen.row.resolved_at,
        link: said.link,
        support_link: said.support_link.or_else(|| setting.support_url.clone()),
    })
}

fn all_clear(seen: &Seen, still_open: &[String], setting: &Setting) -> Result<AllClearMail, ComposeError> {
    let started_at = needed(seen.row.started_at, "beginning")?;
    let worked_again = seen.items.iter().filter_map(|i| i.worked_again(started_at)).max();
    Ok(AllClearMail {
        title: needed(seen.row.title.clone(), "title")?,
        reference: needed(seen.row.incident_key.clone(), "key")?,
        components: seen.items.iter().map(|i| i.component_name.clone()).collect(),
        started_at,
        recovered_at: worked_again.unwrap_or(seen.row.created_at),
        still_open: still_open.to_vec(),
        link: None,
        support_link: setting.support_url.clone(),
    })
}
