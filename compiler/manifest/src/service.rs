//! Service objects (v1).
//!
//! Invariant: one object at a time; what endpoints it has is decided elsewhere.

use crate::diagnostic::Finding;
use crate::meta::{Meta, ObjectName};
use crate::name::NameForm;
use crate::place::{At, Span};
use crate::reader::{Fields, Reader};
use crate::tree::Tree;
use crate::warning::Warning;
use ipnet::IpNet;
use nfc_ir::{Affinity, Family, Port, Protocol, Scheduler, TrafficPolicy};
use std::num::NonZeroU32;

/// A Service that is proxied.
#[derive(Clone, Debug)]
pub(crate) struct ServiceObject {
    pub(crate) name: ObjectName,
    /// Where the name stands.
    pub(crate) span: Span,
    /// At most one of each family.
    pub(crate) cluster_ips: Vec<At<std::net::IpAddr>>,
    pub(crate) external_ips: Vec<At<std::net::IpAddr>>,
    pub(crate) load_balancer_ips: Vec<At<std::net::IpAddr>>,
    pub(crate) source_ranges: Vec<IpNet>,
    pub(crate) internal_policy: TrafficPolicy,
    pub(crate) external_policy: TrafficPolicy,
    pub(crate) affinity: Option<Affinity>,
    pub(crate) health_check_port: Option<Port>,
    /// `None`: the default of the mode.
    pub(crate) scheduler: Scheduler,
    pub(crate) ports: Vec<ServicePort>,
}

/// One of its ports.
#[derive(Clone, Debug)]
pub(crate) struct ServicePort {
    pub(crate) name: String,
    /// Where the port's name stands, or its number when it has none.
    pub(crate) span: Span,
    pub(crate) protocol: Protocol,
    pub(crate) port: Port,
    pub(crate) node_port: Option<At<Port>>,
}

/// What a Service object turned out to be.
pub(crate) enum Reading {
    /// One that is proxied.
    Proxied(Box<ServiceObject>),
    /// One that is not: headless, ExternalName, another proxy's.
    Skipped(ObjectName, Span),
    /// One with errors that hide what it is.
    Unreadable,
}

pub(crate) const PROTOCOLS: [(&str, Protocol); 3] =
    [("TCP", Protocol::Tcp), ("UDP", Protocol::Udp), ("SCTP", Protocol::Sctp)];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    ClusterIp,
    NodePort,
    LoadBalancer,
    ExternalName,
}

const TYPES: [(&str, Type); 4] = [
    ("ClusterIP", Type::ClusterIp),
    ("NodePort", Type::NodePort),
    ("LoadBalancer", Type::LoadBalancer),
    ("ExternalName", Type::ExternalName),
];

const POLICIES: [(&str, TrafficPolicy); 2] =
    [("Cluster", TrafficPolicy::Cluster), ("Local", TrafficPolicy::Local)];

const FAMILIES: [(&str, Family); 2] = [("IPv4", Family::Ipv4), ("IPv6", Family::Ipv6)];

/// All fields of a Service.
const FIELDS: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];

/// All fields of a ServiceSpec (`k8s.io/api/core/v1/types.go`), to tell a slip of the pen
/// from a field that does not matter here.
const SPEC_FIELDS: [&str; 20] = [
    "ports",
    "selector",
    "clusterIP",
    "clusterIPs",
    "type",
    "externalIPs",
    "sessionAffinity",
    "loadBalancerIP",
    "loadBalancerSourceRanges",
    "externalName",
    "externalTrafficPolicy",
    "healthCheckNodePort",
    "publishNotReadyAddresses",
    "sessionAffinityConfig",
    "ipFamilies",
    "ipFamilyPolicy",
    "allocateLoadBalancerNodePorts",
    "loadBalancerClass",
    "internalTrafficPolicy",
    "trafficDistribution",
];

const PORT_FIELDS: [&str; 6] =
    ["name", "protocol", "appProtocol", "port", "targetPort", "nodePort"];

/// kube-proxy's default of `sessionAffinityConfig.clientIP.timeoutSeconds`: three hours.
const AFFINITY_SECONDS: i64 = 10_800;

