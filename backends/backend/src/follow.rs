//! Rules that follow their Services from change to change.
//!
//! Invariant: says the same as lowering everything and comparing, whatever is remembered.

use crate::{Backend, Lowered, Unsupported};
use nfc_ir::{Change, Ir};

/// Knows the rules of a node, and keeps them in step with its Services.
///
/// The law: after any changes, the program that [`Backend::follow`] began with, patched by
/// every patch since, equals [`Backend::lower`] of the Services as they are, and
/// [`unsupported`](Self::unsupported) is what that says.
pub trait Follow {
    /// The way from one program to another.
    type Patch;

    /// The way from the rules as they are to those that do what `ir` means; `changes` are
    /// all that makes it differ from the Ir before, those of one Service in order. The patch
    /// counts as carried out. When the kernel refuses it, nothing is known any more: begin anew
    /// with [`Backend::replace`].
    fn change(&mut self, ir: &Ir, changes: &[Change]) -> Self::Patch;

    /// What was asked for and left out, sorted.
    fn unsupported(&self) -> Vec<Unsupported>;
}

/// Follows by lowering everything after every change.
#[derive(Clone, Debug)]
pub struct Anew<B: Backend> {
    backend: B,
    lowered: Lowered<B::Program>,
}

impl<B: Backend> Anew<B> {
    /// Begins with what `backend` made of the Services.
    #[must_use]
    pub fn new(backend: B, lowered: Lowered<B::Program>) -> Self {
        Self { backend, lowered }
    }
}

impl<B: Backend> Follow for Anew<B> {
    type Patch = B::Patch;

    fn change(&mut self, ir: &Ir, _changes: &[Change]) -> B::Patch {
        let lowered = self.backend.lower(ir);
        let patch = self.backend.diff(&self.lowered.program, &lowered.program);
        self.lowered = lowered;
        patch
    }

    fn unsupported(&self) -> Vec<Unsupported> {
        self.lowered.unsupported.clone()
    }
}
