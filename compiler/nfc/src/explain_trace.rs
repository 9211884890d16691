//! Real packets as a third witness: the rules are loaded in a throwaway world, and packets
//! are sent there.
//!
//! Invariant: puts together what the lab room and the backends give; touches nothing outside
//! of the world.

use crate::{Exit, explain_account, refused};
use nfc::explain::Account;
use nfc::load;
use nfc_backend::AnyBackend;
use nfc_ir::{Ir, Packet};
use nfc_kernel::Kernel;
use nfc_lab::{Judge, World};
use std::collections::BTreeMap;
use std::fmt::Display;

/// How many connections are opened. An endpoint with a share of a tenth is missed once in
/// some thousand runs.
const CONNECTIONS: usize = 80;

/// What real packets did.
pub(crate) struct Trial {
    /// What the kernel says of one of them.
    pub(crate) kernel: Account,
    /// What became of the others, and of how many.
    pub(crate) landings: BTreeMap<String, usize>,
}

/// Sends `packet` through the rules that `backend` makes of `ir` and asks the kernel about it;
/// then opens connections like it, and counts what became of them.
pub(crate) fn trace(backend: &dyn AnyBackend, ir: &Ir, packet: &Packet) -> Result<Trial, Exit> {
    let world = World::of(ir).map_err(lacking)?;
    let loaded = world.node().run(|| load::apply(backend, ir, &mut Kernel::new()));
    loaded.map_err(lacking)?.map_err(refused)?;
    let mut judge = Judge::new(&world).map_err(lacking)?;
    let kernel = explain_account::account(backend, &world, &mut judge, packet).map_err(lacking)?;
    let mut landings = BTreeMap::new();
    for _ in 0..CONNECTIONS {
        let landing = judge.send(packet).map_err(lacking)?;
        *landings.entry(landing.to_string()).or_insert(0) += 1;
    }
    Ok(Trial { kernel, landings })
}

fn lacking(error: impl Display) -> Exit {
    eprintln!("error: {error}");
    Exit::Environment
}
