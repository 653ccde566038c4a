//! Ids and keys as the rows of a statement (`over_rows!`).

use super::rows::{Cell, json};
use std::collections::BTreeSet;
use uuid::Uuid;

/// Ids as the rows of a statement.
pub(super) fn ids<T: Copy + Into<Uuid>>(of: &[T]) -> String {
    json(of.iter().map(|id| [("id", Cell::from((*id).into()))]))
}

/// Keys as the rows of a statement, each once and in order, with the source that says them.
pub(super) fn keys<'a>(keys: impl Iterator<Item = &'a str>, source: &'a str) -> String {
    json(keys.collect::<BTreeSet<_>>().into_iter().map(|key| columns! { key, source }))
}
