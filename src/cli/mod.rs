//! The CLI: one file a command. Data goes to standard output, everything else to standard error.
//! All but `serve` work on the same database beside a running `serve`.

mod audit;
mod demo;
mod doctor;
mod drill;
mod enqueue;
mod failure;
mod hold;
mod import;
mod journal;
mod key;
mod migrate;
pub mod output;
mod pages;
mod preview;
mod put;
pub mod replay;
mod resend;
mod search;
mod show;
mod sight;
mod signal;
pub mod simulate;
mod streams;
mod suppressions;
mod surge;
mod templates;

pub use failure::{FAILURE, Failure};

use crate::config::Config;

use crate::flow::ingest::{Caller, Settings};
use crate::flow::setting::Setting;
use crate::store::open::Connections;
use crate::store::{Clock, Store};
use clap::{CommandFactory, Parser, Subcommand};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;

const TEMPLATE: &str = "\
{about}

Examples:
  allclear demo                                   see it work, on this machine alone
  allclear put component imap --name 'Mail sync'
  allclear put subscriber jo --address jo@example.com --zone Europe/Vienna
  allclear put connection inbox-1 --component imap --name jo@example.com --subscriber jo
  allclear signal --connection inbox-1 --what failed --fault permanent
  allclear show jo@example.com                    what was sent to a customer, what not, and why
  allclear stop --reason 'wrong wave'             nothing leaves until `allclear resume --reason '...'`
  allclear serve                                  take in over HTTP, and dispatch

{usage-heading} {usage}

{all-args}

Exit codes: 0 done, 1 failed, 2 wrong use or input, 3 not found, 4 conflict, 5 done in part,
6 problems found, 75 try again later.
";

/// Sends customer notifications, and does not send what has stopped being true.
#[derive(Parser, Debug)]
#[command(name = "allclear", version, about, help_template = TEMPLATE, max_term_width = 100)]
pub struct Cli {
    /// The configuration file [default: allclear.toml, if it is there]
    #[arg(long, global = true, value_name = "PATH")]
    config: Option<PathBuf>,
    /// Write one JSON document to standard output
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Take in over HTTP, plan, and dispatch
    Serve,
    /// Enqueue a notice (JSON)
    Enqueue(enqueue::Args),
    /// Say what happened to a connection or a component
    Signal(signal::Args),
    /// Put a component, connection, subscriber or subscription
    #[command(subcommand)]
    Put(put::Args),
    /// Put many of a kind, out of CSV or JSON lines
    Import(import::Args),
    /// Show what was sent and not, and why: of a customer, connection, incident, or by id
    Show(show::Args),
    /// Send mails again, if they are still true: by id, or what was not delivered
    Resend(resend::Args),
    /// Who did what and why; `verify` finds lines that were changed, removed or put in
    Journal(journal::Args),
    /// Find mails: by address, connection, incident, Message-ID, relay reply, state, class, time
    Search(search::Args),
    /// How our own queue does: what waits and why, what comes and leaves, when it is drained
    Status,
    /// Keep mail back: all, of a class, or of a component; without options list what is kept
    Hold(hold::HoldArgs),
    /// Let mail go again
    Release(hold::ReleaseArgs),
    /// Stop all mail, corrections included
    Stop(hold::Why),
    /// End the stop
    Resume(hold::Why),
    /// List the streams and their pauses, or end a pause
    Streams(streams::Args),
    /// List the addresses that get no mail, or lift one
    Suppressions(suppressions::Args),
    /// List the floods of failures, or release, hold or open one
    Surge(surge::Args),
    /// Check, list, export and preview the templates of the mails
    #[command(subcommand)]
    Templates(templates::Args),
    /// Check the promises on the live database; exits 6 with what is broken
    Audit,
    /// Look at everything `serve` needs, and say what to change; exits 6 when something is wrong
    Doctor(doctor::Args),
    /// Bring the database's schema up to date
    Migrate,
    /// Make, list and revoke API keys
    #[command(subcommand)]
    Key(key::Args),
    /// Replay a mass disconnection on this machine, with and without the checks
    Demo(demo::Args),
    /// Replay recorded histories of incidents on this machine, and count what would have been mailed
    Replay(replay::Args),
    /// Simulate a mass disconnection of any size: what is mailed, held, withdrawn and corrected, and how long it takes
    Simulate(simulate::Args),
    /// Write the completion script of a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages
    Man(pages::ManArgs),
}

/// What commands share.
struct Context {
    config: Config,
    json: bool,
}

impl Context {
    /// The database, for what is of no use on a new one: somebody in another folder would take that for the one meant.
    async fn store(&self) -> Result<Store, Failure> {
        let url = self.config.database.url.expose();
        // One in memory is no file either, and refused in other words.
        if let Some(file) = Store::file_of(url).filter(|file| matches!(file.try_exists(), Ok(false)))
            && Store::look(url).await?.is_none()
        {
            let what = format!("there is no database at {}", std::path::absolute(&file).unwrap_or(file).display());
            let hint =
                "run this in the folder where `serve` runs, with the same --config; `allclear migrate` makes a new one";
            return Err(Failure::new(FAILURE, what, hint));
        }
        self.store_or_new().await
    }

    async fn store_or_new(&self) -> Result<Store, Failure> {
        let database = &self.config.database;
        let connections = Connections { sqlite_readers: database.readers, postgres: database.connections };
        Ok(Store::open(database.url.expose(), connections, Clock::Database).await?)
    }

    fn settings(&self) -> Settings {
        Setting::of(&self.config).ingest()
    }

