//! What a replay came to, for people and as one line of JSON.

use super::count::Counted;
use super::history::Mode;
use super::world::States;
use crate::cli::output::{Table, printable};
use std::time::Instant;

/// The lines of what is wrong that are told; the rest is counted.
const SHOWN: usize = 50;

/// The result over all files.
#[derive(Debug)]
pub struct Report {
    mode: Mode,
    /// What was counted from the mails.
    pub counted: Counted,
    pub(super) states: States,
    table: Table,
    began: Instant,
}

impl Report {
    pub(super) fn new(mode: Mode) -> Self {
        let headings = ["history", "incidents", "updates", "mails", "stale", "no end", "twice", "untold", "a pair"];
        let table = Table::new(&headings);
        Self { mode, counted: Counted::default(), states: States::default(), table, began: Instant::now() }
    }

    pub(super) fn add(&mut self, name: &str, counted: Counted) {
        let numbers = |c: &Counted| {
            let Counted { incidents, updates, mails, stale_mails, missing_ends, duplicates, unreported, .. } = c;
            [incidents, updates, mails, stale_mails, missing_ends, duplicates, unreported].map(ToString::to_string)
        };
        let [incidents, updates, mails, stale, ends, twice, untold] = numbers(&counted);
        let pair = format!("{:.2}", counted.mails_per_told_pair());
        self.table.row([name.to_owned(), incidents, updates, mails, stale, ends, twice, untold, pair]);
        self.counted.add(counted);
    }

    pub(super) const fn add_states(&mut self, states: States) {
        self.states.folded += states.folded;
        self.states.withdrawn += states.withdrawn;
        self.states.undecided += states.undecided;
    }

    /// Deliveries that were not decided when nothing was left to do.
    #[must_use]
    pub const fn undecided(&self) -> i64 {
        self.states.undecided
    }

    /// Whether all that is promised holds.
    #[must_use]
    pub const fn holds(&self) -> bool {
        let Counted { stale_mails, missing_ends, duplicates, unreported, strays, .. } = &self.counted;
        *stale_mails + *missing_ends + *duplicates + *unreported + *strays == 0 && self.states.undecided == 0
    }

    /// The table, and what is wrong.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = self.table.to_string();
        let wrong = &self.counted.wrong;
        for line in wrong.iter().take(SHOWN) {
            text.push_str(&format!("\n{}", printable(line)));
        }
        if wrong.len() > SHOWN {
            text.push_str(&format!("\nand {} more", wrong.len() - SHOWN));
        }
        if self.states.undecided > 0 {
            text.push_str(&format!("\n{} deliveries were never decided", self.states.undecided));
        }
        let seconds = self.began.elapsed().as_secs_f64();
        let verdict = match self.holds() {
            true => "Every mail was true and said once".to_owned(),
            false => "NOT EVERY MAIL WAS TRUE AND SAID ONCE".to_owned(),
        };
        format!("{}\n{verdict} ({seconds:.1} s).\n", text.trim_end())
    }

    /// The result as one line of JSON.
    #[must_use]
    pub fn json(&self) -> String {
        let mut json = serde_json::to_value(&self.counted).unwrap_or_default();
        json["mode"] = serde_json::json!(self.mode);
        json["folded"] = self.states.folded.into();
        json["withdrawn"] = self.states.withdrawn.into();
        json["undecided"] = self.states.undecided.into();
        json["mails_per_told_pair"] = self.counted.mails_per_told_pair().into();
        json["seconds"] = self.began.elapsed().as_secs_f64().into();
        json.to_string()
    }
}
