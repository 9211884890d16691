//! `nfc explain --trace` shows the kernel's own account of a packet: of the rules that the
//! packet met, and of the endpoint that it reached.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

mod stage;

use nfc_ir::Family;
use nfc_kernel::Feature;
use nfc_lab::need;
use stage::{needs, run, text};

const SETTINGS: [&str; 4] = ["--cluster-cidr", "10.244.0.0/16", "--node-ip", "192.0.2.1"];

/// A packet for examples/web.yaml.
struct Sent {
    packet: &'static str,
    hook: &'static str,
    /// Where nft's rules lead it.
    chain: &'static str,
    /// Whom the endpoint answers; without a port where masquerading picks one.
    asker: &'static str,
    masqueraded: bool,
}

/// To the cluster IP by a pod and by the node, and to the node port from outside.
const ALL: [Sent; 3] = [
    Sent {
        packet: "tcp 10.244.9.9:40000 > 10.96.45.123:80",
        hook: "prerouting",
        chain: "cluster-tcp-3",
        asker: "10.244.9.9:40000",
        masqueraded: false,
    },
    Sent {
        packet: "tcp 192.0.2.1:40000 > 10.96.45.123:80 from node",
        hook: "output",
        chain: "cluster-tcp-3",
        asker: "198.51.100.1:",
        masqueraded: true,
    },
    Sent {
        packet: "tcp 203.0.113.9:40000 > 192.0.2.1:30080",
        hook: "prerouting",
        chain: "nodeport-external-tcp-3",
        asker: "198.51.100.1:",
        masqueraded: true,
    },
];

const ENDPOINTS: [&str; 3] = ["10.244.1.5:8080", "10.244.2.8:8080", "10.244.3.2:8080"];

/// Whether packets can be traced through rules of this backend.
fn can_trace(test: &str, backend: &str) -> bool {
    need(test, &[needs(backend, Family::Ipv4), vec![Feature::NftTool]].concat())
}

fn told(backend: &str, packet: &str, options: &[&str]) -> String {
    let args = ["explain", packet, "--trace", "-b", backend, "examples/web.yaml"];
    let output = run(&[&args[..], &SETTINGS, options].concat(), "");
    assert_eq!(output.status.code(), Some(0), "{packet}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// The part of an answer that is the kernel's.
fn account(answer: &str) -> &str {
    let (_, rest) = answer.split_once("In the kernel's own words, one packet ").expect(answer);
    rest.split_once("\nConnections opened").expect(answer).0
}

/// The endpoint where the packet landed, once the conntrack entry says the same.
fn landed<'a>(account: &'a str, sent: &Sent) -> &'a str {
    let landing = account.strip_prefix("landed at ").expect(account);
    let is_there = |e: &&&str| landing.starts_with(**e);
    let endpoint = ENDPOINTS.iter().find(is_there).expect(account);
    let (original, asker) = (sent.packet.trim_end_matches(" from node"), sent.asker);
    let original = format!("  conntrack\n    original  {original}\n");
    let reply = format!("    reply     tcp {endpoint} > {asker}");
    assert!(account.contains(&(original + &reply)), "{reply} is missing in:\n{account}");
    assert!(!account.contains("skipped"), "{account}");
    endpoint
}

/// Whether `account` holds `parts` one behind the other.
fn assert_in_order(account: &str, parts: &[String]) {
    let places: Vec<_> = parts.iter().map(|part| account.find(part)).collect();
    let are_there = places.iter().all(Option::is_some) && places.is_sorted();
    assert!(are_there, "{parts:#?} are at {places:?}:\n{account}");
}

#[test]
fn nft_is_traced_to_its_verdicts() {
    if !can_trace("nft is traced", "nft") {
        return;
    }
    for sent in &ALL {
        let answer = told("nft", sent.packet, &[]);
        let account = account(&answer);
        landed(account, sent);
        let Sent { hook, chain, .. } = sent;
        let steps = [
            format!(":\n  nft monitor trace\n    ip nfc, {hook}\n      "),
            format!("  => goto {chain}\n    ip nfc, {chain}\n      "),
            "dnat ip to ".to_owned(),
            "\n    ip nfc, postrouting\n      ".to_owned(),
        ];
        assert_in_order(account, &steps);
        let is_masqueraded = account.contains(" masquerade fully-random  => accept\n");
        assert_eq!(is_masqueraded, sent.masqueraded, "{account}");
        assert!(!account.contains("nfc-trace"), "{account}");
    }
}

#[test]
fn iptables_counts_along_the_path() {
    if !need("iptables counts", &needs("iptables", Family::Ipv4)) {
        return;
    }
    for sent in &ALL {
        let answer = told("iptables", sent.packet, &[]);
        let account = account(&answer);
        let endpoint = landed(account, sent);
        let hook = sent.hook.to_uppercase();
        let rules = [
            format!(":\n  counters that moved\n    nat, {hook}\n      +1  -A {hook} "),
            "-j KUBE-SERVICES\n    nat, KUBE-SERVICES\n      +1  -A KUBE-SERVICES ".to_owned(),
            format!(" --comment \"default/web:http -> {endpoint}\" "),
            format!(" -j DNAT --to-destination {endpoint}\n"),
            "\n    nat, KUBE-POSTROUTING\n      +1  ".to_owned(),
        ];
        assert_in_order(account, &rules);
        assert_eq!(account.contains(" -j MASQUERADE "), sent.masqueraded, "{account}");
    }
}

/// The virtual servers themselves say nothing, but the entry names the real server.
#[test]
fn ipvs_leaves_an_entry() {
    if !can_trace("IPVS leaves an entry", "ipvs") {
        return;
    }
    for sent in &ALL {
        let answer = told("ipvs", sent.packet, &[]);
        let account = account(&answer);
        landed(account, sent);
        assert!(account.contains("\n    ip nfc-ipvs, "), "{account}");
    }
}

#[test]
fn what_is_dropped_leaves_no_entry_and_a_last_rule() {
    if !can_trace("what is dropped is traced", "nft") {
        return;
    }
    let answer = told("nft", "tcp 203.0.113.200 > 198.51.100.80:80", &[]);
    let account = account(&answer);
    let end = " drop  => drop\n  conntrack\n    no entry\n";
    assert!(account.starts_with("was never seen again:") && account.ends_with(end), "{account}");
}

#[test]
fn programs_get_the_same_account() {
    if !can_trace("the account as JSON", "nft") {
        return;
    }
    let document = told("nft", ALL[0].packet, &["--output", "json"]);
    let (_, kernel) = document.split_once("\"kernel\": {").expect(&document);
    let members = [
        "\"verdict\": \"goto cluster-tcp-3\"",
        "\"destination\": \"10.96.45.123:80\"",
        "\"counters\": null",
        "\"skipped\": []",
    ];
    assert!(members.iter().all(|member| kernel.contains(member)), "{kernel}");
}
