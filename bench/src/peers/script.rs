//! Commands for `nft -f`, one a line, as kube-proxy writes them.
//!
//! Invariant: the only place that spells a command; what is in one is decided elsewhere.

use nfc_ir::Family;
use std::fmt::Display;

/// The table's name, kube-proxy's own.
const TABLE: &str = "kube-proxy";

/// A set or map whose elements come from Services. The order is that in which kube-proxy
/// deletes what is left over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Set {
    /// Every cluster IP.
    ClusterIps,
    /// Address, protocol and port to the chain of a Service.
    ServiceIps,
    /// The same, of Services without endpoints.
    NoEndpointServices,
    /// Protocol and node port, of Services without endpoints.
    NoEndpointNodeports,
    /// Protocol and node port to the chain of a Service.
    ServiceNodeports,
    /// Endpoints of this node, as source and destination of one connection.
    HairpinConnections,
}

impl Set {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ClusterIps => "cluster-ips",
            Self::ServiceIps => "service-ips",
            Self::NoEndpointServices => "no-endpoint-services",
            Self::NoEndpointNodeports => "no-endpoint-nodeports",
            Self::ServiceNodeports => "service-nodeports",
            Self::HairpinConnections => "hairpin-connections",
        }
    }

    /// Whether several Services may want the same element.
    pub(super) fn is_shared(self) -> bool {
        matches!(self, Self::ClusterIps | Self::HairpinConnections)
    }
}

/// An element of a set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) set: Set,
    pub(super) key: String,
    /// The verdict, in a map.
    pub(super) verdict: Option<String>,
    pub(super) comment: Option<String>,
}

/// A rule at the end of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) chain: String,
    pub(super) text: String,
}

/// Commands under way.
#[derive(Debug)]
pub(super) struct Script {
    family: &'static str,
    text: String,
}

impl Script {
    pub(super) fn new(family: Family) -> Self {
        let family = match family {
            Family::Ipv4 => "ip",
            Family::Ipv6 => "ip6",
        };
        Self { family, text: String::new() }
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    /// An empty table, whatever there was.
    pub(super) fn new_table(&mut self) {
        // A table that is not there cannot be deleted, so it is added first.
        for verb in ["add", "delete", "add"] {
            self.command(&format!("{verb} table"), "");
        }
    }

    /// An empty chain.
    pub(super) fn chain(&mut self, name: impl Display) {
        self.command("add chain", format_args!(" {name}"));
        self.flush(name);
    }

    /// An empty chain that a hook calls.
    pub(super) fn base_chain(&mut self, name: &str, hook: &str) {
        self.command("add chain", format_args!(" {name} {{ type {hook} ; }}"));
        self.flush(name);
    }

    pub(super) fn flush(&mut self, chain: impl Display) {
        self.command("flush chain", format_args!(" {chain}"));
    }

    pub(super) fn delete_chain(&mut self, name: impl Display) {
        self.command("delete chain", format_args!(" {name}"));
    }

    pub(super) fn rule(&mut self, chain: &str, text: impl Display) {
        self.command("add rule", format_args!(" {chain} {text}"));
    }

    pub(super) fn set(&mut self, name: &str, key: &str) {
        self.command("add set", format_args!(" {name} {{ type {key} ; }}"));
    }

    pub(super) fn verdict_map(&mut self, name: &str, key: &str) {
        self.command("add map", format_args!(" {name} {{ type {key} : verdict ; }}"));
    }

    /// An element of a set that no Service changes.
    pub(super) fn fixed_element(&mut self, set: &str, key: impl Display) {
        self.command("add element", format_args!(" {set} {{ {key} }}"));
    }

    pub(super) fn element(&mut self, element: &Element) {
        let Element { set, key, verdict, comment } = element;
        let comment = comment.as_ref().map_or(String::new(), |c| format!(" comment \"{c}\""));
        let verdict = verdict.as_ref().map_or(String::new(), |v| format!(" : {v}"));
        let set = set.name();
        self.command("add element", format_args!(" {set} {{ {key}{comment}{verdict} }}"));
    }

    pub(super) fn delete_element(&mut self, set: Set, key: &str) {
        self.command("delete element", format_args!(" {} {{ {key} }}", set.name()));
    }

    fn command(&mut self, verb: &str, rest: impl Display) {
        self.text.push_str(&format!("{verb} {} {TABLE}{rest}\n", self.family));
    }
}
