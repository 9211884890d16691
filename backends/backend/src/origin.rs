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

impl fmt::Display for Fault {
    /// The words that came with it and the system's for the error number, as far as there
    /// are any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let system = (self.errno != 0).then(|| std::io::Error::from_raw_os_error(self.errno));
        match (self.words.as_str(), system) {
            ("", None) => f.write_str("no reason was given"),
            ("", Some(system)) => write!(f, "{system}"),
            (words, None) => f.write_str(words),
            (words, Some(system)) => write!(f, "{words}: {system}"),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_always_says_something() {
        let fault = |errno, words: &str| {
            let words = words.to_owned();
            Fault { step: 0, message: None, offset: None, errno, words }.to_string()
        };
        assert_eq!(fault(0, "line 3 failed"), "line 3 failed");
        assert_eq!(fault(2, ""), "No such file or directory (os error 2)");
        assert_eq!(fault(22, "bad key"), "bad key: Invalid argument (os error 22)");
        assert_eq!(fault(0, ""), "no reason was given");
    }
}
