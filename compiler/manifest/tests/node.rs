//! What is known about the own node, from Node objects, configuration and overrides.
#![allow(clippy::unwrap_used, reason = "functions that only tests call")]

use nfc_ir::node::NodePortMatch;
use nfc_ir::{Family, LocalDetector, Node, NodePortAddresses, ProxyMode};
use nfc_manifest::{
    DetectLocal, Document, NodePortAddress, NodeProblem, Overrides, Settings, Warning, load,
    parse_block, read_settings,
};

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIPs: [10.96.0.10, 'fd00::10'], ports: [{port: 80}]}
";

const NODES: &str = "---
apiVersion: v1
kind: Node
metadata: {name: node-1, labels: {topology.kubernetes.io/zone: zone-a}}
spec: {podCIDR: 10.244.1.0/24, podCIDRs: [10.244.1.0/24, 'fd00:1::/64']}
status:
  addresses:
  - {type: ExternalIP, address: 198.51.100.1}
  - {type: Hostname, address: node-1}
  - {type: InternalIP, address: 192.168.0.2}
  - {type: InternalIP, address: '2001:db8::2'}
  - {type: InternalIP, address: 192.168.0.2}
---
apiVersion: v1
kind: Node
metadata: {name: node-2}
status: {addresses: [{type: InternalIP, address: 192.168.0.3}]}
---
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: kubernetes}
spec: {cidrs: [10.96.0.0/12, 'fd00:96::/112']}
";

fn document(text: &str) -> Document {
    Document { name: "test.yaml".to_owned(), text: text.to_owned() }
}

fn settings(hostname: &str) -> Settings {
    Settings { hostname: hostname.to_owned(), ..Settings::default() }
}

fn node_of(text: &str, settings: &Settings, family: Family) -> (Node, Vec<Warning>) {
    let loaded = load(&[document(text)], settings).unwrap();
    (loaded.irs[&family].node().clone(), loaded.warnings)
}

fn addresses(node: &Node) -> Vec<String> {
    node.addresses.iter().map(ToString::to_string).collect()
}

#[test]
fn addresses_are_the_internal_ones_and_then_the_external_ones() {
    let text = SERVICES.to_owned() + NODES;
    let (v4, warnings) = node_of(&text, &settings("node-1"), Family::Ipv4);
    assert_eq!(addresses(&v4), ["192.168.0.2", "198.51.100.1"]);
    assert_eq!(v4.zone.as_deref(), Some("zone-a"));
    assert_eq!(v4.name, "node-1");
    assert_eq!(warnings, []);
    let (v6, _) = node_of(&text, &settings("node-1"), Family::Ipv6);
    assert_eq!(addresses(&v6), ["2001:db8::2"]);
}

#[test]
fn service_blocks_go_to_their_family() {
    let text = SERVICES.to_owned() + NODES;
    let mut settings = settings("node-1");
    settings.service_cidrs = vec![parse_block("10.112.0.0/12").unwrap()];
    let (v4, _) = node_of(&text, &settings, Family::Ipv4);
    let blocks: Vec<_> = v4.service_blocks.iter().map(ToString::to_string).collect();
    assert_eq!(blocks, ["10.96.0.0/12", "10.112.0.0/12"]);
    let (v6, _) = node_of(&text, &settings, Family::Ipv6);
    assert_eq!(v6.service_blocks.len(), 1);
}

#[test]
fn overrides_win_over_the_node_object() {
    let text = SERVICES.to_owned() + NODES;
    let settings = settings("node-1").overridden(&Overrides {
        node_ips: Some(vec!["192.168.9.9".parse().unwrap()]),
        zone: Some("zone-z".to_owned()),
        ..Overrides::default()
    });
    let (node, _) = node_of(&text, &settings, Family::Ipv4);
    assert_eq!(addresses(&node), ["192.168.9.9"]);
    assert_eq!(node.zone.as_deref(), Some("zone-z"));
}

#[test]
fn the_only_node_is_taken_when_none_is_named() {
    let (first, _) = NODES.split_at(NODES.rfind("---\napiVersion: v1").unwrap());
    let (node, warnings) = node_of(&(SERVICES.to_owned() + first), &settings(""), Family::Ipv4);
    assert_eq!(node.name, "node-1");
    assert!(matches!(&warnings[..], [Warning::Node(NodeProblem::Assumed { .. })]));
    let text = SERVICES.to_owned() + NODES;
    let (node, _) = node_of(&text, &settings(""), Family::Ipv4);
    assert_eq!(node.name, "");
}

#[test]
fn a_host_name_is_trimmed_and_lowered_as_kube_proxy_does() {
    let text = SERVICES.to_owned() + NODES;
    let (node, warnings) = node_of(&text, &settings(" Node-1 "), Family::Ipv4);
    assert_eq!((node.name.as_str(), warnings.len()), ("node-1", 0));
}

