//! Composing: what the claim freezes of a mail, so that a repeat is the same bytes with the same templates.

mod connections;
mod incidents;

use super::alert::Own;
use super::look::Seen;
use super::setting::Setting;
use super::words::Words;
use crate::domain::class::Class;
use crate::domain::id::DeliveryId;
use crate::domain::incident::Phase;
use crate::domain::time::{Span, Timestamp};
use crate::mail::{About, Letter};
use crate::store::view::DeliveryView;
use crate::template::context::{ActionRequiredMail, Because, FreeMail, Mail};
use crate::template::{Reader, Templates};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use uuid::Uuid;

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

/// Composes the mail of a delivery, with the items at these positions.
///
/// # Errors
/// When a notice cannot be read back, or something that the class needs is missing.
pub fn freeze(
    seen: &Seen,
    keep: &[usize],
    said: &Words,
    setting: &Setting,
    now: Timestamp,
) -> Result<Frozen, ComposeError> {
    let row = &seen.row;
    let mail = content(seen, keep, said, setting, now)?;
    let about = about(seen, &mail, said);
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
        // What has surely not arrived can still say how late it is, and how things are by now, in the newest words.
        (Mail::ActionRequired(a), Mail::ActionRequired(b)) => match row.maybe_mailed {
            // Whatever text came since, and to which of them.
            true => named(a) == named(b),
            false => a == b,
        },
        (Mail::Correction(a), Mail::Correction(b)) => {
            a.maybe == b.maybe
                && a.still_open == b.still_open
                && a.connections.iter().map(|c| &c.name).eq(b.connections.iter().map(|c| &c.name))
        }
        (Mail::Incident(a), Mail::Incident(b)) => a.still_open == b.still_open && (row.maybe_mailed || a == b),
        (Mail::PostMortem(a), Mail::PostMortem(b)) => row.maybe_mailed || a == b,
        (Mail::AllClear(a), Mail::AllClear(b)) => a.still_open == b.still_open && (row.maybe_mailed || a == b),
        _ => true,
    };
    (says_the_same && earlier.to == fresh.to).then_some(earlier)
}

fn named(mail: &ActionRequiredMail) -> BTreeSet<(&str, Timestamp)> {
    mail.asks().flat_map(|ask| &ask.connections).map(|c| (c.name.as_str(), c.failed_at)).collect()
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
fn about(seen: &Seen, mail: &Mail, said: &Words) -> Option<About> {
    #[derive(Deserialize)]
    struct Update {
        update: Option<String>,
        phase: Phase,
    }
    let row = &seen.row;
    let said: Option<Update> = said.by(row.notice_id).ok().flatten();
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

fn content(seen: &Seen, keep: &[usize], said: &Words, setting: &Setting, now: Timestamp) -> Result<Mail, ComposeError> {
    match seen.row.class {
        Class::ActionRequired => Ok(Mail::ActionRequired(connections::action_required(seen, keep, said, setting)?)),
        Class::Correction => Ok(Mail::Correction(connections::correction(seen, keep, said, setting))),
        Class::IncidentUpdate | Class::IncidentEnd => {
            Ok(Mail::Incident(incidents::incident(seen, said, setting, now)?))
        }
        Class::PostMortem => Ok(Mail::PostMortem(incidents::post_mortem(seen, said, setting)?)),
        Class::AllClear => Ok(Mail::AllClear(incidents::all_clear(seen, said, setting)?)),
        Class::Free => Ok(match own(seen, said)? {
            Own::Surge(mail) => Mail::Surge(mail),
            Own::Free(free) => Mail::Free(FreeMail {
                because: match free.components.is_empty() && free.groups.is_empty() {
                    true => Because::Addressed,
                    false => Because::Follows,
                },
                subject: free.subject,
                body: free.body,
                link: free.link,
                support_link: free.support_link.or_else(|| setting.support_url.clone()),
            }),
        }),
    }
}

/// What its own notice said.
fn own<T: serde::de::DeserializeOwned>(seen: &Seen, said: &Words) -> Result<T, ComposeError> {
    said.by(seen.row.notice_id)?.ok_or_else(|| ComposeError("its notice is missing".to_owned()))
}
