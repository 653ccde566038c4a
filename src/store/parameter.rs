//! The one parameter of a statement over rows (`over_rows!`): the rows, or ids, as JSON.

use serde::Serialize;
use uuid::fmt::Simple;

/// Rows, as a statement reads them by the names of their fields.
pub(super) fn json<T: Serialize>(rows: &[T]) -> String {
    // The rows are plain structs of numbers and texts: serde_json has no reason to refuse them.
    serde_json::to_string(rows).unwrap_or_default()
}

/// Ids as the rows of a statement.
pub(super) fn ids<T: Copy + Into<uuid::Uuid>>(of: &[T]) -> String {
    #[derive(Serialize)]
    struct Id {
        id: Simple,
    }
    json(&of.iter().map(|id| Id { id: (*id).into().simple() }).collect::<Vec<_>>())
}

/// Keys as the rows of a statement, each once and in order, with the source that says them.
pub(super) fn keys<'a>(keys: impl Iterator<Item = &'a str>, source: &'a str) -> String {
    #[derive(Serialize)]
    struct Key<'a> {
        key: &'a str,
        source: &'a str,
    }
    let mut rows: Vec<_> = keys.map(|key| Key { key, source }).collect();
    rows.sort_by_key(|row| row.key);
    rows.dedup_by_key(|row| row.key);
    json(&rows)
}
