//! The layouts of the nft backend: the same fates for the same packets, the same table by
//! text and by bytes, and the way from one layout to the other.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

mod stage;

use nfc::{compile, registry};
use nfc_backend::{AnyBackend, Question};
use nfc_ir::{Affinity, Family, Ingress, Ir, Node, Packet, Protocol, Service, eval, synth};
use nfc_kernel::Namespace;
use nfc_lab::need;
use nfc_netns_tests::case;
use stage::{NFT, Stage, apply, backend, cases_hold, example, examples, meaning, tool};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU32;

const NAME: &str = "nft-constant-time";

fn ready(what: &str, family: Family) -> bool {
    need(&format!("{what}, {family}, constant-time"), &NFT)
}

#[test]
fn every_layout_is_found_by_name() {
    assert!(registry::layouts().iter().all(|layout| registry::find(layout.name()).is_some()));
    let asked = |backend: Option<Box<dyn AnyBackend>>| backend.map(|b| b.questions(Family::Ipv4));
    match (asked(registry::find_whole(NAME)).as_deref(), asked(registry::find(NAME)).as_deref()) {
        (Some([Question::Nftables(whole)]), Some([Question::Nftables(all)])) => {
            assert!(all.starts_with(whole) && whole.len() * 4 < all.len(), "no elements");
        }
        others => panic!("{others:?}"),
    }
}

#[test]
fn cases_hold_in_the_tracer() {
    let backend = backend(NAME);
    let mut judged = 0;
    for case in case::all() {
        for scene in &case.scenes {
            let ir = meaning(&case, scene, backend.mode());
            let program = backend.lower(&ir).program;
            for flow in &scene.flows {
                let meant = eval(&ir, backend.mode(), &flow.packet);
                let traced = backend.trace(&program, &flow.packet).expect("every shape is known");
                assert!(traced.agrees_with(&meant), "{}: {}: {traced}", case.name, flow.line);
                judged += 1;
            }
        }
    }
    assert!(judged > 100, "only {judged} packets were judged");
}

#[test]
fn ipv4_cases_hold() {
    cases_hold(NAME, Family::Ipv4);
}

#[test]
fn ipv6_cases_hold() {
    cases_hold(NAME, Family::Ipv6);
}

/// Counts the packets that leave, and among them those whose priority is not as it was.
const WATCH: &str = "
table inet watch {
	counter left { }
	counter changed { }

	chain leaving {
		type filter hook postrouting priority 300; policy accept;
		meta l4proto { tcp, udp, sctp } counter name left
		meta l4proto { tcp, udp, sctp } meta priority != none counter name changed
	}
}
";

fn counted(node: &Namespace, counter: &str) -> u64 {
    let text = tool(node, "nft", &["list", "counter", "inet", "watch", counter], "");
    let (_, rest) = text.split_once("packets ").expect("a counter");
    let digits = rest.split(' ').next().expect("a number");
    digits.parse().expect("a number")
}

/// Random Services, loaded over those before them, which may have been of another layout.
fn samples_hold(family: Family) {
    if !ready("packets of samples", family) {
        return;
    }
    for seed in 0..4 {
        let synth::Sample { ir, packets } = synth::sample(seed, family);
        let mut stage = Stage::new(&ir);
        let other = backend(if seed % 2 == 0 { "nft" } else { NAME });
        stage.load(other.as_ref(), &synth::sample(seed + 50, family).ir);
        let backend = backend(NAME);
        stage.load(backend.as_ref(), &ir);
        tool(stage.world.node(), "nft", &["-f", "-"], WATCH);
        stage.hold(seed, &ir, backend.mode(), &packets);
        // The number of a class, or of an endpoint, is gone when the packet is.
        assert!(counted(stage.world.node(), "left") > 0);
        assert_eq!(counted(stage.world.node(), "changed"), 0, "seed {seed}");
    }
}

#[test]
fn ipv4_samples_hold() {
    samples_hold(Family::Ipv4);
}

#[test]
fn ipv6_samples_hold() {
    samples_hold(Family::Ipv6);
}

/// The numbers of classes and of endpoints share a packet's priority, and do not meet. An
/// update leaves clients where they are.
#[test]
fn clients_keep_their_endpoints() {
    if !ready("clients keep their endpoints", Family::Ipv4) {
        return;
    }
    let service = |endpoints| synth::service(Family::Ipv4, Protocol::Udp, 0, endpoints);
    let ir = |endpoints| {
        let ir = Ir::new(Family::Ipv4, Node::default(), vec![service(endpoints)]).expect("valid");
        with_affinity(&ir)
    };
    let (backend, before, after) = (backend(NAME), ir(4), ir(5));
    let mut stage = Stage::new(&before);
    stage.load(backend.as_ref(), &before);
    let endpoint = |stage: &mut Stage, client: u8| {
        stage.send(&Packet {
            protocol: Protocol::Udp,
            source: SocketAddr::from(([203, 0, 113, client], 1)),
            destination: SocketAddr::new(service(1).cluster_ip, service(1).port.get()),
            ingress: Ingress::Interface("eth0".to_owned()),
        })
    };
    let first: Vec<_> = (1..=30).map(|client| endpoint(&mut stage, client)).collect();
    let used: BTreeSet<_> = first.iter().collect();
    assert!(used.len() > 1, "nobody is spread: {used:?}");
    stage.load(backend.as_ref(), &after);
    let again: Vec<_> = (1..=30).map(|client| endpoint(&mut stage, client)).collect();
    assert_eq!(first, again);
}

fn with_affinity(ir: &Ir) -> Ir {
    let timeout_seconds = NonZeroU32::MIN.saturating_add(59);
    let sticky = |service: &Service| Service {
        affinity: Some(Affinity { timeout_seconds }),
        ..service.clone()
    };
    let services = ir.services().iter().map(sticky).collect();
    Ir::new(ir.family(), ir.node().clone(), services).expect("still valid")
}

fn subjects() -> Vec<Ir> {
    let backend = backend(NAME);
    let named = examples().into_iter().flat_map(|n| example(&n, backend.as_ref()).into_values());
    let samples = (0..12).flat_map(|seed| Family::ALL.map(|f| synth::sample(seed, f).ir));
    let sticky = (0..4)
        .flat_map(|seed| Family::ALL.map(|family| with_affinity(&synth::sample(seed, family).ir)));
    named.chain(samples).chain(sticky).collect()
}

fn listed(node: &Namespace) -> String {
    tool(node, "nft", &["list", "ruleset"], "")
}

#[test]
fn text_bytes_and_listing_are_one_table() {
    if !ready("text, bytes and listing are one table", Family::Ipv4) {
        return;
    }
    let backend = backend(NAME);
    for ir in subjects() {
        let nodes = [(); 3].map(|()| Namespace::new().expect("a namespace"));
        let [by_text, by_bytes, by_listing] = &nodes;
        tool(by_text, "nft", &["-f", "-"], &compile::compile(backend.as_ref(), [&ir]).text);
        apply(by_bytes, backend.as_ref(), &ir);
        let listing = listed(by_bytes);
        assert!(listing.contains("meta priority vmap @classes"), "{listing}");
        assert_eq!(listed(by_text), listing);
        tool(by_listing, "nft", &["-f", "-"], &listing);
        assert_eq!(listed(by_listing), listing);
    }
}
