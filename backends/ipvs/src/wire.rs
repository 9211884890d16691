//! Generic netlink messages of IPVS, byte for byte.
//!
//! Integers are in host order but for ports, which are in network order; an address takes
//! 16 bytes whatever its family (`include/uapi/linux/ip_vs.h`).
//!
//! Invariant: one message from one order, and back; knows no order of messages.

use crate::diff::{Change, Command};
use crate::program::{ServerKey, VirtualServer};
use nfc_ir::{Family, IpvsScheduler, Protocol};
use nfc_netlink::attr::{Attrs, Writer};
use nfc_netlink::genl::GenlMessage;
use nfc_netlink::message::{Messages, flags};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZero;

/// Commands (`IPVS_CMD_*`, `include/uapi/linux/ip_vs.h`, like all numbers here).
mod commands {
    pub(super) const NEW_SERVICE: u8 = 1;
    pub(super) const SET_SERVICE: u8 = 2;
    pub(super) const DEL_SERVICE: u8 = 3;
    pub(super) const GET_SERVICE: u8 = 4;
    pub(super) const NEW_DEST: u8 = 5;
    pub(super) const SET_DEST: u8 = 6;
    pub(super) const DEL_DEST: u8 = 7;
    pub(super) const SET_CONFIG: u8 = 12;
}

/// What a command is about (`IPVS_CMD_ATTR_*`).
mod attrs {
    pub(super) const SERVICE: u16 = 1;
    pub(super) const DEST: u16 = 2;
}

/// Attributes of a virtual server (`IPVS_SVC_ATTR_*`).
mod service {
    pub(super) const AF: u16 = 1;
    pub(super) const PROTOCOL: u16 = 2;
    pub(super) const ADDR: u16 = 3;
    pub(super) const PORT: u16 = 4;
    pub(super) const SCHED_NAME: u16 = 6;
    pub(super) const FLAGS: u16 = 7;
    pub(super) const TIMEOUT: u16 = 8;
    pub(super) const NETMASK: u16 = 9;
}

/// Attributes of a real server (`IPVS_DEST_ATTR_*`).
mod dest {
    pub(super) const ADDR: u16 = 1;
    pub(super) const PORT: u16 = 2;
    pub(super) const FWD_METHOD: u16 = 3;
    pub(super) const WEIGHT: u16 = 4;
    pub(super) const U_THRESH: u16 = 5;
    pub(super) const L_THRESH: u16 = 6;
    pub(super) const ADDR_FAMILY: u16 = 11;
}

/// `IPVS_GENL_VERSION`.
const VERSION: u8 = 1;

/// Forwarding by rewriting addresses (`IP_VS_CONN_F_MASQ`), the only way that reaches a pod
/// which knows nothing of virtual addresses.
const MASQUERADE: u32 = 0;

/// Set by the kernel in the flags of every virtual server (`IP_VS_SVC_F_HASHED`).
const HASHED: u32 = 0x2;

/// What the kernel knows of a virtual server beside its real servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    scheduler: IpvsScheduler,
    flags: u32,
    timeout_seconds: u32,
    netmask: u32,
}

impl Settings {
    /// What is said of `server`.
    pub(crate) fn of(family: Family, server: &VirtualServer) -> Self {
        Self {
            scheduler: server.scheduler,
            flags: server.flags(),
            timeout_seconds: server.persistence.map_or(0, NonZero::get),
            // Clients are told apart by the whole address: a mask for IPv4, a length for IPv6.
            netmask: match family {
                Family::Ipv4 => u32::MAX,
                Family::Ipv6 => 128,
            },
        }
    }

    fn write(self, w: &mut Writer) {
        w.text(service::SCHED_NAME, self.scheduler.name());
        // `struct ip_vs_flags`: the flags, and which of them are meant.
        let mut flags = [0; 8];
        flags[..4].copy_from_slice(&self.flags.to_ne_bytes());
        flags[4..].copy_from_slice(&u32::MAX.to_ne_bytes());
        w.bytes_attr(service::FLAGS, &flags);
        w.u32(service::TIMEOUT, self.timeout_seconds);
        w.u32(service::NETMASK, self.netmask);
    }
}

/// Asks for all virtual servers.
pub(crate) fn list_servers() -> GenlMessage {
    GenlMessage { flags: flags::DUMP, ..message(commands::GET_SERVICE, |_| ()) }
}

/// The virtual servers in the answer to [`list_servers`]. Those found by a mark are none of
/// ours, and neither are those of schedulers without a name that is known.
pub(crate) fn servers(answer: &[u8]) -> impl Iterator<Item = (ServerKey, Settings)> + '_ {
    let nests =
        Messages::new(answer).filter_map(|m| m.attrs(GenlMessage::HEADER_LEN).find(attrs::SERVICE));
    nests.filter_map(|nest| read_server(nest.nested()))
}

