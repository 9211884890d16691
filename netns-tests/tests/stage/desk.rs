//! A desk to type the commands of the docs at: a folder with the files that they name, on a
//! machine of its own, as far as networks and `/run` go, where nothing outlives the desk.

use super::{nfc, root, terminal, text};
use nfc_kernel::{Feature, Namespace, inhabitants};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What commands take to be there, and a machine for tests may not have: each word stands for
/// the same where it matters.
const STAND_INS: [(&str, &str); 5] = [
    ("sudo", "exec \"$@\""),
    ("kubectl", "cat svc.yaml"),
    ("iptables-save", "exec iptables-legacy-save"),
    ("man", "cat"),
    ("jq", "cat"),
];

/// The files that commands name, and which of the project's files they are here.
const FILES: [(&str, &str); 8] = [
    ("svc.yaml", "examples/web.yaml"),
    ("examples/web.yaml", "examples/web.yaml"),
    ("examples/aks.yaml", "examples/aks.yaml"),
    ("old.yaml", "docs/diff-old.yaml"),
    ("new.yaml", "docs/diff-new.yaml"),
    ("old/shop.yaml", "docs/diff-old.yaml"),
    ("new/shop.yaml", "docs/diff-new.yaml"),
    ("manifests/shop.yaml", "docs/check.yaml"),
];

/// What of the kernel and its tools the commands of the help and the README take, IPVS aside.
pub const FEATURES: [Feature; 5] = [
    Feature::Namespaces,
    Feature::Nftables,
    Feature::NftTool,
    Feature::IptablesV4,
    Feature::IptablesV6,
];

/// Makes the machine, says so, and keeps it for as long as somebody may type. Mounts are
/// private to it, and with `/run` of its own so are names of network namespaces and locks.
const MACHINE: &str =
    "mount -t tmpfs tmpfs /run && ip link set lo up && echo ready && exec cat >/dev/null";

/// How long a command may take, in seconds; one that has not ended by then ends with 124.
const DEADLINE: &str = "60";

/// How a command ended, and what it said.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// The desk, gone when dropped, with all that was made at it.
pub struct Desk {
    folder: PathBuf,
    path: String,
    machine: Child,
}

impl Desk {
    /// A desk for the test of this name.
    pub fn new(test: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("nfc-{test}-{}", std::process::id()));
        lay_out(&folder);
        let (nfc, bin) = (nfc(), folder.join("bin"));
        let tools = nfc.parent().expect("a folder");
        let inherited = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{}:{inherited}:/usr/sbin:/sbin", bin.display(), tools.display());
        let machine = machine(&path);
        Self { folder, path, machine }
    }

    /// Runs a line to its end, in the folder and on the machine of this desk. It fails when any
    /// command of its pipes does.
    pub fn run(&self, line: &str) -> Ended {
        self.run_for(DEADLINE, line)
    }

    /// The same, for so many seconds.
    pub fn run_for(&self, seconds: &str, line: &str) -> Ended {
        let line = self.there(line);
        let mut command = self.command(seconds, &["bash", "-o", "pipefail", "-c", &line]);
        let output = command.stdin(Stdio::null()).output().expect("nsenter");
        Ended {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// Runs a line on a terminal until `is_enough` of what is drawn there, and then presses
    /// Ctrl-C. What was drawn is its standard output.
    pub fn interrupt(&self, line: &str, is_enough: impl Fn(&str) -> bool) -> Ended {
        terminal::listen_to_what_was_ignored();
        let line = self.there(line);
        let mut command = self.command(DEADLINE, &terminal::on_terminal(&line));
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("nsenter");
        let (mut keys, mut screen) =
            (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        let (mut drawn, mut piece) = (Vec::new(), [0; 4096]);
        while !is_enough(&String::from_utf8_lossy(&drawn)) {
            match screen.read(&mut piece).expect("what is drawn") {
                0 => break,
                length => drawn.extend_from_slice(&piece[..length]),
            }
        }
        // One that has ended already has no terminal to press a key at.
        let _ = keys.write_all(terminal::CTRL_C);
        screen.read_to_end(&mut drawn).expect("the rest");
        let code = child.wait().expect("an end").code();
        Ended { code, stdout: text(&drawn), stderr: String::new() }
    }

    /// Processes that live in the network of this machine, beyond the one that keeps it.
    pub fn left_running(&self) -> Vec<u32> {
        let path = format!("/proc/{}/ns/net", self.machine.id());
        let network = Namespace::at(path.as_ref()).expect("its network");
        let mut living = inhabitants::of([&network]).expect("a list");
        living.retain(|pid| *pid != self.machine.id());
        living
    }

    fn there(&self, line: &str) -> String {
        // Entering other mounts leaves one at their root.
        format!("cd '{}' || exit\n{line}", self.folder.display())
    }

    fn command(&self, seconds: &str, words: &[&str]) -> Command {
        // Who watches the clock does so from outside: busybox's way of it stays a second longer.
        let mut command = Command::new("timeout");
        command.args([seconds, "nsenter", "--target", &self.machine.id().to_string()]);
        command.args(["--mount", "--net", "--"]);
        command.args(words).env("PATH", &self.path).env("HOME", &self.folder);
        command
    }

    /// The folder that is the home and the place of everybody who types here.
    pub fn folder(&self) -> String {
        self.folder.display().to_string()
    }
}

fn lay_out(folder: &Path) {
    for name in ["bin", "old", "new", "manifests", "examples", ".zfunc", ".config/fish/completions"]
    {
        fs::create_dir_all(folder.join(name)).expect("a folder");
    }
    for (name, line) in STAND_INS {
        let path = folder.join("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{line}\n")).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it can be run");
    }
    for (to, from) in FILES {
        fs::copy(root().join(from), folder.join(to)).expect("copied");
    }
}

/// The process that keeps a new machine; it ends when nobody can write to it any more.
fn machine(path: &str) -> Child {
    let mut machine = Command::new("unshare");
    machine.args(["--mount", "--net", "sh", "-c", MACHINE]).env("PATH", path);
    machine.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut machine = machine.spawn().expect("unshare");
    let mut said = String::new();
    let stdout = machine.stdout.take().expect("a pipe");
    BufReader::new(stdout).read_line(&mut said).expect("a line");
    assert_eq!(said, "ready\n", "a machine of its own");
    machine
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = self.machine.kill();
        let _ = self.machine.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
