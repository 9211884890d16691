//! Findings for programs: as plain JSON, and as SARIF 2.1.0, which code hosts show beside
//! the lines (OASIS, "Static Analysis Results Interchange Format").
//!
//! Invariant: docs/check.md lists every member of the plain form.

use super::{Finding, Rule, rules};
use nfc_manifest::Place;
use serde_json::{Value, json};

/// The findings as plain JSON.
#[must_use]
pub fn document(findings: &[Finding]) -> Value {
    let finding = |finding: &Finding| {
        let Finding { rule, place, message, .. } = finding;
        let place = place.as_ref();
        json!({
            "code": rule.code,
            "severity": rule.severity.name(),
            "message": message,
            "file": place.map(|place| &place.file),
            "line": place.map(|place| place.line),
            "column": place.map(|place| place.column),
            "why": rule.why,
            "remedy": finding.remedy(),
        })
    };
    json!({ "findings": findings.iter().map(finding).collect::<Value>() })
}

/// The findings as SARIF.
#[must_use]
pub fn sarif(findings: &[Finding]) -> Value {
    let driver = json!({
        "name": "nfc",
        "version": env!("CARGO_PKG_VERSION"),
        "rules": rules::ALL.iter().map(|rule| descriptor(rule)).collect::<Value>(),
    });
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": driver },
            "columnKind": "unicodeCodePoints",
            "results": findings.iter().map(result).collect::<Value>(),
        }],
    })
}

fn descriptor(rule: &Rule) -> Value {
    json!({
        "id": rule.code,
        "shortDescription": { "text": rule.title },
        "fullDescription": { "text": rule.why },
        "help": { "text": rule.remedy },
        "defaultConfiguration": { "level": rule.severity.name() },
    })
}

fn result(Finding { rule, place, message, .. }: &Finding) -> Value {
    json!({
        "ruleId": rule.code,
        "level": rule.severity.name(),
        "message": { "text": message },
        "locations": place.iter().map(location).collect::<Value>(),
    })
}

fn location(place: &Place) -> Value {
    json!({
        "physicalLocation": {
            "artifactLocation": { "uri": uri(&place.file) },
            "region": { "startLine": place.line, "startColumn": place.column },
        },
    })
}

/// A file's name as a reference of RFC 3986, in which blanks, `<` and letters beyond ASCII
/// cannot stand.
fn uri(file: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let encoded = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    file.bytes().map(encoded).collect()
}
