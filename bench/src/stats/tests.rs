//! Figures on samples whose answers are known.

use super::*;

fn one_to(n: u64) -> Vec<u64> {
    (1..=n).rev().collect()
}

#[test]
fn percentiles_are_nearest_ranks() {
    let check = |samples: &[u64], per_mille: usize, expected: Option<u64>| {
        assert_eq!(percentile(samples, per_mille), expected, "{per_mille}");
    };
    // The example of the nearest-rank definition in common use: 15, 20, 35, 40, 50.
    let five = [15, 20, 35, 40, 50];
    check(&five, 0, Some(15));
    check(&five, 50, Some(15));
    check(&five, 300, Some(20));
    check(&five, 400, Some(20));
    check(&five, 500, Some(35));
    check(&five, 1000, Some(50));
    check(&[], 500, None);
    check(&[9], 1, Some(9));
    check(&[9], 999, Some(9));
}

#[test]
fn percentiles_of_a_hundred_and_of_a_thousand() {
    let hundred = Summary::of(&one_to(100)).expect("samples");
    assert_eq!(
        (hundred.p01, hundred.p50, hundred.p90, hundred.p99, hundred.p999),
        (1, 50, 90, 99, 100)
    );
    let thousand = Summary::of(&one_to(1000)).expect("samples");
    assert_eq!(
        (thousand.p01, thousand.p50, thousand.p99, thousand.p999, thousand.max),
        (10, 500, 990, 999, 1000)
    );
}

#[test]
fn a_summary_is_blind_to_order_and_keeps_the_extremes() {
    let forward: Vec<u64> = (1..=500).collect();
    assert_eq!(Summary::of(&forward), Summary::of(&one_to(500)));
    let one = Summary::of(&[42]).expect("a sample");
    assert_eq!((one.n, one.min, one.p50, one.max, one.mad), (1, 42, 42, 42, 0));
    assert_eq!(Summary::of(&[]), None);
}

#[test]
fn mad_is_not_moved_by_an_outlier() {
    let summary = Summary::of(&[10, 11, 12, 13, 1_000_000]).expect("samples");
    assert_eq!((summary.p50, summary.mad), (12, 1));
}

#[test]
fn medians_are_values_that_were_seen() {
    assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
    assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.0));
    assert_eq!(median(&[5.0]), Some(5.0));
    assert_eq!(median(&[]), None);
    assert_eq!(median(&[1.0, f64::NAN]), None);
}

#[test]
fn an_interval_holds_the_median_and_shrinks_with_more_rounds() {
    let rounds = |n: usize| -> Vec<f64> {
        let mut dice = Dice::new(11);
        (0..n).map(|_| 100.0 + f64::from(dice.below(21))).collect()
    };
    let few = median_interval(&rounds(7)).expect("enough rounds");
    let many = median_interval(&rounds(400)).expect("enough rounds");
    let truth = 110.0;
    assert!(few.contains(truth) && many.contains(truth), "{few:?} {many:?}");
    assert!(many.high - many.low < (few.high - few.low) / 2.0, "{few:?} {many:?}");
}

/// The promise of an interval: of many repetitions of the whole experiment, at least 95 % give
/// one that holds the true value.
#[test]
fn intervals_cover_the_truth_as_often_as_they_say() {
    let mut dice = Dice::new(5);
    for (rounds, expected) in [(3, 0.75), (5, 0.9375), (6, 0.969), (9, 0.961), (15, 0.965)] {
        let experiments = 4_000;
        let covered = (0..experiments)
            .filter(|_| {
                let medians: Vec<f64> =
                    (0..rounds).map(|_| f64::from(dice.below(100_001))).collect();
                median_interval(&medians).is_some_and(|i| i.contains(50_000.0))
            })
            .count();
        let share = covered as f64 / f64::from(experiments);
        assert!((share - expected).abs() < 0.02, "{rounds} rounds: {share}");
    }
}

/// The printed table of confidence intervals of the median: ranks 1 of 6, 2 of 9, 4 of 15, 6 of 20.
#[test]
fn ranks_of_the_median_agree_with_the_printed_table() {
    for (count, rank) in [(5_u32, 1_u32), (6, 1), (9, 2), (10, 2), (15, 4), (20, 6)] {
        let ranks: Vec<f64> = (1..=count).map(f64::from).collect();
        let found = median_interval(&ranks).expect("enough rounds");
        let ends = (f64::from(rank), f64::from(count + 1 - rank));
        assert_eq!((found.low, found.high), ends, "{count}");
    }
}

#[test]
fn no_interval_without_rounds_enough() {
    assert_eq!(median_interval(&[]), None);
    assert_eq!(median_interval(&[1.0, 2.0]), None);
    assert_eq!(bootstrap(5, 1, |_| None), None);
    let constant = median_interval(&[3.0; 5]).expect("enough rounds");
    assert_eq!((constant.low, constant.high), (3.0, 3.0));
}

#[test]
fn the_same_seed_gives_the_same_interval() {
    let rounds = [5.0, 9.0, 7.0, 6.0, 8.0, 5.5];
    let largest = |drawn: &[usize]| drawn.iter().map(|i| rounds[*i]).reduce(f64::max);
    assert!(bootstrap(6, 3, largest).is_some());
    assert_eq!(bootstrap(6, 3, largest), bootstrap(6, 3, largest));
    assert_ne!(redrawn(6, 3, largest), redrawn(6, 4, largest));
}

#[test]
fn a_line_is_found_again() {
    let points: Vec<_> = (0..10).map(|x| (f64::from(x), 3.0 + 2.0 * f64::from(x))).collect();
    let line = line_fit(&points).expect("a line");
    assert!((line.slope - 2.0).abs() < 1e-9 && (line.intercept - 3.0).abs() < 1e-9);
    assert!((line.r_squared - 1.0).abs() < 1e-9);
    assert_eq!(line_fit(&[(1.0, 1.0)]), None);
    assert_eq!(line_fit(&[(1.0, 1.0), (1.0, 2.0)]), None);
    assert_eq!(line_fit(&[]), None);
}

#[test]
fn scatter_around_a_line_lowers_r_squared() {
    let noisy = [(1.0, 1.0), (2.0, 5.0), (3.0, 2.0), (4.0, 6.0)];
    let line = line_fit(&noisy).expect("a line");
    assert!((0.2..0.9).contains(&line.r_squared), "{line:?}");
}
