//! The figures of one instrument, sorted into series: a metric of a backend against the
//! number of Services.
//!
//! Invariant: sorts and picks; every value is one of the record's.

use crate::metric::{Metric, Operation};
use crate::plan::BASELINE;
use crate::record::{Figure, Record};
use crate::report::quantity::Unit;
use crate::stats::{self, Distribution, Interval, Pool, Summary};
use std::collections::{BTreeMap, BTreeSet};

/// The figures of one instrument.
#[derive(Debug)]
pub(crate) struct Study<'a> {
    pub(crate) instrument: &'a str,
    /// Of everything that is a time.
    unit: Unit,
    pub(crate) endpoints: u32,
    pub(crate) seed: u64,
    figures: Vec<&'a Figure>,
}

/// A metric of a backend against the number of Services.
#[derive(Debug)]
pub(crate) struct Series<'a> {
    /// The backend's name, with its layout when that is not the default one.
    pub(crate) name: String,
    /// In order of the number of Services.
    pub(crate) points: Vec<Point<'a>>,
}

/// A metric of a backend at one number of Services.
#[derive(Debug)]
pub(crate) struct Point<'a> {
    pub(crate) services: u32,
    pub(crate) rounds: u32,
    /// Over all rounds.
    pub(crate) summary: &'a Summary,
    /// Of the median over rounds.
    pub(crate) interval: Option<Interval>,
    /// The median of each round, by round.
    pub(crate) medians: BTreeMap<u32, u64>,
    /// The samples of each round; records of old do not have them.
    counts: Vec<&'a Distribution>,
}

/// Values of a record are far below 2^52, so nothing is lost.
#[expect(clippy::cast_precision_loss, reason = "nanoseconds of 52 days are exact")]
pub(crate) fn real(value: u64) -> f64 {
    value as f64
}

/// A study for each instrument of the record, and for each number of endpoints: figures of
/// two instruments, or of Services of two shapes, never share a table or a chart.
pub(crate) fn studies(record: &Record) -> Vec<Study<'_>> {
    let kinds: BTreeSet<(&str, u32)> =
        record.figures().map(|f| (f.instrument.as_str(), f.endpoints)).collect();
    kinds
        .into_iter()
        .map(|(instrument, endpoints)| Study::new(record, instrument, endpoints))
        .collect()
}

impl<'a> Study<'a> {
    fn new(record: &'a Record, instrument: &'a str, endpoints: u32) -> Self {
        let own = |f: &&Figure| f.instrument == instrument && f.endpoints == endpoints;
        let figures: Vec<&Figure> = record.figures().filter(own).collect();
        Self {
            instrument,
            unit: Unit::of_instrument(instrument),
            endpoints,
            seed: figures.first().map_or(0, |f| f.seed),
            figures,
        }
    }

    /// The unit of `metric`.
    pub(crate) fn unit_of(&self, metric: Metric) -> Unit {
        if metric.is_memory() { Unit::Bytes } else { self.unit }
    }

    /// Whether its figures are counted, so that another round would say the same.
    pub(crate) fn is_counted(&self) -> bool {
        self.unit == Unit::Instructions
    }

    /// Whether updates of every kind were measured.
    pub(crate) fn has_every_operation(&self) -> bool {
        self.figures.iter().any(|f| f.metric == Operation::FullResync.whole())
    }

