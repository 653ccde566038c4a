//! The spill file: outcomes that could not be recorded because the database was away. Each line is fsynced before
//! its slot takes new work, and merged as soon as the database is back.

use crate::store::record::Settled;
use crate::store::{Store, StoreError, record};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// The spill file of a process.
#[derive(Clone, Debug)]
pub struct Spill {
    path: PathBuf,
    guard: Arc<Mutex<()>>,
    merging: Arc<tokio::sync::Mutex<()>>,
}

impl Spill {
    /// A spill file at a path; it is made when it is first needed.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, guard: Arc::default(), merging: Arc::default() }
    }

    /// Appends outcomes and makes them durable.
    ///
    /// # Errors
    /// When the file cannot be written: then the lease brings the row back as unknown, which is the truth.
    pub fn append(&self, of: &[Settled]) -> io::Result<()> {
        let _one = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        for one in of {
            let mut line = serde_json::to_vec(one).map_err(io::Error::other)?;
            line.push(b'\n');
            file.write_all(&line)?;
        }
        file.sync_data()
    }

    /// Records what was spilled, and removes the file.
    ///
    /// # Errors
    /// When the database fails; the file stays.
    pub async fn merge(&self, store: &Store, owner: &str) -> Result<usize, StoreError> {
        // One at a time: two would record the same lines, and the second remove what came after them.
        let _merging = self.merging.lock().await;
        let taken = self.path.with_extension("merging");
        let lines: Vec<Settled> = {
            let _one = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
            // Set aside first: what is appended meanwhile goes to a new file. One left by a crash goes first.
            if !taken.exists() && std::fs::rename(&self.path, &taken).is_err() {
                return Ok(0);
            }
            let Ok(file) = File::open(&taken) else { return Ok(0) };
            // A line cut by a crash was never acted on: its slot took no new work.
            let lines = BufReader::new(file).lines().map_while(Result::ok);
            lines.filter_map(|line| serde_json::from_str(&line).ok()).collect()
        };
        let mut tx = store.begin().await?;
        if !lines.is_empty() {
            record::outcomes(&mut tx, owner, &lines).await?;
        }
        tx.commit().await?;
        if let Err(e) = std::fs::remove_file(&taken) {
            tracing::warn!(error = %e, "the spill file was merged but cannot be removed; its lines are harmless");
        }
        Ok(lines.len())
    }
}
