//! Errors as `application/problem+json` (RFC 9457): what happened, in which fields, and what to do.

use crate::flow::copies::MailError;
use crate::flow::import::Refusal;
use crate::flow::ingest::IngestError;
use crate::flow::intake::FieldError;
use crate::flow::reading::Unreadable;
use crate::store::StoreError;
use axum::extract::rejection::QueryRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;

/// Seconds after which to try again when the database is away.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// An error as the caller sees it.
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    name: &'static str,
    detail: String,
    errors: Vec<FieldError>,
    hint: String,
    /// Of a body of lines: what became of those that were dealt with.
    lines: Option<Box<Value>>,
}

impl Problem {
    fn new(status: StatusCode, name: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status, name, detail: detail.into(), errors: Vec::new(), hint: hint.into(), lines: None }
    }

    /// 401.
    #[must_use]
    pub fn unauthorized(detail: &str) -> Self {
        let hint = "send `Authorization: Bearer ack_…` with a key made by `allclear key create`";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail, hint)
    }

    /// 403.
    #[must_use]
    pub fn forbidden(scope: &str) -> Self {
        let hint = format!("use a key made with `allclear key create --scope {scope}`");
        Self::new(StatusCode::FORBIDDEN, "forbidden", format!("this key has not the scope `{scope}`"), hint)
    }

    /// 404.
    #[must_use]
    pub fn not_found(detail: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail, "check the path and the id")
    }

    /// 405.
    #[must_use]
    pub fn method_not_allowed() -> Self {
        let detail = "this path takes another method";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail, "see the header Allow")
    }

    /// 413.
    #[must_use]
    pub fn too_large(max: usize) -> Self {
        let detail = format!("the body is larger than {max} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail, "send less at once, or raise http.max_body_bytes")
    }

    /// 415.
    #[must_use]
    pub fn not_json() -> Self {
        Self::unsupported("application/json")
    }

    /// 415: what should have come.
    #[must_use]
    pub fn unsupported(wanted: &str) -> Self {
        let detail = format!("the content type is not `{wanted}`");
        let hint = format!("send `Content-Type: {wanted}`");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail, hint)
    }

    /// 415: no content coding is understood (RFC 9110 8.4).
    #[must_use]
    pub fn compressed() -> Self {
        let hint = "send the body as it is, without `Content-Encoding`";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_content_coding", "the body is compressed", hint)
    }

    /// 400: a body that broke off.
    #[must_use]
    pub fn cut(detail: &str) -> Self {
        let hint = "send all of it again; lines that were taken in are known again, signals by their `sequence` or `observed_at`";
        Self::new(StatusCode::BAD_REQUEST, "body_cut", format!("the body cannot be read to its end: {detail}"), hint)
    }

    /// 422: not one line could be taken in; what is wrong with the first of them.
    #[must_use]
    pub fn all_wrong(wrong: u64, of: &[Refusal]) -> Self {
        let detail = format!("each of the {wrong} lines is wrong");
        let hint = "correct them, each by its field, and send them again; nothing was taken in";
        let named = |one: &Refusal| FieldError::new(format!("line {}: {}", one.line, one.field), one.reason.clone());
        Self {
            errors: of.iter().map(named).collect(),
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "all_lines_wrong", detail, hint)
        }
    }

    /// The same of a body of lines, of which the first were dealt with.
    #[must_use]
    pub fn after_lines(self, after: u64, refused: u64) -> Self {
        let detail = format!("{}; lines 1 to {after} were dealt with, {refused} of them refused", self.detail);
        let hint = format!("send all from line {} on, and what was refused once it is corrected", after + 1);
        Self { detail, hint, ..self }
    }

    /// The same of a body of lines, with what became of those that were dealt with.
    #[must_use]
    pub fn with_lines(self, became: &impl Serialize) -> Self {
        Self { lines: serde_json::to_value(became).ok().map(Box::new), ..self }
    }

    /// 409: a resend is refused, by name.
    #[must_use]
    pub fn refused(why: &str, hint: String) -> Self {
        let detail = format!("the resend is refused: {why}");
        Self {
            errors: vec![FieldError::new("delivery", why)],
            ..Self::new(StatusCode::CONFLICT, "resend_refused", detail, hint)
        }
    }

    /// 409.
    #[must_use]
    pub fn conflict(kind: &'static str, detail: &str, hint: String) -> Self {
        Self::new(StatusCode::CONFLICT, kind, detail, hint)
    }

    /// 503, for a while.
    #[must_use]
    pub fn busy(detail: &str) -> Self {
        let hint = "send the same request again a little later";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail, hint)
    }

    /// 400, about one field or header.
    #[must_use]
    pub fn malformed(error: FieldError) -> Self {
        let detail = format!("{} {}", error.field, error.what);
        let hint = "correct the request and send it again; nothing was recorded";
        Self { errors: vec![error], ..Self::new(StatusCode::BAD_REQUEST, "malformed", detail, hint) }
    }

    /// 400, about what follows the `?`: a name that is not known, or else `name`, the only one that is.
    #[must_use]
    pub fn query(rejection: &QueryRejection, name: &str, what: &str) -> Self {
        let text = rejection.body_text();
        let unknown = text.split_once("unknown field `").and_then(|(_, rest)| rest.split_once('`'));
        Self::malformed(match unknown {
            Some((unknown, _)) => FieldError::new(unknown, format!("is no parameter here; there is `{name}`")),
            None => FieldError::new(name, what),
        })
    }

    /// 422, about fields.
    #[must_use]
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let fields = errors.iter().map(|e| e.field.as_str()).collect::<Vec<_>>().join(", ");
        let detail = format!("wrong fields: {fields}");
        let hint = "correct the fields and send it again; nothing was recorded";
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_fields", detail, hint) }
    }
}

