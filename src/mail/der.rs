//! The end of a certificate's validity, out of its DER (RFC 5280 4.1). The verifier checks it and says no more than
//! yes or no; a person wants to know the day before.

use crate::domain::time::Timestamp;

/// The last moment at which a certificate is valid; nothing when it cannot be read.
pub(super) fn not_after(certificate: &[u8]) -> Option<Timestamp> {
    let (_, certificate, _) = element(certificate)?;
    let (_, mut fields, _) = element(certificate)?;
    // The version, tagged [0], may be left out; then serial, signature algorithm, issuer; then the validity.
    if element(fields)?.0 == 0xa0 {
        fields = element(fields)?.2;
    }
    for _ in 0..3 {
        fields = element(fields)?.2;
    }
    let (_, validity, _) = element(fields)?;
    let (_, _, rest) = element(validity)?;
    let (tag, text, _) = element(rest)?;
    moment(tag, std::str::from_utf8(text).ok()?)
}

/// Tag, content and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `UTCTime` (two digits of the year, 50 and more are the last century) or `GeneralizedTime`, both to the second in UTC.
fn moment(tag: u8, text: &str) -> Option<Timestamp> {
    let text = match tag {
        0x17 if text.get(..2)? < "50" => format!("20{text}"),
        0x17 => format!("19{text}"),
        _ => text.to_owned(),
    };
    let at = jiff::civil::DateTime::strptime("%Y%m%d%H%M%SZ", text).ok()?;
    Some(Timestamp(at.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_microsecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_writing_the_time_are_read() {
        let at = |tag, text| moment(tag, text).map(|at| at.to_string());
        assert_eq!(at(0x17, "261231235959Z").as_deref(), Some("2026-12-31T23:59:59Z"));
        assert_eq!(at(0x17, "990101000000Z").as_deref(), Some("1999-01-01T00:00:00Z"));
        assert_eq!(at(0x18, "20510101000000Z").as_deref(), Some("2051-01-01T00:00:00Z"));
        assert_eq!(at(0x17, "tomorrow"), None);
    }

    #[test]
    fn what_is_no_certificate_is_no_time() {
        for der in [&b""[..], b"\x30", b"\x30\x03\x30\x84\xff", b"\x30\x82\xff\xff\x00", b"\x30\x80\x00\x00"] {
            assert_eq!(not_after(der), None, "{der:?}");
        }
    }
}
