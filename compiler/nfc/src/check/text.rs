//! Findings as text for a person, each with the line it is about.
//!
//! Invariant: words and layout; nothing is worked out here.

use super::{Finding, Severity};
use nfc_manifest::{Document, Place};
use std::fmt::Write as _;

/// The findings, and a last line that counts them.
#[must_use]
pub fn text(findings: &[Finding], documents: &[Document]) -> String {
    let mut text = String::new();
    for finding in findings {
        write_finding(&mut text, finding, documents);
    }
    let count = |severity| findings.iter().filter(|f| f.rule.severity == severity).count();
    let counts =
        [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Note, "note")];
    let counted = counts.map(|(severity, word)| match count(severity) {
        1 => format!("1 {word}"),
        n => format!("{n} {word}s"),
    });
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{}", counted.join(", "));
    text
}

fn write_finding(text: &mut String, finding: &Finding, documents: &[Document]) {
    let rule = finding.rule;
    let _ = writeln!(text, "{}[{}]: {}", rule.severity.name(), rule.code, finding.message);
    if let Some(place) = &finding.place {
        write_excerpt(text, place, finding.length, documents);
    }
    let _ = writeln!(text, "  = why: {}\n  = help: {}\n", rule.why, rule.remedy);
}

fn write_excerpt(text: &mut String, place: &Place, length: usize, documents: &[Document]) {
    let number = place.line.to_string();
    let gutter = " ".repeat(number.len());
    let _ = writeln!(text, "{gutter}--> {place}");
    let document = documents.iter().find(|document| document.name == place.file);
    let Some(line) = document.and_then(|d| d.text.lines().nth(place.line - 1)) else { return };
    let before: String = line.chars().take(place.column - 1).map(blank).collect();
    let rest = line.chars().count().saturating_sub(place.column - 1);
    let marks = "^".repeat(length.clamp(1, rest.max(1)));
    let _ = writeln!(text, "{gutter} |\n{number} | {line}\n{gutter} | {before}{marks}");
}

/// A tab stays, so that what is below stands below.
fn blank(c: char) -> char {
    if c == '\t' { c } else { ' ' }
}
