//! What arrived, as a table that can be laid beside an incident's own timeline: one line a mail, with the time on
//! the incident's clock, the reader, and what the mail says first.

use crate::support::{Got, World, t};
use allclear::domain::time::{Span, Timestamp};
use jiff::tz::TimeZone;

/// Lets time pass minute by minute up to a time, and stops when the clock shows it: what is said next is heard
/// before the worker runs again.
pub async fn until(w: &mut World, at: &str) {
    let at = t(at);
    while w.now() + Span::minutes(1) < at {
        w.move_to(w.now() + Span::minutes(1)).await;
    }
    w.clock.set(at);
}

/// Asserts what arrived, all of it, in the zone of the incident. Spaces in `expected` only make columns.
#[track_caller]
pub fn assert_table(mails: &[Got], zone: &str, expected: &str) {
    let zone = TimeZone::get(zone).unwrap();
    let mut came: Vec<_> = mails.iter().map(|got| (got.at, name(got), what(got))).collect();
    came.sort();
    let came: Vec<_> = came.iter().map(|(at, to, what)| format!("{} {to} {what}", clock(*at, &zone))).collect();
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let expected: Vec<_> = expected.lines().map(words).filter(|line| !line.is_empty()).collect();
    let extra: Vec<_> = came.iter().filter(|line| !expected.contains(line)).collect();
    let missing: Vec<_> = expected.iter().filter(|line| !came.contains(line)).collect();
    assert_eq!(came, expected, "came, not expected: {extra:#?}\nexpected, did not come: {missing:#?}");
}

fn clock(at: Timestamp, zone: &TimeZone) -> String {
    at.in_zone(zone).strftime("%a %-d %b %H:%M").to_string()
}

fn name(got: &Got) -> String {
    got.to.split('@').next().unwrap_or_default().to_owned()
}

/// The mail in one line: for connections what is asked and about which, else its first sentence.
pub fn what(got: &Got) -> String {
    let text = plain(got);
    let lead = text.split("\n\n").next().unwrap_or_default().replace('\n', " ");
    let (first, still) = text.split_once("Not back yet:").unwrap_or((&text, ""));
    if lead.starts_with("Action needed") {
        let (connections, _) = first.split_once("What to do:").unwrap();
        let again = if lead.contains("after all") { " after all" } else { "" };
        return format!("please reconnect{again}: {}", listed(connections));
    }
    if lead.starts_with("No action needed") {
        let still = if still.is_empty() { String::new() } else { format!("; still: {}", listed(still)) };
        return format!("no action needed: {}{still}", listed(first));
    }
    lead
}

fn listed(text: &str) -> String {
    let names = text.lines().filter_map(|line| line.strip_prefix("- ")).map(|line| line.split(',').next().unwrap());
    names.collect::<Vec<_>>().join(", ")
}

/// The text part, decoded.
pub fn plain(got: &Got) -> String {
    let part = got.raw.split("text/plain").nth(1).unwrap();
    let (head, body) = part.split_once("\r\n\r\n").unwrap();
    let body = body.split("\r\n--").next().unwrap();
    let body = if head.contains("quoted-printable") { unquoted(body) } else { body.to_owned() };
    body.replace("\r\n", "\n")
}

fn unquoted(text: &str) -> String {
    let text = text.replace("=\r\n", "");
    let mut pieces = text.split('=');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        bytes.push(u8::from_str_radix(&piece[..2], 16).unwrap());
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    String::from_utf8(bytes).unwrap()
}
