//! Numbers of classes, by which the constant-time layout knows what to do with a frontend.
//!
//! Invariant: a class has the same number on every node and after every change, unless two
//! hash to the same.

use super::shared::Uses;
use super::slots::fnv;
use nfc_ir::Family;
use nfc_ruleset::{Fields, Key, Set, Type, Value, Verdict};
use std::collections::{BTreeMap, BTreeSet};

/// The numbers given out so far.
#[derive(Debug, Default)]
pub(super) struct Classes {
    numbers: BTreeMap<Verdict, Numbered>,
    taken: BTreeSet<u32>,
}

/// A class with a number.
#[derive(Debug)]
struct Numbered {
    number: u32,
    /// How many times it was asked for.
    uses: u32,
}

/// What nft prints as `none` and as `root` (`TC_H_UNSPEC`, `TC_H_ROOT`).
const RESERVED: [u32; 2] = [0, u32::MAX];

impl Classes {
    /// The number of the class that this is done with.
    pub(super) fn number(&mut self, verdict: &Verdict) -> u32 {
        if let Some(known) = self.numbers.get_mut(verdict) {
            known.uses += 1;
            return known.number;
        }
        let mut number = home(verdict);
        while RESERVED.contains(&number) || !self.taken.insert(number) {
            number = number.wrapping_add(1);
        }
        self.numbers.insert(verdict.clone(), Numbered { number, uses: 1 });
        number
    }

    /// Which classes were asked for; from now on none was.
    pub(super) fn take(&mut self) -> Uses<Verdict> {
        let Self { numbers, .. } = std::mem::take(self);
        numbers.into_iter().map(|(verdict, numbered)| (verdict, numbered.uses)).collect()
    }

    /// The map from numbers to what is done.
    pub(super) fn into_map(self, family: Family) -> Set {
        let mut map = Set::new(family, Fields::Types(vec![Type::Class]), Value::Verdict);
        for (verdict, Numbered { number, .. }) in &self.numbers {
            map.map(&Key::new().number(*number), &verdict.to_row(), "");
        }
        map
    }
}

/// The number that a class has when nobody before it does.
pub(crate) fn home(verdict: &Verdict) -> u32 {
    let mut number = u32::try_from(fnv(verdict.to_string().bytes(), 0) >> 32).unwrap_or(1);
    while RESERVED.contains(&number) {
        number = number.wrapping_add(1);
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_distinct_and_do_not_depend_on_each_other() {
        let verdicts: Vec<_> =
            (0..2000).map(|i| Verdict::Goto(format!("cluster-tcp-{i}"))).collect();
        let mut all = Classes::default();
        let numbers: Vec<_> = verdicts.iter().map(|verdict| all.number(verdict)).collect();
        let distinct: BTreeSet<_> = numbers.iter().collect();
        assert_eq!(distinct.len(), verdicts.len());
        assert!(
            numbers.iter().zip(&verdicts).rev().all(|(n, v)| Classes::default().number(v) == *n)
        );
        assert_eq!(all.number(&verdicts[7]), numbers[7], "asked again");
        assert_eq!(all.into_map(Family::Ipv4).elements.len(), verdicts.len());
    }
}
