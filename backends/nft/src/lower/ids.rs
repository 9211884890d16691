//! Numbers by which session affinity remembers a Service's endpoints.
//!
//! A number says in its upper half whose endpoint it is, and in the lower which. So the
//! Service can be read off the number of any of its endpoints, and what is remembered of
//! one Service is worth nothing at another.
//!
//! Invariant: a number is the same on every node and after every change, unless two hash to
//! the same.

use super::slots::{fnv, hash};
use nfc_ir::Service;
use nfc_ruleset::expr::Match;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// How many Services can be told apart, and how many endpoints of each.
pub(crate) const HALF: u32 = 1 << HALF_BITS;
const HALF_BITS: u32 = 15;

/// The bits that say that a priority is such a number, and how they are. Users' own classes
/// have small majors, and those that the kernel makes up begin at 8000
/// (`qdisc_alloc_handle` in `net/sched/sch_api.c`).
const MARK: u32 = 0xc000_0000;
const MARKED: u32 = 0x4000_0000;

/// The bits that say whose endpoint a number is.
pub(super) const SERVICE: u32 = !(HALF - 1);

/// Whether a packet's priority is the number of an endpoint.
pub(super) fn is_id() -> Match {
    Match::PriorityBits { mask: MARK, value: MARKED }
}

/// The numbers of one Service's endpoints.
pub(super) type Ids = BTreeMap<SocketAddr, u32>;

/// Gives Services their numbers, in the order in which they ask.
#[derive(Debug, Default)]
pub(crate) struct Numbering {
    services: Half,
}

impl Numbering {
    /// The number of a Service that has not been here before. `None` when it needs none, and
    /// when there are more than can be told apart.
    pub(crate) fn number(&mut self, service: &Service) -> Option<u32> {
        self.services.take(home(service)?)
    }
}

/// The number that a Service has when nobody before it does. `None` when it needs none, or has
/// more endpoints than can be told apart.
pub(crate) fn home(service: &Service) -> Option<u32> {
    let numbered = service.affinity.is_some() && service.endpoints.len() <= HALF as usize;
    let name = || format!("{}/{}", service.name, service.protocol);
    numbered.then(|| first(fnv(name().bytes(), 0)))
}

/// The numbers of all endpoints of the Service that has this number. `None` when there are more
/// than can be told apart.
pub(super) fn ids(service: &Service, number: u32) -> Option<Ids> {
    let addresses: BTreeSet<SocketAddr> = service.endpoints.iter().map(|e| e.address).collect();
    let mut endpoints = Half::default();
    let id = |address| {
        let endpoint = endpoints.take(first(hash(address, 3)))?;
        Some((address, MARKED | number << HALF_BITS | endpoint))
    };
    addresses.into_iter().map(id).collect()
}

/// Where a hash points to among the numbers of a half.
fn first(hash: u64) -> u32 {
    u32::try_from(hash >> 32).unwrap_or(0) % HALF
}

/// The numbers of one half that have been given out.
#[derive(Debug, Default)]
struct Half {
    taken: BTreeSet<u32>,
}

impl Half {
    /// The first free number from `first` on.
    fn take(&mut self, first: u32) -> Option<u32> {
        let mut around = (0..HALF).map(|step| (first + step) % HALF);
        around.find(|number| self.taken.insert(*number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nfc_ir::{Affinity, Family, Protocol, synth};
    use std::num::NonZeroU32;

    /// A Service whose clients keep their endpoints.
    fn service(index: u32, endpoints: u32) -> Service {
        let affinity = Some(Affinity { timeout_seconds: NonZeroU32::MIN });
        Service { affinity, ..synth::service(Family::Ipv6, Protocol::Tcp, index, endpoints) }
    }

    /// The numbers that a Service's endpoints have when it comes after those of `numbering`.
    fn numbered(numbering: &mut Numbering, service: &Service) -> Option<Ids> {
        ids(service, numbering.number(service)?)
    }

    #[test]
    fn ids_are_distinct_and_outlive_other_endpoints() {
        let of = |service: &Service| numbered(&mut Numbering::default(), service);
        let ids = of(&service(0, 3000)).expect("few enough");
        let distinct: BTreeSet<_> = ids.values().collect();
        assert_eq!(distinct.len(), 3000);
        let few = service(0, 20);
        let fewer = Service { endpoints: few.endpoints[1..].to_vec(), ..few.clone() };
        let [before, after] = [few, fewer].map(|service| of(&service).expect("few enough"));
        assert!(after.iter().all(|(endpoint, id)| before[endpoint] == *id));
    }

    #[test]
    fn the_service_can_be_read_off_an_id() {
        let mut numbering = Numbering::default();
        let mut seen = BTreeSet::new();
        for i in 0..3000 {
            let ids = numbered(&mut numbering, &service(i, 3)).expect("few enough");
            let owners: BTreeSet<u32> = ids.values().map(|id| id & SERVICE).collect();
            assert_eq!(owners.len(), 1);
            assert!(seen.is_disjoint(&owners), "two Services have the same number");
            assert!(ids.values().all(|id| id & MARK == MARKED));
            seen.extend(owners);
        }
    }

    #[test]
    fn who_comes_too_late_has_none() {
        let mut half = Half::default();
        let taken: Vec<_> = (0..=HALF).map(|i| half.take(i % HALF)).collect();
        assert_eq!(taken[HALF as usize - 1..], [Some(HALF - 1), None]);
        assert_eq!(numbered(&mut Numbering::default(), &service(0, HALF + 1)), None);
        assert_eq!(ids(&service(0, HALF + 1), 0), None);
    }
}
