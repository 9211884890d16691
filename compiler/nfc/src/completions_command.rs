//! The subcommand `completions`: what a shell needs to complete `nfc` as it is typed.
//!
//! Invariant: knows shells, and no subcommand by name.

use crate::args::Cli;
use crate::{Exit, print};
use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Print what a shell needs to complete nfc's words
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  source <(nfc completions bash)          # in this shell only
  sudo sh -c 'nfc completions bash > /etc/bash_completion.d/nfc'
  nfc completions zsh > ~/.zfunc/_nfc     # a folder of $fpath
  nfc completions fish > ~/.config/fish/completions/nfc.fish")]
pub(crate) struct Completions {
    /// The shell.
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

/// Runs it.
pub(crate) fn run(args: &Completions) -> Result<(), Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "nfc", &mut script);
    print(&String::from_utf8_lossy(&script))
}
