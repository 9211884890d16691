//! What a Kubernetes Service is ([`service`]), for which node ([`node`]), and what it
//! means for a packet ([`eval`]).
//!
//! The meaning written here is the one all backends are judged against: a lowering is
//! right when tracing a packet through its rules gives what [`eval`] gives.
//!
//! Invariant: this room knows no YAML, no rule syntax and no kernel, does no IO, and
//! depends on nothing of ours.

mod check;
pub mod eval;
pub mod id;
pub mod ipvs;
pub mod mode;
pub mod node;
pub mod packet;
pub mod select;
pub mod service;
mod service_map;
pub mod synth;
pub mod text;

pub use check::{Flaw, FrontendKey, Ir, Shadowed};
pub use eval::eval;
pub use id::{Family, Port, Protocol, ServiceName};
pub use ipvs::IpvsScheduler;
pub use mode::{DIFFERENCES, Difference, ProxyMode};
pub use node::{AddrBlock, LocalDetector, Node, NodePortAddresses};
pub use packet::{Choice, Ingress, Outcome, Packet};
pub use select::{Selection, select};
pub use service::{Affinity, Endpoint, Frontend, Hints, Scheduler, Service, TrafficPolicy};
pub use service_map::{Change, ServiceMap};
