//! ctnetlink: the connections that the kernel tracks
//! (`include/uapi/linux/netfilter/nfnetlink_conntrack.h`).
//!
//! Invariant: reads and names single connections; which of them is of interest is decided
//! elsewhere.

use crate::attr::{Attr, Attrs, Writer};
use crate::message::{self, Messages, flags};
use std::net::{IpAddr, SocketAddr};

/// Message types: subsystem `NFNL_SUBSYS_CTNETLINK`, then `IPCTNL_MSG_CT_*`.
mod kinds {
    const SUBSYSTEM: u16 = 1 << 8;
    pub(super) const NEW: u16 = SUBSYSTEM;
    pub(super) const GET: u16 = SUBSYSTEM | 1;
    pub(super) const DELETE: u16 = SUBSYSTEM | 2;
}

/// Attributes of a connection (`CTA_*`).
mod part {
    pub(super) const ORIGINAL: u16 = 1;
    pub(super) const REPLY: u16 = 2;
    pub(super) const STATUS: u16 = 3;
    pub(super) const PROTOCOL_INFO: u16 = 4;
    pub(super) const ORIGINAL_COUNTERS: u16 = 9;
    pub(super) const REPLY_COUNTERS: u16 = 10;
    pub(super) const ID: u16 = 12;
    pub(super) const ZONE: u16 = 18;
    /// `CTA_PROTOINFO_TCP` and in it `CTA_PROTOINFO_TCP_STATE`.
    pub(super) const TCP: u16 = 1;
    pub(super) const TCP_STATE: u16 = 1;
    /// `CTA_COUNTERS_PACKETS`.
    pub(super) const PACKETS: u16 = 1;
}

/// Attributes of one direction (`CTA_TUPLE_*`, `CTA_IP_*`, `CTA_PROTO_*`).
mod tuple {
    pub(super) const IP: u16 = 1;
    pub(super) const PROTOCOL: u16 = 2;
    /// Source and destination of IPv4, then of IPv6.
    pub(super) const ADDRESSES: [[u16; 2]; 2] = [[1, 2], [3, 4]];
    pub(super) const NUMBER: u16 = 1;
    pub(super) const PORTS: [u16; 2] = [2, 3];
}

/// Bits of a connection's status (`IPS_*`,
/// `include/uapi/linux/netfilter/nf_conntrack_common.h`).
mod status {
    pub(super) const SEEN_REPLY: u32 = 1 << 1;
    /// In a flowtable, whose packets go past all chains: in software, in hardware.
    pub(super) const OFFLOADED: u32 = 1 << 14 | 1 << 15;
}

/// Length of `struct nfgenmsg`.
const HEADER_LEN: usize = 4;

/// A tracked connection of a protocol that has ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Connection {
    /// The protocol's number (IANA).
    pub protocol: u8,
    /// Who began it.
    pub client: SocketAddr,
    /// Whom the client believes to talk to.
    pub destination: SocketAddr,
    /// Who answers: the source of the replies, an endpoint after DNAT.
    pub answerer: SocketAddr,
    /// Whom the answerer believes to talk to: another than the client after masquerading.
    pub asker: SocketAddr,
    /// For TCP its state (`enum tcp_conntrack`, `linux/netfilter/nf_conntrack_tcp.h`).
    pub tcp_state: Option<u8>,
    /// What the kernel notes about it (`IPS_*`).
    pub status: u32,
    /// Packets of the client and of the answerer; `None` where the kernel does not count
    /// (`net.netfilter.nf_conntrack_acct`).
    pub packets: Option<[u64; 2]>,
    /// The kernel's number for it, which tells it from a later one between the same ports.
    pub id: Option<u32>,
    /// Its zone, where it has one.
    pub zone: Option<u16>,
}

impl Connection {
    /// Whether it is over: a TCP connection that waits for nothing but its removal
    /// (`TIME_WAIT`, `CLOSE`).
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.tcp_state, Some(7 | 8))
    }

    /// Whether its destination was rewritten.
    #[must_use]
    pub fn is_rewritten(&self) -> bool {
        self.answerer != self.destination
    }

    /// Whether any answer came by.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.status & status::SEEN_REPLY != 0
    }

    /// Whether its packets go through a flowtable, past all chains.
    #[must_use]
    pub fn is_offloaded(&self) -> bool {
        self.status & status::OFFLOADED != 0
    }
}

