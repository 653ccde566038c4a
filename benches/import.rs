//! How fast subscribers are imported: into a fresh database, again without a change, and again with every row
//! changed. The whole way is measured, from the CSV file to the durable row.
//!
//! ```text
//! cargo bench --bench import
//! cargo bench --bench import -- --rows 1700000 --databases sqlite
//! ```
//!
//! PostgreSQL is measured when `ALLCLEAR_TEST_POSTGRES` names a server. Every import is a process of its own, so that
//! its memory can be told; the durable settings and the number of rows are read back.

use allclear::domain::kind::Kind;
use allclear::flow::import::{self, Counts, Event, Format, Job};
use allclear::store::open::Connections;
use allclear::store::{Clock, Store};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use tokio_util::sync::CancellationToken;

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Fallible<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match args.as_slice() {
        [run, url, file] if run == "run" => runtime.block_on(run_one(url, file)),
        _ => runtime.block_on(all(&args)),
    }
}

async fn all(args: &[String]) -> Fallible<()> {
    let given = |name: &str| args.iter().position(|a| a == name).and_then(|at| args.get(at + 1)).map(String::as_str);
    let rows: u64 = given("--rows").unwrap_or("500000").parse()?;
    let server = std::env::var("ALLCLEAR_TEST_POSTGRES").ok();
    let usual = if server.is_some() { "sqlite,postgres" } else { "sqlite" };
    let folder = std::env::temp_dir().join(format!("import_{}", uuid::Uuid::now_v7().simple()));
    std::fs::create_dir_all(&folder)?;
    let (first, second) = (folder.join("first.csv"), folder.join("second.csv"));
    people(&first, rows, "example.com")?;
    people(&second, rows, "example.net")?;
    println!("{:<11}{:<10}{:>9}{:>10}{:>9}{:>8}", "database", "import", "rows", "rows/s", "seconds", "MiB");
    for database in given("--databases").unwrap_or(usual).split(',') {
        let schema = format!("import_{}", uuid::Uuid::now_v7().simple());
        let url = match (database, &server) {
            ("sqlite", _) => format!("sqlite://{}", folder.join("import.db").display()),
            (_, Some(server)) => {
                on_server(server, format!("CREATE SCHEMA {schema}")).await?;
                let sign = if server.contains('?') { '&' } else { '?' };
                format!("{server}{sign}options[search_path]={schema}")
            }
            _ => return Err("ALLCLEAR_TEST_POSTGRES names no server".into()),
        };
        for (what, file, index) in [("fresh", &first, 1), ("again", &first, 3), ("changed", &second, 2)] {
            let path = file.display().to_string();
            let done =
                Command::new(std::env::current_exe()?).args(["run", &url, &path]).stderr(Stdio::inherit()).output()?;
            let (counts, seconds, peak, settings): ([u64; 4], f64, u64, String) = serde_json::from_slice(&done.stdout)?;
            if counts[index] != rows || count(&url).await? != i64::try_from(rows)? {
                return Err(format!("{database}, {what}: {counts:?} of {rows}").into());
            }
            if index == 1 {
                println!("{database}: {settings}");
            }
            let (rate, mib) = (rows as f64 / seconds, peak as f64 / 1024.0);
            println!("{database:<11}{what:<10}{rows:>9}{rate:>10.0}{seconds:>9.1}{mib:>8.1}");
        }
        if let Some(server) = server.as_ref().filter(|_| database != "sqlite") {
            on_server(server, format!("DROP SCHEMA {schema} CASCADE")).await?;
        }
    }
    Ok(std::fs::remove_dir_all(folder)?)
}

/// A file of people, in no order of their keys or addresses.
fn people(path: &Path, rows: u64, domain: &str) -> Fallible<()> {
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(file, "key,address,name,locale,zone")?;
    for n in 0..rows {
        // Odd, so that no two rows meet.
        let key = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        writeln!(
            file,
            "cust-{key:016x},person.{:x}@{domain},\"Doe, Jo {n}\",de-AT,Europe/Vienna",
            key.rotate_left(32)
        )?;
    }
    Ok(file.flush()?)
}

/// Prints lines, inserted, updated and unchanged, seconds, the most memory there ever was in KiB, and the settings.
async fn run_one(url: &str, file: &str) -> Fallible<()> {
    let store = Store::open(url, Connections::default(), Clock::Database).await?;
    let job = Job { kind: Kind::Subscribers, format: Format::Csv { delimiter: None }, dry_run: false };
    let mut refused = None;
    let begun = Instant::now();
    let counts = import::run(&store, job, File::open(file)?, &CancellationToken::new(), &mut |event| {
        if let Event::Refused(refusal) = event {
            refused.get_or_insert(refusal);
        }
    })
    .await?;
    let seconds = begun.elapsed().as_secs_f64();
    if let Some(refused) = refused {
        return Err(format!("refused: {refused:?}").into());
    }
    let Counts { lines, inserted, updated, unchanged, .. } = counts;
    let settings: Vec<_> = store.durability().await?.iter().map(|(name, is)| format!("{name}={is}")).collect();
    println!(
        "{}",
        serde_json::to_string(&([lines, inserted, updated, unchanged], seconds, peak()?, settings.join(", ")))?
    );
    Ok(())
}

async fn count(url: &str) -> Fallible<i64> {
    let sql = "SELECT COUNT(*) FROM subscriber";
    if url.starts_with("sqlite") {
        return Ok(sqlx::query_scalar(sql).fetch_one(&mut SqliteConnection::connect(url).await?).await?);
    }
    Ok(sqlx::query_scalar(sql).fetch_one(&mut PgConnection::connect(url).await?).await?)
}

async fn on_server(url: &str, sql: String) -> Fallible<()> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut PgConnection::connect(url).await?).await?;
    Ok(())
}

fn peak() -> Fallible<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).ok_or("no VmHWM in /proc/self/status")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
