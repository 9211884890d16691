//! Figures from samples: percentiles, spread, intervals and laws of growth.
//!
//! Percentiles are nearest-rank ones: each is a value that was really seen. Percentiles
//! are never averaged; where several rounds make one figure, their samples are put together
//! first, and how far the rounds disagree is said by an interval.
//!
//! Invariant: pure functions of numbers; knows neither what was measured nor how.

mod distribution;
mod rank;

pub use distribution::{Distribution, NoDistribution, Pool};
pub use rank::{Comparison, ROUNDS_MIN, SIGNIFICANT, compare};

use nfc_ir::synth::Dice;

/// What is kept of a set of samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Summary {
    /// How many samples.
    pub n: usize,
    /// The smallest.
    pub min: u64,
    /// 1 % are not above it.
    pub p01: u64,
    /// The median.
    pub p50: u64,
    /// 90 % are not above it.
    pub p90: u64,
    /// 99 % are not above it.
    pub p99: u64,
    /// 99.9 % are not above it; with fewer than 1,000 samples this is the largest.
    pub p999: u64,
    /// The largest.
    pub max: u64,
    /// Median distance of a sample from the median.
    pub mad: u64,
}

impl Summary {
    /// The summary of `samples`; `None` when there are none.
    #[must_use]
    pub fn of(samples: &[u64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_unstable();
        let p50 = percentile(&sorted, 500)?;
        let mut distances: Vec<u64> = sorted.iter().map(|s| s.abs_diff(p50)).collect();
        distances.sort_unstable();
        Some(Self {
            n: sorted.len(),
            min: *sorted.first()?,
            p01: percentile(&sorted, 10)?,
            p50,
            p90: percentile(&sorted, 900)?,
            p99: percentile(&sorted, 990)?,
            p999: percentile(&sorted, 999)?,
            max: *sorted.last()?,
            mad: percentile(&distances, 500)?,
        })
    }
}

/// The smallest sample that at least `per_mille` thousandths of `sorted` do not exceed;
/// `None` when there are no samples. `sorted` ascends.
#[must_use]
pub fn percentile(sorted: &[u64], per_mille: usize) -> Option<u64> {
    sorted.get(percentile_rank(sorted.len(), per_mille) - 1).copied()
}

/// The rank of a percentile among `count` samples, counted from 1.
fn percentile_rank(count: usize, per_mille: usize) -> usize {
    (count * per_mille).div_ceil(1000).max(1)
}

/// The lower median of `values`, in any order; `None` when there are none or one of them
/// is not a number.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    if sorted.iter().any(|v| v.is_nan()) {
        return None;
    }
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len().div_ceil(2).checked_sub(1)?).copied()
}

/// An interval that a figure lies in with 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Whether `value` lies in it.
    #[must_use]
    pub fn contains(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }
}

/// How often a bootstrap draws. 95 % intervals are steady to the second digit from about
/// a thousand on.
const RESAMPLES: usize = 1000;

/// The percentile bootstrap (Efron 1979): draws `rounds` rounds with replacement, again
/// and again, asks `figure` about each draw, and gives the interval that holds the middle
/// 95 % of the answers. Draws about which `figure` has no answer are passed over.
///
/// `None` with fewer than three rounds, from which no spread can be told, or when `figure`
/// answered less than half of the time.
pub fn bootstrap(
    rounds: usize,
    seed: u64,
    mut figure: impl FnMut(&[usize]) -> Option<f64>,
) -> Option<Interval> {
    if rounds < 3 {
        return None;
    }
    let mut dice = Dice::new(seed);
    let mut draw = || -> Option<f64> {
        let drawn: Vec<usize> = (0..rounds).map(|_| place(&mut dice, rounds)).collect();
        figure(&drawn).filter(|f| f.is_finite())
    };
    middle_of((0..RESAMPLES).filter_map(|_| draw()).collect())
}

/// The interval that holds the middle 95 % of what a bootstrap found; `None` when that is
/// less than half of what it asked for.
#[must_use]
pub fn middle_of(mut answers: Vec<f64>) -> Option<Interval> {
    if answers.len() < RESAMPLES / 2 {
        return None;
    }
    answers.sort_unstable_by(f64::total_cmp);
    let tail = answers.len() * 25 / 1000;
    Some(Interval { low: answers[tail], high: answers[answers.len() - 1 - tail] })
}

/// The median of `rounds` each time that a bootstrap draws them anew; `None` with fewer than
/// three.
#[must_use]
pub fn redrawn_medians(rounds: &[f64], seed: u64) -> Option<Vec<f64>> {
    let mut dice = Dice::new(seed);
    let mut draw = || {
        let drawn: Vec<f64> =
            rounds.iter().map(|_| rounds[place(&mut dice, rounds.len())]).collect();
        median(&drawn)
    };
    (rounds.len() >= 3).then(|| (0..RESAMPLES).filter_map(|_| draw()).collect())
}

/// One of `count` places.
fn place(dice: &mut Dice, count: usize) -> usize {
    let bound = u32::try_from(count).unwrap_or(u32::MAX);
    usize::try_from(dice.below(bound)).unwrap_or(0)
}

