//! What nfc, or kube-proxy under the same names, left in the kernel: the questions that
//! find it, and their answers read.
//!
//! `/proc/net/ip_vs` lists virtual servers with their real servers and how many connections
//! each has. Generic netlink would list the real servers of one virtual server at a time
//! (`ip_vs_genl_dump_dests`), which questions that are asked together cannot; but it says of
//! virtual servers what the file does not: flags of schedulers, and timeouts in seconds.
//!
//! A virtual server is nfc's when its address is routed to the node under nfc's protocol, or
//! is on kube-proxy's dummy link, or when the companion table lists it; the latter is how
//! node ports are told from the virtual servers of others.
//!
//! Invariant: reads without panicking whatever it is given; a line that makes no sense is
//! passed over.

use crate::names::{self, chains, sets};
use crate::program::{Program, ServerKey};
use crate::wire::{self, Settings};
use crate::{companion, lower};
use nfc_backend::{Answer, Process, Question};
use nfc_ir::{Family, Protocol};
use nfc_netlink::route::{self, RouteWriter};
use nfc_ruleset::Set;
use nfc_ruleset::observe::{self, Found};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// What is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Observed {
    /// All virtual servers of the family, whoever they belong to.
    pub(crate) servers: BTreeMap<ServerKey, Reals>,
    /// What the kernel knows of them beside their real servers.
    pub(crate) settings: BTreeMap<ServerKey, Settings>,
    /// The companion table.
    pub(crate) companion: observe::Observed,
    /// The virtual servers that the companion table lists.
    pub(crate) recorded: BTreeSet<ServerKey>,
    /// The addresses of both families that routes of nfc make the node's own.
    pub(crate) routed: BTreeSet<IpAddr>,
    /// The number of kube-proxy's dummy link.
    pub(crate) link: Option<u32>,
    /// The addresses of that link, of both families.
    pub(crate) on_link: BTreeSet<IpAddr>,
    /// Those of the wanted sysctls that are as they should be.
    pub(crate) sysctls: BTreeMap<&'static str, &'static str>,
}

/// The real servers of a virtual server.
pub(crate) type Reals = BTreeMap<SocketAddr, Real>;

/// A real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Real {
    /// Its weight; `None` when it is not reached by rewriting addresses.
    pub(crate) weight: Option<u32>,
    /// How many connections it has, those included that are about to be forgotten
    /// (`activeconns` and `inactconns` of `struct ip_vs_dest`). Clients that merely stick to it
    /// are not counted.
    pub(crate) connections: u64,
}

impl Real {
    /// Whether connections would break if it went.
    pub(crate) fn is_in_use(&self) -> bool {
        self.weight.is_some() && self.connections > 0
    }
}

/// What has to be read, in the order that [`read`] expects.
pub(crate) fn questions(family: Family) -> Vec<Question> {
    let servers = ["LC_ALL=C", "cat", "/proc/net/ip_vs"].map(str::to_owned);
    let servers = Process { program: "env", args: servers.into(), stdin: String::new() };
    let dumps: [fn(&mut RouteWriter); 3] =
        [RouteWriter::list_links, RouteWriter::list_addresses, RouteWriter::list_routes];
    let mut questions = vec![
        Question::Process(servers),
        Question::Genetlink { family: names::FAMILY, message: wire::list_servers() },
        observe::question(family, names::TABLE, chains::ALL, sets::ALL),
    ];
    questions.extend(dumps.map(|list| {
        let mut writer = RouteWriter::new();
        list(&mut writer);
        Question::Route(writer.into_bytes())
    }));
    let sysctls = lower::sysctls(family).into_keys();
    questions.extend(sysctls.map(|name| Question::Sysctl { name: name.to_owned() }));
    questions
}

/// Reads the answers to [`questions`] with the wanted program at hand. Answers that are
/// missing say that nothing is there.
pub(crate) fn read(answers: &[Answer], wanted: &Program) -> Observed {
    let family = wanted.family;
    let bytes = |i: usize| answers.get(i).map_or(&[][..], |answer| &answer.0);
    let link = route::links(bytes(3)).find(|l| l.name == names::LINK).map(|l| l.index);
    let on_link = route::addresses(bytes(4)).filter(|a| Some(a.link) == link);
    let sysctls = (6..).zip(&wanted.sysctls);
    let is_set = |(i, (_, value)): &(usize, (&&str, &&str))| bytes(*i) == value.as_bytes();
    let record = companion::record(family);
    let table = wanted.companion.as_ref().unwrap_or(&record);
    let companion = observe::read(bytes(2), table);
    let recorded = match &companion.found {
        Found::Nothing => BTreeSet::new(),
        Found::Table(table) => {
            table.sets.get(sets::VIRTUAL_SERVERS).map_or_else(BTreeSet::new, keys)
        }
        Found::Strange => {
            let set = observe::set(bytes(2), table, sets::VIRTUAL_SERVERS);
            set.as_ref().map_or_else(BTreeSet::new, keys)
        }
    };
    Observed {
        servers: read_servers(family, &String::from_utf8_lossy(bytes(0))),
        settings: wire::servers(bytes(1)).filter(|(key, _)| key.family() == family).collect(),
        companion,
        recorded,
        routed: route::owned(bytes(5), names::ROUTE_PROTOCOL).collect(),
        link,
        on_link: on_link.map(|a| a.ip).collect(),
        sysctls: sysctls.filter(is_set).map(|(_, (name, value))| (*name, *value)).collect(),
    }
}

