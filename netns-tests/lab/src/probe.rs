//! The native instrument: many packets, one at a time, each timed.
//!
//! On veth the whole way of a packet, from the client's link through the node's rules to
//! the backend's link, runs inside the `send` that starts it. So the time that `send` takes
//! is what the way costs, and one packet is one measurement.
//!
//! Frames are built beforehand, and all measuring is done by one thread on one CPU. Every
//! packet's landing is recorded beside its time: a packet that lands in the wrong place
//! measures nothing.
//!
//! Invariant: raw samples only; computes no statistics.

use crate::frame::{self, Kind, Seen, Segment};
use crate::witness::{FRAME_BYTES_MAX, Sighting, read_whole, wire_end};
use crate::world::{BACKEND, CLIENT, NODE_POD_LINK, NODE_UPLINK};
use crate::{LabError, Landing, Place, World};
use nfc_ir::{AddrBlock, Family, Protocol};
use nfc_kernel::packet::{FrameReceiver, FrameSender};
use nfc_kernel::{monotonic_ns, pin_to_cpu};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// How long a packet that is not there when `send` returns is waited for.
const PATIENCE: Duration = Duration::from_millis(20);

/// Source addresses and ports are taken from so many addresses, in turn, and from the ports
/// that are not reserved.
const SOURCE_ADDRESSES: u32 = 251;
/// The first of them within their block; before it are the node's and the client's own.
const SOURCE_HOST_MIN: u32 = 3;
const SOURCE_PORTS: u32 = 64_000;
const SOURCE_PORT_MIN: u32 = 1024;

/// The sequence number that a backend begins a TCP connection with.
const BACKEND_SEQUENCE: u32 = 7_000_000;

/// The first of the types that IEEE 802 sets aside for experiments: no kernel listens to it.
const NOBODY: [u8; 2] = [0x88, 0xb5];

/// The length of a frame that says nothing: the shortest that Ethernet knows.
const EMPTY_BYTES: usize = 60;

/// What was measured, in the order in which it was sent.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Samples {
    /// When each packet was sent, in nanoseconds of the monotonic clock.
    pub sent_at_ns: Vec<u64>,
    /// How long `send` took, in nanoseconds: the whole way of the packet.
    pub send_ns: Vec<u64>,
    /// From before `send` until the packet had been read at the far end, in nanoseconds. For
    /// a packet that was waited for in vain, until it was given up.
    pub arrival_ns: Vec<u64>,
    /// Where each packet landed.
    pub landings: Vec<Landing>,
}

impl Samples {
    fn with_capacity(count: usize) -> Self {
        Self {
            sent_at_ns: Vec::with_capacity(count),
            send_ns: Vec::with_capacity(count),
            arrival_ns: Vec::with_capacity(count),
            landings: Vec::with_capacity(count),
        }
    }

    /// How many packets were sent.
    #[must_use]
    pub fn len(&self) -> usize {
        self.send_ns.len()
    }

    /// Whether no packet was sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.send_ns.is_empty()
    }
}

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// There is nowhere to send packets to.
    #[error("no Service was named")]
    NoTarget,
    /// A connection could not be opened.
    #[error("{protocol} to {service}: {stage} went missing; the packet {landing}")]
    NotEstablished {
        /// The protocol.
        protocol: Protocol,
        /// The address asked for.
        service: SocketAddr,
        /// Which packet of the opening.
        stage: &'static str,
        /// Where it landed instead.
        landing: Landing,
    },
    /// Opening an SCTP association takes a cookie that only a real stack can make.
    #[error("connections of {protocol} cannot be opened with prepared packets")]
    NoOpening {
        /// The protocol.
        protocol: Protocol,
    },
    /// A socket, or the binding to a CPU, failed.
    #[error("cannot probe: {0}")]
    Io(#[from] io::Error),
}

/// Where the connections of a probe come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sender {
    /// From the network on the client's wire, which rules may take for the node's pods.
    Pod,
    /// From a network set aside for measurements (RFC 2544, RFC 5180), which is nobody's.
    Stranger,
}

impl Sender {
    /// The block that holds all addresses of such senders, and for pods the client's own.
    #[must_use]
    pub fn block(self, family: Family) -> AddrBlock {
        let (prefix, length) = self.network(family);
        AddrBlock::new_assert(prefix, length)
    }

