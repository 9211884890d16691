//! Services as nftables sets and verdict maps.
//!
//! Invariant: thin. What a table is, prints as, encodes to and does to a packet belongs to
//! `nfc_ruleset`; here is only which table says what Services mean.

mod blame;
pub mod lower;
pub mod names;
pub mod program;

pub use program::Program;

use names::TABLE;
use nfc_backend::{Answer, Backend, Fault, Lowered, Origin, Question, Step, TraceError};
use nfc_ir::{Family, Ir, Outcome, Packet, ProxyMode};
use nfc_ruleset::{encode, render, trace};
use std::net::IpAddr;

/// The backend.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nft;

/// The way from one program to another.
#[derive(Clone, Debug)]
pub struct Patch {
    /// What changes in the kernel.
    pub table: nfc_ruleset::Patch,
    /// The node's addresses afterwards, which are not in the kernel.
    pub addresses: Vec<IpAddr>,
}

impl Backend for Nft {
    type Program = Program;
    type Patch = Patch;

    fn name(&self) -> &'static str {
        "nft"
    }

    fn mode(&self) -> ProxyMode {
        ProxyMode::Nftables
    }

    fn empty(&self, family: Family) -> Program {
        Program::empty(family)
    }

    fn lower(&self, ir: &Ir) -> Lowered<Program> {
        lower::lower(ir)
    }

    fn diff(&self, old: &Program, new: &Program) -> Patch {
        let (before, after) = (old.table.as_ref(), new.table.as_ref());
        Patch {
            table: nfc_ruleset::diff(new.family, TABLE, before, after),
            addresses: new.addresses.clone(),
        }
    }

    fn is_empty(&self, patch: &Patch) -> bool {
        patch.table.is_empty()
    }

    fn patched(&self, old: &Program, patch: &Patch) -> Program {
        Program {
            family: old.family,
            table: nfc_ruleset::patched(old.table.as_ref(), &patch.table),
            addresses: patch.addresses.clone(),
        }
    }

    /// None: the table is replaced whole, whatever it holds.
    fn questions(&self, _family: Family) -> Vec<Question> {
        Vec::new()
    }

    fn replace(&self, _answers: &[Answer], new: &Program) -> Patch {
        Patch {
            table: nfc_ruleset::Patch::replacing(new.family, TABLE, new.table.as_ref()),
            addresses: new.addresses.clone(),
        }
    }

    fn render(&self, programs: &[Program]) -> String {
        let script = |program: &Program| match &program.table {
            Some(table) => render::script(table),
            None => render::removal(program.family, TABLE),
        };
        programs.iter().map(script).collect()
    }

    fn encode(&self, patch: &Patch) -> Vec<Step> {
        encode::encode(&patch.table)
    }

    fn blame(&self, patch: &Patch, fault: &Fault) -> Origin {
        blame::origin(encode::blame(&patch.table, fault))
    }

    fn trace(&self, program: &Program, packet: &Packet) -> Result<Outcome, TraceError> {
        match &program.table {
            Some(table) => trace::trace(table, &program.addresses, packet),
            None => Ok(Outcome::Pass),
        }
    }
}
