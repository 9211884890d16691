//! What is checked of a Service and its slices together.
//!
//! Invariant: one function for a subject; each knows the rules that it can find.

use super::object::{Port, Service, Slice, condition};
use super::rules::{self, Rule};
use super::{Case, Finding};
use nfc_ir::{Family, TrafficPolicy, select};
use nfc_manifest::Written;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The node ports that the API server gives by default (`--service-node-port-range`).
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30_000..=32_767;

/// Annotations and fields that are out of use, and what has taken their place. Sources: the
/// well-known annotations of kubernetes.io, and `k8s.io/api/core/v1/annotation_key_constants.go`.
const DEPRECATED_ANNOTATIONS: [(&str, &str); 5] = [
    ("service.alpha.kubernetes.io/tolerate-unready-endpoints", "spec.publishNotReadyAddresses"),
    ("service.beta.kubernetes.io/external-traffic", "spec.externalTrafficPolicy"),
    ("service.beta.kubernetes.io/healthcheck-nodeport", "spec.healthCheckNodePort"),
    ("service.kubernetes.io/topology-aware-hints", "spec.trafficDistribution"),
    ("service.kubernetes.io/topology-mode", "spec.trafficDistribution"),
];

/// See above.
const DEPRECATED_FIELDS: [(&str, &str); 2] = [
    ("loadBalancerIP", "an annotation of the load balancer's own"),
    ("topologyKeys", "spec.trafficDistribution"),
];

pub(super) fn check(case: &Case<'_>, service: &Service<'_>, findings: &mut Vec<Finding>) {
    let mut report = Report { service, findings };
    deprecated(&mut report);
    if service.is_headless() {
        headless(&mut report);
    }
    if !service.is_proxied() {
        return;
    }
    endpoints(case, &mut report);
    policies(case, &mut report);
    cluster_ips(case, &mut report);
    source_ranges(&mut report);
    node_ports(case, &mut report);
    for ip in service.list("externalIPs") {
        let words = format!("answers at the external IP {}", ip.text().unwrap_or_default());
        report.at(rules::EXTERNAL_IP, ip, &words);
    }
}

/// Takes down what is found about one Service.
struct Report<'a, 's> {
    service: &'s Service<'a>,
    findings: &'s mut Vec<Finding>,
}

impl Report<'_, '_> {
    fn at(&mut self, rule: &'static Rule, written: &Written, words: &str) {
        let message = format!("Service {} {words}", self.service.name);
        self.findings.push(Finding::new(rule, &written.place, written.length, message));
    }

    /// About the Service as a whole.
    fn whole(&mut self, rule: &'static Rule, words: &str) {
        let (name, place) = (&self.service.name, self.service.place);
        let length = name.rsplit('/').next().map_or(1, str::len);
        let message = format!("Service {name} {words}");
        self.findings.push(Finding::new(rule, place, length, message));
    }
}

fn deprecated(report: &mut Report<'_, '_>) {
    let metadata = report.service.object.field("metadata");
    let annotations = metadata.and_then(|metadata| metadata.field("annotations"));
    for (key, place, _) in annotations.map_or(&[][..], Written::entries) {
        let found = DEPRECATED_ANNOTATIONS.iter().find(|(name, _)| name == key);
        if let Some((name, instead)) = found {
            let message = format!(
                "Service {} has the annotation {name}; {instead} has taken its place",
                report.service.name
            );
            report.findings.push(Finding::new(rules::DEPRECATED, place, key.len(), message));
        }
    }
    for (name, instead) in DEPRECATED_FIELDS {
        if let Some(field) = report.service.field(name).filter(|f| f.text() != Some("")) {
            let words = format!("has {name}; {instead} has taken its place");
            report.at(rules::DEPRECATED, field, &words);
        }
    }
}

fn headless(report: &mut Report<'_, '_>) {
    let affinity = report.service.field("sessionAffinity");
    if let Some(affinity) = affinity.filter(|a| a.text() == Some("ClientIP")) {
        report.at(rules::HEADLESS_AFFINITY, affinity, "is headless and asks for session affinity");
    }
}

/// Whether the Service can send its clients anywhere.
fn endpoints(case: &Case<'_>, report: &mut Report<'_, '_>) {
    let slices = case.objects.slices_of(report.service);
    let endpoints: Vec<_> = slices.iter().flat_map(|slice| slice.endpoints()).collect();
    if endpoints.is_empty() {
        let words = match (report.service.field("selector"), slices.is_empty()) {
            (Some(_), true) => "has a selector, and no EndpointSlice is in the input",
            (None, true) => "has neither a selector nor an EndpointSlice",
            (_, false) => "has EndpointSlices without endpoints",
        };
        report.whole(rules::NO_ENDPOINTS, words);
        return;
    }
    families(report, slices);
    // An endpoint whose conditions are not known is taken for a good one, and one that is
    // going down is used as long as there is no better.
    let can_answer = |endpoint: &&Written| {
        let is_last_resort =
            condition(endpoint, "serving", true) && condition(endpoint, "terminating", false);
        condition(endpoint, "ready", true) || is_last_resort
    };
    if !endpoints.iter().any(can_answer) {
        let words = match endpoints.len() {
            1 => "has one endpoint, which is not ready".to_owned(),
            count => format!("has {count} endpoints, none ready"),
        };
        report.whole(rules::NOTHING_READY, &words);
    }
    for port in report.service.ports() {
        let matching: Vec<_> =
            slices.iter().flat_map(|s| s.ports()).filter(|p| p.is(port)).collect();
        if matching.is_empty() {
            let has = slices.iter().flat_map(|s| s.ports()).map(Port::described);
            let has: Vec<_> = has.collect::<BTreeSet<_>>().into_iter().collect();
            let has = if has.is_empty() { "none".to_owned() } else { has.join(", ") };
            let words = format!("has a port {}, its slices have {has}", port.described());
            report.at(rules::PORT_WITHOUT_ENDPOINTS, named(port), &words);
        }
        target_port(report, port, &matching);
    }
}

