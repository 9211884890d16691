//! Processes that read their orders from standard input.
//!
//! A process runs in the network namespace of the thread that starts it.
//!
//! Invariant: knows programs' names and the packages they come in, and nothing of what they
//! do.

use nfc_backend::Process;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Where administrators' programs live although a user's `PATH` may not say so.
const ADMIN_DIRS: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// Programs and the Debian packages that hold them.
const PACKAGES: [(&str, &str); 6] = [
    ("iptables", "iptables"),
    ("ip6tables", "iptables"),
    ("nft", "nftables"),
    ("ipvsadm", "ipvsadm"),
    ("ipset", "ipset"),
    ("conntrack", "conntrack"),
];

/// What a process said and how long it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error, as far as it is text.
    pub stderr: String,
    /// From before it was started until it was gone.
    pub elapsed: Duration,
}

/// Why a process did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// There is no such program.
    #[error("{program} is not installed ({hint})")]
    NotInstalled {
        /// The program's name.
        program: String,
        /// What to install.
        hint: String,
    },
    /// It took too long and was killed.
    #[error("{program} did not end within {} s", deadline.as_secs_f64())]
    Late {
        /// The program's name.
        program: String,
        /// How long it was given.
        deadline: Duration,
    },
    /// It could not be started or waited for.
    #[error("{program}: {source}")]
    Io {
        /// The program's name.
        program: String,
        /// The system's error.
        source: io::Error,
    },
}

/// Runs `process` and waits until it ends, but no longer than `deadline`.
///
/// # Errors
///
/// [`ProcessError`]. A process that ends with a code other than 0 is no error here.
pub fn run(process: &Process, deadline: Duration) -> Result<Finished, ProcessError> {
    let path = find(process.program)?;
    let failed = |source| ProcessError::Io { program: process.program.to_owned(), source };
    // Copied before the clock starts: it may be tens of megabytes.
    let orders = process.stdin.clone();
    let start = Instant::now();
    let mut child = Command::new(path)
        .args(&process.args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let pipes = Pipes::attach(&mut child, orders);
    let Some((stdout, stderr)) = pipes.wait(start + deadline) else {
        end(&mut child).map_err(failed)?;
        return Err(ProcessError::Late { program: process.program.to_owned(), deadline });
    };
    let status: ExitStatus = child.wait().map_err(failed)?;
    Ok(Finished {
        code: status.code(),
        stdout,
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
        elapsed: start.elapsed(),
    })
}

fn end(child: &mut Child) -> io::Result<()> {
    child.kill()?;
    child.wait().map(drop)
}

/// The threads at the far ends of a process's pipes. All pipes are served at once, or the
/// process could wait for us while we wait for it.
struct Pipes {
    stdout: Receiver<Vec<u8>>,
    stderr: Receiver<Vec<u8>>,
}

impl Pipes {
    fn attach(child: &mut Child, orders: String) -> Self {
        if let Some(mut stdin) = child.stdin.take() {
            // A process that stops reading says why on standard error.
            thread::spawn(move || drop(stdin.write_all(orders.as_bytes())));
        }
        Self { stdout: drain(child.stdout.take()), stderr: drain(child.stderr.take()) }
    }

    /// Both outputs, or nothing when they are still open at `end`.
    fn wait(self, end: Instant) -> Option<(Vec<u8>, Vec<u8>)> {
        let left = || end.saturating_duration_since(Instant::now());
        let take = |pipe: Receiver<Vec<u8>>| match pipe.recv_timeout(left()) {
            Ok(bytes) => Some(bytes),
            Err(RecvTimeoutError::Disconnected) => Some(Vec::new()),
            Err(RecvTimeoutError::Timeout) => None,
        };
        Some((take(self.stdout)?, take(self.stderr)?))
    }
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // Whatever could be read before an error is worth more than the error.
            drop(pipe.read_to_end(&mut bytes));
        }
        drop(sender.send(bytes));
    });
    receiver
}

/// The full path of `program`.
///
/// # Errors
///
/// [`ProcessError::NotInstalled`] when no folder in `PATH`, and none that administrators'
/// programs are usually in, has it.
pub fn find(program: &str) -> Result<PathBuf, ProcessError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(ADMIN_DIRS.map(PathBuf::from));
    let found = dirs.map(|dir| dir.join(program)).find(|file| file.is_file());
    found.ok_or_else(|| ProcessError::NotInstalled {
        program: program.to_owned(),
        hint: hint(program),
    })
}

/// What to install to have `program`: `iptables-legacy-restore` comes with `iptables`.
fn hint(program: &str) -> String {
    let stem = program.split('-').next().unwrap_or(program);
    match PACKAGES.iter().find(|(name, _)| *name == stem) {
        Some((_, package)) => format!("on Debian: apt-get install {package}"),
        None => "it is in no folder of PATH".to_owned(),
    }
}

/// The line that a tool complains about, counted from 0.
///
/// `iptables-restore` says `line N failed` or `Error occurred at line: N`, `nft` says
/// `/dev/stdin:N:M-M: Error`.
#[must_use]
pub fn failed_line(stderr: &str) -> Option<usize> {
    let after = |mark: &str| stderr.split_once(mark).map(|(_, rest)| rest);
    let places = [after("line "), after("at line: "), after("/dev/stdin:")];
    let number = |rest: &str| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok();
    let line: usize = places.into_iter().flatten().find_map(number)?;
    line.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        Process { program: "sh", args: vec!["-c".into(), script.into()], stdin: "in".into() }
    }

    #[test]
    fn input_output_error_and_code_all_come_through() {
        let done = run(&shell("cat; echo bad >&2; exit 3"), Duration::from_secs(10));
        let done = done.expect("a shell");
        let seen = (done.code, done.stdout.as_slice(), done.stderr.as_str());
        assert_eq!(seen, (Some(3), &b"in"[..], "bad\n"));
    }

    #[test]
    fn a_megabyte_in_and_out_does_not_block() {
        let mut process = shell("cat");
        process.stdin = "x".repeat(1 << 20);
        let done = run(&process, Duration::from_secs(10)).expect("a shell");
        assert_eq!(done.stdout.len(), 1 << 20);
    }

    #[test]
    fn a_late_process_is_killed() {
        let late = run(&shell("exec sleep 60"), Duration::from_millis(50));
        assert!(matches!(late, Err(ProcessError::Late { .. })), "{late:?}");
    }

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        assert_eq!(hint("ip6tables-legacy-restore"), "on Debian: apt-get install iptables");
        let error = find("no-such-program").expect_err("no such program");
        assert_eq!(
            error.to_string(),
            "no-such-program is not installed (it is in no folder of PATH)"
        );
    }

    #[test]
    fn the_line_complained_about_is_found() {
        assert_eq!(failed_line("iptables-restore: line 5 failed"), Some(4));
        assert_eq!(failed_line("unknown option\nError occurred at line: 3\nTry"), Some(2));
        assert_eq!(failed_line("/dev/stdin:7:1-9: Error: syntax"), Some(6));
        assert_eq!(failed_line("Another app is holding the lock"), None);
    }
}
