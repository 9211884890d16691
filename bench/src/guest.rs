//! The other instrument: this very program, run in the guest whose clocks count instructions.
//!
//! A word that is a letter longer costs the guest some instructions, and whatever hangs on its
//! clock shifts after that. So it is told nothing but the scenario, at places that are always the
//! same, and what else belongs into the record is added here.
//!
//! Invariant: starts `scripts/guest` and brings the record back; what is measured there, and
//! how, is no concern of this file.

use crate::machine;
use crate::record::{MEASUREMENTS, Machine, Record, SCENARIO};
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

/// The allocator keeps small pieces that are freed in lists by their size, as many as it can, and
/// takes them from there. By default it keeps seven of a size, and joins, splits and looks for the
/// others: which of them and when hangs on where everything lies on the heap, so that a path
/// one letter longer made an update cost 2 % more or less ("Memory Allocation Tunables" in the
/// manual of glibc; 65,535 is the most).
const ALLOCATOR: &str = "GLIBC_TUNABLES=glibc.malloc.tcache_count=65535";

/// What begins the names of variables that `scripts/guest` takes along.
const OURS: &str = "NFC_";

/// Where the guest has this program, what it is asked, and what it measures.
const PROGRAM_THERE: &str = "/nfc/scale";
const SCENARIO_THERE: &str = "/nfc/scenario.toml";
const RECORD_THERE: &str = "/nfc/record";

/// How long a run in the guest may take; the scenario `guest` takes a quarter of this.
const DEADLINE: Duration = Duration::from_secs(3600);

/// Memory of the guest, in MB: the rules of 30,000 Services in the dearest shape, twice.
const MEMORY_MB: u32 = 4000;

/// Whether this is the guest.
#[must_use]
pub fn is_here() -> bool {
    std::env::var_os(IN_GUEST).is_some()
}

/// Runs `study` in the guest, and puts its record into `folder`. `host` is what this machine
/// knows of the run and the guest does not: its date, command and commit.
///
/// # Errors
///
/// [`Missing`] when the guest was not set up, and whatever went wrong there.
pub fn run(root: &Path, study: &Study, host: &Machine, folder: &Path) -> anyhow::Result<()> {
    let root = root.canonicalize().context("the workspace is gone")?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    need(&root.join(target.unwrap_or_else(|| "target".into())))?;
    if folder.exists() {
        bail!("{} is there already: remove it, or name another folder", folder.display());
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let folder = folder.canonicalize()?;
    let scenario = folder.join(SCENARIO);
    fs::write(&scenario, study.to_toml())
        .with_context(|| format!("cannot write {}", scenario.display()))?;
    let program = std::env::current_exe().context("this program is gone")?;
    let told = io::stderr().write_all(b"scale: in the guest, which says nothing before its end\n");
    // Whoever closed standard error does not want to know.
    drop(told);
    let finished = process::run(&order(&root, &program, &folder), DEADLINE)?;
    drop(io::stderr().write_all(finished.stderr.as_bytes()));
    if folder.join(MEASUREMENTS).exists() {
        let there = Record::read(&folder)?.machine;
        machine::complete(there, host).write(&folder)?;
    }
    match finished.code {
        Some(0) => Ok(()),
        code => {
            forsake(&folder);
            bail!("the run in the guest ended with code {code:?}; what it said is above")
        }
    }
}

/// Nobody wants a folder without a record; one that has a record stays.
fn forsake(folder: &Path) {
    if !folder.join(MEASUREMENTS).exists() {
        drop(fs::remove_file(folder.join(SCENARIO)));
        drop(fs::remove_dir(folder));
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

fn order(root: &Path, program: &Path, folder: &Path) -> Process {
    let there = |path: &Path, place: &str| format!("{}:{place}", path.display());
    let with = [there(program, PROGRAM_THERE), there(&folder.join(SCENARIO), SCENARIO_THERE)];
    let [memory, deadline] = [u64::from(MEMORY_MB), DEADLINE.as_secs()].map(|n| n.to_string());
    let fetch = there(folder, RECORD_THERE);
    let outside = [
        ["--deadline", &deadline],
        ["--memory", &memory],
        ["--with", &with[0]],
        ["--with", &with[1]],
        ["--fetch", &fetch],
    ];
    let inside = [
        PROGRAM_THERE,
        "--bench",
        "--instrument",
        "guest",
        "--scenario",
        SCENARIO_THERE,
        "--out",
        RECORD_THERE,
    ];
    let ours = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    let ours = ours.filter(|name| name.starts_with(OURS));
    let mut args: Vec<String> = ours.flat_map(|name| ["-u".to_owned(), name]).collect();
    args.extend(["-C", "/"].map(str::to_owned));
    args.push(root.join("scripts/guest").display().to_string());
    args.push("--icount".to_owned());
    args.extend(outside.into_iter().flatten().map(str::to_owned));
    args.extend(["--", "env"].map(str::to_owned));
    args.extend([format!("{IN_GUEST}=1"), ALLOCATOR.to_owned()]);
    args.extend(inside.map(str::to_owned));
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

    #[test]
    fn the_guest_is_told_nothing_of_the_folders_here() {
        let told = |root: &str, folder: &str| {
            let args = order(Path::new(root), &Path::new(root).join("p"), Path::new(folder)).args;
            let begin = args.iter().position(|arg| arg == "--").expect("the job comes last");
            args[begin..].to_vec()
        };
        let one = told("/a", "/b");
        assert_eq!(one, told("/home/somebody/nfc", "/home/somebody/nfc/results/one"));
        assert!(one.contains(&RECORD_THERE.to_owned()), "{one:?}");
    }
}
