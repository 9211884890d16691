//! Words to people that several rooms say.
//!
//! Invariant: text alone; what is counted is the caller's.

/// A number and what is counted.
///
/// ```
/// assert_eq!(nfc_backend::counted(1, "step"), "1 step");
/// assert_eq!(nfc_backend::counted(0, "step"), "0 steps");
/// ```
#[must_use]
pub fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