#[test]
fn an_interface_mode_without_a_possible_name_is_refused() {
    for name in ["", "an-interface-name-too-long"] {
        let settings = Settings {
            detect_local: DetectLocal::BridgeInterface,
            bridge_interface: name.to_owned(),
            ..settings("node-1")
        };
        let errors = load(&[document(SERVICES)], &settings).unwrap_err();
        assert_eq!(errors.len(), 1);
        assert!(errors[0].to_string().contains("--pod-bridge-interface"), "{}", errors[0]);
    }
}

#[test]
fn a_node_that_is_not_there_is_warned_of() {
    let text = SERVICES.to_owned() + NODES;
    let (node, warnings) = node_of(&text, &settings("node-3"), Family::Ipv4);
    assert_eq!(node.name, "node-3");
    assert_eq!(
        warnings[0].to_string(),
        "node node-3 is not among the Node objects (node-1, node-2); its addresses, zone \
         and pod blocks are not known"
    );
}

#[test]
fn pods_are_told_apart_as_the_mode_of_detection_says() {
    let text = SERVICES.to_owned() + NODES;
    let detector = |settings: &Settings, family| node_of(&text, settings, family).0.local_detector;
    let block = |text| LocalDetector::SourceBlock(parse_block(text).unwrap());
    let mut settings = settings("node-1");
    assert_eq!(detector(&settings, Family::Ipv4), LocalDetector::None);
    settings.cluster_cidrs = vec![parse_block("10.244.0.0/16").unwrap()];
    assert_eq!(detector(&settings, Family::Ipv4), block("10.244.0.0/16"));
    assert_eq!(detector(&settings, Family::Ipv6), LocalDetector::None);
    settings.detect_local = DetectLocal::NodeCidr;
    assert_eq!(detector(&settings, Family::Ipv4), block("10.244.1.0/24"));
    assert_eq!(detector(&settings, Family::Ipv6), block("fd00:1::/64"));
    settings.detect_local = DetectLocal::BridgeInterface;
    settings.bridge_interface = "cni0".to_owned();
    assert_eq!(detector(&settings, Family::Ipv4), LocalDetector::Bridge("cni0".to_owned()));
    settings.detect_local = DetectLocal::InterfaceNamePrefix;
    settings.interface_name_prefix = "veth".to_owned();
    let prefix = LocalDetector::InterfacePrefix("veth".to_owned());
    assert_eq!(detector(&settings, Family::Ipv4), prefix);
}

#[test]
fn a_pod_block_of_the_other_family_only_is_warned_of() {
    let mut settings = settings("node-1");
    settings.cluster_cidrs = vec![parse_block("10.244.0.0/16").unwrap()];
    let (_, warnings) = node_of(&(SERVICES.to_owned() + NODES), &settings, Family::Ipv6);
    assert!(matches!(
        &warnings[..],
        [Warning::Node(NodeProblem::PodBlockUnknown { family: Family::Ipv6, .. })]
    ));
}

#[test]
fn node_port_addresses_fall_back_to_every_address_for_a_family_without_any() {
    let text = SERVICES.to_owned() + NODES;
    let mut settings = settings("node-1");
    let resolved = |settings: &Settings, family| {
        let (node, warnings) = node_of(&text, settings, family);
        (node.node_port_addresses.clone(), node, warnings.len())
    };
    let (addresses, ..) = resolved(&settings, Family::Ipv4);
    assert_eq!(addresses, NodePortAddresses::ModeDefault);
    settings.node_port_addresses = vec!["192.168.0.0/24".parse().unwrap()];
    let (addresses, ..) = resolved(&settings, Family::Ipv4);
    let narrow = parse_block("192.168.0.0/24").unwrap();
    assert_eq!(addresses, NodePortAddresses::Blocks(vec![narrow]));
    let (_, node, warned) = resolved(&settings, Family::Ipv6);
    assert_eq!(warned, 1);
    for mode in ProxyMode::ALL {
        assert_eq!(
            node.node_port_match(mode, Family::Ipv6),
            NodePortMatch::AllLocal { loopback: false }
        );
    }
}

#[test]
fn keywords_of_node_port_addresses_stand_for_blocks() {
    let text = SERVICES.to_owned() + NODES;
    let mut settings = settings("node-1");
    settings.node_port_addresses = vec![NodePortAddress::Primary];
    let node = |settings: &Settings| node_of(&text, settings, Family::Ipv4).0;
    assert_eq!(node(&settings).node_port_addresses, NodePortAddresses::Primary);
    settings.node_port_addresses = vec![NodePortAddress::Primary, NodePortAddress::Localhost];
    let blocks = ["192.168.0.2/32", "127.0.0.0/8"].map(|b| parse_block(b).unwrap());
    assert_eq!(node(&settings).node_port_addresses, NodePortAddresses::Blocks(blocks.to_vec()));
    settings.node_port_addresses = vec![NodePortAddress::All];
    let all = parse_block("0.0.0.0/0").unwrap();
    assert_eq!(node(&settings).node_port_addresses, NodePortAddresses::Blocks(vec![all]));
}

