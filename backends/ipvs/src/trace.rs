//! A packet's way through a program, as the kernel would take it.
//!
//! ```text
//! received:  prerouting -> input  -> IPVS (99)  -> postrouting
//! own:       output ----> IPVS (-98) -> postrouting
//!                    \--> input, where IPVS takes nothing and the address is the node's
//! ```
//!
//! All base chains of the companion stand in front of IPVS at their hook, so that each
//! hook can be walked as a whole.
//!
//! Invariant: reads the program as the kernel would, and never guesses: a companion that
//! leaves something to chance is an error.

use crate::names::sets;
use crate::program::{Program, ServerKey, VirtualServer};
use nfc_backend::TraceError;
use nfc_ir::{Choice, Ingress, IpvsScheduler, Outcome, Packet, Port, Protocol};
use nfc_ruleset::trace::{End, Walker, walk_hook};
use nfc_ruleset::{Hook, Key, Table};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// What becomes of `packet`.
pub(crate) fn trace(program: &Program, packet: &Packet) -> Result<Outcome, TraceError> {
    let key = ServerKey { address: packet.destination, protocol: packet.protocol };
    let server = program.servers.get(&key);
    let walk = Walk { program };
    let (first, is_own) = match packet.ingress {
        Ingress::Interface(_) => (Hook::Prerouting, false),
        Ingress::Local => (Hook::Output, true),
    };
    let walker = match walk.through(first, Walker::new(packet))? {
        Passed::Onward(walker) => walker,
        Passed::Over(outcome) => return Ok(outcome),
    };
    if let (Some(server), true) = (server, is_own) {
        return walk.schedule(server, &walker);
    }
    if !walk.is_for_node(packet) {
        return Ok(Outcome::Pass);
    }
    match (walk.through(Hook::Input, walker)?, server) {
        (Passed::Over(outcome), _) => Ok(outcome),
        (Passed::Onward(walker), Some(server)) => walk.schedule(server, &walker),
        (Passed::Onward(_), None) if walk.is_health_check(packet) => Ok(Outcome::Accept),
        (Passed::Onward(_), None) => Ok(Outcome::Pass),
    }
}

/// How a hook was left.
enum Passed {
    Onward(Walker),
    Over(Outcome),
}

struct Walk<'a> {
    program: &'a Program,
}

impl Walk<'_> {
    fn companion(&self) -> Option<&Table> {
        self.program.companion.as_ref()
    }

    fn through(&self, hook: Hook, walker: Walker) -> Result<Passed, TraceError> {
        let Some(table) = self.companion() else {
            return Ok(Passed::Onward(walker));
        };
        let mut ways = walk_hook(table, &self.program.node_addresses, hook, walker)?;
        let (Some(way), true) = (ways.pop(), ways.is_empty()) else {
            let what = "the companion leaves something to chance".to_owned();
            return Err(TraceError { place: hook.name().to_owned(), what });
        };
        Ok(match way.end {
            End::Onward => Passed::Onward(way.walker),
            End::Drop => Passed::Over(Outcome::Drop),
            End::Reject => Passed::Over(Outcome::Reject),
        })
    }

    /// Whether the packet's destination is an address of the node: its own ones, virtual
    /// ones, and loopback.
    fn is_for_node(&self, packet: &Packet) -> bool {
        let ip = packet.destination.ip();
        ip.is_loopback()
            || self.program.addresses.contains(&ip)
            || self.program.node_addresses.contains(&ip)
    }

    /// Whether the rule for health checks let the packet in.
    fn is_health_check(&self, packet: &Packet) -> bool {
        let set = self.companion().and_then(|table| table.sets.get(sets::HEALTH_CHECKS));
        let port = Port::new(packet.destination.port());
        let (Some(set), Some(port), Protocol::Tcp) = (set, port, packet.protocol) else {
            return false;
        };
        set.elements.get(Key::new().port(port).bytes()).is_some()
    }

    /// Every real server with its share. A virtual server without any answers "port
    /// unreachable" (`ip_vs_leave`).
    fn schedule(&self, server: &VirtualServer, walker: &Walker) -> Result<Outcome, TraceError> {
        if server.reals.is_empty() {
            return Ok(Outcome::Reject);
        }
        let weights = weights(server);
        let total: f64 = weights.values().sum();
        let mut choices = BTreeMap::new();
        for (endpoint, weight) in weights {
            let mut walker = walker.clone();
            walker.packet.destination = endpoint;
            match self.through(Hook::Postrouting, walker)? {
                Passed::Onward(Walker { masquerade, .. }) => {
                    choices.insert(Choice { endpoint, masquerade }, weight / total);
                }
                Passed::Over(outcome) => return Ok(outcome),
            }
        }
        Ok(Outcome::Balance(choices))
    }
}

/// How often each real server comes up, for clients of all kinds taken together.
fn weights(server: &VirtualServer) -> BTreeMap<SocketAddr, f64> {
    let share = |weight: u16| match server.scheduler {
        IpvsScheduler::RoundRobin => 1.0,
        _ => f64::from(weight),
    };
    server.reals.iter().map(|(real, weight)| (*real, share(weight.get()))).collect()
}
