//! The witness: sends one real packet and sees where it lands.
//!
//! Invariant: says what was seen, and judges only when asked whether it agrees with an
//! [`Outcome`].

use crate::frame::{self, Kind, Seen, Segment, Transport};
use crate::world::{BACKEND, CLIENT, LOOPBACK, NODE_POD_LINK, NODE_UPLINK};
use crate::{LabError, Place, World};
use nfc_ir::{Choice, Ingress, Outcome, Packet, Protocol};
use nfc_kernel::packet::{FrameReceiver, FrameSender, RawSocket};
use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

/// How long a packet that does not turn up is waited for. Its whole way runs inside the
/// `send`, unless the kernel puts it off to a thread because it is busy (`ksoftirqd`).
const PATIENCE: Duration = Duration::from_millis(100);

/// Longer than any packet that is sent here.
pub(crate) const FRAME_BYTES_MAX: usize = 2048;

/// Where a packet landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landing {
    /// At another address than it was sent to.
    Endpoint(Choice),
    /// It was refused with an ICMP error that says so.
    Reject,
    /// Nothing was seen any more.
    Silence,
    /// Where it was sent to: out of the node with its destination unchanged, or at the node
    /// itself.
    Through {
        /// Whether its source was rewritten nevertheless.
        masquerade: bool,
    },
    /// No way led to its destination: ICMP unreachable with this code, which no refusing
    /// rule sends.
    Unrouted {
        /// The code.
        code: u8,
    },
}

impl Landing {
    /// Whether `outcome` allows that the packet landed here.
    #[must_use]
    pub fn agrees_with(&self, outcome: &Outcome) -> bool {
        match (self, outcome) {
            (Self::Endpoint(choice), Outcome::Balance(choices)) => choices.contains_key(choice),
            (Self::Reject, Outcome::Reject) | (Self::Silence, Outcome::Drop) => true,
            (Self::Through { masquerade }, Outcome::Pass | Outcome::Accept) => !masquerade,
            _ => false,
        }
    }
}

impl fmt::Display for Landing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rewritten = |masquerade| if masquerade { " masqueraded" } else { "" };
        match self {
            Self::Endpoint(Choice { endpoint, masquerade }) => {
                write!(f, "landed at {endpoint}{}", rewritten(*masquerade))
            }
            Self::Reject => f.write_str("was rejected"),
            Self::Silence => f.write_str("was never seen again"),
            Self::Through { masquerade } => write!(f, "went through{}", rewritten(*masquerade)),
            Self::Unrouted { code } => write!(f, "found no route (ICMP unreachable, code {code})"),
        }
    }
}

/// Why a packet could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// The world has no such way in.
    #[error("the node has no link {name}, only {uplink} and {pod_link}")]
    NoSuchLink {
        /// The link of the packet.
        name: String,
        /// The link towards the client.
        uplink: String,
        /// The link towards the backend.
        pod_link: String,
    },
    /// Source and destination are of different families.
    #[error("{packet} mixes address families")]
    MixedFamilies {
        /// The packet.
        packet: Packet,
    },
    /// A socket failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

/// Sends packets into a world with [`Delivery::Captured`](crate::Delivery), one at a time.
///
/// Connections are remembered by the node: a second packet between the same two ports goes
/// where the first went. Use fresh source ports, or [`World::forget_flows`].
#[derive(Debug)]
pub struct Witness {
    uplink: String,
    pod_link: String,
    from_client: FrameSender,
    from_backend: FrameSender,
    from_node: [RawSocket; 2],
    at_client: FrameReceiver,
    at_backend: FrameReceiver,
    at_loopback: FrameReceiver,
    at_node: Vec<Ear>,
    patience: Duration,
    token: u32,
}

/// Hears what is delivered to the node itself.
#[derive(Debug)]
struct Ear {
    ipv6: bool,
    protocol: Protocol,
    socket: RawSocket,
}

