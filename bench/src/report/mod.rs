//! From a record to `report.md` and its charts.
//!
//! Invariant: pure. The same record gives the same report to the byte, on any machine,
//! without root and without measuring.

mod chart;
mod findings;
mod quantity;
mod series;
mod table;

pub use chart::ChartError;
pub(crate) use quantity::services;

use crate::metric::Metric;
use crate::record::{MACHINE, MEASUREMENTS, Machine, Record, SCENARIO};
use chart::{Chart, Line, Mark};
use series::{Series, Study, real, studies};
use std::fmt::Write as _;

/// Name of the file with the report.
pub const REPORT: &str = "report.md";

/// A report: the files that make it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Name and text of each file; the first is the report itself.
    pub files: Vec<(String, String)>,
}

/// A metric that gets a chart.
struct Subject {
    metric: Metric,
    file: &'static str,
    title: &'static str,
    axis: &'static str,
    meaning: &'static str,
}

const SUBJECTS: [Subject; 4] = [
    Subject {
        metric: Metric::FirstPacketNs,
        file: "first-packet",
        title: "First packet of a connection, by number of Services",
        axis: "from send to arrival",
        meaning: "Each packet is a new connection to a Service chosen uniformly: it walks the \
                  rules. For iptables p01 to p99 is the spread over positions in the list.",
    },
    Subject {
        metric: Metric::EstablishedPacketNs,
        file: "established-packet",
        title: "Later packet of a connection, by number of Services",
        axis: "from send to arrival",
        meaning: "The kernel knows the connection and the rules for Services are not walked. \
                  What is left is connection tracking and the hooks that a backend occupies; \
                  the number of Services should make no difference.",
    },
    Subject {
        metric: Metric::ColdLoadNs,
        file: "cold-load",
        title: "Loading all rules into an empty kernel, by number of Services",
        axis: "from Services in memory to rules in force",
        meaning: "From Services in memory until the kernel has every rule: lower, diff, encode, \
                  kernel. iptables includes iptables-legacy-restore, and kube-proxy's rulesets \
                  the nft tool; of those nothing but loading is timed.",
    },
    Subject {
        metric: Metric::EndpointAddedNs,
        file: "endpoint-added",
        title: "Adding one endpoint to one Service, by number of Services",
        axis: "from Services in memory to rules in force",
        meaning: "From Services in memory with one endpoint more until the kernel has it: \
                  lower, diff, encode, kernel. Everything loaded stays in place. Another \
                  Service got one before, untimed, so that nothing is made for the first time; \
                  with 1 Service there is no other.",
    },
];

const COLD_LOAD_PARTS: [(&str, Metric); 4] = [
    ("lower", Metric::ColdLoadLowerNs),
    ("diff", Metric::ColdLoadDiffNs),
    ("encode", Metric::ColdLoadEncodeNs),
    ("kernel", Metric::ColdLoadKernelNs),
];

const ENDPOINT_ADDED_PARTS: [(&str, Metric); 4] = [
    ("lower", Metric::EndpointAddedLowerNs),
    ("diff", Metric::EndpointAddedDiffNs),
    ("encode", Metric::EndpointAddedEncodeNs),
    ("kernel", Metric::EndpointAddedKernelNs),
];

/// Metrics that have a table only.
const OTHERS: [(Metric, &str); 4] = [
    (Metric::FirstPacketFirstNs, "First packet, to the first Service of the list"),
    (Metric::FirstPacketMiddleNs, "First packet, to the Service in the middle of the list"),
    (Metric::FirstPacketLastNs, "First packet, to the last Service of the list"),
    (Metric::MissPacketNs, "First packet to an address that is no Service's"),
];

impl Report {
    /// The report of `record`.
    ///
    /// # Errors
    ///
    /// [`ChartError`] when a chart cannot be drawn.
    pub fn of(record: &Record) -> Result<Self, ChartError> {
        let mut text = opening(&record.machine);
        let mut charts = Vec::new();
        let studies = studies(record);
        for study in &studies {
            let name = file_suffix(study, studies.len());
            text.push_str(&section(study, &name));
            charts.extend(draw(record, study, &name)?);
        }
        text.push_str(&left_out(record));
        text.push_str(&closing(&record.machine));
        let mut files = vec![(REPORT.to_owned(), text)];
        files.extend(charts);
        Ok(Self { files })
    }
}

/// Files of a run with one study have plain names.
fn file_suffix(study: &Study<'_>, studies: usize) -> String {
    match studies {
        1 => String::new(),
        _ => format!("-{}-{}", study.instrument, study.endpoints),
    }
}

