//! From a record to `report.md` and its charts.
//!
//! Invariant: pure. The same record gives the same report to the byte, on any machine,
//! without root and without measuring.

mod chart;
mod disruption;
mod findings;
mod quantity;
mod ratios;
mod series;
mod table;
mod timeline;

pub use chart::ChartError;
pub(crate) use quantity::services;

use crate::metric::{Metric, Operation, Part};
use crate::plan::BASELINE;
use crate::record::{MACHINE, MEASUREMENTS, Machine, Record, SCENARIO};
use chart::{Chart, Line, Mark};
use quantity::Unit;
use series::{Series, Study, real, studies};
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

/// A metric that gets a chart.
struct Subject {
    metric: Metric,
    file: &'static str,
    title: &'static str,
    axis: &'static str,
    meaning: &'static str,
}

const SUBJECTS: [Subject; 17] = [
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
        metric: Operation::ColdLoad.whole(),
        file: "cold-load",
        title: "Loading all rules into an empty kernel, by number of Services",
        axis: "from Services in memory to rules in force",
        meaning: "From Services in memory until the kernel has every rule: lower, diff, encode, \
                  kernel. iptables includes iptables-legacy-restore, and kube-proxy's rulesets \
                  the nft tool; of those nothing but loading is timed.",
    },
    Subject {
        metric: Operation::FullResync.whole(),
        file: "full-resync",
        title: "Replacing all rules at once, by number of Services",
        axis: "from Services in memory to rules in force",
        meaning: "Everything once more, in place of what is there and without looking at it. \
                  nftables does it in one transaction: packets see the old rules or the new \
                  ones. iptables does it table by table.",
    },
    Subject {
        metric: Operation::NoOp.whole(),
        file: "no-op",
        title: "Nothing has changed, by number of Services",
        axis: "from Services in memory to knowing that nothing is to do",
        meaning: "The same Services again, while the program that was loaded is remembered: \
                  what a controller pays for an event that changes nothing.",
    },
    Subject {
        metric: Operation::ReadBack.whole(),
        file: "read-back",
        title: "Nothing has changed, but the kernel is asked, by number of Services",
        axis: "from Services in memory to knowing that nothing is to do",
        meaning: "The same Services again, while nothing is remembered: what is there is read \
                  and compared, as `nfc apply` does on a node that has rules.",
    },
    Subject {
        metric: Operation::EndpointAdded.whole(),
        file: "endpoint-added",
        title: "Adding one endpoint to one Service, by number of Services",
        axis: "from Services in memory to rules in force",
        meaning: "From Services in memory with one endpoint more until the kernel has it: \
                  lower, diff, encode, kernel. Everything loaded stays in place. Another \
                  Service got one before, untimed, so that nothing is made for the first time; \
                  with 1 Service there is no other.",
    },
    Subject {
        metric: Operation::EndpointSwapped.whole(),
        file: "endpoint-swapped",
        title: "Replacing one endpoint of one Service, by number of Services",
        axis: "from Services in memory to rules in force",
        meaning: "One endpoint goes and another takes its place, as in a rolling update.",
    },
    Subject {
        metric: Operation::EndpointSwapped.kernel(),
        file: "endpoint-swapped-kernel",
        title: "Replacing one endpoint, the kernel's part, by number of Services",
        axis: "from handing steps over to rules in force",
        meaning: "Of the same, what happens outside of this process: the kernel, and the tool \
                  where there is one.",
    },
    Subject {
        metric: Operation::EndpointRemoved.whole(),
        file: "endpoint-removed",
        title: "Removing one endpoint of one Service, by number of Services",
        axis: "from Services in memory to rules in force",
        meaning: "The Service has others left.",
    },
    Subject {
        metric: Operation::ServiceAdded.whole(),
        file: "service-added",
        title: "Adding one Service, by number of Services",
        axis: "from Services in memory to rules in force",
        meaning: "A Service with as many endpoints as the others.",
    },
    Subject {
        metric: Operation::ServiceAdded.kernel(),
        file: "service-added-kernel",
        title: "Adding one Service, the kernel's part, by number of Services",
        axis: "from handing steps over to rules in force",
        meaning: "Of the same, what happens outside of this process.",
    },
    Subject {
        metric: Operation::ServiceRemoved.whole(),
        file: "service-removed",
        title: "Removing one Service, by number of Services",
        axis: "from Services in memory to rules in force",
        meaning: "With all its endpoints.",
    },
    Subject {
        metric: Operation::Churn.whole(),
        file: "churn",
        title: "Replacing an endpoint of one Service in a hundred, by number of Services",
        axis: "from Services in memory to rules in force",
        meaning: "All at once, in one update.",
    },
    Subject {
        metric: Metric::KernelBytes,
        file: "kernel-memory",
        title: "Memory that the kernel needs for all rules, by number of Services",
        axis: "more than before the load",
        meaning: "Unreclaimable slabs, vmalloc and per-CPU memory of the whole machine, before \
                  and after. Whatever else the machine does meanwhile is in it, and pages that \
                  the kernel had in reserve are not: read it as a slope, not to the byte.",
    },
    Subject {
        metric: Metric::LoadPeakBytes,
        file: "load-memory",
        title: "Most memory of the process that loads all rules, by number of Services",
        axis: "resident, itself and all Services included",
        meaning: "Of a fresh process that makes the Services, loads them and ends (`VmHWM`). \
                  Of peers it includes making the script, which is ours and not theirs.",
    },
    Subject {
        metric: Metric::ToolPeakBytes,
        file: "tool-memory",
        title: "Most memory of the tool that loads all rules, by number of Services",
        axis: "resident",
        meaning: "Of the `nft` or `iptables-legacy-restore` process that reads the text \
                  (`VmHWM`, asked every 2 ms, so that the very last growth may be missed).",
    },
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
            text.push_str(&section(record, study, &name));
            charts.extend(draw(record, study, &name)?);
            charts.extend(disruption::draw(record, study, &name)?);
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

