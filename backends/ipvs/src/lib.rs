//! Services as IPVS virtual servers, with a companion nftables table for what IPVS cannot
//! say.
//!
//! Invariant: pure; nothing here touches the kernel.

mod companion;
mod diff;
mod encode;
mod listing;
mod lower;
mod names;
mod observe;
mod program;
mod render;
mod replace;
mod summary;
mod trace;
mod wire;

#[cfg(test)]
mod tests;

pub use diff::{Change, Command, Draining, LinkChange, Patch};
pub use program::{Program, ServerKey, VirtualServer};

use nfc_backend::journey::{ListingError, Way};
use nfc_backend::{Anew, Answer, Backend, Fault, Lowered, Origin, Question, Step, TraceError};
use nfc_ir::{Family, Ir, Outcome, Packet, ProxyMode};
use std::net::IpAddr;

/// IPVS.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ipvs;

impl Backend for Ipvs {
    type Program = Program;
    type Patch = Patch;
    type Follower = Anew<Self>;

    fn name(&self) -> &'static str {
        "ipvs"
    }

    fn mode(&self) -> ProxyMode {
        ProxyMode::Ipvs
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
        diff::is_empty(patch)
    }

    fn summary(&self, patch: &Patch) -> Vec<String> {
        summary::changes(patch)
    }

    fn unfinished(&self, patch: &Patch) -> Vec<String> {
        summary::unfinished(patch)
    }

    fn patched(&self, old: &Program, patch: &Patch) -> Program {
        diff::patched(old, patch)
    }

    /// By what programs say alone: an endpoint that goes takes its connections with it.
    /// Draining needs to know who is in use, which only [`replace`](Self::replace) is told.
    fn follow(&self, _ir: &Ir, lowered: Lowered<Program>) -> Anew<Self> {
        Anew::new(*self, lowered)
    }

    fn questions(&self, family: Family) -> Vec<Question> {
        observe::questions(family)
    }

    fn replace(&self, answers: &[Answer], new: &Program) -> Patch {
        replace::replace(&observe::read(answers, new), new)
    }

    fn render(&self, programs: &[Program]) -> String {
        render::script(programs)
    }

    fn render_patch(&self, patch: &Patch) -> String {
        render::patch_script(patch)
    }

    fn encode(&self, patch: &Patch) -> Vec<Step> {
        encode::steps(patch)
    }

    fn blame(&self, patch: &Patch, fault: &Fault) -> Origin {
        encode::blame(patch, fault)
    }

    fn trace(&self, program: &Program, packet: &Packet) -> Result<Outcome, TraceError> {
        trace::trace(program, packet)
    }

    fn listing(&self, family: Family) -> Vec<Question> {
        listing::questions(family)
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
