//! What goes to standard output: one JSON document, or text with plain tables.

use super::failure::{FAILURE, Failure};
use serde::Serialize;
use std::io::{ErrorKind, Write};

/// Writes text. A reader that has gone away (`| head`) is no failure.
///
/// # Errors
/// When standard output cannot be written otherwise.
pub fn text(text: &str) -> Result<(), Failure> {
    bytes(text.as_bytes())
}

/// Writes bytes as they are; else as [`text`].
///
/// # Errors
/// As [`text`].
pub fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(FAILURE, format!("standard output cannot be written: {e}"), "check where it leads"))
        }
        _ => Ok(()),
    }
}

/// Writes one JSON document.
///
/// # Errors
/// When standard output cannot be written.
pub fn json<T: Serialize>(value: &T) -> Result<(), Failure> {
    let written = serde_json::to_string_pretty(value)
        .map_err(|e| Failure::new(FAILURE, format!("the answer cannot be written: {e}"), ""))?;
    text(&(written + "\n"))
}

/// A table with columns as wide as their widest cell.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with its headings.
    #[must_use]
    pub fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| heading.to_uppercase()).collect()] }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| self.rows.iter().map(|r| r.get(column).map_or(0, |c| c.chars().count())).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// A text from outside without what could move the terminal's cursor.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A value, or a dash.
pub fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_lines_up_and_keeps_control_characters_out() {
        let mut table = Table::new(&["key", "name"]);
        table.row(["imap".to_owned(), "Mail\u{1b}[2J".to_owned()]);
        assert_eq!(table.to_string(), "KEY   NAME\nimap  Mail\u{fffd}[2J\n");
    }
}
