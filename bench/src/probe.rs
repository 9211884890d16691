//! Sends the load of a cell through its rules: first to see that every packet comes out
//! where it should, then with the clock on.
//!
//! Invariant: a packet that came out anywhere but where `nfc_ir::eval` allows has measured
//! something else, and then nothing of the cell counts. No statistics are computed here.

use crate::load::{Load, WARM_UP_CONVERSATIONS};
use crate::metric::Metric;
use crate::scenario::{Scenario, Transport};
use crate::tally::CellSamples;
use crate::topology;
use nfc_ir::{Ir, Outcome, ProxyMode, eval, synth};
use nfc_lab::{
    Connections, Delivery, LabError, Landing, Probe, ProbeError, Samples, Sender, World,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

/// How long a packet is waited for. On a busy machine the kernel may put a packet off, and
/// the host may take the CPU away; what is later than this is lost.
const PATIENCE: Duration = Duration::from_millis(500);

/// How many destinations are verified at a time: the kernel remembers a connection to each,
/// and a small machine's table has room for 4,096 (`nf_conntrack_max`).
const CHUNK: usize = 2000;

/// For each sender and destination what the Services mean for a first packet.
pub type Expected = BTreeMap<(Sender, SocketAddr), Outcome>;

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
    meaning: (&'a Ir, ProxyMode),
    expected: Expected,
    probe: Probe,
}

impl<'a> Bench<'a> {
    /// Sends one packet to each of `destinations`, to see that it lands where `ir` means.
    ///
    /// # Errors
    ///
    /// [`Void`], as when one of them comes out elsewhere.
    pub fn verified(
        protocol: Transport,
        world: &'a World,
        meaning: (&'a Ir, ProxyMode),
        destinations: &BTreeSet<SocketAddr>,
    ) -> Result<Self, Void> {
        let probe = Probe::new(world, topology::cpu())?.with_patience(PATIENCE);
        let mut bench = Self { protocol, world, meaning, expected: Expected::new(), probe };
        let each_once: Vec<SocketAddr> = destinations.iter().copied().collect();
        for chunk in each_once.chunks(CHUNK) {
            bench.first_packets(Sender::Pod, chunk)?;
        }
        Ok(bench)
    }

    /// What the instrument itself costs: as many empty sends as there are packets to the
    /// places in the list.
    ///
    /// # Errors
    ///
    /// [`Void::Probe`].
    pub fn empty_sends(&self, scenario: &Scenario) -> Result<Vec<u64>, Void> {
        let [warm_up, count] = [scenario.warm_up, scenario.position_packets]
            .map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        let all = self.probe.empty_sends(warm_up.saturating_add(count))?;
        Ok(all.into_iter().skip(warm_up).collect())
    }

    /// Sends `load`, that of `scenario`, and gives the times of all packets that count.
    ///
    /// # Errors
    ///
    /// [`Void`], as when one packet comes out at the wrong endpoint.
    pub fn time(mut self, scenario: &Scenario, load: &Load) -> Result<CellSamples, Void> {
        let mut all = CellSamples::new();
        for block in &load.blocks {
            let samples = self.first_packets(block.sender, &block.destinations)?;
            all.insert(block.metric, that_count(scenario, &samples));
        }
        self.probe.set_sender(Sender::Pod);
        self.expect(Sender::Pod, &load.connections);
        let count = scenario.warm_up.saturating_add(scenario.established_packets);
        let samples = self.probe.established(
            self.protocol.into(),
            &load.connections,
            usize::try_from(count).unwrap_or(usize::MAX),
        )?;
        check(&self.expected, Sender::Pod, &load.connections, &samples.landings)?;
        all.insert(Metric::EstablishedPacketNs, that_count(scenario, &samples));
        Ok(all)
    }

    /// One new connection from `sender` to each of `destinations`, on a node that remembers
    /// none.
    ///
    /// # Errors
    ///
    /// [`Void`], as when one packet comes out at the wrong endpoint.
    pub fn first_packets(
        &mut self,
        sender: Sender,
        destinations: &[SocketAddr],
    ) -> Result<Samples, Void> {
        self.expect(sender, destinations);
        self.world.forget_flows()?;
        self.probe.set_sender(sender);
        let protocol = self.protocol.into();
        let samples = self.probe.first_packets(protocol, destinations, destinations.len())?;
        check(&self.expected, sender, destinations, &samples.landings)?;
        Ok(samples)
    }

    /// Works out what first packets to `destinations` mean, where that is not known yet.
    fn expect(&mut self, sender: Sender, destinations: &[SocketAddr]) {
        let (ir, mode) = self.meaning;
        for destination in destinations {
            self.expected.entry((sender, *destination)).or_insert_with(|| {
                eval(ir, mode, &topology::packet(self.protocol, self.world, sender, *destination))
            });
        }
    }
}

/// Makes whole connections to the `conversations` of a load, between sockets of the client
/// and of the backend, and gives the times of those that count.
///
/// # Errors
///
/// [`Void`], as when one ends at the wrong endpoint.
pub fn connections(
    world: &mut World,
    (ir, mode): (&Ir, ProxyMode),
    conversations: &[SocketAddr],
) -> Result<Vec<u64>, Void> {
    world.forget_flows()?;
    world.deliver(Delivery::Answered)?;
    let sockets = Connections::new(world, synth::TARGET_PORT, topology::cpu())?;
    let made = sockets.make(conversations)?;
    drop(sockets);
    world.deliver(Delivery::Captured)?;
    let sender = Sender::Pod;
    let mean =
        |to: &SocketAddr| eval(ir, mode, &topology::packet(Transport::Tcp, world, sender, *to));
    let expected = conversations.iter().map(|to| ((sender, *to), mean(to))).collect();
    let landings: Vec<Landing> = made.iter().map(|connected| connected.landing).collect();
    check(&expected, sender, conversations, &landings)?;
    let warm_up = usize::try_from(WARM_UP_CONVERSATIONS).unwrap_or(usize::MAX);
    Ok(made.iter().skip(warm_up).map(|connected| connected.took_ns).collect())
}

/// From before a packet was sent until it had been read at the endpoint, without the
/// packets that only warm up.
fn that_count(scenario: &Scenario, samples: &Samples) -> Vec<u64> {
    let warm_up = usize::try_from(scenario.warm_up).unwrap_or(usize::MAX);
    samples.arrival_ns.iter().skip(warm_up).copied().collect()
}

/// Whether all packets, which went to `destinations` in turn, landed where they may.
fn check(
    expected: &Expected,
    sender: Sender,
    destinations: &[SocketAddr],
    landings: &[Landing],
) -> Result<(), Void> {
    for (destination, landing) in destinations.iter().cycle().zip(landings) {
        let outcome = expected.get(&(sender, *destination)).unwrap_or(&Outcome::Drop);
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
        Expected::from(
            [(at("172.16.0.1:80"), service), straight].map(|(to, o)| ((Sender::Pod, to), o)),
        )
    }

    fn verdict(landings: &[Landing]) -> Result<(), Void> {
        let destinations = [at("172.16.0.1:80"), at("10.0.0.9:8080")];
        check(&expected(), Sender::Pod, &destinations, landings)
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
