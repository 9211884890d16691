//! A Service as plain data.
//!
//! One [`Service`] is one *service port* of one address family, kube-proxy's unit of work:
//! a Kubernetes Service with three ports and two families is six of these.
//!
//! Invariant: public fields and no method that decides; meaning lives in
//! [`select`](crate::select) and [`eval`](crate::eval).

use crate::{Port, Protocol, ServiceName};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};

/// One service port in one address family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    /// Namespace, name and port name.
    pub name: ServiceName,
    /// Transport protocol.
    pub protocol: Protocol,
    /// The cluster IP.
    pub cluster_ip: IpAddr,
    /// The port at the cluster IP, the external IPs and the load balancer IPs.
    pub port: Port,
    /// The port at the node's addresses, if any.
    pub node_port: Option<Port>,
    /// `spec.externalIPs` of this family.
    pub external_ips: BTreeSet<IpAddr>,
    /// `status.loadBalancer.ingress[].ip` of this family whose `ipMode` is `VIP`.
    pub load_balancer_ips: BTreeSet<IpAddr>,
    /// `spec.loadBalancerSourceRanges` of this family. Empty: everybody may come in. They
    /// bind the load balancer IPs only.
    pub source_ranges: BTreeSet<IpNet>,
    /// Which endpoints the cluster IP uses.
    pub internal_policy: TrafficPolicy,
    /// Which endpoints the outside addresses use.
    pub external_policy: TrafficPolicy,
    /// `sessionAffinity: ClientIP`.
    pub affinity: Option<Affinity>,
    /// `healthCheckNodePort`, present only with `externalTrafficPolicy: Local`.
    pub health_check_port: Option<Port>,
    /// How endpoints are picked; [`Scheduler::Random`] is kube-proxy's way.
    pub scheduler: Scheduler,
    /// All endpoints, in kube-proxy's order: sorted by the text `ip:port`.
    pub endpoints: Vec<Endpoint>,
}

/// An address at which a Service answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Frontend {
    /// The cluster IP.
    ClusterIp(IpAddr),
    /// One of the external IPs.
    ExternalIp(IpAddr),
    /// One of the load balancer IPs.
    LoadBalancerIp(IpAddr),
    /// The node port, at whichever of the node's addresses.
    NodePort(Port),
}

/// `internalTrafficPolicy` and `externalTrafficPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum TrafficPolicy {
    /// Any endpoint of the cluster.
    #[default]
    Cluster,
    /// Only endpoints on the node that got the packet.
    Local,
}

/// Session affinity by client address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Affinity {
    /// How long a client that stays silent keeps its endpoint, in seconds.
    pub timeout_seconds: NonZeroU32,
}

/// How an endpoint is picked for a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Scheduler {
    /// At random, in proportion to the weights.
    #[default]
    Random,
    /// One after the other.
    RoundRobin,
    /// By a hash of the source address.
    SourceHash,
    /// By a hash of the connection into a table that changes little when endpoints do.
    Maglev,
}

impl Scheduler {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Random, Self::RoundRobin, Self::SourceHash, Self::Maglev];

    /// Its name in the annotation `nfc.dev/scheduler`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::RoundRobin => "round-robin",
            Self::SourceHash => "source-hash",
            Self::Maglev => "maglev",
        }
    }
}

/// One endpoint of a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Address and port to which connections are sent.
    pub address: SocketAddr,
    /// Share relative to the other endpoints; kube-proxy knows only 1.
    pub weight: NonZeroU16,
    /// Whether it runs on the node that the Ir is for.
    pub local: bool,
    /// Condition `ready`.
    pub ready: bool,
    /// Condition `serving`.
    pub serving: bool,
    /// Condition `terminating`.
    pub terminating: bool,
    /// Topology hints.
    pub hints: Hints,
}

/// Topology hints of an endpoint (`hints.forZones`, `hints.forNodes`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Hints {
    /// Zones that should use the endpoint.
    pub zones: BTreeSet<String>,
    /// Nodes that should use the endpoint.
    pub nodes: BTreeSet<String>,
}

impl Endpoint {
    /// A ready endpoint of weight 1 on another node, without hints.
    #[must_use]
    pub fn ready(address: SocketAddr) -> Self {
        Self {
            address,
            weight: NonZeroU16::MIN,
            local: false,
            ready: true,
            serving: true,
            terminating: false,
            hints: Hints::default(),
        }
    }
}

impl Service {
    /// The Service's frontends: cluster IP, external IPs, load balancer IPs, node port.
    pub fn frontends(&self) -> impl Iterator<Item = Frontend> + '_ {
        std::iter::once(Frontend::ClusterIp(self.cluster_ip))
            .chain(self.external_ips.iter().copied().map(Frontend::ExternalIp))
            .chain(self.load_balancer_ips.iter().copied().map(Frontend::LoadBalancerIp))
            .chain(self.node_port.map(Frontend::NodePort))
    }

    /// Whether the Service can be reached from outside the cluster.
    #[must_use]
    pub fn is_external(&self) -> bool {
        self.node_port.is_some()
            || !self.external_ips.is_empty()
            || !self.load_balancer_ips.is_empty()
    }
}
