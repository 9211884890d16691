//! The peers' rulesets in a real kernel: they load, list, change and carry packets as their
//! text promises.
//!
//! Two rulesets are the same when `nft list table` prints the same sets, maps and chains,
//! whatever their order: it prints no handles, and sorts elements. Chains that a change
//! emptied are deleted before, as kube-proxy deletes them a second later.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

use nfc_backend::{Apply, Process, Question, Refusal};
use nfc_bench::peers::{
    Change, PeerError, Shape, endpoint_added, endpoints_changed, service_added, service_removed,
    step, table,
};
use nfc_ir::{
    Endpoint, Family, Ingress, Ir, LocalDetector, Node, Outcome, Packet, Port, Protocol, ProxyMode,
    Scheduler, Service, ServiceName, TrafficPolicy, eval, synth,
};
use nfc_kernel::{Feature, Kernel, Namespace};
use nfc_lab::{Judge, Landing, Place, World, need};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

const NEEDS: [Feature; 3] = [Feature::Namespaces, Feature::Nftables, Feature::NftTool];

fn try_load(namespace: &Namespace, script: &str) -> Result<(), Refusal> {
    let steps = [step(script.to_owned())];
    let applied = namespace.run(|| Kernel::new().apply(&steps));
    applied.expect("the namespace can be entered").map(drop)
}

fn load(namespace: &Namespace, script: &str) {
    try_load(namespace, script).unwrap_or_else(|refusal| panic!("{refusal:?}\n{script}"));
}

fn listing(namespace: &Namespace, family: Family) -> String {
    let family = if family == Family::Ipv4 { "ip" } else { "ip6" };
    let args = ["list", "table", family, "kube-proxy"].map(str::to_owned).into();
    let question = Question::Process(Process { program: "nft", args, stdin: String::new() });
    let answers = namespace.run(|| Kernel::new().ask(&[question])).expect("a namespace");
    let answer = answers.unwrap_or_else(|refusal| panic!("{refusal:?}")).remove(0);
    String::from_utf8(answer.0).expect("text")
}

/// The sets, maps and chains of a listing, in no order.
fn objects(listing: &str) -> BTreeSet<&str> {
    let (_, inside) = listing.split_once("{\n").expect("a table");
    inside.split("\n\t}\n").map(str::trim).collect()
}

fn assert_same(told: &str, meant: &str, what: &str) {
    let (told_objects, meant_objects) = (objects(told), objects(meant));
    let surplus: Vec<_> = told_objects.difference(&meant_objects).collect();
    let lacking: Vec<_> = meant_objects.difference(&told_objects).collect();
    assert!(
        surplus.is_empty() && lacking.is_empty(),
        "{what}: surplus {surplus:#?}\nlacking {lacking:#?}"
    );
    assert_eq!(told.len(), meant.len(), "{what}");
}

/// Services with none, one and three endpoints in every protocol, some with node ports and
/// outside addresses, one that shares its cluster IP.
fn assorted(family: Family) -> Vec<Service> {
    let mut services = Vec::new();
    for (i, endpoints) in (0_u32..).zip([0, 1, 3, 1, 3, 0, 3, 0, 1]) {
        let protocol = Protocol::ALL[i as usize % 3];
        let mut service = synth::service(family, protocol, i, 3);
        service.endpoints.truncate(endpoints);
        if i % 2 == 0 {
            service.node_port = Port::new(30_000 + u16::try_from(i).expect("small"));
        }
        if i % 3 == 2 {
            service.external_ips = [outside(family, i)].into();
            service.load_balancer_ips = [outside(family, 100 + i)].into();
        }
        services.push(service);
    }
    let mut second = synth::service(family, Protocol::Tcp, 1, 2);
    second.name.port = "second".to_owned();
    second.port = Port::new(81).expect("not zero");
    services.push(second);
    // Of this node, so that all shapes know their hairpins.
    let endpoints = services.iter_mut().flat_map(|s| &mut s.endpoints);
    endpoints.for_each(|e| e.local = true);
    services
}

