//! The templates as files: the embedded set, its three parts, and the address of its content.

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

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

/// The address of a set's content: SHA-256 over names and sources, each preceded by its length.
pub(super) fn hash(sources: &Sources) -> String {
    let mut digest = Sha256::new();
    for text in sources.iter().flat_map(|(name, source)| [name, source]) {
        digest.update(text.len().to_le_bytes());
        digest.update(text);
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
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
