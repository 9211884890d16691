//! Services as kube-proxy's iptables mode says them, for the legacy tables.
//!
//! Chain names, rules and the order of rules within a chain are kube-proxy's to the byte,
//! so that its users find what they know, and so that nfc and kube-proxy can take over
//! from each other. `README.md` next to this crate says which rule is at which hook, and
//! why there.
//!
//! Invariant: pure; text goes to `iptables-legacy-restore` through the executor, and no
//! other room knows the spelling.

mod diff;
mod encode;
mod listing;
mod lower;
pub mod names;
mod present;
pub mod program;
mod render;
mod trace;

pub use diff::{Changes, Jump, Patch};
pub use present::render_onto;
pub use program::Program;

use nfc_backend::journey::{ListingError, Way};
use nfc_backend::{Anew, Answer, Backend, Fault, Lowered, Origin, Question, Step, TraceError};
use nfc_ir::{Family, Ir, Outcome, Packet, ProxyMode};
use std::net::IpAddr;

/// The backend for iptables-legacy.
#[derive(Clone, Copy, Debug, Default)]
pub struct Iptables;

impl Backend for Iptables {
    type Program = Program;
    type Patch = Patch;
    type Follower = Anew<Self>;

    fn name(&self) -> &'static str {
        "iptables"
    }

    fn mode(&self) -> ProxyMode {
        ProxyMode::Iptables
    }

    fn empty(&self, family: Family) -> Program {
        Program::empty(family)
    }

    fn lower(&self, ir: &Ir) -> Lowered<Program> {
        lower::lower(ir)
    }

    fn diff(&self, old: &Program, new: &Program) -> Patch {
        diff::diff(old, new)
    }

    fn is_empty(&self, patch: &Patch) -> bool {
        patch.is_empty()
    }

    fn patched(&self, old: &Program, patch: &Patch) -> Program {
        diff::patched(old, patch)
    }

    fn follow(&self, _ir: &Ir, lowered: Lowered<Program>) -> Anew<Self> {
        Anew::new(*self, lowered)
    }
    fn questions(&self, family: Family) -> Vec<Question> {
        encode::questions(family)
    }

    fn replace(&self, answers: &[Answer], new: &Program) -> Patch {
        let dump = answers.first().map_or(&[][..], |answer| &answer.0);
        present::replace(&String::from_utf8_lossy(dump), new)
    }

    fn render(&self, programs: &[Program]) -> String {
        render::render(programs)
    }

    fn render_patch(&self, patch: &Patch) -> String {
        patch.to_string()
    }

    fn encode(&self, patch: &Patch) -> Vec<Step> {
        encode::encode(patch)
    }

    fn blame(&self, patch: &Patch, fault: &Fault) -> Origin {
        encode::blame(patch, fault)
    }

    fn trace(&self, program: &Program, packet: &Packet) -> Result<Outcome, TraceError> {
        trace::trace(program, packet)
    }

    fn listing(&self, family: Family) -> Vec<Question> {
        encode::questions(family)
    }

    fn explain(
        &self,
        listing: &str,
        addresses: &[IpAddr],
        packet: &Packet,
    ) -> Result<Vec<Way>, ListingError> {
        listing::explain(listing, addresses, packet)
    }
}
