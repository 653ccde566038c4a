//! Progress on standard error: one line that changes on a terminal, a few lines elsewhere.

use super::report::{Kind, kind};
use crate::domain::number::thousands;
use crate::domain::time::Timestamp;
use crate::mail::sink::Sink;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// A line that changes oftener cannot be read.
const BETWEEN: Duration = Duration::from_millis(100);

/// The progress of one run.
pub(super) struct Progress {
    name: &'static str,
    terminal: bool,
    told: Option<Instant>,
    line: String,
}

/// Says what is going to be seen.
pub(super) fn introduce(inboxes: usize) {
    eprintln!(
        "Replaying a real outage, 1 to 3 March 2025 (UTC), twice: {} inboxes break on\n\
         Saturday evening, and nearly all of them are reconnected during the night.",
        thousands(inboxes)
    );
}

impl Progress {
    /// The progress of a run with this name.
    pub fn new(name: &'static str) -> Self {
        Self { name, terminal: std::io::stderr().is_terminal(), told: None, line: String::new() }
    }

    /// Whether it is time to tell something.
    pub fn is_due(&self, landmark: bool) -> bool {
        landmark || (self.terminal && self.told.is_none_or(|told| told.elapsed() >= BETWEEN))
    }

    /// Tells how far the run is, when it is time to.
    pub fn tell(&mut self, now: Timestamp, held: usize, sink: &Sink, landmark: bool) {
        if !self.is_due(landmark) {
            return;
        }
        self.told = Some(Instant::now());
        let corrected = sink.mails().iter().filter(|m| kind(m) == Kind::Correction).count();
        let mailed = usize::try_from(sink.count()).unwrap_or(usize::MAX).saturating_sub(corrected);
        let held = thousands(held);
        self.line = format!(
            "{}  {}  mailed {:>6}  held {held:>6}  corrected {:>5}",
            self.name,
            now.to_jiff().strftime("%a %H:%M"),
            thousands(mailed),
            thousands(corrected)
        );
        let mut out = std::io::stderr().lock();
        // Progress that cannot be shown is no reason to end.
        let _ = if self.terminal {
            write!(out, "\r\x1b[K{}", self.line)
        } else {
            writeln!(out, "{}", self.line.trim_end())
        };
        let _ = out.flush();
    }

    /// Ends the line.
    pub fn end(&self) {
        if self.terminal {
            eprintln!();
        }
    }
}
