//! The rules of the shared chains: from each address of a Service to the Service's chain,
//! or to a refusal.
//!
//! Invariant: one rule, or two, for each frontend; what happens behind it is in the
//! Service's own chains.

use super::Output;
use super::plan::{Plan, Refusal};
use crate::names::{ChainName, Table};
use crate::program::{Match, Target};
use nfc_ir::Protocol;
use std::net::IpAddr;

/// Writes the rules of all frontends of a Service.
pub(super) fn write(out: &mut Output, plan: &Plan<'_>) {
    cluster_ip(out, plan);
    external_ips(out, plan);
    load_balancer_ips(out, plan);
    node_port(out, plan);
    health_check(out, plan);
}

fn cluster_ip(out: &mut Output, plan: &Plan<'_>) {
    let service = plan.service;
    let policy = service.internal_policy;
    if let Some(refusal) = plan.refusal(policy) {
        refuse_at(out, plan, ChainName::Services, service.cluster_ip, refusal);
        return;
    }
    let matches = at(plan, "cluster IP", service.cluster_ip);
    let rule = plan.rule(matches, Target::Jump(plan.chain_of(policy)));
    out.append(Table::Nat, ChainName::Services, rule);
}

fn external_ips(out: &mut Output, plan: &Plan<'_>) {
    for ip in &plan.service.external_ips {
        if plan.has_external_chain() {
            let matches = at(plan, "external IP", *ip);
            let rule = plan.rule(matches, Target::Jump(plan.external_chain()));
            out.append(Table::Nat, ChainName::Services, rule);
        }
        refuse_outside(out, plan, *ip);
    }
}

fn load_balancer_ips(out: &mut Output, plan: &Plan<'_>) {
    let chain = if plan.has_ranges_chain() { plan.ranges_chain() } else { plan.external_chain() };
    for ip in &plan.service.load_balancer_ips {
        if plan.has_external_chain() {
            let rule = plan.rule(at(plan, "loadbalancer IP", *ip), Target::Jump(chain));
            out.append(Table::Nat, ChainName::Services, rule);
        }
        // Whatever its ranges do not admit comes by here with the address unchanged.
        if plan.has_ranges_chain() {
            let words = format!("traffic not accepted by {chain}");
            let rule = plan.rule(at(plan, &words, *ip), Target::Drop);
            out.append(Table::Filter, ChainName::ProxyFirewall, rule);
        }
        refuse_outside(out, plan, *ip);
    }
}

fn node_port(out: &mut Output, plan: &Plan<'_>) {
    let Some(port) = plan.service.node_port else {
        return;
    };
    let arrives = [Match::Protocol(plan.service.protocol), Match::DestinationPort(port.get())];
    if plan.has_external_chain() {
        let comment = Match::comment(plan.text.clone());
        let matches = std::iter::once(comment).chain(arrives.clone()).collect();
        let rule = plan.rule(matches, Target::Jump(plan.external_chain()));
        out.append(Table::Nat, ChainName::NodePorts, rule);
    }
    if let Some(refusal) = plan.refusal(plan.service.external_policy) {
        let comment = Match::comment(format!("{} {}", plan.text, refusal.words));
        let matches = [comment, Match::DestinationIsLocal].into_iter();
        let rule = plan.rule(matches.chain(arrives).collect(), refusal.target);
        out.append(Table::Filter, ChainName::ExternalServices, rule);
    }
}

/// The port on which a load balancer asks whether the node has local endpoints. Nothing of
/// ours listens there; it only must not be refused.
fn health_check(out: &mut Output, plan: &Plan<'_>) {
    let Some(port) = plan.service.health_check_port else {
        return;
    };
    let matches = vec![
        Match::comment(format!("{} health check node port", plan.text)),
        Match::Protocol(Protocol::Tcp),
        Match::DestinationPort(port.get()),
    ];
    let rule = plan.rule(matches, Target::Accept);
    out.append(Table::Filter, ChainName::NodePorts, rule);
}

fn refuse_outside(out: &mut Output, plan: &Plan<'_>, ip: IpAddr) {
    if let Some(refusal) = plan.refusal(plan.service.external_policy) {
        refuse_at(out, plan, ChainName::ExternalServices, ip, refusal);
    }
}

fn refuse_at(out: &mut Output, plan: &Plan<'_>, chain: ChainName, ip: IpAddr, why: Refusal) {
    let rule = plan.rule(at(plan, why.words, ip), why.target);
    out.append(Table::Filter, chain, rule);
}

/// Arrives at `ip` and the Service's port.
pub(super) fn at(plan: &Plan<'_>, words: &str, ip: IpAddr) -> Vec<Match> {
    vec![
        Match::comment(format!("{} {words}", plan.text)),
        Match::Protocol(plan.service.protocol),
        Match::to_host(ip),
        Match::DestinationPort(plan.service.port.get()),
    ]
}
