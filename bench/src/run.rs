//! A run: every cell of the plan is built, verified, measured and recorded.
//!
//! Invariant: the only file that sees both the pure half (scenario, plan, load, tally,
//! record, report) and the acting half (topology, probe, update, machine). It decides what
//! comes after what, and nothing else.

use crate::altered::Alterer;
use crate::contender::Contender;
use crate::load::Load;
use crate::metric::{Metric, Operation};
use crate::plan::{self, Cell};
use crate::probe::Bench;
use crate::progress::Progress;
use crate::record::{Absent, Entry, Journal, Machine, RecordError, Voided};
use crate::report::services;
use crate::scenario::Scenario;
use crate::tally::{CellSamples, Tally};
use crate::update::Loaded;
use crate::updates::{self, UpdateScenario};
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
    pub study: Study,
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

/// What is to be measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Study {
    /// Packets, loading, and one endpoint added.
    Packets(Scenario),
    /// Updates of every kind.
    Updates(UpdateScenario),
}

impl Study {
    fn seed(&self) -> u64 {
        match self {
            Self::Packets(scenario) => scenario.seed,
            Self::Updates(scenario) => scenario.seed,
        }
    }

    fn endpoints(&self) -> u32 {
        match self {
            Self::Packets(scenario) => scenario.endpoints,
            Self::Updates(scenario) => scenario.endpoints,
        }
    }

    fn backends(&self) -> &[String] {
        match self {
            Self::Packets(scenario) => &scenario.backends,
            Self::Updates(scenario) => &scenario.backends,
        }
    }

    fn to_toml(&self) -> String {
        match self {
            Self::Packets(scenario) => scenario.to_toml(),
            Self::Updates(scenario) => scenario.to_toml(),
        }
    }
}

/// A run under way: where figures go, and what people are told meanwhile.
pub struct Session<'a> {
    order: &'a Order,
    journal: Journal,
    tally: Tally,
    progress: Progress,
    voided: usize,
}

impl Session<'_> {
    /// Says which cells there will be.
    pub fn plan(&mut self, plan: &[Cell]) {
        self.progress = Progress::new(plan);
    }

    /// Says that `cell` is measured now.
    pub fn begin(&mut self, cell: &Cell) {
        self.progress.begin(cell);
    }

    /// Says that `cell` is not measured.
    pub fn pass(&mut self, cell: &Cell) {
        self.progress.end(cell);
    }

    /// Says that `cell` is done, and rests.
    pub fn end(&mut self, cell: &Cell) {
        self.progress.end(cell);
        self.rest(cell.services);
    }

    /// Leaves the kernel time to take the last world, with so many Services, apart.
    pub fn rest(&self, services: u32) {
        std::thread::sleep(REST + REST_FOR_EACH_SERVICE * services);
    }

    /// Says something that stays.
    pub fn say(&self, text: &str) {
        self.progress.say(text);
    }

    /// Name of the instrument.
    #[must_use]
    pub fn instrument(&self) -> &str {
        &self.order.instrument
    }

    /// Records what `cell` gave.
    ///
    /// # Errors
    ///
    /// When the record cannot be written.
    pub fn keep(&mut self, cell: &Cell, samples: CellSamples) -> Result<(), RecordError> {
        let entries = self.tally.add(cell, samples);
        self.journal.append(entries)
    }

    /// Records `entries`.
    ///
    /// # Errors
    ///
    /// When the record cannot be written.
    pub fn append(&mut self, entries: Vec<Entry>) -> Result<(), RecordError> {
        self.journal.append(entries)
    }

    /// Records that the figures of `cell` must not be used.
    ///
    /// # Errors
    ///
    /// When the record cannot be written.
    pub fn void(&mut self, cell: &Cell, error: &anyhow::Error) -> Result<(), RecordError> {
        self.voided += 1;
        let Cell { backend, services: size, .. } = cell;
        self.say(&format!("void: {backend} with {}: {error:#}", services(*size)));
        let entry = void(self.order, cell, format!("{error:#}"));
        self.append(vec![entry])
    }
}

