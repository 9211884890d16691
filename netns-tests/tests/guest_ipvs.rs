//! IPVS on a kernel that has it: what the tools list is what our text says, and nothing of
//! ours is left when it is over. On a host without `ip_vs` these tests skip themselves
//! aloud; `scripts/guest-test` runs them where they cannot.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

mod stage;

use nfc::compile;
use nfc::load::{self, Loaded};
use nfc_backend::AnyBackend;
use nfc_ir::{
    Affinity, Family, Ingress, Ir, LocalDetector, Node, Packet, Protocol, Scheduler, Service, synth,
};
use nfc_kernel::{Feature, Kernel, Namespace, link, sysctl};
use nfc_lab::{Place, need};
use stage::{Stage, backend, example, examples, inside, needs, tool};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};

fn ready(what: &str) -> bool {
    let tools = [Feature::NftTool, Feature::IpvsadmTool, Feature::DummyLink];
    need(what, &[needs("ipvs", Family::Ipv4), tools.to_vec()].concat())
}

/// A namespace like that of a host: IPVS takes no real server before the table of local
/// routes exists (`inet_addr_type` in `ip_vs_new_dest`), and loopback brings it.
fn namespace() -> Namespace {
    let namespace = Namespace::new().expect("a namespace");
    tool(&namespace, "ip", &["link", "set", "lo", "up"], "");
    namespace
}

fn ipvs() -> Box<dyn AnyBackend> {
    backend("ipvs")
}

fn apply(namespace: &Namespace, ir: &Ir) -> Loaded {
    stage::apply(namespace, ipvs().as_ref(), ir)
}

fn delete(namespace: &Namespace, family: Family) {
    stage::delete(namespace, ipvs().as_ref(), family);
}

/// Every scheduler, with weights and persistence where the scheduler has a use for them.
fn scheduled(family: Family) -> Ir {
    let schedulers = [Scheduler::Random, Scheduler::SourceHash, Scheduler::Maglev];
    let affinities = [None, Some(1), Some(10_800)].map(|seconds| {
        seconds.map(|s| Affinity { timeout_seconds: NonZeroU32::new(s).expect("not zero") })
    });
    let variants = schedulers.into_iter().flat_map(|s| affinities.map(|a| (s, a)));
    let service = move |(i, (scheduler, affinity)): (u16, _)| {
        let protocol = Protocol::ALL[usize::from(i) % 3];
        let mut service =
            Service { scheduler, affinity, ..synth::service(family, protocol, i.into(), 3) };
        service.endpoints[0].weight = NonZeroU16::MIN.saturating_add(i);
        service
    };
    let services = (0..).zip(variants).map(service).collect();
    Ir::new(family, Node::default(), services).expect("valid")
}

/// Programs worth loading.
fn subjects() -> Vec<(String, Ir)> {
    let named = examples().into_iter().flat_map(|name| {
        let irs = example(&name, ipvs().as_ref());
        irs.into_values().map(move |ir| (format!("{name} {}", ir.family()), ir))
    });
    let made = Family::ALL.into_iter().flat_map(|family| {
        let samples = (0..4).map(move |seed| synth::sample(seed, family).ir);
        samples.chain([scheduled(family)])
    });
    named.chain(made.enumerate().map(|(i, ir)| (format!("made up, number {i}"), ir))).collect()
}

/// The virtual and real servers, as `ipvsadm --save` prints them, sorted: the kernel keeps
/// them in a hash table.
fn servers(namespace: &Namespace) -> BTreeSet<String> {
    let saved = tool(namespace, "ipvsadm", &["--save", "--numeric"], "");
    saved.lines().map(|line| line.trim().to_owned()).collect()
}

/// The addresses that our routes make the node's own: `local 10.0.0.1 dev lo scope host`.
fn bound(namespace: &Namespace) -> BTreeSet<String> {
    let of = |family| {
        tool(namespace, "ip", &[family, "route", "show", "table", "local", "proto", "110"], "")
    };
    let routes = ["-4", "-6"].map(of).concat();
    let lines = routes.lines().map(|l| l.split_whitespace().collect::<Vec<_>>());
    lines.map(|l| if l[0] == "local" { l[1] } else { l[0] }.to_owned()).collect()
}

