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
use nfc_netlink::message::Messages;
use nfc_netlink::reply::Reply;
use nfc_netlink::split::Split;
use std::io;
use std::time::{Duration, Instant};

/// nf_tables among the subsystems of nfnetlink (`linux/netfilter/nfnetlink.h`), and two of its
/// messages (`enum nf_tables_msg_types` in `linux/netfilter/nf_tables.h`).
const SUBSYSTEM: u16 = 10;
const DELETE_TABLE: u16 = 2;
const DELETE_CHAIN: u16 = 5;

/// How many elements are sent in pieces at most. If all of them are bad, the receive buffer
/// holds an answer to each.
const PIECES_MAX: usize = 65_536;

/// The socket that transactions go through, and how long it is kept.
///
/// When such a socket is closed, the kernel waits until what was deleted is gone
/// (`nft_rcv_nl_event` in `net/netfilter/nf_tables_api.c`), which takes some milliseconds, and
/// nothing when nothing was deleted. Who changes single elements again and again has nothing
/// from that. But before Linux 6.2 a chain that deleted elements led to cannot be deleted until
/// they are gone (`EBUSY`), so what takes chains away begins with closing.
#[derive(Debug)]
pub(crate) struct Line {
    socket: Option<Socket>,
    is_kept: bool,
}

impl Line {
    /// Closed after each transaction: whatever comes next finds that what was deleted is gone.
    pub(crate) const fn brief() -> Self {
        Self { socket: None, is_kept: false }
    }

    /// Kept open, in the namespace of the first transaction.
    pub(crate) const fn kept() -> Self {
        Self { socket: None, is_kept: true }
    }

    /// A socket with room for `batch` and its answers.
    fn socket(&mut self, batch: &Batch, room: Room) -> io::Result<&Socket> {
        if takes_chains(batch) {
            self.socket = None;
        }
        let (bytes, messages) = (batch.bytes().len(), batch.message_count());
        let socket = match self.socket.take() {
            Some(socket) => {
                socket.make_room(bytes, messages)?;
                socket
            }
            None => Socket::open(Protocol::Netfilter, bytes, messages)?,
        };
        socket.limit(room)?;
        Ok(self.socket.insert(socket))
    }

    /// Carries out `batch`; the time is without closing the socket.
    fn send(&mut self, batch: &Batch, room: Room) -> Result<Duration, Trouble> {
        let exchange = self.socket(batch, room)?.exchange(batch.bytes());
        // What was not read of an answer must not be taken for the next one.
        if !self.is_kept || exchange.is_err() {
            self.socket = None;
        }
        let exchange = exchange?;
        let lacks_nftables =
            |r: &Reply| batch.index_of(r.sequence).is_none() && is_unknown(r.errno);
        if exchange.errors().any(lacks_nftables) {
            return Err(features::no_nftables().into());
        }
        verdict(&exchange, |sequence| batch.index_of(sequence))
    }
}

/// Whether `batch` deletes chains, by themselves or with their table.
fn takes_chains(batch: &Batch) -> bool {
    let takes = [DELETE_TABLE, DELETE_CHAIN].map(|kind| SUBSYSTEM << 8 | kind);
    Messages::new(batch.bytes()).any(|message| takes.contains(&message.kind))
}

/// Carries out `batch` through `line`, with buffers that have this room.
pub(crate) fn carry_out(batch: &Batch, line: &mut Line, room: Room) -> Result<Duration, Trouble> {
    if batch.is_empty() {
        return Ok(Duration::ZERO);
    }
    let begin = Instant::now();
    let faults = match line.send(batch, room) {
        Err(Trouble::Faults(faults)) => faults,
        other => return other,
    };
    find_out(batch, faults, line, room).map(|_| begin.elapsed())
}

/// Sends a refused transaction once more to hear of further faults than these.
fn find_out(
    batch: &Batch,
    mut faults: Vec<Fault>,
    line: &mut Line,
    room: Room,
) -> Result<Duration, Trouble> {
    let refused = faults.iter().filter_map(|fault| Some((fault.message?, fault.offset)));
    let Some(split) = batch.split(refused, PIECES_MAX) else {
        return Err(Trouble::Faults(faults));
    };
    match line.send(&split.batch, room) {
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
