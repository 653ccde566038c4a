//! The spill file: outcomes that could not be recorded because the database was away. Each line is fsynced before
//! its slot takes new work, and merged as soon as the database is back.

use super::setting::Setting;
use super::settled::settle;
use crate::store::record::Settled;
use crate::store::{Store, StoreError};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use uuid::Uuid;

/// The spill file of a process.
#[derive(Clone, Debug)]
pub struct Spill {
    path: PathBuf,
    /// Whether the file ends in a piece of a line that could not be taken back.
    torn: Arc<Mutex<bool>>,
    merging: Arc<tokio::sync::Mutex<()>>,
}

impl Spill {
    /// A spill file at a path; it is made when it is first needed.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, torn: Arc::default(), merging: Arc::default() }
    }

    /// Appends outcomes and makes them durable.
    ///
    /// # Errors
    /// When the file cannot be written; then nothing is appended.
    pub fn append(&self, of: &[Settled]) -> io::Result<()> {
        self.put(of.iter().map(|one| serde_json::to_vec(one).map_err(io::Error::other)))
    }

    fn put(&self, lines: impl Iterator<Item = io::Result<Vec<u8>>>) -> io::Result<()> {
        let mut torn = self.torn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        let whole = file.metadata()?.len();
        let write = || {
            if *torn {
                file.write_all(b"\n")?;
            }
            for line in lines {
                file.write_all(&[line?.as_slice(), b"\n"].concat())?;
            }
            file.sync_data()
        };
        let written = write();
        // A disk that is full takes a piece of a line, to which the next one would be glued.
        *torn = written.is_err() && (file.set_len(whole).is_err() || *torn);
        written
    }

    /// Records what was spilled, and removes the file. One with lines that cannot be read is kept under another name.
    ///
    /// # Errors
    /// When the database fails, or the file cannot be read; it stays.
    pub async fn merge(&self, store: &Store, setting: &Setting, owner: &str) -> Result<usize, StoreError> {
        // One at a time: two would record the same lines, and the second remove what came after them.
        let _merging = self.merging.lock().await;
        let (taken, mut merged) = (self.path.with_extension("merging"), 0);
        // One left by a crash, or since the database was away, goes first: what came after it is in another.
        while let Some(bytes) = self.take(&taken)? {
            let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            let (read, unread): (Vec<_>, Vec<_>) = lines.map(serde_json::from_slice).partition(Result::is_ok);
            let outcomes: Vec<Settled> = read.into_iter().flatten().collect();
            if !outcomes.is_empty() {
                let mut tx = store.begin().await?;
                settle(&mut tx, setting, owner, &outcomes).await?;
                tx.commit().await?;
            }
            merged += outcomes.len();
            let done = if unread.is_empty() { fs::remove_file(&taken) } else { self.keep(&taken, unread.len()) };
            if let Err(e) = done {
                tracing::warn!(error = %e, "the spill file was merged but cannot be removed; its lines are harmless");
                break;
            }
        }
        Ok(merged)
    }

    /// What was spilled, set aside: what is appended meanwhile goes to a new file.
    fn take(&self, taken: &Path) -> Result<Option<Vec<u8>>, StoreError> {
        let _torn = self.torn.lock().unwrap_or_else(PoisonError::into_inner);
        if !taken.exists() && fs::rename(&self.path, taken).is_err() {
            return Ok(None);
        }
        fs::read(taken).map(Some).map_err(|e| StoreError::Unfit {
            what: format!("{} holds what became of mails, and cannot be read: {e}", taken.display()),
            hint: "let this user read it; what is in it must not be taken for lost".to_owned(),
        })
    }

    /// Keeps a file whose lines were not all read: cut by a crash, or damaged.
    fn keep(&self, taken: &Path, unread: usize) -> io::Result<()> {
        let kept = self.path.with_extension(format!("unread-{}", Uuid::now_v7().simple()));
        let name = kept.display();
        tracing::error!(
            "{unread} lines of the spill file cannot be read, and are kept in {name}: nobody knows what became of their mails"
        );
        fs::rename(taken, &kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_written_whole_is_glued_to_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let spill = Spill::new(folder.path().join("spill"));
        let put = |lines: &[&str], full: bool| {
            let lines = lines.iter().map(|line| Ok(line.as_bytes().to_vec()));
            spill.put(lines.chain(full.then(|| Err(io::ErrorKind::StorageFull.into()))))
        };
        put(&["one"], false).unwrap();
        assert_eq!(put(&["tw"], true).unwrap_err().kind(), io::ErrorKind::StorageFull);
        put(&["three"], false).unwrap();
        assert_eq!(fs::read_to_string(&spill.path).unwrap(), "one\nthree\n");
        // A piece that could not even be taken back.
        fs::write(&spill.path, "on").unwrap();
        *spill.torn.lock().unwrap() = true;
        assert!(put(&["tw"], true).is_err());
        for line in ["three", "four"] {
            put(&[line], false).unwrap();
        }
        assert_eq!(fs::read_to_string(&spill.path).unwrap(), "on\nthree\nfour\n");
    }
}
