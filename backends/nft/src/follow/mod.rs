//! A table that follows its Services from change to change.
//!
//! Most of what a Service puts into the table is its own: rows whose keys begin with its
//! addresses. So the Services that changed are lowered alone, as they were and as they are,
//! and the difference of the two little tables is the patch. What Services have in common is
//! counted: it comes with its first use and goes with its last ([`Shared`]). The numbers by
//! which session affinity knows Services are looked up, and whoever gets another one because
//! of a change counts as changed too ([`Seats`]).
//!
//! Rarely everything is lowered, as it was and as it is, and compared:
//!
//! - when a set has no room left in the kernel, which is when it has to be made anew;
//! - in the constant-time layout, while the numbers of two classes hash to the same: among
//!   2,000 classes that has a chance of one in two thousand;
//! - while more Services have session affinity than can be told apart.
//!
//! Invariant: but for these, nothing is walked that is as long as there are Services.

mod rooms;
mod seats;
#[cfg(test)]
mod tests;

use crate::lower::classes::home;
use crate::lower::shared::{Shared, Uses, count, turn};
use crate::lower::{Lowering, Settings, Turns, add_base, lower_services, shared_turns};
use crate::names::{Class, TABLE};
use crate::{Layout, Patch, Program};
use nfc_backend::{Follow, Unsupported};
use nfc_ir::{Change, Ir, Protocol, Service, ServiceName};
use nfc_ruleset::{Table, diff};
use rooms::Rooms;
use seats::{Holder, Seats};
use std::collections::{BTreeMap, BTreeSet};

/// Knows what is in the kernel's table, but for the rows of each Service.
#[derive(Debug)]
pub struct Follower {
    layout: Layout,
    rooms: Rooms,
    shared: Shared,
    /// Which numbers the classes in use would have if nobody were before them.
    homes: [Uses<u32>; 2],
    /// How many classes with session affinity there are.
    sticky: usize,
    seats: Seats,
    turns: Turns<ServiceName>,
    /// What was left out, but for turns.
    unsupported: BTreeSet<Unsupported>,
    comparisons: usize,
}

/// The Services that changed: as each was, and as it is.
type Changed<'a> = BTreeMap<(&'a ServiceName, Protocol), [Option<&'a Service>; 2]>;

/// Some Services as they were and as they are, lowered.
type Sides<'a> = [Lowering<'a>; 2];

impl Follower {
    /// Begins with the Services of `ir` and the program made of them.
    pub(crate) fn new(ir: &Ir, layout: Layout, program: Program) -> Self {
        // The table is gone before its rows are made once more.
        let rooms = Rooms::of(&table(program));
        Self::with_rooms(ir, layout, rooms)
    }

    fn with_rooms(ir: &Ir, layout: Layout, rooms: Rooms) -> Self {
        let seats = Seats::new(ir.services().iter());
        let mut all = Lowering::new(Settings { ir, layout }, ir.services().len());
        for service in ir.services() {
            all.service(service, seats.number(service));
        }
        let shared = all.take_shared();
        Self {
            layout,
            rooms,
            homes: homes(&shared),
            sticky: sticky(&shared),
            shared,
            seats,
            turns: owned(&all.turns).collect(),
            unsupported: all.unsupported,
            comparisons: 0,
        }
    }

    /// How many times everything was lowered and compared, where a change alone did not tell.
    #[must_use]
    pub fn comparisons(&self) -> usize {
        self.comparisons
    }

    /// The way to what `ir` means, by way of the Services that changed. `None` when it takes
    /// a look at the others; what is known is wrong then.
    fn step(&mut self, ir: &Ir, changed: &Changed<'_>) -> Option<nfc_ruleset::Patch> {
        if self.depends_on_order() {
            return None;
        }
        let was_sticky = self.sticky > 0;
        let mut sides = self.lower(ir, changed);
        self.settle(&mut sides);
        if self.depends_on_order() {
            return None;
        }
        let mut tables = sides.map(Lowering::into_table);
        if was_sticky != (self.sticky > 0) {
            let settings = Settings { ir, layout: self.layout };
            for (table, sticky) in tables.iter_mut().zip([was_sticky, !was_sticky]) {
                add_base(table, settings, sticky);
            }
        }
        self.rooms.complete(tables.each_mut());
        let [gone, come] = &tables;
        let patch = diff(ir.family(), TABLE, Some(gone), Some(come));
        self.rooms.take(&patch);
        self.rooms.suffice(&patch).then_some(patch)
    }

    /// The way to what `ir` means, by way of all Services as they were and as they are.
    fn compare(&mut self, ir: &Ir, changed: &Changed<'_>) -> nfc_ruleset::Patch {
        let settings = Settings { ir, layout: self.layout };
        let mut old = table(lower_services(settings, before(ir, changed).into_iter()).program);
        let new = table(lower_services(settings, ir.services().iter()).program);
        self.rooms.fit(&mut old);
        let patch = diff(ir.family(), TABLE, Some(&old), Some(&new));
        let mut rooms = Rooms::of(&old);
        rooms.take(&patch);
        let comparisons = self.comparisons + 1;
        *self = Self { comparisons, ..Self::with_rooms(ir, self.layout, rooms) };
        patch
    }

