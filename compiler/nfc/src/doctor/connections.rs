//! What tracked connections tell: which lead nowhere, which go past the rules, which
//! endpoints leave them without an answer.
//!
//! Invariant: pure; a connection is judged by the Service that it was for, and by what `eval`
//! says of its first packet.

use super::facts;
use super::frontends::{self, Frontends};
use super::knock::Answer;
use super::standing::Standing;
use super::{Finding, Kind, Patient};
use nfc_ir::{Family, Ingress, Ir, Outcome, Packet, Protocol, ProxyMode, Service, eval};
use nfc_kernel::conntrack::Connection;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// From how many connections without an answer an endpoint is not merely slow.
const UNANSWERED_MIN: usize = 3;

/// A connection, and the Service that it was for.
type Of<'a> = (&'a Service, &'a Connection);

/// The connections that had better be forgotten, so that their next packet meets the rules:
/// they lead to endpoints that are gone, or went past rules that are there now.
#[must_use]
pub fn to_forget(patient: Patient<'_>) -> Vec<&Connection> {
    let bypassing = bypassing(patient).into_iter();
    let bypassing = bypassing.filter(|(_, c)| stands(patient, c) == Some(&Standing::AsCompiled));
    stale(patient).into_iter().chain(bypassing).map(|(_, connection)| connection).collect()
}

/// The live connections to Services, which `is_meant` picks.
fn live<'a>(patient: Patient<'a>, is_meant: impl Fn(Of<'a>) -> bool) -> Vec<Of<'a>> {
    let facts = patient.facts;
    let frontends = Frontends::of(patient.irs, &facts.addresses);
    let service = |c: &Connection| frontends.find(frontends::at(c.protocol, c.destination)?);
    let live = facts.now.connections.iter().filter(|c| !c.is_over());
    live.filter_map(|c| Some((service(c)?, c))).filter(|of| is_meant(*of)).collect()
}

/// Those that lead where no endpoint of their Service is any more. An endpoint that is going
/// down may finish what it began. IPVS ends them itself, but for those that it keeps a real
/// server for.
pub(super) fn stale(patient: Patient<'_>) -> Vec<Of<'_>> {
    if patient.mode == ProxyMode::Ipvs {
        return Vec::new();
    }
    let leads_on =
        |s: &Service, c: &Connection| s.endpoints.iter().any(|e| e.address == c.answerer);
    live(patient, |(service, c)| c.is_rewritten() && !leads_on(service, c))
}

fn bypassing(patient: Patient<'_>) -> Vec<Of<'_>> {
    live(patient, |(service, connection)| bypasses(patient, service, connection))
}

/// Whether the rules would have sent it to an endpoint, had they met its first packet.
pub(super) fn bypasses(patient: Patient<'_>, service: &Service, connection: &Connection) -> bool {
    let Connection { client, destination, .. } = connection;
    let is_endpoint = service.endpoints.iter().any(|e| e.address == *destination);
    if connection.is_rewritten() || is_endpoint || !rewriting_shows(patient) {
        return false;
    }
    let family = Family::of(destination.ip());
    let Some(ir) = patient.irs.get(&family) else { return false };
    let own = &patient.facts.addresses;
    let mut node = ir.node().clone();
    node.addresses.extend(own.iter().filter(|ip| Family::of(**ip) == family));
    // Nobody remembers the link that it came in through. It decides about masquerading, and
    // lets pods past a `Local` policy: without it less is found, never more.
    let ingress = match own.contains(&client.ip()) {
        true => Ingress::Local,
        false => Ingress::Interface(String::new()),
    };
    let packet =
        Packet { protocol: service.protocol, source: *client, destination: *destination, ingress };
    let alone = Ir::new(family, node, vec![service.clone()]);
    alone.is_ok_and(|ir| matches!(eval(&ir, patient.mode, &packet), Outcome::Balance(_)))
}

/// IPVS rewrites on its own, and tells connection tracking where this is on.
fn rewriting_shows(patient: Patient<'_>) -> bool {
    let is_off = || patient.facts.sysctls.get(facts::IPVS_CONNTRACK).is_some_and(|on| on == "0");
    patient.mode != ProxyMode::Ipvs || !is_off()
}

fn stands<'a>(patient: Patient<'a>, connection: &Connection) -> Option<&'a Standing> {
    patient.facts.rules.get(&Family::of(connection.destination.ip()))
}

/// Everything that is wrong with connections.
pub(super) fn findings(patient: Patient<'_>) -> Vec<Finding> {
    let all = [unanswered(patient), bypassing_found(patient), stale_found(patient)];
    all.into_iter().flatten().collect()
}

fn stale_found(patient: Patient<'_>) -> Option<Finding> {
    let stale = stale(patient);
    let says = match stale.len() {
        1 => "1 connection leads to an endpoint that is gone".to_owned(),
        count => format!("{count} connections lead to endpoints that are gone"),
    };
    let mut finding = Finding::new(Kind::StaleConnections, says);
    for (service, connection) in &stale {
        let read = format!("{} goes to {}", line(service, connection), connection.answerer);
        finding = finding.seen("tracked connections", read).about([service.name.clone()]);
    }
    (!stale.is_empty()).then(|| finding.remedy("nfc doctor --fix MANIFESTS"))
}

fn line(service: &Service, connection: &Connection) -> String {
    format!("{} {} > {}", service.protocol, connection.client, connection.destination)
}

fn bypassing_found(patient: Patient<'_>) -> Option<Finding> {
    let bypassing = bypassing(patient);
    let says = match bypassing.len() {
        1 => "1 connection goes past the rules".to_owned(),
        count => format!("{count} connections go past the rules"),
    };
    let mut finding = Finding::new(Kind::RulesBypassed, says);
    let mut is_loaded = true;
    for (service, connection) in &bypassing {
        let why = match stands(patient, connection) {
            _ if connection.is_offloaded() => "it is in a flowtable, which goes past all chains",
            Some(Standing::Missing) => "there are no rules",
            Some(Standing::Drifted(_)) => "the rules are not those of the manifests",
            Some(Standing::AsCompiled) | None => "it began before the rules were there",
        };
        is_loaded &= stands(patient, connection) == Some(&Standing::AsCompiled);
        let read = format!("{} is not rewritten: {why}", line(service, connection));
        finding = finding.seen("tracked connections", read).about([service.name.clone()]);
    }
    if !is_loaded {
        finding = finding.remedy(patient.apply_command());
    }
    (!bypassing.is_empty()).then(|| finding.remedy("nfc doctor --fix MANIFESTS"))
}

/// Connections to one endpoint for one Service.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    all: usize,
    unanswered: usize,
}

