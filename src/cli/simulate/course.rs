//! Who breaks when, and how it ends (1 and 2 March 2025, UTC), each inbox computed from its number alone: the course of
//! two million is not kept anywhere, and is the same every time.

use crate::domain::time::{Span, Timestamp};
use std::fmt::Write;

/// The component whose provider fails.
pub(super) const COMPONENT: &str = "outlook";
/// Saturday, 20:40.
pub(super) const START: Timestamp = Timestamp(1_740_861_600_000_000);
/// All that break have broken.
pub(super) const BROKEN: i64 = 60;
/// Sunday, 01:40: reconnection begins, and the component's recovery is declared to cover its connections.
pub(super) const RECONNECTING: i64 = 300;
/// The last inbox is reconnected: 06:22.
pub(super) const LAST: i64 = 582;
/// People read their mail: Monday, 09:00.
pub(super) const MONDAY: i64 = 2_180;
/// The first who reconnect by hand, after the provider is back.
const BY_HAND: i64 = 70;

/// How an inbox ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is reconnected without its customer.
    Automatic,
    /// Its customer reconnects it during the night.
    ByHand,
    /// Its password has really changed: reconnecting fails, and the customer must act.
    Broken,
}

/// A minute after the start.
pub(super) const fn minute(n: i64) -> Timestamp {
    Timestamp(START.0 + Span::minutes(n).0)
}

pub(super) fn key(number: usize) -> String {
    format!("inbox-{number:07}")
}

pub(super) fn address(number: usize) -> String {
    format!("person-{number:07}@customer.example")
}

/// The number of the inbox of an address.
pub(super) fn number(address: &str) -> Option<usize> {
    address.strip_prefix("person-")?.split_once('@')?.0.parse().ok()
}

/// A number that looks drawn (SplitMix64), the `turn`th of an inbox.
fn drawn(number: usize, turn: u64, end: i64) -> i64 {
    let mut z = (number as u64).wrapping_mul(4).wrapping_add(turn + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    i64::try_from((z ^ (z >> 31)) % end.unsigned_abs().max(1)).unwrap_or_default()
}

/// How an inbox ends; the first two see to it that there is one of each.
pub(super) fn fate(number: usize) -> Fate {
    match (number, drawn(number, 0, 1_000)) {
        (0, _) | (2.., 0..4) => Fate::Broken,
        (1, _) | (2.., 4..6) => Fate::ByHand,
        _ => Fate::Automatic,
    }
}

/// The second after the start in which it breaks: most in the first 40 minutes, all within the hour.
fn breaks(number: usize) -> i64 {
    match drawn(number, 1, 5) {
        0..4 => drawn(number, 2, 40 * 60),
        _ => 40 * 60 + drawn(number, 2, (BROKEN - 40) * 60),
    }
}

/// The minute in which it is heard of again.
fn ends(number: usize) -> i64 {
    match fate(number) {
        Fate::ByHand => BY_HAND + drawn(number, 3, RECONNECTING - BY_HAND),
        Fate::Automatic | Fate::Broken => RECONNECTING + 1 + drawn(number, 3, LAST - RECONNECTING),
    }
}

/// The signals of the minutes after `from` and until `until`, as JSON lines; how many.
pub(super) fn signals(inboxes: usize, from: i64, until: i64) -> (Vec<u8>, usize) {
    let (mut lines, mut count) = (String::new(), 0);
    let mut say = |number: usize, second: i64, what: &str| {
        let at = Timestamp(START.0 + Span::seconds(second).0);
        // Writing to a string cannot fail.
        let _ = writeln!(lines, r#"{{"connection":"{}","observed_at":"{at}",{what}}}"#, key(number));
        count += 1;
    };
    for number in 0..inboxes {
        let second = breaks(number);
        if from * 60 <= second && second < until * 60 {
            say(number, second, r#""what":"failed","fault":"permanent""#);
        }
        let minute = ends(number);
        if from < minute && minute <= until {
            let what = match fate(number) {
                Fate::Automatic => r#""what":"recovered","by":"automatic""#,
                Fate::ByHand => r#""what":"recovered","by":"customer""#,
                Fate::Broken => r#""what":"recovery_failed""#,
            };
            say(number, minute * 60, what);
        }
    }
    (lines.into_bytes(), count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_inbox_breaks_once_and_is_heard_of_once_again() {
        let n = 5_000;
        assert_eq!(signals(n, 0, BROKEN).1, n);
        assert_eq!(signals(n, BROKEN, LAST).1, n);
        assert_eq!(signals(n, 0, LAST).1, (0..LAST).map(|m| signals(n, m, m + 1).1).sum::<usize>());
        let of = |fate: Fate| (0..n).filter(|number| super::fate(*number) == fate).count();
        assert!((10..40).contains(&of(Fate::Broken)) && (4..25).contains(&of(Fate::ByHand)));
    }
}
