//! The choice of an endpoint, and the rewriting of the destination.
//!
//! Invariant: knows endpoints in use and their weights, not why they are in use.

use super::Output;
use super::plan::Plan;
use crate::names::ChainName;
use crate::program::{Chain, Match, Rule, Share, Target};
use nfc_ir::{Endpoint, Scheduler};

/// Fills the chains that spread, and writes a chain for each endpoint in use. Without
/// `has_comments`, as kube-proxy does in large clusters, rules say nothing for people.
pub(super) fn write(out: &mut Output, plan: &Plan<'_>, has_comments: bool) {
    let spreads = [
        (plan.cluster_chain(), &plan.selection.cluster),
        (plan.local_chain(), &plan.selection.local),
    ];
    for (name, endpoints) in spreads {
        let writer = Writer { plan, has_comments };
        let named: Vec<_> =
            endpoints.iter().map(|endpoint| (*endpoint, plan.endpoint_chain(endpoint))).collect();
        if let Some(chain) = out.0.tables.nat.chains.get_mut(&name) {
            writer.spread(&mut chain.rules, &named);
        }
        for (endpoint, name) in named {
            out.insert(name, writer.endpoint(endpoint, name));
        }
    }
}

struct Writer<'a> {
    plan: &'a Plan<'a>,
    has_comments: bool,
}

impl Writer<'_> {
    /// First the clients that have an endpoint already, then everybody, at random or in turn.
    fn spread(&self, rules: &mut Vec<Rule>, endpoints: &[(&Endpoint, ChainName)]) {
        if let Some(affinity) = self.plan.service.affinity {
            let seconds = affinity.timeout_seconds.get();
            rules.extend(endpoints.iter().map(|(endpoint, chain)| {
                self.pick(endpoint, *chain, Some(Match::SeenWithin(*chain, seconds)))
            }));
        }
        let weight = |e: &Endpoint| u32::from(e.weight.get());
        let is_even = weigh_the_same(endpoints.iter().map(|(e, _)| *e));
        let mut remaining: u32 = endpoints.iter().map(|(e, _)| weight(e)).sum();
        for (endpoint, chain) in endpoints {
            let weight = weight(endpoint);
            let share = Share { weight, remaining };
            let is_last = weight == remaining;
            let when = match self.plan.service.scheduler {
                // Of the packets that get here, none was taken by a rule before: where all
                // weigh the same, one in each round of those that are left is this one's.
                Scheduler::RoundRobin if is_even => Match::Turn(remaining / weight),
                _ => Match::Probability(share),
            };
            rules.push(self.pick(endpoint, *chain, (!is_last).then_some(when)));
            remaining -= weight;
        }
    }

    fn pick(&self, endpoint: &Endpoint, chain: ChainName, when: Option<Match>) -> Rule {
        let comment = self
            .has_comments
            .then(|| Match::comment(format!("{} -> {}", self.plan.text, endpoint.address)));
        let matches = comment.into_iter().chain(when).collect();
        self.plan.rule(matches, Target::Jump(chain))
    }

    /// An endpoint that talks to itself is masqueraded: it would answer itself directly.
    fn endpoint(&self, endpoint: &Endpoint, name: ChainName) -> Chain {
        let comment = || self.has_comments.then(|| Match::comment(self.plan.text.clone()));
        let hairpin = Match::from_host(endpoint.address.ip());
        let hairpin = comment().into_iter().chain([hairpin]).collect();
        let remember = self.plan.service.affinity.map(|_| Match::Remember(name));
        let protocol = Match::Protocol(self.plan.service.protocol);
        let rewrite = comment().into_iter().chain(remember).chain([protocol]);
        let rules = vec![
            self.plan.rule(hairpin, Target::Jump(ChainName::MarkMasq)),
            self.plan.rule(rewrite.collect(), Target::Dnat(endpoint.address)),
        ];
        Chain { owner: Some(self.plan.owner_of(endpoint)), rules }
    }
}

/// Whether no endpoint is to get more than another.
pub(super) fn weigh_the_same<'a>(mut endpoints: impl Iterator<Item = &'a Endpoint>) -> bool {
    let first = endpoints.next();
    endpoints.all(|e| Some(e.weight) == first.map(|f| f.weight))
}
