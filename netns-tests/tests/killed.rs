//! `nfc apply`, killed at any moment: the node has the old rules or the new ones, never a
//! mixture, and the next apply puts things right.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

mod stage;

use nfc_ir::synth::{self, Dice};
use nfc_ir::{Family, Ir, Node, Protocol};
use nfc_kernel::{Feature, Namespace};
use nfc_lab::need;
use nfc_netns_tests::manifest;
use stage::{inside, nfc, tool};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const SERVICES: u32 = 300;
const KILLS: u32 = 20;

/// A manifest on disk, gone when dropped.
struct Manifest(PathBuf);

impl Manifest {
    fn new(name: &str, endpoints: u32) -> Self {
        let node = Node { name: "node-a".to_owned(), ..Node::default() };
        let ir: Ir = synth::cluster_ips(Family::Ipv4, Protocol::Tcp, SERVICES, endpoints, node)
            .expect("valid");
        let path = std::env::temp_dir().join(format!("nfc-{}-{name}.yaml", std::process::id()));
        std::fs::write(&path, manifest::objects(&ir)).expect("a manifest");
        Self(path)
    }
}

impl Drop for Manifest {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Starts an apply in `node`. A child is born in the namespace of the thread that makes it.
fn start(node: &Namespace, manifest: &Manifest) -> Child {
    let spawn = || {
        Command::new(nfc())
            .args(["apply", "--backend", "nft", "--family", "ipv4", "--node", "node-a"])
            .arg(&manifest.0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
    };
    inside(node, spawn).expect("the command starts")
}

fn finish(node: &Namespace, manifest: &Manifest) {
    let status = start(node, manifest).wait().expect("the command ends");
    assert!(status.success(), "{status}");
}

/// The sets and chains of the table, in no order. Chains that are no longer used go in a
/// transaction of their own, empty by then: one that is left over changes no packet's fate.
fn listed(node: &Namespace) -> BTreeSet<String> {
    let all = tool(node, "nft", &["list", "ruleset"], "");
    let body = all.trim_end().trim_start_matches("table ip nfc {\n").trim_end_matches("\n}");
    let objects = body.split("\n\n");
    let is_left_over = |o: &&str| o.starts_with("\tchain ") && o.lines().count() == 2;
    objects.filter(|o| !is_left_over(o)).map(in_order).collect()
}

/// Elements come in the order of a hash, and room for more of them is not a difference.
fn in_order(object: &str) -> String {
    if object.starts_with("\tchain ") {
        return object.to_owned();
    }
    let (head, elements) = object.split_once("elements = {").unwrap_or((object, ""));
    let mut elements: Vec<_> =
        elements.trim_end_matches(['}', '\n', '\t', ' ']).split(',').map(str::trim).collect();
    elements.sort_unstable();
    let head: Vec<_> = head.lines().filter(|l| !l.trim().starts_with("size ")).collect();
    format!("{}\n{}", head.join("\n").trim_end(), elements.join("\n"))
}

#[test]
fn a_killed_apply_leaves_the_old_rules_or_the_new() {
    let features = [Feature::Namespaces, Feature::Nftables, Feature::NftTool];
    if !need("a killed apply leaves the old rules or the new", &features) {
        return;
    }
    let node = Namespace::new().expect("a namespace");
    let (one, other) = (Manifest::new("one", 2), Manifest::new("other", 3));
    finish(&node, &other);
    let with_other = listed(&node);
    let begun = Instant::now();
    finish(&node, &one);
    let whole_ns = u32::try_from(begun.elapsed().as_nanos()).expect("a few seconds at most");
    let with_one = listed(&node);
    assert!(with_one.len() > 5 && with_one != with_other, "{with_one:?}");
    let mut dice = Dice::new(7);
    let mut changed = 0;
    for kill in 0..KILLS {
        // Reading manifests takes the longest; the kernel is told towards the end.
        let delay = whole_ns / 2 + dice.below(whole_ns / 4 * 3);
        let mut child = start(&node, &other);
        sleep(Duration::from_nanos(delay.into()));
        let _ = child.kill();
        child.wait().expect("the command ends");
        let now = listed(&node);
        let told = || now.difference(&with_other).cloned().collect::<String>();
        assert!(now == with_one || now == with_other, "kill {kill}: a mixture:\n{}", told());
        changed += u32::from(now == with_other);
        finish(&node, &one);
        let now = listed(&node);
        let told = || now.symmetric_difference(&with_one).cloned().collect::<String>();
        assert!(now == with_one, "kill {kill}: apply did not put things right:\n{}", told());
    }
    println!("{changed} of {KILLS} were too late to stop the new rules");
}
