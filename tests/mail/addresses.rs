//! Addresses as they go out: what the door takes reaches the relay byte for byte, and nothing else with it.

use crate::*;
use allclear::domain::address::{AddressFault, parse_address};
use allclear::domain::time::Timestamp;
use allclear::mail::{Letter, build};

/// A mail to an address, through a real session; what came of it, and what the relay was told.
async fn go(session: &mut Session, to: &str) -> (Outcome, Vec<u8>) {
    let letter = Letter {
        message_id: "1@acme.example".into(),
        date: Timestamp::parse("2026-04-30T12:30:05Z").unwrap(),
        from: "Acme Status <status@acme.example>".into(),
        reply_to: None,
        to: to.into(),
        subject: "Mail is late".into(),
        in_reply_to: None,
        references: vec![],
        language: "en".into(),
        reference: "ntc_0123".into(),
        about: None,
        expires: None,
        text: "Hello,\n".into(),
        html: "<p>Hello</p>\n".into(),
    };
    let mail = build(&letter).unwrap();
    let outcome = match session.envelope(FROM, to).await {
        Ok(()) => session.data(&mail).await,
        Err(outcome) => outcome,
    };
    (outcome, mail)
}

/// Each address goes out as it is, or is refused for itself alone by a relay that cannot take it.
async fn all_go_out(addresses: &[String]) {
    for script in both().into_iter().flat_map(|script| [script.clone(), Script { utf8: false, ..script }]) {
        let utf8 = script.utf8;
        let sink = Sink::start(script).await.unwrap();
        let mut session = open(&sink).await;
        let mut taken = 0;
        for to in addresses {
            let (outcome, mail) = go(&mut session, to).await;
            if !to.is_ascii() && !utf8 {
                let Outcome::Refused(reply) = outcome else { panic!("{to}: {outcome:?}") };
                assert_eq!(reply.enhanced.as_deref(), Some("5.6.7"), "{to}");
                continue;
            }
            assert!(matches!(outcome, Outcome::Accepted(_)), "{to}: {outcome:?}");
            taken += 1;
            let mails = sink.mails();
            let got = mails.last().unwrap();
            assert_eq!((mails.len(), got.to.as_str(), &got.body), (taken, to.as_str(), &mail));
            let head = String::from_utf8(mail).unwrap().split("\r\n\r\n").next().unwrap().to_owned();
            let named: Vec<_> = head.lines().filter(|line| line.to_ascii_lowercase().starts_with("to:")).collect();
            assert_eq!(named, [format!("To: {to}")], "{to}");
            let lines = head.lines().filter(|line| !line.starts_with([' ', '\t'])).count();
            assert_eq!(lines, 11, "{to}: {head}");
        }
        assert!(taken > 0 && usable(&session) && sink.sessions() == 1);
        assert_eq!(sink.count(), taken as u64);
    }
}

#[tokio::test]
async fn what_is_taken_goes_out_byte_for_byte() {
    let long = format!("\"{}\"@{}.example.com", "a ".repeat(31), "b".repeat(60));
    let addresses = [
        "jo@example.com",
        "\"\"@example.com",
        "\"jo  doe\"@example.com",
        "\"a> SIZE=1\"@example.com",
        "\"a@example.com>,<b\"@example.com",
        "\"Bcc: b\\\"\\\\\"@example.com",
        "=?utf-8?q?x=0D=0ABcc=3A_evil?=@example.com",
        "实@例え.jp",
        "\"jö > é\"@exämple.org",
        "cafe\u{301}@example.com",
        long.as_str(),
    ];
    let stored: Vec<_> = addresses.iter().map(|text| parse_address(text).unwrap().as_str().to_owned()).collect();
    assert_eq!(stored[7], "实@xn--r8jz45g.jp");
    all_go_out(&stored).await;
}

/// The rule of the written policy by which an address is refused that SMTP would allow.
fn policy(address: &str) -> Option<&'static str> {
    let domain = address.rsplit('@').next().unwrap();
    let hidden =
        |c: char| c.is_control() || "\u{ad}\u{200b}\u{200c}\u{200d}\u{200e}\u{200f}\u{2060}\u{feff}".contains(c);
    let number = domain.rsplit('.').next().unwrap().bytes().all(|b| b.is_ascii_digit());
    match () {
        () if domain.ends_with(']') || number => Some("no IP addresses"),
        () if !domain.contains('.') => Some("a domain has a dot"),
        () if address.chars().any(hidden) => Some("nothing invisible"),
        () => None,
    }
}

#[tokio::test]
async fn the_collected_addresses_are_taken_or_refused_as_smtp_and_the_policy_say() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/addresses/addresses.jsonl");
    let Ok(lines) = std::fs::read_to_string(path) else {
        println!("the collected addresses are not here: ../shared/data/addresses/addresses.jsonl");
        return;
    };
    let (mut taken, mut by_policy, mut refused, mut unstated) = (Vec::new(), 0, 0, 0);
    for line in lines.lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let address = row["address"].as_str().unwrap();
        let read = parse_address(address);
        match (row["smtp"].as_str().unwrap(), &read, policy(address)) {
            ("yes", Ok(_), None) => {}
            ("yes", Err(AddressFault::Literal | AddressFault::DomainNoDot | AddressFault::Control), Some(_)) => {
                by_policy += 1
            }
            ("no", Err(_), _) => refused += 1,
            ("unstated", ..) => unstated += 1,
            (smtp, ..) => panic!("{address:?} ({}): smtp {smtp}, but {read:?}", row["note"]),
        }
        taken.extend(read.map(|address| address.as_str().to_owned()));
    }
    println!("{} taken, {by_policy} refused by policy alone, {refused} refused, {unstated} unstated", taken.len());
    assert!(taken.len() > 20 && refused > 20);
    all_go_out(&taken).await;
}