/// The virtual servers that are the elements of a set.
fn keys(set: &Set) -> BTreeSet<ServerKey> {
    set.elements.iter().filter_map(|row| companion::read_key(&row)).collect()
}

/// Reads `/proc/net/ip_vs` (`ip_vs_info_seq_show`, `net/netfilter/ipvs/ip_vs_ctl.c`).
fn read_servers(family: Family, text: &str) -> BTreeMap<ServerKey, Reals> {
    let mut servers: BTreeMap<ServerKey, Reals> = BTreeMap::new();
    let mut current: Option<&mut Reals> = None;
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(first), Some(address)) = (words.next(), words.next()) else { continue };
        if first != "->" {
            let key = read_key(first, address).filter(|key| key.family() == family);
            current = key.map(|key| servers.entry(key).or_default());
        } else if let (Some(reals), Some(real)) = (&mut current, read_address(address)) {
            reals.extend(read_real(words).map(|found| (real, found)));
        }
    }
    servers
}

/// How a real server is reached, its weight, its active and its inactive connections.
fn read_real<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<Real> {
    let method = words.next()?;
    let weight = words.next()?.parse().ok().filter(|_| method == "Masq");
    let connections = words.map(|word| word.parse().unwrap_or(0_u64));
    Some(Real { weight, connections: connections.fold(0, u64::saturating_add) })
}

fn read_key(protocol: &str, address: &str) -> Option<ServerKey> {
    Some(ServerKey { address: read_address(address)?, protocol: read_protocol(protocol)? })
}

fn read_protocol(name: &str) -> Option<Protocol> {
    Protocol::ALL.into_iter().find(|p| p.name().eq_ignore_ascii_case(name))
}

/// `0A000001:0050`, or `[fd00:...]:0050`: ports are hexadecimal, and so are addresses of
/// IPv4.
fn read_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let ip = match ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')) {
        Some(ip) => ip.parse().ok()?,
        None => IpAddr::V4(Ipv4Addr::from(u32::from_str_radix(ip, 16).ok()?)),
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(protocol: Protocol, address: &str) -> ServerKey {
        ServerKey { address: address.parse().expect("an address"), protocol }
    }

    fn real(address: &str, weight: Option<u32>, connections: u64) -> (SocketAddr, Real) {
        (address.parse().expect("an address"), Real { weight, connections })
    }

    const LISTING: &str = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A600001:01BB rr persistent 1080000 FFFFFFFF
  -> C0A80002:192B      Masq    1      3          0         
  -> C0A80003:192B      Masq    0      0          1         
FWM  00000007 rr
  -> 0A000009:0000      Route   1      0          0         
UDP  [fd00:0000:0000:0000:0000:0000:0000:000a]:0035 wrr 
  -> [fd00:0000:0000:0000:0000:0000:0000:0001]:14E9      Masq    3      0          0         
SCTP 0A600001:01BC rr 
  -> C0A80002:192B      Route   1      0          0         
";

    #[test]
    fn virtual_servers_are_read_with_their_real_servers() {
        let tcp = [real("192.168.0.2:6443", Some(1), 3), real("192.168.0.3:6443", Some(0), 1)];
        let sctp = [real("192.168.0.2:6443", None, 0)];
        let v4 = BTreeMap::from([
            (key(Protocol::Tcp, "10.96.0.1:443"), BTreeMap::from(tcp)),
            (key(Protocol::Sctp, "10.96.0.1:444"), BTreeMap::from(sctp)),
        ]);
        assert_eq!(read_servers(Family::Ipv4, LISTING), v4);
        let udp = BTreeMap::from([real("[fd00::1]:5353", Some(3), 0)]);
        let v6 = BTreeMap::from([(key(Protocol::Udp, "[fd00::a]:53"), udp)]);
        assert_eq!(read_servers(Family::Ipv6, LISTING), v6);
    }

    #[test]
    fn nonsense_is_nothing() {
        for text in ["", "->", "TCP", "TCP x:y rr", "TCP 0A000001 rr\n -> 1:2", "UDP []:0 rr", ":"]
        {
            assert!(read_servers(Family::Ipv4, text).is_empty(), "{text}");
        }
        let nonsense = |i: u8| Answer([vec![0xff; 40], vec![0; 9], vec![i; 99]].concat());
        let wanted = Program::empty(Family::Ipv4);
        let nonsense: Vec<_> = (0..20).map(nonsense).collect();
        assert_eq!(read(&nonsense, &wanted), read(&[], &wanted));
    }
}
