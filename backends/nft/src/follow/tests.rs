//! What no sample would ever have: two classes whose numbers are the same, and more Services
//! with session affinity than there are numbers.

use crate::lower::classes::home;
use crate::names::{Class, Door, Pick, Policy};
use crate::{Layout, Nft};
use nfc_backend::{Backend as _, Follow as _};
use nfc_ir::{Affinity, Change, Family, Ir, Node, Protocol, Service, synth};
use nfc_ruleset::Verdict;
use std::collections::BTreeMap;
use std::num::NonZeroU32;

/// The class of a cluster IP with one endpoint, whose clients keep it for so long.
fn class(seconds: u32) -> Verdict {
    let class = Class {
        door: Door::Address,
        policy: Policy::Cluster,
        protocol: Protocol::Tcp,
        slots: 1,
        pick: Pick::Random,
        affinity: Some(seconds),
    };
    Verdict::Goto(class.chain())
}

/// Two timeouts whose classes have the same number.
fn twins() -> [u32; 2] {
    let mut seen = BTreeMap::new();
    let mut twins = (1..).filter_map(|seconds| {
        seen.insert(home(&class(seconds)), seconds).map(|twin| [twin, seconds])
    });
    twins.next().expect("there are more timeouts than numbers")
}

fn service(index: u32, seconds: u32) -> Service {
    let affinity = NonZeroU32::new(seconds).map(|timeout_seconds| Affinity { timeout_seconds });
    Service { affinity, ..synth::service(Family::Ipv4, Protocol::Tcp, index, 1) }
}

fn ir(services: &[Service]) -> Ir {
    Ir::new(Family::Ipv4, Node::default(), services.to_vec()).expect("valid")
}

#[test]
fn classes_with_the_same_number_are_told_apart_by_their_order() {
    let [one, other] = twins().map(|seconds| move |index| service(index, seconds));
    let steps = [
        vec![one(1)],
        // The second class comes first, and has the number until it goes.
        vec![one(1), other(0)],
        vec![one(1), other(0), other(2)],
        vec![one(1), other(2)],
        vec![other(2)],
        vec![other(2), service(3, 0)],
    ];
    let nft = Nft { layout: Layout::ConstantTime, ..Nft::default() };
    let lowered = nft.lower(&ir(&steps[0]));
    let mut program = lowered.program.clone();
    let mut follower = nft.follow(&ir(&steps[0]), lowered);
    for pair in steps.windows(2) {
        let missing = |from: &Vec<Service>, to: &Vec<Service>| -> Vec<Service> {
            from.iter().filter(|service| !to.contains(service)).cloned().collect()
        };
        let gone = missing(&pair[0], &pair[1]).into_iter();
        let come = missing(&pair[1], &pair[0]).into_iter();
        let gone = gone.map(|service| Change { before: Some(service), after: None });
        let come = come.map(|service| Change { before: None, after: Some(service) });
        let now = ir(&pair[1]);
        let patch = follower.change(&now, &gone.chain(come).collect::<Vec<_>>());
        program = nft.patched(&program, &patch);
        assert_eq!(program, nft.lower(&now).program);
    }
    assert_eq!(follower.comparisons(), 4, "all steps but the last one");
}

#[test]
fn who_is_without_a_number_depends_on_all_others() {
    let nft = Nft::default();
    let before = ir(&[service(0, 60), service(1, 0)]);
    let mut follower = nft.follow(&before, nft.lower(&before));
    follower.seats.full = true;
    let after = ir(&[service(0, 60), service(2, 0)]);
    let changes = [
        Change { before: Some(service(1, 0)), after: None },
        Change { before: None, after: Some(service(2, 0)) },
    ];
    let patch = follower.change(&after, &changes);
    assert_eq!(nft.patched(&nft.lower(&before).program, &patch), nft.lower(&after).program);
    assert_eq!((follower.comparisons(), follower.seats.full), (1, false));
}
