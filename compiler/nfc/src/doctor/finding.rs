//! What is wrong, in the order in which one thing causes another.
//!
//! Invariant: values and their names; who finds them is of no concern here.

use nfc_ir::ServiceName;
use std::collections::BTreeSet;
use std::fmt;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind of fault it is.
    pub kind: Kind,
    /// One sentence.
    pub says: String,
    /// The Services that suffer from it; empty when all do.
    pub services: BTreeSet<ServiceName>,
    /// What was read, and where.
    pub evidence: Vec<Evidence>,
    /// Commands that mend it, or that lead on.
    pub remedy: Vec<String>,
    /// Whether it was mended meanwhile.
    pub fixed: bool,
}

/// One thing that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Where: a sysctl, a chain, the manifests.
    pub place: String,
    /// What stands there.
    pub read: String,
}

/// How bad a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Packets do not get where they should.
    Error,
    /// Some packets may not, or something looks unintended.
    Warning,
}

/// The kinds of faults. One that comes first explains those after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Two proxies have rules for Services on this node.
    TwoProxies,
    /// The rules are not there at all.
    RulesMissing,
    /// The rules are there but for those that masquerade.
    MasqueradeMissing,
    /// The rules differ from what the manifests compile to.
    RulesDrifted,
    /// There are rules for Services of a family that has none.
    RulesLeftOver,
    /// The node does not forward packets.
    ForwardingOff,
    /// A rule of somebody else drops packets on their way to an endpoint.
    ForeignDrop,
    /// A rule of somebody else keeps packets from being tracked, and so from being rewritten.
    ForeignUntracked,
    /// Somebody else's chain drops whatever it does not accept.
    ForeignPolicy,
    /// The kernel throws packets away because of where they come in.
    ReversePath,
    /// The table of connections is full.
    ConnectionsFull,
    /// A Service has no endpoint.
    NoEndpoints,
    /// A `Local` policy, and no endpoint on this node.
    NoLocalEndpoints,
    /// Nothing listens where an endpoint is said to be.
    NothingListens,
    /// An endpoint does not answer at all.
    Unreachable,
    /// Connections to an endpoint are not answered.
    Unanswered,
    /// Connections to a Service go past its rules.
    RulesBypassed,
    /// Connections are remembered that lead to endpoints that are gone.
    StaleConnections,
    /// No pod looks like a pod, by the settings.
    PodsNotRecognised,
    /// Nothing tells pods from strangers.
    PodsUnknown,
    /// Node ports do not answer at loopback addresses.
    LoopbackClosed,
    /// Packets between pods of one bridge do not meet the rules.
    BridgeUnfiltered,
}

impl Kind {
    /// All kinds, the causes first.
    pub const ALL: [Self; 22] = [
        Self::TwoProxies,
        Self::RulesMissing,
        Self::MasqueradeMissing,
        Self::RulesDrifted,
        Self::RulesLeftOver,
        Self::ForwardingOff,
        Self::ForeignDrop,
        Self::ForeignUntracked,
        Self::ForeignPolicy,
        Self::ReversePath,
        Self::ConnectionsFull,
        Self::NoEndpoints,
        Self::NoLocalEndpoints,
        Self::NothingListens,
        Self::Unreachable,
        Self::Unanswered,
        Self::RulesBypassed,
        Self::StaleConnections,
        Self::PodsNotRecognised,
        Self::PodsUnknown,
        Self::LoopbackClosed,
        Self::BridgeUnfiltered,
    ];

