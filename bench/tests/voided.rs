//! A cell whose rules are wrong measures nothing: with real packets, in a real kernel.

#![allow(clippy::expect_used, reason = "a test panics to keep its backtrace")]

use nfc_bench::altered::Alterer;
use nfc_bench::contender::Contender;
use nfc_bench::metric::Operation;
use nfc_bench::probe::{Bench, Void};
use nfc_bench::scenario::Transport;
use nfc_bench::update::Loaded;
use nfc_bench::{load, topology};
use nfc_ir::synth::Dice;
use nfc_ir::{Protocol, ServiceMap};
use nfc_kernel::{Feature, Kernel, monotonic_ns};
use nfc_lab::{World, need};
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// The kernel has the rules of yesterday: one Service has lost an endpoint since then, to
/// which packets still go.
#[test]
fn a_rule_that_sends_packets_elsewhere_voids_the_cell() {
    if !need("a wrong rule", &[Feature::Namespaces, Feature::Nftables]) {
        return;
    }
    let world = World::new().expect("a world");
    let yesterday = topology::services(Transport::Udp, (1, 1), &world).expect("a Service");
    let mut alterer = Alterer::new(Dice::new(1), Protocol::Udp, 1, 1);
    let mut today = ServiceMap::new(yesterday.clone());
    for alteration in alterer.alterations(Operation::EndpointSwapped, &yesterday) {
        alteration.carry_out(&mut today).expect("no flaw");
    }
    let nft = Contender::find("nft").expect("it is always there");
    let cold = || Loaded::cold(&nft, monotonic_ns, yesterday.clone(), &mut Kernel::new()).map(drop);
    world.node().run(cold).expect("the node").expect("the kernel takes it");

    let to_the_service = BTreeSet::from([load::service(0)]);
    let destinations = &to_the_service;
    let verdict = |ir| Bench::verified(Transport::Udp, &world, (ir, nft.mode()), destinations);
    assert!(verdict(&yesterday).is_ok(), "the rules are right for what they were made from");
    let error = verdict(today.ir()).expect_err("they are wrong for anything else");
    let wrong = |address: SocketAddr| address == load::service(0);
    assert!(matches!(error, Void::WrongEndpoint { destination, .. } if wrong(destination)));
}
