//! EndpointSlice objects (discovery.k8s.io/v1), and old Endpoints objects (v1), which
//! become slices here.
//!
//! Invariant: one object at a time; which Service port an endpoint serves is decided
//! elsewhere.

use crate::address::parse_address;
use crate::diagnostic::Finding;
use crate::meta::{Meta, ObjectName};
use crate::name::NameForm;
use crate::place::{At, Span};
use crate::reader::{Fields, Reader};
use crate::service::PROTOCOLS;
use crate::tree::Tree;
use crate::warning::{SliceProblem, Warning};
use nfc_ir::{Family, Hints, Port, Protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::rc::Rc;

/// Endpoints of one family for one Service.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    /// `EndpointSlice`, or `Endpoints` for one made of those.
    pub(crate) kind: &'static str,
    pub(crate) name: ObjectName,
    /// Where the name stands.
    pub(crate) span: Span,
    pub(crate) service: ObjectName,
    pub(crate) family: Family,
    pub(crate) ports: Vec<SlicePort>,
    pub(crate) endpoints: Vec<SliceEndpoint>,
}

/// A port on which every endpoint of the slice listens.
#[derive(Clone, Debug)]
pub(crate) struct SlicePort {
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
    pub(crate) port: Port,
    pub(crate) span: Span,
}

/// An endpoint without its port.
#[derive(Clone, Debug)]
pub(crate) struct SliceEndpoint {
    pub(crate) address: IpAddr,
    pub(crate) node: Option<Rc<str>>,
    pub(crate) weight: NonZeroU16,
    pub(crate) ready: bool,
    pub(crate) serving: bool,
    pub(crate) terminating: bool,
    /// `None` when there are none, as most endpoints have it.
    pub(crate) hints: Option<Box<Hints>>,
}

#[derive(Clone, Copy)]
enum AddressType {
    Ip(Family),
    Fqdn,
}

const ADDRESS_TYPES: [(&str, AddressType); 3] = [
    ("IPv4", AddressType::Ip(Family::Ipv4)),
    ("IPv6", AddressType::Ip(Family::Ipv6)),
    ("FQDN", AddressType::Fqdn),
];

const SLICE_FIELDS: [&str; 6] =
    ["apiVersion", "kind", "metadata", "addressType", "endpoints", "ports"];

const PORT_FIELDS: [&str; 4] = ["name", "protocol", "port", "appProtocol"];

const ENDPOINT_FIELDS: [&str; 8] = [
    "addresses",
    "conditions",
    "hostname",
    "targetRef",
    "deprecatedTopology",
    "nodeName",
    "zone",
    "hints",
];

const CONDITION_FIELDS: [&str; 3] = ["ready", "serving", "terminating"];

/// Reads the EndpointSlice at `tree`. `None` when it is of no use, or of another proxy.
pub(crate) fn read(reader: &mut Reader<'_>, tree: &Tree<'_>) -> Option<Slice> {
    let object = reader.fields(tree)?;
    let meta = Meta::read(reader, &object, "EndpointSlice")?;
    if meta.is_foreign() {
        return None;
    }
    object.check(reader, &SLICE_FIELDS);
    let service = meta.label(reader, "kubernetes.io/service-name");
    if service.is_none() {
        warn(reader, &meta, meta.span, SliceProblem::Unlabelled);
    }
    let AddressType::Ip(family) = address_type(reader, &object, &meta)? else {
        warn(reader, &meta, meta.span, SliceProblem::Fqdn);
        return None;
    };
    let items = object.list(reader, "endpoints");
    let mut endpoints = Vec::with_capacity(items.len());
    for item in items {
        endpoints.extend(endpoint(reader, item, family, &meta));
    }
    weigh(reader, &meta, &mut endpoints);
    let items = object.list(reader, "ports");
    let mut ports = Vec::with_capacity(items.len());
    for item in items {
        ports.extend(port(reader, item, &meta));
    }
    Some(Slice {
        service: ObjectName {
            namespace: meta.name.namespace.clone(),
            name: service?.value.to_owned(),
        },
        kind: meta.kind,
        name: meta.name,
        span: meta.span,
        family,
        ports,
        endpoints,
    })
}

