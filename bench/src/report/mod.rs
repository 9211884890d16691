//! From a record to `report.md` and its charts.
//!
//! Invariant: pure. The same record gives the same report to the byte, on any machine,
//! without root and without measuring.

mod agreement;
mod anatomy;
mod chart;
mod compare;
mod crossover;
mod disruption;
mod duel;
mod findings;
mod html;
mod names;
mod palette;
mod panels;
mod quality;
mod quantity;
mod ratios;
mod scale;
mod section;
mod series;
mod spread;
mod subject;
mod svg;
mod table;
mod timeline;

pub use compare::{Named, compare};
pub(crate) use quantity::services;
pub(crate) use series::real;

use crate::metric::{Metric, Part};
use crate::plan::BASELINE;
use crate::record::{MACHINE, MEASUREMENTS, Machine, Record, SCENARIO};
use chart::{Chart, Line, Mark};
use section::{Drawing, Section};
use series::{Series, Study, studies};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Name of the file with the report.
pub const REPORT: &str = "report.md";

/// A report: the files that make it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Name and text of each file; the first is the report itself.
    pub files: Vec<(String, String)>,
}

impl Report {
    /// The report of `record`.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let mut report = Section::default();
        let studies = studies(record);
        report.say(&opening(record, &studies));
        for study in &studies {
            report.add(section(record, study, &file_suffix(study, studies.len())));
        }
        report.say(&left_out(record));
        report.say(&closing(&record.machine));
        let page = html::page(&report);
        let Section { text, drawings } = report;
        let mut files = vec![(REPORT.to_owned(), text), (html::PAGE.to_owned(), page)];
        files.extend(drawings.into_iter().map(|Drawing { file, alone, .. }| (file, alone)));
        Self { files }
    }
}

/// Files of a run with one study have plain names.
fn file_suffix(study: &Study<'_>, studies: usize) -> String {
    match studies {
        1 => String::new(),
        _ => format!("-{}-{}", study.instrument, study.endpoints),
    }
}

