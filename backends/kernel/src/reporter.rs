//! Processes that run beside this one and report line by line.
//!
//! Invariant: nothing that is started here outlives the thread that started it; what a line
//! means is known elsewhere.

use crate::process::{ProcessError, find};
use crate::sys;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

/// A process that reports until it is dropped. It runs in the network namespace of the thread
/// that started it, and the kernel kills it when that thread goes, by whatever signal.
#[derive(Debug)]
pub struct Reporter {
    child: Child,
    lines: Receiver<String>,
}

impl Reporter {
    /// Starts `program`; what it says on standard error is lost.
    ///
    /// # Errors
    ///
    /// [`ProcessError::NotInstalled`], [`ProcessError::Io`].
    pub fn start(program: &str, args: &[&str]) -> Result<Self, ProcessError> {
        let mut command = Command::new(find(program)?);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        sys::kill_with_thread(&mut command);
        let failed = |source| ProcessError::Io { program: program.to_owned(), source };
        let mut child = command.spawn().map_err(failed)?;
        let (sender, lines) = channel();
        if let Some(pipe) = child.stdout.take() {
            // It ends with the pipe, or when nobody takes its lines any more.
            thread::spawn(move || {
                let read = BufReader::new(pipe).lines().map_while(Result::ok);
                read.take_while(|line| sender.send(line.clone()).is_ok()).for_each(drop);
            });
        }
        Ok(Self { child, lines })
    }

    /// The next line; `None` when there is none within `patience`.
    #[must_use]
    pub fn line(&self, patience: Duration) -> Option<String> {
        self.lines.recv_timeout(patience).ok()
    }
}

impl Drop for Reporter {
    /// It has nothing to put in order, and one that is gone already needs no killing.
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn lines_come_as_they_are_said_and_dropping_ends_it() {
        let start = Instant::now();
        let script = "echo one; echo two; exec sleep 60";
        let reporter = Reporter::start("sh", &["-c", script]).expect("a shell");
        let patience = Duration::from_secs(10);
        assert_eq!(reporter.line(patience).as_deref(), Some("one"));
        assert_eq!(reporter.line(patience).as_deref(), Some("two"));
        assert_eq!(reporter.line(Duration::from_millis(20)), None);
        drop(reporter);
        assert!(start.elapsed() < Duration::from_secs(50), "it is not waited for");
    }

    #[test]
    fn it_goes_with_the_thread_that_started_it() {
        let start = || Reporter::start("sh", &["-c", "echo up; exec sleep 60"]).expect("a shell");
        let begun = move || {
            let reporter = start();
            assert_eq!(reporter.line(Duration::from_secs(10)).as_deref(), Some("up"));
            reporter
        };
        let mut reporter = thread::spawn(begun).join().expect("a thread");
        let deadline = Instant::now() + Duration::from_secs(10);
        while reporter.child.try_wait().expect("a child").is_none() {
            assert!(Instant::now() < deadline, "it lives on");
            thread::sleep(Duration::from_millis(5));
        }
    }
}
