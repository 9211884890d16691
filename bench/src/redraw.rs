//! Draws the report of a record that is on disk, next to it.
//!
//! Invariant: reads a record and writes a report; needs no root and measures nothing.

use crate::record::Record;
use crate::report::{REPORT, Report};
use anyhow::Context as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Draws the report of the run in `folder` and gives the path of its text.
///
/// # Errors
///
/// When the record cannot be read, a chart cannot be drawn, or a file cannot be written.
pub fn redraw(folder: &Path) -> anyhow::Result<PathBuf> {
    let record = Record::read(folder)?;
    let report = Report::of(&record)?;
    for (name, text) in &report.files {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(folder.join(REPORT))
}