/// Whether every cluster IP has endpoints of its own family. Packets change no family on their
/// way.
fn families(report: &mut Report<'_, '_>, slices: &[Slice<'_>]) {
    for written in report.service.cluster_ips() {
        let Some(ip) = written.text().and_then(|text| text.parse::<IpAddr>().ok()) else {
            continue;
        };
        let family = Family::of(ip);
        let mut own = slices.iter().filter(|slice| slice.is_of(family));
        if !own.any(|slice| !slice.endpoints().is_empty()) {
            let words = format!("has the cluster IP {ip}, and no {family} endpoints");
            report.at(rules::NO_ENDPOINTS, written, &words);
        }
    }
}

/// The name of a port, or what there is of it.
fn named(port: Port<'_>) -> &Written {
    let written = port.written;
    written.field("name").or_else(|| written.field("port")).unwrap_or(written)
}

fn target_port(report: &mut Report<'_, '_>, port: Port<'_>, matching: &[Port<'_>]) {
    let Some((target, written)) = port.number("targetPort") else { return };
    let actual = matching.iter().find_map(|p| p.number("port")).map(|(number, _)| number);
    if let Some(actual) = actual.filter(|actual| *actual != target) {
        let words = format!("has targetPort {target}, and its slice port {actual}");
        report.at(rules::TARGET_PORT, written, &words);
    }
}

/// `Local` policies on a node that has no endpoint, in a mode that then sends nowhere. A node of
/// unknown name has none that are known to be local; loading says that already.
fn policies(case: &Case<'_>, report: &mut Report<'_, '_>) {
    if case.mode.local_falls_back_to_all() {
        return;
    }
    let kinds = [
        ("externalTrafficPolicy", rules::LOCAL_EXTERNAL),
        ("internalTrafficPolicy", rules::LOCAL_INTERNAL),
    ];
    for (field, rule) in kinds {
        let Some(written) = report.service.field(field).filter(|p| p.text() == Some("Local"))
        else {
            continue;
        };
        let is_external = field == "externalTrafficPolicy";
        let lacking = case.service_ports(&report.service.name).find(|(ir, service)| {
            let policy =
                if is_external { service.external_policy } else { service.internal_policy };
            let selection = select(service, ir.node());
            policy == TrafficPolicy::Local
                && !ir.node().name.is_empty()
                && selection.any
                && selection.local.is_empty()
        });
        if let Some((ir, _)) = lacking {
            let words = format!("has no endpoint on node {}", ir.node().name);
            report.at(rule, written, &words);
        }
    }
}

fn cluster_ips(case: &Case<'_>, report: &mut Report<'_, '_>) {
    let blocks = &case.objects.service_cidrs;
    for written in report.service.cluster_ips() {
        let Some(ip) = written.text().and_then(|text| text.parse::<IpAddr>().ok()) else {
            continue;
        };
        let mut of_family = blocks.iter().filter(|b| b.addr().is_ipv4() == ip.is_ipv4()).peekable();
        let is_known = of_family.peek().is_some();
        if is_known && !of_family.any(|block| block.contains(&ip)) {
            report.at(rules::OUTSIDE_CIDR, written, &format!("has the cluster IP {ip}"));
        }
    }
}

fn source_ranges(report: &mut Report<'_, '_>) {
    let ranges = report.service.list("loadBalancerSourceRanges");
    let Some(first) = ranges.first() else { return };
    if report.service.text("type") != Some("LoadBalancer") {
        let kind = report.service.text("type").unwrap_or("ClusterIP");
        let words = format!("is of type {kind} and has loadBalancerSourceRanges");
        report.at(rules::RANGES_UNUSED, first, &words);
        return;
    }
    for ip in report.service.load_balancer_ips() {
        let Some(address) = ip.text().and_then(|t| t.parse::<IpAddr>().ok()) else { continue };
        let is_v4 = |range: &Written| range.text().is_some_and(|text| !text.contains(':'));
        if !ranges.iter().any(|range| is_v4(range) == address.is_ipv4()) {
            let words = format!("has the load balancer IP {address} and no range of its family");
            report.at(rules::RANGES_FAMILY, first, &words);
        }
    }
}

fn node_ports(case: &Case<'_>, report: &mut Report<'_, '_>) {
    let health_check =
        report.service.field("healthCheckNodePort").filter(|p| p.text() != Some("0"));
    for port in report.service.ports() {
        if let Some((number, written)) = port.number("nodePort").filter(|(n, _)| *n != 0)
            && !NODE_PORTS.contains(&number)
        {
            report.at(rules::NODE_PORT_RANGE, written, &format!("has the node port {number}"));
        }
        if health_check.is_some() && port.protocol() == "UDP" {
            let words = format!("has a UDP port {} behind healthCheckNodePort", port.described());
            report.at(rules::UDP_HEALTH_CHECK, named(port), &words);
        }
    }
    let Some(check) = health_check else { return };
    let wanted = check.text().and_then(|text| text.parse::<u16>().ok());
    for other in &case.objects.services {
        let taken = other.ports().find(|port| {
            let number = port.number("nodePort").map(|(number, _)| number);
            port.protocol() == "TCP" && number.is_some() && number == wanted
        });
        if let Some(port) = taken {
            let words = format!(
                "has healthCheckNodePort {}, which is the node port of {} port {}",
                check.text().unwrap_or_default(),
                other.name,
                port.described()
            );
            report.at(rules::HEALTH_CHECK_TAKEN, check, &words);
        }
    }
}
