//! What the figures say, in sentences that are worked out from them.
//!
//! Invariant: no sentence says what the figures do not; where they are too few or too
//! noisy, the sentence says that.

use crate::metric::{Metric, Operation, Part};
use crate::plan::BASELINE;
use crate::report::duel::{self, Rivals, ratio};
use crate::report::quantity::{Unit, count, services, three_digits};
use crate::report::series::{self, Series, Study, real};
use crate::stats::{self, Growth, Interval, Power};

/// The findings about `metric`, as lines of a Markdown list; of an update the kernel's part
/// has its own.
pub(crate) fn findings(study: &Study<'_>, metric: Metric) -> Vec<String> {
    let mut found = laws(study, metric);
    // Where every operation was measured, the table of ratios says it in less room.
    if !study.has_every_operation() {
        found.extend(duel::rivals(study, metric).iter().filter_map(Rivals::in_words));
    }
    found.extend(noise_of_memory(study, metric));
    if metric == Metric::FirstPacketNs {
        found.extend(positions(study));
        found.extend(instrument(study));
    }
    if let Metric::Update(operation, Part::Whole) = metric {
        found.extend(outside(study, operation));
        let kernel = findings(study, operation.kernel());
        if !kernel.is_empty() {
            found.push(Part::Kernel.title().to_owned());
            found.extend(kernel.into_iter().map(|finding| format!("  {finding}")));
        }
    }
    let line = |finding: String| {
        if finding.starts_with(' ') { finding } else { format!("- {finding}") }
    };
    found.into_iter().map(line).collect()
}

/// What the place of a Service in the list makes of a first packet to it, at the largest
/// size.
fn positions(study: &Study<'_>) -> Option<String> {
    let places = [
        ("the first", Metric::FirstPacketFirstNs),
        ("the middle", Metric::FirstPacketMiddleNs),
        ("the last", Metric::FirstPacketLastNs),
    ];
    let series = study.series(Metric::FirstPacketNs);
    let size = series.iter().flat_map(|s| s.points.iter().map(|p| p.services)).max()?;
    let of = |name: &str| -> Option<String> {
        let at = |(place, metric): &(&str, Metric)| {
            let series = study.series_of(*metric, name)?;
            Some(format!("{} to {place}", study.unit_of(*metric).format(series.at(size)?.middle())))
        };
        let all: Option<Vec<String>> = places.iter().map(at).collect();
        Some(format!("{name} {}", all?.join(", ")))
    };
    let all: Vec<String> =
        series.iter().filter(|s| s.name != BASELINE).filter_map(|s| of(&s.name)).collect();
    (!all.is_empty())
        .then(|| format!("By place in the list of {}: {}.", services(size), all.join("; ")))
}

/// What of every latency is the instrument's own.
fn instrument(study: &Study<'_>) -> Option<String> {
    let none = study.series_of(Metric::EmptySendNs, BASELINE)?;
    let unit = study.unit_of(Metric::EmptySendNs);
    let (low, high) = none
        .points
        .iter()
        .map(series::Point::middle)
        .fold((f64::INFINITY, 0.0_f64), |(low, high), middle| (low.min(middle), high.max(middle)));
    let (low, high) = (unit.format(low), unit.format(high));
    let range = if low == high { low } else { format!("{low} to {high}") };
    Some(format!(
        "Of every latency the instrument itself is {range}: a frame that says nothing, sent and \
         looked for."
    ))
}

/// How the cost of each backend grows with the number of Services.
fn laws(study: &Study<'_>, metric: Metric) -> Vec<String> {
    let series = study.series(metric);
    let measured = series.iter().filter(|s| s.name != BASELINE);
    measured.filter_map(|s| law(study, metric, s).map(|law| format!("{}: {law}", s.name))).collect()
}

fn law(study: &Study<'_>, metric: Metric, series: &Series<'_>) -> Option<String> {
    let unit = study.unit_of(metric);
    let points = series.medians();
    let (first, last) = (series.points.first()?, series.points.last()?);
    let word = match stats::growth(&points)? {
        Growth::Flat { factor } => {
            let above = ((factor - 1.0) * 100.0).ceil().max(1.0);
            format!("**flat** (nowhere more than {above} % above its lowest)")
        }
        Growth::Unclear => format!(
            "grows, at too few sizes or too unsteadily to say by which law{}",
            last_step(series)
        ),
        Growth::Power(power) => {
            let interval = series.bootstrap(study.seed, exponent_of);
            let is_sure = power.sizes > PARAMETERS && is_sure(power.exponent, interval);
            format!(
                "**{}{}**, growth exponent {:.2}{} of what comes on top of {}{}; the whole \
                 over all sizes as n^{:.2}{}{}",
                if is_sure { "" } else { "probably " },
                name_of(power.exponent),
                power.exponent,
                in_words(interval),
                fixed_part(&power, first.middle(), unit),
                off(&power),
                stats::whole_exponent(&points)?,
                slope(study, unit, series, power.exponent),
                last_step(series),
            )
        }
    };
    Some(format!(
        "{} at {}, {} at {}: {word}.",
        unit.format(first.middle()),
        services(first.services),
        unit.format(last.middle()),
        services(last.services),
    ))
}

