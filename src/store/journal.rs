//! The journal: who did what and why. Each line's hash covers the line before it, so that a line
//! changed or taken out by hand is found by [`broken`].

use super::rows::json;
use super::{StoreError, Tx};
use crate::domain::hex::hex;
use crate::domain::id::EntryId;
use crate::domain::time::Timestamp;
use serde::Serialize;
use sha2::{Digest, Sha256};

statements! {
    // Two writers that both read line n would both write n + 1. Locking the newest line is not enough: who waited
    // for it would still see it as the newest. SQLite has one writer.
    // (Not LOCK TABLE: that would ask for the right to change the table, which its users had better not have.)
    LOCK_JOURNAL = super::Sql::differs("SELECT 1", "SELECT pg_advisory_xact_lock(CAST('journal'::regclass::oid AS BIGINT))");
    NEWEST_LINE = super::Sql::same("SELECT n, hash FROM journal ORDER BY n DESC LIMIT 1");
    ADD_LINES = over_rows!(
        "INSERT INTO journal (n, id, at, who, action, subject, detail, hash)
         SELECT j.n, j.id, j.at, j.who, j.action, j.subject, j.detail, j.hash FROM",
        [n bigint, id uuid, at bigint, who text, action text, subject text, detail text, hash bytea], "WHERE TRUE"
    );
    NEWEST_LINES = super::Sql::same(
        "SELECT n, id, at, who, action, subject, detail, hash FROM journal WHERE n < $1 ORDER BY n DESC LIMIT $2",
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
    /// Covers the line and the one before it.
    #[serde(serialize_with = "as_hex")]
    pub hash: Vec<u8>,
}

fn as_hex<S: serde::Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&hex(bytes))
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

/// Lets nobody else write the journal until the end of the transaction. Whoever decides by what others decided a
/// moment ago takes it before looking.
///
/// # Errors
/// When the database fails.
pub async fn lock(tx: &mut Tx) -> Result<(), StoreError> {
    lock!(tx, LOCK_JOURNAL)
}

/// Appends a line in the transaction of the act itself: neither is there without the other.
///
/// # Errors
/// When the database fails.
pub async fn append(tx: &mut Tx, who: &str, action: &str, subject: &str, detail: &str) -> Result<(), StoreError> {
    append_all(tx, who, &[(action, subject.to_owned(), detail.to_owned())]).await
}

/// Appends lines (action, subject, detail), as [`append`] does.
///
/// # Errors
/// When the database fails.
pub async fn append_all(tx: &mut Tx, who: &str, of: &[(&str, String, String)]) -> Result<(), StoreError> {
    if of.is_empty() {
        return Ok(());
    }
    lock(tx).await?;
    let (mut n, mut hash) = first!(tx, (i64, Vec<u8>), NEWEST_LINE)?.unwrap_or_default();
    let mut lines = Vec::with_capacity(of.len());
    for (action, subject, detail) in of {
        n += 1;
        let mut line = Line {
            n,
            id: EntryId::new(),
            at: tx.now(),
            who: who.to_owned(),
            action: (*action).to_owned(),
            subject: subject.clone(),
            detail: detail.clone(),
            hash,
        };
        line.hash = line.digest(&line.hash);
        hash = line.hash.clone();
        lines.push(line);
    }
    let rows = lines.iter().map(|l| {
        columns! {
            n: l.n,
            id: l.id.0,
            at: l.at.0,
            who: &l.who,
            action: &l.action,
            subject: &l.subject,
            detail: &l.detail,
            hash: format!("\\x{}", hex(&l.hash)),
        }
    });
    exec!(tx, ADD_LINES, json(rows)).map(drop)
}

/// A page of lines before a number, newest first.
///
/// # Errors
/// When the database fails.
pub async fn newest(tx: &mut Tx, before: Option<i64>, most: i64) -> Result<Vec<Line>, StoreError> {
    rows!(tx, Line, NEWEST_LINES, before.unwrap_or(i64::MAX), most)
}

/// Lines after a number, at most 1000, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn lines(tx: &mut Tx, after: i64) -> Result<Vec<Line>, StoreError> {
    rows!(tx, Line, LINES, after, PAGE)
}

/// What reading the whole journal found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// How many lines are good, from the first on.
    pub lines: i64,
    /// The hash of the last of them. Kept elsewhere, with the number, it shows later that nothing was cut off.
    pub hash: String,
    /// The first line that does not follow from the one before it.
    pub broken: Option<i64>,
    /// The line that was expected is there, with the hash that was expected.
    pub expected: Option<bool>,
}

/// Reads the journal from its first line on. `expected` is a line's number and hash as an earlier call told them.
///
/// # Errors
/// When the database fails.
pub async fn verify(tx: &mut Tx, expected: Option<(i64, &str)>) -> Result<Verified, StoreError> {
    let (mut n, mut hash) = (0, Vec::new());
    let mut found = expected.map(|(number, _)| number == 0);
    let mut broken = None;
    'pages: loop {
        let page = lines(tx, n).await?;
        if page.is_empty() {
            break;
        }
        for line in page {
            if line.n != n + 1 || line.digest(&hash) != line.hash {
                broken = Some(line.n);
                break 'pages;
            }
            (n, hash) = (line.n, line.hash);
            if let Some((number, known)) = expected.filter(|(number, _)| *number == n) {
                found = Some(number == n && hex(&hash).eq_ignore_ascii_case(known));
            }
        }
    }
    Ok(Verified { lines: n, hash: hex(&hash), broken, expected: found })
}

/// The number of the first line that does not follow from the one before it.
///
/// # Errors
/// When the database fails.
pub async fn broken(tx: &mut Tx) -> Result<Option<i64>, StoreError> {
    Ok(verify(tx, None).await?.broken)
}
