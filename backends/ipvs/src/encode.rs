//! A patch as steps: generic netlink for the virtual servers, rtnetlink for the routes that
//! make their addresses the node's own, nf_tables for the companion, and sysctls.
//!
//! No transaction spans these, so their order has to see to it that no packet finds half of
//! a Service. Up: companion, then virtual servers with their real servers, then addresses.
//! Down the reverse.
//!
//! Invariant: a function of the patch alone, so that [`blame`] finds what stood at a place
//! by going through the same lists.

use crate::diff::{Change, Command, LinkChange, Patch};
use crate::names;
use crate::wire::{self, Order};
use ipnet::IpNet;
use nfc_backend::{Fault, Origin, Step};
use nfc_ir::ServiceName;
use nfc_netlink::genl::GenlMessage;
use nfc_netlink::route::RouteWriter;
use std::net::IpAddr;

/// The steps that carry out `patch`. An empty patch takes none.
pub(crate) fn steps(patch: &Patch) -> Vec<Step> {
    PARTS.into_iter().flat_map(|part| part.steps(patch)).collect()
}

/// What stood at the place of `fault`.
pub(crate) fn blame(patch: &Patch, fault: &Fault) -> Origin {
    let mut before = 0;
    for part in PARTS {
        let count = part.steps(patch).len();
        if fault.step < before + count {
            return part.origin(patch, &Fault { step: fault.step - before, ..fault.clone() });
        }
        before += count;
    }
    Origin::default()
}

/// A part of a patch, whose steps are of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Asks IPVS for nothing. Looking for the family makes the kernel load the module
    /// (`MODULE_ALIAS_GENL_FAMILY` in `ip_vs_ctl.c`), and the sysctls come with it.
    Hello,
    Sysctls,
    Grow,
    Servers,
    Addresses,
    Deletions,
    Shrink,
}

/// All parts, in the order in which they take effect.
const PARTS: [Part; 7] = [
    Part::Hello,
    Part::Sysctls,
    Part::Grow,
    Part::Servers,
    Part::Addresses,
    Part::Deletions,
    Part::Shrink,
];

impl Part {
    fn steps(self, patch: &Patch) -> Vec<Step> {
        match self {
            Self::Hello if sysctls(patch).is_empty() => Vec::new(),
            Self::Hello => genetlink(vec![wire::hello()]),
            Self::Sysctls => sysctls(patch),
            Self::Grow => nfc_ruleset::encode::encode(&patch.grow),
            Self::Servers => genetlink(messages(&changes(patch))),
            Self::Addresses => addresses(patch),
            Self::Deletions => genetlink(messages(&deletions(patch))),
            Self::Shrink => nfc_ruleset::encode::encode(&patch.shrink),
        }
    }

    fn origin(self, patch: &Patch, fault: &Fault) -> Origin {
        match self {
            Self::Hello => about(names::FAMILY),
            Self::Sysctls => sysctl_at(patch, fault.step),
            Self::Grow => companion_at(&patch.grow, fault),
            Self::Servers => order_at(&changes(patch), fault),
            Self::Addresses => address_at(patch, fault),
            Self::Deletions => order_at(&deletions(patch), fault),
            Self::Shrink => companion_at(&patch.shrink, fault),
        }
    }
}

fn about(object: impl Into<String>) -> Origin {
    Origin { service: None, object: object.into() }
}

fn genetlink(messages: Vec<GenlMessage>) -> Vec<Step> {
    if messages.is_empty() {
        return Vec::new();
    }
    vec![Step::Genetlink { family: names::FAMILY, messages }]
}

fn sysctls(patch: &Patch) -> Vec<Step> {
    let set = |(name, value): (&&str, &&str)| Step::Sysctl {
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    };
    patch.sysctls.iter().flatten().map(set).collect()
}

fn sysctl_at(patch: &Patch, index: usize) -> Origin {
    let name = patch.sysctls.iter().flatten().nth(index).map_or("", |(name, _)| name);
    about(format!("sysctl {name}"))
}

