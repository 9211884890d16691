//! What is in the kernel is read back, and only what differs is sent, whoever made the
//! difference.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

mod stage;

use nfc::load;
use nfc_backend::{Answer, AnyBackend, Apply, Question, Receipt, Refusal, Step};
use nfc_ir::{Family, Ir, Node, Protocol, synth};
use nfc_kernel::{Kernel, Namespace};
use nfc_lab::need;
use stage::{NFT, apply, backend, example, examples, family_name, inside, listed, tool};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

const BACKENDS: [&str; 2] = ["nft", "nft-constant-time"];

fn subjects(backend: &dyn AnyBackend) -> Vec<Ir> {
    let named = examples().into_iter().flat_map(|name| example(&name, backend).into_values());
    let samples = (0..12).flat_map(|seed| Family::ALL.map(|family| synth::sample(seed, family).ir));
    let many = synth::cluster_ips(Family::Ipv4, Protocol::Tcp, 2000, 3, Node::default());
    named.chain(samples).chain([many.expect("valid")]).collect()
}

#[test]
fn what_is_there_already_is_not_sent() {
    if !need("what is there already is not sent", &NFT) {
        return;
    }
    for backend in BACKENDS.map(backend) {
        for ir in subjects(backend.as_ref()) {
            let node = Namespace::new().expect("a namespace");
            let first = apply(&node, backend.as_ref(), &ir);
            assert!(!first.unchanged, "something was loaded");
            let again = apply(&node, backend.as_ref(), &ir);
            assert!(again.unchanged, "{:?}\n{ir}", again.changes);
            assert_eq!(again.receipt.steps, []);
        }
    }
}

/// nft writes some rules in more words than we do, and orders nothing.
#[test]
fn what_nft_loaded_is_not_sent() {
    if !need("what nft loaded is not sent", &NFT) {
        return;
    }
    for backend in BACKENDS.map(backend) {
        for ir in subjects(backend.as_ref()) {
            let node = Namespace::new().expect("a namespace");
            let text = backend.render(&[backend.lower(&ir).program]);
            tool(&node, "nft", &["-f", "-"], &text);
            let loaded = apply(&node, backend.as_ref(), &ir);
            assert!(loaded.unchanged, "{:?}\n{ir}", loaded.changes);
        }
    }
}

/// Things that others may do to a table, as scripts for nft.
fn drifts(backend: &dyn AnyBackend, family: Family) -> Vec<String> {
    let (address, other) = match family {
        Family::Ipv4 => ("172.30.99.99", "10.9.9.9"),
        Family::Ipv6 => ("fd00::99", "fd00::9"),
    };
    let ip = family_name(family);
    let value = if backend.name() == "nft" { "drop" } else { "6e63:1" };
    [
        "",
        "flush chain {ip} nfc output",
        "flush chain {ip} nfc no-endpoints",
        "insert rule {ip} nfc prerouting counter drop",
        "add rule {ip} nfc postrouting {ip} saddr { {a}, {b} } counter accept",
        "add rule {ip} nfc output tcp dport { 1, 2 } jump { counter; drop; }",
        "add rule {ip} nfc output tcp dport vmap { 1 : drop, 2 : goto no-endpoints }",
        "flush map {ip} nfc services",
        "flush set {ip} nfc cluster-ips",
        "add element {ip} nfc hairpin { {a} . {b} }",
        "add element {ip} nfc services { {a} . tcp . 99 comment \"rogue\" : {v} }",
        "add chain {ip} nfc rogue { type filter hook input priority 0; policy drop; }",
        "add chain {ip} nfc rogue; add chain {ip} nfc rogue2
         add rule {ip} nfc rogue tcp dport { 1, 2 } goto rogue2
         add rule {ip} nfc rogue2 {ip} daddr @cluster-ips drop",
        "add chain {ip} nfc empty",
        "add map {ip} nfc rogue { type mark : verdict; }
         add element {ip} nfc rogue { 1 : goto no-endpoints }",
        "add counter {ip} nfc rogue",
        "delete table {ip} nfc",
        "delete table {ip} nfc; add table {ip} nfc { flags dormant; }",
        "delete table {ip} nfc; add table {ip} nfc; add set {ip} nfc services { type mark; }",
        "delete table {ip} nfc; add table {ip} nfc
         add chain {ip} nfc output { type filter hook output priority 5; }",
    ]
    .map(|script| {
        script
            .replace("{ip}", ip)
            .replace("{a}", address)
            .replace("{b}", other)
            .replace("{v}", value)
    })
    .to_vec()
}

