//! The Ir: all Services of one address family for one node, checked.
//!
//! Whoever holds an [`Ir`] may rely on this:
//!
//! 1. Services are sorted by name and protocol, and no two have the same.
//! 2. All addresses and blocks are of the Ir's family.
//! 3. Endpoints are sorted as kube-proxy sorts them, by the text `ip:port`, and no two of
//!    one Service have the same address.
//! 4. No two Services answer at the same address, protocol and port, nor at the same node
//!    port and protocol.
//! 5. The masquerade bit is between 0 and 31.
//!
//! Invariant: the only way to make an Ir is [`Ir::new`], and the only one to change it is a
//! [`ServiceMap`](crate::ServiceMap), which says the same as making it anew.

use crate::{Affinity, Family, Frontend, Node, Port, Protocol, Service, ServiceName};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

/// All Services of one family for one node, checked. See the module's list of invariants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ir {
    family: Family,
    node: Node,
    pub(crate) services: Vec<Service>,
    /// Sorted by name, protocol and frontend.
    pub(crate) shadowed: Vec<Shadowed>,
}

/// Where a Service answers, as the key under which a packet finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FrontendKey {
    /// An address and a port.
    Address(IpAddr, Protocol, Port),
    /// A node port.
    NodePort(Protocol, Port),
}

/// An external or load balancer address that another Service already answers at. It was
/// left out; kube-proxy lets the order of its Service map decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shadowed {
    /// The Service that lost the address.
    pub service: ServiceName,
    /// What it would have been: an external or a load balancer address.
    pub frontend: Frontend,
    /// The address, protocol and port in question.
    pub key: FrontendKey,
    /// The Service that answers there; it may be the same one.
    pub by: ServiceName,
}

/// Why Services cannot be an Ir.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Two Services have the same name and protocol.
    #[error("{service} ({protocol}) is defined twice")]
    Duplicate {
        /// Its name.
        service: ServiceName,
        /// Its protocol.
        protocol: Protocol,
    },
    /// An address is of the other family.
    #[error("{service}: {address} is not an {family} address")]
    WrongFamily {
        /// The Service with the address.
        service: ServiceName,
        /// The address.
        address: IpAddr,
        /// The family it should have.
        family: Family,
    },
    /// Two Services claim one cluster IP and port, or one node port.
    #[error("{service}: {} is already taken by {by}", describe(.key))]
    Conflict {
        /// The later Service.
        service: ServiceName,
        /// What both claim.
        key: FrontendKey,
        /// The earlier Service.
        by: ServiceName,
    },
    /// The masquerade bit is not a bit of a 32-bit mark.
    #[error("masquerade bit {bit} is not between 0 and 31")]
    MasqueradeBit {
        /// The bit given.
        bit: u8,
    },
}

impl FrontendKey {
    /// The key of a frontend of a Service with this protocol and port.
    pub(crate) fn of(frontend: Frontend, protocol: Protocol, port: Port) -> Self {
        match frontend {
            Frontend::ClusterIp(ip) | Frontend::ExternalIp(ip) | Frontend::LoadBalancerIp(ip) => {
                Self::Address(ip, protocol, port)
            }
            Frontend::NodePort(port) => Self::NodePort(protocol, port),
        }
    }

    /// The protocol that all who claim it have.
    pub(crate) fn protocol(&self) -> Protocol {
        match self {
            Self::Address(_, protocol, _) | Self::NodePort(protocol, _) => *protocol,
        }
    }
}

fn describe(key: &FrontendKey) -> String {
    match key {
        FrontendKey::Address(IpAddr::V6(ip), protocol, port) => format!("[{ip}]:{port}/{protocol}"),
        FrontendKey::Address(ip, protocol, port) => format!("{ip}:{port}/{protocol}"),
        FrontendKey::NodePort(protocol, port) => format!("node port {port}/{protocol}"),
    }
}

impl std::fmt::Display for Shadowed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { service, key, by, .. } = self;
        write!(f, "{service}: {} already belongs to {by}, left out here", describe(key))
    }
}

impl Ir {
    /// Sorts and checks `services`.
    ///
    /// # Errors
    ///
    /// Every flaw found, in the order of the Services.
    pub fn new(family: Family, node: Node, services: Vec<Service>) -> Result<Self, Vec<Flaw>> {
        let mut services = services;
        services.sort_by(|a, b| (&a.name, a.protocol).cmp(&(&b.name, b.protocol)));
        for service in &mut services {
            sort_endpoints(service);
        }
        let mut flaws = flaws_of_each(family, &node, &services);
        let mut claims = Claims::default();
        claims.take_exclusive(&services, &mut flaws);
        let shadowed = claims.take_shared(&mut services);
        if flaws.is_empty() { Ok(Self { family, node, services, shadowed }) } else { Err(flaws) }
    }

    /// An Ir without Services, on a node of which nothing is known.
    #[must_use]
    pub fn empty(family: Family) -> Self {
        Self { family, node: Node::default(), services: Vec::new(), shadowed: Vec::new() }
    }

    /// The family of every address in here.
    #[must_use]
    pub fn family(&self) -> Family {
        self.family
    }

    /// The node that the Services are compiled for.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The Services, sorted by name and protocol.
    #[must_use]
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// The addresses that were left out because another Service answers there.
    #[must_use]
    pub fn shadowed(&self) -> &[Shadowed] {
        &self.shadowed
    }

    /// All timeouts of session affinity in use, without repetition, in seconds.
    #[must_use]
    pub fn affinities(&self) -> std::collections::BTreeSet<Affinity> {
        self.services.iter().filter_map(|s| s.affinity).collect()
    }
}

