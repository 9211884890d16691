//! The way from one table to another.
//!
//! A patch says per set and per chain what becomes of it, so that its size is that of the
//! change. It is carried out in two transactions: the first does everything but delete
//! chains, the second deletes them. Before Linux 6.2 a chain counted as referenced for a
//! moment after the last verdict that led to it was gone.
//!
//! A table that was not there before is loaded in pieces when it is large: the kernel lets
//! nobody else of the network namespace change nftables while it works on a transaction. The
//! last piece hooks the table in, so no packet meets half of it.
//!
//! Invariant: `patched(old, diff(old, new)) == new`, and `diff(a, a)` is empty.

use crate::{Chain, Elements, Set, Statement, Table};
use nfc_ir::Family;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// The way from one table to another, or to or from none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Family of the table.
    pub family: Family,
    /// Name of the table.
    pub table: &'static str,
    /// The count of changes to the kernel's tables that the patch builds on: the kernel
    /// refuses it after another one. `None`: it takes it at any time.
    pub generation: Option<u32>,
    /// How many elements go into one transaction while a new table is not hooked in
    /// ([`Fate::Create`]). All other changes are one transaction, whatever their size:
    /// packets would meet a mixture.
    pub seam: usize,
    /// What becomes of the table itself.
    pub fate: Fate,
    /// What becomes of sets; those not named stay as they are.
    pub sets: BTreeMap<String, SetChange>,
    /// What becomes of chains; those not named stay as they are.
    pub chains: BTreeMap<String, ChainChange>,
}

/// What becomes of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays, changed or not; or there is none and none is wanted.
    Keep,
    /// There was none, and if there is one by now the kernel refuses the patch.
    Create,
    /// It is deleted.
    Delete,
    /// Whatever is there under the name is deleted first, and then the table is made, in
    /// one transaction.
    Replace,
    /// Whatever is there under the name is deleted, if anything.
    Clear,
}

/// What becomes of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetChange {
    /// It is new.
    Add(Set),
    /// It is deleted and made anew: its type changed, or it outgrew its size.
    Rebuild(Set),
    /// It is deleted.
    Delete,
    /// Elements go and come. One whose value changed does both.
    Update {
        /// The set without elements.
        shape: Set,
        /// Elements that go.
        gone: Elements,
        /// Elements that come.
        come: Elements,
    },
}

/// What becomes of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainChange {
    /// It is new.
    Add(Chain),
    /// It is deleted and made anew: its hook or priority changed.
    Rebuild(Chain),
    /// Its rules are flushed and written again.
    Refill(Chain),
    /// Its rules are flushed, and later it is deleted.
    Delete,
}

/// How many elements go into one transaction while a table is not hooked in. At about 0.7 us
/// each, nobody else waits for longer than 12 ms. Fewer would help nobody: the transaction
/// that clears the room of large sets and the one that hooks the table in take as long.
pub const SEAM: usize = 1 << 14;

impl Patch {
    /// A patch that changes nothing.
    #[must_use]
    pub fn new(family: Family, table: &'static str) -> Self {
        Self {
            family,
            table,
            generation: None,
            seam: SEAM,
            fate: Fate::Keep,
            sets: BTreeMap::new(),
            chains: BTreeMap::new(),
        }
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fate == Fate::Keep && self.sets.is_empty() && self.chains.is_empty()
    }

    /// The way to `new` from whatever is in the kernel under its name; with `None`, the way
    /// to nothing.
    #[must_use]
    pub fn replacing(family: Family, name: &'static str, new: Option<&Table>) -> Self {
        let mut patch = Self::creating(family, name, new);
        patch.fate = if new.is_some() { Fate::Replace } else { Fate::Clear };
        patch
    }

    /// The way to `new` from nothing.
    pub(crate) fn creating(family: Family, name: &'static str, new: Option<&Table>) -> Self {
        let mut patch = Self::new(family, name);
        let Some(new) = new else {
            return patch;
        };
        patch.fate = Fate::Create;
        for (name, set) in &new.sets {
            patch.sets.insert(name.clone(), SetChange::Add(set.clone()));
        }
        for (name, chain) in &new.chains {
            patch.chains.insert(name.clone(), ChainChange::Add(chain.clone()));
        }
        patch
    }
}

/// The way from `old` to `new`, both of the family and name given.
#[must_use]
pub fn diff(family: Family, name: &'static str, old: Option<&Table>, new: Option<&Table>) -> Patch {
    let (old, new) = match (old, new) {
        (Some(old), Some(new)) => (old, new),
        (Some(_), None) => return Patch { fate: Fate::Delete, ..Patch::new(family, name) },
        (None, new) => return Patch::creating(family, name, new),
    };
    let mut patch = Patch::new(family, name);
    diff_sets(&mut patch, old, new);
    diff_chains(&mut patch, old, new);
    patch
}

