//! `allclear demo`: a real incident in driven time, dispatched twice from the same signals, without and with
//! the gate. Everything it needs is on this machine: a database in a temporary folder and a relay that keeps
//! what it takes.

mod course;
mod progress;
mod report;
mod world;

use super::drill::{DrillError, failed};
use super::failure::{FOUND_PROBLEMS, Failure, USAGE};
use crate::mail::sink::Received;
use crate::store::audit;
use course::Course;
use progress::Progress;
pub(super) use report::{Kind, kind};
use report::{Report, Side};
use std::path::{Path, PathBuf};
use std::time::Instant;
use world::World;

/// `allclear demo`
#[derive(clap::Args, Debug)]
pub struct Args {
    /// How many inboxes break
    #[arg(long, default_value_t = 3_000)]
    inboxes: usize,
    /// Ends standard output with one JSON object
    #[arg(long, value_name = "FORM", value_parser = ["json"])]
    report: Option<String>,
    /// Where the database and the mails are kept [default: a new temporary folder]
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
}

/// Runs the command; `json` is the option every command has.
pub(super) async fn command(args: &Args, json: bool) -> Result<u8, Failure> {
    if !(100..=50_000).contains(&args.inboxes) {
        let what = format!("--inboxes: {} cannot be shown", args.inboxes);
        return Err(Failure::new(USAGE, what, "take 100 to 50000, or leave it out: 3000 take a few seconds"));
    }
    Ok(if run(args, json).await? { 0 } else { FOUND_PROBLEMS })
}

/// Replays the incident twice, tells progress on standard error and the result on standard output. `true` when all
/// checks hold.
///
/// # Errors
/// When a folder, the database or a port cannot be had.
async fn run(args: &Args, json: bool) -> Result<bool, DrillError> {
    let began = Instant::now();
    let folder = folder(args.keep.clone())?;
    let without = folder.join("gate-off");
    let course = Course::of(args.inboxes)?;
    progress::introduce(course.inboxes.len());
    // The worlds are made side by side: SQLite costs the same whoever waits for it.
    let (mut world_off, mut world_on) =
        tokio::try_join!(World::new(&without, &course, false), World::new(&folder, &course, true))?;
    let off = play(&mut world_off, &course, "gate off").await?;
    let on = play(&mut world_on, &course, "gate on ").await?;
    drop(world_off);
    std::fs::remove_dir_all(&without).map_err(failed(format!("{} cannot be removed", without.display())))?;
    let mails = folder.join("mails");
    let kept = report::keep(&mails, &on.mails, &course)
        .map_err(failed(format!("the mails cannot be written to {}", mails.display())))?;
    let findings = audit::run(&mut world_on.read().await?).await?;
    let report = Report {
        course: &course,
        off: Side::count(&course, &off),
        on: Side::count(&course, &on),
        faults: report::faults(&course, &on.mails),
        findings,
        folder: &folder,
        kept,
        took: began.elapsed(),
    };
    if !json {
        println!("{}", report.text());
    }
    if json || args.report.is_some() {
        println!("{}", report.json());
    }
    Ok(report.holds())
}

/// What a run came to.
pub(super) struct Run {
    /// The mails, in the order in which they arrived.
    pub mails: Vec<Received>,
    /// The most that waited at one time.
    pub held: usize,
}

async fn play(world: &mut World, course: &Course, name: &'static str) -> Result<Run, DrillError> {
    let mut progress = Progress::new(name);
    let (mut said, mut held) = (course.said.as_slice(), 0);
    for now in course::ticks() {
        let split = said.partition_point(|(at, _)| *at <= now);
        let (batch, rest) = said.split_at(split);
        said = rest;
        world.step(now, batch).await?;
        let landmark = course::is_landmark(now);
        // Counting the queue reads all of it, so only where the most can be waiting, and where it is told.
        if progress.is_due(landmark) || course::is_crest(now) {
            let waiting = world.waiting().await?;
            held = held.max(waiting);
            progress.tell(now, waiting, world.sink(), landmark);
        }
    }
    progress.end();
    Ok(Run { mails: world.sink().mails(), held })
}

/// The folder to work in: a new one.
fn folder(wanted: Option<PathBuf>) -> Result<PathBuf, DrillError> {
    let temporary = || std::env::temp_dir().join(format!("allclear-demo-{}", uuid::Uuid::now_v7().simple()));
    let folder = wanted.unwrap_or_else(temporary);
    let is_taken = |folder: &Path| folder.join(world::DATABASE).exists();
    if is_taken(&folder) {
        return Err(DrillError::Taken(folder));
    }
    std::fs::create_dir_all(folder.join("gate-off")).map_err(failed(format!("{} cannot be made", folder.display())))?;
    Ok(folder)
}
