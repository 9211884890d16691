//! From an Ir to a table: every Service becomes elements of a few sets and maps, and what
//! Services have in common becomes chains, one for each class in use.
//!
//! Invariant: the number of chains and sets depends on which policies, protocols and
//! numbers of endpoints occur, never on how many Services there are.

mod chains;
pub(crate) mod classes;
pub(crate) mod ids;
mod sets;
pub(crate) mod shared;
pub mod slots;

use crate::Layout;
use crate::names::{self, Class, Door, Pick, Policy};
use crate::program::Program;
pub(crate) use chains::add_base;
use ids::{Ids, Numbering};
use ipnet::IpNet;
use nfc_backend::{Lowered, Reason, Unsupported};
use nfc_ir::{
    Endpoint, Frontend, Ir, Protocol, ProxyMode, Scheduler, Selection, Service, ServiceName,
    TrafficPolicy, select,
};
use nfc_ruleset::{Key, Table, Verdict};
use sets::Sets;
use shared::Shared;
use slots::{maglev, slots};
use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

const AFFINITY: Reason = Reason {
    feature: "session affinity",
    why: "32,768 Services with affinity, and as many endpoints of each, are the most that can \
          be told apart; every connection picks an endpoint anew",
};
const ROUND_ROBIN: Reason = Reason {
    feature: "scheduler round-robin",
    why: "the counter belongs to a chain that several Services share: turns are fair over all \
          of them, not for each",
};
const MAGLEV: Reason = Reason {
    feature: "weights",
    why: "a Maglev table has 251 slots, 4093 for more than 50 endpoints; shares are rounded",
};
const WEIGHTS: Reason = Reason {
    feature: "weights",
    why: "the exact shares need more than 4096 slots; they are rounded",
};

/// The program that does what `ir` means.
#[must_use]
pub fn lower(ir: &Ir, layout: Layout) -> Lowered<Program> {
    lower_services(Settings { ir, layout }, ir.services().iter())
}

/// The program that does what these Services mean, which are sorted as those of an Ir.
pub(crate) fn lower_services<'a>(
    settings: Settings<'a>,
    services: impl ExactSizeIterator<Item = &'a Service>,
) -> Lowered<Program> {
    let mut lowering = Lowering::new(settings, services.len());
    let mut numbering = Numbering::default();
    for service in services {
        lowering.service(service, numbering.number(service));
    }
    lowering.finish()
}

/// A lowering under way.
pub(crate) struct Lowering<'a> {
    settings: Settings<'a>,
    sets: Sets,
    classes: BTreeMap<Class, Chain>,
    /// Where the chains that keep strangers out lead to, and how many times each is used.
    firewalls: BTreeMap<Verdict, u32>,
    pub(crate) turns: Turns<&'a ServiceName>,
    /// What was left out, but for turns.
    pub(crate) unsupported: BTreeSet<Unsupported>,
}

/// Who takes turns by the counter of a class.
pub(crate) type Turns<Name> = BTreeSet<(Class, Name, Protocol)>;

/// The chain of a class in use.
struct Chain {
    name: String,
    /// How many times it is used.
    uses: u32,
}

/// What chains depend on besides the Services: the node of this Ir, and the layout.
#[derive(Clone, Copy)]
pub(crate) struct Settings<'a> {
    pub(crate) ir: &'a Ir,
    pub(crate) layout: Layout,
}

/// One Service at one of its frontends.
#[derive(Clone, Copy)]
struct At<'a, 'i> {
    service: &'a Service,
    place: Place,
    pick: Pick,
    /// The numbers of the endpoints, when there is session affinity.
    ids: Option<&'i Ids>,
}

/// Where a frontend is.
#[derive(Clone, Copy)]
enum Place {
    Address(IpAddr),
    NodePort(nfc_ir::Port),
}

impl<'a> Lowering<'a> {
    /// A lowering with room for about so many Services.
    pub(crate) fn new(settings: Settings<'a>, services: usize) -> Self {
        Self {
            settings,
            sets: Sets::new(settings.ir.family(), settings.layout, services),
            classes: BTreeMap::new(),
            firewalls: BTreeMap::new(),
            turns: Turns::new(),
            unsupported: BTreeSet::new(),
        }
    }

