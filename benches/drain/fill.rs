//! What is in the queue before a run.

use crate::common::Fallible;
use crate::common::place::on;
use crate::common::product::shared;
use allclear::domain::connection::{Fault, What};
use allclear::flow::ingest::{self, Caller};
use allclear::flow::intake::SignalIn;
use allclear::flow::worker;

const SIGNALS: usize = 1_000;

/// People and connections straight into the tables, since only what follows is the product's work; then one
/// failure each through ingest, and plan.
pub async fn fill(url: &str, mails: usize) -> Fallible<()> {
    let shared = shared(url, 1, None).await?;
    people(url, mails).await?;
    let caller = Caller { source: "bench".to_owned(), may_cover: false };
    for from in (0..mails).step_by(SIGNALS) {
        let broken: Vec<SignalIn> = (from..mails.min(from + SIGNALS)).map(broken).collect();
        for answer in ingest::many_signals(&shared.store, &shared.setting.ingest(), &caller, &broken).await? {
            answer.map_err(|e| e.what)?;
        }
    }
    worker::plan_all(&shared).await?;
    if url.starts_with("postgres") {
        // What autovacuum does a minute later anyway.
        on(url, "ANALYZE".to_owned()).await?;
    }
    Ok(())
}

fn broken(n: usize) -> SignalIn {
    SignalIn {
        connection: Some(format!("c{n}")),
        component: None,
        what: What::Failed,
        fault: Some(Fault::Permanent),
        by: None,
        connections: None,
        since: None,
        confirm_within: None,
        observed_at: None,
        sequence: None,
    }
}

async fn people(url: &str, n: usize) -> Fallible<()> {
    let sqlite = url.starts_with("sqlite");
    let (from, id) = if sqlite {
        (
            format!(
                "(WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {n}) SELECT i FROM n) AS n"
            ),
            "randomblob(16)",
        )
    } else {
        (format!("generate_series(0, {n} - 1) AS n(i)"), "gen_random_uuid()")
    };
    let sql = format!(
        "INSERT INTO component (id, key, name, created_at) VALUES ({id}, 'mail', 'Mail sync', 0);
         INSERT INTO subscriber (id, key, address, locale, zone, created_at)
            SELECT {id}, 's' || i, 'person-' || i || '@customer.example', 'en', 'Europe/Berlin', 0 FROM {from};
         INSERT INTO connection (id, key, component_id, name, created_at)
            SELECT {id}, 'c' || i, k.id, 'person-' || i || '@customer.example', 0 FROM {from} CROSS JOIN component k;
         INSERT INTO connection_subscriber (connection_id, subscriber_id)
            SELECT c.id, s.id FROM connection c JOIN subscriber s ON s.key = 's' || substr(c.key, 2);"
    );
    on(url, sql).await
}