impl Witness {
    /// A witness of what happens in `world`.
    ///
    /// # Errors
    ///
    /// [`LabError::Socket`].
    pub fn new(world: &World) -> Result<Self, LabError> {
        let (from_client, at_client) = wire_end(world, Place::Client, CLIENT.link)?;
        let (from_backend, at_backend) = wire_end(world, Place::Backend, BACKEND.link)?;
        let at_loopback = world.node().run(|| FrameReceiver::open(LOOPBACK))??;
        let from_node = [false, true].map(|ipv6| world.node().run(|| RawSocket::sender(ipv6)));
        let [v4, v6] = from_node;
        Ok(Self {
            uplink: world.settings().uplink.clone(),
            pod_link: world.settings().pod_link.clone(),
            from_client,
            from_backend,
            from_node: [v4??, v6??],
            at_client,
            at_backend,
            at_loopback,
            at_node: world.node().run(ears)??,
            patience: PATIENCE,
            token: 0x6e66_6300,
        })
    }

    /// The same, but packets that do not turn up are given up after `patience`.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Sends `packet` and tells where it landed. It is a TCP SYN, an SCTP INIT or a UDP
    /// datagram; it enters where [`Packet::ingress`] says.
    ///
    /// # Errors
    ///
    /// [`WitnessError`].
    pub fn send(&mut self, packet: &Packet) -> Result<Landing, WitnessError> {
        if packet.source.is_ipv4() != packet.destination.is_ipv4() {
            return Err(WitnessError::MixedFamilies { packet: packet.clone() });
        }
        self.token = self.token.wrapping_add(1);
        let segment = Segment {
            protocol: packet.protocol,
            source: packet.source,
            destination: packet.destination,
            kind: Kind::Open,
            token: self.token,
        };
        self.forget_sightings()?;
        self.launch(packet, &segment)?;
        self.watch(&segment)
    }

    fn launch(&self, packet: &Packet, segment: &Segment) -> Result<(), WitnessError> {
        let sent = match &packet.ingress {
            Ingress::Interface(name) if *name == self.uplink => {
                self.from_client.send(&segment.frame(CLIENT.mac, NODE_UPLINK.mac))
            }
            Ingress::Interface(name) if *name == self.pod_link => {
                self.from_backend.send(&segment.frame(BACKEND.mac, NODE_POD_LINK.mac))
            }
            Ingress::Interface(name) => {
                return Err(WitnessError::NoSuchLink {
                    name: name.clone(),
                    uplink: self.uplink.clone(),
                    pod_link: self.pod_link.clone(),
                });
            }
            Ingress::Local => {
                let socket = &self.from_node[usize::from(packet.source.is_ipv6())];
                without_refusals(socket.send(&segment.ip_packet(), packet.destination.ip()))
            }
        };
        sent.map_err(|source| WitnessError::Io { what: "cannot send a packet", source })
    }

    fn watch(&self, segment: &Segment) -> Result<Landing, WitnessError> {
        let deadline = Instant::now() + self.patience;
        loop {
            if let Some(landing) = self.look(segment.token)?.landing(segment) {
                return Ok(landing);
            }
            if Instant::now() >= deadline {
                return Ok(Landing::Silence);
            }
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// What has been seen of a packet. An ICMP error may be the answer of a host that the
    /// packet reached: when there is one, all is looked through again, because then the
    /// packet itself is there by now.
    fn look(&self, token: u32) -> Result<Sighting, WitnessError> {
        let mut sighting = Sighting::default();
        self.look_once(token, &mut sighting)?;
        if sighting.refusal.is_some() {
            self.look_once(token, &mut sighting)?;
        }
        Ok(sighting)
    }

    fn look_once(&self, token: u32, sighting: &mut Sighting) -> Result<(), WitnessError> {
        let look = |sighting: &mut Sighting| -> io::Result<()> {
            let mut buffer = [0; FRAME_BYTES_MAX];
            for receiver in [&self.at_backend, &self.at_client] {
                while let Some(length) = receiver.try_receive(&mut buffer)? {
                    sighting.add(token, read_whole(&buffer, length, frame::read_frame));
                }
            }
            for ear in &self.at_node {
                while let Some(length) = ear.socket.try_receive(&mut buffer)? {
                    sighting.add(token, read_whole(&buffer, length, |bytes| ear.read(bytes)));
                }
            }
            // At loopback only errors count: whether a packet there is let in is still open.
            while let Some(length) = self.at_loopback.try_receive(&mut buffer)? {
                let seen = read_whole(&buffer, length, frame::read_frame);
                sighting.add(token, seen.filter(|s| matches!(s, Seen::Unreachable { .. })));
            }
            Ok(())
        };
        let what = "cannot receive packets";
        look(sighting).map_err(|source| WitnessError::Io { what, source })
    }

    /// Puts aside what is left of earlier packets.
    fn forget_sightings(&self) -> Result<(), WitnessError> {
        self.look_once(self.token, &mut Sighting::default())
    }
}

pub(crate) fn read_whole(
    buffer: &[u8],
    length: usize,
    read: impl FnOnce(&[u8]) -> Option<Seen>,
) -> Option<Seen> {
    read(buffer.get(..length)?)
}

/// What has been seen of one packet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sighting {
    /// Source and destination at arrival.
    pub(crate) arrival: Option<(SocketAddr, SocketAddr)>,
    /// Code of an ICMP error about it.
    refusal: Option<u8>,
}

impl Sighting {
    pub(crate) fn add(&mut self, token: u32, seen: Option<Seen>) {
        match seen {
            Some(Seen::Packet { source, destination, token: t }) if t == token => {
                self.arrival.get_or_insert((source, destination));
            }
            Some(Seen::Unreachable { token: t, code }) if t == token => {
                self.refusal.get_or_insert(code);
            }
            _ => (),
        }
    }

