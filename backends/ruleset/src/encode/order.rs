//! What a patch asks of the kernel, message by message.
//!
//! Within a transaction the order is: chains, so that verdicts can lead to them; rules that
//! go, so that nothing refers to the sets that go; sets; rules; elements; and rules with
//! verdict maps last. Packets see all of it at once, but the kernel checks a map's elements
//! for each rule that looks it up, whichever comes later (`nf_tables_bind_set` and
//! `nft_add_set_elem` in `net/netfilter/nf_tables_api.c`): an endpoint is best checked when it
//! comes and not with all of them once more, and a verdict, for which older kernels walk all
//! others, when all are there.
//!
//! Invariant: one order is one message.

use super::elements;
use crate::diff::{ChainChange, Fate, Patch, SetChange};
use crate::{Chain, Elements, Rule, Set, Statement};
use std::ops::Range;

/// One message.
pub(super) enum Order<'a> {
    /// Makes the table.
    AddTable {
        /// Whether there must not be one yet.
        exclusive: bool,
    },
    /// Deletes the table with everything in it.
    DeleteTable,
    /// Makes a chain without rules.
    AddChain(&'a str, &'a Chain),
    /// Deletes a chain that nothing refers to.
    DeleteChain(&'a str),
    /// Deletes all rules of a chain.
    FlushChain(&'a str),
    /// Makes a set without elements.
    AddSet(&'a str, &'a Set),
    /// Deletes a set that nothing refers to.
    DeleteSet(&'a str),
    /// Adds elements to a set.
    AddElements(List<'a>),
    /// Deletes elements from a set.
    DeleteElements(List<'a>),
    /// Appends a rule to a chain.
    AddRule(&'a str, &'a Rule),
}

/// Some elements of a set.
pub(super) struct List<'a> {
    /// Name of the set.
    pub(super) name: &'a str,
    /// How the set is declared; its own elements do not matter.
    pub(super) shape: &'a Set,
    /// All elements that come or go.
    pub(super) elements: &'a Elements,
    /// Those of them that this message holds.
    pub(super) range: Range<usize>,
}

impl Order<'_> {
    /// About how many bytes the message will have, to make room with.
    pub(super) fn bytes_about(&self) -> usize {
        /// Most messages of single objects are shorter than this.
        const OBJECT: usize = 1024;
        match self {
            Self::AddElements(list) | Self::DeleteElements(list) => {
                let one = elements::size(list.shape, list.elements.row(list.range.start), true);
                OBJECT + list.range.len() * one
            }
            _ => OBJECT,
        }
    }

    fn element_count(&self) -> usize {
        match self {
            Self::AddElements(list) | Self::DeleteElements(list) => list.range.len(),
            _ => 0,
        }
    }
}

/// The transactions of a patch, in order. None of them is empty.
pub(super) fn transactions(patch: &Patch) -> Vec<Vec<Order<'_>>> {
    let mut all = if patch.fate == Fate::Create { load(patch) } else { vec![change(patch)] };
    let later = patch.chains.iter().filter_map(|(name, change)| match change {
        ChainChange::Delete => Some(Order::DeleteChain(name)),
        _ => None,
    });
    all.push(later.collect());
    all.retain(|orders| !orders.is_empty());
    all
}

/// All but the deletion of chains, at once.
fn change(patch: &Patch) -> Vec<Order<'_>> {
    let mut orders = Vec::new();
    table(&mut orders, patch.fate);
    chains_that_come(&mut orders, patch, |_| true);
    rules_that_go(&mut orders, patch);
    sets(&mut orders, patch);
    rules_that_come(&mut orders, patch, |chain| !has_vmap(chain));
    elements(&mut orders, patch);
    rules_that_come(&mut orders, patch, has_vmap);
    orders
}

/// A new table, in pieces of about [`Patch::seam`] elements when it has more. Base chains are
/// in the last one: until then no packet comes by.
fn load(patch: &Patch) -> Vec<Vec<Order<'_>>> {
    if element_count(patch) <= patch.seam {
        return vec![change(patch)];
    }
    let mut orders = Vec::new();
    table(&mut orders, patch.fate);
    chains_that_come(&mut orders, patch, |chain| chain.base.is_none());
    sets(&mut orders, patch);
    rules_that_come(&mut orders, patch, |chain| chain.base.is_none() && !has_vmap(chain));
    elements(&mut orders, patch);
    let (mut pieces, mut piece, mut count) = (Vec::new(), Vec::new(), 0);
    for order in orders {
        count += order.element_count();
        if count > patch.seam && !piece.is_empty() {
            pieces.push(std::mem::take(&mut piece));
            count = order.element_count();
        }
        piece.push(order);
    }
    pieces.push(piece);
    let mut last = Vec::new();
    chains_that_come(&mut last, patch, |chain| chain.base.is_some());
    rules_that_come(&mut last, patch, |chain| chain.base.is_some() || has_vmap(chain));
    pieces.push(last);
    pieces
}

