//! The central law, at length: what Services mean is what every backend's rules do, for
//! thousands of packets to hundreds of made-up clusters; and the test of that law notices
//! each kind of broken rule.
//!
//! The clusters are those of a fixed range of seeds, the same on every run, and as many
//! from a seed that the clock gives, printed so that a failure can be had again
//! (`NFC_SEED`). A failure is made as small as it gets and printed as a case.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

mod stage;

use nfc::registry;
use nfc_backend::AnyBackend;
use nfc_ir::synth::{self, Dice, Sample};
use nfc_ir::{Endpoint, Family, Ir, LocalDetector, Node, Packet, Service, eval};
use nfc_netns_tests::manifest;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

/// Clusters from fixed seeds, and again as many from the clock; each in both families.
const CLUSTERS: u64 = 300;

/// The least number of packets that must have been judged for each backend.
const PACKETS_MIN: usize = 100_000;

fn backends() -> Vec<Box<dyn AnyBackend>> {
    registry::all()
}

fn clock_seed() -> u64 {
    let typed = std::env::var("NFC_SEED").ok().map(|s| s.parse().expect("NFC_SEED is a number"));
    typed.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        now.as_secs()
    })
}

/// What `rules`, made from some Services, do otherwise than what `ir` means.
fn disagreement(
    backend: &dyn AnyBackend,
    rules: &Ir,
    ir: &Ir,
    packets: &[Packet],
) -> Option<(Packet, String)> {
    let program = backend.lower(rules).program;
    packets.iter().find_map(|packet| {
        let meant = eval(ir, backend.mode(), packet);
        let traced = backend.trace(&program, packet);
        let told = match &traced {
            Ok(traced) if traced.agrees_with(&meant) => return None,
            Ok(traced) => traced.to_string(),
            Err(error) => error.to_string(),
        };
        Some((packet.clone(), format!("{}: meant {meant}, the rules do: {told}", backend.name())))
    })
}

#[test]
fn the_rules_of_every_backend_do_what_services_mean() {
    let seed = clock_seed();
    println!("the seed of this run is {seed}: NFC_SEED={seed} gives it again");
    let fresh = (0..CLUSTERS).map(|i| Dice::new(seed.wrapping_add(i)).roll());
    let mut judged = 0;
    for cluster in (0..CLUSTERS).chain(fresh) {
        for family in Family::ALL {
            let Sample { ir, packets } = synth::sample(cluster, family);
            judged += packets.len();
            for backend in backends() {
                if disagreement(backend.as_ref(), &ir, &ir, &packets).is_some() {
                    report(backend.as_ref(), &ir, &packets, seed);
                }
            }
        }
    }
    assert!(judged > PACKETS_MIN, "only {judged} packets were judged");
}

/// Fails with the smallest cluster that still shows the disagreement.
fn report(backend: &dyn AnyBackend, ir: &Ir, packets: &[Packet], seed: u64) -> ! {
    let smallest = shrink(backend, ir.clone(), packets);
    let (packet, told) = disagreement(backend, &smallest, &smallest, packets)
        .expect("shrinking keeps the disagreement");
    panic!(
        "seed {seed}: {packet}: {told}\n\n# A cluster to paste into a case. With its sections \
         as files of their own:\n# nfc explain '{packet}' --backend {} --config config \
         objects\n{}",
        backend.name(),
        manifest::of(&smallest)
    );
}

/// Leaves out Services and endpoints as long as the rest still disagrees.
fn shrink(backend: &dyn AnyBackend, ir: Ir, packets: &[Packet]) -> Ir {
    let mut ir = ir;
    loop {
        let still_wrong = |i: &Ir| disagreement(backend, i, i, packets).is_some();
        let Some(smaller) = smaller(&ir).find(still_wrong) else { break };
        ir = smaller;
    }
    ir
}

