//! Packets as bytes: whole Ethernet frames at a link (`packet(7)`), and whole IP packets
//! sent by this host itself (`raw(7)`).
//!
//! On veth the whole way of a frame runs inside the `send` that put it there: when `send`
//! returns, the frame has been received, forwarded or dropped at the far end.
//!
//! Invariant: moves bytes and reads no header.

use crate::sys;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// `SOL_PACKET` and its option that leaves out what this host sends
/// (`uapi/linux/if_packet.h`; Linux 4.20).
const SOL_PACKET: i32 = 263;
const IGNORE_OUTGOING: i32 = 23;

/// `ETH_P_ALL`: frames of every protocol.
const ALL_PROTOCOLS: u16 = 3;

/// Receive buffer of a [`FrameReceiver`], in bytes: some ten thousand small frames.
const RECEIVE_BYTES: i32 = 8 << 20;

/// Sends frames out of one link.
#[derive(Debug)]
pub struct FrameSender {
    fd: OwnedFd,
}

impl FrameSender {
    /// A sender at the link with this number in the calling thread's namespace.
    ///
    /// # Errors
    ///
    /// `EPERM` without `CAP_NET_RAW`, `ENODEV` when there is no such link.
    pub fn open(link: u32) -> io::Result<Self> {
        let fd = sys::socket(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
        sys::bind_packet(fd.as_fd(), number(link)?, 0)?;
        Ok(Self { fd })
    }

    /// Sends one frame, Ethernet header included, and returns when it has gone all the way
    /// that it can go on this CPU.
    ///
    /// # Errors
    ///
    /// `ENETDOWN` when the link is down, `ENOBUFS` when it is too busy.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        sys::send(self.fd.as_fd(), frame).map(drop)
    }
}

/// Receives the frames that come in at one link, as they were on the wire: before any rule
/// of this namespace has seen them.
#[derive(Debug)]
pub struct FrameReceiver {
    fd: OwnedFd,
}

impl FrameReceiver {
    /// A receiver at the link with this number in the calling thread's namespace.
    ///
    /// # Errors
    ///
    /// `EPERM` without `CAP_NET_RAW`, `ENODEV` when there is no such link.
    pub fn open(link: u32) -> io::Result<Self> {
        // With protocol 0 nothing arrives before the link is chosen.
        let fd = sys::socket(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
        sys::set_option(fd.as_fd(), SOL_PACKET, IGNORE_OUTGOING, 1)?;
        let buffer = |name| sys::set_option(fd.as_fd(), libc::SOL_SOCKET, name, RECEIVE_BYTES);
        buffer(libc::SO_RCVBUFFORCE).or_else(|_| buffer(libc::SO_RCVBUF))?;
        sys::bind_packet(fd.as_fd(), number(link)?, ALL_PROTOCOLS)?;
        Ok(Self { fd })
    }

    /// The length of the next frame, now in `buffer` as far as it fits; `None` when there is
    /// none yet.
    ///
    /// # Errors
    ///
    /// The system's error, as `ENETDOWN` when the link goes down.
    pub fn try_receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        try_receive(&self.fd, buffer)
    }

    /// The same, but waits until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`try_receive`](Self::try_receive).
    pub fn receive(&self, buffer: &mut [u8], deadline: Instant) -> io::Result<Option<usize>> {
        receive(&self.fd, buffer, deadline)
    }
}

/// Sends and receives whole IP packets of this host itself: what is sent goes through the
/// OUTPUT hook, what is received has come through INPUT.
#[derive(Debug)]
pub struct RawSocket {
    fd: OwnedFd,
}

impl RawSocket {
    /// A sender of IP packets whose header is ours (`IPPROTO_RAW`), of the family of
    /// `address`.
    ///
    /// # Errors
    ///
    /// `EPERM` without `CAP_NET_RAW`.
    pub fn sender(ipv6: bool) -> io::Result<Self> {
        Ok(Self { fd: sys::socket(domain(ipv6), libc::SOCK_RAW, libc::IPPROTO_RAW)? })
    }

    /// A receiver of packets of one protocol that were delivered to this host. For IPv4 they
    /// begin with the IP header, for IPv6 behind it.
    ///
    /// # Errors
    ///
    /// `EPERM` without `CAP_NET_RAW`.
    pub fn receiver(ipv6: bool, protocol: u8) -> io::Result<Self> {
        let fd = sys::socket(domain(ipv6), libc::SOCK_RAW, protocol.into())?;
        Ok(Self { fd })
    }

    /// Sends one packet, IP header included, towards `destination`.
    ///
    /// # Errors
    ///
    /// `EPERM` when a rule drops it, `ENETUNREACH` without a route.
    pub fn send(&self, packet: &[u8], destination: IpAddr) -> io::Result<()> {
        sys::send_to(self.fd.as_fd(), packet, destination).map(drop)
    }

    /// The length of the next packet, now in `buffer` as far as it fits; `None` when there
    /// is none yet.
    ///
    /// # Errors
    ///
    /// The system's error.
    pub fn try_receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        try_receive(&self.fd, buffer)
    }
}

fn domain(ipv6: bool) -> i32 {
    if ipv6 { libc::AF_INET6 } else { libc::AF_INET }
}

fn number(link: u32) -> io::Result<i32> {
    i32::try_from(link).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))
}

fn try_receive(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
    match sys::receive(fd.as_fd(), buffer, flags) {
        Ok(length) => Ok(Some(length)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        Err(error) => Err(error),
    }
}

fn receive(fd: &OwnedFd, buffer: &mut [u8], deadline: Instant) -> io::Result<Option<usize>> {
    loop {
        if let Some(length) = try_receive(fd, buffer)? {
            return Ok(Some(length));
        }
        let left: Duration = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        sys::wait_readable(fd.as_fd(), left)?;
    }
}
