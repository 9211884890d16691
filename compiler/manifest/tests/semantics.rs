//! What each field of Services and slices means, one test for each, named for the rule.
#![allow(clippy::panic, reason = "functions that only tests call")]

use nfc_ir::{Family, Ir, Scheduler, Service, TrafficPolicy};
use nfc_manifest::{Document, Loaded, Settings, load};

fn documents(text: &str) -> Vec<Document> {
    vec![Document { name: "test.yaml".to_owned(), text: text.to_owned() }]
}

fn loaded_on(node: &str, text: &str) -> Loaded {
    let settings = Settings { hostname: node.to_owned(), ..Settings::default() };
    load(&documents(text), &settings).unwrap_or_else(|e| panic!("{}", e[0]))
}

fn loaded(text: &str) -> Loaded {
    loaded_on("node-1", text)
}

fn ir(text: &str) -> Ir {
    loaded(text).irs[&Family::Ipv4].clone()
}

/// A Service `ns/web` with this spec, given as a flow mapping's inside.
fn web(spec: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: web, namespace: ns}}, \
         spec: {{{spec}}}}}\n"
    )
}

fn slice(name: &str, rest: &str) -> String {
    format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}\n  \
         namespace: ns\n  labels: {{kubernetes.io/service-name: web}}\n{rest}"
    )
}

fn only(text: &str) -> Service {
    let ir = ir(text);
    assert_eq!(ir.services().len(), 1);
    ir.services()[0].clone()
}

const BASIC: &str = "clusterIP: 10.96.0.10, ports: [{name: http, port: 80}]";

fn endpoints(service: &Service) -> Vec<String> {
    let texts = service.endpoints.iter().map(|e| e.address.to_string());
    texts.collect()
}

#[test]
fn defaults_are_those_of_the_api_server() {
    let service = only(&web(BASIC));
    assert_eq!(service.protocol, nfc_ir::Protocol::Tcp);
    assert_eq!(service.internal_policy, TrafficPolicy::Cluster);
    assert_eq!(service.external_policy, TrafficPolicy::Cluster);
    assert_eq!(service.affinity, None);
    assert_eq!(service.scheduler, Scheduler::Random);
    let nameless = "{apiVersion: v1, kind: Service, metadata: {name: web}, \
                    spec: {clusterIP: 10.96.0.10, ports: [{port: 80}]}}";
    assert_eq!(only(nameless).name.to_string(), "default/web");
}

#[test]
fn each_port_and_family_is_one_service() {
    let text = web("clusterIPs: [10.96.0.10, 'fd00::10'], ipFamilies: [IPv4, IPv6], \
         ports: [{name: a, port: 80}, {name: b, port: 80, protocol: UDP}, {name: c, port: 81, protocol: SCTP}]");
    let loaded = loaded(&text);
    assert_eq!(loaded.irs[&Family::Ipv4].services().len(), 3);
    assert_eq!(loaded.irs[&Family::Ipv6].services().len(), 3);
    let v6 = loaded.irs[&Family::Ipv6].services()[0].cluster_ip;
    assert_eq!(v6.to_string(), "fd00::10");
}

#[test]
fn families_are_those_asked_for_or_else_those_in_use() {
    assert_eq!(loaded(&web(BASIC)).irs.into_keys().collect::<Vec<_>>(), [Family::Ipv4]);
    let settings = Settings { families: [Family::Ipv6].into(), ..Settings::default() };
    let asked = load(&documents(&web(BASIC)), &settings).unwrap();
    assert_eq!(asked.irs.keys().collect::<Vec<_>>(), [&Family::Ipv6]);
    assert_eq!(asked.irs[&Family::Ipv6].services(), []);
}

