//! The node for which Services are compiled, and its proxy settings.
//!
//! The settings are those of `KubeProxyConfiguration` that change what happens to a
//! packet, reduced to one address family.
//!
//! Invariant: settings as they were given; what a mode makes of them is decided in
//! [`eval`](crate::eval) and by the lowerings.

use crate::{Endpoint, Family, IpvsScheduler, ProxyMode};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// A block of addresses as the user wrote it.
pub type AddrBlock = IpNet;

/// How traffic from the node's own pods is told apart (`detectLocalMode`).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum LocalDetector {
    /// Nothing is known: no masquerading of strangers, no short circuit for pods.
    #[default]
    None,
    /// `ClusterCIDR` and `NodeCIDR`: the source address is in this block.
    SourceBlock(AddrBlock),
    /// `BridgeInterface`: the packet came in through this interface.
    Bridge(String),
    /// `InterfaceNamePrefix`: the packet came in through an interface so named.
    InterfacePrefix(String),
}

/// Which addresses of the node answer on node ports (`nodePortAddresses`).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum NodePortAddresses {
    /// Not set: the mode's own default.
    #[default]
    ModeDefault,
    /// `primary`: the node's primary address of the family.
    Primary,
    /// The node's addresses inside these blocks, which all are of the Ir's family and at
    /// least one. When only blocks of the other family are given, kube-proxy falls back to
    /// all local addresses: then this is the block that holds everything.
    Blocks(Vec<AddrBlock>),
}

/// The node and its settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Name of the node, as EndpointSlices spell it in `nodeName`; empty when not known.
    pub name: String,
    /// Value of the label `topology.kubernetes.io/zone`.
    pub zone: Option<String>,
    /// Addresses of the node in the Ir's family, the primary one first. Loopback addresses
    /// may be among them. Empty when not known.
    pub addresses: Vec<IpAddr>,
    /// How local pods are told apart.
    pub local_detector: LocalDetector,
    /// Masquerade everything sent to a cluster IP (`masqueradeAll`).
    pub masquerade_all: bool,
    /// The bit of the packet mark that asks for masquerading (`masqueradeBit`, 0 to 31).
    pub masquerade_bit: u8,
    /// Which addresses answer on node ports.
    pub node_port_addresses: NodePortAddresses,
    /// Whether node ports answer on 127.0.0.0/8 (`localhostNodePorts`; iptables, IPv4).
    pub localhost_node_ports: bool,
    /// The blocks that cluster IPs are taken from, when known (ServiceCIDR objects).
    pub service_blocks: BTreeSet<AddrBlock>,
    /// Whether conntrack tolerates out-of-window TCP
    /// (`net.netfilter.nf_conntrack_tcp_be_liberal`), which makes the rule against INVALID
    /// packets unnecessary.
    pub conntrack_liberal: bool,
    /// How real servers are picked in IPVS mode for Services that ask for nothing else
    /// (`ipvs.scheduler`).
    pub ipvs_scheduler: IpvsScheduler,
}

impl Default for Node {
    /// A node of which nothing is known, with kube-proxy's default settings.
    fn default() -> Self {
        Self {
            name: String::new(),
            zone: None,
            addresses: Vec::new(),
            local_detector: LocalDetector::None,
            masquerade_all: false,
            masquerade_bit: 14,
            node_port_addresses: NodePortAddresses::ModeDefault,
            localhost_node_ports: true,
            service_blocks: BTreeSet::new(),
            conntrack_liberal: false,
            ipvs_scheduler: IpvsScheduler::default(),
        }
    }
}

/// Which destination addresses a mode's node ports answer on, with every default resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodePortMatch {
    /// Every address the kernel calls local, loopback included or not.
    AllLocal {
        /// Whether loopback addresses answer too.
        loopback: bool,
    },
    /// Exactly these addresses, in the order of [`Node::addresses`].
    Exactly(Vec<IpAddr>),
}

impl Node {
    /// The mark bit as a mask, `1 << masquerade_bit`.
    #[must_use]
    pub fn masquerade_mask(&self) -> u32 {
        1 << self.masquerade_bit
    }

    /// The node's primary address: the first that is not loopback.
    #[must_use]
    pub fn primary_address(&self) -> Option<IpAddr> {
        self.addresses.iter().find(|a| !a.is_loopback()).copied()
    }

    /// Whether `address` is one of the node's own; every loopback address is.
    #[must_use]
    pub fn owns(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.addresses.contains(&address)
    }

    /// Whether `endpoint` is masqueraded in `mode` when it reaches itself through a Service:
    /// it would answer itself directly otherwise. Where the node's name is not known, no
    /// endpoint can be told to be elsewhere.
    #[must_use]
    pub fn masquerades_hairpin(&self, mode: ProxyMode, endpoint: &Endpoint) -> bool {
        endpoint.local || self.name.is_empty() || mode.masquerades_hairpins_elsewhere()
    }

    /// On which addresses node ports answer in `mode`.
    ///
    /// In nftables mode without a known node address all local addresses but loopback
    /// answer: the primary address that the mode would use is not known.
    #[must_use]
    pub fn node_port_match(&self, mode: ProxyMode, family: Family) -> NodePortMatch {
        let loopback = self.serves_localhost(mode, family);
        match &self.node_port_addresses {
            NodePortAddresses::ModeDefault if mode.node_ports_on_primary_only() => {
                match self.primary_address() {
                    Some(primary) => NodePortMatch::Exactly(vec![primary]),
                    None => NodePortMatch::AllLocal { loopback },
                }
            }
            NodePortAddresses::ModeDefault => NodePortMatch::AllLocal { loopback },
            NodePortAddresses::Primary => {
                NodePortMatch::Exactly(self.primary_address().into_iter().collect())
            }
            NodePortAddresses::Blocks(blocks) if blocks.iter().any(|b| b.prefix_len() == 0) => {
                NodePortMatch::AllLocal { loopback }
            }
            NodePortAddresses::Blocks(blocks) => {
                let inside = |a: &&IpAddr| blocks.iter().any(|b| b.contains(*a));
                let served = |a: &&IpAddr| loopback || !a.is_loopback();
                NodePortMatch::Exactly(
                    self.addresses.iter().filter(inside).filter(served).copied().collect(),
                )
            }
        }
    }

    /// Whether node ports answer on loopback addresses in `mode`: never for IPv6, and not
    /// when `nodePortAddresses` leaves the loopback block out.
    #[must_use]
    pub fn serves_localhost(&self, mode: ProxyMode, family: Family) -> bool {
        let named = match &self.node_port_addresses {
            NodePortAddresses::ModeDefault => true,
            NodePortAddresses::Primary => false,
            NodePortAddresses::Blocks(blocks) => {
                blocks.iter().any(|b| b.prefix_len() == 0 || b.addr().is_loopback())
            }
        };
        self.localhost_node_ports && named && mode.can_serve_localhost() && family == Family::Ipv4
    }
}
