//! A run: every cell of the plan is built, verified, measured and recorded.
//!
//! Invariant: the only file that sees both the pure half (scenario, plan, load, tally,
//! record, report) and the acting half (topology, probe, update, machine). It decides what
//! comes after what, and nothing else.

use crate::contender::Contender;
use crate::load::{self, Load};
use crate::metric::Metric;
use crate::plan::{self, Cell};
use crate::probe::Bench;
use crate::progress::Progress;
use crate::record::{Absent, Entry, Journal, Machine, Voided};
use crate::report::services;
use crate::scenario::Scenario;
use crate::tally::{CellSamples, Tally};
use crate::update::{Kind, Loaded};
use crate::{machine, redraw, topology};
use anyhow::{Context as _, bail};
use nfc_kernel::{Feature, Kernel, monotonic_ns};
use nfc_lab::World;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What to do, and where to put it.
#[derive(Clone, Debug)]
pub struct Order {
    /// The command line, for the record.
    pub command: String,
    /// Name of the instrument, for the record.
    pub instrument: String,
    /// Folder for the results; `None`: one named by date and host in `results`.
    pub out: Option<PathBuf>,
    /// The folder of all results.
    pub results: PathBuf,
    /// What to measure.
    pub scenario: Scenario,
}

/// Rest between two cells, and for each Service in addition: the kernel takes the last world
/// apart in the background, which must not run into the next cell's figures.
const REST: Duration = Duration::from_millis(150);
const REST_FOR_EACH_SERVICE: Duration = Duration::from_micros(20);

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The report.
    pub report: PathBuf,
    /// How many cells were voided.
    pub voided: usize,
}

/// Measures, records and draws.
///
/// # Errors
///
/// When there is no right to make namespaces, a backend has no such name, or the record
/// cannot be written. A backend that this machine cannot run, and a cell that goes wrong,
/// are recorded instead.
pub fn run(order: &Order) -> anyhow::Result<Done> {
    let Order { scenario, .. } = order;
    Feature::Namespaces.probe().context("the bench needs root: sudo cargo bench --bench scale")?;
    let Contenders { present, absent } = contenders(scenario)?;
    let machine = machine::read(order.command.clone(), scenario.seed);
    let folder = folder(order, &machine);
    let mut journal = Journal::create(&folder, &machine, &scenario.to_toml())?;
    let names: Vec<String> = present.iter().map(Contender::name).collect();
    let plan = plan::cells(scenario, &names);
    let mut progress = Progress::new(&plan);
    for missing in &absent {
        progress.say(&format!("{} is not measured: {}", missing.backend, missing.absent));
    }
    journal.append(absent.into_iter().map(Entry::Absent).collect())?;
    let mut tally = Tally::new(&order.instrument, scenario.endpoints, scenario.seed);
    let mut voided = 0;
    for cell in &plan {
        progress.begin(cell);
        let entries = match measure(scenario, cell, &present) {
            Ok(samples) => tally.add(cell, samples),
            Err(error) => {
                voided += 1;
                progress.say(&format!(
                    "void: {} with {}: {error:#}",
                    cell.backend,
                    services(cell.services)
                ));
                vec![void(order, cell, format!("{error:#}"))]
            }
        };
        journal.append(entries)?;
        progress.end(cell);
        std::thread::sleep(REST + REST_FOR_EACH_SERVICE * cell.services);
    }
    progress.finish();
    journal.finish()?;
    Ok(Done { report: redraw::redraw(&folder)?, voided })
}

/// The folder for the results: the one that was asked for, or one named by date and host.
fn folder(order: &Order, machine: &Machine) -> PathBuf {
    let named = || {
        let minute = machine.date.get(..16).unwrap_or(&machine.date).replace(':', "");
        order.results.join(format!("{minute}-{}", machine.host))
    };
    order.out.clone().unwrap_or_else(named)
}

/// Who this machine can run, and who not.
struct Contenders {
    present: Vec<Contender>,
    absent: Vec<Absent>,
}