#[test]
fn headless_and_external_name_and_foreign_services_are_skipped() {
    let specs = [
        "clusterIP: None, ports: [{port: 80}]",
        "clusterIP: None, clusterIPs: [None], ports: [{port: 80}]",
        "clusterIPs: [None]",
        "type: ExternalName, clusterIP: 10.96.0.10, externalName: example.com",
    ];
    for spec in specs {
        let loaded = loaded(&web(spec));
        assert_eq!(loaded.irs.len(), 0, "{spec}");
        assert_eq!(loaded.counts.skipped_services, 1, "{spec}");
        assert_eq!(loaded.warnings, [], "{spec}");
    }
    for label in ["service-proxy-name: other", "headless: ''"] {
        let labels = format!("name: web, labels: {{service.kubernetes.io/{label}}}");
        let text = web(BASIC).replace("name: web", &labels);
        assert_eq!(loaded(&text).irs.len(), 0, "{label}");
    }
}

#[test]
fn slices_of_foreign_services_are_skipped_in_silence() {
    let foreign = slice("s", "addressType: IPv4\nendpoints: [{addresses: [10.0.0.1]}]\n")
        .replace("labels: {", "labels: {service.kubernetes.io/headless: '', ");
    let loaded = loaded(&(web(BASIC) + &foreign));
    assert_eq!(loaded.warnings, []);
    assert_eq!(endpoints(&loaded.irs[&Family::Ipv4].services()[0]), [""; 0]);
}

#[test]
fn a_slice_port_matches_by_name_and_protocol_and_not_by_number() {
    let text = web("clusterIP: 10.96.0.10, ports: [{name: http, port: 80, targetPort: 9999}, \
         {name: dns, port: 53, protocol: UDP}]")
        + &slice(
            "s",
            "addressType: IPv4\nendpoints: [{addresses: [10.0.0.1]}]\n\
         ports: [{name: http, port: 8080}, {name: dns, port: 5353, protocol: TCP}]\n",
        );
    let loaded = loaded(&text);
    let services = loaded.irs[&Family::Ipv4].services();
    assert_eq!(endpoints(&services[0]), [""; 0]);
    assert_eq!(endpoints(&services[1]), ["10.0.0.1:8080"]);
    assert_eq!(loaded.warnings.len(), 1, "the port that nothing matches");
}

#[test]
fn an_unnamed_slice_port_matches_an_unnamed_service_port() {
    for name in ["", "name: '', ", "name: null, "] {
        let ports = format!("ports: [{{{name}port: 8080}}]\n");
        let text = web("clusterIP: 10.96.0.10, ports: [{port: 80}]")
            + &slice("s", "addressType: IPv4\nendpoints: [{addresses: [10.0.0.1]}]\n")
            + &ports;
        assert_eq!(endpoints(&only(&text)), ["10.0.0.1:8080"], "{name}");
    }
}

#[test]
fn slices_are_merged_and_only_the_first_address_counts() {
    let text = web(BASIC)
        + &slice(
            "a",
            "addressType: IPv4\nendpoints: [{addresses: [10.0.0.1, 10.0.0.7]}]\nports: [{name: http, port: 1}]\n",
        )
        + &slice(
            "b",
            "addressType: IPv4\nendpoints: [{addresses: [10.0.0.2]}]\nports: [{name: http, port: 2}]\n",
        );
    assert_eq!(endpoints(&only(&text)), ["10.0.0.1:1", "10.0.0.2:2"]);
}

#[test]
fn a_slice_port_without_number_is_ignored() {
    for port in ["{name: http}", "{name: http, port: 0}", "{name: http, port: null}"] {
        let rest =
            format!("addressType: IPv4\nendpoints: [{{addresses: [10.0.0.1]}}]\nports: [{port}]\n");
        let loaded = loaded(&(web(BASIC) + &slice("s", &rest)));
        assert_eq!(endpoints(&loaded.irs[&Family::Ipv4].services()[0]), [""; 0]);
        assert_eq!(loaded.warnings.len(), 1, "{port}");
    }
}

