//! The rules of kube-proxy as people have listed them on real nodes: the examples compile
//! to the same chains, with the same matches, targets and probabilities, in the same order.
//!
//! Each listing is what `iptables-save` prints; ours is read back from the kernel by
//! `iptables-legacy-save`, so that both come from the same printer.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

mod stage;

use nfc_ir::Family;
use nfc_kernel::Namespace;
use nfc_lab::need;
use nfc_manifest::Settings;
use stage::{apply, backend, example_under, needs, settings_beside, tool};

/// What the kernel holds of one table after `example` was applied.
fn saved(example: &str, settings: Settings, table: &str) -> String {
    let backend = backend("iptables");
    let irs = example_under(example, settings, backend.as_ref());
    let node = Namespace::new().expect("a namespace");
    apply(&node, backend.as_ref(), irs.get(&Family::Ipv4).expect("IPv4 Services"));
    tool(&node, "iptables-legacy-save", &["-t", table], "")
}

/// The rules of each chain named in `expected` are exactly those, in that order.
fn chains_are(saved: &str, expected: &str) {
    let rules = |text: &str, chain: &str| {
        let head = format!("-A {chain} ");
        let own = text.lines().map(str::trim).filter(|l| l.starts_with(&head));
        own.map(str::to_owned).collect::<Vec<_>>()
    };
    let lines = expected.lines().map(str::trim).filter(|l| !l.is_empty());
    let chains: Vec<_> = lines.filter_map(|l| l.split(' ').nth(1)).collect();
    assert!(!chains.is_empty(), "nothing is expected");
    for chain in chains {
        let (ours, theirs) = (rules(saved, chain), rules(expected, chain));
        assert_eq!(ours, theirs, "chain {chain}");
    }
}

/// kube-proxy writes one rule for each Service in the order of a Go map, which is none: in
/// the chain where they meet, the same rules are wanted in any order, and the last one last.
fn dispatch_is(saved: &str, expected: &str) {
    let rules = |text: &str| {
        let own = text.lines().map(str::trim).filter(|l| l.starts_with("-A KUBE-SERVICES "));
        let mut rules: Vec<_> = own.map(str::to_owned).collect();
        let last = rules.pop();
        rules.sort();
        (rules, last)
    };
    assert_eq!(rules(saved), rules(expected));
}

fn ready(what: &str) -> bool {
    need(what, &needs("iptables", Family::Ipv4))
}

fn on(node: &str) -> Settings {
    Settings { hostname: node.to_owned(), ..Settings::default() }
}

#[test]
fn a_cluster_ip_service() {
    if !ready("the listing of a ClusterIP Service") {
        return;
    }
    let nat = saved("cluster-ip", on("worker01"), "nat");
    dispatch_is(
        &nat,
        r#"
        -A KUBE-SERVICES -d 10.32.0.251/32 -p tcp -m comment --comment "default/nginx cluster IP" -m tcp --dport 80 -j KUBE-SVC-2CMXP7HKUVJN7L6M
        -A KUBE-SERVICES -d 10.32.0.1/32 -p tcp -m comment --comment "default/kubernetes:https cluster IP" -m tcp --dport 443 -j KUBE-SVC-NPX46M4PTMTKRN6Y
        -A KUBE-SERVICES -d 10.32.0.10/32 -p udp -m comment --comment "kube-system/kube-dns:dns cluster IP" -m udp --dport 53 -j KUBE-SVC-TCOU7JCQXEZGVUNU
        -A KUBE-SERVICES -d 10.32.0.10/32 -p tcp -m comment --comment "kube-system/kube-dns:dns-tcp cluster IP" -m tcp --dport 53 -j KUBE-SVC-ERIFXISQEP7F7OF4
        -A KUBE-SERVICES -d 10.32.0.10/32 -p tcp -m comment --comment "kube-system/kube-dns:metrics cluster IP" -m tcp --dport 9153 -j KUBE-SVC-JD5MR3NA4I4DYORP
        -A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
    "#,
    );
    chains_are(
        &nat,
        r#"
        -A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
        -A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
        -A KUBE-SVC-2CMXP7HKUVJN7L6M -m comment --comment "default/nginx -> 10.64.2.4:80" -j KUBE-SEP-YVT6EXXEKT4LDXBC
        -A KUBE-SEP-YVT6EXXEKT4LDXBC -s 10.64.2.4/32 -m comment --comment "default/nginx" -j KUBE-MARK-MASQ
        -A KUBE-SEP-YVT6EXXEKT4LDXBC -p tcp -m comment --comment "default/nginx" -m tcp -j DNAT --to-destination 10.64.2.4:80
        -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
    "#,
    );
}

