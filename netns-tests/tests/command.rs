//! The `nfc` command as a user meets it: exit codes, what goes where, and a namespace that
//! `ip netns` made.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

mod stage;

use nfc_kernel::Feature;
use nfc_lab::need;
use stage::{NFT, nfc, root, run, text};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

#[test]
fn compiling_prints_rules_and_nothing_else_on_standard_output() {
    for (backend, mark) in [("nft", "table ip nfc"), ("iptables", "*nat"), ("ipvs", "-A -t")] {
        let args = ["compile", "--backend", backend, "--node-ip", "192.0.2.7", "examples/web.yaml"];
        let output = run(&args, "");
        let (rules, words) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{backend}: {words}");
        assert!(rules.contains(mark), "{backend}: {rules}");
        assert!(!rules.contains("warning"), "{backend}: {rules}");
        assert_eq!(rules, text(&run(&args, "").stdout), "{backend}: the same input, other bytes");
    }
}

#[test]
fn manifests_come_from_standard_input_and_folders_too() {
    let by_file = run(&["compile", "--backend", "nft", "examples/aks.yaml"], "");
    let manifest = std::fs::read_to_string(root().join("examples/aks.yaml")).expect("the example");
    let by_stdin = run(&["compile", "--backend", "nft", "-"], &manifest);
    assert_eq!(text(&by_file.stdout), text(&by_stdin.stdout));
    let folder = std::env::temp_dir().join(format!("nfc-command-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("deeper")).expect("a folder");
    std::fs::write(folder.join("deeper/aks.yml"), &manifest).expect("a manifest");
    let by_folder = run(&["compile", "--backend", "nft", &folder.display().to_string()], "");
    std::fs::remove_dir_all(&folder).expect("the folder goes");
    assert_eq!(text(&by_file.stdout), text(&by_folder.stdout));
}

#[test]
fn bad_input_is_refused_with_every_place_and_nothing_on_standard_output() {
    let manifest = "\
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIP: 10.96.0.300
  ports:
    - {port: 80, protocol: TPC}
";
    let output = run(&["compile", "--backend", "nft", "-"], manifest);
    let words = text(&output.stderr);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""), "{words}");
    for place in ["<stdin>:5:", "10.96.0.300", "<stdin>:7:", "TPC", "^^^"] {
        assert!(words.contains(place), "{place} is missing in:\n{words}");
    }
}

#[test]
fn exit_codes_tell_whose_fault_it_was() {
    let codes = [
        (&["--help"][..], 0),
        (&["compile", "--help"], 0),
        (&["compile", "--backend", "ebpf", "x.yaml"], 1),
        (&["compile", "--backend", "nft", "no-such-file.yaml"], 1),
        (&["apply", "--backend", "nft", "--netns", "no-such-namespace", "examples/web.yaml"], 2),
    ];
    for (args, code) in codes {
        let output = run(args, "");
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", text(&output.stderr));
    }
}

/// A namespace that `ip netns` made, gone when dropped.
struct Named(String);

impl Named {
    fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("nfc-test-{}-{number}", std::process::id());
        assert!(ip(&["netns", "add", &name]), "ip netns add {name}");
        Self(name)
    }

    fn listed(&self) -> String {
        let args = ["netns", "exec", &self.0, "nft", "list", "ruleset"];
        text(&Command::new("ip").args(args).output().expect("ip").stdout)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        ip(&["netns", "delete", &self.0]);
    }
}

fn ip(args: &[&str]) -> bool {
    Command::new("ip").args(args).status().is_ok_and(|status| status.success())
}

