//! The small names everything else is made of: address families, protocols, ports and
//! the name of a Service port.
//!
//! Invariant: newtypes and enums only; nothing here decides anything.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;

/// A port number. Zero is no port in Kubernetes, so it is not one here.
pub type Port = NonZeroU16;

/// An IP family. kube-proxy runs one proxier for each, and so an [`Ir`](crate::Ir) has
/// exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// Both families, IPv4 first.
    pub const ALL: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    /// The family of `address`.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        })
    }
}

/// A transport protocol that a Service port can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// All protocols, in the order of the enum.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// The protocol number (IANA "Assigned Internet Protocol Numbers").
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The name in lower case, as iptables and nftables spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name of one Service port: what kube-proxy calls a `ServicePortName`, without the
/// protocol.
///
/// Displayed as kube-proxy does: `namespace/name`, then `:port` when the port has a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service.
    pub name: String,
    /// Name of the port; empty for the only port of a Service, which needs none.
    pub port: String,
}

impl ServiceName {
    /// Reads a name as it is displayed: `namespace/name` or `namespace/name:port`. None of the
    /// three can hold a slash or a colon (RFC 1123 labels).
    #[must_use]
    pub fn of_display(text: &str) -> Option<Self> {
        let (namespace, rest) = text.split_once('/')?;
        let (name, port) = rest.split_once(':').unwrap_or((rest, ""));
        Some(Self { namespace: namespace.to_owned(), name: name.to_owned(), port: port.to_owned() })
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)?;
        if !self.port.is_empty() {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_name_is_read_as_it_is_displayed() {
        for (namespace, name, port) in [("a", "b", ""), ("ns-1", "web", "http")] {
            let [namespace, name, port] = [namespace, name, port].map(str::to_owned);
            let written = ServiceName { namespace, name, port };
            assert_eq!(ServiceName::of_display(&written.to_string()), Some(written));
        }
        assert_eq!(ServiceName::of_display("no service"), None);
    }
}
