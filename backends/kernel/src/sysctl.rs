//! Sysctls of the calling thread's network namespace, by way of `/proc/sys/net`.
//!
//! The files there are those of whoever opens them, not of whoever mounted `/proc`
//! (`net/sysctl_net.c`). A few belong to the initial namespace only, as
//! `net.core.rmem_max`; elsewhere they do not exist.
//!
//! Invariant: only names below `net`; anything else would change the whole machine.

use std::fs;
use std::io;
use std::path::PathBuf;

/// Why a sysctl could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SysctlError {
    /// The name is not one of a network namespace.
    #[error("{name} is no sysctl of a network namespace (net.*)")]
    Name {
        /// The name given.
        name: String,
    },
    /// The system refused.
    #[error("sysctl {name}: {source}")]
    Io {
        /// The name given.
        name: String,
        /// The system's error.
        source: io::Error,
    },
}

impl SysctlError {
    /// The system's error number, if it was the system that refused.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Name { .. } => None,
            Self::Io { source, .. } => source.raw_os_error(),
        }
    }
}

/// Writes a sysctl. In a name that has a slash, slashes separate and dots are dots, as
/// `sysctl(8)` has it: `net/ipv4/conf/eth0.100/forwarding`.
///
/// # Errors
///
/// [`SysctlError`]: a name outside of `net`, or what the system says.
pub fn write(name: &str, value: &str) -> Result<(), SysctlError> {
    let path = path(name)?;
    fs::write(path, value).map_err(|source| SysctlError::Io { name: name.to_owned(), source })
}

/// Reads a sysctl, without the newline at its end.
///
/// # Errors
///
/// As [`write()`].
pub fn read(name: &str) -> Result<String, SysctlError> {
    let path = path(name)?;
    let text = fs::read_to_string(path)
        .map_err(|source| SysctlError::Io { name: name.to_owned(), source })?;
    Ok(text.trim_end().to_owned())
}

fn path(name: &str) -> Result<PathBuf, SysctlError> {
    let separator = if name.contains('/') { '/' } else { '.' };
    let parts: Vec<_> = name.split(separator).collect();
    let is_safe = |part: &&str| !part.is_empty() && *part != "." && *part != "..";
    if parts.len() < 2 || parts[0] != "net" || !parts.iter().all(is_safe) {
        return Err(SysctlError::Name { name: name.to_owned() });
    }
    Ok(PathBuf::from("/proc/sys").join(parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_paths_below_net() {
        let shown = |name| path(name).map(|p| p.display().to_string()).ok();
        assert_eq!(shown("net.ipv4.ip_forward").as_deref(), Some("/proc/sys/net/ipv4/ip_forward"));
        let vlan = "/proc/sys/net/ipv4/conf/eth0.100/forwarding";
        assert_eq!(shown("net/ipv4/conf/eth0.100/forwarding").as_deref(), Some(vlan));
    }

    #[test]
    fn names_outside_of_net_are_refused() {
        for name in ["", "net", "kernel.panic", "net/../kernel/panic", "net..x", "/etc/passwd"] {
            assert!(matches!(path(name), Err(SysctlError::Name { .. })), "{name}");
        }
    }
}
