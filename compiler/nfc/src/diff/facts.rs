//! What there is to say about a Service, fact by fact.
//!
//! Invariant: two Services with the same facts mean the same for every packet.

use nfc_ir::{
    Affinity, Endpoint, Frontend, LocalDetector, Node, NodePortAddresses, Scheduler, Service,
    TrafficPolicy, select,
};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// What a fact is about. The order is the one in which facts are listed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The port at the cluster IP.
    ClusterIp(IpAddr),
    /// The port at an external IP.
    ExternalIp(IpAddr),
    /// The port at a load balancer IP.
    LoadBalancerIp(IpAddr),
    /// The node port.
    NodePort,
    /// A block that may come in at the load balancer IPs.
    SourceRange(String),
    /// A setting, by its name in Kubernetes.
    Setting(&'static str),
    /// An endpoint.
    Endpoint(SocketAddr),
}

impl Subject {
    /// The kind, one word for programs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ClusterIp(_) => "clusterIP",
            Self::ExternalIp(_) => "externalIP",
            Self::LoadBalancerIp(_) => "loadBalancerIP",
            Self::NodePort => "nodePort",
            Self::SourceRange(_) => "loadBalancerSourceRange",
            Self::Setting(name) => name,
            Self::Endpoint(_) => "endpoint",
        }
    }

    /// The address or block that it is about, where there is one.
    #[must_use]
    pub fn address(&self) -> Option<String> {
        match self {
            Self::ClusterIp(ip) | Self::ExternalIp(ip) | Self::LoadBalancerIp(ip) => {
                Some(ip.to_string())
            }
            Self::SourceRange(block) => Some(block.clone()),
            Self::NodePort | Self::Setting(_) | Self::Endpoint(_) => None,
        }
    }

    /// The endpoint that it is, if it is one.
    #[must_use]
    pub fn endpoint(&self) -> Option<SocketAddr> {
        match self {
            Self::Endpoint(address) => Some(*address),
            _ => None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        let endpoint = self.endpoint().map(|endpoint| endpoint.to_string());
        self.address().or(endpoint).map_or(Ok(()), |which| write!(f, " {which}"))
    }
}

impl From<Frontend> for Subject {
    fn from(frontend: Frontend) -> Self {
        match frontend {
            Frontend::ClusterIp(ip) => Self::ClusterIp(ip),
            Frontend::ExternalIp(ip) => Self::ExternalIp(ip),
            Frontend::LoadBalancerIp(ip) => Self::LoadBalancerIp(ip),
            Frontend::NodePort(_) => Self::NodePort,
        }
    }
}

/// What there is to say about `service` on `node`.
#[must_use]
pub fn facts(service: &Service, node: &Node) -> BTreeMap<Subject, String> {
    let mut facts = BTreeMap::new();
    for frontend in service.frontends() {
        let value = match frontend {
            Frontend::NodePort(port) => port.to_string(),
            _ => format!("port {}", service.port),
        };
        facts.insert(frontend.into(), value);
    }
    for range in &service.source_ranges {
        facts.insert(Subject::SourceRange(range.to_string()), "admitted".to_owned());
    }
    let mut set = |name, value: String| facts.insert(Subject::Setting(name), value);
    set("internalTrafficPolicy", policy(service.internal_policy));
    if service.is_external() {
        set("externalTrafficPolicy", policy(service.external_policy));
    }
    set("sessionAffinity", affinity(service.affinity));
    if let Some(port) = service.health_check_port {
        set("healthCheckNodePort", port.to_string());
    }
    if service.scheduler != Scheduler::Random {
        set("scheduler", service.scheduler.name().to_owned());
    }
    for (endpoint, share) in shares(service, node) {
        facts.insert(Subject::Endpoint(endpoint.address), share);
    }
    facts
}

fn policy(policy: TrafficPolicy) -> String {
    let word = match policy {
        TrafficPolicy::Cluster => "Cluster",
        TrafficPolicy::Local => "Local",
    };
    word.to_owned()
}

fn affinity(affinity: Option<Affinity>) -> String {
    match affinity {
        Some(affinity) => format!("ClientIP, {} s", affinity.timeout_seconds),
        None => "None".to_owned(),
    }
}

/// Every endpoint with its share of the traffic, or why it has none.
fn shares<'a>(
    service: &'a Service,
    node: &'a Node,
) -> impl Iterator<Item = (&'a Endpoint, String)> + 'a {
    let selection = select(service, node);
    service.endpoints.iter().map(move |endpoint| {
        let cluster = share(&selection.cluster, endpoint);
        let local = share(&selection.local, endpoint);
        let is_local_used = !selection.local.is_empty();
        let text = match (cluster, local) {
            (Some(cluster), None) if !is_local_used => percent(cluster),
            (None, Some(local)) if selection.cluster.is_empty() => percent(local),
            (None, None) => unused(endpoint),
            (cluster, local) => format!(
                "{} of Cluster traffic, {} of Local traffic",
                percent(cluster.unwrap_or(0.0)),
                percent(local.unwrap_or(0.0))
            ),
        };
        let here = if endpoint.local { ", on this node" } else { "" };
        (endpoint, format!("{text}{here}"))
    })
}

fn share(used: &[&Endpoint], endpoint: &Endpoint) -> Option<f64> {
    let total: f64 = used.iter().map(|e| f64::from(e.weight.get())).sum();
    let own = used.iter().find(|e| e.address == endpoint.address)?;
    Some(f64::from(own.weight.get()) / total)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn unused(endpoint: &Endpoint) -> String {
    let why = match (endpoint.ready, endpoint.terminating) {
        (true, _) => "not for this node",
        (false, true) => "terminating",
        (false, false) => "not ready",
    };
    format!("unused ({why})")
}

/// What there is to say about a node and its settings.
pub(super) fn of_node(node: &Node) -> BTreeMap<Subject, String> {
    let mut facts = BTreeMap::new();
    let mut set = |name, value: String| facts.insert(Subject::Setting(name), value);
    let detector = match &node.local_detector {
        LocalDetector::None => "nothing".to_owned(),
        LocalDetector::SourceBlock(block) => format!("source in {block}"),
        LocalDetector::Bridge(name) => format!("bridge {name}"),
        LocalDetector::InterfacePrefix(prefix) => format!("interface {prefix}*"),
    };
    let node_ports = match &node.node_port_addresses {
        NodePortAddresses::ModeDefault => "the mode's default".to_owned(),
        NodePortAddresses::Primary => "primary".to_owned(),
        NodePortAddresses::Blocks(blocks) => list(blocks),
    };
    set("name", node.name.clone());
    set("zone", node.zone.clone().unwrap_or_default());
    set("addresses", list(&node.addresses));
    set("detectLocal", detector);
    set("masqueradeAll", node.masquerade_all.to_string());
    set("masqueradeBit", node.masquerade_bit.to_string());
    set("nodePortAddresses", node_ports);
    set("localhostNodePorts", node.localhost_node_ports.to_string());
    set("serviceCIDRs", list(&node.service_blocks));
    set("tcpBeLiberal", node.conntrack_liberal.to_string());
    set("ipvsScheduler", node.ipvs_scheduler.name().to_owned());
    facts
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}
