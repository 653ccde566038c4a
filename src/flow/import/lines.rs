//! Reading lines into batches, on a thread of its own and in bounded memory.

use super::super::intake::FieldError;
use super::super::reading::object;
use super::columns::Columns;
use super::row::{Line, Row};
use super::{Format, ImportError, Job};
use crate::domain::kind::Kind;
use serde_json::{Map, Value};
use std::io::{self, BufRead, BufReader, Read};
use tokio::sync::mpsc::Sender;

/// The longest line in bytes. A connection with all its subscribers fits several times.
const LONGEST: usize = 256 * 1024;
/// A batch ends at so many lines, or at so many bytes. Keys in no order touch most pages of an index in every batch:
/// the more lines a batch has, the less is written for each.
const LINES: usize = 16_000;
const BYTES: u64 = 8 * 1024 * 1024;

/// A line as it was read, or all that is wrong with it.
type Judged<R> = Result<Line<R>, Vec<FieldError>>;

/// Lines that are written together.
pub(super) struct Batch<R> {
    /// Number and content of each, or what is wrong with it.
    pub(super) lines: Vec<(u64, Judged<R>)>,
    /// Bytes of the input up to its end.
    pub(super) bytes: u64,
}

/// Reads an input to its end, or until nobody takes batches any more.
pub(super) fn read<R: Row>(job: Job, input: impl Read, out: &Sender<Result<Batch<R>, ImportError>>) {
    if let Err(error) = batches(job, input, out) {
        // Nobody to tell: the import was stopped.
        let _ = out.blocking_send(Err(error));
    }
}

fn batches<R: Row>(job: Job, input: impl Read, out: &Sender<Result<Batch<R>, ImportError>>) -> Result<(), ImportError> {
    let mut source =
        Source { input: BufReader::with_capacity(64 * 1024, input), line: Vec::new(), number: 0, bytes: 0 };
    let mut cells = match job.format {
        Format::JsonLines => None,
        Format::Csv { delimiter } => Some(Cells::open(job.kind, delimiter, &mut source)?),
    };
    loop {
        let from = source.bytes;
        let mut batch = Batch { lines: Vec::new(), bytes: 0 };
        let mut more = true;
        while more && batch.lines.len() < LINES && source.bytes - from < BYTES {
            let Some(fits) = source.next()? else {
                more = false;
                break;
            };
            let number = source.number;
            let fields = match &mut cells {
                _ if !fits => {
                    // Where quotes stood in the rest is not known: what follows might be the inside of a cell.
                    more = cells.is_none();
                    let after = if more { "" } else { "; nothing after it is read" };
                    Err(FieldError::new("line", format!("is longer than {LONGEST} bytes{after}")))
                }
                Some(cells) => cells.fields(&mut source)?,
                None => object(&source.line),
            };
            let columns = cells.as_ref().map(|cells| &cells.columns);
            let line = fields.map_err(|error| vec![error]).and_then(|fields| Line::read(fields, columns));
            batch.lines.push((number, line));
        }
        batch.bytes = source.bytes;
        if !batch.lines.is_empty() && out.blocking_send(Ok(batch)).is_err() || !more {
            return Ok(());
        }
    }
}

/// Lines with content, one at a time.
struct Source<I> {
    input: I,
    /// The present one, without its end.
    line: Vec<u8>,
    number: u64,
    bytes: u64,
}

impl<I: BufRead> Source<I> {
    /// Goes to the next line that is not blank; false when it is too long, and then it is cut.
    fn next(&mut self) -> io::Result<Option<bool>> {
        loop {
            match self.physical()? {
                Some(true) if self.line.trim_ascii().is_empty() => {}
                other => return Ok(other),
            }
        }
    }

    /// Goes to the next line, blank or not.
    fn physical(&mut self) -> io::Result<Option<bool>> {
        self.line.clear();
        let read = self.input.by_ref().take(LONGEST as u64 + 2).read_until(b'\n', &mut self.line)?;
        if read == 0 {
            return Ok(None);
        }
        self.bytes += read as u64;
        self.number += 1;
        if self.number == 1 && self.line.starts_with("\u{feff}".as_bytes()) {
            self.line.drain(..3);
        }
        let whole = self.line.ends_with(b"\n") || self.line.len() <= LONGEST;
        if !whole {
            self.bytes += self.input.skip_until(b'\n')? as u64;
        }
        while self.line.last().is_some_and(|end| matches!(end, b'\n' | b'\r')) {
            self.line.pop();
        }
        Ok(Some(whole && self.line.len() <= LONGEST))
    }
}

