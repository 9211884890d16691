//! One Service as chains, elements and rules.
//!
//! Invariant: sees one Service at a time; says what is wanted, not what is there already.

use super::fixed::{family_words, mark, strangers};
use super::script::{Element, Rule, Set};
use super::{Shape, names};
use nfc_backend::{Reason, Unsupported};
use nfc_ir::{Endpoint, Frontend, Ir, Scheduler, Selection, Service, TrafficPolicy, select};
use std::net::SocketAddr;

const AFFINITY: Reason = Reason {
    feature: "session affinity",
    why: "the peer shapes leave out affinity sets and the chains that use them",
};
const LOCAL_POLICY: Reason = Reason {
    feature: "traffic policy Local",
    why: "the peer shapes leave out the chains of local endpoints",
};
const SOURCE_RANGES: Reason = Reason {
    feature: "source ranges",
    why: "the peer shapes leave out firewall chains; their map stays empty",
};
const WEIGHTS: Reason =
    Reason { feature: "weights", why: "kube-proxy gives every endpoint the same share" };
const SCHEDULER: Reason =
    Reason { feature: "scheduler", why: "kube-proxy's nftables mode picks at random" };
const NAME: Reason = Reason {
    feature: "name",
    why: "it has characters that Kubernetes does not allow and a chain name cannot hold",
};

/// What a Service wants to be in the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) chains: Vec<String>,
    pub(super) elements: Vec<Element>,
    pub(super) rules: Vec<Rule>,
}

impl Content {
    /// What `service`, one of `ir`'s, wants.
    pub(super) fn of(shape: Shape, ir: &Ir, service: &Service) -> Result<Self, Unsupported> {
        if let Some(reason) = refusal(service) {
            let Service { name, protocol, .. } = service;
            return Err(Unsupported { service: name.clone(), protocol: *protocol, reason });
        }
        let wanted = Wanted::new(shape, ir, service);
        Ok(Self { chains: wanted.chains(), elements: wanted.elements(), rules: wanted.rules() })
    }
}

/// Why a Service cannot be said, if it cannot.
fn refusal(service: &Service) -> Option<Reason> {
    let local = |policy| policy == TrafficPolicy::Local;
    let refusals = [
        (!names::can_spell(service), NAME),
        (service.affinity.is_some(), AFFINITY),
        (local(service.internal_policy), LOCAL_POLICY),
        (local(service.external_policy) && service.is_external(), LOCAL_POLICY),
        (!service.source_ranges.is_empty() && !service.load_balancer_ips.is_empty(), SOURCE_RANGES),
        (service.endpoints.iter().any(|e| e.weight.get() != 1), WEIGHTS),
        (service.scheduler != Scheduler::Random, SCHEDULER),
    ];
    refusals.into_iter().find_map(|(applies, reason)| applies.then_some(reason))
}

/// Those elements of `service`, one of `ir`'s, that other Services may want as well.
pub(super) fn shared_elements(shape: Shape, ir: &Ir, service: &Service) -> Vec<(Set, String)> {
    let selection = select(service, ir.node());
    let hairpins = hairpins(shape, service, &selection).map(|key| (Set::HairpinConnections, key));
    let cluster_ip = (Set::ClusterIps, service.cluster_ip.to_string());
    hairpins.chain([cluster_ip]).collect()
}

/// Keys for the endpoints of this node, which alone can reach themselves through it.
fn hairpins<'a>(
    shape: Shape,
    service: &'a Service,
    selection: &'a Selection<'_>,
) -> impl Iterator<Item = String> + 'a {
    let local = selection.cluster.iter().filter(move |e| shape.has_hairpin_set() && e.local);
    local.map(|endpoint| {
        let (ip, port) = (endpoint.address.ip(), endpoint.address.port());
        format!("{ip} . {ip} . {} . {port}", service.protocol)
    })
}

/// One Service, with what all of its content is made from.
struct Wanted<'a> {
    shape: Shape,
    ir: &'a Ir,
    service: &'a Service,
    selection: Selection<'a>,
    /// Name of the chain that spreads over the endpoints.
    cluster_chain: String,
    /// Name of the chain for traffic from outside.
    external_chain: String,
    /// Names of the endpoints' own chains, if the shape has any, in the endpoints' order.
    endpoint_chains: Vec<String>,
}

impl<'a> Wanted<'a> {
    fn new(shape: Shape, ir: &'a Ir, service: &'a Service) -> Self {
        let selection = select(service, ir.node());
        let chain = |e: &&Endpoint| names::endpoint(service, e.address);
        let endpoint_chains = match shape {
            Shape::ChainPerEndpoint => selection.cluster.iter().map(chain).collect(),
            Shape::MapPerService | Shape::SingleEndpointRule => Vec::new(),
        };
        Self {
            shape,
            ir,
            service,
            selection,
            cluster_chain: names::service(service),
            external_chain: names::external(service),
            endpoint_chains,
        }
    }

