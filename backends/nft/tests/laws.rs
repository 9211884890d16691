//! The laws of a backend, on random Services and packets.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use nfc_backend::Backend;
use nfc_ir::synth::{cluster_ips, sample};
use nfc_ir::{
    Affinity, Endpoint, Family, Ingress, Ir, Node, Outcome, Packet, Protocol, Scheduler, Service,
    eval,
};
use nfc_nft::{Layout, Loading, Nft, Program};
use nfc_ruleset::{ChainChange, SetChange};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;

/// The backend.
const NFT: Nft = Nft { layout: Layout::Verdict, loading: Loading::Difference };

fn families() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::Ipv4), Just(Family::Ipv6)]
}

fn program(nft: Nft, ir: &Ir) -> Program {
    nft.lower(ir).program
}

fn backends() -> impl Strategy<Value = Nft> {
    let of = |layout| Nft { layout, ..NFT };
    prop_oneof![Just(of(Layout::Verdict)), Just(of(Layout::ConstantTime))]
}

fn with_services(ir: &Ir, change: impl FnOnce(&mut Vec<Service>)) -> Ir {
    let mut services = ir.services().to_vec();
    change(&mut services);
    Ir::new(ir.family(), ir.node().clone(), services).expect("still valid")
}

/// How many messages' worth of objects a patch names: elements, rules, sets and chains.
fn work(old: &Program, new: &Program) -> usize {
    let patch = NFT.diff(old, new).table;
    let elements = patch.sets.values().map(|change| match change {
        SetChange::Add(set) | SetChange::Rebuild(set) => set.elements.len() + 1,
        SetChange::Update { gone, come, .. } => gone.len() + come.len(),
        SetChange::Delete => 1,
    });
    let rules = patch.chains.values().map(|change| match change {
        ChainChange::Add(c) | ChainChange::Rebuild(c) | ChainChange::Refill(c) => c.rules.len() + 1,
        ChainChange::Delete => 1,
    });
    elements.chain(rules).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_trace_agrees_with_the_meaning(seed: u64, family in families(), nft in backends()) {
        let sample = sample(seed, family);
        let program = program(nft, &sample.ir);
        for packet in &sample.packets {
            let meant = eval(&sample.ir, nft.mode(), packet);
            let done = nft.trace(&program, packet).expect("every shape is known");
            prop_assert!(
                meant.agrees_with(&done),
                "{packet}\nmeant {meant}\ndone  {done}\n{}\n{}",
                sample.ir,
                nft.render(std::slice::from_ref(&program))
            );
        }
    }

    #[test]
    fn lowering_is_blind_to_order(seed: u64, family in families(), nft in backends()) {
        let ir = sample(seed, family).ir;
        let turned = with_services(&ir, |services| {
            services.reverse();
            services.iter_mut().for_each(|s| s.endpoints.reverse());
        });
        prop_assert_eq!(program(nft, &ir), program(nft, &turned));
    }

    #[test]
    fn a_patched_program_is_the_new_one(
        a: u64,
        b: u64,
        family in families(),
        nft in backends(),
        another in backends(),
    ) {
        let (old, new) = (program(nft, &sample(a, family).ir), program(nft, &sample(b, family).ir));
        for (old, new) in [(&old, &new), (&nft.empty(family), &new), (&old, &nft.empty(family))] {
            let patch = nft.diff(old, new);
            prop_assert_eq!(&nft.patched(old, &patch), new);
            prop_assert_eq!(nft.is_empty(&patch), old.table == new.table);
            prop_assert_eq!(nft.encode(&patch).is_empty(), old.table == new.table);
            let replaced = nft.patched(old, &nft.replace(&[], new));
            prop_assert_eq!(&replaced, new);
        }
        let other = program(another, &sample(b, family).ir);
        prop_assert_eq!(&nft.patched(&old, &nft.diff(&old, &other)), &other);
        let nothing = nft.diff(&old, &old);
        prop_assert!(nft.is_empty(&nothing) && nft.encode(&nothing).is_empty());
    }

    #[test]
    fn turns_and_hashes_spread_like_chance(seed: u64, family in families(), nft in backends(), turns: bool) {
        let sample = sample(seed, family);
        let scheduler = if turns { Scheduler::RoundRobin } else { Scheduler::SourceHash };
        let hashed = with_services(&sample.ir, |services| {
            services.iter_mut().for_each(|s| s.scheduler = scheduler);
        });
        let program = program(nft, &hashed);
        for packet in &sample.packets {
            let meant = eval(&hashed, nft.mode(), packet);
            let done = nft.trace(&program, packet).expect("every shape is known");
            prop_assert!(meant.agrees_with(&done), "{packet}\nmeant {meant}\ndone  {done}");
        }
    }
}

#[test]
fn the_work_of_a_change_does_not_grow_with_the_services() {
    let work_at = |count: u32| {
        let ir = cluster_ips(Family::Ipv4, Protocol::Tcp, count, 3, Node::default());
        let ir = ir.expect("valid");
        let more = with_services(&ir, |services| {
            let address = nfc_ir::synth::endpoint(Family::Ipv4, 1 << 20);
            services[count as usize / 2].endpoints.push(Endpoint::ready(address));
        });
        let fewer = with_services(&ir, |services| drop(services.remove(1)));
        let old = program(NFT, &ir);
        (work(&old, &program(NFT, &more)), work(&old, &program(NFT, &fewer)))
    };
    for (more, fewer) in [20, 200].map(work_at) {
        // The verdict and at most every slot, each taken out and put in; the hairpin; a new
        // class with its rules.
        assert!(more <= 2 + 2 * 4 + 1 + 2, "{more}");
        // The verdict, three slots, three hairpins, the cluster IP.
        assert_eq!(fewer, 8);
    }
}

