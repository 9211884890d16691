//! A bar on the terminal while a long input is read.
//!
//! It is there only where a person looks, and gone when reading ends: nothing of it gets
//! into a pipe or a log.
//!
//! Invariant: shows numbers; what is read is of no concern here.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shorter inputs are read before a bar could be looked at.
const SHOWN_FROM_BYTES: u64 = 16 << 20;

/// How much of the input was read.
pub(crate) struct Progress {
    /// How many bytes there are, if that is known.
    total_bytes: Option<u64>,
    read_bytes: u64,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Nothing of `total_bytes`, which is `None` for a pipe.
    pub(crate) fn new(total_bytes: Option<u64>) -> Self {
        Self { total_bytes, read_bytes: 0, bar: None }
    }

    /// So many more bytes were read.
    pub(crate) fn add(&mut self, bytes: u64) {
        self.read_bytes += bytes;
        if self.read_bytes >= SHOWN_FROM_BYTES {
            let bar = self.bar.get_or_insert_with(|| bar(self.total_bytes));
            bar.set_position(self.read_bytes);
        }
    }
}

/// Takes the bar away, however reading ended.
impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A bar on standard error, which is invisible unless that is a terminal.
fn bar(total_bytes: Option<u64>) -> ProgressBar {
    let target = ProgressDrawTarget::stderr();
    let bar = ProgressBar::with_draw_target(total_bytes, target);
    let template = match total_bytes {
        Some(_) => "reading {wide_bar} {bytes} of {total_bytes}",
        None => "reading {spinner} {bytes}",
    };
    // A template that indicatif does not understand would only cost the looks.
    let style = ProgressStyle::with_template(template);
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
