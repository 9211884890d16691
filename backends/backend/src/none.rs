//! The backend that says nothing: the baseline of every measurement, and the simplest
//! thing a harness can be tested with.

use crate::journey::{self, ListingError, Rules, Way};
use crate::{Anew, Answer, Backend, Fault, Lowered, Origin, Question, Step, TraceError};
use nfc_ir::{Family, Ir, Outcome, Packet, ProxyMode};
use std::net::IpAddr;

/// No rules at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nothing;

impl Backend for Nothing {
    type Program = ();
    type Patch = ();
    type Follower = Anew<Self>;

    fn name(&self) -> &'static str {
        "none"
    }

    fn mode(&self) -> ProxyMode {
        ProxyMode::Iptables
    }

    fn empty(&self, _family: Family) {}

    fn lower(&self, _ir: &Ir) -> Lowered<()> {
        Lowered { program: (), unsupported: Vec::new() }
    }

    fn diff(&self, _old: &(), _new: &()) {}

    fn is_empty(&self, _patch: &()) -> bool {
        true
    }

    fn patched(&self, _old: &(), _patch: &()) {}

    fn follow(&self, _ir: &Ir, lowered: Lowered<()>) -> Anew<Self> {
        Anew::new(*self, lowered)
    }

    fn questions(&self, _family: Family) -> Vec<Question> {
        Vec::new()
    }

    fn replace(&self, _answers: &[Answer], _new: &()) {}

    fn render(&self, _programs: &[()]) -> String {
        String::new()
    }

    fn render_patch(&self, _patch: &()) -> String {
        String::new()
    }

    fn encode(&self, _patch: &()) -> Vec<Step> {
        Vec::new()
    }

    fn blame(&self, _patch: &(), _fault: &Fault) -> Origin {
        Origin::default()
    }

    fn trace(&self, _program: &(), _packet: &Packet) -> Result<Outcome, TraceError> {
        Ok(Outcome::Pass)
    }

    fn explain(
        &self,
        _listing: &str,
        addresses: &[IpAddr],
        packet: &Packet,
    ) -> Result<Vec<Way>, ListingError> {
        journey::journey(self, addresses, packet)
    }
}

impl Rules for Nothing {
    fn pass(
        &self,
        _place: journey::Place<'_>,
        course: journey::Course,
    ) -> Result<Vec<journey::Course>, ListingError> {
        Ok(vec![course])
    }
}
