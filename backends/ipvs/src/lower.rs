//! Services to virtual servers.
//!
//! Each frontend of a Service becomes a virtual server, a node port one for each address
//! that answers. What is said about a virtual server beyond its real servers, whether its
//! packets are masqueraded and who may come in, goes to the [companion].
//!
//! Invariant: follows `nfc_ir::eval` under `ProxyMode::Ipvs`, in order and in exceptions.

use crate::companion;
use crate::names;
use crate::program::{Program, ServerKey, VirtualServer};
use ipnet::IpNet;
use nfc_backend::{Lowered, Reason, Unsupported};
use nfc_ir::node::NodePortMatch;
use nfc_ir::{
    Endpoint, Family, Frontend, IpvsScheduler, Ir, Node, Port, ProxyMode, Scheduler, Selection,
    Service, TrafficPolicy, select,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

/// A virtual server, and what the companion has to know of it.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    /// The virtual server.
    pub(crate) server: VirtualServer,
    /// Whose packets are masqueraded.
    pub(crate) masquerade: Masquerade,
    /// Who may come in; empty: everybody.
    pub(crate) admitted: Vec<IpNet>,
    /// The real servers that are masqueraded when they reach themselves.
    pub(crate) hairpins: Vec<SocketAddr>,
}

/// Which of a virtual server's connections are masqueraded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Masquerade {
    /// All.
    Always,
    /// None but hairpins.
    Never,
    /// Those that the node's settings say for cluster IPs.
    AsClusterIp,
}

/// All virtual servers of an Ir.
pub(crate) type Plan = BTreeMap<ServerKey, Planned>;

/// The program that does what `ir` means.
pub(crate) fn lower(ir: &Ir) -> Lowered<Program> {
    let node = ir.node();
    let (node_addresses, unsupported) = node_port_addresses(ir);
    let plan = plan(ir, &node_addresses);
    let addresses = bound_addresses(ir);
    let companion = Some(companion::table(ir, &plan, &addresses));
    let servers = plan.into_iter().map(|(key, planned)| (key, planned.server)).collect();
    let program = Program {
        family: ir.family(),
        sysctls: sysctls(ir.family()),
        servers,
        addresses,
        node_addresses: node.addresses.clone(),
        companion,
    };
    Lowered { program, unsupported }
}

/// What IPVS needs from the kernel.
pub(crate) fn sysctls(family: Family) -> BTreeMap<&'static str, &'static str> {
    let forwarding = (family == Family::Ipv4).then_some(names::FORWARDING);
    names::SYSCTLS.into_iter().chain(forwarding).collect()
}

/// The node's addresses that answer on node ports. IPVS has no virtual server for "any
/// address of the node", so that they have to be known.
fn node_port_addresses(ir: &Ir) -> (Vec<IpAddr>, Vec<Unsupported>) {
    let node = ir.node();
    let addresses = match node.node_port_match(ProxyMode::Ipvs, ir.family()) {
        NodePortMatch::Exactly(addresses) => addresses,
        NodePortMatch::AllLocal { .. } => {
            node.addresses.iter().copied().filter(|a| !a.is_loopback()).collect()
        }
    };
    if !node.addresses.is_empty() {
        return (addresses, Vec::new());
    }
    let asking = ir.services().iter().filter(|s| s.node_port.is_some());
    let unsupported = asking.map(|s| Unsupported {
        service: s.name.clone(),
        protocol: s.protocol,
        reason: NODE_ADDRESSES_UNKNOWN,
    });
    (addresses, unsupported.collect())
}

const NODE_ADDRESSES_UNKNOWN: Reason = Reason {
    feature: "node port",
    why: "node addresses unknown: give a Node object or node IPs, since IPVS needs a virtual \
          server for each address; the node port is left out",
};

/// All virtual servers. Those of addresses go before those of node ports: an external IP
/// may be the node's own, and its port another Service's node port.
fn plan(ir: &Ir, node_addresses: &[IpAddr]) -> Plan {
    let mut plan = Plan::new();
    let mut at_node_ports = Vec::new();
    for service in ir.services() {
        let selection = select(service, ir.node());
        for frontend in service.frontends() {
            let planned = planned(ir.node(), service, &selection, frontend);
            match frontend {
                Frontend::ClusterIp(ip)
                | Frontend::ExternalIp(ip)
                | Frontend::LoadBalancerIp(ip) => {
                    plan.insert(key(service, ip, service.port), planned);
                }
                Frontend::NodePort(port) => at_node_ports.push((service, port, planned)),
            }
        }
    }
    for (service, port, planned) in at_node_ports {
        for ip in node_addresses {
            plan.entry(key(service, *ip, port)).or_insert_with(|| planned.clone());
        }
    }
    plan
}

