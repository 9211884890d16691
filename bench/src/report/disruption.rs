//! What packets noticed while rules changed: a table, findings and a timeline for each
//! operation.
//!
//! Invariant: sums and ratios of the record's counts; rounds are added, never averaged.

use super::quantity::{Unit, services, three_digits};
use super::section::Section;
use super::series::{Study, real};
use super::table::header;
use super::timeline::{self, Panel, Timeline};
use crate::record::{Disruption, MEASUREMENTS, Record};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What was done, for titles.
const OPERATIONS: [(&str, &str); 2] = [
    ("full_resync", "Packets while all rules are replaced"),
    ("endpoint_swapped", "Packets while endpoints are replaced one by one"),
];

/// The section, empty when no packets were sent during updates.
pub(crate) fn section(study: &Study<'_>, record: &Record, suffix: &str) -> Section {
    let mut section = Section::default();
    for (operation, title) in OPERATIONS {
        let rounds = of_operation(study, record, operation);
        let Some(one) = rounds.values().flatten().next() else { continue };
        let unit = Unit::Nanoseconds;
        section.say(&format!(
            "\n### {title}\n\nWith {}. A packet is due every {}, each a new connection, half of them \
             to a few Services that change where single endpoints are replaced; what counts is the \
             time from when it was due. One thread sends on a CPU of its own while another updates \
             the node. **Lost**: arrived nowhere. **Wrong**: arrived where no rules that held at that \
             moment send it. **Late**: by more than {}. Of those *on the way*: it took so long \
             after it had been sent; the others were sent late, because the sender was held up, by \
             an earlier packet or by whatever else the CPU had to do. *Between*: late while no \
             update was carried out, which is the noise of the machine. All rounds together.\n\n",
            services(one.services),
            unit.format(real(one.packet_interval_ns)),
            unit.format(real(one.late_ns)),
        ));
        let timeline = timeline(record, title, &rounds, one);
        let file = format!("packets-{}{suffix}.svg", operation.replace('_', "-"));
        section.show(title, &file, |form| timeline::draw(&timeline, form));
        section.say(&table(&rounds));
        for finding in findings(&rounds) {
            section.say(&format!("\n- {finding}"));
        }
        section.say(&format!(
            "\n\nRaw data: [{MEASUREMENTS}]({MEASUREMENTS}), lines of kind `disruption`.\n"
        ));
    }
    section
}

type Rounds<'a> = BTreeMap<&'a str, Vec<&'a Disruption>>;

fn of_operation<'a>(study: &Study<'_>, record: &'a Record, operation: &str) -> Rounds<'a> {
    let own = |d: &&Disruption| {
        d.operation == operation
            && d.instrument == study.instrument
            && d.endpoints == study.endpoints
    };
    let mut rounds = Rounds::new();
    for disruption in record.disruptions().filter(own) {
        rounds.entry(&disruption.backend).or_default().push(disruption);
    }
    rounds
}

fn sum(rounds: &[&Disruption], count: impl Fn(&Disruption) -> u32) -> u32 {
    rounds.iter().map(|d| count(d)).sum()
}

/// The longest time that one update took, in nanoseconds.
fn longest(rounds: &[&Disruption]) -> u64 {
    rounds.iter().flat_map(|d| &d.spans).map(|(begun, done)| done - begun).max().unwrap_or(0)
}

fn table(all: &Rounds<'_>) -> String {
    let names = [
        "rounds",
        "updates",
        "longest update",
        "packets",
        "lost",
        "wrong",
        "late",
        "on the way",
        "between",
        "p50",
        "p99",
        "max",
        "longest way",
    ];
    let mut text = header("Backend", &names);
    for (name, rounds) in all {
        let counts = [
            sum(rounds, |d| d.sent),
            sum(rounds, |d| d.lost),
            sum(rounds, |d| d.wrong),
            sum(rounds, |d| d.late),
            sum(rounds, |d| d.late_on_way),
            sum(rounds, |d| d.late_between),
        ];
        let unit = Unit::Nanoseconds;
        let worst = |of: fn(&Disruption) -> u64| {
            unit.format(real(rounds.iter().map(|d| of(d)).max().unwrap_or(0)))
        };
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} | {} | {} | {} | {} | {} |",
            rounds.len(),
            sum(rounds, |d| d.updates),
            unit.format(real(longest(rounds))),
            counts.map(|c| c.to_string()).join(" | "),
            worst(|d| d.latency.p50),
            worst(|d| d.latency.p99),
            worst(|d| d.latency.max),
            worst(|d| d.longest_way_ns),
        );
    }
    text + "\nOf p50, p99 and max the worst round; longest way: the longest that one packet took after it had \
             been sent.\n"
}

fn findings(all: &Rounds<'_>) -> Vec<String> {
    let finding = |(name, rounds): (&&str, &Vec<&Disruption>)| {
        let (lost, wrong) = (sum(rounds, |d| d.lost), sum(rounds, |d| d.wrong));
        let (sent, late) = (sum(rounds, |d| d.sent), sum(rounds, |d| d.late));
        let on_way = sum(rounds, |d| d.late_on_way);
        let updates = sum(rounds, |d| d.updates);
        let astray = match (lost, wrong) {
            (0, 0) => "no packet was lost and none went wrong".to_owned(),
            _ => format!("**{lost} lost and {wrong} wrong**"),
        };
        let share = three_digits(100.0 * f64::from(late) / f64::from(sent.max(1)));
        format!(
            "{name}: {updates} updates, {sent} packets: {astray}; {share} % were late, {on_way} of \
             them on the way."
        )
    };
    all.iter().map(finding).collect()
}

/// The timeline of the first round of each backend.
fn timeline(record: &Record, title: &str, rounds: &Rounds<'_>, one: &Disruption) -> Timeline {
    let first = |(name, all): (&&str, &Vec<&Disruption>)| {
        all.iter().min_by_key(|d| d.round).map(|d| panel(name, d))
    };
    Timeline {
        title: format!("{title}, {}", services(one.services)),
        subtitle: vec![
            "From when a packet was due until it arrived (log scale): line: median of 20 ms, bars \
             up to the largest. Red line: late."
                .to_owned(),
            "Dark strip: an update is carried out. Red crosses: packets lost or at a wrong \
             endpoint. The first round."
                .to_owned(),
            super::of_machine(&record.machine),
        ],
        late: real(one.late_ns),
        panels: rounds.iter().filter_map(first).collect(),
    }
}

fn panel(name: &str, disruption: &Disruption) -> Panel {
    let Disruption { updates, sent, lost, wrong, late, .. } = disruption;
    Panel {
        name: name.to_owned(),
        counts: format!(
            "{updates} updates, {sent} packets: {lost} lost, {wrong} wrong, {late} late"
        ),
        spans: disruption.spans.clone(),
        slots: disruption.slots.clone(),
    }
}
