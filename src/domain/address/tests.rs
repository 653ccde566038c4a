//! Which addresses are taken, and why others are not.

use super::*;

#[test]
fn an_address_keeps_its_local_part_and_lowers_its_domain() {
    let address = parse_address("Jo.O'Neil+x@Mail.EXAMPLE.com").unwrap();
    assert_eq!(address.as_str(), "Jo.O'Neil+x@mail.example.com");
    assert_eq!((address.local(), address.domain()), ("Jo.O'Neil+x", "mail.example.com"));
    assert_eq!(parse_address(address.as_str()).unwrap(), address);
}

#[test]
fn a_local_part_outside_ascii_or_in_quotes_is_kept_as_it_is() {
    for local in
        ["用户", "cafe\u{301}", "\"\"", r#""a b""#, r#""a@b""#, r#""a..<b>,;""#, r#""\"\ ""#, "\"é\"", "\u{ffff}"]
    {
        let address = parse_address(&format!("{local}@Example.com")).unwrap();
        assert_eq!((address.local(), address.domain()), (local, "example.com"));
    }
}

#[test]
fn a_domain_outside_ascii_becomes_a_labels() {
    for (domain, ascii) in [
        ("exämple.org", "xn--exmple-cua.org"),
        ("EXÄMPLE.Org", "xn--exmple-cua.org"),
        ("exa\u{308}mple.org", "xn--exmple-cua.org"),
        ("straße.de", "xn--strae-oqa.de"),
        ("실례.테스트", "xn--9n2bp8q.xn--9t4b11yi5a"),
        ("a.xn--fsq.例え", "a.xn--fsq.xn--r8jz45g"),
    ] {
        let address = parse_address(&format!("a@{domain}")).unwrap();
        assert_eq!(address.domain(), ascii);
        assert_eq!(parse_address(address.as_str()).unwrap(), address);
    }
}

#[test]
fn each_broken_rule_is_named() {
    use AddressFault as F;
    let long_local = format!("{}@example.com", "a".repeat(65));
    let long = format!("a@{}com", "b.".repeat(140));
    let label = format!("a@{}.com", "b".repeat(64));
    for (text, fault) in [
        ("", F::Empty),
        (long.as_str(), F::TooLong),
        ("a@example.com\r\nBcc: b@example.com", F::Control),
        ("a\u{202e}@example.com", F::Control),
        ("a\0@example.com", F::Control),
        ("Jo <jo@example.com>", F::NotAlone),
        ("a@example.com,b@example.com", F::NotAlone),
        ("a b@example.com", F::NotAlone),
        ("example.com", F::At),
        ("a@b@example.com", F::At),
        ("@example.com", F::LocalEmpty),
        (long_local.as_str(), F::LocalTooLong),
        ("a\u{2003}b@example.com", F::Control),
        ("\"a\u{85}\"@example.com", F::Control),
        ("\"a\u{e0001}\"@example.com", F::Control),
        ("\"Jo\" <jo@example.com>", F::NotAlone),
        ("\"a@example.com", F::LocalQuotes),
        ("\"\"\"@example.com", F::LocalQuotes),
        ("\"a\\\"@example.com", F::LocalQuotes),
        ("\"a\\é\"@example.com", F::LocalQuotes),
        ("\"a\".b@example.com", F::LocalQuotes),
        ("\"a\"@b@example.com", F::At),
        ("\"a\"@example.com, b@example.com", F::NotAlone),
        ("a\"b\"@example.com", F::LocalCharacter),
        ("a(comment)@example.com", F::LocalCharacter),
        (".a@example.com", F::LocalDots),
        ("a.@example.com", F::LocalDots),
        ("a..b@example.com", F::LocalDots),
        ("a@[127.0.0.1]", F::Literal),
        ("a@127.0.0.1", F::Literal),
        ("a@localhost", F::DomainNoDot),
        ("a@", F::DomainNoDot),
        ("a@example..com", F::DomainDots),
        ("a@example.com.", F::DomainDots),
        ("a@127.1", F::Literal),
        ("a@0x7f.0x1", F::Literal),
        ("a@１２７.０.０.１", F::DomainInternational),
        ("a@ｅｘａｍｐｌｅ.org", F::DomainInternational),
        ("a@exämple。org", F::DomainInternational),
        ("a＠example.org", F::At),
        ("a@ä＠example.org", F::DomainCharacter),
        ("a@ex_ämple.org", F::DomainCharacter),
        ("a@-ä.org", F::DomainInternational),
        ("a@\u{301}ä.org", F::DomainInternational),
        ("a@ä", F::DomainNoDot),
        ("a@ex_ample.org", F::DomainCharacter),
        ("a@-example.org", F::DomainCharacter),
        (label.as_str(), F::DomainLabelTooLong),
    ] {
        assert_eq!(parse_address(text).unwrap_err(), fault, "{text:?}");
    }
}
