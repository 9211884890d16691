//! Tests of the whole, and the Services that they are about.

mod bytes;
mod explain;
mod laws;
mod replace;
mod text;

use crate::{Ipvs, Program};
use nfc_backend::Backend;
use nfc_ir::{
    Affinity, Endpoint, Family, Ir, LocalDetector, Node, Port, Protocol, Scheduler, Service,
    ServiceName, TrafficPolicy,
};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A TCP Service in the namespace `default`, with endpoints and their weights.
fn service(name: &str, cluster_ip: &str, port: u16, endpoints: &[(&str, u16)]) -> Service {
    let endpoint = |(address, weight): &(&str, u16)| Endpoint {
        weight: NonZeroU16::new(*weight).expect("a weight"),
        ..Endpoint::ready(address.parse().expect("an endpoint"))
    };
    Service {
        name: ServiceName {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            port: String::new(),
        },
        protocol: Protocol::Tcp,
        cluster_ip: ip(cluster_ip),
        port: Port::new(port).expect("a port"),
        node_port: None,
        external_ips: BTreeSet::new(),
        load_balancer_ips: BTreeSet::new(),
        source_ranges: BTreeSet::new(),
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        affinity: None,
        health_check_port: None,
        scheduler: Scheduler::Random,
        endpoints: endpoints.iter().map(endpoint).collect(),
    }
}

/// A node whose pods are those of 10.64.0.0/16.
fn node() -> Node {
    Node {
        addresses: vec![ip("192.0.2.10")],
        local_detector: LocalDetector::SourceBlock("10.64.0.0/16".parse().expect("a block")),
        ..Node::default()
    }
}

/// A load balancer with weights, a node port, source ranges and a health check.
fn web() -> Service {
    Service {
        node_port: Port::new(30_080),
        load_balancer_ips: [ip("203.0.113.5")].into(),
        source_ranges: ["198.51.100.0/24".parse().expect("a block")].into(),
        health_check_port: Port::new(31_000),
        external_policy: TrafficPolicy::Local,
        ..service("web", "10.96.0.10", 80, &[("10.64.1.2:8080", 1), ("10.64.2.2:8080", 3)])
    }
}

/// A UDP Service with session affinity.
fn dns() -> Service {
    Service {
        protocol: Protocol::Udp,
        affinity: Some(Affinity { timeout_seconds: NonZeroU32::new(10_800).expect("a time") }),
        ..service("dns", "10.96.0.11", 53, &[("10.64.1.3:53", 1)])
    }
}

/// An SCTP Service of IPv6, spread by Maglev.
fn maglev() -> Service {
    Service {
        scheduler: Scheduler::Maglev,
        protocol: Protocol::Sctp,
        ..service("v6", "fd00:96::a", 80, &[("[fd00:64::2]:8080", 1)])
    }
}

fn lower(family: Family, node: Node, services: Vec<Service>) -> Program {
    let ir = Ir::new(family, node, services).expect("a valid Ir");
    let lowered = Ipvs.lower(&ir);
    assert_eq!(lowered.unsupported, []);
    lowered.program
}
