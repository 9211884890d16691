//! The table: sets, chains, rules.
//!
//! Invariant: plain data in one canonical form, so that equal tables are equal values.

use crate::expr::{Expr, Statement};
use crate::{Elements, Key};
pub use nfc_backend::journey::Hook;
use nfc_ir::Family;
use std::collections::BTreeMap;
use std::fmt::Display;

/// A table with everything in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The family, `ip` or `ip6`.
    pub family: Family,
    /// Its name.
    pub name: &'static str,
    /// Sets and maps by name.
    pub sets: BTreeMap<String, Set>,
    /// Chains by name.
    pub chains: BTreeMap<String, Chain>,
}

/// A set, a map or a verdict map.
///
/// Two sets that differ in [`size`](Self::size) alone are equal: the size is how much room
/// the kernel was asked for, and one with more room than needed means the same.
#[derive(Clone, Debug)]
pub struct Set {
    /// What its keys are made of.
    pub key: Fields,
    /// What a key leads to.
    pub value: Value,
    /// Whether keys are ranges: an element's key is then its first value followed by its
    /// last.
    pub interval: bool,
    /// Whether packets add elements, and say how long each stays; such a set has no elements
    /// of ours.
    pub dynamic: bool,
    /// How many elements fit. With it the kernel picks a hash of fixed size, which takes
    /// elements twice as fast; it refuses those beyond (`ENFILE`). For dynamic sets it is
    /// a limit only.
    pub size: Option<u32>,
    /// The elements.
    pub elements: Elements,
}

/// How the fields of a key or a value are declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fields {
    /// `type ipv4_addr . inet_service`.
    Types(Vec<Type>),
    /// `typeof ip daddr . tcp dport`: the only way to say fields that have no named type,
    /// such as the number of a slot.
    Typeof(Vec<Expr>),
}

/// What a key leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing: a set.
    None,
    /// A verdict: a verdict map.
    Verdict,
    /// Data: a map.
    Data(Fields),
}

/// The type of one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Type {
    /// `ipv4_addr` or `ipv6_addr`, by the table's family.
    Address,
    /// Twelve bytes of an IPv6 address; sets can only be declared with them by `typeof`.
    AddressTail,
    /// `inet_proto`.
    Protocol,
    /// `inet_service`, a port.
    Port,
    /// `mark`.
    Mark,
    /// `classid`, a packet's priority.
    Class,
    /// A 32-bit number; sets can only be declared with it by `typeof`.
    Number,
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Chain {
    /// Where packets come in; `None` for a chain that others jump to.
    pub base: Option<Base>,
    /// The rules in order.
    pub rules: Vec<Rule>,
}

/// Where a base chain hooks in. Its policy is always `accept`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// Its type.
    pub kind: ChainType,
    /// The hook.
    pub hook: Hook,
    /// The priority among the chains of the hook.
    pub priority: i32,
}

/// The type of a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainType {
    /// Sees every packet.
    Filter,
    /// Sees the first packet of each connection, and may rewrite it.
    Nat,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it does, from left to right.
    pub statements: Vec<Statement>,
    /// A remark for readers.
    pub comment: Option<&'static str>,
}

impl Table {
    /// A table without anything in it.
    #[must_use]
    pub fn new(family: Family, name: &'static str) -> Self {
        Self { family, name, sets: BTreeMap::new(), chains: BTreeMap::new() }
    }

    /// Chains in the order in which they are listed: base chains in the order a packet
    /// meets them, then the others by name.
    pub fn listed_chains(&self) -> impl Iterator<Item = (&str, &Chain)> {
        let mut listed: Vec<_> = self.chains.iter().collect();
        listed.sort_by_key(|(_, chain)| chain.listing_place());
        listed.into_iter().map(|(name, chain)| (name.as_str(), chain))
    }

    /// Adds a chain, in place of one of the same name.
    pub fn add_chain(&mut self, name: impl Into<String>, base: Option<Base>, rules: Vec<Rule>) {
        self.chains.insert(name.into(), Chain { base, rules });
    }

    /// Adds a set once its elements are complete: sorts them, and asks for room.
    pub fn add_set(&mut self, name: impl Into<String>, mut set: Set) {
        set.seal();
        self.sets.insert(name.into(), set);
    }
}

impl Set {
    /// The least size that a set is given.
    const SIZE_MIN: u32 = 64;

    /// A set for the given family, without elements.
    #[must_use]
    pub fn new(family: Family, key: Fields, value: Value) -> Self {
        let key_len = key.len(family);
        let value_len = match &value {
            Value::None => 0,
            Value::Verdict => crate::elements::VERDICT_LEN,
            Value::Data(fields) => fields.len(family),
        };
        Self {
            key,
            value,
            interval: false,
            dynamic: false,
            size: None,
            elements: Elements::new(key_len, value_len),
        }
    }

    /// The same set with ranges for keys. Has to be said before elements are added.
    #[must_use]
    pub fn with_interval(mut self) -> Self {
        self.interval = true;
        let key_len = self.elements.key_len();
        self.elements = Elements::new(2 * key_len, self.elements.value_len());
        self
    }

