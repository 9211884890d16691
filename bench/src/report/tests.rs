//! Reports of invented records: what is said, drawn and left unsaid.

use super::*;
use crate::metric::Operation;
use crate::occupancy;
use crate::plan::Cell;
use crate::record::{
    Absent, Capped, CpuTime, Disruption, Entry, Figure, Finished, Plan, Slot, Voided,
};
use crate::stats::Summary;
use crate::tally::{CellSamples, Tally};

const SIZES: [u32; 5] = [1, 10, 100, 1_000, 10_000];

/// Rounds of one metric of one backend that follow `law`, each round a little off, as
/// entries: the rounds and all together. Invented; they never leave the tests.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small and whole enough"
)]
fn entries(backend: &str, metric: Metric, law: impl Fn(f64) -> f64) -> Vec<Entry> {
    let one = |services: u32| {
        let samples = |round: u32| -> Vec<u64> {
            let drift = 1.0 + f64::from((round * 7 + services) % 5) / 400.0;
            let value = law(f64::from(services)) * drift;
            (0..50).map(|i| value as u64 + i).collect()
        };
        figures("native", (backend, services), metric, (0..10).map(samples))
    };
    SIZES.into_iter().flat_map(one).collect()
}

/// Each round and all rounds together, from the samples of each round.
pub(super) fn figures(
    instrument: &str,
    (backend, services): (&str, u32),
    metric: Metric,
    rounds: impl IntoIterator<Item = Vec<u64>>,
) -> Vec<Entry> {
    let mut tally = Tally::new(instrument, 3, 1);
    let added = (0..).zip(rounds).flat_map(|(round, samples)| {
        let cell = Cell { round, backend: backend.to_owned(), services };
        tally.add(&cell, CellSamples::from([(metric, samples)]))
    });
    // What is said of all rounds so far holds only until the next.
    let is_single = |entry: &Entry| matches!(entry, Entry::Figure(f) if f.round.is_some());
    let mut entries: Vec<Entry> = added.filter(is_single).collect();
    entries.extend(tally.over_all_rounds());
    entries
}

fn record() -> Record {
    let first = Metric::FirstPacketNs;
    let load = Operation::ColdLoad.whole();
    let mut all = entries("none", first, |_| 3_200.0);
    all.extend(entries("nft", first, |n| 4_300.0 + 100.0 * n.log10()));
    all.extend(entries("iptables", first, |n| 4_100.0 + 2.1 * n));
    all.extend(entries("nft", load, |n| 800_000.0 + 1_400.0 * n));
    all.extend(entries("iptables", load, |n| 3e6 + 90.0 * n * n));
    all.push(Entry::Absent(Absent {
        backend: "ipvs".to_owned(),
        absent: "ip_vs is not in this kernel".to_owned(),
    }));
    Record {
        machine: Machine {
            command: "sudo cargo bench --bench scale -- --seed 1".to_owned(),
            kernel: "Linux 6.18".to_owned(),
            ..Machine::default()
        },
        entries: all,
    }
}

fn text_of(record: &Record) -> String {
    let report = Report::of(record);
    report.files.into_iter().next().expect("a first file").1
}

#[test]
fn the_report_opens_with_its_command_and_says_who_wrote_it() {
    let text = text_of(&record());
    let head: String = text.lines().take(8).collect();
    assert!(head.contains("do not edit"), "{head}");
    assert!(head.contains("by `sudo cargo bench --bench scale -- --seed 1`."), "{head}");
}

/// Set `NFC_BENCH_DRAW=FOLDER` to look at the report.
#[test]
fn every_chart_named_in_the_report_is_drawn_and_the_other_way_round() {
    let report = Report::of(&record());
    if let Some(folder) = std::env::var_os("NFC_BENCH_DRAW") {
        for (name, text) in &report.files {
            std::fs::write(std::path::Path::new(&folder).join(name), text).expect("written");
        }
    }
    let text = &report.files[0].1;
    let charts: Vec<_> = report.files[1..].iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "report.html",
        "first-packet.svg",
        "first-packet-spread.svg",
        "first-packet-bars.svg",
        "cold-load.svg",
        "first-packet-crossover.svg",
        "cold-load-crossover.svg",
    ];
    assert_eq!(charts, expected);
    for chart in &charts[1..] {
        assert!(text.contains(&format!("({chart})")), "{chart} is not shown");
    }
    assert_eq!(text.matches(".svg)").count(), charts.len() - 1);
    let page = &report.files[1].1;
    assert_eq!(page.matches("<svg").count(), 2 * (charts.len() - 1));
}

