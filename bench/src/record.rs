//! What is kept of a run: `measurements.jsonl`, one object a line, and `machine.json`.
//!
//! The lines of a cell are written to the disk as soon as it is measured, the one of kind
//! `finished` last, so that a run that is stopped loses only the cell it was in, and
//! [`Journal::resume`] can tell which cells are whole. After each round of a cell its figures
//! over all rounds so far are written too; the last of those lines holds, and
//! [`Journal::finish`] removes the others.
//!
//! Invariant: what is written can be read back by this file alone; nothing is computed
//! here.

use crate::metric::Metric;
use crate::plan::Cell;
use crate::stats::{Distribution, Summary};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Name of the file with the figures.
pub const MEASUREMENTS: &str = "measurements.jsonl";
/// Name of the file about the machine.
pub const MACHINE: &str = "machine.json";
/// Name of the file with the scenario as it was run.
pub const SCENARIO: &str = "scenario.toml";

/// One line of `measurements.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Entry {
    /// A metric of a cell, in one round or over all of them.
    Figure(Figure),
    /// A cell of one round whose figures must not be used.
    Voided(Voided),
    /// A backend that this machine cannot run.
    Absent(Absent),
    /// A cell that a contender was too slow for.
    Capped(Capped),
    /// What packets noticed while updates were made.
    Disruption(Disruption),
    /// How many cells there are to be; the last such line holds.
    Plan(Plan),
    /// A cell of one round is done, and all its lines are above.
    Finished(Finished),
}

/// A metric of a cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// `native` or `guest`: figures of two instruments are never compared.
    pub instrument: String,
    /// Name of the backend.
    pub backend: String,
    /// Which of the backend's layouts, `default` when it has one only.
    pub layout: String,
    /// How many Services were loaded.
    pub services: u32,
    /// How many endpoints each of them had.
    pub endpoints: u32,
    /// What was measured.
    pub metric: Metric,
    /// The unit of all values: `ns`, `instructions` or `bytes`.
    pub unit: String,
    /// The round, counted from 0; null: all rounds together.
    pub round: Option<u32>,
    /// How many rounds are in it.
    pub rounds: u32,
    /// The run's seed.
    pub seed: u64,
    /// The values.
    #[serde(flatten)]
    pub summary: Summary,
    /// Lower end of the 95 % interval of the median over rounds, when there were enough.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub p50_low: Option<u64>,
    /// Upper end of it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub p50_high: Option<u64>,
    /// Every sample of a single round; those of all rounds together are in their lines.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub counts: Option<Distribution>,
    /// The samples of a single round as they were taken, where they are counted exactly: in
    /// every run of the same scenario the same place is the same packet, or the same change.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub in_order: Option<Vec<u64>>,
}

/// What a run is to have when it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// How many cells, all rounds together.
    pub cells: usize,
}

/// A cell of one round that is done, and what else the machine did meanwhile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// `native` or `guest`.
    pub instrument: String,
    /// Name of the backend.
    pub backend: String,
    /// How many Services were loaded.
    pub services: u32,
    /// How many endpoints each of them had.
    pub endpoints: u32,
    /// The round, counted from 0.
    pub round: u32,
    /// What the CPUs did, where that is known.
    #[serde(flatten)]
    pub cpus: Option<CpuTime>,
}

/// What the CPUs did for some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuTime {
    /// How long that was, in milliseconds, times the number of CPUs.
    pub capacity_ms: u64,
    /// How long the process and the tools it started ran, the kernel's work for them left out.
    pub own_ms: u64,
    /// How long any program ran, ours included and the kernel's work left out.
    pub user_ms: u64,
    /// How long the kernel worked, for whomever and in the background.
    pub system_ms: u64,
    /// How long the host of a virtual machine gave its CPUs to somebody else.
    pub steal_ms: u64,
}

/// A cell of one round whose figures must not be used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Voided {
    /// `native` or `guest`.
    pub instrument: String,
    /// Name of the backend.
    pub backend: String,
    /// How many Services were loaded.
    pub services: u32,
    /// How many endpoints each of them had.
    pub endpoints: u32,
    /// The round, counted from 0.
    pub round: u32,
    /// The run's seed.
    pub seed: u64,
    /// Why.
    pub voided: String,
}

