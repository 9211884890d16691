//! Throwaway worlds of network namespaces, in which real packets are sent through real
//! rules.
//!
//! A [`World`] is three namespaces, client - node - backend, and vanishes when it is dropped.
//! A [`Witness`] sends one packet and tells where it landed; a [`Probe`] sends many, one at a
//! time or on a [`Schedule`], and tells how long each took. A [`Cluster`] is a world whose
//! endpoints are pods that answer, and a [`Session`] a command that somebody runs in it.
//!
//! Invariant: knows packets and links, and no rule: whoever uses a world puts the rules in.

pub mod cluster;
mod connection;
mod frame;
mod judge;
pub mod need;
mod pod;
mod probe;
mod schedule;
pub mod server;
pub mod session;
mod witness;
pub mod world;

pub use cluster::Cluster;
pub use connection::{Connected, Connections};
pub use judge::{Judge, Misled};
pub use need::need;
pub use pod::{Bridge, Pod};
pub use probe::{Probe, ProbeError, Samples, Sender};
pub use schedule::{Schedule, Scheduled};
pub use server::{Answered, Server};
pub use session::{Session, SessionError};
pub use witness::{Landing, Witness, WitnessError};
pub use world::{Delivery, LabError, Place, Settings, World};
