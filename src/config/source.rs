//! Where values come from: one TOML file, and environment variables over it.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::error::ConfigError;
use super::raw::{self, Raw, Section};

/// The file that is read when none is named and it exists.
pub const DEFAULT_FILE: &str = "allclear.toml";

const PREFIX: &str = "ALLCLEAR_";
/// Sections whose keys stand right below them.
const FLAT: [(&str, &[&str]); 11] = [
    ("database", raw::Database::KEYS),
    ("http", raw::Http::KEYS),
    ("page", raw::Page::KEYS),
    ("mail", raw::Mail::KEYS),
    ("dispatch", raw::Dispatch::KEYS),
    ("plan", raw::Plan::KEYS),
    ("recovery", raw::Recovery::KEYS),
    ("templates", raw::Templates::KEYS),
    ("retention", raw::Retention::KEYS),
    ("surge", raw::Surge::KEYS),
    ("operators", raw::Operators::KEYS),
];

/// The variable that sets a dotted key.
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_uppercase())
}

/// The variables that are text.
///
/// # Errors
/// When one of ours is not.
pub(super) fn environment(
    all: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, ConfigError> {
    let mut env = Vec::new();
    for (name, value) in all {
        let Ok(name) = name.into_string() else { continue };
        match value.into_string() {
            Ok(value) => env.push((name, value)),
            Err(_) if name.starts_with(PREFIX) => {
                return Err(ConfigError::variable(&name, "is not UTF-8", "Set it in UTF-8."));
            }
            Err(_) => {}
        }
    }
    Ok(env)
}

/// Joins the file and the environment; the environment wins.
pub(super) fn read(file: Option<&Path>, env: impl Iterator<Item = (String, String)>) -> Result<Figment, ConfigError> {
    let mut sources = Figment::new();
    if let Some(path) = file {
        fs::read_to_string(path).map_err(|error| {
            let hint = "Name a TOML file this program may read, or leave the path out for the defaults.";
            ConfigError::file(path, format!("cannot be read: {error}"), hint)
        })?;
        sources = sources.merge(Toml::file_exact(path));
    }
    Ok(sources.merge(Environment(variables(env)?)))
}

/// Turns `ALLCLEAR_HTTP__LISTEN=…` into `http.listen`; the type of a key decides how its text is read.
fn variables(env: impl Iterator<Item = (String, String)>) -> Result<Dict, ConfigError> {
    let mut dict = Dict::new();
    for (name, text) in env {
        let Some(key) = name.strip_prefix(PREFIX).filter(|key| !key.starts_with("TEST_")) else {
            continue;
        };
        let key = key.to_lowercase();
        if let Some(right) = with_one_underscore(&key) {
            return Err(ConfigError::variable(&name, "this variable is not known", format!("Write {right}.")));
        }
        let parts: Vec<&str> = key.split("__").collect();
        if parts.len() < 2 {
            continue;
        }
        if !Raw::KEYS.contains(&parts[0]) || parts.contains(&"") {
            let hint = format!("Sections: {}; for example ALLCLEAR_HTTP__LISTEN.", Raw::KEYS.join(", "));
            return Err(ConfigError::variable(&name, "this variable names no section", hint));
        }
        if !insert(&mut dict, &parts, text) {
            let hint = "Take out the shorter of the two variables.";
            return Err(ConfigError::variable(&name, "set both as a value and as a section", hint));
        }
    }
    Ok(dict)
}

/// The variable that was meant where a section and its key are joined by one underscore.
fn with_one_underscore(name: &str) -> Option<String> {
    let of = |(section, keys): &(&str, &[&str])| {
        let key = name.strip_prefix(section)?.strip_prefix('_')?;
        keys.contains(&key).then(|| variable(&format!("{section}.{key}")))
    };
    FLAT.iter().find_map(of)
}

fn insert(dict: &mut Dict, parts: &[&str], text: String) -> bool {
    match parts {
        [] => false,
        [last] => dict.insert((*last).to_owned(), Value::from(text)).is_none(),
        [first, rest @ ..] => match dict.entry((*first).to_owned()).or_insert_with(|| Value::from(Dict::new())) {
            Value::Dict(_, inner) => insert(inner, rest, text),
            _ => false,
        },
    }
}

struct Environment(Dict);

impl Provider for Environment {
    fn metadata(&self) -> Metadata {
        Metadata::named("environment")
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.0.clone()))
    }
}
