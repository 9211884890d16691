//! Samples as ascending values with counts: every one of them, in the room of a histogram.
//!
//! Invariant: nothing is rounded; what was sampled can be had back, but for its order.

use super::{Interval, bootstrap, percentile_rank};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Samples of one round, as ascending values and how often each was seen.
///
/// In the record it is a list of numbers: a value, its count, how much larger the next value
/// is, its count, and so on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Vec<u64>", try_from = "Vec<u64>")]
pub struct Distribution(Vec<(u64, u64)>);

impl Distribution {
    /// That of `samples`.
    #[must_use]
    pub fn of(samples: &[u64]) -> Self {
        let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
        for sample in samples {
            *counts.entry(*sample).or_default() += 1;
        }
        Self(counts.into_iter().collect())
    }

    /// The samples, ascending.
    #[must_use]
    pub fn samples(&self) -> Vec<u64> {
        let repeated = |(value, count): &(u64, u64)| {
            std::iter::repeat_n(*value, usize::try_from(*count).unwrap_or(usize::MAX))
        };
        self.0.iter().flat_map(repeated).collect()
    }
}

impl From<Distribution> for Vec<u64> {
    fn from(distribution: Distribution) -> Self {
        let mut last = 0;
        let mut flat = |(value, count): (u64, u64)| {
            let step = value - last;
            last = value;
            [step, count]
        };
        distribution.0.into_iter().flat_map(&mut flat).collect()
    }
}

/// A list that is no distribution.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("counts are pairs of a step and a count above 0, and no step but the first is 0")]
pub struct NoDistribution;

impl TryFrom<Vec<u64>> for Distribution {
    type Error = NoDistribution;

    fn try_from(flat: Vec<u64>) -> Result<Self, NoDistribution> {
        let mut value: u64 = 0;
        let pairs = flat.chunks(2).enumerate().map(|(n, pair)| {
            let [step, count] = *pair else { return Err(NoDistribution) };
            value = value.checked_add(step).ok_or(NoDistribution)?;
            if count == 0 || (n > 0 && step == 0) {
                Err(NoDistribution)
            } else {
                Ok((value, count))
            }
        });
        pairs.collect::<Result<_, _>>().map(Self)
    }
}

/// Several rounds together, from which rounds can be drawn anew.
#[derive(Clone, Debug)]
pub struct Pool {
    /// All values, ascending.
    values: Vec<u64>,
    /// For each round how many of its samples do not exceed each of the values.
    up_to: Vec<Vec<u64>>,
}

impl Pool {
    /// These rounds.
    #[must_use]
    pub fn of(rounds: &[&Distribution]) -> Self {
        let mut values: Vec<u64> =
            rounds.iter().flat_map(|r| r.0.iter().map(|(value, _)| *value)).collect();
        values.sort_unstable();
        values.dedup();
        let up_to = rounds.iter().map(|round| counts_up_to(round, &values)).collect();
        Self { values, up_to }
    }

    /// The percentile of all samples of the rounds `drawn`, of which some may be drawn
    /// several times; `None` when there is no sample.
    #[must_use]
    pub fn percentile(&self, drawn: &[usize], per_mille: usize) -> Option<u64> {
        let up_to = |place: usize| drawn.iter().map(|round| self.up_to[*round][place]).sum::<u64>();
        let total = usize::try_from(up_to(self.values.len().checked_sub(1)?)).ok()?;
        let rank = u64::try_from(percentile_rank(total, per_mille)).ok()?;
        let places: Vec<usize> = (0..self.values.len()).collect();
        let place = places.partition_point(|place| up_to(*place) < rank);
        self.values.get(place).copied()
    }

    /// The 95 % interval of the percentile of all samples, when rounds are drawn anew.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of 52 days are exact")]
    pub fn interval(&self, per_mille: usize, seed: u64) -> Option<Interval> {
        bootstrap(self.up_to.len(), seed, |drawn| {
            self.percentile(drawn, per_mille).map(|value| value as f64)
        })
    }

    /// What share of all samples does not exceed each of the values, ascending.
    #[expect(clippy::cast_precision_loss, reason = "there are fewer samples than 2^52")]
    pub fn shares(&self) -> impl Iterator<Item = (u64, f64)> + '_ {
        let up_to = |place: usize| self.up_to.iter().map(|round| round[place]).sum::<u64>() as f64;
        let total = self.values.len().checked_sub(1).map_or(1.0, up_to);
        self.values.iter().enumerate().map(move |(place, value)| (*value, up_to(place) / total))
    }
}

fn counts_up_to(round: &Distribution, values: &[u64]) -> Vec<u64> {
    let mut left = round.0.iter().peekable();
    let mut count = 0;
    let up_to = |value: &u64| {
        while let Some((_, more)) = left.next_if(|(own, _)| own <= value) {
            count += more;
        }
        count
    };
    values.iter().map(up_to).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{Summary, percentile};
    use nfc_ir::synth::Dice;

    fn rounds() -> Vec<Vec<u64>> {
        let mut dice = Dice::new(7);
        let mut round = |n: u32| (0..n).map(|_| 4_000 + u64::from(dice.below(50)) * 10).collect();
        [100, 57, 200].map(&mut round).to_vec()
    }

    #[test]
    fn what_is_written_is_every_sample() {
        for mut samples in rounds() {
            let distribution = Distribution::of(&samples);
            let written = serde_json::to_string(&distribution).expect("numbers");
            let read: Distribution = serde_json::from_str(&written).expect("a distribution");
            samples.sort_unstable();
            assert_eq!(read.samples(), samples, "{written}");
        }
        let written = serde_json::to_string(&Distribution::of(&[7, 5, 7])).expect("numbers");
        assert_eq!(written, "[5,1,2,2]");
    }

    #[test]
    fn what_is_no_distribution_is_refused() {
        for text in ["[5]", "[5,1,0,1]", "[5,0]", "[18446744073709551615,1,1,1]"] {
            assert!(serde_json::from_str::<Distribution>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_pool_has_the_percentiles_of_its_samples_put_together() {
        let rounds = rounds();
        let distributions: Vec<_> = rounds.iter().map(|r| Distribution::of(r)).collect();
        let pool = Pool::of(&distributions.iter().collect::<Vec<_>>());
        for drawn in [vec![0, 1, 2], vec![1], vec![2, 2, 0]] {
            let mut all: Vec<u64> = drawn.iter().flat_map(|i| rounds[*i].clone()).collect();
            all.sort_unstable();
            for per_mille in [1, 10, 500, 990, 1000] {
                assert_eq!(pool.percentile(&drawn, per_mille), percentile(&all, per_mille));
            }
        }
        let all = Summary::of(&rounds.concat()).expect("samples");
        let interval = pool.interval(990, 1).expect("three rounds");
        assert!(interval.low <= all.p99 as f64 && all.p99 as f64 <= interval.high, "{interval:?}");
    }

    #[test]
    fn shares_end_with_all() {
        let distributions = rounds().iter().map(|r| Distribution::of(r)).collect::<Vec<_>>();
        let pool = Pool::of(&distributions.iter().collect::<Vec<_>>());
        let shares: Vec<_> = pool.shares().collect();
        assert!(shares.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1));
        assert_eq!(shares.last().map(|s| s.1), Some(1.0));
        assert_eq!(Pool::of(&[]).shares().count(), 0);
    }
}