/// Everything that a program of ours may be made of.
#[derive(Debug, PartialEq)]
struct Listing {
    servers: BTreeSet<String>,
    bound: BTreeSet<String>,
    ruleset: String,
    links: usize,
}

fn listing(namespace: &Namespace) -> Listing {
    Listing {
        servers: servers(namespace),
        bound: bound(namespace),
        ruleset: sorted(&tool(namespace, "nft", &["list", "ruleset"], "")),
        links: inside(namespace, link::list).expect("links").len(),
    }
}

/// A listing of rules with the elements of each set in order: the kernel keeps them in a
/// hash table too, whose seed is another in every namespace.
fn sorted(ruleset: &str) -> String {
    let in_order = |set: &str| {
        let Some((before, rest)) = set.split_once("elements = {") else {
            return set.to_owned();
        };
        let (elements, after) = rest.split_once('}').expect("a closing brace");
        let elements: BTreeSet<_> = elements.split(',').map(str::trim).collect();
        format!("{before}{elements:?}{after}")
    };
    ruleset.split("\tset ").map(in_order).collect::<Vec<_>>().join("\tset ")
}

/// The lines of our text that `ipvsadm --restore` reads.
fn said(text: &str) -> BTreeSet<String> {
    let is_order = |l: &&str| l.starts_with("-A ") || l.starts_with("-a ");
    text.lines().filter(is_order).map(str::to_owned).collect()
}

/// Three things in one pass, because making a namespace and asking four tools about it is
/// what takes the time.
#[test]
fn ipvsadm_lists_what_our_text_says_and_applying_twice_changes_nothing() {
    if !ready("ipvsadm lists what our text says, and applying twice changes nothing") {
        return;
    }
    let mut lines = 0;
    for (name, ir) in subjects() {
        let text = compile::compile(ipvs().as_ref(), [&ir]).text;
        let (by_text, by_bytes) = (namespace(), namespace());
        apply(&by_bytes, &ir);
        let held = listing(&by_bytes);
        assert_eq!(held.servers, said(&text), "{name}");
        assert_eq!(held.bound, wanted_addresses(&ir), "{name}");
        lines += held.servers.len();
        tool(&by_text, "sh", &[], &text);
        assert_eq!(held, listing(&by_text), "{name}: by bytes and by text");
        for namespace in [&by_bytes, &by_text] {
            let again = apply(namespace, &ir);
            assert!(again.unchanged && again.receipt.steps.is_empty(), "{name}: {again:?}");
        }
        assert_eq!(held, listing(&by_bytes), "{name}: apply twice");
        for namespace in [&by_text, &by_bytes] {
            let on = inside(namespace, || sysctl::read("net.ipv4.vs.conntrack"));
            assert_eq!(on.expect("the sysctl").trim(), "1", "{name}");
        }
    }
    assert!(lines > 100, "only {lines} lines were compared");
}

/// Cluster IPs, and those outside addresses that no other link of the node has.
fn wanted_addresses(ir: &Ir) -> BTreeSet<String> {
    let outside = |s: &Service| {
        let all = s.external_ips.iter().chain(&s.load_balancer_ips).copied();
        all.filter(|ip| !ir.node().owns(*ip)).collect::<Vec<_>>()
    };
    let wanted = ir.services().iter().flat_map(|s| [vec![s.cluster_ip], outside(s)].concat());
    wanted.map(|ip| ip.to_string()).collect()
}

#[test]
fn what_is_applied_replaces_what_was_there() {
    if !ready("what is applied replaces what was there") {
        return;
    }
    for family in Family::ALL {
        let mut irs: Vec<_> = (0..5).map(|seed| synth::sample(seed, family).ir).collect();
        irs.push(scheduled(family));
        let used = namespace();
        for ir in irs {
            let fresh = namespace();
            apply(&used, &ir);
            apply(&fresh, &ir);
            assert_eq!(listing(&used), listing(&fresh), "{ir}");
        }
    }
}