/// What the kernel holds after `ir` was loaded where nothing was.
fn fresh(backend: &dyn AnyBackend, ir: &Ir) -> BTreeSet<String> {
    let node = Namespace::new().expect("a namespace");
    apply(&node, backend, ir);
    listed(&node, ir.family())
}

#[test]
fn drift_is_repaired() {
    if !need("drift is repaired", &NFT) {
        return;
    }
    for backend in BACKENDS.map(backend) {
        let backend = backend.as_ref();
        for family in Family::ALL {
            let irs: Vec<_> = (0..4).map(|seed| synth::sample(seed, family).ir).collect();
            let wanted: Vec<_> = irs.iter().map(|ir| fresh(backend, ir)).collect();
            for (i, drift) in drifts(backend, family).iter().enumerate() {
                // Every other time nothing differs but what somebody else did.
                let old = i % 4;
                let new = if i % 2 == 0 { old } else { (i + 1 + i / 4) % 4 };
                repairs(backend, &irs[old], drift, &irs[new], &wanted[new]);
            }
        }
    }
}

fn repairs(backend: &dyn AnyBackend, old: &Ir, drift: &str, new: &Ir, wanted: &BTreeSet<String>) {
    let node = Namespace::new().expect("a namespace");
    apply(&node, backend, old);
    tool(&node, "nft", &["-f", "-"], drift);
    let loaded = apply(&node, backend, new);
    assert!(loaded.unchanged == (old == new && drift.is_empty()), "{drift}\n{loaded:?}");
    assert_eq!(loaded.unchanged, loaded.changes.is_empty());
    let found = listed(&node, new.family());
    let missing: Vec<_> = wanted.difference(&found).collect();
    let rogue: Vec<_> = found.difference(wanted).collect();
    assert!(missing.is_empty() && rogue.is_empty(), "{drift}\n{missing:#?}\n{rogue:#?}");
    assert!(apply(&node, backend, new).unchanged, "{drift}");
}

#[test]
fn random_updates_give_what_a_fresh_load_gives() {
    if !need("random updates give what a fresh load gives", &NFT) {
        return;
    }
    for backend in BACKENDS.map(backend) {
        for family in Family::ALL {
            let used = Namespace::new().expect("a node");
            let drifts = drifts(backend.as_ref(), family);
            for seed in 100..114_usize {
                let ir = synth::sample(seed as u64, family).ir;
                let loaded = apply(&used, backend.as_ref(), &ir);
                let wanted = fresh(backend.as_ref(), &ir);
                assert_eq!(wanted, listed(&used, family), "{loaded:?}");
                tool(&used, "nft", &["-f", "-"], &drifts[seed % drifts.len()]);
            }
        }
    }
}

#[test]
fn sets_grow_and_shrink() {
    if !need("sets grow and shrink", &NFT) {
        return;
    }
    for backend in BACKENDS.map(backend) {
        let node = Namespace::new().expect("a namespace");
        let mut rebuilt = Vec::new();
        for count in [10, 700, 750, 20, 1300] {
            let ir = synth::cluster_ips(Family::Ipv4, Protocol::Udp, count, 2, Node::default());
            let ir = ir.expect("valid");
            let loaded = apply(&node, backend.as_ref(), &ir);
            assert_eq!(fresh(backend.as_ref(), &ir), listed(&node, Family::Ipv4));
            rebuilt.push(
                loaded.changes.contains(&format!("set services: made anew with {count} elements")),
            );
        }
        // 700 Services have room for 1,536, and so have all up to 1,228.
        assert_eq!(rebuilt, [false, true, false, false, true]);
    }
}

/// A table of somebody else with the same names inside, and one of the other family.
const FOREIGN: &str = "
table ip other {
	map services {
		type ipv4_addr . inet_proto . inet_service : verdict
		elements = { 10.0.0.1 . tcp . 80 : drop }
	}

	chain prerouting {
		type nat hook prerouting priority -90; policy accept;
		ip daddr . meta l4proto . th dport vmap @services
	}
}
table ip6 nfc {
	chain prerouting {
		type nat hook prerouting priority -90; policy accept;
		drop
	}
}
";

