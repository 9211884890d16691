//! What `iptables-save` showed on nodes that run kube-proxy. The tool prints a rule in its
//! own words: matches in another order, addresses as blocks, marks and probabilities as
//! the kernel holds them. So rules are compared as sets of facts.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test panics to keep its backtrace")]

mod case;

use nfc_backend::Backend;
use nfc_iptables::Iptables;
use std::collections::BTreeSet;

/// A rule as facts, in one spelling.
fn facts(rule: &str) -> BTreeSet<String> {
    let mut facts = BTreeSet::new();
    let mut words = words(rule).into_iter().peekable();
    let mut negation = "";
    while let Some(word) = words.next() {
        if word == "!" {
            negation = "! ";
            continue;
        }
        assert!(word.starts_with('-'), "{rule}: {word}");
        let is_value = |next: &String| next != "!" && !next.starts_with('-');
        let value = words.next_if(is_value).unwrap_or_default();
        facts.insert(format!("{negation}{}", fact(&word, &value)));
        negation = "";
    }
    facts
}

fn fact(option: &str, value: &str) -> String {
    match option {
        "-s" | "-d" if !value.contains('/') => format!("{option} {value}/32"),
        "--probability" => format!("{option} {:.6}", value.parse::<f64>().unwrap()),
        "--or-mark" => format!("--set-xmark {}/{}", hex(value), hex(value)),
        "--xor-mark" => format!("--set-xmark {}/0x0", hex(value)),
        "--mark" | "--set-xmark" => {
            let (mark, mask) = value.split_once('/').unwrap();
            format!("{option} {}/{}", hex(mark), hex(mask))
        }
        _ => format!("{option} {value}"),
    }
}

fn hex(text: &str) -> String {
    let digits = text.strip_prefix("0x").unwrap();
    format!("{:#x}", u32::from_str_radix(digits, 16).unwrap())
}

fn words(rule: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (i, part) in rule.split('"').enumerate() {
        if i % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

#[test]
fn chains_are_as_seen_on_nodes() {
    let cases = case::all("listings");
    assert_eq!(cases.len(), 6);
    for case in cases {
        assert!(case.packets.is_empty(), "{} is about rules", case.name);
        let text = Iptables.render(&[Iptables.lower(&case.ir).program]);
        let ours = case::chains(&text);
        for (chain, seen) in &case.chains {
            let ours: Vec<_> = ours[chain].iter().map(|rule| facts(rule)).collect();
            let seen: Vec<_> = seen.iter().map(|rule| facts(rule)).collect();
            assert_eq!(ours, seen, "{}: {chain:?}", case.name);
        }
    }
}
