//! Services as nftables sets and verdict maps.
//!
//! Invariant: thin. What a table is, prints as, encodes to and does to a packet belongs to
//! `nfc_ruleset`; here is only which table says what Services mean.

mod blame;
mod follow;
pub mod lower;
pub mod names;
pub mod program;

pub use follow::Follower;
pub use program::Program;

use names::TABLE;
use nfc_backend::journey::{ListingError, Way};
use nfc_backend::{Answer, Backend, Fault, Lowered, Origin, Question, Step, TraceError};
use nfc_ir::{Family, Ir, Outcome, Packet, ProxyMode};
use nfc_ruleset::{encode, observe, render, trace};
use std::net::IpAddr;

/// The backend.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nft {
    /// How Services lead to what is done with them.
    pub layout: Layout,
    /// How a program gets into the kernel.
    pub loading: Loading,
}

/// How Services lead to what is done with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Layout {
    /// By one verdict map: the fewest steps for a packet. Whenever a verdict comes, the
    /// kernel checks all verdicts of the table again.
    #[default]
    Verdict,
    /// By a map of data and a small map of verdicts: one more lookup for the first packet of
    /// a connection. A Service comes and goes in the same time whatever their number.
    ConstantTime,
}

/// How a program gets into the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Loading {
    /// What is there is read, and only what differs is sent.
    #[default]
    Difference,
    /// The table is replaced, whatever it holds.
    Whole,
}

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
    type Follower = Follower;

    fn name(&self) -> &'static str {
        match self.layout {
            Layout::Verdict => "nft",
            Layout::ConstantTime => "nft-constant-time",
        }
    }

    fn mode(&self) -> ProxyMode {
        ProxyMode::Nftables
    }

    fn empty(&self, family: Family) -> Program {
        Program::empty(family)
    }

    fn lower(&self, ir: &Ir) -> Lowered<Program> {
        lower::lower(ir, self.layout)
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

    fn summary(&self, patch: &Patch) -> Vec<String> {
        patch.table.summary()
    }

    fn patched(&self, old: &Program, patch: &Patch) -> Program {
        Program {
            family: old.family,
            table: nfc_ruleset::patched(old.table.as_ref(), &patch.table),
            addresses: patch.addresses.clone(),
        }
    }

    fn follow(&self, ir: &Ir, lowered: Lowered<Program>) -> Follower {
        Follower::new(ir, self.layout, lowered.program)
    }

    /// The table, with whatever others made of it; or only whether it is there.
    fn questions(&self, family: Family) -> Vec<Question> {
        let (chains, sets) = match self.loading {
            Loading::Whole => (&[][..], Vec::new()),
            Loading::Difference => (&names::FIXED_CHAINS[..], names::all_sets()),
        };
        let sets = sets.iter().map(String::as_str);
        vec![observe::question(family, TABLE, chains.iter().copied(), sets)]
    }

    fn replace(&self, answers: &[Answer], new: &Program) -> Patch {
        let (family, table) = (new.family, new.table.as_ref());
        let table = match answers.first() {
            Some(Answer(bytes)) if self.loading == Loading::Difference || table.is_none() => {
                nfc_ruleset::Patch::onto(bytes, family, TABLE, table)
            }
            _ => nfc_ruleset::Patch::replacing(family, TABLE, table),
        };
        Patch { table, addresses: new.addresses.clone() }
    }

    fn render(&self, programs: &[Program]) -> String {
        let script = |program: &Program| match &program.table {
            Some(table) => render::script(table),
            None => render::removal(program.family, TABLE),
        };
        programs.iter().map(script).collect()
    }

    fn render_patch(&self, patch: &Patch) -> String {
        encode::scripts(&patch.table).join(encode::NEXT_TRANSACTION)
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

    fn listing(&self, family: Family) -> Vec<Question> {
        vec![nfc_ruleset::listing::question(family, TABLE)]
    }

    fn explain(
        &self,
        listing: &str,
        addresses: &[IpAddr],
        packet: &Packet,
    ) -> Result<Vec<Way>, ListingError> {
        nfc_ruleset::listing::explain(listing, addresses, packet)
    }
}
