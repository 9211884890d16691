//! From samples to figures: each round on its own, and all rounds so far together.
//!
//! Invariant: pure; all samples stay in memory, because the percentiles of all rounds together
//! cannot be had from those of single rounds.

use crate::metric::Metric;
use crate::plan::Cell;
use crate::record::{Entry, Figure};
use crate::stats::{self, Distribution, Interval, Summary};
use std::collections::BTreeMap;

/// What one cell gave: for each metric its samples.
pub type CellSamples = BTreeMap<Metric, Vec<u64>>;

/// Samples of all rounds so far.
#[derive(Clone, Debug)]
pub struct Tally {
    instrument: String,
    endpoints: u32,
    seed: u64,
    rounds: BTreeMap<(String, u32, Metric), BTreeMap<u32, Vec<u64>>>,
}

impl Tally {
    /// No samples yet.
    #[must_use]
    pub fn new(instrument: &str, endpoints: u32, seed: u64) -> Self {
        Self { instrument: instrument.to_owned(), endpoints, seed, rounds: BTreeMap::new() }
    }

    /// Takes up what a record has of single rounds.
    pub fn recall(&mut self, entries: &[Entry]) {
        for entry in entries {
            let Entry::Figure(figure) = entry else { continue };
            let Some((cell, counts)) = figure.cell().zip(figure.counts.as_ref()) else { continue };
            let key = (cell.backend, cell.services, figure.metric);
            self.rounds.entry(key).or_default().insert(cell.round, counts.samples());
        }
    }

    /// The figures over all rounds so far, of everything.
    #[must_use]
    pub fn over_all_rounds(&self) -> Vec<Entry> {
        let any_round = |(backend, services, metric): &(String, u32, Metric)| {
            let cell = Cell { round: 0, backend: backend.clone(), services: *services };
            self.over_rounds(&cell, *metric)
        };
        self.rounds.keys().filter_map(any_round).map(Entry::Figure).collect()
    }

    /// Adds what `cell` gave, and says the figures of its round and those of all rounds so
    /// far.
    pub fn add(&mut self, cell: &Cell, samples: CellSamples) -> Vec<Entry> {
        let metrics: Vec<Metric> = samples.keys().copied().collect();
        for (metric, values) in samples {
            let key = (cell.backend.clone(), cell.services, metric);
            self.rounds.entry(key).or_default().insert(cell.round, values);
        }
        metrics.into_iter().flat_map(|metric| self.figures(cell, metric)).collect()
    }

    fn figures(&self, cell: &Cell, metric: Metric) -> Vec<Entry> {
        let key = (cell.backend.clone(), cell.services, metric);
        let Some(rounds) = self.rounds.get(&key) else {
            return Vec::new();
        };
        let own = rounds.get(&cell.round).and_then(|values| {
            let figure = self.figure(cell, metric, Some(cell.round), Summary::of(values)?);
            // What time tells of one packet is chance, so nobody compares it packet by packet.
            let in_order = (self.instrument == "guest").then(|| values.clone());
            Some(Figure { counts: Some(Distribution::of(values)), in_order, ..figure })
        });
        own.into_iter().chain(self.over_rounds(cell, metric)).map(Entry::Figure).collect()
    }

    /// The figure over all rounds of the backend and size of `cell`.
    fn over_rounds(&self, cell: &Cell, metric: Metric) -> Option<Figure> {
        let rounds = self.rounds.get(&(cell.backend.clone(), cell.services, metric))?;
        let all: Vec<u64> = rounds.values().flatten().copied().collect();
        let ends = interval(rounds);
        Some(Figure {
            rounds: u32::try_from(rounds.len()).unwrap_or(u32::MAX),
            p50_low: ends.map(|i| i.low).map(whole),
            p50_high: ends.map(|i| i.high).map(whole),
            ..self.figure(cell, metric, None, Summary::of(&all)?)
        })
    }

