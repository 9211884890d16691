//! Tables in Markdown.
//!
//! Invariant: prints values of the record and computes no figure but ratios.

use crate::metric::{Metric, Operation, Part};
use crate::plan::BASELINE;
use crate::report::findings;
use crate::report::quantity::{Unit, count, three_digits};
use crate::report::series::{Point, Series, Study, real};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The medians of `metric`, a row for each number of Services and a column for each
/// backend, with the 95 % interval of the median over rounds.
pub(crate) fn medians(study: &Study<'_>, metric: Metric) -> String {
    let series = study.series(metric);
    let sizes: BTreeSet<u32> =
        series.iter().flat_map(|s| s.points.iter().map(|p| p.services)).collect();
    let mut names: Vec<&str> = series.iter().map(|s| s.name.as_str()).collect();
    let duel = ["nft", "iptables"].map(|name| series.iter().find(|s| s.name == name));
    if let [Some(_), Some(_)] = duel {
        names.push("iptables : nft");
    }
    let mut text = header("Services", &names);
    for size in sizes {
        let mut cells: Vec<String> = series
            .iter()
            .map(|s| s.at(size).map_or_else(missing, |p| median(p, study.unit_of(metric))))
            .collect();
        if let [Some(nft), Some(iptables)] = duel {
            let both = nft.at(size).zip(iptables.at(size));
            cells.push(both.map_or_else(missing, |(a, b)| ratio_of(study.seed, a, b)));
        }
        let _ = writeln!(text, "| {} | {} |", count(size), cells.join(" | "));
    }
    text
}

pub(crate) fn missing() -> String {
    "–".to_owned()
}

fn ratio_of(seed: u64, ours: &Point<'_>, theirs: &Point<'_>) -> String {
    let ratio = three_digits(findings::ratio(ours, theirs));
    match findings::ratio_interval(seed, ours, theirs) {
        Some(i) => format!("{ratio} ({} to {})", three_digits(i.low), three_digits(i.high)),
        None => ratio,
    }
}

fn median(point: &Point<'_>, unit: Unit) -> String {
    let middle = unit.format(point.middle());
    match point.interval {
        Some(i) => format!("{middle} ({} to {})", unit.format(i.low), unit.format(i.high)),
        None => middle,
    }
}

/// `metric` by the number of Services, with what `none` has taken off: a row for each number
/// of Services and a column for each backend.
pub(crate) fn per_service(study: &Study<'_>, metric: Metric) -> String {
    let all = study.series(metric);
    let none = study.series_of(metric, BASELINE);
    let series: Vec<&Series<'_>> = all.iter().filter(|s| s.name != BASELINE).collect();
    let sizes: BTreeSet<u32> =
        series.iter().flat_map(|s| s.points.iter().map(|p| p.services)).collect();
    let names: Vec<&str> = series.iter().map(|s| s.name.as_str()).collect();
    let mut text = header("Services", &names);
    for size in sizes {
        let nothing = none.as_ref().and_then(|s| s.at(size)).map_or(0.0, Point::middle);
        let each = |p: &Point<'_>| (p.middle() - nothing).max(0.0) / f64::from(size);
        let cell = |s: &&Series<'_>| {
            s.at(size).map_or_else(missing, |p| study.unit_of(metric).format(each(p)))
        };
        let cells: Vec<String> = series.iter().map(cell).collect();
        let _ = writeln!(text, "| {} | {} |", count(size), cells.join(" | "));
    }
    text
}

/// Where the time of an update goes: the medians of its parts, a row for each backend and
/// number of Services.
pub(crate) fn parts(study: &Study<'_>, operation: Operation) -> String {
    let metric = |part: &Part| Metric::Update(operation, *part);
    let has_figures = |part: &Part| !study.series(metric(part)).is_empty();
    let parts: Vec<Part> = Part::ALL[1..].iter().copied().filter(has_figures).collect();
    let mut names: Vec<&str> = vec!["Services"];
    names.extend(parts.iter().map(|part| part.name()));
    names.push("whole");
    let mut text = header("Backend", &names);
    let whole = operation.whole();
    for series in study.series(whole) {
        for point in &series.points {
            let of = |metric: Metric| {
                let part = study.series_of(metric, &series.name);
                let found = part.as_ref().and_then(|s| s.at(point.services));
                found.map_or_else(missing, |p| study.unit_of(metric).format(p.middle()))
            };
            let mut cells = vec![series.name.clone(), count(point.services)];
            cells.extend(parts.iter().map(|part| of(metric(part))));
            cells.push(of(whole));
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        }
    }
    text
}

/// All percentiles of `metric`, a row for each backend and number of Services.
pub(crate) fn percentiles(study: &Study<'_>, metric: Metric) -> String {
    let names = [
        "Services",
        "rounds",
        "n",
        "min",
        "p01",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max",
        "MAD",
        "p50 : none",
    ];
    let mut text = header("Backend", &names);
    let baseline = study.series_of(metric, BASELINE);
    let unit = study.unit_of(metric);
    for series in study.series(metric) {
        for point in &series.points {
            let s = point.summary;
            let values = [s.min, s.p01, s.p50, s.p90, s.p99, s.p999, s.max, s.mad];
            let values: Vec<String> = values.iter().map(|v| unit.format(real(*v))).collect();
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} |",
                series.name,
                count(point.services),
                point.rounds,
                s.n,
                values.join(" | "),
                ratio(baseline.as_ref(), point),
            );
        }
    }
    text
}

fn ratio(baseline: Option<&Series<'_>>, point: &Point<'_>) -> String {
    let same = baseline.and_then(|b| b.at(point.services));
    let ratio = |b: &Point<'_>| real(point.summary.p50) / real(b.summary.p50.max(1));
    same.map_or_else(missing, |b| three_digits(ratio(b)))
}

pub(crate) fn header(first: &str, names: &[&str]) -> String {
    let rule = "---:|".repeat(names.len());
    format!("| {first} | {} |\n|---|{rule}\n", names.join(" | "))
}