/// What somebody did by hand to the first of two virtual servers, at 172.16.0.1:80, and what an
/// apply says about it.
const DRIFTS: [(&str, &str); 8] = [
    ("ipvsadm -e -t $0 -r 10.0.0.1:8080 -m -w 7", "real servers: 1 with another weight"),
    ("ipvsadm -d -t $0 -r 10.0.0.1:8080", "real servers: 1 added"),
    ("ipvsadm -a -t $0 -r 10.9.9.9:80 -m", "real servers: 1 deleted"),
    ("ipvsadm -E -t $0 -s wlc", "virtual servers: 1 set anew"),
    ("ipvsadm -E -t $0 -s rr -p 5", "virtual servers: 1 set anew"),
    ("sysctl -qw net.ipv4.vs.conntrack=0", "sysctls: set"),
    ("ip route del local 172.16.0.1 dev lo table local proto 110", "local routes: 1 added"),
    (
        "nft delete element ip nfc-ipvs cluster-ips { 172.16.0.1 . tcp . 80 }",
        "table nfc-ipvs, set cluster-ips: 0 elements deleted, 1 added",
    ),
];

#[test]
fn what_drifted_is_mended_and_nothing_else_is_said() {
    if !ready("what drifted is mended and nothing else is said") {
        return;
    }
    let ir = synth::cluster_ips(Family::Ipv4, Protocol::Tcp, 2, 3, Node::default());
    let ir = ir.expect("valid");
    let node = namespace();
    apply(&node, &ir);
    let held = listing(&node);
    for (drift, said) in DRIFTS {
        tool(&node, "sh", &["-ec", drift, "172.16.0.1:80"], "");
        assert_eq!(apply(&node, &ir).changes, [said], "{drift}");
        assert_eq!(listing(&node), held, "{drift}");
        assert!(apply(&node, &ir).unchanged, "{drift}");
    }
    // What nobody can mend is replaced, and what belongs to it is known all the same.
    tool(&node, "nft", &["add", "chain", "ip", "nfc-ipvs", "somebodys"], "");
    tool(&node, "ipvsadm", &["-A", "-t", "172.16.0.1:81", "-s", "rr"], "");
    let said = apply(&node, &ir).changes;
    assert_eq!(said[0], "virtual servers: 1 deleted");
    assert!(said[1].starts_with("table nfc-ipvs"), "{said:?}");
    assert_eq!(listing(&node), held);
}

/// What kube-proxy may have left: its link with addresses of both families, one of them still
/// wanted, and a virtual server at one that is not.
const OF_KUBE_PROXY: &str = "\
set -e
ip link add kube-ipvs0 type dummy
ip address add 172.30.0.1/32 dev kube-ipvs0
ip address add 172.30.9.9/32 dev kube-ipvs0
ip address add fd00:172:30::9:9/128 dev kube-ipvs0 nodad
ipvsadm -A -t 172.30.9.9:80 -s rr
";

#[test]
fn addresses_on_a_dummy_link_give_way_to_routes() {
    if !ready("addresses on a dummy link give way to routes") {
        return;
    }
    let (used, fresh) = (namespace(), namespace());
    tool(&used, "sh", &[], OF_KUBE_PROXY);
    let irs = Family::ALL.map(|family| synth::sample(4, family).ir);
    for (ir, left) in irs.iter().zip([["fd00:172:30::9:9"].as_slice(), &[]]) {
        for namespace in [&used, &fresh] {
            apply(namespace, ir);
        }
        let addresses = inside(&used, link::addresses).expect("addresses");
        let others = addresses.iter().filter(|a| !a.ip.is_loopback());
        assert_eq!(others.map(|a| a.ip.to_string()).collect::<Vec<_>>(), left);
    }
    assert_eq!(listing(&used), listing(&fresh));
}

