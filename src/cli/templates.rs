//! `allclear templates`

use super::Context;
use super::failure::{CONFLICT, FAILURE, FOUND_PROBLEMS, Failure, NOT_FOUND};
use super::output::Table;
use super::preview;
use crate::store::copies;
use crate::template::{Page, Sources, TemplateError, Templates, embedded, overlaid};
use std::fs;
use std::path::{Path, PathBuf};

/// `allclear templates`
#[derive(clap::Subcommand, Debug)]
pub(super) enum Args {
    /// Find everything that is wrong with the templates; exits 6 when something is
    Check(Folder),
    /// List the templates, and which of them are your own
    List(Folder),
    /// Write the built-in templates to a folder, to be changed there
    Export {
        /// The folder; no file in it is overwritten
        path: PathBuf,
        /// Instead of the built-in ones a set that mails were made with, by its hash
        #[arg(long, value_name = "HASH")]
        set: Option<String>,
    },
    /// Write mails of every kind to a folder, to be looked at
    Preview(preview::Args),
}

/// Which files are laid over the built-in templates.
#[derive(clap::Args, Debug)]
pub(super) struct Folder {
    /// Your own templates [default: templates.folder of the configuration]
    #[arg(long, value_name = "PATH")]
    folder: Option<PathBuf>,
}

impl Folder {
    fn path<'a>(&'a self, context: &'a Context) -> Option<&'a Path> {
        self.folder.as_deref().or(context.config.templates.folder.as_deref())
    }
}

pub(super) async fn run(context: &Context, args: &Args) -> Result<u8, Failure> {
    match args {
        Args::Check(folder) => check(context, folder.path(context)),
        Args::List(folder) => list(context, folder.path(context)),
        Args::Export { path, set: None } => export(context, path, &embedded()),
        Args::Export { path, set: Some(hash) } => export(context, path, &stored(context, hash).await?),
        Args::Preview(args) => preview::run(context, args).await,
    }
}

#[derive(serde::Serialize)]
struct Found {
    template: String,
    line: usize,
    column: usize,
    what: String,
    hint: String,
}

fn check(context: &Context, folder: Option<&Path>) -> Result<u8, Failure> {
    let faults = Templates::faults(folder, &Page::of(&context.config));
    let found = |f: &TemplateError| Found {
        template: f.template.clone(),
        line: f.line,
        column: f.column,
        what: f.fault.to_string(),
        hint: f.hint(),
    };
    context.answer(&faults.iter().map(found).collect::<Vec<_>>(), || match &faults[..] {
        [] => format!("all {} templates are fine\n", overlaid(folder).0.len()),
        faults => faults.iter().map(|f| format!("{f}\n  hint: {}\n", f.hint())).collect(),
    })?;
    Ok(if faults.is_empty() { 0 } else { FOUND_PROBLEMS })
}

fn list(context: &Context, folder: Option<&Path>) -> Result<u8, Failure> {
    let (sources, faults) = overlaid(folder);
    if !faults.is_empty() {
        return check(context, folder);
    }
    let built_in = embedded();
    let origin = |name: &String, text: &String| match built_in.get(name) {
        None => "added",
        Some(own) if own == text => "built-in",
        Some(_) => "overridden",
    };
    let rows: Vec<_> = sources.iter().map(|(name, text)| (name, origin(name, text))).collect();
    let json: Vec<_> = rows.iter().map(|(name, from)| serde_json::json!({ "name": name, "from": from })).collect();
    context.answer(&json, || {
        let mut table = Table::new(&["name", "from"]);
        rows.iter().for_each(|(name, from)| table.row([(*name).clone(), (*from).to_owned()]));
        table.to_string()
    })?;
    Ok(0)
}

async fn stored(context: &Context, hash: &str) -> Result<Sources, Failure> {
    let store = context.store().await?;
    let text = copies::sources(&mut store.read().await?, hash).await?;
    text.and_then(|text| serde_json::from_str(&text).ok()).ok_or_else(|| {
        let hint =
            "`allclear show --json` names the set of each delivery; sets go by age, with the last copy made with them";
        Failure::new(NOT_FOUND, format!("no set of templates has the hash `{}`", super::output::printable(hash)), hint)
    })
}

fn export(context: &Context, folder: &Path, sources: &Sources) -> Result<u8, Failure> {
    let files: Vec<_> = sources.iter().map(|(name, text)| (folder.join(format!("{name}.hbs")), text)).collect();
    if let Some((there, _)) = files.iter().find(|(path, _)| path.exists()) {
        let what = format!("{} is there already; nothing was written", there.display());
        return Err(Failure::new(CONFLICT, what, "name an empty or new folder"));
    }
    for (path, text) in &files {
        write(path, text.as_bytes())?;
    }
    let paths: Vec<_> = files.iter().map(|(path, _)| path.display().to_string()).collect();
    context.answer(&paths, || format!("wrote {} templates to {}\n", files.len(), folder.display()))?;
    Ok(0)
}

/// Writes a file, and the folders above it.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, bytes));
    made.map_err(|e| {
        let what = format!("{} cannot be written: {e}", path.display());
        Failure::new(FAILURE, what, "name a folder that this program may write to")
    })
}
