//! Turns a context and a reader into what the templates show: times and durations as text, bodies
//! as blocks, links only where they are safe, absent things as null. Every kind always has all of
//! its names, so that the check of the templates against the samples is exact.

use super::context::{
    ActionRequiredMail, AllClearMail, Ask, Because, ComponentLine, ConnectionLine, CorrectionMail, FreeMail,
    IncidentMail, Mail, PostMortemMail, SurgeMail,
};
use super::prose::{NAME, SENTENCE, blocks, link, one_line, sentence};
use super::time::{Clock, words};
use super::{Page, Reader, lead};
use crate::domain::incident::{Impact, Phase};
use crate::domain::number::thousands;
use crate::domain::surge::{Kind, Occasion, Stage, Why};
use crate::domain::time::Span;
use serde_json::{Value, json};

/// The colours of the edge beside the first sentence; the word in the sentence says the same.
const RED: &str = "#c4320a";
const AMBER: &str = "#b7791f";
const GREEN: &str = "#1a8754";
const BLUE: &str = "#1a56c4";

/// A longer list stands below what is to be done about it.
const LONG: usize = 10;

/// What the templates of this mail show to this reader.
pub(super) fn of(mail: &Mail, reader: &Reader, page: &Page) -> Value {
    let clock = Clock::of(&reader.zone);
    let (mut view, own_support) = match mail {
        Mail::Incident(mail) => (incident(mail, &clock, page), &mail.support_link),
        Mail::PostMortem(mail) => (post_mortem(mail, &clock, page), &mail.support_link),
        Mail::ActionRequired(mail) => (action_required(mail, &clock), &mail.support_link),
        Mail::Correction(mail) => (correction(mail, &clock), &mail.support_link),
        Mail::AllClear(mail) => (all_clear(mail, &clock, page), &mail.support_link),
        Mail::Free(mail) => (free(mail, page), &mail.support_link),
        Mail::Surge(mail) => (surge(mail, &clock), &None),
    };
    view["page"] = json!(one_line(&page.name, NAME));
    view["status_page"] = json!(link(page.public_url.as_ref()));
    view["support"] = json!(link(own_support.as_ref()).or_else(|| link(page.support_url.as_ref())));
    view["reader"] = json!(reader.name.as_ref().map(|name| one_line(name, NAME)).filter(|name| !name.is_empty()));
    view
}

fn incident(mail: &IncidentMail, clock: &Clock, page: &Page) -> Value {
    let accent = match (mail.phase.is_over(), mail.impact) {
        (true, _) => GREEN,
        (_, Impact::Critical | Impact::Major) => RED,
        (_, Impact::Minor) => AMBER,
        (_, Impact::None | Impact::Maintenance) => BLUE,
    };
    let planned = mail.phase == Phase::Scheduled;
    let so_far = mail.ended_at.is_none() && !planned;
    json!({
        "accent": accent,
        "lead": lead::incident(mail, clock),
        "title": one_line(&mail.title, NAME),
        "reference": one_line(&mail.reference, NAME),
        "impact": (mail.impact != Impact::None).then(|| mail.impact.label()),
        "late": mail.late_by.filter(|late| *late > 0).and_then(|late| words(Span::seconds(late))),
        "posted": clock.show(mail.posted_at),
        "consequences": sentence(mail.consequences.as_ref()),
        "not_affected": sentence(mail.not_affected.as_ref()),
        "next_update": mail.next_update_at.map(|at| clock.show(at)),
        "body": blocks(&mail.body),
        "components": components(&mail.components),
        "planned": planned,
        "started": clock.show(mail.started_at),
        "ended": mail.ended_at.map(|at| clock.show(at)),
        "lasted": mail.ended_at.and_then(|at| words(at - mail.started_at)),
        "so_far": so_far.then(|| words(mail.posted_at - mail.started_at)).flatten(),
        "still_open": all_of(&mail.still_open),
        "link": link(mail.link.as_ref()),
        "why": why(mail.because, &names_of(&mail.components), page),
    })
}

fn post_mortem(mail: &PostMortemMail, clock: &Clock, page: &Page) -> Value {
    json!({
        "accent": BLUE,
        "lead": format!("Post-mortem: what happened to {}, and why.", lead::about(&mail.components, &mail.title)),
        "title": one_line(&mail.title, NAME),
        "reference": one_line(&mail.reference, NAME),
        "body": blocks(&mail.body),
        "components": all_of(&names_of(&mail.components)),
        "started": clock.show(mail.started_at),
        "ended": mail.ended_at.map(|at| clock.show(at)),
        "lasted": mail.ended_at.and_then(|at| words(at - mail.started_at)),
        "link": link(mail.link.as_ref()),
        "why": why(mail.because, &names_of(&mail.components), page),
    })
}