/// The kernel calls every real server invalid; the reason is another.
#[test]
fn without_loopback_the_refusal_says_so() {
    if !ready("without loopback the refusal says so") {
        return;
    }
    for family in Family::ALL {
        let namespace = Namespace::new().expect("a namespace");
        let ir = synth::cluster_ips(family, Protocol::Tcp, 2, 2, Node::default()).expect("valid");
        let refused = inside(&namespace, || load::apply(ipvs().as_ref(), &ir, &mut Kernel::new()));
        let words = refused.expect_err("nothing is routed to the node").to_string();
        assert!(words.contains("ip link set lo up"), "{words}");
        tool(&namespace, "ip", &["link", "set", "lo", "up"], "");
        apply(&namespace, &ir);
        assert_eq!(bound(&namespace).len(), 2);
    }
}

/// A virtual server, a link and a table of somebody else.
const FOREIGN: &str = "\
set -e
ipvsadm -A -t 192.0.2.1:80 -s lc
ipvsadm -a -t 192.0.2.1:80 -r 198.51.100.1:8080 -m -w 7
ip link add somebodys type dummy
nft add table ip somebodys
";

#[test]
fn deleting_leaves_nothing_of_ours_and_all_of_others() {
    if !ready("deleting leaves nothing of ours and all of others") {
        return;
    }
    let node = namespace();
    tool(&node, "sh", &[], FOREIGN);
    let before = listing(&node);
    assert_eq!(before.servers.len(), 2, "{before:?}");
    let irs = Family::ALL.map(|family| synth::sample(3, family).ir);
    for ir in &irs {
        delete(&node, ir.family());
        assert_eq!(before, listing(&node), "deleting what is not there");
        apply(&node, ir);
        assert!(listing(&node).servers.is_superset(&before.servers), "{:?}", listing(&node));
        delete(&node, ir.family());
        assert_eq!(before, listing(&node), "{}", ir.family());
    }
    for ir in &irs {
        apply(&node, ir);
    }
    delete(&node, Family::Ipv4);
    let rest = namespace();
    tool(&rest, "sh", &[], FOREIGN);
    apply(&rest, &irs[1]);
    assert_eq!(listing(&rest), listing(&node), "the other family stays");
    delete(&node, Family::Ipv6);
    assert_eq!(before, listing(&node));
}

/// One Service with three endpoints, and a packet to it from the client.
fn staged(family: Family, change: impl FnOnce(&mut Service)) -> (Stage, Packet) {
    let mut service = synth::service(family, Protocol::Tcp, 0, 3);
    change(&mut service);
    let destination = SocketAddr::new(service.cluster_ip, service.port.get());
    let node = Node { local_detector: LocalDetector::None, ..Node::default() };
    let ir = Ir::new(family, node, vec![service]).expect("valid");
    let stage = Stage::new(&ir);
    stage.load(ipvs().as_ref(), &ir);
    let source = SocketAddr::new(stage.world.address(Place::Client, family), 1);
    let ingress = Ingress::Interface("eth0".to_owned());
    (stage, Packet { protocol: Protocol::Tcp, source, destination, ingress })
}

/// Where so many connections of one client land.
fn landings(stage: &mut Stage, packet: &Packet, count: usize) -> BTreeSet<SocketAddr> {
    (0..count).map(|_| stage.send(packet)).collect()
}

#[test]
fn real_servers_are_picked_as_the_scheduler_says() {
    if !ready("real servers are picked as the scheduler says") {
        return;
    }
    for family in Family::ALL {
        let (mut stage, packet) = staged(family, |_| ());
        assert_eq!(landings(&mut stage, &packet, 3).len(), 3, "{family}: one after the other");
        let (mut stage, packet) = staged(family, |s| s.scheduler = Scheduler::SourceHash);
        assert_eq!(landings(&mut stage, &packet, 30).len(), 1, "{family}: by source");
        let (mut stage, packet) = staged(family, |s| s.scheduler = Scheduler::Maglev);
        assert_eq!(landings(&mut stage, &packet, 60).len(), 3, "{family}: by source and port");
    }
}
