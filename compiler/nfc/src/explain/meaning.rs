//! What becomes of a packet, in terms of Services: whose port it is for, which endpoints
//! may get it and why others may not, whose address the endpoint sees, and why.
//!
//! The outcome and what decided are [`eval`](nfc_ir::eval)'s; here they become sentences.
//!
//! Invariant: words only; decides nothing about a packet.

use nfc_ir::eval::{Judgement, Masquerade, Reason, Spread, judge};
use nfc_ir::{
    Endpoint, Frontend, Ir, LocalDetector, Node, Outcome, Packet, ProxyMode, Service, TrafficPolicy,
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
    let Judgement { outcome, hit, reason } = judge(ir, mode, packet);
    match hit {
        Some((service, frontend)) => {
            let case = Case { node: ir.node(), packet, service, frontend, reason };
            let endpoints = service.endpoints.iter().map(|e| case.told(e, &outcome)).collect();
            let hit = Hit { service, frontend, policy: case.policy(), endpoints };
            Meaning { outcome, hit: Some(hit), because: case.because() }
        }
        None => {
            let because = vec![missed(ir, packet, reason)];
            Meaning { outcome, hit: None, because }
        }
    }
}

/// Why no Service answers to a packet.
fn missed(ir: &Ir, packet: &Packet, reason: Reason) -> String {
    let (ip, port) = (packet.destination.ip(), packet.destination.port());
    if reason == Reason::HealthCheck {
        let is_checked =
            |service: &&Service| service.health_check_port.is_some_and(|p| p.get() == port);
        let whose = ir.services().iter().find(is_checked).map(|service| service.name.to_string());
        let whose = whose.unwrap_or_else(|| "a Service".to_owned());
        return format!("it is the health check node port of {whose}");
    }
    if reason == Reason::Unallocated {
        return format!(
            "{ip} is in a service CIDR and belongs to no Service; nftables mode drops such packets \
             where kube-proxy knows the ServiceCIDR objects"
        );
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
    match ir.services().iter().find(has_port) {
        Some(Service { name, protocol, .. }) => format!(
            "{port}/{protocol} is the node port of {name}, which does not answer at {ip} over \
             {} in this mode",
            packet.protocol
        ),
        None => format!("no Service answers at {ip}"),
    }
}

struct Case<'a, 'p> {
    node: &'a Node,
    packet: &'p Packet,
    service: &'a Service,
    frontend: Frontend,
    reason: Reason,
}

impl<'a> Case<'a, '_> {
    fn is_internal(&self) -> bool {
        matches!(self.frontend, Frontend::ClusterIp(_))
    }

    fn policy(&self) -> TrafficPolicy {
        if self.is_internal() { self.service.internal_policy } else { self.service.external_policy }
    }

    fn policy_name(&self) -> &'static str {
        if self.is_internal() { "internalTrafficPolicy" } else { "externalTrafficPolicy" }
    }

    fn told(&self, endpoint: &'a Endpoint, outcome: &Outcome) -> Told<'a> {
        let (Outcome::Balance(choices), Reason::Endpoints { spread, masquerade }) =
            (outcome, self.reason)
        else {
            return Told { endpoint, chosen: None, why: state(endpoint) };
        };
        let found = choices.iter().find(|(choice, _)| choice.endpoint == endpoint.address);
        let Some((choice, share)) = found else {
            return Told { endpoint, chosen: None, why: Some(self.why_not(endpoint, spread)) };
        };
        let masquerade = choice.masquerade.then(|| self.why_masqueraded(endpoint, masquerade));
        let why = (!endpoint.ready)
            .then(|| "it is terminating, but no other endpoint is ready".to_owned());
        Told { endpoint, chosen: Some(Chosen { share: *share, masquerade }), why }
    }

    fn why_not(&self, endpoint: &Endpoint, spread: Spread) -> String {
        if let Some(state) = state(endpoint) {
            let last_resort = endpoint.serving && endpoint.terminating;
            let and = if last_resort { ", and others are ready" } else { "" };
            return format!("{state}{and}");
        }
        if spread == Spread::Local && !endpoint.local {
            return format!("it is on another node than {}", or_this(&self.node.name));
        }
        let list = |names: &std::collections::BTreeSet<String>| {
            names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
        };
        let here = self.node.zone.as_deref().unwrap_or_default();
        match (endpoint.hints.nodes.is_empty(), endpoint.hints.zones.is_empty()) {
            (_, false) if !endpoint.hints.zones.contains(here) => format!(
                "its hints are for zone {}, and the node is in {here}",
                list(&endpoint.hints.zones)
            ),
            (false, _) => format!(
                "its hints are for node {}, and this is {}",
                list(&endpoint.hints.nodes),
                self.node.name
            ),
            _ => "others are nearer".to_owned(),
        }
    }

    /// How the node knows that the packet is from one of its pods, or that it is not.
    fn pod_test(&self, is: bool) -> String {
        let from = self.packet.source.ip();
        match &self.node.local_detector {
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
    fn why_masqueraded(&self, endpoint: &Endpoint, masquerade: Option<Masquerade>) -> String {
        if let Some(masquerade) = masquerade {
            return self.why_all_masqueraded(masquerade);
        }
        if endpoint.address.ip() == self.packet.source.ip() {
            return "it talks to itself, and would answer itself directly otherwise".to_owned();
        }
        "its source is a cluster IP, which every node has, so that no answer would come back"
            .to_owned()
    }

    fn why_all_masqueraded(&self, masquerade: Masquerade) -> String {
        match masquerade {
            Masquerade::All => "masqueradeAll is set".to_owned(),
            Masquerade::Stranger => {
                format!("it is from no pod of this node ({})", self.pod_test(false))
            }
            Masquerade::ComesBack => "externalTrafficPolicy is Cluster: the answer must come back \
                                      through this node"
                .to_owned(),
            Masquerade::OwnTraffic => FROM_NODE.to_owned(),
        }
    }

    fn because(&self) -> Vec<String> {
        match self.reason {
            Reason::Endpoints { spread, masquerade } => self.why_balanced(spread, masquerade),
            Reason::SourceRanges => {
                vec![format!("loadBalancerSourceRanges do not hold {}", self.packet.source.ip())]
            }
            Reason::NoEndpoint { elsewhere, unrefused } => {
                let beyond = "iptables mode refuses at outside addresses in INPUT and FORWARD \
                              only, where packets that the node itself sends elsewhere never come \
                              by";
                let beyond = unrefused.then(|| beyond.to_owned());
                std::iter::once(self.why_nobody(elsewhere)).chain(beyond).collect()
            }
            Reason::HealthCheck | Reason::NobodyAnswers | Reason::Unallocated => {
                unreachable!("a Service answers at this frontend")
            }
        }
    }

    fn why_nobody(&self, elsewhere: bool) -> String {
        if elsewhere {
            let node = or_this(&self.node.name);
            return format!("{} is Local, and no endpoint is on {node}", self.policy_name());
        }
        match self.service.endpoints.len() {
            0 => "the Service has no endpoints".to_owned(),
            1 => "its only endpoint is not ready".to_owned(),
            n => format!("none of its {n} endpoints is ready"),
        }
    }

    fn why_balanced(&self, spread: Spread, masquerade: Option<Masquerade>) -> Vec<String> {
        let name = self.policy_name();
        let own = |who| format!("{name} is Local, but {who}, which may use all endpoints");
        let local = match spread {
            Spread::Cluster => None,
            Spread::Local => {
                Some(format!("{name} is Local: only endpoints on this node may get it"))
            }
            Spread::ClusterForPod => Some(own("it comes from a pod of this node")),
            Spread::ClusterForNode => Some(own(FROM_NODE)),
            Spread::ClusterForLackOfLocal => {
                Some(format!("{name} is Local, but IPVS mode falls back to all endpoints"))
            }
        };
        let source = match masquerade {
            Some(masquerade) => format!(
                "the source becomes the node's address: {}",
                self.why_all_masqueraded(masquerade)
            ),
            None if self.is_internal() => {
                format!("the source address is kept: {}", self.pod_test(true))
            }
            None => "the source address is kept".to_owned(),
        };
        let affinity = self.service.affinity.map(|affinity| {
            format!(
                "sessionAffinity is ClientIP: the shares are those of a new client, which then \
                 keeps its endpoint for {} s after its last packet",
                affinity.timeout_seconds
            )
        });
        local.into_iter().chain([source]).chain(affinity).collect()
    }
}

const FROM_NODE: &str = "it comes from the node itself";

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
