//! Packets on a schedule, in a real kernel: they leave when they are due, whatever became of
//! those before them, and land where the rules send them.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

use nfc_bench::contender::Contender;
use nfc_bench::scenario::Transport;
use nfc_bench::update::Loaded;
use nfc_bench::{load, topology};
use nfc_ir::{Outcome, Protocol, eval};
use nfc_kernel::{Feature, Kernel, monotonic_ns};
use nfc_lab::{Landing, Probe, Schedule, Scheduled, Sender, World, need};
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

const NEEDS: [Feature; 2] = [Feature::Namespaces, Feature::Nftables];
const INTERVAL_NS: u64 = 500_000;

fn send(world: &World, destinations: &[SocketAddr], stop: bool) -> Vec<Scheduled> {
    let mut probe = Probe::new(world, topology::cpu()).expect("a probe");
    let start_ns = monotonic_ns() + 5_000_000;
    let patience = Duration::from_millis(300);
    let schedule = Schedule { start_ns, interval_ns: INTERVAL_NS, patience };
    let stop = AtomicBool::new(stop);
    let sent = probe.on_schedule(Protocol::Udp, destinations, schedule, &stop);
    let sent = sent.expect("packets can be sent");
    for (packet, n) in sent.iter().zip(0..) {
        assert_eq!(packet.due_ns, start_ns + n * INTERVAL_NS);
        assert!(packet.due_ns <= packet.sent_ns && packet.sent_ns <= packet.seen_ns);
    }
    sent
}

#[test]
fn packets_leave_when_they_are_due_and_land_where_rules_send_them() {
    if !need("packets on a schedule", &NEEDS) {
        return;
    }
    let world = World::new().expect("a world");
    let ir = topology::services(Transport::Udp, (20, 3), &world).expect("few Services");
    let nft = Contender::find("nft").expect("it is always there");
    let cold = || Loaded::cold(&nft, monotonic_ns, ir.clone(), &mut Kernel::new()).map(drop);
    world.node().run(cold).expect("the node").expect("the kernel takes it");
    let destinations: Vec<SocketAddr> = (0..200).map(|n| load::service(n % 20)).collect();
    let sent = send(&world, &destinations, false);
    assert_eq!(sent.len(), 200);
    for packet in sent {
        let probe = topology::packet(Transport::Udp, &world, Sender::Pod, packet.destination);
        let meant = eval(&ir, nft.mode(), &probe);
        assert!(matches!(meant, Outcome::Balance(_)) && packet.landing.agrees_with(&meant));
    }
}

/// A packet that never arrives holds nobody up.
#[test]
fn the_lost_do_not_stop_the_schedule() {
    if !need("packets on a schedule", &NEEDS) {
        return;
    }
    let world = World::new().expect("a world");
    // A limited broadcast is not forwarded (RFC 1812, 5.3.5.1).
    let nowhere: SocketAddr = "255.255.255.255:80".parse().expect("an address");
    let endpoint: SocketAddr = "10.0.0.1:8080".parse().expect("an address");
    let destinations: Vec<SocketAddr> = [nowhere, endpoint].into_iter().cycle().take(100).collect();
    let sent = send(&world, &destinations, false);
    let lost = sent.iter().filter(|p| p.landing == Landing::Silence).count();
    assert_eq!((sent.len(), lost), (100, 50));
    // Had each lost one been waited for, the last would have left after 50 times the patience.
    let span = sent[99].sent_ns - sent[0].sent_ns;
    assert!(span < 5_000_000_000, "{span} ns");
}

#[test]
fn a_stop_ends_the_schedule() {
    if !need("packets on a schedule", &NEEDS) {
        return;
    }
    let world = World::new().expect("a world");
    assert!(send(&world, &[load::service(0); 10], true).is_empty());
}
