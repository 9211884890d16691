//! What becomes of a packet, in terms of Services: whose port it is for, which endpoints
//! may get it and why others may not, whose address the endpoint sees, and why.
//!
//! The outcome is [`eval`]'s; what is worked out here is only why. That the reasons are those
//! of the outcome is a test over made-up clusters.
//!
//! Invariant: knows Services and the promises of modes, and no rule.

use nfc_ir::eval::find;
use nfc_ir::{
    Endpoint, Frontend, Ingress, Ir, LocalDetector, Node, Outcome, Packet, ProxyMode, Selection,
    Service, TrafficPolicy, eval, select,
};
use std::net::IpAddr;

/// What becomes of a packet, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Meaning<'a> {
    /// What becomes of it.
    pub outcome: Outcome,
    /// The Service that it is for, and the address it was reached at.
    pub hit: Option<Hit<'a>>,
    /// Why the outcome is what it is, as sentences.
    pub because: Vec<String>,
}

/// A packet at a frontend of a Service.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit<'a> {
    /// The Service.
    pub service: &'a Service,
    /// Where it was reached.
    pub frontend: Frontend,
    /// The policy that counts there.
    pub policy: TrafficPolicy,
    /// All its endpoints.
    pub endpoints: Vec<Told<'a>>,
}

/// An endpoint, and what it has to do with the packet.
#[derive(Clone, Debug, PartialEq)]
pub struct Told<'a> {
    /// The endpoint.
    pub endpoint: &'a Endpoint,
    /// How it may get the packet; `None` when it may not.
    pub chosen: Option<Chosen>,
    /// Why it may not get it, or why it may although something speaks against it.
    pub why: Option<String>,
}

/// How an endpoint may get the packet.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// With which probability.
    pub share: f64,
    /// Why the source becomes the node's address; `None` when it stays.
    pub masquerade: Option<String>,
}

/// What becomes of `packet` under the promises of `mode`, and why.
#[must_use]
pub fn meaning<'a>(ir: &'a Ir, mode: ProxyMode, packet: &Packet) -> Meaning<'a> {
    let outcome = eval(ir, mode, packet);
    match find(ir, mode, packet) {
        Some((service, frontend)) => {
            let selection = select(service, ir.node());
            let case = Case { ir, mode, packet, service, frontend, selection };
            let endpoints = service.endpoints.iter().map(|e| case.told(e, &outcome)).collect();
            let because = case.because(&outcome);
            let hit = Hit { service, frontend, policy: case.policy(), endpoints };
            Meaning { outcome, hit: Some(hit), because }
        }
        None => {
            let because = vec![missed(ir, packet, &outcome)];
            Meaning { outcome, hit: None, because }
        }
    }
}

/// Why a packet that no Service answers to has this outcome.
fn missed(ir: &Ir, packet: &Packet, outcome: &Outcome) -> String {
    let (ip, port) = (packet.destination.ip(), packet.destination.port());
    if *outcome == Outcome::Accept {
        return "it is the health check node port of a Service".to_owned();
    }
    let is_at = |service: &&Service| service.frontends().any(|f| frontend_name(f).1 == Some(ip));
    let neighbours = ir.services().iter().filter(is_at);
    let ports: Vec<_> =
        neighbours.map(|s| format!("{}/{} ({})", s.port, s.protocol, s.name)).collect();
    if !ports.is_empty() {
        let protocol = packet.protocol;
        return format!("{ip} has no port {port}/{protocol}; it has {}", ports.join(", "));
    }
    let has_port = |service: &&Service| service.node_port.is_some_and(|p| p.get() == port);
    match (ir.services().iter().find(has_port), outcome) {
        (Some(Service { name, protocol, .. }), _) => format!(
            "{port}/{protocol} is the node port of {name}, which does not answer at {ip} over \
             {} in this mode",
            packet.protocol
        ),
        (None, Outcome::Drop) => format!(
            "{ip} is in a service CIDR and belongs to no Service; nftables mode drops such packets"
        ),
        (None, _) => format!("no Service answers at {ip}"),
    }
}

struct Case<'a, 'p> {
    ir: &'a Ir,
    mode: ProxyMode,
    packet: &'p Packet,
    service: &'a Service,
    frontend: Frontend,
    selection: Selection<'a>,
}

