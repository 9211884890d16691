//! rtnetlink: links, addresses, routes and neighbours
//! (`include/uapi/linux/{rtnetlink,if_link,if_addr,neighbour}.h`).
//!
//! Requests are appended to one buffer that is sent at once. Interface numbers are chosen
//! by the caller when a link is made, so that nothing has to be looked up in between.
//!
//! Invariant: only what Services and test worlds need; anything else is left to `ip`.

use crate::attr::{Attrs, Writer};
use crate::message::{self, Messages, flags};
use std::net::IpAddr;

/// Message types (`RTM_*`).
mod kinds {
    pub(super) const NEW_LINK: u16 = 16;
    pub(super) const DELETE_LINK: u16 = 17;
    pub(super) const GET_LINK: u16 = 18;
    pub(super) const NEW_ADDRESS: u16 = 20;
    pub(super) const DELETE_ADDRESS: u16 = 21;
    pub(super) const GET_ADDRESS: u16 = 22;
    pub(super) const NEW_ROUTE: u16 = 24;
    pub(super) const DELETE_ROUTE: u16 = 25;
    pub(super) const GET_ROUTE: u16 = 26;
    pub(super) const NEW_NEIGHBOUR: u16 = 28;
}

/// Attributes of links (`IFLA_*`), of their kind (`IFLA_INFO_*`), of veth.
mod link {
    pub(super) const ADDRESS: u16 = 1;
    pub(super) const NAME: u16 = 3;
    pub(super) const MASTER: u16 = 10;
    pub(super) const OPERATIONAL_STATE: u16 = 16;
    pub(super) const INFO: u16 = 18;
    pub(super) const INFO_KIND: u16 = 1;
    pub(super) const INFO_DATA: u16 = 2;
    pub(super) const INFO_PORT_KIND: u16 = 4;
    pub(super) const INFO_PORT_DATA: u16 = 5;
    /// `IFLA_BRPORT_MODE`.
    pub(super) const PORT_HAIRPIN: u16 = 4;
    pub(super) const VETH_PEER: u16 = 1;
    pub(super) const NAMESPACE_FD: u16 = 28;
}

/// Attributes of addresses (`IFA_*`).
mod address {
    pub(super) const ADDRESS: u16 = 1;
    pub(super) const LOCAL: u16 = 2;
    /// `IFA_F_NODAD`: usable at once, without looking for duplicates.
    pub(super) const NO_DUPLICATE_DETECTION: u8 = 0x02;
}

/// Attributes of routes (`RTA_*`).
mod routing {
    pub(super) const DESTINATION: u16 = 1;
    pub(super) const LINK: u16 = 4;
    pub(super) const GATEWAY: u16 = 5;
}

/// Attributes of neighbours (`NDA_*`).
mod neighbour {
    pub(super) const IP: u16 = 1;
    pub(super) const MAC: u16 = 2;
}

/// Length of `struct ifinfomsg` and of `struct ifaddrmsg`.
const LINK_HEADER_LEN: usize = 16;
const ADDRESS_HEADER_LEN: usize = 8;

/// Length of `struct rtmsg`.
const ROUTE_HEADER_LEN: usize = 12;

/// The loopback link's number in every namespace (`LOOPBACK_IFINDEX`, `include/net/flow.h`).
const LOOPBACK: u32 = 1;

/// The table of local routes (`RT_TABLE_LOCAL`), and their type (`RTN_LOCAL`).
const LOCAL_TABLE: u8 = 255;
const LOCAL: u8 = 2;

/// `IFF_UP`.
const UP: u32 = 1;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// One end of a veth pair, a dummy link or a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkEnd {
    /// Its number; `None` lets the kernel choose.
    pub index: Option<u32>,
    /// Its name, at most 15 bytes.
    pub name: String,
    /// Its Ethernet address; `None` lets the kernel choose.
    pub mac: Option<Mac>,
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// To a router behind a link.
    Gateway(IpAddr, u32),
    /// Out of a link, to whoever is there.
    Link(u32),
    /// To this host itself: every address of the block is its own (`RTN_LOCAL`).
    Local(u32),
    /// Nowhere (`RTN_BLACKHOLE`).
    Blackhole,
}

/// Appends rtnetlink requests; message n, counted from 1, has sequence number n.
#[derive(Clone, Debug, Default)]
pub struct RouteWriter {
    writer: Writer,
    count: u32,
}

