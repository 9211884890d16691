//! From which number of Services on nft is ahead of everybody else.
//!
//! Invariant: ratios of medians of the same run, each with its interval and its test.

use super::chart::{self, Chart, Line, Mark};
use super::duel::{self, Rivals, Verdict};
use super::quantity::{Unit, count, services};
use super::section::Section;
use super::series::Study;
use super::subject;
use super::table::{header, header_of_words};
use crate::metric::{Metric, Operation};
use crate::plan::BASELINE;
use crate::record::Record;
use std::fmt::Write as _;

/// What users ask about, and so what is drawn.
const METRICS: [Metric; 4] = [
    Metric::FirstPacketNs,
    Operation::ColdLoad.whole(),
    Operation::EndpointAdded.whole(),
    Operation::EndpointSwapped.whole(),
];

/// What is said in words before everything else.
const ANSWERS: [Metric; 4] = [
    Metric::FirstPacketNs,
    Metric::EstablishedPacketNs,
    Operation::ColdLoad.whole(),
    Operation::EndpointAdded.whole(),
];

/// The short answer: who is ahead of whom, from what size on, by how much and how sure.
pub(crate) fn summary(study: &Study<'_>) -> String {
    let mut text = String::new();
    for metric in ANSWERS {
        if let Some(answer) = answer(study, metric) {
            let _ = write!(text, "- **{}**\n{answer}", metric.title());
        }
    }
    let rows = rows(study);
    if text.is_empty() || rows.is_empty() {
        return String::new();
    }
    let names = ["What", "against", "nft is", "ratio at the largest size", "how sure there"];
    format!(
        "\n### In short\n\n{text}\nHow many times as long, or as much, the others take as nft \
         does. {}\n\n<details><summary>All comparisons</summary>\n\n{}{rows}\n</details>\n",
        how(study),
        header_of_words(&names)
    )
}

/// How it is decided who is ahead.
fn how(study: &Study<'_>) -> &'static str {
    match study.instrument {
        "guest" => {
            "Instructions are counted, not sampled: a difference of more than 1 % of the medians \
             is one."
        }
        _ => {
            "The ratio is one of medians over rounds, in brackets with its 95 % bootstrap \
             interval. Who is ahead is decided by a Mann–Whitney test over rounds at p < 0.01; A \
             is the share of pairs of rounds in which nft was below (Vargha and Delaney; 0.5: \
             neither, 1: always)."
        }
    }
}

/// Everybody in order at the smallest and at the largest size, and nft against each.
fn answer(study: &Study<'_>, metric: Metric) -> Option<String> {
    let rivals = duel::rivals(study, metric);
    let duels = &rivals.first()?.duels;
    let (first, last) = (duels.first()?.services, duels.last()?.services);
    let mut lines = vec![order(study, metric, last)];
    if first != last {
        lines.insert(0, order(study, metric, first));
    }
    let against = |rival: &Rivals| {
        let largest = rival.duels.last()?;
        Some(format!(
            "nft against {}: {}; at {} {} takes {} times as long ({})",
            rival.other,
            rival.ahead_from(),
            services(largest.services),
            rival.other,
            largest.ratio_in_words(),
            largest.sureness()
        ))
    };
    lines.extend(rivals.iter().filter_map(against));
    Some(lines.iter().map(|line| format!("  - {line}.\n")).collect())
}

/// All backends at this size, the fastest first.
fn order(study: &Study<'_>, metric: Metric, size: u32) -> String {
    let unit = study.unit_of(metric);
    let series = study.series(metric);
    let mut all: Vec<(f64, &str)> = series
        .iter()
        .filter(|s| s.name != BASELINE)
        .filter_map(|s| Some((s.at(size)?.middle(), s.name.as_str())))
        .collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let all: Vec<String> =
        all.iter().map(|(middle, name)| format!("{name} {}", unit.format(*middle))).collect();
    format!("At {}: {}", services(size), all.join(", "))
}

fn rows(study: &Study<'_>) -> String {
    let mut rows = String::new();
    for metric in Metric::all().filter(|metric| subject::has_chart(*metric)) {
        for rivals in duel::rivals(study, metric) {
            let Some(last) = rivals.duels.last() else { continue };
            let _ = writeln!(
                rows,
                "| {} | {} | {} | {} at {} | {} |",
                metric.title(),
                rivals.other,
                rivals.ahead_from(),
                last.ratio_in_words(),
                count(last.services),
                last.sureness()
            );
        }
    }
    rows
}

/// The charts of ratios, with their tables.
pub(crate) fn section(record: &Record, study: &Study<'_>, suffix: &str) -> Section {
    let mut section = Section::default();
    for metric in METRICS {
        let rivals = duel::rivals(study, metric);
        let chart = chart_of(record, metric, &rivals);
        let title = chart.title.clone();
        let mut part = Section::default();
        part.say(&format!(
            "\n### {title}\n\nHow many times as long as nft; above 1 nft is ahead. The band is \
             the 95 % interval of the ratio when rounds are drawn anew.\n\n"
        ));
        let file = format!("{}-crossover{suffix}.svg", subject::file(metric));
        if part.show(&title, &file, |form| chart::draw(&chart, form)) {
            part.say(&table(&rivals));
            part.say(&super::raw_data(metric));
            section.add(part);
        }
    }
    section
}

fn chart_of(record: &Record, metric: Metric, rivals: &[Rivals]) -> Chart {
    let mark = |duel: &duel::Duel| Mark {
        services: duel.services.into(),
        low: duel.interval.map_or(duel.ratio, |i| i.low),
        middle: duel.ratio,
        high: duel.interval.map_or(duel.ratio, |i| i.high),
    };
    let line = |rivals: &Rivals| Line {
        name: rivals.other.clone(),
        note: String::new(),
        points: rivals.duels.iter().map(mark).filter(|m| m.low > 0.0).collect(),
    };
    Chart {
        title: format!("{}: from where on nft is ahead", metric.title()),
        subtitle: vec![
            "Ratio of medians to nft's; band: its 95 % interval.".to_owned(),
            super::of_machine(&record.machine),
        ],
        axis: "times as long as nft".to_owned(),
        unit: Unit::Times,
        across: Some((1.0, "as long as nft".to_owned())),
        lines: rivals.iter().map(line).filter(|line| !line.points.is_empty()).collect(),
    }
}

fn table(rivals: &[Rivals]) -> String {
    let names = ["Services", "ratio", "who is faster", "how sure"];
    let mut text = header("Against nft", &names);
    for Rivals { other, duels, .. } in rivals {
        for duel in duels {
            let who = match duel.verdict() {
                Verdict::Nft => "nft",
                Verdict::Other => other,
                Verdict::NotShown => "no difference shown",
                Verdict::TooFewRounds => "too few rounds",
            };
            let _ = writeln!(
                text,
                "| {other} | {} | {} | {who} | {} |",
                count(duel.services),
                duel.ratio_in_words(),
                duel.sureness()
            );
        }
    }
    text
}
