//! Netlink sockets.
//!
//! nfnetlink, rtnetlink and generic netlink do their work inside `send`, in the caller's
//! thread, and put all answers into the socket's receive buffer before `send` returns. So an
//! exchange is one `send`, then reading until nothing is left, without waiting.
//!
//! A batch goes out in one `send`, whatever its size: the kernel would discard one that
//! arrives in pieces. For that the send buffer must hold it (`netlink_sendmsg` in
//! `net/netlink/af_netlink.c` refuses with `EMSGSIZE`).
//!
//! Invariant: knows messages and answers, and nothing of what they are about.

use crate::sys;
use nfc_netlink::attr::align;
use nfc_netlink::message::{HEADER_LEN, Messages};
use nfc_netlink::reply::Reply;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// `SOL_NETLINK` and its options (`uapi/linux/netlink.h`).
const SOL_NETLINK: i32 = 270;
const CAP_ACK: i32 = 10;
const EXT_ACK: i32 = 11;

/// Room in the send buffer beside the messages; the kernel keeps 32 bytes for itself.
const SEND_SLACK_BYTES: usize = 4096;

/// Room in the receive buffer for one answer. An answer takes a few hundred bytes with its
/// bookkeeping, and a bit more with words.
const ANSWER_BYTES: usize = 1024;

/// The receive buffer is never smaller, nor larger, than this.
const RECEIVE_BYTES_MIN: usize = 1 << 20;
const RECEIVE_BYTES_MAX: usize = 64 << 20;

/// A dump's first receive buffer. The kernel fills up to 32 KiB at a time
/// (`netlink_dump`), but single messages may be longer.
const DUMP_BYTES: usize = 64 << 10;

/// How often a dump is repeated when its objects changed under it.
const DUMP_ATTEMPTS: usize = 8;

/// `NLM_F_DUMP_INTR` and `NLM_F_MULTI`.
const INTERRUPTED: u16 = 0x10;
const MULTI: u16 = 0x2;

/// A netlink protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Route,
    Netfilter,
    Generic,
}

impl Protocol {
    fn number(self) -> i32 {
        match self {
            Self::Route => libc::NETLINK_ROUTE,
            Self::Netfilter => libc::NETLINK_NETFILTER,
            Self::Generic => libc::NETLINK_GENERIC,
        }
    }
}

/// Limits of a socket's buffers, where there are any. The kernel grants twice as much, for its
/// own bookkeeping (`socket(7)`).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Room {
    /// For what goes out at once.
    pub(crate) request_bytes: Option<usize>,
    /// For answers that were not read yet.
    pub(crate) answer_bytes: Option<usize>,
}

/// A netlink socket in the namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
}

/// What came of one `send`.
pub(crate) struct Exchange {
    /// The answers, in the order of the messages they are about.
    pub(crate) replies: Vec<Reply>,
    /// Whether the receive buffer was too small for all answers (`ENOBUFS`).
    pub(crate) overrun: bool,
    /// From before `send` until the last answer was read.
    pub(crate) elapsed: Duration,
}

impl Exchange {
    /// The answers that are errors.
    pub(crate) fn errors(&self) -> impl Iterator<Item = &Reply> {
        self.replies.iter().filter(|r| !r.is_ok())
    }
}

impl Socket {
    /// A socket that can take `bytes` in one `send` and up to `messages` answers to it.
    pub(crate) fn open(protocol: Protocol, bytes: usize, messages: usize) -> io::Result<Self> {
        let fd = sys::socket(libc::AF_NETLINK, libc::SOCK_RAW, protocol.number())?;
        for option in [CAP_ACK, EXT_ACK] {
            sys::set_option(fd.as_fd(), SOL_NETLINK, option, 1)?;
        }
        let socket = Self { fd };
        socket.make_room(bytes, messages)?;
        Ok(socket)
    }

    /// Makes room for `bytes` in one `send` and up to `messages` answers to it.
    pub(crate) fn make_room(&self, bytes: usize, messages: usize) -> io::Result<()> {
        self.set_buffer(libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, bytes + SEND_SLACK_BYTES)?;
        let answers = messages.saturating_mul(ANSWER_BYTES);
        let answers = answers.clamp(RECEIVE_BYTES_MIN, RECEIVE_BYTES_MAX);
        self.set_buffer(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, answers)
    }