impl RouteWriter {
    /// No request yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The requests, to be sent together.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.writer.into_bytes()
    }

    /// A pair of veth links; the far end is born in the namespace that `namespace` is a file
    /// descriptor of, or here. Both are down: the far end cannot be brought up before it
    /// exists.
    pub fn veth(&mut self, near: &LinkEnd, far: &LinkEnd, namespace: Option<u32>) {
        self.request(kinds::NEW_LINK, flags::CREATE | flags::EXCL, |w| {
            write_link(w, near);
            w.nest(link::INFO, |w| {
                w.text(link::INFO_KIND, "veth");
                w.nest(link::INFO_DATA, |w| {
                    w.nest(link::VETH_PEER, |w| {
                        write_link(w, far);
                        if let Some(fd) = namespace {
                            w.u32(link::NAMESPACE_FD, fd);
                        }
                    });
                });
            });
        });
    }

    /// A dummy link, down. No complaint when it exists already.
    pub fn dummy(&mut self, end: &LinkEnd) {
        self.request(kinds::NEW_LINK, flags::CREATE, |w| {
            write_link(w, end);
            w.nest(link::INFO, |w| w.text(link::INFO_KIND, "dummy"));
        });
    }

    /// A bridge, down. Without spanning tree, which is the kernel's default, its ports forward
    /// as soon as they are up.
    pub fn bridge(&mut self, end: &LinkEnd) {
        self.request(kinds::NEW_LINK, flags::CREATE | flags::EXCL, |w| {
            write_link(w, end);
            w.nest(link::INFO, |w| w.text(link::INFO_KIND, "bridge"));
        });
    }

    /// Makes a link a port of the bridge with the number `bridge`.
    pub fn port(&mut self, index: u32, bridge: u32) {
        self.request(kinds::NEW_LINK, 0, |w| {
            w.raw(&link_header(index, 0, 0));
            w.u32(link::MASTER, bridge);
        });
    }

    /// Lets a port of a bridge send out again what came in through it (hairpin mode).
    pub fn hairpin(&mut self, index: u32) {
        self.request(kinds::NEW_LINK, 0, |w| {
            w.raw(&link_header(index, 0, 0));
            w.nest(link::INFO, |w| {
                w.text(link::INFO_PORT_KIND, "bridge");
                w.nest(link::INFO_PORT_DATA, |w| w.u8(link::PORT_HAIRPIN, 1));
            });
        });
    }

    /// Brings a link up.
    pub fn up(&mut self, index: u32) {
        self.request(kinds::NEW_LINK, 0, |w| w.raw(&link_header(index, UP, UP)));
    }

    /// Brings the link of this name up.
    pub fn up_by_name(&mut self, name: &str) {
        self.request(kinds::NEW_LINK, 0, |w| {
            w.raw(&link_header(0, UP, UP));
            w.text(link::NAME, name);
        });
    }

    /// Deletes the link of this name, and with it its addresses and routes.
    pub fn delete_link(&mut self, name: &str) {
        self.request(kinds::DELETE_LINK, 0, |w| {
            w.raw(&link_header(0, 0, 0));
            w.text(link::NAME, name);
        });
    }

    /// Gives a link an address, usable at once. No complaint when it has it already.
    pub fn address(&mut self, index: u32, ip: IpAddr, prefix_len: u8) {
        let create = flags::CREATE | REPLACE;
        self.request(kinds::NEW_ADDRESS, create, |w| write_address(w, index, ip, prefix_len));
    }

    /// Takes an address from a link.
    pub fn delete_address(&mut self, index: u32, ip: IpAddr, prefix_len: u8) {
        self.request(kinds::DELETE_ADDRESS, 0, |w| write_address(w, index, ip, prefix_len));
    }

    /// A route to the block `ip/prefix_len`.
    pub fn route(&mut self, ip: IpAddr, prefix_len: u8, via: Via) {
        const STATIC: u8 = 4;
        self.request(kinds::NEW_ROUTE, flags::CREATE | REPLACE, |w| {
            write_route(w, ip, prefix_len, via, STATIC);
        });
    }

    /// Makes an address this host's own by a route to loopback, without giving it to a link.
    /// `protocol` (`RTPROT_*`) tells such routes from those of others.
    pub fn own(&mut self, ip: IpAddr, protocol: u8) {
        self.request(kinds::NEW_ROUTE, flags::CREATE | REPLACE, |w| {
            write_route(w, ip, host_len(ip), Via::Local(LOOPBACK), protocol);
        });
    }

    /// Takes back what [`own`](Self::own) said.
    pub fn disown(&mut self, ip: IpAddr, protocol: u8) {
        self.request(kinds::DELETE_ROUTE, 0, |w| {
            write_route(w, ip, host_len(ip), Via::Local(LOOPBACK), protocol);
        });
    }

    /// Asks for all routes of both families.
    pub fn list_routes(&mut self) {
        self.request(kinds::GET_ROUTE, flags::DUMP, |w| w.raw(&[0; ROUTE_HEADER_LEN]));
    }

    /// A neighbour that is known for good: no ARP, no neighbour discovery.
    pub fn neighbour(&mut self, index: u32, ip: IpAddr, mac: Mac) {
        const PERMANENT: u16 = 0x80;
        self.request(kinds::NEW_NEIGHBOUR, flags::CREATE | REPLACE, |w| {
            let mut header = [0; 12];
            header[0] = family(ip);
            header[4..8].copy_from_slice(&index.to_ne_bytes());
            header[8..10].copy_from_slice(&PERMANENT.to_ne_bytes());
            w.raw(&header);
            write_ip(w, neighbour::IP, ip);
            w.bytes_attr(neighbour::MAC, &mac);
        });
    }

    /// Asks for all links.
    pub fn list_links(&mut self) {
        self.request(kinds::GET_LINK, flags::DUMP, |w| w.raw(&link_header(0, 0, 0)));
    }

    /// Asks for the link of this name.
    pub fn find_link(&mut self, name: &str) {
        self.request(kinds::GET_LINK, 0, |w| {
            w.raw(&link_header(0, 0, 0));
            w.text(link::NAME, name);
        });
    }

    /// Asks for all addresses of both families.
    pub fn list_addresses(&mut self) {
        self.request(kinds::GET_ADDRESS, flags::DUMP, |w| w.raw(&[0; ADDRESS_HEADER_LEN]));
    }

    fn request(&mut self, kind: u16, flags: u16, fill: impl FnOnce(&mut Writer)) {
        self.count += 1;
        message::write(&mut self.writer, kind, flags, self.count, fill);
    }
}

