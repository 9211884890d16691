//! The packet that is asked about, as a person types it or as a failing test prints it.
//!
//! Invariant: words to values; where a packet enters is decided by the node's settings.

use nfc_ir::{Ingress, LocalDetector, Node, Packet, Protocol};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// The port that a packet comes from when none is named.
const SOURCE_PORT: u16 = 40_000;

/// The interface of a packet that comes from outside, and another for nodes whose pods hang on
/// such.
const INTERFACES: [&str; 2] = ["eth0", "wan0"];

/// A packet as it was asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Source address and port.
    pub source: SocketAddr,
    /// Destination address and port.
    pub destination: SocketAddr,
    /// Where it enters, when that was said.
    pub origin: Option<Origin>,
}

/// Where a packet comes from, in a person's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A process of the node itself.
    Node,
    /// A pod of the node.
    Pod,
    /// Another machine.
    Outside,
    /// Whatever is behind this interface.
    Interface(String),
}

/// Why there is no packet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// The words are not those of a packet.
    #[error(
        "`{0}` is no packet; write one in quotes, since the shell takes a bare `>` for itself: \
         'tcp 10.244.1.5 > 10.96.0.10:80'"
    )]
    NoPacket(String),
    /// A Service has no port of this protocol.
    #[error("`{0}` is no protocol that Services have ports of; those are tcp, udp and sctp")]
    NoProtocol(String),
    /// What stands before `>` is no address.
    #[error(
        "`{0}` is no source; write an address as 10.244.1.5 or fd00::1, or with its port as \
         10.244.1.5:40000 or [fd00::1]:40000"
    )]
    NoSource(String),
    /// What stands behind `>` is no address with a port.
    #[error(
        "`{0}` is no destination; write an address and a port from 0 to 65535, as 10.96.0.10:80 or \
         [fd00::1]:80"
    )]
    NoDestination(String),
    /// What stands at the end is no way in.
    #[error(
        "`{0}` is no way in; write `in` and an interface, or `from node`, `from pod` or \
         `from outside`"
    )]
    NoOrigin(String),
    /// One address is IPv4, the other IPv6.
    #[error("{source_ip} and {destination_ip} are of two families; a packet has one")]
    TwoFamilies {
        /// The source address.
        source_ip: IpAddr,
        /// The destination address.
        destination_ip: IpAddr,
    },
    /// Pods are told by their interface, and none was named.
    #[error(
        "the node tells its pods by their interface ({how}), so the packet's way in has to be \
         said: add --from pod, --from outside, --from node or --in-interface"
    )]
    OriginNeeded {
        /// The setting.
        how: String,
    },
    /// It was said to come from a pod, but its address is not one of the node's pods.
    #[error("{address} is not in {block}, the block of this node's pods, so it is no pod's")]
    NoPod {
        /// The source address.
        address: IpAddr,
        /// The block.
        block: String,
    },
}

impl FromStr for Asked {
    type Err = PacketError;

    /// `tcp 10.244.1.5 > 10.96.0.10:80`, where the source may have a port, and `in eth0` or
    /// `from node`, `from pod`, `from outside` may follow.
    fn from_str(text: &str) -> Result<Self, PacketError> {
        let asked = parse(text)?;
        let (source_ip, destination_ip) = (asked.source.ip(), asked.destination.ip());
        if source_ip.is_ipv4() != destination_ip.is_ipv4() {
            return Err(PacketError::TwoFamilies { source_ip, destination_ip });
        }
        Ok(asked)
    }
}

