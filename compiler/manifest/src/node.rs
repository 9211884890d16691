//! Node and ServiceCIDR objects, and what they and the settings say about the node that
//! is compiled for.
//!
//! Invariant: resolves settings for one family; what a mode makes of them is not decided
//! here.

use crate::diagnostic::Finding;
use crate::meta::Meta;
use crate::place::{At, Span};
use crate::reader::Reader;
use crate::settings::{DetectLocal, NodePortAddress, Settings};
use crate::tree::Tree;
use crate::warning::{NodeProblem, Warning};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use nfc_ir::{Family, LocalDetector, Node, NodePortAddresses};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A Node object.
#[derive(Clone, Debug)]
pub(crate) struct NodeObject {
    pub(crate) name: String,
    /// The internal addresses in their order, then the external ones, as kube-proxy takes
    /// them (`pkg/util/node`, `GetNodeHostIPs`).
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) zone: Option<String>,
    pub(crate) pod_cidrs: Vec<IpNet>,
}

const LOOPBACK_IPV4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
const LOOPBACK_IPV6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128);

const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// Reads the Node at `tree`.
pub(crate) fn read(reader: &mut Reader<'_>, tree: &Tree<'_>) -> Option<NodeObject> {
    let object = reader.fields(tree)?;
    let meta = Meta::read(reader, &object, "Node")?;
    let zone = meta.label(reader, ZONE_LABEL);
    let spec = object.fields(reader, "spec");
    let mut pod_cidrs: Vec<IpNet> = Vec::new();
    if let Some(spec) = spec {
        let listed = spec.list(reader, "podCIDRs").iter();
        pod_cidrs.extend(listed.filter_map(|item| reader.block(item)).map(|b| b.value));
        if pod_cidrs.is_empty() {
            let single = spec.get("podCIDR").filter(|cidr| !cidr.is_text(""));
            pod_cidrs.extend(single.and_then(|cidr| reader.block(cidr)).map(|b| b.value));
        }
    }
    let status = object.fields(reader, "status");
    let items = status.map(|s| s.list(reader, "addresses"));
    let (mut addresses, mut external) = (Vec::new(), Vec::new());
    for item in items.unwrap_or_default() {
        match address(reader, item) {
            Some((true, address)) => addresses.push(address.value),
            Some((false, address)) => external.push(address.value),
            None => {}
        }
    }
    addresses.extend(external);
    Some(NodeObject {
        name: meta.name.name,
        addresses,
        zone: zone.map(|z| z.value.to_owned()),
        pod_cidrs,
    })
}

/// An address of the node, and whether it is an internal one. Host names are not wanted.
fn address(reader: &mut Reader<'_>, tree: &Tree<'_>) -> Option<(bool, At<IpAddr>)> {
    let fields = reader.fields(tree)?;
    let internal = match fields.optional_text(reader, "type")?.value {
        "InternalIP" => true,
        "ExternalIP" => false,
        _ => return None,
    };
    Some((internal, reader.address(fields.get("address")?)?))
}

/// Reads the blocks of the ServiceCIDR at `tree`.
pub(crate) fn read_service_cidr(reader: &mut Reader<'_>, tree: &Tree<'_>) -> Vec<IpNet> {
    let Some(object) = reader.fields(tree) else {
        return Vec::new();
    };
    let Some(spec) = object.fields(reader, "spec") else {
        return Vec::new();
    };
    let items = spec.list(reader, "cidrs").iter();
    items.filter_map(|item| reader.block(item)).map(|block| block.value).collect()
}

/// The node that is compiled for: the one named in the settings, or the only one there is.
pub(crate) fn own<'n>(
    reader: &mut Reader<'_>,
    settings: &Settings,
    nodes: &'n [NodeObject],
) -> Option<&'n NodeObject> {
    let name = settings.node_name();
    if name.is_empty() {
        let [node] = nodes else { return None };
        reader.warn(Warning::Node(NodeProblem::Assumed { name: node.name.clone() }));
        return Some(node);
    }
    let named = nodes.iter().find(|node| node.name == name);
    if named.is_none() && !nodes.is_empty() {
        reader.warn(Warning::Node(NodeProblem::Missing {
            name,
            known: nodes.iter().map(|node| node.name.clone()).collect(),
        }));
    }
    named
}

/// Interface names have at most 15 bytes (`IFNAMSIZ` in `linux/if.h`, with the final zero).
const INTERFACE_NAME_MAX: usize = 15;

/// Says what in `settings` cannot be, whatever the input.
pub(crate) fn check(reader: &mut Reader<'_>, settings: &Settings) {
    let (name, flag) = match settings.detect_local {
        DetectLocal::BridgeInterface => (&settings.bridge_interface, "--pod-bridge-interface"),
        DetectLocal::InterfaceNamePrefix => {
            (&settings.interface_name_prefix, "--pod-interface-name-prefix")
        }
        DetectLocal::ClusterCidr | DetectLocal::NodeCidr => return,
    };
    if name.is_empty() || name.len() > INTERFACE_NAME_MAX {
        let mode = settings.detect_local;
        let title = format!("detect-local mode {mode} cannot use the interface `{name}`");
        let label = format!("expected a name of 1 to {INTERFACE_NAME_MAX} letters");
        reader.find(Finding::new(Span::NOWHERE, title, label).help(format!("give it with {flag}")));
    }
}

