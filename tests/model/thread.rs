//! The thread of one incident to one subscriber: updates, the end, and what of them is owed. A model of its own: it
//! asks `domain::owed` who is owed what, and the gate, the sender and the quarantine as the other does.

use crate::limits;
use crate::variants::Variant;
use crate::world::at;
use allclear::domain::class::Class;
use allclear::domain::delivery::{HandOver, Outcome, Rule, State};
use allclear::domain::id::DeliveryId;
use allclear::domain::incident::{ComponentStatus, Impact, Phase};
use allclear::domain::owed::{self, Followed, News, Owed, Told};
use allclear::domain::subscription::Events;
use allclear::domain::time::Span;
use allclear::flow::gate::{Holds, Item, Verdict, View, gate};
use allclear::flow::recovery::after_quarantine;
use allclear::flow::sender::{After, Before, Command, Event, Step, after};
use stateright::{Model, Property};
use uuid::Uuid;

/// What is said of the incident, in this order; each may be planned late, and after what was said later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// An update in this phase; the component stands like this.
    Update(Phase, ComponentStatus),
    Resolved,
}

pub struct Incident {
    pub said: &'static [Said],
    pub variant: Variant,
}

/// The course that is searched: an update, its end, a late word that reopens nothing, a relapse, its end.
pub const COURSE: &[Said] = &[
    Said::Update(Phase::Identified, ComponentStatus::DegradedPerformance),
    Said::Update(Phase::Monitoring, ComponentStatus::DegradedPerformance),
    Said::Resolved,
    Said::Update(Phase::Monitoring, ComponentStatus::Operational),
    Said::Update(Phase::Identified, ComponentStatus::MajorOutage),
    Said::Resolved,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Thread {
    said: u8,
    resolved: bool,
    phase: Phase,
    status: ComponentStatus,
    /// Revisions still to be planned.
    plans: Vec<u8>,
    mails: Vec<Mail>,
    /// A worker has this mail; its token is still the row's.
    worker: Option<(u8, Step, Option<HandOver>, bool)>,
    lost: u8,
    zombies: u8,
    // What the thread remembers.
    told: bool,
    ended: bool,
    told_phase: Option<Phase>,
    told_status: Option<ComponentStatus>,
    last: Option<u8>,
    /// What the relay took last: the end, or a problem. Only the properties know it.
    heard_end: Option<bool>,
    /// A problem left on a look that saw the end. Only the properties know it.
    late: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Mail {
    class: Class,
    rule: Rule,
    revision: u8,
    phase: Phase,
    status: ComponentStatus,
    state: State,
    quarantined: bool,
    maybe_mailed: bool,
    repeats: u8,
    reaps: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Do {
    Hear,
    Plan(u8),
    Claim(u8),
    Look,
    Data(HandOver, bool),
    Record,
    Reap(u8),
    Settle(u8),
}

impl Thread {
    fn is_busy(&self) -> bool {
        self.mails.iter().any(|m| m.state == State::Sending || m.quarantined)
    }

    /// As `incident::update`: an update after *resolved* reopens nothing unless it says that a component is down.
    fn hear(&mut self, said: Said) {
        self.said += 1;
        match said {
            Said::Resolved => {
                (self.resolved, self.phase, self.status) = (true, Phase::Resolved, ComponentStatus::Operational)
            }
            Said::Update(phase, status) => {
                self.resolved &= status == ComponentStatus::Operational;
                (self.phase, self.status) = (phase, status);
            }
        }
        self.plans.push(self.said);
    }

    /// As `plan.rs`: who is told, on the wire included, and what waits is folded into what is owed now.
    fn plan(&mut self, i: u8, of: &Incident) {
        let revision = self.plans.remove(usize::from(i));
        let on_the_wire = |m: &Mail| m.state == State::Sending || m.maybe_mailed;
        let told = self.told || self.mails.iter().any(on_the_wire);
        let sending = self.mails.iter().find(|m| m.state == State::Sending).copied();
        match of.said[usize::from(revision) - 1] {
            Said::Resolved if told && !self.ended => {
                self.add(Class::IncidentEnd, Rule::End, revision, Phase::Resolved);
                self.fold(&[Class::IncidentUpdate, Class::IncidentEnd], revision, State::Folded);
            }
            Said::Resolved => self.fold(&[Class::IncidentUpdate], revision, State::Withdrawn),
            Said::Update(phase, _) => {
                if of.variant == Variant::EndReplaced {
                    self.fold(&[Class::IncidentEnd], revision, State::Folded);
                }
                if self.resolved {
                    return;
                }
                let told_status = sending.map(|m| m.status).or(self.told_status);
                let followed = [Followed { status: self.status, told: told_status, named: true }];
                let news = News { phase, impact: Impact::Major, followed: &followed, concerns_all: false };
                let told_phase = sending.map(|m| m.phase).or(self.told_phase);
                let waits = |m: &Mail| m.state == State::Queued && m.class == Class::IncidentUpdate;
                let unsaid = self.mails.iter().any(|m| waits(m) && m.status != ComponentStatus::Operational);
                let told = Told { at_all: told, phase: told_phase, ended: self.ended, unsaid };
                if let Owed::Mail(rule) = owed::update(&news, told, Events::All, Impact::None) {
                    self.add(Class::IncidentUpdate, rule, revision, phase);
                    self.fold(&[Class::IncidentUpdate], revision, State::Folded);
                }
            }
        }
    }

    fn add(&mut self, class: Class, rule: Rule, revision: u8, phase: Phase) {
        let (state, status) = (State::Queued, self.status);
        let (quarantined, maybe_mailed, repeats, reaps) = (false, false, 0, 0);
        self.mails.push(Mail {
            class,
            rule,
            revision,
            phase,
            status,
            state,
            quarantined,
            maybe_mailed,
            repeats,
            reaps,
        });
    }

    fn fold(&mut self, classes: &[Class], but: u8, state: State) {
        let waits = |m: &&mut Mail| m.state == State::Queued && m.revision != but && classes.contains(&m.class);
        self.mails.iter_mut().filter(waits).for_each(|m| m.state = state);
    }

    /// As the statements VIEW and LOOK read it.
    fn view(&self, mail: u8) -> View {
        let m = self.mails[usize::from(mail)];
        let counts = |n: &Mail| matches!(n.state, State::Queued | State::Sending) || n.maybe_mailed;
        let newer = self.mails.iter().filter(|n| n.revision > m.revision && counts(n)).max_by_key(|n| n.revision);
        let works = |s| s == ComponentStatus::Operational;
        let down = m.class == Class::IncidentUpdate && !works(self.status);
        View {
            class: m.class,
            created_at: at(0),
            resend: false,
            canary: false,
            holds: Holds::default(),
            suppressed: false,
            told: self.told,
            last_mailed_at: None,
            ended: self.ended && self.last != Some(mail),
            resolved: Some(self.resolved),
            rule: Some(m.rule),
            trouble: false,
            troubled_elsewhere: false,
            newer: newer
                .filter(|_| m.class == Class::IncidentUpdate)
                .map(|n| DeliveryId(Uuid::from_u128(n.revision.into()))),
            items: vec![Item::Component { down, up_since: None, back: !works(m.status) && works(self.status) }],
        }
    }

    fn verdict(&self, mail: u8) -> Verdict {
        let view = self.view(mail);
        gate(&view, &limits(view.class), at(0))
    }

    fn claim(&mut self, mail: u8) -> Option<()> {
        if self.is_busy() || self.worker.is_some() {
            return None;
        }
        let m = &mut self.mails.clone()[usize::from(mail)];
        m.state = match self.verdict(mail) {
            Verdict::Send(_) => {
                self.worker = Some((mail, Step::Armed.on(Event::Rendered).0, None, true));
                // The statement RESTATE: it tells the present state.
                m.status = self.status;
                State::Sending
            }
            Verdict::Wait(..) => return None,
            Verdict::Fold(_) => State::Folded,
            Verdict::Cancel(_) => State::Cancelled,
            _ => State::Withdrawn,
        };
        self.mails[usize::from(mail)] = *m;
        Some(())
    }

    fn look(&mut self) -> Option<()> {
        let (mail, step, _, ours) = self.worker?;
        let row = self.mails[usize::from(mail)];
        let seen = (ours && row.state == State::Sending).then(|| self.verdict(mail));
        let (next, command) = step.on(Event::Looked(seen.clone()));
        self.worker = match command {
            Command::HandOver => {
                self.late |= row.class == Class::IncidentUpdate && self.resolved;
                Some((mail, next, None, ours))
            }
            Command::Record(_) => {
                self.mails[usize::from(mail)].state = match seen? {
                    Verdict::Send(_) | Verdict::Wait(..) | Verdict::Fold(_) => State::Queued,
                    Verdict::Cancel(_) => State::Cancelled,
                    _ => State::Withdrawn,
                };
                None
            }
            _ => None,
        };
        Some(())
    }

    fn data(&mut self, reply: HandOver, took: bool) -> Option<()> {
        let (mail, step, _, ours) = self.worker?;
        self.lost -= u8::from(reply == HandOver::Unknown);
        if took {
            self.heard_end = Some(self.mails[usize::from(mail)].class == Class::IncidentEnd);
        }
        let (next, _) = step.on(Event::HandedOver(outcome(reply)));
        self.worker = Some((mail, next, Some(reply), ours));
        Some(())
    }

    /// The statements OUTCOMES, THREADS and TOLD.
    fn record(&mut self) -> Option<()> {
        let (mail, _, reply, ours) = self.worker.take()?;
        if !ours {
            return Some(());
        }
        let row = &mut self.mails[usize::from(mail)];
        (row.state, row.quarantined) = match after(&outcome(reply?), Before::default(), at(0), Span(1), Span(1)) {
            After::Accepted => (State::Accepted, false),
            After::Unknown { .. } => (State::Unknown, true),
            After::Failed(_) => (State::Failed, false),
            _ => (State::Queued, false),
        };
        if matches!(row.state, State::Accepted | State::Unknown) {
            row.maybe_mailed = true;
            self.ended = row.class == Class::IncidentEnd;
            self.remember(mail);
        }
        Some(())
    }

    fn remember(&mut self, mail: u8) {
        let row = self.mails[usize::from(mail)];
        (self.told, self.last) = (true, Some(mail));
        (self.told_phase, self.told_status) = (Some(row.phase), Some(row.status));
    }

    /// The statements REAP, REAPED_THREADS and TOLD.
    fn reap(&mut self, mail: u8) -> Option<()> {
        if let Some((_, _, _, ours)) = self.worker.as_mut().filter(|w| w.0 == mail && w.3) {
            self.zombies = self.zombies.checked_sub(1)?;
            *ours = false;
        }
        let row = &mut self.mails[usize::from(mail)];
        (row.state, row.quarantined, row.maybe_mailed) = (State::Unknown, true, true);
        row.reaps += 1;
        self.remember(mail);
        Some(())
    }

    fn settle(&mut self, mail: u8) -> Option<()> {
        if self.worker.is_some_and(|w| w.0 == mail && w.1 == Step::Looked) {
            return None;
        }
        let (m, view) = (self.mails[usize::from(mail)], self.view(mail));
        let (repeats, reaps) = (m.repeats.into(), m.reaps.into());
        let (state, _) = after_quarantine(m.class, repeats, reaps, Some(&view), &limits(m.class), at(0));
        let row = &mut self.mails[usize::from(mail)];
        (row.state, row.quarantined) = (state, false);
        row.repeats += u8::from(state == State::Queued);
        Some(())
    }

    fn is_at_rest(&self) -> bool {
        let waits = |(i, m): (u8, &Mail)| m.state != State::Queued || matches!(self.verdict(i), Verdict::Wait(..));
        self.plans.is_empty() && self.worker.is_none() && !self.is_busy() && (0..).zip(&self.mails).all(waits)
    }
}

fn outcome(hand_over: HandOver) -> Outcome {
    Outcome { hand_over, code: None, enhanced: None, kind: None, words: String::new() }
}

impl Model for Incident {
    type State = Thread;
    type Action = Do;

    fn init_states(&self) -> Vec<Thread> {
        vec![Thread {
            said: 0,
            resolved: false,
            phase: Phase::Investigating,
            status: ComponentStatus::Operational,
            plans: Vec::new(),
            mails: Vec::new(),
            worker: None,
            lost: 1,
            zombies: 1,
            told: false,
            ended: false,
            told_phase: None,
            told_status: None,
            last: None,
            heard_end: None,
            late: false,
        }]
    }

    fn actions(&self, t: &Thread, tries: &mut Vec<Do>) {
        if usize::from(t.said) < self.said.len() {
            tries.push(Do::Hear);
        }
        tries.extend((0..t.plans.len()).map(|i| Do::Plan(i as u8)));
        match t.worker.map(|w| w.1) {
            Some(Step::Rendered) => tries.push(Do::Look),
            Some(Step::Looked) => {
                tries.extend([Do::Data(HandOver::Accepted, true), Do::Data(HandOver::Deferred, false)]);
                if t.lost > 0 {
                    tries.extend([true, false].map(|took| Do::Data(HandOver::Unknown, took)));
                }
            }
            Some(_) => tries.push(Do::Record),
            None => {}
        }
        for (i, m) in (0..).zip(&t.mails) {
            match m.state {
                State::Queued => tries.push(Do::Claim(i)),
                State::Sending => tries.push(Do::Reap(i)),
                _ if m.quarantined => tries.push(Do::Settle(i)),
                _ => {}
            }
        }
    }

    fn next_state(&self, t: &Thread, step: Do) -> Option<Thread> {
        let mut t = t.clone();
        match step {
            Do::Hear => t.hear(self.said[usize::from(t.said)]),
            Do::Plan(i) => t.plan(i, self),
            Do::Claim(mail) => t.claim(mail)?,
            Do::Look => t.look()?,
            Do::Data(reply, took) => t.data(reply, took)?,
            Do::Record => t.record()?,
            Do::Reap(mail) => t.reap(mail)?,
            Do::Settle(mail) => t.settle(mail)?,
        }
        Some(t)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("I1: no problem leaves on a look that saw the end", |_, t: &Thread| !t.late),
            Property::always(
                "I7: at rest who was told of an incident that is over was told its end",
                |_, t: &Thread| {
                    let given_up =
                        |m: &Mail| m.class == Class::IncidentEnd && m.state == State::Unknown && m.repeats > 0;
                    !t.is_at_rest() || !t.resolved || t.heard_end != Some(false) || t.mails.iter().any(given_up)
                },
            ),
        ]
    }
}
