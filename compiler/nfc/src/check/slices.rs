//! What is checked of an EndpointSlice.
//!
//! Invariant: one slice at a time; whether its Service gets what it needs is asked of the
//! Service.

use super::object::{Slice, condition};
use super::rules;
use super::{Case, Finding};
use nfc_manifest::Written;
use std::net::IpAddr;

pub(super) fn check(case: &Case<'_>, slice: &Slice<'_>, findings: &mut Vec<Finding>) {
    hints(slice, findings);
    let addresses = slice.endpoints().iter().filter_map(|endpoint| endpoint.field("addresses"));
    for written in addresses.flat_map(Written::items) {
        let Some(ip) = written.text().and_then(|text| text.parse::<IpAddr>().ok()) else {
            continue;
        };
        let mut find = |rule, words: String| {
            let message = format!("an endpoint of Service {} {words}", slice.service);
            findings.push(Finding::new(rule, &written.place, written.length, message));
        };
        if let Some(kind) = unreachable_kind(ip) {
            find(rules::ODD_ENDPOINT, format!("has the {kind} address {ip}"));
        }
        if let Some(owner) = case.objects.owner_of(ip) {
            find(rules::ENDPOINT_IS_CLUSTER_IP, format!("is {ip}, the cluster IP of {owner}"));
        }
    }
}

/// Addresses that the API server refuses (`ValidateEndpointIP`).
fn unreachable_kind(ip: IpAddr) -> Option<&'static str> {
    let is_link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    if ip.is_unspecified() {
        Some("unspecified")
    } else if ip.is_loopback() {
        Some("loopback")
    } else if ip.is_multicast() {
        Some("multicast")
    } else {
        is_link_local.then_some("link-local")
    }
}

/// Hints of some ready endpoints, and not of all.
fn hints(slice: &Slice<'_>, findings: &mut Vec<Finding>) {
    let ready: Vec<_> = slice.endpoints().iter().filter(|e| condition(e, "ready", true)).collect();
    let hints = |endpoint: &&Written| {
        let zones = endpoint.field("hints").and_then(|hints| hints.field("forZones"));
        zones.is_some_and(|zones| !zones.items().is_empty())
    };
    let hinted = ready.iter().filter(|endpoint| hints(endpoint)).count();
    let Some(without) = ready.iter().find(|endpoint| !hints(endpoint)) else { return };
    if hinted > 0 {
        let message = format!(
            "{hinted} of {} ready endpoints of Service {} have hints",
            ready.len(),
            slice.service
        );
        findings.push(Finding::new(rules::HALF_HINTED, &without.place, without.length, message));
    }
}
