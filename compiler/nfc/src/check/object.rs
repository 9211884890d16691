//! Services and slices as they are written, for rules that ask about fields.
//!
//! Invariant: reads forgivingly; what is not there or makes no sense is left out, for
//! loading has said so already.

use nfc_ir::Family;
use nfc_manifest::{Place, Written, WrittenObject};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// All objects that rules ask about.
pub(super) struct Objects<'a> {
    pub(super) services: Vec<Service<'a>>,
    /// By the Service that they belong to.
    slices: BTreeMap<String, Vec<Slice<'a>>>,
    /// The name of the Service that has a cluster IP.
    owners: BTreeMap<IpAddr, String>,
    /// The blocks of all ServiceCIDR objects.
    pub(super) service_cidrs: Vec<ipnet::IpNet>,
}

/// Labels that give a Service to somebody else (`k8s.io/api/core/v1/well_known_labels.go`).
const FOREIGN: [&str; 2] =
    ["service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"];

/// A Service.
pub(super) struct Service<'a> {
    /// `namespace/name`.
    pub(super) name: String,
    /// Where the name stands.
    pub(super) place: &'a Place,
    pub(super) object: &'a Written,
    /// What stands under `spec`, when something does.
    pub(super) spec: Option<&'a Written>,
}

/// An EndpointSlice.
pub(super) struct Slice<'a> {
    /// The Service that it belongs to, `namespace/name`.
    pub(super) service: String,
    pub(super) object: &'a Written,
}

impl<'a> Objects<'a> {
    pub(super) fn of(written: &'a [WrittenObject]) -> Self {
        let mut objects = Self {
            services: Vec::new(),
            slices: BTreeMap::new(),
            owners: BTreeMap::new(),
            service_cidrs: Vec::new(),
        };
        for object in written {
            let fields = &object.fields;
            if object.is_a("Service") {
                objects.services.extend(Service::of(fields));
            } else if object.is_a("EndpointSlice") {
                if let Some(slice) = Slice::of(fields) {
                    objects.slices.entry(slice.service.clone()).or_default().push(slice);
                }
            } else if object.is_a("ServiceCIDR") {
                let listed = fields.field("spec").and_then(|spec| spec.field("cidrs"));
                let blocks = listed.map_or(&[][..], Written::items);
                let blocks = blocks.iter().filter_map(|b| b.text()?.parse::<ipnet::IpNet>().ok());
                objects.service_cidrs.extend(blocks);
            }
        }
        for service in &objects.services {
            let ips = service.cluster_ips().filter_map(|ip| ip.text()?.parse().ok());
            objects.owners.extend(ips.map(|ip| (ip, service.name.clone())));
        }
        objects
    }

    /// All slices that say whose they are.
    pub(super) fn slices(&self) -> impl Iterator<Item = &Slice<'a>> {
        self.slices.values().flatten()
    }

    /// The Service whose cluster IP this is.
    pub(super) fn owner_of(&self, ip: IpAddr) -> Option<&str> {
        self.owners.get(&ip).map(String::as_str)
    }

    /// The slices of a Service.
    pub(super) fn slices_of(&self, service: &Service<'_>) -> &[Slice<'a>] {
        self.slices.get(&service.name).map_or(&[], Vec::as_slice)
    }
}

fn namespaced(metadata: &Written, name: &str) -> String {
    let namespace = metadata.field("namespace").and_then(Written::text).unwrap_or("default");
    format!("{namespace}/{name}")
}

impl<'a> Service<'a> {
    fn of(object: &'a Written) -> Option<Self> {
        let metadata = object.field("metadata")?;
        let name = metadata.field("name")?;
        Some(Self {
            name: namespaced(metadata, name.text()?),
            place: &name.place,
            object,
            spec: object.field("spec"),
        })
    }

