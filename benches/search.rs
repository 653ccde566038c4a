//! How long support waits: showing a person, a connection, an incident, a notice or a delivery, every kind of search,
//! and the counts of the queue, with a million deliveries in the database.
//!
//! ```text
//! cargo bench --bench search
//! cargo bench --bench search -- --rows 1000000 --rounds 100 --databases sqlite
//! ```
//!
//! PostgreSQL is measured when `ALLCLEAR_TEST_POSTGRES` names a server. One delivery in ten waits, one in twenty was
//! withdrawn, one in two hundred failed and as many are parked; half are mails of 50 incidents, half "please reconnect".
//! Every round asks about somebody else, over the whole breadth of the data. It fails where the 95th percentile of
//! anything is above 50 milliseconds; the counts of the queue grow with what waits, and are told for that too.

use allclear::config::Config;
use allclear::domain::time::Span;
use allclear::flow::search;
use allclear::flow::setting::Setting;
use allclear::flow::show::{self, Asked};
use allclear::flow::status;
use allclear::store::open::Connections;
use allclear::store::search::Cursor;
use allclear::store::{Clock, Store};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use std::error::Error;
use std::time::Instant;

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

const BAR: f64 = 50.0;

/// `{6 i}` is the id of the i-th row of table 6; `{n}` counts to the number of rows.
const FILL: &[&str] = &[
    "{n} INSERT INTO component (id, key, name, created_at) SELECT {1 i}, 'k' || i, 'K', 1 FROM n WHERE i <= 20",
    "{n} INSERT INTO subscriber (id, key, address, locale, zone, created_at) SELECT {2 i}, 's' || i, 's' || i || '@example.net', 'en', 'UTC', 1
     FROM n WHERE i <= {rows} / 10",
    "{n} INSERT INTO connection (id, key, component_id, name, fault, episode, failed_at, created_at)
     SELECT {3 i}, 'c' || i, {1 i % 20 + 1}, 'C', 'permanent', 1, i, 1 FROM n WHERE i <= {rows} / 10",
    "{n} INSERT INTO connection_subscriber (connection_id, subscriber_id) SELECT {3 i}, {2 i} FROM n WHERE i <= {rows} / 10",
    "{n} INSERT INTO incident (id, key, title, phase, impact, revision, started_at, updated_at, created_at)
     SELECT {7 i}, 'i' || i, 'I', 'identified', 'major', 4, 1, 1, 1 FROM n WHERE i <= 50",
    "{n} INSERT INTO notice (id, kind, class, source, received_at, observed_at, incident_id, revision, phase, payload, outcome)
     SELECT {8 i}, 'incident', 'incident_update', 's', 1, 1, {7 i % 50 + 1}, i, 'identified', '[]', 'planned' FROM n WHERE i <= 200",
    "{n} INSERT INTO signal (id, source, received_at, observed_at, component_id, connection_id, what, fault, outcome)
     SELECT {5 i}, 's', 1, 1, {1 i % 20 + 1}, {3 i}, 'failed', 'permanent', 'waiting' FROM n WHERE i <= {rows} / 10",
    "{n} INSERT INTO plan (id, kind, matter_id, signal_id, connection_id, episode, component_episode, failed_at, created_at, done_at, outcome)
     SELECT {10 i}, 'failure', {3 i}, {5 i}, {3 i}, 1, 0, i, 1, 1, 'planned' FROM n WHERE i <= {rows} / 10",
    // Of each person some mails are of an incident, and some about the connection.
    "{n} INSERT INTO thread (id, matter_kind, matter_id, subscriber_id, ordinal, root, subject, sender, created_at)
     SELECT {4 i}, CASE WHEN i / ({rows} / 10) % 2 = 0 THEN 'incident' ELSE 'connections' END,
        CASE WHEN i / ({rows} / 10) % 2 = 0 THEN {7 i % 50 + 1} ELSE {1 i % 20 + 1} END, {2 i % ({rows} / 10) + 1}, i, 'r', 'Subject', 'f', 1 FROM n",
    "{n} INSERT INTO lane (id, class, fence_kind, fence_id, created_at)
     SELECT {11 i}, CASE WHEN i <= 20 THEN 'action_required' ELSE 'incident_update' END, CASE WHEN i <= 20 THEN 'component' ELSE 'incident' END,
        CASE WHEN i <= 20 THEN {1 i} ELSE {7 i - 20} END, 1 FROM n WHERE i <= 70",
    "{n} INSERT INTO delivery (id, class, stream, lane_id, cause_id, notice_id, incident_id, subscriber_id, thread_id, state, due_at, reason,
        maybe_mailed, address, message_id, context, template_set, created_at, claimed_at, decided_at)
     SELECT {6 i}, CASE WHEN c = 0 THEN 'incident_update' ELSE 'action_required' END, 'account',
        CASE WHEN c = 0 THEN {11 i % 50 + 21} ELSE {11 i % 20 + 1} END, {6 i}, CASE WHEN c = 0 THEN {8 i % 200 + 1} END,
        CASE WHEN c = 0 THEN {7 i % 50 + 1} END, {2 i % ({rows} / 10) + 1}, {4 i}, s.state, i,
        CASE s.state WHEN 'queued' THEN 'retry' WHEN 'withdrawn' THEN 'recovered' WHEN 'failed' THEN 'refused' WHEN 'parked' THEN 'too_old' END,
        s.state = 'accepted', CASE WHEN s.state <> 'queued' THEN 's' || (i % ({rows} / 10) + 1) || '@example.net' END,
        CASE WHEN s.state <> 'queued' THEN 'm' || i || '@status.example.com' END, 'c', 't', {now} - ({rows} - i) * 1000000, 1,
        CASE WHEN s.state <> 'queued' THEN i END
     FROM (SELECT i, i / ({rows} / 10) % 2 AS c, CASE WHEN i % 200 = 7 THEN 'failed' WHEN i % 200 = 8 THEN 'parked' WHEN i % 20 = 3 THEN 'withdrawn'
            WHEN i % 10 = 1 THEN 'queued' ELSE 'accepted' END AS state FROM n) s",
    "{n} INSERT INTO delivery_item (delivery_id, subject_id, component_id, connection_id, episode, failed_at)
     SELECT {6 i}, {3 i % ({rows} / 10) + 1}, {1 i % 20 + 1}, CASE WHEN i / ({rows} / 10) % 2 = 1 THEN {3 i % ({rows} / 10) + 1} END, 1, i FROM n",
    "{n} INSERT INTO attempt (id, delivery_id, token, owner, ended_at, outcome, code, enhanced, reply, guarded)
     SELECT {9 i}, {6 i}, 1, 'x', {now} - ({rows} - i) * 1000, CASE WHEN i % 200 = 7 THEN 'refused' ELSE 'accepted' END,
        CASE WHEN i % 200 = 7 THEN 552 ELSE 250 END, '2.0.0', 'Ok: queued as 4F' || i, TRUE FROM n WHERE i % 10 <> 1",
    "{n} INSERT INTO reply_word (word, created_at, delivery_id) SELECT '4f' || i, {now} - ({rows} - i) * 1000000, {6 i} FROM n WHERE i % 10 <> 1",
    "{n} INSERT INTO reply_word (word, created_at, delivery_id) SELECT w, {now} - ({rows} - i) * 1000000, {6 i} FROM n
     JOIN (SELECT 'mailbox' AS w UNION SELECT 'full' UNION SELECT '552') x ON TRUE WHERE i % 200 = 7",
];

