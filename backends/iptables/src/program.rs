//! The desired state: two tables of chains of rules, as values.
//!
//! A rule is a list of matches and a target, in the order in which kube-proxy spells them.
//! Printing, comparing and tracing all work on these values; there is no rule that exists
//! as text only.
//!
//! Invariant: knows no Service's meaning and no spelling.

use crate::names::{BuiltIn, ChainName, Table};
use ipnet::IpNet;
use nfc_ir::{Family, Protocol, ServiceName};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Everything nfc wants in the tables of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Which tables these are: those of iptables or those of ip6tables.
    pub family: Family,
    /// Chains and jumps, by table.
    pub tables: PerTable<Rules>,
    /// The node's addresses. No rule says them; the kernel knows them, and so must whoever
    /// walks a packet through the rules.
    pub local_addresses: BTreeSet<IpAddr>,
    /// Whether node ports answer on 127.0.0.0/8, for which the kernel must route packets
    /// that have such an address on other links as well (`route_localnet`).
    pub routes_loopback: bool,
}

/// One value for each table.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PerTable<T> {
    /// That of `filter`.
    pub filter: T,
    /// That of `nat`.
    pub nat: T,
}

/// What is ours in one table.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Rules {
    /// Rules at the head of built-in chains, first one first.
    pub jumps: BTreeMap<BuiltIn, Vec<Rule>>,
    /// Our own chains.
    pub chains: BTreeMap<ChainName, Chain>,
}

/// A chain of ours.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Chain {
    /// Whose it is; `None` for the chains that all Services share.
    pub owner: Option<Owner>,
    /// Its rules, first one first.
    pub rules: Vec<Rule>,
}

/// The Service, or the endpoint of a Service, that a chain was made for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// Name of the Service port.
    pub service: Arc<ServiceName>,
    /// Its protocol.
    pub protocol: Protocol,
    /// The endpoint; `None` for the Service's own chains.
    pub endpoint: Option<SocketAddr>,
}

/// A rule: when all matches hold, the target takes effect.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Rule {
    /// The Service it was made for, if for one.
    pub service: Option<Arc<ServiceName>>,
    /// What a packet must be like.
    pub matches: Vec<Match>,
    /// What happens to it; `None` for a rule that is there to be read.
    pub target: Option<Target>,
}

/// A match, in the terms of iptables-extensions(8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// Text for people. Always holds.
    Comment(String),
    /// Transport protocol.
    Protocol(Protocol),
    /// Source address.
    Source(Address, Sense),
    /// Destination address.
    Destination(Address, Sense),
    /// Destination port; needs a [`Match::Protocol`] before it.
    DestinationPort(u16),
    /// The interface that the packet came in through. A trailing `+` stands for any rest.
    InInterface(String, Sense),
    /// One of these states of the connection.
    State(Vec<State>, Sense),
    /// The bits of `mask` are set in the packet mark.
    Mark(u32, Sense),
    /// The source is one of the node's addresses.
    SourceIsLocal,
    /// The destination is one of the node's addresses.
    DestinationIsLocal,
    /// Holds at random.
    Probability(Share),
    /// Holds for one packet in so many, the first included; the rule counts those it is asked of.
    Turn(u32),
    /// The source was recorded in the list of that chain's name less than so many seconds
    /// ago. Older records are thrown away.
    SeenWithin(ChainName, u32),
    /// Records the source in the list of that chain's name. Always holds.
    Remember(ChainName),
}

/// Whether a match is meant as written or the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sense {
    /// As written.
    Is,
    /// Negated (`!`).
    IsNot,
}

/// Addresses to match, as they were given: a lone address is not spelled as a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// One address.
    Host(IpAddr),
    /// A block of them.
    Block(IpNet),
}

/// A state of the connection that a packet belongs to (`xt_conntrack`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Conntrack cannot make sense of the packet.
    Invalid,
    /// First packet of a connection.
    New,
    /// A connection that another one announced.
    Related,
    /// Answered already.
    Established,
    /// Its destination was rewritten.
    Dnat,
}

/// The share of the packets, reaching a rule, that it takes: `weight` of `remaining`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Weight of what the rule leads to.
    pub weight: u32,
    /// Weight of that and of everything after it.
    pub remaining: u32,
}

impl Share {
    /// The share as a probability.
    #[must_use]
    pub fn probability(self) -> f64 {
        f64::from(self.weight) / f64::from(self.remaining)
    }
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Goes through another chain of ours and comes back.
    Jump(ChainName),
    /// Lets the packet through the table.
    Accept,
    /// Discards it in silence.
    Drop,
    /// Refuses it with an ICMP error.
    Reject,
    /// Goes back to the calling chain.
    Return,
    /// Sets these bits of the packet mark.
    SetMark(u32),
    /// Flips these bits of the packet mark.
    FlipMark(u32),
    /// Rewrites the source to the node's address, with a random port.
    Masquerade,
    /// Rewrites the destination.
    Dnat(SocketAddr),
}

impl Program {
    /// The program of a node where nothing is ours.
    #[must_use]
    pub fn empty(family: Family) -> Self {
        Self {
            family,
            tables: PerTable::default(),
            local_addresses: BTreeSet::new(),
            routes_loopback: false,
        }
    }
}

impl<T> PerTable<T> {
    /// That of `table`.
    #[must_use]
    pub fn get(&self, table: Table) -> &T {
        match table {
            Table::Filter => &self.filter,
            Table::Nat => &self.nat,
        }
    }

    /// That of `table`, to change it.
    pub fn get_mut(&mut self, table: Table) -> &mut T {
        match table {
            Table::Filter => &mut self.filter,
            Table::Nat => &mut self.nat,
        }
    }

    /// Both, made by `make`.
    pub fn each(mut make: impl FnMut(Table) -> T) -> Self {
        Self { filter: make(Table::Filter), nat: make(Table::Nat) }
    }
}

impl Match {
    /// A comment.
    pub fn comment(text: impl Into<String>) -> Self {
        Self::Comment(text.into())
    }

    /// Comes from exactly `address`.
    #[must_use]
    pub fn from_host(address: IpAddr) -> Self {
        Self::Source(Address::Host(address), Sense::Is)
    }

    /// Goes to exactly `address`.
    #[must_use]
    pub fn to_host(address: IpAddr) -> Self {
        Self::Destination(Address::Host(address), Sense::Is)
    }
}

impl Address {
    /// Whether `address` is meant.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match self {
            Self::Host(host) => *host == address,
            Self::Block(block) => block.contains(&address),
        }
    }
}
