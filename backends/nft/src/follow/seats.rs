//! Who has which number of those by which session affinity knows Services.
//!
//! Two Services whose numbers hash to the same are told apart by their order: the first has
//! the number, and the next one looks on from there (`lower/ids.rs`). So a Service that comes
//! may take the number of one that is behind it in the order, and one that goes may leave its
//! own to another. Whoever has a number here is before all others that would rather have it,
//! and there is one way only to seat everybody like that: it does not matter who came when.
//!
//! Invariant: who has which number depends on who is there, not on how it came about.

use super::Changed;
use crate::lower::ids;
use nfc_ir::{Protocol, Service, ServiceName};
use std::collections::BTreeMap;

/// Who has a number. In the order of an Ir.
pub(super) type Holder = (ServiceName, Protocol);

/// Who has another number than before, and which it had.
pub(super) type Moved = BTreeMap<Holder, u32>;

/// The numbers in use.
#[derive(Debug)]
pub(super) struct Seats {
    /// How many numbers there are.
    count: u32,
    taken: BTreeMap<u32, Seat>,
    /// Whether somebody found no number. Who that is depends on everybody, and is not known.
    pub(super) full: bool,
}

/// A number that is taken.
#[derive(Debug)]
struct Seat {
    /// Where the holder would rather be.
    home: u32,
    holder: Holder,
}

impl Seats {
    /// The numbers of these Services.
    pub(super) fn new<'a>(services: impl Iterator<Item = &'a Service>) -> Self {
        let mut seats = Self::with_count(ids::HALF);
        for service in services {
            seats.sit(service, &mut Moved::new());
        }
        seats
    }

    fn with_count(count: u32) -> Self {
        Self { count, taken: BTreeMap::new(), full: false }
    }

    /// The number of a Service, if it has one.
    pub(super) fn number(&self, service: &Service) -> Option<u32> {
        let own = (&service.name, service.protocol);
        let is_own = |(name, protocol): &Holder| (name, *protocol) == own;
        for number in self.around(self.home(service)?) {
            match self.taken.get(&number) {
                None => return None,
                Some(seat) if is_own(&seat.holder) => return Some(number),
                Some(_) => {}
            }
        }
        None
    }

    /// Gives Services that come a number, and takes that of those that go. Returns who else
    /// has another one than before.
    pub(super) fn change(&mut self, changed: &Changed<'_>) -> Moved {
        let mut moved = Moved::new();
        let needs_one = |service: &&Service| ids::home(service).is_some();
        let both = || changed.values().map(|both| both.map(|service| service.filter(needs_one)));
        for service in both().filter_map(|[before, after]| before.filter(|_| after.is_none())) {
            self.rise(service, &mut moved);
        }
        for service in both().filter_map(|[before, after]| after.filter(|_| before.is_none())) {
            self.sit(service, &mut moved);
        }
        moved.retain(|(name, protocol), _| !changed.contains_key(&(name, *protocol)));
        moved
    }

    /// Gives a Service that needs one a number. Whoever has the number and is behind it in the
    /// order goes on to the next one, and so on.
    fn sit(&mut self, service: &Service, moved: &mut Moved) {
        let Some(home) = self.home(service) else {
            return;
        };
        let mut standing = Seat { home, holder: holder(service) };
        for number in self.around(home) {
            match self.taken.get_mut(&number) {
                None => {
                    self.taken.insert(number, standing);
                    return;
                }
                Some(seat) if standing.holder < seat.holder => {
                    moved.entry(seat.holder.clone()).or_insert(number);
                    std::mem::swap(seat, &mut standing);
                }
                Some(_) => {}
            }
        }
        self.full = true;
    }

    /// Takes the number of a Service. The first in the order of those who would rather have it
    /// than their own gets it, and its own is free in turn.
    fn rise(&mut self, service: &Service, moved: &mut Moved) {
        let Some(mut free) = self.number(service) else {
            return;
        };
        self.taken.remove(&free);
        while let Some(number) = self.heir(free)
            && let Some(seat) = self.taken.remove(&number)
        {
            moved.entry(seat.holder.clone()).or_insert(number);
            self.taken.insert(free, seat);
            free = number;
        }
    }

    /// Where the first one sits that came by `number` on its way.
    fn heir(&self, number: u32) -> Option<u32> {
        let behind = self.around(number).skip(1);
        let seated = behind.map_while(|at| self.taken.get(&at).map(|seat| (at, seat)));
        let came_by =
            |at: u32, seat: &Seat| self.steps(seat.home, number) < self.steps(seat.home, at);
        let heirs = seated.filter(|(at, seat)| came_by(*at, seat));
        heirs.min_by_key(|(_, seat)| &seat.holder).map(|(at, _)| at)
    }

    /// Where a Service would rather be, if it needs a number.
    fn home(&self, service: &Service) -> Option<u32> {
        Some(ids::home(service)? % self.count)
    }

    /// All numbers, from `first` on.
    fn around(&self, first: u32) -> impl Iterator<Item = u32> + use<> {
        let count = self.count;
        (0..count).map(move |step| (first + step) % count)
    }

    /// How far it is from one number on to another.
    fn steps(&self, from: u32, to: u32) -> u32 {
        (to + self.count - from) % self.count
    }
}