fn parse(text: &str) -> Result<Asked, PacketError> {
    let no_packet = || PacketError::NoPacket(text.to_owned());
    let (left, right) = text.split_once('>').ok_or_else(no_packet)?;
    let left: Vec<_> = left.split_whitespace().collect();
    let right: Vec<_> = right.split_whitespace().collect();
    let ([protocol, source], [destination, origin @ ..]) = (left.as_slice(), right.as_slice())
    else {
        return Err(no_packet());
    };
    let lower = protocol.to_lowercase();
    let protocol = Protocol::ALL.into_iter().find(|p| p.name() == lower);
    let (source_address, destination_address) = (source_address(source), destination.parse());
    Ok(Asked {
        protocol: protocol.ok_or(PacketError::NoProtocol(lower))?,
        source: source_address.ok_or_else(|| PacketError::NoSource((*source).to_owned()))?,
        destination: destination_address
            .map_err(|_| PacketError::NoDestination((*destination).to_owned()))?,
        origin: way_in(origin)?,
    })
}

fn way_in(words: &[&str]) -> Result<Option<Origin>, PacketError> {
    Ok(Some(match words {
        [] => return Ok(None),
        ["in", name] => Origin::Interface((*name).to_owned()),
        ["from", "node"] | ["from", "the", "node"] => Origin::Node,
        ["from", "pod"] => Origin::Pod,
        ["from", "outside"] => Origin::Outside,
        _ => return Err(PacketError::NoOrigin(words.join(" "))),
    }))
}

/// An address with or without a port; brackets around IPv6 where there is one.
fn source_address(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let alone = bare.parse().ok().map(|ip| SocketAddr::new(ip, SOURCE_PORT));
    alone.or_else(|| text.parse().ok())
}

impl Asked {
    /// The packet, on `node`.
    ///
    /// # Errors
    ///
    /// [`PacketError`] when the node's settings leave open where the packet enters, or
    /// contradict what was said.
    pub fn on(&self, node: &Node) -> Result<Packet, PacketError> {
        let &Self { protocol, source, destination, .. } = self;
        let ingress = self.ingress(node)?;
        Ok(Packet { protocol, source, destination, ingress })
    }

    fn ingress(&self, node: &Node) -> Result<Ingress, PacketError> {
        let interface = |name: &str| Ok(Ingress::Interface(name.to_owned()));
        let outside = |is_of_pods: &dyn Fn(&str) -> bool| {
            let [first, second] = INTERFACES;
            interface(if is_of_pods(first) { second } else { first })
        };
        let address = self.source.ip();
        match (&self.origin, &node.local_detector) {
            (Some(Origin::Interface(name)), _) => interface(name),
            (Some(Origin::Node), _) => Ok(Ingress::Local),
            (None, _) if node.owns(address) => Ok(Ingress::Local),
            (Some(Origin::Pod), LocalDetector::Bridge(name)) => interface(name),
            (Some(Origin::Pod), LocalDetector::InterfacePrefix(prefix)) => {
                interface(&format!("{prefix}0"))
            }
            (Some(Origin::Pod), LocalDetector::SourceBlock(block)) if !block.contains(&address) => {
                Err(PacketError::NoPod { address, block: block.to_string() })
            }
            (None, LocalDetector::Bridge(name)) => {
                Err(PacketError::OriginNeeded { how: format!("bridge {name}") })
            }
            (None, LocalDetector::InterfacePrefix(prefix)) => {
                Err(PacketError::OriginNeeded { how: format!("names that begin with {prefix}") })
            }
            (_, LocalDetector::InterfacePrefix(prefix)) => {
                outside(&|name| name.starts_with(prefix))
            }
            (_, LocalDetector::Bridge(bridge)) => outside(&|name| name == bridge),
            _ => outside(&|_| false),
        }
    }
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test panics to keep its backtrace")]
mod tests {
    use super::*;

