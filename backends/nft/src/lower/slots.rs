//! Endpoints to slots: which endpoint answers to which number.
//!
//! A chain draws a number below the count of slots; an endpoint of weight *w* holds *w* of
//! them, after the weights' common divisor is taken out.
//!
//! Invariant: depends on endpoints and weights only.

use nfc_ir::Endpoint;
use std::net::{IpAddr, SocketAddr};

/// The most slots that weights may take for one Service. Beyond, shares are rounded:
/// every slot is an element, once for each address of the Service.
pub const SLOTS_MAX: usize = 4096;

/// The slots of some endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots {
    /// The endpoint of each slot.
    pub endpoints: Vec<SocketAddr>,
    /// Whether shares were rounded to fit.
    pub rounded: bool,
}

/// Lays `endpoints` out, each as often as its weight says.
#[must_use]
pub fn slots(endpoints: &[&Endpoint]) -> Slots {
    let weight = |e: &Endpoint| usize::from(e.weight.get());
    let divisor = endpoints.iter().map(|e| weight(e)).fold(0, gcd).max(1);
    let total: usize = endpoints.iter().map(|e| weight(e) / divisor).sum();
    let limit = SLOTS_MAX.max(endpoints.len());
    let rounded = total > limit;
    let share = |e: &Endpoint| match rounded {
        false => weight(e) / divisor,
        true => (weight(e) / divisor * (limit - endpoints.len()) / total) + 1,
    };
    Slots { endpoints: placed(endpoints, share), rounded }
}

/// Gives everybody its share of slots: in turn each takes the first free one of its own walk
/// through all of them. When one goes, its slot is taken by one of those after it that came
/// by in vain, whose slot is taken likewise, and all others stay where they are: of a
/// hundred slots about six change, where half of them would if everybody moved up.
fn placed(endpoints: &[&Endpoint], share: impl Fn(&Endpoint) -> usize) -> Vec<SocketAddr> {
    let Some(somebody) = endpoints.first() else {
        return Vec::new();
    };
    let size: usize = endpoints.iter().map(|e| share(e)).sum();
    let around = size.next_power_of_two();
    let (mut slots, mut free) = (vec![somebody.address; size], vec![true; size]);
    for endpoint in endpoints {
        for walk in (FIRST_WALK..).take(share(endpoint)) {
            // An odd step comes by every place of a circle of this size.
            let [at, step] = halves(hash(endpoint.address, walk));
            let mut at = at & (around - 1);
            while !free.get(at).is_some_and(|free| *free) {
                at = (at + (step | 1)) & (around - 1);
            }
            free[at] = false;
            slots[at] = endpoint.address;
        }
    }
    slots
}

/// The seed of an endpoint's first walk; others are for tables and numbers.
const FIRST_WALK: u64 = 4;

fn halves(hash: u64) -> [usize; 2] {
    let half = |bits: u64| usize::try_from(bits & u64::from(u32::MAX)).unwrap_or(0);
    [half(hash), half(hash >> 32)]
}

/// The size of a Maglev table, and that for more than [`MAGLEV_FEW`] endpoints. Both are
/// prime, so that every step through the table visits every slot.
const MAGLEV_SLOTS: [usize; 2] = [251, 4093];
const MAGLEV_FEW: usize = 50;

/// Lays `endpoints` out as Maglev does (Eisenbud et al., NSDI 2016): in turn each takes the
/// next free slot of its own walk through the table, the more often the greater its weight.
/// When one goes, most of the others keep their slots.
#[must_use]
pub fn maglev(endpoints: &[&Endpoint]) -> Slots {
    if endpoints.len() < 2 {
        return slots(endpoints);
    }
    let size = MAGLEV_SLOTS[usize::from(endpoints.len() > MAGLEV_FEW)];
    let mut walks: Vec<Walk> = endpoints.iter().map(|e| Walk::new(e, size)).collect();
    let mut table = vec![None; size];
    for _ in 0..size {
        let Some(next) = walks.iter_mut().min_by_key(|walk| walk.turn()) else {
            unreachable!("there are at least two endpoints");
        };
        if let Some(slot) = next.by_ref().find(|slot| table[*slot].is_none()) {
            table[slot] = Some(next.endpoint);
            next.held += 1;
        }
    }
    Slots { endpoints: table.into_iter().flatten().collect(), rounded: true }
}

/// An endpoint's own order of the slots of a table.
struct Walk {
    endpoint: SocketAddr,
    weight: u64,
    held: u64,
    at: usize,
    skip: usize,
    size: usize,
}

impl Walk {
    fn new(endpoint: &Endpoint, size: usize) -> Self {
        let below = |hash: u64, limit: usize| usize::try_from(hash % limit as u64).unwrap_or(0);
        let (first, second) = (hash(endpoint.address, 1), hash(endpoint.address, 2));
        Self {
            endpoint: endpoint.address,
            weight: u64::from(endpoint.weight.get()),
            held: 0,
            at: below(first, size),
            skip: 1 + below(second, size - 1),
            size,
        }
    }

    /// When the endpoint takes its next slot, counted so that shares follow weights.
    fn turn(&self) -> u64 {
        ((self.held + 1) << 32) / self.weight
    }
}

