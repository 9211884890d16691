//! What every backend does.

use crate::journey::{ListingError, Way};
use crate::{Answer, Fault, Follow, Origin, Question, Step, Unsupported};
use nfc_ir::{Family, Ir, Outcome, Packet, ProxyMode};
use std::fmt::Debug;
use std::net::IpAddr;

/// A way to say Services to the kernel. Every method is a pure function.
///
/// The laws, tested for each backend:
///
/// - `lower` is deterministic and blind to the order of its input;
/// - `trace(lower(ir), packet)` agrees with `nfc_ir::eval(ir, mode, packet)` wherever
///   nothing was unsupported;
/// - `patched(old, diff(old, new)) == new`, and `diff(a, a)` is empty;
/// - what a follower says of each change leads to `lower` of everything ([`Follow`]);
/// - loading what `render` prints and sending what `encode` gives leaves the same rules.
pub trait Backend {
    /// Everything nfc wants in the kernel for one family.
    type Program: Clone + Eq + Debug + 'static;
    /// The way from one program to another.
    type Patch: Clone + Debug + 'static;
    /// What keeps a program in step with its Services.
    type Follower: Follow<Patch = Self::Patch> + 'static;

    /// The name on the command line.
    fn name(&self) -> &'static str;

    /// The mode of kube-proxy whose promises it keeps.
    fn mode(&self) -> ProxyMode;

    /// The program of a node where nfc owns nothing.
    fn empty(&self, family: Family) -> Self::Program;

    /// The program that does what `ir` means.
    fn lower(&self, ir: &Ir) -> Lowered<Self::Program>;

    /// The way from `old` to `new`.
    fn diff(&self, old: &Self::Program, new: &Self::Program) -> Self::Patch;

    /// Whether a patch changes nothing.
    fn is_empty(&self, patch: &Self::Patch) -> bool;

    /// What a patch changes, in a few lines for people. A backend that does not look at what
    /// is there has nothing to say.
    fn summary(&self, _patch: &Self::Patch) -> Vec<String> {
        Vec::new()
    }

    /// What a patch has to leave to a later one, in a few lines for people.
    fn unfinished(&self, _patch: &Self::Patch) -> Vec<String> {
        Vec::new()
    }

    /// `old` after `patch`.
    fn patched(&self, old: &Self::Program, patch: &Self::Patch) -> Self::Program;

    /// Begins to follow the Services of `ir`, which [`lower`](Self::lower) made `lowered` of.
    fn follow(&self, ir: &Ir, lowered: Lowered<Self::Program>) -> Self::Follower;

    /// What must be read before [`replace`](Self::replace), in this order.
    fn questions(&self, family: Family) -> Vec<Question>;

    /// The way to `new` from whatever nfc, or kube-proxy under the same names, left in the
    /// kernel; `answers` are those to [`questions`](Self::questions). Replacing with
    /// [`empty`](Self::empty) deletes everything.
    fn replace(&self, answers: &[Answer], new: &Self::Program) -> Self::Patch;

    /// The text that the backend's own tool loads, for one family or for two.
    fn render(&self, programs: &[Self::Program]) -> String;

    /// What carries out `patch`, as text for the backend's own tool. An empty patch takes
    /// none.
    fn render_patch(&self, patch: &Self::Patch) -> String;

    /// The steps that carry out `patch`. An empty patch takes none.
    fn encode(&self, patch: &Self::Patch) -> Vec<Step>;

    /// What stands at the place of `fault` in the steps of `patch`.
    fn blame(&self, patch: &Self::Patch, fault: &Fault) -> Origin;

    /// Walks `packet` through `program` as the kernel would.
    ///
    /// # Errors
    ///
    /// [`TraceError`] when the program has a shape that the tracer does not know: it never
    /// guesses.
    fn trace(&self, program: &Self::Program, packet: &Packet) -> Result<Outcome, TraceError>;

    /// What must be read to see the rules that are in the kernel, each as the text of a tool.
    /// The answers together, in this order, are a listing for [`explain`](Self::explain).
    fn listing(&self, _family: Family) -> Vec<Question> {
        Vec::new()
    }

    /// Every way of `packet` through the rules of `listing`, which the backend's own tool
    /// printed, or [`render`](Self::render), or kube-proxy; `addresses` are the node's.
    ///
    /// It reads the text and nothing else, so that it is a second witness beside
    /// [`trace`](Self::trace), and says what a packet met with it.
    ///
    /// # Errors
    ///
    /// [`ListingError`] when the listing cannot be read, or the packet meets something in it
    /// whose effect is not known: it never guesses.
    fn explain(
        &self,
        listing: &str,
        addresses: &[IpAddr],
        packet: &Packet,
    ) -> Result<Vec<Way>, ListingError>;
}

/// A program, and what it does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lowered<P> {
    /// The program.
    pub program: P,
    /// What was asked for and left out, sorted.
    pub unsupported: Vec<Unsupported>,
}

/// A rule or object that a tracer does not understand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot trace {place}: {what}")]
pub struct TraceError {
    /// Where: a chain, a map.
    pub place: String,
    /// What is not understood there.
    pub what: String,
}
