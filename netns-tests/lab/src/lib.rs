//! Throwaway worlds of network namespaces, in which real packets are sent through real
//! rules.
//!
//! A [`World`] is three namespaces, client - node - backend, and vanishes when it is dropped.
//! A [`Witness`] sends one packet and tells where it landed; a [`Probe`] sends many, one at a
//! time or on a [`Schedule`], and tells how long each took.
//!
//! Invariant: knows packets and links, and no rule: whoever uses a world puts the rules in.

mod frame;
pub mod need;
mod probe;
mod schedule;
pub mod server;
mod witness;
pub mod world;

pub use need::need;
pub use probe::{Probe, ProbeError, Samples};
pub use schedule::{Schedule, Scheduled};
pub use server::Server;
pub use witness::{Landing, Witness, WitnessError};
pub use world::{Delivery, LabError, Place, Settings, World};
