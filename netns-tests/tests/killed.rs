//! `nfc apply`, killed at any moment: the node has the old rules or the new ones, never a
//! mixture, and the next apply puts things right. A first load may be killed between two of
//! its transactions: then no packet meets anything of it.
//!
//! The moments follow from a seed, which is another one each time (`NFC_SEED`).

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]
#![allow(clippy::print_stdout, reason = "a test says its seed")]

mod stage;

use nfc::load;
use nfc_backend::{Answer, AnyBackend, Apply, Question, Receipt, Refusal, Step};
use nfc_ir::synth::{self, Dice};
use nfc_ir::{Endpoint, Family, Ir, Node, Protocol};
use nfc_kernel::{Kernel, Namespace};
use nfc_lab::need;
use nfc_netns_tests::manifest;
use stage::{NFT, apply, backend, inside, nfc, tool};
use std::collections::BTreeSet;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

/// How many updates are killed, and how many first loads.
const UPDATES: u32 = 60;
const FIRST_LOADS: u32 = 40;

/// That many where time is real; a kernel in software emulation takes seconds for each.
fn rounds(count: u32) -> u32 {
    if std::env::var_os("NFC_PATIENCE_MS").is_some() { count / 5 } else { count }
}

fn services(count: u32, endpoints: u32) -> Ir {
    let node = Node { name: "node-a".to_owned(), ..Node::default() };
    synth::cluster_ips(Family::Ipv4, Protocol::Tcp, count, endpoints, node).expect("valid")
}

/// Few Services whose weights take so many elements that a first load has several
/// transactions.
fn heavy() -> Ir {
    let few = services(5, 2);
    let weights = [NonZeroU16::MIN, NonZeroU16::MIN.saturating_add(4094)];
    let weigh = |(endpoint, weight)| Endpoint { weight, ..endpoint };
    let mut heavy = few.services().to_vec();
    for service in &mut heavy {
        service.endpoints = service.endpoints.drain(..).zip(weights).map(weigh).collect();
    }
    Ir::new(Family::Ipv4, few.node().clone(), heavy).expect("valid")
}

fn dice(what: &str) -> Dice {
    let typed = std::env::var("NFC_SEED").ok().map(|s| s.parse().expect("NFC_SEED is a number"));
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let seed: u64 = typed.unwrap_or(u64::from(clock.subsec_nanos()));
    println!("{what}: the seed of this run is {seed}: NFC_SEED={seed} gives it again");
    Dice::new(seed)
}

/// A manifest on disk, gone when dropped.
struct Manifest(PathBuf);

