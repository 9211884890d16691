//! nf_tables transactions, and all that is wrong with one that is refused.
//!
//! Of a list of elements the kernel names the first that it cannot take. So a transaction that
//! is refused is sent once more with such lists in pieces of one element, only to hear of the
//! others: it is refused as a whole again. Should the reason be gone by then, it is carried out,
//! which is what was asked for.
//!
//! Invariant: what succeeds is sent once, and as it is.

use crate::apply::{Trouble, is_unknown, verdict};
use crate::features;
use crate::socket::{Protocol, Room, Socket};
use nfc_backend::Fault;
use nfc_netlink::batch::Batch;
use nfc_netlink::reply::Reply;
use nfc_netlink::split::Split;
use std::time::{Duration, Instant};

/// How many elements are sent in pieces at most. If all of them are bad, the receive buffer
/// holds an answer to each.
const PIECES_MAX: usize = 65_536;

/// Carries out `batch` through sockets with this room.
pub(crate) fn carry_out(batch: &Batch, room: Room) -> Result<Duration, Trouble> {
    if batch.is_empty() {
        return Ok(Duration::ZERO);
    }
    let begin = Instant::now();
    let faults = match send(batch, room) {
        Err(Trouble::Faults(faults)) => faults,
        other => return other,
    };
    find_out(batch, faults, room).map(|_| begin.elapsed())
}

/// One transaction through a socket of its own. When that is closed, the kernel waits until what
/// the transaction deleted is gone (`nft_rcv_nl_event` in `net/netfilter/nf_tables_api.c`):
/// until then, before Linux 6.2, chains that nothing leads to any more cannot be deleted
/// (`EBUSY`), as the next step may ask for. The caller waits for some milliseconds, which are
/// not in the time that is returned; it waits for nothing when nothing was deleted.
fn send(batch: &Batch, room: Room) -> Result<Duration, Trouble> {
    let socket = Socket::open(Protocol::Netfilter, batch.bytes().len(), batch.message_count())?;
    socket.limit(room)?;
    let exchange = socket.exchange(batch.bytes())?;
    let lacks_nftables = |r: &Reply| batch.index_of(r.sequence).is_none() && is_unknown(r.errno);
    if exchange.errors().any(lacks_nftables) {
        return Err(features::no_nftables().into());
    }
    verdict(&exchange, |sequence| batch.index_of(sequence))
}

/// Sends a refused transaction once more to hear of further faults than these.
fn find_out(batch: &Batch, mut faults: Vec<Fault>, room: Room) -> Result<Duration, Trouble> {
    let refused = faults.iter().filter_map(|fault| Some((fault.message?, fault.offset)));
    let Some(split) = batch.split(refused, PIECES_MAX) else {
        return Err(Trouble::Faults(faults));
    };
    match send(&split.batch, room) {
        Err(Trouble::Faults(more)) => faults.extend(more.into_iter().map(|f| placed(f, &split))),
        // It is longer than the first one, and was not sent.
        Err(Trouble::Missing(_)) => faults.push(unsearched()),
        other => return other,
    }
    faults.extend((!split.complete).then(unsearched));
    Err(Trouble::Faults(in_order(faults)))
}

/// A fault of the split transaction at its place in the transaction as it was.
fn placed(fault: Fault, split: &Split) -> Fault {
    let place = fault.message.and_then(|message| split.place(message, fault.offset));
    let (message, offset) = place.map_or((None, None), |(m, offset)| (Some(m), offset));
    Fault { message, offset, ..fault }
}

/// Stands for faults that were not looked for.
fn unsearched() -> Fault {
    let words = "of some lists only the first bad element was looked for".to_owned();
    Fault { step: 0, message: None, offset: None, errno: 0, words }
}

/// Each fault once, by the place that it is about; those about the whole are first.
fn in_order(mut faults: Vec<Fault>) -> Vec<Fault> {
    let place = |f: &Fault| (f.message, f.offset, f.errno);
    faults.sort_by_key(place);
    faults.dedup_by_key(|fault| place(fault));
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_is_told_once_and_in_order() {
        let at = |message, offset, errno| Fault {
            step: 0,
            message,
            offset,
            errno,
            words: String::new(),
        };
        let (whole, first, second) =
            (at(None, None, 105), at(Some(0), Some(9), 17), at(Some(1), Some(4), 17));
        let said = [&second, &whole, &first, &whole, &second].map(Clone::clone);
        assert_eq!(in_order(said.to_vec()), [whole, first, second]);
    }
}
