//! nfnetlink batches: all messages between a begin and an end take effect together or not
//! at all (`net/netfilter/nfnetlink.c`, `nfnetlink_rcv_batch`).
//!
//! The kernel answers a batch with one error message for each message that failed, and
//! with acknowledgements where they were asked for. Only the last message asks, so that a
//! batch of any length has a short answer.
//!
//! Invariant: one batch is one buffer, to be sent by one `send`: the kernel discards a
//! batch that arrives in pieces.

use crate::attr::Writer;
use crate::message::{self, flags};
use std::collections::BTreeMap;

/// `NFNL_MSG_BATCH_BEGIN` and `NFNL_MSG_BATCH_END` (`uapi/linux/netfilter/nfnetlink.h`).
const BEGIN: u16 = 0x10;
const END: u16 = 0x11;
/// `NFNL_BATCH_GENID`.
pub(crate) const GENERATION: u16 = 1;

/// A finished batch.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    starts: Vec<usize>,
    lists: BTreeMap<usize, u16>,
}

impl Batch {
    /// The bytes to send.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many messages there are between begin and end.
    #[must_use]
    pub fn message_count(&self) -> usize {
        self.starts.len()
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// The index of the message that the kernel answers with this sequence number; `None`
    /// when the answer is about the batch as a whole.
    #[must_use]
    pub fn index_of(&self, sequence: u32) -> Option<usize> {
        let index = usize::try_from(sequence).ok()?.checked_sub(1)?;
        (index < self.starts.len()).then_some(index)
    }

    /// The type of the list in a message that may be split.
    pub(crate) fn list_of(&self, index: usize) -> Option<u16> {
        self.lists.get(&index).copied()
    }
}

/// Writes a batch message by message.
#[derive(Debug)]
pub struct BatchWriter {
    writer: Writer,
    starts: Vec<usize>,
    lists: BTreeMap<usize, u16>,
    subsystem: u8,
}

impl BatchWriter {
    /// Begins a batch for `subsystem` (`NFNL_SUBSYS_NFTABLES` is 10).
    #[must_use]
    pub fn new(subsystem: u8) -> Self {
        Self::with_capacity(subsystem, 4096)
    }

    /// The same, with room for `capacity` bytes: a long batch that is known to be one is
    /// then not copied while it grows.
    #[must_use]
    pub fn with_capacity(subsystem: u8, capacity: usize) -> Self {
        let mut writer = Writer::with_capacity(capacity);
        write_edge(&mut writer, BEGIN, 0, subsystem, None);
        Self { writer, starts: Vec::new(), lists: BTreeMap::new(), subsystem }
    }

    /// Appends a message of this subsystem. `family` goes into its `nfgenmsg`; `fill`
    /// writes the attributes.
    pub fn message(&mut self, kind: u8, flags: u16, family: u8, fill: impl FnOnce(&mut Writer)) {
        self.starts.push(self.writer.len());
        let kind = u16::from(self.subsystem) << 8 | u16::from(kind);
        message::write(&mut self.writer, kind, flags, sequence(self.starts.len()), |w| {
            w.raw(&[family, 0, 0, 0]);
            fill(w);
        });
    }

    /// Says of the message appended last that its last attribute, of type `list`, holds
    /// attributes that could as well come one by one, each in such a message of its own.
    pub fn may_split(&mut self, list: u16) {
        if let Some(last) = self.starts.len().checked_sub(1) {
            self.lists.insert(last, list);
        }
    }

    /// Has the kernel refuse the batch (`ERESTART`) unless its count of changes to the
    /// subsystem's objects is still `generation` (`NFNL_BATCH_GENID`). Has to be said
    /// before the first message.
    pub fn expect_generation(&mut self, generation: u32) {
        self.writer = Writer::with_capacity(self.writer.capacity());
        write_edge(&mut self.writer, BEGIN, 0, self.subsystem, Some(generation));
    }

    /// How many messages were appended.
    #[must_use]
    pub fn message_count(&self) -> usize {
        self.starts.len()
    }

    /// Ends the batch and asks for an acknowledgement of its last message.
    ///
    /// # Errors
    ///
    /// [`TooLong`] when some attribute outgrew its length field: a bug in whoever filled
    /// the messages, since lists have to be split before that.
    pub fn finish(self) -> Result<Batch, TooLong> {
        let Self { mut writer, starts, lists, subsystem } = self;
        if writer.is_too_long() {
            return Err(TooLong);
        }
        if let Some(last) = starts.last() {
            let at = last + 6;
            let old = u16::from_ne_bytes([writer.bytes()[at], writer.bytes()[at + 1]]);
            writer.patch(at, &(old | flags::ACK).to_ne_bytes());
        }
        write_edge(&mut writer, END, sequence(starts.len() + 1), subsystem, None);
        Ok(Batch { bytes: writer.into_bytes(), starts, lists })
    }
}

/// Message n, counted from 1, has sequence number n; the begin has 0.
fn sequence(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn write_edge(
    writer: &mut Writer,
    kind: u16,
    sequence: u32,
    subsystem: u8,
    generation: Option<u32>,
) {
    message::write(writer, kind, 0, sequence, |w| {
        w.raw(&[0, 0, 0, subsystem]);
        generation.into_iter().for_each(|generation| w.be32(GENERATION, generation));
    });
}

/// An attribute is longer than 65,535 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a netlink attribute outgrew 65,535 bytes")]
pub struct TooLong;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Messages;

    #[test]
    fn only_the_last_message_asks_for_an_acknowledgement() {
        let mut batch = BatchWriter::new(10);
        batch.message(0, flags::CREATE, 2, |w| w.text(1, "a"));
        batch.message(3, flags::CREATE, 2, |w| w.text(1, "b"));
        let batch = batch.finish().expect("short enough");
        let seen: Vec<_> =
            Messages::new(batch.bytes()).map(|m| (m.kind, m.flags, m.sequence)).collect();
        let asked = flags::REQUEST | flags::CREATE | flags::ACK;
        let expected = [
            (BEGIN, flags::REQUEST, 0),
            (0x0a00, flags::REQUEST | flags::CREATE, 1),
            (0x0a03, asked, 2),
            (END, flags::REQUEST, 3),
        ];
        assert_eq!(seen, expected);
        assert_eq!(
            (batch.index_of(0), batch.index_of(2), batch.index_of(3)),
            (None, Some(1), None)
        );
    }

    #[test]
    fn an_expected_generation_is_said_at_the_beginning() {
        let mut batch = BatchWriter::new(10);
        batch.expect_generation(0x0102_0304);
        batch.message(0, 0, 2, |w| w.text(1, "a"));
        let batch = batch.finish().expect("short enough");
        let begin = Messages::new(batch.bytes()).next().expect("a begin");
        assert_eq!(begin.kind, BEGIN);
        let generation = begin.attrs(4).find(GENERATION).and_then(|a| a.be32());
        assert_eq!(generation, Some(0x0102_0304));
        assert_eq!((batch.message_count(), batch.index_of(1)), (1, Some(0)));
    }
}