/// The interval of the median of `medians`, one for each round.
#[must_use]
pub fn median_interval(medians: &[f64], seed: u64) -> Option<Interval> {
    bootstrap(medians.len(), seed, |drawn| {
        let chosen: Vec<f64> = drawn.iter().map(|i| medians[*i]).collect();
        median(&chosen)
    })
}

/// A straight line through points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// Value at 0.
    pub intercept: f64,
    /// Growth for each unit.
    pub slope: f64,
    /// Share of the variance that the line explains, 0 to 1.
    pub r_squared: f64,
}

/// The line of least squares; `None` with fewer than two different abscissae.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a count of points is far below 2^52")]
pub fn line_fit(points: &[(f64, f64)]) -> Option<Line> {
    let n = points.len() as f64;
    let mean_x = points.iter().map(|p| p.0).sum::<f64>() / n;
    let mean_y = points.iter().map(|p| p.1).sum::<f64>() / n;
    let moment = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
        points.iter().map(|(x, y)| f(x - mean_x, y - mean_y)).sum()
    };
    let (xx, xy, yy) = (moment(&|x, _| x * x), moment(&|x, y| x * y), moment(&|_, y| y * y));
    if points.len() < 2 || xx == 0.0 {
        return None;
    }
    Some(Line {
        intercept: mean_y - xy / xx * mean_x,
        slope: xy / xx,
        r_squared: if yy == 0.0 { 1.0 } else { xy * xy / (xx * yy) },
    })
}

/// How a cost grows with size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Growth {
    /// At no larger size more than [`FLAT_FACTOR`] times the lowest cost.
    Flat {
        /// The largest cost over the lowest.
        factor: f64,
    },
    /// What comes on top of the lowest cost grows as a power of the size.
    Power {
        /// The exponent: 1 is linear, 2 quadratic.
        exponent: f64,
        /// The largest cost over the lowest.
        factor: f64,
        /// At how many sizes the growth was large enough to be fitted.
        fitted: usize,
    },
    /// It grows, but at too few sizes or too unsteadily to tell how.
    Unclear {
        /// The largest cost over the lowest.
        factor: f64,
    },
}

/// A cost that nowhere exceeds this many times the lowest is called flat. Between 1 and
/// 50,000 elements a hash table of the kernel gets slower by up to a fifth, because it no
/// longer fits the caches.
pub const FLAT_FACTOR: f64 = 1.25;

/// A cost has to be this many times the lowest to be part of a fit: rounds of the same cell
/// differ by a few percent.
pub const FIT_FACTOR: f64 = 1.05;

/// The law of growth through `points` of (size, cost).
///
/// A cost is a fixed part and a growing one. A fit of the whole on a log-log scale would
/// call every law flat while the fixed part is the larger one, so the fixed part is taken
/// off first. It is the lowest cost seen, usually that at the smallest size; sizes below
/// it, and sizes that cost hardly more ([`FIT_FACTOR`]), are left out, because there the
/// difference is noise. `None` without two sizes of positive cost.
#[must_use]
pub fn growth(points: &[(f64, f64)]) -> Option<Growth> {
    let (x0, y0) = lowest(points)?;
    points.iter().find(|(x, y)| *y > 0.0 && *x != x0)?;
    let larger = points.iter().filter(|(x, y)| *y > 0.0 && *x > x0);
    let factor = larger.map(|(_, y)| y / y0).fold(1.0, f64::max);
    if factor <= FLAT_FACTOR {
        return Some(Growth::Flat { factor });
    }
    let logs = grown(points, (x0, y0));
    let power = |line: Line| Growth::Power { exponent: line.slope, factor, fitted: logs.len() };
    let line = line_fit(&logs).filter(|line| line.slope > 0.0);
    Some(line.map_or(Growth::Unclear { factor }, power))
}

/// The cost at `size` by the law of [`growth`] through `points`, and its exponent; `None`
/// when they do not grow as a power of the size.
#[must_use]
pub fn extrapolate(points: &[(f64, f64)], size: f64) -> Option<(f64, f64)> {
    let (x0, y0) = lowest(points)?;
    let line = line_fit(&grown(points, (x0, y0))).filter(|line| line.slope > 0.0)?;
    let more = (line.intercept + line.slope * (size - x0).ln()).exp();
    (size > x0).then_some((y0 + more, line.slope))
}

/// The point of the lowest positive cost, the smallest of several.
fn lowest(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let positive = points.iter().filter(|(_, y)| *y > 0.0);
    positive.min_by(|a, b| a.1.total_cmp(&b.1).then(a.0.total_cmp(&b.0))).copied()
}

/// What the points that have grown above the lowest are above it, as logarithms.
fn grown(points: &[(f64, f64)], (x0, y0): (f64, f64)) -> Vec<(f64, f64)> {
    let grown = points.iter().filter(|(x, y)| *x > x0 && *y > FIT_FACTOR * y0);
    grown.map(|(x, y)| ((x - x0).ln(), (y - y0).ln())).collect()
}

#[cfg(test)]
mod tests;
