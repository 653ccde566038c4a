//! Surges: what is open, and what operators do about it.

use super::api::{Bare, Segment, managed};
use super::operate::reason;
use super::{Api, Problem, auth};
use crate::domain::id::SurgeId;
use crate::domain::key::Scope;
use crate::domain::time::Timestamp;
use crate::flow::intake::FieldError;
use crate::flow::surge::{self, Act, Asked, Refused};
use crate::store::surge as rows;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

const PAGE: i64 = 100;

type Answered = Result<Response, Problem>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    reason: String,
    #[serde(default)]
    until: Option<Timestamp>,
    #[serde(default)]
    rest: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Opened {
    component: String,
    reason: String,
    #[serde(default)]
    since: Option<Timestamp>,
}

/// `GET /v1/surges`: the newest 100, open or over.
pub(super) async fn list(State(api): State<Api>, _: Bare, headers: HeaderMap) -> Answered {
    auth::caller(&api, &headers, Scope::Read).await?;
    let mut tx = api.store.read().await?;
    Ok(Json(rows::list(&mut tx, None, Timestamp::END, PAGE).await?).into_response())
}

/// `GET /v1/surges/{id}`
pub(super) async fn one(State(api): State<Api>, Segment(id): Segment, _: Bare, headers: HeaderMap) -> Answered {
    auth::caller(&api, &headers, Scope::Read).await?;
    let mut tx = api.store.read().await?;
    let found = rows::surge(&mut tx, parsed(&id)?).await?;
    Ok(Json(found.ok_or_else(|| Problem::from(Refused::Unknown))?).into_response())
}

/// `POST /v1/surges`: opens one that no rule saw.
pub(super) async fn open(State(api): State<Api>, _: Bare, headers: HeaderMap, body: Body) -> Answered {
    let (caller, said): (_, Opened) = managed(&api, &headers, Scope::Operate, body).await?;
    let (who, why) = (format!("api:{}", caller.source), reason(&said.reason)?);
    let asked = Asked { who: &who, reason: &why };
    let surge = surge::hold(&api.store, &api.setting, &said.component, said.since, asked).await?;
    Ok((StatusCode::CREATED, Json(surge)).into_response())
}

/// `POST /v1/surges/{id}/release`: asks a few, and after their time the rest; with `rest` it does not wait for them.
pub(super) async fn release(State(api): State<Api>, id: Segment, _: Bare, headers: HeaderMap, body: Body) -> Answered {
    act(&api, id, &headers, body, |said| if said.rest == Some(true) { Act::ReleaseRest } else { Act::Release }).await
}

/// `POST /v1/surges/{id}/hold`: asks nobody, `until` a time or until it is released.
pub(super) async fn hold(State(api): State<Api>, id: Segment, _: Bare, headers: HeaderMap, body: Body) -> Answered {
    act(&api, id, &headers, body, |said| Act::Hold(said.until)).await
}

async fn act(
    api: &Api,
    Segment(id): Segment,
    headers: &HeaderMap,
    body: Body,
    what: impl FnOnce(&Said) -> Act,
) -> Answered {
    let (caller, said): (_, Said) = managed(api, headers, Scope::Operate, body).await?;
    let (who, why, act) = (format!("api:{}", caller.source), reason(&said.reason)?, what(&said));
    match act {
        Act::Hold(_) if said.rest.is_some() => {
            return Err(Problem::invalid(vec![FieldError::new("rest", "is for releases")]));
        }
        Act::Release | Act::ReleaseRest if said.until.is_some() => {
            return Err(Problem::invalid(vec![FieldError::new("until", "is for holds")]));
        }
        _ => {}
    }
    let acted = surge::act(&api.store, &api.setting, parsed(&id)?, act, Asked { who: &who, reason: &why }).await?;
    Ok(Json(acted).into_response())
}

fn parsed(id: &str) -> Result<SurgeId, Problem> {
    id.parse().map_err(|_| Refused::Unknown.into())
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Store(e) => e.into(),
            Refused::Unknown => Self::not_found(&refused.to_string()),
            Refused::NoComponent(_) => Self::invalid(vec![FieldError::new("component", "names none that is known")]),
            Refused::Past => Self::invalid(vec![FieldError::new("until", "is in the past")]),
            Refused::Future => Self::invalid(vec![FieldError::new("since", "is in the future")]),
            other => Self::conflict("surge_refused", &other.to_string(), other.hint()),
        }
    }
}
