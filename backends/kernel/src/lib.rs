//! The one room with effects: namespaces, sockets, processes, and the executor that carries
//! out steps.
//!
//! Everything acts in the network namespace of the calling thread: enter one
//! ([`Namespace::enter`]) and whatever follows on that thread happens there.
//!
//! Invariant: knows no Service and no rule. The only `unsafe` of the project is in `sys.rs`,
//! one system call to a function.

mod apply;
pub mod clock;
pub mod conntrack;
pub mod features;
mod genetlink;
pub mod inhabitants;
pub mod link;
pub mod netns;
pub mod packet;
pub mod process;
mod reporter;
mod resident;
mod socket;
pub mod statistics;
#[expect(unsafe_code, reason = "the one file in which system calls are made")]
mod sys;
pub mod sysctl;
pub mod tables;
mod transaction;

pub use apply::Kernel;
pub use clock::{current_cpu, monotonic_ns, pin_to_cpu};
pub use features::{Feature, Missing};
pub use netns::{Guard, Namespace};
pub use reporter::Reporter;
pub use resident::Resident;
