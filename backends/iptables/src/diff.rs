//! The way from one program to another, chain by chain.
//!
//! A chain is the smallest thing that is rewritten: `iptables-restore --noflush` empties a
//! chain that it is told of and fills it again, and leaves all others alone.
//!
//! Invariant: compares values; knows no text.

use crate::names::{BuiltIn, ChainName, Table};
use crate::program::{Chain, Owner, PerTable, Program, Rule, Rules};
use nfc_ir::Family;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What changes in the tables of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Whose tables these are.
    pub family: Family,
    /// The changes, by table.
    pub tables: PerTable<Changes>,
    /// The node's addresses from now on; see [`Program::local_addresses`].
    pub local_addresses: BTreeSet<IpAddr>,
    /// Whether node ports answer on loopback from now on; see [`Program::routes_loopback`].
    pub routes_loopback: bool,
    /// What `route_localnet` is to be set to; `None` leaves it alone.
    pub route_localnet: Option<bool>,
}

/// What changes in one table.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Changes {
    /// Rules to take out of built-in chains.
    pub unhooked: Vec<(BuiltIn, Jump)>,
    /// Rules to put at the head of built-in chains, first one first.
    pub hooked: BTreeMap<BuiltIn, Vec<Rule>>,
    /// Chains to create, or to empty and fill again.
    pub written: BTreeMap<ChainName, Chain>,
    /// Chains to empty and delete, and whose they were, if that is known.
    pub deleted: BTreeMap<ChainName, Option<Owner>>,
}

/// A rule in a built-in chain that leads to a chain of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Jump {
    /// As we make them.
    Own(Rule),
    /// As it was found in a dump: matches and target, in the dump's words.
    Found(String),
}

impl Changes {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }
}

impl Patch {
    /// Whether nothing changes in the kernel. The node's addresses are in no rule.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.route_localnet.is_none() && Table::ALL.iter().all(|t| self.tables.get(*t).is_empty())
    }
}

/// The way from `old` to `new`.
pub(crate) fn diff(old: &Program, new: &Program) -> Patch {
    Patch {
        family: new.family,
        tables: PerTable::each(|t| changes(old.tables.get(t), new.tables.get(t))),
        local_addresses: new.local_addresses.clone(),
        routes_loopback: new.routes_loopback,
        route_localnet: (old.routes_loopback != new.routes_loopback).then_some(new.routes_loopback),
    }
}

fn changes(old: &Rules, new: &Rules) -> Changes {
    let is_changed = |(name, chain): &(&ChainName, &Chain)| old.chains.get(name) != Some(*chain);
    let written = new.chains.iter().filter(is_changed);
    let is_gone = |(name, _): &(&ChainName, &Chain)| !new.chains.contains_key(name);
    let deleted = old.chains.iter().filter(is_gone);
    let mut changes = Changes {
        written: written.map(|(n, c)| (*n, c.clone())).collect(),
        deleted: deleted.map(|(n, c)| (*n, c.owner.clone())).collect(),
        ..Changes::default()
    };
    for at in BuiltIn::ALL {
        let [old, new] = [old, new].map(|r| r.jumps.get(&at).map_or(&[][..], Vec::as_slice));
        let plan = rehook(old, new);
        let unhooked = plan.unhooked.into_iter();
        changes.unhooked.extend(unhooked.map(|index| (at, Jump::Own(old[index].clone()))));
        if plan.hooked_count > 0 {
            let hooked = new[..plan.hooked_count].to_vec();
            changes.hooked.insert(at, hooked);
        }
    }
    changes
}

/// How the head of one built-in chain becomes what it should be.
struct Rehook {
    /// Indices of the old jumps that must go.
    unhooked: Vec<usize>,
    /// How many of the new jumps, from the first on, must be put at the head.
    hooked_count: usize,
}

/// Jumps that are right already stay where they are, among whatever others have put between
/// them. When their order is wrong, all are made anew.
fn rehook<T: PartialEq>(old: &[T], new: &[T]) -> Rehook {
    let is_kept = |jump: &&T| new.contains(jump);
    let kept_count = old.iter().filter(is_kept).count();
    let missing_count = new.len().saturating_sub(kept_count);
    let is_in_order = old.iter().filter(is_kept).eq(&new[missing_count..]);
    let indices = 0..old.len();
    Rehook {
        unhooked: indices.filter(|index| !is_in_order || !new.contains(&old[*index])).collect(),
        hooked_count: if is_in_order { missing_count } else { new.len() },
    }
}

/// `old` after `patch`.
pub(crate) fn patched(old: &Program, patch: &Patch) -> Program {
    let mut new = old.clone();
    new.local_addresses.clone_from(&patch.local_addresses);
    new.routes_loopback = patch.routes_loopback;
    for table in Table::ALL {
        apply(new.tables.get_mut(table), patch.tables.get(table));
    }
    new
}

fn apply(rules: &mut Rules, changes: &Changes) {
    for (at, jump) in &changes.unhooked {
        let jumps = rules.jumps.entry(*at).or_default();
        jumps.retain(|own| *jump != Jump::Own(own.clone()));
    }
    for (at, jumps) in &changes.hooked {
        let below = rules.jumps.remove(at).unwrap_or_default();
        let all = jumps.iter().cloned().chain(below).collect();
        rules.jumps.insert(*at, all);
    }
    rules.jumps.retain(|_, jumps| !jumps.is_empty());
    rules.chains.retain(|name, _| !changes.deleted.contains_key(name));
    let written = changes.written.iter();
    rules.chains.extend(written.map(|(n, c)| (*n, c.clone())));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_that_are_right_stay() {
        let plan = rehook(&["b", "c"], &["a", "b", "c"]);
        assert_eq!((plan.unhooked, plan.hooked_count), (vec![], 1));
        let plan = rehook(&["a", "b", "x"], &["a", "b"]);
        assert_eq!((plan.unhooked, plan.hooked_count), (vec![2], 0));
    }

    #[test]
    fn jumps_in_disorder_are_made_anew() {
        for old in [&["c", "b"][..], &["b", "b"], &["a", "c"]] {
            let plan = rehook(old, &["a", "b", "c"]);
            assert_eq!((plan.unhooked, plan.hooked_count), (vec![0, 1], 3));
        }
    }
}
