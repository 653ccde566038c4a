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
        let (name, address) = match text.strip_suffix('>').and_then(|rest| rest.rsplit_once('<')) {
            Some((name, address)) => (name.trim().trim_matches('"').trim(), address.trim()),
            None => ("", text),
        };
        let fits =
            |part: &str| !part.is_empty() && !part.contains(|c: char| c.is_whitespace() || "<>@,;\"".contains(c));
        match address.split_once('@') {
            Some((local, domain)) if fits(local) && fits(domain) => {
                let name = (!name.is_empty()).then(|| name.to_owned());
                Ok(Self { name, address: in_ascii(local, address)? })
            }
            _ => Err(format!("`{text}` holds no mail address")),
        }
    }
}

/// A sender outside ASCII would need SMTPUTF8 of the relay and of every server behind it, whoever the recipient is.
fn in_ascii(local: &str, address: &str) -> Result<String, String> {
    if address.is_ascii() {
        return Ok(address.to_owned());
    }
    if !local.is_ascii() {
        return Err(format!("`{local}` before the @ is not plain ASCII, and most mail servers refuse such a sender"));
    }
    parse_address(address).map(|address| address.as_str().to_owned()).map_err(|fault| format!("`{address}`: {fault}"))
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
