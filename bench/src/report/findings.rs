//! What the figures say, in sentences that are worked out from them.
//!
//! Invariant: no sentence says what the figures do not; where they are too few or too
//! noisy, the sentence says that.

use crate::metric::{Metric, Operation, Part};
use crate::plan::BASELINE;
use crate::report::quantity::{Unit, count, services, three_digits};
use crate::report::series::{Point, Series, Study, real};
use crate::stats::{self, Growth, Interval};

/// All findings of `study`, as lines of a Markdown list.
pub(crate) fn findings(study: &Study<'_>) -> Vec<String> {
    let subjects = [
        (Metric::FirstPacketNs, "First packet of a connection"),
        (Metric::EstablishedPacketNs, "Later packets of a connection"),
        (Operation::ColdLoad.whole(), "Loading all rules"),
        (Operation::ColdLoad.kernel(), "Loading all rules, the kernel's part"),
        (Operation::FullResync.whole(), "Replacing all rules at once"),
        (Operation::NoOp.whole(), "Nothing has changed"),
        (Operation::ReadBack.whole(), "Nothing has changed, but the kernel is asked"),
        (Operation::EndpointAdded.whole(), "Adding one endpoint"),
        (Operation::EndpointAdded.kernel(), "Adding one endpoint, the kernel's part"),
        (Operation::EndpointSwapped.whole(), "Replacing one endpoint"),
        (Operation::EndpointSwapped.kernel(), "Replacing one endpoint, the kernel's part"),
        (Operation::EndpointRemoved.whole(), "Removing one endpoint"),
        (Operation::ServiceAdded.whole(), "Adding one Service"),
        (Operation::ServiceAdded.kernel(), "Adding one Service, the kernel's part"),
        (Operation::ServiceRemoved.whole(), "Removing one Service"),
        (Operation::Churn.whole(), "Replacing an endpoint of one Service in a hundred"),
        (Metric::KernelBytes, "Memory of the kernel"),
        (Metric::LoadPeakBytes, "Memory of the process that loads"),
        (Metric::ToolPeakBytes, "Memory of the tool"),
    ];
    let mut all: Vec<String> = noise(study).map(|n| format!("- {n}")).into_iter().collect();
    for (metric, subject) in subjects {
        let mut found = laws(study, metric);
        // Where every operation was measured, the table of ratios says it in less room.
        if !study.has_every_operation() {
            found.extend(duels(study, metric));
        }
        found.extend(noise_of_memory(study, metric));
        if metric == Metric::FirstPacketNs {
            found.extend(positions(study));
        }
        if let Metric::Update(operation, Part::Whole) = metric {
            found.extend(outside(study, operation));
        }
        if !found.is_empty() {
            all.push(format!("- **{subject}**"));
            all.extend(found.iter().map(|finding| format!("  - {finding}")));
        }
    }
    all
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
            format!("**flat** (at most {} times the lowest)", three_digits(factor))
        }
        Growth::Unclear { .. } => {
            "grows, at too few sizes or too unsteadily to say by which law".to_owned()
        }
        Growth::Power { exponent, fitted, .. } => {
            let interval = series.bootstrap(study.seed, exponent_of);
            format!(
                "**{}{}**, growth exponent {exponent:.2}{}{}{}",
                if fitted > 2 && is_sure(exponent, interval) { "" } else { "probably " },
                name_of(exponent),
                in_words(interval),
                slope(unit, &points, exponent),
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
        Some(Growth::Power { exponent, fitted, .. }) if fitted > 1 => format!("n^{exponent:.2}"),
        _ => String::new(),
    }
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
            "{} {} times ({} : {}, at {})",
            series.name,
            three_digits(ours / kernel.max(1.0)),
            unit.format(ours),
            unit.format(kernel),
            count(whole.services)
        ))
    };
    let series = study.series(operation.whole());
    let all: Vec<String> = series.iter().filter_map(share).collect();
    (!all.is_empty() && study.has_every_operation()).then(|| {
        let all = all.join("; ");
        format!("Before anything is handed over, as against carrying it out: {all}.")
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
        Growth::Power { exponent, .. } => Some(exponent),
        Growth::Flat { .. } | Growth::Unclear { .. } => None,
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

/// Whether the rounds agree on the law: both ends of the interval have the same name. A fit
/// through two sizes is never sure, however well the rounds agree.
fn is_sure(exponent: f64, interval: Option<Interval>) -> bool {
    interval.is_some_and(|i| [i.low, i.high].iter().all(|end| name_of(*end) == name_of(exponent)))
}

fn slope(unit: Unit, points: &[(f64, f64)], exponent: f64) -> String {
    let line = stats::line_fit(points).filter(|_| name_of(exponent) == "linear");
    line.map_or_else(String::new, |line| {
        format!(", {} more for each Service", unit.format(line.slope))
    })
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

/// Everybody against nft; the ratio to iptables at each size is in the table.
fn duels(study: &Study<'_>, metric: Metric) -> Vec<String> {
    let all = study.series(metric);
    let Some(nft) = all.iter().find(|s| s.name == NFT) else {
        return Vec::new();
    };
    let others = all.iter().filter(|s| s.name != NFT && s.name != BASELINE);
    others.filter_map(|other| duel(study, nft, other)).collect()
}

/// The backend that all others are compared with.
pub(crate) const NFT: &str = "nft";

fn duel(study: &Study<'_>, nft: &Series<'_>, other: &Series<'_>) -> Option<String> {
    let pairs = pairs(nft, other);
    let at = |(a, b): &Pair<'_, '_>| {
        let ratio = three_digits(ratio(a, b));
        format!("{ratio} at {}", services(a.services))
    };
    Some(format!(
        "{} : nft: {}, {} (ratio of medians). {}",
        other.name,
        at(pairs.first()?),
        at(pairs.last()?),
        verdict(study.seed, &other.name, &pairs)
    ))
}

/// How many times the median of `theirs` is that of `ours`.
pub(crate) fn ratio(ours: &Point<'_>, theirs: &Point<'_>) -> f64 {
    theirs.middle() / ours.middle().max(1.0)
}

type Pair<'a, 'b> = (&'b Point<'a>, &'b Point<'a>);

fn pairs<'a, 'b>(ours: &'b Series<'a>, theirs: &'b Series<'a>) -> Vec<Pair<'a, 'b>> {
    let same = |a: &'b Point<'a>| {
        let other = theirs.points.iter().find(|b| b.services == a.services)?;
        Some((a, other))
    };
    ours.points.iter().filter_map(same).collect()
}

/// The interval of the ratio of two medians when rounds are drawn anew, both sides from the
/// same rounds: what made a round slow made both slow.
pub(crate) fn ratio_interval(seed: u64, ours: &Point<'_>, theirs: &Point<'_>) -> Option<Interval> {
    let both: Vec<(f64, f64)> = ours
        .medians
        .iter()
        .filter_map(|(round, a)| theirs.medians.get(round).map(|b| (real(*a), real(*b))))
        .collect();
    stats::bootstrap(both.len(), seed, |drawn| {
        let side = |f: fn(&(f64, f64)) -> f64| -> Option<f64> {
            let values: Vec<f64> = drawn.iter().map(|i| f(&both[*i])).collect();
            stats::median(&values)
        };
        Some(side(|p| p.1)? / side(|p| p.0)?)
    })
}

/// Who is faster at which size; a difference whose interval holds 1 is none.
fn verdict(seed: u64, other: &str, pairs: &[Pair<'_, '_>]) -> String {
    let other = format!("{other} is faster");
    let winner = |(a, b): &Pair<'_, '_>| match ratio_interval(seed, a, b)? {
        i if i.low > 1.0 => Some("nft is faster"),
        i if i.high < 1.0 => Some(other.as_str()),
        _ => Some("no difference that the rounds agree on"),
    };
    let winners: Option<Vec<&str>> = pairs.iter().map(winner).collect();
    let Some(winners) = winners else {
        return "Too few rounds to say who is faster.".to_owned();
    };
    let mut runs: Vec<(&str, Vec<String>)> = Vec::new();
    for (winner, (point, _)) in winners.into_iter().zip(pairs) {
        let size = count(point.services);
        match runs.last_mut() {
            Some((same, sizes)) if *same == winner => sizes.push(size),
            _ => runs.push((winner, vec![size])),
        }
    }
    let sentence = |(winner, sizes): &(&str, Vec<String>)| match sizes.as_slice() {
        [first, .., last] => format!("{winner} from {first} to {last}"),
        sizes => format!("{winner} at {}", sizes.concat()),
    };
    let sentences: Vec<String> = runs.iter().map(sentence).collect();
    format!("By Services: {}.", sentences.join("; "))
}

/// The noise gate: rounds without any rules should all be alike.
fn noise(study: &Study<'_>) -> Option<String> {
    let none = study.series_of(Metric::FirstPacketNs, BASELINE)?;
    let medians: Vec<f64> =
        none.points.iter().flat_map(|p| p.medians.values().copied().map(real)).collect();
    let middle = stats::median(&medians)?;
    let off = |m: &&f64| (**m / middle - 1.0).abs() > NOISE_MAX;
    let noisy = medians.iter().filter(off).count();
    Some(if noisy == 0 {
        format!(
            "Noise: all {} blocks without rules had a median within 5 % of {}.",
            medians.len(),
            study.unit_of(Metric::FirstPacketNs).format(middle)
        )
    } else {
        format!(
            "**Noise: {noisy} of {} blocks without rules had a median more than 5 % away from \
             {}. Trust ratios and laws, not small differences.**",
            medians.len(),
            study.unit_of(Metric::FirstPacketNs).format(middle)
        )
    })
}

/// How far the median of a block without rules may lie from that of all such blocks.
const NOISE_MAX: f64 = 0.05;
