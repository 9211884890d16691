//! The text of a patch, given to the backend's own tool, leads to the same rules as loading
//! the new Services: what `nfc diff` prints is what would be done. So does a patch that follows
//! from what became of some of them.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

mod stage;

use nfc::explain;
use nfc_backend::{AnyBackend, Apply as _};
use nfc_ir::synth::{self, Sample};
use nfc_ir::{Change, Family, Ir, Node, Protocol, Service, eval};
use nfc_kernel::{Feature, Kernel, Namespace};
use nfc_lab::need;
use stage::{NFT, apply, backend, inside, listed, needs, run, text, tool};
use std::collections::BTreeSet;
use std::ops::Range;

fn loaded(backend: &dyn AnyBackend, ir: &Ir) -> Namespace {
    let node = Namespace::new().expect("a namespace");
    // IPVS takes no real server before the table of local routes exists.
    tool(&node, "ip", &["link", "set", "lo", "up"], "");
    apply(&node, backend, ir);
    node
}

/// Another sample with the node of the first, so that the change is one of Services.
fn pairs(family: Family) -> impl Iterator<Item = (Ir, Ir)> {
    (0..12).map(move |seed| {
        let (old, new) = (synth::sample(seed, family).ir, synth::sample(seed + 100, family).ir);
        let moved = Ir::new(family, old.node().clone(), new.services().to_vec());
        (old, moved.expect("still valid"))
    })
}

fn patch(backend: &dyn AnyBackend, old: &Ir, new: &Ir) -> String {
    let patch = backend.diff(&backend.lower(old).program, &backend.lower(new).program);
    backend.render_patch(&patch)
}

#[test]
fn nft_takes_the_text_of_a_patch() {
    if !need("nft takes the text of a patch", &NFT) {
        return;
    }
    for backend in ["nft", "nft-constant-time"].map(backend) {
        for family in Family::ALL {
            for (old, new) in pairs(family) {
                let node = loaded(backend.as_ref(), &old);
                let text = patch(backend.as_ref(), &old, &new);
                for script in text.split("# The next transaction") {
                    let script =
                        script.split_once(", for a second nft -f.\n").map_or(script, |p| p.1);
                    tool(&node, "nft", &["-f", "-"], script);
                }
                let wanted = listed(&loaded(backend.as_ref(), &new), family);
                assert_eq!(listed(&node, family), wanted, "{}:\n{text}", backend.name());
            }
        }
    }
}

/// What became of each Service.
fn changes(old: &Ir, new: &Ir) -> Vec<Change> {
    let same = |a: &Service, b: &Service| (&a.name, a.protocol) == (&b.name, b.protocol);
    let in_ir = |ir: &Ir, service: &Service| {
        ir.services().iter().find(|other| same(other, service)).cloned()
    };
    let there = old.services().iter();
    let came = new.services().iter().filter(|service| in_ir(old, service).is_none());
    let all = there.chain(came);
    all.map(|s| Change { before: in_ir(old, s), after: in_ir(new, s) }).collect()
}

/// Loads the first of `irs`, follows to the others as a process does that stays, and each time
/// has the same rules as a node on which they were loaded.
fn follow(backend: &dyn AnyBackend, family: Family, irs: &[Ir]) {
    let node = loaded(backend, &irs[0]);
    let mut follower = backend.follow(&irs[0], backend.lower(&irs[0]));
    let mut kernel = Kernel::new().resident();
    for pair in irs.windows(2) {
        let patch = follower.change(&pair[1], &changes(&pair[0], &pair[1]));
        let applied = inside(&node, || kernel.apply(&backend.encode(&patch)));
        let text = backend.render_patch(&patch);
        applied.unwrap_or_else(|refusal| panic!("{refusal:?}\n{text}"));
        let wanted = listed(&loaded(backend, &pair[1]), family);
        assert_eq!(listed(&node, family), wanted, "{}:\n{text}", backend.name());
    }
}

#[test]
fn nft_takes_what_follows_from_changes() {
    if !need("nft takes what follows from changes", &NFT) {
        return;
    }
    for backend in ["nft", "nft-constant-time"].map(backend) {
        for family in Family::ALL {
            let samples: Vec<Ir> = (200..224).map(|seed| synth::sample(seed, family).ir).collect();
            let of_one_node = samples.iter().map(|ir| {
                let node = samples[0].node().clone();
                Ir::new(family, node, ir.services().to_vec()).expect("still valid")
            });
            follow(backend.as_ref(), family, &of_one_node.collect::<Vec<_>>());
        }
    }
}

