//! Processes that live in a network namespace: found by way of `/proc`, and ended.
//!
//! A namespace without a name goes when nobody holds it any more, so whoever wants it gone
//! has to end those who live there.
//!
//! Invariant: never the calling process, whichever of its threads is inside.

use crate::netns::{Namespace, NamespaceError};
use crate::sys;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

/// How often it is looked whether processes are gone.
const TICK: Duration = Duration::from_millis(5);

/// What a process can be told (`signal(7)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// What Ctrl-C sends.
    Interrupt,
    /// Its terminal is gone; interactive shells end.
    Hangup,
    /// To end in its own way.
    Terminate,
    /// To be no more.
    Kill,
}

impl Signal {
    fn number(self) -> i32 {
        match self {
            Self::Interrupt => libc::SIGINT,
            Self::Hangup => libc::SIGHUP,
            Self::Terminate => libc::SIGTERM,
            Self::Kill => libc::SIGKILL,
        }
    }
}

/// Tells the process `pid` something. One that is gone already is no failure.
///
/// # Errors
///
/// `EPERM` when it is somebody else's.
pub fn tell(pid: u32, signal: Signal) -> io::Result<()> {
    match sys::kill(pid, signal.number()) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        told => told,
    }
}

/// The processes whose network namespace is one of `namespaces`, the calling one left out.
///
/// # Errors
///
/// [`NamespaceError::Io`] when a namespace cannot be identified.
pub fn of<'a>(
    namespaces: impl IntoIterator<Item = &'a Namespace>,
) -> Result<Vec<u32>, NamespaceError> {
    let wanted: Result<BTreeSet<u64>, _> =
        namespaces.into_iter().map(Namespace::identity).collect();
    let wanted = wanted?;
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // A process that is ending has no namespace any more, and a stranger's is not shown.
    let is_inside = |pid: &u32| {
        let namespace = fs::metadata(format!("/proc/{pid}/ns/net"));
        namespace.is_ok_and(|namespace| wanted.contains(&namespace.ino()))
    };
    Ok(pids.filter(|pid| *pid != std::process::id()).filter(is_inside).collect())
}

/// Ends every process that lives in `namespaces`: asks first, and kills those that are still
/// there after `patience`. Returns how many there were.
///
/// # Errors
///
/// As [`of()`].
pub fn end(namespaces: &[&Namespace], patience: Duration) -> Result<usize, NamespaceError> {
    let living = || of(namespaces.iter().copied());
    let found = living()?;
    for pid in &found {
        for signal in [Signal::Hangup, Signal::Terminate] {
            // Who may not be told will be seen to live on below.
            drop(tell(*pid, signal));
        }
    }
    let deadline = Instant::now() + patience;
    // What is born while others are ended is ended too; after a second patience it is
    // somebody who cannot be killed.
    while Instant::now() < deadline + patience {
        let left = living()?;
        if left.is_empty() && !found.iter().any(|pid| is_running(*pid)) {
            break;
        }
        if Instant::now() >= deadline {
            left.iter().for_each(|pid| drop(tell(*pid, Signal::Kill)));
        }
        std::thread::sleep(TICK);
    }
    Ok(found.len())
}

/// Whether a process still does anything: it leaves its namespace a little before its end,
/// and its entry stays until its parent takes notice (`proc_pid_stat(5)`, state `Z`).
fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before the state may hold anything, parentheses too.
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_is_told_and_seen_to_end() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("a process");
        let pid = child.id();
        assert!(is_running(pid));
        tell(pid, Signal::Terminate).expect("a child of ours");
        let deadline = Instant::now() + Duration::from_secs(10);
        while is_running(pid) {
            assert!(Instant::now() < deadline, "it runs on");
            std::thread::sleep(TICK);
        }
        child.wait().expect("an end");
        assert!(!is_running(pid));
        tell(pid, Signal::Kill).expect("nobody is no failure");
        assert!(tell(0, Signal::Terminate).is_err(), "0 would be the whole group");
    }

    #[test]
    fn whoever_lives_here_is_found_but_for_ourselves() {
        let here = Namespace::current().expect("a namespace");
        let mut child = Command::new("sleep").arg("60").spawn().expect("a process");
        let found = of([&here]).expect("a list");
        tell(child.id(), Signal::Kill).expect("a child of ours");
        child.wait().expect("an end");
        assert!(found.contains(&child.id()), "{found:?}");
        assert!(!found.contains(&std::process::id()), "{found:?}");
    }
}
