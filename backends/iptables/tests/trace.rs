//! What a tracer does not know, it says; and what only the kernel's order of hooks explains.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test panics to keep its backtrace")]

use nfc_backend::Backend;
use nfc_iptables::names::{BuiltIn, ChainName, Table};
use nfc_iptables::program::{Chain, Match, Rule, Share, Target};
use nfc_iptables::{Iptables, Program};
use nfc_ir::synth::{self, cluster_ips};
use nfc_ir::{Choice, Endpoint, Family, Ingress, Ir, Node, Outcome, Packet, Protocol};
use std::num::NonZeroU16;

fn rule(matches: Vec<Match>, target: Target) -> Rule {
    Rule { service: None, matches, target: Some(target) }
}

fn hooked(table: Table, chain: BuiltIn, rules: Vec<Rule>) -> Program {
    let mut program = Program::empty(Family::Ipv4);
    program.tables.get_mut(table).jumps.insert(chain, rules);
    program
}

fn packet(source: &str, destination: &str, ingress: Ingress) -> Packet {
    Packet {
        protocol: Protocol::Tcp,
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        ingress,
    }
}

fn stranger(destination: &str) -> Packet {
    packet("203.0.113.1:40000", destination, Ingress::Interface("eth0".to_owned()))
}

#[test]
fn unknown_shapes_are_errors() {
    let endpoint = "10.0.0.1:80".parse().unwrap();
    let half = Match::Probability(Share { weight: 1, remaining: 2 });
    let jump = Target::Jump(ChainName::Services);
    let mut circle = hooked(Table::Nat, BuiltIn::Prerouting, vec![rule(vec![], jump)]);
    let around = Chain { owner: None, rules: vec![rule(vec![], jump)] };
    circle.tables.nat.chains.insert(ChainName::Services, around);
    let prerouting =
        |matches, target| hooked(Table::Nat, BuiltIn::Prerouting, vec![rule(matches, target)]);
    let unknown = [
        (circle, "circle"),
        (prerouting(vec![], jump), "no chain KUBE-SERVICES"),
        (prerouting(vec![], Target::Drop), "Drop"),
        (prerouting(vec![], Target::Masquerade), "Masquerade"),
        (prerouting(vec![Match::DestinationPort(80)], Target::Accept), "protocol"),
        (prerouting(vec![half], Target::Dnat(endpoint)), "chance"),
        (
            hooked(Table::Nat, BuiltIn::Postrouting, vec![rule(vec![], Target::Dnat(endpoint))]),
            "Dnat",
        ),
    ];
    for (program, word) in unknown {
        let error = Iptables.trace(&program, &stranger("192.0.2.1:80")).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn shares_multiply_along_the_way() {
    let [first, second] = ["10.0.0.1:80", "10.0.0.2:80"].map(|a| a.parse().unwrap());
    let quarter = Match::Probability(Share { weight: 1, remaining: 4 });
    let rules = vec![
        rule(vec![quarter.clone()], Target::Dnat(first)),
        rule(vec![quarter], Target::Dnat(second)),
        rule(vec![], Target::Dnat(first)),
    ];
    let program = hooked(Table::Nat, BuiltIn::Prerouting, rules);
    let choice = |endpoint| Choice { endpoint, masquerade: false };
    let wanted = [(choice(first), 0.8125), (choice(second), 0.1875)];
    assert_eq!(
        Iptables.trace(&program, &stranger("192.0.2.1:80")),
        Ok(Outcome::Balance(wanted.into()))
    );
}

/// A packet that is delivered to the node never meets POSTROUTING, so a pod in the node's
/// own network sees who sent it, marked or not.
#[test]
fn an_endpoint_at_the_nodes_own_address_sees_the_client() {
    let node_address = "192.0.2.7";
    let node = Node { addresses: vec![node_address.parse().unwrap()], ..Node::default() };
    let mut service = synth::service(Family::Ipv4, Protocol::Tcp, 0, 0);
    service.node_port = NonZeroU16::new(30_000);
    let endpoint = format!("{node_address}:8080").parse().unwrap();
    service.endpoints = vec![Endpoint { local: true, ..Endpoint::ready(endpoint) }];
    let ir = Ir::new(Family::Ipv4, node, vec![service]).unwrap();
    let program = Iptables.lower(&ir).program;
    let outcome = Iptables.trace(&program, &stranger("192.0.2.7:30000")).unwrap();
    let choices: Vec<_> = outcome.endpoints().collect();
    assert_eq!(choices, [Choice { endpoint, masquerade: false }]);
}

/// The node's own packets to itself pass OUTPUT and then, over the loopback link, INPUT.
#[test]
fn own_packets_to_own_addresses_meet_input() {
    let mut program = hooked(Table::Filter, BuiltIn::Input, vec![rule(vec![], Target::Reject)]);
    let own = packet("192.0.2.7:40000", "192.0.2.7:80", Ingress::Local);
    assert_eq!(Iptables.trace(&program, &own), Ok(Outcome::Pass));
    program.local_addresses.insert("192.0.2.7".parse().unwrap());
    assert_eq!(Iptables.trace(&program, &own), Ok(Outcome::Reject));
}

#[test]
fn a_large_program_is_walked_in_one_piece() {
    let ir = cluster_ips(Family::Ipv4, Protocol::Tcp, 300, 100, Node::default()).unwrap();
    let program = Iptables.lower(&ir).program;
    let last = format!("{}:80", synth::cluster_ip(Family::Ipv4, 299));
    let outcome = Iptables.trace(&program, &stranger(&last)).unwrap();
    let Outcome::Balance(choices) = outcome else { panic!("{outcome}") };
    assert_eq!(choices.len(), 100);
    assert!(choices.values().all(|share| (share - 0.01).abs() < 1e-9));
}