    /// The series of `metric`, the baseline `none` first, then by name.
    pub(crate) fn series(&self, metric: Metric) -> Vec<Series<'a>> {
        let mut grouped: BTreeMap<(bool, &str, &str), Vec<Point<'a>>> = BTreeMap::new();
        for figure in self.over_all_rounds(metric) {
            let key = (figure.backend != BASELINE, figure.backend.as_str(), figure.layout.as_str());
            grouped.entry(key).or_default().push(self.point(figure));
        }
        let series = |((_, backend, layout), mut points): ((_, _, _), Vec<Point<'a>>)| {
            points.sort_unstable_by_key(|p| p.services);
            let name = series_name(backend, layout);
            Series { name, points }
        };
        grouped.into_iter().map(series).collect()
    }

    /// The series of `metric` of the backend of this name.
    pub(crate) fn series_of(&self, metric: Metric, name: &str) -> Option<Series<'a>> {
        self.series(metric).into_iter().find(|s| s.name == name)
    }

    /// The figures of `metric` of the backend of this name, each of a single round.
    pub(crate) fn of_rounds(&self, metric: Metric, name: &str) -> Vec<&'a Figure> {
        let own = |f: &&Figure| f.metric == metric && f.backend == name && f.round.is_some();
        self.figures.iter().copied().filter(own).collect()
    }

    fn over_all_rounds(&self, metric: Metric) -> impl Iterator<Item = &'a Figure> + '_ {
        self.figures.iter().copied().filter(move |f| f.metric == metric && f.round.is_none())
    }

    fn point(&self, figure: &'a Figure) -> Point<'a> {
        let same = |f: &&&Figure| {
            f.metric == figure.metric
                && f.backend == figure.backend
                && f.layout == figure.layout
                && f.services == figure.services
                && f.round.is_some()
        };
        let rounds: Vec<&'a Figure> = self.figures.iter().filter(same).copied().collect();
        let medians: BTreeMap<u32, u64> =
            rounds.iter().filter_map(|f| Some((f.round?, f.summary.p50))).collect();
        let of_rounds: Vec<f64> = medians.values().copied().map(real).collect();
        Point {
            services: figure.services,
            rounds: figure.rounds,
            summary: &figure.summary,
            interval: stats::median_interval(&of_rounds),
            medians,
            counts: rounds.iter().filter_map(|f| f.counts.as_ref()).collect(),
        }
    }
}

fn series_name(backend: &str, layout: &str) -> String {
    match layout {
        "default" => backend.to_owned(),
        _ => format!("{backend} ({layout})"),
    }
}

impl Point<'_> {
    /// All samples of all rounds, where the record has them.
    pub(crate) fn pool(&self) -> Option<Pool> {
        (!self.counts.is_empty()).then(|| Pool::of(&self.counts))
    }

    /// The median over rounds of their medians: what intervals are about, and so what laws
    /// and ratios are made from.
    pub(crate) fn middle(&self) -> f64 {
        let medians: Vec<f64> = self.medians.values().copied().map(real).collect();
        stats::median(&medians).unwrap_or_else(|| real(self.summary.p50))
    }
}

impl<'a> Series<'a> {
    /// The point at this number of Services.
    pub(crate) fn at(&self, services: u32) -> Option<&Point<'a>> {
        self.points.iter().find(|p| p.services == services)
    }

    /// Number of Services and median, for fits.
    pub(crate) fn medians(&self) -> Vec<(f64, f64)> {
        self.points.iter().map(|p| (f64::from(p.services), p.middle())).collect()
    }

    /// The 95 % interval of what `figure` makes of the medians, when rounds are drawn anew.
    pub(crate) fn bootstrap(
        &self,
        seed: u64,
        figure: impl Fn(&[(f64, f64)]) -> Option<f64>,
    ) -> Option<Interval> {
        let rounds = self.rounds_of_all_points();
        stats::bootstrap(rounds.len(), seed, |drawn| {
            let drawn: Vec<u32> = drawn.iter().map(|i| rounds[*i]).collect();
            figure(&self.redrawn(&drawn)?)
        })
    }

    /// Number of Services and median over these rounds, of which some may come several times;
    /// `None` when a point has none of them.
    pub(crate) fn redrawn(&self, rounds: &[u32]) -> Option<Vec<(f64, f64)>> {
        let redrawn = |point: &Point<'_>| {
            let of = |round: &u32| point.medians.get(round).copied().map(real);
            let values: Vec<f64> = rounds.iter().filter_map(of).collect();
            stats::median(&values).map(|m| (f64::from(point.services), m))
        };
        self.points.iter().map(redrawn).collect()
    }

    /// The rounds that every point has.
    pub(crate) fn rounds_of_all_points(&self) -> Vec<u32> {
        let mut sets = self.points.iter().map(|p| p.medians.keys().copied().collect());
        let first: BTreeSet<u32> = sets.next().unwrap_or_default();
        let common = sets.fold(first, |a, b: BTreeSet<u32>| &a & &b);
        common.into_iter().collect()
    }
}
