//! Composing: what the claim freezes of a mail, so that a repeat is the same bytes whatever has changed since.

use super::alert::Own;
use super::intake::{ActionIn, IncidentIn};
use super::look::Seen;
use super::said::Said;
use super::setting::Setting;
use crate::domain::class::Class;
use crate::domain::delivery::Rule;
use crate::domain::id::{ConnectionId, DeliveryId, NoticeId};
use crate::domain::incident::{ComponentStatus, Impact, Phase};
use crate::domain::time::{Span, Timestamp};
use crate::mail::{About, Letter};
use crate::store::view::{DeliveryView, ItemView};
use crate::template::context::{
    ActionRequiredMail, AllClearMail, Ask, ComponentLine, ConnectionLine, CorrectedLine, CorrectionMail, FreeMail,
    IncidentMail, Mail, PostMortemMail,
};
use crate::template::{Reader, Templates};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
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

/// Composes the mail of a delivery, with the items at these positions.
///
/// # Errors
/// When a notice cannot be read back, or something that the class needs is missing.
pub fn freeze(
    seen: &Seen,
    keep: &[usize],
    said: &Said,
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
        (Mail::ActionRequired(a), Mail::ActionRequired(b)) => {
            a.asks().map(|ask| &ask.connections).eq(b.asks().map(|ask| &ask.connections))
        }
        (Mail::Correction(a), Mail::Correction(b)) => {
            a.maybe == b.maybe
                && a.still_open == b.still_open
                && a.connections.iter().map(|c| &c.name).eq(b.connections.iter().map(|c| &c.name))
        }
        // What has surely not arrived can still say how late it is.
        (Mail::Incident(a), Mail::Incident(b)) => {
            a.still_open == b.still_open && (row.maybe_mailed || a.late_by == b.late_by)
        }
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
fn about(seen: &Seen, mail: &Mail, said: &Said) -> Option<About> {
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

fn content(seen: &Seen, keep: &[usize], said: &Said, setting: &Setting, now: Timestamp) -> Result<Mail, ComposeError> {
    match seen.row.class {
        Class::ActionRequired => Ok(Mail::ActionRequired(action_required(seen, keep, said, setting)?)),
        Class::Correction => Ok(Mail::Correction(correction(seen, keep, said, setting))),
        Class::IncidentUpdate | Class::IncidentEnd => Ok(Mail::Incident(incident(seen, said, setting, now)?)),
        Class::PostMortem => Ok(Mail::PostMortem(post_mortem(seen, said, setting)?)),
        Class::AllClear => Ok(Mail::AllClear(all_clear(seen, said, setting)?)),
        Class::Free => Ok(match own(seen, said)? {
            Own::Surge(mail) => Mail::Surge(mail),
            Own::Free(free) => Mail::Free(FreeMail {
                addressed: !free.recipients.is_empty() && free.components.is_empty() && free.groups.is_empty(),
                subject: free.subject,
                body: free.body,
                link: free.link,
                support_link: free.support_link.or_else(|| setting.support_url.clone()),
            }),
        }),
    }
}

/// What its own notice said.
fn own<T: serde::de::DeserializeOwned>(seen: &Seen, said: &Said) -> Result<T, ComposeError> {
    said.by(seen.row.notice_id)?.ok_or_else(|| ComposeError("its notice is missing".to_owned()))
}

fn kept<'a>(seen: &'a Seen, keep: &'a [usize]) -> impl Iterator<Item = &'a crate::store::view::ItemView> {
    keep.iter().filter_map(|position| seen.items.get(*position))
}

/// The connections of each text stand together, with its words and its page.
fn action_required(
    seen: &Seen,
    keep: &[usize],
    said: &Said,
    setting: &Setting,
) -> Result<ActionRequiredMail, ComposeError> {
    let items: Vec<_> = kept(seen, keep).collect();
    let names = distinct(
        items.iter().filter_map(|item| Some((item.connection_id?, item.name.as_deref(), item.key.as_deref()))),
    );
    let mut texts: Vec<Option<NoticeId>> = Vec::new();
    for text in items.iter().map(|item| said.about(item)) {
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    let component = seen.items.first().map(|i| i.component_name.clone()).unwrap_or_default();
    let (mut asks, mut support) = (Vec::new(), None);
    for text in texts {
        let words: Option<ActionIn> = said.by(text)?;
        support = support.or_else(|| words.as_ref().and_then(|words| words.support_link.clone()));
        let about: Vec<_> = items.iter().copied().filter(|item| said.about(item) == text).collect();
        asks.push(ask(&about, words, &names, &component, setting));
    }
    let mut asks = asks.into_iter();
    Ok(ActionRequiredMail {
        again: !items.is_empty() && items.iter().all(|item| item.corrected_before),
        ask: asks.next().ok_or_else(|| ComposeError("it names no connection".to_owned()))?,
        others: asks.collect(),
        support_link: support.or_else(|| setting.support_url.clone()),
        component,
    })
}

fn ask(
    about: &[&ItemView],
    said: Option<ActionIn>,
    names: &BTreeMap<ConnectionId, String>,
    component: &str,
    setting: &Setting,
) -> Ask {
    let first = about.first().and_then(|item| item.link.clone());
    // One page for all, or each its own.
    let each = said.as_ref().is_none_or(|said| said.link.is_none()) && about.iter().any(|item| item.link != first);
    let all_have_one = each && about.iter().all(|item| item.link.is_some());
    let own_fault = about.iter().all(|item| item.claim().is_some_and(|claim| claim.is_own_fault()));
    let line = |item: &&ItemView| ConnectionLine {
        name: item.connection_id.and_then(|id| names.get(&id).cloned()).unwrap_or_default(),
        failed_at: item.broken_since.or(item.failed_at).unwrap_or_default(),
        link: item.link.clone().filter(|_| each),
    };
    let connections = about.iter().map(line).collect();
    let page = || setting.public_url.clone().filter(|_| !all_have_one);
    match said {
        Some(said) => Ask {
            connections,
            what_happened: said.what_happened,
            what_we_did: said.what_we_did,
            what_to_do: said.what_to_do,
            link: said.link.or(first.filter(|_| !each)).or_else(page),
        },
        // Nobody said more than that it does not work.
        None => Ask {
            connections,
            what_happened: format!(
                "The connection to {component} has stopped working, so nothing is being synchronised."
            ),
            what_we_did: Some(match own_fault {
                true => "Reconnecting it automatically has failed.".to_owned(),
                false => "We waited for it to come back by itself; it has not.".to_owned(),
            }),
            what_to_do: "Reconnect by signing in again.".to_owned(),
            link: first.filter(|_| !each).or_else(page),
        },
    }
}

/// What connections are called in one mail: those of the same name by their keys, too.
fn distinct<'a>(
    of: impl Iterator<Item = (ConnectionId, Option<&'a str>, Option<&'a str>)>,
) -> BTreeMap<ConnectionId, String> {
    let all: BTreeMap<_, _> = of.map(|(id, name, key)| (id, (name.unwrap_or_default(), key))).collect();
    let mut called: HashMap<&str, usize> = HashMap::new();
    for (name, _) in all.values() {
        *called.entry(name).or_default() += 1;
    }
    let tell = |(name, key): &(&str, Option<&str>)| match key {
        Some(key) if called.get(name).is_some_and(|n| *n > 1) => format!("{name} ({key})"),
        _ => (*name).to_owned(),
    };
    all.iter().map(|(id, one)| (*id, tell(one))).collect()
}

fn correction(seen: &Seen, keep: &[usize], said: &Said, setting: &Setting) -> CorrectionMail {
    // What broke again waits in a mail of its own, and must not be called well by this one's silence. Of what its mail
    // never said, it need say nothing; nobody would take that back.
    let waits = |item: &ItemView| {
        item.original().is_some_and(|original| original.maybe_mailed)
            && item.claim().is_some_and(|claim| claim.open_now())
    };
    let waiting = seen.items.iter().enumerate().filter(|(position, item)| !keep.contains(position) && waits(item));
    let waiting =
        waiting.filter_map(|(_, item)| Some((item.connection_id?, item.name.as_deref(), item.key.as_deref())));
    let silent = said.still_open(seen.row.id).map(|one| (one.connection_id, Some(&*one.name), Some(&*one.key)));
    let open: Vec<_> = silent.chain(waiting).collect();
    let well = kept(seen, keep).filter_map(|i| Some((i.connection_id?, i.name.as_deref(), i.key.as_deref())));
    let names = distinct(well.chain(open.iter().copied()));
    let mut connections: BTreeMap<ConnectionId, CorrectedLine> = BTreeMap::new();
    for item in kept(seen, keep) {
        // Two mails about one connection are taken back in one line.
        let Some((id, name)) = item.connection_id.and_then(|id| Some((id, names.get(&id)?))) else { continue };
        // What was known of it before it broke says nothing of when it came back.
        let known = [item.well_as_of, item.component_up_since()].into_iter().flatten();
        let recovered_at = known.into_iter().find(|at| item.failed_at.is_none_or(|failed| *at >= failed));
        let recovered_at = recovered_at.unwrap_or(seen.row.created_at);
        connections.entry(id).or_insert_with(|| CorrectedLine { name: name.clone(), recovered_at });
    }
    let mut still_open: Vec<String> = open.iter().filter_map(|one| names.get(&one.0).cloned()).collect();
    still_open.sort();
    still_open.dedup();
    CorrectionMail {
        component: seen.items.first().map(|i| i.component_name.clone()).unwrap_or_default(),
        connections: connections.into_values().collect(),
        asked_at: kept(seen, keep).filter_map(|i| i.original_claimed_at).max().unwrap_or(seen.row.created_at),
        maybe: kept(seen, keep).any(|item| item.is_original_uncertain()),
        still_open,
        link: setting.public_url.clone(),
        support_link: setting.support_url.clone(),
    }
}

/// What the reader was asked about and what still does not work, though a mail says that all is over.
fn still_open(seen: &Seen, said: &Said) -> Vec<String> {
    let open = said.still_open(seen.row.id).map(|one| (one.connection_id, Some(&*one.name), Some(&*one.key)));
    let mut names: Vec<_> = distinct(open).into_values().collect();
    names.sort();
    names
}

/// Whether an update goes to those it names, whatever they follow, or keeps to those that an earlier one named.
fn is_addressed(seen: &Seen, update: &IncidentIn, said: &Said) -> bool {
    let by_another = || said.by::<IncidentIn>(seen.row.audience_id).ok().flatten();
    let restricting = if update.names_its_audience() { Some(update.clone()) } else { by_another() };
    !update.everyone && restricting.is_some_and(|one| !one.recipients.is_empty())
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

fn incident(seen: &Seen, said: &Said, setting: &Setting, now: Timestamp) -> Result<IncidentMail, ComposeError> {
    let row = &seen.row;
    let (still_open, said, addressed) = {
        let update: IncidentIn = own(seen, said)?;
        let addressed = is_addressed(seen, &update, said);
        (still_open(seen, said), update, addressed)
    };
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
        still_open,
        addressed,
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

fn post_mortem(seen: &Seen, said: &Said, setting: &Setting) -> Result<PostMortemMail, ComposeError> {
    let update: IncidentIn = own(seen, said)?;
    Ok(PostMortemMail {
        addressed: is_addressed(seen, &update, said),
        title: needed(seen.row.title.clone(), "title")?,
        reference: needed(seen.row.incident_key.clone(), "key")?,
        body: update.body,
        components: component_lines(seen),
        started_at: needed(seen.row.started_at, "beginning")?,
        ended_at: seen.row.resolved_at,
        link: update.link,
        support_link: update.support_link.or_else(|| setting.support_url.clone()),
    })
}

fn all_clear(seen: &Seen, said: &Said, setting: &Setting) -> Result<AllClearMail, ComposeError> {
    let started_at = needed(seen.row.started_at, "beginning")?;
    let worked_again = seen.items.iter().filter_map(|i| i.worked_again(started_at)).max();
    Ok(AllClearMail {
        title: needed(seen.row.title.clone(), "title")?,
        reference: needed(seen.row.incident_key.clone(), "key")?,
        components: seen.items.iter().map(|i| i.component_name.clone()).collect(),
        started_at,
        recovered_at: worked_again.unwrap_or(seen.row.created_at),
        still_open: still_open(seen, said),
        addressed: said
            .by::<IncidentIn>(seen.row.audience_id)?
            .is_some_and(|restricting| !restricting.recipients.is_empty()),
        link: None,
        support_link: setting.support_url.clone(),
    })
}
