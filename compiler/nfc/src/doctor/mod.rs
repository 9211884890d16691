//! Why a Service cannot be reached: what stands on the node, against what should.
//!
//! Invariant: [`facts`] reads and [`diagnose`] judges, and neither does the other's work.

pub mod diagnose;
pub mod facts;
pub mod finding;
pub mod foreign;
pub mod knock;
pub mod report;
pub mod standing;

pub use diagnose::{Patient, diagnose, stale_connections};
pub use facts::{Facts, Request};
pub use finding::{Evidence, Finding, Kind, Severity};

#[cfg(test)]
mod tests;
