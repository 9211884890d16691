//! A patch as nf_tables transactions, and back from a place in one to what stands there.
//!
//! Both walk the same list of orders, so blame cannot disagree with what was sent, and
//! nothing has to be remembered while encoding.
//!
//! Attribute and message numbers are those of `uapi/linux/netfilter/nf_tables.h`; orders
//! and userdata are as nft 1.0.6 writes them.
//!
//! Invariant: bytes only; the patch alone decides what is in them.

mod blame;
pub(crate) mod declare;
pub(crate) mod elements;
mod order;
pub(crate) mod rule;
mod script;
pub(crate) mod userdata;

pub use blame::{Blamed, blame};
pub use script::{NEXT_TRANSACTION, scripts};

use crate::diff::{Fate, Patch};
use nfc_backend::Step;
use nfc_ir::Family;
use nfc_netlink::batch::{Batch, BatchWriter};
use nfc_netlink::message::flags;
use order::{Order, transactions};

/// `NFNL_SUBSYS_NFTABLES` (`uapi/linux/netfilter/nfnetlink.h`).
pub(crate) const SUBSYSTEM: u8 = 10;

/// Message types, `enum nf_tables_msg_types`.
pub(crate) mod kinds {
    pub(crate) const NEW_TABLE: u8 = 0;
    pub(crate) const DEL_TABLE: u8 = 2;
    pub(crate) const NEW_CHAIN: u8 = 3;
    pub(crate) const DEL_CHAIN: u8 = 5;
    pub(crate) const NEW_RULE: u8 = 6;
    pub(crate) const DEL_RULE: u8 = 8;
    pub(crate) const NEW_SET: u8 = 9;
    pub(crate) const DEL_SET: u8 = 11;
    pub(crate) const NEW_ELEMENTS: u8 = 12;
    pub(crate) const DEL_ELEMENTS: u8 = 14;
}

/// The attribute that names the table in every message (`NFTA_TABLE_NAME` and its like).
pub(crate) const TABLE: u16 = 1;

/// The steps that carry out `patch`: one transaction, two when chains are deleted, more for a
/// large table that is new, none when nothing changes.
#[must_use]
pub fn encode(patch: &Patch) -> Vec<Step> {
    let transactions = transactions(patch);
    let each = (0..).zip(&transactions);
    each.map(|(i, orders)| Step::Nftables(batch(patch, orders, generation(patch, i)))).collect()
}

/// How many transactions carry out `patch`.
pub(crate) fn transaction_count(patch: &Patch) -> usize {
    transactions(patch).len()
}

/// The generation that transaction number `index` builds on. Each makes the next one, which
/// is never 0 (`nf_tables_commit`). Only the deletion of chains builds on nothing.
fn generation(patch: &Patch, index: u32) -> Option<u32> {
    let first = patch.generation.filter(|_| index == 0 || patch.fate == Fate::Create)?;
    let wrapped = u32::from(first.checked_add(index).is_none());
    Some(first.wrapping_add(index).wrapping_add(wrapped))
}

fn batch(patch: &Patch, orders: &[Order], generation: Option<u32>) -> Batch {
    let bytes = orders.iter().map(Order::bytes_about).sum();
    let mut batch = BatchWriter::with_capacity(SUBSYSTEM, bytes);
    if let Some(generation) = generation {
        batch.expect_generation(generation);
    }
    for (id, order) in (1..).zip(orders) {
        write(&mut batch, patch, order, id);
    }
    let finished = batch.finish();
    finished.unwrap_or_else(|_| unreachable!("lists of elements are split, and no rule is long"))
}

/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
pub(crate) fn family_number(family: Family) -> u8 {
    match family {
        Family::Ipv4 => 2,
        Family::Ipv6 => 10,
    }
}

/// Writes one order. `id` tells sets of one transaction apart.
fn write(batch: &mut BatchWriter, patch: &Patch, order: &Order, id: u32) {
    let (kind, flags) = head(order);
    batch.message(kind, flags, family_number(patch.family), |w| {
        w.text(TABLE, patch.table);
        match order {
            Order::AddTable { .. } | Order::DeleteTable => {}
            Order::AddChain(name, chain) => declare::chain(w, name, chain),
            Order::DeleteChain(name) => w.text(declare::CHAIN_NAME, name),
            Order::FlushChain(name) => w.text(rule::CHAIN, name),
            Order::AddSet(name, set) => declare::set(w, patch.family, name, set, id),
            Order::DeleteSet(name) => w.text(declare::SET_NAME, name),
            Order::AddElements(list) => elements::write(w, patch.family, list, true),
            Order::DeleteElements(list) => elements::write(w, patch.family, list, false),
            Order::AddRule(chain, rule) => rule::write(w, patch.family, chain, rule),
        }
    });
    if let Order::AddElements(_) | Order::DeleteElements(_) = order {
        batch.may_split(elements::LIST_ELEMENTS);
    }
}

fn head(order: &Order) -> (u8, u16) {
    match order {
        Order::AddTable { exclusive: true } => (kinds::NEW_TABLE, flags::CREATE | flags::EXCL),
        Order::AddTable { exclusive: false } => (kinds::NEW_TABLE, flags::CREATE),
        Order::DeleteTable => (kinds::DEL_TABLE, 0),
        Order::AddChain(..) => (kinds::NEW_CHAIN, flags::CREATE),
        Order::DeleteChain(_) => (kinds::DEL_CHAIN, 0),
        Order::FlushChain(_) => (kinds::DEL_RULE, 0),
        Order::AddSet(..) => (kinds::NEW_SET, flags::CREATE | flags::EXCL),
        Order::DeleteSet(_) => (kinds::DEL_SET, 0),
        Order::AddElements(_) => (kinds::NEW_ELEMENTS, flags::CREATE | flags::EXCL),
        Order::DeleteElements(_) => (kinds::DEL_ELEMENTS, 0),
        Order::AddRule(..) => (kinds::NEW_RULE, flags::CREATE | flags::APPEND),
    }
}
