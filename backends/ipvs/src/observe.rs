//! What nfc, or kube-proxy under the same names, left in the kernel: the questions that
//! find it, and their answers read.
//!
//! `/proc/net/ip_vs` lists virtual servers with their real servers in one reading. Generic
//! netlink would list the real servers of one virtual server at a time
//! (`ip_vs_genl_dump_dests`), which questions that are asked together cannot.
//!
//! A virtual server is nfc's when its address is routed to the node under nfc's protocol, or
//! is on kube-proxy's dummy link, or when the companion table lists it; the latter is how
//! node ports are told from the virtual servers of others.
//!
//! Invariant: reads without panicking whatever it is given; a line that makes no sense is
//! passed over.

use crate::names::{self, sets};
use crate::program::ServerKey;
use nfc_backend::{Answer, Process, Question};
use nfc_ir::{Family, Protocol};
use nfc_netlink::route::{self, RouteWriter};
use nfc_ruleset::render::family_name;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// What is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Observed {
    /// All virtual servers of the family, whoever they belong to.
    pub(crate) servers: BTreeMap<ServerKey, Reals>,
    /// The virtual servers that the companion table lists.
    pub(crate) recorded: BTreeSet<ServerKey>,
    /// The addresses of both families that routes of nfc make the node's own.
    pub(crate) routed: BTreeSet<IpAddr>,
    /// The number of kube-proxy's dummy link.
    pub(crate) link: Option<u32>,
    /// The addresses of that link, of both families.
    pub(crate) on_link: BTreeSet<IpAddr>,
}

/// The real servers of a virtual server and their weights; `None` for one that is not
/// reached by rewriting addresses.
pub(crate) type Reals = BTreeMap<SocketAddr, Option<u32>>;

/// What has to be read, in the order that [`read`] expects.
pub(crate) fn questions(family: Family) -> Vec<Question> {
    let servers = ["LC_ALL=C", "cat", "/proc/net/ip_vs"];
    let recorded = ["list", "set", family_name(family), names::TABLE, sets::VIRTUAL_SERVERS];
    let mut links = RouteWriter::new();
    links.list_links();
    let mut addresses = RouteWriter::new();
    addresses.list_addresses();
    let mut routes = RouteWriter::new();
    routes.list_routes();
    vec![
        process("env", &servers),
        process("nft", &recorded),
        Question::Route(links.into_bytes()),
        Question::Route(addresses.into_bytes()),
        Question::Route(routes.into_bytes()),
    ]
}

fn process(program: &'static str, args: &[&str]) -> Question {
    let args = args.iter().map(|&arg| arg.to_owned()).collect();
    Question::Process(Process { program, args, stdin: String::new() })
}

/// Reads the answers to [`questions`]. Answers that are missing say that nothing is there.
pub(crate) fn read(family: Family, answers: &[Answer]) -> Observed {
    let bytes = |i: usize| answers.get(i).map_or(&[][..], |answer| &answer.0);
    let link = route::links(bytes(2)).find(|l| l.name == names::LINK).map(|l| l.index);
    let on_link = route::addresses(bytes(3)).filter(|a| Some(a.link) == link);
    Observed {
        servers: read_servers(family, &String::from_utf8_lossy(bytes(0))),
        recorded: read_record(&String::from_utf8_lossy(bytes(1))),
        routed: route::owned(bytes(4), names::ROUTE_PROTOCOL).collect(),
        link,
        on_link: on_link.map(|a| a.ip).collect(),
    }
}

/// Reads `/proc/net/ip_vs` (`ip_vs_info_seq_show`, `net/netfilter/ipvs/ip_vs_ctl.c`).
fn read_servers(family: Family, text: &str) -> BTreeMap<ServerKey, Reals> {
    let mut servers: BTreeMap<ServerKey, Reals> = BTreeMap::new();
    let mut current = None;
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["->", address, method, weight, ..] => {
                let reals = current.and_then(|key| servers.get_mut(&key));
                if let (Some(reals), Some(real)) = (reals, read_address(address)) {
                    reals.insert(real, weight.parse().ok().filter(|_| method == "Masq"));
                }
            }
            [protocol, address, ..] => {
                current = read_key(protocol, address).filter(|key| key.family() == family);
                if let Some(key) = current {
                    servers.insert(key, Reals::new());
                }
            }
            _ => (),
        }
    }
    servers
}

/// Reads what `nft list set` prints of the set of all virtual servers.
fn read_record(text: &str) -> BTreeSet<ServerKey> {
    let words: Vec<_> = text.split_whitespace().collect();
    let element = |window: &[&str]| match window {
        [address, ".", protocol, ".", port] => {
            let ip: IpAddr = address.parse().ok()?;
            let port = port.trim_end_matches(',').parse().ok()?;
            let protocol = read_protocol(protocol)?;
            Some(ServerKey { address: SocketAddr::new(ip, port), protocol })
        }
        _ => None,
    };
    words.windows(5).filter_map(element).collect()
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

    fn real(address: &str, weight: Option<u32>) -> (SocketAddr, Option<u32>) {
        (address.parse().expect("an address"), weight)
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
        let tcp = [real("192.168.0.2:6443", Some(1)), real("192.168.0.3:6443", Some(0))];
        let sctp = [real("192.168.0.2:6443", None)];
        let v4 = BTreeMap::from([
            (key(Protocol::Tcp, "10.96.0.1:443"), BTreeMap::from(tcp)),
            (key(Protocol::Sctp, "10.96.0.1:444"), BTreeMap::from(sctp)),
        ]);
        assert_eq!(read_servers(Family::Ipv4, LISTING), v4);
        let udp = BTreeMap::from([real("[fd00::1]:5353", Some(3))]);
        let v6 = BTreeMap::from([(key(Protocol::Udp, "[fd00::a]:53"), udp)]);
        assert_eq!(read_servers(Family::Ipv6, LISTING), v6);
    }

    #[test]
    fn the_record_in_the_companion_is_read() {
        let listing = "\
table ip nfc-ipvs {
	set virtual-servers {
		type ipv4_addr . inet_proto . inet_service
		size 64
		elements = { 10.0.0.2 . udp . 53,
			     10.0.0.1 . tcp . 80 comment \"a/b:c\",
			     10.0.0.1 . sctp . 81 comment \"x/y\" }
	}
}
";
        let expected = [
            key(Protocol::Tcp, "10.0.0.1:80"),
            key(Protocol::Sctp, "10.0.0.1:81"),
            key(Protocol::Udp, "10.0.0.2:53"),
        ];
        assert_eq!(read_record(listing), BTreeSet::from(expected));
    }

    #[test]
    fn nonsense_is_nothing() {
        for text in ["", "->", "TCP", "TCP x:y rr", "TCP 0A000001 rr\n -> 1:2", "UDP []:0 rr", ":"]
        {
            assert!(read_servers(Family::Ipv4, text).is_empty(), "{text}");
            assert!(read_record(text).is_empty(), "{text}");
        }
        let nothing = [Answer(vec![0xff; 40]), Answer(vec![0; 9]), Answer(vec![1; 99])];
        assert_eq!(read(Family::Ipv4, &nothing), Observed::default());
    }
}
