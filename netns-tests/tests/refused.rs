//! What the kernel refuses is told in the user's terms: the Service, the element, and the
//! kernel's own words, out of a transaction with hundreds of thousands of elements.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

mod stage;

use nfc::load;
use nfc_backend::{AnyBackend, AnyProgram, Apply, Refusal, Step};
use nfc_ir::{Family, Ir, Node, Protocol, synth};
use nfc_kernel::{Feature, Kernel, Namespace};
use nfc_lab::need;
use stage::{backend, inside, needs, tool};

const SERVICES: u32 = 100_000;

fn services(protocol: Protocol) -> Ir {
    let node = Node { name: "node-a".to_owned(), ..Node::default() };
    synth::cluster_ips(Family::Ipv4, protocol, SERVICES, 1, node).expect("valid")
}

/// What the kernel says to the way from `old` to `new`: for each fault the Service, the
/// object and the words.
fn told(
    node: &Namespace,
    backend: &dyn AnyBackend,
    old: &AnyProgram,
    new: &AnyProgram,
) -> Vec<(String, String, String)> {
    let patch = backend.diff(old, new);
    let steps = backend.encode(&patch);
    let bytes: usize = steps.iter().map(Step::byte_count).sum();
    assert!(bytes > 10_000_000, "a large transaction: {bytes} bytes");
    let refusal = inside(node, || Kernel::new().apply(&steps)).expect_err("a refusal");
    let Refusal::Refused { faults, done: 0, .. } = refusal else {
        panic!("refused as a whole: {refusal}");
    };
    let told = |fault| {
        let origin = backend.blame(&patch, fault);
        let service = origin.service.map(|service| service.to_string()).unwrap_or_default();
        (service, origin.object, fault.to_string())
    };
    faults.iter().map(told).collect()
}

#[test]
fn every_element_that_is_refused_is_told_by_the_name_of_its_service() {
    let features = [needs("nft", Family::Ipv4), vec![Feature::NftTool]].concat();
    if !need("every element that is refused is told by the name of its Service", &features) {
        return;
    }
    let backend = backend("nft");
    let (old, new) = (services(Protocol::Udp), services(Protocol::Tcp));
    let node = Namespace::new().expect("a namespace");
    let apply = || inside(&node, || load::apply(backend.as_ref(), &old, &mut Kernel::new()));
    apply().unwrap_or_else(|failure| panic!("{failure}"));
    let [before, after] = [&old, &new].map(|ir| backend.lower(ir).program);
    // What somebody else said about some Services is in the way of what they become.
    let in_the_way: Vec<_> = [7, 30_000, 30_001, 99_999].map(|i| &new.services()[i]).into();
    let key = |i: usize| format!("{} . tcp . 80", in_the_way[i].cluster_ip);
    let rogue: Vec<_> = (0..4).map(|i| format!("{} : drop", key(i))).collect();
    let rogue = format!("element ip nfc services {{ {} }}", rogue.join(", "));
    tool(&node, "nft", &["-f", "-"], &format!("add {rogue}"));
    let faults = told(&node, backend.as_ref(), &before, &after);
    let fault = |i: usize| {
        let name = in_the_way[i].name.to_string();
        let object = format!("add element services {{ {} }}", key(i));
        (name, object, "File exists (os error 17)".to_owned())
    };
    // The kernel takes a message's elements up to the first one that it refuses.
    assert_eq!(faults, [0, 1, 3].map(fault));
    // Nothing of it took effect: without the rogue elements all is as it was.
    tool(&node, "nft", &["-f", "-"], &format!("delete {rogue}"));
    let again = apply().unwrap_or_else(|failure| panic!("{failure}"));
    assert!(again.unchanged, "{:?}", again.changes);
}
