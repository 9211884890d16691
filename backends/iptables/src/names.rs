//! Names of tables and chains: kube-proxy's own, so that each can take over from the other.
//!
//! A per-service name is a prefix and the first 16 characters of a base32 hash, which keeps
//! it below the 28 characters that xtables allows (`XT_EXTENSION_MAXNAMELEN`,
//! `include/uapi/linux/netfilter/x_tables.h`).
//!
//! Invariant: knows which chains are ours and how they are spelled, not what is in them.

use nfc_ir::{Protocol, ServiceName};
use sha2::{Digest, Sha256};
use std::fmt;
use std::net::SocketAddr;

/// A table that has rules of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// What may pass.
    Filter,
    /// Where it goes.
    Nat,
}

impl Table {
    /// Both, in the order in which they are loaded.
    pub const ALL: [Self; 2] = [Self::Filter, Self::Nat];
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
        })
    }
}

/// A chain that the kernel calls by itself, at the hook of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BuiltIn {
    /// Packets just received.
    Prerouting,
    /// Packets for the node itself.
    Input,
    /// Packets on their way through.
    Forward,
    /// Packets that the node sends.
    Output,
    /// Packets about to leave.
    Postrouting,
}

impl BuiltIn {
    /// All of them, in the order in which a packet could meet them.
    pub const ALL: [Self; 5] =
        [Self::Prerouting, Self::Input, Self::Forward, Self::Output, Self::Postrouting];

    /// The chain of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|chain| chain.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Prerouting => "PREROUTING",
            Self::Input => "INPUT",
            Self::Forward => "FORWARD",
            Self::Output => "OUTPUT",
            Self::Postrouting => "POSTROUTING",
        }
    }
}

impl fmt::Display for BuiltIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The hashed part of a per-service name: 16 characters of base32.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hash([u8; Self::LEN]);

impl Hash {
    const LEN: usize = 16;

    /// How many bytes of the digest 16 characters of 5 bits hold.
    const DIGEST_LEN: usize = Self::LEN * 5 / 8;

    fn of(text: &str) -> Self {
        let digest = Sha256::digest(text);
        let mut name = [0; Self::LEN];
        data_encoding::BASE32.encode_mut(&digest[..Self::DIGEST_LEN], &mut name);
        Self(name)
    }

    /// The hash in the names of a Service's own chains.
    #[must_use]
    pub fn of_service(service: &ServiceName, protocol: Protocol) -> Self {
        Self::of(&format!("{service}{protocol}"))
    }

    /// The hash in the name of the chain of one endpoint.
    #[must_use]
    pub fn of_endpoint(service: &ServiceName, protocol: Protocol, address: SocketAddr) -> Self {
        Self::of(&format!("{service}{protocol}{address}"))
    }

    fn parse(text: &str) -> Option<Self> {
        let name = text.as_bytes().try_into().ok().map(Self)?;
        let is_base32 = |b: &u8| b.is_ascii_uppercase() || (b'2'..=b'7').contains(b);
        name.0.iter().all(is_base32).then_some(name)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Base32 is ASCII, so there is always text to be had.
        f.write_str(std::str::from_utf8(&self.0).unwrap_or_default())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A chain of ours. The order is that of kube-proxy's chain lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChainName {
    /// Where a packet meets the Services: picks by destination (nat), refuses (filter).
    Services,
    /// Refuses at addresses that can be reached from outside (filter).
    ExternalServices,
    /// Lets Service traffic through (filter).
    Forward,
    /// Node ports (nat), and health check node ports (filter).
    NodePorts,
    /// Masquerades what was marked (nat).
    Postrouting,
    /// Marks a packet for masquerading (nat).
    MarkMasq,
    /// Drops what the source ranges of a load balancer address did not admit (filter).
    ProxyFirewall,
    /// Drops strangers at loopback addresses (filter). kubelet keeps the same rule there.
    Firewall,
    /// Everything that reaches a Service at an outside address (nat).
    External(Hash),
    /// The source ranges of a Service's load balancer addresses (nat).
    SourceRanges(Hash),
    /// Spreads over the cluster endpoints of a Service (nat).
    Cluster(Hash),
    /// Spreads over the local endpoints of a Service (nat).
    Local(Hash),
    /// Sends to one endpoint (nat).
    Endpoint(Hash),
}

impl ChainName {
    /// The chains that are always the same.
    const FIXED: [Self; 8] = [
        Self::Services,
        Self::ExternalServices,
        Self::Forward,
        Self::NodePorts,
        Self::Postrouting,
        Self::MarkMasq,
        Self::ProxyFirewall,
        Self::Firewall,
    ];

