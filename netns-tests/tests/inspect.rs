//! `nfc inspect` in worlds with connections.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

mod stage;

use nfc_ir::Family;
use nfc_kernel::Feature;
use nfc_lab::need;
use stage::{NFT, text};

/// A TCP and two UDP clients that stay connected to a Service, and then `nfc inspect` on the node.
fn inspected(backend: &str, options: &str) -> String {
    let nfc = stage::nfc().display().to_string();
    let script = format!(
        "exec 3<>/dev/tcp/10.96.45.123/80 4<>/dev/udp/10.96.45.123/443 5<>/dev/udp/10.96.45.123/443
         echo who >&4; echo who >&5; sleep 0.2
         nsenter --net=$NFC_NODE {nfc} inspect --backend {backend} {options}"
    );
    let node = ["--cluster-cidr", "10.244.0.0/16,fd00:244::/32", "--node-ip", "192.0.2.1"];
    let lab = ["lab", "--backend", backend, "--family", "ipv4"];
    let commands = ["examples/web.yaml", "--", "bash", "-ec", &script];
    let output = stage::run(&[&lab[..], &node, &commands].concat(), "");
    assert_eq!(output.status.code(), Some(0), "{backend}: {}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn connections_are_told_by_service_endpoint_and_client() {
    for backend in ["nft", "iptables", "ipvs"] {
        let name = format!("nfc inspect: {backend}");
        let mut features = stage::needs(backend, Family::Ipv4);
        features.push(Feature::NftTool);
        if !need(&name, &features) {
            continue;
        }
        let text = inspected(backend, "--family ipv4");
        assert!(text.starts_with(&format!("{backend} IPv4: ")), "{text}");
        let line = |start: &str| text.lines().find(|line| line.trim().starts_with(start));
        let used = if backend == "ipvs" { "10.96.45.123:443 udp" } else { "default/web:quic udp" };
        assert!(line(used).is_some_and(|line| line.ends_with(" 2")), "{used}: {text}");
        assert!(line("to 10.244.").is_some() && line("from 192.0.2.2").is_some(), "{text}");
        assert!(text.contains("; 0 connections of others\n"), "{text}");
        assert!(!text.contains('\x1b'), "a pipe takes no escapes: {text}");
    }
}

#[test]
fn programs_are_told_the_same() {
    if !need("nfc inspect: JSON", &NFT) {
        return;
    }
    let json = inspected("nft", "--output json --family ipv4");
    let service = json.split("\"service\": \"default/web:quic\"").nth(1).expect("the Service");
    assert!(service.contains("\"connections\": 2,"), "{json}");
    let services = json.split("\"name\": \"map services\"").nth(1).expect("the map");
    let fields: Vec<_> = services.lines().skip(1).take(3).map(str::trim).collect();
    // Two ports at three addresses.
    assert_eq!(fields, ["\"elements\": 6,", "\"learnt\": 0,", "\"size\": 64"], "{json}");
}

#[test]
fn what_cannot_be_shown_has_an_exit_code() {
    if !need("nfc inspect: nothing there", &NFT) {
        return;
    }
    let namespace = nfc_kernel::Namespace::new().expect("a namespace");
    let inspect = |option: &str| {
        let output = stage::inside(&namespace, || stage::run(&["inspect", option], ""));
        (output.status.code(), text(&output.stderr))
    };
    let (code, words) = inspect("--family=both");
    assert!(code == Some(2) && words.contains("`nfc apply` loads some"), "{words}");
    let (code, words) = inspect("--watch");
    assert!(code == Some(1) && words.contains("terminal"), "{words}");
}

#[test]
fn the_page_tells_the_truth() {
    if need("docs/inspect.md", &NFT) {
        stage::run_page("docs/inspect.md");
    }
}