/// kube-proxy sorts endpoints by the text "ip:port", so that 10.0.0.10:80 comes before
/// 10.0.0.1:80, and keeps one of those that are equal, a local one first.
pub(crate) fn sort_endpoints(service: &mut Service) {
    service.endpoints.sort_by_cached_key(|e| (AddressText::of(e.address), !e.local));
    service.endpoints.dedup_by(|later, kept| later.address == kept.address);
}

/// The text of an address, compared as such. It is held in place, because an input has
/// hundreds of thousands of them.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct AddressText {
    /// Zeros behind its end, which are less than any letter.
    text: [u8; Self::MAX],
    length: usize,
}

impl AddressText {
    /// `[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255%4294967295]:65535` fits.
    const MAX: usize = 64;

    fn of(address: SocketAddr) -> Self {
        let mut text = Self { text: [0; Self::MAX], length: 0 };
        let written = write!(text, "{address}");
        debug_assert!(written.is_ok(), "{address} is longer than any address");
        text
    }
}

impl std::fmt::Write for AddressText {
    fn write_str(&mut self, part: &str) -> std::fmt::Result {
        let end = self.length + part.len();
        let room = self.text.get_mut(self.length..end).ok_or(std::fmt::Error)?;
        room.copy_from_slice(part.as_bytes());
        self.length = end;
        Ok(())
    }
}

fn flaws_of_each(family: Family, node: &Node, services: &[Service]) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    if node.masquerade_bit > 31 {
        flaws.push(Flaw::MasqueradeBit { bit: node.masquerade_bit });
    }
    for pair in services.windows(2) {
        if (&pair[0].name, pair[0].protocol) == (&pair[1].name, pair[1].protocol) {
            let service = pair[1].name.clone();
            flaws.push(Flaw::Duplicate { service, protocol: pair[1].protocol });
        }
    }
    flaws.extend(services.iter().flat_map(|service| strangers(family, service)));
    flaws
}

/// The addresses of `service` that are of the other family.
pub(crate) fn strangers(family: Family, service: &Service) -> impl Iterator<Item = Flaw> + '_ {
    let strangers = addresses(service).filter(move |a| Family::of(*a) != family);
    strangers.map(move |address| Flaw::WrongFamily {
        service: service.name.clone(),
        address,
        family,
    })
}

fn addresses(service: &Service) -> impl Iterator<Item = IpAddr> + '_ {
    std::iter::once(service.cluster_ip)
        .chain(service.external_ips.iter().copied())
        .chain(service.load_balancer_ips.iter().copied())
        .chain(service.source_ranges.iter().map(ipnet::IpNet::addr))
        .chain(service.endpoints.iter().map(|e| e.address.ip()))
}

/// Whether users write this address, so that two Services may have the same. Cluster IPs and
/// node ports are handed out once by Kubernetes.
pub(crate) fn is_shared(frontend: Frontend) -> bool {
    match frontend {
        Frontend::ClusterIp(_) | Frontend::NodePort(_) => false,
        Frontend::ExternalIp(_) | Frontend::LoadBalancerIp(_) => true,
    }
}

/// Takes from `service` the addresses that users wrote and `keep` refuses; asks for external
/// ones first.
pub(crate) fn retain_shared(
    service: &mut Service,
    mut keep: impl FnMut(Frontend, FrontendKey) -> bool,
) {
    let Service { protocol, port, external_ips, load_balancer_ips, .. } = service;
    let mut keep = |frontend| keep(frontend, FrontendKey::of(frontend, *protocol, *port));
    external_ips.retain(|ip| keep(Frontend::ExternalIp(*ip)));
    load_balancer_ips.retain(|ip| keep(Frontend::LoadBalancerIp(*ip)));
}

/// Who answers where: the index of the Service by what it claims.
#[derive(Default)]
struct Claims(BTreeMap<FrontendKey, usize>);

impl Claims {
    /// Cluster IPs and node ports: a second claim is a flaw.
    fn take_exclusive(&mut self, services: &[Service], flaws: &mut Vec<Flaw>) {
        for (index, service) in services.iter().enumerate() {
            for frontend in service.frontends().filter(|f| !is_shared(*f)) {
                let key = FrontendKey::of(frontend, service.protocol, service.port);
                if let Some(by) = self.take(key, index) {
                    let (service, by) = (service.name.clone(), services[by].name.clone());
                    flaws.push(Flaw::Conflict { service, key, by });
                }
            }
        }
    }

    /// External and load balancer addresses: the first one keeps it.
    fn take_shared(&mut self, services: &mut [Service]) -> Vec<Shadowed> {
        let mut lost = Vec::new();
        for (index, service) in services.iter_mut().enumerate() {
            retain_shared(service, |frontend, key| {
                let taken = self.take(key, index);
                lost.extend(taken.map(|by| (index, frontend, key, by)));
                taken.is_none()
            });
        }
        let name = |index: usize| services[index].name.clone();
        let told = |(index, frontend, key, by)| Shadowed {
            service: name(index),
            frontend,
            key,
            by: name(by),
        };
        lost.into_iter().map(told).collect()
    }

    /// Claims `key` for a Service; returns which had it before, if any.
    fn take(&mut self, key: FrontendKey, index: usize) -> Option<usize> {
        match self.0.entry(key) {
            Entry::Occupied(by) => Some(*by.get()),
            Entry::Vacant(free) => {
                free.insert(index);
                None
            }
        }
    }
}
