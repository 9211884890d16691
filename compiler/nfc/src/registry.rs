//! The backends by name.
//!
//! Invariant: the only place that lists them. A new backend is a folder and a line here.

use nfc_backend::{AnyBackend, Nothing};

/// Every backend that says something, in the order they are listed to people.
#[must_use]
pub fn all() -> Vec<Box<dyn AnyBackend>> {
    vec![Box::new(nfc_nft::Nft), Box::new(nfc_iptables::Iptables), Box::new(nfc_ipvs::Ipvs)]
}

/// The backend of this name; `none` is the one that says nothing.
#[must_use]
pub fn find(name: &str) -> Option<Box<dyn AnyBackend>> {
    let none: Box<dyn AnyBackend> = Box::new(Nothing);
    all().into_iter().chain([none]).find(|backend| backend.name() == name)
}
