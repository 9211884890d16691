//! What of the table does not depend on the Services: base chains, the chains that look up
//! in maps, and the maps themselves, empty.
//!
//! Invariant: sees the node and its settings, and no Service.

use super::Shape;
use super::script::{Script, Set};
use nfc_ir::node::NodePortMatch;
use nfc_ir::{Family, LocalDetector, Node, ProxyMode};

/// The base chains: name, and type, hook and priority (1.31 and later).
const BASE_CHAINS: [(&str, &str); 8] = [
    ("filter-prerouting-pre-dnat", "filter hook prerouting priority -110"),
    ("filter-output-pre-dnat", "filter hook output priority -110"),
    ("filter-input", "filter hook input priority 0"),
    ("filter-forward", "filter hook forward priority 0"),
    ("filter-output", "filter hook output priority 0"),
    ("nat-prerouting", "nat hook prerouting priority -100"),
    ("nat-output", "nat hook output priority -100"),
    ("nat-postrouting", "nat hook postrouting priority 100"),
];

/// Which base chain calls which chain of ours, in this order. Filters look at the first
/// packet of a connection only.
const JUMPS: [(&str, &str); 11] = [
    ("filter-prerouting-pre-dnat", "ct state new jump firewall-check"),
    ("filter-output-pre-dnat", "ct state new jump firewall-check"),
    ("filter-input", "ct state new jump nodeport-endpoints-check"),
    ("filter-input", "ct state new jump service-endpoints-check"),
    ("filter-forward", "ct state new jump service-endpoints-check"),
    ("filter-output", "ct state new jump service-endpoints-check"),
    ("filter-forward", "ct state new jump cluster-ips-check"),
    ("filter-output", "ct state new jump cluster-ips-check"),
    ("nat-output", "jump services"),
    ("nat-prerouting", "jump services"),
    ("nat-postrouting", "jump masquerading"),
];

/// The chains that base chains call, and those that those call.
const CHAINS: [&str; 7] = [
    "firewall-check",
    "nodeport-endpoints-check",
    "service-endpoints-check",
    "cluster-ips-check",
    "services",
    "masquerading",
    "reject-chain",
];

/// The chain that marks for masquerading, of shapes that jump to one.
const MARK: &str = "mark-for-masquerade";

/// The set of addresses that node ports answer at.
const NODEPORT_IPS: &str = "nodeport-ips";

/// What a match calls the family's addresses, and the type of a set of them.
pub(super) fn family_words(family: Family) -> (&'static str, &'static str) {
    match family {
        Family::Ipv4 => ("ip", "ipv4_addr"),
        Family::Ipv6 => ("ip6", "ipv6_addr"),
    }
}

/// The match, with a blank behind it, for packets to a cluster IP that are masqueraded
/// wherever they go; none when no packet is.
pub(super) fn strangers(node: &Node, family: Family) -> Option<String> {
    if node.masquerade_all {
        return Some(String::new());
    }
    let (ip, _) = family_words(family);
    match &node.local_detector {
        LocalDetector::None => None,
        LocalDetector::SourceBlock(block) => Some(format!("{ip} saddr != {block} ")),
        LocalDetector::Bridge(name) => Some(format!("iifname != \"{name}\" ")),
        LocalDetector::InterfacePrefix(prefix) => Some(format!("iifname != \"{prefix}*\" ")),
    }
}

/// The statement that marks a packet for masquerading.
pub(super) fn mark(shape: Shape, node: &Node) -> String {
    match shape {
        Shape::ChainPerEndpoint => format!("jump {MARK}"),
        Shape::MapPerService | Shape::SingleEndpointRule => mark_inline(node),
    }
}

fn mark_inline(node: &Node) -> String {
    format!("mark set mark or {:#010x}", node.masquerade_mask())
}

/// Writes the table without any Service.
pub(super) fn write(script: &mut Script, shape: Shape, node: &Node, family: Family) {
    script.new_table();
    for (name, hook) in BASE_CHAINS {
        script.base_chain(name, hook);
    }
    for name in CHAINS {
        script.chain(name);
    }
    for (chain, jump) in JUMPS {
        script.rule(chain, jump);
    }
    sets(script, shape, family);
    masquerading(script, shape, node, family);
    refusals(script, node, family);
    dispatch(script, shape, node, family);
}