fn main() -> Fallible<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(all(&args))
}

async fn all(args: &[String]) -> Fallible<()> {
    let given = |name: &str| args.iter().position(|a| a == name).and_then(|at| args.get(at + 1)).map(String::as_str);
    let rows: u64 = given("--rows").unwrap_or("1000000").parse()?;
    let rounds: u64 = given("--rounds").unwrap_or("100").parse()?;
    let server = std::env::var("ALLCLEAR_TEST_POSTGRES").ok();
    let usual = if server.is_some() { "sqlite,postgres" } else { "sqlite" };
    let folder = std::env::temp_dir().join(format!("search_{}", uuid::Uuid::now_v7().simple()));
    std::fs::create_dir_all(&folder)?;
    let mut slow = Vec::new();
    println!("{:<11}{:<34}{:>8}{:>9}{:>9}", "database", "what", "found", "p50 ms", "p95 ms");
    for database in given("--databases").unwrap_or(usual).split(',') {
        let schema = format!("search_{}", uuid::Uuid::now_v7().simple());
        let url = match (database, &server) {
            ("sqlite", _) => format!("sqlite://{}", folder.join("search.db").display()),
            (_, Some(server)) => {
                on(server, &format!("CREATE SCHEMA {schema}")).await?;
                let sign = if server.contains('?') { '&' } else { '?' };
                format!("{server}{sign}options[search_path]={schema}")
            }
            _ => return Err("ALLCLEAR_TEST_POSTGRES names no server".into()),
        };
        let measured = measure(database, &url, rows, rounds).await;
        if let Some(server) = server.as_ref().filter(|_| database != "sqlite") {
            on(server, &format!("DROP SCHEMA {schema} CASCADE")).await?;
        }
        slow.extend(measured?);
    }
    std::fs::remove_dir_all(folder)?;
    if slow.is_empty() { Ok(()) } else { Err(format!("above {BAR} ms: {}", slow.join(", ")).into()) }
}