fn smaller(ir: &Ir) -> impl Iterator<Item = Ir> + '_ {
    let services = ir.services();
    let without_service = (0..services.len()).map(move |i| {
        let mut fewer = services.to_vec();
        fewer.remove(i);
        fewer
    });
    let places =
        (0..services.len()).flat_map(|i| (0..services[i].endpoints.len()).map(move |j| (i, j)));
    let without_endpoint = places.map(move |(i, j)| {
        let mut fewer = services.to_vec();
        fewer[i].endpoints.remove(j);
        fewer
    });
    let made = without_service.chain(without_endpoint);
    made.filter_map(|services| Ir::new(ir.family(), ir.node().clone(), services).ok())
}

/// One way to break the rules: a change to the Services that they are made from.
type Breakage = (&'static str, fn(&mut Node, &mut Vec<Service>));

const BREAKAGES: &[Breakage] = &[
    ("a missing masquerade", |node, _| {
        node.local_detector = LocalDetector::None;
        node.masquerade_all = false;
    }),
    ("a wrong port", |_, services| each_endpoint(services, |e| e.address.set_port(8081))),
    ("a lost endpoint", |_, services| {
        services.iter_mut().for_each(|s| drop(s.endpoints.pop()));
    }),
    ("an endpoint too many", |_, services| {
        for service in services {
            let ip = service.endpoints.first().map(|e| e.address.ip());
            service.endpoints.extend(ip.map(|ip| Endpoint::ready(SocketAddr::new(ip, 9999))));
        }
    }),
    ("a skipped source range", |_, services| {
        services.iter_mut().for_each(|s| s.source_ranges.clear());
    }),
    ("a wrong slot", |_, services| {
        each_endpoint(services, |e| e.weight = e.weight.saturating_add(u16::from(e.local) * 5));
    }),
    ("a forgotten Local policy", |_, services| {
        services.iter_mut().for_each(|s| s.external_policy = nfc_ir::TrafficPolicy::Cluster);
    }),
    ("a closed node port", |_, services| services.iter_mut().for_each(|s| s.node_port = None)),
    ("a Service without endpoints that is not refused", |_, services| {
        services.retain(|s| !s.endpoints.is_empty());
    }),
];

fn each_endpoint(services: &mut [Service], change: fn(&mut Endpoint)) {
    services.iter_mut().flat_map(|s| &mut s.endpoints).for_each(change);
}

/// A law that nothing can break is no law: rules made from broken Services must be found
/// out, in every backend, for every kind of breakage.
#[test]
fn every_kind_of_broken_rule_is_found_out() {
    for (what, break_it) in BREAKAGES {
        for backend in backends() {
            let found = (0..60).any(|seed| {
                let Sample { ir, packets } = synth::sample(seed, Family::Ipv4);
                let (mut node, mut services) = (ir.node().clone(), ir.services().to_vec());
                break_it(&mut node, &mut services);
                let broken = Ir::new(ir.family(), node, services).expect("still an Ir");
                disagreement(backend.as_ref(), &broken, &ir, &packets).is_some()
            });
            assert!(found, "nobody notices {what} in {}", backend.name());
        }
    }
}

/// What is printed of a failure is that failure: it reads back as the same cluster.
#[test]
fn a_sample_written_as_a_case_reads_back_as_itself() {
    let mut judged = 0;
    for seed in 0..100 {
        for family in Family::ALL {
            let Sample { ir, packets } = synth::sample(seed, family);
            for backend in backends() {
                let mode = backend.mode();
                let (config, objects) = (manifest::config(ir.node()), manifest::objects(&ir));
                let again = stage::read("sample", &config, &objects, family, mode);
                let schedulers =
                    |ir: &Ir| -> Vec<_> { ir.services().iter().map(|s| s.scheduler).collect() };
                assert_eq!(schedulers(&ir), schedulers(&again), "seed {seed}");
                for packet in &packets {
                    let (meant, read) = (eval(&ir, mode, packet), eval(&again, mode, packet));
                    assert!(
                        meant.agrees_with(&read),
                        "seed {seed}, {mode}: {packet}: {meant}, read back: {read}\n{}",
                        manifest::of(&ir)
                    );
                    judged += 1;
                }
            }
        }
    }
    assert!(judged > PACKETS_MIN / 10, "only {judged} packets were judged");
}