/// The request for all connections of both families.
#[must_use]
pub fn list() -> Vec<u8> {
    let mut writer = Writer::new();
    message::write(&mut writer, kinds::GET, flags::DUMP, 1, |w| w.raw(&[0; HEADER_LEN]));
    writer.into_bytes()
}

/// The request to forget `connection`, and no other.
#[must_use]
pub fn delete(connection: &Connection) -> Vec<u8> {
    let Connection { protocol, client, destination, id, zone, .. } = connection;
    let family = if client.is_ipv4() { 2 } else { 10 };
    let mut writer = Writer::new();
    message::write(&mut writer, kinds::DELETE, flags::ACK, 1, |w| {
        w.raw(&[family, 0, 0, 0]);
        w.nest(part::ORIGINAL, |w| write_tuple(w, *protocol, [*client, *destination]));
        if let Some(id) = id {
            w.be32(part::ID, *id);
        }
        if let Some(zone) = zone {
            w.be16(part::ZONE, *zone);
        }
    });
    writer.into_bytes()
}

/// The connections in the answer to [`list`]. Those of protocols without ports, as ICMP, are
/// left out.
pub fn connections(answer: &[u8]) -> impl Iterator<Item = Connection> + '_ {
    Messages::new(answer).filter(|m| m.kind == kinds::NEW).filter_map(|m| read(m.attrs(HEADER_LEN)))
}

fn write_tuple(w: &mut Writer, protocol: u8, ends: [SocketAddr; 2]) {
    w.nest(tuple::IP, |w| {
        let kinds = tuple::ADDRESSES[usize::from(ends[0].is_ipv6())];
        for (kind, end) in kinds.into_iter().zip(ends) {
            match end.ip() {
                IpAddr::V4(ip) => w.bytes_attr(kind, &ip.octets()),
                IpAddr::V6(ip) => w.bytes_attr(kind, &ip.octets()),
            }
        }
    });
    w.nest(tuple::PROTOCOL, |w| {
        w.u8(tuple::NUMBER, protocol);
        for (kind, end) in tuple::PORTS.into_iter().zip(ends) {
            w.be16(kind, end.port());
        }
    });
}

fn read(attrs: Attrs<'_>) -> Option<Connection> {
    let find = |kind| attrs.clone().find(kind);
    let (protocol, [client, destination]) = read_tuple(find(part::ORIGINAL)?)?;
    let (_, [answerer, asker]) = read_tuple(find(part::REPLY)?)?;
    let tcp = find(part::PROTOCOL_INFO).and_then(|info| info.nested().find(part::TCP));
    let tcp_state = tcp.and_then(|tcp| first_byte(&tcp.nested().find(part::TCP_STATE)?));
    let count = |kind| {
        let packets = find(kind)?.nested().find(part::PACKETS)?;
        packets.payload.try_into().ok().map(u64::from_be_bytes)
    };
    let packets = count(part::ORIGINAL_COUNTERS).zip(count(part::REPLY_COUNTERS));
    Some(Connection {
        protocol,
        client,
        destination,
        answerer,
        asker,
        tcp_state,
        // The kernel never leaves it out (`ctnetlink_dump_status`).
        status: find(part::STATUS).and_then(|a| a.be32()).unwrap_or(0),
        packets: packets.map(|(ours, theirs)| [ours, theirs]),
        id: find(part::ID).and_then(|a| a.be32()),
        zone: find(part::ZONE).and_then(|a| be16(&a)),
    })
}

/// Protocol, source and destination.
fn read_tuple(attr: Attr<'_>) -> Option<(u8, [SocketAddr; 2])> {
    let ip = attr.nested().find(tuple::IP)?;
    let protocol = attr.nested().find(tuple::PROTOCOL)?;
    let number = first_byte(&protocol.nested().find(tuple::NUMBER)?)?;
    let port = |side: usize| be16(&protocol.nested().find(tuple::PORTS[side])?);
    let address = |side: usize| {
        let [v4, v6] = tuple::ADDRESSES.map(|kinds| ip.nested().find(kinds[side]));
        match (v4, v6) {
            (Some(v4), _) => <[u8; 4]>::try_from(v4.payload).ok().map(IpAddr::from),
            (None, v6) => <[u8; 16]>::try_from(v6?.payload).ok().map(IpAddr::from),
        }
    };
    let end = |side| Some(SocketAddr::new(address(side)?, port(side)?));
    Some((number, [end(0)?, end(1)?]))
}