fn sets(script: &mut Script, shape: Shape, family: Family) {
    let (_, address) = family_words(family);
    let at_address = format!("{address} . inet_proto . inet_service");
    let at_node = "inet_proto . inet_service";
    script.set(Set::ClusterIps.name(), address);
    for name in [Set::NoEndpointServices.name(), Set::ServiceIps.name(), "firewall-ips"] {
        script.verdict_map(name, &at_address);
    }
    for set in [Set::NoEndpointNodeports, Set::ServiceNodeports] {
        script.verdict_map(set.name(), at_node);
    }
    if shape.has_hairpin_set() {
        let key = format!("{address} . {at_address}");
        script.set(Set::HairpinConnections.name(), &key);
    }
}

fn masquerading(script: &mut Script, shape: Shape, node: &Node, family: Family) {
    let (ip, _) = family_words(family);
    let mask = format!("{:#010x}", node.masquerade_mask());
    let chain = "masquerading";
    if shape.has_hairpin_set() {
        script.rule(
            chain,
            format_args!("mark and {mask} != 0 mark set mark xor {mask} masquerade fully-random"),
        );
        let tuple = format!("{ip} saddr . {ip} daddr . meta l4proto . th dport");
        let set = Set::HairpinConnections.name();
        script.rule(chain, format_args!("ct status dnat {tuple} @{set} masquerade fully-random"));
    } else {
        script.chain(MARK);
        script.rule(MARK, mark_inline(node));
        script.rule(chain, format_args!("mark and {mask} == 0 return"));
        script.rule(chain, format_args!("mark set mark xor {mask}"));
        script.rule(chain, "masquerade fully-random");
    }
}

/// Who is refused: by source range, without endpoints, at a port of nobody, at an address
/// of nobody.
fn refusals(script: &mut Script, node: &Node, family: Family) {
    let (ip, _) = family_words(family);
    let at_address = format!("{ip} daddr . meta l4proto . th dport vmap");
    let no_endpoints = Set::NoEndpointServices.name();
    script.rule("reject-chain", "reject");
    script.rule("firewall-check", format_args!("{at_address} @firewall-ips"));
    script.rule("service-endpoints-check", format_args!("{at_address} @{no_endpoints}"));
    let to_cluster_ip = format!("{ip} daddr @{}", Set::ClusterIps.name());
    script.rule("cluster-ips-check", format_args!("{to_cluster_ip} reject"));
    if !node.service_blocks.is_empty() {
        let blocks: Vec<_> = node.service_blocks.iter().map(ToString::to_string).collect();
        let blocks = blocks.join(" , ");
        script.rule("cluster-ips-check", format_args!("{ip} daddr {{ {blocks} }} drop"));
    }
}

/// Where a packet finds its Service.
fn dispatch(script: &mut Script, shape: Shape, node: &Node, family: Family) {
    let (ip, address) = family_words(family);
    let services = "services";
    if shape.has_hairpin_set()
        && let Some(strangers) = strangers(node, family)
    {
        let to_cluster_ip = format!("{ip} daddr @{}", Set::ClusterIps.name());
        let mark = mark_inline(node);
        script.rule(services, format_args!("{to_cluster_ip} {strangers}{mark}"));
    }
    let map = Set::ServiceIps.name();
    script.rule(services, format_args!("{ip} daddr . meta l4proto . th dport vmap @{map}"));
    // What is refused has come to this node in any case, so only where packets are sent on
    // must the address be known to be the node's.
    let (sent_on, refused) = match node.node_port_match(ProxyMode::Nftables, family) {
        NodePortMatch::AllLocal { .. } => {
            let loopback = if family == Family::Ipv4 { "127.0.0.0/8" } else { "::1" };
            let elsewhere = format!("{ip} daddr != {loopback}");
            (format!("fib daddr type local {elsewhere}"), elsewhere)
        }
        NodePortMatch::Exactly(addresses) => {
            script.set(NODEPORT_IPS, address);
            for address in addresses {
                script.fixed_element(NODEPORT_IPS, address);
            }
            let listed = format!("{ip} daddr @{NODEPORT_IPS}");
            (listed.clone(), listed)
        }
    };
    for (chain, matched, map) in [
        (services, sent_on, Set::ServiceNodeports),
        ("nodeport-endpoints-check", refused, Set::NoEndpointNodeports),
    ] {
        let map = map.name();
        script.rule(chain, format_args!("{matched} meta l4proto . th dport vmap @{map}"));
    }
}
