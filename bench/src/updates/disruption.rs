//! What packets notice while rules change: sent on a fixed schedule from one CPU, while the
//! other updates the node.
//!
//! All steps are worked out beforehand, so that what packets meet is the kernel at work, as
//! often as the schedule of updates says. Single updates go round a few Services, to which
//! half of the packets are sent: an endpoint of each is replaced, and then brought back.
//!
//! Invariant: every packet is a connection of its own, so that each meets the rules.

use super::judge::{self, History};
use super::{Disruption, UpdateScenario};
use crate::altered::{Alteration, Alterer};
use crate::contender::Contender;
use crate::load;
use crate::metric::Operation;
use crate::plan::{self, Cell};
use crate::record::{self, Entry};
use crate::run::Session;
use crate::topology;
use crate::update::Loaded;
use anyhow::Context as _;
use nfc_backend::{Apply, Recorder, Step};
use nfc_ir::synth::Dice;
use nfc_ir::{Ir, Outcome, ProxyMode, eval};
use nfc_kernel::{Kernel, monotonic_ns, pin_to_cpu, sysctl};
use nfc_lab::{Probe, Schedule, Scheduled, Sender, World};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How many Services are updated in turn.
const UPDATED: u32 = 32;

/// How long packets are sent before the first update and after the last.
const LEAD_NS: u64 = 300_000_000;

/// How long everything takes to get ready after the schedule is made.
const START_NS: u64 = 50_000_000;

/// How long is between two replacements of everything.
const REPLACE_INTERVAL_NS: u64 = 1_000_000_000;

/// How long packets are waited for at the end.
const PATIENCE: Duration = Duration::from_millis(500);

/// Where the node's kernel forgets connections of one packet sooner, or their table is full
/// before the end; one second is the shortest time there is.
const FORGET: (&str, &str) = ("net.netfilter.nf_conntrack_udp_timeout", "1");

/// Updates to carry out one after the other, again and again.
struct Work {
    operation: Operation,
    updates: Vec<Update>,
    count: usize,
    interval_ns: u64,
    longest_ns: u64,
}

/// The steps of an update, and which Service means something else afterwards.
type Update = (Vec<Step>, Option<(SocketAddr, Outcome)>);

/// When updates were carried out, and what changed with each.
#[derive(Default)]
struct Done {
    spans: Vec<(u64, u64)>,
    changes: Vec<(SocketAddr, (u64, u64, Outcome))>,
}

/// Sends packets while each backend of `disruption` updates, in an order that follows from
/// the seed.
///
/// # Errors
///
/// When the record cannot be written. What goes wrong otherwise is recorded as void.
pub fn run(
    scenario: &UpdateScenario,
    disruption: &Disruption,
    contenders: &[Contender],
    session: &mut Session<'_>,
) -> anyhow::Result<()> {
    let is_wanted = |c: &&Contender| disruption.backends.contains(&c.name());
    let wanted: Vec<&Contender> = contenders.iter().filter(is_wanted).collect();
    for round in 0..disruption.rounds {
        let mut jobs: Vec<(&Contender, Operation)> = wanted
            .iter()
            .flat_map(|c| [(*c, Operation::FullResync), (*c, Operation::EndpointSwapped)])
            .collect();
        plan::dice(scenario.scope.seed, u64::from(round) << 32 | 3).shuffle(&mut jobs);
        for (contender, operation) in jobs {
            let cell = Cell { round, backend: contender.name(), services: disruption.services };
            if session.is_stopping() {
                return Ok(());
            }
            if session.earlier().has_disruption(&cell, operation) {
                continue;
            }
            session.say(&format!("packets while {} does {}", cell.backend, operation.name()));
            let stage = Stage { scenario, disruption, contender, cell: &cell };
            match stage.measure(operation, session.instrument()) {
                Ok(entry) => session.append(vec![entry])?,
                Err(_) if session.is_stopping() => return Ok(()),
                Err(error) => session.void(&cell, &error)?,
            }
            session.rest(cell.services);
        }
    }
    Ok(())
}

/// One backend in one round.
struct Stage<'a> {
    scenario: &'a UpdateScenario,
    disruption: &'a Disruption,
    contender: &'a Contender,
    cell: &'a Cell,
}

