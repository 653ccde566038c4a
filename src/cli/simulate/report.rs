//! What a simulation came to, for people and as JSON.

use super::Course;
use super::ledger::Promises;
use crate::cli::output::Table;
use crate::domain::number::thousands;
use crate::domain::time::Timestamp;
use crate::store::audit::Finding;
use serde::Serialize;
use std::time::Duration;

/// The findings of a course that are told; the rest is counted.
const SHOWN: usize = 20;

/// A step of a course: its place in the incident's time, and how long it took in real time.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Step {
    name: &'static str,
    pub at: Timestamp,
    seconds: f64,
}

impl Step {
    pub const fn new(name: &'static str, at: Timestamp, took: Duration) -> Self {
        Self { name, at, seconds: took.as_secs_f64() }
    }

    pub fn line(&self) -> String {
        format!("{}  {:<36} {:>9.2} s", self.at.to_jiff().strftime("%a %H:%M"), self.name, self.seconds)
    }
}

/// What one course came to.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Outcome {
    pub course: Course,
    /// Asked to reconnect before the recovery; counted at the relay, like all mails.
    pub mailed: u64,
    /// Waiting when the recovery came, as the database says.
    pub held: i64,
    /// Withdrawn in the end, as the database says.
    pub withdrawn: i64,
    /// All requests, with those of the truly broken after their reconnection failed.
    pub asked: u64,
    pub corrected: u64,
    pub strays: u64,
    pub promises: Promises,
    /// Mails the relay took, as the database says.
    pub accepted: i64,
    pub undecided: i64,
    /// Mails that the covering recovery took back, as the database says.
    pub corrected_by_recovery: i64,
    pub findings: Vec<Finding>,
    pub steps: Vec<Step>,
}

impl Outcome {
    /// What is wrong, a line each.
    fn wrong(&self) -> Vec<String> {
        let Promises { truly_broken, truly_broken_told, missing_corrections, false_corrections, asked_twice, .. } =
            self.promises;
        let untold = truly_broken - truly_broken_told;
        let arrived = self.asked + self.corrected + self.strays;
        let accepted = u64::try_from(self.accepted).unwrap_or_default();
        let undecided = u64::try_from(self.undecided).unwrap_or_default();
        let counts = [
            (untold, "who must act were not told so last"),
            (missing_corrections, "were asked, are well, and were not told so"),
            (false_corrections, "were told \"no action needed\" without need"),
            (asked_twice, "were asked more than once"),
            (self.strays, "mails were neither a request nor a correction"),
            (undecided, "deliveries were never decided"),
            (arrived.abs_diff(accepted), "mails more or fewer arrived at the relay than the database says"),
        ];
        let counted = counts.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}"));
        let found = self.findings.iter().map(|f| format!("{}: {} {}", f.check, f.subject, f.detail)).take(SHOWN);
        counted.chain(found).map(|what| format!("{}: {what}", self.course.name())).collect()
    }

    fn holds(&self) -> bool {
        self.promises.hold() && self.wrong().is_empty()
    }
}

/// The result over all courses.
#[derive(Debug, Serialize)]
pub struct Report {
    connections: usize,
    courses: Vec<Outcome>,
}

impl Report {
    pub(super) const fn new(connections: usize) -> Self {
        Self { connections, courses: Vec::new() }
    }

    pub(super) fn add(&mut self, outcome: Outcome) {
        self.courses.push(outcome);
    }

    /// Whether all that is promised holds in every course.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.courses.iter().all(Outcome::holds)
    }

    /// The table, the steps, and what is wrong.
    #[must_use]
    pub fn text(&self) -> String {
        let headings = ["course", "mailed", "held", "withdrawn", "corrected", "truly broken", "told", "bothered"];
        let mut table = Table::new(&headings);
        for one in &self.courses {
            table.row([
                one.course.name().to_owned(),
                thousands(one.mailed),
                thousands(one.held),
                thousands(one.withdrawn),
                thousands(one.corrected),
                thousands(one.promises.truly_broken),
                thousands(one.promises.truly_broken_told),
                thousands(one.promises.bothered),
            ]);
        }
        let mut text = format!("{} inboxes\n{table}", thousands(self.connections));
        for one in &self.courses {
            text.push_str(&format!("\n{}\n", one.course.name()));
            for step in &one.steps {
                text.push_str(&format!("  {}\n", step.line()));
            }
        }
        let wrong: Vec<_> = self.courses.iter().flat_map(Outcome::wrong).collect();
        text.push('\n');
        match wrong.as_slice() {
            [] => text.push_str("Whoever must act was told, and whoever was asked in vain was told otherwise.\n"),
            wrong => text.push_str(&format!("WHAT IS PROMISED DOES NOT HOLD:\n{}\n", wrong.join("\n"))),
        }
        text
    }

    /// The result as one line of JSON.
    #[must_use]
    pub fn json(&self) -> String {
        let mut json = serde_json::to_value(self).unwrap_or_default();
        json["holds"] = self.holds().into();
        json.to_string()
    }
}