/// How many elements a new table has.
fn element_count(patch: &Patch) -> usize {
    let of_set = |change: &SetChange| match change {
        SetChange::Add(set) | SetChange::Rebuild(set) => set.elements.len(),
        SetChange::Delete | SetChange::Update { .. } => 0,
    };
    patch.sets.values().map(of_set).sum()
}

fn table(orders: &mut Vec<Order<'_>>, fate: Fate) {
    let any = || Order::AddTable { exclusive: false };
    match fate {
        Fate::Keep => {}
        Fate::Create => orders.push(Order::AddTable { exclusive: true }),
        Fate::Delete => orders.push(Order::DeleteTable),
        Fate::Replace => orders.extend([any(), Order::DeleteTable, any()]),
        Fate::Clear => orders.extend([any(), Order::DeleteTable]),
    }
}

/// Those that are `meant`, in the order in which they are listed: the kernel lists chains as
/// they were made.
fn chains_that_come<'a>(
    orders: &mut Vec<Order<'a>>,
    patch: &'a Patch,
    meant: impl Fn(&Chain) -> bool,
) {
    let mut changes: Vec<_> = patch.chains.iter().collect();
    changes.sort_by_key(|(_, change)| match change {
        ChainChange::Add(chain) | ChainChange::Rebuild(chain) => chain.listing_place(),
        ChainChange::Refill(_) | ChainChange::Delete => (true, None),
    });
    for (name, change) in changes {
        match change {
            ChainChange::Add(chain) if meant(chain) => orders.push(Order::AddChain(name, chain)),
            ChainChange::Rebuild(chain) if meant(chain) => orders.extend([
                Order::FlushChain(name),
                Order::DeleteChain(name),
                Order::AddChain(name, chain),
            ]),
            _ => {}
        }
    }
}

fn rules_that_go<'a>(orders: &mut Vec<Order<'a>>, patch: &'a Patch) {
    for (name, change) in &patch.chains {
        if matches!(change, ChainChange::Refill(_) | ChainChange::Delete) {
            orders.push(Order::FlushChain(name));
        }
    }
}

fn rules_that_come<'a>(
    orders: &mut Vec<Order<'a>>,
    patch: &'a Patch,
    meant: impl Fn(&Chain) -> bool,
) {
    for (name, change) in &patch.chains {
        if let ChainChange::Add(chain) | ChainChange::Rebuild(chain) | ChainChange::Refill(chain) =
            change
            && meant(chain)
        {
            orders.extend(chain.rules.iter().map(|rule| Order::AddRule(name, rule)));
        }
    }
}

/// Whether some rule of the chain looks a verdict up.
fn has_vmap(chain: &Chain) -> bool {
    let mut statements = chain.rules.iter().flat_map(|rule| &rule.statements);
    statements.any(|statement| matches!(statement, Statement::Vmap { .. }))
}

/// The sets that go, and those that come, without elements.
fn sets<'a>(orders: &mut Vec<Order<'a>>, patch: &'a Patch) {
    for (name, change) in &patch.sets {
        match change {
            SetChange::Delete | SetChange::Rebuild(_) => orders.push(Order::DeleteSet(name)),
            SetChange::Add(_) | SetChange::Update { .. } => {}
        }
    }
    for (name, change) in &patch.sets {
        if let SetChange::Add(set) | SetChange::Rebuild(set) = change {
            orders.push(Order::AddSet(name, set));
        }
    }
}

fn elements<'a>(orders: &mut Vec<Order<'a>>, patch: &'a Patch) {
    for (name, change) in &patch.sets {
        match change {
            SetChange::Delete => {}
            SetChange::Add(set) | SetChange::Rebuild(set) => {
                orders.extend(lists(name, set, &set.elements, true).map(Order::AddElements));
            }
            SetChange::Update { shape, gone, come } => {
                orders.extend(lists(name, shape, gone, false).map(Order::DeleteElements));
                orders.extend(lists(name, shape, come, true).map(Order::AddElements));
            }
        }
    }
}

/// The elements in lists that fit into one message each.
fn lists<'a>(
    name: &'a str,
    shape: &'a Set,
    elements: &'a Elements,
    with_values: bool,
) -> impl Iterator<Item = List<'a>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let range = elements::chunk(shape, elements, start, with_values);
        start = range.end;
        (!range.is_empty()).then_some(List { name, shape, elements, range })
    })
}