    pub(super) fn field(&self, name: &str) -> Option<&'a Written> {
        self.spec?.field(name)
    }

    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        self.field(name)?.text()
    }

    pub(super) fn list(&self, name: &str) -> &'a [Written] {
        self.field(name).map_or(&[], Written::items)
    }

    /// `clusterIPs`, or `clusterIP` where there is no list.
    pub(super) fn cluster_ips(&self) -> impl Iterator<Item = &'a Written> + use<'a> {
        let listed = self.list("clusterIPs");
        let single = self.field("clusterIP").filter(|_| listed.is_empty());
        listed.iter().chain(single)
    }

    pub(super) fn ports(&self) -> impl Iterator<Item = Port<'a>> {
        self.list("ports").iter().map(|written| Port { written })
    }

    pub(super) fn is_headless(&self) -> bool {
        self.text("clusterIP") == Some("None")
    }

    /// Whether kube-proxy makes rules for it, and no other proxy.
    pub(super) fn is_proxied(&self) -> bool {
        let labels = self.object.field("metadata").and_then(|metadata| metadata.field("labels"));
        let is_foreign = FOREIGN.iter().any(|l| labels.is_some_and(|all| all.field(l).is_some()));
        !is_foreign && !self.is_headless() && self.text("type") != Some("ExternalName")
    }

    /// The addresses that a load balancer has given it, and that kube-proxy answers at.
    pub(super) fn load_balancer_ips(&self) -> impl Iterator<Item = &'a Written> {
        let status = self.object.field("status").and_then(|s| s.field("loadBalancer"));
        let points = status.and_then(|b| b.field("ingress")).map_or(&[][..], Written::items);
        let is_virtual =
            |point: &&Written| point.field("ipMode").and_then(Written::text) != Some("Proxy");
        points.iter().filter(is_virtual).filter_map(|point| point.field("ip"))
    }
}

impl<'a> Slice<'a> {
    fn of(object: &'a Written) -> Option<Self> {
        let metadata = object.field("metadata")?;
        let label = metadata.field("labels")?.field("kubernetes.io/service-name")?;
        Some(Self { service: namespaced(metadata, label.text()?), object })
    }

    pub(super) fn ports(&self) -> impl Iterator<Item = Port<'a>> {
        let ports = self.object.field("ports").map_or(&[][..], Written::items);
        ports.iter().map(|written| Port { written })
    }

    pub(super) fn is_of(&self, family: Family) -> bool {
        let kind = self.object.field("addressType").and_then(Written::text);
        kind.is_some_and(|kind| kind == family.to_string())
    }

    pub(super) fn endpoints(&self) -> &'a [Written] {
        self.object.field("endpoints").map_or(&[], Written::items)
    }
}

/// A port of a Service or of a slice.
#[derive(Clone, Copy)]
pub(super) struct Port<'a> {
    pub(super) written: &'a Written,
}

impl<'a> Port<'a> {
    /// Its name, empty when it has none.
    pub(super) fn name(self) -> &'a str {
        self.written.field("name").and_then(Written::text).unwrap_or_default()
    }

    pub(super) fn protocol(self) -> &'a str {
        self.written.field("protocol").and_then(Written::text).unwrap_or("TCP")
    }

    pub(super) fn number(self, field: &str) -> Option<(u16, &'a Written)> {
        let written = self.written.field(field)?;
        Some((written.text()?.parse().ok()?, written))
    }

    /// Whether a Service's port and a slice's are the same one.
    pub(super) fn is(self, other: Port<'_>) -> bool {
        (self.name(), self.protocol()) == (other.name(), other.protocol())
    }

    /// Name and protocol, for people.
    pub(super) fn described(self) -> String {
        match self.name() {
            "" => format!("unnamed/{}", self.protocol()),
            name => format!("`{name}`/{}", self.protocol()),
        }
    }
}

/// Whether a condition of an endpoint holds, or is taken to.
pub(super) fn condition(endpoint: &Written, name: &str, default: bool) -> bool {
    let written = endpoint.field("conditions").and_then(|conditions| conditions.field(name));
    written.and_then(Written::truth).unwrap_or(default)
}