/// One process makes all these changes of one node: some take two transactions, of which the
/// second deletes chains that what the first deleted led to.
#[test]
fn nft_takes_patches_from_somebody_who_stays() {
    if !need("nft takes patches from somebody who stays", &NFT) {
        return;
    }
    for backend in ["nft", "nft-constant-time"].map(backend) {
        for family in Family::ALL {
            let mut programs = (0..12).map(|seed| synth::sample(seed, family).ir);
            let first = programs.next().expect("twelve");
            let node = loaded(backend.as_ref(), &first);
            let (mut kernel, mut old) = (Kernel::new().resident(), first);
            let mut transactions = 0;
            for ir in programs {
                let new = Ir::new(family, old.node().clone(), ir.services().to_vec());
                let new = new.expect("still valid");
                let (was, is) = (backend.lower(&old).program, backend.lower(&new).program);
                let steps = backend.encode(&backend.diff(&was, &is));
                transactions = transactions.max(steps.len());
                inside(&node, || kernel.apply(&steps)).expect("it is taken");
                let wanted = listed(&loaded(backend.as_ref(), &new), family);
                assert_eq!(listed(&node, family), wanted, "{}", backend.name());
                old = new;
            }
            assert!(transactions > 1, "{} never takes two transactions", backend.name());
        }
    }
}

/// Sets are made with room for 64 elements: another one may come when one goes, and more may
/// once there is room for them.
#[test]
fn nft_takes_what_follows_when_sets_are_full() {
    if !need("nft takes what follows when sets are full", &NFT) {
        return;
    }
    let services = |range: Range<u32>| {
        let made = range.map(|i| synth::service(Family::Ipv4, Protocol::Tcp, i, 1)).collect();
        Ir::new(Family::Ipv4, Node::default(), made).expect("valid")
    };
    let irs = [0..8, 0..64, 1..65, 0..65, 0..200, 0..3, 0..96].map(services);
    for backend in ["nft", "nft-constant-time"].map(backend) {
        follow(backend.as_ref(), Family::Ipv4, &irs);
    }
}

/// Rules without counters; chains in the order of their names.
fn saved(node: &Namespace) -> BTreeSet<String> {
    let text = tool(node, "iptables-legacy-save", &[], "");
    let line = |line: &str| line.split(" [").next().unwrap_or_default().to_owned();
    text.lines().filter(|l| !l.starts_with('#')).map(line).collect()
}

#[test]
fn iptables_restore_takes_the_text_of_a_patch() {
    if !need("iptables-restore takes the text of a patch", &needs("iptables", Family::Ipv4)) {
        return;
    }
    let backend = backend("iptables");
    for (old, new) in pairs(Family::Ipv4) {
        let node = loaded(backend.as_ref(), &old);
        let text = patch(backend.as_ref(), &old, &new);
        tool(&node, "iptables-legacy-restore", &["--noflush"], &text);
        assert_eq!(saved(&node), saved(&loaded(backend.as_ref(), &new)), "{text}");
    }
}

/// A Service with these endpoints.
fn web(endpoints: &[&str]) -> String {
    let endpoints = endpoints.iter().map(|ip| format!("- addresses: [{ip}]\n"));
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop}}\nspec:\n  \
         clusterIP: 10.96.0.10\n  ports: [{{name: http, port: 80}}]\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: web-1, \
         namespace: shop, labels: {{kubernetes.io/service-name: web}}}}\naddressType: IPv4\n\
         ports: [{{name: http, port: 8080}}]\nendpoints:\n{}",
        endpoints.collect::<String>()
    )
}

