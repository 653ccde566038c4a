//! One counting rule, in words that support can read out: "normal is about 3 in 10 minutes, we saw 212".

use super::super::number::thousands;
use super::super::time::Timestamp;
use std::fmt;

/// A minute in microseconds.
pub const MINUTE: i64 = 60_000_000;

/// The minute of a time: what comes in is counted by it.
#[must_use]
pub const fn minute(at: Timestamp) -> i64 {
    at.0.div_euclid(MINUTE)
}

/// When more than so many in a window are no chance any more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// The window, in minutes.
    pub minutes: i64,
    /// Fewer are never a flood: a small provider has nothing but the dwell.
    pub least: i64,
    /// At least so many times what is normal.
    pub times: f64,
    /// At least so many square roots of what is normal above it: the scatter of a count grows with its root.
    pub deviations: f64,
}

names!(
    /// What a rule makes of a count.
    Finding {
        /// Too few to say anything.
        TooFew = "too_few",
        /// Not many times what is normal.
        Usual = "usual",
        /// Chance may do that.
        WithinChance = "within_chance",
        /// A flood.
        Flood = "flood",
    }
);

impl Rule {
    /// Judges a count against what is normal in the same window.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub fn judge(&self, counted: i64, normal: f64) -> Finding {
        let n = counted as f64;
        if counted < self.least {
            Finding::TooFew
        } else if n < self.times * normal {
            Finding::Usual
        } else if n < self.deviations.mul_add(normal.sqrt(), normal) {
            Finding::WithinChance
        } else {
            Finding::Flood
        }
    }

    /// What a flood was seen by.
    #[must_use]
    pub const fn evidence(&self, counted: i64, normal: f64) -> Evidence {
        Evidence { counted, normal, minutes: self.minutes }
    }
}

/// The numbers behind a finding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence {
    /// How many were seen.
    pub counted: i64,
    /// How many are normal.
    pub normal: f64,
    /// In so many minutes.
    pub minutes: i64,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let normal = match self.normal {
            n if n < 0.5 => "none".to_owned(),
            n => format!("about {}", thousands(n.round())),
        };
        let window = if self.minutes == 1 { "a minute".to_owned() } else { format!("{} minutes", self.minutes) };
        write!(f, "normal is {normal} in {window}, we saw {}", thousands(self.counted))
    }
}

/// What is normal, as it is stored: in thousandths.
#[must_use]
pub fn thousandths(n: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "counts are far below 2^52")]
    let whole = (n * 1_000.0).round() as i64;
    whole
}

/// The same read back.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub fn of_thousandths(n: i64) -> f64 {
    n as f64 / 1_000.0
}

/// How many came in within so many minutes up to a minute, given the counts by minute.
#[must_use]
pub fn within(counts: &[(i64, i64)], until: i64, minutes: i64) -> i64 {
    counts.iter().filter(|(at, _)| *at <= until && *at > until - minutes).map(|(_, n)| n).sum()
}

/// What is normal in a window, of a total over the minutes that were seen.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub fn normal(total: i64, seen: i64, window: i64) -> f64 {
    total as f64 * window as f64 / seen.max(window).max(1) as f64
}

/// The minutes from one on to before another that lie in none of these spans, which may overlap; and the spans, cut to
/// them and joined. Outages, surges and holds are suspect: the baseline must not learn them.
#[must_use]
pub fn unsuspected(from: i64, until: i64, spans: &[(i64, i64)]) -> (i64, Vec<(i64, i64)>) {
    let mut cut: Vec<_> =
        spans.iter().map(|(a, b)| ((*a).max(from), (*b).min(until - 1))).filter(|(a, b)| a <= b).collect();
    cut.sort_unstable();
    let mut joined: Vec<(i64, i64)> = Vec::new();
    for (a, b) in cut {
        match joined.last_mut().filter(|last| a <= last.1 + 1) {
            Some(last) => last.1 = last.1.max(b),
            None => joined.push((a, b)),
        }
    }
    let suspect: i64 = joined.iter().map(|(a, b)| b - a + 1).sum();
    ((until - from - suspect).max(0), joined)
}