fn diff_sets(patch: &mut Patch, old: &Table, new: &Table) {
    for (name, set) in &new.sets {
        let change = match old.sets.get(name) {
            None => SetChange::Add(set.clone()),
            Some(before) if !before.has_shape_of(set) || has_outgrown(before, set) => {
                SetChange::Rebuild(set.clone())
            }
            Some(before) if before.elements == set.elements => continue,
            Some(before) => update(before, set),
        };
        patch.sets.insert(name.clone(), change);
    }
    for name in old.sets.keys().filter(|name| !new.sets.contains_key(*name)) {
        patch.sets.insert(name.clone(), SetChange::Delete);
    }
}

/// Whether `before` was made with too little room for `set`. One with too much is left
/// alone, so that a set on the brink is not rebuilt back and forth.
fn has_outgrown(before: &Set, set: &Set) -> bool {
    before.size < set.size
}

/// Both are sorted, so one pass over both finds the differences.
fn update(before: &Set, after: &Set) -> SetChange {
    let shape = before.without_elements();
    let (mut gone, mut come) = (shape.elements.clone(), shape.elements.clone());
    let (olds, news) = (&before.elements, &after.elements);
    let (mut old, mut new) = (0, 0);
    while old < olds.len() || new < news.len() {
        let run = olds.equal_run(old, news, new);
        old += run;
        new += run;
        let left = (old < olds.len()).then(|| olds.row(old));
        let right = (new < news.len()).then(|| news.row(new));
        let order = match (left, right) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(left), Some(right)) => left.key.cmp(right.key),
        };
        if let Some(row) = left.filter(|_| order.is_le()) {
            gone.push_row(row);
            old += 1;
        }
        if let Some(row) = right.filter(|_| order.is_ge()) {
            come.push_row(row);
            new += 1;
        }
    }
    SetChange::Update { shape, gone, come }
}

fn diff_chains(patch: &mut Patch, old: &Table, new: &Table) {
    let rebuilt: BTreeSet<&str> = patch
        .sets
        .iter()
        .filter(|(_, change)| matches!(change, SetChange::Rebuild(_)))
        .map(|(name, _)| name.as_str())
        .collect();
    let mut changes = BTreeMap::new();
    for (name, chain) in &new.chains {
        let change = match old.chains.get(name) {
            None => ChainChange::Add(chain.clone()),
            Some(before) if before.base != chain.base => ChainChange::Rebuild(chain.clone()),
            Some(before) if before.rules != chain.rules || refers(chain, &rebuilt) => {
                ChainChange::Refill(chain.clone())
            }
            Some(_) => continue,
        };
        changes.insert(name.clone(), change);
    }
    for name in old.chains.keys().filter(|name| !new.chains.contains_key(*name)) {
        changes.insert(name.clone(), ChainChange::Delete);
    }
    patch.chains = changes;
}

/// Whether some rule of the chain looks one of these sets up.
fn refers(chain: &Chain, sets: &BTreeSet<&str>) -> bool {
    let statements = chain.rules.iter().flat_map(|rule| &rule.statements);
    !sets.is_empty() && statements.filter_map(Statement::set).any(|name| sets.contains(name))
}

/// `old` after `patch`.
#[must_use]
pub fn patched(old: Option<&Table>, patch: &Patch) -> Option<Table> {
    let mut table = match (patch.fate, old) {
        (Fate::Delete | Fate::Clear, _) | (Fate::Keep, None) => return None,
        (Fate::Keep, Some(old)) => old.clone(),
        (Fate::Create | Fate::Replace, _) => Table::new(patch.family, patch.table),
    };
    for (name, change) in &patch.sets {
        patch_set(&mut table, name, change);
    }
    for (name, change) in &patch.chains {
        match change {
            ChainChange::Add(chain) | ChainChange::Rebuild(chain) | ChainChange::Refill(chain) => {
                table.chains.insert(name.clone(), chain.clone());
            }
            ChainChange::Delete => {
                table.chains.remove(name);
            }
        }
    }
    Some(table)
}

fn patch_set(table: &mut Table, name: &str, change: &SetChange) {
    match change {
        SetChange::Add(set) | SetChange::Rebuild(set) => {
            table.sets.insert(name.to_owned(), set.clone());
        }
        SetChange::Delete => {
            table.sets.remove(name);
        }
        SetChange::Update { gone, come, .. } => {
            if let Some(set) = table.sets.get_mut(name) {
                set.elements = merged(&set.elements, gone, come);
            }
        }
    }
}

fn merged(before: &Elements, gone: &Elements, come: &Elements) -> Elements {
    let mut after = Elements::new(before.key_len(), before.value_len());
    after.reserve(before.len() + come.len());
    let mut news = come.iter().peekable();
    for row in before.iter().filter(|row| gone.get(row.key).is_none()) {
        while let Some(new) = news.next_if(|new| new.key < row.key) {
            after.push_row(new);
        }
        after.push_row(row);
    }
    news.for_each(|row| after.push_row(row));
    after
}