    /// The same set, filled by packets. It takes up to 2^20 elements; the kernel's own limit
    /// would be 2^16 (`net/netfilter/nft_dynset.c`).
    #[must_use]
    pub fn filled_by_packets(mut self) -> Self {
        self.dynamic = true;
        self.size = Some(1 << 20);
        self
    }

    /// Adds a key to a set.
    pub fn add(&mut self, key: &Key) {
        self.elements.push(key.bytes(), &[], &[]);
    }

    /// Adds a key with what it leads to. `remark` becomes the element's comment; an empty
    /// one is none.
    pub fn map(&mut self, key: &Key, value: &[u8], remark: impl Display) {
        self.elements.push(key.bytes(), value, &[&remark.to_string()]);
    }

    /// Sorts the elements and settles the size: room for a quarter more, so that a set grows
    /// many times before it has to be rebuilt.
    pub fn seal(&mut self) {
        self.elements.seal();
        if !self.interval && !self.dynamic {
            let count = u32::try_from(self.elements.len()).unwrap_or(u32::MAX);
            self.size = Some(room_for(count.saturating_add(count / 4)).max(Self::SIZE_MIN));
        }
    }

    /// The same set, empty.
    #[must_use]
    pub fn without_elements(&self) -> Self {
        let elements = Elements::new(self.elements.key_len(), self.elements.value_len());
        Self { key: self.key.clone(), value: self.value.clone(), elements, ..*self }
    }

    /// Whether elements of `other` could be those of this set: all but size and elements
    /// is the same.
    #[must_use]
    pub fn has_shape_of(&self, other: &Self) -> bool {
        (&self.key, &self.value, self.interval) == (&other.key, &other.value, other.interval)
            && self.dynamic == other.dynamic
            && self.size.is_some() == other.size.is_some()
    }
}

/// The most elements for which the kernel makes no more buckets than for `count`: it makes a
/// power of two of them, at least four for three elements (`nft_hash_buckets` in
/// `net/netfilter/nft_set_hash.c`).
fn room_for(count: u32) -> u32 {
    let buckets = (count.saturating_mul(4) / 3).checked_next_power_of_two();
    buckets.map_or(u32::MAX, |buckets| buckets / 4 * 3)
}

impl PartialEq for Set {
    fn eq(&self, other: &Self) -> bool {
        self.has_shape_of(other) && self.elements == other.elements
    }
}

impl Eq for Set {}

impl Fields {
    /// The types of the fields.
    #[must_use]
    pub fn types(&self) -> Vec<Type> {
        match self {
            Self::Types(types) => types.clone(),
            Self::Typeof(exprs) => exprs.iter().map(Expr::field_type).collect(),
        }
    }

    /// Bytes that the fields take in the kernel's registers.
    #[must_use]
    pub fn len(&self, family: Family) -> usize {
        let len = |field: Type| field.padded_len(family);
        match self {
            Self::Types(types) => types.iter().map(|field| len(*field)).sum(),
            Self::Typeof(exprs) => exprs.iter().map(|expr| len(expr.field_type())).sum(),
        }
    }

    /// Whether there is no field, which is not a key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Types(types) => types.is_empty(),
            Self::Typeof(exprs) => exprs.is_empty(),
        }
    }
}

impl Type {
    /// Bytes of a value.
    #[must_use]
    pub fn len(self, family: Family) -> usize {
        match self {
            Self::Address if family == Family::Ipv6 => 16,
            Self::AddressTail => 12,
            Self::Address | Self::Mark | Self::Class | Self::Number => 4,
            Self::Protocol => 1,
            Self::Port => 2,
        }
    }

    /// Bytes of a value in a concatenation, where each field fills whole registers of four
    /// bytes (`include/net/netfilter/nf_tables.h`, `NFT_REG32_SIZE`).
    #[must_use]
    pub fn padded_len(self, family: Family) -> usize {
        self.len(family).next_multiple_of(4)
    }
}

impl Chain {
    /// Sorts chains as they are listed: base chains first, as a packet meets them.
    pub(crate) fn listing_place(&self) -> (bool, Option<(Hook, i32)>) {
        (self.base.is_none(), self.base.map(|b| (b.hook, b.priority)))
    }
}

impl Base {
    /// A nat chain at its usual place: -100 where destinations are rewritten, 100 where
    /// sources are (`uapi/linux/netfilter_ipv4.h`).
    #[must_use]
    pub fn nat(hook: Hook) -> Self {
        let priority = match hook {
            Hook::Prerouting | Hook::Output | Hook::Forward => -100,
            Hook::Postrouting | Hook::Input => 100,
        };
        Self { kind: ChainType::Nat, hook, priority }
    }

    /// A filter chain.
    #[must_use]
    pub fn filter(hook: Hook, priority: i32) -> Self {
        Self { kind: ChainType::Filter, hook, priority }
    }
}

impl ChainType {
    /// The type's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
        }
    }
}

impl Rule {
    /// A rule without a comment.
    #[must_use]
    pub fn new(statements: impl Into<Vec<Statement>>) -> Self {
        Self { statements: statements.into(), comment: None }
    }

    /// The same rule with a comment.
    #[must_use]
    pub fn with_comment(mut self, comment: &'static str) -> Self {
        self.comment = Some(comment);
        self
    }
}
