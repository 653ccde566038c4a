//! Every statement of the product is prepared on both databases: this replaces compile-time checks of SQL.

use crate::on_both;
use crate::support::{self, On};
use allclear::store::{Clock, statements};
use sqlx::{Connection, Executor, PgConnection, SqlSafeStr, SqliteConnection};

on_both! {
    every_statement_can_be_prepared;
    a_statement_that_is_wrong_would_be_found;
}

async fn prepare(on: On, url: &str, texts: Vec<(&'static str, &'static str)>) -> Vec<String> {
    let mut wrong = Vec::new();
    match on {
        On::Sqlite => {
            let mut conn = SqliteConnection::connect(url).await.unwrap();
            for (name, text) in texts {
                let prepared = (&mut conn).prepare(text.into_sql_str()).await;
                wrong.extend(prepared.err().map(|e| format!("{name}: {e}")));
            }
        }
        On::Postgres => {
            let mut conn = PgConnection::connect(url).await.unwrap();
            for (name, text) in texts {
                let prepared = (&mut conn).prepare(text.into_sql_str()).await;
                wrong.extend(prepared.err().map(|e| format!("{name}: {e}")));
            }
        }
    }
    wrong
}

async fn every_statement_can_be_prepared(on: On) {
    let (_store, _folder, url) = support::store(on, Clock::Database).await;
    let all = statements();
    assert!(all.len() > 80, "{} statements: is a file missing from the list?", all.len());
    assert!(all.iter().all(|sql| !sql.name.is_empty()));
    let texts = all.iter().map(|sql| (sql.name, if on == On::Sqlite { sql.sqlite } else { sql.postgres })).collect();
    let wrong = prepare(on, &url, texts).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}

async fn a_statement_that_is_wrong_would_be_found(on: On) {
    let (_store, _folder, url) = support::store(on, Clock::Database).await;
    let wrong =
        prepare(on, &url, vec![("RIGHT", "SELECT state FROM delivery"), ("WRONG", "SELECT colour FROM delivery")])
            .await;
    assert!(wrong.len() == 1 && wrong[0].starts_with("WRONG: "), "{wrong:?}");
}