#[test]
fn conditions_default_to_ready_serving_and_not_terminating() {
    let rest = "addressType: IPv4\nports: [{name: http, port: 8080}]\nendpoints:\n\
                - {addresses: [10.0.0.1]}\n\
                - {addresses: [10.0.0.2], conditions: {ready: null}}\n\
                - {addresses: [10.0.0.3], conditions: {ready: false, serving: true, terminating: true}}\n\
                - {addresses: [10.0.0.4], conditions: {ready: false}}\n";
    let service = only(&(web(BASIC) + &slice("s", rest)));
    let conditions: Vec<_> =
        service.endpoints.iter().map(|e| (e.ready, e.serving, e.terminating)).collect();
    assert_eq!(conditions[0], (true, true, false));
    assert_eq!(conditions[1], (true, true, false));
    assert_eq!(conditions[2], (false, true, true));
    assert_eq!(conditions[3], (false, true, false));
}

#[test]
fn an_endpoint_is_local_on_the_node_of_its_name() {
    let rest = "addressType: IPv4\nports: [{name: http, port: 8080}]\nendpoints:\n\
                - {addresses: [10.0.0.1], nodeName: node-1}\n\
                - {addresses: [10.0.0.2], nodeName: node-2}\n\
                - {addresses: [10.0.0.3]}\n";
    let text = web(BASIC) + &slice("s", rest);
    let local = |l: &Loaded| -> Vec<bool> {
        let endpoints = &l.irs[&Family::Ipv4].services()[0].endpoints;
        endpoints.iter().map(|e| e.local).collect()
    };
    assert_eq!(local(&loaded_on("node-1", &text)), [true, false, false]);
    assert_eq!(local(&loaded_on("", &text)), [false, false, false]);
}

#[test]
fn hints_are_read() {
    let rest = "addressType: IPv4\nports: [{name: http, port: 8080}]\nendpoints:\n\
                - {addresses: [10.0.0.1], hints: {forZones: [{name: a}, {name: b}], forNodes: [{name: n}]}}\n";
    let hints = only(&(web(BASIC) + &slice("s", rest))).endpoints[0].hints.clone();
    assert_eq!(Vec::from_iter(hints.zones), ["a", "b"]);
    assert_eq!(Vec::from_iter(hints.nodes), ["n"]);
}

#[test]
fn leading_zeros_are_decimal_and_blanks_and_empty_texts_are_nothing() {
    let text = web(
        "type: LoadBalancer, clusterIP: 010.96.00.010, externalIPs: ['', 192.000.002.001], \
         loadBalancerSourceRanges: [' 203.0.113.0/25', '', ' '], ports: [{name: http, port: 80}]",
    ) + &slice(
        "s",
        "addressType: IPv4\nendpoints: [{addresses: ['10.180.00.001']}]\nports: [{name: http, port: 80}]\n",
    );
    let service = only(&text);
    assert_eq!(service.cluster_ip.to_string(), "10.96.0.10");
    assert_eq!(Vec::from_iter(service.external_ips.iter().map(ToString::to_string)), ["192.0.2.1"]);
    assert_eq!(
        Vec::from_iter(service.source_ranges.iter().map(ToString::to_string)),
        ["203.0.113.0/25"]
    );
    assert_eq!(endpoints(&service), ["10.180.0.1:80"]);
}

#[test]
fn each_family_gets_its_own_addresses_and_ranges() {
    let text = web(
        "type: LoadBalancer, clusterIPs: [10.96.0.10, 'fd00::10'], ports: [{port: 80}], \
         externalIPs: [192.0.2.1, '2001:db8::1'], loadBalancerSourceRanges: [203.0.113.0/24, '2600::/16']",
    );
    let loaded = loaded(&text);
    for (family, external, range) in
        [(Family::Ipv4, "192.0.2.1", "203.0.113.0/24"), (Family::Ipv6, "2001:db8::1", "2600::/16")]
    {
        let service = &loaded.irs[&family].services()[0];
        assert!(service.external_ips.iter().map(ToString::to_string).eq([external]));
        assert!(service.source_ranges.iter().map(ToString::to_string).eq([range]));
    }
}

