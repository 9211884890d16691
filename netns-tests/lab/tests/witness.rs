//! Packets land where rules written by hand send them.

#![expect(clippy::expect_used, reason = "tests fail by panicking")]

mod rules;

use nfc_ir::{Choice, Family, Ingress, Packet, Protocol};
use nfc_kernel::Feature;
use nfc_lab::{Landing, Witness, World, need};
use rules::load;
use std::net::SocketAddr;
use std::time::Duration;

const RULES: &str = "
table ip t {
    chain pre {
        type nat hook prerouting priority dstnat
        ip daddr 172.16.0.1 tcp dport 80 dnat to 10.0.0.1:8080
        ip daddr 172.16.0.1 udp dport 53 meta mark set 0x4000 dnat to 10.0.0.2:5353
        ip daddr 172.16.0.1 sctp dport 9 dnat to 10.0.0.3:99
    }
    chain out {
        type nat hook output priority -100
        ip daddr 172.16.0.1 tcp dport 80 dnat to 10.0.0.1:8080
        ip daddr 127.0.0.1 tcp dport 30000 meta mark set 0x4000 dnat to 10.0.0.1:8080
    }
    chain post {
        type nat hook postrouting priority srcnat
        meta mark 0x4000 masquerade
        ip saddr 10.0.0.1 ip daddr 10.0.0.1 masquerade
    }
    chain forward {
        type filter hook forward priority filter
        ip daddr 172.16.0.2 reject
        ip daddr 172.16.0.3 drop
    }
    chain own {
        type filter hook output priority filter
        ip daddr 172.16.0.2 reject
    }
}
table ip6 t {
    chain pre {
        type nat hook prerouting priority dstnat
        ip6 daddr fd00:172::1 tcp dport 80 dnat to [fd00:10::1]:8080
    }
    chain forward {
        type filter hook forward priority filter
        ip6 daddr fd00:172::2 reject
    }
    chain input {
        type filter hook input priority filter
        tcp dport 81 reject
    }
}
";

/// A packet that enters at a link, or at the node itself when `link` is empty.
fn packet(protocol: Protocol, link: &str, source: &str, destination: &str) -> Packet {
    let ingress =
        if link.is_empty() { Ingress::Local } else { Ingress::Interface(link.to_owned()) };
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
    Packet { protocol, source: address(source), destination: address(destination), ingress }
}

fn at(endpoint: &str, masquerade: bool) -> Landing {
    Landing::Endpoint(Choice { endpoint: endpoint.parse().expect("an address"), masquerade })
}

