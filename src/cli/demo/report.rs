//! What the relay got, counted, and what it means on Monday morning.

use super::Run;
use super::course::{Course, Fate, number};
use crate::domain::number::thousands;
use crate::mail::sink::Received;
use crate::store::audit::Finding;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a mail says, by its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Kind {
    /// "Please reconnect".
    Request,
    /// "No action needed".
    Correction,
    /// Something else.
    Other,
}

/// Reads what a mail says from the mail as it arrived.
pub(in crate::cli) fn kind(mail: &Received) -> Kind {
    let has = |words: &[u8]| mail.body.windows(words.len()).any(|w| w == words);
    if has(b"No action needed") {
        Kind::Correction
    } else if has(b"Action needed") {
        Kind::Request
    } else {
        Kind::Other
    }
}

/// What one inbox's customer got, by position among all mails.
#[derive(Clone, Debug, Default)]
struct Got {
    requests: Vec<usize>,
    corrections: Vec<usize>,
    others: usize,
}

/// What each customer got; mails to nobody we know count as others of the first.
fn got(course: &Course, mails: &[Received]) -> Vec<Got> {
    let mut got = vec![Got::default(); course.inboxes.len()];
    for (position, mail) in mails.iter().enumerate() {
        let known = number(&mail.to).filter(|n| *n < got.len());
        let one = &mut got[known.unwrap_or_default()];
        match (known, kind(mail)) {
            (Some(_), Kind::Request) => one.requests.push(position),
            (Some(_), Kind::Correction) => one.corrections.push(position),
            _ => one.others += 1,
        }
    }
    got
}

/// A customer was asked to act, the inbox works without that, and nothing since has said so.
fn is_misled(fate: Fate, got: &Got) -> bool {
    fate == Fate::Automatic && got.requests.last() > got.corrections.last()
}

/// The figures of one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Side {
    mailed: usize,
    untrue_on_monday: usize,
    held: usize,
    withdrawn: usize,
    corrected: usize,
    truly_broken: usize,
    truly_broken_told: usize,
}

impl Side {
    /// Counts a run.
    pub fn count(course: &Course, run: &Run) -> Self {
        let got = got(course, &run.mails);
        let all = || course.inboxes.iter().map(|i| i.fate).zip(&got);
        let broken = || all().filter(|(fate, _)| *fate == Fate::Broken);
        Self {
            mailed: got.iter().map(|g| g.requests.len()).sum(),
            untrue_on_monday: all()
                .filter(|(fate, got)| is_misled(*fate, got))
                .map(|(_, got)| got.requests.len())
                .sum(),
            held: run.held,
            withdrawn: got.iter().filter(|g| g.requests.is_empty()).count(),
            corrected: got.iter().map(|g| g.corrections.len()).sum(),
            truly_broken: broken().count(),
            truly_broken_told: broken().filter(|(_, got)| !got.requests.is_empty()).count(),
        }
    }
}

/// What the mails of the run with the gate do not keep of what is promised.
pub(super) fn faults(course: &Course, mails: &[Received]) -> Vec<String> {
    let mut faults = Vec::new();
    for (n, (inbox, got)) in course.inboxes.iter().zip(got(course, mails)).enumerate() {
        let who = super::course::address(n);
        let mut fault = |wrong: bool, what: &str| {
            if wrong {
                faults.push(format!("{who} {what}"));
            }
        };
        let fate = inbox.fate;
        let corrections = got.corrections.len();
        fault(is_misled(fate, &got), "was asked to act, need not, and was not told so");
        fault(fate == Fate::Broken && got.requests.is_empty(), "must act, and was not told");
        fault(fate == Fate::Broken && corrections > 0, "must act, and was told that nothing need be done");
        fault(fate == Fate::ByHand && corrections > 0, "reconnected by hand, and got a correction");
        fault(
            corrections > 0 && got.requests.first().is_none_or(|r| *r > got.corrections[0]),
            "got a correction of nothing",
        );
        fault(corrections > 1 || got.requests.len() > 1, "got the same mail twice");
        fault(got.others > 0, "got a mail that nobody wrote");
    }
    faults
}

