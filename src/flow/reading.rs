//! Reading inputs so that an error names its field, in every face alike.

pub(super) mod once;

use super::intake::{ActionIn, FieldError, FreeIn, IncidentIn, NoticeIn, read};
use once::Once;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Map, Value};

/// Why an input cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It is not JSON.
    Syntax(FieldError),
    /// It is JSON, and not what is expected.
    Shape(FieldError),
}

/// Reads JSON into a type.
///
/// # Errors
/// When it is not JSON, has unknown or missing fields, or a field has the wrong type or value.
pub fn input<T: DeserializeOwned>(body: &[u8]) -> Result<T, Unreadable> {
    let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    syntax(body)?;
    // It would be read as the fields in their order.
    if body.trim_ascii_start().starts_with(b"[") {
        return Err(Unreadable::Shape(FieldError::new("body", "is a list: this takes one object")));
    }
    if body.windows(NUL.len()).any(|piece| piece == NUL) {
        let value: Value = read(body).map_err(Unreadable::Shape)?;
        without_nul("", &value).map_err(Unreadable::Shape)?;
    }
    read(body).map_err(|e| Unreadable::Shape(named(e)))
}

/// Reads a notice of any kind. (By hand: serde reads the content of a tagged enum without its path.)
///
/// # Errors
/// As [`input`].
pub fn notice(body: &[u8]) -> Result<NoticeIn, Unreadable> {
    let shape = |field: &str, what: &str| Unreadable::Shape(FieldError::new(field, what));
    let Once(Value::Object(mut fields)) = input(body)? else { return Err(shape("body", "is no object")) };
    let kind = fields.remove("kind");
    // A source that found nobody must not reach everybody.
    for field in ["recipients", "groups"] {
        if fields.get(field).and_then(Value::as_array).is_some_and(Vec::is_empty) {
            return Err(shape(field, "is empty: name somebody, or leave it out"));
        }
    }
    match kind.as_ref().map(Value::as_str) {
        Some(Some("incident")) => inner::<IncidentIn>(fields).map(|n| NoticeIn::Incident(Box::new(n))),
        Some(Some("action_required")) => inner::<ActionIn>(fields).map(|n| NoticeIn::ActionRequired(Box::new(n))),
        Some(Some("free")) => inner::<FreeIn>(fields).map(|n| NoticeIn::Free(Box::new(n))),
        Some(_) => Err(shape("kind", "is none of incident, action_required, free")),
        None => Err(shape("kind", "is missing: one of incident, action_required, free")),
    }
}

/// Reads a line that is one object.
///
/// # Errors
/// When it is none, or a field in it is given twice.
pub(super) fn object(line: &[u8]) -> Result<Map<String, Value>, FieldError> {
    if let Ok(Once(Value::Object(fields))) = serde_json::from_slice(line) {
        return Ok(fields);
    }
    // Once more, for the place of what is wrong.
    match read::<Once>(line) {
        Err(error) if error.what.starts_with(TWICE) => Err(named(error)),
        _ => serde_json::from_slice(line).map_err(|e| FieldError::new("line", format!("is not a JSON object: {e}"))),
    }
}

fn inner<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, Unreadable> {
    typed(fields).map_err(Unreadable::Shape)
}

/// Reads fields into a type.
///
/// # Errors
/// When a field is unknown, is missing, or has the wrong type or value.
pub fn typed<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, FieldError> {
    fields.iter().try_for_each(|(name, value)| without_nul(name, value))?;
    serde_path_to_error::deserialize(Value::Object(fields)).map_err(|e| {
        let path = e.path().to_string();
        let field = if path == "." { "body".to_owned() } else { path };
        named(FieldError::new(field, e.inner().to_string()))
    })
}

/// How JSON writes the character that PostgreSQL cannot keep, and nobody means.
const NUL: &[u8] = b"\\u0000";

fn without_nul(path: &str, value: &Value) -> Result<(), FieldError> {
    match value {
        Value::String(text) if text.contains('\0') => Err(FieldError::new(path, "has a NUL character")),
        Value::Array(all) => all.iter().enumerate().try_for_each(|(n, one)| without_nul(&format!("{path}[{n}]"), one)),
        Value::Object(fields) => fields.iter().try_for_each(|(name, one)| {
            if name.contains('\0') {
                return Err(FieldError::new(path, "names a field with a NUL character"));
            }
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            without_nul(&path, one)
        }),
        _ => Ok(()),
    }
}

fn syntax(body: &[u8]) -> Result<(), Unreadable> {
    let not_json = |what: String| Unreadable::Syntax(FieldError::new("body", what));
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(not_json("is empty".to_owned()));
    }
    serde_json::from_slice::<IgnoredAny>(body).map(drop).map_err(|e| not_json(format!("is not JSON: {e}")))
}

/// How serde begins to say that a field is given twice.
const TWICE: &str = "duplicate field `";

/// serde says of a missing field only that the object lacks it, and of one given twice nothing else: the name stands in its words.
fn named(error: FieldError) -> FieldError {
    let kinds = [("missing field `", "is missing"), (TWICE, "is given twice")];
    let found =
        kinds.into_iter().find_map(|(start, what)| Some((error.what.strip_prefix(start)?.split('`').next()?, what)));
    let Some((name, what)) = found else { return error };
    let field = if error.field == "body" { name.to_owned() } else { format!("{}.{name}", error.field) };
    FieldError::new(field, what)
}

impl Unreadable {
    /// What is wrong, and where.
    #[must_use]
    pub fn into_field(self) -> FieldError {
        match self {
            Self::Syntax(error) | Self::Shape(error) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_field_whatever_the_kind() {
        let incident = r#"{"kind":"incident","incident":"i","title":"t","phase":"resolved","body":"b""#;
        for (json, field) in [
            (format!("{incident},\"colour\":1}}"), "colour"),
            (
                format!("{incident},\"components\":[{{\"key\":\"a\"}},{{\"status\":\"down\"}}]}}"),
                "components[1].status",
            ),
            (format!("{incident},\"started_at\":\"9999-01-01T00:00:00Z\"}}"), "started_at"),
            (r#"{"kind":"incident","incident":"i"}"#.to_owned(), "title"),
            (r#"{"kind":"free","subject":"s","body":"b","recipients":[7]}"#.to_owned(), "recipients[0]"),
            (format!("{incident},\"recipients\":[]}}"), "recipients"),
            (r#"{"kind":"other"}"#.to_owned(), "kind"),
            ("7".to_owned(), "body"),
            (format!("{incident},\"title\":\"u\"}}"), "title"),
            (format!("{incident},\"filter\":{{\"plan\":[\"a\"],\"plan\":[\"b\"]}}}}"), "filter.plan"),
            (format!("{incident},\"components\":[{{\"key\":\"a\",\"key\":\"b\"}}]}}"), "components[0].key"),
            ("{}".to_owned(), "kind"),
        ] {
            let Unreadable::Shape(error) = notice(json.as_bytes()).unwrap_err() else { panic!("{json}") };
            assert_eq!(error.field, field, "{json}");
        }
        assert!(matches!(notice(b"{\"kind\": \"inc"), Err(Unreadable::Syntax(_))));
        assert!(matches!(notice(b" "), Err(Unreadable::Syntax(_))));
    }
}
