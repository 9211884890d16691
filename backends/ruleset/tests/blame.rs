//! Every byte of an element leads back to that element, in messages of any length.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod shapes;

use nfc_backend::{Fault, Step};
use nfc_ir::{Family, Protocol};
use nfc_netlink::attr::Attrs;
use nfc_netlink::batch::Batch;
use nfc_netlink::message::{HEADER_LEN, Message, Messages};
use nfc_ruleset::{Fields, Key, Patch, Set, Table, Type, Value, Verdict, encode, render};

const NEW_ELEMENTS: u16 = 10 << 8 | 12;

fn fault(message: usize, offset: usize) -> Fault {
    Fault { step: 0, message: Some(message), offset: Some(offset), errno: 2, words: String::new() }
}

/// Where each element of a list begins in its message.
fn element_offsets(payload: &[u8]) -> Vec<usize> {
    let list = Attrs::new(&payload[4..]).find(3).expect("a list of elements");
    let mut at = HEADER_LEN + (list.payload.as_ptr() as usize - payload.as_ptr() as usize);
    let offset = |element: nfc_netlink::attr::Attr<'_>| {
        let here = at;
        at += 4 + element.payload.len();
        here
    };
    list.nested().map(offset).collect()
}

/// Blames the first and a middle byte of elements that `table` is loaded with: of every
/// list the last, and one in 40.
fn check(table: &Table) {
    let patch = Patch::replacing(table.family, table.name, Some(table));
    let steps = encode::encode(&patch);
    let [Step::Nftables(batch)] = steps.as_slice() else {
        panic!("one transaction");
    };
    let mut expected = table.sets.iter().flat_map(|(name, set)| {
        set.elements.iter().map(move |row| {
            let key = render::key_text(table.family, set, row);
            (format!("add element {name} {{ {key} }}"), row.comment.to_owned())
        })
    });
    let sent = Messages::new(batch.bytes()).filter(|m| m.kind >> 8 == 10).enumerate();
    for (index, message) in sent.filter(|(_, m)| m.kind == NEW_ELEMENTS) {
        let offsets = element_offsets(message.payload);
        let last = offsets.len() - 1;
        for (i, offset) in offsets.into_iter().enumerate() {
            let (object, comment) = expected.next().expect("no more elements than there are");
            let asked = if i % 40 == 0 || i == last { 2 } else { 0 };
            for offset in [offset, offset + 9].into_iter().take(asked) {
                let blamed = encode::blame(&patch, &fault(index, offset));
                assert_eq!(blamed.object, object);
                assert_eq!(blamed.comment.unwrap_or_default(), comment);
            }
        }
    }
    assert_eq!(expected.next(), None, "every element was sent");
    check_split(batch);
}

/// The index of the message that holds it, and where in it it begins, of each element.
fn places(batch: &Batch) -> Vec<(usize, usize)> {
    let sent = Messages::new(batch.bytes()).filter(|m| m.kind >> 8 == 10).enumerate();
    let lists = sent.filter(|(_, message)| message.kind == NEW_ELEMENTS);
    let places = |(index, message): (usize, Message<'_>)| {
        element_offsets(message.payload).into_iter().map(move |offset| (index, offset))
    };
    lists.flat_map(places).collect()
}

/// The same elements, each alone in its message, lead back to the same places.
fn check_split(batch: &Batch) {
    let lists = (0..batch.message_count()).map(|message| (message, None));
    let split = batch.split(lists, usize::MAX).expect("there are lists");
    let alone = places(&split.batch);
    assert!(alone.windows(2).all(|pair| pair[0].0 < pair[1].0), "one in a message");
    let meant: Vec<_> =
        places(batch).into_iter().map(|(message, offset)| Some((message, Some(offset)))).collect();
    let told = |place: &(usize, usize)| split.place(place.0, Some(place.1));
    assert_eq!(alone.iter().map(told).collect::<Vec<_>>(), meant);
    let of_the_message = |place: &(usize, usize)| split.place(place.0, None);
    assert_eq!(alone.iter().map(of_the_message).collect::<Vec<_>>(), meant);
}

#[test]
fn elements_of_every_shape_are_found() {
    for family in Family::ALL {
        check(&shapes::table(family));
    }
}

#[test]
fn elements_are_found_in_lists_that_were_split() {
    let fields = Fields::Types(vec![Type::Address, Type::Protocol, Type::Port]);
    let mut services = Set::new(Family::Ipv4, fields, Value::Verdict);
    for i in 0..5_000 {
        let key = Key::new().addr(nfc_ir::synth::cluster_ip(Family::Ipv4, i));
        let key = key.proto(Protocol::Tcp).port(80_u16);
        let chain = Verdict::Goto(format!("class-{}", i % 7));
        let comment = if i % 3 == 0 { "" } else { "ns/svc" };
        services.map(&key, &chain.to_row(), comment);
    }
    let mut table = Table::new(Family::Ipv4, "split");
    table.add_set("services", services);
    check(&table);
}

#[test]
fn other_places_are_named_too() {
    let table = shapes::table(Family::Ipv4);
    let patch = Patch::replacing(Family::Ipv4, "shapes", Some(&table));
    let object = |message| encode::blame(&patch, &fault(message, 0)).object;
    assert_eq!(object(0), "add table shapes");
    assert_eq!(object(1), "delete table shapes");
    assert_eq!(object(3), "add chain prerouting");
    let whole = Fault { message: None, ..fault(0, 0) };
    assert_eq!(encode::blame(&patch, &whole).object, "table shapes");
    let rule = (0..200).map(object).find(|o| o.contains("masquerade"));
    assert!(rule.is_some_and(|o| o.starts_with("add rule postrouting meta mark")));
}
