//! `POST /v1/import/{kind}`: the lines of a file as the body, taken in as they arrive.

use super::api::{Segment, is_json_lines, media_type};
use super::bulk::NAMED;
use super::{Api, Problem, auth};
use crate::domain::key::Scope;
use crate::domain::kind::Kind;
use crate::flow::import::{self, Counts, Event, Format, ImportError, Job, Refusal};
use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::io::{StreamReader, SyncIoBridge};
use tokio_util::sync::CancellationToken;

/// Imports at once: each keeps a thread and a connection to the database.
const AT_ONCE: usize = 2;
/// The longest silence of a caller.
const SILENCE: Duration = Duration::from_secs(30);
/// The longest import.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Lets so many imports run at once.
#[derive(Clone)]
pub(super) struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

/// How to import.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct How {
    #[serde(default)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Imported {
    kind: Kind,
    dry_run: bool,
    lines: u64,
    inserted: u64,
    updated: u64,
    unchanged: u64,
    /// Lines.
    refused_total: u64,
    /// What is wrong with the first [`NAMED`] of them; beyond as many faults the first of each.
    refused: Vec<Refusal>,
}

pub(super) async fn import(
    State(api): State<Api>,
    Extension(places): Extension<Places>,
    Segment(kind): Segment,
    how: Result<Query<How>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    auth::caller(&api, &headers, Scope::Manage).await?;
    let kind: Kind = kind.parse().map_err(|known: String| Problem::not_found(&known))?;
    let Query(How { dry_run }) = how.map_err(|said| Problem::query(&said, "dry_run", "is neither true nor false"))?;
    let job = Job { kind, format: format(&headers)?, dry_run };
    let _place = places.0.try_acquire().map_err(|_| Problem::busy("as many imports as may run at once are running"))?;
    let stop = CancellationToken::new();
    let (mut refused, mut named) = (Vec::<Refusal>::new(), 0);
    let mut hear = |event| {
        let Event::Refused(refusal) = event else { return };
        let another = refused.last().is_none_or(|last| last.line != refusal.line);
        named += u64::from(another);
        if named <= NAMED && (another || (refused.len() as u64) < NAMED) {
            refused.push(refusal);
        }
    };
    let running = import::run(&api.store, job, SyncIoBridge::new(StreamReader::new(patient(body))), &stop, &mut hear);
    let counts = tokio::time::timeout(LONGEST, running)
        .await
        .map_err(|_| ImportError::Input(io::Error::new(io::ErrorKind::TimedOut, "it takes longer than an hour")))??;
    let Counts { lines, inserted, updated, unchanged, refused: refused_total } = counts;
    if refused_total > 0 && refused_total == lines {
        return Err(Problem::all_wrong(refused_total, &refused));
    }
    Ok(Json(Imported { kind, dry_run, lines, inserted, updated, unchanged, refused_total, refused }).into_response())
}

/// The body's bytes; a caller who stays silent too long ends it.
pub(super) fn patient(body: Body) -> impl futures_util::Stream<Item = io::Result<axum::body::Bytes>> + Send + Unpin {
    let chunks = body.into_data_stream().map_err(io::Error::other);
    Box::pin(stream::unfold(chunks, |mut chunks| async move {
        let silent = || Some(Err(io::Error::new(io::ErrorKind::TimedOut, format!("nothing came for {SILENCE:?}"))));
        let chunk = tokio::time::timeout(SILENCE, chunks.next()).await.unwrap_or_else(|_| silent())?;
        Some((chunk, chunks))
    }))
}

fn format(headers: &HeaderMap) -> Result<Format, Problem> {
    match media_type(headers).as_str() {
        "text/csv" => Ok(Format::Csv { delimiter: None }),
        json if is_json_lines(json) => Ok(Format::JsonLines),
        _ => Err(Problem::unsupported("text/csv` or `application/x-ndjson")),
    }
}

impl From<ImportError> for Problem {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::Columns(error) => Self::malformed(error),
            ImportError::Input(error) => Self::cut(&error.to_string()),
            ImportError::Store(error) => error.into(),
        }
    }
}
