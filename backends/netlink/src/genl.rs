//! Generic netlink: families that are found by name (`include/uapi/linux/genetlink.h`).
//!
//! Invariant: knows the controller family, which resolves names, and no other.

use crate::attr::Writer;
use crate::message::{self, Message};

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

/// The number of the controller family, which never changes (`GENL_ID_CTRL`).
pub const CONTROLLER: u16 = 0x10;

/// `CTRL_ATTR_FAMILY_ID` and `CTRL_ATTR_FAMILY_NAME`.
const FAMILY_NUMBER: u16 = 1;
const FAMILY_NAME: u16 = 2;

/// Asks the controller for the number of the family called `name` (`CTRL_CMD_GETFAMILY`).
/// The answer is `ENOENT` when there is none.
#[must_use]
pub fn find_family(name: &str) -> GenlMessage {
    const GET_FAMILY: u8 = 3;
    let mut attrs = Writer::new();
    attrs.text(FAMILY_NAME, name);
    GenlMessage { command: GET_FAMILY, version: 1, flags: 0, attrs: attrs.into_bytes() }
}

/// The number in the controller's answer to [`find_family`].
#[must_use]
pub fn family_number(answer: &Message<'_>) -> Option<u16> {
    let attr = answer.attrs(GenlMessage::HEADER_LEN).find(FAMILY_NUMBER)?;
    attr.payload.try_into().ok().map(u16::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Messages;

    #[test]
    fn a_family_is_asked_for_by_name_and_answered_by_number() {
        let mut writer = Writer::new();
        find_family("IPVS").write(&mut writer, CONTROLLER, 1);
        let request = Messages::new(writer.bytes()).next().expect("a message");
        assert_eq!((request.kind, request.payload[..4].to_vec()), (16, vec![3, 1, 0, 0]));
        let name = request.attrs(4).find(FAMILY_NAME).and_then(|a| a.text());
        assert_eq!(name, Some("IPVS"));

        let mut answer = Writer::new();
        message::write(&mut answer, CONTROLLER, 0, 1, |w| {
            w.raw(&[1, 2, 0, 0]);
            w.text(FAMILY_NAME, "IPVS");
            w.u16(FAMILY_NUMBER, 37);
        });
        let answer = Messages::new(answer.bytes()).next().expect("a message");
        assert_eq!(family_number(&answer), Some(37));
    }
}
