//! Where a replay works and what it leaves: databases of its own, and the mails as files.

use super::history::Subscriber;
use super::refused;
use crate::cli::drill::{DrillError, failed};
use crate::cli::failure::Failure;
use crate::mail::sink::Received;
use crate::store::Store;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// The value of `--database`.
pub(in crate::cli) fn url(text: &str) -> Result<String, String> {
    let fits = Store::file_of(text).is_some() || ["postgres://", "postgresql://"].iter().any(|s| text.starts_with(s));
    if fits { Ok(text.to_owned()) } else { Err("write sqlite://new.db or postgres://user@host/database".to_owned()) }
}

/// The databases of a replay, one for each history.
pub(in crate::cli) struct Place {
    folder: PathBuf,
    given: Option<String>,
    name: String,
}

impl Place {
    /// # Errors
    /// When an SQLite file is there already, or no folder can be made.
    pub fn new(given: Option<&str>, histories: usize) -> Result<Self, Failure> {
        let name = format!("allclear_replay_{}", Uuid::now_v7().simple());
        let folder = std::env::temp_dir().join(&name);
        let place = Self { folder, given: given.map(str::to_owned), name };
        for number in 0..histories {
            if let Some(file) = place.file(number).filter(|file| file.exists()) {
                let what = format!("the database {} is there already", file.display());
                return Err(refused(what, "a drill needs a database of its own: name a new file"));
            }
        }
        std::fs::create_dir_all(&place.folder).map_err(failed(format!("{} cannot be made", place.folder.display())))?;
        Ok(place)
    }

    /// The SQLite file of a history: the one that was named, and with more histories its neighbours.
    fn file(&self, number: usize) -> Option<PathBuf> {
        let given = match &self.given {
            None => self.folder.join("allclear.db"),
            Some(url) => Store::file_of(url)?,
        };
        let stem = given.file_stem().unwrap_or_default().to_string_lossy();
        let end = given.extension().map(|e| format!(".{}", e.to_string_lossy())).unwrap_or_default();
        Some(if number == 0 { given } else { given.with_file_name(format!("{stem}-{}{end}", number + 1)) })
    }

    /// The URL of a history's database.
    pub async fn url(&self, number: usize) -> Result<String, Failure> {
        match (self.file(number), &self.given) {
            (None, Some(url)) => Ok(Store::make_schema(url, &self.schema(number)).await?),
            (file, _) => Ok(format!("sqlite://{}", file.unwrap_or_default().display())),
        }
    }

    fn schema(&self, number: usize) -> String {
        format!("{}_{}", self.name, number + 1)
    }

    /// A folder to work in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes what nobody asked to keep, unless there is something to look into; says where the rest is.
    pub fn leave(&self, holds: bool) {
        match &self.given {
            None if !holds => eprintln!("the databases are kept in {}", self.folder.display()),
            None => {}
            Some(_) if self.file(0).is_none() => eprintln!("the databases are kept in the schemas {}_…", self.name),
            Some(_) => {}
        }
        if holds || self.given.is_some() {
            // What cannot be removed is left to whoever empties the temporary folder.
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// The mails as files, in a folder for each subscriber, in the order of hand-over.
#[derive(Default)]
pub(super) struct Out {
    root: Option<PathBuf>,
    numbers: HashMap<String, usize>,
}

impl Out {
    /// # Errors
    /// When the folder has something in it: other mails would be taken for this replay's.
    pub fn new(root: &Path) -> Result<Self, Failure> {
        let unusable = || failed(format!("{} cannot be used", root.display()));
        std::fs::create_dir_all(root).map_err(unusable())?;
        if std::fs::read_dir(root).map_err(unusable())?.next().is_some() {
            return Err(refused(format!("the folder {} is not empty", root.display()), "name a new folder"));
        }
        Ok(Self { root: Some(root.to_owned()), numbers: HashMap::new() })
    }

    /// Writes mails, unless nobody wants them; the name of each.
    pub fn keep(&mut self, mails: &[Received], subscribers: &[Subscriber]) -> Result<Vec<String>, DrillError> {
        let unwritten = |path: &Path| failed(format!("{} cannot be written", path.display()));
        for folder in self.root.iter().flat_map(|root| subscribers.iter().map(|s| root.join(&s.key))) {
            std::fs::create_dir_all(&folder).map_err(unwritten(&folder))?;
        }
        let keys: HashMap<_, _> = subscribers.iter().map(|s| (s.address.as_str(), s.key.as_str())).collect();
        let mut names = Vec::with_capacity(mails.len());
        for mail in mails {
            let key = keys.get(mail.to.as_str()).copied().unwrap_or("unknown");
            let number = self.numbers.entry(key.to_owned()).or_default();
            *number += 1;
            let name = format!("{key}/{number:04}.eml");
            if let Some(path) = self.root.as_ref().map(|root| root.join(&name)) {
                std::fs::write(&path, &mail.body).map_err(unwritten(&path))?;
            }
            names.push(name);
        }
        Ok(names)
    }
}
