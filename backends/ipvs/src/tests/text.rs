//! Programs as text, and single packets.

use super::{dns, ip, lower, maglev, node, service, web};
use crate::Ipvs;
use nfc_backend::Backend;
use nfc_ir::{Family, Ingress, Node, Outcome, Packet, Protocol, Service};
use std::net::SocketAddr;

/// The lines between one that begins so and the end of its text.
fn part<'a>(script: &'a str, start: &str) -> Vec<&'a str> {
    let from = script.lines().skip_while(|line| !line.starts_with(start)).skip(1);
    from.take_while(|line| *line != "END").collect()
}

#[test]
fn virtual_servers_are_lines_of_ipvsadm() {
    let program = lower(Family::Ipv4, node(), vec![web(), dns()]);
    let script = Ipvs.render(&[program]);
    let expected = [
        "# default/web",
        "-A -t 10.96.0.10:80 -s wrr",
        "-a -t 10.96.0.10:80 -r 10.64.1.2:8080 -m -w 1",
        "-a -t 10.96.0.10:80 -r 10.64.2.2:8080 -m -w 3",
        "# default/dns",
        "-A -u 10.96.0.11:53 -s rr -p 10800",
        "-a -u 10.96.0.11:53 -r 10.64.1.3:53 -m -w 1",
        "# default/web",
        "-A -t 192.0.2.10:30080 -s wrr",
        "-a -t 192.0.2.10:30080 -r 10.64.1.2:8080 -m -w 1",
        "-a -t 192.0.2.10:30080 -r 10.64.2.2:8080 -m -w 3",
        "# default/web",
        "-A -t 203.0.113.5:80 -s wrr",
        "-a -t 203.0.113.5:80 -r 10.64.1.2:8080 -m -w 1",
        "-a -t 203.0.113.5:80 -r 10.64.2.2:8080 -m -w 3",
    ];
    assert_eq!(part(&script, "grep"), expected);
}

#[test]
fn two_families_are_one_script() {
    let v4 = lower(Family::Ipv4, node(), vec![dns()]);
    let v6 = lower(Family::Ipv6, Node::default(), vec![maglev()]);
    let script = Ipvs.render(&[v4, v6]);
    let expected = [
        "-A --sctp-service [fd00:96::a]:80 -s mh -b mh-fallback,mh-port",
        "-a --sctp-service [fd00:96::a]:80 -r [fd00:64::2]:8080 -m -w 1",
    ];
    let servers: Vec<_> = script.lines().filter(|line| line.contains("sctp-service")).collect();
    assert_eq!(servers, expected);
    assert_eq!(
        part(&script, "ip -4 -batch"),
        ["route replace local 10.96.0.11 dev lo table local proto 110"]
    );
    let v6 = ["route replace local fd00:96::a dev lo table local proto 110"];
    assert_eq!(part(&script, "ip -6 -batch"), v6);
    assert_eq!(script.matches("vs.conntrack=1").count(), 1);
    assert_eq!(script.matches("delete table").count(), 2);
}

#[test]
fn an_empty_program_is_a_script_that_does_nothing() {
    let script = Ipvs.render(&[Ipvs.empty(Family::Ipv4)]);
    let orders: Vec<_> = script.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(orders, ["set -e"]);
}

fn outcome(services: Vec<Service>, protocol: Protocol, from: &str, to: &str) -> Outcome {
    let address = |text: &str| -> SocketAddr { text.parse().expect("an address") };
    let (source, destination) = (address(from), address(to));
    let ingress = Ingress::Interface("eth0".to_owned());
    let packet = Packet { protocol, source, destination, ingress };
    let program = lower(Family::Ipv4, node(), services);
    Ipvs.trace(&program, &packet).expect("a packet that can be traced")
}

/// In some clouds health checks are sent to the load balancer IP, which is bound here: the
/// port belongs to no virtual server, and is let through all the same.
#[test]
fn a_health_check_comes_in_at_bound_addresses_too() {
    let stranger = "198.51.100.9:40000";
    for to in ["192.0.2.10:31000", "203.0.113.5:31000"] {
        assert_eq!(outcome(vec![web()], Protocol::Tcp, stranger, to), Outcome::Accept, "{to}");
    }
    let at = |protocol, to| outcome(vec![web()], protocol, stranger, to);
    assert_eq!(at(Protocol::Udp, "203.0.113.5:31000"), Outcome::Reject);
    assert_eq!(at(Protocol::Tcp, "203.0.113.5:31001"), Outcome::Reject);
    assert_eq!(at(Protocol::Tcp, "192.0.2.10:31001"), Outcome::Pass);
}

/// The node reaches a cluster IP with that cluster IP as source, since it is bound here.
#[test]
fn without_a_detector_the_nodes_own_packets_are_masqueraded() {
    let service = service("a", "10.96.0.1", 80, &[("10.64.0.1:80", 1)]);
    let program = lower(Family::Ipv4, Node::default(), vec![service]);
    let masqueraded = |from: &str| {
        let packet = Packet {
            protocol: Protocol::Tcp,
            source: SocketAddr::new(ip(from), 40_000),
            destination: SocketAddr::new(ip("10.96.0.1"), 80),
            ingress: Ingress::Local,
        };
        let outcome = Ipvs.trace(&program, &packet).expect("a packet that can be traced");
        outcome.endpoints().map(|choice| choice.masquerade).collect::<Vec<_>>()
    };
    assert_eq!(masqueraded("10.96.0.1"), [true]);
    assert_eq!(masqueraded("192.0.2.10"), [false]);
}
