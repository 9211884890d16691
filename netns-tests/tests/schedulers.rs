//! Schedulers beyond kube-proxy's, with real packets through the backends that have them.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

mod stage;

use nfc_ir::{Family, Ingress, Ir, Node, Packet, Protocol, Scheduler, synth};
use nfc_lab::need;
use stage::{Stage, backend, client, needs};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

fn ir(family: Family, scheduler: Scheduler, endpoints: u32) -> Ir {
    let mut service = synth::service(family, Protocol::Udp, 0, endpoints);
    service.scheduler = scheduler;
    Ir::new(family, Node::default(), vec![service]).expect("valid")
}

fn ready(what: &str, name: &str, ir: &Ir) -> Option<Stage> {
    if !need(&format!("{what} ({name}, {})", ir.family()), &needs(name, ir.family())) {
        return None;
    }
    let stage = Stage::new(ir);
    stage.load(backend(name).as_ref(), ir);
    Some(stage)
}

fn from(ir: &Ir, source: SocketAddr) -> Packet {
    let service = &ir.services()[0];
    Packet {
        protocol: service.protocol,
        source,
        destination: SocketAddr::new(service.cluster_ip, service.port.get()),
        ingress: Ingress::Interface("eth0".to_owned()),
    }
}

#[test]
fn round_robin_takes_turns() {
    let each = ["nft", "iptables"].map(|name| Family::ALL.map(|family| (name, family)));
    for (name, family) in each.into_iter().flatten() {
        let ir = ir(family, Scheduler::RoundRobin, 4);
        let Some(mut stage) = ready("round robin takes turns", name, &ir) else { continue };
        let mut seen: BTreeMap<SocketAddr, u32> = BTreeMap::new();
        for _ in 0..40 {
            let packet = from(&ir, SocketAddr::new(client(family, 1), 1));
            *seen.entry(stage.send(&packet)).or_default() += 1;
        }
        assert_eq!(seen.into_values().collect::<Vec<_>>(), [10; 4], "{name}, {family}");
    }
}

#[test]
fn source_hash_sends_a_client_to_one_endpoint() {
    for family in Family::ALL {
        let ir = ir(family, Scheduler::SourceHash, 4);
        let what = "source hash sends a client to one endpoint";
        let Some(mut stage) = ready(what, "nft", &ir) else { return };
        let mut used = BTreeSet::new();
        for i in 1..=60 {
            let packet = from(&ir, SocketAddr::new(client(family, i), 1));
            let all: BTreeSet<_> = (0..4).map(|_| stage.send(&packet)).collect();
            assert_eq!(all.len(), 1, "client {i} went to {all:?}");
            used.extend(all);
        }
        assert_eq!(used.len(), 4, "60 clients must meet all 4 endpoints");
    }
}

/// When one of ten endpoints goes, a tenth of the connections has to move; a plain hash
/// would move nine tenths, and the table leaves nearly all of the rest where they were.
#[test]
fn maglev_moves_few_connections_when_an_endpoint_goes() {
    for family in Family::ALL {
        let old = ir(family, Scheduler::Maglev, 10);
        let what = "maglev moves few connections when an endpoint goes";
        let Some(mut stage) = ready(what, "nft", &old) else { return };
        let sources: Vec<_> =
            (0..400).map(|i| SocketAddr::new(client(family, i / 4), 1000 + i)).collect();
        let land = |stage: &mut Stage, ir: &Ir| -> Vec<_> {
            stage.world.forget_flows().expect("conntrack can be flushed");
            sources.iter().map(|s| stage.send_as_is(&from(ir, *s))).collect()
        };
        let before = land(&mut stage, &old);
        assert_eq!(before, land(&mut stage, &old), "the same connection, another endpoint");
        let mut service = old.services()[0].clone();
        let gone = service.endpoints.remove(4).address;
        let new = Ir::new(family, Node::default(), vec![service]).expect("valid");
        stage.update(backend("nft").as_ref(), &old, &new);
        let after = land(&mut stage, &new);
        let stayed = before.iter().zip(&after).filter(|(b, _)| **b != gone);
        let moved = stayed.filter(|(b, a)| b != a).count();
        assert!(!after.contains(&gone));
        assert!(moved < 400 / 10, "{moved} of 400 connections moved without need");
    }
}
