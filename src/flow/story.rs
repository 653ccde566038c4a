//! The story of a delivery: each step with its time, its rule or reason, its evidence, and a sentence for people. Pure.

use crate::domain::class::Class;
use crate::domain::connection::By;
use crate::domain::delivery::{HandOver, Reason, Rule, State};
use crate::domain::hold::HoldCause;
use crate::domain::id::DeliveryId;
use crate::domain::time::Timestamp;
use crate::store::browse::Delivery;
use crate::store::evidence::{About, Evidence, OfHold, OfRecovery};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When.
    pub at: Timestamp,
    /// What: `noticed`, `planned`, `recovered`, `ahead`, `held`, `paused`, `waits`, `tried`, `corrected`, `resent`, or the state it ended in.
    pub step: Cow<'static, str>,
    /// The delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliveryId>,
    /// Why it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    /// Why it waits or was not mailed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The id of what shows it: a signal, a notice, a recovery, a hold, a pause, another delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// In a sentence.
    pub text: String,
}

impl Step {
    /// A step that is about no delivery alone.
    pub fn new(at: Timestamp, step: &'static str, text: String) -> Self {
        Self { at, step: step.into(), delivery: None, rule: None, reason: None, evidence: None, text }
    }

    fn because(self, reason: Option<Reason>) -> Self {
        Self { reason, ..self }
    }

    /// The step with the id of what shows it.
    pub fn shown_by(self, evidence: impl ToString) -> Self {
        Self { evidence: Some(evidence.to_string()), ..self }
    }
}

/// The steps of a delivery in the order of time. Its reason is the one of `now`, if it waits.
#[must_use]
pub fn steps(of: &Delivery, with: &Evidence, now: Timestamp) -> Vec<Step> {
    let nothing = About::default();
    let about = with.about.get(&of.id).unwrap_or(&nothing);
    let mut steps = origin(of, about);
    steps.extend(obstacles(of, about, with, now));
    steps.extend(about.surge.map(|surge| asked_ahead(of, now).shown_by(surge)));
    steps.extend(of.attempts.iter().map(|attempt| {
        // Of a session that the relay ended the words have the code.
        let code = attempt.code.filter(|_| attempt.outcome != HandOver::NotHandedOver);
        let said = [code.map(|code| code.to_string()), attempt.reply.clone()].into_iter().flatten();
        let said = said.collect::<Vec<_>>().join(" ");
        let how = match attempt.outcome {
            HandOver::Accepted => "the mail server took it",
            HandOver::Deferred => "the mail server asked to try later",
            HandOver::Refused => "the mail server refused it",
            HandOver::NotHandedOver => "it did not get as far as handing it over",
            HandOver::Unknown => "it was handed over and no answer came",
        };
        Step::new(attempt.ended_at, "tried", format!("{how}: {said}"))
    }));
    steps.extend(end(of, about, now));
    for other in &about.corrections {
        let text = format!("a correction takes it back ({})", other.state);
        steps.push(Step::new(other.created_at, "corrected", text).shown_by(other.id));
    }
    for other in &about.resends {
        steps.push(
            Step::new(other.created_at, "resent", format!("sent again on request ({})", other.state))
                .shown_by(other.id),
        );
    }
    steps.sort_by_key(|step| step.at);
    for step in &mut steps {
        step.delivery = Some(of.id);
    }
    steps
}

/// What it was made of, and that it was planned.
fn origin(of: &Delivery, about: &About) -> Vec<Step> {
    let mut steps = Vec::new();
    for n in &about.notices {
        let phase = n.phase.map(|phase| format!(" ({})", phase.label().to_lowercase())).unwrap_or_default();
        let text = format!("{} said it{phase}; it is about {}", n.source, n.observed_at);
        steps.push(Step::new(n.received_at, "noticed", text).shown_by(n.id));
    }
    for s in &about.signals {
        let fault = s.fault.map(|fault| format!(" {fault}")).unwrap_or_default();
        let text = format!("{} reported that {} {}{fault} at {}", s.source, s.connection, s.what, s.observed_at);
        steps.push(Step::new(s.received_at, "noticed", text).shown_by(s.id));
    }
    let why = of.rule.map(|rule| format!(": {}", rule.explained())).unwrap_or_default();
    let planned =
        Step { rule: of.rule, ..Step::new(of.created_at, "planned", format!("{} mail planned{why}", of.class)) };
    steps.push(match of.resend_of {
        Some(original) => planned.shown_by(original),
        None => planned,
    });
    let mut taken_back: Vec<_> = of.names.iter().filter_map(|item| item.corrects_id).collect();
    taken_back.sort_unstable();
    taken_back.dedup();
    for original in taken_back {
        steps.push(Step::new(of.created_at, "corrects", "it takes back an earlier mail".to_owned()).shown_by(original));
    }
    steps
}

