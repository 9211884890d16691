//! Going on with a run that was stopped: whether that may be done, and what is there already.
//!
//! Invariant: pure; the same seed gives the same plan, so that what is missing is the plan
//! without what is there.

use crate::machine::LOAD_AVERAGE;
use crate::metric::Operation;
use crate::plan::Cell;
use crate::record::{Disruption, Entry, Machine};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Why a record must not be gone on with: its figures would be of two things.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot go on with this record, because {what} is not what it was: {then:?}, now {now:?}")]
pub struct Differs {
    /// What differs.
    pub what: String,
    /// What the record says.
    pub then: String,
    /// What it is now.
    pub now: String,
}

/// Whether the machine that a record was made on is the one it is to be gone on with.
///
/// # Errors
///
/// [`Differs`], with the first thing that does.
pub fn check(then: &Machine, now: &Machine) -> Result<(), Differs> {
    match differences(then, now).into_iter().next() {
        Some(first) => Err(first),
        None => Ok(()),
    }
}

/// In what two machines, programs or settings differ; dates, commands, seeds and the load
/// average do not count.
#[must_use]
pub fn differences(then: &Machine, now: &Machine) -> Vec<Differs> {
    let (then, now) = (facts(then), facts(now));
    let names: BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    let value = |facts: &BTreeMap<String, String>, name: &String| {
        facts.get(name).cloned().unwrap_or_else(|| "not known".to_owned())
    };
    let differ = |name: &String| Differs {
        what: name.clone(),
        then: value(&then, name),
        now: value(&now, name),
    };
    names.into_iter().map(differ).filter(|fact| fact.then != fact.now).collect()
}

fn facts(machine: &Machine) -> BTreeMap<String, String> {
    let own = [
        ("host", machine.host.clone()),
        ("commit", machine.commit.clone()),
        ("program", machine.program.clone()),
        ("CPU", machine.cpu.clone()),
        ("number of CPUs", machine.cores.to_string()),
        ("kernel", machine.kernel.clone()),
    ];
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
    let more = machine.tools.iter().chain(&machine.settings);
    let more = more.map(|(name, value)| (name.clone(), value.clone()));
    own.chain(more).filter(|(name, _)| name != LOAD_AVERAGE).collect()
}

/// What a run had measured before it was stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Earlier {
    cells: BTreeSet<Cell>,
    loads: BTreeMap<Cell, Duration>,
    capped: BTreeSet<Cell>,
    disruptions: BTreeSet<(Cell, String)>,
}

impl Earlier {
    /// What is in these entries.
    #[must_use]
    pub fn of(entries: &[Entry]) -> Self {
        let mut earlier = Self::default();
        for entry in entries {
            match entry {
                Entry::Finished(finished) => drop(earlier.cells.insert(finished.cell())),
                Entry::Figure(f) if f.metric == Operation::ColdLoad.whole() => {
                    let took = Duration::from_nanos(f.summary.p50);
                    earlier.loads.extend(f.cell().map(|cell| (cell, took)));
                }
                Entry::Capped(c) => {
                    let (round, backend, services) = (c.round, c.backend.clone(), c.services);
                    earlier.capped.insert(Cell { round, backend, services });
                }
                Entry::Disruption(d) => drop(earlier.disruptions.insert(disrupted(d))),
                _ => {}
            }
        }
        earlier
    }

    /// Whether `cell` is done.
    #[must_use]
    pub fn has(&self, cell: &Cell) -> bool {
        self.cells.contains(cell)
    }

    /// How long loading the rules of `cell` took, if they were loaded.
    #[must_use]
    pub fn load(&self, cell: &Cell) -> Option<Duration> {
        self.loads.get(cell).copied()
    }

    /// Whether `cell` took its contender too long.
    #[must_use]
    pub fn is_capped(&self, cell: &Cell) -> bool {
        self.capped.contains(cell)
    }

    /// Whether packets were sent while `cell` performed `operation`.
    #[must_use]
    pub fn has_disruption(&self, cell: &Cell, operation: Operation) -> bool {
        self.disruptions.contains(&(cell.clone(), operation.name().to_owned()))
    }
}

fn disrupted(d: &Disruption) -> (Cell, String) {
    let cell = Cell { round: d.round, backend: d.backend.clone(), services: d.services };
    (cell, d.operation.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Capped;

    fn machine() -> Machine {
        let settings = [("CONFIG_HZ", "250"), (LOAD_AVERAGE, "0.1")];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Machine {
            host: "here".to_owned(),
            commit: "abc".to_owned(),
            settings: settings.into(),
            ..Machine::default()
        }
    }

    #[test]
    fn the_same_machine_may_go_on_whatever_its_load() {
        let mut now = machine();
        now.date = "tomorrow".to_owned();
        now.settings.insert(LOAD_AVERAGE.to_owned(), "9.9".to_owned());
        assert_eq!(check(&machine(), &now), Ok(()));
    }

    #[test]
    fn what_differs_is_named() {
        let mut now = machine();
        now.commit = "def".to_owned();
        now.settings.remove("CONFIG_HZ");
        let found = differences(&machine(), &now);
        let names: Vec<&str> = found.iter().map(|d| d.what.as_str()).collect();
        assert_eq!(names, ["CONFIG_HZ", "commit"]);
        let refused = check(&machine(), &now).expect_err("it differs").to_string();
        assert!(refused.contains("CONFIG_HZ is not what it was: \"250\", now \"not known\""));
    }

    #[test]
    fn a_capped_cell_is_known() {
        let capped = Entry::Capped(Capped {
            backend: "iptables".to_owned(),
            services: 9,
            endpoints: 1,
            round: 2,
            cap_seconds: 3,
            capped: "too slow".to_owned(),
        });
        let earlier = Earlier::of(&[capped]);
        let cell = Cell { round: 2, backend: "iptables".to_owned(), services: 9 };
        assert!(earlier.is_capped(&cell) && !earlier.has(&cell) && earlier.load(&cell).is_none());
    }
}
