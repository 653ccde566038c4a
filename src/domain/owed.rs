//! What one subscriber is owed of an incident's news: the news compared with what the thread was last told.
//! "Say it once" is decided here, and only here; the gate then says when.

use super::delivery::{Reason, Rule};
use super::id::DeliveryId;
use super::incident::{ComponentStatus, Impact, Phase};
use super::subscription::{Events, reaches};
use super::time::{Span, Timestamp};

/// A component that the subscriber follows and the incident has named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Followed {
    /// How it is doing now.
    pub status: ComponentStatus,
    /// How it was doing when the thread was last told of it, or is being told at this moment.
    pub told: Option<ComponentStatus>,
    /// This update names it, or names none and so concerns all.
    pub named: bool,
}

impl Followed {
    const fn is_worse(&self) -> bool {
        let told = match self.told {
            Some(told) => told,
            None => ComponentStatus::Operational,
        };
        self.status.is_worse_than(told)
    }

    /// In trouble, of which the thread was not told, or told that it works: that is a beginning.
    fn begins(&self) -> bool {
        self.is_worse() && matches!(self.told, None | Some(ComponentStatus::Operational))
    }

    fn is_changed(&self) -> bool {
        self.told.map_or(self.status != ComponentStatus::Operational, |told| told != self.status)
    }

    /// It was told to be in trouble, and is not any more, or less.
    #[must_use]
    pub fn is_better(&self) -> bool {
        self.told.is_some_and(|told| told.is_worse_than(self.status))
    }

    /// Whether a mail about this update names it: what the update is about, what is still wrong, what has changed.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.named || self.status != ComponentStatus::Operational || self.is_changed()
    }
}

/// An incident's update as one subscriber may hear of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News<'a> {
    /// Where the incident stands after it.
    pub phase: Phase,
    /// How bad the incident is.
    pub impact: Impact,
    /// What of it the subscriber follows.
    pub followed: &'a [Followed],
    /// The incident has never named a component, and the subscriber follows everything.
    pub concerns_all: bool,
}

/// What the thread was told so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Told {
    /// The subscriber was told of the incident, or is being told at this moment.
    pub at_all: bool,
    /// The phase last told.
    pub phase: Option<Phase>,
    /// The thread has had its end.
    pub ended: bool,
    /// A mail of trouble waits in it, or was folded under another thread's.
    pub unsaid: bool,
}

/// What follows for one subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owed {
    /// A mail, because of this rule. [`Rule::NothingNew`] waits to be folded into the next one.
    Mail(Rule),
    /// No mail, although this is news to them; it is recorded why.
    Withheld(Rule, Reason),
    /// It is no news to this subscriber at all.
    Nothing,
}

/// What a subscriber is owed of an update of an open incident.
#[must_use]
pub fn update(news: &News<'_>, told: Told, events: Events, least: Impact) -> Owed {
    if news.followed.is_empty() && !news.concerns_all {
        return Owed::Nothing;
    }
    if told.ended {
        // A relapse is a beginning: whoever asked for begin and end hears of it.
        let relapse = news.followed.iter().any(Followed::is_worse);
        return if relapse {
            Owed::Mail(Rule::Relapse)
        } else {
            Owed::Withheld(Rule::NothingNew, Reason::EndedAlready)
        };
    }
    if !told.at_all {
        return first(news, told, least);
    }
    let rule = match news {
        _ if news.followed.iter().any(Followed::is_worse) => Rule::Worse,
        _ if told.phase != Some(news.phase) => Rule::PhaseChange,
        _ if news.followed.iter().any(Followed::is_changed) => Rule::StateChange,
        _ => Rule::NothingNew,
    };
    match events {
        Events::BeginAndEnd if !news.followed.iter().any(Followed::begins) => {
            Owed::Withheld(rule, Reason::BeginAndEndOnly)
        }
        _ => Owed::Mail(rule),
    }
}

