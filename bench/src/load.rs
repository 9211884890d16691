//! What is sent, and in which order: every packet of a cell, worked out beforehand.
//!
//! Packets are sent one after the other, each when the one before has arrived: what is
//! asked is what a packet costs, not how many fit into a second. Every first packet is that
//! of a connection of its own; were it not, the connection table would answer and the rules
//! would not be walked. Later packets go round a few connections that are opened before.
//!
//! Invariant: pure; the packets follow from the scenario, the cell and the seed.

use crate::contender::STATIC;
use crate::metric::Metric;
use crate::plan::{self, BASELINE, Cell};
use crate::scenario::Scenario;
use nfc_ir::Family;
use nfc_ir::synth::{self, Dice};
use nfc_lab::Sender;
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// First packets of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What is measured with them.
    pub metric: Metric,
    /// Where they come from.
    pub sender: Sender,
    /// Where they are sent, in this order; those that only warm up come first.
    pub destinations: Vec<SocketAddr>,
}

/// Everything that is sent in a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// First packets, block after block.
    pub blocks: Vec<Block>,
    /// Where the connections go that later packets belong to.
    pub connections: Vec<SocketAddr>,
    /// Where whole connections are made to; those that only warm up come first.
    pub conversations: Vec<SocketAddr>,
}

/// Connections that later packets go round: enough to be no single cache line, few enough
/// to stay in the cache, as those of a busy client would.
const CONNECTIONS: u32 = 32;

/// Whole connections that only warm up.
pub const WARM_UP_CONVERSATIONS: u32 = 3;

impl Load {
    /// What is sent in `cell`. The baseline rewrites no destination, so there packets are
    /// sent straight to the endpoints that the Services would choose from.
    #[must_use]
    pub fn new(scenario: &Scenario, cell: &Cell) -> Self {
        let part = u64::from(cell.services) << 16 | u64::from(cell.round);
        let (services, endpoints) = match cell.backend.as_str() {
            STATIC => (1, 1),
            _ => (cell.services, scenario.scope.endpoints),
        };
        let dice = plan::dice(scenario.scope.seed, part);
        let straight = cell.backend == BASELINE;
        let mut maker = Maker { dice, services, endpoints, straight };
        let last = services - 1;
        let position = scenario.position_packets;
        let (pod, stranger) = (Sender::Pod, Sender::Stranger);
        let kinds = [
            (Metric::FirstPacketNs, pod, scenario.first_packets, Target::Any),
            (Metric::FirstPacketFirstNs, pod, position, Target::Service(0)),
            (Metric::FirstPacketMiddleNs, pod, position, Target::Service(last / 2)),
            (Metric::FirstPacketLastNs, pod, position, Target::Service(last)),
            (Metric::FirstPacketMasqueradedNs, stranger, position, Target::Any),
            (Metric::MissPacketNs, pod, scenario.miss_packets, Target::NoService),
            (Metric::UnknownPortNs, pod, position, Target::UnknownPort),
        ];
        let block = |(metric, sender, packets, target): (Metric, Sender, u32, Target)| Block {
            metric,
            sender,
            destinations: maker.destinations(scenario.warm_up.saturating_add(packets), target),
        };
        // Who has no rules for Services neither masquerades nor refuses.
        let has_rules = ![BASELINE, STATIC].contains(&cell.backend.as_str());
        let is_asked = |block: &Block| {
            has_rules || block.sender == pod && block.metric != Metric::UnknownPortNs
        };
        Self {
            blocks: kinds.map(block).into_iter().filter(is_asked).collect(),
            connections: maker.destinations(CONNECTIONS, Target::Any),
            conversations: match scenario.connections {
                0 => Vec::new(),
                connections => maker.destinations(WARM_UP_CONVERSATIONS + connections, Target::Any),
            },
        }
    }

    /// All destinations of pods, each once.
    #[must_use]
    pub fn destinations(&self) -> BTreeSet<SocketAddr> {
        let first = self.blocks.iter().filter(|block| block.sender == Sender::Pod);
        let first = first.flat_map(|block| &block.destinations);
        first.chain(&self.connections).chain(&self.conversations).copied().collect()
    }
}

/// The address of the made-up Service at this place of the list.
#[must_use]
pub fn service(place: u32) -> SocketAddr {
    SocketAddr::new(synth::cluster_ip(Family::Ipv4, place), synth::PORT.get())
}