    fn figure(&self, cell: &Cell, metric: Metric, round: Option<u32>, summary: Summary) -> Figure {
        let (backend, layout) = cell.backend.split_once(':').unwrap_or((&cell.backend, "default"));
        Figure {
            instrument: self.instrument.clone(),
            backend: backend.to_owned(),
            layout: layout.to_owned(),
            services: cell.services,
            endpoints: self.endpoints,
            metric,
            unit: metric.unit(&self.instrument).to_owned(),
            round,
            rounds: 1,
            seed: self.seed,
            summary,
            p50_low: None,
            p50_high: None,
            counts: None,
            in_order: None,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds of 52 days are exact")]
fn interval(rounds: &BTreeMap<u32, Vec<u64>>) -> Option<Interval> {
    let medians: Vec<f64> =
        rounds.values().filter_map(|v| Summary::of(v)).map(|s| s.p50 as f64).collect();
    stats::median_interval(&medians)
}

/// An end of an interval of medians, which is one of them and so a whole number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it was a whole number before it was a float"
)]
fn whole(value: f64) -> u64 {
    value.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(round: u32) -> Cell {
        Cell { round, backend: "nft".to_owned(), services: 10 }
    }

    fn samples(values: &[u64]) -> CellSamples {
        CellSamples::from([(Metric::FirstPacketNs, values.to_vec())])
    }

    fn figures(entries: Vec<Entry>) -> Vec<Figure> {
        let figure = |entry| match entry {
            Entry::Figure(figure) => figure,
            other => panic!("{other:?} is no figure"),
        };
        entries.into_iter().map(figure).collect()
    }

    #[test]
    fn a_round_is_said_alone_and_with_those_before() {
        let mut tally = Tally::new("native", 3, 1);
        let first = figures(tally.add(&cell(0), samples(&[10, 10, 10])));
        assert_eq!((first[0].round, first[1].round), (Some(0), None));
        let second = figures(tally.add(&cell(1), samples(&[30, 30, 30, 30])));
        assert_eq!((second[0].summary.p50, second[0].summary.n), (30, 4));
        assert_eq!((second[1].summary.n, second[1].rounds), (7, 2));
        assert_eq!((second[1].summary.min, second[1].summary.p50), (10, 30));
    }

    /// The median of all samples is not the middle of the medians: rounds of different
    /// spread would make a difference if percentiles were averaged.
    #[test]
    fn percentiles_of_all_rounds_are_those_of_all_samples() {
        let mut tally = Tally::new("native", 3, 1);
        tally.add(&cell(0), samples(&[1, 2, 100, 101, 102]));
        let all = figures(tally.add(&cell(1), samples(&[3, 4, 5, 6, 7])));
        assert_eq!(all[1].summary.p50, 5);
    }

    #[test]
    fn three_rounds_have_an_interval_of_seen_medians() {
        let mut tally = Tally::new("native", 3, 1);
        for (round, value) in [(0, 10), (1, 12), (2, 11)] {
            let all = figures(tally.add(&cell(round), samples(&[value])));
            let ends = all[1].p50_low.zip(all[1].p50_high);
            assert_eq!(ends, if round == 2 { Some((10, 12)) } else { None });
        }
    }

    /// A run that was stopped and gone on with has the figures of one that was not.
    #[test]
    fn what_is_recalled_counts_like_what_was_added() {
        let mut whole = Tally::new("native", 3, 1);
        let earlier: Vec<Entry> = [(0, [10, 14, 12]), (1, [20, 22, 21])]
            .into_iter()
            .flat_map(|(round, values)| whole.add(&cell(round), samples(&values)))
            .collect();
        let mut resumed = Tally::new("native", 3, 1);
        resumed.recall(&earlier);
        assert_eq!(resumed.over_all_rounds(), whole.over_all_rounds());
        let last = samples(&[15, 15, 16]);
        assert_eq!(resumed.add(&cell(2), last.clone()), whole.add(&cell(2), last));
    }

    #[test]
    fn a_guest_counts_instructions_and_keeps_their_order() {
        let mut tally = Tally::new("guest", 3, 1);
        let counted = figures(tally.add(&cell(0), samples(&[7, 5, 6])));
        assert!(counted.iter().all(|f| f.unit == "instructions"));
        assert_eq!(counted[0].in_order.as_deref(), Some(&[7, 5, 6][..]));
        let timed = figures(Tally::new("native", 3, 1).add(&cell(0), samples(&[7, 5, 6])));
        assert_eq!(timed[0].in_order, None);
    }
}