fn first(news: &News<'_>, told: Told, least: Impact) -> Owed {
    let concerned = |f: &Followed| f.named || f.status != ComponentStatus::Operational;
    if !news.concerns_all && !news.followed.iter().any(concerned) {
        return Owed::Nothing;
    }
    // Trouble that went away before anything was said of it is not told. A maintenance is announced of what works.
    let announces = news.phase == Phase::Scheduled;
    if told.unsaid && !announces && news.followed.iter().all(|f| f.status == ComponentStatus::Operational) {
        return Owed::Withheld(Rule::First, Reason::Recovered);
    }
    if reaches(news.impact, least) {
        Owed::Mail(Rule::First)
    } else {
        Owed::Withheld(Rule::First, Reason::BelowLeastImpact)
    }
}

/// What a subscriber is told, or waits to be told, of a component in the thread of another open incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// How the component is doing there.
    pub status: ComponentStatus,
    /// When that mail was planned or left.
    pub at: Timestamp,
    /// That mail.
    pub delivery: DeliveryId,
}

/// The mail of another incident under which a first mail about a component in trouble is folded, and why: another
/// source has just said the same of it, or a component it cannot work without is known to be in trouble.
#[must_use]
pub fn folded_under(
    status: ComponentStatus,
    same: Option<&Elsewhere>,
    cause: Option<&Elsewhere>,
    window: Span,
    now: Timestamp,
) -> Option<(DeliveryId, Reason)> {
    let same = same.filter(|e| e.status == status && now - e.at < window);
    // Planned work explains no outage, and a small trouble no great one.
    let cause = cause.filter(|e| !matches!(e.status, ComponentStatus::Operational | ComponentStatus::UnderMaintenance));
    let cause = cause.filter(|e| !status.is_worse_than(e.status));
    same.map(|e| (e.delivery, Reason::ToldElsewhere)).or(cause.map(|e| (e.delivery, Reason::UnderCause)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ComponentStatus::{DegradedPerformance, MajorOutage, Operational};

    const TOLD: Told = Told { at_all: true, phase: Some(Phase::Identified), ended: false, unsaid: false };

    fn news(phase: Phase, followed: &[Followed]) -> News<'_> {
        News { phase, impact: Impact::Minor, followed, concerns_all: false }
    }

    fn one(status: ComponentStatus, told: Option<ComponentStatus>, named: bool) -> [Followed; 1] {
        [Followed { status, told, named }]
    }

    fn owed(phase: Phase, followed: &[Followed], told: Told) -> Owed {
        update(&news(phase, followed), told, Events::All, Impact::None)
    }

    #[test]
    fn each_change_has_its_rule_and_no_change_waits() {
        use Phase::{Identified, Monitoring};
        for (phase, now, rule) in [
            (Identified, MajorOutage, Rule::Worse),
            (Monitoring, MajorOutage, Rule::Worse),
            (Monitoring, DegradedPerformance, Rule::PhaseChange),
            (Identified, Operational, Rule::StateChange),
            (Identified, DegradedPerformance, Rule::NothingNew),
        ] {
            let followed = one(now, Some(DegradedPerformance), true);
            assert_eq!(owed(phase, &followed, TOLD), Owed::Mail(rule), "{phase} {now}");
        }
    }

    #[test]
    fn a_component_named_for_the_first_time_is_worse_only_when_it_is_in_trouble() {
        let told = one(DegradedPerformance, Some(DegradedPerformance), false)[0];
        for (status, rule) in [(Operational, Rule::NothingNew), (DegradedPerformance, Rule::Worse)] {
            let followed = [told, Followed { status, told: None, named: true }];
            assert_eq!(owed(Phase::Identified, &followed, TOLD), Owed::Mail(rule));
        }
    }

    #[test]
    fn who_was_not_told_yet_is_told_of_what_is_named_or_in_trouble() {
        let not_told = Told::default();
        assert_eq!(owed(Phase::Monitoring, &one(Operational, None, true), not_told), Owed::Mail(Rule::First));
        assert_eq!(owed(Phase::Monitoring, &one(MajorOutage, None, false), not_told), Owed::Mail(Rule::First));
        assert_eq!(owed(Phase::Monitoring, &one(Operational, None, false), not_told), Owed::Nothing);
        assert_eq!(owed(Phase::Monitoring, &[], not_told), Owed::Nothing);
        let unsaid = Told { unsaid: true, ..not_told };
        let gone = owed(Phase::Monitoring, &one(Operational, None, true), unsaid);
        assert_eq!(gone, Owed::Withheld(Rule::First, Reason::Recovered), "it went away unsaid");
        assert_eq!(owed(Phase::Monitoring, &one(MajorOutage, None, true), unsaid), Owed::Mail(Rule::First));
        let all = News { concerns_all: true, ..news(Phase::Monitoring, &[]) };
        assert_eq!(update(&all, not_told, Events::All, Impact::None), Owed::Mail(Rule::First));
    }

    #[test]
    fn after_the_end_only_a_relapse_is_news() {
        let ended = Told { ended: true, ..TOLD };
        assert_eq!(
            owed(Phase::Monitoring, &one(Operational, Some(Operational), true), ended),
            Owed::Withheld(Rule::NothingNew, Reason::EndedAlready)
        );
        let down = one(DegradedPerformance, Some(Operational), true);
        assert_eq!(owed(Phase::Monitoring, &down, ended), Owed::Mail(Rule::Relapse));
        let terse = update(&news(Phase::Monitoring, &down), ended, Events::BeginAndEnd, Impact::Critical);
        assert_eq!(terse, Owed::Mail(Rule::Relapse));
    }

    #[test]
    fn preferences_withhold_and_say_why() {
        let worse = one(MajorOutage, Some(DegradedPerformance), true);
        let begun = update(&news(Phase::Identified, &worse), TOLD, Events::BeginAndEnd, Impact::None);
        assert_eq!(begun, Owed::Withheld(Rule::Worse, Reason::BeginAndEndOnly));
        for told in [None, Some(Operational)] {
            let other = [worse[0], Followed { told, ..worse[0] }];
            let begun = update(&news(Phase::Identified, &other), TOLD, Events::BeginAndEnd, Impact::None);
            assert_eq!(begun, Owed::Mail(Rule::Worse), "what else breaks begins, too");
        }
        let first = |least| update(&news(Phase::Identified, &worse), Told::default(), Events::BeginAndEnd, least);
        assert_eq!(first(Impact::Minor), Owed::Mail(Rule::First));
        assert_eq!(first(Impact::Major), Owed::Withheld(Rule::First, Reason::BelowLeastImpact));
        // Told once, it goes on: an incident that shrinks is not left without its end.
        assert_eq!(
            update(&news(Phase::Identified, &worse), TOLD, Events::All, Impact::Critical),
            Owed::Mail(Rule::Worse)
        );
    }

    #[test]
    fn the_same_from_another_source_counts_as_said_within_the_window() {
        let now = Timestamp(10_000_000_000);
        let there = Elsewhere { status: MajorOutage, at: now - Span::minutes(29), delivery: DeliveryId::new() };
        let window = Span::minutes(30);
        let fold = |status, same: Option<&Elsewhere>, cause: Option<&Elsewhere>| {
            folded_under(status, same, cause, window, now).map(|f| f.1)
        };
        assert_eq!(fold(MajorOutage, Some(&there), None), Some(Reason::ToldElsewhere));
        assert_eq!(fold(DegradedPerformance, Some(&there), None), None);
        let long_ago = Elsewhere { at: now - window, ..there };
        assert_eq!(fold(MajorOutage, Some(&long_ago), None), None);
        assert_eq!(fold(DegradedPerformance, None, Some(&long_ago)), Some(Reason::UnderCause));
        let back = Elsewhere { status: Operational, ..there };
        assert_eq!(fold(DegradedPerformance, None, Some(&back)), None);
        let planned = Elsewhere { status: ComponentStatus::UnderMaintenance, ..there };
        assert_eq!(fold(DegradedPerformance, None, Some(&planned)), None);
        let lesser = Elsewhere { status: DegradedPerformance, ..there };
        assert_eq!(fold(MajorOutage, None, Some(&lesser)), None);
    }
}
