//! The compiler as a library: which backends there are ([`registry`]), Services to text
//! ([`compile`]), Services into the kernel ([`load`]).
//!
//! Invariant: nothing here prints, exits or reads arguments; that is the binary's.

pub mod compile;
pub mod load;
pub mod registry;
