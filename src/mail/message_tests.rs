//! The bytes of a mail, and that nothing in a letter becomes a header of its own.

use super::*;

pub(super) fn letter() -> Letter {
    Letter {
        message_id: "ntc1.sub1.1@mail.acme.example".into(),
        date: Timestamp::parse("2026-04-30T12:30:05.123Z").unwrap(),
        from: "Acme Status <status@acme.example>".into(),
        reply_to: Some("Acme Support <support@acme.example>".into()),
        to: "Jo@customer.example".into(),
        subject: "[Acme] Störung im Konto (INC-1)".into(),
        in_reply_to: Some("inc1@mail.acme.example".into()),
        references: vec!["inc1@mail.acme.example".into(), "ntc0.sub1.1@mail.acme.example".into()],
        language: "de".into(),
        reference: "ntc_0123".into(),
        about: Some(about()),
        expires: Some(Timestamp::parse("2026-05-01T02:03:04Z").unwrap()),
        text: "Hello,\nall is well.\n.\nBye\n".into(),
        html: "<p>Grüße</p>\n".into(),
    }
}

fn about() -> About {
    About {
        incident: "INC 1".into(),
        update: Some("u,1".into()),
        phase: crate::domain::incident::Phase::Monitoring,
        components: vec!["Störung, Mail".into(), "imap".into()],
    }
}

fn built(letter: &Letter) -> String {
    let text = String::from_utf8(build(letter).unwrap()).unwrap();
    assert_eq!(line_fault(&text), None, "{text}");
    text
}

/// The header lines, folded ones joined.
fn headers(mail: &str) -> Vec<String> {
    let (head, _) = mail.split_once("\r\n\r\n").unwrap();
    head.replace("\r\n ", " ").split("\r\n").map(str::to_owned).collect()
}

const NAMES: [&str; 19] = [
    "Message-ID",
    "Date",
    "From",
    "Reply-To",
    "To",
    "Subject",
    "In-Reply-To",
    "References",
    "Auto-Submitted",
    "X-Auto-Response-Suppress",
    "Content-Language",
    "X-Allclear-Notice",
    "X-Allclear-Incident",
    "X-Allclear-Phase",
    "X-Allclear-Update",
    "X-Allclear-Components",
    "Expires",
    "MIME-Version",
    "Content-Type",
];

fn names(mail: &str) -> Vec<String> {
    headers(mail).iter().map(|line| line.split(':').next().unwrap().to_owned()).collect()
}

#[test]
fn the_headers_are_these_and_no_others() {
    let mail = built(&letter());
    assert_eq!(names(&mail), NAMES);
    let headers = headers(&mail);
    for line in [
        "Message-ID: <ntc1.sub1.1@mail.acme.example>",
        "Date: Thu, 30 Apr 2026 12:30:05 +0000",
        "From: \"Acme Status\" <status@acme.example>",
        "To: Jo@customer.example",
        "In-Reply-To: <inc1@mail.acme.example>",
        "References: <inc1@mail.acme.example> <ntc0.sub1.1@mail.acme.example>",
        "Auto-Submitted: auto-generated",
        "X-Auto-Response-Suppress: OOF, AutoReply",
        "Content-Language: de",
        "X-Allclear-Notice: ntc_0123",
        "X-Allclear-Incident: INC 1",
        "X-Allclear-Phase: monitoring",
        "X-Allclear-Update: u%2C1",
        "X-Allclear-Components: St%C3%B6rung%2C Mail, imap",
        "Expires: Fri, 01 May 2026 02:03:04 +0000",
    ] {
        assert!(headers.iter().any(|h| h == line), "{line}\n{mail}");
    }
    assert!(mail.is_ascii());
    assert!(mail.contains("Hello,\r\nall is well.\r\n.\r\nBye\r\n"), "{mail}");
}

#[test]
fn the_same_letter_is_the_same_bytes_and_another_has_another_boundary() {
    assert_eq!(build(&letter()).unwrap(), build(&letter()).unwrap());
    let other = Letter { message_id: "other@mail.acme.example".into(), ..letter() };
    let boundary = |mail: &str| mail.split_once("boundary=\"").unwrap().1.split('"').next().unwrap().to_owned();
    assert_ne!(boundary(&built(&letter())), boundary(&built(&other)));
}

#[test]
fn what_is_not_given_has_no_header() {
    let bare = Letter { reply_to: None, in_reply_to: None, references: vec![], about: None, expires: None, ..letter() };
    let gone = ["Reply-To", "In-Reply-To", "References", "Expires"];
    let expected: Vec<_> = NAMES
        .iter()
        .filter(|n| !gone.contains(n) && (!n.starts_with("X-Allclear-") || n.ends_with("Notice")))
        .copied()
        .collect();
    assert_eq!(names(&built(&bare)), expected);
}

#[test]
fn what_a_configuration_takes_for_a_sender_can_be_built() {
    let all = (0x20..0x17f).filter_map(char::from_u32).filter(|c| !c.is_control());
    let odd =
        all.flat_map(|c| [format!("A{c}b <status@acme.example>"), format!("a{c}b@acme.example"), format!("a@a{c}b")]);
    let taken: Vec<_> = odd.filter_map(|text| text.parse::<crate::config::Mailbox>().ok()).collect();
    assert!(taken.len() > 300, "{}", taken.len());
    for from in taken {
        let from = from.to_string();
        assert!(build(&Letter { from: from.clone(), reply_to: Some(from.clone()), ..letter() }).is_ok(), "{from}");
    }
}

