//! Small histories of both forms, in every mode, on both databases.

use crate::support::{On, postgres_schema};
use crate::{STATUSPAGE, TIMELINE, history, on_both};
use allclear::cli::replay::history::Mode;
use allclear::cli::replay::{Options, run};
use std::path::Path;

on_both! {
    free_everybody_is_told_what_they_follow_and_the_end;
    blocked_what_ended_before_it_could_leave_is_told_to_nobody;
    doubled_is_as_if_said_once;
    a_database_or_folder_in_use_is_refused;
}

async fn url(on: On, folder: &Path) -> String {
    match on {
        On::Sqlite => format!("sqlite://{}", folder.join("replay.db").display()),
        On::Postgres => postgres_schema().await,
    }
}

/// Replays both histories at once; how many mails each folder has, and the report.
async fn replayed(on: On, mode: Mode) -> (Vec<String>, serde_json::Value) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("mails");
    let histories = [("one".to_owned(), history(STATUSPAGE)), ("two".to_owned(), history(TIMELINE))];
    let options = Options { mode, database: Some(url(on, folder.path()).await), out: Some(out.clone()) };
    let report = run(&histories, &options).await.unwrap();
    assert!(report.holds(), "{}", report.text());
    let mut folders: Vec<_> = std::fs::read_dir(out)
        .unwrap()
        .map(|folder| {
            let path = folder.unwrap().path();
            let mails = std::fs::read_dir(&path).unwrap().count();
            format!("{} {mails}", path.file_name().unwrap().to_string_lossy())
        })
        .collect();
    folders.sort();
    (folders, serde_json::from_str(&report.json()).unwrap())
}

async fn free_everybody_is_told_what_they_follow_and_the_end(on: On) {
    let (folders, report) = replayed(on, Mode::Free).await;
    assert_eq!(folders, ["Web API 2", "everything 8", "mail 3", "nothing 0", "search 5"]);
    let numbers = ["incidents", "updates", "mails", "undecided", "strays"].map(|name| report[name].as_i64().unwrap());
    assert_eq!(numbers, [4, 8, 18, 0, 0]);
    assert_eq!(report["mails_per_told_pair"], 2.5);
}

async fn blocked_what_ended_before_it_could_leave_is_told_to_nobody(on: On) {
    let (folders, _) = replayed(on, Mode::Blocked).await;
    assert_eq!(folders, ["Web API 0", "everything 1", "mail 0", "nothing 0", "search 0"]);
}

async fn doubled_is_as_if_said_once(on: On) {
    let (folders, _) = replayed(on, Mode::Doubled).await;
    // Of the maintenance and of the second incident the end came first: there was nothing left to tell.
    assert_eq!(folders, ["Web API 0", "everything 3", "mail 2", "nothing 0", "search 2"]);
}

async fn a_database_or_folder_in_use_is_refused(on: On) {
    let folder = tempfile::tempdir().unwrap();
    let options = |out: &str| {
        let database = format!("sqlite://{}", folder.path().join("replay.db").display());
        Options { mode: Mode::Free, database: Some(database), out: Some(folder.path().join(out)) }
    };
    let histories = [("one".to_owned(), history(TIMELINE))];
    let twice = [histories[0].clone(), histories[0].clone()];
    std::fs::write(folder.path().join("replay-2.db"), "").unwrap();
    let refused = run(&twice, &options("a")).await.unwrap_err();
    assert!(refused.errors[0].ends_with("replay-2.db is there already"), "{refused:?}");
    run(&histories, &options("b")).await.unwrap();
    let refused = run(&histories, &options("b")).await.unwrap_err();
    assert!(refused.errors[0].ends_with("is not empty"), "{refused:?}");
    // A PostgreSQL database may have anything in it: each history gets a schema of its own.
    if on == On::Postgres {
        let options = Options { database: Some(postgres_schema().await), out: None, ..options("c") };
        run(&twice, &options).await.unwrap();
        run(&twice, &options).await.unwrap();
    }
}
