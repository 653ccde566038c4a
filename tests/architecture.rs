//! The layers, the homes of the large dependencies, the twin migrations and the budget of lines.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each layer and what it may use, besides itself.
const LAYERS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("failpoint", &[]),
    ("config", &["domain"]),
    ("telemetry", &[]),
    ("store", &["domain", "config"]),
    ("mail", &["domain", "config", "failpoint"]),
    ("template", &["domain", "config"]),
    ("flow", &["domain", "config", "failpoint", "store", "mail", "template"]),
    ("http", &["domain", "config", "store", "mail", "template", "flow"]),
    ("cli", &["domain", "config", "telemetry", "store", "mail", "template", "flow"]),
    ("app", &["domain", "config", "telemetry", "store", "mail", "template", "flow", "http", "cli"]),
    ("main", &["domain", "config", "telemetry", "store", "mail", "template", "flow", "http", "cli", "app"]),
];

/// Where a dependency may be named; folders end with a slash.
const HOMES: &[(&str, &[&str])] = &[
    ("sqlx", &["store/"]),
    ("lettre", &["mail/", "mail.rs"]),
    ("axum", &["http/", "app.rs"]),
    ("backoff", &["flow/retry.rs"]),
];

/// The lines of code there are. The design asks for fewer: whoever raises this says in the commit what it buys.
const LINE_BUDGET: usize = 33_985;

/// What is wrong with one file of `src`; `path` is relative to `src`, with slashes.
fn faults(path: &str, text: &str) -> Vec<String> {
    if path == "lib.rs" {
        return Vec::new();
    }
    let parts: Vec<&str> = path.trim_end_matches(".rs").split('/').collect();
    let Some((layer, allowed)) = LAYERS.iter().find(|(layer, _)| *layer == parts[0]) else {
        return vec![format!("src/{path} is in no layer: give it one in tests/architecture.rs")];
    };
    let depth = parts.iter().filter(|part| **part != "mod").count();
    let code = without_comment_lines(text);
    let mut faults = Vec::new();
    for used in modules_used(&code, depth) {
        let known = LAYERS.iter().any(|(layer, _)| *layer == used);
        if known && used != *layer && !allowed.contains(&used.as_str()) {
            faults.push(format!("src/{path} uses `{used}`, which `{layer}` may not: move it, or pass it in"));
        }
    }
    for (dependency, homes) in HOMES {
        let home = homes.iter().any(|home| path == *home || (home.ends_with('/') && path.starts_with(home)));
        if !home && names_crate(&code, dependency) {
            faults.push(format!("src/{path} names `{dependency}`, which lives only in {}", homes.join(", ")));
        }
    }
    faults
}

fn without_comment_lines(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The top-level modules that code reaches by `crate::`, `allclear::` or enough `super::`.
fn modules_used(code: &str, depth: usize) -> BTreeSet<String> {
    let up = "super::".repeat(depth);
    let mut used = BTreeSet::new();
    for root in ["crate::", "allclear::", up.as_str()] {
        for (at, _) in code.match_indices(root) {
            let rest = code[at + root.len()..].trim_start();
            match rest.strip_prefix('{') {
                Some(group) => used.extend(heads(group)),
                None => used.extend(identifier(rest)),
            }
        }
    }
    used
}

/// The first identifier of each item of a `use` group, up to its closing brace.
fn heads(group: &str) -> Vec<String> {
    let (mut depth, mut fresh, mut heads) = (0, true, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            c if fresh && !c.is_whitespace() => {
                heads.extend(identifier(&group[at..]));
                fresh = false;
            }
            _ => {}
        }
    }
    heads
}

fn identifier(text: &str) -> Option<String> {
    let word: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!word.is_empty()).then_some(word)
}

/// Whether code names a crate, as the head of a path or in `use`.
fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = &code[..at];
        let after = &code[at + name.len()..];
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let inside = before.ends_with(word) || before.ends_with('.');
        let of_a_module = before.strip_suffix("::").is_some_and(|head| head.ends_with(word));
        let imported = before.ends_with("use ") || before.ends_with("extern crate ");
        !inside && !of_a_module && (after.starts_with("::") || (imported && after.starts_with([';', ' '])))
    })
}

fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn migrations(database: &str) -> BTreeSet<String> {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "migrations", database].iter().collect();
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn every_file_keeps_to_its_layer() {
    let sources = sources();
    assert!(sources.iter().any(|(path, _)| path == "main.rs"), "src was not read");
    let faults: Vec<String> = sources.iter().flat_map(|(path, text)| faults(path, text)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What counts a replay must be able to find the dispatcher wrong.
#[test]
fn the_counting_of_a_replay_knows_nothing_of_the_dispatcher() {
    let counting = ["cli/replay/count.rs", "cli/replay/history.rs"];
    for (path, text) in sources().into_iter().filter(|(path, _)| counting.contains(&path.as_str())) {
        let code = without_comment_lines(&text);
        let used: Vec<_> = modules_used(&code, 3).into_iter().filter(|used| used != "domain").collect();
        assert!(used.is_empty(), "src/{path} uses {used:?}");
        let beside: BTreeSet<_> = code.split("super::").skip(1).filter_map(identifier).collect();
        assert!(beside.iter().all(|module| module == "history"), "src/{path} uses {beside:?}");
    }
    assert!(counting.iter().all(|path| sources().iter().any(|(known, _)| known == path)), "the counting has moved");
}

#[test]
fn both_databases_have_the_same_migrations() {
    let (sqlite, postgres) = (migrations("sqlite"), migrations("postgres"));
    let apart: Vec<_> = sqlite.symmetric_difference(&postgres).collect();
    assert!(apart.is_empty(), "only on one database: {apart:?}; add the namesake under migrations/");
    let store = sources().iter().any(|(path, _)| path.starts_with("store/"));
    assert!(!store || !sqlite.is_empty(), "there is a store, but migrations/sqlite was not found");
}

/// Lines somebody has to read to know the code: no blank lines, no comments, no tests.
fn lines_of_code(path: &str, text: &str) -> usize {
    let is_test = path.ends_with("tests.rs") || path.ends_with("testing.rs");
    let code = if is_test { "" } else { text.split("#[cfg(test)]\nmod ").next().unwrap_or_default() };
    code.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

#[test]
fn the_source_stays_readable() {
    let lines: usize = sources().iter().map(|(path, text)| lines_of_code(path, text)).sum();
    assert!(
        lines <= LINE_BUDGET,
        "src has {lines} lines of code, {LINE_BUDGET} are allowed: cut something, and lower the budget to what is left"
    );
}

#[test]
fn tests_and_comments_are_not_counted() {
    let text = "//! Doc.\nfn f() {}\n\n// why\n#[cfg(test)]\nmod tests {\n    fn g() {}\n}\n";
    assert_eq!(lines_of_code("a.rs", text), 1);
    assert_eq!(lines_of_code("a/tests.rs", text), 0);
}

#[test]
fn the_check_refuses_what_it_should() {
    for (path, text) in [
        ("domain/truth.rs", "use crate::store::Store;"),
        ("domain/truth.rs", "fn f() { super::super::store::open() }"),
        ("domain/mod.rs", "use super::config::Config;"),
        ("config/mod.rs", "use crate::{domain::id, mail::session};"),
        ("config.rs", "use crate::{\n    domain::{id, time},\n    mail,\n};"),
        ("store/open.rs", "use crate::template::Set;"),
        ("mail/session.rs", "fn f(s: &crate::store::Store) {}"),
        ("flow/worker.rs", "use crate::http::api;"),
        ("http/api.rs", "use crate::cli::serve;"),
        ("http/api.rs", "use crate::telemetry::masked;"),
        ("cli/serve.rs", "allclear::app::run()"),
        ("flow/worker.rs", "let row: sqlx::Row = x;"),
        ("flow/worker.rs", "#[derive(sqlx::FromRow)]"),
        ("flow/worker.rs", "use ::lettre::Address;"),
        ("cli/mod.rs", "use axum as web;"),
        ("flow/worker.rs", "use backoff::ExponentialBackoff;"),
        ("helpers.rs", ""),
    ] {
        assert_eq!(faults(path, text).len(), 1, "{path}: {text}: {:?}", faults(path, text));
    }
}

#[test]
fn the_check_allows_what_it_should() {
    for (path, text) in [
        ("config/check.rs", "use crate::domain::class::Class;\nuse super::source;"),
        ("store/open.rs", "use sqlx::Row;\nuse super::mail;\n//! See [`crate::flow::plan`]."),
        ("flow/retry.rs", "use backoff::ExponentialBackoff;\nuse crate::{domain, store, mail, template};"),
        ("flow/worker.rs", "let backoff = next(); self.retry.backoff::<T>(); crate::flow::retry::backoff::next()"),
        ("app.rs", "use axum::Router;\nuse crate::{cli, http, telemetry};"),
        ("main.rs", "fn main() { allclear::app::run() }"),
    ] {
        assert!(faults(path, text).is_empty(), "{path}: {:?}", faults(path, text));
    }
}
