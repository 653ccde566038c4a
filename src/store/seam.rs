//! The seam between the two databases.

use crate::domain::time::Timestamp;
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, Postgres, Sqlite, SqliteConnection, Transaction};

/// A statement, with its name for errors.
#[derive(Clone, Copy, Debug)]
pub struct Sql {
    /// What it is called in the code.
    pub name: &'static str,
    /// The text for SQLite.
    pub sqlite: &'static str,
    /// The text for PostgreSQL.
    pub postgres: &'static str,
}

impl Sql {
    /// One text for both.
    pub(super) const fn same(text: &'static str) -> Self {
        Self { name: "", sqlite: text, postgres: text }
    }

    /// Two texts; the reason stands beside them.
    pub(super) const fn differs(sqlite: &'static str, postgres: &'static str) -> Self {
        Self { name: "", sqlite, postgres }
    }

    pub(super) const fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }
}

pub(super) enum Inner {
    SqliteTx(Transaction<'static, Sqlite>),
    PostgresTx(Transaction<'static, Postgres>),
    SqliteConn(PoolConnection<Sqlite>),
    PostgresConn(PoolConnection<Postgres>),
}

/// A transaction, or for reads a plain connection on which every statement has a snapshot of its own.
pub struct Tx {
    pub(super) inner: Inner,
    pub(super) now: Timestamp,
    pub(super) takes_writes: bool,
}

pub(super) enum Handle<'a> {
    Sqlite(&'a mut SqliteConnection),
    Postgres(&'a mut PgConnection),
}

impl Tx {
    /// The database's time, read when this was begun (or the driven clock's).
    #[must_use]
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// Whether the database said, when this was begun, that it can be written.
    #[must_use]
    pub const fn takes_writes(&self) -> bool {
        self.takes_writes
    }

    /// Whether nobody else can write meanwhile, so that nothing need be locked.
    pub(super) const fn writes_alone(&self) -> bool {
        matches!(self.inner, Inner::SqliteTx(_))
    }

    pub(super) fn handle(&mut self) -> Handle<'_> {
        match &mut self.inner {
            Inner::SqliteTx(tx) => Handle::Sqlite(tx),
            Inner::PostgresTx(tx) => Handle::Postgres(tx),
            Inner::SqliteConn(conn) => Handle::Sqlite(conn),
            Inner::PostgresConn(conn) => Handle::Postgres(conn),
        }
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// When the database could not commit; nothing was written then, or nobody can know.
    pub async fn commit(self) -> Result<(), super::StoreError> {
        match self.inner {
            Inner::SqliteTx(tx) => tx.commit().await,
            Inner::PostgresTx(tx) => tx.commit().await,
            Inner::SqliteConn(_) | Inner::PostgresConn(_) => Ok(()),
        }
        .map_err(|source| super::StoreError::failed("commit", source))
    }
}

/// Declares a file's statements, and the list of them for the test that prepares each on both databases.
macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $sql:expr;)+) => {
        $($(#[$doc])* pub(super) const $name: $crate::store::Sql = $sql.named(stringify!($name));)+
        pub(super) const ALL: &[$crate::store::Sql] = &[$($name),+];
    };
}

/// A query that locks what it reads: on PostgreSQL with these words, on SQLite its one writer is lock enough.
macro_rules! locking {
    ($text:literal, $lock:literal) => {
        $crate::store::Sql::differs($text, concat!($text, " ", $lock))
    };
}

/// A statement over rows given as one JSON parameter (`$1`): `head <rows AS j> tail`.
/// SQLite reads them with `jsonb_each` (with `json_each` each column would write out its row and parse it anew),
/// PostgreSQL with `json_to_recordset`.
macro_rules! over_rows {
    ($head:expr, [$($col:ident $ty:ident),+ $(,)?], $tail:expr) => {
        over_rows!("$1", $head, [$($col $ty),+], $tail)
    };
    ($rows:literal, $head:expr, [$($col:ident $ty:ident),+ $(,)?], $tail:expr) => {
        $crate::store::Sql::differs(
            concat!($head, " (SELECT ", over_rows!(@lite $($col $ty),+), " FROM jsonb_each(", $rows, ")) AS j ", $tail),
            concat!($head, " json_to_recordset(", $rows, "::json) AS j(", over_rows!(@pg $($col $ty),+), ") ", $tail),
        )
    };
    (@lite $col:ident uuid) => { concat!("unhex(value->>'", stringify!($col), "') AS ", stringify!($col)) };
    (@lite $col:ident bytea) => { concat!("unhex(value->>'", stringify!($col), "', '\\x') AS ", stringify!($col)) };
    (@lite $col:ident $ty:ident) => { concat!("value->>'", stringify!($col), "' AS ", stringify!($col)) };
    (@lite $col:ident $ty:ident, $($rest:tt)+) => {
        concat!(over_rows!(@lite $col $ty), ", ", over_rows!(@lite $($rest)+))
    };
    (@pg $col:ident $ty:ident) => { concat!(stringify!($col), " ", stringify!($ty)) };
    (@pg $col:ident $ty:ident, $($rest:tt)+) => {
        concat!(over_rows!(@pg $col $ty), ", ", over_rows!(@pg $($rest)+))
    };
}

/// The same for the dozens of rows of a dispatcher's round, where the round's statements must stay cheap in every state
/// of the tables. PostgreSQL takes a set made by a function of JSON for a hundred rows, and then reads a table of less
/// than some hundred thousand as a whole to find them; of an array it does not know it expects ten. The rows are in
/// `$1`, or in the parameter named first.
macro_rules! over_few_rows {
    ($head:expr, [$($col:ident $ty:ident),+ $(,)?], $tail:expr) => {
        over_few_rows!("$1", $head, [$($col $ty),+], $tail)
    };
    ($rows:literal, $head:expr, [$($col:ident $ty:ident),+ $(,)?], $tail:expr) => {
        $crate::store::Sql::differs(
            over_rows!($rows, $head, [$($col $ty),+], $tail).sqlite,
            concat!($head, " (SELECT ", over_few_rows!(@pg $($col $ty),+),
                " FROM unnest(ARRAY(SELECT jsonb_array_elements(", $rows, "::jsonb))) AS u(value)) AS j ", $tail),
        )
    };
    (@pg $col:ident $ty:ident) => { concat!("(value->>'", stringify!($col), "')::", stringify!($ty), " AS ", stringify!($col)) };
    (@pg $col:ident $ty:ident, $($rest:tt)+) => {
        concat!(over_few_rows!(@pg $col $ty), ", ", over_few_rows!(@pg $($rest)+))
    };
}

/// The same with tables that are joined row by row, by an index. A table that has grown since its last ANALYZE PostgreSQL's
/// planner takes for small, and what a connection or a thread went through before it counts on the average: it would compare
/// the table as a whole. What is read so can be locked.
macro_rules! row_by_row {
    ($over:ident, $head:expr, $columns:tt,
        [$($table:literal $name:literal on $condition:expr $(, lock $lock:literal)?);+ $(;)?], $tail:expr) => {
        $crate::store::Sql::differs(
            $over!($head, $columns, concat!($("JOIN ", $table, " ", $name, " ON ", $condition, " ",)+ $tail)).sqlite,
            $over!($head, $columns, concat!(
                $("CROSS JOIN LATERAL (SELECT * FROM ", $table, " ", $name, " WHERE ", $condition, " OFFSET 0", $(" ", $lock,)?
                    ") AS ", $name, " ",)+ $tail)).postgres,
        )
    };
}

/// That a delivery waits, in a statement that is told which, or of which thread. The state is hidden from PostgreSQL's planner:
/// while its statistics know of no queue, and a flood comes faster than they do, it would go through all of it, by an index
/// of what waits, rather than look up what it is told.
macro_rules! waits {
    ($delivery:literal) => {
        concat!($delivery, ".state || '' = 'queued'")
    };
}

/// The holds in force at the time in a parameter, of everything, of classes, and of a row's own component, as a column of
/// JSON: a statement that sees mail sees what holds it. [`super::queue::holds`] reads it.
macro_rules! holds_in_force {
    (sqlite $now:literal, $of:literal) => {
        holds_in_force!($now, $of, "json_group_array(json_object(", "lower(hex(h.component_id))")
    };
    (postgres $now:literal, $of:literal) => {
        holds_in_force!($now, $of, "json_agg(json_build_object(", "replace(h.component_id::text, '-', '')")
    };
    ($now:literal, $of:literal, $list:literal, $component:literal) => {
        concat!(
            "COALESCE((SELECT CAST(",
            $list,
            "'class', h.class, 'component_id',
                CASE WHEN h.component_id IS NOT NULL THEN 'cmp_' || ",
            $component,
            " END, 'cause', h.cause, 'scope', h.scope))
                AS TEXT) FROM hold h WHERE h.released_at IS NULL AND (h.until IS NULL OR h.until > ",
            $now,
            ") AND (h.component_id IS NULL OR h.component_id = ",
            $of,
            ")), '[]') AS holds"
        )
    };
}

/// Texts joined to one, at compile time: several statements that are sent in one exchange.
macro_rules! joined {
    ($($text:expr),+ $(,)?) => {{
        const TEXTS: &[&str] = &[$($text),+];
        const BYTES: [u8; $crate::store::seam::length(TEXTS)] = $crate::store::seam::bytes(TEXTS);
        match std::str::from_utf8(&BYTES) {
            Ok(text) => text,
            Err(_) => "",
        }
    }};
}

pub(super) const fn length(texts: &[&str]) -> usize {
    let (mut total, mut i) = (0, 0);
    while i < texts.len() {
        total += texts[i].len();
        i += 1;
    }
    total
}

pub(super) const fn bytes<const N: usize>(texts: &[&str]) -> [u8; N] {
    let (mut bytes, mut at, mut i) = ([0; N], 0, 0);
    while i < texts.len() {
        let (_, rest) = bytes.split_at_mut(at);
        rest.split_at_mut(texts[i].len()).0.copy_from_slice(texts[i].as_bytes());
        at += texts[i].len();
        i += 1;
    }
    bytes
}

macro_rules! on_db {
    ($tx:expr, $sql:expr, $query:ident $(::<$row:ty>)?, $run:ident $(, $arg:expr)*) => {{
        let sql: $crate::store::Sql = $sql;
        match $tx.handle() {
            $crate::store::seam::Handle::Sqlite(conn) => {
                sqlx::$query$(::<_, $row>)?(sql.sqlite)$(.bind($arg))*.$run(conn).await.map_err(|e| $crate::store::StoreError::failed(sql.name, e))
            }
            $crate::store::seam::Handle::Postgres(conn) => {
                sqlx::$query$(::<_, $row>)?(sql.postgres)$(.bind($arg))*.$run(conn).await.map_err(|e| $crate::store::StoreError::failed(sql.name, e))
            }
        }
    }};
}

/// Runs a statement; the number of rows it touched.
macro_rules! exec {
    ($tx:expr, $sql:expr $(, $arg:expr)* $(,)?) => {{
        let sql: $crate::store::Sql = $sql;
        match $tx.handle() {
            $crate::store::seam::Handle::Sqlite(conn) => {
                sqlx::query(sql.sqlite)$(.bind($arg))*.execute(conn).await.map(|r| r.rows_affected())
            }
            $crate::store::seam::Handle::Postgres(conn) => {
                sqlx::query(sql.postgres)$(.bind($arg))*.execute(conn).await.map(|r| r.rows_affected())
            }
        }
        .map_err(|e| $crate::store::StoreError::failed(sql.name, e))
    }};
}

/// Runs a statement that only locks. On SQLite its one writer is lock enough: a statement that does nothing would be a
/// handover to its thread all the same.
macro_rules! lock {
    ($tx:expr, $sql:expr $(, $arg:expr)* $(,)?) => {
        if $tx.writes_alone() { Ok(()) } else { exec!($tx, $sql $(, $arg)*).map(drop) }
    };
}

/// All rows of a query.
macro_rules! rows {
    ($tx:expr, $row:ty, $sql:expr $(, $arg:expr)* $(,)?) => { on_db!($tx, $sql, query_as::<$row>, fetch_all $(, $arg)*) };
}

/// The first row of a query, if there is one.
macro_rules! first {
    ($tx:expr, $row:ty, $sql:expr $(, $arg:expr)* $(,)?) => { on_db!($tx, $sql, query_as::<$row>, fetch_optional $(, $arg)*) };
}

/// The one value of a query that has exactly one.
macro_rules! value {
    ($tx:expr, $ty:ty, $sql:expr $(, $arg:expr)* $(,)?) => { on_db!($tx, $sql, query_scalar::<$ty>, fetch_one $(, $arg)*) };
}
