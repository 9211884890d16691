//! Whose fault it was: from a place in a step back to the Service that caused it.
//!
//! Nothing is recorded while encoding. When the kernel refuses something, the backend that
//! encoded the step works out from the same patch what stood at that place.

use nfc_ir::ServiceName;
use std::fmt;

/// A place in a step, and what the kernel said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Index of the step.
    pub step: usize,
    /// Index of the message within the step, or line of the text, counted from 0. `None`:
    /// the step as a whole.
    pub message: Option<usize>,
    /// Byte offset within the message, from the start of its header (extended
    /// acknowledgement, `NLMSGERR_ATTR_OFFS`).
    pub offset: Option<usize>,
    /// The error number, 0 when there is none.
    pub errno: i32,
    /// The kernel's or the tool's own words, if any.
    pub words: String,
}

/// What a fault is about, in the user's terms.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Origin {
    /// The Service, when the fault is about one.
    pub service: Option<ServiceName>,
    /// The object: `add element services`, `chain KUBE-SVC-...`.
    pub object: String,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(service) = &self.service {
            write!(f, "{service}: ")?;
        }
        f.write_str(&self.object)
    }
}
