//! kube-proxy's settings that change what happens to a packet, as plain values.
//!
//! They come in three layers: kube-proxy's defaults, a configuration file
//! ([`read_settings`](crate::read_settings)), and [`Overrides`] from a command line.
//! Names and defaults are those of `kubeproxy.config.k8s.io/v1alpha1`
//! (`k8s.io/kube-proxy/config/v1alpha1/types.go`).
//!
//! Invariant: values only. Which file they came from is of no concern here, and what they
//! mean for one family is decided in [`node`](crate::node).

use crate::address::{AddressError, parse_block};
use ipnet::IpNet;
use nfc_ir::{Family, IpvsScheduler, ProxyMode};
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Everything about the node and the proxy that is not in Kubernetes objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The mode to compile for; it decides which section's masquerade settings count.
    pub mode: ProxyMode,
    /// The families to read. Empty: those that Services use.
    pub families: BTreeSet<Family>,
    /// Name of the own node (`hostnameOverride`); empty when not known.
    pub hostname: String,
    /// The node's addresses, the primary one of each family first. When empty, those of
    /// the Node object count.
    pub node_ips: Vec<IpAddr>,
    /// The node's zone. When `None`, the label of the Node object counts.
    pub zone: Option<String>,
    /// How local pods are told apart.
    pub detect_local: DetectLocal,
    /// The blocks of pod addresses (`clusterCIDR`), for [`DetectLocal::ClusterCidr`].
    pub cluster_cidrs: Vec<IpNet>,
    /// The bridge, for [`DetectLocal::BridgeInterface`].
    pub bridge_interface: String,
    /// The prefix, for [`DetectLocal::InterfaceNamePrefix`].
    pub interface_name_prefix: String,
    /// Which addresses answer on node ports; empty: the mode's default.
    pub node_port_addresses: Vec<NodePortAddress>,
    /// Masquerading in iptables and IPVS mode (section `iptables`).
    pub iptables: Masquerade,
    /// Masquerading in nftables mode (section `nftables`).
    pub nftables: Masquerade,
    /// Whether node ports answer on 127.0.0.0/8 (`iptables.localhostNodePorts`).
    pub localhost_node_ports: bool,
    /// Whether conntrack tolerates out-of-window TCP (`conntrack.tcpBeLiberal`).
    pub conntrack_liberal: bool,
    /// Blocks of cluster IPs beside those of ServiceCIDR objects.
    pub service_cidrs: Vec<IpNet>,
    /// What concerns IPVS mode only.
    pub ipvs: Ipvs,
}

/// How traffic is marked for masquerading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Masquerade {
    /// Masquerade everything sent to a cluster IP.
    pub all: bool,
    /// The bit of the packet mark, 0 to 31.
    pub bit: u8,
}

/// `detectLocalMode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum DetectLocal {
    /// Source addresses in `clusterCIDR`.
    #[default]
    ClusterCidr,
    /// Source addresses in the pod blocks of the Node object.
    NodeCidr,
    /// Packets from one bridge.
    BridgeInterface,
    /// Packets from interfaces with a common prefix.
    InterfaceNamePrefix,
}

/// One entry of `nodePortAddresses`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodePortAddress {
    /// `primary`: the node's primary address of each family.
    Primary,
    /// `localhost`: 127.0.0.0/8 and `::1/128`.
    Localhost,
    /// `all`: every local address.
    All,
    /// The local addresses in this block.
    Block(IpNet),
}

/// What concerns IPVS mode only (section `ipvs`).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Ipvs {
    /// How real servers are picked.
    pub scheduler: IpvsScheduler,
    /// Whether to answer ARP for no address of the dummy link.
    pub strict_arp: bool,
    /// Virtual servers in these blocks are not to be touched.
    pub exclude_cidrs: Vec<IpNet>,
    /// Idle timeout of TCP sessions in seconds; 0 leaves the kernel's.
    pub tcp_timeout_seconds: u32,
    /// Timeout of TCP sessions after a FIN in seconds; 0 leaves the kernel's.
    pub tcp_fin_timeout_seconds: u32,
    /// Timeout of UDP packets in seconds; 0 leaves the kernel's.
    pub udp_timeout_seconds: u32,
}

/// Settings of a command line, under the names of kube-proxy's flags. `None` leaves what
/// the layers below say.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Overrides {
    /// `--proxy-mode`.
    pub mode: Option<ProxyMode>,
    /// The families to read.
    pub families: Option<BTreeSet<Family>>,
    /// `--hostname-override`.
    pub hostname: Option<String>,
    /// The node's addresses, for inputs without the Node object.
    pub node_ips: Option<Vec<IpAddr>>,
    /// The node's zone, for inputs without the Node object.
    pub zone: Option<String>,
    /// `--detect-local-mode`.
    pub detect_local: Option<DetectLocal>,
    /// `--cluster-cidr`, split at commas.
    pub cluster_cidrs: Option<Vec<IpNet>>,
    /// `--pod-bridge-interface`.
    pub bridge_interface: Option<String>,
    /// `--pod-interface-name-prefix`.
    pub interface_name_prefix: Option<String>,
    /// `--nodeport-addresses`, split at commas.
    pub node_port_addresses: Option<Vec<NodePortAddress>>,
    /// `--masquerade-all`, for all modes.
    pub masquerade_all: Option<bool>,
    /// `--iptables-masquerade-bit`, for all modes.
    pub masquerade_bit: Option<u8>,
    /// `--iptables-localhost-nodeports`.
    pub localhost_node_ports: Option<bool>,
    /// Blocks of cluster IPs, for inputs without ServiceCIDR objects.
    pub service_cidrs: Option<Vec<IpNet>>,
    /// `--ipvs-scheduler`.
    pub ipvs_scheduler: Option<IpvsScheduler>,
}

