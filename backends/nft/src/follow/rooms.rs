//! How much room the kernel's sets have, and how many elements are in them.
//!
//! A set is made with room for more than it holds, and keeps its size until it is made anew
//! ([`nfc_ruleset::Set::seal`]).
//!
//! Invariant: sizes and counts; which elements they are is not known here.

use nfc_ruleset::{Patch, Set, SetChange, Table};
use std::collections::BTreeMap;

/// The sets that are in the kernel, by name.
#[derive(Debug)]
pub(super) struct Rooms(BTreeMap<String, Room>);

/// One of them.
#[derive(Debug)]
struct Room {
    /// How many elements fit, where there is a limit.
    size: Option<u32>,
    elements: usize,
}

impl Room {
    fn of(set: &Set) -> Self {
        Self { size: set.size, elements: set.elements.len() }
    }

    fn is_enough(&self) -> bool {
        self.size.is_none_or(|size| self.elements <= size as usize)
    }
}

impl Rooms {
    pub(super) fn of(table: &Table) -> Self {
        let sets = table.sets.iter();
        Self(sets.map(|(name, set)| (name.clone(), Room::of(set))).collect())
    }

    /// Gives the sets of a table that was made anew the room that the kernel's have.
    pub(super) fn fit(&self, table: &mut Table) {
        for (name, set) in &mut table.sets {
            set.size = self.0.get(name).map_or(set.size, |room| room.size);
        }
    }

    /// Makes of the rows that go and those that come two tables with the same sets, but for
    /// those that are made or deleted: a set that is there only when it is used is made with
    /// its first element and deleted with its last.
    pub(super) fn complete(&self, [gone, come]: [&mut Table; 2]) {
        for name in lacking(gone, come) {
            if let (Some(room), Some(set)) = (self.0.get(&name), gone.sets.get(&name))
                && room.elements > set.elements.len()
            {
                come.sets.insert(name, set.without_elements());
            }
        }
        for name in lacking(come, gone) {
            if let (Some(_), Some(set)) = (self.0.get(&name), come.sets.get(&name)) {
                gone.sets.insert(name, set.without_elements());
            }
        }
        self.fit(gone);
        self.fit(come);
    }

    /// Remembers what `patch` does.
    pub(super) fn take(&mut self, patch: &Patch) {
        for (name, change) in &patch.sets {
            match change {
                SetChange::Add(set) | SetChange::Rebuild(set) => {
                    self.0.insert(name.clone(), Room::of(set));
                }
                SetChange::Delete => drop(self.0.remove(name)),
                SetChange::Update { gone, come, .. } => {
                    if let Some(room) = self.0.get_mut(name) {
                        let elements = room.elements + come.len();
                        room.elements = elements.saturating_sub(gone.len());
                    }
                }
            }
        }
    }

    /// Whether the sets that `patch` changes have the room for it.
    pub(super) fn suffice(&self, patch: &Patch) -> bool {
        patch.sets.keys().filter_map(|name| self.0.get(name)).all(Room::is_enough)
    }
}

/// The sets that one table has and another one has not.
fn lacking(one: &Table, other: &Table) -> Vec<String> {
    one.sets.keys().filter(|name| !other.sets.contains_key(*name)).cloned().collect()
}