impl Manifest {
    fn new(name: &str, ir: &Ir) -> Self {
        let path = std::env::temp_dir().join(format!("nfc-{}-{name}.yaml", std::process::id()));
        std::fs::write(&path, manifest::objects(ir)).expect("a manifest");
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

/// Carries an apply out and tells how long it took, in microseconds.
fn finish(node: &Namespace, manifest: &Manifest) -> u32 {
    let begun = Instant::now();
    let status = start(node, manifest).wait().expect("the command ends");
    assert!(status.success(), "{status}");
    u32::try_from(begun.elapsed().as_micros()).expect("an hour at most")
}

/// Starts an apply, and kills it after `delay_us` if it is still at it.
fn kill(node: &Namespace, manifest: &Manifest, delay_us: u32) {
    let mut child = start(node, manifest);
    sleep(Duration::from_micros(delay_us.into()));
    let _ = child.kill();
    child.wait().expect("the command ends");
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
    if !need("a killed apply leaves the old rules or the new", &NFT) {
        return;
    }
    let node = Namespace::new().expect("a namespace");
    let one = Manifest::new("one", &services(100, 2));
    let other = Manifest::new("other", &services(100, 3));
    finish(&node, &other);
    let with_other = listed(&node);
    let whole_us = finish(&node, &one);
    let with_one = listed(&node);
    assert!(with_one.len() > 5 && with_one != with_other, "{with_one:?}");
    let mut dice = dice("killed updates");
    let mut changed = 0;
    let rounds = rounds(UPDATES);
    for round in 0..rounds {
        kill(&node, &other, dice.below(whole_us / 8 * 9));
        let now = listed(&node);
        let told = || now.difference(&with_other).cloned().collect::<String>();
        assert!(now == with_one || now == with_other, "kill {round}: a mixture:\n{}", told());
        changed += u32::from(now == with_other);
        finish(&node, &one);
        let now = listed(&node);
        let told = || now.symmetric_difference(&with_one).cloned().collect::<String>();
        assert!(now == with_one, "kill {round}: apply did not put things right:\n{}", told());
    }
    println!("{changed} of {rounds} kills were too late to stop the new rules");
}

/// What of a first load is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Nothing,
    NotHookedIn,
    HookedIn,
}

/// By a list without elements, which takes no time.
fn progress(node: &Namespace) -> Progress {
    let now = tool(node, "nft", &["--terse", "list", "ruleset"], "");
    match (now.trim(), now.contains(" hook ")) {
        ("", _) => Progress::Nothing,
        (_, false) => Progress::NotHookedIn,
        (_, true) => Progress::HookedIn,
    }
}

/// The next apply puts things right, and has nothing to do where the rules were whole.
fn repairs(node: &Namespace, backend: &dyn AnyBackend, ir: &Ir) {
    let was_whole = progress(node) == Progress::HookedIn;
    assert_eq!(apply(node, backend, ir).unchanged, was_whole, "packets met half of the rules");
    assert!(apply(node, backend, ir).unchanged && progress(node) == Progress::HookedIn);
}

#[test]
fn a_killed_first_load_has_no_effect() {
    if !need("a killed first load has no effect", &NFT) {
        return;
    }
    let (ir, backend) = (heavy(), backend("nft"));
    let manifest = Manifest::new("heavy", &ir);
    let whole_us = finish(&Namespace::new().expect("a namespace"), &manifest);
    let mut dice = dice("killed first loads");
    let mut seen = Vec::new();
    let rounds = rounds(FIRST_LOADS);
    for _ in 0..rounds {
        let node = Namespace::new().expect("a namespace");
        kill(&node, &manifest, dice.below(whole_us / 8 * 9));
        seen.push(progress(&node));
        repairs(&node, backend.as_ref(), &ir);
    }
    let count = |progress| seen.iter().filter(|seen| **seen == progress).count();
    let [early, between, late] =
        [Progress::Nothing, Progress::NotHookedIn, Progress::HookedIn].map(count);
    println!("of {rounds} kills {early} were too early, {between} between, {late} too late");
}

/// The same for every moment that there is.
#[test]
fn between_two_transactions_nothing_is_hooked_in() {
    if !need("between two transactions nothing is hooked in", &NFT) {
        return;
    }
    for backend in ["nft", "nft-constant-time"].map(backend) {
        let (backend, ir) = (backend.as_ref(), heavy());
        let nothing = backend.empty(Family::Ipv4);
        let steps = backend.encode(&backend.diff(&nothing, &backend.lower(&ir).program));
        let loaded = apply(&Namespace::new().expect("a namespace"), backend, &ir);
        assert_eq!(loaded.receipt.steps.len(), steps.len());
        assert!(steps.len() > 2, "a load of several transactions: {}", steps.len());
        for done in 0..=steps.len() {
            let node = Namespace::new().expect("a namespace");
            inside(&node, || Kernel::new().apply(&steps[..done])).expect("a load");
            let expected = match done {
                0 => Progress::Nothing,
                done if done == steps.len() => Progress::HookedIn,
                _ => Progress::NotHookedIn,
            };
            assert_eq!(progress(&node), expected, "{done} of {}", steps.len());
            repairs(&node, backend, &ir);
        }
    }
}

/// Somebody else changes something between two transactions of a first load.
#[test]
fn a_first_load_that_is_disturbed_begins_anew() {
    if !need("a first load that is disturbed begins anew", &NFT) {
        return;
    }
    let (backend, ir) = (backend("nft"), heavy());
    for script in ["add table ip other", "delete table ip nfc", "flush table ip nfc"] {
        let node = Namespace::new().expect("a namespace");
        let mut rival = Rival { node: &node, script: Some(script), done: Vec::new() };
        let loaded = inside(&node, || load::apply(backend.as_ref(), &ir, &mut rival));
        loaded.unwrap_or_else(|failure| panic!("{failure}"));
        let done = rival.done;
        assert!(done.len() > 1 && done[0] && !done[1], "the second was refused: {done:?}");
        repairs(&node, backend.as_ref(), &ir);
    }
}

/// An executor that lets somebody else in after the first step, once. It notes for each
/// transaction whether it was carried out.
struct Rival<'a> {
    node: &'a Namespace,
    script: Option<&'static str>,
    done: Vec<bool>,
}

impl Apply for Rival<'_> {
    fn apply(&mut self, steps: &[Step]) -> Result<Receipt, Refusal> {
        let mut receipt = Receipt::default();
        for step in steps {
            let carried_out = Kernel::new().apply(std::slice::from_ref(step));
            self.done.push(carried_out.is_ok());
            receipt.steps.extend(carried_out?.steps);
            if let Some(script) = self.script.take() {
                tool(self.node, "nft", &["-f", "-"], script);
            }
        }
        Ok(receipt)
    }

    fn ask(&mut self, questions: &[Question]) -> Result<Vec<Answer>, Refusal> {
        Kernel::new().ask(questions)
    }
}