fn section(record: &Record, study: &Study<'_>, suffix: &str) -> String {
    let mut text = format!(
        "\n## {} instrument, {} endpoints for each Service\n\n{}\n\n### Findings\n\n",
        capitalised(study.instrument),
        study.endpoints,
        instrument(study)
    );
    for finding in findings::findings(study) {
        let _ = writeln!(text, "{finding}");
    }
    text.push_str(&ratios::section(study, record));
    text.push_str(&disruption::section(study, record, suffix));
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
        if metric.is_memory() {
            let each = table::per_service(study, *metric);
            let _ = write!(text, "\nFor each Service, without what `none` has:\n\n{each}");
        }
        let Metric::Update(operation, Part::Whole) = *metric else { continue };
        let parts = table::parts(study, operation);
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
        let mut series = study.series(subject.metric);
        // Without rules memory grows by noise only, which would fill the chart.
        series.retain(|s| !subject.metric.is_memory() || s.name != BASELINE);
        let unit = study.unit_of(subject.metric);
        let file = format!("{}{suffix}.svg", subject.file);
        let chart = chart_of(record, (study, unit), subject, &series);
        chart::draw(&chart).map(|svg| (file, svg))
    };
    SUBJECTS.iter().filter(|s| !study.series(s.metric).is_empty()).map(drawn).collect()
}

fn chart_of(
    record: &Record,
    (study, unit): (&Study<'_>, Unit),
    subject: &Subject,
    series: &[Series<'_>],
) -> Chart {
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
        axis: format!("{}, {}", unit.axis(), subject.axis),
        unit,
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
    Line {
        name: series.name.clone(),
        note: findings::growth_note(series),
        // A logarithmic scale has no place for 0.
        points: series.points.iter().filter(|p| p.summary.p50 > 0).map(mark).collect(),
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
        let _ = writeln!(text, "- {backend} with {} (cap {cap} s): {why}", services(size));
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
