//! `POST /v1/signals` with JSON lines: taken in as they arrive, with a result for each line that is wrong.

use super::import::patient;
use super::{Api, Problem};
use crate::flow::bulk::{self, BulkError};
use crate::flow::import::Refusal;
use crate::flow::ingest::{Became, Caller};
use crate::flow::intake::FieldError;
use axum::Json;
use axum::body::Body;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::BufReader;
use tokio::sync::Semaphore;
use tokio_util::io::StreamReader;

/// Such requests at once: one more would only wait for the others' locks.
const AT_ONCE: usize = 4;
/// The longest request.
const LONGEST: Duration = Duration::from_secs(3_600);
/// Wrong lines that are answered one by one; the rest is counted, for memory must not grow with somebody's mistakes. What is
/// right is taken in all the same: a line that nobody understands keeps no outage from being seen.
pub(super) const NAMED: u64 = 10_000;

/// Lets so many requests run at once.
#[derive(Clone)]
pub(super) struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

#[derive(Default, Serialize)]
struct Taken {
    lines: u64,
    /// What became of those that were taken in.
    outcomes: BTreeMap<&'static str, u64>,
    refused_total: u64,
    /// What is wrong with the first [`NAMED`] of them.
    refused: Vec<Refusal>,
}

pub(super) async fn signals(
    api: &Api,
    places: &Places,
    caller: &Caller,
    key: Option<String>,
    body: Body,
) -> Result<Response, Problem> {
    if key.is_some() {
        let what = "is for one signal; lines are known again by their `sequence` or `observed_at`";
        return Err(Problem::malformed(FieldError::new("Idempotency-Key", what)));
    }
    let _place = places.0.try_acquire().map_err(|_| Problem::busy("as many long requests as may run are running"))?;
    let mut taken = Taken::default();
    let hear = |line: bulk::Line| {
        taken.lines = line.number;
        match line.answer {
            Ok(answer) => *taken.outcomes.entry(Became::as_str(answer.outcome)).or_default() += 1,
            Err(FieldError { field, what }) => {
                taken.refused_total += 1;
                if taken.refused_total <= NAMED {
                    taken.refused.push(Refusal { line: line.number, field, reason: what });
                }
            }
        }
        true
    };
    let input = BufReader::new(StreamReader::new(patient(body)));
    let settings = api.setting.ingest();
    let running = bulk::run(&api.store, &settings, caller, input, hear);
    match tokio::time::timeout(LONGEST, running).await {
        Ok(Ok(lines)) => taken.lines = lines,
        Ok(Err(error)) => return Err(taken.until(error)),
        Err(_) => return Err(Problem::cut("it takes longer than an hour").with_lines(&taken)),
    }
    if taken.outcomes.is_empty() && taken.refused_total > 0 {
        return Err(Problem::all_wrong(taken.refused_total, &taken.refused));
    }
    Ok((StatusCode::ACCEPTED, Json(taken)).into_response())
}

impl Taken {
    /// Why it ended before the body did: what was refused until then is named here or nowhere.
    fn until(&self, error: BulkError) -> Problem {
        let said = error.to_string();
        let problem = match error {
            BulkError::Input { .. } => Problem::cut(&said),
            BulkError::Ingest { after: 0, source } => source.into(),
            BulkError::Ingest { after, source } => Problem::from(source).after_lines(after, self.refused_total),
        };
        problem.with_lines(self)
    }
}