    /// The chain of this name in `table`, if it is one of ours.
    #[must_use]
    pub fn parse(table: Table, name: &str) -> Option<Self> {
        let fixed = Self::FIXED.into_iter().find(|c| c.prefix() == name);
        fixed.or_else(|| Self::parse_hashed(name)).filter(|chain| chain.is_in(table))
    }

    fn parse_hashed(name: &str) -> Option<Self> {
        let cut = name.rfind('-')? + 1;
        let hash = Hash::parse(name.get(cut..)?)?;
        let hashed = [
            Self::External(hash),
            Self::SourceRanges(hash),
            Self::Cluster(hash),
            Self::Local(hash),
            Self::Endpoint(hash),
        ];
        hashed.into_iter().find(|c| c.prefix() == &name[..cut])
    }

    fn is_in(self, table: Table) -> bool {
        match self {
            Self::Services | Self::NodePorts => true,
            Self::ExternalServices | Self::Forward | Self::ProxyFirewall | Self::Firewall => {
                table == Table::Filter
            }
            _ => table == Table::Nat,
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Services => "KUBE-SERVICES",
            Self::ExternalServices => "KUBE-EXTERNAL-SERVICES",
            Self::Forward => "KUBE-FORWARD",
            Self::NodePorts => "KUBE-NODEPORTS",
            Self::Postrouting => "KUBE-POSTROUTING",
            Self::MarkMasq => "KUBE-MARK-MASQ",
            Self::ProxyFirewall => "KUBE-PROXY-FIREWALL",
            Self::Firewall => "KUBE-FIREWALL",
            Self::External(_) => "KUBE-EXT-",
            Self::SourceRanges(_) => "KUBE-FW-",
            Self::Cluster(_) => "KUBE-SVC-",
            Self::Local(_) => "KUBE-SVL-",
            Self::Endpoint(_) => "KUBE-SEP-",
        }
    }

    fn hash(&self) -> Option<&Hash> {
        match self {
            Self::External(hash)
            | Self::SourceRanges(hash)
            | Self::Cluster(hash)
            | Self::Local(hash)
            | Self::Endpoint(hash) => Some(hash),
            _ => None,
        }
    }
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.prefix())?;
        self.hash().map_or(Ok(()), |hash| fmt::Display::fmt(hash, f))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(namespace: &str, name: &str, port: &str) -> ServiceName {
        let (namespace, name, port) = (namespace.into(), name.into(), port.into());
        ServiceName { namespace, name, port }
    }

    /// Names seen on nodes that run kube-proxy.
    #[test]
    fn names_are_those_of_kube_proxy() {
        let nginx = service("default", "nginx", "");
        let dns = service("kube-system", "kube-dns", "dns");
        let seen = [
            (&nginx, Protocol::Tcp, "KUBE-SVC-2CMXP7HKUVJN7L6M"),
            (&dns, Protocol::Udp, "KUBE-SVC-TCOU7JCQXEZGVUNU"),
        ];
        for (name, protocol, chain) in seen {
            let own = ChainName::Cluster(Hash::of_service(name, protocol));
            assert_eq!(own.to_string(), chain);
        }
        let address = "10.64.2.4:80".parse().unwrap();
        let endpoint = ChainName::Endpoint(Hash::of_endpoint(&nginx, Protocol::Tcp, address));
        assert_eq!(endpoint.to_string(), "KUBE-SEP-YVT6EXXEKT4LDXBC");
    }

    #[test]
    fn parse_knows_our_chains_and_no_others() {
        let hash = Hash::of("anything");
        let hashed = [ChainName::External(hash), ChainName::Endpoint(hash)];
        for chain in hashed {
            assert_eq!(ChainName::parse(Table::Nat, &chain.to_string()), Some(chain));
            assert_eq!(ChainName::parse(Table::Filter, &chain.to_string()), None);
        }
        let foreign = [
            "KUBE-PROXY-CANARY",
            "KUBE-SVC-2CMXP7HKUVJN7L6",
            "KUBE-SVC-2CMXP7HKUVJN7L61",
            "KUBE-XYZ-2CMXP7HKUVJN7L6M",
            "DOCKER",
            "",
        ];
        for name in foreign {
            assert_eq!(ChainName::parse(Table::Nat, name), None, "{name}");
        }
        assert_eq!(ChainName::parse(Table::Filter, "KUBE-SERVICES"), Some(ChainName::Services));
    }
}