/// In the constant-time layout no verdict comes or goes with a Service of a known class: it
/// is verdicts that cost the kernel time.
#[test]
fn services_come_and_go_without_verdicts() {
    let nft = Nft { layout: Layout::ConstantTime, ..NFT };
    for seed in 0..40 {
        let ir = sample(seed, Family::Ipv4).ir;
        let old = program(nft, &ir);
        let twin = with_services(&ir, |services| {
            let mut twin = services[0].clone();
            twin.name.name.push_str("-twin");
            twin.cluster_ip = "172.30.200.200".parse().expect("an address");
            twin.external_ips.clear();
            twin.load_balancer_ips.clear();
            twin.node_port = twin.node_port.and(nfc_ir::Port::new(31_999));
            twin.health_check_port = None;
            services.push(twin);
        });
        let patch = nft.diff(&old, &program(nft, &twin)).table;
        assert!(patch.chains.is_empty(), "{:?}", patch.chains);
        let verdicts = patch.sets.iter().filter(|(name, change)| match change {
            SetChange::Add(set) | SetChange::Rebuild(set) => {
                set.value == nfc_ruleset::Value::Verdict
            }
            SetChange::Update { shape, .. } => shape.value == nfc_ruleset::Value::Verdict,
            SetChange::Delete => panic!("{name} is deleted"),
        });
        assert_eq!(verdicts.count(), 0);
    }
}

#[test]
fn objects_do_not_grow_with_the_services() {
    let objects = |count| {
        let ir = cluster_ips(Family::Ipv6, Protocol::Udp, count, 2, Node::default());
        let table = program(NFT, &ir.expect("valid")).table.expect("a table");
        let rules: usize = table.chains.values().map(|chain| chain.rules.len()).sum();
        (table.sets.len(), table.chains.len(), rules)
    };
    assert_eq!(objects(1), objects(500));
}

#[test]
fn maglev_spreads_over_all_endpoints_nearly_evenly() {
    let ir = cluster_ips(Family::Ipv4, Protocol::Tcp, 1, 7, Node::default()).expect("valid");
    let ir = with_services(&ir, |services| services[0].scheduler = Scheduler::Maglev);
    let packet = Packet {
        protocol: Protocol::Tcp,
        source: "192.0.2.1:40000".parse().expect("an address"),
        destination: SocketAddr::new(ir.services()[0].cluster_ip, 80),
        ingress: Ingress::Interface("eth0".to_owned()),
    };
    let lowered = NFT.lower(&ir);
    let Ok(Outcome::Balance(choices)) = NFT.trace(&lowered.program, &packet) else {
        panic!("the Service answers");
    };
    assert_eq!(choices.len(), 7);
    assert!(choices.values().all(|share| (share - 1.0 / 7.0).abs() < 1.0 / 251.0));
    assert_eq!(lowered.unsupported.len(), 1, "the rounding is reported");
}

#[test]
fn shared_turns_are_reported() {
    let reported = |services| {
        let ir = cluster_ips(Family::Ipv4, Protocol::Tcp, services, 2, Node::default());
        let ir = with_services(&ir.expect("valid"), |services| {
            services.iter_mut().for_each(|s| s.scheduler = Scheduler::RoundRobin);
        });
        NFT.lower(&ir).unsupported.len()
    };
    assert_eq!((reported(1), reported(2)), (0, 2));
}

#[test]
fn the_longest_names_are_still_comments() {
    let ir = cluster_ips(Family::Ipv4, Protocol::Tcp, 1, 1, Node::default()).expect("valid");
    let ir = with_services(&ir, |services| {
        let name = &mut services[0].name;
        (name.namespace, name.name) = ("n".repeat(63), "s".repeat(63));
        name.port = "p".repeat(15);
    });
    let text = NFT.render(&[program(NFT, &ir)]);
    let comment = format!("comment \"{}/{}\"", "n".repeat(63), "s".repeat(63));
    assert!(text.contains(&comment), "{text}");
}

#[test]
fn affinity_is_said_in_both_families() {
    for family in Family::ALL {
        let ir = cluster_ips(family, Protocol::Tcp, 1, 2, Node::default()).expect("valid");
        let ir = with_services(&ir, |services| {
            let timeout_seconds = NonZeroU32::MIN.saturating_add(59);
            services[0].affinity = Some(Affinity { timeout_seconds });
        });
        let lowered = NFT.lower(&ir);
        assert_eq!(lowered.unsupported, []);
        let table = lowered.program.table.expect("a table");
        let clients = &table.sets["affinity"];
        // Beyond 16 bytes nft 1.0.6 has the value overwrite the key.
        assert!(clients.dynamic && clients.elements.key_len() <= 16);
    }
}

/// The first law would be empty if the samples never asked about something.
#[test]
fn the_samples_meet_every_outcome() {
    let mut met = BTreeMap::new();
    for seed in 0..200 {
        let sample = sample(seed, Family::Ipv4);
        let program = program(NFT, &sample.ir);
        for packet in &sample.packets {
            let kind = match NFT.trace(&program, packet).expect("every shape is known") {
                Outcome::Balance(ways) if ways.keys().all(|way| way.masquerade) => "masqueraded",
                Outcome::Balance(ways) if ways.keys().any(|way| way.masquerade) => "hairpin",
                Outcome::Balance(_) => "balanced",
                Outcome::Reject => "rejected",
                Outcome::Drop => "dropped",
                Outcome::Accept => "accepted",
                Outcome::Pass => "passed",
            };
            *met.entry(kind).or_insert(0) += 1;
        }
    }
    let kinds: Vec<_> = met.into_keys().collect();
    let all = ["balanced", "dropped", "hairpin", "masqueraded", "passed", "rejected"];
    assert_eq!(kinds, all);
}