    /// The name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TwoProxies => "two-proxies",
            Self::RulesMissing => "rules-missing",
            Self::MasqueradeMissing => "masquerade-missing",
            Self::RulesDrifted => "rules-drifted",
            Self::RulesLeftOver => "rules-left-over",
            Self::ForwardingOff => "forwarding-off",
            Self::ForeignDrop => "foreign-drop",
            Self::ForeignUntracked => "foreign-untracked",
            Self::ForeignPolicy => "foreign-policy",
            Self::ReversePath => "reverse-path",
            Self::ConnectionsFull => "connections-full",
            Self::NoEndpoints => "no-endpoints",
            Self::NoLocalEndpoints => "no-local-endpoints",
            Self::NothingListens => "nothing-listens",
            Self::Unreachable => "unreachable",
            Self::Unanswered => "unanswered",
            Self::RulesBypassed => "rules-bypassed",
            Self::StaleConnections => "stale-connections",
            Self::PodsNotRecognised => "pods-not-recognised",
            Self::PodsUnknown => "pods-unknown",
            Self::LoopbackClosed => "loopback-closed",
            Self::BridgeUnfiltered => "bridge-unfiltered",
        }
    }

    /// How bad it is.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            Self::RulesLeftOver
            | Self::ForeignPolicy
            | Self::NoLocalEndpoints
            | Self::PodsNotRecognised
            | Self::PodsUnknown
            | Self::LoopbackClosed
            | Self::BridgeUnfiltered => Severity::Warning,
            _ => Severity::Error,
        }
    }

    /// What it means for packets, for the table in the docs.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::TwoProxies => "Two proxies rewrite the same packets; which one wins is chance.",
            Self::RulesMissing => "Nothing on the node knows the Services.",
            Self::MasqueradeMissing => {
                "Answers go straight to the client, which takes them for strangers'."
            }
            Self::RulesDrifted => "The rules are not those of the manifests.",
            Self::RulesLeftOver => {
                "Rules answer for Services of a family in which there are none any more."
            }
            Self::ForwardingOff => "Packets end at the node, whatever the rules say.",
            Self::ForeignDrop => "After the rewriting, another table throws the packet away.",
            Self::ForeignUntracked => {
                "Another table keeps packets from being tracked, and so from being rewritten."
            }
            Self::ForeignPolicy => "Another table drops what it does not accept by name.",
            Self::ReversePath => "The kernel drops packets that come in where no answer would go.",
            Self::ConnectionsFull => "New connections are dropped before any rule.",
            Self::NoEndpoints => "Packets are refused: no endpoint is ready.",
            Self::NoLocalEndpoints => {
                "A Local policy has nobody on this node; other nodes may serve all the same."
            }
            Self::NothingListens => "The endpoint's port is closed: a wrong targetPort, mostly.",
            Self::Unreachable => "No answer from the endpoint, not even a refusal.",
            Self::Unanswered => {
                "Packets were sent to the endpoint, and no answer came back to this node."
            }
            Self::RulesBypassed => {
                "Connections that began before the rules, or that a flowtable carries, go past them."
            }
            Self::StaleConnections => "Old connections go on to an endpoint that is gone.",
            Self::PodsNotRecognised => "Pods are taken for strangers and masqueraded.",
            Self::PodsUnknown => "Strangers are not masqueraded at cluster IPs.",
            Self::LoopbackClosed => "127.0.0.1 and a node port lead nowhere.",
            Self::BridgeUnfiltered => "A pod does not understand the answer of its neighbour.",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

impl Finding {
    /// A finding that concerns all Services.
    #[must_use]
    pub fn new(kind: Kind, says: impl Into<String>) -> Self {
        Self {
            kind,
            says: says.into(),
            services: BTreeSet::new(),
            evidence: Vec::new(),
            remedy: Vec::new(),
            fixed: false,
        }
    }

    /// The same, with one more thing that was read.
    #[must_use]
    pub fn seen(mut self, place: impl Into<String>, read: impl Into<String>) -> Self {
        self.evidence.push(Evidence { place: place.into(), read: read.into() });
        self
    }

    /// The same, with one more command.
    #[must_use]
    pub fn remedy(mut self, command: impl Into<String>) -> Self {
        self.remedy.push(command.into());
        self
    }

    /// The same, about these Services.
    #[must_use]
    pub fn about(mut self, services: impl IntoIterator<Item = ServiceName>) -> Self {
        self.services.extend(services);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_listed_once_in_their_order_and_have_names_of_their_own() {
        assert!(Kind::ALL.is_sorted());
        let names: BTreeSet<_> = Kind::ALL.map(Kind::name).into();
        assert_eq!(names.len(), Kind::ALL.len());
    }
}
