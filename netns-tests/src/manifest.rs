//! An Ir as a case: settings and objects that read back as the same Ir. A failure found in
//! a random sample is printed this way, so that it can be pasted into a case file.
//!
//! Invariant: writes only what the Ir says, in the words of Kubernetes.

use nfc_ir::{
    Endpoint, Family, Ir, LocalDetector, Node, NodePortAddresses, Service, TrafficPolicy,
};
use std::fmt::Write as _;

/// The sections `config` and `objects` of a case.
#[must_use]
pub fn of(ir: &Ir) -> String {
    format!("-- config\n{}-- objects\n{}", config(ir.node()), objects(ir))
}

/// The `KubeProxyConfiguration` of a node.
#[must_use]
pub fn config(node: &Node) -> String {
    let mut lines = vec![
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1".to_owned(),
        "kind: KubeProxyConfiguration".to_owned(),
        format!("hostnameOverride: {}", node.name),
        format!("conntrack: {{tcpBeLiberal: {}}}", node.conntrack_liberal),
    ];
    match &node.local_detector {
        LocalDetector::None => {}
        LocalDetector::SourceBlock(block) => lines.push(format!("clusterCIDR: \"{block}\"")),
        LocalDetector::Bridge(name) => lines.extend([
            "detectLocalMode: BridgeInterface".to_owned(),
            format!("detectLocal: {{bridgeInterface: {name}}}"),
        ]),
        LocalDetector::InterfacePrefix(prefix) => lines.extend([
            "detectLocalMode: InterfaceNamePrefix".to_owned(),
            format!("detectLocal: {{interfaceNamePrefix: {prefix}}}"),
        ]),
    }
    match &node.node_port_addresses {
        NodePortAddresses::ModeDefault => {}
        NodePortAddresses::Primary => lines.push("nodePortAddresses: [primary]".to_owned()),
        NodePortAddresses::Blocks(blocks) => {
            lines.push(format!("nodePortAddresses: {}", list(blocks)));
        }
    }
    let masquerade =
        format!("masqueradeAll: {}, masqueradeBit: {}", node.masquerade_all, node.masquerade_bit);
    let localhost = node.localhost_node_ports;
    lines.push(format!("iptables: {{{masquerade}, localhostNodePorts: {localhost}}}"));
    lines.push(format!("nftables: {{{masquerade}}}"));
    lines.join("\n") + "\n"
}

/// Node, ServiceCIDR, Services and EndpointSlices, as YAML documents.
#[must_use]
pub fn objects(ir: &Ir) -> String {
    let mut documents = vec![node_object(ir.node())];
    if !ir.node().service_blocks.is_empty() {
        documents.push(format!(
            "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {{name: kubernetes}}\n\
             spec: {{cidrs: {}}}\n",
            list(&ir.node().service_blocks)
        ));
    }
    for service in ir.services() {
        documents.push(service_object(ir.family(), service));
        documents.push(slice_object(ir, service));
    }
    documents.join("---\n")
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let quoted: Vec<_> = items.into_iter().map(|i| format!("\"{}\"", i.to_string())).collect();
    format!("[{}]", quoted.join(", "))
}

fn node_object(node: &Node) -> String {
    let mut text = format!("apiVersion: v1\nkind: Node\nmetadata:\n  name: {}\n", node.name);
    if let Some(zone) = &node.zone {
        let _ = writeln!(text, "  labels: {{topology.kubernetes.io/zone: {zone}}}");
    }
    text.push_str("status:\n  addresses:\n");
    for address in &node.addresses {
        let _ = writeln!(text, "  - {{type: InternalIP, address: \"{address}\"}}");
    }
    text
}

fn policy(policy: TrafficPolicy) -> &'static str {
    match policy {
        TrafficPolicy::Cluster => "Cluster",
        TrafficPolicy::Local => "Local",
    }
}