    fn network(self, family: Family) -> (IpAddr, u8) {
        match (self, family) {
            (Self::Pod, Family::Ipv4) => (Ipv4Addr::new(192, 0, 2, 0).into(), 24),
            (Self::Pod, Family::Ipv6) => {
                (Ipv6Addr::new(0xfd00, 0x192, 0, 2, 0, 0, 0, 0).into(), 64)
            }
            (Self::Stranger, Family::Ipv4) => (Ipv4Addr::new(198, 18, 0, 0).into(), 15),
            (Self::Stranger, Family::Ipv6) => {
                (Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0).into(), 48)
            }
        }
    }

    /// The source of connection `n`; no two of fewer than 16 million are the same.
    #[must_use]
    pub fn source(self, n: u32, family: Family) -> SocketAddr {
        let host = SOURCE_HOST_MIN + n % SOURCE_ADDRESSES;
        let port = SOURCE_PORT_MIN + n / SOURCE_ADDRESSES % SOURCE_PORTS;
        let ip: IpAddr = match self.network(family).0 {
            IpAddr::V4(network) => Ipv4Addr::from(u32::from(network) + host).into(),
            IpAddr::V6(network) => Ipv6Addr::from(u128::from(network) + u128::from(host)).into(),
        };
        SocketAddr::new(ip, u16::try_from(port).unwrap_or(u16::MAX))
    }
}

/// Sends packets from the client of a world with [`Delivery::Captured`](crate::Delivery).
///
/// No two connections of one probe have the same source, so rules that pick at random pick
/// anew for each. The node remembers them all: [`World::forget_flows`] before its table
/// (`nf_conntrack_max`) is full.
#[derive(Debug)]
pub struct Probe {
    pub(crate) from_client: FrameSender,
    pub(crate) at_client: FrameReceiver,
    from_backend: FrameSender,
    pub(crate) at_backend: FrameReceiver,
    pub(crate) cpu: usize,
    patience: Duration,
    sender: Sender,
    connections: u32,
}

impl Probe {
    /// A probe that measures on this CPU.
    ///
    /// # Errors
    ///
    /// [`LabError::Socket`].
    pub fn new(world: &World, cpu: usize) -> Result<Self, LabError> {
        let (from_client, at_client) = wire_end(world, Place::Client, CLIENT.link)?;
        let (from_backend, at_backend) = wire_end(world, Place::Backend, BACKEND.link)?;
        Ok(Self {
            from_client,
            at_client,
            from_backend,
            at_backend,
            cpu,
            patience: PATIENCE,
            sender: Sender::Pod,
            connections: 0,
        })
    }

    /// The same, but packets that do not turn up are given up after `patience`. Zero is right
    /// where they are expected to be dropped.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Connections come from `sender` from now on; before, from a pod.
    pub fn set_sender(&mut self, sender: Sender) {
        self.sender = sender;
    }

    /// First packets: `count` new connections, to `services` in turn. Each packet walks the
    /// rules.
    ///
    /// # Errors
    ///
    /// [`ProbeError`]; a packet that goes astray is no error but a landing.
    pub fn first_packets(
        &mut self,
        protocol: Protocol,
        services: &[SocketAddr],
        count: usize,
    ) -> Result<Samples, ProbeError> {
        let in_turn = services.iter().cycle().take(count);
        let segments: Vec<_> = in_turn.map(|s| self.opening(protocol, *s)).collect();
        if segments.len() < count {
            return Err(ProbeError::NoTarget);
        }
        self.measure(&segments, count)
    }

    /// Packets of established connections: opens one to each of `services`, with an answer
    /// from the endpoint, and then sends `count` packets over them in turn. The rules are not
    /// walked again; what is left is the cost of connection tracking.
    ///
    /// # Errors
    ///
    /// [`ProbeError::NotEstablished`] when an opening goes astray.
    pub fn established(
        &mut self,
        protocol: Protocol,
        services: &[SocketAddr],
        count: usize,
    ) -> Result<Samples, ProbeError> {
        let open = |service: &SocketAddr| self.establish(protocol, *service);
        let segments = services.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        if segments.is_empty() && count > 0 {
            return Err(ProbeError::NoTarget);
        }
        self.measure(&segments, count)
    }

    /// The first packet of a connection that this probe has not had yet.
    pub(crate) fn opening(&mut self, protocol: Protocol, service: SocketAddr) -> Segment {
        let n = self.connections;
        self.connections = n.wrapping_add(1);
        Segment {
            protocol,
            source: self.sender.source(n, Family::of(service.ip())),
            destination: service,
            kind: Kind::Open,
            token: n.wrapping_mul(2).wrapping_add(1),
        }
    }

