//! Who has had enough: contenders that are too slow for larger sizes, and cells that are too
//! slow for many rounds.
//!
//! Invariant: pure; decides from times that it is told, and measures none.

use crate::plan::Cell;
use crate::report::services;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What is known so far about how slow everybody is.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    cap: Duration,
    slow: Duration,
    slow_rounds: u32,
    /// For each contender the smallest size that it is not asked for.
    capped: BTreeMap<String, u32>,
    loads: BTreeMap<String, (u32, Duration)>,
    slow_cells: BTreeSet<(String, u32)>,
}

impl Limits {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(cap: Duration, slow: Duration, slow_rounds: u32) -> Self {
        Self { cap, slow, slow_rounds, ..Self::default() }
    }

    /// Whether `cell` is to be measured.
    #[must_use]
    pub fn allow(&self, cell: &Cell) -> bool {
        let is_capped = self.capped.get(&cell.backend).is_some_and(|size| cell.services >= *size);
        !is_capped && (cell.round < self.slow_rounds || !self.is_slow(cell))
    }

    /// Whether loading `cell` took long before.
    #[must_use]
    pub fn is_slow(&self, cell: &Cell) -> bool {
        self.slow_cells.contains(&(cell.backend.clone(), cell.services))
    }

    /// Notes how long loading `cell` took.
    pub fn loaded(&mut self, cell: &Cell, took: Duration) {
        if took > self.slow {
            self.slow_cells.insert((cell.backend.clone(), cell.services));
        }
        let last = self.loads.entry(cell.backend.clone()).or_insert((cell.services, took));
        if cell.services >= last.0 {
            *last = (cell.services, took);
        }
    }

    /// Notes that `cell` is too large for its contender, whose name and size must not come
    /// again.
    pub fn stop(&mut self, cell: &Cell) {
        let smallest = self.capped.entry(cell.backend.clone()).or_insert(cell.services);
        *smallest = cell.services.min(*smallest);
    }

    /// Why `cell` cannot be done in time, if that is known without trying: nobody gets
    /// faster for each Service than it was with fewer of them.
    #[must_use]
    pub fn hopeless(&self, cell: &Cell) -> Option<String> {
        let (size, took) = *self.loads.get(&cell.backend)?;
        let least = took.as_secs_f64() * f64::from(cell.services) / f64::from(size.max(1));
        (cell.services > size && least > self.cap.as_secs_f64()).then(|| {
            format!(
                "not tried: {:.0} s for {}, so at least {least:.0} s; the cap is {} s",
                took.as_secs_f64(),
                services(size),
                self.cap.as_secs()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(services: u32, round: u32) -> Cell {
        Cell { round, backend: "kube-proxy-1.33".to_owned(), services }
    }

    fn limits() -> Limits {
        Limits::new(Duration::from_secs(120), Duration::from_secs(10), 2)
    }

    #[test]
    fn who_is_stopped_is_not_asked_for_more() {
        let mut limits = limits();
        limits.stop(&cell(10_000, 0));
        let allowed = [5_000, 10_000, 30_000].map(|size| limits.allow(&cell(size, 1)));
        assert_eq!(allowed, [true, false, false]);
        let other = Cell { backend: "nft".to_owned(), ..cell(30_000, 1) };
        assert!(limits.allow(&other));
    }

    #[test]
    fn slow_cells_have_fewer_rounds() {
        let mut limits = limits();
        limits.loaded(&cell(5_000, 0), Duration::from_secs(11));
        let rounds: Vec<bool> = (0..4).map(|round| limits.allow(&cell(5_000, round))).collect();
        assert_eq!(rounds, [true, true, false, false]);
        assert!(limits.allow(&cell(1_000, 3)));
    }

    #[test]
    fn what_is_hopeless_is_not_tried() {
        let mut limits = limits();
        assert_eq!(limits.hopeless(&cell(100_000, 0)), None);
        limits.loaded(&cell(5_000, 0), Duration::from_secs(30));
        assert_eq!(limits.hopeless(&cell(10_000, 0)), None);
        let why = limits.hopeless(&cell(30_000, 0)).expect("180 s are too many");
        assert!(why.contains("30 s for 5,000 Services, so at least 180 s"), "{why}");
    }
}