fn service_object(family: Family, service: &Service) -> String {
    let kind = match (service.node_port, service.load_balancer_ips.is_empty()) {
        _ if service.health_check_port.is_some() => "LoadBalancer",
        (_, false) => "LoadBalancer",
        (Some(_), true) => "NodePort",
        (None, true) => "ClusterIP",
    };
    let name = &service.name;
    let mut text = format!(
        "apiVersion: v1\nkind: Service\n\
         metadata: {{name: {}, namespace: {}, annotations: {{nfc.dev/scheduler: {}}}}}\n\
         spec:\n  type: {kind}\n  \
         clusterIP: \"{}\"\n  ipFamilies: [{family}]\n  internalTrafficPolicy: {}\n  \
         externalTrafficPolicy: {}\n  externalIPs: {}\n  loadBalancerSourceRanges: {}\n",
        name.name,
        name.namespace,
        service.scheduler.name(),
        service.cluster_ip,
        policy(service.internal_policy),
        policy(service.external_policy),
        list(&service.external_ips),
        list(&service.source_ranges),
    );
    if let Some(affinity) = service.affinity {
        let _ = writeln!(
            text,
            "  sessionAffinity: ClientIP\n  sessionAffinityConfig: {{clientIP: {{timeoutSeconds: {}}}}}",
            affinity.timeout_seconds
        );
    }
    if let Some(port) = service.health_check_port {
        let _ = writeln!(text, "  healthCheckNodePort: {port}");
    }
    let node_port = service.node_port.map_or(String::new(), |p| format!(", nodePort: {p}"));
    let _ = writeln!(
        text,
        "  ports: [{{name: \"{}\", protocol: {}, port: {}{node_port}}}]",
        name.port,
        service.protocol.name().to_uppercase(),
        service.port
    );
    let ingress = service.load_balancer_ips.iter().map(|ip| format!("{{ip: \"{ip}\"}}"));
    let ingress: Vec<_> = ingress.collect();
    let _ = writeln!(text, "status: {{loadBalancer: {{ingress: [{}]}}}}", ingress.join(", "));
    text
}

/// All endpoints of a sample's Service listen on one port, so that one slice holds them.
fn slice_object(ir: &Ir, service: &Service) -> String {
    let name = &service.name;
    let port = service.endpoints.first().map_or(1, |e| e.address.port());
    let weights = service.endpoints.iter().map(|e| format!("{}={}", e.address.ip(), e.weight));
    let weights: Vec<_> = weights.collect();
    let mut text = format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {0}-1\n  \
         namespace: {1}\n  labels: {{kubernetes.io/service-name: {0}}}\n  \
         annotations: {{nfc.dev/weights: \"{2}\"}}\naddressType: {3}\n\
         ports: [{{name: \"{4}\", protocol: {5}, port: {port}}}]\nendpoints:\n",
        name.name,
        name.namespace,
        weights.join(","),
        ir.family(),
        name.port,
        service.protocol.name().to_uppercase(),
    );
    if service.endpoints.is_empty() {
        return text.replace("endpoints:\n", "endpoints: []\n");
    }
    for endpoint in &service.endpoints {
        text.push_str(&endpoint_line(ir.node(), endpoint));
    }
    text
}

fn endpoint_line(node: &Node, endpoint: &Endpoint) -> String {
    let Endpoint { address, local, ready, serving, terminating, hints, .. } = endpoint;
    let on = if *local { node.name.as_str() } else { "another-node" };
    let zones: Vec<_> = hints.zones.iter().map(|z| format!("{{name: {z}}}")).collect();
    let hints = match zones.is_empty() {
        true => String::new(),
        false => format!(", hints: {{forZones: [{}]}}", zones.join(", ")),
    };
    format!(
        "- {{addresses: [\"{}\"], nodeName: {on}, conditions: {{ready: {ready}, serving: {serving}, \
         terminating: {terminating}}}{hints}}}\n",
        address.ip()
    )
}
