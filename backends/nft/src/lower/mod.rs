//! From an Ir to a table: every Service becomes elements of a few sets and maps, and what
//! Services have in common becomes chains, one for each class in use.
//!
//! Invariant: the number of chains and sets depends on which policies, protocols and
//! numbers of endpoints occur, never on how many Services there are.

mod chains;
mod classes;
mod ids;
mod sets;
pub mod slots;

use crate::Layout;
use crate::names::{self, Class, Door, Pick, Policy};
use crate::program::Program;
use ids::{Ids, Numbering};
use ipnet::IpNet;
use nfc_backend::{Lowered, Reason, Unsupported};
use nfc_ir::{
    Endpoint, Frontend, Ir, Protocol, ProxyMode, Scheduler, Selection, Service, ServiceName,
    TrafficPolicy, select,
};
use nfc_ruleset::{Key, Verdict};
use sets::Sets;
use slots::{maglev, slots};
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
    let mut lowering = Lowering::new(ir, layout);
    for service in ir.services() {
        lowering.service(service);
    }
    lowering.finish()
}

/// A lowering under way.
struct Lowering<'a> {
    ir: &'a Ir,
    layout: Layout,
    sets: Sets,
    numbering: Numbering,
    /// The classes in use and the names of their chains.
    classes: BTreeMap<Class, String>,
    firewalls: BTreeSet<Verdict>,
    /// Who takes turns by the counter of a class.
    turns: BTreeMap<Class, BTreeSet<(&'a ServiceName, Protocol)>>,
    unsupported: BTreeSet<Unsupported>,
}

/// What chains depend on besides the Services.
#[derive(Clone, Copy)]
struct Settings<'a> {
    ir: &'a Ir,
    layout: Layout,
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
    fn new(ir: &'a Ir, layout: Layout) -> Self {
        Self {
            ir,
            layout,
            sets: Sets::new(ir.family(), layout, ir.services().len()),
            numbering: Numbering::default(),
            classes: BTreeMap::new(),
            firewalls: BTreeSet::new(),
            turns: BTreeMap::new(),
            unsupported: BTreeSet::new(),
        }
    }

    fn finish(mut self) -> Lowered<Program> {
        for sharers in self.turns.values().filter(|sharers| sharers.len() > 1) {
            self.unsupported.extend(sharers.iter().map(|(service, protocol)| Unsupported {
                service: (*service).clone(),
                protocol: *protocol,
                reason: ROUND_ROBIN,
            }));
        }
        let mut table = self.sets.into_table();
        let sticky = self.classes.keys().any(|class| class.affinity.is_some());
        let settings = Settings { ir: self.ir, layout: self.layout };
        chains::add_base(&mut table, settings, sticky);
        for class in self.classes.keys() {
            chains::add_class(&mut table, settings, *class);
        }
        for onward in &self.firewalls {
            chains::add_firewall(&mut table, onward);
        }
        let program = Program {
            family: self.ir.family(),
            table: Some(table),
            addresses: self.ir.node().addresses.clone(),
        };
        Lowered { program, unsupported: self.unsupported.into_iter().collect() }
    }

    fn service(&mut self, service: &'a Service) {
        let selection = select(service, self.ir.node());
        let pick = pick(service.scheduler);
        let ids = self.ids(service);
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
        let own = |e: &&&Endpoint| self.ir.node().masquerades_hairpin(ProxyMode::Nftables, e);
        used.filter(own).for_each(|endpoint| self.sets.add_hairpin(endpoint.address.ip()));
    }

    /// The numbers of the Service's endpoints, when its clients keep theirs.
    fn ids(&mut self, service: &Service) -> Option<Ids> {
        service.affinity?;
        let ids = self.numbering.ids(service);
        if ids.is_none() {
            self.leave_out(service, AFFINITY);
        }
        ids
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
            self.turns.entry(class).or_default().insert((&at.service.name, class.protocol));
        }
        let chain = self.classes.entry(class).or_insert_with(|| class.chain());
        Verdict::Goto(chain.clone())
    }

    /// Lets only the Service's source ranges through to `onward`. A node inside the ranges
    /// may reach a load balancer address with one as its source, when it is bound to one
    /// of its links.
    fn firewalled(&mut self, service: &Service, ip: IpAddr, onward: Verdict) -> Verdict {
        if service.source_ranges.is_empty() {
            return onward;
        }
        let mut admitted: Vec<_> = service.source_ranges.iter().copied().collect();
        let node = self.ir.node().primary_address();
        if node.is_some_and(|node| admitted.iter().any(|r| r.contains(&node))) {
            admitted.extend(service.load_balancer_ips.iter().copied().map(IpNet::from));
        }
        self.sets.add_source_ranges(service, ip, &admitted);
        let chain = chains::firewall_name(&onward);
        self.firewalls.insert(onward);
        Verdict::Goto(chain)
    }
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
