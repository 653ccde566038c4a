//! `allclear simulate` with a few inboxes, in every course, on both databases.

use crate::on_both;
use crate::support::{On, postgres_schema};
use allclear::cli::simulate::{Options, run};

on_both! {
    whoever_must_act_is_told_and_whoever_was_asked_in_vain_is_told_otherwise;
    a_database_in_use_is_refused;
}

async fn url(on: On, folder: &std::path::Path) -> String {
    match on {
        On::Sqlite => format!("sqlite://{}", folder.join("simulation.db").display()),
        On::Postgres => postgres_schema().await,
    }
}

async fn whoever_must_act_is_told_and_whoever_was_asked_in_vain_is_told_otherwise(on: On) {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { connections: 300, courses: vec![], database: Some(url(on, folder.path()).await) };
    let report = run(&options).await.unwrap();
    assert!(report.holds(), "{}", report.text());
    let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
    let number = |course: usize, name: &str| json["courses"][course][name].as_i64().unwrap();
    // The flood is seen within the dwell: nobody is asked but who is truly broken, and nothing is to be taken back.
    assert_eq!((number(0, "mailed"), number(0, "corrected")), (0, 0));
    assert!(number(0, "held") > 290 && number(0, "withdrawn") > 290);
    // Nobody holds anything: all are asked, and all but those who acted themselves are told otherwise.
    assert_eq!((number(1, "mailed"), number(1, "held")), (300, 0));
    assert!(number(1, "corrected") > 290);
    // An operator stops it: the rest is never mailed.
    let (mailed, held) = (number(2, "mailed"), number(2, "held"));
    assert!((35..150).contains(&mailed), "{mailed} were mailed before the hold");
    assert!(held > 0 && mailed + held <= 300, "{mailed} mailed, {held} held");
    assert!(number(2, "withdrawn") >= held);
}

async fn a_database_in_use_is_refused(on: On) {
    if on == On::Sqlite {
        let folder = tempfile::tempdir().unwrap();
        let url = url(on, folder.path()).await;
        std::fs::write(folder.path().join("simulation.db"), b"").unwrap();
        let refused = run(&Options { connections: 300, courses: vec![], database: Some(url) }).await;
        assert!(refused.unwrap_err().errors[0].contains("is there already"));
    }
}
