//! The journal: whatever is done to its lines by hand is found, as far as it can be.

use crate::on_both;
use crate::support::{self, On};
use allclear::store::{Clock, Store, journal, statements};
use sqlx::{Connection, PgConnection, SqliteConnection};

on_both! {
    a_changed_removed_or_inserted_line_is_found;
    lines_written_at_the_same_time_follow_each_other;
}

async fn tamper(url: &str, sql: &'static str) {
    if url.starts_with("sqlite") {
        let mut conn = SqliteConnection::connect(url).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut conn).await.unwrap();
    } else {
        let mut conn = PgConnection::connect(url).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut conn).await.unwrap();
    }
}

async fn write(store: &Store, n: usize) {
    let mut tx = store.begin().await.unwrap();
    let lines: Vec<_> = (0..n).map(|i| ("resend", format!("dlv_{i}"), "because — \u{1f4e7}".to_owned())).collect();
    journal::append_all(&mut tx, "cli:jo", &lines).await.unwrap();
    tx.commit().await.unwrap();
}

async fn broken(store: &Store) -> Option<i64> {
    journal::verify(&mut store.read().await.unwrap(), None).await.unwrap().broken
}

async fn a_changed_removed_or_inserted_line_is_found(on: On) {
    for (what, found) in [
        ("UPDATE journal SET detail = 'nothing' WHERE n = 3", Some(3)),
        ("UPDATE journal SET at = at + 1 WHERE n = 5", Some(5)),
        ("UPDATE journal SET who = 'cli:anna' WHERE n = 1", Some(1)),
        ("DELETE FROM journal WHERE n = 2", Some(3)),
        ("DELETE FROM journal WHERE n = 1", Some(2)),
        // Whoever closes the gap again leaves the hash.
        ("DELETE FROM journal WHERE n = 2; UPDATE journal SET n = 2 WHERE n = 3", Some(2)),
        (
            "UPDATE journal SET n = 99 WHERE n = 2; UPDATE journal SET n = 2 WHERE n = 3; UPDATE journal SET n = 3 WHERE n = 99",
            Some(2),
        ),
    ] {
        let (store, _folder, url) = support::store(on, Clock::Database).await;
        write(&store, 4).await;
        write(&store, 2).await;
        assert_eq!(broken(&store).await, None);
        tamper(&url, what).await;
        assert_eq!(broken(&store).await, found, "{what}");
    }
    let (store, _folder, url) = support::store(on, Clock::Database).await;
    write(&store, 3).await;
    let insert = match on {
        On::Sqlite => {
            "INSERT INTO journal SELECT 4, randomblob(16), at, who, action, subject, detail, hash FROM journal WHERE n = 3"
        }
        On::Postgres => {
            "INSERT INTO journal SELECT 4, gen_random_uuid(), at, who, action, subject, detail, hash FROM journal WHERE n = 3"
        }
    };
    tamper(&url, insert).await;
    assert_eq!(broken(&store).await, Some(4));
    tamper(&url, "DELETE FROM journal WHERE n = 4").await;
    // What the chain cannot show, a number and hash kept elsewhere can: the end cut off, or all written anew.
    let whole = journal::verify(&mut store.read().await.unwrap(), None).await.unwrap();
    assert_eq!((whole.lines, whole.hash.len()), (3, 64));
    tamper(&url, "DELETE FROM journal WHERE n = 3").await;
    let mut tx = store.read().await.unwrap();
    let cut = journal::verify(&mut tx, Some((3, whole.hash.as_str()))).await.unwrap();
    assert_eq!((cut.broken, cut.lines, cut.expected), (None, 2, Some(false)));
    let known = journal::verify(&mut tx, Some((2, cut.hash.as_str()))).await.unwrap();
    assert_eq!(known.expected, Some(true));
    drop(tx);
    write(&store, 5).await;
    let mut tx = store.read().await.unwrap();
    assert_eq!(journal::verify(&mut tx, Some((3, whole.hash.as_str()))).await.unwrap().expected, Some(false));
    let page = journal::newest(&mut tx, Some(5), 3).await.unwrap();
    assert_eq!(page.iter().map(|l| l.n).collect::<Vec<_>>(), [4, 3, 2]);
}

async fn lines_written_at_the_same_time_follow_each_other(on: On) {
    let (store, _folder, _url) = support::store(on, Clock::Database).await;
    let writers: Vec<_> = (0..4)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..5 {
                    write(&store, 2).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let whole = journal::verify(&mut store.read().await.unwrap(), None).await.unwrap();
    assert_eq!((whole.broken, whole.lines), (None, 40));
}

#[test]
fn the_product_has_no_statement_that_changes_a_line() {
    let changes = |text: &str| text.contains("UPDATE journal") || text.contains("DELETE FROM journal");
    assert!(statements().iter().all(|sql| !changes(sql.sqlite) && !changes(sql.postgres)));
    assert!(statements().iter().any(|sql| sql.sqlite.contains("INSERT INTO journal")));
}