    /// Leaves no more room than `room` says.
    pub(crate) fn limit(&self, room: Room) -> io::Result<()> {
        if let Some(bytes) = room.request_bytes {
            self.set_buffer(libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, bytes)?;
        }
        if let Some(bytes) = room.answer_bytes {
            self.set_buffer(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, bytes)?;
        }
        Ok(())
    }

    /// Asks for a buffer beyond the limits of ordinary users, and for what these allow when
    /// that is refused.
    fn set_buffer(&self, force: i32, ordinary: i32, bytes: usize) -> io::Result<()> {
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
        let set = |name| sys::set_option(self.fd.as_fd(), libc::SOL_SOCKET, name, bytes);
        set(force).or_else(|_| set(ordinary))
    }

    /// Sends `bytes` at once and reads all answers.
    pub(crate) fn exchange(&self, bytes: &[u8]) -> io::Result<Exchange> {
        let start = Instant::now();
        self.send(bytes)?;
        let mut exchange =
            Exchange { replies: Vec::new(), overrun: false, elapsed: Duration::ZERO };
        let mut buffer = vec![0; ANSWER_BYTES];
        loop {
            match self.receive(&mut buffer, libc::MSG_DONTWAIT) {
                Ok(length) => exchange.replies.extend(replies(&buffer[..length])),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => exchange.overrun = true,
                Err(e) => return Err(e),
            }
        }
        exchange.elapsed = start.elapsed();
        Ok(exchange)
    }

    /// Sends a request and returns the messages that answer it, headers included, without
    /// the one that ends them.
    pub(crate) fn ask(&self, request: &[u8]) -> Result<Vec<u8>, AskError> {
        for _ in 0..DUMP_ATTEMPTS {
            self.send(request)?;
            if let Some(answer) = self.collect()? {
                return Ok(answer);
            }
        }
        Err(AskError::Restless)
    }

    /// All messages up to the end of the answer; `None` when the objects changed meanwhile,
    /// or when messages were lost: then what is left is read, so that it is not taken for
    /// the answer to the next request.
    fn collect(&self) -> Result<Option<Vec<u8>>, AskError> {
        let mut answer = Vec::new();
        let mut buffer = vec![0; DUMP_BYTES];
        let mut interrupted = false;
        loop {
            let length = match self.receive(&mut buffer, 0) {
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    interrupted = true;
                    continue;
                }
                received => received?,
            };
            let mut end = 0;
            for message in Messages::new(&buffer[..length]) {
                let start = end;
                end = (start + align(HEADER_LEN + message.payload.len())).min(length);
                interrupted |= message.flags & INTERRUPTED != 0;
                if let Some(reply) = Reply::read(&message) {
                    let whole = (!interrupted).then_some(answer);
                    return if reply.is_ok() { Ok(whole) } else { Err(AskError::Refused(reply)) };
                }
                answer.extend_from_slice(&buffer[start..end]);
                if message.flags & MULTI == 0 {
                    return Ok(Some(answer));
                }
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let sent = retry(|| sys::send(self.fd.as_fd(), bytes))?;
        if sent == bytes.len() {
            Ok(())
        } else {
            Err(io::Error::other(format!("{sent} of {} bytes were taken", bytes.len())))
        }
    }

    /// Receives one datagram, growing `buffer` when it does not fit.
    fn receive(&self, buffer: &mut Vec<u8>, flags: i32) -> io::Result<usize> {
        let peek = flags | libc::MSG_PEEK | libc::MSG_TRUNC;
        let length = retry(|| sys::receive(self.fd.as_fd(), &mut [], peek))?;
        if length > buffer.len() {
            buffer.resize(length, 0);
        }
        retry(|| sys::receive(self.fd.as_fd(), buffer, flags))
    }
}

fn replies(bytes: &[u8]) -> impl Iterator<Item = Reply> + '_ {
    Messages::new(bytes).filter_map(|m| Reply::read(&m))
}

/// Repeats a call that a signal interrupted.
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            other => return other,
        }
    }
}

/// Why a request was not answered.
#[derive(Debug)]
pub(crate) enum AskError {
    /// The kernel said no.
    Refused(Reply),
    /// The objects changed each time while they were read.
    Restless,
    /// The socket failed.
    Io(io::Error),
}

impl From<io::Error> for AskError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