/// The longest affinity that the API server admits: a day.
const AFFINITY_SECONDS_MAX: i64 = 86_400;

/// Reads the Service at `tree`.
pub(crate) fn read(reader: &mut Reader<'_>, tree: &Tree<'_>) -> Reading {
    let Some(object) = reader.fields(tree) else {
        return Reading::Unreadable;
    };
    object.check(reader, &FIELDS);
    let Some(meta) = Meta::read(reader, &object, "Service") else {
        return Reading::Unreadable;
    };
    let skipped = || Reading::Skipped(meta.name.clone(), meta.span);
    if meta.is_foreign() {
        return skipped();
    }
    let Some(spec) = object.fields(reader, "spec") else {
        reader.find(
            Finding::new(meta.span, "this Service has no `spec`", "expected `spec`")
                .help("a Service says in `spec` where it answers"),
        );
        return Reading::Unreadable;
    };
    spec.check(reader, &SPEC_FIELDS);
    let kind = spec.word(reader, "type", &TYPES);
    if kind == Some(Type::ExternalName) || is_headless(&spec) {
        return skipped();
    }
    let kind = kind.unwrap_or(Type::ClusterIp);
    let errors_before = reader.findings().len();
    let cluster_ips = cluster_ips(reader, &spec);
    if cluster_ips.is_empty() && reader.findings().len() == errors_before {
        reader.warn(Warning::NoClusterIp {
            place: reader.place(meta.span),
            service: meta.name.to_string(),
        });
        return skipped();
    }
    let mut service = ServiceObject { cluster_ips, ..blank(&meta) };
    read_addresses(reader, &object, &spec, &mut service);
    read_policies(reader, &spec, kind, &mut service);
    service.affinity = affinity(reader, &spec);
    service.scheduler = scheduler(reader, &meta);
    service.ports = ports(reader, &spec, kind, &meta);
    Reading::Proxied(Box::new(service))
}

fn blank(meta: &Meta<'_, '_>) -> ServiceObject {
    ServiceObject {
        name: meta.name.clone(),
        span: meta.span,
        cluster_ips: Vec::new(),
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        source_ranges: Vec::new(),
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        affinity: None,
        health_check_port: None,
        scheduler: Scheduler::default(),
        ports: Vec::new(),
    }
}

fn is_headless(spec: &Fields<'_, '_>) -> bool {
    spec.get("clusterIP").is_some_and(|ip| ip.is_text("None"))
        || spec
            .get("clusterIPs")
            .is_some_and(|ips| ips.items().first().is_some_and(|ip| ip.is_text("None")))
}

/// `clusterIPs`, or `clusterIP` where there is no list, checked against `ipFamilies`.
fn cluster_ips(reader: &mut Reader<'_>, spec: &Fields<'_, '_>) -> Vec<At<std::net::IpAddr>> {
    let single =
        spec.get("clusterIP").filter(|ip| !ip.is_text("")).and_then(|ip| reader.address(ip));
    let listed = addresses(reader, spec, "clusterIPs");
    if let (Some(single), Some(first)) = (single, listed.first())
        && single.value != first.value
    {
        let title = format!("clusterIP {} is not the first of clusterIPs", single.value);
        reader.find(
            Finding::new(single.span, title, format!("expected {}", first.value))
                .related(first.span, "because it is first here")
                .help("write the same address in both"),
        );
    }
    let ips = if listed.is_empty() { single.into_iter().collect() } else { listed };
    check_families(reader, spec, &ips);
    one_of_each_family(reader, ips)
}

fn check_families(reader: &mut Reader<'_>, spec: &Fields<'_, '_>, ips: &[At<std::net::IpAddr>]) {
    for (i, tree) in spec.list(reader, "ipFamilies").iter().enumerate() {
        let Some(family) = reader.word(tree, "family", &FAMILIES) else {
            continue;
        };
        let Some(ip) = ips.get(i) else { continue };
        if Family::of(ip.value) != family {
            let title = format!("cluster IP {} is not an {family} address", ip.value);
            reader.find(
                Finding::new(ip.span, title, format!("expected an {family} address"))
                    .related(tree.span, "because of this family")
                    .help("clusterIPs and ipFamilies must be in the same order"),
            );
        }
    }
}

