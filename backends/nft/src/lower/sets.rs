//! The sets and maps, and what a Service puts into them.
//!
//! Invariant: one row here is one fact about one Service; nothing about chains but their
//! names.

use super::classes::Classes;
use super::ids::Ids;
use super::shared::{Uses, count};
use super::{At, Place};
use crate::Layout;
use crate::names::{self, Class, Door, Maps};
use ipnet::IpNet;
use nfc_ir::{Family, Service};
use nfc_ruleset::elements::COMMENT_MAX;
use nfc_ruleset::expr::{Expr, Generator, Transport};
use nfc_ruleset::{Fields, Key, Set, Table, Type, Value, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// Slot numbers lie below this in the maps' declarations. It names the type of the field;
/// the count of slots is in the chains.
const SLOT_MODULUS: u32 = 65_536;

/// The maps that are there only when they are used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum MapKind {
    /// Frontend and slot -> endpoint.
    Endpoints(Maps),
    /// Frontend and slot -> the endpoint's number.
    Ids(Maps),
    /// The endpoint's number -> endpoint.
    Sticky(&'static str),
}

/// The sets being filled.
pub(super) struct Sets {
    family: Family,
    services: Set,
    nodeports: Set,
    cluster_ips: Set,
    hairpin: Set,
    source_ranges: Set,
    local_services: Set,
    local_nodeports: Set,
    maps: BTreeMap<MapKind, Set>,
    /// In the constant-time layout the classes of frontends, and those of what
    /// [`Sets::add_local`] adds: chains that are led to by these are led to by those, and
    /// the kernel takes no map that may lead in a circle.
    classes: Option<[Classes; 2]>,
}

impl Sets {
    pub(super) fn new(family: Family, layout: Layout, services: usize) -> Self {
        let types = |types: &[Type]| Fields::Types(types.to_vec());
        let set = |key: &[Type]| Set::new(family, types(key), Value::None);
        let by_class = layout == Layout::ConstantTime;
        let verdict = || match layout {
            Layout::Verdict => Value::Verdict,
            Layout::ConstantTime => Value::Data(types(&[Type::Class])),
        };
        let vmap = |key: &[Type]| Set::new(family, types(key), verdict());
        let at_address = [Type::Address, Type::Protocol, Type::Port];
        let at_node_port = [Type::Protocol, Type::Port];
        let with_source = [Type::Address, Type::Protocol, Type::Port, Type::Address];
        let mut sets = Self {
            family,
            services: vmap(&at_address),
            nodeports: vmap(&at_node_port),
            cluster_ips: set(&[Type::Address]),
            hairpin: set(&[Type::Address, Type::Address]),
            source_ranges: set(&with_source).with_interval(),
            local_services: vmap(&at_address),
            local_nodeports: vmap(&at_node_port),
            maps: BTreeMap::new(),
            classes: by_class.then(Default::default),
        };
        for set in [&mut sets.services, &mut sets.cluster_ips, &mut sets.hairpin] {
            set.elements.reserve(services);
        }
        sets
    }

    /// The table with all sets that are always there, and the others where they are used.
    pub(super) fn into_table(self) -> Table {
        let mut table = Table::new(self.family, names::TABLE);
        table.add_set(names::SERVICES, self.services);
        table.add_set(names::NODEPORTS, self.nodeports);
        table.add_set(names::CLUSTER_IPS, self.cluster_ips);
        table.add_set(names::HAIRPIN, self.hairpin);
        table.add_set(names::SOURCE_RANGES, self.source_ranges);
        table.add_set(names::LOCAL_SERVICES, self.local_services);
        table.add_set(names::LOCAL_NODEPORTS, self.local_nodeports);
        for (name, classes) in [names::CLASSES, names::LOCAL_CLASSES]
            .into_iter()
            .zip(self.classes.into_iter().flatten())
        {
            table.add_set(name, classes.into_map(self.family));
        }
        for (kind, set) in self.maps {
            let name = match kind {
                MapKind::Endpoints(maps) => maps.endpoints(),
                MapKind::Ids(maps) => maps.ids(),
                MapKind::Sticky(name) => name.to_owned(),
            };
            table.add_set(name, set);
        }
        table
    }

    /// What to do at a frontend, with the Service's name for readers and for blame. The
    /// longest names of namespace and Service fit into a comment, one of the port may not.
    pub(super) fn add_frontend(&mut self, at: &At, verdict: &Verdict) {
        let value = value(self.classes.as_mut().map(|[all, _]| all), verdict);
        let set = match at.place {
            Place::Address(_) => &mut self.services,
            Place::NodePort(_) => &mut self.nodeports,
        };
        let name = &at.service.name;
        let mut comment = [&name.namespace, "/", &name.name, ":", &name.port];
        let length: usize = comment.iter().map(|part| part.len()).sum();
        if name.port.is_empty() || length > COMMENT_MAX {
            comment[3..].fill("");
        }
        set.elements.push(at.frontend_key().bytes(), value.bytes(), &comment);
    }

    /// Who answers on this node at a frontend under `externalTrafficPolicy: Local`.
    pub(super) fn add_local(&mut self, at: &At, verdict: &Verdict) {
        let value = value(self.classes.as_mut().map(|[_, local]| local), verdict);
        let set = match at.place {
            Place::Address(_) => &mut self.local_services,
            Place::NodePort(_) => &mut self.local_nodeports,
        };
        set.elements.push(at.frontend_key().bytes(), value.bytes(), &[]);
    }

    /// Which cluster IPs were added; from now on none was.
    pub(super) fn take_cluster_ips(&mut self) -> Uses<IpAddr> {
        taken(self.family, &mut self.cluster_ips)
    }

    /// Which endpoints were added that may reach themselves; from now on none was.
    pub(super) fn take_hairpins(&mut self) -> Uses<IpAddr> {
        taken(self.family, &mut self.hairpin)
    }

    /// In the constant-time layout the classes asked for, first those of frontends; from now on
    /// none was.
    pub(super) fn take_numbered(&mut self) -> [Uses<Verdict>; 2] {
        self.classes.as_mut().map(|both| both.each_mut().map(Classes::take)).unwrap_or_default()
    }

    /// Gives classes their numbers, as if frontends had asked for them.
    pub(super) fn add_numbered<'v>(&mut self, verdicts: [impl Iterator<Item = &'v Verdict>; 2]) {
        for (classes, verdicts) in self.classes.iter_mut().flatten().zip(verdicts) {
            for verdict in verdicts {
                classes.number(verdict);
            }
        }
    }

    pub(super) fn add_cluster_ip(&mut self, ip: IpAddr) {
        self.cluster_ips.add(&Key::new().addr(ip));
    }

    pub(super) fn add_hairpin(&mut self, ip: IpAddr) {
        self.hairpin.add(&Key::new().addr(ip).addr(ip));
    }

    /// The endpoint of each slot at a frontend.
    pub(super) fn add_slots(&mut self, at: &At, class: &Class, endpoints: &[SocketAddr]) {
        if let Some(ids) = at.ids {
            return self.add_sticky(at, class, endpoints, ids);
        }
        let map = self.map(MapKind::Endpoints(class.maps()));
        let key = at.endpoint_key();
        for (slot, endpoint) in (0..).zip(endpoints) {
            let value = Key::new().addr(endpoint.ip()).port(endpoint.port());
            map.elements.push(key.number(slot).bytes(), value.bytes(), &[]);
        }
    }

    /// With session affinity a slot leads to the endpoint's number, and the number to the
    /// endpoint: a client holds on to the number, which leads nowhere once the endpoint is
    /// gone.
    fn add_sticky(&mut self, at: &At, class: &Class, endpoints: &[SocketAddr], ids: &Ids) {
        let key = at.endpoint_key();
        let map = self.map(MapKind::Ids(class.maps()));
        for (slot, endpoint) in (0..).zip(endpoints) {
            let id = Key::new().number(ids[endpoint]);
            map.elements.push(key.number(slot).bytes(), id.bytes(), &[]);
        }
        let map = self.map(MapKind::Sticky(class.sticky()));
        for endpoint in BTreeSet::from_iter(endpoints) {
            let id = Key::new().number(ids[endpoint]);
            let value = Key::new().addr(endpoint.ip()).port(endpoint.port());
            map.elements.push(id.bytes(), value.bytes(), &[]);
        }
    }

    fn map(&mut self, kind: MapKind) -> &mut Set {
        let family = self.family;
        self.maps.entry(kind).or_insert_with(|| declared(family, kind))
    }

    /// The ranges of sources admitted at a load balancer IP. The kernel's set of ranges
    /// refuses those that overlap, so they are merged first.
    pub(super) fn add_source_ranges(&mut self, service: &Service, ip: IpAddr, ranges: &[IpNet]) {
        for range in IpNet::aggregate(&ranges.to_vec()) {
            let place = Key::new().addr(ip).proto(service.protocol).port(service.port);
            let first = place.addr(range.network());
            let last = place.addr(range.broadcast());
            self.source_ranges.add(&first.then(&last));
        }
    }
}

