//! Backends behind one object-safe face, for the command line and the bench, which pick
//! one by name.
//!
//! A program or patch of one backend handed to another is a bug of the caller: programs
//! never leave the face that made them.

use crate::journey::{ListingError, Way};
use crate::{
    Answer, Backend, Fault, Follow, Lowered, Origin, Question, Step, TraceError, Unsupported,
};
use nfc_ir::{Change, Family, Ir, Outcome, Packet, ProxyMode};
use std::any::Any;
use std::fmt;
use std::net::IpAddr;

/// A program of some backend.
pub struct AnyProgram(Box<dyn Any>);

/// A patch of some backend.
pub struct AnyPatch(Box<dyn Any>);

impl fmt::Debug for AnyProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnyProgram")
    }
}

impl fmt::Debug for AnyPatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnyPatch")
    }
}

/// A [`Follow`] whose types are hidden. See there for what each method does.
pub trait AnyFollower {
    /// The way from the rules as they are to those that do what `ir` means.
    fn change(&mut self, ir: &Ir, changes: &[Change]) -> AnyPatch;
    /// What was asked for and left out, sorted.
    fn unsupported(&self) -> Vec<Unsupported>;
}

impl<F: Follow> AnyFollower for F
where
    F::Patch: 'static,
{
    fn change(&mut self, ir: &Ir, changes: &[Change]) -> AnyPatch {
        AnyPatch(Box::new(Follow::change(self, ir, changes)))
    }

    fn unsupported(&self) -> Vec<Unsupported> {
        Follow::unsupported(self)
    }
}

/// A [`Backend`] whose types are hidden. See there for what each method does.
pub trait AnyBackend {
    /// The name on the command line.
    fn name(&self) -> &'static str;
    /// The mode of kube-proxy whose promises it keeps.
    fn mode(&self) -> ProxyMode;
    /// The program of a node where nfc owns nothing.
    fn empty(&self, family: Family) -> AnyProgram;
    /// The program that does what `ir` means.
    fn lower(&self, ir: &Ir) -> Lowered<AnyProgram>;
    /// The way from `old` to `new`.
    fn diff(&self, old: &AnyProgram, new: &AnyProgram) -> AnyPatch;
    /// Whether a patch changes nothing.
    fn is_empty(&self, patch: &AnyPatch) -> bool;
    /// What a patch changes, in a few lines for people.
    fn summary(&self, patch: &AnyPatch) -> Vec<String>;
    /// What a patch has to leave to a later one, in a few lines for people.
    fn unfinished(&self, patch: &AnyPatch) -> Vec<String>;
    /// Begins to follow the Services of `ir`, which [`lower`](Self::lower) made `lowered` of.
    fn follow(&self, ir: &Ir, lowered: Lowered<AnyProgram>) -> Box<dyn AnyFollower>;
    /// What must be read before [`replace`](Self::replace).
    fn questions(&self, family: Family) -> Vec<Question>;
    /// The way to `new` from whatever is there.
    fn replace(&self, answers: &[Answer], new: &AnyProgram) -> AnyPatch;
    /// The text that the backend's own tool loads.
    fn render(&self, programs: &[AnyProgram]) -> String;
    /// What carries out `patch`, as text.
    fn render_patch(&self, patch: &AnyPatch) -> String;
    /// The steps that carry out `patch`.
    fn encode(&self, patch: &AnyPatch) -> Vec<Step>;
    /// What stands at the place of `fault`.
    fn blame(&self, patch: &AnyPatch, fault: &Fault) -> Origin;
    /// Walks `packet` through `program`.
    ///
    /// # Errors
    ///
    /// As for [`Backend::trace`].
    fn trace(&self, program: &AnyProgram, packet: &Packet) -> Result<Outcome, TraceError>;
    /// What must be read to see the rules that are in the kernel.
    fn listing(&self, family: Family) -> Vec<Question>;
    /// Every way of `packet` through the rules of `listing`.
    ///
    /// # Errors
    ///
    /// As for [`Backend::explain`].
    fn explain(
        &self,
        listing: &str,
        addresses: &[IpAddr],
        packet: &Packet,
    ) -> Result<Vec<Way>, ListingError>;
}

impl<B: Backend> AnyBackend for B {
    fn name(&self) -> &'static str {
        Backend::name(self)
    }

    fn mode(&self) -> ProxyMode {
        Backend::mode(self)
    }

    fn empty(&self, family: Family) -> AnyProgram {
        AnyProgram(Box::new(Backend::empty(self, family)))
    }

    fn lower(&self, ir: &Ir) -> Lowered<AnyProgram> {
        let Lowered { program, unsupported } = Backend::lower(self, ir);
        Lowered { program: AnyProgram(Box::new(program)), unsupported }
    }

    fn diff(&self, old: &AnyProgram, new: &AnyProgram) -> AnyPatch {
        AnyPatch(Box::new(Backend::diff(self, program::<B>(old), program::<B>(new))))
    }

    fn is_empty(&self, any: &AnyPatch) -> bool {
        Backend::is_empty(self, patch::<B>(any))
    }

    fn summary(&self, any: &AnyPatch) -> Vec<String> {
        Backend::summary(self, patch::<B>(any))
    }

    fn unfinished(&self, any: &AnyPatch) -> Vec<String> {
        Backend::unfinished(self, patch::<B>(any))
    }

    fn follow(&self, ir: &Ir, lowered: Lowered<AnyProgram>) -> Box<dyn AnyFollower> {
        let Lowered { program, unsupported } = lowered;
        let program = program.0.downcast().unwrap_or_else(|_| foreign());
        Box::new(Backend::follow(self, ir, Lowered { program: *program, unsupported }))
    }

    fn questions(&self, family: Family) -> Vec<Question> {
        Backend::questions(self, family)
    }

    fn replace(&self, answers: &[Answer], new: &AnyProgram) -> AnyPatch {
        AnyPatch(Box::new(Backend::replace(self, answers, program::<B>(new))))
    }

    fn render(&self, programs: &[AnyProgram]) -> String {
        let programs: Vec<_> = programs.iter().map(|p| program::<B>(p).clone()).collect();
        Backend::render(self, &programs)
    }

    fn render_patch(&self, any: &AnyPatch) -> String {
        Backend::render_patch(self, patch::<B>(any))
    }

    fn encode(&self, any: &AnyPatch) -> Vec<Step> {
        Backend::encode(self, patch::<B>(any))
    }

    fn blame(&self, any: &AnyPatch, fault: &Fault) -> Origin {
        Backend::blame(self, patch::<B>(any), fault)
    }

    fn trace(&self, any: &AnyProgram, packet: &Packet) -> Result<Outcome, TraceError> {
        Backend::trace(self, program::<B>(any), packet)
    }

    fn listing(&self, family: Family) -> Vec<Question> {
        Backend::listing(self, family)
    }

    fn explain(
        &self,
        listing: &str,
        addresses: &[IpAddr],
        packet: &Packet,
    ) -> Result<Vec<Way>, ListingError> {
        Backend::explain(self, listing, addresses, packet)
    }
}

fn program<B: Backend>(any: &AnyProgram) -> &B::Program {
    any.0.downcast_ref().unwrap_or_else(foreign)
}

fn foreign<T>() -> T {
    unreachable!("a program of another backend was given to this one")
}

fn patch<B: Backend>(any: &AnyPatch) -> &B::Patch {
    let own = any.0.downcast_ref();
    own.unwrap_or_else(|| unreachable!("a patch of another backend was given to this one"))
}
