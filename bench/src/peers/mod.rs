//! The rulesets of kube-proxy's nftables mode, made from our own Ir, so that one interleaved
//! run can compare its layouts with ours.
//!
//! Nothing here is kube-proxy: it is what kube-proxy would have the kernel hold and what it
//! would send, written anew from public facts, for the kernel's share of the cost. Names,
//! hooks, priorities, maps and the order of rules are kube-proxy's, so that a reader of
//! `nft list table ip kube-proxy` knows them again.
//!
//! | shape | release | public facts it follows |
//! |---|---|---|
//! | [`Shape::ChainPerEndpoint`] | 1.33 | `pkg/proxy/nftables/proxier.go`, 1.31 to 1.33, and the numbers of operations that its test demands (1.34); KEP-3866 |
//! | [`Shape::MapPerService`] | 1.36 | kubernetes/kubernetes pull requests 135800 (marks inline) and 136499 (hairpin set), and a listing of 1.36.2 that a user published |
//! | [`Shape::SingleEndpointRule`] | 1.37 | the same, and pull request 140723 |
//!
//! One thing is inferred: that with `masqueradeAll` the rule of 1.36 for all cluster IPs has
//! no match on the source. No listing of it was found.
//!
//! **What is sent.** [`table`] is a first full sync: a command for each chain, element and
//! rule, one Service after the other. Where kube-proxy flushes the chains it knows, the
//! script replaces the whole table. [`endpoint_added`], [`endpoints_changed`],
//! [`service_added`] and [`service_removed`] are partial syncs (1.32 and later): the chains of the one Service
//! that changed are flushed and filled again, the endpoint chains of 1.33 all of them, and
//! only the elements that differ are sent; see [`Change`] for what follows a second later.
//!
//! **What is left out of the rules.** The comments of tables, sets, chains and fixed rules: a
//! constant number. Those of elements are there. Interfaces are matched by name
//! (`iifname`), as newer releases do; older ones match by index (`iif`).
//!
//! **What of kube-proxy's own cost is not in here.** Reading the table back (chains at each
//! sync, elements at the first), walking all Services in Go, watching the API, waiting
//! between syncs, connection tracking entries deleted for UDP, health check servers, and
//! metrics. A script that is timed is timed with the `nft` tool that reads it, as kube-proxy
//! before 1.37 uses it; 1.37 can list without the tool. So figures from here are a floor
//! for kube-proxy's, not an estimate of them.
//!
//! **What is covered.** Cluster IPs, node ports, external and load balancer addresses under
//! the policies `Cluster`, any number of endpoints, topology and terminating endpoints, both
//! families, all protocols, all node settings. Session affinity, `Local` policies, source
//! ranges, weights and other schedulers are refused with an
//! [`Unsupported`].
//!
//! **Where a shape does not mean what [`eval`](fn@nfc_ir::eval) says.** The hairpin set of
//! 1.36 holds endpoints of this node only. A packet that comes from the address of an
//! endpoint on another node and is sent back there is not masqueraded; `eval`, and 1.33,
//! masquerade it. No pod can send one, because its address is not on this node.
//!
//! Invariant: pure; text in kube-proxy's words and nothing of how it is loaded or timed.

mod change;
mod fixed;
mod names;
mod script;
mod service;
#[cfg(test)]
mod tests;

pub use change::Change;

use change::{Event, told};
use nfc_backend::{Process, Step, Unsupported};
use nfc_ir::{Ir, ServiceName};
use script::Script;
use service::Content;
use std::collections::BTreeSet;
use std::fmt;

/// How a release of kube-proxy lays Services out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shape {
    /// A chain for each Service, which picks the chain of an endpoint from an anonymous
    /// verdict map; jumps to a chain that marks for masquerading.
    ChainPerEndpoint,
    /// A chain for each Service, which picks an endpoint from an anonymous data map; one
    /// rule that marks for all cluster IPs, and a set of hairpin connections.
    MapPerService,
    /// The same, but without a map where there is only one endpoint: adding a rule makes the
    /// kernel walk every map of the table.
    SingleEndpointRule,
}

impl Shape {
    /// All shapes, the oldest first.
    pub const ALL: [Self; 3] =
        [Self::ChainPerEndpoint, Self::MapPerService, Self::SingleEndpointRule];

