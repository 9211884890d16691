//! What is known of one Service before its rules are written: which endpoints it uses, and
//! which chains it therefore needs.
//!
//! Invariant: writes no rule.

use crate::names::{ChainName, Hash};
use crate::program::{Match, Owner, Rule, Target};
use nfc_ir::{Endpoint, Node, Selection, Service, ServiceName, TrafficPolicy, select};
use std::sync::Arc;

/// One Service, looked at once.
pub(super) struct Plan<'a> {
    /// The Service.
    pub(super) service: &'a Service,
    /// Its endpoints in use.
    pub(super) selection: Selection<'a>,
    /// Its name as comments spell it.
    pub(super) text: String,
    name: Arc<ServiceName>,
    hash: Hash,
}

/// Why a packet is turned away, and how.
#[derive(Clone, Copy)]
pub(super) struct Refusal {
    /// The end of the comment.
    pub(super) words: &'static str,
    /// REJECT or DROP.
    pub(super) target: Target,
}

const NO_ENDPOINTS: Refusal = Refusal { words: "has no endpoints", target: Target::Reject };

const NO_LOCAL_ENDPOINTS: Refusal =
    Refusal { words: "has no local endpoints", target: Target::Drop };

impl<'a> Plan<'a> {
    pub(super) fn new(service: &'a Service, node: &Node) -> Self {
        Self {
            service,
            selection: select(service, node),
            text: service.name.to_string(),
            name: Arc::new(service.name.clone()),
            hash: Hash::of_service(&service.name, service.protocol),
        }
    }

    /// A rule of this Service.
    pub(super) fn rule(&self, matches: Vec<Match>, target: Target) -> Rule {
        Rule { service: Some(Arc::clone(&self.name)), matches, target: Some(target) }
    }

    pub(super) fn owner(&self) -> Owner {
        Owner { service: Arc::clone(&self.name), protocol: self.service.protocol, endpoint: None }
    }

    pub(super) fn owner_of(&self, endpoint: &Endpoint) -> Owner {
        Owner { endpoint: Some(endpoint.address), ..self.owner() }
    }

    pub(super) fn cluster_chain(&self) -> ChainName {
        ChainName::Cluster(self.hash)
    }

    pub(super) fn local_chain(&self) -> ChainName {
        ChainName::Local(self.hash)
    }

    pub(super) fn external_chain(&self) -> ChainName {
        ChainName::External(self.hash)
    }

    pub(super) fn ranges_chain(&self) -> ChainName {
        ChainName::SourceRanges(self.hash)
    }

    pub(super) fn endpoint_chain(&self, endpoint: &Endpoint) -> ChainName {
        let Service { name, protocol, .. } = self.service;
        ChainName::Endpoint(Hash::of_endpoint(name, *protocol, endpoint.address))
    }

    /// The chain that `policy` spreads over.
    pub(super) fn chain_of(&self, policy: TrafficPolicy) -> ChainName {
        match policy {
            TrafficPolicy::Cluster => self.cluster_chain(),
            TrafficPolicy::Local => self.local_chain(),
        }
    }

    /// Why traffic under `policy` is refused, if it is.
    pub(super) fn refusal(&self, policy: TrafficPolicy) -> Option<Refusal> {
        if !self.selection.any {
            return Some(NO_ENDPOINTS);
        }
        let no_local = policy == TrafficPolicy::Local && self.selection.local.is_empty();
        no_local.then_some(NO_LOCAL_ENDPOINTS)
    }

    pub(super) fn has_external_chain(&self) -> bool {
        self.selection.any && self.service.is_external()
    }

    pub(super) fn has_ranges_chain(&self) -> bool {
        self.selection.any
            && !self.service.load_balancer_ips.is_empty()
            && !self.service.source_ranges.is_empty()
    }
}