/// Empties a set whose keys begin with an address, and counts these.
fn taken(family: Family, set: &mut Set) -> Uses<IpAddr> {
    let empty = set.without_elements();
    let full = std::mem::replace(set, empty);
    count(full.elements.iter().map(|row| match family {
        Family::Ipv4 => first_bytes::<4>(row.key).into(),
        Family::Ipv6 => first_bytes::<16>(row.key).into(),
    }))
}

fn first_bytes<const LEN: usize>(key: &[u8]) -> [u8; LEN] {
    let bytes = key.first_chunk().copied();
    bytes.unwrap_or_else(|| unreachable!("the key begins with an address of {LEN} bytes"))
}

/// What a frontend leads to: the number of its class, or the verdict itself.
fn value(classes: Option<&mut Classes>, verdict: &Verdict) -> Key {
    match classes {
        Some(classes) => Key::new().number(classes.number(verdict)),
        None => Key::new().raw(&verdict.to_row()),
    }
}

/// A map of endpoints or of their numbers. Where slots are in its key, its declaration names
/// the protocol's own port field: nft takes `th dport` there but cannot read its listing
/// back.
fn declared(family: Family, kind: MapKind) -> Set {
    let (maps, is_id) = match kind {
        MapKind::Endpoints(maps) => (maps, false),
        MapKind::Ids(maps) => (maps, true),
        MapKind::Sticky(_) => {
            let endpoint = Value::Data(Fields::Types(vec![Type::Address, Type::Port]));
            return Set::new(family, Fields::Types(vec![Type::Class]), endpoint);
        }
    };
    let slot = Expr::Number { generator: Generator::Random, modulus: SLOT_MODULUS };
    let dport = Expr::Dport(Transport::Of(maps.protocol));
    let value = if is_id { vec![Expr::Priority] } else { vec![Expr::Daddr, dport.clone()] };
    let key = match maps.door {
        Door::Address => vec![Expr::Daddr, dport, slot],
        Door::NodePort => vec![dport, slot],
    };
    Set::new(family, Fields::Typeof(key), Value::Data(Fields::Typeof(value)))
}
