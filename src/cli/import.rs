//! `allclear import`

use super::Context;
use super::failure::{FAILURE, Failure, PARTIAL, USAGE};
use super::output::printable;
use crate::domain::kind::Kind;
use crate::flow::import::{self, Counts, Event, Format, ImportError, Job, Refusal};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::fmt::Display;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// Refused lines told one by one; the rest is counted.
const TOLD: u64 = 20;

/// `allclear import`
#[derive(clap::Args, Debug)]
#[command(after_help = HELP)]
pub(super) struct Args {
    /// What the lines are: components, connections, subscribers, subscriptions or attributes
    kind: Kind,
    /// The files; - is standard input
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// csv or jsonl [default: by the name's ending]
    #[arg(long, value_parser = ["csv", "jsonl"])]
    format: Option<String>,
    /// What parts the cells of CSV [default: the comma, semicolon or tab of the first line]
    #[arg(long, value_parser = delimiter)]
    delimiter: Option<u8>,
    /// Check every line against the database, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Write all refused lines to this file (not one that is read), as CSV: file, line, field, reason
    #[arg(long, value_name = "FILE")]
    errors: Option<PathBuf>,
}

const HELP: &str = "\
CSV has the column names in its first line; JSON lines have the fields of the HTTP API and `key`.
  components     key,name[,group,depends_on]
  connections    key,component,name[,link,subscribers]
  subscribers    key,address[,name,locale,zone,attributes.NAME ...]
  subscriptions  subscriber[,component,group,events,least_impact,active]   without component and group: everything
  attributes     subscriber,name,values             all values of that name
What is there keeps the columns and fields that are left out (but a subscription's are as by default); an empty cell
empties its field: without a key in `subscribers` nobody is told about the connection. Columns `attributes.NAME` are all
the attributes there are: those without a column go.
Several values in a cell are parted by |. Of two lines with the same key the later wins.
Wrong lines are refused and told, the others are kept. The same import again changes nothing; but where a key stands in
it twice with different rows, the earlier is set once more, and then the later.";

fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        b"\\t" => Ok(b'\t'),
        [one] if !one.is_ascii_alphanumeric() && !matches!(one, b'"' | b'|') => Ok(*one),
        _ => Err("is not one character like ; or \\t".to_owned()),
    }
}

#[derive(Serialize)]
struct Summary {
    kind: Kind,
    dry_run: bool,
    #[serde(flatten)]
    counts: Counts,
    /// It was told to stop before the end.
    interrupted: bool,
    seconds: f64,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<u8, Failure> {
    // Before the first is taken: a name that is wrong must not leave a part done, nor the refused lines an input.
    let inputs = args.files.iter().map(|file| open(file)).collect::<Result<Vec<_>, _>>()?;
    let formats = args.files.iter().map(|file| format(file, &args)).collect::<Result<Vec<_>, _>>()?;
    let store = context.store_or_new().await?;
    let mut told = Told::new(&args)?;
    let stop = CancellationToken::new();
    let pressed = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            pressed.cancel();
        }
    });
    let begun = Instant::now();
    let mut total = Counts::default();
    for ((file, format), (input, size)) in args.files.iter().zip(formats).zip(inputs) {
        told.begin(file, size);
        let before = total;
        let job = Job { kind: args.kind, format, dry_run: args.dry_run };
        let done = import::run(&store, job, input, &stop, &mut |event| match event {
            Event::Refused(refusal) => told.refused(&refusal),
            Event::Done { counts, bytes } => {
                total = before.plus(counts);
                told.bar.set_position(bytes);
            }
        })
        .await;
        told.bar.finish_and_clear();
        done.map_err(|error| {
            // What was refused until then is told all the same.
            told.end().err().iter().for_each(Failure::tell);
            failed(&error, file, total)
        })?;
    }
    told.end()?;
    let interrupted = stop.is_cancelled();
    let seconds = begun.elapsed().as_secs_f64();
    let summary = Summary { kind: args.kind, dry_run: args.dry_run, counts: total, interrupted, seconds };
    if interrupted {
        eprintln!("hint: it was stopped after {} lines; run it again, it takes up what is missing", total.lines);
    }
    context.answer(&summary, || line(&summary))?;
    Ok(match total.refused {
        0 if !interrupted => 0,
        refused if refused == total.lines && !interrupted => USAGE,
        _ => PARTIAL,
    })
}

fn line(of: &Summary) -> String {
    let Counts { lines, inserted, updated, unchanged, refused } = of.counts;
    let rate = lines as f64 / of.seconds.max(0.001);
    let dry = if of.dry_run { "dry run, nothing was written: " } else { "" };
    format!(
        "{dry}{lines} {}: {inserted} inserted, {updated} updated, {unchanged} unchanged, {refused} refused \
         ({:.1} s, {rate:.0}/s)\n",
        of.kind, of.seconds
    )
}

