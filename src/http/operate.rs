//! Pauses of streams and suppressed addresses: what the operator and support may see and end.

use super::api::{Bare, Segment, managed};
use super::{Api, Problem, auth};
use crate::domain::key::Scope;
use crate::flow::intake::FieldError;
use crate::flow::relation::hint;
use crate::store::streams::{self, Pause};
use crate::store::suppressions;
use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

const PAGE: i64 = 100;
const LONGEST_REASON: usize = 500;

type Answered = Result<Response, Problem>;

#[derive(Serialize)]
struct Paused {
    #[serde(flatten)]
    pause: Pause,
    what_to_do: &'static str,
}

/// `GET /v1/pauses`: the streams that are paused, and what to do about each.
pub(super) async fn pauses(State(api): State<Api>, _: Bare, headers: HeaderMap) -> Answered {
    auth::caller(&api, &headers, Scope::Read).await?;
    let mut tx = api.store.read().await?;
    let pauses = streams::pauses(&mut tx).await?.into_iter();
    Ok(Json(pauses.map(|pause| Paused { what_to_do: hint(pause.kind), pause }).collect::<Vec<_>>()).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Why {
    reason: String,
}

impl Why {
    fn checked(self) -> Result<String, Problem> {
        reason(&self.reason)
    }
}

/// Why an operator does something, in one line.
pub(super) fn reason(said: &str) -> Result<String, Problem> {
    let reason = said.trim();
    let fits = !reason.is_empty() && reason.chars().count() <= LONGEST_REASON && !reason.chars().any(char::is_control);
    let what = format!("is not one line of 1 to {LONGEST_REASON} characters");
    if fits { Ok(reason.to_owned()) } else { Err(Problem::invalid(vec![FieldError::new("reason", what)])) }
}

/// `POST /v1/streams/{name}/resume`: one mail tries now, the others follow when it is taken. Where the stream is configured no
/// more its pause is over.
pub(super) async fn resume(
    State(api): State<Api>,
    Segment(name): Segment,
    _: Bare,
    headers: HeaderMap,
    body: Body,
) -> Answered {
    let (caller, why): (_, Why) = managed(&api, &headers, Scope::Operate, body).await?;
    let why = why.checked()?;
    let mut tx = api.store.begin().await?;
    let who = format!("api:{}", caller.source);
    // No mail of a stream that is configured no more finds out.
    let was_paused = match api.setting.streams.iter().any(|stream| stream.name == name) {
        true => streams::resume(&mut tx, &name, &who, &why).await?,
        false => streams::forget(&mut tx, &name, &who, &why).await?,
    };
    if !was_paused {
        return Err(Problem::not_found("no stream of this name is paused"));
    }
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct After {
    #[serde(default)]
    after: String,
}

/// `GET /v1/suppressions`: by address, in pages of 100; `?after=` the last address of the page before.
pub(super) async fn suppressed(
    State(api): State<Api>,
    page: Result<Query<After>, QueryRejection>,
    headers: HeaderMap,
) -> Answered {
    auth::caller(&api, &headers, Scope::Read).await?;
    let Query(page) = page.map_err(|said| Problem::query(&said, "after", "is given twice"))?;
    let mut tx = api.store.read().await?;
    Ok(Json(suppressions::page(&mut tx, &page.after, PAGE).await?).into_response())
}

/// `GET /v1/suppressions/{address}`
pub(super) async fn suppression(
    State(api): State<Api>,
    Segment(address): Segment,
    _: Bare,
    headers: HeaderMap,
) -> Answered {
    auth::caller(&api, &headers, Scope::Read).await?;
    let mut tx = api.store.read().await?;
    let found = suppressions::of_address(&mut tx, &address).await?;
    Ok(Json(found.ok_or_else(|| Problem::not_found("this address is not suppressed"))?).into_response())
}

/// `POST /v1/suppressions/{address}/lift`: lets mail go to it again.
pub(super) async fn lift(
    State(api): State<Api>,
    Segment(address): Segment,
    _: Bare,
    headers: HeaderMap,
    body: Body,
) -> Answered {
    let (caller, why): (_, Why) = managed(&api, &headers, Scope::Operate, body).await?;
    let why = why.checked()?;
    let mut tx = api.store.begin().await?;
    if !suppressions::lift(&mut tx, &address, &format!("api:{}", caller.source), &why).await? {
        return Err(Problem::not_found("this address is not suppressed"));
    }
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