    /// Whether a Service's rows depend on who came before it.
    fn depends_on_order(&self) -> bool {
        let mut both = self.homes.iter().zip(&self.shared.numbered);
        self.seats.full || both.any(|(homes, numbered)| homes.len() < numbered.len())
    }

    /// What changed, and whoever gets another number by it, as it was and as it is.
    fn lower<'a>(&mut self, ir: &'a Ir, changed: &Changed<'a>) -> Sides<'a> {
        let settings = Settings { ir, layout: self.layout };
        let mut sides = [(); 2].map(|()| Lowering::new(settings, changed.len()));
        let [gone, come] = &mut sides;
        for service in changed.values().filter_map(|[before, _]| *before) {
            gone.service(service, self.seats.number(service));
        }
        let moved = self.seats.change(changed);
        for service in changed.values().filter_map(|[_, after]| *after) {
            come.service(service, self.seats.number(service));
        }
        for (holder, number) in moved {
            let service = find(ir, &holder);
            gone.service(service, Some(number));
            come.service(service, self.seats.number(service));
        }
        sides
    }

    /// Counts what goes and what comes. Of what Services share stays in the sides what nobody
    /// uses any more, and what nobody used before.
    fn settle(&mut self, sides: &mut Sides<'_>) {
        let mut shared = sides.each_mut().map(Lowering::take_shared);
        self.shared.turn(shared.each_mut());
        for (side, shared) in sides.iter_mut().zip(&shared) {
            side.add_shared(shared);
        }
        let [fewer, more] = shared.each_ref().map(sticky);
        self.sticky = self.sticky + more - fewer;
        let [mut gone, mut come] = shared.each_ref().map(homes);
        for (uses, both) in self.homes.iter_mut().zip(gone.iter_mut().zip(&mut come)) {
            turn(uses, both.into());
        }
        let [gone, come] = sides;
        for turn in owned(&gone.turns) {
            self.turns.remove(&turn);
        }
        self.turns.extend(owned(&come.turns));
        for left_out in &gone.unsupported {
            self.unsupported.remove(left_out);
        }
        self.unsupported.append(&mut come.unsupported);
    }
}

impl Follow for Follower {
    type Patch = Patch;

    fn change(&mut self, ir: &Ir, changes: &[Change]) -> Patch {
        let changed = changed(changes);
        let table = self.step(ir, &changed).unwrap_or_else(|| self.compare(ir, &changed));
        Patch { table, addresses: ir.node().addresses.clone() }
    }

    fn unsupported(&self) -> Vec<Unsupported> {
        let mut all = self.unsupported.clone();
        all.extend(shared_turns(&self.turns));
        all.into_iter().collect()
    }
}

/// The numbers that classes would have if nobody were before them. There are fewer of them
/// than of classes when two have the same.
fn homes(shared: &Shared) -> [Uses<u32>; 2] {
    shared.numbered.each_ref().map(|verdicts| count(verdicts.keys().map(home)))
}

/// How many classes have session affinity.
fn sticky(shared: &Shared) -> usize {
    shared.classes.keys().filter(|class| class.affinity.is_some()).count()
}

fn owned(turns: &Turns<&ServiceName>) -> impl Iterator<Item = (Class, ServiceName, Protocol)> {
    turns.iter().map(|(class, name, protocol)| (*class, (*name).clone(), *protocol))
}

/// One change for each Service, of which there may be several, one after the other.
fn changed(changes: &[Change]) -> Changed<'_> {
    let mut changed = Changed::new();
    for Change { before, after } in changes {
        if let Some(service) = before.as_ref().or(after.as_ref()) {
            changed.entry(key(service)).or_insert([before.as_ref(), None])[1] = after.as_ref();
        }
    }
    changed
}

/// All Services as they were before some of them changed.
fn before<'a>(ir: &'a Ir, changed: &Changed<'a>) -> Vec<&'a Service> {
    let same = ir.services().iter().filter(|service| !changed.contains_key(&key(service)));
    let other = changed.values().filter_map(|[before, _]| *before);
    let mut all: Vec<_> = same.chain(other).collect();
    all.sort_by_key(|service| key(service));
    all
}

/// What Services are sorted by.
fn key(service: &Service) -> (&ServiceName, Protocol) {
    (&service.name, service.protocol)
}

/// Another Service, which did not change itself.
fn find<'a>(ir: &'a Ir, (name, protocol): &Holder) -> &'a Service {
    let found = ir.services().binary_search_by_key(&(name, *protocol), key);
    let service = found.ok().and_then(|index| ir.services().get(index));
    service.unwrap_or_else(|| unreachable!("{name} ({protocol}) has a number, so it is there"))
}

fn table(program: Program) -> Table {
    program.table.unwrap_or_else(|| unreachable!("what is lowered has a table"))
}
