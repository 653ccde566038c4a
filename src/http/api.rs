//! The handlers of `/v1`.

use super::import::patient;
use super::{Api, Problem, auth, bulk};
use crate::domain::id::RecoveryId;
use crate::domain::key::Scope;
use crate::flow::copies;
use crate::flow::ingest::{self, Answer, Caller, Keyed};
use crate::flow::intake::{FieldError, SignalIn};
use crate::flow::reading;
use crate::flow::register::{self, Put};
use crate::flow::subscription as subscribing;
use crate::store::recover;
use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures_util::TryStreamExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::time::Instant;

const LONGEST_WAIT: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const LONGEST_KEY: usize = 200;

type Answered = Result<Response, Problem>;

/// The key or id in the path; one that is no UTF-8 is answered like every other error.
pub(super) struct Segment(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let segment = Path::<String>::from_request_parts(parts, state).await.ok();
        let segment = segment.filter(|Path(text)| !text.contains('\0'));
        segment.map(|Path(text)| Self(text)).ok_or_else(|| Problem::not_found("the path cannot be read"))
    }
}

/// Nothing follows the `?`: a filter that is not known, or a wish like `dry_run`, would be taken for one that was heeded.
pub(super) struct Bare;

impl<S: Send + Sync> FromRequestParts<S> for Bare {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let given = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let wrong = |name: &str, what: &str| Err(Problem::malformed(FieldError::new(name, what)));
        let none = match parts.method {
            Method::GET | Method::HEAD => "is no parameter here; there are none",
            _ => "is no parameter here; what is wished stands in the body",
        };
        match given.as_deref().map(Vec::as_slice) {
            Ok([]) => Ok(Self),
            Ok([(name, _), ..]) => wrong(name, none),
            Err(_) => wrong("query", "cannot be read"),
        }
    }
}

/// `POST /v1/notices`
pub(super) async fn notice(State(api): State<Api>, _: Bare, headers: HeaderMap, body: Body) -> Answered {
    let caller = auth::caller(&api, &headers, Scope::Enqueue).await?;
    let key = idempotency_key(&headers)?;
    let body = json_body(&api, &headers, body).await?;
    let said = reading::notice(&body)?;
    let keyed = Keyed { key: key.as_deref(), body: &body };
    let answer = ingest::notice(&api.store, &api.setting.ingest(), &caller, &said, keyed).await?;
    Ok(accepted("notices", &answer))
}

/// `POST /v1/signals`; a recovery is answered at once with what is still on the wire. JSON lines are many signals.
pub(super) async fn signal(
    State(api): State<Api>,
    Extension(places): Extension<bulk::Places>,
    _: Bare,
    headers: HeaderMap,
    body: Body,
) -> Answered {
    let caller = auth::caller(&api, &headers, Scope::Signal).await?;
    let key = idempotency_key(&headers)?;
    if is_json_lines(&media_type(&headers)) {
        return bulk::signals(&api, &places, &caller, key, body).await;
    }
    let body = json_body(&api, &headers, body).await?;
    let said: SignalIn = reading::input(&body)?;
    let keyed = Keyed { key: key.as_deref(), body: &body };
    let mut answer = ingest::signal(&api.store, &api.setting.ingest(), &caller, &said, keyed).await?;
    // It is committed: that nobody can say now what is on the wire must not look like a refusal.
    if let Err(error) = ingest::drain_state(&api.store, &mut answer).await {
        tracing::warn!(%error, id = answer.id, "the drain of a recovery cannot be read");
    }
    Ok(accepted("signals", &answer))
}

/// `PUT /v1/components/{key}`
pub(super) async fn component(
    State(api): State<Api>,
    Segment(key): Segment,
    _: Bare,
    headers: HeaderMap,
    body: Body,
) -> Answered {
    let (_, said) = managed(&api, &headers, Scope::Manage, body).await?;
    Ok(put(register::component(&api.store, &key, &said).await?))
}

/// `PUT /v1/connections/{key}`
pub(super) async fn connection(
    State(api): State<Api>,
    Segment(key): Segment,
    _: Bare,
    headers: HeaderMap,
    body: Body,
) -> Answered {
    let (_, said) = managed(&api, &headers, Scope::Manage, body).await?;
    Ok(put(register::connection(&api.store, &key, &said).await?))
}

/// `PUT /v1/subscribers/{key}`
pub(super) async fn subscriber(
    State(api): State<Api>,
    Segment(key): Segment,
    _: Bare,
    headers: HeaderMap,
    body: Body,
) -> Answered {
    let (_, said) = managed(&api, &headers, Scope::Manage, body).await?;
    Ok(put(register::subscriber(&api.store, &key, &said).await?))
}

