//! Two witnesses for every rule: what the backend's own tool makes of our text, and what
//! the kernel holds after we told it ourselves, must be the same. And nobody else's rules
//! may notice either.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

mod stage;

use nfc::compile;
use nfc_backend::AnyBackend;
use nfc_ir::{Family, Ir, Node, Protocol, synth};
use nfc_kernel::{Kernel, Namespace};
use nfc_lab::need;
use stage::{NFT, apply, backend, delete, example, examples, inside, needs, tool};

fn namespace() -> Namespace {
    Namespace::new().expect("a namespace")
}

/// Programs worth loading: every example, and samples with all that an Ir can say.
fn subjects(backend: &dyn AnyBackend) -> Vec<(String, Ir)> {
    let named = examples().into_iter().flat_map(|name| {
        let irs = example(&name, backend);
        irs.into_values().map(move |ir| (format!("{name} {}", ir.family()), ir))
    });
    let samples = (0..12).flat_map(|seed| {
        Family::ALL.map(|family| (format!("sample {seed}"), synth::sample(seed, family).ir))
    });
    let node = Node::default();
    let many = synth::cluster_ips(Family::Ipv4, Protocol::Tcp, 2000, 3, node).expect("valid");
    named.chain(samples).chain([("2,000 Services".to_owned(), many)]).collect()
}

fn text(backend: &dyn AnyBackend, ir: &Ir) -> String {
    compile::compile(backend, [ir]).text
}

fn restore(family: Family) -> (&'static str, &'static str) {
    match family {
        Family::Ipv4 => ("iptables-legacy-restore", "iptables-legacy-save"),
        Family::Ipv6 => ("ip6tables-legacy-restore", "ip6tables-legacy-save"),
    }
}

