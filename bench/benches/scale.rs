//! `sudo cargo bench --bench scale`: measures what Service rules cost, and draws it.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    nfc_bench::cli::main(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../results"))
}
