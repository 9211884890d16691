//! Draws the report of a run again, from its record alone.

use clap::Parser;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

/// Draws the report and the charts of a run again, from its record alone: without root and
/// without measuring.
#[derive(Debug, Parser)]
#[command(name = "nfc-report")]
struct Arguments {
    /// Folder of the run, with `measurements.jsonl` and `machine.json`.
    run_dir: PathBuf,
}

fn main() -> ExitCode {
    match nfc_bench::redraw::redraw(&Arguments::parse().run_dir) {
        Ok(path) => {
            let _ = writeln!(io::stdout(), "{}", path.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "nfc-report: {error:#}");
            ExitCode::FAILURE
        }
    }
}
