//! What `diff` says differs, differs; and nothing that packets would notice goes unsaid.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

use nfc::diff::{Fate, differences, document, text};
use nfc::registry;
use nfc_ir::synth::{self, Sample};
use nfc_ir::{Affinity, Endpoint, Family, Ir, Node, Protocol, Service, TrafficPolicy, eval};
use std::collections::BTreeMap;

fn irs(ir: &Ir) -> BTreeMap<Family, Ir> {
    [(ir.family(), ir.clone())].into()
}

fn three_endpoints() -> Ir {
    synth::cluster_ips(Family::Ipv4, Protocol::Tcp, 2, 3, Node::default()).expect("valid")
}

fn changed(ir: &Ir, change: impl FnOnce(&mut Vec<Service>)) -> Ir {
    let mut services = ir.services().to_vec();
    change(&mut services);
    Ir::new(ir.family(), ir.node().clone(), services).expect("still valid")
}

fn told(old: &Ir, new: &Ir) -> String {
    text(&differences(&irs(old), &irs(new)))
}

#[test]
fn changes_are_told_in_terms_of_services() {
    let old = three_endpoints();
    let fewer = changed(&old, |services| drop(services[0].endpoints.remove(1)));
    assert_eq!(
        told(&old, &fewer),
        "~ synth/svc-000000 (tcp, IPv4)\n    \
         ~ endpoint 10.0.0.1:8080: 33.3 % -> 50.0 %\n    \
         - endpoint 10.0.0.2:8080: 33.3 %\n    \
         ~ endpoint 10.0.0.3:8080: 33.3 % -> 50.0 %\n"
    );
    let unready = changed(&old, |services| services[1].endpoints[2].ready = false);
    assert!(told(&old, &unready).contains("endpoint 10.0.0.6:8080: 33.3 % -> unused (not ready)"));
    let gone = changed(&old, |services| drop(services.pop()));
    let removed = differences(&irs(&old), &irs(&gone));
    assert_eq!(removed.len(), 1);
    assert_eq!(removed[0].fate, Fate::Removed);
    assert!(told(&gone, &old).starts_with("+ synth/svc-000001 (tcp, IPv4)\n    + clusterIP"));
    let sticky = changed(&old, |services| {
        let timeout_seconds = 300.try_into().expect("not zero");
        services[0].affinity = Some(Affinity { timeout_seconds });
    });
    assert!(told(&old, &sticky).contains("~ sessionAffinity: None -> ClientIP, 300 s"));
    let document = document(Some(&differences(&irs(&old), &irs(&sticky))), &[]);
    assert_eq!(document["differences"][0]["changes"][0]["kind"], "sessionAffinity");
}

type Alteration = (&'static str, fn(&mut Service));

const CHANGES: &[Alteration] = &[
    ("a policy", |s| s.internal_policy = TrafficPolicy::Local),
    ("another policy", |s| s.external_policy = TrafficPolicy::Local),
    ("a node port", |s| s.node_port = None),
    ("source ranges", |s| s.source_ranges.clear()),
    ("external IPs", |s| s.external_ips.clear()),
    ("load balancer IPs", |s| s.load_balancer_ips.clear()),
    ("readiness", |s| s.endpoints.iter_mut().for_each(|e| e.ready = !e.ready)),
    ("weights", |s| {
        s.endpoints.iter_mut().take(1).for_each(|e| e.weight = 9.try_into().expect("9"));
    }),
    ("hints", |s| s.endpoints.iter_mut().for_each(|e| e.hints.zones.clear())),
    ("a place", |s| s.endpoints.iter_mut().for_each(|e: &mut Endpoint| e.local = !e.local)),
    ("health checks", |s| s.health_check_port = None),
];

/// If any packet meets another fate, something is said; if nothing changed, nothing is.
#[test]
fn whatever_a_packet_notices_is_said() {
    let mut noticed = BTreeMap::new();
    for seed in 0..60 {
        for family in Family::ALL {
            let Sample { ir, packets } = synth::sample(seed, family);
            assert_eq!(told(&ir, &ir), "");
            for (what, change) in CHANGES {
                let new = changed(&ir, |services| services.iter_mut().for_each(change));
                let said = !told(&ir, &new).is_empty();
                let differs = registry::all().iter().any(|backend| {
                    let mode = backend.mode();
                    packets.iter().any(|p| !eval(&ir, mode, p).agrees_with(&eval(&new, mode, p)))
                });
                assert!(said || !differs, "seed {seed}: {what} goes unsaid");
                *noticed.entry(*what).or_insert(0) += u32::from(differs);
            }
        }
    }
    assert_eq!(noticed.len(), CHANGES.len());
    assert!(noticed.values().all(|count| *count > 0), "{noticed:?}");
}

/// A patch is empty for the same Services, and says something wherever rules differ.
#[test]
fn a_patch_says_something_exactly_where_rules_differ() {
    let old = three_endpoints();
    let fewer = changed(&old, |services| drop(services[0].endpoints.remove(1)));
    for backend in registry::all().iter().chain(&registry::layouts()) {
        let (before, after) = (backend.lower(&old).program, backend.lower(&fewer).program);
        let same = backend.diff(&before, &before);
        assert_eq!(backend.render_patch(&same), "", "{}", backend.name());
        let text = backend.render_patch(&backend.diff(&before, &after));
        assert!(!text.is_empty(), "{}", backend.name());
        assert!(!text.contains("10.0.0.5"), "{} touches others:\n{text}", backend.name());
    }
}
