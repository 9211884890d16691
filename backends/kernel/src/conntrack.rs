//! Connection tracking of the calling thread's namespace.
//!
//! Invariant: lists and forgets; which connections those are is decided elsewhere.

use crate::socket::{AskError, Protocol, Socket};
use nfc_netlink::attr::Writer;
use nfc_netlink::conntrack;
use nfc_netlink::message::{self, flags};
use std::io;

pub use nfc_netlink::conntrack::Connection;

/// Forgets all connections of both families: a delete without a filter
/// (`IPCTNL_MSG_CT_DELETE`, `net/netfilter/nf_conntrack_netlink.c`). The next packet of each
/// is a first packet again.
///
/// # Errors
///
/// `EPERM` without `CAP_NET_ADMIN`; `EOPNOTSUPP` or `EINVAL` when the kernel has no conntrack
/// that listens to netlink (`CONFIG_NF_CT_NETLINK`).
pub fn forget() -> io::Result<()> {
    const DELETE: u16 = 1 << 8 | 2;
    let mut writer = Writer::new();
    message::write(&mut writer, DELETE, flags::ACK, 1, |w| w.raw(&[0; 4]));
    carry_out(&writer.into_bytes())
}

/// Forgets one connection; the next packet of it is a first packet again. One that is gone
/// already is no failure.
///
/// # Errors
///
/// As [`forget()`].
pub fn forget_one(connection: &Connection) -> io::Result<()> {
    match carry_out(&conntrack::delete(connection)) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        done => done,
    }
}

/// All connections of protocols with ports, of both families. One that changes its state
/// meanwhile may be listed twice or not at all.
///
/// # Errors
///
/// As [`forget()`].
pub fn list() -> io::Result<Vec<Connection>> {
    let request = conntrack::list();
    let answer = Socket::open(Protocol::Netfilter, request.len(), 1)?.ask(&request);
    match answer {
        Ok(answer) => Ok(conntrack::connections(&answer).collect()),
        Err(AskError::Refused(reply)) => Err(io::Error::from_raw_os_error(reply.errno)),
        Err(AskError::Restless) => Err(io::ErrorKind::ResourceBusy.into()),
        Err(AskError::Io(error)) => Err(error),
    }
}

fn carry_out(request: &[u8]) -> io::Result<()> {
    let exchange = Socket::open(Protocol::Netfilter, request.len(), 1)?.exchange(request)?;
    match exchange.errors().next() {
        Some(reply) => Err(io::Error::from_raw_os_error(reply.errno)),
        None => Ok(()),
    }
}