/// Fills a database and asks; what was slower than the bar.
async fn measure(database: &str, url: &str, rows: u64, rounds: u64) -> Fallible<Vec<String>> {
    let store = Store::open(url, Connections::default(), Clock::Database).await?;
    let (now, begun) = (store.read().await?.now().0, Instant::now());
    for sql in FILL {
        on(url, &filled(database, sql, rows, now)).await?;
    }
    on(url, if database == "sqlite" { "ANALYZE" } else { "VACUUM ANALYZE" }).await?;
    println!("{database}: {rows} deliveries made in {:.0} s", begun.elapsed().as_secs_f64());
    let setting = Setting::of(&Config::load(None, std::iter::empty())?);
    let mut slow = Vec::new();
    for what in WHAT {
        let (mut times, mut found) = (Vec::new(), 0);
        for round in 0..rounds {
            // Odd steps over the whole breadth; never a mail that waits, which has no Message-ID yet.
            let i = (round * 7_919 * 13 + 5) % rows / 200 * 200 + 7;
            let begun = Instant::now();
            found += ask(&store, &setting, what, i, rows).await?;
            times.push(begun.elapsed().as_secs_f64() * 1_000.0);
        }
        times.sort_by(f64::total_cmp);
        let at = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)];
        println!("{database:<11}{what:<34}{found:>8}{:>9.1}{:>9.1}", at(50), at(95));
        if at(95) > BAR {
            slow.push(format!("{database} {what} {:.1}", at(95)));
        }
    }
    Ok(slow)
}

const WHAT: &[&str] = &[
    "show person",
    "show person by address",
    "show connection",
    "show delivery",
    "show incident",
    "show notice",
    "show component",
    "search",
    "search address",
    "search subscriber",
    "search connection",
    "search incident",
    "search incident, second page",
    "search incident and state=failed",
    "search message_id",
    "search reply=<queue id>",
    "search reply=mailbox full",
    "search state=parked",
    "search state=queued",
    "search state=accepted and class",
    "search class and time, long ago",
    "search notice",
    "queue",
];