fn holder(service: &Service) -> Holder {
    (service.name.clone(), service.protocol)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nfc_ir::synth::{self, Dice};
    use nfc_ir::{Affinity, Family};
    use std::collections::BTreeSet;
    use std::num::NonZeroU32;

    const COUNT: u32 = 16;

    fn service(index: u32) -> Service {
        let affinity = Some(Affinity { timeout_seconds: NonZeroU32::MIN });
        Service { affinity, ..synth::service(Family::Ipv4, Protocol::Tcp, index, 1) }
    }

    /// Who has which number when all come one after the other, as in a lowering.
    fn in_order(services: &BTreeSet<u32>) -> Seats {
        let mut seats = Seats::with_count(COUNT);
        services.iter().for_each(|index| seats.sit(&service(*index), &mut Moved::new()));
        seats
    }

    fn numbers(seats: &Seats, services: &BTreeSet<u32>) -> Vec<Option<u32>> {
        services.iter().map(|index| seats.number(&service(*index))).collect()
    }

    #[test]
    fn it_does_not_matter_who_came_when() {
        let (mut dice, mut there, mut moves) = (Dice::new(5), BTreeSet::new(), 0);
        let mut seats = in_order(&there);
        for _ in 0..2000 {
            let index = dice.below(40);
            let (service, before) = (service(index), numbers(&seats, &there));
            let came = !there.contains(&index);
            if came && there.len() == COUNT as usize {
                continue;
            }
            let both = if came { [None, Some(&service)] } else { [Some(&service), None] };
            let moved = seats.change(&[((&service.name, service.protocol), both)].into());
            let others: BTreeSet<u32> = there.iter().copied().filter(|i| *i != index).collect();
            for (old, other) in before.iter().zip(&there).filter(|(_, other)| **other != index) {
                let now = seats.number(&self::service(*other));
                let told = moved.get(&holder(&self::service(*other))).copied();
                assert_eq!(told.or(now), *old, "whoever is not told of stays");
                moves += usize::from(now != *old);
            }
            there = if came { &others | &[index].into() } else { others };
            assert_eq!(numbers(&seats, &there), numbers(&in_order(&there), &there));
            assert_eq!(seats.taken.len(), there.len());
        }
        assert!(moves > 200, "{moves}");
        assert!(!seats.full);
    }

    #[test]
    fn who_finds_no_number_is_noticed() {
        let seats = in_order(&(0..=COUNT).collect());
        assert!(seats.full && !in_order(&(0..COUNT).collect()).full);
        assert_eq!(seats.number(&service(COUNT)), None);
    }
}