fn outside(family: Family, i: u32) -> IpAddr {
    let text = match family {
        Family::Ipv4 => format!("203.0.113.{i}"),
        Family::Ipv6 => format!("2001:db8:9::{i:x}"),
    };
    text.parse().expect("an address")
}

fn pods(family: Family) -> LocalDetector {
    let block = if family == Family::Ipv4 { "10.0.0.0/8" } else { "fd00:10::/32" };
    LocalDetector::SourceBlock(block.parse().expect("a block"))
}

fn node(world: &World, family: Family) -> Node {
    let block = if family == Family::Ipv4 { "172.16.0.0/12" } else { "fd00:172::/32" };
    Node {
        addresses: world.node_addresses(family),
        local_detector: pods(family),
        service_blocks: [block.parse().expect("a block")].into(),
        ..Node::default()
    }
}

fn ir(family: Family, node: Node, services: Vec<Service>) -> Ir {
    Ir::new(family, node, services).unwrap_or_else(|flaws| panic!("{flaws:?}"))
}

fn script(shape: Shape, ir: &Ir) -> String {
    table(shape, ir).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_text_loads_and_lists_what_it_says() {
    if !need("peers load and list", &NEEDS) {
        return;
    }
    let world = World::new().expect("a world");
    for family in Family::ALL {
        let ir = ir(family, node(&world, family), assorted(family));
        for shape in Shape::ALL {
            let text = script(shape, &ir);
            load(world.node(), &text);
            let first = listing(world.node(), family);
            // A chain, set or map for each that was added, and a rule for each.
            let added = |what: &str| text.lines().filter(|l| l.starts_with(what)).count();
            let objects_added = added("add chain") + added("add set") + added("add map");
            assert_eq!(objects(&first).len() - 1, objects_added, "{first}");
            let rules = first.lines().filter(|l| l.starts_with("\t\t") && is_rule(l)).count();
            assert_eq!(rules, added("add rule"), "{first}");
            load(world.node(), &text);
            assert_same(&listing(world.node(), family), &first, "loaded a second time");
        }
    }
}

/// Neither the head of a base chain, nor a type, nor an element.
fn is_rule(line: &str) -> bool {
    let words = line.trim_start();
    !["type ", "elements = "].iter().any(|head| words.starts_with(head))
        && !line.starts_with("\t\t\t")
}

/// A change and what to call it.
type Told = (&'static str, Ir, Ir, Result<Change, PeerError>);

fn changes(shape: Shape, world: &World, family: Family) -> Vec<Told> {
    let all = assorted(family);
    let made = |services: Vec<Service>| ir(family, node(world, family), services);
    let name = |i: usize| -> ServiceName { all[i].name.clone() };
    let mut told = Vec::new();
    // The first endpoint, the second and the fourth, with and without node ports.
    for i in [0, 1, 2, 5] {
        let mut grown = all.clone();
        let address = synth::endpoint(family, 1_000);
        grown[i].endpoints.push(Endpoint { local: true, ..Endpoint::ready(address) });
        let (old, new) = (made(all.clone()), made(grown));
        let change = endpoint_added(shape, &old, &new, &name(i));
        told.push(("an endpoint more", old, new, change));
    }
    // Those that have an endpoint: the last one goes, or another takes its place.
    for i in (0..all.len()).filter(|i| !all[*i].endpoints.is_empty()) {
        let (mut shrunk, mut swapped) = (all.clone(), all.clone());
        shrunk[i].endpoints.pop();
        let address = synth::endpoint(family, 1_001);
        let last = swapped[i].endpoints.last_mut().expect("an endpoint");
        *last = Endpoint { local: true, ..Endpoint::ready(address) };
        for (what, services) in [("an endpoint less", shrunk), ("another endpoint", swapped)] {
            let (old, new) = (made(all.clone()), made(services));
            let change = endpoints_changed(shape, &old, &new, &name(i));
            told.push((what, old, new, change));
        }
    }
    // Number 1 has two ports.
    for i in [0, 1, 2, 5] {
        let is_it = |s: &Service| s.name.name == all[i].name.name;
        let without = all.iter().filter(|s| !is_it(s)).cloned().collect();
        let (with, without) = (made(all.clone()), made(without));
        let added = service_added(shape, &without, &with, &name(i));
        let removed = service_removed(shape, &with, &without, &name(i));
        told.push(("a Service more", without.clone(), with.clone(), added));
        told.push(("a Service less", with, without, removed));
    }
    told
}

#[test]
fn a_change_leaves_what_a_fresh_load_leaves() {
    if !need("changes of peers", &NEEDS) {
        return;
    }
    let world = World::new().expect("a world");
    let other = Namespace::new().expect("a namespace");
    for family in Family::ALL {
        for shape in Shape::ALL {
            for (what, old, new, change) in changes(shape, &world, family) {
                let change = change.unwrap_or_else(|error| panic!("{what}: {error}"));
                load(world.node(), &script(shape, &old));
                load(world.node(), &change.transaction);
                load(&other, &script(shape, &new));
                let meant = listing(&other, family);
                let stale = change.clean_up.lines().count();
                let between = listing(world.node(), family);
                assert_eq!(objects(&between).len(), objects(&meant).len() + stale, "{what}");
                load(world.node(), &change.clean_up);
                let told = listing(world.node(), family);
                assert_same(&told, &meant, &format!("{what} in {shape}, {family}"));
            }
        }
    }
}

/// A world whose node has the addresses that `ir` says, and who sends through it.
fn stage(ir: &Ir) -> (World, Judge) {
    let world = World::of(ir).expect("a world");
    let judge = Judge::new(&world).expect("a witness");
    (world, judge)
}

/// Holds `packet` against what `ir` means to kube-proxy's nftables mode.
fn hold(judge: &mut Judge, ir: &Ir, packet: &Packet) {
    judge
        .judge(ir, ProxyMode::Nftables, packet)
        .unwrap_or_else(|wrong| panic!("{wrong}\n{ir}\n{:?}", ir.node()));
}

/// Packets to every frontend of `ir` from a stranger, a pod, and its first endpoint.
fn probes(ir: &Ir, world: &World) -> Vec<Packet> {
    let family = ir.family();
    let stranger = (world.address(Place::Client, family), "eth0");
    let pod = (synth::endpoint(family, 9_999).ip(), "cbr0");
    let mut packets = Vec::new();
    for service in ir.services() {
        let first = service.endpoints.first().map(|e| (e.address.ip(), "cbr0"));
        let at = |ip: IpAddr| SocketAddr::new(ip, service.port.get());
        let node_port = service.node_port.map(|p| SocketAddr::new(ir.node().addresses[0], p.get()));
        let outside = service.external_ips.iter().chain(&service.load_balancer_ips);
        let targets = std::iter::once(service.cluster_ip).chain(outside.copied()).map(at);
        for destination in targets.chain(node_port) {
            for (ip, link) in [stranger, pod].into_iter().chain(first) {
                packets.push(Packet {
                    protocol: service.protocol,
                    source: SocketAddr::new(ip, 1_024),
                    destination,
                    ingress: Ingress::Interface(link.to_owned()),
                });
            }
        }
    }
    packets
}

#[test]
fn packets_land_at_every_endpoint() {
    if !need("packets through peers", &NEEDS) {
        return;
    }
    for family in Family::ALL {
        let world = World::new().expect("a world");
        let ir = ir(family, node(&world, family), assorted(family));
        for shape in Shape::ALL {
            let (world, mut judge) = stage(&Ir::empty(family));
            load(world.node(), &script(shape, &ir));
            let packets = probes(&ir, &world);
            let outcomes: Vec<_> =
                packets.iter().map(|p| eval(&ir, ProxyMode::Nftables, p)).collect();
            let masqueraded =
                |to: bool| outcomes.iter().flat_map(Outcome::endpoints).any(|c| c.masquerade == to);
            assert!(masqueraded(true) && masqueraded(false), "both must be asked about");
            assert!(outcomes.contains(&Outcome::Reject));
            packets.iter().for_each(|packet| hold(&mut judge, &ir, packet));
        }
    }
}

/// What the shapes can say of a random Ir: its nodes, addresses, topology and terminating
/// endpoints as they come, the rest as kube-proxy's defaults.
fn coverable(sample: &Ir) -> Ir {
    let mut services = sample.services().to_vec();
    for service in &mut services {
        service.internal_policy = TrafficPolicy::Cluster;
        service.external_policy = TrafficPolicy::Cluster;
        service.affinity = None;
        service.source_ranges.clear();
        service.scheduler = Scheduler::Random;
        for endpoint in &mut service.endpoints {
            endpoint.weight = std::num::NonZeroU16::MIN;
            endpoint.local = true;
        }
    }
    ir(sample.family(), sample.node().clone(), services)
}

/// Each sample is some hundred packets; those that vanish take a tenth of a second each.
const SAMPLES: u64 = 4;

fn samples_hold(family: Family) {
    if !need(&format!("packets of {family} samples through peers"), &NEEDS) {
        return;
    }
    let mut judged = 0;
    for seed in 0..SAMPLES {
        let synth::Sample { ir, packets } = synth::sample(seed, family);
        let ir = coverable(&ir);
        for shape in Shape::ALL {
            let (world, mut judge) = stage(&ir);
            load(world.node(), &script(shape, &ir));
            packets.iter().for_each(|packet| hold(&mut judge, &ir, packet));
            judged += packets.len();
        }
    }
    assert!(judged > 100, "only {judged} packets were judged");
}

#[test]
fn ipv4_samples_hold() {
    samples_hold(Family::Ipv4);
}

#[test]
fn ipv6_samples_hold() {
    samples_hold(Family::Ipv6);
}

/// The one difference that the module's documentation owns up to: since 1.36 a hairpin is
/// known only when the endpoint is on this node.
#[test]
fn hairpins_of_other_nodes_are_masqueraded_by_the_oldest_shape_only() {
    if !need("hairpins of other nodes", &NEEDS) {
        return;
    }
    let family = Family::Ipv4;
    let (world, mut judge) = stage(&Ir::empty(family));
    let elsewhere = synth::service(family, Protocol::Tcp, 0, 1);
    assert!(!elsewhere.endpoints[0].local);
    let source = SocketAddr::new(elsewhere.endpoints[0].address.ip(), 1_024);
    let packet = Packet {
        protocol: Protocol::Tcp,
        source,
        destination: SocketAddr::new(elsewhere.cluster_ip, elsewhere.port.get()),
        ingress: Ingress::Interface("cbr0".to_owned()),
    };
    let ir = ir(family, node(&world, family), vec![elsewhere]);
    for shape in Shape::ALL {
        load(world.node(), &script(shape, &ir));
        let landing = judge.send(&packet).expect("a packet");
        let Landing::Endpoint(choice) = landing else { panic!("{shape}: {landing}") };
        assert_eq!(choice.masquerade, shape == Shape::ChainPerEndpoint, "{shape}");
    }
}

/// A refused transaction leaves the old rules whole, so that a change that went to the wrong
/// table is noticed.
#[test]
fn a_change_of_something_else_is_refused_by_the_kernel() {
    if !need("a change without a table", &NEEDS) {
        return;
    }
    let world = World::new().expect("a world");
    let (_, _, _, change) =
        changes(Shape::MapPerService, &world, Family::Ipv4).pop().expect("changes");
    let change = change.expect("a change");
    assert!(try_load(world.node(), &change.transaction).is_err());
}
