//! What the nft backend wants in the kernel for one family.
//!
//! Invariant: plain data.

use nfc_ir::Family;
use nfc_ruleset::Table;
use std::net::IpAddr;

/// One table, or none, and the node it was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The family of the table.
    pub family: Family,
    /// The table; `None` where nfc owns nothing.
    pub table: Option<Table>,
    /// The node's addresses, which rules call `local` without naming them. Not in the
    /// kernel; a trace needs them.
    pub addresses: Vec<IpAddr>,
}

impl Program {
    /// The program of a node where nfc owns nothing.
    #[must_use]
    pub fn empty(family: Family) -> Self {
        Self { family, table: None, addresses: Vec::new() }
    }
}