/// Asks once; how many deliveries were found.
async fn ask(store: &Store, setting: &Setting, what: &str, i: u64, rows: u64) -> Fallible<u64> {
    let person = i % (rows / 10) + 1;
    let mut tx = store.read().await?;
    let asked = Asked { setting, after: Cursor::NEWEST, limit: 50 };
    if what == "queue" {
        return Ok(u64::try_from(status::status(&mut tx, setting).await?.waiting)?);
    }
    if let Some(kind) = what.strip_prefix("show ") {
        let seen = match kind {
            "person" => show::subscriber(&mut tx, asked, &format!("s{person}")).await?,
            "person by address" => show::subscriber(&mut tx, asked, &format!("s{person}@example.net")).await?,
            "connection" => show::connection(&mut tx, asked, &format!("c{person}")).await?,
            "delivery" => show::anything(&mut tx, asked, &format!("dlv_{:032x}", id(6, i))).await?,
            "incident" => show::incident(&mut tx, asked, &format!("i{}", i % 50 + 1)).await?,
            "notice" => show::anything(&mut tx, asked, &format!("ntc_{:032x}", id(8, i % 200 + 1))).await?,
            _ => show::component(&mut tx, asked, &format!("k{}", i % 20 + 1)).await?,
        };
        // What is not found would be fast.
        let seen = serde_json::to_string(&seen.ok_or_else(|| format!("{what}: nothing for {i}"))?)?;
        return Ok(seen.matches("\"maybe_mailed\"").count() as u64);
    }
    let (address, subscriber, connection) =
        (format!("s{person}@example.net"), format!("s{person}"), format!("c{person}"));
    let (incident, notice) = (format!("i{}", i % 50 + 1), format!("ntc_{:032x}", id(8, i % 200 + 1)));
    let (message_id, queue_id) = (format!("<m{i}@status.example.com>"), format!("4F{i}"));
    // A delivery a second was planned.
    let now = tx.now();
    let ago = |tenths: i64| (now - Span::seconds(i64::try_from(rows).unwrap_or(1) / 10 * tenths)).to_string();
    let (from, until) = (ago(9), ago(8));
    let parameters: Vec<(&str, &str)> = match what.strip_prefix("search").unwrap_or_default().trim() {
        "address" => vec![("address", &address)],
        "subscriber" => vec![("subscriber", &subscriber)],
        "connection" => vec![("connection", &connection)],
        "incident" | "incident, second page" => vec![("incident", &incident)],
        "incident and state=failed" => vec![("incident", &incident), ("state", "failed")],
        "message_id" => vec![("message_id", &message_id)],
        "reply=<queue id>" => vec![("reply", &queue_id)],
        "reply=mailbox full" => vec![("reply", "mailbox full")],
        "state=parked" => vec![("state", "parked")],
        "state=queued" => vec![("state", "queued")],
        "state=accepted and class" => vec![("state", "accepted"), ("class", "action_required")],
        "class and time, long ago" => vec![("class", "action_required"), ("from", &from), ("until", &until)],
        "notice" => vec![("notice", &notice)],
        _ => Vec::new(),
    };
    let mut query = search::read(&mut tx, parameters.into_iter()).await.map_err(|e| e.to_string())?;
    let mut page = search::run(&mut tx, setting, &query).await?;
    if what.ends_with("second page") {
        query.after = page.next.ok_or("there is no second page")?;
        page = search::run(&mut tx, setting, &query).await?;
    }
    Ok(page.deliveries.len() as u64)
}

fn id(table: u64, i: u64) -> u64 {
    table * 1_000_000_000 + i
}

fn filled(database: &str, sql: &str, rows: u64, now: i64) -> String {
    let count =
        format!("WITH RECURSIVE n(i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < {rows})");
    let sql = sql.replace("{n}", &count).replace("{rows}", &rows.to_string()).replace("{now}", &now.to_string());
    let mut pieces = sql.split('{');
    let mut made = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let Some((inside, after)) = piece.split_once('}') else { continue };
        let Some((table, i)) = inside.split_once(' ') else {
            made += inside;
            made += after;
            continue;
        };
        let number = format!("CAST({table}000000000 AS BIGINT) + {i}");
        made += &match database {
            "sqlite" => format!("unhex(printf('%032x', {number}))"),
            _ => format!("CAST(lpad(to_hex({number}), 32, '0') AS uuid)"),
        };
        made += after;
    }
    made
}

async fn on(url: &str, sql: &str) -> Fallible<()> {
    let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
    if url.starts_with("sqlite") {
        sql.execute(&mut SqliteConnection::connect(url).await?).await?;
    } else {
        sql.execute(&mut PgConnection::connect(url).await?).await?;
    }
    Ok(())
}