#[test]
fn other_tables_are_neither_asked_for_nor_listed() {
    if !need("other tables are neither asked for nor listed", &NFT) {
        return;
    }
    for backend in BACKENDS.map(backend) {
        let node = Namespace::new().expect("a namespace");
        tool(&node, "nft", &["-f", "-"], FOREIGN);
        apply(&node, backend.as_ref(), &synth::sample(3, Family::Ipv4).ir);
        let questions = backend.questions(Family::Ipv4);
        let [Question::Nftables(requests)] = questions.as_slice() else {
            panic!("one question: {questions:?}");
        };
        let answers = inside(&node, || Kernel::new().ask(&questions)).expect("an answer");
        let ours = |messages: &[u8], generation: u16| {
            let named = heads(messages).into_iter().filter(|head| head.kind != generation);
            named.map(|head| (head.family, head.table)).collect::<BTreeSet<_>>()
        };
        let own = BTreeSet::from([(2, "nfc".to_owned())]);
        assert_eq!(ours(requests, 0x0a10), own, "asked for");
        assert_eq!(ours(&answers[0].0, 0x0a0f), own, "listed");
        // The kernel lists chains of all tables, so that they may only be asked for by name.
        let chains = heads(requests).into_iter().filter(|head| head.kind == 0x0a04);
        let whole: Vec<_> = chains.map(|head| head.flags & 0x300 == 0x300).collect();
        assert!(!whole.is_empty() && !whole.contains(&true));
    }
}

/// What a message of nf_tables is about.
struct Head {
    kind: u16,
    flags: u16,
    family: u8,
    /// The first attribute, which names the table in all messages but those about
    /// generations.
    table: String,
}

/// Read here by hand, so that the reader under test is not its own witness.
fn heads(mut messages: &[u8]) -> Vec<Head> {
    let half = |at: &[u8]| u16::from_ne_bytes([at[0], at[1]]);
    let mut heads = Vec::new();
    while messages.len() >= 20 {
        let length = u32::from_ne_bytes([0, 1, 2, 3].map(|i| messages[i]));
        let (message, rest) = messages.split_at(usize::try_from(length).expect("short"));
        messages = rest.get(message.len().next_multiple_of(4) - message.len()..).unwrap_or(&[]);
        let table = match message.get(20..) {
            Some(attr) if attr.len() > 4 && half(&attr[2..]) == 1 => {
                let text = &attr[4..usize::from(half(attr))];
                String::from_utf8_lossy(text).trim_end_matches('\0').to_owned()
            }
            _ => "none".to_owned(),
        };
        let (kind, flags) = (half(&message[4..]), half(&message[6..]));
        heads.push(Head { kind, flags, family: message[16], table });
    }
    heads
}

/// Between reading and writing, somebody else changes something, `times` in all.
struct Meddler<'a> {
    node: &'a Namespace,
    times: usize,
    refused: usize,
}

impl Apply for Meddler<'_> {
    fn apply(&mut self, steps: &[Step]) -> Result<Receipt, Refusal> {
        let applied = Kernel::new().apply(steps);
        self.refused += usize::from(applied.as_ref().is_err_and(Refusal::is_outdated));
        applied
    }

    fn ask(&mut self, questions: &[Question]) -> Result<Vec<Answer>, Refusal> {
        let answers = Kernel::new().ask(questions);
        if self.times > 0 {
            self.times -= 1;
            tool(self.node, "nft", &["add", "rule", "ip", "nfc", "output", "counter"], "");
        }
        answers
    }
}

#[test]
fn a_table_that_changes_meanwhile_is_read_again() {
    if !need("a table that changes meanwhile is read again", &NFT) {
        return;
    }
    for backend in BACKENDS.map(backend) {
        let (old, new) = (synth::sample(5, Family::Ipv4).ir, synth::sample(6, Family::Ipv4).ir);
        let wanted = fresh(backend.as_ref(), &new);
        for (times, refused) in [(0, 0), (1, 1), (2, 2), (100, 3)] {
            let node = Namespace::new().expect("a namespace");
            apply(&node, backend.as_ref(), &old);
            let mut meddler = Meddler { node: &node, times, refused: 0 };
            let loaded = inside(&node, || load::apply(backend.as_ref(), &new, &mut meddler));
            loaded.unwrap_or_else(|failure| panic!("{failure}"));
            assert_eq!(meddler.refused, refused, "of {times} times");
            assert_eq!(wanted, listed(&node, Family::Ipv4));
        }
    }
}

