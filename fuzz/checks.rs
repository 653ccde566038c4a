//! What must hold whatever the bytes are: for the fuzzer, and in the normal run for seeds changed at random
//! (`tests/random/parsers.rs`).
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use allclear::cli::replay::reading;
use allclear::domain::incident::Phase;
use allclear::domain::time::Timestamp;
use allclear::flow::intake::{NoticeIn, SignalIn, read};
use allclear::mail::{About, Letter, Reply, build, classify, ruling};
use lettre::transport::smtp::response::Response;

/// A history file: read, or refused with a reason; never anything else.
pub fn history(file: &[u8]) {
    match reading::read(file) {
        Ok(histories) => {
            for incident in histories.iter().flat_map(|history| &history.incidents) {
                assert!(incident.updates.is_sorted_by_key(|update| update.arrives), "the updates come in order");
            }
        }
        Err(why) => assert!(!why.is_empty()),
    }
}

/// Whatever a relay sends: what is handed on are whole lines of bounded length, which lettre reads without a panic, and
/// every reply has a kind.
pub fn replies(sent: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let lines = runtime.block_on(allclear::mail::reply_lines(sent));
    let text = String::from_utf8(lines).expect("what is handed on is UTF-8");
    for line in text.split_inclusive("\r\n") {
        assert!(line.ends_with("\r\n") && line.len() <= 1_100, "a whole line: {line:?}");
        assert!(!line[..line.len() - 2].contains(char::is_control), "no control characters: {line:?}");
        if let Ok(response) = line.parse::<Response>() {
            let reply = Reply::new(response.code().into(), response.message().collect::<Vec<_>>().join(" "));
            if let Some(enhanced) = &reply.enhanced {
                assert!(reply.text.trim_start().starts_with(enhanced.as_str()));
            }
            let _ = classify(&reply);
            let _ = ruling(&reply);
        }
    }
}

const HEADERS: &str = "Message-ID Date From Reply-To To Subject In-Reply-To References Auto-Submitted \
    X-Auto-Response-Suppress Content-Language X-Allclear-Notice X-Allclear-Incident X-Allclear-Phase X-Allclear-Update \
    X-Allclear-Components Expires MIME-Version Content-Type";

/// Anything in the fields of a mail: refused, or a mail with exactly its own headers and no bare CR or LF.
pub fn headers(fields: &str) {
    let mut fields = fields.split('\u{1f}').map(str::to_owned);
    let mut next = |or: &str| fields.next().filter(|field| !field.is_empty()).unwrap_or_else(|| or.to_owned());
    let letter = Letter {
        subject: next("Trouble"),
        to: next("jo@customer.example"),
        from: next("Acme Status <status@acme.example>"),
        reply_to: Some(next("help@acme.example")),
        message_id: next("a@acme.example"),
        date: Timestamp(1_700_000_000_000_000),
        in_reply_to: Some(next("b@acme.example")),
        references: vec![next("b@acme.example"), next("c@acme.example")],
        language: next("en"),
        reference: next("ntc_1"),
        about: Some(About {
            incident: next("i1"),
            update: Some(next("u1")),
            phase: Phase::Monitoring,
            components: vec![next("mail"), next("api")],
        }),
        expires: Some(Timestamp(1_700_000_100_000_000)),
        text: next("All is well.\n"),
        html: next("<p>All is well.</p>\n"),
    };
    let Ok(mail) = build(&letter) else { return };
    let mail = String::from_utf8(mail).expect("a mail is UTF-8");
    let lines = mail.split("\r\n");
    assert!(lines.clone().all(|line| !line.contains(['\r', '\n']) && line.len() <= 998), "whole lines: {mail:?}");
    let (head, _) = mail.split_once("\r\n\r\n").expect("a head and a body");
    let names = head.split("\r\n").filter(|line| !line.starts_with([' ', '\t']));
    let names: Vec<_> = names.map(|line| line.split(':').next().unwrap_or_default()).collect();
    assert_eq!(names, HEADERS.split_whitespace().collect::<Vec<_>>(), "{mail:?}");
}

/// JSON from a source: refused with the field, or taken; what is taken is stored as JSON and must read back the same.
pub fn notices(body: &[u8]) {
    match read::<NoticeIn>(body) {
        Ok(notice) => {
            let stored = serde_json::to_vec(&notice).expect("a notice is JSON");
            assert_eq!(read::<NoticeIn>(&stored), Ok(notice.clone()), "it reads back the same");
            if let Err(faults) = notice.check() {
                assert!(!faults.is_empty() && faults.iter().all(|fault| !fault.field.is_empty()));
            }
        }
        Err(fault) => assert!(!fault.field.is_empty() && !fault.what.is_empty()),
    }
    match read::<SignalIn>(body) {
        Ok(signal) => drop(signal.check()),
        Err(fault) => assert!(!fault.field.is_empty() && !fault.what.is_empty()),
    }
}
