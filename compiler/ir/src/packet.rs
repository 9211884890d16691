//! The packet that is asked about, and the answer.
//!
//! Invariant: values only; who produces an [`Outcome`] (eval, a tracer, a real packet) is
//! of no concern here.

use crate::Protocol;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

/// Where a packet enters the node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ingress {
    /// Received through the interface of this name.
    Interface(String),
    /// Sent by a process of the node itself.
    Local,
}

/// The first packet of a connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Packet {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Source address and port.
    pub source: SocketAddr,
    /// Destination address and port.
    pub destination: SocketAddr,
    /// Where it enters.
    pub ingress: Ingress,
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} > {}", self.protocol, self.source, self.destination)?;
        match &self.ingress {
            Ingress::Interface(name) => write!(f, " in {name}"),
            Ingress::Local => f.write_str(" from the node"),
        }
    }
}

/// One way a packet may go on: to this endpoint, with or without its source rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Choice {
    /// The endpoint.
    pub endpoint: SocketAddr,
    /// Whether the source address becomes the node's.
    pub masquerade: bool,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Sent on to one of these endpoints; the number is the probability of each. Session
    /// affinity is that of a client never seen before.
    Balance(BTreeMap<Choice, f64>),
    /// Refused with an ICMP error.
    Reject,
    /// Dropped in silence.
    Drop,
    /// Let through by a rule of ours that ends the walk (the health check node port).
    Accept,
    /// No rule of ours is concerned.
    Pass,
}

impl Outcome {
    /// How far two probabilities may lie apart and still be the same: iptables prints them
    /// with ten decimals.
    const SHARE_TOLERANCE: f64 = 1e-6;

    /// Whether both say the same, shares compared with a tolerance.
    #[must_use]
    pub fn agrees_with(&self, other: &Self) -> bool {
        let (Self::Balance(ours), Self::Balance(theirs)) = (self, other) else {
            return self == other;
        };
        ours.len() == theirs.len()
            && ours.iter().zip(theirs).all(|((a, share_a), (b, share_b))| {
                a == b && (share_a - share_b).abs() <= Self::SHARE_TOLERANCE
            })
    }

    /// The endpoints that may get the packet, without shares.
    pub fn endpoints(&self) -> impl Iterator<Item = Choice> + '_ {
        let choices = match self {
            Self::Balance(choices) => Some(choices.keys().copied()),
            _ => None,
        };
        choices.into_iter().flatten()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Balance(choices) => {
                for (i, (choice, share)) in choices.iter().enumerate() {
                    let comma = if i == 0 { "" } else { ", " };
                    let masquerade = if choice.masquerade { " masqueraded" } else { "" };
                    write!(f, "{comma}{}{masquerade} {:.1}%", choice.endpoint, share * 100.0)?;
                }
                Ok(())
            }
            Self::Reject => f.write_str("reject"),
            Self::Drop => f.write_str("drop"),
            Self::Accept => f.write_str("accept"),
            Self::Pass => f.write_str("pass"),
        }
    }
}