fn warn(reader: &mut Reader<'_>, meta: &Meta<'_, '_>, span: Span, problem: SliceProblem) {
    reader.warn(Warning::Slice {
        place: reader.place(span),
        object: format!("{} {}", meta.kind, meta.name),
        problem,
    });
}

fn address_type(
    reader: &mut Reader<'_>,
    object: &Fields<'_, '_>,
    meta: &Meta<'_, '_>,
) -> Option<AddressType> {
    if object.get("addressType").is_none() {
        reader.find(
            Finding::new(
                meta.span,
                "this EndpointSlice has no addressType",
                "expected a field `addressType`",
            )
            .help("add `addressType: IPv4` or `addressType: IPv6`"),
        );
    }
    object.word(reader, "addressType", &ADDRESS_TYPES)
}

fn endpoint(
    reader: &mut Reader<'_>,
    tree: &Tree<'_>,
    family: Family,
    meta: &Meta<'_, '_>,
) -> Option<SliceEndpoint> {
    let fields = reader.fields(tree)?;
    fields.check(reader, &ENDPOINT_FIELDS);
    let addresses = fields.list(reader, "addresses");
    let Some(first) = addresses.first() else {
        reader.find(
            Finding::new(tree.span, "this endpoint has no address", "expected `addresses`")
                .help("write `addresses: [10.0.0.1]`"),
        );
        return None;
    };
    if addresses.len() > 1 {
        warn(reader, meta, addresses[1].span, SliceProblem::SpareAddresses);
    }
    let node = fields.optional_text(reader, "nodeName");
    let conditions = fields.fields(reader, "conditions");
    if let Some(conditions) = conditions {
        conditions.check(reader, &CONDITION_FIELDS);
    }
    let mut holds = |name| conditions.and_then(|c| c.truth(reader, name));
    let (ready, serving, terminating) = (holds("ready"), holds("serving"), holds("terminating"));
    let hints = fields.fields(reader, "hints");
    let address = reader.address(first)?;
    check_family(reader, address, family);
    Some(SliceEndpoint {
        address: address.value,
        node: node.map(|n| reader.shared(n.value)),
        weight: NonZeroU16::MIN,
        ready: ready.unwrap_or(true),
        serving: serving.unwrap_or(true),
        terminating: terminating.unwrap_or(false),
        hints: hints.map(|hints| {
            let (zones, nodes) =
                (names(reader, hints, "forZones"), names(reader, hints, "forNodes"));
            Box::new(Hints { zones, nodes })
        }),
    })
}

fn check_family(reader: &mut Reader<'_>, address: At<IpAddr>, family: Family) {
    if Family::of(address.value) != family {
        let title = format!("{} is not an {family} address", address.value);
        reader.find(
            Finding::new(address.span, title, format!("expected an {family} address"))
                .help("an EndpointSlice holds addresses of its `addressType` only"),
        );
    }
}

/// The names in a list of hints.
fn names(reader: &mut Reader<'_>, hints: Fields<'_, '_>, key: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for item in hints.list(reader, key) {
        if let Some(text) = item.as_text() {
            reader.find(
                Finding::new(
                    item.span,
                    format!("`{text}` stands where a mapping belongs"),
                    "expected a mapping with a `name`",
                )
                .help(format!("write `{{name: {text}}}`")),
            );
            continue;
        }
        let fields = reader.fields(item);
        let name = fields.and_then(|f| f.optional_text(reader, "name"));
        names.extend(name.map(|n| n.value.to_owned()));
    }
    names
}

/// A port without a number means "all ports", which cannot be forwarded to; kube-proxy
/// ignores it.
fn port(reader: &mut Reader<'_>, tree: &Tree<'_>, meta: &Meta<'_, '_>) -> Option<SlicePort> {
    let fields = reader.fields(tree)?;
    fields.check(reader, &PORT_FIELDS);
    let name = fields.optional_name(reader, "name", NameForm::Label);
    let protocol = fields.word(reader, "protocol", &PROTOCOLS);
    let errors_before = reader.findings().len();
    let number = fields.get("port").and_then(|port| reader.optional_port(port));
    if number.is_none() && reader.findings().len() == errors_before {
        warn(reader, meta, tree.span, SliceProblem::Portless);
    }
    Some(SlicePort {
        name: name.map_or("", |n| n.value).to_owned(),
        protocol: protocol.unwrap_or(Protocol::Tcp),
        port: number?,
        span: tree.span,
    })
}

