//! What is being measured and how long is left, on standard error.
//!
//! Invariant: nothing here changes what is measured; the bar is drawn between cells only,
//! never while packets are sent.

use crate::plan::Cell;
use crate::report::services;
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// A bar on a terminal, lines elsewhere.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    cells: usize,
    begun_cells: usize,
    weight: u64,
    done_weight: u64,
    start: Instant,
}

impl Progress {
    /// Progress through `plan`.
    #[must_use]
    pub fn new(plan: &[Cell]) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(
                u64::try_from(plan.len()).ok(),
                ProgressDrawTarget::stderr(),
            );
            let style = ProgressStyle::with_template("{bar:32} {pos}/{len}  {msg}");
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self {
            bar,
            cells: plan.len(),
            begun_cells: 0,
            weight: plan.iter().map(Cell::weight).sum(),
            done_weight: 0,
            start: Instant::now(),
        }
    }

    /// Says that `cell` is measured now.
    pub fn begin(&mut self, cell: &Cell) {
        self.begun_cells += 1;
        let what = format!(
            "{}, {}, round {}{}",
            cell.backend,
            services(cell.services),
            cell.round + 1,
            self.left()
        );
        match &self.bar {
            Some(bar) => bar.set_message(what),
            None => self.say(&format!("[{}/{}] {what}", self.begun_cells, self.cells)),
        }
    }

    /// Says that `cell` is done.
    pub fn end(&mut self, cell: &Cell) {
        self.done_weight += cell.weight();
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }

    /// Says something that stays, above the bar.
    pub fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => drop(writeln!(io::stderr(), "{text}")),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.say(&format!("measured for {}", HumanDuration(self.start.elapsed())));
    }

    /// How long the rest will take, if it goes on as it did.
    fn left(&self) -> String {
        time_left(self.start.elapsed(), self.done_weight, self.weight)
            .map_or_else(String::new, |left| format!(", about {} left", HumanDuration(left)))
    }
}

/// The time for what is left of `weight`, from the time that `done` of it took; `None` at
/// the very beginning, when nothing is known.
fn time_left(elapsed: Duration, done: u64, weight: u64) -> Option<Duration> {
    let left = u128::from(weight.checked_sub(done)?);
    let nanoseconds = (elapsed.as_nanos() * left).checked_div(u128::from(done))?;
    Some(Duration::from_nanos(u64::try_from(nanoseconds).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_long_as_what_is_done() {
        let minute = Duration::from_secs(60);
        assert_eq!(time_left(minute, 25, 100), Some(minute * 3));
        assert_eq!(time_left(minute, 100, 100), Some(Duration::ZERO));
        assert_eq!(time_left(minute, 0, 100), None);
    }
}
