//! The templates as files: the embedded set, its three parts, and the address of its content.

use super::error::{Fault, TemplateError};
use crate::domain::hex::hex;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// No template lies deeper: `mail/<kind>/<part>`. Also what ends a walk through links that lead back.
const DEEPEST: usize = 3;

/// Sources by name: the path below `templates/` without `.hbs`.
pub type Sources = BTreeMap<String, String>;

macro_rules! embedded {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../templates/", $name, ".hbs")))),+]
    };
}

const EMBEDDED: &[(&str, &str)] = embedded![
    "layouts/block.html",
    "layouts/button.html",
    "layouts/connections.html",
    "layouts/connections.txt",
    "layouts/corrected.html",
    "layouts/corrected.txt",
    "layouts/line.html",
    "layouts/mail.html",
    "layouts/mail.txt",
    "layouts/prose.txt",
    "layouts/url.html",
    "mail/action_required/body.html",
    "mail/action_required/body.txt",
    "mail/action_required/subject.txt",
    "mail/all_clear/body.html",
    "mail/all_clear/body.txt",
    "mail/correction/body.html",
    "mail/correction/body.txt",
    "mail/free/body.html",
    "mail/free/body.txt",
    "mail/free/subject.txt",
    "mail/incident/body.html",
    "mail/incident/body.txt",
    "mail/incident/subject.txt",
    "mail/post_mortem/body.html",
    "mail/post_mortem/body.txt",
    "mail/surge/body.html",
    "mail/surge/body.txt",
    "mail/surge/subject.txt",
];

/// The part of a mail that a template makes; each has a registry of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The HTML part: values are escaped.
    Html,
    /// The text part: values stay as they are.
    Text,
    /// The subject: one line without control characters.
    Subject,
}

impl Part {
    /// The part a template belongs to, by its name.
    pub fn of(name: &str) -> Self {
        if name.ends_with(".html") {
            Self::Html
        } else if name.ends_with("subject.txt") {
            Self::Subject
        } else {
            Self::Text
        }
    }
}

/// The templates that are built into the program.
#[must_use]
pub fn embedded() -> Sources {
    EMBEDDED.iter().map(|(name, source)| ((*name).to_owned(), (*source).to_owned())).collect()
}

/// The built-in templates with the files of a folder laid over them, by name; and the files that cannot be laid
/// over anything. Hidden files are passed over.
#[must_use]
pub fn overlaid(folder: Option<&Path>) -> (Sources, Vec<TemplateError>) {
    let (mut sources, mut faults) = (embedded(), Vec::new());
    if let Some(folder) = folder {
        lay(folder, "", 1, &mut sources, &mut faults);
    }
    (sources, faults)
}

fn lay(folder: &Path, above: &str, depth: usize, sources: &mut Sources, faults: &mut Vec<TemplateError>) {
    let unreadable = |path: &Path, e: std::io::Error| {
        TemplateError::of(&path.display().to_string(), Fault::Unreadable(e.to_string()))
    };
    let entries = match fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
        Ok(entries) => entries,
        Err(e) => return faults.push(unreadable(folder, e)),
    };
    for entry in entries {
        let (path, file) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if file.starts_with('.') {
            continue;
        }
        let name = format!("{above}{file}");
        if path.is_dir() && depth < DEEPEST {
            lay(&path, &format!("{name}/"), depth + 1, sources, faults);
        } else if let Some(known) = name.strip_suffix(".hbs").filter(|name| is_known(name)) {
            match fs::read_to_string(&path) {
                Ok(text) => drop(sources.insert(known.to_owned(), text)),
                Err(e) => faults.push(unreadable(&path, e)),
            }
        } else {
            // Those of the same file name, or all.
            let alike = |known: &&str| known.rsplit('/').next() == name.trim_end_matches(".hbs").rsplit('/').next();
            let names: Vec<&str> = EMBEDDED.iter().map(|(name, _)| *name).collect();
            let near: Vec<&str> = names.iter().copied().filter(alike).collect();
            let known = if near.is_empty() { names } else { near }.into_iter().map(str::to_owned).collect();
            faults.push(TemplateError { known, ..TemplateError::of(&name, Fault::UnknownFile) });
        }
    }
}

/// A built-in name, or a partial of one's own.
fn is_known(name: &str) -> bool {
    let partial = |rest: &str| rest.ends_with(".html") || rest.ends_with(".txt");
    EMBEDDED.iter().any(|(known, _)| *known == name) || name.strip_prefix("layouts/").is_some_and(partial)
}

/// The address of a set's content: SHA-256 over names and sources, each preceded by its length.
pub(super) fn hash(sources: &Sources) -> String {
    let mut digest = Sha256::new();
    for text in sources.iter().flat_map(|(name, source)| [name, source]) {
        digest.update(text.len().to_le_bytes());
        digest.update(text);
    }
    hex(&digest.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_of_a_name_or_a_source_changes_the_hash() {
        let set = |name: &str, source: &str| hash(&Sources::from([(name.to_owned(), source.to_owned())]));
        assert_eq!(set("a", "b").len(), 64);
        assert_eq!(set("a", "b"), set("a", "b"));
        assert_ne!(set("a", "b"), set("a", "c"));
        assert_ne!(set("ab", "c"), set("a", "bc"));
    }

    #[test]
    fn every_file_below_mail_and_layouts_is_embedded() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("templates");
        let mut found = 0;
        let mut folders = vec![root.join("mail"), root.join("layouts")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let name = path.strip_prefix(&root).unwrap().with_extension("");
                assert!(embedded().contains_key(name.to_str().unwrap()), "{name:?}");
                found += 1;
            }
        }
        assert_eq!(found, EMBEDDED.len());
    }
}
