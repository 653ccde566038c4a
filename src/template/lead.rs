//! The first sentence of a mail: status, component and what is the case.

use super::context::{ActionRequiredMail, AllClearMail, ComponentLine, CorrectionMail, IncidentMail, SurgeMail};
use super::prose::{NAME, one_line};
use super::time::Clock;
use crate::domain::incident::{ComponentStatus, Phase};
use crate::domain::surge::{Kind, Occasion, Stage, Why};

/// Names in a sentence: all up to three, else the first two and how many more.
pub(super) fn names<S: AsRef<str>>(names: &[S]) -> String {
    let name = |name: &S| apart(one_line(name.as_ref(), NAME));
    match names {
        [] => String::new(),
        [one] => name(one),
        [first @ .., last] if names.len() <= 3 => {
            let first: Vec<_> = first.iter().map(name).collect();
            format!("{} and {}", first.join(", "), name(last))
        }
        [a, b, rest @ ..] => format!("{}, {} and {} more", name(a), name(b), rest.len()),
    }
}

/// What components do, by state and the worst first; those that work are left out beside others.
fn states(components: &[ComponentLine]) -> String {
    let mut told = Vec::new();
    for status in ComponentStatus::ALL.iter().rev().copied() {
        let these: Vec<_> = components.iter().filter(|c| c.status == status).map(|c| &c.name).collect();
        if these.is_empty() || (status == ComponentStatus::Operational && !told.is_empty()) {
            continue;
        }
        let does = match (status, these.len()) {
            (ComponentStatus::Operational, 1) => "works normally",
            (ComponentStatus::Operational, _) => "work normally",
            (ComponentStatus::DegradedPerformance, 1) => "has degraded performance",
            (ComponentStatus::DegradedPerformance, _) => "have degraded performance",
            (ComponentStatus::PartialOutage, 1) => "has a partial outage",
            (ComponentStatus::PartialOutage, _) => "have a partial outage",
            (ComponentStatus::MajorOutage, 1) => "has a major outage",
            (ComponentStatus::MajorOutage, _) => "have a major outage",
            (ComponentStatus::UnderMaintenance, 1) => "is under maintenance",
            (ComponentStatus::UnderMaintenance, _) => "are under maintenance",
        };
        told.push(format!("{} {does}", names(&these)));
    }
    told.join("; ")
}

/// The names of components in a sentence, or the title when none is named.
pub(super) fn about(components: &[ComponentLine], title: &str) -> String {
    let all: Vec<_> = components.iter().map(|c| &c.name).collect();
    if all.is_empty() { headline(title) } else { names(&all) }
}

/// A title in a sentence of ours: without its own full stop.
fn headline(title: &str) -> String {
    apart(one_line(title, NAME).trim_end_matches('.').to_owned())
}

/// A name that is written from right to left, so that it does not draw what follows into itself (Unicode UAX 9, 2.4).
fn apart(name: String) -> String {
    let rightwards = |c: char| matches!(c, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}');
    if name.chars().any(rightwards) { format!("\u{2068}{name}\u{2069}") } else { name }
}

/// The subject of the mails about a surge, and the beginning of their first sentence.
pub(super) fn surge_matter(kind: Kind, component: Option<&str>, occasion: Occasion) -> String {
    let component = one_line(component.unwrap_or("a component"), NAME);
    match (kind, occasion) {
        (Kind::Flood, Occasion::Lasting) => format!("{component} has been down for long"),
        (Kind::Flood, Occasion::NotBack | Occasion::Unconfirmed) => {
            format!("Many connections of {component} have not come back")
        }
        (Kind::Flood, Occasion::ByHand) => format!("Surge of {component}, opened by hand"),
        (Kind::Flood, Occasion::Failures) => format!("Surge: connections of {component} fail in floods"),
        (Kind::Slow, _) => format!("Many connections of {component} fail"),
        (Kind::Reporter, _) => "Surge: our own reports are suspect".to_owned(),
    }
}

/// The first sentence of a mail about a surge: what is the case, and what is done about it.
pub(super) fn surge(mail: &SurgeMail) -> String {
    let what = match (mail.kind, mail.occasion(), mail.reason) {
        (Kind::Flood, Occasion::Failures, why) if why != Why::Opened => {
            format!("Surge of {}", one_line(mail.component.as_deref().unwrap_or("a component"), NAME))
        }
        (kind, occasion, _) => surge_matter(kind, mail.component.as_deref(), occasion),
    };
    let done = match (mail.kind, mail.stage, mail.reason) {
        (Kind::Slow, ..) => "nothing is held",
        (Kind::Reporter, ..) => "nobody is asked to act",
        (_, Stage::Canary, _) => "the first few customers are being asked, the others follow",
        (_, _, Why::Opened) => "its customers are not asked",
        _ => "asking its customers was stopped",
    };
    format!("{what}; {done}.")
}