impl From<Unreadable> for Problem {
    fn from(error: Unreadable) -> Self {
        match error {
            Unreadable::Syntax(error) => Self::malformed(error),
            Unreadable::Shape(error) => Self::invalid(vec![error]),
        }
    }
}

impl From<IngestError> for Problem {
    fn from(error: IngestError) -> Self {
        match error {
            IngestError::Invalid(errors) => Self::invalid(errors),
            IngestError::Forbidden(scope) => Self::forbidden(scope),
            IngestError::Conflict(_) => {
                let hint = "use a new key for a new request; repeat a request byte for byte";
                Self::new(StatusCode::CONFLICT, "idempotency_key_reused", error.to_string(), hint)
            }
            IngestError::Store(error) => error.into(),
        }
    }
}

impl From<MailError> for Problem {
    fn from(error: MailError) -> Self {
        let (status, name) = match error {
            MailError::Store(error) => return error.into(),
            MailError::Unknown => (StatusCode::NOT_FOUND, "not_found"),
            MailError::NotSent(_) => (StatusCode::NOT_FOUND, "not_sent"),
            MailError::Removed | MailError::NotKept => (StatusCode::GONE, "gone"),
            MailError::Damaged(_) => {
                tracing::error!(%error, "a copy is damaged: {error}");
                (StatusCode::INTERNAL_SERVER_ERROR, "damaged_copy")
            }
        };
        Self::new(status, name, error.to_string(), error.hint())
    }
}

impl From<StoreError> for Problem {
    /// What the database said is for the log: it may name hosts and rows.
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "a request failed at the database");
        if error.is_turned_back() {
            return Self::busy("others were changing the same at the same time");
        }
        if error.is_away() {
            let hint = "send the same request again a little later, with the same idempotency key";
            let detail = match (error.is_full(), error.is_read_only()) {
                (true, _) => "the disk of the database is full",
                (_, true) => "the database takes no writes",
                _ => "the database cannot be reached",
            };
            return Self::new(StatusCode::SERVICE_UNAVAILABLE, "database_away", detail, hint);
        }
        let hint = "this is a fault of the server; its log says more";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the database refused a statement", hint)
    }
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: String,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
    hint: &'a str,
    #[serde(flatten)]
    lines: Option<&'a Value>,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Body {
            r#type: format!("urn:allclear:problem:{}", self.name),
            title: self.name.replace('_', " "),
            status: self.status.as_u16(),
            detail: &self.detail,
            errors: &self.errors,
            hint: &self.hint,
            lines: self.lines.as_deref(),
        };
        let mut response = (self.status, serde_json::to_string(&body).unwrap_or_default()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE => drop(headers.insert(header::RETRY_AFTER, RETRY_AFTER)),
            StatusCode::UNAUTHORIZED => {
                drop(headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
            }
            _ => {}
        }
        response
    }
}
