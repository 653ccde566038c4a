//! The promises, as SQL on the live database. A finding is a promise broken, or a row no code path writes.
//!
//! Every check is one statement, so that each sees one moment; what is still under way (an unswept recovery, a
//! mail in the queue, planning work left) is never a finding before its time.

mod checks;

use super::rows::json;
use super::{StoreError, Tx, journal};
use crate::domain::class::{Class, Limits};
use crate::domain::time::{Span, Timestamp};
use checks::{Check, LIST};
use serde::Serialize;
use uuid::Uuid;

pub(super) const ALL: &[super::Sql] = checks::ALL;

/// How long what should be done at once may take before it is a finding.
const GRACE: Span = Span::minutes(10);

/// A promise that is broken for somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check that found it.
    pub check: &'static str,
    /// What it is about, as an id.
    pub subject: String,
    /// What is wrong.
    pub detail: String,
}

/// At most so many findings a statement; a broken promise usually has one cause and many rows.
const MOST: i64 = 1_000;

/// Runs every check with the default limits of the classes.
///
/// # Errors
/// When the database fails.
pub async fn run(tx: &mut Tx) -> Result<Vec<Finding>, StoreError> {
    run_within(tx, Limits::of).await
}

/// Runs every check; `limits` says how old a mail of a class may get.
///
/// # Errors
/// When the database fails.
pub async fn run_within(tx: &mut Tx, limits: impl Fn(Class) -> Limits) -> Result<Vec<Finding>, StoreError> {
    let now = tx.now();
    let mut findings = Vec::new();
    for Check { name, subject, sql, given } in LIST {
        let found = match given {
            checks::Given::Nothing => rows!(tx, (Uuid, String), *sql, MOST)?,
            checks::Given::Late => rows!(tx, (Uuid, String), *sql, MOST, now - GRACE)?,
            checks::Given::OldestByClass => rows!(tx, (Uuid, String), *sql, oldest(now, &limits), MOST)?,
        };
        findings.extend(found.into_iter().map(|(id, detail)| Finding {
            check: name,
            subject: format!("{subject}_{}", id.simple()),
            detail,
        }));
    }
    if let Some(n) = journal::broken(tx).await? {
        let detail = "does not follow from the line before it: a line was changed or taken out".to_owned();
        findings.push(Finding { check: "journal", subject: format!("line {n}"), detail });
    }
    Ok(findings)
}

fn oldest(now: Timestamp, limits: &impl Fn(Class) -> Limits) -> String {
    let aged = Class::ALL.iter().filter_map(|class| Some((*class, limits(*class).greatest_age?)));
    json(aged.map(|(class, age)| columns! { class, oldest: (now - age).0 }))
}

#[cfg(test)]
mod tests;
