//! What is made from the command line's own words: the reference, the manual pages and the
//! completions.
//!
//! `NFC_BLESS=1` rewrites docs/reference.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn nfc(args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nfc"));
    // The help is wrapped at the width of the terminal, which is given here.
    command.args(args).env("COLUMNS", "100");
    let output = command.output().expect("nfc starts");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The subcommands and what the help says that they do.
fn subcommands() -> Vec<(String, String)> {
    let help = nfc(&["-h"]);
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    let entry = |line: &str| {
        let (name, does) = line.trim().split_once(' ').expect("a name, and what it does");
        assert!(line.starts_with("  ") && !line.starts_with("   "), "too long for a line: {line}");
        (name.to_owned(), does.trim().to_owned())
    };
    let all: Vec<_> = listed.map(entry).collect();
    assert!(all.len() > 9, "{help}");
    all.into_iter().filter(|(name, _)| name != "help").collect()
}

/// A folder below that of the build, not there at first, and gone when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&folder);
        Self(folder)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Everything in the folder, by name.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    let name = |entry: &fs::DirEntry| entry.file_name().into_string().expect("a name");
    let text = |entry: &fs::DirEntry| fs::read_to_string(entry.path()).expect("text");
    entries.map(|entry| (name(&entry), text(&entry))).collect()
}

/// Help as a page: it keeps its lines, since they are wrapped already.
fn page(args: &[&str]) -> String {
    let help: Vec<_> = nfc(&[args, &["--help"]].concat()).lines().map(str::to_owned).collect();
    let help: Vec<_> = help.iter().map(|line| line.trim_end()).collect();
    let name = [&["nfc"], args].concat().join(" ");
    format!("# {name}\n\n```text\n{}\n```\n", help.join("\n").trim_end())
}

fn reference() -> BTreeMap<String, String> {
    let mut pages = BTreeMap::new();
    let mut index = String::from(
        "# Reference\n\nWhat `nfc COMMAND --help` prints. `nfc man DIR` writes the same as manual \
         pages, and\n`nfc completions SHELL` prints completions.\n\n| command | |\n|---|---|\n\
         | [`nfc`](nfc.md) | what all commands have in common |\n",
    );
    pages.insert("nfc.md".to_owned(), page(&[]));
    for (name, does) in subcommands() {
        index.push_str(&format!("| [`nfc {name}`]({name}.md) | {does} |\n"));
        pages.insert(format!("{name}.md"), page(&[&name]));
    }
    index.push_str(
        "\nAnnotations that Services and EndpointSlices may carry are in\n\
         [semantics](../semantics.md#annotations-of-our-own), codes of findings in \
         [check](../check.md#all-codes)\nand [doctor](../doctor.md#what-it-finds).\n\n\
         ## JSON\n\n\
         [explain](../explain.md#json), [diff](../diff.md#json), [check](../check.md),\n\
         [doctor](../doctor.md#for-programs) and [inspect](../inspect.md#for-programs) take \
         `--output json`\nand list its members. A member of one name is the same in all of them: \
         `service` is\n`namespace/name:port`, `endpoint` an IP address with its port, `address` \
         an IP address or a block,\n`family` IPv4 or IPv6, `protocol` tcp, udp or sctp; `code` \
         and `message` say what a finding is, and\n`connections` counts those that the kernel \
         tracks.\n",
    );
    pages.insert("README.md".to_owned(), index);
    pages
}

#[test]
fn the_reference_is_what_the_help_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference");
    let fresh = reference();
    if std::env::var_os("NFC_BLESS").is_some() {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        for (name, text) in &fresh {
            fs::write(folder.join(name), text).expect("written");
        }
    }
    let written = files(&folder);
    for (name, text) in &fresh {
        let is_fresh = written.get(name) == Some(text);
        assert!(is_fresh, "docs/reference/{name} is stale: run the test with NFC_BLESS=1");
    }
    let strays: Vec<_> = written.keys().filter(|name| !fresh.contains_key(*name)).collect();
    assert!(strays.is_empty(), "no command has these pages: {strays:?}");
}

