//! `allclear replay`: recorded histories of incidents go through the dispatcher in driven time, to a relay of its own
//! that keeps what it takes. Nobody is mailed; what would have been is counted.

pub mod count;
pub mod history;
pub(in crate::cli) mod place;
mod plain;
pub mod reading;
mod report;
mod world;

use super::drill::DrillError;
use super::failure::{CONFLICT, FAILURE, FOUND_PROBLEMS, Failure, USAGE};
use super::input;
use count::{Counted, Sent};
use history::{History, Mode};
use indicatif::{ProgressBar, ProgressStyle};
use place::{Out, Place};
use report::Report;
use std::path::{Path, PathBuf};
use world::World;

/// The largest file that is read.
const MOST: usize = 256 << 20;

/// `allclear replay`
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Histories: Statuspage's incidents.json, or timelines of one incident a line
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How they are replayed
    #[arg(long, value_enum, default_value_t = Mode::Free)]
    mode: Mode,
    /// An SQLite file that is not there yet, or a PostgreSQL database, in which each history gets a schema of its own
    /// [default: a temporary SQLite file]
    #[arg(long, value_name = "URL", value_parser = place::url)]
    database: Option<String>,
    /// Keeps every mail there as .eml, in a folder for each subscriber
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Ends standard output with one line of JSON
    #[arg(long, value_name = "FORM", value_parser = ["json"])]
    report: Option<String>,
}

/// What a replay is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// How the histories are replayed.
    pub mode: Mode,
    /// The database; a temporary one unless given.
    pub database: Option<String>,
    /// Where every mail is kept.
    pub out: Option<PathBuf>,
}

impl From<DrillError> for Failure {
    fn from(error: DrillError) -> Self {
        match error {
            DrillError::Store(error) => error.into(),
            DrillError::Taken(_) => Self::new(CONFLICT, error.to_string(), error.hint()),
            other => Self::new(FAILURE, other.to_string(), other.hint()),
        }
    }
}

/// Runs the command; `json` is the option every command has.
pub(super) async fn command(args: &Args, json: bool) -> Result<u8, Failure> {
    let mut histories = Vec::new();
    for file in &args.files {
        histories.extend(read(file)?);
    }
    let options = Options { mode: args.mode, database: args.database.clone(), out: args.out.clone() };
    let report = run(&histories, &options).await?;
    if !json {
        super::output::text(&report.text())?;
    }
    if json || args.report.is_some() {
        super::output::text(&(report.json() + "\n"))?;
    }
    Ok(if report.holds() { 0 } else { FOUND_PROBLEMS })
}

/// The histories of a file, each with its name.
///
/// # Errors
/// When the file cannot be read; with the line or the incident, and the field.
pub fn read(file: &Path) -> Result<Vec<(String, History)>, Failure> {
    let histories = reading::read(&input(file, MOST)?).map_err(|wrong| {
        let what = format!("{}: {wrong}", file.display());
        Failure::new(USAGE, what, "name histories in the form of incidents.json or of a timeline; nothing was replayed")
    })?;
    let name = file.file_name().map_or_else(|| file.display().to_string(), |n| n.to_string_lossy().into_owned());
    let several = histories.len() > 1;
    let named = |h: History| (if several { format!("{name} ({})", h.page) } else { name.clone() }, h);
    Ok(histories.into_iter().map(named).collect())
}

/// Replays histories, one after the other, each in a world of its own, and tells progress on standard error.
///
/// # Errors
/// When a database, a port or a folder cannot be had, or the dispatcher fails.
pub async fn run(histories: &[(String, History)], options: &Options) -> Result<Report, Failure> {
    let mut report = Report::new(options.mode);
    let mut out = options.out.as_deref().map(Out::new).transpose()?;
    let place = Place::new(options.database.as_deref(), histories.len())?;
    for (number, (name, history)) in histories.iter().enumerate() {
        let bar = bar(name, history, options.mode);
        let url = place.url(number).await?;
        let counted = replay(history, options.mode, &url, &place, out.as_mut(), &bar, &mut report).await?;
        bar.finish_and_clear();
        report.add(name, counted);
    }
    place.leave(report.holds());
    Ok(report)
}

async fn replay(
    history: &History,
    mode: Mode,
    url: &str,
    place: &Place,
    out: Option<&mut Out>,
    bar: &ProgressBar,
    report: &mut Report,
) -> Result<Counted, Failure> {
    let mut history = history.clone();
    let course = history.course(mode);
    let subscribers = history.subscribers();
    let Some(first) = course.first() else { return Ok(count::count(&history, &subscribers, &[], mode)) };
    let mut world = World::new(url, place.folder(), &history, &subscribers, first.at).await?;
    world.play(&course, mode, |arrivals| bar.inc(arrivals as u64)).await?;
    let mails = world.mails();
    let mut own = Out::default();
    let names = out.unwrap_or(&mut own).keep(&mails, &subscribers)?;
    let sent = mails.iter().zip(&names).enumerate();
    let sent: Vec<_> =
        sent.map(|(n, (mail, name))| Sent { to: &mail.to, at: world.handed_over(n), raw: &mail.body, name }).collect();
    report.add_states(world.states().await.map_err(DrillError::from)?);
    Ok(count::count(&history, &subscribers, &sent, mode))
}

/// The bar goes to standard error, and only when that is a terminal.
fn bar(name: &str, history: &History, mode: Mode) -> ProgressBar {
    let updates: usize = history.incidents.iter().map(|i| i.updates.len()).sum();
    let bar = ProgressBar::new((if mode == Mode::Doubled { 2 * updates } else { updates }) as u64);
    let style = ProgressStyle::with_template("{msg} {bar:40} {pos}/{len} updates, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.with_message(super::output::printable(name))
}

fn refused(what: impl Into<String>, hint: &str) -> Failure {
    Failure::new(CONFLICT, what, hint)
}

/// A drill's threads only wait for each other, and between cores that costs most of the time (measured: 60 incidents
/// take 5 seconds on one core, 8 to 13 on two). To be called before any thread is started.
#[cfg(target_os = "linux")]
pub(super) fn stay_on_one_core() {
    let mut one = rustix::thread::CpuSet::new();
    one.set(rustix::thread::sched_getcpu());
    // Where that is not allowed the drill is as right, and slower.
    let _ = rustix::thread::sched_setaffinity(None, &one);
}

/// Elsewhere threads stay where the system puts them.
#[cfg(not(target_os = "linux"))]
pub(super) fn stay_on_one_core() {}