#[test]
fn packets_land_where_the_rules_send_them() {
    let needed = [Feature::Namespaces, Feature::Nftables, Feature::NftTool];
    if !need("packets land where the rules send them", &needed) {
        return;
    }
    use Protocol::{Sctp, Tcp, Udp};
    let world = World::new().expect("a world");
    load(&world, RULES);
    let mut witness = Witness::new(&world).expect("sockets");
    let through = Landing::Through { masquerade: false };
    let cases = [
        (Tcp, "eth0", "192.0.2.2:4001", "172.16.0.1:80", at("10.0.0.1:8080", false)),
        (Udp, "eth0", "192.0.2.2:4002", "172.16.0.1:53", at("10.0.0.2:5353", true)),
        (Sctp, "eth0", "192.0.2.2:4003", "172.16.0.1:9", at("10.0.0.3:99", false)),
        (Tcp, "eth0", "203.0.113.7:4004", "172.16.0.1:80", at("10.0.0.1:8080", false)),
        (Tcp, "cbr0", "10.0.0.1:4005", "172.16.0.1:80", at("10.0.0.1:8080", true)),
        (Tcp, "cbr0", "10.0.0.9:4006", "172.16.0.1:80", at("10.0.0.1:8080", false)),
        (Tcp, "", "192.0.2.1:4007", "172.16.0.1:80", at("10.0.0.1:8080", false)),
        (Tcp, "eth0", "192.0.2.2:4008", "172.16.0.2:80", Landing::Reject),
        (Udp, "eth0", "192.0.2.2:4009", "172.16.0.2:80", Landing::Reject),
        (Sctp, "cbr0", "10.0.0.9:4010", "172.16.0.2:80", Landing::Reject),
        (Udp, "", "192.0.2.1:4011", "172.16.0.2:80", Landing::Reject),
        (Tcp, "eth0", "192.0.2.2:4012", "172.16.0.3:80", Landing::Silence),
        (Tcp, "eth0", "192.0.2.2:4013", "172.16.0.4:80", through),
        (Tcp, "eth0", "192.0.2.2:4014", "192.0.2.1:9999", through),
        (Udp, "eth0", "192.0.2.2:4015", "198.51.100.1:9999", through),
        (Udp, "", "192.0.2.1:4016", "203.0.113.5:53", through),
        (Tcp, "", "192.0.2.1:4017", "192.0.2.1:9999", through),
        (Tcp, "", "127.0.0.1:4023", "127.0.0.1:30000", at("10.0.0.1:8080", true)),
        (Udp, "", "127.0.0.1:4024", "127.0.0.1:30000", through),
        (Tcp, "", "203.0.113.77:4025", "172.16.0.1:80", at("10.0.0.1:8080", false)),
        (Tcp, "", "203.0.113.77:4026", "172.16.0.2:80", Landing::Reject),
        (Tcp, "eth0", "198.51.100.1:4027", "172.16.0.1:80", at("10.0.0.1:8080", false)),
        (Tcp, "cbr0", "[fd00:10::9]:4018", "[fd00:172::1]:80", at("[fd00:10::1]:8080", false)),
        (Udp, "eth0", "[fd00::7]:4019", "[fd00:172::2]:80", Landing::Reject),
        (Tcp, "eth0", "[fd00::7]:4020", "[fd00:172::3]:80", through),
        (Tcp, "", "[fd00:198:51:100::1]:4021", "[fd00:172::3]:80", through),
        (Tcp, "eth0", "[fd00::7]:4022", "[fd00:192:0:2::1]:81", Landing::Reject),
    ];
    let mut wrong = Vec::new();
    for (protocol, link, source, destination, expected) in cases {
        let packet = packet(protocol, link, source, destination);
        let landing = witness.send(&packet).expect("a packet that can be sent");
        if landing != expected {
            wrong.push(format!("{packet} {landing}, expected: {expected}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn forgotten_flows_are_looked_up_again() {
    let needed = [Feature::Namespaces, Feature::Nftables, Feature::NftTool];
    if !need("forgotten flows are looked up again", &needed) {
        return;
    }
    let world = World::new().expect("a world");
    let mut witness = Witness::new(&world).expect("sockets").with_patience(Duration::from_secs(1));
    let packet = packet(Protocol::Tcp, "eth0", "192.0.2.2:5000", "172.16.0.1:80");
    let rule = |endpoint: &str| {
        format!(
            "add table ip t\ndelete table ip t\ntable ip t {{ chain pre {{ type nat hook \
             prerouting priority dstnat; ip daddr 172.16.0.1 tcp dport 80 dnat to {endpoint}; }}; }}"
        )
    };
    load(&world, &rule("10.0.0.1:1"));
    assert_eq!(witness.send(&packet).expect("sent"), at("10.0.0.1:1", false));
    load(&world, &rule("10.0.0.2:2"));
    assert_eq!(witness.send(&packet).expect("sent"), at("10.0.0.1:1", false), "remembered");
    world.forget_flows().expect("conntrack");
    assert_eq!(witness.send(&packet).expect("sent"), at("10.0.0.2:2", false), "looked up again");
}

#[test]
fn every_node_address_is_the_nodes_own() {
    if !need("every node address is the node's own", &[Feature::Namespaces]) {
        return;
    }
    let world = World::new().expect("a world");
    let mut witness = Witness::new(&world).expect("sockets");
    for family in Family::ALL {
        for (port, ip) in (6000..).zip(world.node_addresses(family)) {
            let source = if family == Family::Ipv4 { "192.0.2.2" } else { "fd00:192:0:2::2" };
            let source = SocketAddr::new(source.parse().expect("an address"), port);
            let packet = Packet {
                protocol: Protocol::Udp,
                source,
                destination: SocketAddr::new(ip, 9),
                ingress: Ingress::Interface("eth0".to_owned()),
            };
            let landing = witness.send(&packet).expect("sent");
            assert_eq!(landing, Landing::Through { masquerade: false }, "{packet}");
        }
    }
}
