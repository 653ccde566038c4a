//! The journal: who did what and why. Each line's hash covers the line before it, so that a line
//! changed or taken out by hand is found by [`broken`].

use super::{StoreError, Tx};
use crate::domain::id::EntryId;
use crate::domain::time::Timestamp;
use serde::Serialize;
use sha2::{Digest, Sha256};

statements! {
    // Two writers that both read line n would both write n + 1. Locking the newest line is not enough: who waited
    // for it would still see it as the newest. SQLite has one writer.
    LOCK_JOURNAL = super::Sql::differs("SELECT 1", "LOCK TABLE journal IN EXCLUSIVE MODE");
    NEWEST_LINE = super::Sql::same("SELECT n, hash FROM journal ORDER BY n DESC LIMIT 1");
    ADD_LINE = super::Sql::same(
        "INSERT INTO journal (n, id, at, who, action, subject, detail, hash) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    );
    LINES = super::Sql::same(
        "SELECT n, id, at, who, action, subject, detail, hash FROM journal WHERE n > $1 ORDER BY n LIMIT $2",
    );
}

const PAGE: i64 = 1_000;

/// A line of the journal.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
pub struct Line {
    /// Its number, from 1, without gaps.
    pub n: i64,
    /// Its id.
    pub id: EntryId,
    /// When it happened.
    pub at: Timestamp,
    /// Who did it.
    pub who: String,
    /// What was done.
    pub action: String,
    /// To what.
    pub subject: String,
    /// Why, in the person's words.
    pub detail: String,
    #[serde(skip)]
    hash: Vec<u8>,
}

impl Line {
    /// Lengths before texts: no two different lines have the same bytes.
    fn digest(&self, previous: &[u8]) -> Vec<u8> {
        let mut hash = Sha256::new();
        hash.update(previous);
        hash.update(self.n.to_be_bytes());
        hash.update(self.id.0.as_bytes());
        hash.update(self.at.0.to_be_bytes());
        for text in [&self.who, &self.action, &self.subject, &self.detail] {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        }
        hash.finalize().to_vec()
    }
}

/// Appends a line in the transaction of the act itself: neither is there without the other.
///
/// # Errors
/// When the database fails.
pub async fn append(tx: &mut Tx, who: &str, action: &str, subject: &str, detail: &str) -> Result<EntryId, StoreError> {
    exec!(tx, LOCK_JOURNAL)?;
    let (n, previous) = first!(tx, (i64, Vec<u8>), NEWEST_LINE)?.unwrap_or_default();
    let mut line = Line {
        n: n + 1,
        id: EntryId::new(),
        at: tx.now(),
        who: who.to_owned(),
        action: action.to_owned(),
        subject: subject.to_owned(),
        detail: detail.to_owned(),
        hash: Vec::new(),
    };
    line.hash = line.digest(&previous);
    let Line { n, id, at, who, action, subject, detail, hash } = line;
    exec!(tx, ADD_LINE, n, id, at, &who, &action, &subject, &detail, &hash)?;
    Ok(id)
}

/// Lines after a number, at most 1000, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn lines(tx: &mut Tx, after: i64) -> Result<Vec<Line>, StoreError> {
    rows!(tx, Line, LINES, after, PAGE)
}

/// The number of the first line that does not follow from the one before it.
///
/// # Errors
/// When the database fails.
pub async fn broken(tx: &mut Tx) -> Result<Option<i64>, StoreError> {
    let (mut n, mut hash) = (0, Vec::new());
    loop {
        let page = lines(tx, n).await?;
        if page.is_empty() {
            return Ok(None);
        }
        for line in page {
            if line.n != n + 1 || line.digest(&hash) != line.hash {
                return Ok(Some(line.n));
            }
            (n, hash) = (line.n, line.hash);
        }
    }
}
