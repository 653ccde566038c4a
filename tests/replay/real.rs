//! The recorded histories of real status pages, read where they lie.

use crate::on_both;
use crate::support::{On, postgres_schema};
use allclear::cli::replay::history::{History, Mode};
use allclear::cli::replay::{Options, read, run};
use std::path::PathBuf;

on_both! {
    nothing_is_stale_missing_or_said_twice_with_a_free_queue;
    nothing_is_stale_missing_or_said_twice_with_a_blocked_queue;
    nothing_is_stale_missing_or_said_twice_when_all_comes_twice;
}

/// What a subscriber of one component may get about an incident, on average.
const MAILS_PER_TOLD_PAIR: [(&str, f64); 2] = [("github-2010", 2.5), ("claude-2023", 3.1)];

fn histories(on: On) -> Vec<(String, History)> {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "shared", "data", "incidents"].iter().collect();
    let Ok(entries) = std::fs::read_dir(&folder) else {
        eprintln!("{} is not there: nothing was replayed", folder.display());
        return Vec::new();
    };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| ["incidents.json", ".jsonl"].iter().any(|end| path.to_string_lossy().ends_with(end)));
    files.sort();
    assert_eq!(files.len(), 5);
    let mut histories: Vec<_> = files.iter().flat_map(|file| read(file).unwrap()).collect();
    // A statement costs several times as much there: the last tenth of each, unless all is asked for.
    if on == On::Postgres && std::env::var_os("ALLCLEAR_REPLAY_ALL").is_none() {
        for (_, history) in &mut histories {
            let from = history.incidents.len() * 9 / 10;
            history.incidents.drain(..from);
        }
    }
    histories
}

async fn replayed(on: On, mode: Mode) {
    let replays = histories(on).into_iter().map(async |history| {
        let database = match on {
            On::Sqlite => None,
            On::Postgres => Some(postgres_schema().await),
        };
        let most = MAILS_PER_TOLD_PAIR.iter().find(|(file, _)| history.0.starts_with(file)).map(|(_, most)| *most);
        let report = run(&[history], &Options { mode, database, out: None }).await.unwrap();
        let pair = report.counted.mails_per_told_pair();
        let many = mode == Mode::Free && on == On::Sqlite && most.is_some_and(|most| pair > most);
        (!report.holds() || many).then(|| report.text())
    });
    let faults: Vec<_> = futures_util::future::join_all(replays).await.into_iter().flatten().collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

async fn nothing_is_stale_missing_or_said_twice_with_a_free_queue(on: On) {
    replayed(on, Mode::Free).await;
}

async fn nothing_is_stale_missing_or_said_twice_with_a_blocked_queue(on: On) {
    replayed(on, Mode::Blocked).await;
}

async fn nothing_is_stale_missing_or_said_twice_when_all_comes_twice(on: On) {
    replayed(on, Mode::Doubled).await;
}