/// The recoveries, holds and pauses of its time.
fn obstacles(of: &Delivery, about: &About, with: &Evidence, now: Timestamp) -> Vec<Step> {
    let until = of.decided_at.unwrap_or(now);
    let mut steps = Vec::new();
    for item in &of.names {
        let since = |r: &&OfRecovery| {
            let same = r.connection.is_none() || r.connection == item.connection;
            same && item.failed_at.is_some_and(|failed| r.committed_at >= failed)
        };
        let Some(r) = about.recoveries.iter().filter(since).min_by_key(|r| r.committed_at) else { continue };
        let text = recovered(r.connection.as_deref().unwrap_or(&r.component), r.recovered_by);
        let step = Step::new(r.committed_at, "recovered", text).shown_by(r.id);
        if !steps.contains(&step) {
            steps.push(step);
        }
    }
    for hold in with.holds.iter().filter(|hold| touches(hold, of, about) && hold.since < until) {
        let over = hold.released_at.or(hold.until);
        if over.is_some_and(|over| over < of.created_at) {
            continue;
        }
        let what = if hold.cause == HoldCause::Stop { "all mail stopped" } else { "mail held back" };
        let end = match (hold.released_at, &hold.released_by) {
            (Some(at), Some(who)) => format!("; released by {who} at {at}"),
            _ => hold.until.map(|at| format!("; at most until {at}")).unwrap_or_default(),
        };
        let reason = if hold.cause == HoldCause::Stop { Reason::Stopped } else { Reason::Held };
        let text = format!("{what} by {}: {}{end}", hold.created_by, hold.reason);
        steps.push(Step::new(hold.since, "held", text).because(Some(reason)).shown_by(hold.id));
    }
    let paused = with.pauses.iter().filter(|p| p.stream == of.stream && p.since < until);
    for pause in paused.filter(|p| p.ended_at.is_none_or(|end| end >= of.created_at)) {
        let end = pause.ended_at.map(|at| format!("; over at {at}")).unwrap_or_default();
        let text = format!("stream {} paused ({}): {}{end}", pause.stream, pause.kind, pause.words);
        steps.push(Step::new(pause.since, "paused", text).because(Some(Reason::StreamPaused)).shown_by(pause.id));
    }
    steps
}

/// That something is well again, and who did it.
#[must_use]
pub fn recovered(what: &str, by: By) -> String {
    match by {
        By::Automatic => format!("{what} recovered by itself"),
        By::Customer => format!("{what} was reconnected by its customer"),
        By::Unknown => format!("{what} recovered"),
    }
}

/// A surge let it leave before the others, to find out: it became due then, and no later than it was first tried.
fn asked_ahead(of: &Delivery, now: Timestamp) -> Step {
    let tried = of.attempts.first().map(|attempt| attempt.ended_at);
    let at = [Some(of.due_at), tried, of.decided_at, Some(now)].into_iter().flatten().min().unwrap_or(now);
    Step::new(at, "ahead", "asked ahead of the others, to find out".to_owned())
}

fn touches(hold: &OfHold, of: &Delivery, about: &About) -> bool {
    let exempt = match hold.cause {
        HoldCause::Stop => false,
        HoldCause::Surge => of.class != Class::ActionRequired || about.unfenced,
        HoldCause::Operator => of.class == Class::Correction,
    };
    !exempt
        && match hold.scope.as_str() {
            "everything" => true,
            "class" => hold.class == Some(of.class),
            _ => of.names.iter().any(|item| Some(item.component_id) == hold.component_id),
        }
}

/// The reason in words: of what is over, as it was then.
#[must_use]
pub const fn words(of: State, why: Reason) -> &'static str {
    match (of, why) {
        (State::Suppressed, Reason::Suppressed) => "the address was on the list of those that get no such mail",
        _ => why.explained(),
    }
}

/// How it ended, or what it waits for.
fn end(of: &Delivery, about: &About, now: Timestamp) -> Option<Step> {
    let why = of.reason.map(|reason| format!(": {}", words(of.state, reason))).unwrap_or_default();
    // It is looked at again now and then, and leaves when it is let go.
    let is_held = matches!(of.reason, Some(Reason::Held | Reason::Stopped));
    let at = of.decided_at.unwrap_or(now);
    let step = match of.state {
        State::Queued if of.due_at > now && !is_held => {
            Step::new(at, "waits", format!("it waits until {}{why}", of.due_at))
        }
        State::Queued if of.reason.is_some() => Step::new(at, "waits", format!("it waits{why}")),
        State::Queued => Step::new(at, "waits", "it is due and waits for its turn".to_owned()),
        State::Sending => Step::new(of.claimed_at.unwrap_or(now), "sending", State::Sending.explained().to_owned()),
        // The try has said it.
        State::Accepted => return None,
        state => Step::new(at, state.as_str(), format!("{state}{why}")),
    };
    let step = step.because(of.reason);
    if let Some(x) = about.suppressions.first() {
        let evidence = x.evidence.as_deref().map(|words| format!(" ({words})")).unwrap_or_default();
        let text =
            format!("{}; suppressed since {} by {}: {}{evidence}", step.text, x.created_at, x.created_by, x.reason);
        return Some(Step { text, ..step });
    }
    Some(match of.folded_into {
        Some(newer) => step.shown_by(newer),
        None => step,
    })
}