#[test]
fn a_node_port_service_under_the_cluster_policy() {
    if !ready("the listing of a NodePort Service under the Cluster policy") {
        return;
    }
    let nat = saved("node-port", on("worker01"), "nat");
    dispatch_is(
        &nat,
        r#"
        -A KUBE-SERVICES -d 10.32.0.61/32 -p tcp -m comment --comment "default/nginx cluster IP" -m tcp --dport 80 -j KUBE-SVC-2CMXP7HKUVJN7L6M
        -A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
    "#,
    );
    chains_are(
        &nat,
        r#"
        -A KUBE-NODEPORTS -p tcp -m comment --comment "default/nginx" -m tcp --dport 30783 -j KUBE-EXT-2CMXP7HKUVJN7L6M
        -A KUBE-EXT-2CMXP7HKUVJN7L6M -m comment --comment "masquerade traffic for default/nginx external destinations" -j KUBE-MARK-MASQ
        -A KUBE-EXT-2CMXP7HKUVJN7L6M -j KUBE-SVC-2CMXP7HKUVJN7L6M
        -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
        -A KUBE-SVC-2CMXP7HKUVJN7L6M -m comment --comment "default/nginx -> 10.64.2.4:80" -j KUBE-SEP-YVT6EXXEKT4LDXBC
        -A KUBE-SEP-YVT6EXXEKT4LDXBC -s 10.64.2.4/32 -m comment --comment "default/nginx" -j KUBE-MARK-MASQ
        -A KUBE-SEP-YVT6EXXEKT4LDXBC -p tcp -m comment --comment "default/nginx" -m tcp -j DNAT --to-destination 10.64.2.4:80
    "#,
    );
    // kubelet makes the chain KUBE-FIREWALL too, and whoever comes first has its jump end up
    // lower: the listing is of a node with a kubelet, ours is not. The rest is in order.
    let filter = saved("node-port", on("worker01"), "filter");
    let (shared, own): (Vec<_>, Vec<_>) =
        filter.lines().partition(|l| *l == "-A INPUT -j KUBE-FIREWALL");
    assert_eq!(shared.len(), 1);
    chains_are(
        &own.join("\n"),
        r#"
        -A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
        -A INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS
        -A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
    "#,
    );
}

#[test]
fn a_node_port_service_under_the_local_policy_without_local_endpoints() {
    if !ready("the listing of a NodePort Service under the Local policy") {
        return;
    }
    chains_are(
        &saved("node-port-local", on("worker01"), "filter"),
        r#"
        -A KUBE-EXTERNAL-SERVICES -p tcp -m comment --comment "default/nginx has no local endpoints" -m addrtype --dst-type LOCAL -m tcp --dport 30783 -j DROP
    "#,
    );
}

#[test]
fn a_node_port_service_under_the_local_policy_with_a_local_endpoint() {
    if !ready("the listing of a NodePort Service with a local endpoint") {
        return;
    }
    chains_are(
        &saved("node-port-local", on("worker02"), "nat"),
        r#"
        -A KUBE-NODEPORTS -p tcp -m comment --comment "default/nginx" -m tcp --dport 30783 -j KUBE-EXT-2CMXP7HKUVJN7L6M
        -A KUBE-EXT-2CMXP7HKUVJN7L6M -m comment --comment "masquerade LOCAL traffic for default/nginx external destinations" -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ
        -A KUBE-EXT-2CMXP7HKUVJN7L6M -m comment --comment "route LOCAL traffic for default/nginx external destinations" -m addrtype --src-type LOCAL -j KUBE-SVC-2CMXP7HKUVJN7L6M
        -A KUBE-EXT-2CMXP7HKUVJN7L6M -j KUBE-SVL-2CMXP7HKUVJN7L6M
        -A KUBE-SVL-2CMXP7HKUVJN7L6M -m comment --comment "default/nginx -> 10.64.2.4:80" -j KUBE-SEP-YVT6EXXEKT4LDXBC
        -A KUBE-SVC-2CMXP7HKUVJN7L6M -m comment --comment "default/nginx -> 10.64.2.4:80" -j KUBE-SEP-YVT6EXXEKT4LDXBC
        -A KUBE-SEP-YVT6EXXEKT4LDXBC -s 10.64.2.4/32 -m comment --comment "default/nginx" -j KUBE-MARK-MASQ
        -A KUBE-SEP-YVT6EXXEKT4LDXBC -p tcp -m comment --comment "default/nginx" -m tcp -j DNAT --to-destination 10.64.2.4:80
    "#,
    );
}

