//! The other instrument: this very program, run in the guest whose clocks count instructions.
//!
//! Invariant: starts `scripts/guest` and brings the record back; what is measured there, and
//! how, is no concern of this file.

use crate::machine;
use crate::record::Machine;
use crate::run::Study;
use anyhow::{Context as _, bail};
use nfc_backend::Process;
use nfc_kernel::{Missing, process};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Set where this program runs in the guest.
const IN_GUEST: &str = "NFC_GUEST";

/// How long a run in the guest may take; the scenario `guest` takes a quarter of this.
const DEADLINE: Duration = Duration::from_secs(3600);

/// Memory of the guest, in MB: the rules of 30,000 Services in the dearest shape, twice.
const MEMORY_MB: u32 = 4000;

/// Whether this is the guest.
#[must_use]
pub fn is_here() -> bool {
    std::env::var_os(IN_GUEST).is_some()
}

/// Runs `study` in the guest, and puts its record and report into `folder`. `host` is what this
/// machine knows of the run and the guest does not: its command and commit.
///
/// # Errors
///
/// [`Missing`] when the guest was not set up, and whatever went wrong there.
pub fn run(root: &Path, study: &Study, host: &Machine, folder: &Path) -> anyhow::Result<()> {
    let root = root.canonicalize().context("the workspace is gone")?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = root.join(target.unwrap_or_else(|| "target".into()));
    need(&target)?;
    if folder.exists() {
        bail!("{} is there already: remove it, or name another folder", folder.display());
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let folder = folder.canonicalize()?;
    let scenario = target.join("guest/scenario.toml");
    fs::write(&scenario, study.to_toml())
        .with_context(|| format!("cannot write {}", scenario.display()))?;
    let program = std::env::current_exe().context("this program is gone")?;
    let told = io::stderr().write_all(b"scale: in the guest, which says nothing before its end\n");
    // Whoever closed standard error does not want to know.
    drop(told);
    let finished = process::run(&order(&root, &program, &scenario, &folder, host), DEADLINE)?;
    drop(io::stderr().write_all(finished.stderr.as_bytes()));
    match finished.code {
        Some(0) => Ok(()),
        code => {
            // Nobody wants a folder without a record; one that has a record stays.
            drop(fs::remove_dir(&folder));
            bail!("the run in the guest ended with code {code:?}; what it said is above")
        }
    }
}

/// Whether there is something to emulate with, and something to boot.
fn need(target: &Path) -> Result<(), Missing> {
    let missing = |what: &str, why: String| Missing { what: what.to_owned(), why };
    let set_up = "run scripts/guest-setup, which installs and downloads what the guest needs";
    process::find("qemu-system-x86_64")
        .map_err(|error| missing("the guest's emulator", format!("{error}: {set_up}")))?;
    let guests = target.join("guest");
    let folders = fs::read_dir(&guests).into_iter().flatten().flatten();
    let has_kernel = folders.map(|f| f.path().join("kernel")).any(|kernel| kernel.is_file());
    if has_kernel {
        return Ok(());
    }
    let why = format!("there is none in {}: {set_up}", guests.display());
    Err(missing("the guest's kernel", why))
}

fn order(root: &Path, program: &Path, scenario: &Path, folder: &Path, host: &Machine) -> Process {
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let memory = MEMORY_MB.to_string();
    let deadline = DEADLINE.as_secs().to_string();
    let (scenario, folder) = (path(scenario), path(folder));
    let outside = ["--icount", "--deadline", &deadline, "--memory", &memory];
    let inside = ["--bench", "--instrument", "guest", "--command", &host.command];
    let mut args = vec!["-C".to_owned(), path(root)];
    args.push(format!("{IN_GUEST}=1"));
    args.extend(machine::told(host));
    args.push("scripts/guest".to_owned());
    args.extend(outside.map(str::to_owned));
    args.extend(["--with", &scenario, "--fetch", &folder, "--"].map(str::to_owned));
    args.push(path(program));
    args.extend(inside.map(str::to_owned));
    args.extend(["--scenario", &scenario, "--out", &folder].map(str::to_owned));
    Process { program: "env", args, stdin: String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_was_not_set_up_is_named_with_the_command_that_does() {
        let missing = need(Path::new("/nonexistent")).expect_err("no guest is there");
        assert!(missing.why.contains("run scripts/guest-setup"), "{missing}");
    }
}
