//! Findings for people and for programs.
//!
//! Invariant: words only.

use super::{Evidence, Facts, Finding, Patient, Severity};
use crate::counted;
use nfc_ir::Ir;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// How many lines of evidence are shown of one finding.
const EVIDENCE_MAX: usize = 6;

/// How many Services are named in one finding.
const SERVICES_MAX: usize = 5;

/// The findings as text.
#[must_use]
pub fn text(patient: Patient<'_>, findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        write_finding(&mut text, finding);
    }
    let _ = writeln!(text, "{}", summary(patient, findings));
    for unread in &patient.facts.unread {
        let _ = writeln!(text, "not looked at: {unread}");
    }
    text
}

fn write_finding(text: &mut String, finding: &Finding) {
    let Finding { kind, says, services, evidence, remedy, fixed } = finding;
    let _ = writeln!(text, "{}: {kind}: {says}", kind.severity());
    if !services.is_empty() {
        let named: Vec<_> = services.iter().take(SERVICES_MAX).map(ToString::to_string).collect();
        let _ = writeln!(
            text,
            "  services: {}{}",
            named.join(", "),
            rest(services.len(), SERVICES_MAX)
        );
    }
    for seen in evidence.iter().take(EVIDENCE_MAX) {
        let _ = writeln!(text, "  {}: {}", seen.place, seen.read);
    }
    if evidence.len() > EVIDENCE_MAX {
        let _ = writeln!(text, "  and {} more", evidence.len() - EVIDENCE_MAX);
    }
    if *fixed {
        text.push_str("  done: they are forgotten\n");
    } else {
        for command in remedy {
            let _ = writeln!(text, "  try: {command}");
        }
    }
    text.push('\n');
}

fn rest(count: usize, shown: usize) -> String {
    if count > shown { format!(" and {} more", count - shown) } else { String::new() }
}

fn summary(patient: Patient<'_>, findings: &[Finding]) -> String {
    let Facts { doors, connections, .. } = patient.facts;
    let ports: usize = patient.irs.values().map(|ir| ir.services().len()).sum();
    let looked = format!(
        "{}, {} asked, {}",
        counted(ports, "service port"),
        counted(doors.len(), "endpoint"),
        counted(connections.len(), "connection")
    );
    let open = findings.iter().filter(|f| !f.fixed);
    match open.clone().count() {
        0 => format!("healthy: {looked}; the {} rules are as compiled", patient.backend),
        count => {
            let errors = open.filter(|f| f.kind.severity() == Severity::Error).count();
            let (errors, warnings) = (counted(errors, "error"), counted(count - errors, "warning"));
            format!("{errors}, {warnings}; {looked}")
        }
    }
}

/// The findings as JSON.
#[must_use]
pub fn json(patient: Patient<'_>, findings: &[Finding]) -> Value {
    let services: usize = patient.irs.values().map(|ir: &Ir| ir.services().len()).sum();
    json!({
        "healthy": findings.iter().all(|f| f.fixed),
        "backend": patient.backend,
        "servicePorts": services,
        "endpointsAsked": patient.facts.doors.len(),
        "connections": patient.facts.connections.len(),
        "findings": findings.iter().map(of_finding).collect::<Value>(),
        "unread": patient.facts.unread,
    })
}

fn of_finding(finding: &Finding) -> Value {
    let Finding { kind, says, services, evidence, remedy, fixed } = finding;
    let seen = |seen: &Evidence| json!({ "place": seen.place, "read": seen.read });
    json!({
        "kind": kind.name(),
        "severity": kind.severity().to_string(),
        "says": says,
        "services": services.iter().map(ToString::to_string).collect::<Value>(),
        "evidence": evidence.iter().map(seen).collect::<Value>(),
        "remedy": remedy,
        "fixed": fixed,
    })
}
