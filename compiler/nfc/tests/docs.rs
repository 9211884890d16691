//! The docs are tested: tables are what the code says, and commands print what they are
//! shown to print.
//!
//! `NFC_BLESS=1` rewrites the tables; `TRYCMD=overwrite` rewrites the transcripts.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

use nfc_ir::{DIFFERENCES, ProxyMode};
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

#[test]
fn commands_in_the_docs_print_what_they_are_shown_to_print() {
    // Commands are shown as typed in the root of the project.
    std::env::set_current_dir(root()).expect("the root of the project");
    trycmd::TestCases::new().case("README.md").case("docs/*.md");
}
