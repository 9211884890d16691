//! `nfc lab` as a user meets it: somebody answers, and the exit code comes through.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

mod stage;

use nfc_ir::Family;
use nfc_kernel::Feature;
use nfc_lab::need;
use stage::{NFT, root, text};
use std::process::{Command, Output};

const CIDRS: &str = "10.244.0.0/16,fd00:244::/32";

/// Addresses that the node has anyway.
const NODE: &str = "192.0.2.1,fd00:192:0:2::1";

fn run(args: &[&str]) -> Output {
    stage::run(&[&["lab"], args].concat(), "")
}

/// What somebody in the world says after `--`, with a Service of three endpoints.
fn said(options: &[&str], words: &[&str]) -> String {
    let input = ["--cluster-cidr", CIDRS, "--node-ip", NODE, "examples/web.yaml", "--"];
    let output = run(&[options, &input, words].concat());
    assert_eq!(output.status.code(), Some(0), "{options:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn every_backend_leads_every_client_to_an_endpoint() {
    for backend in ["nft", "iptables", "ipvs"] {
        let name = format!("nfc lab answers: {backend}");
        let features: Vec<_> =
            Family::ALL.into_iter().flat_map(|family| stage::needs(backend, family)).collect();
        if !need(&name, &features) {
            continue;
        }
        let ask = |place: &str, url: &str| {
            said(&["--backend", backend, "--in", place], &["curl", "-s", "-m", "10", url])
        };
        // A stranger comes in masqueraded, a pod under its own name.
        for (place, asker) in [("client", "192.0.2.1"), ("10.244.1.5", "10.244.1.5")] {
            let answer = ask(place, "10.96.45.123");
            assert!(answer.contains(":8080 answers for default/web:http, asked by "), "{answer}");
            // An endpoint that reaches itself is masqueraded like a stranger.
            let is_hairpin = answer.starts_with("10.244.1.5") && place != "client";
            assert!(is_hairpin || answer.trim_end().ends_with(asker), "{backend}: {answer}");
        }
        let answer = ask("client", "http://[fd00:96::123]");
        assert!(answer.starts_with("[fd00:244:"), "{backend}: {answer}");
        let answer = ask("client", "192.0.2.1:30080");
        assert!(answer.contains("default/web:http"), "{backend}: {answer}");
    }
}

#[test]
fn a_command_runs_where_it_is_told_to_and_its_exit_code_comes_through() {
    if !need("a command runs where it is told to", &NFT) {
        return;
    }
    let rules = said(&["--in", "node"], &["nft", "list", "tables"]);
    assert_eq!(rules, "table ip nfc\ntable ip6 nfc\n");
    for (place, own) in [("client", "192.0.2.2"), ("node", "192.0.2.1"), ("backend", "10.244.1.5")]
    {
        let addresses = said(&["--in", place], &["ip", "-4", "address"]);
        assert!(addresses.contains(own), "{place}: {addresses}");
    }
    let far = ["sh", "-c", "nsenter --net=$NFC_NODE ip -4 address"];
    assert!(said(&[], &far).contains("192.0.2.1"));
    let code = |words: &[&str]| run(&[&["examples/aks.yaml", "--"], words].concat()).status.code();
    assert_eq!(code(&["sh", "-c", "exit 7"]), Some(7));
    assert_eq!(code(&["sh", "-c", "kill -9 $$"]), Some(137));
    assert_eq!(code(&["no-such-command"]), Some(127));
    assert_eq!(code(&["/"]), Some(126));
}

/// A stranger is masqueraded, and a pod of this node is not, whatever the node tells them by.
#[test]
fn pods_are_told_from_strangers_as_on_a_node() {
    let detectors: [&[&str]; 3] = [
        &["--detect-local-mode", "ClusterCIDR"],
        // The lab's own link has this name elsewhere.
        &["--detect-local-mode", "BridgeInterface", "--pod-bridge-interface", "cbr0"],
        &["--detect-local-mode", "InterfaceNamePrefix", "--pod-interface-name-prefix", "cali"],
    ];
    let families = [
        (Family::Ipv4, "10.244.1.5", "10.96.45.123", "192.0.2.1"),
        (Family::Ipv6, "fd00:244:1::5", "http://[fd00:96::123]", "fd00:192:0:2::1"),
    ];
    for (backend, (family, pod, url, node)) in
        ["nft", "iptables", "ipvs"].into_iter().flat_map(|b| families.map(|f| (b, f)))
    {
        if !need(&format!("nfc lab tells pods: {backend} {family}"), &stage::needs(backend, family))
        {
            continue;
        }
        // The pod asks until chance, or a turn, has picked itself and somebody else.
        let script = format!(
            "for i in 1 2 3 4; do curl -s -m 10 '{url}'; done; echo
             own= other=
             until [ \"$own$other\" = 11 ]; do
                 answer=$(nsenter --net=$NFC_BACKEND curl -s -m 10 '{url}') || exit
                 echo \"$answer\"
                 case $answer in {pod}:*|\\[{pod}]:*) own=1;; *) other=1;; esac
             done"
        );
        for detector in detectors {
            let family = family.to_string().to_lowercase();
            let options = [&["--backend", backend, "--family", &family], detector].concat();
            let answers = said(&options, &["sh", "-c", &script]);
            let (strangers, pods) = answers.split_once("\n\n").expect("two who asked");
            let by = |ip: &str| format!("asked by {ip}");
            assert_eq!(strangers.lines().count(), 4, "{answers}");
            assert!(strangers.lines().all(|l| l.ends_with(&by(node))), "{options:?}: {answers}");
            // An endpoint that reaches itself is masqueraded like a stranger.
            let is_hairpin = |line: &&str| line.trim_start_matches('[').starts_with(pod);
            let (hairpins, others): (Vec<_>, Vec<_>) = pods.lines().partition(is_hairpin);
            assert!(hairpins.iter().all(|l| l.ends_with(&by(node))), "{options:?}: {answers}");
            assert!(others.iter().all(|l| l.ends_with(&by(pod))), "{options:?}: {answers}");
        }
    }
}