impl Stage<'_> {
    fn measure(&self, operation: Operation, instrument: &str) -> anyhow::Result<Entry> {
        let Self { scenario, disruption, contender, cell } = self;
        let world = topology::world()?;
        let size = (cell.services, scenario.scope.endpoints);
        let ir = topology::services(scenario.scope.protocol, size, &world);
        let ir = ir.map_err(|flaws| anyhow::anyhow!("flawed: {flaws:?}"))?;
        let cold = || Loaded::cold(contender, monotonic_ns, ir.clone(), &mut Kernel::new());
        let (mut loaded, _) = world.node().run(cold)?.context("loading the rules")?;
        // Kernels whose table is large enough do without.
        let _ = world.node().run(|| sysctl::write(FORGET.0, FORGET.1))?;
        let mut dice = plan::dice(scenario.scope.seed, u64::from(cell.round) << 32 | 4);
        let places: Vec<u32> =
            (0..UPDATED.min(cell.services)).map(|n| n * (cell.services / UPDATED).max(1)).collect();
        let work = match operation {
            Operation::FullResync => self.replaces(&mut loaded)?,
            _ => self.swaps(&mut loaded, &world, &places)?,
        };
        let destinations = self.destinations(&work, &places, &mut dice);
        let (packets, done) = self.send_and_update(&world, &destinations, &work)?;
        let histories = self.histories(&world, &ir, &destinations, &done);
        let late_ns = u64::from(disruption.late_us) * 1_000;
        let verdict = judge::judge(&packets, &histories, &done.spans, late_ns);
        let start = packets.first().map_or(0, |p| p.due_ns);
        let since = |(a, b): &(u64, u64)| (a.saturating_sub(start), b.saturating_sub(start));
        Ok(Entry::Disruption(record::Disruption {
            instrument: instrument.to_owned(),
            backend: cell.backend.clone(),
            services: cell.services,
            endpoints: scenario.scope.endpoints,
            round: cell.round,
            seed: scenario.scope.seed,
            operation: operation.name().to_owned(),
            updates: u32::try_from(done.spans.len())?,
            packet_interval_ns: self.packet_interval_ns(),
            late_ns,
            latency: verdict.latency.context("no packet arrived")?,
            sent: u32::try_from(packets.len())?,
            lost: verdict.lost,
            wrong: verdict.wrong,
            late: verdict.late,
            late_on_way: verdict.late_on_way,
            longest_way_ns: verdict.longest_way_ns,
            late_between: verdict.late_between,
            spans: done.spans.iter().map(since).collect(),
            slots: verdict.slots,
        }))
    }

    fn packet_interval_ns(&self) -> u64 {
        u64::from(self.disruption.packet_interval_us) * 1_000
    }

    fn replaces(&self, loaded: &mut Loaded<'_>) -> anyhow::Result<Work> {
        let mut recorder = Recorder::default();
        loaded.perform(Operation::FullResync, Vec::new(), &mut recorder)?;
        let count = usize::try_from(self.disruption.replaces)?;
        let interval_ns = REPLACE_INTERVAL_NS;
        Ok(Work {
            operation: Operation::FullResync,
            updates: vec![(recorder.steps, None)],
            count,
            interval_ns,
            longest_ns: u64::from(self.disruption.updates_seconds) * 1_000_000_000,
        })
    }

    /// The steps that replace an endpoint of each Service at `places`, and those that bring
    /// it back; after all of them everything is as it was.
    fn swaps(
        &self,
        loaded: &mut Loaded<'_>,
        world: &World,
        places: &[u32],
    ) -> anyhow::Result<Work> {
        let Self { scenario, disruption, cell, contender } = self;
        let protocol = scenario.scope.protocol.into();
        let mut alterer =
            Alterer::new(Dice::new(0), protocol, cell.services, scenario.scope.endpoints);
        let (mut there, mut back) = (Vec::new(), Vec::new());
        for place in places {
            let index = usize::try_from(*place)?;
            let swapped = alterer.swapped_at(index, loaded.ir()).context("no Service to update")?;
            there.push((*place, swapped));
            back.push((*place, Alteration::Put(loaded.ir().services()[index].clone())));
        }
        let mut updates = Vec::new();
        // Back by the way it came.
        for (place, alteration) in there.into_iter().chain(back.into_iter().rev()) {
            let steps = loaded.prepare(vec![alteration])?;
            let steps = steps.context("only backends can prepare updates")?;
            let service = load::service(place);
            let meaning = self.meaning(world, loaded.ir(), contender.mode(), service);
            updates.push((steps, Some((service, meaning))));
        }
        Ok(Work {
            operation: Operation::EndpointSwapped,
            updates,
            count: usize::try_from(disruption.updates)?,
            interval_ns: u64::from(disruption.update_interval_us) * 1_000,
            longest_ns: u64::from(disruption.updates_seconds) * 1_000_000_000,
        })
    }

    fn meaning(&self, world: &World, ir: &Ir, mode: ProxyMode, service: SocketAddr) -> Outcome {
        eval(ir, mode, &topology::packet(self.scenario.scope.protocol, world, Sender::Pod, service))
    }

    /// As many destinations as the longest work takes: every other packet goes to a Service
    /// that is updated, the others to any.
    fn destinations(&self, work: &Work, places: &[u32], dice: &mut Dice) -> Vec<SocketAddr> {
        let longest = work.longest_ns + 2 * LEAD_NS + REPLACE_INTERVAL_NS;
        let one = |n: u64| {
            let any = dice.below(self.cell.services);
            let updated = dice.pick(places);
            load::service(if n.is_multiple_of(2) { any } else { updated })
        };
        (0..longest / self.packet_interval_ns()).map(one).collect()
    }

    fn send_and_update(
        &self,
        world: &World,
        destinations: &[SocketAddr],
        work: &Work,
    ) -> anyhow::Result<(Vec<Scheduled>, Done)> {
        let cpu = topology::cpu();
        let mut probe = Probe::new(world, cpu)?;
        let stop = AtomicBool::new(false);
        let start_ns = monotonic_ns() + START_NS;
        let interval_ns = self.packet_interval_ns();
        let schedule = Schedule { start_ns, interval_ns, patience: PATIENCE };
        let protocol = self.scenario.scope.protocol.into();
        std::thread::scope(|scope| {
            let updater = scope.spawn(|| {
                let done = update_all(world, work, start_ns + LEAD_NS, other_cpu(cpu));
                stop.store(true, Ordering::Relaxed);
                done
            });
            let packets = probe.on_schedule(protocol, destinations, schedule, &stop);
            let done = updater.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a thread died")));
            Ok((packets?, done?))
        })
    }

    fn histories(
        &self,
        world: &World,
        ir: &Ir,
        destinations: &[SocketAddr],
        done: &Done,
    ) -> BTreeMap<SocketAddr, History> {
        let mut histories = BTreeMap::new();
        for service in destinations {
            histories.entry(*service).or_insert_with(|| History {
                first: self.meaning(world, ir, self.contender.mode(), *service),
                changes: Vec::new(),
            });
        }
        for (service, change) in &done.changes {
            if let Some(history) = histories.get_mut(service) {
                history.changes.push(change.clone());
            }
        }
        histories
    }
}

