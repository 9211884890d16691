//! What `explain` says is true: its rules do what Services mean, and its reasons are those
//! of the outcome.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

use nfc::explain::{Explanation, Hit, document, explain, meaning, text};
use nfc::registry;
use nfc_ir::synth::{self, Sample};
use nfc_ir::{Choice, Family, Outcome, ProxyMode, select};

fn samples(count: u64) -> impl Iterator<Item = Sample> {
    (0..count).flat_map(|seed| Family::ALL.map(|family| synth::sample(seed, family)))
}

#[test]
fn the_rules_that_are_told_do_what_the_services_mean() {
    let mut judged = 0;
    for Sample { ir, packets } in samples(4) {
        for backend in registry::all().iter().chain(&registry::layouts()) {
            for packet in &packets {
                let told = explain(backend.as_ref(), &ir, packet)
                    .unwrap_or_else(|e| panic!("{}: {packet}: {e}", backend.name()));
                let outcome = told.outcome();
                assert!(told.is_consistent(), "{}: {packet}: {outcome:?}", backend.name());
                judged += 1;
            }
        }
    }
    assert!(judged > 1_000, "only {judged} packets were judged");
}

/// Every endpoint is spoken of once, and gets what the outcome gives it.
fn check_endpoints(hit: &Hit<'_>, outcome: &Outcome) {
    assert_eq!(hit.endpoints.len(), hit.service.endpoints.len());
    let Outcome::Balance(choices) = outcome else {
        assert!(hit.endpoints.iter().all(|told| told.chosen.is_none()));
        return;
    };
    for told in &hit.endpoints {
        let chosen = choices.iter().find(|(c, _)| c.endpoint == told.endpoint.address);
        assert_eq!(chosen.is_some(), told.chosen.is_some());
        // Whoever is left out is told why, and whoever is not has no reason to be.
        assert!(told.chosen.is_some() || told.why.is_some(), "{told:?}");
        let Some((Choice { masquerade, .. }, share)) = chosen else { continue };
        let said = told.chosen.as_ref().expect("looked at above");
        assert_eq!(said.masquerade.is_some(), *masquerade);
        assert!((said.share - share).abs() < 1e-9);
    }
}

#[test]
fn every_reason_is_that_of_the_outcome() {
    let mut firewalled = 0;
    let mut left_out = 0;
    for Sample { ir, packets } in samples(150) {
        for mode in ProxyMode::ALL {
            for packet in &packets {
                let told = meaning(&ir, mode, packet);
                let Some(hit) = &told.hit else {
                    assert_eq!(told.because.len(), 1, "{packet}: {:?}", told.because);
                    continue;
                };
                check_endpoints(hit, &told.outcome);
                left_out += hit.endpoints.iter().filter(|told| told.chosen.is_none()).count();
                let because = told.because.join("; ");
                let kept = because.contains("the source address is kept");
                match &told.outcome {
                    // Only what speaks for all endpoints is said of the whole.
                    Outcome::Balance(choices) if kept => {
                        let own = |c: &Choice| c.endpoint.ip() == packet.source.ip();
                        let cluster_ip =
                            ir.services().iter().any(|s| s.cluster_ip == packet.source.ip());
                        let as_said = |c: &Choice| !c.masquerade || own(c) || cluster_ip;
                        assert!(choices.keys().all(as_said), "{packet}: {because}");
                    }
                    Outcome::Balance(choices) => {
                        assert!(choices.keys().all(|c| c.masquerade), "{packet}: {because}");
                    }
                    _ => {
                        let elsewhere = select(hit.service, ir.node()).any;
                        let is_stopped = because.contains("loadBalancerSourceRanges");
                        let is_said = because.contains(" is Local, and no endpoint is on ");
                        assert_eq!(is_said, elsewhere && !is_stopped, "{packet}: {because}");
                    }
                }
                if because.contains("loadBalancerSourceRanges") {
                    firewalled += 1;
                    assert_eq!(told.outcome, Outcome::Drop);
                }
            }
        }
    }
    assert!(firewalled > 50, "only {firewalled} packets were stopped by source ranges");
    assert!(left_out > 1_000, "only {left_out} endpoints were left out");
}

fn told(listing: &str, packet: &str) -> Explanation<'static> {
    let backend = registry::find("iptables").expect("it is there");
    let asked: nfc::explain::Asked = packet.parse().expect("a packet");
    let packet = asked.on(&nfc_ir::Node::default()).expect("the node leaves nothing open");
    nfc::explain::explain_listing(backend.as_ref(), listing, &[], &packet).expect("understood")
}

const LISTING: &str = "\
*nat
:PREROUTING ACCEPT [0:0]
:KUBE-SVC-X - [0:0]
-A PREROUTING -d 10.96.0.10/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-X
-A KUBE-SVC-X -m statistic --mode random --probability 0.16666666651 -p tcp -j DNAT --to-destination 10.0.0.1:80
-A KUBE-SVC-X -m statistic --mode random --probability 0.20000000019 -p tcp -j DNAT --to-destination 10.0.0.2:80
-A KUBE-SVC-X -m statistic --mode random --probability 0.25000000000 -p tcp -j DNAT --to-destination 10.0.0.3:80
-A KUBE-SVC-X -m statistic --mode random --probability 0.33333333349 -p tcp -j DNAT --to-destination 10.0.0.4:80
-A KUBE-SVC-X -m statistic --mode random --probability 0.50000000000 -p tcp -j DNAT --to-destination 10.0.0.5:80
-A KUBE-SVC-X -p tcp -j DNAT --to-destination 10.0.0.6:80
COMMIT
";

#[test]
fn what_ways_have_in_common_is_drawn_once() {
    let told = told(LISTING, "tcp 10.244.0.1 > 10.96.0.10:80");
    let drawn = text(&told, false);
    assert_eq!(drawn.matches("-A PREROUTING").count(), 1);
    assert_eq!(drawn.matches("16.7 %").count(), 4, "{drawn}");
    assert!(drawn.contains("33.3 % in 2 more ways"), "{drawn}");
    assert_eq!(text(&told, true).matches("=> to 10.0.0.").count(), 6);
}

#[test]
fn the_document_has_every_way_with_its_lines() {
    let told = told(LISTING, "tcp 10.244.0.1 > 10.96.0.10:80");
    let document = document(&[told]);
    let backend = &document["backends"][0];
    assert_eq!(backend["outcome"]["verdict"], "balance");
    for shares in [&backend["outcome"]["endpoints"], &backend["ways"]] {
        let shares = shares.as_array().expect("a list").iter().map(|one| &one["share"]);
        assert!(shares.eq([0.166_667; 6].iter()), "{document:#}");
    }
    assert_eq!(backend["ways"][0]["visits"][0]["line"], 4);
    assert!(backend["meaning"].is_null());
}
