//! Frames: a packet as bytes, and bytes as a packet.
//!
//! Every packet made here carries a token that no rule changes, so that it is known again
//! wherever it turns up: as TCP sequence number, as UDP payload, as the initiate tag of an
//! SCTP INIT chunk.
//!
//! Invariant: pure; knows headers, and no link and no rule.

use etherparse::{
    IpHeaders, IpNumber, Ipv4Header, Ipv6Header, NetSlice, PacketBuilder, PacketBuilderStep,
    SlicedPacket, TransportSlice,
};
use nfc_ir::Protocol;
use nfc_netlink::route::Mac;
use std::net::{IpAddr, SocketAddr};

/// How many links a packet may cross.
const HOPS: u8 = 64;

/// What a TCP sender offers to receive.
const TCP_WINDOW: u16 = 64_240;

/// Who speaks to whom about what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) protocol: Protocol,
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) kind: Kind,
    /// What it is known by. For TCP the sequence number.
    pub(crate) token: u32,
}

/// Which packet of a connection it is. UDP has only one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// SYN, or INIT.
    Open,
    /// SYN and ACK of this sequence number.
    Accept(u32),
    /// ACK of this sequence number.
    Data(u32),
}

impl Segment {
    /// The whole frame.
    pub(crate) fn frame(&self, from: Mac, to: Mac) -> Vec<u8> {
        let ip = self.ip_packet();
        let kind = if self.source.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xdd] };
        [&to[..], &from[..], &kind[..], &ip[..]].concat()
    }

    /// The same without an Ethernet header.
    pub(crate) fn ip_packet(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128);
        let (from, to) = (self.source.port(), self.destination.port());
        let builder = self.ip_header();
        let token = self.token.to_be_bytes();
        let written = match self.protocol {
            Protocol::Udp => builder.udp(from, to).write(&mut bytes, &token),
            Protocol::Tcp => self.tcp(builder).write(&mut bytes, &[]),
            Protocol::Sctp => builder.write(&mut bytes, IpNumber::SCTP, &self.init_chunk()),
        };
        if let Err(error) = written {
            unreachable!("a vector takes everything, and the packet is short: {error}");
        }
        bytes
    }

    fn ip_header(&self) -> PacketBuilderStep<IpHeaders> {
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let (source, destination) = (source.octets(), destination.octets());
                let header =
                    Ipv4Header { time_to_live: HOPS, source, destination, ..Ipv4Header::default() };
                PacketBuilder::ip(IpHeaders::Ipv4(header, etherparse::Ipv4Extensions::default()))
            }
            (source, destination) => {
                let (source, destination) = (octets(source), octets(destination));
                let header =
                    Ipv6Header { hop_limit: HOPS, source, destination, ..Ipv6Header::default() };
                PacketBuilder::ip(IpHeaders::Ipv6(header, etherparse::Ipv6Extensions::default()))
            }
        }
    }

    fn tcp(
        &self,
        builder: PacketBuilderStep<IpHeaders>,
    ) -> PacketBuilderStep<etherparse::TcpHeader> {
        let (from, to) = (self.source.port(), self.destination.port());
        let segment = builder.tcp(from, to, self.token, TCP_WINDOW);
        match self.kind {
            Kind::Open => segment.syn(),
            Kind::Accept(acknowledged) => segment.syn().ack(acknowledged),
            Kind::Data(acknowledged) => segment.ack(acknowledged),
        }
    }

    /// An SCTP packet with one INIT chunk (RFC 9260, sections 3.1 and 3.3.2): verification
    /// tag 0, a window, one stream each way, and the token as initiate tag and first TSN.
    fn init_chunk(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(32);
        bytes.extend_from_slice(&self.source.port().to_be_bytes());
        bytes.extend_from_slice(&self.destination.port().to_be_bytes());
        bytes.extend_from_slice(&[0; 8]); // verification tag, checksum
        bytes.extend_from_slice(&[1, 0, 0, 20]);
        bytes.extend_from_slice(&self.token.to_be_bytes());
        bytes.extend_from_slice(&[0, 0, 0xff, 0xff, 0, 1, 0, 1]);
        bytes.extend_from_slice(&self.token.to_be_bytes());
        let checksum = crc32c(&bytes).to_le_bytes();
        bytes[8..12].copy_from_slice(&checksum);
        bytes
    }
}

fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// The checksum of SCTP (RFC 9260, appendix A): CRC-32C, least significant bit first.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
    let add = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc));
    !bytes.iter().fold(!0, add)
}

/// What a frame or packet turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// One of ours, with the addresses it has now.
    Packet { source: SocketAddr, destination: SocketAddr, token: u32 },
    /// An ICMP error about one of ours.
    Unreachable { token: u32, code: u8 },
}

/// What the Ethernet frame in `bytes` is, if it is any of ours.
pub(crate) fn read_frame(bytes: &[u8]) -> Option<Seen> {
    read(&SlicedPacket::from_ethernet(bytes).ok()?)
}

/// What the IP packet in `bytes` is, if it is any of ours.
pub(crate) fn read_ip(bytes: &[u8]) -> Option<Seen> {
    read(&SlicedPacket::from_ip(bytes).ok()?)
}

