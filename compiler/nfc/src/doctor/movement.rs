//! What moved at each Service: what its rules counted, and the connections that are tracked.
//!
//! Invariant: adds up what two readings say, or one; whether that is as it should be is
//! judged elsewhere.

use super::counts::Counts;
use super::frontends::{self, Frontends};
use super::{Facts, Patient, connections};
use nfc_ir::{Protocol, Service, ServiceName};
use nfc_kernel::conntrack::Connection;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// What there was to see of packets at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// What the rules counted; `None` where they do not.
    pub counts: Option<Counts>,
    /// Tracked connections.
    pub connections: Vec<Connection>,
}

/// What moved at one Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Movement<'a> {
    /// The Service.
    pub service: &'a Service,
    /// How many connections its rules counted; `None` where they do not count.
    pub counted: Option<u64>,
    /// Its tracked connections, those that are over included.
    pub tracked: Tracked,
    /// The same for each endpoint.
    pub endpoints: BTreeMap<SocketAddr, Share>,
}

/// An endpoint's part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// How many connections the rules counted.
    pub counted: Option<u64>,
    /// Tracked connections.
    pub tracked: Tracked,
}

/// Tracked connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tracked {
    /// How many.
    pub connections: usize,
    /// How many of them nobody has answered yet.
    pub unanswered: usize,
    /// How many went past the rules: they were for an endpoint, and were not rewritten.
    pub bypassing: usize,
}

impl Tracked {
    fn add(&mut self, connection: &Connection, bypasses: bool) {
        self.connections += 1;
        self.unanswered += usize::from(!connection.is_answered());
        self.bypassing += usize::from(bypasses);
    }
}

impl Movement<'_> {
    /// Whether nobody asked.
    #[must_use]
    pub fn is_still(&self) -> bool {
        self.counted.unwrap_or(0) == 0 && self.tracked.connections == 0
    }
}

/// What moved at every Service, the busiest first: between two readings where there are two,
/// and else all that is known.
#[must_use]
pub fn movements(patient: Patient<'_>) -> Vec<Movement<'_>> {
    let Facts { now, before, addresses, .. } = patient.facts;
    let counts = now.counts.as_ref().map(|counts| {
        let before = before.as_ref().and_then(|before| before.counts.as_ref());
        before.map_or_else(|| counts.clone(), |before| counts.since(before))
    });
    let known: BTreeSet<_> =
        before.iter().flat_map(|before| &before.connections).map(identity).collect();
    let frontends = Frontends::of(patient.irs, addresses);
    let mut movements = Movements::of(patient, counts.is_some());
    for connection in now.connections.iter().filter(|c| !known.contains(&identity(c))) {
        let at = frontends::at(connection.protocol, connection.destination);
        if let Some(service) = at.and_then(|at| frontends.find(at)) {
            let bypasses = connections::bypasses(patient, service, connection);
            movements.track(service, connection, bypasses);
        }
    }
    movements.count(&counts.unwrap_or_default(), &frontends);
    let mut movements: Vec<_> = movements.0.into_values().collect();
    let weight = |m: &Movement<'_>| m.counted.unwrap_or(0).max(m.tracked.connections as u64);
    movements.sort_by_key(|movement| std::cmp::Reverse(weight(movement)));
    movements
}

/// Ports are used again, and then the kernel's number is another.
fn identity(connection: &Connection) -> (u8, SocketAddr, SocketAddr, Option<u32>) {
    (connection.protocol, connection.client, connection.destination, connection.id)
}

/// By name, protocol and cluster IP, which tells the families apart.
type Key<'a> = (&'a ServiceName, Protocol, std::net::IpAddr);

struct Movements<'a>(BTreeMap<Key<'a>, Movement<'a>>);

impl<'a> Movements<'a> {
    fn of(patient: Patient<'a>, has_counters: bool) -> Self {
        let counted = has_counters.then_some(0);
        let still = |service| Movement {
            service,
            counted,
            tracked: Tracked::default(),
            endpoints: BTreeMap::new(),
        };
        Self(patient.services().map(|(_, service)| (key(service), still(service))).collect())
    }

    fn track(&mut self, service: &'a Service, connection: &Connection, bypasses: bool) {
        let Some(movement) = self.0.get_mut(&key(service)) else { return };
        movement.tracked.add(connection, bypasses);
        if connection.is_rewritten() {
            let share = movement.endpoints.entry(connection.answerer).or_default();
            share.tracked.add(connection, bypasses);
        }
    }

    fn count(&mut self, counts: &Counts, frontends: &Frontends<'a>) {
        for (at, count) in &counts.frontends {
            let movement = frontends.find(*at).and_then(|s| self.0.get_mut(&key(s)));
            if let Some(counted) = movement.and_then(|m| m.counted.as_mut()) {
                *counted += count;
            }
        }
        for ((at, endpoint), count) in counts.endpoints.iter().filter(|(_, count)| **count > 0) {
            if let Some(movement) = frontends.find(*at).and_then(|s| self.0.get_mut(&key(s))) {
                let share = movement.endpoints.entry(*endpoint).or_default();
                share.counted = Some(share.counted.unwrap_or(0) + count);
            }
        }
    }
}

fn key(service: &Service) -> Key<'_> {
    (&service.name, service.protocol, service.cluster_ip)
}
