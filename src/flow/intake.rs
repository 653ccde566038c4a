//! What a status system may say, and the checks at the door: nothing inside has to check again.

use crate::domain::connection::{By, Fault, What};
use crate::domain::incident::{ComponentStatus, Impact, Phase};
use crate::domain::subscription::Filter;
use crate::domain::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// One thing that is wrong with an input, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// The field, as a JSON path (`components[0].key`).
    pub field: String,
    /// What is wrong with it.
    pub what: String,
}

impl FieldError {
    /// An error about a field.
    pub fn new(field: impl Into<String>, what: impl Into<String>) -> Self {
        Self { field: short(field.into()), what: short(what.into()) }
    }
}

/// What is wrong may quote what was said, and that may be megabytes.
fn short(mut text: String) -> String {
    const MOST: usize = 500;
    if let Some((end, _)) = text.char_indices().nth(MOST) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Reads JSON into a type; an error names the field.
///
/// # Errors
/// When it is not JSON, has unknown fields, or a field has the wrong type or value.
pub fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, FieldError> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let read: T = serde_path_to_error::deserialize(&mut json).map_err(|e| {
        let path = e.path().to_string();
        FieldError::new(if path == "." || path.is_empty() { "body".to_owned() } else { path }, e.inner().to_string())
    })?;
    json.end().map_err(|e| FieldError::new("body", e.to_string()))?;
    Ok(read)
}

/// A component named in an incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComponentIn {
    /// Its key.
    pub key: String,
    /// How it is doing, when the source says so.
    #[serde(default)]
    pub status: Option<ComponentStatus>,
}

/// A notice: an incident's update, an action-required text, or a text of the team's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum NoticeIn {
    /// An update of an incident or a maintenance.
    Incident(Box<IncidentIn>),
    /// The text that asks the customers of some connections to act.
    ActionRequired(Box<ActionIn>),
    /// A text of the team's own.
    Free(Box<FreeIn>),
}

/// An update of an incident or a maintenance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IncidentIn {
    /// The source's key of the incident.
    pub incident: String,
    /// The source's id of this update: the same id again is the same update, edited or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<String>,
    /// Its title; what the first update says stays the subject of the thread.
    pub title: String,
    /// Where it stands.
    pub phase: Phase,
    /// How bad it is.
    #[serde(default)]
    pub impact: Option<Impact>,
    /// The components it concerns; none: all it has named so far.
    #[serde(default)]
    pub components: Vec<ComponentIn>,
    /// The text, paragraphs parted by blank lines.
    pub body: String,
    /// When it truly began.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    /// When it truly ended.
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
    /// When the update was posted.
    #[serde(default)]
    pub observed_at: Option<Timestamp>,
    /// What customers may notice, in one line.
    #[serde(default)]
    pub consequences: Option<String>,
    /// Who or what is not affected, in one line.
    #[serde(default)]
    pub not_affected: Option<String>,
    /// When the next update will come.
    #[serde(default)]
    pub next_update_at: Option<Timestamp>,
    /// The incident's page.
    #[serde(default)]
    pub link: Option<String>,
    /// Where to ask for help.
    #[serde(default)]
    pub support_link: Option<String>,
    /// The components of these groups too, named without a state.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Only these subscribers, by key; later updates without recipients or filter keep to them.
    #[serde(default)]
    pub recipients: Vec<String>,
    /// Only followers with these attributes: of each name one of its values. Kept to like recipients.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// `true` lifts the recipients or the filter of earlier updates.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub everyone: bool,
    /// `false` records without mailing.
    #[serde(default)]
    pub deliver: Option<bool>,
}

/// The text that asks the customers of some connections to act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionIn {
    /// The broken connections, by key.
    pub connections: Vec<String>,
    /// What happened.
    pub what_happened: String,
    /// What we have done about it.
    #[serde(default)]
    pub what_we_did: Option<String>,
    /// The one thing to do.
    pub what_to_do: String,
    /// Where to do it.
    #[serde(default)]
    pub link: Option<String>,
    /// Where to ask for help.
    #[serde(default)]
    pub support_link: Option<String>,
    /// When the failure was observed.
    #[serde(default)]
    pub observed_at: Option<Timestamp>,
}

