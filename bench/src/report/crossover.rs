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
use crate::contender::STATIC;
use crate::metric::{Metric, Operation};
use crate::plan::BASELINE;
use crate::record::Record;
use std::collections::BTreeSet;
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
    let answers: Vec<Answer> = ANSWERS.iter().filter_map(|m| Answer::of(study, *m)).collect();
    let rows = rows(study);
    if answers.is_empty() || rows.is_empty() {
        return String::new();
    }
    let names = ["What", "against", "nft is", "ratio at the largest size", "how sure there"];
    format!(
        "\n### In short\n\n{}\n{}\n\n<details><summary>All comparisons</summary>\n\n{}{rows}\n\
         </details>\n",
        in_short(&answers),
        how(study),
        header_of_words(&names)
    )
}

/// How it is decided who is ahead.
fn how(study: &Study<'_>) -> &'static str {
    match study.instrument {
        "guest" => {
            "A ratio says how many times as many instructions as nft the other takes. They are \
             counted to the digit, so that a difference of more than 1 % of the medians is called \
             one; but for few packets: where the place of a Service in a list weighs, as with \
             iptables, other packets would have other medians."
        }
        _ => {
            "A ratio says how many times as long as nft the other takes: medians over rounds, in \
             brackets with the 95 % bootstrap interval. Who is ahead is decided by a Mann–Whitney \
             test over rounds at p < 0.01; A is the share of pairs of rounds in which nft was \
             below (Vargha and Delaney; 0.5: neither, 1: always)."
        }
    }
}

/// What there is to say of a metric.
struct Answer {
    title: String,
    /// The smallest and the largest size, or the only one, and everybody in order there.
    orders: Vec<(u32, String)>,
    rivals: Vec<Rivals>,
}

impl Answer {
    fn of(study: &Study<'_>, metric: Metric) -> Option<Self> {
        let rivals = duel::rivals(study, metric);
        let sizes = rivals.iter().flat_map(|rival| rival.duels.iter().map(|duel| duel.services));
        let ends = BTreeSet::from([sizes.clone().min()?, sizes.max()?]);
        let orders = ends.into_iter().map(|size| (size, order(study, metric, size))).collect();
        Some(Self { title: metric.title(), orders, rivals })
    }

    /// How nft does against the one of this name.
    fn against(&self, name: &str) -> Option<String> {
        let rival = self.rivals.iter().find(|rival| rival.other == name)?;
        let largest = rival.duels.last()?;
        let (ratio, multiple) = (largest.ratio_in_words(), rival.unit.multiple());
        let ratio = format!("{ratio} {multiple} at {}", count(largest.services));
        Some(match largest.verdict() {
            Verdict::TooFewRounds => format!("{ratio}; {}", rival.ahead_from()),
            _ => format!("**{}**; {ratio} ({})", rival.ahead_from(), largest.sureness()),
        })
    }
}

/// A column for each metric: everybody in order, and nft against each.
fn in_short(answers: &[Answer]) -> String {
    let titles = answers.iter().map(|answer| answer.title.as_str());
    let mut text = header_of_words(&[""].into_iter().chain(titles).collect::<Vec<_>>());
    let mut row = |name: String, cell: &dyn Fn(&Answer) -> Option<String>| {
        let cells: Vec<String> = answers
            .iter()
            .map(|answer| cell(answer).unwrap_or_else(super::table::missing))
            .collect();
        let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
    };
    let sizes: BTreeSet<u32> =
        answers.iter().flat_map(|a| a.orders.iter().map(|(size, _)| *size)).collect();
    for size in sizes {
        let order = |answer: &Answer| {
            answer.orders.iter().find(|(own, _)| *own == size).map(|(_, order)| order.clone())
        };
        row(services(size), &order);
    }
    let names: BTreeSet<&str> =
        answers.iter().flat_map(|a| a.rivals.iter().map(|rival| rival.other.as_str())).collect();
    for name in names {
        row(format!("nft against {name}"), &|answer: &Answer| answer.against(name));
    }
    text
}

/// All backends at this size, the fastest first, and who was not measured there.
fn order(study: &Study<'_>, metric: Metric, size: u32) -> String {
    let unit = study.unit_of(metric);
    let mut series = study.series(metric);
    series.retain(|s| ![BASELINE, STATIC].contains(&s.name.as_str()));
    let mut all: Vec<(f64, &str)> =
        series.iter().filter_map(|s| Some((s.at(size)?.middle(), s.name.as_str()))).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let all: Vec<String> =
        all.iter().map(|(middle, name)| format!("{name} {}", unit.format(*middle))).collect();
    let missing: Vec<&str> =
        series.iter().filter(|s| s.at(size).is_none()).map(|s| s.name.as_str()).collect();
    let missing = match missing.as_slice() {
        [] => String::new(),
        names => format!("; not measured there: {}", names.join(", ")),
    };
    format!("{}{missing}", all.join(", "))
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
        let chart = chart_of(record, study, metric, &rivals);
        let title = chart.title.clone();
        let mut part = Section::default();
        part.say(&format!(
            "\n### {title}\n\nHow many {} as nft; above 1 nft is ahead. The band is the 95 % \
             interval of the ratio when rounds are drawn anew.\n\n",
            study.unit_of(metric).multiple()
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

fn chart_of(record: &Record, study: &Study<'_>, metric: Metric, rivals: &[Rivals]) -> Chart {
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
        axis: words_of_axis(study.unit_of(metric)),
        unit: Unit::Times,
        across: Some(1.0),
        lines: rivals.iter().map(line).filter(|line| !line.points.is_empty()).collect(),
    }
}

/// The words of the axis of ratios between values in `unit`.
pub(super) fn words_of_axis(unit: Unit) -> String {
    format!("{} as nft; above 1 nft is ahead", unit.multiple())
}

fn table(rivals: &[Rivals]) -> String {
    let names = ["Services", "ratio", "who is ahead", "how sure"];
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