/// A backend that this machine cannot run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Absent {
    /// Name of the backend.
    pub backend: String,
    /// What is missing, and how it is known.
    pub absent: String,
}

/// A cell that a contender was too slow for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Capped {
    /// Name of the contender.
    pub backend: String,
    /// How many Services there were.
    pub services: u32,
    /// How many endpoints each of them had.
    pub endpoints: u32,
    /// The round, counted from 0.
    pub round: u32,
    /// How many seconds it was given.
    pub cap_seconds: u32,
    /// What did not end, or why it was not tried.
    pub capped: String,
}

/// What packets noticed while updates were made, in one round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disruption {
    /// `native` or `guest`.
    pub instrument: String,
    /// Name of the backend, with its layout.
    pub backend: String,
    /// How many Services were loaded.
    pub services: u32,
    /// How many endpoints each of them had.
    pub endpoints: u32,
    /// The round, counted from 0.
    pub round: u32,
    /// The run's seed.
    pub seed: u64,
    /// What was done: `full_resync` or `endpoint_swapped`.
    pub operation: String,
    /// How many updates were made.
    pub updates: u32,
    /// A packet was due every so many nanoseconds.
    pub packet_interval_ns: u64,
    /// A packet that arrived later after it was due than this is late, in nanoseconds.
    pub late_ns: u64,
    /// From when a packet was due until it arrived: all that arrived.
    pub latency: Summary,
    /// How many packets were sent.
    pub sent: u32,
    /// How many arrived nowhere.
    pub lost: u32,
    /// How many arrived where the rules should not have sent them at that time.
    pub wrong: u32,
    /// How many arrived late.
    pub late: u32,
    /// How many of those that arrived late took so long after they had been sent; the others
    /// were sent late, because the sender was held up.
    pub late_on_way: u32,
    /// The longest that a packet took after it had been sent, in nanoseconds.
    pub longest_way_ns: u64,
    /// How many of those that arrived late were due while no update was being carried out.
    pub late_between: u32,
    /// Each update, from when it was begun until it was known to be done, in nanoseconds from
    /// the first packet.
    pub spans: Vec<(u64, u64)>,
    /// The latencies in order of time.
    pub slots: Vec<Slot>,
}

/// What packets noticed in a short time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// When the first packet of the slot was due, in nanoseconds from the first of all.
    pub at_ns: u64,
    /// The median latency, 0 when nothing arrived.
    pub p50: u64,
    /// The largest latency.
    pub max: u64,
    /// How many were lost or came to a wrong place.
    pub astray: u32,
}

/// What the figures depend on besides the program: the machine, the tools and the command.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// When the run began, RFC 3339 in UTC.
    pub date: String,
    /// The machine's name.
    pub host: String,
    /// The command, as it can be typed again.
    pub command: String,
    /// The run's seed.
    pub seed: u64,
    /// The commit the program was built from, with a note when files had been changed.
    pub commit: String,
    /// The beginning of the SHA-256 of the program that measured.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub program: String,
    /// When the run was gone on with, after it had been stopped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resumed: Vec<String>,
    /// Model of the CPU.
    pub cpu: String,
    /// How many CPUs the process may use.
    pub cores: usize,
    /// Name and version of the kernel.
    pub kernel: String,
    /// Settings of kernel and CPU by name: mitigations, preemption, clocksource and others.
    pub settings: BTreeMap<String, String>,
    /// Versions of the tools by name.
    pub tools: BTreeMap<String, String>,
}

impl Machine {
    /// Writes it into the record in `folder`.
    ///
    /// # Errors
    ///
    /// [`RecordError::Io`].
    pub fn write(&self, folder: &Path) -> Result<(), RecordError> {
        let path = folder.join(MACHINE);
        let text = serde_json::to_string_pretty(self).unwrap_or_default() + "\n";
        fs::write(&path, text).map_err(RecordError::io(&path))
    }
}

/// Everything that a report is made from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// The machine.
    pub machine: Machine,
    /// The lines, superseded ones removed.
    pub entries: Vec<Entry>,
}

