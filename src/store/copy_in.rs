//! Rows to PostgreSQL as a COPY in its binary format: no text is parsed, and the table is filled page by page.

use super::StoreError;
use sqlx::PgConnection;
use sqlx::postgres::PgCopyIn;

/// Sent whenever so many bytes have come together.
const CHUNK: usize = 64 * 1024;
/// The signature, no flags, and no extension of the header.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();
const NULL: [u8; 4] = (-1_i32).to_be_bytes();

/// A COPY under way. Dropped before [`CopyIn::finish`] it fails, and its transaction with it.
pub(super) struct CopyIn<'c> {
    copy: PgCopyIn<&'c mut PgConnection>,
    bytes: Vec<u8>,
}

fn failed(source: sqlx::Error) -> StoreError {
    StoreError::failed("COPY", source)
}

impl<'c> CopyIn<'c> {
    pub(super) async fn begin(conn: &'c mut PgConnection, statement: &str) -> Result<Self, StoreError> {
        let copy = conn.copy_in_raw(statement).await.map_err(failed)?;
        Ok(Self { copy, bytes: HEADER.to_vec() })
    }

    /// Writes a row, each cell as PostgreSQL would send it in binary.
    pub(super) async fn row(&mut self, cells: &[Option<&[u8]>]) -> Result<(), StoreError> {
        begin_row(&mut self.bytes, cells.len());
        cells.iter().for_each(|cell| put_cell(&mut self.bytes, *cell));
        if self.bytes.len() >= CHUNK { self.send().await } else { Ok(()) }
    }

    /// Writes rows that are bytes already.
    pub(super) async fn rows(&mut self, rows: &[u8]) -> Result<(), StoreError> {
        self.bytes.extend_from_slice(rows);
        self.send().await
    }

    async fn send(&mut self) -> Result<(), StoreError> {
        self.copy.send(self.bytes.as_slice()).await.map_err(failed)?;
        self.bytes.clear();
        Ok(())
    }

    pub(super) async fn finish(mut self) -> Result<(), StoreError> {
        self.bytes.extend_from_slice(&TRAILER);
        self.copy.send(self.bytes.as_slice()).await.map_err(failed)?;
        self.copy.finish().await.map_err(failed).map(drop)
    }
}

/// Begins a row of so many cells. A count that does not fit is refused by the server: no row has so many.
pub(super) fn begin_row(bytes: &mut Vec<u8>, cells: usize) {
    bytes.extend_from_slice(&i16::try_from(cells).unwrap_or(i16::MAX).to_be_bytes());
}

/// Writes a cell; none is NULL. A length that does not fit is refused, too.
pub(super) fn put_cell(bytes: &mut Vec<u8>, cell: Option<&[u8]>) {
    match cell {
        Some(cell) => {
            bytes.extend_from_slice(&i32::try_from(cell.len()).unwrap_or(i32::MAX).to_be_bytes());
            bytes.extend_from_slice(cell);
        }
        None => bytes.extend_from_slice(&NULL),
    }
}
