//! `allclear simulate`: a mass disconnection of any size in driven time, from the first signal to the last correction,
//! in several courses. What was mailed is counted at a relay of its own and compared with the database; nobody is
//! mailed.

mod course;
mod ledger;
mod report;
mod run;

use super::failure::{FOUND_PROBLEMS, Failure, USAGE};
use super::replay::place::{self, Place};
use clap::ValueEnum;
pub use report::Report;
use run::Run;

const WHO: &str = "simulation";
/// The most inboxes: their numbers have seven digits.
const MOST: usize = 9_999_999;

/// `allclear simulate`
#[derive(clap::Args, Debug)]
pub struct Args {
    /// How many inboxes break within an hour; 1700000 is the size of the incident it is taken from
    #[arg(long, default_value_t = 20_000)]
    connections: usize,
    /// The courses to simulate [default: all, one after the other]
    #[arg(long, value_enum, value_delimiter = ',')]
    course: Vec<Course>,
    /// An SQLite file that is not there yet, or a PostgreSQL database, in which each course gets a schema of its own
    /// [default: a temporary SQLite file]
    #[arg(long, value_name = "URL", value_parser = place::url)]
    database: Option<String>,
}

/// What holds the mails of a simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Course {
    /// The detector: it takes the flood for the provider's outage, and nobody is asked
    Detected,
    /// Nothing: everybody is asked to reconnect
    Undetected,
    /// An operator, when 200,000 of 1.7 million (or that share) have been mailed
    Late,
}

/// What a simulation is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many inboxes break.
    pub connections: usize,
    /// In which courses; none: in all.
    pub courses: Vec<Course>,
    /// The database; a temporary one unless given.
    pub database: Option<String>,
}

/// Runs the command; `json` is the option every command has.
pub(super) async fn command(args: &Args, json: bool) -> Result<u8, Failure> {
    let options =
        Options { connections: args.connections, courses: args.course.clone(), database: args.database.clone() };
    let report = run(&options).await?;
    super::output::text(&if json { report.json() + "\n" } else { report.text() })?;
    Ok(if report.holds() { 0 } else { FOUND_PROBLEMS })
}

/// Simulates the courses, each in a world of its own; tells every step on standard error.
///
/// # Errors
/// When a database, a port or a folder cannot be had, or the dispatcher fails.
pub async fn run(options: &Options) -> Result<Report, Failure> {
    if !(100..=MOST).contains(&options.connections) {
        let what = format!("--connections: {} cannot be simulated", options.connections);
        return Err(Failure::new(USAGE, what, "take 100 to 9999999"));
    }
    let courses = if options.courses.is_empty() { Course::value_variants() } else { &options.courses };
    let place = Place::new(options.database.as_deref(), courses.len())?;
    let mut report = Report::new(options.connections);
    for (number, course) in courses.iter().enumerate() {
        let url = place.url(number).await?;
        let run = Run::new(&url, place.folder(), *course, options.connections).await?;
        let outcome = run.play(|step| eprintln!("{}: {}", course.name(), step.line())).await?;
        report.add(outcome);
    }
    place.leave(report.holds());
    Ok(report)
}

impl Course {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Detected => "detected",
            Self::Undetected => "undetected",
            Self::Late => "late",
        }
    }
}