/// A text of the team's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreeIn {
    /// The subject.
    pub subject: String,
    /// The text, paragraphs parted by blank lines.
    pub body: String,
    /// To these subscribers, by key.
    #[serde(default)]
    pub recipients: Vec<String>,
    /// To the subscribers of these components, by key.
    #[serde(default)]
    pub components: Vec<String>,
    /// To the subscribers of these groups, and of their components.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// To every subscriber, whatever they follow.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub everyone: bool,
    /// Of all those, only to who has these attributes: of each name one of its values.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// A link.
    #[serde(default)]
    pub link: Option<String>,
    /// Where to ask for help.
    #[serde(default)]
    pub support_link: Option<String>,
    /// When it was written.
    #[serde(default)]
    pub observed_at: Option<Timestamp>,
}

/// What is there must be a value: `null` does not come to mean that nothing was said.
fn given<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// Which connections a component's recovery declares well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Covers {
    /// All that failed in the outage; each must confirm by its own signal. Needs a right of its own.
    All,
    /// None: it says nothing about them.
    #[default]
    None,
}

/// A signal: something happened to a connection or a component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignalIn {
    /// The connection, by key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// Or the component, by key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// What happened.
    pub what: What,
    /// Of a failed connection: `recoverable` or `permanent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// Of a recovery: who did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<By>,
    /// Of a component's recovery: which connections it declares well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<Covers>,
    /// Of a covering recovery: it covers failures from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Of a covering recovery: how long the connections have to confirm, like `6h` or `PT6H`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_within: Option<String>,
    /// When it was observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_at: Option<Timestamp>,
    /// The source's running number for this subject; it beats time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<i64>,
}

/// Collects what is wrong with an input.
#[derive(Debug, Default)]
pub struct Check(Vec<FieldError>);

impl Check {
    /// Notes an error.
    pub fn refuse(&mut self, field: impl Into<String>, what: impl Into<String>) {
        self.0.push(FieldError::new(field, what));
    }

    /// A text of one line: not empty, no control characters, at most `most` characters.
    pub fn line(&mut self, field: &str, text: &str, most: usize) {
        if text.trim().is_empty() {
            self.refuse(field, "is empty");
        } else if text.chars().count() > most {
            self.refuse(field, format!("is longer than {most} characters"));
        } else if text.chars().any(char::is_control) {
            self.refuse(field, "has control characters or line breaks");
        }
    }

    /// A key: a line of at most 200 characters. Nobody sees a space at an end of it, nor could look it up.
    pub fn key(&mut self, field: &str, key: &str) {
        let bare = key.trim_matches(|c: char| c.is_whitespace() && !c.is_control());
        if bare == key || bare.is_empty() {
            self.line(field, key, 200);
        } else {
            self.refuse(field, "begins or ends with a space");
        }
    }

    /// A text of several lines: not empty, no control characters but line breaks and tabs.
    pub fn prose(&mut self, field: &str, text: &str, most: usize) {
        if text.trim().is_empty() {
            self.refuse(field, "is empty");
        } else if text.chars().count() > most {
            self.refuse(field, format!("is longer than {most} characters"));
        } else if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            self.refuse(field, "has control characters");
        }
    }

    /// A link a customer can follow.
    pub fn link(&mut self, field: &str, link: Option<&str>) {
        let Some(link) = link else { return };
        let rest = ["https://", "http://", "mailto:"].iter().find_map(|scheme| link.strip_prefix(scheme));
        // What could not be printed as a link would be left out of the mail without a word.
        let odd = |c: char| {
            c.is_control()
                || c.is_whitespace()
                || matches!(c, '<' | '>' | '"' | '`' | '\\' | '\u{feff}')
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        if rest.is_none_or(str::is_empty) || link.len() > 2_000 || link.contains(odd) {
            self.refuse(
                field,
                "is not an http, https or mailto link of at most 2000 bytes without spaces, quotes and angle brackets",
            );
        }
    }

    /// # Errors
    /// When anything was refused.
    pub fn done(self) -> Result<(), Vec<FieldError>> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0) }
    }
}

