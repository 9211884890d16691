//! The law by which a cost grows with size: a fixed part, and one that grows as a power of it.
//!
//! Invariant: pure functions of numbers.

use super::line_fit;

/// How a cost grows with size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Growth {
    /// At no larger size more than 1.25 times the lowest cost.
    Flat {
        /// The largest cost over the lowest.
        factor: f64,
    },
    /// A fixed part and one that grows as a power of the size.
    Power(Power),
    /// It grows, but at too few sizes or too unsteadily to tell how.
    Unclear,
}

/// The law `fixed + growing (size / largest)^exponent`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Power {
    /// The exponent, to a hundredth: 1 is linear, 2 quadratic.
    pub exponent: f64,
    /// What the cost is made of besides, whatever the size.
    pub fixed: f64,
    /// What has grown at the largest size.
    growing: f64,
    /// The largest size.
    largest: f64,
    /// At how many sizes it was fitted. Through three such a law can always be drawn.
    pub sizes: usize,
    /// The largest distance of the law from a cost, as a share of that cost.
    pub misfit: f64,
}

/// A cost that nowhere exceeds this many times the lowest is called flat. Between 1 and
/// 50,000 elements a hash table of the kernel gets slower by up to a fifth, because it no
/// longer fits the caches.
const FLAT_FACTOR: f64 = 1.25;

/// At two sizes at least a cost has to be this many times the lowest, or it is not said how it
/// grows: rounds of the same cell differ by a few percent.
const GROWN_FACTOR: f64 = 1.05;

/// A law that is further off than this at any size is none. Loads of rules, which the kernel
/// allocates in steps, are off by an eighth.
const MISFIT_MAX: f64 = 0.2;

/// Exponents that are tried, in hundredths: from nearly logarithmic to the fourth power.
const EXPONENTS: (u32, u32) = (5, 400);

/// The law of growth through `points` of (size, cost).
///
/// A cost is a fixed part and a growing one. The slope of the whole on logarithmic scales
/// ([`whole_exponent`]) would call every law flat while the fixed part is the larger one, and
/// taking the lowest cost off first, and fitting the logarithms of what is left, would weigh
/// the smallest differences, which are mostly noise, as much as the largest. So both parts are
/// fitted at once, by least squares of the distance relative to the cost, because rounds of a
/// cell differ by so many percent of it, whatever it is.
///
/// Sizes below that of the lowest cost are left out. `None` without two sizes of positive cost.
#[must_use]
pub fn growth(points: &[(f64, f64)]) -> Option<Growth> {
    let (x0, y0) = lowest(points)?;
    points.iter().find(|(x, y)| *y > 0.0 && *x != x0)?;
    let larger = || points.iter().filter(|(x, y)| *y > 0.0 && *x > x0);
    let factor = larger().map(|(_, y)| y / y0).fold(1.0, f64::max);
    if factor <= FLAT_FACTOR {
        return Some(Growth::Flat { factor });
    }
    let fitted = power(points).filter(|power| power.misfit <= MISFIT_MAX);
    Some(fitted.map_or(Growth::Unclear, Growth::Power))
}

/// The cost at `size`, larger than all of `points`, by the law of [`growth`] through them, and
/// its exponent; `None` when they have none.
#[must_use]
pub fn extrapolate(points: &[(f64, f64)], size: f64) -> Option<(f64, f64)> {
    let power = power(points).filter(|power| power.misfit <= MISFIT_MAX)?;
    (size > power.largest).then(|| (power.at(size), power.exponent))
}

/// The slope of the whole cost over all sizes on logarithmic scales, by least squares, with
/// nothing taken off; `None` without two sizes of positive cost.
#[must_use]
pub fn whole_exponent(points: &[(f64, f64)]) -> Option<f64> {
    let logs: Vec<(f64, f64)> = points
        .iter()
        .filter(|(x, y)| *x > 0.0 && *y > 0.0)
        .map(|(x, y)| (x.ln(), y.ln()))
        .collect();
    line_fit(&logs).map(|line| line.slope)
}

impl Power {
    /// The cost at `size` by this law.
    #[must_use]
    pub fn at(&self, size: f64) -> f64 {
        self.fixed + self.growing * (size / self.largest).powf(self.exponent)
    }
}

/// The point of the lowest positive cost, the smallest of several.
fn lowest(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let positive = points.iter().filter(|(_, y)| *y > 0.0);
    positive.min_by(|a, b| a.1.total_cmp(&b.1).then(a.0.total_cmp(&b.0))).copied()
}

