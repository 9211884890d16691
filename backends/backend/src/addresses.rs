//! The addresses of a node, which no rule says and which rules ask for all the same.
//!
//! Invariant: a question and its answer as data; who asks is of no concern here.

use crate::{Answer, Question};
use nfc_netlink::route::{self, RouteWriter};
use std::net::IpAddr;

/// Asks for all addresses of a network namespace.
#[must_use]
pub fn question() -> Question {
    let mut request = RouteWriter::new();
    request.list_addresses();
    Question::Route(request.into_bytes())
}

/// Reads the answer to [`question`].
#[must_use]
pub fn read(answer: &Answer) -> Vec<IpAddr> {
    route::addresses(&answer.0).map(|address| address.ip).collect()
}