    fn finish(mut self) -> Lowered<Program> {
        self.unsupported.extend(shared_turns(&self.turns));
        let unsupported = std::mem::take(&mut self.unsupported).into_iter().collect();
        let sticky = self.classes.keys().any(|class| class.affinity.is_some());
        let settings = self.settings;
        let mut table = self.into_table();
        add_base(&mut table, settings, sticky);
        let program = Program {
            family: settings.ir.family(),
            table: Some(table),
            addresses: settings.ir.node().addresses.clone(),
        };
        Lowered { program, unsupported }
    }

    /// All sets of Services, and all chains but those that are always there.
    pub(crate) fn into_table(self) -> Table {
        let mut table = self.sets.into_table();
        for class in self.classes.keys() {
            chains::add_class(&mut table, self.settings, *class);
        }
        for onward in self.firewalls.keys() {
            chains::add_firewall(&mut table, onward);
        }
        table
    }

    /// What these Services use that others may use too; from now on they use nothing of the
    /// kind.
    pub(crate) fn take_shared(&mut self) -> Shared {
        let classes = std::mem::take(&mut self.classes).into_iter();
        Shared {
            cluster_ips: self.sets.take_cluster_ips(),
            hairpins: self.sets.take_hairpins(),
            classes: classes.map(|(class, chain)| (class, chain.uses)).collect(),
            firewalls: std::mem::take(&mut self.firewalls),
            numbered: self.sets.take_numbered(),
        }
    }

    /// Adds what is used, whoever uses it.
    pub(crate) fn add_shared(&mut self, shared: &Shared) {
        shared.cluster_ips.keys().for_each(|ip| self.sets.add_cluster_ip(*ip));
        shared.hairpins.keys().for_each(|ip| self.sets.add_hairpin(*ip));
        for (class, uses) in &shared.classes {
            self.classes.insert(*class, Chain { name: class.chain(), uses: *uses });
        }
        self.firewalls.extend(shared.firewalls.clone());
        self.sets.add_numbered(shared.numbered.each_ref().map(BTreeMap::keys));
    }

    /// Adds a Service. `number` is its own, if it needs one.
    pub(crate) fn service(&mut self, service: &'a Service, number: Option<u32>) {
        let node = self.settings.ir.node();
        let selection = select(service, node);
        let pick = pick(service.scheduler);
        let ids = number.and_then(|number| ids::ids(service, number));
        if service.affinity.is_some() && ids.is_none() {
            self.leave_out(service, AFFINITY);
        }
        for frontend in service.frontends() {
            let place = match frontend {
                Frontend::ClusterIp(ip)
                | Frontend::ExternalIp(ip)
                | Frontend::LoadBalancerIp(ip) => Place::Address(ip),
                Frontend::NodePort(port) => Place::NodePort(port),
            };
            let at = At { service, place, pick, ids: ids.as_ref() };
            let verdict = if selection.any {
                self.balance(&at, frontend, &selection)
            } else {
                Verdict::Goto(names::NO_ENDPOINTS.to_owned())
            };
            let verdict = match frontend {
                Frontend::LoadBalancerIp(ip) => self.firewalled(service, ip, verdict),
                _ => verdict,
            };
            self.sets.add_frontend(&at, &verdict);
        }
        self.sets.add_cluster_ip(service.cluster_ip);
        let used = selection.cluster.iter().chain(&selection.local);
        let own = |e: &&&Endpoint| node.masquerades_hairpin(ProxyMode::Nftables, e);
        used.filter(own).for_each(|endpoint| self.sets.add_hairpin(endpoint.address.ip()));
    }

    fn leave_out(&mut self, service: &Service, reason: Reason) {
        self.unsupported.insert(Unsupported {
            service: service.name.clone(),
            protocol: service.protocol,
            reason,
        });
    }

    /// What is done with a packet at this frontend of a Service that has endpoints.
    fn balance(&mut self, at: &At<'a, '_>, frontend: Frontend, selection: &Selection) -> Verdict {
        let cluster_ip = matches!(frontend, Frontend::ClusterIp(_));
        let policy =
            if cluster_ip { at.service.internal_policy } else { at.service.external_policy };
        match (cluster_ip, policy) {
            (true, TrafficPolicy::Cluster) => self.spread(at, Policy::Cluster, &selection.cluster),
            (true, TrafficPolicy::Local) => self.spread(at, Policy::ClusterLocal, &selection.local),
            (false, TrafficPolicy::Cluster) => {
                self.spread(at, Policy::External, &selection.cluster)
            }
            (false, TrafficPolicy::Local) => {
                self.spread(at, Policy::Spread, &selection.cluster);
                let local = self.spread(at, Policy::Local, &selection.local);
                self.sets.add_local(at, &local);
                self.spread(at, Policy::ExternalLocal, &selection.cluster)
            }
        }
    }

