//! The backends by name.
//!
//! Invariant: the only place that lists them. A new backend is a folder and a line here.

use nfc_backend::{AnyBackend, Backend, Nothing};
use nfc_nft::{Layout, Loading, Nft};

/// Every backend that says something, in the order they are listed to people.
#[must_use]
pub fn all() -> Vec<Box<dyn AnyBackend>> {
    vec![Box::new(Nft::default()), Box::new(nfc_iptables::Iptables), Box::new(nfc_ipvs::Ipvs)]
}

/// Backends that say the same as one of [`all`] in another layout.
#[must_use]
pub fn layouts() -> Vec<Box<dyn AnyBackend>> {
    vec![Box::new(Nft { layout: Layout::ConstantTime, ..Nft::default() })]
}

/// The backend of this name; `none` is the one that says nothing.
#[must_use]
pub fn find(name: &str) -> Option<Box<dyn AnyBackend>> {
    let none: Box<dyn AnyBackend> = Box::new(Nothing);
    all().into_iter().chain(layouts()).chain([none]).find(|backend| backend.name() == name)
}

/// The backend of this name that replaces everything without looking at what is there, as
/// far as it can do without.
#[must_use]
pub fn find_whole(name: &str) -> Option<Box<dyn AnyBackend>> {
    let whole = |layout| Nft { layout, loading: Loading::Whole };
    let nft = [Layout::Verdict, Layout::ConstantTime].map(whole);
    match nft.into_iter().find(|nft| Backend::name(nft) == name) {
        Some(nft) => Some(Box::new(nft)),
        None => find(name),
    }
}