fn one_of_each_family(
    reader: &mut Reader<'_>,
    ips: Vec<At<std::net::IpAddr>>,
) -> Vec<At<std::net::IpAddr>> {
    let mut kept: Vec<At<std::net::IpAddr>> = Vec::with_capacity(ips.len());
    for ip in ips {
        let family = Family::of(ip.value);
        match kept.iter().find(|k| Family::of(k.value) == family) {
            None => kept.push(ip),
            Some(first) => {
                let title = format!("a Service has one {family} cluster IP, not two");
                reader.find(
                    Finding::new(ip.span, title, "expected the other family")
                        .related(first.span, "the first one")
                        .help("remove one of the two"),
                );
            }
        }
    }
    kept
}

/// The addresses of the list under `key`. Empty texts are nothing, as for kube-proxy.
fn addresses(
    reader: &mut Reader<'_>,
    fields: &Fields<'_, '_>,
    key: &str,
) -> Vec<At<std::net::IpAddr>> {
    let items = fields.list(reader, key).iter();
    items.filter(|item| !item.is_text("")).filter_map(|item| reader.address(item)).collect()
}

fn read_addresses(
    reader: &mut Reader<'_>,
    object: &Fields<'_, '_>,
    spec: &Fields<'_, '_>,
    service: &mut ServiceObject,
) {
    service.external_ips = addresses(reader, spec, "externalIPs");
    for item in spec.list(reader, "loadBalancerSourceRanges") {
        let blank = reader.text(item).filter(|t| !t.value.trim().is_empty());
        service.source_ranges.extend(blank.and_then(|t| reader.block_in(t)).map(|b| b.value));
    }
    let status = object.fields(reader, "status");
    let balancer = status.and_then(|s| s.fields(reader, "loadBalancer"));
    let ingress = balancer.map(|b| b.list(reader, "ingress"));
    for item in ingress.unwrap_or_default() {
        service.load_balancer_ips.extend(load_balancer_ip(reader, item));
    }
}

/// The address of an ingress point. One without address has a host name, which is not our
/// business; one in mode `Proxy` (KEP-1860) delivers packets to the node itself.
fn load_balancer_ip(reader: &mut Reader<'_>, tree: &Tree<'_>) -> Option<At<std::net::IpAddr>> {
    let ingress = reader.fields(tree)?;
    let virtual_ip = ingress.word(reader, "ipMode", &[("VIP", true), ("Proxy", false)]);
    let ip = ingress.get("ip").filter(|ip| !ip.is_text(""))?;
    reader.address(ip).filter(|_| virtual_ip.unwrap_or(true))
}

fn read_policies(
    reader: &mut Reader<'_>,
    spec: &Fields<'_, '_>,
    kind: Type,
    service: &mut ServiceObject,
) {
    let internal = spec.word(reader, "internalTrafficPolicy", &POLICIES);
    let external = spec.word(reader, "externalTrafficPolicy", &POLICIES);
    let health_check = spec.get("healthCheckNodePort").and_then(|port| reader.optional_port(port));
    service.internal_policy = internal.unwrap_or_default();
    if kind != Type::ClusterIp || !service.external_ips.is_empty() {
        service.external_policy = external.unwrap_or_default();
    }
    if kind == Type::LoadBalancer && service.external_policy == TrafficPolicy::Local {
        service.health_check_port = health_check;
    }
}

fn affinity(reader: &mut Reader<'_>, spec: &Fields<'_, '_>) -> Option<Affinity> {
    let by_client = spec.word(reader, "sessionAffinity", &[("ClientIP", true), ("None", false)]);
    let config = spec.fields(reader, "sessionAffinityConfig");
    let client = config.and_then(|c| c.fields(reader, "clientIP"));
    let timeout = client.and_then(|c| c.get("timeoutSeconds"));
    let range = 1..=AFFINITY_SECONDS_MAX;
    let seconds = timeout.map_or(Some(AFFINITY_SECONDS), |tree| {
        reader.integer(tree, range, "timeout of session affinity")
    });
    let timeout_seconds = seconds.and_then(|s| u32::try_from(s).ok()).and_then(NonZeroU32::new)?;
    (by_client == Some(true)).then_some(Affinity { timeout_seconds })
}