    /// Writes a JSON document, or the text.
    fn answer<T: serde::Serialize>(&self, value: &T, text: impl FnOnce() -> String) -> Result<(), Failure> {
        if self.json { output::json(value) } else { output::text(&text()) }
    }
}

/// Whoever has this machine's shell may say anything; what they do is recorded under their name.
fn caller() -> Caller {
    Caller { source: "cli".to_owned(), may_cover: true }
}

/// Wakes the nodes that serve, where they can be: it is taken in, and their poll finds it all the same.
async fn tell(store: &Store) {
    let _ = store.tell("cli").await;
}

fn who() -> String {
    let user = std::env::var("USER").ok().filter(|user| !user.is_empty() && user.len() <= 100);
    format!("cli:{}", output::printable(&user.unwrap_or_else(|| "unknown".to_owned())))
}

/// A file that can be read; a folder can be opened, too.
fn open(path: &Path) -> std::io::Result<std::fs::File> {
    let file = std::fs::File::open(path)?;
    if file.metadata()?.is_dir() { Err(std::io::ErrorKind::IsADirectory.into()) } else { Ok(file) }
}

/// The content of a file, or of standard input for `-`; at most the largest body and one byte more.
fn input(path: &Path, most: usize) -> Result<Vec<u8>, Failure> {
    let unreadable = |e: std::io::Error| {
        let what = format!("{} cannot be read: {e}", path.display());
        Failure::new(failure::USAGE, what, "name a file this program may read, or - for standard input")
    };
    let from: Box<dyn Read> = match path.to_str() {
        Some("-") => Box::new(std::io::stdin()),
        _ => Box::new(std::fs::File::open(path).map_err(unreadable)?),
    };
    let mut body = Vec::new();
    from.take(u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1)).read_to_end(&mut body).map_err(unreadable)?;
    if body.len() > most {
        let what = format!("{} is larger than {most} bytes", path.display());
        return Err(Failure::new(failure::USAGE, what, "send less at once, or raise http.max_body_bytes"));
    }
    Ok(body)
}

/// What `serve` runs: the application lies above this layer, so it is passed in.
pub type Serve = fn(Config) -> Pin<Box<dyn Future<Output = Result<(), Failure>>>>;

/// Runs the program.
#[must_use]
pub fn main(serve: Serve) -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A closed terminal is nothing to report to a closed terminal.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(failure::USAGE));
        }
    };
    let Some(command) = cli.command else {
        let shown = output::text(&Cli::command().render_help().to_string());
        return shown.map_or_else(|e| ExitCode::from(e.code), |()| ExitCode::SUCCESS);
    };
    // A short command speaks for itself; a log of it is there for who asks.
    if matches!(command, Command::Serve) || std::env::var_os(crate::telemetry::LEVEL_VARIABLE).is_some() {
        crate::telemetry::init();
    }
    if matches!(command, Command::Replay(_)) {
        replay::stay_on_one_core();
    }
    let done = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| {
            Failure::new(failure::FAILURE, format!("no threads can be started: {e}"), "check the limits of processes")
        })
        .and_then(|runtime| runtime.block_on(run(command, cli.config.as_deref(), cli.json, serve)));
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failed) => {
            failed.tell();
            ExitCode::from(failed.code)
        }
    }
}

async fn run(command: Command, config: Option<&Path>, json: bool, serve: Serve) -> Result<u8, Failure> {
    let config = Config::load_with_environment(config);
    // What needs no configuration, or looks at it: a broken one must not stand in its way.
    match &command {
        Command::Demo(args) => return demo::command(args, json).await,
        Command::Replay(args) => return replay::command(args, json).await,
        Command::Simulate(args) => return simulate::command(args, json).await,
        Command::Doctor(args) => return doctor::run(args, config, json).await,
        Command::Completions { shell } => return pages::completions(*shell, Cli::command()),
        Command::Man(args) => return pages::man(args, Cli::command()),
        _ => {}
    }
    let context = Context { config: config?, json };
    match command {
        Command::Serve => serve(context.config).await.map(|()| 0),
        Command::Enqueue(args) => enqueue::run(&context, &args).await,
        Command::Signal(args) => signal::run(&context, args).await,
        Command::Put(args) => put::run(&context, args).await,
        Command::Import(args) => import::run(&context, args).await,
        Command::Show(args) => show::run(&context, &args).await,
        Command::Resend(args) => resend::run(&context, args).await,
        Command::Journal(args) => journal::run(&context, args).await,
        Command::Search(args) => search::run(&context, &args).await,
        Command::Status => search::status(&context).await,
        Command::Hold(args) => hold::hold(&context, args).await,
        Command::Release(args) => hold::release(&context, &args).await,
        Command::Stop(why) => hold::stop(&context, &why).await,
        Command::Resume(why) => hold::resume(&context, &why).await,
        Command::Streams(args) => streams::run(&context, args).await,
        Command::Suppressions(args) => suppressions::run(&context, args).await,
        Command::Surge(args) => surge::run(&context, args).await,
        Command::Templates(args) => templates::run(&context, &args).await,
        Command::Audit => audit::run(&context).await,
        Command::Migrate => migrate::run(&context).await,
        Command::Key(args) => key::run(&context, args).await,
        Command::Demo(args) => demo::command(&args, json).await,
        Command::Replay(args) => replay::command(&args, json).await,
        Command::Simulate(args) => simulate::command(&args, json).await,
        Command::Doctor(args) => doctor::run(&args, Ok(context.config), json).await,
        Command::Completions { shell } => pages::completions(shell, Cli::command()),
        Command::Man(args) => pages::man(&args, Cli::command()),
    }
}
