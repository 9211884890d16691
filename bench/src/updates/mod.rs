//! The update study: how long updates take, what memory a load needs, and what packets notice
//! while updates are made.
//!
//! Invariant: decides what comes after what, as `run` does for packets; the parts are timed
//! in `update`, `once` and `disruption`.

pub mod disruption;
mod judge;
mod limits;
pub mod once;
mod scenario;

pub use limits::Limits;
use once::{Order, Origin};
pub use scenario::{Disruption, Kind, UpdateScenario};

use crate::contender::Contender;
use crate::load;
use crate::metric::{Metric, Operation};
use crate::plan::{self, Cell};
use crate::probe::Bench;
use crate::record::{Capped, Entry};
use crate::repeat::Updates;
use crate::report::services;
use crate::run::Session;
use crate::tally::CellSamples;
use crate::topology;
use crate::update::{Loaded, Parts};
use anyhow::Context as _;
use nfc_ir::{Family, Ir};
use nfc_kernel::{Kernel, Namespace, Resident, monotonic_ns};
use nfc_lab::World;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The operations of a cell after the cold load, in this order.
pub(crate) const OPERATIONS: [Operation; 9] = [
    Operation::NoOp,
    Operation::ReadBack,
    Operation::EndpointAdded,
    Operation::EndpointSwapped,
    Operation::EndpointRemoved,
    Operation::ServiceAdded,
    Operation::ServiceRemoved,
    Operation::Churn,
    Operation::FullResync,
];

/// How often an operation is performed without and with the clock on in a round, where small
/// ones are made `small` times. The first time of small ones does not count: it makes what is
/// needed for Services of another number of endpoints than all have, which in a real cluster
/// is there.
fn times(operation: Operation, small: u32) -> (u32, u32) {
    match operation {
        Operation::ReadBack | Operation::Churn | Operation::FullResync => (0, 1),
        _ => (1, small),
    }
}

/// How many Services are verified besides those that were changed.
const VERIFIED: u32 = 64;

/// How long the kernel is left alone before its memory is read: what is freed in the
/// background should be gone.
const SETTLE: Duration = Duration::from_millis(250);

/// All cells of `scenario` for `backends`. The first round goes from small to large sizes,
/// because it finds out who is too slow for which; the others have an order of their own.
#[must_use]
pub fn cells(scenario: &UpdateScenario, backends: &[String]) -> Vec<Cell> {
    let round = |round: u32| {
        let of = |services: &u32| {
            let services = *services;
            backends.iter().map(move |b| Cell { round, backend: b.clone(), services })
        };
        let mut cells: Vec<Cell> = scenario.scope.services.iter().flat_map(of).collect();
        plan::dice(scenario.scope.seed, u64::from(round)).shuffle(&mut cells);
        if round == 0 {
            cells.sort_by_key(|cell| cell.services);
        }
        cells
    };
    (0..scenario.scope.rounds).flat_map(round).collect()
}

/// What became of a cell.
enum Outcome {
    Measured { samples: CellSamples, load: Duration, stopped: Option<String> },
    TooSlow(String),
}

