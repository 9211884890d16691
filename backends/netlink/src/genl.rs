//! Generic netlink: families that are found by name (`include/uapi/linux/genetlink.h`).
//!
//! Invariant: knows the controller family, which resolves names, and no other.

use crate::attr::Writer;
use crate::message;

/// A message of a generic netlink family, whose number is not known before it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenlMessage {
    /// The family's command.
    pub command: u8,
    /// The family's version.
    pub version: u8,
    /// Flags of the netlink header.
    pub flags: u16,
    /// The attributes, as [`Writer`] wrote them.
    pub attrs: Vec<u8>,
}

impl GenlMessage {
    /// Length of the generic netlink header in bytes.
    pub const HEADER_LEN: usize = 4;

    /// Bytes of the finished message.
    #[must_use]
    pub fn byte_count(&self) -> usize {
        message::HEADER_LEN + Self::HEADER_LEN + self.attrs.len()
    }

    /// Appends the finished message, now that the family's number is known.
    pub fn write(&self, writer: &mut Writer, family: u16, sequence: u32) {
        message::write(writer, family, self.flags, sequence, |w| {
            w.raw(&[self.command, self.version, 0, 0]);
            w.raw(&self.attrs);
        });
    }
}