impl NoticeIn {
    /// Checks what serde cannot.
    ///
    /// # Errors
    /// Everything that is wrong, each with its field.
    pub fn check(&self) -> Result<(), Vec<FieldError>> {
        let mut check = Check::default();
        match self {
            Self::Incident(n) => {
                check.key("incident", &n.incident);
                check.line("title", &n.title, 200);
                if let Some(update) = &n.update {
                    check.line("update", update, 200);
                }
                check.prose("body", &n.body, 50_000);
                n.check_audience(&mut check);
                let mut said = HashMap::new();
                for (i, c) in n.components.iter().enumerate() {
                    check.line(&format!("components[{i}].key"), &c.key, 200);
                    if said.insert(&c.key, c.status).is_some_and(|before| before != c.status) {
                        check.refuse(
                            format!("components[{i}].status"),
                            "differs from what is said of this component before",
                        );
                    }
                }
                for (field, text) in [("consequences", &n.consequences), ("not_affected", &n.not_affected)] {
                    if let Some(text) = text {
                        // A mail has each on one line.
                        check.line(field, text.trim(), 2_000);
                    }
                }
                if let (Some(start), Some(end)) = (n.started_at, n.ended_at)
                    && end < start
                {
                    check.refuse("ended_at", "is before started_at");
                }
                check.link("link", n.link.as_deref());
                check.link("support_link", n.support_link.as_deref());
            }
            Self::ActionRequired(n) => {
                if n.connections.is_empty() || n.connections.len() > 1_000 {
                    check.refuse("connections", "needs 1 to 1000 keys");
                }
                check.prose("what_happened", &n.what_happened, 5_000);
                check.prose("what_to_do", &n.what_to_do, 5_000);
                if let Some(text) = &n.what_we_did {
                    check.prose("what_we_did", text, 5_000);
                }
                check.link("link", n.link.as_deref());
                check.link("support_link", n.support_link.as_deref());
            }
            Self::Free(n) => {
                check.line("subject", &n.subject, 200);
                check.prose("body", &n.body, 50_000);
                n.check_audience(&mut check);
                check.link("link", n.link.as_deref());
                check.link("support_link", n.support_link.as_deref());
            }
        }
        check.done()
    }
}

impl SignalIn {
    /// Whether it is a covering recovery, which needs a right of its own.
    #[must_use]
    pub fn is_covering(&self) -> bool {
        self.connections == Some(Covers::All)
    }

