//! What an Ir promises, and what `eval` says, on random Services and on cases worked out
//! by hand.

#![allow(clippy::expect_used, reason = "a test panics to keep its backtrace")]

use nfc_ir::synth::{self, Dice};
use nfc_ir::{
    Endpoint, Family, Flaw, Ingress, Ir, LocalDetector, Node, Outcome, Packet, Port, Protocol,
    ProxyMode, Service, TrafficPolicy, eval,
};
use proptest::prelude::*;
use std::net::SocketAddr;

fn any_family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::Ipv4), Just(Family::Ipv6)]
}

proptest! {
    #[test]
    fn an_ir_is_blind_to_the_order_of_services_and_endpoints(seed: u64, family in any_family()) {
        let ir = synth::sample(seed, family).ir;
        let mut shuffled = ir.services().to_vec();
        let mut dice = Dice::new(seed ^ 1);
        dice.shuffle(&mut shuffled);
        for service in &mut shuffled {
            dice.shuffle(&mut service.endpoints);
        }
        let again = Ir::new(family, ir.node().clone(), shuffled).expect("still valid");
        prop_assert_eq!(ir.services(), again.services());
    }

    #[test]
    fn shares_add_up_to_one(seed: u64, family in any_family()) {
        let sample = synth::sample(seed, family);
        for mode in ProxyMode::ALL {
            for packet in &sample.packets {
                if let Outcome::Balance(choices) = eval(&sample.ir, mode, packet) {
                    let total: f64 = choices.values().sum();
                    prop_assert!((total - 1.0).abs() < 1e-9, "{packet}: {total}");
                }
            }
        }
    }

    #[test]
    fn nobody_is_sent_to_an_endpoint_of_another_service(seed: u64, family in any_family()) {
        let sample = synth::sample(seed, family);
        let all: std::collections::BTreeSet<SocketAddr> =
            sample.ir.services().iter().flat_map(|s| &s.endpoints).map(|e| e.address).collect();
        for packet in &sample.packets {
            for choice in eval(&sample.ir, ProxyMode::Iptables, packet).endpoints() {
                prop_assert!(all.contains(&choice.endpoint));
            }
        }
    }
}

/// The samples would prove nothing if they never got past the easy outcomes.
#[test]
fn samples_reach_every_kind_of_outcome() {
    let mut seen = std::collections::BTreeMap::new();
    for seed in 0..200 {
        let sample = synth::sample(seed, Family::Ipv4);
        for packet in &sample.packets {
            let kind = match eval(&sample.ir, ProxyMode::Nftables, packet) {
                Outcome::Balance(c) if c.keys().any(|c| c.masquerade) => "masqueraded",
                Outcome::Balance(_) => "balanced",
                Outcome::Reject => "rejected",
                Outcome::Drop => "dropped",
                Outcome::Pass => "passed",
                Outcome::Accept => "accepted",
            };
            *seen.entry(kind).or_insert(0) += 1;
        }
    }
    for kind in ["masqueraded", "balanced", "rejected", "dropped", "passed"] {
        assert!(seen.get(kind).is_some_and(|n| *n > 100), "{kind}: {seen:?}");
    }
}

fn service(endpoints: &[&str]) -> Service {
    let mut service = synth::service(Family::Ipv4, Protocol::Tcp, 0, 0);
    service.endpoints =
        endpoints.iter().map(|e| Endpoint::ready(e.parse().expect("an address"))).collect();
    service
}

fn ask(ir: &Ir, mode: ProxyMode, from: &str, to: &str) -> String {
    let packet = Packet {
        protocol: Protocol::Tcp,
        source: format!("{from}:40000").parse().expect("an address"),
        destination: to.parse().expect("an address"),
        ingress: Ingress::Interface("eth0".to_owned()),
    };
    eval(ir, mode, &packet).to_string()
}

fn pods() -> Node {
    let block = "10.0.0.0/8".parse().expect("a block");
    Node {
        local_detector: LocalDetector::SourceBlock(block),
        addresses: vec!["192.168.0.2".parse().expect("an address")],
        ..Node::default()
    }
}

#[test]
fn strangers_and_hairpins_are_masqueraded() {
    let ir = Ir::new(Family::Ipv4, pods(), vec![service(&["10.0.0.1:80", "10.0.0.2:80"])])
        .expect("valid");
    let cases = [
        ("10.0.0.9", "10.0.0.1:80 50.0%, 10.0.0.2:80 50.0%"),
        ("10.0.0.1", "10.0.0.1:80 masqueraded 50.0%, 10.0.0.2:80 50.0%"),
        ("8.8.8.8", "10.0.0.1:80 masqueraded 50.0%, 10.0.0.2:80 masqueraded 50.0%"),
    ];
    for (from, expected) in cases {
        assert_eq!(ask(&ir, ProxyMode::Iptables, from, "172.16.0.1:80"), expected);
    }
}

#[test]
fn modes_differ_at_ports_that_nobody_has() {
    let ir = Ir::new(Family::Ipv4, pods(), vec![service(&["10.0.0.1:80"])]).expect("valid");
    let at_unknown_port = ProxyMode::ALL.map(|mode| ask(&ir, mode, "10.0.0.9", "172.16.0.1:81"));
    assert_eq!(at_unknown_port, ["pass", "reject", "reject"]);
}

#[test]
fn a_local_policy_without_local_endpoints_drops_strangers_but_not_pods() {
    let mut service = service(&["10.0.0.1:80"]);
    service.external_policy = TrafficPolicy::Local;
    service.node_port = Port::new(30_080);
    let ir = Ir::new(Family::Ipv4, pods(), vec![service]).expect("valid");
    let ask = |mode, from| ask(&ir, mode, from, "192.168.0.2:30080");
    assert_eq!(ask(ProxyMode::Nftables, "8.8.8.8"), "drop");
    assert_eq!(ask(ProxyMode::Nftables, "10.0.0.9"), "10.0.0.1:80 100.0%");
    assert_eq!(ask(ProxyMode::Ipvs, "8.8.8.8"), "10.0.0.1:80 100.0%");
}

#[test]
fn every_flaw_is_reported() {
    let mut second = service(&["[fd00::1]:80"]);
    second.name.name = "other".to_owned();
    let node = Node { masquerade_bit: 32, ..Node::default() };
    let flaws = Ir::new(Family::Ipv4, node, vec![service(&[]), service(&[]), second])
        .expect_err("four flaws");
    assert!(flaws.contains(&Flaw::MasqueradeBit { bit: 32 }));
    assert!(flaws.iter().any(|f| matches!(f, Flaw::Duplicate { .. })), "{flaws:?}");
    assert!(flaws.iter().any(|f| matches!(f, Flaw::WrongFamily { .. })), "{flaws:?}");
    assert!(flaws.iter().any(|f| matches!(f, Flaw::Conflict { .. })), "{flaws:?}");
}

#[test]
fn endpoints_are_sorted_as_text_and_a_local_one_wins() {
    let mut one = service(&["10.0.0.1:80", "10.0.0.10:80", "10.0.0.1:80"]);
    one.endpoints[2].local = true;
    let ir = Ir::new(Family::Ipv4, Node::default(), vec![one]).expect("valid");
    let kept: Vec<_> =
        ir.services()[0].endpoints.iter().map(|e| (e.address.to_string(), e.local)).collect();
    assert_eq!(kept, [("10.0.0.10:80".to_owned(), false), ("10.0.0.1:80".to_owned(), true)]);
}
