//! Signals in bulk: JSON lines, taken in as they come, in batches. Memory holds two of them. Repeats are folded, so the
//! same lines may be sent again when an answer got lost.

use super::ingest::{self, Answer, Caller, IngestError, Settings};
use super::intake::{FieldError, SignalIn};
use super::reading;
use crate::store::Store;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// Signals taken in together: enough to be fast, few enough not to keep others out for long.
const BATCH: usize = 2_000;
/// Fewer than this are not worth a second transaction.
const HALVED: usize = 500;

/// The first line of a batch waits this long for others.
const AT_MOST: Duration = Duration::from_millis(200);

/// What some editors begin a file with.
const BOM: &[u8] = "\u{feff}".as_bytes();

/// The longest line, in bytes: a signal with all its fields has a few hundred.
const LONGEST: usize = 16 * 1024;

/// What became of a line.
#[derive(Debug)]
pub struct Line {
    /// Its number, from 1.
    pub number: u64,
    /// The answer, or what is wrong with it.
    pub answer: Result<Answer, FieldError>,
}

/// Why it ended before the input did.
#[derive(Debug, thiserror::Error)]
pub enum BulkError {
    /// The input broke off. What came before is dealt with.
    #[error("the input cannot be read on after line {after}: {source}")]
    Input {
        /// The last line that was dealt with.
        after: u64,
        /// Why.
        source: io::Error,
    },
    /// The database. What came before is dealt with.
    #[error("line {after} was the last that was dealt with: {source}")]
    Ingest {
        /// The last line that was dealt with.
        after: u64,
        /// Why.
        source: IngestError,
    },
}

impl BulkError {
    /// Whether the database is away: later it may be taken in.
    #[must_use]
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Ingest { source: IngestError::Store(e), .. } if e.is_away())
    }
}

/// Takes lines in to the end of the input, or until `hear` has heard enough. Empty lines are skipped. Returns the number
/// of lines that were read.
///
/// # Errors
/// When the input cannot be read on, or the database fails; lines of which `hear` has heard are durable.
pub async fn run(
    store: &Store,
    settings: &Settings,
    caller: &Caller,
    input: impl AsyncBufRead + Unpin,
    mut hear: impl FnMut(Line) -> bool,
) -> Result<u64, BulkError> {
    let mut input = Lines { input, piece: Vec::new(), begun: false };
    let mut batch = Batch::read(&mut input, caller, 0).await;
    let mut after = 0;
    loop {
        let Batch { lines, number, end } = batch;
        // While the database is busy with one batch the next is read.
        let reading = async {
            match end {
                None => Ok(Batch::read(&mut input, caller, number).await),
                Some(end) => Err(end),
            }
        };
        // Whoever waits for an answer before it says more hears it meanwhile.
        let taking = async {
            let mut enough = false;
            for line in take(store, settings, caller, lines).await? {
                enough |= !hear(line);
            }
            Ok(enough)
        };
        let (enough, next) = tokio::join!(taking, reading);
        let enough = enough.map_err(|source| BulkError::Ingest { after, source })?;
        after = number;
        match next {
            _ if enough => return Ok(number),
            Ok(next) => batch = next,
            Err(Ok(())) => return Ok(number),
            Err(Err(source)) => return Err(BulkError::Input { after, source }),
        }
    }
}

/// Lines that are taken in together.
struct Batch {
    lines: Vec<(u64, Result<SignalIn, FieldError>)>,
    /// The number of the last line that was read.
    number: u64,
    /// The input ended here, or broke off.
    end: Option<io::Result<()>>,
}

impl Batch {
    /// What a source says now and then is not kept waiting for what it may say later.
    async fn read(input: &mut Lines<impl AsyncBufRead + Unpin>, caller: &Caller, after: u64) -> Self {
        let mut batch = Self { lines: Vec::with_capacity(BATCH), number: after, end: None };
        let mut until = None;
        while batch.lines.len() < BATCH && batch.end.is_none() {
            let next = match until {
                None => input.next().await,
                Some(until) => match tokio::time::timeout_at(until, input.next()).await {
                    Ok(next) => next,
                    Err(_) => break,
                },
            };
            match next {
                Ok(Some(line)) => {
                    batch.number += 1;
                    let line = if batch.number == 1 { line.strip_prefix(BOM).unwrap_or(&line) } else { &line };
                    if !line.trim_ascii().is_empty() {
                        batch.lines.push((batch.number, signal(line, caller)));
                        until = until.or_else(|| Some(tokio::time::Instant::now() + AT_MOST));
                    }
                }
                Ok(None) => batch.end = Some(Ok(())),
                Err(e) => batch.end = Some(Err(e)),
            }
        }
        batch
    }
}