fn format(file: &Path, args: &Args) -> Result<Format, Failure> {
    let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
    match args.format.as_deref().unwrap_or(&ending) {
        "csv" | "tsv" => Ok(Format::Csv { delimiter: args.delimiter }),
        "jsonl" | "ndjson" => Ok(Format::JsonLines),
        _ => {
            let what = format!("the name {} does not say what it holds", file.display());
            Err(Failure::new(USAGE, what, "say --format csv or --format jsonl"))
        }
    }
}

fn open(file: &Path) -> Result<(Box<dyn Read + Send>, Option<u64>), Failure> {
    if file.as_os_str() == "-" {
        return Ok((Box::new(std::io::stdin()), None));
    }
    let opened = super::open(file).and_then(|opened| Ok((opened.metadata()?, opened)));
    let (about, opened) = opened.map_err(|e| {
        Failure::new(USAGE, format!("{} cannot be read: {e}", file.display()), "name a file this program may read")
    })?;
    Ok((Box::new(opened), about.is_file().then_some(about.len())))
}

fn shown(file: &Path) -> String {
    if file.as_os_str() == "-" { "standard input".to_owned() } else { file.display().to_string() }
}

fn failed(error: &ImportError, file: &Path, done: Counts) -> Failure {
    let (code, hint) = match error {
        ImportError::Columns(_) => {
            let code = if done.lines == 0 { USAGE } else { PARTIAL };
            (code, "correct the first line, or say --delimiter; nothing of this file was taken")
        }
        ImportError::Input(_) => (FAILURE, "mend the input and run it again; what is there is left alone"),
        ImportError::Store(error) => (
            if error.is_away() { super::failure::TRY_AGAIN } else { FAILURE },
            "run it again when the database is well; what is there is left alone",
        ),
    };
    let after = if done.lines == 0 { String::new() } else { format!(" (after {} lines)", done.lines) };
    Failure::new(code, format!("{}: {error}{after}", shown(file)), hint)
}

/// Whether an input is the file of a path, under whatever names; of standard input, where it comes from a file.
fn is_same(input: &Path, path: &Path) -> bool {
    let input = if input.as_os_str() == "-" { Path::new("/dev/stdin") } else { input };
    path.is_file() && matches!((input.canonicalize(), path.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// What is shown on the way.
struct Told {
    bar: ProgressBar,
    file: String,
    count: u64,
    errors: Option<BufWriter<File>>,
    unwritten: Option<std::io::Error>,
}

impl Told {
    fn new(args: &Args) -> Result<Self, Failure> {
        let create = |path: &PathBuf| {
            let refused = |why: &dyn Display| {
                let what = format!("{} cannot be written: {why}", path.display());
                Failure::new(USAGE, what, "name a file this program may write")
            };
            if args.files.iter().any(|file| is_same(file, path)) {
                return Err(refused(&"it is read by this import"));
            }
            File::create(path).map(BufWriter::new).map_err(|e| refused(&e))
        };
        let mut errors = args.errors.as_ref().map(create).transpose()?;
        let unwritten = errors.as_mut().and_then(|file| writeln!(file, "file,line,field,reason").err());
        Ok(Self { bar: ProgressBar::hidden(), file: String::new(), count: 0, errors, unwritten })
    }

    /// The bar goes to standard error, and only when that is a terminal.
    fn begin(&mut self, file: &Path, size: Option<u64>) {
        self.file = shown(file);
        let shape = match size {
            Some(_) => "{bar:40} {percent}% {binary_bytes_per_sec}, {eta} left",
            None => "{spinner} {binary_bytes}, {binary_bytes_per_sec}",
        };
        self.bar = size.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        self.bar.set_style(ProgressStyle::with_template(shape).unwrap_or_else(|_| ProgressStyle::default_bar()));
    }

    fn refused(&mut self, Refusal { line, field, reason }: &Refusal) {
        self.count += 1;
        if let Some(errors) = &mut self.errors {
            let cells = [&self.file, &line.to_string(), field, reason].map(|cell| quoted(cell)).join(",");
            self.unwritten = self.unwritten.take().or(writeln!(errors, "{cells}").err());
        } else if self.count <= TOLD {
            let said = format!("error: {} line {line}: {field}: {reason}", self.file);
            self.bar.suspend(|| eprintln!("{}", printable(&said)));
        }
    }

    fn end(&mut self) -> Result<(), Failure> {
        let flushed = self.errors.as_mut().and_then(|errors| errors.flush().err());
        if let Some(e) = self.unwritten.take().or(flushed) {
            return Err(Failure::new(FAILURE, format!("the refused lines cannot be written: {e}"), "check the disk"));
        }
        if self.errors.is_none() && self.count > TOLD {
            eprintln!("error: and {} more; --errors FILE writes them all", self.count - TOLD);
        }
        if self.count > 0 {
            eprintln!("hint: correct the refused lines and import them again; the others are kept");
        }
        Ok(())
    }
}

/// A cell of CSV, without what a terminal or a spreadsheet would run.
fn quoted(text: &str) -> String {
    format!("\"{}\"", printable(text).replace('"', "\"\""))
}
