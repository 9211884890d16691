//! Objects into Irs: Services and their slices brought together, for one node.
//!
//! Invariant: knows objects and no texts; places are handed through.

use crate::diagnostic::Finding;
use crate::meta::ObjectName;
use crate::node::{self, NodeObject};
use crate::place::{At, Span};
use crate::reader::Reader;
use crate::service::{ServiceObject, ServicePort};
use crate::settings::Settings;
use crate::slice::Slice;
use crate::warning::{NodeNeed, NodeProblem, SliceProblem, Warning};
use ipnet::IpNet;
use nfc_ir::node::NodePortMatch;
use nfc_ir::{
    Endpoint, Family, Flaw, FrontendKey, Ir, Node, NodePortAddresses, ProxyMode, Service,
    ServiceName, TrafficPolicy,
};
use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;
use std::net::{IpAddr, SocketAddr};

/// All objects of an input.
#[derive(Default)]
pub(crate) struct Objects {
    pub(crate) services: BTreeMap<ObjectName, ServiceObject>,
    /// Services that are not proxied, by name, and where each stands.
    pub(crate) skipped: BTreeMap<ObjectName, Span>,
    pub(crate) slices: Vec<Slice>,
    pub(crate) old_slices: Vec<Slice>,
    pub(crate) nodes: Vec<NodeObject>,
    pub(crate) service_cidrs: Vec<IpNet>,
}

/// Makes the Irs. Flaws that only show between objects become findings. The slices are
/// used up.
pub(crate) fn assemble(
    reader: &mut Reader<'_>,
    objects: &mut Objects,
    settings: &Settings,
) -> BTreeMap<Family, Ir> {
    let mut slices = slices_by_service(reader, objects);
    let objects = &*objects;
    let own = node::own(reader, settings, &objects.nodes);
    check_ports(reader, objects, &mut slices);
    if own.is_none() && settings.node_name().is_empty() {
        let pairs = with_slices(objects, &mut slices);
        let local = pairs.filter(|(service, slices)| needs_name(service) && !slices.is_empty());
        warn_of_need(reader, NodeNeed::Name, local.map(|(s, _)| s.name.to_string()));
    }
    let (mut irs, mut told) = (BTreeMap::new(), BTreeSet::new());
    for family in families(objects, settings) {
        let node = node::resolve(reader, settings, own, &objects.service_cidrs, family);
        let compiler = Compiler { node: &node, family };
        let pairs = with_slices(objects, &mut slices);
        let services: Vec<_> =
            pairs.flat_map(|(service, slices)| compiler.services(service, slices)).collect();
        if node.addresses.is_empty() && needs_addresses(&node, settings.mode, family) {
            let exposed = services.iter().filter(|s| s.node_port.is_some());
            let need = NodeNeed::Addresses(family);
            warn_of_need(reader, need, exposed.map(|s| s.name.to_string()));
        }
        match Ir::new(family, node.clone(), services) {
            Ok(ir) => {
                for shadowed in ir.shadowed() {
                    reader.warn(Warning::Shadowed(shadowed.clone()));
                }
                irs.insert(family, ir);
            }
            Err(flaws) => blame(reader, objects, &flaws, &mut told),
        }
    }
    irs
}

fn families(objects: &Objects, settings: &Settings) -> BTreeSet<Family> {
    let ips = objects.services.values().flat_map(|s| &s.cluster_ips);
    let used = ips.map(|ip| Family::of(ip.value));
    if settings.families.is_empty() { used.collect() } else { settings.families.clone() }
}

/// The slices of all Services that are there, sorted by Service. Old Endpoints count only
/// for Services that no slice belongs to.
fn slices_by_service(reader: &mut Reader<'_>, objects: &mut Objects) -> Vec<Slice> {
    let (mut slices, old) = (take(&mut objects.slices), take(&mut objects.old_slices));
    slices.retain(|slice| claims(reader, objects, slice));
    if !old.is_empty() {
        let sliced: BTreeSet<_> = slices.iter().map(|s| s.service.clone()).collect();
        let mut warned = BTreeSet::new();
        for slice in old {
            if sliced.contains(&slice.service) || !claims(reader, objects, &slice) {
                continue;
            }
            if warned.insert(slice.service.clone()) {
                reader.warn(Warning::OldEndpoints { service: slice.service.to_string() });
            }
            slices.push(slice);
        }
    }
    slices.sort_by(|a, b| a.service.cmp(&b.service));
    slices
}

/// Each Service with its own part of `slices`, which are sorted as the Services are and all
/// belong to one.
fn with_slices<'o>(
    objects: &'o Objects,
    slices: &'o mut [Slice],
) -> impl Iterator<Item = (&'o ServiceObject, &'o mut [Slice])> {
    let mut rest = slices;
    objects.services.values().map(move |service| {
        let own = rest.iter().take_while(|s| s.service == service.name).count();
        let (own, behind) = take(&mut rest).split_at_mut(own);
        rest = behind;
        (service, own)
    })
}

