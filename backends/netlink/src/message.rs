//! Netlink messages: the header, a protocol's fixed part, attributes
//! (`include/uapi/linux/netlink.h`, `struct nlmsghdr`).
//!
//! Invariant: knows no protocol's message types but netlink's own four.

use crate::attr::{Attrs, Writer, align};

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 16;

/// Flags of a message (`NLM_F_*`).
pub mod flags {
    /// A request; every message to the kernel is one.
    pub const REQUEST: u16 = 0x1;
    /// Answer with an acknowledgement even when all went well.
    pub const ACK: u16 = 0x4;
    /// Fail when the object exists already.
    pub const EXCL: u16 = 0x200;
    /// Create the object when it does not exist.
    pub const CREATE: u16 = 0x400;
    /// Append to a list of objects.
    pub const APPEND: u16 = 0x800;
    /// Return all objects (`NLM_F_ROOT | NLM_F_MATCH`).
    pub const DUMP: u16 = 0x300;
    /// In an acknowledgement: the request is quoted by its header only (`NLM_F_CAPPED`).
    pub const CAPPED: u16 = 0x100;
    /// In an acknowledgement: extended attributes follow (`NLM_F_ACK_TLVS`).
    pub const ACK_TLVS: u16 = 0x200;
}

/// Types that netlink itself defines (`NLMSG_*`).
pub mod kinds {
    /// Nothing.
    pub const NOOP: u16 = 1;
    /// An error, or with error number 0 an acknowledgement.
    pub const ERROR: u16 = 2;
    /// The end of a dump.
    pub const DONE: u16 = 3;
}

/// Appends one message to `writer`: header, then what `fill` writes.
///
/// `fill` writes the protocol's fixed part with [`Writer::raw`] and then attributes.
pub fn write(
    writer: &mut Writer,
    kind: u16,
    flags: u16,
    sequence: u32,
    fill: impl FnOnce(&mut Writer),
) {
    let start = writer.len();
    let mut header = [0; HEADER_LEN];
    header[4..6].copy_from_slice(&kind.to_ne_bytes());
    header[6..8].copy_from_slice(&(flags | flags::REQUEST).to_ne_bytes());
    header[8..12].copy_from_slice(&sequence.to_ne_bytes());
    writer.raw(&header);
    fill(writer);
    // A buffer that the kernel would take is far below 4 GiB.
    let length = u32::try_from(writer.len() - start).unwrap_or(u32::MAX);
    writer.patch(start, &length.to_ne_bytes());
}

/// Numbers the messages in `bytes` from 1 on and has only the last of them acknowledged, so
/// that an answer names its message and any number of messages has a short answer.
pub fn number(bytes: &mut [u8]) {
    let mut starts = Vec::new();
    let mut start = 0;
    for message in Messages::new(bytes) {
        starts.push((start, message.flags & !flags::ACK));
        start += align(HEADER_LEN + message.payload.len());
    }
    let count = starts.len();
    for (i, (start, flags)) in starts.into_iter().enumerate() {
        let ask = if i + 1 == count { flags::ACK } else { 0 };
        bytes[start + 6..start + 8].copy_from_slice(&(flags | ask).to_ne_bytes());
        let sequence = u32::try_from(i + 1).unwrap_or(u32::MAX);
        bytes[start + 8..start + 12].copy_from_slice(&sequence.to_ne_bytes());
    }
}

/// A message that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its type.
    pub kind: u16,
    /// Its flags.
    pub flags: u16,
    /// The sequence number of the request it answers.
    pub sequence: u32,
    /// All after the header.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes after a fixed part of `fixed` bytes.
    #[must_use]
    pub fn attrs(&self, fixed: usize) -> Attrs<'a> {
        Attrs::new(self.payload.get(align(fixed)..).unwrap_or_default())
    }
}

/// Reads messages one after the other; a length that makes no sense ends the walk.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    /// The messages in `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let header = self.rest.get(..HEADER_LEN)?;
        let word = |at: usize| u32::from_ne_bytes([0, 1, 2, 3].map(|i| header[at + i]));
        let half = |at: usize| u16::from_ne_bytes([0, 1].map(|i| header[at + i]));
        let length = usize::try_from(word(0)).ok()?;
        let payload = self.rest.get(HEADER_LEN..length)?;
        let message = Message { kind: half(4), flags: half(6), sequence: word(8), payload };
        self.rest = self.rest.get(align(length)..).unwrap_or_default();
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let mut writer = Writer::new();
        write(&mut writer, 0x0a03, flags::ACK, 7, |w| {
            w.raw(&[2, 0, 0, 0]);
            w.text(1, "t");
        });
        write(&mut writer, kinds::DONE, 0, 8, |_| ());
        let messages: Vec<_> = Messages::new(writer.bytes()).collect();
        assert_eq!(messages.len(), 2);
        assert_eq!((messages[0].kind, messages[0].flags, messages[0].sequence), (0x0a03, 5, 7));
        assert_eq!(messages[0].attrs(4).next().and_then(|a| a.text()), Some("t"));
        assert_eq!((messages[1].kind, messages[1].payload), (kinds::DONE, &[][..]));
    }

    #[test]
    fn numbered_messages_count_from_one_and_the_last_is_acknowledged() {
        let mut writer = Writer::new();
        write(&mut writer, 24, flags::CREATE | flags::ACK, 9, |w| w.raw(&[1, 2, 3]));
        write(&mut writer, 25, flags::CREATE, 9, |_| ());
        let mut bytes = writer.into_bytes();
        number(&mut bytes);
        let seen: Vec<_> = Messages::new(&bytes).map(|m| (m.kind, m.flags, m.sequence)).collect();
        let create = flags::REQUEST | flags::CREATE;
        assert_eq!(seen, [(24, create, 1), (25, create | flags::ACK, 2)]);
    }

    #[test]
    fn nonsense_ends_the_walk() {
        for bytes in [&[][..], &[1; 15], &[0; 16], &[255; 40]] {
            assert_eq!(Messages::new(bytes).next(), None);
        }
    }
}