/// Why a record could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// There is a record already, and a record is never overwritten.
    #[error("{folder} holds the record of another run: remove it, or name another folder")]
    Exists {
        /// The folder.
        folder: PathBuf,
    },
    /// A file is not what it should be.
    #[error("{path}, line {line}: {source}")]
    Format {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong.
        source: serde_json::Error,
    },
}

impl Figure {
    /// The cell, of a single round.
    #[must_use]
    pub fn cell(&self) -> Option<Cell> {
        let backend = match self.layout.as_str() {
            "default" => self.backend.clone(),
            layout => format!("{}:{layout}", self.backend),
        };
        self.round.map(|round| Cell { round, backend, services: self.services })
    }
}

impl Finished {
    /// The cell.
    #[must_use]
    pub fn cell(&self) -> Cell {
        Cell { round: self.round, backend: self.backend.clone(), services: self.services }
    }
}

impl RecordError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        |source| Self::Io { path: path.to_owned(), source }
    }
}

/// A record that is being written.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    file: File,
    entries: Vec<Entry>,
}

impl Journal {
    /// Begins a record in `folder`, which is made when it is not there.
    ///
    /// # Errors
    ///
    /// [`RecordError::Exists`] when `folder` holds measurements already, [`RecordError::Io`]
    /// when it cannot be written.
    pub fn create(folder: &Path, machine: &Machine, scenario: &str) -> Result<Self, RecordError> {
        fs::create_dir_all(folder).map_err(RecordError::io(folder))?;
        let path = folder.join(MEASUREMENTS);
        if path.exists() {
            return Err(RecordError::Exists { folder: folder.to_owned() });
        }
        let file = File::create_new(&path).map_err(RecordError::io(&path))?;
        machine.write(folder)?;
        let path = folder.join(SCENARIO);
        fs::write(&path, scenario).map_err(RecordError::io(&path))?;
        Ok(Self { folder: folder.to_owned(), file, entries: Vec::new() })
    }

    /// Goes on with `record`, which is the one in `folder`: what is there of cells that are
    /// not done is dropped, and the rest is written anew, with `date` in the machine's file.
    ///
    /// # Errors
    ///
    /// [`RecordError::Io`] when it cannot be written.
    pub fn resume(folder: &Path, record: Record, date: &str) -> Result<Self, RecordError> {
        let Record { mut machine, entries } = record;
        machine.resumed.push(date.to_owned());
        machine.write(folder)?;
        let entries = of_whole_cells(entries);
        let file = rewrite(folder, &lines(&entries))?;
        Ok(Self { folder: folder.to_owned(), file, entries })
    }

    /// What has been written so far.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Appends `entries` and waits until the disk has them.
    ///
    /// # Errors
    ///
    /// [`RecordError::Io`].
    pub fn append(&mut self, entries: Vec<Entry>) -> Result<(), RecordError> {
        let path = self.folder.join(MEASUREMENTS);
        self.file
            .write_all(lines(&entries).as_bytes())
            .and_then(|()| self.file.sync_data())
            .map_err(RecordError::io(&path))?;
        self.entries.extend(entries);
        Ok(())
    }

    /// Rewrites the file without the lines that later ones supersede, and gives what is
    /// left.
    ///
    /// # Errors
    ///
    /// [`RecordError::Io`]; the longer file is then still there.
    pub fn finish(self) -> Result<Vec<Entry>, RecordError> {
        let entries = without_superseded(self.entries);
        rewrite(&self.folder, &lines(&entries))?;
        Ok(entries)
    }
}

/// Puts `text` in the place of the measurements in one step, and opens them to append.
fn rewrite(folder: &Path, text: &str) -> Result<File, RecordError> {
    let path = folder.join(MEASUREMENTS);
    let draft = folder.join(format!("{MEASUREMENTS}.new"));
    fs::write(&draft, text)
        .and_then(|()| fs::rename(&draft, &path))
        .and_then(|()| File::options().append(true).open(&path))
        .map_err(RecordError::io(&path))
}

