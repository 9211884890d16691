//! Network namespaces: made, found, entered and left.
//!
//! A namespace that nobody named lives as long as somebody holds it: a file descriptor, a
//! thread inside, a socket. So a [`Namespace`] made here needs no cleaning up, even when the
//! process is killed.
//!
//! Invariant: a thread changes its namespace here and nowhere else, and comes back.

use crate::sys;
use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The namespace of the calling thread; `/proc/self` would be that of the main thread
/// (`namespaces(7)`).
const OWN: &str = "/proc/thread-self/ns/net";

/// Where `ip netns add` puts the namespaces it names (`ip-netns(8)`).
const NAMED: &str = "/run/netns";

/// A network namespace, held open.
#[derive(Debug)]
pub struct Namespace {
    file: File,
}

/// Why a namespace could not be had.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The process may not.
    #[error("cannot {what}: needs root (CAP_SYS_ADMIN)")]
    Denied {
        /// What was tried.
        what: String,
    },
    /// The system refused for another reason.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's error.
        source: io::Error,
    },
}

impl NamespaceError {
    fn new(what: impl Into<String>, source: io::Error) -> Self {
        let what = what.into();
        if source.kind() == io::ErrorKind::PermissionDenied {
            Self::Denied { what }
        } else {
            Self::Io { what, source }
        }
    }
}

impl Namespace {
    /// A new and empty namespace. Nothing has to be undone: it is gone when it is dropped and
    /// nothing runs in it any more.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::Denied`] without `CAP_SYS_ADMIN`.
    pub fn new() -> Result<Self, NamespaceError> {
        let make = || -> io::Result<File> {
            sys::unshare_network()?;
            File::open(OWN)
        };
        // On a thread of its own, so that the caller's thread is never elsewhere.
        let made = std::thread::scope(|scope| scope.spawn(make).join());
        let made = made.unwrap_or_else(|_| Err(io::Error::other("the thread died")));
        let file = made.map_err(|e| NamespaceError::new("make a network namespace", e))?;
        Ok(Self { file })
    }

    /// The namespace that the calling thread is in.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::Io`] when `/proc` is not mounted.
    pub fn current() -> Result<Self, NamespaceError> {
        Self::at(Path::new(OWN))
    }

    /// The namespace that `ip netns add NAME` made.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::Io`] when there is none of this name.
    pub fn named(name: &str) -> Result<Self, NamespaceError> {
        Self::at(&PathBuf::from(NAMED).join(name))
    }

    /// The namespace that a file such as `/proc/PID/ns/net` stands for.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::Io`] when the file cannot be opened.
    pub fn at(path: &Path) -> Result<Self, NamespaceError> {
        let file = File::open(path)
            .map_err(|e| NamespaceError::new(format!("open {}", path.display()), e))?;
        Ok(Self { file })
    }

    /// Another handle on the same namespace.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::Io`] when the process has no descriptor left.
    pub fn duplicate(&self) -> Result<Self, NamespaceError> {
        let file = self.file.try_clone();
        let file = file.map_err(|e| NamespaceError::new("duplicate a namespace", e))?;
        Ok(Self { file })
    }

    /// A number that no other namespace has as long as this one lives.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::Io`] when the system does not tell.
    pub fn identity(&self) -> Result<u64, NamespaceError> {
        let metadata = self.file.metadata();
        Ok(metadata.map_err(|e| NamespaceError::new("identify a namespace", e))?.ino())
    }

    /// Moves the calling thread into this namespace until the guard is dropped.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::Denied`] without `CAP_SYS_ADMIN`, here or in the namespace that the
    /// thread comes from (`unshare -Ur` gives it for new ones only); the thread stays where
    /// it was.
    pub fn enter(&self) -> Result<Guard, NamespaceError> {
        let previous = Self::current()?;
        // Who may not enter the namespace that they are in could not come back to it.
        sys::enter_network(previous.as_fd())
            .map_err(|e| NamespaceError::new("come back to this network namespace", e))?;
        sys::enter_network(self.file.as_fd())
            .map_err(|e| NamespaceError::new("enter a network namespace", e))?;
        Ok(Guard { previous, bound_to_thread: PhantomData })
    }

    /// Does `work` inside this namespace, on the calling thread.
    ///
    /// # Errors
    ///
    /// As [`enter`](Self::enter); then `work` was not begun.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> Result<T, NamespaceError> {
        let guard = self.enter()?;
        let result = work();
        drop(guard);
        Ok(result)
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Brings the thread back into the namespace it came from.
///
/// It belongs to the thread that entered and cannot be sent to another. Guards are dropped
/// in the reverse order of entering.
///
/// ```compile_fail
/// fn sent_to_another_thread<T: Send>() {}
/// sent_to_another_thread::<nfc_kernel::Guard>();
/// ```
#[derive(Debug)]
#[must_use = "the thread leaves the namespace as soon as the guard is dropped"]
pub struct Guard {
    previous: Namespace,
    bound_to_thread: PhantomData<*const ()>,
}

impl Drop for Guard {
    /// A thread that cannot come back must not go on: whatever it did next would happen in
    /// the wrong namespace. Only while a panic is under way is that merely reported, so that
    /// the first cause is not hidden behind an abort.
    fn drop(&mut self) {
        let Err(error) = sys::enter_network(self.previous.as_fd()) else {
            return;
        };
        if std::thread::panicking() {
            report(&error);
        } else {
            stop(&error);
        }
    }
}

#[expect(clippy::print_stderr, reason = "there is nobody left to return an error to")]
fn report(error: &io::Error) {
    eprintln!("this thread is stuck in another network namespace: {error}");
}

#[expect(clippy::panic, reason = "going on in the wrong namespace would change the wrong host")]
fn stop(error: &io::Error) -> ! {
    panic!("this thread cannot return to its network namespace: {error}");
}
