//! A Service's own chains up to the choice of an endpoint: who is masqueraded, who may come
//! in, which policy applies.
//!
//! Invariant: picks no endpoint.

use super::Output;
use super::frontends::at;
use super::plan::Plan;
use crate::names::ChainName;
use crate::program::{Address, Chain, Match, Rule, Sense, Target};
use nfc_ir::{LocalDetector, Node, TrafficPolicy};

const MARK: Target = Target::Jump(ChainName::MarkMasq);

/// Writes the chains for outside addresses, and the head of the chain of the cluster IP.
pub(super) fn write(out: &mut Output, plan: &Plan<'_>, node: &Node) {
    if plan.has_external_chain() {
        out.insert(plan.external_chain(), chain(plan, external(plan, node)));
    }
    if plan.has_ranges_chain() {
        out.insert(plan.ranges_chain(), chain(plan, source_ranges(plan, node)));
    }
    if !plan.selection.cluster.is_empty() {
        let rules = masquerade_at(plan, node, TrafficPolicy::Cluster);
        out.insert(plan.cluster_chain(), chain(plan, rules));
    }
    if !plan.selection.local.is_empty() {
        let rules = masquerade_at(plan, node, TrafficPolicy::Local);
        out.insert(plan.local_chain(), chain(plan, rules));
    }
}

fn chain(plan: &Plan<'_>, rules: Vec<Rule>) -> Chain {
    Chain { owner: Some(plan.owner()), rules }
}

/// The rule that marks packets to the cluster IP which must come back through this node. It
/// heads the chain that the cluster IP uses.
fn masquerade_at(plan: &Plan<'_>, node: &Node, policy: TrafficPolicy) -> Vec<Rule> {
    let stranger = detect(&node.local_detector, Sense::IsNot);
    if policy != plan.service.internal_policy || (stranger.is_none() && !node.masquerade_all) {
        return Vec::new();
    }
    let mut matches = at(plan, "cluster IP", plan.service.cluster_ip);
    if !node.masquerade_all {
        matches.extend(stranger);
    }
    vec![plan.rule(matches, MARK)]
}

fn external(plan: &Plan<'_>, node: &Node) -> Vec<Rule> {
    let policy = plan.service.external_policy;
    let mut rules = match policy {
        TrafficPolicy::Cluster => {
            let comment = about(plan, "masquerade traffic for");
            vec![plan.rule(vec![comment], MARK)]
        }
        TrafficPolicy::Local => short_circuit(plan, node),
    };
    if plan.refusal(policy).is_none() {
        let onward = Target::Jump(plan.chain_of(policy));
        rules.push(plan.rule(Vec::new(), onward));
    }
    rules
}

/// Under a `Local` policy the node's own pods and processes use all endpoints, as if they
/// had asked the cluster IP: the policy is there to keep the address of strangers.
fn short_circuit(plan: &Plan<'_>, node: &Node) -> Vec<Rule> {
    let to_cluster = Target::Jump(plan.cluster_chain());
    let pod = detect(&node.local_detector, Sense::Is).map(|is_pod| {
        let matches = vec![about(plan, "pod traffic for"), is_pod];
        plan.rule(matches, to_cluster)
    });
    let own = [("masquerade LOCAL traffic for", MARK), ("route LOCAL traffic for", to_cluster)];
    let own = own.map(|(words, target)| {
        let matches = vec![about(plan, words), Match::SourceIsLocal];
        plan.rule(matches, target)
    });
    pod.into_iter().chain(own).collect()
}

/// The rules that admit. The last one does nothing but say where the rest is dropped.
fn source_ranges(plan: &Plan<'_>, node: &Node) -> Vec<Rule> {
    let service = plan.service;
    let ranges = service.source_ranges.iter().copied().map(Address::Block);
    // A node that has the load balancer address on a link of its own would talk to it with
    // that very address as source.
    let is_admitted = |ip| service.source_ranges.iter().any(|r| r.contains(&ip));
    let is_node_admitted = node.primary_address().is_some_and(is_admitted);
    let own = service.load_balancer_ips.iter().filter(|_| is_node_admitted);
    let sources = ranges.chain(own.copied().map(Address::Host));

    let enter = Target::Jump(plan.external_chain());
    let mut rules: Vec<_> = sources
        .map(|source| {
            let comment = Match::comment(format!("{} loadbalancer IP", plan.text));
            plan.rule(vec![comment, Match::Source(source, Sense::Is)], enter)
        })
        .collect();
    let rest =
        format!("other traffic to {} will be dropped by {}", plan.text, ChainName::ProxyFirewall);
    rules.push(Rule { target: None, ..plan.rule(vec![Match::comment(rest)], enter) });
    rules
}

fn about(plan: &Plan<'_>, words: &str) -> Match {
    Match::comment(format!("{words} {} external destinations", plan.text))
}

/// The match for packets of the node's own pods, or of everybody else.
fn detect(detector: &LocalDetector, sense: Sense) -> Option<Match> {
    match detector {
        LocalDetector::None => None,
        LocalDetector::SourceBlock(block) => Some(Match::Source(Address::Block(*block), sense)),
        LocalDetector::Bridge(bridge) => Some(Match::InInterface(bridge.clone(), sense)),
        LocalDetector::InterfacePrefix(prefix) => {
            Some(Match::InInterface(format!("{prefix}+"), sense))
        }
    }
}
