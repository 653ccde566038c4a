//! The HTTP face: what status systems say comes in here. Handlers are thin; everything they decide is in `flow`.

mod api;
mod auth;
mod browse;
mod bulk;
mod error;
mod health;
mod import;
mod operate;
mod resend;
mod surge;

pub use error::Problem;

use crate::flow::intake::FieldError;
use crate::flow::setting::Setting;
use crate::store::Store;
use axum::extract::Request;
use axum::http::header::CONTENT_ENCODING;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Extension, Router};
use std::sync::Arc;

/// What the handlers share.
#[derive(Clone, Debug)]
pub struct Api {
    /// The database.
    pub store: Store,
    /// What the stages need to know.
    pub setting: Arc<Setting>,
    /// The largest body, in bytes.
    pub max_body_bytes: usize,
}

/// The routes.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/notices", post(api::notice))
        .route("/v1/notices/{id}", get(browse::notice))
        .route("/v1/signals", post(api::signal).layer(Extension(bulk::Places::default())))
        .route("/v1/signals/{id}", get(browse::signal))
        .route("/v1/deliveries", get(browse::deliveries))
        .route("/v1/deliveries/{id}", get(browse::delivery))
        .route("/v1/deliveries/{id}/mail", get(api::mail))
        .route("/v1/deliveries/{id}/resend", post(resend::one))
        .route("/v1/resends", post(resend::several))
        .route("/v1/journal", get(resend::journal))
        .route("/v1/components/{key}", put(api::component).get(browse::component))
        .route("/v1/connections/{key}", put(api::connection).get(browse::connection))
        .route("/v1/subscribers/{key}", put(api::subscriber).get(browse::subscriber))
        .route("/v1/subscribers", get(browse::subscribers))
        .route("/v1/incidents/{key}", get(browse::incident))
        .route("/v1/queue", get(browse::queue))
        .route("/v1/subscriptions", put(api::subscription))
        .route("/v1/recoveries/{id}", get(api::recovery))
        .route("/v1/pauses", get(operate::pauses))
        .route("/v1/streams/{name}/resume", post(operate::resume))
        .route("/v1/suppressions", get(operate::suppressed))
        .route("/v1/suppressions/{address}", get(operate::suppression))
        .route("/v1/suppressions/{address}/lift", post(operate::lift))
        .route("/v1/surges", get(surge::list).post(surge::open))
        .route("/v1/surges/{id}", get(surge::one))
        .route("/v1/surges/{id}/release", post(surge::release))
        .route("/v1/surges/{id}/hold", post(surge::hold))
        .route("/v1/import/{kind}", post(import::import).layer(Extension(import::Places::default())))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .fallback(async || Problem::not_found("there is no such path"))
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(middleware::from_fn(readable))
        .with_state(api)
}

/// A compressed body would be read as a wrong one, and no text with a NUL can be looked up in PostgreSQL.
async fn readable(request: Request, next: Next) -> Response {
    let nul = request.uri().query().unwrap_or_default().split('&').find(|part| part.contains("%00"));
    if let Some((name, _)) = nul.map(|part| part.split_once('=').unwrap_or((part, ""))) {
        return Problem::malformed(FieldError::new(name, "has a NUL character")).into_response();
    }
    match request.headers().get(CONTENT_ENCODING) {
        Some(coding) if !coding.as_bytes().eq_ignore_ascii_case(b"identity") => Problem::compressed().into_response(),
        _ => next.run(request).await,
    }
}
