//! What rules are made of: values read from a packet, tests, and what is done.
//!
//! Only shapes that some lowering needs are here, each one typed, so that a rule that the
//! kernel would refuse can hardly be written down.
//!
//! Invariant: meaning only; spelling is in `render`, bytes are in `encode`.

use crate::Type;
use ipnet::IpNet;
use nfc_ir::Protocol;

/// A value read from the packet or its surroundings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// Source address.
    Saddr,
    /// The last twelve bytes of an IPv6 source address.
    SaddrTail,
    /// Destination address.
    Daddr,
    /// Transport protocol.
    L4proto,
    /// Source port.
    Sport(Transport),
    /// Destination port.
    Dport(Transport),
    /// The packet's priority, here a scratch field.
    Priority,
    /// Some bits of the priority. In a key they come first: nft takes an operation nowhere
    /// else.
    PriorityBits(u32),
    /// A number below `modulus`.
    Number {
        /// How it comes about.
        generator: Generator,
        /// One more than the greatest number.
        modulus: u32,
    },
}

/// Whose ports: of a known protocol, or whatever the packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// `th`: the ports lie in the same place for TCP, UDP and SCTP. In a rule it tests
    /// nothing; the protocol has to be part of the key.
    Any,
    /// `tcp`, `udp`, `sctp`: in a rule this also tests the protocol.
    Of(Protocol),
}

/// The seed of every hash: the letters "nfc".
pub const SEED: u32 = 0x006e_6663;

/// How a number comes about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Generator {
    /// At random.
    Random,
    /// One after the other; the counter belongs to the rule.
    Next,
    /// Jenkins hash of these values, the same on every node and after every reload:
    /// without the [`SEED`] the kernel would draw one for each rule.
    Hash(Vec<Expr>),
}

/// A test. A rule ends for a packet that fails it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// The source address is (or with `not`, is not) in the block.
    Saddr {
        /// Whether the test is turned round.
        not: bool,
        /// The block.
        block: IpNet,
    },
    /// The destination address is (or is not) in the block.
    Daddr {
        /// Whether the test is turned round.
        not: bool,
        /// The block.
        block: IpNet,
    },
    /// The packet came in (or did not) through the interface of this name.
    Iifname {
        /// Whether the test is turned round.
        not: bool,
        /// The name, or with `prefix` how it begins.
        name: String,
        /// Whether only the beginning is given.
        prefix: bool,
    },
    /// Some bit of the mask is set in the packet's mark.
    Mark(u32),
    /// Some bits of the packet's priority are these.
    PriorityBits {
        /// Which bits.
        mask: u32,
        /// How they are.
        value: u32,
    },
    /// The source address is one of the node's own.
    SaddrLocal,
    /// The destination address is one of the node's own.
    DaddrLocal,
    /// The destination was rewritten.
    CtStatusDnat,
    /// The packet is the first of a connection.
    CtStateNew,
    /// The transport protocol is this one.
    L4proto(Protocol),
    /// The concatenation is (or is not) in the set.
    In {
        /// Whether the test is turned round.
        not: bool,
        /// The fields of the key.
        key: Vec<Expr>,
        /// Name of the set.
        set: String,
    },
}

/// What a rule does at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// Tests.
    Match(Match),
    /// Looks a verdict up and follows it; goes on when there is none.
    Vmap {
        /// The fields of the key.
        key: Vec<Expr>,
        /// Name of the verdict map.
        map: String,
    },
    /// Looks an address and a port up and rewrites the destination; ends the chain's walk
    /// with `accept` when there is one and goes on to the next rule when there is none.
    Dnat {
        /// The fields of the key.
        key: Vec<Expr>,
        /// Name of the map.
        map: String,
    },
    /// Looks a number up and keeps it in the packet's priority; the rule ends when there is
    /// none. IPv4 forwarding overwrites the priority anyway (`net/ipv4/ip_forward.c`).
    SetPriority {
        /// The fields of the key.
        key: Vec<Expr>,
        /// Name of the map.
        map: String,
    },
    /// Sets the packet's priority to none.
    ClearPriority,
    /// Keeps the packet's priority under a key of a dynamic map, or if there is something
    /// already, makes its time begin anew.
    Remember {
        /// The fields of the key. nft 1.0.6 has the value overwrite what lies beyond 16 bytes.
        key: Vec<Expr>,
        /// Name of the map.
        map: String,
        /// Seconds until it is forgotten.
        timeout: u32,
    },
    /// Deletes a key from a dynamic map.
    Forget {
        /// The fields of the key.
        key: Vec<Expr>,
        /// Name of the map.
        map: String,
    },
    /// Sets bits of the packet's mark.
    SetMark(u32),
    /// Clears bits of the packet's mark.
    ClearMark(u32),
    /// Rewrites the source to the node's address, at a port chosen at random.
    Masquerade,
    /// Refuses with an ICMP error "port unreachable".
    Reject,
    /// A verdict.
    Verdict(Verdict),
}

/// Where a packet goes from here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Ends this hook for the table.
    Accept,
    /// Throws the packet away.
    Drop,
    /// Back to the chain that jumped here.
    Return,
    /// To a chain, and back here at its end.
    Jump(String),
    /// To a chain, and not back.
    Goto(String),
}

impl Expr {
    /// The type of the value.
    #[must_use]
    pub fn field_type(&self) -> Type {
        match self {
            Self::Saddr | Self::Daddr => Type::Address,
            Self::SaddrTail => Type::AddressTail,
            Self::L4proto => Type::Protocol,
            Self::Sport(_) | Self::Dport(_) => Type::Port,
            Self::Priority | Self::PriorityBits(_) => Type::Class,
            Self::Number { .. } => Type::Number,
        }
    }
}

impl Statement {
    /// The set or map that the statement looks something up in.
    #[must_use]
    pub fn set(&self) -> Option<&str> {
        match self {
            Self::Match(Match::In { set, .. }) => Some(set),
            Self::Vmap { map, .. }
            | Self::Dnat { map, .. }
            | Self::SetPriority { map, .. }
            | Self::Remember { map, .. }
            | Self::Forget { map, .. } => Some(map),
            _ => None,
        }
    }
}

impl From<Match> for Statement {
    fn from(test: Match) -> Self {
        Self::Match(test)
    }
}

impl From<Verdict> for Statement {
    fn from(verdict: Verdict) -> Self {
        Self::Verdict(verdict)
    }
}
