//! Endpoints that answer who they are, for demonstrations.
//!
//! Over TCP a client that asks in HTTP is answered in HTTP, and one that says nothing gets
//! the bare line. Needs a world whose packets are [`Delivery::Answered`](crate::Delivery).
//!
//! Invariant: ordinary sockets on ordinary threads, one for every endpoint and protocol;
//! nothing here is fast or meant to be measured.

use crate::{LabError, World};
use nfc_ir::Protocol;
use nfc_kernel::Namespace;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a client that has connected is given to ask.
const ASKING: Duration = Duration::from_millis(200);

/// How long a server's own knock at its door may take.
const KNOCK: Duration = Duration::from_secs(1);

/// The longest request that is read.
const REQUEST_BYTES_MAX: usize = 16 << 10;

/// Servers at endpoints. They stop when this is dropped.
#[derive(Debug, Default)]
pub struct Server {
    stop: Arc<AtomicBool>,
    doors: Vec<Door>,
}

/// One endpoint with one protocol.
#[derive(Debug)]
struct Door {
    namespace: Namespace,
    endpoint: SocketAddr,
    protocol: Protocol,
    answered: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

/// How often an endpoint has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Answered {
    /// The endpoint.
    pub endpoint: SocketAddr,
    /// Its protocol.
    pub protocol: Protocol,
    /// Connections for TCP, datagrams for UDP.
    pub count: u64,
}

impl Server {
    /// Answers over TCP and UDP at each of `endpoints`, in the backend of `world`, with the
    /// endpoint's address.
    ///
    /// # Errors
    ///
    /// [`LabError::Socket`] when an address is not the backend's or is taken.
    pub fn start(world: &World, endpoints: &[SocketAddr]) -> Result<Self, LabError> {
        let mut server = Self::default();
        for &endpoint in endpoints {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                server.open(world.backend(), endpoint, protocol, move |_| endpoint.to_string())?;
            }
        }
        Ok(server)
    }

    /// Answers at one more endpoint with the line that `line` makes of a client's address.
    ///
    /// # Errors
    ///
    /// [`LabError::Socket`] when the address is not one of `namespace` or is taken, and for
    /// SCTP, which the standard library does not speak.
    pub fn open(
        &mut self,
        namespace: &Namespace,
        endpoint: SocketAddr,
        protocol: Protocol,
        line: impl Fn(IpAddr) -> String + Send + 'static,
    ) -> Result<(), LabError> {
        let answered = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&answered);
        let counted = move |client: SocketAddr| {
            counter.fetch_add(1, Ordering::Relaxed);
            line(client.ip()) + "\n"
        };
        let stop = Arc::clone(&self.stop);
        let thread = match protocol {
            Protocol::Tcp => {
                let listener = namespace.run(|| TcpListener::bind(endpoint))??;
                std::thread::spawn(move || serve_tcp(&listener, &stop, &counted))
            }
            Protocol::Udp => {
                let socket = namespace.run(|| UdpSocket::bind(endpoint))??;
                socket.set_read_timeout(Some(KNOCK))?;
                std::thread::spawn(move || serve_udp(&socket, &stop, &counted))
            }
            Protocol::Sctp => return Err(io::Error::from(io::ErrorKind::Unsupported).into()),
        };
        let namespace = namespace.duplicate()?;
        let thread = Some(thread);
        self.doors.push(Door { namespace, endpoint, protocol, answered, thread });
        Ok(())
    }

    /// How often each endpoint has answered, sorted.
    #[must_use]
    pub fn answered(&self) -> Vec<Answered> {
        let count = |door: &Door| Answered {
            endpoint: door.endpoint,
            protocol: door.protocol,
            count: door.answered.load(Ordering::Relaxed),
        };
        let mut counts: Vec<_> = self.doors.iter().map(count).collect();
        counts.sort();
        counts
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Servers wait for somebody to come; this is somebody. All knock before the first is
        // waited for, so that a hundred take no longer than one. Where a knock is not heard,
        // as when somebody took the loopback link down, the thread is left to itself.
        let knocked: Vec<_> = self.doors.iter().map(|door| door.knock().is_ok()).collect();
        for (door, _) in self.doors.iter_mut().zip(knocked).filter(|(_, heard)| *heard) {
            // A server that panicked has nothing more to stop.
            drop(door.thread.take().map(JoinHandle::join));
        }
    }
}

impl Door {
    fn knock(&self) -> Result<(), LabError> {
        let endpoint = self.endpoint;
        let knock = || match self.protocol {
            Protocol::Tcp => TcpStream::connect_timeout(&endpoint, KNOCK).map(drop),
            _ => UdpSocket::bind(SocketAddr::new(endpoint.ip(), 0))
                .and_then(|socket| socket.send_to(&[], endpoint).map(drop)),
        };
        Ok(self.namespace.run(knock)??)
    }
}

fn serve_tcp(listener: &TcpListener, stop: &AtomicBool, line: &dyn Fn(SocketAddr) -> String) {
    while let Ok((mut stream, client)) = listener.accept() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        // A client that left early is no concern of the server's.
        drop(converse(&mut stream, &line(client)));
    }
}

fn converse(stream: &mut TcpStream, line: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(ASKING))?;
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while request.len() < REQUEST_BYTES_MAX && !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(length) => request.extend_from_slice(&buffer[..length]),
        }
    }
    let is_http = String::from_utf8_lossy(&request).lines().next().is_some_and(speaks_http);
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        line.len()
    );
    let answer = if is_http { head + line } else { line.to_owned() };
    stream.write_all(answer.as_bytes())
}

fn speaks_http(first_line: &str) -> bool {
    first_line.contains(" HTTP/1.")
}

fn serve_udp(socket: &UdpSocket, stop: &AtomicBool, line: &dyn Fn(SocketAddr) -> String) {
    loop {
        let received = socket.recv_from(&mut [0; 64]);
        if stop.load(Ordering::Relaxed) {
            return;
        }
        // An ICMP error about an earlier answer comes back as an error of the socket, and a
        // second without a client as well.
        if let Ok((_, client)) = received {
            drop(socket.send_to(line(client).as_bytes(), client));
        }
    }
}
