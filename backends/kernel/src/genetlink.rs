//! Generic netlink: families found by name, and their messages sent.
//!
//! Invariant: knows no family but the controller.

use crate::socket::{AskError, Exchange, Protocol, Socket};
use nfc_netlink::attr::Writer;
use nfc_netlink::genl::{self, GenlMessage};
use nfc_netlink::message::{Messages, flags};
use std::io;

/// The number of a family in the running kernel; `None` when it has none of this name. The
/// controller tries to load the family's module first (`ctrl_getfamily`).
pub(crate) fn resolve(family: &str) -> io::Result<Option<u16>> {
    let request = finish(&genl::find_family(family), genl::CONTROLLER);
    let socket = Socket::open(Protocol::Generic, request.len(), 1)?;
    match socket.ask(&request) {
        Ok(answer) => Ok(Messages::new(&answer).find_map(|m| genl::family_number(&m))),
        Err(AskError::Refused(reply)) if reply.errno == libc::ENOENT => Ok(None),
        Err(AskError::Refused(reply)) => Err(io::Error::from_raw_os_error(reply.errno)),
        Err(AskError::Restless) => Err(io::ErrorKind::ResourceBusy.into()),
        Err(AskError::Io(error)) => Err(error),
    }
}

/// Sends `messages` together. The kernel carries them out one by one and answers those that
/// fail, and the last one in any case.
pub(crate) fn send(family: u16, messages: &[GenlMessage]) -> io::Result<Exchange> {
    let mut writer = Writer::with_capacity(messages.iter().map(GenlMessage::byte_count).sum());
    for (i, message) in messages.iter().enumerate() {
        let ask = if i + 1 == messages.len() { flags::ACK } else { 0 };
        let flags = message.flags & !flags::ACK | ask;
        let sequence = u32::try_from(i + 1).unwrap_or(u32::MAX);
        GenlMessage { flags, ..message.clone() }.write(&mut writer, family, sequence);
    }
    let bytes = writer.into_bytes();
    Socket::open(Protocol::Generic, bytes.len(), messages.len())?.exchange(&bytes)
}

/// Sends a request and returns the messages that answer it.
pub(crate) fn ask(family: u16, request: &GenlMessage) -> Result<Vec<u8>, AskError> {
    let request = finish(request, family);
    Socket::open(Protocol::Generic, request.len(), 1)?.ask(&request)
}

fn finish(message: &GenlMessage, family: u16) -> Vec<u8> {
    let mut writer = Writer::with_capacity(message.byte_count());
    message.write(&mut writer, family, 1);
    writer.into_bytes()
}