/// Measures every cell of `scenario`, and then what packets notice.
///
/// # Errors
///
/// When the record cannot be written. A cell that goes wrong is recorded instead.
pub fn run(
    scenario: &UpdateScenario,
    contenders: &[Contender],
    session: &mut Session<'_>,
) -> anyhow::Result<()> {
    let slow = Duration::from_secs(scenario.slow_seconds.into());
    let mut limits = Limits::new(scenario.cap(), slow, scenario.slow_rounds);
    let names: Vec<String> = contenders.iter().map(Contender::name).collect();
    let plan = cells(scenario, &names);
    session.plan(&plan)?;
    for cell in &plan {
        if session.is_stopping() {
            break;
        }
        if session.earlier().has(cell) {
            match session.earlier().load(cell) {
                Some(load) => limits.loaded(cell, load),
                None if session.earlier().is_capped(cell) => limits.stop(cell),
                None => {}
            }
            continue;
        }
        if !limits.allow(cell) {
            session.pass(cell)?;
            continue;
        }
        let hopeless = limits.hopeless(cell);
        let outcome = match hopeless {
            Some(why) => Ok(Outcome::TooSlow(why)),
            None => {
                session.begin(cell);
                measure(scenario, cell, contenders, limits.is_slow(cell))
            }
        };
        match outcome {
            Ok(Outcome::Measured { samples, load, stopped }) => {
                limits.loaded(cell, load);
                session.keep(cell, samples)?;
                if let Some(why) = stopped {
                    session.append(vec![capped(scenario, cell, why)])?;
                }
            }
            Ok(Outcome::TooSlow(why)) => {
                limits.stop(cell);
                session.append(vec![capped(scenario, cell, why)])?;
            }
            Err(_) if session.is_stopping() => break,
            Err(error) => session.void(cell, &error)?,
        }
        session.end(cell)?;
    }
    match &scenario.disruption {
        Some(disruption) => disruption::run(scenario, disruption, contenders, session),
        None => Ok(()),
    }
}

fn capped(scenario: &UpdateScenario, cell: &Cell, why: String) -> Entry {
    Entry::Capped(Capped {
        backend: cell.backend.clone(),
        services: cell.services,
        endpoints: scenario.scope.endpoints,
        round: cell.round,
        cap_seconds: scenario.cap_seconds,
        capped: why,
    })
}

/// Builds the world of `cell`, loads it, and performs every operation; in between the rules
/// are checked with packets.
fn measure(
    scenario: &UpdateScenario,
    cell: &Cell,
    contenders: &[Contender],
    was_slow: bool,
) -> anyhow::Result<Outcome> {
    let contender = contenders.iter().find(|c| c.name() == cell.backend);
    let contender = contender.with_context(|| format!("{} is not there", cell.backend))?;
    let world = topology::world()?;
    let size = (cell.services, scenario.scope.endpoints);
    let ir = topology::services(scenario.scope.protocol, size, &world);
    let ir = ir.map_err(|flaws| anyhow::anyhow!("the made-up Services are flawed: {flaws:?}"))?;
    let mut kernel = Kernel::new().with_process_deadline(scenario.cap()).resident();
    std::thread::sleep(SETTLE);
    let before = once::kernel_bytes();
    let begun = Instant::now();
    let cold = || Loaded::cold(contender, monotonic_ns, ir.clone(), &mut kernel);
    let (mut loaded, parts) = match world.node().run(cold)? {
        Ok(done) => done,
        Err(_) if begun.elapsed() >= scenario.cap() => {
            let cap = scenario.cap_seconds;
            return Ok(Outcome::TooSlow(format!("loading did not end within {cap} s")));
        }
        Err(error) => return Err(error).context("loading the rules"),
    };
    std::thread::sleep(SETTLE);
    let grown = before.zip(once::kernel_bytes()).map(|(a, b)| b.saturating_sub(a));
    let mut samples = CellSamples::new();
    keep(&mut samples, grown.map(|bytes| (Metric::KernelBytes, bytes)));
    let mut stopped = None;
    if cell.backend != plan::BASELINE {
        keep(&mut samples, parts.by_metric(Operation::ColdLoad));
        let mut study = CellStudy { scenario, cell, world: &world, contender, kernel };
        stopped = study.operations(&mut loaded, &mut samples)?;
        let with_memory = cell.round < scenario.memory_rounds && (!was_slow || cell.round == 0);
        if with_memory && load_of(&parts) < scenario.cap() / 2 {
            keep(&mut samples, study.once(Origin::Memory)?);
        }
        if cell.round < scenario.manifest_rounds && contender.is_backend() {
            for origin in [Origin::Json, Origin::Yaml] {
                keep(&mut samples, study.once(origin)?);
            }
        }
    }
    Ok(Outcome::Measured { samples, load: load_of(&parts), stopped })
}

