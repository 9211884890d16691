//! What subcommands tell programs: a member of one name is the same in the JSON of each, and
//! the subcommand's page lists it.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

mod stage;

use nfc_kernel::Feature;
use nfc_lab::need;
use serde_json::Value;
use stage::desk::Desk;
use stage::root;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Each subcommand that prints JSON, and what has it leave as little as may be `null` or empty.
const COMMANDS: [(&str, &str); 7] = [
    ("explain", "nfc explain --trace --output json 'tcp 10.244.1.5 > 10.96.45.123:80' svc.yaml"),
    (
        "explain",
        "nfc explain --trace -b iptables --output json 'tcp 192.0.2.2 > 10.96.45.123:80' svc.yaml",
    ),
    ("diff", "nfc diff -b nft --output json old.yaml new.yaml"),
    ("diff", "nfc diff --output json examples/aks.yaml svc.yaml"),
    ("check", "nfc check --output json manifests/"),
    (
        "inspect",
        "nfc lab --family ipv4 svc.yaml -- bash -c 'exec 3<>/dev/tcp/10.96.45.123/80; \
             nsenter --net=$NFC_NODE nfc inspect --output json'",
    ),
    (
        "doctor",
        "nfc lab --family ipv4 svc.yaml -- bash -c 'exec 3<>/dev/tcp/10.96.45.123/80; \
             nsenter --net=$NFC_NODE nfc doctor --output json manifests/ svc.yaml'",
    ),
];

/// What a value is to whoever reads it; `None` where it says nothing.
fn shape(value: &Value) -> Option<String> {
    let word = match value {
        Value::Null => return None,
        Value::Bool(_) => "truth value",
        Value::Number(_) => "number",
        Value::Object(_) => "object",
        Value::String(text) if text.parse::<SocketAddr>().is_ok() => "IP:port",
        Value::String(text) if text.split('/').next().is_some_and(is_ip) => "IP or block",
        Value::String(_) => "text",
        Value::Array(all) => return all.iter().find_map(shape).map(|one| format!("list of {one}")),
    };
    Some(word.to_owned())
}

fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

/// Every member in `value`, however deep, by its name.
fn members<'a>(value: &'a Value, found: &mut Vec<(&'a str, &'a Value)>) {
    match value {
        Value::Object(own) => {
            for (name, value) in own {
                found.push((name, value));
                members(value, found);
            }
        }
        Value::Array(all) => all.iter().for_each(|one| members(one, found)),
        _ => {}
    }
}

#[test]
fn a_word_has_one_meaning_in_the_json_of_all_subcommands() {
    let test = "one word, one meaning in JSON";
    if !need(test, &[Feature::Namespaces, Feature::Nftables, Feature::NftTool, Feature::IptablesV4])
    {
        return;
    }
    let desk = Desk::new("documents");
    let mut known: BTreeMap<String, (String, &str)> = BTreeMap::new();
    for (page, command) in COMMANDS {
        let page = format!("docs/{page}.md");
        let listed = std::fs::read_to_string(root().join(&page)).expect("a page");
        let told = desk.run(command);
        let document: Value = serde_json::from_str(&told.stdout)
            .unwrap_or_else(|e| panic!("{command}: {e}\n{}{}", told.stdout, told.stderr));
        let mut found = Vec::new();
        members(&document, &mut found);
        for (name, value) in found {
            assert!(listed.contains(name), "{page} does not list `{name}`");
            let Some(shape) = shape(value) else { continue };
            let (first, place) = known.entry(name.to_owned()).or_insert((shape.clone(), command));
            assert_eq!(*first, shape, "`{name}` in `{command}` is not what it is in `{place}`");
        }
    }
    let meant = [("service", "text"), ("endpoint", "IP:port"), ("address", "IP or block")];
    for (name, shape) in meant {
        assert_eq!(known[name].0, shape, "{name}");
    }
}
