//! An incident of two components. One subscriber follows both, another only the first. Monitors report the components,
//! too.

use super::{Said, Subject, clock};
use crate::support::{Got, World};
use crate::table::plain;
use allclear::domain::incident::ComponentStatus::{self, DegradedPerformance, MajorOutage, Operational, PartialOutage};
use allclear::domain::time::Timestamp;
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};

/// What the source said last.
#[derive(Clone, Copy, Debug)]
struct Truth {
    at: Timestamp,
    known: bool,
    resolved: bool,
    status: [ComponentStatus; 2],
    /// Only a monitor said so: who follows several is told when all are back, or with the next update, and a mail that
    /// may be lost is repeated as it was.
    quietly: [bool; 2],
}

pub struct Incident {
    number: u64,
    every: u32,
    truths: Vec<Truth>,
    /// By the monitors' word, or the incident's.
    down: [bool; 2],
    /// It was the incident that said so first.
    opened: [bool; 2],
    log: Vec<String>,
}

/// What a mail says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Problem,
    AllClear,
    End,
}

impl Incident {
    pub fn new(number: u64, random: &mut StdRng) -> Self {
        let nothing =
            Truth { at: Timestamp(0), known: false, resolved: false, status: [Operational; 2], quietly: [false; 2] };
        let every = [3, 5, 9, 15][random.random_range(0..4)];
        Self { number, every, truths: vec![nothing], down: [false; 2], opened: [false; 2], log: Vec::new() }
    }

    fn now(&self) -> Truth {
        *self.truths.last().unwrap()
    }

    fn key(&self, at: usize) -> String {
        format!("{}{}", ["x", "y"][at], self.number)
    }

    fn log(&mut self, now: Timestamp, what: impl std::fmt::Display) {
        self.log.push(format!("{} {what}", clock(now)));
    }

    fn update(&mut self, phase: &'static str, of: &[(usize, ComponentStatus)], now: Timestamp) -> Value {
        let mut truth = Truth { at: now, known: true, ..self.now() };
        for (at, status) in of {
            (truth.status[*at], truth.quietly[*at]) = (*status, false);
            match status {
                _ if status.is_down() => {
                    self.opened[*at] |= !self.down[*at];
                    self.down[*at] = true;
                }
                Operational => (self.down[*at], self.opened[*at]) = (false, false),
                _ => {}
            }
        }
        if of.iter().any(|(_, status)| status.is_down()) {
            truth.resolved = false;
        }
        if phase == "resolved" {
            truth = Truth { resolved: true, status: [Operational; 2], ..truth };
            for at in 0..2 {
                self.down[at] &= !self.opened[at];
                truth.quietly[at] |= self.down[at];
                self.opened[at] = false;
            }
        }
        self.truths.push(truth);
        self.log(now, format!("{phase} {of:?}"));
        let components: Vec<_> =
            of.iter().map(|(at, status)| json!({"key": self.key(*at), "status": status.as_str()})).collect();
        json!({"kind": "incident", "incident": format!("i{}", self.number), "title": "Trouble", "phase": phase,
            "components": components, "body": format!("Said at {}.", clock(now))})
    }

    fn signal(&mut self, at: usize, what: &str, now: Timestamp) -> Value {
        let mut truth = Truth { at: now, ..self.now() };
        match (what, truth.status[at]) {
            // That is the newest word about it, in an incident too.
            ("recovered", _) if self.down[at] && !truth.resolved => {
                (truth.status[at], truth.quietly[at]) = (Operational, true);
            }
            // No mail says that it works.
            ("failed", Operational) => truth.quietly[at] = true,
            _ => {}
        }
        self.truths.push(truth);
        self.opened[at] &= what == "failed" && self.down[at];
        self.down[at] = what == "failed";
        self.log(now, format!("{} {what}, says a monitor", ["x", "y"][at]));
        json!({"component": self.key(at), "what": what})
    }

