//! V1, the worker that everybody writes first: it compares the mail with the fence inside the claiming transaction,
//! commits, sends, records. It races the same recoveries, and the same comparison finds what it did.

use crate::amount::random;
use crate::ledger::{Heard, Kind, compare};
use crate::site::{Site, until};
use crate::storm::{Size, Storm};
use crate::support::On;
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::{Connection as _, PgConnection};
use std::collections::HashSet;
use std::time::Instant;
use uuid::Uuid;

/// After so many rounds without a loss the race would have shown nothing.
const ROUNDS: u64 = 60;

/// What it will not claim is none of it: many such would stand before all others.
const DUE: &str = "SELECT d.id FROM delivery d WHERE d.state = 'queued' AND (d.class = 'action_required'
        AND NOT EXISTS (SELECT 1 FROM delivery_item i JOIN connection c ON c.id = i.connection_id
            WHERE i.delivery_id = d.id AND c.cleared >= i.episode)
        OR d.class = 'correction' AND NOT EXISTS (SELECT 1 FROM delivery_item i JOIN delivery o ON o.id = i.corrects_id
            WHERE i.delivery_id = d.id AND o.state IN ('queued', 'sending')))
    ORDER BY d.due_at LIMIT 12 FOR UPDATE OF d SKIP LOCKED";
const CLAIM: &str =
    "UPDATE delivery SET state = 'sending', token = token + 1, owner = 'naive', lease_until = 9000000000000000,
        claimed_at = due_at, message_id = 'naive', context = '{}', reason = NULL
    WHERE id = $1 AND (class = 'correction' OR NOT EXISTS (SELECT 1 FROM delivery_item i
        JOIN connection c ON c.id = i.connection_id WHERE i.delivery_id = $1 AND c.cleared >= i.episode))";
const MAIL: &str = "SELECT s.address, d.class, c.key FROM delivery d JOIN subscriber s ON s.id = d.subscriber_id
    JOIN delivery_item i ON i.delivery_id = d.id JOIN connection c ON c.id = i.connection_id WHERE d.id = $1";
const RECORD: &str = "UPDATE delivery SET state = 'accepted', maybe_mailed = TRUE, owner = NULL, lease_until = NULL,
        decided_at = due_at
    WHERE id = $1";
/// What it would still send: a mail planned while its connection recovered waits for a last look, which it has not.
const LEFT: &str = "SELECT COUNT(*) FROM delivery d WHERE d.state = 'sending' OR (d.state = 'queued'
    AND (d.class = 'correction' OR NOT EXISTS (SELECT 1 FROM delivery_item i JOIN connection c ON c.id = i.connection_id
        WHERE i.delivery_id = d.id AND c.cleared >= i.episode)))";
const UNSWEPT: &str = "SELECT (SELECT COUNT(*) FROM recovery WHERE swept_at IS NULL)
    + (SELECT COUNT(*) FROM plan WHERE done_at IS NULL)";

/// Sends whatever is there for ever.
async fn naive(storm: &Storm) {
    let mut conn = PgConnection::connect(&storm.site.url).await.unwrap();
    loop {
        let claimed = match claim(&mut conn).await {
            Ok(claimed) if !claimed.is_empty() => claimed,
            // Nothing to do, or another was first with a mail of the same thread.
            Ok(_) | Err(_) => {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                continue;
            }
        };
        for id in claimed {
            let rows: Vec<(String, String, String)> = sqlx::query_as(MAIL).bind(id).fetch_all(&mut conn).await.unwrap();
            let (to, class, _) = rows[0].clone();
            let kind = if class == "correction" { Kind::TakesBack } else { Kind::Asks };
            let names = rows.into_iter().map(|row| row.2).collect();
            let (begun, at) = (Instant::now(), Instant::now());
            storm.ears.hear(Heard { to, message_id: id.to_string(), kind, names, still: Vec::new(), begun, at });
            sqlx::query(RECORD).bind(id).execute(&mut conn).await.unwrap();
        }
    }
}

async fn claim(conn: &mut PgConnection) -> sqlx::Result<Vec<Uuid>> {
    let mut tx = conn.begin().await?;
    let mut claimed = Vec::new();
    for id in sqlx::query_scalar::<_, Uuid>(DUE).fetch_all(&mut *tx).await? {
        if sqlx::query(CLAIM).bind(id).execute(&mut *tx).await?.rows_affected() == 1 {
            claimed.push(id);
        }
    }
    tx.commit().await?;
    Ok(claimed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_naive_worker_leaves_somebody_with_a_mail_that_is_not_true() {
    let mut random = random();
    // A relay that nobody listens at: the nodes take in, plan and sweep, and cannot send.
    let closed = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap().port();
    let size = Size { groups: 8, crowd: 8, recoveries: 0, mails: 0, drained: false };
    let mut storm = Storm::new(Site::new(On::Postgres, closed, "").await, size).await;
    storm.start("one", &crate::race::RACER).await;
    storm.start("two", &crate::race::RACER).await;
    let storm = &storm;
    let workers = join_all((0..16).map(|_| naive(storm)));
    let rounds = async {
        for round in 1..=ROUNDS {
            let ways = storm.connections.iter().map(|one| {
                let mut random = StdRng::seed_from_u64(random.random());
                async move {
                    storm.fail(one, &mut random).await;
                    storm.mails(one, &mut random).await;
                    storm.recover(one, &mut random).await;
                }
            });
            join_all(ways).await;
            // Everything is well now: what is left is swept away, or taken back.
            until(async || storm.site.count(UNSWEPT).await == 0 && storm.site.count(LEFT).await == 0).await;
            let found = compare(&storm.ears.heard(), &storm.connections, &HashSet::new());
            let lost = found.wrong.iter().filter(|wrong| wrong.contains("mailed and not corrected")).count();
            if lost > 0 {
                println!("naive: {lost} of {} mails not corrected, after {round} rounds of 16 recoveries", found.asked);
                return true;
            }
        }
        false
    };
    tokio::select! {
        _ = workers => {}
        lost = rounds => assert!(lost, "the naive worker got away with it: the race shows nothing"),
    }
}
