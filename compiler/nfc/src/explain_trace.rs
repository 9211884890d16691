//! Real packets as a third witness: the rules are loaded in a throwaway world, and packets
//! are sent there.
//!
//! Invariant: puts together what the lab room and the backends give; touches nothing outside
//! of the world.

use crate::{Exit, refused};
use nfc::load;
use nfc_backend::AnyBackend;
use nfc_ir::{Ir, Packet};
use nfc_kernel::Kernel;
use nfc_lab::{Judge, Settings, World};
use std::collections::BTreeMap;
use std::fmt::Display;

/// How many connections are opened. An endpoint with a share of a tenth is missed once in
/// some thousand runs.
const CONNECTIONS: usize = 80;

/// Opens connections like `packet` through the rules that `backend` makes of `ir`, and counts
/// what became of them.
pub(crate) fn trace(
    backend: &dyn AnyBackend,
    ir: &Ir,
    packet: &Packet,
) -> Result<BTreeMap<String, usize>, Exit> {
    let settings = Settings { node_addresses: ir.node().addresses.clone(), ..Settings::default() };
    let world = World::with(settings).map_err(lacking)?;
    let loaded = world.node().run(|| load::apply(backend, ir, &mut Kernel::new()));
    loaded.map_err(lacking)?.map_err(refused)?;
    let mut judge = Judge::new(&world).map_err(lacking)?;
    let mut landings = BTreeMap::new();
    for _ in 0..CONNECTIONS {
        let landing = judge.send(packet).map_err(lacking)?;
        *landings.entry(landing.to_string()).or_insert(0) += 1;
    }
    Ok(landings)
}

fn lacking(error: impl Display) -> Exit {
    eprintln!("error: {error}");
    Exit::Environment
}
