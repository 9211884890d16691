//! The meaning of Services: what becomes of the first packet of a connection.
//!
//! This is the definition that every lowering is tested against. It is written for
//! reading, not for speed: it looks at the Services one by one. What decided goes with the
//! outcome, as data, for whoever explains it.
//!
//! Invariant: knows no rules and no tables, only Services, the node and the mode's
//! promises.

use crate::node::NodePortMatch;
use crate::{
    Choice, Frontend, Ingress, Ir, LocalDetector, Node, Outcome, Packet, ProxyMode, Selection,
    Service, TrafficPolicy, select,
};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What becomes of `packet` on the Ir's node under the promises of `mode`.
#[must_use]
pub fn eval(ir: &Ir, mode: ProxyMode, packet: &Packet) -> Outcome {
    judge(ir, mode, packet).outcome
}

/// What becomes of a packet, and what decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement<'a> {
    /// What becomes of it.
    pub outcome: Outcome,
    /// The Service that it is for, and the address it was reached at.
    pub hit: Option<(&'a Service, Frontend)>,
    /// What decided.
    pub reason: Reason,
}

/// What decided about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No Service answers; it is the health check of one.
    HealthCheck,
    /// No Service answers at this address and port.
    NobodyAnswers,
    /// The address is one that cluster IPs are taken from, and nobody has it.
    Unallocated,
    /// The load balancer's source ranges do not hold its source.
    SourceRanges,
    /// No endpoint may get it.
    NoEndpoint {
        /// Whether there are endpoints, and a `Local` policy keeps it from those on other
        /// nodes.
        elsewhere: bool,
        /// Whether it leaves the node past the place where it would be refused.
        unrefused: bool,
    },
    /// Endpoints may get it.
    Endpoints {
        /// Which.
        spread: Spread,
        /// Why the source is rewritten whichever endpoint gets it. Where nothing says so, it
        /// is for those that would answer themselves, and for a cluster IP as source.
        masquerade: Option<Masquerade>,
    },
}

/// Which endpoints may get a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Those of the cluster, by a `Cluster` policy.
    Cluster,
    /// Those of this node, by a `Local` policy.
    Local,
    /// Those of the cluster in spite of a `Local` policy: a pod of this node asks.
    ClusterForPod,
    /// The same, and the node itself asks.
    ClusterForNode,
    /// Those of the cluster, because a `Local` policy finds none on this node (IPVS mode).
    ClusterForLackOfLocal,
}

/// Why the source address becomes the node's, whichever endpoint is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masquerade {
    /// `masqueradeAll`.
    All,
    /// It is from no pod, and for a cluster IP.
    Stranger,
    /// The answer must come back through this node: the outside address of a Service with a
    /// `Cluster` policy.
    ComesBack,
    /// The node's own, which may use endpoints of all nodes in spite of a `Local` policy.
    OwnTraffic,
}

/// The same as [`eval`], with what decided.
#[must_use]
pub fn judge<'a>(ir: &'a Ir, mode: ProxyMode, packet: &Packet) -> Judgement<'a> {
    let hit = find(ir, mode, packet);
    let (outcome, reason) = match hit {
        Some((service, frontend)) => Hit::new(ir, mode, packet, service, frontend).judge(),
        None => miss(ir, mode, packet),
    };
    Judgement { outcome, hit, reason }
}

type Decided = (Outcome, Reason);

/// The Service that `packet` is for under the promises of `mode`, and the address it was
/// reached at.
#[must_use]
pub fn find<'a>(ir: &'a Ir, mode: ProxyMode, packet: &Packet) -> Option<(&'a Service, Frontend)> {
    let spoken = || ir.services().iter().filter(|s| s.protocol == packet.protocol);
    let (ip, port) = (packet.destination.ip(), packet.destination.port());
    let at_address = |s: &'a Service| {
        let here = |f: &Frontend| match f {
            Frontend::ClusterIp(a) | Frontend::ExternalIp(a) | Frontend::LoadBalancerIp(a) => {
                *a == ip && s.port.get() == port
            }
            Frontend::NodePort(_) => false,
        };
        s.frontends().find(here).map(|f| (s, f))
    };
    let at_node_port = |s: &'a Service| {
        let own = s.node_port.filter(|p| p.get() == port)?;
        serves_node_ports(ir, mode, ip).then_some((s, Frontend::NodePort(own)))
    };
    spoken().find_map(at_address).or_else(|| spoken().find_map(at_node_port))
}

