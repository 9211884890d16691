//! nft 1.0.6 as the witness for text and bytes.
//!
//! `fixtures/shapes-*.nft` are scripts that nft loads, and that it prints in the same words
//! when asked to list. `fixtures/shapes-*.hex` are the messages that nft sent to the kernel
//! for them: one line each, type and attributes after the `nfgenmsg`, taken from its
//! `sendmsg`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod shapes;

use nfc_backend::Step;
use nfc_ir::Family;
use nfc_netlink::message::Messages;
use nfc_ruleset::{Patch, encode, render};

const FIXTURES: [(Family, &str, &str); 2] = [
    (Family::Ipv4, include_str!("fixtures/shapes-ip.nft"), include_str!("fixtures/shapes-ip.hex")),
    (
        Family::Ipv6,
        include_str!("fixtures/shapes-ip6.nft"),
        include_str!("fixtures/shapes-ip6.hex"),
    ),
];

#[test]
fn the_text_is_what_nft_lists() {
    for (family, script, _) in FIXTURES {
        let ours = render::script(&shapes::table(family));
        assert!(ours == script, "{ours}");
    }
}

#[test]
fn the_bytes_are_those_that_nft_sends() {
    for (family, _, messages) in FIXTURES {
        let table = shapes::table(family);
        let patch = Patch::replacing(family, "shapes", Some(&table));
        let steps = encode::encode(&patch);
        let [Step::Nftables(batch)] = steps.as_slice() else {
            panic!("one transaction: {steps:?}");
        };
        let mut ours: Vec<String> = Messages::new(batch.bytes())
            .filter(|message| message.kind >> 8 == 10)
            .map(|message| outline(message.kind as u8, &message.payload[4..]))
            .collect();
        let mut theirs: Vec<String> = messages
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                let bytes = unhex(line);
                outline(bytes[0], &bytes[1..])
            })
            .collect();
        ours.sort();
        theirs.sort();
        for (our, their) in ours.iter().zip(&theirs) {
            assert!(our == their, "ours\n{our}\nnft's\n{their}");
        }
        assert_eq!(ours.len(), theirs.len());
    }
}

fn unhex(line: &str) -> Vec<u8> {
    let digit = |c: u8| char::from(c).to_digit(16).expect("a hex digit") as u8;
    line.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

const NEW_TABLE: u8 = 0;
const NEW_SET: u8 = 9;
const NEW_ELEMENTS: u8 = 12;

/// A message as an outline, without what does not matter: numbers of sets, which are by
/// name here; the numbering of list members; flags of a table that are zero.
fn outline(kind: u8, bytes: &[u8]) -> String {
    let mut out = format!("message {kind}\n");
    for attr in attributes(bytes) {
        match (kind, attr.kind) {
            (NEW_SET, 10) | (NEW_ELEMENTS, 4) | (NEW_TABLE, 2) => {}
            _ => write_attribute(&mut out, &attr, 1),
        }
    }
    out
}

struct Attribute<'a> {
    kind: u16,
    nested: bool,
    payload: &'a [u8],
}

fn attributes(mut bytes: &[u8]) -> Vec<Attribute<'_>> {
    let mut all = Vec::new();
    while let [l0, l1, k0, k1, ..] = *bytes {
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let kind = u16::from_ne_bytes([k0, k1]);
        all.push(Attribute {
            kind: kind & 0x7fff,
            nested: kind & 0x8000 != 0,
            payload: &bytes[4..length],
        });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    all
}

fn write_attribute(out: &mut String, attr: &Attribute<'_>, depth: usize) {
    let indent = "  ".repeat(depth);
    if !attr.nested {
        out.push_str(&format!("{indent}{}: {:02x?}\n", attr.kind, attr.payload));
        return;
    }
    let members = attributes(attr.payload);
    if is_idle_byteorder(&members) {
        return;
    }
    // Members of the list of elements are numbered by nft and all 1 here.
    let kind = if depth == 2 { 1 } else { attr.kind };
    out.push_str(&format!("{indent}{kind} {{\n"));
    let by_id = set_id(&members);
    for member in members.iter().filter(|m| Some(m.kind) != by_id) {
        write_attribute(out, member, depth + 1);
    }
    out.push_str(&format!("{indent}}}\n"));
}

/// nft swaps the bytes of the protocol in a key of ranges, which is one byte long: the
/// expression does nothing (`net/netfilter/nft_byteorder.c`: half a word, zero times).
fn is_idle_byteorder(members: &[Attribute<'_>]) -> bool {
    members.first().is_some_and(|name| name.payload == b"byteorder\0")
}

/// The attribute that names a set by number, in the data of a lookup and of a dynset, which
/// are told by the order of their attributes.
fn set_id(members: &[Attribute<'_>]) -> Option<u16> {
    let kinds: Vec<u16> = members.iter().map(|m| m.kind).collect();
    match kinds.as_slice() {
        [2, 1, 4, ..] | [2, 3, 1, 4, ..] => Some(4),
        [4, 5, 3, 1, 2] | [4, 5, 3, 6, 1, 2] => Some(2),
        _ => None,
    }
}