/// Whether the slice's Service is there and proxied; one that is not there is worth a word.
fn claims(reader: &mut Reader<'_>, objects: &Objects, slice: &Slice) -> bool {
    let there = objects.services.contains_key(&slice.service);
    if !there && !objects.skipped.contains_key(&slice.service) {
        reader.warn(Warning::Slice {
            place: reader.place(slice.span),
            object: format!("{} {}", slice.kind, slice.name),
            problem: SliceProblem::Orphan { service: slice.service.to_string() },
        });
    }
    there
}

/// Warns of ports of slices that no port of their Service matches.
fn check_ports(reader: &mut Reader<'_>, objects: &Objects, slices: &mut [Slice]) {
    for (service, slices) in with_slices(objects, slices) {
        for slice in slices {
            let strangers = slice.ports.iter().filter(|port| {
                let same = |p: &&ServicePort| p.name == port.name && p.protocol == port.protocol;
                !service.ports.iter().any(|p| same(&p))
            });
            for port in strangers {
                let ports = service.ports.iter();
                reader.warn(Warning::Slice {
                    place: reader.place(port.span),
                    object: format!("{} {}", slice.kind, slice.name),
                    problem: SliceProblem::UnmatchedPort {
                        port: port.name.clone(),
                        protocol: port.protocol,
                        service: service.name.to_string(),
                        has: ports.map(|p| (p.name.clone(), p.protocol)).collect(),
                    },
                });
            }
        }
    }
}

/// What is needed to make the Services of one family.
struct Compiler<'o> {
    node: &'o Node,
    family: Family,
}

impl Compiler<'_> {
    /// One Service for each port, if the object has a cluster IP of the family. Endpoints
    /// that have become the Ir's are let go of, or a large input would be held twice.
    fn services(&self, object: &ServiceObject, slices: &mut [Slice]) -> Vec<Service> {
        let cluster_ip = object.cluster_ips.iter().find(|ip| self.has(ip.value));
        let Some(cluster_ip) = cluster_ip else {
            return Vec::new();
        };
        let ports = object.ports.iter();
        let services =
            ports.map(|port| self.service(object, port, cluster_ip.value, slices)).collect();
        for slice in slices.iter_mut().filter(|s| s.family == self.family) {
            slice.endpoints = Vec::new();
        }
        services
    }

    fn service(
        &self,
        object: &ServiceObject,
        port: &ServicePort,
        cluster_ip: IpAddr,
        slices: &[Slice],
    ) -> Service {
        let own = |ips: &[At<IpAddr>]| {
            let values = ips.iter().map(|ip| ip.value);
            values.filter(|ip| self.has(*ip)).collect()
        };
        let ranges = object.source_ranges.iter();
        Service {
            name: service_name(object, port),
            protocol: port.protocol,
            cluster_ip,
            port: port.port,
            node_port: port.node_port.map(|p| p.value),
            external_ips: own(&object.external_ips),
            load_balancer_ips: own(&object.load_balancer_ips),
            source_ranges: ranges.filter(|r| self.has(r.addr())).copied().collect(),
            internal_policy: object.internal_policy,
            external_policy: object.external_policy,
            affinity: object.affinity,
            health_check_port: object.health_check_port,
            scheduler: object.scheduler,
            endpoints: self.endpoints(port, slices),
        }
    }

    fn endpoints(&self, port: &ServicePort, slices: &[Slice]) -> Vec<Endpoint> {
        let mut endpoints = Vec::new();
        for slice in slices.iter().filter(|s| s.family == self.family) {
            let same =
                |p: &&crate::slice::SlicePort| p.name == port.name && p.protocol == port.protocol;
            for slice_port in slice.ports.iter().filter(same) {
                endpoints.extend(slice.endpoints.iter().map(|endpoint| Endpoint {
                    address: SocketAddr::new(endpoint.address, slice_port.port.get()),
                    weight: endpoint.weight,
                    local: self.is_own_node(endpoint.node.as_deref()),
                    ready: endpoint.ready,
                    serving: endpoint.serving,
                    terminating: endpoint.terminating,
                    hints: endpoint.hints.as_deref().cloned().unwrap_or_default(),
                }));
            }
        }
        endpoints
    }

    fn is_own_node(&self, name: Option<&str>) -> bool {
        !self.node.name.is_empty() && name == Some(self.node.name.as_str())
    }

    fn has(&self, address: IpAddr) -> bool {
        Family::of(address) == self.family
    }
}