fn opening(machine: &Machine) -> String {
    format!(
        "<!-- Written by the tool, do not edit. The end says how to draw it again. -->\n\n\
         # What Service rules cost\n\n\
         ```console\n$ {}\n```\n\n\
         Written by the tool, do not edit. Measured on {} ({}, {} CPUs, {}), {}.\n",
        machine.command, machine.host, machine.cpu, machine.cores, machine.kernel, machine.date
    )
}

fn section(study: &Study<'_>, suffix: &str) -> String {
    let mut text = format!(
        "\n## {} instrument, {} endpoints for each Service\n\n{}\n\n### Findings\n\n",
        capitalised(study.instrument),
        study.endpoints,
        instrument(study)
    );
    for finding in findings::findings(study) {
        let _ = writeln!(text, "{finding}");
    }
    for subject in &SUBJECTS {
        if study.series(subject.metric).is_empty() {
            continue;
        }
        let Subject { metric, file, title, meaning, .. } = subject;
        let _ = write!(
            text,
            "\n### {title}\n\n{meaning}\n\n![{title}]({file}{suffix}.svg)\n\n\
             Median over rounds, and in brackets its 95 % interval:\n\n{}",
            table::medians(study, *metric)
        );
        let parts = match metric {
            Metric::ColdLoadNs => &COLD_LOAD_PARTS,
            Metric::EndpointAddedNs => &ENDPOINT_ADDED_PARTS,
            _ => continue,
        };
        let parts = table::parts(study, *metric, parts);
        let _ = write!(
            text,
            "\nWhere the time goes (medians over rounds, which need not add up):\n\n{parts}"
        );
    }
    let _ = write!(
        text,
        "\n### All percentiles\n\nThe raw data: [{MEASUREMENTS}]({MEASUREMENTS}), one object a \
         line; lines with a `round` are single rounds.\n"
    );
    let charted = SUBJECTS.iter().map(|s| (s.metric, s.title));
    for (metric, title) in charted.chain(OTHERS) {
        if !study.series(metric).is_empty() {
            let _ = write!(text, "\n**{title}** (`{metric}`)\n\n");
            text.push_str(&table::percentiles(study, metric));
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
             guest instruction is one unit. The same run gives the same figures on any host."
        }
        _ => {
            "Client, node and endpoints are three network namespaces joined by veth. One \
             thread, pinned to one CPU, sends a packet and receives it at the endpoint; on \
             veth the whole path runs inside the send call, so each packet is one measurement."
        }
    }
}

fn draw(
    record: &Record,
    study: &Study<'_>,
    suffix: &str,
) -> Result<Vec<(String, String)>, ChartError> {
    let drawn = |subject: &Subject| {
        let series = study.series(subject.metric);
        let file = format!("{}{suffix}.svg", subject.file);
        let chart = chart_of(record, study, subject, &series);
        chart::draw(&chart).map(|svg| (file, svg))
    };
    SUBJECTS.iter().filter(|s| !study.series(s.metric).is_empty()).map(drawn).collect()
}

fn chart_of(record: &Record, study: &Study<'_>, subject: &Subject, series: &[Series<'_>]) -> Chart {
    let rounds = series.iter().flat_map(|s| s.points.iter().map(|p| p.rounds)).max();
    let machine = &record.machine;
    Chart {
        title: subject.title.to_owned(),
        subtitle: vec![
            format!(
                "{} instrument, {} endpoints a Service. Line: median; band: p01 to p99, all of \
                 up to {} rounds together.",
                capitalised(study.instrument),
                study.endpoints,
                rounds.unwrap_or_default()
            ),
            format!("{}; {}; {} CPUs.", machine.kernel, machine.cpu, machine.cores),
        ],
        axis: format!("{}, {}", study.unit.axis(), subject.axis),
        unit: study.unit,
        lines: series.iter().map(line_of).collect(),
    }
}

fn line_of(series: &Series<'_>) -> Line {
    let mark = |point: &series::Point<'_>| Mark {
        services: f64::from(point.services),
        low: real(point.summary.p01),
        middle: real(point.summary.p50),
        high: real(point.summary.p99),
    };
    Line { name: series.name.clone(), points: series.points.iter().map(mark).collect() }
}

fn left_out(record: &Record) -> String {
    let mut text = String::new();
    for absent in record.absent() {
        let _ = writeln!(text, "- **{}** was not measured: {}", absent.backend, absent.absent);
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
    let own = [("CPU", &machine.cpu), ("Kernel", &machine.kernel), ("Commit", &machine.commit)];
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