#[test]
fn every_command_has_a_manual_page() {
    let scratch = Scratch::new("reference-man");
    let folder = scratch.0.join("deeper");
    assert_eq!(nfc(&["man", folder.to_str().expect("text")]), "");
    let pages = files(&folder);
    let mut expected: Vec<_> =
        subcommands().iter().map(|(name, _)| format!("nfc-{name}.1")).collect();
    expected.push("nfc.1".to_owned());
    expected.sort();
    assert_eq!(pages.keys().cloned().collect::<Vec<_>>(), expected);
    assert_eq!(pages["nfc.1"], nfc(&["man"]));
    for (name, text) in &pages {
        for heading in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS"] {
            assert!(text.contains(&format!("\n.SH {heading}\n")), "{name} lacks {heading}");
        }
        // Five arguments, or what stands at the foot of the page moves into the wrong place.
        let title = text.lines().find(|line| line.starts_with(".TH ")).expect("a title");
        assert!(title.ends_with(r#" 1 " " "nfc 0.1.0" "User Commands""#), "{title}");
    }
    let apply = &pages["nfc-apply.1"];
    let (_, examples) = apply.split_once("\n.SH EXAMPLES\n.nf\n").expect("examples");
    assert!(
        examples.starts_with("sudo nfc apply \\-\\-backend nft examples/web.yaml\n"),
        "{apply}"
    );
    assert!(pages["nfc.1"].contains("\n.SH \"EXIT STATUS\"\n"), "{}", pages["nfc.1"]);
}

/// What groff would warn of, where it is installed.
#[test]
fn manual_pages_are_good_roff() {
    if Command::new("groff").arg("--version").output().is_err() {
        eprintln!("SKIP manual pages are good roff: groff is not installed");
        return;
    }
    let scratch = Scratch::new("reference-roff");
    nfc(&["man", scratch.0.to_str().expect("text")]);
    for name in files(&scratch.0).keys() {
        let mut groff = Command::new("groff");
        groff.args(["-man", "-Tutf8", "-ww", "-z"]).arg(scratch.0.join(name));
        let output = groff.output().expect("groff ends");
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && words.is_empty(), "{name}: {words}");
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_the_environments_fault() {
    let output = Command::new(env!("CARGO_BIN_EXE_nfc")).args(["man", "/dev/null/x"]).output();
    let output = output.expect("nfc starts");
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{words}");
    assert!(words.contains("/dev/null/x"), "{words}");
}

#[test]
fn bash_loads_the_completions_and_completes_with_them() {
    let scratch = Scratch::new("reference-bash");
    fs::create_dir_all(&scratch.0).expect("a folder");
    let path = scratch.0.join("nfc.bash");
    fs::write(&path, nfc(&["completions", "bash"])).expect("written");
    let script = "bash -n \"$1\" && . \"$1\" && complete -p nfc && \
        COMP_WORDS=(nfc comp) COMP_CWORD=1 && _nfc nfc comp nfc && echo \"${COMPREPLY[@]}\" && \
        COMP_WORDS=(nfc compile --backend '') COMP_CWORD=3 && _nfc nfc '' --backend && \
        echo \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", script, "bash"]).arg(&path);
    let output = bash.output().expect("bash starts");
    let words = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<_> = words.lines().collect();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(lines[0].starts_with("complete ") && lines[0].ends_with(" nfc"), "{words}");
    assert_eq!(lines[1..], ["compile completions", "nft iptables ipvs"]);
}

#[test]
fn every_subcommand_is_completed_in_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = nfc(&["completions", shell]);
        for (name, _) in subcommands() {
            assert!(script.contains(&name), "{shell} does not know {name}");
        }
    }
}
