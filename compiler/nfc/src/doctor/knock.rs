//! Whether somebody listens at an endpoint: by knocking, from the node.
//!
//! TCP: a connection that is made and closed at once, as a kubelet's TCP probe does. UDP: an
//! empty datagram, to which a closed port answers with an ICMP error.
//!
//! Invariant: asks each endpoint once and sends it no byte of data.

use nfc_ir::Protocol;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long an endpoint is given to answer. Endpoints are in the same cluster.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a refusal of a datagram is waited for; silence is what an open port gives.
const UDP_PATIENCE: Duration = Duration::from_millis(200);

/// How many endpoints are asked at a time.
const AT_ONCE: usize = 32;

/// How many endpoints are asked at most: more would take a while, and would look like a scan.
pub const ASKED_MAX: usize = 256;

/// An endpoint and the protocol it speaks.
pub type Door = (SocketAddr, Protocol);

/// What came of knocking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Somebody listens; for UDP, nobody said the opposite.
    Open,
    /// Nobody listens there: a TCP reset, or an ICMP error that says that the port is closed.
    Closed,
    /// No answer, or an error that says that there is no way.
    Silent,
}

/// Knocks at the first [`ASKED_MAX`] of `doors`, from the calling thread's namespace.
#[must_use]
pub fn knock(doors: &[Door]) -> BTreeMap<Door, Answer> {
    let doors = &doors[..doors.len().min(ASKED_MAX)];
    let answers = Mutex::new(BTreeMap::new());
    let share = doors.len().div_ceil(AT_ONCE).max(1);
    let ask_all = |part: &[Door]| {
        for door in part {
            let answer = ask(*door);
            let mut all = answers.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(answer.map(|answer| (*door, answer)));
        }
    };
    // Threads begin in the network namespace of the one that starts them.
    std::thread::scope(|scope| {
        for part in doors.chunks(share) {
            scope.spawn(move || ask_all(part));
        }
    });
    answers.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// `None` for SCTP, which the standard library does not speak.
fn ask((endpoint, protocol): Door) -> Option<Answer> {
    let result = match protocol {
        Protocol::Tcp => TcpStream::connect_timeout(&endpoint, PATIENCE).map(drop),
        Protocol::Udp => ask_udp(endpoint),
        Protocol::Sctp => return None,
    };
    Some(match result {
        Ok(()) => Answer::Open,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Answer::Closed,
        Err(_) => Answer::Silent,
    })
}

fn ask_udp(endpoint: SocketAddr) -> io::Result<()> {
    let any: IpAddr = match endpoint {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(endpoint)?;
    socket.set_read_timeout(Some(UDP_PATIENCE))?;
    socket.send(&[])?;
    match socket.recv(&mut [0; 1]) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(()),
        done => done.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn open_and_closed_doors_are_told_apart() {
        let home = (Ipv4Addr::LOCALHOST, 0);
        let listener = TcpListener::bind(home).expect("a port");
        let open = (listener.local_addr().expect("an address"), Protocol::Tcp);
        let free = TcpListener::bind(home).and_then(|l| l.local_addr()).expect("a port");
        let free_udp = UdpSocket::bind(home).and_then(|s| s.local_addr()).expect("a port");
        let socket = UdpSocket::bind(home).expect("a port");
        let open_udp = (socket.local_addr().expect("an address"), Protocol::Udp);
        let doors = [open, (free, Protocol::Tcp), open_udp, (free_udp, Protocol::Udp)];
        let answers = knock(&doors);
        let of = |door: &Door| answers[door];
        let expected = [Answer::Open, Answer::Closed, Answer::Open, Answer::Closed];
        assert_eq!(doors.each_ref().map(of), expected);
        assert!(knock(&[(free, Protocol::Sctp)]).is_empty());
    }
}