fn first_byte(attr: &Attr<'_>) -> Option<u8> {
    attr.payload.first().copied()
}

fn be16(attr: &Attr<'_>) -> Option<u16> {
    attr.payload.try_into().ok().map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(text: &str) -> SocketAddr {
        text.parse().expect("an address and a port")
    }

    fn sample(protocol: u8, tcp_state: Option<u8>) -> Connection {
        Connection {
            protocol,
            client: end("192.0.2.2:40000"),
            destination: end("10.96.0.10:53"),
            answerer: end("10.244.1.5:5353"),
            asker: end("192.0.2.1:40000"),
            tcp_state,
            status: status::SEEN_REPLY,
            packets: None,
            id: Some(7),
            zone: None,
        }
    }

    /// A connection as the kernel lists it.
    fn listed(connection: &Connection) -> Vec<u8> {
        let Connection { protocol, client, destination, answerer, asker, .. } = connection;
        let Connection { tcp_state, status, .. } = connection;
        let mut writer = Writer::new();
        message::write(&mut writer, kinds::NEW, 0, 1, |w| {
            w.raw(&[2, 0, 0, 0]);
            w.nest(part::ORIGINAL, |w| write_tuple(w, *protocol, [*client, *destination]));
            w.nest(part::REPLY, |w| write_tuple(w, *protocol, [*answerer, *asker]));
            w.be32(part::STATUS, *status);
            if let Some(state) = tcp_state {
                w.nest(part::PROTOCOL_INFO, |w| {
                    w.nest(part::TCP, |w| w.u8(part::TCP_STATE, *state));
                });
            }
            w.be32(part::ID, 7);
        });
        writer.into_bytes()
    }

    #[test]
    fn what_the_kernel_lists_is_read() {
        for connection in [sample(17, None), sample(6, Some(3))] {
            let bytes = listed(&connection);
            assert_eq!(connections(&bytes).collect::<Vec<_>>(), [connection]);
        }
        assert!(sample(6, Some(7)).is_over() && !sample(6, Some(3)).is_over());
        assert!(sample(17, None).is_rewritten() && sample(17, None).is_answered());
        assert!(!sample(17, None).is_offloaded());
        let fresh = Connection { status: 1 << 14, ..sample(17, None) };
        assert!(fresh.is_offloaded() && !fresh.is_answered());
    }

    #[test]
    fn addresses_of_both_families_are_read() {
        let connection = Connection {
            client: end("[fd00::2]:1"),
            destination: end("[fd00::96]:2"),
            answerer: end("[fd00::5]:3"),
            asker: end("[fd00::2]:1"),
            ..sample(17, None)
        };
        assert_eq!(connections(&listed(&connection)).collect::<Vec<_>>(), [connection]);
    }

    /// What `conntrack -D` sends for one connection, but for the id.
    #[cfg(target_endian = "little")]
    #[test]
    fn a_connection_is_forgotten_by_its_first_direction() {
        #[rustfmt::skip]
        let expected = [
            80, 0, 0, 0,  2, 1,  5, 0,  1, 0, 0, 0,  0, 0, 0, 0,
            2, 0, 0, 0,
            52, 0, 1, 0x80,
                20, 0, 1, 0x80,
                    8, 0, 1, 0,  192, 0, 2, 2,
                    8, 0, 2, 0,  10, 96, 0, 10,
                28, 0, 2, 0x80,
                    5, 0, 1, 0,  17, 0, 0, 0,
                    6, 0, 2, 0,  0x9c, 0x40, 0, 0,
                    6, 0, 3, 0,  0, 53, 0, 0,
            8, 0, 12, 0,  0, 0, 0, 7,
        ];
        assert_eq!(delete(&sample(17, None)), expected);
    }

    #[test]
    fn nonsense_is_no_connection() {
        let mut bytes = listed(&sample(17, None));
        bytes.truncate(60);
        assert_eq!(connections(&bytes).count(), 0);
    }
}