/// The lines of cells that are done, and those that belong to none. Figures over all rounds
/// are left out: they may be of a cell that is not done, and will be worked out again.
fn of_whole_cells(entries: Vec<Entry>) -> Vec<Entry> {
    let done: BTreeSet<Cell> = entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Finished(finished) => Some(finished.cell()),
            _ => None,
        })
        .collect();
    let is_done = |backend: &str, services: u32, round: u32| {
        done.contains(&Cell { round, backend: backend.to_owned(), services })
    };
    let stays = |entry: &Entry| match entry {
        Entry::Figure(f) => f.cell().is_some_and(|cell| done.contains(&cell)),
        Entry::Voided(v) => is_done(&v.backend, v.services, v.round),
        Entry::Capped(c) => is_done(&c.backend, c.services, c.round),
        Entry::Absent(_) | Entry::Plan(_) => false,
        Entry::Disruption(_) | Entry::Finished(_) => true,
    };
    entries.into_iter().filter(stays).collect()
}

fn lines(entries: &[Entry]) -> String {
    let line = |e: &Entry| serde_json::to_string(e).unwrap_or_default() + "\n";
    entries.iter().map(line).collect()
}

/// Keeps of figures about the same thing the last one.
fn without_superseded(entries: Vec<Entry>) -> Vec<Entry> {
    let mut last = BTreeMap::new();
    for (index, entry) in entries.iter().enumerate() {
        if let Entry::Figure(figure) = entry {
            last.insert(subject(figure), index);
        }
    }
    let holds = |(index, entry): &(usize, Entry)| match entry {
        Entry::Figure(figure) => last.get(&subject(figure)) == Some(index),
        _ => true,
    };
    let kept: Vec<_> = entries.clone().into_iter().enumerate().filter(holds).collect();
    kept.into_iter().map(|(_, entry)| entry).collect()
}

type Subject<'a> = (&'a str, &'a str, &'a str, u32, u32, Metric, Option<u32>);

fn subject(figure: &Figure) -> Subject<'_> {
    (
        &figure.instrument,
        &figure.backend,
        &figure.layout,
        figure.services,
        figure.endpoints,
        figure.metric,
        figure.round,
    )
}

impl Record {
    /// Reads what a run left in `folder`, finished or not. A last line without an end, as
    /// a killed run may leave it, is passed over.
    ///
    /// # Errors
    ///
    /// [`RecordError`], with the line.
    pub fn read(folder: &Path) -> Result<Self, RecordError> {
        let path = folder.join(MACHINE);
        let text = fs::read_to_string(&path).map_err(RecordError::io(&path))?;
        let machine = serde_json::from_str(&text).map_err(|source| RecordError::Format {
            line: source.line(),
            path,
            source,
        })?;
        let path = folder.join(MEASUREMENTS);
        let text = fs::read_to_string(&path).map_err(RecordError::io(&path))?;
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        let read = |(index, line)| {
            serde_json::from_str(line).map_err(|source| RecordError::Format {
                path: path.clone(),
                line: index + 1,
                source,
            })
        };
        let entries: Result<Vec<_>, _> = complete.lines().enumerate().map(read).collect();
        Ok(Self { machine, entries: without_superseded(entries?) })
    }

    /// All figures.
    pub fn figures(&self) -> impl Iterator<Item = &Figure> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Figure(figure) => Some(figure),
            _ => None,
        })
    }

    /// All cells whose figures must not be used.
    pub fn voided(&self) -> impl Iterator<Item = &Voided> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Voided(voided) => Some(voided),
            _ => None,
        })
    }

    /// All cells that a contender was too slow for.
    pub fn capped(&self) -> impl Iterator<Item = &Capped> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Capped(capped) => Some(capped),
            _ => None,
        })
    }

    /// What packets noticed of updates.
    pub fn disruptions(&self) -> impl Iterator<Item = &Disruption> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Disruption(disruption) => Some(disruption),
            _ => None,
        })
    }

    /// All cells that are done.
    pub fn finished(&self) -> impl Iterator<Item = &Finished> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Finished(finished) => Some(finished),
            _ => None,
        })
    }

    /// How many cells there were to be; `None` in records of old.
    #[must_use]
    pub fn planned(&self) -> Option<usize> {
        self.entries.iter().rev().find_map(|entry| match entry {
            Entry::Plan(plan) => Some(plan.cells),
            _ => None,
        })
    }

    /// All backends that could not be run.
    pub fn absent(&self) -> impl Iterator<Item = &Absent> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Absent(absent) => Some(absent),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests;
