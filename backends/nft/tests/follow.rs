//! The law of following: after any changes the rules are those that lowering everything
//! would make, and what is sent is no more than what comparing would send.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use nfc_backend::{Backend, Follow};
use nfc_ir::synth::{self, Dice};
use nfc_ir::{Affinity, Change, Family, Ir, Node, Port, Protocol, Scheduler, Service};
use nfc_nft::{Follower, Layout, Nft, Patch, Program};
use nfc_ruleset::{ChainChange, SetChange};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

/// Services by number, of which some are there.
type Services = BTreeMap<u32, Service>;

const LAYOUTS: [Layout; 2] = [Layout::Verdict, Layout::ConstantTime];

/// A follower and the program that it has led to.
struct Led {
    nft: Nft,
    ir: Ir,
    program: Program,
    /// The same program as if it had been loaded at once.
    lowered: Program,
    follower: Follower,
    /// How many sets were made anew, here and by comparing.
    rebuilt: [usize; 2],
}

impl Led {
    fn new(layout: Layout, ir: Ir) -> Self {
        let nft = Nft { layout, ..Nft::default() };
        let lowered = nft.lower(&ir);
        let program = lowered.program.clone();
        let follower = nft.follow(&ir, lowered);
        Self { nft, ir, lowered: program.clone(), program, follower, rebuilt: [0; 2] }
    }

    /// Follows to `services` and holds it to the law.
    fn step(&mut self, services: &Services) -> Patch {
        let all = services.values().cloned().collect();
        let new = Ir::new(self.ir.family(), self.ir.node().clone(), all).expect("valid");
        let patch = self.follower.change(&new, &changes(&self.ir, &new));
        let after = self.nft.lower(&new);
        let compared = self.nft.diff(&self.lowered, &after.program);
        let [sent, would_be_sent] = [&patch, &compared].map(|patch| work(&self.program, patch));
        self.program = self.nft.patched(&self.program, &patch);
        assert!(self.program == after.program, "{new}\n{patch:?}\ninstead of\n{compared:?}");
        assert_eq!(self.follower.unsupported(), after.unsupported);
        let rebuilt = [&patch, &compared].map(rebuilt);
        for (all, more) in self.rebuilt.iter_mut().zip(rebuilt) {
            *all += more;
        }
        match rebuilt {
            [0, 0] => assert_eq!(patch.table, compared.table),
            [0, _] => assert!(sent < would_be_sent, "{patch:?}\ninstead of\n{compared:?}"),
            _ => {}
        }
        (self.ir, self.lowered) = (new, after.program);
        patch
    }
}

/// What became of each Service.
fn changes(old: &Ir, new: &Ir) -> Vec<Change> {
    let by_name = |ir: &Ir| -> BTreeMap<_, Service> {
        ir.services().iter().map(|s| ((s.name.clone(), s.protocol), s.clone())).collect()
    };
    let (mut old, mut new) = (by_name(old), by_name(new));
    let names: Vec<_> = old.keys().chain(new.keys()).cloned().collect();
    let change = |name| Change { before: old.remove(name), after: new.remove(name) };
    let all = names.iter().map(change);
    all.filter(|change| change.before != change.after).collect()
}

fn rebuilt(patch: &Patch) -> usize {
    let sets = patch.table.sets.values();
    sets.filter(|change| matches!(change, SetChange::Rebuild(_))).count()
}

/// How many elements go and come, and how many rules.
fn work(before: &Program, patch: &Patch) -> usize {
    let sets = before.table.as_ref().map(|table| &table.sets);
    let len = |name| sets.and_then(|sets| sets.get(name)).map_or(0, |set| set.elements.len());
    let elements = patch.table.sets.iter().map(|(name, change)| match change {
        SetChange::Add(set) | SetChange::Rebuild(set) => len(name) + set.elements.len(),
        SetChange::Update { gone, come, .. } => gone.len() + come.len(),
        SetChange::Delete => len(name),
    });
    let rules = patch.table.chains.values().map(|change| match change {
        ChainChange::Add(c) | ChainChange::Rebuild(c) | ChainChange::Refill(c) => c.rules.len(),
        ChainChange::Delete => 0,
    });
    elements.chain(rules).sum()
}

