//! Who takes how many times as long as nft, in one table for loads and one for updates.
//!
//! Invariant: ratios of medians of the same run, and nothing else; a ratio to a time that was
//! not measured says from where it is extrapolated.

use crate::metric::{Metric, Operation};
use crate::record::Record;
use crate::report::duel::{NFT, ratio};
use crate::report::quantity::{count, three_digits};
use crate::report::series::{Series, Study};
use crate::report::table::{header, missing};
use crate::stats;
use std::fmt::Write as _;

/// The section, empty for a study without updates of every kind.
pub(crate) fn section(study: &Study<'_>, record: &Record) -> String {
    if !study.has_every_operation() {
        return String::new();
    }
    let mut text = String::new();
    if let Some(table) = loads(study) {
        let _ = write!(
            text,
            "\n### Ratios\n\nHow many times as long as nft everybody takes to load all rules, from \
             Services in memory; of kube-proxy's rulesets only the loading is counted. At the \
             largest size that it finished, and at those of nft; **in italics, where it was not \
             measured, by its own law of growth** from the sizes that it finished{}.\n\n{table}",
            cap(record)
        );
    }
    if let Some(table) = operations(study) {
        let _ = write!(
            text,
            "\nThe same for every operation, at the largest size that both finished. A dash: it has no \
             such operation (text is always loaded whole, and of kube-proxy's rulesets only changes \
             of one Service are known), or nothing was to do.\n\n{table}"
        );
    }
    text
}

fn cap(record: &Record) -> String {
    let caps = record.capped().map(|c| c.cap_seconds).max();
    caps.map_or_else(String::new, |cap| format!(" within the cap of {cap} s"))
}

fn loads(study: &Study<'_>) -> Option<String> {
    let all = study.series(Operation::ColdLoad.whole());
    let nft = all.iter().find(|s| s.name == NFT)?;
    let unit = study.unit_of(Operation::ColdLoad.whole());
    let sizes: Vec<String> =
        nft.points.iter().map(|p| format!("at {}", count(p.services))).collect();
    let mut names = vec!["largest size", "its time there"];
    names.extend(sizes.iter().map(String::as_str));
    let mut text = header("Against nft", &names);
    for other in all.iter().filter(|s| s.name != NFT) {
        let last = other.points.last()?;
        let cells: Vec<String> =
            nft.points.iter().map(|p| load_at(nft, other, p.services)).collect();
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} |",
            other.name,
            count(last.services),
            unit.format(last.middle()),
            cells.join(" | ")
        );
    }
    Some(text)
}

/// The ratio at this size, measured or by the other's law.
fn load_at(nft: &Series<'_>, other: &Series<'_>, size: u32) -> String {
    let Some(ours) = nft.at(size) else { return missing() };
    if let Some(theirs) = other.at(size) {
        return three_digits(ratio(ours, theirs));
    }
    let law = stats::extrapolate(&other.medians(), f64::from(size));
    let largest = other.points.last().map_or(0, |p| p.services);
    match law {
        Some((theirs, exponent)) if largest < size => {
            format!("*{} (n^{exponent:.2})*", three_digits(theirs / ours.middle().max(1.0)))
        }
        _ => missing(),
    }
}

fn operations(study: &Study<'_>) -> Option<String> {
    let all = study.series(Operation::ColdLoad.whole());
    let names: Vec<&str> = all.iter().map(|s| s.name.as_str()).filter(|n| *n != NFT).collect();
    if names.is_empty() {
        return None;
    }
    let mut text = header("Operation", &names);
    for operation in Operation::ALL {
        for (metric, what) in [(operation.whole(), ""), (operation.kernel(), ", kernel")] {
            let Some(nft) = study.series_of(metric, NFT) else { continue };
            let cell = |name: &&str| against(study, metric, &nft, name);
            let cells: Vec<String> = names.iter().map(cell).collect();
            let name = operation.name().replace('_', " ");
            let _ = writeln!(text, "| {name}{what} | {} |", cells.join(" | "));
        }
    }
    Some(text)
}

fn against(study: &Study<'_>, metric: Metric, nft: &Series<'_>, name: &str) -> String {
    let Some(other) = study.series_of(metric, name) else { return missing() };
    let both = other.points.iter().rev().find_map(|b| Some((nft.at(b.services)?, b)));
    // A kernel that was handed nothing took no time, and there is no ratio to that.
    both.filter(|(a, _)| a.middle() > 0.0).map_or_else(missing, |(a, b)| {
        format!("{} at {}", three_digits(ratio(a, b)), count(b.services))
    })
}