/// On a real node it would come in through the link to other nodes.
#[test]
fn a_pod_of_another_node_is_a_stranger_to_bridges_and_names_of_links() {
    let features = [Feature::Namespaces, Feature::Nftables];
    if !need("nfc lab: a pod of another node", &features) {
        return;
    }
    for detector in [
        ["--detect-local-mode", "BridgeInterface", "--pod-bridge-interface", "cbr0"],
        ["--detect-local-mode", "InterfaceNamePrefix", "--pod-interface-name-prefix", "p"],
    ] {
        for (pod, asker) in [("10.244.1.5", "10.244.1.5"), ("10.244.2.8", "192.0.2.1")] {
            let options = [&["--node", "node-a", "--in", pod], &detector[..]].concat();
            let answer = said(
                &options,
                &["sh", "-c", "until curl -s -m 10 10.96.45.123 | grep ^10.244.3.2; do :; done"],
            );
            assert!(answer.trim_end().ends_with(&format!("asked by {asker}")), "{answer}");
        }
    }
}

/// A user namespace with a network namespace of its own is privilege enough.
#[test]
fn a_lab_needs_no_root_in_a_user_namespace() {
    if !need("nfc lab in a user namespace", &[Feature::Namespaces, Feature::Nftables]) {
        return;
    }
    let lab = [&stage::nfc().display().to_string(), "lab", "examples/aks.yaml", "--"];
    let curl = ["curl", "-s", "-m", "10", "10.0.136.241:443"];
    let output = Command::new("unshare")
        .arg("-Urn")
        .args(lab)
        .args(curl)
        .current_dir(root())
        .output()
        .expect("the command ends");
    let answer = text(&output.stdout);
    assert!(answer.starts_with("10.244.2.4:4443 answers"), "{answer}{}", text(&output.stderr));
}

/// In a user namespace alone a thread could leave the machine's network and never come back.
#[test]
fn a_lab_says_what_is_missing_in_a_user_namespace_without_a_network() {
    if !need("nfc lab says what is missing", &[Feature::Namespaces]) {
        return;
    }
    let mut lab = Command::new("unshare");
    lab.arg("-Ur").arg(stage::nfc()).args(["lab", "examples/aks.yaml", "--", "true"]);
    let output = lab.current_dir(root()).output().expect("the command ends");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("cannot come back"), "{}", text(&output.stderr));
}

#[test]
fn without_a_command_a_shell_reads_what_it_is_given() {
    if !need("nfc lab gives a shell", &[Feature::Namespaces, Feature::Nftables]) {
        return;
    }
    let mut lab = stage::command(&["lab", "examples/aks.yaml"]);
    let output = stage::fed(lab.env("SHELL", "/bin/sh"), "ip -4 address show eth0; exit 3\n");
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stdout).contains("192.0.2.2"));
}

#[test]
fn counters_say_who_answered() {
    if !need("nfc lab counts answers", &[Feature::Namespaces, Feature::Nftables]) {
        return;
    }
    let five = "for i in 1 2 3 4 5; do curl -so /dev/null 10.96.45.123; done";
    let output = run(&["--watch", "examples/web.yaml", "--", "sh", "-c", five]);
    let table = text(&output.stderr);
    assert!(!table.contains('\x1b'), "a pipe takes no escapes: {table}");
    let count = |line: &str| -> Option<u64> {
        line.contains(":8080 tcp").then(|| line.split_whitespace().nth(2)?.parse().ok()).flatten()
    };
    assert_eq!(table.lines().filter_map(count).sum::<u64>(), 5, "{table}");
}

#[test]
fn what_cannot_be_is_said_with_the_right_exit_code() {
    let code = |args: &[&str]| run(args).status.code();
    assert_eq!(code(&["--in", "nowhere", "examples/aks.yaml"]), Some(1));
    assert_eq!(code(&["no-such-file.yaml"]), Some(1));
    if !need("nfc lab refuses", &[Feature::Namespaces, Feature::Nftables]) {
        return;
    }
    let output = run(&["--in", "10.1.2.3", "examples/aks.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("10.244.1.221"), "the pods there are");
    if Feature::Ipvs.probe().is_err() {
        let output = run(&["--backend", "ipvs", "examples/aks.yaml", "--", "true"]);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("modprobe"), "{}", text(&output.stderr));
    }
}

#[test]
fn the_page_tells_the_truth() {
    if need("docs/lab.md", &NFT) {
        stage::run_page("docs/lab.md");
    }
}
