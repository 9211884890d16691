//! What Services have in common: it is there for as long as one of them uses it.
//!
//! Invariant: who uses what how many times, and nothing of how it is said.

use crate::names::Class;
use nfc_ruleset::Verdict;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Things in use, and how many times.
pub(crate) type Uses<T> = BTreeMap<T, u32>;

/// What some Services use that others may use too.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Cluster IPs, by the ports of Services.
    pub(crate) cluster_ips: Uses<IpAddr>,
    /// Addresses of endpoints that may reach themselves.
    pub(crate) hairpins: Uses<IpAddr>,
    /// Classes, and so chains.
    pub(crate) classes: Uses<Class>,
    /// Where the chains that keep strangers out lead to.
    pub(crate) firewalls: Uses<Verdict>,
    /// In the constant-time layout what has a number: for frontends, and for endpoints on this
    /// node.
    pub(crate) numbered: [Uses<Verdict>; 2],
}

impl Shared {
    /// Counts the uses that are `gone` and those that `come`. In `gone` stays what nobody
    /// uses any more, in `come` what nobody used before.
    pub(crate) fn turn(&mut self, [gone, come]: [&mut Self; 2]) {
        turn(&mut self.cluster_ips, [&mut gone.cluster_ips, &mut come.cluster_ips]);
        turn(&mut self.hairpins, [&mut gone.hairpins, &mut come.hairpins]);
        turn(&mut self.classes, [&mut gone.classes, &mut come.classes]);
        turn(&mut self.firewalls, [&mut gone.firewalls, &mut come.firewalls]);
        let both = gone.numbered.iter_mut().zip(&mut come.numbered);
        for (uses, (gone, come)) in self.numbered.iter_mut().zip(both) {
            turn(uses, [gone, come]);
        }
    }
}

/// The same for one kind of things.
pub(crate) fn turn<T: Ord + Clone>(uses: &mut Uses<T>, [gone, come]: [&mut Uses<T>; 2]) {
    let of = |uses: &Uses<T>, thing: &T| uses.get(thing).copied().unwrap_or(0);
    let touched: BTreeSet<T> = gone.keys().chain(come.keys()).cloned().collect();
    for thing in touched {
        let before = of(uses, &thing);
        let after = (before + of(come, &thing)).saturating_sub(of(gone, &thing));
        if before == 0 || after > 0 {
            gone.remove(&thing);
        }
        if before > 0 || after == 0 {
            come.remove(&thing);
        }
        match after {
            0 => uses.remove(&thing),
            _ => uses.insert(thing, after),
        };
    }
}

/// How many times each of `things` occurs. There may be hundreds of thousands, so they are
/// sorted first and the tree is built at once: it is twice as dense then.
pub(crate) fn count<T: Ord + Copy>(things: impl Iterator<Item = T>) -> Uses<T> {
    let mut things: Vec<T> = things.collect();
    things.sort_unstable();
    let alike = things.chunk_by(|a, b| a == b);
    alike.map(|same| (same[0], u32::try_from(same.len()).unwrap_or(u32::MAX))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_use_comes_and_the_last_one_goes() {
        let mut uses = count([1, 2, 2, 3, 5].into_iter());
        let mut gone = count([1, 2, 3, 5, 5].into_iter());
        let mut come = count([3, 3, 4, 2].into_iter());
        turn(&mut uses, [&mut gone, &mut come]);
        assert_eq!(uses, count([2, 2, 3, 3, 4].into_iter()));
        assert_eq!(gone.into_keys().collect::<Vec<_>>(), [1, 5]);
        assert_eq!(come.into_keys().collect::<Vec<_>>(), [4]);
    }

    #[test]
    fn what_only_passes_neither_goes_nor_comes() {
        let mut uses = count([1].into_iter());
        let (mut gone, mut come) = (count([1, 2].into_iter()), count([1, 2].into_iter()));
        turn(&mut uses, [&mut gone, &mut come]);
        assert_eq!((uses, gone, come), (count([1].into_iter()), Uses::new(), Uses::new()));
    }
}
