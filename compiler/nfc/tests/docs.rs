//! The docs are tested: tables are what the code says, and commands print what they are
//! shown to print.
//!
//! `NFC_BLESS=1` rewrites the tables; `TRYCMD=overwrite` rewrites the transcripts.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

use nfc::doctor::Kind;
use nfc::registry;
use nfc_ir::{
    Affinity, DIFFERENCES, Family, Ir, LocalDetector, Node, Port, Protocol, ProxyMode, Scheduler,
    Service, synth,
};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the root")
}

/// Compares a generated part of a page, between two marker lines, with `fresh`.
fn check(page: &str, marker: &str, fresh: &str) {
    let path = root().join(page);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{page}: {e}"));
    let (begin, end) = (format!("<!-- begin {marker} -->\n"), format!("<!-- end {marker} -->"));
    let (head, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{page}: no {begin}"));
    let (old, tail) = rest.split_once(&end).unwrap_or_else(|| panic!("{page}: no {end}"));
    if std::env::var_os("NFC_BLESS").is_some() {
        std::fs::write(&path, [head, &begin, fresh, &end, tail].concat()).expect("written");
    } else {
        assert_eq!(old, fresh, "{page} is stale: run the test with NFC_BLESS=1");
    }
}

#[test]
fn the_differences_between_modes_are_listed() {
    let mut table = String::from("| | iptables | nftables | ipvs |\n|---|---|---|---|\n");
    for difference in DIFFERENCES {
        let answers = ProxyMode::ALL.map(difference.holds);
        assert!(answers.contains(&true) && answers.contains(&false), "{}", difference.statement);
        let [iptables, nftables, ipvs] = answers.map(|yes| if yes { "yes" } else { "no" });
        writeln!(table, "| {} | {iptables} | {nftables} | {ipvs} |", difference.statement)
            .expect("text");
    }
    check("docs/semantics.md", "differences", &table);
}

/// Services that ask for everything an Ir can say beyond addresses and policies.
fn demanding(family: Family) -> Vec<Ir> {
    let schedulers =
        [Scheduler::Random, Scheduler::RoundRobin, Scheduler::SourceHash, Scheduler::Maglev];
    let weights = [[1, 1, 1], [1, 2, 3], [9973, 9967, 9949]];
    let mut irs = Vec::new();
    for scheduler in schedulers {
        for weights in weights {
            for seconds in [0, 60] {
                let service = |i| {
                    let mut service = synth::service(family, Protocol::Tcp, i, 3);
                    service.scheduler = scheduler;
                    service.affinity =
                        seconds.try_into().ok().map(|timeout_seconds| Affinity { timeout_seconds });
                    service.node_port = Port::new(30_000 + u16::try_from(i).expect("small"));
                    for (endpoint, weight) in service.endpoints.iter_mut().zip(weights) {
                        endpoint.weight = weight.try_into().expect("not zero");
                    }
                    service
                };
                let services: Vec<Service> = (0..2).map(service).collect();
                let node = Node { local_detector: LocalDetector::None, ..Node::default() };
                irs.push(Ir::new(family, node, services).expect("valid"));
            }
        }
    }
    // More endpoints than affinity may be able to tell apart.
    let mut crowded = synth::service(family, Protocol::Tcp, 0, (1 << 15) + 1);
    crowded.affinity = 60.try_into().ok().map(|timeout_seconds| Affinity { timeout_seconds });
    irs.push(Ir::new(family, Node::default(), vec![crowded]).expect("valid"));
    irs
}

#[test]
fn what_backends_cannot_say_is_listed() {
    let mut table =
        String::from("| backend | what | why, and what it does instead |\n|---|---|---|\n");
    for backend in registry::all() {
        let irs = Family::ALL.into_iter().flat_map(demanding);
        let gaps: BTreeSet<_> =
            irs.flat_map(|ir| backend.lower(&ir).unsupported).map(|u| u.reason).collect();
        for gap in gaps {
            writeln!(table, "| {} | {} | {} |", backend.name(), gap.feature, gap.why)
                .expect("text");
        }
    }
    check("docs/semantics.md", "unsupported", &table);
}

#[test]
fn the_doctors_findings_are_listed() {
    let mut table = String::from("| finding | | what it means |\n|---|---|---|\n");
    for kind in Kind::ALL {
        let severity = kind.severity();
        writeln!(table, "| `{kind}` | {severity} | {} |", kind.meaning()).expect("text");
    }
    check("docs/doctor.md", "findings", &table);
}

#[test]
fn commands_in_the_docs_print_what_they_are_shown_to_print() {
    // Commands are shown as typed in the root of the project.
    std::env::set_current_dir(root()).expect("the root of the project");
    let cases = trycmd::TestCases::new();
    cases.case("README.md").case("docs/*.md").case("docs/guide/*.md");
    // These need root and a kernel with nftables: the tests of the same names in netns-tests
    // run them.
    cases.skip("docs/lab.md").skip("docs/doctor.md").skip("docs/inspect.md");
    cases.skip("docs/guide/6-on-a-node.md").skip("docs/guide/7-debugging.md");
    cases.skip("docs/guide/9-ipvs.md");
}

/// Figures in the README are copies of what the bench wrote, and the charts are there.
#[test]
fn the_readme_shows_figures_of_published_runs() {
    let root = root();
    let readme = std::fs::read_to_string(root.join("README.md")).expect("a README");
    let (_, shown) = readme.split_once("<!-- begin results -->").expect("results");
    let (shown, _) = shown.split_once("<!-- end results -->").expect("an end of them");
    let linked: Vec<_> = shown
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')').map(|(path, _)| root.join(path)))
        .collect();
    assert!(linked.iter().all(|path| path.is_file()), "{linked:?}");
    let reports = linked.iter().filter(|path| path.ends_with("report.md"));
    let reports: String =
        reports.map(|path| std::fs::read_to_string(path).expect("a report")).collect();
    let rows: Vec<_> = shown.lines().filter(|line| line.starts_with('|')).collect();
    assert!(rows.len() > 3, "the README has a table of ratios");
    for row in rows {
        assert!(reports.lines().any(|line| line == row), "no report has this row: {row}");
    }
}
