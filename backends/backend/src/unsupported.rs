//! What a backend cannot say.
//!
//! A lowering that leaves something out returns an [`Unsupported`] for it, which is
//! printed with the program and listed in the docs: no gap is silent.

use nfc_ir::{Protocol, ServiceName};
use std::fmt;

/// Something that a program does not say.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unsupported {
    /// The Service that asked for it.
    pub service: ServiceName,
    /// Its protocol.
    pub protocol: Protocol,
    /// What was asked for, and why it cannot be had.
    pub reason: Reason,
}

/// Why something cannot be said: a kind for tables and tests, and a sentence for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reason {
    /// What was asked for: `session affinity`, `weights`.
    pub feature: &'static str,
    /// Why this backend cannot, and what it does instead.
    pub why: &'static str,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, protocol, reason } = self;
        write!(f, "{service} ({protocol}): {}: {}", reason.feature, reason.why)
    }
}
