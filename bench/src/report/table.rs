//! Tables in Markdown.
//!
//! Invariant: prints values of the record and computes no figure but ratios.

use crate::metric::{Metric, Operation, Part};
use crate::plan::BASELINE;
use crate::report::duel;
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
    let ratio = three_digits(duel::ratio(ours, theirs));
    match duel::ratio_interval(seed, ours, theirs) {
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

/// All percentiles of `metric`, a row for each backend and number of Services; those of which
/// the record has every sample with their 95 % interval over rounds.
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
    for series in study.series(metric) {
        for point in &series.points {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} |",
                series.name,
                count(point.services),
                point.rounds,
                point.summary.n,
                values(study, metric, point).join(" | "),
                ratio(baseline.as_ref(), point),
            );
        }
    }
    text
}

/// From the smallest to the largest value, and how far they are apart.
fn values(study: &Study<'_>, metric: Metric, point: &Point<'_>) -> [String; 8] {
    let (s, pool) = (point.summary, point.pool());
    let unit = study.unit_of(metric);
    let plain = |value: u64| unit.format(real(value));
    let with_interval = |value: u64, per_mille: usize| {
        let interval = pool.as_ref().and_then(|p| p.interval(per_mille, study.seed));
        let interval = interval
            .map(|i| format!(" ({} to {})", unit.format(i.low), unit.format(i.high)))
            .unwrap_or_default();
        plain(value) + &interval
    };
    [
        plain(s.min),
        with_interval(s.p01, 10),
        with_interval(s.p50, 500),
        with_interval(s.p90, 900),
        with_interval(s.p99, 990),
        plain(s.p999),
        plain(s.max),
        plain(s.mad),
    ]
}

fn ratio(baseline: Option<&Series<'_>>, point: &Point<'_>) -> String {
    let same = baseline.and_then(|b| b.at(point.services));
    let ratio = |b: &Point<'_>| real(point.summary.p50) / real(b.summary.p50.max(1));
    same.map_or_else(missing, |b| three_digits(ratio(b)))
}

/// The head of a table of words.
pub(crate) fn header_of_words(names: &[&str]) -> String {
    format!("| {} |\n|{}\n", names.join(" | "), "---|".repeat(names.len()))
}

pub(crate) fn header(first: &str, names: &[&str]) -> String {
    let rule = "---:|".repeat(names.len());
    format!("| {first} | {} |\n|---|{rule}\n", names.join(" | "))
}
