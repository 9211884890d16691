//! Findings as text for a person, each with the line it is about.
//!
//! Invariant: words and layout; nothing is worked out here.

use super::{Finding, Severity};
use nfc_backend::counted;
use nfc_manifest::{Document, Place};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// The findings, and a last line that counts them.
#[must_use]
pub fn text(findings: &[Finding], documents: &[Document]) -> String {
    let mut text = String::new();
    let lines = Lines::of(findings, documents);
    for finding in findings {
        write_finding(&mut text, finding, &lines);
    }
    let count = |severity| findings.iter().filter(|f| f.rule.severity == severity).count();
    let counts =
        [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Note, "note")];
    let counted = counts.map(|(severity, word)| counted(count(severity), word));
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{}", counted.join(", "));
    text
}

/// The lines of every file that something was found in. A large input has many findings, so
/// that looking for each line from the top would take the square of its length.
struct Lines<'d>(BTreeMap<&'d str, Vec<Line<'d>>>);

/// A line, and where in it every so many characters begin, in bytes, when it is a long one.
struct Line<'d> {
    text: &'d str,
    strides: Vec<usize>,
}

/// How many characters lie between two places that are known of a long line.
const STRIDE: usize = 1024;

impl<'d> Line<'d> {
    fn new(text: &'d str) -> Self {
        let is_long = text.len() > LINE_MAX;
        let known = text.char_indices().step_by(STRIDE).map(|(offset, _)| offset);
        Self { text, strides: if is_long { known.collect() } else { Vec::new() } }
    }

    /// The characters from number `first` on.
    fn from(&self, first: usize) -> impl Iterator<Item = char> {
        let (begin, skipped) = match self.strides.get(first / STRIDE) {
            Some(begin) => (*begin, first % STRIDE),
            None => (0, first),
        };
        self.text[begin..].chars().skip(skipped)
    }
}

impl<'d> Lines<'d> {
    fn of(findings: &[Finding], documents: &'d [Document]) -> Self {
        let files: BTreeSet<_> =
            findings.iter().filter_map(|f| Some(f.place.as_ref()?.file.as_str())).collect();
        let found = documents.iter().filter(|document| files.contains(document.name.as_str()));
        Self(found.map(|d| (d.name.as_str(), d.text.lines().map(Line::new).collect())).collect())
    }

    fn at(&self, place: &Place) -> Option<&Line<'d>> {
        self.0.get(place.file.as_str())?.get(place.line - 1)
    }
}

fn write_finding(text: &mut String, finding: &Finding, lines: &Lines<'_>) {
    let rule = finding.rule;
    let shown = |words: &str| words.chars().map(printable).collect::<String>();
    let message = shown(&finding.message);
    let _ = writeln!(text, "{}[{}]: {message}", rule.severity.name(), rule.code);
    if let Some(place) = &finding.place {
        write_excerpt(text, place, finding.length, lines);
    }
    let _ = writeln!(text, "  = why: {}\n  = help: {}\n", rule.why, shown(finding.remedy()));
}

/// The longest line that is shown whole, in characters, and how much of a longer one is shown
/// on either side of the part in question: kubectl's JSON may be a single line.
const LINE_MAX: usize = 240;
const AROUND: usize = 60;

fn write_excerpt(text: &mut String, place: &Place, length: usize, lines: &Lines<'_>) {
    let number = place.line.to_string();
    let gutter = " ".repeat(number.len());
    let _ = writeln!(text, "{gutter}--> {place}");
    let Some(line) = lines.at(place) else { return };
    let column = place.column - 1;
    let is_cut = line.from(LINE_MAX).next().is_some();
    let (first, room) =
        if is_cut { (column.saturating_sub(AROUND), 2 * AROUND) } else { (0, LINE_MAX) };
    let shown: String = line.from(first).take(room).map(printable).collect();
    let before: String = shown.chars().take(column - first).map(blank).collect();
    let rest = shown.chars().count().saturating_sub(column - first);
    let marks = "^".repeat(length.clamp(1, rest.max(1)));
    let _ = writeln!(text, "{gutter} |\n{number} | {shown}\n{gutter} | {before}{marks}");
}

/// A tab stays, so that what is below stands below.
fn blank(c: char) -> char {
    if c == '\t' { c } else { ' ' }
}

/// What a terminal would take for a command is not shown to it.
fn printable(c: char) -> char {
    if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c }
}