/// Put an object in the place of one that exists (`NLM_F_REPLACE`).
const REPLACE: u16 = 0x100;

fn link_header(index: u32, on: u32, changed: u32) -> [u8; LINK_HEADER_LEN] {
    let mut header = [0; LINK_HEADER_LEN];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&on.to_ne_bytes());
    header[12..16].copy_from_slice(&changed.to_ne_bytes());
    header
}

fn write_link(w: &mut Writer, end: &LinkEnd) {
    w.raw(&link_header(end.index.unwrap_or(0), 0, 0));
    w.text(link::NAME, &end.name);
    if let Some(mac) = end.mac {
        w.bytes_attr(link::ADDRESS, &mac);
    }
}

fn write_address(w: &mut Writer, index: u32, ip: IpAddr, prefix_len: u8) {
    let mut header = [family(ip), prefix_len, address::NO_DUPLICATE_DETECTION, 0, 0, 0, 0, 0];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    w.raw(&header);
    write_ip(w, address::LOCAL, ip);
    write_ip(w, address::ADDRESS, ip);
}

fn write_route(w: &mut Writer, ip: IpAddr, prefix_len: u8, via: Via, protocol: u8) {
    const MAIN: u8 = 254;
    const SCOPES: [u8; 3] = [0, 253, 254]; // universe, link, host
    let (table, scope, kind) = match via {
        Via::Gateway(..) => (MAIN, SCOPES[0], 1),
        Via::Link(_) => (MAIN, SCOPES[1], 1),
        Via::Local(_) => (LOCAL_TABLE, SCOPES[2], LOCAL),
        Via::Blackhole => (MAIN, SCOPES[0], 6),
    };
    w.raw(&[family(ip), prefix_len, 0, 0, table, protocol, scope, kind, 0, 0, 0, 0]);
    if prefix_len > 0 {
        write_ip(w, routing::DESTINATION, ip);
    }
    match via {
        Via::Gateway(gateway, index) => {
            write_ip(w, routing::GATEWAY, gateway);
            w.u32(routing::LINK, index);
        }
        Via::Link(index) | Via::Local(index) => w.u32(routing::LINK, index),
        Via::Blackhole => (),
    }
}

