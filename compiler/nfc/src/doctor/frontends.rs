//! Which Service answers at an address and a port of the node.
//!
//! Invariant: looks up; knows no rule and no connection.

use nfc_ir::{Family, Frontend, FrontendKey, Ir, Port, Protocol, Service};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// A frontend of either family.
pub type At = (Family, FrontendKey);

/// The frontends of all Services, on a node of these addresses.
#[derive(Debug)]
pub struct Frontends<'a> {
    services: BTreeMap<At, &'a Service>,
    addresses: &'a [IpAddr],
}

impl<'a> Frontends<'a> {
    /// Those of `irs` on a node that has `addresses`.
    #[must_use]
    pub fn of(irs: &'a BTreeMap<Family, Ir>, addresses: &'a [IpAddr]) -> Self {
        let mut services = BTreeMap::new();
        for (family, ir) in irs {
            for service in ir.services() {
                let key = |frontend| match frontend {
                    Frontend::ClusterIp(ip)
                    | Frontend::ExternalIp(ip)
                    | Frontend::LoadBalancerIp(ip) => {
                        FrontendKey::Address(ip, service.protocol, service.port)
                    }
                    Frontend::NodePort(port) => FrontendKey::NodePort(service.protocol, port),
                };
                services.extend(service.frontends().map(|f| ((*family, key(f)), service)));
            }
        }
        Self { services, addresses }
    }

    /// The Service that answers there. An address of the node may stand for all of them.
    #[must_use]
    pub fn find(&self, at: At) -> Option<&'a Service> {
        let node_port = || match at {
            (family, FrontendKey::Address(ip, protocol, port)) if self.addresses.contains(&ip) => {
                self.services.get(&(family, FrontendKey::NodePort(protocol, port)))
            }
            _ => None,
        };
        self.services.get(&at).or_else(node_port).copied()
    }
}

/// The frontend that a packet of the protocol with this number is for; `None` for protocols
/// that Services do not have, and for port 0.
#[must_use]
pub fn at(protocol: u8, destination: SocketAddr) -> Option<At> {
    let protocol = Protocol::ALL.into_iter().find(|p| p.number() == protocol)?;
    let (ip, port) = (destination.ip(), Port::new(destination.port())?);
    Some((Family::of(ip), FrontendKey::Address(ip, protocol, port)))
}
