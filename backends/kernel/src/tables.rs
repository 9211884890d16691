//! Which chains of nftables there are, asked for one by one and by name.
//!
//! Nothing is listed: whoever else has tables is not looked at, and what a newer tool put
//! into them cannot confuse.
//!
//! Invariant: knows that chains have names, and no chain's meaning.

use crate::apply;
use crate::socket::{AskError, Protocol, Socket};
use nfc_netlink::attr::Writer;
use nfc_netlink::message;
use std::io;

/// `NFNL_SUBSYS_NFTABLES` and `NFT_MSG_GETCHAIN` (`uapi/linux/netfilter/nf_tables.h`).
const GET_CHAIN: u16 = 10 << 8 | 4;
/// `NFTA_CHAIN_TABLE` and `NFTA_CHAIN_NAME`.
const TABLE: u16 = 1;
const NAME: u16 = 3;

/// Whether table `table` of the family `ip`, or `ip6`, has a chain `chain`. A kernel without
/// nftables has none.
///
/// # Errors
///
/// The system's error, as without root.
pub fn has_chain(ipv6: bool, table: &str, chain: &str) -> io::Result<bool> {
    let family = if ipv6 { 10 } else { 2 };
    let mut writer = Writer::new();
    message::write(&mut writer, GET_CHAIN, 0, 1, |w| {
        w.raw(&[family, 0, 0, 0]);
        w.text(TABLE, table);
        w.text(NAME, chain);
    });
    let request = writer.into_bytes();
    match Socket::open(Protocol::Netfilter, request.len(), 1)?.ask(&request) {
        Ok(_) => Ok(true),
        Err(AskError::Refused(reply)) if reply.errno == libc::ENOENT => Ok(false),
        Err(AskError::Refused(reply)) if apply::is_unknown(reply.errno) => Ok(false),
        Err(AskError::Refused(reply)) => Err(io::Error::from_raw_os_error(reply.errno)),
        Err(AskError::Restless) => Err(io::ErrorKind::ResourceBusy.into()),
        Err(AskError::Io(error)) => Err(error),
    }
}