/// The length of a prefix that is one address.
fn host_len(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn write_ip(w: &mut Writer, kind: u16, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => w.bytes_attr(kind, &ip.octets()),
        IpAddr::V6(ip) => w.bytes_attr(kind, &ip.octets()),
    }
}

/// `AF_INET` and `AF_INET6`, which are the same on every architecture of Linux.
fn family(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(_) => 2,
        IpAddr::V6(_) => 10,
    }
}

/// A link as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is to be up (`IFF_UP`).
    pub up: bool,
    /// Whether packets go out of it (`IF_OPER_UP`): both ends are up, and the kernel has
    /// acted upon it.
    pub operational: bool,
}

/// The links in the answer to [`RouteWriter::list_links`] or [`RouteWriter::find_link`].
pub fn links(answer: &[u8]) -> impl Iterator<Item = Link> + '_ {
    let only = |m: &message::Message<'_>| m.kind == kinds::NEW_LINK;
    Messages::new(answer).filter(only).filter_map(|m| {
        const UP_AND_RUNNING: u8 = 6;
        let number = |at| Some(u32::from_ne_bytes(*m.payload.get(at..)?.first_chunk()?));
        let (index, on) = (number(4)?, number(8)?);
        let attrs = m.attrs(LINK_HEADER_LEN);
        let name = attrs.clone().find(link::NAME)?.text()?.to_owned();
        let state = attrs.find(link::OPERATIONAL_STATE);
        let operational = state.is_some_and(|a| a.payload == [UP_AND_RUNNING]);
        Some(Link { index, name, up: on & UP != 0, operational })
    })
}

/// An address as the kernel lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The number of its link.
    pub link: u32,
    /// The address.
    pub ip: IpAddr,
    /// Length of its prefix in bits.
    pub prefix_len: u8,
}

/// The addresses in the answer to [`RouteWriter::list_addresses`].
pub fn addresses(answer: &[u8]) -> impl Iterator<Item = Address> + '_ {
    let only = |m: &message::Message<'_>| m.kind == kinds::NEW_ADDRESS;
    Messages::new(answer).filter(only).filter_map(|m| {
        let link = u32::from_ne_bytes(m.payload.get(4..8)?.try_into().ok()?);
        let prefix_len = *m.payload.get(1)?;
        let attrs = m.attrs(ADDRESS_HEADER_LEN);
        let ip = own_address(attrs)?;
        Some(Address { link, ip, prefix_len })
    })
}

/// On a point-to-point link `IFA_ADDRESS` is the other end's, and `IFA_LOCAL` is ours.
fn own_address(attrs: Attrs<'_>) -> Option<IpAddr> {
    let found = attrs.clone().find(address::LOCAL).or_else(|| attrs.find(address::ADDRESS))?;
    read_ip(found.payload)
}

/// The addresses that routes of `protocol` make this host's own, in the answer to
/// [`RouteWriter::list_routes`].
pub fn owned(answer: &[u8], protocol: u8) -> impl Iterator<Item = IpAddr> + '_ {
    let only = |m: &message::Message<'_>| m.kind == kinds::NEW_ROUTE;
    Messages::new(answer).filter(only).filter_map(move |m| {
        let [_, prefix_len, _, _, table, found, _, kind] = *m.payload.first_chunk()?;
        let ip = read_ip(m.attrs(ROUTE_HEADER_LEN).find(routing::DESTINATION)?.payload)?;
        let is_meant = (table, found, kind) == (LOCAL_TABLE, protocol, LOCAL);
        (is_meant && prefix_len == host_len(ip)).then_some(ip)
    })
}

