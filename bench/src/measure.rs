//! One cell of the packet study: its world, its rules, its packets, its connections, its
//! updates.
//!
//! Invariant: decides what comes after what within a cell; the parts are timed in `probe`,
//! `update` and `anatomy`.

use crate::anatomy;
use crate::contender::{Contender, Kind};
use crate::load::Load;
use crate::metric::{Metric, Operation};
use crate::plan::{self, Cell};
use crate::probe::{self, Bench};
use crate::repeat::Updates;
use crate::scenario::{Scenario, Transport};
use crate::tally::CellSamples;
use crate::topology;
use crate::update::Loaded;
use anyhow::Context as _;
use nfc_ir::Ir;
use nfc_kernel::{Kernel, monotonic_ns};
use nfc_lab::World;

/// Builds the world of `cell`, loads it, checks it, and measures: packets first, updates
/// last, because they change the rules, which are checked once more after that.
///
/// # Errors
///
/// When something cannot be built or loaded, or a packet comes out at the wrong endpoint.
pub fn cell(
    scenario: &Scenario,
    cell: &Cell,
    contenders: &[Contender],
) -> anyhow::Result<CellSamples> {
    let contender = contenders.iter().find(|c| c.name() == cell.backend);
    let contender = contender.with_context(|| format!("{} is not there", cell.backend))?;
    let mut world = topology::world()?;
    let ir = services(scenario, cell, contender, &world)?;
    let load = Load::new(scenario, cell);
    let (mut loaded, parts) = load_rules(contender, &world, &ir)?;
    let mut samples = CellSamples::new();
    let is_service_rules = changes(contender);
    if is_service_rules {
        keep(&mut samples, parts);
    }
    let protocol = scenario.scope.protocol;
    let meaning = (&ir, contender.mode());
    let bench = Bench::verified(protocol, &world, meaning, &load.destinations())?;
    if cell.backend == plan::BASELINE {
        samples.insert(Metric::EmptySendNs, bench.empty_sends(scenario)?);
    }
    samples.extend(bench.time(scenario, &load)?);
    if protocol == Transport::Tcp && !load.conversations.is_empty() {
        let times = probe::connections(&mut world, meaning, &load.conversations)?;
        samples.insert(Metric::ConnectionNs, times);
    }
    if is_service_rules {
        let scope = &scenario.scope;
        let mut updates = Updates::new(scope, cell, &world, &mut loaded);
        let mut kernel = Kernel::new().resident();
        for operation in &scenario.operations {
            let times = (untimed(*operation, cell), scope.updates);
            keep(&mut samples, updates.repeat(*operation, times, None, &mut kernel)?);
        }
        let changed = updates.frontends(&ir);
        let meaning = (loaded.ir(), contender.mode());
        Bench::verified(protocol, &world, meaning, &changed)?;
    }
    let asked = scenario.anatomy.as_ref().filter(|a| a.services == cell.services);
    if let Some(asked) = asked.filter(|a| a.backends.contains(&cell.backend)) {
        samples.extend(anatomy::layers(scenario, asked, cell, contender)?);
    }
    Ok(samples)
}

/// Loads one Service for each of `contenders`, in worlds that are thrown away: the kernel loads
/// its modules when they are first asked for, which is no contender's cost. Who cannot be
/// loaded will say so when it is measured.
pub fn rehearse(scenario: &Scenario, contenders: &[Contender]) {
    for contender in contenders {
        let cell = Cell { round: 0, backend: contender.name(), services: 1 };
        let rehearsal = || -> anyhow::Result<()> {
            let world = topology::world()?;
            let ir = services(scenario, &cell, contender, &world)?;
            load_rules(contender, &world, &ir).map(drop)
        };
        drop(rehearsal());
    }
}

/// The Services of `cell`, as far as `contender` can say them.
pub(crate) fn services(
    scenario: &Scenario,
    cell: &Cell,
    contender: &Contender,
    world: &World,
) -> anyhow::Result<Ir> {
    let size = (cell.services, scenario.scope.endpoints);
    let ir = topology::services(scenario.scope.protocol, size, world);
    let ir = ir.map_err(|flaws| anyhow::anyhow!("the made-up Services are flawed: {flaws:?}"))?;
    Ok(contender.share_of(ir))
}

/// Loads the rules for `ir` into the node of `world`, and says what that took.
pub(crate) fn load_rules<'a>(
    contender: &'a Contender,
    world: &World,
    ir: &Ir,
) -> anyhow::Result<(Loaded<'a>, Vec<(Metric, u64)>)> {
    let cold = || Loaded::cold(contender, monotonic_ns, ir.clone(), &mut Kernel::new());
    let (loaded, parts) = world.node().run(cold)?.context("loading the rules")?;
    Ok((loaded, parts.by_metric(Operation::ColdLoad)))
}

/// Whether loading it and changing it means anything.
fn changes(contender: &Contender) -> bool {
    contender.name() != plan::BASELINE && !matches!(contender.kind, Kind::StaticDnat)
}

/// How often an operation is performed before it counts. The first endpoint that is added
/// makes what is needed for Services with one more than all others have, which in a real
/// cluster is there; where there is only one Service there are no others.
fn untimed(operation: Operation, cell: &Cell) -> u32 {
    u32::from(operation == Operation::EndpointAdded && cell.services > 1)
}

fn keep(samples: &mut CellSamples, values: Vec<(Metric, u64)>) {
    for (metric, value) in values {
        samples.entry(metric).or_default().push(value);
    }
}
