//! What a wrong configuration is told: the key, where it was set, and what to do.

use std::fmt;
use std::path::{Path, PathBuf};

use figment::error::{Error, Kind};
use figment::{Figment, Metadata, Source};

use super::source::variable;

/// The configuration cannot be used. Values of unknown keys are never repeated: they may be secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    what: String,
    key: Option<String>,
    origin: Option<String>,
    hint: String,
}

impl ConfigError {
    pub(super) fn file(path: &Path, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), key: None, origin: Some(path.display().to_string()), hint: hint.into() }
    }

    pub(super) fn variable(name: &str, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            key: Some(name.to_owned()),
            origin: Some("the environment".into()),
            hint: hint.into(),
        }
    }

    /// A value that was read but does not fit; says where it was set, if it was.
    pub(super) fn value(sources: &Figment, key: &str, what: impl Into<String>, hint: impl Into<String>) -> Self {
        let origin = sources.find_metadata(key).map(|found| origin(found, key));
        Self { what: what.into(), key: Some(key.to_owned()), origin, hint: hint.into() }
    }

    /// What the reader refused: an unknown key, a wrong type, a file that is not TOML.
    pub(super) fn reader(sources: &Figment, error: Error, file: Option<&Path>) -> Self {
        let mut path = error.path.clone();
        let (what, hint) = match &error.kind {
            Kind::UnknownField(name, known) => {
                if path.last() != Some(name) {
                    path.push(name.clone());
                }
                unknown(name, known)
            }
            Kind::UnknownVariant(found, known) => {
                (format!("`{found}` is not known"), format!("Write one of {}.", known.join(", ")))
            }
            Kind::Message(text) if path.is_empty() => {
                (without_snippet(text), "Correct the file at that place.".to_owned())
            }
            other => (other.to_string(), "Correct the value, or leave the key out.".to_owned()),
        };
        let key = path.join(".");
        let metadata = error.metadata.as_ref().or_else(|| sources.find_metadata(&key));
        let origin = metadata.map(|found| origin(found, &key)).or_else(|| file.map(|path| path.display().to_string()));
        Self { what, key: (!key.is_empty()).then_some(key), origin, hint }
    }

    /// The key that is wrong, dotted as in the file; none when the whole file is.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        self.hint.clone()
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.key, &self.origin) {
            (Some(key), Some(origin)) => write!(f, "`{key}` in {origin}: {}", self.what),
            (Some(key), None) => write!(f, "`{key}`: {}", self.what),
            (None, Some(origin)) => write!(f, "{origin}: {}", self.what),
            (None, None) => f.write_str(&self.what),
        }
    }
}

impl std::error::Error for ConfigError {}

fn origin(metadata: &Metadata, key: &str) -> String {
    match &metadata.source {
        Some(Source::File(path)) => relative(path).display().to_string(),
        _ => format!("the environment ({})", variable(key)),
    }
}

/// The path as a person would write it from here.
fn relative(path: &Path) -> PathBuf {
    std::env::current_dir()
        .ok()
        .and_then(|here| path.strip_prefix(here).ok().map(Path::to_path_buf))
        .unwrap_or_else(|| path.to_path_buf())
}

fn unknown(name: &str, known: &[&str]) -> (String, String) {
    if name == "password" {
        let hint = "Put the secret into a file that only this program can read and name it: `password_file` \
                    of a relay, or `url_file` of the database with the password inside the URL.";
        return ("a password is not taken from the configuration itself".to_owned(), hint.to_owned());
    }
    let hint = match known {
        [] => "Take it out.".to_owned(),
        known => format!("Known here: {}.", known.join(", ")),
    };
    ("this key is not known".to_owned(), hint)
}

/// Drops the quoted lines of a TOML error: the line at fault may hold a secret.
fn without_snippet(text: &str) -> String {
    let kept = text.lines().filter(|line| {
        let rest = line.trim_start().trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
        !rest.starts_with('|') && !rest.is_empty()
    });
    kept.collect::<Vec<_>>().join(": ")
}