/// Measures, records and draws.
///
/// # Errors
///
/// When there is no right to make namespaces, a backend has no such name, or the record
/// cannot be written. A backend that this machine cannot run, and a cell that goes wrong,
/// are recorded instead.
pub fn run(order: &Order) -> anyhow::Result<Done> {
    let Order { study, .. } = order;
    Feature::Namespaces.probe().context("the bench needs root: sudo cargo bench --bench scale")?;
    let Contenders { present, absent } = contenders(study.backends())?;
    let machine = machine::read(order.command.clone(), study.seed());
    let folder = folder(order, &machine);
    let mut session = Session {
        order,
        journal: Journal::create(&folder, &machine, &study.to_toml())?,
        tally: Tally::new(&order.instrument, study.endpoints(), study.seed()),
        progress: Progress::new(&[]),
        voided: 0,
    };
    for missing in &absent {
        session.say(&format!("{} is not measured: {}", missing.backend, missing.absent));
    }
    session.append(absent.into_iter().map(Entry::Absent).collect())?;
    match study {
        Study::Packets(scenario) => packets(scenario, &present, &mut session)?,
        Study::Updates(scenario) => updates::run(scenario, &present, &mut session)?,
    }
    let Session { journal, progress, voided, .. } = session;
    progress.finish();
    journal.finish()?;
    Ok(Done { report: redraw::redraw(&folder)?, voided })
}

fn packets(
    scenario: &Scenario,
    contenders: &[Contender],
    session: &mut Session<'_>,
) -> anyhow::Result<()> {
    let names: Vec<String> = contenders.iter().map(Contender::name).collect();
    let plan = plan::cells(scenario, &names);
    session.plan(&plan);
    for cell in &plan {
        session.begin(cell);
        match measure(scenario, cell, contenders) {
            Ok(samples) => session.keep(cell, samples)?,
            Err(error) => session.void(cell, &error)?,
        }
        session.end(cell);
    }
    Ok(())
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

fn contenders(names: &[String]) -> anyhow::Result<Contenders> {
    let (mut present, mut absent) = (Vec::new(), Vec::new());
    for name in names {
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
        endpoints: order.study.endpoints(),
        round: cell.round,
        seed: order.study.seed(),
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
    let size = (cell.services, scenario.endpoints);
    let ir = topology::services(scenario.protocol, size, &world);
    let ir = ir.map_err(|flaws| anyhow::anyhow!("the made-up Services are flawed: {flaws:?}"))?;
    let load = Load::new(scenario, cell);
    let has_rules = cell.backend != plan::BASELINE;
    let cold = || Loaded::cold(contender, monotonic_ns, ir.clone(), &mut Kernel::new());
    let cold = world.node().run(cold)?;
    let (mut loaded, parts) = cold.context("loading the rules")?;
    let mut samples = CellSamples::new();
    if has_rules {
        keep(&mut samples, parts.by_metric(Operation::ColdLoad));
    }
    let meaning = (&ir, contender.mode());
    let bench = Bench::verified(scenario.protocol, &world, meaning, load.destinations())?;
    samples.extend(bench.time(scenario, &load)?);
    if has_rules {
        let changed = add_endpoints(scenario, cell, &world, &mut loaded, &mut samples)?;
        let meaning = (loaded.ir(), contender.mode());
        Bench::verified(scenario.protocol, &world, meaning, changed)?;
    }
    Ok(samples)
}

/// Adds endpoints one by one, to Services that follow from the seed; gives the addresses of
/// these Services.
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
    let dice = plan::dice(scenario.seed, u64::from(cell.round) << 32 | 1);
    let protocol = scenario.protocol.into();
    let mut alterer = Alterer::new(dice, protocol, cell.services, scenario.endpoints);
    let untimed = u32::from(cell.services > 1);
    let operation = Operation::EndpointAdded;
    let mut changed = BTreeSet::new();
    for n in 0..untimed + scenario.updates {
        let altered = alterer.after(operation, loaded.ir());
        let altered = altered.map_err(|flaws| anyhow::anyhow!("flawed: {flaws:?}"))?;
        changed.extend(altered.service.clone());
        let added = || loaded.perform(operation, altered, &mut Kernel::new());
        let parts = world.node().run(added)?.context("adding an endpoint")?;
        if n >= untimed {
            keep(samples, parts.map(|p| p.by_metric(operation)).unwrap_or_default());
        }
    }
    let changed = loaded.ir().services().iter().filter(|s| changed.contains(&s.name));
    Ok(changed.map(|s| SocketAddr::new(s.cluster_ip, s.port.get())).collect())
}

fn keep(samples: &mut CellSamples, values: Vec<(Metric, u64)>) {
    for (metric, value) in values {
        samples.entry(metric).or_default().push(value);
    }
}