/// The law that fits best, however badly; `None` where too few sizes cost more than the lowest.
fn power(points: &[(f64, f64)]) -> Option<Power> {
    let (x0, y0) = lowest(points)?;
    let fitted: Vec<(f64, f64)> =
        points.iter().filter(|(x, y)| *x >= x0 && *y > 0.0).copied().collect();
    if fitted.iter().filter(|(_, y)| *y > GROWN_FACTOR * y0).count() < 2 {
        return None;
    }
    let exponent = f64::from(exponent(&fitted)?) / 100.0;
    let (fixed, growing) = parts(&fitted, exponent)?;
    let law = Power {
        exponent,
        fixed,
        growing,
        largest: largest(&fitted),
        sizes: fitted.len(),
        misfit: 0.0,
    };
    let off = fitted.iter().map(|(x, y)| (law.at(*x) / y - 1.0).abs());
    Some(Power { misfit: off.fold(0.0, f64::max), ..law })
}

fn largest(points: &[(f64, f64)]) -> f64 {
    points.iter().map(|(x, _)| *x).fold(0.0, f64::max)
}

/// The exponent, in hundredths, that comes nearest to `points`: a search in three steps, each
/// around what the one before has found, because the distance has one lowest place.
fn exponent(points: &[(f64, f64)]) -> Option<u32> {
    let (low, high) = EXPONENTS;
    let mut found = best(points, (low..=high).step_by(25))?;
    for (reach, step) in [(20, 5), (4, 1)] {
        let around = found.saturating_sub(reach).max(low)..=(found + reach).min(high);
        found = best(points, around.step_by(step))?;
    }
    Some(found)
}

/// The one of these exponents, in hundredths, that comes nearest to `points`.
fn best(points: &[(f64, f64)], exponents: impl Iterator<Item = u32>) -> Option<u32> {
    let largest = largest(points);
    let distance = |exponent: u32| {
        let exponent = f64::from(exponent) / 100.0;
        let (fixed, growing) = parts(points, exponent)?;
        let off = |(x, y): &(f64, f64)| (fixed + growing * (x / largest).powf(exponent)) / y - 1.0;
        Some(points.iter().map(|point| off(point).powi(2)).sum::<f64>())
    };
    let all = exponents.filter_map(|exponent| Some((exponent, distance(exponent)?)));
    all.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(exponent, _)| exponent)
}

