//! Packets held against their meaning: where may each land, and does it land at all of those
//! places.
//!
//! Invariant: the meaning is told by `nfc_ir::eval`; nothing here knows a rule.

use crate::{LabError, Landing, Witness, WitnessError, World};
use nfc_ir::{Ir, Outcome, Packet, ProxyMode, Scheduler, Service, eval};
use std::collections::BTreeSet;
use std::time::Duration;

/// Source ports are taken from here on, in turn.
const PORT_MIN: u16 = 20_000;
const PORT_MAX: u16 = 60_000;

/// How often a packet is sent until it has been seen everywhere. The rarest endpoint of a
/// sample has a share of about one in sixteen.
const TRIES: u32 = 400;

/// Sends packets into a world, each as a connection of its own.
#[derive(Debug)]
pub struct Judge {
    witness: Witness,
    port: u16,
}

/// What a packet did that its meaning does not allow, or failed to do.
#[derive(Debug, thiserror::Error)]
pub enum Misled {
    /// It landed where it must not.
    #[error("{packet}: {landing}, meant: {meant}")]
    Astray {
        /// The packet.
        packet: Box<Packet>,
        /// Where it landed.
        landing: Landing,
        /// What the Services mean.
        meant: Outcome,
    },
    /// It was never seen somewhere where it may land.
    #[error("{packet}: never landed at {unseen}, meant: {meant}")]
    Unseen {
        /// The packet.
        packet: Box<Packet>,
        /// Where it was not seen.
        unseen: String,
        /// What the Services mean.
        meant: Outcome,
    },
    /// It could not be sent.
    #[error("{packet}: {source}")]
    Unsent {
        /// The packet.
        packet: Box<Packet>,
        /// Why.
        source: WitnessError,
    },
}

impl Judge {
    /// A judge of what happens in `world`.
    ///
    /// # Errors
    ///
    /// [`LabError::Socket`].
    pub fn new(world: &World) -> Result<Self, LabError> {
        Ok(Self { witness: Witness::new(world)?, port: PORT_MIN })
    }

    /// The same, but packets that do not turn up are given up after `patience`.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { witness: self.witness.with_patience(patience), ..self }
    }

    /// Sends `packet` as a connection of its own.
    ///
    /// # Errors
    ///
    /// [`WitnessError`].
    pub fn send(&mut self, packet: &Packet) -> Result<Landing, WitnessError> {
        self.port = if self.port == PORT_MAX { PORT_MIN } else { self.port + 1 };
        let mut packet = packet.clone();
        packet.source.set_port(self.port);
        self.send_as_is(&packet)
    }

    /// Sends `packet` from the very port that it names.
    ///
    /// # Errors
    ///
    /// [`WitnessError`].
    pub fn send_as_is(&mut self, packet: &Packet) -> Result<Landing, WitnessError> {
        self.witness.send(packet)
    }

    /// Sends `packet` until every endpoint that `ir` means in `mode` was seen; where a client
    /// keeps its endpoint, until one was.
    ///
    /// # Errors
    ///
    /// [`Misled`].
    pub fn judge(&mut self, ir: &Ir, mode: ProxyMode, packet: &Packet) -> Result<(), Misled> {
        let meant = eval(ir, mode, packet);
        let mut unseen: BTreeSet<_> = meant.endpoints().collect();
        let tries = if matches!(meant, Outcome::Balance(_)) { TRIES } else { 1 };
        for _ in 0..tries {
            let landing = self.send(packet);
            let landing = landing
                .map_err(|source| Misled::Unsent { packet: Box::new(packet.clone()), source })?;
            if !landing.agrees_with(&meant) {
                return Err(Misled::Astray { packet: Box::new(packet.clone()), landing, meant });
            }
            if let Landing::Endpoint(choice) = landing {
                unseen.remove(&choice);
                if is_sticky(ir, packet) {
                    return Ok(());
                }
            }
            if unseen.is_empty() {
                return Ok(());
            }
        }
        let unseen = format!("{unseen:?}");
        Err(Misled::Unseen { packet: Box::new(packet.clone()), unseen, meant })
    }
}

/// Whether all connections from one client go to one endpoint.
fn is_sticky(ir: &Ir, packet: &Packet) -> bool {
    let port = packet.destination.port();
    let keeps = |s: &Service| s.affinity.is_some() || s.scheduler == Scheduler::SourceHash;
    let sticky = |s: &&Service| keeps(s) && s.protocol == packet.protocol;
    ir.services().iter().filter(sticky).any(|s| {
        s.port.get() == port || s.node_port.is_some_and(|node_port| node_port.get() == port)
    })
}