fn read_server(attrs: Attrs<'_>) -> Option<(ServerKey, Settings)> {
    let (mut family, mut protocol, mut ip, mut port) = (None, None, None, None);
    let (mut scheduler, mut flags, mut timeout, mut netmask) = (None, None, None, None);
    for attr in attrs {
        match attr.kind {
            service::AF => family = attr.u16(),
            service::PROTOCOL => protocol = attr.u16(),
            service::ADDR => ip = attr.payload.first_chunk::<16>(),
            service::PORT => port = attr.payload.first_chunk().map(|p| u16::from_be_bytes(*p)),
            service::SCHED_NAME => scheduler = attr.text()?.parse().ok(),
            service::FLAGS => flags = attr.payload.first_chunk().map(|f| u32::from_ne_bytes(*f)),
            service::TIMEOUT => timeout = attr.u32(),
            service::NETMASK => netmask = attr.u32(),
            _ => {}
        }
    }
    let (family, number) = (family?, protocol?);
    let family = Family::ALL.into_iter().find(|f| address_family(*f) == family)?;
    let protocol = Protocol::ALL.into_iter().find(|p| u16::from(p.number()) == number)?;
    let address = SocketAddr::new(read_ip(family, ip?), port?);
    let settings = Settings {
        scheduler: scheduler?,
        flags: flags? & !HASHED,
        timeout_seconds: timeout?,
        netmask: netmask?,
    };
    Some((ServerKey { address, protocol }, settings))
}

/// A command, and the virtual server it is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order<'a> {
    /// Where the virtual server answers.
    pub(crate) key: ServerKey,
    /// What happens to it.
    pub(crate) change: &'a Change,
    /// What is said for that.
    pub(crate) command: Command,
}

impl Order<'_> {
    /// The message that says it.
    pub(crate) fn message(&self) -> GenlMessage {
        let command = match self.command {
            Command::AddServer => commands::NEW_SERVICE,
            Command::SetServer => commands::SET_SERVICE,
            Command::DeleteServer => commands::DEL_SERVICE,
            Command::AddReal(..) => commands::NEW_DEST,
            Command::SetReal(..) | Command::DrainReal(_) => commands::SET_DEST,
            Command::DeleteReal(_) => commands::DEL_DEST,
        };
        message(command, |w| {
            w.nest(attrs::SERVICE, |w| self.write_server(w));
            match self.command {
                Command::AddReal(real, weight) | Command::SetReal(real, weight) => {
                    w.nest(attrs::DEST, |w| write_real(w, real, Some(weight.get())));
                }
                Command::DrainReal(real) => {
                    w.nest(attrs::DEST, |w| write_real(w, real, Some(0)));
                }
                Command::DeleteReal(real) => {
                    w.nest(attrs::DEST, |w| write_real(w, real, None));
                }
                Command::AddServer | Command::SetServer | Command::DeleteServer => (),
            }
        })
    }

    /// Where the virtual server answers, and when it is made or set all that it is:
    /// the kernel then wants every attribute (`ip_vs_genl_parse_service`).
    fn write_server(&self, w: &mut Writer) {
        w.u16(service::AF, address_family(self.key.family()));
        w.u16(service::PROTOCOL, self.key.protocol.number().into());
        w.bytes_attr(service::ADDR, &address_bytes(self.key.address.ip()));
        w.be16(service::PORT, self.key.address.port());
        if let (Command::AddServer | Command::SetServer, Some(server)) =
            (self.command, &self.change.after)
        {
            Settings::of(self.key.family(), server).write(w);
        }
    }
}

/// A real server; to find one, address and port are enough. No thresholds: it is never too
/// full.
fn write_real(w: &mut Writer, real: SocketAddr, weight: Option<u16>) {
    w.bytes_attr(dest::ADDR, &address_bytes(real.ip()));
    w.be16(dest::PORT, real.port());
    if let Some(weight) = weight {
        w.u32(dest::FWD_METHOD, MASQUERADE);
        w.u32(dest::WEIGHT, weight.into());
        w.u32(dest::U_THRESH, 0);
        w.u32(dest::L_THRESH, 0);
    }
    w.u16(dest::ADDR_FAMILY, address_family(Family::of(real.ip())));
}

/// A message that changes nothing: it sets timeouts, and names none.
pub(crate) fn hello() -> GenlMessage {
    message(commands::SET_CONFIG, |_| ())
}

fn message(command: u8, fill: impl FnOnce(&mut Writer)) -> GenlMessage {
    let mut writer = Writer::new();
    fill(&mut writer);
    GenlMessage { command, version: VERSION, flags: 0, attrs: writer.into_bytes() }
}

/// `AF_INET` or `AF_INET6`.
fn address_family(family: Family) -> u16 {
    match family {
        Family::Ipv4 => 2,
        Family::Ipv6 => 10,
    }
}

/// `union nf_inet_addr`, which has room for both families.
fn address_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(ip) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&ip.octets());
            bytes
        }
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// Reads what [`address_bytes`] wrote.
fn read_ip(family: Family, bytes: &[u8; 16]) -> IpAddr {
    let [a, b, c, d, ..] = *bytes;
    match family {
        Family::Ipv4 => IpAddr::from([a, b, c, d]),
        Family::Ipv6 => IpAddr::from(*bytes),
    }
}
