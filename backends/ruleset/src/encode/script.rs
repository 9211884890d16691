//! A patch as the commands that `nft -f` takes, one for each message that is sent.
//!
//! Each transaction is a script of its own; `nft -f` makes one transaction of a script.
//!
//! Invariant: walks the same orders as the bytes, so that it says neither more nor less.

use super::order::{List, Order, transactions};
use crate::diff::Patch;
use crate::render::{chain_text, element_text, family_name, key_text, rule_text, set_text};
use crate::{Chain, Elements, Row, Set};
use nfc_ir::Family;

/// Stands between scripts that are printed together. `nft -f` takes all that it reads as one
/// transaction, so that they have to be given to it one by one.
pub const NEXT_TRANSACTION: &str = "# The next transaction, for a second nft -f.\n";

/// The scripts that carry out `patch`, in order: one, two when chains are deleted, none when
/// nothing changes.
#[must_use]
pub fn scripts(patch: &Patch) -> Vec<String> {
    let script = |orders: &Vec<Order<'_>>| orders.iter().map(|o| command(patch, o)).collect();
    transactions(patch).iter().map(script).collect()
}

fn command(patch: &Patch, order: &Order<'_>) -> String {
    let family = family_name(patch.family);
    let table = format!("{family} {}", patch.table);
    match order {
        Order::AddTable { exclusive: true } => format!("create table {table}\n"),
        Order::AddTable { exclusive: false } => format!("add table {table}\n"),
        Order::DeleteTable => format!("delete table {table}\n"),
        Order::AddChain(name, chain) => add_chain(patch.family, &table, name, chain),
        Order::DeleteChain(name) => format!("delete chain {table} {name}\n"),
        Order::FlushChain(name) => format!("flush chain {table} {name}\n"),
        Order::AddSet(name, set) => add_set(patch.family, &table, name, set),
        Order::DeleteSet(name) => format!("delete set {table} {name}\n"),
        Order::AddElements(list) => {
            let text = |row: Row<'_>| element_text(patch.family, list.shape, row);
            format!("add element {table} {} {{ {} }}\n", list.name, elements(list, text))
        }
        Order::DeleteElements(list) => {
            let text = |row: Row<'_>| key_text(patch.family, list.shape, row);
            format!("delete element {table} {} {{ {} }}\n", list.name, elements(list, text))
        }
        Order::AddRule(chain, rule) => {
            format!("add rule {table} {chain} {}\n", rule_text(patch.family, rule))
        }
    }
}

/// Elements one below the other, so that a change can be read.
fn elements(list: &List<'_>, text: impl Fn(Row<'_>) -> String) -> String {
    let rows = list.range.clone().map(|i| text(list.elements.row(i)));
    rows.collect::<Vec<_>>().join(",\n\t")
}

fn add_chain(family: Family, table: &str, name: &str, chain: &Chain) -> String {
    let bare = Chain { base: chain.base, rules: Vec::new() };
    declaration(&chain_text(family, name, &bare), &format!("chain {table}"))
}

fn add_set(family: Family, table: &str, name: &str, set: &Set) -> String {
    let bare = Set { elements: Elements::new(0, 0), ..set.clone() };
    let text = set_text(family, name, &bare);
    let kind = if text.trim_start().starts_with("map") { "map" } else { "set" };
    declaration(&text, &format!("{kind} {table}"))
}

/// What stands inside of a table as the command that adds it: the first line has another
/// head, and all are a level further out.
fn declaration(listed: &str, head: &str) -> String {
    let mut lines = listed.lines().map(|line| line.strip_prefix('\t').unwrap_or(line));
    let first = lines.next().and_then(|line| line.split_once(' ')).map_or("", |(_, rest)| rest);
    let rest: Vec<_> = lines.collect();
    match rest.as_slice() {
        // A chain that nothing is said about but its name.
        ["}"] => format!("add {head} {}\n", first.trim_end_matches(" {")),
        rest => format!("add {head} {first}\n{}\n", rest.join("\n")),
    }
}
