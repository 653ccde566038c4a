//! Sender addresses as they stand in the configuration.

use crate::domain::address::parse_address;
use std::fmt;
use std::str::FromStr;

/// A mail address with or without a name: `Acme Status <status@acme.example>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mailbox {
    /// The name shown before the address.
    pub name: Option<String>,
    /// The address itself, in ASCII: the domain in A-labels.
    pub address: String,
}

impl Mailbox {
    /// The longest that a header takes, in octets: the name in quotes, the address in brackets.
    pub const LONGEST: usize = 500;

    /// A mailbox that can stand in a header; an empty name is none.
    ///
    /// # Errors
    /// When the address cannot be written from, or both together are too long; says so in a sentence.
    pub fn new(name: &str, address: &str) -> Result<Self, String> {
        let mailbox = Self { name: (!name.is_empty()).then(|| name.to_owned()), address: in_ascii(address)? };
        match mailbox.to_string().len() {
            ..=Self::LONGEST => Ok(mailbox),
            octets => Err(format!("has {octets} octets with its address, and a header takes {}", Self::LONGEST)),
        }
    }

    /// The part of the address after the `@`.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.address.rsplit_once('@').map_or("", |(_, domain)| domain)
    }
}

impl FromStr for Mailbox {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.chars().any(char::is_control) {
            return Err("holds a control character".to_owned());
        }
        let text = text.trim();
        match text.strip_suffix('>').and_then(|rest| rest.rsplit_once('<')) {
            Some((name, address)) => {
                let name = name.trim();
                Self::new(unquoted(name).as_deref().unwrap_or(name).trim(), address.trim())
            }
            None => Self::new("", text),
        }
    }
}

/// What a quoted string (RFC 5322 3.2.4) says; nothing when the text is none.
fn unquoted(text: &str) -> Option<String> {
    let mut chars = text.strip_prefix('"')?.strip_suffix('"')?.chars();
    let mut said = String::new();
    while let Some(c) = chars.next() {
        said.push(match c {
            '"' => return None,
            '\\' => chars.next()?,
            c => c,
        });
    }
    Some(said)
}

/// A sender outside ASCII would need SMTPUTF8 of the relay and of every server behind it, whoever the recipient is.
fn in_ascii(address: &str) -> Result<String, String> {
    let (local, domain) = address.split_once('@').ok_or_else(|| format!("`{address}` holds no mail address"))?;
    if !local.is_ascii() {
        return Err(format!("`{local}` before the @ is not plain ASCII, and most mail servers refuse such a sender"));
    }
    if local.contains('"') {
        return Err(format!("`{local}` before the @ is in quotes, and many mail servers refuse such a sender"));
    }
    // A machine may send under its bare name.
    let is_bare = domain.is_ascii() && !domain.contains('.');
    let full = if is_bare { format!("{address}.example") } else { address.to_owned() };
    let parsed = parse_address(&full).map_err(|fault| format!("`{address}`: {fault}"))?;
    Ok(if address.is_ascii() { address.to_owned() } else { parsed.as_str().to_owned() })
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            None => f.write_str(&self.address),
            Some(name) => {
                let quoted = name.replace('\\', "\\\\").replace('"', "\\\"");
                write!(f, "\"{quoted}\" <{}>", self.address)
            }
        }
    }
}