fn scheduler(reader: &mut Reader<'_>, meta: &Meta<'_, '_>) -> Scheduler {
    let text = meta.annotation(reader, "nfc.dev/scheduler");
    let choices = Scheduler::ALL.map(|scheduler| (scheduler.name(), scheduler));
    text.and_then(|text| reader.word_in(text, "scheduler", &choices)).unwrap_or_default()
}

fn ports(
    reader: &mut Reader<'_>,
    spec: &Fields<'_, '_>,
    kind: Type,
    meta: &Meta<'_, '_>,
) -> Vec<ServicePort> {
    let items = spec.list(reader, "ports");
    if spec.get("ports").is_none_or(Tree::is_empty_list) {
        let span = if spec.has("ports") { spec.key_span("ports") } else { meta.span };
        reader.find(
            Finding::new(span, "this Service has no ports", "expected `spec.ports`")
                .help("a Service answers at its ports; give it at least one"),
        );
    }
    let mut ports: Vec<ServicePort> = Vec::with_capacity(items.len());
    for item in items {
        let Some(port) = port(reader, item, kind, meta) else {
            continue;
        };
        let is_like =
            |p: &&ServicePort| p.name == port.name || p.name.is_empty() || port.name.is_empty();
        match ports.iter().find(is_like) {
            None => ports.push(port),
            Some(first) => reader.find(indistinct(first, &port)),
        }
    }
    ports
}

/// What is wrong with two ports of the same name, or of which only one has a name.
fn indistinct(first: &ServicePort, second: &ServicePort) -> Finding {
    let title = match (first.name.as_str(), second.name.as_str()) {
        ("", "") => "a second port without a name".to_owned(),
        (name, same) if name == same => format!("a second port named `{name}`"),
        _ => "one of several ports has no name".to_owned(),
    };
    let is_first = first.name.is_empty() && !second.name.is_empty();
    let (wrong, other, label) = match is_first {
        true => (first, second, "another one"),
        false => (second, first, "the first one"),
    };
    Finding::new(wrong.span, title, "expected a name of its own")
        .related(other.span, label)
        .help("ports of one Service are told apart by name; name every port")
}

fn port(
    reader: &mut Reader<'_>,
    tree: &Tree<'_>,
    kind: Type,
    meta: &Meta<'_, '_>,
) -> Option<ServicePort> {
    let fields = reader.fields(tree)?;
    fields.check(reader, &PORT_FIELDS);
    let name = fields.optional_name(reader, "name", NameForm::Label);
    let protocol = fields.word(reader, "protocol", &PROTOCOLS);
    let node_port = fields.get("nodePort").and_then(|at| {
        let value = reader.optional_port(at)?;
        Some(At { value, span: at.span })
    });
    let node_port = node_port.filter(|at| {
        let useful = matches!(kind, Type::NodePort | Type::LoadBalancer);
        if !useful {
            reader.warn(Warning::UselessNodePort {
                place: reader.place(at.span),
                service: meta.name.to_string(),
            });
        }
        useful
    });
    let Some(number) = fields.get("port") else {
        reader.find(
            Finding::new(tree.span, "this port has no number", "expected `port`")
                .help("`port` is the number at which the Service answers"),
        );
        return None;
    };
    let span = name.map_or(number.span, |n| n.span);
    let number = reader.port(number);
    // What its name was meant to be is not known, so it is not taken for one without a name.
    if name.is_none() && fields.get("name").is_some_and(|name| !name.is_text("")) {
        return None;
    }
    Some(ServicePort {
        name: name.map_or("", |n| n.value).to_owned(),
        span,
        protocol: protocol.unwrap_or(Protocol::Tcp),
        port: number?,
        node_port,
    })
}