    fn is_served_outside(&self) -> bool {
        self.selection.any && self.service.is_external()
    }

    fn chains(&self) -> Vec<String> {
        let mut chains = self.endpoint_chains.clone();
        if self.selection.any {
            chains.push(self.cluster_chain.clone());
        }
        if self.is_served_outside() {
            chains.push(self.external_chain.clone());
        }
        chains
    }

    fn elements(&self) -> Vec<Element> {
        let plain = |set, key| Element { set, key, verdict: None, comment: None };
        let cluster_ip = plain(Set::ClusterIps, self.service.cluster_ip.to_string());
        let frontends = self.service.frontends().map(|frontend| self.frontend(frontend));
        let hairpins = hairpins(self.shape, self.service, &self.selection)
            .map(|key| plain(Set::HairpinConnections, key));
        std::iter::once(cluster_ip).chain(frontends).chain(hairpins).collect()
    }

    /// Where a packet to this frontend finds what becomes of it.
    fn frontend(&self, frontend: Frontend) -> Element {
        let Service { protocol, port, .. } = self.service;
        let (served, refused) = match frontend {
            Frontend::NodePort(_) => (Set::ServiceNodeports, Set::NoEndpointNodeports),
            _ => (Set::ServiceIps, Set::NoEndpointServices),
        };
        let (key, chain) = match frontend {
            Frontend::ClusterIp(ip) => (format!("{ip} . {protocol} . {port}"), &self.cluster_chain),
            Frontend::ExternalIp(ip) | Frontend::LoadBalancerIp(ip) => {
                (format!("{ip} . {protocol} . {port}"), &self.external_chain)
            }
            Frontend::NodePort(port) => (format!("{protocol} . {port}"), &self.external_chain),
        };
        if self.selection.any {
            Element { set: served, key, verdict: Some(format!("goto {chain}")), comment: None }
        } else {
            let verdict = Some("goto reject-chain".to_owned());
            Element { set: refused, key, verdict, comment: Some(self.service.name.to_string()) }
        }
    }

    fn rules(&self) -> Vec<Rule> {
        if !self.selection.any {
            return Vec::new();
        }
        let rule = |chain: &String, text| Rule { chain: chain.clone(), text };
        let mark = mark(self.shape, self.ir.node());
        let mut rules = Vec::new();
        if self.shape == Shape::ChainPerEndpoint
            && let Some(strangers) = strangers(self.ir.node(), self.ir.family())
        {
            let Service { cluster_ip, protocol, port, .. } = self.service;
            let here = format!("{} daddr {cluster_ip} {protocol} dport {port}", self.ip());
            rules.push(rule(&self.cluster_chain, format!("{here} {strangers}{mark}")));
        }
        if self.is_served_outside() {
            rules.push(rule(&self.external_chain, mark.clone()));
            rules.push(rule(&self.external_chain, format!("goto {}", self.cluster_chain)));
        }
        rules.push(rule(&self.cluster_chain, self.spread()));
        for (chain, endpoint) in self.endpoint_chains.iter().zip(&self.selection.cluster) {
            let hairpin = format!("{} saddr {} {mark}", self.ip(), endpoint.address.ip());
            rules.push(rule(chain, hairpin));
            rules.push(rule(chain, self.to_one(endpoint.address)));
        }
        rules
    }

    /// The statement that picks an endpoint.
    fn spread(&self) -> String {
        match (self.shape, self.selection.cluster.as_slice()) {
            (Shape::ChainPerEndpoint, endpoints) => {
                let slots = slots(self.endpoint_chains.iter().map(|chain| format!("goto {chain}")));
                format!("numgen random mod {} vmap {slots}", endpoints.len())
            }
            (Shape::SingleEndpointRule, [only]) => self.to_one(only.address),
            (Shape::SingleEndpointRule | Shape::MapPerService, endpoints) => {
                let addresses = endpoints.iter().map(|e| e.address);
                let slots = slots(addresses.map(|a| format!("{} . {}", a.ip(), a.port())));
                let protocol = self.service.protocol;
                let to = format!("{} addr . port to", self.ip());
                let random = format!("numgen random mod {}", endpoints.len());
                format!("meta l4proto {protocol} dnat {to} {random} map {slots}")
            }
        }
    }

    fn to_one(&self, address: SocketAddr) -> String {
        format!("meta l4proto {} dnat to {address}", self.service.protocol)
    }

    fn ip(&self) -> &'static str {
        family_words(self.ir.family()).0
    }
}

/// An anonymous map from the numbers 0, 1, 2 and so on to `values`.
fn slots(values: impl Iterator<Item = String>) -> String {
    let numbered = values.enumerate().map(|(i, value)| format!("{i} : {value}"));
    format!("{{ {} }}", numbered.collect::<Vec<_>>().join(" , "))
}
