//! `nfc explain` follows what kube-proxy itself writes in its nftables mode, and finds that it
//! does what the cases say.
//!
//! The folder `kube-proxy` has what kube-proxy 1.30.3 wrote for each case, as `nft list ruleset`
//! prints it on a node. It was not told of any ServiceCIDR, so that it drops nothing for being
//! unallocated. (Its iptables rules are in `backends/iptables/tests/kube_proxy`.)

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

mod stage;

use nfc::explain::explain_listing;
use nfc_ir::eval::find;
use nfc_ir::{Outcome, ProxyMode, eval};
use nfc_netns_tests::case;
use stage::{backend, meaning};
use std::path::Path;

#[test]
fn kube_proxys_own_tables_send_packets_where_the_cases_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("kube-proxy");
    let nft = backend("nft");
    let (mut files, mut judged, mut unallocated) = (0, 0, 0);
    for case in case::all() {
        let Ok(listing) = std::fs::read_to_string(folder.join(format!("{}.nft", case.name))) else {
            continue;
        };
        files += 1;
        let scene = case.scenes.first().expect("a case has packets");
        let ir = meaning(&case, scene, ProxyMode::Nftables);
        for flow in scene.flows.iter().filter(|f| f.fates.contains_key(&ProxyMode::Nftables)) {
            let place = format!("{}: {}", case.name, flow.line);
            let told = explain_listing(&*nft, &listing, &ir.node().addresses, &flow.packet);
            let told = told.unwrap_or_else(|e| panic!("{place}: {e}"));
            let told = told.outcome().unwrap_or_else(|| panic!("{place}: by chance"));
            let meant = eval(&ir, ProxyMode::Nftables, &flow.packet);
            let is_unallocated =
                meant == Outcome::Drop && find(&ir, ProxyMode::Nftables, &flow.packet).is_none();
            if is_unallocated {
                assert_eq!(told, Outcome::Pass, "{place}");
                unallocated += 1;
            } else {
                assert!(told.agrees_with(&meant), "{place}: {told}, meant {meant}");
                judged += 1;
            }
        }
    }
    let there = std::fs::read_dir(&folder).expect("the folder").count();
    assert_eq!(files, there, "every listing belongs to a case");
    assert!(judged > 100, "only {judged} packets were judged");
    assert_eq!(unallocated, 3);
}