/// What is in the tables, without the counters and the comments that tell the time.
fn saved(namespace: &Namespace, family: Family) -> String {
    let all = tool(namespace, restore(family).1, &[], "");
    let lines = all.lines().filter(|l| !l.starts_with('#')).map(|l| match l.split_once(" [") {
        Some((chain, _)) if l.starts_with(':') => chain,
        _ => l,
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn listed(namespace: &Namespace) -> String {
    tool(namespace, "nft", &["list", "ruleset"], "")
}

#[test]
fn nft_text_and_our_bytes_leave_the_same_table() {
    if !need("nft text and our bytes leave the same table", &NFT) {
        return;
    }
    let backend = backend("nft");
    for (name, ir) in subjects(backend.as_ref()) {
        let (by_text, by_bytes) = (namespace(), namespace());
        tool(&by_text, "nft", &["-f", "-"], &text(backend.as_ref(), &ir));
        apply(&by_bytes, backend.as_ref(), &ir);
        let (theirs, ours) = (listed(&by_text), listed(&by_bytes));
        assert!(ours.contains("table ip"), "{name}: nothing is listed");
        assert!(theirs == ours, "{name}: the text gives\n{theirs}\nour bytes give\n{ours}");
    }
}

#[test]
fn what_nft_lists_can_be_loaded_again() {
    if !need("what nft lists can be loaded again", &NFT) {
        return;
    }
    let backend = backend("nft");
    for (name, ir) in subjects(backend.as_ref()) {
        let (first, second) = (namespace(), namespace());
        apply(&first, backend.as_ref(), &ir);
        let listing = listed(&first);
        tool(&second, "nft", &["-f", "-"], &listing);
        assert!(listing == listed(&second), "{name} changes by being listed and loaded");
    }
}

#[test]
fn loading_twice_changes_nothing_in_nft() {
    if !need("loading twice changes nothing in nft", &NFT) {
        return;
    }
    let backend = backend("nft");
    let other = synth::sample(99, Family::Ipv4).ir;
    for (name, ir) in
        subjects(backend.as_ref()).into_iter().filter(|s| s.1.family() == Family::Ipv4)
    {
        let node = namespace();
        tool(&node, "nft", &["-f", "-"], FOREIGN_NFT);
        // Something older is there, to be replaced.
        apply(&node, backend.as_ref(), &other);
        tool(&node, "nft", &["-f", "-"], &text(backend.as_ref(), &ir));
        let once = listed(&node);
        tool(&node, "nft", &["-f", "-"], &text(backend.as_ref(), &ir));
        assert!(once == listed(&node), "{name}: the text twice");
        apply(&node, backend.as_ref(), &ir);
        assert!(once == listed(&node), "{name}: apply after the text");
    }
}

/// A table of somebody else, with the same kind of content as ours.
const FOREIGN_NFT: &str = "
table ip nfc-of-somebody-else {
	map services {
		type ipv4_addr . inet_proto . inet_service : verdict
		elements = { 10.0.0.1 . tcp . 80 : drop }
	}

	chain nat-prerouting {
		type nat hook prerouting priority -90; policy accept;
		ip daddr . meta l4proto . th dport vmap @services
	}
}
";

#[test]
fn nft_leaves_other_tables_alone_and_nothing_behind() {
    if !need("nft leaves other tables alone and nothing behind", &NFT) {
        return;
    }
    let backend = backend("nft");
    let node = namespace();
    tool(&node, "nft", &["-f", "-"], FOREIGN_NFT);
    let before = listed(&node);
    for family in Family::ALL {
        delete(&node, backend.as_ref(), family);
        apply(&node, backend.as_ref(), &synth::sample(3, family).ir);
        assert!(listed(&node).contains(before.trim_end()), "somebody else's table changed");
        delete(&node, backend.as_ref(), family);
    }
    assert_eq!(before, listed(&node));
}

#[test]
fn iptables_text_and_apply_leave_the_same_chains() {
    let features = [needs("iptables", Family::Ipv4), needs("iptables", Family::Ipv6)].concat();
    if !need("iptables text and apply leave the same chains", &features) {
        return;
    }
    let backend = backend("iptables");
    for (name, ir) in subjects(backend.as_ref()) {
        let (by_text, by_apply) = (namespace(), namespace());
        let text = text(backend.as_ref(), &ir);
        let (restore, _) = restore(ir.family());
        tool(&by_text, restore, &["--noflush"], &text);
        apply(&by_apply, backend.as_ref(), &ir);
        let (theirs, ours) = (saved(&by_text, ir.family()), saved(&by_apply, ir.family()));
        assert!(ours.contains("KUBE-SERVICES"), "{name}: nothing is saved");
        assert!(theirs == ours, "{name}: the text gives\n{theirs}\napply gives\n{ours}");
        apply(&by_apply, backend.as_ref(), &ir);
        assert!(ours == saved(&by_apply, ir.family()), "{name}: apply twice");
    }
}

/// Somebody else's chain, rules before and after ours, and a jump to it.
const FOREIGN_IPTABLES: &str = "\
*filter
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A DOCKER-USER -s 192.0.2.0/24 -j DROP
COMMIT
*nat
-A POSTROUTING -s 172.17.0.0/16 -j MASQUERADE
COMMIT
";

#[test]
fn iptables_replaces_its_own_and_leaves_the_rest_alone() {
    let features = needs("iptables", Family::Ipv4);
    if !need("iptables replaces its own and leaves the rest alone", &features) {
        return;
    }
    let backend = backend("iptables");
    let (fresh, used) = (namespace(), namespace());
    for node in [&fresh, &used] {
        tool(node, "iptables-legacy-restore", &["--noflush"], FOREIGN_IPTABLES);
    }
    let before = saved(&used, Family::Ipv4);
    let (old, new) = (synth::sample(5, Family::Ipv4).ir, synth::sample(6, Family::Ipv4).ir);
    apply(&used, backend.as_ref(), &old);
    apply(&used, backend.as_ref(), &new);
    apply(&fresh, backend.as_ref(), &new);
    let sorted = |text: String| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        // The kernel keeps chains in the order they were made, which says nothing.
        lines.sort();
        lines
    };
    assert_eq!(sorted(saved(&fresh, Family::Ipv4)), sorted(saved(&used, Family::Ipv4)));
    delete(&used, backend.as_ref(), Family::Ipv4);
    assert_eq!(before, saved(&used, Family::Ipv4));
}

/// One file with the rules of both families loads with both tools.
#[test]
fn iptables_text_of_both_families_loads_with_both_tools() {
    let features = [needs("iptables", Family::Ipv4), needs("iptables", Family::Ipv6)].concat();
    if !need("iptables text of both families loads with both tools", &features) {
        return;
    }
    let backend = backend("iptables");
    let irs = example("web", backend.as_ref());
    assert_eq!(irs.len(), 2, "the example must have both families");
    let both = compile::compile(backend.as_ref(), irs.values()).text;
    for ir in irs.values() {
        let (restore, _) = restore(ir.family());
        let (alone, together) = (namespace(), namespace());
        tool(&alone, restore, &["--noflush"], &text(backend.as_ref(), ir));
        tool(&together, restore, &["--noflush"], &both);
        // The other family's chains are there too, but empty and unused.
        let rules = |n| {
            saved(n, ir.family())
                .lines()
                .filter(|l| l.starts_with("-A"))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(rules(&alone), rules(&together));
    }
}

/// A batch that the kernel refuses leaves the rules that were there.
#[test]
fn a_refused_apply_leaves_the_old_rules_whole() {
    if !need("a refused apply leaves the old rules whole", &NFT) {
        return;
    }
    let backend = backend("nft");
    let node = namespace();
    apply(&node, backend.as_ref(), &synth::sample(3, Family::Ipv4).ir);
    let before = listed(&node);
    // The difference between two other programs does not fit what is there.
    let program = |services| {
        let ir = synth::cluster_ips(Family::Ipv4, Protocol::Tcp, services, 2, Node::default());
        backend.lower(&ir.expect("valid")).program
    };
    let patch = backend.diff(&program(500), &program(499));
    let refusal = inside(&node, || {
        use nfc_backend::Apply as _;
        Kernel::new().apply(&backend.encode(&patch))
    });
    let Err(nfc_backend::Refusal::Refused { faults, .. }) = refusal else {
        panic!("the kernel took what cannot be: {refusal:?}");
    };
    let origins: Vec<_> = faults.iter().map(|f| backend.blame(&patch, f).to_string()).collect();
    assert!(
        origins.iter().any(|o| o.contains("svc-000499")),
        "the Service that went is not named: {origins:?} {faults:?}"
    );
    assert_eq!(before, listed(&node));
}