fn action_required(mail: &ActionRequiredMail, clock: &Clock) -> Value {
    json!({
        "accent": AMBER,
        "lead": lead::action_required(mail),
        "component": one_line(&mail.component, NAME),
        "asks": mail.asks().map(|one| ask(one, clock)).collect::<Vec<_>>(),
        "why": yours(mail.count()),
    })
}

fn ask(ask: &Ask, clock: &Clock) -> Value {
    let line = |c: &ConnectionLine| json!({ "name": one_line(&c.name, NAME), "failed": clock.show(c.failed_at), "link": link(c.link.as_ref()) });
    json!({
        "several": ask.connections.len() > 1,
        "long": ask.connections.len() > LONG,
        "connections": ask.connections.iter().map(line).collect::<Vec<_>>(),
        "what_happened": blocks(&ask.what_happened),
        "what_we_did": ask.what_we_did.as_deref().map(blocks),
        "what_to_do": blocks(&ask.what_to_do),
        "link": link(ask.link.as_ref()),
    })
}

fn correction(mail: &CorrectionMail, clock: &Clock) -> Value {
    let connections: Vec<_> = mail
        .connections
        .iter()
        .map(|c| json!({ "name": one_line(&c.name, NAME), "recovered": clock.show(c.recovered_at) }))
        .collect();
    let still_open = all_of(&mail.still_open);
    let asked = clock.show(mail.asked_at);
    json!({
        "accent": if still_open.is_empty() { GREEN } else { AMBER },
        "lead": lead::correction(mail),
        "component": one_line(&mail.component, NAME),
        "below": connections.len() > LONG && !still_open.is_empty(),
        "connections": connections,
        "asked_since": mail.asked_since.map(|at| clock.show(at)).filter(|since| *since != asked),
        "asked": asked,
        "maybe": mail.maybe,
        "still_open": still_open,
        "link": link(mail.link.as_ref()),
        "why": yours(mail.connections.len() + mail.still_open.len()),
    })
}

fn all_clear(mail: &AllClearMail, clock: &Clock, page: &Page) -> Value {
    json!({
        "accent": if mail.still_open.is_empty() { GREEN } else { AMBER },
        "lead": lead::all_clear(mail),
        "title": one_line(&mail.title, NAME),
        "reference": one_line(&mail.reference, NAME),
        "components": all_of(&mail.components),
        "started": clock.show(mail.started_at),
        "recovered": clock.show(mail.recovered_at),
        "lasted": words(mail.recovered_at - mail.started_at),
        "still_open": all_of(&mail.still_open),
        "link": link(mail.link.as_ref()),
        "why": why(mail.because, &mail.components, page),
    })
}

fn free(mail: &FreeMail, page: &Page) -> Value {
    json!({
        "accent": BLUE,
        "lead": one_line(&mail.subject, NAME),
        "body": blocks(&mail.body),
        "link": link(mail.link.as_ref()),
        "why": why(mail.because, &[], page),
    })
}

fn surge(mail: &SurgeMail, clock: &Clock) -> Value {
    let holds = mail.kind != Kind::Slow;
    json!({
        "accent": if mail.stage == Stage::Canary { AMBER } else { RED },
        "lead": lead::surge(mail),
        "numbers": one_line(&mail.because, SENTENCE),
        "reported": matches!(mail.occasion(), Occasion::Lasting | Occasion::NotBack),
        "by_hand": mail.by_hand.as_ref().map(|words| one_line(words, SENTENCE)),
        "component": mail.component.as_ref().map(|name| one_line(name, NAME)),
        "connections": thousands(mail.connections),
        "since": clock.show(mail.since),
        "seen": clock.show(mail.opened_at),
        "reason": (mail.reason != Why::Opened).then(|| mail.reason.explained()),
        "holds": holds,
        "asking": mail.stage == Stage::Canary,
        "surge": one_line(&mail.surge, NAME),
        "why": "You get this because this address is the one for operators.",
    })
}

fn components(lines: &[ComponentLine]) -> Vec<Value> {
    lines.iter().map(|c| json!({ "name": one_line(&c.name, NAME), "status": c.status.label() })).collect()
}

fn names_of(lines: &[ComponentLine]) -> Vec<String> {
    lines.iter().map(|c| c.name.clone()).collect()
}

fn all_of(names: &[String]) -> Vec<String> {
    names.iter().map(|name| one_line(name, NAME)).collect()
}

/// Why a reader gets what many get.
fn why(because: Because, components: &[String], page: &Page) -> String {
    match because {
        Because::Addressed => "You get this because it was addressed to you.".to_owned(),
        Because::Told => "You get this because we told you of it before.".to_owned(),
        Because::Follows if components.is_empty() => {
            format!("You get this because you follow {}.", one_line(&page.name, NAME))
        }
        Because::Follows => format!("You get this because you follow {}.", lead::names(components)),
    }
}

/// Why the owner of connections gets this.
fn yours(connections: usize) -> String {
    let what = if connections > 1 { "these connections are" } else { "this connection is" };
    format!("You get this because {what} yours.")
}
