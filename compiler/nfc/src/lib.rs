//! The compiler as a library: which backends there are ([`registry`]), Services to text
//! ([`compile`]), Services into the kernel ([`load`]), why a packet goes
//! where it goes ([`explain`](mod@explain)), what differs between Services ([`diff`]),
//! and what is odd about manifests ([`check`]).
//!
//! Invariant: nothing here prints, exits or reads arguments; that is the binary's.

pub mod check;
pub mod compile;
pub mod diff;
pub mod doctor;
pub mod explain;
pub mod inspect;
pub mod listing;
pub mod load;
pub mod registry;