#[test]
fn findings_name_the_laws_behind_the_figures() {
    let text = text_of(&record());
    let check = |words: &[&str]| {
        let found = text.lines().any(|line| words.iter().all(|w| line.contains(w)));
        assert!(found, "no line with {words:?} in\n{text}");
    };
    check(&["- nft: 4.34 µs at 1 Service, 4.75 µs at 10,000 Services: **flat**"]);
    check(&["- iptables: 4.15 µs at 1 Service", "**linear**, growth exponent 1.00", "2.11 ns"]);
    check(&["- nft: 805 µs at 1 Service", "**linear**, growth exponent 1.00 (95 % interval "]);
    check(&["- iptables: 3.02 ms at 1 Service", "**quadratic**, growth exponent 2.00"]);
    check(&["- iptables: 3.02 ms at 1 Service", ", 96.8 times from 1,000 to 10,000."]);
    check(&["- iptables : nft: 0.95 (0.95 to 0.95) at 1 Service, 5.32 (5.32 to 5.32) at 10,000"]);
    check(&[
        "iptables is faster from 1 to 100 (p < 0.0001, A 0.00 where least sure); nft is faster",
    ]);
    check(&["| First packet of a connection | iptables | ahead from 1,000 Services on (crossing"]);
    check(&["| 1 Service | iptables 4.15 µs, nft 4.34 µs | nft 805 µs, iptables 3.02 ms |"]);
    check(&["| nft against iptables | **ahead from 1,000 Services on (crossing at about 134; "]);
    check(&["**; 5.32 (5.32 to 5.32) times as long at 10,000 (p < 0.0001, A 1.00)"]);
    check(&["| 10,000 |", "25.2 µs", "5.32 (5.32 to 5.32)"]);
    check(&["> **Not disturbed.** All 50 blocks"]);
}

#[test]
fn the_place_in_the_list_is_told() {
    let mut record = record();
    for (metric, value) in [
        (Metric::FirstPacketFirstNs, 4_000.0),
        (Metric::FirstPacketMiddleNs, 14_000.0),
        (Metric::FirstPacketLastNs, 24_000.0),
    ] {
        record.entries.extend(entries("iptables", metric, |_| value));
    }
    let expected = "By place in the list of 10,000 Services: iptables 4.04 µs to the first, \
                    14.1 µs to the middle, 24.1 µs to the last.";
    let text = text_of(&record);
    assert!(text.contains(expected), "{text}");
}

#[test]
fn what_is_missing_is_said() {
    let mut record = record();
    record.entries.push(Entry::Voided(Voided {
        instrument: "native".to_owned(),
        backend: "nft".to_owned(),
        services: 10,
        endpoints: 3,
        round: 4,
        seed: 1,
        voided: "a wrong endpoint".to_owned(),
    }));
    let text = text_of(&record);
    assert!(text.contains("**ipvs** was not measured: ip_vs is not in this kernel"));
    assert!(text.contains("nft with 10 Services, round 5, is void: a wrong endpoint"));
}

#[test]
fn noisy_baselines_are_pointed_out() {
    let mut record = record();
    for entry in &mut record.entries {
        if let Entry::Figure(f) = entry
            && f.backend == "none"
            && f.round == Some(3)
        {
            f.summary.p50 *= 2;
        }
    }
    let text = text_of(&record);
    assert!(
        text.contains("5 of 50 blocks without rules had a median more than 5 % away"),
        "{text}"
    );
    assert!(text.contains("(round 4 with 1 Service +100 %, "), "{text}");
}

fn finished(round: u32, own_ms: u64, user_ms: u64, steal_ms: u64) -> Entry {
    Entry::Finished(Finished {
        instrument: "native".to_owned(),
        backend: "nft".to_owned(),
        services: 10,
        endpoints: 3,
        round,
        cpus: Some(CpuTime { capacity_ms: 2_000, own_ms, user_ms, system_ms: 10, steal_ms }),
    })
}

/// 50 blocks, of which some are 30 % slower. Their packets scatter by far less.
#[test]
fn how_many_blocks_were_off_is_said_with_how_many_chance_gives() {
    let said = |slow: u32, scatter: u64| {
        let samples = |round: u32| {
            let middle = if round < slow { 4_160 } else { 3_200 };
            (0..50).map(|n| middle + (n % 5) * scatter).collect()
        };
        let entries = figures("native", ("none", 10), Metric::FirstPacketNs, (0..50).map(samples));
        let text = text_of(&Record { entries, ..Record::default() });
        text.lines().find(|line| line.starts_with("> **")).unwrap_or_default().to_owned()
    };
    assert!(said(0, 1).starts_with("> **Not disturbed.** All 50 blocks"), "{}", said(0, 1));
    let some = said(8, 1);
    let words = "> **Off in up to 16 % of the blocks or cells; a run is called disturbed when more \
                 than 20 % are.** 8 of 50 blocks without rules had a median more than 5 % away \
                 from 3.2 µs, of which none is to be expected by chance (round 1 with 10 Services +30 %";
    assert!(some.starts_with(words), "{some}");
    assert!(said(8, 400).contains("of which at most 8.2 are"), "{}", said(8, 400));
    assert!(said(11, 1).starts_with("> **Disturbed run: 11 of 50 blocks"), "{}", said(11, 1));
}