    /// Fills the slots of `endpoints` for this frontend. Without any there is nobody on
    /// this node to answer: the packet is dropped.
    fn spread(&mut self, at: &At<'a, '_>, policy: Policy, endpoints: &[&Endpoint]) -> Verdict {
        if endpoints.is_empty() {
            return Verdict::Drop;
        }
        let slots = match at.pick {
            Pick::Maglev => maglev(endpoints),
            Pick::Random | Pick::RoundRobin | Pick::SourceHash => slots(endpoints),
        };
        if slots.rounded {
            let maglev = at.pick == Pick::Maglev;
            self.leave_out(at.service, if maglev { MAGLEV } else { WEIGHTS });
        }
        let class = Class {
            door: at.door(),
            policy,
            protocol: at.service.protocol,
            slots: u32::try_from(slots.endpoints.len()).unwrap_or(u32::MAX),
            pick: at.pick,
            affinity: at.ids.and(at.service.affinity).map(|a| a.timeout_seconds.get()),
        };
        if policy != Policy::ExternalLocal {
            self.sets.add_slots(at, &class, &slots.endpoints);
        }
        if at.pick == Pick::RoundRobin && policy != Policy::ExternalLocal {
            self.turns.insert((class, &at.service.name, class.protocol));
        }
        let chain = self.classes.entry(class);
        let chain = chain.or_insert_with(|| Chain { name: class.chain(), uses: 0 });
        chain.uses += 1;
        Verdict::Goto(chain.name.clone())
    }

    /// Lets only the Service's source ranges through to `onward`. A node inside the ranges
    /// may reach a load balancer address with one as its source, when it is bound to one
    /// of its links.
    fn firewalled(&mut self, service: &Service, ip: IpAddr, onward: Verdict) -> Verdict {
        if service.source_ranges.is_empty() {
            return onward;
        }
        let mut admitted: Vec<_> = service.source_ranges.iter().copied().collect();
        let node = self.settings.ir.node().primary_address();
        if node.is_some_and(|node| admitted.iter().any(|r| r.contains(&node))) {
            admitted.extend(service.load_balancer_ips.iter().copied().map(IpNet::from));
        }
        self.sets.add_source_ranges(service, ip, &admitted);
        let chain = chains::firewall_name(&onward);
        *self.firewalls.entry(onward).or_default() += 1;
        Verdict::Goto(chain)
    }
}

/// Whose turns are not only its own.
pub(crate) fn shared_turns<Name: Borrow<ServiceName>>(turns: &Turns<Name>) -> Vec<Unsupported> {
    let turns: Vec<_> = turns.iter().collect();
    let by_class = turns.chunk_by(|(class, ..), (next, ..)| class == next);
    let shared = by_class.filter(|sharers| sharers.len() > 1).flatten();
    let unsupported = shared.map(|(_, service, protocol)| Unsupported {
        service: service.borrow().clone(),
        protocol: *protocol,
        reason: ROUND_ROBIN,
    });
    unsupported.collect()
}

fn pick(scheduler: Scheduler) -> Pick {
    match scheduler {
        Scheduler::Random => Pick::Random,
        Scheduler::RoundRobin => Pick::RoundRobin,
        Scheduler::SourceHash => Pick::SourceHash,
        Scheduler::Maglev => Pick::Maglev,
    }
}

impl At<'_, '_> {
    fn door(&self) -> Door {
        match self.place {
            Place::Address(_) => Door::Address,
            Place::NodePort(_) => Door::NodePort,
        }
    }

    /// The key under which endpoints of this frontend are found, but for the slot.
    fn endpoint_key(&self) -> Key {
        match self.place {
            Place::Address(ip) => Key::new().addr(ip).port(self.service.port),
            Place::NodePort(port) => Key::new().port(port),
        }
    }

    /// The key under which the frontend itself is found.
    fn frontend_key(&self) -> Key {
        let protocol = self.service.protocol;
        match self.place {
            Place::Address(ip) => Key::new().addr(ip).proto(protocol).port(self.service.port),
            Place::NodePort(port) => Key::new().proto(protocol).port(port),
        }
    }
}
