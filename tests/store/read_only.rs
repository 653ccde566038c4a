//! PostgreSQL that is set read-only, and back: sessions that were opened meanwhile would take no writes for ever.

use allclear::store::open::Connections;
use allclear::store::setup::{self, ComponentRow};
use allclear::store::{Clock, Store, StoreError, Tx};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

const SESSIONS: u32 = 3;

/// A database of the test's own: what is set for it is set for no other test. Who may set it, its name and its URL.
async fn database() -> (PgConnection, String, String) {
    let base = std::env::var("ALLCLEAR_TEST_POSTGRES").unwrap();
    let mut admin = PgConnection::connect(&base).await.unwrap();
    let name = format!("t_{}", uuid::Uuid::now_v7().simple());
    run(&mut admin, format!("CREATE DATABASE {name}")).await;
    let (user, rest) = base.split_once('@').unwrap();
    let server = rest.split('/').next().unwrap();
    let url = format!("{user}@{server}/{name}");
    (admin, name, url)
}

async fn run(conn: &mut PgConnection, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(conn).await.unwrap();
}

async fn write(store: &Store) -> Result<(), StoreError> {
    let mut tx = store.begin().await?;
    let row = ComponentRow { key: "imap".into(), name: "Mail sync".into(), group: None, depends_on: vec![] };
    setup::put_component(&mut tx, &row).await?;
    tx.commit().await
}

#[tokio::test]
async fn sessions_opened_while_the_database_took_no_writes_are_replaced() {
    let (mut admin, name, url) = database().await;
    let connections = Connections { sqlite_readers: 1, postgres: SESSIONS };
    let store = Store::open(&url, connections, Clock::Database).await.unwrap();
    write(&store).await.unwrap();
    run(&mut admin, format!("ALTER DATABASE {name} SET default_transaction_read_only = on")).await;
    let gone = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
    run(&mut admin, gone).await;
    // A session that died is noticed when it is used.
    let told = loop {
        if let Err(told) = write(&store).await
            && told.is_read_only()
        {
            break told;
        }
    };
    assert!(told.is_away() && told.hint().contains("default_transaction_read_only"), "{told}; {}", told.hint());
    let mut all = Vec::new();
    while all.len() < SESSIONS as usize {
        // Reading goes on.
        if let Ok(tx) = store.read().await {
            assert!(!tx.takes_writes());
            all.push(tx);
        }
    }
    drop(all);
    run(&mut admin, format!("ALTER DATABASE {name} RESET default_transaction_read_only")).await;
    // Those that are no older than a second are let through: to replace them at once would be a storm of logins.
    loop {
        let mut all = Vec::new();
        for _ in 0..SESSIONS {
            all.push(store.begin().await.unwrap());
        }
        if all.iter().all(Tx::takes_writes) {
            break;
        }
    }
    write(&store).await.unwrap();
    drop(store);
    run(&mut admin, format!("DROP DATABASE {name} WITH (FORCE)")).await;
}
