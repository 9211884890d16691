//! The way from one program to another.
//!
//! Three things change that cannot be one transaction: the companion table, the virtual
//! servers and the addresses. So the companion changes twice. It grows to the *middle*
//! companion, which is the new one and still has what belongs to virtual servers that are
//! about to go, and at the end it shrinks to the new one.
//!
//! Invariant: computed from values; nothing is read from the kernel here.

use crate::names::{self, sets};
use crate::observe::{Real, Reals};
use crate::program::{Program, ServerKey, VirtualServer};
use nfc_ir::{Family, ServiceName};
use nfc_ruleset::{Row, Set, Table};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

/// The way from one program to another.
#[derive(Clone, Debug)]
pub struct Patch {
    /// The family of both programs.
    pub family: Family,
    /// All sysctls, when they are not those of before.
    pub sysctls: Option<BTreeMap<&'static str, &'static str>>,
    /// The node's addresses afterwards, which are not in the kernel.
    pub node_addresses: Vec<IpAddr>,
    /// The companion on its way to the middle one.
    pub grow: nfc_ruleset::Patch,
    /// The virtual servers that change.
    pub servers: BTreeMap<ServerKey, Change>,
    /// The virtual servers that keep real servers until their connections are over.
    pub draining: BTreeMap<ServerKey, Draining>,
    /// The addresses that become the node's own.
    pub bound: BTreeSet<IpAddr>,
    /// What happens to a dummy link that kube-proxy left.
    pub link: LinkChange,
    /// The addresses that the node has no longer.
    pub unbound: BTreeSet<IpAddr>,
    /// The companion on its way from the middle one.
    pub shrink: nfc_ruleset::Patch,
}

/// What happens to a virtual server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The virtual server as it is to be; `None`: deleted.
    pub after: Option<VirtualServer>,
    /// The Service that it belongs to, or did; `None` when it was found in the kernel.
    pub service: Option<ServiceName>,
    /// What has to be said for that, in this order. Nothing, when only the Service's name
    /// changes.
    pub commands: Vec<Command>,
}

/// Real servers of a virtual server that get no new connections (weight 0), and go once those
/// that they have are over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draining {
    /// The Service that it belongs to.
    pub service: ServiceName,
    /// The real servers, and how many connections each has.
    pub reals: BTreeMap<SocketAddr, u64>,
}

/// One thing to say about a virtual server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Make it, without real servers.
    AddServer,
    /// Set its scheduler, flags and timeout.
    SetServer,
    /// Delete it; the kernel deletes its real servers with it (`ip_vs_unlink_service`).
    DeleteServer,
    /// Add a real server of this weight.
    AddReal(SocketAddr, NonZeroU16),
    /// Set the weight of a real server.
    SetReal(SocketAddr, NonZeroU16),
    /// Set the weight of a real server to 0: it keeps its connections and gets no new ones.
    DrainReal(SocketAddr),
    /// Delete a real server.
    DeleteReal(SocketAddr),
}

/// What happens to a dummy link that kube-proxy left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkChange {
    /// Nothing: there is none, or it is for the other family alone.
    Keep,
    /// It loses the addresses of this family.
    Strip {
        /// Its number.
        index: u32,
        /// The addresses.
        addresses: BTreeSet<IpAddr>,
    },
    /// It is deleted.
    Delete,
}

/// The way from `old` to `new`.
pub(crate) fn diff(old: &Program, new: &Program) -> Patch {
    let (before, after) = (old.companion.as_ref(), new.companion.as_ref());
    let middle = match (before, after) {
        (Some(before), Some(after)) => Some(middle(before, after)),
        (before, after) => after.or(before).cloned(),
    };
    Patch {
        family: new.family,
        sysctls: (old.sysctls != new.sysctls).then(|| new.sysctls.clone()),
        node_addresses: new.node_addresses.clone(),
        grow: companion_diff(new.family, before, middle.as_ref()),
        servers: changed_servers(old, new),
        draining: BTreeMap::new(),
        link: LinkChange::Keep,
        bound: new.addresses.difference(&old.addresses).copied().collect(),
        unbound: old.addresses.difference(&new.addresses).copied().collect(),
        shrink: companion_diff(new.family, middle.as_ref(), after),
    }
}

pub(crate) fn companion_diff(
    family: Family,
    old: Option<&Table>,
    new: Option<&Table>,
) -> nfc_ruleset::Patch {
    nfc_ruleset::diff(family, names::TABLE, old, new)
}

/// Whether `patch` changes nothing in the kernel. What drains already is no change.
pub(crate) fn is_empty(patch: &Patch) -> bool {
    let Patch { sysctls, grow, servers, link, bound, unbound, shrink, .. } = patch;
    sysctls.is_none()
        && grow.is_empty()
        && servers.is_empty()
        && *link == LinkChange::Keep
        && bound.is_empty()
        && unbound.is_empty()
        && shrink.is_empty()
}

