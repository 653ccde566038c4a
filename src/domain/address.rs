//! Mail addresses as this product takes them, and nothing wider: what is taken goes out byte for byte.
//!
//! 1. One address alone, at most 254 octets: no display name, no comment, no second address, no route.
//! 2. The local part is a dot-atom or a quoted string of RFC 5321 4.1.2, outside ASCII as RFC 6531 adds to both,
//!    at most 64 octets. It is kept as given, since only the receiving side knows what its case and form mean.
//! 3. The domain has a dot. IP addresses are not taken, neither in brackets nor bare (a last label that is a
//!    number is one in some notation).
//! 4. A domain outside ASCII becomes A-labels (UTS 46, non-transitional); then, like every other, it must be letters,
//!    digits and inner hyphens. A label that the mapping would make plain ASCII (fullwidth letters) is not taken.
//! 5. Control characters (C1 too) and what shows nothing or turns the reading direction are refused everywhere,
//!    also where RFC 6531 would allow them: two addresses must not look the same.
//!
//! SMTPUTF8 is asked for only when the local part is outside ASCII; a relay without it cannot be given that mail.

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// An address that passed [`parse_address`]: the domain in lower case and A-labels, the local part untouched.
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
    /// A comment, or a character that may stand only in a quoted string.
    #[error("the part before the @ contains a character that is taken only between quotes")]
    LocalCharacter,
    /// A quoted string that does not close, or does not end before the `@`.
    #[error("the quotes before the @ are not closed, or more follows them than the @")]
    LocalQuotes,
    /// A dot at the start or the end, or two in a row, before the `@`.
    #[error("the part before the @ has a dot at its start or end, or two dots in a row")]
    LocalDots,
    /// `user@[192.0.2.1]`, `user@192.0.2.1` or `user@127.1`.
    #[error("an IP address is not taken as a domain")]
    Literal,
    /// A domain without a dot, such as `localhost`.
    #[error("the domain needs a dot, like example.com")]
    DomainNoDot,
    /// A dot at the start or the end, or two in a row, in the domain.
    #[error("the domain has a dot at its start or end, or two dots in a row")]
    DomainDots,
    /// A domain outside ASCII that is no international name.
    #[error("the domain is not a valid international name")]
    DomainInternational,
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
    // A domain outside ASCII may become shorter; nothing becomes this much shorter.
    if text.len() > 1_000 {
        return Err(AddressFault::TooLong);
    }
    if text.chars().any(invisible) {
        return Err(AddressFault::Control);
    }
    let (local, domain) = match text.strip_prefix('"') {
        Some(quoted) => split_quoted(text, quoted)?,
        None => {
            alone(text)?;
            text.split_once('@').ok_or(AddressFault::At)?
        }
    };
    alone(domain)?;
    if domain.contains('@') {
        return Err(AddressFault::At);
    }
    check_local(local)?;
    let domain = in_ascii(domain)?;
    check_domain(&domain)?;
    let text = format!("{local}@{domain}");
    if text.len() > 254 { Err(AddressFault::TooLong) } else { Ok(Address { text, at: local.len() }) }
}

fn alone(text: &str) -> Result<(), AddressFault> {
    let more = text.contains([' ', '<', '>', ',', ';']);
    if more { Err(AddressFault::NotAlone) } else { Ok(()) }
}

/// Parts a text that begins with a quote after the closing one. Every character that reaches here may stand
/// between quotes (qtextSMTP), or behind a backslash if it is ASCII (quoted-pairSMTP).
fn split_quoted<'a>(text: &'a str, quoted: &str) -> Result<(&'a str, &'a str), AddressFault> {
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        if c == '\\' && !chars.next().is_some_and(|(_, escaped)| escaped.is_ascii()) {
            return Err(AddressFault::LocalQuotes);
        }
        if c == '"' {
            let (local, rest) = text.split_at(at + 2);
            return match rest.strip_prefix('@') {
                Some(domain) => Ok((local, domain)),
                None => alone(rest).and(Err(AddressFault::LocalQuotes)),
            };
        }
    }
    Err(AddressFault::LocalQuotes)
}

fn check_local(local: &str) -> Result<(), AddressFault> {
    if local.is_empty() {
        return Err(AddressFault::LocalEmpty);
    }
    if local.len() > 64 {
        return Err(AddressFault::LocalTooLong);
    }
    if local.starts_with('"') {
        return Ok(());
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

/// The domain in lower case and A-labels. Only an ASCII dot parts labels, and a label outside ASCII stays one.
fn in_ascii(domain: &str) -> Result<Cow<'_, str>, AddressFault> {
    if domain.is_ascii() {
        return Ok(domain.to_ascii_lowercase().into());
    }
    let ascii = Uts46::new()
        .to_ascii(domain.as_bytes(), AsciiDenyList::EMPTY, Hyphens::CheckFirstLast, DnsLength::Ignore)
        .map_err(|_| AddressFault::DomainInternational)?;
    let same = domain.split('.').count() == ascii.split('.').count()
        && domain.split('.').zip(ascii.split('.')).all(|(given, made)| given.is_ascii() || made.starts_with("xn--"));
    if same { Ok(ascii) } else { Err(AddressFault::DomainInternational) }
}

fn check_domain(domain: &str) -> Result<(), AddressFault> {
    if domain.starts_with('[') || domain.parse::<std::net::IpAddr>().is_ok() {
        return Err(AddressFault::Literal);
    }
    let Some((_, last)) = domain.rsplit_once('.') else {
        return Err(AddressFault::DomainNoDot);
    };
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
    let hex = last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    if hex || last.bytes().all(|b| b.is_ascii_digit()) { Err(AddressFault::Literal) } else { Ok(()) }
}

/// Control characters, spaces of other scripts, and what shows nothing or turns the reading direction (Unicode's
/// Default_Ignorable_Code_Point, and the interlinear and replacement characters).
fn invisible(c: char) -> bool {
    c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffd}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
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
mod tests;
