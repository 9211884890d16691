//! Figures as people read them: three digits and a unit that fits.
//!
//! Invariant: text only; the record keeps the exact values.

/// The units of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Nanoseconds.
    Nanoseconds,
    /// Guest instructions.
    Instructions,
    /// Bytes.
    Bytes,
    /// How many times as much as something else.
    Times,
}

impl Unit {
    /// The unit in which this instrument counts time.
    pub(crate) fn of_instrument(name: &str) -> Self {
        match name {
            "guest" => Self::Instructions,
            _ => Self::Nanoseconds,
        }
    }

    /// `value` with the unit, to three digits: `4.31 µs`, `25 µs`, `1.2 s`.
    pub(crate) fn format(self, value: f64) -> String {
        let steps = match self {
            Self::Nanoseconds => [(1e9, " s"), (1e6, " ms"), (1e3, " µs"), (1.0, " ns")],
            Self::Instructions => [(1e9, " G"), (1e6, " M"), (1e3, " k"), (1.0, "")],
            Self::Bytes => [(1e9, " GB"), (1e6, " MB"), (1e3, " kB"), (1.0, " B")],
            Self::Times => [(1.0, " ×"); 4],
        };
        let fitting = steps.iter().find(|(size, _)| value.abs() >= *size);
        let (size, suffix) = *fitting.unwrap_or(&steps[3]);
        format!("{}{suffix}", three_digits(value / size))
    }

    /// What somebody does who has less of it.
    pub(crate) fn less(self) -> &'static str {
        match self {
            Self::Nanoseconds | Self::Times => "is faster",
            // Instructions are not time.
            Self::Instructions => "needs fewer",
            Self::Bytes => "needs less",
        }
    }

    /// What a multiple of it is.
    pub(crate) fn multiple(self) -> &'static str {
        match self {
            Self::Nanoseconds | Self::Times => "times as long",
            Self::Instructions => "times as many instructions",
            Self::Bytes => "times as much",
        }
    }

    /// What the axis of such values is called.
    pub(crate) fn axis(self) -> &'static str {
        match self {
            Self::Nanoseconds => "time",
            Self::Instructions => "instructions",
            Self::Bytes => "memory",
            Self::Times => "times",
        }
    }
}

/// `value` to three digits, without zeros that say nothing, and to two where it is very small.
pub(crate) fn three_digits(value: f64) -> String {
    let decimals = match value.abs() {
        v if v >= 999.5 => return grouped(&format!("{:.0}", to_three(value))),
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        v if v >= 0.0995 || v == 0.0 => 2,
        v if v >= 0.00995 => 3,
        v if v >= 0.000_995 => 4,
        _ => 5,
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// A number of Services: `1`, `10`, `1,000`.
pub(crate) fn count(value: u32) -> String {
    grouped(&value.to_string())
}

/// `value`, of four digits or more, with zeros in the place of all but three.
fn to_three(value: f64) -> f64 {
    let step = 10_f64.powf(value.abs().log10().floor() - 2.0);
    (value / step).round() * step
}

/// Digits with a comma after each thousand.
fn grouped(digits: &str) -> String {
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of Services in a sentence: `1 Service`, `1,000 Services`.
pub(crate) fn services(number: u32) -> String {
    match number {
        1 => "1 Service".to_owned(),
        n => format!("{} Services", count(n)),
    }
}

/// A number of Services on an axis: `1`, `100`, `1k`, `10k`, `1M`.
pub(crate) fn tick(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{}M", three_digits(v / 1e6)),
        v if v >= 1e3 => format!("{}k", three_digits(v / 1e3)),
        v => three_digits(v),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_three_digits_and_a_unit_that_fits() {
        let check = |value: f64, expected: &str| {
            assert_eq!(Unit::Nanoseconds.format(value), expected);
        };
        check(0.0, "0 ns");
        check(999.0, "999 ns");
        check(1_000.0, "1 µs");
        check(4_312.0, "4.31 µs");
        check(25_049.0, "25 µs");
        check(123_456.0, "123 µs");
        check(1_500_000.0, "1.5 ms");
        check(16.0e9, "16 s");
        assert_eq!(Unit::Instructions.format(17_382.0), "17.4 k");
        assert_eq!(Unit::Instructions.format(42.0), "42");
    }

    /// A ratio of hundreds of thousands is not known to the last digit, and one of a thousandth
    /// is not 0.
    #[test]
    fn ratios_have_three_digits_however_large_and_two_however_small() {
        let all = [106_137.0, 2_398.0, 999.6, 1.0, 0.85, 0.0731, 0.0031, 0.000_26, 0.0];
        let expected =
            ["106,000", "2,400", "1,000", "1", "0.85", "0.073", "0.0031", "0.00026", "0"];
        assert_eq!(all.map(three_digits), expected);
    }

    #[test]
    fn counts_and_ticks() {
        let counts = [1, 100, 1_000, 10_000, 1_000_000].map(count);
        assert_eq!(counts, ["1", "100", "1,000", "10,000", "1,000,000"]);
        let ticks = [1.0, 100.0, 1e3, 1e4, 1e6].map(tick);
        assert_eq!(ticks, ["1", "100", "1k", "10k", "1M"]);
    }
}
