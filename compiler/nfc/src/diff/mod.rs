//! What differs between two sets of Services, in terms of Services.
//!
//! A Service is a list of facts under this node's settings: where it answers, its policies,
//! the share of each endpoint. Two Services differ in the facts that one has and the other
//! has not, and in those whose values differ. So an endpoint that stops being ready, moves
//! to another zone or gets a neighbour shows as what that does to the traffic.
//!
//! Invariant: pure, and blind to rules; the way from rules to rules is a backend's patch.

mod document;
mod facts;
mod text;

pub use document::document;
pub use facts::{Subject, facts};
pub use text::text;

use nfc_ir::{Family, Ir, Protocol, Service, ServiceName};
use std::collections::{BTreeMap, BTreeSet};

/// What one Service, or the node, has otherwise than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The address family.
    pub family: Family,
    /// The Service and its protocol; `None` for the node.
    pub service: Option<(ServiceName, Protocol)>,
    /// What became of the whole of it.
    pub fate: Fate,
    /// The facts that differ; for one that was added or removed, all of them.
    pub changes: Vec<Change>,
}

/// What became of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It was there and is there.
    Changed,
}

/// A fact that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What it is about.
    pub subject: Subject,
    /// What it was; `None`: nothing.
    pub old: Option<String>,
    /// What it is; `None`: nothing.
    pub new: Option<String>,
}

/// Two sets of Services by family, and what differs between them.
#[must_use]
pub fn differences(old: &BTreeMap<Family, Ir>, new: &BTreeMap<Family, Ir>) -> Vec<Difference> {
    let families: BTreeSet<_> = old.keys().chain(new.keys()).copied().collect();
    let mut all = Vec::new();
    for family in families {
        let none = Ir::empty(family);
        all.extend(of_family(family, old.get(&family), new.get(&family), &none));
    }
    all
}

fn of_family(family: Family, old: Option<&Ir>, new: Option<&Ir>, none: &Ir) -> Vec<Difference> {
    let mut all = Vec::new();
    if let (Some(old), Some(new)) = (old, new) {
        let changes = changes(facts::of_node(old.node()), facts::of_node(new.node()));
        if !changes.is_empty() {
            all.push(Difference { family, service: None, fate: Fate::Changed, changes });
        }
    }
    let (before, after) = (by_name(old.unwrap_or(none)), by_name(new.unwrap_or(none)));
    let names: BTreeSet<_> = before.keys().chain(after.keys()).copied().collect();
    for name in names {
        let (was, is) = (before.get(&name), after.get(&name));
        let fate = match (was, is) {
            (None, _) => Fate::Added,
            (_, None) => Fate::Removed,
            _ => Fate::Changed,
        };
        let told = |found: Option<&(&Ir, &Service)>| {
            found.map_or_else(BTreeMap::new, |(ir, service)| facts(service, ir.node()))
        };
        let changes = changes(told(was), told(is));
        if !changes.is_empty() {
            let service = Some((name.0.clone(), name.1));
            all.push(Difference { family, service, fate, changes });
        }
    }
    all
}

type ByName<'a> = BTreeMap<(&'a ServiceName, Protocol), (&'a Ir, &'a Service)>;

fn by_name(ir: &Ir) -> ByName<'_> {
    ir.services().iter().map(|service| ((&service.name, service.protocol), (ir, service))).collect()
}

fn changes(old: BTreeMap<Subject, String>, new: BTreeMap<Subject, String>) -> Vec<Change> {
    let subjects: BTreeSet<_> = old.keys().chain(new.keys()).cloned().collect();
    let change = |subject: Subject| {
        let (old, new) = (old.get(&subject).cloned(), new.get(&subject).cloned());
        (old != new).then_some(Change { subject, old, new })
    };
    subjects.into_iter().filter_map(change).collect()
}