/// Pods are told apart by the names of their interfaces, and three endpoints share the load
/// by the probabilities 1/3, 1/2, 1.
#[test]
fn a_cluster_whose_pods_are_told_apart_by_interface() {
    if !ready("the listing of a cluster with azv interfaces") {
        return;
    }
    let nat = saved("aks", settings_beside("aks"), "nat");
    dispatch_is(
        &nat,
        r#"
        -A KUBE-SERVICES -d 10.0.0.10/32 -p udp -m comment --comment "kube-system/kube-dns:dns cluster IP" -m udp --dport 53 -j KUBE-SVC-TCOU7JCQXEZGVUNU
        -A KUBE-SERVICES -d 10.0.0.10/32 -p tcp -m comment --comment "kube-system/kube-dns:dns-tcp cluster IP" -m tcp --dport 53 -j KUBE-SVC-ERIFXISQEP7F7OF4
        -A KUBE-SERVICES -d 10.0.136.241/32 -p tcp -m comment --comment "kube-system/metrics-server cluster IP" -m tcp --dport 443 -j KUBE-SVC-QMWWTXBG7KFJQKLO
        -A KUBE-SERVICES -d 10.0.0.1/32 -p tcp -m comment --comment "default/kubernetes:https cluster IP" -m tcp --dport 443 -j KUBE-SVC-NPX46M4PTMTKRN6Y
        -A KUBE-SERVICES -d 10.0.111.189/32 -p tcp -m comment --comment "default/nginx cluster IP" -m tcp --dport 80 -j KUBE-SVC-2CMXP7HKUVJN7L6M
        -A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
    "#,
    );
    chains_are(
        &nat,
        r#"
        -A KUBE-SVC-2CMXP7HKUVJN7L6M -d 10.0.111.189/32 ! -i azv+ -p tcp -m comment --comment "default/nginx cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
        -A KUBE-SVC-2CMXP7HKUVJN7L6M -m comment --comment "default/nginx -> 10.244.0.126:80" -m statistic --mode random --probability 0.33333333349 -j KUBE-SEP-6WVWGAPSOX73WQLV
        -A KUBE-SVC-2CMXP7HKUVJN7L6M -m comment --comment "default/nginx -> 10.244.1.221:80" -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-SZEPRK2MPZRFAUE2
        -A KUBE-SVC-2CMXP7HKUVJN7L6M -m comment --comment "default/nginx -> 10.244.2.136:80" -j KUBE-SEP-EQWDXNDQNTKEXYHG
    "#,
    );
}

#[test]
fn a_web_application_on_two_nodes() {
    if !ready("the listing of hello-app") {
        return;
    }
    let cluster_cidrs = vec!["172.16.0.0/16".parse().expect("a block")];
    let nat = saved("hello-app", Settings { cluster_cidrs, ..on("host1") }, "nat");
    chains_are(
        &nat,
        r#"
        -A KUBE-NODEPORTS -p tcp -m comment --comment "default/hello-app-service" -m tcp --dport 30811 -j KUBE-EXT-YG6ZEOBCLVGD3AJB
        -A KUBE-SVC-YG6ZEOBCLVGD3AJB ! -s 172.16.0.0/16 -d 10.104.81.240/32 -p tcp -m comment --comment "default/hello-app-service cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
        -A KUBE-SVC-YG6ZEOBCLVGD3AJB -m comment --comment "default/hello-app-service -> 172.16.166.130:8080" -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-7I3URQ2O437FVP5U
        -A KUBE-SVC-YG6ZEOBCLVGD3AJB -m comment --comment "default/hello-app-service -> 172.16.192.89:8080" -j KUBE-SEP-PSPHHDAXPY5YRT7B
        -A KUBE-SEP-PSPHHDAXPY5YRT7B -s 172.16.192.89/32 -m comment --comment "default/hello-app-service" -j KUBE-MARK-MASQ
        -A KUBE-SEP-PSPHHDAXPY5YRT7B -p tcp -m comment --comment "default/hello-app-service" -m tcp -j DNAT --to-destination 172.16.192.89:8080
    "#,
    );
}