fn contenders(scenario: &Scenario) -> anyhow::Result<Contenders> {
    let (mut present, mut absent) = (Vec::new(), Vec::new());
    for name in &scenario.backends {
        let Some(contender) = Contender::find(name) else {
            bail!("there is no backend named {name:?}");
        };
        match topology::need(&contender) {
            Ok(()) => present.push(contender),
            Err(missing) => {
                absent.push(Absent { backend: name.clone(), absent: missing.to_string() });
            }
        }
    }
    Ok(Contenders { present, absent })
}

fn void(order: &Order, cell: &Cell, voided: String) -> Entry {
    Entry::Voided(Voided {
        instrument: order.instrument.clone(),
        backend: cell.backend.clone(),
        services: cell.services,
        endpoints: order.scenario.endpoints,
        round: cell.round,
        seed: order.scenario.seed,
        voided,
    })
}

/// Builds the world of `cell`, loads it, checks it, and measures: packets first, updates
/// last, because they change the rules, which are checked once more after that.
fn measure(
    scenario: &Scenario,
    cell: &Cell,
    contenders: &[Contender],
) -> anyhow::Result<CellSamples> {
    let contender = contenders.iter().find(|c| c.name() == cell.backend);
    let contender = contender.with_context(|| format!("{} is not there", cell.backend))?;
    let world = topology::world()?;
    let ir = topology::services(scenario, cell.services, &world);
    let ir = ir.map_err(|flaws| anyhow::anyhow!("the made-up Services are flawed: {flaws:?}"))?;
    let load = Load::new(scenario, cell);
    let has_rules = cell.backend != plan::BASELINE;
    let cold = || Loaded::cold(contender, monotonic_ns, ir.clone(), &mut Kernel::new());
    let cold = world.node().run(cold)?;
    let (mut loaded, parts) = cold.context("loading the rules")?;
    let mut samples = CellSamples::new();
    if has_rules {
        keep(&mut samples, parts.by_metric(Kind::ColdLoad));
    }
    let bench = Bench::verified(scenario, &world, (&ir, contender.mode()), load.destinations())?;
    samples.extend(bench.time(&load)?);
    if has_rules {
        let changed = add_endpoints(scenario, cell, &world, &mut loaded, &mut samples)?;
        Bench::verified(scenario, &world, (loaded.ir(), contender.mode()), changed)?;
    }
    Ok(samples)
}

/// Adds endpoints one by one, to Services in an order that follows from the seed; gives the
/// addresses of these Services.
///
/// The first one does not count when there is another Service: it makes what is needed for
/// Services with one endpoint more than all others have, which in a real cluster is there.
fn add_endpoints(
    scenario: &Scenario,
    cell: &Cell,
    world: &World,
    loaded: &mut Loaded<'_>,
    samples: &mut CellSamples,
) -> anyhow::Result<BTreeSet<SocketAddr>> {
    let mut order: Vec<u32> = (0..cell.services).collect();
    plan::dice(scenario.seed, u64::from(cell.round) << 32 | 1).shuffle(&mut order);
    let untimed = usize::from(order.len() > 1);
    let fresh = cell.services * scenario.endpoints..;
    let timed = usize::try_from(scenario.updates)?;
    let mut changed = BTreeSet::new();
    let targets = order.iter().cycle().take(untimed + timed).zip(fresh);
    for (n, (service, endpoint)) in targets.enumerate() {
        let added = || loaded.add_endpoint(*service, endpoint, &mut Kernel::new());
        let parts = world.node().run(added)?.context("adding an endpoint")?;
        if n >= untimed {
            keep(samples, parts.by_metric(Kind::EndpointAdded));
        }
        changed.insert(load::service(*service));
    }
    Ok(changed)
}

fn keep(samples: &mut CellSamples, values: Vec<(Metric, u64)>) {
    for (metric, value) in values {
        samples.entry(metric).or_default().push(value);
    }
}
