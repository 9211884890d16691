//! What kube-proxy writes, and where its own tests say packets go, for a case each.

mod case;

use case::{Chains, chains};
use nfc_backend::{Backend, journey};
use nfc_iptables::Iptables;
use nfc_ir::{Family, Ir, Node, ProxyMode, eval};
use std::fmt::Write as _;

/// Chains of ours: not the built-in ones, into which kube-proxy puts its jumps one by one.
fn own(chains: &Chains) -> Chains {
    let is_own = |(_, chain): &(String, String)| chain.starts_with("KUBE-");
    let own = chains.iter().filter(|(key, _)| is_own(key));
    own.map(|(key, rules)| (key.clone(), rules.clone())).collect()
}

#[test]
fn every_rule_of_every_chain_is_that_of_kube_proxy() {
    let cases = case::all("kube_proxy");
    assert_eq!(cases.len(), 30);
    for case in cases {
        let lowered = Iptables.lower(&case.ir);
        assert!(lowered.unsupported.is_empty(), "{}", case.name);
        let ours = own(&chains(&Iptables.render(&[lowered.program])));
        let names = |chains: &Chains| chains.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&ours), names(&case.chains), "{}", case.name);
        for (chain, rules) in &case.chains {
            assert_eq!(&ours[chain], rules, "{}: {chain:?}", case.name);
        }
    }
}

#[test]
fn packets_go_where_kube_proxy_sends_them() {
    for case in case::all("kube_proxy") {
        let program = Iptables.lower(&case.ir).program;
        for (packet, wanted) in &case.packets {
            let traced = Iptables.trace(&program, packet);
            let traced = traced.unwrap_or_else(|e| panic!("{}: {packet}: {e}", case.name));
            let agrees = traced.agrees_with(wanted);
            assert!(agrees, "{}: {packet}: {traced}, not {wanted}", case.name);
            let meant = eval(&case.ir, ProxyMode::Iptables, packet);
            let agrees = meant.agrees_with(wanted);
            assert!(agrees, "{}: {packet}: means {meant}, not {wanted}", case.name);
        }
    }
}

/// kube-proxy inserts its jumps one above the other; on empty tables this remains.
#[test]
fn jumps_stand_as_kube_proxy_leaves_them() {
    let ir = Ir::new(Family::Ipv4, Node::default(), Vec::new()).unwrap();
    let text = Iptables.render(&[Iptables.lower(&ir).program]);
    let chains = chains(&text);
    let targets = |table: &str, chain: &str| {
        let rules = &chains[&(table.to_owned(), chain.to_owned())];
        let targets = rules.iter().map(|rule| rule.rsplit_once("-j ").unwrap().1);
        targets.collect::<Vec<_>>().join(" ")
    };
    let input = "KUBE-FIREWALL KUBE-PROXY-FIREWALL KUBE-NODEPORTS KUBE-EXTERNAL-SERVICES";
    assert_eq!(targets("filter", "INPUT"), input);
    let forward = "KUBE-PROXY-FIREWALL KUBE-FORWARD KUBE-SERVICES KUBE-EXTERNAL-SERVICES";
    assert_eq!(targets("filter", "FORWARD"), forward);
    let output = "KUBE-FIREWALL KUBE-PROXY-FIREWALL KUBE-SERVICES";
    assert_eq!(targets("filter", "OUTPUT"), output);
    for chain in ["PREROUTING", "OUTPUT"] {
        assert_eq!(targets("nat", chain), "KUBE-SERVICES");
    }
    assert_eq!(targets("nat", "POSTROUTING"), "KUBE-POSTROUTING");
    let portals = "-I FORWARD 3 -m conntrack --ctstate NEW -m comment \
                   --comment \"kubernetes service portals\" -j KUBE-SERVICES\n";
    assert!(text.contains(portals));
}

/// The restore text that kube-proxy would hand to the tool for a case: without the jumps
/// from built-in chains.
fn restore_text(case: &case::Case) -> String {
    let mut text = String::new();
    for table in ["filter", "nat"] {
        let own = || case.chains.iter().filter(|((t, _), _)| t == table);
        let _ = writeln!(text, "*{table}");
        for ((_, chain), _) in own() {
            let _ = writeln!(text, ":{chain} - [0:0]");
        }
        for ((_, chain), rules) in own() {
            for rule in rules {
                let _ = writeln!(text, "-A {chain} {rule}");
            }
        }
        text.push_str("COMMIT\n");
    }
    text
}

#[test]
fn the_text_of_kube_proxy_sends_packets_where_it_says() {
    let mut judged = 0;
    for case in case::all("kube_proxy") {
        let text = restore_text(&case);
        for (packet, wanted) in &case.packets {
            let ways = Iptables.explain(&text, &case.ir.node().addresses, packet);
            let ways = ways.unwrap_or_else(|e| panic!("{}: {packet}: {e}", case.name));
            let told = journey::outcome(&ways).unwrap();
            assert!(told.agrees_with(wanted), "{}: {packet}: {told}, not {wanted}", case.name);
            judged += 1;
        }
    }
    assert!(judged > 100, "only {judged} packets were judged");
}
