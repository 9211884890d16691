//! The probe measures what it says: every packet is timed, and lands where the rules send it.

#![expect(clippy::expect_used, reason = "tests fail by panicking")]

mod rules;

use nfc_backend::{Apply, Process, Question, Step};
use nfc_ir::Protocol;
use nfc_kernel::{Feature, Kernel};
use nfc_lab::{Connections, Delivery, Landing, Probe, ProbeError, Samples, Sender, World, need};
use std::net::SocketAddr;
use std::time::Duration;

const RULES: &str = "
table ip t {
    chain pre {
        type nat hook prerouting priority dstnat
        ip daddr 172.16.0.1 udp dport 80 dnat to 10.0.0.1:8080
        ip daddr 172.16.0.1 tcp dport 80 dnat to 10.0.0.1:8080
        ip daddr 172.16.0.2 tcp dport 80 dnat to 10.0.0.2:8080
    }
    chain forward {
        type filter hook forward priority filter
        ip daddr 172.16.0.3 drop
        ip daddr 172.16.0.4 reject
        ct state new counter
    }
}
";

fn world() -> World {
    let world = World::new().expect("a world");
    rules::load(&world, RULES);
    world
}

/// How many packets of new connections the forward hook has counted.
fn new_connections(world: &World) -> u64 {
    let args = ["list", "chain", "ip", "t", "forward"].map(str::to_owned).to_vec();
    let list = Question::Process(Process { program: "nft", args, stdin: String::new() });
    let answers = world.node().run(|| Kernel::new().ask(&[list])).expect("a namespace");
    let text = String::from_utf8(answers.expect("a listing")[0].0.clone()).expect("text");
    let after = text.split_once("counter packets ").expect("a counter").1;
    after.split(' ').next().and_then(|n| n.parse().ok()).expect("a number")
}

fn services(last: &[u8]) -> Vec<SocketAddr> {
    last.iter().map(|n| SocketAddr::from(([172, 16, 0, *n], 80))).collect()
}

fn endpoints(samples: &Samples) -> Vec<Option<SocketAddr>> {
    let endpoint = |landing: &Landing| match landing {
        Landing::Endpoint(choice) => Some(choice.endpoint),
        _ => None,
    };
    samples.landings.iter().map(endpoint).collect()
}

fn is_needed(test: &str) -> bool {
    need(test, &[Feature::Namespaces, Feature::Nftables, Feature::NftTool])
}

#[test]
fn each_first_packet_is_a_new_connection_and_is_timed() {
    if !is_needed("each first packet is a new connection and is timed") {
        return;
    }
    let world = world();
    let mut probe = Probe::new(&world, 0).expect("sockets");
    let samples = probe.first_packets(Protocol::Tcp, &services(&[1, 2]), 500).expect("samples");
    let expected = [1, 2].map(|n| Some(SocketAddr::from(([10, 0, 0, n], 8080))));
    assert_eq!(endpoints(&samples), expected.repeat(250));
    assert_eq!(new_connections(&world), 500);
    assert_eq!(
        (samples.len(), samples.arrival_ns.len(), samples.sent_at_ns.len()),
        (500, 500, 500)
    );
    let in_order = |s: &Samples| s.send_ns.iter().zip(&s.arrival_ns).all(|(s, a)| *s > 0 && s <= a);
    assert!(in_order(&samples));
    assert!(samples.sent_at_ns.is_sorted());
}

#[test]
fn packets_of_established_connections_are_not_new_to_the_rules() {
    if !is_needed("packets of established connections are not new to the rules") {
        return;
    }
    let world = world();
    let mut probe = Probe::new(&world, 0).expect("sockets");
    for (protocol, last, opened) in [(Protocol::Udp, &[1][..], 1), (Protocol::Tcp, &[1, 2], 3)] {
        let samples = probe.established(protocol, &services(last), 300).expect("samples");
        assert!(endpoints(&samples).iter().all(Option::is_some), "{protocol}");
        assert_eq!(new_connections(&world), opened, "{protocol}");
    }
}

#[test]
fn refused_and_lost_packets_are_told_apart() {
    if !is_needed("refused and lost packets are told apart") {
        return;
    }
    let world = world();
    let patience = Duration::from_millis(5);
    let mut probe = Probe::new(&world, 0).expect("sockets").with_patience(patience);
    let samples = probe.first_packets(Protocol::Tcp, &services(&[3, 4, 5]), 3).expect("samples");
    let through = Landing::Through { masquerade: false };
    assert_eq!(samples.landings, [Landing::Silence, Landing::Reject, through]);
    assert!(samples.arrival_ns[0] >= 5_000_000);
    let error = probe.established(Protocol::Tcp, &services(&[3]), 1).expect_err("dropped");
    assert!(matches!(error, ProbeError::NotEstablished { .. }), "{error}");
    let error = probe.first_packets(Protocol::Tcp, &[], 1).expect_err("no target");
    assert!(matches!(error, ProbeError::NoTarget), "{error}");
}

/// The source of a stranger is his own, and its block is not the pods'.
#[test]
fn packets_come_from_whom_they_should() {
    if !is_needed("packets come from whom they should") {
        return;
    }
    let world = world();
    let mut probe = Probe::new(&world, 0).expect("sockets");
    let pods = Sender::Pod.block(nfc_ir::Family::Ipv4);
    let rule = format!("add rule ip t forward ip saddr {pods} drop\n");
    let args = vec!["-f".to_owned(), "-".to_owned()];
    let nft = Step::Process(Process { program: "nft", args, stdin: rule });
    let applied = world.node().run(|| Kernel::new().apply(&[nft]));
    applied.expect("a namespace").expect("a rule");
    let mut landing = |sender| {
        probe.set_sender(sender);
        let samples = probe.first_packets(Protocol::Tcp, &services(&[1]), 1).expect("samples");
        samples.landings[0]
    };
    assert_eq!(landing(Sender::Pod), Landing::Silence);
    assert!(matches!(landing(Sender::Stranger), Landing::Endpoint(_)));
}

#[test]
fn whole_connections_end_where_the_rules_send_them_and_packets_are_captured_after() {
    if !is_needed("whole connections end where the rules send them") {
        return;
    }
    let mut world = world();
    world.deliver(Delivery::Answered).expect("links");
    let sockets = Connections::new(&world, 8080, 0).expect("a listener");
    let made = sockets.make(&services(&[1, 2, 1])).expect("connections");
    let landed: Vec<_> = made.iter().map(|connected| connected.landing).collect();
    let at = |n: u8| {
        let endpoint = SocketAddr::from(([10, 0, 0, n], 8080));
        Landing::Endpoint(nfc_ir::Choice { endpoint, masquerade: false })
    };
    assert_eq!(landed, [at(1), at(2), at(1)]);
    assert!(made.iter().all(|connected| connected.took_ns > 0));
    drop(sockets);
    world.deliver(Delivery::Captured).expect("links");
    let mut probe = Probe::new(&world, 0).expect("sockets");
    let samples = probe.first_packets(Protocol::Tcp, &services(&[1]), 20).expect("samples");
    assert!(samples.landings.iter().all(|landing| *landing == at(1)), "{:?}", samples.landings);
}
