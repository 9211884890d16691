//! The way to a program from what was found in the kernel.
//!
//! Invariant: touches what is nfc's and nothing else; see [`crate::observe`] for what that
//! is.

use crate::diff::{Change, Command, LinkChange, Patch, creation, edit_reals};
use crate::names;
use crate::observe::Observed;
use crate::program::{Program, ServerKey};
use nfc_ir::Family;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The way to `new` from what was found.
///
/// Virtual servers of nfc are set anew even when they look right, because a timeout cannot
/// be read; their real servers change only where they differ. The companion is replaced as
/// a whole, in one transaction.
pub(crate) fn replace(observed: &Observed, new: &Program) -> Patch {
    let of_family = |all: &BTreeSet<IpAddr>| -> BTreeSet<IpAddr> {
        all.iter().copied().filter(|ip| Family::of(*ip) == new.family).collect()
    };
    let (routed, on_link) = (of_family(&observed.routed), of_family(&observed.on_link));
    let servers = replaced_servers(observed, &(&routed | &on_link), new);
    let link = match observed.link {
        Some(_) if on_link.len() == observed.on_link.len() => LinkChange::Delete,
        Some(index) if !on_link.is_empty() => LinkChange::Strip { index, addresses: on_link },
        Some(_) | None => LinkChange::Keep,
    };
    let companion = new.companion.as_ref();
    let fresh = nfc_ruleset::Patch::replacing(new.family, names::TABLE, companion);
    let nothing = nfc_ruleset::Patch::new(new.family, names::TABLE);
    let (grow, shrink) = if new.companion.is_some() { (fresh, nothing) } else { (nothing, fresh) };
    Patch {
        family: new.family,
        sysctls: (!new.sysctls.is_empty()).then(|| new.sysctls.clone()),
        node_addresses: Some(new.node_addresses.clone()),
        grow,
        servers,
        link,
        bound: new.addresses.difference(&routed).copied().collect(),
        unbound: routed.difference(&new.addresses).copied().collect(),
        shrink,
    }
}

fn replaced_servers(
    observed: &Observed,
    own: &BTreeSet<IpAddr>,
    new: &Program,
) -> BTreeMap<ServerKey, Change> {
    let mut changes = BTreeMap::new();
    for (key, after) in &new.servers {
        let commands = match observed.servers.get(key) {
            None => creation(after),
            Some(reals) => {
                let set = std::iter::once(Command::SetServer);
                set.chain(edit_reals(reals, after)).collect()
            }
        };
        changes.insert(*key, Change::to(after, commands));
    }
    let is_ours =
        |key: &&ServerKey| own.contains(&key.address.ip()) || observed.recorded.contains(key);
    let strays = observed.servers.keys().filter(is_ours);
    for key in strays.filter(|key| !new.servers.contains_key(key)) {
        changes.insert(*key, Change::deletion(None));
    }
    changes
}
