//! The meaning of Services: what becomes of the first packet of a connection.
//!
//! This is the definition that every lowering is tested against. It is written for
//! reading, not for speed: it looks at the Services one by one.
//!
//! Invariant: knows no rules and no tables, only Services, the node and the mode's
//! promises.

use crate::node::NodePortMatch;
use crate::{
    Choice, Endpoint, Frontend, Ingress, Ir, LocalDetector, Node, Outcome, Packet, ProxyMode,
    Selection, Service, TrafficPolicy, select,
};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What becomes of `packet` on the Ir's node under the promises of `mode`.
#[must_use]
pub fn eval(ir: &Ir, mode: ProxyMode, packet: &Packet) -> Outcome {
    match find(ir, mode, packet) {
        Some((service, frontend)) => Hit::new(ir, mode, packet, service, frontend).outcome(),
        None => miss(ir, mode, packet),
    }
}

/// The Service that `packet` is for, and the address it was reached at.
fn find<'a>(ir: &'a Ir, mode: ProxyMode, packet: &Packet) -> Option<(&'a Service, Frontend)> {
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
fn miss(ir: &Ir, mode: ProxyMode, packet: &Packet) -> Outcome {
    let ip = packet.destination.ip();
    let guarded = |s: &Service| {
        s.cluster_ip == ip
            || (mode.guards_external_addresses()
                && !ir.node().owns(ip)
                && (s.external_ips.contains(&ip) || s.load_balancer_ips.contains(&ip)))
    };
    if mode.accepts_health_check_port() && is_health_check(ir, packet) {
        return Outcome::Accept;
    }
    if mode.refuses_node_ports_at_all_local_addresses()
        && ir.node().owns(ip)
        && let Some(refusal) = node_port_refusal(ir, packet)
    {
        return refusal;
    }
    if mode.rejects_unknown_ports() && ir.services().iter().any(guarded) {
        return Outcome::Reject;
    }
    if mode.drops_unallocated() && ir.node().service_blocks.iter().any(|b| b.contains(&ip)) {
        return Outcome::Drop;
    }
    Outcome::Pass
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
        && ir.node().owns(packet.destination.ip())
        && ir.services().iter().any(|s| s.health_check_port.is_some_and(|p| p.get() == port))
}

/// A packet at a frontend of a Service.
struct Hit<'a> {
    node: &'a Node,
    mode: ProxyMode,
    packet: &'a Packet,
    service: &'a Service,
    frontend: Frontend,
    selection: Selection<'a>,
}

impl<'a> Hit<'a> {
    fn new(
        ir: &'a Ir,
        mode: ProxyMode,
        packet: &'a Packet,
        service: &'a Service,
        frontend: Frontend,
    ) -> Self {
        let node = ir.node();
        Self { node, mode, packet, service, frontend, selection: select(service, node) }
    }

    fn outcome(&self) -> Outcome {
        if self.is_firewalled() {
            return Outcome::Drop;
        }
        if !self.selection.any {
            return self.refuse(Outcome::Reject);
        }
        match self.frontend {
            Frontend::ClusterIp(_) => self.to_cluster_ip(),
            _ => self.to_outside_address(),
        }
    }

    /// iptables mode refuses at outside addresses in INPUT and FORWARD, where packets that
    /// the node sends elsewhere never come by. Its firewall for load balancer addresses stands in
    /// OUTPUT as well, and drops what it did admit but what found no endpoint.
    fn refuse(&self, refusal: Outcome) -> Outcome {
        let leaves = self.packet.ingress == Ingress::Local
            && !self.node.owns(self.packet.destination.ip())
            && !matches!(self.frontend, Frontend::ClusterIp(_));
        if !leaves || self.mode.refuses_own_packets_to_external() {
            refusal
        } else if self.has_firewall() {
            Outcome::Drop
        } else {
            Outcome::Pass
        }
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

    fn to_cluster_ip(&self) -> Outcome {
        let masquerade = self.node.masquerade_all
            || (self.node.local_detector != LocalDetector::None && !self.is_from_pod());
        match self.service.internal_policy {
            TrafficPolicy::Cluster => self.balance(&self.selection.cluster, masquerade),
            TrafficPolicy::Local => self.balance_local(masquerade),
        }
    }

    fn to_outside_address(&self) -> Outcome {
        if self.service.external_policy == TrafficPolicy::Cluster {
            return self.balance(&self.selection.cluster, true);
        }
        if self.mode.short_circuits_own_traffic() {
            if self.is_from_pod() {
                return self.balance(&self.selection.cluster, false);
            }
            if self.node.owns(self.packet.source.ip()) {
                return self.balance(&self.selection.cluster, true);
            }
        }
        self.balance_local(false)
    }

    fn balance_local(&self, masquerade: bool) -> Outcome {
        let fall_back = self.selection.local.is_empty() && self.mode.local_falls_back_to_all();
        if fall_back {
            self.balance(&self.all_endpoints(), masquerade)
        } else if self.selection.local.is_empty() {
            self.refuse(Outcome::Drop)
        } else {
            self.balance(&self.selection.local, masquerade)
        }
    }

    /// What a mode that falls back uses: the cluster endpoints, selected even when the
    /// policies alone would not ask for them.
    fn all_endpoints(&self) -> Vec<&'a Endpoint> {
        if !self.selection.cluster.is_empty() {
            return self.selection.cluster.clone();
        }
        let ready = |e: &&Endpoint| e.ready || (e.serving && e.terminating);
        self.service.endpoints.iter().filter(ready).collect()
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
    fn balance(&self, endpoints: &[&Endpoint], masquerade: bool) -> Outcome {
        let total: f64 = endpoints.iter().map(|e| f64::from(e.weight.get())).sum();
        if endpoints.is_empty() {
            return self.refuse(Outcome::Reject);
        }
        let choices = endpoints.iter().map(|e| {
            let hairpin = e.address.ip() == self.packet.source.ip();
            let choice = Choice { endpoint: e.address, masquerade: masquerade || hairpin };
            (choice, f64::from(e.weight.get()) / total)
        });
        Outcome::Balance(choices.collect::<BTreeMap<_, _>>())
    }
}
