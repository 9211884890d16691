//! Session affinity with real packets: a client keeps its endpoint as long as it may, and
//! clients are spread all the same.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

mod stage;

use nfc_ir::{
    Affinity, Family, Ingress, Ir, Node, Packet, Port, Protocol, Service, TrafficPolicy, synth,
};
use nfc_lab::need;
use stage::{Stage, backend, client, needs};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::thread::sleep;
use std::time::Duration;

const ENDPOINTS: u32 = 4;

/// Where rules hold the clients, and not IPVS.
const RULES: [&str; 3] = ["nft", "nft-constant-time", "iptables"];

fn service(family: Family, protocol: Protocol, seconds: u32) -> Service {
    let timeout_seconds = NonZeroU32::new(seconds).expect("not zero");
    let mut service = synth::service(family, protocol, 0, ENDPOINTS);
    service.affinity = Some(Affinity { timeout_seconds });
    service
}

fn ir(service: Service) -> Ir {
    on_node(Node::default(), vec![service])
}

fn on_node(node: Node, services: Vec<Service>) -> Ir {
    Ir::new(Family::of(services[0].cluster_ip), node, services).expect("valid")
}

/// Where a new connection of this client to the Service's cluster IP ends up.
fn connect(stage: &mut Stage, ir: &Ir, client: IpAddr) -> SocketAddr {
    let service = &ir.services()[0];
    let cluster_ip = SocketAddr::new(service.cluster_ip, service.port.get());
    connect_at(stage, service.protocol, client, cluster_ip)
}

fn connect_at(
    stage: &mut Stage,
    protocol: Protocol,
    client: IpAddr,
    destination: SocketAddr,
) -> SocketAddr {
    stage.send(&Packet {
        protocol,
        source: SocketAddr::new(client, 1),
        destination,
        ingress: Ingress::Interface("eth0".to_owned()),
    })
}

/// The stage, unless this machine lacks something or the backend says that it cannot.
fn ready(what: &str, name: &str, ir: &Ir) -> Option<Stage> {
    if !need(&format!("{what} ({name}, {})", ir.family()), &needs(name, ir.family())) {
        return None;
    }
    let backend = backend(name);
    assert_eq!(backend.lower(ir).unsupported, [], "affinity was promised");
    let stage = Stage::new(ir);
    stage.load(backend.as_ref(), ir);
    Some(stage)
}

fn clients_stick_and_spread(name: &str, family: Family, protocol: Protocol) {
    let ir = ir(service(family, protocol, 60));
    let what = format!("clients of {protocol} stick and spread");
    let Some(mut stage) = ready(&what, name, &ir) else { return };
    let mut used = BTreeSet::new();
    for i in 1..=40 {
        let first = connect(&mut stage, &ir, client(family, i));
        for _ in 0..5 {
            assert_eq!(connect(&mut stage, &ir, client(family, i)), first, "client {i} moved");
        }
        used.insert(first);
    }
    // Forty clients miss one of four endpoints once in 25,000 runs; half of them, never.
    assert!(used.len() > 1, "all clients went to {used:?}");
}

#[test]
fn clients_stick_and_spread_in_rules() {
    for name in RULES {
        for family in Family::ALL {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                clients_stick_and_spread(name, family, protocol);
            }
        }
    }
}

#[test]
fn clients_stick_and_spread_in_ipvs() {
    for family in Family::ALL {
        clients_stick_and_spread("ipvs", family, Protocol::Udp);
    }
}

/// Of eight clients that stay away longer than the timeout, all keep their endpoint with a
/// probability of 1 to 65,536; those that come back in time all keep it, however long.
fn the_timeout_counts_from_the_last_use(name: &str, family: Family) {
    let ir = ir(service(family, Protocol::Udp, 2));
    let Some(mut stage) = ready("the timeout counts from the last use", name, &ir) else { return };
    let busy = client(family, 1);
    let idle: Vec<_> = (2..10).map(|i| client(family, i)).collect();
    let kept = connect(&mut stage, &ir, busy);
    let before: Vec<_> = idle.iter().map(|c| connect(&mut stage, &ir, *c)).collect();
    for _ in 0..5 {
        sleep(Duration::from_secs(1));
        assert_eq!(connect(&mut stage, &ir, busy), kept, "use must renew the timeout");
    }
    let after: Vec<_> = idle.iter().map(|c| connect(&mut stage, &ir, *c)).collect();
    assert_ne!(before, after, "nobody was forgotten");
}

#[test]
fn the_timeout_counts_from_the_last_use_in_nft() {
    Family::ALL.into_iter().for_each(|f| the_timeout_counts_from_the_last_use("nft", f));
}

#[test]
fn the_timeout_counts_from_the_last_use_in_iptables() {
    the_timeout_counts_from_the_last_use("iptables", Family::Ipv4);
}

/// Clients of an endpoint that goes move to another, and stay there when it comes back. The
/// others stay where they are.
fn an_endpoint_that_goes_is_forgotten(name: &str, family: Family) {
    let old = ir(service(family, Protocol::Udp, 60));
    let Some(mut stage) = ready("an endpoint that goes is forgotten", name, &old) else { return };
    let clients: Vec<_> = (1..20).map(|i| client(family, i)).collect();
    let before: Vec<_> = clients.iter().map(|c| connect(&mut stage, &old, *c)).collect();
    let mut service = old.services()[0].clone();
    let gone = service.endpoints.remove(1).address;
    let new = ir(service);
    stage.update(backend(name).as_ref(), &old, &new);
    let meanwhile: Vec<_> = clients.iter().map(|c| connect(&mut stage, &new, *c)).collect();
    for (client, (before, now)) in clients.iter().zip(before.iter().zip(&meanwhile)) {
        assert_ne!(*now, gone);
        assert!(before == now || *before == gone, "{client} moved without need");
    }
    stage.update(backend(name).as_ref(), &new, &old);
    let after: Vec<_> = clients.iter().map(|c| connect(&mut stage, &old, *c)).collect();
    assert_eq!(after, meanwhile, "somebody went back");
}

