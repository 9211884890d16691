//! What a patch asks of the kernel, message by message.
//!
//! Within the first transaction the order is: chains, so that verdicts can lead to them;
//! rules that go, so that nothing refers to the sets that go; sets and elements; rules that
//! come. Packets see all of it at once.
//!
//! Invariant: one order is one message.

use super::elements;
use crate::diff::{ChainChange, Fate, Patch, SetChange};
use crate::{Chain, Elements, Rule, Set};
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
}

/// The two transactions of a patch; an empty one is not sent.
pub(super) fn transactions(patch: &Patch) -> [Vec<Order<'_>>; 2] {
    let mut first = Vec::new();
    table(&mut first, patch.fate);
    chains_that_come(&mut first, patch);
    rules_that_go(&mut first, patch);
    sets(&mut first, patch);
    rules_that_come(&mut first, patch);
    let later = patch.chains.iter().filter_map(|(name, change)| match change {
        ChainChange::Delete => Some(Order::DeleteChain(name)),
        _ => None,
    });
    [first, later.collect()]
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

/// In the order in which they are listed: the kernel lists chains as they were made.
fn chains_that_come<'a>(orders: &mut Vec<Order<'a>>, patch: &'a Patch) {
    let mut changes: Vec<_> = patch.chains.iter().collect();
    changes.sort_by_key(|(_, change)| match change {
        ChainChange::Add(chain) | ChainChange::Rebuild(chain) => chain.listing_place(),
        ChainChange::Refill(_) | ChainChange::Delete => (true, None),
    });
    for (name, change) in changes {
        match change {
            ChainChange::Add(chain) => orders.push(Order::AddChain(name, chain)),
            ChainChange::Rebuild(chain) => orders.extend([
                Order::FlushChain(name),
                Order::DeleteChain(name),
                Order::AddChain(name, chain),
            ]),
            ChainChange::Refill(_) | ChainChange::Delete => {}
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

fn rules_that_come<'a>(orders: &mut Vec<Order<'a>>, patch: &'a Patch) {
    for (name, change) in &patch.chains {
        if let ChainChange::Add(chain) | ChainChange::Rebuild(chain) | ChainChange::Refill(chain) =
            change
        {
            orders.extend(chain.rules.iter().map(|rule| Order::AddRule(name, rule)));
        }
    }
}

fn sets<'a>(orders: &mut Vec<Order<'a>>, patch: &'a Patch) {
    for (name, change) in &patch.sets {
        match change {
            SetChange::Delete | SetChange::Rebuild(_) => orders.push(Order::DeleteSet(name)),
            SetChange::Add(_) | SetChange::Update { .. } => {}
        }
    }
    for (name, change) in &patch.sets {
        match change {
            SetChange::Delete => {}
            SetChange::Add(set) | SetChange::Rebuild(set) => {
                orders.push(Order::AddSet(name, set));
                let lists = lists(name, set, &set.elements, true);
                orders.extend(lists.map(Order::AddElements));
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
