//! Bodies as mail carries them: CRLF line ends, and 7bit, quoted-printable or base64, whichever is
//! shortest. lettre's own choice gives the same kinds at a third of the speed: it scans several times,
//! inserts each CR by moving the rest, and encodes byte by byte through formatting.

use super::message::has_line_over;
use lettre::message::Body;
use lettre::message::header::ContentTransferEncoding as Encoding;

/// A text part's body.
pub(super) fn body(text: &str) -> Body {
    let text = crlf(text);
    if text.is_ascii() && seven_bit(&text) {
        return Body::dangerous_pre_encoded(text.into_bytes(), Encoding::SevenBit);
    }
    let foreign = text.bytes().filter(|b| !b.is_ascii()).count();
    // Three octets for each foreign one, against four for every three.
    if foreign * 5 < text.len() {
        return Body::dangerous_pre_encoded(quoted_printable(&text), Encoding::QuotedPrintable);
    }
    Body::new_with_encoding(text.into_bytes(), Encoding::Base64).unwrap_or_else(|text| {
        Body::dangerous_pre_encoded(quoted_printable(&String::from_utf8_lossy(&text)), Encoding::QuotedPrintable)
    })
}

/// Whether ASCII text can stand as it is: no control characters, lines of mail length.
fn seven_bit(text: &str) -> bool {
    // Without an early end, so that it runs over many octets at a time.
    let control = text
        .bytes()
        .fold(false, |seen, b| seen | ((b < b' ') & (b != b'\t') & (b != b'\r') & (b != b'\n')) | (b == 0x7f));
    !control && !has_line_over(990, text.as_bytes())
}

/// Every line end, of whichever kind, as CRLF.
fn crlf(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 24 + 2);
    let push = if text.contains('\r') { push_line } else { String::push_str };
    let mut lines = text.split('\n');
    // Each but the last piece was ended by an LF, perhaps after a CR of its own.
    let last = lines.next_back().unwrap_or_default();
    for line in lines {
        push(&mut out, line.strip_suffix('\r').unwrap_or(line));
        out.push_str("\r\n");
    }
    push(&mut out, last);
    out
}

/// CRs on their own end lines too.
fn push_line(out: &mut String, line: &str) {
    if !line.contains('\r') {
        return out.push_str(line);
    }
    let mut parts = line.split('\r');
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        out.push_str("\r\n");
        out.push_str(part);
    }
}

/// RFC 2045 6.7 for text with CRLF line ends: lines of at most 76, blanks at line ends encoded.
fn quoted_printable(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + text.len() / 4);
    for (n, line) in text.split('\n').enumerate() {
        if n > 0 {
            out.extend_from_slice(b"\r\n");
        }
        let line = line.strip_suffix('\r').unwrap_or(line).as_bytes();
        let blank_end = matches!(line.last(), Some(b' ' | b'\t'));
        let (mut rest, end) = line.split_at(line.len() - usize::from(blank_end));
        let mut column = 0;
        while let Some(&first) = rest.first() {
            // Whole runs at once; the last column stays free for the `=` of a soft break.
            let run =
                rest.iter().take(75 - column).take_while(|b| matches!(b, b' '..=b'<' | b'>'..=b'~' | b'\t')).count();
            if run > 0 {
                out.extend_from_slice(&rest[..run]);
                column += run;
                rest = &rest[run..];
            } else {
                escape(&mut out, first, &mut column);
                rest = &rest[1..];
            }
            if column == 75 && !(rest.is_empty() && end.is_empty()) {
                out.extend_from_slice(b"=\r\n");
                column = 0;
            }
        }
        if let Some(&blank) = end.first() {
            escape(&mut out, blank, &mut column);
        }
    }
    out
}

fn escape(out: &mut Vec<u8>, byte: u8, column: &mut usize) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    if *column + 3 > 75 {
        out.extend_from_slice(b"=\r\n");
        *column = 0;
    }
    out.extend_from_slice(&[b'=', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    *column += 3;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(encoded: &[u8]) -> Vec<u8> {
        let text = std::str::from_utf8(encoded).unwrap().replace("=\r\n", "");
        let mut out = Vec::new();
        let mut bytes = text.bytes();
        while let Some(b) = bytes.next() {
            let mut digit = || bytes.next().and_then(|d| char::from(d).to_digit(16)).unwrap();
            out.push(if b == b'=' { u8::try_from(digit() * 16 + digit()).unwrap() } else { b });
        }
        out
    }

    #[test]
    fn line_ends_of_every_kind_become_crlf() {
        for (text, lines) in [
            ("a\nb\r\nc\rd", "a\r\nb\r\nc\r\nd"),
            ("\n\n", "\r\n\r\n"),
            ("\r\r\n\n\r", "\r\n\r\n\r\n\r\n"),
            ("", ""),
            ("a\n", "a\r\n"),
        ] {
            assert_eq!(crlf(text), lines, "{text:?}");
        }
    }

    #[test]
    fn the_shortest_encoding_is_taken() {
        assert_eq!(body("plain\n").encoding(), Encoding::SevenBit);
        assert_eq!(body("Grüße aus der Zentrale\n").encoding(), Encoding::QuotedPrintable);
        assert_eq!(body("お知らせ").encoding(), Encoding::Base64);
        assert_eq!(body("a\0b").encoding(), Encoding::QuotedPrintable);
        assert_eq!(body(&"x".repeat(1_000)).encoding(), Encoding::QuotedPrintable);
    }

    proptest! {
        #[test]
        fn quoted_printable_reads_back_and_keeps_its_lines_short(text in "([ -~]|[ \t=.]|\n|ü|[\u{0}-\u{1f}]|\u{1f600}){0,300}") {
            let text = crlf(&text);
            let encoded = quoted_printable(&text);
            prop_assert_eq!(decoded(&encoded), text.as_bytes());
            for line in std::str::from_utf8(&encoded).unwrap().split("\r\n") {
                prop_assert!(line.len() <= 76 && line.is_ascii() && !line.ends_with([' ', '\t']), "{:?}", line);
            }
        }
    }
}