/// The command, in a namespace with rules: nothing differs from what was loaded, a dry run
/// changes nothing, and live rules are explained.
#[test]
fn the_command_compares_and_explains_what_is_live() {
    if !need("the command compares and explains what is live", &NFT) {
        return;
    }
    let node = Namespace::new().expect("a namespace");
    let old = web(&["10.244.1.5", "10.244.2.8"]);
    let new = web(&["10.244.1.5", "10.244.2.8", "10.244.3.2"]);
    let there = |args: &[&str], stdin: &str| {
        let output = inside(&node, || run(args, stdin));
        (output.status.code(), text(&output.stdout))
    };
    assert_eq!(there(&["apply", "-b", "nft", "-"], &old).0, Some(0));
    assert_eq!(there(&["diff", "--live", "-"], &old), (Some(0), String::new()));
    let before = listed(&node, Family::Ipv4);
    let (code, patch) = there(&["apply", "-b", "nft", "--dry-run", "-"], &new);
    assert_eq!(code, Some(4));
    assert!(patch.contains("10.244.3.2"), "{patch}");
    assert_eq!(there(&["diff", "--live", "-"], &new), (Some(4), patch));
    assert_eq!(listed(&node, Family::Ipv4), before);
    let live = ["explain", "tcp 10.244.1.9 > 10.96.0.10:80", "--live"];
    let (code, told) = there(&live, "");
    assert_eq!(code, Some(0));
    assert!(told.contains("goes to one of 2 endpoints"), "{told}");
    assert_eq!(there(&["delete", "-b", "nft"], "").0, Some(0));
    assert_eq!(there(&live, "").0, Some(2));
}

/// Connections of the command's own land where the rules that it tells of send them.
#[test]
fn the_command_opens_connections_where_it_is_asked_to() {
    for name in ["nft", "iptables", "ipvs"] {
        if !need("the command opens connections", &needs(name, Family::Ipv4)) {
            continue;
        }
        let args = ["explain", "tcp 10.244.1.9 > 10.96.0.10:80", "--trace", "-b", name, "-"];
        let output = run(&args, &web(&["10.244.1.5", "10.244.2.8"]));
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let told = text(&output.stdout);
        for endpoint in ["10.244.1.5:8080", "10.244.2.8:8080"] {
            assert!(told.contains(&format!("times: landed at {endpoint}\n")), "{told}");
        }
    }
}

/// What IPVS holds, the companion and the bound addresses, in no order.
fn held(node: &Namespace) -> BTreeSet<String> {
    let servers = tool(node, "ipvsadm", &["--save", "-n"], "");
    let addresses = tool(node, "ip", &["-o", "address", "show"], "");
    let table = tool(node, "nft", &["list", "table", "ip", "nfc-ipvs"], "");
    let bound = addresses.lines().filter(|line| line.contains("kube-ipvs0"));
    let lines = servers.lines().chain(bound).chain(table.lines());
    let kept = lines.filter(|line| !line.starts_with("\t\tsize "));
    // Elements stand several on a line, wherever there is room.
    kept.flat_map(|line| line.split(',')).map(|part| part.trim().to_owned()).collect()
}

#[test]
fn a_shell_takes_the_text_of_a_patch_of_ipvs() {
    let tools = vec![Feature::NftTool, Feature::IpvsadmTool];
    let needed = [needs("ipvs", Family::Ipv4), tools].concat();
    if !need("a shell takes the text of a patch of IPVS", &needed) {
        return;
    }
    let backend = backend("ipvs");
    for (old, new) in pairs(Family::Ipv4).take(4) {
        let node = loaded(backend.as_ref(), &old);
        let text = patch(backend.as_ref(), &old, &new);
        tool(&node, "sh", &["-e"], &text);
        assert_eq!(held(&node), held(&loaded(backend.as_ref(), &new)), "{text}");
    }
}

/// What a kernel lists is read as what was loaded means.
#[test]
fn listings_of_the_kernel_are_explained_as_they_are_meant() {
    for name in ["nft", "nft-constant-time", "iptables"] {
        let what = format!("listings of {name} are explained as they are meant");
        let tools = if name == "iptables" { vec![] } else { vec![Feature::NftTool] };
        if !need(&what, &[needs(name, Family::Ipv4), tools].concat()) {
            continue;
        }
        let backend = backend(name);
        for seed in 0..3 {
            let Sample { ir, packets } = synth::sample(seed, Family::Ipv4);
            let node = loaded(backend.as_ref(), &ir);
            let listing = match name {
                "iptables" => tool(&node, "iptables-legacy-save", &[], ""),
                _ => tool(&node, "nft", &["list", "ruleset"], ""),
            };
            for packet in &packets {
                let addresses = &ir.node().addresses;
                let told = explain::explain_listing(backend.as_ref(), &listing, addresses, packet);
                let told = told.unwrap_or_else(|e| panic!("{packet}: {e}\n{listing}")).outcome();
                let told = told.unwrap_or_else(|| panic!("{packet}: chance decides"));
                let meant = eval(&ir, backend.mode(), packet);
                assert!(told.agrees_with(&meant), "{packet}: {told}, meant {meant}\n{listing}");
            }
        }
    }
}