fn key(service: &Service, ip: IpAddr, port: Port) -> ServerKey {
    ServerKey { address: SocketAddr::new(ip, port.get()), protocol: service.protocol }
}

fn planned(
    node: &Node,
    service: &Service,
    selection: &Selection<'_>,
    frontend: Frontend,
) -> Planned {
    let (policy, masquerade) = match (frontend, service.external_policy) {
        (Frontend::ClusterIp(_), _) => (service.internal_policy, Masquerade::AsClusterIp),
        (_, policy @ TrafficPolicy::Cluster) => (policy, Masquerade::Always),
        (_, policy @ TrafficPolicy::Local) => (policy, Masquerade::Never),
    };
    let admitted = match frontend {
        Frontend::LoadBalancerIp(_) => admitted(service, node),
        Frontend::ClusterIp(_) | Frontend::ExternalIp(_) | Frontend::NodePort(_) => Vec::new(),
    };
    let endpoints = in_use(selection, policy);
    let own = |e: &&&Endpoint| node.masquerades_hairpin(ProxyMode::Ipvs, e);
    let hairpins = endpoints.iter().filter(own).map(|e| e.address).collect();
    let server = virtual_server(service, node, &endpoints);
    Planned { server, masquerade, admitted, hairpins }
}

/// The endpoints that a frontend of this policy uses: under `Local` those of the node, and
/// when there is none those of the cluster, as far as the Service uses them at all.
fn in_use<'a>(selection: &Selection<'a>, policy: TrafficPolicy) -> Vec<&'a Endpoint> {
    match policy {
        TrafficPolicy::Local if !selection.local.is_empty() => selection.local.clone(),
        _ => selection.cluster.clone(),
    }
}

fn virtual_server(service: &Service, node: &Node, endpoints: &[&Endpoint]) -> VirtualServer {
    let reals: BTreeMap<SocketAddr, NonZeroU16> =
        endpoints.iter().map(|e| (e.address, e.weight)).collect();
    VirtualServer {
        service: service.name.clone(),
        scheduler: scheduler(service.scheduler, node, &reals),
        persistence: service.affinity.map(|a| a.timeout_seconds),
        reals,
    }
}

/// IPVS has no scheduler that draws lots: a Service that asks for nothing else gets the
/// node's. Where that is `rr`, kube-proxy's default, which knows no weights, `wrr` takes its
/// place when weights differ.
fn scheduler(
    asked: Scheduler,
    node: &Node,
    reals: &BTreeMap<SocketAddr, NonZeroU16>,
) -> IpvsScheduler {
    let mut weights = reals.values();
    let first = weights.next();
    let all_equal = weights.all(|weight| Some(weight) == first);
    let by_turns =
        if all_equal { IpvsScheduler::RoundRobin } else { IpvsScheduler::WeightedRoundRobin };
    match (asked, node.ipvs_scheduler) {
        (Scheduler::SourceHash, _) => IpvsScheduler::SourceHash,
        (Scheduler::Maglev, _) => IpvsScheduler::Maglev,
        (Scheduler::RoundRobin, _) | (Scheduler::Random, IpvsScheduler::RoundRobin) => by_turns,
        (Scheduler::Random, other) => other,
    }
}

/// The blocks that may come in at the load balancer IPs, without overlap. A node inside the
/// ranges reaches such an IP with that very IP as source, since it is bound here.
fn admitted(service: &Service, node: &Node) -> Vec<IpNet> {
    let ranges = &service.source_ranges;
    let node_admitted =
        node.primary_address().is_some_and(|own| ranges.iter().any(|r| r.contains(&own)));
    let own = service.load_balancer_ips.iter().filter(|_| node_admitted);
    let all: Vec<IpNet> =
        ranges.iter().map(IpNet::trunc).chain(own.map(|ip| IpNet::from(*ip))).collect();
    IpNet::aggregate(&all)
}

/// The addresses that are made the node's own: those of Services that no link has.
fn bound_addresses(ir: &Ir) -> BTreeSet<IpAddr> {
    let bound_by = |service: &Service| {
        let outside = service.external_ips.iter().chain(&service.load_balancer_ips);
        let foreign = outside.copied().filter(|ip| !ir.node().owns(*ip));
        std::iter::once(service.cluster_ip).chain(foreign).collect::<Vec<_>>()
    };
    ir.services().iter().flat_map(bound_by).collect()
}
