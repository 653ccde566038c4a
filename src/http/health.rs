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

const AWAY: &str = "the database cannot be reached\n";

/// The process answers. It says nothing about the database: restarting would not bring that back.
pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// The database can be reached and takes writes; `?verbose` says which it is.
pub(super) async fn ready(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    let asked = tokio::time::timeout(PATIENCE, async {
        let mut tx = api.store.read().await?;
        browse::ping(&mut tx).await.map(|()| tx.takes_writes())
    });
    let (ok, said) = match asked.await {
        Ok(Ok(true)) => (true, "ok\n"),
        Ok(Ok(false)) => (false, "the database takes no writes\n"),
        Ok(Err(error)) => {
            tracing::warn!(%error, "not ready");
            (false, AWAY)
        }
        Err(_) => (false, AWAY),
    };
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let verbose = query.is_some_and(|q| q.split('&').any(|part| part == "verbose" || part.starts_with("verbose=")));
    if !verbose {
        return (status, said).into_response();
    }
    let database = serde_json::json!({ "kind": api.store.kind(), "ok": ok });
    (status, Json(serde_json::json!({ "ok": ok, "database": database }))).into_response()
}
