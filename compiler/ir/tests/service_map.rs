//! What a `ServiceMap` promises: whatever comes and goes, it is the Ir of all Services as they
//! were put, and it tells what became of each.

#![allow(clippy::expect_used, reason = "a test panics to keep its backtrace")]

use nfc_ir::synth::{self, Dice};
use nfc_ir::{
    Change, Family, Flaw, Ir, Node, Port, Protocol, Service, ServiceMap, ServiceName, Shadowed,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

type Services = BTreeMap<(ServiceName, Protocol), Service>;

fn key(service: &Service) -> (ServiceName, Protocol) {
    (service.name.clone(), service.protocol)
}

/// Makes Services that get into each other's way: of five names, with addresses of three that
/// are cluster IPs, external and load balancer addresses alike.
struct Crowd {
    dice: Dice,
    family: Family,
}

impl Crowd {
    fn name(&mut self) -> (ServiceName, Protocol) {
        let name = format!("svc{}", self.dice.below(5));
        let name = ServiceName { namespace: "ns".to_owned(), name, port: String::new() };
        (name, self.dice.pick(&[Protocol::Tcp, Protocol::Udp]))
    }

    fn address(&mut self) -> IpAddr {
        synth::cluster_ip(self.family, self.dice.below(3))
    }

    fn addresses(&mut self) -> BTreeSet<IpAddr> {
        let count = self.dice.below(3);
        (0..count).map(|_| self.address()).collect()
    }

    /// Most have a cluster IP of their own, or there would be few at a time.
    fn service(&mut self) -> Service {
        let (name, protocol) = self.name();
        let endpoints = synth::sample(self.dice.roll(), self.family).ir;
        let mut service = endpoints.services()[0].clone();
        service.cluster_ip = match self.dice.below(8) {
            0..2 => self.address(),
            2 => self.stranger(),
            _ => synth::cluster_ip(self.family, 100 + self.dice.below(20)),
        };
        service.port = Port::MIN.saturating_add(79 + u16::from(self.dice.one_in(4)));
        let node_port = 30_000 + u16::from(self.dice.one_in(2));
        service.node_port = self.dice.one_in(4).then(|| Port::MIN.saturating_add(node_port));
        service.external_ips = self.addresses();
        service.load_balancer_ips = self.addresses();
        self.dice.shuffle(&mut service.endpoints);
        Service { name, protocol, ..service }
    }

    /// An address of the other family, now and then.
    fn stranger(&mut self) -> IpAddr {
        let strange = self.dice.one_in(4);
        let family = Family::ALL.into_iter().find(|family| (*family != self.family) == strange);
        synth::cluster_ip(family.unwrap_or(self.family), 50)
    }

    /// One of those that are there, with something else about it or nothing.
    fn variant(&mut self, services: &Services) -> Option<Service> {
        let place = self.dice.below(u32::try_from(services.len()).expect("few"));
        let mut service = services.values().nth(place.try_into().expect("few"))?.clone();
        match self.dice.below(6) {
            0 => service.external_ips = self.addresses(),
            1 => service.load_balancer_ips = self.addresses(),
            2 => drop(service.endpoints.pop()),
            3 => service.cluster_ip = self.address(),
            4 => service.endpoints.reverse(),
            _ => {}
        }
        Some(service)
    }
}

/// What is different about the Services of two Irs.
fn difference(old: &Ir, new: &Ir) -> Vec<Change> {
    let index = |ir: &Ir| -> Services {
        ir.services().iter().map(|service| (key(service), service.clone())).collect()
    };
    let (old, new) = (index(old), index(new));
    let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let change = |key| Change { before: old.get(key).cloned(), after: new.get(key).cloned() };
    keys.into_iter().map(change).filter(|c| c.before != c.after).collect()
}

/// How often something happened that makes the law worth trying.
#[derive(Debug, Default)]
struct Seen {
    refusals: usize,
    shadowed: usize,
    others: usize,
}

fn try_law(seed: u64, family: Family, steps: u32) -> Seen {
    let mut crowd = Crowd { dice: Dice::new(seed), family };
    let mut services = Services::new();
    let mut map = ServiceMap::new(Ir::empty(family));
    let mut seen = Seen::default();
    for step in 0..steps {
        let before = map.ir().clone();
        let mut next = services.clone();
        let told = match crowd.dice.below(4) {
            0 => {
                let (name, protocol) = crowd.name();
                next.remove(&(name.clone(), protocol));
                Ok(map.remove(&name, protocol))
            }
            kind => {
                let variant = (kind == 1).then(|| crowd.variant(&services)).flatten();
                let service = variant.unwrap_or_else(|| crowd.service());
                next.insert(key(&service), service.clone());
                map.put(service)
            }
        };
        match Ir::new(family, Node::default(), next.values().cloned().collect()) {
            Ok(ir) => {
                services = next;
                assert_eq!(map.ir(), &ir, "seed {seed}, step {step}");
                assert_eq!(told, Ok(difference(&before, &ir)), "seed {seed}, step {step}");
            }
            Err(flaws) => {
                assert_eq!(told, Err(flaws), "seed {seed}, step {step}");
                assert_eq!(map.ir(), &before, "seed {seed}, step {step}");
                seen.refusals += 1;
            }
        }
        seen.shadowed += map.ir().shadowed().len();
        seen.others += usize::from(difference(&before, map.ir()).len() > 1);
        if crowd.dice.one_in(16) {
            map = ServiceMap::new(map.ir().clone());
        }
    }
    seen
}

fn any_family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::Ipv4), Just(Family::Ipv6)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn it_is_the_ir_of_all_services_and_tells_the_differences(seed: u64, family in any_family()) {
        try_law(seed, family, 100);
    }
}

