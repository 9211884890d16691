//! Sends the load of a cell through its rules: first to see that every packet comes out
//! where it should, then with the clock on.
//!
//! Invariant: a packet that came out anywhere but where `nfc_ir::eval` allows has measured
//! something else, and then nothing of the cell counts. No statistics are computed here.

use crate::load::Load;
use crate::metric::Metric;
use crate::scenario::{Scenario, Transport};
use crate::tally::CellSamples;
use crate::topology;
use nfc_ir::{Ir, Outcome, ProxyMode, eval};
use nfc_lab::{LabError, Landing, Probe, ProbeError, Samples, World};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

/// How long a packet is waited for. On a busy machine the kernel may put a packet off, and
/// the host may take the CPU away; what is later than this is lost.
const PATIENCE: Duration = Duration::from_millis(500);

/// How many destinations are verified at a time: the kernel remembers a connection to each,
/// and a small machine's table has room for 4,096 (`nf_conntrack_max`).
const CHUNK: usize = 2000;

/// For each destination what the Services mean for a first packet to it.
pub type Expected = BTreeMap<SocketAddr, Outcome>;

/// Why a cell measures nothing.
#[derive(Debug, thiserror::Error)]
pub enum Void {
    /// A packet came out where no Service sends it, or not at all.
    #[error("a packet to {destination} {landing}, but should: {expected}")]
    WrongEndpoint {
        /// Where it was sent.
        destination: SocketAddr,
        /// Where it was seen.
        landing: Landing,
        /// What the Services mean.
        expected: Outcome,
    },
    /// Packets could not be sent.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The world is in no state to be measured.
    #[error(transparent)]
    Lab(#[from] LabError),
}

/// A cell that is about to be measured.
#[derive(Debug)]
pub struct Bench<'a> {
    protocol: Transport,
    world: &'a World,
    expected: Expected,
    probe: Probe,
}

impl<'a> Bench<'a> {
    /// Works out what `ir` means for each of `destinations`, and sends one packet to each to
    /// see that it is so.
    ///
    /// # Errors
    ///
    /// [`Void`], as when one of them comes out elsewhere.
    pub fn verified(
        protocol: Transport,
        world: &'a World,
        (ir, mode): (&Ir, ProxyMode),
        destinations: BTreeSet<SocketAddr>,
    ) -> Result<Self, Void> {
        let meaning = |destination: SocketAddr| {
            let packet = topology::packet(protocol, world, destination);
            (destination, eval(ir, mode, &packet))
        };
        let expected: Expected = destinations.into_iter().map(meaning).collect();
        let probe = Probe::new(world, topology::cpu())?.with_patience(PATIENCE);
        let mut bench = Self { protocol, world, expected, probe };
        let each_once: Vec<SocketAddr> = bench.expected.keys().copied().collect();
        for chunk in each_once.chunks(CHUNK) {
            bench.first_packets(chunk)?;
        }
        Ok(bench)
    }

    /// Sends `load`, that of `scenario`, and gives the times of all packets that count.
    ///
    /// # Errors
    ///
    /// [`Void`], as when one packet comes out at the wrong endpoint.
    pub fn time(mut self, scenario: &Scenario, load: &Load) -> Result<CellSamples, Void> {
        let mut all = CellSamples::new();
        for block in &load.blocks {
            let samples = self.first_packets(&block.destinations)?;
            all.insert(block.metric, that_count(scenario, &samples));
        }
        let count = scenario.warm_up.saturating_add(scenario.established_packets);
        let samples = self.probe.established(
            self.protocol.into(),
            &load.connections,
            usize::try_from(count).unwrap_or(usize::MAX),
        )?;
        check(&self.expected, &load.connections, &samples)?;
        all.insert(Metric::EstablishedPacketNs, that_count(scenario, &samples));
        Ok(all)
    }

    /// One new connection to each of `destinations`, on a node that remembers none.
    fn first_packets(&mut self, destinations: &[SocketAddr]) -> Result<Samples, Void> {
        self.world.forget_flows()?;
        let protocol = self.protocol.into();
        let samples = self.probe.first_packets(protocol, destinations, destinations.len())?;
        check(&self.expected, destinations, &samples)?;
        Ok(samples)
    }
}

/// From before a packet was sent until it had been read at the endpoint, without the
/// packets that only warm up.
fn that_count(scenario: &Scenario, samples: &Samples) -> Vec<u64> {
    let warm_up = usize::try_from(scenario.warm_up).unwrap_or(usize::MAX);
    samples.arrival_ns.iter().skip(warm_up).copied().collect()
}

/// Whether all packets, which went to `destinations` in turn, landed where they may.
fn check(expected: &Expected, destinations: &[SocketAddr], samples: &Samples) -> Result<(), Void> {
    for (destination, landing) in destinations.iter().cycle().zip(&samples.landings) {
        let outcome = expected.get(destination).unwrap_or(&Outcome::Drop);
        if !landing.agrees_with(outcome) {
            return Err(Void::WrongEndpoint {
                destination: *destination,
                landing: *landing,
                expected: outcome.clone(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nfc_ir::Choice;

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn landed(endpoint: &str) -> Landing {
        Landing::Endpoint(Choice { endpoint: at(endpoint), masquerade: false })
    }

    fn expected() -> Expected {
        let choice = Choice { endpoint: at("10.0.0.1:8080"), masquerade: false };
        let service = Outcome::Balance(BTreeMap::from([(choice, 1.0)]));
        let straight = (at("10.0.0.9:8080"), Outcome::Pass);
        Expected::from([(at("172.16.0.1:80"), service), straight])
    }

    fn verdict(landings: &[Landing]) -> Result<(), Void> {
        let destinations = [at("172.16.0.1:80"), at("10.0.0.9:8080")];
        let samples = Samples { landings: landings.to_vec(), ..Samples::default() };
        check(&expected(), &destinations, &samples)
    }

    #[test]
    fn packets_that_land_where_they_may_count() {
        let through = Landing::Through { masquerade: false };
        let good = landed("10.0.0.1:8080");
        assert!(verdict(&[good, through, good, through, good]).is_ok());
    }

    #[test]
    fn one_packet_elsewhere_voids_all() {
        let through = Landing::Through { masquerade: false };
        let good = landed("10.0.0.1:8080");
        for bad in [landed("10.0.0.2:8080"), through, Landing::Silence, Landing::Reject] {
            let error = verdict(&[good, through, bad]).expect_err("a wrong landing");
            assert!(error.to_string().contains("172.16.0.1:80"), "{error}");
        }
    }
}
