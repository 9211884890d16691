//! `nfc doctor` at the bedside: clusters that are broken on purpose, each in one way, and its
//! first finding has to be the way. A healthy one has no finding.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

mod stage;

use nfc_ir::Family;
use nfc_kernel::{Feature, Namespace, conntrack};
use nfc_lab::{Cluster, need};
use nfc_manifest::{Document, Settings};
use std::io::Write;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// Two Services with an endpoint on this node and one on another each.
const SHOP: &str = "
apiVersion: v1
kind: Node
metadata: {name: worker}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  type: NodePort
  clusterIP: 10.96.0.10
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: '', port: 8080, protocol: TCP}]
endpoints:
- {addresses: [10.244.1.5], conditions: {ready: true}, nodeName: worker}
- {addresses: [10.244.2.8], conditions: {ready: true}, nodeName: other}
---
apiVersion: v1
kind: Service
metadata: {name: dns, namespace: shop}
spec:
  clusterIP: 10.96.0.53
  ports: [{port: 53, protocol: UDP}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: dns-1, namespace: shop, labels: {kubernetes.io/service-name: dns}}
addressType: IPv4
ports: [{name: '', port: 53, protocol: UDP}]
endpoints:
- {addresses: [10.244.1.6], conditions: {ready: true}, nodeName: worker}
- {addresses: [10.244.2.9], conditions: {ready: true}, nodeName: other}
";

const CIDR: &str = "10.244.0.0/16";

/// SHOP without the line that holds `words`.
fn without(words: &str) -> String {
    let lines: Vec<_> = SHOP.lines().filter(|line| !line.contains(words)).collect();
    assert!(lines.len() < SHOP.lines().count(), "{words} is not there");
    lines.join("\n") + "\n"
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

fn path(namespace: &Namespace) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), namespace.as_fd().as_raw_fd())
}

/// A cluster with rules, and the manifests that the doctor is shown.
struct Ward {
    cluster: Cluster,
    manifests: String,
    cidr: &'static str,
}

impl Ward {
    /// Endpoints as in SHOP, and the rules of `manifests`.
    fn new(manifests: &str, cidr: &'static str) -> Self {
        let document = Document { name: "shop".to_owned(), text: SHOP.to_owned() };
        let settings = Settings { hostname: "worker".to_owned(), ..Settings::default() };
        let loaded = nfc_manifest::load(&[document], &settings).expect("a manifest");
        let cluster = Cluster::of(loaded.irs.values()).expect("a cluster");
        let ward = Self { cluster, manifests: manifests.to_owned(), cidr };
        ward.apply("nft");
        ward
    }

    /// The shop as it should be.
    fn healthy() -> Self {
        Self::new(SHOP, CIDR)
    }

    fn run(&self, subcommand: &str, backend: &str, options: &[&str]) -> Output {
        let node = path(self.cluster.world().node());
        let args = ["--backend", backend, "--netns", &node, "--node", "worker"];
        let mut child = Command::new(stage::nfc())
            .arg(subcommand)
            .args(args)
            .args(["--cluster-cidr", self.cidr])
            .args(options)
            .arg("-")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(self.manifests.as_bytes()).expect("a reader");
        drop(stdin);
        child.wait_with_output().expect("the command ends")
    }

