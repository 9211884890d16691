//! From values to places on the paper, by their logarithm, and the round values in between.
//!
//! Invariant: numbers only; draws nothing.

/// From values to places on the paper.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    pub(super) low: f64,
    pub(super) high: f64,
    from: i32,
    to: i32,
}

impl Scale {
    /// The place of `value`; what is off the scale is put at its end.
    #[expect(clippy::cast_possible_truncation, reason = "a place on the paper is a few hundred")]
    pub(super) fn place(self, value: f64) -> i32 {
        let value = value.clamp(self.low, self.high);
        let share = (value / self.low).ln() / (self.high / self.low).ln();
        self.from + (share * f64::from(self.to - self.from)).round() as i32
    }

    /// A scale that holds all `values`, begins and ends at one of 1, 2, 5 times a power of
    /// ten, and spans at least `span`: noise of a few percent must not fill the paper.
    pub(super) fn around(
        values: impl Iterator<Item = f64> + Clone,
        span: f64,
        ends: (i32, i32),
    ) -> Self {
        let lowest = values.clone().fold(f64::INFINITY, f64::min).max(1e-9);
        let highest = values.fold(lowest, f64::max);
        let spare = (span / (highest / lowest)).max(1.0).sqrt();
        Self {
            low: round_down(lowest / spare),
            high: round_up(highest * spare, &[1.0, 2.0, 5.0]),
            from: ends.0,
            to: ends.1,
        }
    }

    /// The round values on the scale: each 1, 2 and 5 when there are few decades.
    pub(super) fn ticks(self) -> Vec<f64> {
        let decades = (self.high / self.low).log10();
        let steps: &[f64] = match decades {
            d if d <= 2.5 => &[1.0, 2.0, 5.0],
            d if d <= 4.0 => &[1.0, 3.0],
            _ => &[1.0],
        };
        let powers = std::iter::successors(Some(power_below(self.low)), |p| Some(p * 10.0));
        powers
            .take_while(|p| *p <= self.high * 1.001)
            .flat_map(|p| steps.iter().map(move |s| s * p))
            .filter(|v| (self.low * 0.999..=self.high * 1.001).contains(v))
            .collect()
    }
}

fn power_below(value: f64) -> f64 {
    10_f64.powf((value * 1.000_001).log10().floor())
}

fn round_down(value: f64) -> f64 {
    let power = power_below(value);
    let steps = [5.0, 2.0, 1.0].map(|s| s * power);
    steps.into_iter().find(|s| *s <= value * 1.001).unwrap_or(power)
}

/// The least of these `steps`, or of ten, times a power of ten that is not below `value`.
pub(super) fn round_up(value: f64, steps: &[f64]) -> f64 {
    let power = power_below(value);
    let mut steps = steps.iter().map(|step| step * power);
    steps.find(|step| *step >= value * 0.999).unwrap_or(power * 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_begins_and_ends_at_round_values_and_holds_all() {
        let scale = Scale::around([3_100.0, 51_000.0].into_iter(), 10.0, (0, 100));
        assert_eq!((scale.low, scale.high), (2_000.0, 100_000.0));
        assert_eq!((scale.place(2_000.0), scale.place(100_000.0)), (0, 100));
        assert!(scale.ticks().contains(&5_000.0));
    }

    #[test]
    fn an_end_is_the_next_of_its_steps() {
        let ends = [0.9, 1.0, 33.5, 410.0, 9_000.0].map(|v| round_up(v, &[1.0, 2.0, 4.0]));
        assert_eq!(ends, [1.0, 1.0, 40.0, 1_000.0, 10_000.0]);
    }

    /// Noise of a few percent must look like nothing.
    #[test]
    fn a_scale_spans_a_decade_at_least() {
        let scale = Scale::around([3_900.0, 4_100.0].into_iter(), 10.0, (0, 100));
        assert!(scale.high / scale.low >= 10.0, "{scale:?}");
        assert!((scale.place(4_100.0) - scale.place(3_900.0)).abs() < 4);
    }

    #[test]
    fn ticks_are_few_whatever_the_span() {
        for span in [10.0, 100.0, 1e3, 1e4, 1e6, 1e9] {
            let scale = Scale::around([1.0, span].into_iter(), 10.0, (0, 100));
            let ticks = scale.ticks().len();
            assert!((3..=11).contains(&ticks), "{span}: {ticks}");
        }
    }
}
