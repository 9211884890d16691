//! Every case, judged by `eval` and by the tracer of every backend. Needs no root.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

mod stage;

use nfc::registry;
use nfc_backend::AnyBackend;
use nfc_ir::{ProxyMode, eval};
use nfc_netns_tests::case::{self, Case, Scene};
use stage::meaning;

fn scenes() -> Vec<(Case, Scene)> {
    let all = case::all().into_iter();
    all.flat_map(|case| case.scenes.clone().into_iter().map(move |s| (case.clone(), s))).collect()
}

#[test]
fn eval_gives_every_packet_its_fate() {
    let mut judged = 0;
    let mut wrong = Vec::new();
    for (case, scene) in scenes() {
        for mode in ProxyMode::ALL {
            let ir = meaning(&case, &scene, mode);
            for flow in &scene.flows {
                let Some(fate) = flow.fates.get(&mode) else { continue };
                let outcome = eval(&ir, mode, &flow.packet);
                judged += 1;
                if !fate.is(&outcome) {
                    wrong.push(format!(
                        "{} in {mode} mode: {}\n  got {outcome}",
                        case.name, flow.line
                    ));
                }
            }
        }
    }
    assert!(judged > 200, "only {judged} packets were judged");
    assert!(wrong.is_empty(), "{} of {judged}:\n{}", wrong.len(), wrong.join("\n"));
}

/// Also in modes that a case does not judge: there `eval` is the judge.
fn tracer_agrees(backend: &dyn AnyBackend) {
    let mode = backend.mode();
    let mut judged = 0;
    let mut wrong = Vec::new();
    for (case, scene) in scenes() {
        let ir = meaning(&case, &scene, mode);
        let lowered = backend.lower(&ir);
        assert_eq!(lowered.unsupported, [], "{}", case.name);
        for flow in &scene.flows {
            let traced = backend.trace(&lowered.program, &flow.packet);
            let traced = traced.unwrap_or_else(|e| panic!("{}: {}: {e}", case.name, flow.line));
            let meant = eval(&ir, mode, &flow.packet);
            judged += 1;
            if !traced.agrees_with(&meant) {
                wrong.push(format!(
                    "{}: {}\n  traced {traced}, meant {meant}",
                    case.name, flow.line
                ));
            }
        }
    }
    assert!(judged > 100, "only {judged} packets were judged");
    assert!(wrong.is_empty(), "{} of {judged}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_iptables_tracer_gives_every_packet_its_fate() {
    tracer_agrees(registry::find("iptables").expect("it is there").as_ref());
}

#[test]
fn the_nft_tracer_gives_every_packet_its_fate() {
    tracer_agrees(registry::find("nft").expect("it is there").as_ref());
}

#[test]
fn the_ipvs_tracer_gives_every_packet_its_fate() {
    tracer_agrees(registry::find("ipvs").expect("it is there").as_ref());
}