#[test]
fn an_endpoint_that_goes_is_forgotten_in_nft() {
    for name in ["nft", "nft-constant-time"] {
        Family::ALL.into_iter().for_each(|f| an_endpoint_that_goes_is_forgotten(name, f));
    }
}

/// A Service knows its clients whichever way they come, as in kube-proxy, which keeps them
/// for each endpoint of a service port.
fn a_client_is_known_at_every_door(name: &str, family: Family) {
    let [node_ip, external_ip] = match family {
        Family::Ipv4 => ["192.0.2.10", "198.51.100.7"],
        Family::Ipv6 => ["2001:db8:5::10", "2001:db8:7::7"],
    }
    .map(|ip| ip.parse::<IpAddr>().expect("an address"));
    let mut service = service(family, Protocol::Tcp, 60);
    service.node_port = Port::new(30_080);
    service.external_ips.insert(external_ip);
    let doors = [(service.cluster_ip, service.port.get()), (node_ip, 30_080), (external_ip, 80)];
    assert_eq!(service.port.get(), 80);
    let ir = on_node(Node { addresses: vec![node_ip], ..Node::default() }, vec![service]);
    let Some(mut stage) = ready("a client is known at every door", name, &ir) else { return };
    for i in 1..=12 {
        let at = |door: usize| SocketAddr::from(doors[(door + usize::from(i)) % doors.len()]);
        let visits = (0..doors.len()).map(at);
        let met: BTreeSet<_> = visits
            .map(|door| connect_at(&mut stage, Protocol::Tcp, client(family, i), door))
            .collect();
        assert_eq!(met.len(), 1, "client {i} met {met:?}");
    }
}

#[test]
fn a_client_is_known_at_every_door_in_rules() {
    for name in RULES {
        Family::ALL.into_iter().for_each(|family| a_client_is_known_at_every_door(name, family));
    }
}

/// Under `externalTrafficPolicy: Local` a client whom the cluster IP led elsewhere gets an
/// endpoint of this node, and keeps that one at both doors.
#[test]
fn a_local_endpoint_is_kept_at_both_doors_in_nft() {
    for family in Family::ALL {
        let external_ip: IpAddr = match family {
            Family::Ipv4 => "198.51.100.7",
            Family::Ipv6 => "2001:db8:7::7",
        }
        .parse()
        .expect("an address");
        let mut service = service(family, Protocol::Tcp, 60);
        service.external_ips.insert(external_ip);
        service.external_policy = TrafficPolicy::Local;
        service.endpoints[2].local = true;
        let local = service.endpoints[2].address;
        let outside = SocketAddr::new(external_ip, service.port.get());
        let ir = ir(service);
        let Some(mut stage) = ready("a local endpoint is kept", "nft", &ir) else { return };
        for client in (1..=8).map(|i| client(family, i)) {
            connect(&mut stage, &ir, client);
            assert_eq!(connect_at(&mut stage, Protocol::Tcp, client, outside), local);
            assert_eq!(connect(&mut stage, &ir, client), local);
        }
    }
}

/// What one Service remembers is nothing to another with the same endpoints.
#[test]
fn services_do_not_share_clients_in_nft() {
    for family in Family::ALL {
        let one = service(family, Protocol::Udp, 60);
        let mut other = synth::service(family, Protocol::Udp, 1, ENDPOINTS);
        other.affinity = one.affinity;
        other.endpoints = one.endpoints.clone();
        let at = |service: &Service| SocketAddr::new(service.cluster_ip, service.port.get());
        let doors = [at(&one), at(&other)];
        let ir = on_node(Node::default(), vec![one, other]);
        let Some(mut stage) = ready("services do not share clients", "nft", &ir) else { return };
        let mut meet = |door| {
            let of = |i| connect_at(&mut stage, Protocol::Udp, client(family, i), door);
            (1..=20).map(of).collect::<Vec<_>>()
        };
        let met = doors.map(&mut meet);
        // Twenty clients choose alike twice once in 10^12 runs.
        assert_ne!(met[0], met[1]);
        assert_eq!(doors.map(meet), met);
    }
}

/// IPv6 clients are told apart by all but the first four bytes of their addresses.
#[test]
fn ipv6_clients_are_known_by_twelve_bytes_in_nft() {
    let ir = ir(service(Family::Ipv6, Protocol::Udp, 60));
    let what = "clients are known by twelve bytes";
    let Some(mut stage) = ready(what, "nft", &ir) else { return };
    let address = |at: usize, value: u16| {
        let mut segments = [0x2600, 0x5200, 1, 2, 3, 4, 5, 6];
        segments[at] = value;
        IpAddr::from(segments)
    };
    for at in 0..8 {
        let mut meet = |value| connect(&mut stage, &ir, address(at, value));
        let met: BTreeSet<_> = (0x2700..0x2714).map(&mut meet).collect();
        // Twenty clients choose the same of four endpoints once in 10^11 runs.
        assert_eq!(met.len() > 1, at >= 2, "addresses that differ in part {at} met {met:?}");
    }
}