    /// The name in records and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ChainPerEndpoint => "chain-per-endpoint",
            Self::MapPerService => "map-per-service",
            Self::SingleEndpointRule => "single-endpoint-rule",
        }
    }

    /// The release of kube-proxy that it stands for.
    #[must_use]
    pub fn release(self) -> &'static str {
        match self {
            Self::ChainPerEndpoint => "1.33",
            Self::MapPerService => "1.36",
            Self::SingleEndpointRule => "1.37",
        }
    }

    /// Whether masquerading is told by a set of connections instead of by endpoint chains.
    fn has_hairpin_set(self) -> bool {
        self != Self::ChainPerEndpoint
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why there is no script.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// A Service asks for something that the shapes here do not say.
    #[error("cannot say everything: {0}")]
    Unsupported(Unsupported),
    /// The node or the family changed, for which kube-proxy makes a full sync.
    #[error("the node or the family changed: that is a full sync, not a change")]
    FullSync,
    /// Something else changed as well, so the script would leave it out.
    #[error("other Services than {service} changed as well")]
    OthersChanged {
        /// The Service that was to be the only one.
        service: ServiceName,
    },
    /// The change is another one than was asked for.
    #[error("{service} is not one that {words}, and nothing more")]
    Otherwise {
        /// The Service.
        service: ServiceName,
        /// What was asked for.
        words: &'static str,
    },
}

impl From<Unsupported> for PeerError {
    fn from(gap: Unsupported) -> Self {
        Self::Unsupported(gap)
    }
}

/// The script that gives the kernel all of `ir` in this shape, in place of whatever the
/// table held.
///
/// # Errors
///
/// [`PeerError::Unsupported`].
pub fn table(shape: Shape, ir: &Ir) -> Result<String, PeerError> {
    let mut script = Script::new(ir.family());
    fixed::write(&mut script, shape, ir.node(), ir.family());
    let mut present = BTreeSet::new();
    for service in ir.services() {
        let content = Content::of(shape, ir, service)?;
        content.chains.iter().for_each(|chain| script.chain(chain));
        for element in content.elements {
            // Services share cluster IPs and endpoints; kube-proxy says each of them once.
            let is_shared = element.set.is_shared();
            if !is_shared || present.insert((element.set, element.key.clone())) {
                script.element(&element);
            }
        }
        content.rules.iter().for_each(|rule| script.rule(&rule.chain, &rule.text));
    }
    Ok(script.into_text())
}

/// What is sent when, from `old` to `new`, `service` gets an endpoint and nothing else
/// happens. All ports of the Kubernetes Service count as one, whichever is named.
///
/// # Errors
///
/// [`PeerError`], also when that is not what happened.
pub fn endpoint_added(
    shape: Shape,
    old: &Ir,
    new: &Ir,
    service: &ServiceName,
) -> Result<Change, PeerError> {
    told(shape, (old, new), service, Event::EndpointAdded)
}

/// What is sent when `service` has other endpoints in `new` than in `old`: some went, or
/// others took their place.
///
/// # Errors
///
/// As [`endpoint_added`].
pub fn endpoints_changed(
    shape: Shape,
    old: &Ir,
    new: &Ir,
    service: &ServiceName,
) -> Result<Change, PeerError> {
    told(shape, (old, new), service, Event::EndpointsChanged)
}

/// What is sent when `new` has a Service more than `old`, all its ports at once.
///
/// # Errors
///
/// As [`endpoint_added`].
pub fn service_added(
    shape: Shape,
    old: &Ir,
    new: &Ir,
    service: &ServiceName,
) -> Result<Change, PeerError> {
    told(shape, (old, new), service, Event::ServiceAdded)
}

/// What is sent when `new` has a Service less than `old`, all its ports at once.
///
/// # Errors
///
/// As [`endpoint_added`].
pub fn service_removed(
    shape: Shape,
    old: &Ir,
    new: &Ir,
    service: &ServiceName,
) -> Result<Change, PeerError> {
    told(shape, (old, new), service, Event::ServiceRemoved)
}

/// The step that loads a script with the `nft` tool, as kube-proxy loads it.
#[must_use]
pub fn step(script: String) -> Step {
    let args = ["-f", "-"].map(str::to_owned).into();
    Step::Process(Process { program: "nft", args, stdin: script })
}