impl Tally {
    fn is_silence(self) -> bool {
        self.unanswered >= UNANSWERED_MIN && self.unanswered > self.all - self.unanswered
    }
}

/// Who never answers over UDP may have nothing to say, as a collector of logs; that is told
/// apart by the answers of others.
fn unanswered(patient: Patient<'_>) -> Option<Finding> {
    let facts = patient.facts;
    let frontends = Frontends::of(patient.irs, &facts.addresses);
    let mut tallies: BTreeMap<_, Tally> = BTreeMap::new();
    let mut answering = BTreeSet::new();
    for connection in facts.now.connections.iter().filter(|c| c.is_rewritten()) {
        let at = frontends::at(connection.protocol, connection.destination);
        let Some(service) = at.and_then(|at| frontends.find(at)) else { continue };
        let port = (&service.name, service.protocol);
        let tally = tallies.entry((port, connection.answerer)).or_default();
        tally.all += 1;
        if connection.is_answered() {
            answering.insert(port);
        } else {
            tally.unanswered += 1;
        }
    }
    tallies.retain(|(port, _), tally| {
        tally.is_silence() && (port.1 != Protocol::Udp || answering.contains(port))
    });
    let mut finding = Finding::new(Kind::Unanswered, "endpoints leave connections unanswered");
    for (((name, protocol), endpoint), tally) in &tallies {
        let place = format!("tracked connections, {protocol} to {endpoint}");
        let read = format!("{} of {} without an answer", tally.unanswered, tally.all);
        let asked = asked_from_here(patient, *endpoint, *protocol);
        finding = finding.seen(place, read + asked).about([(*name).clone()]).remedy(format!(
            "does it come back to this node? tcpdump -ni any host {} and port {}",
            endpoint.ip(),
            endpoint.port()
        ));
    }
    finding.remedy.truncate(1);
    (!finding.evidence.is_empty()).then_some(finding)
}

/// What the knock at the endpoint's door adds.
fn asked_from_here(patient: Patient<'_>, endpoint: SocketAddr, protocol: Protocol) -> &'static str {
    match patient.facts.doors.get(&(endpoint, protocol)) {
        Some(Answer::Open) if protocol == Protocol::Tcp => "; it answers the node itself",
        Some(Answer::Silent) => "; it does not answer the node either",
        _ => "",
    }
}
