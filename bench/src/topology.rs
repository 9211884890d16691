//! From a scenario to a world: the namespaces of a cell, the Services loaded there, and what
//! a backend needs of the kernel.
//!
//! Invariant: decides what is built, and leaves the building to the lab.

use crate::contender::Contender;
use crate::plan::BASELINE;
use crate::scenario::Transport;
use nfc_ir::{Family, Flaw, Ingress, Ir, LocalDetector, Node, Packet, ProxyMode, synth};
use nfc_kernel::{Feature, Missing, pin_to_cpu};
use nfc_lab::{LabError, Sender, World};
use std::net::SocketAddr;

/// What of `contender`'s needs is not there.
///
/// # Errors
///
/// [`Missing`]: what, how it is known, and what to do.
pub fn need(contender: &Contender) -> Result<(), Missing> {
    if contender.name() == BASELINE {
        return Ok(());
    }
    if contender.needs_nft() {
        Feature::NftTool.probe()?;
    }
    match contender.mode() {
        ProxyMode::Iptables => Feature::IptablesV4.probe(),
        ProxyMode::Nftables => Feature::Nftables.probe(),
        // What IPVS cannot say goes into tables of nf_tables.
        ProxyMode::Ipvs => Feature::Ipvs.probe().and_then(|()| Feature::Nftables.probe()),
    }
}

/// A fresh world: client, node and endpoints.
///
/// # Errors
///
/// [`LabError`], as without root.
pub fn world() -> Result<World, LabError> {
    World::new()
}

/// `services` Services with `endpoints` endpoints each, for the node of `world`. The node
/// knows its pods by their block, as nearly every cluster's does, and clients are such pods:
/// rules have to ask whether a packet is to be masqueraded, and find that it is not.
///
/// # Errors
///
/// The flaws of Services that are too many for their address blocks.
pub fn services(
    protocol: Transport,
    (services, endpoints): (u32, u32),
    world: &World,
) -> Result<Ir, Vec<Flaw>> {
    let node = Node {
        // A kube-proxy knows its node's name, and so which endpoints are on it: none of these.
        name: "node".to_owned(),
        addresses: world.node_addresses(Family::Ipv4),
        local_detector: LocalDetector::SourceBlock(Sender::Pod.block(Family::Ipv4)),
        ..Node::default()
    };
    synth::cluster_ips(Family::Ipv4, protocol.into(), services, endpoints, node)
}

/// A first packet from `sender` to `destination`, as it enters the node of `world`.
#[must_use]
pub fn packet(
    protocol: Transport,
    world: &World,
    sender: Sender,
    destination: SocketAddr,
) -> Packet {
    Packet {
        protocol: protocol.into(),
        source: sender.source(0, Family::Ipv4),
        destination,
        ingress: Ingress::Interface(world.settings().uplink.clone()),
    }
}

/// The CPU to measure on: the last that the process may use, because devices interrupt the
/// first ones.
#[must_use]
pub fn cpu() -> usize {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let usable = |cpu: &usize| {
        let cpu = *cpu;
        // On a thread of its own, so that the caller stays where it may run.
        std::thread::spawn(move || pin_to_cpu(cpu).is_ok()).join().unwrap_or(false)
    };
    (0..count).rev().find(usable).unwrap_or(0)
}