/// The first lines say what a reader has to know before any figure.
#[test]
fn a_run_beside_others_is_said_to_be_disturbed_before_anything_else() {
    let head = |entries: Vec<Entry>| -> String {
        let mut record = record();
        record.entries.extend(entries);
        text_of(&record).lines().take(12).collect()
    };
    let quiet = head((0..10).map(|round| finished(round, 900, 960, 0)).collect());
    assert!(!quiet.contains("Disturbed") && quiet.contains("had 3 % of the CPUs"), "{quiet}");
    let beside = head((0..10).map(|round| finished(round, 500, 1_990, 0)).collect());
    let words =
        "> **Disturbed run: in 10 of 10 cells other programs had more than 15 % of the CPUs";
    assert!(beside.contains(words), "{beside}");
    let stolen = head((0..10).map(|round| finished(round, 900, 960, 200)).collect());
    assert!(stolen.contains("> **Disturbed run: in 10 of 10 cells the host took"), "{stolen}");
}

/// From what Linux counts to what the report says. The first two looks at `/proc` are of a machine
/// of two CPUs, five seconds of both together apart, while the bench ran beside two busy loops;
/// in the third the loops are taken away, and nothing else.
#[test]
fn what_linux_counts_beside_busy_loops_is_called_disturbed() {
    let ours = |ticks: u32| {
        format!(
            "12523 (scale-875cf6e6f) R 12422 12413 13157 0 -1 4194560 35240 319 7 3 {ticks} 9 0 0 20"
        )
    };
    let look = |machine: &str, ticks: u32| {
        occupancy::counted(machine, &ours(ticks)).expect("what Linux says")
    };
    let before = look("cpu  2840415 90608 628460 1535741 9120 0 11164 3332 0 0", 2);
    let beside = look("cpu  2840839 90608 628536 1535741 9120 0 11164 3332 0 0", 27);
    let alone = look("cpu  2840440 90608 628536 1536140 9120 0 11164 3332 0 0", 27);
    let said = |after: CpuTime| {
        let cpus = Some(occupancy::between(before, after));
        let cell = |round| match finished(round, 0, 0, 0) {
            Entry::Finished(finished) => Entry::Finished(Finished { cpus, ..finished }),
            other => other,
        };
        let mut record = record();
        record.entries.extend((0..10).map(cell));
        let text = text_of(&record);
        text.lines().find(|line| line.starts_with("> **")).expect("a verdict").to_owned()
    };
    let disturbed = said(beside);
    let words = "> **Disturbed run: in 10 of 10 cells other programs had more than 15 % of the \
                 CPUs (79.8 % in the median). Do not publish these figures";
    assert!(disturbed.starts_with(words), "{disturbed}");
    assert!(said(alone).starts_with("> **Not disturbed.**"), "{}", said(alone));
}

#[test]
fn a_run_that_was_stopped_says_how_much_of_it_there_is() {
    let mut record = record();
    record.entries.extend([Entry::Plan(Plan { cells: 75 }), finished(0, 900, 960, 0)]);
    assert!(text_of(&record).contains("**Stopped before its end: 1 of 75 cells were measured.**"));
}

/// A peer that stops early is extrapolated, and the table says so.
/// The slow are measured in fewer rounds. The machine was slower in the later ones, which must
/// not make the other look faster.
#[test]
fn a_ratio_is_of_the_rounds_that_both_have() {
    let load = Operation::ColdLoad.whole();
    let rounds = |times: &[u64]| times.iter().map(|t| vec![*t; 3]).collect::<Vec<_>>();
    let ours = rounds(&[100, 101, 102, 200, 200, 200, 200]);
    let record = Record {
        entries: [
            figures("native", ("nft", 10), load, ours),
            figures("native", ("nft/text", 10), load, rounds(&[500, 505, 510])),
        ]
        .concat(),
        ..Record::default()
    };
    let study = &studies(&record)[0];
    let [ours, theirs] = ["nft", "nft/text"].map(|name| study.series_of(load, name));
    let ours = ours.as_ref().and_then(|s| s.at(10)).expect("it was measured");
    let theirs = theirs.as_ref().and_then(|s| s.at(10)).expect("it was measured");
    assert!((duel::ratio(ours, theirs) - 5.0).abs() < 1e-9);
    assert!((duel::ratio_of_runs(ours, theirs) - 2.525).abs() < 1e-9);
}

