//! Who calls, and what the key allows.

use super::{Api, Problem};
use crate::domain::key::Scope;
use crate::flow::ingest::Caller;
use crate::store::keys;
use axum::http::{HeaderMap, header};

/// The caller of a request, if its key has the scope.
///
/// # Errors
/// 401 without a known key, 403 without the scope, 503 when the database is away.
pub(super) async fn caller(api: &Api, headers: &HeaderMap, scope: Scope) -> Result<Caller, Problem> {
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or_else(|| Problem::unauthorized("there is no API key"))?;
    let mut tx = api.store.read().await?;
    let key =
        keys::find(&mut tx, token).await?.ok_or_else(|| Problem::unauthorized("the API key is unknown or revoked"))?;
    if !key.scopes.contains(&scope) {
        return Err(Problem::forbidden(scope.as_str()));
    }
    Ok(Caller { may_cover: key.scopes.contains(&Scope::RecoverCovering), source: key.name })
}