#[test]
fn only_virtual_ips_of_load_balancers_count() {
    let text = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: LoadBalancer, clusterIP: 10.96.0.10, loadBalancerIP: 192.0.2.99, ports: [{port: 80}]}
status:
  loadBalancer:
    ingress:
    - ip: 192.0.2.1
    - {ip: 192.0.2.2, ipMode: VIP}
    - {ip: 192.0.2.3, ipMode: Proxy}
    - hostname: lb.example.com
    - {ip: '', hostname: lb.example.com}
";
    let ips = only(text).load_balancer_ips;
    assert_eq!(Vec::from_iter(ips.iter().map(ToString::to_string)), ["192.0.2.1", "192.0.2.2"]);
}

#[test]
fn node_ports_are_for_node_ports_and_load_balancers_and_zero_is_none() {
    let port = |kind: &str, port: &str| {
        let spec =
            format!("type: {kind}, clusterIP: 10.96.0.10, ports: [{{port: 80, nodePort: {port}}}]");
        only(&web(&spec)).node_port.map(std::num::NonZero::get)
    };
    assert_eq!(port("NodePort", "30080"), Some(30080));
    assert_eq!(port("LoadBalancer", "30080"), Some(30080));
    assert_eq!(port("LoadBalancer", "0"), None);
    assert_eq!(port("NodePort", "null"), None);
    assert_eq!(port("ClusterIP", "30080"), None);
}

#[test]
fn the_external_policy_needs_an_outside_address() {
    let policy = |spec: &str| {
        let spec = format!(
            "{spec}, externalTrafficPolicy: Local, clusterIP: 10.96.0.10, ports: [{{port: 80}}]"
        );
        only(&web(&spec)).external_policy
    };
    assert_eq!(policy("type: ClusterIP"), TrafficPolicy::Cluster);
    assert_eq!(policy("externalIPs: [192.0.2.1]"), TrafficPolicy::Local);
    assert_eq!(policy("type: NodePort"), TrafficPolicy::Local);
    assert_eq!(policy("type: LoadBalancer"), TrafficPolicy::Local);
}

#[test]
fn the_health_check_port_needs_a_load_balancer_with_a_local_policy() {
    let port = |kind: &str, policy: &str| {
        let spec = format!(
            "type: {kind}, externalTrafficPolicy: {policy}, healthCheckNodePort: 30000, \
             clusterIP: 10.96.0.10, ports: [{{port: 80}}]"
        );
        only(&web(&spec)).health_check_port.is_some()
    };
    assert!(port("LoadBalancer", "Local"));
    assert!(!port("LoadBalancer", "Cluster"));
    assert!(!port("NodePort", "Local"));
}

#[test]
fn affinity_lasts_three_hours_unless_it_says_otherwise() {
    let seconds = |rest: &str| {
        let spec = format!("{BASIC}, {rest}");
        only(&web(&spec)).affinity.map(|a| a.timeout_seconds.get())
    };
    assert_eq!(seconds("sessionAffinity: ClientIP"), Some(10_800));
    let config = "sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}";
    assert_eq!(seconds(&format!("sessionAffinity: ClientIP, {config}")), Some(60));
    assert_eq!(seconds(&format!("sessionAffinity: None, {config}")), None);
}

#[test]
fn annotations_of_our_own_set_scheduler_and_weights() {
    let service =
        web(BASIC).replace("name: web,", "name: web, annotations: {nfc.dev/scheduler: maglev},");
    let rest = "addressType: IPv4\nports: [{name: http, port: 8080}]\n\
                endpoints: [{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}]\n";
    let weighted = slice("s", rest)
        .replace("  labels", "  annotations: {nfc.dev/weights: '10.0.0.1=3'}\n  labels");
    let service = only(&(service + &weighted));
    assert_eq!(service.scheduler, Scheduler::Maglev);
    let weights: Vec<_> = service.endpoints.iter().map(|e| e.weight.get()).collect();
    assert_eq!(weights, [3, 1]);
}

