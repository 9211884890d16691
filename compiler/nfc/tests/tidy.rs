//! The house rules that a compiler cannot check, as tests.
//!
//! What fails here is not a matter of taste: ARCHITECTURE.md promises it.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Who may depend on whom. An edge that is not drawn here is a debate, not a detail.
const ARROWS: &[(&str, &[&str])] = &[
    ("nfc-ir", &[]),
    ("nfc-netlink", &[]),
    ("nfc-manifest", &["nfc-ir"]),
    ("nfc-backend", &["nfc-ir", "nfc-netlink"]),
    ("nfc-ruleset", &["nfc-backend", "nfc-ir", "nfc-netlink"]),
    ("nfc-iptables", &["nfc-backend", "nfc-ir"]),
    ("nfc-nft", &["nfc-backend", "nfc-ir", "nfc-ruleset"]),
    ("nfc-ipvs", &["nfc-backend", "nfc-ir", "nfc-netlink", "nfc-ruleset"]),
    ("nfc-kernel", &["nfc-backend", "nfc-netlink"]),
    (
        "nfc",
        &[
            "nfc-backend",
            "nfc-iptables",
            "nfc-ipvs",
            "nfc-ir",
            "nfc-kernel",
            "nfc-lab",
            "nfc-manifest",
            "nfc-nft",
        ],
    ),
    ("nfc-lab", &["nfc-backend", "nfc-ir", "nfc-kernel", "nfc-netlink"]),
    ("nfc-netns-tests", &["nfc", "nfc-backend", "nfc-ir", "nfc-kernel", "nfc-lab", "nfc-manifest"]),
    ("nfc-bench", &["nfc", "nfc-backend", "nfc-ir", "nfc-kernel", "nfc-lab", "nfc-manifest"]),
];

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn manifest(path: &Path) -> toml::Table {
    read(path).parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The folders of all members.
fn members() -> Vec<PathBuf> {
    let workspace = manifest(&root().join("Cargo.toml"));
    let listed = workspace["workspace"]["members"].as_array().expect("a list of members");
    listed.iter().map(|m| root().join(m.as_str().expect("a folder"))).collect()
}

/// Every Rust file below `folder`, with its path from the root.
fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.map(|e| e.expect("an entry").path()) {
        if entry.is_dir() {
            rust_files(&entry, found);
        } else if entry.extension().is_some_and(|e| e == "rs") {
            found.push(entry);
        }
    }
}

fn sources() -> Vec<(String, String)> {
    let mut paths = Vec::new();
    for member in members() {
        for part in ["src", "tests", "benches", "examples"] {
            // The netns-tests member holds the lab as a folder beside its own sources.
            rust_files(&member.join(part), &mut paths);
        }
    }
    paths.sort();
    assert!(paths.len() > 30, "the walk found next to nothing");
    let name = |p: &Path| p.strip_prefix(root()).expect("below the root").display().to_string();
    paths.iter().map(|p| (name(p), read(p))).collect()
}

#[test]
fn dependencies_follow_the_arrows() {
    let arrows: BTreeMap<_, BTreeSet<_>> =
        ARROWS.iter().map(|(from, to)| (*from, to.iter().copied().collect())).collect();
    let mut seen = BTreeSet::new();
    for member in members() {
        let table = manifest(&member.join("Cargo.toml"));
        let name = table["package"]["name"].as_str().expect("a name").to_owned();
        let allowed = arrows.get(name.as_str()).unwrap_or_else(|| panic!("{name} has no arrows"));
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(dependencies) = table.get(section).and_then(toml::Value::as_table) else {
                continue;
            };
            for on in dependencies.keys().filter(|d| d.starts_with("nfc")) {
                assert!(allowed.contains(on.as_str()), "{name} may not depend on {on}");
            }
        }
        seen.insert(name);
    }
    let drawn: BTreeSet<_> = arrows.keys().map(|k| (*k).to_owned()).collect();
    assert_eq!(seen, drawn, "members and arrows must be the same");
}

#[test]
fn architecture_draws_every_room() {
    let text = read(&root().join("ARCHITECTURE.md"));
    for (name, to) in ARROWS {
        let to: Vec<_> = to.iter().map(|t| format!("`{t}`")).collect();
        let to = if to.is_empty() { "nothing of ours".to_owned() } else { to.join(", ") };
        let row = format!("| `{name}` | {to} |");
        assert!(text.contains(&row), "ARCHITECTURE.md lacks the row: {row}");
    }
}

