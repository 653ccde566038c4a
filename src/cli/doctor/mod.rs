//! `allclear doctor`: looks at everything `serve` will need, and says what to change. It changes nothing itself.

mod configuration;
mod database;
mod disk;
mod finding;
mod operators;
mod relays;
mod test_mail;

use super::failure::{FOUND_PROBLEMS, Failure, USAGE};
use super::output;
use crate::config::{Config, ConfigError};
use crate::domain::address::parse_address;
use crate::store::Store;
use crate::template::{Page, Templates};
use finding::{Finding, Level, fail, ok, skip};
use std::path::Path;

/// `allclear doctor`
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Send a test mail to this address through every stream, and show what the relay says
    #[arg(long, value_name = "ADDRESS", conflicts_with = "offline")]
    send_test: Option<String>,
    /// Leave the relays alone
    #[arg(long)]
    offline: bool,
}

/// A part of the report.
#[derive(serde::Serialize)]
struct Section {
    name: &'static str,
    findings: Vec<Finding>,
}

/// Works with a broken configuration too: that is its first finding.
pub(super) async fn run(args: &Args, config: Result<Config, ConfigError>, json: bool) -> Result<u8, Failure> {
    if let Some(address) = &args.send_test {
        parse_address(address).map_err(|e| {
            Failure::new(USAGE, format!("--send-test: {e}"), "give one address, such as you@example.com")
        })?;
    }
    let sections = match config {
        Ok(config) => examine(&config, args).await,
        Err(error) => without_configuration(&error),
    };
    let worst = sections.iter().flat_map(|s| &s.findings).map(|f| f.level).max().unwrap_or(Level::Ok);
    if json {
        output::json(&serde_json::json!({ "worst": worst, "sections": sections }))?;
    } else {
        output::text(&text(&sections))?;
    }
    Ok(if worst == Level::Fail { FOUND_PROBLEMS } else { 0 })
}

async fn examine(config: &Config, args: &Args) -> Vec<Section> {
    let database_file = Store::file_of(config.database.url.expose());
    let mut database = database::look(config).await;
    database.found.extend(operators::look(config).await);
    let mut relays = relays::look(config, args.offline).await;
    if let Some(to) = &args.send_test {
        relays.extend(test_mail::send(config, to).await);
    }
    vec![
        Section { name: "configuration", findings: configuration::look(config) },
        Section { name: "database", findings: database.found },
        Section { name: "time", findings: database.time },
        Section { name: "templates", findings: templates(config.templates.folder.as_deref(), &Page::of(config)) },
        Section { name: "relays", findings: relays },
        Section { name: "disk", findings: disk::look(config, database_file.as_deref()) },
    ]
}

fn without_configuration(error: &ConfigError) -> Vec<Section> {
    let unread = || vec![skip("not looked at: the configuration does not say which")];
    let page = Page { name: "Status".to_owned(), support_url: None, public_url: None };
    vec![
        Section { name: "configuration", findings: vec![fail(error.to_string(), error.hint())] },
        Section { name: "database", findings: unread() },
        Section { name: "templates", findings: templates(None, &page) },
        Section { name: "relays", findings: unread() },
        Section { name: "disk", findings: disk::space(&[("here", Path::new("."))]) },
    ]
}

fn templates(folder: Option<&Path>, page: &Page) -> Vec<Finding> {
    let which =
        folder.map_or_else(|| "the built-in set".to_owned(), |folder| format!("the set with {}", folder.display()));
    vec![match Templates::overlaid(folder, page) {
        Ok(set) => ok(format!("{which} renders every sample ({})", set.set_hash().get(..12).unwrap_or_default())),
        Err(e) => fail(
            format!("{which} cannot be used: {e}"),
            format!("{}; `allclear templates check` lists all there is", e.hint()),
        ),
    }]
}

fn text(sections: &[Section]) -> String {
    let mut text = String::new();
    for section in sections {
        text += &format!("{}\n", section.name);
        for finding in &section.findings {
            text += &finding.to_string();
        }
    }
    let count = |level| sections.iter().flat_map(|s| &s.findings).filter(|f| f.level == level).count();
    let (problems, warnings) = (count(Level::Fail), count(Level::Warn));
    text + &match (problems, warnings) {
        (0, 0) => "\nall is well\n".to_owned(),
        _ => format!("\nproblems: {problems}, warnings: {warnings}\n"),
    }
}