/// The law would say little if nobody ever met anybody.
#[test]
fn services_get_into_each_others_way() {
    let seen = try_law(1, Family::Ipv4, 2_000);
    assert!(seen.refusals > 50 && seen.shadowed > 500 && seen.others > 100, "{seen:?}");
}

fn few() -> ServiceMap {
    let ir = synth::cluster_ips(Family::Ipv4, Protocol::Tcp, 3, 2, Node::default());
    ServiceMap::new(ir.expect("few Services"))
}

fn with_external(map: &ServiceMap, place: usize, ip: &str) -> Service {
    let mut service = map.ir().services()[place].clone();
    service.external_ips.insert(ip.parse().expect("an address"));
    service
}

#[test]
fn what_is_put_again_is_no_change() {
    let mut map = few();
    let mut same = map.ir().services()[1].clone();
    same.endpoints.reverse();
    same.endpoints.push(same.endpoints[0].clone());
    assert_eq!(map.put(same), Ok(Vec::new()));
    let loser = with_external(&map, 2, "172.16.0.1");
    assert_eq!(map.put(loser.clone()), Ok(Vec::new()), "it belongs to another already");
    assert_eq!(map.ir().shadowed().len(), 1);
    assert_eq!(map.put(loser), Ok(Vec::new()));
    assert_eq!(map.ir().shadowed().len(), 1);
}

#[test]
fn an_address_goes_to_the_next_in_order() {
    let mut map = few();
    for place in [2, 1, 0] {
        map.put(with_external(&map, place, "192.0.2.1")).expect("anybody may ask for it");
    }
    let owners = |map: &ServiceMap| -> Vec<String> {
        let all = map.ir().services().iter().filter(|s| !s.external_ips.is_empty());
        all.map(|s| s.name.name.clone()).collect()
    };
    let by = |map: &ServiceMap| -> Vec<String> {
        map.ir().shadowed().iter().map(|Shadowed { by, .. }| by.name.clone()).collect()
    };
    assert_eq!(
        (owners(&map), by(&map)),
        (vec!["svc-000000".to_owned()], vec!["svc-000000".to_owned(); 2])
    );
    let first = map.ir().services()[0].clone();
    let changes = map.remove(&first.name, first.protocol);
    let names: Vec<_> = changes
        .iter()
        .map(|c| (c.before.is_some(), c.after.as_ref().map(|s| s.name.name.as_str())))
        .collect();
    assert_eq!(names, [(true, None), (true, Some("svc-000001"))]);
    assert_eq!(
        (owners(&map), by(&map)),
        (vec!["svc-000001".to_owned()], vec!["svc-000001".to_owned()])
    );
    assert_eq!(map.remove(&first.name, first.protocol), Vec::new(), "it is gone");
}

/// The later of the two is at fault, whichever came last.
#[test]
fn a_conflict_is_told_as_an_ir_tells_it() {
    let mut map = few();
    let mut first = map.ir().services()[0].clone();
    first.cluster_ip = map.ir().services()[1].cluster_ip;
    let flaws = map.put(first).expect_err("a cluster IP is handed out once");
    let [Flaw::Conflict { service, by, .. }] = flaws.as_slice() else {
        unreachable!("one conflict: {flaws:?}");
    };
    assert_eq!((service.name.as_str(), by.name.as_str()), ("svc-000001", "svc-000000"));
}