/// Gives endpoints the shares of the annotation `nfc.dev/weights`.
fn weigh(reader: &mut Reader<'_>, meta: &Meta<'_, '_>, endpoints: &mut [SliceEndpoint]) {
    let Some(text) = meta.annotation(reader, "nfc.dev/weights") else {
        return;
    };
    let mut weights = BTreeMap::new();
    for part in text.value.split(',').filter(|p| !p.trim().is_empty()) {
        match weight(part) {
            Some((address, weight)) => {
                weights.insert(address, (weight, reader.view().part(text, part)));
            }
            None => reader.find(
                Finding::new(
                    reader.view().part(text, part),
                    format!("`{}` is not the weight of an endpoint", part.trim()),
                    "expected an address, `=` and a number from 1 to 65535",
                )
                .help("write weights like this: 10.0.0.1=3,10.0.0.2=1"),
            ),
        }
    }
    for endpoint in endpoints.iter_mut() {
        if let Some((weight, _)) = weights.get(&endpoint.address) {
            endpoint.weight = *weight;
        }
    }
    for (address, (_, span)) in &weights {
        if !endpoints.iter().any(|e| e.address == *address) {
            let title = format!("no endpoint of this slice has the address {address}");
            reader.find(
                Finding::new(*span, title, "expected addresses of this slice only")
                    .help("each EndpointSlice has weights for its own endpoints"),
            );
        }
    }
}

fn weight(part: &str) -> Option<(IpAddr, NonZeroU16)> {
    let (address, weight) = part.split_once('=')?;
    Some((parse_address(address).ok()?, weight.trim().parse().ok()?))
}

/// Reads the Endpoints object at `tree`, as the controller that mirrors them into slices
/// does: one slice for each subset and family, with addresses that are not ready marked so.
pub(crate) fn read_old(reader: &mut Reader<'_>, tree: &Tree<'_>) -> Vec<Slice> {
    let Some(object) = reader.fields(tree) else {
        return Vec::new();
    };
    let Some(meta) = Meta::read(reader, &object, "Endpoints").filter(|m| !m.is_foreign()) else {
        return Vec::new();
    };
    let mut slices = Vec::new();
    for item in object.list(reader, "subsets") {
        let Some(subset) = reader.fields(item) else {
            continue;
        };
        let mut endpoints = old_endpoints(reader, &subset, "addresses", true);
        endpoints.extend(old_endpoints(reader, &subset, "notReadyAddresses", false));
        let items = subset.list(reader, "ports").iter();
        let ports: Vec<_> = items.filter_map(|p| port(reader, p, &meta)).collect();
        slices.extend(Family::ALL.map(|family| Slice {
            kind: meta.kind,
            name: meta.name.clone(),
            span: meta.span,
            service: meta.name.clone(),
            family,
            ports: ports.clone(),
            endpoints: of_family(&endpoints, family),
        }));
    }
    slices.retain(|slice| !slice.endpoints.is_empty());
    slices
}

fn of_family(endpoints: &[SliceEndpoint], family: Family) -> Vec<SliceEndpoint> {
    let same = |e: &&SliceEndpoint| Family::of(e.address) == family;
    endpoints.iter().filter(same).cloned().collect()
}

fn old_endpoints(
    reader: &mut Reader<'_>,
    subset: &Fields<'_, '_>,
    key: &str,
    ready: bool,
) -> Vec<SliceEndpoint> {
    let mut endpoints = Vec::new();
    for item in subset.list(reader, key) {
        let Some(fields) = reader.fields(item) else {
            continue;
        };
        let node = fields.optional_text(reader, "nodeName");
        let address = match fields.get("ip") {
            Some(ip) => reader.address(ip),
            None => {
                reader.find(
                    Finding::new(item.span, "this endpoint has no address", "expected `ip`")
                        .help("write `- ip: 10.0.0.1`"),
                );
                None
            }
        };
        endpoints.extend(address.map(|address| SliceEndpoint {
            address: address.value,
            node: node.map(|n| reader.shared(n.value)),
            weight: NonZeroU16::MIN,
            ready,
            serving: true,
            terminating: false,
            hints: None,
        }));
    }
    endpoints
}
