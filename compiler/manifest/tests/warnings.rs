//! What is left out or guessed is said, with what to do about it.
#![allow(clippy::panic, reason = "functions that only tests call")]

use nfc_manifest::{Document, Settings, load, parse_block, render_warnings};

fn warnings(text: &str, settings: &Settings) -> String {
    let document = Document { name: "everything.yaml".to_owned(), text: text.to_owned() };
    let loaded = load(&[document], settings).unwrap_or_else(|e| panic!("{}", e[0]));
    render_warnings(&loaded.warnings)
}

#[test]
fn every_warning_says_what_to_do() {
    let text = include_str!("warned/everything.yaml");
    let settings = Settings::default().for_mode(nfc_ir::ProxyMode::Nftables);
    insta::assert_snapshot!(warnings(text, &settings));
}

#[test]
fn settings_that_cannot_be_kept_are_warned_of() {
    let mut settings = Settings::default().for_mode(nfc_ir::ProxyMode::Ipvs);
    settings.hostname = "n2".to_owned();
    settings.cluster_cidrs = vec![parse_block("fd00::/64").unwrap()];
    settings.node_port_addresses = vec!["fd00::/64".parse().unwrap()];
    let text = "{apiVersion: v1, kind: Service, metadata: {name: web}, \
                spec: {clusterIP: 10.96.0.10, ports: [{port: 80}]}}\n---\n\
                {apiVersion: v1, kind: Node, metadata: {name: n1}}\n";
    insta::assert_snapshot!(warnings(text, &settings));
}

#[test]
fn node_addresses_are_missed_only_where_rules_need_them() {
    let text = "{apiVersion: v1, kind: Service, metadata: {name: web}, \
                spec: {type: NodePort, clusterIP: 10.96.0.10, ports: [{port: 80, nodePort: 30080}]}}";
    let missed = |mode, entries: &[&str]| {
        let mut settings = Settings::default().for_mode(mode);
        settings.node_port_addresses = entries.iter().map(|e| e.parse().unwrap()).collect();
        !warnings(text, &settings).is_empty()
    };
    use nfc_ir::ProxyMode::{Iptables, Ipvs, Nftables};
    assert!(!missed(Iptables, &[]));
    assert!(missed(Iptables, &["primary"]));
    assert!(missed(Iptables, &["192.168.0.0/16"]));
    assert!(missed(Nftables, &[]));
    assert!(!missed(Nftables, &["all"]));
    assert!(missed(Ipvs, &["all"]));
}

#[test]
fn many_warnings_of_one_kind_are_counted() {
    let slice = |i| {
        format!(
            "---\n{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, \
             metadata: {{name: s{i}, labels: {{kubernetes.io/service-name: gone}}}}}}\n"
        )
    };
    let text: String = (0..100).map(slice).collect();
    let shown = warnings(&text, &Settings::default());
    assert_eq!(shown.lines().count(), 4, "{shown}");
    assert!(shown.ends_with("endpoints without their Service: 97 more\n"), "{shown}");
}
