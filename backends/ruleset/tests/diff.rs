//! The difference of two sets of elements is exactly their difference, however they lie.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use nfc_ir::Family;
use nfc_ruleset::{Fields, Key, Set, SetChange, Table, Type, Value, diff, patched};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A map from numbers to numbers, some with comments.
fn table(content: &BTreeMap<u8, u8>) -> Table {
    let key = Fields::Types(vec![Type::Mark]);
    let value = Value::Data(Fields::Types(vec![Type::Mark]));
    let mut set = Set::new(Family::Ipv4, key, value);
    for (key, value) in content {
        let number = |n: &u8| Key::new().number(u32::from(*n).to_be());
        let remark = if key % 3 == 0 { format!("number {value}") } else { String::new() };
        set.map(&number(key), number(value).bytes(), remark);
    }
    let mut table = Table::new(Family::Ipv4, "t");
    table.add_set("numbers", set);
    table
}

fn contents() -> impl Strategy<Value = BTreeMap<u8, u8>> {
    prop::collection::btree_map(0..80_u8, 0..2_u8, 0..80)
}

proptest! {
    #[test]
    fn what_goes_and_comes_is_what_differs(old in contents(), new in contents()) {
        let (before, after) = (table(&old), table(&new));
        let patch = diff(Family::Ipv4, "t", Some(&before), Some(&after));
        prop_assert_eq!(patched(Some(&before), &patch), Some(after));
        let gone = old.iter().filter(|(key, value)| new.get(key) != Some(value)).count();
        let come = new.iter().filter(|(key, value)| old.get(key) != Some(value)).count();
        match patch.sets.get("numbers") {
            None => prop_assert_eq!((gone, come), (0, 0)),
            Some(SetChange::Update { gone: g, come: c, .. }) => {
                prop_assert_eq!((g.len(), c.len()), (gone, come));
            }
            Some(SetChange::Rebuild(_)) => prop_assert!(new.len() > 39 && old.len() <= 39),
            Some(other) => prop_assert!(false, "{:?}", other),
        }
    }
}

#[test]
fn a_set_that_outgrows_its_size_is_rebuilt_and_one_that_shrinks_is_not() {
    let of = |count: u8| table(&(0..count).map(|n| (n, 0)).collect());
    let change = |old: &Table, new: &Table| {
        let patch = diff(Family::Ipv4, "t", Some(old), Some(new));
        patch.sets.get("numbers").expect("it changes").clone()
    };
    assert!(matches!(change(&of(39), &of(40)), SetChange::Rebuild(_)));
    assert!(matches!(change(&of(38), &of(39)), SetChange::Update { .. }));
    assert!(matches!(change(&of(200), &of(1)), SetChange::Update { .. }));
    let patch = diff(Family::Ipv4, "t", Some(&of(200)), Some(&of(1)));
    let shrunk = patched(Some(&of(200)), &patch).expect("a table");
    assert_eq!(shrunk.sets["numbers"].size, Some(384), "the kernel's set is as it was");
    assert!(matches!(change(&shrunk, &of(200)), SetChange::Update { .. }));
}
