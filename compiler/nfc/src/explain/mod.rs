//! Why a packet goes where it goes: first in terms of Services, then in rules.
//!
//! Both halves are told on their own: [`meaning`] reads the Services, the backend reads the
//! text of its rules as it would be loaded. Where they differ, the answer says so.
//!
//! Invariant: pure; takes Services or a listing, gives values that are printed by [`text`]
//! and [`document`].

mod account;
mod document;
mod meaning;
mod packet;
mod text;

pub use account::{Account, Counted, Met, Traced, counted, traced};
pub use document::document;
pub use meaning::{Chosen, Hit, Meaning, Told, frontend_name, meaning};
pub use packet::{Asked, Origin, PacketError};
pub use text::text;

use nfc_backend::AnyBackend;
use nfc_backend::journey::{self, End, ListingError, Visit, Way};
use nfc_ir::{Ir, Outcome, Packet, ProxyMode};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What one backend makes of a packet.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation<'a> {
    /// Name of the backend.
    pub backend: &'static str,
    /// The mode whose promises it keeps.
    pub mode: ProxyMode,
    /// The packet.
    pub packet: Packet,
    /// In terms of Services; `None` when only rules were given.
    pub meaning: Option<Meaning<'a>>,
    /// In rules. Ways that differ only in what chance drew are one.
    pub ways: Vec<Way>,
    /// What became of real packets, and of how many; empty when none were sent.
    pub landings: BTreeMap<String, usize>,
    /// What the kernel itself says of one packet; `None` when none was sent.
    pub kernel: Option<Account>,
}

impl Explanation<'_> {
    /// What the rules do; `None` when chance decides between outcomes of different kinds.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        journey::outcome(&self.ways)
    }

    /// Whether the rules do what the Services mean, as far as Services were given.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        let Some(meaning) = &self.meaning else { return true };
        self.outcome().is_some_and(|told| told.agrees_with(&meaning.outcome))
    }
}

/// What the rules that `backend` makes of `ir` do to `packet`, and why.
///
/// # Errors
///
/// [`ListingError`] when the backend's own text cannot be followed, which is a bug.
pub fn explain<'a>(
    backend: &dyn AnyBackend,
    ir: &'a Ir,
    packet: &Packet,
) -> Result<Explanation<'a>, ListingError> {
    let listing = backend.render(&[backend.lower(ir).program]);
    let mut explanation = explain_listing(backend, &listing, &ir.node().addresses, packet)?;
    explanation.meaning = Some(meaning(ir, backend.mode(), packet));
    Ok(explanation)
}

/// What the rules of `listing` do to `packet` on a node with these `addresses`.
///
/// # Errors
///
/// [`ListingError`] when the listing cannot be read, or the packet meets something in it
/// that is not understood.
pub fn explain_listing(
    backend: &dyn AnyBackend,
    listing: &str,
    addresses: &[IpAddr],
    packet: &Packet,
) -> Result<Explanation<'static>, ListingError> {
    let ways = backend.explain(listing, addresses, packet)?;
    Ok(Explanation {
        backend: backend.name(),
        mode: backend.mode(),
        packet: packet.clone(),
        meaning: None,
        ways: merged(ways),
        landings: BTreeMap::new(),
        kernel: None,
    })
}

/// Makes one of ways that met the same and ended the same, in the order in which they came.
fn merged(ways: Vec<Way>) -> Vec<Way> {
    let mut seen: BTreeMap<(Vec<Visit>, End), usize> = BTreeMap::new();
    let mut kept: Vec<Way> = Vec::new();
    for way in ways {
        let next = kept.len();
        let index = *seen.entry((way.visits.clone(), way.end)).or_insert(next);
        match kept.get_mut(index) {
            Some(same) => same.share += way.share,
            None => kept.push(way),
        }
    }
    kept
}
