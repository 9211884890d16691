//! The `nfc` command as a user meets it: exit codes, what goes where, and a namespace that
//! `ip netns` made.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

mod stage;

use nfc_ir::Family;
use nfc_kernel::{Feature, Namespace};
use nfc_lab::need;
use stage::desk::{self, Desk, Ended};
use stage::{NFT, nfc, root, run, text};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
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

#[test]
fn deleting_says_whether_anything_was_there() {
    for backend in ["nft", "iptables", "ipvs"] {
        let features = [&NFT, &stage::needs(backend, Family::Ipv4)[..]].concat();
        if !need(&format!("nfc delete says what was there: {backend}"), &features) {
            continue;
        }
        let desk = Desk::new("delete");
        let applied = desk.run(&format!("nfc apply -b {backend} --family ipv4 svc.yaml"));
        assert_eq!(applied.code, Some(0), "{}", applied.stderr);
        for done in ["deleted", "nothing was there"] {
            let told = desk.run(&format!("nfc delete -b {backend} --family ipv4"));
            assert_eq!((told.code, told.stderr.as_str()), (Some(0), ""));
            assert_eq!(told.stdout, format!("{backend} IPv4: {done}\n"));
        }
    }
}

/// Whatever else such a user lacks, as a lock that root made or a module that root loads.
#[test]
fn who_is_not_root_is_told_to_be() {
    let features = [Feature::Namespaces, Feature::Nftables, Feature::IptablesV4];
    if !need("who is not root is told to be", &features) {
        return;
    }
    let node = Namespace::new().expect("a namespace");
    let manifest = std::fs::read_to_string(root().join("examples/cluster-ip.yaml")).expect("one");
    // Where the project lies, others may not be let in.
    let binary = std::env::temp_dir().join(format!("nfc-for-all-{}", std::process::id()));
    std::fs::copy(nfc(), &binary).expect("a copy");
    for backend in ["nft", "iptables", "ipvs"] {
        for group in [65_534, 0] {
            let mut command = Command::new(&binary);
            command.args(["apply", "--backend", backend, "--family", "ipv4", "-"]).current_dir("/");
            command.uid(65_534).gid(group);
            let output = stage::inside(&node, || stage::fed(&mut command, &manifest));
            let words = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{backend}, group {group}: {words}");
            assert!(words.contains("run as root"), "{backend}, group {group}: {words}");
        }
    }
    std::fs::remove_file(&binary).expect("it goes");
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
    if !need("every example in the help runs", &desk::FEATURES) {
        return;
    }
    let subcommands = ["compile", "apply", "explain", "diff", "check", "lab", "doctor", "inspect"];
    let others = ["", "delete", "completions", "man"];
    let mut ran = 0;
    for subcommand in subcommands.iter().chain(&others) {
        let desk = Desk::new("examples");
        let lines = examples(subcommand);
        let prepared = "for b in nft iptables; do nfc apply -b $b svc.yaml; done";
        let mut prepared = vec![prepared.to_owned()];
        if !lines.iter().any(|line| line.contains("netns add lab")) {
            let there = prepared[0].replace("svc.yaml", "--netns lab svc.yaml");
            prepared.extend(["ip netns add lab".to_owned(), there]);
        }
        for line in prepared.iter().chain(&lines) {
            let Ended { code, stderr, .. } = typed(&desk, line);
            assert!(is_good_end(line, code, &stderr), "{line}\n{code:?}\n{stderr}");
            ran += 1;
        }
    }
    assert!(ran > 60, "only {ran} examples ran");
}

/// Runs an example; what it would write elsewhere on the machine, it writes at the desk.
fn typed(desk: &Desk, line: &str) -> Ended {
    let line = line
        .replace("--for 10", "--for 1")
        .replace("/etc/bash_completion.d", &desk.folder())
        .replace("/usr/local/share/man", &desk.folder());
    // One never ends by itself.
    if is_endless(&line) { desk.run_for("3", &line) } else { desk.run(&line) }
}
