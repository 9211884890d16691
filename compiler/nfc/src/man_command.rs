//! The subcommand `man`: manual pages, made from what the command line says of itself.
//!
//! Invariant: shapes words that stand elsewhere; says nothing of its own about a subcommand.

use crate::args::Cli;
use crate::{Exit, print, write_file};
use clap::{Args, CommandFactory};
use clap_mangen::{
    Man,
    roff::{Roff, roman},
};
use std::io;
use std::path::PathBuf;

/// Print or write the manual pages
///
/// Without a folder, nfc(1) goes to standard output. With one, a page for nfc and one for each
/// subcommand are written there, as nfc.1, nfc-compile.1 and so on.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  nfc man | man -l -
  sudo nfc man /usr/local/share/man/man1

Exit codes: 0 written, 1 the arguments are refused, 2 the folder cannot be written.")]
pub(crate) struct ManPages {
    /// The folder to write to; made when it is not there.
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Runs it.
pub(crate) fn run(args: &ManPages) -> Result<(), Exit> {
    let mut nfc = Cli::command().disable_help_subcommand(true);
    nfc.build();
    let Some(folder) = &args.folder else {
        return print(&page(&nfc).map_err(unwritten)?);
    };
    for command in std::iter::once(&nfc).chain(nfc.get_subcommands()) {
        let name = Man::new(command.clone()).get_filename();
        write_file(&folder.join(name), &page(command).map_err(unwritten)?)?;
    }
    Ok(())
}

fn unwritten(error: io::Error) -> Exit {
    eprintln!("error: cannot write a manual page: {error}");
    Exit::Environment
}

/// The page of one command, as roff.
fn page(command: &clap::Command) -> io::Result<String> {
    // An empty date would be left out of the title, and what follows would take its place.
    let man = Man::new(command.clone())
        .date(" ")
        .source(concat!("nfc ", env!("CARGO_PKG_VERSION")))
        .manual("User Commands");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    let notes = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    after_help(&notes).to_writer(&mut text)?;
    String::from_utf8(text).map_err(io::Error::other)
}

/// What stands behind the options in the help, under the headings that manual pages have for
/// it. Examples keep their lines.
fn after_help(notes: &str) -> Roff {
    let mut roff = Roff::default();
    for paragraph in notes.split("\n\n") {
        if let Some(examples) = paragraph.strip_prefix("Examples:\n") {
            roff.control("SH", ["EXAMPLES"]).control("nf", []);
            for line in examples.lines() {
                roff.text([roman(line.trim_start())]);
            }
            roff.control("fi", []);
        } else if let Some(codes) = paragraph.strip_prefix("Exit codes: ") {
            roff.control("SH", ["EXIT STATUS"]).text([roman(codes)]);
        } else if !paragraph.is_empty() {
            roff.control("SH", ["NOTES"]).text([roman(paragraph)]);
        }
    }
    roff
}
