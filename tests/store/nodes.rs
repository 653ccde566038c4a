//! Names of nodes on PostgreSQL: who lives keeps his, whatever the server or the network between makes of his session.

use crate::support::{self, On};
use allclear::store::nodes::{Node, take};
use allclear::store::open::Connections;
use allclear::store::{Clock, Store, StoreError};
use sqlx::{Connection, PgConnection};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const LOCK: &str = "hashtextextended('allclear ' || $1, 0)";

/// A database, and a host that no other test has.
async fn world() -> (Store, tempfile::TempDir, String, String) {
    let (store, folder, url) = support::store(On::Postgres, Clock::Database).await;
    (store, folder, url, format!("web-{}", uuid::Uuid::now_v7().simple()))
}

/// The server loses the session that holds a name.
async fn lose(conn: &mut PgConnection, name: &str) {
    let sql = format!(
        "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1
            AND ((classid::bigint << 32) | objid::bigint) = {LOCK}"
    );
    let lost: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(name).fetch_one(conn).await.unwrap();
    assert_eq!(lost, 1);
}

/// Whether the lock of a name could be taken, as a process that starts takes it.
async fn lock(conn: &mut PgConnection, name: &str) -> bool {
    let sql = format!("SELECT pg_try_advisory_lock({LOCK})");
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(name).fetch_one(conn).await.unwrap()
}

fn name(node: &Node) -> &str {
    node.owner.split('/').next().unwrap()
}

#[tokio::test]
async fn who_starts_does_not_take_the_name_of_a_living_node_whose_session_was_lost() {
    let (store, _folder, url, host) = world().await;
    let mut first = take(&store, None, None, &host).await.unwrap();
    assert_eq!(name(&first), host);
    lose(&mut PgConnection::connect(&url).await.unwrap(), &host).await;
    let starting = take(&store, None, None, &host);
    tokio::pin!(starting);
    let second = loop {
        tokio::select! {
            biased;
            second = &mut starting => break second.unwrap(),
            () = tokio::time::sleep(Duration::from_millis(500)) => first.hold(&store).await.unwrap(),
        }
    };
    assert_eq!(name(&second), format!("{host}-2"));
    first.hold(&store).await.unwrap();
}

#[tokio::test]
async fn who_starts_again_takes_the_name_that_it_had() {
    let (store, _folder, _url, host) = world().await;
    let own = format!("{host}-2");
    let mut nodes = Vec::new();
    for expected in [&own, &host, &format!("{host}-3")] {
        nodes.push(take(&store, None, Some(&own), &host).await.unwrap());
        assert_eq!(name(&nodes[nodes.len() - 1]), expected);
    }
    nodes.push(take(&store, None, Some("elsewhere"), &host).await.unwrap());
    assert_eq!(name(&nodes[3]), format!("{host}-4"));
}

#[tokio::test]
async fn a_dead_node_s_name_is_taken_and_one_that_ended_gives_it_back() {
    let (store, _folder, url, host) = world().await;
    let first = take(&store, Some(&host), None, "any").await.unwrap();
    let dead = first.owner.clone();
    drop(first);
    let second = take(&store, Some(&host), None, "any").await.unwrap();
    assert!(name(&second) == host && second.owner != dead);
    second.leave(&store).await.unwrap();
    let mut conn = PgConnection::connect(&url).await.unwrap();
    let names: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM node").fetch_one(&mut conn).await.unwrap();
    assert_eq!(names, 0);
    assert_eq!(name(&take(&store, Some(&host), None, "any").await.unwrap()), host);
}

#[tokio::test]
async fn a_node_whose_name_is_looked_at_goes_on_and_one_whose_name_is_taken_stops() {
    let (store, _folder, url, host) = world().await;
    let mut first = take(&store, None, None, &host).await.unwrap();
    let mut other = PgConnection::connect(&url).await.unwrap();
    lose(&mut other, &host).await;
    // Its own session, which the server takes for alive, or a process that starts.
    while !lock(&mut other, &host).await {}
    first.hold(&store).await.unwrap();
    sqlx::query("UPDATE node SET incarnation = gen_random_uuid()").execute(&mut other).await.unwrap();
    assert!(matches!(first.hold(&store).await, Err(StoreError::Unfit { .. })));
}

/// What leads to the server until it is closed; then its connections lead nowhere, and new ones to the server.
async fn hole(url: &str) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let parts = url.split_once('@').unwrap();
    let (server, rest) = parts.1.split_once('/').unwrap();
    let through = format!("{}@{}/{rest}", parts.0, listener.local_addr().unwrap());
    let (server, age) = (server.to_owned(), Arc::new(AtomicU64::new(0)));
    let now = Arc::clone(&age);
    tokio::spawn(async move {
        loop {
            let (near, _) = listener.accept().await.unwrap();
            let (near, far) = (near.into_split(), TcpStream::connect(&server).await.unwrap().into_split());
            for (mut from, mut to) in [(near.0, far.1), (far.0, near.1)] {
                let (born, now) = (now.load(SeqCst), Arc::clone(&now));
                tokio::spawn(async move {
                    let mut piece = vec![0; 65_536];
                    while let Ok(n @ 1..) = from.read(&mut piece).await {
                        if now.load(SeqCst) == born && to.write_all(&piece[..n]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        }
    });
    (through, age)
}

#[tokio::test]
async fn connections_that_lead_nowhere_are_noticed() {
    let (_store, _folder, url, host) = world().await;
    let (through, age) = hole(&url).await;
    let connections = Connections { sqlite_readers: 1, postgres: 2 };
    let store = Store::open(&through, connections, Clock::Database).await.unwrap();
    let mut node = take(&store, Some(&host), None, "any").await.unwrap();
    node.hold(&store).await.unwrap();
    age.fetch_add(1, SeqCst);
    // Not at once: after a break the old ones come back by themselves.
    node.hold(&store).await.unwrap();
    let told = loop {
        if let Err(told) = node.hold(&store).await {
            break told;
        }
    };
    assert!(matches!(told, StoreError::Unfit { .. }) && told.to_string().contains("lead nowhere"), "{told}");
}