    pub(crate) fn is_anything(&self) -> bool {
        self.arrival.is_some() || self.refusal.is_some()
    }

    pub(crate) fn landing(&self, sent: &Segment) -> Option<Landing> {
        if let Some((source, destination)) = self.arrival {
            let masquerade = source.ip() != sent.source.ip() && !source.ip().is_unspecified();
            let same_place =
                destination.ip().is_unspecified() && destination.port() == sent.destination.port();
            return Some(if destination == sent.destination || same_place {
                Landing::Through { masquerade }
            } else {
                Landing::Endpoint(Choice { endpoint: destination, masquerade })
            });
        }
        let code = self.refusal?;
        let is_refusal =
            if sent.source.is_ipv4() { is_refusal_v4(code) } else { is_refusal_v6(code) };
        Some(if is_refusal { Landing::Reject } else { Landing::Unrouted { code } })
    }
}

/// Port unreachable, and administratively prohibited in its three forms (RFC 1812, 5.2.7.1).
fn is_refusal_v4(code: u8) -> bool {
    matches!(code, 3 | 9 | 10 | 13)
}

/// Port unreachable, and administratively prohibited (RFC 4443, 3.1).
fn is_refusal_v6(code: u8) -> bool {
    matches!(code, 1 | 4)
}

pub(crate) fn wire_end(
    world: &World,
    place: Place,
    link: u32,
) -> Result<(FrameSender, FrameReceiver), LabError> {
    let open = || -> io::Result<_> { Ok((FrameSender::open(link)?, FrameReceiver::open(link)?)) };
    Ok(world.at(place).run(open)??)
}

fn ears() -> io::Result<Vec<Ear>> {
    let kinds = [false, true].into_iter().flat_map(|ipv6| Protocol::ALL.map(|p| (ipv6, p)));
    let open = |(ipv6, protocol): (bool, Protocol)| {
        let socket = RawSocket::receiver(ipv6, protocol.number())?;
        Ok(Ear { ipv6, protocol, socket })
    };
    kinds.map(open).collect()
}

impl Ear {
    /// A raw IPv6 socket leaves the IP header out (`raw(7)`), so the addresses are not known
    /// there and stay unspecified.
    fn read(&self, bytes: &[u8]) -> Option<Seen> {
        if !self.ipv6 {
            return frame::read_ip(bytes);
        }
        let Transport { source, destination, token } =
            Transport::read(self.protocol.number(), bytes)?;
        let at = |port| SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
        Some(Seen::Packet { source: at(source), destination: at(destination), token })
    }
}

/// Sending from the node itself fails with `EPERM` when a rule drops or rejects the packet,
/// which is a landing and no failure.
fn without_refusals(sent: io::Result<()>) -> io::Result<()> {
    match sent {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        other => other,
    }
}