/// A configuration as kubeadm writes it, with some values set.
const CONFIG: &str = "
apiVersion: kubeproxy.config.k8s.io/v1alpha1
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: \"\"
  burst: 0
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 0
clusterCIDR: 10.244.0.0/16,fd00:10:244::/56
configSyncPeriod: 0s
conntrack: {maxPerCore: null, min: null, tcpBeLiberal: true, tcpCloseWaitTimeout: null}
detectLocal: {bridgeInterface: \"\", interfaceNamePrefix: \"\"}
detectLocalMode: \"\"
enableProfiling: false
featureGates: {Anything: true}
healthzBindAddress: \"\"
hostnameOverride: node-1
iptables: {localhostNodePorts: false, masqueradeAll: true, masqueradeBit: 12, minSyncPeriod: 0s, syncPeriod: 0s}
ipvs: {excludeCIDRs: [10.9.0.0/16], minSyncPeriod: 0s, scheduler: mh, strictARP: true, tcpFinTimeout: 0s, tcpTimeout: 15m0s, udpTimeout: 5s}
kind: KubeProxyConfiguration
logging: {flushFrequency: 0, options: {json: {infoBufferSize: \"0\"}}, verbosity: 0}
metricsBindAddress: \"\"
mode: nftables
nftables: {masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
nodePortAddresses: [primary, 127.0.0.0/8]
oomScoreAdj: null
portRange: \"\"
showHiddenMetricsForVersion: \"\"
winkernel: {enableDSR: false, networkName: \"\"}
";

#[test]
fn a_configuration_of_kubeadm_is_read_whole_and_without_a_word() {
    let (settings, warnings) = read_settings(&document(CONFIG)).unwrap();
    assert_eq!(warnings, []);
    insta::assert_debug_snapshot!(settings);
}

#[test]
fn the_config_map_of_kubeadm_is_read_too() {
    let indented = CONFIG.trim().replace('\n', "\n    ");
    let map = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: kube-proxy}}\ndata:\n  config.conf: |-\n    {indented}\n"
    );
    assert_eq!(read_settings(&document(&map)), read_settings(&document(CONFIG)));
}

#[test]
fn each_mode_masquerades_as_its_own_section_says() {
    let (settings, _) = read_settings(&document(CONFIG)).unwrap();
    assert_eq!(settings.mode, ProxyMode::Nftables);
    let mode = |mode| {
        let masquerade = settings.clone().for_mode(mode).masquerade();
        (masquerade.all, masquerade.bit)
    };
    assert_eq!(mode(ProxyMode::Nftables), (false, 14));
    assert_eq!(mode(ProxyMode::Iptables), (true, 12));
    assert_eq!(mode(ProxyMode::Ipvs), (true, 12));
    let (node, _) = node_of(SERVICES, &settings.for_mode(ProxyMode::Ipvs), Family::Ipv4);
    assert!(node.masquerade_all && node.conntrack_liberal && !node.localhost_node_ports);
    assert_eq!(node.masquerade_mask(), 1 << 12);
}

#[test]
fn a_bind_address_is_the_primary_address() {
    let text = CONFIG.replace("bindAddress: 0.0.0.0", "bindAddress: 192.168.7.7");
    let (settings, _) = read_settings(&document(&text)).unwrap();
    let (node, _) = node_of(&(SERVICES.to_owned() + NODES), &settings, Family::Ipv4);
    assert_eq!(addresses(&node), ["192.168.7.7"]);
}

#[test]
fn overrides_win_over_the_configuration_and_leave_the_rest() {
    let (settings, _) = read_settings(&document(CONFIG)).unwrap();
    let over = Overrides {
        masquerade_all: Some(true),
        masquerade_bit: Some(7),
        hostname: Some("node-2".to_owned()),
        ipvs_scheduler: "sh".parse().ok(),
        cluster_cidrs: Some(Vec::new()),
        ..Overrides::default()
    };
    let changed = settings.clone().overridden(&over);
    assert_eq!((changed.nftables.all, changed.nftables.bit), (true, 7));
    assert_eq!((changed.iptables.all, changed.iptables.bit), (true, 7));
    assert_eq!(changed.hostname, "node-2");
    assert_eq!(changed.ipvs.scheduler.name(), "sh");
    assert_eq!(changed.cluster_cidrs, []);
    assert_eq!(changed.ipvs.exclude_cidrs, settings.ipvs.exclude_cidrs);
    assert_eq!(settings.clone().overridden(&Overrides::default()), settings);
}

#[test]
fn flags_are_read_from_words() {
    assert_eq!("NodeCIDR".parse(), Ok(DetectLocal::NodeCidr));
    let wrong = "nodecidr".parse::<DetectLocal>().unwrap_err().to_string();
    assert!(wrong.contains("expected one of ClusterCIDR, NodeCIDR"), "{wrong}");
    let wrong = "primry".parse::<NodePortAddress>().unwrap_err().to_string();
    assert!(wrong.contains("primary, localhost, all"), "{wrong}");
    for text in ["primary", "localhost", "all", "10.0.0.0/8"] {
        assert_eq!(text.parse::<NodePortAddress>().unwrap().to_string(), text);
    }
}