fn opening(record: &Record, studies: &[Study<'_>]) -> String {
    let Machine { command, host, cpu, cores, kernel, date, .. } = &record.machine;
    // What Linux calls a machine that was given no name, as the guest is.
    let host = if host == "(none)" { "a machine without a name" } else { host };
    let cpus = if *cores == 1 { "1 CPU".to_owned() } else { format!("{cores} CPUs") };
    format!(
        "<!-- Written by the tool, do not edit. The end says how to draw it again. -->\n\n\
         # What Service rules cost\n\nMeasured on {host} ({cpu}, {cpus}, {kernel}), {date}, by \
         `{command}`.{} Written by the tool, do not edit.\n\n{}{}",
        resumed(&record.machine),
        incomplete(record),
        quality::quality(record, studies).in_words(),
    )
}

/// What is missing of a run that was stopped.
fn incomplete(record: &Record) -> String {
    let (planned, done) = (record.planned().unwrap_or(0), record.finished().count());
    if done >= planned {
        return String::new();
    }
    format!("> **Stopped before its end: {done} of {planned} cells were measured.**\n>\n")
}

fn resumed(machine: &Machine) -> String {
    match machine.resumed.as_slice() {
        [] => String::new(),
        dates => format!(" Stopped and gone on with: {}.", dates.join(", ")),
    }
}

fn section(record: &Record, study: &Study<'_>, suffix: &str) -> Section {
    let mut section = Section::default();
    section.say(&format!(
        "\n## {} instrument, {} endpoints for each Service\n",
        capitalised(study.instrument),
        study.endpoints,
    ));
    section.say(&crossover::summary(study));
    section.say(&format!("\n{}\n", instrument(study)));
    section.say(&ratios::section(study, record));
    section.add(disruption::section(study, record, suffix));
    for metric in Metric::all().filter(|metric| subject::has_chart(*metric)) {
        if study.series(metric).is_empty() {
            continue;
        }
        section.add(of_metric(record, study, metric, suffix));
        if metric == Metric::FirstPacketNs {
            section.add(spread::curves(record, study, metric, suffix));
            section.add(spread::bars(record, study, metric, suffix));
            section.add(anatomy::section(study, record, suffix));
        }
    }
    section.add(crossover::section(record, study, suffix));
    section.say(&percentiles(study));
    section
}

/// How to read a chart of a metric.
const BANDS: &str = "Line: median over rounds; band: p01 to p99 of all rounds together; `n^`: the \
                     growth exponent of what comes on top of a fixed part.";

/// A metric against the number of Services: its chart and its tables.
fn of_metric(record: &Record, study: &Study<'_>, metric: Metric, suffix: &str) -> Section {
    let mut section = Section::default();
    let title = format!("{}, by number of Services", metric.title());
    section.say(&format!("\n### {title}\n\n{} {BANDS}\n\n", subject::meaning(metric)));
    let mut series = study.series(metric);
    // Without rules memory grows by noise only, which would fill the chart.
    series.retain(|s| !metric.is_memory() || s.name != BASELINE);
    let chart = chart_of(record, study, metric, &series);
    let file = format!("{}{suffix}.svg", subject::file(metric));
    section.show(&title, &file, |form| chart::draw(&chart, form));
    for finding in findings::findings(study, metric) {
        section.say(&format!("{finding}\n"));
    }
    section.say(&format!(
        "\nMedian over rounds, and in brackets its 95 % interval:\n\n{}",
        table::medians(study, metric)
    ));
    section.say(&raw_data(metric));
    if metric.is_memory() {
        let each = table::per_service(study, metric);
        section.say(&format!("\nFor each Service, without what `none` has:\n\n{each}"));
    }
    if let Metric::Update(operation, Part::Whole) = metric {
        section.say(&format!(
            "\nWhere the time goes (medians over rounds, which need not add up):\n\n{}",
            table::parts(study, operation)
        ));
    }
    section
}

/// Where the figures of a chart are to be had.
fn raw_data(metric: Metric) -> String {
    format!("\nRaw data: [{MEASUREMENTS}]({MEASUREMENTS}), lines with the metric `{metric}`.\n")
}

fn percentiles(study: &Study<'_>) -> String {
    let mut text = format!(
        "\n### All percentiles\n\nOf the samples of all rounds together; in brackets the 95 % \
         interval when rounds are drawn anew. The raw data: [{MEASUREMENTS}]({MEASUREMENTS}), one \
         object a line; lines with a `round` are single rounds, and `counts` has every sample of \
         them.\n"
    );
    let is_whole =
        |metric: &Metric| !matches!(metric, Metric::Update(_, part) if *part != Part::Whole);
    for metric in Metric::all().filter(is_whole) {
        if !study.series(metric).is_empty() {
            let _ = write!(
                text,
                "\n<details><summary>{}</summary>\n\n`{metric}`\n\n{}\n</details>\n",
                metric.title(),
                table::percentiles(study, metric)
            );
        }
    }
    text
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

fn instrument(study: &Study<'_>) -> &'static str {
    match study.instrument {
        "guest" => {
            "The programs run in an emulated machine whose clock counts instructions: one \
             guest instruction is one unit, `17.3 k` is 17,300 of them. The same program gives \
             the same figures again, to the digit, however fast or busy the host is."
        }
        _ => {
            "Client, node and endpoints are three network namespaces joined by veth. One \
             thread, pinned to one CPU, sends a packet and receives it at the endpoint; on \
             veth the whole path runs inside the send call, so each packet is one measurement."
        }
    }
}

fn chart_of(record: &Record, study: &Study<'_>, metric: Metric, series: &[Series<'_>]) -> Chart {
    let rounds = series.iter().flat_map(|s| s.points.iter().map(|p| p.rounds)).max();
    let unit = study.unit_of(metric);
    let lines = series.iter().map(line_of).filter(|line| !line.points.is_empty());
    let lines: Vec<Line> = lines.collect();
    let has_exponents = lines.iter().any(|line| line.note.starts_with("n^"));
    Chart {
        title: format!("{}, by number of Services", metric.title()),
        subtitle: vec![
            format!(
                "{} instrument, {} endpoints a Service, {}. Line: median; band: p01 to p99{}.",
                capitalised(study.instrument),
                study.endpoints,
                match rounds.unwrap_or_default() {
                    1 => "1 round".to_owned(),
                    n => format!("up to {n} rounds"),
                },
                if has_exponents { "; n^: growth above a fixed part" } else { "" }
            ),
            of_machine(&record.machine),
        ],
        axis: subject::words_of_axis(metric, unit),
        unit,
        across: None,
        lines,
    }
}

/// What was measured on, for the words above a chart.
fn of_machine(machine: &Machine) -> String {
    // What follows the release is the build's date and flags.
    let kernel: Vec<&str> = machine.kernel.split_whitespace().take(2).collect();
    format!("{}; {}; CPUs: {}.", kernel.join(" "), machine.cpu, machine.cores)
}

fn line_of(series: &Series<'_>) -> Line {
    let mark = |point: &series::Point<'_>| Mark {
        services: f64::from(point.services),
        low: real(point.summary.p01),
        middle: point.middle(),
        high: real(point.summary.p99),
    };
    Line {
        name: series.name.clone(),
        note: findings::growth_note(series),
        // A logarithmic scale has no place for 0.
        points: series.points.iter().filter(|p| p.middle() > 0.0).map(mark).collect(),
    }
}

fn left_out(record: &Record) -> String {
    let mut text = String::new();
    for absent in record.absent() {
        let _ = writeln!(text, "- **{}** was not measured: {}", absent.backend, absent.absent);
    }
    // Each round finds the same limits.
    let limits: BTreeSet<_> = record
        .capped()
        .map(|c| (c.backend.as_str(), c.services, c.cap_seconds, c.capped.as_str()))
        .collect();
    for (backend, size, cap, why) in limits {
        let limit = if cap > 0 { format!(" (cap {cap} s)") } else { String::new() };
        let _ = writeln!(text, "- {backend} with {}{limit}: {why}", services(size));
    }
    for void in record.voided() {
        let _ = writeln!(
            text,
            "- {} with {}, round {}, is void: {}",
            void.backend,
            services(void.services),
            void.round + 1,
            void.voided
        );
    }
    if text.is_empty() { text } else { format!("\n## What is not in the figures\n\n{text}") }
}

fn closing(machine: &Machine) -> String {
    format!(
        "\n## The machine\n\n{}\n\
         ## To do it again\n\n\
         The run: `{}`. What it did is in [{SCENARIO}]({SCENARIO}), and on which machine in \
         [{MACHINE}]({MACHINE}).\n\n\
         This report from the same record, without root and without measuring:\n\n\
         ```console\n$ cargo run -p nfc-bench --bin nfc-report -- THIS_FOLDER\n```\n\n\
         ## Bias\n\nWhat these figures do not say, and where they lean:\n\n{}",
        facts(machine),
        machine.command,
        include_str!("bias.md")
    )
}

fn facts(machine: &Machine) -> String {
    let own = [
        ("CPU", &machine.cpu),
        ("Kernel", &machine.kernel),
        ("Commit", &machine.commit),
        ("Program (SHA-256)", &machine.program),
    ];
    let own = own.into_iter().map(|(name, value)| (name, value.as_str()));
    let more = machine.tools.iter().chain(&machine.settings);
    let more = more.map(|(name, value)| (name.as_str(), value.as_str()));
    let mut text = format!("| | |\n|---|---|\n| Seed | {} |\n", machine.seed);
    for (name, value) in own.chain(more) {
        let _ = writeln!(text, "| {name} | {} |", value.replace('|', "\\|"));
    }
    text
}

#[cfg(test)]
mod tests;
