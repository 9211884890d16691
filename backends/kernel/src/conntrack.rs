//! Connection tracking of the calling thread's namespace.
//!
//! Invariant: forgets; what is remembered is the kernel's affair.

use crate::socket::{Protocol, Socket};
use nfc_netlink::attr::Writer;
use nfc_netlink::message::{self, flags};
use std::io;

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
    let request = writer.into_bytes();
    let exchange = Socket::open(Protocol::Netfilter, request.len(), 1)?.exchange(&request)?;
    match exchange.errors().next() {
        Some(reply) => Err(io::Error::from_raw_os_error(reply.errno)),
        None => Ok(()),
    }
}
