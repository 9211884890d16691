//! `nfc explain` tells of every packet of every case what becomes of it, by the text of every
//! backend's rules; and what a failing test prints can be asked about.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

mod stage;

use nfc::explain::{Asked, explain};
use nfc::registry;
use nfc_ir::{Family, eval, synth};
use nfc_netns_tests::{case, manifest};
use stage::{command, fed, meaning};

#[test]
fn every_packet_of_every_case_is_explained_as_it_is_meant() {
    let mut judged = 0;
    for case in case::all() {
        for scene in &case.scenes {
            for backend in registry::all().iter().chain(&registry::layouts()) {
                let ir = meaning(&case, scene, backend.mode());
                for flow in &scene.flows {
                    let place = format!("{}, {}: {}", case.name, backend.name(), flow.line);
                    let told = explain(backend.as_ref(), &ir, &flow.packet);
                    let told = told.unwrap_or_else(|e| panic!("{place}: {e}"));
                    let outcome = told.outcome().unwrap_or_else(|| panic!("{place}: by chance"));
                    let meant = eval(&ir, backend.mode(), &flow.packet);
                    assert!(outcome.agrees_with(&meant), "{place}: {outcome}, meant {meant}");
                    judged += 1;
                }
            }
        }
    }
    assert!(judged > 500, "only {judged} packets were judged");
}

/// A failure of the agreement tests names a packet and prints a cluster; both together are
/// what the command takes.
#[test]
fn what_a_failing_test_prints_can_be_asked_about() {
    let folder = std::env::temp_dir().join(format!("nfc-explained-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let (config, objects) = (folder.join("config"), folder.join("objects"));
    let mut told = 0;
    for family in Family::ALL {
        let synth::Sample { ir, packets } = synth::sample(3, family);
        std::fs::write(&config, manifest::config(ir.node())).expect("written");
        std::fs::write(&objects, manifest::objects(&ir)).expect("written");
        for backend in registry::all() {
            for packet in packets.iter().step_by(11) {
                let read: Asked = packet.to_string().parse().expect("what is printed reads back");
                assert_eq!(read.on(ir.node()).as_ref(), Ok(packet));
                let asked = ["explain", &packet.to_string(), "--backend", backend.name()];
                let mut command = command(&asked);
                let output = fed(command.arg("--config").arg(&config).arg(&objects), "");
                let text = String::from_utf8_lossy(&output.stdout);
                let words = String::from_utf8_lossy(&output.stderr);
                assert_eq!(output.status.code(), Some(0), "{packet}: {words}");
                assert!(!text.contains("something else than the Services mean"), "{text}");
                let meant = eval(&ir, backend.mode(), packet);
                let all_named = meant.endpoints().all(|c| text.contains(&c.endpoint.to_string()));
                assert!(all_named, "{packet}: {meant}:\n{text}");
                told += 1;
            }
        }
    }
    std::fs::remove_dir_all(&folder).expect("the folder goes");
    assert!(told > 30, "only {told} packets were asked about");
}
