//! Packets on a fixed schedule: each is sent when it is due, whether or not those before it
//! have arrived.
//!
//! A probe that waits for each packet asks less often just when things are slow. Here the
//! schedule does not wait, and what counts is the time from when a packet was due; so a stall
//! is seen by every packet that fell into it.
//!
//! Invariant: raw samples only; computes no statistics.

use crate::frame::{self, Seen};
use crate::probe::{Probe, ProbeError};
use crate::witness::{FRAME_BYTES_MAX, Sighting, read_whole};
use crate::world::{CLIENT, NODE_UPLINK};
use crate::{Landing, frame::Segment};
use nfc_ir::Protocol;
use nfc_kernel::{monotonic_ns, pin_to_cpu};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// When packets are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The first one, in nanoseconds of the monotonic clock.
    pub start_ns: u64,
    /// The time from one to the next, in nanoseconds.
    pub interval_ns: u64,
    /// How long packets are waited for after the last one was sent.
    pub patience: Duration,
}

/// A packet that was sent on schedule. Times are nanoseconds of the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheduled {
    /// Where it was sent to.
    pub destination: SocketAddr,
    /// When it was due.
    pub due_ns: u64,
    /// When it was sent; after it was due when the thread or an earlier packet was held up.
    pub sent_ns: u64,
    /// When it had been read at the far end; when it was given up, if it was not.
    pub seen_ns: u64,
    /// Where it landed.
    pub landing: Landing,
}

impl Probe {
    /// First packets on `schedule`: a new connection to each of `destinations` in turn, until
    /// `stop` is set or all are sent.
    ///
    /// # Errors
    ///
    /// [`ProbeError::Io`]; a packet that goes astray is no error but a landing.
    pub fn on_schedule(
        &mut self,
        protocol: Protocol,
        destinations: &[SocketAddr],
        schedule: Schedule,
        stop: &AtomicBool,
    ) -> Result<Vec<Scheduled>, ProbeError> {
        let segments: Vec<_> = destinations.iter().map(|d| self.opening(protocol, *d)).collect();
        let frames: Vec<_> =
            segments.iter().map(|s| s.frame(CLIENT.mac, NODE_UPLINK.mac)).collect();
        let mut flights = Flights::new(self, &segments);
        let work = || {
            pin_to_cpu(self.cpu)?;
            for (frame, n) in frames.iter().zip(0..) {
                let due = schedule.start_ns + n * schedule.interval_ns;
                while monotonic_ns() < due {
                    flights.look()?;
                }
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let sent = monotonic_ns();
                self.from_client.send(frame)?;
                flights.sent.push((due, sent));
                flights.look()?;
            }
            let patience = u64::try_from(schedule.patience.as_nanos()).unwrap_or(u64::MAX);
            let deadline = monotonic_ns().saturating_add(patience);
            while !flights.all_seen() && monotonic_ns() < deadline {
                flights.look()?;
            }
            Ok(flights.landed())
        };
        // On a thread of its own, so that the caller's stays free of the CPU.
        let done = std::thread::scope(|scope| scope.spawn(work).join());
        let done: io::Result<_> =
            done.unwrap_or_else(|_| Err(io::Error::other("the probe's thread died")));
        Ok(done?)
    }
}

/// Packets that were sent, and what has been seen of them.
struct Flights<'a> {
    probe: &'a Probe,
    segments: &'a [Segment],
    /// When each was due and sent.
    sent: Vec<(u64, u64)>,
    seen: Vec<(Sighting, u64)>,
    seen_count: usize,
}

impl<'a> Flights<'a> {
    fn new(probe: &'a Probe, segments: &'a [Segment]) -> Self {
        let seen = vec![(Sighting::default(), 0); segments.len()];
        Self { probe, segments, sent: Vec::with_capacity(segments.len()), seen, seen_count: 0 }
    }

    /// Reads whatever has arrived at either end.
    fn look(&mut self) -> io::Result<()> {
        let mut buffer = [0; FRAME_BYTES_MAX];
        for receiver in [&self.probe.at_backend, &self.probe.at_client] {
            while let Some(length) = receiver.try_receive(&mut buffer)? {
                let now = monotonic_ns();
                let seen = read_whole(&buffer, length, frame::read_frame);
                self.note(seen, now);
            }
        }
        Ok(())
    }

    fn note(&mut self, seen: Option<Seen>, now: u64) {
        let Some(Seen::Packet { token, .. } | Seen::Unreachable { token, .. }) = seen else {
            return;
        };
        // Tokens of consecutive openings are two apart.
        let first = self.segments.first().map_or(0, |s| s.token);
        let index = usize::try_from(token.wrapping_sub(first) / 2).unwrap_or(usize::MAX);
        let known = self.segments.get(index).is_some_and(|s| s.token == token);
        let Some((sighting, at)) = self.seen.get_mut(index).filter(|_| known) else {
            return;
        };
        if !sighting.is_anything() {
            *at = now;
            self.seen_count += 1;
        }
        sighting.add(token, seen);
    }

    fn all_seen(&self) -> bool {
        self.seen_count >= self.sent.len()
    }

    fn landed(self) -> Vec<Scheduled> {
        let end = monotonic_ns();
        let mut landed = Vec::with_capacity(self.sent.len());
        for ((segment, times), seen) in self.segments.iter().zip(&self.sent).zip(&self.seen) {
            let ((due_ns, sent_ns), (sighting, at)) = (*times, *seen);
            landed.push(Scheduled {
                destination: segment.destination,
                due_ns,
                sent_ns,
                seen_ns: if sighting.is_anything() { at } else { end },
                landing: sighting.landing(segment).unwrap_or(Landing::Silence),
            });
        }
        landed
    }
}
