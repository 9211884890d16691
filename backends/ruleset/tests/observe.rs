//! What is read of a table is the table, and a message of any content is read without harm.
//!
//! The kernel lists objects in messages like those that made them, so that what is sent can
//! stand for what would be listed. What the kernel does otherwise is tested against it.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod shapes;

use nfc_backend::Step;
use nfc_ir::Family;
use nfc_netlink::attr::Writer;
use nfc_netlink::message::{self, Messages};
use nfc_ruleset::observe::{Found, read};
use nfc_ruleset::{ChainChange, Patch, SetChange, Table, diff, encode};
use proptest::prelude::*;

const NEW_TABLE: u16 = 0x0a00;
const NEW_GENERATION: u16 = 0x0a0f;

fn family_number(family: Family) -> u8 {
    if family == Family::Ipv4 { 2 } else { 10 }
}

/// A listing of `table`, as generation 7.
fn listing(table: &Table) -> Vec<u8> {
    let mut w = Writer::new();
    let objects = u32::try_from(table.sets.len() + table.chains.len()).expect("few");
    message::write(&mut w, NEW_GENERATION, 0, 1, |w| {
        w.raw(&[0; 4]);
        w.be32(1, 7);
    });
    message::write(&mut w, NEW_TABLE, 0, 1, |w| {
        w.raw(&[family_number(table.family), 0, 0, 0]);
        w.text(1, table.name);
        w.be32(2, 0);
        w.be32(3, objects);
    });
    let steps = encode::encode(&Patch::replacing(table.family, table.name, Some(table)));
    let [Step::Nftables(batch)] = steps.as_slice() else {
        panic!("one transaction");
    };
    // Making the table, deleting and making it again: the listing has it once, above.
    let objects = Messages::new(batch.bytes()).filter(|m| m.kind >> 8 == 10).skip(3);
    for object in objects {
        message::write(&mut w, object.kind, 0, 1, |w| w.raw(object.payload));
    }
    w.into_bytes()
}

fn onto(listing: &[u8], new: Option<&Table>) -> Patch {
    let family = new.map_or(Family::Ipv4, |table| table.family);
    Patch::onto(listing, family, "shapes", new)
}

#[test]
fn a_table_that_is_as_it_should_be_is_left_alone() {
    for family in Family::ALL {
        let table = shapes::table(family);
        let observed = read(&listing(&table), &table);
        assert_eq!((observed.generation, observed.found), (Some(7), Found::Table(table.clone())));
        assert!(onto(&listing(&table), Some(&table)).is_empty());
    }
}

#[test]
fn what_differs_is_mended_and_nothing_else() {
    let wanted = shapes::table(Family::Ipv4);
    let mut there = wanted.clone();
    there.chains.get_mut("output").expect("it is there").rules.swap(0, 1);
    there.add_chain("rogue", None, vec![nfc_ruleset::Rule::new([nfc_ruleset::Statement::Reject])]);
    there.sets.remove("pairs").expect("it is there");
    let ports = there.sets.get_mut("ports").expect("it is there");
    ports.add(&nfc_ruleset::Key::new().port(54_u16));
    let patch = onto(&listing(&there), Some(&wanted));
    assert_eq!(patch.generation, Some(7), "it builds on what was read");
    let sets: Vec<_> = patch.sets.iter().map(|(name, change)| (name.as_str(), change)).collect();
    let [("pairs", SetChange::Add(_)), ("ports", SetChange::Update { gone, come, .. })] =
        sets.as_slice()
    else {
        panic!("{sets:?}");
    };
    assert_eq!((gone.len(), come.len()), (1, 0));
    let chains: Vec<_> =
        patch.chains.iter().map(|(name, change)| (name.as_str(), change)).collect();
    let [("output", ChainChange::Refill(_)), ("rogue", ChainChange::Delete)] = chains.as_slice()
    else {
        panic!("{chains:?}");
    };
}

/// A chain that nothing tells of, an object of another kind: the table's count gives it away.
#[test]
fn an_object_that_is_not_listed_makes_a_table_strange() {
    let table = shapes::table(Family::Ipv4);
    let mut more = table.clone();
    more.add_chain("empty", None, Vec::new());
    let mut bytes = listing(&more);
    let name = bytes.windows(6).position(|w| w == b"empty\0").expect("the chain's name");
    // Its message says another table's name now, as if it had never been sent.
    let from = bytes[..name].windows(7).rposition(|w| w == b"shapes\0").expect("the table's name");
    bytes[from] = b'S';
    assert_eq!(read(&bytes, &table).found, Found::Strange);
}

#[test]
fn what_cannot_be_read_is_replaced() {
    let table = shapes::table(Family::Ipv4);
    let replacing = Patch::replacing(Family::Ipv4, "shapes", Some(&table));
    assert_eq!(onto(&[], Some(&table)), replacing);
    let nothing = Patch::replacing(Family::Ipv4, "shapes", None);
    assert_eq!(onto(&listing(&table), None), nothing);
    assert_eq!(onto(&[], None), nothing);
}

#[test]
fn a_table_that_is_not_there_is_made() {
    let table = shapes::table(Family::Ipv4);
    let made = diff(Family::Ipv4, "shapes", None, Some(&table));
    let made = Patch { generation: Some(7), ..made };
    let other = Table { name: "other", ..table.clone() };
    assert_eq!(onto(&listing(&other), Some(&table)), made, "somebody else's table");
    assert_eq!(onto(&listing(&shapes::table(Family::Ipv6)), Some(&table)), made);
    assert!(onto(&listing(&other), None).is_empty(), "there is nothing to delete");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever the bytes are, the patch leads to the wanted table.
    #[test]
    fn a_damaged_listing_is_no_harm(
        at: prop::sample::Index,
        byte: u8,
        cut: prop::sample::Index,
        whole: bool,
    ) {
        let table = shapes::table(Family::Ipv4);
        let mut bytes = listing(&table);
        *at.get_mut(&mut bytes) = byte;
        if !whole {
            bytes.truncate(cut.index(bytes.len()));
        }
        let observed = match read(&bytes, &table).found {
            Found::Table(old) => Some(old),
            Found::Nothing | Found::Strange => None,
        };
        let patch = onto(&bytes, Some(&table));
        let after = nfc_ruleset::patched(observed.as_ref(), &patch);
        prop_assert_eq!(after, Some(table));
    }
}
