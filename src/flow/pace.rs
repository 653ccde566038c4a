//! Rate caps: how many mails may leave now. A token bucket whose level lives in the database, so that all nodes
//! draw from one; here is only the arithmetic.

use crate::domain::time::{Span, Timestamp};
use std::collections::BTreeMap;

/// A cap in mails a minute: in no minute do more leave.
///
/// A bucket of size b refilled at r lets at most r + b through in a minute, and a mail drawn for may reach the relay
/// a little later than one drawn for after it. So a cap of n is a bucket of n/20 (at least 1), refilled at n less two
/// of those: the second is the room for mails that were late. Nothing is drawn for that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(u32);

/// The caps of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    /// Of all its mails.
    pub overall: Option<Rate>,
    /// Of all mails to its relay, by the relay's name.
    pub relay: Option<(String, Rate)>,
    /// Of its mails to one recipient domain.
    pub domain: Option<Rate>,
    /// Of its mails to the domains named.
    pub domains: BTreeMap<String, Rate>,
}

/// One mail, in the unit of levels.
pub const MAIL: i64 = 1_000_000;
const MINUTE: i64 = 60_000_000;

impl Rate {
    /// A cap; at least one mail a minute.
    #[must_use]
    pub fn per_minute(mails: u32) -> Self {
        Self(mails.max(1))
    }

    /// No cap that anybody would meet: a bucket to lock.
    #[must_use]
    pub const fn unbounded() -> Self {
        Self(1_000_000_000)
    }

    /// How much a new bucket holds.
    #[must_use]
    pub fn size(self) -> i64 {
        (i64::from(self.0) / 20).max(1) * MAIL
    }

    /// The most there can be in it: what has flowed in of one mail more is not lost while nobody looks.
    #[must_use]
    pub fn brim(self) -> i64 {
        if self.0 < 2 { self.size() } else { self.size() + MAIL - 1 }
    }

    /// What flows in within a minute.
    fn refill(self) -> i64 {
        let cap = i64::from(self.0) * MAIL;
        (cap - 2 * self.size()).max(cap / 2)
    }

    /// The level at a time, from an earlier one.
    #[must_use]
    pub fn level(self, level: i64, at: Timestamp, now: Timestamp) -> i64 {
        let elapsed = (now - at).0.max(0);
        let inflow = i128::from(elapsed) * i128::from(self.refill()) / i128::from(MINUTE);
        i64::try_from(inflow).unwrap_or(i64::MAX).saturating_add(level).min(self.brim())
    }

    /// How long until a level has grown to a whole mail.
    #[must_use]
    pub fn wait(self, level: i64) -> Span {
        let missing = i128::from((MAIL - level).max(0));
        Span(i64::try_from(missing * i128::from(MINUTE) / i128::from(self.refill())).unwrap_or(MINUTE) + 1)
    }

    /// The time between two mails once the bucket is empty, in microseconds.
    #[must_use]
    pub fn spacing(self) -> i64 {
        MINUTE * MAIL / self.refill()
    }
}

impl Caps {
    /// The cap of a recipient domain.
    #[must_use]
    pub fn of_domain(&self, domain: &str) -> Option<Rate> {
        self.domains.get(domain).copied().or(self.domain)
    }

    /// Whether recipient domains are capped at all.
    #[must_use]
    pub fn by_domain(&self) -> bool {
        self.domain.is_some() || !self.domains.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws whenever there is a whole mail in the bucket, asked every `step` microseconds for an hour.
    fn drawn(cap: u32, step: i64) -> Vec<i64> {
        let rate = Rate::per_minute(cap);
        let (mut level, mut at) = (rate.size(), 0);
        let mut times = Vec::new();
        for now in (0..60 * MINUTE).step_by(usize::try_from(step).unwrap()) {
            // As a claim does, what there is is not written before something is drawn.
            let mut left = rate.level(level, Timestamp(at), Timestamp(now));
            if left < MAIL {
                continue;
            }
            while left >= MAIL {
                left -= MAIL;
                times.push(now);
            }
            (level, at) = (left, now);
        }
        times
    }

    #[test]
    fn no_minute_sees_more_than_the_cap_and_none_much_less() {
        for (cap, step) in [(1, 500_000), (2, 100_000), (3, 1_000_000), (30, 100_000), (600, 100_000), (60_000, 10_000)]
        {
            let times = drawn(cap, step);
            // So many mails later it is a minute later.
            let crowded = times.windows(cap as usize + 1).find(|w| w[cap as usize] - w[0] < MINUTE);
            assert!(crowded.is_none(), "{cap}: {:?}", crowded.map(|w| w[0]));
            let least = if cap < 4 { 0.49 } else { 0.85 };
            #[allow(clippy::cast_precision_loss)]
            let share = times.len() as f64 / f64::from(cap) / 60.0;
            assert!(share >= least && share <= 1.0, "{cap}: {share}");
        }
    }

    #[test]
    fn a_bucket_never_overflows_and_time_going_back_gives_nothing() {
        let rate = Rate::per_minute(60);
        assert_eq!(rate.level(0, Timestamp(0), Timestamp(i64::MAX / 2)), rate.size() + MAIL - 1);
        assert_eq!(rate.level(5, Timestamp(1_000_000), Timestamp(0)), 5);
    }
}