#[test]
fn apply_and_delete_work_in_a_named_namespace() {
    if !need("apply and delete work in a named namespace", &NFT) {
        return;
    }
    let node = Named::new();
    let apply = ["apply", "--backend", "nft", "--netns", &node.0, "examples/web.yaml"];
    let output = run(&apply, "");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let words = text(&output.stdout);
    assert!(words.contains("nft IPv4: 2 service ports"), "{words}");
    let once = node.listed();
    assert!(once.contains("table ip nfc") && once.contains("table ip6 nfc"), "{once}");
    let again = run(&[&apply[..], &["--timings"]].concat(), "");
    assert_eq!(once, node.listed(), "apply twice");
    let words = text(&again.stdout);
    let parts = [" ms  lower", " ms  read", " ms  compare", " ms  encode"];
    assert!(parts.iter().all(|part| words.contains(part)), "{words}");
    // A manifest without IPv6 leaves no IPv6 table behind.
    run(&["apply", "--backend", "nft", "--netns", &node.0, "examples/aks.yaml"], "");
    assert!(!node.listed().contains("table ip6 nfc"));
    let path = format!("/run/netns/{}", node.0);
    let output = run(&["delete", "--backend", "nft", "--netns", &path], "");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(node.listed(), "");
}

#[test]
fn apply_says_what_it_changed_and_repairs_what_others_did() {
    if !need("apply says what it changed", &NFT) {
        return;
    }
    let node = Named::new();
    let apply = |options: &[&str]| {
        let args = ["apply", "--backend", "nft", "--netns", &node.0, "examples/aks.yaml"];
        let output = run(&[&args, options].concat(), "");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    assert!(apply(&[]).contains("table nfc: loaded as a whole"));
    assert!(apply(&[]).contains("unchanged"));
    assert!(apply(&["--full"]).contains("table nfc: loaded as a whole"));
    let rogue = ["netns", "exec", &node.0, "nft", "add rule ip nfc output counter accept"];
    assert!(ip(&rogue), "nft adds a rule");
    let told = apply(&[]);
    assert!(told.contains("chain output: rules written anew"), "{told}");
    assert!(!told.contains("set "), "{told}");
    assert!(apply(&["--layout", "constant-time"]).contains("set classes: added"));
    assert!(apply(&["--layout", "constant-time"]).contains("unchanged"));
    let refused = run(&["compile", "--backend", "ipvs", "--layout", "verdict", "x.yaml"], "");
    assert_eq!(refused.status.code(), Some(1));
}

/// Where IPVS is missing, the reason is told, and the exit code says that it is the
/// environment's.
#[test]
fn a_kernel_without_ipvs_is_told_so() {
    if Feature::Ipvs.probe().is_ok() || !need("ipvs is missing", &[Feature::Namespaces]) {
        return;
    }
    let node = Named::new();
    let args = [
        "apply",
        "--backend",
        "ipvs",
        "--netns",
        &node.0,
        "--node-ip",
        "192.0.2.7",
        "examples/web.yaml",
    ];
    let output = run(&args, "");
    let words = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{words}");
    assert!(words.contains("ip_vs"), "{words}");
}

/// What the examples of the help take to be there, and a machine for tests may not have: each
/// word stands for the same where it matters.
const STAND_INS: [(&str, &str); 5] = [
    ("sudo", "exec \"$@\""),
    ("kubectl", "cat svc.yaml"),
    ("iptables-save", "exec iptables-legacy-save"),
    ("man", "cat"),
    ("jq", "cat"),
];

/// A folder with everything that examples name, gone when dropped.
struct Desk(PathBuf);

impl Desk {
    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = std::env::temp_dir().join(format!("nfc-examples-{}", std::process::id()));
        let folders = ["bin", "old", "new", "manifests", "examples", ".zfunc"];
        for name in folders.iter().chain(&[".config/fish/completions"]) {
            std::fs::create_dir_all(folder.join(name)).expect("a folder");
        }
        for (name, line) in STAND_INS {
            let path = folder.join("bin").join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{line}\n")).expect("written");
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(&path, mode).expect("it can be run");
        }
        let copy = |from: &str, to: &str| {
            std::fs::copy(root().join("examples").join(from), folder.join(to)).expect("copied");
        };
        for to in ["svc.yaml", "old.yaml", "examples/web.yaml", "old/a.yaml", "manifests/a.yaml"] {
            copy("web.yaml", to);
        }
        for to in ["new.yaml", "new/a.yaml", "examples/aks.yaml"] {
            copy("aks.yaml", to);
        }
        Self(folder)
    }

    /// Runs a line in `node`, with `lab` for the namespace that examples call so.
    fn run(&self, line: &str, node: &Named, lab: &str) -> (Option<i32>, String) {
        let here = self.0.display().to_string();
        let line = line
            .replace("--netns lab", &format!("--netns {lab}"))
            .replace("--for 10", "--for 1")
            .replace("/etc/bash_completion.d", &here)
            .replace("/usr/local/share/man", &here);
        let nfc = nfc();
        let tools = nfc.parent().expect("a folder").display();
        let inherited = std::env::var("PATH").unwrap_or_default();
        // One never ends by itself.
        let seconds = if is_endless(&line) { "3" } else { "60" };
        let output = Command::new("ip")
            .args(["netns", "exec", &node.0, "timeout", seconds, "bash", "-c", &line])
            .current_dir(&self.0)
            .env("PATH", format!("{here}/bin:{tools}:{inherited}:/usr/sbin:/sbin"))
            .env("HOME", &self.0)
            .stdin(Stdio::null())
            .output()
            .expect("ip netns exec");
        (output.status.code(), text(&output.stderr))
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The examples in a subcommand's help, each on a line of its own.
fn examples(subcommand: &str) -> Vec<String> {
    let args = if subcommand.is_empty() { vec!["--help"] } else { vec![subcommand, "--help"] };
    let help = text(&run(&args, "").stdout);
    let shown = help.lines().skip_while(|line| *line != "Examples:").skip(1);
    let shown: Vec<_> = shown.take_while(|line| !line.is_empty()).map(str::trim).collect();
    shown.join("\n").replace("\\\n", " ").lines().map(str::to_owned).collect()
}

/// Whether an example may end so: some find what they look for, and some never end.
fn is_good_end(line: &str, code: Option<i32>, words: &str) -> bool {
    match code {
        Some(0) => true,
        Some(1) => {
            line.contains("nfc doctor")
                || line.contains("nfc check")
                || words.contains("--watch draws on a terminal")
        }
        Some(4) => line.contains("nfc diff") || line.contains("--dry-run"),
        Some(124) => is_endless(line),
        _ => false,
    }
}

fn is_endless(line: &str) -> bool {
    line.contains("while sleep")
}

#[test]
fn every_example_in_the_help_runs() {
    let features = [
        Feature::Namespaces,
        Feature::Nftables,
        Feature::NftTool,
        Feature::IptablesV4,
        Feature::IptablesV6,
    ];
    if !need("every example in the help runs", &features) {
        return;
    }
    let desk = Desk::new();
    let subcommands = ["compile", "apply", "explain", "diff", "check", "lab", "doctor", "inspect"];
    let others = ["", "delete", "completions", "man"];
    let mut ran = 0;
    for subcommand in subcommands.iter().chain(&others) {
        let (node, lab) = (Named::new(), Named::new());
        let prepared = "for b in nft iptables; do nfc apply -b $b svc.yaml; \
                        nfc apply -b $b --netns lab svc.yaml; done";
        let (code, words) = desk.run(prepared, &node, &lab.0);
        assert_eq!(code, Some(0), "{words}");
        // The namespace is there already: one that is made inside of another is seen there only.
        let lines = examples(subcommand).into_iter().filter(|line| !line.contains("netns add"));
        for line in lines {
            let (code, words) = desk.run(&line, &node, &lab.0);
            assert!(is_good_end(&line, code, &words), "{line}\n{code:?}\n{words}");
            ran += 1;
        }
    }
    assert!(ran > 40, "only {ran} examples ran");
}