/// Carries out all work in the node of `world`, on schedule, and goes on a little without.
fn update_all(world: &World, work: &Work, start_ns: u64, cpu: usize) -> anyhow::Result<Done> {
    pin_to_cpu(cpu)?;
    let done = world.node().run(|| update_here(work, start_ns))?;
    std::thread::sleep(Duration::from_nanos(LEAD_NS));
    done
}

fn update_here(work: &Work, start_ns: u64) -> anyhow::Result<Done> {
    let mut done = Done::default();
    let mut kernel = Kernel::new().resident();
    for (n, (steps, change)) in (0_u64..).zip(work.updates.iter().cycle().take(work.count)) {
        let due = start_ns + n * work.interval_ns;
        let wait = due.saturating_sub(monotonic_ns());
        std::thread::sleep(Duration::from_nanos(wait));
        let begun = monotonic_ns();
        if begun > start_ns + work.longest_ns {
            break;
        }
        let applied = kernel.apply(steps);
        let end = monotonic_ns();
        applied.with_context(|| format!("{} number {}", work.operation.name(), n + 1))?;
        done.spans.push((begun, end));
        if let Some((service, outcome)) = change {
            done.changes.push((*service, (begun, end, outcome.clone())));
        }
    }
    Ok(done)
}

/// The first CPU that is not this one; the same when there is no other.
fn other_cpu(cpu: usize) -> usize {
    usize::from(cpu == 0 && std::thread::available_parallelism().is_ok_and(|n| n.get() > 1))
}
