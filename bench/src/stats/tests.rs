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
    let few = median_interval(&rounds(7), 1).expect("enough rounds");
    let many = median_interval(&rounds(400), 1).expect("enough rounds");
    let truth = 110.0;
    assert!(few.contains(truth) && many.contains(truth), "{few:?} {many:?}");
    assert!(many.high - many.low < (few.high - few.low) / 2.0, "{few:?} {many:?}");
}

/// The promise of an interval: of many repetitions of the whole experiment, about 95 %
/// give one that holds the true value. The percentile bootstrap of a median of 15 keeps
/// it within a few points.
#[test]
fn intervals_cover_the_truth_as_often_as_they_say() {
    let mut dice = Dice::new(5);
    let experiments = 300;
    let covered = (0..experiments)
        .filter(|seed| {
            let medians: Vec<f64> = (0..15).map(|_| f64::from(dice.below(1_001))).collect();
            median_interval(&medians, *seed).is_some_and(|i| i.contains(500.0))
        })
        .count();
    let share = covered as f64 / experiments as f64;
    assert!((0.90..=0.99).contains(&share), "{share}");
}

#[test]
fn no_interval_without_rounds_enough() {
    assert_eq!(median_interval(&[1.0, 2.0], 1), None);
    assert_eq!(bootstrap(5, 1, |_| None), None);
    let constant = median_interval(&[3.0; 5], 1).expect("enough rounds");
    assert_eq!((constant.low, constant.high), (3.0, 3.0));
}

#[test]
fn the_same_seed_gives_the_same_interval() {
    let medians = [5.0, 9.0, 7.0, 6.0, 8.0];
    assert_eq!(median_interval(&medians, 3), median_interval(&medians, 3));
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

fn law(f: impl Fn(f64) -> f64) -> Growth {
    let sizes = [1.0, 10.0, 100.0, 1_000.0, 10_000.0];
    let points: Vec<_> = sizes.iter().map(|x| (*x, f(*x))).collect();
    growth(&points).expect("sizes enough")
}

fn exponent(growth: Growth) -> f64 {
    match growth {
        Growth::Power { exponent, .. } => exponent,
        other => panic!("{other:?} has no exponent"),
    }
}

#[test]
fn laws_are_told_apart_in_spite_of_a_fixed_cost() {
    // A first packet with iptables: 4 us and 2 ns for each Service. A log-log fit of the
    // whole would give an exponent of about 0.15.
    let linear = exponent(law(|n| 4_000.0 + 2.0 * n));
    assert!((linear - 1.0).abs() < 0.01, "{linear}");
    let quadratic = exponent(law(|n| 1e6 + 90.0 * n * n));
    assert!((quadratic - 2.0).abs() < 0.01, "{quadratic}");
    let root = exponent(law(|n| 100.0 + 50.0 * n.sqrt()));
    assert!((0.35..0.6).contains(&root), "{root}");
}

#[test]
fn a_hash_table_that_leaves_the_cache_is_flat() {
    let flat = law(|n| 4_300.0 + 180.0 * n.log10());
    assert!(matches!(flat, Growth::Flat { factor } if factor > 1.1), "{flat:?}");
    assert_eq!(law(|_| 7.0), Growth::Flat { factor: 1.0 });
}

/// With one Service some work is done that is shared when there are more: the fixed part
/// is then not the cost at the smallest size.
#[test]
fn a_smallest_size_that_costs_more_does_not_hide_the_law() {
    let points = [(1.0, 90.0), (10.0, 40.0), (100.0, 49.0), (1e3, 139.0), (1e4, 1_039.0)];
    let found = exponent(growth(&points).expect("sizes enough"));
    assert!((found - 1.0).abs() < 0.02, "{found}");
    let falling = [(1.0, 90.0), (10.0, 60.0), (100.0, 40.0)];
    assert_eq!(growth(&falling), Some(Growth::Flat { factor: 1.0 }));
}

#[test]
fn growth_seen_at_one_size_only_has_no_exponent() {
    let points = [(1.0, 100.0), (10.0, 101.0), (100.0, 200.0)];
    assert_eq!(growth(&points), Some(Growth::Unclear { factor: 2.0 }));
}

#[test]
fn growth_needs_two_sizes() {
    assert_eq!(growth(&[]), None);
    assert_eq!(growth(&[(10.0, 5.0)]), None);
    assert_eq!(growth(&[(10.0, 5.0), (10.0, 6.0)]), None);
    assert_eq!(growth(&[(1.0, 0.0), (10.0, 6.0)]), None);
}

#[test]
fn a_law_goes_on_beyond_the_largest_size() {
    let law = |x: f64| 5.0 + 0.002 * x * x;
    let points: Vec<_> = [1.0, 100.0, 1_000.0, 3_000.0].map(|x| (x, law(x))).to_vec();
    let (value, exponent) = extrapolate(&points, 30_000.0).expect("it grows");
    assert!((value / law(30_000.0) - 1.0).abs() < 0.05 && (exponent - 2.0).abs() < 0.05);
    assert_eq!(extrapolate(&points[..1], 30_000.0), None, "one size is no law");
}

/// What goes up and then down again has no law, and nothing is made of it.
#[test]
fn what_is_unsteady_has_no_law() {
    let points = [(1_000.0, 10.0), (2_500.0, 90.0), (5_000.0, 40.0), (10_000.0, 30.0)];
    assert_eq!(growth(&points), Some(Growth::Unclear { factor: 9.0 }));
    assert_eq!(extrapolate(&points, 30_000.0), None);
}