/// Lines of CSV. A cell may go on over lines, and then is refused: no field has line breaks, and a line that stands
/// inside a quoted cell must not be taken for a row of its own.
struct Cells {
    csv: csv_core::Reader,
    columns: Columns,
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Cells {
    /// Reads the column names from the first line.
    fn open<I: BufRead>(kind: Kind, delimiter: Option<u8>, source: &mut Source<I>) -> Result<Self, ImportError> {
        let refused = |what: &str| ImportError::Columns(FieldError::new("the first line", what));
        match source.next()? {
            None => return Err(refused("is missing: it names the columns")),
            Some(false) => return Err(refused("is too long to name columns")),
            Some(true) => {}
        }
        let found = || b",;\t".iter().copied().find(|candidate| source.line.contains(candidate));
        let csv = csv_core::ReaderBuilder::new()
            .delimiter(delimiter.or_else(found).unwrap_or(b','))
            .terminator(csv_core::Terminator::Any(b'\n'))
            .build();
        let mut cells = Self { csv, columns: Columns::default(), text: vec![0; 4_096], ends: vec![0; 64] };
        let Some(count) = cells.split(&source.line) else {
            return Err(refused("opens a quote and does not close it"));
        };
        let names = texts(&cells.text, &cells.ends[..count]);
        let names = names.map_err(|_| refused("is not UTF-8"))?;
        cells.columns = Columns::read(kind, &names).map_err(ImportError::Columns)?;
        Ok(cells)
    }

    /// The fields of the present line.
    fn fields<I: BufRead>(&mut self, source: &mut Source<I>) -> io::Result<Result<Map<String, Value>, FieldError>> {
        let Some(count) = self.split(&source.line) else { return self.runaway(source).map(Err) };
        Ok(texts(&self.text, &self.ends[..count])
            .map_err(|at| FieldError::new(self.columns.name(at), "is not UTF-8"))
            .and_then(|cells| self.columns.fields(&cells)))
    }

    /// Goes on to the line where the open cell closes.
    fn runaway<I: BufRead>(&mut self, source: &mut Source<I>) -> io::Result<FieldError> {
        // Behind a line that was cut nobody knows where quotes stand.
        let mut known = true;
        while let Some(fits) = source.physical()? {
            known &= fits;
            if known && self.split(&source.line).is_some() {
                let what = format!("opens a quote that closes in line {}: line breaks are not taken", source.number);
                return Ok(FieldError::new("line", what));
            }
        }
        Ok(FieldError::new("line", "opens a quote that nothing closes: all after it belongs to this cell"))
    }

    /// Splits a line; how many cells it has, or nothing when a quote is still open at its end.
    fn split(&mut self, line: &[u8]) -> Option<usize> {
        let (mut read, mut written, mut count) = (0, 0, 0);
        let line_end = [line, b"\n"].concat();
        loop {
            let (result, took, wrote, ended) =
                self.csv.read_record(&line_end[read..], &mut self.text[written..], &mut self.ends[count..]);
            (read, written, count) = (read + took, written + wrote, count + ended);
            match result {
                csv_core::ReadRecordResult::OutputFull => self.text.resize(self.text.len() * 2, 0),
                csv_core::ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                csv_core::ReadRecordResult::Record => return Some(count),
                csv_core::ReadRecordResult::InputEmpty | csv_core::ReadRecordResult::End => return None,
            }
        }
    }
}

/// The cells as texts, or the position of the first that is none.
fn texts<'a>(text: &'a [u8], ends: &[usize]) -> Result<Vec<&'a str>, usize> {
    let mut from = 0;
    let cells = ends.iter().enumerate().map(|(position, end)| {
        let cell = text.get(from..*end).unwrap_or_default();
        from = *end;
        std::str::from_utf8(cell).map_err(|_| position)
    });
    cells.collect()
}
