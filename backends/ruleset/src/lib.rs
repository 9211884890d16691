//! One nftables table as data: its text, its bytes, its difference from another, and what
//! it does to a packet.
//!
//! Two backends stand on this room: nft, whose whole program is a table, and IPVS, which
//! says with a table what virtual servers cannot say.
//!
//! Invariant: knows nftables and no Service; touches no kernel.

pub mod diff;
pub mod elements;
pub mod encode;
pub mod expr;
pub mod listing;
pub mod observe;
pub mod program;
pub mod render;
mod summary;
pub mod trace;

pub use diff::{ChainChange, Fate, Patch, SetChange, diff, patched};
pub use elements::{Elements, Key, Row};
pub use expr::{Expr, Generator, Match, Statement, Transport, Verdict};
pub use program::{Base, Chain, ChainType, Fields, Hook, Rule, Set, Table, Type, Value};