impl Iterator for Walk {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let here = self.at;
        self.at = (self.at + self.skip) % self.size;
        Some(here)
    }
}

/// A hash of address and port, fixed for all time, since nodes have to agree on it.
pub(super) fn hash(address: SocketAddr, seed: u64) -> u64 {
    let port = address.port().to_be_bytes();
    match address.ip() {
        IpAddr::V4(ip) => fnv(ip.octets().into_iter().chain(port), seed),
        IpAddr::V6(ip) => fnv(ip.octets().into_iter().chain(port), seed),
    }
}

/// FNV-1a, stirred once more.
pub(super) fn fnv(bytes: impl Iterator<Item = u8>, seed: u64) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ seed;
    for byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let stirred = (hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    stirred ^ stirred >> 29
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU16;

    fn weighted(weights: &[u16]) -> Vec<Endpoint> {
        let endpoint = |(i, w): (usize, &u16)| Endpoint {
            weight: NonZeroU16::new(*w).expect("not zero"),
            ..Endpoint::ready(nfc_ir::synth::endpoint(
                nfc_ir::Family::Ipv4,
                u32::try_from(i).expect("few"),
            ))
        };
        weights.iter().enumerate().map(endpoint).collect()
    }

    fn counts(weights: &[u16]) -> (Vec<usize>, bool) {
        let endpoints = weighted(weights);
        let slots = slots(&endpoints.iter().collect::<Vec<_>>());
        let count = |e: &Endpoint| slots.endpoints.iter().filter(|s| **s == e.address).count();
        (endpoints.iter().map(count).collect(), slots.rounded)
    }

    #[test]
    fn weights_become_slots_without_their_common_divisor() {
        assert_eq!(counts(&[1, 1, 1]), (vec![1, 1, 1], false));
        assert_eq!(counts(&[100, 200, 300]), (vec![1, 2, 3], false));
        assert_eq!(counts(&[7]), (vec![1], false));
        assert_eq!(counts(&[]), (vec![], false));
    }

    #[test]
    fn too_many_slots_are_rounded_and_leave_nobody_out() {
        let (counts, rounded) = counts(&[65_535, 1, 32_768]);
        assert!(rounded);
        assert!(counts.iter().sum::<usize>() <= SLOTS_MAX);
        assert!(counts.iter().all(|c| *c > 0));
        assert!(counts[0] > counts[2] && counts[2] > counts[1]);
    }

    /// How many of `before`'s slots are somebody else's in `after`.
    fn moved(before: &[Endpoint], after: &[Endpoint]) -> usize {
        let of = |endpoints: &[Endpoint]| slots(&endpoints.iter().collect::<Vec<_>>()).endpoints;
        of(before).iter().zip(&of(after)).filter(|(before, after)| before != after).count()
    }

    #[test]
    fn few_slots_change_when_an_endpoint_comes_or_goes() {
        for (count, limit) in [(5, 3), (30, 5), (100, 7), (1000, 11)] {
            let all = weighted(&vec![1; count + 20]);
            let (few, others) = all.split_at(count);
            let (mut swapped, mut removed) = (0, 0);
            for (i, other) in others.iter().enumerate() {
                let mut after = few.to_vec();
                after.remove(i * count / 20);
                removed += moved(&after, few);
                after.push(other.clone());
                after.sort_by_key(|endpoint| endpoint.address);
                swapped += moved(few, &after);
            }
            // On average over twenty changes; whoever moved up would be half of them.
            assert!(removed.max(swapped) <= 20 * limit, "{count}: {removed}, {swapped}");
        }
    }

    #[test]
    fn a_maglev_table_is_full_and_nearly_even() {
        for count in [2, 3, 10, 50, 51, 200] {
            let endpoints = weighted(&vec![1; count]);
            let made = maglev(&endpoints.iter().collect::<Vec<_>>());
            let size = made.endpoints.len();
            assert_eq!(size, if count > MAGLEV_FEW { 4093 } else { 251 });
            for endpoint in &endpoints {
                let held = made.endpoints.iter().filter(|s| **s == endpoint.address).count();
                assert!(held == size / count || held == size / count + 1, "{held} of {size}");
            }
        }
    }

    #[test]
    fn a_maglev_table_follows_weights() {
        let endpoints = weighted(&[1000, 500, 500]);
        let made = maglev(&endpoints.iter().collect::<Vec<_>>()).endpoints;
        let held = |e: &Endpoint| made.iter().filter(|s| **s == e.address).count();
        assert!(endpoints.iter().map(held).zip([125, 62, 62]).all(|(h, w)| h == w || h == w + 1));
    }

    #[test]
    fn an_endpoint_that_goes_disturbs_few_others_in_a_maglev_table() {
        let endpoints = weighted(&[1; 10]);
        let before = maglev(&endpoints.iter().collect::<Vec<_>>()).endpoints;
        let gone = endpoints[4].address;
        let rest: Vec<&Endpoint> = endpoints.iter().filter(|e| e.address != gone).collect();
        let after = maglev(&rest).endpoints;
        let moved = before.iter().zip(&after).filter(|(b, a)| **b != gone && b != a).count();
        assert!(!after.contains(&gone));
        assert!(moved < 251 / 10, "{moved} of 251 slots moved without need");
    }
}