    fn follows(subscriber: &str) -> &'static [usize] {
        if subscriber.starts_with('m') { &[0, 1] } else { &[0] }
    }

    fn at(&self, at: Timestamp) -> Truth {
        *self.truths.iter().rev().find(|truth| truth.at <= at).unwrap()
    }

    /// Whether a component was reported down after the resolution that an end told of: lesser trouble reopens nothing for
    /// those who had their end, even where another component reopened the incident.
    fn relapsed(&self, end: Timestamp, follows: &[usize]) -> bool {
        let resolved = self.truths.iter().rposition(|truth| truth.at <= end && truth.resolved).unwrap();
        self.truths[resolved..].iter().any(|truth| follows.iter().any(|at| truth.status[*at].is_down()))
    }

    /// The components a mail lists, with their states.
    fn listed(&self, got: &Got) -> Vec<(usize, String)> {
        let text = plain(got);
        let Some((_, list)) = text.split_once("Affected components:\n") else { return Vec::new() };
        let lines = list.lines().map_while(|line| line.strip_prefix("- "));
        lines
            .map(|line| {
                let (name, status) = line.split_once(": ").unwrap();
                let at = ["Xray", "Yard"].iter().position(|first| name == format!("{first}{}", self.number));
                (at.unwrap(), status.to_owned())
            })
            .collect()
    }

    /// Whether a mail was true when it came, or is the last word at rest.
    fn check(&self, got: &Got, follows: &[usize]) -> Result<Kind, String> {
        let (lead, truth) = (crate::table::what(got), self.at(got.at));
        let trouble = follows.iter().any(|at| truth.status[*at] != Operational);
        let wrong = |what: &str| Err(format!("{what} at {}: {lead}", clock(got.at)));
        if lead.starts_with("All clear") {
            return if trouble && !truth.resolved { wrong("all clear in trouble") } else { Ok(Kind::AllClear) };
        }
        if lead.starts_with("Resolved") {
            return if truth.resolved { Ok(Kind::End) } else { wrong("an end of what is open") };
        }
        if truth.resolved {
            return wrong("trouble that is over");
        }
        let listed = self.listed(got);
        for (at, status) in &listed {
            if truth.status[*at].label() != status && !truth.quietly[*at] {
                return wrong(&format!("{} is not {status}", self.key(*at)));
            }
        }
        let missing =
            follows.iter().find(|at| truth.status[**at] != Operational && !listed.iter().any(|l| l.0 == **at));
        match missing {
            Some(at) => wrong(&format!("{} is in trouble and not named", self.key(*at))),
            None => Ok(Kind::Problem),
        }
    }
}

impl Subject for Incident {
    async fn set_up(&self, w: &World) {
        let n = self.number;
        w.component(&self.key(0), &format!("Xray{n}")).await;
        w.component(&self.key(1), &format!("Yard{n}")).await;
        for subscriber in self.subscribers() {
            w.subscriber(&subscriber).await;
            for at in Self::follows(&subscriber) {
                w.subscribe(&subscriber, &self.key(*at)).await;
            }
        }
    }

    fn step(&mut self, random: &mut StdRng, now: Timestamp) -> Option<Said> {
        if !random.random_ratio(1, self.every) {
            return None;
        }
        let mut status =
            || [Operational, Operational, DegradedPerformance, PartialOutage, MajorOutage][random.random_range(0..5)];
        let both = [(0, status()), (1, status())];
        let of = match random.random_range(0..4) {
            0 => &both[..],
            1 => &both[1..],
            _ => &both[..1],
        };
        let at = random.random_range(0..2);
        Some(match random.random_range(0..12) {
            0 => Said::Signal(self.signal(at, "failed", now)),
            1 => Said::Signal(self.signal(at, "recovered", now)),
            2 | 3 if self.now().known => Said::Notice(self.update("resolved", &[], now)),
            n => {
                let phase = ["investigating", "identified", "monitoring", "update"][n % 4];
                // A source begins with where it stands.
                let phase = if self.now().known { phase } else { "investigating" };
                Said::Notice(self.update(phase, of, now))
            }
        })
    }

    fn calm(&mut self, _: &mut StdRng, now: Timestamp) -> Option<Said> {
        let truth = self.now();
        let up = (0..2).find(|at| self.down[*at] && !truth.status[*at].is_down())?;
        Some(Said::Signal(self.signal(up, "recovered", now)))
    }

    fn pass(&mut self, _: Timestamp) {}

    fn judge(&self, subscriber: &str, mails: &[Got]) -> Result<(), String> {
        let follows = Self::follows(subscriber);
        let mut kinds = Vec::new();
        for got in mails {
            kinds.push(self.check(got, follows)?);
        }
        let truth = self.now();
        let trouble = !truth.resolved && follows.iter().any(|at| truth.status[*at] != Operational);
        match (trouble, kinds.last()) {
            (false, Some(Kind::Problem)) if truth.resolved => Err("is over at rest, and nobody said so".to_owned()),
            (_, Some(Kind::Problem)) => {
                // What is said last must be all that is to be said.
                self.check(&Got { at: truth.at, ..mails.last().unwrap().clone() }, follows).map(|_| ())
            }
            (true, Some(Kind::End)) if !self.relapsed(mails.last().unwrap().at, follows) => Ok(()),
            (true, last) => Err(format!("is in trouble at rest; the last word: {last:?}")),
            (false, _) => Ok(()),
        }
    }

    fn subscribers(&self) -> Vec<String> {
        vec![format!("m{}", self.number), format!("n{}", self.number)]
    }

    fn sequence(&self) -> String {
        self.log.join("; ")
    }
}