/// The companion's elements name the Service they stand for in their comments.
fn companion_at(patch: &nfc_ruleset::Patch, fault: &Fault) -> Origin {
    let blamed = nfc_ruleset::encode::blame(patch, fault);
    let service = blamed.comment.as_deref().and_then(ServiceName::of_display);
    Origin { service, object: format!("{}: {}", names::TABLE, blamed.object) }
}

/// What makes and changes virtual servers.
fn changes(patch: &Patch) -> Vec<Order<'_>> {
    orders(patch, |change| change.after.is_some())
}

/// What deletes virtual servers.
fn deletions(patch: &Patch) -> Vec<Order<'_>> {
    orders(patch, |change| change.after.is_none())
}

fn orders(patch: &Patch, which: fn(&Change) -> bool) -> Vec<Order<'_>> {
    let mut orders = Vec::new();
    for (key, change) in patch.servers.iter().filter(|(_, change)| which(change)) {
        let say = |command: &Command| Order { key: *key, change, command: *command };
        orders.extend(change.commands.iter().map(say));
    }
    orders
}

fn messages(orders: &[Order<'_>]) -> Vec<GenlMessage> {
    orders.iter().map(Order::message).collect()
}

fn order_at(orders: &[Order<'_>], fault: &Fault) -> Origin {
    let Some(Order { key, change, command }) = fault.message.and_then(|i| orders.get(i)) else {
        return about(names::FAMILY);
    };
    let server = format!("virtual server {}/{}", key.address, key.protocol);
    let object = match command {
        Command::AddServer => format!("add {server}"),
        Command::SetServer => format!("set {server}"),
        Command::DeleteServer => format!("delete {server}"),
        Command::AddReal(real, _) => format!("add real server {real} to {server}"),
        Command::SetReal(real, _) => format!("set real server {real} of {server}"),
        Command::DrainReal(real) => format!("drain real server {real} of {server}"),
        Command::DeleteReal(real) => format!("delete real server {real} of {server}"),
    };
    Origin { service: change.service.clone(), object }
}

/// One thing to say to rtnetlink.
#[derive(Clone, Copy, Debug)]
enum AddressOrder {
    Bind(IpAddr),
    DeleteLink,
    TakeOff(u32, IpAddr),
    Unbind(IpAddr),
}

/// An address that is on the dummy link gets its route before it is taken off.
fn address_orders(patch: &Patch) -> Vec<AddressOrder> {
    let link = match &patch.link {
        LinkChange::Keep => vec![],
        LinkChange::Strip { index, addresses } => {
            addresses.iter().map(|ip| AddressOrder::TakeOff(*index, *ip)).collect()
        }
        LinkChange::Delete => vec![AddressOrder::DeleteLink],
    };
    let bound = patch.bound.iter().map(|ip| AddressOrder::Bind(*ip));
    bound.chain(link).chain(patch.unbound.iter().map(|ip| AddressOrder::Unbind(*ip))).collect()
}

fn addresses(patch: &Patch) -> Vec<Step> {
    let orders = address_orders(patch);
    if orders.is_empty() {
        return Vec::new();
    }
    let mut writer = RouteWriter::new();
    for order in orders {
        order.write(&mut writer);
    }
    vec![Step::Route(writer.into_bytes())]
}

fn address_at(patch: &Patch, fault: &Fault) -> Origin {
    let orders = address_orders(patch);
    let object = match fault.message.and_then(|i| orders.get(i)) {
        None => "local routes".to_owned(),
        Some(AddressOrder::Bind(ip)) => format!("add local route {ip}"),
        Some(AddressOrder::DeleteLink) => format!("delete link {}", names::LINK),
        Some(AddressOrder::TakeOff(_, ip)) => format!("delete address {ip} of {}", names::LINK),
        Some(AddressOrder::Unbind(ip)) => format!("delete local route {ip}"),
    };
    about(object)
}

impl AddressOrder {
    fn write(self, writer: &mut RouteWriter) {
        match self {
            Self::Bind(ip) => writer.own(ip, names::ROUTE_PROTOCOL),
            Self::DeleteLink => writer.delete_link(names::LINK),
            Self::TakeOff(index, ip) => {
                writer.delete_address(index, ip, IpNet::from(ip).prefix_len());
            }
            Self::Unbind(ip) => writer.disown(ip, names::ROUTE_PROTOCOL),
        }
    }
}
