//! In which order cells are measured.
//!
//! Every round has all cells, in an order of its own. What drifts while a run lasts (heat,
//! neighbours on the same host) then falls on all backends alike, and no backend is always
//! measured after the same other one.
//!
//! Invariant: pure; the order follows from the scenario and its seed.

use crate::scenario::Scenario;
use nfc_ir::synth::Dice;

/// Name of the backend that says nothing: the same path without any rules.
pub const BASELINE: &str = "none";

/// One thing to measure: a backend with a number of Services, in one round.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// The round, counted from 0.
    pub round: u32,
    /// Name of the backend.
    pub backend: String,
    /// How many Services.
    pub services: u32,
}

/// All cells of `scenario` for `backends`, in the order in which they are measured.
#[must_use]
pub fn cells(scenario: &Scenario, backends: &[String]) -> Vec<Cell> {
    let round = |round: u32| {
        let mut cells: Vec<Cell> = backends
            .iter()
            .flat_map(|backend| scenario.scope.services.iter().map(move |n| (backend, *n)))
            .map(|(backend, services)| Cell { round, backend: backend.clone(), services })
            .collect();
        dice(scenario.scope.seed, u64::from(round)).shuffle(&mut cells);
        cells
    };
    (0..scenario.scope.rounds).flat_map(round).collect()
}

/// Dice for one part of a run, which fall independently of those of other parts.
#[must_use]
pub fn dice(seed: u64, part: u64) -> Dice {
    Dice::new(Dice::new(seed ^ part.rotate_left(32)).roll())
}

impl Cell {
    /// How long the cell takes relative to others, for the progress bar only: a fixed part
    /// for the packets, one that grows with the rules, and for rulesets whose load time
    /// grows with the square of the Services one that does.
    #[must_use]
    pub fn weight(&self) -> u64 {
        let services = u64::from(self.services);
        let square = if self.backend.starts_with("kube-proxy") { services * services } else { 0 };
        100 + services / 20 + square / 42_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scope;
    use std::collections::BTreeSet;

    fn scenario() -> Scenario {
        Scenario::quick().expect("it comes with the program")
    }

    fn with(change: impl FnOnce(&mut Scope)) -> Scenario {
        let mut scenario = scenario();
        change(&mut scenario.scope);
        scenario
    }

    fn backends() -> Vec<String> {
        ["none", "nft", "iptables"].map(str::to_owned).to_vec()
    }

    #[test]
    fn every_round_has_every_cell_once_and_rounds_do_not_mix() {
        let scenario = scenario();
        let plan = cells(&scenario, &backends());
        let a_round = 3 * scenario.scope.services.len();
        assert_eq!(plan.len(), a_round * scenario.scope.rounds as usize);
        for (round, cells) in plan.chunks(a_round).enumerate() {
            assert!(cells.iter().all(|c| c.round as usize == round));
            let different: BTreeSet<_> = cells.iter().collect();
            assert_eq!(different.len(), a_round);
        }
    }

    #[test]
    fn the_order_follows_from_the_seed_and_differs_between_rounds() {
        let order = |seed: u64| cells(&with(|scope| scope.seed = seed), &backends());
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
        let bare = |cells: &[Cell]| -> Vec<_> {
            cells.iter().map(|c| (c.backend.clone(), c.services)).collect()
        };
        let plan = order(1);
        assert_ne!(bare(&plan[..12]), bare(&plan[12..24]));
    }

    #[test]
    fn parts_of_a_run_have_dice_of_their_own() {
        let firsts: BTreeSet<u64> = (0..100).map(|part| dice(3, part).roll()).collect();
        assert_eq!(firsts.len(), 100);
    }

    /// The reason for the shuffle: no backend is always measured after the same one.
    #[test]
    fn every_backend_follows_every_other_sometimes() {
        let scenario = with(|scope| scope.rounds = 20);
        let plan = cells(&scenario, &backends());
        let pairs: BTreeSet<_> = plan
            .windows(2)
            .map(|pair| (pair[0].backend.clone(), pair[1].backend.clone()))
            .collect();
        assert_eq!(pairs.len(), 9);
    }
}