/// Writes one mail of each kind to a folder; their names and what they show.
///
/// # Errors
/// When a file cannot be written.
pub(super) fn keep(
    folder: &Path,
    mails: &[Received],
    course: &Course,
) -> std::io::Result<Vec<(&'static str, &'static str)>> {
    std::fs::create_dir_all(folder)?;
    let got = got(course, mails);
    let corrected = got.iter().find(|g| !g.corrections.is_empty() && !g.requests.is_empty());
    // Somebody who was told in the night, not with the first few before the outage was known.
    let told = course.inboxes.iter().zip(&got).filter(|(inbox, _)| inbox.fate == Fate::Broken);
    let told = told.filter_map(|(_, got)| got.requests.last().copied()).max();
    let mut kept = Vec::new();
    for (name, what, position) in [
        ("1-asked-too-early.eml", "left before the outage was known", corrected.map(|g| g.requests[0])),
        ("2-taken-back.eml", "takes 1 back: that inbox works again", corrected.map(|g| g.corrections[0])),
        ("3-truly-broken.eml", "asks somebody who really must act", told),
    ] {
        if let Some(mail) = position.and_then(|p| mails.get(p)) {
            std::fs::write(folder.join(name), &mail.body)?;
            kept.push((name, what));
        }
    }
    Ok(kept)
}

/// The result of the demo.
pub(super) struct Report<'a> {
    pub course: &'a Course,
    pub off: Side,
    pub on: Side,
    pub faults: Vec<String>,
    pub findings: Vec<Finding>,
    pub folder: &'a Path,
    pub kept: Vec<(&'static str, &'static str)>,
    pub took: Duration,
}

impl Report<'_> {
    /// Whether all that is promised holds.
    pub fn holds(&self) -> bool {
        self.faults.is_empty() && self.findings.is_empty()
    }

    /// The table, what it means, and where to look.
    pub fn text(&self) -> String {
        let (off, on) = (&self.off, &self.on);
        let mut lines = vec![String::new(), row("", "gate off", "gate on"), "-".repeat(72)];
        for (label, off, on) in [
            ("Mails that ask to reconnect", thousands(off.mailed), thousands(on.mailed)),
            (
                "  of these untrue when read on Monday 09:00",
                thousands(off.untrue_on_monday),
                thousands(on.untrue_on_monday),
            ),
            ("Most mails held back at one time", thousands(off.held), thousands(on.held)),
            ("Mails withdrawn, never sent", thousands(off.withdrawn), thousands(on.withdrawn)),
            ("Corrections: \"no action needed\"", thousands(off.corrected), thousands(on.corrected)),
            ("Customers who really must act", thousands(off.truly_broken), thousands(on.truly_broken)),
            ("  of these told", thousands(off.truly_broken_told), thousands(on.truly_broken_told)),
        ] {
            lines.push(row(label, &off, &on));
        }
        lines.push(String::new());
        lines.push(self.meaning());
        lines.push(String::new());
        lines.push(format!("Mails of the run with the gate on:\n  {}", self.folder.join("mails").display()));
        lines.extend(self.kept.iter().map(|(name, what)| format!("    {name:<22} {what}")));
        lines.push(format!("Its database:\n  {}", self.folder.join(super::world::DATABASE).display()));
        lines.push(String::new());
        lines.push(self.verdict());
        lines.join("\n")
    }

    fn meaning(&self) -> String {
        let misled = thousands(self.off.untrue_on_monday);
        let (asked, on) = (thousands(self.off.mailed), &self.on);
        format!(
            "gate off: all {asked} customers were asked to reconnect at once, and on Monday\n\
             {misled} of them read a request that was no longer true.\n\
             gate on: {} were asked before the outage was known, and were told \"no action\n\
             needed\" when their inbox was back; {} who really must act were told; {} were\n\
             never bothered.",
            thousands(on.corrected),
            thousands(on.truly_broken_told),
            thousands(on.withdrawn),
        )
    }

    fn verdict(&self) -> String {
        if self.holds() {
            return format!(
                "All checks hold: every mail, and every promise in the database ({:.1} s).",
                self.took.as_secs_f64()
            );
        }
        let found = self.findings.iter().map(|f| format!("{}: {} {}", f.check, f.subject, f.detail));
        let all: Vec<_> = self.faults.iter().cloned().chain(found).collect();
        let shown: Vec<_> = all.iter().take(20).map(|f| format!("  {f}")).collect();
        format!("{} CHECKS DO NOT HOLD:\n{}", all.len(), shown.join("\n"))
    }

    /// The result as one line of JSON.
    pub fn json(&self) -> String {
        let mails: Vec<PathBuf> = self.kept.iter().map(|(name, _)| self.folder.join("mails").join(name)).collect();
        serde_json::json!({
            "inboxes": self.course.inboxes.len(), "gate_off": self.off, "gate_on": self.on, "holds": self.holds(),
            "faults": self.faults, "findings": self.findings, "mails": mails,
            "database": self.folder.join(super::world::DATABASE), "seconds": self.took.as_secs_f64(),
        })
        .to_string()
    }
}

fn row(label: &str, off: &str, on: &str) -> String {
    format!("{label:<48}{off:>12}{on:>12}")
}