/// `PUT /v1/subscriptions`; without content when there is none to end.
pub(super) async fn subscription(State(api): State<Api>, _: Bare, headers: HeaderMap, body: Body) -> Answered {
    let (_, said) = managed(&api, &headers, Scope::Manage, body).await?;
    Ok(subscribing::put(&api.store, &said).await?.map_or_else(|| StatusCode::NO_CONTENT.into_response(), put))
}

/// How long a caller waits for a recovery.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    /// Seconds, at most 2.
    #[serde(default)]
    wait: f64,
}

/// `GET /v1/recoveries/{id}`: how far it has come; `?wait=` waits until nothing of it is on the wire.
pub(super) async fn recovery(
    State(api): State<Api>,
    Segment(id): Segment,
    wait: Result<Query<Wait>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Answered {
    auth::caller(&api, &headers, Scope::Read).await?;
    let unknown = || Problem::not_found("there is no such recovery");
    let id: RecoveryId = id.parse().map_err(|_| unknown())?;
    let what = "is not a number of seconds from 0 to 2";
    let Query(Wait { wait }) = wait.map_err(|said| Problem::query(&said, "wait", what))?;
    let wait = Duration::try_from_secs_f64(wait).map_err(|_| Problem::malformed(FieldError::new("wait", what)))?;
    let end = Instant::now() + wait.min(LONGEST_WAIT);
    loop {
        let mut tx = api.store.read().await?;
        let progress = recover::progress(&mut tx, id).await?.ok_or_else(unknown)?;
        drop(tx);
        if progress.drained || Instant::now() + LOOK_EVERY > end {
            return Ok(Json(progress).into_response());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// `GET /v1/deliveries/{id}/mail`: the mail, byte for byte as it was handed to the relay.
pub(super) async fn mail(State(api): State<Api>, Segment(id): Segment, _: Bare, headers: HeaderMap) -> Answered {
    auth::caller(&api, &headers, Scope::Read).await?;
    let id = id.parse().map_err(|_| Problem::not_found("there is no such delivery"))?;
    let exact = copies::mail(&mut api.store.read().await?, id).await?;
    // What the mail says is ours and others' words: nothing may run it as a page.
    let headers = [(header::CONTENT_TYPE, "message/rfc822"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    Ok((headers, exact.bytes).into_response())
}

/// The caller, if its key has the scope, and what it says.
pub(super) async fn managed<T: DeserializeOwned>(
    api: &Api,
    headers: &HeaderMap,
    scope: Scope,
    body: Body,
) -> Result<(Caller, T), Problem> {
    let caller = auth::caller(api, headers, scope).await?;
    Ok((caller, reading::input(&json_body(api, headers, body).await?)?))
}

pub(super) async fn json_body(api: &Api, headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Problem> {
    if media_type(headers) != "application/json" {
        return Err(Problem::not_json());
    }
    let (mut chunks, mut all) = (patient(body), Vec::new());
    while let Some(chunk) = chunks.try_next().await.map_err(|e| Problem::cut(&e.to_string()))? {
        if chunk.len() > api.max_body_bytes - all.len() {
            return Err(Problem::too_large(api.max_body_bytes));
        }
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

/// What the body is said to be, without parameters.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

pub(super) fn is_json_lines(media_type: &str) -> bool {
    matches!(media_type, "application/x-ndjson" | "application/jsonl")
}

/// The header, bare or as a quoted structured-field string.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let key = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    if key.is_empty() || key.len() > LONGEST_KEY {
        let what = format!("is not 1 to {LONGEST_KEY} visible ASCII characters");
        return Err(Problem::malformed(FieldError::new("Idempotency-Key", what)));
    }
    Ok(Some(key.to_owned()))
}

fn accepted(collection: &str, answer: &Answer) -> Response {
    let status = if answer.replayed { StatusCode::OK } else { StatusCode::ACCEPTED };
    let place = match &answer.recovery_id {
        Some(recovery) => format!("/v1/recoveries/{recovery}"),
        None => format!("/v1/{collection}/{}", answer.id),
    };
    let mut response = (status, Json(answer)).into_response();
    if let Ok(place) = HeaderValue::from_str(&place) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    if answer.replayed {
        let replayed = HeaderName::from_static("idempotency-replayed");
        response.headers_mut().insert(replayed, HeaderValue::from_static("true"));
    }
    response
}

fn put(put: Put) -> Response {
    Json(put).into_response()
}
