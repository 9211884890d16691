//! Whether one set of rounds is below another, by ranks: the test of Mann and Whitney (1947)
//! with the effect size of Vargha and Delaney (2000).
//!
//! Ranks ask nothing of the shape of a distribution, and one wild round counts no more than
//! any other that is on the same side.
//!
//! Invariant: pure functions of numbers.

/// What a comparison of two sets says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// How likely a difference at least as clear is, in either direction, when both sets are
    /// rounds of the same thing.
    pub p: f64,
    /// The effect size A of Vargha and Delaney: how likely a round of the first set is below
    /// one of the second, ties counted half. 0.5: neither; 1: always. Cliff's delta is
    /// `2 A - 1`.
    pub below: f64,
}

/// A difference that chance alone makes in fewer than one of a hundred comparisons is called
/// one. A report makes some dozens of comparisons, and does not correct for their number.
pub const SIGNIFICANT: f64 = 0.01;

/// With fewer rounds on either side no difference, however clear, is [`SIGNIFICANT`].
pub const ROUNDS_MIN: usize = 5;

/// More rounds than these make the exact test slow without making it any better.
const ROUNDS_MAX: usize = 60;

/// Compares the rounds `ours` with the rounds `theirs`; `None` with fewer than
/// [`ROUNDS_MIN`] of either. Of more than 60 rounds the first 60 are compared.
///
/// The test is exact, ties included: of all ways to deal the ranks to two sets of these sizes
/// it counts those with a rank sum as far from the middle.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "there are at most 120 rounds")]
pub fn compare(ours: &[f64], theirs: &[f64]) -> Option<Comparison> {
    let [ours, theirs] = [ours, theirs].map(|set| &set[..set.len().min(ROUNDS_MAX)]);
    if ours.len().min(theirs.len()) < ROUNDS_MIN {
        return None;
    }
    let all: Vec<f64> = ours.iter().chain(theirs).copied().collect();
    let ranks: Vec<usize> = all.iter().map(|value| doubled_rank(*value, &all)).collect();
    let sum: usize = ranks[..ours.len()].iter().sum();
    let (n, m) = (ours.len() as f64, theirs.len() as f64);
    // The rank sum without what it is at least, halved because ranks are doubled.
    let above = (sum as f64 / 2.0 - n * (n + 1.0) / 2.0) / (n * m);
    Some(Comparison { p: share_as_far(&ranks, ours.len(), sum), below: 1.0 - above })
}

/// Twice the middle rank of `value` among `all`: a whole number also where there are ties.
fn doubled_rank(value: f64, all: &[f64]) -> usize {
    let below = all.iter().filter(|other| **other < value).count();
    let equal = all.iter().filter(|other| **other == value).count();
    2 * below + equal + 1
}

/// Which share of all ways to choose `count` of `ranks` has a sum at least as far from the
/// middle as `sum`.
fn share_as_far(ranks: &[usize], count: usize, sum: usize) -> f64 {
    let total: usize = ranks.iter().sum();
    // How many ways there are to choose so many ranks with such a sum.
    let mut ways = vec![vec![0.0_f64; total + 1]; count + 1];
    ways[0][0] = 1.0;
    for rank in ranks {
        for chosen in (1..=count).rev() {
            let (fewer, more) = ways.split_at_mut(chosen);
            for place in *rank..=total {
                more[0][place] += fewer[chosen - 1][place - rank];
            }
        }
    }
    // Twice the mean of such a sum, times the number of ranks, is a whole number.
    let distance = |sum: usize| (sum * ranks.len()).abs_diff(total * count);
    let observed = distance(sum);
    let as_far = ways[count].iter().enumerate().filter(|(sum, _)| distance(*sum) >= observed);
    as_far.map(|(_, ways)| ways).sum::<f64>() / ways[count].iter().sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The extreme order of five and five has 2 of 252 ways.
    #[test]
    fn two_sets_apart_are_as_clear_as_can_be() {
        let low = [1.0, 2.0, 3.0, 4.0, 5.0];
        let high = low.map(|v| v + 10.0);
        let found = compare(&low, &high).expect("five rounds");
        assert!((found.p - 2.0 / 252.0).abs() < 1e-12, "{found:?}");
        assert_eq!(found.below, 1.0);
        let other = compare(&high, &low).expect("five rounds");
        assert_eq!((other.p, other.below), (found.p, 0.0));
        assert!(found.p < SIGNIFICANT, "five rounds are enough for a claim");
    }

    /// Table of Mann and Whitney for n = m = 5: P(U <= 2) is 0.016 on one side.
    #[test]
    fn the_test_agrees_with_the_printed_table() {
        let (ours, theirs) = ([1.0, 2.0, 3.0, 4.0, 7.0], [5.0, 6.0, 8.0, 9.0, 10.0]);
        let found = compare(&ours, &theirs).expect("five rounds");
        assert!((found.p - 2.0 * 4.0 / 252.0).abs() < 1e-12, "{found:?}");
        assert!((found.below - 23.0 / 25.0).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn the_same_rounds_show_no_difference() {
        let same = [3.0, 1.0, 2.0, 2.0, 5.0, 4.0];
        let found = compare(&same, &same).expect("six rounds");
        assert_eq!((found.p, found.below), (1.0, 0.5));
        let flat = compare(&[7.0; 5], &[7.0; 9]).expect("rounds");
        assert_eq!((flat.p, flat.below), (1.0, 0.5));
    }

    #[test]
    fn few_rounds_are_no_test_and_many_are_one() {
        assert_eq!(compare(&[1.0; 4], &[2.0; 50]), None);
        let many: Vec<f64> = (0..100).map(f64::from).collect();
        let more: Vec<f64> = many.iter().map(|v| v + 30.0).collect();
        assert!(compare(&many, &more).is_some_and(|found| found.p < 1e-6));
    }
}
