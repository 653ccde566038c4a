//! When a mail that the relay put off is tried again. `backoff` only calculates the interval (it is
//! unmaintained, RUSTSEC-2025-0012); the time itself lives in the database, so a restart forgets nothing.

use crate::domain::time::Span;
use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;

/// The schedule of retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The longest wait before the second try.
    pub first: Span,
    /// The longest wait there is.
    pub cap: Span,
}

impl Default for Schedule {
    /// 30 s, doubling to an hour: we talk to a relay, not to the far side.
    fn default() -> Self {
        Self { first: Span::seconds(30), cap: Span::hours(1) }
    }
}

/// The longest wait after `tries` tries: doubles from `first` up to `cap`, and never gives up by itself
/// (a mail's own greatest age ends it).
#[must_use]
pub fn interval(schedule: Schedule, tries: i64) -> Span {
    let mut calculator = ExponentialBackoff {
        current_interval: schedule.first.to_std(),
        max_interval: schedule.cap.to_std(),
        multiplier: 2.0,
        randomization_factor: 0.0,
        max_elapsed_time: None,
        ..ExponentialBackoff::default()
    };
    let steps = tries.clamp(1, 64);
    let last = (0..steps).filter_map(|_| calculator.next_backoff()).last().unwrap_or_default();
    Span(i64::try_from(last.as_micros()).unwrap_or(schedule.cap.0)).min(schedule.cap)
}

/// The wait after `tries` tries, with full jitter: `chance` in [0, 1) picks from the whole interval, so that
/// a thousand mails put off together do not come back together. At least a second.
#[must_use]
pub fn wait(schedule: Schedule, tries: i64, chance: f64) -> Span {
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
    let picked = (interval(schedule, tries).0 as f64 * chance.clamp(0.0, 1.0)) as i64;
    Span(picked).max(Span::seconds(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_schedule_can_be_read_here() {
        let seconds: Vec<_> = (1..=9).map(|n| interval(Schedule::default(), n).as_seconds()).collect();
        assert_eq!(seconds, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
    }

    #[test]
    fn it_never_gives_up() {
        assert_eq!(interval(Schedule::default(), 10_000), Span::hours(1));
    }

    #[test]
    fn jitter_uses_the_whole_interval() {
        let schedule = Schedule::default();
        assert_eq!(wait(schedule, 3, 0.0), Span::seconds(1));
        assert_eq!(wait(schedule, 3, 0.5), Span::seconds(60));
        assert!(wait(schedule, 3, 0.999) < Span::seconds(120));
    }
}
