//! Findings for people and for programs.
//!
//! Invariant: words only.

use super::{
    Evidence, Facts, Finding, Movement, Patient, Reading, Severity, Share, Tracked, movements,
};
use nfc_backend::counted;
use nfc_ir::{Family, Ir, ServiceName};
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
    write_movements(&mut text, patient);
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
    let Facts { doors, now: Reading { connections, .. }, .. } = patient.facts;
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

/// What moved, and whom nobody asked.
fn write_movements(text: &mut String, patient: Patient<'_>) {
    let movements = movements(patient);
    let (still, moved): (Vec<_>, Vec<_>) = movements.iter().partition(|m| m.is_still());
    let span = match patient.facts.watched {
        Some(watched) => format!("in {} s", watched.as_secs()),
        None => "so far".to_owned(),
    };
    if !moved.is_empty() {
        let _ = writeln!(text, "connections {span}:");
    }
    for movement in moved.iter().take(SERVICES_MAX) {
        let Movement { counted, tracked, endpoints, .. } = movement;
        let _ = writeln!(text, "  {}: {}", named(movement), of_tracked(*counted, *tracked));
        for (endpoint, share) in endpoints.iter().take(SERVICES_MAX) {
            let Share { counted, tracked } = share;
            let _ = writeln!(text, "    to {endpoint}: {}", of_tracked(*counted, *tracked));
        }
        if endpoints.len() > SERVICES_MAX {
            let _ = writeln!(text, "   {}", rest(endpoints.len(), SERVICES_MAX));
        }
    }
    if moved.len() > SERVICES_MAX {
        let _ = writeln!(text, " {}", rest(moved.len(), SERVICES_MAX));
    }
    if !still.is_empty() {
        let names: Vec<_> = still.iter().take(SERVICES_MAX).map(|m| named(m)).collect();
        let (names, rest) = (names.join(", "), rest(still.len(), SERVICES_MAX));
        let _ = writeln!(text, "note: {span} nobody asked {names}{rest}");
    }
}

fn named(movement: &Movement<'_>) -> String {
    format!("{} {}", movement.service.name, movement.service.protocol)
}

fn of_tracked(counted: Option<u64>, tracked: Tracked) -> String {
    let Tracked { connections, unanswered, bypassing } = tracked;
    let counted = counted.map(|count| format!("{count} counted by rules"));
    let tracked = Some(format!("{connections} tracked"));
    let unanswered = (unanswered > 0).then(|| format!("{unanswered} without an answer"));
    let bypassing = (bypassing > 0).then(|| format!("{bypassing} past the rules"));
    [counted, tracked, unanswered, bypassing].into_iter().flatten().collect::<Vec<_>>().join(", ")
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
        "connections": patient.facts.now.connections.len(),
        "findings": findings.iter().map(of_finding).collect::<Value>(),
        "watchedSeconds": patient.facts.watched.map(|watched| watched.as_secs()),
        "moved": movements(patient).iter().map(of_movement).collect::<Value>(),
        "unread": patient.facts.unread,
    })
}

fn of_movement(movement: &Movement<'_>) -> Value {
    let Movement { service, counted, tracked, endpoints } = movement;
    let share = |(endpoint, share): (_, &Share)| {
        json!({
            "endpoint": endpoint,
            "byRules": share.counted,
            "connections": share.tracked.connections,
            "unanswered": share.tracked.unanswered,
        })
    };
    json!({
        "service": service.name.to_string(),
        "protocol": service.protocol.name(),
        "family": Family::of(service.cluster_ip).to_string(),
        "byRules": counted,
        "connections": tracked.connections,
        "unanswered": tracked.unanswered,
        "pastRules": tracked.bypassing,
        "endpoints": endpoints.iter().map(share).collect::<Value>(),
    })
}

fn of_finding(finding: &Finding) -> Value {
    let Finding { kind, says, services, evidence, remedy, fixed } = finding;
    let seen = |seen: &Evidence| json!({ "place": seen.place, "read": seen.read });
    let suffering = |name: &ServiceName| json!({ "service": name.to_string() });
    json!({
        "code": kind.name(),
        "severity": kind.severity().to_string(),
        "message": says,
        "services": services.iter().map(suffering).collect::<Value>(),
        "evidence": evidence.iter().map(seen).collect::<Value>(),
        "remedies": remedy,
        "fixed": fixed,
    })
}
