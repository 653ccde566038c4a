//! `allclear completions` and `allclear man`: both follow from the commands as they are.

use super::failure::{FAILURE, Failure};
use super::{TEMPLATE, output};
use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use std::io;
use std::path::{Path, PathBuf};

/// `allclear man`
#[derive(clap::Args, Debug)]
pub(super) struct ManArgs {
    /// Write a page for every command into this folder, and make it if needed
    #[arg(long, value_name = "FOLDER")]
    to: Option<PathBuf>,
}

/// A shell's completion script, to standard output.
pub(super) fn completions(shell: clap_complete::Shell, mut command: Command) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "allclear", &mut script);
    output::text(&String::from_utf8_lossy(&script))?;
    Ok(0)
}

/// The main page to standard output, or every page into a folder.
pub(super) fn man(args: &ManArgs, command: Command) -> Result<u8, Failure> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let Some(folder) = &args.to else {
        let page =
            main_page(&command).map_err(|e| Failure::new(FAILURE, format!("the page cannot be made: {e}"), ""))?;
        output::text(&String::from_utf8_lossy(&page))?;
        return Ok(0);
    };
    let pages = write_all(&command, folder).map_err(|e| {
        let hint = "name a folder this user may write, such as /usr/local/share/man/man1";
        Failure::new(FAILURE, format!("the pages cannot be written to {}: {e}", folder.display()), hint)
    })?;
    output::text(&format!("wrote {pages} pages to {}\n", folder.display()))?;
    Ok(0)
}

fn write_all(command: &Command, folder: &Path) -> io::Result<usize> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("allclear.1"), main_page(command)?)?;
    let mut pages = 1;
    let mut left: Vec<&Command> = command.get_subcommands().collect();
    while let Some(command) = left.pop() {
        Man::new(command.clone()).generate_to(folder)?;
        pages += 1;
        left.extend(command.get_subcommands());
    }
    Ok(pages)
}

/// The generated page, with what the help shows besides: examples and exit codes, lines kept as they are.
fn main_page(command: &Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let man = Man::new(command.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    man.render_subcommands_section(&mut page)?;
    for (heading, text) in [("EXAMPLES", paragraph("Examples:\n")), ("EXIT STATUS", paragraph("Exit codes: "))] {
        let mut section = Roff::new();
        section.control("SH", [heading]).control("nf", []).text([roman(text)]).control("fi", []);
        section.to_writer(&mut page)?;
    }
    man.render_version_section(&mut page)?;
    Ok(page)
}

/// A paragraph of the help, without its heading.
fn paragraph(heading: &str) -> &'static str {
    let rest = TEMPLATE.split_once(heading).map_or("", |(_, rest)| rest);
    rest.split("\n\n").next().unwrap_or_default().trim_end()
}