#[test]
fn the_scheduler_of_ipvs_belongs_to_the_node() {
    let mut settings = Settings::default();
    settings.ipvs.scheduler = "lc".parse().unwrap();
    let loaded = load(&documents(&web(BASIC)), &settings).unwrap();
    let ir = &loaded.irs[&Family::Ipv4];
    assert_eq!(ir.node().ipvs_scheduler.name(), "lc");
    assert_eq!(ir.services()[0].scheduler, Scheduler::Random);
}

const OLD: &str = "---\napiVersion: v1\nkind: Endpoints\nmetadata: {name: web, namespace: ns}\nsubsets:\n\
    - addresses: [{ip: 10.0.0.8, nodeName: node-1}, {ip: 'fd00::8'}]\n  \
      notReadyAddresses: [{ip: 10.0.0.9}]\n  ports: [{name: http, port: 8080}]\n";

#[test]
fn old_endpoints_count_for_services_without_slices() {
    let loaded = loaded(&(web(BASIC) + OLD));
    let service = &loaded.irs[&Family::Ipv4].services()[0];
    assert_eq!(endpoints(service), ["10.0.0.8:8080", "10.0.0.9:8080"]);
    assert!(service.endpoints[0].ready && service.endpoints[0].local);
    assert!(!service.endpoints[1].ready);
    assert_eq!(loaded.warnings.len(), 1);
    let empty = slice("s", "addressType: IPv4\nendpoints: []\n");
    let both = self::loaded(&(web(BASIC) + OLD + &empty));
    assert_eq!(endpoints(&both.irs[&Family::Ipv4].services()[0]), [""; 0]);
    assert_eq!(both.warnings, []);
}

#[test]
fn the_same_objects_as_json_give_the_same_ir() {
    let yaml = web(
        "type: NodePort, clusterIP: 10.96.0.10, ports: [{name: http, port: 80, nodePort: 30080}]",
    ) + &slice(
        "s",
        "addressType: IPv4\nendpoints: [{addresses: [10.0.0.1]}]\nports: [{name: http, port: 80}]\n",
    );
    let json = r#"{"kind": "List", "apiVersion": "v1", "items": [
      {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "n\u0073"},
       "spec": {"type": "NodePort", "clusterIP": "10.96.0.10",
                "ports": [{"name": "http", "port": 80, "nodePort": 30080}]}},
      {"apiVersion": "discovery.k8s.io\/v1", "kind": "EndpointSlice",
       "metadata": {"name": "s", "namespace": "ns", "labels": {"kubernetes.io/service-name": "web"}},
       "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}],
       "ports": [{"name": "http", "port": 80, "appProtocol": null}]}]}"#;
    assert_eq!(ir(&yaml), ir(json));
    assert_eq!(ir(&yaml), ir(&json.replace("\n  ", "\n\t")));
}

#[test]
fn the_order_of_documents_does_not_matter() {
    let parts = [
        web(BASIC),
        slice(
            "a",
            "addressType: IPv4\nendpoints: [{addresses: [10.0.0.1]}]\nports: [{name: http, port: 1}]\n",
        ),
        slice(
            "b",
            "addressType: IPv4\nendpoints: [{addresses: [10.0.0.2]}]\nports: [{name: http, port: 1}]\n",
        ),
    ];
    let text = |order: [usize; 3]| order.map(|i| parts[i].clone()).join("---\n");
    assert_eq!(ir(&text([0, 1, 2])), ir(&text([2, 0, 1])));
}

#[test]
fn kinds_of_other_groups_are_left_out_and_counted() {
    let text = "{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: x}}\n---\n\
                {apiVersion: apps/v1, kind: Deployment}\n---\n{apiVersion: apps/v1, kind: Deployment}\n";
    let loaded = loaded(text);
    assert_eq!(loaded.counts.other_objects, 3);
    assert_eq!(
        loaded.warnings[0].to_string(),
        "ignored objects that do not decide where packets go: 2 Deployment (apps/v1), \
         1 Service (serving.knative.dev/v1)"
    );
}
