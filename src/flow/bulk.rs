//! Signals in bulk: JSON lines, taken in as they come, a batch a transaction. Memory holds one batch. Repeats are
//! folded, so the same lines may be sent again when an answer got lost.

use super::ingest::{self, Answer, Caller, IngestError, Settings};
use super::intake::{FieldError, SignalIn};
use super::reading;
use crate::store::Store;
use std::io;
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// Signals taken in together: enough to be fast, few enough not to keep others out for long.
const BATCH: usize = 1_000;

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
    /// The input broke off. What came before is taken in.
    #[error("the input cannot be read on after line {after}: {source}")]
    Input {
        /// The last line that was taken in.
        after: u64,
        /// Why.
        source: io::Error,
    },
    /// The database. What came before is taken in.
    #[error("line {after} was the last that was taken in: {source}")]
    Ingest {
        /// The last line that was taken in.
        after: u64,
        /// Why.
        source: IngestError,
    },
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
    mut input: impl AsyncBufRead + Unpin,
    mut hear: impl FnMut(Line) -> bool,
) -> Result<u64, BulkError> {
    let (mut number, mut after) = (0, 0);
    let mut batch: Vec<(u64, Result<SignalIn, FieldError>)> = Vec::with_capacity(BATCH);
    let mut bytes = Vec::new();
    loop {
        let read = next_line(&mut input, &mut bytes).await;
        let ended = !matches!(read, Ok(Some(())));
        if !ended {
            number += 1;
            if !bytes.trim_ascii().is_empty() {
                batch.push((number, signal(&bytes, caller)));
            }
        }
        if ended || batch.len() == BATCH {
            let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
            let taken = take(store, settings, caller, full).await;
            let lines = taken.map_err(|source| BulkError::Ingest { after, source })?;
            after = number;
            let mut enough = false;
            for line in lines {
                enough |= !hear(line);
            }
            if enough {
                return Ok(number);
            }
        }
        match read {
            Ok(Some(())) => {}
            Ok(None) => return Ok(number),
            Err(source) => return Err(BulkError::Input { after, source }),
        }
    }
}

fn signal(line: &[u8], caller: &Caller) -> Result<SignalIn, FieldError> {
    if line.len() > LONGEST {
        return Err(FieldError::new("line", format!("is longer than {LONGEST} bytes")));
    }
    let said: SignalIn = reading::input(line).map_err(reading::Unreadable::into_field)?;
    said.check()?;
    if said.is_covering() && !caller.may_cover {
        return Err(FieldError::new("connections", "`all` needs a key with the scope `recover_covering`"));
    }
    Ok(said)
}

async fn take(
    store: &Store,
    settings: &Settings,
    caller: &Caller,
    batch: Vec<(u64, Result<SignalIn, FieldError>)>,
) -> Result<Vec<Line>, IngestError> {
    let mut said = Vec::with_capacity(batch.len());
    let mut lines: Vec<(u64, Option<FieldError>)> = Vec::with_capacity(batch.len());
    for (number, read) in batch {
        lines.push((
            number,
            match read {
                Ok(one) => {
                    said.push(one);
                    None
                }
                Err(error) => Some(error),
            },
        ));
    }
    let answers =
        if said.is_empty() { Vec::new() } else { ingest::many_signals(store, settings, caller, &said).await? };
    let mut answers = answers.into_iter();
    let whole = lines.into_iter().filter_map(|(number, error)| {
        let answer = error.map_or_else(|| answers.next(), |error| Some(Err(error)))?;
        Some(Line { number, answer })
    });
    Ok(whole.collect())
}

/// The next line without its end, in `into`; of one that is too long only so much that it is seen to be.
async fn next_line(input: &mut (impl AsyncBufRead + Unpin), into: &mut Vec<u8>) -> io::Result<Option<()>> {
    into.clear();
    let mut any = false;
    loop {
        let there = input.fill_buf().await?;
        if there.is_empty() {
            return Ok(any.then_some(()));
        }
        any = true;
        let end = there.iter().position(|byte| *byte == b'\n');
        let piece = &there[..end.unwrap_or(there.len())];
        let room = (LONGEST + 1).saturating_sub(into.len());
        into.extend_from_slice(&piece[..piece.len().min(room)]);
        let used = end.map_or(there.len(), |end| end + 1);
        input.consume(used);
        if end.is_some() {
            return Ok(Some(()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(text: &[u8]) -> Vec<usize> {
        let mut input = tokio::io::BufReader::with_capacity(7, text);
        let (mut into, mut lengths) = (Vec::new(), Vec::new());
        while next_line(&mut input, &mut into).await.unwrap().is_some() {
            lengths.push(into.len());
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
