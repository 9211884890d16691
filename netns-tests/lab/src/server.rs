//! Endpoints that answer who they are, for demonstrations: each sends back the address at
//! which it was reached.
//!
//! Needs a world whose packets are [`Delivery::Answered`](crate::Delivery).
//!
//! Invariant: ordinary sockets on ordinary threads, one of each for every endpoint and
//! protocol; nothing here is fast or meant to be measured.

use crate::{LabError, World};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often a server looks whether it shall stop.
const TICK: Duration = Duration::from_millis(5);

/// Servers at a few endpoints. They stop when this is dropped.
#[derive(Debug)]
pub struct Server {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Answers over TCP and UDP at each of `endpoints`, in the backend of `world`.
    ///
    /// # Errors
    ///
    /// [`LabError::Socket`] when an address is not the backend's or is taken.
    pub fn start(world: &World, endpoints: &[SocketAddr]) -> Result<Self, LabError> {
        let mut server = Self { stop: Arc::default(), threads: Vec::new() };
        for &endpoint in endpoints {
            let bind = || -> io::Result<_> {
                Ok((TcpListener::bind(endpoint)?, UdpSocket::bind(endpoint)?))
            };
            let (tcp, udp) = world.backend().run(bind)??;
            tcp.set_nonblocking(true)?;
            udp.set_read_timeout(Some(TICK))?;
            server.spawn(move || accept(&tcp));
            server.spawn(move || answer(&udp, endpoint));
        }
        Ok(server)
    }

    fn spawn(&mut self, turn: impl Fn() + Send + 'static) {
        let stop = Arc::clone(&self.stop);
        let work = move || {
            while !stop.load(Ordering::Relaxed) {
                turn();
            }
        };
        self.threads.push(std::thread::spawn(work));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A server that panicked has nothing more to stop.
            drop(thread.join());
        }
    }
}

/// Takes one connection, if one is waiting, writes the address that it was made to, and
/// closes it. A client that left early is no concern of the server's.
fn accept(listener: &TcpListener) {
    let Ok((mut stream, _)) = listener.accept() else {
        std::thread::sleep(TICK);
        return;
    };
    if let Ok(address) = stream.local_addr() {
        drop(stream.write_all(format!("{address}\n").as_bytes()));
    }
}

/// Answers one datagram, if one comes within a tick.
fn answer(socket: &UdpSocket, endpoint: SocketAddr) {
    if let Ok((_, client)) = socket.recv_from(&mut [0; 64]) {
        drop(socket.send_to(format!("{endpoint}\n").as_bytes(), client));
    }
}
