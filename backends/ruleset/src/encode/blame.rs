//! From a place in a transaction to what stands there.
//!
//! The kernel goes on to the next message when it has refused one, and names the first thing
//! in it that it cannot take (`nfnetlink_rcv_batch` in `net/netfilter/nfnetlink.c`). Of several
//! bad elements in a list of up to 65,000 bytes it would tell the first: lists are marked as
//! such, so that an executor can send them once more element by element
//! ([`nfc_netlink::split`]). The places it tells are those of the transaction as it was.
//!
//! Invariant: walks the orders that [`super::encode`] wrote, and reads the kernel's offset
//! in the message as the same writer would have written it.

use super::elements;
use super::order::{List, Order, transactions};
use crate::diff::Patch;
use crate::render;
use nfc_backend::Fault;
use nfc_netlink::attr;
use nfc_netlink::message;

/// What stands at a place.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Blamed {
    /// What was to be done: `add element services { 172.30.0.1 . tcp . 80 }`.
    pub object: String,
    /// The comment of the element in question, if it has one.
    pub comment: Option<String>,
}

/// What stands at the place of `fault`; without one, the table.
#[must_use]
pub fn blame(patch: &Patch, fault: &Fault) -> Blamed {
    let sent = transactions(patch);
    let step = sent.get(fault.step);
    match step.zip(fault.message).and_then(|(orders, index)| orders.get(index)) {
        Some(order) => describe(patch, order, fault.offset),
        None => named(format!("table {}", patch.table)),
    }
}

fn named(object: String) -> Blamed {
    Blamed { object, comment: None }
}

fn describe(patch: &Patch, order: &Order<'_>, offset: Option<usize>) -> Blamed {
    match order {
        Order::AddTable { .. } => named(format!("add table {}", patch.table)),
        Order::DeleteTable => named(format!("delete table {}", patch.table)),
        Order::AddChain(name, _) => named(format!("add chain {name}")),
        Order::DeleteChain(name) => named(format!("delete chain {name}")),
        Order::FlushChain(name) => named(format!("flush chain {name}")),
        Order::AddSet(name, _) => named(format!("add set {name}")),
        Order::DeleteSet(name) => named(format!("delete set {name}")),
        Order::AddElements(list) => element(patch, list, offset, "add", true),
        Order::DeleteElements(list) => element(patch, list, offset, "delete", false),
        Order::AddRule(chain, rule) => {
            let text = render::rule_text(patch.family, rule);
            named(format!("add rule {chain} {text}"))
        }
    }
}

fn element(
    patch: &Patch,
    list: &List<'_>,
    offset: Option<usize>,
    verb: &str,
    with_values: bool,
) -> Blamed {
    let found = offset.and_then(|offset| index_at(patch, list, offset, with_values));
    let Some(index) = found else {
        return named(format!("{verb} element {}", list.name));
    };
    let row = list.elements.row(index);
    let key = render::key_text(patch.family, list.shape, row);
    Blamed {
        object: format!("{verb} element {} {{ {key} }}", list.name),
        comment: (!row.comment.is_empty()).then(|| row.comment.to_owned()),
    }
}

/// The element whose bytes hold `offset`, counted from the start of the message's header.
fn index_at(patch: &Patch, list: &List<'_>, offset: usize, with_values: bool) -> Option<usize> {
    let text = |text: &str| attr::align(attr::HEADER_LEN + text.len() + 1);
    // The netlink header, the nfgenmsg, the two names, the header of the list.
    let names = text(patch.table) + text(list.name);
    let mut start = message::HEADER_LEN + 4 + names + attr::HEADER_LEN;
    for index in list.range.clone() {
        let end = start + elements::size(list.shape, list.elements.row(index), with_values);
        if (start..end).contains(&offset) {
            return Some(index);
        }
        start = end;
    }
    None
}