/// The first sentence of an incident's mail.
pub(super) fn incident(mail: &IncidentMail, clock: &Clock) -> String {
    let label = mail.phase.label();
    let state = if mail.components.is_empty() { headline(&mail.title) } else { states(&mail.components) };
    let all_work = mail.components.iter().all(|c| c.status == ComponentStatus::Operational);
    match mail.phase {
        Phase::Investigating | Phase::Update | Phase::InProgress => format!("{label}: {state}."),
        Phase::Identified => format!("{label}: {state}; the cause is known."),
        Phase::Monitoring => format!("{label}: {state}; a fix is in place and we are watching it."),
        Phase::Verifying => format!("{label}: {state}; the work is done and we are checking it."),
        Phase::Resolved | Phase::Completed if mail.components.is_empty() => format!("{label}: {state}."),
        Phase::Resolved | Phase::Completed if all_work => format!("{label}: {state} again."),
        Phase::Resolved => format!("{label}: the incident is over, but {state}."),
        Phase::Completed => format!("{label}: the work is over, but {state}."),
        Phase::Postmortem => format!("{label}: what happened to {}.", about(&mail.components, &mail.title)),
        Phase::Scheduled => {
            format!("{label}: {}, from {}.", about(&mail.components, &mail.title), clock.show(mail.started_at))
        }
    }
}

/// The first sentence of an action-required mail.
pub(super) fn action_required(mail: &ActionRequiredMail) -> String {
    let component = one_line(&mail.component, NAME);
    match (mail.count(), mail.again) {
        (0 | 1, false) => format!("Action needed: your connection to {component} does not work."),
        (0 | 1, true) => {
            format!(
                "Action needed after all: your connection to {component} broke again after we wrote that no action was needed."
            )
        }
        (n, false) => format!("Action needed: {n} of your connections to {component} do not work."),
        (n, true) => {
            format!(
                "Action needed after all: {n} of your connections to {component} broke again after we wrote that no action was needed."
            )
        }
    }
}

/// The first sentences of a correction. They begin with "No action needed" when anything recovered.
pub(super) fn correction(mail: &CorrectionMail) -> String {
    let component = one_line(&mail.component, NAME);
    let well: Vec<_> = mail.connections.iter().map(|c| &c.name).collect();
    match (well.len(), mail.still_open.len()) {
        (0 | 1, 0) => format!("No action needed. Your connection to {component} works again."),
        (n, 0) => format!("No action needed. Your {n} connections to {component} work again."),
        (_, 1) => {
            format!("No action needed for {}. One other connection to {component} is not back yet.", names(&well))
        }
        (_, n) => {
            format!("No action needed for {}. {n} other connections to {component} are not back yet.", names(&well))
        }
    }
}

/// The first sentence of an all-clear, which calls all clear only where nothing else is in trouble.
pub(super) fn all_clear(mail: &AllClearMail) -> String {
    let label = if mail.trouble_elsewhere { "" } else { "All clear: " };
    let components = names(&mail.components);
    match mail.components.len() {
        0 => format!("{label}{}.", headline(&mail.title)),
        1 => format!("{label}{components} works normally again."),
        _ => format!("{label}{components} work normally again."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_a_sentence() {
        assert_eq!(names(&["A"]), "A");
        assert_eq!(names(&["A", "B"]), "A and B");
        assert_eq!(names(&["A", "B", "C"]), "A, B and C");
        assert_eq!(names(&["A", "B", "C", "D", "E"]), "A, B and 3 more");
    }

    #[test]
    fn states_are_told_worst_first_and_what_works_is_left_out() {
        let line = |name: &str, status| ComponentLine { name: name.to_owned(), status };
        let lines = [
            line("A", ComponentStatus::Operational),
            line("B", ComponentStatus::DegradedPerformance),
            line("C", ComponentStatus::MajorOutage),
            line("D", ComponentStatus::MajorOutage),
        ];
        assert_eq!(states(&lines), "C and D have a major outage; B has degraded performance");
        assert_eq!(states(&lines[..1]), "A works normally");
    }

    #[test]
    fn every_phase_begins_with_its_label_and_names_the_component() {
        let mut mail = IncidentMail::samples().remove(0);
        for (phase, status) in Phase::ALL.iter().flat_map(|p| ComponentStatus::ALL.iter().map(move |s| (*p, *s))) {
            mail.phase = phase;
            mail.components = vec![ComponentLine { name: "Mail".to_owned(), status }];
            let lead = incident(&mail, &Clock::of("UTC"));
            assert!(lead.starts_with(&format!("{}: ", phase.label())) && lead.contains("Mail"), "{lead}");
            assert!(lead.ends_with('.') && !lead.contains(".."), "{lead}");
        }
    }

    #[test]
    fn a_phase_is_never_contradicted_by_its_components() {
        let mut mail = IncidentMail::samples().remove(0);
        mail.phase = Phase::Resolved;
        mail.components = vec![ComponentLine { name: "A".to_owned(), status: ComponentStatus::PartialOutage }];
        let lead = incident(&mail, &Clock::of("UTC"));
        assert_eq!(lead, "Resolved: the incident is over, but A has a partial outage.");
    }
}
