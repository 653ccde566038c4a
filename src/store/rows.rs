//! New rows by the thousand. SQLite reads them from one JSON parameter; PostgreSQL takes them as an array for each column,
//! in its binary format, so that it parses nothing. A COPY would be a little faster still where it is not in the way: it
//! ends with two small writes in a row, for the second of which TCP waits until the first is acknowledged, on a
//! connection of questions and answers 40 ms later (RFC 896, RFC 1122 4.2.3.2), and sqlx knows no TCP_NODELAY.

use super::seam::Handle;
use super::{Sql, StoreError, Tx};
use sqlx::AssertSqlSafe;
use std::borrow::Cow;
use std::io::Write as _;
use uuid::Uuid;

/// Fewer rows go as JSON: the statement is there already.
const AS_COLUMNS: usize = 64;

/// A value, with what is absent being `NULL`.
pub(super) enum Cell<'a> {
    Id(Option<Uuid>),
    Number(Option<i64>),
    Text(Option<Cow<'a, str>>),
    Flag(bool),
}

/// A row: the columns by name, each with its value; a variable of a column's name is its value.
macro_rules! columns {
    (@ $column:ident) => { columns!(@ $column: $column) };
    (@ $column:ident: $value:expr) => { (stringify!($column), $crate::store::rows::Cell::from($value)) };
    ($($column:ident $(: $value:expr)?),+ $(,)?) => { [$(columns!(@ $column $(: $value)?)),+] };
}

impl From<bool> for Cell<'_> {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
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

impl From<&Uuid> for Cell<'_> {
    fn from(id: &Uuid) -> Self {
        Self::Id(Some(*id))
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

impl<'a> From<&&'a str> for Cell<'a> {
    fn from(text: &&'a str) -> Self {
        Self::Text(Some(Cow::Borrowed(text)))
    }
}

impl<'a> From<&'a String> for Cell<'a> {
    fn from(text: &'a String) -> Self {
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
    let many = rows.len() >= AS_COLUMNS && matches!(tx.handle(), Handle::Postgres(_));
    let new = match many {
        true => New::columns(table, rows),
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
    Columns { statement: String, columns: Vec<Column>, rows: usize },
}

/// The values of one column, of all rows.
enum Column {
    Ids(Vec<Option<Uuid>>),
    Numbers(Vec<Option<i64>>),
    Texts(Vec<Option<String>>),
    Flags(Vec<bool>),
}

impl Column {
    /// A column with its first cell; the others are of the same kind.
    fn of(cell: Cell<'_>) -> Self {
        match cell {
            Cell::Id(id) => Self::Ids(vec![id]),
            Cell::Number(number) => Self::Numbers(vec![number]),
            Cell::Text(text) => Self::Texts(vec![text.map(Cow::into_owned)]),
            Cell::Flag(flag) => Self::Flags(vec![flag]),
        }
    }

    fn push(&mut self, cell: Cell<'_>) {
        match (self, cell) {
            (Self::Ids(all), Cell::Id(id)) => all.push(id),
            (Self::Numbers(all), Cell::Number(number)) => all.push(number),
            (Self::Texts(all), Cell::Text(text)) => all.push(text.map(Cow::into_owned)),
            (Self::Flags(all), Cell::Flag(flag)) => all.push(flag),
            // Left out: a column that is too short is refused.
            _ => {}
        }
    }

    const fn len(&self) -> usize {
        match self {
            Self::Ids(all) => all.len(),
            Self::Numbers(all) => all.len(),
            Self::Texts(all) => all.len(),
            Self::Flags(all) => all.len(),
        }
    }

    const fn array(&self) -> &'static str {
        match self {
            Self::Ids(_) => "uuid[]",
            Self::Numbers(_) => "bigint[]",
            Self::Texts(_) => "text[]",
            Self::Flags(_) => "boolean[]",
        }
    }
}

impl New {
    fn columns<'a, const N: usize>(table: &str, of: impl Iterator<Item = Row<'a, N>>) -> Self {
        let (mut names, mut columns, mut rows) = (Vec::new(), Vec::<Column>::new(), 0);
        for row in of {
            rows += 1;
            for (n, (name, cell)) in row.into_iter().enumerate() {
                match columns.get_mut(n) {
                    Some(column) => column.push(cell),
                    None => {
                        names.push(name);
                        columns.push(Column::of(cell));
                    }
                }
            }
        }
        let arrays = columns.iter().enumerate().map(|(n, column)| format!("${}::{}", n + 1, column.array()));
        let arrays = arrays.collect::<Vec<_>>().join(", ");
        let statement = format!("INSERT INTO {table} ({}) SELECT * FROM unnest({arrays})", names.join(", "));
        Self::Columns { statement, columns, rows }
    }
}

async fn put(tx: &mut Tx, sql: Sql, new: New) -> Result<(), StoreError> {
    match (new, tx.handle()) {
        (New::Json(rows), _) if rows == "[]" => Ok(()),
        (New::Json(rows), _) => exec!(tx, sql, rows).map(drop),
        (New::Columns { columns, rows, .. }, _) if columns.iter().any(|column| column.len() != rows) => {
            let why = "a column has values of two kinds".to_owned();
            Err(StoreError::failed(sql.name, sqlx::Error::Protocol(why)))
        }
        (New::Columns { statement, columns, .. }, Handle::Postgres(conn)) => {
            // Made of names in this program and of numbers.
            let query = columns.into_iter().fold(sqlx::query(AssertSqlSafe(statement)), |query, column| match column {
                Column::Ids(all) => query.bind(all),
                Column::Numbers(all) => query.bind(all),
                Column::Texts(all) => query.bind(all),
                Column::Flags(all) => query.bind(all),
            });
            query.execute(conn).await.map_err(|e| StoreError::failed(sql.name, e)).map(drop)
        }
        (New::Columns { .. }, Handle::Sqlite(_)) => {
            Err(StoreError::failed(sql.name, sqlx::Error::Protocol("SQLite takes no arrays".to_owned())))
        }
    }
}

/// The rows as `over_rows!` reads them.
pub(super) fn json<'a, const N: usize>(rows: impl IntoIterator<Item = Row<'a, N>>) -> String {
    let mut text = Vec::new();
    for (n, row) in rows.into_iter().enumerate() {
        text.push(if n == 0 { b'[' } else { b',' });
        for (n, (name, cell)) in row.iter().enumerate() {
            text.extend_from_slice(if n == 0 { "{\"" } else { ",\"" }.as_bytes());
            text.extend_from_slice(name.as_bytes());
            text.extend_from_slice(b"\":");
            cell.write(&mut text);
        }
        text.push(b'}');
    }
    if text.is_empty() {
        text.push(b'[');
    }
    text.push(b']');
    String::from_utf8(text).unwrap_or_default()
}

impl Cell<'_> {
    /// Writing to memory does not fail.
    fn write(&self, text: &mut Vec<u8>) {
        match self {
            Self::Id(Some(id)) => {
                text.push(b'"');
                text.extend_from_slice(id.simple().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
                text.push(b'"');
            }
            Self::Number(Some(number)) => write!(text, "{number}").unwrap_or_default(),
            Self::Text(Some(value)) => serde_json::to_writer(text, value).unwrap_or_default(),
            Self::Flag(flag) => write!(text, "{flag}").unwrap_or_default(),
            Self::Id(None) | Self::Number(None) | Self::Text(None) => text.extend_from_slice(b"null"),
        }
    }
}
