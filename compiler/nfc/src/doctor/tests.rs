//! What follows from facts, without a kernel.

use super::counts::Counts;
use super::facts::{BRIDGE_V4, CONNECTIONS, CONNECTIONS_MAX, FORWARD_V4, Proxy, ROUTE_LOCALNET};
use super::knock::Answer;
use super::standing::Standing;
use super::*;
use nfc_ir::{
    Endpoint, Family, Ir, LocalDetector, Node, Port, Protocol, ProxyMode, Service, TrafficPolicy,
    synth,
};
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

fn patient<'a>(irs: &'a BTreeMap<Family, Ir>, facts: &'a Facts) -> Patient<'a> {
    Patient { backend: "nft", mode: ProxyMode::Nftables, irs, facts }
}

fn kinds(facts: &Facts) -> Vec<Kind> {
    let irs = irs();
    diagnose(patient(&irs, facts)).iter().map(|finding| finding.kind).collect()
}

/// `IPS_SEEN_REPLY` and `IPS_OFFLOAD`.
const SEEN_REPLY: u32 = 1 << 1;
const OFFLOAD: u32 = 1 << 14;

fn tracked(connections: Vec<Connection>) -> Reading {
    Reading { connections, ..Reading::default() }
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
        status: SEEN_REPLY,
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
        now: tracked(vec![connection("10.96.0.53:53", "10.244.9.9:5353")]),
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
fn connections_are_told_apart_by_what_their_service_would_do() {
    use Kind::{RulesBypassed, StaleConnections};
    let cases = [
        ("10.96.0.53:53", "10.244.1.5:5353", None),
        ("10.96.0.53:53", "10.244.1.6:5353", Some(StaleConnections)),
        // Another port of the same endpoint, and one that no rule rewrote.
        ("10.96.0.53:53", "10.244.1.5:53", Some(StaleConnections)),
        ("10.96.0.53:53", "10.96.0.53:53", Some(RulesBypassed)),
        // Nobody's, and a node port of this node and of another.
        ("10.96.0.54:53", "10.244.1.6:5353", None),
        ("10.96.0.54:53", "10.96.0.54:53", None),
        ("192.0.2.1:30053", "10.244.1.6:5353", Some(StaleConnections)),
        ("192.0.2.1:30053", "192.0.2.1:30053", Some(RulesBypassed)),
        ("192.0.2.9:30053", "10.244.1.6:5353", None),
        ("192.0.2.9:30053", "192.0.2.9:30053", None),
    ];
    let irs = irs();
    for (destination, answerer, expected) in cases {
        let now = tracked(vec![connection(destination, answerer)]);
        let facts = Facts { now, ..healthy() };
        let place = format!("{destination} to {answerer}");
        assert_eq!(kinds(&facts), Vec::from_iter(expected), "{place}");
        let forgotten = connections::to_forget(patient(&irs, &facts)).len();
        assert_eq!(forgotten, usize::from(expected.is_some()), "{place}");
    }
}

#[test]
fn what_goes_past_the_rules_has_a_cause() {
    let irs = irs();
    let past = connection("10.96.0.53:53", "10.96.0.53:53");
    let offloaded = Connection { status: SEEN_REPLY | OFFLOAD, ..past.clone() };
    let cases = [
        (past.clone(), Standing::AsCompiled, "it began before the rules were there", 1),
        (past.clone(), Standing::Missing, "there are no rules", 0),
        (past, Standing::Drifted(Vec::new()), "the rules are not those of the manifests", 0),
        (offloaded, Standing::AsCompiled, "flowtable", 1),
    ];
    for (connection, standing, words, forgotten) in cases {
        let rules = [(Family::Ipv4, standing)].into();
        let facts = Facts { rules, now: tracked(vec![connection]), ..healthy() };
        let patient = patient(&irs, &facts);
        let findings = diagnose(patient);
        let found = findings.iter().find(|f| f.kind == Kind::RulesBypassed).expect("a finding");
        assert!(found.evidence[0].read.contains(words), "{found:?}");
        assert_eq!(connections::to_forget(patient).len(), forgotten, "{words}");
        // Before the rules are there it would only begin anew.
        let loads = found.remedy[0].starts_with("nfc apply");
        assert_eq!(loads, forgotten == 0, "{found:?}");
    }
}

/// `count` connections to the Service over `protocol`, of which the first `answered` are.
fn asked(protocol: Protocol, count: u16, answered: u16) -> Vec<Connection> {
    let one = |i| Connection {
        protocol: protocol.number(),
        client: (std::net::Ipv4Addr::new(192, 0, 2, 2), 40_000 + i).into(),
        status: if i < answered { SEEN_REPLY } else { 0 },
        ..connection("10.96.0.53:53", "10.244.1.5:5353")
    };
    (0..count).map(one).collect()
}

#[test]
fn an_endpoint_is_silent_when_most_connections_have_no_answer() {
    let mut irs = irs();
    for (protocol, count, answered, is_silent) in [
        (Protocol::Tcp, 3, 0, true),
        (Protocol::Tcp, 2, 0, false),
        (Protocol::Tcp, 8, 4, false),
        (Protocol::Tcp, 9, 4, true),
        // Collectors of logs never answer.
        (Protocol::Udp, 9, 0, false),
        (Protocol::Udp, 9, 1, true),
    ] {
        let ir = &irs[&Family::Ipv4];
        let mut service = ir.services()[0].clone();
        service.protocol = protocol;
        let ir = Ir::new(Family::Ipv4, ir.node().clone(), vec![service]).expect("valid");
        irs = [(Family::Ipv4, ir)].into();
        let facts = Facts { now: tracked(asked(protocol, count, answered)), ..healthy() };
        let found = diagnose(patient(&irs, &facts));
        let place = format!("{answered} of {count} over {protocol}");
        assert_eq!(found.iter().any(|f| f.kind == Kind::Unanswered), is_silent, "{place}");
        assert_eq!(found.len(), usize::from(is_silent), "{place}: {found:?}");
    }
}

#[test]
fn what_moved_is_the_difference_of_two_readings() {
    let irs = irs();
    let at = frontends::at(17, "10.96.0.53:53".parse().expect("an end")).expect("a frontend");
    let endpoint = "10.244.1.5:5353".parse().expect("an end");
    let reading = |count: u64, connections| {
        let endpoints = [((at, endpoint), count)].into();
        let counts = Some(Counts { frontends: [(at, count)].into(), endpoints });
        Reading { counts, connections }
    };
    let before = reading(5, asked(Protocol::Udp, 4, 4));
    let now = reading(7, asked(Protocol::Udp, 6, 5));
    let facts = Facts { now: now.clone(), ..healthy() };
    let all = movements(patient(&irs, &facts));
    let counts = (all[0].counted, all[0].tracked.connections, all[0].tracked.unanswered);
    assert_eq!(counts, (Some(7), 6, 1));
    let facts = Facts { now, before: Some(before), ..healthy() };
    let moved = movements(patient(&irs, &facts));
    let tracked = Tracked { connections: 2, unanswered: 1, bypassing: 0 };
    assert_eq!((moved[0].counted, moved[0].tracked), (Some(2), tracked));
    assert_eq!(moved[0].endpoints, [(endpoint, Share { counted: Some(2), tracked })].into());
    let facts = healthy();
    assert!(movements(patient(&irs, &facts))[0].is_still());
    assert_eq!(kinds(&facts), [], "that nobody asks is no fault");
}

#[test]
fn rules_that_are_left_over_are_told_with_a_way_to_delete_them() {
    let irs = irs();
    let left_over = [(Family::Ipv6, vec!["shop/web".to_owned()])].into();
    let facts = Facts { left_over, ..healthy() };
    let findings = diagnose(patient(&irs, &facts));
    assert_eq!(findings[0].kind, Kind::RulesLeftOver);
    assert_eq!(findings[0].remedy, ["nfc delete --backend nft --family ipv6"]);
}

#[test]
fn a_strict_link_is_a_finding_once_it_has_thrown_packets_away() {
    let strict = Facts { strict_links: vec!["eth0".to_owned()], ..healthy() };
    assert_eq!(kinds(&strict), []);
    assert_eq!(kinds(&Facts { reverse_path_drops: 3, ..strict }), [Kind::ReversePath]);
}

/// The Service of [`irs`], changed in what the node or it says.
fn altered(
    node: impl FnOnce(&mut Node),
    service: impl FnOnce(&mut Service),
) -> BTreeMap<Family, Ir> {
    let ir = &irs()[&Family::Ipv4];
    let (mut own, mut only) = (ir.node().clone(), ir.services()[0].clone());
    node(&mut own);
    service(&mut only);
    [(Family::Ipv4, Ir::new(Family::Ipv4, own, vec![only]).expect("valid"))].into()
}

fn kinds_in(mode: ProxyMode, irs: &BTreeMap<Family, Ir>, facts: &Facts) -> Vec<Kind> {
    let patient = Patient { backend: "any", mode, irs, facts };
    diagnose(patient).iter().map(|finding| finding.kind).collect()
}

/// A healthy node but for these sysctls.
fn switched(switches: &[(&'static str, &str)]) -> Facts {
    let mut facts = healthy();
    facts.sysctls.extend(switches.iter().map(|(name, value)| (*name, (*value).to_owned())));
    facts
}

#[test]
fn a_table_of_connections_is_full_when_hardly_any_room_is_left() {
    for (count, max, is_full) in [("94", "100", false), ("95", "100", true), ("0", "0", false)] {
        let facts = switched(&[(CONNECTIONS, count), (CONNECTIONS_MAX, max)]);
        let expected = Vec::from_iter(is_full.then_some(Kind::ConnectionsFull));
        assert_eq!(kinds(&facts), expected, "{count} of {max}");
    }
}

#[test]
fn a_closed_loopback_is_a_finding_where_node_ports_should_answer_there() {
    let (closed, open) = (switched(&[(ROUTE_LOCALNET, "0")]), switched(&[(ROUTE_LOCALNET, "1")]));
    let asks = irs();
    let silent = altered(|node| node.localhost_node_ports = false, |_| ());
    let bare = altered(|_| (), |service| service.node_port = None);
    for (mode, irs, facts, is_found) in [
        (ProxyMode::Iptables, &asks, &closed, true),
        (ProxyMode::Iptables, &asks, &open, false),
        (ProxyMode::Iptables, &silent, &closed, false),
        (ProxyMode::Iptables, &bare, &closed, false),
        (ProxyMode::Nftables, &asks, &closed, false),
    ] {
        let expected = Vec::from_iter(is_found.then_some(Kind::LoopbackClosed));
        assert_eq!(kinds_in(mode, irs, facts), expected, "{mode}");
    }
}

#[test]
fn a_bridge_past_the_rules_is_a_finding_where_there_is_one() {
    let pods_on_a_bridge =
        altered(|node| node.local_detector = LocalDetector::Bridge("cbr0".to_owned()), |_| ());
    let linked = |facts: Facts| Facts { links: vec!["cbr0".to_owned()], ..facts };
    let [off, on] = ["0", "1"].map(|value| linked(switched(&[(BRIDGE_V4, value)])));
    for (irs, facts, is_found) in [
        (&irs(), &off, true),
        (&irs(), &linked(healthy()), false),
        (&pods_on_a_bridge, &linked(healthy()), true),
        (&pods_on_a_bridge, &off, true),
        (&pods_on_a_bridge, &on, false),
    ] {
        let expected = Vec::from_iter(is_found.then_some(Kind::BridgeUnfiltered));
        assert_eq!(kinds_in(ProxyMode::Nftables, irs, facts), expected);
    }
}

#[test]
fn pods_have_to_be_told_from_strangers_unless_all_are_masqueraded() {
    let detector = |detector: LocalDetector| altered(|node| node.local_detector = detector, |_| ());
    let prefix = detector(LocalDetector::InterfacePrefix("veth".to_owned()));
    let elsewhere = detector(LocalDetector::SourceBlock("10.99.0.0/16".parse().expect("a block")));
    let unknown = detector(LocalDetector::None);
    let all = |node: &mut Node| {
        (node.local_detector, node.masquerade_all) = (LocalDetector::None, true);
    };
    let veth = Facts { links: vec!["veth7".to_owned()], ..healthy() };
    for (irs, facts, expected) in [
        (&unknown, healthy(), Some(Kind::PodsUnknown)),
        (&altered(all, |_| ()), healthy(), None),
        (&elsewhere, healthy(), Some(Kind::PodsNotRecognised)),
        (&prefix, healthy(), Some(Kind::PodsNotRecognised)),
        (&prefix, veth, None),
    ] {
        assert_eq!(kinds_in(ProxyMode::Nftables, irs, &facts), Vec::from_iter(expected));
    }
}

#[test]
fn a_local_policy_lacks_nobody_in_a_mode_that_falls_back_to_all() {
    let local = |external: bool| {
        let name = |node: &mut Node| node.name = "worker".to_owned();
        altered(name, |service| match external {
            true => service.external_policy = TrafficPolicy::Local,
            false => service.internal_policy = TrafficPolicy::Local,
        })
    };
    for irs in [local(true), local(false)] {
        for mode in ProxyMode::ALL {
            let expected = (mode != ProxyMode::Ipvs).then_some(Kind::NoLocalEndpoints);
            assert_eq!(kinds_in(mode, &irs, &healthy()), Vec::from_iter(expected), "{mode}");
        }
    }
}