fn port(number: u32) -> Port {
    u16::try_from(number).ok().and_then(Port::new).expect("a port")
}

/// One of the samples' Services, as number `index` of many: two share a cluster IP.
fn service(dice: &mut Dice, family: Family, index: u32) -> Service {
    let sample = synth::sample(dice.roll(), family).ir;
    let count = u32::try_from(sample.services().len()).expect("few");
    let mut service = sample.services()[dice.below(count) as usize].clone();
    service.name.name = format!("svc{index}");
    service.port = port(80 + index);
    service.node_port = service.node_port.map(|_| port(30_000 + index));
    service.cluster_ip = match family {
        Family::Ipv4 => Ipv4Addr::from(0xac1e_0001 + index / 2).into(),
        Family::Ipv6 => {
            Ipv6Addr::from((0xfd00_0172_0030_u128 << 80) + u128::from(index / 2)).into()
        }
    };
    if dice.one_in(8) {
        service.scheduler = Scheduler::Maglev;
    }
    service
}

/// Changes some Services, at least one: they come, go, and are others than before.
fn stir(dice: &mut Dice, family: Family, services: &mut Services) {
    for _ in 0..=dice.below(3) {
        let index = dice.below(16);
        let before = services.remove(&index);
        let after = match (dice.below(4), before) {
            // The same one with an endpoint more or less, or other clients' habits.
            (0, Some(mut before)) => {
                before.endpoints.pop();
                Some(before)
            }
            (1, Some(mut before)) => {
                let seconds = NonZeroU32::MIN.saturating_add(dice.below(2));
                let affinity = Affinity { timeout_seconds: seconds };
                before.affinity = before.affinity.xor(Some(affinity));
                Some(before)
            }
            (2, Some(_)) => None,
            _ => Some(service(dice, family, index)),
        };
        services.extend(after.map(|service| (index, service)));
    }
}

#[test]
fn following_is_lowering_everything() {
    let (mut comparisons, mut features) = (0, BTreeSet::new());
    for seed in 0..16 {
        for family in Family::ALL {
            for layout in LAYOUTS {
                let node = synth::sample(seed, family).ir.node().clone();
                let mut led = Led::new(layout, Ir::new(family, node, vec![]).expect("valid"));
                let (mut dice, mut services) = (Dice::new(seed), Services::new());
                for _ in 0..60 {
                    stir(&mut dice, family, &mut services);
                    led.step(&services);
                    features.extend(led.follower.unsupported().iter().map(|u| u.reason.feature));
                }
                led.step(&Services::new());
                // Sets grow beyond their least size of 64 elements now and then, and only then
                // is everything looked at.
                assert!(led.follower.comparisons() <= led.rebuilt[0]);
                comparisons += led.follower.comparisons();
            }
        }
    }
    assert!(comparisons > 0);
    assert!(features.contains("scheduler round-robin") && features.contains("weights"));
}

fn sticky(index: u32) -> Service {
    let affinity = Some(Affinity { timeout_seconds: NonZeroU32::MIN });
    Service { affinity, ..synth::service(Family::Ipv4, Protocol::Tcp, index, 1) }
}

fn empty() -> Ir {
    Ir::new(Family::Ipv4, Node::default(), vec![]).expect("valid")
}

/// A thousand Services of 32,768 that can be told apart: some fifteen of them have a number
/// that another one would rather have.
#[test]
fn numbers_pass_on_when_services_come_and_go() {
    let all: Services = (0..1000).map(|index| (index, sticky(index))).collect();
    let ir = Ir::new(Family::Ipv4, Node::default(), all.values().cloned().collect());
    let mut led = Led::new(Layout::ConstantTime, ir.expect("valid"));
    let (mut dice, mut services, mut moved) = (Dice::new(3), all.clone(), 0);
    for _ in 0..20 {
        let mut touched = 0;
        for index in (0..1000).filter(|_| dice.one_in(5)) {
            touched += 1;
            if services.remove(&index).is_none() {
                services.insert(index, all[&index].clone());
            }
        }
        let patch = led.step(&services);
        let Some(SetChange::Update { gone, come, .. }) = patch.table.sets.get("ids-tcp") else {
            panic!("every Service has a number: {patch:?}");
        };
        moved += gone.len() + come.len() - touched;
    }
    assert!(moved > 20, "others have another number than before: {moved}");
    assert_eq!(led.follower.comparisons(), 0);
}