#[test]
fn every_dependency_has_a_reason() {
    let text = read(&root().join("Cargo.toml"));
    let ours = text.lines().skip_while(|l| *l != "[workspace.dependencies]");
    let listed = ours.skip(1).take_while(|l| !l.starts_with('['));
    for line in listed.filter(|l| l.contains('=') && !l.starts_with('#')) {
        let own = line.starts_with("nfc");
        assert!(own || line.contains(" # "), "no reason is given for: {line}");
    }
}

#[test]
fn every_file_says_what_it_is_and_is_short() {
    for (name, text) in sources() {
        assert!(text.starts_with("//! "), "{name} must open with `//!`");
        let lines = text.lines().count();
        assert!(lines <= FILE_LINES_MAX, "{name} has {lines} lines, more than {FILE_LINES_MAX}");
    }
}

/// rustfmt puts the closing brace of an item at the item's own indentation.
#[test]
fn every_function_fits_a_screen() {
    for (name, text) in sources() {
        let lines: Vec<_> = text.lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let code = line.trim_start();
            let indent = line.len() - code.len();
            let is_function = [
                "fn ",
                "pub fn ",
                "pub(crate) fn ",
                "pub(super) fn ",
                "const fn ",
                "pub const fn ",
                "unsafe fn ",
            ]
            .iter()
            .any(|head| code.starts_with(head));
            if !is_function || code.ends_with(';') || code.ends_with('}') {
                continue;
            }
            let closing = format!("{}}}", " ".repeat(indent));
            let Some(length) = lines[start..].iter().position(|l| *l == closing) else {
                continue;
            };
            assert!(
                length < FUNCTION_LINES_MAX,
                "{name}:{} is {length} lines long, more than {FUNCTION_LINES_MAX}",
                start + 1
            );
        }
    }
}

/// Effects live in listed rooms. The patterns are spelled in two halves, so that this file
/// does not contain what it looks for.
#[test]
fn effects_stay_in_their_rooms() {
    let kernel: &[&str] = &["backends/kernel/"];
    let rules: &[(String, &[&str])] = &[
        (["unsafe", " {"].concat(), kernel),
        (["libc", "::"].concat(), &["backends/kernel/", "netns-tests/lab/"]),
        (
            ["process", "::Command"].concat(),
            &["backends/kernel/", "netns-tests/", "bench/", "compiler/nfc/tests/"],
        ),
        (
            ["std", "::fs"].concat(),
            &[
                "backends/kernel/",
                "netns-tests/",
                "bench/",
                "compiler/manifest/src/source.rs",
                "compiler/nfc/src/main.rs",
            ],
        ),
        (["Hash", "Map"].concat(), &["netns-tests/", "bench/"]),
        (["Hash", "Set"].concat(), &["netns-tests/", "bench/"]),
    ];
    for (name, text) in sources() {
        if name.contains("/tests/") || name.ends_with("tests.rs") {
            continue;
        }
        for (pattern, rooms) in rules {
            let allowed = rooms.iter().any(|room| name.starts_with(room));
            assert!(allowed || !text.contains(pattern.as_str()), "{name} may not use {pattern}");
        }
    }
}

/// Learn one backend, and you know them all. nft keeps its rules in the ruleset room, which
/// has the rest of the files.
#[test]
fn backends_have_the_same_files() {
    let all = ["lib", "program", "names", "lower", "diff", "render", "encode", "trace"];
    let rooms: &[(&str, &[&str])] = &[
        ("backends/iptables", &all),
        ("backends/ipvs", &all),
        ("backends/nft", &["lib", "names", "lower"]),
        ("backends/ruleset", &["lib", "program", "diff", "render", "encode", "trace"]),
    ];
    for (room, files) in rooms {
        let folder = root().join(room);
        let is_backend = !room.ends_with("ruleset");
        let has_readme = folder.join("README.md").is_file();
        assert!(has_readme || !is_backend, "{room} must draw the packet's path in a README.md");
        for file in *files {
            let flat = folder.join(format!("src/{file}.rs"));
            let nested = folder.join(format!("src/{file}/mod.rs"));
            assert!(flat.is_file() || nested.is_file(), "{room} lacks {file}.rs");
        }
    }
}

#[test]
fn modules_are_nouns_of_the_field() {
    let banned = ["util", "utils", "helper", "helpers", "manager", "common", "misc"];
    for (name, _) in sources() {
        let stem = Path::new(&name).file_stem().expect("a name").to_string_lossy().into_owned();
        assert!(!banned.contains(&stem.as_str()), "{name} is not a name for anything");
    }
}

#[test]
fn there_is_a_changelog_entry_for_this_version() {
    let version = format!("## {}", env!("CARGO_PKG_VERSION"));
    assert!(read(&root().join("CHANGELOG.md")).contains(&version), "no entry {version}");
}