    /// Checks what serde cannot.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), FieldError> {
        let bad = |field: &str, what: &str| Err(FieldError::new(field, what));
        let of_connection = self.connection.is_some();
        if of_connection == self.component.is_some() {
            return bad("connection", "name a connection or a component, one of the two");
        }
        if of_connection
            && self.what == What::Failed
            && !matches!(self.fault, Some(Fault::Recoverable | Fault::Permanent))
        {
            return bad("fault", "a failed connection needs `recoverable` or `permanent`");
        }
        if self.fault.is_some() && !(of_connection && self.what == What::Failed) {
            return bad("fault", "only a connection's failure has a fault");
        }
        if self.by.is_some() && self.what != What::Recovered {
            return bad("by", "only a recovery has a `by`");
        }
        let covering_fields = self.connections.is_some() || self.since.is_some() || self.confirm_within.is_some();
        if covering_fields && (of_connection || self.what != What::Recovered) {
            let given = [("since", self.since.is_some()), ("confirm_within", self.confirm_within.is_some())];
            let field = given.iter().find(|(_, given)| *given).map_or("connections", |(field, _)| field);
            return bad(field, "only a component's recovery has connections, since and confirm_within");
        }
        if (self.since.is_some() || self.confirm_within.is_some()) && !self.is_covering() {
            return bad("since", "since and confirm_within belong to `connections: \"all\"`");
        }
        self.confirm_span().map(drop)
    }

    /// How long the connections of a covering recovery have to confirm.
    ///
    /// # Errors
    /// When the text is no span between a second and 30 days.
    pub fn confirm_span(&self) -> Result<Option<Span>, FieldError> {
        let Some(text) = &self.confirm_within else { return Ok(None) };
        let parsed = text.parse::<jiff::SignedDuration>().ok().map(|d| d.as_secs());
        match parsed {
            Some(seconds @ 1..=2_592_000) => Ok(Some(Span::seconds(seconds))),
            _ => Err(FieldError::new(
                "confirm_within",
                "is not a span like `6h` or `PT6H`, between a second and 30 days",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_under_a_key_without_a_name_is_the_body_s() {
        assert_eq!(read::<SignalIn>(br#"{"what":"failed","","x":1}"#).unwrap_err().field, "body");
    }

    fn signal(json: &str) -> Result<(), FieldError> {
        read::<SignalIn>(json.as_bytes())?.check()
    }

    #[test]
    fn an_error_names_the_field() {
        for (json, field) in [
            (r#"{"connection":"a","what":"failed"}"#, "fault"),
            (r#"{"connection":"a","component":"b","what":"recovered"}"#, "connection"),
            (r#"{"what":"recovered"}"#, "connection"),
            (r#"{"connection":"a","what":"exploded"}"#, "what"),
            (r#"{"connection":"a","what":"recovered","by":3}"#, "by"),
            (r#"{"connection":"a","what":"recovered","fault":"permanent"}"#, "fault"),
            (r#"{"component":"a","what":"failed","fault":"permanent"}"#, "fault"),
            (r#"{"connection":"a","what":"recovered","connections":"all"}"#, "connections"),
            (r#"{"component":"a","what":"recovered","connections":"all","confirm_within":"soon"}"#, "confirm_within"),
            (r#"{"component":"a","what":"failed","observed_at":"9999-01-01T00:00:00Z"}"#, "observed_at"),
            (r#"{"component":"a","what":"failed","colour":"red"}"#, "colour"),
        ] {
            assert_eq!(signal(json).unwrap_err().field, field, "{json}");
        }
    }

    #[test]
    fn what_is_right_is_taken() {
        for json in [
            r#"{"connection":"a","what":"failed","fault":"permanent","sequence":4}"#,
            r#"{"component":"a","what":"recovered","connections":"all","since":"2025-03-01T20:40:00Z","confirm_within":"6h"}"#,
        ] {
            signal(json).unwrap();
        }
    }

    #[test]
    fn what_a_mail_has_on_one_line_has_no_lines_and_is_not_cut() {
        let faults = |consequences: &str, not_affected: &str| {
            let said = serde_json::json!({"kind": "incident", "incident": "i", "title": "t", "phase": "resolved", "body": "b",
                "consequences": consequences, "not_affected": not_affected});
            let checked = read::<NoticeIn>(said.to_string().as_bytes()).unwrap().check();
            checked.err().into_iter().flatten().map(|fault| fault.field).collect::<Vec<_>>()
        };
        assert_eq!(faults("Mails are late.\n", &"x".repeat(2_000)), [""; 0]);
        assert_eq!(faults("- mails are late\n- calls fail", &"x".repeat(2_001)), ["consequences", "not_affected"]);
    }

    #[test]
    fn control_characters_in_a_title_are_refused() {
        let json = r#"{"kind":"incident","incident":"i","title":"a\r\nBcc: x@y.z","phase":"resolved","body":"b"}"#;
        let errors = read::<NoticeIn>(json.as_bytes()).unwrap().check().unwrap_err();
        assert_eq!(errors[0].field, "title");
    }
}
