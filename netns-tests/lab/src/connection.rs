//! Whole TCP connections: ordinary sockets at both ends, held by one thread.
//!
//! On veth a packet goes all its way inside the system call that sends it, the answer of the
//! other end's TCP included. So one thread can be client and server by turns and never waits,
//! and a connection costs what the system calls of both ends cost.
//!
//! Invariant: raw samples only; computes no statistics.

use crate::{LabError, Landing, World};
use nfc_ir::Choice;
use nfc_kernel::{monotonic_ns, pin_to_cpu};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// How long the server may take to learn of a connection that the client has; on an idle
/// machine it knows at once.
const PATIENCE: Duration = Duration::from_secs(2);

/// What was asked and what is answered: one byte each.
const WORD: [u8; 1] = *b"?";

/// One connection that was made and closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connected {
    /// How long it took, in nanoseconds: `socket` and `connect` of the client, `accept` of the
    /// server, one byte there and one back, and `close` at both ends, the client's first. On
    /// the wire these are SYN, SYN-ACK, ACK, two segments with a byte and their
    /// acknowledgements, and FIN and ACK both ways.
    pub took_ns: u64,
    /// Where it ended.
    pub landing: Landing,
}

/// A listener at every address of the backend, and a client. The world's packets have to be
/// [`Delivery::Answered`](crate::Delivery).
#[derive(Debug)]
pub struct Connections<'a> {
    world: &'a World,
    listener: TcpListener,
    cpu: usize,
}

impl<'a> Connections<'a> {
    /// Listens on `port` of all IPv4 addresses of the backend; measures on this CPU.
    ///
    /// # Errors
    ///
    /// [`LabError::Socket`].
    pub fn new(world: &'a World, port: u16, cpu: usize) -> Result<Self, LabError> {
        let listen = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
        let listener = world.backend().run(listen)??;
        listener.set_nonblocking(true)?;
        Ok(Self { world, listener, cpu })
    }

    /// Makes one connection to each of `destinations`, one after the other.
    ///
    /// # Errors
    ///
    /// [`LabError`]: a connection that is refused or does not come about is one.
    pub fn make(&self, destinations: &[SocketAddr]) -> Result<Vec<Connected>, LabError> {
        let work = || {
            pin_to_cpu(self.cpu)?;
            let client = self.world.client();
            client.run(|| destinations.iter().map(|d| self.connect(*d)).collect())?
        };
        // On a thread of its own, so that the caller's stays free of the CPU.
        let done = std::thread::scope(|scope| scope.spawn(work).join());
        done.unwrap_or_else(|_| Err(io::Error::other("the client's thread died").into()))
    }

    fn connect(&self, destination: SocketAddr) -> Result<Connected, LabError> {
        let start = monotonic_ns();
        let mut client = TcpStream::connect(destination)?;
        // The third packet of the handshake may be put off to a thread of the kernel's.
        let (mut server, seen) = loop {
            match self.listener.accept() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                accepted => break accepted?,
            }
            if monotonic_ns() - start > nanoseconds(PATIENCE) {
                return Err(io::Error::from(io::ErrorKind::TimedOut).into());
            }
        };
        let mut word = WORD;
        client.write_all(&word)?;
        server.read_exact(&mut word)?;
        server.write_all(&word)?;
        client.read_exact(&mut word)?;
        let halfway_ns = monotonic_ns() - start;
        let own = client.local_addr()?;
        let endpoint = server.local_addr()?;
        let again = monotonic_ns();
        drop(client);
        drop(server);
        let took_ns = halfway_ns + (monotonic_ns() - again);
        let masquerade = seen != own;
        let landing = if endpoint == destination {
            Landing::Through { masquerade }
        } else {
            Landing::Endpoint(Choice { endpoint, masquerade })
        };
        Ok(Connected { took_ns, landing })
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
