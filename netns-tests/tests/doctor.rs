//! `nfc doctor` at the bedside: clusters that are broken on purpose, each in one way, and its
//! first finding has to be the way. A healthy one has no finding.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

mod stage;

use nfc_ir::Family;
use nfc_kernel::{Feature, Namespace, conntrack};
use nfc_lab::{Cluster, need};
use nfc_manifest::{Document, Settings};
use stage::{NFT, path, text};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Output};
use std::thread;
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
        self.run_on(&self.manifests, self.cidr, subcommand, backend, options)
    }

    fn run_on(
        &self,
        manifests: &str,
        cidr: &str,
        subcommand: &str,
        backend: &str,
        options: &[&str],
    ) -> Output {
        let node = path(self.cluster.world().node());
        let place = ["--netns", &node, "--node", "worker", "--cluster-cidr", cidr];
        let args = [&[subcommand, "--backend", backend], &place[..], options, &["-"]].concat();
        stage::run(&args, manifests)
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
        let first = json.split("\"code\": \"").nth(1).and_then(|rest| rest.split('"').next());
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
    need(test, &NFT)
}

#[test]
fn a_healthy_cluster_has_no_finding_in_any_backend() {
    for backend in ["nft", "iptables", "ipvs"] {
        let name = format!("nfc doctor finds nothing: {backend}");
        if !need(&name, &stage::needs(backend, Family::Ipv4)) {
            continue;
        }
        let ward = Ward::healthy();
        let node = path(ward.cluster.world().node());
        let deleted = stage::run(&["delete", "--backend", "nft", "--netns", &node], "");
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

/// Opens a TCP connection to the web Service, if that can be done soon.
fn browse(from: &Namespace) -> bool {
    let service = SocketAddr::from(([10, 96, 0, 10], 80));
    let connect = || TcpStream::connect_timeout(&service, Duration::from_millis(300));
    from.run(connect).expect("a namespace").is_ok()
}

/// The value of a member in the first object of JSON that has `head` in it.
fn number(json: &str, head: &str, member: &str) -> Option<usize> {
    let object = json.split(head).nth(1)?;
    let value = object.split(&format!("\"{member}\": ")).nth(1)?;
    value.split(['\n', ',']).next()?.parse().ok()
}

#[test]
fn what_moved_is_told_by_service_and_endpoint() {
    for backend in ["nft", "iptables", "ipvs"] {
        let name = format!("nfc doctor tells what moved: {backend}");
        if !need(&name, &[stage::needs(backend, Family::Ipv4), vec![Feature::NftTool]].concat()) {
            continue;
        }
        let ward = Ward::healthy();
        ward.on_node("nft delete table ip nfc");
        ward.apply(backend);
        let words = text(&ward.run("doctor", backend, &[]).stdout);
        assert!(
            words.contains("\nnote: so far nobody asked shop/dns udp, shop/web tcp\n"),
            "{words}"
        );
        (40_000..40_005).for_each(|port| drop(resolve(&ward, port)));
        if backend == "ipvs" {
            // Its counts are summed up every two seconds (`estimation_timer` in
            // net/netfilter/ipvs/ip_vs_est.c).
            thread::sleep(Duration::from_secs(3));
        }
        let output = ward.run("doctor", backend, &[]);
        assert_eq!(output.status.code(), Some(0), "who is not asked is not ill");
        let words = text(&output.stdout);
        let counted = if backend == "nft" { "" } else { "5 counted by rules, " };
        let line =
            format!("\nconnections so far:\n  shop/dns udp: {counted}5 tracked\n    to 10.244.");
        assert!(words.contains(&line), "{backend}: {words}");
        assert!(words.contains("\nnote: so far nobody asked shop/web tcp\n"), "{backend}: {words}");
    }
}

/// Somebody asks all the time; of that only what came between the two readings counts.
#[test]
fn two_readings_tell_what_moved_in_between() {
    if !has_ward("nfc doctor --for tells what moved") {
        return;
    }
    let ward = Ward::healthy();
    (40_000..40_009).for_each(|port| drop(resolve(&ward, port)));
    let options = ["--for", "2", "--output", "json"];
    let (output, asked) = thread::scope(|scope| {
        let doctor = scope.spawn(|| ward.run("doctor", "nft", &options));
        let mut ports = 41_000..42_000;
        while !doctor.is_finished() {
            resolve(&ward, ports.next().expect("a port"));
            thread::sleep(Duration::from_millis(50));
        }
        (doctor.join().expect("the doctor"), 1_000 - ports.len())
    });
    let json = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{json}{}", text(&output.stderr));
    assert!(json.contains("\"watchedSeconds\": 2,"), "{json}");
    let moved = number(&json, "\"service\": \"shop/dns\"", "connections").expect("a number");
    assert!(0 < moved && moved <= asked, "{moved} of {asked}: {json}");
    assert!(number(&json, "{", "connections").is_some_and(|all| all >= moved + 9), "{json}");
    assert_eq!(number(&json, "\"service\": \"shop/web\"", "connections"), Some(0), "{json}");
}

/// What begins before the rules are there never meets them, as long as it is kept up. The
/// kernel tracks connections for whoever asks for their state, here a firewall.
#[test]
fn connections_that_go_past_the_rules() {
    if !has_ward("nfc doctor: connections that go past the rules") {
        return;
    }
    let ward = Ward::healthy();
    ward.on_node(
        "nft delete table ip nfc; nft 'table inet fw { chain forward { \
         type filter hook forward priority 0; ct state invalid drop; }; }'",
    );
    let client = ward.cluster.world().client();
    let socket = client.run(|| UdpSocket::bind("192.0.2.2:40000")).expect("a namespace");
    let socket = socket.expect("a port");
    socket.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    let asks = || {
        socket.send_to(b"who?", "10.96.0.53:53").expect("a route");
        socket.recv(&mut [0; 128]).is_ok()
    };
    assert!(!asks() && !browse(client), "there are no rules");
    let clues = ["nft rules, IPv4: none"];
    ward.suffers_from("rules-missing", &["--passive"], &clues);
    let (_, words) = ward.examined(&["--passive"]);
    assert!(words.contains("rules-bypassed: 2 connections"), "{words}");
    assert!(words.contains("is not rewritten: there are no rules"), "{words}");
    ward.apply("nft");
    assert!(!asks() && browse(client), "an old connection, and a new one");
    let clues = [
        "rules-bypassed: 2 connections go past the rules",
        "services: shop/dns, shop/web\n",
        "udp 192.0.2.2:40000 > 10.96.0.53:53 is not rewritten: it began before the rules",
        "--fix",
    ];
    ward.suffers_from("rules-bypassed", &[], &clues);
    let (code, words) = ward.examined(&["--fix"]);
    assert_eq!(code, Some(0), "{words}");
    assert!(asks(), "what is forgotten meets the rules");
    ward.is_well(&[]);
}

/// The endpoint answers the node, but not the pod that asks through the Service.
#[test]
fn endpoints_that_leave_connections_unanswered() {
    if !has_ward("nfc doctor: unanswered connections") {
        return;
    }
    let ward = Ward::healthy();
    let pod = |ip: &str| ward.cluster.pods()[&ip.parse().expect("an address")].namespace();
    let (asker, silent) = (pod("10.244.1.5"), pod("10.244.2.8"));
    ward.inside(
        silent,
        "nft 'table inet fw { chain input { type filter hook input priority 0; \
         ip saddr 10.244.1.5 drop; }; }'",
    );
    let mut unanswered = 0;
    for _ in 0..200 {
        unanswered += usize::from(!browse(asker));
        if unanswered == 4 {
            break;
        }
    }
    assert_eq!(unanswered, 4, "every other connection goes to the silent one");
    let clues = [
        "services: shop/web\n",
        "tcp to 10.244.2.8:8080: 4 of 4 without an answer; it answers the node itself",
        "tcpdump -ni any host 10.244.2.8 and port 8080",
    ];
    ward.suffers_from("unanswered", &[], &clues);
    // A cause that is known comes first.
    ward.inside(silent, "ip link set eth0 down");
    ward.suffers_from("unreachable", &[], &["tcp 10.244.2.8:8080"]);
    let (_, words) = ward.examined(&[]);
    assert!(words.contains("it does not answer the node either"), "{words}");
}

/// A Service of IPv6 only, with rules that stay when it goes.
#[test]
fn rules_of_a_family_that_no_service_has_any_more() {
    let six = "
apiVersion: v1
kind: Service
metadata: {name: six, namespace: shop}
spec: {clusterIP: 'fd00:96::6', ipFamilies: [IPv6], ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: six-1, namespace: shop, labels: {kubernetes.io/service-name: six}}
addressType: IPv6
ports: [{name: '', port: 8080, protocol: TCP}]
endpoints:
- {addresses: ['fd00:244::6'], conditions: {ready: true}, nodeName: worker}
";
    for backend in ["nft", "iptables", "ipvs"] {
        let name = format!("nfc doctor: rules that are left over: {backend}");
        let features: Vec<_> =
            Family::ALL.into_iter().flat_map(|f| stage::needs(backend, f)).collect();
        if !need(&name, &[features, vec![Feature::NftTool]].concat()) {
            continue;
        }
        let ward = Ward::healthy();
        ward.on_node("nft delete table ip nfc");
        ward.apply(backend);
        let v6 = ward.run_on(six, "fd00:244::/32", "apply", backend, &["--family", "ipv6"]);
        assert_eq!(v6.status.code(), Some(0), "{}", text(&v6.stderr));
        let doctor = |options: &[&str]| {
            let output = ward.run("doctor", backend, options);
            (output.status.code(), text(&output.stdout))
        };
        let (code, words) = doctor(&[]);
        assert_eq!(code, Some(1), "{words}");
        assert!(words.starts_with("warning: rules-left-over: no Service is IPv6"), "{words}");
        let remedy = format!("nfc delete --backend {backend} --family ipv6");
        assert!(words.contains(&format!("\n  try: {remedy}\n")), "{words}");
        assert_eq!(doctor(&["--family", "ipv4"]).0, Some(0), "nobody asked about IPv6");
        let nfc = stage::nfc().display().to_string();
        ward.on_node(&remedy.replacen("nfc", &nfc, 1));
        assert_eq!(doctor(&[]).0, Some(0), "{backend}");
    }
}

#[test]
fn two_proxies() {
    for (other, trace) in [("iptables", "iptables-legacy"), ("ipvs", "table nfc-ipvs")] {
        let test = format!("nfc doctor: two proxies: {other}");
        if !has_ward(&test) || !need(&test, &stage::needs(other, Family::Ipv4)) {
            continue;
        }
        let ward = Ward::healthy();
        ward.apply(other);
        let remedy = format!("try: nfc delete --backend {other}");
        ward.suffers_from("two-proxies", &[], &["table nfc (nftables)", trace, &remedy]);
    }
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
    ward.on_node(
        "nft 'table inet fast { chain early { type filter hook prerouting priority raw; \
         ip daddr 10.96.0.0/16 notrack; }; }'",
    );
    assert!(!browse(ward.cluster.world().client()), "what is not tracked is not rewritten");
    let clues = ["table inet fast, chain early: ip daddr 10.96.0.0/16 notrack"];
    ward.suffers_from("foreign-untracked", &["--look-at-foreign"], &clues);
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
    let doctor = |args: &[&str]| stage::run(&[&["doctor"], args].concat(), "");
    let manifest = "examples/aks.yaml";
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