/// `old` after `patch`.
pub(crate) fn patched(old: &Program, patch: &Patch) -> Program {
    let mut program = old.clone();
    if let Some(sysctls) = &patch.sysctls {
        program.sysctls.clone_from(sysctls);
    }
    program.node_addresses.clone_from(&patch.node_addresses);
    for (key, change) in &patch.servers {
        match &change.after {
            Some(server) => program.servers.insert(*key, server.clone()),
            None => program.servers.remove(key),
        };
    }
    program.addresses.retain(|address| !patch.unbound.contains(address));
    program.addresses.extend(&patch.bound);
    let middle = nfc_ruleset::patched(old.companion.as_ref(), &patch.grow);
    program.companion = nfc_ruleset::patched(middle.as_ref(), &patch.shrink);
    program
}

fn changed_servers(old: &Program, new: &Program) -> BTreeMap<ServerKey, Change> {
    let mut changes = BTreeMap::new();
    for (key, after) in &new.servers {
        let before = old.servers.get(key);
        if before != Some(after) {
            let commands = before.map_or_else(|| creation(after), |b| edit(b, after));
            changes.insert(*key, Change::to(after, commands));
        }
    }
    for (key, before) in &old.servers {
        if !new.servers.contains_key(key) {
            changes.insert(*key, Change::deletion(Some(before.service.clone())));
        }
    }
    changes
}

impl Change {
    /// The virtual server becomes `after`.
    pub(crate) fn to(after: &VirtualServer, commands: Vec<Command>) -> Self {
        let service = Some(after.service.clone());
        Self { after: Some(after.clone()), service, commands }
    }

    /// The virtual server goes.
    pub(crate) fn deletion(service: Option<ServiceName>) -> Self {
        Self { after: None, service, commands: vec![Command::DeleteServer] }
    }
}

/// What makes a virtual server.
pub(crate) fn creation(after: &VirtualServer) -> Vec<Command> {
    let add = |(real, weight): (&SocketAddr, &NonZeroU16)| Command::AddReal(*real, *weight);
    std::iter::once(Command::AddServer).chain(after.reals.iter().map(add)).collect()
}

fn edit(before: &VirtualServer, after: &VirtualServer) -> Vec<Command> {
    let known = |weight: &NonZeroU16| Real { weight: Some(weight.get().into()), connections: 0 };
    let reals = before.reals.iter().map(|(real, weight)| (*real, known(weight))).collect();
    let mut commands = edit_reals(&reals, after, false);
    if !before.is_set_like(after) {
        commands.insert(0, Command::SetServer);
    }
    commands
}

/// What makes these real servers those of `after`. None goes before the new ones are there,
/// so that a virtual server is never without one in between. Where they are to drain, one
/// that is in use stays and gets no new connections.
pub(crate) fn edit_reals(before: &Reals, after: &VirtualServer, drains: bool) -> Vec<Command> {
    let mut commands = Vec::new();
    for (real, weight) in &after.reals {
        match before.get(real) {
            None => commands.push(Command::AddReal(*real, *weight)),
            Some(old) if old.weight != Some(u32::from(weight.get())) => {
                commands.push(Command::SetReal(*real, *weight));
            }
            Some(_) => (),
        }
    }
    let gone = before.iter().filter(|(real, _)| !after.reals.contains_key(real));
    commands.extend(gone.filter_map(|(real, found)| {
        match (drains && found.is_in_use(), found.weight) {
            (true, Some(0)) => None,
            (true, _) => Some(Command::DrainReal(*real)),
            (false, _) => Some(Command::DeleteReal(*real)),
        }
    }));
    commands
}

/// The companion between the two: see the module.
pub(crate) fn middle(before: &Table, after: &Table) -> Table {
    let mut middle = after.clone();
    for (name, set) in &mut middle.sets {
        let Some(leftover) = before.sets.get(name).filter(|b| b.has_shape_of(set)) else {
            continue;
        };
        let is_needed = |row: &Row<'_>| match name.as_str() {
            sets::BOUND_ADDRESSES | sets::HAIRPINS | sets::HEALTH_CHECKS => true,
            _ => goes(row, after),
        };
        carry_over(leftover, set, is_needed);
    }
    middle
}

/// Whether the virtual server that the row is about is not among the new ones.
fn goes(row: &Row<'_>, new: &Table) -> bool {
    let Some(all) = new.sets.get(sets::VIRTUAL_SERVERS) else {
        return true;
    };
    let server = row.key.get(..all.elements.key_len());
    server.is_none_or(|key| all.elements.get(key).is_none())
}

/// Adds the rows of `from` that are needed; a key that is there already stays as it is.
fn carry_over(from: &Set, to: &mut Set, is_needed: impl Fn(&Row<'_>) -> bool) {
    let missing: Vec<_> = from
        .elements
        .iter()
        .filter(|row| to.elements.get(row.key).is_none() && is_needed(row))
        .collect();
    for row in missing {
        to.elements.push_row(row);
    }
    to.seal();
}
