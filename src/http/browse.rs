//! What support reads: people, connections, incidents, notices, deliveries, and how our own queue does. The bodies are
//! the `--json` of `allclear show`, `search` and `status`.

use super::api::{Bare, Segment};
use super::{Api, Problem, auth};
use crate::domain::key::Scope;
use crate::flow::intake::FieldError;
use crate::flow::search::{self, SearchError};
use crate::flow::show::{self, Asked, Sight};
use crate::flow::status;
use crate::store::subjects::{self, Name, Subscriber};
use crate::store::{StoreError, Tx};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

type Answered = Result<Response, Problem>;
type Given = Result<Query<Vec<(String, String)>>, QueryRejection>;

impl From<SearchError> for Problem {
    fn from(error: SearchError) -> Self {
        match error {
            SearchError::Field(error) => Self::malformed(error),
            SearchError::Store(error) => error.into(),
        }
    }
}

fn pairs(given: Given) -> Result<Vec<(String, String)>, Problem> {
    given.map(|Query(pairs)| pairs).map_err(|_| Problem::malformed(FieldError::new("query", "cannot be read")))
}

/// Reads what a page of a `show` takes, looks, and answers; a parameter that it does not take is an error.
macro_rules! shown {
    ($(#[$doc:meta])* $name:ident, $unknown:literal, |$tx:ident, $asked:ident, $what:ident| $look:expr) => {
        $(#[$doc])*
        pub(super) async fn $name(
            State(api): State<Api>,
            Segment($what): Segment,
            given: Given,
            headers: HeaderMap,
        ) -> Answered {
            auth::caller(&api, &headers, Scope::Read).await?;
            let mut tx = api.store.read().await?;
            let query = page(&mut tx, &pairs(given)?).await?;
            let ($asked, $tx) = (Asked { setting: &api.setting, after: query.after, limit: query.limit }, &mut tx);
            let seen: Result<Option<Sight>, StoreError> = $look;
            Ok(Json(seen?.ok_or_else(|| Problem::not_found($unknown))?).into_response())
        }
    };
}

async fn page(tx: &mut Tx, given: &[(String, String)]) -> Result<search::Query, Problem> {
    if let Some((name, _)) = given.iter().find(|(name, _)| name != "limit" && name != "cursor") {
        return Err(Problem::malformed(FieldError::new(name, "is no parameter here; there are limit, cursor")));
    }
    Ok(search::read(tx, given.iter().map(|(name, value)| (name.as_str(), value.as_str()))).await?)
}

shown!(/** `GET /v1/subscribers/{key, id or address}` */
    subscriber, "there is no such subscriber", |tx, asked, what| show::subscriber(tx, asked, &what).await);
shown!(/** `GET /v1/connections/{key or id}` */
    connection, "there is no such connection", |tx, asked, what| show::connection(tx, asked, &what).await);
shown!(/** `GET /v1/incidents/{key or id}` */
    incident, "there is no such incident", |tx, asked, what| show::incident(tx, asked, &what).await);
shown!(/** `GET /v1/components/{key or id}` */
    component, "there is no such component", |tx, asked, what| show::component(tx, asked, &what).await);
shown!(/** `GET /v1/notices/{id}` */
notice, "there is no such notice", |tx, asked, what| match what.parse() {
    Ok(id) => show::notice(tx, asked, id).await,
    Err(_) => Ok(None),
});
shown!(/** `GET /v1/signals/{id}` */
signal, "there is no such signal", |tx, _asked, what| match what.parse() {
    Ok(id) => show::signal(tx, id).await,
    Err(_) => Ok(None),
});
shown!(/** `GET /v1/deliveries/{id}` */
delivery, "there is no such delivery", |tx, asked, what| match what.parse() {
    Ok(id) => show::delivery(tx, asked, id).await,
    Err(_) => Ok(None),
});

/// `GET /v1/deliveries`: those that fit all that is asked for, newest first.
pub(super) async fn deliveries(
    State(api): State<Api>,
    given: Given,
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
) -> Answered {
    auth::caller(&api, &headers, Scope::Read).await?;
    let given = pairs(given)?;
    let mut tx = api.store.read().await?;
    let query = search::read(&mut tx, given.iter().map(|(name, value)| (name.as_str(), value.as_str()))).await?;
    let page = search::run(&mut tx, &api.setting, &query).await?;
    let next = page.next;
    let mut response = Json(page).into_response();
    if let Some(next) = next {
        let raw = raw.unwrap_or_default();
        let kept = raw.split('&').filter(|part| !part.is_empty() && !part.starts_with("cursor="));
        let query = kept.chain([format!("cursor={next}").as_str()]).collect::<Vec<_>>().join("&");
        if let Ok(link) = HeaderValue::from_str(&format!("</v1/deliveries?{query}>; rel=\"next\"")) {
            response.headers_mut().insert(header::LINK, link);
        }
    }
    Ok(response)
}

#[derive(Serialize)]
struct People {
    subscribers: Vec<Subscriber>,
}

/// `GET /v1/subscribers?address=`: those who have an address now.
pub(super) async fn subscribers(State(api): State<Api>, given: Given, headers: HeaderMap) -> Answered {
    auth::caller(&api, &headers, Scope::Read).await?;
    let given = pairs(given)?;
    let [(name, address)] = given.as_slice() else {
        return Err(Problem::malformed(FieldError::new("address", "is needed, once and alone")));
    };
    if name != "address" {
        return Err(Problem::malformed(FieldError::new(name, "is no parameter here; there is address")));
    }
    let address = crate::domain::address::parse_address(address)
        .map_err(|fault| Problem::malformed(FieldError::new("address", fault.to_string())))?;
    let mut tx = api.store.read().await?;
    let subscribers = subjects::subscribers(&mut tx, Name::Address(address.as_str())).await?;
    Ok(Json(People { subscribers }).into_response())
}

/// `GET /v1/queue`: how our own queue does.
pub(super) async fn queue(State(api): State<Api>, _: Bare, headers: HeaderMap) -> Answered {
    auth::caller(&api, &headers, Scope::Read).await?;
    Ok(Json(status::status(&mut api.store.read().await?, &api.setting).await?).into_response())
}
