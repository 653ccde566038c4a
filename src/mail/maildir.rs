//! A Maildir instead of a relay: every mail is a file that any mail reader opens.

use super::connect::{OpenError, OpenPhase};
use super::reply::{Outcome, Reply};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub(super) struct Maildir {
    path: PathBuf,
}

impl Maildir {
    pub(super) async fn open(path: &Path) -> Result<Self, OpenError> {
        let failed = |what: String| OpenError {
            relay: path.display().to_string(),
            phase: OpenPhase::Maildir,
            what,
            reply: None,
        };
        for folder in ["tmp", "new", "cur"] {
            let folder = path.join(folder);
            tokio::fs::create_dir_all(&folder).await.map_err(|e| failed(format!("{}: {e}", folder.display())))?;
        }
        Ok(Self { path: path.to_owned() })
    }

    /// Writes a mail; it appears under `new/` whole or not at all.
    pub(super) async fn write(&self, mail: &[u8]) -> Outcome {
        let (path, mail) = (self.path.clone(), mail.to_owned());
        match tokio::task::spawn_blocking(move || write(&path, &mail)).await {
            Ok(outcome) => outcome,
            Err(e) => Outcome::Unknown { why: format!("writing the mail was cut: {e}") },
        }
    }
}

fn write(path: &Path, mail: &[u8]) -> Outcome {
    let name = format!("{}.eml", uuid::Uuid::now_v7().simple());
    let (tmp, new) = (path.join("tmp").join(&name), path.join("new").join(&name));
    if let Err(e) = put(&tmp, mail).and_then(|()| fs::rename(&tmp, &new)) {
        // What is left in tmp/ is nobody's mail.
        let _ = fs::remove_file(&tmp);
        return Outcome::lost(format!("{}: {e}", new.display()));
    }
    // Without this the name may be lost with the power, after we have called the mail accepted.
    match File::open(path.join("new")).and_then(|folder| folder.sync_all()) {
        Ok(()) => Outcome::Accepted(Reply::new(250, format!("2.0.0 written to {}", new.display()))),
        Err(e) => Outcome::Unknown { why: format!("{}: {e}", new.display()) },
    }
}

fn put(path: &Path, mail: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(mail)?;
    file.sync_all()
}