#[test]
fn a_ratio_that_was_not_measured_is_told_apart() {
    let mut record = record();
    let whole = Operation::ColdLoad.whole();
    record.entries.extend(entries("nft", Operation::FullResync.whole(), |n| 900.0 * n));
    let peer = entries("kube-proxy-1.33", whole, |n| 1e6 + 40.0 * n * n);
    let small = |e: &Entry| matches!(e, Entry::Figure(f) if f.services < 10_000);
    record.entries.extend(peer.into_iter().filter(small));
    record.entries.push(Entry::Capped(Capped {
        backend: "kube-proxy-1.33".to_owned(),
        services: 10_000,
        endpoints: 3,
        round: 0,
        cap_seconds: 120,
        capped: "loading did not end within 120 s".to_owned(),
    }));
    let text = text_of(&record);
    let row = text.lines().find(|l| l.starts_with("| kube-proxy-1.33 | 1,000 |")).expect("a row");
    let (measured, extrapolated) = row.split_once('*').expect("one that is extrapolated");
    assert!(measured.ends_with("| 18.6 | ") && extrapolated.contains(" (n^2.00)*"), "{row}");
    assert!(text.contains("within the cap of 120 s"));
    assert!(text.contains("kube-proxy-1.33 with 10,000 Services (cap 120 s): loading did not"));
}

fn disruption(backend: &str, round: u32, lost: u32) -> Entry {
    let slot = |n: u64| Slot { at_ns: n * 20_000_000, p50: 9_000, max: 40_000 + n, astray: 0 };
    Entry::Disruption(Disruption {
        instrument: "native".to_owned(),
        backend: backend.to_owned(),
        services: 1_000,
        endpoints: 3,
        round,
        seed: 1,
        operation: "endpoint_swapped".to_owned(),
        updates: 1_000,
        packet_interval_ns: 1_000_000,
        late_ns: 1_000_000,
        latency: Summary::of(&[9_000, 10_000, 2_000_000]).expect("samples"),
        sent: 5_000,
        lost,
        wrong: 0,
        late: 5,
        late_on_way: 1,
        longest_way_ns: 1_500_000,
        late_between: 4,
        spans: vec![(300_000_000, 300_050_000)],
        slots: (0..250).map(slot).collect(),
    })
}

#[test]
fn what_packets_noticed_is_added_up_and_drawn() {
    let mut record = record();
    for (round, lost) in [(0, 0), (1, 2)] {
        record.entries.push(disruption("iptables", round, lost));
        record.entries.push(disruption("nft-constant-time", round, 0));
    }
    let report = Report::of(&record);
    let text = &report.files[0].1;
    assert!(text.contains("iptables: 2000 updates, 10000 packets: **2 lost and 0 wrong**; 0.1 %"));
    assert!(text.contains("nft-constant-time: 2000 updates, 10000 packets: no packet was lost"));
    let chart = report.files.iter().find(|(name, _)| name == "packets-endpoint-swapped.svg");
    let svg = &chart.expect("drawn").1;
    for words in ["1000 updates, 5000 packets: 0 lost", "nft-constant-time", "1,000 Services"] {
        assert!(svg.contains(words), "{words:?} is missing");
    }
}

/// Two instruments count different things: no table and no chart has both.
#[test]
fn instruments_are_never_mixed() {
    let mut record = record();
    let guest = entries("nft", Metric::FirstPacketNs, |_| 17_000.0).into_iter().map(|e| match e {
        Entry::Figure(f) => Entry::Figure(Figure {
            instrument: "guest".to_owned(),
            unit: "instructions".to_owned(),
            ..f
        }),
        other => other,
    });
    record.entries.extend(guest);
    let report = Report::of(&record);
    let names: Vec<_> = report.files.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains(&"first-packet-guest-3.svg"), "{names:?}");
    let guest = report.files.iter().find(|(name, _)| name == "first-packet-guest-3.svg");
    let guest = &guest.expect("drawn").1;
    assert!(!guest.contains(">iptables<") && guest.contains("17.1 k at 10k"), "{names:?}");
}

#[test]
fn the_same_record_gives_the_same_report() {
    assert_eq!(Report::of(&record()), Report::of(&record()));
}

/// One round gives no interval, and no claim about who is faster.
#[test]
fn a_short_run_claims_little() {
    let mut record = record();
    record.entries.retain(|e| !matches!(e, Entry::Figure(f) if f.round.is_some_and(|r| r > 0)));
    let text = text_of(&record);
    assert!(text.contains("Too few rounds to say who is faster."));
    assert!(!text.contains("(95 % interval"));
}

/// The folder of results explains itself with the same words as each report.
#[test]
fn the_results_folder_names_the_same_biases() {
    let readme = include_str!("../../../results/README.md");
    assert!(readme.ends_with(include_str!("bias.md")), "results/README.md is out of date");
}
