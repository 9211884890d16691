//! A command that somebody runs inside a world, from its start until nobody lives there.
//!
//! Invariant: starts, waits and ends; what the command does is its own affair.

use nfc_kernel::Namespace;
use nfc_kernel::inhabitants::{self, Signal};
use nfc_kernel::netns::NamespaceError;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// How often it is looked whether the command has ended or somebody asks for its end.
const TICK: Duration = Duration::from_millis(10);

/// How often whoever watches is called.
const WATCH: Duration = Duration::from_secs(1);

/// How long those who are asked to end are given before they are killed.
const PATIENCE: Duration = Duration::from_millis(500);

/// A command in one of a world's namespaces.
#[derive(Debug)]
pub struct Session<'a> {
    /// What to run: a name that `PATH` leads to, or a path.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// What its environment has besides that of this process.
    pub variables: Vec<(&'static str, String)>,
    /// Where.
    pub inside: &'a Namespace,
    /// All namespaces of the world: whoever still lives in one of them when the command has
    /// ended is ended too.
    pub world: Vec<&'a Namespace>,
}

/// Why a command did not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// It could not be started.
    #[error("cannot run {program}: {source}")]
    Start {
        /// The program.
        program: String,
        /// The system's error.
        source: io::Error,
    },
    /// It could not be waited for.
    #[error("cannot wait for the command: {0}")]
    Wait(#[source] io::Error),
    /// A namespace could not be entered or searched.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
}

impl SessionError {
    /// The exit code that shells have for this: 127 for a program that is not there, 126 for
    /// one that cannot be run (POSIX, "Shell Command Language", 2.8.2).
    #[must_use]
    pub fn code(&self) -> Option<u8> {
        match self {
            Self::Start { source, .. } if source.kind() == io::ErrorKind::NotFound => Some(127),
            Self::Start { .. } => Some(126),
            Self::Wait(_) | Self::Namespace(_) => None,
        }
    }
}

impl Session<'_> {
    /// Runs the command and returns its exit code, or 128 and the number of the signal that
    /// ended it. `asked` tells which signal this process was sent, if any: an interrupt is
    /// handed on, for the command may have something to say about it; every other one ends
    /// the command. `watch` is called once a second.
    ///
    /// # Errors
    ///
    /// [`SessionError`].
    pub fn run(
        self,
        mut asked: impl FnMut() -> Option<Signal>,
        mut watch: impl FnMut(),
    ) -> Result<u8, SessionError> {
        let mut command = Command::new(&self.program);
        command.args(&self.args).envs(self.variables);
        let started = self.inside.run(|| command.spawn())?;
        let failed = |source| SessionError::Start { program: self.program, source };
        let mut child = started.map_err(failed)?;
        let mut watched = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().map_err(SessionError::Wait)? {
                break status;
            }
            match asked() {
                Some(Signal::Interrupt) => drop(inhabitants::tell(child.id(), Signal::Interrupt)),
                Some(_) => break end(&mut child)?,
                None => std::thread::sleep(TICK),
            }
            if watched.elapsed() >= WATCH {
                watched = Instant::now();
                watch();
            }
        };
        inhabitants::end(&self.world, PATIENCE)?;
        Ok(code(status))
    }
}

/// Calls `watch` once a second until somebody asks for an end, and ends those who came to
/// live in `world` meanwhile.
///
/// # Errors
///
/// [`SessionError::Namespace`].
pub fn stay(
    world: &[&Namespace],
    mut asked: impl FnMut() -> Option<Signal>,
    mut watch: impl FnMut(),
) -> Result<(), SessionError> {
    let mut watched = Instant::now();
    while asked().is_none() {
        std::thread::sleep(TICK);
        if watched.elapsed() >= WATCH {
            watched = Instant::now();
            watch();
        }
    }
    inhabitants::end(world, PATIENCE)?;
    Ok(())
}

/// Shells take no notice of a request to terminate, but end when their terminal goes.
fn end(child: &mut Child) -> Result<ExitStatus, SessionError> {
    for signal in [Signal::Hangup, Signal::Terminate] {
        inhabitants::tell(child.id(), signal).map_err(SessionError::Wait)?;
    }
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().map_err(SessionError::Wait)? {
            return Ok(status);
        }
        std::thread::sleep(TICK);
    }
    child.kill().map_err(SessionError::Wait)?;
    child.wait().map_err(SessionError::Wait)
}

fn code(status: ExitStatus) -> u8 {
    let signalled = status.signal().map(|signal| 128 + signal);
    let code = status.code().or(signalled).unwrap_or(1);
    u8::try_from(code).unwrap_or(u8::MAX)
}