/// What packets are for.
#[derive(Clone, Copy)]
enum Target {
    /// A Service chosen uniformly.
    Any,
    /// The Service at this place of the list.
    Service(u32),
    /// An address that can be reached but is no Service's: an endpoint's own.
    NoService,
    /// An address that is a Service's, at a port that is not.
    UnknownPort,
}

struct Maker {
    dice: Dice,
    services: u32,
    endpoints: u32,
    straight: bool,
}

impl Maker {
    fn destinations(&mut self, packets: u32, target: Target) -> Vec<SocketAddr> {
        (0..packets).map(|_| self.destination(target)).collect()
    }

    /// Rolls the same dice for every backend, so that all get packets for the same Services.
    fn destination(&mut self, target: Target) -> SocketAddr {
        let any = self.dice.below(self.services);
        let endpoint = self.dice.below(self.endpoints);
        let (service, straight) = match target {
            Target::Any => (any, self.straight),
            Target::Service(service) => (service, self.straight),
            Target::NoService => (any, true),
            Target::UnknownPort => {
                return SocketAddr::new(self::service(any).ip(), synth::PORT.get() + 1);
            }
        };
        if straight {
            synth::endpoint(Family::Ipv4, service * self.endpoints + endpoint)
        } else {
            self::service(service)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn load(backend: &str, services: u32, round: u32) -> Load {
        let scenario = Scenario::default_one().expect("it comes with the program");
        Load::new(&scenario, &Cell { round, backend: backend.to_owned(), services })
    }

    fn block(load: &Load, metric: Metric) -> &Block {
        load.blocks.iter().find(|b| b.metric == metric).expect("a block for the metric")
    }

    #[test]
    fn targets_are_spread_over_the_whole_list() {
        let load = load("nft", 10, 0);
        let mut hits: BTreeMap<SocketAddr, usize> = BTreeMap::new();
        let destinations = &block(&load, Metric::FirstPacketNs).destinations;
        for destination in destinations {
            *hits.entry(*destination).or_default() += 1;
        }
        let even = destinations.len() / 10;
        assert_eq!(hits.len(), 10);
        assert!(hits.values().all(|n| (even * 3 / 4..even * 5 / 4).contains(n)), "{hits:?}");
    }

    #[test]
    fn positions_are_the_first_the_middle_and_the_last_service() {
        let load = load("iptables", 1_000, 0);
        let only = |metric: Metric| {
            let destinations = &block(&load, metric).destinations;
            let all: BTreeSet<_> = destinations.iter().map(SocketAddr::ip).collect();
            assert_eq!(all.len(), 1);
            all.into_iter().next().expect("one")
        };
        let service = |i: u32| synth::cluster_ip(Family::Ipv4, i);
        assert_eq!(only(Metric::FirstPacketFirstNs), service(0));
        assert_eq!(only(Metric::FirstPacketMiddleNs), service(499));
        assert_eq!(only(Metric::FirstPacketLastNs), service(999));
    }

    #[test]
    fn all_backends_of_a_round_get_the_same_packets_and_rounds_differ() {
        assert_eq!(load("nft", 100, 3), load("iptables", 100, 3));
        assert_ne!(load("nft", 100, 3), load("nft", 100, 4));
    }

    #[test]
    fn without_rules_packets_go_straight_to_endpoints() {
        let load = load(BASELINE, 10, 0);
        let endpoints: BTreeSet<_> = (0..30).map(|i| synth::endpoint(Family::Ipv4, i)).collect();
        assert!(load.destinations().is_subset(&endpoints));
    }

    #[test]
    fn only_rules_for_services_are_asked_about_strangers_and_ports() {
        let asked = |backend: &str, metric: Metric| {
            load(backend, 10, 0).blocks.iter().any(|block| block.metric == metric)
        };
        for metric in [Metric::FirstPacketMasqueradedNs, Metric::UnknownPortNs] {
            assert!(asked("nft", metric));
            assert!(!asked(BASELINE, metric) && !asked(STATIC, metric));
        }
        let floor = load(STATIC, 10, 0);
        let only: BTreeSet<_> = block(&floor, Metric::FirstPacketNs).destinations.iter().collect();
        assert_eq!(only, BTreeSet::from([&service(0)]));
    }

    #[test]
    fn misses_are_no_services_address() {
        let load = load("nft", 10, 0);
        let services: BTreeSet<_> = (0..10).map(|i| synth::cluster_ip(Family::Ipv4, i)).collect();
        let misses = &block(&load, Metric::MissPacketNs).destinations;
        assert!(!misses.is_empty());
        assert!(misses.iter().all(|s| !services.contains(&s.ip())));
    }
}
