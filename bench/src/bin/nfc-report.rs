//! Reports from records alone: draws a run again, or puts runs side by side.

use clap::{Parser, Subcommand};
use nfc_bench::gate::{self, Verdict};
use nfc_bench::redraw;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

/// Draws the report and the charts of a run again, from its record alone: without root and
/// without measuring.
#[derive(Debug, Parser)]
#[command(name = "nfc-report", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    other: Option<Other>,
    /// Folder of the run, with `measurements.jsonl` and `machine.json`.
    #[arg(required = true)]
    run_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Other {
    /// Prints what differs between runs: machines, kernels, commits; whether they agree; and how
    /// many times as long as in the first everything took in the others.
    Compare {
        /// Folder of the first run.
        first: PathBuf,
        /// Folders of those that are compared with it.
        #[arg(required = true)]
        others: Vec<PathBuf>,
    },
    /// Fails when a run in the guest needs more instructions than the record of another
    /// commit; `scripts/bench-check` makes the run.
    Gate {
        /// Folder of the record.
        recorded: PathBuf,
        /// Folder of the run.
        run: PathBuf,
    },
}

fn main() -> ExitCode {
    match carry_out(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "nfc-report: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let (text, code) = match arguments {
        Arguments { other: Some(Other::Compare { first, others }), .. } => {
            (redraw::compare(&first, &others)?, ExitCode::SUCCESS)
        }
        Arguments { other: Some(Other::Gate { recorded, run }), .. } => {
            let verdict = gate::judge(&recorded, &run)?;
            let code = match verdict {
                Verdict { fails: true, .. } => ExitCode::FAILURE,
                Verdict { fails: false, .. } => ExitCode::SUCCESS,
            };
            (verdict.text, code)
        }
        Arguments { run_dir, .. } => {
            let path = redraw::redraw(&run_dir.unwrap_or_default())?;
            (format!("{}\n", path.display()), ExitCode::SUCCESS)
        }
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(code)
}
