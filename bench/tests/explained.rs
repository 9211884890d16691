//! `nfc explain` reads kube-proxy's own nftables layouts, of three releases, and tells of
//! every packet what Services mean.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

use nfc::explain::explain_listing;
use nfc::registry;
use nfc_bench::peers::{Shape, table};
use nfc_ir::synth::{self, Sample};
use nfc_ir::{Family, Ir, Outcome, Packet, ProxyMode, eval};

/// What is meant, where a shape says it: endpoints on other nodes that reach themselves are
/// the one thing that later layouts leave out.
fn is_hairpin_elsewhere(ir: &Ir, packet: &Packet) -> bool {
    let services = ir.services().iter().flat_map(|s| &s.endpoints);
    let itself = |ip| ip == packet.source.ip();
    services.into_iter().any(|e| itself(e.address.ip()) && !e.local)
}

#[test]
fn layouts_of_kube_proxy_are_explained_as_services_mean() {
    let nft = registry::find("nft").expect("it is there");
    let mut judged = 0;
    for seed in 0..400 {
        for family in Family::ALL {
            let Sample { ir, packets } = synth::sample(seed, family);
            for shape in Shape::ALL {
                let Ok(script) = table(shape, &ir) else { continue };
                for packet in packets.iter().filter(|p| !is_hairpin_elsewhere(&ir, p)) {
                    let told = explain_listing(nft.as_ref(), &script, &ir.node().addresses, packet)
                        .unwrap_or_else(|e| {
                            panic!("seed {seed}, {shape}: {packet}: {e}\n{script}")
                        });
                    let told = told.outcome().unwrap_or_else(|| panic!("{shape}: {packet}"));
                    let meant = eval(&ir, ProxyMode::Nftables, packet);
                    let agrees = told.agrees_with(&meant);
                    assert!(
                        agrees,
                        "seed {seed}, {shape}: {packet}: {told}, meant {meant}\n{script}"
                    );
                    judged += usize::from(matches!(told, Outcome::Balance(_)));
                }
            }
        }
    }
    assert!(judged > 500, "only {judged} packets reached an endpoint");
}
