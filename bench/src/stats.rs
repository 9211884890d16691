//! Figures from samples: percentiles, spread, intervals and laws of growth.
//!
//! Percentiles are nearest-rank ones: each is a value that was really seen. Percentiles
//! are never averaged; where several rounds make one figure, their samples are put together
//! first, and how far the rounds disagree is said by an interval.
//!
//! Invariant: pure functions of numbers; knows neither what was measured nor how.

mod distribution;
mod growth;
mod rank;

pub use distribution::{Distribution, NoDistribution, Pool};
pub use growth::{Growth, Power, extrapolate, growth, whole_exponent};
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

    /// The standard error of the median, as if the samples were normal ones that do not hang on
    /// each other: median distances times 1.4826 are deviations, and the median of many is off by
    /// 1.2533 times as much as their mean.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of 52 days are exact")]
    pub fn median_error(&self) -> f64 {
        1.4826 * 1.2533 * self.mad as f64 / (self.n.max(1) as f64).sqrt()
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
    figure: impl FnMut(&[usize]) -> Option<f64>,
) -> Option<Interval> {
    middle_of(redrawn(rounds, seed, figure)?)
}

/// What `figure` says of each draw of [`bootstrap`]; `None` with fewer than three rounds.
pub fn redrawn(
    rounds: usize,
    seed: u64,
    mut figure: impl FnMut(&[usize]) -> Option<f64>,
) -> Option<Vec<f64>> {
    let mut dice = Dice::new(seed);
    let mut draw = || -> Option<f64> {
        let drawn: Vec<usize> = (0..rounds).map(|_| place(&mut dice, rounds)).collect();
        figure(&drawn).filter(|f| f.is_finite())
    };
    (rounds >= 3).then(|| (0..RESAMPLES).filter_map(|_| draw()).collect())
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
    redrawn(rounds.len(), seed, |drawn| {
        let chosen: Vec<f64> = drawn.iter().map(|i| rounds[*i]).collect();
        median(&chosen)
    })
}

/// One of `count` places.
fn place(dice: &mut Dice, count: usize) -> usize {
    let bound = u32::try_from(count).unwrap_or(u32::MAX);
    usize::try_from(dice.below(bound)).unwrap_or(0)
}

/// The interval of the median of what `medians`, one for each round, were drawn from: from the
/// k-th smallest to the k-th largest, for the largest k that leaves at most 5 % outside (David and
/// Nagaraja, Order Statistics, 7.1). It is exact whatever the distribution, where a percentile
/// bootstrap of the median of 15 rounds holds the truth in 92 % of cases only.
///
/// `None` with fewer than three rounds. With fewer than [`ROUNDS_FOR_95`] it is the whole range.
#[must_use]
pub fn median_interval(medians: &[f64]) -> Option<Interval> {
    let mut sorted = medians.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let left_out = (1..sorted.len().div_ceil(2)).take_while(|k| outside(sorted.len(), *k) <= 0.05);
    let k = left_out.last().unwrap_or(1);
    let (low, high) = (sorted.get(k - 1)?, sorted.get(sorted.len().checked_sub(k)?)?);
    (sorted.len() >= 3).then_some(Interval { low: *low, high: *high })
}

/// With fewer rounds the true median lies outside of their whole range in more than 5 % of cases.
pub const ROUNDS_FOR_95: u32 = 6;

/// How likely the median of what `count` values are drawn from is not between the k-th smallest
/// and the k-th largest of them: fewer than k of them are on one side of it.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a count of rounds is far below 2^52")]
pub fn outside(count: usize, k: usize) -> f64 {
    // Logarithms of the binomial coefficients, because halves to the power of many rounds vanish.
    let first = -(count as f64) * std::f64::consts::LN_2;
    let logs = (0..k).scan(first, |log, chosen| {
        let this = *log;
        *log += ((count - chosen) as f64 / (chosen + 1) as f64).ln();
        Some(this)
    });
    2.0 * logs.map(f64::exp).sum::<f64>()
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

#[cfg(test)]
mod tests;
