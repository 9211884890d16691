//! What follows from facts, without a kernel.

use super::facts::{FORWARD_V4, Proxy};
use super::knock::Answer;
use super::standing::Standing;
use super::*;
use nfc_ir::{Endpoint, Family, Ir, LocalDetector, Node, Port, Protocol, ProxyMode, synth};
use nfc_kernel::conntrack::Connection;
use std::collections::BTreeMap;

/// One Service over UDP with one endpoint, 10.244.1.5:5353, at 10.96.0.53:53 and node port
/// 30053.
fn irs() -> BTreeMap<Family, Ir> {
    let mut service = synth::service(Family::Ipv4, Protocol::Udp, 0, 1);
    service.cluster_ip = "10.96.0.53".parse().expect("an address");
    service.port = Port::new(53).expect("a port");
    service.node_port = Port::new(30_053);
    service.endpoints = vec![Endpoint::ready("10.244.1.5:5353".parse().expect("an end"))];
    let block = "10.244.0.0/16".parse().expect("a block");
    let local_detector = LocalDetector::SourceBlock(block);
    let node = Node { local_detector, ..Node::default() };
    [(Family::Ipv4, Ir::new(Family::Ipv4, node, vec![service]).expect("valid"))].into()
}

fn healthy() -> Facts {
    Facts {
        rules: [(Family::Ipv4, Standing::AsCompiled)].into(),
        proxies: [Proxy::Nft].into(),
        sysctls: [(FORWARD_V4, "1".to_owned())].into(),
        addresses: vec!["192.0.2.1".parse().expect("an address")],
        ..Facts::default()
    }
}

fn kinds(facts: &Facts) -> Vec<Kind> {
    let irs = irs();
    let patient = Patient { backend: "nft", mode: ProxyMode::Nftables, irs: &irs, facts };
    diagnose(patient).iter().map(|finding| finding.kind).collect()
}

fn connection(destination: &str, answerer: &str) -> Connection {
    let end = |text: &str| text.parse().expect("an end");
    Connection {
        protocol: Protocol::Udp.number(),
        client: end("192.0.2.2:40000"),
        destination: end(destination),
        answerer: end(answerer),
        asker: end("192.0.2.2:40000"),
        tcp_state: None,
        packets: None,
        id: None,
        zone: None,
    }
}

#[test]
fn the_causes_come_first() {
    assert_eq!(kinds(&healthy()), []);
    let endpoint = ("10.244.1.5:5353".parse().expect("an end"), Protocol::Udp);
    let facts = Facts {
        rules: [(Family::Ipv4, Standing::Missing)].into(),
        sysctls: [(FORWARD_V4, "0".to_owned())].into(),
        doors: [(endpoint, Answer::Silent)].into(),
        connections: vec![connection("10.96.0.53:53", "10.244.9.9:5353")],
        ..healthy()
    };
    let expected =
        [Kind::RulesMissing, Kind::ForwardingOff, Kind::Unreachable, Kind::StaleConnections];
    assert_eq!(kinds(&facts), expected);
}

#[test]
fn a_proxy_alone_is_not_one_too_many() {
    let other = Facts { proxies: [Proxy::KubeProxyNft].into(), ..healthy() };
    assert_eq!(kinds(&other), []);
    let both = Facts { proxies: [Proxy::Nft, Proxy::KubeProxyNft].into(), ..healthy() };
    assert_eq!(kinds(&both), [Kind::TwoProxies]);
}

#[test]
fn connections_are_stale_when_their_service_would_not_make_them() {
    let cases = [
        ("10.96.0.53:53", "10.244.1.5:5353", false),
        ("10.96.0.53:53", "10.244.1.6:5353", true),
        // Another port of the same endpoint, and one that no rule rewrote.
        ("10.96.0.53:53", "10.244.1.5:53", true),
        ("10.96.0.53:53", "10.96.0.53:53", true),
        // Nobody's, and a node port of this node and of another.
        ("10.96.0.54:53", "10.244.1.6:5353", false),
        ("192.0.2.1:30053", "10.244.1.6:5353", true),
        ("192.0.2.9:30053", "10.244.1.6:5353", false),
    ];
    for (destination, answerer, is_stale) in cases {
        let connections = vec![connection(destination, answerer)];
        let facts = Facts { connections, ..healthy() };
        let found = stale_connections(&irs(), &facts).len() == 1;
        assert_eq!(found, is_stale, "{destination} to {answerer}");
    }
}

#[test]
fn a_strict_link_is_a_finding_once_it_has_thrown_packets_away() {
    let strict = Facts { strict_links: vec!["eth0".to_owned()], ..healthy() };
    assert_eq!(kinds(&strict), []);
    assert_eq!(kinds(&Facts { reverse_path_drops: 3, ..strict }), [Kind::ReversePath]);
}
