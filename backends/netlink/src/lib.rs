//! Netlink as bytes: attributes, messages, nfnetlink batches, generic netlink, rtnetlink
//! and the kernel's replies.
//!
//! Invariant: no socket, no system call, and no knowledge of Services or rules. Whatever
//! comes from the kernel is read without panicking, and attributes that are not known are
//! passed over.

pub mod attr;
pub mod batch;
pub mod conntrack;
pub mod genl;
pub mod message;
pub mod reply;
pub mod route;
pub mod split;
