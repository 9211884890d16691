//! An explanation as JSON for a program.
//!
//! Invariant: docs/explain.md lists every member; a member may be added, none changes its
//! meaning.

use super::{Account, Counted, Explanation, Hit, Meaning, Met, Told, Traced};
use crate::diff::Subject;
use nfc_backend::journey::{End, Visit, Way};
use nfc_ir::{Choice, Ingress, Outcome, Packet, TrafficPolicy};
use nfc_kernel::conntrack::Connection;
use serde_json::{Value, json};
use std::net::SocketAddr;

/// The explanations of one packet, one for each backend.
#[must_use]
pub fn document(explanations: &[Explanation<'_>]) -> Value {
    json!({
        "packet": explanations.first().map(|explanation| packet(&explanation.packet)),
        "backends": explanations.iter().map(explanation).collect::<Value>(),
    })
}

fn packet(packet: &Packet) -> Value {
    let interface = match &packet.ingress {
        Ingress::Interface(name) => Some(name),
        Ingress::Local => None,
    };
    json!({
        "protocol": packet.protocol.name(),
        "source": packet.source,
        "destination": packet.destination,
        "interface": interface,
    })
}

fn explanation(explanation: &Explanation<'_>) -> Value {
    let agrees = explanation.is_consistent();
    json!({
        "backend": explanation.backend,
        "mode": explanation.mode.to_string(),
        "outcome": explanation.outcome().as_ref().map(outcome),
        "meaning": explanation.meaning.as_ref().map(|told| meaning(told, agrees)),
        "ways": explanation.ways.iter().map(way).collect::<Value>(),
        "landings": explanation.landings.iter().map(landing).collect::<Value>(),
        "kernel": explanation.kernel.as_ref().map(account),
    })
}

fn landing((words, count): (&String, &usize)) -> Value {
    json!({ "landing": words, "count": count })
}

fn account(account: &Account) -> Value {
    let (trace, counters) = match &account.rules {
        Some(Met::Trace(steps)) => (Some(steps.iter().map(traced).collect::<Value>()), None),
        Some(Met::Counters(rules)) => (None, Some(rules.iter().map(counted).collect::<Value>())),
        None => (None, None),
    };
    json!({
        "packet": packet(&account.packet),
        "landing": account.landing,
        "trace": trace,
        "counters": counters,
        "conntrack": account.entries.iter().flatten().next().map(entry),
        "skipped": account.skipped,
    })
}

fn entry(entry: &Connection) -> Value {
    json!({
        "original": tuple(entry.client, entry.destination),
        "reply": tuple(entry.answerer, entry.asker),
    })
}

fn tuple(source: SocketAddr, destination: SocketAddr) -> Value {
    json!({ "source": source, "destination": destination })
}

fn traced(step: &Traced) -> Value {
    let Traced { table, chain, rule, verdict } = step;
    json!({ "table": table, "chain": chain, "rule": rule, "verdict": verdict })
}

fn counted(counted: &Counted) -> Value {
    let Counted { table, chain, rule, packets } = counted;
    json!({ "table": table, "chain": chain, "rule": rule, "packets": packets })
}

fn outcome(outcome: &Outcome) -> Value {
    let (verdict, choices) = match outcome {
        Outcome::Balance(choices) => ("balance", Some(choices)),
        Outcome::Reject => ("reject", None),
        Outcome::Drop => ("drop", None),
        Outcome::Accept => ("accept", None),
        Outcome::Pass => ("pass", None),
    };
    let choice = |(choice, share): (&Choice, &f64)| {
        json!({
            "endpoint": choice.endpoint,
            "share": rounded(*share),
            "masqueraded": choice.masquerade,
        })
    };
    json!({
        "verdict": verdict,
        "endpoints": choices.into_iter().flatten().map(choice).collect::<Value>(),
    })
}

/// A share with six decimals: what lies behind them is the arithmetic's, not the rules'.
fn rounded(share: f64) -> f64 {
    (share * 1e6).round() / 1e6
}

/// `agrees`: whether the rules do what the Services mean.
fn meaning(meaning: &Meaning<'_>, agrees: bool) -> Value {
    json!({
        "hit": meaning.hit.as_ref().map(hit),
        "because": meaning.because,
        "agrees": agrees,
    })
}

fn hit(hit: &Hit<'_>) -> Value {
    let service = hit.service;
    let frontend = Subject::from(hit.frontend);
    let policy = match hit.policy {
        TrafficPolicy::Cluster => "Cluster",
        TrafficPolicy::Local => "Local",
    };
    json!({
        "service": service.name.to_string(),
        "protocol": service.protocol.name(),
        "port": service.port.get(),
        "frontend": frontend.kind(),
        "address": frontend.address(),
        "policy": policy,
        "affinitySeconds": service.affinity.map(|affinity| affinity.timeout_seconds),
        "endpoints": hit.endpoints.iter().map(endpoint).collect::<Value>(),
    })
}

fn endpoint(told: &Told<'_>) -> Value {
    let chosen = told.chosen.as_ref();
    json!({
        "endpoint": told.endpoint.address,
        "share": rounded(chosen.map_or(0.0, |chosen| chosen.share)),
        "masqueradedBecause": chosen.and_then(|chosen| chosen.masquerade.as_ref()),
        "why": told.why,
    })
}

fn way(way: &Way) -> Value {
    let (end, choice) = match way.end {
        End::Endpoint(choice) => ("endpoint", Some(choice)),
        End::Reject => ("reject", None),
        End::Drop => ("drop", None),
        End::Accept => ("accept", None),
        End::Pass => ("pass", None),
    };
    json!({
        "share": rounded(way.share),
        "visits": way.visits.iter().map(visit).collect::<Value>(),
        "end": end,
        "endpoint": choice.map(|choice| choice.endpoint),
        "masqueraded": choice.is_some_and(|choice| choice.masquerade),
    })
}

fn visit(visit: &Visit) -> Value {
    json!({
        "hook": visit.hook.name(),
        "table": visit.table,
        "chain": visit.chain,
        "line": Some(visit.line).filter(|line| *line > 0),
        "rule": visit.rule,
        "matched": visit.elements,
    })
}