/// The growth exponent in a few characters, for the end of a line in a chart.
pub(crate) fn growth_note(series: &Series<'_>) -> String {
    match stats::growth(&series.medians()) {
        Some(Growth::Flat { .. }) => "flat".to_owned(),
        Some(Growth::Power(Power { exponent, .. })) => format!("n^{exponent:.2}"),
        _ => String::new(),
    }
}

/// A law has an exponent, a fixed part and a growing one: through three sizes it can always be
/// drawn, and so says little.
const PARAMETERS: usize = 3;

/// A law that is nowhere further off than this needs no word about it.
const OFF_MIN: f64 = 0.05;

/// What the law has for no Service at all.
fn fixed_part(power: &Power, smallest: f64, unit: Unit) -> String {
    if power.fixed < 0.01 * smallest {
        "nothing fixed".to_owned()
    } else {
        format!("a fixed {}", unit.format(power.fixed))
    }
}

fn off(power: &Power) -> String {
    let percent = (power.misfit * 100.0).ceil();
    if power.misfit <= OFF_MIN { String::new() } else { format!(" (off by up to {percent} %)") }
}

/// How much of an update happens before the kernel is handed anything, at the largest size.
fn outside(study: &Study<'_>, operation: Operation) -> Option<String> {
    if matches!(operation, Operation::NoOp | Operation::ReadBack) {
        return None;
    }
    let unit = study.unit_of(operation.whole());
    let share = |series: &Series<'_>| -> Option<String> {
        study.series_of(Metric::Update(operation, Part::Lower), &series.name)?;
        let whole = series.points.last()?;
        let kernel = study.series_of(operation.kernel(), &series.name)?;
        let kernel = kernel.at(whole.services)?.middle();
        let ours = (whole.middle() - kernel).max(0.0);
        Some(format!(
            "{} {:.0} % at {} ({} of {})",
            series.name,
            100.0 * ours / whole.middle().max(1.0),
            count(whole.services),
            unit.format(ours),
            unit.format(whole.middle()),
        ))
    };
    let series = study.series(operation.whole());
    let all: Vec<String> = series.iter().filter_map(share).collect();
    (!all.is_empty() && study.has_every_operation()).then(|| {
        let all = all.join("; ");
        format!("Of the whole, before the kernel or the tool is handed anything: {all}.")
    })
}

/// What the kernel's memory did while nothing was loaded: how exact the rest is.
fn noise_of_memory(study: &Study<'_>, metric: Metric) -> Option<String> {
    let none = study.series_of(metric, BASELINE).filter(|_| metric == Metric::KernelBytes)?;
    let all: Vec<f64> =
        none.points.iter().flat_map(|p| p.medians.values().copied().map(real)).collect();
    let unit = study.unit_of(metric);
    Some(format!(
        "How exact that is: {} times nothing was loaded, and the kernel had {} more (median), {} \
         at most.",
        all.len(),
        unit.format(stats::median(&all)?),
        unit.format(all.iter().copied().fold(0.0, f64::max))
    ))
}

fn exponent_of(points: &[(f64, f64)]) -> Option<f64> {
    match stats::growth(points)? {
        Growth::Power(power) => Some(power.exponent),
        Growth::Flat { .. } | Growth::Unclear => None,
    }
}

/// The name of a law, with some room: what is measured is never a law alone.
fn name_of(exponent: f64) -> &'static str {
    match exponent {
        e if e < 0.8 => "slower than linear",
        e if e <= 1.2 => "linear",
        e if e < 1.8 => "faster than linear",
        e if e <= 2.2 => "quadratic",
        _ => "faster than quadratic",
    }
}

/// Whether the rounds agree on the law: both ends of the interval have the same name. One round
/// has none, counted or not: its packets went to some places in the list and not to others.
fn is_sure(exponent: f64, interval: Option<Interval>) -> bool {
    interval.is_some_and(|i| [i.low, i.high].iter().all(|end| name_of(*end) == name_of(exponent)))
}

fn slope(study: &Study<'_>, unit: Unit, series: &Series<'_>, exponent: f64) -> String {
    let slope = |points: &[(f64, f64)]| stats::line_fit(points).map(|line| line.slope);
    let Some(each) = slope(&series.medians()).filter(|_| name_of(exponent) == "linear") else {
        return String::new();
    };
    let interval = series.bootstrap(study.seed, slope).map_or_else(String::new, |i| {
        format!(" ({} to {})", unit.format(i.low), unit.format(i.high))
    });
    format!(", {}{interval} more for each Service", unit.format(each))
}

/// How much the cost grows between the two largest sizes, where the steepest part of a law
/// weighs most.
fn last_step(series: &Series<'_>) -> String {
    let [.., a, b] = series.points.as_slice() else {
        return String::new();
    };
    let times = three_digits(ratio(a, b));
    format!(", {times} times from {} to {}", count(a.services), count(b.services))
}

fn in_words(interval: Option<Interval>) -> String {
    interval.map_or_else(String::new, |Interval { low, high }| {
        format!(" (95 % interval {low:.2} to {high:.2})")
    })
}
