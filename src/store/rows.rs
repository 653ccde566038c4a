//! New rows by the thousand. SQLite reads them from one JSON parameter; PostgreSQL takes them as a COPY, which parses
//! nothing and fills the table page by page.

use super::copy_in::{CopyIn, begin_row, put_cell};
use super::seam::Handle;
use super::{Sql, StoreError, Tx};
use std::borrow::Cow;
use uuid::Uuid;

/// Of fewer rows a COPY costs a round trip more than it saves.
const COPIED: usize = 64;

/// A value, with what is absent being `NULL`.
pub(super) enum Cell<'a> {
    Id(Option<Uuid>),
    Number(Option<i64>),
    Text(Option<Cow<'a, str>>),
}

impl From<Uuid> for Cell<'_> {
    fn from(id: Uuid) -> Self {
        Self::Id(Some(id))
    }
}

impl From<Option<Uuid>> for Cell<'_> {
    fn from(id: Option<Uuid>) -> Self {
        Self::Id(id)
    }
}

impl From<i64> for Cell<'_> {
    fn from(number: i64) -> Self {
        Self::Number(Some(number))
    }
}

impl From<Option<i64>> for Cell<'_> {
    fn from(number: Option<i64>) -> Self {
        Self::Number(number)
    }
}

impl<'a> From<&'a str> for Cell<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Some(Cow::Borrowed(text)))
    }
}

impl From<String> for Cell<'_> {
    fn from(text: String) -> Self {
        Self::Text(Some(Cow::Owned(text)))
    }
}

impl<'a> From<Option<&'a str>> for Cell<'a> {
    fn from(text: Option<&'a str>) -> Self {
        Self::Text(text.map(Cow::Borrowed))
    }
}

/// Adds rows, each a list of the same columns with their values; `sql` adds the same ones from JSON.
pub(super) fn add<'t, 'a, const N: usize>(
    tx: &'t mut Tx,
    table: &str,
    sql: Sql,
    rows: impl ExactSizeIterator<Item = Row<'a, N>>,
) -> impl Future<Output = Result<(), StoreError>> + Send + 't {
    let copied = rows.len() >= COPIED && matches!(tx.handle(), Handle::Postgres(_));
    let new = match copied {
        true => New::binary(table, rows),
        false => New::Json(json(rows)),
    };
    put(tx, sql, new)
}

/// Adds rows by the statement alone: for what only it does, such as leaving out what is there already.
pub(super) fn add_as_json<'t, 'a, const N: usize>(
    tx: &'t mut Tx,
    sql: Sql,
    rows: impl Iterator<Item = Row<'a, N>>,
) -> impl Future<Output = Result<(), StoreError>> + Send + 't {
    put(tx, sql, New::Json(json(rows)))
}

/// A row: each column with its value.
pub(super) type Row<'a, const N: usize> = [(&'static str, Cell<'a>); N];

/// Rows as the database takes them. Made before anything is waited for: what they are made of need not live so long.
enum New {
    Json(String),
    Binary { statement: String, rows: Vec<u8> },
}

impl New {
    fn binary<'a, const N: usize>(table: &str, of: impl Iterator<Item = Row<'a, N>>) -> Self {
        let (mut columns, mut rows) = (String::new(), Vec::new());
        for row in of {
            if columns.is_empty() {
                columns = row.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            }
            begin_row(&mut rows, N);
            for (_, cell) in &row {
                match cell {
                    Cell::Id(id) => put_cell(&mut rows, id.as_ref().map(|id| id.as_bytes().as_slice())),
                    Cell::Number(n) => put_cell(&mut rows, n.map(i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice)),
                    Cell::Text(text) => put_cell(&mut rows, text.as_deref().map(str::as_bytes)),
                }
            }
        }
        Self::Binary { statement: format!("COPY {table} ({columns}) FROM STDIN WITH (FORMAT binary)"), rows }
    }
}

async fn put(tx: &mut Tx, sql: Sql, new: New) -> Result<(), StoreError> {
    match (new, tx.handle()) {
        (New::Json(rows), _) if rows == "[]" => Ok(()),
        (New::Json(rows), _) => exec!(tx, sql, rows).map(drop),
        (New::Binary { statement, rows }, Handle::Postgres(conn)) => {
            let mut copy = CopyIn::begin(conn, &statement).await?;
            copy.rows(&rows).await?;
            copy.finish().await
        }
        (New::Binary { .. }, Handle::Sqlite(_)) => {
            Err(StoreError::failed("COPY", sqlx::Error::Protocol("SQLite knows no COPY".to_owned())))
        }
    }
}

/// The rows as `over_rows!` reads them.
pub(super) fn json<'a, const N: usize>(rows: impl Iterator<Item = Row<'a, N>>) -> String {
    let mut text = String::from("[");
    for (n, row) in rows.enumerate() {
        text.push_str(if n == 0 { "{" } else { ",{" });
        for (n, (name, cell)) in row.iter().enumerate() {
            text.push_str(if n == 0 { "\"" } else { ",\"" });
            text.push_str(name);
            text.push_str("\":");
            match cell {
                Cell::Id(Some(id)) => {
                    text.push('"');
                    text.push_str(id.simple().encode_lower(&mut Uuid::encode_buffer()));
                    text.push('"');
                }
                Cell::Number(Some(number)) => text.push_str(&number.to_string()),
                Cell::Text(Some(value)) => text.push_str(&serde_json::to_string(value).unwrap_or_default()),
                Cell::Id(None) | Cell::Number(None) | Cell::Text(None) => text.push_str("null"),
            }
        }
        text.push('}');
    }
    text.push(']');
    text
}
