//! Whether the relay refuses most of what a stream offers it: told once in a while, not once a mail.

use crate::domain::time::{Span, Timestamp};

/// Tries are counted for so long.
const WINDOW: Span = Span::minutes(5);
/// Fewer are addresses that are gone.
const MANY: usize = 10;

/// What became of a stream's tries lately.
#[derive(Debug, Default)]
pub(in crate::flow) struct Refusals {
    since: Timestamp,
    taken: usize,
    refused: usize,
    told: bool,
}

impl Refusals {
    /// Counts tries that ended; how many were refused for good lately and how many taken, if the first are most of many and it
    /// was not told lately.
    pub fn count(&mut self, now: Timestamp, refused: usize, taken: usize) -> Option<(usize, usize)> {
        if now - self.since > WINDOW || now < self.since {
            *self = Self { since: now, ..Self::default() };
        }
        self.refused += refused;
        self.taken += taken;
        let tells = !self.told && self.refused >= MANY && self.refused > self.taken;
        self.told |= tells;
        tells.then_some((self.refused, self.taken))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_refusals_are_told_once_in_a_while_and_few_never() {
        let (mut refusals, start) = (Refusals::default(), Timestamp(1_740_861_600_000_000));
        assert_eq!(refusals.count(start, 9, 0), None);
        assert_eq!(refusals.count(start + Span::minutes(1), 20, 30), None, "more are taken");
        assert_eq!(refusals.count(start + Span::minutes(2), 2, 0), Some((31, 30)));
        assert_eq!(refusals.count(start + Span::minutes(5), 50, 0), None, "told");
        assert_eq!(refusals.count(start + Span::minutes(6), 9, 0), None, "counted anew");
        assert_eq!(refusals.count(start + Span::minutes(7), 1, 0), Some((10, 0)));
    }
}
