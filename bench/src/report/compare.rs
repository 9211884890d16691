//! Runs side by side: what differs between their machines, whether they agree, and how many
//! times as long as in the first run everything took in the others.
//!
//! Rounds of two runs share nothing, so intervals draw the rounds of each run on their own.
//!
//! Invariant: pure; figures of two instruments are never put into one ratio.

use super::agreement;
use super::duel;
use super::quantity::{count, three_digits};
use super::series::{Point, Series, Study, real, studies};
use super::subject;
use super::table::{header, header_of_words};
use crate::metric::Metric;
use crate::record::Record;
use crate::resume;
use crate::stats::{self, Interval, SIGNIFICANT};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A run with the name that it goes by.
#[derive(Clone, Debug)]
pub struct Named {
    /// The name: the last part of its folder's.
    pub name: String,
    /// Its record.
    pub record: Record,
}

/// The runs side by side, as Markdown; all are compared with the first.
#[must_use]
pub fn compare(first: &Named, others: &[Named]) -> String {
    let mut text = format!("# {} and others\n", first.name);
    for other in others {
        text.push_str(&differences(first, other));
    }
    let ours = studies(&first.record);
    let theirs: Vec<(&Named, Vec<Study<'_>>)> =
        others.iter().map(|other| (other, studies(&other.record))).collect();
    let mut medians = String::new();
    for study in &ours {
        let mut rivals: Vec<(String, &Study<'_>)> = Vec::new();
        for (named, all) in &theirs {
            let is_alike = |other: &&Study<'_>| {
                other.instrument == study.instrument && other.endpoints == study.endpoints
            };
            rivals.extend(all.iter().find(is_alike).map(|other| (named.name.clone(), other)));
        }
        for (name, other) in &rivals {
            text.push_str(&agreement::section([&first.name, name], [study, other]));
        }
        if !rivals.is_empty() {
            medians.push_str(&of_study(study, &first.name, &rivals));
        }
    }
    text + &medians
}

/// What differs between the machines of two runs.
fn differences(first: &Named, other: &Named) -> String {
    let mut text = format!("\n## What differs between {} and {}\n\n", first.name, other.name);
    let differences = resume::differences(&first.record.machine, &other.record.machine);
    if differences.is_empty() {
        return text + "Nothing that is recorded.\n";
    }
    text.push_str(&header_of_words(&["", &first.name, &other.name]));
    for fact in differences {
        let [then, now] = [fact.then, fact.now].map(|value| value.replace('|', "\\|"));
        let _ = writeln!(text, "| {} | {then} | {now} |", fact.what);
    }
    text
}

fn of_study(study: &Study<'_>, name: &str, others: &[(String, &Study<'_>)]) -> String {
    let mut text = format!(
        "\n## {} instrument, {} endpoints for each Service\n\nThe median of {name}, and how many \
         times that it is in the others, with the 95 % interval. **Bold**: a Mann–Whitney test \
         over rounds shows a difference (p < 0.01); instructions are counted and need no test.\n",
        super::capitalised(study.instrument),
        study.endpoints
    );
    for metric in Metric::all().filter(|metric| subject::has_chart(*metric)) {
        let all = study.series(metric);
        let theirs: Vec<BTreeMap<String, Series<'_>>> = others
            .iter()
            .map(|(_, s)| s.series(metric).into_iter().map(|s| (s.name.clone(), s)).collect())
            .collect();
        let mut rows = String::new();
        for series in &all {
            for point in &series.points {
                let at = |of: &BTreeMap<String, Series<'_>>| -> Option<String> {
                    let other = of.get(&series.name)?.at(point.services)?;
                    Some(ratio(study, point, other))
                };
                let ratios: Vec<Option<String>> = theirs.iter().map(at).collect();
                if ratios.iter().any(Option::is_some) {
                    let cells = ratios.into_iter().map(|r| r.unwrap_or_else(super::table::missing));
                    let cells: Vec<String> = cells.collect();
                    let middle = study.unit_of(metric).format(point.middle());
                    let size = count(point.services);
                    let _ = writeln!(
                        rows,
                        "| {} | {size} | {middle} | {} |",
                        series.name,
                        cells.join(" | ")
                    );
                }
            }
        }
        if !rows.is_empty() {
            let mut names = vec!["Services", name];
            names.extend(others.iter().map(|(name, _)| name.as_str()));
            let _ = write!(text, "\n### {}\n\n{}{rows}", metric.title(), header("Backend", &names));
        }
    }
    text
}

fn ratio(study: &Study<'_>, first: &Point<'_>, other: &Point<'_>) -> String {
    let ratio = duel::ratio_of_runs(first, other);
    let rounds =
        |point: &Point<'_>| point.medians.values().copied().map(real).collect::<Vec<f64>>();
    let (ours, theirs) = (rounds(first), rounds(other));
    let interval = interval(study.seed, &ours, &theirs).map_or_else(String::new, |i| {
        format!(" ({} to {})", three_digits(i.low), three_digits(i.high))
    });
    let differs = match study.instrument {
        "guest" => duel::is_apart(ratio),
        _ => stats::compare(&ours, &theirs).is_some_and(|test| test.p < SIGNIFICANT),
    };
    let ratio = three_digits(ratio);
    if differs { format!("**{ratio}**{interval}") } else { format!("{ratio}{interval}") }
}

/// The interval of the ratio of two medians whose rounds are drawn on their own: every draw
/// of the one is set against a draw of the other.
fn interval(seed: u64, ours: &[f64], theirs: &[f64]) -> Option<Interval> {
    let draws = |rounds: &[f64], seed: u64| stats::redrawn_medians(rounds, seed);
    let (ours, theirs) = (draws(ours, seed)?, draws(theirs, seed.wrapping_add(1))?);
    let ratios = ours.iter().zip(theirs).map(|(ours, theirs)| theirs / ours.max(1.0));
    stats::middle_of(ratios.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Metric;
    use crate::record::Machine;
    use crate::report::tests::figures;

    /// Rounds of one backend at one size, as invented by a test.
    fn run(name: &str, kernel: &str, instrument: &str, medians: &[u64]) -> Named {
        let rounds = medians.iter().map(|median| vec![*median]);
        let entries = figures(instrument, ("nft", 100), Metric::FirstPacketNs, rounds);
        let machine = Machine { kernel: kernel.to_owned(), ..Machine::default() };
        Named { name: name.to_owned(), record: Record { machine, entries } }
    }

    #[test]
    fn what_differs_comes_first_and_then_ratios() {
        let old = run("old", "Linux 6.1", "native", &[100, 101, 102, 103, 104, 105]);
        let new = run("new", "Linux 6.18", "native", &[50, 51, 52, 53, 54, 55]);
        let text = compare(&old, &[new]);
        let machines = text.find("| kernel | Linux 6.1 | Linux 6.18 |").expect("it differs");
        let ratio = text.find("| nft | 100 | 102 ns | **0.51** (").expect("a clear ratio");
        assert!(machines < ratio, "{text}");
    }

    #[test]
    fn noise_is_not_bold_and_instruments_are_not_mixed() {
        let old = run("old", "Linux", "native", &[100, 110, 90, 105, 95, 100]);
        let same = run("same", "Linux", "native", &[101, 109, 91, 104, 96, 99]);
        let text = compare(&old, &[same]);
        assert!(text.contains("Nothing that is recorded.") && !text.contains("**1"), "{text}");
        let guest = run("guest", "Linux", "guest", &[1, 1, 1, 1, 1, 1]);
        assert!(!compare(&old, &[guest]).contains("| nft |"));
    }
}