fn read(packet: &SlicedPacket<'_>) -> Option<Seen> {
    let net = packet.net.as_ref()?;
    let payload = net.ip_payload_ref()?;
    match &packet.transport {
        Some(TransportSlice::Icmpv4(icmp)) if icmp.type_u8() == 3 => {
            Some(Seen::Unreachable { token: quoted_token(icmp.payload())?, code: icmp.code_u8() })
        }
        Some(TransportSlice::Icmpv6(icmp)) if icmp.type_u8() == 1 => {
            Some(Seen::Unreachable { token: quoted_token(icmp.payload())?, code: icmp.code_u8() })
        }
        _ => {
            let (source, destination) = addresses(net)?;
            let transport = Transport::read(payload.ip_number.0, payload.payload)?;
            Some(Seen::Packet {
                source: SocketAddr::new(source, transport.source),
                destination: SocketAddr::new(destination, transport.destination),
                token: transport.token,
            })
        }
    }
}

fn addresses(net: &NetSlice<'_>) -> Option<(IpAddr, IpAddr)> {
    match net {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            Some((header.source_addr().into(), header.destination_addr().into()))
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            Some((header.source_addr().into(), header.destination_addr().into()))
        }
        NetSlice::Arp(_) => None,
    }
}

/// The token of the packet that an ICMP error quotes. What is quoted may be cut off behind
/// its first eight bytes of transport (RFC 792), so it is not parsed strictly.
fn quoted_token(quoted: &[u8]) -> Option<u32> {
    let (protocol, start) = match quoted.first()? >> 4 {
        4 => (*quoted.get(9)?, usize::from(quoted[0] & 0xf) * 4),
        _ => (*quoted.get(6)?, 40),
    };
    Transport::read(protocol, quoted.get(start..)?).map(|transport| transport.token)
}

/// What all transport headers have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transport {
    pub(crate) source: u16,
    pub(crate) destination: u16,
    pub(crate) token: u32,
}

impl Transport {
    /// Reads a TCP, UDP or SCTP header and the token at its place.
    pub(crate) fn read(protocol: u8, bytes: &[u8]) -> Option<Self> {
        let token_at = match protocol {
            6 => 4,
            17 => 8,
            132 => 16,
            _ => return None,
        };
        let half = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
        let token = bytes.get(token_at..token_at + 4)?.try_into().ok()?;
        Some(Self { source: half(0)?, destination: half(2)?, token: u32::from_be_bytes(token) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(protocol: Protocol, source: &str, destination: &str) -> Segment {
        let address = |text: &str| text.parse().expect("an address");
        Segment {
            protocol,
            source: address(source),
            destination: address(destination),
            kind: Kind::Open,
            token: 0x0102_0304,
        }
    }

    #[test]
    fn a_frame_is_read_as_what_was_written() {
        for protocol in Protocol::ALL {
            for (source, destination) in
                [("192.0.2.2:1024", "172.16.0.1:80"), ("[fd00::2]:1024", "[fd00:172::1]:80")]
            {
                let segment = segment(protocol, source, destination);
                let Segment { source, destination, token, .. } = segment;
                let expected = Some(Seen::Packet { source, destination, token });
                assert_eq!(read_frame(&segment.frame([2; 6], [4; 6])), expected, "{protocol}");
                assert_eq!(read_ip(&segment.ip_packet()), expected, "{protocol}");
            }
        }
    }

    /// The check value of CRC-32C that is given everywhere (RFC 3720, appendix B.4 has more).
    #[test]
    fn crc32c_of_the_nine_digits() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn checksums_are_right() {
        let sctp = segment(Protocol::Sctp, "192.0.2.2:1024", "172.16.0.1:80").init_chunk();
        let mut blank = sctp.clone();
        blank[8..12].fill(0);
        assert_eq!(sctp[8..12], crc32c(&blank).to_le_bytes());
        let udp = segment(Protocol::Udp, "192.0.2.2:1024", "172.16.0.1:80").ip_packet();
        // One's complement sums: the IP header alone, and the datagram with its pseudo header.
        assert_eq!(sum(&udp[..20]), 0xffff);
        let pseudo = [&udp[12..20], &[0, 17, 0, 12], &udp[20..]].concat();
        assert_eq!(sum(&pseudo), 0xffff);
    }

    fn sum(bytes: &[u8]) -> u32 {
        let halves = bytes.chunks(2).map(|c| u32::from(c[0]) << 8 | u32::from(c[1]));
        let total: u32 = halves.sum();
        (total & 0xffff) + (total >> 16)
    }

    #[test]
    fn an_icmp_error_is_known_by_what_it_quotes() {
        for protocol in Protocol::ALL {
            let quoted = segment(protocol, "192.0.2.2:1024", "172.16.0.1:80").ip_packet();
            assert_eq!(quoted_token(&quoted), Some(0x0102_0304), "{protocol}");
            let mut error = Vec::new();
            PacketBuilder::ethernet2([2; 6], [4; 6])
                .ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64)
                .icmpv4_raw(3, 3, [0; 4])
                .write(&mut error, &quoted)
                .expect("a short packet");
            let expected = Seen::Unreachable { token: 0x0102_0304, code: 3 };
            assert_eq!(read_frame(&error), Some(expected));
        }
    }
}