/// Sets that grow are made anew when they have no room left, and not before; when they shrink
/// again they keep it.
#[test]
fn everything_is_looked_at_only_when_a_set_has_no_room_left() {
    for layout in LAYOUTS {
        let mut led = Led::new(layout, empty());
        let mut services = Services::new();
        for up in [true, false, true] {
            for index in 0..200 {
                if up {
                    services.insert(index, synth::service(Family::Ipv4, Protocol::Tcp, index, 1));
                } else {
                    services.remove(&index);
                }
                led.step(&services);
            }
        }
        // Services, cluster IPs, endpoints and hairpins are 64 at first, then 96, then 192, and
        // then 384: all of them grow at the same steps. With the last Service the map of
        // endpoints goes, and begins anew.
        assert_eq!(led.follower.comparisons(), 3 + 3, "{layout:?}");
        assert!(led.rebuilt[0] < led.rebuilt[1], "{:?}", led.rebuilt);
    }
}

/// What happens all day is bounded by the Services that it happens to.
#[test]
fn plain_changes_look_at_nothing_else() {
    for layout in LAYOUTS {
        let all: Services = (0..150)
            .map(|i| (i, synth::service(Family::Ipv4, Protocol::Tcp, i, 1 + i % 4)))
            .map(|(i, service)| (i, if i % 10 == 0 { sticky(i) } else { service }))
            .collect();
        let ir = Ir::new(Family::Ipv4, Node::default(), all.values().cloned().collect());
        let mut led = Led::new(layout, ir.expect("valid"));
        let mut dice = Dice::new(1);
        let mut services = all.clone();
        for step in 0..300 {
            let index = dice.below(150);
            match step % 4 {
                0 => drop(services.remove(&index)),
                1 => drop(services.insert(index, all[&index].clone())),
                _ => {
                    let service = services.entry(index).or_insert_with(|| all[&index].clone());
                    let other = synth::endpoint(Family::Ipv4, dice.below(300));
                    service.endpoints[0].address = other;
                }
            }
            led.step(&services);
        }
        assert_eq!(led.follower.comparisons(), 0);
    }
}

/// The first Service whose clients keep their endpoint, and the last one, change rules of the
/// base chains too.
#[test]
fn affinity_comes_and_goes_by_itself() {
    let mut led = Led::new(Layout::Verdict, empty());
    let patch = led.step(&[(0, sticky(0))].into());
    assert!(matches!(patch.table.chains["postrouting"], ChainChange::Refill(_)));
    assert!(matches!(patch.table.sets["affinity"], SetChange::Add(_)));
    led.step(&[(0, sticky(0)), (1, sticky(1))].into());
    let patch = led.step(&[(1, sticky(1))].into());
    assert!(!patch.table.chains.contains_key("postrouting"));
    let patch = led.step(&Services::new());
    assert!(matches!(patch.table.sets["affinity"], SetChange::Delete));
    assert_eq!(led.follower.comparisons(), 0);
}

/// One Service may change several times before anybody follows.
#[test]
fn changes_of_one_service_are_one_after_the_other() {
    let mut led = Led::new(Layout::Verdict, empty());
    let steps = [3, 1, 2].map(|count| synth::service(Family::Ipv4, Protocol::Tcp, 0, count));
    let [first, second, third] = steps;
    let all = [
        Change { before: None, after: Some(first.clone()) },
        Change { before: Some(first), after: Some(second.clone()) },
        Change { before: Some(second), after: Some(third.clone()) },
    ];
    let ir = Ir::new(Family::Ipv4, Node::default(), vec![third]).expect("valid");
    let patch = led.follower.change(&ir, &all);
    assert_eq!(led.nft.patched(&led.program, &patch), led.nft.lower(&ir).program);
    assert!(led.nft.is_empty(&led.follower.change(&ir, &[])));
}
