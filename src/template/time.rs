//! Times on the reader's clock and in UTC; durations in words.

use crate::domain::time::{Span, Timestamp};
use jiff::tz::{Offset, TimeZone};

const DAY_AND_TIME: &str = "%a %-d %b %Y, %H:%M";

/// The reader's clock.
pub(super) struct Clock(TimeZone);

impl Clock {
    /// The clock of an IANA zone; of UTC when the zone is unknown.
    pub fn of(zone: &str) -> Self {
        Self(TimeZone::get(zone).unwrap_or(TimeZone::UTC))
    }

    /// A time as the reader's clock shows it, with the offset, and in UTC.
    pub fn show(&self, at: Timestamp) -> String {
        let utc = at.in_zone(&TimeZone::UTC);
        let local = at.in_zone(&self.0);
        if local.offset() == Offset::UTC {
            return format!("{} UTC", utc.strftime(DAY_AND_TIME));
        }
        let in_utc = utc.strftime(if local.date() == utc.date() { "%H:%M" } else { DAY_AND_TIME });
        format!("{} (UTC{}) / {in_utc} UTC", local.strftime(DAY_AND_TIME), local.strftime("%:z"))
    }
}

/// A span in words, by its two largest units; `None` when it is negative, which no true span is.
pub(super) fn words(span: Span) -> Option<String> {
    let seconds = span.as_seconds();
    let minutes = seconds / 60;
    let unit = |n: i64, name: &str| match n {
        0 => None,
        1 => Some(format!("1 {name}")),
        n => Some(format!("{n} {name}s")),
    };
    let (large, small) = match minutes {
        _ if seconds < 0 => return None,
        0 => return Some("less than a minute".to_owned()),
        1..60 => (unit(minutes, "minute"), None),
        60..1440 => (unit(minutes / 60, "hour"), unit(minutes % 60, "minute")),
        _ => (unit(minutes / 1440, "day"), unit(minutes % 1440 / 60, "hour")),
    };
    Some([large, small].into_iter().flatten().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(zone: &str, at: &str) -> String {
        Clock::of(zone).show(Timestamp::parse(at).unwrap())
    }

    #[test]
    fn a_time_is_local_with_its_offset_and_utc() {
        let at = "2026-04-30T10:30:00Z";
        assert_eq!(show("Europe/Amsterdam", at), "Thu 30 Apr 2026, 12:30 (UTC+02:00) / 10:30 UTC");
        assert_eq!(show("Asia/Kolkata", at), "Thu 30 Apr 2026, 16:00 (UTC+05:30) / 10:30 UTC");
    }

    #[test]
    fn another_date_in_utc_is_said() {
        let shown = show("America/New_York", "2026-05-01T01:15:00Z");
        assert_eq!(shown, "Thu 30 Apr 2026, 21:15 (UTC-04:00) / Fri 1 May 2026, 01:15 UTC");
    }

    #[test]
    fn an_unknown_zone_is_utc_alone() {
        for zone in ["Mars/Olympus", "", "../../etc/passwd", "UTC"] {
            assert_eq!(show(zone, "2026-04-30T10:30:00Z"), "Thu 30 Apr 2026, 10:30 UTC", "{zone}");
        }
    }

    #[test]
    fn the_two_sides_of_a_clock_change_differ_by_their_offset() {
        let zone = "Europe/Amsterdam";
        assert_eq!(show(zone, "2026-10-25T00:30:00Z"), "Sun 25 Oct 2026, 02:30 (UTC+02:00) / 00:30 UTC");
        assert_eq!(show(zone, "2026-10-25T01:30:00Z"), "Sun 25 Oct 2026, 02:30 (UTC+01:00) / 01:30 UTC");
        assert_eq!(show(zone, "2026-03-29T00:59:00Z"), "Sun 29 Mar 2026, 01:59 (UTC+01:00) / 00:59 UTC");
        assert_eq!(show(zone, "2026-03-29T01:00:00Z"), "Sun 29 Mar 2026, 03:00 (UTC+02:00) / 01:00 UTC");
    }

    #[test]
    fn spans_are_told_in_two_units() {
        let told = |minutes| words(Span::minutes(minutes)).unwrap();
        assert_eq!(told(8 * 60 + 33), "8 hours 33 minutes");
        assert_eq!(told(49 * 60), "2 days 1 hour");
        assert_eq!(told(48 * 60 + 5), "2 days");
        assert_eq!(told(61), "1 hour 1 minute");
        assert_eq!(told(60), "1 hour");
        assert_eq!(told(1), "1 minute");
        assert_eq!(words(Span::seconds(59)).unwrap(), "less than a minute");
        assert_eq!(words(Span::seconds(-1)), None);
    }
}
