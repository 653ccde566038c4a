//! A mail's headers and parts. The same [`Letter`] is the same bytes, on every machine and every try:
//! a repeat after a crash must be recognisable as one (same Message-ID, Date and boundary).

use super::about::{About, encoded, listed};
use crate::domain::address::{AddressFault, parse_address};
use crate::domain::hex::hex;
use crate::domain::time::Timestamp;
use lettre::address::Envelope;
use lettre::message::header::{ContentType, Date, Header, HeaderName, HeaderValue, InReplyTo, MessageId, References};
use lettre::message::{Mailbox, Message, MultiPart, SinglePart};
use sha2::{Digest, Sha256};
use std::time::{Duration, UNIX_EPOCH};

/// The longest subject in characters; mail readers show about 60.
const SUBJECT: usize = 400;

/// Everything a mail is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The Message-ID without its angle brackets; fixed when the mail is first claimed.
    pub message_id: String,
    /// The Date header; fixed with it.
    pub date: Timestamp,
    /// The sender, with or without a name: `Acme Status <status@acme.example>`.
    pub from: String,
    /// Where answers go, in the same form.
    pub reply_to: Option<String>,
    /// The recipient's bare address.
    pub to: String,
    /// The subject; control characters in it become spaces.
    pub subject: String,
    /// The Message-ID this mail answers, without angle brackets.
    pub in_reply_to: Option<String>,
    /// The Message-IDs of its thread, oldest first, without angle brackets.
    pub references: Vec<String>,
    /// The language of the text, such as `en` or `pt-BR`.
    pub language: String,
    /// The opaque id support searches by (`X-Allclear-Notice`).
    pub reference: String,
    /// The incident it tells of, when it tells of one.
    pub about: Option<About>,
    /// When the mail loses its value (RFC 10080).
    pub expires: Option<Timestamp>,
    /// The text part.
    pub text: String,
    /// The HTML part.
    pub html: String,
}

/// A letter that no mail can be made of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// From or Reply-To is not one mailbox.
    #[error("{field} is not a mailbox like `Acme Status <status@acme.example>`: {text:?}")]
    Mailbox {
        /// The header.
        field: &'static str,
        /// What was given.
        text: String,
    },
    /// The recipient is not an address we send to.
    #[error("the recipient cannot be written to: {0}")]
    Recipient(#[from] AddressFault),
    /// An id, a language or a reference has a character that could end its header or its brackets.
    #[error("{field} has a character outside printable ASCII, a space or an angle bracket, or is too long: {text:?}")]
    Token {
        /// The header.
        field: &'static str,
        /// What was given.
        text: String,
    },
    /// lettre refused the whole.
    #[error("the mail cannot be put together: {0}")]
    Assembly(String),
}

macro_rules! headers {
    ($($type:ident = $name:literal),+ $(,)?) => {$(
        /// A header whose value was checked before: names come from this table only, since lettre takes
        /// CR LF in a name.
        #[derive(Clone)]
        struct $type(String);

        impl Header for $type {
            fn name() -> HeaderName {
                const { HeaderName::new_from_ascii_str($name) }
            }

            fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
                Ok(Self(text.to_owned()))
            }

            fn display(&self) -> HeaderValue {
                match self.0.contains("=?") {
                    // lettre leaves what looks like an encoded word as it is, and readers would decode it.
                    true => HeaderValue::dangerous_new_pre_encoded(Self::name(), self.0.clone(), encoded_words(&self.0)),
                    false => HeaderValue::new(Self::name(), self.0.clone()),
                }
            }
        }
    )+};
}

headers!(
    Subject = "Subject",
    AutoSubmitted = "Auto-Submitted",
    AutoResponseSuppress = "X-Auto-Response-Suppress",
    ContentLanguage = "Content-Language",
    Notice = "X-Allclear-Notice",
    Incident = "X-Allclear-Incident",
    Update = "X-Allclear-Update",
    InPhase = "X-Allclear-Phase",
    Components = "X-Allclear-Components",
    Expires = "Expires",
);

/// The recipient as it is: lettre would encode or fold a quoted or international local part. [`parse_address`] lets
/// nothing through that could end the line.
#[derive(Clone)]
struct To(String);

impl Header for To {
    fn name() -> HeaderName {
        const { HeaderName::new_from_ascii_str("To") }
    }

    fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self(text.to_owned()))
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::dangerous_new_pre_encoded(Self::name(), self.0.clone(), self.0.clone())
    }
}

/// Encoded words (RFC 2047) of whole characters, each on a line of at most 76 octets with the name of a subject.
fn encoded_words(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for c in text.chars() {
        let piece = match c.is_ascii_alphanumeric() {
            true => c.to_string(),
            false => c.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!("={byte:02X}")).collect(),
        };
        match words.last_mut() {
            Some(word) if word.len() + piece.len() <= 55 => word.push_str(&piece),
            _ => words.push(piece),
        }
    }
    words.iter().map(|word| format!("=?utf-8?q?{word}?=")).collect::<Vec<_>>().join("\r\n ")
}

