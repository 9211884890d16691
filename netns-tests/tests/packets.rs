//! Real packets through real rules: they land where `eval` says, at every endpoint it
//! allows, in the right proportions.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

mod stage;

use nfc_ir::{
    Endpoint, Family, Ingress, Ir, LocalDetector, Node, Packet, Protocol, Service, synth,
};
use nfc_lab::{Place, need};
use stage::{Stage, backend, cases_hold, needs};
use std::collections::BTreeMap;
use std::net::SocketAddr;

#[test]
fn ipv4_cases_hold_in_nft() {
    cases_hold("nft", Family::Ipv4);
}

#[test]
fn ipv6_cases_hold_in_nft() {
    cases_hold("nft", Family::Ipv6);
}

#[test]
fn ipv4_cases_hold_in_iptables() {
    cases_hold("iptables", Family::Ipv4);
}

#[test]
fn ipv6_cases_hold_in_iptables() {
    cases_hold("iptables", Family::Ipv6);
}

#[test]
fn ipv4_cases_hold_in_ipvs() {
    cases_hold("ipvs", Family::Ipv4);
}

#[test]
fn ipv6_cases_hold_in_ipvs() {
    cases_hold("ipvs", Family::Ipv6);
}

/// Random Services, and packets of every kind at each of their addresses.
fn samples_hold(name: &str, family: Family) {
    if !need(&format!("packets of {family} samples through {name}"), &needs(name, family)) {
        return;
    }
    let backend = backend(name);
    let mut judged = 0;
    for seed in 0..SAMPLES {
        let synth::Sample { ir, packets } = synth::sample(seed, family);
        let mut stage = Stage::new(&ir);
        stage.load(backend.as_ref(), &ir);
        // A sample asks for nothing else that some backend cannot say, and whoever picks
        // picks one of the same endpoints.
        let unsupported = backend.lower(&ir).unsupported;
        let known = |u: &nfc_backend::Unsupported| u.reason.feature.starts_with("scheduler ");
        assert!(unsupported.iter().all(known), "{unsupported:?}");
        stage.hold(seed, &ir, backend.mode(), &packets);
        judged += packets.len();
    }
    assert!(judged > 100, "only {judged} packets were judged");
}

/// Each sample is some hundred packets; those that vanish take a tenth of a second each.
const SAMPLES: u64 = 6;

#[test]
fn ipv4_samples_hold_in_nft() {
    samples_hold("nft", Family::Ipv4);
}

#[test]
fn ipv6_samples_hold_in_nft() {
    samples_hold("nft", Family::Ipv6);
}

#[test]
fn ipv4_samples_hold_in_iptables() {
    samples_hold("iptables", Family::Ipv4);
}

#[test]
fn ipv6_samples_hold_in_iptables() {
    samples_hold("iptables", Family::Ipv6);
}

#[test]
fn ipv4_samples_hold_in_ipvs() {
    samples_hold("ipvs", Family::Ipv4);
}

#[test]
fn ipv6_samples_hold_in_ipvs() {
    samples_hold("ipvs", Family::Ipv6);
}

/// Three endpoints, the last with twice the weight of the others.
fn weighted_service(family: Family) -> Service {
    let mut service = synth::service(family, Protocol::Udp, 0, 3);
    service.endpoints[2].weight = 2.try_into().expect("not zero");
    service
}

/// Pearson's chi-squared for three endpoints: 13.8 is exceeded once in a thousand runs of
/// fair dice (two degrees of freedom), 27.6 once in a million. The test must not cry wolf.
const CHI_SQUARED_MAX: f64 = 27.6;

fn is_spread_by_weight(name: &str, family: Family) {
    if !need(&format!("{family} endpoints are found by weight in {name}"), &needs(name, family)) {
        return;
    }
    let service = weighted_service(family);
    let weights: BTreeMap<SocketAddr, f64> = service
        .endpoints
        .iter()
        .map(|e: &Endpoint| (e.address, f64::from(e.weight.get())))
        .collect();
    let node = Node { local_detector: LocalDetector::None, ..Node::default() };
    let destination = SocketAddr::new(service.cluster_ip, service.port.get());
    let ir = Ir::new(family, node, vec![service]).expect("valid");
    let mut stage = Stage::new(&ir);
    stage.load(backend(name).as_ref(), &ir);
    let source = SocketAddr::new(stage.world.address(Place::Client, family), 1);
    let ingress = Ingress::Interface("eth0".to_owned());
    let packet = Packet { protocol: Protocol::Udp, source, destination, ingress };
    let mut seen: BTreeMap<SocketAddr, f64> = BTreeMap::new();
    let sent = 4000;
    for _ in 0..sent {
        *seen.entry(stage.send(&packet)).or_default() += 1.0;
    }
    let total: f64 = weights.values().sum();
    let chi_squared: f64 = weights
        .iter()
        .map(|(endpoint, weight)| {
            let expected = f64::from(sent) * weight / total;
            let difference = seen.get(endpoint).copied().unwrap_or(0.0) - expected;
            difference * difference / expected
        })
        .sum();
    assert!(chi_squared < CHI_SQUARED_MAX, "chi-squared {chi_squared:.1}: {seen:?}");
}

#[test]
fn nft_spreads_by_weight() {
    Family::ALL.into_iter().for_each(|family| is_spread_by_weight("nft", family));
}

#[test]
fn iptables_spreads_by_weight() {
    Family::ALL.into_iter().for_each(|family| is_spread_by_weight("iptables", family));
}

#[test]
fn ipvs_spreads_by_weight() {
    Family::ALL.into_iter().for_each(|family| is_spread_by_weight("ipvs", family));
}
