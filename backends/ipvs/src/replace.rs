//! The way to a program from what was found in the kernel.
//!
//! Invariant: touches what is nfc's and nothing else; see [`crate::observe`] for what that
//! is.

use crate::diff::{
    Change, Command, Draining, LinkChange, Patch, companion_diff, creation, edit_reals, middle,
};
use crate::names;
use crate::observe::Observed;
use crate::program::{Program, ServerKey, VirtualServer};
use crate::wire::Settings;
use nfc_ir::{Family, Protocol};
use nfc_ruleset::observe::Found;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The way to `new` from what was found.
pub(crate) fn replace(observed: &Observed, new: &Program) -> Patch {
    let of_family = |all: &BTreeSet<IpAddr>| -> BTreeSet<IpAddr> {
        all.iter().copied().filter(|ip| Family::of(*ip) == new.family).collect()
    };
    let (routed, on_link) = (of_family(&observed.routed), of_family(&observed.on_link));
    let mut servers = replaced_servers(observed, new);
    servers.extend(strays(observed, &(&routed | &on_link), new));
    let link = match observed.link {
        Some(_) if on_link.len() == observed.on_link.len() => LinkChange::Delete,
        Some(index) if !on_link.is_empty() => LinkChange::Strip { index, addresses: on_link },
        Some(_) | None => LinkChange::Keep,
    };
    let (grow, shrink) = replaced_companion(observed, new);
    Patch {
        family: new.family,
        sysctls: (observed.sysctls != new.sysctls).then(|| new.sysctls.clone()),
        node_addresses: new.node_addresses.clone(),
        grow,
        servers,
        draining: draining(observed, new),
        link,
        bound: new.addresses.difference(&routed).copied().collect(),
        unbound: routed.difference(&new.addresses).copied().collect(),
        shrink,
    }
}

/// The companion on its way to the middle one and from there. One that holds what no patch
/// can mend is replaced as a whole, in one transaction.
fn replaced_companion(
    observed: &Observed,
    new: &Program,
) -> (nfc_ruleset::Patch, nfc_ruleset::Patch) {
    let family = new.family;
    let generation = observed.companion.generation;
    let nothing = || nfc_ruleset::Patch::new(family, names::TABLE);
    let built_on = |patch| nfc_ruleset::Patch { generation, ..patch };
    let wanted = new.companion.as_ref();
    match (&observed.companion.found, wanted) {
        (Found::Nothing, None) if generation.is_some() => (nothing(), nothing()),
        // In pieces when it is large, of which the last hooks it in.
        (Found::Nothing, Some(_)) if generation.is_some() => {
            (built_on(companion_diff(family, None, wanted)), nothing())
        }
        (Found::Table(before), Some(after)) if before == after => (nothing(), nothing()),
        (Found::Table(before), Some(after)) => {
            let middle = middle(before, after);
            let grow = companion_diff(family, Some(before), Some(&middle));
            (built_on(grow), companion_diff(family, Some(&middle), wanted))
        }
        (_, None) => (nothing(), nfc_ruleset::Patch::replacing(family, names::TABLE, None)),
        (_, Some(_)) => (nfc_ruleset::Patch::replacing(family, names::TABLE, wanted), nothing()),
    }
}

/// What changes about the virtual servers that are wanted.
fn replaced_servers(observed: &Observed, new: &Program) -> BTreeMap<ServerKey, Change> {
    let mut changes = BTreeMap::new();
    for (key, after) in &new.servers {
        let commands = match observed.servers.get(key) {
            None => creation(after),
            Some(reals) => {
                let is_set = observed.settings.get(key) == Some(&Settings::of(new.family, after));
                let set = (!is_set).then_some(Command::SetServer);
                set.into_iter().chain(edit_reals(reals, after, drains(key, after))).collect()
            }
        };
        if !commands.is_empty() {
            changes.insert(*key, Change::to(after, commands));
        }
    }
    changes
}

/// The virtual servers of nfc that are wanted no longer. Their real servers go with them,
/// and their connections, as under kube-proxy (`cleanLegacyService` in
/// `pkg/proxy/ipvs/proxier.go`).
fn strays(
    observed: &Observed,
    own: &BTreeSet<IpAddr>,
    new: &Program,
) -> BTreeMap<ServerKey, Change> {
    let is_ours =
        |key: &&ServerKey| own.contains(&key.address.ip()) || observed.recorded.contains(key);
    let ours = observed.servers.keys().filter(is_ours);
    let strays = ours.filter(|key| !new.servers.contains_key(key));
    strays.map(|key| (*key, Change::deletion(None))).collect()
}

/// Whether real servers of `after` go only when their connections are over. As under
/// kube-proxy those of UDP and SCTP go at once (`IsRsGracefulTerminationNeeded` in
/// `pkg/proxy/ipvs/util/ipvs.go`): the kernel sends the next packet of such a connection to
/// another one (`expire_nodest_conn`).
fn drains(key: &ServerKey, after: &VirtualServer) -> bool {
    key.protocol == Protocol::Tcp && after.passes_over_weight_0()
}

/// The real servers that go later, those included that have weight 0 already.
fn draining(observed: &Observed, new: &Program) -> BTreeMap<ServerKey, Draining> {
    let of_server = |(key, after): (&ServerKey, &VirtualServer)| {
        let found = observed.servers.get(key).filter(|_| drains(key, after))?;
        let gone = found.iter().filter(|(real, _)| !after.reals.contains_key(real));
        let reals: BTreeMap<_, _> = gone
            .filter(|(_, found)| found.is_in_use())
            .map(|(real, found)| (*real, found.connections))
            .collect();
        let service = after.service.clone();
        (!reals.is_empty()).then_some((*key, Draining { service, reals }))
    };
    new.servers.iter().filter_map(of_server).collect()
}