fn load_of(parts: &Parts) -> Duration {
    Duration::from_nanos(parts.whole())
}

/// A cell whose rules are loaded.
struct CellStudy<'a> {
    scenario: &'a UpdateScenario,
    cell: &'a Cell,
    world: &'a World,
    contender: &'a Contender,
    kernel: Resident,
}

impl CellStudy<'_> {
    /// Performs all operations, and checks the rules after them; tells why the last one was
    /// not carried out in time.
    fn operations(
        &mut self,
        loaded: &mut Loaded<'_>,
        samples: &mut CellSamples,
    ) -> anyhow::Result<Option<String>> {
        let Self { scenario, cell, .. } = *self;
        let before = loaded.ir().clone();
        let mut updates = Updates::new(&scenario.scope, cell, self.world, loaded);
        for operation in OPERATIONS {
            if operation == Operation::FullResync {
                self.verify(updates.ir(), updates.frontends(&before))?;
            }
            let begun = Instant::now();
            let budget = Duration::from_secs(scenario.operation_seconds.into());
            let times = times(operation, scenario.scope.updates);
            match updates.repeat(operation, times, Some(budget), &mut self.kernel) {
                Ok(values) => keep(samples, values),
                Err(_) if begun.elapsed() >= scenario.cap() => {
                    let name = operation.name();
                    let cap = scenario.cap_seconds;
                    return Ok(Some(format!("{name} did not end within {cap} s")));
                }
                Err(error) => return Err(error),
            }
        }
        self.verify(updates.ir(), updates.frontends(&before))?;
        Ok(None)
    }

    /// Sends packets to the Services that were changed and to some others, and sees that they
    /// come out where they should.
    fn verify(&self, ir: &Ir, mut destinations: BTreeSet<SocketAddr>) -> anyhow::Result<()> {
        let Self { scenario, cell, .. } = self;
        let mut dice = plan::dice(scenario.scope.seed, u64::from(cell.round) << 32 | 2);
        // A Service that was removed answers as `eval` says: not at all.
        let some = (0..VERIFIED).map(|_| load::service(dice.below(cell.services)));
        destinations.extend(some);
        debug_assert_eq!(ir.family(), Family::Ipv4, "made-up Services of a bench are IPv4");
        let mode = self.contender.mode();
        Bench::verified(scenario.scope.protocol, self.world, (ir, mode), &destinations)
            .map(drop)
            .with_context(|| format!("the rules for {} are wrong", services(cell.services)))
    }

    /// What a load takes in a process of its own, and in a namespace where no rule is.
    fn once(&self, origin: Origin) -> anyhow::Result<Vec<(Metric, u64)>> {
        let order = Order {
            backend: self.cell.backend.clone(),
            services: self.cell.services,
            endpoints: self.scenario.scope.endpoints,
            protocol: self.scenario.scope.protocol,
            origin,
        };
        order.carry_out(&Namespace::new()?)
    }
}

fn keep(samples: &mut CellSamples, values: impl IntoIterator<Item = (Metric, u64)>) {
    for (metric, value) in values {
        samples.entry(metric).or_default().push(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_round_goes_from_small_to_large_and_all_have_every_cell() {
        let scenario = UpdateScenario::update().expect("it comes with the program");
        let names = ["nft", "iptables", "nft/text"].map(str::to_owned);
        let plan = cells(&scenario, &names);
        let a_round = names.len() * scenario.scope.services.len();
        assert_eq!(plan.len(), a_round * scenario.scope.rounds as usize);
        assert!(plan[..a_round].is_sorted_by_key(|cell| cell.services));
        assert!(!plan[a_round..2 * a_round].is_sorted_by_key(|cell| cell.services));
        let second: BTreeSet<_> = plan[a_round..2 * a_round].iter().collect();
        assert_eq!(second.len(), a_round);
    }
}