#[test]
fn no_hostile_subject_or_body_adds_a_header() {
    for hostile in [
        "x\r\nBcc: evil@example.com",
        "x\nBcc: evil@example.com",
        "x\rBcc: evil@example.com",
        "x\r\n\r\n<script>",
        "x\0y\u{1b}[2J\u{7f}\u{85}\u{b}",
        "x\u{2028}Bcc: e",
        "=?utf-8?q?x=0D=0ABcc:_evil?=",
        &"w".repeat(5_000),
        &"ü".repeat(5_000),
        "",
        " ",
    ] {
        let subject = Letter { subject: hostile.to_owned(), ..letter() };
        let mail = built(&subject);
        assert_eq!(names(&mail), NAMES, "{hostile:?}");
        assert!(!headers(&mail).iter().any(|h| h.bytes().any(|b| b < 32 && b != b'\t')), "{hostile:?}");
        let key = hostile.to_owned();
        let about = About { incident: key.clone(), update: Some(key.clone()), components: vec![key; 9], ..about() };
        let mail = built(&Letter { about: Some(about), ..letter() });
        assert_eq!(names(&mail), NAMES, "{hostile:?}");
        assert!(!headers(&mail).iter().any(|h| h.bytes().any(|b| b < 32 && b != b'\t')), "{hostile:?}");
        let body = Letter { text: hostile.to_owned(), html: hostile.repeat(3), ..letter() };
        assert_eq!(names(&built(&body)), NAMES, "{hostile:?}");
    }
}

#[test]
fn what_looks_like_an_encoded_word_is_read_as_it_was_written() {
    let hostile = "x =?utf-8?q?RE:_invoice_=E2=80=AEfdp.exe?= é".repeat(5);
    let mail = built(&Letter { subject: hostile.clone(), ..letter() });
    let value = mail.split_once("\r\nSubject: ").unwrap().1.split_once("\r\nIn-Reply-To").unwrap().0;
    let mut read = String::new();
    for line in value.split("\r\n ") {
        assert!("Subject: ".len() + line.len() <= 76, "{line}");
        let mut pieces = line.strip_prefix("=?utf-8?q?").unwrap().strip_suffix("?=").unwrap().split('=');
        let mut octets = pieces.next().unwrap().as_bytes().to_vec();
        for piece in pieces {
            octets.push(u8::from_str_radix(&piece[..2], 16).unwrap());
            octets.extend_from_slice(&piece.as_bytes()[2..]);
        }
        read.push_str(std::str::from_utf8(&octets).unwrap());
    }
    assert_eq!(read, hostile);
}

#[test]
fn hostile_ids_addresses_and_languages_are_refused() {
    for hostile in ["x\r\nBcc: evil@example.com", "a b", "a>b", "a\0", "ä@b.c", "", "\t"] {
        let text = hostile.to_owned();
        let letters = [
            Letter { message_id: text.clone(), ..letter() },
            Letter { in_reply_to: Some(text.clone()), ..letter() },
            Letter { references: vec![text.clone()], ..letter() },
            Letter { language: text.clone(), ..letter() },
            Letter { reference: text.clone(), ..letter() },
        ];
        for letter in letters {
            assert!(matches!(build(&letter), Err(BuildError::Token { .. })), "{hostile:?}");
        }
    }
    for hostile in
        ["Acme <a@b.example>\r\nBcc: e@example.com", "Ac\nme <a@b.example>", "nobody", "a@b.example, c@d.example"]
    {
        assert!(matches!(
            build(&Letter { from: hostile.into(), ..letter() }),
            Err(BuildError::Mailbox { field: "From", .. })
        ));
        assert!(build(&Letter { reply_to: Some(hostile.into()), ..letter() }).is_err(), "{hostile:?}");
        assert!(matches!(build(&Letter { to: hostile.into(), ..letter() }), Err(BuildError::Recipient(_))));
    }
}

#[test]
fn a_long_thread_and_long_lines_stay_within_line_length() {
    let long = Letter {
        references: (0..60).map(|n| format!("ntc{n}.sub1.1@mail.acme.example")).collect(),
        text: format!("{}\n", "word ".repeat(1_000)),
        html: format!("<p>{}</p>", "x".repeat(20_000)),
        ..letter()
    };
    assert_eq!(names(&built(&long)), NAMES);
}

#[test]
fn text_outside_ascii_is_encoded_whatever_the_script() {
    for text in ["Grüße\n", "お知らせ\n".repeat(200).as_str(), "a\0b\n", "tail\r", "\n\n\r\r\n"] {
        let mail = built(&Letter { text: text.to_owned(), ..letter() });
        assert!(mail.is_ascii());
    }
}

#[test]
fn a_line_may_have_998_octets_wherever_it_stands() {
    for before in ["", "x\r\n", &"y".repeat(900), &format!("{}\r\n", "z".repeat(998))] {
        let start = before.rsplit('\n').next().unwrap_or_default().len();
        for (octets, end, fits) in [(998, "\r\n", true), (999, "\r\n", false), (998, "", true), (999, "", false)] {
            let text = format!("{before}{}{end}", "a".repeat(octets - start));
            assert_eq!(line_fault(&text).is_none(), fits, "{octets} {end:?} {start}");
            let more = format!("{text}\r\nb\r\n");
            assert_eq!(line_fault(&more).is_none(), fits, "{octets} {end:?} {start}, with more");
        }
    }
}