    /// Opens a connection and returns the packet that goes over it from then on.
    fn establish(
        &mut self,
        protocol: Protocol,
        service: SocketAddr,
    ) -> Result<Segment, ProbeError> {
        if protocol == Protocol::Sctp {
            return Err(ProbeError::NoOpening { protocol });
        }
        let opening = self.opening(protocol, service);
        let lost =
            |stage, landing| ProbeError::NotEstablished { protocol, service, stage, landing };
        self.from_client.send(&opening.frame(CLIENT.mac, NODE_UPLINK.mac))?;
        let sighting = self.look_for(&opening)?;
        let Some((source, destination)) = sighting.arrival else {
            return Err(lost(
                "the first packet",
                sighting.landing(&opening).unwrap_or(Landing::Silence),
            ));
        };
        let answer = Segment {
            protocol,
            source: destination,
            destination: source,
            kind: Kind::Accept(opening.token.wrapping_add(1)),
            token: BACKEND_SEQUENCE,
        };
        self.from_backend.send(&answer.frame(BACKEND.mac, NODE_POD_LINK.mac))?;
        let arrival = self.look_for(&answer)?.arrival;
        if arrival != Some((service, opening.source)) {
            return Err(lost("the answer", Landing::Silence));
        }
        let acknowledged = BACKEND_SEQUENCE + 1;
        let token = opening.token.wrapping_add(1);
        Ok(Segment { kind: Kind::Data(acknowledged), token, ..opening })
    }

    /// What this instrument itself costs, in nanoseconds: `count` frames of a protocol that
    /// nobody speaks, each from before `send` until the far end has been looked at once. The
    /// first link of the node throws them away, so that no header is read and no rule met.
    ///
    /// # Errors
    ///
    /// [`ProbeError::Io`].
    pub fn empty_sends(&self, count: usize) -> Result<Vec<u64>, ProbeError> {
        let mut frame = [&NODE_UPLINK.mac[..], &CLIENT.mac, &NOBODY].concat();
        frame.resize(EMPTY_BYTES, 0);
        self.on_the_cpu(|| {
            let mut buffer = [0; FRAME_BYTES_MAX];
            let mut send = |_| {
                let start = monotonic_ns();
                self.from_client.send(&frame)?;
                self.at_backend.try_receive(&mut buffer)?;
                Ok(monotonic_ns() - start)
            };
            (0..count).map(&mut send).collect()
        })
    }

    /// Measures on a thread of its own, so that the caller's stays free of the CPU.
    fn measure(&self, segments: &[Segment], count: usize) -> Result<Samples, ProbeError> {
        let to_frame = |s: &Segment| s.frame(CLIENT.mac, NODE_UPLINK.mac);
        let frames: Vec<_> = segments.iter().map(to_frame).collect();
        self.on_the_cpu(|| self.send_all(segments, &frames, count))
    }

    fn on_the_cpu<T: Send>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send,
    ) -> Result<T, ProbeError> {
        let pinned = || {
            pin_to_cpu(self.cpu)?;
            work()
        };
        let done = std::thread::scope(|scope| scope.spawn(pinned).join());
        let done = done.unwrap_or_else(|_| Err(io::Error::other("the probe's thread died")));
        Ok(done?)
    }

    fn send_all(
        &self,
        segments: &[Segment],
        frames: &[Vec<u8>],
        count: usize,
    ) -> io::Result<Samples> {
        let mut samples = Samples::with_capacity(count);
        for (segment, frame) in segments.iter().zip(frames).cycle().take(count) {
            let start = monotonic_ns();
            self.from_client.send(frame)?;
            let sent = monotonic_ns();
            let (sighting, seen) = self.await_arrival(segment.token, start)?;
            samples.sent_at_ns.push(start);
            samples.send_ns.push(sent - start);
            samples.arrival_ns.push(seen - start);
            samples.landings.push(sighting.landing(segment).unwrap_or(Landing::Silence));
        }
        Ok(samples)
    }

    /// Spins until the packet with this token is seen at either end, and tells when that was.
    fn await_arrival(&self, token: u32, start_ns: u64) -> io::Result<(Sighting, u64)> {
        let mut sighting = Sighting::default();
        let mut buffer = [0; FRAME_BYTES_MAX];
        let patience = u64::try_from(self.patience.as_nanos()).unwrap_or(u64::MAX);
        loop {
            for receiver in [&self.at_backend, &self.at_client] {
                let received = receiver.try_receive(&mut buffer)?;
                let now = monotonic_ns();
                let Some(length) = received else { continue };
                let seen: Option<Seen> = read_whole(&buffer, length, frame::read_frame);
                sighting.add(token, seen);
                if sighting.is_anything() {
                    return Ok((sighting, now));
                }
            }
            let now = monotonic_ns();
            if now - start_ns > patience {
                return Ok((sighting, now));
            }
        }
    }

    fn look_for(&self, segment: &Segment) -> io::Result<Sighting> {
        Ok(self.await_arrival(segment.token, monotonic_ns())?.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_connections_have_the_same_source_and_all_are_in_the_block() {
        let count = 200_000;
        for family in Family::ALL {
            for sender in [Sender::Pod, Sender::Stranger] {
                let source = |n| sender.source(n, family);
                let sources: BTreeSet<_> = (0..count).map(source).collect();
                assert_eq!(sources.len(), count as usize);
                let block = sender.block(family);
                assert!(sources.iter().all(|s| s.port() >= 1024 && block.contains(&s.ip())));
            }
        }
    }
}
