//! Made-up Services: the same ones from the same numbers, on every machine.
//!
//! The bench and the tests both need many Services of a known shape. Addresses are laid
//! out so that Service *i* and endpoint *j* can be told from the address alone.
//!
//! Invariant: no clock and no randomness but that of a seed; everything follows from the
//! arguments.

mod dice;
mod sample;

pub use dice::Dice;
pub use sample::{Sample, sample};

use crate::{
    Endpoint, Family, Ir, Node, Port, Protocol, Scheduler, Service, ServiceName, TrafficPolicy,
};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The port that all made-up Services have at their cluster IP.
pub const PORT: Port = Port::new(80).unwrap();

/// The port that all made-up endpoints listen on.
pub const TARGET_PORT: u16 = 8080;

/// `services` ClusterIP Services of `protocol` with `endpoints` endpoints each, on `node`.
///
/// Cluster IPs are taken from 172.16.0.0/12 (`fd00:172::/32`), endpoint addresses from
/// 10.0.0.0/8 (`fd00:10::/32`).
///
/// # Errors
///
/// None for fewer than 2^20 Services with 2^24 endpoints in all; beyond, the flaws that
/// come of addresses used twice.
pub fn cluster_ips(
    family: Family,
    protocol: Protocol,
    services: u32,
    endpoints: u32,
    node: Node,
) -> Result<Ir, Vec<crate::Flaw>> {
    let made = (0..services).map(|i| service(family, protocol, i, endpoints)).collect();
    Ir::new(family, node, made)
}

/// Service number `index` of those that [`cluster_ips`] makes.
#[must_use]
pub fn service(family: Family, protocol: Protocol, index: u32, endpoints: u32) -> Service {
    Service {
        name: ServiceName {
            namespace: "synth".to_owned(),
            name: format!("svc-{index:06}"),
            port: String::new(),
        },
        protocol,
        cluster_ip: cluster_ip(family, index),
        port: PORT,
        node_port: None,
        external_ips: BTreeSet::new(),
        load_balancer_ips: BTreeSet::new(),
        source_ranges: BTreeSet::new(),
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        affinity: None,
        health_check_port: None,
        scheduler: Scheduler::Random,
        endpoints: (0..endpoints)
            .map(|j| Endpoint::ready(endpoint(family, index * endpoints + j)))
            .collect(),
    }
}

/// The cluster IP of Service number `index`.
#[must_use]
pub fn cluster_ip(family: Family, index: u32) -> IpAddr {
    match family {
        Family::Ipv4 => Ipv4Addr::from(0xac10_0000 + index + 1).into(),
        Family::Ipv6 => Ipv6Addr::from((0xfd00_0172_u128 << 96) + u128::from(index) + 1).into(),
    }
}

/// The address of endpoint number `index`, counted over all Services.
#[must_use]
pub fn endpoint(family: Family, index: u32) -> SocketAddr {
    let ip: IpAddr = match family {
        Family::Ipv4 => Ipv4Addr::from(0x0a00_0000 + index + 1).into(),
        Family::Ipv6 => Ipv6Addr::from((0xfd00_0010_u128 << 96) + u128::from(index) + 1).into(),
    };
    SocketAddr::new(ip, TARGET_PORT)
}
