//! Mail addresses as this product takes them: one `local@domain`, narrower than RFC 5322.
//!
//! What the grammar allows beyond that (display names, comments, quoted local parts, address literals)
//! is how addresses smuggle second recipients and header lines, and no subscriber has such an address.

use std::fmt;
use std::str::FromStr;

/// An address that passed [`parse_address`]: the domain in lower case, the local part untouched.
///
/// The local part keeps its case because only the receiving side knows whether the case means something.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    text: String,
    at: usize,
}

/// Why a text is not an address we send to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressFault {
    /// Nothing was given.
    #[error("the address is empty")]
    Empty,
    /// More than 254 octets (RFC 5321 4.5.3.1.3, less the angle brackets).
    #[error("the address is longer than 254 octets")]
    TooLong,
    /// A control character, or an invisible or direction-changing one.
    #[error("the address contains a control or invisible character")]
    Control,
    /// A space, or angle brackets: a display name or two addresses.
    #[error("give the address alone, like name@example.com, without a name, spaces, commas or angle brackets")]
    NotAlone,
    /// No `@`, or more than one.
    #[error("the address needs exactly one @")]
    At,
    /// The part before the `@` is empty.
    #[error("there is nothing before the @")]
    LocalEmpty,
    /// More than 64 octets before the `@`.
    #[error("the part before the @ is longer than 64 octets")]
    LocalTooLong,
    /// Quotes, comments or other characters outside a dot-atom.
    #[error("the part before the @ contains a character that is not taken (quotes and comments are not)")]
    LocalCharacter,
    /// A dot at the start or the end, or two in a row, before the `@`.
    #[error("the part before the @ has a dot at its start or end, or two dots in a row")]
    LocalDots,
    /// `user@[192.0.2.1]`.
    #[error("an IP address is not taken as a domain")]
    Literal,
    /// A domain without a dot, such as `localhost`.
    #[error("the domain needs a dot, like example.com")]
    DomainNoDot,
    /// A dot at the start or the end, or two in a row, in the domain.
    #[error("the domain has a dot at its start or end, or two dots in a row")]
    DomainDots,
    /// A domain outside ASCII.
    #[error("give an international domain in its ASCII form (xn--...)")]
    DomainNotAscii,
    /// A character that no domain name has, or a label with a hyphen at its edge.
    #[error("the domain contains a character or a hyphen where none is allowed")]
    DomainCharacter,
    /// A label of more than 63 octets (RFC 1035).
    #[error("a part of the domain is longer than 63 octets")]
    DomainLabelTooLong,
}

impl Address {
    /// The whole address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What stands before the `@`.
    #[must_use]
    pub fn local(&self) -> &str {
        &self.text[..self.at]
    }

    /// What stands after the `@`: lower case, A-labels.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.text[self.at + 1..]
    }
}

/// Reads one address by this product's rules.
///
/// # Errors
/// When the text breaks a rule; the fault names the first one it breaks.
pub fn parse_address(text: &str) -> Result<Address, AddressFault> {
    if text.is_empty() {
        return Err(AddressFault::Empty);
    }
    if text.len() > 254 {
        return Err(AddressFault::TooLong);
    }
    if text.chars().any(|c| c.is_control() || invisible(c)) {
        return Err(AddressFault::Control);
    }
    if text.chars().any(|c| c.is_whitespace() || matches!(c, '<' | '>' | ',' | ';')) {
        return Err(AddressFault::NotAlone);
    }
    let (local, domain) = text.split_once('@').ok_or(AddressFault::At)?;
    if local.contains('"') {
        // Checked before the second `@`: inside quotes an `@` is legal, and the reason would mislead.
        return Err(AddressFault::LocalCharacter);
    }
    if domain.contains('@') {
        return Err(AddressFault::At);
    }
    check_local(local)?;
    check_domain(domain)?;
    Ok(Address { text: format!("{local}@{}", domain.to_ascii_lowercase()), at: local.len() })
}

fn check_local(local: &str) -> Result<(), AddressFault> {
    if local.is_empty() {
        return Err(AddressFault::LocalEmpty);
    }
    if local.len() > 64 {
        return Err(AddressFault::LocalTooLong);
    }
    // RFC 5322 atext, and RFC 6531's addition of everything outside ASCII.
    let taken = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    if !local.chars().all(taken) {
        return Err(AddressFault::LocalCharacter);
    }
    if local.split('.').any(str::is_empty) {
        return Err(AddressFault::LocalDots);
    }
    Ok(())
}

fn check_domain(domain: &str) -> Result<(), AddressFault> {
    if domain.starts_with('[') || domain.parse::<std::net::IpAddr>().is_ok() {
        return Err(AddressFault::Literal);
    }
    if !domain.is_ascii() {
        return Err(AddressFault::DomainNotAscii);
    }
    if !domain.contains('.') {
        return Err(AddressFault::DomainNoDot);
    }
    for label in domain.split('.') {
        if label.is_empty() {
            return Err(AddressFault::DomainDots);
        }
        if label.len() > 63 {
            return Err(AddressFault::DomainLabelTooLong);
        }
        let plain = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !plain || label.starts_with('-') || label.ends_with('-') {
            return Err(AddressFault::DomainCharacter);
        }
    }
    Ok(())
}

/// Characters that show nothing or turn the reading direction: two addresses would look the same.
const fn invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffd}')
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Address {
    type Err = AddressFault;

    fn from_str(text: &str) -> Result<Self, AddressFault> {
        parse_address(text)
    }
}

impl serde::Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.text)
    }
}

impl<'de> serde::Deserialize<'de> for Address {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        parse_address(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_its_local_part_and_lowers_its_domain() {
        let address = parse_address("Jo.O'Neil+x@Mail.EXAMPLE.com").unwrap();
        assert_eq!(address.as_str(), "Jo.O'Neil+x@mail.example.com");
        assert_eq!((address.local(), address.domain()), ("Jo.O'Neil+x", "mail.example.com"));
        assert_eq!(parse_address(address.as_str()).unwrap(), address);
    }

    #[test]
    fn a_local_part_outside_ascii_is_taken() {
        assert_eq!(parse_address("用户@xn--fsq.example").unwrap().local(), "用户");
    }

    #[test]
    fn each_broken_rule_is_named() {
        use AddressFault as F;
        let long_local = format!("{}@example.com", "a".repeat(65));
        let long = format!("a@{}.com", "b.".repeat(140));
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
            ("\"a@b\"@example.com", F::LocalCharacter),
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
            ("a@exämple.org", F::DomainNotAscii),
            ("a@ex_ample.org", F::DomainCharacter),
            ("a@-example.org", F::DomainCharacter),
            (label.as_str(), F::DomainLabelTooLong),
        ] {
            assert_eq!(parse_address(text).unwrap_err(), fault, "{text:?}");
        }
    }
}