    #[test]
    fn packets_are_read_in_every_spelling() {
        for (text, source, origin) in [
            ("tcp 10.0.0.1 > 10.0.0.2:80", "10.0.0.1:40000", None),
            ("UDP 10.0.0.1:53>10.0.0.2:80 in cni0", "10.0.0.1:53", Some("cni0")),
            ("sctp fd00::1 > [fd00::2]:80", "[fd00::1]:40000", None),
            ("sctp [fd00::1] > [fd00::2]:80", "[fd00::1]:40000", None),
            ("sctp [fd00::1]:9 > [fd00::2]:80", "[fd00::1]:9", None),
        ] {
            let asked: Asked = text.parse().expect(text);
            assert_eq!(asked.source.to_string(), source);
            assert_eq!(asked.origin, origin.map(|name| Origin::Interface(name.to_owned())));
        }
        for (text, error) in [
            ("", PacketError::NoPacket(String::new())),
            ("tcp 10.0.0.1 >", PacketError::NoPacket("tcp 10.0.0.1 >".to_owned())),
            ("tcp 10.0.0.1 > 10.0.0.2", PacketError::NoDestination("10.0.0.2".to_owned())),
            ("tcp 10.0.0.1 > web:80", PacketError::NoDestination("web:80".to_owned())),
            (
                "tcp 10.0.0.1 > 10.0.0.2:65536",
                PacketError::NoDestination("10.0.0.2:65536".to_owned()),
            ),
            ("icmp 10.0.0.1 > 10.0.0.2:80", PacketError::NoProtocol("icmp".to_owned())),
            ("tcp a > 10.0.0.2:80", PacketError::NoSource("a".to_owned())),
            ("tcp 10.0.0.1 > 10.0.0.2:80 in", PacketError::NoOrigin("in".to_owned())),
            ("tcp 10.0.0.1 > 10.0.0.2:80 from mars", PacketError::NoOrigin("from mars".to_owned())),
        ] {
            assert_eq!(text.parse::<Asked>(), Err(error));
        }
        let mixed = "tcp 10.0.0.1 > [fd00::1]:80".parse::<Asked>();
        assert!(matches!(mixed, Err(PacketError::TwoFamilies { .. })));
    }

    /// What a test prints can be pasted.
    #[test]
    fn a_printed_packet_reads_back() {
        for ingress in [Ingress::Local, Ingress::Interface("cbr0".to_owned())] {
            let packet = Packet {
                protocol: Protocol::Udp,
                source: "10.0.0.1:53".parse().expect("an address"),
                destination: "10.0.0.2:80".parse().expect("an address"),
                ingress,
            };
            let asked: Asked = packet.to_string().parse().expect("a packet");
            assert_eq!(asked.on(&Node::default()), Ok(packet));
        }
    }

    #[test]
    fn where_a_packet_enters_is_told_by_the_node_or_asked_for() {
        let asked = |text: &str| text.parse::<Asked>().expect(text);
        let mut node = Node { addresses: vec![[192, 168, 0, 2].into()], ..Node::default() };
        let packet = asked("tcp 192.168.0.2 > 10.0.0.2:80").on(&node);
        assert_eq!(packet.map(|p| p.ingress), Ok(Ingress::Local));
        node.local_detector = LocalDetector::InterfacePrefix("veth".to_owned());
        let open = asked("tcp 10.0.0.1 > 10.0.0.2:80").on(&node);
        assert!(matches!(open, Err(PacketError::OriginNeeded { .. })));
        let pod = asked("tcp 10.0.0.1 > 10.0.0.2:80 from pod").on(&node);
        assert_eq!(pod.map(|p| p.ingress), Ok(Ingress::Interface("veth0".to_owned())));
        node.local_detector = LocalDetector::InterfacePrefix("eth".to_owned());
        let stranger = asked("tcp 10.0.0.1 > 10.0.0.2:80 from outside").on(&node);
        assert_eq!(stranger.map(|p| p.ingress), Ok(Ingress::Interface("wan0".to_owned())));
        let block = "10.1.0.0/16".parse().expect("a block");
        node.local_detector = LocalDetector::SourceBlock(block);
        let stranger = asked("tcp 10.0.0.1 > 10.0.0.2:80 from pod").on(&node);
        assert!(matches!(stranger, Err(PacketError::NoPod { .. })));
    }
}
