//! How much of a text fits on a terminal, for what is drawn over itself time and again.
//!
//! Invariant: cuts whole lines, and says so; what they mean is somebody else's.

use std::os::fd::AsFd;
use terminal_size::{Height, terminal_size_of};

/// How many lines can be drawn one below the other with nothing moving up: one less than the
/// terminal has, as the cursor stands below the last. `None` for what is no terminal, or does
/// not say how large it is.
pub(crate) fn lines(output: impl AsFd) -> Option<usize> {
    terminal_size_of(output).map(|(_, Height(rows))| usize::from(rows).saturating_sub(1).max(1))
}

/// As much of `text` as fits into so many lines. The last of them tells how many, `noun` each,
/// were left out, if any.
pub(crate) fn fitted(text: &str, lines: Option<usize>, noun: &str) -> String {
    let count = text.lines().count();
    let Some(lines) = lines.filter(|lines| count > *lines) else { return text.to_owned() };
    let shown = lines.saturating_sub(1);
    let head: String = text.split_inclusive('\n').take(shown).collect();
    let more = nfc_backend::counted(count - shown, &format!("more {noun}"));
    format!("{head}and {more}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted() {
        let text = "one\ntwo\nthree\n";
        for lines in [None, Some(3), Some(4)] {
            assert_eq!(fitted(text, lines, "line"), text);
        }
        assert_eq!(fitted(text, Some(2), "line"), "one\nand 2 more lines\n");
        assert_eq!(fitted(text, Some(1), "line"), "and 3 more lines\n");
    }
}