/// Makes the mail's bytes: CRLF line ends, no line over 998 octets, ASCII but for an address that is not.
///
/// # Errors
/// When a field could not stand in its header; control characters never reach one.
pub fn build(letter: &Letter) -> Result<Vec<u8>, BuildError> {
    let from = mailbox("From", &letter.from)?;
    let to = parse_address(&letter.to)?;
    // Given, so that lettre does not read it back out of the headers; the session has its own, and this one is not sent.
    let envelope = Envelope::new(None, vec![from.email.clone()]).map_err(|e| BuildError::Assembly(e.to_string()))?;
    let mut builder = Message::builder()
        .header(MessageId::from(bracketed("Message-ID", &letter.message_id)?))
        .header(date(letter.date))
        .header(lettre::message::header::From::from(lettre::message::Mailboxes::from(from)));
    if let Some(reply_to) = &letter.reply_to {
        builder = builder.reply_to(mailbox("Reply-To", reply_to)?);
    }
    builder = builder.header(To(to.as_str().to_owned())).header(Subject(one_line(&letter.subject)));
    if let Some(id) = &letter.in_reply_to {
        builder = builder.header(InReplyTo::from(bracketed("In-Reply-To", id)?));
    }
    if !letter.references.is_empty() {
        let ids = letter.references.iter().map(|id| bracketed("References", id)).collect::<Result<Vec<_>, _>>()?;
        builder = builder.header(References::from(ids.join(" ")));
    }
    builder = builder
        .header(AutoSubmitted("auto-generated".to_owned()))
        // Not `All`, which would silence delivery reports too.
        .header(AutoResponseSuppress("OOF, AutoReply".to_owned()))
        .header(ContentLanguage(token("Content-Language", &letter.language)?.to_owned()))
        .header(Notice(token("X-Allclear-Notice", &letter.reference)?.to_owned()));
    if let Some(about) = &letter.about {
        builder = builder.header(Incident(encoded(&about.incident))).header(InPhase(about.phase.to_string()));
        if let Some(update) = &about.update {
            builder = builder.header(Update(encoded(update)));
        }
        if !about.components.is_empty() {
            builder = builder.header(Components(listed(&about.components)));
        }
    }
    if let Some(expires) = letter.expires {
        builder = builder.header(Expires(rfc5322(expires)));
    }
    let parts = MultiPart::alternative()
        .boundary(boundary(&letter.message_id))
        .singlepart(part(ContentType::TEXT_PLAIN, &letter.text))
        .singlepart(part(ContentType::TEXT_HTML, &letter.html));
    let message = builder.envelope(envelope).multipart(parts).map_err(|e| BuildError::Assembly(e.to_string()))?;
    Ok(message.formatted())
}

/// What keeps a text from going on the wire as lines: a bare CR or LF, a line of more than 998 octets (RFC 5322 2.1.1).
pub(super) fn line_fault(text: &str) -> Option<&'static str> {
    let bytes = text.as_bytes();
    // Without an early end, so that it runs over many octets at a time.
    let ends = (bytes.first() == Some(&b'\n'), bytes.last() == Some(&b'\r'));
    let (lf, cr) = bytes
        .iter()
        .zip(bytes.iter().skip(1))
        .fold(ends, |(lf, cr), (a, b)| (lf | ((*b == b'\n') & (*a != b'\r')), cr | ((*a == b'\r') & (*b != b'\n'))));
    match (lf, cr) {
        (true, _) => Some("the mail has a bare LF"),
        (_, true) => Some("the mail has a bare CR"),
        _ => has_line_over(998, bytes).then_some("the mail has a line of more than 998 octets"),
    }
}

/// Whether a line is longer than so many octets, its CRLF not counted. From where a line must have ended it looks back for
/// the LF: most octets are never seen.
pub(super) fn has_line_over(most: usize, text: &[u8]) -> bool {
    let mut rest = text;
    while rest.len() > most + 1 {
        match rest[..most + 2].iter().rposition(|b| *b == b'\n') {
            Some(at) => rest = &rest[at + 1..],
            None => return true,
        }
    }
    rest.len() > most && !rest.contains(&b'\n')
}

fn mailbox(field: &'static str, text: &str) -> Result<Mailbox, BuildError> {
    let fault = || BuildError::Mailbox { field, text: text.chars().take(200).collect() };
    if text.chars().any(char::is_control) || text.len() > crate::config::Mailbox::LONGEST {
        return Err(fault());
    }
    text.parse().map_err(|_| fault())
}

/// A value that is one word of printable ASCII and cannot close a bracket.
fn token<'a>(field: &'static str, text: &'a str) -> Result<&'a str, BuildError> {
    let fits =
        !text.is_empty() && text.len() <= 500 && text.bytes().all(|b| b.is_ascii_graphic() && b != b'<' && b != b'>');
    if fits { Ok(text) } else { Err(BuildError::Token { field, text: text.chars().take(200).collect() }) }
}

fn bracketed(field: &'static str, id: &str) -> Result<String, BuildError> {
    Ok(format!("<{}>", token(field, id)?))
}

/// Control characters become spaces: lettre would encode a line break, but let others through raw.
fn one_line(text: &str) -> String {
    let mut line: String = text.chars().take(SUBJECT).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(SUBJECT).is_some() {
        line.push('…');
    }
    line
}

fn date(at: Timestamp) -> Date {
    let micros = u64::try_from(at.0).unwrap_or(0);
    Date::new(UNIX_EPOCH + Duration::from_secs(micros / 1_000_000))
}

/// `Expires` has the syntax of `Date`.
fn rfc5322(at: Timestamp) -> String {
    let at = at.to_jiff().to_zoned(jiff::tz::TimeZone::UTC);
    at.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

/// From the Message-ID, which no part contains: random ones would make each try different bytes.
fn boundary(message_id: &str) -> String {
    let mut text = hex(&Sha256::digest(message_id.as_bytes()));
    text.truncate(32);
    format!("allclear-{text}")
}

fn part(kind: ContentType, text: &str) -> SinglePart {
    SinglePart::builder().header(kind).body(super::encode::body(text))
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
