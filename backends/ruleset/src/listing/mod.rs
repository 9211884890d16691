//! nftables rules read from text: what `nft list ruleset` prints, a script as kube-proxy
//! writes it (`add rule ...`), and what [`render`](crate::render) prints.
//!
//! Reading cuts the text into tables, chains, sets and rules and no further: a rule of
//! somebody else that no packet of ours meets need not be understood. [`walk`] interprets
//! the rules that are met, word by word.
//!
//! Invariant: keeps every rule's own words and line; touches no kernel.

mod expr;
mod read;
mod run;
mod set;
mod token;
mod walk;

pub use read::read;

use crate::render::family_name;
use nfc_backend::journey::{Hook, ListingError, Way, journey};
use nfc_backend::{Process, Question};
use nfc_ir::{Family, Packet};
use set::Set;
use std::collections::BTreeMap;
use std::net::IpAddr;
use token::Token;

/// All tables of a listing.
#[derive(Debug, Default)]
pub struct Listing {
    tables: Vec<Table>,
}

#[derive(Debug)]
struct Table {
    /// `ip`, `ip6`, `inet` ...
    family: String,
    name: String,
    chains: BTreeMap<String, Chain>,
    sets: BTreeMap<String, Set>,
}

#[derive(Debug, Default)]
struct Chain {
    base: Option<Base>,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Base {
    is_nat: bool,
    hook: Hook,
    priority: i32,
    /// Line of a policy that is not accept.
    drops: Option<usize>,
}

#[derive(Debug)]
struct Rule {
    line: usize,
    /// The rule as it stands in the listing, its blanks made one.
    text: String,
    words: Vec<Token>,
}

impl Table {
    /// Whether packets of `family` meet the table's chains.
    fn is_for(&self, family: Family) -> bool {
        let own = family_name(family);
        self.family == own || self.family == "inet"
    }
}

/// Asks for the listing of one table, and of no other.
#[must_use]
pub fn question(family: Family, table: &str) -> Question {
    let args = ["list", "table", family_name(family), table].map(str::to_owned).into();
    Question::Process(Process { program: "nft", args, stdin: String::new() })
}

/// Every way of `packet` through the rules in `text`.
///
/// # Errors
///
/// [`ListingError`] when the text cannot be read, or the packet meets something whose
/// effect is not known.
pub fn explain(
    text: &str,
    addresses: &[IpAddr],
    packet: &Packet,
) -> Result<Vec<Way>, ListingError> {
    let listing = read(text)?;
    let family = Family::of(packet.destination.ip());
    if !listing.tables.iter().any(|table| table.is_for(family)) {
        let what = format!("the listing has no table that {family} packets meet");
        return Err(ListingError { line: 1, what });
    }
    journey(&listing, addresses, packet)
}
