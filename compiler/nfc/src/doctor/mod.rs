//! Why a Service cannot be reached: what stands on the node, against what should.
//!
//! Invariant: [`facts`] reads and [`diagnose`] judges, and neither does the other's work.

pub mod connections;
pub mod counts;
pub mod diagnose;
pub mod facts;
pub mod finding;
pub mod foreign;
pub mod frontends;
pub mod knock;
pub mod movement;
pub mod report;
pub mod standing;

pub use diagnose::{Patient, diagnose};
pub use facts::{Facts, Request};
pub use finding::{Evidence, Finding, Kind, Severity};
pub use movement::{Movement, Reading, Share, Tracked, movements};

#[cfg(test)]
mod tests;