fn serves_node_ports(ir: &Ir, mode: ProxyMode, address: IpAddr) -> bool {
    match ir.node().node_port_match(mode, ir.family()) {
        NodePortMatch::AllLocal { loopback } => {
            ir.node().owns(address) && (loopback || !address.is_loopback())
        }
        NodePortMatch::Exactly(addresses) => addresses.contains(&address),
    }
}

/// A packet that no Service answers to.
fn miss(ir: &Ir, mode: ProxyMode, packet: &Packet) -> Decided {
    let ip = packet.destination.ip();
    let guarded = |s: &Service| {
        s.cluster_ip == ip
            || (mode.binds_addresses()
                && !ir.node().owns(ip)
                && (s.external_ips.contains(&ip) || s.load_balancer_ips.contains(&ip)))
    };
    let at_node =
        ir.node().owns(ip) || (mode.binds_addresses() && ir.services().iter().any(guarded));
    if mode.accepts_health_check_port() && at_node && is_health_check(ir, packet) {
        return (Outcome::Accept, Reason::HealthCheck);
    }
    if mode.refuses_node_ports_at_all_local_addresses()
        && ir.node().owns(ip)
        && let Some(refusal) = node_port_refusal(ir, packet)
    {
        return (refusal, Reason::NobodyAnswers);
    }
    if mode.rejects_unknown_ports() && ir.services().iter().any(guarded) {
        return (Outcome::Reject, Reason::NobodyAnswers);
    }
    if mode.drops_unallocated() && ir.node().service_blocks.iter().any(|b| b.contains(&ip)) {
        return (Outcome::Drop, Reason::Unallocated);
    }
    (Outcome::Pass, Reason::NobodyAnswers)
}

/// Why the Service that has the packet's node port could not serve it anywhere.
fn node_port_refusal(ir: &Ir, packet: &Packet) -> Option<Outcome> {
    let port = packet.destination.port();
    let is_meant = |s: &&Service| {
        s.protocol == packet.protocol && s.node_port.is_some_and(|p| p.get() == port)
    };
    let service = ir.services().iter().find(is_meant)?;
    let selection = select(service, ir.node());
    if !selection.any {
        return Some(Outcome::Reject);
    }
    let is_local = service.external_policy == TrafficPolicy::Local;
    (is_local && selection.local.is_empty()).then_some(Outcome::Drop)
}

fn is_health_check(ir: &Ir, packet: &Packet) -> bool {
    let port = packet.destination.port();
    packet.protocol == crate::Protocol::Tcp
        && ir.services().iter().any(|s| s.health_check_port.is_some_and(|p| p.get() == port))
}

/// Where cluster IPs are bound to the node, it may pick one as the source of a packet, and
/// the answer to that would never leave the endpoint's node. Without a way to tell pods,
/// kube-proxy looks for just those: source address and destination port of a cluster IP.
fn is_from_cluster_ip(ir: &Ir, mode: ProxyMode, packet: &Packet) -> bool {
    let is_source = |s: &Service| {
        (s.cluster_ip, s.protocol) == (packet.source.ip(), packet.protocol)
            && s.port.get() == packet.destination.port()
    };
    mode.binds_addresses()
        && ir.node().local_detector == LocalDetector::None
        && !ir.node().masquerade_all
        && ir.services().iter().any(is_source)
}

/// A packet at a frontend of a Service.
struct Hit<'a> {
    node: &'a Node,
    mode: ProxyMode,
    packet: &'a Packet,
    service: &'a Service,
    frontend: Frontend,
    selection: Selection<'a>,
    from_cluster_ip: bool,
}

impl<'a> Hit<'a> {
    fn new(
        ir: &'a Ir,
        mode: ProxyMode,
        packet: &'a Packet,
        service: &'a Service,
        frontend: Frontend,
    ) -> Self {
        let (node, selection) = (ir.node(), select(service, ir.node()));
        let from_cluster_ip = is_from_cluster_ip(ir, mode, packet);
        Self { node, mode, packet, service, frontend, selection, from_cluster_ip }
    }

    fn judge(&self) -> Decided {
        if self.is_firewalled() {
            return (Outcome::Drop, Reason::SourceRanges);
        }
        if !self.selection.any {
            return self.refuse(Outcome::Reject, false);
        }
        match self.frontend {
            Frontend::ClusterIp(_) => self.to_cluster_ip(),
            _ => self.to_outside_address(),
        }
    }

