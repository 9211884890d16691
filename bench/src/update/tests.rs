//! What is timed of whom, and what is sent.

use super::*;
use crate::altered::Alterer;
use crate::updates::OPERATIONS;
use nfc_backend::Recorder;
use nfc_ir::synth::{self, Dice};
use nfc_ir::{Family, Node, Protocol};
use std::sync::atomic::{AtomicU64, Ordering};

/// A clock that goes 5 ns forward each time it is asked.
fn clock() -> u64 {
    static NOW: AtomicU64 = AtomicU64::new(0);
    NOW.fetch_add(5, Ordering::Relaxed)
}

fn contender(name: &str) -> Contender {
    Contender::find(name).expect("it is always there")
}

fn few_services() -> Ir {
    let ir = synth::cluster_ips(Family::Ipv4, Protocol::Udp, 4, 2, Node::default());
    ir.expect("few Services")
}

/// Loads a few Services and performs `operations`; tells for each what was timed.
fn performed(
    contender: &Contender,
    operations: &[Operation],
    kernel: &mut dyn Apply,
) -> Vec<Option<Parts>> {
    let cold = Loaded::cold(contender, clock, few_services(), kernel);
    let (mut loaded, parts) = cold.expect("nothing to refuse");
    assert!(parts.whole() >= parts.of(Part::Kernel));
    let mut alterer = Alterer::new(Dice::new(1), Protocol::Udp, 4, 2);
    let mut perform = |operation: &Operation| {
        let alterations = alterer.alterations(*operation, loaded.ir());
        loaded.perform(*operation, alterations, kernel).expect("nothing to refuse")
    };
    operations.iter().map(&mut perform).collect()
}

#[test]
fn the_parts_make_the_whole() {
    let parts = Parts(vec![(Part::Lower, 1), (Part::Encode, 300), (Part::Kernel, 4_000)]);
    let values = parts.by_metric(Operation::Churn);
    let sum: u64 = values[1..].iter().map(|(_, value)| value).sum();
    assert_eq!((values.len(), values[0], sum), (4, (Operation::Churn.whole(), 4_301), 4_301));
}

/// A kernel that refuses so much, and then nothing.
struct Stubborn {
    refusals: u32,
    later: Recorder,
}

impl Stubborn {
    fn new(refusals: u32) -> Self {
        Self { refusals, later: Recorder::default() }
    }
}

impl Apply for Stubborn {
    fn apply(&mut self, steps: &[Step]) -> Result<nfc_backend::Receipt, Refusal> {
        let Some(left) = self.refusals.checked_sub(1) else { return self.later.apply(steps) };
        self.refusals = left;
        let words = "no such chain".to_owned();
        let fault = Fault { step: 0, message: None, offset: None, errno: 2, words };
        Err(Refusal::Refused { kind: "nftables", faults: vec![fault], done: 0 })
    }

    fn ask(&mut self, _: &[nfc_backend::Question]) -> Result<Vec<Answer>, Refusal> {
        Ok(Vec::new())
    }
}

#[test]
fn a_refusal_is_told_with_its_reason() {
    let nothing = contender("none");
    let refused = Loaded::cold(&nothing, clock, few_services(), &mut Stubborn::new(1));
    let text = refused.err().expect("refused").to_string();
    assert!(text.contains("refused nftables") && text.contains("2 no such chain"), "{text}");
}

/// After a refusal nobody knows what the kernel has, so it gets everything.
#[test]
fn after_a_refusal_everything_is_sent() {
    let nft = contender("nft");
    let cold = Loaded::cold(&nft, clock, few_services(), &mut Recorder::default());
    let (mut loaded, _) = cold.expect("nothing to refuse");
    let mut alterer = Alterer::new(Dice::new(1), Protocol::Udp, 4, 2);
    let mut kernel = Stubborn::new(1);
    let mut swap = |operation, kernel: &mut dyn Apply| {
        let alterations = alterer.alterations(operation, loaded.ir());
        loaded.perform(operation, alterations, kernel).map(drop)
    };
    assert!(swap(Operation::EndpointSwapped, &mut kernel).is_err());
    for operation in [Operation::EndpointSwapped, Operation::FullResync, Operation::NoOp] {
        swap(operation, &mut kernel).expect("nothing to refuse");
    }
    let sizes: Vec<_> = kernel.later.steps.iter().map(Step::byte_count).collect();
    assert_eq!((sizes.len(), sizes[0]), (2, sizes[1]), "whole, whole again, nothing");
}

/// What happens besides changes is sent whole, and a change is smaller than all.
#[test]
fn a_backend_performs_every_operation() {
    let mut kernel = Recorder::default();
    let operations = &OPERATIONS;
    let nft = contender("nft");
    let parts = performed(&nft, operations, &mut kernel);
    for (operation, parts) in operations.iter().zip(&parts) {
        let parts = parts.as_ref().unwrap_or_else(|| panic!("{operation:?} is missing"));
        assert!(parts.of(Part::Lower) >= 5, "{operation:?}");
        assert_eq!(parts.of(Part::Read) > 0, *operation == Operation::ReadBack);
    }
    let sizes: Vec<_> = kernel.steps.iter().map(Step::byte_count).collect();
    let (cold, resync) = (sizes[0], sizes[sizes.len() - 1]);
    assert!(sizes[1..sizes.len() - 1].iter().any(|s| s * 2 < cold), "{sizes:?}");
    assert!(resync * 2 > cold, "{sizes:?}");
}

#[test]
fn of_a_peer_only_scripts_are_timed() {
    let mut kernel = Recorder::default();
    let peer = contender("kube-proxy-1.36");
    let all = performed(&peer, &OPERATIONS, &mut kernel);
    let done: Vec<bool> = all.iter().map(Option::is_some).collect();
    assert_eq!(done, [false, false, true, true, true, true, true, false, true]);
    assert!(all.iter().flatten().all(|parts| parts.0.len() == 1));
}

#[test]
fn text_is_always_loaded_whole() {
    let mut kernel = Recorder::default();
    let text = contender("nft/text");
    let all = performed(&text, &OPERATIONS, &mut kernel);
    assert_eq!(all.iter().flatten().count(), 1);
    assert_eq!(kernel.steps.len(), 2);
    assert_eq!(kernel.steps[0], kernel.steps[1]);
}

#[test]
fn prepared_steps_are_those_that_would_be_carried_out() {
    let nft = contender("nft");
    let mut kernel = Recorder::default();
    let cold = Loaded::cold(&nft, clock, few_services(), &mut kernel);
    let (mut loaded, _) = cold.expect("nothing to refuse");
    let mut alterer = Alterer::new(Dice::new(1), Protocol::Udp, 4, 2);
    let back = vec![Alteration::Put(loaded.ir().services()[2].clone())];
    let there = Vec::from_iter(alterer.swapped_at(2, loaded.ir()));
    let steps = loaded.prepare(there.clone()).expect("fine").expect("steps");
    loaded.prepare(back).expect("fine");
    assert_eq!(loaded.prepare(there).expect("fine"), Some(steps), "there and back again");
}
