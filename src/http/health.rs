//! Whether this process lives, and whether it can take something in.

use super::Api;
use crate::store::browse;
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use std::time::Duration;

/// Longer than this, and whoever asks has given up.
const PATIENCE: Duration = Duration::from_secs(2);

/// The process answers. It says nothing about the database: restarting would not bring that back.
pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// The database can be reached; `?verbose` says which it is.
pub(super) async fn ready(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    let asked = tokio::time::timeout(PATIENCE, async {
        let mut tx = api.store.read().await?;
        browse::ping(&mut tx).await
    });
    let ok = match asked.await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::warn!(%error, "not ready");
            false
        }
        Err(_) => false,
    };
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let verbose = query.is_some_and(|q| q.split('&').any(|part| part == "verbose" || part.starts_with("verbose=")));
    if !verbose {
        return (status, if ok { "ok\n" } else { "the database cannot be reached\n" }).into_response();
    }
    let database = serde_json::json!({ "kind": api.store.kind(), "ok": ok });
    (status, Json(serde_json::json!({ "ok": ok, "database": database }))).into_response()
}