/// The number of the generation that the messages begin with.
fn generation(messages: &[u8]) -> u32 {
    assert_eq!(heads(messages)[0].kind, 0x0a0f);
    u32::from_be_bytes([24, 25, 26, 27].map(|i| messages[i]))
}

/// What is read while others change it is whole, or the generation tells that it may not be:
/// the kernel says so when a list was disturbed (`NLM_F_DUMP_INTR`), and it is read again; but
/// not when that happened at its very end.
#[test]
fn a_reading_that_is_disturbed_is_whole_or_outdated() {
    if !need("a reading that is disturbed is whole or outdated", &NFT) {
        return;
    }
    let backend = backend("nft");
    let ir = synth::cluster_ips(Family::Ipv4, Protocol::Tcp, 4000, 3, Node::default());
    let ir = ir.expect("valid");
    let program = backend.lower(&ir).program;
    let node = Namespace::new().expect("a namespace");
    apply(&node, backend.as_ref(), &ir);
    // So many elements that come and go make the kernel lose its place in a list.
    let many = (0..2000).map(|i| format!("10.9.{}.{} . tcp . 9 : drop", i / 250, i % 250));
    let many = many.collect::<Vec<_>>().join(", ");
    let busy = AtomicBool::new(true);
    let meddle = || {
        for verb in ["add", "delete"].repeat(8) {
            let script = format!("{verb} element ip nfc services {{ {many} }}");
            tool(&node, "nft", &["-f", "-"], &script);
            sleep(Duration::from_millis(60));
        }
        busy.store(false, Ordering::Relaxed);
    };
    let questions = backend.questions(Family::Ipv4);
    let read = || inside(&node, || Kernel::new().ask(&questions)).expect("an answer").remove(0);
    let mut readings = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(meddle);
        while busy.load(Ordering::Relaxed) {
            readings.push(read());
        }
    });
    readings.push(read());
    // Without an answer the kernel gave no list that was whole.
    readings.retain(|answer| !answer.0.is_empty());
    let next = readings.iter().skip(1).map(|answer| generation(&answer.0));
    let undisturbed = readings.iter().zip(next).filter(|(a, next)| generation(&a.0) == *next);
    let mut count = 0;
    for (answer, _) in undisturbed {
        count += 1;
        let changes = backend.summary(&backend.replace(std::slice::from_ref(answer), &program));
        let rogue = "set services: 2000 elements deleted, 0 added";
        assert!(changes.is_empty() || changes == [rogue], "{changes:?}");
    }
    assert!(count > 0, "none of {} readings was left alone", readings.len());
    println!("{count} of {} readings were left alone", readings.len());
}

/// What packets leave in a map is theirs.
#[test]
fn clients_that_are_remembered_are_no_drift() {
    if !need("clients that are remembered are no drift", &NFT) {
        return;
    }
    for backend in BACKENDS.map(backend) {
        let node = Namespace::new().expect("a namespace");
        let ir = synth::cluster_ips(Family::Ipv4, Protocol::Tcp, 1, 2, Node::default());
        let ir = ir.expect("valid");
        let mut services = ir.services().to_vec();
        let timeout_seconds = std::num::NonZeroU32::MIN.saturating_add(59);
        services[0].affinity = Some(nfc_ir::Affinity { timeout_seconds });
        let ir = Ir::new(Family::Ipv4, ir.node().clone(), services).expect("valid");
        apply(&node, backend.as_ref(), &ir);
        let client = "add element ip nfc affinity { 4001:0 . 10.1.1.1 : 4001:1 }";
        tool(&node, "nft", &["-f", "-"], client);
        assert!(apply(&node, backend.as_ref(), &ir).unchanged);
        let text = tool(&node, "nft", &["list", "map", "ip", "nfc", "affinity"], "");
        assert!(text.contains("10.1.1.1"), "the client was forgotten: {text}");
    }
}
