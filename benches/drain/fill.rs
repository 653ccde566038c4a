//! What is in the queue before a run.

use crate::Fallible;
use crate::place::on_server;
use allclear::domain::class::{Class, Limits};
use allclear::domain::connection::{Fault, What};
use allclear::domain::time::Span;
use allclear::flow::copies::Copies;
use allclear::flow::dispatch::Shared;
use allclear::flow::ingest::{self, Caller};
use allclear::flow::intake::SignalIn;
use allclear::flow::retry::Schedule;
use allclear::flow::setting::{Setting, Stream};
use allclear::flow::spill::Spill;
use allclear::flow::worker;
use allclear::store::open::Connections;
use allclear::store::{Clock, Store};
use allclear::template::{Page, Templates};
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};
use std::sync::Arc;
use std::time::Duration;

const SIGNALS: usize = 1_000;

fn setting(slots: usize) -> Setting {
    let limits = |class: &Class| match class {
        Class::ActionRequired => Limits { dwell: Span::ZERO, ..Limits::of(*class) },
        _ => Limits::of(*class),
    };
    Setting {
        domain: "bench.example.com".to_owned(),
        streams: vec![Stream {
            caps: allclear::flow::pace::Caps::default(),
            name: "all".to_owned(),
            from: "Example <account@example.com>".to_owned(),
            reply_to: None,
            slots,
            classes: Class::ALL.to_vec(),
        }],
        limits: Class::ALL.iter().map(|c| (*c, limits(c))).collect(),
        retry: Schedule::default(),
        lease: Span::minutes(13),
        quarantine: Span::minutes(15),
        page: 1_000,
        ask_unconfirmed: true,
        confirm_within: Span::hours(6),
        public_url: Some("https://example.com/connections".to_owned()),
        support_url: Some("https://example.com/support".to_owned()),
        operators: Default::default(),
        surge: None,
        patience: None,
        gate: true,
    }
}

pub async fn shared(url: &str, slots: usize) -> Fallible<Shared> {
    let page = Page { name: "Example".to_owned(), support_url: None, public_url: None };
    let (setting, templates) = (setting(slots), Templates::embedded(&page)?);
    Ok(Shared {
        store: Store::open(url, Connections::default(), Clock::Database).await?,
        copies: Arc::new(Copies::new(&setting, &templates, Span::hours(45 * 24))),
        setting: Arc::new(setting),
        templates: Arc::new(templates),
        owner: "bench".to_owned(),
        spill: Spill::new(std::env::temp_dir().join(format!("drain-spill-{}", std::process::id()))),
        dialogue: Duration::from_secs(60),
        watch: Default::default(),
    })
}

/// People and connections straight into the tables, since only what follows is the product's work; then one
/// failure each through ingest, and plan.
pub async fn fill(url: &str, mails: usize) -> Fallible<()> {
    let shared = shared(url, 1).await?;
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
        on_server(url, "ANALYZE".to_owned()).await?;
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
    if sqlite {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut SqliteConnection::connect(url).await?).await?;
        return Ok(());
    }
    on_server(url, sql).await
}
