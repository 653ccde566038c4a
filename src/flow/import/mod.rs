//! Import: many components, connections, subscribers, subscriptions or attributes out of one file or request.
//!
//! One thread reads and checks lines (`lines`, `columns`, `row`), the caller's task writes them batch by batch
//! (`batch`), each in a transaction of its own: memory stays flat, and a stop leaves whole batches. The checks are
//! those of the PUTs. Lines count one after the other, so the later of two with the same key wins; what is already
//! there, or is left out by a line, is left alone, so an import can be run again. `one` puts one in the same way.

mod batch;
mod columns;
mod lines;
mod one;
mod row;

use super::intake::FieldError;
use crate::domain::kind::Kind;
use crate::store::import::{Component, Connection};
use crate::store::import_people::{Attribute, Subscriber};
use crate::store::import_subscriptions::Subscription;
use crate::store::{Store, StoreError};
pub use one::{component, connection, subscriber};
use row::Row;
use serde::Serialize;
use std::io::Read;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Batches read ahead of the database.
const AHEAD: usize = 1;

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A row of column names, then rows of cells; several values in a cell are parted by `|`.
    Csv {
        /// What parts the cells; none: the comma, semicolon or tab of the first row.
        delimiter: Option<u8>,
    },
    /// A JSON object a line, with the fields of the PUT and its `key`.
    JsonLines,
}

/// What to import, and how.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// What the lines are.
    pub kind: Kind,
    /// How they are written.
    pub format: Format,
    /// Check everything, write nothing.
    pub dry_run: bool,
}

/// What became of the lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Lines with content, less the column names.
    pub lines: u64,
    /// Were not there before.
    pub inserted: u64,
    /// Were there, and differed.
    pub updated: u64,
    /// Were there as they are.
    pub unchanged: u64,
    /// Were wrong; nothing of such a line is taken.
    pub refused: u64,
}

impl Counts {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            lines: self.lines + other.lines,
            inserted: self.inserted + other.inserted,
            updated: self.updated + other.updated,
            unchanged: self.unchanged + other.unchanged,
            refused: self.refused + other.refused,
        }
    }
}

/// One thing that is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The line, from 1.
    pub line: u64,
    /// The field or column; `line` when it is none in particular.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

/// What an import says on its way.
#[derive(Clone, Debug)]
pub enum Event {
    /// A line is wrong, in the order of the lines.
    Refused(Refusal),
    /// A batch is durable (or, in a dry run, checked).
    Done {
        /// All so far.
        counts: Counts,
        /// Bytes of the input read so far.
        bytes: u64,
    },
}

/// Why an import ended before its input did. What was counted as done stays done.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The row of column names cannot be used; nothing was taken.
    #[error("{} {}", .0.field, .0.what)]
    Columns(FieldError),
    /// The input cannot be read on.
    #[error("the input cannot be read: {0}")]
    Input(#[from] std::io::Error),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Imports an input to its end, or until it is told to stop; then after a whole batch.
///
/// # Errors
/// When the column names cannot be used, the input cannot be read on, or the database fails.
pub async fn run(
    store: &Store,
    job: Job,
    input: impl Read + Send + 'static,
    stop: &CancellationToken,
    hear: &mut (dyn FnMut(Event) + Send),
) -> Result<Counts, ImportError> {
    match job.kind {
        Kind::Components => of::<Component>(store, job, input, stop, hear).await,
        Kind::Connections => of::<Connection>(store, job, input, stop, hear).await,
        Kind::Subscribers => of::<Subscriber>(store, job, input, stop, hear).await,
        Kind::Subscriptions => of::<Subscription>(store, job, input, stop, hear).await,
        Kind::Attributes => of::<Attribute>(store, job, input, stop, hear).await,
    }
}

async fn of<R: Row>(
    store: &Store,
    job: Job,
    input: impl Read + Send + 'static,
    stop: &CancellationToken,
    hear: &mut (dyn FnMut(Event) + Send),
) -> Result<Counts, ImportError> {
    let (out, mut batches) = mpsc::channel(AHEAD);
    // Not of the runtime's: that would wait for a reader of an idle standard input before the program could end.
    std::thread::Builder::new().name("import".to_owned()).spawn(move || lines::read::<R>(job, input, &out))?;
    let mut book = batch::Book::new(job.dry_run);
    loop {
        let next = tokio::select! { biased; () = stop.cancelled() => None, next = batches.recv() => next };
        let Some(next) = next else { return Ok(book.counts) };
        let next = next?;
        book.take(store, &next, hear).await?;
        hear(Event::Done { counts: book.counts, bytes: next.bytes });
    }
}