/// Why a word of a command line is not a setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// Not one of the words that the setting knows.
    #[error("`{text}` is not a {setting}; expected one of {expected}")]
    Word {
        /// What was written.
        text: String,
        /// What it should have been.
        setting: &'static str,
        /// The words there are.
        expected: &'static str,
    },
    /// Neither a keyword nor a block.
    #[error("{source}, or one of the words primary, localhost, all")]
    NodePortAddress {
        /// Why it is not a block.
        source: AddressError,
    },
}

impl Default for Masquerade {
    fn default() -> Self {
        Self { all: false, bit: 14 }
    }
}

impl Default for Settings {
    /// kube-proxy's defaults, on a node of which nothing is known.
    fn default() -> Self {
        Self {
            mode: ProxyMode::Iptables,
            families: BTreeSet::new(),
            hostname: String::new(),
            node_ips: Vec::new(),
            zone: None,
            detect_local: DetectLocal::default(),
            cluster_cidrs: Vec::new(),
            bridge_interface: String::new(),
            interface_name_prefix: String::new(),
            node_port_addresses: Vec::new(),
            iptables: Masquerade::default(),
            nftables: Masquerade::default(),
            localhost_node_ports: true,
            conntrack_liberal: false,
            service_cidrs: Vec::new(),
            ipvs: Ipvs::default(),
        }
    }
}

impl Settings {
    /// These settings with those of `overrides` that are there.
    #[must_use]
    pub fn overridden(self, overrides: &Overrides) -> Self {
        let over = overrides.clone();
        let mut settings = self;
        set(&mut settings.mode, over.mode);
        set(&mut settings.families, over.families);
        set(&mut settings.hostname, over.hostname);
        set(&mut settings.node_ips, over.node_ips);
        set(&mut settings.zone, over.zone.map(Some));
        set(&mut settings.detect_local, over.detect_local);
        set(&mut settings.cluster_cidrs, over.cluster_cidrs);
        set(&mut settings.bridge_interface, over.bridge_interface);
        set(&mut settings.interface_name_prefix, over.interface_name_prefix);
        set(&mut settings.node_port_addresses, over.node_port_addresses);
        for masquerade in [&mut settings.iptables, &mut settings.nftables] {
            set(&mut masquerade.all, over.masquerade_all);
            set(&mut masquerade.bit, over.masquerade_bit);
        }
        set(&mut settings.localhost_node_ports, over.localhost_node_ports);
        set(&mut settings.service_cidrs, over.service_cidrs);
        set(&mut settings.ipvs.scheduler, over.ipvs_scheduler);
        settings
    }

    /// These settings for a backend that keeps the promises of `mode`.
    #[must_use]
    pub fn for_mode(self, mode: ProxyMode) -> Self {
        Self { mode, ..self }
    }

    /// How the settings' mode masquerades: IPVS mode reads the section `iptables` too.
    #[must_use]
    pub fn masquerade(&self) -> Masquerade {
        match self.mode {
            ProxyMode::Iptables | ProxyMode::Ipvs => self.iptables,
            ProxyMode::Nftables => self.nftables,
        }
    }

    /// The name of the own node, in the form that Kubernetes gives it: kube-proxy too cuts
    /// blanks off and uses small letters (`GetHostname`).
    pub(crate) fn node_name(&self) -> String {
        self.hostname.trim().to_lowercase()
    }
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

impl DetectLocal {
    /// All ways, in the order of the enum.
    pub const ALL: [Self; 4] =
        [Self::ClusterCidr, Self::NodeCidr, Self::BridgeInterface, Self::InterfaceNamePrefix];

    /// The name that kube-proxy uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ClusterCidr => "ClusterCIDR",
            Self::NodeCidr => "NodeCIDR",
            Self::BridgeInterface => "BridgeInterface",
            Self::InterfaceNamePrefix => "InterfaceNamePrefix",
        }
    }
}

impl fmt::Display for DetectLocal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DetectLocal {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        let named = Self::ALL.into_iter().find(|m| m.name() == text);
        named.ok_or_else(|| SettingError::Word {
            text: text.to_owned(),
            setting: "detect-local mode",
            expected: "ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix",
        })
    }
}

impl fmt::Display for NodePortAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Primary => f.write_str("primary"),
            Self::Localhost => f.write_str("localhost"),
            Self::All => f.write_str("all"),
            Self::Block(block) => write!(f, "{block}"),
        }
    }
}

impl FromStr for NodePortAddress {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        match text.trim() {
            "primary" => Ok(Self::Primary),
            "localhost" => Ok(Self::Localhost),
            "all" => Ok(Self::All),
            block => parse_block(block)
                .map(Self::Block)
                .map_err(|source| SettingError::NodePortAddress { source }),
        }
    }
}