/// The fixed part, and what has grown at the largest size, that come nearest to `points` with
/// this exponent; neither is below 0. `None` when nothing grows.
fn parts(points: &[(f64, f64)], exponent: f64) -> Option<(f64, f64)> {
    let largest = largest(points);
    // The normal equations of 1 = fixed / y + growing (x / largest)^exponent / y.
    let (mut aa, mut ab, mut bb, mut a, mut b) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (x, y) in points {
        let (one, grown) = (1.0 / y, (x / largest).powf(exponent) / y);
        aa += one * one;
        ab += one * grown;
        bb += grown * grown;
        a += one;
        b += grown;
    }
    let determinant = aa * bb - ab * ab;
    let fixed = (a * bb - b * ab) / determinant;
    let (fixed, growing) =
        if fixed > 0.0 { (fixed, (b * aa - a * ab) / determinant) } else { (0.0, b / bb) };
    (growing > 0.0).then_some((fixed, growing))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nfc_ir::synth::Dice;

    const SIZES: [f64; 5] = [1.0, 10.0, 100.0, 1_000.0, 10_000.0];

    fn law(f: impl Fn(f64) -> f64) -> Growth {
        let points: Vec<_> = SIZES.iter().map(|x| (*x, f(*x))).collect();
        growth(&points).expect("sizes enough")
    }

    fn found(growth: Growth) -> Power {
        match growth {
            Growth::Power(power) => power,
            other => panic!("{other:?} has no exponent"),
        }
    }

    #[test]
    fn laws_are_told_apart_in_spite_of_a_fixed_cost() {
        // A first packet with iptables: 4 us and 2 ns for each Service. The slope of the whole
        // is about 0.15.
        let linear = found(law(|n| 4_000.0 + 2.0 * n));
        assert_eq!((linear.exponent, linear.sizes), (1.0, 5));
        assert!((linear.fixed - 4_000.0).abs() < 1.0 && linear.misfit < 1e-6, "{linear:?}");
        let quadratic = found(law(|n| 1e6 + 90.0 * n * n));
        assert_eq!(quadratic.exponent, 2.0);
        let root = found(law(|n| 100.0 + 50.0 * n.sqrt()));
        assert_eq!(root.exponent, 0.5);
        let pure = found(law(|n| 7.0 * n));
        assert_eq!(pure.exponent, 1.0);
        assert!(pure.fixed < 0.1, "{pure:?}");
    }

    /// Rounds of a cell differ by a few percent, and at small sizes that is more than what has
    /// grown there. It must not weigh as much as what has grown at the largest.
    #[test]
    fn noise_of_a_few_percent_moves_the_exponent_by_a_few_hundredths() {
        let mut dice = Dice::new(3);
        for _ in 0..200 {
            let mut noisy = |value: f64| value * (0.98 + f64::from(dice.below(41)) / 1_000.0);
            let points: Vec<_> = SIZES.iter().map(|n| (*n, noisy(5_300.0 + 1.3 * n))).collect();
            let exponent = found(growth(&points).expect("sizes")).exponent;
            assert!((exponent - 1.0).abs() <= 0.1, "{exponent} of {points:?}");
        }
    }

    /// A linear part below a quadratic one, as kube-proxy's rulesets load: what is named is what
    /// weighs at the sizes that were measured.
    #[test]
    fn the_part_that_weighs_most_gives_its_name() {
        let load = found(law(|n| 14e6 + 60e3 * n + 89.0 * n * n));
        assert!((1.7..=1.95).contains(&load.exponent), "{load:?}");
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
        let linear = found(growth(&points).expect("sizes enough"));
        assert_eq!((linear.exponent, linear.sizes), (1.0, 4));
        let falling = [(1.0, 90.0), (10.0, 60.0), (100.0, 40.0)];
        assert_eq!(growth(&falling), Some(Growth::Flat { factor: 1.0 }));
    }

    #[test]
    fn growth_seen_at_one_size_only_has_no_exponent() {
        let points = [(1.0, 100.0), (10.0, 101.0), (100.0, 200.0)];
        assert_eq!(growth(&points), Some(Growth::Unclear));
    }

    #[test]
    fn growth_needs_two_sizes() {
        assert_eq!(growth(&[]), None);
        assert_eq!(growth(&[(10.0, 5.0)]), None);
        assert_eq!(growth(&[(10.0, 5.0), (10.0, 6.0)]), None);
        assert_eq!(growth(&[(1.0, 0.0), (10.0, 6.0)]), None);
    }

    /// Between 1,000 and 100,000 the slope between the ends hides that the second decade is
    /// steeper than the first; the law with a fixed part says it.
    #[test]
    fn the_slope_of_the_whole_takes_nothing_off() {
        let whole = |points: &[(f64, f64)]| whole_exponent(points).expect("two sizes");
        assert!((whole(&[(1.0, 7.0), (10.0, 70.0), (1e3, 7e3)]) - 1.0).abs() < 1e-9);
        let points = [(1e3, 5.5), (1e4, 49.3), (1e5, 585.0)];
        let (steep, flat) = (found(growth(&points).expect("sizes")).exponent, whole(&points));
        assert!((1.05..1.12).contains(&steep) && (1.0..1.03).contains(&flat), "{steep} {flat}");
        assert_eq!(whole_exponent(&[(1.0, 7.0)]), None);
        assert_eq!(whole_exponent(&[(1.0, 0.0), (10.0, 3.0)]), None);
    }

    #[test]
    fn a_law_goes_on_beyond_the_largest_size() {
        let law = |x: f64| 5.0 + 0.002 * x * x;
        let points: Vec<_> = [1.0, 100.0, 1_000.0, 3_000.0].map(|x| (x, law(x))).to_vec();
        let (value, exponent) = extrapolate(&points, 30_000.0).expect("it grows");
        assert!((value / law(30_000.0) - 1.0).abs() < 0.01 && exponent == 2.0);
        assert_eq!(extrapolate(&points, 3_000.0), None, "it was measured");
        assert_eq!(extrapolate(&points[..1], 30_000.0), None, "one size is no law");
    }

    /// What goes up and then down again has no law, and nothing is made of it.
    #[test]
    fn what_is_unsteady_has_no_law() {
        let points = [(1_000.0, 10.0), (2_500.0, 90.0), (5_000.0, 40.0), (10_000.0, 30.0)];
        assert_eq!(growth(&points), Some(Growth::Unclear));
        assert_eq!(extrapolate(&points, 30_000.0), None);
    }
}