impl<'a> Case<'a, '_> {
    fn node(&self) -> &'a Node {
        self.ir.node()
    }

    fn is_internal(&self) -> bool {
        matches!(self.frontend, Frontend::ClusterIp(_))
    }

    fn policy(&self) -> TrafficPolicy {
        if self.is_internal() { self.service.internal_policy } else { self.service.external_policy }
    }

    fn told(&self, endpoint: &'a Endpoint, outcome: &Outcome) -> Told<'a> {
        let Outcome::Balance(choices) = outcome else {
            return Told { endpoint, chosen: None, why: state(endpoint) };
        };
        let found = choices.iter().find(|(choice, _)| choice.endpoint == endpoint.address);
        let Some((choice, share)) = found else {
            return Told { endpoint, chosen: None, why: Some(self.why_not(endpoint, outcome)) };
        };
        let masquerade = choice.masquerade.then(|| self.why_masqueraded(endpoint));
        let why = (!endpoint.ready)
            .then(|| "it is terminating, but no other endpoint is ready".to_owned());
        Told { endpoint, chosen: Some(Chosen { share: *share, masquerade }), why }
    }

    /// Whether only the node's own endpoints are in use.
    fn is_local_only(&self, outcome: &Outcome) -> bool {
        let is_used = |e: &Endpoint| outcome.endpoints().any(|c| c.endpoint == e.address);
        self.policy() == TrafficPolicy::Local
            && self.service.endpoints.iter().filter(|e| is_used(e)).all(|e| e.local)
            && !self.selection.local.is_empty()
            && self.own_traffic().is_none()
    }

    fn why_not(&self, endpoint: &Endpoint, outcome: &Outcome) -> String {
        if let Some(state) = state(endpoint) {
            let last_resort = endpoint.serving && endpoint.terminating;
            let and = if last_resort { ", and others are ready" } else { "" };
            return format!("{state}{and}");
        }
        if self.is_local_only(outcome) && !endpoint.local {
            let node = self.node();
            return format!("it is on another node than {}", or_this(&node.name));
        }
        let list = |names: &std::collections::BTreeSet<String>| {
            names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
        };
        let here = self.node().zone.as_deref().unwrap_or_default();
        match (endpoint.hints.nodes.is_empty(), endpoint.hints.zones.is_empty()) {
            (_, false) if !endpoint.hints.zones.contains(here) => format!(
                "its hints are for zone {}, and the node is in {here}",
                list(&endpoint.hints.zones)
            ),
            (false, _) => format!(
                "its hints are for node {}, and this is {}",
                list(&endpoint.hints.nodes),
                self.node().name
            ),
            _ => "others are nearer".to_owned(),
        }
    }

    /// Why the packet may use endpoints of all nodes although the policy is `Local`.
    fn own_traffic(&self) -> Option<&'static str> {
        if self.is_internal() || !self.mode.short_circuits_own_traffic() {
            return None;
        }
        if self.is_from_pod() {
            Some("it comes from a pod of this node")
        } else if self.node().owns(self.packet.source.ip()) {
            Some("it comes from the node itself")
        } else {
            None
        }
    }

    fn is_from_pod(&self) -> bool {
        let interface = match &self.packet.ingress {
            Ingress::Interface(name) => Some(name.as_str()),
            Ingress::Local => None,
        };
        match &self.node().local_detector {
            LocalDetector::None => false,
            LocalDetector::SourceBlock(block) => block.contains(&self.packet.source.ip()),
            LocalDetector::Bridge(bridge) => interface == Some(bridge),
            LocalDetector::InterfacePrefix(prefix) => {
                interface.is_some_and(|name| name.starts_with(prefix.as_str()))
            }
        }
    }

    /// How the node knows that the packet is from one of its pods, or that it is not.
    fn pod_test(&self) -> String {
        let from = self.packet.source.ip();
        let is = self.is_from_pod();
        match &self.node().local_detector {
            LocalDetector::None => "the node cannot tell its pods".to_owned(),
            LocalDetector::SourceBlock(block) => {
                format!("{from} is {} {block}", if is { "in" } else { "not in" })
            }
            LocalDetector::Bridge(name) | LocalDetector::InterfacePrefix(name) => {
                format!("it {} through {name}", if is { "came in" } else { "did not come in" })
            }
        }
    }

    /// Called where the outcome says that the source is rewritten.
    fn why_masqueraded(&self, endpoint: &Endpoint) -> String {
        if let Some(reason) = self.why_all_masqueraded() {
            return reason;
        }
        if endpoint.address.ip() == self.packet.source.ip() {
            return "it talks to itself, and would answer itself directly otherwise".to_owned();
        }
        "its source is a cluster IP, which every node has, so that no answer would come back"
            .to_owned()
    }

    /// Why the source is rewritten whichever endpoint is picked.
    fn why_all_masqueraded(&self) -> Option<String> {
        let node = self.node();
        if self.is_internal() {
            if node.masquerade_all {
                return Some("masqueradeAll is set".to_owned());
            }
            let stranger = node.local_detector != LocalDetector::None && !self.is_from_pod();
            return stranger
                .then(|| format!("it is from no pod of this node ({})", self.pod_test()));
        }
        if self.policy() == TrafficPolicy::Cluster {
            let reason = "externalTrafficPolicy is Cluster: the answer must come back through \
                          this node";
            return Some(reason.to_owned());
        }
        let is_own = self.own_traffic().is_some() && !self.is_from_pod();
        is_own.then(|| "it comes from the node itself".to_owned())
    }

    fn because(&self, outcome: &Outcome) -> Vec<String> {
        match outcome {
            Outcome::Balance(_) => self.why_balanced(outcome),
            Outcome::Reject => vec![self.why_without_endpoints()],
            Outcome::Drop if self.is_firewalled() => {
                vec![format!("loadBalancerSourceRanges do not hold {}", self.packet.source.ip())]
            }
            Outcome::Drop if self.selection.any => vec![format!(
                "{} is Local, and no endpoint is on {}",
                self.policy_name(),
                or_this(&self.node().name)
            )],
            Outcome::Drop | Outcome::Pass | Outcome::Accept => vec![
                self.why_without_endpoints(),
                "iptables mode refuses at outside addresses in INPUT and FORWARD only, where \
                 packets that the node itself sends elsewhere never come by"
                    .to_owned(),
            ],
        }
    }

    fn policy_name(&self) -> &'static str {
        if self.is_internal() { "internalTrafficPolicy" } else { "externalTrafficPolicy" }
    }

    fn why_without_endpoints(&self) -> String {
        match self.service.endpoints.len() {
            0 => "the Service has no endpoints".to_owned(),
            1 => "its only endpoint is not ready".to_owned(),
            n => format!("none of its {n} endpoints is ready"),
        }
    }

    fn is_firewalled(&self) -> bool {
        let ranges = &self.service.source_ranges;
        matches!(self.frontend, Frontend::LoadBalancerIp(_))
            && !ranges.is_empty()
            && !ranges.iter().any(|range| range.contains(&self.packet.source.ip()))
    }

    fn why_balanced(&self, outcome: &Outcome) -> Vec<String> {
        let mut because = Vec::new();
        if self.policy() == TrafficPolicy::Local {
            let name = self.policy_name();
            because.push(match self.own_traffic() {
                Some(own) => format!("{name} is Local, but {own}, which may use all endpoints"),
                None if self.is_local_only(outcome) => {
                    format!("{name} is Local: only endpoints on this node may get it")
                }
                None => format!("{name} is Local, but IPVS mode falls back to all endpoints"),
            });
        }
        because.push(match self.why_all_masqueraded() {
            Some(reason) => format!("the source becomes the node's address: {reason}"),
            None if self.is_internal() => {
                format!("the source address is kept: {}", self.pod_test())
            }
            None => "the source address is kept".to_owned(),
        });
        if let Some(affinity) = self.service.affinity {
            because.push(format!(
                "sessionAffinity is ClientIP: the shares are those of a new client, which then \
                 keeps its endpoint for {} s after its last packet",
                affinity.timeout_seconds
            ));
        }
        because
    }
}

/// What about an endpoint speaks against using it.
fn state(endpoint: &Endpoint) -> Option<String> {
    let words = match (endpoint.ready, endpoint.serving, endpoint.terminating) {
        (true, ..) => return None,
        (false, true, true) => "it is terminating",
        (false, false, true) => "it is terminating and no longer serves",
        (false, _, false) => "it is not ready",
    };
    Some(words.to_owned())
}

fn or_this(node: &str) -> &str {
    if node.is_empty() { "this node" } else { node }
}

/// The address of a frontend, in Kubernetes' words.
#[must_use]
pub fn frontend_name(frontend: Frontend) -> (&'static str, Option<IpAddr>) {
    match frontend {
        Frontend::ClusterIp(ip) => ("cluster IP", Some(ip)),
        Frontend::ExternalIp(ip) => ("external IP", Some(ip)),
        Frontend::LoadBalancerIp(ip) => ("load balancer IP", Some(ip)),
        Frontend::NodePort(_) => ("node port", None),
    }
}
