//! A mass disconnection at full size, stage by stage: signals in bulk, planning, a covering recovery while all slots
//! are busy, what single connections confirm, and the corrections of what was mailed.
//!
//! ```text
//! cargo bench --bench surge
//! cargo bench --bench surge -- --connections 1700000 --databases postgres
//! cargo bench --bench surge -- --steps signals,plan
//! ```
//!
//! PostgreSQL is measured when `ALLCLEAR_TEST_POSTGRES` names a server. Every step is a process of its own, so that
//! its memory can be told; the durable settings and the numbers of rows are read back. People are written straight into
//! the tables, and so is what `correct` takes for mailed: everything else goes the product's own way.

#[path = "common/mod.rs"]
mod common;
#[path = "surge/measure.rs"]
mod measure;
#[path = "surge/people.rs"]
mod people;
#[path = "surge/recover.rs"]
mod recover;
#[path = "surge/steps.rs"]
mod steps;

use common::place::Place;
use common::{Fallible, databases, given, list};
use std::process::{Command, Stdio};

/// In this order on one database; `correct` begins with a fresh one.
const STEPS: [&str; 5] = ["signals", "plan", "recover", "confirm", "correct"];

fn main() -> Fallible<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match args.as_slice() {
        [step, url, connections] if STEPS.contains(&step.as_str()) => {
            let done = runtime.block_on(steps::run(step, url, connections.parse()?))?;
            println!("{}", serde_json::to_string(&done)?);
            Ok(())
        }
        _ => all(&Options::read(&args)?),
    }
}

struct Options {
    databases: Vec<String>,
    connections: usize,
    steps: Vec<String>,
}

impl Options {
    fn read(args: &[String]) -> Fallible<Self> {
        let given = |name: &str| given(args, name);
        let steps = given("--steps").map_or_else(|| STEPS.map(str::to_owned).to_vec(), list);
        if let Some(unknown) = steps.iter().find(|s| !STEPS.contains(&s.as_str())) {
            return Err(format!("{unknown} is none of the steps {}", STEPS.join(", ")).into());
        }
        Ok(Self { databases: databases(args), connections: given("--connections").unwrap_or("100000").parse()?, steps })
    }
}

/// What a step measured.
#[derive(serde::Serialize, serde::Deserialize)]
struct Done {
    /// Rows of the kind that the step is about.
    rows: u64,
    seconds: f64,
    /// The most memory the process ever had, in KiB.
    peak_kib: u64,
    settings: String,
    /// What else there is to say, a line each.
    notes: Vec<String>,
}

fn all(options: &Options) -> Fallible<()> {
    println!("{:<11}{:<10}{:>9}{:>10}{:>9}{:>8}", "database", "step", "rows", "rows/s", "seconds", "MiB");
    for database in &options.databases {
        let mut told = false;
        for group in [&STEPS[..4], &STEPS[4..]] {
            let Some(last) = group.iter().rposition(|step| options.steps.iter().any(|s| s == step)) else { continue };
            let place = Place::new("surge", database)?;
            people::fill(&place, options.connections)?;
            for step in &group[..=last] {
                let done = child(step, &place.url, options.connections)?;
                if !std::mem::replace(&mut told, true) {
                    println!("{database}: {}", done.settings);
                }
                let (rate, mib) = (done.rows as f64 / done.seconds, done.peak_kib as f64 / 1024.0);
                println!("{database:<11}{step:<10}{:>9}{rate:>10.0}{:>9.2}{mib:>8.1}", done.rows, done.seconds);
                for note in done.notes {
                    println!("{:<21}{note}", "");
                }
            }
        }
    }
    Ok(())
}

fn child(step: &str, url: &str, connections: usize) -> Fallible<Done> {
    let args = [step, url, &connections.to_string()];
    let done = Command::new(std::env::current_exe()?).args(args).stderr(Stdio::inherit()).output()?;
    if !done.status.success() {
        return Err(format!("{step} failed: {}", done.status).into());
    }
    Ok(serde_json::from_slice(&done.stdout)?)
}
