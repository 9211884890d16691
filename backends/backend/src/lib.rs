//! The contract between a lowering and the kernel.
//!
//! A [`Backend`] is a set of pure functions: it lowers an `Ir` to a program, finds the
//! difference of two programs, prints, encodes and traces. What must happen is said as
//! plain data, [`Step`]s, which one executor performs ([`Apply`]).
//!
//! Invariant: nothing here touches the kernel, and nothing knows how a rule is spelled.

pub mod addresses;
mod apply;
mod backend;
mod erased;
mod follow;
pub mod journey;
mod none;
mod origin;
mod step;
mod unsupported;
mod words;

pub use apply::{Apply, Receipt, Recorder, Refusal, StepReceipt};
pub use backend::{Backend, Lowered, TraceError};
pub use erased::{AnyBackend, AnyFollower, AnyPatch, AnyProgram};
pub use follow::{Anew, Follow};
pub use none::Nothing;
pub use origin::{Fault, Origin};
pub use step::{Answer, Process, Question, Step};
pub use unsupported::{Reason, Unsupported};
pub use words::counted;
