//! A run: every cell of the plan is built, verified, measured and recorded.
//!
//! Invariant: the only file that sees both the pure half (scenario, plan, load, tally,
//! record) and the acting half (topology, measure, machine). It decides what comes
//! after what, and nothing else.

use crate::contender::Contender;
use crate::occupancy::Watch;
use crate::plan::{self, Cell};
use crate::progress::Progress;
use crate::record::{
    Absent, Capped, CpuTime, Entry, Finished, Journal, Machine, Plan, Record, RecordError, Voided,
};
use crate::report::services;
use crate::resume::{self, Earlier};
use crate::scenario::Scenario;
use crate::stop::Stop;
use crate::tally::{CellSamples, Tally};
use crate::updates::{self, UpdateScenario};
use crate::{machine, measure, topology};
use anyhow::{Context as _, bail};
use nfc_kernel::Feature;
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
    /// Whether `out` holds the record of the same run, stopped, to be gone on with.
    pub resume: bool,
}

/// Rest between two cells, and for each Service in addition: the kernel takes the last world
/// apart in the background, which must not run into the next cell's figures.
const REST: Duration = Duration::from_millis(150);
const REST_FOR_EACH_SERVICE: Duration = Duration::from_micros(20);

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The folder of the record.
    pub folder: PathBuf,
    /// How many cells were voided.
    pub voided: usize,
    /// Whether the run was stopped before its end.
    pub is_stopped: bool,
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
            Self::Packets(scenario) => scenario.scope.seed,
            Self::Updates(scenario) => scenario.scope.seed,
        }
    }

    fn endpoints(&self) -> u32 {
        match self {
            Self::Packets(scenario) => scenario.scope.endpoints,
            Self::Updates(scenario) => scenario.scope.endpoints,
        }
    }

    fn backends(&self) -> &[String] {
        match self {
            Self::Packets(scenario) => &scenario.scope.backends,
            Self::Updates(scenario) => &scenario.scope.backends,
        }
    }

    /// As TOML, which goes into the record.
    #[must_use]
    pub fn to_toml(&self) -> String {
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
    stop: Stop,
    watch: Watch,
    earlier: Earlier,
}

impl Session<'_> {
    /// Says which cells there will be, and records how many.
    ///
    /// # Errors
    ///
    /// When the record cannot be written.
    pub fn plan(&mut self, plan: &[Cell]) -> Result<(), RecordError> {
        let left: Vec<Cell> = plan.iter().filter(|cell| !self.earlier.has(cell)).cloned().collect();
        self.progress = Progress::new(&left);
        self.append(vec![Entry::Plan(Plan { cells: plan.len() })])
    }

    /// What was measured before the run was stopped, if it was.
    #[must_use]
    pub fn earlier(&self) -> &Earlier {
        &self.earlier
    }

    /// Whether somebody wants the run to stop. A cell that goes wrong from then on says
    /// nothing: Ctrl-C reaches the tools that load rules too.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stop.is_wanted()
    }

    /// Says that `cell` is measured now.
    pub fn begin(&mut self, cell: &Cell) {
        self.progress.begin(cell);
        self.watch = Watch::start();
    }

    /// Says and records that `cell` is not measured.
    ///
    /// # Errors
    ///
    /// When the record cannot be written.
    pub fn pass(&mut self, cell: &Cell) -> Result<(), RecordError> {
        self.progress.end(cell);
        self.finished(cell, None)
    }

    /// Says that `cell` is done, records that and what the CPUs did, and rests.
    ///
    /// # Errors
    ///
    /// When the record cannot be written.
    pub fn end(&mut self, cell: &Cell) -> Result<(), RecordError> {
        self.progress.end(cell);
        // In the guest all clocks count instructions, of which it has no others.
        let cpus = if self.instrument() == "guest" { None } else { self.watch.elapsed() };
        self.finished(cell, cpus)?;
        self.rest(cell.services);
        Ok(())
    }

    fn finished(&mut self, cell: &Cell, cpus: Option<CpuTime>) -> Result<(), RecordError> {
        self.append(vec![Entry::Finished(Finished {
            instrument: self.order.instrument.clone(),
            backend: cell.backend.clone(),
            services: cell.services,
            endpoints: self.order.study.endpoints(),
            round: cell.round,
            cpus,
        })])
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

/// Measures and records.
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
    let mut tally = Tally::new(&order.instrument, study.endpoints(), study.seed());
    let journal = if order.resume {
        let record = Record::read(&folder)?;
        resume::check(&record.machine, &machine)?;
        let journal = Journal::resume(&folder, record, &machine.date)?;
        tally.recall(journal.entries());
        journal
    } else {
        Journal::create(&folder, &machine, &study.to_toml())?
    };
    let mut session = Session {
        order,
        earlier: Earlier::of(journal.entries()),
        journal,
        tally,
        progress: Progress::new(&[]),
        voided: 0,
        stop: Stop::listen()?,
        watch: Watch::start(),
    };
    session.append(session.tally.over_all_rounds())?;
    for missing in &absent {
        session.say(&format!("{} is not measured: {}", missing.backend, missing.absent));
    }
    session.append(absent.into_iter().map(Entry::Absent).collect())?;
    match study {
        Study::Packets(scenario) => packets(scenario, &present, &mut session)?,
        Study::Updates(scenario) => updates::run(scenario, &present, &mut session)?,
    }
    let Session { journal, progress, voided, stop, .. } = session;
    progress.finish();
    journal.finish()?;
    Ok(Done { folder, voided, is_stopped: stop.is_wanted() })
}

fn packets(
    scenario: &Scenario,
    contenders: &[Contender],
    session: &mut Session<'_>,
) -> anyhow::Result<()> {
    let names: Vec<String> = contenders.iter().map(Contender::name).collect();
    let plan = plan::cells(scenario, &names);
    session.plan(&plan)?;
    measure::rehearse(scenario, contenders);
    for cell in &plan {
        if session.is_stopping() {
            break;
        }
        if session.earlier().has(cell) {
            continue;
        }
        session.begin(cell);
        if scenario.is_too_large(&cell.backend, cell.services) {
            session.append(vec![beyond(scenario, cell)])?;
            session.end(cell)?;
            continue;
        }
        match measure::cell(scenario, cell, contenders) {
            Ok(samples) => session.keep(cell, samples)?,
            Err(_) if session.is_stopping() => break,
            Err(error) => session.void(cell, &error)?,
        }
        session.end(cell)?;
    }
    Ok(())
}

/// That the scenario does not ask a contender for so many Services.
fn beyond(scenario: &Scenario, cell: &Cell) -> Entry {
    Entry::Capped(Capped {
        backend: cell.backend.clone(),
        services: cell.services,
        endpoints: scenario.scope.endpoints,
        round: cell.round,
        cap_seconds: 0,
        capped: "the scenario asks it for less, because it takes too long".to_owned(),
    })
}

/// The folder for the results: the one that was asked for, or one named by date and host.
fn folder(order: &Order, machine: &Machine) -> PathBuf {
    let named = || order.results.join(name(&machine.date, &machine.host));
    order.out.clone().unwrap_or_else(named)
}

/// The name of a folder for the results of `host`, of which a run began at `date`.
#[must_use]
pub fn name(date: &str, host: &str) -> String {
    let minute = date.get(..16).unwrap_or(date).replace(':', "");
    format!("{minute}-{host}")
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