fn service_name(object: &ServiceObject, port: &ServicePort) -> ServiceName {
    ServiceName {
        namespace: object.name.namespace.clone(),
        name: object.name.name.clone(),
        port: port.name.clone(),
    }
}

/// Whether node ports answer at addresses that must be written down one by one. Otherwise
/// the kernel is asked which addresses are local.
fn needs_addresses(node: &Node, mode: ProxyMode, family: Family) -> bool {
    let on_primary = mode.node_ports_on_primary_only()
        && node.node_port_addresses == NodePortAddresses::ModeDefault;
    let exact = matches!(node.node_port_match(mode, family), NodePortMatch::Exactly(_));
    exact || on_primary || mode == ProxyMode::Ipvs
}

/// Whether the Service cares which endpoints are local.
fn needs_name(service: &ServiceObject) -> bool {
    [service.internal_policy, service.external_policy].contains(&TrafficPolicy::Local)
}

fn warn_of_need(
    reader: &mut Reader<'_>,
    need: NodeNeed,
    mut services: impl Iterator<Item = String>,
) {
    if let Some(service) = services.next() {
        let others = services.count();
        reader.warn(Warning::Node(NodeProblem::Unknown { need, service, others }));
    }
}

/// Points from flaws of an Ir back to the text. Services that share a cluster IP may share
/// many ports of it, and those that share a node port do so in both families; `told` has the
/// places of which that was said.
fn blame(
    reader: &mut Reader<'_>,
    objects: &Objects,
    flaws: &[Flaw],
    told: &mut BTreeSet<(Span, Option<Span>)>,
) {
    for flaw in flaws {
        let finding = match flaw {
            Flaw::Conflict { service, key: FrontendKey::Address(..), by }
                if object_name(service) == object_name(by) =>
            {
                let spans = (port_span(objects, service), port_span(objects, by));
                let (second, first) = (spans.0.max(spans.1), spans.0.min(spans.1));
                Finding::new(second, flaw.to_string(), "expected a number of its own")
                    .related(first, "first taken here")
                    .help("ports of one Service have the same number under two protocols only")
            }
            Flaw::Conflict { service, key, by } => {
                let spans = (claim_span(objects, service, key), claim_span(objects, by, key));
                let (second, first) = (spans.0.max(spans.1), spans.0.min(spans.1));
                let title = flaw.to_string();
                conflict(key, title, second, first)
            }
            Flaw::Duplicate { service, .. } | Flaw::WrongFamily { service, .. } => {
                Finding::new(object_span(objects, service), flaw.to_string(), "here")
            }
            Flaw::MasqueradeBit { .. } => {
                Finding::new(Span::NOWHERE, flaw.to_string(), "in the settings")
                    .help("give --iptables-masquerade-bit a number from 0 to 31")
            }
        };
        let places = (finding.span, finding.related.as_ref().map(|r| r.0));
        if told.insert(places) {
            reader.find(finding);
        }
    }
}

fn conflict(key: &FrontendKey, title: String, second: Span, first: Span) -> Finding {
    let (label, help) = match key {
        FrontendKey::Address(..) => (
            "expected an address of its own",
            "the API server gives each cluster IP to one Service; are these objects of \
             different clusters, or copies of one another?",
        ),
        FrontendKey::NodePort(..) => (
            "expected a port of its own",
            "a node port belongs to one Service in the whole cluster; choose another",
        ),
    };
    Finding::new(second, title, label).related(first, "first taken here").help(help)
}

/// Where the Service claims what `key` says.
fn claim_span(objects: &Objects, name: &ServiceName, key: &FrontendKey) -> Span {
    let object = object_name(name);
    let Some(service) = objects.services.get(&object) else {
        return Span::default();
    };
    let claim = match key {
        FrontendKey::Address(ip, ..) => {
            service.cluster_ips.iter().find(|at| at.value == *ip).map(|at| at.span)
        }
        FrontendKey::NodePort(protocol, _) => service
            .ports
            .iter()
            .find(|port| port.name == name.port && port.protocol == *protocol)
            .and_then(|port| port.node_port)
            .map(|at| at.span),
    };
    claim.unwrap_or(service.span)
}

/// Where the port of a Service stands.
fn port_span(objects: &Objects, name: &ServiceName) -> Span {
    let service = objects.services.get(&object_name(name));
    let port = service.and_then(|s| s.ports.iter().find(|port| port.name == name.port));
    port.map(|port| port.span).unwrap_or_default()
}

fn object_span(objects: &Objects, name: &ServiceName) -> Span {
    let service = objects.services.get(&object_name(name));
    service.map(|s| s.span).unwrap_or_default()
}

fn object_name(name: &ServiceName) -> ObjectName {
    ObjectName { namespace: name.namespace.clone(), name: name.name.clone() }
}
