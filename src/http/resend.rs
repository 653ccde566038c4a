//! Resends, and the journal in which they stand.

use super::api::{Bare, Segment, idempotency_key, json_body};
use super::{Api, Problem, auth};
use crate::domain::id::DeliveryId;
use crate::domain::key::Scope;
use crate::flow::ingest::Keyed;
use crate::flow::reading;
use crate::flow::resend::ask::{Answered, ResendIn, ResendsIn, ask};
use crate::flow::resend::decide::Refusal;
use crate::store::journal as lines;
use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashSet;

type Handled = Result<Response, Problem>;

/// `POST /v1/deliveries/{id}/resend`: 202 with the new delivery, or 409 with the reason.
pub(super) async fn one(
    State(api): State<Api>,
    Segment(id): Segment,
    _: Bare,
    headers: HeaderMap,
    body: Body,
) -> Handled {
    let caller = auth::caller(&api, &headers, Scope::Operate).await?;
    let id: DeliveryId = id.parse().map_err(|_| Problem::not_found("there is no such delivery"))?;
    let body = json_body(&api, &headers, body).await?;
    let ResendIn { force, reason, dry_run } = reading::input(&body)?;
    let said = ResendsIn { force, reason, dry_run, ids: vec![id], ..ResendsIn::default() };
    // The same body means another thing for another delivery.
    let keyed_body = [id.to_string().as_bytes(), &body].concat();
    match asked(&api, &caller.source, &headers, &said, &keyed_body).await? {
        Answered::Before(mut answer) => {
            let outcome = answer.pointer_mut("/outcomes/0").map(Value::take).unwrap_or_default();
            Ok(replayed(outcome))
        }
        Answered::Now(answer) => {
            let outcome = answer.outcomes.first().copied();
            let outcome = outcome.ok_or_else(|| Problem::not_found("there is no such delivery"))?;
            match outcome.refused {
                Some(Refusal::Unknown) => Err(Problem::not_found("there is no such delivery")),
                Some(why) => Err(Problem::refused(why.as_str(), why.hint(outcome.offer))),
                None => Ok((status(dry_run), Json(outcome)).into_response()),
            }
        }
    }
}

/// `POST /v1/resends`: several by id, or a page of what was not delivered.
pub(super) async fn several(State(api): State<Api>, _: Bare, headers: HeaderMap, body: Body) -> Handled {
    let caller = auth::caller(&api, &headers, Scope::Operate).await?;
    let body = json_body(&api, &headers, body).await?;
    let said: ResendsIn = reading::input(&body)?;
    match asked(&api, &caller.source, &headers, &said, &body).await? {
        Answered::Before(answer) => Ok(replayed(answer)),
        Answered::Now(answer) => Ok((status(said.dry_run), Json(answer)).into_response()),
    }
}

async fn asked(
    api: &Api,
    source: &str,
    headers: &HeaderMap,
    said: &ResendsIn,
    body: &[u8],
) -> Result<Answered, Problem> {
    let key = idempotency_key(headers)?;
    let keyed = Keyed { key: key.as_deref(), body };
    let who = format!("api:{source}");
    Ok(ask(&api.store, &api.setting, (source, &who), said, keyed, &mut HashSet::new()).await?)
}

const fn status(dry_run: bool) -> StatusCode {
    if dry_run { StatusCode::OK } else { StatusCode::ACCEPTED }
}

fn replayed(answer: Value) -> Response {
    ([(HeaderName::from_static("idempotency-replayed"), "true")], Json(answer)).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Before {
    before: Option<i64>,
}

#[derive(Serialize)]
struct Page {
    lines: Vec<lines::Line>,
    next: Option<i64>,
}

/// `GET /v1/journal`: newest first, in pages of 100; `?before=` the `next` of the page before.
pub(super) async fn journal(
    State(api): State<Api>,
    page: Result<Query<Before>, QueryRejection>,
    headers: HeaderMap,
) -> Handled {
    const PAGE: usize = 100;
    auth::caller(&api, &headers, Scope::Operate).await?;
    let Query(page) = page.map_err(|said| Problem::query(&said, "before", "is not a line's number"))?;
    let mut tx = api.store.read().await?;
    let found = lines::newest(&mut tx, page.before, PAGE as i64).await?;
    let next = found.last().filter(|_| found.len() == PAGE).map(|line| line.n);
    Ok(Json(Page { lines: found, next }).into_response())
}