fn read_ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Some(octets.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn bytes(fill: impl FnOnce(&mut RouteWriter)) -> Vec<u8> {
        let mut writer = RouteWriter::new();
        fill(&mut writer);
        writer.into_bytes()
    }

    /// What `ip route add 10.0.0.0/8 via 192.0.2.1 dev 3` sends, but for the static origin
    /// and the replacing.
    #[cfg(target_endian = "little")]
    #[test]
    fn a_route_through_a_gateway() {
        let via = Via::Gateway(Ipv4Addr::new(192, 0, 2, 1).into(), 3);
        let written = bytes(|w| w.route(Ipv4Addr::new(10, 0, 0, 0).into(), 8, via));
        #[rustfmt::skip]
        let expected = [
            52, 0, 0, 0,  24, 0,  1, 5,  1, 0, 0, 0,  0, 0, 0, 0,
            2, 8, 0, 0,  254, 4, 0, 1,  0, 0, 0, 0,
            8, 0, 1, 0,  10, 0, 0, 0,
            8, 0, 5, 0,  192, 0, 2, 1,
            8, 0, 4, 0,  3, 0, 0, 0,
        ];
        assert_eq!(written, expected);
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn the_far_end_of_a_veth_is_nested_with_its_namespace() {
        let end = |index, name: &str| LinkEnd { index: Some(index), name: name.into(), mac: None };
        let written = bytes(|w| w.veth(&end(2, "a"), &end(3, "b"), Some(9)));
        #[rustfmt::skip]
        let expected = [
            96, 0, 0, 0,  16, 0,  1, 6,  1, 0, 0, 0,  0, 0, 0, 0,
            0, 0, 0, 0,  2, 0, 0, 0,  0, 0, 0, 0,  0, 0, 0, 0,
            6, 0, 3, 0,  b'a', 0, 0, 0,
            56, 0, 18, 0x80,
                9, 0, 1, 0,  b'v', b'e', b't', b'h', 0, 0, 0, 0,
                40, 0, 2, 0x80,
                    36, 0, 1, 0x80,
                        0, 0, 0, 0,  3, 0, 0, 0,  0, 0, 0, 0,  0, 0, 0, 0,
                        6, 0, 3, 0,  b'b', 0, 0, 0,
                        8, 0, 28, 0,  9, 0, 0, 0,
        ];
        assert_eq!(written, expected);
    }

    /// What `ip link set dev 16 master 8` sends, by number.
    #[cfg(target_endian = "little")]
    #[test]
    fn a_port_names_its_bridge() {
        #[rustfmt::skip]
        let expected = [
            40, 0, 0, 0,  16, 0,  1, 0,  1, 0, 0, 0,  0, 0, 0, 0,
            0, 0, 0, 0,  16, 0, 0, 0,  0, 0, 0, 0,  0, 0, 0, 0,
            8, 0, 10, 0,  8, 0, 0, 0,
        ];
        assert_eq!(bytes(|w| w.port(16, 8)), expected);
    }

    #[test]
    fn addresses_and_links_are_read_back() {
        let ip = Ipv4Addr::new(192, 0, 2, 7).into();
        let written = bytes(|w| {
            w.address(5, ip, 24);
            w.dummy(&LinkEnd { index: Some(6), name: "nfc0".into(), mac: Some([2; 6]) });
        });
        let address = Address { link: 5, ip, prefix_len: 24 };
        assert_eq!(addresses(&written).collect::<Vec<_>>(), [address]);
        let link = Link { index: 6, name: "nfc0".into(), up: false, operational: false };
        assert_eq!(links(&written).collect::<Vec<_>>(), [link]);
    }

    #[test]
    fn own_addresses_are_read_back() {
        let ips: [IpAddr; 2] = [[10, 96, 0, 1].into(), [0xfd00, 0, 0, 0, 0, 0, 0, 1].into()];
        let written = bytes(|w| {
            ips.iter().for_each(|ip| w.own(*ip, 110));
            w.own([10, 96, 0, 2].into(), 4);
            w.route([10, 96, 0, 3].into(), 32, Via::Local(1));
            w.disown([10, 96, 0, 4].into(), 110);
        });
        assert_eq!(owned(&written, 110).collect::<Vec<_>>(), ips);
    }

    /// What `ip route replace local 10.96.0.1 dev lo table local proto 110` sends.
    #[cfg(target_endian = "little")]
    #[test]
    fn an_own_address_is_a_local_route_to_loopback() {
        let written = bytes(|w| w.own(Ipv4Addr::new(10, 96, 0, 1).into(), 110));
        #[rustfmt::skip]
        let expected = [
            44, 0, 0, 0,  24, 0,  1, 5,  1, 0, 0, 0,  0, 0, 0, 0,
            2, 32, 0, 0,  255, 110, 254, 2,  0, 0, 0, 0,
            8, 0, 1, 0,  10, 96, 0, 1,
            8, 0, 4, 0,  1, 0, 0, 0,
        ];
        assert_eq!(written, expected);
    }

    #[test]
    fn sequence_numbers_count_the_requests() {
        let written = bytes(|w| (1..4).for_each(|index| w.up(index)));
        let sequences: Vec<_> = Messages::new(&written).map(|m| m.sequence).collect();
        assert_eq!(sequences, [1, 2, 3]);
    }
}
