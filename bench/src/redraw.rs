//! Draws the report of a record that is on disk, next to it, and puts records side by side.
//!
//! Invariant: reads a record and writes a report; needs no root and measures nothing.

use crate::record::Record;
use crate::report::{self, Named, REPORT, Report};
use anyhow::Context as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Draws the report of the run in `folder` and gives the path of its text.
///
/// # Errors
///
/// When the record cannot be read, or a file cannot be written.
pub fn redraw(folder: &Path) -> anyhow::Result<PathBuf> {
    let record = Record::read(folder)?;
    let report = Report::of(&record);
    for (name, text) in &report.files {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(folder.join(REPORT))
}

/// The runs in these folders side by side, as Markdown.
///
/// # Errors
///
/// When a record cannot be read.
pub fn compare(first: &Path, others: &[PathBuf]) -> anyhow::Result<String> {
    let others: Vec<Named> = others.iter().map(|folder| named(folder)).collect::<Result<_, _>>()?;
    Ok(report::compare(&named(first)?, &others))
}

fn named(folder: &Path) -> anyhow::Result<Named> {
    let record = Record::read(folder)?;
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let name = whole.file_name().unwrap_or(whole.as_os_str()).to_string_lossy().into_owned();
    Ok(Named { name, record })
}