fn signal(line: &[u8], caller: &Caller) -> Result<SignalIn, FieldError> {
    if line.len() > LONGEST {
        return Err(FieldError::new("line", format!("is longer than {LONGEST} bytes")));
    }
    // serde takes one for the fields in their order.
    if line.trim_ascii_start().starts_with(b"[") {
        return Err(FieldError::new("body", "is an array: a line holds one signal, as an object"));
    }
    let said: SignalIn = reading::input(line).map_err(reading::Unreadable::into_field)?;
    said.check()?;
    if said.is_covering() && !caller.may_cover {
        return Err(FieldError::new("connections", "`all` needs a key with the scope `recover_covering`"));
    }
    Ok(said)
}

/// Takes a batch in. Where the database has several writers and the batch is about connections alone, it is taken in as
/// two halves beside each other: what is said of one connection stays together, and in its order.
async fn take(
    store: &Store,
    settings: &Settings,
    caller: &Caller,
    batch: Vec<(u64, Result<SignalIn, FieldError>)>,
) -> Result<Vec<Line>, IngestError> {
    let in_order = !store.has_several_writers()
        || batch.len() < HALVED
        || batch.iter().any(|(_, said)| said.as_ref().is_ok_and(|said| said.component.is_some()));
    let half = |said: &SignalIn| match &said.connection {
        Some(key) if !in_order => usize::from(key.bytes().fold(0, u8::wrapping_add) & 1),
        _ => 0,
    };
    let mut halves: [Vec<SignalIn>; 2] = [Vec::new(), Vec::new()];
    let mut places = Vec::with_capacity(batch.len());
    for (number, read) in batch {
        let place = read.map(|said| {
            let half = half(&said);
            halves[half].push(said);
            half
        });
        places.push((number, place));
    }
    let [first, second] = &halves;
    let (first, second) =
        tokio::try_join!(answers(store, settings, caller, first), answers(store, settings, caller, second))?;
    let mut answers = [first.into_iter(), second.into_iter()];
    let whole = places.into_iter().filter_map(|(number, place)| {
        let answer = match place {
            Ok(half) => answers.get_mut(half)?.next()?,
            Err(error) => Err(error),
        };
        Some(Line { number, answer })
    });
    Ok(whole.collect())
}

async fn answers(
    store: &Store,
    settings: &Settings,
    caller: &Caller,
    said: &[SignalIn],
) -> Result<Vec<Result<Answer, FieldError>>, IngestError> {
    if said.is_empty() { Ok(Vec::new()) } else { ingest::many_signals(store, settings, caller, said).await }
}

/// An input, line by line. A line of which a part has come is kept when nobody waits for the rest of it any more.
struct Lines<I> {
    input: I,
    piece: Vec<u8>,
    begun: bool,
}

impl<I: AsyncBufRead + Unpin> Lines<I> {
    /// The next line without its end; of one that is too long only so much that it is seen to be.
    async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let there = self.input.fill_buf().await?;
            let end = there.iter().position(|byte| *byte == b'\n');
            let is_last = there.is_empty();
            let piece = &there[..end.unwrap_or(there.len())];
            let room = (LONGEST + 1).saturating_sub(self.piece.len());
            self.piece.extend_from_slice(&piece[..piece.len().min(room)]);
            self.begun |= !is_last;
            let used = end.map_or(there.len(), |end| end + 1);
            self.input.consume(used);
            if is_last && !self.begun {
                return Ok(None);
            }
            if is_last || end.is_some() {
                self.begun = false;
                return Ok(Some(std::mem::take(&mut self.piece)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(text: &[u8]) -> Vec<usize> {
        let input = tokio::io::BufReader::with_capacity(7, text);
        let (mut lines, mut lengths) = (Lines { input, piece: Vec::new(), begun: false }, Vec::new());
        while let Some(line) = lines.next().await.unwrap() {
            lengths.push(line.len());
        }
        lengths
    }

    #[tokio::test]
    async fn lines_are_parted_wherever_the_pieces_end_and_a_long_one_is_cut() {
        assert_eq!(lines(b"").await, [0; 0]);
        assert_eq!(lines(b"1234567\n\n12\n").await, [7, 0, 2]);
        assert_eq!(lines(b"12345678901\nno end").await, [11, 6]);
        let long = [b"x".repeat(3 * LONGEST), b"\nnext".to_vec()].concat();
        assert_eq!(lines(&long).await, [LONGEST + 1, 4]);
    }
}