/// What is known about the own node in `family`.
pub(crate) fn resolve(
    reader: &mut Reader<'_>,
    settings: &Settings,
    own: Option<&NodeObject>,
    service_cidrs: &[IpNet],
    family: Family,
) -> Node {
    let given = || own.map(|node| node.addresses.as_slice()).unwrap_or_default();
    let addresses = if settings.node_ips.is_empty() { given() } else { &settings.node_ips };
    let masquerade = settings.masquerade();
    let mut node = Node {
        name: own.map_or_else(|| settings.node_name(), |node| node.name.clone()),
        zone: settings.zone.clone().or_else(|| own.and_then(|node| node.zone.clone())),
        addresses: Vec::new(),
        local_detector: detector(reader, settings, own, family),
        masquerade_all: masquerade.all,
        masquerade_bit: masquerade.bit,
        node_port_addresses: NodePortAddresses::ModeDefault,
        localhost_node_ports: settings.localhost_node_ports,
        service_blocks: of_family(&settings.service_cidrs, family)
            .chain(of_family(service_cidrs, family))
            .collect(),
        conntrack_liberal: settings.conntrack_liberal,
        ipvs_scheduler: settings.ipvs.scheduler,
    };
    for address in addresses.iter().filter(|a| Family::of(**a) == family) {
        if !node.addresses.contains(address) {
            node.addresses.push(*address);
        }
    }
    node.node_port_addresses = node_port_addresses(reader, settings, &node, family);
    node
}

fn of_family(blocks: &[IpNet], family: Family) -> impl Iterator<Item = IpNet> + '_ {
    let same = move |block: &IpNet| Family::of(block.addr()) == family;
    blocks.iter().copied().filter(same)
}

/// How local pods are told apart in `family`. Of several blocks kube-proxy takes the first.
fn detector(
    reader: &mut Reader<'_>,
    settings: &Settings,
    own: Option<&NodeObject>,
    family: Family,
) -> LocalDetector {
    let (blocks, missing) = match settings.detect_local {
        DetectLocal::BridgeInterface => {
            return LocalDetector::Bridge(settings.bridge_interface.clone());
        }
        DetectLocal::InterfaceNamePrefix => {
            return LocalDetector::InterfacePrefix(settings.interface_name_prefix.clone());
        }
        DetectLocal::ClusterCidr => (settings.cluster_cidrs.as_slice(), "--cluster-cidr"),
        DetectLocal::NodeCidr => (
            own.map(|node| node.pod_cidrs.as_slice()).unwrap_or_default(),
            "the Node object's spec.podCIDRs",
        ),
    };
    let block = of_family(blocks, family).next();
    // Without any block nothing was asked for, which is kube-proxy's default.
    let asked = !blocks.is_empty() || settings.detect_local == DetectLocal::NodeCidr;
    if block.is_none() && asked {
        reader.warn(Warning::Node(NodeProblem::PodBlockUnknown { family, missing }));
    }
    block.map_or(LocalDetector::None, LocalDetector::SourceBlock)
}

/// The entries of `nodePortAddresses` for `family`. When all are of the other family,
/// kube-proxy falls back to every address (`pkg/proxy/util/nodeport_addresses.go`).
fn node_port_addresses(
    reader: &mut Reader<'_>,
    settings: &Settings,
    node: &Node,
    family: Family,
) -> NodePortAddresses {
    let entries = settings.node_port_addresses.as_slice();
    if entries.is_empty() {
        return NodePortAddresses::ModeDefault;
    }
    if entries.iter().all(|e| *e == NodePortAddress::Primary) {
        return NodePortAddresses::Primary;
    }
    let blocks: Vec<_> = entries
        .iter()
        .filter_map(|entry| match entry {
            NodePortAddress::All => Some(everything(family)),
            NodePortAddress::Localhost => Some(loopback(family)),
            NodePortAddress::Primary => node.primary_address().map(IpNet::from),
            NodePortAddress::Block(block) => Some(*block),
        })
        .filter(|block| Family::of(block.addr()) == family)
        .collect();
    if blocks.is_empty() {
        reader.warn(Warning::Node(NodeProblem::NodePortFamily { family }));
        return NodePortAddresses::Blocks(vec![everything(family)]);
    }
    NodePortAddresses::Blocks(blocks)
}

fn everything(family: Family) -> IpNet {
    match family {
        Family::Ipv4 => IpNet::V4(Ipv4Net::default()),
        Family::Ipv6 => IpNet::V6(Ipv6Net::default()),
    }
}

fn loopback(family: Family) -> IpNet {
    match family {
        Family::Ipv4 => IpNet::V4(LOOPBACK_IPV4),
        Family::Ipv6 => IpNet::V6(LOOPBACK_IPV6),
    }
}