    fn apply(&self, backend: &str) {
        let output = self.run("apply", backend, &["--family", "ipv4"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    }

    /// Runs a command on the node.
    fn on_node(&self, words: &str) {
        self.inside(self.cluster.world().node(), words);
    }

    fn inside(&self, namespace: &Namespace, words: &str) {
        let net = format!("--net={}", path(namespace));
        let done = Command::new("nsenter").args([&net, "sh", "-ec", words]).output();
        let done = done.expect("nsenter");
        assert!(done.status.success(), "{words}: {}", text(&done.stderr));
    }

    /// What the doctor says, with its exit code.
    fn examined(&self, options: &[&str]) -> (Option<i32>, String) {
        let output = self.run("doctor", "nft", options);
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    }

    /// The doctor's first finding is of this kind, and its words hold `clues`.
    #[track_caller]
    fn suffers_from(&self, kind: &str, options: &[&str], clues: &[&str]) {
        let (code, words) = self.examined(options);
        assert_eq!(code, Some(1), "{words}");
        let first = words.lines().next().unwrap_or_default();
        assert_eq!(first.split(": ").nth(1), Some(kind), "{words}");
        let finding = words.split("\n\n").next().unwrap_or_default();
        for clue in clues {
            assert!(finding.contains(clue), "{clue} is missing in:\n{words}");
        }
        assert!(finding.contains("\n  try: "), "no remedy in:\n{words}");
        // Programs are told the same.
        let (code, json) = self.examined(&[options, &["--output", "json"]].concat());
        assert_eq!(code, Some(1), "{json}");
        let first = json.split("\"kind\": \"").nth(1).and_then(|rest| rest.split('"').next());
        assert_eq!(first, Some(kind), "{json}");
    }

    #[track_caller]
    fn is_well(&self, options: &[&str]) {
        let (code, words) = self.examined(options);
        assert_eq!(code, Some(0), "{words}");
        assert!(words.starts_with("healthy: "), "{words}");
    }
}

#[test]
fn the_page_tells_the_truth() {
    if !has_ward("docs/doctor.md") {
        return;
    }
    stage::run_page("docs/doctor.md");
}

/// Whether there is what these tests need; those that read tables need the tool as well.
fn has_ward(test: &str) -> bool {
    need(test, &[Feature::Namespaces, Feature::Nftables, Feature::NftTool])
}

#[test]
fn a_healthy_cluster_has_no_finding_in_any_backend() {
    for backend in ["nft", "iptables", "ipvs"] {
        let name = format!("nfc doctor finds nothing: {backend}");
        if !need(&name, &stage::needs(backend, Family::Ipv4)) {
            continue;
        }
        let ward = Ward::healthy();
        let node = ward.cluster.world().node();
        let deleted = Command::new(stage::nfc())
            .args(["delete", "--backend", "nft", "--netns", &path(node)])
            .output()
            .expect("the command");
        assert!(deleted.status.success());
        ward.apply(backend);
        for options in [&[][..], &["--look-at-foreign"], &["--passive"], &["--fix"]] {
            let output = ward.run("doctor", backend, options);
            let words = text(&output.stdout) + &text(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "{backend} {options:?}: {words}");
            assert!(words.starts_with("healthy: 2 service ports"), "{backend}: {words}");
        }
        let json = ward.run("doctor", backend, &["--output", "json"]);
        assert!(text(&json.stdout).starts_with("{\n  \"healthy\": true,"));
    }
}

#[test]
fn rules_that_are_not_there() {
    if !has_ward("nfc doctor: rules that are not there") {
        return;
    }
    let ward = Ward::healthy();
    ward.on_node("nft delete table ip nfc");
    ward.suffers_from("rules-missing", &[], &["nft rules, IPv4: none", "nfc apply"]);
    ward.apply("nft");
    ward.is_well(&[]);
}

#[test]
fn rules_that_drifted() {
    if !has_ward("nfc doctor: rules that drifted") {
        return;
    }
    let ward = Ward::healthy();
    ward.on_node("nft delete element ip nfc services { 10.96.0.53 . udp . 53 }");
    ward.suffers_from("rules-drifted", &[], &["services: shop/dns\n", "map services: missing"]);
    ward.apply("nft");
    ward.is_well(&[]);
}

#[test]
fn drifted_rules_of_iptables() {
    let features = stage::needs("iptables", Family::Ipv4);
    if !has_ward("nfc doctor: iptables") || !need("nfc doctor: iptables", &features) {
        return;
    }
    let ward = Ward::healthy();
    ward.on_node("nft delete table ip nfc");
    ward.apply("iptables");
    ward.on_node("iptables-legacy -t nat -F KUBE-SERVICES");
    let output = ward.run("doctor", "iptables", &[]);
    let words = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{words}{}", text(&output.stderr));
    assert!(words.starts_with("error: rules-drifted: "), "{words}");
    assert!(words.contains("services: shop/dns, shop/web\n"), "{words}");
    assert!(words.contains("nat KUBE-SERVICES: missing: "), "{words}");
}

#[test]
fn masquerading_that_is_missing() {
    if !has_ward("nfc doctor: masquerading that is missing") {
        return;
    }
    let ward = Ward::healthy();
    ward.on_node("nft flush chain ip nfc postrouting");
    ward.suffers_from("masquerade-missing", &[], &["chain postrouting: missing: "]);
}

#[test]
fn a_wrong_cluster_cidr() {
    if !has_ward("nfc doctor: a wrong cluster CIDR") {
        return;
    }
    let ward = Ward::new(SHOP, "10.99.0.0/16");
    let clues = ["cluster CIDR 10.99.0.0/16", "10.244.1.5"];
    ward.suffers_from("pods-not-recognised", &[], &clues);
}

#[test]
fn no_endpoints() {
    if !has_ward("nfc doctor: no endpoints") {
        return;
    }
    let ward = Ward::new(&SHOP.replace("service-name: web", "service-name: bew"), CIDR);
    ward.suffers_from(
        "no-endpoints",
        &[],
        &["services: shop/web\n", "0 endpoints, 0 of them ready"],
    );
    let ward = Ward::new(&SHOP.replace("ready: true", "ready: false"), CIDR);
    ward.suffers_from("no-endpoints", &[], &["shop/dns, shop/web", "2 endpoints, 0 of them ready"]);
}

#[test]
fn a_local_policy_without_a_local_endpoint() {
    if !has_ward("nfc doctor: a Local policy without a local endpoint") {
        return;
    }
    let manifests = without("10.244.1.5");
    let manifests = manifests
        .replace("  type: NodePort\n", "  type: NodePort\n  externalTrafficPolicy: Local\n");
    let ward = Ward::new(&manifests, CIDR);
    let clues = [
        "services: shop/web\n",
        "externalTrafficPolicy: Local, and no endpoint on worker",
        "kubectl patch service -n shop web -p '{\"spec\":{\"externalTrafficPolicy\":\"Cluster\"}}'",
    ];
    ward.suffers_from("no-local-endpoints", &[], &clues);
}

#[test]
fn a_wrong_target_port() {
    if !has_ward("nfc doctor: a wrong targetPort") {
        return;
    }
    let ward = Ward::new(&SHOP.replace("port: 8080, protocol", "port: 8088, protocol"), CIDR);
    let clues = ["services: shop/web\n", "tcp 10.244.1.5:8088", "the port is closed", "targetPort"];
    ward.suffers_from("nothing-listens", &[], &clues);
    ward.is_well(&["--passive"]);
    let ward = Ward::new(
        &SHOP.replace("port: 53, protocol: UDP}]\nend", "port: 54, protocol: UDP}]\nend"),
        CIDR,
    );
    ward.suffers_from("nothing-listens", &[], &["services: shop/dns\n", "udp 10.244.1.6:54"]);
}

#[test]
fn an_endpoint_that_is_gone_without_a_word() {
    if !has_ward("nfc doctor: an endpoint that is gone") {
        return;
    }
    let ward = Ward::healthy();
    let pod = ward.cluster.pods()[&"10.244.2.8".parse().expect("an address")].namespace();
    ward.inside(pod, "ip link set eth0 down");
    ward.suffers_from("unreachable", &[], &["services: shop/web\n", "tcp 10.244.2.8:8080"]);
}

/// Sends a datagram to the cluster IP of the dns Service from `port` of the client, and
/// returns who answered.
fn resolve(ward: &Ward, port: u16) -> String {
    let client = ("192.0.2.2", port);
    let socket = ward.cluster.world().client().run(|| UdpSocket::bind(client));
    let socket = socket.expect("a namespace").expect("a port");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    socket.send_to(b"who?", "10.96.0.53:53").expect("a route");
    let mut answer = [0; 128];
    let length = socket.recv(&mut answer).expect("an answer");
    text(&answer[..length])
}

#[test]
fn stale_connections_are_found_and_only_they_are_forgotten() {
    if !has_ward("nfc doctor: stale connections") {
        return;
    }
    let mut ward = Ward::healthy();
    let answers: Vec<_> = (40_000..40_032).map(|port| resolve(&ward, port)).collect();
    let stale = answers.iter().filter(|answer| answer.starts_with("10.244.2.9:53 ")).count();
    assert!(0 < stale && stale < answers.len(), "chance has both endpoints answer");
    ward.is_well(&[]);
    ward.manifests = without("10.244.2.9");
    ward.apply("nft");
    let clues = ["services: shop/dns\n", "> 10.96.0.53:53 goes to 10.244.2.9:53", "--fix"];
    ward.suffers_from("stale-connections", &[], &clues);
    let of_dns = || {
        let listed = ward.cluster.world().node().run(conntrack::list).expect("a namespace");
        let listed = listed.expect("conntrack");
        listed.iter().filter(|c| c.destination.to_string() == "10.96.0.53:53").count()
    };
    assert_eq!(of_dns(), answers.len());
    let (code, words) = ward.examined(&["--fix"]);
    assert_eq!(code, Some(0), "{words}");
    assert!(words.contains("done: they are forgotten"), "{words}");
    assert_eq!(of_dns(), answers.len() - stale);
    ward.is_well(&[]);
}

#[test]
fn two_proxies() {
    let features = [Feature::IptablesV4];
    if !has_ward("nfc doctor: two proxies") || !need("nfc doctor: two proxies", &features) {
        return;
    }
    let ward = Ward::healthy();
    ward.apply("iptables");
    let clues = ["table nfc", "iptables-legacy", "try: nfc delete --backend iptables"];
    ward.suffers_from("two-proxies", &[], &clues);
}

#[test]
fn somebody_elses_drop() {
    if !has_ward("nfc doctor: somebody else's drop") {
        return;
    }
    let ward = Ward::healthy();
    ward.on_node(
        "nft 'table inet fw { chain forward { type filter hook forward priority 10; \
         ip daddr 10.9.9.9 drop; ip daddr 10.244.0.0/16 tcp dport 8080 drop; }; }'",
    );
    // Nobody reads other people's tables unasked.
    ward.is_well(&[]);
    let clues = ["table inet fw, chain forward: ip daddr 10.244.0.0/16 tcp dport 8080 drop"];
    ward.suffers_from("foreign-drop", &["--look-at-foreign"], &clues);
    let (_, words) = ward.examined(&["--look-at-foreign"]);
    assert!(!words.contains("10.9.9.9"), "a rule about somebody else: {words}");
    ward.on_node("nft delete table inet fw");
    ward.is_well(&["--look-at-foreign"]);
}

#[test]
fn a_forward_policy_of_drop() {
    if !has_ward("nfc doctor: a forward policy of drop")
        || !need("nfc doctor: a forward policy", &[Feature::IptablesV4])
    {
        return;
    }
    let ward = Ward::healthy();
    ward.on_node("iptables-legacy -P FORWARD DROP");
    let clues = ["iptables table filter, chain FORWARD: :FORWARD DROP"];
    ward.suffers_from("foreign-policy", &["--look-at-foreign"], &clues);
}

#[test]
fn a_kernel_that_does_not_forward() {
    if !has_ward("nfc doctor: a kernel that does not forward") {
        return;
    }
    let ward = Ward::healthy();
    ward.on_node("sysctl -qw net.ipv4.ip_forward=0");
    ward.suffers_from("forwarding-off", &[], &["sysctl net.ipv4.ip_forward: 0"]);
    ward.on_node("sysctl -qw net.ipv4.ip_forward=1");
    ward.is_well(&[]);
}

/// The way back to a second address of the client leads over another link.
#[test]
fn a_reverse_path_filter() {
    if !has_ward("nfc doctor: a reverse path filter") {
        return;
    }
    let ward = Ward::healthy();
    ward.on_node("sysctl -qw net.ipv4.conf.all.rp_filter=1");
    ward.is_well(&[]);
    ward.on_node("ip route add 203.0.113.5 via 198.51.100.2 dev cbr0");
    let client = ward.cluster.world().client();
    ward.inside(client, "ip address add 203.0.113.5/32 dev lo");
    let socket = client.run(|| UdpSocket::bind("203.0.113.5:40000")).expect("a namespace");
    socket.expect("a port").send_to(b"who?", "10.96.0.53:53").expect("a route");
    let clues = ["1 packet came in", "TcpExtIPReversePathFilter: 1", "eth0.rp_filter: 1 (strict)"];
    ward.suffers_from("reverse-path", &[], &clues);
}

#[test]
fn an_environment_that_cannot() {
    if !need("nfc doctor: an environment that cannot", &[Feature::Namespaces]) {
        return;
    }
    let doctor = |args: &[&str]| {
        let mut command = Command::new(stage::nfc());
        command.arg("doctor").args(args).stdin(Stdio::null()).output().expect("the command ends")
    };
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/aks.yaml");
    let output = doctor(&["--netns", "no-such-namespace", manifest]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    let output = doctor(&["no-such-file.yaml"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    if Feature::Ipvs.probe().is_err() {
        let namespace = Namespace::new().expect("a namespace");
        let output = doctor(&["--backend", "ipvs", "--netns", &path(&namespace), manifest]);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("modprobe ip_vs"));
    }
}