    /// iptables mode refuses at outside addresses in INPUT and FORWARD, where packets that
    /// the node sends elsewhere never come by. Its firewall for load balancer addresses stands in
    /// OUTPUT as well, and drops what it did admit but what found no endpoint.
    fn refuse(&self, refusal: Outcome, elsewhere: bool) -> Decided {
        let leaves = self.packet.ingress == Ingress::Local
            && !self.node.owns(self.packet.destination.ip())
            && !matches!(self.frontend, Frontend::ClusterIp(_));
        let unrefused = leaves && !self.mode.refuses_own_packets_to_external();
        let outcome = match unrefused {
            false => refusal,
            true if self.has_firewall() => Outcome::Drop,
            true => Outcome::Pass,
        };
        (outcome, Reason::NoEndpoint { elsewhere, unrefused })
    }

    /// Whether source ranges are enforced at the address that the packet is for.
    fn has_firewall(&self) -> bool {
        matches!(self.frontend, Frontend::LoadBalancerIp(_))
            && !self.service.source_ranges.is_empty()
            && (self.selection.any || self.mode.firewalls_without_endpoints())
    }

    fn is_firewalled(&self) -> bool {
        let ranges = &self.service.source_ranges;
        let admits = |address: IpAddr| ranges.iter().any(|r| r.contains(&address));
        let source = self.packet.source.ip();
        // A node inside the ranges may reach the load balancer address with that very
        // address as source, when it is bound to one of its links.
        let own = self.service.load_balancer_ips.contains(&source)
            && self.node.primary_address().is_some_and(admits);
        self.has_firewall() && !admits(source) && !own
    }

    fn to_cluster_ip(&self) -> Decided {
        let is_stranger = self.node.local_detector != LocalDetector::None && !self.is_from_pod();
        let masquerade = match (self.node.masquerade_all, is_stranger) {
            (true, _) => Some(Masquerade::All),
            (false, true) => Some(Masquerade::Stranger),
            (false, false) => None,
        };
        match self.service.internal_policy {
            TrafficPolicy::Cluster => self.balance(Spread::Cluster, masquerade),
            TrafficPolicy::Local => self.balance_local(masquerade),
        }
    }

    fn to_outside_address(&self) -> Decided {
        if self.service.external_policy == TrafficPolicy::Cluster {
            return self.balance(Spread::Cluster, Some(Masquerade::ComesBack));
        }
        if self.mode.short_circuits_own_traffic() {
            if self.is_from_pod() {
                return self.balance(Spread::ClusterForPod, None);
            }
            if self.node.owns(self.packet.source.ip()) {
                return self.balance(Spread::ClusterForNode, Some(Masquerade::OwnTraffic));
            }
        }
        self.balance_local(None)
    }

    fn balance_local(&self, masquerade: Option<Masquerade>) -> Decided {
        if !self.selection.local.is_empty() {
            self.balance(Spread::Local, masquerade)
        } else if self.mode.local_falls_back_to_all() {
            self.balance(Spread::ClusterForLackOfLocal, masquerade)
        } else {
            self.refuse(Outcome::Drop, true)
        }
    }

    fn is_from_pod(&self) -> bool {
        match (&self.node.local_detector, &self.packet.ingress) {
            (LocalDetector::None, _) => false,
            (LocalDetector::SourceBlock(block), _) => block.contains(&self.packet.source.ip()),
            (LocalDetector::Bridge(bridge), Ingress::Interface(name)) => name == bridge,
            (LocalDetector::InterfacePrefix(prefix), Ingress::Interface(name)) => {
                name.starts_with(prefix.as_str())
            }
            (LocalDetector::Bridge(_) | LocalDetector::InterfacePrefix(_), Ingress::Local) => false,
        }
    }

    /// Spreads over `endpoints` by weight. An endpoint that talks to itself through the
    /// Service needs its source rewritten, or it would answer itself directly.
    fn balance(&self, spread: Spread, masquerade: Option<Masquerade>) -> Decided {
        let endpoints = match spread {
            Spread::Local => &self.selection.local,
            _ => &self.selection.cluster,
        };
        let total: f64 = endpoints.iter().map(|e| f64::from(e.weight.get())).sum();
        if endpoints.is_empty() {
            let elsewhere = spread == Spread::ClusterForLackOfLocal;
            return self.refuse(Outcome::Reject, elsewhere);
        }
        let choices = endpoints.iter().map(|e| {
            let hairpin = e.address.ip() == self.packet.source.ip()
                && self.node.masquerades_hairpin(self.mode, e);
            let masquerade = masquerade.is_some() || hairpin || self.from_cluster_ip;
            let choice = Choice { endpoint: e.address, masquerade };
            (choice, f64::from(e.weight.get()) / total)
        });
        let outcome = Outcome::Balance(choices.collect::<BTreeMap<_, _>>());
        (outcome, Reason::Endpoints { spread, masquerade })
    }
}
